"""torch.backends.cudnn: how convolutions are made on CUDA.

``benchmark`` has the ways of a convolution timed once for each shape, at most ``benchmark_limit``
of them if that is above 0, and the fastest taken from then on. cuDNN is one of them if
nvidia-cudnn-frontend and the library are installed and ``enabled`` is True. ``allow_tf32`` says
whether large convolutions of float32 may use TF32. All ways are deterministic: ``deterministic``
changes nothing.
"""
from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from gpugrad.backend import precision

_values: dict[str, Any] = vars(precision.convolution)


def is_available() -> bool:
    """Whether there are a GPU, cuDNN and its Python module ``cudnn``. gpugrad does without it."""
    from gpugrad.ops import conv_cudnn

    return conv_cudnn.library() is not None


def is_acceptable(tensor: Any) -> bool:
    """Whether cuDNN could compute with a tensor: it is there, enabled, and has such numbers."""
    kinds = ("float16", "float32", "float64")
    return bool(_values["enabled"] and tensor.is_cuda and str(tensor.dtype)[6:] in kinds
                and is_available())


def version() -> int | None:
    """cuDNN's, such as 91002 for 9.10.2; None without it."""
    from gpugrad.ops import conv_cudnn

    lib = conv_cudnn.library()
    return None if lib is None else int(lib.backend_version())


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


class _Conv:
    """torch.backends.cudnn.conv: allow_tf32 by another name."""

    @property
    def fp32_precision(self) -> str:
        return "tf32" if _values["allow_tf32"] else "none"

    @fp32_precision.setter
    def fp32_precision(self, value: str) -> None:
        if value not in ("none", "ieee", "tf32"):
            raise RuntimeError(f"Unknown precision: {value}")
        _values["allow_tf32"] = value == "tf32"


conv = _Conv()


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
