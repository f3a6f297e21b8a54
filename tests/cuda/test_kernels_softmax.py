"""The kernels of softmax and log_softmax against the portable text."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from against_portable import DTYPES, agree, launched, note_launches, order, run

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import backend
from gpugrad.backend import kernels

assert note_launches and order                   # fixtures
pytestmark = pytest.mark.gpu

# rows for a warp and for a block, in registers and longer than that; columns for one thread and for
# several, less and more than a tile of 32, in registers and longer
SHAPES = [((3, 4), 1), ((20, 1), 1), ((9, 128), 1), ((2, 129), 1), ((3, 1000), 1), ((2, 2500), 1),
          ((4, 3), 0), ((3, 5, 7), 1), ((2, 33, 40), 1), ((70, 3), 0), ((2, 300, 3), 1),
          ((1,), 0), ((), 0), ((2, 3, 4, 5), 2)]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, dim", SHAPES)
def test_forward_and_backward(rng: Any, shape: Any, dim: int, dtype: str) -> None:
    x, g = (np.asarray(3 * rng.standard_normal(shape)) for _ in range(2))
    (p,) = agree("softmax", x, dtype=dtype, dim=dim)
    (log_p,) = agree("log_softmax", x, dtype=dtype, dim=dim)
    agree("softmax_backward", g, p.astype(float), dtype=dtype, dim=dim)
    agree("log_softmax_backward", g, log_p.astype(float), dtype=dtype, dim=dim,
          until={"float16": 1e-2, "bfloat16": 5e-2}.get(dtype))


@pytest.mark.parametrize("length", [40, 5000])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inner", [1, 3])
def test_lines_that_are_not_finite(length: int, inner: int, dtype: str) -> None:
    x = np.zeros((6, length, inner))
    x[0] = -np.inf                               # nothing is possible
    x[1, :-1] = -np.inf                          # one thing is
    x[2, 7] = np.inf
    x[3, 7] = np.nan
    x[4, :length // 2] = -np.inf                 # a line may begin with it
    for name in ("softmax", "log_softmax"):
        (y,) = run(name, (x,), dtype, dim=1)
        assert np.isnan(y[[0, 2, 3]].astype(float)).all()
        want = np.zeros((length, inner))
        want[-1] = 1
        got = y[1].astype(float) if name == "softmax" else np.exp(y[1].astype(float))
        np.testing.assert_array_equal(got, want)
        assert np.isfinite(y[5].astype(float)).all() and not np.isnan(y[4].astype(float)).any()


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("length", [40, 3000])
def test_no_overflow(name: str, length: int) -> None:
    x = np.linspace(-1.5e38, 1.5e38, length)[None]
    agree(name, x, dtype="float32", dim=1)
    agree(name, x * 1e269, dtype="float64", dim=1)
    agree(name, -np.abs(x) * 1e269 - 1e300, dtype="float64", dim=1)    # below all float32


@pytest.mark.parametrize("value", [1.0, -7.5, 30000.0])
def test_float16_is_summed_in_float(value: float) -> None:
    x = np.full((1, 4096), value)
    (y,) = run("softmax", (x,), "float16", dim=1)
    np.testing.assert_array_equal(y, np.float16(1 / 4096))
    (y,) = run("log_softmax", (x,), "float16", dim=1)
    np.testing.assert_array_equal(y, np.float16(-np.log(4096)))


def test_every_order_gives_the_same_bits(order: Any, rng: Any) -> None:
    be = backend.get("cuda")
    for shape, dim in (((3, 1000), 1), ((2, 300, 3), 1), ((40, 9), 1)):
        x, g = (rng.standard_normal(shape).astype("f4") for _ in range(2))
        for name in ("softmax", "log_softmax"):
            y = be.raw.__dict__[name](be.from_host(x), dim=dim)
            gx = be.raw.__dict__[name + "_backward"](be.from_host(g), y, dim=dim)
            key = name, shape
            bits = be.to_host(y).tobytes(), be.to_host(gx).tobytes()
            assert SEEN.setdefault(key, bits) == bits


SEEN: dict[Any, Any] = {}


def test_64_bit_indices_and_a_small_grid(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "NARROW", 0)
    monkeypatch.setattr(kernels, "MAX_BLOCKS", 2)
    for shape, dim in (((50, 9), 1), ((7, 300), 1), ((3, 6, 70), 1)):
        x, g = rng.standard_normal((2, *shape))
        (y,) = agree("softmax", x, dtype="float32", dim=dim)
        agree("softmax_backward", g, y.astype(float), dtype="float32", dim=dim)


def test_empty_tensors_launch_nothing() -> None:
    be = backend.get("cuda")
    launched.clear()
    for shape, dim in (((0, 4), 1), ((4, 0), 1), ((4, 0), 0), ((2, 0, 3), 2)):
        x = be.empty(shape, np.dtype("f4"))
        assert be.raw.softmax(x, dim=dim).shape == shape
        assert be.raw.log_softmax_backward(x, x, dim=dim).shape == shape


def test_a_gradient_that_was_expanded(rng: Any) -> None:
    x = torch.tensor(rng.standard_normal((4, 5)), dtype=torch.float32)
    a, b = x.to("cuda").requires_grad_(), x.clone().requires_grad_()
    for t in (a, b):
        F.log_softmax(t, 1)[:, :1].sum().backward()
        F.softmax(t.t(), 0).square().sum().backward()
    np.testing.assert_allclose(a.grad.cpu().numpy(), b.grad.numpy(), rtol=1e-5, atol=1e-6)
