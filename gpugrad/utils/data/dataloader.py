"""DataLoader: batches of a dataset, in order or shuffled, made in the calling process."""
from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np

from gpugrad._tensor import Tensor
from gpugrad.creation import from_numpy
from gpugrad.pinned import pin_batch
from gpugrad.random import Generator
from gpugrad.utils.data.collate import default_collate, default_convert
from gpugrad.utils.data.dataset import IterableDataset, Subset, TensorDataset, samples_of
from gpugrad.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler, draw_seed

_INTEGERS = {int, np.int64, np.int32}

T_co = TypeVar("T_co", covariant=True)

_FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")


class DataLoader(Generic[T_co]):
    """Iterates over the batches of a dataset; each ``for`` loop is a pass over all of it.

    Args:
        dataset: with ``__getitem__`` and ``__len__``, or an IterableDataset.
        batch_size: samples a batch; None hands out single samples.
        shuffle: a new random order each pass. The order is PyTorch's for the same seed.
        sampler: yields the indices, instead of ``shuffle``.
        batch_sampler: yields lists of indices, instead of all of the above and ``drop_last``.
        num_workers: must be 0 so far; the options of worker processes are checked and otherwise
            unused (``timeout``, ``worker_init_fn``, ``multiprocessing_context``,
            ``prefetch_factor``, ``persistent_workers``, ``in_order``).
        collate_fn: makes a batch of a list of samples; ``default_collate`` by default.
        pin_memory: put the tensors of batches into pinned memory, from which .to(device,
            non_blocking=True) doesn't wait; without a GPU there is a warning instead.
        pin_memory_device: accepted; pinned memory serves all GPUs.
        drop_last: leave out a last batch that is shorter.
        generator: draws the order, instead of the default generator.
    """

    dataset: Any
    batch_size: int | None
    sampler: Any
    batch_sampler: Any
    _ready = False

    def __init__(self, dataset: Any, batch_size: int | None = 1, shuffle: bool | None = None,
                 sampler: Iterable[Any] | None = None,
                 batch_sampler: Iterable[list[Any]] | None = None, num_workers: int = 0,
                 collate_fn: Callable[[Any], Any] | None = None, pin_memory: bool = False,
                 drop_last: bool = False, timeout: float = 0,
                 worker_init_fn: Callable[[int], None] | None = None,
                 multiprocessing_context: Any = None, generator: Generator | None = None, *,
                 prefetch_factor: int | None = None, persistent_workers: bool = False,
                 pin_memory_device: str = "", in_order: bool = True) -> None:
        _check_worker_options(num_workers, timeout, prefetch_factor, persistent_workers)
        self.dataset, self.num_workers, self.prefetch_factor = dataset, num_workers, prefetch_factor
        self.pin_memory, self.pin_memory_device = pin_memory, pin_memory_device
        self.timeout, self.worker_init_fn, self.in_order = timeout, worker_init_fn, in_order
        self.multiprocessing_context = multiprocessing_context
        self._iterable = isinstance(dataset, IterableDataset)
        if self._iterable:
            for name, value in [("shuffle", shuffle), ("sampler", sampler),
                                ("batch_sampler", batch_sampler)]:
                if value is not None and not (name == "shuffle" and not shuffle):
                    raise ValueError("DataLoader with IterableDataset: expected unspecified "
                                     f"{name} option, but got {name}={value}")
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError("batch_sampler option is mutually exclusive with batch_size, "
                                 "shuffle, sampler, and drop_last")
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually "
                             "exclusive with drop_last")
        if num_workers > 0:
            raise NotImplementedError(
                f"DataLoader(num_workers={num_workers}): worker processes are not supported yet. "
                "Use num_workers=0; a dataset with __getitems__(indices) can load a batch at once")
        if sampler is None:
            if self._iterable:
                sampler = _Endless()
            else:
                sampler = (RandomSampler(dataset, generator=generator) if shuffle
                           else SequentialSampler(dataset))
        if batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size, self.drop_last = batch_size, drop_last
        self.sampler, self.batch_sampler, self.generator = sampler, batch_sampler, generator
        if collate_fn is None:
            collate_fn = default_convert if batch_sampler is None else default_collate
        self.collate_fn = collate_fn
        self.persistent_workers = persistent_workers
        self._announced: int | None = None       # an iterable dataset's length, once asked for
        self._ready = True

    def __setattr__(self, name: str, value: Any) -> None:
        if self._ready and name in _FIXED:
            raise ValueError(f"{name} attribute should not be set after {type(self).__name__} is "
                             "initialized")
        super().__setattr__(name, value)

    @property
    def multiprocessing_context(self) -> Any:
        return self._context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context: Any) -> None:
        if context is not None and self.num_workers == 0:
            raise ValueError("multiprocessing_context can only be used with multi-process loading "
                             f"(num_workers > 0), but got num_workers={self.num_workers}")
        self._context = context

    @property
    def _index_sampler(self) -> Any:
        return self.sampler if self.batch_sampler is None else self.batch_sampler

    def __iter__(self) -> Iterator[Any]:
        return _Pass(self)

    def __len__(self) -> int:
        if not self._iterable:
            return len(self._index_sampler)
        n = self._announced = len(self.dataset)
        if self.batch_size is None:
            return n
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


class _Endless:
    """The sampler of an iterable dataset: it tells only how many samples a batch has."""

    def __iter__(self) -> Iterator[None]:
        while True:
            yield None


class _Pass:
    """One pass over the batches of a loader."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        assert loader.timeout == 0, "a DataLoader without worker processes requires timeout == 0"
        self._loader, self._collate = loader, loader.collate_fn
        self._pin = loader.pin_memory and _can_pin()
        self._indices = iter(loader._index_sampler)
        # PyTorch draws the seed of worker processes whether there are any or not.
        self._base_seed = draw_seed(loader.generator)
        self._source = iter(loader.dataset) if loader._iterable else None
        self._yielded = 0

    def __iter__(self) -> _Pass:
        return self

    def __len__(self) -> int:
        return len(self._loader._index_sampler)

    def __next__(self) -> Any:
        index = next(self._indices)
        batched = self._loader.batch_sampler is not None
        if self._source is None:
            data = self._fetch(index, batched)
        else:
            data = self._collate(self._take(len(index)) if batched else next(self._source))
            self._check_length()
        return pin_batch(data) if self._pin else data

    def _fetch(self, index: Any, batched: bool) -> Any:
        dataset = self._loader.dataset
        if not batched:
            return self._collate(dataset[index])
        if self._collate is default_collate:
            rows = _rows(dataset, index)
            if rows is not None:
                return rows
        return self._collate(samples_of(dataset, index))

    def _take(self, n: int) -> list[Any]:
        assert self._source is not None
        samples = [x for _, x in zip(range(n), self._source)]
        if not samples or (self._loader.drop_last and len(samples) < n):
            raise StopIteration
        return samples

    def _check_length(self) -> None:
        self._yielded += 1
        expected = self._loader._announced
        if expected is not None and self._yielded > expected:
            warnings.warn(
                f"Length of IterableDataset {self._loader.dataset} was reported to be {expected}"
                f"(when accessing len(dataloader)), but {self._yielded} samples have been fetched.",
                stacklevel=3)


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
    index = from_numpy(where)
    return [t[index] for t in dataset.tensors]


def _check_worker_options(num_workers: int, timeout: float, prefetch_factor: int | None,
                          persistent_workers: bool) -> None:
    if num_workers < 0:
        raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable "
                         "multiprocessing.")
    if timeout < 0:
        raise ValueError("timeout option should be non-negative")
    if num_workers == 0 and prefetch_factor is not None:
        raise ValueError("prefetch_factor option could only be specified in multiprocessing.let "
                         "num_workers > 0 to enable multiprocessing, otherwise set prefetch_factor "
                         "to None.")
    if prefetch_factor is not None and prefetch_factor < 0:
        raise ValueError("prefetch_factor option should be non-negative")
    if persistent_workers and num_workers == 0:
        raise ValueError("persistent_workers option needs num_workers > 0")


def _can_pin() -> bool:
    from gpugrad import cuda

    if not cuda.is_available():
        warnings.warn("'pin_memory' argument is set as true but no accelerator is found, then "
                      "device pinned memory won't be used.", stacklevel=4)
        return False
    return True


def get_worker_info() -> None:
    """What a worker process knows of itself; None in the main process."""
    return None
