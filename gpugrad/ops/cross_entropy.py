"""Cross entropy of scores and class indices: one op from the scores to the loss.

Class indices are (n, ...) for scores (n, c, ...). Labels are 1 - label_smoothing at the target and
label_smoothing shared evenly by all classes. The scores are read once each way, and log_softmax is
never written: of each line only its maximum and the logarithm of its sum of exponentials are kept.
What ignore_index, weights and reductions mean is said in loss.py.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad.autograd.op import composite, op
from gpugrad.autograd.rules import g_dtype
from gpugrad.backend.compiled import ABSENT, FLOAT, dense, for_floats
from gpugrad.backend.kernels import acc
from gpugrad.ops.loss import (
    as_classes,
    positions,
    reduced,
    reduced_on_gpu,
    safe_classes,
    weight_or,
)
from gpugrad.ops.softmax import line_max, line_sum

INT64 = np.dtype(np.int64).num


@composite
def cross_entropy(o, x, target, weight=None, *, reduction="mean", ignore_index=-100,
                  label_smoothing=0.0):
    """Returns a tuple whose first element is the loss."""
    kw = {"reduction": reduction, "ignore_index": ignore_index, "label_smoothing": label_smoothing}
    loss = o.smoothed_cross_entropy if label_smoothing else \
        o.cross_entropy_rows if x.ndim == 2 else o.cross_entropy_images
    x = o.scores(x)
    if x.ndim in (2, 4):
        return loss(x, target, weight, **kw)
    n, size = x.shape[0], math.prod(x.shape[2:])
    out = loss(o.reshape(x, (n, x.shape[1], 1, size)), o.reshape(target, (n, 1, size)), weight,
               **kw)
    return (o.reshape(out[0], tuple(target.shape)), *out[1:]) if reduction == "none" else out


@op("LogSoftmaxBackward0", view=True)
class scores:
    """x itself. It stands in the graph for log_softmax, whose gradient the loss's node gives too:
    so the graph has PyTorch's two nodes."""
    def forward(be, x):
        return x[...]
    def grad_x(o, g):
        return g


def entropy(be, x, target, weight=None, *, reduction, ignore_index, label_smoothing):
    wide = dtypes.wide(x.dtype)
    classes, kept = safe_classes(be, target, x.shape[1], ignore_index, be.checks_classes)
    shift, log_sum = be.empty(target.shape, wide), be.empty(target.shape, wide)
    even = be.empty(target.shape, wide) if label_smoothing else None

    def work(part):
        line, low, log, *rest = part
        be.xp.rint(line_max(be, line), out=low)
        y = line - low                           # NaN in a line of -inf
        if rest:                                 # the sum of weights * (shift - x), for now
            total = y if weight is None else y * across(weight, y.ndim)
            rest[0][...] = -line_sum(be, total)
        be.xp.exp(y, out=y)
        be.xp.log(line_sum(be, y), out=log)

    be.share(work, parts(be, x, shift, log_sum, even), x.size * be.element_cost)
    own = x.reshape(-1)[positions(be, classes, x.shape)]
    losses = log_sum - (own.astype(wide, copy=False) - shift)
    return finished(be, losses, log_sum, shift, even, x, classes, kept, weight, reduction,
                    label_smoothing)


def entropy_on_cpu(be, x, target, weight=None, *, reduction, ignore_index, label_smoothing):
    c = for_floats(x, weight)
    if c is None:
        return NotImplemented
    shape = target.shape
    losses, log_sum, shift = np.empty(shape, FLOAT), np.empty(shape, FLOAT), np.empty(shape, FLOAT)
    if weight is None and reduction == "mean" and is_plain(x, target, ignore_index) \
            and not label_smoothing:
        loss, total = np.empty((), FLOAT), np.empty((), FLOAT)
        c.cross_entropy_mean(dense(x), dense(target), losses, log_sum, shift, loss, total,
                             math.prod(shape[1:]))
        if total.item():
            return loss, log_sum, total, shift
    classes, kept = safe_classes(be, target, x.shape[1], ignore_index, True)
    even = np.empty(target.shape, FLOAT) if label_smoothing else None
    c.cross_entropy(dense(x), dense(classes), dense(weight), losses, log_sum, shift, dense(even),
                    math.prod(x.shape[2:]))
    return finished(be, losses, log_sum, shift, even, x, classes, kept, weight, reduction,
                    label_smoothing)


def is_plain(x, target, ignore_index):
    """Are there only classes that count, or else ones that are out of range?"""
    return target.dtype.num == INT64 and not 0 <= ignore_index < x.shape[1]


def finished(be, losses, log_sum, shift, even, x, classes, kept, weight, reduction,
             label_smoothing):
    """The results of cross entropy. even: for label smoothing, the sum of weights * (shift - x)."""
    if even is not None:
        wide = losses.dtype
        losses *= be.number[1 - label_smoothing, wide]
        even += log_sum * total_weight(x, weight)
        even *= be.number[label_smoothing / x.shape[1], wide]
    weights = None if weight is None else weight[classes]
    loss, total = reduced(be, losses, kept, weights, reduction, x.dtype, even)
    return loss, log_sum, total, shift


def entropy_on_gpu(be, x, target, weight=None, *, reduction, ignore_index, label_smoothing):
    if not be.takes(x.dtype) or not x.shape[1]:
        return NotImplemented
    losses, weights, log_sum, shift = [be.empty(target.shape, dtypes.wide(x.dtype))
                                       for _ in range(4)]
    be.kernels.lines("loss", "cross_entropy", x.dtype, x.shape, 1,
                     (be._dense(x), as_classes(be, target), weight_or(be, weight, x), losses,
                      weights, log_sum, shift), np.int64(ignore_index),
                     np.int32(weight is not None), acc(label_smoothing, x.dtype))
    loss, total = reduced_on_gpu(be, losses, weights, reduction, x.dtype)
    return loss, log_sum, total, shift


def entropy_slope(o, g0, g1, x, target, weight, result1, result2, result3, reduction, ignore_index,
                  label_smoothing):
    gx = None
    if g0 is not None:
        gx = o.cross_entropy_backward(
            g0, x, target, weight, result1, result2, result3, reduction=reduction,
            ignore_index=ignore_index, label_smoothing=label_smoothing)
    if g1 is not None:                           # only in gradients of gradients
        part = o.mul(o.as_lines(g1, x), o.softmax(x, dim=1))
        gx = part if gx is None else o.add(gx, part)
    return gx


# The results: the loss; the logarithm of each line's sum of exp(x - shift); the sum of the weights;
# each line's maximum, rounded, as its shift. So the shift is no function to differentiate, and the
# logarithm is one. All but the loss are in float32 for 16 bits.

@op("NllLossBackward0", outputs=4, diff=2)
class cross_entropy_rows:
    """x is (n, c)."""
    forward, cpu, cuda = entropy, entropy_on_cpu, entropy_on_gpu
    grad_target = grad_weight = None
    grad_x = entropy_slope


@op("NllLoss2DBackward0", outputs=4, diff=2)
class cross_entropy_images:
    """x is (n, c, ...)."""
    forward, cpu, cuda = entropy, entropy_on_cpu, entropy_on_gpu
    grad_target = grad_weight = None
    grad_x = entropy_slope


@op("AddBackward0", outputs=4, diff=2)
class smoothed_cross_entropy:
    """With label_smoothing PyTorch's last node is an addition."""
    forward, cpu, cuda = entropy, entropy_on_cpu, entropy_on_gpu
    grad_target = grad_weight = None
    grad_x = entropy_slope


@op("LogSoftmaxBackwardDataBackward0")
class cross_entropy_backward:
    """g times the share of each target in the loss times (probabilities - labels)."""
    def forward(be, g, x, target, weight, log_sum, total, shift, *, reduction, ignore_index,
                label_smoothing):
        wide = dtypes.wide(x.dtype)
        classes, kept = safe_classes(be, target, x.shape[1], ignore_index, be.checks_classes)
        every, own, share = portions(be, g.astype(wide, copy=False), total, reduction, kept, x,
                                     classes, weight, label_smoothing)
        out = be.empty(x.shape, wide)

        def work(part):
            line, r, low, log, *scale = part
            be.xp.subtract(line, low, out=r)
            r -= log
            be.xp.exp(r, out=r)
            r *= scale[0] if scale else every

        be.share(work, parts(be, x, shift, log_sum, every if every.ndim else None, out=out),
                 x.size * be.element_cost)
        if label_smoothing:
            labels = be.xp.expand_dims(share, 1) if share.ndim else share
            out -= labels if weight is None else labels * across(weight, x.ndim)
        out.reshape(-1)[positions(be, classes, x.shape)] -= own
        return out.astype(x.dtype, copy=False)
    def cpu(be, g, x, target, weight, log_sum, total, shift, *, reduction, ignore_index,
            label_smoothing):
        c = for_floats(x, g, weight, log_sum, total, shift)
        if c is None:
            return NotImplemented
        out = np.empty(x.shape, FLOAT)
        if weight is None and reduction != "none" and is_plain(x, target, ignore_index) \
                and not label_smoothing:         # a target that doesn't count is out of range
            own = np.asarray(g / total if reduction == "mean" else g)
            c.cross_entropy_backward(dense(x), dense(target), dense(shift), dense(log_sum), own,
                                     own, ABSENT, ABSENT, out, math.prod(x.shape[2:]))
            return out
        classes, kept = safe_classes(be, target, x.shape[1], ignore_index, True)
        found = portions(be, g, total, reduction, kept, x, classes, weight, label_smoothing)
        every, own, share = [a if a is None else np.asarray(a) for a in found]
        if every.ndim and share is not None and not share.ndim:
            share = np.broadcast_to(share, every.shape)
        c.cross_entropy_backward(dense(x), dense(classes), dense(shift), dense(log_sum),
                                 dense(every), dense(own), dense(share), dense(weight), out,
                                 math.prod(x.shape[2:]))
        return out
    def cuda(be, g, x, target, weight, log_sum, total, shift, *, reduction, ignore_index,
             label_smoothing):
        if not be.takes(x.dtype) or g.dtype != x.dtype:
            return NotImplemented
        wide = dtypes.wide(x.dtype)
        sums = [be._dense(a.astype(wide, copy=False)) for a in (log_sum, total, shift)]
        gx = be.empty(x.shape, x.dtype)
        be.kernels.lines("loss", "cross_entropy_backward", x.dtype, x.shape, 1,
                         (be._dense(g), be._dense(x), as_classes(be, target),
                          weight_or(be, weight, x), *sums, gx),
                         np.int64(ignore_index), np.int32(weight is not None),
                         np.int32(reduction == "none"), np.int32(reduction == "mean"),
                         acc(label_smoothing, x.dtype))
        return gx
    grad_target = grad_weight = grad_total = grad_shift = None
    def grads(o, gg, needs, g, x, target, weight, log_sum, total, shift, reduction, ignore_index,
              label_smoothing):
        kw = {"ignore_index": ignore_index, "label_smoothing": label_smoothing}
        gg_g = gg_x = gg_log_sum = None
        if needs[0]:
            gg_g = o.mul(gg, o.cross_entropy_backward(
                o.fill(g, value=1.0), x, target, weight, log_sum, total, shift,
                reduction=reduction, **kw))
            gg_g = o.sum(gg_g, dim=(1,)) if reduction == "none" else o.sum_all(gg_g)
        if needs[1] or needs[2]:
            slope = o.mul(g, o.class_shares(target, weight, classes=x.shape[1], dtype=g_dtype(x),
                                            **kw))
            if reduction == "mean":
                slope = o.div(slope, o.to(total, dtype=g_dtype(x)))
            p = o.exp(o.sub(o.sub(x, o.as_lines(shift, x)), o.as_lines(log_sum, x)))
            gg_x = o.mul(gg, o.mul(o.as_lines(slope, x), p))
        if needs[2]:
            gg_log_sum = o.to(o.neg(o.sum(gg_x, dim=(1,))), dtype=g_dtype(log_sum))
        return gg_g, gg_x if needs[1] else None, gg_log_sum


@composite
def as_lines(o, v, x):
    """A number for each target, (n, ...), so that it broadcasts with x, and in its dtype."""
    return o.to(o.reshape(v, (x.shape[0], 1, *x.shape[2:])), dtype=g_dtype(x))


@op()
class class_shares:
    """What the probabilities of each target's line weigh in the loss: 0 for ignored ones."""
    def forward(be, target, weight=None, *, classes, dtype, ignore_index, label_smoothing):
        at, kept = safe_classes(be, target, classes, ignore_index, False)
        if weight is None:
            weight = be.xp.ones(classes, dtype)
        even = weight.sum() * be.number[label_smoothing / classes, dtype]
        return be.keep(weight[at] * be.number[1 - label_smoothing, dtype] + even, kept)


def portions(be: Any, g: Any, total: Any, reduction: str, kept: Any, x: Any, classes: Any,
             weight: Any, label_smoothing: float) -> tuple[Any, Any, Any]:
    """What of the gradient g the probabilities of each target's line get, its own label, and for
    label smoothing all labels, before their weights: one number for all targets, if it can be."""
    own, share = g / total if reduction == "mean" else g, None
    if kept is not None:
        own = be.keep(be.xp.broadcast_to(own, classes.shape), kept)
    if label_smoothing:
        share = own * be.number[label_smoothing / x.shape[1], g.dtype]
        own = own * be.number[1 - label_smoothing, g.dtype]
    if weight is not None:
        own = own * weight[classes]
    return own if share is None else own + share * total_weight(x, weight), own, share


def parts(be: Any, x: Any, *lines: Any, out: Any = None) -> Any:
    """x part by part as (n, c) or (n, c, inner), in float32 for 16 bits; views of the same part of
    ``out``, which is like x, and of each of ``lines``, None left out, as (n, 1) or (n, 1, inner).

    The parts stay in the processor's cache.
    """
    if not x.size:
        return
    n, c, wide = len(x), x.shape[1], dtypes.wide(x.dtype)
    inner = x.size // (n * c)
    whole, one = ((n, c), (n, 1)) if inner == 1 else ((n, c, inner), (n, 1, inner))
    arrays = [x.reshape(whole)]
    if out is not None:
        arrays.append(out.reshape(whole))
    arrays += [a.reshape(one) for a in lines if a is not None]
    step = max(1, be.column_bytes // 2 // (c * inner * wide.itemsize))
    if step >= n and x.dtype == wide:
        yield arrays
        return
    for i in range(0, n, step):
        line, *others = [a[i:i + step] for a in arrays]
        yield [line.astype(wide, copy=False), *others]


def total_weight(x: Any, weight: Any) -> Any:
    """The sum of the weights of all classes."""
    return x.shape[1] if weight is None else weight.astype(dtypes.wide(x.dtype), copy=False).sum()


def across(weight: Any, ndim: int) -> Any:
    """A weight for each class, so that it broadcasts with scores of so many dims."""
    return weight.reshape(1, -1, *[1] * (ndim - 2))
