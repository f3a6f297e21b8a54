"""Sorting, and the k largest, smallest or k-th smallest, along one dim.

A NaN is greater than all numbers. Sorting is stable, also downwards.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.autograd.op import composite, op
from gpugrad.dtypes import HALF
from gpugrad.ops.reduction import kept_shape

MOST = 256              # the largest k that the kernel takes
BLOCKS = 1 << 16


def order(be: Any, x: Any, dim: int, descending: bool) -> Any:
    """The indices that sort x along dim, equal elements in the order that they have."""
    if x.dtype in HALF:
        x = x.astype(np.float32)                 # NumPy compares its own floats faster
    if not descending:
        return be.xp.argsort(x, dim, kind="stable")
    # upwards from behind, read from behind: the first of equal elements comes first
    back = (slice(None),) * dim + (slice(None, None, -1),)
    last = x.shape[dim] - 1
    return be.xp.ascontiguousarray((last - be.xp.argsort(x[back], dim, kind="stable"))[back])


def ordered(be: Any, x: Any, dim: int, descending: bool) -> Any:
    """(x sorted, indices)."""
    if not x.ndim:
        return be.copy(x), be.xp.zeros((), np.int64)
    index = order(be, x, dim, descending)
    return be.xp.take_along_axis(x, index, dim), index


@composite
def unsort(o: Any, g: Any, index: Any, shape: Any, dim: int) -> Any:
    """g back at the places that its elements came from, zeros elsewhere."""
    return o.scatter(g, index, shape=shape, dim=dim) if shape else g


@op("SortBackward0", outputs=2)
class sort:
    """(x sorted along dim, the indices of its elements in x)."""
    def forward(be, x, *, dim, descending=False):
        return ordered(be, x, dim, descending)
    def grad_x(o, g, result1, x_shape, dim):
        return o.unsort(g, result1, x_shape, dim)


@op("SortBackward1", outputs=2)
class sort_stable:
    """sort, as PyTorch names it where the caller says whether it must be stable."""
    def forward(be, x, *, dim, descending=False):
        return ordered(be, x, dim, descending)
    def grad_x(o, g, result1, x_shape, dim):
        return o.unsort(g, result1, x_shape, dim)


@op()
class argsort:
    """The indices that sort x along dim."""
    def forward(be, x, *, dim, descending=False):
        return order(be, x, dim, descending) if x.ndim else be.xp.zeros((), np.int64)


def first_places(be: Any, x: Any, k: int, dim: int, largest: bool) -> Any:
    """Where the k largest or smallest elements along dim are, in order."""
    n, taken = x.shape[dim], (slice(None),) * dim + (slice(k),)
    if k * 4 >= n:
        return order(be, x, dim, largest)[taken]
    if x.dtype in HALF:
        x = x.astype(np.float32)
    split = be.xp.argpartition(x, n - k if largest else k - 1, dim)
    some = split[(slice(None),) * dim + (slice(n - k, None),)] if largest else split[taken]
    some = be.xp.sort(some, dim)                 # in the order of x, which the stable sort keeps
    best = order(be, be.xp.take_along_axis(x, some, dim), dim, largest)
    return be.xp.take_along_axis(some, best, dim)


def by_kernel(be: Any, x: Any, k: int, dim: int, largest: bool) -> Any:
    """(values, indices) of the k largest or smallest, or NotImplemented."""
    if not be.kernels.take(x.dtype) or not 0 < k <= MOST or not x.size:
        return NotImplemented
    rows = be._dense(be.xp.moveaxis(x, dim, -1))
    shape, length = (*rows.shape[:-1], k), rows.shape[-1]
    n = rows.size // length
    values, indices = be.empty(shape, x.dtype), be.empty(shape, np.int64)
    be.kernels.launch("topk", "topk", (min(n, BLOCKS),), (256,), (
        rows, values, indices, np.int64(n), np.int64(length), np.int32(k), np.int32(largest)),
        x.dtype)
    return tuple([be._dense(be.xp.moveaxis(a, -1, dim)) for a in (values, indices)])


@op("TopkBackward0", outputs=2)
class topk:
    """(the k largest or smallest elements along dim in order, their indices)."""
    def forward(be, x, *, k, dim, largest=True):
        if not x.ndim:
            return be.copy(x), be.xp.zeros((), np.int64)
        index = be.asarray(first_places(be, x, k, dim, largest)) if k else \
            be.xp.zeros(tuple([0 if d == dim else n for d, n in enumerate(x.shape)]), np.int64)
        index = be.xp.ascontiguousarray(index)
        return be.xp.take_along_axis(x, index, dim), index
    def cuda(be, x, *, k, dim, largest=True):
        return by_kernel(be, x, k, dim, largest) if x.ndim else NotImplemented
    def grad_x(o, g, result1, x_shape, dim):
        return o.unsort(g, result1, x_shape, dim)


@op("KthvalueBackward0", outputs=2)
class kthvalue:
    """(the k-th smallest elements along dim, their indices)."""
    def forward(be, x, *, k, dim, keepdim=False):
        if not x.ndim:
            return be.copy(x), be.xp.zeros((), np.int64)
        a = x.astype(np.float32) if x.dtype in HALF else x
        index = be.xp.take(be.xp.argpartition(a, k - 1, dim), be.xp.asarray([k - 1]), dim)
        return kept(x.shape, dim, keepdim, be.xp.take_along_axis(x, index, dim), index)
    def cuda(be, x, *, k, dim, keepdim=False):
        out = by_kernel(be, x, k, dim, False) if x.ndim else NotImplemented
        if out is NotImplemented:
            return out
        last = (slice(None),) * dim + (slice(k - 1, k),)
        return kept(x.shape, dim, keepdim, *[be.copy(a[last]) for a in out])
    def grad_x(o, g, result1, x_shape, dim, keepdim):
        if not x_shape:
            return g
        shape = kept_shape(x_shape, (dim,))
        return o.scatter(o.reshape(g, shape), o.reshape(result1, shape), shape=x_shape, dim=dim)


def kept(shape: Any, dim: int, keepdim: bool, *results: Any) -> tuple[Any, ...]:
    """Results of size 1 in dim, with that dim or without."""
    if keepdim:
        return results
    return tuple([a.reshape((*shape[:dim], *shape[dim + 1:])) for a in results])
