"""How many threads NumPy's BLAS uses; the compiled helper begins with as many."""
from __future__ import annotations

import ctypes
import functools
import os
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
