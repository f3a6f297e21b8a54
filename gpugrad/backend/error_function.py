"""The error function of float32 arrays on the CPU, which NumPy doesn't have, and GELU by it."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

# erf(x) / x is TOP(z) / BOTTOM(z) with z = x * x, to 2e-9 of its value for |x| <= 4, where erf is 1
# in float32: a least-squares fit at 20,000 points, its weights raised where the error was large.
TOP = (
    1.128379169352e+00, 1.852063865448e-01, 5.431697054973e-02, 3.849694703173e-03,
    3.795955320542e-04, 4.684343120792e-06, -1.320019802593e-08)
BOTTOM = (
    1.0,
    4.974682999838e-01, 1.139594050302e-01, 1.546220944771e-02, 1.307568995252e-03,
    6.310649162439e-05, 0.0)
END = 4.0
FEW = 160           # elements for which math.erf one by one is as fast
CHUNK = 8192        # how many float64 stay in a core's fastest cache, four times


def erf(x: Any) -> Any:
    """erf of each element, in the dtype of x: rounded correctly but for one in some hundreds."""
    if x.dtype != np.float32 or x.size <= FEW:
        return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), x.dtype)
    from gpugrad.backend.compiled import for_floats

    flat = np.ascontiguousarray(x).reshape(-1)
    out, c = np.empty_like(flat), for_floats(flat)
    if c is not None:
        c.error_function(flat, np.array([TOP, BOTTOM]), END, out)
        return out.reshape(x.shape)
    for i in range(0, flat.size, CHUNK):
        part = flat[i:i + CHUNK].astype(np.float64)
        np.maximum(part, -END, out=part)
        np.minimum(part, END, out=part)
        z = part * part
        part *= _polynomial(TOP, z)
        part /= _polynomial(BOTTOM, z)
        out[i:i + CHUNK] = part
    return out.reshape(x.shape)


def _polynomial(coefficients: tuple[float, ...], z: Any) -> Any:
    """The sum of coefficients[i] * z ** i."""
    value = z * coefficients[-1]
    for c in coefficients[-2:0:-1]:
        value += c
        value *= z
    value += coefficients[0]
    return value


# The normal distribution function at x is 1 / (1 + exp(-x p(x x))): the polynomial p's coefficients
# to 3e-8 of its value, from least squares as above, and the end up to which x x counts in it. The
# tail then is right to 1e-8.
NORMAL = np.array([1.59576988, 0.0726661691, -6.51899508e-05, -0.000110612388, 7.92948886e-06,
                   -2.64526682e-07, 3.51234157e-09, 31.36], np.float32)
# The same of (1 + tanh(k (x + 0.044715 x^3))) / 2, k = sqrt(2 / pi), exactly.
NEARLY = np.array([2 * math.sqrt(2 / math.pi), 0.08943 * math.sqrt(2 / math.pi)], np.float32)
PART = 1 << 17                  # shorter calls would have threads wait for the interpreter's lock
ONE, HALF, BELL = (np.array(v, np.float32) for v in (1, -0.5, 1 / math.sqrt(2 * math.pi)))


def gelu(be: Any, x: Any, coefficients: Any) -> Any:
    """x times the normal distribution function, or nearly so: float32, in x's memory order."""
    out = np.empty_like(x)

    def work(part: Any) -> None:
        a, y = part
        _odds(a, coefficients, be.workspace("gelu", a.shape, a.dtype), y)
        y += ONE
        np.divide(a, y, out=y)

    be.share(work, _parts(x, out), x.size * be.element_cost)
    return out


def gelu_slope(be: Any, g: Any, x: Any, coefficients: Any) -> Any:
    """g times the derivative of gelu, laid out like x."""
    out = np.empty_like(x)

    def work(part: Any) -> None:
        slope, a, y = part
        z = be.workspace("gelu", a.shape, a.dtype)
        _odds(a, coefficients, z, y)
        y += ONE
        np.reciprocal(y, out=y)                 # the function c
        np.multiply(a, a, out=z)
        if len(coefficients) > 2:               # c + x times the density
            z *= HALF
            np.exp(z, out=z)
            z *= BELL
        else:                                   # c + x c (1 - c) u'
            k, cube = coefficients[0, None], 3 * coefficients[1, None]
            z *= cube
            z += k
            z *= y
            z *= ONE - y
        z *= a
        y += z
        y *= slope

    be.share(work, _parts(g, x, out), x.size * be.element_cost)
    return out


def _odds(x: Any, coefficients: Any, z: Any, out: Any) -> None:
    """exp(-x p(x x)) to out; z is lost."""
    c = [np.negative(v) for v in coefficients[:, None]]
    np.multiply(x, x, out=z)
    if len(c) > 2:
        np.minimum(z, coefficients[-1:], out=z)
        c.pop()
    np.multiply(z, c.pop(), out=out)
    while len(c) > 1:
        out += c.pop()
        out *= z
    out += c.pop()
    out *= x
    np.exp(out, out=out)


def _parts(*arrays: Any) -> Any:
    """The arrays, dense and laid out alike, in parts of one dim that stay in cache."""
    flat = [a.ravel("K") for a in arrays]
    for i in range(0, flat[0].size, PART):
        yield [a[i:i + PART] for a in flat]


def alike(*arrays: Any) -> bool:
    """Are these float32, without gaps and laid out alike?"""
    x = arrays[0]
    return bool(x.flags.forc) and all([
        a.dtype == np.float32 and a.strides == x.strides and a.shape == x.shape for a in arrays])
