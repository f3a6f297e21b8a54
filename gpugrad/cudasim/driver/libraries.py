"""CUDA's libraries for CuPy itself: cuBLAS's products as gpugrad calls them, Thrust's sorts.

What else CuPy calls, as cuSOLVER and cuFFT, is not there, and CuPy says so.
"""
from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.cudasim import cublas as simulated
from gpugrad.cudasim import cublaslt as simulated_lt
from gpugrad.cudasim.driver import runtime

NOT_SIMULATED = "a library of CUDA that isn't simulated for CuPy"


def install() -> None:
    """Take the libraries' place."""
    from cupy.cuda import thrust

    from cuda import pathfinder
    from gpugrad.backend import cublas, cublaslt

    pathfinder.load_nvidia_dynamic_lib = _absent
    simulated.home = OfCuPy
    cublas.load, cublaslt.load = simulated.Library, simulated_lt.Library
    thrust.sort, thrust.argsort, thrust.lexsort = sort, argsort, lexsort


def _absent(name: str) -> Any:
    raise ImportError(f"{NOT_SIMULATED}: {name}")


class OfCuPy:
    """What products have to know of CuPy's arrays."""

    @staticmethod
    def recording() -> Any:
        """The graph that the current stream is captured into, or None."""
        return runtime.capture_of(_stream())

    @staticmethod
    def queue(work: Any, arrays: Any) -> None:
        runtime.queue(_stream(), work)

    @staticmethod
    def bounds(array: Any) -> tuple[int, int]:
        """The addresses between which the allocation of an array lies."""
        memory = array.data.mem
        return memory.ptr, memory.ptr + memory.size


def _stream() -> int:
    import cupy

    return int(cupy.cuda.get_current_stream().ptr)


def _array(address: int, dtype: Any, shape: Any) -> Any:
    """Device memory as a NumPy array."""
    n = math.prod(shape) * np.dtype(dtype).itemsize
    return np.ndarray(shape, dtype, (ctypes.c_ubyte * n).from_address(address))


def _waiting(work: Callable[[], Any]) -> None:
    """Do it on the current stream, and wait: so does Thrust, which allocates memory, too."""
    stream = _stream()
    runtime.not_captured()
    runtime.queue(stream, work)
    runtime.streamSynchronize(stream)


def sort(dtype: Any, data: int, keys: int, shape: Any) -> None:
    _waiting(lambda: _array(data, dtype, shape).sort(axis=-1))


def argsort(dtype: Any, index: int, data: int, keys: int, shape: Any) -> None:
    def work() -> None:
        a, places = _array(data, dtype, shape), _array(index, np.intp, shape)
        places[...] = np.argsort(a, axis=-1, kind="stable")
        a[...] = np.take_along_axis(a, places, -1)
    _waiting(work)


def lexsort(dtype: Any, index: int, keys: int, k: int, n: int) -> None:
    def work() -> None:
        _array(index, np.intp, (n,))[...] = np.lexsort(_array(keys, dtype, (k, n)))
    _waiting(work)
