"""cuBLAS for the simulated device: the same calls with raw integers, checked harder.

Matrices lie column by column, as in cuBLAS. Sums of half operands are made in float32; TF32 rounds
the operands to 10 bits of mantissa, so that a test can see the setting.
"""
from __future__ import annotations

import ctypes
import itertools
from typing import Any

import numpy as np

from gpugrad.backend.cublas import (
    COMPUTE_32F,
    COMPUTE_32F_FAST_TF32,
    COMPUTE_64F,
    DEFAULT_MATH,
    NO_REDUCED_REDUCTION,
    R_16BF,
    R_16F,
    R_32F,
    R_64F,
    N,
    T,
    check,
    described,
)
from gpugrad.cudasim.state import recording

_INVALID, _NOT_SUPPORTED, _NOT_INITIALIZED = 7, 15, 1
_HALF = (R_16F, R_16BF)
_handles = itertools.count(0x7A0000000000, 0x1000)
alive: set[int] = set()             # handles of all libraries


class StandIn:
    """What products have to know of CuPy's stand-in."""

    recording = staticmethod(recording)     # the graph that is captured, or None

    @staticmethod
    def queue(work: Any, arrays: Any) -> None:
        """Do what a product does to the arrays, or make it a node of the graph."""
        graph = recording()
        if graph is None:
            work()
        else:
            graph._add(work, arrays)

    @staticmethod
    def bounds(array: Any) -> tuple[int, int]:
        """The addresses between which the allocation of a device array lies."""
        root = array._block.root
        low = int(root.__array_interface__["data"][0])
        return low, low + int(root.nbytes)


home: Any = StandIn                 # or what driver/libraries.py knows of CuPy itself


class Fault(RuntimeError):
    """A product that a GPU would run all the same, with a wrong result or a crash."""


class Handle:
    """What cuBLAS remembers of a handle."""

    def __init__(self) -> None:
        self.stream, self.workspace, self.mode = 0, 0, DEFAULT_MATH


class Library:
    """As gpugrad.backend.cublas.Library. ``calls`` holds the names of the products made."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._made: dict[int, Handle] = {}
        self.calls: list[str] = []

    def workspace_bytes(self, capability: int) -> int:
        return 4096

    def create(self) -> int:
        if home.recording() is not None:
            raise Fault("cublasCreate while a stream is captured: cuBLAS would allocate memory")
        handle = next(_handles)
        self._made[handle] = Handle()
        alive.add(handle)
        return handle

    def destroy(self, handle: int) -> None:
        self._of(handle, "cublasDestroy(handle)")
        del self._made[handle]
        alive.discard(handle)

    def version(self, handle: int) -> int:
        self._of(handle, "cublasGetVersion")
        return 120900

    def set_stream(self, handle: int, stream: int) -> None:
        h = self._of(handle, "cublasSetStream(handle, stream)")
        h.stream, h.workspace = stream, 0           # it goes back to the library's own workspace

    def set_workspace(self, handle: int, address: int, nbytes: int) -> None:
        call = f"cublasSetWorkspace(handle, workspace, {nbytes})"
        h = self._of(handle, call)
        if nbytes and (not address or address % 256):
            check(_INVALID, call)
        h.workspace = address

    def set_math_mode(self, handle: int, mode: int) -> None:
        call = f"cublasSetMathMode(handle, {mode})"
        h = self._of(handle, call)
        if mode not in (DEFAULT_MATH, NO_REDUCED_REDUCTION):
            check(_INVALID, call)
        h.mode = mode

    def gemm(self, arrays: Any, *args: int) -> None:
        call = f"cublasGemmEx({described(args)})"
        (handle, transa, transb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type,
         ldc, compute, _algorithm) = args
        self._product(call, arrays, handle, transa, transb, m, n, k, alpha, beta,
                      Matrices(a, a_type, lda, 0), Matrices(b, b_type, ldb, 0),
                      Matrices(c, c_type, ldc, 0), 1, compute)

    def gemm_batched(self, arrays: Any, *args: int) -> None:
        call = f"cublasGemmStridedBatchedEx({described(args)})"
        (handle, transa, transb, m, n, k, alpha, a, a_type, lda, step_a, b, b_type, ldb, step_b,
         beta, c, c_type, ldc, step_c, count, compute, _algorithm) = args
        self._product(call, arrays, handle, transa, transb, m, n, k, alpha, beta,
                      Matrices(a, a_type, lda, step_a), Matrices(b, b_type, ldb, step_b),
                      Matrices(c, c_type, ldc, step_c), count, compute)

    def _of(self, handle: int, call: str) -> Handle:
        if handle not in self._made:
            check(_NOT_INITIALIZED, call)
        return self._made[handle]

    def _product(self, call: str, arrays: Any, handle: int, transa: int, transb: int, m: int,
                 n: int, k: int, alpha: int, beta: int, a: Matrices, b: Matrices, c: Matrices,
                 count: int, compute: int) -> None:
        h = self._of(handle, call)
        check(_fault(transa, transb, m, n, k, alpha, beta, a, b, c, count, compute), call)
        self._check_stream(h, call)
        if not (m and n and count):
            return
        double = compute == COMPUTE_64F
        wide = np.dtype(np.float64 if double else np.float32)
        scalar = ctypes.c_double if double else ctypes.c_float
        factors = [scalar.from_address(p).value for p in (alpha, beta)]     # read by the host, now
        views = [
            a.view((m, k) if transa == N else (k, m), count, arrays[0], call),
            b.view((k, n) if transb == N else (n, k), count, arrays[1], call),
            c.view((m, n), count, arrays[2], call),
        ]
        if c.overlap(m, n, count):
            raise Fault(f"{call}: the results of the batch overlap, {c.step} elements from one to "
                        f"the next")

        def run() -> None:
            left, right = (widened(v, wide, compute, trans)
                           for v, trans in ((views[0], transa), (views[1], transb)))
            product = np.matmul(left, right) * wide.type(factors[0])
            if factors[1]:
                product += views[2].astype(wide) * wide.type(factors[1])
            views[2][...] = product.astype(views[2].dtype)

        self.calls.append(call)
        home.queue(run, arrays)

    def _check_stream(self, h: Handle, call: str) -> None:
        current = int(self._cupy.cuda.get_current_stream().ptr)
        if h.stream != current:
            raise Fault(f"{call}: the handle is set to stream {h.stream:#x}, CuPy works on "
                        f"{current:#x}")
        if home.recording() is not None and not h.workspace:
            raise Fault(f"{call} while a stream is captured, without a workspace: cuBLAS would "
                        f"allocate one")


class Matrices:
    """An operand as cuBLAS is told it: address, type, leading dimension, step in the batch."""

    def __init__(self, address: int, type_: int, ld: int, step: int) -> None:
        self.address, self.type, self.ld, self.step = address, type_, ld, step

    def view(self, shape: tuple[int, int], count: int, array: Any, call: str) -> Any:
        """The memory as a NumPy array (count, *shape). Fault if it isn't the array's own."""
        rows, columns = shape
        dtype = _dtype(self.type)
        if array.dtype != dtype:
            raise Fault(f"{call}: an array of {array.dtype} is read as {dtype}")
        if 0 in shape:
            return np.zeros((count, *shape), dtype)
        size = dtype.itemsize
        ends = [0, self.step * (count - 1)]
        low = self.address + size * min(ends)
        high = self.address + size * (max(ends) + self.ld * (columns - 1) + rows)
        begin, end = home.bounds(array)
        if low < begin or high > end:
            raise Fault(f"{call}: reads or writes bytes {low - begin} to {high - begin} of an "
                        f"allocation of {end - begin} bytes")
        memory = (ctypes.c_ubyte * (high - low)).from_address(low)
        a = np.ndarray((count, rows, columns), dtype, memory, self.address - low,
                       (self.step * size, size, self.ld * size))
        return a

    def overlap(self, m: int, n: int, count: int) -> bool:
        """Whether two of the batch of m x n matrices have an element in common."""
        apart = abs(self.step) * np.arange(1, count, dtype=np.int64)
        whole, rest = np.divmod(apart, self.ld)         # columns are m long and ld apart
        return bool((((rest < m) & (whole < n))
                     | ((self.ld - rest < m) & (whole + 1 < n))).any())


def _dtype(code: int) -> Any:
    if code == R_16BF:
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype({R_32F: "f4", R_64F: "f8", R_16F: "f2"}[code])


def widened(x: Any, wide: Any, compute: int, trans: int) -> Any:
    """op(x) in the type of the sums."""
    x = x.astype(wide)
    if compute == COMPUTE_32F_FAST_TF32:
        bits = x.view(np.uint32)
        x = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return x if trans == N else x.swapaxes(1, 2)


def _fault(transa: int, transb: int, m: int, n: int, k: int, alpha: int, beta: int, a: Matrices,
           b: Matrices, c: Matrices, count: int, compute: int) -> int:
    """The status of a product with these arguments: 0 if cuBLAS takes them."""
    if transa not in (N, T) or transb not in (N, T) or min(m, n, k, count) < 0:
        return _INVALID
    if a.ld < max(1, m if transa == N else k) or b.ld < max(1, k if transb == N else n) \
            or c.ld < max(1, m):
        return _INVALID
    if not (alpha and beta) or (m and n and count and not (c.address and (
            not k or (a.address and b.address)))):
        return _INVALID
    half = a.type in _HALF
    known = {COMPUTE_64F: a.type == R_64F and c.type == R_64F,
             COMPUTE_32F: (a.type == R_32F and c.type == R_32F)
                          or (half and c.type in (a.type, R_32F)),
             COMPUTE_32F_FAST_TF32: a.type == R_32F and c.type == R_32F}
    return 0 if a.type == b.type and known.get(compute) else _NOT_SUPPORTED
