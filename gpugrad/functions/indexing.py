"""Indexing with brackets, gather and scatter."""
from __future__ import annotations

import operator
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._state import listening
from gpugrad._tensor import Tensor, bump, wrap
from gpugrad.autograd.entry import NUMBERS
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.autograd.inplace import is_recorded
from gpugrad.autograd.rules import tensors as T
from gpugrad.autograd.transfer import to_backend
from gpugrad.functions.arguments import cast, check_written, dim_of, number_of
from gpugrad.functions.shape import expand
from gpugrad.parsing import check_array

_ALL = slice(None)
_LISTED = ("Using a non-tuple sequence for multidimensional indexing is deprecated and will be "
           "changed in pytorch 2.9; use x[tuple(seq)] instead of x[seq]. In pytorch 2.9 this will "
           "be interpreted as tensor index, x[torch.tensor(seq)], which will result either in an "
           "error or a different result")
_NUMBERS = frozenset((int, float, bool))
_INDICES = frozenset(np.dtype(n) for n in ("int64", "int32", "uint8", "bool"))
_BYTES = "indexing with dtype torch.uint8 is now deprecated, please use a dtype torch.bool instead."


def _listed_key(key: Any) -> bool:
    """Does a list stand for a tuple? As in PyTorch: if it is short and not of plain numbers."""
    return isinstance(key, list) and len(key) < 32 and any(
        k is None or k is Ellipsis or isinstance(k, slice | Tensor | Sequence | np.ndarray)
        for k in key)


def _part(x: Tensor, k: Any) -> Any:
    """A part of a key as None, Ellipsis, a slice, an int, or a tensor of integers or bools."""
    if k is None or k is Ellipsis or type(k) is int or isinstance(k, slice):
        return k
    if not isinstance(k, Tensor):
        if not isinstance(k, bool | np.ndarray) and hasattr(k, "__index__"):
            return operator.index(k)
        k = wrap(_as_array(k))
    kind = k._a.dtype.kind
    if k._a.dtype not in _INDICES:
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    if k._a.dtype == np.uint8:
        warnings.warn(_BYTES, UserWarning, stacklevel=5)
        kind, k = "b", k.bool()
    if kind != "b" and k._a.ndim == 0 and not k._be.index:
        return int(k._a)
    if k._be is not x._be:
        if k._be.index and not x._be.index:
            raise RuntimeError("indices should be either on cpu or on the same device as the "
                               f"indexed tensor ({x.device})")
        if kind != "b" or not x.is_meta:         # where a mask holds is known on the CPU alone
            k = to_backend(k, x._be)
    return k


def _as_array(k: Any) -> np.ndarray[Any, Any]:
    """A part of a key that is a sequence or a NumPy array, as an array of a dtype for indices."""
    if isinstance(k, str):
        raise TypeError("new(): invalid data type 'str': a str is no index")
    try:
        a = np.asarray(k)
    except ValueError as e:
        raise IndexError(f"an index must be a rectangular sequence: {e}") from None
    if a.size == 0 and not isinstance(k, np.ndarray):
        a = a.astype(np.int64)
    if a.dtype.kind in "US":
        check_array(a)
    if a.dtype.kind not in "iub":
        raise IndexError("only integers, slices (`:`), ellipsis (`...`), None and long or byte "
                         f"Variables are valid indices (got {type(k).__name__})")
    return a if a.dtype in _INDICES else a.astype(np.int64)


def _is_mask(k: Any) -> bool:
    return isinstance(k, Tensor) and k._a.dtype.kind == "b"


def _parts(x: Tensor, key: Any) -> list[Any]:
    """The parts of a key, with the Ellipsis written out."""
    if _listed_key(key):
        warnings.warn(_LISTED, UserWarning, stacklevel=4)
        key = tuple(key)
    keys: list[Any] = []
    for k in key if isinstance(key, tuple) else (key,):
        keys.append(_part(x, k))
    used = sum([0 if k is None or k is Ellipsis else k._a.ndim if _is_mask(k) else 1 for k in keys])
    if used > x._a.ndim:
        if not x._a.ndim and isinstance(keys[0], int):
            raise IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` in Python or "
                             "`tensor.item<T>()` in C++ to convert a 0-dim tensor to a number")
        if not x._a.ndim and isinstance(keys[0], slice):
            raise IndexError("slice() cannot be applied to a 0-dim tensor.")
        raise IndexError(f"too many indices for tensor of dimension {x._a.ndim}")
    at = [i for i, k in enumerate(keys) if k is Ellipsis]
    if len(at) > 1:                              # a second one stands for no dim, and none follows
        if any(k is not Ellipsis for k in keys[at[1]:]):
            raise IndexError("an index can only have a single ellipsis ('...')")
        keys = keys[:at[1]]
    if at:
        keys[at[0]:at[0] + 1] = [_ALL] * (x._a.ndim - used)
    return keys


def _basic(x: Tensor, key: Any) -> tuple[Tensor, list[Any]]:
    """x after the views of the key, and its advanced indices, with None for the dims between."""
    keys = _parts(x, key)
    dim, gone, alone = 0, 0, len(keys) == 1
    indices: list[Any] = []
    for k in keys:
        if isinstance(k, int):
            x, gone = _selected(x, dim, k, dim + gone), gone + 1
        elif isinstance(k, Tensor):
            if _is_mask(k) and not k._a.ndim:
                x, k = T.unsqueeze(x, dim=dim), k.reshape(1)
            found = _places(x, dim, k)
            indices += [None] * (dim - len(indices)) + found
            dim += len(found)
        else:
            if k is None:
                x = T.unsqueeze(x, dim=dim)
            elif k != _ALL or alone:
                x = _sliced(x, dim, k)
            dim += 1
    return x, indices


def _check_mask(x: Tensor, dim: int, k: Tensor) -> None:
    for i, n in enumerate(k._a.shape):
        if dim + i >= x._a.ndim or n != x._a.shape[dim + i]:
            raise IndexError(f"The shape of the mask {list(k._a.shape)} at index {i} does not "
                             f"match the shape of the indexed tensor {list(x._a.shape)} at index "
                             f"{dim + i}")


def _places(x: Tensor, dim: int, k: Tensor) -> list[Tensor]:
    """An advanced index as tensors of integers: itself, or one per dim of a mask."""
    if not _is_mask(k):
        return [k]
    _check_mask(x, dim, k)
    if listening[0] is not None:
        listening[0].sized_by(k._a)
    return [to_backend(wrap(i, k._be), x._be) for i in k._a.nonzero()]


def _selected(x: Tensor, dim: int, i: int, named: int) -> Tensor:
    """One index of a dim, which an error calls ``named``: selected dims before it count too."""
    n = x._a.shape[dim]
    if not -n <= i < n:
        raise IndexError(f"index {i} is out of bounds for dimension {named} with size {n}")
    return T.select(x, dim=dim, index=i % n)


def _sliced(x: Tensor, dim: int, k: slice) -> Tensor:
    start, stop, step = k.indices(x._a.shape[dim])
    if step < 0:
        raise ValueError("step must be greater than zero")
    return T.slice_(x, dim=dim, start=start, stop=max(start, stop), step=step)


def getitem(x: Tensor, key: Any) -> Tensor:
    """x[key]: a view for integers, slices, None and ...; a copy for tensors, lists and masks."""
    if x._a.ndim:                                # the common cases without a detour
        if type(key) is int:
            return _selected(x, 0, key, 0)
        if type(key) is slice:
            return _sliced(x, 0, key)
    view, indices = _basic(x, key)
    if not indices:
        return view if view is not x else T.alias(x)
    try:
        return T.index(view, *indices)
    except (IndexError, ValueError) as e:
        raise _index_error(view, indices, e) from None


def _index_error(x: Tensor, indices: list[Any], error: Exception) -> IndexError:
    for d, i in enumerate(indices):
        if i is not None and i._a.size:
            n, a = x._a.shape[d], x._be.to_host(i._a)
            wrong = a[(a < -n) | (a >= n)]
            if wrong.size:
                return IndexError(f"index {wrong.flat[0]} is out of bounds for dimension {d} with "
                                  f"size {n}")
    shapes = ", ".join(str(list(i._a.shape)) for i in indices if i is not None)
    return IndexError("shape mismatch: indexing tensors could not be broadcast together with "
                      f"shapes {shapes}")


def _as_value(x: Tensor, value: Any) -> Tensor:
    """What is assigned to a part of x, as a tensor."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        return wrap(x._be.from_host(value.astype(x._a.dtype)), x._be)
    if not isinstance(value, NUMBERS):
        raise TypeError(f"can't assign a {type(value).__name__} to a "
                        f"torch.{dtypes.type_name(x._a.dtype)}Tensor")
    return wrap(x._be.scalar(number_of(value, x._a.dtype), x._a.dtype), x._be)


def setitem(x: Tensor, key: Any, value: Any) -> None:
    """x[key] = value"""
    if type(value) not in _NUMBERS:
        value = _as_value(x, value)
    else:
        if type(value) is int and not -1 << 63 <= value < 1 << 63:
            raise ValueError("Overflow when unpacking long long")
        value = number_of(value, x._a.dtype)
    if type(key) is bool:
        if not key:                              # stands for no elements
            return
        key = None                               # or for a new dim of size 1
    whole = key is Ellipsis or (x._a.ndim > 0 and isinstance(key, slice) and key == _ALL)
    if x.is_meta and isinstance(key, Tensor) and _is_mask(key) and key._a.ndim:
        value = _as_value(x, value)
        if value._a.size == 1:                   # how many elements it fills needn't be known
            _check_mask(x, 0, key)
            mask = T.view(key, shape=(*key._a.shape, *[1] * (x._a.ndim - key._a.ndim)))
            x.masked_fill_(to_backend(mask, x._be), cast(value.reshape(()), x._a.dtype))
            return
    part, indices = (x, []) if whole else _basic(x, key)
    if not indices:
        if type(value) in _NUMBERS and not is_recorded(part, (part,)):
            T.fill_(part, value=value)
            return
        value, shape = _as_value(x, value), part._a.shape
        while value._a.ndim > len(shape) and value._a.shape[0] == 1:
            value = T.select(value, dim=0, index=0)
        same = value._a.shape == shape or not value._a.ndim        # copy_ broadcasts
        copy_(part, value if same else expand(value, shape))
        return
    value = _as_value(x, value)
    if value._a.dtype != x._a.dtype and value._a.size == 1 and _only_a_mask(x, key):
        if value._a.dtype.kind == "c" != x._a.dtype.kind:
            raise RuntimeError(f"value cannot be converted to type {x.dtype} without overflow: it "
                               "is complex")
        value = cast(value, x._a.dtype)
    _put(part, indices, value)


def _only_a_mask(x: Tensor, key: Any) -> bool:
    """Is one mask all there is of tensors in a key? Then PyTorch fills, and converts the value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensors = [k for k in _parts(x, key) if isinstance(k, Tensor)]
    return len(tensors) == 1 and _is_mask(tensors[0]) and tensors[0]._a.ndim > 0


def _put(x: Tensor, indices: Any, value: Tensor, accumulate: bool = False) -> Tensor:
    """index_put_ with its errors."""
    if value._a.dtype != x._a.dtype:
        raise RuntimeError("Index put requires the source and destination dtypes match, got "
                           f"{dtypes.type_name(x._a.dtype)} for the destination and "
                           f"{dtypes.type_name(value._a.dtype)} for the source.")
    if value._be is not x._be and not value._a.ndim:
        value = to_backend(value, x._be)
    try:
        return T.index_put_(x, value, *indices, accumulate=accumulate)
    except (IndexError, ValueError):
        try:
            shape = T.index(x, *indices)._a.shape
        except (IndexError, ValueError) as e:
            raise _index_error(x, indices, e) from None
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(value._a.shape)} cannot "
                           f"be broadcast to indexing result of shape {list(shape)}") from None


def copy_(x: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """x filled with src, a tensor or a number, broadcast and converted to x's dtype and device."""
    if isinstance(src, NUMBERS):
        src = wrap(x._be.scalar(src, x._a.dtype), x._be)
    if not isinstance(src, Tensor):
        raise TypeError("copy_(): argument 'other' (position 1) must be Tensor, not "
                        f"{type(src).__name__}")
    if src._be is not x._be:
        if non_blocking and _sent_to_pinned(x, src):
            return x
        src = to_backend(src, x._be, non_blocking and x.is_cuda)
    check_written(x, src)
    return T.copy_(x, src if x._a.dtype.kind in dtypes.INEXACT else src.detach())


def _sent_to_pinned(x: Tensor, src: Tensor) -> bool:
    """Start copying src to x, which is pinned; False if there is more to it than moving bytes."""
    plain = x._edge is None and src._edge is None and x._a.dtype == src._a.dtype \
        and x._a.shape == src._a.shape
    if not plain or not src._be.into_host(src._a, x._a):
        return False
    bump(x)
    return True


def index_put_(x: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """x[indices] = values, or += with accumulate, where repeated indices add up."""
    if not isinstance(indices, tuple | list):
        raise TypeError("index_put_(): argument 'indices' (position 1) must be tuple of Tensors, "
                        f"not {type(indices).__name__}")
    parts: list[Any] = []
    for i, k in enumerate(indices):
        if not isinstance(k, Tensor):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got "
                            f"{type(k).__name__}")
        dims = k._a.ndim if _is_mask(k) else 1
        if len(parts) + dims > x._a.ndim:
            raise IndexError(f"too many indices for tensor of dimension {x._a.ndim} (got "
                             f"{max(len(indices), len(parts) + dims)})")
        parts += _places(x, len(parts), _part(x, k) if k._a.ndim else k)
    return _put(x, parts, values, accumulate)


def index_put(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    return index_put_(input.clone(), indices, values, accumulate)


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The given indices of one dim, as a copy."""
    d = dim_of(dim, input._a.ndim)
    if index._a.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector, but got dim: "
                         f"{index._a.ndim}")
    if index._a.dtype not in (np.int64, np.int32):
        raise RuntimeError("index_select(): Expected dtype int32 or int64 for index")
    shape = input._a.shape or (1,)
    bad = index_out_of(index, shape[d])
    if bad is not None:
        raise IndexError(f"index out of range in self: {bad} along dimension {d} of size "
                         f"{shape[d]}")
    out = T.index_select(input if input._a.ndim else input.reshape(1), index.reshape(-1), dim=d)
    return out if input._a.ndim else out.reshape(())


def index_add_(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """Add alpha * source to x at a vector of indices of one dim; repeated indices add up."""
    d, source = _check_index_add(x, dim, index, source, alpha)
    if not x._a.ndim:
        return x.add_(source)
    return T.index_add_(x, index.reshape(-1), source, dim=d)


def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    d, source = _check_index_add(input, dim, index, source, alpha)
    if not input._a.ndim:
        return input + source
    return T.index_add(input, index.reshape(-1), source, dim=d)


def _check_index_add(x: Tensor, dim: int, index: Tensor, source: Tensor,
                     alpha: Any) -> tuple[int, Tensor]:
    """The dim, and alpha * source."""
    d = dim_of(dim, x._a.ndim)
    if index._a.ndim > 1:
        raise IndexError("index_add_(): Index is supposed to be a vector, but got dim: "
                         f"{index._a.ndim} with type: {dtypes.type_name(index._a.dtype)} and size: "
                         f"{list(index._a.shape)}")
    if index._a.dtype not in (np.int64, np.int32):
        raise RuntimeError("index_add_(): Expected dtype int32/int64 for index but got: "
                           f"{dtypes.type_name(index._a.dtype)}")
    if source._a.dtype != x._a.dtype:
        raise RuntimeError("index_add_(): self "
                           f"({dtypes.type_name(x._a.dtype)}) and source "
                           f"({dtypes.type_name(source._a.dtype)}) must have the same scalar type")
    m = source._a.shape[d] if source._a.ndim else 1
    if index._a.size != m:
        raise RuntimeError(f"index_add_(): Number of indices ({index._a.size}) should be equal to "
                           f"source.size(dim): ({m}), for dim: {d}")
    others = [s[:d] + s[d + 1:] for s in (x._a.shape, source._a.shape)]
    if others[0] != others[1] or x._a.ndim < min(source._a.ndim, 1):
        raise RuntimeError("source tensor shape must match self tensor shape, excluding the "
                           f"specified dimension. Got self.shape = {list(x._a.shape)} "
                           f"source.shape = {list(source._a.shape)}")
    n = x._a.shape[d] if x._a.ndim else 1
    bad = index_out_of(index, n)
    if bad is not None:
        raise RuntimeError(f"index {bad} is out of bounds for dimension {d} with size {n}")
    if alpha != 1:
        source = T.scale(source, number=number_of(alpha, x._a.dtype))
    return d, source


def embedding(weight: Tensor, indices: Tensor, padding_idx: int = -1,
              scale_grad_by_freq: bool = False, sparse: bool = False) -> Tensor:
    """weight (n, d) at indices (...): (..., d). padding_idx, from 0 on: a row without gradient."""
    if sparse:
        raise NotImplementedError("embedding(sparse=True) is not supported: leave it out, and the "
                                  "gradient is a dense tensor")
    if indices._a.dtype not in (np.int64, np.int32):
        raise RuntimeError("Expected tensor for argument #1 'indices' to have one of the "
                           f"following scalar types: Long, Int; but got {indices.type()} instead "
                           "(while checking arguments for embedding)")
    if weight._a.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    if index_out_of(indices, weight._a.shape[0]) is not None:
        raise IndexError("index out of range in self")
    return T.embedding(weight, indices, padding_idx=padding_idx,
                       scale_grad_by_freq=scale_grad_by_freq)


@no_grad()
def embedding_renorm_(weight: Tensor, indices: Tensor, max_norm: float,
                      norm_type: float = 2.0) -> Tensor:
    """Scale the rows of weight that indices name, in place, to a norm of max_norm at most."""
    if indices._a.dtype.kind not in "iu":
        raise RuntimeError("Expected tensor for argument #2 'indices' to have one of the following "
                           f"scalar types: Long, Int; but got {indices.type()} instead (while "
                           "checking arguments for embedding_renorm_)")
    flat = indices.reshape(-1)
    rows = T.embedding(weight, flat)
    norms = rows.norm(norm_type, 1, keepdim=True)
    longer = T.where(norms > max_norm, max_norm / (norms + 1e-7), norms.new_ones(()))
    return index_put_(weight, (flat,), rows * longer)


def index_out_of(index: Tensor, n: int, low: int = 0) -> Any:
    """An index that isn't in low to n - 1, or None. CUDA indices aren't read."""
    a = index._a
    if index._be.index or not a.size or (a.min() >= low and a.max() < n):
        return None
    return a[(a < low) | (a >= n)].flat[0]


def positions_of(x: Tensor, dim: int, index: Tensor, name: str) -> int:
    """The dim, after the checks of an index for gather and scatter."""
    if index._a.dtype.kind not in "iu":
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")
    if max(index._a.ndim, 1) != max(x._a.ndim, 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as "
                           + ("self" if name.startswith("scatter") else "input") + " tensor")
    d = dim_of(dim, x._a.ndim)
    n = x._a.shape[d] if x._a.ndim else 1
    bad = index_out_of(index, n)
    if bad is not None:
        raise RuntimeError(f"index {bad} is out of bounds for dimension {d} with size {n}")
    return d


def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """out[i][j] = input[index[i][j]][j] for dim 0, and so on."""
    if sparse_grad:
        raise NotImplementedError("gather(sparse_grad=True) is not supported: leave it out, and "
                                  "the gradient is a dense tensor")
    d = positions_of(input, dim, index, "gather")
    if not (input._a.ndim and index._a.ndim):
        out = T.gather(input.reshape(-1), index.reshape(-1), dim=0)
        return out.reshape(index._a.shape)
    for k, (i, n) in enumerate(zip(index._a.shape, input._a.shape)):
        if k != d and i > n:
            raise RuntimeError(f"Size does not match at dimension {k} expected index "
                               f"{list(index._a.shape)} to be no larger than self "
                               f"{list(input._a.shape)} apart from dimension {d}")
    return T.gather(input, index, dim=d)
