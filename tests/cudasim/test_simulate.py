"""Switching the simulated device on and off, and what it tells about programs."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.nn.functional as F
from gpugrad.backend import cuda

ROOT = Path(__file__).resolve().parents[2]


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith("GPUGRAD_CUDA")}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300,
                          env={**kept, "PYTHONPATH": str(ROOT), **environment})


def printed(code: str, **environment: str) -> str:
    run = python(code, **environment)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return run.stdout


@pytest.fixture
def simulated() -> None:
    if not cuda.simulated():
        pytest.skip("there is a real GPU, or no C++ compiler")


# Switching it on ---------------------------------------------------------------------------------

USE = """
import gpugrad as torch
assert torch.cuda.is_available() and torch.cuda.is_bf16_supported() in (True, False)
print(torch.cuda.device_count(), torch.cuda.get_device_name())
x = torch.arange(3.0, device="cuda", requires_grad=True)
torch.relu(x).sum().backward()
print(x.grad.device, x.grad.tolist(), torch.cuda.memory_allocated() > 0)
import cupy, cupy.cuda.runtime, cupyx.scipy.special
print(cupy.__name__, type(x.detach()._a) is cupy.ndarray, torch.cuda.sim.is_simulated())
"""
USED = ("1 simulated CUDA device (gpugrad.cudasim)\ncuda:0 [0.0, 1.0, 1.0] True\n"
        "gpugrad.cudasim.cupy True True\n")


@pytest.mark.usefixtures("simulated")
def test_by_the_environment() -> None:
    assert printed(USE, GPUGRAD_CUDA="sim") == USED


@pytest.mark.usefixtures("simulated")
def test_by_a_call() -> None:
    call = "import gpugrad; gpugrad.cuda.simulate(); gpugrad.cuda.simulate()\n"
    assert printed(call + USE) == USED


@pytest.mark.usefixtures("simulated")
def test_several_devices_by_the_environment() -> None:
    code = ("import gpugrad as torch; print(torch.cuda.device_count());"
            "x = torch.ones(2, device='cuda:1'); print((x + x).to('cuda:0').device)")
    assert printed(code, GPUGRAD_CUDA="sim", GPUGRAD_CUDASIM_DEVICES="2") == "2\ncuda:0\n"


@pytest.mark.usefixtures("simulated")
def test_in_a_block() -> None:
    code = """
import gpugrad as torch
before = torch.cuda.is_available()
with torch.cuda.simulate():
    assert torch.ones(2, device="cuda").sum().item() == 2
    import cupy
    assert "cudasim" in cupy.__name__
assert torch.cuda.is_available() is before and not torch.cuda.is_initialized()
import sys
assert "cudasim" not in getattr(sys.modules.get("cupy"), "__name__", "")
with torch.cuda.simulate(), torch.cuda.simulate():
    assert torch.full((2,), 3.0, device="cuda").exp().is_cuda
"""
    assert printed(code) == ""


def test_other_values_are_refused() -> None:
    code = "import gpugrad; print(gpugrad.cuda.unavailable_reason())"
    assert "GPUGRAD_CUDA is 'yes': it must be sim" in printed(code, GPUGRAD_CUDA="yes")


def test_a_real_device_in_use_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_simulate", [False])
    monkeypatch.setattr(cuda, "_made", {0: type("Real", (), {"name": "cuda:0"})()})
    with pytest.raises(RuntimeError, match=r"a CUDA device \(cuda:0\) is in use already"):
        torch.cuda.simulate()


def test_without_a_compiler() -> None:
    code = """
import gpugrad as torch
print(torch.cuda.is_available())
try: torch.ones(2).to("cuda")
except RuntimeError as e: print(e)
try: torch.cuda.simulate()
except RuntimeError as e: print(e)
"""
    out = printed(code, GPUGRAD_CUDA="sim", CXX="/nowhere/g++").splitlines()
    assert out[0] == "False" and "install g++" in out[1] and "CXX=/nowhere/g++" in out[1]
    out = printed(code, CXX="/nowhere/g++").splitlines()
    assert "install g++" in out[-1] or "in use" in out[-1]


# What it tells -----------------------------------------------------------------------------------

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
    "SGD": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=1e-3),
    "Adam": lambda p: torch.optim.Adam(p, 1e-3),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-3),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-4),
}


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_step_never_waits_and_never_copies(name: str) -> None:
    torch.manual_seed(0)
    net = LeNet().to("cuda")
    x, y = torch.randn(2, 1, 32, 32, device="cuda"), torch.randint(10, (2,), device="cuda")
    opt = OPTIMIZERS[name](net.parameters())
    for step in range(3):
        if step == 2:                           # what only a first step makes is there by now
            torch.cuda.sim.reset()
        opt.zero_grad()
        F.cross_entropy(net(x), y).backward()
        opt.step()
    stats = torch.cuda.sim.stats()
    assert stats.launches > 10
    assert stats == torch.cuda.sim.Stats(launches=stats.launches)


@pytest.mark.usefixtures("simulated")
def test_what_is_counted() -> None:
    x = torch.ones(4)
    torch.cuda.sim.reset()
    y = x.to("cuda")
    assert torch.cuda.sim.stats().h2d == 1
    (y * 2).sum().item()
    assert (torch.cuda.sim.stats().d2h, torch.cuda.sim.stats().syncs) == (1, 1)
    y.cpu()
    torch.cuda.synchronize()
    assert (torch.cuda.sim.stats().d2h, torch.cuda.sim.stats().syncs) == (2, 3)
    kept = torch.cuda.sim.stats()
    torch.cuda.sim.reset()
    assert kept.syncs == 3 and torch.cuda.sim.stats() == torch.cuda.sim.Stats()
