"""What is done to the gradients of a whole network at once: norm, clipping, unscaling.

Arrays are of one backend and one dtype, and dense. Nothing is read by the host. Where a function
may return NotImplemented, nothing has been done, and the caller takes the portable way.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad.backend import many

FILE = "gradients"
EUCLIDEAN, ABSOLUTE, LARGEST, POWER = range(4)       # as in kernels/gradients.cu


def total_norm(be: Any, arrays: Any, p: float) -> Any:
    """The p-norm of all elements of all arrays, 0-dim; or NotImplemented."""
    if not p > 0 or not be.takes(arrays[0].dtype):
        return NotImplemented
    dtype = arrays[0].dtype
    acc = np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)
    kind = {2: EUCLIDEAN, 1: ABSOLUTE, math.inf: LARGEST}.get(p, POWER)
    n = sum([-(-a.size // many.CHUNK) for a in arrays])
    parts, norm, first = be.empty((n,), acc), be.empty((), dtype), 0
    how = np.int32(kind), acc.type(p)
    for tensors, blocks in many.packs(be, [arrays], many.MOST_GRADIENTS):
        be.launch(FILE, "norm_parts", (blocks,), (many.THREADS,),
                  (tensors, parts, np.int64(first), *how), dtype)
        first += blocks
    be.launch(FILE, "norm_of_parts", (1,), (1024 if n > 1024 else 256,),
              (parts, norm, np.int64(n), *how), dtype)
    return norm


def clip_norm(be: Any, arrays: Any, total: Any, limit: float) -> Any:
    """All times limit / (total + 1e-6) where that is below 1, in place; or NotImplemented."""
    dtype = arrays[0].dtype
    if total.dtype != dtype or not be.takes(dtype):
        return NotImplemented
    return launched(be, "clip_norm", arrays, total, number(limit, dtype))


def clip_value(be: Any, arrays: Any, bound: float) -> Any:
    """All held between -bound and bound, in place; or NotImplemented."""
    dtype = arrays[0].dtype
    if not be.takes(dtype):
        return NotImplemented
    return launched(be, "clip_value", arrays, number(-bound, dtype), number(bound, dtype))


def zero(be: Any, arrays: Any) -> Any:
    """All filled with zeros; or NotImplemented."""
    return launched(be, "zero", arrays) if be.takes(arrays[0].dtype) else NotImplemented


def unscale(be: Any, arrays: Any, found_inf: Any, factor: Any) -> None:
    """All times factor, in place; found_inf becomes 1 if an element was infinite or NaN.

    found_inf and factor: one float32 each.
    """
    if be.takes(arrays[0].dtype) and all(map(be.is_dense, arrays)):
        launched(be, "unscale", arrays, found_inf, factor)
        return
    xp = be.xp
    for a in arrays:
        found_inf[...] = xp.where(xp.isfinite(a).all(), found_inf, be.number[1, found_inf.dtype])
        with np.errstate(all="ignore"):
            a[...] = (a * factor.reshape(())).astype(a.dtype)


def update_scale(be: Any, scale: Any, tracker: Any, found_inf: Any, growth: float, backoff: float,
                 interval: int) -> None:
    """A gradient scaler's scale after a step, in place. It shrinks if a gradient was not finite.

    It grows after ``interval`` steps without that, which tracker (int32) counts, unless it would
    become infinite. scale and found_inf: one float32 each.
    """
    if be.takes(scale.dtype):
        be.launch(FILE, "update_scale", (1,), (1,),
                  (scale, tracker, found_inf, np.float64(growth), np.float64(backoff),
                   np.int32(interval)), scale.dtype)
        return
    xp = be.xp
    bad, successes = found_inf.reshape(scale.shape) != 0, tracker + 1
    exact = scale.astype(np.float64)
    with np.errstate(over="ignore"):
        grown, shrunk = (exact * growth).astype(np.float32), (exact * backoff).astype(np.float32)
    due = (successes == interval).reshape(scale.shape)
    scale[...] = xp.where(bad, shrunk, xp.where(due & xp.isfinite(grown), grown, scale))
    tracker[...] = xp.where((bad | due).reshape(tracker.shape), 0, successes)


def launched(be: Any, name: str, arrays: Any, *rest: Any) -> None:
    for tensors, blocks in many.packs(be, [arrays], many.MOST_GRADIENTS):
        be.launch(FILE, name, (blocks,), (many.THREADS,), (tensors, *rest), arrays[0].dtype)


def number(value: float, dtype: Any) -> Any:
    """A number as kernels for ``dtype`` take it."""
    return (np.float64 if dtype.itemsize == 8 else np.float32)(value)
