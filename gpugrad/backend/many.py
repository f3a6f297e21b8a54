"""Packs many tensors into the struct that kernels take by value, some dozens at a time."""
from __future__ import annotations

import functools
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

CHUNK = 4096                        # elements that a block takes, as in kernels/many.cuh
THREADS = 256                       # of a block


def struct(columns: int, most: int) -> Any:
    """TensorsOf<columns, most> of many.cuh. Kernels have 4 KB for all their parameters."""
    return np.dtype([("at", np.uint64, (columns, most)), ("size", np.int64, most),
                     ("first", np.int32, most + 1), ("count", np.int32)])


MOST, MOST_GRADIENTS = 72, 200      # of five columns, of one
TENSORS, GRADIENTS = struct(5, MOST), struct(1, MOST_GRADIENTS)
_STRUCTS = {MOST: TENSORS, MOST_GRADIENTS: GRADIENTS}


def packs(be: Any, columns: Sequence[Sequence[Any]], most: int = MOST) -> Iterator[tuple[Any, int]]:
    """(struct, blocks) for every ``most`` tensors: columns[j][k] is array j of tensor k.

    A tensor's arrays are dense, of one size and in one memory order. They must live until the
    launch.
    """
    for i in range(0, len(columns[0]), most):
        yield pack(be, [column[i:i + most] for column in columns], most)


def pack(be: Any, columns: Sequence[Sequence[Any]], most: int = MOST) -> tuple[Any, int]:
    """(struct, blocks) for up to ``most`` tensors."""
    n = len(columns[0])
    empty, blocks = _laid_out(most, tuple([a.size for a in columns[0]]))
    s = empty.copy()
    at = s["at"]
    for j, column in enumerate(columns):
        at[j, :n] = array("Q", [a.data.ptr for a in column])
    return s, blocks


@functools.lru_cache(256)
def _laid_out(most: int, sizes: tuple[int, ...]) -> tuple[Any, int]:
    """The struct without addresses, and the blocks."""
    s, n = np.zeros((), _STRUCTS[most]), len(sizes)
    firsts = list(accumulate([-(-size // CHUNK) for size in sizes], initial=0))
    s["size"][:n] = sizes
    s["first"][:n + 1] = firsts
    s["count"] = n
    return s, firsts[-1]
