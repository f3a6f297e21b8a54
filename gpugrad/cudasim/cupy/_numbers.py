"""How CuPy sums: float16 and bfloat16 in float32."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_HALF = np.dtype("float16")


def is_narrow(dtype: Any) -> bool:
    """float16 or bfloat16."""
    return dtype == _HALF or dtype.name == "bfloat16"


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
