"""A pass over a DataLoader with workers: which of them loads which batch, and which comes when.

The batches are dealt out in turn to the workers that are still active, prefetch_factor to each
before the first is asked for and one more for each that is taken; they are yielded in the order in
which they were dealt. That is PyTorch's scheme, so an iterable dataset yields in PyTorch's order.
"""
from __future__ import annotations

import itertools
import warnings
import weakref
from collections import deque
from typing import Any

from gpugrad.pinned import pin_batch
from gpugrad.utils.data.dataloader import _BaseDataLoaderIter
from gpugrad.utils.data.fetching import few
from gpugrad.utils.data.sampler import draw_seed
from gpugrad.utils.data.worker import Job, Resume


class WorkerPass(_BaseDataLoaderIter):
    """Iterates over the batches that workers load. With persistent workers, again and again."""

    def __init__(self, loader: Any, pin: bool) -> None:
        if loader.prefetch_factor <= 0:
            raise AssertionError("prefetch_factor must be greater than 0 for "
                                 "MultiProcessingDataLoaderIter")
        # The loader itself isn't kept: it keeps this pass, if its workers are persistent.
        self._dataset, self._iterable = loader.dataset, loader._iterable
        self._sampler, self._count = loader._index_sampler, loader.num_workers
        self._timeout = loader.timeout or None
        self._persistent, self._in_order = loader.persistent_workers, loader.in_order
        self._ahead = loader.prefetch_factor * self._count
        # _start() asks once more: so does PyTorch, and a sampler may draw numbers when asked.
        self._indices = iter(self._sampler)
        job = Job(loader.dataset, loader._iterable, loader.batch_sampler is not None,
                  loader.collate_fn, loader.drop_last, loader.worker_init_fn, self._count,
                  draw_seed(loader.generator))
        context = loader.multiprocessing_context
        if context == "thread":
            from gpugrad.utils.data.threads import Threads as Crew
        else:
            from gpugrad.utils.data.processes import Processes as Crew  # type: ignore[assignment]
        self._crew: Any = Crew(context, job)
        self._close = weakref.finalize(self, self._crew.close)
        self._pinner = _Pinner() if pin else None
        self._error: BaseException | None = None
        self._start(loader)

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers."""
        return list(self._crew.pids)

    @property
    def usable(self) -> bool:
        """Whether there can be another pass with the same workers."""
        return self._close.alive and self._error is None

    def reset(self, loader: Any) -> None:
        """Begin another pass of the loader with the same workers."""
        self._early.clear()
        self._owner.clear()
        for i in range(self._count):
            self._crew.send(i, -1, Resume())
        ready = 0
        while ready < self._count:          # what comes before belongs to a pass that was left
            ready += self._receive()[1].kind == "ready"
        self._start(loader)

    def _start(self, loader: Any) -> None:
        self._announced = loader._announced
        self._indices = iter(self._sampler)
        self._early: deque[Any] = deque()   # messages that _gather has come upon
        self._sent = self._due = 0          # the next number to deal out, the next to yield
        self._owner: dict[int, int] = {}    # which worker has a number
        self._index: dict[int, Any] = {}    # and what it is to load
        self._ready: dict[int, Any] = {}    # what has come before its turn
        self._active = [True] * self._count
        self._loads = [0] * self._count
        self._turn = itertools.cycle(range(self._count))
        self._yielded = 0
        for _ in range(self._ahead):
            self._deal()

    def _deal(self) -> None:
        """Give the next batch to the next worker whose turn it is."""
        try:
            index = next(self._indices)
        except StopIteration:
            return
        for i in itertools.islice(self._turn, self._count):
            if self._active[i] and (self._in_order or
                                    self._loads[i] < self._ahead // sum(self._active)):
                break
        else:
            return
        self._crew.send(i, self._sent, index)
        self._owner[self._sent], self._index[self._sent] = i, index
        self._loads[i] += 1
        self._sent += 1

    def __iter__(self) -> WorkerPass:
        return self

    def __len__(self) -> int:
        return len(self._sampler)

    def __next__(self) -> Any:
        if self._error is not None:
            raise self._error
        data = self._next()
        self._yielded += 1
        expected = self._announced
        if self._iterable and expected is not None and self._yielded > expected:
            warnings.warn(
                f"Length of IterableDataset {self._dataset} was reported to be {expected}"
                f"(when accessing len(dataloader)), but {self._yielded} samples have been fetched. "
                "For multiprocessing data-loading, this could be caused by not properly "
                "configuring the IterableDataset replica at each worker. Please see "
                "https://pytorch.org/docs/stable/data.html#torch.utils.data.IterableDataset for "
                "examples.", stacklevel=2)
        return data

    def _next(self) -> Any:
        while True:
            self._skip()
            if self._due in self._ready:
                number = self._due
                self._due += 1
                return self._deliver(number, self._ready.pop(number))
            i, message = self._receive()
            if message.kind == "end":
                if self._active[i]:
                    self._active[i] = False
                    if not self._persistent:
                        self._crew.dismiss(i)
                self._deal()
                continue
            if self._pinner is not None and message.kind == "batch":
                message = self._pinner.pin(message)
            if message.task == self._due:
                self._due += 1
            elif self._in_order:
                self._ready[message.task] = message
                continue
            return self._deliver(message.task, message)

    def _skip(self) -> None:
        """Go on to the next number that is still to come; StopIteration if there is none."""
        while self._due < self._sent:
            if self._due in self._ready:
                return
            i = self._owner.get(self._due)
            if i is not None and self._active[i]:
                return
            self._owner.pop(self._due, None)
            self._index.pop(self._due, None)
            self._due += 1
        if not self._persistent:
            self._close()
        raise StopIteration

    def _deliver(self, number: int, message: Any) -> Any:
        self._loads[self._owner.pop(number)] -= 1
        del self._index[number]
        self._deal()
        if self._pinner is not None:
            self._gather()
        content = message.open()
        if message.kind == "failure":
            raise content.error()
        return content

    def _gather(self) -> None:
        """Take what has come in the meantime, so that it is pinned while the program goes on."""
        while len(self._ready) < self._ahead and self._in_order:
            try:
                got = self._crew.receive(0)
            except RuntimeError:            # it is told when it is waited for
                return
            if got is None:
                return
            if got[1].kind != "batch":
                self._early.append(got)
                return
            self._ready[got[1].task] = self._pinner.pin(got[1])     # type: ignore[union-attr]

    def _receive(self) -> tuple[int, Any]:
        try:
            got = self._early.popleft() if self._early else self._crew.receive(self._timeout)
        except RuntimeError as e:
            self._error = RuntimeError(f"{e}{self._lost(e)}")
            self._close()
            raise self._error from None
        except BaseException as e:          # such as Ctrl-C, half-way through a message
            self._error = RuntimeError("the workers of this DataLoader's iterator have been "
                                       f"stopped by {type(e).__name__}: iterate over the loader "
                                       "anew")
            self._close()
            raise
        if got is None:
            raise RuntimeError(f"DataLoader timed out after {self._timeout} seconds"
                               f"{self._waiting()}")
        if got[1].kind == "failure" and got[1].task < 0:        # a worker thread has ended
            self._error = got[1].open().error()
            self._close()
            raise self._error
        return got

    def _lost(self, error: Any) -> str:
        """What the workers that have ended were loading."""
        firsts = [min((n for n, i in self._owner.items() if i == w), default=None)
                  for w in getattr(error, "workers", ())]
        loading = [few(self._index[n]) for n in firsts if n is not None]
        return f", while loading {' and '.join(loading)}" if loading and not self._iterable else ""

    def _waiting(self) -> str:
        i = self._owner.get(self._due)
        if i is None:
            return ""
        pids = self._crew.pids
        of = "" if self._iterable else f" of {few(self._index[self._due])}"
        return f": batch {self._due}{of} is with worker {i}{f', pid {pids[i]}' if pids else ''}"

    def __getstate__(self) -> Any:
        raise NotImplementedError("{} cannot be pickled", "_MultiProcessingDataLoaderIter")


class _Pinner:
    """Copies batches to pinned memory, in a thread."""

    def __init__(self) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._pool = ThreadPoolExecutor(1, "pin_memory")

    def pin(self, message: Any) -> Any:
        """A message whose content will be pinned."""
        return _Pinned(message, self._pool.submit(_pin, message))


def _pin(message: Any) -> Any:
    return pin_batch(message.open())


class _Pinned:
    __slots__ = ("_future", "kind", "task")

    def __init__(self, message: Any, future: Any) -> None:
        self.kind, self.task, self._future = message.kind, message.task, future

    def open(self) -> Any:
        return self._future.result()
