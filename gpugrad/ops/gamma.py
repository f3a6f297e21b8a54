"""The gamma function's family: lgamma, digamma, polygamma and Hurwitz's zeta."""
from __future__ import annotations

import math
from typing import Any

from gpugrad.autograd.op import op
from gpugrad.ops.series import chebyshev, in_double, polynomial

# lgamma(x) / ((x - 1) (x - 2)) on [1, 2.5].
LGAMMA = (
    0.46383590012525167, -0.09635643382743721, 0.014112549958136234, -0.0023776967602353546,
    0.0004313171523228161, -8.180055154931849e-05, 1.5973108496063494e-05,
    -3.1833026003649113e-06, 6.43973260512593e-07, -1.3177318759416753e-07,
    2.7209006718712893e-08, -5.65961836464899e-09, 1.184434237703161e-09, -2.491596197414621e-10,
    5.264691480971271e-11, -1.1167295075606306e-11, 2.3768512986854867e-12,
    -5.074228191432801e-13, 1.0862114017661604e-13, -2.3308745503514248e-14,
    5.012846281381477e-15, -1.0802524549449556e-15, 2.3322072883166233e-16,
    -5.0436497547872685e-17, 1.0924490409217292e-17,
)

# digamma(x) / (x - root) on [1, 2]; the root in two parts.
DIGAMMA = (
    0.983570260441567, -0.2270640863346444, 0.03336889902393011, -0.005320077271596548,
    0.0008788656937820505, -0.00014773492650606044, 2.5060543468359146e-05,
    -4.2721034029993324e-06, 7.302769272465923e-07, -1.2502886813559594e-07,
    2.1425009322359472e-08, -3.673295918565179e-09, 6.299717236108931e-10, -1.080593028883266e-10,
    1.853735192053638e-11, -3.18023536582553e-12, 5.456147570322795e-13, -9.360993131036438e-14,
    1.606064636295075e-14, -2.7555431377438815e-15, 4.727736178601912e-16, -8.11148420346509e-17,
)
ROOT, ROOT_REST = 1.4616321449683622, 9.549995429965697e-17

# Asymptotic series, from Bernoulli's numbers B(2k): Stirling's, B / (2k (2k - 1)), the digamma
# function's, B / 2k, and Euler's and Maclaurin's, B / (2k)!.
LGAMMA_STIRLING = (
    0.08333333333333333, -0.002777777777777778, 0.0007936507936507937, -0.0005952380952380953,
    0.0008417508417508417, -0.0019175269175269176, 0.00641025641025641, -0.029550653594771242,
    0.17964437236883057,
)

DIGAMMA_TAIL = (
    0.08333333333333333, -0.008333333333333333, 0.003968253968253968, -0.004166666666666667,
    0.007575757575757576, -0.021092796092796094, 0.08333333333333333, -0.4432598039215686,
    3.0539543302701198,
)

ZETA_TAIL = (
    0.08333333333333333, -0.001388888888888889, 3.306878306878307e-05, -8.267195767195768e-07,
    2.08767569878681e-08, -5.284190138687493e-10, 1.3382536530684679e-11, -3.3896802963225827e-13,
    8.586062056277845e-15, -2.174868698558062e-16, 5.5090028283602295e-18,
    -1.3954464685812522e-19,
)

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
DIRECT = 10                                  # how many terms of zeta are added one by one


def sin_pi(xp: Any, x: Any) -> Any:
    """|sin(pi x)|, exact in relation to the distance from whole numbers."""
    return xp.sin(math.pi * xp.absolute(x - xp.rint(x)))


def stirling_rest(x: Any) -> Any:
    """lgamma(x) - ((x - 1/2) log(x) - x + log(2 pi) / 2), for x >= 10."""
    return polynomial(LGAMMA_STIRLING, 1 / (x * x)) / x


def lgamma_of_positive(xp: Any, x: Any) -> Any:
    low = x < 1
    z = xp.where(low, x + 1, xp.minimum(x, 10.0))
    product = 1.0 + 0 * x
    for _ in range(8):
        big = z >= 2.5
        z = xp.where(big, z - 1, z)
        product = xp.where(big, product * z, product)
    near = xp.where(low, x * (x - 1), (z - 1) * (z - 2))     # x + 1 is rounded
    near = near * chebyshev(LGAMMA, (z - 1.75) / 0.75)
    near = near + xp.where(low, -xp.log(x), xp.log(product))
    far = (x - 0.5) * xp.log(x) - x + (HALF_LOG_2PI + stirling_rest(x))
    far = xp.where(x > 1e300, x * (xp.log(x) - 1), far)
    return xp.where(x < 10, near, far)


def lgamma_next(xp: Any, x: Any) -> Any:
    """lgamma(1 + x) for x in [0, 1], exact near 0."""
    return x * (x - 1) * chebyshev(LGAMMA, (x - 0.75) / 0.75)


def lgamma_of(xp: Any, x: Any) -> Any:
    size = xp.absolute(x)
    positive = lgamma_of_positive(xp, size)
    reflected = xp.log(math.pi / (size * sin_pi(xp, x))) - positive
    reflected = xp.where(x == xp.floor(x), math.inf, reflected)
    return xp.where(size == 0, math.inf, xp.where(x < 0, reflected, positive))


def digamma_of(xp: Any, x: Any) -> Any:
    positive = xp.where(x < 0, 1 - x, x)
    low = positive < 1
    z = xp.where(low, positive + 1, xp.minimum(positive, 10.0))
    total = xp.where(low, -1 / positive, 0.0)
    for _ in range(8):
        big = z > 2
        z = xp.where(big, z - 1, z)
        total = xp.where(big, total + 1 / z, total)
    near = ((z - ROOT) - ROOT_REST) * chebyshev(DIGAMMA, 2 * z - 3) + total
    square = 1 / (positive * positive)
    far = xp.log(positive) - 0.5 / positive - square * polynomial(DIGAMMA_TAIL, square)
    out = xp.where(positive < 10, near, xp.where(positive == math.inf, math.inf, far))
    fraction = x - xp.rint(x)
    out = xp.where(x < 0, out - math.pi / xp.tan(math.pi * fraction), out)
    out = xp.where((x < 0) & (x == xp.floor(x)), math.nan, out)
    return xp.where(x == 0, xp.copysign(math.inf, -x), out)


def zeta_of(xp: Any, s: Any, q: Any, terms: int = DIRECT) -> Any:
    """The sum of (q + k) ** -s by Euler's and Maclaurin's formula."""
    total = 0 * q
    for k in range(terms):
        total = total + (q + k) ** -s
    a = q + terms
    power = a ** -s
    total = total + a * power / (s - 1) + 0.5 * power
    rising, square = s * power / a, 1 / (a * a)
    for k, c in enumerate(ZETA_TAIL):
        total = total + c * rising
        rising = rising * ((s + 2 * k + 1) * (s + 2 * k + 2)) * square
    whole = q == xp.floor(q)
    below = xp.where(whole, math.inf, xp.where(s == xp.floor(s), total, math.nan))
    out = xp.where(q <= 0, below, xp.where(q == math.inf, 0.0, total))
    return xp.where(s == 1, math.inf, xp.where(s < 1, math.nan, xp.where(xp.isnan(s), s, out)))


def cotangent_derivative(n: int) -> list[int]:
    """The polynomial in cot(u) that the n-th derivative of cot(u) is: its coefficients."""
    p = [0, 1]
    for _ in range(n):                           # cot' = -(1 + cot^2)
        slope = [k * c for k, c in enumerate(p)][1:]
        p = [-a - b for a, b in zip([*slope, 0, 0], [0, 0, *slope])]
    return p


def polygamma_of(n: int) -> Any:
    """The n-th derivative of digamma, for n >= 1, as a function of arrays."""
    sign = 1 if n % 2 else -1
    factorial = math.exp(math.lgamma(n + 1)) if n > 170 else float(math.factorial(n))

    def polygamma(xp: Any, x: Any) -> Any:
        positive = xp.where(x < 0, 1 - x, x)
        out = sign * factorial * zeta_of(xp, xp.asarray(n + 1.0), positive)
        u = math.pi * (x - xp.rint(x))
        cot = xp.cos(u) / xp.sin(u)
        bend = math.pi ** (n + 1) * polynomial([float(c) for c in cotangent_derivative(n)], cot) \
            if n < 100 else math.nan
        pole = sign * math.inf
        reflected = xp.where(x == xp.floor(x), pole, -sign * out - bend)
        return xp.where(x < 0, reflected, xp.where(x == 0, pole, out))
    return polygamma


@op("LgammaBackward0", promote="float", inplace=True)
class lgamma:
    """The logarithm of |gamma(x)|."""
    def forward(be, x):
        return in_double(be, lgamma_of, x)
    def grad_x(o, g, x):
        return o.mul(g, o.digamma(x))


@op("DigammaBackward0", promote="float", inplace=True)
class digamma:
    """The derivative of lgamma."""
    def forward(be, x):
        return in_double(be, digamma_of, x)
    def grad_x(o, g, x):
        return o.mul(g, o.polygamma(x, n=1))


@op("PolygammaBackward0", inplace=True)
class polygamma:
    """The n-th derivative of digamma."""
    def forward(be, x, *, n):
        return in_double(be, polygamma_of(n) if n else digamma_of, x)
    def grad_x(o, g, x, n):
        return o.mul(g, o.polygamma(x, n=n + 1))


@op("SpecialZetaBackward0", promote="float")
class zeta:
    """Hurwitz's zeta function, the sum of (q + k) ** -x. Backward to x is an error."""
    def forward(be, x, q):
        # below 0 there is a term for each whole number on the way up
        lowest = float(be.to_host(be.xp.min(q))) if q.size else 0.0
        terms = DIRECT + (min(math.ceil(-lowest), 1 << 20) if -math.inf < lowest < 0 else 0)
        if terms == DIRECT:
            return in_double(be, zeta_of, x, q)
        return in_double(be, named("zeta", lambda xp, s, a: zeta_of(xp, s, a, terms)), x, q)
    def grad_x(o, g):
        raise NotImplementedError("the derivative for 'zeta: self' is not implemented: detach() "
                                  "the exponent")
    def grad_q(o, g, x, q):
        return o.neg(o.mul(g, o.mul(x, o.zeta(o.shift(x, number=1), q))))


def named(name: str, f: Any) -> Any:
    f.__name__ = name
    return f
