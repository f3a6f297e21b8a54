"""Parts of a number: its sign, fraction, mantissa; the number next to it; what replaces NaN."""
from __future__ import annotations

import numpy as np

from gpugrad import dtypes
from gpugrad.autograd.conjugate import is_complex
from gpugrad.autograd.op import op
from gpugrad.autograd.rules import g_dtype


@op("CopysignBackward0", promote="float", inplace=True)
class copysign:
    """The magnitude of x with the sign of y. The gradient is 0 where x is."""
    ufunc = "copysign"
    def grad_x(o, g, x, result):
        return o.mul(g, o.mul(o.sign(x), o.sign(result)))
    def grad_y(o, g):
        return o.zeros_like(g)


@op()
class signbit:
    """Is the sign negative? That of -0.0 is."""
    def forward(be, x):
        if x.dtype.kind == "c":
            raise NotImplementedError("signbit is not implemented for complex tensors.")
        if x.dtype.kind in "iub":
            return be.asarray(x < be.number[0, x.dtype])
        return be.xp.signbit(x)


@op("SgnBackward0", inplace=True, holomorphic=False)
class sgn:
    """x / |x|, and 0 at 0. Of real numbers the gradient is 0."""
    def forward(be, x):
        if x.dtype.kind != "c":
            return be.raw.sign(x)
        size = be.xp.absolute(x)
        zero = size == 0
        return be.xp.where(zero, be.number[0, x.dtype],
                           x / be.xp.where(zero, be.number[1, size.dtype], size))
    def grad_x(o, g, x):
        if not is_complex(x):
            return o.zeros_like(g)
        size, direction = o.abs(x), o.sgn(x)
        zero = o.eq(size, 0)
        share = o.div(g, o.add(size, o.to(zero, dtype=g_dtype(size))))
        along = o.real(o.mul(share, o.conj_physical(direction)))
        return o.drop_where(o.sub(share, o.mul(direction, along)), zero)


@op("FracBackward0", inplace=True)
class frac:
    """x - trunc(x)"""
    def forward(be, x):
        if x.dtype.kind not in dtypes.FLOATING:
            raise NotImplementedError("\"frac_cpu\" not implemented for "
                                      f"'{dtypes.type_name(x.dtype)}'")
        return x - be.xp.trunc(x)
    def grad_x(o, g):
        return g


@op("FrexpBackward0", outputs=2, diff=1)
class frexp:
    """(mantissa in [0.5, 1), exponent) whose value mantissa * 2 ** exponent is x."""
    def forward(be, x):
        mantissa, exponent = be.xp.frexp(x)
        return be.asarray(mantissa), be.asarray(exponent).astype(np.int32, copy=False)
    def grad_x(o, g, x_dtype, result1):
        return o.mul(g, o.exp2(o.neg(o.to(result1, dtype=x_dtype))))


@op("NotImplemented", fit=True, inplace=True)
class heaviside:
    """0 below 0, 1 above, y at 0. As in PyTorch, backward through it is an error."""
    def forward(be, x, y):
        zero, one = be.number[0, x.dtype], be.number[1, x.dtype]
        return be.xp.where(x == zero, y, be.xp.where(x > zero, one, zero))
    def grad_x(o, g):
        raise RuntimeError("derivative for aten::heaviside is not implemented: detach() its "
                           "arguments")
    grad_y = grad_x


@op("NextafterBackward0", promote=True, inplace=True)
class nextafter:
    """The number of this dtype that follows x in the direction of y, which has the gradient 0."""
    ufunc = "nextafter"
    def grad_x(o, g, x, y):
        return o.drop_where(g, o.eq(x, y))
    def grad_y(o, g):
        return o.zeros_like(g)


@op("FmaxBackward0", promote=True)
class fmax:
    """The larger of two; a number where the other is NaN. Where they are equal x gets g."""
    ufunc = "fmax"
    def grad_x(o, g, x, y):
        return o.keep_where(g, o.logical_or(o.ge(x, y), o.isnan(y)))
    def grad_y(o, g, x, y):
        return o.drop_where(g, o.logical_or(o.ge(x, y), o.isnan(y)))


@op("FminBackward0", promote=True)
class fmin:
    """The smaller of two; a number where the other is NaN. Where they are equal x gets g."""
    ufunc = "fmin"
    def grad_x(o, g, x, y):
        return o.keep_where(g, o.logical_or(o.le(x, y), o.isnan(y)))
    def grad_y(o, g, x, y):
        return o.drop_where(g, o.logical_or(o.le(x, y), o.isnan(y)))


@op("NanToNumBackward0", inplace=True)
class nan_to_num:
    """Numbers in place of NaN and of the infinities. None: 0, and the dtype's largest numbers."""
    def forward(be, x, *, nan=None, posinf=None, neginf=None):
        kind = x.dtype.kind
        if kind in "iub":
            return be.copy(x)
        if kind == "c":
            out = be.copy(x)
            for part in (out.real, out.imag):
                part[...] = nan_to_num.spec.forward(be, part, nan=nan, posinf=posinf,
                                                    neginf=neginf)
            return out
        most = dtypes.largest(x.dtype)
        low, high = be.number[-most, x.dtype], be.number[most, x.dtype]
        xp, n = be.xp, be.number
        out = xp.where(x > high, high if posinf is None else n[posinf, x.dtype], x)
        out = xp.where(x < low, low if neginf is None else n[neginf, x.dtype], out)
        return xp.where(xp.isnan(x), n[nan or 0, x.dtype], out)
    def grad_x(o, g, x):
        return o.keep_where(g, o.isfinite(x))


@op(promote=True, inplace=True)
class gcd:
    """The greatest common divisor of integers, never negative but for the least number's own."""
    binary, ufunc = True, "gcd"


@op(promote=True, inplace=True)
class lcm:
    """The least common multiple of integers; it wraps round where it doesn't fit."""
    binary, ufunc = True, "lcm"
