"""Sampling planes at given places: three bilinear ops, each rule a call of the other two.

In every op x is planes (n, c, size), at and w are (n, taps, ...): the places that a sample is made
of, counted within a plane, and their weights; samples are (n, c, ...). Place -1 is outside: it
counts for nothing.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad.autograd.op import op
from gpugrad.dtypes import HALF, wide
from gpugrad.ops import places


@op("GridSampler2DBackward0")
class sample:
    """Weighted sums of elements of x."""
    def forward(be, x, at, w):
        if x.dtype in HALF:
            return be.in_float32(sample, x, at, w)
        n, c, _ = x.shape
        shape, w = at.shape[2:], be.keep(in_rows(w), in_rows(at) >= 0)
        out = be.xp.zeros((n, c, w.shape[2]), x.dtype)
        for image, spots, weights, sums in zip(with_outside(be, x), in_rows(at), w, out):
            for spot, weight in zip(spots, weights):
                part = be.xp.take(image, spot, 1)
                part *= weight
                sums += part
        return out.reshape(n, c, *shape)
    def cuda(be, x, at, w):
        if not be.takes(x.dtype):
            return NotImplemented
        (n, c, size), p = x.shape, math.prod(at.shape[2:])
        y = be.empty((n, c, *at.shape[2:]), x.dtype)
        be.kernels.each("grid", "sample", x.dtype, y.size,
                        (be._dense(x), be._dense(at), be._dense(w), y),
                        np.int64(c), np.int64(size), np.int64(p), np.int32(at.shape[1]))
        return y
    grad_at = None
    def grad_x(o, g, at, w, x_shape):
        return o.sample_grad_input(g, at, w, size=x_shape[2])
    def grad_w(o, g, x, at):
        return o.sample_grad_weight(g, x, at)


@op("GridSampler2DBackwardBackward0")
class sample_grad_input:
    """The gradient of sample for x: g times its weights, added up at the places."""
    def forward(be, g, at, w, *, size):
        if g.dtype in HALF:
            return be.in_float32(sample_grad_input, g, at, w, size=size)
        xp, (n, c) = be.xp, g.shape[:2]
        g, at, w = in_rows(g), in_rows(at), in_rows(w)
        out = be.empty((n, c, size), g.dtype)
        first = xp.arange(c)[:, None, None] * (size + 1) + 1           # what is outside comes first
        for i in range(n):
            spots, parts = at[i] + first, g[i][:, None] * w[i]         # (c, taps, p)
            sums = be.sums_at(spots.reshape(-1), parts.reshape(-1), c * (size + 1))
            out[i] = sums.reshape(c, size + 1)[:, 1:]
        return out
    def meta(be, g, at, w, *, size):
        return be.empty((*g.shape[:2], size), g.dtype)
    def cuda(be, g, at, w, *, size):
        if not be.takes(g.dtype):
            return NotImplemented
        if g.dtype in HALF:
            wide = sample_grad_input.spec.impl[be.index](
                be, g.astype(np.float32), at, w.astype(np.float32), size=size)
            return wide.astype(g.dtype)
        g, at, w = in_rows(g), in_rows(at), in_rows(w)
        (n, c, p), taps = g.shape, at.shape[1]
        parts = be.xp.ascontiguousarray((g[:, :, None] * w[:, None]).transpose(0, 2, 3, 1))
        spots = at + be.xp.arange(n)[:, None, None] * size
        spots = be.xp.where(at < 0, n * size, spots)                   # left out
        out = be.xp.zeros((n * size, c), g.dtype)
        places.add(be, out, parts.reshape(n * taps * p, c), places.as_index(be, spots).reshape(-1),
                   n * size, c)
        return be.copy(out.reshape(n, size, c).swapaxes(1, 2))
    grad_at = None
    def grad_g(o, gg, at, w):
        return o.sample(gg, at, w)
    def grad_w(o, gg, g, at):
        return o.sample_grad_weight(g, gg, at)


@op("GridSampler2DBackwardBackward0")
class sample_grad_weight:
    """The gradient of sample for w: over the channels, the sum of g times the elements of x."""
    def forward(be, g, x, at):
        xp, sums = be.xp, wide(g.dtype)
        shape, g, at = at.shape, in_rows(g), in_rows(at)
        out = be.empty(at.shape, sums)
        images = with_outside(be, x.astype(sums, copy=False))
        for slopes, image, spots, rows in zip(g.astype(sums, copy=False), images, at, out):
            for k in range(len(spots)):
                part = xp.take(image, spots[k], 1)
                part *= slopes
                rows[k] = xp.sum(part, 0)
        return be.keep(out, at >= 0).reshape(shape).astype(g.dtype, copy=False)
    def cuda(be, g, x, at):
        if not be.takes(g.dtype):
            return NotImplemented
        _, c, size = x.shape
        out = be.empty(at.shape, g.dtype)
        be.kernels.each("grid", "sample_grad_weight", g.dtype, out.size,
                        (be._dense(g), be._dense(x), be._dense(at), out),
                        np.int64(c), np.int64(size), np.int64(math.prod(at.shape[2:])),
                        np.int32(at.shape[1]))
        return out
    grad_at = None
    def grad_g(o, gg, x, at):
        return o.sample(x, at, gg)
    def grad_x(o, gg, g, at, x_shape):
        return o.sample_grad_input(g, at, gg, size=x_shape[2])


def in_rows(a: Any) -> Any:
    """(n, k, ...) as (n, k, p)."""
    return a.reshape(*a.shape[:2], math.prod(a.shape[2:]))


def with_outside(be: Any, x: Any) -> Any:
    """(n, c, size + 1): planes with a zero at the end, which is at place -1."""
    out = be.xp.zeros((*x.shape[:2], x.shape[2] + 1), x.dtype)
    out[:, :, :-1] = x
    return out
