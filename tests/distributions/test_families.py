"""What each distribution says of itself, held against its samples and its density."""
from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from families import ALL, CONTINUOUS, DISCRETE, JOINT, infinite, make

import gpugrad as torch
from gpugrad import distributions as D
from gpugrad.autograd import gradcheck

UNKNOWN = {"RelaxedBernoulli", "Tanh"}           # have no formula for their mean
pytestmark = pytest.mark.filterwarnings("ignore:Singular sample")


def numbers(x: Any) -> Any:
    return x.detach().cpu().numpy().astype(np.float64)


@pytest.mark.parametrize("name", sorted(ALL))
def test_moments_of_samples(name: str) -> None:
    if infinite(name) or name in UNKNOWN:
        pytest.skip("it has no moments, or no formulas for them")
    torch.manual_seed(0)
    d, _ = make(name)
    n = 4000
    x = numbers(d.sample((n,)))
    assert x.shape == (n, *d.batch_shape, *d.event_shape)
    if name == "VonMises":                       # its moments are those of the circle
        z = np.exp(1j * x).mean(0)
        mean, variance = np.angle(z), 1 - abs(z)
        assert np.allclose(mean, numbers(d.mean), atol=0.06)
        assert np.allclose(variance, numbers(d.variance), atol=0.04)
        return
    mean, spread = numbers(d.mean), numbers(d.stddev)
    assert np.all(abs(x.mean(0) - mean) < 5 * spread / n ** 0.5 + 1e-12)
    assert np.allclose(x.std(0), spread, rtol=0.15)


@pytest.mark.parametrize("name", sorted(CONTINUOUS))
def test_density_integrates_to_1_and_cdf_is_its_integral(name: str) -> None:
    d, _ = make(name, torch.float64)
    torch.manual_seed(1)
    samples = d.sample((400,))
    low, high = samples.min(0)[0], samples.max(0)[0]
    # inside the bulk of the samples, in steps fine enough for the midpoint rule
    n = 4000
    step = (high - low) / n
    x = low + step * (torch.arange(n, dtype=torch.float64).reshape(-1, 1) + 0.5)
    mass = numbers((d.log_prob(x).exp() * step).sum(0))
    try:
        want = numbers(d.cdf(high) - d.cdf(low))
    except NotImplementedError:
        want = np.array([1.0, 1.0])
        assert np.all((mass > 0.93) & (mass < 1 + 1e-3))
        return
    np.testing.assert_allclose(mass, want, atol=4e-3)
    assert np.all(want > 0.95)


@pytest.mark.parametrize("name", sorted(DISCRETE))
def test_probabilities_add_up_to_1(name: str) -> None:
    d, _ = make(name, torch.float64)
    top = {"Bernoulli": 2, "Binomial": 8}.get(name, 120)
    values = torch.arange(top, dtype=torch.float64).reshape(-1, 1).expand(top, 2)
    p = numbers(d.log_prob(values).exp())
    x = numbers(values)
    np.testing.assert_allclose(p.sum(0), 1, atol=1e-9)
    np.testing.assert_allclose((p * x).sum(0), numbers(d.mean), atol=1e-7)
    mean = (p * x).sum(0)
    np.testing.assert_allclose((p * (x - mean) ** 2).sum(0), numbers(d.variance), atol=1e-6)
    if d.has_enumerate_support:
        assert d.enumerate_support().tolist() == values.tolist()
        assert d.enumerate_support(expand=False).shape == (top, 1)


@pytest.mark.parametrize("name", sorted(ALL))
def test_entropy_is_the_mean_of_minus_log_prob(name: str) -> None:
    d, _ = make(name, torch.float64)
    try:
        want = numbers(d.entropy())
    except NotImplementedError:
        pytest.skip("no formula")
    torch.manual_seed(2)
    log_prob = numbers(d.log_prob(d.sample((4000,))))
    assert np.all(abs(-log_prob.mean(0) - want) < 5 * log_prob.std(0) / 4000 ** 0.5 + 1e-9)
    np.testing.assert_allclose(numbers(d.perplexity()), np.exp(want), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(CONTINUOUS))
def test_icdf_inverts_cdf(name: str) -> None:
    d, _ = make(name, torch.float64)
    p = torch.tensor([[0.03], [0.4], [0.9]], dtype=torch.float64).expand(3, 2)
    try:
        x = d.icdf(p)
        np.testing.assert_allclose(numbers(d.cdf(x)), numbers(p), rtol=1e-9)
    except NotImplementedError:
        pytest.skip("it has no formula for one of them")


@pytest.mark.parametrize("name", sorted(ALL))
def test_mode_is_where_it_is_densest(name: str) -> None:
    d, _ = make(name, torch.float64)
    try:
        mode = d.mode
    except NotImplementedError:
        pytest.skip("no formula")
    if name in ("ContinuousBernoulli", "Uniform", "Wishart") or torch.isnan(mode).any():
        pytest.skip("there is none")
    torch.manual_seed(4)
    there = d.log_prob(mode)
    assert (there >= d.log_prob(d.sample((50,))).max(0)[0] - 1e-9).logical_or(
        there == math.inf).all() or name in ("Beta", "Gamma", "Dirichlet")


# Gradients ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", sorted(ALL))
def test_gradients_of_densities(name: str) -> None:
    d, parameters = make(name, torch.float64, grad=True)
    torch.manual_seed(5)
    x = d.sample((2,))
    family = ALL[name][0]
    symmetric = name in ("MultivariateNormal", "Wishart")

    def density(*values: Any) -> Any:
        if symmetric:
            values = (values[0], (values[1] + values[1].mT) / 2)
        return family(*values).log_prob(x)
    assert gradcheck(density, parameters)


def quantiles(name: str, parameters: Any, p: Any) -> Any:
    """Numbers with these values of the distribution function, by bisection."""
    d = ALL[name][0](*parameters)
    low, high = torch.full_like(p, 1e-9), torch.full_like(p, 1 - 1e-9 if name == "Beta" else 200.0)
    for _ in range(60):
        middle = (low + high) / 2
        above = _cdf(name, d, middle) > p
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2


def _cdf(name: str, d: Any, x: Any) -> Any:
    if name == "Gamma":
        return d.cdf(x)
    # beta: the midpoint rule on the scale where the density is tame
    u = (torch.arange(2000, dtype=torch.float64) + 0.5).reshape(-1, 1) / 2000
    w = x * u ** 4
    return (d.log_prob(w).exp() * 4 * u ** 3 * x / 2000).sum(0)


@pytest.mark.parametrize("name", ["Gamma", "Beta"])
def test_samples_move_with_their_parameters_as_their_quantiles_do(name: str) -> None:
    """Implicit reparameterization: the uniform number that a sample stands for is held."""
    torch.manual_seed(6)
    d, parameters = make(name, torch.float64, grad=True)
    x = d.rsample()
    x.sum().backward()
    found = parameters[0].grad.tolist()
    with torch.no_grad():
        p, h = _cdf(name, d, x.detach()), 1e-4
        ends = [quantiles(name, [parameters[0] + s * h, *parameters[1:]], p) for s in (1, -1)]
    np.testing.assert_allclose(found, numbers((ends[0] - ends[1]) / (2 * h)), rtol=2e-3)


@pytest.mark.parametrize("name", ["Gamma", "Beta", "Dirichlet", "StudentT", "Chi2", "Normal",
                                  "FisherSnedecor", "Wishart", "LogNormal"])
def test_gradients_of_samples_are_those_of_the_mean(name: str) -> None:
    """The mean of d(sample)/d(parameter) is d(mean)/d(parameter)."""
    torch.manual_seed(7)
    d, parameters = make(name, torch.float64, grad=True)
    weight = torch.arange(1.0, d.mean.numel() + 1, dtype=torch.float64).reshape(d.mean.shape)
    n = 2000
    drawn = torch.autograd.grad((d.rsample((n,)) * weight).sum() / n, parameters,
                                retain_graph=True)
    want = torch.autograd.grad((d.mean * weight).sum(), parameters, allow_unused=True)
    for a, b in zip(drawn, want):
        b = torch.zeros_like(a) if b is None else b
        if name == "Wishart" and a.dim():        # the covariance is symmetric
            a, b = (a + a.mT) / 2, (b + b.mT) / 2
        assert (a - b).abs().max() < 0.12 * (1 + b.abs().max())


def test_second_derivatives_of_gamma_numbers_are_refused() -> None:
    a = torch.tensor([1.5, 3.0], requires_grad=True)
    g, = torch.autograd.grad(torch._standard_gamma(a).sum(), a, create_graph=True)
    with pytest.raises(NotImplementedError, match="_standard_gamma_grad"):
        g.sum().backward()


def test_dirichlet_functions_have_no_derivative() -> None:
    a = torch.tensor([1.5, 3.0], requires_grad=True)
    x = torch._sample_dirichlet(a)
    assert x.sum().item() == pytest.approx(1) and x.requires_grad
    for y in (x, torch._dirichlet_grad(x.detach(), a, a.sum())):
        with pytest.raises(RuntimeError, match="is not implemented"):
            y.sum().backward()


# Devices and dtypes ------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["Normal", "Beta", "Poisson", "Binomial", "Dirichlet", "Gumbel",
                                  "MultivariateNormal", "VonMises", "StudentT", "Mixture"])
def test_everything_is_on_the_parameters_device(name: str, device: str) -> None:
    torch.manual_seed(8)
    d, parameters = make(name, torch.float64, device, grad=True)
    x = d.sample((3,))
    log_prob = d.log_prob(x)
    assert {x.device.type, log_prob.device.type, d.mean.device.type} == {device}
    assert {x.dtype, log_prob.dtype} == {torch.float64}
    log_prob.sum().backward(retain_graph=True)
    assert all(p.grad.device.type == device for p in parameters if p.grad is not None)
    other, _ = make(name, torch.float64)
    np.testing.assert_allclose(numbers(other.log_prob(x.cpu())), numbers(log_prob), rtol=1e-9)
    if d.has_rsample:
        d.rsample((2,)).sum().backward()


@pytest.mark.parametrize("name", sorted(ALL))
def test_expand(name: str) -> None:
    d, _ = make(name)
    shape = (3,) + tuple(d.batch_shape)
    e = d.expand(shape)
    assert type(e) is type(d) and e.batch_shape == shape and e.event_shape == d.event_shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = e.sample((2,))
    assert x.shape == (2, *shape, *d.event_shape)
    np.testing.assert_allclose(numbers(e.log_prob(x)), numbers(d.log_prob(x)), rtol=2e-5, atol=1e-6)


def test_joint_families_are_listed() -> None:
    """Each family is in one of the tables, or has its own test below."""
    named = {type(make(name)[0]).__name__ for name in ALL}
    own = {"Distribution", "ExponentialFamily", "Categorical", "LKJCholesky", "LogisticNormal",
           "OneHotCategoricalStraightThrough", "RelaxedOneHotCategorical"}
    families = {n for n in D.__all__ if isinstance(getattr(D, n), type)
                and issubclass(getattr(D, n), D.Distribution)}
    assert families == named | own and JOINT


# Families that need other questions ---------------------------------------------------------------

def test_categorical() -> None:
    torch.manual_seed(9)
    d = D.Categorical(torch.tensor([[2.0, 1.0, 1.0], [0.0, 1.0, 0.0]]))
    x = d.sample((4000,))
    assert x.dtype == torch.int64 and x.shape == (4000, 2) and (x[:, 1] == 1).all()
    assert abs((x[:, 0] == 0).float().mean() - 0.5) < 0.03
    assert torch.allclose(d.log_prob(torch.tensor([0, 1])).exp(), torch.tensor([0.5, 1.0]))
    assert d.mode.tolist() == [0, 1] and torch.isnan(d.mean).all()
    assert torch.allclose(d.entropy(), torch.tensor([1.5 * math.log(2), 0.0]), atol=1e-5)
    assert d.enumerate_support().shape == (3, 2)
    assert repr(D.Categorical(torch.ones(2, 3))) == "Categorical(probs: torch.Size([2, 3]))"


def test_straight_through_and_relaxed_categories() -> None:
    torch.manual_seed(10)
    p = torch.tensor([0.2, 0.3, 0.5], requires_grad=True)
    x = D.OneHotCategoricalStraightThrough(p).rsample((5,))
    assert torch.equal(x.detach().round(), x.detach()) and (x.sum(-1) == 1).all()
    (x * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert p.grad is not None and p.grad.abs().max() > 0
    soft = D.RelaxedOneHotCategorical(torch.tensor(0.1), p.detach()).sample((2000,))
    assert torch.allclose(soft.sum(-1), torch.ones(2000), atol=1e-5)
    assert torch.allclose((soft > 0.5).float().mean(0), p.detach(), atol=0.05)


def test_relaxed_categories_have_a_density() -> None:
    """On the edge between two corners it integrates to 1."""
    d = D.RelaxedOneHotCategorical(torch.tensor(0.9, dtype=torch.float64),
                                   torch.tensor([0.3, 0.7], dtype=torch.float64))
    x = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    mass = d.log_prob(torch.stack([x, 1 - x], -1)).exp().mean()
    assert abs(mass - 1) < 2e-3


def test_correlation_matrices() -> None:
    torch.manual_seed(11)
    d = D.LKJCholesky(3, 2.0)
    factor = d.sample((500,))
    assert d.support.check(factor).all()
    m = factor @ factor.mT
    assert torch.allclose(m.diagonal(dim1=-2, dim2=-1), torch.ones(500, 3), atol=1e-5)
    assert abs(m[:, 0, 1].mean()) < 0.06
    # the first correlation is 2 * beta - 1 with both parameters concentration + (n - 2) / 2
    assert abs(m[:, 0, 1].var() - 1 / (2 * 2.5 + 1)) < 0.03
    # for n = 2 the density is that of the row (r, sqrt(1 - r ** 2)), so an integral over r
    two = D.LKJCholesky(2, torch.tensor(1.5, dtype=torch.float64))
    r = (torch.arange(4000, dtype=torch.float64) + 0.5) / 2000 - 1
    zero, one = torch.zeros_like(r), torch.ones_like(r)
    rows = torch.stack([one, zero, r, (1 - r * r).sqrt()], -1).reshape(-1, 2, 2)
    # the density is of the element below the diagonal
    assert abs(two.log_prob(rows).exp().sum() / 2000 - 1) < 2e-3


def test_logistic_normal() -> None:
    torch.manual_seed(12)
    d = D.LogisticNormal(torch.zeros(2), torch.ones(2))
    x = d.sample((1000,))
    assert x.shape == (1000, 3) and torch.allclose(x.sum(-1), torch.ones(1000), atol=1e-5)
    assert d.event_shape == (3,) and torch.isfinite(d.log_prob(x)).all()
    assert repr(D.LogisticNormal(0.0, 1.0)) == "LogisticNormal()"
