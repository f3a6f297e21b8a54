"""Rolled, turned, flipped and repeated elements; diagonals and triangles; along one dim."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.functions.arguments import (
    broadcast_shape,
    cast,
    dim_of,
    integer_of,
    integers_of,
    number_of,
)
from gpugrad.functions.indexing import gather, index_select
from gpugrad.functions.shape import expand, flip, reshape, view
from gpugrad.functions.views import as_strided, copy_of

# Rolling, turning, repeating ---------------------------------------------------------------------


def roll(input: Tensor, shifts: Any, dims: Any = ()) -> Tensor:
    """The elements moved by shifts along dims, those pushed out coming in at the other end.

    Without dims the tensor is rolled as if it were flat.
    """
    moves, along = (tuple(integers_of(v if isinstance(v, Sequence) else (v,), "roll", name, i))
                    for i, (name, v) in enumerate((("shifts", shifts),
                                                   ("dims", () if dims is None else dims)), 1))
    if not moves:
        raise RuntimeError("`shifts` required")
    if not along and len(moves) == 1:
        return T.roll(input, shifts=moves, dims=())
    if len(moves) != len(along):
        raise RuntimeError("shifts and dimensions must align. shifts: "
                           f"{len(moves)}, dims:{len(along)}")
    if not input._a.ndim:
        raise IndexError(f"Dimension specified as {along[0]} but tensor has no dimensions")
    where = tuple([dim_of(d, input._a.ndim) for d in along])
    return T.roll(input, shifts=moves, dims=where)


def rot90(input: Tensor, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    """A copy turned k times by 90 degrees in the plane of two dims, from the first to the second.
    """
    n = input._a.ndim
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if n < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {n}")
    a, b = (dim_of(d, n) for d in dims)
    if a == b:
        raise RuntimeError("expected rotation dims to be different, but got dim0 = "
                           f"{dims[0]} and dim1 = {dims[1]}")
    return T.rot90(input, k=integer_of(k, "rot90", "k") % 4, dims=(a, b))


def fliplr(input: Tensor) -> Tensor:
    """The order of the columns reversed."""
    if input._a.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """The order of the rows reversed."""
    if input._a.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return flip(input, 0)


def repeat_interleave(input: Tensor, repeats: Any = None, dim: int | None = None, *,
                      output_size: int | None = None) -> Tensor:
    """Each index of a dim so many times in a row; without dim of the flattened tensor.

    Of a tensor of counts alone: index i counts[i] times. On CUDA counts in a tensor are waited for.
    """
    if repeats is None:
        return _repeated_indices(input, output_size)
    if not isinstance(repeats, Tensor | int):
        if not hasattr(repeats, "__index__"):
            raise TypeError("repeat_interleave(): argument 'repeats' (position 2) must be Tensor "
                            f"or int, not {type(repeats).__name__}")
        repeats = int(repeats)
    x = input if dim is not None else reshape(input, -1)
    d = dim_of(0 if dim is None else dim, x._a.ndim)
    if isinstance(repeats, int):
        return _repeated(x, repeats, d, output_size)
    n = x._a.shape[d] if x._a.ndim else 1
    if repeats._a.ndim > 1:
        raise RuntimeError("repeats must be 0-dim or 1-dim tensor")
    counts = reshape(repeats, -1)
    if counts._a.size == 1:
        counts = expand(counts, n)
    if counts._a.size != n:
        raise RuntimeError("repeats must have the same size as input along dim, but got "
                           f"repeats.size(0) = {counts._a.size} and input.size({d}) = {n}")
    return index_select(x, d, _repeated_indices(counts, output_size))


def _repeated(x: Tensor, repeats: int, d: int, output_size: int | None) -> Tensor:
    if repeats < 0:
        raise RuntimeError("Repeats must be non-negative")
    shape = x._a.shape or (1,)
    if output_size is not None and output_size != shape[d] * repeats:
        raise RuntimeError("repeat_interleave: Invalid output_size, expected "
                           f"{shape[d] * repeats} but got {output_size}")
    wide = view(x, 1, 1) if not x._a.ndim else T.unsqueeze(x, dim=d + 1)
    wide = T.expand(wide, shape=(*shape[:d + 1], repeats, *shape[d + 1:]))
    return view(T.clone_in_order(wide), (*shape[:d], shape[d] * repeats, *shape[d + 1:]))


def _repeated_indices(counts: Tensor, output_size: int | None) -> Tensor:
    if counts._a.dtype.kind not in "iu":
        raise NotImplementedError('"repeat_interleave_cpu" not implemented for '
                                  f"'{dtypes.type_name(counts._a.dtype)}': the counts have to be "
                                  "int64 or int32")
    if counts._a.ndim != 1:
        raise RuntimeError("repeat_interleave only accept 1D vector as repeat")
    if counts._a.dtype not in (np.int64, np.int32):
        raise RuntimeError("repeats has to be Long or Int tensor")
    be = counts._be
    times = be.to_host(counts._a)
    if times.size and times.min() < 0:
        raise RuntimeError("repeats can not be negative")
    if output_size is not None and output_size != times.sum():
        raise RuntimeError("allocated size does not match required size")
    at = np.repeat(np.arange(times.size, dtype=times.dtype), times)
    return wrap(be.from_host(at), be)


# Diagonals and triangles -------------------------------------------------------------------------


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The last dim on a diagonal of matrices that are zero elsewhere."""
    if not input._a.ndim:
        raise IndexError("Dimension out of range (expected to be in range of [-1, 0], but got -2)")
    n = input._a.ndim + 1
    a, b = dim_of(dim1, n), dim_of(dim2, n)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return T.diag_embed(input, offset=offset, dim1=a, dim2=b,
                        n=input._a.shape[-1] + abs(offset))


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The matrix with a vector on its diagonal; a copy of a matrix's diagonal."""
    if input._a.ndim not in (1, 2):
        raise RuntimeError("diag(): Supports 1D or 2D tensors. Got "
                           f"{input._a.ndim}D")
    if input._a.ndim == 1:
        return diag_embed(input, diagonal)
    return copy_of("diagonal")(input, diagonal)


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """The matrix with all elements on its diagonal."""
    return diag_embed(reshape(input, -1), offset)


def _triangle(name: str) -> Any:
    def triangle_(x: Tensor, diagonal: int = 0) -> Tensor:
        if x._a.ndim < 2:
            raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
        return getattr(T, name + "_")(x, diagonal=diagonal)
    triangle_.__name__ = triangle_.__qualname__ = name + "_"
    return triangle_


tril_, triu_ = _triangle("tril"), _triangle("triu")


def fill_diagonal_(x: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """A number on the main diagonal; with wrap it begins anew below in tall matrices."""
    shape = x._a.shape
    if len(shape) < 2:
        raise RuntimeError("dimensions must larger than 1")
    if len(shape) > 2 and len(set(shape)) > 1:
        raise RuntimeError("all dimensions of input must be of equal length")
    step = sum(x.stride())
    T.fill_(as_strided(x, (min(shape),), (step,)), value=number_of(fill_value, x._a.dtype))
    if wrap and len(shape) == 2 and shape[0] > shape[1] + 1:
        m, n = shape
        rest = -(-m * n // (n + 1)) - n
        below = x.storage_offset() + x.stride()[0] * (n + 1)
        T.fill_(as_strided(x, (rest,), (step,), below), value=number_of(fill_value, x._a.dtype))
    return x


# Along one dim -----------------------------------------------------------------------------------


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """Values at indices along a dim, both broadcast; without dim of the flattened tensors."""
    if indices._a.dtype != np.int64:
        raise RuntimeError("torch.take_along_dim(): dtype of indices should be Long but got "
                           + indices.type().rpartition(".")[2].removesuffix("Tensor"))
    if dim is None:
        return gather(reshape(input, -1), 0, reshape(indices, -1))
    n = input._a.ndim
    if indices._a.ndim != n:
        raise RuntimeError("torch.take_along_dim(): input and indices should have the same number "
                           f"of dimensions, but got {n} dimensions for input, and "
                           f"{indices._a.ndim} dimensions for indices")
    d = dim_of(dim, n)
    others = broadcast_shape(*[_of_shape(s[:d] + (1,) + s[d + 1:])
                               for s in (input._a.shape, indices._a.shape)])
    parts = [expand(x, others[:d] + x._a.shape[d:d + 1] + others[d + 1:])
             for x in (input, indices)]
    return gather(parts[0], d, parts[1])


def _of_shape(shape: tuple[int, ...]) -> Tensor:
    """A tensor of a shape that takes no memory."""
    return wrap(np.broadcast_to(np.zeros((), np.bool_), shape))


def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """Flat places in a tensor of ``shape`` as one tensor of indices for each dim."""
    if not isinstance(indices, Tensor):
        raise TypeError("unravel_index(): argument 'indices' must be Tensor, not "
                        f"{type(indices).__name__}")
    if indices._a.dtype.kind not in "iu":
        raise TypeError(f"expected 'indices' to be integer dtype, but got {indices.dtype}")
    if not isinstance(shape, int | tuple | list):
        raise TypeError("expected 'shape' to be int or sequence of ints, but got "
                        f"{type(shape).__name__}")
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    for n in sizes:
        if not isinstance(n, int):
            raise TypeError("expected 'shape' sequence to only contain ints, but got "
                            f"{type(n)}")
        if n < 0:
            raise ValueError(f"'shape' cannot have negative values, but got {sizes}")
    out, stride = [], math.prod(sizes)
    for n in sizes:
        stride //= max(n, 1)
        out.append(wrap(indices._a // max(stride, 1) % max(n, 1), indices._be))
    return tuple(out)


def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """The powers N - 1 to 0 of a vector as columns, or 0 to N - 1."""
    if x._a.ndim != 1:
        raise RuntimeError("x must be a one-dimensional tensor, not one of shape "
                           f"{list(x._a.shape)}")
    n = x._a.size if N is None else N
    if n < 0:
        raise RuntimeError(f"N must be non-negative, got {n}")
    dtype = x._a.dtype
    if dtype.kind in "iub":
        x = cast(x, np.dtype(np.int64))
    if n == 0:
        return wrap(x._be.empty((x._a.size, 0), x._a.dtype), x._be)
    one = T.shift(T.zeros_like(x), number=1)
    columns = [one]
    for _ in range(n - 1):
        columns.append(T.mul(columns[-1], x))
    out = T.stack(*columns, dim=1)
    return out if increasing else flip(out, 1)
