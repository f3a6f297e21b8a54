"""cuBLASLt for the simulated device: the same calls with raw integers, checked harder.

What the real library refuses is refused with its status; what it would run all the same, with a
wrong result or a crash, is a Fault. Its GELU is the approximation by tanh.
"""
from __future__ import annotations

import ctypes
import itertools
from typing import Any

import numpy as np

from gpugrad.backend.cublas import COMPUTE_32F, COMPUTE_32F_FAST_TF32, R_16BF, R_16F, R_32F, N, T
from gpugrad.backend.cublaslt import (
    ALIGNMENTS,
    AUX_LD,
    AUX_POINTER,
    BIAS_POINTER,
    CUBIC,
    EPILOGUE,
    EPILOGUES,
    IN_FLOAT32,
    REDUCTIONS,
    RESULT,
    ROOT,
    SUMS,
    TRANSA,
    TRANSB,
    WORKSPACE_BYTES,
)
from gpugrad.cudasim import cublas
from gpugrad.cudasim.cublas import Fault, Matrices, alive, widened

_INVALID, _NOT_INITIALIZED = 7, 1
_made = itertools.count(0x7B0000000000, 0x100)
_ATTRIBUTES = dict([TRANSA, TRANSB, EPILOGUE, BIAS_POINTER, AUX_POINTER, AUX_LD])
_PREFERENCES = dict([WORKSPACE_BYTES, REDUCTIONS, *ALIGNMENTS])
_MAGIC = 0x5EED
_NAMES = {number: name for name, number in EPILOGUES.items()}
_GELU = EPILOGUES["GELU_AUX_BIAS"]
_SUMS = [EPILOGUES[name] for name in SUMS]


class Library:
    """As gpugrad.backend.cublaslt.Library. ``calls`` holds the names of the epilogues, ``asked``
    how often algorithms were looked for, and ``strict`` whether the last one had to make all sums
    in float32."""

    strict = False

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._things: dict[int, tuple[str, Any]] = {}
        self.calls: list[str] = []
        self.asked = 0

    def _make(self, kind: str, thing: Any) -> int:
        made = next(_made)
        self._things[made] = kind, thing
        return made

    def _of(self, kind: str, made: int) -> Any:
        found, thing = self._things.get(made, ("nothing", None))
        if found != kind:
            raise Fault(f"cublasLt: {made:#x} is {found}, not a {kind}")
        return thing

    def descriptor(self, compute: int, scale: int) -> int:
        if compute not in (COMPUTE_32F, COMPUTE_32F_FAST_TF32) or scale != R_32F:
            raise RuntimeError(f"cublasLtMatmulDescCreate({compute}, {scale}): INVALID_VALUE")
        return self._make("MatmulDesc", {"compute": compute, TRANSA[0]: N, TRANSB[0]: N,
                                         EPILOGUE[0]: 1, BIAS_POINTER[0]: 0, AUX_POINTER[0]: 0,
                                         AUX_LD[0]: 0})

    def layout(self, type_: int, rows: int, columns: int, ld: int) -> int:
        if type_ not in (R_32F, R_16F, R_16BF) or min(rows, columns) < 1 or ld < rows:
            raise RuntimeError(f"cublasLtMatrixLayoutCreate({type_}, {rows}, {columns}, {ld}): "
                               f"INVALID_VALUE")
        return self._make("MatrixLayout", (type_, rows, columns, ld))

    def preference(self) -> int:
        return self._make("MatmulPreference", {})

    def describe(self, descriptor: int, attribute: tuple[int, int], value: int) -> int:
        return _set(self._of("MatmulDesc", descriptor), _ATTRIBUTES, attribute, value)

    def prefer(self, preference: int, attribute: tuple[int, int], value: int) -> int:
        return _set(self._of("MatmulPreference", preference), _PREFERENCES, attribute, value)

    def destroy(self, kind: str, made: int) -> None:
        self._of(kind, made)
        del self._things[made]

    def algorithm(self, handle: int, descriptor: int, a: int, b: int, c: int,
                  preference: int) -> Any:
        if cublas.home.recording() is not None:
            raise Fault("cublasLtMatmulAlgoGetHeuristic while a stream is captured")
        self.asked += 1
        preferred = self._of("MatmulPreference", preference)
        given = [self._of("MatrixLayout", x) for x in (a, b, c)]
        about = self._of("MatmulDesc", descriptor)
        if handle not in alive or _wrong(about, *given) or any(
                preferred.get(at, 256) > 16 for at, _ in ALIGNMENTS):
            return None
        found = np.zeros((), RESULT)
        found["algo"][:2] = _MAGIC, _fingerprint(about, given)
        self.strict = preferred.get(REDUCTIONS[0]) == IN_FLOAT32
        found["workspace"] = min(preferred.get(WORKSPACE_BYTES[0], 0), 1024)
        return found

    def matmul(self, arrays: Any, handle: int, descriptor: int, alpha: int, a: int, a_layout: int,
               b: int, b_layout: int, beta: int, c: int, c_layout: int, d: int, d_layout: int,
               algorithm: int, workspace: int, nbytes: int, stream: int) -> int:
        about = self._of("MatmulDesc", descriptor)
        given = [self._of("MatrixLayout", x) for x in (a_layout, b_layout, d_layout)]
        epilogue = about[EPILOGUE[0]]
        call = f"cublasLtMatmul({_NAMES.get(epilogue, epilogue)}, {given})"
        if handle not in alive:
            return _NOT_INITIALIZED
        if _wrong(about, *given) or c_layout != d_layout or c != d:
            return _INVALID
        if any(at % 16 for at in (a, b, d, about[BIAS_POINTER[0]], about[AUX_POINTER[0]])):
            raise Fault(f"{call}: an address isn't a multiple of 16, as the algorithm needs it")
        algo = np.frombuffer(ctypes.string_at(algorithm, RESULT.itemsize), RESULT)[0]
        if algo["algo"][0] != _MAGIC or algo["algo"][1] != _fingerprint(about, given):
            raise Fault(f"{call}: the algorithm is another problem's")
        if nbytes < algo["workspace"] or (nbytes and (not workspace or workspace % 256)):
            return _INVALID
        if stream != int(self._cupy.cuda.get_current_stream().ptr):
            raise Fault(f"{call}: on stream {stream:#x}, which isn't CuPy's current one")
        factors = [ctypes.c_float.from_address(p).value for p in (alpha, beta)]
        views, bias, second = _views(about, given, (a, b, d), arrays, call)

        def run() -> None:
            left, right = (widened(v[None] if v.ndim == 2 else v, np.dtype(np.float32),
                                   about["compute"], about[which[0]])[0]
                           for v, which in ((views[0], TRANSA), (views[1], TRANSB)))
            x = left @ right * np.float32(factors[0])
            if factors[1]:
                x += views[2][0].astype(np.float32) * np.float32(factors[1])
            if epilogue in _SUMS:
                bias[:, 0] = (left.sum(1) if epilogue == _SUMS[0] else right.sum(0)).astype(
                    bias.dtype)
                views[2][0][...] = x.astype(bias.dtype)
                return
            _finish(x, views[2][0], bias, second)

        self.calls.append(_NAMES[epilogue])
        cublas.home.queue(run, [x for x in arrays if x is not None])
        return 0


def _set(thing: dict[Any, int], known: dict[int, int], attribute: tuple[int, int], value: int,
         ) -> int:
    """Set an attribute if it is known, of that size, and holds the value; else INVALID_VALUE."""
    which, nbytes = attribute
    if known.get(which) != nbytes or not 0 <= value < 1 << 8 * nbytes:
        return _INVALID
    if (which in (TRANSA[0], TRANSB[0]) and known is _ATTRIBUTES and value not in (N, T)) or (
            attribute == EPILOGUE and known is _ATTRIBUTES and value not in _NAMES):
        return _INVALID
    thing[which] = value
    return 0


def _fingerprint(about: dict[Any, int], given: Any) -> int:
    """A number for the problem, without its addresses."""
    return hash((about["compute"], *[about[x[0]] for x in (TRANSA, TRANSB, EPILOGUE, AUX_LD)],
                 *given)) & (1 << 63) - 1


def _wrong(about: dict[Any, int], a: Any, b: Any, d: Any) -> bool:
    """Does cuBLASLt refuse this?"""
    m, k = a[1:3] if about[TRANSA[0]] == N else a[2:0:-1]
    k_b, n = b[1:3] if about[TRANSB[0]] == N else b[2:0:-1]
    second = about[EPILOGUE[0]] == _GELU
    return (not a[0] == b[0] == d[0] or k != k_b or d[1:3] != (m, n)
            or (about["compute"] == COMPUTE_32F_FAST_TF32 and a[0] != R_32F)
            or not about[BIAS_POINTER[0]]
            or bool(second and (not about[AUX_POINTER[0]] or about[AUX_LD[0]] % 8
                                or about[AUX_LD[0]] < m)))


def _views(about: dict[Any, int], given: Any, at: Any, arrays: Any, call: str) -> Any:
    """The memory of A, B and D, of the bias, and of the second matrix, if there is one."""
    views = [Matrices(address, type_, ld, 0).view((rows, columns), 1, array, call)
             for (type_, rows, columns, ld), address, array in zip(given, at, arrays)]
    type_, rows, columns, _ = given[2]
    length = columns if about[EPILOGUE[0]] == _SUMS[1] else rows
    bias = Matrices(about[BIAS_POINTER[0]], type_, length, 0).view((length, 1), 1, arrays[3], call)
    second = None
    if about[EPILOGUE[0]] == _GELU:
        second = Matrices(about[AUX_POINTER[0]], type_, about[AUX_LD[0]], 0).view(
            (rows, columns), 1, arrays[4], call)[0]
    return views, bias[0], second


def _finish(x: Any, d: Any, bias: Any, second: Any) -> None:
    """What is done with the product x, in float32, before it is written to d."""
    x = x + bias.astype(np.float32)
    if second is not None:
        second[...] = x.astype(d.dtype)
        x = x / 2 * (1 + np.tanh(np.float32(ROOT) * (x + np.float32(CUBIC) * x * x * x)))
    d[...] = x.astype(d.dtype)
