"""Calls of cuBLAS by nvmath-python's bindings, where a program has imported them."""
from __future__ import annotations

import ctypes
import sys
from types import ModuleType
from typing import Any

import pytest
from c_library import Noted

from gpugrad.backend import cublas, cublaslt
from gpugrad.backend.bindings import Int, quickest

FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 0)
AT = ctypes.cast(FUNCTION, ctypes.c_void_p).value
CALLS = [("cublas", "cublasGemmEx", "gemm_ex", 19),
         ("cublas", "cublasGemmStridedBatchedEx", "gemm_strided_batched_ex", 23),
         ("cublasLt", "cublasLtMatmul", "matmul", 16)]


class Refused(Exception):
    """As nvmath's errors."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


@pytest.fixture
def nvmath(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for the imported package: ``at`` are the functions' addresses, ``called`` their
    arguments, ``status`` what they meet."""
    package = ModuleType("nvmath")
    package.at, package.called, package.status = {}, [], 0          # type: ignore[attr-defined]
    for library, error in (("cublas", "cuBLASError"), ("cublasLt", "cuBLASLtError")):
        bindings, inside = ModuleType(library), ModuleType(library)
        for of, _, name, n in CALLS:
            def call(*args: int, n: int = n) -> None:
                assert len(args) == n and all(type(a) is int for a in args)
                package.called.append(args)
                if package.status:
                    raise Refused(package.status)
            if of == library:
                setattr(bindings, name, call)
        setattr(bindings, error, Refused)
        inside._inspect_function_pointer = package.at.__getitem__   # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "nvmath.bindings." + library, bindings)
        monkeypatch.setitem(sys.modules, "nvmath.bindings._internal." + library, inside)
    return package


@pytest.mark.parametrize(("library", "symbol", "name", "n"), CALLS)
def test_bindings_of_the_same_function_are_called(nvmath: Any, library: str, symbol: str,
                                                  name: str, n: int) -> None:
    assert quickest(library, symbol, FUNCTION, name) == (FUNCTION, ())      # no such symbol
    nvmath.at["__" + symbol] = AT + 16
    assert quickest(library, symbol, FUNCTION, name) == (FUNCTION, ())      # another library's
    nvmath.at["__" + symbol] = AT
    found, error = quickest(library, symbol, FUNCTION, name)
    assert found is getattr(sys.modules["nvmath.bindings." + library], name) and error is Refused
    assert quickest(library, symbol, lambda: 0, name)[1] == ()              # no C function


def test_without_nvmath_it_is_ctypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "nvmath.bindings.cublas", raising=False)
    assert quickest("cublas", "cublasGemmEx", FUNCTION, "gemm_ex") == (FUNCTION, ())


def test_errors_of_bindings_are_worded_as_ever(nvmath: Any) -> None:
    class Lib(Noted):
        """Its products are real C functions."""

        def __getattr__(self, name: str) -> Any:
            wanted = [n for _, symbol, _, n in CALLS if symbol == name]
            if not wanted:
                return super().__getattr__(name)
            made = self.functions.setdefault(name, ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 0))
            nvmath.at["__" + name] = ctypes.cast(made, ctypes.c_void_p).value
            return made

    lib = Lib()
    products, epilogues = cublas.Library(lib), cublaslt.Library(lib)
    products.gemm(None, *range(1, 20))
    products.gemm_batched(None, *range(1, 24))
    assert epilogues.matmul(None, *range(1, 17)) == 0
    assert nvmath.called == [tuple(range(1, n + 1)) for n in (19, 23, 16)]
    nvmath.status = 15
    with pytest.raises(RuntimeError, match=r"NOT_SUPPORTED when calling `cublasGemmEx\(.*m=4"):
        products.gemm(None, *range(1, 20))
    with pytest.raises(RuntimeError, match="NOT_SUPPORTED when calling `cublasGemmStridedB"):
        products.gemm_batched(None, *range(1, 24))
    assert epilogues.matmul(None, *range(1, 17)) == 15


@pytest.mark.parametrize(("library", "symbol", "name", "n"), CALLS)
def test_the_real_bindings_have_what_is_used(library: str, symbol: str, name: str, n: int) -> None:
    bindings = pytest.importorskip("nvmath.bindings." + library)
    inside = pytest.importorskip("nvmath.bindings._internal." + library)
    signature = getattr(bindings, name).__doc__.split("\n")[0]
    assert signature.startswith(name + "(") and signature.count(",") == n - 1
    assert callable(inside._inspect_function_pointer)
    assert issubclass(getattr(bindings, library.replace("cublas", "cuBLAS") + "Error"), Exception)
    try:
        assert inside._inspect_function_pointer("__" + symbol)
    except Exception as e:                                  # no driver, or no library
        assert type(e).__name__ in ("NotSupportedError", "DynamicLibNotFoundError"), e


def test_ints_are_passed_by_ctypes() -> None:
    add = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(lambda a, b: a + b)
    function = ctypes.cast(add, ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int))
    function.argtypes = [Int, Int]
    assert function(-3, (1 << 31) - 1) == (1 << 31) - 4
    with pytest.raises(ctypes.ArgumentError):
        function(1.5, 2)
