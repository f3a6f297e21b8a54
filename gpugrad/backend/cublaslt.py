"""Products with a bias and an activation in one call, by cuBLASLt.

cuBLAS loads cuBLASLt anyway, so the library is called directly, with the handles and workspaces of
backend/cublas.py, which cuBLASLt takes. As there, matrices lie column by column: for out = a @ b
the library is asked for out.T = b.T @ a.T.

Its ReLU is said to make 0 of a NaN, and its GELU is the approximation by tanh: the first isn't used
at all, the second only for that one. Its slope of GELU isn't used either: it would go to the next
layer's product, and have other bits than the kernel of the activation's own gradient.

Which algorithm is the best, the library says for each shape once (heuristics), outside of captures.
What stands here has to hold on devices and versions that nobody has tried. So before an epilogue is
used for a dtype for the first time, it has to solve a small random problem. If it can't, there is
one warning, and from then on the callers go the portable way: a product, then a kernel. Sums beside
a product are not there for every dtype in every version, of which nothing is said.
"""
from __future__ import annotations

import ctypes
import sys
import threading
import warnings
from typing import Any

import numpy as np

from gpugrad.backend.bindings import quickest
from gpugrad.backend.cublas import (
    COMPUTE_32F,
    COMPUTE_32F_FAST_TF32,
    R_16BF,
    R_16F,
    R_32F,
    R_64F,
    STATUS,
    N,
    layout,
    loaded,
    loading,
    type_code,
)
from gpugrad.backend.precision import matmul as settings

# cublasLtMatmulDescAttributes_t, with the bytes of the values.
TRANSA, TRANSB, EPILOGUE = (3, 4), (4, 4), (7, 4)
BIAS_POINTER, AUX_POINTER, AUX_LD = (8, 8), (11, 8), (12, 8)
# cublasLtMatmulPreferenceAttributes_t
WORKSPACE_BYTES, ALIGNMENTS = (1, 8), ((5, 4), (6, 4), (7, 4), (8, 4))
REDUCTIONS, IN_FLOAT32 = (3, 4), 2      # how partial sums may be summed: not in 16 bits

# cublasLtEpilogue_t: what is done with the product before it is written. For out = a @ b:
EPILOGUES = {"BIAS": 4,                 # a bias is added to each row
             "GELU_AUX_BIAS": 32 | 128 | 4,     # out is gelu's approximation of that, also written
             "BGRADA": 256,             # beside out the sums of b's columns are written
             "BGRADB": 512}             # ... the sums of a's rows
# The last two sum what the library calls A and B over the product's inner dim, k. A is b.T, n by k:
# a sum for each row of the library's D, which is out.T. B is a.T, k by m: one for each column of D.
# A linear layer's weight gets the gradient g.T @ x, and its bias the sums of g's columns, which are
# rows of the left factor: BGRADB. A weight that lies the other way gets x.T @ g: BGRADA.
SUMS = "BGRADA", "BGRADB"

CUBIC, ROOT = 0.044715, (2 / np.pi) ** 0.5      # of gelu's approximation

ALIGNED = 16                # all addresses are multiples of it; else there is no fast algorithm
# cublasLtMatmulHeuristicResult_t
RESULT = np.dtype([("algo", np.uint64, 8), ("workspace", np.uint64), ("state", np.int32),
                   ("waves", np.float32), ("reserved", np.int32, 4)])
_CODES: dict[Any, int] = {}


class Library:
    """The functions that are needed of cuBLASLt, by integers: handles, addresses.

    The simulated device has another class with these methods. They return the library's status,
    or what they have made, and raise RuntimeError where that can't be made.
    """

    def __init__(self, lib: Any) -> None:
        self._lib = lib
        p, i, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
        made = ctypes.POINTER(p)
        for name, types in {
            "MatmulDescCreate": [made, i, i], "MatmulDescSetAttribute": [p, i, p, size],
            "MatmulDescDestroy": [p], "MatmulPreferenceCreate": [made],
            "MatmulPreferenceSetAttribute": [p, i, p, size], "MatmulPreferenceDestroy": [p],
            "MatrixLayoutCreate": [made, i, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64],
            "MatrixLayoutDestroy": [p],
            "MatmulAlgoGetHeuristic": [p, p, p, p, p, p, p, i, p, ctypes.POINTER(i)],
            "Matmul": [p, p, p, p, p, p, p, p, p, p, p, p, p, p, size, p],
        }.items():
            function = getattr(lib, "cublasLt" + name)
            function.argtypes, function.restype = types, i
        self._set = lib.cublasLtMatmulDescSetAttribute
        self._matmul, self._errors = quickest("cublasLt", "cublasLtMatmul", lib.cublasLtMatmul,
                                              "matmul")

    def _made(self, name: str, *args: int) -> int:
        made = ctypes.c_void_p()
        status = getattr(self._lib, "cublasLt" + name)(ctypes.byref(made), *args)
        if status:
            raise RuntimeError(f"cublasLt{name}: {STATUS.get(status, status)}")
        return int(made.value or 0)

    def descriptor(self, compute: int, scale: int) -> int:
        """A product's descriptor: the types of sums, and of alpha and beta."""
        return self._made("MatmulDescCreate", compute, scale)

    def layout(self, type_: int, rows: int, columns: int, ld: int) -> int:
        """A matrix that lies column by column, ld elements from one to the next."""
        return self._made("MatrixLayoutCreate", type_, rows, columns, ld)

    def preference(self) -> int:
        """What algorithms may need."""
        return self._made("MatmulPreferenceCreate")

    def describe(self, descriptor: int, attribute: tuple[int, int], value: int) -> int:
        """Set an attribute of a descriptor."""
        at = ctypes.c_uint64(value)     # little-endian: its first bytes are a shorter number
        return int(self._set(descriptor, attribute[0], ctypes.addressof(at), attribute[1]))

    def prefer(self, preference: int, attribute: tuple[int, int], value: int) -> int:
        """Set an attribute of a preference."""
        at = ctypes.c_uint64(value)
        return int(self._lib.cublasLtMatmulPreferenceSetAttribute(
            preference, attribute[0], ctypes.addressof(at), attribute[1]))

    def destroy(self, kind: str, made: int) -> None:
        """kind: MatmulDesc, MatrixLayout or MatmulPreference."""
        getattr(self._lib, f"cublasLt{kind}Destroy")(made)

    def algorithm(self, handle: int, descriptor: int, a: int, b: int, c: int,
                  preference: int) -> Any:
        """A RESULT with the algorithm that is thought to be the fastest, or None."""
        found, count = np.zeros((), RESULT), ctypes.c_int()
        status = self._lib.cublasLtMatmulAlgoGetHeuristic(
            handle, descriptor, a, b, c, c, preference, 1, found.ctypes.data, ctypes.byref(count))
        return found if status == 0 and count.value and found["state"] == 0 else None

    def matmul(self, arrays: Any, *args: int) -> int:
        """handle, descriptor, alpha, A, A's layout, B, B's layout, beta, C, C's layout, D, D's
        layout, algorithm, workspace, its bytes, stream; arrays: those of A, B, D, and, where the
        descriptor has their addresses, the bias and the second matrix.
        """
        try:
            return int(self._matmul(*args) or 0)
        except self._errors as e:
            return int(e.status)


def load(cupy: Any) -> Any:
    """The library that cuBLAS has loaded; None if it can't be found."""
    return loaded("cublasLt", Library)


class Plan:
    """What the library needs for products of one kind: descriptors, which it owns, an algorithm."""

    def __init__(self, library: Any, epilogue: str, code: int, compute: int, left: Any, right: Any,
                 shape: tuple[int, int], k: int) -> None:
        """left, right: (transposed?, leading dimension) as a and b of a @ b = out have them."""
        self.library, self.shape, self.algorithm = library, shape, None
        self.made: list[tuple[str, int]] = []
        self.told: dict[Any, int] = {}
        (m, n), (ta, lda), (tb, ldb) = shape, left, right
        self.sums = (n if epilogue == "BGRADA" else m,) if epilogue in SUMS else None
        self.descriptor = self._keep("MatmulDesc", library.descriptor(compute, R_32F))
        attributes = [(TRANSA, tb), (TRANSB, ta), (EPILOGUE, EPILOGUES[epilogue])]
        if epilogue == "GELU_AUX_BIAS":
            attributes.append((AUX_LD, n))
        for attribute, value in attributes:
            if library.describe(self.descriptor, attribute, value):
                raise RuntimeError(f"the attribute {attribute[0]} can't be {value}")
        self.a, self.b, self.out = [
            self._keep("MatrixLayout", library.layout(code, rows, columns, ld))
            for rows, columns, ld in ((n, k, ldb) if tb == N else (k, n, ldb),
                                      (k, m, lda) if ta == N else (m, k, lda), (n, m, n))]

    def _keep(self, kind: str, made: int) -> int:
        self.made.append((kind, made))
        return made

    def addresses(self, bias: int, second: int) -> int:
        """Tell the descriptor where they are, unless it knows; the library's status."""
        wrong = 0
        for attribute, at in ((BIAS_POINTER, bias), (AUX_POINTER, second)):
            if at and self.told.get(attribute) != at:
                wrong = wrong or self.library.describe(self.descriptor, attribute, at)
                self.told[attribute] = at
        return wrong

    def find(self, handle: int, workspace: int, in_float32: bool) -> bool:
        """Ask for an algorithm, when the descriptor has addresses. False if there is none.

        in_float32: partial sums of 16 bits must not be summed in 16 bits.
        """
        library, preference = self.library, self.library.preference()
        try:
            wrong = library.prefer(preference, WORKSPACE_BYTES, workspace)
            for attribute in ALIGNMENTS:
                wrong = wrong or library.prefer(preference, attribute, ALIGNED)
            if in_float32:
                wrong = wrong or library.prefer(preference, REDUCTIONS, IN_FLOAT32)
            if not wrong:
                self.algorithm = library.algorithm(handle, self.descriptor, self.a, self.b,
                                                   self.out, preference)
        finally:
            library.destroy("MatmulPreference", preference)
        self.algorithm_at = 0 if self.algorithm is None else self.algorithm.ctypes.data
        return self.algorithm is not None

    def __del__(self) -> None:
        if not sys.is_finalizing():
            for kind, made in reversed(self.made):
                self.library.destroy(kind, made)


class Epilogues:
    """Products of one device that do more than multiply."""

    def __init__(self, gemm: Any, load: Any) -> None:
        self.gemm, self.be, self._load = gemm, gemm.be, load
        self._library: Any = None
        self._looked = False
        self._local = threading.local()         # descriptors are a thread's own
        self.right: dict[tuple[str, int], bool] = {}        # by epilogue and type: does it work?

    @property
    def library(self) -> Any:
        """cuBLASLt; None without it, or without cuBLAS."""
        if not self._looked:
            with loading:
                found = self.gemm.library       # which loads cuBLASLt, too
                if not self._looked:
                    self._library = None if found is None else self._load(self.be.cupy)
                    self._looked = True
        return self._library

    def expects(self, epilogue: str, dtype: Any) -> bool:
        """May a call for arrays of this dtype work? Sums don't with TF32: they might be of rounded
        numbers."""
        code = type_code(dtype)
        return code is not None and code != R_64F and self.right.get((epilogue, code), True) and \
            not (epilogue in SUMS and self.fast(code))

    def fast(self, code: int) -> bool:
        """Are float32 factors rounded to TF32?"""
        return code == R_32F and settings.tf32 and self.gemm.capability() >= 80

    def __call__(self, epilogue: str, a: Any, b: Any, bias: Any = None, second: Any = None) -> Any:
        """a @ b of two matrices, changed by the epilogue: a new array. NotImplemented if nothing
        has been done: the caller then takes the portable way.

        bias: of a's dtype, for each column of b, in C order. second: of out's shape, in C order:
        where GELU_AUX_BIAS writes gelu's argument. With sums, it is (a @ b, the sums), both new.
        """
        key = (epilogue, a.shape, a.strides, b.shape, b.strides, a.dtype, b.dtype, settings.tf32,
               settings.half_reduction, settings.bfloat16_reduction)
        plans: dict[Any, Any] = self._local.__dict__
        plan = plans.get(key)
        if plan is None:
            if self.be.capturing or self.library is None:
                return NotImplemented           # a capture must not ask for algorithms
            plan = self._new(epilogue, a, b, bias, second)
            if len(plans) >= 1024:
                plans.clear()
            plans[key] = plan
        code: Any = _CODES.get(a.dtype)
        if not plan or not self.right[epilogue, code]:
            return NotImplemented
        out = self.be.empty(plan.shape, a.dtype)
        if plan.sums:
            bias = self.be.empty(plan.sums, a.dtype)
        a_at, b_at, out_at, bias_at = a.data.ptr, b.data.ptr, out.data.ptr, bias.data.ptr
        second_at = 0 if second is None else second.data.ptr
        if (a_at | b_at | out_at | bias_at | second_at) % ALIGNED:
            return NotImplemented
        handle, (one, zero) = self.gemm.handle(code), self.gemm.one_and_zero
        address, nbytes, stream = self.gemm.workspace()
        wrong = plan.addresses(bias_at, second_at) or self._library.matmul(
            (b, a, out, bias, second), handle, plan.descriptor, one, b_at, plan.a, a_at, plan.b,
            zero, out_at, plan.out, out_at, plan.out, plan.algorithm_at, address, nbytes, stream)
        if wrong:
            self._give_up(epilogue, code, f"cublasLtMatmul says {STATUS.get(wrong, wrong)}")
            return NotImplemented
        return (out, bias) if plan.sums else out

    def _new(self, epilogue: str, a: Any, b: Any, bias: Any, second: Any) -> Any:
        """A plan for such arrays; False if there is none."""
        code = type_code(a.dtype)
        sums = epilogue in SUMS
        if code is None or code == R_64F or not a.dtype == b.dtype == (b if sums else bias).dtype \
                or not a.ndim == b.ndim == 2 or a.shape[1] != b.shape[0] \
                or not self.gemm.takes(a.dtype):
            return False
        (m, k), n = a.shape, b.shape[1]
        left, right = layout(a), layout(b)
        if min(m, k, n) < 2 or max(m, k, n) >= 1 << 31 or left is None or right is None \
                or (not sums and bias.shape != (n,)) or (epilogue == "GELU_AUX_BIAS" and n % 8):
            return False
        compute = COMPUTE_32F_FAST_TF32 if self.fast(code) else COMPUTE_32F
        if not self.expects(epilogue, a.dtype):
            return False
        _CODES[a.dtype] = code
        if (epilogue, code) not in self.right:
            self.right[epilogue, code] = True
            self._try(epilogue, a.dtype, code)
        if not self.right[epilogue, code]:
            return False
        try:
            plan = Plan(self._library, epilogue, code, compute, left, right, (m, n), k)
            handle = self.gemm.handle(code)
            if plan.addresses(ALIGNED, ALIGNED if epilogue == "GELU_AUX_BIAS" else 0):
                raise RuntimeError("the descriptor doesn't take addresses")
            in_float32 = not settings.half_reduction if code == R_16F else \
                not settings.bfloat16_reduction if code == R_16BF else False
            return plan if plan.find(handle, self.gemm.workspace()[1], in_float32) else False
        except RuntimeError as e:
            self._give_up(epilogue, code, str(e))
            return False

    def _try(self, epilogue: str, dtype: Any, code: int) -> None:
        """Does the library what the header says? If not, it isn't used for this epilogue again."""
        be, random = self.be, np.random.default_rng(5)
        m, k, n = 48, 40, 32

        def some(*shape: int) -> Any:
            return random.uniform(-1, 1, shape).astype(dtype)

        host = some(m, k), some(k, n), some(n)
        host[1][:, 3] = np.nan                  # it has to stay
        a, b, bias = [be.from_host(v) for v in host]
        sums = epilogue in SUMS
        second = be.empty((m, n), dtype) if epilogue == "GELU_AUX_BIAS" else None
        got = self(epilogue, a, b, None if sums else bias, second)
        if got is NotImplemented:
            if sums:                            # not every version has them for every dtype
                self.right[epilogue, code] = False
            elif self.right[epilogue, code]:    # else that has been said already
                self._give_up(epilogue, code, "it has no algorithm for a small problem")
            return
        x, y, z = [v.astype(np.float64) for v in host]
        want = [x @ y, y.sum(0) if epilogue == "BGRADA" else x.sum(1)] if sums else [x @ y + z]
        found = [be.to_host(v).astype(np.float64)
                 for v in (got if sums else (second, got)) if v is not None]
        if second is not None:
            want.append(want[0] / 2 * (1 + np.tanh(ROOT * (want[0] + CUBIC * want[0] ** 3))))
        until = 6e-2 if code == R_16BF else 1e-2        # several steps of TF32 or float16
        if not all(np.allclose(v, w, until, until, equal_nan=True) for v, w in zip(found, want)):
            self._give_up(epilogue, code, "its results for a small problem differ from NumPy's")

    def _give_up(self, epilogue: str, code: int, why: str) -> None:
        self.right[epilogue, code] = False
        warnings.warn(f"cuBLASLt's epilogue {epilogue} for cudaDataType {code} isn't used "
                      f"on {self.be.name}: {why}. Such products take a call more, and are right "
                      f"all the same.", RuntimeWarning, stacklevel=2)
