"""Two devices without a GPU: a stand-in on NumPy arrays takes the place of cuda:0."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.nn.functional as F
from gpugrad import backend
from gpugrad.backend import cuda
from gpugrad.backend.base import Backend
from gpugrad.backend.random import PhiloxGenerator
from gpugrad.device import device


class StandIn(Backend):
    """NumPy under another device's name; it notes what is asked of it."""

    index = 1
    prefix = "torch.cuda."

    def __init__(self) -> None:
        super().__init__(device("cuda:0"))
        self.generator = PhiloxGenerator(self)
        self.asked: list[str] = []
        self.answer: Any = NotImplemented      # of map: nothing, until a test sets a kernel

    def from_host(self, a: Any) -> Any:
        self.asked.append("from_host")
        return super().from_host(a)

    def to_host(self, a: Any) -> Any:
        self.asked.append("to_host")
        return a.copy()

    def map(self, file: str, name: str, *arrays: Any) -> Any:
        self.asked.append(name)
        return self.answer if self.answer is NotImplemented else self.answer(*arrays)

    def _nothing(self, *args: Any) -> Any:
        self.asked.append("a pooling kernel")
        return NotImplemented

    max_pool2d = max_pool2d_backward = avg_pool2d = avg_pool2d_backward = _nothing
    adaptive_avg_pool2d = adaptive_avg_pool2d_backward = _nothing


@pytest.fixture
def be(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    d, before = device("cuda:0"), dict(backend._made)
    monkeypatch.setattr(cuda, "current_device", lambda: 0)
    made = StandIn()
    backend.register(d, made)
    yield made
    backend._made.clear()
    backend._made.update(before)
    if d in before:                     # a real GPU: its ufuncs take their places again
        backend.register(d, before[d])


@pytest.fixture
def x(be: StandIn) -> Any:
    return torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.0, -1.5]], device="cuda")


# Placing -----------------------------------------------------------------------------------------

def test_to_and_back(be: StandIn) -> None:
    host = torch.arange(6.0).reshape(2, 3)
    for there in (host.to("cuda"), host.to("cuda:0"), host.cuda(), host.to(0), host.cuda(0),
                  host.to(torch.device("cuda", 0)), host.to(torch.ones(1, device="cuda"))):
        assert there.is_cuda and there.device == torch.device("cuda", 0) and there.get_device() == 0
        assert there._be is be and there.cpu().tolist() == host.tolist()
    assert there.cuda() is there and there.to("cuda") is there and host.cpu() is host
    both = host.to("cuda", torch.float64)
    assert both.is_cuda and both.dtype == torch.float64
    assert both.type() == "torch.cuda.DoubleTensor" and host.type() == "torch.FloatTensor"
    copy = there.to("cuda", copy=True)
    assert copy is not there and copy._a is not there._a


def test_making(be: StandIn) -> None:
    for t in (torch.ones(2, device="cuda"), torch.zeros(2, device="cuda:0"),
              torch.full((2,), 3.0, device=0), torch.arange(2, device="cuda"),
              torch.tensor([1, 2], device="cuda"), torch.empty(2, device=torch.device("cuda")),
              torch.rand(2, device="cuda"), torch.randn(2, device="cuda"),
              torch.randint(5, (2,), device="cuda")):
        assert t._be is be and t.shape == (2,)
    assert torch.ones_like(t)._be is torch.zeros_like(t)._be is torch.rand_like(t.float())._be is be
    assert t.new_zeros(3)._be is be and torch.ones_like(t, device="cpu").is_cpu
    with torch.device("cuda"):
        assert torch.ones(1)._be is be
    assert torch.ones(1).is_cpu


def test_printing(be: StandIn, x: Any) -> None:
    assert repr(x) == ("tensor([[ 1.0000, -2.0000,  3.0000],\n"
                       "        [ 0.5000,  0.0000, -1.5000]], device='cuda:0')")
    assert repr(torch.tensor(1.5, device="cuda", requires_grad=True)) == \
        "tensor(1.5000, device='cuda:0', requires_grad=True)"
    assert be.asked.count("to_host") == 2


def test_numpy_needs_the_cpu(x: Any) -> None:
    with pytest.raises(TypeError, match=r"can't convert cuda:0 device type tensor to numpy. Use "
                       r"Tensor.cpu\(\) to copy the tensor to host memory first."):
        x.numpy()
    with pytest.raises(TypeError, match="can't convert cuda:0"):
        np.asarray(x)


# Which text runs ---------------------------------------------------------------------------------

def slopes(x: Any) -> Any:
    y = F.relu(x)
    y.backward(torch.ones_like(y))
    return y.detach(), x.grad


def test_a_kernel_is_used_where_there_is_one(be: StandIn, x: Any) -> None:
    be.answer = lambda g, y: np.full(g.shape, 7, g.dtype)
    _, grad = slopes(x.requires_grad_())
    assert "threshold_backward" in be.asked
    assert grad._be is be and grad.tolist() == [[7.0] * 3] * 2


def test_without_a_kernel_the_portable_text_runs(be: StandIn, x: Any) -> None:
    got = slopes(x.requires_grad_())
    assert "threshold_backward" in be.asked
    want = slopes(x.detach().cpu().requires_grad_())
    for a, b in zip(got, want):
        assert a._be is be and a.tolist() == b.tolist()


def test_pooling_falls_back_too(be: StandIn) -> None:
    def run(d: str) -> list[Any]:
        x = torch.arange(72.0, device=d).reshape(1, 2, 6, 6).sin().detach().requires_grad_()
        for y in (F.max_pool2d(x, 2), F.avg_pool2d(x, 3, 2, 1), F.adaptive_avg_pool2d(x, 4)):
            y.square().sum().backward()
        values, indices = F.max_pool2d(x, 3, 1, return_indices=True)
        assert indices.dtype == torch.int64
        return [x.grad.tolist(), values.tolist(), indices.tolist()]
    assert run("cuda") == run("cpu")
    assert be.asked.count("a pooling kernel") >= 6


def test_the_cpu_is_never_asked_for_kernels(be: StandIn) -> None:
    slopes(torch.ones(3, requires_grad=True))
    assert be.asked == []


def test_no_host_is_read_in_a_training_step(be: StandIn) -> None:
    net = nn.Linear(4, 3).to("cuda")
    opt = torch.optim.Adam(net.parameters())
    x, y = torch.randn(5, 4, device="cuda"), torch.randint(3, (5,), device="cuda")
    for _ in range(2):
        be.asked.clear()
        opt.zero_grad()
        F.cross_entropy(net(x), y).backward()
        opt.step()
    assert "to_host" not in be.asked and "from_host" not in be.asked


# Two devices in one op ---------------------------------------------------------------------------

@pytest.mark.parametrize("f", [
    lambda a, b: a + b, lambda a, b: b * a, lambda a, b: torch.maximum(a, b),
    lambda a, b: a @ b.t(), lambda a, b: torch.cat([a, b]), lambda a, b: torch.where(a > 0, a, b),
    lambda a, b: a < b, lambda a, b: F.linear(a, b), lambda a, b: F.mse_loss(a, b),
    lambda a, b: a.add_(b),
    lambda a, b: F.cross_entropy(a, torch.tensor([0, 1])),
])
def test_tensors_on_two_devices(x: Any, f: Any) -> None:
    with pytest.raises(RuntimeError, match=r"Expected all tensors to be on the same device, but "
                       r"found at least two devices, (cpu and cuda:0|cuda:0 and cpu)!"):
        f(x, torch.ones(2, 3))


def test_convolution_names_the_types(x: Any) -> None:
    with pytest.raises(RuntimeError, match=r"Input type \(torch\.cuda\.FloatTensor\) and weight "
                       r"type \(torch\.FloatTensor\) should be the same"):
        F.conv2d(x[None, None], torch.ones(1, 1, 2, 2))


def test_a_zero_dim_cpu_tensor_goes_along(be: StandIn, x: Any) -> None:
    two = torch.tensor(2.0, requires_grad=True)
    for y in (x * two, two * x, torch.maximum(x, two)):
        assert y._be is be
    (x * two).sum().backward()
    assert two.grad is not None and two.grad.is_cpu and two.grad.item() == pytest.approx(1.0)
    assert (x.long() + torch.tensor(1.5)).dtype == torch.float32
    x += torch.tensor(1.0)
    assert x._be is be
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        torch.ones(3) + torch.tensor(1.0, device="cuda")


def test_gradients_cross_devices(be: StandIn) -> None:
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    y = (w.to("cuda") * torch.tensor([3.0, 4.0], device="cuda")).to("cpu") * 2
    assert type(w.to("cuda").grad_fn).__name__ == "ToCopyBackward0"
    g, = torch.autograd.grad(y.square().sum(), w, create_graph=True)
    assert g.is_cpu and g.tolist() == [72.0, 256.0]
    g.sum().backward()
    assert w.grad is not None and w.grad.tolist() == [72.0, 128.0]


def test_a_gradient_must_be_on_its_tensors_device(x: Any) -> None:
    with pytest.raises(RuntimeError):
        x.requires_grad_().backward(torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="device"):
        x.grad = torch.ones(2, 3)


# Modules and optimizers --------------------------------------------------------------------------

class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(36, 5)

    def forward(self, x: Any) -> Any:
        return self.fc(F.max_pool2d(F.relu(self.norm(self.conv(x))), 2).flatten(1))


def train(d: str, net: Any, opt: Any, steps: int) -> list[float]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(6, 1, 8, 8, generator=generator).to(d)
    y = torch.randint(5, (6,), generator=generator).to(d)
    losses = []
    for _ in range(steps):
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses


def made(d: str) -> tuple[Any, Any]:
    torch.manual_seed(0)
    net = Net().to(d)
    return net, torch.optim.Adam(net.parameters(), 0.01)


def test_a_module_moves_with_its_parameters_and_buffers(be: StandIn) -> None:
    net = Net()
    parameters = list(net.parameters())
    assert net.to("cuda") is net
    assert all(a is b for a, b in zip(net.parameters(), parameters))
    assert all(t._be is be for t in net.state_dict().values())
    assert net.norm.running_mean._be is be
    assert net.cpu().fc.weight.is_cpu and net.cuda().fc.weight.is_cuda
    assert net.to("cuda", torch.float16).fc.weight.dtype == torch.float16
    assert net.norm.num_batches_tracked.dtype == torch.int64


def test_training_is_the_same_on_both(be: StandIn) -> None:
    want = train("cpu", *made("cpu"), 5)
    got = train("cuda", *made("cuda"), 5)
    assert got == pytest.approx(want, rel=1e-5) and got[-1] < got[0]


def test_the_way_there_and_back_loses_nothing(be: StandIn) -> None:
    net, opt = made("cpu")
    whole = train("cpu", net, opt, 6)
    net, opt = made("cpu")
    first = train("cpu", net, opt, 2)
    moved, other = made("cuda")
    moved.load_state_dict(net.state_dict())
    other.load_state_dict(opt.state_dict())
    assert all(v._be is be for s in other.state.values() for k, v in s.items() if k != "step")
    second = train("cuda", moved, other, 2)
    net.load_state_dict(moved.state_dict())
    opt.load_state_dict(other.state_dict())
    assert net.fc.weight.is_cpu
    assert all(v.is_cpu for s in opt.state.values() for v in s.values())
    assert first + second + train("cpu", net, opt, 2) == pytest.approx(whole, rel=1e-4)


def test_saved_on_one_device_loaded_on_the_other(be: StandIn, tmp_path: Any) -> None:
    net, _ = made("cuda")
    torch.save(net.state_dict(), tmp_path / "net.pt")
    there = torch.load(tmp_path / "net.pt")
    here = torch.load(tmp_path / "net.pt", map_location="cpu")
    for name, t in net.state_dict().items():
        assert there[name]._be is be and here[name].is_cpu
        assert here[name].tolist() == there[name].tolist() == t.tolist()


# Random numbers ----------------------------------------------------------------------------------

def test_the_device_has_a_generator_of_its_own(be: StandIn) -> None:
    torch.manual_seed(3)
    first = torch.rand(4).tolist()
    torch.manual_seed(3)
    be.generator.manual_seed(3)
    a = torch.rand(4, device="cuda").tolist()
    assert torch.rand(4).tolist() == first              # the CPU's stream has not moved
    be.generator.manual_seed(3)
    assert torch.rand(4, device="cuda").tolist() == a != first
    g = torch.Generator("cuda").manual_seed(3)
    assert torch.rand(4, device="cuda", generator=g).tolist() == a
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
        torch.rand(4, device="cuda", generator=torch.Generator())
