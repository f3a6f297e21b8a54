"""softmax, cross entropy and mean squared error against their formulas, and their gradients."""
from __future__ import annotations

import warnings

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.autograd import gradcheck, gradgradcheck
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend import cpu

REDUCTIONS = ["none", "mean", "sum"]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_warnings():
    """Infinities and NaN go through without NumPy's warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# Softmax -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(4, 10), (7,), (2, 3, 4), (3, 2, 2, 5), (1, 1), (300, 1000)])
def test_softmax_is_its_formula(rng, shape):
    x = rng.standard_normal(shape) * 5
    for dim in range(len(shape)):
        p = np.exp(x) / np.exp(x).sum(dim, keepdims=True)
        for dtype, tol in ((np.float64, 1e-12), (np.float32, 1e-5), (np.float16, 4e-3)):
            out = cpu.raw.softmax(x.astype(dtype), dim=dim)
            log = cpu.raw.log_softmax(x.astype(dtype), dim=dim)
            assert out.dtype == log.dtype == dtype
            np.testing.assert_allclose(out, p, atol=tol)
            np.testing.assert_allclose(log, np.log(p), rtol=tol, atol=10 * tol)


def test_softmax_of_extremes():
    inf, nan = np.inf, np.nan
    x = np.array([[1e4, 1e4], [-1e4, 0], [-inf, 3], [-inf, -inf], [inf, 0], [nan, 0]], np.float32)
    p = cpu.raw.softmax(x, dim=1)
    assert p[:3].tolist() == [[0.5, 0.5], [0, 1], [0, 1]] and np.isnan(p[3:]).all()
    log = cpu.raw.log_softmax(x, dim=1)
    assert log[1:3].tolist() == [[-1e4, 0], [-np.inf, 0]] and np.isnan(log[3:]).all()


def test_softmax_of_nothing_and_of_a_number():
    assert cpu.raw.softmax(np.zeros((2, 0)), dim=1).shape == (2, 0)
    assert cpu.raw.log_softmax(np.zeros((0, 3)), dim=1).shape == (0, 3)
    assert cpu.raw.softmax(np.array(3.0), dim=0) == 1
    x = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: T.softmax(x, dim=0), (x,))


def test_softmax_backward(rng):
    g, x = rng.standard_normal((2, 3, 5, 4))
    for dim in range(3):
        y = cpu.raw.softmax(x, dim=dim)
        gx = cpu.raw.softmax_backward(g, y, dim=dim)
        np.testing.assert_allclose(gx, y * (g - (g * y).sum(dim, keepdims=True)))
        gx = cpu.raw.log_softmax_backward(g, np.log(y), dim=dim)
        np.testing.assert_allclose(gx, g - y * g.sum(dim, keepdims=True))


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_softmax_gradients_of_both_orders(rng, dim):
    x = torch.from_numpy(rng.standard_normal((2, 3, 2))).requires_grad_()
    for f in (T.softmax, T.log_softmax):
        assert gradcheck(lambda x, f=f: f(x, dim=dim), (x,))
        assert gradgradcheck(lambda x, f=f: f(x, dim=dim), (x,))


# Cross entropy -----------------------------------------------------------------------------------

def by_formula(x, target, weight, reduction, ignore_index=-100, smoothing=0.0):
    """The mean of -log p over a distribution that is smoothing / c plus 1 - smoothing at target."""
    c = x.shape[1]
    x = np.moveaxis(x, 1, -1).reshape(-1, c)
    log_p = x - np.log(np.exp(x).sum(1, keepdims=True))
    weight = np.ones(c) if weight is None else weight
    losses, total = [], 0.0
    for row, t in zip(log_p, target.ravel()):
        if t == ignore_index:
            losses.append(0.0)
            continue
        total += weight[t]
        losses.append(-(1 - smoothing) * weight[t] * row[t] - smoothing / c * (weight * row).sum())
    if reduction == "none":
        return np.reshape(losses, target.shape)
    return sum(losses) if reduction == "sum" else sum(losses) / total


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(6, 5), (2, 5, 3), (2, 5, 2, 3), (2, 5, 2, 1, 3)])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_its_formula(rng, reduction, shape, weighted):
    x = rng.standard_normal(shape)
    target = rng.integers(0, 5, (shape[0], *shape[2:]))
    weight = rng.random(5) if weighted else None
    tensors = [None if a is None else torch.from_numpy(a) for a in (x, target, weight)]
    tensors[0].requires_grad_()
    for ignore, smoothing in ((-100, 0.0), (2, 0.0), (-100, 0.2), (2, 0.2), (-1, 0.0)):
        t = np.where(target == 1, -1, target) if ignore == -1 else target
        tensors[1] = torch.from_numpy(t)
        kw = {"reduction": reduction, "ignore_index": ignore, "label_smoothing": smoothing}
        wanted = by_formula(x, t, weight, reduction, ignore, smoothing)
        np.testing.assert_allclose(T.cross_entropy(*tensors, **kw)[0].detach(), wanted)
        assert gradcheck(lambda x, kw=kw: T.cross_entropy(x, *tensors[1:], **kw)[0], (tensors[0],))


def test_targets_are_checked(rng):
    x = rng.standard_normal((3, 10)).astype(np.float32)
    for wrong in (10, -1, 10 ** 12):
        with pytest.raises(IndexError, match=f"Target {wrong} is out of bounds"):
            cpu.raw.nll_loss(x, np.array([1, wrong, 2]))
    with pytest.raises(IndexError, match="Target 11 is out of bounds"):
        cpu.raw.nll_loss(x, np.array([-100, 11, 2]))
    loss, total = cpu.raw.nll_loss(x, np.array([1, 2, 255], np.uint8), ignore_index=255)
    np.testing.assert_allclose(loss, -(x[0, 1] + x[1, 2]) / 2, rtol=1e-6)
    assert total == 2


def test_ignored_infinities_and_nothing_left(rng):
    x = rng.standard_normal((2, 3))
    x[1] = -np.inf
    loss, _ = cpu.raw.nll_loss(x, np.array([1, -100]))
    assert loss == -x[0, 1]
    assert np.isnan(cpu.raw.nll_loss(x, np.array([-100, -100]))[0])
    assert cpu.raw.nll_loss(x, np.array([-100, -100]), reduction="sum")[0] == 0
    assert np.isnan(cpu.raw.nll_loss(np.zeros((0, 3)), np.zeros(0, np.int64))[0])
    none = cpu.raw.nll_loss(x, np.array([1, -100]), reduction="none")[0]
    assert none[1] == 0 and not np.signbit(none[1])


def test_nodes_of_cross_entropy(rng):
    x = torch.from_numpy(rng.standard_normal((4, 3))).requires_grad_()
    loss = T.cross_entropy(x, torch.tensor([0, 1, 2, 1]))[0]
    assert loss.grad_fn.name() == "NllLossBackward0" and loss.shape == ()
    assert loss.grad_fn.next_functions[0][0].name() == "LogSoftmaxBackward0"
    images = torch.from_numpy(rng.standard_normal((2, 3, 2, 2))).requires_grad_()
    loss = T.cross_entropy(images, torch.zeros(2, 2, 2, dtype=torch.int64))[0]
    assert loss.grad_fn.name() == "NllLoss2DBackward0"


def test_cross_entropy_in_float16(rng):
    x = rng.standard_normal((3000, 4)).astype(np.float16)
    target = rng.integers(0, 4, 3000)
    loss, _, total, _ = cpu.raw.cross_entropy(x, target)
    assert loss.dtype == np.float16 and total == 3000
    np.testing.assert_allclose(loss, by_formula(x.astype(float), target, None, "mean"), rtol=2e-3)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cross_entropy_second_order(rng, reduction):
    x = torch.from_numpy(rng.standard_normal((3, 4))).requires_grad_()
    weight, target = torch.from_numpy(rng.random(4)), torch.tensor([3, 0, 2])
    assert gradgradcheck(lambda x: T.cross_entropy(x, target, weight, reduction=reduction)[0], (x,))
    assert gradgradcheck(lambda x: T.nll_loss(x * x, target, reduction=reduction)[0], (x,))


# Mean squared error ------------------------------------------------------------------------------

@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_mse_loss(rng, reduction):
    x, y = rng.standard_normal((2, 3, 4))
    wanted = {"none": (x - y) ** 2, "mean": ((x - y) ** 2).mean(), "sum": ((x - y) ** 2).sum()}
    for dtype, tol in ((np.float64, 1e-12), (np.float32, 1e-6), (np.float16, 4e-3)):
        out = cpu.raw.mse_loss(x.astype(dtype), y.astype(dtype), reduction=reduction)
        assert out.dtype == dtype
        np.testing.assert_allclose(out, wanted[reduction], rtol=tol, atol=tol)
    x, y = (torch.from_numpy(a).requires_grad_() for a in (x, y))
    assert gradcheck(lambda x, y: T.mse_loss(x, y, reduction=reduction), (x, y))
    assert gradgradcheck(lambda x, y: T.mse_loss(x, y, reduction=reduction), (x, y))
    assert T.mse_loss(x, y, reduction=reduction).grad_fn.name() == "MseLossBackward0"


def test_mse_loss_of_nothing():
    assert np.isnan(cpu.raw.mse_loss(np.zeros(0), np.zeros(0)))
    assert cpu.raw.mse_loss(np.zeros(0), np.zeros(0), reduction="sum") == 0


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_a_single_number_has_second_derivatives(name):
    x = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(lambda x: getattr(x, name)(0), (x,))
