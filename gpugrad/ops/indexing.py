"""Reading and writing by indices. Masks have become indices before they get here.

The CPU raises for an index outside. CUDA can't tell without waiting: there the kernels of
indexing.cu give NaN for what is read outside, and leave out what is written. Of several values for
one place the last is written, and sums are made in the order of the indices.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad.autograd.inplace import replay
from gpugrad.autograd.op import op
from gpugrad.dtypes import HALF
from gpugrad.ops import places


def fill(indices: Any) -> Any:
    return tuple([slice(None) if i is None else i for i in indices])


@op("ViewScatter", holomorphic=False)
class view_scatter:
    """A copy of base with src written over one view of it."""
    def forward(be, base, src, *, chain):
        out = be.copy(base)
        part = replay(be.raw, out, chain)
        if be.xp.may_share_memory(part, out):
            be.writable(part)[...] = src
        elif part.size:            # base had another layout, for which the chain takes no copy
            at = replay(be.raw, be.xp.arange(out.size).reshape(out.shape), chain)
            out.reshape(-1)[at.reshape(-1)] = be.xp.broadcast_to(src, part.shape).reshape(-1)
        return out
    def grad_base(o, g, chain):
        return o.view_scatter(g, o.zeros_like(replay(o, g, chain)), chain=chain)
    def grad_src(o, g, chain):
        return replay(o, g, chain)


@op("IndexBackward0")
class index:
    """x[indices] with an array of integers, or None for all, for each of the first dims."""
    def forward(be, x, *indices):
        return be.xp.asarray(x[fill(indices)], order="C")    # NumPy may have permuted the memory
    def cuda(be, x, *indices):
        if not be.takes(x.dtype):
            return NotImplemented
        x, first, arrays, _ = places.arranged(x, indices)
        stop = first + len(arrays)
        sizes, after = x.shape[first:stop], x.shape[stop:]
        at, shape = arrays[0], arrays[0].shape
        if len(arrays) > 1:
            at, shape = places.row_places(be, arrays, sizes)
        out = be.empty((*x.shape[:first], *shape, *after), x.dtype)
        places.select(be, x, at, out, math.prod(sizes), math.prod(after))
        return out
    grad_indices = None
    def grad_x(o, g, indices, x_shape):
        return o.index_put(o.new_zeros(g, shape=x_shape), g, *indices, accumulate=True)


@op("IndexSelectBackward0")
class index_select:
    """x at a vector of indices of one dim."""
    def forward(be, x, index, *, dim):
        return be.xp.take(x, index, dim)
    def cuda(be, x, index, *, dim):
        if not be.takes(x.dtype):
            return NotImplemented
        after = x.shape[dim + 1:]
        out = be.empty((*x.shape[:dim], *index.shape, *after), x.dtype)
        places.select(be, x, index, out, x.shape[dim], math.prod(after))
        return out
    grad_index = None
    def grad_x(o, g, index, x_shape, dim):
        return o.index_add(o.new_zeros(g, shape=x_shape), index, g, dim=dim)


@op("IndexAddBackward0", inplace=True)
class index_add:
    """x with src added at a vector of indices of one dim: the transpose of index_select."""
    def forward(be, x, index, src, *, dim):
        return index_put.spec.forward(be, x, src, *[None] * dim, index, accumulate=True)
    def cuda(be, x, index, src, *, dim):
        return index_put.spec.impl[1](be, x, src, *[None] * dim, index, accumulate=True)
    grad_index = None
    def grad_x(o, g):
        return g
    def grad_src(o, g, index, dim):
        return o.index_select(g, index, dim=dim)


@op("IndexPutBackward0", inplace=True)
class index_put:
    """x with values written, or added, at indices."""
    def forward(be, x, values, *indices, accumulate=False):
        if accumulate and x.dtype in HALF:
            return be.in_float32(index_put, x, values, *indices, accumulate=True)
        out = be.copy(x)
        if accumulate:
            be.xp.add.at(out, fill(indices), values)
        else:
            out[fill(indices)] = values
        return out
    def cuda(be, x, values, *indices, accumulate=False):
        if not be.takes(x.dtype) or values.dtype != x.dtype:
            return NotImplemented
        x, first, arrays, order = places.arranged(x, indices)
        stop = first + len(arrays)
        sizes, after = x.shape[first:stop], x.shape[stop:]
        at, shape = places.row_places(be, arrays, sizes)
        while values.ndim > first + len(shape) + len(after) and values.shape[0] == 1:
            values = values[0]
        values = be.xp.broadcast_to(values, (*x.shape[:first], *shape, *after))
        out, write = be.copy(x), places.add if accumulate else places.put
        write(be, out, values, at, math.prod(sizes), math.prod(after))
        return out if order is None else be.copy(out.transpose(np.argsort(order).tolist()))
    grad_indices = None
    def grad_x(o, g, values_shape, indices, accumulate):
        return g if accumulate else o.index_put(g, o.new_zeros(g, shape=values_shape), *indices)
    def grad_values(o, g, values_shape, indices):
        return o.sum_to(o.index(g, *indices), values_shape)


@op("GatherBackward0")
class gather:
    """out[i][j] = x[index[i][j]][j] for dim 0, and so on; index may be smaller than x."""
    def forward(be, x, index, *, dim):
        if any(i != n for d, (i, n) in enumerate(zip(index.shape, x.shape)) if d != dim):
            x = x[tuple(slice(None) if d == dim else slice(i) for d, i in enumerate(index.shape))]
        return be.xp.asarray(be.xp.take_along_axis(x, index, dim), order="C")
    def cuda(be, x, index, *, dim):
        how = places.along(index.shape, x.shape, dim)
        if how is None or not be.takes(x.dtype):
            return NotImplemented
        out = be.empty(index.shape, x.dtype)
        be.kernels.each("indexing", "gather", x.dtype, out.size,
                        (be._dense(x), places.as_index(be, index), out), how)
        return out
    grad_index = None
    def grad_x(o, g, index, x_shape, dim):
        return o.scatter_add(o.new_zeros(g, shape=x_shape), index, g, dim=dim)


@op("ScatterBackward0")
class scatter:
    """Zeros of ``shape`` with g at index along dim, whose positions are distinct."""
    def forward(be, g, index, *, shape, dim):
        out = be.xp.zeros(shape, g.dtype)
        be.xp.put_along_axis(out, index, g, dim)
        return out
    def cuda(be, g, index, *, shape, dim):
        how = places.along(index.shape, shape, dim)
        if how is None or not be.takes(g.dtype):
            return NotImplemented
        out = be.xp.zeros(tuple(shape), g.dtype)
        be.kernels.each("indexing", "scatter", g.dtype, index.size,
                        (be._dense(g), places.as_index(be, index), out), how)
        return out
    grad_index = None
    def grad_g(o, gg, index, dim):
        return o.gather(gg, index, dim=dim)


@op("ScatterAddBackward0", inplace=True)
class scatter_add:
    """x with src added at index along dim: the transpose of gather."""
    def forward(be, x, index, src, *, dim):
        if x.dtype in HALF:
            return be.in_float32(scatter_add, x, index, src, dim=dim)
        out = be.copy(x)
        src = src[tuple([slice(n) for n in index.shape])]
        where = [be.xp.arange(n).reshape((-1,) + (1,) * (index.ndim - d - 1))
                 for d, n in enumerate(index.shape)]
        where[dim] = index
        be.xp.add.at(out, tuple(where), src)
        return out
    def cuda(be, x, index, src, *, dim):
        if not be.takes(x.dtype) or src.dtype != x.dtype:
            return NotImplemented
        at = places.element_places(be, index, x.shape, dim)
        if at is None:
            return NotImplemented
        out = be.copy(x)
        places.add(be, out, src[tuple([slice(n) for n in index.shape])], at, x.size, 1)
        return out
    grad_index = None
    def grad_x(o, g):
        return g
    def grad_src(o, g, index, src_shape, dim):
        return o.pad_to(o.gather(g, index, dim=dim), shape=src_shape)


@op("SliceBackwardBackward0")
class pad_to:
    """Zeros of ``shape`` with g in the first corner."""
    def forward(be, g, *, shape):
        if g.shape == tuple(shape):
            return be.copy(g)
        out = be.xp.zeros(shape, g.dtype)
        out[tuple([slice(n) for n in g.shape])] = g
        return out
    def grad_g(o, gg, g_shape):
        for d, n in enumerate(g_shape):
            gg = o.slice_(gg, dim=d, start=0, stop=n)
        return gg
