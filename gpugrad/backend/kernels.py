"""Finds kernels/*.cu, compiles each once per dtype at its first use, and launches them."""
from __future__ import annotations

import functools
import math
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from gpugrad import dtypes

if TYPE_CHECKING:                   # otherwise where it is used: it takes a tenth of a start
    from pathlib import Path

# What a .cu file is compiled with for each dtype; common.cuh reads it.
FLAGS: dict[str, tuple[str, ...]] = {"float32": (), "float64": ("-DFLOAT64",),
                                     "float16": ("-DFLOAT16",), "bfloat16": ("-DBFLOAT16",)}
# By NumPy's dtype; NumPy has no bfloat16 of its own.
DEFINES: dict[Any, tuple[str, ...]] = {
    np.dtype(name): flags for name, flags in FLAGS.items() if name != "bfloat16"}

THREADS = 256                       # of a block, where a kernel loops over elements or short rows
ROW_THREADS = 512                   # at most of a block that shares a long row
MAX_BLOCKS = 1 << 16                # of its grid: with more elements the threads go round
# In longer arrays a 32-bit index could overflow with the loop's last step.
NARROW = (1 << 31) - 1 - THREADS * MAX_BLOCKS

# struct Windows of common.cuh: how windows lie on planes.
WINDOWS = np.dtype([(f, np.int32) for f in "h w oh ow kh kw sh sw ph pw dh dw".split()])

_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"\n', re.M)
_KERNEL = re.compile(r'^extern "C" __global__ void (?:__launch_bounds__\([\w, ]+\) )?(\w+)\(', re.M)
# Acc of common.cuh, what a kernel calculates in and takes numbers as, by the size of its dtype.
_ACC = {8: np.float64, 4: np.float32, 2: np.float32}


def enabled() -> bool:
    """False if GPUGRAD_KERNELS=0 asks for the portable text of every op."""
    return os.environ.get("GPUGRAD_KERNELS", "1") != "0"


def folder() -> Path:
    """Where the .cu files are: in the installed package, or beside it in a checkout."""
    from pathlib import Path

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
    return _expanded(path)


def _expanded(path: Path) -> str:
    """A file's text with its headers, and theirs, put in; errors still name file and line."""
    text = path.read_text(encoding="utf-8")

    def put_in(m: re.Match[str]) -> str:
        line = text.count("\n", 0, m.end()) + 1
        return f'#line 1 "{m[1]}"\n{_expanded(path.parent / m[1])}#line {line} "{path.name}"\n'

    return _INCLUDE.sub(put_in, text)


def sources() -> dict[str, str]:
    """The text of every .cu file, by its name without the ending."""
    return {path.stem: source(path.stem) for path in sorted(folder().glob("*.cu"))}


def names(text: str) -> list[str]:
    """The kernels in a .cu file's text."""
    return _KERNEL.findall(text)


def options(dtype: Any, wide: bool = False) -> tuple[str, ...]:
    """The compiler's options for one dtype or its name; wide: with 64-bit indices."""
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    return "-std=c++17", *FLAGS[name], *(("-DWIDE",) if wide else ())


def acc(value: float, dtype: Any) -> Any:
    """A number as kernels for ``dtype`` take it: double for double, else float."""
    return _ACC[dtype.itemsize](value)


@functools.lru_cache(1024)
def row_block(length: int) -> tuple[int, int]:
    """(threads of a row, rows of a block): about four elements a thread; up to 128 take a warp."""
    x = 32
    while x < ROW_THREADS and x * 4 < length:
        x *= 2
    return x, THREADS // x if x == 32 else 1


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
        return self.on and (dtype in DEFINES or dtype in dtypes.HALF)

    def each(self, file: str, name: str, dtype: Any, n: int, arrays: Any, *rest: Any,
             at_once: int = 1) -> None:
        """Launch a kernel (arrays..., long long n, rest...) that loops over n elements.

        at_once: how many neighbours a thread takes at a time.
        """
        grid = min(-(-n // (THREADS * at_once)), MAX_BLOCKS // at_once)
        self.launch(file, name, (grid,), (THREADS,), (*arrays, np.int64(n), *rest), dtype)

    def rows(self, file: str, name: str, dtype: Any, rows: int, length: int, arrays: Any,
             *rest: Any) -> None:
        """Launch a kernel (arrays..., long long rows, long long length, rest...) that takes rows.

        reduce.cuh says which threads a row has; ``length``, the elements of one, tells how many.
        """
        x, y = row_block(length)
        self.launch(file, name, (min(-(-rows // y), MAX_BLOCKS),), (x, y),
                    (*arrays, np.int64(rows), np.int64(length), *rest), dtype)

    def lines(self, file: str, name: str, dtype: Any, shape: Any, dim: int, arrays: Any,
              *rest: Any) -> None:
        """Launch a kernel for the lines along one dim of arrays of one shape.

        The kernel is (arrays..., long long outer, long long length, long long inner, rest...). It
        has rows if inner is 1, the columns of reduce.cuh otherwise.
        """
        length = shape[dim] if shape else 1
        if not length:
            return
        outer, inner = math.prod(shape[:dim]), math.prod(shape[dim + 1:])
        if inner == 1:
            x, y = row_block(length)
            blocks = -(-outer // y)
        else:
            x, y = 32, 1
            while x * y < ROW_THREADS and y * 4 < length:
                y *= 2
            blocks = outer * -(-inner // 32)
        self.launch(file, name, (min(blocks, MAX_BLOCKS),), (x, y),
                    (*arrays, *map(np.int64, (outer, length, inner)), *rest), dtype)

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
            function = self.prepare(file, name, dtype, wide)
        try:
            function(grid, block, args)
        except Exception as e:
            raise RuntimeError(
                f"the CUDA kernel {file}.{name} could not be launched on {self.be.name} with grid "
                f"{grid}, block {block} and ({', '.join(map(_described, args))}): {e}") from e

    def prepare(self, file: str, name: str, dtype: Any, wide: bool = False) -> Any:
        """Compile a kernel, and keep it for its launches."""
        function = self._functions[file, name, dtype, wide] = \
            self._compiled(file, name, dtype, wide)
        return function

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
