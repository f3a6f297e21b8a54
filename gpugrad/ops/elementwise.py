"""Arithmetic and functions of one element."""
from __future__ import annotations

import builtins
import cmath
import math

from gpugrad.autograd.conjugate import complex_gradients_ahead, is_complex
from gpugrad.autograd.op import composite, op
from gpugrad.backend.base import MANY
from gpugrad.dtypes import HALF, float32

# What rules need ---------------------------------------------------------------------------------


@composite
def sum_to(o, g, shape):
    """Undo broadcasting: sum g down to ``shape``, whose dims that g lacks are 1."""
    have = g.shape
    extra = len(have) - len(shape)
    if extra < 0:
        return o.reshape(o.sum_to(g, shape[-extra:]), shape)
    if have[extra:] == shape:
        return o.sum(g, dim=tuple(range(extra)))
    dims = tuple(range(extra)) + tuple([
        i + extra for i, n in enumerate(shape) if n == 1 and have[i + extra] != 1])
    return o.reshape(o.sum(g, dim=dims, keepdim=False) if dims else g, shape)


@op()
class zeros_like:
    def forward(be, x):
        return be.xp.zeros(x.shape, x.dtype)


@op()
class new_zeros:
    """Zeros of ``shape``, in the dtype and on the device of x."""
    def forward(be, x, *, shape):
        return be.xp.zeros(shape, x.dtype)


def between_complex(be, x, dtype):
    """x from or to a complex dtype: real parts, or whether it isn't 0."""
    if dtype.kind == "c":
        complex_gradients_ahead()
        return x.astype(dtype)
    return x != be.number[0, x.dtype] if dtype.kind == "b" else x.real.astype(dtype)


@op("ToCopyBackward0")
class to:
    """x in another dtype."""
    def forward(be, x, *, dtype):
        if "c" in (x.dtype.kind, dtype.kind):
            return between_complex(be, x, dtype)
        return x.astype(dtype)
    def grad_x(o, g, x_dtype):
        return o.to(g, dtype=x_dtype)


@op("CloneBackward0")
class clone:
    """A copy that keeps the order of the dims in memory, as far as they don't overlap."""
    def forward(be, x):
        overlapping = 0 in x.strides and any(
            s == 0 and n > 1 for s, n in zip(x.strides, x.shape))
        return be.copy(x) if overlapping else be.xp.array(x, order="K")
    def grad_x(o, g):
        return g


@op("CloneBackward0")
class clone_in_order:
    """A copy in C order."""
    def forward(be, x):
        return be.copy(x)
    def grad_x(o, g):
        return g


@op("AliasBackward0", view=True)
class alias:
    """A view of all of x."""
    def forward(be, x):
        return x.view()
    def grad_x(o, g):
        return g


@op("CopyBackwards", fit=True, inplace=True)
class copy:
    """y in the shape and dtype of x, whose values don't matter."""
    def forward(be, x, y):
        return be.expand(y.astype(x.dtype, copy=False), x.shape)
    def grad_x(o, g):
        return o.zeros_like(g)
    def grad_y(o, g):
        return g


@op("FillBackward0", inplace=True)
class fill:
    """A number everywhere."""
    def forward(be, x, *, value):
        return be.xp.full(x.shape, value, x.dtype)
    def grad_x(o, g):
        return o.zeros_like(g)


# Arithmetic --------------------------------------------------------------------------------------


@op("AddBackward0", promote=True, inplace=True)
class add:
    ufunc = "add"
    def grad_x(o, g):
        return g
    def grad_y(o, g):
        return g


@op("SubBackward0", promote=True, inplace=True)
class sub:
    ufunc = "subtract"
    def grad_x(o, g):
        return g
    def grad_y(o, g):
        return o.neg(g)


@op("MulBackward0", promote=True, inplace=True)
class mul:
    ufunc, by_number = "multiply", "scale"
    def grad_x(o, g, y):
        return o.mul(g, y)
    def grad_y(o, g, x):
        return o.mul(g, x)


@op("DivBackward0", promote="float", inplace=True)
class div:
    ufunc, by_number = "divide", "divide_by"
    def grad_x(o, g, y):
        return o.div(g, y)
    def grad_y(o, g, x, y):
        return o.neg(o.mul(g, o.div(o.div(x, y), y)))


@op("NotImplemented", promote=True, inplace=True)
class floor_divide:
    """x / y rounded towards minus infinity. As in PyTorch, backward through it is an error."""
    ufunc = "floor_divide"
    def grad_x(o, g):
        raise RuntimeError("derivative for aten::floor_divide is not implemented: use "
                           "torch.div(x, y, rounding_mode='floor'), whose gradient is 0")
    grad_y = grad_x


@op("DivBackward2", promote=True, inplace=True)
class div_floor:
    """x / y rounded towards minus infinity. The gradient is 0."""
    ufunc = "floor_divide"
    def grad_x(o, g):
        return o.zeros_like(g)
    grad_y = grad_x


@op("DivBackward2", promote=True, inplace=True)
class div_trunc:
    """x / y rounded towards 0. The gradient is 0."""
    def forward(be, x, y):
        if x.dtype in HALF:
            return be.in_float32(div_trunc, x, y)
        if x.dtype.kind in "iu":
            return (x - be.xp.fmod(x, y)) // y
        return be.xp.trunc(be.xp.divide(x, y))
    def grad_x(o, g):
        return o.zeros_like(g)
    grad_y = grad_x


@op("RemainderBackward0", promote=True, inplace=True)
class remainder:
    """x - y * floor(x / y): the sign of y; but 0 has that of x, as in PyTorch."""
    def forward(be, x, y):
        if x.dtype.kind in "iu":
            return be.xp.remainder(x, y)
        if x.dtype in HALF:
            return be.in_float32(remainder, x, y)
        rest, zero = be.xp.fmod(x, y), be.number[0, x.dtype]
        other = ((y < zero) != (rest < zero)) & (rest != zero)
        return be.xp.where(other, rest + y, rest)
    def grad_x(o, g):
        return g
    def grad_y(o, g, x, y):
        return o.neg(o.mul(g, o.div_floor(x, y)))


@op("FmodBackward0", promote=True, inplace=True)
class fmod:
    """x - y * trunc(x / y): the sign of x."""
    ufunc = "fmod"
    def grad_x(o, g):
        return g
    def grad_y(o, g, x, y):
        return o.neg(o.mul(g, o.div_trunc(x, y)))


@op("AddcmulBackward0", fit=True, inplace=True)
class addcmul:
    """x + value * a * b"""
    def forward(be, x, a, b, *, value=1):
        if x.dtype in HALF:
            return be.in_float32(addcmul, x, a, b, value=value)
        return be.xp.add(x, be.xp.multiply(be.xp.multiply(be.number[value, x.dtype], a), b))
    def grad_x(o, g):
        return g
    def grad_a(o, g, b, value):
        return o.scale(o.mul(g, b), number=value)
    def grad_b(o, g, a, value):
        return o.scale(o.mul(g, a), number=value)


@op("AddcdivBackward0", fit=True, inplace=True)
class addcdiv:
    """x + value * a / b"""
    def forward(be, x, a, b, *, value=1):
        if x.dtype in HALF:
            return be.in_float32(addcdiv, x, a, b, value=value)
        return be.xp.add(x, be.xp.multiply(be.number[value, x.dtype], be.xp.divide(a, b)))
    def grad_x(o, g):
        return g
    def grad_a(o, g, b, value):
        return o.scale(o.div(g, b), number=value)
    def grad_b(o, g, a, b, value):
        return o.scale(o.mul(g, o.div(o.div(a, b), b)), number=-value)


@op("LerpBackward1", fit=True, inplace=True)
class lerp:
    """x + weight * (end - x), exact at both ends."""
    def forward(be, x, end, weight):
        if x.dtype in HALF:
            return be.in_float32(lerp, x, end, weight)
        xp, number = be.xp, be.number
        step = xp.subtract(end, x)
        return xp.where(xp.absolute(weight) < number[0.5, x.dtype],
                        xp.add(x, xp.multiply(weight, step)),
                        xp.subtract(end, xp.multiply(step, number[1, x.dtype] - weight)))
    def grad_x(o, g, weight):
        return o.mul(g, o.rsub(weight, number=1))
    def grad_end(o, g, weight):
        return o.mul(g, weight)
    def grad_weight(o, g, x, end):
        return o.mul(g, o.sub(end, x))


@op("LerpBackward0", fit=True, inplace=True)
class lerp_number:
    """lerp with a number as the weight."""
    def forward(be, x, end, *, weight):
        if x.dtype in HALF:
            return be.in_float32(lerp_number, x, end, weight=weight)
        return lerp.spec.forward(be, x, end, be.number[weight, x.dtype])
    def grad_x(o, g, weight):
        return o.scale(g, number=1 - weight)
    def grad_end(o, g, weight):
        return o.scale(g, number=weight)


# A number and a tensor, for rules: the same at both levels.

def once_rounded(be, ufunc, x, number):
    """A ufunc of x, of 16 bits, and of a number that isn't rounded to 16 bits."""
    return ufunc(x, be.number[number, float32.np], out=be.empty(x.shape, x.dtype),
                 casting="same_kind")


@op("MulBackward0", inplace=True)
class scale:
    """x times a number."""
    def forward(be, x, *, number):
        dtype = x.dtype
        if dtype in HALF:
            return once_rounded(be, be.xp.multiply, x, number)
        return be.xp.multiply(x, be.number[number, dtype])
    def grad_x(o, g, number):
        return o.scale(g, number=number)


@op("DivBackward0", inplace=True)
class divide_by:
    """x over a number."""
    def forward(be, x, *, number):
        dtype = x.dtype
        if dtype in HALF:
            return once_rounded(be, be.xp.divide, x, number)
        return be.xp.divide(x, be.number[number, dtype])
    def grad_x(o, g, number):
        return o.divide_by(g, number=number)


@op("AddBackward0")
class shift:
    """x plus a number."""
    def forward(be, x, *, number):
        return be.xp.add(x, be.number[number, x.dtype])
    def grad_x(o, g):
        return g


@op("RsubBackward1")
class rsub:
    """A number minus x."""
    def forward(be, x, *, number):
        return be.xp.subtract(be.number[number, x.dtype], x)
    def grad_x(o, g):
        return o.neg(g)


# Powers ------------------------------------------------------------------------------------------


def raise_to(be, x, y):
    """x to the power of y; of integers, a negative power is 0 save for 1 and -1, as in C."""
    xp = be.xp
    if x.dtype.kind != "i":
        return xp.power(x, y)
    inverse = xp.power(x, y & 1) * (xp.absolute(x) == 1)
    return xp.where(y < 0, inverse, xp.power(x, xp.maximum(y, 0)))


@op("PowBackward0", inplace=True)
class pow_number:
    """x to the power of a number."""
    def forward(be, x, *, exponent):
        xp = be.xp
        if exponent == 2:
            return xp.square(x)
        if exponent == 3:                       # NumPy's power is 30 times slower than two products
            return xp.multiply(xp.square(x), x)
        if exponent == 0.5:
            return xp.sqrt(x)
        if exponent == -1:
            return xp.reciprocal(x)
        if exponent in (-0.5, -2):
            return xp.reciprocal(xp.sqrt(x) if exponent == -0.5 else xp.square(x))
        return xp.power(x, be.number[exponent, x.dtype])
    def grad_x(o, g, x, exponent):
        if exponent == 0:
            return o.zeros_like(g)
        return o.mul(g, o.scale(o.pow_number(x, exponent=exponent - 1), number=exponent))


@composite
def not_negative(o, y):
    """Is y a real number, and not below 0?"""
    if not is_complex(y):
        return o.ge(y, 0)
    return o.logical_and(o.ge(o.real(y), 0), o.eq(o.imag(y), 0))


@op("PowBackward1", promote=True, inplace=True)
class pow:
    """x to the power of y."""
    def forward(be, x, y):
        return raise_to(be, x, y)
    def grad_x(o, g, x, y):
        part = o.mul(y, o.pow(x, o.shift(y, number=-1)))
        return o.mul(g, o.drop_where(part, o.eq(y, 0)))
    def grad_y(o, g, x, y, result):
        zero = o.logical_and(o.eq(x, 0), o.not_negative(y))  # 0 ** y is 0 all around y
        safe = o.where(zero, o.shift(o.zeros_like(x), number=1), x)
        return o.drop_where(o.mul(g, o.mul(result, o.log(safe))), zero)


@op("PowBackward2")
class rpow_number:
    """A number to the power of x."""
    def forward(be, x, *, base):
        return raise_to(be, be.number[base, x.dtype], x)
    def grad_x(o, g, result, base):
        if base == 0:                            # 0 ** x is 0 all around a positive x
            zero = o.zeros_like(result)
            return o.mul(g, o.where(o.le(result, 1), zero, o.shift(zero, number=-math.inf)))
        slope = cmath.log(base) if isinstance(base, builtins.complex) else \
            math.log(base) if base > 0 else math.nan
        return o.mul(g, o.scale(result, number=slope))


@op("ReciprocalBackward0", promote="float", inplace=True)
class reciprocal:
    ufunc = "reciprocal"
    def grad_x(o, g, result):
        return o.neg(o.mul(g, o.mul(result, result)))


@op("SqrtBackward0", promote="float", inplace=True)
class sqrt:
    ufunc = "sqrt"
    def grad_x(o, g, result):
        return o.div(g, o.scale(result, number=2))


@op("RsqrtBackward0", promote="float", inplace=True)
class rsqrt:
    """1 / sqrt(x)"""
    def forward(be, x):
        if x.dtype in HALF:
            return be.in_float32(rsqrt, x)
        return be.xp.reciprocal(be.xp.sqrt(x))
    def grad_x(o, g, result):
        return o.mul(o.scale(g, number=-0.5), o.pow_number(result, exponent=3))


# Functions ---------------------------------------------------------------------------------------


@op("NegBackward0", inplace=True)
class neg:
    ufunc = "negative"
    def grad_x(o, g):
        return o.neg(g)


@op("AbsBackward0", inplace=True, holomorphic=False)
class abs:
    ufunc = "absolute"
    def grad_x(o, g, x):
        return o.mul(g, o.sgn(x))


@op("SignBackward0", inplace=True)
class sign:
    """-1, 0 or 1; 0 for NaN. The gradient is 0."""
    def forward(be, x):
        if x.dtype.kind == "b":
            return be.copy(x)
        if x.dtype.kind == "c":
            raise NotImplementedError("Unlike NumPy, torch.sign is not intended to support complex "
                                      "numbers. Please use torch.sgn instead.")
        zero = be.number[0, x.dtype]
        return be.xp.subtract(x > zero, x < zero, dtype=x.dtype)
    def grad_x(o, g):
        return o.zeros_like(g)


def to_whole(be, x, rounding):
    """x rounded by a ufunc; integers, which NumPy might make floating, as they are."""
    if x.dtype.kind == "c":
        raise NotImplementedError(f"{rounding.__name__} is not supported for complex inputs: round "
                                  "the real and imaginary parts")
    if x.dtype.kind == "b":
        raise NotImplementedError(f"\"{rounding.__name__}_cpu\" not implemented for 'Bool'")
    return be.copy(x) if x.dtype.kind in "iub" else rounding(x)


@op("FloorBackward0", inplace=True)
class floor:
    def forward(be, x):
        return to_whole(be, x, be.xp.floor)
    def grad_x(o, g):
        return o.zeros_like(g)


@op("CeilBackward0", inplace=True)
class ceil:
    def forward(be, x):
        return to_whole(be, x, be.xp.ceil)
    def grad_x(o, g):
        return o.zeros_like(g)


@op("TruncBackward0", inplace=True)
class trunc:
    def forward(be, x):
        return to_whole(be, x, be.xp.trunc)
    def grad_x(o, g):
        return o.zeros_like(g)


@op("RoundBackward0", inplace=True)
class round:
    """To the nearest integer, halves to even."""
    def forward(be, x):
        return to_whole(be, x, be.xp.rint)
    def grad_x(o, g):
        return o.zeros_like(g)


@op("RoundBackward1", inplace=True)
class round_decimals:
    """To so many decimals, halves to even; negative ones are tens, hundreds and so on."""
    def forward(be, x, *, decimals):
        if x.dtype in HALF:
            return be.in_float32(round_decimals, x, decimals=decimals)
        ten = be.number[10.0 ** builtins.abs(decimals), x.dtype]
        if decimals < 0:
            return be.xp.rint(x / ten) * ten
        return be.xp.rint(x * ten) / ten
    def grad_x(o, g):
        return o.zeros_like(g)


@op("ExpBackward0", promote="float", inplace=True)
class exp:
    ufunc = "exp"
    def grad_x(o, g, result):
        return o.mul(g, result)


@op("Expm1Backward0", promote="float", inplace=True)
class expm1:
    """exp(x) - 1, exact near 0."""
    ufunc = "expm1"
    def grad_x(o, g, result):
        return o.mul(g, o.shift(result, number=1))


@op("LogBackward0", promote="float", inplace=True)
class log:
    ufunc = "log"
    def grad_x(o, g, x):
        return o.div(g, x)


@op("Log1PBackward0", promote="float", inplace=True)
class log1p:
    """log(1 + x), exact near 0."""
    ufunc = "log1p"
    def grad_x(o, g, x):
        return o.div(g, o.shift(x, number=1))


@op("Log2Backward0", promote="float", inplace=True)
class log2:
    ufunc = "log2"
    def grad_x(o, g, x):
        return o.div(g, o.scale(x, number=0.6931471805599453))


@op("Log10Backward0", promote="float", inplace=True)
class log10:
    ufunc = "log10"
    def grad_x(o, g, x):
        return o.div(g, o.scale(x, number=2.302585092994046))


@op("SinBackward0", promote="float", inplace=True)
class sin:
    ufunc = "sin"
    def grad_x(o, g, x):
        return o.mul(g, o.cos(x))


@op("CosBackward0", promote="float", inplace=True)
class cos:
    ufunc = "cos"
    def grad_x(o, g, x):
        return o.neg(o.mul(g, o.sin(x)))


@op("TanhBackward0", promote="float", inplace=True)
class tanh:
    ufunc = "tanh"
    def grad_x(o, g, result):
        return o.tanh_backward(g, result)


@op("TanhBackwardBackward0")
class tanh_backward:
    """g * (1 - y * y)"""
    def forward(be, g, y):
        if g.dtype in HALF:
            return be.in_float32(tanh_backward, g, y)
        if y.size > MANY and (out := be.helped("tanh_backward", g, y)) is not NotImplemented:
            return out
        return g * (be.number[1, y.dtype] - y * y)
    def cuda(be, g, y):
        return be.map("activation", "tanh_backward", g, y)
    def grad_g(o, gg, y):
        return o.tanh_backward(gg, y)
    def grad_y(o, gg, g, y):
        return o.scale(o.mul(o.mul(gg, g), y), number=-2)


@op("ErfBackward0", promote="float", inplace=True)
class erf:
    """The error function."""
    def forward(be, x):
        if x.dtype.kind == "c":
            raise NotImplementedError("\"erf\" not implemented for complex tensors: it takes real "
                                      "numbers")
        return be.erf(x)
    def grad_x(o, g, x):
        bell = o.exp(o.neg(o.mul(x, x)))
        return o.mul(g, o.scale(bell, number=1.1283791670955126))       # 2 / sqrt(pi)
