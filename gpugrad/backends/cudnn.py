"""torch.backends.cudnn: settings that scripts make. gpugrad doesn't use cuDNN.

Its own kernels are always deterministic and there is nothing to try out, so ``deterministic`` and
``benchmark`` change nothing. Convolutions are products of matrices: whether they use TF32 says
torch.backends.cuda.matmul.allow_tf32, not ``allow_tf32`` here.
"""
from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

_values: dict[str, Any] = {"enabled": True, "benchmark": False, "deterministic": False,
                           "allow_tf32": True, "benchmark_limit": None}


def is_available() -> bool:
    """False: gpugrad does without cuDNN."""
    return False


def is_acceptable(tensor: Any) -> bool:
    """False: see is_available."""
    return False


def version() -> int | None:
    """None: see is_available."""
    return None


def set_flags(_enabled: bool | None = None, _benchmark: bool | None = None,
              _benchmark_limit: int | None = None, _deterministic: bool | None = None,
              _allow_tf32: bool | None = None) -> tuple[Any, ...]:
    """Set what isn't None; returns what all were before."""
    names = ("enabled", "benchmark", "benchmark_limit", "deterministic", "allow_tf32")
    given = (_enabled, _benchmark, _benchmark_limit, _deterministic, _allow_tf32)
    before = tuple([_values[name] for name in names])
    for name, value in zip(names, given):
        if value is not None:
            setattr(sys.modules[__name__], name, value)
    return before


@contextlib.contextmanager
def flags(enabled: bool = False, benchmark: bool = False, benchmark_limit: int = 10,
          deterministic: bool = False, allow_tf32: bool = True) -> Iterator[None]:
    """The settings inside the block."""
    before = set_flags(enabled, benchmark, benchmark_limit, deterministic, allow_tf32)
    try:
        yield
    finally:
        _values["benchmark_limit"] = before[2]
        set_flags(*before)


class _Module(ModuleType):
    """This module: assignments to its settings are checked, as PyTorch's are."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _values:
            ModuleType.__setattr__(self, name, value)
            return
        if name != "benchmark_limit" and not isinstance(value, bool):
            raise RuntimeError(f"set_{name}_cudnn expects a bool, but got {type(value).__name__}")
        _values[name] = value

    def __getattr__(self, name: str) -> Any:
        if name in _values:
            return _values[name]
        raise AttributeError(f"module 'gpugrad.backends.cudnn' has no attribute '{name}'")


sys.modules[__name__].__class__ = _Module
