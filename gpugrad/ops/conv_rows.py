"""Convolution of images whose channels come last, on CUDA: products of matrices by windows.

Where the kernel is 1 x 1 the pixels are these rows; else im2row lays out a part of them at a time,
at most be.column_bytes.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad.backend.kernels import windows
from gpugrad.layouts import as_images, as_pixels, is_last
from gpugrad.ops.bias import add_bias
from gpugrad.ops.conv_ways import chunks, is_plain


def forward(be: Any, x: Any, w: Any, bias: Any, case: Any) -> Any:
    """convolution's result; bias may be None."""
    x, kernels = be._dense(as_pixels(x)), by_group_of(be, w, case)
    n, c_out, oh, ow = case.y_shape
    y = be.empty((n, oh, ow, c_out), x.dtype)
    for part in parts(be, case):
        be.matmul(rows_of(be, x[part], case), kernels.swapaxes(-1, -2), grouped(y[part], case))
    return as_images(y if bias is None else add_bias(be, y, bias, 3))


def grad_input(be: Any, g: Any, w: Any, case: Any) -> Any:
    """The gradient for x."""
    g, kernels = be._dense(as_pixels(g)), by_group_of(be, w, case)
    n, c, h, width = case.x_shape
    gx, plain = be.empty((n, h, width, c), g.dtype), is_plain(case.w_shape, case.stride,
                                                              case.padding)
    for part in parts(be, case):
        slopes, result = grouped(g[part], case), gx[part]
        if plain:
            be.matmul(slopes, kernels, grouped(result, case))
        else:
            rows = be._dense(be.matmul(slopes, kernels))
            be.kernels.each("im2col", "row2im", g.dtype, result.size, (rows, result), win(case),
                            np.int32(c), np.int32(case.w_shape[1]))
    return as_images(gx)


def grad_weight(be: Any, g: Any, x: Any, case: Any) -> Any:
    """The gradient for w, summed in float32 or better; its channels come last if the images' do."""
    total: Any = None
    sums = be.xp.float32 if g.dtype.itemsize == 2 else None
    for part in parts(be, case, copied=not (is_last(g) and is_last(x))):
        slopes = grouped(be._dense(as_pixels(g[part])), case).swapaxes(-1, -2)
        rows = rows_of(be, be._dense(as_pixels(x[part])), case)
        product = be.matmul(slopes, rows, dtype=sums)
        if total is None:
            total = product
        else:
            total += product
    c_out, c, kh, kw = case.w_shape
    out = as_images(total.astype(g.dtype, copy=False).reshape(c_out, kh, kw, c))
    return out if case.last else be._dense(out)


def parts(be: Any, case: Any, copied: bool = False) -> Any:
    """Slices of the batch, with no more rows than there is memory for; copied: nor copies of x and
    the gradient."""
    (n, _, oh, ow), (_, c, kh, kw) = case.y_shape, case.w_shape
    plain = is_plain(case.w_shape, case.stride, case.padding)
    size = 0 if plain else oh * ow * case.groups * c * kh * kw
    if copied:
        size += math.prod(case.x_shape[1:]) + math.prod(case.y_shape[1:])
    return chunks(be, n, size * case.dtype.itemsize)


def grouped(a: Any, case: Any) -> Any:
    """Pixels (n, h, w, c) as rows: (n * h * w, c), or (groups, n * h * w, c / groups)."""
    c, groups = a.shape[-1], case.groups
    return a.reshape(-1, c) if groups == 1 else \
        a.reshape(-1, groups, c // groups).swapaxes(0, 1)


def by_group_of(be: Any, w: Any, case: Any) -> Any:
    """w as (c_out, kh * kw * c), or (groups, c_out / groups, kh * kw * c)."""
    w = be._dense(as_pixels(w))
    return w.reshape(len(w), -1) if case.groups == 1 else \
        w.reshape(case.groups, len(w) // case.groups, -1)


def rows_of(be: Any, x: Any, case: Any) -> Any:
    """Pixels (n, h, w, c) as (n * oh * ow, kh * kw * c) windows, or that of each group."""
    if is_plain(case.w_shape, case.stride, case.padding):
        return grouped(x, case)
    (_, _, oh, ow), (_, c, kh, kw), groups = case.y_shape, case.w_shape, case.groups
    rows = be.empty((groups, len(x) * oh * ow, kh * kw * c), x.dtype)
    be.kernels.each("im2col", "im2row", x.dtype, len(x) * oh * ow * c * groups, (x, rows),
                    win(case), np.int32(c * groups), np.int32(c))
    return rows[0] if groups == 1 else rows


def win(case: Any) -> Any:
    return windows(case.x_shape[2:], case.y_shape[2:], case.w_shape[2:], case.stride, case.padding,
                   case.dilation)
