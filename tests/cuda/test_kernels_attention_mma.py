"""Attention on tensor cores against the portable text in float64, and where its tiles lie."""
from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from against_portable import array, launched, note_launches, order

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import backend, dtypes
from gpugrad._tensor import wrap
from gpugrad.autograd.op import SPECS
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend import kernels, precision
from gpugrad.ops import attention_kernels as ak

assert note_launches and order                   # fixtures
HALVES = "float16", "bfloat16"
UNTIL = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 4e-3}     # float32: in TF32
GPU = pytest.mark.gpu

# (images, heads, heads of keys, queries, keys, features, values): tiles that are full and not, one
# and several of each kind, heads that are shared, both sizes of kernels
SHAPES = [(1, 1, 1, 128, 128, 64, 64), (2, 4, 2, 35, 70, 8, 16), (1, 2, 1, 140, 75, 64, 40),
          (1, 1, 1, 20, 140, 128, 72), (1, 2, 2, 137, 33, 16, 128), (1, 3, 1, 2, 9, 96, 8)]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision.matmul, "float32", "high")


def inputs(rng: Any, shape: Any, dtype: str) -> list[Any]:
    """q, k, v and g, rounded."""
    n, h, shared, length, s, e, ev = shape
    return [array(np.asarray(rng.standard_normal(size)), dtype) for size in (
        (n, h, length, e), (n, shared, s, e), (n, shared, s, ev), (n, h, length, ev))]


def mask_of(rng: Any, shape: Any, kind: str, dtype: str) -> Any:
    n, h, _, length, s = shape[:5]
    size = (n, 1, length, s) if kind == "bools" else (1, h, length, s)
    seen = rng.random(size) < 0.6
    if length > 2:
        seen[:, :, 1] = False                    # a query that sees nothing
    if kind == "bools":
        return seen
    return array(np.where(seen, rng.standard_normal(size), -np.inf), dtype)


def on_device(arrays: Any, split: bool) -> list[Any]:
    """Copies on the device; split: as heads that were split off a longer last dim."""
    be, found = backend.get("cuda"), []
    for a in arrays:
        a = be.from_host(a)
        found.append(be.copy(a.swapaxes(1, 2)).swapaxes(1, 2) if split else a)
    return found


def both(arrays: Any, mask: Any = None, split: bool = False, **kw: Any) -> tuple[Any, Any]:
    """What kernels on tensor cores give, and NumPy in float64: out, lse, gq, gk, gv."""
    be = backend.get("cuda")
    launched.clear()
    there = None if mask is None else be.from_host(mask)
    q, k, v, g = on_device(arrays, split)
    out, lse = be.raw.attention(q, k, v, there, **kw)
    got = out, lse, *be.raw.attention_backward(g, q, k, v, out, lse, there, **kw)
    assert {re.sub(r"_\d+", "", name) for name in launched} == {
        "attention_mma", "attention_mma_delta", "attention_mma_queries", "attention_mma_keys"}
    if split:
        assert all(a.swapaxes(1, 2).flags.c_contiguous for a in (out, *got[2:]))
    q, k, v, g = (a.astype(np.float64) for a in arrays)
    mask = mask if mask is None or mask.dtype == bool else mask.astype(np.float64)
    with np.errstate(all="ignore"):
        first = SPECS["attention"].forward(backend.cpu, q, k, v, mask, **kw)
        rest = SPECS["attention_backward"].forward(backend.cpu, g, q, k, v, *first, mask, **kw)
    return [be.to_host(a) for a in got], [*first, *rest]


def agree(arrays: Any, dtype: str, mask: Any = None, until: float | None = None, **kw: Any) -> None:
    until = UNTIL[dtype] if until is None else until
    for name, a, b in zip(("out", "lse", "gq", "gk", "gv"), *both(arrays, mask, **kw)):
        own = np.dtype(np.float32) if name == "lse" else getattr(dtypes, dtype).np
        assert a.dtype == own and a.shape == b.shape
        size = np.abs(b[np.isfinite(b)]).max(initial=0)
        np.testing.assert_allclose(a.astype(np.float64), b, rtol=until, atol=until * max(size, 1),
                                   err_msg=name)


@GPU
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention(rng: Any, shape: Any, dtype: str) -> None:
    for kind, causal in (("", False), ("", True), ("bools", True), ("numbers", False)):
        mask = mask_of(rng, shape, kind, dtype) if kind else None
        agree(inputs(rng, shape, dtype), dtype, mask, causal=causal, scale=0.3, split=not kind)


@GPU
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_float32_in_tf32(rng: Any, tf32: None) -> None:
    for shape, kind in zip(SHAPES[1:5], ("", "numbers", "bools", "")):
        mask = mask_of(rng, shape, kind, "float32") if kind else None
        agree(inputs(rng, shape, "float32"), "float32", mask, causal=not kind, scale=0.3)


@GPU
def test_every_order_of_threads(rng: Any, order: Any) -> None:
    for shape in ((1, 2, 1, 34, 67, 8, 16), (1, 1, 1, 70, 40, 128, 72)):
        agree(inputs(rng, shape, "float16"), "float16", causal=True, scale=0.3)


@GPU
def test_huge_scores(rng: Any) -> None:
    """One key of many has all the weight; scores are beyond what a fused product tells apart."""
    for dtype, factor in (("float16", 1e3), ("bfloat16", 1e4), ("bfloat16", 1e30)):
        q, k, v, g = inputs(rng, (1, 1, 1, 40, 200, 8, 8), dtype)
        q = array(q.astype(np.float64) * factor, dtype)
        (out, lse, *grads), want = both((q, k, v, g), causal=False, scale=1.0)
        until = UNTIL[dtype]
        np.testing.assert_allclose(out.astype(float), want[0], rtol=until, atol=until)
        np.testing.assert_allclose(lse, want[1], rtol=1e-6)
        np.testing.assert_allclose(grads[2].astype(float), want[4], rtol=until, atol=5 * until)
        assert all(np.isfinite(a.astype(float)).all() for a in grads)


@GPU
def test_a_mask_of_the_least_numbers(rng: Any) -> None:
    """A query that is hidden so from all keys sees all of them alike, as by NumPy."""
    shape = 1, 1, 1, 6, 70, 16, 8
    mask = np.zeros((1, 1, 6, 70))
    mask[..., 30:] = mask[:, :, 3] = float(torch.finfo(torch.bfloat16).min)
    agree(inputs(rng, shape, "bfloat16"), "bfloat16", array(mask, "bfloat16"), causal=False,
          scale=0.3)


@GPU
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_a_number_stays_in_its_row(rng: Any, bad: float) -> None:
    q, k, v, _ = inputs(rng, (1, 2, 2, 20, 8, 8, 8), "float16")
    q[0, 1, 18, 0] = bad
    k[..., 0] = np.abs(k[..., 0])
    be = backend.get("cuda")
    out, lse = (be.to_host(a).astype(float) for a in be.raw.attention(
        *[be.from_host(a) for a in (q, k, v)], None, causal=False, scale=1.0))
    assert np.isnan(out[0, 1, 18]).all() and np.isnan(lse[0, 1, 18])
    assert np.isnan(out).sum() == 8 and np.isnan(lse).sum() == 1


@GPU
def test_gradients_through_the_module(rng: Any) -> None:
    """Heads that were split off one array, as in GPT: read where they lie, the same bits again."""
    x = torch.tensor(array(rng.standard_normal((2, 40, 3 * 16)), "float16"), device="cuda",
                     requires_grad=True)
    found = []
    for _ in range(2):
        q, k, v = (t.unflatten(-1, (2, 8)).transpose(1, 2) for t in x.split(16, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        assert y.transpose(1, 2).is_contiguous()
        found.append([t.detach().cpu().numpy() for t in (
            y, *torch.autograd.grad(y.float().square().sum(), x))])
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)
    w = x.detach().cpu().double().requires_grad_()
    q, k, v = (t.unflatten(-1, (2, 8)).transpose(1, 2) for t in w.split(16, dim=-1))
    z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    np.testing.assert_allclose(found[0][0], z.detach().numpy(), atol=2e-3)
    want = torch.autograd.grad(z.square().sum(), w)[0].numpy()
    np.testing.assert_allclose(found[0][1], want, atol=6e-3)


@GPU
def test_arrays_that_begin_elsewhere_are_copied(rng: Any) -> None:
    arrays = inputs(rng, (1, 2, 2, 10, 12, 8, 8), "float16")
    be = backend.get("cuda")
    kw: dict[str, Any] = {"causal": False, "scale": 0.5}
    want = be.raw.attention(*on_device(arrays[:3], False), None, **kw)
    shifted = []
    for a in arrays[:3]:
        memory = be.empty((a.size + 1,), a.dtype)
        memory[1:] = be.from_host(a.ravel())
        shifted.append(memory[1:].reshape(a.shape))
    turned = [be.copy(a.swapaxes(2, 3)).swapaxes(2, 3) for a in on_device(arrays[:3], False)]
    for given in (shifted, turned):
        launched.clear()
        got = be.raw.attention(*given, None, **kw)
        assert launched[-1] == "attention_mma_64"
        for a, b in zip(got, want):
            np.testing.assert_array_equal(be.to_host(a), be.to_host(b))


@GPU
def test_what_they_do_not_take_goes_elsewhere(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    be = backend.get("cuda")

    def used(shape: Any, dtype: str, scale: float = 0.5) -> str:
        launched.clear()
        be.raw.attention(*on_device(inputs(rng, shape, dtype)[:3], False), None, causal=False,
                         scale=scale)
        return launched[-1]
    shape = 1, 1, 1, 3, 5, 8, 8
    assert used(shape, "float16") == "attention_mma_64"
    assert used((*shape[:5], 12, 8), "float16") == used((*shape[:6], 9), "bfloat16") \
        == used(shape, "float32") == used(shape, "float64") == "attention_64"
    for scale in (0.0, -1.0):
        assert used(shape, "float16", scale) == "attention_64"
    monkeypatch.setattr(type(be.gemm), "capability", lambda self: 75)
    assert used(shape, "float16") == "attention_64"


# Dropout

@GPU
@pytest.mark.parametrize("shape", [(1, 2, 1, 35, 40, 8, 16), (2, 1, 1, 20, 71, 72, 128)], ids=str)
def test_dropout_draws_what_the_whole_matrix_would(rng: Any, shape: Any) -> None:
    """By the op, whose portable text makes that matrix."""
    be = backend.get("cuda")
    state = np.array([5, 7], np.uint64)
    kw: dict[str, Any] = {"causal": shape[3] == 35, "scale": 0.3, "offset": np.uint64(3),
                          "keep": 0.75}
    q, k, v, g = inputs(rng, shape, "float16")
    device = [*on_device((q, k, v), False), None, be.from_host(state)]
    launched.clear()
    out, lse = be.raw.attention(*device, **kw)
    got = out, lse, *be.raw.attention_backward(be.from_host(g), *device[:3], out, lse, *device[3:],
                                               **kw)
    assert len(launched) == 4
    q, k, v, g = (a.astype(np.float64) for a in (q, k, v, g))
    first = SPECS["attention"].forward(backend.cpu, q, k, v, None, state, **kw)
    rest = SPECS["attention_backward"].forward(backend.cpu, g, q, k, v, *first, None, state, **kw)
    for a, b in zip(got, (*first, *rest)):
        np.testing.assert_allclose(be.to_host(a).astype(float), b, rtol=3e-3,
                                   atol=3e-3 * max(1, np.abs(b).max()))


@GPU
def test_dropout_of_the_function(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = inputs(rng, (2, 2, 1, 9, 20, 8, 8), "float16")
    found = []
    for kernels_too in (True, False):
        if not kernels_too:
            monkeypatch.setattr("gpugrad.functions.attention.can_drop", lambda *a: False)
        torch.manual_seed(3)
        q, k, v = (torch.tensor(a, device="cuda", requires_grad=True) for a in arrays[:3])
        launched.clear()
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.3, enable_gqa=True)
        assert ("attention_mma_64" in launched) is kernels_too
        grads = torch.autograd.grad(y.float().square().sum(), (q, k, v))
        after = torch.rand(3, device="cuda")
        found.append([t.detach().cpu().numpy().astype(float) for t in (y, *grads, after)])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-2)
    np.testing.assert_array_equal(found[0][-1], found[1][-1])


@GPU
def test_second_derivatives_with_dropout(rng: Any) -> None:
    """Of the op in float64, by its portable text, against those of the composite."""
    be = backend.get("cuda")
    q, k, v = (torch.tensor(rng.standard_normal((1, 2, 4, 3)), device="cuda", requires_grad=True)
               for _ in range(3))
    state = wrap(be.from_host(np.array([5, 7], np.uint64)), be)
    drawn = T.fused_dropout(torch.ones(1, 2, 4, 4, dtype=torch.float64, device="cuda"), state,
                            offset=3, keep=0.75, scale=1 / 0.75)[0]

    def second(y: Any) -> list[Any]:
        first = torch.autograd.grad(y.pow(3).sum(), (q, k, v), create_graph=True)
        return [t.detach().cpu().numpy() for t in (y, *first, *torch.autograd.grad(
            sum(t.square().sum() for t in first), (q, k, v)))]
    got = second(T.attention(q, k, v, None, state, causal=False, scale=0.5, offset=3, keep=0.75)[0])
    want = second((q @ k.mT * 0.5).softmax(-1).mul(drawn) @ v)
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


# Addresses, by emulation: shared memory has 32 banks of 4 bytes, and what a quarter of a warp reads
# or writes at once by 16 bytes, or a warp by 4, should lie in different ones.

def place(nbytes: int, row: Any, chunk: Any) -> Any:
    """place_of of attention_mma.cuh, in bytes."""
    return row * nbytes + (chunk ^ row % 8) * 16


@pytest.mark.parametrize("nbytes", ak.MMA_FORWARD)
def test_chunks_have_places_of_their_own_in_different_banks(nbytes: int) -> None:
    chunks = nbytes // 16
    rows, columns = np.indices((32, chunks))
    at = place(nbytes, rows, columns)
    assert sorted(at.ravel()) == list(range(0, 32 * nbytes, 16))
    for first in range(0, 32, 8):                # ldmatrix: eight rows of one chunk
        assert (np.sort(at[first:first + 8] // 16 % 8, axis=0) == np.arange(8)[:, None]).all()
    threads = np.arange(128).reshape(-1, 8)      # fetch: neighbours write neighbours
    banks = place(nbytes, threads // chunks, threads % chunks) // 16 % 8
    assert (np.sort(banks) == np.arange(8)).all()


@pytest.mark.parametrize("nbytes", [256, 512])
def test_columns_for_tf32_are_read_from_different_banks(nbytes: int) -> None:
    lane = np.arange(32)
    for odd in (0, 1):
        for column in range(0, nbytes // 4, 8):
            c, r = column + lane // 4, lane % 4 * 2 + odd
            at = place(nbytes, r, c // 4) + c % 4 * 4
            assert sorted(at // 4 % 32) == list(range(32))


def test_tiles_and_structs_are_those_of_the_kernels() -> None:
    text = kernels.source("attention_mma") + kernels.source("attention_mma_backward")
    struct = re.search(r"struct Attention \{\s*int ([\w, ]+);\s*long long ([\w, ]+);\s*Strides "
                       r"([\w, ]+);", text)
    assert struct is not None
    assert ", ".join(struct.groups()).split(", ") == list(ak.STRUCT.names or ())
    assert ak.STRUCT.itemsize == 8 * 4 + 4 * 8 + 7 * 24
    for name, tiles, bands, warps in (
            ("Forward", ak.MMA_FORWARD, {128: 2, 256: 2, 512: 1}, {}),
            ("Backward", ak.MMA_BACKWARD, {128: 2, 256: 1, 512: 1}, {512: 2})):
        assert f"struct {name} {{" in text
        for nbytes, (held, threads) in tiles.items():
            assert threads == 32 * warps.get(nbytes, 4)
            assert held == 16 * bands[nbytes] * warps.get(nbytes, 4)
