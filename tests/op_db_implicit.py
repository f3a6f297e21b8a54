"""Records of the ops of gpugrad/ops/implicit.py: random numbers as functions of parameters."""
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.polynomial.legendre import leggauss

from op_db import Array, bad, case, record
from op_db_pointwise import UNDEFINED, digamma

POINTS, WEIGHTS = leggauss(300)


def below(x: Array, height: Any) -> Array:
    """The integral of height from 0 to x, whose points crowd at 0, where it may be steep."""
    s = (POINTS + 1) / 2
    t = np.multiply.outer(x, s ** 8)
    return (height(t, (..., None)) * (8 * s ** 7 * WEIGHTS / 2)).sum(-1) * x


def gamma_slope(a: Array, x: Array) -> Array:
    """dx/da for gamma numbers: minus the slope of the distribution function, over the density."""
    a, x = np.broadcast_arrays(a, x)

    def height(t: Array, k: Any) -> Array:
        ratio = (t / x[k]) ** (a[k] - 1) * np.exp(x[k] - t)
        return ratio * (digamma(a)[k] - np.log(t))
    return below(x, height)


def beta_slope(x: Array, a: Array, total: Array) -> Array:
    """The same for beta numbers, over 1 - x; for x near 1 the integral loses digits."""
    x, a, total = np.broadcast_arrays(x, a, total)

    def height(t: Array, k: Any) -> Array:
        ratio = (t / x[k]) ** (a[k] - 1) * ((1 - t) / (1 - x[k])) ** ((total - a)[k] - 1)
        return ratio * ((digamma(a) - digamma(total))[k] - np.log(t))
    return below(x, height) / (1 - x)


record("standard_gamma_grad", gamma_slope, lambda d: [
    case(d.positive(3, 4), d.positive(3, 4)), case(3 * d.positive(4), d.positive(2, 1)),
    case(d.positive(), 4 * d.positive()), case(d.positive(0, 2), d.positive(0, 2))],
    bad(RuntimeError, "must match", np.ones(2), np.ones(3)))
record("standard_gamma", lambda a, x: x, lambda d: [
    case(d.positive(3, 4), d.positive(3, 4)), case(d.positive(), d.positive()),
    case(d.positive(0, 2), d.positive(0, 2))])
record("dirichlet_grad", beta_slope, lambda d: [
    case(np.abs(d.small(3, 4)) / 2 + 0.05, d.positive(3, 4), 2 + 3 * d.positive(3, 1)),
    case(np.abs(d.small()) / 2 + 0.05, d.positive(), 2 + d.positive()),
    case(d.positive(0, 2), d.positive(0, 2), d.positive(0, 1))])
record("sampled_dirichlet", lambda a, x: x, lambda d: [
    case(d.positive(3, 4), d.positive(3, 4)), case(d.positive(0, 2), d.positive(0, 2))])

# Random numbers don't follow from their parameters alone, and have no second derivatives.
UNDEFINED |= {"standard_gamma", "standard_gamma_grad", "dirichlet_grad", "sampled_dirichlet"}
