"""Depthwise convolution on CUDA: each input channel has kernels of its own, too few for a GEMM."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.backend.kernels import windows
from gpugrad.dtypes import wide
from gpugrad.layouts import as_images
from gpugrad.ops.channels import channel_sum
from gpugrad.ops.conv_direct import laid, new

FILE = "depthwise"
BLOCKS = 1024                   # wanted for the gradient of weights with channels last


def takes(be: Any, kind: str, case: Any) -> bool:
    """Are there kernels for it?"""
    return bool(case.groups > 1 == case.w_shape[1] and be.takes(case.dtype))


def forward(be: Any, x: Any, w: Any, bias: Any, case: Any) -> Any:
    """convolution's result; bias may be None."""
    y, w = new(be, case, case.y_shape), be._dense(w)
    be.kernels.each(FILE, "depthwise", x.dtype, y.size,
                    (laid(be, x, case), w, w if bias is None else be._dense(bias), y),
                    *shape_of(case), np.int32(case.last), np.int32(bias is not None))
    return as_images(y) if case.last else y


def grad_input(be: Any, g: Any, w: Any, case: Any) -> Any:
    """The gradient for x."""
    gx = new(be, case, case.x_shape)
    be.kernels.each(FILE, "depthwise_grad_input", g.dtype, gx.size,
                    (laid(be, g, case), be._dense(w), gx), *shape_of(case), np.int32(case.last))
    return as_images(gx) if case.last else gx


def grad_weight(be: Any, g: Any, x: Any, case: Any) -> Any:
    """The gradient for w."""
    (c_out, _, kh, kw), length = case.w_shape, g.size // max(1, case.w_shape[0])
    if case.last:
        blocks = -(-c_out // 32) * kh * kw
        part = max(-(-length // max(1, BLOCKS // blocks)), 256)
        parts = -(-length // part)
        sums = be.empty((parts, kh * kw * c_out), wide(g.dtype))
        be.kernels.launch(FILE, "depthwise_grad_weight_last", (blocks, parts), (256,),
                          (laid(be, g, case), laid(be, x, case), sums, np.int64(length),
                           np.int64(part), *shape_of(case)), g.dtype)
        total = sums if parts == 1 else channel_sum(be, sums, parts, sums.shape[1], 1)
        total = total.reshape(kh, kw, c_out).astype(g.dtype, copy=False)
        return be._dense(total.transpose(2, 0, 1))[:, None]
    out = be.empty(case.w_shape, g.dtype)
    be.kernels.rows(FILE, "depthwise_grad_weight", g.dtype, out.size, length,
                    (laid(be, g, case), laid(be, x, case), out), *shape_of(case))
    return out


def shape_of(case: Any) -> tuple[Any, Any, Any]:
    """The windows, and how many output channels there are in all, and of each input channel."""
    win = windows(case.x_shape[2:], case.y_shape[2:], case.w_shape[2:], case.stride, case.padding,
                  case.dilation)
    return win, np.int32(case.w_shape[0]), np.int32(case.w_shape[0] // case.x_shape[1])
