"""Pooling of volumes (n, c, d, h, w): of every slice's plane first, then along the depth.

kernel, stride, padding, dilation and sizes have three numbers. Both steps are pooling of images:
the slices of a volume are more planes, and the depth by the plane's places is an image of its own.
"""
from __future__ import annotations

from functools import partial
from typing import Any

from gpugrad.autograd.op import op
from gpugrad.dtypes import HALF
from gpugrad.layouts import is_last


@op("MaxPool3DWithIndicesBackward0", outputs=2)
class max_pool3d_with_indices:
    """Window maxima, and where they are in each d x h x w volume (int64)."""
    def forward(be, x, *, kernel, stride, padding, dilation, ceil_mode):
        pool = partial(be.raw.max_pool2d_with_indices, ceil_mode=ceil_mode)
        last = be.takes(x.dtype) and is_last(x)
        n, c, d, h, w = x.shape
        values, at = pool(x.swapaxes(1, 2).reshape(n * d, c, h, w) if last else slices(x),
                          kernel=kernel[1:], stride=stride[1:], padding=padding[1:],
                          dilation=dilation[1:])
        return along_depth(be, x.shape, values, at, partial(
            pool, kernel=(kernel[0], 1), stride=(stride[0], 1), padding=(padding[0], 0),
            dilation=(dilation[0], 1)), last)
    def grad_x(o, g, result1, x_shape):
        return scattered(o, g, result1, x_shape)


@op("AdaptiveMaxPool3DBackward0", outputs=2)
class adaptive_max_pool3d:
    """The maxima of output_size windows that cover the volume, and where they are in it."""
    def forward(be, x, *, output_size):
        values, at = be.raw.adaptive_max_pool2d(slices(x), output_size=tuple(output_size[1:]))
        size = (output_size[0], values.shape[2] * values.shape[3])
        return along_depth(be, x.shape, values, at,
                           lambda a: be.raw.adaptive_max_pool2d(a, output_size=size))
    def grad_x(o, g, result1, x_shape):
        return scattered(o, g, result1, x_shape)


def slices(x: Any) -> Any:
    """(n, c, d, h, w) as images (n, c * d, h, w)."""
    n, c, d, h, w = x.shape
    return x.reshape(n, c * d, h, w)


def columns(x: Any, c: int) -> Any:
    """Images (n, c * d, h, w) as images (n, c, d, h * w)."""
    n, cd, h, w = x.shape
    return x.reshape(n, c, cd // c, h * w)


def along_depth(be: Any, shape: Any, values: Any, at: Any, pool: Any, last: bool = False) -> Any:
    """Maxima of planes, with places in them, pooled along the depth: (values, places).

    last: the planes are (n * d, c, oh, ow), channels_last; else (n, c * d, oh, ow).
    """
    n, c, d, h, w = shape
    oh, ow = values.shape[2:]
    if last:
        values, at = (a.reshape(n, d, c, oh * ow).swapaxes(1, 2) for a in (values, at))
    best, rows = pool(values if last else columns(values, c))
    od = best.shape[2]
    at, where = at.reshape(n, c, d * oh * ow), rows.reshape(n, c, od * oh * ow)
    places = be.raw.gather(at.swapaxes(1, 2), where.swapaxes(1, 2), dim=1).swapaxes(1, 2) \
        if last else be.raw.gather(at, where, dim=2)
    xp = be.xp
    places = xp.add(places.reshape(best.shape),
                    xp.multiply(xp.floor_divide(rows, max(1, oh * ow)), h * w))
    return best.reshape(n, c, od, oh, ow), places.reshape(n, c, od, oh, ow)


def scattered(o: Any, g: Any, at: Any, x_shape: Any) -> Any:
    """Zeros of x_shape with g added at places counted in each volume."""
    n, c, d, h, w = x_shape
    shape = (n, c, g.shape[2] * g.shape[3], g.shape[4])
    out = o.plane_scatter(o.reshape(g, shape), o.reshape(at, shape), x_shape=(n, c, d * h, w))
    return o.reshape(out, tuple(x_shape))


# Means -------------------------------------------------------------------------------------------


@op("AvgPool3DBackward0")
class avg_pool3d:
    """Window sums over the number of elements, over divisor_override if that is given."""
    def forward(be, x, *, kernel, stride, padding, ceil_mode=False, count_include_pad=True,
                divisor_override=None):
        how = {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode,
               "count_include_pad": count_include_pad, "divisor_override": divisor_override}
        if x.dtype in HALF:
            return be.in_float32(avg_pool3d, x, **how)
        plane, deep = steps(how)
        y = be.raw.avg_pool2d(slices(x), **plane)
        oh, ow = y.shape[2:]
        y = be.raw.avg_pool2d(columns(y, x.shape[1]), **deep)
        return y.reshape(*y.shape[:3], oh, ow)
    def grad_x(o, g, x_shape, kernel, stride, padding, ceil_mode, count_include_pad,
               divisor_override):
        return o.avg_pool3d_backward(g, x_shape=x_shape, kernel=kernel, stride=stride,
                                     padding=padding, ceil_mode=ceil_mode,
                                     count_include_pad=count_include_pad,
                                     divisor_override=divisor_override)


@op("AvgPool3DBackwardBackward0")
class avg_pool3d_backward:
    """Every element of g shared out evenly over its window."""
    def forward(be, g, *, x_shape, kernel, stride, padding, ceil_mode, count_include_pad,
                divisor_override):
        how = {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode,
               "count_include_pad": count_include_pad, "divisor_override": divisor_override}
        if g.dtype in HALF:
            return be.in_float32(avg_pool3d_backward, g, x_shape=x_shape, **how)
        (n, c, d, h, w), (od, oh, ow), (plane, deep) = x_shape, g.shape[2:], steps(how)
        y = be.raw.avg_pool2d_backward(g.reshape(n, c, od, oh * ow), x_shape=(n, c, d, oh * ow),
                                       **deep)
        y = be.raw.avg_pool2d_backward(y.reshape(n, c * d, oh, ow), x_shape=(n, c * d, h, w),
                                       **plane)
        return y.reshape(tuple(x_shape))
    def grad_g(o, gg, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override):
        return o.avg_pool3d(gg, kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode,
                            count_include_pad=count_include_pad, divisor_override=divisor_override)


def steps(how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """An average's arguments for the planes and for the depth: the counts multiply."""
    divisor = how["divisor_override"]
    plane = {**how, **{k: tuple(how[k][1:]) for k in ("kernel", "stride", "padding")},
             "divisor_override": None if divisor is None else 1}
    deep = {**how, "kernel": (how["kernel"][0], 1), "stride": (how["stride"][0], 1),
            "padding": (how["padding"][0], 0)}
    return plane, deep


@op("AdaptiveAvgPool3DBackward0")
class adaptive_avg_pool3d:
    """The means of output_size windows that cover the volume."""
    def forward(be, x, *, output_size):
        if x.dtype in HALF:
            return be.in_float32(adaptive_avg_pool3d, x, output_size=output_size)
        od, oh, ow = output_size
        y = be.raw.adaptive_avg_pool2d(slices(x), output_size=(oh, ow))
        y = be.raw.adaptive_avg_pool2d(columns(y, x.shape[1]), output_size=(od, oh * ow))
        return y.reshape(*y.shape[:3], oh, ow)
    def grad_x(o, g, x_shape):
        return o.adaptive_avg_pool3d_backward(g, x_shape=x_shape)


@op("AdaptiveAvgPool3DBackwardBackward0")
class adaptive_avg_pool3d_backward:
    """Every element of g shared out evenly over its window."""
    def forward(be, g, *, x_shape):
        if g.dtype in HALF:
            return be.in_float32(adaptive_avg_pool3d_backward, g, x_shape=x_shape)
        (n, c, d, h, w), (od, oh, ow) = x_shape, g.shape[2:]
        y = be.raw.adaptive_avg_pool2d_backward(g.reshape(n, c, od, oh * ow),
                                                x_shape=(n, c, d, oh * ow))
        y = be.raw.adaptive_avg_pool2d_backward(y.reshape(n, c * d, oh, ow),
                                                x_shape=(n, c * d, h, w))
        return y.reshape(tuple(x_shape))
    def grad_g(o, gg, g_shape):
        return o.adaptive_avg_pool3d(gg, output_size=tuple(g_shape[2:]))


# Back to where maxima were -----------------------------------------------------------------------


@op("MaxUnpool2DBackward0")
class max_unpool:
    """(n, c, p) written to zeros (n, c, size) at places counted in each plane."""
    def forward(be, x, at, *, size):
        n, c, _ = x.shape
        return be.raw.scatter(x, at, shape=(n, c, size), dim=2)
    grad_at = None
    def grad_x(o, g, at):
        return o.gather(g, at, dim=2)
