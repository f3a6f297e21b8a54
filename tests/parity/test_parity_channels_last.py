"""channels_last through operations: results and gradients have PyTorch's numbers and strides."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gpugrad

theirs = pytest.importorskip("torch")

LAST = {4: "channels_last", 5: "channels_last_3d"}
IMAGES, VOLUMES = [(2, 3, 7, 6), (1, 8, 6, 8)], [(2, 3, 4, 5, 6)]

# f(lib, nn.functional, x, w) of an x that is channels_last; w has a number for each channel. The
# gradient that comes back is channels_last, too.
EITHER: dict[str, Any] = {
    "cat of batches": lambda t, F, x, w: t.cat([x, x * 2]),
    "cat of channels": lambda t, F, x, w: t.cat([x, x * 2], 1),
    "cat of columns": lambda t, F, x, w: t.cat([x, x * 2], -1),
    "cat of one": lambda t, F, x, w: t.cat([x], 1),
    "cat with the contiguous": lambda t, F, x, w: t.cat([x, x.contiguous() * 2], 1),
    "cat promotes": lambda t, F, x, w: t.cat([x, x.double()], 1),
    "stack, dim 0": lambda t, F, x, w: t.stack([x, x * 2]),
    "stack, dim 1": lambda t, F, x, w: t.stack([x, x * 2], 1),
    "stack, dim 2": lambda t, F, x, w: t.stack([x, x * 2], 2),
    "stack, last dim": lambda t, F, x, w: t.stack([x, x * 2], -1),
    "pad": lambda t, F, x, w: F.pad(x, (1, 2, 0, 1)),
    "pad with a number": lambda t, F, x, w: F.pad(x, (1, 2, 0, 1, 1, 1), value=2.0),
    "pad the batch": lambda t, F, x, w: F.pad(x, (0,) * (2 * x.ndim - 1) + (1,)),
    "pad and cut": lambda t, F, x, w: F.pad(x, (1, -1, -2, 1)),
    "pad, reflected": lambda t, F, x, w: F.pad(x, (1, 2) * (x.ndim - 2), mode="reflect"),
    "pad, replicated": lambda t, F, x, w: F.pad(x, (1, 2) * (x.ndim - 2), mode="replicate"),
    "roll": lambda t, F, x, w: x.roll((1, -2), (1, 3)),
    "flip": lambda t, F, x, w: x.flip(3),
    "a bias": lambda t, F, x, w: x + w.reshape(-1, *[1] * (x.ndim - 2)),
    "a bias first": lambda t, F, x, w: w.reshape(1, -1, *[1] * (x.ndim - 2)) - x,
    "times channels": lambda t, F, x, w: x * w.reshape(-1, *[1] * (x.ndim - 2)),
    "where": lambda t, F, x, w: t.where(x > 0, x, w.reshape(-1, *[1] * (x.ndim - 2))),
    "clamp": lambda t, F, x, w: x.clamp(-0.5, 1),
    "maximum": lambda t, F, x, w: t.maximum(x, w.reshape(-1, *[1] * (x.ndim - 2))),
    "addcmul": lambda t, F, x, w: t.addcmul(x, x, w.reshape(-1, *[1] * (x.ndim - 2))),
    "addcdiv": lambda t, F, x, w: t.addcdiv(x, x, 4 + w.reshape(-1, *[1] * (x.ndim - 2))),
    "lerp": lambda t, F, x, w: t.lerp(x, x.detach() * 2, 0.3),
    "relu": lambda t, F, x, w: F.relu(x), "hardtanh": lambda t, F, x, w: F.hardtanh(x),
    "prelu": lambda t, F, x, w: F.prelu(x, w), "gelu": lambda t, F, x, w: F.gelu(x),
    "silu": lambda t, F, x, w: F.silu(x), "softmax": lambda t, F, x, w: F.softmax(x, 1),
    "a part": lambda t, F, x, w: F.relu(x[:, :, 1:]).mul(2),
    "float64": lambda t, F, x, w: x.double() * 2,
    "nearest": lambda t, F, x, w: F.interpolate(x, scale_factor=2),
    "linear": lambda t, F, x, w: F.interpolate(
        x, scale_factor=1.5, mode="bilinear" if x.ndim == 4 else "trilinear"),
}
PLANES: dict[str, Any] = {
    "corners aligned": lambda t, F, x, w: F.interpolate(
        x, (4, 9), mode="bilinear", align_corners=True),
    "antialiased": lambda t, F, x, w: F.interpolate(x, (4, 4), mode="bilinear", antialias=True),
    "bicubic": lambda t, F, x, w: F.interpolate(x, scale_factor=2, mode="bicubic"),
    "shuffled pixels": lambda t, F, x, w: F.pixel_shuffle(t.cat([x] * 4, 1), 2),
    "pixels gathered": lambda t, F, x, w: F.pixel_unshuffle(F.pad(x, (0, 0, 0, x.shape[2] % 2)), 2),
    "shuffled channels": lambda t, F, x, w: F.channel_shuffle(t.cat([x, x * 2], 1), 2),
}
# Those that the CPU's kernels give in C order.
ON_CUDA: dict[str, Any] = {
    "convolution": lambda t, F, x, w: conv(F, x)(x, kernels(t, x), padding=1),
    "convolution, other kernels": lambda t, F, x, w: conv(F, x)(x, kernels(t, x).contiguous()),
    "convolution, stride": lambda t, F, x, w: conv(F, x)(x, kernels(t, x), w[:2], stride=2),
    "convolution, 1 x 1": lambda t, F, x, w: conv(F, x)(x, last(t, kernels(t, x)[
        (slice(None), slice(None), *[slice(1)] * (x.ndim - 2))])),
    "max pool": lambda t, F, x, w: getattr(F, f"max_pool{x.ndim - 2}d")(x, 3, 2, 1),
    "max pool, ceil": lambda t, F, x, w: getattr(F, f"max_pool{x.ndim - 2}d")(
        x, 2, 2, ceil_mode=True),
    "batch norm": lambda t, F, x, w: F.batch_norm(x, None, None, w, w, True),
    "batch norm, eval": lambda t, F, x, w: F.batch_norm(x, w.detach(), w.detach() ** 2 + 1, w, w),
}
PLANES_ON_CUDA: dict[str, Any] = {
    "mean pool": lambda t, F, x, w: F.avg_pool2d(x, 3, 2, 1),
    "adaptive mean pool": lambda t, F, x, w: F.adaptive_avg_pool2d(x, (3, 2)),
    "adaptive max pool": lambda t, F, x, w: F.adaptive_max_pool2d(x, (3, 2)),
}
VOLUMES_ON_CUDA: dict[str, Any] = {
    "convolution, far": lambda t, F, x, w: F.conv3d(x, kernels(t, x), dilation=(1, 2, 1),
                                                    padding=(2, 1, 0), stride=(2, 1, 1)),
    "convolution, groups": lambda t, F, x, w: F.conv3d(
        t.cat([x, x], 1), last(t, t.cat([kernels(t, x)] * 2)), groups=2),
}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """With one thread PyTorch's convolution of volumes is one that makes all contiguous."""
    theirs.set_num_threads(2)
    yield
    theirs.set_num_threads(1)


def conv(F: Any, x: Any) -> Any:
    return F.conv2d if x.ndim == 4 else F.conv3d


def last(t: Any, x: Any) -> Any:
    return x.contiguous(memory_format=getattr(t, LAST[x.ndim]))


def kernels(t: Any, x: Any) -> Any:
    """(2, c, 3, 2) or (2, c, 2, 3, 2), made of numbers that x has anyway."""
    size = (3, 2) if x.ndim == 4 else (2, 3, 2)
    part = x.detach()[(slice(1), slice(None), *[slice(n) for n in size])]
    return last(t, t.cat([part, part.flip(2) * 0.5]))


def drawn(t: Any, device: str, shape: Any, seed: int) -> Any:
    x = t.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype("f4")).to(device)
    return last(t, x) if x.ndim in LAST else x


def run(t: Any, device: str, f: Any, shape: Any) -> tuple[Any, Any, Any, Any]:
    """(result, gradient, both strides)"""
    x = drawn(t, device, shape, 0).requires_grad_()
    y = f(t, t.nn.functional, x, drawn(t, device, shape[1:2], 1))
    g, = t.autograd.grad(y, x, drawn(t, device, tuple(y.shape), 2).to(y.dtype))
    return y.detach().cpu().numpy(), g.cpu().numpy(), tuple(y.stride()), tuple(g.stride())


CASES = [(table, name, shape) for tables, shapes in (
    ((EITHER, PLANES, ON_CUDA, PLANES_ON_CUDA), IMAGES),
    ((EITHER, ON_CUDA, VOLUMES_ON_CUDA), VOLUMES))
    for table in tables for name in table for shape in shapes]


@pytest.mark.parametrize(("table", "name", "shape"), CASES,
                         ids=[f"{name}, {len(shape)} dims, {i % 2}"
                              for i, (_, name, shape) in enumerate(CASES)])
def test_numbers_and_strides(device: str, table: Any, name: str, shape: Any) -> None:
    ours, want = run(gpugrad, device, table[name], shape), run(theirs, "cpu", table[name], shape)
    for a, b in zip(ours[:2], want[:2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    if device == "cpu" and table not in (EITHER, PLANES):
        assert ours[2] == tuple(theirs.empty(want[0].shape).stride())
    else:
        assert ours[2] == want[2]
        # Here PyTorch gives a contiguous gradient.
        wider = name == "bicubic" or (name == "nearest" and len(shape) == 5)
        assert ours[3] == (tuple(last(theirs, theirs.empty(shape)).stride()) if wider else want[3])


@pytest.mark.parametrize("shape", [*IMAGES, *VOLUMES])
def test_dropout(device: str, shape: Any) -> None:
    for name in ("dropout", f"dropout{len(shape) - 2}d", "alpha_dropout"):
        ours, want = (run(t, where, lambda t, F, x, w, name=name: getattr(F, name)(
            x, 0.4, True), shape)
                      for t, where in ((gpugrad, device), (theirs, "cpu")))
        assert ours[2:] == want[2:]


def volumes(t: Any, device: str) -> Any:
    """What training a small network for volumes gives: numbers and strides of each step."""
    nn, F = t.nn, t.nn.functional
    net = nn.Sequential(nn.Conv3d(2, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(),
                        nn.MaxPool3d(3, 2, 1), nn.Conv3d(6, 4, (1, 3, 3)), nn.ReLU(),
                        nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(4, 3))
    with t.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(t.from_numpy(np.random.default_rng(i).uniform(-.5, .5, tuple(p.shape))))
    net = net.to(device).to(memory_format=t.channels_last_3d)
    strides = [tuple(p.stride()) for p in net.parameters()]
    for m in net[:5]:
        m.register_forward_hook(lambda m, ins, out: strides.append(tuple(out.stride())))
    x = drawn(t, device, (2, 2, 5, 6, 6), 9)
    assert x.is_contiguous(memory_format=t.channels_last_3d) and not x.is_contiguous()
    optimizer = t.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(net(x), t.arange(2, device=device)).backward()
        optimizer.step()
    if device != "cpu" or t is theirs:
        assert all(p.grad.stride() == p.stride() for p in net.parameters())
    return [p.detach().cpu().numpy() for p in net.parameters()], strides


def test_a_network_of_volumes(device: str) -> None:
    (ours, strides), (want, wanted) = volumes(gpugrad, device), volumes(theirs, "cpu")
    for a, b in zip(ours, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert strides == wanted if device != "cpu" else strides[:8] == wanted[:8]


@pytest.mark.parametrize("shape", [(2, 3, 4, 5, 6), (2, 1, 4, 5, 6), (2, 3, 1, 1, 1),
                                   (1, 1, 1, 1, 1), (2, 3, 4, 5, 1)])
def test_volumes_that_are_channels_last(device: str, shape: Any) -> None:
    found = []
    for t, where in ((gpugrad, device), (theirs, "cpu")):
        x = t.ones(shape, device=where)
        y = x.to(memory_format=t.channels_last_3d)
        same = [x, y, y[:, :, :2], y.contiguous(), y.to(memory_format=t.contiguous_format)]
        if 1 not in shape:                      # else NumPy gives such dims other strides
            same += [y.clone(), y.half(), t.empty_like(y), y + 1]
        found.append([(tuple(a.stride()), a.is_contiguous(), a.is_contiguous(
            memory_format=t.channels_last_3d)) for a in same])
        with pytest.raises(RuntimeError):
            x[0].to(memory_format=t.channels_last_3d)
    assert found[0] == found[1]
