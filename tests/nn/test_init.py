"""nn.init: fixed values, statistics, structure, errors."""
from __future__ import annotations

import math

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.nn import init


def test_fixed_values():
    w = torch.empty(2, 3)
    assert init.ones_(w) is w and w.tolist() == [[1] * 3] * 2
    assert init.zeros_(w).sum().item() == 0 and init.constant_(w, 0.5).sum().item() == 3
    assert init.eye_(w).tolist() == [[1, 0, 0], [0, 1, 0]]


def test_leaves_are_filled_without_history():
    w = torch.empty(4, 4, requires_grad=True)
    for fn in (init.ones_, init.eye_, init.uniform_, init.normal_, init.trunc_normal_,
               init.xavier_uniform_, init.kaiming_normal_, init.orthogonal_):
        assert fn(w) is w and w.is_leaf and w.requires_grad and w.grad_fn is None


def test_dirac():
    w = init.dirac_(torch.empty(4, 2, 3, 3), groups=2)
    x = torch.randn(1, 4, 5, 5)
    y = torch.nn.functional.conv2d(x, w, padding=1, groups=2)
    np.testing.assert_array_equal(y.numpy(), x.numpy())
    assert init.dirac_(torch.empty(2, 3, 3))[0].tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def spread(w):
    return w.mean().item(), w.std().item()


def test_statistics():
    torch.manual_seed(0)
    w = torch.empty(400, 300)
    mean, std = spread(init.uniform_(w, 2.0, 4.0))
    assert abs(mean - 3) < 0.01 and w.min() >= 2 and w.max() < 4
    mean, std = spread(init.normal_(w, 1.0, 0.5))
    assert abs(mean - 1) < 0.01 and abs(std - 0.5) < 0.01
    mean, std = spread(init.xavier_uniform_(w, gain=2.0))
    assert abs(std - 2 * math.sqrt(2 / 700)) < 1e-3 and w.abs().max() <= 2 * math.sqrt(6 / 700)
    assert abs(spread(init.xavier_normal_(w))[1] - math.sqrt(2 / 700)) < 1e-3
    assert abs(spread(init.kaiming_normal_(w, nonlinearity="relu"))[1] - math.sqrt(2 / 300)) < 1e-3
    assert abs(spread(init.kaiming_uniform_(w, mode="fan_out", nonlinearity="relu"))[1]
               - math.sqrt(2 / 400)) < 1e-3
    field = torch.empty(64, 16, 3, 3)
    assert abs(spread(init.kaiming_normal_(field, nonlinearity="linear"))[1] - 1 / 12) < 2e-3


@pytest.mark.parametrize("bounds", [(0.0, 1.0, -2.0, 2.0), (0.0, 1.0, 1.5, 2.5),
                                    (3.0, 0.1, 2.9, 3.1)])
def test_trunc_normal(bounds):
    torch.manual_seed(0)
    mean, std, a, b = bounds
    w = init.trunc_normal_(torch.empty(50000), *bounds).numpy()
    assert w.min() >= a and w.max() <= b
    x = np.linspace(a, b, 20001)
    density = np.exp(-0.5 * ((x - mean) / std) ** 2)
    assert abs(w.mean() - (x * density).sum() / density.sum()) < 0.01 * (b - a)


def test_orthogonal():
    for shape in ((4, 6), (6, 4), (4, 2, 3)):
        w = init.orthogonal_(torch.empty(shape), gain=2.0).numpy().reshape(shape[0], -1)
        gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
        np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-5)


def test_sparse():
    w = init.sparse_(torch.empty(10, 5), 0.3)
    assert (w == 0).sum(0).tolist() == [3] * 5


def test_generator():
    def draw():
        return init.normal_(torch.empty(20), generator=torch.Generator().manual_seed(3))

    torch.manual_seed(0)
    first = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(draw(), draw()) and torch.equal(torch.rand(1), first)


@pytest.mark.parametrize("args, gain", [
    (("linear",), 1), (("conv2d",), 1), (("sigmoid",), 1), (("tanh",), 5 / 3),
    (("relu",), math.sqrt(2)), (("leaky_relu",), math.sqrt(2 / 1.0001)),
    (("leaky_relu", 1), 1), (("selu",), 0.75)])
def test_gain(args, gain):
    assert init.calculate_gain(*args) == pytest.approx(gain, rel=1e-12)


@pytest.mark.parametrize("call, text", [
    (lambda: init.calculate_gain("foo"), "Unsupported nonlinearity foo"),
    (lambda: init.calculate_gain("leaky_relu", True), "negative_slope True not a valid number"),
    (lambda: init.eye_(torch.empty(3)), "Only tensors with 2 dimensions are supported"),
    (lambda: init.sparse_(torch.empty(3), 0.1), "Only tensors with 2 dimensions are supported"),
    (lambda: init.dirac_(torch.empty(3)), "Only tensors with 3, 4, or 5 dimensions are supported"),
    (lambda: init.dirac_(torch.empty(3, 3, 3), 2), "dim 0 must be divisible by groups"),
    (lambda: init.orthogonal_(torch.empty(3)), "Only tensors with 2 or more dimensions are "
                                               "supported"),
    (lambda: init.xavier_normal_(torch.empty(3)),
     "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions"),
    (lambda: init.kaiming_normal_(torch.empty(3, 3), mode="foo"),
     "Mode foo not supported, please use one of ['fan_in', 'fan_out']"),
])
def test_errors(call, text):
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == text


def test_warnings():
    with pytest.warns(FutureWarning, match="`nn.init.uniform` is now deprecated in favor of"):
        init.uniform(torch.empty(2))
    with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
        init.kaiming_uniform_(torch.empty(0, 2))
    with pytest.warns(UserWarning, match="mean is more than 2 std from"):
        init.trunc_normal_(torch.empty(2), mean=5.0)
