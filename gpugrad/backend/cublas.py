"""Products by cuBLAS: transposed and batched operands in place, also while a graph is captured.

CuPy's own products refuse to be captured, and they copy transposed and convert half operands of
batches. So the library that CuPy has loaded is called directly, with handles of our own.

cuBLAS reads matrices column by column. A matrix in C order is there its own transpose, so that for
out = a @ b it is asked for out.T = b.T @ a.T.
"""
from __future__ import annotations

import ctypes
import itertools
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpugrad.backend.bindings import Int, quickest
from gpugrad.backend.precision import matmul as settings

N, T = 0, 1                                    # cublasOperation_t
R_32F, R_64F, R_16F, R_16BF = 0, 1, 2, 14      # cudaDataType
COMPUTE_32F, COMPUTE_64F, COMPUTE_32F_FAST_TF32 = 68, 70, 77      # cublasComputeType_t
DEFAULT_MATH, NO_REDUCED_REDUCTION = 0, 16     # cublasMath_t
DEFAULT_ALGO = -1                              # cublasGemmAlgo_t

STATUS = {1: "NOT_INITIALIZED", 3: "ALLOC_FAILED", 7: "INVALID_VALUE", 8: "ARCH_MISMATCH",
          11: "MAPPING_ERROR", 13: "EXECUTION_FAILED", 14: "INTERNAL_ERROR", 15: "NOT_SUPPORTED",
          16: "LICENSE_ERROR"}

_INT_MAX = (1 << 31) - 1
_MAX_LOOPS = 8         # a batch that isn't evenly spaced takes so many calls rather than a copy

F32, F64, F16 = (np.dtype(d) for d in ("f4", "f8", "f2"))
_TYPES = {F32: R_32F, F64: R_64F, F16: R_16F}


def type_code(dtype: Any) -> int | None:
    """cuBLAS's number of a dtype that it multiplies, else None."""
    code = _TYPES.get(dtype)
    if code is None and dtype.name == "bfloat16":
        code = _TYPES[dtype] = R_16BF
    return code


# The library -------------------------------------------------------------------------------------

class Library:
    """The functions that are needed of cuBLAS. They take and return integers: handles, addresses.

    Each raises RuntimeError if cuBLAS reports a fault. The simulated device has another class with
    these methods. A product is also told the arrays in which its addresses lie: only the simulated
    device, which checks them, looks at those.
    """

    def workspace_bytes(self, capability: int) -> int:
        """How much memory a product may use beside its operands, as PyTorch gives it.

        capability: 90 for 9.0. NVIDIA recommends 32 MiB for Hopper; the rest has 8 MiB and 128 KiB.
        """
        return 32 << 20 if capability == 90 else (8 << 20) + (128 << 10)

    def __init__(self, lib: Any) -> None:
        self._lib = lib
        p, i, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong
        operands = [p, Int, Int, Int, Int, Int, p]
        a = b = [p, Int, Int]
        for name, types in {
            "cublasCreate_v2": [ctypes.POINTER(p)], "cublasDestroy_v2": [p],
            "cublasSetStream_v2": [p, p], "cublasSetWorkspace_v2": [p, p, ctypes.c_size_t],
            "cublasSetMathMode": [p, i], "cublasGetVersion_v2": [p, ctypes.POINTER(i)],
            "cublasGemmEx": [*operands, *a, *b, p, p, Int, Int, Int, Int],
            "cublasGemmStridedBatchedEx": [*operands, *a, size, *b, size, p, p, Int, Int, size,
                                           Int, Int, Int],
        }.items():
            function = getattr(lib, name)
            function.argtypes, function.restype = types, i
        self._gemm, self._errors = quickest("cublas", "cublasGemmEx", lib.cublasGemmEx, "gemm_ex")
        self._batched, _ = quickest("cublas", "cublasGemmStridedBatchedEx",
                                    lib.cublasGemmStridedBatchedEx, "gemm_strided_batched_ex")

    def create(self) -> int:
        """A handle for the current device."""
        handle = ctypes.c_void_p()
        check(self._lib.cublasCreate_v2(ctypes.byref(handle)), "cublasCreate(handle)")
        return int(handle.value or 0)

    def destroy(self, handle: int) -> None:
        check(self._lib.cublasDestroy_v2(handle), "cublasDestroy(handle)")

    def version(self, handle: int) -> int:
        """Such as 120900 for 12.9.0."""
        out = ctypes.c_int()
        check(self._lib.cublasGetVersion_v2(handle, ctypes.byref(out)), "cublasGetVersion")
        return out.value

    def set_stream(self, handle: int, stream: int) -> None:
        """Later calls go to a stream of CUDA; the workspace is the library's own again."""
        check(self._lib.cublasSetStream_v2(handle, stream), "cublasSetStream(handle, stream)")

    def set_workspace(self, handle: int, address: int, nbytes: int) -> None:
        check(self._lib.cublasSetWorkspace_v2(handle, address, nbytes),
              f"cublasSetWorkspace(handle, workspace, {nbytes})")

    def set_math_mode(self, handle: int, mode: int) -> None:
        check(self._lib.cublasSetMathMode(handle, mode), f"cublasSetMathMode(handle, {mode})")

    def gemm(self, arrays: Any, *args: int) -> None:
        """handle, transa, transb, m, n, k, alpha, A, Atype, lda, B, Btype, ldb, beta, C, Ctype,
        ldc, compute type, algorithm; alpha and beta are addresses in the host's memory.
        """
        try:
            status = self._gemm(*args)
        except self._errors as e:
            status = int(e.status)
        if status:
            check(status, f"cublasGemmEx({described(args)})")

    def gemm_batched(self, arrays: Any, *args: int) -> None:
        """As gemm, with the step from one matrix to the next, in elements, after each leading
        dimension, and the number of products after C's.
        """
        try:
            status = self._batched(*args)
        except self._errors as e:
            status = int(e.status)
        if status:
            check(status, f"cublasGemmStridedBatchedEx({described(args)})")


def described(args: tuple[int, ...]) -> str:
    """The arguments of a product without its addresses."""
    trans = "".join("NT"[t] if t in (N, T) else "?" for t in args[1:3])
    return f"{trans}, m={args[3]}, n={args[4]}, k={args[5]}, ..."


def check(status: int, call: str) -> None:
    """RuntimeError, worded as PyTorch's, unless the status is 0."""
    if status:
        name = STATUS.get(status, str(status))
        raise RuntimeError(f"CUDA error: CUBLAS_STATUS_{name} when calling `{call}`")


def load(cupy: Any) -> Any:
    """The library that CuPy has loaded; None if it can't be found."""
    try:
        cupy.cuda.cublas                # noqa: B018  CuPy loads it when the name is first used
    except (ImportError, AttributeError):
        return None
    return loaded("cublas", Library)


def loaded(name: str, library: Any) -> Any:
    """library(...) of a library of CUDA's that is loaded already, so that no other version comes in
    beside it; None if there is none.
    """
    majors = range(14, 10, -1)
    if sys.platform == "win32":
        names, mode = [f"{name}64_{m}.dll" for m in majors], ctypes.DEFAULT_MODE
    else:
        names, mode = [f"lib{name}.so.{m}" for m in majors], os.RTLD_NOLOAD | os.RTLD_NOW
    for file in names:
        try:
            return library(ctypes.CDLL(file, mode))
        except (OSError, AttributeError):
            continue
    return None


# Products ----------------------------------------------------------------------------------------

class Scalars(dict[tuple[bool, float], int]):
    """The addresses of alpha and beta as cuBLAS reads them: (in float64?, value) -> address."""

    def __init__(self) -> None:
        self._kept: list[Any] = []
        self._passing: deque[Any] = deque(maxlen=256)   # numbers that change from step to step

    def __missing__(self, key: tuple[bool, float]) -> int:
        double, value = key
        number = (ctypes.c_double if double else ctypes.c_float)(value)
        if len(self) >= 1024:
            self._passing.append(number)
            return ctypes.addressof(number)
        self._kept.append(number)
        self[key] = ctypes.addressof(number)
        return self[key]


class Plan:
    """How cuBLAS is asked for the product of operands of some shapes, strides and dtypes."""

    __slots__ = ("c_code", "code", "count", "double", "dtype", "lda", "ldb", "ldc", "offsets",
                 "shape", "steps", "trans")

    def __init__(self, a: Any, b: Any, out: Any, layouts: Any, code: int, dims: Any) -> None:
        """layouts: (transposed?, leading dimension) of a, of b and of out; dims: batch_dims()."""
        (ta, self.lda), (tb, self.ldb), (_, self.ldc) = layouts
        m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
        self.shape, self.dtype = out.shape, out.dtype
        self.code, self.c_code, self.double = code, _TYPES[out.dtype], code == R_64F
        if len(dims) == 1 and not ta:
            size, (step_a, step_b, step_c) = dims[0]
            if step_b == 0 and step_a == m * self.lda and step_c == m * self.ldc \
                    and m * size <= _INT_MAX:
                m, dims = m * size, []          # one right operand: the left ones are one long one
        self.trans = tb, ta, n, m, k
        self.count, self.steps = 0, (0, 0, 0)
        self.offsets: list[tuple[int, ...]] = []
        if dims:
            dims = sorted(dims, key=lambda dim: dim[0])
            self.count, self.steps = dims.pop()
            sizes = a.itemsize, b.itemsize, out.itemsize
            self.offsets = [tuple([at * size for at, size in zip(each, sizes)])
                            for each in offsets(dims)]


loading = threading.RLock()


class Gemm:
    """Matrix products on one device. A thread has a handle of its own, as cuBLAS demands."""

    def __init__(self, be: Any, load: Callable[[Any], Any]) -> None:
        self.be, self._load = be, load
        self._library: Any = None
        self._looked = False
        self._capability = 0
        self._local = threading.local()
        self._scalars = Scalars()
        self.one_and_zero = self._scalars[False, 1.0], self._scalars[False, 0.0]
        self._plans: dict[Any, Plan] = {}

    @property
    def library(self) -> Any:
        """cuBLAS, looked for at the first product; None if it can't be found."""
        if not self._looked:
            with loading:                       # of two threads one waits for what the other finds
                if not self._looked:
                    self._library, self._looked = self._load(self.be.cupy), True
        return self._library

    def __call__(self, a: Any, b: Any, out: Any = None, dtype: Any = None, alpha: float = 1.0,
                 beta: float = 0.0) -> Any:
        """alpha * (a @ b) + beta * out, with batch dims broadcast; NotImplemented if cuBLAS can't.

        dtype: of a new result, by default that of the operands; float32 is possible for half ones.
        Sums of half operands are made in float32. out must not overlap a or b.
        """
        key = None
        if out is None and not beta:
            key = a.shape, a.strides, b.shape, b.strides, a.dtype, b.dtype, dtype
            plan = self._plans.get(key)
            if plan is not None and self._library is not None:
                out = self.be.empty(plan.shape, plan.dtype)
                self._run(plan, a, b, out, alpha, 0.0)
                return out
        dtype_in = a.dtype
        code: Any = type_code(dtype_in)
        if b.dtype != dtype_in or a.ndim < 2 or b.ndim < 2 or not self.takes(dtype_in):
            return NotImplemented
        dtype_out = np.dtype(dtype or dtype_in) if out is None else out.dtype
        if dtype_out != dtype_in and (dtype_out != F32 or code == R_64F):
            return NotImplemented
        shape = product_shape(a.shape, b.shape)
        if max(*shape[-2:], a.shape[-1]) > _INT_MAX:
            return NotImplemented
        if out is None:
            if beta:
                raise ValueError("beta adds to a result that is there: give out")
            out = self.be.empty(shape, dtype_out)
        elif tuple(out.shape) != shape:
            raise ValueError(f"the product of shapes {list(a.shape)} and {list(b.shape)} has the "
                             f"shape {list(shape)}, and out {list(out.shape)}")
        if out.size == 0:
            return out
        if a.shape[-1] == 0:
            scale(out, beta)
            return out
        where = layout(out)
        if where is None:
            product = self(a, b, None, dtype_out, alpha)
            scale(out, beta)
            out += product
        elif where[0]:
            a, b = b.swapaxes(-1, -2), a.swapaxes(-1, -2)
            self._planned(a, b, out.swapaxes(-1, -2), where[1], code, alpha, beta, None)
        else:
            self._planned(a, b, out, where[1], code, alpha, beta, key)
        return out

    def _planned(self, a: Any, b: Any, out: Any, ldc: int, code: int, alpha: float, beta: float,
                 key: Any) -> None:
        """The product into out, whose rows lie ldc elements apart. Without copies the way how is
        kept by its key.
        """
        left, at_a = self._readable(a)
        right, at_b = self._readable(b)
        dims: list[Any] = []
        if out.ndim > 2:
            dims = batch_dims(left, right, out)
            if len(dims) > 1 and calls(dims) > _MAX_LOOPS:
                left, at_a = self._evenly(left, out, at_a)
                right, at_b = self._evenly(right, out, at_b)
                dims = batch_dims(left, right, out)
        plan = Plan(left, right, out, (at_a, at_b, (N, ldc)), code, dims)
        if key is not None and left is a and right is b:
            if len(self._plans) >= 4096:
                self._plans.clear()
            self._plans[key] = plan
        self._run(plan, left, right, out, alpha, beta)

    def _run(self, plan: Plan, a: Any, b: Any, out: Any, alpha: float, beta: float) -> None:
        library, code, double = self._library, plan.code, plan.double
        compute = COMPUTE_64F if double else COMPUTE_32F
        if code == R_32F and settings.tf32 and self.capability() >= 80:
            compute = COMPUTE_32F_FAST_TF32
        handle = self.handle(code)
        scalars = self._scalars
        alpha_at, beta_at = scalars[double, alpha], scalars[double, beta]
        if not plan.count:
            library.gemm((b, a, out), handle, *plan.trans, alpha_at, b.data.ptr, code, plan.ldb,
                         a.data.ptr, code, plan.lda, beta_at, out.data.ptr, plan.c_code, plan.ldc,
                         compute, DEFAULT_ALGO)
            return
        a_at, b_at, c_at = (int(x.data.ptr) for x in (a, b, out))
        step_a, step_b, step_c = plan.steps
        for off_a, off_b, off_c in plan.offsets:
            library.gemm_batched(
                (b, a, out), handle, *plan.trans, alpha_at, b_at + off_b, code, plan.ldb, step_b,
                a_at + off_a, code, plan.lda, step_a, beta_at, c_at + off_c, plan.c_code, plan.ldc,
                step_c, plan.count, compute, DEFAULT_ALGO)

    def takes(self, dtype: Any) -> bool:
        """Whether cuBLAS is there and multiplies this dtype here."""
        code = type_code(dtype)
        return self.library is not None and code is not None and (
            code != R_16BF or self.capability() >= 80)

    def capability(self) -> int:
        """The compute capability: 80 for 8.0, from where on there are TF32 and bfloat16."""
        if not self._capability:
            self._capability = int(self.be.cupy.cuda.Device(self.be.id).compute_capability)
        return self._capability

    def _readable(self, x: Any) -> tuple[Any, tuple[int, int]]:
        """x, copied if cuBLAS can't read it as it lies, and (transposed?, leading dimension)."""
        where = layout(x)
        if where is None:
            return self.be.xp.ascontiguousarray(x), (N, max(1, x.shape[-1]))
        return x, where

    def _evenly(self, x: Any, out: Any, where: tuple[int, int]) -> tuple[Any, tuple[int, int]]:
        """(x, where it lies) with one step from each matrix to the next: copied unless it is so."""
        if len(merged(out.shape[:-2], batch_steps(x, out))) <= 1:
            return x, where
        xp = self.be.xp
        x = xp.ascontiguousarray(xp.broadcast_to(x, (*out.shape[:-2], *x.shape[-2:])))
        return x, (N, x.shape[-1])

    # Handles -------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make this thread's handle: nothing can be created during a capture."""
        if self.library is not None:
            self.handle(R_32F)

    def handle(self, code: int) -> int:
        """This thread's handle, set to the current stream and to the settings."""
        library, own = self._library, self._local.__dict__
        handle = own.get("handle")
        if handle is None:
            if self.be.capturing:
                raise RuntimeError("the first matrix product of this thread comes while a graph is "
                                   "captured, when cuBLAS can't be started: run the step once "
                                   "before the capture")
            handle = own["handle"] = library.create()
            own.update(owner=Owner(library, handle), stream=None, mode=DEFAULT_MATH, spaces={})
        stream = int(self.be.cupy.cuda.get_current_stream(self.be.id).ptr)
        if stream != own["stream"]:
            library.set_stream(handle, stream)
            self._give_workspace(library, handle, stream, own)
            own["stream"] = stream
        mode = DEFAULT_MATH if code < R_16F or \
            (settings.half_reduction if code == R_16F else settings.bfloat16_reduction) \
            else NO_REDUCED_REDUCTION
        if mode != own["mode"]:
            library.set_math_mode(handle, mode)
            own["mode"] = mode
        return int(handle)

    def _give_workspace(self, library: Any, handle: int, stream: int, own: Any) -> None:
        """Memory for partial sums, kept per stream: cuBLAS's own would be allocated in the capture.
        """
        nbytes = library.workspace_bytes(self.capability())
        space = own["spaces"].get(stream)
        if space is None:
            space = own["spaces"][stream] = self.be.cupy.cuda.alloc(nbytes)
        own["space"] = int(space.ptr), nbytes, stream
        library.set_workspace(handle, int(space.ptr), nbytes)

    def workspace(self) -> Any:
        """(address, bytes, stream) of the workspace that handle() has set."""
        return self._local.__dict__["space"]

    def fresh_workspaces(self) -> Any:
        """Use new workspaces in this thread from here on; returns the ones until now.

        A graph's products must not share theirs with what runs beside its replays.
        """
        own = self._local.__dict__
        before = own.get("spaces")
        own.update(stream=None, spaces={})
        return before

    def restore_workspaces(self, before: Any) -> Any:
        """Use again what fresh_workspaces() returned; returns the ones until now, which the graph
        has to keep.
        """
        own = self._local.__dict__
        used = own["spaces"]
        own.update(stream=None, spaces=before or {})
        return used


class Owner:
    """Destroys a thread's handle with the thread."""

    def __init__(self, library: Any, handle: int) -> None:
        self.library, self.handle = library, handle

    def __del__(self) -> None:
        if not sys.is_finalizing():         # the driver may be gone by then
            self.library.destroy(self.handle)


# Shapes and strides ------------------------------------------------------------------------------

def product_shape(a: Any, b: Any) -> tuple[int, ...]:
    """The shape of a @ b, with batch dims broadcast. ValueError if they don't fit."""
    if a[-1] != b[-2]:
        raise ValueError(f"shapes {list(a)} and {list(b)} can't be multiplied: {a[-1]} columns and "
                         f"{b[-2]} rows")
    if len(a) == len(b) == 2:
        return a[0], b[1]
    return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])


def layout(x: Any) -> tuple[int, int] | None:
    """(N if the matrices lie row by row, T if column by column; the leading dimension), or None.

    The leading dimension is how many elements lie from one row, or column, to the next. None: there
    is no such number, and x has to be copied.
    """
    rows, columns = x.shape[-2:]
    if rows == 0 or columns == 0:
        return N, max(1, columns)
    itemsize = x.itemsize
    row, column = (s // itemsize for s in x.strides[-2:])
    if column == 1 or columns == 1:
        if rows == 1:
            return N, columns
        if columns <= row <= _INT_MAX:
            return N, row
    if row == 1 or rows == 1:
        if columns == 1:
            return T, rows
        if rows <= column <= _INT_MAX:
            return T, column
    return None


def batch_steps(x: Any, out: Any) -> list[int]:
    """How many elements lie from one matrix to the next, for each batch dim of the result."""
    missing = out.ndim - x.ndim
    return [0] * missing + [s // x.itemsize if n > 1 else 0
                            for n, s in zip(x.shape[:-2], x.strides)]


def merged(sizes: Any, *steps: list[int]) -> list[tuple[int, tuple[int, ...]]]:
    """(size, a step for each array) for as few batch dims as there can be."""
    dims: list[tuple[int, tuple[int, ...]]] = []
    for size, inner in zip(sizes, zip(*steps)):
        if size == 1:
            continue
        if dims and all(o == size * i for o, i in zip(dims[-1][1], inner)):
            dims[-1] = dims[-1][0] * size, inner
        else:
            dims.append((size, inner))
    return dims


def batch_dims(a: Any, b: Any, out: Any) -> list[tuple[int, tuple[int, ...]]]:
    """(size, (step of a, of b, of out)) for the batch dims, as few as there can be."""
    return merged(out.shape[:-2], batch_steps(a, out), batch_steps(b, out), batch_steps(out, out))


def calls(dims: list[tuple[int, tuple[int, ...]]]) -> int:
    """How many calls it takes if the largest dim is the batch of each."""
    return math.prod(size for size, _ in dims) // max(size for size, _ in dims)


def offsets(dims: list[tuple[int, tuple[int, ...]]]) -> Iterator[tuple[int, ...]]:
    """Where each of the batches begins, in elements, for a, b and out."""
    for index in itertools.product(*(range(size) for size, _ in dims)):
        yield tuple(sum(i * steps[which] for i, (_, steps) in zip(index, dims))
                    for which in range(3))


def scale(out: Any, beta: float) -> None:
    """out times beta, in place; with beta 0 a NaN is gone, too."""
    if beta == 0:
        out[...] = 0
    elif beta != 1:
        out *= float(beta)
