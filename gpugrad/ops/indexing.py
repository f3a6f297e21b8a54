"""Reading and writing by indices. Masks have become indices before they get here."""
from __future__ import annotations

from gpugrad.autograd.inplace import replay
from gpugrad.autograd.op import op


def fill(indices):
    return tuple([slice(None) if i is None else i for i in indices])


@op("ViewScatter")
class view_scatter:
    """A copy of base with src written over one view of it."""
    def forward(be, base, src, *, chain):
        out = be.copy(base)
        replay(be.raw, out, chain)[...] = src
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
    grad_indices = None
    def grad_x(o, g, indices, x_shape):
        return o.index_put(o.new_zeros(g, shape=x_shape), g, *indices, accumulate=True)


@op("IndexSelectBackward0")
class index_select:
    """x at a vector of indices of one dim."""
    def forward(be, x, index, *, dim):
        return be.xp.take(x, index, dim)
    grad_index = None
    def grad_x(o, g, index, x_shape, dim):
        return o.index_put(o.new_zeros(g, shape=x_shape), g, *[None] * dim, index, accumulate=True)


@op("IndexPutBackward0", inplace=True)
class index_put:
    """x with values written, or added, at indices."""
    def forward(be, x, values, *indices, accumulate=False):
        out = be.copy(x)
        if accumulate:
            be.xp.add.at(out, fill(indices), values)
        else:
            out[fill(indices)] = values
        return out
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
    grad_index = None
    def grad_g(o, gg, index, dim):
        return o.gather(gg, index, dim=dim)


@op("ScatterAddBackward0", inplace=True)
class scatter_add:
    """x with src added at index along dim: the transpose of gather."""
    def forward(be, x, index, src, *, dim):
        out = be.copy(x)
        src = src[tuple([slice(n) for n in index.shape])]
        where = [be.xp.arange(n).reshape((-1,) + (1,) * (index.ndim - d - 1))
                 for d, n in enumerate(index.shape)]
        where[dim] = index
        be.xp.add.at(out, tuple(where), src)
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
