"""kl_divergence: formulas held against samples, and how a pair of classes finds its formula."""
from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import distributions as D
from gpugrad.distributions.kl import _KL_REGISTRY


def of(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float64)


# A distribution of each family, for p and for q.
FIRST = {
    "Bernoulli": lambda: D.Bernoulli(of(0.3, 0.6)),
    "Beta": lambda: D.Beta(of(2.0, 1.5), of(3.0, 1.2)),
    "Binomial": lambda: D.Binomial(4, of(0.3, 0.6)),
    "Categorical": lambda: D.Categorical(of(0.3, 0.3, 0.4)),
    "Cauchy": lambda: D.Cauchy(of(0.0, 1.0), of(1.0, 2.0)),
    "ContinuousBernoulli": lambda: D.ContinuousBernoulli(of(0.3, 0.8)),
    "Dirichlet": lambda: D.Dirichlet(of(1.5, 2.0, 1.0)),
    "Exponential": lambda: D.Exponential(of(1.0, 2.0)),
    "Gamma": lambda: D.Gamma(of(2.0, 3.5), of(1.0, 2.0)),
    "Geometric": lambda: D.Geometric(of(0.4, 0.7)),
    "Gumbel": lambda: D.Gumbel(of(0.0, 1.0), of(0.5, 0.7)),
    "HalfNormal": lambda: D.HalfNormal(of(1.0, 2.0)),
    "Independent": lambda: D.Independent(D.Normal(of(0.0, 1.0), of(1.0, 2.0)), 1),
    "Laplace": lambda: D.Laplace(of(0.0, 1.0), of(0.7, 1.0)),
    "LowRankMultivariateNormal": lambda: D.LowRankMultivariateNormal(
        of(0.0, 1.0), of(1.0, 0.5)[:, None], of(1.0, 0.6)),
    "MultivariateNormal": lambda: D.MultivariateNormal(
        of(0.0, 1.0), scale_tril=torch.stack([of(1.0, 0.0), of(0.5, 0.8)])),
    "Normal": lambda: D.Normal(of(0.0, 1.0), of(0.8, 0.5)),
    "OneHotCategorical": lambda: D.OneHotCategorical(of(0.3, 0.3, 0.4)),
    "Pareto": lambda: D.Pareto(of(1.5, 2.0), of(4.0, 5.0)),
    "Poisson": lambda: D.Poisson(of(1.0, 4.0)),
    "TransformedDistribution": lambda: D.TransformedDistribution(
        D.Normal(of(0.0, 0.4), of(0.5, 0.6)), D.TanhTransform()),
    "Uniform": lambda: D.Uniform(of(0.1, 0.2), of(0.9, 0.8)),
}
SECOND = {
    **FIRST,
    "Bernoulli": lambda: D.Bernoulli(of(0.4, 0.8)),
    "Beta": lambda: D.Beta(of(1.2, 0.9), of(1.5, 2.0)),
    "Binomial": lambda: D.Binomial(4, of(0.4, 0.3)),
    "Categorical": lambda: D.Categorical(of(0.1, 0.5, 0.4)),
    "Cauchy": lambda: D.Cauchy(of(1.0, 1.0), of(2.0, 1.0)),
    "ContinuousBernoulli": lambda: D.ContinuousBernoulli(of(0.4, 0.6)),
    "Dirichlet": lambda: D.Dirichlet(of(1.0, 1.0, 2.0)),
    "Exponential": lambda: D.Exponential(of(0.5, 1.0)),
    "Gamma": lambda: D.Gamma(of(1.0, 2.5), of(1.5, 1.0)),
    "Geometric": lambda: D.Geometric(of(0.5, 0.5)),
    "Gumbel": lambda: D.Gumbel(of(0.5, 1.0), of(1.0, 1.5)),
    "HalfNormal": lambda: D.HalfNormal(of(2.0, 2.5)),
    "Independent": lambda: D.Independent(D.Normal(of(1.0, 1.0), of(2.0, 2.0)), 1),
    "Laplace": lambda: D.Laplace(of(0.5, 1.0), of(1.0, 1.5)),
    "LowRankMultivariateNormal": lambda: D.LowRankMultivariateNormal(
        of(1.0, 1.0), of(0.5, -0.5)[:, None], of(1.5, 1.0)),
    "MultivariateNormal": lambda: D.MultivariateNormal(
        of(0.5, 0.0), torch.stack([of(2.0, 0.3), of(0.3, 1.0)])),
    "Normal": lambda: D.Normal(of(1.0, 1.0), of(2.0, 1.0)),
    "OneHotCategorical": lambda: D.OneHotCategorical(of(0.1, 0.5, 0.4)),
    "Pareto": lambda: D.Pareto(of(0.05, 0.1), of(1.0, 2.0)),
    "Poisson": lambda: D.Poisson(of(2.0, 3.0)),
    "TransformedDistribution": lambda: D.TransformedDistribution(
        D.Normal(of(0.3, 0.0), of(0.8, 1.0)), D.TanhTransform()),
    "Uniform": lambda: D.Uniform(of(-0.1, -0.5), of(1.5, 2.0)),
}
PAIRS = sorted((p.__name__, q.__name__) for p, q in _KL_REGISTRY
               if p is not D.ExponentialFamily)


@pytest.mark.parametrize(("p", "q"), PAIRS)
def test_divergence_is_the_mean_of_the_difference_of_logs(p: str, q: str) -> None:
    first, second = FIRST[p](), SECOND[q]()
    kl = D.kl_divergence(first, second).numpy()
    assert kl.shape == first.batch_shape
    torch.manual_seed(0)
    n = 6000
    x = first.sample((n,))
    second._validate_args = False
    for inner in ("base_dist", "_dirichlet"):
        if hasattr(second, inner):
            getattr(second, inner)._validate_args = False
    difference = (first.log_prob(x) - second.log_prob(x)).numpy()
    if np.isinf(kl).any():
        # q gives no chance to some of what p yields
        inside = second.support.check(x).numpy()
        assert np.isinf(kl).all() and not inside.all(0).any()
        return
    error = difference.std(0) / n ** 0.5
    assert np.all(abs(difference.mean(0) - kl) < 5 * error + 1e-9), (difference.mean(0), kl, error)
    assert np.all(kl >= 0)


def test_where_supports_differ() -> None:
    """Infinite where q has no chance of what p may yield; 0 * log(0) is 0."""
    p = D.Categorical(torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]]))
    q = D.Categorical(torch.tensor([0.3, 0.7, 0.0]))
    kl = D.kl_divergence(p, q).tolist()
    assert math.isclose(kl[0], 0.5 * math.log(0.5 / 0.3) + 0.5 * math.log(0.5 / 0.7), rel_tol=1e-5)
    assert kl[1] == math.inf
    coin = D.kl_divergence(D.Bernoulli(torch.tensor([0.0, 1.0, 0.5])),
                           D.Bernoulli(torch.tensor([0.5, 0.5, 0.0])))
    assert torch.allclose(coin, torch.tensor([math.log(2), math.log(2), math.inf]))
    wide = D.kl_divergence(D.Uniform(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 2.0])),
                           D.Uniform(0.0, 1.0))
    assert wide.tolist() == [0.0, math.inf]
    more = D.Binomial(3, torch.tensor(0.5))
    assert D.kl_divergence(more, D.Binomial(2, torch.tensor(0.5))) == math.inf
    with pytest.raises(NotImplementedError, match=r"q\.total_count > p\.total_count"):
        D.kl_divergence(D.Binomial(2, torch.tensor(0.5)), more)


def test_bregman_divergence_of_any_exponential_family() -> None:
    """Without a formula of its own a family has that of its log normalizer."""
    p, q = FIRST["Gamma"](), SECOND["Gamma"]()
    general = _KL_REGISTRY[D.ExponentialFamily, D.ExponentialFamily]
    assert torch.allclose(general(p, q), D.kl_divergence(p, q))
    assert torch.allclose(D.ExponentialFamily.entropy(p), p.entropy())
    wishart = D.Wishart(of(4.0), torch.eye(2, dtype=torch.float64))
    assert D.kl_divergence(wishart, wishart).abs().max() < 1e-9
    with pytest.raises(NotImplementedError, match="different exponential families"):
        D.kl_divergence(FIRST["Normal"](), FIRST["Poisson"]())


def test_the_most_specific_pair_is_taken() -> None:
    class Base(D.Normal):
        pass

    class Derived(Base):
        pass

    try:
        D.register_kl(Base, Base)(lambda p, q: torch.tensor(1.0))
        assert D.kl_divergence(Derived(0.0, 1.0), Base(0.0, 1.0)) == 1
        assert D.kl_divergence(D.Normal(0.0, 1.0), Derived(0.0, 1.0)) == 0
        D.register_kl(Derived, D.Normal)(lambda p, q: torch.tensor(2.0))
        D.register_kl(D.Normal, Derived)(lambda p, q: torch.tensor(3.0))
        with pytest.warns(RuntimeWarning, match=r"register_kl\(Derived, Derived\)"):
            assert D.kl_divergence(Derived(0.0, 1.0), Derived(0.0, 1.0)) == 2
    finally:
        for pair in [pair for pair in _KL_REGISTRY if {Base, Derived} & set(pair)]:
            del _KL_REGISTRY[pair]
    with pytest.raises(NotImplementedError, match="p type Normal and q type Cauchy"):
        D.kl_divergence(D.Normal(0.0, 1.0), D.Cauchy(0.0, 1.0))
    with pytest.raises(TypeError, match="Expected type_q"):
        D.register_kl(D.Normal, int)


def test_gradients_of_a_divergence(device: str) -> None:
    mean = torch.tensor([1.0, -2.0], device=device, requires_grad=True)
    D.kl_divergence(D.Normal(mean, 1.0), D.Normal(torch.zeros_like(mean), 1.0)).sum().backward()
    assert mean.grad.tolist() == [1.0, -2.0] and mean.grad.device.type == device
