"""Activation functions and their backward ops."""
from __future__ import annotations

import math

from gpugrad.autograd.op import composite, op


@op("ReluBackward0", inplace=True)
class relu:
    """max(x, 0). The gradient at 0 is 0."""
    def forward(be, x):
        return be.xp.maximum(x, be.number[0, x.dtype])
    def grad_x(o, g, result):
        return o.threshold_backward(g, result)


@op("ThresholdBackwardBackward0")
class threshold_backward:
    """0 where y <= 0, else g: the gradient passes where y is NaN."""
    def forward(be, g, y):
        return be.drop(g, be.xp.less_equal(y, be.number[0, y.dtype]))
    def cuda(be, g, y):
        return be.map("activation", "threshold_backward", g, y)
    def grad_g(o, gg, y):
        return o.threshold_backward(gg, y)
    def grad_y(o, gg):                           # zero, yet an edge: as in PyTorch
        return o.zeros_like(gg)


@op("SigmoidBackward0", promote="float", inplace=True)
class sigmoid:
    """1 / (1 + exp(-x)), computed as (1 + tanh(x / 2)) / 2, which can't overflow."""
    def forward(be, x):
        half = be.number[0.5, x.dtype]
        y = be.asarray(be.xp.multiply(x, half))
        be.xp.tanh(y, out=y)
        y *= half
        y += half
        return y
    def grad_x(o, g, result):
        return o.sigmoid_backward(g, result)


@op("SigmoidBackwardBackward0")
class sigmoid_backward:
    """g * y * (1 - y)"""
    def forward(be, g, y):
        return g * y * (be.number[1, y.dtype] - y)
    def grad_g(o, gg, y):
        return o.sigmoid_backward(gg, y)
    def grad_y(o, gg, g, y):
        return o.mul(o.mul(gg, g), o.rsub(o.scale(y, number=2), number=1))


@op("SiluBackward0", inplace=True)
class silu:
    """x * sigmoid(x)"""
    def forward(be, x):
        return x * sigmoid.spec.forward(be, x)
    def grad_x(o, g, x):
        s = o.sigmoid(x)
        slope = o.mul(s, o.shift(o.mul(x, o.rsub(s, number=1)), number=1))
        return o.mul(g, slope)


@op("LeakyReluBackward0", inplace=True)
class leaky_relu:
    """x where x > 0, else slope * x."""
    def forward(be, x, *, slope):
        return be.xp.where(x > be.number[0, x.dtype], x, x * be.number[slope, x.dtype])
    def grad_x(o, g, x, slope):
        return o.where(o.gt(x, 0), g, o.scale(g, number=slope))


@op("EluBackward0", inplace=True)
class elu:
    """scale * x where x > 0, else scale * alpha * (exp(input_scale * x) - 1)."""
    def forward(be, x, *, alpha=1.0, scale=1.0, input_scale=1.0):
        xp, n = be.xp, be.number
        low = xp.expm1(xp.minimum(x, n[0, x.dtype]) * n[input_scale, x.dtype])
        return xp.where(x > n[0, x.dtype], x * n[scale, x.dtype], low * n[scale * alpha, x.dtype])
    def grad_x(o, g, x, alpha, scale, input_scale):
        above = o.gt(x, 0)
        low = o.scale(o.exp(o.scale(o.drop_where(x, above), number=input_scale)),
                      number=scale * alpha * input_scale)
        return o.where(above, o.scale(g, number=scale), o.mul(g, low))


@op("SoftplusBackward0")
class softplus:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold."""
    def forward(be, x, *, beta=1.0, threshold=20.0):
        xp, n = be.xp, be.number
        z = x * n[beta, x.dtype]
        soft = xp.logaddexp(z, n[0, x.dtype]) / n[beta, x.dtype]
        return xp.where(z > n[threshold, x.dtype], x, soft)
    def grad_x(o, g, x, beta, threshold):
        z = o.scale(x, number=beta)
        return o.where(o.gt(z, threshold), g, o.mul(g, o.sigmoid(z)))


@op("LogSigmoidBackward0")
class log_sigmoid:
    """log(sigmoid(x)) = -log(1 + exp(-x))"""
    def forward(be, x):
        return -be.xp.logaddexp(be.number[0, x.dtype], -x)
    def grad_x(o, g, x):
        return o.mul(g, o.sigmoid(o.neg(x)))


@op("HardtanhBackward0", inplace=True)
class hardtanh:
    """x held between two numbers. At a bound the gradient is 0."""
    def forward(be, x, *, min_val=-1.0, max_val=1.0):
        n = be.number
        return be.xp.minimum(be.xp.maximum(x, n[min_val, x.dtype]), n[max_val, x.dtype])
    def grad_x(o, g, x, min_val, max_val):
        return o.keep_where(g, o.logical_and(o.gt(x, min_val), o.lt(x, max_val)))


@op("ThresholdBackward0", inplace=True)
class threshold:
    """x where x > threshold, else value."""
    def forward(be, x, *, threshold, value):
        return be.xp.where(x > be.number[threshold, x.dtype], x, be.number[value, x.dtype])
    def grad_x(o, g, x, threshold):
        return o.keep_where(g, o.gt(x, threshold))


@op("GeluBackward0")
class gelu:
    """x times the normal distribution function at x, exactly or by tanh (arXiv:1606.08415)."""
    def forward(be, x, *, approximate="none"):
        return x * be.raw.normal_cdf(x, approximate)
    def grad_x(o, g, x, approximate):
        cdf = o.normal_cdf(x, approximate)
        if approximate == "none":
            bell = o.exp(o.scale(o.mul(x, x), number=-0.5))
            pdf = o.scale(bell, number=1 / math.sqrt(2 * math.pi))
        else:                                    # d/dx of (1 + tanh u) / 2, u = k (x + c x^3)
            du = o.shift(o.scale(o.mul(x, x), number=3 * _C), number=1)
            slope = o.mul(cdf, o.rsub(cdf, number=1))                  # (1 - tanh^2) / 4
            pdf = o.scale(o.mul(slope, du), number=2 * _K)
        return o.mul(g, o.add(cdf, o.mul(x, pdf)))


_C = 0.044715
_K = math.sqrt(2 / math.pi)


@composite
def normal_cdf(o, x, approximate):
    if approximate == "none":
        return o.scale(o.shift(o.erf(o.scale(x, number=1 / math.sqrt(2))), number=1), number=0.5)
    cube = o.scale(o.mul(o.mul(x, x), x), number=_C)
    return o.scale(o.shift(o.tanh(o.scale(o.add(x, cube), number=_K)), number=1), number=0.5)
