"""Normalisation: by channel over the batch (batch norm), or within each sample (layer norm).

Both ops return mean and 1 / std as results that have gradients themselves. So the rule of second
order treats them as inputs of their own, nothing is recomputed, and one text serves both norms.
float16 goes through float32; the statistics stay in float32.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpugrad.autograd.op import op


def wide(dtype: Any) -> Any:
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def parts(be: Any, n: int, nbytes: int) -> Iterator[slice]:
    """Parts of n samples of nbytes each that stay in the processor's cache."""
    step = max(1, be.column_bytes // 2 // max(1, nbytes))
    for i in range(0, n, step):
        yield slice(i, min(n, i + step))


# Rules common to both ----------------------------------------------------------------------------
#
# dims: those over which mean and 1 / std are taken, m elements each; mean and r = 1 / std have size
# 1 there, and weight has as many dims as x.

def add_statistics(o: Any, gx: Any, g_mean: Any, g_r: Any, x: Any, mean: Any, r: Any,
                   m: int) -> Any:
    """gx plus what flows back through the mean and 1 / std results; any gradient may be None."""
    if g_mean is not None:
        gx = total(o, gx, o.expand(o.divide_by(g_mean, number=m), shape=x.shape))
    if g_r is not None:
        slope = o.mul(o.divide_by(g_r, number=-m), o.mul(r, o.mul(r, r)))
        gx = total(o, gx, o.mul(o.sub(x, mean), slope))
    return gx


def second_order(o: Any, u: Any, v: Any, t: Any, g: Any, x: Any, weight: Any, mean: Any, r: Any,
                 dims: Any, m: int) -> tuple[Any, ...]:
    """The gradients for g, x, weight, mean and r of the first-order formulas

        h = g * weight,  n = (x - mean) * r
        gx = r * (h - avg(h) - n * avg(h * n)),  gw = g * n,  gb = g

    with u, v, t the gradients of gx, gw, gb in the shape of x, or None. Batch statistics only if
    m > 0; else they are constants, and gx = r * h.
    """
    def avg(a: Any) -> Any:
        return o.divide_by(o.sum(a, dim=dims, keepdim=True), number=m)

    centred = o.sub(x, mean)
    n = o.mul(centred, r)
    for_g = for_n = for_r = for_w = None
    if u is not None:
        h = g if weight is None else o.mul(g, weight)
        back, inner = o.mul(u, r), h
        if m:
            slope, along = avg(o.mul(h, n)), avg(o.mul(back, n))
            inner = o.sub(o.sub(h, avg(h)), o.mul(n, slope))
            for_n = o.neg(o.add(o.mul(back, slope), o.mul(h, along)))
            back = o.sub(o.sub(back, avg(back)), o.mul(n, along))
        for_r = o.sum(o.mul(u, inner), dim=dims, keepdim=True)
        for_g = back if weight is None else o.mul(back, weight)
        for_w = None if weight is None else o.mul(back, g)
    if v is not None:
        for_g = total(o, for_g, o.mul(v, n))
        for_n = total(o, for_n, o.mul(v, g))
    if t is not None:
        for_g = total(o, for_g, t)
    for_x = for_mean = None
    if for_n is not None:
        for_x = o.mul(for_n, r)
        for_mean = o.neg(o.sum(for_x, dim=dims, keepdim=True))
        for_r = total(o, for_r, o.sum(o.mul(for_n, centred), dim=dims, keepdim=True))
    return for_g, for_x, for_w, for_mean, for_r


def total(o: Any, a: Any, b: Any) -> Any:
    return b if a is None else o.add(a, b)


def cast(o: Any, dtype: Any, *values: Any) -> list[Any]:
    """The values, in float32 if dtype is float16."""
    if dtype != np.float16:
        return list(values)
    return [v if v is None else o.to(v, dtype=np.dtype(np.float32)) for v in values]


# Batch norm --------------------------------------------------------------------------------------

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
    grad_mean = grad_var = None
    def grads(o, g0, g1, g2, needs, x, weight, result1, result2, x_shape, x_dtype, training):
        dims, line = channel_dims(x_shape)
        gx = gw = gb = None
        if g0 is not None:
            gx, gw, gb = o.batch_norm_backward(g0, x, weight, result1, result2, training=training)
        if training and (g1 is not None or g2 is not None):
            x, = cast(o, x_dtype, x)
            g1, g2, mean, r = (a if a is None else o.reshape(a, line)
                               for a in (g1, g2, result1, result2))
            gx = add_statistics(o, *cast(o, x_dtype, gx), g1, g2, x, mean, r, count(x_shape, dims))
            gx = gx if x_dtype != np.float16 else o.to(gx, dtype=x_dtype)
        return gx if needs[0] else None, gw if needs[1] else None, gb if needs[2] else None


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
    def grads(o, g0, g1, g2, needs, g, x, weight, mean, invstd, x_shape, x_dtype, training):
        dims, line = channel_dims(x_shape)
        w, mean, r = (a if a is None else o.reshape(a, line) for a in (weight, mean, invstd))
        u, v, t, g, x, w = cast(o, x_dtype, g0, *(a if a is None else o.reshape(a, line)
                                                  for a in (g1, g2)), g, x, w)
        t = t if t is None else o.expand(t, shape=x_shape)
        out = second_order(o, u, v, t, g, x, w, mean, r, dims, count(x_shape, dims) * training)
        gg, gx, gw, gm, gr = out
        c = (x_shape[1],)
        gw, gm, gr = (None if a is None else o.reshape(o.sum_to(a, line), c) for a in (gw, gm, gr))
        if x_dtype == np.float16:
            gg, gx = (a if a is None else o.to(a, dtype=x_dtype) for a in (gg, gx))
        return [a if need else None for a, need in zip((gg, gx, gw, gm, gr), needs)]


def fold(x: Any) -> Any:
    """(n, c, ...) as (n, c, size)."""
    size = 1
    for s in x.shape[2:]:
        size *= s
    return x.reshape(x.shape[0], x.shape[1], size)


def channel_dims(shape: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """All dims but that of the channels, and the shape of one number per channel."""
    return (0, *range(2, len(shape))), (1, shape[1]) + (1,) * (len(shape) - 2)


def count(shape: Any, dims: Any) -> int:
    n = 1
    for d in dims:
        n *= shape[d]
    return n


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


# Layer norm --------------------------------------------------------------------------------------

@op("NativeLayerNormBackward0", outputs=3, diff=3)
class layer_norm:
    """x over its last ``ndim`` dims: (x - mean) / std * weight + bias; also mean and 1 / std.

    weight and bias have the shape of those dims; mean and 1 / std have size 1 there.
    """
    def forward(be, x, weight=None, bias=None, *, ndim, eps=1e-5):
        xp, dtype = be.xp, wide(x.dtype)
        lead, d = x.shape[:x.ndim - ndim], count(x.shape, range(x.ndim - ndim, x.ndim))
        rows = x.reshape(count(lead, range(len(lead))), d)
        out, mean, r = (be.empty((len(rows), k), dtype) for k in (d, 1, 1))
        weight, bias = (a if a is None else a.reshape(d).astype(dtype, copy=False)
                        for a in (weight, bias))
        for part in parts(be, len(rows), d * dtype.itemsize):
            row, y = rows[part].astype(dtype, copy=False), out[part]
            xp.divide(xp.einsum("ij->i", row)[:, None], be.number[d, dtype], out=mean[part])
            xp.subtract(row, mean[part], out=y)
            var = xp.einsum("ij,ij->i", y, y)[:, None] / be.number[d, dtype]
            var += be.number[eps, dtype]
            xp.divide(be.number[1, dtype], xp.sqrt(var), out=r[part])
            y *= r[part]
            if weight is not None:
                y *= weight
            if bias is not None:
                y += bias
        shape = lead + (1,) * ndim
        return (out.reshape(x.shape).astype(x.dtype, copy=False), mean.reshape(shape),
                r.reshape(shape))
    def grads(o, g0, g1, g2, needs, x, weight, result1, result2, x_shape, x_dtype, ndim):
        gx = gw = gb = None
        if g0 is not None:
            gx, gw, gb = o.layer_norm_backward(g0, x, weight, result1, result2, ndim=ndim)
        if g1 is not None or g2 is not None:
            x, = cast(o, x_dtype, x)
            m = count(x_shape, range(len(x_shape) - ndim, len(x_shape)))
            gx = add_statistics(o, *cast(o, x_dtype, gx), g1, g2, x, result1, result2, m)
            gx = gx if x_dtype != np.float16 else o.to(gx, dtype=x_dtype)
        return gx if needs[0] else None, gw if needs[1] else None, gb if needs[2] else None


@op("NativeLayerNormBackwardBackward0", outputs=3, diff=3)
class layer_norm_backward:
    """The gradients of layer_norm for x, weight and bias; r is 1 / std."""
    def forward(be, g, x, weight, mean, r, *, ndim):
        xp, dtype = be.xp, wide(x.dtype)
        d, inner = count(x.shape, range(x.ndim - ndim, x.ndim)), x.shape[x.ndim - ndim:]
        n = count(x.shape, range(x.ndim - ndim))
        slopes, rows, mean, r = (a.reshape(n, k) for a, k in ((g, d), (x, d), (mean, 1), (r, 1)))
        out, gw, gb = be.empty((n, d), dtype), xp.zeros(d, dtype), xp.zeros(d, dtype)
        factor = None if weight is None else weight.reshape(d).astype(dtype, copy=False)
        size = be.number[d, dtype]
        for part in parts(be, n, d * dtype.itemsize):
            slope, y = slopes[part].astype(dtype, copy=False), out[part]
            xp.subtract(rows[part], mean[part], out=y)
            y *= r[part]
            gw += xp.einsum("ij,ij->j", slope, y)
            gb += xp.add.reduce(slope, 0)
            if factor is not None:
                slope = slope * factor
            y *= xp.einsum("ij,ij->i", slope, y)[:, None] / size
            y += xp.einsum("ij->i", slope)[:, None] / size
            xp.subtract(slope, y, out=y)
            y *= r[part]
        own = x.dtype if weight is None else weight.dtype
        gw, gb = (a.reshape(inner).astype(own, copy=False) for a in (gw, gb))
        return out.reshape(x.shape).astype(x.dtype, copy=False), gw, gb
    def grads(o, g0, g1, g2, needs, g, x, weight, mean, r, x_shape, x_dtype, ndim):
        dims = tuple(range(len(x_shape) - ndim, len(x_shape)))
        u, v, t, g, x, w = cast(o, x_dtype, g0, g1, g2, g, x, weight)
        t = t if t is None else o.expand(t, shape=x_shape)
        out = second_order(o, u, v, t, g, x, w, mean, r, dims, count(x_shape, dims))
        gg, gx, gw, gm, gr = out
        gw = gw if gw is None else o.sum_to(gw, tuple(x_shape[len(x_shape) - ndim:]))
        if x_dtype == np.float16:
            gg, gx = (a if a is None else o.to(a, dtype=x_dtype) for a in (gg, gx))
        return [a if need else None for a, need in zip((gg, gx, gw, gm, gr), needs)]
