"""The records of losses of pairs, margins, alignments and linear cross entropy. See op_db.py."""
from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from op_db import Array, Case, Draw, case, record, sigmoid
from op_db_loss import entropy, entropy_slope, sums
from op_db_network import reduced
from op_db_pointwise import UNDEFINED

# Pairs -------------------------------------------------------------------------------------------

SHAPES = ((3, 4), (), (0, 3))
REDUCED = [(s, r) for s in SHAPES for r in ("none", "mean", "sum") if r != "mean" or 0 not in s]


def pairs(first: str = "real", second: str = "real", **kw: Any) -> Callable[[Draw], list[Case]]:
    return lambda d: [case(getattr(d, first)(*s), getattr(d, second)(*s), reduction=r, **kw)
                      for s, r in REDUCED]


def slopes(first: str = "real", second: str = "real", **kw: Any) -> Callable[[Draw], list[Case]]:
    return lambda d: [case(d.real(*g), getattr(d, first)(*s), getattr(d, second)(*s), **kw)
                      for s in SHAPES for g in {s, ()}]


def probability(d: Draw, *shape: int) -> Array:
    return np.array(d.rng.uniform(0.1, 0.9, shape))


def bent(x: Array, y: Array, bound: float) -> Array:
    d = np.abs(x - y)
    return np.where(d < bound, d * d / 2, bound * (d - bound / 2))


record("huber_loss", lambda x, y, reduction, delta: reduced(bent(x, y, delta), reduction),
       lambda d: pairs(delta=0.8)(d) + pairs(delta=2.0)(d)[:3])
record("huber_loss_backward", lambda g, x, y, delta: g * np.clip(x - y, -delta, delta),
       slopes(delta=0.8))
record("smooth_l1_loss", lambda x, y, reduction, beta: reduced(bent(x, y, beta) / beta, reduction),
       pairs(beta=0.7))
record("smooth_l1_loss_backward", lambda g, x, y, beta: g * np.clip(x - y, -beta, beta) / beta,
       slopes(beta=0.7))
record("within", lambda x, y, bound: (np.abs(x - y) < bound).astype(float),
       lambda d: [case(d.real(*s), d.real(*s), bound=0.9) for s in SHAPES])
record("soft_margin_loss", lambda x, y, reduction: reduced(np.log1p(np.exp(-x * y)), reduction),
       pairs())
record("soft_margin_loss_backward", lambda g, x, y: -g * y * sigmoid(-x * y), slopes())


def cross_entropy(x: Array, t: Array, weight: Any = None, *, reduction: str) -> Array:
    losses = -(t * np.log(x) + (1 - t) * np.log(1 - x))
    return reduced(losses if weight is None else losses * weight, reduction)


def logits(x: Array, t: Array, weight: Any = None, pos_weight: Any = None, *,
           reduction: str) -> Array:
    factor = 1 if pos_weight is None else pos_weight
    losses = -(factor * t * np.log(sigmoid(x)) + (1 - t) * np.log(sigmoid(-x)))
    return reduced(losses if weight is None else losses * weight, reduction)


record("binary_cross_entropy", cross_entropy, lambda d: [
    case(probability(d, *s), probability(d, *s), weight, reduction=r)
    for s, r in REDUCED
    for weight in (None, d.positive(*s[1:]))])
record("binary_cross_entropy_backward", lambda g, x, t: g * (x - t) / (x * (1 - x)), lambda d: [
    case(d.real(*g), probability(d, *s), probability(d, *s)) for s in SHAPES for g in {s, ()}])
record("binary_cross_entropy_with_logits", logits, lambda d: [
    case(d.real(*s), probability(d, *s), weight, pos, reduction=r)
    for s, r in REDUCED
    for weight, pos in ((None, None), (d.positive(*s[1:]), d.positive(*s)))])
record("binary_cross_entropy_with_logits_backward",
       lambda g, x, t, pos=None: g * (sigmoid(x) * (1 - t) - (1 if pos is None else pos) * t
                                      * sigmoid(-x)),
       lambda d: [case(d.real(*g), d.real(*s), probability(d, *s), pos)
                  for s in SHAPES for g in {s, ()} for pos in (None, d.positive(*s[1:]))])

# Margins -----------------------------------------------------------------------------------------

MARGINS = ({"p": 1, "margin": 1.0}, {"p": 2, "margin": 0.4})


def multi_margin_rows(x: Array, target: Array, weight: Any, p: int, margin: float) -> Array:
    out = np.zeros(len(x))
    for i, (row, t) in enumerate(zip(x, target)):
        for k, v in enumerate(row):
            if k != t:
                out[i] += max(0.0, margin - row[t] + v) ** p / len(row)
        out[i] *= 1 if weight is None else weight[t]
    return out


def multi_margin(x: Array, target: Array, weight: Any = None, *, reduction: str, p: int,
                 margin: float) -> Array:
    return reduced(multi_margin_rows(x, target, weight, p, margin), reduction)


def multi_margin_slope(g: Array, x: Array, target: Array, weight: Any = None, *, p: int,
                       margin: float) -> Array:
    out = np.zeros_like(x)
    g = np.broadcast_to(g, len(x))
    for i, (row, t) in enumerate(zip(x, target)):
        for k, v in enumerate(row):
            over = margin - row[t] + v
            if k != t and over > 0:
                slope = g[i] * p * over ** (p - 1) / len(row)
                slope *= 1 if weight is None else weight[t]
                out[i, k] += slope
                out[i, t] -= slope
    return out


record("multi_margin_loss", multi_margin, lambda d: [
    case(d.real(n, 4), d.index(4, n), weight, reduction=r, **kw)
    for n, r in ((5, "none"), (5, "mean"), (5, "sum"), (0, "none"), (0, "sum"))
    for weight in (None, d.positive(4)) for kw in MARGINS], smooth=False)
record("multi_margin_loss_backward", multi_margin_slope, lambda d: [
    case(d.real(*g), d.real(5, 4), d.index(4, 5), weight, **kw)
    for g in ((5,), ()) for weight in (None, d.positive(4)) for kw in MARGINS], smooth=False)

LABELS = np.array([[0, 3, -1, 2], [2, -1, -1, 1], [-1, 0, 0, 0], [1, 1, 3, -1], [3, 0, 2, 1]])


def of_row(labels: Array) -> list[int]:
    return list(itertools.takewhile(lambda t: t != -1, labels.tolist()))


def multilabel(x: Array, target: Array, *, reduction: str) -> tuple[Array, Array]:
    losses, is_target = np.zeros(len(x)), np.zeros_like(x)
    for i, (row, labels) in enumerate(zip(x, target)):
        right = of_row(labels)
        is_target[i, right] = 1
        for t in right:
            losses[i] += sum([max(0.0, 1 - row[t] + v) for k, v in enumerate(row)
                              if k not in right]) / len(row)
    return reduced(losses, reduction), is_target


def multilabel_slope(g: Array, x: Array, target: Array) -> Array:
    out, g = np.zeros_like(x), np.broadcast_to(g, len(x))
    for i, (row, labels) in enumerate(zip(x, target)):
        right = of_row(labels)
        for t in right:
            for k, v in enumerate(row):
                if k not in right and 1 - row[t] + v > 0:
                    out[i, k] += g[i] / len(row)
                    out[i, t] -= g[i] / len(row)
    return out


record("multilabel_margin_loss", multilabel, lambda d: [
    case(d.real(n, 4), LABELS[:n], reduction=r)
    for n, r in ((5, "none"), (5, "mean"), (5, "sum"), (0, "none"))], smooth=False)
record("multilabel_margin_loss_backward", multilabel_slope, lambda d: [
    case(d.real(*g), d.real(5, 4), LABELS) for g in ((5,), ())], smooth=False)

# Alignments --------------------------------------------------------------------------------------


def ctc_paths(x: Array, labels: list[int], blank: int) -> dict[tuple[int, ...], float]:
    """The probability of each path of classes (t,) that says the labels: by trying all."""
    out = {}
    for path in itertools.product(range(x.shape[1]), repeat=len(x)):
        said = [c for c, _ in itertools.groupby(path)]
        if [c for c in said if c != blank] == labels:
            out[path] = math.exp(sum([x[i, c] for i, c in enumerate(path)]))
    return out


def ctc_alpha(x: Array, labels: list[int], blank: int, states: int) -> Array:
    """By its definition: a path that has said so many states of the labels with blanks between."""
    alpha = np.full((len(x), states), -math.inf)
    own = [blank] + [c for label in labels for c in (label, blank)]
    for j, c in enumerate(own[:2]):
        alpha[0, j] = x[0, c]
    for i in range(1, len(x)):
        for j, c in enumerate(own):
            ways = [alpha[i - 1, j]] + [alpha[i - 1, j - 1]] * (j > 0)
            if j > 1 and c not in (blank, own[j - 2]):
                ways.append(alpha[i - 1, j - 2])
            alpha[i, j] = np.logaddexp.reduce(ways) + x[i, c]
    return alpha


def ctc(x: Array, targets: Array, inputs: Array, lengths: Array, *, blank: int,
        zero_infinity: bool) -> tuple[Array, Array]:
    t, n, _ = x.shape
    states = 2 * targets.shape[1] + 1
    losses, alpha = np.zeros(n), np.full((n, t, states), -math.inf)
    for k in range(n):
        labels = targets[k, :lengths[k]].tolist()
        total = sum(ctc_paths(x[:inputs[k], k], labels, blank).values())
        losses[k] = -math.log(total) if total else math.inf
        if inputs[k]:
            alpha[k, :inputs[k]] = ctc_alpha(x[:inputs[k], k], labels, blank, states)
    return losses, alpha


def ctc_slope(g: Array, x: Array, targets: Array, inputs: Array, lengths: Array, alpha: Array, *,
              blank: int, zero_infinity: bool) -> Array:
    out = np.zeros_like(x)
    for k in range(x.shape[1]):
        own = x[:inputs[k], k]
        paths = ctc_paths(own, targets[k, :lengths[k]].tolist(), blank)
        part, total = np.zeros_like(own), sum(paths.values())
        for path, p in paths.items():
            part[np.arange(len(path)), list(path)] += p / total
        lost = 0.0 if zero_infinity else math.nan
        out[:inputs[k], k] = g[k] * (np.exp(own) - part) if paths else lost
    return out


def ctc_samples(d: Draw) -> list[tuple[Array, ...]]:
    def made(t: int, c: int, targets: list[list[int]], inputs: list[int],
             lengths: list[int]) -> tuple[Array, ...]:
        x = d.real(t, len(targets), c)
        x -= np.log(np.exp(x).sum(2, keepdims=True))
        return x, np.array(targets, int).reshape(len(targets), -1), np.array(inputs), \
            np.array(lengths)

    return [made(4, 3, [[1, 1], [2, 1], [1, 2], [2, 0]], [4, 3, 4, 2], [2, 2, 1, 1]),
            made(5, 3, [[1, 2, 1], [2, 2, 1]], [5, 5], [3, 2]),
            made(3, 2, [[1]], [3], [0]), made(2, 2, [[]], [2], [0]),
            made(2, 3, [[1, 2], [1, 1]], [0, 2], [0, 2])]


BLANKS = ((0, False), (0, True))
record("ctc_loss", ctc, lambda d: [
    case(*s, blank=blank, zero_infinity=zero) for s in ctc_samples(d)[:4]
    for blank, zero in BLANKS], smooth=False, tolerance=2e-2)


def ctc_slope_samples(d: Draw) -> list[Case]:
    cases = []
    for s in ctc_samples(d):
        alpha = ctc(*s, blank=0, zero_infinity=False)[1]
        cases.append(case(d.real(s[0].shape[1]), *s, alpha, blank=0, zero_infinity=True))
    return cases


record("ctc_loss_backward", ctc_slope, ctc_slope_samples, smooth=False, tolerance=2e-2)

# Cross entropy of a linear layer -----------------------------------------------------------------


def linear(x: Array, w: Array, target: Array, bias: Any = None, weight: Any = None, *,
           reduction: str, ignore_index: int, chunk: int, summing: Any) -> tuple[Array, Array]:
    out = entropy(x @ w.T + (0 if bias is None else bias), target, weight, reduction=reduction,
                  ignore_index=ignore_index, label_smoothing=0.0)
    return out[0], out[2]


def linear_slope(g: Array, x: Array, w: Array, target: Array, bias: Any, weight: Any, total: Array,
                 *, reduction: str, ignore_index: int, chunk: int, summing: Any,
                 needs: Any) -> tuple[Array, ...]:
    scores = x @ w.T + (0 if bias is None else bias)
    log_sum, shift = sums(scores)
    slope = entropy_slope(g, scores, target, weight, log_sum, total, shift, reduction=reduction,
                          ignore_index=ignore_index, label_smoothing=0.0)
    return slope @ w, slope.T @ x, np.zeros(0) if bias is None else slope.sum(0)


HOW = {"chunk": 2, "summing": np.dtype("f8"), "ignore_index": 1}
record("linear_cross_entropy", linear, lambda d: [
    case(d.real(5, 3), d.real(4, 3), np.array([0, 3, 1, 2, 2]), bias, weight, reduction=r, **HOW)
    for r in ("none", "mean", "sum")
    for bias, weight in ((None, None), (d.real(4), d.positive(4)))], smooth=False)
record("linear_cross_entropy_backward", linear_slope, lambda d: [
    case(d.real(*(5,) * (r == "none")), d.real(5, 3), d.real(4, 3), np.array([0, 3, 1, 2, 2]), bias,
         weight, np.array(3.5), reduction=r, needs=(True,) * 3, **HOW)
    for r in ("none", "mean") for bias, weight in ((None, None), (d.real(4), d.positive(4)))],
    smooth=False)

# The backward ops of these have no derivative, in PyTorch neither.
UNDEFINED |= {"multi_margin_loss_backward", "multilabel_margin_loss_backward", "ctc_loss_backward",
              "linear_cross_entropy_backward"}
# Its gradient is the one for what log_softmax was taken of.
OF_LOG_SOFTMAX = {"ctc_loss"}
