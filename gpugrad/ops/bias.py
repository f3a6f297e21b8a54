"""A bias for each channel, and an activation at once."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad.autograd.op import op
from gpugrad.layouts import as_images, as_pixels, is_last


@op("AddBackward0")
class bias_act:
    """x plus a bias for each index of dim; then max(x, 0) if activation is "relu"."""
    def forward(be, x, bias, *, dim=1, activation="none"):
        y = x + bias.reshape(-1, *[1] * (x.ndim - 1 - dim))
        return be.xp.maximum(y, be.number[0, y.dtype]) if activation == "relu" else y
    def cuda(be, x, bias, *, dim=1, activation="none"):
        if dim == 1 and is_last(x):
            x = be._dense(as_pixels(x))
            y = run(be, x, bias, be.empty(x.shape, x.dtype), x.ndim - 1, activation)
            return y if y is NotImplemented else as_images(y)
        return run(be, be._dense(x), bias, be.empty(x.shape, x.dtype), dim, activation)
    def grad_x(o, g, result, activation):
        return o.threshold_backward(g, result) if activation == "relu" else g
    def grad_bias(o, g, result, dim, activation):
        g = o.threshold_backward(g, result) if activation == "relu" else g
        return o.sum(g, dim=tuple([d for d in range(g.ndim) if d != dim]))


def add_bias(be: Any, y: Any, bias: Any, dim: int = 1) -> Any:
    """y, new memory of a GPU's op, plus a bias for each index of dim: in place."""
    if dim == 1 and is_last(y):
        add_bias(be, as_pixels(y), bias, y.ndim - 1)
    elif not y.flags.c_contiguous or run(be, y, bias, y, dim) is NotImplemented:
        y += bias.reshape(-1, *[1] * (y.ndim - 1 - dim))
    return y


def run(be: Any, x: Any, bias: Any, y: Any, dim: int, activation: str = "none") -> Any:
    """Write to y, which may be x: both in C order. NotImplemented without a kernel."""
    if not be.takes(x.dtype) or bias.dtype != x.dtype:
        return NotImplemented
    channels, inner = x.shape[dim], math.prod(x.shape[dim + 1:])
    be.kernels.each("bias", "bias_act", x.dtype, x.size, (x, be._dense(bias), y),
                    np.int64(channels), np.int64(inner), np.int32(activation == "relu"),
                    at_once=16 // x.dtype.itemsize)
    return y
