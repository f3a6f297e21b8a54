"""RawModule and RawKernel: CUDA C++ that the machine's own compiler translates."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.cudasim import memory, state
from gpugrad.cudasim.compiler import Module
from gpugrad.cudasim.cupy._calls import Array, check_devices
from gpugrad.cudasim.cupy.cuda.compiler import CompileException
from gpugrad.cudasim.cupy.cuda.memory import MemoryPointer, UnownedMemory
from gpugrad.cudasim.errors import CompileError
from gpugrad.cudasim.kernel import SHARED, settings
from gpugrad.cudasim.memory import Pointer
from gpugrad.cudasim.state import recording, switches


class Function:
    """A compiled kernel: ``f(grid, block, args)``."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self.ptr = id(kernel)

    def __call__(self, grid: Any, block: Any, args: Any, shared_mem: int = 0, stream: Any = None,
                 enable_cooperative_groups: bool = False) -> None:
        if not isinstance(grid, tuple) or not isinstance(block, tuple):
            raise TypeError("grid and block must be tuples")
        if enable_cooperative_groups:
            raise NotImplementedError("cooperative groups: the simulation runs a block after "
                                      "another, so no block can wait for another one")
        packed = [_packed(a) for a in args]
        state.counts.launches += 1
        kernel = self._kernel
        if switches.careful:
            arrays = [a for a in args if isinstance(a, Array)]
            check_devices(arrays)
            graph = recording() if stream is None else stream._graph
            if graph is not None:
                graph._add(lambda: kernel(grid, block, packed, shared_mem), arrays)
                return
        kernel(grid, block, packed, shared_mem)


def _forget(block: Any, forget: Callable[[int], None] = memory.forget) -> None:
    # forget: bound here, for blocks that outlive this module's names when Python ends
    forget(block.address)


def adopt(a: Any) -> None:
    """Let the simulator know an array's memory, which a kernel may get the address of."""
    block = a._block
    if block.forget is None and block.array.nbytes:
        memory.adopt(block.address, block.array.nbytes, a._a.dtype.itemsize)
        block.forget = _forget


def _packed(a: Any) -> Any:
    """An argument as the simulator takes it."""
    if isinstance(a, Array):
        adopt(a)
        host = a._a
        if not host.flags.c_contiguous:
            raise ValueError(f"a kernel reads arrays in C order, not one of shape {host.shape} "
                             f"with strides {host.strides}: a launch on a GPU would read wrong "
                             f"elements")
        return Pointer(host.__array_interface__["data"][0], host.dtype)
    if isinstance(a, (np.generic, int, float)):
        return a
    if isinstance(a, np.ndarray):               # by value, such as a struct
        if a.size != 1:
            raise TypeError(
                f"You are trying to pass a numpy.ndarray of shape {a.shape} as a kernel parameter. "
                f"Only numpy.ndarrays of size one can be passed by value. If you meant to pass a "
                f"pointer to __global__ memory, you need to pass a cupy.ndarray instead.")
        return a.reshape(1)[0]
    if isinstance(a, MemoryPointer):
        return Pointer(a.ptr, None)
    if a is None:
        return Pointer(0, None)
    if isinstance(a, complex):
        return np.complex128(a)
    raise TypeError(f"Unsupported type {type(a)}")


class RawKernel:
    """A kernel of CUDA C++ text: ``k(grid, block, args)``. It is compiled at its first use."""

    def __init__(self, code: str, name: str, options: tuple[str, ...] = (),
                 backend: str = "nvrtc", translate_cucomplex: bool = False, *,
                 enable_cooperative_groups: bool = False, jitify: Any = None) -> None:
        self._module = RawModule(code=code, options=options, backend=backend,
                                 translate_cucomplex=translate_cucomplex)
        self.code, self.name, self.options, self.backend = code, name, options, backend
        self.enable_cooperative_groups = enable_cooperative_groups
        self._function: Function | None = None

    @property
    def kernel(self) -> Function:
        """The compiled function."""
        if self._function is None:
            self._function = self._module._compiled_function(self.name)
        return self._function

    def compile(self, log_stream: Any = None) -> None:
        """Compile it now."""
        self.kernel                             # noqa: B018

    def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0) -> None:
        self.kernel(grid, block, args, shared_mem,
                    enable_cooperative_groups=self.enable_cooperative_groups)

    @property
    def attributes(self) -> dict[str, int]:
        return {"max_threads_per_block": self.max_threads_per_block, "binary_version": 80,
                "ptx_version": 80,
                "max_dynamic_shared_size_bytes": self.max_dynamic_shared_size_bytes}

    @property
    def max_threads_per_block(self) -> int:
        return 1024

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        """How much dynamic shared memory a launch may ask for; more than 48 KiB must be set."""
        return max(SHARED, int(self.kernel._kernel.max_dynamic_shared_size_bytes))

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        self.kernel._kernel.max_dynamic_shared_size_bytes = int(size)


class RawModule:
    """CUDA C++ text with kernels. It is compiled when a kernel is first asked for."""

    def __init__(self, *, code: str | None = None, path: str | None = None,
                 options: tuple[str, ...] = (), backend: str = "nvrtc",
                 translate_cucomplex: bool = False, enable_cooperative_groups: bool = False,
                 name_expressions: Any = None, jitify: Any = None) -> None:
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        if path is not None:
            raise NotImplementedError("RawModule(path=...) loads a compiled file, which the "
                                      "simulation can't run: give it the text as code=")
        if not isinstance(options, tuple):
            raise TypeError(f"Argument 'options' has incorrect type (expected tuple, got "
                            f"{type(options).__name__})")
        if translate_cucomplex or jitify:
            raise NotImplementedError("translate_cucomplex and jitify")
        if name_expressions and not any(o.startswith(("-std=", "--std=")) for o in options):
            raise ValueError("need to specify C++ standard for compiling template code")
        self.code, self.options, self.backend = code, options, backend
        self.name_expressions = name_expressions
        self.enable_cooperative_groups = enable_cooperative_groups
        self._made: Any = None

    @property
    def module(self) -> Any:
        if self._made is None:
            self._made = Module(self.code or "", self.options, tuple(self.name_expressions or ()))
        return self._made

    def compile(self, log_stream: Any = None) -> None:
        """Compile it now."""
        self._with_log(lambda: self.module.binary(settings.mode))

    def _compiled_function(self, name: str) -> Function:
        state.counts.compilations += 1
        return Function(self._with_log(lambda: self.module.function(name)))

    def _with_log(self, f: Callable[[], Any]) -> Any:
        try:
            return f()
        except CompileError as e:
            raise CompileException(str(e), self.code, "kernel.cu", self.options) from e

    def get_function(self, name: str) -> RawKernel:
        """A kernel by its name or name expression."""
        kernel = RawKernel.__new__(RawKernel)
        kernel._module, kernel.name, kernel.code = self, name, self.code or ""
        kernel.options, kernel.backend = self.options, self.backend
        kernel.enable_cooperative_groups = self.enable_cooperative_groups
        kernel._function = self._compiled_function(name)
        return kernel

    def get_global(self, name: str) -> MemoryPointer:
        """Where a __device__ or __constant__ variable lies."""
        address, nbytes = self._with_log(lambda: self.module.variable(name))
        return MemoryPointer(UnownedMemory(address, nbytes, self), 0)
