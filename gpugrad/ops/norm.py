"""Normalisation of each sample by itself, over its last dims: layer norm and RMS norm.

The norms here, in batch_norm.py and in group_norm.py return mean and 1 / std as results that have
gradients themselves. So the rule of second order treats them as inputs of their own, nothing is
recomputed, and one text serves all norms. The dtypes of 16 bits go through float32; their
statistics stay in float32.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpugrad.autograd.op import op
from gpugrad.backend.compiled import ABSENT, FLOAT, dense, for_floats
from gpugrad.backend.kernels import acc, row_block
from gpugrad.dtypes import HALF, wide
from gpugrad.ops.channels import launch, plan

TEAMS = 512             # blocks of a backward kernel, each with sums of its own for the parameters


def parts(be: Any, n: int, nbytes: int) -> Iterator[slice]:
    """Parts of n samples of nbytes each that stay in the processor's cache."""
    step = max(1, be.column_bytes // 2 // max(1, nbytes))
    for i in range(0, n, step):
        yield slice(i, min(n, i + step))


def count(shape: Any, dims: Any) -> int:
    n = 1
    for d in dims:
        n *= shape[d]
    return n


# Rules common to all norms -----------------------------------------------------------------------
#
# dims: those over which mean and 1 / std are taken, m elements each; mean and r = 1 / std have size
# 1 there, and weight has as many dims as x. RMS norm has no mean: it is None.

def add_statistics(o: Any, gx: Any, g_mean: Any, g_r: Any, x: Any, mean: Any, r: Any,
                   m: int) -> Any:
    """gx plus what flows back through the mean and 1 / std results; any gradient may be None."""
    if g_mean is not None:
        gx = total(o, gx, o.expand(o.divide_by(g_mean, number=m), shape=x.shape))
    if g_r is not None:
        slope = o.mul(o.divide_by(g_r, number=-m), o.mul(r, o.mul(r, r)))
        gx = total(o, gx, o.mul(x if mean is None else o.sub(x, mean), slope))
    return gx


def second_order(o: Any, u: Any, v: Any, t: Any, g: Any, x: Any, weight: Any, mean: Any, r: Any,
                 dims: Any, m: int) -> tuple[Any, ...]:
    """The gradients for g, x, weight, mean and r of the first-order formulas

        h = g * weight,  n = (x - mean) * r
        gx = r * (h - avg(h) - n * avg(h * n)),  gw = g * n,  gb = g

    with u, v, t the gradients of gx, gw, gb in the shape of x, or None. Batch statistics only if
    m > 0; else they are constants, and gx = r * h. Without a mean there is no avg(h).
    """
    def avg(a: Any) -> Any:
        return o.divide_by(o.sum(a, dim=dims, keepdim=True), number=m)

    centred = x if mean is None else o.sub(x, mean)
    n = o.mul(centred, r)
    for_g = for_n = for_r = for_w = None
    if u is not None:
        h = g if weight is None else o.mul(g, weight)
        back, inner = o.mul(u, r), h
        if m:
            slope, along = avg(o.mul(h, n)), avg(o.mul(back, n))
            inner = o.sub(h if mean is None else o.sub(h, avg(h)), o.mul(n, slope))
            for_n = o.neg(o.add(o.mul(back, slope), o.mul(h, along)))
            back = o.sub(back if mean is None else o.sub(back, avg(back)), o.mul(n, along))
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
        for_mean = None if mean is None else o.neg(o.sum(for_x, dim=dims, keepdim=True))
        for_r = total(o, for_r, o.sum(o.mul(for_n, centred), dim=dims, keepdim=True))
    return for_g, for_x, for_w, for_mean, for_r


def total(o: Any, a: Any, b: Any) -> Any:
    return b if a is None else o.add(a, b)


def cast(o: Any, dtype: Any, *values: Any) -> list[Any]:
    """The values, in float32 if dtype has 16 bits."""
    if dtype not in HALF:
        return list(values)
    return [v if v is None else o.to(v, dtype=np.dtype(np.float32)) for v in values]


def cast_back(o: Any, dtype: Any, *values: Any) -> list[Any]:
    """The values in dtype if it has 16 bits."""
    return [o.to(v, dtype=dtype) if v is not None and dtype in HALF else v for v in values]


def needed(needs: Any, *values: Any) -> list[Any]:
    """The gradients, None where nobody needs one."""
    return [a if need else None for a, need in zip(values, needs)]


# For the kernels, whose parameters and statistics are in the dtype that they calculate in --------

def parameter(be: Any, a: Any, dtype: Any, absent: Any = None) -> Any:
    """A parameter or statistic as kernels for ``dtype`` read it; ``absent`` if there is none."""
    return absent if a is None else be._dense(a.astype(wide(dtype), copy=False))


def affine(weight: Any, bias: Any = None) -> Any:
    """Which of the two there are."""
    return np.int32((weight is not None) + 2 * (bias is not None))


def rows_of(x: Any, ndim: int) -> tuple[int, int]:
    """How many rows x has if its last ``ndim`` dims are one, and their length."""
    lead = x.ndim - ndim
    return count(x.shape, range(lead)), count(x.shape, range(lead, x.ndim))


def takes_rows(be: Any, ndim: int, *arrays: Any) -> bool:
    """Are there kernels for arrays of this dtype, shape and number of elements?"""
    x = arrays[0]
    return be.kernels.take(x.dtype) and x.size and rows_of(x, ndim)[1] < 1 << 30 and all(
        a.dtype == x.dtype for a in arrays)


def by_teams(be: Any, name: str, g: Any, x: Any, weight: Any, statistics: Any, ndim: int,
             results: int, more: Any = None, inplace: bool = False) -> tuple[Any, Any]:
    """Run a backward kernel of layer_norm.cu: gx, and the ``results`` gradients of parameters.

    more: what gx is added to; in its memory if ``inplace``.
    """
    rows, length = rows_of(x, ndim)
    across, down = row_block(length)
    blocks = min(TEAMS, -(-rows // down))
    gx, dtype = more if inplace else be.empty(x.shape, x.dtype), wide(x.dtype)
    sums = be.empty((blocks * down, results * length), dtype)
    used = [parameter(be, a, x.dtype) for a in statistics]
    be.kernels.launch("layer_norm", name, (blocks,), (across, down), (
        be._dense(g), be._dense(x), parameter(be, weight, x.dtype, used[0]), *used,
        gx if more is None else be._dense(more), gx, sums, np.int64(rows), np.int64(length),
        affine(weight), np.int32(more is not None)), x.dtype)
    own = x.dtype if weight is None else weight.dtype
    as_own = own if wide(own) == dtype else dtype
    slopes = [be.empty(x.shape[x.ndim - ndim:], as_own) for _ in range(results)]
    at = plan(len(sums), results * length, 1, 1)
    at = at._replace(struct=at.struct.copy())
    at.struct["parts"] = len(sums)
    launch(be, "layer_norm", "parameter_slopes", as_own, at,
           (sums, slopes[0], slopes[-1], at.struct, np.int64(length)), whole=True)
    return gx, [a.astype(own, copy=False) for a in slopes]


def block_sums(n: int, d: int, results: int) -> Any:
    """Memory for the sums of the helper's blocks of rows, whose number depends on shapes alone."""
    return np.empty((min(64, -(-n * d // 16384), n), results, d), FLOAT)


def helped_slopes(g: Any, x: Any, weight: Any, mean: Any, r: Any, ndim: int) -> Any:
    """The gradients of layer_norm, or without a mean of rms_norm, by the compiled helper."""
    c = for_floats(g, x, weight, mean, r)
    if c is None:
        return NotImplemented
    (n, d), inner = rows_of(x, ndim), x.shape[x.ndim - ndim:]
    out, sums = np.empty(x.shape, FLOAT), np.empty((2, d), FLOAT)
    c.layer_norm_backward(dense(g), dense(x), dense(weight), dense(mean), dense(r), out,
                          block_sums(n, d, 2), sums)
    return out, sums[0].reshape(inner), sums[1].reshape(inner)


# Layer norm --------------------------------------------------------------------------------------

@op("NativeLayerNormBackward0", outputs=3, diff=3)
class layer_norm:
    """x over its last ``ndim`` dims: (x - mean) / std * weight + bias; also mean and 1 / std.

    weight and bias have the shape of those dims; mean and 1 / std have size 1 there.
    """
    def forward(be, x, weight=None, bias=None, *, ndim, eps=1e-5):
        xp, dtype, lead = be.xp, wide(x.dtype), x.shape[:x.ndim - ndim]
        n, d = rows_of(x, ndim)
        rows = x.reshape(n, d)
        out, mean, r = (be.empty((n, k), dtype) for k in (d, 1, 1))
        weight, bias = (a if a is None else a.reshape(d).astype(dtype, copy=False)
                        for a in (weight, bias))

        def work(part):
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

        be.share(work, parts(be, n, d * dtype.itemsize), out.size * be.element_cost)
        shape = lead + (1,) * ndim
        return (out.reshape(x.shape).astype(x.dtype, copy=False), mean.reshape(shape),
                r.reshape(shape))
    def cpu(be, x, weight=None, bias=None, *, ndim, eps=1e-5):
        c = for_floats(x, weight, bias)
        if c is None:
            return NotImplemented
        out, shape = np.empty(x.shape, FLOAT), x.shape[:x.ndim - ndim] + (1,) * ndim
        mean, r = np.empty(shape, FLOAT), np.empty(shape, FLOAT)
        c.norm_rows(dense(x), dense(weight), dense(bias), out, mean, r, 1, 1, eps)
        return out, mean, r
    def cuda(be, x, weight=None, bias=None, *, ndim, eps=1e-5):
        if not takes_rows(be, ndim, x):
            return NotImplemented
        dtype, shape = wide(x.dtype), x.shape[:x.ndim - ndim] + (1,) * ndim
        out, mean, r = (be.empty(s, d) for s, d in ((x.shape, x.dtype), (shape, dtype),
                                                    (shape, dtype)))
        be.kernels.rows("layer_norm", "layer_norm", x.dtype, *rows_of(x, ndim), (
            be._dense(x), parameter(be, weight, x.dtype, mean), parameter(be, bias, x.dtype, mean),
            out, mean, r), acc(eps, x.dtype), affine(weight, bias))
        return out, mean, r
    def grads(o, g0, g1, g2, needs, x, weight, result1, result2, x_shape, x_dtype, ndim):
        gx = gw = gb = None
        if g0 is not None:
            gx, gw, gb = o.layer_norm_backward(g0, x, weight, result1, result2, ndim=ndim)
        if g1 is not None or g2 is not None:
            m = count(x_shape, range(len(x_shape) - ndim, len(x_shape)))
            x, gx = cast(o, x_dtype, x, gx)
            gx, = cast_back(o, x_dtype, add_statistics(o, gx, g1, g2, x, result1, result2, m))
        return needed(needs, gx, gw, gb)


@op("NativeLayerNormBackwardBackward0", outputs=3, diff=3)
class layer_norm_backward:
    """The gradients of layer_norm for x, weight and bias; r is 1 / std."""
    def forward(be, g, x, weight, mean, r, *, ndim):
        xp, dtype, inner = be.xp, wide(x.dtype), x.shape[x.ndim - ndim:]
        n, d = rows_of(x, ndim)
        slopes, rows, mean, r = (a.reshape(n, k) for a, k in ((g, d), (x, d), (mean, 1), (r, 1)))
        out, sums = be.empty((n, d), dtype), xp.zeros((2, d), dtype)
        factor = None if weight is None else weight.reshape(d).astype(dtype, copy=False)
        size = be.number[d, dtype]

        def work(part):
            slope, y = slopes[part].astype(dtype, copy=False), out[part]
            xp.subtract(rows[part], mean[part], out=y)
            y *= r[part]
            some = xp.empty_like(sums)
            some[0], some[1] = xp.einsum("ij,ij->j", slope, y), xp.add.reduce(slope, 0)
            if factor is not None:
                slope = slope * factor
            y *= xp.einsum("ij,ij->i", slope, y)[:, None] / size
            y += xp.einsum("ij->i", slope)[:, None] / size
            xp.subtract(slope, y, out=y)
            y *= r[part]
            return some

        be.share(work, parts(be, n, d * dtype.itemsize), out.size * be.element_cost, sums.__iadd__)
        own = x.dtype if weight is None else weight.dtype
        gw, gb = (a.reshape(inner).astype(own, copy=False) for a in sums)
        return out.reshape(x.shape).astype(x.dtype, copy=False), gw, gb
    def cpu(be, g, x, weight, mean, r, *, ndim):
        return helped_slopes(g, x, weight, mean, r, ndim)
    def cuda(be, g, x, weight, mean, r, *, ndim):
        if not takes_rows(be, ndim, x, g):
            return NotImplemented
        gx, (gw, gb) = by_teams(be, "layer_norm_backward", g, x, weight, (mean, r), ndim, 2)
        return gx, gw, gb
    def grads(o, g0, g1, g2, needs, g, x, weight, mean, r, x_shape, x_dtype, weight_dtype, ndim):
        dims = tuple(range(len(x_shape) - ndim, len(x_shape)))
        u, v, t, g, x, w = cast(o, x_dtype, g0, g1, g2, g, x, weight)
        t = t if t is None else o.expand(t, shape=x_shape)
        gg, gx, gw, gm, gr = second_order(o, u, v, t, g, x, w, mean, r, dims, count(x_shape, dims))
        gw = gw if gw is None else o.sum_to(gw, tuple(x_shape[len(x_shape) - ndim:]))
        gg, gx = cast_back(o, x_dtype, gg, gx)
        gw, = cast_back(o, weight_dtype, gw)
        return needed(needs, gg, gx, gw, gm, gr)


# RMS norm ----------------------------------------------------------------------------------------

@op("FusedRmsNormBackward0", outputs=2, diff=2)
class rms_norm:
    """x over its last ``ndim`` dims: x * r * weight with r = 1 / sqrt(mean of squares + eps).

    Also r, which has size 1 in those dims. weight has their shape.
    """
    def forward(be, x, weight=None, *, ndim, eps):
        xp, dtype, lead = be.xp, wide(x.dtype), x.shape[:x.ndim - ndim]
        n, d = rows_of(x, ndim)
        rows, out, r = x.reshape(n, d), be.empty((n, d), dtype), be.empty((n, 1), dtype)
        factor = weight if weight is None else weight.reshape(d).astype(dtype, copy=False)

        def work(part):
            row, y = rows[part].astype(dtype, copy=False), out[part]
            square = xp.einsum("ij,ij->i", row, row)[:, None] / be.number[d, dtype]
            square += be.number[eps, dtype]
            xp.divide(be.number[1, dtype], xp.sqrt(square), out=r[part])
            xp.multiply(row, r[part], out=y)
            if factor is not None:
                y *= factor

        be.share(work, parts(be, n, d * dtype.itemsize), out.size * be.element_cost)
        return out.reshape(x.shape).astype(x.dtype, copy=False), r.reshape(lead + (1,) * ndim)
    def cpu(be, x, weight=None, *, ndim, eps):
        c = for_floats(x, weight)
        if c is None:
            return NotImplemented
        out = np.empty(x.shape, FLOAT)
        r = np.empty(x.shape[:x.ndim - ndim] + (1,) * ndim, FLOAT)
        c.norm_rows(dense(x), dense(weight), ABSENT, out, ABSENT, r, 1, 1, eps)
        return out, r
    def cuda(be, x, weight=None, *, ndim, eps):
        if not takes_rows(be, ndim, x):
            return NotImplemented
        out = be.empty(x.shape, x.dtype)
        r = be.empty(x.shape[:x.ndim - ndim] + (1,) * ndim, wide(x.dtype))
        be.kernels.rows("layer_norm", "rms_norm", x.dtype, *rows_of(x, ndim), (
            be._dense(x), parameter(be, weight, x.dtype, r), out, r), acc(eps, x.dtype),
            affine(weight))
        return out, r
    def grads(o, g0, g1, needs, x, weight, result1, x_shape, x_dtype, ndim):
        gx = gw = None
        if g0 is not None:
            gx, gw = o.rms_norm_backward(g0, x, weight, result1, ndim=ndim)
        if g1 is not None:
            m = count(x_shape, range(len(x_shape) - ndim, len(x_shape)))
            x, gx = cast(o, x_dtype, x, gx)
            gx, = cast_back(o, x_dtype, add_statistics(o, gx, None, g1, x, None, result1, m))
        return needed(needs, gx, gw)


@op("FusedRmsNormBackwardBackward0", outputs=2, diff=2)
class rms_norm_backward:
    """The gradients of rms_norm for x and weight."""
    def forward(be, g, x, weight, r, *, ndim):
        xp, dtype, inner = be.xp, wide(x.dtype), x.shape[x.ndim - ndim:]
        n, d = rows_of(x, ndim)
        slopes, rows, r = (a.reshape(n, k) for a, k in ((g, d), (x, d), (r, 1)))
        out, gw = be.empty((n, d), dtype), xp.zeros(d, dtype)
        factor = None if weight is None else weight.reshape(d).astype(dtype, copy=False)
        size = be.number[d, dtype]

        def work(part):
            slope, y = slopes[part].astype(dtype, copy=False), out[part]
            xp.multiply(rows[part], r[part], out=y)
            some = xp.einsum("ij,ij->j", slope, y)
            if factor is not None:
                slope = slope * factor
            y *= xp.einsum("ij,ij->i", slope, y)[:, None] / size
            xp.subtract(slope, y, out=y)
            y *= r[part]
            return some

        be.share(work, parts(be, n, d * dtype.itemsize), out.size * be.element_cost, gw.__iadd__)
        own = x.dtype if weight is None else weight.dtype
        return (out.reshape(x.shape).astype(x.dtype, copy=False),
                gw.reshape(inner).astype(own, copy=False))
    def cpu(be, g, x, weight, r, *, ndim):
        found = helped_slopes(g, x, weight, None, r, ndim)
        return found if found is NotImplemented else found[:2]
    def cuda(be, g, x, weight, r, *, ndim):
        if not takes_rows(be, ndim, x, g):
            return NotImplemented
        gx, (gw,) = by_teams(be, "rms_norm_backward", g, x, weight, (r,), ndim, 1)
        return gx, gw
    def grads(o, g0, g1, needs, g, x, weight, r, x_shape, x_dtype, weight_dtype, ndim):
        dims = tuple(range(len(x_shape) - ndim, len(x_shape)))
        u, v, g, x, w = cast(o, x_dtype, g0, g1, g, x, weight)
        gg, gx, gw, _, gr = second_order(o, u, v, None, g, x, w, None, r, dims,
                                         count(x_shape, dims))
        gw = gw if gw is None else o.sum_to(gw, tuple(x_shape[len(x_shape) - ndim:]))
        gg, gx = cast_back(o, x_dtype, gg, gx)
        gw, = cast_back(o, weight_dtype, gw)
        return needed(needs, gg, gx, gw, gr)
