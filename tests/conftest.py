"""The devices tests run on: cpu, and cuda, which is a simulated device where there is no GPU.

Marker ``gpu``: the test, or the parameter, uses cuda. Without a GPU it runs on the simulated device
in check mode, and is skipped only if there is no C++ compiler. GPUGRAD_REQUIRE_GPU=1 refuses the
simulation, and fails such tests where no real GPU can be used.
"""
from __future__ import annotations

import gc
import importlib.util
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

REQUIRE = os.environ.get("GPUGRAD_REQUIRE_GPU") == "1"
os.environ.setdefault("GPUGRAD_CUDASIM_MODE", "check")

_why_not = ""           # no device for tests marked gpu, and why


def pytest_configure(config: pytest.Config) -> None:
    global _why_not
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As in a shell's background job: programs that tests start and interrupt would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if REQUIRE and os.environ.get("GPUGRAD_CUDA") == "sim":
        raise pytest.UsageError("GPUGRAD_REQUIRE_GPU=1 asks for a real GPU, and GPUGRAD_CUDA=sim "
                                "for a simulated one")
    from gpugrad.backend import cuda
    from gpugrad.cudasim import driver

    if REQUIRE and driver.is_installed():
        raise pytest.UsageError("GPUGRAD_REQUIRE_GPU=1 asks for a real GPU, not for a simulated "
                                "driver")
    cupy, _why_not = cuda.usable()
    if cupy is None and not REQUIRE:
        try:
            cuda.simulate(True)
        except RuntimeError as e:
            _why_not = str(e)
        else:
            _why_not = cuda.usable()[1]


def pytest_report_header(config: pytest.Config) -> str:
    from gpugrad.backend import cuda
    from gpugrad.cudasim import driver

    if _why_not:
        return f"cuda: tests on it are {'failed' if REQUIRE else 'skipped'}: {_why_not}"
    mode = os.environ["GPUGRAD_CUDASIM_MODE"]
    if driver.is_installed():
        return f"cuda: CuPy {cuda.needed().__version__} on a simulated driver, {mode} mode"
    return f"cuda: simulated, {mode} mode" if cuda.simulated() else "cuda: a real GPU"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if _why_not and item.get_closest_marker("gpu"):
        if REQUIRE:
            pytest.fail(f"GPUGRAD_REQUIRE_GPU=1, but there is no CUDA device: {_why_not}",
                        pytrace=False)
        pytest.skip(f"no CUDA device: {_why_not}")
    if "bfloat16" in item.name and importlib.util.find_spec("ml_dtypes") is None:
        pytest.skip("ml_dtypes is not installed")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Any:
    """The name of a device: the test runs once on each."""
    return request.param


@pytest.fixture
def on_each_device(device: str) -> Iterator[None]:
    """Tensors are made on one device, then, in a second run of the test, on the other.

    For whole files: ``pytestmark = pytest.mark.usefixtures("on_each_device")``, with cpu_only for
    their tests that say something about the CPU.
    """
    import gpugrad

    with gpugrad.device(device):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if not (item.get_closest_marker("gpu")
                                               and item.get_closest_marker("cpu_only"))]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Hide the tests themselves from the garbage collector, which many tests call."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_cuda() -> Iterator[None]:
    """As if CUDA had not been looked for yet, and without the simulation."""
    from gpugrad import backend
    from gpugrad.backend import cuda
    from gpugrad.cudasim import installing

    simulated = cuda.simulated()
    with pytest.MonkeyPatch.context() as change:
        change.setattr(cuda, "_simulate", [False])
        change.setattr(cuda, "_made", {})
        change.setattr(backend, "_made", {
            d: be for d, be in backend._made.items() if d.type == "cpu"})
        installing.stop()
        cuda.usable.cache_clear()
        yield
    cuda.usable.cache_clear()
    if simulated:
        installing.start()


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """cuda:0 and cuda:1: of the machine if it has them, else simulated ones."""
    from gpugrad import backend
    from gpugrad.backend import cuda
    from gpugrad.cudasim import state

    if not cuda.simulated():
        if cuda.device_count() < 2:
            pytest.skip("there are fewer than two GPUs")
        yield
        return
    before = dict(backend._made)
    monkeypatch.setattr(cuda, "_made", {})
    monkeypatch.setattr(backend, "_made", {d: be for d, be in before.items() if d.type == "cpu"})
    state.switches.devices = 2
    state.switches.update()
    yield
    state.switches.devices = 1
    state.switches.update()
    state.thread.device = 0
    monkeypatch.undo()
    for d, be in before.items():        # their ufuncs take their places again
        backend.register(d, be)
