"""Distribution itself: validation, shapes, subclasses, texts; draws by rejection; imports."""
from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import distributions as D
from gpugrad.distributions import constraints as C


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError) as error:
        D.Normal(torch.zeros(2), torch.tensor([1.0, -1.0]))
    assert str(error.value) == (
        "Expected parameter scale (Tensor of shape (2,)) of distribution Normal(loc: "
        "torch.Size([2]), scale: torch.Size([2])) to satisfy the constraint "
        "GreaterThan(lower_bound=0.0), but found invalid values:\ntensor([ 1., -1.])")
    assert D.Normal(0.0, -1.0, validate_args=False).scale == -1


def test_samples_are_checked() -> None:
    d = D.Gamma(torch.ones(2), 1.0)
    for value, text in ((torch.tensor([-1.0, 1.0]), "within the support"),
                        (torch.ones(3), "not broadcastable with batch_shape"),
                        (D.Normal(0.0, 1.0).sample() * float("nan"), "within the support")):
        with pytest.raises(ValueError, match=text):
            d.log_prob(value)
    with pytest.raises(ValueError, match="right-most size of value"):
        D.Dirichlet(torch.ones(3)).log_prob(torch.ones(2) / 2)
    with pytest.raises(ValueError, match="must be a Tensor"):
        D.Normal(0.0, 1.0).log_prob(0.5)
    off = D.Gamma(torch.ones(2), 1.0, validate_args=False)
    assert torch.isnan(off.log_prob(torch.tensor([-1.0, 1.0]))).tolist() == [False, False]


def test_the_default_of_validation() -> None:
    assert D.Normal(0.0, 1.0)._validate_args
    try:
        D.Distribution.set_default_validate_args(False)
        assert D.Normal(0.0, -1.0).scale == -1
        with pytest.raises(ValueError):
            D.Normal(0.0, -1.0, validate_args=True)
    finally:
        D.Distribution.set_default_validate_args(True)
    with pytest.raises(ValueError):
        D.Distribution.set_default_validate_args(3)  # type: ignore[arg-type]


def test_a_family_of_ones_own() -> None:
    """It defines what it needs; the rest says that it isn't there, or warns."""
    class Die(D.Distribution):
        def sample(self, sample_shape: Any = ()) -> Any:
            return torch.randint(1, 7, self._extended_shape(sample_shape))

    with pytest.warns(UserWarning, match="does not define `arg_constraints`"):
        die = Die()
    assert die.sample((5,)).shape == (5,) and die.batch_shape == ()
    for question in ("mean", "variance", "mode", "support", "arg_constraints"):
        with pytest.raises(NotImplementedError):
            getattr(die, question)
    for method, args in (("entropy", ()), ("rsample", ()), ("log_prob", (1,)), ("cdf", (1,)),
                         ("icdf", (1,)), ("enumerate_support", ()), ("expand", ((2,),))):
        with pytest.raises(NotImplementedError):
            getattr(die, method)(*args)
    with pytest.warns(UserWarning, match="does not define `support`"):
        die._validate_sample(torch.tensor(1))


def test_subclasses_say_how_they_expand() -> None:
    class Standard(D.Normal):
        def __init__(self, n: int) -> None:
            super().__init__(torch.zeros(n), 1.0)

    with pytest.raises(NotImplementedError, match="custom __init__ method must also define"):
        Standard(2).expand((3, 2))

    class Expanding(Standard):
        def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
            new = self._get_checked_instance(Expanding, _instance)
            return super().expand(batch_shape, new)

    new = Expanding(2).expand((3, 2))
    assert type(new) is Expanding and new.loc.shape == (3, 2)


def test_shapes_and_texts() -> None:
    d = D.Independent(D.Normal(torch.zeros(2, 3), 1.0), 1)
    assert (d.batch_shape, d.event_shape) == ((2,), (3,))
    assert d.sample((4, 5)).shape == (4, 5, 2, 3) and d.log_prob(torch.zeros(2, 3)).shape == (2,)
    assert repr(d) == "Independent(Normal(loc: torch.Size([2, 3]), scale: torch.Size([2, 3])), 1)"
    assert repr(D.Gamma(1.0, 2.0)) == "Gamma(concentration: 1.0, rate: 2.0)"
    mixed = D.MixtureSameFamily(D.Categorical(torch.ones(2)), D.Normal(torch.zeros(2), 1.0))
    assert repr(mixed).startswith("MixtureSameFamily(\n  Categorical(probs: torch.Size([2])")
    with pytest.warns(FutureWarning, match=r"sample\(\(n,\)\)"):
        assert d.sample_n(2).shape == (2, 2, 3)
    with pytest.raises(ValueError, match="reinterpreted_batch_ndims <="):
        D.Independent(D.Normal(0.0, 1.0), 1)


def test_numbers_take_the_dtype_of_tensors() -> None:
    d = D.Normal(torch.zeros(2, dtype=torch.float64), 1)
    assert d.scale.dtype is torch.float64 and d.sample().dtype is torch.float64
    assert D.Normal(0, 1).loc.dtype is torch.get_default_dtype()
    with pytest.raises(ValueError, match="must all be instances of Number"):
        D.Normal("a", 1.0)


def test_samples_without_gradients() -> None:
    scale = torch.ones(2, requires_grad=True)
    assert not D.Normal(0.0, scale).sample().requires_grad
    assert D.Normal(0.0, scale).rsample().requires_grad
    with pytest.raises(NotImplementedError):
        D.Bernoulli(torch.tensor([0.5])).rsample()


def test_constraints_that_depend() -> None:
    assert C.is_dependent(D.Uniform.support) and not C.is_dependent(D.Uniform(0.0, 1.0).support)
    assert D.Uniform.support.event_dim == 0 and D.Uniform.support.is_discrete is False
    with pytest.raises(NotImplementedError, match="cannot be determined statically"):
        C.dependent.event_dim  # noqa: B018
    with pytest.raises(ValueError, match="Cannot determine validity"):
        C.dependent.check(torch.ones(2))


# Draws by rejection, PyTorch's numbers on the CPU -------------------------------------------------

# From torch 2.13: the draws after manual_seed(3), and the uniform number after them.
GOLDEN = {
    "gamma": (lambda: torch._standard_gamma(torch.tensor([0.01, 0.7, 1.0, 3.0, 100.0])), [
        0.01249147113, 0.5903044343, 0.9819415808, 4.682042599, 104.9698257, 0.2927446961]),
    "gamma in float64": (lambda: torch._standard_gamma(
        torch.tensor([0.3, 1.5], dtype=torch.float64)), [
        0.560070688, 4.075210049, 0.4510313272]),
    "poisson": (lambda: torch.poisson(torch.tensor([0.0, 0.4, 3.0, 12.0, 400.0])), [
        0.0, 0.0, 2.0, 15.0, 381.0, 0.1756052375]),
    "binomial": (lambda: torch.binomial(torch.tensor([1.0, 10.0, 100.0, 1000.0]),
                                        torch.tensor([0.1, 0.5, 0.7, 0.33])), [
        0.0, 5.0, 71.0, 343.0, 0.9493049979]),
    "dirichlet": (lambda: torch._sample_dirichlet(torch.tensor([0.5, 2.0, 3.0])), [
        0.09774477035, 0.6495069861, 0.252748251, 0.1756052375]),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_draws_by_seed(name: str) -> None:
    draw, want = GOLDEN[name]
    torch.manual_seed(3)
    found = [*draw().tolist(), torch.rand(1).item()]
    np.testing.assert_allclose(found, want, rtol=3e-7)


def test_draws_of_a_generator() -> None:
    generator = torch.Generator().manual_seed(5)
    a = torch.poisson(torch.full((1000,), 3.0), generator=generator)
    state = torch.get_rng_state()
    b = torch.poisson(torch.full((1000,), 3.0), generator=torch.Generator().manual_seed(5))
    assert torch.equal(a, b) and torch.equal(state, torch.get_rng_state())


def test_extreme_parameters() -> None:
    torch.manual_seed(0)
    assert torch._standard_gamma(torch.tensor([0.0, 1e-30])).tolist() == [
        torch.finfo(torch.float32).tiny] * 2
    assert torch.poisson(torch.tensor([0.0, 0.0])).tolist() == [0, 0]
    x = torch.binomial(torch.tensor([5.0, 5.0, -1.0, float("nan")]),
                       torch.tensor([0.0, 1.0, 0.5, 0.5]))
    assert x[:3].tolist() == [0, 5, 0] and torch.isnan(x[3])
    x = torch._sample_dirichlet(torch.full((2, 3), 1e-3))
    assert (x > 0).all() and (x < 1).all()
    assert torch._standard_gamma(torch.ones(0, 2)).shape == (0, 2)


def test_distributions_are_imported_at_first_use() -> None:
    code = ("import sys, gpugrad as torch; assert 'gpugrad.distributions' not in sys.modules; "
            "torch.distributions.Normal(0., 1.).sample(); "
            "from gpugrad.distributions.normal import Normal; "
            "assert Normal is torch.distributions.Normal")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
