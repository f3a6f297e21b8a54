"""The kernels of attention against the portable text."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from against_portable import DTYPES, agree, launched, note_launches, order, run

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import backend
from gpugrad.autograd.op import SPECS
from gpugrad.ops.shape import together

assert note_launches and order                   # fixtures
pytestmark = pytest.mark.gpu

# (images, heads, heads of keys, queries, keys, features, values): one tile and several, tiles that
# are full and not, heads that are shared, both sizes of kernels
SHAPES = [(1, 2, 2, 5, 7, 3, 2), (2, 4, 2, 35, 33, 8, 16), (1, 1, 1, 2, 70, 64, 64),
          (1, 2, 1, 66, 5, 5, 1), (1, 1, 1, 34, 36, 65, 100), (1, 3, 1, 3, 17, 2, 128)]
MASKS = {"none": None, "bools": (1, 0, 1, 1), "by image": (1, 0, 0, 1), "numbers": (0, 1, 1, 1)}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def real(rng: np.random.Generator, *shape: int) -> Any:
    return np.asarray(rng.standard_normal(shape))


def inputs(rng: Any, shape: Any) -> list[Any]:
    n, h, shared, length, s, e, ev = shape
    return [real(rng, n, h, length, e), real(rng, n, shared, s, e), real(rng, n, shared, s, ev)]


def mask_of(rng: Any, shape: Any, kind: str) -> Any:
    """A mask that is broadcast in some dims; its first query, if it has several, sees nothing."""
    along = MASKS[kind]
    if along is None:
        return None
    n, h, _, length, s = shape[:5]
    size = [k if there else 1 for k, there in zip((n, h, length, s), along)]
    seen = rng.random(size) < 0.6
    if size[2] > 1:
        seen[:, :, 0] = False
    return np.where(seen, real(rng, *size), -np.inf) if kind == "numbers" else seen


def both(rng: Any, shape: Any, mask: Any, causal: bool, dtype: str) -> None:
    q, k, v = inputs(rng, shape)
    kw = {"causal": causal, "scale": 0.4}
    agree("attention", q, k, v, mask, dtype=dtype, **kw)
    assert not {"attention_64", "attention_128"}.isdisjoint(launched)
    out, lse = SPECS["attention"].forward(backend.cpu, q, k, v, mask, **kw)
    agree("attention_backward", real(rng, *out.shape), q, k, v, out, lse, mask, dtype=dtype, **kw)


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention(rng: Any, shape: Any, mask: str) -> None:
    for causal in (False, True):
        both(rng, shape, mask_of(rng, shape, mask), causal, "float32")


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(rng: Any, dtype: str) -> None:
    for shape in ((1, 2, 1, 18, 20, 6, 4), (1, 1, 1, 9, 17, 66, 3)):
        both(rng, shape, None, True, dtype)
        both(rng, shape, mask_of(rng, shape, "numbers"), False, dtype)


def test_every_order_of_threads(rng: Any, order: Any) -> None:
    both(rng, (1, 2, 1, 34, 67, 4, 3), None, True, "float32")
    both(rng, (1, 1, 1, 3, 33, 65, 3), None, False, "float32")


def test_large_and_small_scores_neither_overflow_nor_vanish(rng: Any) -> None:
    q, k, v = inputs(rng, (1, 1, 1, 4, 40, 3, 2))
    for factor in (300.0, 1e-6):
        agree("attention", q * factor, k, v, dtype="float32", until=2e-4, causal=False, scale=1.0)
    q[0, 0, 1] *= -1e30                          # finite scores near -1e30, whose sum is theirs
    out, lse = run("attention", (q, k, v), "float32", causal=False, scale=1.0)
    assert np.isfinite(out).all() and np.isfinite(lse).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_a_number_stays_in_its_row(rng: Any, bad: float) -> None:
    q, k, v = inputs(rng, (1, 2, 2, 20, 8, 3, 2))
    q[0, 1, 18, 0] = bad
    k[..., 0] = np.abs(k[..., 0])
    out, lse = run("attention", (q, k, v), "float32", causal=False, scale=1.0)
    assert np.isnan(out[0, 1, 18]).all() and np.isnan(lse[0, 1, 18])
    assert np.isnan(out).sum() == 2 and np.isnan(lse).sum() == 1


def test_the_same_bits_again(rng: Any) -> None:
    q, k, v = (torch.tensor(a, dtype=torch.float32, device="cuda", requires_grad=True)
               for a in inputs(rng, (2, 4, 2, 40, 37, 5, 6)))
    found = []
    for _ in range(2):
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        grads = torch.autograd.grad(y.square().sum(), (q, k, v))
        found.append([t.detach().cpu().numpy() for t in (y, *grads)])
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)


def test_a_mask_that_is_repeated_is_not_copied(rng: Any) -> None:
    q, k, v = (torch.tensor(a, dtype=torch.float32, device="cuda")
               for a in inputs(rng, (2, 3, 3, 6, 7, 4, 4)))
    padding = torch.tensor(rng.random((2, 1, 1, 7)) < 0.7, device="cuda")
    want = F.scaled_dot_product_attention(q, k, v, padding.expand(2, 3, 6, 7).contiguous())
    got = F.scaled_dot_product_attention(q, k, v, padding.expand(2, 3, 6, 7))
    np.testing.assert_array_equal(got.cpu().numpy(), want.cpu().numpy())


# How q, k and v are made of one array (2, 5, 3 * 2 * 4)
HEADS = {
    "unbind": lambda x: x.view(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0),
    "unbind of heads": lambda x: x.view(2, 5, 2, 3, 4).transpose(1, 2).unbind(3),
    "chunk": lambda x: [a.view(2, 5, 2, 4).transpose(1, 2) for a in x.chunk(3, -1)],
    "split": lambda x: [a.unflatten(2, (2, 4)).transpose(1, 2) for a in x.split([8, 8, 8], 2)]}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", HEADS)
def test_arrays_are_read_and_written_where_they_lie(rng: Any, how: str, dtype: str) -> None:
    x = torch.tensor(real(rng, 2, 5, 24), dtype=getattr(torch, dtype), device="cuda",
                     requires_grad=True)
    found, be = [], x._be
    for dense in (True, False):
        with pytest.MonkeyPatch.context() as change:
            if not dense:                        # nothing is copied to another order
                for name in ("ascontiguousarray", "stack", "concatenate"):
                    change.setattr(be.xp, name, None)
                change.setattr(be, "copy", None)
            heads = HEADS[how](x)
            if dense:
                heads = [a.contiguous() for a in heads]
            y = F.scaled_dot_product_attention(*heads, is_causal=True)
            y = y.transpose(1, 2)
            assert y.is_contiguous() is not dense
            slope = torch.ones_like(x)[..., :8]
            found.append([y, *torch.autograd.grad(y.reshape(2, 5, 8), x, slope)])
    for a, b in zip(*found):
        assert a.detach().cpu().float().numpy().tobytes() == \
            b.detach().cpu().float().numpy().tobytes()


@pytest.mark.parametrize("how", HEADS)
def test_gradients_in_one_piece_of_memory_are_as_separate_ones(rng: Any, how: str) -> None:
    start = real(rng, 2, 5, 24)

    def run_on(device: str) -> list[Any]:
        x = torch.tensor(start, device=device, requires_grad=True)
        kept: list[Any] = []
        for again in range(2):
            z = x * 2
            heads = HEADS[how](z if again else x)
            for a in heads[:2]:
                a.retain_grad()
                a.register_hook(kept.append)
            heads[2].register_hook(lambda g: g * 3)
            y = F.scaled_dot_product_attention(*heads).square()
            (y.sum() + (heads[0] * z.sum()).sum() * again).backward()
            kept += [x.grad.clone(), *[a.grad for a in heads[:2]]]
        heads = HEADS[how](x)
        y = F.scaled_dot_product_attention(*heads)
        g, = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        h, = torch.autograd.grad(g.square().sum(), x)
        g.detach().mul_(2)
        q, = torch.autograd.grad(F.scaled_dot_product_attention(*HEADS[how](x)).sum(), x)
        return [t.detach().cpu().numpy() for t in (*kept, x.grad, g, h, q)]
    for a, b in zip(run_on("cuda"), run_on("cpu"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_what_is_put_together_of_views_is_known_as_one() -> None:
    be = backend.get("cuda")
    memory = be.xp.arange(24)
    whole = memory.reshape(2, 3, 4)
    for parts, dim, new, like in (
            (list(whole), 0, True, whole), (list(whole.transpose(2, 0, 1)), 2, True, whole),
            ([whole[:, :1], whole[:, 1:3]], 1, False, whole),
            ([whole[..., :2], whole[..., 2:3]], 2, False, whole[..., :3])):
        found = together(be, parts, dim, new)
        assert found.base is memory and found.data.ptr == whole.data.ptr
        assert be.to_host(found).tolist() == be.to_host(like).tolist()
    for parts, dim, new in (
            ([whole[1], whole[0]], 0, True), ([whole[0], whole[0]], 0, True), ([whole[0]], 0, True),
            ([whole[0], whole[1].copy()], 0, True), ([whole[0], whole[1, :, ::2]], 0, True),
            ([whole[:, :1], whole[:, 2:]], 1, False), ([whole[:, :1], whole[:1, 1:]], 1, False),
            ([whole[0], whole[1].astype(float)], 0, True), ([whole[:0], whole[:0]], 0, True)):
        assert together(be, parts, dim, new) is None


def test_rows_with_gaps_in_them_are_copied(rng: Any) -> None:
    q, k, v = (torch.tensor(a, device="cuda", requires_grad=True)
               for a in inputs(rng, (1, 2, 2, 5, 6, 8, 8)))
    found = []
    for plain in (True, False):
        some = [a[..., ::2] for a in (q, k, v)]
        y = F.scaled_dot_product_attention(*[a.contiguous() if plain else a for a in some])
        found.append([y, *torch.autograd.grad(y.square().sum(), (q, k, v))])
    for a, b in zip(*found):
        assert torch.equal(a, b)


def test_what_has_no_kernel_goes_the_portable_way(rng: Any) -> None:
    for shape in ((1, 1, 1, 2, 3, 129, 2), (1, 1, 1, 2, 3, 2, 200), (1, 2, 1, 1, 9, 4, 4)):
        arrays = inputs(rng, shape)
        launched.clear()
        q, k, v = (torch.tensor(a, device="cuda", requires_grad=True) for a in arrays)
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        grads = torch.autograd.grad(y.sum(), (q, k, v))
        assert not any(name.startswith("attention") for name in launched)
        q, k, v = (torch.tensor(a, requires_grad=True) for a in arrays)
        z = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        for a, b in zip((y, *grads), (z, *torch.autograd.grad(z.sum(), (q, k, v)))):
            np.testing.assert_allclose(a.detach().cpu().numpy(), b.detach().numpy(), rtol=1e-9,
                                       atol=1e-12)


def test_empty_arrays_launch_nothing() -> None:
    launched.clear()
    for length, s in ((0, 3), (3, 0)):
        q, k = (torch.ones(1, 2, n, 4, device="cuda", requires_grad=True) for n in (length, s))
        F.scaled_dot_product_attention(q, k, k).sum().backward()
        assert q.grad is not None and not q.grad.any()
    assert not any(name.startswith("attention") for name in launched)


def test_no_host_is_waited_for(rng: Any) -> None:
    if not torch.cuda.sim.is_simulated():
        pytest.skip("the simulated device counts")
    layer = torch.nn.TransformerEncoderLayer(8, 2, 8, batch_first=True).to("cuda")
    x = torch.tensor(real(rng, 2, 5, 8), dtype=torch.float32, device="cuda")
    hidden = torch.zeros(2, 5, device="cuda")
    for _ in range(2):                           # the first time compiles
        torch.cuda.sim.reset()
        launched.clear()
        layer(x, src_key_padding_mask=hidden).square().sum().backward()
    stats = torch.cuda.sim.stats()
    assert stats.syncs == stats.h2d == stats.d2h == 0
    layer.eval()(x, src_key_padding_mask=hidden).sum().backward()
    assert {"attention_64", "attention_queries_64", "attention_keys_64"} <= set(launched)
