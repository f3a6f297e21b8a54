"""Finds kernels/*.cu, compiles each once per dtype at its first use, and launches them."""
from __future__ import annotations

import functools
import math
import os
import re
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad.backend import kernel_files

# What a .cu file is compiled with for each dtype; common.cuh reads it.
FLAGS: dict[str, tuple[str, ...]] = {"float32": (), "float64": ("-DFLOAT64",),
                                     "float16": ("-DFLOAT16",), "bfloat16": ("-DBFLOAT16",)}
# By NumPy's dtype; NumPy has no bfloat16 of its own.
DEFINES: dict[Any, tuple[str, ...]] = {
    np.dtype(name): flags for name, flags in FLAGS.items() if name != "bfloat16"}

THREADS = 256                       # of a block, where a kernel loops over elements or short rows
ROW_THREADS = 512                   # at most of a block that shares a long row
BLOCK = (THREADS,)
MAX_BLOCKS = 1 << 16                # of its grid: with more elements the threads go round
# In longer arrays a 32-bit index could overflow with the loop's last step.
NARROW = (1 << 31) - 1 - THREADS * MAX_BLOCKS

# struct Windows of common.cuh: how windows lie on planes.
WINDOWS = np.dtype([(f, np.int32) for f in "h w oh ow kh kw sh sw ph pw dh dw".split()])

_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"\n', re.M)
_KERNEL = re.compile(r'^extern "C" __global__ void (?:__launch_bounds__\([\w, ]+\) )?(\w+)\(', re.M)
# Acc of common.cuh, what a kernel calculates in and takes numbers as, by the size of its dtype.
ACC = {8: np.float64, 4: np.float32, 2: np.float32}
# The common types of arguments that aren't in the device's memory.
BY_VALUE = frozenset([np.int64, np.int32, np.float32, np.float64, np.uint64, np.ndarray])


def enabled() -> bool:
    """False if GPUGRAD_KERNELS=0 asks for the portable text of every op."""
    return os.environ.get("GPUGRAD_KERNELS", "1") != "0"


@functools.cache
def source(file: str) -> str:
    """The text of ``<file>.cu`` with the project's own headers put in, so that it stands alone."""
    try:
        return _expanded(f"{file}.cu")
    except FileNotFoundError as error:
        raise RuntimeError(f"there is no CUDA kernel file {error.filename or error}") from None


def _expanded(name: str) -> str:
    """A file's text with its headers, and theirs, put in; errors still name file and line."""
    text = kernel_files.text(name)

    def put_in(m: re.Match[str]) -> str:
        line = text.count("\n", 0, m.end()) + 1
        return f'#line 1 "{m[1]}"\n{_expanded(m[1])}#line {line} "{name}"\n'

    return _INCLUDE.sub(put_in, text)


def sources() -> dict[str, str]:
    """The text of every .cu file, by its name without the ending."""
    return {name[:-3]: source(name[:-3]) for name in kernel_files.names() if name.endswith(".cu")}


def names(text: str) -> list[str]:
    """The kernels in a .cu file's text."""
    return _KERNEL.findall(text)


def options(dtype: Any, wide: bool = False) -> tuple[str, ...]:
    """The compiler's options for one dtype or its name; wide: with 64-bit indices."""
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    return "-std=c++17", *FLAGS[name], *(("-DWIDE",) if wide else ())


def acc(value: Any, dtype: Any) -> Any:
    """A number, or a tensor of one, as kernels for ``dtype`` take it: as double or else float."""
    kind = ACC[dtype.itemsize]
    try:
        return kind(value)
    except TypeError:
        return kind(value.item())


@functools.lru_cache(1024)
def row_block(length: int) -> tuple[int, int]:
    """(threads of a row, rows of a block): about four elements a thread; up to 128 take a warp."""
    x = 32
    while x < ROW_THREADS and x * 4 < length:
        x *= 2
    return x, THREADS // x if x == 32 else 1


@functools.lru_cache(4096)
def _of_rows(rows: int, length: int, most: int) -> tuple[Any, Any, Any]:
    """(grid of at most ``most``, block, the numbers as kernels take them) for ``Kernels.rows``."""
    x, y = row_block(length)
    return (min(-(-rows // y), most),), (x, y), (np.int64(rows), np.int64(length))


@functools.lru_cache(4096)
def _of_lines(shape: tuple[int, ...], dim: int, most: int) -> tuple[Any, Any, Any]:
    """(grid, block, the numbers as kernels take them) for ``Kernels.lines``."""
    length = shape[dim] if shape else 1
    outer, inner = math.prod(shape[:dim]), math.prod(shape[dim + 1:])
    if inner == 1:
        x, y = row_block(length)
        blocks = -(-outer // y)
    else:
        x, y = 32, 1
        while x * y < ROW_THREADS and y * 4 < length:
            y *= 2
        blocks = outer * -(-inner // 32)
    return (min(blocks, most),), (x, y), tuple(map(np.int64, (outer, length, inner)))


@functools.lru_cache(1024)
def windows(size: tuple[int, ...], count: tuple[int, ...], kernel: tuple[int, ...] = (1, 1),
            stride: tuple[int, ...] = (1, 1), padding: tuple[int, ...] = (0, 0),
            dilation: tuple[int, ...] = (1, 1)) -> Any:
    """For kernels, how ``count`` windows lie on planes of ``size``; all (rows, columns)."""
    return np.array((*size, *count, *kernel, *stride, *padding, *dilation), WINDOWS)


class Spans(dict[tuple[int, int], Any]):
    """``spans[n, at_once]``: for a loop over n elements (grid, n as kernels take it, n is huge?).
    """

    def __missing__(self, key: tuple[int, int]) -> Any:
        n, at_once = key
        if len(self) >= 4096:
            self.clear()
        found = self[key] = ((min(-(-n // (THREADS * at_once)), MAX_BLOCKS // at_once),),
                             np.int64(n), n > NARROW)
        return found


class Kernels:
    """The compiled kernels of one device. ``launch`` is the only way to run one."""

    def __init__(self, be: Any) -> None:
        self.be, self.on = be, enabled()
        self._ndarray = be.ndarray
        self._modules: dict[Any, Any] = {}
        self._functions: dict[Any, Any] = {}
        self.spans = Spans()

    def take(self, dtype: Any) -> bool:
        """Whether there are kernels for arrays of this dtype."""
        return self.on and (dtype in DEFINES or dtype in dtypes.HALF)

    def each(self, file: str, name: str, dtype: Any, n: int, arrays: Any, *rest: Any,
             at_once: int = 1) -> None:
        """Launch a kernel (arrays..., long long n, rest...) that loops over n elements.

        at_once: how many neighbours a thread takes at a time.
        """
        if n:
            grid, count, _ = self.spans[n, at_once]
            self.launch(file, name, grid, BLOCK, (*arrays, count, *rest), dtype)

    def rows(self, file: str, name: str, dtype: Any, rows: int, length: int, arrays: Any,
             *rest: Any) -> None:
        """Launch a kernel (arrays..., long long rows, long long length, rest...) that takes rows.

        reduce.cuh says which threads a row has; ``length``, the elements of one, tells how many.
        """
        grid, block, sizes = _of_rows(rows, length, MAX_BLOCKS)
        self.launch(file, name, grid, block, (*arrays, *sizes, *rest), dtype)

    def lines(self, file: str, name: str, dtype: Any, shape: Any, dim: int, arrays: Any,
              *rest: Any) -> None:
        """Launch a kernel for the lines along one dim of arrays of one shape.

        The kernel is (arrays..., long long outer, long long length, long long inner, rest...). It
        has rows if inner is 1, the columns of reduce.cuh otherwise.
        """
        if shape and not shape[dim]:
            return
        grid, block, sizes = _of_lines(tuple(shape), dim, MAX_BLOCKS)
        self.launch(file, name, grid, block, (*arrays, *sizes, *rest), dtype)

    def launch(self, file: str, name: str, grid: tuple[int, ...], block: tuple[int, ...],
               args: tuple[Any, ...], dtype: Any, wide: bool | None = None) -> None:
        """Run kernel ``name`` of ``<file>.cu``, compiled for ``dtype``, on CuPy's current stream.

        args: device arrays in C order, NumPy scalars of the very type that the kernel declares,
        structs as 0-dim NumPy arrays. Where a dimension of the grid is 0 there is nothing to do.
        wide: whether an array is huge, from a caller that has seen to all this; then it isn't
        looked at again.
        """
        if 0 in grid:
            return
        given, structs = args, False
        if wide is None:
            wide, ndarray = False, self._ndarray
            for a in args:                          # for what a kernel would misread in silence
                kind = type(a)
                if kind is ndarray or (kind not in BY_VALUE and isinstance(a, ndarray)):
                    if not a.flags.c_contiguous:
                        raise ValueError(f"the CUDA kernel {file}.{name} reads arrays in C order, "
                                         f"not one of shape {a.shape} with strides {a.strides}")
                    if a.size > NARROW:
                        wide = True
                elif kind is np.ndarray:
                    structs = True
                elif kind not in BY_VALUE and not isinstance(a, np.generic):
                    raise TypeError(f"the CUDA kernel {file}.{name} takes device arrays and NumPy "
                                    f"scalars of the type it declares, not {type(a).__name__} "
                                    f"{a!r}")
            if structs:     # CuPy would describe their fields to itself, at 8 us and more a launch
                given = tuple([a.view(_bytes[a.nbytes]) if type(a) is np.ndarray else a
                               for a in args])
        function = self._functions.get((file, name, dtype, wide))
        if function is None:
            function = self.prepare(file, name, dtype, wide)
        try:
            function(grid, block, given)
        except Exception as e:
            raise RuntimeError(
                f"the CUDA kernel {file}.{name} could not be launched on {self.be.name} with grid "
                f"{grid}, block {block} and ({', '.join(map(_described, args))}): {e}") from e

    def prepare(self, file: str, name: str, dtype: Any, wide: bool = False) -> Any:
        """Compile a kernel, and keep it for its launches."""
        function = self._functions[file, name, dtype, wide] = \
            self._compiled(file, name, dtype, wide)
        return function

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


class Bytes(dict[int, Any]):
    """The dtype of so many bytes, without fields."""

    def __missing__(self, nbytes: int) -> Any:
        found = self[nbytes] = np.dtype((np.void, nbytes))
        return found


_bytes = Bytes()


def _described(a: Any) -> str:
    if a.ndim or isinstance(a, np.ndarray):
        return f"{a.dtype} array {list(a.shape)}" if not a.dtype.names else str(a)
    return f"{a.dtype} {a}" if isinstance(a, np.generic) else f"{a.dtype} array []"
