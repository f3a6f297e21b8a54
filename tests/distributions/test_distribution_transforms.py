"""Transforms: inverses, Jacobians, caches, shapes; and the registries of constraints."""
from __future__ import annotations

import pickle
from typing import Any

import pytest

import gpugrad as torch
from gpugrad import distributions as D
from gpugrad.distributions import constraints as C

X = torch.tensor([[0.3, -1.2, 0.8], [2.0, 0.1, -0.4]], dtype=torch.float64)
POSITIVE = X.exp()
OF_NUMBERS = {
    "exp": (D.ExpTransform(), X), "sigmoid": (D.SigmoidTransform(), X),
    "tanh": (D.TanhTransform(), X), "softplus": (D.SoftplusTransform(), X),
    "power": (D.PowerTransform(torch.tensor(-1.7, dtype=torch.float64)), POSITIVE),
    "affine": (D.AffineTransform(1.0, -2.5), X),
    "affine of tensors": (D.AffineTransform(1.0, torch.tensor([2.0, -1.0, 0.5]).double()), X),
    "log": (D.ExpTransform().inv, POSITIVE),
    "cdf": (D.CumulativeDistributionTransform(D.Normal(0.5, 2.0)), X),
    "composed": (D.ComposeTransform([D.TanhTransform(), D.AffineTransform(2.0, 3.0)]), X),
    "stacked": (D.StackTransform([D.ExpTransform(), D.TanhTransform(), D.AffineTransform(0, 2)], 1),
                X),
    "joined": (D.CatTransform([D.ExpTransform(), D.TanhTransform()], 1, [2, 1]), X),
}
OF_VECTORS = {
    "stick": (D.StickBreakingTransform(), X),
    "correlations": (D.CorrCholeskyTransform(), X),
    "independent": (D.IndependentTransform(D.ExpTransform(), 1), X),
    "reshape": (D.ReshapeTransform((3,), (1, 3)), X),
    "affine events": (D.AffineTransform(1.0, -2.0, event_dim=1), X),
    "composed events": (D.ComposeTransform([D.AffineTransform(1, 3), D.StickBreakingTransform()]),
                        X),
}


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_functions_of_numbers(name: str) -> None:
    f, x = OF_NUMBERS[name]
    x = x.clone().requires_grad_()
    y = f(x)
    assert torch.allclose(f.inv(y), x) and f.inv.inv is f
    slope, = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(f.log_abs_det_jacobian(x, y), slope.abs().log())
    assert torch.allclose(f.inv.log_abs_det_jacobian(y, x), -slope.abs().log())
    assert f.codomain.check(y).all() and f.bijective
    if name not in ("stacked", "joined"):
        assert ((slope.sign() - f.sign) == 0).all()
    assert f.forward_shape(x.shape) == y.shape and f.inverse_shape(y.shape) == x.shape


@pytest.mark.parametrize("name", OF_VECTORS)
def test_functions_of_vectors(name: str) -> None:
    f, x = OF_VECTORS[name]
    y = f(x)
    assert torch.allclose(f.inv(y), x) and f.codomain.check(y).all()
    assert f.forward_shape(x.shape) == y.shape and f.inverse_shape(y.shape) == x.shape
    size = f.log_abs_det_jacobian(x, y)
    assert size.shape == (2,)
    for row, s in zip(x, size):
        jacobian = torch.autograd.functional.jacobian(lambda v: free(name, f(v)), row)
        assert torch.allclose(torch.linalg.slogdet(jacobian).logabsdet, s)


def free(name: str, y: Any) -> Any:
    """The elements of y that determine the others."""
    if name in ("stick", "composed events"):
        return y[..., :-1]
    if name == "correlations":
        return torch.stack([y[1, 0], y[2, 0], y[2, 1]])
    return y.flatten()


def test_transforms_that_are_not_bijective() -> None:
    softmax = D.SoftmaxTransform()
    y = softmax(X)
    assert torch.allclose(y.sum(-1), torch.ones(2, dtype=torch.float64))
    assert torch.allclose(softmax(softmax.inv(y)), y) and not softmax.bijective
    assert D.AbsTransform()(X).min() > 0 and D.AbsTransform().inv(POSITIVE) is POSITIVE
    m = torch.arange(9.0, dtype=torch.float64).reshape(3, 3) / 5
    for f in (D.LowerCholeskyTransform(), D.PositiveDefiniteTransform()):
        assert f.codomain.check(f(m)).all()
        assert torch.allclose(f(f.inv(f(m))), f(m))


def test_caches() -> None:
    """With a cache the inverse of y is the x that it came from, exactly."""
    x = torch.tensor([40.0, -40.0])
    assert torch.isinf(D.TanhTransform().inv(D.TanhTransform()(x))).all()
    f = D.TanhTransform(cache_size=1)
    y = f(x)
    assert f.inv(y) is x and f(x) is y and f.inv(y.clone()) is not x
    chain = D.ComposeTransform([D.ExpTransform(), D.AffineTransform(1.0, 2.0)], cache_size=1)
    y = chain(x)
    assert chain.inv(y) is x and chain.with_cache(1) is chain
    assert D.AffineTransform(1.0, 2.0).with_cache(1)._cache_size == 1
    again = pickle.loads(pickle.dumps(D.AffineTransform(1.0, 2.0)))
    assert again == D.AffineTransform(1.0, 2.0)
    with pytest.raises(ValueError, match="cache_size must be 0 or 1"):
        D.ExpTransform(cache_size=2)

    class Own(D.Transform):
        def __init__(self, scale: float) -> None:
            super().__init__()

    with pytest.raises(NotImplementedError, match="with_cache"):
        Own(1.0).with_cache()


def test_equality() -> None:
    assert D.ExpTransform() == D.ExpTransform() and D.ExpTransform() != D.TanhTransform()
    assert D.AffineTransform(0, 1) == D.AffineTransform(0, 1) != D.AffineTransform(0, 2)
    assert D.AffineTransform(torch.zeros(2), 1) == D.AffineTransform(0, 1)
    assert D.PowerTransform(2.0) == D.PowerTransform(2.0) != D.PowerTransform(3.0)
    assert D.ExpTransform().inv == D.ExpTransform().inv != D.TanhTransform().inv
    assert D.ComposeTransform([D.ExpTransform()]) == D.ComposeTransform([D.ExpTransform()])
    assert len({D.identity_transform, D.ExpTransform()}) == 2


SUPPORTS = {
    "real": C.real, "positive": C.positive, "nonnegative": C.nonnegative,
    "above": C.greater_than(torch.tensor(2.0)), "below": C.less_than(-1.0),
    "unit": C.unit_interval, "interval": C.interval(-3.0, 5.0),
    "half open": C.half_open_interval(1.0, 2.0), "simplex": C.simplex,
    "vector": C.real_vector, "independent": C.independent(C.positive, 1),
    "correlations": C.corr_cholesky, "factor": C.lower_cholesky, "matrix": C.positive_definite,
    "joined": C.cat([C.positive, C.unit_interval], -1, [2, 1]),
    "stacked": C.stack([C.positive, C.unit_interval, C.real], -1),
}


@pytest.mark.parametrize("name", SUPPORTS)
def test_registries_lead_into_constraints(name: str, device: str) -> None:
    region = SUPPORTS[name]
    shape = (3, 3) if name in ("factor", "matrix") else (2, 3)
    torch.manual_seed(0)
    x = torch.randn(shape, device=device)
    if name == "above":
        region = C.greater_than(torch.tensor(2.0, device=device))
    for registry in (D.transform_to, D.biject_to):
        if registry is D.biject_to and name in ("factor", "matrix"):
            with pytest.raises(NotImplementedError, match="Cannot transform"):
                registry(region)
            continue
        f = registry(region)
        y = f(x)
        assert region.check(y).all() and y.device.type == device
        if f.bijective:
            assert torch.allclose(f.inv(y), x, atol=1e-3)


def test_a_constraint_of_ones_own() -> None:
    class Even(C.Constraint):
        def check(self, value: Any) -> Any:
            return value % 2 == 0

    D.biject_to.register(Even, lambda c: D.AffineTransform(0, 2))
    assert D.biject_to(Even())(torch.tensor([3])).tolist() == [6]
    with pytest.raises(NotImplementedError, match="Cannot transform Even"):
        D.transform_to(Even())
    with pytest.raises(TypeError, match="Expected constraint"):
        D.transform_to.register(int, lambda c: c)


def test_triangles_and_vectors() -> None:
    from gpugrad.distributions.utils import tril_matrix_to_vec, vec_to_tril_matrix

    m = torch.arange(1.0, 17).reshape(4, 4)
    for diag in (-2, -1, 0, 1):
        v = tril_matrix_to_vec(m, diag)
        assert torch.equal(v, m[torch.ones(4, 4).tril(diag) > 0])
        assert torch.equal(vec_to_tril_matrix(v, diag), m.tril(diag))
    with pytest.raises(ValueError, match="outside"):
        tril_matrix_to_vec(m, 4)
    with pytest.raises(ValueError, match="cannot be expressed"):
        vec_to_tril_matrix(torch.ones(4))
