"""Bags of rows of a table: their sums, means or maxima.

weight is (n, d), indices (m,) and bag (m,), which says to which of ``bags`` bags, in order, an
index belongs. The bag number ``bags`` leaves an index out.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad.autograd.op import composite, op
from gpugrad.dtypes import wide


@op("EmbeddingBagBackward0")
class embedding_bag:
    """Sums of the rows of each bag, each times its scale if there are scales (m,).

    scale_grad_by_freq: a row's gradient is over how often its index occurs.
    """
    def forward(be, weight, indices, bag, scales=None, *, bags, scale_grad_by_freq=False):
        out = np.zeros((bags, weight.shape[1]), wide(weight.dtype))
        rows = scaled_rows(be, weight, indices, scales, out.dtype)
        if (bag[1:] < bag[:-1]).any():           # those that are left out stand between others
            order = np.argsort(bag, kind="stable")
            rows, bag = rows[order], bag[order]
        start = np.searchsorted(bag, np.arange(bags + 1))
        some = start[:-1] < start[1:]
        if some.any():
            out[some] = np.add.reduceat(rows[:start[-1]], start[:-1][some], 0)
        return out.astype(weight.dtype, copy=False)
    def meta(be, weight, indices, bag, scales=None, *, bags, scale_grad_by_freq=False):
        return be.empty((bags, weight.shape[1]), weight.dtype)
    def cuda(be, weight, indices, bag, scales=None, *, bags, scale_grad_by_freq=False):
        out = be.xp.zeros((bags + 1, weight.shape[1]), wide(weight.dtype))
        rows = scaled_rows(be, weight, indices, scales, out.dtype)
        return be.raw.index_add(out, bag, rows, dim=0)[:bags].astype(weight.dtype, copy=False)
    grad_indices = grad_bag = None
    def grad_weight(o, g, indices, bag, scales, weight_shape, scale_grad_by_freq):
        rows = o.rows_of_bags(g, bag)
        if scales is not None:
            rows = o.mul(rows, o.unsqueeze(scales, dim=1))
        return o.embedding_dense_backward(rows, indices, num_weights=weight_shape[0],
                                          scale_grad_by_freq=scale_grad_by_freq)
    def grad_scales(o, g, weight, indices, bag):
        return o.sum(o.mul(o.rows_of_bags(g, bag), o.embedding(weight, indices)), dim=(1,))


def scaled_rows(be: Any, weight: Any, indices: Any, scales: Any, dtype: Any) -> Any:
    """The rows at indices, each times its scale, in the dtype of their sums."""
    rows = be.raw.embedding(weight, indices).astype(dtype, copy=False)
    return rows if scales is None else rows * scales.astype(dtype, copy=False)[:, None]


@composite
def rows_of_bags(o, g, bag):
    """The gradient of each index's bag, zeros for those that are left out: (m, d)."""
    return o.index_select(o.cat(g, o.new_zeros(g, shape=(1, g.shape[1])), dim=0), bag, dim=0)


@op("EmbeddingBagBackward0", outputs=2)
class embedding_bag_max:
    """Maxima over the rows of each bag, 0 for none, and the table's row of each maximum, or -1."""
    def forward(be, weight, indices, bag, *, bags):
        xp, m, d = be.xp, math.prod(indices.shape), weight.shape[1]
        rows = be.raw.embedding(weight, indices)
        where = xp.broadcast_to(bag[:, None], (m, d))
        out = xp.full((bags + 1, d), -math.inf, weight.dtype)
        best = be.raw.scatter_reduce(out, where, rows, dim=0, reduce="amax", include_self=True)
        # the first of a bag's indices that has it
        mine = best[bag] == rows
        order = xp.where(mine, xp.broadcast_to(xp.arange(m)[:, None], (m, d)), m)
        first = be.raw.scatter_reduce(xp.full((bags + 1, d), m, order.dtype), where, order, dim=0,
                                      reduce="amin", include_self=True)[:bags]
        some = first < m
        at = xp.where(some, be.raw.index_select(
            xp.concatenate([indices, xp.zeros((1,), indices.dtype)]), first.reshape(-1),
            dim=0).reshape(first.shape), -1)
        return be.keep(best[:bags], some), at
    grad_indices = grad_bag = None
    def grad_weight(o, g, result1, weight_shape):
        g, at = only_maxima(o, g, result1)
        return o.scatter_add(o.new_zeros(g, shape=weight_shape), at, g, dim=0)


def only_maxima(o: Any, g: Any, at: Any) -> tuple[Any, Any]:
    """g without the bags that have no maximum, and places that exist."""
    none = o.lt(at, 0)
    return o.drop_where(g, none), o.where(none, o.zeros_like(at), at)


@op()
class bag_of:
    """For each position the last of ``starts``, sorted, that isn't behind it."""
    def forward(be, at, starts):
        return be.xp.searchsorted(starts, at, "right") - 1
