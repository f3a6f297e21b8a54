"""Pinned host memory: ordinary memory that knows what it stands for."""
from __future__ import annotations

import ctypes
from typing import Any

import numpy as np


class PinnedMemoryPointer:
    """Pinned memory; ``numpy.frombuffer`` takes it. Made by ``alloc_pinned_memory``."""

    @property
    def ptr(self) -> int:
        return ctypes.addressof(self)                           # type: ignore[arg-type]

    @property
    def mem(self) -> Any:
        return self

    def size(self) -> int:
        return len(self)                                        # type: ignore[arg-type]


def alloc_pinned_memory(size: int) -> Any:
    """New pinned memory of at least this many bytes."""
    kind: Any = type("PinnedMemoryPointer", (PinnedMemoryPointer, ctypes.c_ubyte * int(size)), {})
    return kind()


class PinnedMemoryPool:
    """A pool of pinned memory, which keeps nothing."""

    def __init__(self, allocator: Any = None) -> None:
        pass

    def malloc(self, size: int) -> Any:
        return alloc_pinned_memory(size)

    def free_all_blocks(self) -> None:
        pass

    def n_free_blocks(self) -> int:
        return 0


def is_pinned(a: Any) -> bool:
    """Whether a NumPy array lies in pinned memory."""
    while isinstance(a, np.ndarray):
        a = a.base
    return isinstance(getattr(a, "obj", a), PinnedMemoryPointer)
