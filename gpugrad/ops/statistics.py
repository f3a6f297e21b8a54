"""Medians, modes, and sums that leave NaN out. A NaN is greater than all numbers."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.autograd.op import composite, op
from gpugrad.autograd.rules import g_dtype
from gpugrad.dtypes import FLOATING, HALF
from gpugrad.ops.reduction import wide_sum
from gpugrad.ops.sort import order


def comparable(x: Any) -> Any:
    """x in a dtype that NumPy sorts itself, and fast."""
    return x.astype(np.float32) if x.dtype in HALF else x


def is_nan(be: Any, x: Any) -> Any:
    """Which elements are NaN? None if x can't have any."""
    return be.xp.isnan(x) if x.dtype.kind in FLOATING else None


def selected(be: Any, x: Any, index: Any, dim: int, keepdim: bool) -> tuple[Any, Any]:
    """(x at index, which has size 1 in dim, the index)."""
    value = be.xp.take_along_axis(x, index, dim)
    return (value, index) if keepdim else (value.squeeze(dim), index.squeeze(dim))


def nothing(be: Any, x: Any) -> Any:
    """The median of no elements: NaN, and what PyTorch makes of it in integers."""
    if x.dtype.kind in FLOATING:
        return be.scalar(np.nan, x.dtype)
    return be.scalar(np.iinfo(x.dtype).min if x.dtype.itemsize > 2 else 0, x.dtype)


@composite
def share_of_middle(o: Any, g: Any, x: Any, result: Any) -> Any:
    """The gradient of a median in equal parts to all that have its value; NaN equals NaN."""
    nans = o.logical_and(o.isnan(x), o.isnan(result))
    won = o.logical_or(o.eq(x, result), nans)
    share = o.div(g, o.sum_all(o.to(won, dtype=g_dtype(g))))
    return o.keep_where(o.expand(share, shape=x.shape), won)


@op("MedianBackward0")
class median_all:
    """The lower of the middle elements; NaN if there is one."""
    def forward(be, x):
        if not x.size:
            return be.copy(nothing(be, x))
        flat = comparable(x).reshape(-1)
        middle = be.xp.partition(flat, (x.size - 1) // 2)[(x.size - 1) // 2]
        nans = is_nan(be, flat)
        if nans is not None:
            middle = be.xp.where(nans.any(), be.number[np.nan, flat.dtype], middle)
        return be.asarray(middle).astype(x.dtype)
    def grad_x(o, g, x, result):
        return o.share_of_middle(g, x, result)


@op("NanmedianBackward0")
class nanmedian_all:
    """The lower of the middle elements that aren't NaN; NaN if there are none."""
    def forward(be, x):
        if not x.size:
            return be.copy(nothing(be, x))
        flat = be.xp.sort(comparable(x).reshape(-1))
        count = (~be.xp.isnan(flat)).sum()
        middle = be.xp.take(flat, be.xp.maximum(count - 1, 0) // 2)
        return be.asarray(middle).astype(x.dtype)
    def grad_x(o, g, x, result):
        return o.share_of_middle(g, x, result)


@op("MedianBackward1", outputs=2)
class median:
    """(the lower of the middle elements along dim, or NaN if there is one; its index)."""
    def forward(be, x, *, dim, keepdim=False):
        a, k = comparable(x), (x.shape[dim] - 1) // 2
        index = be.xp.take(be.xp.argpartition(a, k, dim), be.xp.asarray([k]), dim)
        nans = is_nan(be, a)
        if nans is not None:
            first = be.xp.argmax(nans, dim, keepdims=True)
            index = be.xp.where(nans.any(dim, keepdims=True), first, index)
        return selected(be, x, index, dim, keepdim)
    def grad_x(o, g, result1, x_shape, dim, keepdim):
        return o.scatter_kept(g, result1, x_shape, dim, keepdim)


@op("NanmedianBackward1", outputs=2)
class nanmedian:
    """(the lower of the middle elements along dim that aren't NaN; its index)."""
    def forward(be, x, *, dim, keepdim=False):
        a = comparable(x)
        count = (~be.xp.isnan(a)).sum(dim, keepdims=True)
        k = be.xp.maximum(count - 1, 0) // 2
        index = be.xp.take_along_axis(be.xp.argsort(a, dim, kind="stable"), k, dim)
        return selected(be, x, index, dim, keepdim)
    def grad_x(o, g, result1, x_shape, dim, keepdim):
        return o.scatter_kept(g, result1, x_shape, dim, keepdim)


@op("ModeBackward0", outputs=2)
class mode:
    """(the smallest of the commonest elements along dim, the index of the last such one)."""
    def forward(be, x, *, dim, keepdim=False):
        xp = be.xp
        by_value = xp.moveaxis(order(be, x, dim, False), dim, -1)
        rows = xp.take_along_axis(xp.moveaxis(comparable(x), dim, -1), by_value, -1)
        at, new = xp.arange(rows.shape[-1]), xp.ones(rows.shape, bool)
        new[..., 1:] = rows[..., 1:] != rows[..., :-1]
        # how many elements equal to it stand before an element: from the start of their run
        runs = xp.cumsum(new, -1) - 1
        starts = xp.sort(xp.where(new, at, rows.shape[-1]), -1)
        length = at - xp.take_along_axis(starts, runs, -1)
        best = xp.argmax(length, -1, keepdims=True)
        index = xp.moveaxis(xp.take_along_axis(by_value, best, -1), -1, dim)
        return selected(be, x, index, dim, keepdim)
    def grad_x(o, g, result1, x_shape, dim, keepdim):
        return o.scatter_kept(g, result1, x_shape, dim, keepdim)


@op("NansumBackward0")
class nansum:
    """The sum over a tuple of dims of what isn't NaN."""
    def forward(be, x, *, dim=None, keepdim=False):
        if type(x) is np.ndarray:                # on the CPU it is cheap to see if there is a NaN
            total = wide_sum(be, x, dim, keepdim)
            if x.dtype.kind not in FLOATING or not np.isnan(total).any():
                return total
        return wide_sum(be, be.drop(x, be.xp.isnan(x)), dim, keepdim)
    def grad_x(o, g, x, x_shape, dim, keepdim):
        return o.drop_where(o.unsum(g, x_shape, dim, keepdim), o.isnan(x))
