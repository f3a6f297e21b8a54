"""Complex numbers: made of real ones, and taken apart. None of it has a complex derivative."""
from __future__ import annotations

import math

from gpugrad import dtypes
from gpugrad.autograd.conjugate import complex_gradients_ahead, is_complex
from gpugrad.autograd.op import composite, op

# Making them -------------------------------------------------------------------------------------


def of_parts(be, real, imag):
    """real + i imag, broadcast."""
    complex_gradients_ahead()
    out = be.empty(be.xp.broadcast_shapes(real.shape, imag.shape),
                   dtypes.OF[real.dtype].to_complex().np)
    out.real[...] = real
    out.imag[...] = imag
    return out


@op("ComplexBackward0", fit=True, holomorphic=False)
class complex:
    """real + i imag"""
    def forward(be, real, imag):
        return of_parts(be, real, imag)
    def grad_real(o, g):
        return o.real(g)
    def grad_imag(o, g):
        return o.imag(g)


@op("PolarBackward0", fit=True, holomorphic=False)
class polar:
    """abs (cos(angle) + i sin(angle))"""
    def forward(be, abs, angle):
        return of_parts(be, abs * be.xp.cos(angle), abs * be.xp.sin(angle))
    def grad_abs(o, g, angle):
        return o.add(o.mul(o.real(g), o.cos(angle)), o.mul(o.imag(g), o.sin(angle)))
    def grad_angle(o, g, abs, angle):
        turned = o.sub(o.mul(o.imag(g), o.cos(angle)), o.mul(o.real(g), o.sin(angle)))
        return o.mul(abs, turned)


@composite
def without_real_part(o, g):
    """i g, for real numbers g."""
    return o.complex(o.zeros_like(g), g)


# Taking them apart -------------------------------------------------------------------------------


@op("RealBackward0", view=True, holomorphic=False)
class real:
    """A view of the real parts."""
    def forward(be, x):
        return x.real
    def grad_x(o, g):
        return o.complex(g, o.zeros_like(g))


@op("ImagBackward0", view=True, holomorphic=False)
class imag:
    """A view of the imaginary parts."""
    def forward(be, x):
        return x.imag
    def grad_x(o, g):
        return o.without_real_part(g)


@op("ViewAsRealBackward0", view=True, holomorphic=False)
class view_as_real:
    """A view of complex numbers as pairs of real ones, in a last dim."""
    def forward(be, x):
        part = x.real
        return be.xp.lib.stride_tricks.as_strided(part, (*x.shape, 2),
                                                  (*part.strides, part.dtype.itemsize))
    def grad_x(o, g):
        last = len(g.shape) - 1
        return o.complex(o.select(g, dim=last, index=0), o.select(g, dim=last, index=1))


@op("ViewAsComplexBackward0", view=True, holomorphic=False)
class view_as_complex:
    """A view of pairs of real numbers, in a last dim, as complex ones."""
    def forward(be, x):
        complex_gradients_ahead()
        if x.strides[-1] != x.dtype.itemsize:    # a gradient; the function's inputs are checked
            x = be.copy(x)
        return x.view("c8" if x.dtype.itemsize == 4 else "c16")[..., 0]
    def grad_x(o, g):
        return o.stack(o.real(g), o.imag(g), dim=len(g.shape))


@op("ConjBackward0", inplace=True, holomorphic=False)
class conj_physical:
    """The conjugates, in new memory."""
    def forward(be, x):
        return be.xp.conjugate(x) if x.dtype.kind == "c" else be.copy(x)
    def grad_x(o, g):
        return o.conj_physical(g)


@op("AngleBackward0", promote="float", holomorphic=False)
class angle:
    """The angle of a complex number; of a real one 0 or pi, with gradient 0."""
    def forward(be, x):
        if x.dtype.kind == "c":
            return be.xp.arctan2(x.imag, x.real)
        n = be.number
        turned = be.xp.where(x < n[0, x.dtype], n[math.pi, x.dtype], n[0, x.dtype])
        return be.xp.where(be.xp.isnan(x), x, turned)
    def grad_x(o, g, x):
        if not is_complex(x):
            return o.zeros_like(g)
        zero = o.eq(x, 0)
        slope = o.without_real_part(o.div(g, o.where(zero, o.shift(o.zeros_like(g), number=1),
                                                     o.pow_number(o.abs(x), exponent=2))))
        return o.drop_where(o.mul(slope, x), zero)
