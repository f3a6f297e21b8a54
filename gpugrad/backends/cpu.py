"""torch.backends.cpu: which instructions the CPU's code uses."""
from __future__ import annotations

from importlib import import_module


def get_cpu_capability() -> str:
    """The widest that NumPy found: "AVX512", "AVX2" or "DEFAULT"."""
    try:
        found = import_module("numpy._core._multiarray_umath").__cpu_features__
    except (ImportError, AttributeError):
        return "DEFAULT"
    return "AVX512" if found.get("AVX512F") else "AVX2" if found.get("AVX2") else "DEFAULT"
