"""The records of running products and extremes, medians, modes and searches. See op_db.py.

The references go through the elements one by one.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from op_db import Array, Case, Draw, case, record
from op_db_pointwise import UNDEFINED

# Running products and extremes -------------------------------------------------------------------


def along(f: Callable[[Array], list[Any]], x: Array, dim: int) -> Array:
    """What f makes of each line along dim."""
    return np.apply_along_axis(f, dim, x) if x.size else np.zeros(x.shape)


def lines(d: Draw) -> list[Case]:
    return [case(d.real(3, 4), dim=0), case(d.real(3, 4), dim=1), case(d.real(2, 5, 2), dim=1),
            case(d.real(1), dim=0), case(d.real(0, 2), dim=0), case(d.real(2, 0), dim=0)]


def with_zeros(d: Draw) -> list[Case]:
    zeros = np.array([[2.0, 0, 3, 4, 5], [1, 2, 0, 0, 3], [0, 1, 2, 3, 4]])
    return [*lines(d), case(zeros, dim=1), case(zeros, dim=0)]


def extremes(sign: int) -> Callable[..., tuple[Array, Array]]:
    def reference(x: Array, dim: int) -> tuple[Array, Array]:
        def places(line: Array) -> list[int]:
            return [max(range(i + 1), key=lambda j: (sign * line[j], j)) for i in range(len(line))]
        index = along(places, x, dim).astype(np.int64)
        return np.take_along_axis(x, index, dim), index
    return reference


def log_of_sums(line: Array) -> list[Any]:
    return [np.log(np.sum(np.exp(line[:i + 1]))) for i in range(len(line))]


record("cumprod", lambda x, dim: np.cumprod(x, dim), with_zeros)
record("cummax", extremes(1), lines)
record("cummin", extremes(-1), lines)
record("logcumsumexp", lambda x, dim: along(log_of_sums, x, dim), lambda d: [
    *lines(d), case(20 * d.real(4, 3), dim=0)])


# Medians and modes -------------------------------------------------------------------------------


def distinct(d: Draw, *shape: int) -> Array:
    """Values that no dtype rounds to the same."""
    return np.array(d.rng.permutation(int(np.prod(shape))).reshape(shape) / 4 - 2)


def some_nan(d: Draw, *shape: int) -> Array:
    x = distinct(d, *shape)
    x.reshape(-1)[1::3] = np.nan
    return x


def middle(x: Array) -> Any:
    """The lower of the middle elements but for NaN."""
    left = sorted(v for v in x.reshape(-1) if v == v)
    return left[(len(left) - 1) // 2] if left else np.nan


def of_lines(f: Callable[[Array], int]) -> Callable[..., tuple[Array, Array]]:
    """(values, indices) of the elements that f says of each line."""
    def reference(x: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
        index = np.expand_dims(np.apply_along_axis(f, dim, x), dim)
        value = np.take_along_axis(x, index, dim)
        return (value, index) if keepdim else (value.squeeze(dim), index.squeeze(dim))
    return reference


def place_of_middle(line: Array) -> int:
    return list(line).index(middle(line))


def commonest(line: Array) -> int:
    values = list(line)
    best = max(sorted(set(values)), key=values.count)
    return len(values) - 1 - values[::-1].index(best)


record("median_all", middle, lambda d: [
    case(distinct(d, 3, 5)), case(distinct(d, 4)), case(d.real())])
record("nanmedian_all", middle, lambda d: [
    case(distinct(d, 3, 5)), case(some_nan(d, 7)), case(d.real())])
record("median", of_lines(place_of_middle), lambda d: [
    case(distinct(d, 3, 5), dim=1), case(distinct(d, 4, 3), dim=0, keepdim=True)])
record("nanmedian", of_lines(place_of_middle), lambda d: [
    case(distinct(d, 3, 5), dim=1), case(some_nan(d, 5, 4), dim=0, keepdim=True)])
record("mode", of_lines(commonest), lambda d: [
    case(d.index(3, 4, 6), dim=1), case(d.index(3, 6, 2), dim=0),
    case(distinct(d, 5), dim=0, keepdim=True)])
record("nansum", lambda x, dim=None, keepdim=False: np.nansum(x, dim, keepdims=keepdim),
       lambda d: [case(d.real(3, 4)), case(some_nan(d, 3, 4), dim=(0,)), case(d.real()),
                  case(some_nan(d, 2, 3, 2), dim=(0, 2), keepdim=True), case(d.real(0, 2))])
record("aminmax", lambda x, dim=None, keepdim=False: (
    x.min(dim, keepdims=keepdim), x.max(dim, keepdims=keepdim)), lambda d: [
        case(d.real(3, 4)), case(d.real(3, 4), dim=(1,)), case(d.real()),
        case(d.real(2, 3, 2), dim=(0, 2), keepdim=True)])


# Distinct elements -------------------------------------------------------------------------------


def of_parts(x: Array, dim: int | None, in_order: bool) -> tuple[Array, Array, Array]:
    """(distinct parts, the number of each part's, how often each occurs)."""
    parts = [tuple(np.ravel(p)) for p in (x.reshape(-1) if dim is None else np.moveaxis(x, dim, 0))]
    if in_order:
        kept = sorted(set(parts))
        number = [kept.index(p) for p in parts]
    else:
        kept, number = [], []
        for i, p in enumerate(parts):
            if not i or p != parts[i - 1]:
                kept.append(p)
            number.append(len(kept) - 1)
    counts = np.array([number.count(i) for i in range(len(kept))], np.int64)
    shape = () if dim is None else (*x.shape[:dim], *x.shape[dim + 1:])
    values = np.array(kept, x.dtype).reshape((len(kept), *shape))
    index = np.array(number, np.int64)
    return (values, index.reshape(x.shape), counts) if dim is None else \
        (np.moveaxis(values, 0, dim), index, counts)


def few(d: Draw, *shape: int) -> Array:
    return d.index(3, *shape).astype(float)


record("unique", lambda x: of_parts(x, None, True), lambda d: [
    case(few(d, 3, 4)), case(d.index(4, 9)), case(few(d)), case(few(d, 0, 2))])
record("unique_dim", lambda x, dim: of_parts(x, dim, True), lambda d: [
    case(few(d, 9, 2), dim=0), case(few(d, 1, 7), dim=1), case(d.index(2, 2, 9, 2), dim=1)])
record("unique_consecutive", lambda x, dim=None: of_parts(x, dim, False), lambda d: [
    case(few(d, 3, 4)), case(few(d, 9, 1), dim=0), case(d.index(2, 8)), case(few(d))])


# Searches and counts -----------------------------------------------------------------------------


def places(sequence: Array, x: Array, right: bool = False, dtype: Any = np.int64) -> Array:
    def place(row: Array, v: Any) -> int:
        return sum(bool(s <= v if right else s < v) for s in row)
    rows = np.broadcast_to(sequence, (*x.shape[:-1], sequence.shape[-1])) if x.ndim else sequence
    out = np.zeros(x.shape, dtype)
    for i in np.ndindex(*x.shape):
        out[i] = place(rows[i[:-1]], x[i])
    return out


steps = np.array([[-1.0, 0, 0, 1, 2], [-2, -1, 0, 0, 3]])
record("searchsorted", places, lambda d: [
    case(steps[0], few(d, 3, 4)), case(steps[0], few(d, 3, 4), right=True),
    case(steps, few(d, 2, 6) - 1), case(steps, few(d, 2, 3), right=True, dtype=np.dtype("i4")),
    case(steps[0], d.real()), case(d.real(0), few(d, 3)), case(steps[0], d.real(0, 3))])


def counted(x: Array, weights: Array | None = None, minlength: int = 0) -> Array:
    out = np.zeros(max(minlength, x.max() + 1), np.int64 if weights is None else weights.dtype)
    for i, v in enumerate(x):
        out[v] += 1 if weights is None else weights[i]
    return out


def in_bins(x: Array, weight: Array | None, *edges: Array) -> Array:
    out = np.zeros([len(e) - 1 for e in edges])
    for row, w in zip(x, np.ones(len(x)) if weight is None else weight):
        for box in np.ndindex(*out.shape):
            out[box] += w * all(e[i] <= v < e[i + 1] or (i == len(e) - 2 and v == e[i + 1])
                                for i, e, v in zip(box, edges, row))
    return out


record("bincount", counted, lambda d: [case(d.index(5, 9)), case(d.index(3, 4), minlength=8),
                                       case(d.index(4, 6), np.round(4 * d.real(6)) / 4)])
record("histogram", in_bins, lambda d: [
    case(few(d, 7, 1), None, np.array([0.0, 1, 2])),
    case(d.real(9, 2), None, np.array([-1.0, 0, 0.5]), np.array([-2.0, 0])),
    case(few(d, 6, 1), few(d, 6), np.array([0.0, 1, 3])),
    case(d.real(0, 1), None, np.array([0.0, 1]))])
record("histc", lambda x, bins, min, max: in_bins(
    x.reshape(-1, 1), None, np.linspace(min, max, bins + 1)), lambda d: [
    case(few(d, 3, 4), bins=4, min=0.0, max=2.0), case(few(d, 9), bins=2, min=1.0, max=2.0),
    case(few(d), bins=3, min=-1.0, max=2.0), case(d.real(0, 3), bins=2, min=0.0, max=1.0)])

UNDEFINED |= {"unique", "unique_dim", "unique_consecutive", "histogram", "histc"}
