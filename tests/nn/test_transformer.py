"""Attention and transformer modules: known values, masks, and what holds on every device."""
from __future__ import annotations

import copy
import math
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import nn
from gpugrad.nn.attention import SDPBackend, bias, sdpa_kernel


def real(*shape: int, seed: int = 0, device: str = "cpu", grad: bool = False) -> Any:
    a = np.random.default_rng(seed).standard_normal(shape)
    return torch.tensor(a, device=device, requires_grad=grad)


def close(a: Any, b: Any, until: float = 1e-9) -> None:
    np.testing.assert_allclose(a.detach().cpu().numpy(), b.detach().cpu().numpy(), rtol=until,
                               atol=until)


def attention_by_hand(net: Any, q: Any, k: Any, v: Any, mask: Any = None) -> Any:
    """One sequence at a time, one head at a time, without the functions under test."""
    wq, wk, wv = net.in_proj_weight.chunk(3)
    bq, bk, bv = net.in_proj_bias.chunk(3)
    outs, weights = [], []
    for i in range(q.shape[1]):
        heads = []
        queries, keys, values = (t[:, i] @ w.T + b for t, w, b in ((q, wq, bq), (k, wk, bk),
                                                                   (v, wv, bv)))
        for part in torch.arange(net.embed_dim, device=q.device).chunk(net.num_heads):
            s = queries[:, part] @ keys[:, part].T / math.sqrt(net.head_dim)
            if mask is not None:
                s = s.masked_fill(mask, -math.inf)
            weights.append(s.softmax(1))
            heads.append(weights[-1] @ values[:, part])
        outs.append(torch.cat(heads, 1) @ net.out_proj.weight.T + net.out_proj.bias)
    found = torch.stack(weights).unflatten(0, (q.shape[1], net.num_heads))
    return torch.stack(outs, 1), found


def test_multihead_attention_by_hand(device: str) -> None:
    torch.manual_seed(0)
    net = nn.MultiheadAttention(6, 2, device=device, dtype=torch.float64)
    q, k, v = (real(n, 3, 6, seed=n, device=device, grad=True) for n in (4, 5, 5))
    hidden = torch.tensor(np.triu(np.ones((4, 5), bool), 2), device=device)
    for mask in (None, hidden):
        want, weights = attention_by_hand(net, q, k, v, mask)
        out, found = net(q, k, v, attn_mask=mask, average_attn_weights=False)
        close(out, want)
        close(found, weights)
        close(net(q, k, v, attn_mask=mask)[1], weights.mean(1))
        fast, none = net(q, k, v, attn_mask=mask, need_weights=False)
        close(fast, want)
        assert none is None
        leaves = q, k, v, *net.parameters()
        g = real(*want.shape, seed=7, device=device)
        wanted = torch.autograd.grad(want, leaves, g)
        for y in (out, fast):
            for a, b in zip(torch.autograd.grad(y, leaves, g), wanted):
                close(a, b)


def test_padding_hides_keys(device: str) -> None:
    net = nn.MultiheadAttention(4, 2, batch_first=True, device=device, dtype=torch.float64)
    x, y = real(2, 3, 4, device=device), real(2, 5, 4, seed=1, device=device)
    padding = torch.tensor([[False] * 5, [False, False, True, True, True]], device=device)
    for need_weights in (True, False):
        out, weights = net(x, y, y, key_padding_mask=padding, need_weights=need_weights)
        close(out[1], net(x[1:], y[1:, :2], y[1:, :2])[0][0])
        if need_weights:
            assert not weights[1, :, 2:].any()
        unbatched, _ = net(x[1], y[1], y[1], key_padding_mask=padding[1],
                           need_weights=need_weights)
        close(unbatched, out[1])


def test_keys_that_all_see(device: str) -> None:
    net = nn.MultiheadAttention(4, 2, add_bias_kv=True, add_zero_attn=True, device=device)
    x = torch.ones(3, 1, 4, device=device)
    mask = torch.ones(3, 3, device=device).bool()            # of the others nobody sees any
    out, weights = net(x, x, x, attn_mask=mask)
    assert weights.shape == (1, 3, 5) and not weights[..., :3].any()
    close(weights.sum(-1), torch.ones(1, 3), 1e-6)
    out.sum().backward()
    assert net.bias_v.grad.abs().sum() > 0


def test_parameters_by_size() -> None:
    same, other = nn.MultiheadAttention(4, 2), nn.MultiheadAttention(4, 2, kdim=3, bias=False)
    assert [(n, tuple(p.shape)) for n, p in same.named_parameters()] == [
        ("in_proj_weight", (12, 4)), ("in_proj_bias", (12,)), ("out_proj.weight", (4, 4)),
        ("out_proj.bias", (4,))]
    assert list(other.state_dict()) == ["q_proj_weight", "k_proj_weight", "v_proj_weight",
                                        "out_proj.weight"]
    assert repr(same) == ("MultiheadAttention(\n  (out_proj): NonDynamicallyQuantizableLinear("
                          "in_features=4, out_features=4, bias=True)\n)")


SUMS = [13.3208, 5.9001, 6.3907, 7.5423, 13.6692, 7.5513, 13.9214, 7.7752, 8.6532, 8.1601]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_initial_values_of_a_seed() -> None:
    """Recorded from PyTorch 2.13."""
    torch.manual_seed(3)
    net = nn.Transformer(4, 2, 1, 1, 4)
    found = [round(p.double().abs().sum().item(), 4) for p in net.parameters() if p.dim() > 1]
    assert found == SUMS


def test_layers_with_norm_first_and_last(device: str) -> None:
    for norm_first in (False, True):
        layer = nn.TransformerEncoderLayer(4, 2, 6, 0.0, "gelu", norm_first=norm_first,
                                           device=device, dtype=torch.float64)
        x = real(3, 2, 4, device=device)

        def attend(t: Any, layer: Any = layer) -> Any:
            return layer.self_attn(t, t, t)[0]

        def feed(t: Any, layer: Any = layer) -> Any:
            return layer.linear2(F.gelu(layer.linear1(t)))

        if norm_first:
            y = x + attend(layer.norm1(x))
            want = y + feed(layer.norm2(y))
        else:
            y = layer.norm1(x + attend(x))
            want = layer.norm2(y + feed(y))
        close(layer(x), want)


def test_decoding_step_by_step_is_decoding_at_once(device: str) -> None:
    torch.manual_seed(0)
    net = nn.Transformer(8, 2, 1, 2, 8, batch_first=True, device=device,
                         dtype=torch.float64).eval()
    src, tgt = real(2, 5, 8, device=device), real(2, 4, 8, seed=1, device=device)
    mask = net.generate_square_subsequent_mask(4, device=device, dtype=torch.float64)
    whole = net(src, tgt, tgt_mask=mask)
    for n in (1, 3):
        close(net(src, tgt[:, :n], tgt_mask=mask[:n, :n]), whole[:, :n])
    hinted = net(src, tgt, tgt_mask=mask, tgt_is_causal=True)
    close(hinted, whole)


def test_encoders_give_zeros_for_padding(device: str) -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 4, batch_first=True, device=device)
    net = nn.TransformerEncoder(layer, 2).eval()
    x = real(2, 3, 4, device=device).float()
    padding = torch.tensor([[False, False, True], [False] * 3], device=device)
    with torch.no_grad():
        y = net(x, src_key_padding_mask=padding)
        assert not y[0, 2].any() and y[1].all()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            z = net(x, src_key_padding_mask=padding)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
    assert z[0, 2].any()
    close(z[0, :2], y[0, :2], 1e-6)
    assert net(x, src_key_padding_mask=padding)[0, 2].any()        # gradients are wanted


def test_clones_are_equal_and_apart() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 4), 2, nn.LayerNorm(4))
    first, second = net.layers
    assert torch.equal(first.linear1.weight, second.linear1.weight)
    assert first.linear1.weight is not second.linear1.weight
    again = pickle.loads(pickle.dumps(net.eval()))
    x = torch.ones(2, 1, 4)
    assert torch.equal(again(x), net(x)) and torch.equal(copy.deepcopy(net)(x), net(x))


def test_one_product_for_what_is_one_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpugrad.functions import multihead
    calls: list[Any] = []
    linear = multihead.linear
    monkeypatch.setattr(multihead, "linear", lambda *a: (calls.append(a), linear(*a))[1])
    for first in (False, True):
        net, x, y = nn.MultiheadAttention(4, 2, batch_first=first), torch.ones(2, 2, 4), \
            torch.ones(2, 2, 4)
        for inputs, count in (((x, x, x), 2), ((x, y, y), 3), ((x, y, x), 4)):
            calls.clear()
            net(*inputs)
            assert len(calls) == count


def test_half_precision_on_every_device(device: str) -> None:
    for dtype, until in ((torch.float16, 5e-3), (torch.bfloat16, 4e-2)):
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 8, 0.0, batch_first=True).to(device)
        x = real(2, 5, 8, device=device).float()
        want = layer(x)
        got = layer.to(dtype)(x.to(dtype))
        assert got.dtype is dtype
        close(got.float(), want, until)


# torch.nn.attention ------------------------------------------------------------------------------


def test_causal_biases(device: str) -> None:
    q, k = real(1, 1, 2, 3, device=device), real(1, 1, 4, 3, seed=1, device=device)
    left = F.scaled_dot_product_attention(q, k, k, bias.causal_upper_left(2, 4))
    right = F.scaled_dot_product_attention(q, k, k, bias.causal_lower_right(2, 4))
    close(left, F.scaled_dot_product_attention(q, k, k, is_causal=True))
    close(right[:, :, 1], F.scaled_dot_product_attention(q, k, k)[:, :, 1])
    close(right[:, :, :1], F.scaled_dot_product_attention(q[:, :, :1], k[:, :, :3], k[:, :, :3]))
    assert "False" in repr(bias.causal_lower_right(2, 4))
    with pytest.raises(ValueError, match="should not be used with causal=True"):
        F.scaled_dot_product_attention(q, k, k, bias.causal_upper_left(2, 4), is_causal=True)
    with pytest.warns(UserWarning, match="Lower right causal bias will produce NaNs"):
        bias.causal_lower_right(4, 2)
    for wrong in (bias.causal_lower_right, bias.causal_upper_left):
        with pytest.raises(AssertionError, match="only supports 2D tensors"):
            wrong(2)


def test_backends(device: str) -> None:
    q = torch.ones(1, 1, 2, 4, device=device)
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
        assert not torch.backends.cuda.mem_efficient_sdp_enabled()
        F.scaled_dot_product_attention(q, q, q, dropout_p=0.5)
    assert torch.backends.cuda.mem_efficient_sdp_enabled()
    with pytest.raises(RuntimeError, match="No viable backend"), sdpa_kernel([]):
        F.scaled_dot_product_attention(q, q, q)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        F.scaled_dot_product_attention(q, q, q)
        with pytest.raises(RuntimeError, match="No available kernel"):
            F.scaled_dot_product_attention(q[0], q[0], q[0])
    assert int(SDPBackend.CUDNN_ATTENTION) == 3 and str(SDPBackend.MATH) == "SDPBackend.MATH"


# Bad input ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("run, error, text", [
    (lambda: nn.MultiheadAttention(0, 1), ValueError, "got embed_dim=0 and num_heads=1 instead"),
    (lambda: nn.MultiheadAttention(5, 2), AssertionError, "must be divisible by num_heads"),
    (lambda: nn.MultiheadAttention(4, 2)(*[torch.ones(2, 1, 6)] * 3), AssertionError,
     "was expecting embedding dimension of 4, but got 6"),
    (lambda: nn.MultiheadAttention(4, 2)(*[torch.ones(2, 1, 4)] * 3, attn_mask=torch.ones(3, 2)),
     RuntimeError, r"The shape of the 2D attn_mask is torch.Size\(\[3, 2\]\), but should be"),
    (lambda: nn.MultiheadAttention(4, 2)(*[torch.ones(2, 1, 4)] * 3, is_causal=True),
     RuntimeError, "Need attn_mask if specifying the is_causal hint"),
    (lambda: nn.TransformerEncoderLayer(4, 2, activation="tanh"), RuntimeError,
     "activation should be relu/gelu, not tanh"),
    (lambda: nn.Transformer(4, 2, 1, 1)(torch.ones(2, 1, 4), torch.ones(2, 3, 4)), RuntimeError,
     "the batch number of src and tgt must be equal"),
    (lambda: F.scaled_dot_product_attention(torch.ones(1, 3, 2, 4), *[torch.ones(1, 2, 2, 4)] * 2,
                                            enable_gqa=True), RuntimeError,
     "Number of heads in key and value must divide"),
])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_bad_input(run: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        run()
