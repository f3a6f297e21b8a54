"""Convolution of images: one bilinear family of three ops, each rule a call of the other two.

In every op x is (n, c, h, w), w is (c_out, c / groups, kh, kw), g and the result of convolution are
(n, c_out, oh, ow); stride, padding and dilation are pairs (rows, columns).

On the CPU the compiled helper has a kernel for it, or it is a product of matrices, in one of
conv_ways.py's ways. On CUDA conv_routes.py says which kernels or products make it.
"""
from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gpugrad.autograd.op import op
from gpugrad.backend import columns, compiled
from gpugrad.backend.compiled import FLOAT
from gpugrad.dtypes import HALF
from gpugrad.ops.conv_ways import forward, grad_input, grad_weight, in_float32, is_plain
from gpugrad.ops.reduction import summed

MANY = 1 << 18


@op("ConvolutionBackward0")
class convolution:
    """Cross-correlation of images with kernels, plus a bias per output channel."""
    def forward(be, x, w, bias=None, *, stride, padding, dilation, groups):
        if x.dtype in HALF:
            out = forward(be, *in_float32(be, x, w, bias), stride, padding, dilation, groups)
            return out.astype(x.dtype)
        return forward(be, x, w, bias, stride, padding, dilation, groups)
    def cpu(be, x, w, bias=None, *, stride, padding, dilation, groups):
        c = compiled.for_floats(x, w, bias)
        if c is None or not w.size or (w.size >= MANY and is_blas(x.shape, w, stride, padding)):
            return NotImplemented
        y = np.empty((len(x), len(w), *columns.out_hw(x.shape, w.shape[2:], stride, padding,
                                                      dilation)), FLOAT)
        arrays = compiled.dense(x), compiled.dense(w), compiled.dense(bias), how(
            stride, padding, dilation, groups), y
        if y.size:
            if groups > 1 == w.shape[1]:
                c.depthwise(*arrays)
            else:
                c.conv(*arrays, np.empty(w.size, FLOAT))
        return y
    def cuda(be, x, w, bias=None, *, stride, padding, dilation, groups):
        return routes().forward(be, x, w, bias, stride, padding, dilation, groups)
    def grad_x(o, g, w, x_shape, stride, padding, dilation, groups):
        return o.conv_grad_input(g, w, x_shape=x_shape, stride=stride, padding=padding,
                                 dilation=dilation, groups=groups)
    def grad_w(o, g, x, w_shape, stride, padding, dilation, groups):
        return o.conv_grad_weight(g, x, w_shape=w_shape, stride=stride, padding=padding,
                                  dilation=dilation, groups=groups)
    def grad_bias(o, g):
        return o.channel_sum(g)


@op("ConvolutionBackwardBackward0")
class conv_grad_input:
    """The gradient of convolution for x, whose shape is x_shape."""
    def forward(be, g, w, *, x_shape, stride, padding, dilation, groups):
        if g.dtype in HALF:
            out = grad_input(be, *in_float32(be, g, w), x_shape, stride, padding, dilation, groups)
            return out.astype(g.dtype)
        return grad_input(be, g, w, x_shape, stride, padding, dilation, groups)
    def cpu(be, g, w, *, x_shape, stride, padding, dilation, groups):
        c, x = compiled.for_floats(g, w), np.empty(x_shape, FLOAT)
        if c is None or not w.size or not x.size or (
                w.size >= MANY and is_blas(x_shape, w, stride, padding)):
            return NotImplemented
        arrays = compiled.dense(g), compiled.dense(w), how(stride, padding, dilation, groups), x
        if groups > 1 == w.shape[1]:
            c.depthwise_grad_input(*arrays)
        else:
            c.conv_grad_input(*arrays, np.empty(w.size, FLOAT))
        return x
    def cuda(be, g, w, *, x_shape, stride, padding, dilation, groups):
        return routes().grad_input(be, g, w, tuple(x_shape), stride, padding, dilation, groups)
    def grad_g(o, gg, w, stride, padding, dilation, groups):
        return o.convolution(gg, w, None, stride=stride, padding=padding, dilation=dilation,
                             groups=groups)
    def grad_w(o, gg, g, w_shape, stride, padding, dilation, groups):
        return o.conv_grad_weight(g, gg, w_shape=w_shape, stride=stride, padding=padding,
                                  dilation=dilation, groups=groups)


@op("ConvolutionBackwardBackward0")
class conv_grad_weight:
    """The gradient of convolution for w, whose shape is w_shape."""
    def forward(be, g, x, *, w_shape, stride, padding, dilation, groups):
        if g.dtype in HALF:
            out = grad_weight(be, *in_float32(be, g, x), w_shape, stride, padding, dilation, groups)
            return out.astype(g.dtype)
        return grad_weight(be, g, x, w_shape, stride, padding, dilation, groups)
    def cpu(be, g, x, *, w_shape, stride, padding, dilation, groups):
        c, w = compiled.for_floats(g, x), np.empty(w_shape, FLOAT)
        few = len(w) <= 8 and g.size > 1 << 16   # channels: half a vector would stay empty
        if c is None or not w.size or not x.size or few:
            return NotImplemented
        arrays = compiled.dense(g), compiled.dense(x), how(stride, padding, dilation, groups), w
        if groups > 1 == w.shape[1]:
            c.depthwise_grad_weight(*arrays)
        else:                                    # channels of a group, rounded up to whole vectors
            c.conv_grad_weight(*arrays, np.empty((w.size // len(w), groups, (
                len(w) // groups + 15) // 16 * 16), FLOAT))
        return w
    def cuda(be, g, x, *, w_shape, stride, padding, dilation, groups):
        return routes().grad_weight(be, g, x, tuple(w_shape), stride, padding, dilation, groups)
    def grad_g(o, gg, x, stride, padding, dilation, groups):
        return o.convolution(x, gg, None, stride=stride, padding=padding, dilation=dilation,
                             groups=groups)
    def grad_x(o, gg, g, x_shape, stride, padding, dilation, groups):
        return o.conv_grad_input(g, gg, x_shape=x_shape, stride=stride, padding=padding,
                                 dilation=dilation, groups=groups)


@op("SumBackward1")
class channel_sum:
    """(n, c, h, w) summed to (c,): a bias's gradient."""
    def forward(be, g):
        n, c, h, w = g.shape
        if g.dtype in HALF:
            return be.xp.sum(g, (0, 2, 3), be.xp.float32).astype(g.dtype)
        # faster than a sum over dims that don't lie side by side
        return be.xp.einsum("ncl->c", g.reshape(n, c, h * w))
    def cpu(be, g):
        c, out = compiled.for_floats(g), np.empty(g.shape[1], FLOAT)
        if c is None:
            return NotImplemented
        c.channel_sum(compiled.dense(g), out)
        return out
    def cuda(be, g):
        out = summed(be, g, (0, 2, 3), False)
        return be.xp.sum(g, (0, 2, 3)) if out is NotImplemented else out
    def grad_g(o, gg, g_shape):
        return o.expand(o.reshape(gg, (1, g_shape[1], 1, 1)), shape=g_shape)


@functools.cache
def routes() -> Any:
    """conv_routes, which the CPU does without."""
    from gpugrad.ops import conv_routes

    return conv_routes


@functools.lru_cache(256)
def how(stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """The numbers of a convolution as conv.c takes them."""
    return np.array([*stride, *padding, *dilation, groups], np.int64)


def is_blas(x_shape: Any, w: Any, stride: Any, padding: Any) -> bool:
    """Is it a plain product by MANY weights, on so few pixels that BLAS does it best?"""
    return bool(x_shape[2] * x_shape[3] < 128 and is_plain(w.shape, stride, padding))
