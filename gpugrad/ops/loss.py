"""Losses with rules of their own: negative log-likelihood and mean squared error.

Class indices are (n, ...) for scores (n, c, ...). A class equal to ignore_index has no part in the
loss. A reduction is "none", "mean" or "sum"; the mean of weighted losses is over their weights.
On a GPU nothing is read by the host: a class out of range makes its loss and gradient NaN.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad.autograd.op import composite, op
from gpugrad.backend.kernels import acc

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


def likelihood(be, x, target, weight=None, *, reduction, ignore_index):
    classes, kept = safe_classes(be, target, x.shape[1], ignore_index, be.checks_classes)
    own = x.reshape(-1)[positions(be, classes, x.shape)]
    losses = -own.astype(dtypes.wide(x.dtype), copy=False)
    return reduced(be, losses, kept, None if weight is None else weight[classes], reduction,
                   x.dtype)


def likelihood_on_gpu(be, x, target, weight=None, *, reduction, ignore_index):
    if not be.takes(x.dtype):
        return NotImplemented
    losses, weights = be.empty((2, *target.shape), dtypes.wide(x.dtype))
    be.kernels.each("loss", "nll_loss", x.dtype, target.size,
                    (be._dense(x), as_classes(be, target), weight_or(be, weight, x), losses,
                     weights), *sizes(x.shape), np.int64(ignore_index),
                    np.int32(weight is not None))
    return reduced_on_gpu(be, losses, weights, reduction, x.dtype)


def likelihood_slope(o, g, target, weight, result1, x_shape, reduction, ignore_index):
    return o.nll_loss_backward(g, target, weight, result1, shape=x_shape, reduction=reduction,
                               ignore_index=ignore_index)


@op("NllLossBackward0", outputs=2)
class nll_loss_rows:
    """x is (n, c)."""
    forward, cuda = likelihood, likelihood_on_gpu
    grad_target = grad_weight = None
    grad_x = likelihood_slope


@op("NllLoss2DBackward0", outputs=2)
class nll_loss_images:
    """x is (n, c, h, w)."""
    forward, cuda = likelihood, likelihood_on_gpu
    grad_target = grad_weight = None
    grad_x = likelihood_slope


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
    def cuda(be, g, target, weight, total, *, shape, reduction, ignore_index):
        if not be.takes(g.dtype):
            return NotImplemented
        gx = be.empty(tuple(shape), g.dtype)
        be.kernels.each("loss", "nll_loss_backward", g.dtype, gx.size,
                        (be._dense(g), as_classes(be, target), weight_or(be, weight, g),
                         total.astype(dtypes.wide(g.dtype), copy=False), gx),
                        *sizes(shape), np.int64(ignore_index), np.int32(weight is not None),
                        np.int32(reduction == "none"), np.int32(reduction == "mean"))
        return gx
    grad_target = grad_weight = grad_total = None
    def grad_g(o, gg, target, weight, reduction, ignore_index):
        return o.nll_loss(gg, target, weight, reduction=reduction, ignore_index=ignore_index)[0]


# What both kinds of losses share -----------------------------------------------------------------

def reduced(be: Any, losses: Any, kept: Any, weights: Any, reduction: str, dtype: Any,
            even: Any = None) -> tuple[Any, Any]:
    """The loss in ``dtype``, and the sum of the weights, 0 if nothing is reduced: in losses' dtype.

    losses: one for each target, fresh memory; kept: which of them count, None for all; weights: of
    each, None for 1; even: what is added to the weighted losses.
    """
    xp, wide = be.xp, losses.dtype
    if kept is weights is even is None and reduction == "mean" and losses.size:
        total = be.number[losses.size, wide]
        return xp.asarray(xp.add.reduce(losses, None) / total, dtype), total.copy()
    if weights is not None:
        losses *= weights
    if even is not None:
        losses += even
    if kept is not None:
        losses = be.keep(losses, kept)
        weights = kept if weights is None else be.keep(weights, kept)
    if reduction == "none":
        return xp.asarray(losses, dtype), xp.zeros((), wide)
    total = be.number[losses.size, wide].copy() if weights is None else \
        xp.add.reduce(weights, None, wide)
    loss = xp.add.reduce(losses, None, wide)
    if reduction == "mean":
        with np.errstate(divide="ignore", invalid="ignore"):         # NaN where nothing is left
            loss = loss / total
    return xp.asarray(loss, dtype), xp.asarray(total)


CHUNK = 1 << 13                                  # losses that a block sums


def reduced_on_gpu(be: Any, losses: Any, weights: Any, reduction: str,
                   dtype: Any) -> tuple[Any, Any]:
    """The loss, and the sum of the weights, of weighted losses."""
    if reduction == "none":
        return losses.astype(dtype, copy=False), be.xp.zeros((), losses.dtype)
    n = losses.size
    while n > 2 * CHUNK:
        rows = -(-n // CHUNK)
        sums = be.empty((2, rows), losses.dtype)
        be.kernels.rows("loss", "loss_parts", dtype, rows, CHUNK, (losses, weights, *sums),
                        np.int64(n))
        (losses, weights), n = sums, rows
    loss, total = be.empty((), dtype), be.empty((), losses.dtype)
    be.kernels.rows("loss", "loss_total", dtype, 1, n, (losses, weights, loss, total),
                    np.int32(reduction == "mean"))
    return loss, total


def as_classes(be: Any, target: Any) -> Any:
    """The target as kernels read it."""
    return be._dense(target.astype(np.int64, copy=False))


def weight_or(be: Any, weight: Any, other: Any) -> Any:
    """The weight, or for a kernel that doesn't read it an array of the same dtype."""
    return be._dense(other if weight is None else weight)


def sizes(shape: Any) -> tuple[Any, Any]:
    """(how many classes there are, how far they are apart), for kernels."""
    return np.int64(shape[1]), np.int64(math.prod(shape[2:]))


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


# Mean squared error ------------------------------------------------------------------------------

@op("MseLossBackward0", fit=True)
class mse_loss:
    """(x - y) squared, for x and y of one shape."""
    def forward(be, x, y, *, reduction="mean"):
        if x.dtype in dtypes.HALF and x.dtype == y.dtype:
            return be.in_float32(mse_loss, x, y, reduction=reduction)
        xp = be.xp
        d = xp.subtract(x, y, dtype=None if x.dtype == y.dtype else dtypes.promote(x, y))
        wide = dtypes.wide(d.dtype)
        if reduction == "none":
            return xp.multiply(d, d)
        flat = d.reshape(-1).astype(wide, copy=False)
        total = xp.dot(flat, flat)
        if reduction == "mean":
            with np.errstate(invalid="ignore"):
                total = total / be.number[d.size, wide]
        return xp.asarray(total, d.dtype)
    def cuda(be, x, y, *, reduction="mean"):
        if x.dtype != y.dtype or x.shape != y.shape or not be.takes(x.dtype):
            return NotImplemented
        if reduction == "none":
            return be.map("loss", "squared_error", x, y)
        n, arrays = x.size, (be._dense(x), be._dense(y))
        rows = -(-n // CHUNK)
        parts, out = be.empty((rows,), dtypes.wide(x.dtype)), be.empty((), x.dtype)
        be.kernels.rows("loss", "squared_error_parts", x.dtype, rows, CHUNK, (*arrays, parts),
                        np.int64(n))
        be.kernels.rows("loss", "squared_error_total", x.dtype, 1, rows, (parts, out),
                        acc(n if reduction == "mean" else 1, x.dtype))
        return out
    def grad_x(o, g, x, y, reduction):
        return o.mse_loss_backward(g, x, y, reduction=reduction)
    def grad_y(o, g, x, y, reduction):
        return o.mse_loss_backward(g, y, x, reduction=reduction)


@op("MseLossBackwardBackward0")
class mse_loss_backward:
    """The gradient of mse_loss for x."""
    def forward(be, g, x, y, *, reduction):
        if g.dtype in dtypes.HALF:
            return be.in_float32(mse_loss_backward, g, x, y, reduction=reduction)
        d = be.xp.subtract(x, y, dtype=g.dtype)
        d *= be.xp.multiply(g, be.number[slope_of(x, reduction), g.dtype])
        return d
    def cuda(be, g, x, y, *, reduction):
        if not be.takes(g.dtype) or not g.dtype == x.dtype == y.dtype or \
                x.shape != y.shape:
            return NotImplemented
        gx = be.empty(x.shape, g.dtype)
        be.kernels.each("loss", "squared_error_backward", g.dtype, x.size,
                        (*map(be._dense, (g, x, y)), gx), np.int32(reduction == "none"),
                        acc(slope_of(x, reduction), g.dtype), at_once=16 // g.itemsize)
        return gx
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
