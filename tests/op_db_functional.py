"""The records of nn.functional's array side: windows in one and three dims, resizing, attention."""
from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from gpugrad.ops.resize import Line
from op_db import Array, adjoint, case, record

# Convolution -------------------------------------------------------------------------------------


def taps(x: Array, kernel: Any, stride: Any, padding: Any, dilation: Any, fill: float = 0) -> Any:
    """For each kernel position the elements of x (n, c, ...) that the windows have there."""
    wide = np.pad(x, ((0, 0), (0, 0), *[(p, p) for p in padding]), constant_values=fill)
    count = [(n - d * (k - 1) - 1) // s + 1
             for n, k, s, d in zip(wide.shape[2:], kernel, stride, dilation)]
    for position in itertools.product(*map(range, kernel)):
        where = [slice(i * d, i * d + (n - 1) * s + 1, s)
                 for i, d, n, s in zip(position, dilation, count, stride)]
        yield position, wide[(slice(None), slice(None), *where)]


def convolve(x: Array, w: Array, bias: Any = None, *, stride: Any, padding: Any, dilation: Any,
             groups: int) -> Array:
    parts = [sum(np.einsum("nc...,oc->no...", t, ws[(slice(None), slice(None), *at)])
                 for at, t in taps(xs, w.shape[2:], stride, padding, dilation))
             for xs, ws in zip(np.split(x, groups, 1), np.split(w, groups, 0))]
    out = np.concatenate(parts, 1)
    return out if bias is None else out + bias.reshape(-1, *[1] * (x.ndim - 2))


LINE = {"stride": (2,), "padding": (1,), "dilation": (1,), "groups": 2}
VOLUME = {"stride": (1, 2, 1), "padding": (1, 0, 1), "dilation": (1, 1, 2), "groups": 1}
PLAIN = {"stride": (1, 1, 1), "padding": (0, 0, 0), "dilation": (1, 1, 1), "groups": 2}

record("convolution_nd", convolve, lambda d: [
    case(d.real(2, 4, 5), d.real(2, 2, 3), d.real(2), **LINE),
    case(d.real(1, 2, 3, 4, 3), d.real(2, 2, 2, 2, 2), d.real(2), **VOLUME),
    case(d.real(2, 2, 2, 2, 3), d.real(2, 1, 2, 1, 2), **PLAIN),
    case(d.real(0, 2, 2, 2, 3), d.real(2, 1, 2, 1, 2), **PLAIN)], tolerance=2e-2)
record("conv_nd_grad_input", lambda g, w, x_shape,
       **kw: adjoint(lambda x: convolve(x, w, **kw), x_shape, g), lambda d: [
           case(d.real(1, 2, 3), d.real(2, 2, 3), x_shape=(1, 4, 5), **LINE),
           case(d.real(1, 2, 4, 2, 3), d.real(2, 1, 2, 2, 2), x_shape=(1, 1, 3, 4, 3), **VOLUME)],
       tolerance=2e-2)
record("conv_nd_grad_weight", lambda g, x, w_shape,
       **kw: adjoint(lambda w: convolve(x, w, **kw), w_shape, g), lambda d: [
           case(d.real(2, 2, 3), d.real(2, 4, 5), w_shape=(2, 2, 3), **LINE),
           case(d.real(1, 2, 4, 2, 3), d.real(1, 1, 3, 4, 3), w_shape=(2, 1, 2, 2, 2), **VOLUME)],
       tolerance=2e-2)


def transposed(x: Array, w: Array, bias: Any = None, *, size: Any, **kw: Any) -> Array:
    shape = (len(x), w.shape[1] * kw["groups"], *size)
    out = adjoint(lambda y: convolve(y, w, **kw), shape, x)
    return out if bias is None else out + bias.reshape(-1, *[1] * (x.ndim - 2))


record("conv_transpose", transposed, lambda d: [
    case(d.real(1, 4, 3), d.real(4, 1, 3), d.real(2), size=(6,), **LINE),
    case(d.real(1, 2, 2, 3), d.real(2, 2, 2, 2), d.real(2), size=(4, 3), stride=(2, 1),
         padding=(0, 1), dilation=(1, 2), groups=1),
    case(d.real(1, 2, 2, 1, 2), d.real(2, 1, 2, 2, 1), None, size=(3, 2, 2), **PLAIN),
    case(d.real(0, 2, 2, 3), d.real(2, 2, 2, 2), d.real(2), size=(3, 4), stride=(1, 1),
         padding=(0, 0), dilation=(1, 1), groups=1)], tolerance=2e-2)

# Pooling -----------------------------------------------------------------------------------------

POOL = {"kernel": (2, 2, 2), "stride": (1, 2, 1), "padding": (1, 0, 1)}
SIZES = {"ceil_mode": False, "count_include_pad": True, "divisor_override": None}


def maxima(x: Array, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Any:
    size = math.prod(x.shape[2:])
    volume = np.broadcast_to(np.arange(size, dtype=float).reshape(x.shape[2:]), x.shape)
    values = np.stack([t for _, t in taps(x, kernel, stride, padding, dilation, -np.inf)])
    places = np.stack([t for _, t in taps(volume, kernel, stride, padding, dilation, -1)])
    best = values.argmax(0)[None]
    at = np.take_along_axis(places, best, 0)[0].astype(np.int64)
    return np.take_along_axis(values, best, 0)[0], at


record("max_pool3d_with_indices", maxima, lambda d: [
    case(d.real(1, 2, 3, 4, 3), **POOL, dilation=(1, 1, 2), ceil_mode=False),
    case(d.real(0, 1, 2, 2, 2), **POOL, dilation=(1, 1, 1), ceil_mode=False)])


def cells(x: Array, output_size: Any) -> Any:
    """(the place, the slices of its cell) of each element of adaptive pooling's result."""
    for at in np.ndindex(*output_size):
        yield at, tuple([slice(i * n // m, -(-(i + 1) * n // m))
                         for i, n, m in zip(at, x.shape[2:], output_size)])


def adaptive_maxima(x: Array, output_size: Any) -> Any:
    values = np.zeros((*x.shape[:2], *output_size))
    at = np.zeros(values.shape, np.int64)
    volume = np.arange(math.prod(x.shape[2:])).reshape(x.shape[2:])
    for place, where in cells(x, output_size):
        part = x[(slice(None), slice(None), *where)].reshape(*x.shape[:2], -1)
        values[(..., *place)] = part.max(-1)
        at[(..., *place)] = volume[where].reshape(-1)[part.argmax(-1)]
    return values, at


record("adaptive_max_pool3d", adaptive_maxima, lambda d: [
    case(d.real(1, 2, 3, 4, 3), output_size=(2, 3, 2)),
    case(d.real(2, 1, 2, 2, 4), output_size=(1, 2, 2))])


def means(x: Array, kernel: Any, stride: Any, padding: Any, ceil_mode: bool = False,
          count_include_pad: bool = True, divisor_override: Any = None) -> Array:
    one = (1, 1, 1)
    total = sum(t for _, t in taps(x, kernel, stride, padding, one))
    if divisor_override is not None:
        return total / divisor_override
    if count_include_pad:
        return total / math.prod(kernel)
    return total / sum(t for _, t in taps(np.ones(x.shape), kernel, stride, padding, one))


record("avg_pool3d", means, lambda d: [case(d.real(1, 1, 2, 4, 3), **POOL, **kw) for kw in (
    {}, {"count_include_pad": False}, {"divisor_override": 3})])
record("avg_pool3d_backward", lambda g, x_shape,
       **kw: adjoint(lambda x: means(x, **kw), x_shape, g), lambda d: [
           case(d.real(1, 1, 3, 2, 4), x_shape=(1, 1, 2, 4, 3), **POOL, **{**SIZES, **kw})
           for kw in ({}, {"count_include_pad": False}, {"divisor_override": 3})])


def adaptive_means(x: Array, output_size: Any) -> Array:
    out = np.zeros((*x.shape[:2], *output_size))
    for place, where in cells(x, output_size):
        out[(..., *place)] = x[(slice(None), slice(None), *where)].mean((2, 3, 4))
    return out


record("adaptive_avg_pool3d", adaptive_means, lambda d: [
    case(d.real(1, 2, 3, 4, 3), output_size=(2, 3, 2))])
record("adaptive_avg_pool3d_backward", lambda g, x_shape:
       adjoint(lambda x: adaptive_means(x, g.shape[2:]), x_shape, g), lambda d: [
           case(d.real(1, 1, 2, 2, 2), x_shape=(1, 1, 3, 2, 4))])


def unpooled(x: Array, at: Array, size: int) -> Array:
    out = np.zeros((*x.shape[:2], size))
    np.put_along_axis(out, at, x, 2)
    return out


record("max_unpool", unpooled, lambda d: [
    case(d.real(2, 2, 3), np.argsort(d.real(2, 2, 7))[..., :3], size=7)])

# Rearranging -------------------------------------------------------------------------------------

FOLD = {"kernel": (2, 3), "stride": (2, 1), "padding": (1, 1), "dilation": (1, 2)}


def columns_of(x: Array, kernel: Any, **kw: Any) -> Array:
    n, c = x.shape[:2]
    parts = np.stack([t for _, t in taps(x, kernel, **kw)], 2)
    return parts.reshape(n, c * math.prod(kernel), math.prod(parts.shape[3:]))


record("im2col", columns_of, lambda d: [case(d.real(1, 2, 4, 5), **FOLD),
                                        case(d.real(0, 2, 4, 5), **FOLD)])
record("col2im", lambda x, shape, **kw: adjoint(lambda y: columns_of(y, **kw), shape, x),
       lambda d: [case(d.real(1, 6, 9), shape=(1, 1, 4, 5), **FOLD)])


def shuffled(x: Array, factor: int) -> Array:
    n, c, h, w = x.shape
    out = np.zeros((n, c // factor ** 2, h * factor, w * factor))
    for k, i, j in np.ndindex(out.shape[1], factor, factor):
        out[:, k, i::factor, j::factor] = x[:, k * factor ** 2 + i * factor + j]
    return out


record("pixel_shuffle", shuffled, lambda d: [case(d.real(1, 8, 2, 3), factor=2)])
record("pixel_unshuffle", lambda x, factor: adjoint(
    lambda y: shuffled(y, factor), (x.shape[0], x.shape[1] * 4, x.shape[2] // 2, x.shape[3] // 2),
    x), lambda d: [case(d.real(1, 2, 4, 6), factor=2)])


def padded(x: Array, sides: Any, value: float = 0) -> Array:
    wide = np.pad(x, [(max(0, b), max(0, a)) for b, a in sides], constant_values=value)
    return wide[tuple([slice(max(0, -b), n - max(0, -a)) for n, (b, a) in zip(wide.shape, sides)])]


record("constant_pad_nd", padded, lambda d: [
    case(d.real(2, 3), sides=((0, 0), (1, 2)), value=2.5),
    case(d.real(3, 4), sides=((-1, 1), (2, -1))), case(d.real(0, 2), sides=((1, 0), (0, 0))),
    case(d.real(2), sides=((0, 0),))])
record("rrelu_with_noise", lambda x, slope: x * slope, lambda d: [
    case(d.real(3, 4), d.positive(3, 4))])

# Resizing ----------------------------------------------------------------------------------------


def resized(x: Array, lines: Any) -> Array:
    """Along each dim by a matrix, made of what happens to one element that is 1."""
    first = x.ndim - len(lines)
    for dim, line in enumerate(lines, first):
        matrix = matrix_of(line._replace(transposed=False))
        matrix = matrix.T if line.transposed else matrix
        x = np.moveaxis(np.tensordot(matrix, x, (1, dim)), 0, dim)
    return x


def matrix_of(line: Line) -> Array:
    """(out, size), for the modes nearest and linear without align_corners."""
    out = np.zeros((line.out, line.size))
    scale = line.size / line.out
    for i in range(line.out):
        if line.mode == "nearest":
            out[i, int(i * scale)] = 1
        else:
            place = max(0, (i + 0.5) * scale - 0.5)
            low = min(int(place), line.size - 1)
            out[i, low] += 1 - (place - low)
            out[i, min(low + 1, line.size - 1)] += place - low
    return out


DOWN = Line(4, 2, "nearest"), Line(3, 5, "linear", real="float64")
record("resample", resized, lambda d: [
    case(d.real(1, 2, 4, 3), lines=DOWN), case(d.real(0, 1, 4, 3), lines=DOWN),
    case(d.real(2, 2, 5), lines=tuple([n._replace(transposed=True) for n in DOWN])),
    case(d.real(2, 3), lines=(Line(3, 3, "linear"),))])


def sampled(x: Array, at: Array, w: Array) -> Array:
    wide = np.concatenate([x, np.zeros((*x.shape[:2], 1))], 2)            # place -1
    return sum(np.stack([wide[i][:, at[i, k]] * w[i, k] for i in range(len(x))])
               for k in range(at.shape[1]))


PLACES = np.array([[[0, 4, 2, 2], [-1, 1, 0, 3]], [[3, 3, -1, 0], [1, -1, 4, 2]]])



def sampled_image(x: Array, at: Array, w: Array) -> Array:
    rows = sampled(x, *[a.reshape(*a.shape[:2], -1) for a in (at, w)])
    return rows.reshape(*x.shape[:2], *at.shape[2:])


record("sample", sampled_image, lambda d: [
    case(d.real(2, 3, 5), PLACES, d.real(2, 2, 4)),
    case(d.real(2, 3, 5), PLACES.reshape(2, 2, 2, 2), d.real(2, 2, 2, 2))], tolerance=1e-2)
record("sample_grad_input", lambda g, at, w, size: adjoint(
    lambda x: sampled(x, at, w), (*g.shape[:2], size), g), lambda d: [
        case(d.real(2, 3, 4), PLACES, d.real(2, 2, 4), size=5)], tolerance=1e-2)
record("sample_grad_weight", lambda g, x, at: adjoint(
    lambda w: sampled(x, at, w), at.shape, g), lambda d: [
        case(d.real(2, 3, 4), d.real(2, 3, 5), PLACES)], tolerance=1e-2)

# Attention ---------------------------------------------------------------------------------------


def scores_of(q: Array, k: Array, mask: Any, causal: bool, scale: float) -> Array:
    s = np.einsum("bhle,bhse->bhls", q, np.repeat(k, q.shape[1] // k.shape[1], 1)) * scale
    if causal:
        s = np.where(np.tril(np.ones(s.shape[2:], bool)), s, -np.inf)
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    return s


def attended(q: Array, k: Array, v: Array, mask: Any = None, *, causal: bool,
             scale: float) -> Any:
    s = scores_of(q, k, mask, causal, scale)
    top = s.max(-1, keepdims=True)
    e = np.exp(s - np.where(top == -np.inf, 0, top))
    total = e.sum(-1, keepdims=True)
    out = e / np.where(total == 0, 1, total) @ np.repeat(v, q.shape[1] // v.shape[1], 1)
    return out, np.where(total == 0, np.inf, top + np.log(np.where(total == 0, 1, total)))[..., 0]


def attention_gradients(g: Array, q: Array, k: Array, v: Array, out: Array, lse: Array,
                        mask: Any = None, *, causal: bool, scale: float) -> Any:
    (n, h), (_, shared, s, e) = q.shape[:2], k.shape
    p = np.exp(scores_of(q, k, mask, causal, scale) - lse[..., None])
    d = g @ np.repeat(v, h // shared, 1).swapaxes(2, 3)
    d = p * (d - (g * out).sum(-1, keepdims=True)) * scale
    return (d @ np.repeat(k, h // shared, 1),
            (d.swapaxes(2, 3) @ q).reshape(n, shared, -1, s, e).sum(2),
            (p.swapaxes(2, 3) @ g).reshape(n, shared, -1, s, v.shape[3]).sum(2))


SEEN = np.array([[True, False, True, True], [False] * 4, [False, True, False, True]])
SEEN_BY_SOME = np.array([[True, False, True, True], [False, False, False, True],
                         [False, True, False, True]])
record("attention", attended, lambda d: [
    case(d.real(1, 2, 3, 2), d.real(1, 2, 4, 2), d.real(1, 2, 4, 3), causal=False, scale=0.7),
    case(d.real(2, 2, 3, 2), d.real(2, 1, 4, 2), d.real(2, 1, 4, 1), causal=True, scale=0.5),
    case(d.real(1, 4, 2, 2), d.real(1, 2, 4, 2), d.real(1, 2, 4, 1), d.real(1, 1, 2, 4),
         causal=False, scale=0.5),
    case(d.real(1, 2, 3, 2), d.real(1, 2, 4, 2), d.real(1, 2, 4, 2), SEEN_BY_SOME[None, None],
         causal=False, scale=0.5)], tolerance=1e-2)
record("attention_backward", attention_gradients, lambda d: [
    case(d.real(1, 1, 3, 3), d.real(1, 1, 3, 2), d.real(1, 1, 4, 2), d.real(1, 1, 4, 3),
         d.real(1, 1, 3, 3), d.real(1, 1, 3), causal=False, scale=0.7),
    case(d.real(1, 2, 3, 1), d.real(1, 2, 3, 2), d.real(1, 1, 4, 2), d.real(1, 1, 4, 1),
         d.real(1, 2, 3, 1), d.real(1, 2, 3), causal=True, scale=0.5),
    case(d.real(1, 2, 3, 2), d.real(1, 2, 3, 2), d.real(1, 2, 4, 2), d.real(1, 2, 4, 2),
         d.real(1, 2, 3, 2), d.real(1, 2, 3), SEEN[None, None], causal=False, scale=0.5)],
    tolerance=2e-2)

# Bags --------------------------------------------------------------------------------------------


def bag_sums(weight: Array, indices: Array, bag: Array, scales: Any = None, *, bags: int) -> Array:
    out = np.zeros((bags, weight.shape[1]))
    for i, (index, b) in enumerate(zip(indices, bag)):
        if b < bags:
            out[b] += weight[index] * (1 if scales is None else scales[i])
    return out


def bag_maxima(weight: Array, indices: Array, bag: Array, bags: int) -> Any:
    out, at = np.zeros((bags, weight.shape[1])), np.full((bags, weight.shape[1]), -1)
    for b in range(bags):
        mine = indices[bag == b]
        if len(mine):
            k = weight[mine].argmax(0)
            out[b], at[b] = weight[mine].max(0), mine[k]
    return out, at


BAG, CHOSEN = np.array([0, 0, 1, 3, 3, 4]), np.array([2, 0, 3, 3, 1, 2])
record("embedding_bag", bag_sums, lambda d: [
    case(d.real(4, 3), CHOSEN, BAG, bags=4), case(d.real(4, 2), CHOSEN, BAG, d.real(6), bags=4),
    case(d.real(4, 3), CHOSEN[:0], BAG[:0], bags=2)])
record("embedding_bag_max", bag_maxima, lambda d: [case(d.real(4, 3), CHOSEN, BAG, bags=4)])
record("bag_of", lambda at, starts: np.searchsorted(starts, at, "right") - 1, lambda d: [
    case(np.arange(6), np.array([0, 2, 2, 5]))])
