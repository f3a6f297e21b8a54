"""The error function's family: erfc, erfcx, erfinv, and the normal distribution's ndtr, ndtri."""
from __future__ import annotations

import math
from typing import Any

from gpugrad.autograd.op import op
from gpugrad.ops.series import chebyshev, exp_of_square, in_double, polynomial

ROOT_HALF = math.sqrt(0.5)

# erf(x) / x in x * x, for |x| < 1.
ERF = (
    0.9754769393826541, -0.14226120510371365, 0.010035582187599796, -0.0005768764699767485,
    2.741993125219606e-05, -1.1043175507344507e-06, 3.8488755420345036e-08,
    -1.1808582533875466e-09, 3.2334215826050907e-11, -7.991015947004549e-13,
    1.7990725113961456e-14, -3.718635487818693e-16,
)

# (1 + 2x) exp(x * x) erfc(x) in (x - 3) / (x + 3), for all x >= 0: Shepherd and Laframboise,
# Mathematics of Computation 36 (1981).
ERFCX = (
    1.17756257419656, 0.005353904539615676, -0.09377550342284209, 0.05436652555744322,
    -0.018976596707845208, 0.004453426061462712, -0.0006335531710553147, 1.7661719523171593e-05,
    1.2841532864056671e-05, -2.0072285659059913e-06, -1.807522790414837e-07,
    7.549828343825093e-08, 1.885668523838603e-09, -2.699519049798364e-09, -1.460079119939105e-11,
    1.0361607445969489e-10, 1.475715976623473e-12, -4.277340064396911e-12, -2.07922492859799e-13,
    1.8134502003176963e-13, 1.973425574544739e-14, -7.287943737592673e-15,
    -1.5169878690228116e-15, 2.3514112258781403e-16, 1.0006111691821667e-16,
)

# The normal quantile by rational functions of minimax kind: Wichura, algorithm AS 241, Applied
# Statistics 37 (1988). Numerator and denominator in the middle, in the tail, and far out.
MIDDLE = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
     1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
     3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4,
     5.2264952788528545610e3))
TAIL = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
     3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
     2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
     1.05075007164441684324e-9))
FAR = (
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
     2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
     2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
     2.04426310338993978564e-15))


def scaled_tail(xp: Any, x: Any) -> Any:
    """exp(x * x) erfc(x) for x >= 0."""
    return chebyshev(ERFCX, 1 - 6 / (x + 3)) / (1 + 2 * x)


def erfc_of(xp: Any, x: Any) -> Any:
    size = xp.absolute(x)
    tail = scaled_tail(xp, size) * exp_of_square(xp, size, -1)
    near = 1 - x * chebyshev(ERF, 2 * x * x - 1)
    return xp.where(size < 0.5, near, xp.where(x < 0, 2 - tail, tail))


def erfcx_of(xp: Any, x: Any) -> Any:
    scaled = scaled_tail(xp, xp.absolute(x))
    return xp.where(x < 0, 2 * exp_of_square(xp, x, 1) - scaled, scaled)


def ndtr_of(xp: Any, x: Any) -> Any:
    # the square of x itself, since that of x / sqrt(2) would be another one
    size = xp.absolute(x)
    tail = 0.5 * scaled_tail(xp, size * ROOT_HALF) * exp_of_square(xp, size, -0.5)
    near = x * ROOT_HALF
    near = 0.5 + 0.5 * near * chebyshev(ERF, 2 * near * near - 1)
    return xp.where(size < 0.5, near, xp.where(x < 0, tail, 1 - tail))


def log_ndtr_of(xp: Any, x: Any) -> Any:
    size = xp.absolute(x)
    scaled = 0.5 * scaled_tail(xp, size * ROOT_HALF)
    below = xp.log(scaled) - 0.5 * x * x
    above = xp.log1p(-scaled * exp_of_square(xp, size, -0.5))
    return xp.where(x < -1, below, xp.where(x < 0, xp.log(ndtr_of(xp, x)), above))


def quantile(xp: Any, q: Any, tail: Any) -> Any:
    """The normal quantile at 1/2 + q; tail: the smaller of the probabilities on the two sides."""
    s = 0.180625 - q * q
    middle = q * polynomial(MIDDLE[0], s) / polynomial(MIDDLE[1], s)
    r = xp.sqrt(-xp.log(tail))
    near, far = r - 1.6, r - 5
    out = xp.where(r <= 5, polynomial(TAIL[0], near) / polynomial(TAIL[1], near),
                   polynomial(FAR[0], far) / polynomial(FAR[1], far))
    out = xp.where(tail == 0, math.inf, out)
    out = xp.where(q < 0, -out, out)
    return xp.where(xp.absolute(q) <= 0.425, middle, xp.where(tail < 0, math.nan, out))


def erfinv_of(xp: Any, x: Any) -> Any:
    return quantile(xp, 0.5 * x, 0.5 * (1 - xp.absolute(x))) * ROOT_HALF


def ndtri_of(xp: Any, x: Any) -> Any:
    return quantile(xp, x - 0.5, xp.minimum(x, 1 - x))


@op("ErfcBackward0", promote="float", inplace=True)
class erfc:
    """1 - erf(x), exact where that is small."""
    def forward(be, x):
        return in_double(be, erfc_of, x)
    def grad_x(o, g, x):
        bell = o.exp(o.neg(o.mul(x, x)))
        return o.mul(g, o.scale(bell, number=-2 / math.sqrt(math.pi)))


@op("SpecialErfcxBackward0", promote="float")
class erfcx:
    """exp(x * x) erfc(x)"""
    def forward(be, x):
        return in_double(be, erfcx_of, x)
    def grad_x(o, g, x, result):
        slope = o.shift(o.scale(o.mul(x, result), number=2), number=-2 / math.sqrt(math.pi))
        return o.mul(g, slope)


@op("ErfinvBackward0", promote="float", inplace=True)
class erfinv:
    """The inverse of erf."""
    def forward(be, x):
        return in_double(be, erfinv_of, x)
    def grad_x(o, g, result):
        slope = o.scale(o.exp(o.mul(result, result)), number=math.sqrt(math.pi) / 2)
        return o.mul(g, slope)


@op("NdtrBackward0", promote="float")
class ndtr:
    """The normal distribution's probability below x."""
    def forward(be, x):
        return in_double(be, ndtr_of, x)
    def grad_x(o, g, x):
        bell = o.exp(o.scale(o.mul(x, x), number=-0.5))
        return o.mul(g, o.scale(bell, number=1 / math.sqrt(2 * math.pi)))


@op("SpecialLogNdtrBackward0", promote="float")
class log_ndtr:
    """The logarithm of the normal distribution's probability below x."""
    def forward(be, x):
        return in_double(be, log_ndtr_of, x)
    def grad_x(o, g, x):
        scaled = o.erfcx(o.scale(x, number=-ROOT_HALF))
        return o.div(o.scale(g, number=math.sqrt(2 / math.pi)), scaled)


@op("SpecialNdtriBackward0", promote="float")
class ndtri:
    """The normal distribution's quantile."""
    def forward(be, x):
        return in_double(be, ndtri_of, x)
    def grad_x(o, g, result):
        slope = o.exp(o.scale(o.mul(result, result), number=0.5))
        return o.mul(g, o.scale(slope, number=math.sqrt(2 * math.pi)))
