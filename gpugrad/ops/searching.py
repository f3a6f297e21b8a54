"""Distinct elements, counts, and places in sorted sequences. Backward through them is an error."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad.autograd.op import op
from gpugrad.dtypes import HALF


def refuse(name: str) -> Any:
    """What a gradient rule does where PyTorch has none."""
    raise NotImplementedError(f"the derivative for '{name}' is not implemented: call it on "
                              "x.detach()")


INT64 = np.dtype(np.int64)

# Distinct elements -------------------------------------------------------------------------------


def line_order(be: Any, lines: Any) -> Any:
    """The order of the rows of a matrix, by the first column, then by the second, and so on."""
    n, columns = lines.shape
    if columns == 1:
        return be.xp.argsort(lines[:, 0], kind="stable")
    index = be.xp.arange(n)
    for column in range(columns - 1, -1, -1):
        index = index[be.xp.argsort(lines[index, column], kind="stable")]
    return index


def starts_of_runs(be: Any, lines: Any) -> Any:
    """Which rows of a matrix differ from the one before? A NaN differs from a NaN."""
    new = be.xp.ones(lines.shape[0], bool)
    if lines.shape[1] == 1:
        new[1:] = lines[1:, 0] != lines[:-1, 0]
    else:
        new[1:] = (lines[1:] != lines[:-1]).any(1)
    return new


def runs(be: Any, lines: Any) -> tuple[Any, Any, Any]:
    """(where runs of equal rows begin, the number of each row's run, how long the runs are)."""
    xp = be.xp
    new = starts_of_runs(be, lines)
    first = xp.flatnonzero(new)
    ends = xp.concatenate((first, xp.full((1,), lines.shape[0], first.dtype)))
    return first, xp.cumsum(new) - 1, ends[1:] - ends[:-1]


def as_lines(be: Any, x: Any, dim: int | None) -> tuple[Any, Any]:
    """(the elements, or the parts along dim, as rows of a matrix; what they are parts of)."""
    rows = x.reshape(-1) if dim is None else be.xp.moveaxis(x, dim, 0)
    lines = rows.reshape((rows.shape[0], -1)) if rows.size else be.xp.zeros((len(rows), 1), x.dtype)
    return (lines.astype(np.float32) if x.dtype in HALF else lines), rows


def back(be: Any, x: Any, rows: Any, inverse: Any, dim: int | None) -> tuple[Any, Any]:
    """The distinct rows along dim, and their numbers in the shape of x if it was flattened."""
    if dim is None:
        return rows, inverse.reshape(x.shape)
    return be.xp.moveaxis(rows, 0, dim), inverse


def distinct(be: Any, x: Any, dim: int | None) -> tuple[Any, Any, Any]:
    """(the distinct parts in order, the number of each part's, how often each occurs)."""
    lines, rows = as_lines(be, x, dim)
    index = line_order(be, lines)
    first, number, counts = runs(be, lines[index])
    inverse = be.xp.empty_like(number)
    inverse[index] = number
    return (*back(be, x, rows[index[first]], inverse, dim), counts)


@op("Unique2Backward0", outputs=3, diff=1)
class unique:
    """(the distinct elements in order, where each element is among them, how often they occur)."""
    def forward(be, x):
        return distinct(be, x, None)
    def grad_x(o, g):
        refuse("_unique2")


@op("UniqueDimBackward0", outputs=3, diff=1)
class unique_dim:
    """unique of the parts along a dim, in lexicographic order."""
    def forward(be, x, *, dim):
        return distinct(be, x, dim)
    def grad_x(o, g):
        refuse("unique_dim")


@op("UniqueConsecutiveBackward0", outputs=3, diff=1)
class unique_consecutive:
    """(one of each run of equal neighbours, the number of each element's run, their lengths)."""
    def forward(be, x, *, dim=None):
        lines, rows = as_lines(be, x, dim)
        first, number, counts = runs(be, lines)
        return (*back(be, x, rows[first], number, dim), counts)
    def grad_x(o, g):
        refuse("unique_consecutive")


# Places in sorted sequences ----------------------------------------------------------------------


def in_rows(be: Any, sequence: Any, x: Any, right: bool) -> Any:
    """searchsorted in the last dim of each row: by halves, all at once."""
    n = sequence.shape[-1]
    low, high = be.xp.zeros(x.shape, np.int64), be.xp.full(x.shape, n, np.int64)
    for _ in range(n.bit_length()):
        middle = (low + high) // 2
        value = be.xp.take_along_axis(sequence, be.xp.minimum(middle, n - 1), -1)
        # a NaN to look for is behind all numbers
        further = ~(value > x) if right else ~(value >= x)
        further &= low < high
        low, high = be.xp.where(further, middle + 1, low), be.xp.where(further, high, middle)
    return low


@op()
class searchsorted:
    """Where x would have to be put into a sorted sequence: before equal elements, or after them.

    A sequence of one dim serves all of x; else the dims but the last are those of x.
    """
    def forward(be, sequence, x, *, right=False, dtype=INT64):
        common = np.float32 if x.dtype in HALF else np.result_type(sequence.dtype, x.dtype)
        sequence, x = sequence.astype(common, copy=False), x.astype(common, copy=False)
        if sequence.ndim == 1:
            side = "right" if right else "left"
            out = be.xp.searchsorted(sequence, x.reshape(-1), side).reshape(x.shape)
        else:
            out = in_rows(be, sequence, x, right)
        return be.asarray(out).astype(dtype, copy=False)


# Counts ------------------------------------------------------------------------------------------


@op()
class bincount:
    """How often each number from 0 on occurs in x, or the sums of their weights."""
    def forward(be, x, weights=None, *, minlength=0):
        if weights is None:
            return be.xp.bincount(x, minlength=minlength)
        return be.xp.bincount(x, weights, minlength).astype(weights.dtype, copy=False)
    def meta(be, x, weights=None, *, minlength=0):
        raise NotImplementedError("the length of the result depends on the greatest element")


def bins_of(be: Any, x: Any, edges: Any) -> Any:
    """For each element the bin between neighbouring edges; as many as there are for none of them.

    The last bin has both of its edges. A NaN is in no bin.
    """
    n = edges.shape[0] - 1
    place = be.xp.searchsorted(edges, x, "right") - 1
    place = be.xp.where(x == edges[n:], n - 1, place)
    inside = (x >= edges[0]) & (x <= edges[n])
    return be.xp.where(inside, be.xp.minimum(be.xp.maximum(place, 0), n - 1), n)


@op("NotImplemented")
class histogram:
    """How many rows of x (n, d), or which weights, lie in each box between the edges of d dims."""
    def forward(be, x, weight, *edges):
        sizes = tuple([e.shape[0] - 1 for e in edges])
        place = be.xp.zeros(x.shape[0], np.int64)
        for d, (e, size) in enumerate(zip(edges, sizes)):
            # what isn't counted goes into one more bin
            place = place * (size + 1) + bins_of(be, be.xp.ascontiguousarray(x[:, d]), e)
        all_bins = tuple([n + 1 for n in sizes])
        counts = be.sums_at(place, weight, math.prod(all_bins)).reshape(all_bins)
        return counts[tuple([slice(n) for n in sizes])].astype(x.dtype)
    def grads(o, g, needs):
        raise RuntimeError("derivative for aten::histogram is not implemented: call it on "
                           "x.detach()")


@op()
class histc:
    """How many elements lie in each of ``bins`` equal bins between two numbers."""
    def forward(be, x, *, bins, min, max):
        wide = x.reshape(-1)
        if x.dtype in HALF:
            wide = wide.astype(np.float32)
        low, high = be.number[min, wide.dtype], be.number[max, wide.dtype]
        inside = (wide >= low) & (wide <= high)
        place = (be.drop(wide, ~inside) - low) * be.number[bins, wide.dtype] / (high - low)
        place = be.xp.minimum(be.xp.maximum(place, 0), bins - 1).astype(np.int64)
        return be.sums_at(be.xp.where(inside, place, bins), None, bins + 1)[:bins].astype(x.dtype)
    grad_x = None
