"""From the indices of a batch to the batch: what the main process and workers do alike."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad._tensor import Tensor, wrap
from gpugrad.creation import from_numpy
from gpugrad.utils.data.collate import collated, default_collate, shared, unlike
from gpugrad.utils.data.dataset import Subset, TensorDataset

_INTEGERS = {int, np.int64, np.int32}


class MapFetcher:
    """Batches, or single samples, of a dataset with indices."""

    def __init__(self, dataset: Any, collate: Callable[[Any], Any], batched: bool) -> None:
        self._dataset, self._collate, self._batched = dataset, collate, batched
        self._many = _many_of(dataset)
        self._read: Any = None          # the batch's samples so far, where they are read singly
        self._collating: Any = None     # (samples,) while they are put together
        self._done = False              # the batch is there

    def __call__(self, index: Any) -> Any:
        self._read, self._collating, self._done = None, None, False
        dataset = self._dataset
        if not self._batched:
            samples = dataset[index]
        else:
            if self._collate is default_collate:
                rows = _rows(dataset, index)
                if rows is not None:
                    self._done = True
                    return rows
            samples = self._samples(index)
        self._collating = (samples,)
        batch = collated(self._collate, samples)
        self._read, self._collating, self._done = None, None, True      # they may be large
        return batch

    def _samples(self, indices: Any) -> list[Any]:
        if self._many is not None:
            return self._many(indices)
        dataset, samples = self._dataset, list[Any]()
        self._read, add = samples, samples.append
        for i in indices:
            add(dataset[i])
        return samples

    def place(self, index: Any) -> str:
        """Where the last call stood when it failed."""
        if not self._batched:
            return f"index {index!r}"
        if self._collating:
            return (f"while the samples of the indices {few(index)} were collated"
                    f"{self._odd_one(index, *self._collating)}")
        if self._read is None:
            return f"{'when it was sent, ' * self._done}in the batch of the indices {few(index)}"
        k = len(self._read)                      # that many came before the one that failed
        known = hasattr(index, "__getitem__") and k < len(index)
        return f"{f'index {index[k]!r}' if known else f'sample {k}'} of the batch {few(index)}"

    def _odd_one(self, index: Any, samples: Any) -> str:
        """The first sample that can't be put together with the one before all others."""
        if self._collate is default_collate and isinstance(samples, list) \
                and hasattr(index, "__getitem__"):
            for i, sample in zip(index, samples):
                if how := unlike(samples[0], sample):
                    return f": the sample of index {i!r}, unlike that of {index[0]!r}, {how}"
        return ""


def _many_of(dataset: Any) -> Any:
    """``__getitems__`` of a dataset, or None. A Subset's serves only if what it is of has one: if
    not we read its samples one by one, too, and know which one failed.
    """
    within = dataset
    while type(within) is Subset:
        within = within.dataset
    if not callable(getattr(within, "__getitems__", None)):
        return None
    return dataset.__getitems__


class IterableFetcher:
    """Batches, or single samples, of an iterable dataset. StopIteration after the last one."""

    def __init__(self, dataset: Any, collate: Callable[[Any], Any], batched: bool,
                 drop_last: bool) -> None:
        self._samples = iter(dataset)
        self._collate, self._batched, self._drop_last = collate, batched, drop_last
        self._ended = False
        self._count = 0                 # samples that were read

    def __call__(self, index: Any) -> Any:
        if self._ended:
            raise StopIteration
        if not self._batched:
            data = next(self._samples)
            self._count += 1
            return collated(self._collate, data)
        n = len(index)
        batch = []
        for _ in range(n):
            try:
                batch.append(next(self._samples))
            except StopIteration:
                self._ended = True
                break
            self._count += 1
        if not batch or (self._drop_last and len(batch) < n):
            raise StopIteration
        return collated(self._collate, batch)

    def place(self, index: Any) -> str:
        """Where the last call stood when it failed."""
        return f"after sample {self._count - 1} of the dataset's iterator" if self._count else \
            "before the first sample of the dataset's iterator"


def fetcher_of(job: Any) -> MapFetcher | IterableFetcher:
    """What reads the job's batches."""
    if job.iterable:
        return IterableFetcher(job.dataset, job.collate, job.batched, job.drop_last)
    return MapFetcher(job.dataset, job.collate, job.batched)


def few(indices: Any) -> str:
    """Indices as text, not too long."""
    text = repr(indices)
    return text if len(text) <= 200 else f"{text[:120]} ... {text[-60:]}"


def _rows(dataset: Any, indices: Any) -> list[Tensor] | None:
    """A batch of a TensorDataset, or of subsets of one, by one indexing of each tensor.

    It is what collating the rows gives. None where that can't be promised: the caller then takes
    the rows one by one, and gets the error where there is one.
    """
    while type(dataset) is Subset:
        try:
            indices = [dataset.indices[i] for i in indices]
        except (TypeError, IndexError):
            return None
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset or any(t.requires_grad for t in dataset.tensors):
        return None
    if type(indices) is not list or not all(type(i) in _INTEGERS for i in indices):
        return None
    n = len(dataset)
    where = np.array(indices, np.int64)
    if not len(where) or where.max() >= n or where.min() < -n:
        return None
    if shared[0] is not None and all(type(t) is Tensor and t.is_cpu for t in dataset.tensors):
        where %= n
        return [_take_rows(t._a, where) for t in dataset.tensors]
    index = from_numpy(where)
    return [t[index] for t in dataset.tensors]


def _take_rows(a: Any, where: Any) -> Tensor:
    out = shared[0]((len(where), *a.shape[1:]), a.dtype)
    # Not "raise", which would go through a copy: the indices have been checked.
    return wrap(np.take(a, where, axis=0, out=out, mode="wrap"))
