"""Tensors joined along a dim, cut along one, and combined into grids."""
from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.functions.arguments import common, dim_of
from gpugrad.functions.indexing import index_select
from gpugrad.functions.shape import cat, reshape, stack, unsqueeze, view

# At least so many dims ---------------------------------------------------------------------------


def _each(name: str, f: Any, tensors: Any) -> Any:
    """f of one tensor, or of each of several."""
    if len(tensors) == 1:
        if isinstance(tensors[0], Tensor):
            return f(tensors[0])
        tensors = tensors[0]
    if isinstance(tensors, Tensor) or not isinstance(tensors, Sequence):
        raise TypeError(f"{name}(): argument 'tensors' must be tuple of Tensors, not "
                        f"{type(tensors).__name__}")
    return tuple([f(x) for x in _tensors(name, tensors)])


def _tensors(name: str, tensors: Any, position: int = 1) -> list[Tensor]:
    if isinstance(tensors, Tensor) or not isinstance(tensors, tuple | list):
        raise TypeError(f"{name}(): argument 'tensors' (position {position}) must be tuple of "
                        f"Tensors, not {type(tensors).__name__}")
    for i, x in enumerate(tensors):
        if not isinstance(x, Tensor):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got "
                            f"{type(x).__name__}")
    return list(tensors)


def _1d(x: Tensor) -> Tensor:
    return x if x._a.ndim else view(x, 1)


def _2d(x: Tensor) -> Tensor:
    return x if x._a.ndim > 1 else unsqueeze(x, 0) if x._a.ndim else view(x, 1, 1)


def _3d(x: Tensor) -> Tensor:
    n = x._a.ndim
    if n == 1:
        return unsqueeze(unsqueeze(x, 0), -1)
    return x if n > 2 else unsqueeze(x, -1) if n else view(x, 1, 1, 1)


def atleast_1d(*tensors: Any) -> Any:
    """A tensor with one dim at least; or a tuple of them."""
    return _each("atleast_1d", _1d, tensors)


def atleast_2d(*tensors: Any) -> Any:
    """A tensor with two dims at least, new ones in front; or a tuple of them."""
    return _each("atleast_2d", _2d, tensors)


def atleast_3d(*tensors: Any) -> Any:
    """A tensor with three dims at least: a vector becomes (1, n, 1); or a tuple of them."""
    return _each("atleast_3d", _3d, tensors)


# Joining -----------------------------------------------------------------------------------------


def _some(name: str, tensors: Any) -> list[Tensor]:
    ts = _tensors(name, tensors)
    if not ts:
        raise RuntimeError(f"{name} expects a non-empty TensorList")
    return ts


def hstack(tensors: Any) -> Tensor:
    """Side by side: along dim 1, vectors along dim 0."""
    ts = [_1d(x) for x in _some("hstack", tensors)]
    return cat(ts, 0 if ts[0]._a.ndim == 1 else 1)


def vstack(tensors: Any) -> Tensor:
    """One below the other; vectors are rows."""
    return cat([_2d(x) for x in _some("vstack", tensors)], 0)


def row_stack(tensors: Any) -> Tensor:
    return vstack(tensors)


def dstack(tensors: Any) -> Tensor:
    """Along dim 2."""
    return cat([_3d(x) for x in _some("dstack", tensors)], 2)


def column_stack(tensors: Any) -> Tensor:
    """Side by side; vectors and numbers are columns."""
    ts = _some("column_stack", tensors)
    return hstack([reshape(x, x._a.size, 1) if x._a.ndim < 2 else x for x in ts])


def block_diag(*tensors: Tensor) -> Tensor:
    """Matrices along the diagonal of one that is zero elsewhere; vectors are rows."""
    for i, x in enumerate(_tensors("block_diag", tensors)):
        if x._a.ndim > 2:
            raise RuntimeError("torch.block_diag: Input tensors must have 2 or fewer dimensions. "
                               f"Input {i} has {x._a.ndim} dimensions")
    if not tensors:
        return wrap(np.zeros((1, 0), np.float32))
    return T.block_diag(*common(*[_2d(x) for x in tensors]))


# Grids and choices -------------------------------------------------------------------------------


def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """The coordinates of a grid: vector i lies along dim i ("ij"), or the first two the other way
    round ("xy").
    """
    ts = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], tuple | list) else \
        list(tensors)
    if not ts:
        raise RuntimeError("meshgrid expects a non-empty TensorList")
    if indexing is None:
        indexing = "ij"
    if indexing not in ("ij", "xy"):
        raise RuntimeError('torch.meshgrid: indexing must be one of "xy" or "ij", but received: '
                           f"{indexing}")
    for x in _tensors("meshgrid", ts):
        if x._a.ndim > 1:
            raise RuntimeError("torch.meshgrid: Expected 0D or 1D tensor in the tensor list but "
                               f"got: {list(x._a.shape)}")
        if x._a.dtype != ts[0]._a.dtype:
            raise RuntimeError("meshgrid expects all tensors to have the same dtype")
        if x._be is not ts[0]._be:
            raise RuntimeError("meshgrid expects all tensors to have the same device")
    swap = indexing == "xy" and len(ts) > 1
    if swap:
        ts[:2] = ts[1::-1]
    shape, n = tuple([x._a.size for x in ts]), len(ts)
    out = [T.expand(view(x, (-1,) + (1,) * (n - i - 1)) if x._a.size else
                    view(x, (0,) + (1,) * (n - i - 1)), shape=shape) for i, x in enumerate(ts)]
    if swap:
        out[:2] = out[1::-1]
    return tuple(out)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All ways to take one element of each vector, a row each."""
    ts = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], tuple | list) else \
        list(tensors)
    for x in _tensors("cartesian_prod", ts):
        if x._a.ndim != 1:
            raise RuntimeError(f"Expect a 1D vector, but got shape {list(x._a.shape)}")
    if len(ts) == 1:
        return ts[0]
    return stack([reshape(x, -1) for x in meshgrid(*ts)], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All choices of r elements of a vector, in the order of its places, a row each."""
    if input._a.ndim != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(input._a.shape)}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    if r == 0:
        return wrap(input._be.empty((0,), input._a.dtype), input._be)
    ways = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    picks = np.array(list(ways(range(input._a.size), r)), np.int64).reshape(-1, r)
    at = [wrap(input._be.from_host(np.ascontiguousarray(c)), input._be) for c in picks.T]
    return stack([index_select(input, 0, i) for i in at], 1)


# Cutting -----------------------------------------------------------------------------------------


def _cuts(name: str, *given: Any) -> Any:
    """The one argument of several names that says how a dim is cut."""
    found = [v for v in given if v is not None]
    if len(found) != 1:
        raise TypeError(f"{name}() received an invalid combination of arguments: it takes one of "
                        "sections and indices")
    return found[0]


def tensor_split(input: Tensor, indices_or_sections: Any = None, dim: int = 0, *,
                 sections: Any = None, indices: Any = None,
                 tensor_indices_or_sections: Any = None) -> tuple[Tensor, ...]:
    """Parts of a dim as views: so many of nearly one size, or cut before the given indices."""
    if not input._a.ndim:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a "
                           "tensor with 0 dims")
    given = _cuts("tensor_split", indices_or_sections, sections, indices,
                  tensor_indices_or_sections)
    d = dim_of(dim, input._a.ndim)
    n = input._a.shape[d]
    if isinstance(given, Tensor):
        if not given.is_cpu:
            raise RuntimeError("tensor_split expected tensor_indices_or_sections to be on cpu, "
                               f"but it's on {given.device}")
        if given._a.dtype != np.int64:
            raise RuntimeError("tensor_split expected tensor_indices_or_sections to have dtype of "
                               f"long, but got {given.type().rpartition('.')[2][:-6]}")
        if given._a.ndim > 1:
            raise RuntimeError("tensor_split expected tensor_indices_or_sections to be a "
                               "zero-dimensional or one-dimensional tensor, but got a tensor with "
                               f"{given._a.ndim} dims")
        given = given._a.tolist()
    if isinstance(given, int):
        if given <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {given}")
        size, more = divmod(n, given)
        cuts = [i * size + min(i, more) for i in range(1, given)]
    else:
        cuts = [int(c) for c in given]
    out = []
    for a, b in zip([0, *cuts], [*cuts, n]):
        first, last, _ = slice(a, b).indices(n)
        out.append(T.slice_(input, dim=d, start=first, stop=max(first, last), step=1))
    return tuple(out)


def _split_along(name: str, input: Tensor, given: Any, dim: int, least: int) -> tuple[Any, ...]:
    if input._a.ndim < least:
        raise RuntimeError(f"torch.{name} requires a tensor with at least {least} dimension, "
                           f"but got a tensor with {input._a.ndim} "
                           "dimensions!")
    if isinstance(given, int) and (given == 0 or input._a.shape[dim] % given):
        raise RuntimeError(f"torch.{name} attempted to split along dimension {dim}, but the size "
                           f"of the dimension {input._a.shape[dim]} is not divisible by the "
                           f"split_size {given}!")
    return tensor_split(input, given, dim)


def hsplit(input: Tensor, indices_or_sections: Any = None, *, sections: Any = None,
           indices: Any = None) -> tuple[Tensor, ...]:
    """tensor_split along dim 1, of vectors along dim 0, into parts of one size."""
    given = _cuts("hsplit", indices_or_sections, sections, indices)
    return _split_along("hsplit", input, given, int(input._a.ndim > 1), 1)


def vsplit(input: Tensor, indices_or_sections: Any = None, *, sections: Any = None,
           indices: Any = None) -> tuple[Tensor, ...]:
    """tensor_split along dim 0 into parts of one size."""
    given = _cuts("vsplit", indices_or_sections, sections, indices)
    return _split_along("vsplit", input, given, 0, 2)


def dsplit(input: Tensor, indices_or_sections: Any = None, *, sections: Any = None,
           indices: Any = None) -> tuple[Tensor, ...]:
    """tensor_split along dim 2 into parts of one size."""
    given = _cuts("dsplit", indices_or_sections, sections, indices)
    return _split_along("dsplit", input, given, 2, 3)
