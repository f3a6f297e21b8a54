"""Batch norm, layer norm and dropout against their formulas, and their gradients."""
from __future__ import annotations

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.autograd import gradcheck, gradgradcheck
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend import cpu
from gpugrad.ops.dropout import dropout


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def normalised(x, dims, eps):
    return (x - x.mean(dims, keepdims=True)) / np.sqrt(x.var(dims, keepdims=True) + eps)


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5), (3, 4, 2, 5), (2, 4, 2, 1, 3),
                                   (40, 4, 30, 30)])
@pytest.mark.parametrize("affine", [False, True])
def test_batch_norm_is_its_formula(rng, shape, affine):
    x = rng.standard_normal(shape) * 3 + 2
    dims, line = (0, *range(2, len(shape))), (1, -1) + (1,) * (len(shape) - 2)
    w, b = (rng.standard_normal((2, 4)) if affine else (None, None))
    wanted = normalised(x, dims, 1e-5)
    if affine:
        wanted = wanted * w.reshape(line) + b.reshape(line)
    for dtype, tol in ((np.float64, 1e-9), (np.float32, 1e-4), (np.float16, 2e-2)):
        args = [a if a is None else a.astype(dtype) for a in (x, w, b)]
        out, mean, r = cpu.raw.batch_norm(*args)
        assert out.dtype == dtype and mean.dtype == r.dtype == np.result_type(dtype, np.float32)
        np.testing.assert_allclose(out, wanted, atol=tol, rtol=tol)
        np.testing.assert_allclose(mean, x.mean(dims), rtol=1e-3, atol=tol)
        np.testing.assert_allclose(r, 1 / np.sqrt(x.var(dims) + 1e-5), rtol=1e-3)


def test_batch_norm_with_given_statistics(rng):
    x, (mean, var) = rng.standard_normal((5, 3, 4)), rng.random((2, 3))
    out, m, r = cpu.raw.batch_norm(x, None, None, mean, var, training=False, eps=0.1)
    np.testing.assert_allclose(out, (x - mean[:, None]) / np.sqrt(var + 0.1)[:, None])
    assert (m == mean).all() and m is not mean
    np.testing.assert_allclose(r, 1 / np.sqrt(var + 0.1))


def test_batch_norm_of_a_large_mean(rng):
    x = (rng.standard_normal((64, 2, 5, 5)) + 1000).astype(np.float32)
    _, mean, r = cpu.raw.batch_norm(x)
    np.testing.assert_allclose(mean, x.mean((0, 2, 3), dtype=float), rtol=1e-6)
    np.testing.assert_allclose(r, 1 / x.std((0, 2, 3), dtype=float), rtol=1e-3)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 2), (3, 2, 2), (2, 2, 1, 3)])
def test_batch_norm_gradients_of_both_orders(rng, training, shape):
    x = torch.from_numpy(rng.standard_normal(shape)).requires_grad_()
    w, b = (torch.from_numpy(rng.standard_normal(2)).requires_grad_() for _ in range(2))
    stats = [None if training else torch.from_numpy(rng.random(2) + 0.5) for _ in range(2)]

    def norm(*args):          # the mean and 1 / std too: they are differentiable results
        return T.batch_norm(*args, *stats, training=training, eps=0.01)

    assert gradcheck(norm, (x, w, b)) and gradgradcheck(norm, (x, w, b))
    for args in ((x,), (x, w)):
        assert gradcheck(lambda *a: norm(*a, *[None] * (3 - len(a)))[0], args)
        assert gradgradcheck(lambda *a: norm(*a, *[None] * (3 - len(a)))[0], args)


@pytest.mark.parametrize("shape,ndim", [((6, 5), 1), ((2, 3, 4), 2), ((3, 4), 2), ((600, 400), 1)])
@pytest.mark.parametrize("affine", [False, True])
def test_layer_norm_is_its_formula(rng, shape, ndim, affine):
    x = rng.standard_normal(shape) * 3 + 2
    dims = tuple(range(len(shape) - ndim, len(shape)))
    w, b = (rng.standard_normal((2, *shape[-ndim:])) if affine else (None, None))
    wanted = normalised(x, dims, 1e-5)
    if affine:
        wanted = wanted * w + b
    for dtype, tol in ((np.float64, 1e-9), (np.float32, 1e-4), (np.float16, 4e-2)):
        args = [a if a is None else a.astype(dtype) for a in (x, w, b)]
        out, mean, r = cpu.raw.layer_norm(*args, ndim=ndim)
        assert out.dtype == dtype and mean.shape == r.shape == x.mean(dims, keepdims=True).shape
        np.testing.assert_allclose(out, wanted, atol=tol, rtol=tol)


@pytest.mark.parametrize("shape,ndim", [((3, 4), 1), ((2, 2, 3), 2)])
def test_layer_norm_gradients_of_both_orders(rng, shape, ndim):
    x, w, b = (torch.from_numpy(rng.standard_normal(s)).requires_grad_()
               for s in (shape, shape[-ndim:], shape[-ndim:]))

    def norm(*args):
        return T.layer_norm(*args, ndim=ndim, eps=0.01)

    assert gradcheck(norm, (x, w, b)) and gradgradcheck(norm, (x, w, b))
    assert gradcheck(lambda x: norm(x, None, None)[0], (x,))
    assert gradgradcheck(lambda x: norm(x, None, None)[0], (x,))


def test_float16_gradients(rng):
    x = torch.from_numpy(rng.standard_normal((4, 3, 2, 2)).astype(np.float16)).requires_grad_()
    w, b = (torch.from_numpy(rng.standard_normal(3).astype(np.float32)).requires_grad_()
            for _ in range(2))
    out = T.batch_norm(x, w, b, training=True)[0]
    gx, gw, gb = torch.autograd.grad((out * out).sum(), [x, w, b], create_graph=True)
    assert gx.dtype == torch.float16 and gw.dtype == gb.dtype == torch.float32
    ggx, ggw = torch.autograd.grad(gx.sum() * 3 + gw.sum(), [x, w])
    assert ggx.dtype == torch.float16 and ggw.dtype == torch.float32
    assert torch.isfinite(ggx).all() and torch.isfinite(ggw).all()


# Dropout -----------------------------------------------------------------------------------------

def test_dropout_zeroes_and_scales():
    torch.manual_seed(0)
    x = torch.ones(100, 100, requires_grad=True)
    out = dropout(x, 0.25, True)
    kept = out.detach().numpy() != 0
    assert out.dtype == torch.float32 and abs(kept.mean() - 0.75) < 0.02
    np.testing.assert_allclose(out.detach().numpy()[kept], 1 / 0.75, rtol=1e-6)
    assert out.grad_fn.name() == "MulBackward0"
    out.sum().backward()
    assert (x.grad == out.detach()).all()
    torch.manual_seed(0)
    assert (dropout(x, 0.25, True) == out).all() and not (dropout(x, 0.25, True) == out).all()


def test_dropout_of_all_of_none_and_outside_training():
    x = torch.ones(5, requires_grad=True)
    assert dropout(x, 0.5, False) is x and dropout(x, 0, True) is x
    before = torch.get_rng_state()
    out = dropout(x, 1, True)
    assert (torch.get_rng_state() == before).all()
    assert not out.any()
    out.sum().backward()
    assert not x.grad.any()
    empty = torch.ones(0)
    assert dropout(empty, 0.5, True) is empty


def test_dropout_in_other_dtypes_and_second_order():
    for dtype in (torch.float16, torch.float64):
        assert dropout(torch.ones(9, dtype=dtype), 0.3, True).dtype is dtype
    mask = torch.tensor([True, False, True])
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: T.native_dropout(x, mask, scale=2.0), (x,))
    assert gradgradcheck(lambda x: T.native_dropout(x * x, mask, scale=2.0), (x,))
