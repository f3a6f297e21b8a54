"""Depthwise convolution on CUDA: each input channel has kernels of its own, too few for a GEMM."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.backend.columns import out_hw
from gpugrad.backend.kernels import windows

FILE = "depthwise"


def is_depthwise(be: Any, dtype: Any, w_shape: Any, groups: int) -> bool:
    """Are there kernels for a convolution by a weight of this shape?"""
    return groups > 1 and w_shape[1] == 1 and be.takes(dtype)


def forward(be: Any, x: Any, w: Any, bias: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    """convolution's result; bias may be None."""
    n, c = x.shape[:2]
    count = out_hw(x.shape, w.shape[2:], stride, padding, dilation)
    y = be.empty((n, w.shape[0], *count), x.dtype)
    win = windows(x.shape[2:], count, w.shape[2:], stride, padding, dilation)
    w = be._dense(w)
    be.kernels.each(FILE, "depthwise", x.dtype, y.size,
                    (be._dense(x), w, w if bias is None else be._dense(bias), y), win,
                    *channels(w.shape, c), np.int32(bias is not None))
    return y


def grad_input(be: Any, g: Any, w: Any, x_shape: Any, stride: Any, padding: Any,
               dilation: Any) -> Any:
    out = be.empty(tuple(x_shape), g.dtype)
    win = windows(tuple(x_shape[2:]), g.shape[2:], w.shape[2:], stride, padding, dilation)
    be.kernels.each(FILE, "depthwise_grad_input", g.dtype, out.size,
                    (be._dense(g), be._dense(w), out), win, *channels(w.shape, x_shape[1]))
    return out


def grad_weight(be: Any, g: Any, x: Any, w_shape: Any, stride: Any, padding: Any,
                dilation: Any) -> Any:
    out = be.empty(tuple(w_shape), g.dtype)
    win = windows(x.shape[2:], g.shape[2:], tuple(w_shape[2:]), stride, padding, dilation)
    length = g.size // max(1, w_shape[0])
    be.kernels.rows(FILE, "depthwise_grad_weight", g.dtype, out.size, length,
                    (be._dense(g), be._dense(x), out), win, *channels(w_shape, x.shape[1]))
    return out


def channels(w_shape: Any, c: int) -> tuple[Any, Any]:
    """How many output channels there are in all, and of each input channel."""
    return np.int32(w_shape[0]), np.int32(w_shape[0] // c)
