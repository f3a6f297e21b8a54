"""Trigonometric and hyperbolic functions, their inverses, and angles."""
from __future__ import annotations

import math

from gpugrad.autograd.conjugate import is_complex
from gpugrad.autograd.op import composite, op
from gpugrad.dtypes import HALF
from gpugrad.ops.elementwise import once_rounded


@op("TanBackward0", promote="float", inplace=True)
class tan:
    ufunc = "tan"
    def grad_x(o, g, result):
        return o.mul(g, o.shift(o.mul(result, result), number=1))


@op("AsinBackward0", promote="float", inplace=True)
class asin:
    ufunc = "arcsin"
    def grad_x(o, g, x):
        return o.mul(g, o.rsqrt(o.rsub(o.mul(x, x), number=1)))


@op("AcosBackward0", promote="float", inplace=True)
class acos:
    ufunc = "arccos"
    def grad_x(o, g, x):
        return o.neg(o.mul(g, o.rsqrt(o.rsub(o.mul(x, x), number=1))))


@op("AtanBackward0", promote="float", inplace=True)
class atan:
    ufunc = "arctan"
    def grad_x(o, g, x):
        return o.div(g, o.shift(o.mul(x, x), number=1))


@op("Atan2Backward0", promote="float", inplace=True)
class atan2:
    """The angle of the point (y, x): of its first operand upwards and its second to the right."""
    ufunc = "arctan2"
    def grad_x(o, g, x, y):
        return o.over_square(o.mul(g, y), x, y)
    def grad_y(o, g, x, y):
        return o.neg(o.over_square(o.mul(g, x), x, y))


@composite
def over_square(o, g, x, y):
    """g / (x * x + y * y), and 0 at the origin."""
    square = o.add(o.mul(x, x), o.mul(y, y))
    return o.drop_where(o.div(g, square), o.eq(square, 0))


@op("HypotBackward0", promote=True, inplace=True)
class hypot:
    """sqrt(x * x + y * y) without overflow on the way."""
    ufunc = "hypot"
    def grad_x(o, g, x, result):
        return o.mul(g, o.div(x, result))
    def grad_y(o, g, y, result):
        return o.mul(g, o.div(y, result))


@op("SinhBackward0", promote="float", inplace=True)
class sinh:
    ufunc = "sinh"
    def grad_x(o, g, x):
        return o.mul(g, o.cosh(x))


@op("CoshBackward0", promote="float", inplace=True)
class cosh:
    ufunc = "cosh"
    def grad_x(o, g, x):
        return o.mul(g, o.sinh(x))


@op("AsinhBackward0", promote="float", inplace=True)
class asinh:
    ufunc = "arcsinh"
    def grad_x(o, g, x):
        return o.mul(g, o.rsqrt(o.shift(o.mul(x, x), number=1)))


@op("AcoshBackward0", promote="float", inplace=True)
class acosh:
    ufunc = "arccosh"
    def grad_x(o, g, x):
        if is_complex(x):                        # sqrt(z * z - 1) has another branch
            roots = o.mul(o.sqrt(o.shift(x, number=-1)), o.sqrt(o.shift(x, number=1)))
            return o.div(g, roots)
        return o.mul(g, o.rsqrt(o.shift(o.mul(x, x), number=-1)))


@op("AtanhBackward0", promote="float", inplace=True)
class atanh:
    ufunc = "arctanh"
    def grad_x(o, g, x):
        return o.div(g, o.rsub(o.mul(x, x), number=1))


@op("SincBackward0", promote="float", inplace=True)
class sinc:
    """sin(pi x) / (pi x), and 1 at 0."""
    def forward(be, x):
        if x.dtype in HALF:
            return be.in_float32(sinc, x)
        one = be.number[1, x.dtype]
        zero = x == 0
        angle = be.xp.where(zero, one, x * be.number[math.pi, x.dtype])
        return be.xp.where(zero, one, be.xp.sin(angle) / angle)
    def grad_x(o, g, x, result):
        bend = o.div(o.sub(o.cos(o.scale(x, number=math.pi)), result), x)
        return o.mul(g, o.drop_where(bend, o.eq(x, 0)))


def times(be, x, number):
    """x times a number, rounded once."""
    if x.dtype in HALF:
        return once_rounded(be, be.xp.multiply, x, number)
    if x.dtype.kind == "c":
        raise RuntimeError("deg2rad and rad2deg are not supported for complex tensors: multiply by "
                           "pi / 180 or 180 / pi")
    return be.xp.multiply(x, be.number[number, x.dtype])


@op("Deg2RadBackward0", promote="float", inplace=True)
class deg2rad:
    """Degrees to radians."""
    def forward(be, x):
        return times(be, x, math.pi / 180)
    def grad_x(o, g):
        return o.scale(g, number=math.pi / 180)


@op("Rad2DegBackward0", promote="float", inplace=True)
class rad2deg:
    """Radians to degrees."""
    def forward(be, x):
        return times(be, x, 180 / math.pi)
    def grad_x(o, g):
        return o.scale(g, number=180 / math.pi)
