"""A stand-in for cupyx: pinned arrays, scattered sums, rsqrt, and watching for host reads."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpugrad.cudasim.cupy._ufuncs import ufunc
from gpugrad.cudasim.cupy.cuda._pinned import alloc_pinned_memory
from gpugrad.cudasim.state import thread


class DeviceSynchronized(RuntimeError):
    """The device was waited for inside ``allow_synchronize(False)``."""


@contextlib.contextmanager
def allow_synchronize(allow: bool) -> Iterator[None]:
    """Inside, waiting for the device raises DeviceSynchronized if ``allow`` is False."""
    before = thread.may_synchronize
    thread.may_synchronize = allow
    try:
        yield
    finally:
        thread.may_synchronize = before


def empty_pinned(shape: Any, dtype: Any = float, order: str = "C") -> Any:
    """A NumPy array in pinned memory, not initialised."""
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    dtype = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    memory = alloc_pinned_memory(max(1, count * dtype.itemsize))
    return np.frombuffer(memory, dtype, count).reshape(shape, order="F" if order == "F" else "C")


def zeros_pinned(shape: Any, dtype: Any = float, order: str = "C") -> Any:
    """A NumPy array of zeros in pinned memory."""
    a = empty_pinned(shape, dtype, order)
    a.fill(0)
    return a


def empty_like_pinned(a: Any, dtype: Any = None, order: str = "K", subok: Any = None,
                      shape: Any = None) -> Any:
    """A NumPy array in pinned memory, of another array's shape and dtype."""
    return empty_pinned(a.shape if shape is None else shape, dtype or a.dtype,
                        "F" if order == "F" else "C")


def zeros_like_pinned(a: Any, dtype: Any = None, order: str = "K", subok: Any = None,
                      shape: Any = None) -> Any:
    """Zeros in pinned memory, of another array's shape and dtype."""
    made = empty_like_pinned(a, dtype, order, subok, shape)
    made.fill(0)
    return made


def scatter_add(a: Any, slices: Any, value: Any) -> None:
    """a[slices] += value, where each of repeated positions counts."""
    a.scatter_add(slices, value)


def scatter_max(a: Any, slices: Any, value: Any) -> None:
    """a[slices] = maximum(a[slices], value), for repeated positions too."""
    a.scatter_max(slices, value)


def scatter_min(a: Any, slices: Any, value: Any) -> None:
    """a[slices] = minimum(a[slices], value), for repeated positions too."""
    a.scatter_min(slices, value)


class _Rsqrt:
    """1 / sqrt(x) as a host function."""

    nin, nout, nargs, types = 1, 1, 2, ["e->e", "f->f", "d->d"]

    def __call__(self, x: Any, out: Any = None, **kw: Any) -> Any:
        r = np.reciprocal(np.sqrt(x))
        if out is None:
            return r
        out[0][...] = r
        return out


rsqrt = ufunc(_Rsqrt(), "rsqrt")
