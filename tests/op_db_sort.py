"""The records of running sums, sorting and selection. See op_db.py."""
from __future__ import annotations

from typing import Any

import numpy as np

from op_db import Array, Case, Draw, case, record

# Running sums ------------------------------------------------------------------------------------


def cumsum(x: Array, dim: int, backwards: bool = False) -> Array:
    return np.flip(np.cumsum(np.flip(x, dim), dim), dim) if backwards else np.cumsum(x, dim)


record("cumsum", cumsum, lambda d: [
    case(d.real(3, 4), dim=0), case(d.real(3, 4), dim=1), case(d.real(0, 2), dim=0),
    case(d.real(2, 3, 2), dim=1, backwards=True), case(d.real(4), dim=0, backwards=True)])

# Sorting: the references sort pairs of a value and its place -------------------------------------


def order(x: Array, dim: int, descending: bool = False) -> Array:
    def of_line(line: Array) -> list[int]:
        return sorted(range(len(line)), key=lambda i: (-line[i] if descending else line[i], i))
    return np.apply_along_axis(of_line, dim, x).astype(np.int64) if x.size and x.ndim else \
        np.zeros(x.shape, np.int64)


def taken(x: Array, index: Array, dim: int) -> Any:
    return (np.take_along_axis(x, index, dim) if x.ndim else x), index


def first(x: Array, k: int, dim: int, largest: bool = True) -> Any:
    index = order(x, dim, largest)
    return taken(x, np.take(index, range(k), dim) if x.ndim else index, dim)


def kth(x: Array, k: int, dim: int, keepdim: bool = False) -> Any:
    out = taken(x, np.take(order(x, dim), [k - 1], dim) if x.ndim else order(x, dim), dim)
    return out if keepdim or not x.ndim else tuple(a.squeeze(dim) for a in out)


def distinct(d: Draw, *shape: int) -> Array:
    """Values that no dtype rounds to the same."""
    return np.array(d.rng.permutation(int(np.prod(shape))).reshape(shape) / 4 - 2)


def sorts(d: Draw) -> list[Case]:
    return [case(distinct(d, 3, 4), dim=1), case(distinct(d, 5, 2), dim=0, descending=True),
            case(distinct(d, 2, 3, 2), dim=1), case(d.real(), dim=0), case(d.real(0, 3), dim=1)]


for name in ("sort", "sort_stable"):
    record(name, lambda x, dim, descending=False: taken(x, order(x, dim, descending), dim), sorts)
record("argsort", order, sorts)
record("topk", first, lambda d: [
    case(distinct(d, 3, 4), k=2, dim=1), case(distinct(d, 40, 2), k=3, dim=0, largest=False),
    case(distinct(d, 2, 40), k=5, dim=1), case(d.real(), k=1, dim=0),
    case(distinct(d, 3), k=0, dim=0), case(d.real(0, 3), k=2, dim=1)])
record("kthvalue", kth, lambda d: [
    case(distinct(d, 3, 4), k=2, dim=1), case(distinct(d, 5, 2), k=5, dim=0, keepdim=True),
    case(d.real(), k=1, dim=0)])
