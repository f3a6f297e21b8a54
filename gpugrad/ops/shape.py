"""Views and rearrangements. Ops take dims as non-negative numbers."""
from __future__ import annotations

from gpugrad.autograd.op import composite, op
from gpugrad.autograd.rules import tensors
from gpugrad.layouts import as_images, as_pixels, in_pixels, is_last


def inverse(dims):
    """The permutation that undoes another."""
    out = [0] * len(dims)
    for i, d in enumerate(dims):
        out[d] = i
    return tuple(out)


def check_expand(have, want):
    """RuntimeError if one shape can't be expanded to another; -1 keeps a size."""
    extra = len(want) - len(have)
    for i, n in enumerate(want):
        old = have[i - extra] if i >= extra else None
        if n == -1 and old is None:
            raise RuntimeError("The expanded size of the tensor (-1) isn't allowed in a leading, "
                               f"non-existing dimension {i}")
        if n < -1 or (n != -1 and old not in (None, 1, n)):
            raise RuntimeError(f"The expanded size of the tensor ({n}) must match the existing "
                               f"size ({old}) at non-singleton dimension {i}.  Target sizes: "
                               f"{list(want)}.  Tensor sizes: {list(have)}")


@composite
def reshape(o, x, shape):
    return x.reshape(shape)                      # arrays and Tensors both have the method


@op("ExpandBackward0", view=True)
class expand:
    """Dims of size 1 repeated, without a copy."""
    def forward(be, x, *, shape):
        return be.expand(x, shape)
    def grad_x(o, g, x_shape):
        return o.sum_to(g, x_shape)


@op("ViewBackward0", view=True)
class view:
    """The same elements in another shape; the caller knows that it takes no copy."""
    def forward(be, x, *, shape):
        return x.reshape(shape)
    def grad_x(o, g, x_shape):
        return o.reshape(g, x_shape)


@op("UnsafeViewBackward0")
class unsafe_view:
    """The reshape of a fresh copy that nobody else sees: not a view for autograd."""
    def forward(be, x, *, shape):
        return x.reshape(shape)
    def grad_x(o, g, x_shape):
        return o.reshape(g, x_shape)


@op("PermuteBackward0", view=True)
class permute:
    def forward(be, x, *, dims):
        return x.transpose(dims)
    def grad_x(o, g, dims):
        return o.permute(g, dims=inverse(dims))


@op("TransposeBackward0", view=True)
class transpose:
    """Two dims swapped; here they may be negative."""
    def forward(be, x, *, dim0, dim1):
        return x.swapaxes(dim0, dim1)
    def grad_x(o, g, dim0, dim1):
        return o.transpose(g, dim0=dim0, dim1=dim1)


@op("TBackward0", view=True)
class t:
    """A matrix transposed."""
    def forward(be, x):
        return x.T
    def grad_x(o, g):
        return o.t(g)


@op("UnsqueezeBackward0", view=True)
class unsqueeze:
    """A new dim of size 1."""
    def forward(be, x, *, dim):
        return x[(slice(None),) * dim + (None,)]             # expand_dims takes ten times as long
    def grad_x(o, g, x_shape):
        return o.reshape(g, x_shape)


@op("SqueezeBackward1", view=True)
class squeeze:
    """Dims of size 1 taken away: the tuple says which."""
    def forward(be, x, *, dim):
        return x.squeeze(dim)
    def grad_x(o, g, x_shape):
        return o.reshape(g, x_shape)


@op("SqueezeBackward0", view=True)
class squeeze_all:
    """Every dim of size 1 taken away."""
    def forward(be, x):
        return x.squeeze()
    def grad_x(o, g, x_shape):
        return o.reshape(g, x_shape)


@op("SelectBackward0", view=True)
class select:
    """One index of one dim, which goes away."""
    def forward(be, x, *, dim, index):
        return x[(slice(None),) * dim + (index, Ellipsis)]
    def grad_x(o, g, x_shape, dim, index):
        return o.select_backward(g, shape=x_shape, dim=dim, index=index)


@op("SelectBackwardBackward0")
class select_backward:
    """Zeros of ``shape`` with g at one index of one dim."""
    def forward(be, g, *, shape, dim, index):
        out = be.xp.zeros(shape, g.dtype)
        out[(slice(None),) * dim + (index,)] = g
        return out
    def grad_g(o, gg, dim, index):
        return o.select(gg, dim=dim, index=index)


@op("SliceBackward0", view=True)
class slice_:
    """start:stop:step of one dim, with 0 <= start <= stop <= size and step > 0."""
    def forward(be, x, *, dim, start, stop, step=1):
        return x[(slice(None),) * dim + (slice(start, stop, step),)]
    def grad_x(o, g, x_shape, dim, start, stop, step):
        return o.slice_backward(g, shape=x_shape, dim=dim, start=start, stop=stop, step=step)


@op("SliceBackwardBackward0")
class slice_backward:
    """Zeros of ``shape`` with g at a slice of one dim."""
    def forward(be, g, *, shape, dim, start, stop, step):
        out = be.xp.zeros(shape, g.dtype)
        out[(slice(None),) * dim + (slice(start, stop, step),)] = g
        return out
    def grad_g(o, gg, dim, start, stop, step):
        return o.slice_(gg, dim=dim, start=start, stop=stop, step=step)


@op("DiagonalBackward0", view=True)
class diagonal:
    """The diagonal of two dims, as a last dim."""
    def forward(be, x, *, offset=0, dim1=0, dim2=1):
        return be.diagonal(x, offset, dim1, dim2)
    def grad_x(o, g, x_shape, offset, dim1, dim2):
        return o.diagonal_backward(g, shape=x_shape, offset=offset, dim1=dim1, dim2=dim2)


@op("DiagonalBackwardBackward0")
class diagonal_backward:
    """Zeros of ``shape`` with g on a diagonal."""
    def forward(be, g, *, shape, offset, dim1, dim2):
        out = be.xp.zeros(shape, g.dtype)
        be.diagonal(out, offset, dim1, dim2)[...] = g
        return out
    def grad_g(o, gg, offset, dim1, dim2):
        return o.diagonal(gg, offset=offset, dim1=dim1, dim2=dim2)


# Several results ---------------------------------------------------------------------------------


@op("UnbindBackward0", outputs=None)
class unbind:
    """Every index of one dim; functions/shape.py makes the results views."""
    def forward(be, x, *, dim=0):
        front = (slice(None),) * dim
        return [x[front + (i, Ellipsis)] for i in range(x.shape[dim])]
    def grad_x(o, gs, x_shape, dim):
        some = next(g for g in gs if g is not None)
        part = x_shape[:dim] + x_shape[dim + 1:]
        return o.stack(*[o.new_zeros(some, shape=part) if g is None else g for g in gs], dim=dim,
                       **reusing(o))


def parts_of(be, x, *, sizes, dim=0):
    front, out, at = (slice(None),) * dim, [], 0
    for n in sizes:
        out.append(x[front + (slice(at, at + n),)])
        at += n
    return out


def joined(o, gs, x_shape, sizes, dim):
    some = next(g for g in gs if g is not None)
    front, back = x_shape[:dim], x_shape[dim + 1:]
    parts = [o.new_zeros(some, shape=(*front, n, *back)) if g is None else g
             for g, n in zip(gs, sizes)]
    return o.cat(*parts, dim=dim, **reusing(o))


@op("SplitBackward0", outputs=None)
class split:
    """Consecutive parts of one dim, of these sizes; functions/shape.py makes the results views."""
    forward, grad_x = parts_of, joined


@op("SplitWithSizesBackward0", outputs=None)
class split_with_sizes:
    """split, under PyTorch's name for the form with a list of sizes."""
    forward, grad_x = parts_of, joined


@op("UnsafeSplitBackward0", outputs=None)
class unsafe_split:
    """split whose results are no views for autograd."""
    forward, grad_x = parts_of, joined


# Copies ------------------------------------------------------------------------------------------


@op("StackBackward0")
class stack:
    """Tensors of one shape along a new dim. reuse: as a view of them, if they lie like that."""
    def forward(be, *xs, dim=0, reuse=False):
        shape = xs[0].shape
        if 3 < xs[0].ndim > dim and all([is_last(x) for x in xs]):      # as PyTorch lays it out
            return cat.spec.forward(be, *xs, dim=dim).reshape(
                *shape[:dim], len(xs), *shape[dim:])
        out = be.empty((*shape[:dim], len(xs), *shape[dim:]), xs[0].dtype)
        return be.xp.stack(xs, dim, out)
    def cuda(be, *xs, dim=0, reuse=False):
        found = together(be, xs, dim) if reuse else None
        return NotImplemented if found is None else found
    def grads(o, g, needs, dim):
        return [o.select(g, dim=dim, index=i) if need else None for i, need in enumerate(needs)]


@op("CatBackward0")
class cat:
    """Tensors one after the other along a dim. reuse: as a view of them, if they lie like that."""
    def forward(be, *xs, dim=0, reuse=False):
        shape = xs[0].shape
        if xs[0].ndim > 3 and all([is_last(x) for x in xs]):
            return as_images(cat.spec.forward(be, *map(as_pixels, xs),
                                              dim=in_pixels(dim, len(shape))))
        size = sum([x.shape[dim] for x in xs])
        out = be.empty((*shape[:dim], size, *shape[dim + 1:]), xs[0].dtype)
        return be.xp.concatenate(xs, dim, out)
    def cuda(be, *xs, dim=0, reuse=False):
        found = together(be, xs, dim, False) if reuse else None
        return NotImplemented if found is None else found
    def grads(o, g, needs, xs_shape, dim):
        out, at = [], 0
        for need, shape in zip(needs, xs_shape):
            n = shape[dim]
            out.append(o.slice_(g, dim=dim, start=at, stop=at + n) if need else None)
            at += n
        return out


def together(be, xs, dim, new=True):
    """The stack of arrays, or without ``new`` what cat makes of them, as a view of the memory of
    which they are all parts; None if they don't lie like that."""
    a = xs[0]
    if a.base is None or len(xs) < 2 or not a.size:
        return None
    at = be.address(a)
    step, others = be.address(xs[1]) - at, [n for d, n in enumerate(a.shape) if new or d != dim]
    for x in xs:
        if x.base is not a.base or x.dtype != a.dtype or x.strides != a.strides or \
                be.address(x) != at or others != [n for d, n in enumerate(x.shape)
                                                  if new or d != dim]:
            return None
        at += step if new else x.shape[dim] * x.strides[dim]
    if step <= 0:
        return None
    shape, steps = list(a.shape), list(a.strides)
    if new:
        shape.insert(dim, len(xs))
        steps.insert(dim, step)
    else:
        shape[dim] = sum([x.shape[dim] for x in xs])
    return be.xp.lib.stride_tricks.as_strided(a, shape, steps)


def reusing(o):
    """For stack and cat in a rule: of arrays a view will do; of Tensors nobody would know of it."""
    return {} if o is tensors else {"reuse": True}


@op("RepeatBackward0")
class repeat:
    """A copy, times[i] times along dim i; new dims come first."""
    def forward(be, x, *, times):
        return be.xp.tile(x, times)
    def grad_x(o, g, x_shape, times):
        extra = len(times) - len(x_shape)
        pairs = [n for pair in zip(times, (1,) * extra + x_shape) for n in pair]
        g = o.sum(o.reshape(g, tuple(pairs)), dim=tuple(range(0, len(pairs), 2)))
        return o.reshape(g, x_shape)


@op("FlipBackward0")
class flip:
    """The order along some dims reversed."""
    def forward(be, x, *, dims):
        out = be.xp.empty_like(x)                # in x's order of memory
        out[...] = be.xp.flip(x, dims)
        return out
    def grad_x(o, g, dims):
        return o.flip(g, dims=dims)


@op("TriuBackward0", inplace=True)
class triu:
    """The part of matrices on and above a diagonal."""
    def forward(be, x, *, diagonal=0):
        return be.xp.triu(x, diagonal)
    def grad_x(o, g, diagonal):
        return o.triu(g, diagonal=diagonal)


@op("TrilBackward0", inplace=True)
class tril:
    """The part of matrices on and below a diagonal."""
    def forward(be, x, *, diagonal=0):
        return be.xp.tril(x, diagonal)
    def grad_x(o, g, diagonal):
        return o.tril(g, diagonal=diagonal)
