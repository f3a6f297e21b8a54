"""The incomplete gamma functions, regularised: igamma and igammac."""
from __future__ import annotations

import math
from typing import Any

from gpugrad.autograd.op import op
from gpugrad.ops.error import erfc_of
from gpugrad.ops.gamma import lgamma_next, lgamma_of_positive, stirling_rest
from gpugrad.ops.series import in_double, polynomial

# The power series of eta / (lambda - 1) in eta, from eta ** 1 on, where eta ** 2 / 2 is
# lambda - 1 - log(lambda): Gil, Segura and Temme, SIAM J. Sci. Comput. 34 (2012).
TEMME = (
    -0.3333333333333333, 0.08333333333333333, -0.014814814814814815, 0.0011574074074074073,
    0.0003527336860670194, -0.0001787551440329218, 3.919263178522438e-05, -2.185448510679992e-06,
    -1.85406221071516e-06, 8.296711340953087e-07, -1.7665952736826078e-07, 6.707853543401498e-09,
    1.0261809784240309e-08, -4.382036018453353e-09, 9.14769958223679e-10, -2.5514193994946248e-11,
    -5.830772132550426e-11, 2.4361948020667415e-11, -5.0276692801141755e-12,
    1.1004392031956135e-13, 3.371763262400985e-13, -1.392388722418162e-13, 2.8534893807047445e-14,
    -5.139111834242572e-16, -1.9752288294349442e-15, 8.099521156704561e-16,
    -1.6522531216398162e-16, 2.5305430097478883e-18, 1.1686939738559576e-17,
    -4.770037049820485e-18,
)

LARGE, NARROW, WIDE = 12.0, 0.3, 2.35        # where that expansion holds: a, and x / a
SERIES, FRACTION = 70, 90                    # how far the others go


def log_less(xp: Any, ratio: Any, u: Any) -> Any:
    """log(ratio) - u, where u is ratio - 1: near 1 with s = u / (2 + u), as 2 atanh(s) - u."""
    s = u / (2 + u)
    square = s * s
    rest = polynomial([1 / (2 * k + 3) for k in range(12)], square)
    return xp.where(xp.absolute(u) < 0.3, s * (2 * square * rest - u), xp.log(ratio) - u)


def prefactor(xp: Any, a: Any, x: Any) -> Any:
    """x ** a exp(-x) / gamma(a + 1)"""
    small = xp.minimum(a, 10.0)
    near = xp.exp(small * xp.log(x) - x - lgamma_of_positive(xp, small + 1))
    large = xp.maximum(a, 10.0)
    power = large * log_less(xp, x / large, (x - large) / large)
    far = xp.exp(power - stirling_rest(large)) / xp.sqrt(2 * math.pi * large)
    return xp.where(a < 10, near, far)


def uniform(xp: Any, a: Any, x: Any) -> Any:
    """(P, Q) for large a and x near it: erfc and a correction."""
    a = xp.maximum(a, LARGE)
    x = xp.minimum(xp.maximum(x, NARROW * a), WIDE * a)
    u = (x - a) / a
    half = -log_less(xp, x / a, u)               # eta ** 2 / 2
    eta = xp.where(u < 0, -1.0, 1.0) * xp.sqrt(2 * half)
    b, after = 0 * a, 0 * a                      # the coefficients of eta ** n, from the last
    total = 0 * a
    for n in range(len(TEMME), 0, -1):
        b, after = TEMME[n - 1] + (n + 1) * after / a, b
        total = total * eta + b
    rest = total * xp.exp(-a * half - stirling_rest(a)) / xp.sqrt(2 * math.pi * a)
    z = eta * xp.sqrt(0.5 * a)
    return 0.5 * erfc_of(xp, -z) - rest, 0.5 * erfc_of(xp, z) + rest


def lower_series(xp: Any, a: Any, x: Any) -> Any:
    """P = prefactor * (1 + x / (a + 1) + x ** 2 / ((a + 1) (a + 2)) + ...)"""
    total = 1 + 0 * x
    for n in range(SERIES, 0, -1):
        total = 1 + total * x / (a + n)
    return total * prefactor(xp, a, x)


def upper_series(xp: Any, a: Any, x: Any) -> Any:
    """Q for a < 1 and small x, where it may be tiny: 1 - P term by term."""
    log_power = a * xp.log(x) - lgamma_next(xp, a)
    total, term = 0 * x, 1 + 0 * x
    for n in range(1, 26):
        term = -term * x / n
        total = total + term / (a + n)
    return -xp.expm1(log_power) - xp.exp(log_power) * a * total


def upper_fraction(xp: Any, a: Any, x: Any) -> Any:
    """Q by Legendre's continued fraction, for x > a + 1."""
    tail = x + (2 * FRACTION + 1) - a
    for n in range(FRACTION, 0, -1):
        tail = x + (2 * n - 1) - a - n * (n - a) / tail
    return a * prefactor(xp, a, x) / tail


def both(xp: Any, a: Any, x: Any) -> Any:
    """(P, Q)"""
    ratio = x / a
    temme = (a >= LARGE) & (ratio > NARROW) & (ratio < WIDE)
    series = (x < a + 1) | (x < 1.5)
    p_near, q_near = uniform(xp, a, x)
    low = lower_series(xp, a, xp.where(series, x, 1.0))
    tiny = (a < 1) & (x < 1.5)
    upper = xp.where(tiny, upper_series(xp, xp.minimum(a, 1.0), xp.minimum(x, 1.5)), 1 - low)
    high = upper_fraction(xp, a, x)
    p = xp.where(temme, p_near, xp.where(series, low, 1 - high))
    q = xp.where(temme, q_near, xp.where(series, upper, high))
    start = (x == 0) | (a == math.inf)           # nothing lies below
    end = (a == 0) | (x == math.inf)             # all does
    p = xp.where(start, 0.0, xp.where(end, 1.0, p))
    q = xp.where(start, 1.0, xp.where(end, 0.0, q))
    wrong = (a < 0) | (x < 0) | (start & end)
    return xp.where(wrong, math.nan, p), xp.where(wrong, math.nan, q)


def igamma_of(xp: Any, a: Any, x: Any) -> Any:
    return both(xp, a, x)[0]


def igammac_of(xp: Any, a: Any, x: Any) -> Any:
    return both(xp, a, x)[1]


def density(o: Any, g: Any, x: Any, y: Any) -> Any:
    """g times the derivative of igamma to y, its second operand."""
    power = o.sub(o.mul(o.shift(x, number=-1), o.log(y)), o.add(y, o.lgamma(x)))
    return o.mul(g, o.exp(power))


def not_implemented(o: Any, g: Any) -> Any:
    raise NotImplementedError("the derivative for 'igamma: input' is not implemented: detach() the "
                              "first operand of igamma or igammac")


@op("IgammaBackward0", promote=True, inplace=True)
class igamma:
    """P(x, y), the part of gamma(x) that lies below y. Backward to x is an error."""
    def forward(be, x, y):
        return in_double(be, igamma_of, x, y)
    grad_x = not_implemented
    def grad_y(o, g, x, y):
        return density(o, g, x, y)


@op("IgammacBackward0", promote=True, inplace=True)
class igammac:
    """Q(x, y) = 1 - P(x, y). Backward to x is an error."""
    def forward(be, x, y):
        return in_double(be, igammac_of, x, y)
    grad_x = not_implemented
    def grad_y(o, g, x, y):
        return o.neg(density(o, g, x, y))
