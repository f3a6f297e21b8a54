"""With several GPUs work runs with its operands' device as the current one."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.nn.functional as F
from gpugrad import backend
from gpugrad.backend import cuda

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("two_devices")]


@pytest.fixture
def one() -> Any:
    return backend.get("cuda:1")


@pytest.fixture
def zero() -> Any:
    return backend.get("cuda:0")


def test_work_runs_on_the_device_of_its_operands(zero: Any, one: Any) -> None:
    a, b = zero.xp.ones((2, 2), np.float32), one.xp.ones((2, 2), np.float32)
    assert torch.cuda.current_device() == 0
    for be, x in (zero, a), (one, b):
        for y in (x, be.empty((2,), "f4"), be.copy(a), be.copy(b), be.matmul(x, x),
                  be.xp.linalg.norm(x), be.from_host(np.ones(2)), be.map("activation", "relu", x),
                  be.xp.full((), 2), be.scalar(2.5, np.dtype("f4")), be.number[3.5, x.dtype],
                  be.asarray(np.ones(3)), be.expand(x, (3, 2, 2)), be.erf(x)):
            assert y.data.device_id == be.id
    # ops share the ufuncs of whichever device came first
    assert zero.xp.add(b, b).data.device_id == 1 and one.xp.add(a, a).data.device_id == 0
    assert one.xp.pi == np.pi and one.xp.ndarray is zero.ndarray
    assert one.guard(torch.cuda.current_device)() == 1
    assert torch.cuda.current_device() == 0


def test_the_current_device_is_restored_after_an_error(one: Any) -> None:
    with pytest.raises(ValueError):
        one.xp.zeros(2) + one.xp.zeros(3)
    with pytest.raises(TypeError):
        one.xp.zeros()
    assert torch.cuda.current_device() == 0


def test_devices_that_are_not_there() -> None:
    n = torch.cuda.device_count()
    with pytest.raises(RuntimeError, match=rf"invalid device ordinal: .* no cuda:{n}, only cuda:0 "
                                           rf"to cuda:{n - 1}"):
        torch.ones(1, device=f"cuda:{n}")
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.cuda.set_device(n + 3)
    torch.cuda.set_device(1)
    assert torch.cuda.current_device() == 1 and torch.ones(1, device="cuda").get_device() == 1
    torch.cuda.set_device(0)
    assert cuda.current_device() == 0


def test_gradients_and_copies() -> None:
    x = torch.arange(6.0, device="cuda:1").reshape(2, 3).requires_grad_()
    (x.exp() * 2).sum().backward()
    assert x.grad is not None and str(x.grad.device) == "cuda:1"
    np.testing.assert_allclose(x.grad.cpu(), 2 * np.exp(np.arange(6.0).reshape(2, 3)), rtol=1e-5)
    y = x.detach().to("cuda:0")
    assert str(y.device) == "cuda:0" and (y.cpu() == x.detach().cpu()).all()
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        x + y
    with torch.cuda.device(1):
        assert str(torch.ones(1, device="cuda").device) == "cuda:1"
    w = torch.ones(2, 3, device="cuda:0", requires_grad=True)
    (w.to("cuda:1") * x.detach()).sum().backward()
    assert w.grad is not None and str(w.grad.device) == "cuda:0" and w.grad[1, 2].item() == 5


def test_a_step_on_the_second_device() -> None:
    def train(place: str) -> list[float]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2),
                            nn.Flatten(), nn.Linear(8, 3)).to(place)
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(4, 1, 6, 6, generator=generator).to(place)
        y = torch.randint(3, (4,), generator=generator).to(place)
        opt, losses = torch.optim.Adam(net.parameters(), 0.05), []
        for _ in range(3):
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            losses.append(loss.item())
        assert all(str(p.device) == place for p in net.parameters())
        return losses
    assert train("cuda:1") == pytest.approx(train("cpu"), rel=1e-4)
    assert torch.cuda.current_device() == 0
