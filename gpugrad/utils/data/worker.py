"""What a DataLoader's worker knows and does: its seeds, its loop, and what it sends back."""
from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpugrad.random import Generator, manual_seed
from gpugrad.utils.data.failure import Failure
from gpugrad.utils.data.fetching import fetcher_of


@dataclass(frozen=True, slots=True)
class RNG:
    """Random numbers of one worker thread, as threads share the global generators."""

    random_generator: random.Random
    torch_generator: Generator
    numpy_generator: Any = None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What ``get_worker_info`` gives in a worker.

    id: from 0 to num_workers - 1. seed: what its generators started with. dataset: the worker's
    copy of it; threads share one. rng: in a thread, generators of its own. worker_method:
    "multiprocessing" or "thread".
    """

    id: int
    num_workers: int
    seed: int
    dataset: Any
    rng: RNG | None = None
    worker_method: str | None = "multiprocessing"


@dataclass
class Job:
    """What all workers of a pass have to know."""

    dataset: Any
    iterable: bool
    batched: bool
    collate: Callable[[Any], Any]
    drop_last: bool
    init: Callable[[int], None] | None
    workers: int
    base_seed: int


@dataclass(frozen=True)
class Resume:
    """A task that begins another pass; the worker answers it when it has come so far."""


def numpy_seed(base_seed: int, worker: int) -> Any:
    """The seed of NumPy's legacy generator: unlike those of the others, to be independent."""
    words = [worker, base_seed & 0xFFFFFFFF, base_seed >> 32, 0]
    return np.random.SeedSequence(words).generate_state(4)


def seed_process(base_seed: int, worker: int) -> int:
    """Seed Python's, our and NumPy's generators of a worker process. Returns the seed."""
    seed = base_seed + worker
    random.seed(seed)
    manual_seed(seed)
    np.random.seed(numpy_seed(base_seed, worker))
    return seed


def generators(base_seed: int, worker: int) -> RNG:
    """The generators of a worker thread, seeded as those of a process would be."""
    seed = base_seed + worker
    return RNG(random.Random(seed), Generator().manual_seed(seed),
               np.random.default_rng(numpy_seed(base_seed, worker)))


def work(job: Job, worker: int, where: str, take: Callable[[], Any],
         give: Callable[[str, int, Any], None]) -> None:
    """Do tasks until ``take`` returns None.

    A task is (its number, an index or a list of them). ``give(kind, number, content)`` gets a
    "batch", a "failure", the "end" of an iterable dataset, or "ready" for a Resume.
    """
    failure, fetch, ended = None, None, False
    try:
        if job.init is not None:
            job.init(worker)
        fetch = fetcher_of(job)
    except Exception as e:
        failure = Failure(e, where)
    while True:
        task = take()
        if task is None:
            return
        number, index = task
        if isinstance(index, Resume):
            ended = False
            try:
                fetch = fetcher_of(job)
            except Exception as e:
                failure = Failure(e, where)
            give("ready", number, None)
            continue
        if ended:                       # dealt out before the main process knew
            continue
        if failure is not None:
            give("failure", number, failure)
            failure = None
            continue
        try:
            if fetch is None:
                raise RuntimeError("the worker could not be set up, as its first error said")
            give("batch", number, fetch(index))
        except Exception as e:
            if job.iterable and isinstance(e, StopIteration):
                ended = True
                give("end", number, None)
            else:
                give("failure", number, Failure(e, where, fetch, index))
