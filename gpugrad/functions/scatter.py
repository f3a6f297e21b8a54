"""Scatter and its reductions; copying, filling, reducing and taking at indices; masks."""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._state import listening
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.entry import NUMBERS
from gpugrad.autograd.rules import tensors as T
from gpugrad.autograd.transfer import to_backend
from gpugrad.functions.arguments import cast, check_written, dim_of, number_of
from gpugrad.functions.indexing import index_out_of, positions_of
from gpugrad.functions.shape import broadcast_tensors, view
from gpugrad.functions.views import rename

# What scatter takes ------------------------------------------------------------------------------


def _dtype_name(x: Tensor) -> str:
    return dtypes.type_name(x._a.dtype)


def _checked(name: str, x: Tensor, dim: int, index: Tensor, src: Any) -> tuple[int, Any]:
    """The dim, and src cut to the shape of index."""
    d = positions_of(x, dim, index, name)
    tensor = isinstance(src, Tensor)
    if tensor and src._a.dtype != x._a.dtype:
        raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
    if tensor and index._a.size and max(src._a.ndim, 1) != max(x._a.ndim, 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
    if tensor and not src._a.ndim:
        src = _flat(src)
    for k, i in enumerate(index._a.shape if index._a.size else ()):
        if (k != d and i > x._a.shape[k]) or (tensor and i > src._a.shape[k]):
            raise RuntimeError(f"Expected index {list(index._a.shape)} to be no larger than self "
                               f"{list(x._a.shape)} apart from dimension {d}"
                               + (" and to be no larger size than src "
                                  f"{list(src._a.shape)}" if tensor else ""))
    if tensor and index._a.size:
        for k, i in enumerate(index._a.shape):
            if i < src._a.shape[k]:
                src = T.slice_(src, dim=k, start=0, stop=i)
    return d, src


def _flat(x: Tensor) -> Tensor:
    return x if x._a.ndim else view(x, 1)


def _in_place(x: Tensor, name: str, *others: Any, **kw: Any) -> Tensor:
    """An op on x, written into x: a 0-dim tensor through a view with one dim."""
    getattr(T, name + "_")(_flat(x), *others, **kw)
    return x


def _new(x: Tensor, name: str, *others: Any, **kw: Any) -> Tensor:
    out = getattr(T, name)(_flat(x), *others, **kw)
    return out if x._a.ndim else view(out, ())


_REDUCTIONS = {"add": "sum", "multiply": "prod"}


def _scatter(run: Any, x: Tensor, dim: int, index: Tensor, src: Any, value: Any,
             reduce: str | None) -> Tensor:
    if src is None and value is None:
        raise TypeError("scatter() received an invalid combination of arguments: it needs src or "
                        "value")
    src = value if src is None else src
    if reduce is not None and reduce not in _REDUCTIONS:
        raise RuntimeError(f"reduce argument must be either add or multiply, not {reduce!r}.")
    if not isinstance(src, (Tensor, *NUMBERS)):
        raise TypeError("scatter() received an invalid combination of arguments: src must be a "
                        f"Tensor or a number, not {type(src).__name__}")
    d, src = _checked("scatter", x, dim, index, src)
    if not index._a.size:
        return run(x, None)
    index = _flat(index)
    if reduce is None and not isinstance(src, Tensor):
        return run(x, "scatter_value", index, dim=d, value=number_of(src, x._a.dtype))
    if not isinstance(src, Tensor):
        src = wrap(x._be.xp.full(index._a.shape, number_of(src, x._a.dtype), x._a.dtype), x._be)
    if reduce is None:
        return run(x, "scatter_into", index, _flat(src), dim=d)
    return run(x, "scatter_reduce", index, _flat(src), dim=d, reduce=_REDUCTIONS[reduce],
               include_self=True)


def _written(x: Tensor, name: str | None, *others: Any, **kw: Any) -> Tensor:
    return x if name is None else _in_place(x, name, *others, **kw)


def _copied(x: Tensor, name: str | None, *others: Any, **kw: Any) -> Tensor:
    return T.clone(x) if name is None else _new(x, name, *others, **kw)


def scatter(input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None,
            reduce: str | None = None) -> Tensor:
    """input with src, a tensor or a number, written at index along dim.

    reduce: "add" or "multiply" instead of writing. Of several values for one place the last is
    written.
    """
    return _scatter(_copied, input, dim, index, src, value, reduce)


def scatter_(x: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None,
             reduce: str | None = None) -> Tensor:
    return _scatter(_written, x, dim, index, src, value, reduce)


def _scatter_add(run: Any, x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    d, src = _checked("scatter_add", x, dim, index, src)
    if not index._a.size:
        return run(x, None)
    return run(x, "scatter_add", _flat(index), _flat(src), dim=d)


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """input with src added at index along dim; repeated positions add up."""
    return _scatter_add(_copied, input, dim, index, src)


def scatter_add_(x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    return _scatter_add(_written, x, dim, index, src)


def _scatter_reduce(run: Any, x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str,
                    include_self: bool) -> Tensor:
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise RuntimeError("Expected 'reduce' to be one of 'sum', 'prod', 'mean', 'amax', 'amin' "
                           f"but got {reduce}.")
    d, src = _checked("scatter", x, dim, index, src)
    if not index._a.size:
        return run(x, None)
    return run(x, "scatter_reduce", _flat(index), _flat(src), dim=d, reduce=reduce,
               include_self=include_self)


def scatter_reduce(input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *,
                   include_self: bool = True) -> Tensor:
    """input reduced with src at index along dim: sum, prod, mean, amax or amin.

    include_self=False: where something is written, input's own element doesn't count.
    """
    return _scatter_reduce(_copied, input, dim, index, src, reduce, include_self)


def scatter_reduce_(x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *,
                    include_self: bool = True) -> Tensor:
    return _scatter_reduce(_written, x, dim, index, src, reduce, include_self)


# A vector of indices of one dim ------------------------------------------------------------------


def _index_of_dim(name: str, x: Tensor, dim: int, index: Tensor,
                  error: Any = RuntimeError) -> tuple[int, Tensor]:
    """The dim, and the index as a vector."""
    d = dim_of(dim, x._a.ndim)
    fill = name == "index_fill_"
    if index._a.ndim > 1:
        if fill:
            raise RuntimeError(f"Index has to be a vector/scalar, got {index._a.ndim} dims")
        raise IndexError(f"{name}(): Index should have dimension 1 or 0 (got {index._a.ndim})")
    if index._a.dtype != np.int64 and not (name == "index_reduce_" and
                                           index._a.dtype == np.int32):
        raise error(f"{name}(): Expected dtype int64 for index." if fill else
                    f"{name}(): Expected a long tensor for index, but got {_dtype_name(index)}")
    n = x._a.shape[d] if x._a.ndim else 1
    wrong = index_out_of(index, n, -n if fill else 0)
    if wrong is not None:
        raise IndexError(f"{'' if fill else name + '(): '}index {wrong} is out of bounds for "
                         f"dimension {d} with size {n}")
    return d, _flat(index)


def _rows(name: str, x: Tensor, d: int, index: Tensor, source: Tensor) -> Tensor:
    """source after the checks of index_copy and index_reduce."""
    if source._a.dtype != x._a.dtype:
        raise RuntimeError(f"{name}(): self and source expected to have the same dtype, but got "
                           f"(self) {_dtype_name(x)} and (source) {_dtype_name(source)}")
    if source._a.ndim == 0 and index._a.size != 1:
        raise IndexError(f"{name}(): When source is scalar, index should have one element (got "
                         f"{index._a.size})")
    if source._a.ndim and x._a.ndim and source._a.ndim != x._a.ndim:
        raise IndexError(f"{name}(): When source and destination are not scalars, their "
                         f"dimensionality must match. Source dimensionality ({source._a.ndim}), "
                         f"destination dimensionality ({x._a.ndim})")
    mine, theirs = (v[:d] + v[d + 1:] for v in (x._a.shape, source._a.shape))
    if mine != theirs:
        raise RuntimeError(f"{name}(): Source/destination tensor must have same slice shapes. "
                           f"Destination slice shape: {list(mine)} at dimension {d} and source "
                           f"slice shape: {list(theirs)} at dimension 0.")
    if source._a.ndim and source._a.shape[d] != index._a.size:
        kind = RuntimeError if name == "index_reduce_" else IndexError
        raise kind(f"{name}(): Number of indices ({index._a.size}) should be equal to "
                   f"source.size(dim) ({source._a.shape[d]})")
    return _flat(source)


def _index_copy(run: Any, x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    d, at = _index_of_dim("index_copy_", x, dim, index)
    return run(x, "index_copy", at, _rows("index_copy_", x, d, at, source), dim=d)


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """input with source written at a vector of indices of a dim."""
    return _index_copy(_copied, input, dim, index, source)


def index_copy_(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    return _index_copy(_written, x, dim, index, source)


def _index_fill(run: Any, x: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    d, at = _index_of_dim("index_fill_", x, dim, index, IndexError)
    if not isinstance(value, Tensor):
        if not isinstance(value, NUMBERS):
            raise TypeError("index_fill_() received an invalid combination of arguments: value "
                            f"must be a number or a 0-dim Tensor, not {type(value).__name__}")
        if isinstance(value, complex) and x._a.dtype.kind != "c":
            raise RuntimeError("index_fill_(): Converting complex Scalar to non-complex type is "
                               "not supported")
        return run(x, "index_fill", at, dim=d, value=number_of(value, x._a.dtype))
    if value._a.ndim:
        raise RuntimeError("index_fill_ only supports a 0-dimensional value tensor, but got "
                           f"tensor with {value._a.ndim} dimension(s).")
    value = cast(to_backend(value, x._be), x._a.dtype)
    return run(x, "index_fill_with", at, value, dim=d)


def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """input with a number, or a 0-dim tensor, at a vector of indices of a dim."""
    return _index_fill(_copied, input, dim, index, value)


def index_fill_(x: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    return _index_fill(_written, x, dim, index, value)


def _index_reduce(run: Any, x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str,
                  include_self: bool) -> Tensor:
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError("index_reduce(): Expected reduce to be one of prod, mean, amax or amin "
                           f"but got {reduce}.")
    warnings.warn("index_reduce() is in beta and the API may change at any time.", stacklevel=4)
    d, at = _index_of_dim("index_reduce_", x, dim, index)
    source = _rows("index_reduce_", x, d, at, source)
    lengths = [1] * source._a.ndim
    lengths[d] = at._a.size
    if not source._a.size:
        return run(x, None)
    at = T.expand(view(at, lengths), shape=source._a.shape)
    out = run(x, "scatter_reduce", at, source, dim=d, reduce=reduce, include_self=include_self)
    if out.grad_fn is not None and type(out.grad_fn).__name__ == "ScatterReduceBackward0":
        rename(out.grad_fn, "IndexReduceBackward0")
    return out


def index_reduce(input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *,
                 include_self: bool = True) -> Tensor:
    """input reduced with source at a vector of indices of a dim: prod, mean, amax or amin."""
    return _index_reduce(_copied, input, dim, index, source, reduce, include_self)


def index_reduce_(x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *,
                  include_self: bool = True) -> Tensor:
    return _index_reduce(_written, x, dim, index, source, reduce, include_self)


# Places in the flattened tensor ------------------------------------------------------------------


def _places(name: str, x: Tensor, index: Tensor) -> None:
    if index._a.dtype != np.int64:
        raise RuntimeError(f"{name}(): Expected a long tensor for index, but got "
                           f"{_dtype_name(index)}")
    if not x._a.size and index._a.size:
        raise IndexError(f"{name}(): tried to take from an empty tensor")
    wrong = index_out_of(index, x._a.size, -x._a.size)
    if wrong is not None:
        raise IndexError(f"out of range: tried to access index {wrong} on a tensor of "
                         f"{x._a.size} elements.")


def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements by their place in the flattened tensor."""
    _places("take", input, index)
    return T.take(input, index)


def _put(x: Tensor, index: Tensor, source: Tensor) -> None:
    if index._a.dtype.kind not in "iu":
        raise RuntimeError("put_(): Expected a long tensor for index, but got "
                           f"{dtypes.type_name(index._a.dtype)}")
    if source._a.dtype != x._a.dtype:
        raise RuntimeError("put_(): self and source expected to have the same dtype, but got "
                           f"self.dtype = {_dtype_name(x)} and source.dtype = "
                           f"{_dtype_name(source)}")
    if source._a.size != index._a.size:
        raise IndexError("put_(): Expected source and index to have the same number of elements, "
                         f"but got source.numel() = {source._a.size}, index.numel() = "
                         f"{index._a.size}")
    _places("put_", x, index)


def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """input with source written, or added, at places in the flattened tensor."""
    _put(input, index, source)
    return T.put(input, index, source, accumulate=accumulate)


def put_(x: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    _put(x, index, source)
    return T.put_(x, index, source, accumulate=accumulate)


# Masks -------------------------------------------------------------------------------------------


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask holds, as a vector."""
    if mask._a.dtype.kind != "b":
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    broadcast_tensors(mask, input)               # its errors
    return T.masked_select(input, mask)


def _masked_scatter(name: str, x: Tensor, mask: Tensor, source: Tensor) -> None:
    if source._a.dtype != x._a.dtype:
        raise RuntimeError(f"{name}: expected self and source to have same dtypes but got "
                           f"{_dtype_name(x)} and {_dtype_name(source)}")
    if mask._a.dtype.kind != "b":
        raise RuntimeError("masked_scatter_ only supports boolean masks, but got mask with dtype "
                           f"{_dtype_name(mask)}")
    if not x._be.index:
        shape = np.broadcast_shapes(x._a.shape, mask._a.shape)
        wanted = int(mask._a.sum()) * (int(np.prod(shape)) // max(mask._a.size, 1))
        if wanted > source._a.size:
            raise RuntimeError("Number of elements of source < number of ones in mask")


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """input with the elements of source, one after the other, where the mask holds."""
    broadcast_tensors(mask, input)
    _masked_scatter("masked_scatter", input, mask, source)
    return T.masked_scatter(input, mask, source)


def masked_scatter_(x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    check_written(x, mask)
    _masked_scatter("masked_scatter_", x, mask, source)
    return T.masked_scatter_(x, mask, source)


# Where there is something ------------------------------------------------------------------------


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The indices of the elements that are not zero: (n, dims), or one tensor per dim."""
    be, a = input._be, input._a
    if listening[0] is not None:
        listening[0].sized_by(a)
    found = be.xp.stack((a if a.ndim else a.reshape(1)).nonzero())
    if as_tuple:
        return tuple([wrap(i, be) for i in found])
    return wrap(found.T if a.ndim else found.T[:, :0], be)


def argwhere(input: Tensor) -> Tensor:
    """The indices of the elements that are not zero: (n, dims)."""
    return nonzero(input)


def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """The first ``size`` rows of nonzero, filled up with fill_value."""
    if size < 0:
        raise RuntimeError(f"nonzero_static: 'size' must be an non-negative integer, got {size}")
    be, found = input._be, nonzero(input)._a[:size]
    out = be.xp.full((size, input._a.ndim), fill_value, np.int64)
    out[:found.shape[0]] = found
    return wrap(out, be)
