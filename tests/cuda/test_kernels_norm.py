"""The kernels of layer, RMS, batch and group norm against the portable text."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from against_portable import DTYPES, agree, launched, note_launches, order, run

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad.ops import channels

assert note_launches and order                   # fixtures
pytestmark = pytest.mark.gpu

# (rows, length): one warp to a row and 1024 threads, one element, rows beyond what threads keep,
# and more rows than teams
ROWS = [(3, 4), (5, 1), (1, 33), (7, 130), (2, 1000), (1, 5000), (520, 129)]
# (n, c, ...): 32 channels to a block and one; one element of a channel; several parts of either;
# tiles that are not full
IMAGES = [(4, 3, 5), (5, 33), (1, 2, 7), (2, 2, 6, 8), (1, 1, 4500), (1100, 2), (2, 40, 33)]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def real(rng: np.random.Generator, *shape: int) -> Any:
    return np.asarray(rng.standard_normal(shape) * 2 + 0.5)


def positive(rng: np.random.Generator, *shape: int) -> Any:
    return np.asarray(rng.uniform(0.5, 2, shape))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, d", ROWS)
def test_layer_norm(rng: Any, n: int, d: int, dtype: str) -> None:
    x, g, w, b = real(rng, n, d), real(rng, n, d), real(rng, d), real(rng, d)
    for weight, bias in ((w, b), (None, None), (w, None), (None, b)):
        agree("layer_norm", x, weight, bias, dtype=dtype, ndim=1, eps=0.1)
    for weight in (w, None):
        agree("layer_norm_backward", g, x, weight, real(rng, n, 1), positive(rng, n, 1),
              dtype=dtype, ndim=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, d", ROWS)
def test_rms_norm(rng: Any, n: int, d: int, dtype: str) -> None:
    x, g, w = real(rng, n, d), real(rng, n, d), real(rng, d)
    for weight in (w, None):
        agree("rms_norm", x, weight, dtype=dtype, ndim=1, eps=0.1)
        agree("rms_norm_backward", g, x, weight, positive(rng, n, 1), dtype=dtype, ndim=1)


def test_norms_of_several_dims(rng: Any) -> None:
    x, w, r = real(rng, 2, 3, 4, 5), real(rng, 4, 5), positive(rng, 2, 3, 1, 1)
    agree("layer_norm", x, w, w, dtype="float32", ndim=2)
    agree("layer_norm_backward", x, x, w, r, r, dtype="float32", ndim=2)
    agree("rms_norm", x, w, dtype="float32", ndim=2, eps=1e-6)
    agree("rms_norm_backward", x, x, w, r, dtype="float32", ndim=2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", IMAGES, ids=str)
def test_batch_norm(rng: Any, shape: Any, dtype: str) -> None:
    c, x, g = shape[1], real(rng, *shape), real(rng, *shape)
    w, b, mean, var = real(rng, c), real(rng, c), real(rng, c), positive(rng, c)
    for weight, bias in ((w, b), (None, None), (w, None), (None, b)):
        agree("batch_norm", x, weight, bias, dtype=dtype, eps=0.1)
        agree("batch_norm", x, weight, bias, mean, var, dtype=dtype, training=False)
    for training in (True, False):
        for weight in (w, None):
            agree("batch_norm_backward", g, x, weight, mean, var, dtype=dtype, training=training)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", IMAGES, ids=str)
def test_group_norm(rng: Any, shape: Any, dtype: str) -> None:
    n, c = shape[:2]
    x, g, w, b = real(rng, *shape), real(rng, *shape), real(rng, c), real(rng, c)
    for groups in {1, c, c // 2 if c % 2 == 0 else c}:
        for weight, bias in ((w, b), (None, None), (None, b)):
            agree("group_norm", x, weight, bias, dtype=dtype, groups=groups, eps=0.1)
        for weight in (w, None):
            agree("group_norm_backward", g, x, weight, real(rng, n, groups),
                  positive(rng, n, groups), dtype=dtype, groups=groups)


def test_a_large_mean_leaves_the_variance_exact(rng: Any) -> None:
    x = rng.standard_normal((8, 2, 700)) + 3000
    want = 1 / np.sqrt(x.astype(np.float32).astype(float).var((0, 2)) + 1e-5)
    np.testing.assert_allclose(run("batch_norm", (x,), "float32")[2], want, rtol=1e-5)
    want = 1 / np.sqrt(x.astype(np.float32).astype(float).var(2) + 1e-5)
    np.testing.assert_allclose(run("layer_norm", (x,), "float32", ndim=1)[2][..., 0], want,
                               rtol=1e-5)
    np.testing.assert_allclose(run("group_norm", (x,), "float32", groups=2)[2], want, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_stays_in_its_row(rng: Any, bad: float) -> None:
    x = real(rng, 3, 2, 40)
    x[1, 1, 5] = bad
    for name, kw in (("layer_norm", {"ndim": 1}), ("rms_norm", {"ndim": 1, "eps": 0.1}),
                     ("group_norm", {"groups": 2}), ("batch_norm", {})):
        y = run(name, (x,), "float32", **kw)[0]
        touched = x[:, 1:] if name == "batch_norm" else x[1:2, 1:]
        assert np.isfinite(y).sum() >= x.size - touched.size
        assert np.isnan(y[1, 1, 5])


def test_every_order_of_threads(rng: Any, order: Any) -> None:
    for shape in ((3, 40), (70, 3), (1, 2, 2100)):
        n, c = shape[:2]
        x, w = real(rng, *shape), real(rng, c)
        agree("batch_norm", x, w, w, dtype="float32")
        agree("batch_norm_backward", x, x, w, w, positive(rng, c), dtype="float32", training=True)
        agree("group_norm", x, w, w, dtype="float32", groups=1)
        agree("group_norm_backward", x, x, w, w[:1].repeat(n)[:, None], positive(rng, n, 1),
              dtype="float32", groups=1)
    for n, d in ((20, 5), (3, 300), (2, 4200)):
        x, w, r = real(rng, n, d), real(rng, d), positive(rng, n, 1)
        agree("layer_norm", x, w, w, dtype="float32", ndim=1)
        agree("layer_norm_backward", x, x, w, r, r, dtype="float32", ndim=1)
        agree("rms_norm", x, w, dtype="float32", ndim=1, eps=0.1)
        agree("rms_norm_backward", x, x, w, r, dtype="float32", ndim=1)


def test_parameters_of_another_dtype_than_the_input(rng: Any) -> None:
    x = torch.tensor(real(rng, 4, 6, 3), dtype=torch.float16, device="cuda", requires_grad=True)
    for call in (lambda w: F.layer_norm(x, (3,), w[:3], w[:3]), lambda w: F.group_norm(x, 3, w, w),
                 lambda w: F.batch_norm(x, None, None, w, w, True),
                 lambda w: F.rms_norm(x, (3,), w[:3])):
        grads = []
        for dtype in (torch.float32, torch.float16):
            w = torch.linspace(0.5, 2, 6, device="cuda", dtype=dtype).requires_grad_()
            launched.clear()
            y = call(w)
            gx, gw = torch.autograd.grad(y.float().square().sum(), [x, w])
            assert launched and (y.dtype, gx.dtype, gw.dtype) == (torch.float16,) * 2 + (dtype,)
            grads.append([t.detach().float().cpu().numpy() for t in (y, gx, gw)])
        for a, b in zip(*grads):
            np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("kind, shape", [("1d", (4, 3)), ("1d", (4, 3, 5)), ("2d", (4, 3, 2, 2)),
                                         ("3d", (2, 3, 2, 2, 2)), ("sync", (2, 3, 4))])
@pytest.mark.parametrize("kw", [{"momentum": 0.3}, {"momentum": None}, {"affine": False},
                                {"track_running_stats": False}], ids=lambda kw: next(iter(kw)))
def test_a_layer_in_training_is_two_launches(kind: str, shape: Any, kw: Any) -> None:
    make = torch.nn.SyncBatchNorm if kind == "sync" else getattr(torch.nn, "BatchNorm" + kind)

    def run_on(device: str) -> list[Any]:
        norm = make(3, **kw).to(device)
        launched.clear()
        for i in range(3):
            norm(torch.tensor(real(np.random.default_rng(i), *shape), dtype=torch.float32,
                              device=device))
        assert launched == ["channel_moments", "batch_norm"] * 3 * (device == "cuda")
        before = [b._version for b in norm.buffers()]
        assert len(set(before)) == len(before[:1])
        norm(torch.zeros(shape, device=device))
        assert [b._version for b in norm.buffers()] == [v + 1 for v in before]
        norm.eval()
        y = norm(torch.arange(24.0, device=device).reshape(2, 3, 4, *[1] * (len(shape) - 3))
                 if len(shape) > 2 else torch.ones(2, 3, device=device))
        return [t.detach().cpu().numpy() for t in (*norm.buffers(), y)]
    for a, b in zip(run_on("cuda"), run_on("cpu")):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype, held", [("float16", "float16"), ("float16", "float32"),
                                         ("float16", "float64"), ("float32", "strided")])
def test_running_statistics_of_any_kind_move(dtype: str, held: str) -> None:
    kind = getattr(torch, "float32" if held == "strided" else held)

    def run_on(device: str) -> list[Any]:
        step = 2 if held == "strided" else 1
        running = [torch.ones(3 * step, dtype=kind, device=device)[::step] for _ in range(2)]
        x = torch.arange(24.0, device=device).reshape(4, 3, 2).to(getattr(torch, dtype))
        launched.clear()
        F.batch_norm(x, *running, training=True, momentum=0.25)
        own = held in ("float16", "float32")
        assert launched.count("batch_norm") == (device == "cuda")
        assert not own or device == "cpu" or len(launched) == 2
        return [t.double().cpu().numpy() for t in running]
    for a, b in zip(run_on("cuda"), run_on("cpu")):
        np.testing.assert_allclose(a, b, rtol=2e-3)


def test_statistics_that_must_not_be_written() -> None:
    x, row = torch.ones(2, 3, 2, device="cuda"), torch.ones(1, device="cuda")
    with pytest.raises(RuntimeError, match="more than one element"):
        F.batch_norm(x, row.expand(3), torch.ones(3, device="cuda"), training=True)
    norm = torch.nn.BatchNorm1d(3).to("cuda")
    norm.num_batches_tracked = norm.num_batches_tracked.cpu()
    norm(x)
    assert norm.num_batches_tracked.item() == 1 and norm.running_mean.mean().item() != 0


def test_empty_arrays_launch_nothing() -> None:
    launched.clear()
    for shape in ((0, 4), (0, 4, 3), (3, 4, 0)):
        x = torch.ones(*shape, device="cuda", requires_grad=True)
        for y in (F.layer_norm(x, shape[-1:]), F.rms_norm(x, shape[-1:]), F.group_norm(x, 2),
                  F.batch_norm(x, None, None, training=True)):
            y.sum().backward()
    assert x.grad is not None and x.grad.shape == (3, 4, 0)
    assert not {"layer_norm", "rms_norm", "group_norm", "batch_norm"} & set(launched)


@pytest.mark.parametrize("n, c, size", [(1, 1, 1), (3, 70, 1), (64, 3, 900), (1, 5000, 49),
                                        (10**6, 10, 1), (1, 1, 10**8), (2, 3, 31)])
def test_plans_cover_every_position_once(n: int, c: int, size: int) -> None:
    at = channels.plan(n, c, size)
    part, tile, parts = (int(at.struct[f]) for f in ("part", "tile", "parts"))
    assert parts == at.parts and tile in (1, channels.TILE)
    assert (parts - 1) * part < n * size <= parts * part
    assert (at.tiles - 1) * tile < c <= at.tiles * tile
    assert at.parts <= 1024 and channels.plan(n, c, size, 1).parts == 1


@pytest.mark.parametrize("shape, dim, want", [
    ((2, 3, 4), None, (1, 1, 24)), ((2, 3, 4), (0,), (2, 12, 1)), ((2, 3, 4), (2,), (1, 6, 4)),
    ((2, 3, 4), (1,), None), ((2, 3, 4), (0, 2), (2, 3, 4)), ((2, 1, 4), (0, 1), (2, 4, 1)),
    ((), None, (1, 1, 1)), ((1, 5), (0,), (1, 5, 1)), ((2, 3, 4, 5), (0, 2), None)])
def test_layout_of_what_is_reduced(shape: Any, dim: Any, want: Any) -> None:
    assert channels.layout(shape, dim) == want
