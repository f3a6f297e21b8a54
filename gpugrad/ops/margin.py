"""Losses of margins between the scores of classes: one for each row of scores (n, c).

A target out of range makes its row's loss and gradient NaN: nothing is read by the host. PyTorch
has no derivatives of the second order for them, nor have they here.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad.autograd.op import composite, op
from gpugrad.ops.pair_loss import summed

ELEMENTS = 1 << 22                               # pairs of classes that are looked at at once


def no_second_order(name: str) -> Any:
    """The rule of a backward op that has no derivative."""
    def rule(o: Any, gg: Any) -> Any:
        raise RuntimeError(f"derivative for aten::{name} is not implemented: PyTorch has none "
                           f"either; call {name.removesuffix('_backward')} without "
                           f"create_graph=True")
    return rule


@composite
def row_share(o: Any, g: Any, x: Any, reduction: str) -> Any:
    """The gradient of each row's loss."""
    return o.scale(g, number=1 / x.shape[0]) if reduction == "mean" and x.shape[0] else g


def excess(be: Any, x: Any, target: Any, margin: float) -> tuple[Any, Any, Any, Any]:
    """(how far each score comes up to its target's but for the margin; which classes are targets;
    which rows have a right one, as a column; the targets, 0 for wrong ones)."""
    xp, wide = be.xp, dtypes.wide(x.dtype)
    n, c = x.shape
    classes = target.astype(np.int64, copy=False).reshape(n, 1)
    right = (classes >= 0) & (classes < c)
    classes = xp.where(right, classes, 0)
    scores = x.astype(wide, copy=False)
    own = scores.reshape(-1)[xp.arange(n).reshape(n, 1) * c + classes]
    is_target = xp.arange(c) == classes
    over = xp.maximum(scores - own + be.number[margin, wide], be.number[0, wide])
    return be.drop(over, is_target), is_target, right, classes


# Several classes, of which one is right ----------------------------------------------------------

@op("MultiMarginLossBackward0")
class multi_margin_loss:
    """The mean over all classes of max(0, margin - x[target] + x) ** p, without the target's.

    x is (n, c), target (n,) of int64; weight: a factor for each target class.
    """
    def forward(be, x, target, weight=None, *, reduction, p, margin):
        over, _, right, classes = excess(be, x, target, margin)
        if p == 2:
            over *= over
        wide = over.dtype
        losses = be.xp.add.reduce(over, 1) / be.number[x.shape[1], wide]
        if weight is not None:
            losses = losses * weight[classes[:, 0]]
        losses = be.xp.where(right[:, 0], losses, be.number[float("nan"), wide])
        return summed(be, losses, reduction).astype(x.dtype, copy=False)
    grad_target = grad_weight = None
    def grad_x(o, g, x, target, weight, reduction, p, margin):
        return o.multi_margin_loss_backward(o.row_share(g, x, reduction), x, target, weight, p=p,
                                            margin=margin)


@op("NotImplemented")
class multi_margin_loss_backward:
    """The gradient for x; g is for each row or one for all."""
    def forward(be, g, x, target, weight=None, *, p, margin):
        over, is_target, right, classes = excess(be, x, target, margin)
        xp, wide = be.xp, over.dtype
        slope = be.number[2, wide] * over if p == 2 else \
            (over > be.number[0, wide]).astype(wide)
        slope = xp.where(is_target, -xp.add.reduce(slope, 1).reshape(-1, 1), slope)
        factor = g.astype(wide, copy=False).reshape(-1, 1) / be.number[x.shape[1], wide]
        if weight is not None:
            factor = factor * weight[classes]
        slope *= xp.where(right, factor, be.number[float("nan"), wide])
        return slope.astype(x.dtype, copy=False)
    grad_target = grad_weight = None
    grad_g = grad_x = no_second_order("multi_margin_loss_backward")


# Several classes, of which several are right -----------------------------------------------------

def counted(be: Any, target: Any, c: int) -> tuple[Any, Any]:
    """(how often each class is a target, (n, c); which rows have only right ones, as a column).

    A row's targets end at the first -1.
    """
    xp = be.xp
    n = len(target)
    ended = xp.cumsum((target == -1).astype(np.int64), 1) > 0
    right = ended | ((target >= 0) & (target < c))
    places = xp.where(right & ~ended, target, c) + xp.arange(n).reshape(n, 1) * (c + 1)
    counts = be.sums_at(places.reshape(-1), None, n * (c + 1)).reshape(n, c + 1)[:, :c]
    return counts, right.all(1).reshape(n, 1)


def pairs(be: Any, x: Any, counts: Any) -> Any:
    """Rows by rows: (which, over (rows, c, c), counts, others).

    over[:, i, k]: how far class k, if it is no target, comes up to target i but for 1.
    """
    n, c = x.shape
    wide = dtypes.wide(x.dtype)
    step = max(1, ELEMENTS // (c * c))
    for i in range(0, n, step):
        rows = slice(i, i + step)
        scores, count = x[rows].astype(wide, copy=False), counts[rows].astype(wide)
        over = be.number[1, wide] - scores[:, :, None] + scores[:, None, :]
        over = be.xp.maximum(over, be.number[0, wide])
        yield rows, over, count, (count == be.number[0, wide]).astype(wide)


@op("MultilabelMarginLossBackward0", outputs=2)
class multilabel_margin_loss:
    """The sum over targets i and other classes k of max(0, 1 - x[i] + x[k]), over the classes.

    x is (n, c), target (n, c) of int64, each row's ended by -1. Also returns which classes are
    targets, as 1 and 0.
    """
    def forward(be, x, target, *, reduction):
        n, c = x.shape
        wide = dtypes.wide(x.dtype)
        counts, right = counted(be, target, c)
        losses = be.empty((n,), wide)
        for rows, over, count, other in pairs(be, x, counts):
            by_target = be.xp.add.reduce(over * other[:, None, :], 2)
            losses[rows] = be.xp.add.reduce(by_target * count, 1)
        losses = losses / be.number[c, wide]
        losses = be.xp.where(right[:, 0], losses, be.number[float("nan"), wide])
        loss = summed(be, losses, reduction).astype(x.dtype, copy=False)
        return loss, (counts > 0).astype(x.dtype)
    grad_target = None
    def grad_x(o, g, x, target, reduction):
        return o.multilabel_margin_loss_backward(o.row_share(g, x, reduction), x, target)


@op("NotImplemented")
class multilabel_margin_loss_backward:
    """The gradient for x; g is for each row or one for all."""
    def forward(be, g, x, target):
        n, c = x.shape
        wide = dtypes.wide(x.dtype)
        counts, right = counted(be, target, c)
        out = be.empty((n, c), wide)
        for rows, over, count, other in pairs(be, x, counts):
            slope = (over > be.number[0, wide]).astype(wide)
            slope *= count[:, :, None] * other[:, None, :]
            out[rows] = be.xp.add.reduce(slope, 1) - be.xp.add.reduce(slope, 2)
        factor = g.astype(wide, copy=False).reshape(-1, 1) / be.number[c, wide]
        out *= be.xp.where(right, factor, be.number[float("nan"), wide])
        return out.astype(x.dtype, copy=False)
    grad_target = None
    grad_g = grad_x = no_second_order("multilabel_margin_loss_backward")
