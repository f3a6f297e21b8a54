"""The kernels of reductions, running sums and selection against the portable text."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from against_portable import DTYPES, agree, array, launched, note_launches, order, run

import gpugrad as torch
from gpugrad import backend
from gpugrad.ops import scan, sort
from gpugrad.ops.channels import layout

assert note_launches and order                   # fixtures
pytestmark = pytest.mark.gpu

# Every pattern that the kernels take: all, rows, columns, all but a dim in the middle; one channel
# to a block and 32; several parts; one element
CASES: list[tuple[tuple[int, ...], Any]] = [
    ((), None), ((1,), None), ((5000,), None), ((7, 9), None), ((4, 33), (1,)), ((70, 5), (1,)),
    ((2, 4100), (1,)), ((9, 33), (0,)), ((1100, 3), (0,)), ((3, 1, 40), (0, 2)),
    ((3, 5, 2), (0, 2)), ((2, 3, 4, 5), (0, 2, 3)), ((2, 2, 2100), (2,))]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def real(rng: np.random.Generator, *shape: int) -> Any:
    return np.asarray(rng.standard_normal(shape) * 2 + 0.5)


def holed(rng: np.random.Generator, *shape: int) -> Any:
    """Small integers, so that there are ties, with NaN and infinities among them."""
    x = np.round(real(rng, *shape))
    for value, share in ((np.nan, 0.02), (np.inf, 0.05), (-np.inf, 0.05)):
        x[rng.random(shape) < share] = value
    return x


# Sums and variances ------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, dim", CASES, ids=str)
def test_sums(rng: Any, shape: Any, dim: Any, dtype: str) -> None:
    x = real(rng, *shape)
    for keepdim in (False, True):
        for name in ("sum", "mean"):
            agree(name, x, dtype=dtype, dim=dim, keepdim=keepdim)
    for name in ("sum_all", "mean_all"):
        agree(name, x, dtype=dtype)
    assert set(launched) <= {"channel_sum", "channel_sum_of_parts"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, dim", CASES, ids=str)
def test_variances(rng: Any, shape: Any, dim: Any, dtype: str) -> None:
    x = real(rng, *shape)
    for name in ("var", "std", "var_mean", "std_mean"):
        agree(name, x, dtype=dtype, dim=dim, correction=0)
        agree(name, x, dtype=dtype, dim=dim, keepdim=True)


def test_sums_of_16_bits_are_made_in_float32() -> None:
    x = np.full(70000, 0.25)
    assert run("sum_all", (x,), "float16")[0] == 17504           # 17500, rounded once
    assert run("sum_all", (x,), "bfloat16")[0] == 17536
    assert run("mean_all", (x * 4000,), "float16")[0] == 1000       # their sum is beyond float16


def test_a_large_mean_leaves_the_variance_exact(rng: Any) -> None:
    x = rng.standard_normal(9000) + 1000
    want = x.astype(np.float32).astype(float).var(ddof=1)
    np.testing.assert_allclose(run("var", (x,), "float32")[0], want, rtol=1e-5)


def test_what_no_kernel_takes_is_right_too(rng: Any) -> None:
    """Dims that lie apart, other memory orders, integers: CuPy's reductions."""
    x = real(rng, 2, 3, 4)
    t = torch.tensor(x, device="cuda")
    whole, i = t.long(), x.astype(int)
    for got, want in ((t.sum((1,)), x.sum(1)), (t.var((1,)), x.var(1, ddof=1)),
                      (t.transpose(0, 2).sum(0), x.sum(2).T), (whole.sum(), i.sum()),
                      (whole.sum(0), i.sum(0)), (t.logsumexp(1).exp(), np.exp(x).sum(1)),
                      (t.transpose(0, 1).std(1), x.std(0, ddof=1)),
                      ((t > 9).any(1), (x > 9).any(1)), (whole.argmax(1), i.argmax(1))):
        np.testing.assert_allclose(got.cpu().numpy(), want, rtol=1e-12)


# Logarithms, truth -------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, dim", [(s, d) for s, d in CASES if d and layout(s, d)[0] == 1],
                         ids=str)
def test_logsumexp(rng: Any, shape: Any, dim: Any, dtype: str) -> None:
    agree("logsumexp", real(rng, *shape), dtype=dtype, dim=dim)
    agree("logsumexp", real(rng, *shape) * 20, dtype=dtype, dim=dim, keepdim=True)


def test_logsumexp_of_what_is_not_finite() -> None:
    rows = np.array([[1, np.inf, 2], [-np.inf] * 3, [1, np.nan, np.inf], [-np.inf, 1, -np.inf],
                     [np.inf, -np.inf, 0]])
    got, = run("logsumexp", (rows,), "float32", dim=(1,))
    np.testing.assert_array_equal(got, np.array([np.inf, -np.inf, np.nan, 1, np.inf], np.float32))


@pytest.mark.parametrize("shape, dim", CASES, ids=str)
def test_any_and_all(rng: Any, shape: Any, dim: Any) -> None:
    for share in (0, 0.001, 0.5, 1):
        mask = np.asarray(rng.random(shape) < share)
        for name in ("any", "all"):
            for keepdim in (False, True):
                agree(name, mask, dtype="float32", dim=dim, keepdim=keepdim)
    x = real(rng, *shape)
    for y in map(np.asarray, (np.round(x), np.full(shape, np.nan), x.astype(int))):
        agree("any", y, dtype="float32", dim=dim)
        agree("all", y, dtype="float32", dim=dim)


# Extremes ----------------------------------------------------------------------------------------

LINES = [((7, 1), 1), ((3, 40), 1), ((40, 7), 1), ((3, 900), 1), ((40, 3), 0), ((900, 35), 0),
         ((2, 5, 3), 1), ((2, 70, 40), 1), ((9,), 0), ((1, 1, 1), 1)]


def first_best(x: Any, dim: int, sign: int) -> Any:
    """Where the first NaN is, else the first extreme, as PyTorch has it."""
    keys = np.clip(sign * x, -1e8, 1e8)
    return np.where(np.isnan(x), 1e9, keys).argmax(dim)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, dim", LINES, ids=str)
def test_extremes(rng: Any, shape: Any, dim: int, dtype: str) -> None:
    for x in (np.round(real(rng, *shape)), holed(rng, *shape), np.full(shape, np.nan),
              np.full(shape, -np.inf)):
        for sign, name in ((1, "max"), (-1, "min")):
            want = np.expand_dims(first_best(x, dim, sign), dim)
            values, at = run(name, (x,), dtype, dim=dim, keepdim=True)
            np.testing.assert_array_equal(at, want)
            np.testing.assert_array_equal(values.astype(float), np.take_along_axis(x, want, dim))
            values, at = run(name, (x,), dtype, dim=dim)
            np.testing.assert_array_equal(at, want.squeeze(dim))
            got, = run("arg" + name, (x,), dtype, dim=dim)
            np.testing.assert_array_equal(got, want.squeeze(dim))
            assert got.dtype == at.dtype == np.int64


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (5,), (3, 40), (20000,), (3, 16384)], ids=str)
def test_place_of_the_extreme_of_all(rng: Any, shape: Any, dtype: str) -> None:
    x = np.asarray(np.round(real(rng, *shape)))
    gaps = x.copy()
    gaps[rng.random(shape) < 3 / 20000] = np.nan
    for a in (x, gaps):
        for sign, name in ((1, "argmax"), (-1, "argmin")):
            got, = run(name, (a,), dtype)
            assert got.shape == () and got == first_best(a.reshape(-1), 0, sign)
    assert run("argmax", (x,), dtype, keepdim=True)[0].shape == (1,) * x.ndim


# Running sums ------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, dim", [
    ((1,), 0), ((40,), 0), ((3, 5), 1), ((9, 33), 1), ((3, 700), 1), ((2, 5000), 1), ((5, 3), 0),
    ((2, 4, 3), 1), ((2, 513, 2), 1), ((600, 40), 0)], ids=str)
def test_running_sums(rng: Any, shape: Any, dim: int, dtype: str) -> None:
    x = rng.integers(-2, 3, shape) / 4           # exact in all dtypes
    for backwards in (False, True):
        agree("cumsum", x, dtype=dtype, dim=dim, backwards=backwards, until=0)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_running_sums_of_a_few_long_rows_go_in_chunks(rng: Any, dtype: str) -> None:
    x = rng.integers(-1, 2, (2, 2 * scan.CHUNK + 77)) / 2
    for backwards in (False, True):
        agree("cumsum", x, dtype=dtype, dim=1, backwards=backwards, until=0)
        assert launched == ["cumsum_rows"] * 3
    agree("cumsum", np.ascontiguousarray(x.T), dtype=dtype, dim=0, until=0)


def test_gradient_of_running_sums(rng: Any) -> None:
    x = torch.tensor(real(rng, 3, 50), device="cuda", requires_grad=True)
    launched.clear()
    g, = torch.autograd.grad(x.cumsum(1), x, torch.ones_like(x), create_graph=True)
    assert launched == ["cumsum_rows"] * 2 and g[0].tolist() == list(range(50, 0, -1))


# Selection ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, dim", [((1, 1), 1), ((3, 5), 1), ((4, 300), 1), ((2, 1500), 1),
                                        ((300, 3), 0), ((2, 40, 3), 1)], ids=str)
def test_the_first_k(rng: Any, shape: Any, dim: int, dtype: str) -> None:
    n = shape[dim]
    zeros = np.where(rng.random(shape) < 0.5, 0.0, -0.0)
    for x in (real(rng, *shape), np.round(real(rng, *shape)), holed(rng, *shape), zeros,
              np.full(shape, np.nan)):
        a = array(x, dtype)
        for k in {1, min(n, 7), min(n, sort.MOST)}:
            for largest in (True, False):
                want = sort.order(backend.cpu, a, dim, largest)[(slice(None),) * dim + (slice(k),)]
                values, at = run("topk", (x,), dtype, k=k, dim=dim, largest=largest)
                assert launched == ["topk"]
                np.testing.assert_array_equal(at, want)
                np.testing.assert_array_equal(values.astype(float),
                                              np.take_along_axis(a, want, dim).astype(float))
            at = run("kthvalue", (x,), dtype, k=k, dim=dim, keepdim=True)[1]
            want = np.take(sort.order(backend.cpu, a, dim, False), [k - 1], dim)
            np.testing.assert_array_equal(at, want)


def test_a_larger_k_is_sorted_for(rng: Any) -> None:
    x = rng.permutation(4000).reshape(4, 1000) / 8
    launched.clear()
    values = torch.tensor(x, device="cuda").topk(sort.MOST + 1).values
    assert launched == []
    np.testing.assert_array_equal(values.cpu().numpy(), -np.sort(-x)[:, :sort.MOST + 1])
    integers = torch.tensor(x * 8, device="cuda").long()
    np.testing.assert_array_equal(integers.topk(3, largest=False)[1].cpu().numpy(),
                                  np.argsort(x)[:, :3])


# Orders of threads -------------------------------------------------------------------------------

def test_every_order_of_threads(rng: Any, order: Any) -> None:
    for shape, dim in (((2100, 3), (0,)), ((2, 4200), (1,)), ((4, 300), (1,))):
        x = real(rng, *shape)
        agree("sum", x, dtype="float32", dim=dim)
        agree("std_mean", x, dtype="float32", dim=dim)
        agree("any", x > 5, dtype="float32", dim=dim)
        run("max", (x,), "float32", dim=dim[0])
        np.testing.assert_array_equal(run("argmin", (x,), "float32", dim=dim[0])[0],
                                      x.astype(np.float32).argmin(dim[0]))
        agree("cumsum", x.round(), dtype="float32", dim=dim[0], until=0)
    x = real(rng, 5, 700)
    agree("logsumexp", x, dtype="float32", dim=(1,))
    agree("topk", x, dtype="float32", k=9, dim=1)


def test_the_same_bits_in_every_order(rng: Any) -> None:
    from gpugrad.backend import cuda
    if not cuda.simulated():
        pytest.skip("a GPU chooses its order")
    from gpugrad.cudasim.kernel import settings
    x = real(rng, 60, 70)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("sum_all", {}), ("sum", {"dim": (0,)}), ("var", {"dim": (1,)}),
        ("logsumexp", {"dim": (1,)}), ("cumsum", {"dim": 1}), ("layer_norm", {"ndim": 1}),
        ("batch_norm", {}), ("group_norm", {"groups": 2})]
    for name, kw in calls:
        found = []
        for way in ("forward", "reversed", 3):
            with settings.using(order=way):
                found.append(run(name, (x,), "float32", **kw))
        for other in found[1:]:
            for a, b in zip(found[0], other):
                np.testing.assert_array_equal(a, b)
