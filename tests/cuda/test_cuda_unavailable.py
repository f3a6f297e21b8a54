"""Without CUDA: is_available() is False with a reason, and what needs a GPU raises that reason."""
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import gpugrad as torch

ROOT = Path(__file__).resolve().parents[2]


# A test sees the machine that it describes, with no device in use; then all is as before.
pytestmark = pytest.mark.usefixtures("no_cuda")


def fail(text: str) -> Callable[[], Any]:
    def f() -> Any:
        raise RuntimeError(text)
    return f


def cupy_with(**changes: Callable[[], Any]) -> Any:
    """As much of CuPy as is asked whether it works."""
    f: dict[str, Any] = {"driverGetVersion": lambda: 13000, "getDeviceCount": lambda: 1,
                         "getVersion": lambda: (13, 0), **changes}
    both = SimpleNamespace(**f)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=both, nvrtc=both))


# What is wrong, and what the reason must say.
BROKEN = {
    "not installed": (None, "CuPy is not installed: pip install"),
    "no driver": (cupy_with(driverGetVersion=lambda: 0), "no NVIDIA driver"),
    "old driver": (cupy_with(getDeviceCount=fail("cudaErrorInsufficientDriver")),
                   "reports cudaErrorInsufficientDriver"),
    "no device": (cupy_with(getDeviceCount=lambda: 0), "CUDA_VISIBLE_DEVICES"),
    "no compiler": (cupy_with(getVersion=fail("libnvrtc.so is missing")),
                    "libnvrtc.so is missing"),
}


@pytest.fixture(params=BROKEN)
def reason(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    module, text = BROKEN[request.param]
    monkeypatch.setitem(sys.modules, "cupy", module)
    return text


@pytest.fixture
def no_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)


def test_the_reason_is_kept(reason: str) -> None:
    assert torch.cuda.is_available() is False
    assert reason in torch.cuda.unavailable_reason()
    assert torch.cuda.device_count() == 0


def test_to_cuda_raises_with_the_reason(reason: str) -> None:
    with pytest.raises(RuntimeError) as e:
        torch.ones(2).to("cuda")
    assert reason in str(e.value) and "CUDA is not available" in str(e.value)


def test_a_cupy_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cupy.py").write_text("raise OSError('the cache folder cannot be written')")
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert torch.cuda.is_available() is False
    assert "OSError: the cache folder cannot be written" in torch.cuda.unavailable_reason()


def test_a_cupy_that_lacks_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cupy.py").write_text("import no_such_part_of_cuda")
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert torch.cuda.is_available() is False
    assert "no_such_part_of_cuda" in torch.cuda.unavailable_reason()


@pytest.mark.parametrize("call", [
    lambda: torch.ones(2).cuda(),
    lambda: torch.ones(2, device="cuda:3"),
    lambda: torch.zeros(2, device=torch.device("cuda")),
    lambda: torch.tensor([1.0]).to(0),
    lambda: torch.nn.Linear(2, 3).to("cuda"),
    lambda: torch.nn.Linear(2, 3).cuda(),
    lambda: torch.Generator("cuda"),
    lambda: torch.cuda.init(),
    lambda: torch.cuda.current_device(),
    lambda: torch.cuda.set_device(0),
    lambda: torch.cuda.device(0).__enter__(),
    lambda: torch.cuda.device("cuda"),
    lambda: torch.cuda.get_device_name(),
    lambda: torch.cuda.get_device_properties(0),
    lambda: torch.cuda.get_device_capability(),
    lambda: torch.cuda.synchronize(),
    lambda: torch.cuda.get_rng_state(),
    lambda: torch.cuda.initial_seed(),
    lambda: torch.cuda.mem_get_info(),
    lambda: torch.cuda.Stream(),
    lambda: torch.cuda.Event(),
    lambda: torch.cuda.current_stream(),
    lambda: torch.cuda.default_stream(),
])
def test_what_needs_a_device_raises(call: Callable[[], Any], no_cupy: None) -> None:
    with pytest.raises(RuntimeError, match=r"CUDA is not available: CuPy is not installed: pip "
                       r"install .*gpugrad\[cuda12\].* use the device 'cpu'"):
        call()


def test_what_programs_call_without_asking_does_nothing(no_cupy: None) -> None:
    assert torch.cuda.memory_allocated() == torch.cuda.memory_reserved() == 0
    torch.cuda.empty_cache()
    torch.cuda.manual_seed(3)
    torch.cuda.manual_seed_all(3)
    torch.manual_seed(3)
    torch.cuda.set_device(-1)
    assert not torch.cuda.is_initialized() and not torch.cuda.is_bf16_supported()
    assert torch.cuda.get_rng_state_all() == []
    with torch.cuda.stream(None):
        pass
    with torch.cuda.device_of(torch.ones(1)):
        pass


@pytest.mark.parametrize("argument", ["cpu", torch.device("cpu")])
def test_a_device_that_is_not_a_cuda_device(argument: Any) -> None:
    for f in (torch.cuda.set_device, torch.cuda.device, torch.cuda.get_device_name):
        with pytest.raises(ValueError, match="Expected a cuda device, but got: cpu"):
            f(argument)


def test_set_device_needs_an_index() -> None:
    for argument in ("cuda", None):
        with pytest.raises(ValueError, match=r"Expected a torch\.device with a specified index"):
            torch.cuda.set_device(argument)
    with pytest.raises(TypeError, match="not float"):
        torch.cuda.get_device_name(1.5)


def test_cupy_is_looked_for_at_the_first_request_only() -> None:
    code = ("import sys; import gpugrad as torch; torch.manual_seed(1); "
            "torch.cuda.manual_seed_all(2); torch.cuda.memory_allocated(); "
            "torch.cuda.empty_cache(); torch.nn.Linear(2, 2).to('cpu'); "
            "assert 'cupy' not in sys.modules; torch.cuda.is_available(); "
            "print(torch.cuda.unavailable_reason() or 'available')")
    environment = {n: v for n, v in os.environ.items() if n != "GPUGRAD_CUDA"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100,
                         env={**environment, "PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() and run.stderr == ""
