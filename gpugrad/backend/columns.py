"""Windows of images as columns of a matrix, and back: the copies around a convolution's GEMM."""
from __future__ import annotations

import functools
from typing import Any

import numpy as np

Pair = tuple[int, ...]

# Fewer elements than this are copied in one go: two shorter copies would cost more in calls.
_TWO_STEPS = 1 << 14


def out_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How many windows fit along one dimension."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


@functools.lru_cache(256)
def out_hw(shape: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """How many windows fit in an image of this shape: rows and columns."""
    return (out_size(shape[-2], kernel[0], stride[0], padding[0], dilation[0]),
            out_size(shape[-1], kernel[1], stride[1], padding[1], dilation[1]))


def strided(xp: Any, x: Any, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    """A view of ``x`` with other shape and strides (in bytes), starting at its first element."""
    if xp is np and x.flags.c_contiguous:
        return np.ndarray(shape, x.dtype, x, 0, strides)      # as_strided is 3 us slower
    return xp.lib.stride_tricks.as_strided(x, shape, strides)


def pad(xp: Any, x: Any, padding: Pair, value: float = 0) -> Any:
    """``x`` (n, c, h, w) with a border of ``value``; ``x`` itself where there is none to add."""
    ph, pw = padding
    if not (ph or pw):
        return x
    n, c, h, w = x.shape
    shape = (n, c, h + 2 * ph, w + 2 * pw)
    wide = xp.full(shape, value, x.dtype) if value else xp.zeros(shape, x.dtype)
    wide[:, :, ph:ph + h, pw:pw + w] = x
    return wide


def windows(xp: Any, x: Any, kernel: Pair, stride: Pair, dilation: Pair) -> Any:
    """The view (n, c, kh, kw, oh, ow) of ``x``: every window's element (i, j)."""
    (sh, sw), (dh, dw) = stride, dilation
    a, b, p, q = x.strides
    shape = (*x.shape[:2], *kernel, *out_hw(x.shape, kernel, stride, (0, 0), dilation))
    return strided(xp, x, shape, (a, b, p * dh, q * dw, p * sh, q * sw))


def row_columns(xp: Any, x: Any, kw: int, stride: int, padding: Pair, dilation: int,
                out: Any) -> Any:
    """im2col along the rows alone: fills ``out``, (n, c, kw, h + 2 ph, ow), from (n, c, h, w)."""
    (ph, pw), h = padding, x.shape[2]
    if ph:
        out[:, :, :, :ph] = 0
        out[:, :, :, ph + h:] = 0
    inner = out[:, :, :, ph:ph + h]
    if not pw:
        a, b, p, q = x.strides
        inner[...] = strided(xp, x, inner.shape, (a, b, q * dilation, p, q * stride))
        return out
    for j in range(kw):
        target, source = span(j * dilation - pw, x.shape[3], stride, out.shape[4])
        part = inner[:, :, j]
        part[..., :target.start] = 0
        part[..., target.stop:] = 0
        part[..., target] = x[..., source]
    return out


def column_windows(xp: Any, rows: Any, kh: int, dilation: int, oh: int) -> Any:
    """The view (n, kh, c * kw, oh * ow) of row_columns' result ``rows``, for row stride 1.

    One kernel row further down is one run of whole rows further on, so it needs no copy.
    """
    n, c, kw, _, ow = rows.shape
    a, _, j, p, q = rows.strides
    return strided(xp, rows, (n, kh, c * kw, oh * ow), (a, p * dilation, j, q))


def im2col(xp: Any, x: Any, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair,
           out: Any = None) -> Any:
    """(n, c, h, w) to the columns (n, c * kh * kw, oh * ow), padded with zeros."""
    n, c, h, _ = x.shape
    kh, kw = kernel
    oh, ow = out_hw(x.shape, kernel, stride, padding, dilation)
    if out is None:
        out = xp.empty((n, c * kh * kw, oh * ow), x.dtype)
    if xp is np and stride[0] == 1 < kh and n * c * kh * kw * oh * ow > _TWO_STEPS:
        # NumPy copies short rows slowly: cut them once for all kernel rows, then copy long runs.
        rows = np.empty((n, c, kw, h + 2 * padding[0], ow), x.dtype)
        row_columns(np, x, kw, stride[1], padding, dilation[1], rows)
        view = column_windows(np, rows, kh, dilation[0], oh)
        view = view.reshape(n, kh, c, kw, oh * ow).swapaxes(1, 2)
        out.reshape(n, c, kh, kw, oh * ow)[...] = view
    else:
        x = pad(xp, x, padding)
        out.reshape(n, c, kh, kw, oh, ow)[...] = windows(xp, x, kernel, stride, dilation)
    return out


def span(offset: int, size: int, stride: int, count: int) -> tuple[slice, slice]:
    """Which of ``count`` windows have their element at ``offset`` inside 0..size, and where."""
    first = 0 if offset >= 0 else -(offset // stride)
    last = max(first, min(count, (size - 1 - offset) // stride + 1))
    start = offset + first * stride
    return slice(first, last), slice(start, start + (last - first) * stride, stride)


def col2im(xp: Any, cols: Any, shape: Pair, kernel: Pair, stride: Pair, padding: Pair,
           dilation: Pair, out: Any = None) -> Any:
    """im2col's transpose: adds each column back to where it was read, giving ``shape``.

    ``out`` is overwritten, not added to.
    """
    n, c, h, w = shape
    kh, kw = kernel
    oh, ow = out_hw(shape, kernel, stride, padding, dilation)
    cols = cols.reshape(n, c, kh, kw, oh, ow)
    if out is None:
        out = xp.zeros(tuple(shape), cols.dtype)
    else:
        out[...] = 0
    # First along the rows, for all kernel rows at once; then whole rows at their place.
    one_row = (kh, stride[0], padding[0]) == (1, 1, 0)
    rows = out if one_row else xp.zeros((n, c, kh, oh, w), cols.dtype)
    wide = rows.reshape(n, c, kh, oh, w)
    for j in range(kw):
        source, target = span(j * dilation[1] - padding[1], w, stride[1], ow)
        part = wide[..., target]
        part += cols[:, :, :, j, :, source]
    if not one_row:
        for i in range(kh):
            source, target = span(i * dilation[0] - padding[0], h, stride[0], oh)
            part = out[:, :, target]
            part += wide[:, :, i, source]
    return out
