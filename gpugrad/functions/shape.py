"""Views and rearrangements with PyTorch's arguments."""
from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Sequence
from typing import Any

from gpugrad import dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.functions.arguments import (
    broadcast_shape,
    common,
    dim_of,
    dims_of,
    integer_of,
    integers_of,
    sizes_of,
)
from gpugrad.layouts import ORDERS, contiguous_format, is_last, preserve_format
from gpugrad.ops.shape import check_expand


def _resolve(x: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with its -1 replaced; RuntimeError if the elements don't fit."""
    size, known, free = x._a.size, 1, -1
    for i, n in enumerate(shape):
        if n == -1 and free < 0:
            free = i
        elif n < 0:
            raise RuntimeError("only one dimension can be inferred" if n == -1 else
                               f"invalid shape dimension {n} at index {i} of shape {list(shape)}")
        else:
            known *= n
    if free >= 0:
        if known == 0:
            raise RuntimeError(f"cannot reshape tensor of {size} elements into shape {list(shape)} "
                               "because the unspecified dimension size -1 can be any value and is "
                               "ambiguous")
        if size % known == 0:
            return (*shape[:free], size // known, *shape[free + 1:])
    elif known == size:
        return shape
    raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {size}")


def _is_view_of(a: Any, b: Any, be: Any) -> bool:
    return a.size == 0 or be.begins_like(a, b)


def _given(sizes: tuple[Any, ...], named: Any) -> tuple[Any, ...]:
    """Sizes given one by one, or by the argument's name."""
    return sizes if named is None else (*sizes, named)


def view(input: Tensor, *shape: Any, dtype: dtypes.dtype | None = None,
         size: Any = None) -> Tensor:
    """The same memory in another shape, or, given a dtype, read as that dtype."""
    if dtype is not None or (len(shape) == 1 and isinstance(shape[0], dtypes.dtype)):
        return _view_as_dtype(input, dtype or shape[0])
    sizes = _resolve(input, sizes_of(_given(shape, size), "size"))
    be, a = input._be, input._a
    if be.is_contiguous(a) or _is_view_of(a.reshape(sizes), a, be):
        return T.view(input, shape=sizes)
    raise RuntimeError("view size is not compatible with input tensor's size and stride (at least "
                       "one dimension spans across two contiguous subspaces). Use .reshape(...) "
                       f"instead: {list(sizes)} of a tensor of size {list(a.shape)} and stride "
                       f"{list(input.stride())}")


def _view_as_dtype(x: Tensor, dtype: dtypes.dtype) -> Tensor:
    """As in PyTorch without history."""
    a, have, want = x._a, x._a.dtype.itemsize, dtype.np.itemsize
    if have != want:
        both = f"to view {dtypes.type_name(a.dtype)} as {dtypes.type_name(dtype.np)} (different " \
            "element sizes)"
        if not a.ndim:
            raise RuntimeError(f"self.dim() cannot be 0 {both}")
        steps, n, times = x.stride(), a.shape[-1], want // have
        if times > 1:
            parts = [("size(-1)", n), ("storage_offset()", x.storage_offset()),
                     *[(f"stride({d})", s) for d, s in enumerate(steps[:-1])]]
            for what, value in parts:
                if value % times:
                    raise RuntimeError(f"self.{what} must be divisible by {times} {both}, but got "
                                       f"{value}")
        if steps[-1] != 1 and n > 1:
            raise RuntimeError(f"self.stride(-1) must be 1 {both}, but got {steps[-1]}")
    return wrap(a.view(dtype.np), x._be, None, x._ver)


def view_as(input: Tensor, other: Tensor) -> Tensor:
    return view(input, other._a.shape)


def reshape(input: Tensor, *sizes: Any, shape: Any = None) -> Tensor:
    """The same elements in another shape: a view where that is possible, else a copy."""
    return _reshaped(input, _resolve(input, sizes_of(_given(sizes, shape), "shape")))


def _reshaped(input: Tensor, sizes: tuple[int, ...]) -> Tensor:
    be, a = input._be, input._a
    if be.is_contiguous(a) or _is_view_of(a.reshape(sizes), a, be):
        return T.view(input, shape=sizes)
    return T.unsafe_view(T.clone_in_order(input), shape=sizes)


def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    return reshape(input, other._a.shape)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dims start_dim to end_dim as one."""
    n, shape = input._a.ndim, input._a.shape
    if n == 0:
        dim_of(start_dim, 0)
        dim_of(end_dim, 0)
        return reshape(input, 1)
    start, end = dim_of(start_dim, n), dim_of(end_dim, n)
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if start == end:
        return input
    return _reshaped(input, (*shape[:start], math.prod(shape[start:end + 1]), *shape[end + 1:]))


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One dim as several; one of the sizes may be -1."""
    if not input._a.ndim:
        raise RuntimeError("unflatten got an unexpected error: a tensor without dimensions has no "
                           f"dim {dim}")
    d, shape = dim_of(dim, input._a.ndim), input._a.shape
    sizes = integers_of(sizes, "unflatten", "sizes", 2)
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    if list(sizes).count(-1) > 1:
        raise RuntimeError("unflatten: only one dimension can be inferred")
    known = math.prod(sizes)
    whole = tuple(shape[d] // -known if s == -1 and known else s for s in sizes)
    if math.prod(whole) != shape[d]:
        raise RuntimeError(f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size "
                           f"of dim {d} ({shape[d]}) in the input tensor")
    return view(input, (*shape[:d], *whole, *shape[d + 1:]))


def ravel(input: Tensor) -> Tensor:
    """All elements in one dim, side by side: a view if they lie so already, else a copy."""
    return T.view(contiguous(input), shape=(input._a.size,))


def expand(input: Tensor, *sizes: Any, size: Any = None, implicit: bool = False) -> Tensor:
    """Dims of size 1 repeated without a copy; -1 keeps a size. implicit has no effect."""
    want, have = sizes_of(_given(sizes, size), "size"), input._a.shape
    extra = len(want) - len(have)
    if extra < 0:
        kind = dtypes.type_name(input._a.dtype)
        raise RuntimeError(f"expand(torch.{kind}Tensor{{{list(have)}}}, "
                           f"size={list(want)}): the number of sizes provided ({len(want)}) must "
                           "be greater or equal to the number of dimensions in the tensor "
                           f"({len(have)})")
    check_expand(have, want)
    shape = tuple([have[i - extra] if n == -1 else n for i, n in enumerate(want)])
    return _expanded(input, shape)


def _expanded(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """x expanded, and as writable as x is: writes check on their own for elements in one place."""
    out = T.expand(x, shape=shape)
    x._be.writable(out._a)
    return out


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    return expand(input, other._a.shape)


def broadcast_to(input: Tensor, *sizes: Any, size: Any = None) -> Tensor:
    return expand(input, *sizes, size=size)


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All of them expanded to their common shape; those that have it are returned as they are."""
    for i, x in enumerate(tensors):
        if not isinstance(x, Tensor):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got "
                            f"{type(x).__name__}")
    shape = broadcast_shape(*tensors)
    return tuple([t if t._a.shape == shape else _expanded(t, shape) for t in tensors])


def permute(input: Tensor, *order: Any, dims: Any = None) -> Tensor:
    """The dims in another order."""
    order = sizes_of(_given(order, dims), "dims")
    if len(order) != input._a.ndim:
        raise RuntimeError("permute(sparse_coo): number of dimensions in the tensor input does not "
                           "match the length of the desired ordering of dimensions i.e. "
                           f"input.dim() = {input._a.ndim} is not equal to len(dims) = "
                           f"{len(order)}")
    order = tuple([dim_of(d, len(order)) for d in order])
    if len(set(order)) < len(order):
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return T.permute(input, dims=order)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dims swapped."""
    n = input._a.ndim
    d0, d1 = dim_of(dim0, n), dim_of(dim1, n)
    return T.transpose(input, dim0=d0, dim1=d1) if n else T.alias(input)


def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    return transpose(input, axis0, axis1)


def t(input: Tensor) -> Tensor:
    """A matrix transposed; fewer dims stay as they are."""
    n = input._a.ndim
    if n > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {n}D")
    return T.t(input)


def reversed_dims(input: Tensor) -> Tensor:
    """The T property."""
    return T.permute(input, dims=tuple(range(input._a.ndim))[::-1])


def matrix_transpose(input: Tensor) -> Tensor:
    """The mT property: the last two dims swapped. A number stays as it is."""
    if not input._a.ndim:
        return input
    if input._a.ndim < 2:
        raise RuntimeError("tensor.mT is only supported on matrices or batches of matrices. Got "
                           f"{input._a.ndim}-D tensor.")
    return transpose(input, -2, -1)


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Dims moved to other places; the rest keep their order."""
    n = input._a.ndim
    src, dst = ([dim_of(d, n) for d in (dims if isinstance(dims, Sequence) else (dims,))]
                for dims in (source, destination))
    if len(src) != len(dst):
        raise RuntimeError(f"movedim: Invalid source or destination dims: source ({src} dims) "
                           f"should contain the same number of dims as destination ({dst} dims)")
    for name, dims in (("source", src), ("destination", dst)):
        if len(set(dims)) < len(dims):
            raise RuntimeError(f"movedim: repeated dim in `{name}` ({dims})")
    rest = iter([d for d in range(n) if d not in src])
    at = dict(zip(dst, src))
    return T.permute(input, dims=tuple(at[i] if i in at else next(rest) for i in range(n)))


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Dims of size 1 taken away: all, or those given that have size 1."""
    if dim is None:
        return T.squeeze_all(input)
    shape = input._a.shape
    dims = dims_of(dim, len(shape)) or ()
    return T.squeeze(input, dim=tuple([d for d in dims if shape[d] == 1]))


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A new dim of size 1 at a place."""
    return T.unsqueeze(input, dim=dim_of(dim, input._a.ndim + 1))


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """One index of one dim, as a view without that dim."""
    shape = input._a.shape
    if not shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d, i = dim_of(dim, len(shape)), integer_of(index, "select", "index", 2)
    if not -shape[d] <= i < shape[d]:
        raise IndexError(f"select(): index {i} out of range for tensor of size {list(shape)} at "
                         f"dimension {d}")
    return T.select(input, dim=d, index=i % shape[d])


def narrow(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """``length`` indices of a dim, from start on, as a view."""
    if not input._a.ndim:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    d = dim_of(dim, input._a.ndim)
    if isinstance(start, Tensor) and (start._a.ndim or start._a.dtype.kind not in "iu"):
        raise RuntimeError("start must be an 0-dim integral Tensor.")
    size, start = input._a.shape[d], integer_of(start, "narrow", "start", 2)
    length = integer_of(length, "narrow", "length", 3)
    if not -size <= start <= size:
        raise IndexError(f"start out of range (expected to be in range of [{-size}, {size}], but "
                         f"got {start})")
    start = start + size if start < 0 else start
    if length < 0 or start + length > size:
        raise RuntimeError("narrow(): length must be non-negative." if length < 0 else
                           f"start ({start}) + length ({length}) exceeds dimension size ({size}).")
    return T.slice_(input, dim=d, start=start, stop=start + length)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A view of the diagonal of two dims, as a last dim."""
    n = input._a.ndim
    d1, d2 = dim_of(dim1, n), dim_of(dim2, n)
    if d1 == d2:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return T.diagonal(input, offset=integer_of(offset, "diagonal", "offset"), dim1=d1, dim2=d2)


# Several results ---------------------------------------------------------------------------------


def _as_views(outs: tuple[Tensor, ...], x: Tensor, parts: list[tuple[Any, dict[str, Any]]],
              name: str) -> tuple[Tensor, ...]:
    """Make results that share x's memory views of it: parts are (op, constants) that give each."""
    base, parent = (x, None) if x._view is None else x._view[:2]
    for i, (out, (entry, kw)) in enumerate(zip(outs, parts)):
        out._view = base, (parent, entry.spec, kw, x._a.shape), (i, name)
        out._ver = x._ver
        x._ver.append(weakref.ref(out))
    return outs


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Every index of a dim, as views."""
    if not input._a.ndim:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    d = dim_of(dim, input._a.ndim)
    parts = [(T.select, {"dim": d, "index": i}) for i in range(input._a.shape[d])]
    return _as_views(T.unbind(input, dim=d), input, parts, "Unbind")


def iterate(input: Tensor) -> Any:
    """Tensor.__iter__: over the first dim."""
    if not input._a.ndim:
        raise TypeError("iteration over a 0-d tensor")
    return iter(unbind(input))


def split(input: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Consecutive parts of a dim, as views: all of one size but the last, or of the sizes given."""
    if not input._a.ndim:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    d = dim_of(dim, input._a.ndim)
    n, size = input._a.shape[d], split_size_or_sections
    if isinstance(size, int):
        if size < 0 or (size == 0 and n):
            raise RuntimeError("split expects split_size be non-negative, but got "
                               f"split_size={size}"
                               if size < 0 else "split_size can only be 0 if dimension size is 0, "
                                                f"but got dimension size of {n}")
        sizes = [size] * (n // size) + [n % size] * (n % size > 0) if n else [0]
    else:
        return split_with_sizes(input, size, dim)
    return _parts(T.split, "Split", input, sizes, d)


def split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Consecutive parts of a dim, of the sizes given, as views."""
    d, sizes = _sections(input, split_sizes, dim)
    return _parts(T.split_with_sizes, "SplitWithSizes", input, sizes, d)


def _sections(input: Tensor, split_sizes: Any, dim: int) -> tuple[int, list[int]]:
    if not input._a.ndim:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    d = dim_of(dim, input._a.ndim)
    sizes = integers_of(split_sizes, "split_with_sizes", "split_sizes", 2)
    n = input._a.shape[d]
    if min(sizes, default=0) < 0:
        raise RuntimeError("split_with_sizes expects split_sizes have only non-negative entries, "
                           f"but got split_sizes={sizes}")
    if sum(sizes) != n:
        raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {n} (input "
                           f"tensor's size at dimension {dim}), but got split_sizes={sizes}")
    return d, sizes


def _parts(op: Any, name: str, x: Tensor, sizes: list[int], d: int) -> tuple[Tensor, ...]:
    stops = list(itertools.accumulate(sizes))
    parts = [(T.slice_, {"dim": d, "start": s - k, "stop": s, "step": 1})
             for s, k in zip(stops, sizes)]
    return _as_views(op(x, sizes=tuple(sizes), dim=d), x, parts, name)


def unsafe_split(input: Tensor, split_size: int, dim: int = 0) -> tuple[Tensor, ...]:
    """split whose results share memory but are no views for autograd: write to them before the
    rest is used, or not at all.
    """
    return T.unsafe_split(input, sizes=_even(input, split_size, dim),
                          dim=dim_of(dim, input._a.ndim))


def unsafe_split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """split_with_sizes without views for autograd, as unsafe_split."""
    d, sizes = _sections(input, split_sizes, dim)
    return T.unsafe_split(input, sizes=tuple(sizes), dim=d)


def unsafe_chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """chunk without views for autograd, as unsafe_split."""
    return T.unsafe_split(input, dim=dim_of(dim, input._a.ndim),
                          sizes=tuple([p._a.shape[dim] for p in
                                       chunk(input.detach(), chunks, dim)]))


def _even(x: Tensor, size: int, dim: int) -> tuple[int, ...]:
    return tuple([p._a.shape[dim] for p in split(x.detach(), size, dim)])


def split_method(self: Tensor, split_size: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """torch.split, where the method's first argument has another name."""
    return split(self, split_size, dim)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most ``chunks`` parts of equal size, the last smaller, as views."""
    chunks = integer_of(chunks, "chunk", "chunks")
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    if not input._a.ndim:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    n = input._a.shape[dim_of(dim, input._a.ndim)]
    size = -(-n // chunks)
    return split(input, size, dim) if size else split(input, [0] * chunks, dim)


# Joining -----------------------------------------------------------------------------------------


def _promoted(tensors: Any, name: str) -> list[Tensor]:
    if not isinstance(tensors, tuple | list):
        raise TypeError(f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not "
                        f"{type(tensors).__name__}")
    ts = list(tensors)
    if not ts:
        raise (RuntimeError if name == "stack" else ValueError)(
            f"{name} expects a non-empty TensorList" if name == "stack" else
            "torch.cat(): expected a non-empty list of Tensors")
    for i, x in enumerate(ts):
        if not isinstance(x, Tensor):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got "
                            f"{type(x).__name__}")
    return common(*ts)


def cat(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors one after the other along a dim."""
    ts = _promoted(tensors, "cat")
    if any(x._a.ndim == 0 for x in ts):
        raise RuntimeError("zero-dimensional tensor (at position "
                           f"{[x._a.ndim for x in ts].index(0)}) cannot be concatenated")
    some = [x for x in ts if x._a.shape != (0,)] or ts[:1]     # legacy: (0,) goes with any shape
    d, first = dim_of(dim, some[0]._a.ndim), some[0]._a.shape
    for i, x in enumerate(ts):
        s = x._a.shape
        if s == (0,):
            continue
        if len(s) != len(first):
            raise RuntimeError(f"Tensors must have same number of dimensions: got {len(first)} and "
                               f"{len(s)}")
        for k, (m, n) in enumerate(zip(first, s)):
            if k != d and m != n:
                raise RuntimeError(f"Sizes of tensors must match except in dimension {d}. Expected "
                                   f"size {m} but got size {n} for tensor number {i} in the list.")
    return T.cat(*some, dim=d)


def stack(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors of one shape along a new dim."""
    ts = _promoted(tensors, "stack")
    for i, x in enumerate(ts):
        if x._a.shape != ts[0]._a.shape:
            raise RuntimeError("stack expects each tensor to be equal size, but got "
                               f"{list(ts[0]._a.shape)} at entry 0 and {list(x._a.shape)} at entry "
                               f"{i}")
    return T.stack(*ts, dim=dim_of(dim, ts[0]._a.ndim + 1))


def repeat(input: Tensor, *sizes: Any, repeats: Any = None) -> Tensor:
    """A copy, repeated sizes[i] times along each dim."""
    times = sizes_of(_given(sizes, repeats), "repeats")
    extra = len(times) - input._a.ndim
    if extra < 0:
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of "
                           "dimensions of tensor")
    if min(times, default=0) < 0:
        shape = [r * s for r, s in zip(times, (1,) * extra + input._a.shape)]
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {shape}")
    return T.repeat(input, times=times)


def tile(input: Tensor, *sizes: Any, dims: Any = None) -> Tensor:
    """A copy, repeated sizes[i] times along each dim; a short list counts from the last dim."""
    times = sizes_of(_given(sizes, dims), "dims")
    return repeat(input, (1,) * (input._a.ndim - len(times)) + times)


def flip(input: Tensor, *along: Any, dims: Any = None) -> Tensor:
    """A copy with the order along some dims reversed."""
    where = sizes_of(_given(along, dims), "dims")
    return T.flip(input, dims=dims_of(where, input._a.ndim) or ())


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """Matrices with what is below the diagonal set to 0."""
    _check_matrices(input, "triu", diagonal)
    return T.triu(input, diagonal=diagonal)


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """Matrices with what is above the diagonal set to 0."""
    _check_matrices(input, "tril", diagonal)
    return T.tril(input, diagonal=diagonal)


def _check_matrices(x: Tensor, name: str, diagonal: Any) -> None:
    if isinstance(diagonal, bool) or not hasattr(diagonal, "__index__"):
        raise TypeError(f"{name}(): argument 'diagonal' must be int, not {type(diagonal).__name__}")
    if x._a.ndim < 2:
        raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")


# Copies ------------------------------------------------------------------------------------------


def clone(input: Tensor, *, memory_format: Any = preserve_format) -> Tensor:
    """A copy with history; by default the order of the dims in memory stays."""
    if memory_format is preserve_format:
        return T.clone(input)
    return _in_order(input, memory_format)


def contiguous(input: Tensor, memory_format: Any = contiguous_format) -> Tensor:
    """The tensor itself if its elements lie in order, else a copy."""
    return input if input.is_contiguous(memory_format) else _in_order(input, memory_format)


def formatted(x: Tensor, memory_format: Any) -> Tensor:
    """x, or a copy if operations on x wouldn't keep this format: what ``to`` does."""
    if memory_format in (contiguous_format, *ORDERS):
        last = is_last(x._a) and x._a.ndim == len(ORDERS.get(memory_format, x._a.shape))
        return x if last is (memory_format in ORDERS) else _in_order(x, memory_format)
    return contiguous(x, memory_format)


def _in_order(x: Tensor, memory_format: Any) -> Tensor:
    if memory_format in ORDERS:
        order = ORDERS[memory_format]
        if x._a.ndim != len(order):
            raise RuntimeError(f"required rank {len(order)} tensor to use {memory_format.name} "
                               "format")
        return T.clone_ordered(x, order=order)
    if memory_format is preserve_format:
        raise RuntimeError("preserve memory format is unsupported by the contiguous operator")
    return T.clone_in_order(x)
