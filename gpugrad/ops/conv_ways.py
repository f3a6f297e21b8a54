"""The ways of a convolution that are products of matrices, for NumPy and CuPy alike.

By columns: im2col lays out every window, kh * kw copies of the image, and each image is a product
of its own; it takes any stride. By columns, merged: the columns of many small images side by side,
in one product. By rows, for stride 1: the windows are cut along the rows only, kw copies, and
kernel rows are found at whole-row offsets. That moves less memory, so on the CPU it is the fastest,
save forward where few channels become many. Columns are made for a part of the batch at a time, at
most be.column_bytes of them.

x is (n, c, h, w), w is (c_out, c / groups, kh, kw), g and the result of convolution are (n, c_out,
oh, ow); stride, padding and dilation are pairs (rows, columns).
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpugrad.backend import columns
from gpugrad.dtypes import HALF

ONE = (1, 1)
ZERO = (0, 0)


def in_float32(be: Any, *arrays: Any) -> list[Any]:
    return [a if a is None else a.astype(be.xp.float32) for a in arrays]


def chunks(be: Any, n: int, nbytes: int, merged: bool = False) -> Iterator[slice]:
    """Parts of a batch of n images, such that nbytes an image stay below the backend's limit."""
    step = max(1, (4 if merged else 1) * be.column_bytes // max(1, nbytes))
    if step < n:                                 # as many for each of some threads
        step = -(-n // (-(-n // (4 * step)) * 4))
    for i in range(0, n, step):
        yield slice(i, min(n, i + step))


def by_group(a: Any, groups: int, size: int) -> Any:
    """(n, groups * rows, ...) as (n, rows, size), or (n, groups, rows, size) where groups > 1."""
    n = len(a)
    return a.reshape(n, -1, size) if groups == 1 else a.reshape(n, groups, -1, size)


def is_plain(w_shape: Any, stride: Any, padding: Any) -> bool:
    """Is the image its own columns?"""
    return tuple(w_shape[2:]) == stride == ONE and padding == ZERO


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

    def correlate(part: slice) -> None:
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
            return
        be.matmul(kernels, by_group(cols, groups, size), by_group(result, groups, size))
        if bias is not None:
            result += bias.reshape(-1, 1, 1)

    be.share(correlate, chunks(be, n, rows * size * x.itemsize, merged), n * size * w.size)
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

    def correlate(part: slice) -> None:
        images, result = x[part], out[part]
        m = len(images)
        rows = be.workspace("rows", (m, c, kw, h, ow), x.dtype)
        columns.row_columns(be.xp, images, kw, 1, (0, pad), dilation, rows)
        rows = by_group(rows, groups, h * ow)
        products = be.workspace("products", (m, kh * c_out, h * ow), x.dtype)
        be.matmul(kernels, rows, by_group(products, groups, h * ow))
        add_rows(products.reshape(m, groups, kh, -1, h, ow), offsets,
                 result.reshape(m, groups, -1, oh, ow))

    be.share(correlate, chunks(be, n, (c * kw + c_out * kh) * h * ow * x.itemsize),
             n * h * ow * kernels.size)


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

    def spread(part: slice) -> None:
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

    be.share(spread, chunks(be, n, rows * size * g.itemsize, merged), n * size * w.size)
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

    def products(part: slice) -> Any:
        images = x[part]
        m = len(images)
        rows = be.workspace("rows", (m, c, kw, h, ow), x.dtype)
        columns.row_columns(be.xp, images, kw, 1, padding, dilation[1], rows)
        cols = columns.column_windows(be.xp, rows, kh, dilation[0], oh)
        cols = cols.reshape((m, kh, -1, oh * ow) if groups == 1 else (m, kh, groups, -1, oh * ow))
        slopes = by_group(g[part], groups, oh * ow)[:, None].swapaxes(-1, -2)
        return add_up(be, be.matmul(cols, slopes))

    total = be.sum_of(products, chunks(be, n, c * kw * h * ow * x.itemsize),
                      n * oh * ow * cg * kh * kw * c_out)
    total = total.reshape(kh, groups, cg, kw, c_out // groups).transpose(1, 4, 2, 0, 3)
    return dense(be, total, g.dtype).reshape(w_shape)


def grad_weight_by_columns(be: Any, g: Any, x: Any, w_shape: Any, stride: Any, padding: Any,
                           dilation: Any, groups: int, merged: bool = False) -> Any:
    (n, c), size = x.shape[:2], g.shape[2] * g.shape[3]
    c_out, _, kh, kw = w_shape
    rows = c * kh * kw
    plain = is_plain(w_shape, stride, padding) and not merged

    def products(part: slice) -> Any:
        images, slopes = x[part], by_group(g[part], groups, size).swapaxes(-1, -2)
        m = len(images)
        cols = images if plain else \
            make_columns(be, images, (kh, kw), stride, padding, dilation, (m, rows, size), merged)
        if merged:
            return be.matmul(cols, slopes.reshape(m * size, c_out))
        # 16 bits are summed over the images in float32, too
        dtype = be.xp.float32 if g.dtype in HALF else None
        return add_up(be, be.matmul(by_group(cols, groups, size), slopes, dtype=dtype))

    total = be.sum_of(products, chunks(be, n, rows * size * g.itemsize, merged),
                      n * size * rows * c_out)
    if total is None:
        return be.xp.zeros(w_shape, g.dtype)
    # The transposed product is the faster one: its left operand is the longer one.
    return dense(be, total.swapaxes(-1, -2), g.dtype).reshape(w_shape)


def dense(be: Any, a: Any, dtype: Any) -> Any:
    """a in C order."""
    cost = a.size * be.element_cost
    if cost < be.worth_sharing:
        return be.xp.ascontiguousarray(a, dtype)
    out = be.empty(a.shape, dtype)
    axis = 1 if len(a) == 1 else 0      # of a group or more
    lines, copy = a.swapaxes(0, axis), out.swapaxes(0, axis)

    def work(part: slice) -> None:
        copy[part] = lines[part]

    be.share(work, chunks(be, len(lines), a.size // len(lines) * a.itemsize), cost)
    return out


def add_up(be: Any, products: Any) -> Any:
    """The sum of a batch of products."""
    return products[0] if len(products) == 1 else be.xp.sum(products, 0)
