"""Kullback-Leibler divergences between two distributions of one family."""
from __future__ import annotations

import math
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.distributions.bernoulli import Bernoulli
from gpugrad.distributions.beta import Beta
from gpugrad.distributions.binomial import Binomial
from gpugrad.distributions.categorical import Categorical
from gpugrad.distributions.cauchy import Cauchy
from gpugrad.distributions.continuous_bernoulli import ContinuousBernoulli
from gpugrad.distributions.covariances import _batch_mahalanobis, _half_log_det
from gpugrad.distributions.dirichlet import Dirichlet
from gpugrad.distributions.exp_family import ExponentialFamily
from gpugrad.distributions.exponential import Exponential
from gpugrad.distributions.gamma import Gamma
from gpugrad.distributions.geometric import Geometric
from gpugrad.distributions.gumbel import Gumbel
from gpugrad.distributions.half_normal import HalfNormal
from gpugrad.distributions.independent import Independent
from gpugrad.distributions.kl import kl_divergence, register_kl
from gpugrad.distributions.laplace import Laplace
from gpugrad.distributions.lowrank_multivariate_normal import (
    LowRankMultivariateNormal,
    _batch_lowrank_mahalanobis,
)
from gpugrad.distributions.multivariate_normal import MultivariateNormal
from gpugrad.distributions.normal import Normal
from gpugrad.distributions.one_hot_categorical import OneHotCategorical
from gpugrad.distributions.pareto import Pareto
from gpugrad.distributions.poisson import Poisson
from gpugrad.distributions.transformed_distribution import TransformedDistribution
from gpugrad.distributions.uniform import Uniform
from gpugrad.distributions.utils import _sum_rightmost, euler_constant
from gpugrad.functions.activation import softplus
from gpugrad.functions.linalg import solve_triangular

INF = math.inf


# Numbers -----------------------------------------------------------------------------------------

@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Any, q: Any) -> Tensor:
    ones = p.probs * (softplus(-q.logits) - softplus(-p.logits))
    ones = ones.masked_fill(q.probs == 0, INF).masked_fill(p.probs == 0, 0)
    zeros = (1 - p.probs) * (softplus(q.logits) - softplus(p.logits))
    return ones + zeros.masked_fill(q.probs == 1, INF).masked_fill(p.probs == 1, 0)


@register_kl(Beta, Beta)
def _beta(p: Any, q: Any) -> Tensor:
    p1, p0, q1, q0 = p.concentration1, p.concentration0, q.concentration1, q.concentration0
    p_sum, q_sum = p1 + p0, q1 + q0
    norms = (q1.lgamma() + q0.lgamma() + p_sum.lgamma()
             - (p1.lgamma() + p0.lgamma() + q_sum.lgamma()))
    return (norms + (p1 - q1) * p1.digamma() + (p0 - q0) * p0.digamma()
            + (q_sum - p_sum) * p_sum.digamma())


@register_kl(Binomial, Binomial)
def _binomial(p: Any, q: Any) -> Tensor:
    if (p.total_count < q.total_count).any():
        raise NotImplementedError("KL between Binomials where q.total_count > p.total_count is not "
                                  "implemented")
    kl = p.total_count * (p.probs * (p.logits - q.logits) + (-p.probs).log1p()
                          - (-q.probs).log1p())
    return kl.masked_fill(p.total_count > q.total_count, INF)


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Any, q: Any) -> Tensor:
    # Chyzak and Nielsen, 2019
    apart = (p.scale + q.scale).pow(2) + (p.loc - q.loc).pow(2)
    return apart.log() - (4 * p.scale * q.scale).log()


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _continuous_bernoulli(p: Any, q: Any) -> Tensor:
    return (p.mean * (p.logits - q.logits)
            + (p._cont_bern_log_norm() + (-p.probs).log1p())
            - (q._cont_bern_log_norm() + (-q.probs).log1p()))


@register_kl(Exponential, Exponential)
def _exponential(p: Any, q: Any) -> Tensor:
    ratio = q.rate / p.rate
    return -ratio.log() + ratio - 1


@register_kl(Gamma, Gamma)
def _gamma(p: Any, q: Any) -> Tensor:
    return (q.concentration * (p.rate / q.rate).log()
            + (q.concentration.lgamma() - p.concentration.lgamma())
            + (p.concentration - q.concentration) * p.concentration.digamma()
            + (q.rate - p.rate) * (p.concentration / p.rate))


@register_kl(Geometric, Geometric)
def _geometric(p: Any, q: Any) -> Tensor:
    return -p.entropy() - (-q.probs).log1p() / p.probs - q.logits


@register_kl(Gumbel, Gumbel)
def _gumbel(p: Any, q: Any) -> Tensor:
    ratio, p_loc, q_loc = p.scale / q.scale, p.loc / q.scale, q.loc / q.scale
    return (-ratio.log() - q_loc + p_loc + ratio * euler_constant
            + (q_loc + (1 + ratio).lgamma() - p_loc).exp() - (1 + euler_constant))


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: Any, q: Any) -> Tensor:
    return _normal(p.base_dist, q.base_dist)


@register_kl(Laplace, Laplace)
def _laplace(p: Any, q: Any) -> Tensor:
    ratio, apart = p.scale / q.scale, (p.loc - q.loc).abs()
    return -ratio.log() + apart / q.scale + ratio * (-apart / p.scale).exp() - 1


@register_kl(Normal, Normal)
def _normal(p: Any, q: Any) -> Tensor:
    ratio = (p.scale / q.scale).pow(2)
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale).pow(2) - 1 - ratio.log())


@register_kl(Pareto, Pareto)
def _pareto(p: Any, q: Any) -> Tensor:
    ratio = q.alpha / p.alpha
    kl = q.alpha * (p.scale / q.scale).log() - ratio.log() + ratio - 1
    return kl.masked_fill(p.scale < q.scale, INF)


@register_kl(Poisson, Poisson)
def _poisson(p: Any, q: Any) -> Tensor:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Uniform, Uniform)
def _uniform(p: Any, q: Any) -> Tensor:
    kl = ((q.high - q.low) / (p.high - p.low)).log()
    return kl.masked_fill((q.low > p.low) | (q.high < p.high), INF)


# Categories and shares ---------------------------------------------------------------------------

@register_kl(Categorical, Categorical)
def _categorical(p: Any, q: Any) -> Tensor:
    kl = p.probs * (p.logits - q.logits)
    return kl.masked_fill(q.probs == 0, INF).masked_fill(p.probs == 0, 0).sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _one_hot_categorical(p: Any, q: Any) -> Tensor:
    return _categorical(p._categorical, q._categorical)


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Any, q: Any) -> Tensor:
    a, b = p.concentration, q.concentration
    total = a.sum(-1)
    mean_log = a.digamma() - total.digamma().unsqueeze(-1)
    return (total.lgamma() - b.sum(-1).lgamma() - (a.lgamma() - b.lgamma()).sum(-1)
            + ((a - b) * mean_log).sum(-1))


# Vectors -----------------------------------------------------------------------------------------

def _square(matrix: Tensor) -> Tensor:
    """The sum of the squares of matrices' elements, the trace of matrix @ matrix.T."""
    return matrix.pow(2).sum((-2, -1))


class _Full:
    """The parts of a formula for a MultivariateNormal."""

    def __init__(self, d: Any) -> None:
        self.d, self.factor = d, d._unbroadcasted_scale_tril

    def log_det(self) -> Tensor:
        return 2 * _half_log_det(self.factor)

    def distance(self, x: Tensor) -> Tensor:
        """x' inv(covariance) x"""
        return _batch_mahalanobis(self.factor, x)

    def roots(self) -> list[Tensor]:
        """Matrices r whose r @ r.T add up to the covariance."""
        return [self.factor]

    def trace(self, root: Tensor) -> Tensor:
        """The trace of inv(covariance) @ root @ root.T"""
        return _square(solve_triangular(self.factor, root, upper=False))


class _LowRank(_Full):
    """The same for a LowRankMultivariateNormal."""

    def __init__(self, d: Any) -> None:
        self.d, (self.factor, self.diagonal) = d, d._low_rank

    def log_det(self) -> Tensor:
        return self.d._log_det()

    def distance(self, x: Tensor) -> Tensor:
        return _batch_lowrank_mahalanobis(self.factor, self.diagonal, x, self.d._capacitance_tril)

    def roots(self) -> list[Tensor]:
        return [self.factor, self.diagonal.sqrt().diag_embed()]

    def trace(self, root: Tensor) -> Tensor:
        # by Woodbury's identity: inv(D) less a product of small matrices
        small = solve_triangular(self.d._capacitance_tril,
                                         self.factor.mT / self.diagonal.unsqueeze(-2), upper=False)
        return _square(root * self.diagonal.rsqrt().unsqueeze(-1)) - _square(small.matmul(root))


def _between_normals(p: _Full, q: _Full, what: str) -> Tensor:
    if p.d.event_shape != q.d.event_shape:
        raise ValueError(f"KL-divergence between two {what}Multivariate Normals with different "
                         "event shapes cannot be computed")
    trace = sum([q.trace(root) for root in p.roots()])
    distance = q.distance(q.d.loc - p.d.loc)
    return 0.5 * (q.log_det() - p.log_det() + trace + distance - p.d.event_shape[0])


@register_kl(MultivariateNormal, MultivariateNormal)
def _multivariate_normal(p: Any, q: Any) -> Tensor:
    return _between_normals(_Full(p), _Full(q), "")


@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
def _lowrank(p: Any, q: Any) -> Tensor:
    return _between_normals(_LowRank(p), _LowRank(q), "Low Rank ")


@register_kl(MultivariateNormal, LowRankMultivariateNormal)
def _full_lowrank(p: Any, q: Any) -> Tensor:
    return _between_normals(_Full(p), _LowRank(q), "(Low Rank) ")


@register_kl(LowRankMultivariateNormal, MultivariateNormal)
def _lowrank_full(p: Any, q: Any) -> Tensor:
    return _between_normals(_LowRank(p), _Full(q), "(Low Rank) ")


# Any family --------------------------------------------------------------------------------------

@register_kl(ExponentialFamily, ExponentialFamily)
def _exponential_family(p: Any, q: Any) -> Tensor:
    """The Bregman divergence of the log normalizer."""
    if type(p) is not type(q):
        raise NotImplementedError("The cross KL-divergence between different exponential families "
                                  "cannot be computed using Bregman divergences")
    params, value, slopes = p._normalizer_and_slopes()
    others = q._natural_params
    kl = q._log_normalizer(*others) - value
    for mine, other, slope in zip(params, others, slopes):
        kl = kl - _sum_rightmost((other - mine) * slope, len(q.event_shape))
    return kl


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: Any, q: Any) -> Tensor:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError("KL between TransformedDistributions is implemented for equal "
                                  "transforms and event shapes only")
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Independent, Independent)
def _independent(p: Any, q: Any) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError("KL between Independents is implemented for equal "
                                  "reinterpreted_batch_ndims only")
    return _sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)
