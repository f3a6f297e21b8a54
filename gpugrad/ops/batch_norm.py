"""Batch norm: each channel to mean 0 and variance 1, over the batch and all places."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.autograd.op import op
from gpugrad.backend.compiled import FLOAT, dense, for_floats
from gpugrad.backend.kernels import acc
from gpugrad.dtypes import wide
from gpugrad.layouts import is_last
from gpugrad.ops.channels import as_rows, channel_moments, launch, of_rows, plan
from gpugrad.ops.norm import (
    add_statistics,
    affine,
    cast,
    cast_back,
    count,
    needed,
    parameter,
    parts,
    second_order,
)


@op("NativeBatchNormBackward0", outputs=3, diff=3)
class batch_norm:
    """x (n, c, ...) by channel: (x - mean) / std * weight + bias; also the mean and 1 / std used.

    In training they are those of x; otherwise they come from ``mean`` and ``var``.
    """
    def forward(be, x, weight=None, bias=None, mean=None, var=None, *, training=True, eps=1e-5):
        xp, dtype = be.xp, wide(x.dtype)
        images = fold(x)
        n, c, size = images.shape
        if training:
            mean, var = moments(be, images, dtype)
        else:
            mean = mean.astype(dtype)
        invstd = 1 / xp.sqrt(var.astype(dtype, copy=False) + be.number[eps, dtype])
        slope = invstd if weight is None else invstd * weight
        shift = -mean * slope if bias is None else bias - mean * slope
        slope, shift = (a.astype(dtype, copy=False)[:, None] for a in (slope, shift))
        out = be.empty(images.shape, dtype)
        for part in parts(be, n, c * size * out.itemsize):
            result = out[part]
            xp.multiply(images[part], slope, out=result)
            result += shift
        return out.reshape(x.shape).astype(x.dtype, copy=False), mean, invstd
    def cpu(be, x, weight=None, bias=None, mean=None, var=None, *, training=True, eps=1e-5):
        c = for_floats(x, weight, bias, mean, var)
        if c is None:
            return NotImplemented
        n, channels, inner = fold(x).shape
        if training:
            mean, r = pair(be, channels, FLOAT)
        else:
            mean, r = mean.copy(), 1 / np.sqrt(var + be.number[eps, FLOAT])
        out = np.empty(x.shape, FLOAT)
        c.batch_norm(dense(x), dense(weight), dense(bias), out, mean, r, n, inner, eps, training)
        return out, mean, r
    def cuda(be, x, weight=None, bias=None, mean=None, var=None, *, training=True, eps=1e-5):
        if not be.kernels.take(x.dtype) or not x.size:
            return NotImplemented
        if is_last(x):
            out, used, invstd = batch_norm.spec.impl[be.index](
                be, as_rows(be, x), weight, bias, mean, var, training=training, eps=eps)
            return of_rows(out, x.shape), used, invstd
        x, dtype = be._dense(x), x.dtype
        n, c, size = fold(x).shape
        out, (used, invstd) = be.empty(x.shape, dtype), pair(be, (c,), wide(dtype))
        at = plan(n, c, size)
        if training:
            mean, var = channel_moments(be, x, at)
            given = at.struct
        else:
            mean, var = parameter(be, mean, dtype), parameter(be, var, dtype)
            given = at.struct.copy()
            given["parts"] = 0
        launch(be, "batch_norm", "batch_norm", dtype, at, (
            x, parameter(be, weight, dtype, mean), parameter(be, bias, dtype, mean), mean, var, out,
            used, invstd, given, acc(eps, dtype), affine(weight, bias)))
        return out, used, invstd
    grad_mean = grad_var = None
    def grads(o, g0, g1, g2, needs, x, weight, result1, result2, x_shape, x_dtype, training):
        dims, line = channel_dims(x_shape)
        gx = gw = gb = None
        if g0 is not None:
            gx, gw, gb = o.batch_norm_backward(g0, x, weight, result1, result2, training=training)
        if training and (g1 is not None or g2 is not None):
            g1, g2, mean, r = (a if a is None else o.reshape(a, line)
                               for a in (g1, g2, result1, result2))
            x, gx = cast(o, x_dtype, x, gx)
            gx = add_statistics(o, gx, g1, g2, x, mean, r, count(x_shape, dims))
            gx, = cast_back(o, x_dtype, gx)
        return needed(needs, gx, gw, gb)


@op("NativeBatchNormBackwardBackward0", outputs=3, diff=3)
class batch_norm_backward:
    """The gradients of batch_norm for x, weight and bias; invstd is 1 / std."""
    def forward(be, g, x, weight, mean, invstd, *, training):
        xp, dtype = be.xp, wide(x.dtype)
        slopes, images = fold(g), fold(x)
        n, c, size = images.shape
        centre, out = mean[:, None], be.empty(images.shape, dtype)
        gb, gw = xp.zeros(c, dtype), xp.zeros(c, dtype)
        for part in parts(be, n, c * size * out.itemsize):
            slope, centred = slopes[part].astype(dtype, copy=False), out[part]
            xp.subtract(images[part], centre, out=centred)
            gb += xp.einsum("ncl->c", slope)
            gw += xp.einsum("ncl,ncl->c", slope, centred)
        gw *= invstd
        scale = invstd if weight is None else invstd * weight.astype(dtype, copy=False)
        # gx = scale * (g - gb / m - (x - mean) * invstd * gw / m)
        m = be.number[n * size, dtype]
        tilt, shift = (-scale * invstd * gw / m)[:, None], (scale * gb / m)[:, None]
        for part in parts(be, n, c * size * out.itemsize):
            slope, result = slopes[part].astype(dtype, copy=False), out[part]
            if not training:
                xp.multiply(slope, scale[:, None], out=result)
                continue
            result *= tilt                       # it holds x - mean
            result -= shift
            result += slope * scale[:, None]
        own = x.dtype if weight is None else weight.dtype
        return (out.reshape(x.shape).astype(x.dtype, copy=False), gw.astype(own, copy=False),
                gb.astype(own, copy=False))
    def cpu(be, g, x, weight, mean, invstd, *, training):
        c = for_floats(g, x, weight, mean, invstd)
        if c is None:
            return NotImplemented
        n, channels, inner = fold(x).shape
        out, (gw, gb) = np.empty(x.shape, FLOAT), pair(be, channels, FLOAT)
        c.batch_norm_backward(dense(g), dense(x), dense(weight), dense(mean), dense(invstd), out,
                              gw, gb, n, inner, training)
        return out, gw, gb
    def cuda(be, g, x, weight, mean, invstd, *, training):
        if not be.kernels.take(x.dtype) or g.dtype != x.dtype or not x.size:
            return NotImplemented
        if is_last(x):
            gx, gw, gb = batch_norm_backward.spec.impl[be.index](
                be, as_rows(be, g), as_rows(be, x), weight, mean, invstd, training=training)
            return of_rows(gx, x.shape), gw, gb
        g, x, mean, invstd = (be._dense(g), be._dense(x), parameter(be, mean, x.dtype),
                              parameter(be, invstd, x.dtype))
        n, c, size = fold(x).shape
        at = plan(n, c, size)
        gx, (gw, gb) = be.empty(x.shape, x.dtype), pair(be, (c,), mean.dtype)
        sums = channel_products(be, g, x, mean, at, 1)
        launch(be, "batch_norm", "batch_norm_backward", x.dtype, at, (
            g, x, parameter(be, weight, x.dtype, mean), mean, invstd, *sums, gx, gw, gb, at.struct,
            np.int32(training), affine(weight)))
        own = x.dtype if weight is None else weight.dtype
        return gx, gw.astype(own, copy=False), gb.astype(own, copy=False)
    def grads(o, g0, g1, g2, needs, g, x, weight, mean, invstd, x_shape, x_dtype, weight_dtype,
              training):
        dims, line = channel_dims(x_shape)
        w, mean, r = (a if a is None else o.reshape(a, line) for a in (weight, mean, invstd))
        u, v, t, g, x, w = cast(o, x_dtype, g0, *(a if a is None else o.reshape(a, line)
                                                  for a in (g1, g2)), g, x, w)
        t = t if t is None else o.expand(t, shape=x_shape)
        out = second_order(o, u, v, t, g, x, w, mean, r, dims, count(x_shape, dims) * training)
        gg, gx, gw, gm, gr = out
        gw, gm, gr = (None if a is None else o.reshape(o.sum_to(a, line), (x_shape[1],))
                      for a in (gw, gm, gr))
        gg, gx = cast_back(o, x_dtype, gg, gx)
        gw, = cast_back(o, weight_dtype, gw)
        return needed(needs, gg, gx, gw, gm, gr)


@op(outputs=2)
class moved_statistics:
    """running_mean and running_var moved by ``share`` towards those of a batch of m per channel.

    mean and invstd are results of batch_norm.
    """
    def forward(be, running_mean, running_var, mean, invstd, *, share, m, eps):
        var = (invstd ** -2 - eps) * (m / max(m - 1, 1))        # without bias
        new = (old * (1 - share) + a * share for old, a in ((running_mean, mean),
                                                            (running_var, var)))
        return tuple([a.astype(running_mean.dtype, copy=False) for a in new])
    def cuda(be, running_mean, running_var, mean, invstd, *, share, m, eps):
        dtype = running_mean.dtype
        if not be.kernels.take(dtype) or running_var.dtype != dtype:
            return NotImplemented
        return move(be, be._dense(running_mean), be._dense(running_var), mean, invstd,
                    pair(be, mean.shape, dtype), share=share, m=m, eps=eps)


def move(be: Any, running_mean: Any, running_var: Any, mean: Any, invstd: Any, new: Any, *,
         share: float, m: int, eps: float) -> Any:
    """moved_statistics by a kernel, into ``new``, which may be the running ones."""
    dtype = running_mean.dtype
    be.kernels.each("batch_norm", "moved_statistics", dtype, mean.size, (
        running_mean, running_var, parameter(be, mean, dtype), parameter(be, invstd, dtype), *new),
        *[acc(v, dtype) for v in (share, m / max(m - 1, 1), eps)])
    return new


def channel_products(be: Any, g: Any, x: Any, mean: Any, at: Any, share: int) -> Any:
    """Sums over the parts of channels of g and of g * (x - mean); ``share`` channels to a mean."""
    sums = pair(be, (at.parts, int(at.struct["c"])), mean.dtype)
    launch(be, "batch_norm", "batch_norm_sums", x.dtype, at,
           (g, x, mean, *sums, at.struct, np.int32(share)))
    return sums


def pair(be: Any, shape: Any, dtype: Any) -> tuple[Any, Any]:
    return be.empty(shape, dtype), be.empty(shape, dtype)


def fold(x: Any) -> Any:
    """(n, c, ...) as (n, c, size)."""
    size = 1
    for s in x.shape[2:]:
        size *= s
    return x.reshape(x.shape[0], x.shape[1], size)


def channel_dims(shape: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """All dims but that of the channels, and the shape of one number per channel."""
    return (0, *range(2, len(shape))), (1, shape[1]) + (1,) * (len(shape) - 2)


def moments(be: Any, images: Any, dtype: Any) -> tuple[Any, Any]:
    """Mean and mean squared distance from it, by channel."""
    xp = be.xp
    n, c, size = images.shape
    m = be.number[n * size, dtype]
    # einsum adds up rows in order, without the buffers of a sum over dims that lie apart
    mean = xp.einsum("ncl->c", images.astype(dtype, copy=False)) / m
    var = xp.zeros(c, dtype)
    for part in parts(be, n, c * size * dtype.itemsize):
        some = images[part]
        centred = be.workspace("centred", some.shape, dtype)
        xp.subtract(some, mean[:, None], out=centred)
        var += xp.einsum("ncl,ncl->c", centred, centred)
    return mean, var / m
