"""Losses of pairs of elements, an input and a target of one shape, and their backward ops.

reduction is "none", "mean" or "sum". A backward op takes the gradient of every element, which is
one for all of them after a reduction: it broadcasts.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad.autograd.op import composite, op

FILE = "pair_loss"
FLOOR = -100.0                                   # of a logarithm in binary cross entropy
LEAST = 1e-12                                    # of x * (1 - x) in its gradient


def summed(be: Any, losses: Any, reduction: str) -> Any:
    """Losses of elements as the reduction wants them, summed in float32 or better."""
    if reduction == "none":
        return be.asarray(losses)
    n, wide = losses.size, dtypes.wide(losses.dtype)
    total = be.xp.add.reduce(losses, None, wide)
    if reduction == "mean":
        with np.errstate(invalid="ignore"):      # NaN of nothing
            total = total / be.number[n, wide]
    return be.xp.asarray(total, losses.dtype)


def on_gpu(name: str, be: Any, *arrays: Any, reduction: str, numbers: Any = ()) -> Any:
    """The same by a kernel that makes the losses of elements."""
    dtype = arrays[0].dtype
    if reduction != "none":                      # a rounding of each loss would be one too many
        arrays = tuple([a.astype(dtypes.wide(a.dtype), copy=False) for a in arrays])
    losses = be.map(FILE, name, *arrays, numbers=numbers)
    return losses if losses is NotImplemented else \
        summed(be, losses, reduction).astype(dtype, copy=False)


def slopes_on_gpu(name: str, be: Any, g: Any, *arrays: Any, numbers: Any = ()) -> Any:
    """Gradients of elements by a kernel."""
    x = arrays[0]
    if g.shape != x.shape:
        if g.ndim or g.dtype != x.dtype:
            return NotImplemented
        g = be.expand(g, x.shape)
    return be.map(FILE, name, g, *arrays, numbers=numbers)


@composite
def loss_share(o: Any, g: Any, x: Any, reduction: str) -> Any:
    """The gradient of each element's loss."""
    n = 1
    for size in x.shape:
        n *= size
    return o.scale(g, number=1 / n) if reduction == "mean" and n else g


# Huber and smooth L1: squared below a bound, linear above it --------------------------------------

def bent(be: Any, x: Any, y: Any, bound: float, factor: float) -> Any:
    """factor * (d * d / 2 where d = |x - y| < bound, else bound * (d - bound / 2))."""
    xp, number, dtype = be.xp, be.number, x.dtype
    d = xp.abs(x - y)
    low = xp.minimum(d, number[bound, dtype])
    return low * (d - low * number[0.5, dtype]) * number[factor, dtype]


def bent_slope(be: Any, g: Any, x: Any, y: Any, bound: float, factor: float) -> Any:
    number, dtype = be.number, x.dtype
    d = be.xp.maximum(x - y, number[-bound, dtype])
    return be.xp.minimum(d, number[bound, dtype]) * (g * number[factor, dtype])


@op("HuberLossBackward0")
class huber_loss:
    """d * d / 2 where d = |x - y| < delta, else delta * (d - delta / 2)."""
    def forward(be, x, y, *, reduction, delta):
        if x.dtype in dtypes.HALF:
            return be.in_float32(huber_loss, x, y, reduction=reduction, delta=delta)
        return summed(be, bent(be, x, y, delta, 1.0), reduction)
    def cuda(be, x, y, *, reduction, delta):
        return on_gpu("bent", be, x, y, reduction=reduction, numbers=(delta, 1.0))
    def grad_x(o, g, x, y, reduction, delta):
        return o.huber_loss_backward(o.loss_share(g, x, reduction), x, y, delta=delta)
    def grad_y(o, g, x, y, reduction, delta):
        return o.huber_loss_backward(o.loss_share(g, x, reduction), y, x, delta=delta)


@op("HuberLossBackwardBackward0", fit=True)
class huber_loss_backward:
    """g * (x - y), where that difference is held between -delta and delta."""
    def forward(be, g, x, y, *, delta):
        if x.dtype in dtypes.HALF:
            return be.in_float32(huber_loss_backward, g, x, y, delta=delta)
        return bent_slope(be, g, x, y, delta, 1.0)
    def cuda(be, g, x, y, *, delta):
        return slopes_on_gpu("bent_backward", be, g, x, y, numbers=(delta, 1.0))
    def grad_g(o, gg, x, y, delta):
        return o.huber_loss_backward(gg, x, y, delta=delta)
    def grad_x(o, gg, g, x, y, delta):
        return o.mul(o.mul(gg, g), o.within(x, y, bound=delta))
    def grad_y(o, gg, g, x, y, delta):
        return o.neg(o.mul(o.mul(gg, g), o.within(x, y, bound=delta)))


@op("SmoothL1LossBackward0")
class smooth_l1_loss:
    """huber_loss over its bound."""
    def forward(be, x, y, *, reduction, beta):
        if x.dtype in dtypes.HALF:
            return be.in_float32(smooth_l1_loss, x, y, reduction=reduction, beta=beta)
        return summed(be, bent(be, x, y, beta, 1 / beta), reduction)
    def cuda(be, x, y, *, reduction, beta):
        return on_gpu("bent", be, x, y, reduction=reduction, numbers=(beta, 1 / beta))
    def grad_x(o, g, x, y, reduction, beta):
        return o.smooth_l1_loss_backward(o.loss_share(g, x, reduction), x, y, beta=beta)
    def grad_y(o, g, x, y, reduction, beta):
        return o.smooth_l1_loss_backward(o.loss_share(g, x, reduction), y, x, beta=beta)


@op("SmoothL1LossBackwardBackward0", fit=True)
class smooth_l1_loss_backward:
    """g * (x - y) / beta, where that difference is held between -beta and beta."""
    def forward(be, g, x, y, *, beta):
        if x.dtype in dtypes.HALF:
            return be.in_float32(smooth_l1_loss_backward, g, x, y, beta=beta)
        return bent_slope(be, g, x, y, beta, 1 / beta)
    def cuda(be, g, x, y, *, beta):
        return slopes_on_gpu("bent_backward", be, g, x, y, numbers=(beta, 1 / beta))
    def grad_g(o, gg, x, y, beta):
        return o.smooth_l1_loss_backward(gg, x, y, beta=beta)
    def grad_x(o, gg, g, x, y, beta):
        return o.scale(o.mul(o.mul(gg, g), o.within(x, y, bound=beta)), number=1 / beta)
    def grad_y(o, gg, g, x, y, beta):
        return o.scale(o.mul(o.mul(gg, g), o.within(x, y, bound=beta)), number=-1 / beta)


@op()
class within:
    """1 where |x - y| < bound, else 0."""
    def forward(be, x, y, *, bound):
        inside = be.xp.abs(x - y) < be.number[bound, x.dtype]
        return be.asarray(inside).astype(x.dtype)


# Soft margin -------------------------------------------------------------------------------------

def softplus(be: Any, z: Any) -> Any:
    """log(1 + exp(z)), without overflow."""
    xp = be.xp
    return xp.maximum(z, be.number[0, z.dtype]) + xp.log1p(xp.exp(-xp.abs(z)))


def logistic(be: Any, z: Any) -> Any:
    """1 / (1 + exp(-z)); by tanh, which doesn't overflow."""
    half, one = be.number[0.5, z.dtype], be.number[1, z.dtype]
    return half * (be.xp.tanh(half * z) + one)


@op("SoftMarginLossBackward0", fit=True)
class soft_margin_loss:
    """log(1 + exp(-y * x)) for targets y of 1 and -1."""
    def forward(be, x, y, *, reduction):
        if x.dtype in dtypes.HALF:
            return be.in_float32(soft_margin_loss, x, y, reduction=reduction)
        return summed(be, softplus(be, -x * y), reduction)
    def cuda(be, x, y, *, reduction):
        return on_gpu("soft_margin", be, x, y, reduction=reduction)
    grad_y = None
    def grad_x(o, g, x, y, reduction):
        return o.soft_margin_loss_backward(o.loss_share(g, x, reduction), x, y)


@op("SoftMarginLossBackwardBackward0", fit=True)
class soft_margin_loss_backward:
    """-g * y / (1 + exp(y * x))"""
    def forward(be, g, x, y):
        if x.dtype in dtypes.HALF:
            return be.in_float32(soft_margin_loss_backward, g, x, y)
        return -g * y * logistic(be, -x * y)
    def cuda(be, g, x, y):
        return slopes_on_gpu("soft_margin_backward", be, g, x, y)
    grad_y = None
    def grad_g(o, gg, x, y):
        return o.soft_margin_loss_backward(gg, x, y)
    def grad_x(o, gg, g, x, y):
        p = o.sigmoid(o.mul(x, y))
        return o.mul(o.mul(o.mul(gg, g), o.mul(y, y)), o.mul(p, o.rsub(p, number=1)))


# Binary cross entropy ----------------------------------------------------------------------------

@op("BinaryCrossEntropyBackward0")
class binary_cross_entropy:
    """-(t * log(x) + (1 - t) * log(1 - x)), weighted; the logarithms are at least -100.

    x and t are of one shape, and the weight broadcasts to it.
    """
    def forward(be, x, t, weight=None, *, reduction):
        if x.dtype in dtypes.HALF:
            return be.in_float32(binary_cross_entropy, x, t, weight, reduction=reduction)
        xp, floor = be.xp, be.number[FLOOR, x.dtype]
        with np.errstate(divide="ignore", invalid="ignore"):
            losses = (t - be.number[1, x.dtype]) * xp.maximum(xp.log1p(-x), floor)
            losses -= t * xp.maximum(xp.log(x), floor)
        return summed(be, losses if weight is None else losses * weight, reduction)
    def cuda(be, x, t, weight=None, *, reduction):
        if weight is not None:
            return NotImplemented
        return on_gpu("binary_cross_entropy", be, x, t, reduction=reduction)
    grad_weight = None
    def grad_x(o, g, x, t, weight, reduction):
        share = o.loss_share(g, x, reduction)
        return o.binary_cross_entropy_backward(share if weight is None else o.mul(share, weight),
                                               x, t)
    def grad_t(o, g, x, weight, reduction):
        share = o.loss_share(g, x, reduction)
        return o.mul(share if weight is None else o.mul(share, weight),
                     o.sub(o.log1p(o.neg(x)), o.log(x)))


@op("BinaryCrossEntropyBackwardBackward0", fit=True)
class binary_cross_entropy_backward:
    """g * (x - t) / (x * (1 - x)), finite where x is 0 or 1."""
    def forward(be, g, x, t):
        if x.dtype in dtypes.HALF:
            return be.in_float32(binary_cross_entropy_backward, g, x, t)
        least = be.number[LEAST, x.dtype]
        return g * (x - t) / be.xp.maximum((be.number[1, x.dtype] - x) * x, least)
    def cuda(be, g, x, t):
        return slopes_on_gpu("binary_cross_entropy_backward", be, g, x, t)
    def grad_g(o, gg, x, t):
        return o.binary_cross_entropy_backward(gg, x, t)
    def grad_x(o, gg, g, x, t):
        below = o.probability_spread(x)
        above = o.add(o.mul(x, o.sub(x, o.scale(t, number=2))), t)
        return o.mul(o.mul(gg, g), o.div(o.div(above, below), below))
    def grad_t(o, gg, g, x):
        return o.neg(o.div(o.mul(gg, g), o.probability_spread(x)))


@composite
def probability_spread(o: Any, x: Any) -> Any:
    """x * (1 - x), at least LEAST."""
    return o.clamp(o.mul(x, o.rsub(x, number=1)), min=LEAST)


@op("BinaryCrossEntropyWithLogitsBackward0")
class binary_cross_entropy_with_logits:
    """binary_cross_entropy of sigmoid(x), without overflow; its part for t is times pos_weight.

    x and t are of one shape, and the weights broadcast to it.
    """
    def forward(be, x, t, weight=None, pos_weight=None, *, reduction):
        if x.dtype in dtypes.HALF:
            return be.in_float32(binary_cross_entropy_with_logits, x, t, weight, pos_weight,
                                 reduction=reduction)
        one, cost = be.number[1, x.dtype], softplus(be, -x)
        if pos_weight is not None:
            cost = cost * ((pos_weight - one) * t + one)
        with np.errstate(invalid="ignore"):
            losses = (one - t) * x + cost
        return summed(be, losses if weight is None else losses * weight, reduction)
    def cuda(be, x, t, weight=None, pos_weight=None, *, reduction):
        if weight is not None or pos_weight is not None:
            return NotImplemented
        return on_gpu("binary_cross_entropy_with_logits", be, x, t, reduction=reduction)
    grad_weight = grad_pos_weight = None
    def grad_x(o, g, x, t, weight, pos_weight, reduction):
        share = o.loss_share(g, x, reduction)
        return o.binary_cross_entropy_with_logits_backward(
            share if weight is None else o.mul(share, weight), x, t, pos_weight)
    def grad_t(o, g, x, weight, pos_weight, reduction):
        share = o.loss_share(g, x, reduction)
        slope = o.neg(x)
        if pos_weight is not None:
            slope = o.sub(slope, o.mul(o.shift(pos_weight, number=-1), o.log_sigmoid(x)))
        return o.mul(share if weight is None else o.mul(share, weight), slope)


@op("BinaryCrossEntropyWithLogitsBackwardBackward0", fit=True)
class binary_cross_entropy_with_logits_backward:
    """g * (sigmoid(x) * (1 + (pos_weight - 1) * t) - pos_weight * t)"""
    def forward(be, g, x, t, pos_weight=None):
        if x.dtype in dtypes.HALF:
            return be.in_float32(binary_cross_entropy_with_logits_backward, g, x, t, pos_weight)
        p, one = logistic(be, x), be.number[1, x.dtype]
        if pos_weight is None:
            return g * (p - t)
        return g * (p * ((pos_weight - one) * t + one) - pos_weight * t)
    def cuda(be, g, x, t, pos_weight=None):
        if pos_weight is not None:
            return NotImplemented
        return slopes_on_gpu("binary_cross_entropy_with_logits_backward", be, g, x, t)
    grad_pos_weight = None
    def grad_g(o, gg, x, t, pos_weight):
        return o.binary_cross_entropy_with_logits_backward(gg, x, t, pos_weight)
    def grad_x(o, gg, g, x, t, pos_weight):
        p = o.sigmoid(x)
        slope = o.mul(p, o.rsub(p, number=1))
        if pos_weight is not None:
            more = o.mul(o.shift(pos_weight, number=-1), t)
            slope = o.mul(slope, o.shift(more, number=1))
        return o.mul(o.mul(gg, g), slope)
    def grad_t(o, gg, g, x, pos_weight):
        both = o.mul(gg, g)
        if pos_weight is None:
            return o.neg(both)
        return o.mul(both, o.sub(o.mul(o.shift(pos_weight, number=-1), o.sigmoid(x)), pos_weight))
