"""On a real GPU: every kernel, the ops, and whole training steps, compared with the CPU."""
from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.nn.functional as F
from gpugrad import backend
from gpugrad.backend import columns, kernels
from gpugrad.backend.random import PhiloxGenerator

pytestmark = pytest.mark.gpu

DTYPES = ("float32", "float64", "float16")
# Relative to the largest magnitude: sums are made in other orders than on the CPU.
TOLERANCE = {"float32": 2e-5, "float64": 1e-12, "float16": 4e-3}


@pytest.fixture(scope="module")
def be() -> Any:
    return backend.get("cuda:0")


@pytest.fixture
def with_kernels(be: Any) -> None:
    if not be.kernels.on:
        pytest.skip("GPUGRAD_KERNELS=0")


def draw(shape: Any, dtype: str = "float64", seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def assert_close(got: Any, want: Any, dtype: str) -> None:
    got, want = (np.asarray(a, np.float64) for a in (got, want))
    assert got.shape == want.shape
    finite = np.abs(want[np.isfinite(want)])
    scale = max(1.0, finite.max()) if finite.size else 1.0
    np.testing.assert_allclose(got, want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)


# Kernels -----------------------------------------------------------------------------------------

# (n, c, h, w), kernel, stride, padding, dilation
GEOMETRIES = [
    ((2, 3, 7, 9), (3, 2), (2, 1), (1, 0), (1, 1)),
    ((1, 2, 5, 5), (2, 2), (2, 2), (0, 0), (1, 1)),
    ((3, 1, 8, 6), (3, 3), (1, 2), (1, 1), (2, 2)),
    ((2, 2, 11, 4), (5, 2), (3, 3), (2, 1), (1, 2)),
    ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0), (1, 1)),
    ((2, 3, 6, 13), (1, 4), (1, 3), (0, 2), (3, 1)),
    ((8, 6, 28, 28), (5, 5), (1, 1), (2, 2), (1, 1)),
    ((0, 3, 5, 5), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((1, 2, 6, 6), (2, 2), (5, 4), (1, 1), (2, 1)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_im2col_and_col2im(be: Any, geometry: Any, dtype: str) -> None:
    shape, *how = geometry
    x = draw(shape, dtype)
    cols = columns.im2col(np, x, *how)
    assert (be.to_host(be.im2col(be.from_host(x), *how)) == cols).all()
    turned = be.from_host(x.swapaxes(2, 3).copy()).swapaxes(2, 3)
    out = be.empty(cols.shape, dtype)
    assert be.im2col(turned, *how, out) is out and (be.to_host(out) == cols).all()
    g = draw(cols.shape, dtype, 1)
    assert_close(be.to_host(be.col2im(be.from_host(g), shape, *how)),
                 columns.col2im(np, g.astype(np.float64), shape, *how), dtype)


def both(f: Callable[..., Any], dtype: str, *inputs: Any) -> None:
    """f and its gradients on the GPU in dtype, and on the CPU in float64, must agree."""
    results = []
    for device, working in (("cpu", "float64"), ("cuda", dtype)):
        leaves = [torch.tensor(a.astype(dtype).astype(working) if a.dtype.kind == "f" else a)
                  .to(device).requires_grad_(a.dtype.kind == "f") for a in inputs]
        out = f(*leaves)
        assert out.device.type == device
        values = [out.detach().cpu().numpy()]
        if out.requires_grad:
            slopes = draw(out.shape, "float64", 7).astype(dtype).astype(working)
            out.backward(torch.tensor(slopes).to(device))
            values += [a.grad.cpu().numpy() for a in leaves if a.grad is not None]
        results.append(values)
    assert len(results[0]) == len(results[1])
    for got, want in zip(results[1], results[0]):
        assert_close(got, want, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES[:-2])
def test_pooling(geometry: Any, ceil_mode: bool, dtype: str) -> None:
    shape, kernel, stride, padding, dilation = geometry
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel))
    ties = np.random.default_rng(3).integers(-3, 3, shape).astype("float64")
    both(lambda x: F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode), dtype, ties)
    for counted, divisor in ((True, None), (False, None), (True, 3)):
        def mean(x: Any, last: Any = (ceil_mode, counted, divisor)) -> Any:
            return F.avg_pool2d(x, kernel, stride, padding, *last)
        both(mean, dtype, draw(shape))
    for size in ((3, 4), (1, 1), (shape[2] + 2, 5)):
        both(lambda x, size=size: F.adaptive_avg_pool2d(x, size), dtype, draw(shape))


@pytest.mark.parametrize("dtype", DTYPES)
def test_max_pooling_finds_the_same_maxima(be: Any, dtype: str) -> None:
    x = np.random.default_rng(5).integers(-2, 2, (2, 3, 9, 8)).astype(dtype)
    x[0, 0, 2:4, 3:5] = np.nan
    x[1, 1] = -np.inf
    for how in ((2, 2), (2, 2), (0, 0), 1), ((3, 3), (1, 2), (1, 1), 1), ((2, 3), 2, (0, 1), 2):
        got, want = (F.max_pool2d(torch.tensor(x).to(d), *how, return_indices=True)
                     for d in ("cuda", "cpu"))
        assert np.array_equal(got[0].cpu().numpy(), want[0].numpy(), equal_nan=True)
        assert (got[1].cpu().numpy() == want[1].numpy()).all()


def test_random_words_are_those_of_the_portable_text(be: Any) -> None:
    portable, ours = PhiloxGenerator(SimpleNamespace(xp=np)), be.generator.fresh()
    for seed, offset, n in itertools.product((0, 12345678901234567, 2**64 - 1), (0, 2**32 - 3),
                                             (0, 1, 4, 5, 1023, 100_003)):
        for g in (portable, ours):
            g.manual_seed(seed)
            g.offset = offset
        assert (be.to_host(ours.words(n)) == portable.words(n)).all()
        assert ours.offset == portable.offset


@pytest.mark.usefixtures("with_kernels")
def test_64_bit_indices(be: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels for huge arrays, on small ones."""
    monkeypatch.setattr(kernels, "NARROW", -1)
    monkeypatch.setattr(kernels, "MAX_BLOCKS", 2)       # threads go round the loop
    test_im2col_and_col2im(be, GEOMETRIES[6], "float32")
    test_pooling(GEOMETRIES[6], True, "float32")
    assert any(wide for *_, wide in be.kernels._functions)


def test_the_same_bits_every_time(be: Any) -> None:
    shape, *how = GEOMETRIES[6]
    g = be.from_host(draw((8, 6 * 25, 28 * 28), "float32"))
    first = be.to_host(be.col2im(g, shape, *how))
    for _ in range(5):
        assert (be.to_host(be.col2im(g, shape, *how)) == first).all()


def test_a_fault_of_the_compiler_is_reported_with_its_log(
        be: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "source", lambda _: 'extern "C" __global__ void relu() { oops; }')
    fresh = kernels.Kernels(be)
    with pytest.raises(RuntimeError, match=r"(?s)activation\.relu could not be compiled.*oops"):
        fresh.launch("activation", "relu", (1,), (1,), (), np.dtype("f4"))


# Ops ---------------------------------------------------------------------------------------------

A, B, V = draw((4, 5)), draw((4, 5), seed=1), draw((5,), seed=2)
POSITIVE = np.abs(A) + 0.5
IMAGES = draw((2, 4, 7, 6), seed=3)
WEIGHT, GROUPED, BIAS = draw((6, 4, 3, 2), seed=4), draw((6, 2, 3, 2), seed=4), draw((6,), seed=5)
CLASSES = np.array([1, 0, 4, 2])

OPS: dict[str, tuple[Any, ...]] = {
    "add": (lambda x, y: x + y, A, V), "sub": (lambda x, y: 3 - x - y, A, V),
    "mul": (lambda x, y: 2 * x * y, A, V), "div": (lambda x, y: x / y, A, POSITIVE),
    "pow": (lambda x: x ** 3, A), "neg": (lambda x: -x, A), "abs": (lambda x: x.abs(), A),
    "exp": (lambda x: x.exp(), A), "log": (lambda x: x.log(), POSITIVE),
    "sqrt": (lambda x: x.sqrt(), POSITIVE), "tanh": (lambda x: x.tanh(), A),
    "sigmoid": (lambda x: x.sigmoid(), A), "relu": (lambda x: x.relu(), A),
    "clamp": (lambda x: x.clamp(-0.5, 0.5), A),
    "where": (lambda x, y: torch.where(x > y, x, y), A, B),
    "maximum": (lambda x, y: torch.maximum(x, y), A, B),
    "minimum": (lambda x, y: torch.minimum(x, y), A, B),
    "compare": (lambda x, y: (x < y) & (x != y), A, B),
    "sum": (lambda x: x.sum(), A), "sum dim": (lambda x: x.sum(1, keepdim=True), A),
    "mean": (lambda x: x.mean(0), A), "max": (lambda x: x.max(), A),
    "min": (lambda x: x.min(), A), "max dim": (lambda x: x.max(1).values, A),
    "min dim": (lambda x: x.min(0).values, A), "amax": (lambda x: x.amax(1), A),
    "amin": (lambda x: x.amin(0), A), "argmax": (lambda x: x.argmax(1), A),
    "argmin": (lambda x: x.argmin(), A), "var": (lambda x: x.var(1), A),
    "prod": (lambda x: x.prod(1), A), "all": (lambda x: (x > 0).all(1), A),
    "any": (lambda x: (x > 0).any(), A),
    "reshape": (lambda x: x.reshape(2, 10), A), "transpose": (lambda x: x.t() * 2, A),
    "permute": (lambda x: x.permute(2, 0, 3, 1) * 1, IMAGES),
    "flatten": (lambda x: x.flatten(1), IMAGES), "expand": (lambda x: x.expand(3, 5) * 2, V),
    "unsqueeze": (lambda x: x.unsqueeze(1).squeeze(0), A),
    "cat": (lambda x, y: torch.cat([x, y], 1), A, B),
    "stack": (lambda x, y: torch.stack([x, y]), A, B),
    "split": (lambda x: x.split(2)[1], A), "chunk": (lambda x: x.chunk(2, 1)[0], A),
    "index": (lambda x: x[1:3, ::2], A), "index list": (lambda x: x[[0, 2, 0]], A),
    "index tensor": (lambda x, i: x[:, i], A, CLASSES), "mask": (lambda x: x[x > 0], A),
    "matmul": (lambda x, y: x @ y.t(), A, B), "mv": (lambda x, y: x @ y, A, V),
    "dot": (lambda x, y: x @ y, V, V), "bmm": (lambda x: x @ x.transpose(-1, -2), IMAGES),
    "broadcast matmul": (lambda x, y: x @ y, IMAGES, draw((6, 3))),
    "linear": (lambda x, w, b: F.linear(x, w, b), A, B, draw((4,))),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b), IMAGES, WEIGHT, BIAS),
    "conv2d all": (lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 2), (1, 2), 2),
                   IMAGES, GROUPED, BIAS),
    "conv2d same": (lambda x, w: F.conv2d(x, w, padding="same"), IMAGES, WEIGHT),
    "conv2d 1x1": (lambda x, w: F.conv2d(x, w), IMAGES, draw((3, 4, 1, 1))),
    "softmax": (lambda x: F.softmax(x, 1), A), "log_softmax": (lambda x: F.log_softmax(x, 0), A),
    "nll_loss": (lambda x, i: F.nll_loss(F.log_softmax(x, 1), i), A, CLASSES),
    "cross_entropy": (lambda x, i: F.cross_entropy(x, i, label_smoothing=0.1), A, CLASSES),
    "cross_entropy weighted": (lambda x, i: F.cross_entropy(
        x, i, torch.arange(1, 6).to(x.device, x.dtype), ignore_index=4), A, CLASSES),
    "cross_entropy probabilities": (lambda x, y: F.cross_entropy(x, F.softmax(y, 1)), A, B),
    "mse_loss": (lambda x, y: F.mse_loss(x, y), A, B),
    "batch_norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
                   IMAGES, draw((4,)), draw((4,), seed=9)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPS)
def test_op(name: str, dtype: str) -> None:
    f, *inputs = OPS[name]
    both(f, dtype, *inputs)


def test_second_order() -> None:
    def f(x: Any, w: Any) -> Any:
        y = F.max_pool2d(F.conv2d(x, w).tanh(), 2)
        g, = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return g
    both(f, "float32", IMAGES, WEIGHT)


def test_in_place_and_views() -> None:
    def f(x: Any) -> Any:
        y = x * 1
        y[1:3] *= 2
        y[:, 0] = y[:, 1]
        y.t().add_(1)
        return y
    both(f, "float32", A)


def test_dropout_masks_come_from_the_seed() -> None:
    x = torch.ones(50, 40, device="cuda")
    masks = []
    for _ in range(2):
        torch.manual_seed(5)
        masks.append(F.dropout(x, 0.3).cpu().numpy())
    assert (masks[0] == masks[1]).all() and 0.6 < (masks[0] > 0).mean() < 0.8
    assert (F.dropout(x, 0.3).cpu().numpy() != masks[0]).any()


def test_printing_and_reading() -> None:
    x = torch.tensor([[1.5, -2.0]], device="cuda")
    assert repr(x) == "tensor([[ 1.5000, -2.0000]], device='cuda:0')"
    assert x.tolist() == [[1.5, -2.0]] and x.sum().item() == -0.5 and x[0, 0] > 1


# Training ----------------------------------------------------------------------------------------

class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "Adam": lambda p: torch.optim.Adam(p, 1e-3),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-3),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-4),
}


def train(device: str, optimizer: Any, steps: int = 5) -> tuple[list[float], Any]:
    torch.manual_seed(0)
    net = LeNet()
    images, labels = torch.randn(16, 1, 32, 32).to(device), torch.randint(0, 10, (16,)).to(device)
    net.to(device)
    opt = optimizer(net.parameters())
    losses = []
    for _ in range(steps):
        opt.zero_grad()
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses, (net, opt, images, labels)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_lenet_learns_as_on_the_cpu(name: str) -> None:
    want, _ = train("cpu", OPTIMIZERS[name])
    got, (net, *_) = train("cuda", OPTIMIZERS[name])
    np.testing.assert_allclose(got, want, rtol=1e-3)
    assert got[-1] < got[0]
    assert all(p.is_cuda and p.grad.is_cuda for p in net.parameters())


@pytest.mark.usefixtures("with_kernels")
def test_a_training_step_never_waits_for_the_gpu() -> None:
    cupyx = pytest.importorskip("cupyx")
    _, (net, opt, images, labels) = train("cuda", OPTIMIZERS["SGD"], 2)
    with cupyx.allow_synchronize(False):
        opt.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        opt.step()


def test_half_precision_forward() -> None:
    net = LeNet()
    x = torch.randn(4, 1, 32, 32)
    with torch.no_grad():
        want = net(x).numpy()
        got = net.to("cuda").half()(x.to("cuda").half())
    assert got.dtype == torch.float16
    np.testing.assert_allclose(got.cpu().float().numpy(), want, atol=2e-2)


# gpugrad.cuda ------------------------------------------------------------------------------------

def test_what_the_device_is() -> None:
    assert torch.cuda.is_available() and torch.cuda.unavailable_reason() == ""
    assert torch.cuda.device_count() >= 1 and torch.cuda.current_device() == 0
    p = torch.cuda.get_device_properties(0)
    assert p.name == torch.cuda.get_device_name("cuda:0") and p.name in repr(p)
    assert torch.cuda.get_device_capability() == (p.major, p.minor) and p.major >= 5
    free, total = torch.cuda.mem_get_info()
    assert 0 < free <= total and total == pytest.approx(p.total_memory, rel=0.05)
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.ones(1, device=f"cuda:{torch.cuda.device_count()}")


def test_memory_figures() -> None:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    x = torch.zeros(1 << 20, device="cuda")
    assert torch.cuda.memory_allocated() - before == 4 << 20
    assert torch.cuda.memory_reserved() >= torch.cuda.memory_allocated()
    del x
    assert torch.cuda.memory_allocated() == before


def test_graphs_are_freed_without_the_garbage_collector() -> None:
    _, (net, opt, images, labels) = train("cuda", OPTIMIZERS["SGD"], 2)
    used = []
    for _ in range(3):
        F.cross_entropy(net(images), labels).backward()
        opt.zero_grad()
        used.append(torch.cuda.memory_allocated())
    assert used[0] == used[1] == used[2]


def test_states_of_the_generator() -> None:
    torch.cuda.manual_seed(3)
    assert torch.cuda.initial_seed() == 3
    torch.rand(5, device="cuda")
    state = torch.cuda.get_rng_state()
    first = torch.rand(7, device="cuda").tolist()
    torch.cuda.set_rng_state(state)
    assert torch.rand(7, device="cuda").tolist() == first


def test_streams_and_events() -> None:
    side, start, end = (torch.cuda.Stream(), torch.cuda.Event(enable_timing=True),
                        torch.cuda.Event(enable_timing=True))
    default = torch.cuda.current_stream()
    assert default == torch.cuda.default_stream() and side != default
    x = torch.ones(1000, 1000, device="cuda")
    side.wait_stream(default)
    with torch.cuda.stream(side):
        assert torch.cuda.current_stream() == side
        start.record()
        y = x @ x
        end.record()
    assert torch.cuda.current_stream() == default
    default.wait_event(end)
    end.synchronize()
    assert end.query() and start.elapsed_time(end) > 0
    assert y[0, 0].item() == 1000
    side.synchronize()
    torch.cuda.synchronize()
    assert side.query()
