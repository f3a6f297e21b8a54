"""Finds kernels/*.cu, compiles each once per dtype at its first use, and launches them."""
from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

# What a .cu file is compiled with for each dtype; common.cuh reads it.
DEFINES: dict[Any, tuple[str, ...]] = {
    np.dtype("f4"): (), np.dtype("f8"): ("-DFLOAT64",), np.dtype("f2"): ("-DFLOAT16",)}

THREADS = 256                       # of a block, where a kernel loops over elements
MAX_BLOCKS = 1 << 16                # of its grid: with more elements the threads go round
# In longer arrays a 32-bit index could overflow with the loop's last step.
NARROW = (1 << 31) - 1 - THREADS * MAX_BLOCKS

# struct Windows of common.cuh: how windows lie on planes.
WINDOWS = np.dtype([(f, np.int32) for f in "h w oh ow kh kw sh sw ph pw dh dw".split()])

_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"\n', re.M)


def enabled() -> bool:
    """False if GPUGRAD_KERNELS=0 asks for the portable text of every op."""
    return os.environ.get("GPUGRAD_KERNELS", "1") != "0"


def folder() -> Path:
    """Where the .cu files are: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    places = package / "_kernels", package.parent / "kernels"
    for place in places:
        if place.is_dir():
            return place
    raise RuntimeError(f"gpugrad's CUDA kernels are missing: neither {places[0]} nor {places[1]} "
                       f"exists; install gpugrad again")


@functools.cache
def source(file: str) -> str:
    """The text of ``<file>.cu`` with the project's own headers put in, so that it stands alone."""
    path = folder() / f"{file}.cu"
    if not path.is_file():
        raise RuntimeError(f"there is no CUDA kernel file {path}")
    text = path.read_text(encoding="utf-8")

    def put_in(m: re.Match[str]) -> str:
        header = (folder() / m[1]).read_text(encoding="utf-8")
        line = text.count("\n", 0, m.end()) + 1
        return f'#line 1 "{m[1]}"\n{header}#line {line} "{file}.cu"\n'

    return _INCLUDE.sub(put_in, text)


def sources() -> dict[str, str]:
    """The text of every .cu file, by its name without the ending."""
    return {path.stem: source(path.stem) for path in sorted(folder().glob("*.cu"))}


def options(dtype: Any, wide: bool = False) -> tuple[str, ...]:
    """The compiler's options for one dtype; wide: with 64-bit indices."""
    return "-std=c++17", *DEFINES[np.dtype(dtype)], *(("-DWIDE",) if wide else ())


@functools.lru_cache(1024)
def windows(size: tuple[int, ...], count: tuple[int, ...], kernel: tuple[int, ...] = (1, 1),
            stride: tuple[int, ...] = (1, 1), padding: tuple[int, ...] = (0, 0),
            dilation: tuple[int, ...] = (1, 1)) -> Any:
    """For kernels, how ``count`` windows lie on planes of ``size``; all (rows, columns)."""
    return np.array((*size, *count, *kernel, *stride, *padding, *dilation), WINDOWS)


class Kernels:
    """The compiled kernels of one device. ``launch`` is the only way to run one."""

    def __init__(self, be: Any) -> None:
        self.be, self.on = be, enabled()
        self._modules: dict[Any, Any] = {}
        self._functions: dict[Any, Any] = {}

    def take(self, dtype: Any) -> bool:
        """Whether there are kernels for arrays of this dtype."""
        return self.on and dtype in DEFINES

    def each(self, file: str, name: str, dtype: Any, n: int, arrays: Any, *rest: Any) -> None:
        """Launch a kernel (arrays..., long long n, rest...) that loops over n elements."""
        grid = min(-(-n // THREADS), MAX_BLOCKS)
        self.launch(file, name, (grid,), (THREADS,), (*arrays, np.int64(n), *rest), dtype)

    def launch(self, file: str, name: str, grid: tuple[int, ...], block: tuple[int, ...],
               args: tuple[Any, ...], dtype: Any) -> None:
        """Run kernel ``name`` of ``<file>.cu``, compiled for ``dtype``, on CuPy's current stream.

        args: device arrays in C order, NumPy scalars of the very type that the kernel declares,
        structs as 0-dim NumPy arrays. Where a dimension of the grid is 0 there is nothing to do.
        """
        if 0 in grid:
            return
        wide = self._check(f"{file}.{name}", args)
        function = self._functions.get((file, name, dtype, wide))
        if function is None:
            function = self._compiled(file, name, dtype, wide)
            self._functions[file, name, dtype, wide] = function
        try:
            function(grid, block, args)
        except Exception as e:
            raise RuntimeError(
                f"the CUDA kernel {file}.{name} could not be launched on {self.be.name} with grid "
                f"{grid}, block {block} and ({', '.join(map(_described, args))}): {e}") from e

    def _check(self, kernel: str, args: tuple[Any, ...]) -> bool:
        """Raise for what a kernel would misread in silence. Returns whether an array is huge."""
        ndarray, wide = self.be.ndarray, False
        for a in args:
            if isinstance(a, ndarray):
                if not a.flags.c_contiguous:
                    raise ValueError(f"the CUDA kernel {kernel} reads arrays in C order, not one "
                                     f"of shape {a.shape} with strides {a.strides}")
                wide = wide or a.size > NARROW
            elif not isinstance(a, np.generic | np.ndarray):
                raise TypeError(f"the CUDA kernel {kernel} takes device arrays and NumPy scalars "
                                f"of the type it declares, not {type(a).__name__} {a!r}")
        return wide

    def _compiled(self, file: str, name: str, dtype: Any, wide: bool) -> Any:
        """The kernel from a module in memory, from CuPy's cache on disk, or from NVRTC."""
        flags = options(dtype, wide)
        if self.be.capturing:
            raise RuntimeError(f"the CUDA kernel {file}.{name} ({' '.join(flags)}) is used for the "
                               f"first time while a step is recorded, when nothing can be "
                               f"compiled: run the step once before recording it")
        try:
            module = self._modules.get((file, flags))
            if module is None:
                module = self.be.cupy.RawModule(code=source(file), options=flags)
            function = module.get_function(name).kernel
        except Exception as e:
            raise RuntimeError(f"the CUDA kernel {file}.{name} could not be compiled for "
                               f"{self.be.name} with {' '.join(flags)} (GPUGRAD_KERNELS=0 does "
                               f"without kernels):\n{e}") from e
        self._modules[file, flags] = module
        return function


def _described(a: Any) -> str:
    if a.ndim or isinstance(a, np.ndarray):
        return f"{a.dtype} array {list(a.shape)}" if not a.dtype.names else str(a)
    return f"{a.dtype} {a}" if isinstance(a, np.generic) else f"{a.dtype} array []"
