"""Powers of two, logarithms of sums, and products with logarithms."""
from __future__ import annotations

import math

import numpy as np

from gpugrad.autograd.op import op
from gpugrad.dtypes import HALF


@op("Exp2Backward0", promote="float", inplace=True)
class exp2:
    """2 to the power of x."""
    ufunc = "exp2"
    def grad_x(o, g, result):
        return o.scale(o.mul(g, result), number=math.log(2))


@op("LogaddexpBackward0", promote=True, inplace=True)
class logaddexp:
    """log(exp(x) + exp(y)) without overflow on the way."""
    ufunc = "logaddexp"
    def grad_x(o, g, x, y):
        return o.mul(g, o.sigmoid(o.sub(x, y)))
    def grad_y(o, g, x, y):
        return o.mul(g, o.sigmoid(o.sub(y, x)))


def complex_logaddexp(be, a, b):
    """log(exp(a) + exp(b)) of complex numbers, from the one of the larger real part."""
    first = a.real >= b.real
    high, low = be.xp.where(first, a, b), be.xp.where(first, b, a)
    with np.errstate(invalid="ignore"):
        out = high + be.xp.log1p(be.xp.exp(low - high))
    return be.xp.where(low.real == -math.inf, high, out)


@op("LogaddexpBackward0", promote=True, inplace=True)
class logaddexp_complex:
    """logaddexp of complex numbers."""
    binary = True
    def forward(be, x, y):
        return complex_logaddexp(be, x, y)
    def grad_x(o, g, x, result):
        return o.mul(g, o.exp(o.sub(x, result)))
    def grad_y(o, g, y, result):
        return o.mul(g, o.exp(o.sub(y, result)))


@op("Logaddexp2Backward0", promote=True, inplace=True)
class logaddexp2:
    """log2(2 ** x + 2 ** y) without overflow on the way."""
    ufunc = "logaddexp2"
    def grad_x(o, g, x, y):
        return o.mul(g, o.sigmoid(o.scale(o.sub(x, y), number=math.log(2))))
    def grad_y(o, g, x, y):
        return o.mul(g, o.sigmoid(o.scale(o.sub(y, x), number=math.log(2))))


@op("LdexpBackward0", inplace=True, promote="float")
class ldexp:
    """x * 2 ** y"""
    def forward(be, x, y):
        if x.dtype in HALF:
            return be.in_float32(ldexp, x, y)
        if x.dtype.kind == "c":
            return x * be.xp.exp2(y)
        half = be.xp.floor(y * be.number[0.5, y.dtype])      # 2 ** y alone might overflow
        return x * be.xp.exp2(half) * be.xp.exp2(y - half)
    def grad_x(o, g, y):
        return o.ldexp(g, y)
    def grad_y(o, g, result):
        return o.scale(o.mul(g, result), number=math.log(2))


def product_with_log(be, op, log, x, y):
    """x * log(y), but 0 where x is 0, unless y is NaN."""
    if x.dtype.kind == "c":
        raise NotImplementedError(f"\"{op.spec.name}_cpu\" not implemented for complex tensors: "
                                  f"multiply by the logarithm")
    if x.dtype in HALF:
        return be.in_float32(op, x, y)
    zero = be.xp.logical_and(x == 0, be.xp.equal(y, y))
    return be.xp.where(zero, be.number[0, x.dtype], x * log(y))


@op("XlogyBackward0", promote="float", inplace=True)
class xlogy:
    """x * log(y), but 0 where x is 0, unless y is NaN."""
    def forward(be, x, y):
        return product_with_log(be, xlogy, be.xp.log, x, y)
    def grad_x(o, g, x, y):
        gone = o.logical_and(o.eq(x, 0), o.le(y, 0))
        return o.drop_where(o.mul(g, o.log(y)), gone)
    def grad_y(o, g, x, y):
        return o.mul(g, o.div(x, y))


@op("SpecialXlog1PyBackward0", promote="float")
class xlog1py:
    """x * log(1 + y), but 0 where x is 0, unless y is NaN."""
    def forward(be, x, y):
        return product_with_log(be, xlog1py, be.xp.log1p, x, y)
    def grad_x(o, g, x, y):
        gone = o.logical_and(o.eq(x, 0), o.le(y, -1))
        return o.drop_where(o.mul(g, o.log1p(y)), gone)
    def grad_y(o, g, x, y):
        return o.mul(g, o.div(x, o.shift(y, number=1)))


@op("SpecialEntrBackward0", promote="float")
class entr:
    """-x log(x); 0 at 0, minus infinity below."""
    def forward(be, x):
        if x.dtype.kind == "c":
            raise NotImplementedError("\"special_entr\" not implemented for complex tensors")
        if x.dtype in HALF:
            return be.in_float32(entr, x)
        n = be.number
        zero = x == 0
        value = -x * be.xp.log(be.xp.where(zero, n[1, x.dtype], x))
        return be.xp.where(x < 0, n[-math.inf, x.dtype], be.xp.where(zero, n[0, x.dtype], value))
    def grad_x(o, g, x):
        return o.neg(o.mul(g, o.shift(o.log(x), number=1)))


@op("LogitBackward0", inplace=True)
class logit:
    """log(x / (1 - x)); x is first held between eps and 1 - eps, unless eps is None."""
    def forward(be, x, *, eps=None):
        if x.dtype.kind == "c":
            raise NotImplementedError("\"logit_cpu\" not implemented for complex tensors")
        if x.dtype in HALF:
            return be.in_float32(logit, x, eps=eps)
        xp, n = be.xp, be.number
        if eps is not None:
            low, high = n[eps, x.dtype], n[1 - eps, x.dtype]
            x = xp.where(x < low, low, xp.where(x > high, high, x))
        return xp.log(x / (n[1, x.dtype] - x))
    def grad_x(o, g, x, eps):
        slope = o.div(g, o.mul(x, o.rsub(x, number=1)))
        if eps is not None:
            return o.keep_within(slope, x, eps, 1 - eps)
        outside = o.logical_or(o.lt(x, 0), o.gt(x, 1))
        return o.where(outside, o.scale(o.zeros_like(slope), number=math.nan), slope)
