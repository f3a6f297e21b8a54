"""Resizing images: along each dim, every element of the result is a weighted sum of a few of x.

Which elements, and their weights, is a table for each dim. The gradient is a resizing too, by the
transposed table, so one op serves all orders of derivative, and it gathers in both directions.
"""
from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from gpugrad.autograd.op import op
from gpugrad.backend.kernels import acc
from gpugrad.dtypes import HALF
from gpugrad.layouts import as_images, as_pixels, is_last

NEAREST, EXACT, LINEAR, CUBIC = "nearest", "nearest-exact", "linear", "cubic"


class Line(NamedTuple):
    """How one dim is resized, from ``size`` to ``out`` elements.

    scale: elements of x for one of the result, None for size / out. real: the dtype that PyTorch
    finds places in. transposed: the gradient, from ``out`` to ``size`` elements.
    """
    size: int
    out: int
    mode: str
    align_corners: bool = False
    antialias: bool = False
    scale: float | None = None
    real: str = "float32"
    transposed: bool = False


@op("UpsampleBackward0")
class resample:
    """The last dims of x resized as ``lines`` say, one for each."""
    def forward(be, x, *, lines):
        if x.dtype in HALF:
            return be.in_float32(resample, x, lines=lines)
        if len(lines) == x.ndim - 2 and is_last(x):
            return as_images(along_dims(be, as_pixels(x), lines, one_dim, 1))
        return along_dims(be, x, lines, one_dim)
    def cuda(be, x, *, lines):
        if not be.takes(x.dtype):
            return NotImplemented
        if len(lines) == x.ndim - 2 and is_last(x):
            x = as_pixels(x)
            wide = x.astype(be.xp.float32) if x.dtype in HALF else x
            return as_images(along_dims(be, wide, lines, one_dim_by_kernel, 1)).astype(x.dtype,
                                                                                       copy=False)
        if x.dtype in HALF:
            wide = x.astype(be.xp.float32)
            return along_dims(be, wide, lines, one_dim_by_kernel).astype(x.dtype)
        return along_dims(be, x, lines, one_dim_by_kernel)
    def grad_x(o, g, lines):
        return o.resample(g, lines=tuple([n._replace(transposed=not n.transposed) for n in lines]))


def along_dims(be: Any, x: Any, lines: Any, step: Any, first: int = -1) -> Any:
    """One dim after the other: the one that leaves the least to do first. They are the last ones,
    or begin at ``first``.
    """
    first = x.ndim - len(lines) if first < 0 else first
    sizes = [(n.out, n.size) if n.transposed else (n.size, n.out) for n in lines]
    order = sorted(range(len(lines)), key=lambda i: (sizes[i][1] / max(1, sizes[i][0]), -i))
    y = x
    for i in order:
        if sizes[i][0] != sizes[i][1] or not is_identity(lines[i]):
            y = step(be, y, first + i, lines[i])
    return be.copy(x) if y is x else y


@functools.lru_cache(256)
def is_identity(line: Line) -> bool:
    """Is every element of the result the one of x at its place?"""
    index, weight = host_table(line)
    return index.shape[1] == 1 and bool((index[:, 0] == np.arange(len(index))).all()
                                        and (weight == 1).all())


def one_dim(be: Any, x: Any, dim: int, line: Line) -> Any:
    xp, out = be.xp, None
    index, weight = host_table(line)
    side_by_side = (1,) * (x.ndim - dim - 1)
    for k in range(index.shape[1]):
        at, w = index[:, k], weight[:, k].astype(x.dtype)
        part = xp.take(x, be.from_host(np.maximum(at, 0)), dim)
        if (w != 1).any():
            part *= be.from_host(w).reshape(-1, *side_by_side)
        if (at < 0).any():                       # 0 times infinity would be NaN
            part = be.keep(part, be.from_host(at >= 0).reshape(-1, *side_by_side))
        if out is None:
            out = part
        else:
            out += part
    return xp.zeros((*x.shape[:dim], len(index), *x.shape[dim + 1:]), x.dtype) if out is None \
        else out


def one_dim_by_kernel(be: Any, x: Any, dim: int, line: Line) -> Any:
    index, weight = device_table(be, line, x.dtype)
    before, after = x.shape[:dim], x.shape[dim + 1:]
    y = be.empty((*before, len(index), *after), x.dtype)
    be.kernels.each("resize", "resample", x.dtype, y.size, (be._dense(x), index, weight, y),
                    np.int64(x.shape[dim]), np.int64(len(index)), np.int64(math.prod(after)),
                    np.int32(index.shape[1]))
    return y


@functools.lru_cache(128)
def device_table(be: Any, line: Line, dtype: Any) -> Any:
    index, weight = host_table(line)
    return (be.from_host(index.astype(np.int32)),
            be.from_host(weight.astype(type(acc(0, dtype)))))


# Tables ------------------------------------------------------------------------------------------


@functools.lru_cache(128)
def host_table(line: Line) -> tuple[Any, Any]:
    """(places, weights), each (elements of the result, taps); place -1: this tap isn't there."""
    index, weight = forward_table(line)
    return transposed_table(index, weight, line.size) if line.transposed else (index, weight)


def forward_table(line: Line) -> tuple[Any, Any]:
    size, out, real = line.size, line.out, np.dtype(line.real).type
    i = np.arange(out)
    if line.mode in (NEAREST, EXACT):            # in float32, whatever the dtype of x
        scale = np.float32(line.size / line.out if line.scale is None else line.scale)
        if line.mode == NEAREST:
            at = i.astype(np.float32) * scale
        else:                                    # rounded as by PyTorch's fused multiply and add
            at = ((i + 0.5) * float(scale) - 0.5).astype(np.float32)
            at = np.maximum(at, 0) + np.float32(0.5)
        places = np.minimum(np.floor(at).astype(np.int64), size - 1)
        return places[:, None], np.ones((out, 1))
    if line.align_corners:
        scale = real((size - 1) / (out - 1) if out > 1 else 0)
    else:
        scale = real(size / out if line.scale is None else line.scale)
    if line.antialias:
        return antialiased(line, float(scale))
    at = i * scale if line.align_corners else (i + real(0.5)) * scale - real(0.5)
    if line.mode == LINEAR:
        at = np.maximum(at, 0)
        low = np.minimum(at.astype(np.int64), size - 1)
        share = np.clip(at - low, 0, 1)
        return np.stack([low, np.minimum(low + 1, size - 1)], 1), np.stack([1 - share, share], 1)
    low = np.floor(at).astype(np.int64)
    places = np.clip(low[:, None] + np.arange(-1, 3), 0, size - 1)
    return places, np.stack(cubic_weights(at - low), 1)


def cubic_weights(t: Any) -> list[Any]:
    """Of the elements at -1, 0, 1 and 2, for a place t between 0 and 1 (Keys, a = -0.75)."""
    return [cubic(np.abs(t - k), -0.75) for k in range(-1, 3)]


def cubic(d: Any, a: float) -> Any:
    """Keys's kernel at distance d."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def antialiased(line: Line, scale: float) -> tuple[Any, Any]:
    """Where an image shrinks, the kernel is widened until it reaches over all elements."""
    wide, reach = max(scale, 1.0), 1 if line.mode == LINEAR else 2
    centre = scale * (np.arange(line.out) + 0.5)
    first = np.maximum((centre - reach * wide + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + reach * wide + 0.5).astype(np.int64), line.size)
    places = first[:, None] + np.arange(int(max(1, (last - first).max(initial=1))))
    there = places < last[:, None]
    d = np.abs((places - centre[:, None] + 0.5) / wide)
    weight = np.maximum(1 - d, 0) if line.mode == LINEAR else cubic(d, -0.5)
    weight = np.where(there, weight, 0)
    return np.where(there, places, -1), weight / weight.sum(1, keepdims=True)


def transposed_table(index: Any, weight: Any, size: int) -> tuple[Any, Any]:
    """For each element of x the elements of the result that it has a part in, in order."""
    there = (index >= 0) & (weight != 0)
    target = index[there]
    source = np.broadcast_to(np.arange(len(index))[:, None], index.shape)[there]
    order = np.argsort(target, kind="stable")
    target, source, w = target[order], source[order], weight[there][order]
    start = np.searchsorted(target, np.arange(size + 1))
    taps = int(np.diff(start).max(initial=0))
    places, weights = np.full((size, taps), -1), np.zeros((size, taps))
    rank = np.arange(len(target)) - start[target]
    places[target, rank], weights[target, rank] = source, w
    return places, weights
