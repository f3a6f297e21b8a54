"""Packs many tensors into the struct that kernels take by value, some dozens at a time."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

# As in kernels/many.cuh.
COLUMNS, MOST, CHUNK = 5, 72, 4096
THREADS = 256                       # of a block

# struct Tensors of many.cuh. Kernels have 4 KB for all their parameters.
TENSORS = np.dtype([("at", np.uint64, (COLUMNS, MOST)), ("size", np.int64, MOST),
                    ("first", np.int32, MOST + 1), ("count", np.int32)])


def packs(be: Any, columns: Sequence[Sequence[Any]]) -> Iterator[tuple[Any, int]]:
    """(struct, blocks) for every MOST tensors: columns[j][k] is array j of tensor k.

    A tensor's arrays are dense, of one size and in one memory order. They must live until the
    launch.
    """
    for i in range(0, len(columns[0]), MOST):
        yield pack(be, [column[i:i + MOST] for column in columns])


def pack(be: Any, columns: Sequence[Sequence[Any]]) -> tuple[Any, int]:
    """(struct, blocks) for up to MOST tensors."""
    s, n = np.zeros((), TENSORS), len(columns[0])
    sizes = [a.size for a in columns[0]]
    firsts = list(accumulate([-(-size // CHUNK) for size in sizes], initial=0))
    s["at"][:len(columns), :n] = [[be.address(a) for a in column] for column in columns]
    s["size"][:n] = sizes
    s["first"][:n + 1] = firsts
    s["count"] = n
    return s, firsts[-1]

