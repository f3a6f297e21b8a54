"""With several GPUs work runs with its operands' device as the current one; shown on a stub."""
from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpugrad.backend import cuda
from gpugrad.device import device


class Runtime:
    """Two devices of which the thread's current one is noted."""

    def __init__(self) -> None:
        self.current = 0

    def getDevice(self) -> int:
        return self.current

    def setDevice(self, index: int) -> None:
        assert 0 <= index < 2
        self.current = index

    def getDeviceCount(self) -> int:
        return 2


class Array:
    """An array that remembers on which device it was made."""

    def __init__(self, device_id: int) -> None:
        self.data = SimpleNamespace(device_id=device_id)
        self.dtype, self.shape, self.size = np.dtype("f4"), (2,), 2
        self.flags = SimpleNamespace(c_contiguous=True)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    runtime = Runtime()

    def made(*args: Any, **kw: Any) -> Array:
        return Array(runtime.current)

    def fail(*args: Any) -> None:
        raise ValueError("no")

    class Current:
        def __init__(self, index: int) -> None:
            self.index = index

        def __enter__(self) -> None:
            self.before, runtime.current = runtime.current, self.index

        def __exit__(self, *exc: object) -> None:
            runtime.current = self.before

    linalg = ModuleType("linalg")
    linalg.inv = made           # type: ignore[attr-defined]
    launched: list[int] = []
    kernel = SimpleNamespace(kernel=lambda *a: launched.append(runtime.current))
    module = SimpleNamespace(
        ndarray=Array, empty=made, array=made, add=made, matmul=made, fail=fail, linalg=linalg,
        pi=3.14, maximum=made, minimum=made, logical_and=made, logical_or=made, max=made, min=made,
        all=made, any=made,
        RawModule=lambda **kw: SimpleNamespace(get_function=lambda name: kernel),
        cuda=SimpleNamespace(runtime=runtime, Device=Current), launched=launched)
    monkeypatch.setattr(cuda, "usable", lambda: (module, ""))
    monkeypatch.setattr(cuda, "_made", {})
    return module


def test_work_runs_on_the_device_of_its_operands(cupy: Any) -> None:
    runtime = cupy.cuda.runtime
    zero, one = cuda.make(device("cuda:0")), cuda.make(device("cuda:1"))
    assert runtime.current == 0
    assert one.empty((2,), "f4").data.device_id == 1
    assert zero.empty((2,), "f4").data.device_id == 0
    assert one.copy(Array(0)).data.device_id == 1
    assert one.matmul(Array(1), Array(1)).data.device_id == 1
    assert one.xp.linalg.inv().data.device_id == 1
    assert one.xp.pi == 3.14 and one.xp.ndarray is Array
    # ops share the ufuncs of whichever device came first
    assert zero.xp.add(Array(1), Array(1)).data.device_id == 1
    assert one.xp.add(Array(0), Array(0)).data.device_id == 0
    one.map("activation", "relu", Array(1))
    zero.map("activation", "relu", Array(0))
    assert cupy.launched == [1, 0]
    assert one.guard(lambda: runtime.current)() == 1
    assert runtime.current == 0


def test_the_current_device_is_restored_after_an_error(cupy: Any) -> None:
    one = cuda.make(device("cuda:1"))
    with pytest.raises(ValueError):
        one.xp.fail()
    assert cupy.cuda.runtime.current == 0


def test_devices_that_are_not_there(cupy: Any) -> None:
    with pytest.raises(RuntimeError, match=r"invalid device ordinal: .* no cuda:2, only cuda:0 to"):
        cuda.make(device("cuda:2"))
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        cuda.set_device(5)
    assert cuda.device_count() == 2
    cuda.set_device(1)
    assert cuda.current_device() == 1
