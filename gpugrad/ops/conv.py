"""Convolution of images: one bilinear family of three ops, each rule a call of the other two.

In every op x is (n, c, h, w), w is (c_out, c / groups, kh, kw), g and the result of convolution are
(n, c_out, oh, ow); stride, padding and dilation are pairs (rows, columns).

Depthwise convolution has kernels of its own on CUDA (depthwise.py). All else is a GEMM, in one of
three ways. By columns: im2col lays out every window, kh * kw copies of the image, and each image is
a product of its own; it takes any stride, and is what CUDA does best. By columns, merged: the
columns of many small images side by side, in one product. By rows, for stride 1: the windows are
cut along the rows only, kw copies, and kernel rows are found at whole-row offsets. That moves less
memory, so on the CPU it is the fastest, save forward where few channels become many.
"""
from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpugrad.autograd.op import op
from gpugrad.backend import columns, compiled
from gpugrad.backend.compiled import FLOAT
from gpugrad.dtypes import HALF
from gpugrad.ops import depthwise
from gpugrad.ops.bias import add_bias
from gpugrad.ops.reduction import summed

ONE = (1, 1)
MANY = 1 << 18
ZERO = (0, 0)


@op("ConvolutionBackward0")
class convolution:
    """Cross-correlation of images with kernels, plus a bias per output channel."""
    def forward(be, x, w, bias=None, *, stride, padding, dilation, groups):
        if x.dtype in HALF:
            out = forward(be, *in_float32(be, x, w, bias), stride, padding, dilation, groups)
            return out.astype(x.dtype)
        return forward(be, x, w, bias, stride, padding, dilation, groups)
    def cpu(be, x, w, bias=None, *, stride, padding, dilation, groups):
        c = compiled.for_floats(x, w, bias)
        if c is None or not w.size or (w.size >= MANY and is_blas(x.shape, w, stride, padding)):
            return NotImplemented
        y = np.empty((len(x), len(w), *columns.out_hw(x.shape, w.shape[2:], stride, padding,
                                                      dilation)), FLOAT)
        arrays = compiled.dense(x), compiled.dense(w), compiled.dense(bias), how(
            stride, padding, dilation, groups), y
        if y.size:
            if groups > 1 == w.shape[1]:
                c.depthwise(*arrays)
            else:
                c.conv(*arrays, np.empty(w.size, FLOAT))
        return y
    def cuda(be, x, w, bias=None, *, stride, padding, dilation, groups):
        if depthwise.is_depthwise(be, x.dtype, w.shape, groups):
            return depthwise.forward(be, x, w, bias, stride, padding, dilation)
        out = forward_by_columns(be, x, w, None, stride, padding, dilation, groups)
        return out if bias is None else add_bias(be, out, bias)
    def grad_x(o, g, w, x_shape, stride, padding, dilation, groups):
        return o.conv_grad_input(g, w, x_shape=x_shape, stride=stride, padding=padding,
                                 dilation=dilation, groups=groups)
    def grad_w(o, g, x, w_shape, stride, padding, dilation, groups):
        return o.conv_grad_weight(g, x, w_shape=w_shape, stride=stride, padding=padding,
                                  dilation=dilation, groups=groups)
    def grad_bias(o, g):
        return o.channel_sum(g)


@op("ConvolutionBackwardBackward0")
class conv_grad_input:
    """The gradient of convolution for x, whose shape is x_shape."""
    def forward(be, g, w, *, x_shape, stride, padding, dilation, groups):
        if g.dtype in HALF:
            out = grad_input(be, *in_float32(be, g, w), x_shape, stride, padding, dilation, groups)
            return out.astype(g.dtype)
        return grad_input(be, g, w, x_shape, stride, padding, dilation, groups)
    def cpu(be, g, w, *, x_shape, stride, padding, dilation, groups):
        c, x = compiled.for_floats(g, w), np.empty(x_shape, FLOAT)
        if c is None or not w.size or not x.size or (
                w.size >= MANY and is_blas(x_shape, w, stride, padding)):
            return NotImplemented
        arrays = compiled.dense(g), compiled.dense(w), how(stride, padding, dilation, groups), x
        if groups > 1 == w.shape[1]:
            c.depthwise_grad_input(*arrays)
        else:
            c.conv_grad_input(*arrays, np.empty(w.size, FLOAT))
        return x
    def cuda(be, g, w, *, x_shape, stride, padding, dilation, groups):
        if depthwise.is_depthwise(be, g.dtype, w.shape, groups):
            return depthwise.grad_input(be, g, w, x_shape, stride, padding, dilation)
        return grad_input_by_columns(be, g, w, x_shape, stride, padding, dilation, groups)
    def grad_g(o, gg, w, stride, padding, dilation, groups):
        return o.convolution(gg, w, None, stride=stride, padding=padding, dilation=dilation,
                             groups=groups)
    def grad_w(o, gg, g, w_shape, stride, padding, dilation, groups):
        return o.conv_grad_weight(g, gg, w_shape=w_shape, stride=stride, padding=padding,
                                  dilation=dilation, groups=groups)


@op("ConvolutionBackwardBackward0")
class conv_grad_weight:
    """The gradient of convolution for w, whose shape is w_shape."""
    def forward(be, g, x, *, w_shape, stride, padding, dilation, groups):
        if g.dtype in HALF:
            out = grad_weight(be, *in_float32(be, g, x), w_shape, stride, padding, dilation, groups)
            return out.astype(g.dtype)
        return grad_weight(be, g, x, w_shape, stride, padding, dilation, groups)
    def cpu(be, g, x, *, w_shape, stride, padding, dilation, groups):
        c, w = compiled.for_floats(g, x), np.empty(w_shape, FLOAT)
        few = len(w) <= 8 and g.size > 1 << 16   # channels: half a vector would stay empty
        if c is None or not w.size or not x.size or few:
            return NotImplemented
        arrays = compiled.dense(g), compiled.dense(x), how(stride, padding, dilation, groups), w
        if groups > 1 == w.shape[1]:
            c.depthwise_grad_weight(*arrays)
        else:                                    # channels of a group, rounded up to whole vectors
            c.conv_grad_weight(*arrays, np.empty((w.size // len(w), groups, (
                len(w) // groups + 15) // 16 * 16), FLOAT))
        return w
    def cuda(be, g, x, *, w_shape, stride, padding, dilation, groups):
        if depthwise.is_depthwise(be, g.dtype, w_shape, groups):
            return depthwise.grad_weight(be, g, x, w_shape, stride, padding, dilation)
        return grad_weight_by_columns(be, g, x, w_shape, stride, padding, dilation, groups)
    def grad_g(o, gg, x, stride, padding, dilation, groups):
        return o.convolution(x, gg, None, stride=stride, padding=padding, dilation=dilation,
                             groups=groups)
    def grad_x(o, gg, g, x_shape, stride, padding, dilation, groups):
        return o.conv_grad_input(g, gg, x_shape=x_shape, stride=stride, padding=padding,
                                 dilation=dilation, groups=groups)


@op("SumBackward1")
class channel_sum:
    """(n, c, h, w) summed to (c,): a bias's gradient."""
    def forward(be, g):
        n, c, h, w = g.shape
        if g.dtype in HALF:
            return be.xp.sum(g, (0, 2, 3), be.xp.float32).astype(g.dtype)
        # faster than a sum over dims that don't lie side by side
        return be.xp.einsum("ncl->c", g.reshape(n, c, h * w))
    def cpu(be, g):
        c, out = compiled.for_floats(g), np.empty(g.shape[1], FLOAT)
        if c is None:
            return NotImplemented
        c.channel_sum(compiled.dense(g), out)
        return out
    def cuda(be, g):
        out = summed(be, g, (0, 2, 3), False)
        return be.xp.sum(g, (0, 2, 3)) if out is NotImplemented else out
    def grad_g(o, gg, g_shape):
        return o.expand(o.reshape(gg, (1, g_shape[1], 1, 1)), shape=g_shape)


@functools.lru_cache(256)
def how(stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """The numbers of a convolution as conv.c takes them."""
    return np.array([*stride, *padding, *dilation, groups], np.int64)


def in_float32(be: Any, *arrays: Any) -> list[Any]:
    return [a if a is None else a.astype(be.xp.float32) for a in arrays]


def chunks(be: Any, n: int, nbytes: int, merged: bool = False) -> Iterator[slice]:
    """Parts of a batch of n images, such that nbytes an image stay below the backend's limit."""
    step = max(1, (4 if merged else 1) * be.column_bytes // max(1, nbytes))
    for i in range(0, n, step):
        yield slice(i, min(n, i + step))


def by_group(a: Any, groups: int, size: int) -> Any:
    """(n, groups * rows, ...) as (n, rows, size), or (n, groups, rows, size) where groups > 1."""
    n = len(a)
    return a.reshape(n, -1, size) if groups == 1 else a.reshape(n, groups, -1, size)


def is_plain(w_shape: Any, stride: Any, padding: Any) -> bool:
    """Is the image its own columns?"""
    return tuple(w_shape[2:]) == stride == ONE and padding == ZERO


def is_blas(x_shape: Any, w: Any, stride: Any, padding: Any) -> bool:
    """Is it a plain product by MANY weights, on so few pixels that BLAS does it best?"""
    return bool(x_shape[2] * x_shape[3] < 128 and is_plain(w.shape, stride, padding))


def is_small(w_shape: Any, size: int, groups: int) -> bool:
    """Do many channels on so few pixels make merged columns faster, on the CPU?"""
    return groups == 1 and size <= 64 and w_shape[0] >= 128 <= w_shape[1]


def by_rows_pays(w_shape: Any, stride: Any, pixels: int) -> bool:
    """Can it go by rows, and are there enough pixels to make up for laying out the weights anew?"""
    return stride == ONE and w_shape[2] > 1 and (pixels >= 256 or w_shape[0] * w_shape[1] < 4096)


# Forward -----------------------------------------------------------------------------------------

def forward(be: Any, x: Any, w: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
            groups: int) -> Any:
    """The fastest of the ways, on the CPU."""
    oh, ow = columns.out_hw(x.shape, w.shape[2:], stride, padding, dilation)
    if is_small(w.shape, oh * ow, groups):
        return forward_by_columns(be, x, w, bias, stride, padding, dilation, groups, True)
    if 32 <= w.shape[1] >= w.shape[0] // groups and by_rows_pays(w.shape, stride, len(x) * oh * ow):
        return forward_by_rows(be, x, w, bias, padding, dilation, groups)
    return forward_by_columns(be, x, w, bias, stride, padding, dilation, groups)


def forward_by_columns(be: Any, x: Any, w: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
                       groups: int, merged: bool = False) -> Any:
    (n, c), (c_out, cg, kh, kw) = x.shape[:2], w.shape
    oh, ow = columns.out_hw(x.shape, (kh, kw), stride, padding, dilation)
    size, rows = oh * ow, c * kh * kw
    kernels = by_group(w.reshape(1, c_out, -1), groups, cg * kh * kw)[0]
    plain = is_plain(w.shape, stride, padding) and not merged
    out = be.empty((n, c_out, oh, ow), x.dtype)
    for part in chunks(be, n, 0 if plain else rows * size * x.itemsize, merged):
        images, result = x[part], out[part]
        m = len(images)
        cols = images if plain else \
            make_columns(be, images, (kh, kw), stride, padding, dilation, (m, rows, size), merged)
        if merged:
            product = be.matmul(kernels, cols).reshape(c_out, m, oh, ow).swapaxes(0, 1)
            if bias is None:
                result[...] = product
            else:
                be.xp.add(product, bias.reshape(-1, 1, 1), out=result)
            continue
        be.matmul(kernels, by_group(cols, groups, size), by_group(result, groups, size))
        if bias is not None:
            result += bias.reshape(-1, 1, 1)
    return out


def make_columns(be: Any, images: Any, kernel: Any, stride: Any, padding: Any, dilation: Any,
                 shape: tuple[int, int, int], merged: bool) -> Any:
    """The columns of ``shape`` (m, rows, size) in scratch memory; merged: as (rows, m * size)."""
    m, rows, size = shape
    if not merged:
        cols = be.workspace("columns", shape, images.dtype)
        return be.im2col(images, kernel, stride, padding, dilation, cols)
    cols = be.workspace("columns", (rows, m, size), images.dtype)
    columns.im2col(be.xp, images, kernel, stride, padding, dilation, cols.swapaxes(0, 1))
    return cols.reshape(rows, m * size)


def forward_by_rows(be: Any, x: Any, w: Any, bias: Any, padding: Any, dilation: Any,
                    groups: int) -> Any:
    c_out, cg, kh, kw = w.shape
    (ph, pw), (dh, dw) = padding, dilation
    oh, ow = columns.out_hw(x.shape, (kh, kw), ONE, padding, dilation)
    out = be.empty((x.shape[0], c_out, oh, ow), x.dtype)
    kernels = w.reshape(groups, c_out // groups, cg, kh, kw).transpose(0, 3, 1, 2, 4)
    correlate_rows(be, x, kernels, out, pw, dw, [i * dh - ph for i in range(kh)])
    if bias is not None:
        out += bias.reshape(-1, 1, 1)
    return out


def correlate_rows(be: Any, x: Any, kernels: Any, out: Any, pad: int, dilation: int,
                   offsets: list[int]) -> None:
    """Correlate along the rows: an image for each kernel row; then add these at their offsets.

    x is (n, c, h, w), kernels (groups, kh, c_out / groups, c / groups, kw), out (n, c_out, oh, ow).
    Row y of ``out`` takes row y + offsets[i] of image i, where there is one.
    """
    n, c, h, _ = x.shape
    c_out, oh, ow = out.shape[1:]
    groups, kh, _, cg, kw = kernels.shape
    kernels = by_group(kernels.reshape(1, kh * c_out, -1), groups, cg * kw)[0]
    for part in chunks(be, n, (c * kw + c_out * kh) * h * ow * x.itemsize):
        images, result = x[part], out[part]
        m = len(images)
        rows = be.workspace("rows", (m, c, kw, h, ow), x.dtype)
        columns.row_columns(be.xp, columns.pad(be.xp, images, (0, pad)), kw, 1, dilation, rows)
        rows = by_group(rows, groups, h * ow)
        products = be.workspace("products", (m, kh * c_out, h * ow), x.dtype)
        be.matmul(kernels, rows, by_group(products, groups, h * ow))
        add_rows(products.reshape(m, groups, kh, -1, h, ow), offsets,
                 result.reshape(m, groups, -1, oh, ow))


def add_rows(products: Any, offsets: list[int], out: Any) -> None:
    """Row y of ``out`` becomes the sum of the rows y + offsets[i] of products[:, :, i]."""
    h, oh = products.shape[-2], out.shape[-2]
    # The one that reaches most rows is copied, the others are added.
    order = sorted(range(len(offsets)), key=lambda i: abs(2 * offsets[i] + oh - h))
    for i in order:
        low = max(0, -offsets[i])
        high = max(low, min(oh, h - offsets[i]))
        source = products[:, :, i, :, low + offsets[i]:high + offsets[i]]
        if i == order[0]:
            out[..., :low, :] = 0
            out[..., high:, :] = 0
            out[..., low:high, :] = source
        else:
            target = out[..., low:high, :]
            target += source


# Gradient for the input --------------------------------------------------------------------------

def grad_input(be: Any, g: Any, w: Any, x_shape: Any, stride: Any, padding: Any, dilation: Any,
               groups: int) -> Any:
    """The fastest of the ways, on the CPU."""
    c_out, cg, kh, kw = w.shape
    (ph, pw), (dh, dw) = padding, dilation
    n, size, pad = len(g), g.shape[2] * g.shape[3], dw * (kw - 1) - pw
    if is_small(w.shape, size, groups):
        return grad_input_by_columns(be, g, w, x_shape, stride, padding, dilation, groups, True)
    if pad < 0 or c_out > 3 * groups * cg or not by_rows_pays(w.shape, stride, n * size):
        return grad_input_by_columns(be, g, w, x_shape, stride, padding, dilation, groups)
    # g correlated with the kernels turned round: along the columns that is a matter of offsets.
    kernels = w[..., ::-1].reshape(groups, c_out // groups, cg, kh, kw).transpose(0, 3, 2, 1, 4)
    out = be.empty(tuple(x_shape), g.dtype)
    correlate_rows(be, g, kernels, out, pad, dw, [ph - i * dh for i in range(kh)])
    return out


def grad_input_by_columns(be: Any, g: Any, w: Any, x_shape: Any, stride: Any, padding: Any,
                          dilation: Any, groups: int, merged: bool = False) -> Any:
    (n, c, _, _), (c_out, cg, kh, kw) = x_shape, w.shape
    size, rows = g.shape[2] * g.shape[3], c * kh * kw
    kernels = by_group(w.reshape(1, c_out, -1), groups, cg * kh * kw)[0].swapaxes(-1, -2)
    plain = is_plain(w.shape, stride, padding) and not merged
    out = be.empty(tuple(x_shape), g.dtype)
    for part in chunks(be, n, 0 if plain else rows * size * g.itemsize, merged):
        result, slopes = out[part], by_group(g[part], groups, size)
        m = len(result)
        if plain:
            be.matmul(kernels, slopes, by_group(result, groups, size))
        elif merged:
            cols = be.workspace("columns", (rows, m, size), g.dtype)
            slopes = slopes.swapaxes(0, 1).reshape(c_out, m * size)
            be.matmul(kernels, slopes, cols.reshape(rows, m * size))
            columns.col2im(be.xp, cols.swapaxes(0, 1), result.shape, (kh, kw), stride, padding,
                           dilation, result)
        else:
            cols = be.workspace("columns", (m, rows, size), g.dtype)
            be.matmul(kernels, slopes, by_group(cols, groups, size))
            be.col2im(cols, result.shape, (kh, kw), stride, padding, dilation, result)
    return out


# Gradient for the weight -------------------------------------------------------------------------

def grad_weight(be: Any, g: Any, x: Any, w_shape: Any, stride: Any, padding: Any, dilation: Any,
                groups: int) -> Any:
    """The fastest of the ways, on the CPU."""
    n, c_out, oh, ow = g.shape
    _, cg, kh, kw = w_shape
    small = is_small(w_shape, oh * ow, groups)
    if small or n == 0 or not by_rows_pays(w_shape, stride, n * oh * ow):
        return grad_weight_by_columns(be, g, x, w_shape, stride, padding, dilation, groups, small)
    c, h = x.shape[1], x.shape[2] + 2 * padding[0]
    total: Any = None
    for part in chunks(be, n, c * kw * h * ow * x.itemsize):
        images = columns.pad(be.xp, x[part], padding)
        m = len(images)
        rows = be.workspace("rows", (m, c, kw, h, ow), x.dtype)
        columns.row_columns(be.xp, images, kw, 1, dilation[1], rows)
        cols = columns.column_windows(be.xp, rows, kh, dilation[0], oh)
        cols = cols.reshape((m, kh, -1, oh * ow) if groups == 1 else (m, kh, groups, -1, oh * ow))
        slopes = by_group(g[part], groups, oh * ow)[:, None].swapaxes(-1, -2)
        total = add_batch(be, total, be.matmul(cols, slopes))
    total = total.reshape(kh, groups, cg, kw, c_out // groups).transpose(1, 4, 2, 0, 3)
    return be.xp.ascontiguousarray(total).reshape(w_shape)


def grad_weight_by_columns(be: Any, g: Any, x: Any, w_shape: Any, stride: Any, padding: Any,
                           dilation: Any, groups: int, merged: bool = False) -> Any:
    (n, c), size = x.shape[:2], g.shape[2] * g.shape[3]
    c_out, _, kh, kw = w_shape
    rows = c * kh * kw
    plain = is_plain(w_shape, stride, padding) and not merged
    total: Any = None
    for part in chunks(be, n, 0 if plain else rows * size * g.itemsize, merged):
        images, slopes = x[part], by_group(g[part], groups, size).swapaxes(-1, -2)
        m = len(images)
        cols = images if plain else \
            make_columns(be, images, (kh, kw), stride, padding, dilation, (m, rows, size), merged)
        if merged:
            products = be.matmul(cols, slopes.reshape(m * size, c_out))[None]
        else:
            # 16 bits are summed over the images in float32, too
            dtype = be.xp.float32 if g.dtype in HALF else None
            products = be.matmul(by_group(cols, groups, size), slopes, dtype=dtype)
        total = add_batch(be, total, products)
    if total is None:
        return be.xp.zeros(w_shape, g.dtype)
    # The transposed product is the faster one: its left operand is the longer one.
    total = be.xp.ascontiguousarray(total.swapaxes(-1, -2), g.dtype)
    return total.reshape(w_shape)


def add_batch(be: Any, total: Any, products: Any) -> Any:
    """Sum a batch of products and add it to the total so far, None at first."""
    part = products[0] if len(products) == 1 else be.xp.sum(products, 0)
    if total is None:
        return part
    total += part
    return total
