"""Convolution of sequences and volumes by convolution of images; transposed convolution.

A sequence (n, c, l) is an image of one row. A volume (n, c, d, h, w) becomes n * od images: the
depth taps of each window along d lie side by side as channels, (n * od, c * kd, h, w), and a weight
(c_out, c / groups, kd, kh, kw) is one of (c_out, c / groups * kd, kh, kw) without a copy.
"""
from __future__ import annotations

import math
from typing import Any

from gpugrad.autograd.op import composite, op
from gpugrad.backend.columns import out_size, span
from gpugrad.dtypes import HALF, wide
from gpugrad.layouts import as_images, as_pixels, is_last
from gpugrad.ops.conv import routes


@op("ConvolutionBackward0")
class convolution_nd:
    """convolution of (n, c, l) or (n, c, d, h, w); stride and so on have 1 or 3 numbers."""
    def forward(be, x, w, bias=None, *, stride, padding, dilation, groups):
        if len(stride) == 1:
            return be.raw.convolution(row(x), row(w), bias, **flat(stride, padding, dilation),
                                      groups=groups)[:, :, 0]
        n, c_out, od = len(x), len(w), depth(x.shape, w.shape, stride, padding, dilation)
        last = comes_last(be, x, w)
        y = be.raw.convolution(depth_taps(be, x, od, w.shape[2], stride, padding, dilation, last),
                               planes(w), bias, **inner(stride, padding, dilation), groups=groups)
        if last:
            return as_images(as_pixels(y).reshape(n, od, *y.shape[2:], c_out))
        return be.copy(y.reshape(n, od, c_out, *y.shape[2:]).swapaxes(1, 2))
    def grad_x(o, g, w, x_shape, stride, padding, dilation, groups):
        return o.conv_nd_grad_input(g, w, x_shape=x_shape, stride=stride, padding=padding,
                                    dilation=dilation, groups=groups)
    def grad_w(o, g, x, w_shape, stride, padding, dilation, groups):
        return o.conv_nd_grad_weight(g, x, w_shape=w_shape, stride=stride, padding=padding,
                                     dilation=dilation, groups=groups)
    def grad_bias(o, g):
        return o.bias_gradient(g)


@op("ConvolutionBackwardBackward0")
class conv_nd_grad_input:
    """The gradient of convolution_nd for x, whose shape is x_shape."""
    def forward(be, g, w, *, x_shape, stride, padding, dilation, groups):
        if g.dtype in HALF:                      # several products are added up
            return be.in_float32(conv_nd_grad_input, g, w, x_shape=x_shape, stride=stride,
                                 padding=padding, dilation=dilation, groups=groups)
        if len(stride) == 1:
            return be.raw.conv_grad_input(row(g), row(w), x_shape=(*x_shape[:2], 1, x_shape[2]),
                                          **flat(stride, padding, dilation), groups=groups)[:, :, 0]
        n, c, _, h, width = x_shape
        kd, od = w.shape[2], g.shape[2]
        taps = be.raw.conv_grad_input(images(g), planes(w), x_shape=(n * od, c * kd, h, width),
                                      **inner(stride, padding, dilation), groups=groups)
        return add_depth_taps(be, taps.reshape(n, od, c, kd, h, width), x_shape, stride, padding,
                              dilation, is_last(taps))
    def grad_g(o, gg, w, stride, padding, dilation, groups):
        return o.convolution_nd(gg, w, None, stride=stride, padding=padding, dilation=dilation,
                                groups=groups)
    def grad_w(o, gg, g, w_shape, stride, padding, dilation, groups):
        return o.conv_nd_grad_weight(g, gg, w_shape=w_shape, stride=stride, padding=padding,
                                     dilation=dilation, groups=groups)


@op("ConvolutionBackwardBackward0")
class conv_nd_grad_weight:
    """The gradient of convolution_nd for w, whose shape is w_shape."""
    def forward(be, g, x, *, w_shape, stride, padding, dilation, groups):
        if len(stride) == 1:
            return be.raw.conv_grad_weight(row(g), row(x), w_shape=(*w_shape[:2], 1, w_shape[2]),
                                           **flat(stride, padding, dilation),
                                           groups=groups)[:, :, 0]
        c_out, cg, kd, kh, kw = w_shape
        last = comes_last(be, x, g)
        taps = depth_taps(be, x, g.shape[2], kd, stride, padding, dilation, last)
        out = be.raw.conv_grad_weight(images(g), taps, w_shape=(c_out, cg * kd, kh, kw),
                                      **inner(stride, padding, dilation),
                                      groups=groups).reshape(tuple(w_shape))
        return as_images(be.copy(as_pixels(out))) if last else out
    def grad_g(o, gg, x, stride, padding, dilation, groups):
        return o.convolution_nd(x, gg, None, stride=stride, padding=padding, dilation=dilation,
                                groups=groups)
    def grad_x(o, gg, g, x_shape, stride, padding, dilation, groups):
        return o.conv_nd_grad_input(g, gg, x_shape=x_shape, stride=stride, padding=padding,
                                    dilation=dilation, groups=groups)


@op("ConvolutionBackward0")
class conv_transpose:
    """A convolution's gradient for its input, as a layer: x is that gradient's g, size the input's.

    x is (n, c, ...) with one to three dims, w (c, c_out / groups, ...), the result (n, c_out,
    *size).
    """
    def forward(be, x, w, bias=None, *, size, stride, padding, dilation, groups):
        if x.dtype in HALF and be.widens_products:
            return be.in_float32(conv_transpose, x, w, bias, size=size, stride=stride,
                                 padding=padding, dilation=dilation, groups=groups)
        shape = (len(x), w.shape[1] * groups, *size)
        out = Family(be.raw, stride).grad_input(x, w, x_shape=shape, stride=stride, padding=padding,
                                                dilation=dilation, groups=groups)
        if bias is not None:
            out += bias.reshape(-1, *[1] * len(stride))
        return out
    def grad_x(o, g, w, stride, padding, dilation, groups):
        return Family(o, stride).convolution(g, w, None, stride=stride, padding=padding,
                                             dilation=dilation, groups=groups)
    def grad_w(o, g, x, w_shape, stride, padding, dilation, groups):
        return Family(o, stride).grad_weight(x, g, w_shape=w_shape, stride=stride, padding=padding,
                                             dilation=dilation, groups=groups)
    def grad_bias(o, g):
        return o.bias_gradient(g)


@composite
def bias_gradient(o, g):
    """(n, c, ...) summed to (c,)."""
    n, c = g.shape[:2]
    return o.channel_sum(o.reshape(g, (n, c, 1, math.prod(g.shape[2:]))))


class Family:
    """Convolution and its two gradients, of a level, for a number of dims."""

    def __init__(self, o: Any, stride: Any) -> None:
        if len(stride) == 2:
            self.convolution, self.grad_input = o.convolution, o.conv_grad_input
            self.grad_weight = o.conv_grad_weight
        else:
            self.convolution, self.grad_input = o.convolution_nd, o.conv_nd_grad_input
            self.grad_weight = o.conv_nd_grad_weight


def comes_last(be: Any, x: Any, other: Any) -> bool:
    """Are volumes to have their channels last? The CPU's convolution gives them in C order."""
    return be.takes(x.dtype) and bool(routes().comes_last(be, x, other))


def row(a: Any) -> Any:
    """A sequence, or a weight for sequences, as an image of one row."""
    return a[:, :, None]


def flat(stride: Any, padding: Any, dilation: Any) -> dict[str, Any]:
    """What goes with row."""
    return {"stride": (1, *stride), "padding": (0, *padding), "dilation": (1, *dilation)}


def inner(stride: Any, padding: Any, dilation: Any) -> dict[str, Any]:
    """What is left of three dims without the depth."""
    return {"stride": stride[1:], "padding": padding[1:], "dilation": dilation[1:]}


def planes(w: Any) -> Any:
    """A weight for volumes as one for images of depth taps."""
    return w.reshape(w.shape[0], w.shape[1] * w.shape[2], *w.shape[3:])


def images(g: Any) -> Any:
    """(n, c, d, h, w) as (n * d, c, h, w)."""
    n, c, d, h, w = g.shape
    return g.swapaxes(1, 2).reshape(n * d, c, h, w)


def depth(x_shape: Any, w_shape: Any, stride: Any, padding: Any, dilation: Any) -> int:
    """How many windows there are along the depth."""
    return out_size(x_shape[2], w_shape[2], stride[0], padding[0], dilation[0])


def depth_taps(be: Any, x: Any, od: int, kd: int, stride: Any, padding: Any, dilation: Any,
               last: bool) -> Any:
    """(n, c, d, h, w) to (n * od, c * kd, h, w): every window's slices, as channels.

    last: they are channels_last.
    """
    n, c, d, h, w = x.shape
    shape = (n, od, h, w, c, kd) if last else (n, od, c, kd, h, w)
    out = be.xp.zeros(shape, x.dtype) if padding[0] else be.empty(shape, x.dtype)
    taps = out.transpose(0, 1, 4, 5, 2, 3) if last else out
    for k in range(kd):
        mine, there = span(k * dilation[0] - padding[0], d, stride[0], od)
        taps[:, mine, :, k] = x[:, :, there].swapaxes(1, 2)
    return as_images(out.reshape(n * od, h, w, c * kd)) if last else \
        out.reshape(n * od, c * kd, h, w)


def add_depth_taps(be: Any, taps: Any, x_shape: Any, stride: Any, padding: Any,
                   dilation: Any, last: bool) -> Any:
    """depth_taps' transpose, from (n, od, c, kd, h, w)."""
    n, c, *size = x_shape
    shape = (n, *size, c) if last else tuple(x_shape)
    out = be.xp.zeros(shape, wide(taps.dtype))
    out = as_images(out) if last else out
    for k in range(taps.shape[3]):
        mine, there = span(k * dilation[0] - padding[0], x_shape[2], stride[0], taps.shape[1])
        part = out[:, :, there]
        part += taps[:, mine, :, k].swapaxes(1, 2)
    return out.astype(taps.dtype, copy=False)
