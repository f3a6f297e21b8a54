"""Activations made of straight pieces, from relu to softshrink, and their backward ops.

A backward op's gradient for its argument is zero, yet there is an edge, as in PyTorch. A NaN stays
one; where its gradient is the incoming one and where 0 is PyTorch's choice too.
"""
from __future__ import annotations

from gpugrad.autograd.op import op
from gpugrad.backend.base import MANY
from gpugrad.dtypes import FLOATING, HALF, type_name

FEW = 1000                                       # elements, for which calls cost more than work


def choose(be, mask, a, b):
    """a where the mask holds, else b: a is not broadcast."""
    if a.size <= FEW:
        return be.xp.where(mask, a, b)
    out = be.drop(b, mask)                       # both take NumPy a fraction of where's time
    out += be.keep(a, mask)
    return out


@op("ReluBackward0", inplace=True)
class relu:
    """max(x, 0). The gradient at 0 is 0."""
    def forward(be, x):
        try:
            least = be.least[x.dtype]
        except TypeError:
            if x.dtype.kind == "b":
                raise RuntimeError("Boolean inputs not supported for relu") from None
            raise NotImplementedError("clamp is not supported for complex types") from None
        return be.xp.maximum(x, least)
    def cuda(be, x):
        return be.map("activation", "relu", x)
    def grad_x(o, g, result):
        return o.threshold_backward(g, result)


@op("ThresholdBackward0", inplace=True)
class threshold:
    """x where x > threshold, else value."""
    def forward(be, x, *, threshold, value):
        if x.dtype.kind in "bc":
            raise NotImplementedError("\"threshold_cpu\" not implemented for "
                                      f"'{type_name(x.dtype)}'")
        low = be.xp.less_equal(x, be.number[threshold, x.dtype])
        if value == 0 and x.size > FEW:
            return be.drop(x, low)
        return be.xp.where(low, be.number[value, x.dtype], x)
    def cuda(be, x, *, threshold, value):
        return be.map("activation", "threshold", x, numbers=(threshold, value))
    def grad_x(o, g, x, threshold):
        return o.threshold_backward(g, x, threshold=threshold)


@op("ThresholdBackwardBackward0")
class threshold_backward:
    """0 where y <= threshold, else g: the gradient passes where y is NaN."""
    def forward(be, g, y, *, threshold=0):
        if y.size > MANY and (out := be.helped("threshold_backward", g, y, numbers=(threshold,))) \
                is not NotImplemented:
            return out
        return be.drop(g, be.xp.less_equal(y, be.number[threshold, y.dtype]))
    def cuda(be, g, y, *, threshold=0):
        return be.map("activation", "threshold_backward", g, y, numbers=(threshold,))
    def grad_g(o, gg, y, threshold):
        return o.threshold_backward(gg, y, threshold=threshold)
    def grad_y(o, gg):
        return o.zeros_like(gg)


@op("LeakyReluBackward0", inplace=True)
class leaky_relu:
    """x where x > 0, else slope * x."""
    def forward(be, x, *, slope):
        if x.dtype in HALF:
            return be.in_float32(leaky_relu, x, slope=slope)
        low = x * be.number[slope, x.dtype]
        if 0 < slope <= 1:
            return be.xp.maximum(x, low)
        return choose(be, be.xp.greater(x, be.number[0, x.dtype]), x, low)
    def cuda(be, x, *, slope):
        return be.map("activation", "leaky_relu", x, numbers=(slope,))
    def grad_x(o, g, x, slope):
        return o.leaky_relu_backward(g, x, slope=slope)


@op("LeakyReluBackwardBackward0")
class leaky_relu_backward:
    """g where x > 0, else slope * g."""
    def forward(be, g, x, *, slope):
        if g.dtype in HALF:
            return be.in_float32(leaky_relu_backward, g, x, slope=slope)
        above = be.xp.greater(x, be.number[0, x.dtype])
        return choose(be, above, g, g * be.number[slope, g.dtype])
    def cuda(be, g, x, *, slope):
        return be.map("activation", "leaky_relu_backward", g, x, numbers=(slope,))
    def grad_g(o, gg, x, slope):
        return o.leaky_relu_backward(gg, x, slope=slope)
    def grad_x(o, gg):
        return o.zeros_like(gg)


@op("PreluKernelBackward0", fit=True)
class prelu_kernel:
    """x where x > 0, else weight * x."""
    def forward(be, x, weight):
        return choose(be, be.xp.greater(x, be.number[0, x.dtype]), x,
                      be.xp.multiply(weight, x))
    def grad_x(o, g, x, weight):
        above = o.gt(x, 0)
        return o.add(o.keep_where(g, above), o.drop_where(o.mul(g, weight), above))
    def grad_weight(o, g, x):
        return o.drop_where(o.mul(g, x), o.gt(x, 0))


@op("HardtanhBackward0", inplace=True)
class hardtanh:
    """x held between two numbers. At a bound the gradient is 0."""
    def forward(be, x, *, min_val=-1.0, max_val=1.0):
        n = be.number
        return be.xp.minimum(be.xp.maximum(x, n[min_val, x.dtype]), n[max_val, x.dtype])
    def cuda(be, x, *, min_val=-1.0, max_val=1.0):
        return be.map("activation", "hardtanh", x, numbers=(min_val, max_val))
    def grad_x(o, g, x, min_val, max_val):
        return o.hardtanh_backward(g, x, min_val=min_val, max_val=max_val)


@op("HardtanhBackwardBackward0")
class hardtanh_backward:
    """0 where x is at a bound or beyond, else g."""
    def forward(be, g, x, *, min_val, max_val):
        n = be.number
        outside = be.xp.less_equal(x, n[min_val, x.dtype])
        outside |= be.xp.greater_equal(x, n[max_val, x.dtype])
        return be.drop(g, outside)
    def cuda(be, g, x, *, min_val, max_val):
        return be.map("activation", "hardtanh_backward", g, x, numbers=(min_val, max_val))
    def grad_g(o, gg, x, min_val, max_val):
        return o.hardtanh_backward(gg, x, min_val=min_val, max_val=max_val)
    def grad_x(o, gg):
        return o.zeros_like(gg)


def ramp(be, x):
    """min(max(x + 3, 0), 6), in new memory."""
    xp, n = be.xp, be.number
    y = be.asarray(xp.add(x, n[3, x.dtype]))
    xp.maximum(y, n[0, x.dtype], out=y)
    return xp.minimum(y, n[6, x.dtype], out=y)


@op("HardsigmoidBackward0", inplace=True)
class hardsigmoid:
    """relu6(x + 3) / 6"""
    def forward(be, x):
        if x.dtype in HALF:
            return be.in_float32(hardsigmoid, x)
        y = ramp(be, x)
        y /= be.number[6, x.dtype]
        return y
    def cuda(be, x):
        return be.map("activation", "hardsigmoid", x)
    def grad_x(o, g, x):
        return o.hardsigmoid_backward(g, x)


@op("HardsigmoidBackwardBackward0")
class hardsigmoid_backward:
    """g / 6 where -3 < x < 3, else 0."""
    def forward(be, g, x):
        n = be.number
        inside = be.xp.less(x, n[3, x.dtype])
        inside &= be.xp.greater(x, n[-3, x.dtype])
        return be.keep(g / n[6, g.dtype], inside)
    def cuda(be, g, x):
        return be.map("activation", "hardsigmoid_backward", g, x)
    def grad_g(o, gg, x):
        return o.hardsigmoid_backward(gg, x)
    def grad_x(o, gg):
        return o.zeros_like(gg)


@op("HardswishBackward0", inplace=True)
class hardswish:
    """x * relu6(x + 3) / 6"""
    def forward(be, x):
        if x.dtype in HALF:
            return be.in_float32(hardswish, x)
        y = ramp(be, x)
        y *= x
        y /= be.number[6, x.dtype]
        return y
    def cuda(be, x):
        return be.map("activation", "hardswish", x)
    def grad_x(o, g, x):
        return o.hardswish_backward(g, x)


@op("HardswishBackwardBackward0")
class hardswish_backward:
    """g * (x / 3 + 1 / 2) where -3 < x < 3; below 0, above g."""
    def forward(be, g, x):
        if g.dtype in HALF:
            return be.in_float32(hardswish_backward, g, x)
        xp, n = be.xp, be.number
        y = be.asarray(xp.divide(x, n[3, x.dtype]))
        y += n[0.5, x.dtype]
        y *= g
        return be.drop(xp.where(x < n[3, x.dtype], y, g), xp.less_equal(x, n[-3, x.dtype]))
    def cuda(be, g, x):
        return be.map("activation", "hardswish_backward", g, x)
    def grad_g(o, gg, x):
        return o.hardswish_backward(gg, x)
    def grad_x(o, gg, g, x):                     # 1 / 3 between the bounds
        return o.scale(o.hardtanh_backward(o.mul(gg, g), x, min_val=-3.0, max_val=3.0),
                       number=1 / 3)


def is_small(be, x, bound):
    """Where -bound <= x <= bound."""
    if x.dtype.kind not in FLOATING:
        raise NotImplementedError(f"\"hardshrink_cpu\" not implemented for '{type_name(x.dtype)}'")
    small = be.xp.less_equal(x, be.number[bound, x.dtype])
    small &= be.xp.greater_equal(x, be.number[-bound, x.dtype])
    return small


@op("HardshrinkBackward0")
class hardshrink:
    """0 where |x| <= bound, else x."""
    def forward(be, x, *, bound):
        return be.drop(x, is_small(be, x, bound))
    def cuda(be, x, *, bound):
        return be.map("activation", "hardshrink", x, numbers=(bound,))
    def grad_x(o, g, x, bound):
        return o.shrink_backward(g, x, bound=bound)


@op("SoftshrinkBackward0")
class softshrink:
    """x moved towards 0 by the bound, and 0 where it would pass it."""
    def forward(be, x, *, bound):
        if x.dtype in HALF:
            return be.in_float32(softshrink, x, bound=bound)
        n = be.number
        nearest = be.xp.minimum(be.xp.maximum(x, n[-bound, x.dtype]), n[bound, x.dtype])
        return x - nearest
    def cuda(be, x, *, bound):
        return be.map("activation", "softshrink", x, numbers=(bound,))
    def grad_x(o, g, x, bound):
        return o.shrink_backward(g, x, bound=bound)


@op("HardshrinkBackwardBackward0")
class shrink_backward:
    """0 where |x| <= bound, else g."""
    def forward(be, g, x, *, bound):
        return be.drop(g, is_small(be, x, bound))
    def cuda(be, g, x, *, bound):
        return be.map("activation", "shrink_backward", g, x, numbers=(bound,))
    def grad_g(o, gg, x, bound):
        return o.shrink_backward(gg, x, bound=bound)
    def grad_x(o, gg):
        return o.zeros_like(gg)
