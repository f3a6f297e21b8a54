"""Gamma and Dirichlet numbers as functions of their parameters: implicit reparameterization.

A number x with distribution function F(x, a) moves with a by dx/da = -(dF/da) / (dF/dx), if the
uniform number F(x, a) is held (Figurnov, Mohamed and Mnih, 2018). dF/da is an integral of the
density times the slope of its logarithm, taken over the side of x where the density falls off; it
is computed in float64 by Gauss's rule, with the rest below exp(-CUT) left out.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from gpugrad.autograd.op import op
from gpugrad.ops.gamma import digamma_of
from gpugrad.ops.series import in_double

CUT = 40.0
NODES, STEPS = 40, 8


@lru_cache(1)
def rule() -> list[tuple[float, float]]:
    """(point, weight) for the integral from 0 to 1 in s * s, whose points crowd at 0."""
    from numpy.polynomial.legendre import leggauss

    points, weights = leggauss(NODES)
    s = (points + 1) / 2
    return list(zip((s * s).tolist(), (weights * s).tolist()))


def integral(xp: Any, end: Any, log_height: Callable[[Any], Any],
             slope: Callable[[Any], Any]) -> Any:
    """The integral of exp(log_height(w)) * slope(w) from 0 to ``end``."""
    total = 0.0
    for point, weight in rule():
        w = end * point
        total = total + weight * xp.exp(log_height(w)) * slope(w)
    return total * end


def where_it_ends(xp: Any, start: Any, log_height: Callable[[Any], Any],
                  fall: Callable[[Any], Any]) -> Any:
    """Where the concave log_height is -CUT, by Newton's steps from a point beyond that.

    fall: minus the derivative of log_height.
    """
    w = start
    for _ in range(STEPS):
        w = w - (-log_height(w) - CUT) / fall(w)
    return w


def gamma_slope(xp: Any, a: Any, x: Any) -> Any:
    """dx/da of gamma numbers x with shape a and scale 1."""
    side = xp.where(x <= a, 1.0, -1.0)

    # the density at t = x exp(-side * w), times dt/dw, is exp(log_height(w)) times x and that at x
    def log_height(w: Any) -> Any:
        w = side * w
        return -a * w - x * xp.expm1(-w)

    def fall(w: Any) -> Any:
        return side * (a - x * xp.exp(-side * w))

    below = (CUT + x) / a
    above = xp.minimum((2 * CUT / x) ** 0.5, xp.log1p(2 * CUT / x) + 4.0)
    end = where_it_ends(xp, xp.where(side > 0, below, above), log_height, fall)
    distance = side * (digamma_of(xp, a) - xp.log(x))
    return x * integral(xp, end, log_height, lambda w: distance + w)


def beta_slope(xp: Any, x: Any, a: Any, total: Any) -> Any:
    """dx/da of beta numbers x with parameters a and total - a, divided by 1 - x."""
    below = x * total <= a
    mean_log = digamma_of(xp, a) - digamma_of(xp, total)
    # on the upper side 1 - x and total - a play the parts of x and a
    y, b = xp.where(below, x, 1 - x), xp.where(below, a, total - a)

    # at t / (1 - t) = y / (1 - y) exp(-w)
    def log_rest(w: Any) -> Any:
        return xp.log1p(y * xp.expm1(-w))

    def log_height(w: Any) -> Any:
        return -b * w - total * log_rest(w)

    def fall(w: Any) -> Any:
        power = y * xp.exp(-w)
        return b - total * power / (1 - y + power)

    def slope(w: Any) -> Any:
        log_t = xp.where(below, xp.log(y) - w, xp.log1p(-y)) - log_rest(w)
        return xp.where(below, mean_log - log_t, log_t - mean_log)

    end = where_it_ends(xp, (CUT - total * xp.log1p(-y)) / b, log_height, fall)
    return x * integral(xp, end, log_height, slope)


def no_gamma_slope(o: Any, g: Any) -> Any:
    raise NotImplementedError("the derivative for '_standard_gamma_grad' is not implemented. "
                              "detach() the first derivatives")


def no_dirichlet_slope(o: Any, g: Any) -> Any:
    raise RuntimeError("derivative for aten::_dirichlet_grad is not implemented: detach() the "
                       "first derivatives")


@op("NotImplemented", fit=True)
class standard_gamma_grad:
    """The derivative of gamma numbers y to their shapes x. Backward is an error."""
    def forward(be, x, y):
        return in_double(be, gamma_slope, x, y)
    grad_x = no_gamma_slope
    grad_y = no_gamma_slope


@op("StandardGammaBackward0")
class standard_gamma:
    """y, gamma numbers that were drawn with shapes x."""
    def forward(be, x, y):
        return y
    def grad_x(o, g, x, result):
        return o.mul(g, o.standard_gamma_grad(x, result))
    grad_y = None


@op("NotImplemented", fit=True)
class dirichlet_grad:
    """What a part x of a Dirichlet number owes to its own parameter. Backward is an error."""
    def forward(be, x, y, total):
        return in_double(be, beta_slope, x, y, total)
    grad_x = no_dirichlet_slope
    grad_y = no_dirichlet_slope
    grad_total = no_dirichlet_slope


@op("NotImplemented")
class sampled_dirichlet:
    """y, Dirichlet numbers that were drawn with parameters x. Backward is an error."""
    def forward(be, x, y):
        return y
    def grad_x(o, g):
        raise RuntimeError("derivative for aten::_sample_dirichlet is not implemented: use "
                           "torch.distributions.Dirichlet(x).rsample()")
    grad_y = None
