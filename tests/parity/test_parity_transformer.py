"""Attention and transformers against PyTorch: values, gradients, masks, dropout, texts, state."""
from __future__ import annotations

import inspect
import io
import warnings
from typing import Any

import numpy as np
import pytest

import gpugrad

torch = pytest.importorskip("torch")
pytest.importorskip("torch.nn.attention.bias")
pytestmark = pytest.mark.filterwarnings("ignore")


def arr(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tensor(lib: Any, a: Any, grad: bool = True) -> Any:
    t = lib.tensor(a)
    return t.requires_grad_() if grad and a.dtype.kind == "f" else t


def same(ours: Any, theirs: Any, what: str = "", rtol: float = 2e-5, atol: float = 2e-6) -> None:
    if theirs is None:
        assert ours is None, what
        return
    a, b = ours.detach().float().numpy(), theirs.detach().float().numpy()
    assert a.shape == b.shape, what
    assert str(ours.dtype) == str(theirs.dtype), what
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=what)


def made(lib: Any, name: str, *args: Any, seed: int = 3, **kw: Any) -> Any:
    lib.manual_seed(seed)
    return getattr(lib.nn, name)(*args, **kw)


def both(name: str, *args: Any, **kw: Any) -> tuple[Any, Any]:
    return made(gpugrad, name, *args, **kw), made(torch, name, *args, **kw)


def same_state(ours: Any, theirs: Any) -> None:
    a, b = ours.state_dict(), theirs.state_dict()
    assert list(a) == list(b)
    for k in b:
        same(a[k], b[k], k)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]


def same_error(run: Any) -> None:
    found = []
    for lib in (torch, gpugrad):
        with pytest.raises(Exception) as error:
            run(lib)
        found.append((type(error.value).__name__, str(error.value)))
    assert found[1][0] == found[0][0], found
    assert found[1][1].startswith(found[0][1].split("\n")[0]), found


# MultiheadAttention ------------------------------------------------------------------------------

ATTENTION: list[tuple[tuple[int, int], dict[str, Any]]] = [
    ((8, 2), {}), ((6, 3), {"bias": False}), ((8, 4), {"batch_first": True}),
    ((8, 2), {"add_bias_kv": True}), ((8, 2), {"add_zero_attn": True, "batch_first": True}),
    ((8, 2), {"kdim": 5, "vdim": 7}), ((8, 2), {"kdim": 5, "bias": False, "add_bias_kv": True,
                                               "add_zero_attn": True}), ((8, 1), {"vdim": 3})]


@pytest.mark.parametrize("args, kw", ATTENTION, ids=str)
def test_multihead_attention(args: Any, kw: Any) -> None:
    ours, theirs = both("MultiheadAttention", *args, **kw)
    assert repr(ours) == repr(theirs)
    same_state(ours, theirs)
    e, k, v = args[0], kw.get("kdim") or args[0], kw.get("vdim") or args[0]
    first = kw.get("batch_first", False)
    data = [arr(*((2, n) if first else (n, 2)), f, seed=i)
            for i, (n, f) in enumerate(((4, e), (5, k), (5, v)))]
    causal = np.triu(np.ones((4, 5), bool), 2)
    by_head = np.random.default_rng(5).random((2 * args[1], 4, 5)) < 0.3
    padding = np.array([[False] * 5, [False, False, True, False, True]])
    numbers = arr(4, 5, seed=8)
    for call in ({}, {"need_weights": False}, {"average_attn_weights": False},
                 {"attn_mask": causal}, {"attn_mask": numbers, "need_weights": False},
                 {"key_padding_mask": padding}, {"attn_mask": by_head, "key_padding_mask": padding},
                 {"attn_mask": causal, "key_padding_mask": padding, "need_weights": False},
                 {"key_padding_mask": np.where(padding, -1, 0.5).astype("f")}):
        results = []
        for lib, net in ((gpugrad, ours), (torch, theirs)):
            net.zero_grad()
            ins = [tensor(lib, a) for a in data]
            masks = {n: lib.tensor(m) if isinstance(m, np.ndarray) else m for n, m in call.items()}
            y, w = net(*ins, **masks)
            (y * lib.tensor(arr(*y.shape, seed=9))).sum().backward(retain_graph=w is not None)
            if w is not None:
                (w * lib.tensor(arr(*w.shape, seed=7))).sum().backward()
            results.append([y, w, *[t.grad for t in ins], *[p.grad for p in net.parameters()]])
        for i, (a, b) in enumerate(zip(*results)):
            same(a, b, f"{list(call)} {i}")


@pytest.mark.parametrize("kw", [{}, {"batch_first": True}])
def test_self_attention_in_all_forms(kw: Any) -> None:
    ours, theirs = both("MultiheadAttention", 8, 2, **kw)
    for shape in ((3, 4, 8), (4, 8)):
        n = shape[1] if kw and len(shape) == 3 else shape[0]
        mask = np.triu(np.full((n, n), -np.inf, "f"), 1)
        for call in ({}, {"is_causal": True, "need_weights": False}, {"is_causal": True}):
            for eval_ in (False, True):
                results = []
                for lib, net in ((gpugrad, ours), (torch, theirs)):
                    net.train(not eval_)
                    x = tensor(lib, arr(*shape))
                    y, w = net(x, x, x, attn_mask=lib.tensor(mask) if call else None, **call)
                    y.square().sum().backward()
                    with lib.no_grad():
                        z, _ = net(x, x, x)
                    results.append([y, w, x.grad, z])
                for a, b in zip(*results):
                    same(a, b, str((shape, call)))


def test_unbatched_masks() -> None:
    ours, theirs = both("MultiheadAttention", 4, 2)
    hidden = np.array([False, True, False])
    by_head = np.random.default_rng(5).random((2, 2, 3)) < 0.3
    for call in ({"key_padding_mask": hidden}, {"attn_mask": by_head},
                 {"attn_mask": by_head, "need_weights": False, "key_padding_mask": hidden}):
        results = [net(*[tensor(lib, a) for a in (arr(2, 4), arr(3, 4), arr(3, 4, seed=1))],
                       **{n: lib.tensor(m) if isinstance(m, np.ndarray) else m
                          for n, m in call.items()})
                   for lib, net in ((gpugrad, ours), (torch, theirs))]
        for a, b in zip(*results):
            same(a, b)


def test_dropout_of_weights() -> None:
    for need_weights in (True, False):
        ours, theirs = both("MultiheadAttention", 8, 2, dropout=0.4)
        results = []
        for lib, net in ((gpugrad, ours), (torch, theirs)):
            x = tensor(lib, arr(5, 3, 8))
            lib.manual_seed(1)
            y, w = net(x, x, x, need_weights=need_weights)
            y.sum().backward()
            results.append([y, w, x.grad])
        for a, b in zip(*results):
            same(a, b)


def test_static_keys_and_values() -> None:
    results = []
    for lib in (gpugrad, torch):
        net = made(lib, "MultiheadAttention", 4, 2)
        x, k, v = (tensor(lib, a) for a in (arr(3, 2, 4), arr(4, 5, 2, seed=1),
                                            arr(4, 5, 2, seed=2)))
        results.append(lib.nn.functional.multi_head_attention_forward(
            x, x, x, 4, 2, net.in_proj_weight, net.in_proj_bias, None, None, False, 0.0,
            net.out_proj.weight, net.out_proj.bias, static_k=k, static_v=v))
    for a, b in zip(*results):
        same(a, b)


@pytest.mark.parametrize("run", [
    lambda t: t.nn.MultiheadAttention(0, 2),
    lambda t: t.nn.MultiheadAttention(5, 2),
    lambda t: t.nn.MultiheadAttention(4, 2)(t.ones(4), t.ones(4), t.ones(4)),
    lambda t: t.nn.MultiheadAttention(4, 2)(t.ones(2, 1, 4), t.ones(2, 4), t.ones(2, 4)),
    lambda t: t.nn.MultiheadAttention(4, 2)(t.ones(2, 4), t.ones(2, 1, 4), t.ones(2, 4)),
    lambda t: t.nn.MultiheadAttention(4, 2)(t.ones(2, 1, 6), t.ones(2, 1, 6), t.ones(2, 1, 6)),
    lambda t: t.nn.MultiheadAttention(4, 2)(t.ones(2, 1, 4), t.ones(2, 1, 4), t.ones(3, 1, 4)),
    lambda t: t.nn.MultiheadAttention(4, 2, kdim=3)(t.ones(2, 1, 4), t.ones(2, 1, 3),
                                                    t.ones(3, 1, 4)),
    lambda t: t.nn.MultiheadAttention(4, 2, kdim=3)(t.ones(2, 1, 4), t.ones(2, 1, 4),
                                                    t.ones(2, 1, 4)),
    lambda t: t.nn.MultiheadAttention(4, 2)(*[t.ones(2, 1, 4)] * 3, is_causal=True),
    lambda t: t.nn.MultiheadAttention(4, 2)(*[t.ones(2, 1, 4)] * 3, attn_mask=t.ones(3, 3)),
    lambda t: t.nn.MultiheadAttention(4, 2)(*[t.ones(2, 1, 4)] * 3, attn_mask=t.ones(3, 2, 2)),
    lambda t: t.nn.MultiheadAttention(4, 2)(*[t.ones(2, 1, 4)] * 3, attn_mask=t.ones(2)),
    lambda t: t.nn.MultiheadAttention(4, 2)(*[t.ones(2, 4)] * 3, attn_mask=t.ones(3, 2, 2)),
    lambda t: t.nn.MultiheadAttention(4, 2)(*[t.ones(2, 4)] * 3, attn_mask=t.ones(2)),
    lambda t: t.nn.MultiheadAttention(4, 2)(*[t.ones(2, 4)] * 3, attn_mask=t.ones(2, 2).int()),
    lambda t: t.nn.MultiheadAttention(4, 2)(*[t.ones(2, 1, 4)] * 3, key_padding_mask=t.ones(2)),
    lambda t: t.nn.MultiheadAttention(4, 2)(*[t.ones(2, 4)] * 3, key_padding_mask=t.ones(1, 2)),
    lambda t: t.nn.MultiheadAttention(4, 2)(*[t.ones(2, 1, 4)] * 3, key_padding_mask=t.ones(2, 2)),
    lambda t: t.nn.MultiheadAttention(4, 2)(*[t.ones(2, 1, 4)] * 3, key_padding_mask=t.ones(1, 3)),
    lambda t: t.nn.TransformerEncoderLayer(4, 2, 8, activation="tanh"),
    lambda t: t.nn.Transformer(4, 2, 1, 1, 8)(t.ones(3, 1, 4), t.ones(3, 2, 4)),
    lambda t: t.nn.Transformer(4, 2, 1, 1, 8)(t.ones(3, 1, 5), t.ones(3, 1, 4)),
    lambda t: t.nn.attention.sdpa_kernel("math").__enter__(),
    lambda t: t.nn.attention.bias.causal_lower_right(2),
    lambda t: t.nn.attention.bias.CausalBias(1, 2, 3),
])
def test_errors(run: Any) -> None:
    same_error(run)


# Transformers ------------------------------------------------------------------------------------

NAMES = ("MultiheadAttention", "Transformer", "TransformerEncoder", "TransformerDecoder",
         "TransformerEncoderLayer", "TransformerDecoderLayer")


@pytest.mark.parametrize("name", NAMES)
def test_signatures(name: str) -> None:
    ours, theirs = getattr(gpugrad.nn, name), getattr(torch.nn, name)
    for method in ("__init__", "forward"):
        a, b = (inspect.signature(getattr(c, method)).parameters for c in (ours, theirs))
        assert list(a) == list(b)
        for p in b:
            if not callable(b[p].default):
                assert a[p].default == b[p].default, (method, p)
    assert ours.__constants__ == theirs.__constants__ if hasattr(theirs, "__constants__") else True


def test_signature_of_the_functions() -> None:
    for name in ("multi_head_attention_forward",):
        a, b = (inspect.signature(getattr(lib.nn.functional, name)).parameters
                for lib in (gpugrad, torch))
        assert [(p, v.default) for p, v in a.items()] == [(p, v.default) for p, v in b.items()]


LAYERS: list[dict[str, Any]] = [
    {}, {"batch_first": True}, {"norm_first": True, "activation": "gelu"},
    {"bias": False, "activation": "relu"}, {"dropout": 0.0, "batch_first": True,
                                            "layer_norm_eps": 1e-3}]


def masks_of(n: int, s: int) -> Any:
    return np.triu(np.ones((n, n), bool), 1), np.arange(s) >= np.array([s, s - 2])[:, None]


@pytest.mark.parametrize("kw", LAYERS, ids=str)
@pytest.mark.parametrize("name", ["TransformerEncoderLayer", "TransformerDecoderLayer"])
def test_layers(name: str, kw: Any) -> None:
    ours, theirs = both(name, 8, 2, 12, **kw)
    assert repr(ours) == repr(theirs)
    same_state(ours, theirs)
    swap = (lambda a: a.swapaxes(0, 1).copy()) if kw.get("batch_first") else (lambda a: a)
    x, memory = swap(arr(5, 2, 8)), swap(arr(6, 2, 8, seed=1))
    later, padding = masks_of(5, 5)
    for masked in (False, True):
        results = []
        for lib, net in ((gpugrad, ours), (torch, theirs)):
            net.zero_grad()
            ins = [tensor(lib, a) for a in ((x, memory) if "Decoder" in name else (x,))]
            own = {"tgt_mask": later, "tgt_key_padding_mask": padding,
                   "memory_key_padding_mask": masks_of(5, 6)[1]} if "Decoder" in name else \
                {"src_mask": later, "src_key_padding_mask": padding}
            call = {k: lib.tensor(v) for k, v in own.items()} if masked else {}
            lib.manual_seed(4)
            y = net(*ins, **call)
            y.square().sum().backward()
            results.append([y, *[t.grad for t in ins], *[p.grad for p in net.parameters()]])
        for i, (a, b) in enumerate(zip(*results)):
            same(a, b, f"{masked} {i}", rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("activation", ["relu", "gelu", "module", "function"])
def test_encoder_layers_in_eval_mode(activation: str) -> None:
    results = []
    for lib in (gpugrad, torch):
        f = {"module": lib.nn.GELU(), "function": lib.tanh}.get(activation, activation)
        lib.manual_seed(0)
        net = lib.nn.TransformerEncoderLayer(8, 2, 12, activation=f, batch_first=True).eval()
        later, padding = (lib.tensor(m) for m in masks_of(5, 5))
        x = lib.tensor(arr(2, 5, 8))
        with lib.no_grad():
            results.append([net(x), net(x, src_mask=later), net(x, src_key_padding_mask=padding),
                            net(x, later, padding)])
        results[-1].append(lib.tensor(net.activation_relu_or_gelu))
        text = repr(net)
        results[-1].append(lib.tensor(len(text)))
    for a, b in zip(*results):
        same(a, b)


@pytest.mark.parametrize("kw", [{}, {"batch_first": True, "norm_first": True}], ids=str)
def test_transformer(kw: Any) -> None:
    ours, theirs = both("Transformer", 8, 2, 2, 2, 12, dropout=0.2, **kw)
    assert repr(ours) == repr(theirs)
    same_state(ours, theirs)
    swap = (lambda a: a.swapaxes(0, 1).copy()) if kw else (lambda a: a)
    results = []
    for lib, net in ((gpugrad, ours), (torch, theirs)):
        src, tgt = tensor(lib, swap(arr(6, 2, 8))), tensor(lib, swap(arr(4, 2, 8, seed=1)))
        mask = net.generate_square_subsequent_mask(4)
        padding = lib.tensor(masks_of(6, 6)[1])
        lib.manual_seed(5)
        y = net(src, tgt, tgt_mask=mask, src_key_padding_mask=padding,
                memory_key_padding_mask=padding)
        y.square().sum().backward()
        results.append([y, mask, src.grad, tgt.grad, *[p.grad for p in net.parameters()]])
    for i, (a, b) in enumerate(zip(*results)):
        same(a, b, str(i), rtol=5e-4, atol=5e-5)


def test_transformer_without_batches_and_with_own_parts() -> None:
    results = []
    for lib in (gpugrad, torch):
        encoder = made(lib, "TransformerEncoder", made(lib, "TransformerEncoderLayer", 8, 2, 8,
                                                       dropout=0.0), 1)
        net = made(lib, "Transformer", 8, 2, 1, 1, 8, dropout=0.0, custom_encoder=encoder)
        y = net(lib.tensor(arr(5, 8)), lib.tensor(arr(3, 8)),
                tgt_mask=net.generate_square_subsequent_mask(3, dtype=lib.float32))
        results.append([y, *net.state_dict().values()])
    for a, b in zip(*results):
        same(a, b)


@pytest.mark.parametrize("length", [2, 5])
def test_padding_comes_out_as_zeros_where_pytorch_leaves_it_out(length: int) -> None:
    padding = np.arange(5) >= np.array([5, length])[:, None]
    scattered = padding[:, ::-1].copy()
    for kw in ({}, {"enable_nested_tensor": False}, {"mask_check": False}):
        for mask in (padding, scattered)[:1 if "mask_check" in kw else 2]:
            results = []
            for lib in (gpugrad, torch):
                layer = made(lib, "TransformerEncoderLayer", 8, 2, 8, batch_first=True)
                net = lib.nn.TransformerEncoder(layer, 2, lib.nn.LayerNorm(8), **kw).eval()
                x = lib.tensor(arr(2, 5, 8))
                y = net(x, src_key_padding_mask=lib.tensor(mask))
                with lib.no_grad():
                    z = net(x, src_key_padding_mask=lib.tensor(mask))
                results.append([y, z])
            for a, b in zip(*results):
                same(a, b, str((kw, length)))


def test_warnings() -> None:
    found = []
    for lib in (gpugrad, torch):
        texts = []
        layers = [lib.nn.TransformerEncoderLayer(6, 2, 4), lib.nn.TransformerEncoderLayer(
            6, 3, 4, batch_first=True), lib.nn.TransformerEncoderLayer(6, 2, 4, norm_first=True),
            lib.nn.TransformerEncoderLayer(6, 2, 4, bias=False, batch_first=True),
            lib.nn.TransformerEncoderLayer(6, 2, 4, batch_first=True, activation=lib.tanh),
            lib.nn.TransformerEncoderLayer(6, 2, 4, batch_first=True)]
        for layer in layers:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                net = lib.nn.TransformerEncoder(layer, 1)
            texts.append([str(w.message) for w in caught] + [str(net.use_nested_tensor)])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            x = lib.ones(3, 1, 6)
            lib.nn.MultiheadAttention(6, 2)(x, x, x, lib.zeros(1, 3).bool(), True, lib.zeros(3, 3))
        texts.append([str(w.message) for w in caught])
        found.append(texts)
    assert found[0] == found[1]


def test_state_of_one_loads_in_the_other() -> None:
    ours, theirs = both("Transformer", 8, 2, 1, 1, 8)
    buffer = io.BytesIO()
    gpugrad.save(ours.state_dict(), buffer)
    buffer.seek(0)
    other = made(torch, "Transformer", 8, 2, 1, 1, 8, seed=9)
    other.load_state_dict(torch.load(buffer))
    same_state(ours, other)
    buffer = io.BytesIO()
    torch.save(theirs.state_dict(), buffer)
    buffer.seek(0)
    mine = made(gpugrad, "Transformer", 8, 2, 1, 1, 8, seed=9)
    mine.load_state_dict(gpugrad.load(buffer))
    same_state(mine, theirs)


# scaled_dot_product_attention --------------------------------------------------------------------

SHAPES = [((2, 4, 3, 5), (2, 4, 6, 5)), ((2, 4, 3, 5), (2, 2, 6, 5)), ((4, 3, 5), (1, 6, 5)),
          ((2, 3, 4, 2, 5), (2, 3, 2, 6, 5))]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_heads_that_are_shared(shapes: Any, dtype: str) -> None:
    until = {"float32": 2e-5, "float64": 1e-10, "bfloat16": 4e-2, "float16": 5e-3}[dtype]
    for kw in ({}, {"is_causal": True}, {"scale": 0.2}, {"dropout_p": 0.3},
               {"attn_mask": np.random.default_rng(3).random((shapes[0][-2], 6)) < 0.7}):
        results = []
        for lib in (gpugrad, torch):
            q, k, v = (lib.tensor(arr(*s, seed=i), dtype=getattr(lib, dtype)).requires_grad_()
                       for i, s in enumerate((shapes[0], shapes[1], shapes[1])))
            call = {n: lib.tensor(m) if isinstance(m, np.ndarray) else m for n, m in kw.items()}
            lib.manual_seed(2)
            y = lib.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True, **call)
            y.float().square().sum().backward()
            results.append([y, q.grad, k.grad, v.grad])
        for i, (a, b) in enumerate(zip(*results)):
            same(a, b, f"{kw} {i}", rtol=until, atol=until)


def test_second_derivatives() -> None:
    for kw in ({}, {"is_causal": True}, {"enable_gqa": True}):
        results = []
        for lib in (gpugrad, torch):
            heads = 1 if kw.get("enable_gqa") else 2
            q, k, v = (tensor(lib, arr(*s, seed=i).astype(np.float64)) for i, s in enumerate(
                ((1, 2, 3, 4), (1, heads, 5, 4), (1, heads, 5, 4))))
            with lib.nn.attention.sdpa_kernel(lib.nn.attention.SDPBackend.MATH):
                y = lib.nn.functional.scaled_dot_product_attention(q, k, v, **kw)
            grads = lib.autograd.grad(y.pow(3).sum(), (q, k, v), create_graph=True)
            results.append([*grads, *lib.autograd.grad(sum(g.pow(2).sum() for g in grads),
                                                       (q, k, v))])
        for a, b in zip(*results):
            same(a, b, rtol=1e-9, atol=1e-11)


def test_causal_biases() -> None:
    for variant in ("causal_upper_left", "causal_lower_right"):
        results = []
        for lib in (gpugrad, torch):
            q, k = lib.tensor(arr(1, 2, 3, 4)), lib.tensor(arr(1, 2, 5, 4, seed=1))
            mask = getattr(lib.nn.attention.bias, variant)(3, 5)
            assert "True" in repr(mask)
            results.append([lib.nn.functional.scaled_dot_product_attention(q, k, k, mask),
                            lib.nn.functional.scaled_dot_product_attention(
                                q[:, :, :, :2], k[:, :, :3, :2], k[:, :, :3],
                                getattr(lib.nn.attention.bias, variant)(3, 3), scale=0.5)])
        for a, b in zip(*results):
            same(a, b)


@pytest.mark.parametrize("names, kw", [
    (["MATH"], {}), (["FLASH_ATTENTION"], {}), (["FLASH_ATTENTION", "MATH"], {"dropout_p": 0.2}),
    (["EFFICIENT_ATTENTION"], {}), ([], {}), (["FLASH_ATTENTION"], {"dropout_p": 0.2})], ids=str)
def test_backends(names: Any, kw: Any) -> None:
    found = []
    for lib in (gpugrad, torch):
        q = lib.ones(1, 1, 2, 3)
        backends = [getattr(lib.nn.attention.SDPBackend, n) for n in names]
        try:
            with lib.nn.attention.sdpa_kernel(backends):
                assert lib.backends.cuda.math_sdp_enabled() == ("MATH" in names)
                assert lib.backends.cuda.flash_sdp_enabled() == ("FLASH_ATTENTION" in names)
                lib.nn.functional.scaled_dot_product_attention(q, q, q, **kw)
            found.append("")
        except RuntimeError as e:
            found.append(str(e)[:20])
        assert lib.backends.cuda.math_sdp_enabled() and lib.backends.cuda.flash_sdp_enabled()
    assert found[0] == found[1]
    both_repr = [repr(lib.nn.attention.SDPBackend.MATH) for lib in (gpugrad, torch)]
    assert both_repr[0] == both_repr[1]


@pytest.mark.parametrize("run", [
    lambda t, f: f(t.ones(1, 4, 2, 4), t.ones(1, 3, 3, 4), t.ones(1, 3, 3, 4), enable_gqa=True),
    lambda t, f: f(t.ones(2, 4), t.ones(3, 4), t.ones(3, 4), enable_gqa=True),
    lambda t, f: f(t.ones(2, 4), t.ones(3, 4), t.ones(3, 4).double()),
    lambda t, f: f(t.ones(4), t.ones(3, 4), t.ones(3, 4)),
    lambda t, f: f(*[t.ones(1, 1, 2, 2).int()] * 3),
    lambda t, f: f(t.ones(2, 4), t.ones(3, 4), t.ones(3, 4), dropout_p=1.5),
    lambda t, f: f(t.ones(2, 4), t.ones(3, 4), t.ones(3, 4), t.ones(2, 3).int()),
    lambda t, f: f(t.ones(2, 4), t.ones(3, 4), t.ones(3, 4), t.ones(2, 3).double()),
    lambda t, f: f(t.ones(2, 4).half(), t.ones(3, 4).half(), t.ones(3, 4).half(),
                   t.ones(2, 3).double())])
def test_errors_of_attention(run: Any) -> None:
    same_error(lambda lib: run(lib, lib.nn.functional.scaled_dot_product_attention))
