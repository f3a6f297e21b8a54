"""DataLoader: batches of a dataset, in order or shuffled, made here or by workers."""
from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from gpugrad.pinned import pin_batch
from gpugrad.random import Generator
from gpugrad.utils.data.collate import default_collate, default_convert
from gpugrad.utils.data.dataset import IterableDataset
from gpugrad.utils.data.fetching import IterableFetcher, MapFetcher
from gpugrad.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler, draw_seed
from gpugrad.utils.data.worker_info import get_worker_info as get_worker_info

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
        num_workers: processes that load batches ahead; with 0 they are loaded when asked for. Large
            arrays come through shared memory. Ctrl-C, the end of the program or of the iterator
            ends the processes; if one of them dies, RuntimeError says which, and how.
        collate_fn: makes a batch of a list of samples; ``default_collate`` by default.
        pin_memory: put the tensors of batches into pinned memory, from which .to(device,
            non_blocking=True) doesn't wait; without a GPU there is a warning instead.
        pin_memory_device: accepted; pinned memory serves all GPUs.
        drop_last: leave out a last batch that is shorter.
        timeout: RuntimeError if workers take longer for a batch, in seconds; 0 waits on.
        worker_init_fn: called in each worker with its number, when it has been seeded.
        multiprocessing_context: how workers start: "fork", "forkserver", "spawn" or a context of
            multiprocessing, whose default it is; "thread" for threads, which share the dataset and
            suit reading that waits for files or releases the GIL.
        generator: draws the order and the seed of the workers, instead of the default generator.
        prefetch_factor: batches that each worker loads ahead, by default 2.
        persistent_workers: keep the workers for the next pass.
        in_order: False yields batches as they come.

    An error in a worker is raised here, in its type, with the worker's traceback and the index.
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
        if num_workers > 0 and prefetch_factor is None:
            prefetch_factor = 2
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
        self._iterator: Any = None               # with persistent workers, their passes
        self._warn_of_many()
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
        self._context = context if context is None or context == "thread" else _checked(context)

    @property
    def _index_sampler(self) -> Any:
        return self.sampler if self.batch_sampler is None else self.batch_sampler

    def __iter__(self) -> Iterator[Any]:
        if self.num_workers == 0:
            return _Pass(self, self.pin_memory and self._can_pin())
        it = self._iterator
        if it is not None and it.usable:
            it.reset(self)
            return it
        from gpugrad.utils.data.parallel import WorkerPass

        self._warn_of_many()
        it = WorkerPass(self, self.pin_memory and self._can_pin())
        if self.persistent_workers:
            self._iterator = it
        return it

    def _can_pin(self) -> bool:
        from gpugrad import cuda

        if self.pin_memory_device:
            warnings.warn("pin_memory_device is deprecated, the current accelerator will be used "
                          f"as the device,ignore pin_memory_device='{self.pin_memory_device}'.",
                          stacklevel=3)
        if not cuda.is_available():
            warnings.warn("'pin_memory' argument is set as true but no accelerator is found, then "
                          "device pinned memory won't be used.", stacklevel=3)
            return False
        return True

    def _warn_of_many(self) -> None:
        if self.num_workers == 0 or self._context == "thread":
            return
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        if cpus is None or self.num_workers > cpus:
            counted = "" if hasattr(os, "sched_getaffinity") else \
                " (`cpuset` is not taken into account)"
            suggested = "DataLoader is not able to compute a suggested max number of worker in " \
                "current system." if cpus is None else \
                f"Our suggested max number of worker in current system is {cpus}{counted}, which " \
                "is smaller than what this DataLoader is going to create."
            warnings.warn(
                f"This DataLoader will create {self.num_workers} worker processes in total. "
                f"{suggested} Please be aware that excessive worker creation might get DataLoader "
                "running slow or even freeze, lower the worker number to avoid potential "
                "slowness/freeze if necessary.", stacklevel=3)

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


class _BaseDataLoaderIter:
    """What a DataLoader's iterators are."""


class _MultiProcessingDataLoaderIter(_BaseDataLoaderIter):
    """PyTorch's iterator with workers, whose inner parts programs use; none is one."""


class _Pass(_BaseDataLoaderIter):
    """One pass over the batches of a loader, in this process."""

    def __init__(self, loader: DataLoader[Any], pin: bool) -> None:
        if loader.timeout != 0:
            raise AssertionError("_SingleProcessDataLoaderIter requires timeout == 0: there are no "
                                 "workers to wait for")
        self._loader, self._pin = loader, pin
        self._indices = iter(loader._index_sampler)
        # PyTorch draws the seed of worker processes whether there are any or not.
        self._base_seed = draw_seed(loader.generator)
        batched = loader.batch_sampler is not None
        self._fetch: Any = (
            IterableFetcher(loader.dataset, loader.collate_fn, batched, loader.drop_last)
            if loader._iterable else MapFetcher(loader.dataset, loader.collate_fn, batched))
        self._yielded = 0

    def __iter__(self) -> _Pass:
        return self

    def __len__(self) -> int:
        return len(self._loader._index_sampler)

    def __next__(self) -> Any:
        index = next(self._indices)
        try:
            data = self._fetch(index)
        except Exception as e:
            if hasattr(e, "add_note") and not isinstance(e, StopIteration):      # Python 3.11
                e.add_note(f"DataLoader: it was {self._fetch.place(index)}.")
            raise
        if self._loader._iterable:
            self._check_length()
        return pin_batch(data) if self._pin else data

    def _check_length(self) -> None:
        self._yielded += 1
        expected = self._loader._announced
        if expected is not None and self._yielded > expected:
            warnings.warn(
                f"Length of IterableDataset {self._loader.dataset} was reported to be {expected}"
                f"(when accessing len(dataloader)), but {self._yielded} samples have been "
                "fetched. ", stacklevel=3)


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


def _checked(context: Any) -> Any:
    """A context of multiprocessing, of a start method's name or of itself."""
    import multiprocessing

    if isinstance(context, str):
        methods = multiprocessing.get_all_start_methods()
        if context not in methods:
            raise ValueError("multiprocessing_context option should specify a valid start method "
                             f"in {methods!r}, but got multiprocessing_context={context!r}")
        return multiprocessing.get_context(context)
    if not isinstance(context, multiprocessing.context.BaseContext):
        raise TypeError("multiprocessing_context option should be a valid context object or a "
                        "string specifying the start method, but got "
                        f"multiprocessing_context={context}")
    return context
