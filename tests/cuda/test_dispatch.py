"""Tensors on a CUDA device: placing, which text runs, two devices in one op, modules, random."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.nn.functional as F
from gpugrad import backend

pytestmark = pytest.mark.gpu


@pytest.fixture
def be() -> Any:
    return backend.get("cuda:0")


@pytest.fixture
def launched(be: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that are launched."""
    names: list[str] = []
    launch = be.kernels.launch

    def noting(file: str, name: str, *args: Any) -> None:
        names.append(name)
        launch(file, name, *args)
    monkeypatch.setattr(be.kernels, "launch", noting)
    return names


@pytest.fixture
def x() -> Any:
    return torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.0, -1.5]], device="cuda")


# Placing -----------------------------------------------------------------------------------------

def test_to_and_back(be: Any) -> None:
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


def test_making(be: Any) -> None:
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


def test_printing(be: Any, x: Any) -> None:
    assert repr(x) == ("tensor([[ 1.0000, -2.0000,  3.0000],\n"
                       "        [ 0.5000,  0.0000, -1.5000]], device='cuda:0')")
    assert repr(torch.tensor(1.5, device="cuda", requires_grad=True)) == \
        "tensor(1.5000, device='cuda:0', requires_grad=True)"


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


def test_kernels_and_the_portable_text_agree(
        be: Any, x: Any, launched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    got = slopes(x.requires_grad_())
    assert "threshold_backward" in launched
    monkeypatch.setattr(be.kernels, "on", False)
    launched.clear()
    portable = slopes(x.detach().requires_grad_())
    assert launched == []
    want = slopes(x.detach().cpu().requires_grad_())
    for a, b, c in zip(got, portable, want):
        assert a._be is b._be is be and a.tolist() == b.tolist() == c.tolist()


def test_pooling_falls_back_too(be: Any, launched: list[str],
                                monkeypatch: pytest.MonkeyPatch) -> None:
    def run(d: str) -> list[Any]:
        x = torch.arange(72.0, device=d).reshape(1, 2, 6, 6).sin().detach().requires_grad_()
        for y in (F.max_pool2d(x, 2), F.avg_pool2d(x, 3, 2, 1), F.adaptive_avg_pool2d(x, 4)):
            y.square().sum().backward()
        values, indices = F.max_pool2d(x, 3, 1, return_indices=True)
        assert indices.dtype == torch.int64
        return [x.grad, values, indices]
    want = run("cpu")
    for on in (True, False):
        monkeypatch.setattr(be.kernels, "on", on)
        launched.clear()
        for a, b in zip(run("cuda"), want):
            np.testing.assert_allclose(a.detach().cpu(), b.detach(), rtol=1e-5, atol=1e-6)
        assert bool(launched) is on


def test_the_cpu_is_never_asked_for_kernels(launched: list[str]) -> None:
    slopes(torch.ones(3, requires_grad=True))
    assert launched == []


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


def test_a_zero_dim_cpu_tensor_goes_along(be: Any, x: Any) -> None:
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


def test_a_module_moves_with_its_parameters_and_buffers(be: Any) -> None:
    net = Net()
    parameters = list(net.parameters())
    assert net.to("cuda") is net
    assert all(a is b for a, b in zip(net.parameters(), parameters))
    assert all(t._be is be for t in net.state_dict().values())
    assert net.norm.running_mean._be is be
    assert net.cpu().fc.weight.is_cpu and net.cuda().fc.weight.is_cuda
    assert net.to("cuda", torch.float16).fc.weight.dtype == torch.float16
    assert net.norm.num_batches_tracked.dtype == torch.int64


def test_training_is_the_same_on_both(be: Any) -> None:
    want = train("cpu", *made("cpu"), 5)
    got = train("cuda", *made("cuda"), 5)
    assert got == pytest.approx(want, rel=1e-5) and got[-1] < got[0]


def test_the_way_there_and_back_loses_nothing(be: Any) -> None:
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


def test_saved_on_one_device_loaded_on_the_other(be: Any, tmp_path: Any) -> None:
    net, _ = made("cuda")
    torch.save(net.state_dict(), tmp_path / "net.pt")
    there = torch.load(tmp_path / "net.pt")
    here = torch.load(tmp_path / "net.pt", map_location="cpu")
    for name, t in net.state_dict().items():
        assert there[name]._be is be and here[name].is_cpu
        assert here[name].tolist() == there[name].tolist() == t.tolist()


# Random numbers ----------------------------------------------------------------------------------

def test_the_device_has_a_generator_of_its_own(be: Any) -> None:
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
