"""Losses with rules of their own: negative log-likelihood, cross entropy, mean squared error.

Class indices are (n, ...) for scores (n, c, ...). A class equal to ignore_index has no part in the
loss. A reduction is "none", "mean" or "sum"; the mean of weighted losses is over their weights.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad.autograd.op import composite, op
from gpugrad.autograd.rules import g_dtype

# Negative log-likelihood -------------------------------------------------------------------------

@composite
def nll_loss(o, x, target, weight=None, *, reduction="mean", ignore_index=-100):
    """-x[target], weighted. Returns the loss and the sum of the weights."""
    kw = {"reduction": reduction, "ignore_index": ignore_index}
    if x.ndim == 2:
        return o.nll_loss_rows(x, target, weight, **kw)
    if x.ndim == 4:
        return o.nll_loss_images(x, target, weight, **kw)
    n, c = x.shape[:2]
    size = 1
    for s in x.shape[2:]:
        size *= s
    loss, total = o.nll_loss_images(o.reshape(x, (n, c, 1, size)), o.reshape(target, (n, 1, size)),
                                    weight, **kw)
    return (o.reshape(loss, tuple(target.shape)) if reduction == "none" else loss), total


@op("NllLossBackward0", outputs=2)
class nll_loss_rows:
    """x is (n, c)."""
    def forward(be, x, target, weight=None, *, reduction, ignore_index):
        return likelihood(be, x, target, weight, reduction, ignore_index, True)
    def cuda(be, x, target, weight=None, *, reduction, ignore_index):
        return likelihood(be, x, target, weight, reduction, ignore_index, False)
    grad_target = grad_weight = None
    def grad_x(o, g, target, weight, result1, x_shape, reduction, ignore_index):
        return o.nll_loss_backward(g, target, weight, result1, shape=x_shape, reduction=reduction,
                                   ignore_index=ignore_index)


@op("NllLoss2DBackward0", outputs=2)
class nll_loss_images:
    """x is (n, c, h, w)."""
    def forward(be, x, target, weight=None, *, reduction, ignore_index):
        return likelihood(be, x, target, weight, reduction, ignore_index, True)
    def cuda(be, x, target, weight=None, *, reduction, ignore_index):
        return likelihood(be, x, target, weight, reduction, ignore_index, False)
    grad_target = grad_weight = None
    def grad_x(o, g, target, weight, result1, x_shape, reduction, ignore_index):
        return o.nll_loss_backward(g, target, weight, result1, shape=x_shape, reduction=reduction,
                                   ignore_index=ignore_index)


@op("NllLossBackwardBackward0")
class nll_loss_backward:
    """Zeros of ``shape`` with -g, weighted, at the targets. total: the sum of the weights."""
    def forward(be, g, target, weight, total, *, shape, reduction, ignore_index):
        classes, kept = safe_classes(be, target, shape[1], ignore_index, False)
        share = be.xp.negative(g) if reduction != "mean" else be.xp.negative(g) / total
        if weight is not None:
            share = share * weight[classes]
        if kept is not None:
            share = be.xp.where(kept, share, be.number[0, g.dtype])
        out = be.xp.zeros(tuple(shape), g.dtype)
        out.reshape(-1)[positions(be, classes, shape)] = share
        return out
    grad_target = grad_weight = grad_total = None
    def grad_g(o, gg, target, weight, reduction, ignore_index):
        return o.nll_loss(gg, target, weight, reduction=reduction, ignore_index=ignore_index)[0]


def likelihood(be: Any, x: Any, target: Any, weight: Any, reduction: str, ignore_index: int,
               check: bool) -> tuple[Any, Any]:
    """The loss in x's dtype, and the sum of the weights (float32 for float16)."""
    xp = be.xp
    classes, kept = safe_classes(be, target, x.shape[1], ignore_index, check)
    loss = xp.negative(x.reshape(-1)[positions(be, classes, x.shape)])
    weights = None if weight is None else weight[classes]
    if weights is not None:
        loss *= weights
    if kept is not None:
        zero = be.number[0, x.dtype]
        loss = xp.where(kept, loss, zero)
        weights = kept if weights is None else xp.where(kept, weights, zero)
    wide = np.dtype(np.float32) if x.dtype == np.float16 else x.dtype
    total = be.number[target.size, wide].copy() if weights is None else \
        xp.add.reduce(weights, None, wide)
    if reduction != "none":
        loss = xp.add.reduce(loss, None, wide)
    if reduction == "mean":
        with np.errstate(divide="ignore", invalid="ignore"):         # NaN where nothing is left
            loss = loss / total
    return xp.asarray(loss, x.dtype), xp.asarray(total)


def safe_classes(be: Any, target: Any, c: int, ignore_index: int, check: bool) -> tuple[Any, Any]:
    """The classes as int64, 0 for ignored ones, and which are not ignored; None: all of them.

    check: read the classes and raise IndexError if one is out of range.
    """
    xp = be.xp
    classes = target.astype(np.int64, copy=False)
    # As unsigned numbers negative classes are huge, so one maximum tells whether all are in range.
    if check and not 0 <= ignore_index < c and \
            (not classes.size or xp.maximum.reduce(classes.view(np.uint64), None) < c):
        return classes, None
    kept = classes != ignore_index
    if check:
        wrong = kept & ((classes < 0) | (classes >= c))
        if wrong.any():
            raise IndexError(f"Target {int(classes[wrong][0])} is out of bounds.")
    return xp.where(kept, classes, 0), kept


def positions(be: Any, classes: Any, shape: Any) -> Any:
    """Where the elements x[i, classes[i, ...], ...] are in the flat x of a shape."""
    xp, (n, c) = be.xp, shape[:2]
    if len(shape) == 2:
        return xp.arange(0, n * c, c) + classes if c else classes
    size = 1
    for s in shape[2:]:
        size *= s
    inside = xp.arange(size).reshape(classes.shape[1:])
    first = xp.arange(n).reshape((n,) + (1,) * (classes.ndim - 1)) * (c * size)
    return first + classes * size + inside


# Cross entropy -----------------------------------------------------------------------------------

@composite
def cross_entropy(o, x, target, weight=None, *, reduction="mean", ignore_index=-100,
                  label_smoothing=0.0):
    """nll_loss of log_softmax(x); label_smoothing is spread evenly over the classes.

    Returns a tuple whose first element is the loss.
    """
    log_p = o.log_softmax(x, dim=1)
    loss, total = o.nll_loss(log_p, target, weight, reduction=reduction, ignore_index=ignore_index)
    if label_smoothing == 0:
        return loss, total
    if weight is not None:
        log_p = o.mul(log_p, o.reshape(weight, (1, -1) + (1,) * (x.ndim - 2)))
    even = o.neg(o.sum(log_p, dim=(1,)))
    even = o.masked_fill(even, o.eq(target, ignore_index), value=0)
    if reduction != "none":
        even = o.sum_all(even)
    if reduction == "mean":
        even = o.to(o.div(even, total), dtype=g_dtype(loss))
    return o.add(o.scale(loss, number=1 - label_smoothing),
                 o.scale(even, number=label_smoothing / x.shape[1])), total


# Mean squared error ------------------------------------------------------------------------------

@op("MseLossBackward0", fit=True)
class mse_loss:
    """(x - y) squared, for x and y of one shape."""
    def forward(be, x, y, *, reduction="mean"):
        xp = be.xp
        d = xp.subtract(x, y, dtype=None if x.dtype == y.dtype else dtypes.promote(x, y))
        wide = np.dtype(np.float32) if d.dtype == np.float16 else d.dtype
        if reduction == "none":
            return xp.multiply(d, d)
        flat = d.reshape(-1).astype(wide, copy=False)
        total = xp.dot(flat, flat)
        if reduction == "mean":
            with np.errstate(invalid="ignore"):
                total = total / be.number[d.size, wide]
        return xp.asarray(total, d.dtype)
    def grad_x(o, g, x, y, reduction):
        return o.mse_loss_backward(g, x, y, reduction=reduction)
    def grad_y(o, g, x, y, reduction):
        return o.mse_loss_backward(g, y, x, reduction=reduction)


@op("MseLossBackwardBackward0")
class mse_loss_backward:
    """The gradient of mse_loss for x."""
    def forward(be, g, x, y, *, reduction):
        d = be.xp.subtract(x, y, dtype=g.dtype)
        d *= be.xp.multiply(g, be.number[slope_of(x, reduction), g.dtype])
        return d
    def grad_g(o, gg, x, y, reduction):
        part = o.mul(gg, o.scale(o.sub(x, y), number=slope_of(x, reduction)))
        return part if reduction == "none" else o.sum_all(part)
    def grad_x(o, gg, g, x, reduction):
        return o.mul(o.scale(gg, number=slope_of(x, reduction)), g)
    def grad_y(o, gg, g, x, reduction):
        return o.mul(o.scale(gg, number=-slope_of(x, reduction)), g)


def slope_of(x: Any, reduction: str) -> float:
    n = 1
    for s in x.shape if reduction == "mean" else ():
        n *= s
    return 2.0 / n if n else float("nan")
