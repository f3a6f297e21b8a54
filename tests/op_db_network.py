"""The records of the network ops: softmax, losses, norms, convolution, pooling. See op_db.py."""
from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from op_db import Array, B, Case, Draw, adjoint, bad, case, record

# Softmax and losses ------------------------------------------------------------------------------


def softmax(x: Array, dim: int) -> Array:
    e = np.exp(x - np.max(x, axis=dim, keepdims=True))
    return e / e.sum(axis=dim, keepdims=True)


def along(*kinds: str) -> Callable[[Draw], list[Case]]:
    return lambda d: [case(*[getattr(d, k)(*shape) for k in kinds], dim=dim)
                      for shape, dim in (((3, 4), 1), ((3, 4), 0), ((2, 3, 2), 1), ((0, 3), 1),
                                 ((3, 1), 0))]


record("softmax", softmax, along("real"))
record("log_softmax", lambda x, dim: np.log(softmax(x, dim)), along("real"))
record("softmax_backward", lambda g, y, dim: y * (g - (g * y).sum(axis=dim, keepdims=True)),
       along("real", "small"))
record("log_softmax_backward", lambda g, y, dim: g - np.exp(y) * g.sum(axis=dim, keepdims=True),
       along("real", "small"), tolerance=1e-2)


def nll(x: Array, target: Array, weight: Any = None, *, reduction: str, ignore_index: int) -> Any:
    loss, total = np.zeros(target.shape), 0.0
    for at in np.ndindex(*target.shape):
        c = target[at]
        if c != ignore_index:
            w = 1.0 if weight is None else weight[c]
            loss[at] = -w * x[(at[0], c, *at[1:])]
            total += w
    out = {"none": loss, "sum": loss.sum(), "mean": loss.sum() / total}[reduction]
    return out, np.array(0.0 if reduction == "none" else total)


def nll_samples(*inner: int) -> Callable[[Draw], list[Case]]:
    return lambda d: [
        case(d.real(3, 4, *inner), d.index(4, 3, *inner), weight, reduction=r, ignore_index=ignore)
        for r in ("none", "mean", "sum") for weight, ignore in ((None, -100), (d.positive(4), 1))]


record("nll_loss_rows", nll, nll_samples(),
       bad(IndexError, "Target 4 is out of bounds", B, np.array([0, 4, 1]), None,
           reduction="mean", ignore_index=-100))
record("nll_loss_images", nll, nll_samples(2, 2))
record("nll_loss_backward", lambda g, target, weight, total, shape, reduction,
       ignore_index: adjoint(
    lambda x: nll(x, target, weight, reduction=reduction, ignore_index=ignore_index)[0], shape, g),
    lambda d: [case(d.real(*((3,) if r == "none" else ())), d.index(4, 3), None, np.array(3.0),
                    shape=(3, 4), reduction=r, ignore_index=-100) for r in ("none", "mean", "sum")])


def reduced(loss: Array, reduction: str) -> Any:
    return {"none": loss, "sum": loss.sum(), "mean": loss.mean()}[reduction]


record("mse_loss", lambda x, y, reduction="mean": reduced((x - y) ** 2, reduction), lambda d: [
    case(d.real(3, 4), d.real(3, 4), reduction=r) for r in ("none", "mean", "sum")])
record("mse_loss_backward", lambda g, x, y, reduction:
       2 * g * (x - y) / (x.size if reduction == "mean" else 1), lambda d: [
           case(d.real(3, 4), d.real(3, 4), d.real(3, 4), reduction="none"),
           case(d.real(), d.real(3, 4), d.real(3, 4), reduction="mean"),
           case(d.real(), d.real(3, 4), d.real(3, 4), reduction="sum")])
record("native_dropout", lambda x, mask, scale: x * mask * scale, lambda d: [
    case(d.real(3, 4), d.mask(3, 4), scale=2.0), case(d.real(0), d.mask(0), scale=2.0)])

# Normalisation -----------------------------------------------------------------------------------


def shaped(a: Any, like: Array) -> Any:
    return a if a is None else a.reshape((1, -1) + (1,) * (like.ndim - 2))


def standardised(x: Array, mean: Array, r: Array, weight: Any, bias: Any) -> Array:
    y = (x - mean) * r
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def batch_norm(x: Array, weight: Any = None, bias: Any = None, mean: Any = None, var: Any = None, *,
               training: bool = True, eps: float = 1e-5) -> Any:
    dims = (0, *range(2, x.ndim))
    if training:
        mean, var = x.mean(dims), x.var(dims)
    r = 1 / np.sqrt(var + eps)
    y = standardised(x, *(shaped(a, x) for a in (mean, r, weight, bias)))
    return y, mean, r


def layer_norm(x: Array, weight: Any = None, bias: Any = None, *, ndim: int,
               eps: float = 1e-5) -> Any:
    dims = tuple(range(x.ndim - ndim, x.ndim))
    mean = x.mean(dims, keepdims=True)
    r = 1 / np.sqrt(x.var(dims, keepdims=True) + eps)
    return standardised(x, mean, r, weight, bias), mean, r


def norm_backward(g: Array, x: Array, weight: Any, mean: Array, r: Array, dims: Any,
                  batch: bool) -> Any:
    """For x; and for weight and bias before they are summed. All operands broadcast with x."""
    n, h = (x - mean) * r, g if weight is None else g * weight
    if not batch:
        return r * h, g * n, g
    return r * (h - h.mean(dims, keepdims=True) - n * (h * n).mean(dims, keepdims=True)), g * n, g


def batch_norm_backward(g: Array, x: Array, weight: Any, mean: Array, invstd: Array,
                        training: bool) -> Any:
    dims = (0, *range(2, x.ndim))
    gx, gw, gb = norm_backward(g, x, shaped(weight, x), shaped(mean, x), shaped(invstd, x), dims,
                               training)
    return gx, gw.sum(dims), gb.sum(dims)


def layer_norm_backward(g: Array, x: Array, weight: Any, mean: Array, r: Array, ndim: int) -> Any:
    lead = tuple(range(x.ndim - ndim))
    gx, gw, gb = norm_backward(g, x, weight, mean, r, tuple(range(x.ndim - ndim, x.ndim)), True)
    return gx, gw.sum(lead), gb.sum(lead)


record("batch_norm", batch_norm, lambda d: [
    case(d.real(4, 2, 2), d.real(2), d.real(2)), case(d.real(5, 2)),
    case(d.real(3, 2), d.real(2), None, d.real(2), d.positive(2), training=False)], tolerance=2e-2)
record("batch_norm_backward", batch_norm_backward, lambda d: [
    case(d.real(4, 2), d.real(4, 2), d.real(2), d.real(2), d.positive(2), training=t)
    for t in (True, False)], tolerance=2e-2)
record("layer_norm", layer_norm, lambda d: [
    case(d.real(3, 4), d.real(4), d.real(4), ndim=1), case(d.real(2, 2, 3), ndim=2),
    case(d.real(0, 3), d.real(3), d.real(3), ndim=1)], tolerance=2e-2)
record("layer_norm_backward", layer_norm_backward, lambda d: [
    case(d.real(3, 4), d.real(3, 4), d.real(4), d.real(3, 1), d.positive(3, 1), ndim=1)],
       tolerance=2e-2)



def moved_statistics(running_mean: Array, running_var: Array, mean: Array, invstd: Array,
                     share: float, m: int, eps: float) -> Any:
    var = (invstd ** -2 - eps) * m / (m - 1)
    return running_mean + share * (mean - running_mean), running_var + share * (var - running_var)


record("moved_statistics", moved_statistics, lambda d: [
    case(d.real(3), d.positive(3), d.real(3), d.positive(3), share=0.1, m=5, eps=1e-5)],
       tolerance=2e-2)


def rms_norm(x: Array, weight: Any = None, *, ndim: int, eps: float) -> Any:
    r = 1 / np.sqrt((x * x).mean(tuple(range(x.ndim - ndim, x.ndim)), keepdims=True) + eps)
    return standardised(x, np.zeros(()), r, weight, None), r


def rms_norm_backward(g: Array, x: Array, weight: Any, r: Array, ndim: int) -> Any:
    dims, lead = tuple(range(x.ndim - ndim, x.ndim)), tuple(range(x.ndim - ndim))
    n, h = x * r, g if weight is None else g * weight
    return r * (h - n * (h * n).mean(dims, keepdims=True)), (g * n).sum(lead)


record("rms_norm", rms_norm, lambda d: [
    case(d.real(3, 4), d.real(4), ndim=1, eps=1e-3), case(d.real(2, 2, 3), ndim=2, eps=1e-5),
    case(d.real(0, 3), d.real(3), ndim=1, eps=1e-5)], tolerance=2e-2)
record("rms_norm_backward", rms_norm_backward, lambda d: [
    case(d.real(3, 4), d.real(3, 4), d.real(4), d.positive(3, 1), ndim=1),
    case(d.real(3, 4), d.real(3, 4), None, d.positive(3, 1), ndim=1)], tolerance=2e-2)


def in_groups(x: Array, groups: int) -> Array:
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, math.prod(x.shape[2:]))


def by_channel(weight: Any, groups: int) -> Any:
    return weight if weight is None else weight.reshape(1, groups, len(weight) // groups, 1)


def group_norm(x: Array, weight: Any = None, bias: Any = None, *, groups: int,
               eps: float = 1e-5) -> Any:
    rows = in_groups(x, groups)
    mean = rows.mean((2, 3), keepdims=True)
    r = 1 / np.sqrt(rows.var((2, 3), keepdims=True) + eps)
    y = standardised(rows, mean, r, by_channel(weight, groups), by_channel(bias, groups))
    return y.reshape(x.shape), mean[..., 0, 0], r[..., 0, 0]


def group_norm_backward(g: Array, x: Array, weight: Any, mean: Array, r: Array, groups: int) -> Any:
    gx, gw, gb = norm_backward(in_groups(g, groups), in_groups(x, groups),
                               by_channel(weight, groups), mean[..., None, None],
                               r[..., None, None], (2, 3), True)
    return gx.reshape(x.shape), gw.sum((0, 3)).reshape(-1), gb.sum((0, 3)).reshape(-1)


record("group_norm", group_norm, lambda d: [
    case(d.real(2, 4, 3), d.real(4), d.real(4), groups=2), case(d.real(3, 4), groups=1),
    case(d.real(2, 2, 2, 2), d.real(2), None, groups=2), case(d.real(0, 2, 3), groups=1)],
       tolerance=2e-2)
record("group_norm_backward", group_norm_backward, lambda d: [
    case(d.real(2, 4, 3), d.real(2, 4, 3), d.real(4), d.real(2, 2), d.positive(2, 2), groups=2),
    case(d.real(3, 2), d.real(3, 2), None, d.real(3, 1), d.positive(3, 1), groups=1)],
       tolerance=2e-2)

# Windows -----------------------------------------------------------------------------------------

CONV = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
STRIDED = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 1}


def taps(x: Array, kernel: Any, stride: Any, padding: Any, dilation: Any, fill: float = 0) -> Any:
    """For each kernel position (i, j) the elements of x that the windows have there."""
    (ph, pw), (sh, sw), (dh, dw), (kh, kw) = padding, stride, dilation, kernel
    wide = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)
    h, w = wide.shape[2:]
    oh, ow = (h - dh * (kh - 1) - 1) // sh + 1, (w - dw * (kw - 1) - 1) // sw + 1
    for i, j in itertools.product(range(kh), range(kw)):
        here = wide[:, :, i * dh:i * dh + oh * sh:sh, j * dw:j * dw + ow * sw:sw]
        yield i, j, here[:, :, :oh, :ow]


def convolution(x: Array, w: Array, bias: Any = None, *, stride: Any, padding: Any, dilation: Any,
                groups: int) -> Array:
    parts = []
    for xs, ws in zip(np.split(x, groups, 1), np.split(w, groups, 0)):
        parts.append(sum(np.einsum("nchw,oc->nohw", t, ws[:, :, i, j])
                         for i, j, t in taps(xs, w.shape[2:], stride, padding, dilation)))
    out = np.concatenate(parts, 1)
    return out if bias is None else out + bias.reshape(-1, 1, 1)


record("convolution", convolution, lambda d: [
    case(d.real(2, 2, 4, 3), d.real(3, 2, 2, 2), d.real(3), **CONV),
    case(d.real(1, 2, 4, 3), d.real(2, 2, 2, 2), **STRIDED),
    case(d.real(1, 4, 3, 3), d.real(2, 2, 2, 2), d.real(2), **{**CONV, "groups": 2}),
    case(d.real(2, 3, 4, 3), d.real(6, 1, 2, 2), d.real(6), **{**STRIDED, "groups": 3}),
    case(d.real(0, 2, 3, 3), d.real(1, 2, 2, 2), **CONV)], tolerance=2e-2)
record("conv_grad_input", lambda g, w, x_shape,
       **kw: adjoint(lambda x: convolution(x, w, **kw), x_shape, g),
       lambda d: [case(d.real(1, 3, 3, 2), d.real(3, 2, 2, 2), x_shape=(1, 2, 4, 3), **CONV),
                  case(d.real(1, 2, 3, 5), d.real(2, 2, 2, 2), x_shape=(1, 2, 4, 3), **STRIDED),
                  case(d.real(1, 4, 3, 5), d.real(4, 1, 2, 2), x_shape=(1, 2, 4, 3),
                       **{**STRIDED, "groups": 2})],
       tolerance=2e-2)
record("conv_grad_weight", lambda g, x, w_shape,
       **kw: adjoint(lambda w: convolution(x, w, **kw), w_shape, g),
       lambda d: [case(d.real(2, 3, 3, 2), d.real(2, 2, 4, 3), w_shape=(3, 2, 2, 2), **CONV),
                  case(d.real(1, 2, 3, 5), d.real(1, 2, 4, 3), w_shape=(2, 2, 2, 2), **STRIDED),
                  case(d.real(2, 4, 3, 5), d.real(2, 2, 4, 3), w_shape=(4, 1, 2, 2),
                       **{**STRIDED, "groups": 2})],
       tolerance=2e-2)
record("channel_sum", lambda g: g.sum((0, 2, 3)), lambda d: [case(d.real(2, 3, 2, 2))])

POOL = {"kernel": (2, 2), "stride": (2, 1), "padding": (1, 0)}
MAX_POOL = {**POOL, "dilation": (1, 1), "ceil_mode": False}


def first_maxima(x: Array, kernel: Any, stride: Any, padding: Any, dilation: Any,
                 ceil_mode: bool) -> Any:
    h, w = x.shape[2:]
    planes = np.broadcast_to(np.arange(h * w, dtype=float).reshape(h, w), x.shape)
    values = np.stack([t for *_, t in taps(x, kernel, stride, padding, dilation, -np.inf)])
    places = np.stack([t for *_, t in taps(planes, kernel, stride, padding, dilation, -1)])
    best = values.argmax(0)[None]
    at = np.take_along_axis(places, best, 0)[0].astype(np.int64)
    return np.take_along_axis(values, best, 0)[0], at


def first_maxima_anywhere(x: Array, **kw: Any) -> Any:
    values, at = first_maxima(x, **kw)
    n, c, h, w = x.shape
    return values, at + (np.arange(n * c) * h * w).reshape(n, c, 1, 1)


def add_at(g: Array, at: Array, x_shape: Any, **_: Any) -> Array:
    out = np.zeros(math.prod(x_shape))
    np.add.at(out, at.reshape(-1), g.reshape(-1))
    return out.reshape(x_shape)


def in_planes(at: Array, shape: Any) -> Array:
    n, c, h, w = shape
    return at + (np.arange(n * c) * h * w).reshape(n, c, 1, 1)


def pooled(d: Draw) -> list[Case]:
    return [case(d.real(2, 2, 4, 3), **MAX_POOL),
            case(d.real(1, 1, 5, 5), **{**MAX_POOL, "dilation": (2, 1)}),
            case(d.real(0, 2, 4, 4), **MAX_POOL)]


record("max_pool2d", first_maxima_anywhere, pooled)
record("max_pool2d_with_indices", first_maxima, pooled)
record("max_pool2d_backward", add_at, lambda d: [
    case(d.real(1, 2, 3, 2), d.index(24, 1, 2, 3, 2), x_shape=(1, 2, 4, 3), kernel=(3, 2),
         stride=(1, 1),
         padding=(1, 0), dilation=(1, 1))])
record("max_pool2d_gather", lambda x, at, **_: x.reshape(-1)[at], lambda d: [
    case(d.real(1, 2, 4, 3), d.index(24, 1, 2, 3, 2), kernel=(3, 2), stride=(1, 1), padding=(1, 0),
         dilation=(1, 1))])
record("plane_scatter", lambda g, at, x_shape, lie=None: add_at(g, in_planes(at, x_shape), x_shape),
       lambda d: [case(d.real(1, 2, 3, 2), d.index(12, 1, 2, 3, 2), x_shape=(1, 2, 4, 3)),
                  case(d.real(1, 1, 3, 2), np.array([[[[1, 2], [7, 4], [10, 11]]]]),
                       x_shape=(1, 1, 4, 3), lie=((3, 2), (1, 1), (1, 0), (1, 1)))])
record("plane_gather", lambda x, at: x.reshape(-1)[in_planes(at, x.shape)],
       lambda d: [case(d.real(1, 2, 4, 3), d.index(12, 1, 2, 3, 2))])


def adaptive_maxima(x: Array, output_size: Any) -> Any:
    (h, w), (oh, ow) = x.shape[2:], output_size
    values = np.zeros((*x.shape[:2], oh, ow))
    at = np.zeros(values.shape, np.int64)
    for place in np.ndindex(*values.shape):
        rows, columns = (range(k * size // n, -(-(k + 1) * size // n))
                         for k, size, n in zip(place[2:], (h, w), (oh, ow)))
        found = max(itertools.product(rows, columns), key=lambda rc: x[(*place[:2], *rc)])
        values[place], at[place] = x[(*place[:2], *found)], found[0] * w + found[1]
    return values, at


record("adaptive_max_pool2d", adaptive_maxima, lambda d: [
    case(d.real(1, 2, 5, 3), output_size=(3, 2)), case(d.real(2, 1, 4, 2), output_size=(2, 1)),
    case(d.real(1, 1, 2, 3), output_size=(3, 5)), case(d.real(0, 2, 3, 3), output_size=(2, 2))])
record("adaptive_max_pool2d_backward",
       lambda g, at, x_shape: add_at(g, in_planes(at, x_shape), x_shape), lambda d: [
           case(d.real(1, 1, 3, 2), np.array([[[[0, 2], [3, 4], [9, 13]]]]), x_shape=(1, 1, 5, 3)),
           case(d.real(1, 1, 2, 1), np.array([[[[3], [4]]]]), x_shape=(1, 1, 4, 2))])


def avg_pool2d(x: Array, kernel: Any, stride: Any, padding: Any, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: Any = None) -> Array:
    total = sum(t for *_, t in taps(x, kernel, stride, padding, (1, 1)))
    if divisor_override is not None:
        return total / divisor_override
    if count_include_pad:
        return total / math.prod(kernel)
    return total / sum(t for *_, t in taps(np.ones(x.shape), kernel, stride, padding, (1, 1)))


AVERAGES = ({}, {"count_include_pad": False}, {"divisor_override": 3})
FULL = {"ceil_mode": False, "count_include_pad": True, "divisor_override": None}
record("avg_pool2d", avg_pool2d, lambda d: [
    *[case(d.real(1, 2, 4, 3), **POOL, **kw) for kw in AVERAGES], case(d.real(0, 1, 3, 3), **POOL)])
record("avg_pool2d_backward", lambda g, x_shape,
       **kw: adjoint(lambda x: avg_pool2d(x, **kw), x_shape, g),
       lambda d: [case(d.real(1, 1, 3, 2), x_shape=(1, 1, 4, 3), **POOL,
                       **{**FULL, **kw}) for kw in AVERAGES])


def adaptive_avg_pool2d(x: Array, output_size: Any) -> Array:
    (h, w), (oh, ow) = x.shape[2:], output_size
    out = np.zeros((*x.shape[:2], oh, ow))
    for i, j in np.ndindex(oh, ow):
        rows, columns = (slice(k * size // n, -(-(k + 1) * size // n)) for k, size,
                         n in ((i, h, oh), (j, w, ow)))
        out[:, :, i, j] = x[:, :, rows, columns].mean((2, 3))
    return out


record("adaptive_avg_pool2d", adaptive_avg_pool2d, lambda d: [
    case(d.real(1, 2, 5, 3), output_size=(3, 2)), case(d.real(1, 1, 4, 2), output_size=(2, 1))])
record("adaptive_avg_pool2d_backward", lambda g, x_shape:
       adjoint(lambda x: adaptive_avg_pool2d(x, g.shape[2:]), x_shape, g), lambda d: [
           case(d.real(1, 1, 3, 2), x_shape=(1, 1, 5, 3)),
           case(d.real(1, 1, 2, 1), x_shape=(1, 1, 4, 2))])
