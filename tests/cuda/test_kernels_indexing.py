"""Indexing and embedding kernels against NumPy: duplicates, long runs, odd shapes, outside."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import backend
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend import kernels
from gpugrad.ops import places

pytestmark = pytest.mark.gpu

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
UNTIL = {torch.float32: 1e-5, torch.float64: 1e-12, torch.float16: 1e-2, torch.bfloat16: 8e-2}


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the kernels that are launched."""
    names: list[str] = []
    launch = kernels.Kernels.launch

    def note(self: Any, file: str, name: str, *rest: Any) -> None:
        names.append(name)
        launch(self, file, name, *rest)
    monkeypatch.setattr(kernels.Kernels, "launch", note)
    yield names


def real(*shape: int, seed: int = 0) -> Any:
    return torch.from_numpy(np.array(np.random.default_rng(seed).standard_normal(shape)))


def index(n: int, *shape: int, seed: int = 0, dtype: Any = np.int64) -> Any:
    a = np.random.default_rng(seed).integers(0, n, shape)
    return torch.from_numpy(np.array(a, dtype))


def host(t: Any) -> Any:
    return t.detach().cpu().double().numpy()


def both(f: Any, *args: Any, dtype: Any = torch.float64, orders: int = 2) -> None:
    """f's results and its gradients of the first and second order on both devices."""
    def run(device: str) -> list[Any]:
        ins = [a.to(device, dtype).requires_grad_() if a.is_floating_point() else a.to(device)
               for a in args]
        leaves = [t for t in ins if t.requires_grad]
        found = [f(*ins)]
        slope = real(*found[0].shape, seed=5).to(device, dtype).requires_grad_()
        first = torch.autograd.grad(found[0], leaves, slope, create_graph=orders > 1)
        found += first
        if orders > 1:
            slopes = [real(*g.shape, seed=6).to(device, dtype) for g in first]
            found += torch.autograd.grad(first, slope, slopes)
        return found
    for got, want in zip(run("cuda"), run("cpu"), strict=True):
        assert got.is_cuda and got.dtype is want.dtype and got.shape == want.shape
        np.testing.assert_allclose(host(got), host(want), rtol=UNTIL[dtype], atol=UNTIL[dtype])


# Reading -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("key", [
    lambda i: i, lambda i: (slice(None), i), lambda i: (i, i.flip(0)), lambda i: (..., i),
    lambda i: (i[:, None], slice(None), i), lambda i: (slice(None), i, i[:, None]),
    lambda i: (i - 3, i - 3, i), lambda i: i[:0]], ids=list("abcdefgh"))
def test_advanced_indices(key: Any, dtype: Any) -> None:
    both(lambda x, i: x[key(i)], real(3, 4, 3), index(3, 7), dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("m", [0, 1, 3, 100])
def test_index_select(dim: int, m: int, dtype: Any) -> None:
    both(lambda x, i: x.index_select(dim, i), real(4, 5, 3), index(3, m, dtype=np.int32),
         dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "at", "dim"), [
    ((4, 5, 3), (9, 5, 3), 0), ((4, 5, 3), (4, 77, 3), 1), ((4, 5, 3), (4, 5, 2), 2),
    ((4, 5, 3), (2, 4, 3), 1), ((4, 5, 3), (3, 1, 7), 2), ((6,), (130,), 0), ((4, 5), (0, 5), 0),
    ((2, 3, 2, 3, 2), (2, 2, 5, 3, 1), 2)])
def test_gather_and_its_gradient(shape: Any, at: Any, dim: int, dtype: Any) -> None:
    both(lambda x, i: x.gather(dim, i), real(*shape), index(shape[dim], *at), dtype=dtype)


# Writing and adding ------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("m", [0, 1, 3, 31, 32, 33, 200])
def test_index_add(dim: int, m: int, dtype: Any) -> None:
    shape = [3, 3, 3]
    shape[dim] = m
    both(lambda x, i, s: torch.index_add(x, dim, i, s, alpha=2), real(3, 3, 3), index(3, m),
         real(*shape, seed=1), dtype=dtype)


@pytest.mark.parametrize("runs", [[200], [1] * 70, [32, 32, 32], [31, 1, 64, 2], [33, 31],
                                  [5, 90, 1, 40], [0, 64, 0, 1]], ids=str)
@pytest.mark.parametrize("shape", [(3,), (2, 3), ()], ids=str)
def test_runs_of_equal_indices(runs: list[int], shape: Any) -> None:
    """Runs that end inside a part, at its end, and parts later; PART is 32."""
    at = np.random.default_rng(0).permutation(np.repeat(np.arange(len(runs)), runs))
    g = np.random.default_rng(1).standard_normal((*at.shape, *shape))
    want = np.zeros((len(runs), *shape))
    np.add.at(want, at, g)
    x = torch.zeros(len(runs), *shape, dtype=torch.float64, device="cuda")
    x.index_add_(0, torch.from_numpy(at).cuda(), torch.from_numpy(g).cuda())
    np.testing.assert_allclose(host(x), want, rtol=1e-12, atol=1e-13)


def test_sums_are_made_in_one_order_whatever_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    at, g = index(5, 3000).cuda(), real(3000, 7).float().cuda()
    x = torch.zeros(5, 7, device="cuda")
    want = host(x.index_add(0, at, g))
    monkeypatch.setattr(kernels, "MAX_BLOCKS", 1)
    assert (host(x.index_add(0, at, g)) == want).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "at", "dim"), [
    ((4, 5, 3), (9, 5, 3), 0), ((4, 5, 3), (2, 40, 3), 1), ((4, 5, 3), (3, 1, 7), 2),
    ((6,), (130,), 0), ((4, 5), (0, 5), 0), ((1,), (500,), 0)])
def test_scatter_add(shape: Any, at: Any, dim: int, dtype: Any) -> None:
    both(lambda x, i, s: T.scatter_add(x, i, s, dim=dim), real(*shape), index(shape[dim], *at),
         real(*[n + 1 for n in at], seed=1), dtype=dtype)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_index_put(accumulate: bool, dtype: Any) -> None:
    def put(x: Any, v: Any, *at: Any) -> Any:
        return torch.index_put(x, at, v, accumulate)
    distinct = torch.from_numpy(np.array([2, 0]))
    both(put, real(3, 4, 2), real(2, 4, 2), distinct, dtype=dtype)
    both(put, real(3, 4, 2), real(), distinct, distinct, dtype=dtype)
    both(put, real(3, 4, 2), real(1, 4, 1), distinct, dtype=dtype)
    both(lambda x, v, i: put(x, v, i[:, None], i, i.flip(0) // 2), real(3, 4, 2), real(2, 2),
         distinct, dtype=dtype)


def test_writing_between_slices() -> None:
    def write(x: Any, v: Any, i: Any) -> Any:
        y = x * 1
        y[i, :, i] = v
        return y
    both(write, real(3, 4, 3), real(2, 4), torch.from_numpy(np.array([2, 0])))


@pytest.mark.parametrize("m", [1, 2, 300])
def test_of_several_values_for_one_place_the_last_is_written(m: int) -> None:
    at, values = index(3, m), real(m, 2)
    got, want = torch.zeros(3, 2, dtype=torch.float64, device="cuda"), np.zeros((3, 2))
    got[at.cuda()] = values.cuda()
    for i, v in zip(at.tolist(), values.numpy()):
        want[i] = v
    assert (host(got) == want).all()


def test_scatter_writes() -> None:
    both(lambda x, s, i: x.scatter(1, i, s), real(3, 5), real(3, 2),
         torch.from_numpy(np.array([[4, 0], [1, 2], [3, 0]])))
    x = torch.zeros(3, 5, device="cuda").scatter(1, torch.tensor([[1], [0], [4]]).cuda(), 2.0)
    assert x.sum().item() == 6 and x[2, 4].item() == 2


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "dim"), [((3, 70), 1), ((9, 2, 3), 0)])
def test_scatter_into_zeros(shape: Any, dim: int, dtype: Any) -> None:
    """As the gradients of max, sort and others do it, at distinct positions."""
    order = np.random.default_rng(0).permuted(np.indices(shape)[dim], axis=dim)
    at = torch.from_numpy(np.take(order, range(2), dim))
    both(lambda g, i: T.scatter(g, i, shape=shape, dim=dim), real(*at.shape), at, dtype=dtype)


@pytest.mark.parametrize("shape", [(3, 0), (0, 3)])
def test_nothing_to_do(shape: Any, launched: list[str]) -> None:
    x, i = torch.zeros(*shape, device="cuda"), torch.zeros(0, dtype=torch.int64, device="cuda")
    assert x.index_add(0, i, x[:0]).shape == shape and x.index_select(0, i).shape == (0, shape[1])
    assert x[i].shape == (0, shape[1]) and x.clone().index_put_((i,), x[:0]).shape == shape


# Outside -----------------------------------------------------------------------------------------

def test_reads_outside_are_nan_and_writes_are_left_out() -> None:
    x = torch.arange(6.0, device="cuda").reshape(3, 2)
    at = torch.tensor([0, 3, -1, -4], device="cuda")
    for y in (x[at], x.index_select(0, at), F.embedding(at, x),
              x.gather(0, at[:, None].expand(4, 2))):
        assert y[0].tolist() == [0, 1] and y[2].tolist() == [4, 5]
        assert torch.isnan(y[1]).all() and torch.isnan(y[3]).all()
    ones = torch.ones(4, 2, device="cuda")
    want = [[1, 2], [2, 3], [5, 6]]
    assert x.index_add(0, at, ones).tolist() == want
    assert x.scatter_add(0, at[:, None].expand(4, 2), ones).tolist() == want
    assert torch.index_put(x, (at,), ones, accumulate=True).tolist() == want
    assert torch.index_put(x, (at,), ones).tolist() == [[1, 1], [2, 3], [1, 1]]
    pair = x[at, torch.tensor([0, 0, 5, 1], device="cuda")]
    assert pair[0].item() == 0 and torch.isnan(pair[1:]).all()


# Embedding ---------------------------------------------------------------------------------------

WAYS = {"scanned": ["sum_rows"], "ordered": ["row_order", "add_rows", "add_runs"],
        "sorted": ["flat_index", "add_rows", "add_runs"]}


def choose(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How the sums of rows by their index are made, whatever their number."""
    if way != "scanned":
        monkeypatch.setattr(places, "SCANNED", (-1, -1))
    monkeypatch.setattr(places, "ORDERED", 0 if way == "sorted" else 1 << 15)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    choose(request.param, monkeypatch)
    return str(request.param)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kw", [{}, {"padding_idx": 1}, {"padding_idx": -1},
                                {"scale_grad_by_freq": True},
                                {"scale_grad_by_freq": True, "padding_idx": 0}], ids=str)
@pytest.mark.parametrize("shape", [(3, 50), (7,), (), (0, 2)], ids=str)
def test_embedding(kw: Any, shape: Any, dtype: Any, way: str) -> None:
    both(lambda w, i: F.embedding(i, w, **kw), real(5, 6), index(5, *shape), dtype=dtype)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_embedding_gradient(device: str) -> None:
    w = real(4, 2).to(device).requires_grad_()
    i = torch.tensor([[1, 3, 1], [0, 1, 3]], device=device)
    y = F.embedding(i, w, padding_idx=0)
    assert y.grad_fn.name() == "EmbeddingBackward0"
    g, = torch.autograd.grad(y.square().sum(), w, create_graph=True)
    assert g.grad_fn.name() == "EmbeddingDenseBackwardBackward0"
    g, = torch.autograd.grad(y.sum(), w)
    assert g.tolist() == [[0, 0], [3, 3], [0, 0], [2, 2]]
    g, = torch.autograd.grad(F.embedding(i, w, scale_grad_by_freq=True).sum(), w)
    np.testing.assert_allclose(host(g), [[1, 1], [1, 1], [0, 0], [1, 1]], rtol=1e-12)


@pytest.mark.parametrize(("n", "d", "m"), [(3, 130, 40), (2, 3, 2300), (90, 1, 33), (1, 129, 65),
                                           (40, 2, 1000), (3, 2, 32)])
def test_rows_of_one_index_are_added(n: int, d: int, m: int, way: str, launched: list[str]) -> None:
    """Also one from the end, one that is outside, and one that nobody needs: by few kernels."""
    at = np.random.default_rng(0).integers(-1, n, m)
    at[m // 2] = n
    g = np.random.default_rng(1).standard_normal((m, d))
    want, times = np.zeros((n + 1, d)), np.zeros(n + 1)
    np.add.at(want, np.where(at < 0, at + n, at), g)
    np.add.at(times, np.where(at < 0, at + n, at), 1)
    want[0] = 0
    got = [T.embedding_dense_backward(torch.from_numpy(g).cuda(), torch.from_numpy(at).cuda(),
                                      num_weights=n, padding_idx=0, scale_grad_by_freq=False)]
    assert launched == [k for k in WAYS[way] if k != "add_runs" or m > places.PART]
    np.testing.assert_allclose(host(got[0]), want[:n], rtol=1e-12, atol=1e-12)
    at = np.where(at < 0, at + n, at)
    got = T.embedding_dense_backward(torch.from_numpy(g).cuda(), torch.from_numpy(at).cuda(),
                                     num_weights=n, padding_idx=0, scale_grad_by_freq=True)
    np.testing.assert_allclose(host(got), (want / np.maximum(times, 1)[:, None])[:n], rtol=1e-12,
                               atol=1e-12)


def test_which_way_sums_of_rows_are_made() -> None:
    assert places.scans(0, 5, 3) and places.scans(1024, 1024, 768)
    assert places.scans(16384, 65, 384) and places.scans(8192, 2, 768)
    assert not places.scans(8192, 50257, 768) and not places.scans(16, 1 << 20, 8)


@pytest.mark.parametrize("size", [5, 64, 70])
def test_a_place_for_zeros_that_is_not_aligned(size: int) -> None:
    """row_order writes zeros 16 bytes at a time, where it can."""
    be = backend.get("cuda")
    for first in (0, 1):
        x = be.xp.full((size + 2,), 7, np.float32)
        part = x[first:first + size]
        places.add(be, part, be.xp.ones((3,), np.float32), be.xp.full((3,), -2, np.int64), size, 1,
                   fresh=True)
        want = np.full(size + 2, 7.0)
        want[first:first + size] = 0
        want[first + size - 2] = 3
        assert be.to_host(x).tolist() == want.tolist()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("p", [2.0, 1.0])
def test_rows_are_renormalised(p: float, device: str) -> None:
    w = (real(4, 3) * 5).to(device).requires_grad_()
    before, i = host(w), torch.tensor([2, 0, 2], device=device)
    version = w._version
    y = F.embedding(i, w, max_norm=1.5, norm_type=p)
    after = host(w)
    norms = np.linalg.norm(before, p, axis=1)
    want = np.where(norms > 1.5, 1.5 / (norms + 1e-7), 1.0)
    np.testing.assert_allclose(after[[0, 2]], (before * want[:, None])[[0, 2]], rtol=1e-12)
    assert (after[[1, 3]] == before[[1, 3]]).all() and w._version > version
    np.testing.assert_array_equal(host(y), after[[2, 0, 2]])


def test_embedding_refuses() -> None:
    w, i = real(3, 2), index(3, 4)
    with pytest.raises(NotImplementedError, match="sparse=True"):
        F.embedding(i, w, sparse=True)
    for bad in (3, -1):
        with pytest.raises(IndexError, match="index out of range in self"):
            F.embedding(torch.tensor([0, bad]), w)
    with pytest.raises(RuntimeError, match="'weight' must be 2-D"):
        F.embedding(i, w[0])
    with pytest.raises(RuntimeError, match=r"types: Long, Int; but got torch\.DoubleTensor"):
        F.embedding(w, w)


# Both --------------------------------------------------------------------------------------------

def test_no_host_is_waited_for() -> None:
    if not torch.cuda.sim.is_simulated():
        pytest.skip("the simulated device counts")
    w = real(5, 3).cuda().requires_grad_()
    i = index(5, 40).cuda()
    torch.cuda.sim.reset()
    y = F.embedding(i, w, padding_idx=2) + w[i] + w.index_select(0, i)
    (y * w.gather(0, i[:, None].expand(40, 3))).sum().backward()
    w.detach()[i] = 1.0
    stats = torch.cuda.sim.stats()
    assert stats.syncs == stats.d2h == 0


def test_without_kernels_the_text_runs(monkeypatch: pytest.MonkeyPatch,
                                       launched: list[str]) -> None:
    monkeypatch.setattr(backend.get("cuda").kernels, "on", False)
    both(lambda w, i: F.embedding(i, w, padding_idx=1, scale_grad_by_freq=True), real(5, 3),
         index(5, 20))
    both(lambda x, i: x[i, :, i], real(3, 2, 3), index(3, 4))
    both(lambda x, i, s: x.scatter_add(0, i, s), real(3, 2), index(3, 5, 2), real(5, 2))
    assert launched == []


def test_arrays_of_more_than_two_billion_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they run, on small ones: the kernels with 64-bit indices."""
    monkeypatch.setattr(kernels, "NARROW", 0)
    for way in WAYS:
        choose(way, monkeypatch)
        both(lambda w, i: F.embedding(i, w, padding_idx=1), real(5, 3), index(5, 70))
    both(lambda x, i: x[:, i, i], real(3, 4, 4), index(4, 9))
    both(lambda x, i, s: x.scatter_add(1, i, s), real(3, 5), index(5, 3, 40), real(3, 40))
    both(lambda x, i: x.gather(0, i), real(4, 3), index(4, 7, 3))
    both(lambda g, i: T.scatter(g, i, shape=(3, 4), dim=1), real(3, 1), index(4, 3, 1))
    test_of_several_values_for_one_place_the_last_is_written(70)


@pytest.mark.parametrize("order", ["forward", "reversed", "5"])
def test_every_order_of_threads(order: str, way: str) -> None:
    if not torch.cuda.sim.is_simulated():
        pytest.skip("the simulated device has orders")
    from gpugrad.cudasim.kernel import settings
    with settings.using(order=order):
        both(lambda w, i: F.embedding(i, w), real(4, 3), index(4, 150))
        test_of_several_values_for_one_place_the_last_is_written(300)


def test_the_structs_are_as_the_kernels_have_them() -> None:
    text = kernels.source("indexing")
    assert f"#define PART {places.PART}\n" in text and f"#define TILE {places.TILE}\n" in text
    assert f"size[{places.DIMS}], stride[{places.DIMS}];" in text
    assert places.along((2, 3, 5, 4), (2, 3, 9, 4), 2)["ndim"] == 3
    assert places.along((2, 3, 5, 4), (2, 6, 9, 4), 2)["ndim"] == 4
    assert places.along((1,) * 9, (2,) * 9, 3) is None
