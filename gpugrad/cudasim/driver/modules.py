"""CUDA's driver, by the names of cupy_backends.cuda.api.driver: modules, kernels, launches."""
from __future__ import annotations

import ctypes
import struct
from typing import Any

from gpugrad.cudasim import compiler
from gpugrad.cudasim.driver import runtime
from gpugrad.cudasim.driver.nvrtc import Program, program_of
from gpugrad.cudasim.kernel import (
    HEADER,
    MAX_BLOCK,
    MAX_GRID,
    MAX_THREADS,
    SHARED,
    SHARED_AT_MOST,
    Kernel,
    settings,
)

_INVALID, _NOT_FOUND = 1, 500
_MOST_THREADS, _REGISTERS, _MOST_SHARED = 0, 4, 8       # of CUfunction_attribute
_modules: dict[int, Program] = {}
_functions: dict[int, Function] = {}
launches = [0]                  # how many so far, also into graphs


def error(status: int) -> Exception:
    """CuPy's exception for a status of the driver."""
    from cupy_backends.cuda.api.driver import CUDADriverError

    made = CUDADriverError.__new__(CUDADriverError)     # whose __init__ asks the real driver
    made.status, made.args = status, (f"CUDA driver error {status}",)
    return made


class Function:
    """A kernel as compiled for one mode, and how its arguments are laid out."""

    def __init__(self, program: Program, name: str) -> None:
        self.name, self.program = name, program
        self.binary = program.module.binary(program.mode)
        if name not in self.binary.kernels:
            raise error(_NOT_FOUND)
        self.entry, signature, self.max_threads = self.binary.kernels[name]
        self.dynamic_shared = 0                 # bytes beyond 48 KiB that a launch may ask for
        self.runtime = compiler.runtime()
        self.parameters: list[tuple[bytes, int]] = []           # (padding before, bytes)
        end = 0
        for parameter in signature.split(",")[:-1]:
            _, size, alignment = parameter.split()
            padding = -end % int(alignment)
            self.parameters.append((bytes(padding), int(size)))
            end += padding + int(size)

    def packed(self, sizes: tuple[int, ...], shared: int, at: int) -> bytes:
        """A launch as the simulator's runtime takes it. at: where the arguments' addresses are."""
        parts = [struct.pack(HEADER, self.entry, self.binary.place, *sizes, shared,
                             SHARED_AT_MOST if self.dynamic_shared else SHARED, *settings.packed,
                             int(self.program.mode == "check"), settings.patience)]
        places: Any = (ctypes.c_void_p * len(self.parameters)).from_address(at) if at else ()
        for place, (padding, size) in zip(places, self.parameters):
            parts += [padding, ctypes.string_at(place, size)]
        return b"".join(parts)

    def run(self, packed: bytes, sizes: tuple[int, ...]) -> None:
        if self.runtime.cs_launch(packed):
            raise Kernel(self.program.module, self.name).fault(self, sizes)


def moduleLoadData(image: bytes) -> int:
    handle = runtime.new_handle()
    _modules[handle] = program_of(image)
    return handle


def moduleUnload(module: int) -> None:
    del _modules[module]


def moduleGetFunction(module: int, name: str) -> int:
    function = Function(_modules[module], name)
    handle = runtime.new_handle()
    _functions[handle] = function
    return handle


def moduleGetGlobal(module: int, name: str) -> int:
    return _modules[module].module.variable(name)[0]


def funcGetAttribute(attribute: int, function: int) -> int:
    f = _functions[function]
    return {_MOST_THREADS: f.max_threads or MAX_THREADS, _REGISTERS: 32,
            _MOST_SHARED: f.dynamic_shared}.get(attribute, 0)


def funcSetAttribute(function: int, attribute: int, value: int) -> None:
    if attribute == _MOST_SHARED:
        _functions[function].dynamic_shared = value


def launchKernel(function: int, gx: int, gy: int, gz: int, bx: int, by: int, bz: int, shared: int,
                 stream: int, arguments: int, extra: int) -> None:
    f, sizes = _functions[function], (gx, gy, gz, bx, by, bz)
    if min(sizes) < 1 or any([n > most for n, most in zip(sizes, MAX_GRID + MAX_BLOCK)]) or \
            bx * by * bz > (f.max_threads or MAX_THREADS) or shared > max(SHARED, f.dynamic_shared):
        raise error(_INVALID)
    launches[0] += 1
    packed = f.packed(sizes, shared, arguments)
    runtime.queue(stream, lambda: f.run(packed, sizes))


def get_build_version() -> int:
    return runtime.runtimeGetVersion()
