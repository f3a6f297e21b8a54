"""How many threads NumPy's BLAS uses, and the compiled helper; NumPy's work shared by as many."""
from __future__ import annotations

import ctypes
import functools
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
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


def alone(multiply: Callable[..., Any], a: Any, b: Any, out: Any) -> Any:
    """A product by one of BLAS's threads: to wake others takes longer, at times milliseconds."""
    known = blas()
    if known is None or (n := known[0]()) == 1:
        return multiply(a, b, out=out)
    known[1](1)
    try:
        return multiply(a, b, out=out)
    finally:
        known[1](n)


# Sharing work ------------------------------------------------------------------------------------

_pools: dict[int, Any] = {}             # by how many threads
_here = threading.local()               # .sharing: is this thread at work that it shares?
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)         # a child has no threads but its own


def share(work: Callable[[Any], Any], items: Sequence[Any],
          take: Callable[[Any], None] | None = None) -> None:
    """work(item) of each, by this thread and others at the same time; take(result) in order.

    NumPy lets go of the interpreter's lock in its longer loops. BLAS has one thread meanwhile: an
    item's result doesn't depend on how many there are, and BLAS's own threads aren't in the way.
    """
    n = 1 if len(items) < 2 or hasattr(_here, "sharing") else get()
    known = blas() if n > 1 else None
    if known is None:
        for item in items:
            result = work(item)
            if take is not None:
                take(result)
        return
    turns, ready, taking = itertools.count(), {}, threading.Lock()
    left, failed = deque(range(len(items))), False

    def go() -> None:
        nonlocal failed
        _here.sharing = True
        try:
            while not failed and (i := next(turns)) < len(items):
                result = work(items[i])
                if take is not None:
                    ready[i] = result
                    with taking:        # whoever has the next one takes all that are in line
                        while left and left[0] in ready:
                            take(ready.pop(left.popleft()))
        except BaseException:
            failed = True
            raise
        finally:
            del _here.sharing

    pool = _pools.get(n)
    if pool is None:
        from concurrent.futures import ThreadPoolExecutor

        pool = _pools[n] = ThreadPoolExecutor(n - 1, "gpugrad")
    known[1](1)
    others = [pool.submit(go) for _ in range(min(n, len(items)) - 1)]
    try:
        go()
    finally:
        errors = [other.exception() for other in others if not other.cancel()]
        known[1](n)
    for error in filter(None, errors):
        raise error
