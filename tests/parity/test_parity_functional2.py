"""nn.functional's array side beside PyTorch: values, gradients of two orders, errors."""
from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

import gpugrad
import gpugrad.nn.functional
from gpugrad._tensor import Tensor

torch = pytest.importorskip("torch")


def _inputs() -> dict[str, Any]:
    r = np.random.default_rng(0)

    def f(*shape: int) -> Any:
        return r.standard_normal(shape)

    return {
        "s": f(2, 4, 9), "x": f(2, 4, 6, 5), "v": f(2, 4, 5, 6, 4), "e": f(0, 4, 6, 5),
        "w1": f(6, 4, 3), "w2": f(6, 2, 3, 2), "w3": f(2, 4, 3, 2, 2), "w3g": f(6, 2, 2, 3, 2),
        "b6": f(6), "b2": f(2), "t1": f(4, 3, 3), "t2": f(4, 3, 3, 2), "t3": f(4, 1, 2, 3, 2),
        "b3": f(3), "m": f(5, 4), "y": f(2, 4, 6, 5), "g2": f(2, 3, 4, 2) * 0.9,
        "g3": f(2, 3, 2, 4, 3) * 0.9, "th2": f(3, 2, 3), "th3": f(2, 3, 4), "q": f(2, 4, 6, 5),
        "k": f(2, 4, 7, 5), "val": f(2, 4, 7, 3), "kg": f(2, 2, 7, 5), "vg": f(2, 2, 7, 3),
        "am": f(6, 7), "table": f(8, 3), "psw": f(7), "cols": f(2, 16, 20), "wb": f(3, 9, 4),
        "s2": f(2, 4, 4), "pos": np.abs(f(2, 3, 6, 6)) + 0.1,
        "vpos": np.abs(f(1, 2, 4, 4, 4)) + 0.1,
        "idx": np.array([1, 3, 3, 0, 7, 2, 1]), "idx2": np.array([[1, 3, 3], [0, 2, 7]]),
        "off": np.array([0, 2, 2, 5]), "off2": np.array([0, 3, 7]),
        "bm": r.random((2, 1, 6, 7)) > 0.4,
        "bm0": np.arange(6)[:, None] + np.zeros((1, 7)) > 1}


INPUTS = _inputs()


def _array(t: Any) -> Any:
    t = t.detach()
    return t._a if isinstance(t, Tensor) else t.numpy()


def _run(lib: Any, code: str, second: bool) -> dict[str, Any]:
    functional = lib.nn.functional
    names = compile(code, "case", "eval").co_names
    ins = {n: lib.from_numpy(np.ascontiguousarray(INPUTS[n])) for n in names if n in INPUTS}
    for t in ins.values():
        if t.is_floating_point():
            t.requires_grad_()
    lib.manual_seed(0)
    out = eval(code, {**ins, "F": functional, "t": lib, "inf": math.inf})
    outs = list(out) if isinstance(out, tuple) else [out]
    facts: dict[str, Any] = {f"value{i}": _array(o).copy() for i, o in enumerate(outs)}
    live = [o for o in outs if o.requires_grad]
    leaves = {n: t for n, t in ins.items() if t.requires_grad}
    if live:
        r = np.random.default_rng(1)
        slopes = [lib.from_numpy(r.standard_normal(tuple(o.shape))).requires_grad_() for o in live]
        found = lib.autograd.grad(live, list(leaves.values()), slopes, allow_unused=True,
                                  create_graph=second)
        facts |= {f"d{n}": None if g is None else _array(g).copy() for n, g in zip(leaves, found)}
        again = [g for g in found if g is not None and g.requires_grad]
        if second and again:
            wanted = [*leaves.values(), *slopes]
            more = lib.autograd.grad(sum((g * g.sin()).sum() for g in again), wanted,
                                     allow_unused=True)
            facts |= {f"dd{i}": np.zeros(tuple(w.shape)) if g is None else _array(g).copy()
                      for i, (g, w) in enumerate(zip(more, wanted))}
    return facts


def _compare(code: str, second: bool = True) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want, got = _run(torch, code, second), _run(gpugrad, code, second)
    assert list(want) == list(got)
    for name, w in want.items():
        g = got[name]
        assert (w is None) == (g is None), name
        if w is not None:
            assert w.shape == g.shape and w.dtype == g.dtype, name
            np.testing.assert_allclose(g, w, rtol=1e-7, atol=1e-9, err_msg=name)


CASES = """
F.conv1d(s, w1, b6)
F.conv1d(s, w1, b6, 2, 1, 2)
F.conv1d(s, w1, padding='same')
F.conv1d(s[0], w1, b6, padding='valid')
F.conv2d(x, w2, b6, (2, 1), (1, 0), groups=2)
F.conv3d(v, w3, b2)
F.conv3d(v, w3, b2, (2, 1, 2), (1, 0, 1), (1, 2, 1))
F.conv3d(v, w3g, b6, 1, (2, 1, 0), groups=2)
F.conv3d(v, w3, padding='same')
F.conv3d(v[0], w3, b2)
F.conv_transpose1d(s, t1, b3)
F.conv_transpose1d(s, t1, None, 3, 1, 2, 1, 2)
F.conv_transpose1d(s[0], t1, b3, 2)
F.conv_transpose2d(x, t2, b3)
F.conv_transpose2d(x, t2, None, (2, 1), (1, 0), (1, 0))
F.conv_transpose2d(x, t2, None, 2, 1, 1, 2, (1, 2))
F.conv_transpose2d(x[0], t2, b3)
F.conv_transpose3d(v, t3, None)
F.conv_transpose3d(v, t3, None, (2, 1, 2), (1, 0, 0), (1, 0, 1), 2)
F.max_pool3d(v, 2)
F.max_pool3d(v, (3, 2, 2), (2, 1, 2), (1, 0, 1), (1, 2, 1), return_indices=True)
F.max_pool3d(v, 2, 3, ceil_mode=True, return_indices=True)
F.max_pool3d(v[0], 2, return_indices=True)
F.avg_pool3d(v, 2)
F.avg_pool3d(v, (3, 2, 2), 2, 1)
F.avg_pool3d(v, 3, 2, 1, True, False)
F.avg_pool3d(v, 3, 2, 1, True)
F.avg_pool3d(v, 2, divisor_override=3)
F.adaptive_avg_pool3d(v, (3, 4, 2))
F.adaptive_avg_pool3d(v, (None, 1, 3))
F.adaptive_avg_pool3d(v, 1)
F.adaptive_max_pool3d(v, (3, 4, 2), True)
F.adaptive_max_pool3d(v, 2)
F.lp_pool1d(pos[0], 2, 3)
F.lp_pool1d(pos[0], 3, 2, 1, True)
F.lp_pool2d(pos, 2, 2)
F.lp_pool2d(pos, 1.5, (2, 3), 2)
F.lp_pool2d(pos, inf, 2)
F.lp_pool3d(vpos, 2, 2)
F.max_unpool1d(*F.max_pool1d(s, 2, return_indices=True), 2)
F.max_unpool1d(*F.max_pool1d(s, 2, return_indices=True), 2, output_size=(9,))
F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=(2, 4, 6, 5))
F.max_unpool3d(*F.max_pool3d(v, 2, return_indices=True), 2)
F.pad(x, (1, 2))
F.pad(x, (1, -2, -1, 3), value=2.5)
F.pad(x, (0, 0))
F.pad(x, (1, 2, 2, 1), 'reflect')
F.pad(v, (1, 2, 2, 1, 3, 0), 'replicate')
F.pad(x, (1, 2, 2, 1), 'circular')
F.pad(s, (-1, 2), 'reflect')
F.unfold(x, 2)
F.unfold(x, (3, 2), (1, 2), (1, 0), (2, 1))
F.unfold(x[0], 2)
F.fold(cols, (5, 6), 2)
F.fold(cols[0], (5, 6), 2)
F.fold(cols, (8, 9), (2, 2), (1, 2), (1, 0), (2, 2))[..., :4]
F.pixel_shuffle(x, 2)
F.pixel_unshuffle(x[:, :, :, :4], 2)
F.channel_shuffle(x, 2)
F.interpolate(s, 5)
F.interpolate(s, scale_factor=1.7)
F.interpolate(x, (9, 3))
F.interpolate(x, scale_factor=2)
F.interpolate(x, scale_factor=(1.3, 0.6), recompute_scale_factor=True)
F.interpolate(x, scale_factor=(1.3, 0.6))
F.interpolate(x, (11, 3), mode='nearest-exact')
F.interpolate(v, scale_factor=1.5, mode='nearest-exact')
F.interpolate(v, (2, 7, 4))
F.interpolate(s, 14, mode='linear')
F.interpolate(s, 4, mode='linear', align_corners=True)
F.interpolate(x, (9, 3), mode='bilinear')
F.interpolate(x, (9, 3), mode='bilinear', align_corners=True)
F.interpolate(x, (1, 5), mode='bilinear', align_corners=True)
F.interpolate(x, scale_factor=1.7, mode='bilinear')
F.interpolate(x, scale_factor=1.7, mode='bilinear', recompute_scale_factor=True)
F.interpolate(v, (3, 9, 4), mode='trilinear')
F.interpolate(v, scale_factor=(1.4, 1, 2.1), mode='trilinear', align_corners=True)
F.interpolate(x, (9, 3), mode='bicubic')
F.interpolate(x, scale_factor=2, mode='bicubic', align_corners=True)
F.interpolate(x, scale_factor=0.7, mode='bicubic')
F.interpolate(x, (3, 2), mode='bilinear', antialias=True)
F.interpolate(x, (9, 2), mode='bicubic', antialias=True)
F.interpolate(x, scale_factor=0.45, mode='bilinear', antialias=True)
F.interpolate(x, (4, 3), mode='area')
F.interpolate(v, (4, 3, 2), mode='area')
F.interpolate(x, scale_factor=0.7, mode='area')
F.interpolate(e, 4, mode='bilinear')
F.upsample(x, scale_factor=2)
F.upsample_nearest(x, scale_factor=2)
F.upsample_bilinear(x, scale_factor=2)
F.affine_grid(th2, (3, 2, 4, 5), False)
F.affine_grid(th2, (3, 2, 4, 5), True)
F.affine_grid(th3, (2, 2, 3, 4, 5), False)
F.affine_grid(th3, (2, 2, 3, 1, 5), True)
F.cosine_similarity(x, y)
F.cosine_similarity(x, y[0], -1)
F.pairwise_distance(m, m[0])
F.pairwise_distance(s, s[0], 1, keepdim=True)
F.pairwise_distance(s, s[0], inf)
F.normalize(x)
F.bilinear(s, s2, wb)
F.bilinear(s, s2, wb, b3)
F.local_response_norm(x, 3)
F.local_response_norm(s, 2, 0.1, 0.5, 2)
F.local_response_norm(v, 4, 0.3)
F.scaled_dot_product_attention(q, k, val)
F.scaled_dot_product_attention(q, k, val, scale=0.3)
F.scaled_dot_product_attention(q, k, val, is_causal=True)
F.scaled_dot_product_attention(q[0], k[0], val[0])
F.scaled_dot_product_attention(q[0, 0], k[0, 0], val[0, 0])
F.scaled_dot_product_attention(q, k, val, bm)
F.scaled_dot_product_attention(q, k, val, bm0)
F.scaled_dot_product_attention(q, k, val, am)
F.scaled_dot_product_attention(q, k, val, am.detach())
F.scaled_dot_product_attention(q, k[:1], val[:, :1])
F.scaled_dot_product_attention(q, kg, vg, enable_gqa=True)
F.scaled_dot_product_attention(q, k, val, dropout_p=0.4)
F.gumbel_softmax(m, 0.7)
F.gumbel_softmax(m, 0.7, True, dim=0)
F.rrelu(x, 0.1, 0.4, True)
F.rrelu(x, 0.1, 0.4)
F.rrelu_(x * 1, 0.1, 0.4, True)
F.relu_(x * 1)
F.elu_(x * 1, 0.5)
F.selu_(x * 1)
F.celu_(x * 1, 0.5)
F.leaky_relu_(x * 1, 0.3)
F.hardtanh_(x * 1, -0.5, 0.7)
F.threshold_(x * 1, 0.2, -1)
F.softmin(x, 1)
F.prelu(x, b6[:4])
t.conv1d(s, w1, b6)
t.conv_transpose2d(x, t2, b3)
t.conv_tbc(s, wb[:, :, :3], b3, 1)
t.pixel_shuffle(x, 2)
t.adaptive_avg_pool1d(s, 4)
t.hardshrink(x, 0.3)
t.native_channel_shuffle(x.detach(), 2)
t.affine_grid_generator(th2, (3, 2, 4, 5), False)
t.grid_sampler(x, g2, 0, 0, False)
t.max_pool1d_with_indices(s, 3)
t.avg_pool1d(s, 2)
t.constant_pad_nd(x, (1, 2), 3)
t.cosine_similarity(x, y)
t.pairwise_distance(m, m[0])
t.bilinear(s, s2, wb)
""".strip().splitlines()
ONLY_FIRST = """
F.pdist(m)
F.pdist(m, 1)
F.pdist(m, 3)
F.pdist(m[:1])
F.embedding_bag(idx, table, off)
F.embedding_bag(idx, table, off, mode='sum')
F.embedding_bag(idx, table, off, mode='sum', per_sample_weights=psw)
F.embedding_bag(idx, table, off2, mode='mean', include_last_offset=True)
F.embedding_bag(idx2, table, mode='mean')
F.embedding_bag(idx2, table, mode='mean', padding_idx=3)
F.embedding_bag(idx, table, off, mode='sum', padding_idx=-7)
F.scaled_dot_product_attention(k, q, q, is_causal=True)
t.pdist(m)
F.max_unpool1d(*F.max_pool1d(s, 2, return_indices=True), 2, output_size=(8,))
F.embedding_bag(idx, table, off, mode='max')
F.embedding_bag(idx2, table, mode='max', padding_idx=3)
""".strip().splitlines() + [
    f"F.grid_sample({x}, {g}, '{mode}', '{padding}', {align})"
    for x, g, modes in (("x", "g2", ("bilinear", "nearest", "bicubic")),
                        ("v", "g3", ("bilinear", "nearest")))
    for mode in modes for padding in ("zeros", "border", "reflection") for align in (False, True)]


@pytest.mark.parametrize("code", CASES)
def test_values_and_gradients_of_two_orders(code: str) -> None:
    _compare(code)


@pytest.mark.parametrize("code", ONLY_FIRST)
def test_values_and_gradients_where_pytorch_has_no_second(code: str) -> None:
    _compare(code, False)


# Other dtypes ------------------------------------------------------------------------------------

TOLERANCE = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}
IN_ALL_DTYPES = """
F.conv1d(s, w1, b6)
F.conv3d(v, w3, b2, (2, 1, 2), (1, 0, 1))
F.conv_transpose2d(x, t2, b3, (2, 1), (1, 0), (1, 0))
F.conv_transpose3d(v, t3, None, 2)
F.max_pool3d(v, 2, return_indices=True)
F.avg_pool3d(v, (3, 2, 2), 2, 1)
F.adaptive_avg_pool3d(v, (3, 4, 2))
F.adaptive_max_pool3d(v, (3, 4, 2), True)
F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=(2, 4, 6, 5))
F.pad(x, (1, -2, -1, 3), value=2.5)
F.unfold(x, 2)
F.fold(cols, (5, 6), 2)
F.pixel_shuffle(x, 2)
F.interpolate(x, scale_factor=1.7)
F.interpolate(x, scale_factor=0.61, mode='nearest-exact')
F.interpolate(x, scale_factor=1.7, mode='bilinear')
F.interpolate(x, (9, 3), mode='bicubic', align_corners=True)
F.interpolate(x, (3, 2), mode='bilinear', antialias=True)
F.interpolate(v, (3, 9, 4), mode='trilinear')
F.scaled_dot_product_attention(q, k, val)
F.scaled_dot_product_attention(q, k, val, is_causal=True)
F.scaled_dot_product_attention(q, k, val, bm0)
F.embedding_bag(idx, table, off)
F.embedding_bag(idx, table, off, mode='sum', per_sample_weights=psw)
F.cosine_similarity(x, y)
F.pairwise_distance(m, m[0] * 2)
""".strip().splitlines()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("code", IN_ALL_DTYPES)
def test_other_dtypes(code: str, dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    found = []
    for lib in (torch, gpugrad):
        ins = {n: lib.from_numpy(a.copy()) for n, a in INPUTS.items()}
        ins = {n: t.to(getattr(lib, dtype)) if t.is_floating_point() else t
               for n, t in ins.items()}
        try:
            out = eval(code, {**ins, "F": lib.nn.functional, "t": lib})
        except (RuntimeError, NotImplementedError):
            assert lib is torch                  # PyTorch has it on GPUs alone
            return
        outs = out if isinstance(out, tuple) else (out,)
        found.append([(str(o.dtype), _array(o.double())) for o in outs])
    for (a, x), (b, y) in zip(*found):
        assert a == b and x.shape == y.shape
        scale = max(1, np.abs(x).max(initial=0))
        np.testing.assert_allclose(y, x, atol=TOLERANCE[dtype] * scale)


def test_interpolating_bytes_by_the_nearest() -> None:
    a = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    got = gpugrad.nn.functional.interpolate(gpugrad.from_numpy(a), (7, 2))
    want = torch.nn.functional.interpolate(torch.from_numpy(a), (7, 2))
    np.testing.assert_array_equal(got.numpy(), want.numpy(), strict=True)


def test_nearest_finds_the_places_that_pytorch_finds() -> None:
    for size in range(1, 40):
        for out in range(1, 60):
            a = np.arange(size, dtype=np.float32).reshape(1, 1, size)
            for mode in ("nearest", "nearest-exact"):
                got, want = (lib.nn.functional.interpolate(lib.from_numpy(a), out, mode=mode)
                             for lib in (gpugrad, torch))
                np.testing.assert_array_equal(got.numpy(), want.numpy())


# Errors ------------------------------------------------------------------------------------------

BAD = """
F.conv_transpose2d(x, w2)
F.conv_transpose2d(x, t1)
F.conv_transpose2d(x, t2, output_padding=1)
F.conv_transpose2d(x, t2, stride=2, output_padding=2)
F.conv_transpose2d(x, t2, b2)
F.conv_transpose2d(x, t2, groups=3)
F.conv_transpose2d(x, t2, padding=7)
F.conv_transpose2d(x, t2, stride=0)
F.conv_transpose2d(x, t2, padding=-1)
F.conv_transpose2d(x[0, 0], t2)
F.conv_transpose2d(x, t2.float())
F.conv3d(v[0, 0], w3)
F.conv3d(v, w2)
F.max_unpool2d(x, x.long() * 0 + 999, 2)
F.max_unpool2d(x, x.int(), 2)
F.max_unpool2d(x, x.long()[:1], 2)
F.max_unpool1d(*F.max_pool1d(s, 2, return_indices=True), 2, output_size=(20,))
F.max_unpool1d(*F.max_pool1d(s, 2, return_indices=True), 2, output_size=(20, 2))
F.max_pool3d(s, 2)
F.max_pool3d(v, 9)
F.max_pool3d(v, (2, 2))
F.avg_pool3d(v, 2, divisor_override=0)
F.adaptive_avg_pool3d(v, (2, 2))
F.adaptive_max_pool3d(s, 2)
F.unfold(x, 9)
F.unfold(x, 0)
F.fold(cols[:, :15], (5, 6), 2)
F.fold(cols, (5, 7), 2)
F.fold(cols[0, 0], (5, 6), 2)
F.pixel_shuffle(x, 3)
F.pixel_shuffle(x, 0)
F.pixel_shuffle(m, 2)
F.pixel_unshuffle(x, 4)
F.pixel_unshuffle(x, -1)
F.channel_shuffle(x, 3)
F.channel_shuffle(x, 0)
F.channel_shuffle(m, 2)
F.interpolate(x, size=(3, 2, 2))
F.interpolate(x)
F.interpolate(x, size=0)
F.interpolate(x, 2, 2)
F.interpolate(x, size=3, mode='linear')
F.interpolate(x, size=3, mode='foo')
F.interpolate(x, size=3, align_corners=True)
F.interpolate(x, size=3, mode='bilinear', recompute_scale_factor=True)
F.interpolate(s, size=3, mode='linear', antialias=True)
F.interpolate(x.int(), size=3)
F.interpolate(x.int(), size=3, mode='bilinear')
F.interpolate(m, size=3)
F.interpolate(x, size=3.5)
F.grid_sample(x, g3)
F.grid_sample(x, g2[..., :1])
F.grid_sample(x, g2[:1])
F.grid_sample(x, g2.float())
F.grid_sample(v, g3, 'bicubic')
F.grid_sample(x, g2, 'x')
F.grid_sample(x, g2, padding_mode='x')
F.grid_sample(x[:, :, :0], g2)
F.affine_grid(th3, (2, 3, 4, 5))
F.affine_grid(th2, (2, 3, 4))
F.affine_grid(th2.int(), (3, 3, 4, 5))
F.cosine_similarity(s, w1)
F.pdist(x)
F.pdist(m, -1)
F.scaled_dot_product_attention(q, k, val, m.int())
F.scaled_dot_product_attention(q, k.float(), val)
F.scaled_dot_product_attention(q, val, val)
F.scaled_dot_product_attention(b6, k, val)
F.scaled_dot_product_attention(q, kg, vg)
F.scaled_dot_product_attention(q, k[:, :3], val[:, :3], enable_gqa=True)
F.scaled_dot_product_attention(q, k, val, m)
F.embedding_bag(idx, table)
F.embedding_bag(idx2, table, off)
F.embedding_bag(idx, table, off, mode='x')
F.embedding_bag(idx, table, off, per_sample_weights=psw)
F.embedding_bag(idx, table, off, per_sample_weights=psw[:2], mode='sum')
F.embedding_bag(idx, table[0], off)
F.embedding_bag(idx, table, off + 1)
F.embedding_bag(idx, table, off * 5)
F.embedding_bag(idx, table, off, mode='max', scale_grad_by_freq=True)
F.embedding_bag(idx, table, off, padding_idx=20)
F.embedding_bag(idx.double(), table, off)
F.embedding_bag(idx + 10, table, off)
F.local_response_norm(m, 2)
F.rrelu(x, 0.5, 0.1, True)
F.lp_pool1d(s, 2, 30)
F.pad(x, (1,))
F.pad(x, (-3, -3))
F.pad(x, (9, 9), 'reflect')
F.bilinear(s, s, wb)
""".strip().splitlines()


@pytest.mark.parametrize("code", BAD)
def test_bad_input_is_the_same_error(code: str) -> None:
    errors = []
    for lib in (torch, gpugrad):
        ins = {n: lib.from_numpy(a.copy()) for n, a in INPUTS.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(Exception) as error:
                eval(code, {**ins, "F": lib.nn.functional, "t": lib})
        errors.append(error.type.__name__)
    assert errors[0] == errors[1]


def test_names_of_nodes() -> None:
    for code in ("F.conv1d(s, w1)", "F.conv3d(v, w3)", "F.conv_transpose2d(x, t2, b3)",
                 "F.conv_transpose1d(s, t1)", "F.max_pool3d(v, 2)", "F.avg_pool3d(v, 2)",
                 "F.adaptive_avg_pool3d(v, 2)", "F.adaptive_max_pool3d(v, 2)", "F.unfold(x, 2)",
                 "F.fold(cols, (5, 6), 2)", "F.pixel_shuffle(x, 2)", "F.pad(x, (1, 2))",
                 "F.grid_sample(x, g2, align_corners=True)", "F.rrelu(x, training=True)",
                 "F.embedding_bag(idx, table, off, mode='sum')", "F.local_response_norm(x, 3)",
                 "F.scaled_dot_product_attention(q, k, k)", "F.cosine_similarity(x, y)",
                 "F.lp_pool2d(x, 2, 2)"):
        names = []
        for lib in (torch, gpugrad):
            ins = {n: lib.from_numpy(a.copy()) for n, a in INPUTS.items()}
            for t in ins.values():
                t.requires_grad_(t.is_floating_point())
            names.append(eval(code, {**ins, "F": lib.nn.functional}).grad_fn.name())
        assert names[0] == names[1], code
