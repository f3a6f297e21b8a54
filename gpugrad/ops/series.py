"""How special functions are computed: in float64, from Chebyshev series and polynomials.

The coefficients in the files beside this one are the functions' own, interpolated at Chebyshev
nodes in 50 digits and cut off below half a unit in the last place: tests/recorded/make_series.py
prints them.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from gpugrad.dtypes import float64, type_name

DOUBLE = float64.np


def in_double(be: Any, f: Callable[..., Any], *arrays: Any) -> Any:
    """f(xp, *arrays), computed in float64 and rounded once to the arrays' dtype."""
    dtype = arrays[0].dtype
    if dtype.kind == "c":
        raise NotImplementedError(f"\"{f.__name__}\" not implemented for '{type_name(dtype)}': it "
                                  "takes real numbers")
    xp, step = be.xp, be.chunk // 8              # its dozens of passes then stay in the cache
    shape = arrays[0].shape if len(arrays) == 1 else xp.broadcast_shapes(*[a.shape for a in arrays])
    n = math.prod(shape)
    if n <= step:
        return be.asarray(f(xp, *[a.astype(DOUBLE, copy=False) for a in arrays])).astype(
            dtype, copy=False)
    flat = [xp.broadcast_to(a, shape).reshape(-1) for a in arrays]
    out = be.empty((n,), dtype)
    for i in range(0, n, step):
        out[i:i + step] = f(xp, *[a[i:i + step].astype(DOUBLE) for a in flat])
    return out.reshape(shape)


def chebyshev(coefficients: Sequence[float], t: Any) -> Any:
    """The sum of c[k] T_k(t) for t in [-1, 1] (Clenshaw, 1955)."""
    double = t + t
    b, before = coefficients[-1] + 0 * t, 0.0
    for c in coefficients[-2:0:-1]:
        after = double * b
        after -= before
        after += c
        b, before = after, b
    return t * b - before + coefficients[0]


def polynomial(coefficients: Sequence[float], x: Any) -> Any:
    """The sum of c[k] x ** k."""
    out = coefficients[-1] + 0 * x
    for c in coefficients[-2::-1]:
        out *= x
        out += c
    return out


def exp_of_square(xp: Any, x: Any, factor: float) -> Any:
    """exp(factor * x * x), without the error that rounding x * x would be magnified to."""
    x = xp.minimum(xp.absolute(x), 64.0)         # beyond it is 0 or infinite
    high = xp.floor(x * 128) / 128               # its square is exact
    return xp.exp(factor * high * high) * xp.exp(factor * (x - high) * (x + high))
