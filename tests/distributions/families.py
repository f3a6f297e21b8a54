"""One or two distributions of each family, for the tests of this folder."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gpugrad as torch
from gpugrad import distributions as D

Make = Callable[..., Any]


def t(*values: Any, **kw: Any) -> Any:
    return torch.tensor(list(values), **kw)


# Of numbers: the family as a function of its parameters, and parameters of a batch of two.
CONTINUOUS: dict[str, tuple[Make, tuple[Any, ...]]] = {
    "Beta": (D.Beta, ([0.8, 2.0], [1.5, 3.0])),
    "Cauchy": (D.Cauchy, ([0.0, 1.0], [1.0, 0.5])),
    "Chi2": (D.Chi2, ([2.5, 6.0],)),
    "ContinuousBernoulli": (D.ContinuousBernoulli, ([0.2, 0.7],)),
    "Exponential": (D.Exponential, ([0.5, 3.0],)),
    "FisherSnedecor": (D.FisherSnedecor, ([3.0, 5.0], [12.0, 15.0])),
    "Gamma": (D.Gamma, ([0.9, 4.0], [1.0, 2.0])),
    "GeneralizedPareto": (D.GeneralizedPareto, ([0.0, 1.0], [1.0, 2.0], [-0.3, 0.1])),
    "Gumbel": (D.Gumbel, ([0.0, 1.0], [1.0, 0.5])),
    "HalfCauchy": (D.HalfCauchy, ([1.0, 2.0],)),
    "HalfNormal": (D.HalfNormal, ([1.0, 2.0],)),
    "InverseGamma": (D.InverseGamma, ([5.0, 6.0], [1.0, 2.0])),
    "Kumaraswamy": (D.Kumaraswamy, ([1.5, 2.0], [3.0, 1.2])),
    "Laplace": (D.Laplace, ([0.0, 1.0], [1.0, 0.5])),
    "LogNormal": (D.LogNormal, ([0.0, 0.5], [0.3, 0.5])),
    "Normal": (D.Normal, ([0.0, -1.0], [1.0, 0.5])),
    "Pareto": (D.Pareto, ([1.0, 2.0], [6.0, 8.0])),
    "StudentT": (D.StudentT, ([6.0, 9.0], [0.0, 1.0], [1.0, 0.5])),
    "Uniform": (D.Uniform, ([0.0, -1.0], [1.0, 0.5])),
    "VonMises": (D.VonMises, ([0.0, 1.0], [1.0, 4.0])),
    "Weibull": (D.Weibull, ([1.0, 2.0], [1.3, 3.0])),
    "RelaxedBernoulli": (lambda p: D.RelaxedBernoulli(torch.ones_like(p) * 0.8, p), ([0.3, 0.6],)),
    "Tanh": (lambda m: D.TransformedDistribution(D.Normal(m, 0.7), D.TanhTransform()),
             ([0.0, 0.4],)),
    "Mixture": (lambda m: D.MixtureSameFamily(
        D.Categorical(torch.ones(2, 2, dtype=m.dtype, device=m.device)),
        D.Normal(torch.stack([m, m + 3], -1), 1.0)), ([0.0, 1.0],)),
}
DISCRETE: dict[str, tuple[Make, tuple[Any, ...]]] = {
    "Bernoulli": (D.Bernoulli, ([0.2, 0.7],)),
    "Binomial": (lambda p: D.Binomial(7, p), ([0.2, 0.7],)),
    "Geometric": (D.Geometric, ([0.5, 0.7],)),
    "NegativeBinomial": (D.NegativeBinomial, ([2.0, 4.5], [0.3, 0.4])),
    "Poisson": (D.Poisson, ([0.7, 4.0],)),
}
# Of vectors and matrices.
JOINT: dict[str, tuple[Make, tuple[Any, ...]]] = {
    "Dirichlet": (D.Dirichlet, ([0.7, 2.0, 1.3],)),
    "Independent": (lambda m, s: D.Independent(D.Normal(m, s), 1), ([0.0, 2.0], [1.0, 0.5])),
    "LowRank": (D.LowRankMultivariateNormal, ([1.0, 0.0], [[1.0], [0.5]], [1.0, 0.5])),
    "MultivariateNormal": (D.MultivariateNormal, ([1.0, 2.0], [[2.0, 0.5], [0.5, 1.0]])),
    "OneHotCategorical": (D.OneHotCategorical, ([0.2, 0.3, 0.5],)),
    "Multinomial": (lambda p: D.Multinomial(5, p), ([0.2, 0.3, 0.5],)),
    "Wishart": (D.Wishart, (4.5, [[1.0, 0.3], [0.3, 0.5]])),
}
ALL = {**CONTINUOUS, **DISCRETE, **JOINT}


def make(name: str, dtype: Any = None, device: Any = None, grad: bool = False) -> Any:
    """A distribution, and its parameters."""
    family, values = ALL[name]
    parameters = [torch.tensor(v, dtype=dtype, device=device, requires_grad=grad) for v in values]
    return family(*parameters), parameters


def infinite(name: str) -> bool:
    """Has it no variance?"""
    return "Cauchy" in name
