"""Pooling of images: maxima with where they were, and means, regular or adaptive.

In every op x is (n, c, h, w) and the result (n, c, oh, ow); kernel, stride, padding and dilation
are pairs (rows, columns). Windows are reduced along the rows first, then along the columns, with
one call for each kernel column and row; padding is left out rather than laid out.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpugrad._state import off, state
from gpugrad.autograd.op import op
from gpugrad.backend import compiled
from gpugrad.backend.compiled import FLOAT
from gpugrad.backend.kernels import windows
from gpugrad.dtypes import FLOATING
from gpugrad.dtypes import wide as wide_dtype
from gpugrad.layouts import as_images, as_pixels, is_last
from gpugrad.ops import places
from gpugrad.ops.pool_windows import (
    ONE,
    Side,
    adaptive_windows,
    divisors,
    first_positions,
    numbers,
    plan,
    regular,
    spans,
)


def plane_parts(be: Any, planes: int, plane_bytes: int) -> Iterator[slice]:
    """Parts of a batch of planes that stay in the processor's cache."""
    step = max(1, be.column_bytes // 2 // max(1, plane_bytes))
    for i in range(0, planes, step):
        yield slice(i, min(planes, i + step))


def pooled(be: Any, name: str, arrays: Any, shape: Any, win: Any, *rest: Any) -> Any:
    """Run a kernel of pool.cu from ``arrays`` to a new array of ``shape``; or NotImplemented."""
    dtype = arrays[0].dtype
    if not be.takes(dtype):
        return NotImplemented
    if is_last(arrays[-1]):                      # the last one has the memory format of x
        n, c, h, w = shape
        out = be.empty((n, h, w, c), dtype)
        be.kernels.each("pool", name, dtype, out.size,
                        [*[be._dense(as_pixels(a)) for a in arrays], out], win, np.int32(c), *rest)
        return as_images(out)
    out = be.empty(tuple(shape), dtype)
    be.kernels.each("pool", name, dtype, out.size, [*map(be._dense, arrays), out], win, np.int32(1),
                    *rest)
    return out


def maxima(be: Any, name: str, x: Any, win: Any) -> Any:
    """(the maxima, their int32 positions in the plane) by a kernel; or NotImplemented."""
    if not be.takes(x.dtype) or not fits(x.shape):
        return NotImplemented
    (n, c), oh, ow, last = x.shape[:2], int(win["oh"]), int(win["ow"]), is_last(x)
    shape = (n, oh, ow, c) if last else (n, c, oh, ow)
    y, at = be.empty(shape, x.dtype), be.empty(shape, np.int32)
    be.kernels.each("pool", name, x.dtype, y.size, (be._dense(as_pixels(x) if last else x), y, at),
                    win, np.int32(c if last else 1))
    return (as_images(y), as_images(at)) if last else (y, at)


def compiled_maxima(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any,
                    ceil_mode: bool, places: bool = True) -> Any:
    """max_pool() by the compiled helper, the positions only if asked for; or NotImplemented."""
    c = compiled.for_floats(x)
    if c is None or not fits(x.shape):
        return NotImplemented
    down, across = plan(*x.shape[2:], kernel, stride, padding, dilation, ceil_mode)
    y = np.empty((*x.shape[:2], down.out, across.out), FLOAT)
    at = np.empty(y.shape if places else 0, np.int64)
    c.max_pool(compiled.dense(x), numbers(kernel, stride, padding, dilation), y, at)
    return y, at


def compiled_scatter(g: Any, at: Any, shape: Any, in_planes: int) -> Any:
    """Zeros of ``shape`` with g added at positions, by the compiled helper; or NotImplemented."""
    c = compiled.for_floats(g)
    if c is None or at.dtype != np.int64:
        return NotImplemented
    out = np.empty(shape, FLOAT)
    c.put_back(compiled.dense(g), compiled.dense(at), out, in_planes)
    return out


def fits(shape: Any) -> bool:
    """Do 32 bits number the elements of a plane?"""
    return bool(shape[2] * shape[3] < 1 << 31)


# Maxima ------------------------------------------------------------------------------------------

@op("MaxPool2DWithIndicesBackward0", outputs=2)
class max_pool2d:
    """Window maxima, and where they are, in whatever form suits the device."""
    def forward(be, x, *, kernel, stride, padding, dilation, ceil_mode):
        if off[0] and not state.recording:            # nobody will ask where they were
            values = max_values(be, x, kernel, stride, padding, dilation, ceil_mode)
            return values, be.empty((0,), np.int64)
        return max_pool(be, x, kernel, stride, padding, dilation, ceil_mode)
    def cpu(be, x, *, kernel, stride, padding, dilation, ceil_mode):
        return compiled_maxima(x, kernel, stride, padding, dilation, ceil_mode,
                               not off[0] or state.recording)
    def meta(be, x, *, kernel, stride, padding, dilation, ceil_mode):
        down, across = plan(*x.shape[2:], kernel, stride, padding, dilation, ceil_mode)
        shape = (*x.shape[:2], down.out, across.out)
        return be.empty(shape, x.dtype), be.empty(shape, np.int64)
    def cuda(be, x, *, kernel, stride, padding, dilation, ceil_mode):
        down, across = plan(*x.shape[2:], kernel, stride, padding, dilation, ceil_mode)
        return maxima(be, "max_pool2d", x, windows(x.shape[2:], (down.out, across.out), kernel,
                                                   stride, padding, dilation))
    def grad_x(o, g, result1, x_shape, kernel, stride, padding, dilation):
        return o.max_pool2d_backward(g, result1, x_shape=x_shape, kernel=kernel, stride=stride,
                                     padding=padding, dilation=dilation)


@op("MaxPool2DWithIndicesBackward0", outputs=2)
class max_pool2d_with_indices:
    """Window maxima, and where they are in each h x w plane (int64)."""
    def forward(be, x, *, kernel, stride, padding, dilation, ceil_mode):
        values, at = max_pool(be, x, kernel, stride, padding, dilation, ceil_mode)
        at %= x.shape[2] * x.shape[3]
        return values, at
    def cpu(be, x, *, kernel, stride, padding, dilation, ceil_mode):
        out = compiled_maxima(x, kernel, stride, padding, dilation, ceil_mode)
        if out is not NotImplemented:
            np.remainder(out[1], x.shape[2] * x.shape[3], out=out[1])
        return out
    def meta(be, x, **window):
        return max_pool2d.spec.meta(be, x, **window)
    def cuda(be, x, *, kernel, stride, padding, dilation, ceil_mode):
        out = max_pool2d.spec.impl[1](be, x, kernel=kernel, stride=stride, padding=padding,
                                      dilation=dilation, ceil_mode=ceil_mode)
        if out[1].dtype != np.int32:             # forward's text ran
            return NotImplemented
        return out[0], out[1].astype(np.int64)
    def grad_x(o, g, result1, x_shape, kernel, stride, padding, dilation):
        return o.plane_scatter(g, result1, x_shape=x_shape, lie=(kernel, stride, padding, dilation))


@op("MaxPool2DWithIndicesBackwardBackward0")
class max_pool2d_backward:
    """Zeros of x_shape with g added where the maxima were."""
    def forward(be, g, at, *, x_shape, kernel, stride, padding, dilation):
        disjoint = all(d * (k - 1) < s for k, s, d in zip(kernel, stride, dilation))
        return scatter(be, g, at, x_shape, disjoint)
    def cpu(be, g, at, *, x_shape, kernel, stride, padding, dilation):
        return compiled_scatter(g, at, x_shape, 0)
    def meta(be, g, at, *, x_shape, kernel, stride, padding, dilation):
        return be.empty(x_shape, g.dtype)
    def cuda(be, g, at, *, x_shape, kernel, stride, padding, dilation):
        if at.dtype != np.int32:                 # forward's text ran
            return NotImplemented
        win = windows(tuple(x_shape[2:]), g.shape[2:], kernel, stride, padding, dilation)
        return pooled(be, "max_pool2d_backward", (g, at), x_shape, win)
    grad_at = None
    def grad_g(o, gg, at, kernel, stride, padding, dilation):
        return o.max_pool2d_gather(gg, at, kernel=kernel, stride=stride, padding=padding,
                                   dilation=dilation)


@op("MaxPool2DWithIndicesBackward0")
class max_pool2d_gather:
    """The elements of x where the maxima were."""
    def forward(be, x, at, *, kernel, stride, padding, dilation):
        return x.reshape(-1)[at]
    def cuda(be, x, at, *, kernel, stride, padding, dilation):
        return plane_take(be, x, at) if at.dtype == np.int32 else NotImplemented
    grad_at = None
    def grad_x(o, g, at, x_shape, kernel, stride, padding, dilation):
        return o.max_pool2d_backward(g, at, x_shape=x_shape, kernel=kernel, stride=stride,
                                     padding=padding, dilation=dilation)


@op("MaxPool2DWithIndicesBackwardBackward0")
class plane_scatter:
    """Zeros of x_shape with g added at positions counted within each plane.

    lie: kernel, stride, padding and dilation of the windows that the positions come from.
    """
    def forward(be, g, at, *, x_shape, lie=None):
        return scatter(be, g, in_planes(be, at, x_shape), x_shape, False)
    def cpu(be, g, at, *, x_shape, lie=None):
        return compiled_scatter(g, at, x_shape, 1)
    def meta(be, g, at, *, x_shape, lie=None):
        return be.empty(x_shape, g.dtype)
    def cuda(be, g, at, *, x_shape, lie=None):
        if not be.takes(g.dtype):
            return NotImplemented
        if lie is not None and fits(x_shape):
            win = windows(tuple(x_shape[2:]), g.shape[2:], *lie)
            return pooled(be, "max_pool2d_backward", (g, at.astype(np.int32)), x_shape, win)
        shape = tuple(x_shape)
        if last := is_last(at):
            n, c, h, w = shape
            shape = n, h, w, c
            g, at = as_pixels(g), as_pixels(at) * c
            at += be.xp.arange(0, n * h * w * c, h * w * c).reshape(n, 1, 1, 1)
            at += be.xp.arange(c)
        else:
            at = in_planes(be, at, shape)
        out = be.xp.zeros(shape, g.dtype)
        places.add(be, out, g, places.as_index(be, at).reshape(-1), out.size, 1)
        return as_images(out) if last else out
    grad_at = None
    def grad_g(o, gg, at):
        return o.plane_gather(gg, at)


@op("MaxPool2DWithIndicesBackward0")
class plane_gather:
    """The elements of x at positions counted within each plane."""
    def forward(be, x, at):
        return plane_take(be, x, at)
    grad_at = None
    def grad_x(o, g, at, x_shape):
        return o.plane_scatter(g, at, x_shape=x_shape)


def plane_take(be: Any, x: Any, at: Any) -> Any:
    n, c, h, w = x.shape
    out = be.raw.gather(x.reshape(n, c, h * w), at.reshape(n, c, math.prod(at.shape[2:])), dim=2)
    return out.reshape(at.shape)


def in_planes(be: Any, at: Any, shape: Any) -> Any:
    """Positions within planes as positions in the whole of ``shape`` (n, c, h, w)."""
    n, c, h, w = shape
    return at + be.xp.arange(0, n * c * h * w, h * w).reshape(n, c, 1, 1) if h * w else at


def scatter(be: Any, g: Any, at: Any, shape: Any, disjoint: bool) -> Any:
    """Zeros of ``shape`` with g added at its flat positions, which are distinct if disjoint."""
    xp = be.xp
    n, c, h, w = shape
    out = xp.zeros(tuple(shape), g.dtype)
    g, at = g.reshape(-1), at.reshape(-1)
    if disjoint:
        out.reshape(-1)[at] = g
        return out
    planes, per_plane = out.reshape(-1, h * w), g.size // max(1, n * c)
    for part in plane_parts(be, len(planes), h * w * 8):
        some = slice(part.start * per_plane, part.stop * per_plane)
        size = (part.stop - part.start) * h * w
        # it sums in float64
        sums = be.sums_at(at[some] - part.start * h * w, g[some], size)
        planes[part] = sums.reshape(-1, h * w)
    return out


def max_pool(be: Any, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any,
             ceil_mode: bool) -> tuple[Any, Any]:
    """Window maxima and their flat positions in the whole of x (int64): the first of equals."""
    n, c, h, w = x.shape
    down, across = plan(h, w, kernel, stride, padding, dilation, ceil_mode)
    shape = (n * c, down.out, across.out)
    flat = x.reshape(-1)
    planes = flat.reshape(n * c, h, w)
    values, positions = be.empty(shape, x.dtype), be.empty(shape, np.int64)
    for part in plane_parts(be, n * c, h * w * x.itemsize):
        plane, best, at = planes[part], values[part], positions[part]
        rows = be.workspace("row maxima", (len(plane), h, across.out), x.dtype)
        reduce_windows(be.xp.maximum, plane, down, across, lowest(x.dtype), rows, best)
        at[...] = be.asarray(first_positions(len(plane), h * w, w, shape[1:], stride, padding))
        if part.start:
            at += part.start * h * w
        if np.isnan(best.max()):
            start = be.xp.arange(part.start * h * w, part.stop * h * w, h * w)
            search_with_nan(be.xp, plane, best, down, across, w, start, at)
        else:
            find_row(be.xp, rows, best, down, dilation[0] * w, at)
            find_column(flat, best, across, dilation[1], at)
    return values.reshape(n, c, *shape[1:]), positions.reshape(n, c, *shape[1:])


def lowest(dtype: Any) -> float:
    """What every element of the dtype is at least."""
    return -np.inf if dtype.kind in FLOATING else np.iinfo(dtype).min


def max_values(be: Any, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any,
               ceil_mode: bool) -> Any:
    """The maxima alone."""
    n, c, h, w = x.shape
    down, across = plan(h, w, kernel, stride, padding, dilation, ceil_mode)
    planes, values = x.reshape(n * c, h, w), be.empty((n * c, down.out, across.out), x.dtype)
    for part in plane_parts(be, n * c, h * w * x.itemsize):
        rows = be.workspace("row maxima", (part.stop - part.start, h, across.out), x.dtype)
        reduce_windows(be.xp.maximum, planes[part], down, across, lowest(x.dtype), rows,
                       values[part])
    return values.reshape(n, c, down.out, across.out)


def reduce_windows(ufunc: Any, planes: Any, down: Side, across: Side, start: float, rows: Any,
                   out: Any) -> None:
    """Reduce the windows of planes (planes, h, w): into ``rows`` (planes, h, ow), then ``out``."""
    combine(ufunc, planes, across, 2, start, rows)
    combine(ufunc, rows, down, 1, start, out)


def combine(ufunc: Any, x: Any, side: Side, axis: int, start: float, out: Any) -> None:
    """Reduce the taps of x (planes, rows, columns) along an axis into ``out``."""
    before = (slice(None),) * axis
    whole = side.whole
    if len(whole) > 1:
        ufunc(x[before + (whole[0],)], x[before + (whole[1],)], out=out)
    else:
        out[...] = x[before + (whole[0],)] if whole else start
    for there in whole[2:]:
        ufunc(out, x[before + (there,)], out=out)
    for mine, there in side.partial:
        target = out[before + (mine,)]
        ufunc(target, x[before + (there,)], out=target)


def find_row(xp: Any, rows: Any, best: Any, down: Side, step: int, at: Any) -> None:
    """Move positions from their windows' first rows to the first that hold the maximum."""
    unseen = xp.ones(best.shape, bool) if down.partial else None
    for mine, there in down.taps[:-1]:
        if unseen is None:
            unseen = rows[:, there] != best
        else:
            unseen[:, mine] &= rows[:, there] != best[:, mine]
        at += xp.multiply(unseen, step, dtype=np.int64)


def find_column(flat: Any, best: Any, across: Side, step: int, at: Any) -> None:
    """Move positions from the first element of a window's row to the first maximum in it."""
    for mine, _ in across.taps[:-1]:
        here, maxima = at, best
        if mine.start:                       # those before it are still in the padding
            here, maxima, left = at[..., mine.start:], best[..., mine.start:], at[..., :mine.start]
            left += step
        differs = flat.take(here) != maxima
        here += differs if step == 1 else differs * step


def search_with_nan(xp: Any, planes: Any, best: Any, down: Side, across: Side, w: int, start: Any,
                    at: Any) -> None:
    """Positions where some maxima are NaN: as in PyTorch, a window's last NaN wins."""
    best[...] = -np.inf
    fresh = xp.ones(best.shape, bool)
    for mine_y, y in down.taps:
        for mine_x, x in across.taps:
            mine = (slice(None), mine_y, mine_x)
            candidate = planes[:, y, x]
            wins = (candidate > best[mine]) | xp.isnan(candidate) | fresh[mine]
            position = xp.arange(y.start, y.stop, y.step)[:, None] * w + \
                xp.arange(x.start, x.stop, x.step) + start[:, None, None]
            best[mine] = xp.where(wins, candidate, best[mine])
            at[mine] = xp.where(wins, position, at[mine])
            fresh[mine] = False


@op("AdaptiveMaxPool2DBackward0", outputs=2)
class adaptive_max_pool2d:
    """The maxima of output_size windows that cover the image, and where they are in each plane."""
    def forward(be, x, *, output_size):
        (n, c, h, w), xp = x.shape, be.xp
        if regular((h, w), output_size):
            kernel = h // output_size[0], w // output_size[1]
            return max_pool2d_with_indices.spec.impl[be.index](
                be, x, kernel=kernel, stride=kernel, padding=(0, 0), dilation=ONE, ceil_mode=False)
        values = be.empty((n, c, *output_size), x.dtype)
        at = be.empty(values.shape, np.int64)
        for i, (top, bottom) in enumerate(adaptive_windows(h, output_size[0])):
            for j, (left, right) in enumerate(adaptive_windows(w, output_size[1])):
                size = (bottom - top) * (right - left)
                window = x[:, :, top:bottom, left:right].reshape(n, c, size)
                k, nan = window.argmax(-1), xp.isnan(window)
                last = size - 1 - nan[..., ::-1].argmax(-1)
                k = xp.where(nan.any(-1), last, k)            # of several NaN the last wins
                values[:, :, i, j] = xp.take_along_axis(window, k[..., None], -1)[..., 0]
                at[:, :, i, j] = (top + k // (right - left)) * w + left + k % (right - left)
        return values, at
    def meta(be, x, *, output_size):
        shape = (*x.shape[:2], *output_size)
        return be.empty(shape, x.dtype), be.empty(shape, np.int64)
    def cuda(be, x, *, output_size):
        out = maxima(be, "adaptive_max_pool2d", x, windows(x.shape[2:], tuple(output_size)))
        return out if out is NotImplemented else (out[0], out[1].astype(np.int64))
    def grad_x(o, g, result1, x_shape):
        return o.adaptive_max_pool2d_backward(g, result1, x_shape=x_shape)


@op("AdaptiveMaxPool2DBackwardBackward0")
class adaptive_max_pool2d_backward:
    """Zeros of x_shape with g added where the maxima were."""
    def forward(be, g, at, *, x_shape):
        return scatter(be, g, in_planes(be, at, x_shape), x_shape, False)
    def cpu(be, g, at, *, x_shape):
        return compiled_scatter(g, at, x_shape, 1)
    def meta(be, g, at, *, x_shape):
        return be.empty(x_shape, g.dtype)
    def cuda(be, g, at, *, x_shape):
        if not fits(x_shape):
            return NotImplemented
        win = windows(tuple(x_shape[2:]), g.shape[2:])
        return pooled(be, "adaptive_max_pool2d_backward", (g, at.astype(np.int32)), x_shape, win)
    grad_at = None
    def grad_g(o, gg, at):
        return o.plane_gather(gg, at)


# Means -------------------------------------------------------------------------------------------

@op("AvgPool2DBackward0")
class avg_pool2d:
    """Window sums over the number of elements, over divisor_override if that is given."""
    def forward(be, x, *, kernel, stride, padding, ceil_mode=False, count_include_pad=True,
                divisor_override=None):
        return average(be, x, kernel, stride, padding, ceil_mode, count_include_pad,
                       divisor_override)
    def cpu(be, x, *, kernel, stride, padding, ceil_mode=False, count_include_pad=True,
            divisor_override=None):
        return compiled_means("mean_pool", x, None, *x.shape[2:], kernel, stride, padding,
                              ceil_mode, count_include_pad, divisor_override)
    def cuda(be, x, *, kernel, stride, padding, ceil_mode=False, count_include_pad=True,
             divisor_override=None):
        down, across = plan(*x.shape[2:], kernel, stride, padding, ONE, ceil_mode)
        win = windows(x.shape[2:], (down.out, across.out), kernel, stride, padding)
        return pooled(be, "avg_pool2d", (x,), (*x.shape[:2], down.out, across.out), win,
                      np.int32(count_include_pad), np.int32(divisor_override or 0))
    def grad_x(o, g, x_shape, kernel, stride, padding, ceil_mode, count_include_pad,
               divisor_override):
        return o.avg_pool2d_backward(g, x_shape=x_shape, kernel=kernel, stride=stride,
                                     padding=padding, ceil_mode=ceil_mode,
                                     count_include_pad=count_include_pad,
                                     divisor_override=divisor_override)


@op("AvgPool2DBackwardBackward0")
class avg_pool2d_backward:
    """Every element of g shared out evenly over its window."""
    def forward(be, g, *, x_shape, kernel, stride, padding, ceil_mode, count_include_pad,
                divisor_override):
        return share_out(be, g, x_shape, kernel, stride, padding, ceil_mode, count_include_pad,
                         divisor_override)
    def cpu(be, g, *, x_shape, kernel, stride, padding, ceil_mode, count_include_pad,
            divisor_override):
        return compiled_means("mean_pool_backward", g, x_shape, *x_shape[2:], kernel, stride,
                              padding, ceil_mode, count_include_pad, divisor_override)
    def cuda(be, g, *, x_shape, kernel, stride, padding, ceil_mode, count_include_pad,
             divisor_override):
        win = windows(tuple(x_shape[2:]), g.shape[2:], kernel, stride, padding)
        return pooled(be, "avg_pool2d_backward", (g,), x_shape, win, np.int32(count_include_pad),
                      np.int32(divisor_override or 0))
    def grad_g(o, gg, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override):
        return o.avg_pool2d(gg, kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode,
                            count_include_pad=count_include_pad, divisor_override=divisor_override)


def compiled_means(name: str, a: Any, shape: Any, *how: Any) -> Any:
    """Means, or their gradient of ``shape``, by the compiled helper; or NotImplemented. ``how`` is
    what spans() takes."""
    c = compiled.for_floats(a)
    if c is None:
        return NotImplemented
    size, places, divisor = spans(*how)
    out = np.empty((*a.shape[:2], *size) if shape is None else shape, FLOAT)
    if out.size:
        getattr(c, name)(compiled.dense(a), places, divisor, out)
    return out


def average(be: Any, x: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool,
            count_include_pad: bool, divisor_override: int | None) -> Any:
    n, c, h, w = x.shape
    down, across = plan(h, w, kernel, stride, padding, ONE, ceil_mode)
    oh, ow = down.out, across.out
    wide = wide_dtype(x.dtype)
    planes, out = x.reshape(n * c, h, w), be.empty((n * c, oh, ow), wide)
    divisor = divisors(h, w, oh, ow, kernel, stride, padding, count_include_pad, divisor_override)
    divisor = be.from_host(divisor.astype(wide))
    for part in plane_parts(be, n * c, h * w * out.itemsize):
        plane, sums = planes[part].astype(wide, copy=False), out[part]
        rows = be.workspace("row sums", (len(plane), h, ow), wide)
        reduce_windows(be.xp.add, plane, down, across, 0, rows, sums)
        sums /= divisor
    return out.reshape(n, c, oh, ow).astype(x.dtype, copy=False)


def share_out(be: Any, g: Any, x_shape: Any, kernel: Any, stride: Any, padding: Any,
              ceil_mode: bool, count_include_pad: bool, divisor_override: int | None) -> Any:
    (n, c, h, w), (oh, ow) = x_shape, g.shape[2:]
    down, across = plan(h, w, kernel, stride, padding, ONE, ceil_mode)
    wide = wide_dtype(g.dtype)
    slopes, out = g.reshape(n * c, oh, ow), be.xp.zeros((n * c, h, w), wide)
    divisor = divisors(h, w, oh, ow, kernel, stride, padding, count_include_pad, divisor_override)
    divisor = be.from_host(divisor.astype(wide))
    for part in plane_parts(be, n * c, h * w * out.itemsize):
        shares = slopes[part].astype(wide, copy=False) / divisor
        rows = be.xp.zeros((len(shares), h, ow), wide)
        place(shares, down, 1, kernel[0] <= stride[0], rows)
        place(rows, across, 2, kernel[1] <= stride[1], out[part])
    return out.reshape(n, c, h, w).astype(g.dtype, copy=False)


def place(g: Any, side: Side, axis: int, disjoint: bool, out: Any) -> None:
    """combine's transpose for sums: add g to every tap of ``out``, which begins as zeros."""
    before = (slice(None),) * axis
    for mine, there in side.taps:
        target = out[before + (there,)]
        if disjoint:
            target[...] = g[before + (mine,)]
        else:
            target += g[before + (mine,)]


@op("AdaptiveAvgPool2DBackward0")
class adaptive_avg_pool2d:
    """The means of output_size windows that cover the image evenly; neighbours may share a row."""
    def forward(be, x, *, output_size):
        n, c, h, w = x.shape
        oh, ow = output_size
        if regular((h, w), output_size):
            kernel = h // oh, w // ow
            return average(be, x, kernel, kernel, (0, 0), False, True, None)
        wide = wide_dtype(x.dtype)
        out, rows = be.empty((n, c, oh, ow), wide), be.empty((n, c, h, ow), wide)
        for j, (start, stop) in enumerate(adaptive_windows(w, ow)):
            rows[..., j] = x[..., start:stop].mean(-1, dtype=wide)
        for i, (start, stop) in enumerate(adaptive_windows(h, oh)):
            out[:, :, i] = rows[:, :, start:stop].mean(2)
        return out.astype(x.dtype, copy=False)
    def cpu(be, x, *, output_size):
        return compiled_means("mean_pool", x, None, *x.shape[2:], tuple(output_size))
    def cuda(be, x, *, output_size):
        return pooled(be, "adaptive_avg_pool2d", (x,), (*x.shape[:2], *output_size),
                      windows(x.shape[2:], tuple(output_size)))
    def grad_x(o, g, x_shape, output_size):
        return o.adaptive_avg_pool2d_backward(g, x_shape=x_shape)


@op("AdaptiveAvgPool2DBackwardBackward0")
class adaptive_avg_pool2d_backward:
    """Every element of g shared out evenly over its window."""
    def forward(be, g, *, x_shape):
        (n, c, h, w), (oh, ow) = x_shape, g.shape[2:]
        if regular((h, w), (oh, ow)):
            kernel = h // oh, w // ow
            return share_out(be, g, x_shape, kernel, kernel, (0, 0), False, True, None)
        wide = wide_dtype(g.dtype)
        out, rows = be.xp.zeros((n, c, h, w), wide), be.xp.zeros((n, c, h, ow), wide)
        for i, (start, stop) in enumerate(adaptive_windows(h, oh)):
            rows[:, :, start:stop] += g[:, :, i:i + 1] / be.number[stop - start, wide]
        for j, (start, stop) in enumerate(adaptive_windows(w, ow)):
            out[..., start:stop] += rows[..., j:j + 1] / be.number[stop - start, wide]
        return out.astype(g.dtype, copy=False)
    def cpu(be, g, *, x_shape):
        return compiled_means("mean_pool_backward", g, x_shape, *x_shape[2:], g.shape[2:])
    def cuda(be, g, *, x_shape):
        return pooled(be, "adaptive_avg_pool2d_backward", (g,), x_shape,
                      windows(tuple(x_shape[2:]), g.shape[2:]))
    def grad_g(o, gg, g_shape):
        return o.adaptive_avg_pool2d(gg, output_size=tuple(g_shape[2:]))
