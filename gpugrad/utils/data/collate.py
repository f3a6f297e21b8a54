"""default_collate and default_convert: from a list of samples to tensors of a batch."""
from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from gpugrad._tensor import Tensor
from gpugrad.creation import as_tensor, tensor
from gpugrad.dtypes import float64
from gpugrad.functions.shape import stack


def default_collate(batch: Sequence[Any]) -> Any:
    """Put the samples of a batch together, in a new first dimension.

    Tensors and NumPy arrays are stacked, numbers become a tensor (floats a float64 one), strings
    stay a list; mappings, sequences and named tuples keep their structure, with each field
    collated. Errors: TypeError for what can't be collated, RuntimeError for samples of different
    sizes.
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(list(batch), 0)
    if isinstance(first, np.ndarray):
        if first.dtype.kind in "OSU":
            raise TypeError(_cannot_collate(first.dtype))
        return stack([as_tensor(x) for x in batch], 0)
    if isinstance(first, np.number | np.bool_):
        return as_tensor(np.asarray(batch))
    if isinstance(first, float):
        return tensor(batch, dtype=float64)
    if isinstance(first, int):
        return tensor(batch)
    if isinstance(first, str | bytes):
        return batch
    if isinstance(first, Mapping):
        return _like_mapping(first, {k: default_collate([x[k] for x in batch]) for k in first})
    if isinstance(first, Sequence):
        for i, x in enumerate(batch):
            if len(x) != len(first):
                raise RuntimeError("each element in list of batch should be of equal size, but "
                                   f"sample {i} has {len(x)} and sample 0 has {len(first)}")
        return _like_sequence(first, [default_collate(column) for column in zip(*batch)])
    raise TypeError(_cannot_collate(type(first)))


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


def _cannot_collate(what: Any) -> str:
    return (f"default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; "
            f"found {what}")
