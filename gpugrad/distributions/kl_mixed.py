"""Kullback-Leibler divergences between distributions of two families."""
from __future__ import annotations

import math
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.creation import full_like
from gpugrad.distributions.bernoulli import Bernoulli
from gpugrad.distributions.beta import Beta
from gpugrad.distributions.binomial import Binomial
from gpugrad.distributions.continuous_bernoulli import ContinuousBernoulli
from gpugrad.distributions.exponential import Exponential
from gpugrad.distributions.gamma import Gamma
from gpugrad.distributions.gumbel import Gumbel
from gpugrad.distributions.kl import register_kl
from gpugrad.distributions.laplace import Laplace
from gpugrad.distributions.normal import Normal
from gpugrad.distributions.pareto import Pareto
from gpugrad.distributions.poisson import Poisson
from gpugrad.distributions.uniform import Uniform
from gpugrad.distributions.utils import euler_constant

INF, PI = math.inf, math.pi


# Infinite: q gives no chance to what p may yield -------------------------------------------------

# The families of p, with a parameter that has its shape, and those of q.
_UNIT = (Beta, ContinuousBernoulli)
_INFINITE: tuple[tuple[type, str, tuple[type, ...]], ...] = (
    (Beta, "concentration1", (Pareto,)),
    (ContinuousBernoulli, "probs", (Pareto,)),
    (Exponential, "rate", (*_UNIT, Pareto, Uniform)),
    (Gamma, "concentration", (*_UNIT, Pareto, Uniform)),
    (Gumbel, "loc", (*_UNIT, Exponential, Gamma, Pareto, Uniform)),
    (Laplace, "loc", (*_UNIT, Exponential, Gamma, Pareto, Uniform)),
    (Normal, "loc", (*_UNIT, Exponential, Gamma, Pareto, Uniform)),
    (Pareto, "scale", (*_UNIT, Uniform)),
    (Poisson, "rate", (Bernoulli, Binomial)),
)


def _register_infinite(family: type, name: str, others: tuple[type, ...]) -> None:
    def infinite(p: Any, q: Any) -> Tensor:
        return full_like(getattr(p, name), INF)
    for other in others:
        register_kl(family, other)(infinite)


for _row in _INFINITE:
    _register_infinite(*_row)


# What several formulas have in common ------------------------------------------------------------

def _log_norm_gamma(q: Any) -> Tensor:
    """Minus the logarithm of what the gamma density is multiplied by."""
    return q.concentration.lgamma() - q.concentration * q.rate.log()


def _normal_cross(q: Any, mean: Any, variance: Any) -> Tensor:
    """The cross entropy of numbers of this mean and variance with a normal distribution."""
    square = q.scale.pow(2)
    return 0.5 * (2 * PI * square).log() + 0.5 * (variance + (mean - q.loc).pow(2)) / square


def _mean_log(low: Tensor, high: Tensor) -> Tensor:
    """The mean of log(x) over x from low to high."""
    return (high.xlogy(high) - low.xlogy(low)) / (high - low) - 1


# From numbers in [0, 1] --------------------------------------------------------------------------

@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Any, q: Any) -> Tensor:
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)


@register_kl(Beta, ContinuousBernoulli)
@register_kl(Uniform, ContinuousBernoulli)
def _to_continuous_bernoulli(p: Any, q: Any) -> Tensor:
    kl = -p.entropy() - p.mean * q.logits - (-q.probs).log1p() - q._cont_bern_log_norm()
    # PyTorch's condition: an interval that ends at 0 or 1 itself counts as too large
    return kl if isinstance(p, Beta) else kl.masked_fill((p.high >= 1.0) | (p.low <= 0.0), INF)


@register_kl(Beta, Exponential)
@register_kl(ContinuousBernoulli, Exponential)
@register_kl(Gamma, Exponential)
def _to_exponential(p: Any, q: Any) -> Tensor:
    return -p.entropy() - q.rate.log() + q.rate * p.mean


@register_kl(Beta, Gamma)
def _beta_gamma(p: Any, q: Any) -> Tensor:
    total = p.concentration1 + p.concentration0
    mean_log = p.concentration1.digamma() - total.digamma()
    return -p.entropy() + _log_norm_gamma(q) - (q.concentration - 1) * mean_log + q.rate * p.mean


@register_kl(Beta, Normal)
@register_kl(ContinuousBernoulli, Normal)
@register_kl(Exponential, Normal)
@register_kl(Gamma, Normal)
@register_kl(Gumbel, Normal)
@register_kl(Laplace, Normal)
@register_kl(Uniform, Normal)
def _to_normal(p: Any, q: Any) -> Tensor:
    return -p.entropy() + _normal_cross(q, p.mean, p.variance)


@register_kl(Pareto, Normal)
def _pareto_normal(p: Any, q: Any) -> Tensor:
    # without a mean and a variance nothing else is left
    kl = -p.entropy() + _normal_cross(q, p.alpha * p.scale / (p.alpha - 1), p.variance)
    return kl.masked_fill(p.alpha <= 2, INF)


@register_kl(Beta, Uniform)
def _beta_uniform(p: Any, q: Any) -> Tensor:
    kl = -p.entropy() + (q.high - q.low).log()
    return kl.masked_fill((q.low > 0.0) | (q.high < 1.0), INF)


@register_kl(ContinuousBernoulli, Uniform)
def _continuous_bernoulli_uniform(p: Any, q: Any) -> Tensor:
    # PyTorch's condition: an interval that ends at 0 or 1 itself counts as too small
    kl = -p.entropy() + (q.high - q.low).log()
    return kl.masked_fill((q.low >= 0.0) | (q.high <= 1.0), INF)


# From positive numbers ---------------------------------------------------------------------------

@register_kl(Exponential, Gamma)
def _exponential_gamma(p: Any, q: Any) -> Tensor:
    ratio = q.rate / p.rate
    return (-q.concentration * ratio.log() + ratio + q.concentration.lgamma()
            + q.concentration * euler_constant - (1 + euler_constant))


@register_kl(Exponential, Gumbel)
def _exponential_gumbel(p: Any, q: Any) -> Tensor:
    product, shift = p.rate * q.scale, q.loc / q.scale
    return (product.log() - 1 - shift + shift.exp() * product / (product + 1)
            + product.reciprocal())


@register_kl(Gamma, Gumbel)
def _gamma_gumbel(p: Any, q: Any) -> Tensor:
    a, product, shift = p.concentration, p.rate * q.scale, q.loc / q.scale
    return ((a - 1) * a.digamma() - a.lgamma() - a + product.log() + a / product
            + shift.exp() * (1 + product.reciprocal()).pow(-a) - shift)


@register_kl(Pareto, Exponential)
def _pareto_exponential(p: Any, q: Any) -> Tensor:
    product = p.scale * q.rate
    kl = ((p.alpha / product).log() - p.alpha.reciprocal()
          + p.alpha * product / (p.alpha - 1) - 1)
    return kl.masked_fill(p.alpha <= 1, INF)


@register_kl(Pareto, Gamma)
def _pareto_gamma(p: Any, q: Any) -> Tensor:
    mean_log = p.scale.log() + p.alpha.reciprocal()
    kl = (p.alpha.log() - mean_log + _log_norm_gamma(q) + (1 - q.concentration) * mean_log
          + q.rate * p.alpha * p.scale / (p.alpha - 1) - 1)
    return kl.masked_fill(p.alpha <= 1, INF)


# From all numbers --------------------------------------------------------------------------------

@register_kl(Normal, Gumbel)
def _normal_gumbel(p: Any, q: Any) -> Tensor:
    ratio, shift = (p.scale / q.scale).pow(2), (p.loc - q.loc) / q.scale
    return (-0.5 * ratio.log() + shift + (-shift + 0.5 * ratio).exp()
            - 0.5 * (1 + math.log(2 * PI)))


@register_kl(Normal, Laplace)
def _normal_laplace(p: Any, q: Any) -> Tensor:
    apart = p.loc - q.loc
    relative = apart / p.scale
    distance = (math.sqrt(2 / PI) * p.scale * (-0.5 * relative.pow(2)).exp()
                + apart * (math.sqrt(0.5) * relative).erf())
    return -(p.scale / q.scale).log() + distance / q.scale - 0.5 * (1 + math.log(0.5 * PI))


# From an interval --------------------------------------------------------------------------------

@register_kl(Uniform, Beta)
def _uniform_beta(p: Any, q: Any) -> Tensor:
    a, b = q.concentration1, q.concentration0
    kl = ((1 - a) * _mean_log(p.low, p.high) + (1 - b) * _mean_log(1 - p.high, 1 - p.low)
          + a.lgamma() + b.lgamma() - (a + b).lgamma() - (p.high - p.low).log())
    return kl.masked_fill((p.high > 1.0) | (p.low < 0.0), INF)


@register_kl(Uniform, Exponential)
def _uniform_exponential(p: Any, q: Any) -> Tensor:
    kl = q.rate * p.mean - ((p.high - p.low) * q.rate).log()
    return kl.masked_fill(p.low < 0.0, INF)


@register_kl(Uniform, Gamma)
def _uniform_gamma(p: Any, q: Any) -> Tensor:
    kl = (-(p.high - p.low).log() + _log_norm_gamma(q)
          + (1 - q.concentration) * _mean_log(p.low, p.high) + q.rate * p.mean)
    return kl.masked_fill(p.low < 0.0, INF)


@register_kl(Uniform, Gumbel)
def _uniform_gumbel(p: Any, q: Any) -> Tensor:
    width = q.scale / (p.high - p.low)
    high, low = (p.high - q.loc) / q.scale, (p.low - q.loc) / q.scale
    return width.log() + 0.5 * (high + low) - width * ((-high).exp() - (-low).exp())


@register_kl(Uniform, Pareto)
def _uniform_pareto(p: Any, q: Any) -> Tensor:
    norm = (q.alpha * q.scale.pow(q.alpha) * (p.high - p.low)).log()
    kl = _mean_log(p.low, p.high) * (q.alpha + 1) - norm
    return kl.masked_fill(p.low < q.scale, INF)
