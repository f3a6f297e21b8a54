"""Writing, adding and reducing by places: take and put, scatter and its reductions, masks.

As in indexing.py the last of several values for one place is written, and reductions run in the
order of the indices. src and index of a scatter have one shape here.
"""
from __future__ import annotations

import math

import numpy as np

from gpugrad import dtypes
from gpugrad.autograd.op import op
from gpugrad.dtypes import HALF
from gpugrad.ops import places

# Places in the flattened tensor ------------------------------------------------------------------


@op("TakeBackward0")
class take:
    """x at places in the flattened tensor."""
    def forward(be, x, index):
        return be.raw.index_select(x.reshape(-1), index.reshape(-1), dim=0).reshape(index.shape)
    grad_index = None
    def grad_x(o, g, index, x_shape):
        return o.put(o.new_zeros(g, shape=x_shape), index, g, accumulate=True)


@op("PutBackward0", inplace=True)
class put:
    """x with source written, or added, at places in the flattened tensor."""
    def forward(be, x, index, source, *, accumulate=False):
        return be.raw.index_put(x.reshape(-1), source.reshape(-1), index.reshape(-1),
                                accumulate=accumulate).reshape(x.shape)
    grad_index = None
    def grad_x(o, g, index, source_shape, accumulate):
        return g if accumulate else o.put(g, index, o.new_zeros(g, shape=source_shape))
    def grad_source(o, g, index, source_shape):
        return o.reshape(o.take(g, index), source_shape)


# A vector of indices of one dim ------------------------------------------------------------------


@op("IndexCopyBackward0", inplace=True)
class index_copy:
    """x with src written at a vector of indices of one dim."""
    def forward(be, x, index, src, *, dim):
        return be.raw.index_put(x, src, *[None] * dim, index)
    grad_index = None
    def grad_x(o, g, index, dim):
        return o.index_fill(g, index, dim=dim, value=0)
    def grad_src(o, g, index, dim):
        return o.index_select(g, index, dim=dim)


@op("IndexFillBackward0", inplace=True)
class index_fill:
    """x with a number at a vector of indices of one dim."""
    def forward(be, x, index, *, dim, value):
        return be.raw.index_put(x, be.scalar(value, x.dtype), *[None] * dim, index)
    grad_index = None
    def grad_x(o, g, index, dim):
        return o.index_fill(g, index, dim=dim, value=0)


@op("IndexFillBackward1", inplace=True)
class index_fill_with:
    """x with a 0-dim tensor at a vector of indices of one dim."""
    def forward(be, x, index, value, *, dim):
        return be.raw.index_put(x, value, *[None] * dim, index)
    grad_index = None
    def grad_x(o, g, index, dim):
        return o.index_fill(g, index, dim=dim, value=0)
    def grad_value(o, g, index, dim):
        return o.sum_all(o.mul(g, o.index_fill(o.zeros_like(g), index, dim=dim, value=1)))


# Masks -------------------------------------------------------------------------------------------


def ranks(be, mask):
    """For each True, in C order, how many come before it."""
    return be.xp.cumsum(mask.reshape(-1), dtype=np.int64) - 1


@op("MaskedSelectBackward0")
class masked_select:
    """The elements where the mask holds, both broadcast, as a vector."""
    def forward(be, x, mask):
        shape = np.broadcast_shapes(x.shape, mask.shape)
        return be.xp.broadcast_to(x, shape)[be.xp.broadcast_to(mask, shape)]
    grad_mask = None
    def grad_x(o, g, mask, x_shape):
        shape = np.broadcast_shapes(x_shape, tuple(mask.shape))
        return o.sum_to(o.masked_scatter(o.new_zeros(g, shape=shape), mask, g), x_shape)


@op("MaskedScatterBackward0", inplace=True)
class masked_scatter:
    """x with the elements of source, one after the other, where the mask holds."""
    def forward(be, x, mask, source):
        xp = be.xp
        shape = np.broadcast_shapes(x.shape, mask.shape)
        if not source.size:
            return be.copy(xp.broadcast_to(x, shape))
        mask = xp.broadcast_to(mask, shape)
        at = xp.clip(ranks(be, mask), 0, source.size - 1)
        return xp.where(mask, xp.take(source.reshape(-1), at).reshape(shape), x)
    grad_mask = None
    def grad_x(o, g, mask, x_shape):
        return o.sum_to(o.drop_where(g, mask), x_shape)
    def grad_source(o, g, mask, source_shape):
        return o.masked_scatter_backward(g, mask, shape=source_shape)


@op("MaskedScatterBackwardBackward0")
class masked_scatter_backward:
    """Zeros of ``shape``, whose first elements are those of g where the mask holds."""
    def forward(be, g, mask, *, shape):
        xp, n = be.xp, math.prod(shape)
        mask = xp.broadcast_to(mask, g.shape)
        at = xp.where(mask.reshape(-1), xp.clip(ranks(be, mask), -1, n), n)
        out = be.raw.index_put(xp.zeros((n + 1,), g.dtype), g.reshape(-1), at)
        return out[:n].reshape(shape)
    grad_mask = None
    def grad_g(o, gg, mask, g_shape):
        return o.masked_scatter(o.new_zeros(gg, shape=g_shape), mask, gg)


# Scatter -----------------------------------------------------------------------------------------


def flat_places(be, index, shape, dim):
    """The flat places that an index for gather and scatter names; the size of ``shape`` if it is
    outside.
    """
    xp, stride, at = be.xp, 1, 0
    for d in range(len(shape) - 1, -1, -1):
        if d == dim:
            along = index.astype(np.int64, copy=False)
        else:
            along = xp.arange(index.shape[d]).reshape((-1,) + (1,) * (index.ndim - d - 1))
        at = at + along * stride
        stride *= shape[d]
    return xp.where((index >= 0) & (index < shape[dim]), at, stride).reshape(-1)


@op("ScatterBackward0", inplace=True)
class scatter_into:
    """x with src written at index along dim."""
    def forward(be, x, index, src, *, dim):
        out = be.copy(x)
        part = out[tuple([slice(None) if d == dim else slice(n)
                          for d, n in enumerate(index.shape)])]
        be.xp.put_along_axis(part, index, src, dim)
        return out
    def cuda(be, x, index, src, *, dim):
        if not be.takes(x.dtype) or src.dtype != x.dtype:
            return NotImplemented
        out = be.copy(x)
        places.put(be, out, src, flat_places(be, index, x.shape, dim), x.size, 1)
        return out
    grad_index = None
    def grad_x(o, g, index, dim):
        return o.scatter_value(g, index, dim=dim, value=0)
    def grad_src(o, g, index, dim):
        return o.gather(g, index, dim=dim)


@op("ScatterBackward1", inplace=True)
class scatter_value:
    """x with a number at index along dim."""
    def forward(be, x, index, *, dim, value):
        src = be.xp.broadcast_to(be.asarray(be.scalar(value, x.dtype)), index.shape)
        return be.raw.scatter_into(x, index, src, dim=dim)
    grad_index = None
    def grad_x(o, g, index, dim):
        return o.scatter_value(g, index, dim=dim, value=0)


# Reductions: the ufunc, and what it starts from.
UFUNCS = {"prod": "multiply", "amax": "maximum", "amin": "minimum"}


def start_of(reduce, dtype):
    """The number that changes nothing in a reduction."""
    if reduce == "prod":
        return 1
    if reduce in ("sum", "mean"):
        return 0
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return int(limits.min if reduce == "amax" else limits.max)
    if dtype.kind == "b":
        return reduce == "amin"
    return -math.inf if reduce == "amax" else math.inf


def reduced(be, x, index, src, dim, reduce, include_self, combine):
    """scatter_reduce's forward; ``combine`` is how this device reduces by places."""
    dtype = x.dtype
    if not index.size:
        return be.copy(x)
    if dtype in HALF:
        x, src = x.astype(np.float32), src.astype(np.float32)
    start = start_of(reduce, x.dtype)
    if not include_self:
        x = be.raw.scatter_value(x, index, dim=dim, value=start)
    if reduce in ("sum", "mean"):
        out = be.raw.scatter_add(x, index, src, dim=dim)
        if reduce == "mean":
            out = mean_of(be, out, index, dim, include_self)
    else:
        at, ufunc = flat_places(be, index, x.shape, dim), getattr(be.xp, UFUNCS[reduce])
        out = combine(be, x, at, src.reshape(-1), ufunc, start)
    return out.astype(dtype, copy=False)


def one_by_one(be, x, at, v, ufunc, start):
    """x reduced with v at flat places, by NumPy's own loop."""
    out = be.copy(x)
    ufunc.at(out.reshape(-1), at, v)
    return out


def in_sorted_runs(be, x, at, v, ufunc, start):
    """x reduced with v at flat places: sorted by place, then by doubling steps along each run.

    No host reads and no atomics, so CUDA gives the same bits every time.
    """
    xp, n = be.xp, at.size
    order = xp.argsort(at, kind="stable")
    at, v, step = at[order], v[order], 1
    while step < n:
        same = at[step:] == at[:-step]
        v = xp.concatenate([v[:step], xp.where(same, ufunc(v[:-step], v[step:]), v[step:])])
        step *= 2
    each = xp.arange(x.size)
    last = xp.maximum(xp.searchsorted(at, each, side="right") - 1, 0)
    found = at[last] == each
    total = xp.where(found, v[last], be.scalar(start, x.dtype)).astype(x.dtype, copy=False)
    return ufunc(x.reshape(-1), total).reshape(x.shape)


@op("ScatterReduceBackward0", inplace=True)
class scatter_reduce:
    """x reduced with src at index along dim; without include_self x's own elements don't count.

    reduce: sum, mean, prod, amax or amin.
    """
    def forward(be, x, index, src, *, dim, reduce, include_self):
        return reduced(be, x, index, src, dim, reduce, include_self, one_by_one)
    def cuda(be, x, index, src, *, dim, reduce, include_self):
        return reduced(be, x, index, src, dim, reduce, include_self, in_sorted_runs)
    grad_index = None
    def grad_x(o, g, x, index, src, result, dim, reduce, include_self):
        if reduce == "mean":
            g = o.div(g, counts_of(o, x, index, dim, include_self))
        elif reduce == "prod":
            ones = o.shift(o.zeros_like(x), number=1)
            safe = o.where(o.eq(x, 0), ones, x)
            g = o.div(o.mul(g, o.scatter_reduce(safe, index, src, dim=dim, reduce=reduce,
                                                include_self=include_self)), safe)
        elif reduce in ("amax", "amin"):
            g = o.div(g, ties_of(o, x, index, src, result, dim))
            g = o.mul(g, o.to(o.eq(x, result), dtype=dtype_of(x)))
        return g if include_self else o.scatter_value(g, index, dim=dim, value=0)
    def grad_src(o, g, x, index, src, result, dim, reduce, include_self):
        if reduce == "mean":
            g = o.div(g, counts_of(o, x, index, dim, include_self))
        elif reduce == "prod":
            zero = o.eq(src, 0)
            found = o.scatter_add(o.zeros_like(x), index, o.to(zero, dtype=dtype_of(src)), dim=dim)
            single = o.logical_and(zero, o.eq(o.gather(found, index, dim=dim), 1))
            ones = o.shift(o.zeros_like(src), number=1)
            others = o.scatter_reduce(x, index, o.where(single, ones, src), dim=dim,
                                      reduce=reduce, include_self=include_self)
            usual = o.div(o.gather(o.mul(g, result), index, dim=dim), o.where(zero, ones, src))
            return o.where(single, o.gather(o.mul(g, others), index, dim=dim), usual)
        elif reduce in ("amax", "amin"):
            g = o.div(g, ties_of(o, x, index, src, result, dim))
            mine = o.eq(src, o.gather(result, index, dim=dim))
            return o.mul(o.gather(g, index, dim=dim), o.to(mine, dtype=dtype_of(src)))
        return o.gather(g, index, dim=dim)


def dtype_of(x):
    """The array dtype at either level."""
    return getattr(x, "_a", x).dtype


def counts_of(o, x, index, dim, include_self):
    """How many elements each place's mean is of, at least 1."""
    n = o.shift(o.zeros_like(x), number=int(include_self))
    one = o.shift(o.gather(o.zeros_like(x), index, dim=dim), number=1)
    n = o.scatter_add(n, index, one, dim=dim)
    return o.maximum(n, o.shift(o.zeros_like(x), number=1))


def ties_of(o, x, index, src, result, dim):
    """How many elements share each place's extreme: the gradient is theirs in equal parts."""
    dtype = dtype_of(x)
    mine = o.to(o.eq(x, result), dtype=dtype)
    theirs = o.to(o.eq(src, o.gather(result, index, dim=dim)), dtype=dtype)
    return o.scatter_add(mine, index, theirs, dim=dim)


def mean_of(be, total, index, dim, include_self):
    xp = be.xp
    n = xp.full(total.shape, int(include_self), np.int64)
    n = be.raw.scatter_add(n, index, xp.ones(index.shape, np.int64), dim=dim)
    n = xp.maximum(n, 1).astype(total.dtype, copy=False)
    return total / n if total.dtype.kind in dtypes.INEXACT else total // n
