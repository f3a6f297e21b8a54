"""Connectionist temporal classification: the probability of label sequences without alignment.

The states of a sequence are its labels with a blank around and between them, 2 * s + 1 for
s labels. From one time step to the next a path stays, goes on by one, or by two where that skips a
blank between different labels (Graves et al., Connectionist temporal classification, 2006).
Everything is kept as logarithms. The second result, log_alpha, is for each time and state the
log-probability of all paths that have come there.

Shapes: x (t, n, c) log-probabilities; targets (n, s) of int64, of which each sequence has its first
target_lengths; input_lengths and target_lengths (n,) of int64. A label out of range, or a length,
makes its sequence's loss and gradient NaN: nothing is read by the host.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad.autograd.op import op

FILE = "ctc"


@op("CtcLossBackward0", outputs=2)
class ctc_loss:
    """(-log of each sequence's probability, (n,); log_alpha, (n, t, 2 * s + 1))."""
    def forward(be, x, targets, input_lengths, target_lengths, *, blank, zero_infinity):
        xp, wide = be.xp, dtypes.wide(x.dtype)
        t, n, _ = x.shape
        labels, skips, right = states(be, x.shape, targets, input_lengths, target_lengths, blank)
        heard = emissions(be, x, labels, input_lengths, target_lengths)
        lowest = be.number[-math.inf, wide]
        # two states more in front, which nothing reaches
        alpha = xp.full((n, t, labels.shape[1] + 2), -math.inf, wide)
        alpha[:, 0, 2:4] = heard[:, 0, :2]
        for i in range(1, t):
            before = alpha[:, i - 1]
            two = xp.where(skips, before[:, :-2], lowest)
            alpha[:, i, 2:] = log_of_sum(be, before[:, 2:], before[:, 1:-1], two) + heard[:, i]
        alpha = xp.ascontiguousarray(alpha[:, :, 2:])
        loss = -totals(be, alpha, input_lengths, target_lengths, right)
        return loss.astype(x.dtype, copy=False), alpha
    def cuda(be, x, targets, input_lengths, target_lengths, *, blank, zero_infinity):
        if not be.takes(x.dtype):
            return NotImplemented
        t, n, c = x.shape
        s = targets.shape[1]
        loss, alpha = be.empty((n,), x.dtype), be.empty((n, t, 2 * s + 1), dtypes.wide(x.dtype))
        launch(be, "ctc_loss", x.dtype, n, 2 * s + 1,
               (*map(be._dense, (x, targets, input_lengths, target_lengths)), alpha, loss), t, n, c,
               s, blank)
        return loss, alpha
    grad_targets = grad_input_lengths = grad_target_lengths = None
    def grad_x(o, g, x, targets, input_lengths, target_lengths, result1, blank, zero_infinity):
        return o.ctc_loss_backward(g, x, targets, input_lengths, target_lengths, result1,
                                   blank=blank, zero_infinity=zero_infinity)


@op("NotImplemented")
class ctc_loss_backward:
    """g * (the probability of each class - the share of the paths that have it then).

    It is the gradient for what log_softmax was taken of, as in PyTorch: for log_softmax's result
    the first part is too much, and log_softmax's own gradient takes none of it.
    zero_infinity: 0 instead of NaN for sequences that no path can make.
    """
    def forward(be, g, x, targets, input_lengths, target_lengths, alpha, *, blank, zero_infinity):
        xp, wide = be.xp, dtypes.wide(x.dtype)
        t, n, _ = x.shape
        alpha = alpha.astype(wide, copy=False)
        labels, skips, right = states(be, x.shape, targets, input_lengths, target_lengths, blank)
        heard = emissions(be, x, labels, input_lengths, target_lengths)
        total = totals(be, alpha, input_lengths, target_lengths, right)
        lost = xp.isnan(total) | (total == -math.inf)
        safe = be.drop(total, lost).reshape(n, 1)
        # from each state to the end, without what is heard in it; two states more behind
        lowest = be.number[-math.inf, wide]
        ends, state = (2 * target_lengths).reshape(n, 1), xp.arange(labels.shape[1])
        final = xp.where((state == ends) | (state == ends - 1), be.number[0, wide], lowest)
        onward = xp.full((n, labels.shape[1] + 2), -math.inf, wide)
        to_skip = xp.zeros(labels.shape, bool)
        to_skip[:, :-2] = skips[:, 2:]
        share = be.empty(alpha.shape, wide)
        for i in range(t - 1, -1, -1):
            beta = log_of_sum(be, onward[:, :-2], onward[:, 1:-1],
                              xp.where(to_skip, onward[:, 2:], lowest))
            beta = xp.where((input_lengths == i + 1).reshape(n, 1), final, beta)
            onward[:, :-2] = beta + heard[:, i]
            share[:, i] = xp.exp(alpha[:, i] + beta - safe)
        out = xp.exp(xp.transpose(x, (1, 0, 2)).astype(wide, copy=False))
        take_shares(be, out, labels, share, blank)
        out *= g.astype(wide, copy=False).reshape(n, 1, 1)
        empty = be.number[0 if zero_infinity else math.nan, wide]
        nothing = xp.where(xp.isnan(total), total, empty)
        out = xp.where(lost.reshape(n, 1, 1), nothing.reshape(n, 1, 1), out)
        out = be.keep(out, xp.arange(t).reshape(1, t, 1) < input_lengths.reshape(n, 1, 1))
        return xp.ascontiguousarray(xp.transpose(out, (1, 0, 2)).astype(x.dtype, copy=False))
    def cuda(be, g, x, targets, input_lengths, target_lengths, alpha, *, blank, zero_infinity):
        if not be.takes(x.dtype) or g.dtype != x.dtype:
            return NotImplemented
        t, n, c = x.shape
        s = targets.shape[1]
        x, targets, lengths = be._dense(x), be._dense(targets), be._dense(input_lengths)
        alpha = be._dense(alpha.astype(dtypes.wide(x.dtype), copy=False))
        onward, share = be.empty((n, 2, 2 * s + 1), alpha.dtype), be.empty(alpha.shape, alpha.dtype)
        total, links = be.empty((n,), alpha.dtype), be.empty((2, n, s), np.int32)
        launch(be, "ctc_shares", x.dtype, n, 2 * s + 1,
               (x, targets, lengths, be._dense(target_lengths), alpha, onward, share, total,
                *links), t, n, c, s, blank)
        gx = be.empty(x.shape, x.dtype)
        launch(be, "ctc_loss_backward", x.dtype, t * n, max(c, 2 * s + 1),
               (be._dense(g), x, targets, lengths, be._dense(target_lengths), share, total, *links,
                gx), t, n, c, s, blank, np.int32(zero_infinity))
        return gx
    grad_targets = grad_input_lengths = grad_target_lengths = grad_alpha = None
    def grad_g(o, gg):
        raise RuntimeError("derivative for aten::_ctc_loss_backward is not implemented: PyTorch "
                           "has none either; call ctc_loss without create_graph=True")
    grad_x = grad_g


def launch(be: Any, name: str, dtype: Any, blocks: int, length: int, arrays: Any,
           *rest: Any) -> None:
    """Run a kernel of a block for each sequence or row of ``length``; ints become long long."""
    threads = 32
    while threads < 512 and threads < length:
        threads *= 2
    be.launch(FILE, name, (min(blocks, 1 << 16),), (threads,),
              (*arrays, *[np.int64(v) if isinstance(v, int) else v for v in rest]), dtype)


def states(be: Any, shape: Any, targets: Any, input_lengths: Any, target_lengths: Any,
           blank: int) -> tuple[Any, Any, Any]:
    """(the class of each state, blank for those a sequence hasn't, (n, 2 * s + 1); which can be
    come to by skipping one; which sequences are right, (n,))."""
    xp, (t, n, c) = be.xp, shape
    s = targets.shape[1]
    used = xp.arange(s) < target_lengths.reshape(n, 1)
    inside = (targets >= 0) & (targets < c)
    right = (inside | ~used).all(1) & (input_lengths >= 0) & (input_lengths <= t) & \
        (target_lengths >= 0) & (target_lengths <= s)
    labels = xp.full((n, 2 * s + 1), blank, np.int64)
    labels[:, 1::2] = xp.where(used & inside, targets, blank)
    skips = xp.zeros(labels.shape, bool)
    skips[:, 3::2] = labels[:, 3::2] != labels[:, 1:-2:2]
    return labels, skips, right


def emissions(be: Any, x: Any, labels: Any, input_lengths: Any, target_lengths: Any) -> Any:
    """x of every state's class, (n, t, states), in float32 for 16 bits; -inf outside a sequence."""
    xp, (t, n, _) = be.xp, x.shape
    heard = x[xp.arange(t)[:, None], xp.arange(n)[:, None, None], labels[:, None, :]]
    heard = heard.astype(dtypes.wide(x.dtype), copy=False)
    inside = (xp.arange(t)[:, None] < input_lengths.reshape(n, 1, 1)) & \
        (xp.arange(labels.shape[1]) <= 2 * target_lengths.reshape(n, 1, 1))
    return xp.where(inside, heard, be.number[-math.inf, heard.dtype])


def log_of_sum(be: Any, *logs: Any) -> Any:
    """log(sum(exp(...))) of arrays, -inf where all of them are."""
    xp = be.xp
    most = logs[0]
    for a in logs[1:]:
        most = xp.maximum(most, a)
    shift = xp.where(most == -math.inf, be.number[0, most.dtype], most)
    total = xp.exp(logs[0] - shift)
    for a in logs[1:]:
        total = total + xp.exp(a - shift)
    with np.errstate(divide="ignore"):
        return xp.log(total) + shift


def totals(be: Any, alpha: Any, input_lengths: Any, target_lengths: Any, right: Any) -> Any:
    """The log-probability of each sequence, (n,); NaN for wrong ones."""
    xp, (n, t, count) = be.xp, alpha.shape
    zero, lowest = be.number[0, alpha.dtype], be.number[-math.inf, alpha.dtype]
    last = xp.clip(input_lengths - 1, 0, t - 1)
    end = xp.clip(2 * target_lengths, 0, count - 1)
    each = xp.arange(n)
    blank = alpha[each, last, end]
    label = xp.where(end > 0, alpha[each, last, xp.maximum(end - 1, 0)], lowest)
    total = xp.where(input_lengths == 0, xp.where(end == 0, zero, lowest),
                     log_of_sum(be, blank, label))
    return xp.where(right, total, be.number[math.nan, alpha.dtype])


def take_shares(be: Any, out: Any, labels: Any, share: Any, blank: int) -> None:
    """Take from out (n, t, c) what the states of each class have.

    A label that occurs several times gets its sum in all these places, by a product with the matrix
    of which places are alike, and is written several times: always the same number.
    """
    xp, (n, t, _) = be.xp, out.shape
    out[:, :, blank] -= xp.add.reduce(share[:, :, ::2], 2)
    own = labels[:, 1::2]
    if not own.shape[1]:
        return
    each, times = xp.arange(n)[:, None, None], xp.arange(t)[:, None]
    alike = own[:, :, None] == own[:, None, :]
    sums = be.matmul(xp.ascontiguousarray(share[:, :, 1::2]), alike.astype(share.dtype))
    first = xp.argmax(alike.astype(np.int8), 1)
    at = each, times, own[:, None, :]
    out[at] = out[at] - sums[each, times, first[:, None, :]]
