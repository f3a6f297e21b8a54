"""A stand-in for CuPy: the part of it that programs like gpugrad use, on simulated devices.

Names and parameters are those of the CuPy that api.json records, and no others.
"""
from __future__ import annotations

import types
from typing import Any

import numpy as _numpy

from gpugrad.cudasim.cupy import _record
from gpugrad.cudasim.cupy import _stride_tricks as _stride_tricks
from gpugrad.cudasim.cupy import cuda as cuda
from gpugrad.cudasim.cupy import random as random
from gpugrad.cudasim.cupy._array import ndarray as ndarray
from gpugrad.cudasim.cupy._creation import array as array
from gpugrad.cudasim.cupy._creation import asanyarray as asanyarray
from gpugrad.cudasim.cupy._creation import asarray as asarray
from gpugrad.cudasim.cupy._creation import ascontiguousarray as ascontiguousarray
from gpugrad.cudasim.cupy._creation import asfortranarray as asfortranarray
from gpugrad.cudasim.cupy._creation import asnumpy as asnumpy
from gpugrad.cudasim.cupy._creation import empty as empty
from gpugrad.cudasim.cupy._creation import empty_like as empty_like
from gpugrad.cudasim.cupy._creation import full as full
from gpugrad.cudasim.cupy._creation import full_like as full_like
from gpugrad.cudasim.cupy._creation import get_array_module as get_array_module
from gpugrad.cudasim.cupy._creation import ones as ones
from gpugrad.cudasim.cupy._creation import ones_like as ones_like
from gpugrad.cudasim.cupy._creation import zeros as zeros
from gpugrad.cudasim.cupy._creation import zeros_like as zeros_like
from gpugrad.cudasim.cupy._functions import allclose as allclose
from gpugrad.cudasim.cupy._functions import array_equal as array_equal
from gpugrad.cudasim.cupy._functions import array_equiv as array_equiv
from gpugrad.cudasim.cupy._functions import broadcast_to as broadcast_to
from gpugrad.cudasim.cupy._functions import can_cast as can_cast
from gpugrad.cudasim.cupy._functions import concatenate as concatenate
from gpugrad.cudasim.cupy._functions import copyto as copyto
from gpugrad.cudasim.cupy._functions import diagonal as diagonal
from gpugrad.cudasim.cupy._functions import dot as dot
from gpugrad.cudasim.cupy._functions import einsum as einsum
from gpugrad.cudasim.cupy._functions import fill_diagonal as fill_diagonal
from gpugrad.cudasim.cupy._functions import make as _make
from gpugrad.cudasim.cupy._functions import may_share_memory as may_share_memory
from gpugrad.cudasim.cupy._functions import ndim as ndim
from gpugrad.cudasim.cupy._functions import put_along_axis as put_along_axis
from gpugrad.cudasim.cupy._functions import putmask as putmask
from gpugrad.cudasim.cupy._functions import result_type as result_type
from gpugrad.cudasim.cupy._functions import shape as shape
from gpugrad.cudasim.cupy._functions import shares_memory as shares_memory
from gpugrad.cudasim.cupy._functions import size as size
from gpugrad.cudasim.cupy._functions import tensordot as tensordot
from gpugrad.cudasim.cupy._functions import tril as tril
from gpugrad.cudasim.cupy._functions import triu as triu
from gpugrad.cudasim.cupy._functions import where as where
from gpugrad.cudasim.cupy._ufuncs import ufunc as ufunc
from gpugrad.cudasim.cupy.cuda._pinned import PinnedMemoryPool as _PinnedMemoryPool
from gpugrad.cudasim.cupy.cuda.memory import default_pool as _default_pool

__version__ = _record.RECORD["version"]

newaxis = None
ufuncs: dict[str, Any] = {}
_pinned_pool = _PinnedMemoryPool()


def get_default_memory_pool() -> Any:
    """The pool that arrays' memory comes from."""
    return _default_pool


def get_default_pinned_memory_pool() -> Any:
    """The pool of pinned memory."""
    return _pinned_pool


def is_available() -> bool:
    """True: there is a simulated device."""
    return True


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    if name in ("RawModule", "RawKernel"):
        from gpugrad.cudasim.cupy import _modules

        globals().update(RawModule=_modules.RawModule, RawKernel=_modules.RawKernel)
        return globals()[name]
    found = globals()[name] = _make("cupy", _numpy, name)
    return found


class _Part(types.ModuleType):
    """cupy.linalg, cupy.fft..., out of NumPy's."""

    def __init__(self, name: str, host: Any) -> None:
        super().__init__(f"cupy.{name}")
        self._host = host

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self.__name__ not in _record.MODULES:
            raise AttributeError(name)
        found = _make(self.__name__, self._host, name)
        setattr(self, name, found)
        return found


linalg, fft = _Part("linalg", _numpy.linalg), _Part("fft", _numpy.fft)
lib: Any = types.ModuleType("cupy.lib")
lib.stride_tricks = _stride_tricks

for _name in _record.UFUNCS:
    if isinstance(getattr(_numpy, _name, None), _numpy.ufunc):
        ufuncs[_name] = globals()[_name] = _make("cupy", _numpy, _name)
