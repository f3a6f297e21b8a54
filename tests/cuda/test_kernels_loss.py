"""The kernels of nll_loss, cross entropy and mse_loss against the portable text."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from against_portable import DTYPES, agree, launched, note_launches, order, run

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import backend
from gpugrad.backend import kernels
from gpugrad.ops import loss

assert note_launches and order                   # fixtures
pytestmark = pytest.mark.gpu

# scores: rows for a warp and a block, in registers and longer; images; one class; one target
SHAPES = [(5, 10), (1, 3), (4, 1), (3, 200), (2, 2500), (40, 7), (3, 4, 5), (2, 21, 6, 7),
          (2, 150, 3)]
REDUCTIONS = ("none", "mean", "sum")
BACKWARD_UNTIL = {"float16": 1e-2, "bfloat16": 5e-2}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def samples(rng: Any, shape: Any) -> Any:
    """(scores, targets, weights, an index to ignore) with and without the last two."""
    x, target = 2 * rng.standard_normal(shape), rng.integers(0, shape[1], (shape[0], *shape[2:]))
    return x, target, ((None, -100), (rng.uniform(0.5, 2, shape[1]), int(target.flat[0])))


def slope(rng: Any, target: Any, reduction: str) -> Any:
    return np.asarray(rng.standard_normal(target.shape if reduction == "none" else ()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_cross_entropy(rng: Any, shape: Any, smoothing: float, dtype: str) -> None:
    x, target, kinds = samples(rng, shape)
    name = "cross_entropy_rows" if x.ndim == 2 else "cross_entropy_images"
    for reduction in REDUCTIONS:
        for weight, ignore in kinds:
            kw = {"reduction": reduction, "ignore_index": ignore, "label_smoothing": smoothing}
            _, log_sum, total, shift = agree(name, x, target, weight, dtype=dtype, **kw)
            sums = [a.astype(float) for a in (log_sum, total, shift)]
            agree("cross_entropy_backward", slope(rng, target, reduction), x, target, weight, *sums,
                  dtype=dtype, until=BACKWARD_UNTIL.get(dtype), **kw)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_nll_loss(rng: Any, shape: Any, dtype: str) -> None:
    x, target, kinds = samples(rng, shape)
    name = "nll_loss_rows" if x.ndim == 2 else "nll_loss_images"
    for reduction in REDUCTIONS:
        for weight, ignore in kinds:
            kw = {"reduction": reduction, "ignore_index": ignore}
            _, total = agree(name, x, target, weight, dtype=dtype, **kw)
            agree("nll_loss_backward", slope(rng, target, reduction), target, weight,
                  np.maximum(total.astype(float), 0.5), dtype=dtype, shape=shape, **kw)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 2), (3, 700)])
def test_a_class_out_of_range_makes_its_loss_and_gradient_nan(shape: Any, smoothing: float) -> None:
    for wrong in (shape[1], -1, -(1 << 40), 1 << 40):
        target = np.zeros((3, *shape[2:]), np.int64)
        target[1] = wrong
        x = torch.zeros(shape, device="cuda", requires_grad=True)
        losses = F.cross_entropy(x, torch.tensor(target).to("cuda"), reduction="none",
                                 label_smoothing=smoothing)
        losses.sum().backward()
        for a in (losses.detach(), x.grad):
            bad = np.isnan(a.cpu().numpy())
            assert bad[1].all() and not bad[[0, 2]].any()
        loss_of = F.cross_entropy(x, torch.tensor(target).to("cuda"), label_smoothing=smoothing)
        assert loss_of.isnan()
        likely = torch.zeros(shape, device="cuda", requires_grad=True)
        losses = F.nll_loss(likely, torch.tensor(target).to("cuda"), reduction="none")
        losses.sum().backward()
        for a in (losses.detach(), likely.grad):
            bad = np.isnan(a.cpu().numpy())
            assert bad[1].all() and not bad[[0, 2]].any()
        assert F.nll_loss(likely, torch.tensor(target).to("cuda")).isnan()


@pytest.mark.parametrize("shape", [(6, 40), (6, 4000), (6, 40, 3)])
def test_scores_that_are_not_finite(shape: Any) -> None:
    x = np.zeros(shape)
    x[0] = -np.inf
    x[1, 1:] = -np.inf                           # certain, and right
    x[2, :-1] = -np.inf                          # certain, and wrong
    x[3, 7], x[4, 7] = np.inf, np.nan
    target = np.zeros((6, *shape[2:]), np.int64)
    losses, *sums = run("cross_entropy_rows", (x, target), "float32", reduction="none",
                        ignore_index=-100, label_smoothing=0.0)
    assert np.isnan(losses[[0, 3, 4]]).all() and (losses[1] == 0).all()
    assert (losses[2] == np.inf).all() and np.isfinite(losses[5]).all()
    (gx,) = run("cross_entropy_backward",
                (np.ones(target.shape), x, target, None, *(a.astype(float) for a in sums)),
                "float32", reduction="none", ignore_index=-100, label_smoothing=0.0)
    assert np.isnan(gx[[0, 3, 4]]).all() and (gx[1] == 0).all()
    assert (gx[2, 0] == -1).all() and (gx[2, -1] == 1).all()


def test_what_is_ignored_gets_zero_even_beside_nan() -> None:
    x = torch.full((2, 3), float("nan"), device="cuda", requires_grad=True)
    target = torch.tensor([-100, -100], device="cuda")
    for reduction, want in (("sum", 0.0), ("mean", float("nan"))):
        loss = F.cross_entropy(x, target, reduction=reduction)
        (gx,) = torch.autograd.grad(loss, x)
        np.testing.assert_equal(loss.item(), want)
        assert (gx == 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_scores_keep_their_precision(dtype: str) -> None:
    x = np.array([[1e6 + 0.25, 1e6, 1e6 - 0.5], [-3e30, 1.0, 2.0]])
    agree("cross_entropy_rows", x, np.array([1, 2]), None, dtype=dtype, reduction="none",
          ignore_index=-100, label_smoothing=0.0)


@pytest.mark.parametrize("n", [1, 31, 16, 700])
def test_losses_are_summed_in_chunks(rng: Any, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    monkeypatch.setattr(loss, "CHUNK", 8)
    x, target = rng.standard_normal((n, 3)), rng.integers(0, 3, n)
    for reduction in ("mean", "sum"):
        agree("cross_entropy_rows", x, target, None, dtype="float32", reduction=reduction,
              ignore_index=1, label_smoothing=0.0)
        agree("mse_loss", x, x[::-1].copy(), dtype="float32", reduction=reduction)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (7, 5), (3, 9000)])
def test_mse_loss(rng: Any, shape: Any, dtype: str) -> None:
    x, y = (np.asarray(rng.standard_normal(shape)) for _ in range(2))
    for reduction in REDUCTIONS:
        g = np.asarray(rng.standard_normal(shape if reduction == "none" else ()))
        agree("mse_loss", x, y, dtype=dtype, reduction=reduction)
        agree("mse_loss_backward", g, x, y, dtype=dtype, reduction=reduction)


def test_every_order_gives_the_same_bits(order: Any, rng: Any) -> None:
    be = backend.get("cuda")
    for shape in ((40, 9), (3, 900), (3, 5, 40)):
        x, target, _ = samples(rng, shape)
        t = torch.tensor(x, dtype=torch.float32).to("cuda").requires_grad_()
        value = F.cross_entropy(t, torch.tensor(target).to("cuda"), label_smoothing=0.1)
        value.backward()
        bits = be.to_host(value.detach()._a).tobytes(), be.to_host(t.grad._a).tobytes()
        assert SEEN.setdefault(shape, bits) == bits


SEEN: dict[Any, Any] = {}


def test_a_step_launches_three_kernels(rng: Any) -> None:
    x, target, _ = samples(rng, (64, 10))
    t = torch.tensor(x, dtype=torch.float32).to("cuda").requires_grad_()
    classes = torch.tensor(target).to("cuda")
    launched.clear()
    value = F.cross_entropy(t, classes)
    assert launched == ["cross_entropy", "loss_total"]
    assert value.grad_fn.name() == "NllLossBackward0"
    assert value.grad_fn.next_functions[0][0].name() == "LogSoftmaxBackward0"
    value.backward()
    assert launched[2:] == ["cross_entropy_backward"]


def test_64_bit_indices_and_a_small_grid(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "NARROW", 0)
    monkeypatch.setattr(kernels, "MAX_BLOCKS", 4)
    for shape in ((50, 9), (7, 300), (3, 6, 70)):
        x, target, _ = samples(rng, shape)
        kw = {"reduction": "mean", "ignore_index": 2, "label_smoothing": 0.1}
        _, *sums = agree("cross_entropy_rows", x, target, None, dtype="float32", **kw)
        agree("cross_entropy_backward", np.asarray(0.7), x, target, None,
              *(a.astype(float) for a in sums), dtype="float32", **kw)
        agree("nll_loss_backward", np.asarray(0.7), target, None, np.asarray(3.0), dtype="float32",
              shape=shape, reduction="mean", ignore_index=2)
        agree("mse_loss", x, x + 1, dtype="float32", reduction="mean")
        agree("mse_loss_backward", x, x, x + 1, dtype="float32", reduction="none")


def test_no_targets() -> None:
    x = torch.zeros(0, 3, device="cuda", requires_grad=True)
    target = torch.zeros(0, dtype=torch.int64, device="cuda")
    assert F.cross_entropy(x, target).isnan() and F.nll_loss(x, target).isnan()
    assert F.cross_entropy(x, target, reduction="sum") == 0
    assert F.cross_entropy(x, target, reduction="none").shape == (0,)
    F.cross_entropy(x, target).backward()
    assert x.grad.shape == (0, 3)
    assert F.mse_loss(x, x).isnan() and F.mse_loss(x, x, reduction="sum") == 0


def test_uint8_targets_and_strided_scores(rng: Any) -> None:
    x = torch.tensor(rng.standard_normal((6, 4)), dtype=torch.float32)
    target = torch.tensor([0, 3, 1, 2, 2, 0])
    want = F.cross_entropy(x, target)
    got = F.cross_entropy(x.t().contiguous().to("cuda").t(), target.to(torch.uint8).to("cuda"))
    np.testing.assert_allclose(got.item(), want.item(), rtol=1e-6)
