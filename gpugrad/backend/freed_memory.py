"""Memory of freed arrays stays with the process, up to a bound: the next step finds it there.

glibc gives the end of its heap back to the system as soon as more than some tens of MB are free: at
the end of each training step, so that the next one has the system map it again, page by page. That
is a twentieth of a step's time, and no other thread helps with it.
"""
from __future__ import annotations

import contextlib
import ctypes
import os

LARGEST = 256 << 20, 32 << 20       # bytes of an array that the heap serves; older ones take less
KEPT = 1 << 30                      # bytes that may be free at the heap's end
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3           # mallopt's numbers for them
_SET = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep() -> bool:
    """Ask glibc for it; False for other C libraries, and where the environment says something."""
    if os.name != "posix" or any([name in os.environ for name in _SET]):
        return False
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            told = any(libc.mallopt(_MMAP_THRESHOLD, n) for n in LARGEST)
            return told and bool(libc.mallopt(_TRIM_THRESHOLD, KEPT))
    return False
