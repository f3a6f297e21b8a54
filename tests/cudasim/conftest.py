"""For tests of the kernel simulator: device arrays, and modules that are compiled once."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpugrad.cudasim import compiler, kernel, memory


class Simulator:
    """Compiles sources and runs their kernels on NumPy arrays in simulated device memory."""

    settings = kernel.settings

    def __init__(self) -> None:
        self._modules: dict[Any, compiler.Module] = {}

    def array(self, values: Any, dtype: Any = None) -> np.ndarray:
        """A copy in device memory."""
        host = np.array(values, dtype)
        device = memory.allocate(host.nbytes, host.itemsize).view(host.dtype).reshape(host.shape)
        device[...] = host
        return device

    def empty(self, shape: Any, dtype: Any) -> np.ndarray:
        """Device memory that nothing was written to."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return memory.allocate(nbytes, np.dtype(dtype).itemsize).view(dtype).reshape(shape)

    def module(self, code: str, names: Any = (), options: Any = (),
               path: str = "kernel.cu") -> compiler.Module:
        key = code, tuple(names), tuple(options), path
        if key not in self._modules:
            self._modules[key] = compiler.Module(code, options, names, path)
        return self._modules[key]

    def run(self, code: str, name: str, grid: Any, block: Any, *args: Any, shared: int = 0,
            names: Any = (), options: Any = (), path: str = "kernel.cu") -> None:
        """Launch a kernel. NumPy arrays that ``array`` or ``empty`` made stand for pointers."""
        function = self.module(code, names, options, path).function(name)
        function(grid if isinstance(grid, tuple) else (grid,),
                 block if isinstance(block, tuple) else (block,),
                 tuple([self.pointer(a) if isinstance(a, np.ndarray) else a for a in args]), shared)

    @staticmethod
    def pointer(a: np.ndarray) -> memory.Pointer:
        return memory.Pointer(a.__array_interface__["data"][0], a.dtype)


@pytest.fixture(scope="session")
def sim() -> Simulator:
    if not compiler.available():
        pytest.skip("simulated kernels are compiled by g++, and there is none")
    return Simulator()


@pytest.fixture(params=["plain", "check"])
def mode(request: Any) -> Any:
    """Both modes that tests use, one after the other."""
    with kernel.settings.using(mode=request.param):
        yield request.param


@pytest.fixture(params=["forward", "reversed", 1, 2])
def order(request: Any) -> Any:
    """Several orders of threads and blocks."""
    with kernel.settings.using(order=request.param):
        yield request.param


@pytest.fixture
def checking() -> Any:
    with kernel.settings.using(mode="check", order="forward"):
        yield


@pytest.fixture
def plainly() -> Any:
    with kernel.settings.using(mode="plain", order="forward"):
        yield
