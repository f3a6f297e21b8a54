"""Autocast: which dtype ops compute in, cached weights, functions with gradients of their own."""
from __future__ import annotations

import threading
from typing import Any

import pytest

import gpugrad as torch
from gpugrad import nn
from gpugrad._state import off, state
from gpugrad.amp import custom_bwd, custom_fwd

pytest.importorskip("ml_dtypes")


def low(device: str) -> Any:
    return torch.float16 if device == "cuda" else torch.bfloat16


def test_products_are_low_and_losses_high(device):
    w = torch.ones(3, 4, device=device, requires_grad=True)
    x = torch.ones(2, 3, device=device)
    with torch.autocast(device):
        y = x @ w
        total = y.sum()
        loss = nn.functional.mse_loss(y, torch.zeros(2, 4, device=device))
    assert y.dtype is low(device) and loss.dtype is torch.float32
    assert total.dtype is (torch.float32 if device == "cuda" else torch.bfloat16)
    loss.backward()
    assert w.grad.dtype is torch.float32
    assert torch.allclose(w.grad, torch.full((3, 4), 1.5, device=device), rtol=0.02)
    assert (x @ w).dtype is torch.float32


def test_nothing_stays_switched(device):
    before = off[0]
    with pytest.raises(ZeroDivisionError), torch.autocast(device):
        assert off[0] == before + 1
        _ = 1 / 0
    assert off[0] == before and state.casting is None


def test_weights_are_converted_once(device):
    layer = nn.Linear(3, 3).to(device)
    x = torch.ones(2, 3, device=device)
    with torch.autocast(device):
        layer(layer(x)).sum().backward()
        kept = state.casting.cache
        assert {id(entry[0]) for entry in kept.values()} == {id(layer.weight), id(layer.bias)}
        with torch.no_grad():
            layer.weight.zero_()                 # a converted weight that is old isn't used
        assert torch.allclose(layer(x).float(), layer.bias.expand(2, 3), atol=0.01)
    assert not kept
    with torch.autocast(device, cache_enabled=False):
        layer(x)
        assert state.casting.cache is None


def test_a_weight_first_converted_without_a_graph_gets_one():
    layer = nn.Linear(2, 2)
    x = torch.ones(1, 2)
    with torch.autocast("cpu"):
        with torch.no_grad():
            layer(x)
        layer(x).sum().backward()
    assert layer.weight.grad.tolist() == [[1, 1], [1, 1]]


def test_float64_and_integers_are_left_alone(device):
    with torch.autocast(device):
        double = torch.ones(2, 2, device=device, dtype=torch.float64)
        assert (double @ double).dtype is torch.float64
        assert torch.ones(3, device=device, dtype=torch.int64).sum().dtype is torch.int64


def test_other_devices_are_left_alone(device):
    other = "cpu" if device == "cuda" else "cuda"
    if other == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    with torch.autocast(device):
        x = torch.ones(2, 2, device=other)
        assert (x @ x).dtype is torch.float32


def test_as_a_decorator_and_in_threads():
    @torch.autocast("cpu", dtype=torch.float16)
    def product(x: Any) -> Any:
        return x @ x

    assert product(torch.ones(2, 2)).dtype is torch.float16
    seen = []
    with torch.autocast("cpu"):
        thread = threading.Thread(
            target=lambda: seen.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype))
        thread.start()
        thread.join()
    assert seen == [torch.float32]


@pytest.mark.parametrize("cast_inputs", [None, torch.float32])
def test_functions_of_users(device, cast_inputs):
    seen: list[Any] = []

    class Product(torch.autograd.Function):
        @staticmethod
        @custom_fwd(device_type=device, cast_inputs=cast_inputs)
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            ctx.save_for_backward(a, b)
            seen.append(torch.is_autocast_enabled(device))
            return a @ b

        @staticmethod
        @custom_bwd(device_type=device)
        def backward(ctx: Any, g: Any) -> Any:
            a, b = ctx.saved_tensors
            seen.append(torch.is_autocast_enabled(device))
            return (g.to(a.dtype) @ b.t()).to(a.dtype), (a.t() @ g.to(a.dtype)).to(b.dtype)

    a, b = (torch.ones(2, 2, device=device, requires_grad=True) for _ in range(2))
    with torch.autocast(device):
        out = Product.apply(a, b)
    assert out.dtype is (low(device) if cast_inputs is None else torch.float32)
    out.float().sum().backward()
    assert a.grad.tolist() == [[2, 2], [2, 2]]
    assert seen == [cast_inputs is None] * 2


def test_a_network_learns_in_mixed_precision(device):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                        nn.Linear(4 * 9, 3)).to(device)
    opt = torch.optim.Adam(net.parameters(), lr=0.02)
    scaler = torch.amp.GradScaler(device, init_scale=256.0)
    y = (torch.arange(12) % 3).to(device)
    x = torch.randn(12, 1, 8, 8).to(device) + y.view(-1, 1, 1, 1)
    losses = []
    for _ in range(12):
        opt.zero_grad()
        with torch.autocast(device):
            loss = nn.functional.cross_entropy(net(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        scaler.step(opt)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < losses[0] * 0.7
    assert all(p.dtype is torch.float32 for p in net.parameters())


def test_recurrent_layers_and_attention(device):
    x = torch.ones(2, 3, 4, device=device)
    with torch.autocast(device):
        assert nn.LSTM(4, 4).to(device)(x)[0].dtype is low(device)
        assert nn.MultiheadAttention(4, 2).to(device)(x, x, x)[0].dtype is low(device)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_older_names(kind):
    names = getattr(torch, kind).amp
    with pytest.warns(FutureWarning, match=rf"Please use `torch\.amp\.autocast\('{kind}'"), \
            names.autocast():
        assert torch.is_autocast_enabled(kind) or not torch.cuda.is_available()
    with pytest.warns(FutureWarning, match=rf"`torch\.{kind}\.amp\.GradScaler"):
        assert isinstance(names.GradScaler(enabled=False), torch.amp.GradScaler)
