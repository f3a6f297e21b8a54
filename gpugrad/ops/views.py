"""Views by strides, windows of one dim, and copies with one view written over."""
from __future__ import annotations

import numpy as np

from gpugrad.autograd.op import op
from gpugrad.backend.columns import strided
from gpugrad.layouts import as_images, as_pixels, in_pixels, is_last
from gpugrad.ops.shape import inverse

# Strides -----------------------------------------------------------------------------------------
#
# size, stride and start describe the result, strides the input: all in elements, start counted from
# the input's first element. Gradients have other strides than the input had; for them the same
# elements are found by their places.


def extent(shape, strides):
    """How many elements lie between the first and the last, both included."""
    return 1 + sum([(n - 1) * s for n, s in zip(shape, strides)]) if 0 not in shape else 0


def places(shape, strides, start=0):
    """Where the elements lie, as int64 of NumPy."""
    at = np.full(shape, start, np.int64)
    for d, (n, s) in enumerate(zip(shape, strides)):
        at += (np.arange(n) * s).reshape((-1,) + (1,) * (len(shape) - d - 1))
    return at


def elements(be, x, shape, strides):
    """x, in memory of these strides, as one dim; elements that share a place are averaged."""
    n = extent(shape, strides)
    at = places(shape, strides).reshape(-1)
    memory = be.xp.zeros((n,), x.dtype)
    counts = np.bincount(at, minlength=n)
    if not at.size or counts.max() == 1:
        memory[be.from_host(at)] = x.reshape(-1)
        return memory
    memory = be.raw.index_put(memory, x.reshape(-1), be.from_host(at), accumulate=True)
    return memory / be.from_host(np.maximum(counts, 1).astype(np.int64)).astype(x.dtype)


@op("AsStridedBackward0", view=True)
class as_strided:
    """Any elements of x's memory, found by strides."""
    def forward(be, x, *, size, stride, start, strides):
        width = x.dtype.itemsize
        last = start + extent(size, stride)
        have = extent(x.shape, strides)
        same = all([n == 1 or s == t * width for n, s, t in zip(x.shape, x.strides, strides)])
        if same and 0 <= start and last <= have:
            flat = strided(be.xp, x, (have,), (width,))
            return strided(be.xp, flat[start:], size, tuple([s * width for s in stride]))
        at = places(size, stride, start)
        inside = (at >= 0) & (at < have)
        memory = elements(be, x, x.shape, strides)
        if not have:
            return be.xp.zeros(size, x.dtype)
        out = memory[be.from_host(np.where(inside, at, 0))]
        return be.keep(out, be.from_host(inside))
    def grad_x(o, g, x_shape, size, stride, start, strides):
        return o.as_strided_backward(g, shape=x_shape, size=size, stride=stride, start=start,
                                     strides=strides)


@op("AsStridedBackwardBackward0")
class as_strided_backward:
    """as_strided's transpose: zeros of ``shape`` with g added where its elements came from."""
    def forward(be, g, *, shape, size, stride, start, strides):
        n = extent(shape, strides)
        at = places(size, stride, start).reshape(-1)
        at = np.where((at >= 0) & (at < n), at, n)           # what lies outside is dropped
        memory = be.raw.index_put(be.xp.zeros((n + 1,), g.dtype), g.reshape(-1), be.from_host(at),
                                  accumulate=True)
        source = places(shape, strides)
        counts = np.bincount(source.reshape(-1), minlength=n + 1)
        if source.size and counts.max() > 1:
            memory = memory / be.from_host(np.maximum(counts, 1)).astype(g.dtype)
        return memory[be.from_host(source)]
    def grad_g(o, gg, size, stride, start, strides):
        return o.as_strided(gg, size=size, stride=stride, start=start, strides=strides)


@op("AsStridedScatterBackward0")
class as_strided_scatter:
    """A copy of x with src written where as_strided would read."""
    def forward(be, x, src, *, size, stride, start, strides):
        n = extent(x.shape, strides)
        memory = elements(be, x, x.shape, strides)
        at = places(size, stride, start)
        if at.size and (at.min() < 0 or at.max() >= n):
            raise RuntimeError("as_strided_scatter: sizes and strides reach outside the tensor")
        memory = be.raw.index_put(memory, src.reshape(-1), be.from_host(at.reshape(-1)))
        return memory[be.from_host(places(x.shape, strides))]
    def grad_x(o, g, src_shape, size, stride, start, strides):
        return o.as_strided_scatter(g, o.new_zeros(g, shape=src_shape), size=size, stride=stride,
                                    start=start, strides=strides)
    def grad_src(o, g, size, stride, start, strides):
        return o.as_strided(g, size=size, stride=stride, start=start, strides=strides)


# Windows of one dim ------------------------------------------------------------------------------


@op("UnfoldBackward0", view=True)
class unfold_dim:
    """Windows of ``size`` elements of a dim, ``step`` apart; their elements are a new last dim."""
    def forward(be, x, *, dim, size, step):
        n = (x.shape[dim] - size) // step + 1
        shape = (*x.shape[:dim], n, *x.shape[dim + 1:], size)
        s = x.strides
        return be.xp.lib.stride_tricks.as_strided(
            x, shape, (*s[:dim], s[dim] * step, *s[dim + 1:], s[dim]))
    def grad_x(o, g, x_shape, dim, size, step):
        return o.unfold_backward(g, shape=x_shape, dim=dim, size=size, step=step)


@op("UnfoldBackwardBackward0")
class unfold_backward:
    """unfold_dim's transpose: each element of a window added to where it came from."""
    def forward(be, g, *, shape, dim, size, step):
        out, front = be.xp.zeros(shape, g.dtype), (slice(None),) * dim
        n = g.shape[dim]
        if size <= n:                            # the shorter of the two loops
            for i in range(size):
                at = (*front, slice(i, i + (n - 1) * step + 1, step))
                out[at] += g[..., i]
        else:
            for i in range(n):
                at = (*front, slice(i * step, i * step + size))
                one = (*front, i)
                out[at] += be.xp.moveaxis(g[one], -1, dim)
        return out
    def grad_g(o, gg, dim, size, step):
        return o.unfold_dim(gg, dim=dim, size=size, step=step)


# Copies with one view written over ---------------------------------------------------------------


def written(be, x, src, view):
    out = be.copy(x)
    view(out)[...] = src
    return out


@op("SelectScatterBackward0")
class select_scatter:
    """A copy of x with src at one index of one dim."""
    def forward(be, x, src, *, dim, index):
        return written(be, x, src, lambda a: be.raw.select(a, dim=dim, index=index))
    def grad_x(o, g, src_shape, dim, index):
        return o.select_scatter(g, o.new_zeros(g, shape=src_shape), dim=dim, index=index)
    def grad_src(o, g, dim, index):
        return o.select(g, dim=dim, index=index)


@op("SliceScatterBackward0")
class slice_scatter:
    """A copy of x with src at start:stop:step of one dim."""
    def forward(be, x, src, *, dim, start, stop, step):
        return written(be, x, src, lambda a: be.raw.slice_(a, dim=dim, start=start, stop=stop,
                                                           step=step))
    def grad_x(o, g, src_shape, dim, start, stop, step):
        return o.slice_scatter(g, o.new_zeros(g, shape=src_shape), dim=dim, start=start, stop=stop,
                               step=step)
    def grad_src(o, g, dim, start, stop, step):
        return o.slice_(g, dim=dim, start=start, stop=stop, step=step)


@op("DiagonalScatterBackward0")
class diagonal_scatter:
    """A copy of x with src on a diagonal."""
    def forward(be, x, src, *, offset, dim1, dim2):
        return written(be, x, src, lambda a: be.diagonal(a, offset, dim1, dim2))
    def grad_x(o, g, src_shape, offset, dim1, dim2):
        return o.diagonal_scatter(g, o.new_zeros(g, shape=src_shape), offset=offset, dim1=dim1,
                                  dim2=dim2)
    def grad_src(o, g, offset, dim1, dim2):
        return o.diagonal(g, offset=offset, dim1=dim1, dim2=dim2)


@op("DiagEmbedBackward0")
class diag_embed:
    """The last dim on a diagonal of matrices of n by n that are zero elsewhere."""
    def forward(be, x, *, offset, dim1, dim2, n):
        shape = list(x.shape[:-1])
        for d in sorted((dim1, dim2)):
            shape.insert(d, n)
        return be.raw.diagonal_backward(x, shape=tuple(shape), offset=offset, dim1=dim1, dim2=dim2)
    def grad_x(o, g, offset, dim1, dim2):
        return o.diagonal(g, offset=offset, dim1=dim1, dim2=dim2)


# Rearrangements ----------------------------------------------------------------------------------


@op("RollBackward0")
class roll:
    """The elements moved along some dims; those pushed out come in again at the other end.

    Without dims, as if x were flat.
    """
    def forward(be, x, *, shifts, dims):
        if dims and is_last(x):
            return as_images(roll.spec.forward(be, as_pixels(x), shifts=shifts, dims=tuple([
                in_pixels(d, x.ndim) for d in dims])))
        out = be.xp.roll(x, shifts, dims) if dims else be.xp.roll(x, shifts[0])
        return be.xp.asarray(out, order="C")     # NumPy keeps x's order of memory
    def grad_x(o, g, shifts, dims):
        return o.roll(g, shifts=tuple([-s for s in shifts]), dims=dims)


@op("Rot90Backward0")
class rot90:
    """A copy turned k times, 0 to 3, by 90 degrees, from the first dim towards the second."""
    def forward(be, x, *, k, dims):
        turned = be.copy(be.xp.flip(x, (None, dims[1], dims, dims[0])[k]) if k else x)
        return turned.swapaxes(*dims) if k % 2 else turned
    def grad_x(o, g, k, dims):
        return o.rot90(g, k=-k % 4, dims=dims)


@op("BlockDiagBackward0")
class block_diag:
    """Matrices one below and to the right of the other, zeros around them."""
    def forward(be, *xs):
        out = be.xp.zeros((sum([x.shape[0] for x in xs]), sum([x.shape[1] for x in xs])),
                          xs[0].dtype)
        i = j = 0
        for x in xs:
            out[i:i + x.shape[0], j:j + x.shape[1]] = x
            i, j = i + x.shape[0], j + x.shape[1]
        return out
    def grads(o, g, needs, xs_shape):
        out, i, j = [], 0, 0
        for need, (m, n) in zip(needs, xs_shape):
            rows = o.slice_(g, dim=0, start=i, stop=i + m) if need else None
            out.append(o.slice_(rows, dim=1, start=j, stop=j + n) if need else None)
            i, j = i + m, j + n
        return out


@op("CloneBackward0")
class clone_ordered:
    """A copy whose dims lie in memory in this order, the one with the longest step first."""
    def forward(be, x, *, order):
        return be.copy(x.transpose(order)).transpose(inverse(order))
    def grad_x(o, g):
        return g
