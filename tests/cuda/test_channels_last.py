"""channels_last through a network on CUDA: results lie in memory as PyTorch's, without copies."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import backend, nn
from gpugrad.backend import precision
from gpugrad.layouts import is_last

pytestmark = pytest.mark.gpu
LAST = torch.channels_last

# Each keeps the format.
KEEP: dict[str, Any] = {
    "conv": lambda F, x, w: F.conv2d(x, w[:4], padding=1),
    "conv, x contiguous": lambda F, x, w: F.conv2d(x.contiguous(), w, padding=1),
    "1 x 1": lambda F, x, w: F.conv2d(x, w[:, :, :1, :1].clone()),
    "batch norm": lambda F, x, w: F.batch_norm(x, None, None, training=True),
    "batch norm, eval": lambda F, x, w: F.batch_norm(
        x, *[w[0, :, k, 0].detach() ** 2 for k in (0, 1)], w[-1, :, 0, 0], w[-1, :, 0, 1]),
    "max pool": lambda F, x, w: F.max_pool2d(x, 3, 2, 1),
    "mean pool": lambda F, x, w: F.avg_pool2d(x, 3, 2, 1),
    "adaptive": lambda F, x, w: F.adaptive_avg_pool2d(x, (3, 2)),
    "adaptive max": lambda F, x, w: F.adaptive_max_pool2d(x, (3, 2)),
    "nearest": lambda F, x, w: F.interpolate(x, scale_factor=2),
    "bilinear": lambda F, x, w: F.interpolate(x, scale_factor=1.5, mode="bilinear"),
    "relu": lambda F, x, w: F.relu(x), "gelu": lambda F, x, w: F.gelu(x),
    "silu": lambda F, x, w: F.silu(x), "leaky": lambda F, x, w: F.leaky_relu(x, 0.1),
    "relu6": lambda F, x, w: F.relu6(x), "add": lambda F, x, w: x + F.relu(x),
    "times a number": lambda F, x, w: 2 * x, "times channels": lambda F, x, w: x * w[0, :, :1, :1],
    "tanh": lambda F, x, w: x.tanh(), "minus": lambda F, x, w: x - x.mean((2, 3), keepdim=True),
}
SHAPES = ((2, 3, 7, 6), (1, 5, 8, 8), (2, 1, 6, 6), (3, 40, 3, 5))


def run(lib: Any, device: str, name: str, shape: Any, last: bool) -> tuple[Any, Any, Any, Any]:
    """(result, gradient, both strides) of one of KEEP."""
    def draw(shape: Any, seed: int) -> Any:
        a = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
        t = lib.from_numpy(a).to(device)
        return t.contiguous(memory_format=lib.channels_last) if last else t
    x, w = draw(shape, 0).requires_grad_(), draw((shape[1], shape[1], 3, 3), 1)
    y = KEEP[name](lib.nn.functional, x, w)
    g, = lib.autograd.grad(y, x, draw(tuple(y.shape), 2))
    return y.detach().cpu().numpy(), g.cpu().numpy(), tuple(y.stride()), tuple(g.stride())


@pytest.mark.parametrize("name", KEEP)
def test_operations_keep_the_format(name: str) -> None:
    for shape in SHAPES:
        y, g, *strides = run(torch, "cuda", name, shape, True)
        want_y, want_g, *_ = run(torch, "cpu", name, shape, False)
        np.testing.assert_allclose(y, want_y, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(g, want_g, rtol=1e-4, atol=1e-4)
        for a, stride in zip((y, g), strides, strict=True):
            _, c, h, w = a.shape
            if shape[1] > 1:                        # else its memory is contiguous, too
                assert stride == (c * h * w, 1, c * w, c) or name == "conv, x contiguous"


@pytest.mark.parametrize("name", KEEP)
def test_formats_are_pytorchs(name: str) -> None:
    """The strides, and the numbers again."""
    theirs = pytest.importorskip("torch")
    for shape in SHAPES:
        ours, want = run(torch, "cuda", name, shape, True), run(theirs, "cpu", name, shape, True)
        for a, b in zip(ours[:2], want[:2], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
        assert ours[2:] == want[2:] or name == "conv, x contiguous"


def test_float64_convolutions_are_contiguous_as_in_pytorch() -> None:
    ones = torch.ones(2, 3, 5, 4, dtype=torch.float64, device="cuda")
    x, w = (ones.contiguous(memory_format=LAST) for _ in range(2))
    assert F.conv2d(x, w).is_contiguous()
    assert F.conv2d(x.half(), w.half()[:, :, :2, :2]).stride() == (24, 1, 6, 2)


def test_dropout_draws_in_the_order_of_memory() -> None:
    x = torch.ones(3, 4, 5, 6, device="cuda").contiguous(memory_format=LAST).requires_grad_()
    torch.manual_seed(3)
    y = F.dropout(x, 0.5)
    y.sum().backward()
    assert is_last(y._a) and y.detach().equal(x.grad)
    torch.manual_seed(3)
    rows = F.dropout(torch.ones(3, 5, 6, 4, device="cuda"), 0.5)
    assert rows.permute(0, 3, 1, 2).equal(y.detach())


class Block(nn.Module):
    """Two convolutions, one of them depthwise, and what comes in added to it."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(c, c, 1), nn.BatchNorm2d(c), nn.SiLU(),
                                   nn.Conv2d(c, c, 3, padding=1, groups=c), nn.BatchNorm2d(c))
        self.last = nn.Conv2d(c, c, 3, padding=1, bias=False)

    def forward(self, x: Any) -> Any:
        return F.relu(self.last(self.first(x)) + x)


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.MaxPool2d(3, 2, 1), Block(8), nn.Dropout(0.0), nn.AvgPool2d(2),
        nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(8, 40, 3), nn.GELU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 4))


def test_a_step_copies_no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision.convolution, "allow_tf32", False)
    be, copied, images = backend.get("cuda"), [], set()
    net, plain = network().to("cuda").to(memory_format=LAST), network()
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 3, 24, 20)).astype("f4"))
    dense = be.xp.ascontiguousarray

    def noted(a: Any) -> Any:
        if not a.flags.c_contiguous and 0 not in a.strides:
            copied.append(tuple(a.shape))
        return dense(a)
    monkeypatch.setattr(be.xp, "ascontiguousarray", noted)

    def see(module: Any, ins: Any, out: Any) -> None:
        if out.ndim == 4:
            images.update([tuple(out.shape), tuple(out.permute(0, 2, 3, 1).shape)])
            assert is_last(out._a) or out.shape[2:] == (1, 1), module
    for module in net.modules():
        module.register_forward_hook(see)
    for m, t in ((net, x.cuda().contiguous(memory_format=LAST)), (plain, x)):
        optimizer = torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)
        for _ in range(2):
            optimizer.zero_grad()
            loss = F.cross_entropy(m(t), torch.arange(4, device=t.device))
            loss.backward()
            optimizer.step()
    assert len(images) > 8 and not images & set(copied), copied
    for a, b in zip(net.parameters(), plain.parameters(), strict=True):
        assert [s for s, n in zip(a.stride(), a.shape, strict=True) if n > 1] == [
            s for s, n in zip(a.grad.stride(), a.shape, strict=True) if n > 1]
        torch.testing.assert_close(a.cpu(), b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_volumes(dtype: str) -> None:
    """Numbers are those of contiguous volumes; float64's convolutions are contiguous."""
    d, format = getattr(torch, dtype), torch.channels_last_3d
    steps = {"conv": lambda x: F.conv3d(x, w, w[:, 0, 0, 0, 0], (1, 2, 1), 1),
             "far": lambda x: F.conv3d(x, w, padding=2, dilation=2),
             "back": lambda x: F.conv_transpose3d(x, w.transpose(0, 1), stride=2),
             "pool": lambda x: F.max_pool3d(x, 2, 1, 1, return_indices=True)[0],
             "norm": lambda x: F.batch_norm(x, None, None, training=True),
             "resize": lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"),
             "dropout": lambda x: F.dropout(x, 0.0), "bias": lambda x: x + w[:3, 0, :1, :1, :1]}
    w = torch.randn(3, 3, 2, 3, 2, device="cuda").to(d).to(memory_format=format)
    start = torch.randn(2, 3, 5, 4, 6, device="cuda").to(d)
    for name, f in steps.items():
        found = []
        for order in (format, torch.contiguous_format):
            x = start.to(memory_format=order, copy=True).requires_grad_()
            w = w.detach().to(memory_format=order).requires_grad_()
            y = f(x)
            y.backward(torch.cos(torch.arange(y.numel(), device="cuda").to(d)).reshape(y.shape)
                       .to(memory_format=order))
            found.append([y.detach(), x.grad, *([] if w.grad is None else [w.grad])])
        kept = dtype != "float64" or name not in ("conv", "far", "back")
        last = [t.is_contiguous(memory_format=format) for t in found[0]]
        assert last[0] is kept and all(last[1:]), name      # a gradient lies as its tensor does
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-2 if dtype == "float16" else 1e-4)


@pytest.mark.parametrize(("shape", "order", "last"), [
    ((2, 3, 4, 5, 6), (0, 2, 3, 4, 1), True), ((2, 3, 4, 5, 6), (0, 1, 2, 3, 4), False),
    ((2, 3, 4, 5), (0, 2, 3, 1), True), ((2, 3, 4, 5), (0, 1, 2, 3), False),
    ((2, 3, 1, 1), (0, 2, 3, 1), True), ((2, 3, 1, 1), (0, 1, 2, 3), False),
    ((2, 1, 4, 5), (0, 2, 3, 1), True), ((2, 1, 4, 5), (0, 1, 2, 3), False),
    ((2, 1, 1, 1), (0, 2, 3, 1), False), ((2, 3, 4, 5), (0, 3, 2, 1), False),
    ((0, 3, 4, 5), (0, 2, 3, 1), False), ((2, 3, 4), (0, 2, 1), False)])
def test_what_counts_as_channels_last(shape: Any, order: Any, last: bool) -> None:
    a = np.zeros([shape[d] for d in order]).transpose(np.argsort(order))
    assert a.shape == shape and is_last(a) is last
    if last and shape[3] > 1:
        assert is_last(a[:, :, ::2]) and not is_last(np.broadcast_to(a[:, :1], (2, 3, *shape[2:])))
