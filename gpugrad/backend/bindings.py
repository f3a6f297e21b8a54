"""Calling cuBLAS with little ado: argument types for ctypes, and nvmath-python's bindings.

The bindings take a microsecond less than ctypes. But they look for the libraries by themselves, and
to import nvmath loads five more than cuBLAS, in the newest version that it finds, whichever CuPy
uses. So it isn't imported here: its functions are called where the program has imported it, and
where they lead to the very function that ctypes would call, of the library that CuPy has loaded.
"""
from __future__ import annotations

import ctypes
import operator
import sys
from typing import Any


class Int:
    """The type of an int argument for ctypes, whose c_int would make an object of each."""

    from_param = operator.index


def quickest(library: str, symbol: str, function: Any, name: str) -> tuple[Any, Any]:
    """(what to call, the errors that it raises for a status) in the place of ctypes' function.

    library: "cublas" or "cublasLt"; name: the binding's.
    """
    bindings = sys.modules.get("nvmath.bindings." + library)
    inside = sys.modules.get("nvmath.bindings._internal." + library)
    try:
        at = ctypes.cast(function, ctypes.c_void_p).value
        if at and inside._inspect_function_pointer("__" + symbol) == at:  # type: ignore[union-attr]
            error = library.replace("cublas", "cuBLAS") + "Error"
            return getattr(bindings, name), getattr(bindings, error)
    except Exception:           # not imported, another version, or no driver: ctypes can't fail
        pass
    return function, ()
