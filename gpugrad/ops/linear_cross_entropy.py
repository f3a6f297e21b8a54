"""Cross entropy of a linear layer by chunks of the batch: the scores never exist all at once.

x is (n, features), w (classes, features), target (n,), bias and weight (classes,). Backward makes
the scores of each chunk again. What ignore_index, weights and reductions mean is said in loss.py.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad.autograd.op import op


def scores_by_chunks(be: Any, x: Any, w: Any, bias: Any, chunk: int) -> Any:
    """(rows, their scores in float32 or better), chunk by chunk."""
    wide = dtypes.wide(x.dtype)
    for i in range(0, len(x), chunk):
        rows = slice(i, i + chunk)
        scores = be.matmul(x[rows], w.T, dtype=wide)
        if bias is not None:
            scores += bias.astype(wide, copy=False)
        yield rows, scores


def wider(weight: Any, dtype: Any) -> Any:
    return None if weight is None else weight.astype(dtypes.wide(dtype), copy=False)


@op("LinearCrossEntropyBackward0", outputs=2)
class linear_cross_entropy:
    """The loss, and the sum of the weights of all targets."""
    def forward(be, x, w, target, bias=None, weight=None, *, reduction, ignore_index, chunk,
                summing):
        wide = dtypes.wide(x.dtype)
        factors, n = wider(weight, x.dtype), len(x)
        losses, total = be.empty((n,), wide), be.xp.zeros((), wide)
        for rows, scores in scores_by_chunks(be, x, w, bias, chunk):
            found = be.raw.cross_entropy_rows(scores, target[rows], factors, reduction="none",
                                              ignore_index=ignore_index, label_smoothing=0.0)
            losses[rows] = found[0]
        if reduction == "none":
            return losses.astype(x.dtype, copy=False), total
        kept = target != ignore_index
        if factors is None:
            shares = kept.astype(wide)
        else:
            shares = be.keep(factors[be.xp.where(kept, target, 0)], kept)
        total = be.xp.asarray(be.xp.add.reduce(shares, None, wide))
        loss = be.xp.add.reduce(losses, None, wide)
        if reduction == "mean":
            with np.errstate(divide="ignore", invalid="ignore"):     # NaN where nothing is left
                loss = loss / total
        return be.xp.asarray(loss, x.dtype), total
    grad_target = grad_weight = None
    def grads(o, g, needs, x, w, target, bias, weight, result1, reduction, ignore_index, chunk,
              summing):
        found = o.linear_cross_entropy_backward(
            g, x, w, target, bias, weight, result1, reduction=reduction, ignore_index=ignore_index,
            chunk=chunk, summing=summing, needs=tuple(needs))
        return [v if need else None for v, need in zip(found, needs)]


@op("NotImplemented", outputs=3, diff=3)
class linear_cross_entropy_backward:
    """The gradients for x, w and bias; those that aren't needed are empty."""
    def forward(be, g, x, w, target, bias, weight, total, *, reduction, ignore_index, chunk,
                summing, needs):
        wide = dtypes.wide(x.dtype)
        factors, kw = wider(weight, x.dtype), {"ignore_index": ignore_index, "label_smoothing": 0.0}
        gx = be.empty(x.shape if needs[0] else (0,), x.dtype)
        gw = be.xp.zeros(w.shape if needs[1] else (0,), summing)
        gb = be.xp.zeros(bias.shape if bias is not None and needs[2] else (0,), summing)
        g = g.astype(wide, copy=False)
        for rows, scores in scores_by_chunks(be, x, w, bias, chunk):
            _, log_sum, _, shift = be.raw.cross_entropy_rows(scores, target[rows], factors,
                                                             reduction="none", **kw)
            slope = be.raw.cross_entropy_backward(
                g[rows] if g.ndim else g, scores, target[rows], factors, log_sum, total, shift,
                reduction=reduction, **kw)
            if needs[1]:
                gw += be.matmul(slope.T, x[rows].astype(wide, copy=False))
            if gb.size:
                gb += be.xp.add.reduce(slope, 0)
            if needs[0]:
                gx[rows] = be.matmul(slope, w.astype(wide, copy=False))
        return gx, gw.astype(w.dtype, copy=False), gb.astype(w.dtype, copy=False)
    grad_target = grad_weight = grad_total = None
    def grads(o, g0, g1, g2, needs, reduction):
        raise RuntimeError("derivative for linear_cross_entropy with options is not implemented: "
                           "call it without options, or without create_graph=True")
