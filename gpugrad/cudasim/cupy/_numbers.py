"""How CuPy computes with 16 bits: sums in float32, and which results have another dtype."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_HALF = np.dtype("float16")


def is_narrow(dtype: Any) -> bool:
    """float16 or bfloat16."""
    return dtype == _HALF or dtype.name == "bfloat16"


# Of these functions of bfloat16, for which CuPy hasn't made them, the results have another dtype.
_OF_BFLOAT16 = {"where": np.float32, "tril": np.float32, "triu": np.float32, "round": np.float32,
                "var": np.float64, "std": np.float64}


def result_dtype(name: str, dtype: Any) -> Any:
    """The dtype of what CuPy's function gives, where NumPy's would give ``dtype``."""
    return np.dtype(_OF_BFLOAT16.get(name, dtype)) if dtype.name == "bfloat16" else dtype


def exactly(f: Callable[..., Any]) -> Callable[..., Any]:
    """f with the narrow ones of its operands widened to float32, and its result narrowed again."""
    def run(*args: Any, out: Any = None, **kw: Any) -> Any:
        dtype = np.result_type(*[a for a in args if isinstance(a, np.ndarray)])
        wide = [a.astype(np.float32) if isinstance(a, np.ndarray) and is_narrow(a.dtype) else a
                for a in args]
        r = np.asarray(f(*wide, **kw)).astype(dtype)
        if out is None:
            return r
        (out[0] if isinstance(out, tuple) else out)[...] = r
        return out
    return run
