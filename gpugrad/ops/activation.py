"""Smooth activation functions, from sigmoid to glu, and their backward ops, g f'(x)."""
from __future__ import annotations

import math

import numpy as np

from gpugrad.autograd.op import composite, op
from gpugrad.backend.base import MANY
from gpugrad.backend.compiled import each
from gpugrad.backend.error_function import NEARLY, NORMAL, alike, gelu_slope
from gpugrad.backend.error_function import gelu as gelu_of
from gpugrad.dtypes import FLOATING, HALF, type_name


@op("SigmoidBackward0", promote="float", inplace=True)
class sigmoid:
    """1 / (1 + exp(-x)), computed as (1 + tanh(x / 2)) / 2, which can't overflow."""
    def forward(be, x):
        if x.dtype in HALF:
            return be.in_float32(sigmoid, x)
        if x.size > MANY and (y := be.helped("logistic", x)) is not NotImplemented:
            return y
        half = be.number[0.5, x.dtype]
        y = be.asarray(be.xp.multiply(x, half))
        be.xp.tanh(y, out=y)
        y *= half
        y += half
        return y
    def cuda(be, x):
        return be.map("activation", "sigmoid", x)
    def grad_x(o, g, result):
        return o.sigmoid_backward(g, result)


@op("SigmoidBackwardBackward0")
class sigmoid_backward:
    """g * y * (1 - y)"""
    def forward(be, g, y):
        if g.dtype in HALF:
            return be.in_float32(sigmoid_backward, g, y)
        if y.size > MANY and (out := be.helped("sigmoid_backward", g, y)) is not NotImplemented:
            return out
        out = be.asarray(be.number[1, y.dtype] - y)
        out *= y
        out *= g
        return out
    def cuda(be, g, y):
        return be.map("activation", "sigmoid_backward", g, y)
    def grad_g(o, gg, y):
        return o.sigmoid_backward(gg, y)
    def grad_y(o, gg, g, y):
        return o.mul(o.mul(gg, g), o.rsub(o.scale(y, number=2), number=1))


@op("SiluBackward0", inplace=True)
class silu:
    """x * sigmoid(x)"""
    def forward(be, x):
        if x.dtype in HALF:
            return be.in_float32(silu, x)
        y = sigmoid.spec.forward(be, x)
        y *= x
        return y
    def cpu(be, x):
        return each("silu", x)
    def cuda(be, x):
        return be.map("activation", "silu", x)
    def grad_x(o, g, x):
        return o.silu_backward(g, x)


@op("SiluBackwardBackward0")
class silu_backward:
    """g * s * (1 + x * (1 - s)), where s is sigmoid(x)."""
    def forward(be, g, x):
        if g.dtype in HALF:
            return be.in_float32(silu_backward, g, x)
        one, s = be.number[1, x.dtype], sigmoid.spec.forward(be, x)
        slope = be.asarray(one - s)
        slope *= x
        slope += one
        slope *= s
        slope *= g
        return slope
    def cpu(be, g, x):
        return each("silu_backward", g, x)
    def cuda(be, g, x):
        return be.map("activation", "silu_backward", g, x)
    def grad_g(o, gg, x):
        return o.silu_backward(gg, x)
    def grad_x(o, gg, g, x):                     # s' (2 + x (1 - 2 s)), where s' = s (1 - s)
        s = o.sigmoid(x)
        bend = o.shift(o.mul(x, o.rsub(o.scale(s, number=2), number=1)), number=2)
        return o.sigmoid_backward(o.mul(o.mul(gg, g), bend), s)


@op("EluBackward0", inplace=True)
class elu:
    """scale * x where x > 0, else scale * alpha * (exp(input_scale * x) - 1)."""
    def forward(be, x, *, alpha=1.0, scale=1.0, input_scale=1.0):
        if x.dtype in HALF:
            return be.in_float32(elu, x, alpha=alpha, scale=scale, input_scale=input_scale)
        if x.dtype.kind not in FLOATING:
            raise NotImplementedError(f"\"elu_cpu\" not implemented for '{type_name(x.dtype)}'")
        xp, n = be.xp, be.number
        low = xp.expm1(xp.minimum(x, n[0, x.dtype]) * n[input_scale, x.dtype])
        return xp.where(x > n[0, x.dtype], x * n[scale, x.dtype], low * n[scale * alpha, x.dtype])
    def cuda(be, x, *, alpha=1.0, scale=1.0, input_scale=1.0):
        return be.map("activation", "elu", x, numbers=(scale, scale * alpha, input_scale))
    def grad_x(o, g, x, alpha, scale, input_scale):
        return o.elu_backward(g, x, scale=scale, low=scale * alpha * input_scale,
                              input_scale=input_scale)


@op("CeluBackward0", inplace=True)
class celu:
    """x where x > 0, else alpha * (exp(x / alpha) - 1)."""
    def forward(be, x, *, alpha=1.0):
        return elu.spec.forward(be, x, alpha=alpha, input_scale=1 / alpha)
    def cuda(be, x, *, alpha=1.0):
        return be.map("activation", "elu", x, numbers=(1.0, alpha, 1 / alpha))
    def grad_x(o, g, x, alpha):
        return o.elu_backward(g, x, scale=1.0, low=1.0, input_scale=1 / alpha)


@op("EluBackwardBackward0")
class elu_backward:
    """g * low * exp(input_scale * x) where x <= 0, else g * scale."""
    def forward(be, g, x, *, scale, low, input_scale):
        if g.dtype in HALF:
            return be.in_float32(elu_backward, g, x, scale=scale, low=low, input_scale=input_scale)
        xp, n = be.xp, be.number
        below = be.asarray(xp.minimum(x, n[0, x.dtype]))
        below *= n[input_scale, x.dtype]
        xp.exp(below, out=below)
        below *= n[low, x.dtype]
        below *= g
        return xp.where(x <= n[0, x.dtype], below, g * n[scale, x.dtype])
    def cuda(be, g, x, *, scale, low, input_scale):
        return be.map("activation", "elu_backward", g, x, numbers=(scale, low, input_scale))
    def grad_g(o, gg, x, scale, low, input_scale):
        return o.elu_backward(gg, x, scale=scale, low=low, input_scale=input_scale)
    def grad_x(o, gg, g, x, low, input_scale):
        bend = o.elu_backward(o.mul(gg, g), x, scale=0.0, low=low * input_scale,
                              input_scale=input_scale)
        return o.drop_where(bend, o.ge(x, 0))


@op("SoftplusBackward0")
class softplus:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold."""
    def forward(be, x, *, beta=1.0, threshold=20.0):
        if x.dtype in HALF:
            return be.in_float32(softplus, x, beta=beta, threshold=threshold)
        xp, n = be.xp, be.number
        z = x * n[beta, x.dtype]
        soft = xp.logaddexp(z, n[0, x.dtype]) / n[beta, x.dtype]
        return xp.where(z > n[threshold, x.dtype], x, soft)
    def cuda(be, x, *, beta=1.0, threshold=20.0):
        return be.map("activation", "softplus", x, numbers=(beta, threshold))
    def grad_x(o, g, x, beta, threshold):
        return o.softplus_backward(g, x, beta=beta, threshold=threshold)


@op("SoftplusBackwardBackward0")
class softplus_backward:
    """g * sigmoid(beta * x); g itself where beta * x > threshold."""
    def forward(be, g, x, *, beta, threshold):
        if g.dtype in HALF:
            return be.in_float32(softplus_backward, g, x, beta=beta, threshold=threshold)
        z = x * be.number[beta, x.dtype]
        s = sigmoid.spec.forward(be, z)
        s *= g
        return be.xp.where(z > be.number[threshold, x.dtype], g, s)
    def cuda(be, g, x, *, beta, threshold):
        return be.map("activation", "softplus_backward", g, x, numbers=(beta, threshold))
    def grad_g(o, gg, x, beta, threshold):
        return o.softplus_backward(gg, x, beta=beta, threshold=threshold)
    def grad_x(o, gg, g, x, beta, threshold):
        z = o.scale(x, number=beta)
        bend = o.sigmoid_backward(o.mul(gg, g), o.sigmoid(z))
        return o.scale(o.drop_where(bend, o.ge(z, threshold)), number=beta)


@op("LogSigmoidBackward0")
class log_sigmoid:
    """log(sigmoid(x)) = -log(1 + exp(-x))"""
    def forward(be, x):
        if x.dtype in HALF:
            return be.in_float32(log_sigmoid, x)
        return -be.xp.logaddexp(be.number[0, x.dtype], -x)
    def cuda(be, x):
        return be.map("activation", "log_sigmoid", x)
    def grad_x(o, g, x):
        return o.log_sigmoid_backward(g, x)


@op("LogSigmoidBackwardBackward0")
class log_sigmoid_backward:
    """g * sigmoid(-x)"""
    def forward(be, g, x):
        if g.dtype in HALF:
            return be.in_float32(log_sigmoid_backward, g, x)
        s = sigmoid.spec.forward(be, -x)
        s *= g
        return s
    def cuda(be, g, x):
        return be.map("activation", "log_sigmoid_backward", g, x)
    def grad_g(o, gg, x):
        return o.log_sigmoid_backward(gg, x)
    def grad_x(o, gg, g, x):
        return o.neg(o.sigmoid_backward(o.mul(gg, g), o.sigmoid(x)))


# Mish: tanh(softplus(x)) is u / (u + 2), where u = e (e + 2) and e = exp(x).

@op("MishBackward0", inplace=True)
class mish:
    """x * tanh(softplus(x)) (arXiv:1908.08681)."""
    def forward(be, x):
        if x.dtype in HALF:
            return be.in_float32(mish, x)
        _, u = exponentials(be, x)
        y = be.asarray(u + be.number[2, x.dtype])
        be.xp.divide(u, y, out=y)
        y *= x
        return y
    def cuda(be, x):
        return be.map("activation", "mish", x)
    def grad_x(o, g, x):
        return o.mish_backward(g, x)


@op("MishBackwardBackward0")
class mish_backward:
    """g * (t + x * (1 - t * t) * sigmoid(x)), where t is tanh(softplus(x))."""
    def forward(be, g, x):
        if g.dtype in HALF:
            return be.in_float32(mish_backward, g, x)
        n = be.number
        e, u = exponentials(be, x)
        rest = be.asarray(n[2, x.dtype] / (u + n[2, x.dtype]))       # 1 - t
        t = be.asarray(n[1, x.dtype] - rest)
        rest *= t + n[1, x.dtype]
        rest *= x
        rest *= e
        rest /= e + n[1, x.dtype]
        rest += t
        rest *= g
        return rest
    def cuda(be, g, x):
        return be.map("activation", "mish_backward", g, x)
    def grad_g(o, gg, x):
        return o.mish_backward(gg, x)
    def grad_x(o, gg, g, x):                     # (1 - t^2) s (2 + x (1 - s - 2 t s))
        t, s = o.tanh(o.softplus(x)), o.sigmoid(x)
        bend = o.rsub(o.mul(s, o.shift(o.scale(t, number=2), number=1)), number=1)
        slope = o.mul(s, o.shift(o.mul(x, bend), number=2))
        return o.mul(o.tanh_backward(o.mul(gg, g), t), slope)


def exponentials(be, x):
    """e = exp(x) and u = e (e + 2); beyond 20 they make no difference to mish, and overflow."""
    e = be.asarray(be.xp.minimum(x, be.number[20, x.dtype]))
    be.xp.exp(e, out=e)
    u = be.asarray(e + be.number[2, x.dtype])
    u *= e
    return e, u


@op("GeluBackward0")
class gelu:
    """x times the normal distribution function at x, exactly or by tanh (arXiv:1606.08415)."""
    def forward(be, x, *, approximate="none"):
        if x.dtype in HALF:
            return be.in_float32(gelu, x, approximate=approximate)
        return x * be.raw.normal_cdf(x, approximate)
    def cpu(be, x, *, approximate="none"):
        name, c = ("gelu", NORMAL) if approximate == "none" else ("gelu_tanh", NEARLY)
        out = each(name, x, numbers=(c,))
        return gelu_of(be, x, c) if out is NotImplemented and alike(x) else out
    def cuda(be, x, *, approximate="none"):
        return be.map("activation", "gelu" if approximate == "none" else "gelu_tanh", x)
    def grad_x(o, g, x, approximate):
        return o.gelu_backward(g, x, approximate=approximate)


@op("GeluBackwardBackward0")
class gelu_backward:
    """g * (cdf + x * pdf): the normal distribution function and its density, or nearly so."""
    def forward(be, g, x, *, approximate):
        if g.dtype in HALF:
            return be.in_float32(gelu_backward, g, x, approximate=approximate)
        cdf = be.raw.normal_cdf(x, approximate)
        slope = be.asarray(x * be.raw.normal_pdf(x, cdf, approximate))
        slope += cdf
        slope *= g
        return slope
    def cpu(be, g, x, *, approximate):
        name, c = ("gelu_backward", NORMAL) if approximate == "none" else \
            ("gelu_tanh_backward", NEARLY)
        out = each(name, g, x, numbers=(c,))
        return gelu_slope(be, g, x, c) if out is NotImplemented and alike(g, x) else out
    def cuda(be, g, x, *, approximate):
        return be.map("activation", "gelu_backward" if approximate == "none" else
                      "gelu_tanh_backward", g, x)
    def grad_g(o, gg, x, approximate):
        return o.gelu_backward(gg, x, approximate=approximate)
    def grad_x(o, gg, g, x, approximate):
        cdf = o.normal_cdf(x, approximate)
        pdf = o.normal_pdf(x, cdf, approximate)
        if approximate == "none":                # pdf' = -x pdf
            slope = o.neg(o.mul(x, pdf))
        else:                                    # of 2 c (1 - c) u'
            bend = o.mul(o.rsub(o.scale(cdf, number=2), number=1), o.inner_slope(x))
            curve = o.mul(o.mul(cdf, o.rsub(cdf, number=1)), x)
            slope = o.add(o.scale(o.mul(pdf, bend), number=2), o.scale(curve, number=12 * _K * _C))
        return o.mul(o.mul(gg, g), o.add(o.scale(pdf, number=2), o.mul(x, slope)))


_C = 0.044715
_K = math.sqrt(2 / math.pi)


@composite
def normal_cdf(o, x, approximate):
    """The normal distribution function c at x, or (1 + tanh u) / 2, u = k (x + C x^3)."""
    if approximate == "none":
        return o.scale(o.shift(o.erf(o.scale(x, number=1 / math.sqrt(2))), number=1), number=0.5)
    cube = o.scale(o.mul(o.mul(x, x), x), number=_C)
    return o.scale(o.shift(o.tanh(o.scale(o.add(x, cube), number=_K)), number=1), number=0.5)


@composite
def normal_pdf(o, x, cdf, approximate):
    """The derivative of normal_cdf: the density, or 2 c (1 - c) u'."""
    if approximate == "none":
        bell = o.exp(o.scale(o.mul(x, x), number=-0.5))
        return o.scale(bell, number=1 / math.sqrt(2 * math.pi))
    return o.scale(o.mul(o.mul(cdf, o.rsub(cdf, number=1)), o.inner_slope(x)), number=2)


@composite
def inner_slope(o, x):
    """u' = k (1 + 3 C x^2)"""
    return o.scale(o.shift(o.scale(o.mul(x, x), number=3 * _C), number=1), number=_K)


@op("GluBackward0")
class glu:
    """The first half of x along dim times the sigmoid of the second."""
    def forward(be, x, *, dim):
        if x.dtype in HALF:
            return be.in_float32(glu, x, dim=dim)
        a, b = be.xp.split(x, 2, dim)
        y = sigmoid.spec.forward(be, b)
        y *= a
        return y
    def cuda(be, x, *, dim):
        if not be.takes(x.dtype):
            return NotImplemented
        y = be.empty(halved(x, dim), x.dtype)
        be.kernels.each("activation", "glu", x.dtype, y.size, (be._dense(x), y), behind(y, dim))
        return y
    def grad_x(o, g, x, dim):
        return o.glu_backward(g, x, dim=dim)


@op("GluBackwardBackward0")
class glu_backward:
    """g * s and g * a * s * (1 - s) one after the other; a, b: the halves of x; s = sigmoid(b)."""
    def forward(be, g, x, *, dim):
        if g.dtype in HALF:
            return be.in_float32(glu_backward, g, x, dim=dim)
        a, b = be.xp.split(x, 2, dim)
        out = be.empty(x.shape, x.dtype)
        first, second = be.xp.split(out, 2, dim)
        s = sigmoid.spec.forward(be, b)
        slope = be.asarray(be.number[1, x.dtype] - s)
        s *= g
        first[...] = s
        slope *= s
        be.xp.multiply(slope, a, out=second)
        return out
    def cuda(be, g, x, *, dim):
        if not be.takes(x.dtype) or g.dtype != x.dtype:
            return NotImplemented
        out = be.empty(x.shape, x.dtype)
        be.kernels.each("activation", "glu_backward", x.dtype, g.size,
                        (be._dense(g), be._dense(x), out), behind(g, dim))
        return out
    def grad_g(o, gg, x, dim):
        a, b = o.halves(x, dim)
        first, second = o.halves(gg, dim)
        s = o.sigmoid(b)
        return o.add(o.mul(first, s), o.sigmoid_backward(o.mul(second, a), s))
    def grad_x(o, gg, g, x, dim):
        a, b = o.halves(x, dim)
        first, second = o.halves(gg, dim)
        s = o.sigmoid(b)
        bend = o.mul(o.mul(second, a), o.rsub(o.scale(s, number=2), number=1))
        return o.cat(o.sigmoid_backward(o.mul(second, g), s),
                     o.sigmoid_backward(o.mul(g, o.add(first, bend)), s), dim=dim)


@composite
def halves(o, x, dim):
    """The first and the second half along dim."""
    n = x.shape[dim]
    return o.slice_(x, dim=dim, start=0, stop=n // 2), o.slice_(x, dim=dim, start=n // 2, stop=n)


def halved(x, dim):
    """The shape of half of x along dim."""
    return (*x.shape[:dim], x.shape[dim] // 2, *x.shape[dim + 1:])


def behind(y, dim):
    """For kernels, how many elements of y there are for each index before dim."""
    return np.int64(math.prod(y.shape[dim:]))
