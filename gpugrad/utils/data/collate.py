"""default_collate and default_convert: from a list of samples to tensors of a batch."""
from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from gpugrad._state import state
from gpugrad._tensor import Tensor, wrap
from gpugrad.backend import cpu
from gpugrad.creation import as_tensor, tensor
from gpugrad.dtypes import float64
from gpugrad.functions.shape import stack

# In a worker process the function (shape, dtype) -> array in memory that the main process sees:
# batches are made there, rather than copied to it. `allocate` is it while a loader collates: what a
# dataset collates itself might not be for the main process alone.
shared: list[Any] = [None]
allocate: list[Any] = [None]


def collated(collate_fn: Callable[[Any], Any], samples: Any) -> Any:
    """``collate_fn(samples)``; in a worker process default_collate then makes what will be sent.
    """
    allocate[0] = shared[0]
    try:
        return collate_fn(samples)
    finally:
        allocate[0] = None


def default_collate(batch: Sequence[Any]) -> Any:
    """Put the samples of a batch together, in a new first dimension.

    Tensors and NumPy arrays are stacked, numbers become a tensor (floats a float64 one), strings
    stay a list; mappings, sequences and named tuples keep their structure, with each field
    collated. ``default_collate_fn_map`` says how each type is, and may get more of them. Errors:
    TypeError for what can't be collated, RuntimeError for samples of different sizes.
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)


def collate(batch: Any, *, collate_fn_map: Mapping[Any, Any] | None = None) -> Any:
    """As default_collate, with another table: type, or tuple of types, to a function of the batch
    and of the keyword ``collate_fn_map``. A type itself goes before those it is derived from.
    """
    first = batch[0]
    if collate_fn_map is not None:
        fn = collate_fn_map.get(type(first))
        if fn is None:
            fn = next((f for kinds, f in collate_fn_map.items() if isinstance(first, kinds)), None)
        if fn is not None:
            return fn(batch, collate_fn_map=collate_fn_map)
    if isinstance(first, Mapping):
        return _like_mapping(first, {k: collate([x[k] for x in batch],
                                                collate_fn_map=collate_fn_map) for k in first})
    if isinstance(first, Sequence):
        for i, x in enumerate(batch):
            if len(x) != len(first):
                raise RuntimeError("each element in list of batch should be of equal size, but "
                                   f"sample {i} has {len(x)} and sample 0 has {len(first)}")
        return _like_sequence(first, [collate(column, collate_fn_map=collate_fn_map)
                                      for column in zip(*batch)])
    raise TypeError(default_collate_err_msg_format.format(type(first)))


default_collate_err_msg_format = ("default_collate: batch must contain tensors, numpy arrays, "
                                  "numbers, dicts or lists; found {}")


def _tensors(batch: Any, *, collate_fn_map: Any = None) -> Any:
    return _stacked(batch)


def _arrays(batch: Any, *, collate_fn_map: Any = None) -> Any:
    if batch[0].dtype.kind in "OSU":
        raise TypeError(default_collate_err_msg_format.format(batch[0].dtype))
    return collate([as_tensor(x) for x in batch], collate_fn_map=collate_fn_map)


def _scalars(batch: Any, *, collate_fn_map: Any = None) -> Any:
    return as_tensor(np.asarray(batch))


def _floats(batch: Any, *, collate_fn_map: Any = None) -> Any:
    if set(map(type, batch)) == {float} and state.device is None:
        return wrap(np.array(batch, np.float64))
    return tensor(batch, dtype=float64)


def _integers(batch: Any, *, collate_fn_map: Any = None) -> Any:
    if set(map(type, batch)) == {int} and state.device is None \
            and -1 << 63 <= min(batch) and max(batch) < 1 << 63:
        return wrap(np.array(batch, np.int64))
    return tensor(batch)


def _texts(batch: Any, *, collate_fn_map: Any = None) -> Any:
    return batch


_PLAIN = {Tensor}

default_collate_fn_map: dict[Any, Callable[..., Any]] = {
    Tensor: _tensors, np.ndarray: _arrays, (np.bool_, np.number): _scalars, float: _floats,
    int: _integers, str: _texts, bytes: _texts}


def _stacked(batch: Sequence[Any]) -> Tensor:
    """stack(batch); of plain CPU tensors of one shape and dtype that need no gradient, by one call
    of NumPy's, in a worker process into memory that the main process sees."""
    arrays = [t._a for t in batch if t._be is cpu and t._edge is None] \
        if set(map(type, batch)) == _PLAIN else []
    if len(arrays) == len(batch):
        shape, dtype = arrays[0].shape, arrays[0].dtype
        if shape and all([a.shape == shape and a.dtype is dtype for a in arrays]):
            out = (allocate[0] or np.empty)((len(arrays), *shape), dtype)
            np.concatenate(arrays, out=out.reshape(-1, *shape[1:]))
            return wrap(out)
    return stack(list(batch), 0)


def unlike(first: Any, other: Any, where: str = "") -> str:
    """Where and how ``other`` differs from a sample with which it can't be put together, if so."""
    if hasattr(first, "shape") and hasattr(other, "shape"):
        a, b = list(first.shape), list(other.shape)
        return f"has{where} shape {b} and not {a}" if a != b else ""
    if isinstance(first, Mapping) and isinstance(other, Mapping):
        for k in first:
            if k not in other:
                return f"has{where} no key {k!r}"
        parts = [(first[k], other[k], k) for k in first]
    elif isinstance(first, Sequence) and isinstance(other, Sequence) \
            and not isinstance(first, str | bytes):
        if len(first) != len(other):
            return f"has{where} length {len(other)} and not {len(first)}"
        parts = list(zip(first, other, range(len(first))))
    else:
        kinds = [float if isinstance(x, int | float) else type(x) for x in (first, other)]
        return f"has{where} a {type(other).__name__} and not a {type(first).__name__}" \
            if kinds[0] is not kinds[1] else ""
    return next((text for a, b, k in parts
                 if (text := unlike(a, b, f"{where or ' at '}[{k!r}]"))), "")


def default_convert(data: Any) -> Any:
    """NumPy arrays and scalars inside ``data`` as tensors; everything else stays as it is."""
    if isinstance(data, Tensor):
        return data
    if isinstance(data, np.ndarray | np.generic):
        return data if data.dtype.kind in "OSU" else as_tensor(data)
    if isinstance(data, Mapping):
        return _like_mapping(data, {k: default_convert(v) for k, v in data.items()})
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return _like_sequence(data, [default_convert(v) for v in data])
    return data


def _like_mapping(model: Any, items: dict[Any, Any]) -> Any:
    """``items`` in the type of ``model``; a dict where that type can't be made from a dict."""
    def change(clone: Any) -> None:
        clone.update(items)
    return _like(model, items, isinstance(model, MutableMapping), change)


def _like_sequence(model: Any, items: list[Any]) -> Any:
    """``items`` in the type of ``model``; a tuple becomes a list, unless its fields have names."""
    def change(clone: Any) -> None:
        for i, x in enumerate(items):
            clone[i] = x
    if isinstance(model, tuple):
        return type(model)(*items) if hasattr(model, "_fields") else items
    return _like(model, items, isinstance(model, MutableSequence), change)


def _like(model: Any, items: Any, mutable: bool, change: Callable[[Any], None]) -> Any:
    try:
        if not mutable:
            return type(model)(items)
        clone = copy.copy(model)         # with its attributes, as subclasses of dict may have
        change(clone)
        return clone
    except TypeError:                    # a type that is made in another way
        return items
