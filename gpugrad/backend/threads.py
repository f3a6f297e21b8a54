"""How many threads NumPy's BLAS uses, and the compiled helper; NumPy's work shared by as many."""
from __future__ import annotations

import ctypes
import functools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_chosen: list[int] = []                 # the last set(), where no BLAS can be asked


@functools.cache
def blas() -> tuple[Any, Any] | None:
    """The (get, set) of the number of threads in NumPy's OpenBLAS; None if it has another BLAS."""
    root = Path(np.__file__).parent
    for path in (*root.parent.glob("numpy.libs/*openblas*"), *root.glob(".dylibs/*openblas*")):
        try:
            library = ctypes.CDLL(str(path))
        except OSError:
            continue
        for name in ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_",
                     "scipy_openblas_{}_num_threads", "openblas_{}_num_threads"):
            if hasattr(library, name.format("get")) and hasattr(library, name.format("set")):
                return getattr(library, name.format("get")), getattr(library, name.format("set"))
    return None


def get() -> int:
    """What set() said, else what BLAS begins with: OMP_NUM_THREADS, or this process's CPUs."""
    known = blas()
    if known is not None:
        return int(known[0]())
    if _chosen:
        return _chosen[0]
    said = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    if said.isdigit() and int(said):
        return int(said)
    here = getattr(os, "sched_getaffinity", None)
    return len(here(0)) if here else os.cpu_count() or 1


def set(n: int) -> bool:
    """Let BLAS use n threads from now on; was there a way to tell it?"""
    _chosen[:] = [n]
    try:
        import threadpoolctl
    except ImportError:
        known = blas()
        if known is not None:
            known[1](n)
        return known is not None
    threadpoolctl.threadpool_limits(n, user_api="blas")
    return any(found["user_api"] == "blas" for found in threadpoolctl.threadpool_info())


# Sharing work ------------------------------------------------------------------------------------

_pools: dict[int, Any] = {}             # by how many threads
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)         # a child has no threads but its own


def shared(work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """work(item) of each, in order; some threads work at the same time.

    NumPy lets go of the interpreter's lock in its longer loops. BLAS has one thread meanwhile: an
    item's result doesn't depend on how many there are, and BLAS's own threads, which go on looking
    for work for some milliseconds after each product, aren't in the way.
    """
    n = get()
    known = blas() if n > 1 else None
    if known is None:
        yield from map(work, items)
        return
    known[1](1)
    waiting: deque[Any] = deque()
    try:
        if len(items) < 2:
            yield from map(work, items)
            return
        pool = _pools.get(n)
        if pool is None:
            from concurrent.futures import ThreadPoolExecutor

            pool = _pools[n] = ThreadPoolExecutor(n, "gpugrad")
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * n:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for left in waiting:             # after an error: nothing may go on unseen
            if not left.cancel():
                left.exception()
        known[1](n)
