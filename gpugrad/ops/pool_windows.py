"""Where the windows of pooling lie: how many there are, and what each of them covers."""
from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from gpugrad.backend.columns import span
from gpugrad.backend.compiled import FLOAT

ONE = (1, 1)


class Side(NamedTuple):
    """How windows lie along the rows or the columns of an image.

    taps has, for each kernel row or column, which of the ``out`` outputs have that element inside
    the image, and where. whole has those places where all have, partial the other taps.
    """
    out: int
    taps: list[tuple[slice, slice]]
    whole: list[slice]
    partial: list[tuple[slice, slice]]


def pooled_size(size: int, k: int, s: int, p: int, d: int, ceil_mode: bool) -> int:
    """How many windows fit along a dim; in ceil_mode the last may begin anywhere in the image."""
    out = (size + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil_mode else 0)) // s + 1
    return out - 1 if ceil_mode and (out - 1) * s >= size + p else out


@functools.lru_cache(256)
def plan(h: int, w: int, kernel: Any, stride: Any, padding: Any, dilation: Any,
         ceil_mode: bool) -> tuple[Side, Side]:
    """Down the rows, and across the columns."""
    sides = []
    for size, k, s, p, d in zip((h, w), kernel, stride, padding, dilation):
        out = pooled_size(size, k, s, p, d, ceil_mode)
        taps = [span(i * d - p, size, s, out) for i in range(k)]
        everything = slice(0, out)
        sides.append(Side(out, taps, [there for mine, there in taps if mine == everything],
                          [tap for tap in taps if tap[0] != everything]))
    return sides[0], sides[1]


@functools.lru_cache(16)
def first_positions(planes: int, plane_size: int, w: int, out_hw: Any, stride: Any,
                    padding: Any) -> Any:
    """The position of each window's first element, be it in the padding, in a part of a batch."""
    oh, ow = out_hw
    rows = np.arange(oh) * (stride[0] * w) - padding[0] * w
    corners = rows[:, None] + (np.arange(ow) * stride[1] - padding[1])
    return corners + (np.arange(planes) * plane_size)[:, None, None]


@functools.lru_cache(256)
def numbers(*pairs: Any) -> Any:
    """The numbers of pairs in one array."""
    return np.array(pairs, np.int64).ravel()


@functools.lru_cache(64)
def divisors(h: int, w: int, oh: int, ow: int, kernel: Any, stride: Any, padding: Any,
             count_include_pad: bool, override: int | None) -> Any:
    """How many elements each window has: (oh, ow), or () where all are alike."""
    if override is not None:
        return np.array(override)
    counts = []
    for size, out, k, s, p in zip((h, w), (oh, ow), kernel, stride, padding):
        starts = np.arange(out) * s - p
        stops = np.minimum(starts + k, size + p)
        counts.append(stops - starts if count_include_pad else
                      np.minimum(stops, size) - np.maximum(starts, 0))
    n = np.outer(*counts)
    return n[0, 0] if (n == n[0, 0]).all() else n


@functools.lru_cache(64)
def spans(h: int, w: int, kernel: Any, stride: Any = None, padding: Any = None,
          ceil_mode: bool = False, *counting: Any) -> tuple[Any, Any, Any]:
    """How many windows there are, where they begin and end down and across, and their divisors.

    Without a stride, ``kernel`` is the number of adaptive windows.
    """
    if stride is None:
        ends = [np.array(adaptive_windows(*pair), np.int64).reshape(-1, 2).T
                for pair in zip((h, w), kernel)]
        size, divisor = kernel, np.outer(*[stop - start for start, stop in ends])
    else:
        sides = plan(h, w, kernel, stride, padding, ONE, ceil_mode)
        size = sides[0].out, sides[1].out
        starts = [np.arange(n) * s - p for n, s, p in zip(size, stride, padding)]
        ends = [np.array([np.maximum(start, 0), np.maximum(np.minimum(start + k, n), 0)])
                for start, n, k in zip(starts, (h, w), kernel)]
        divisor = divisors(h, w, *size, kernel, stride, padding, *counting)
    return size, np.concatenate([*ends[0], *ends[1]]), np.array(divisor, FLOAT)


def regular(size: Any, out: Any) -> bool:
    """Are all adaptive windows of one size, side by side?"""
    return all(o and s % o == 0 for s, o in zip(size, out))


def adaptive_windows(size: int, out: int) -> list[tuple[int, int]]:
    return [(i * size // out, -((i + 1) * size // -out)) for i in range(out)]
