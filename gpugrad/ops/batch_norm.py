"""Batch norm: each channel to mean 0 and variance 1, over the batch and all places."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.autograd.op import op
from gpugrad.backend.compiled import FLOAT, dense, for_floats
from gpugrad.backend.kernels import ACC
from gpugrad.dtypes import wide
from gpugrad.layouts import is_last
from gpugrad.ops.channels import Plan, as_rows, channel_moments, launch, of_rows, plan
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

NOWHERE = (np.uint64(0),) * 3       # where arrays would lie that a kernel doesn't look at


@op("NativeBatchNormBackward0", outputs=3, diff=3)
class batch_norm:
    """x (n, c, ...) by channel: (x - mean) / std * weight + bias; also the mean and 1 / std used.

    In training they are those of x; otherwise they come from ``mean`` and ``var``. out, on CUDA:
    running mean and variance that are moved by ``share``, as moved_statistics does, and perhaps a
    counter of batches; the statistics are of x's dtype, or that of its sums.
    """
    def forward(be, x, weight=None, bias=None, mean=None, var=None, *, training=True, eps=1e-5,
                share=0.0, out=()):
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

        def work(part):
            result = out[part]
            xp.multiply(images[part], slope, out=result)
            result += shift

        be.share(work, parts(be, n, c * size * out.itemsize), out.size * be.element_cost)
        return out.reshape(x.shape).astype(x.dtype, copy=False), mean, invstd
    def cpu(be, x, weight=None, bias=None, mean=None, var=None, *, training=True, eps=1e-5,
            share=0.0, out=()):
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
    def cuda(be, x, weight=None, bias=None, mean=None, var=None, *, training=True, eps=1e-5,
             share=0.0, out=()):
        if not be.kernels.take(x.dtype) or not x.size:
            return NotImplemented
        return normalise(be, "batch_norm", x, (), weight, bias, mean, var, training, eps, share,
                         out)
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
        gb, gw = sums = xp.zeros((2, c), dtype)

        def centre_and_sum(part):
            slope, centred = slopes[part].astype(dtype, copy=False), out[part]
            xp.subtract(images[part], centre, out=centred)
            some = xp.empty_like(sums)
            some[0], some[1] = xp.einsum("ncl->c", slope), xp.einsum("ncl,ncl->c", slope, centred)
            return some

        nbytes = c * size * out.itemsize
        be.share(centre_and_sum, parts(be, n, nbytes), out.size * be.element_cost, sums.__iadd__)
        gw *= invstd
        scale = invstd if weight is None else invstd * weight.astype(dtype, copy=False)
        # gx = scale * (g - gb / m - (x - mean) * invstd * gw / m)
        m = be.number[n * size, dtype]
        tilt, shift = (-scale * invstd * gw / m)[:, None], (scale * gb / m)[:, None]

        def slant(part):
            slope, result = slopes[part].astype(dtype, copy=False), out[part]
            if not training:
                xp.multiply(slope, scale[:, None], out=result)
                return
            result *= tilt                       # it holds x - mean
            result -= shift
            result += slope * scale[:, None]

        be.share(slant, parts(be, n, nbytes), out.size * be.element_cost)
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
        last, at, (a, g) = laid(be, x, g)
        mean, invstd = parameter(be, mean, x.dtype), parameter(be, invstd, x.dtype)
        return slopes(be, "batch_norm_backward", last, at, x, weight, (
            g, a, parameter(be, weight, x.dtype, mean), mean, invstd,
            *channel_products(be, g, a, mean, at, 1)), training, affine(weight))
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


def normalise(be: Any, name: str, x: Any, more: Any, weight: Any, bias: Any, mean: Any, var: Any,
              training: bool, eps: float, share: float, out: Any) -> tuple[Any, Any, Any]:
    """Batch norm by kernel ``name``; more: (), or a residual or None where that takes one."""
    c, kind = x.shape[1], x.dtype
    last, at, (a, *more) = laid(be, x, *more)
    dtype, number, given = wide(kind), ACC[kind.itemsize], at.struct
    y, used = be.empty(a.shape, kind), pair(be, (c,), dtype)
    if training:
        mean, var = channel_moments(be, a, at)
    else:
        mean, var, given = parameter(be, mean, dtype), parameter(be, var, dtype), given.copy()
        given["parts"] = 0
    bits, running, unbias = (weight is not None) + 2 * (bias is not None), NOWHERE, 1.0
    if more and more[0] is not None:
        bits += 4
    if out:
        bits += 8 + 16 * (out[0].dtype != dtype) + 32 * (len(out) > 2)
        running, m = (*out, *NOWHERE)[:3], x.size // c
        unbias = m / max(m - 1, 1)
    launch(be, "batch_norm", name, kind, at, (
        a, *[a if b is None else b for b in more], parameter(be, weight, dtype, mean),
        parameter(be, bias, dtype, mean), mean, var, y, *used, *running, given, number(eps),
        np.int32(bits), number(share), number(unbias)))
    return of_rows(y, x.shape) if last else y, *used


def laid(be: Any, x: Any, *others: Any) -> tuple[bool, Plan, list[Any]]:
    """Is x, (n, c, ...), channels_last? How kernels go over it, and it and others of its shape as
    they read them; None stays None."""
    last = is_last(x)
    arrays = [a if a is None else as_rows(be, a) if last else be._dense(a) for a in (x, *others)]
    return last, plan(*fold(arrays[0]).shape), arrays


def slopes(be: Any, name: str, last: bool, at: Plan, x: Any, weight: Any, arrays: Any,
           training: bool, bits: Any) -> tuple[Any, Any, Any]:
    """The gradients for x, weight and bias by kernel ``name`` of (g, x, ...), laid as ``laid`` has
    it."""
    dtype = x.dtype
    gx, (gw, gb) = be.empty(arrays[1].shape, dtype), pair(be, (x.shape[1],), wide(dtype))
    launch(be, "batch_norm", name, dtype, at, (*arrays, gx, gw, gb, at.struct, np.int32(training),
                                               bits))
    own = dtype if weight is None else weight.dtype
    gw, gb = gw.astype(own, copy=False), gb.astype(own, copy=False)
    return of_rows(gx, x.shape) if last else gx, gw, gb


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
    mean, var = xp.zeros(c, dtype), xp.zeros(c, dtype)

    # einsum adds up rows in order, without the buffers of a sum over dims that lie apart
    def sums(part: slice) -> Any:
        return xp.einsum("ncl->c", images[part].astype(dtype, copy=False))

    def squares(part: slice) -> Any:
        some = images[part]
        centred = be.workspace("centred", some.shape, dtype)
        xp.subtract(some, mean[:, None], out=centred)
        return xp.einsum("ncl,ncl->c", centred, centred)

    nbytes, cost = c * size * dtype.itemsize, images.size * be.element_cost
    be.share(sums, parts(be, n, nbytes), cost, mean.__iadd__)
    mean /= m
    be.share(squares, parts(be, n, nbytes), cost, var.__iadd__)
    var /= m
    return mean, var
