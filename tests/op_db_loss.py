"""The records of cross entropy's ops. See op_db.py."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from op_db import Array, B, Case, Draw, bad, case, record
from op_db_network import nll, softmax


def sums(x: Array) -> tuple[Array, Array]:
    """(the logarithms of the sums of exp(x - shift), the shifts)."""
    shift = np.rint(x.max(1))
    return np.log(np.exp(x - shift[:, None]).sum(1)), shift


def entropy(x: Array, target: Array, weight: Any = None, *, reduction: str, ignore_index: int,
            label_smoothing: float) -> Any:
    log_p = np.log(softmax(x, 1))
    kw = {"reduction": reduction, "ignore_index": ignore_index}
    loss, total = nll(log_p, target, weight, **kw)
    weights = np.ones(x.shape[1]) if weight is None else weight
    even = -(log_p * weights.reshape(1, -1, *[1] * (x.ndim - 2))).sum(1) / x.shape[1]
    even[target == ignore_index] = 0
    if reduction != "none":
        even = even.sum() / (total if reduction == "mean" else 1)
    log_sum, shift = sums(x)
    return (1 - label_smoothing) * loss + label_smoothing * even, log_sum, total, shift


def samples(*inner: int, smoothing: float = 0.0) -> Callable[[Draw], list[Case]]:
    return lambda d: [
        case(d.real(3, 4, *inner), d.index(4, 3, *inner), weight, reduction=r, ignore_index=ignore,
             label_smoothing=smoothing)
        for r in ("none", "mean", "sum") for weight, ignore in ((None, -100), (d.positive(4), 1))]


record("scores", np.copy, lambda d: [case(d.real(3, 4)), case(d.real(0, 3))])
record("cross_entropy_rows", entropy, samples(),
       bad(IndexError, "Target 4 is out of bounds", B, np.array([0, 4, 1]), None,
           reduction="mean", ignore_index=-100, label_smoothing=0.0))
record("cross_entropy_images", entropy, samples(2, 2))
record("smoothed_cross_entropy", entropy,
       lambda d: samples(smoothing=0.2)(d) + samples(5, smoothing=0.3)(d))


def entropy_slope(g: Array, x: Array, target: Array, weight: Any, log_sum: Array,
                  total: Array, shift: Array, *, reduction: str, ignore_index: int,
                  label_smoothing: float) -> Array:
    """g times the derivative of the loss, from the derivatives of log(softmax)."""
    p = np.exp(x - np.expand_dims(shift, 1) - np.expand_dims(log_sum, 1))
    labels = np.zeros_like(x)
    weights = np.ones(x.shape[1]) if weight is None else weight
    for at in np.ndindex(*target.shape):
        c = target[at]
        if c != ignore_index:
            line = (at[0], slice(None), *at[1:])
            labels[line] = label_smoothing / x.shape[1] * weights
            labels[(at[0], c, *at[1:])] += (1 - label_smoothing) * weights[c]
    labels *= np.expand_dims(g, 1) if reduction == "none" else \
        g / total if reduction == "mean" else g
    return p * labels.sum(1, keepdims=True) - labels


def slope_samples(d: Draw) -> list[Case]:
    cases = []
    for shape, smoothing in (((3, 4), 0.0), ((3, 4, 2), 0.2)):
        for r in ("none", "mean", "sum"):
            for weight, ignore in ((None, -100), (d.positive(4), 1)):
                x, target = d.real(*shape), d.index(4, shape[0], *shape[2:])
                g = d.real(*target.shape if r == "none" else ())
                log_sum, shift = sums(x)
                cases.append(case(g, x, target, weight, log_sum, np.array(2.5), shift, reduction=r,
                                  ignore_index=ignore, label_smoothing=smoothing))
    return cases


record("cross_entropy_backward", entropy_slope, slope_samples)


def shares(target: Array, weight: Any = None, *, classes: int, dtype: Any, ignore_index: int,
           label_smoothing: float) -> Array:
    weights = np.ones(classes) if weight is None else weight
    kept = target != ignore_index
    return np.where(kept, (1 - label_smoothing) * weights[np.where(kept, target, 0)]
                    + label_smoothing * weights.mean(), 0)


record("class_shares", shares, lambda d: [
    case(d.index(4, 3, 2), None, classes=4, dtype=np.dtype("f8"), ignore_index=1,
         label_smoothing=0.0),
    case(d.index(4, 5), d.positive(4), classes=4, dtype=np.dtype("f8"), ignore_index=-100,
         label_smoothing=0.3)])
