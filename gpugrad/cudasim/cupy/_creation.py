"""Arrays made new, on the device or from host memory."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.cudasim import state
from gpugrad.cudasim.cupy._array import ndarray
from gpugrad.cudasim.cupy._blocks import empty as _garbage
from gpugrad.cudasim.cupy._blocks import fill_with_garbage
from gpugrad.cudasim.cupy._calls import Array, check_dtype, fresh, run
from gpugrad.cudasim.state import recording, switches


def _holds_device_arrays(obj: Any) -> bool:
    if isinstance(obj, (list, tuple)):
        return bool(obj) and _holds_device_arrays(obj[0])
    return isinstance(obj, Array)


def _from_host(obj: Any, dtype: Any, order: Any, ndmin: int, blocking: bool) -> Any:
    a = np.array(obj, dtype, order="F" if order == "F" else "C" if order == "C" else "K",
                 ndmin=ndmin)
    if a.dtype.kind in "OSUMm":
        raise ValueError(f"Unsupported dtype {a.dtype}")
    check_dtype(a.dtype)
    if blocking:
        state.wait("array(blocking=True)")
    state.copied("h2d", "a copy from the host")
    return fresh(a if a.base is None else a.copy())


def array(obj: Any, dtype: Any = None, copy: bool = True, order: Any = "K", subok: bool = False,
          ndmin: int = 0, *, blocking: bool = False) -> Any:
    """A device array from host data, or a copy of a device array."""
    if subok:
        raise NotImplementedError
    if not _holds_device_arrays(obj):
        return _from_host(obj, dtype, order, ndmin, blocking)
    if isinstance(obj, (list, tuple)):
        return run(lambda *parts: np.array(_nested(parts[0]), dtype, order=order, ndmin=ndmin),
                   (obj,), {})
    if isinstance(obj, Array) and not copy and (
            dtype is None or np.dtype(dtype) == obj._a.dtype) and ndmin <= obj._a.ndim and \
            _has_order(obj._a, order):
        return obj
    if state.thread.device != obj._block.device:                # a copy between devices
        state.counts.d2d += 1
        return fresh(np.array(obj._a, dtype, order=order, ndmin=ndmin, copy=True))
    return run(lambda a: np.array(a, dtype, order=order, ndmin=ndmin, copy=True), (obj,), {})


def _nested(parts: Any) -> Any:
    return [_nested(p) if isinstance(p, (list, tuple)) else p for p in parts]


def _has_order(a: Any, order: Any) -> bool:
    return {"C": a.flags.c_contiguous, "F": a.flags.f_contiguous}.get(order, True)


def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None,
            blocking: bool = False) -> Any:
    """A device array: ``a`` itself if it is one."""
    if copy:
        return array(a, dtype, True, order or "K", blocking=blocking)
    if isinstance(a, Array) and (dtype is None or np.dtype(dtype) == a._a.dtype) and \
            _has_order(a._a, order):
        return a
    if copy is False:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    return array(a, dtype, False, order or "K", blocking=blocking)


asanyarray = asarray


def ascontiguousarray(a: Any, dtype: Any = None) -> Any:
    """The array in C order, at least 1-dim; ``a`` itself if it is so."""
    if not isinstance(a, Array):
        return array(a, dtype, order="C", ndmin=1)
    if a._a.ndim and a._a.flags.c_contiguous and (dtype is None or np.dtype(dtype) == a._a.dtype):
        return a
    return run(lambda x: np.array(x, dtype, order="C", ndmin=1, copy=True), (a,), {})


def asfortranarray(a: Any, dtype: Any = None) -> Any:
    """The array in Fortran order."""
    return array(a, dtype, False, "F")


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *,
            blocking: bool = True) -> Any:
    """The array copied to the host."""
    if isinstance(a, Array):
        return a.get(stream, order, out, blocking)              # type: ignore[attr-defined]
    r = np.asarray(a, order=order)                              # type: ignore[call-overload]
    if out is None:
        return r
    out[...] = r
    return out


def empty(shape: Any, dtype: Any = float, order: str = "C") -> Any:
    """New memory: NaN or odd numbers, as nothing has been written there."""
    return fresh(_garbage(shape, check_dtype(dtype), order))


def empty_like(prototype: Any, dtype: Any = None, order: str = "K", subok: Any = None,
               shape: Any = None) -> Any:
    """New memory of an array's shape and dtype."""
    _no_subok(subok)
    x = _like(prototype, dtype, order, shape)
    fill_with_garbage(x)
    return fresh(x)


def _no_subok(subok: Any) -> None:
    if subok is not None:
        raise TypeError("subok is not supported yet")


def _like(a: Any, dtype: Any, order: Any, shape: Any) -> Any:
    host: Any = a._a if isinstance(a, Array) else a
    return np.empty_like(host, check_dtype(dtype or host.dtype), order, False, shape)


def _new(shape: Any, dtype: Any, order: str) -> Any:
    return np.empty(shape, check_dtype(dtype), "F" if order == "F" else "C")


def _filled(a: Any, value: Any) -> Any:
    """A device array of the new host array ``a``, filled; again at each replay."""
    a.fill(value)
    x = fresh(a)
    if switches.captures and (graph := recording()) is not None:
        fill_with_garbage(a)
        graph._add(lambda: a.fill(value), (), (x,))
    return x


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> Any:
    return _filled(_new(shape, dtype, order), 0)


def ones(shape: Any, dtype: Any = float, order: str = "C") -> Any:
    return _filled(_new(shape, dtype, order), 1)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> Any:
    if isinstance(fill_value, Array):
        x = empty(shape, dtype or fill_value._a.dtype, order)
        x[...] = fill_value
        return x
    dtype = np.array(fill_value).dtype if dtype is None else dtype
    return _filled(_new(shape, dtype, order), fill_value)


def zeros_like(a: Any, dtype: Any = None, order: str = "K", subok: Any = None,
               shape: Any = None) -> Any:
    _no_subok(subok)
    return _filled(_like(a, dtype, order, shape), 0)


def ones_like(a: Any, dtype: Any = None, order: str = "K", subok: Any = None,
              shape: Any = None) -> Any:
    _no_subok(subok)
    return _filled(_like(a, dtype, order, shape), 1)


def full_like(a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: Any = None,
              shape: Any = None) -> Any:
    _no_subok(subok)
    if isinstance(fill_value, Array):
        x = empty_like(a, dtype, order, None, shape)
        x[...] = fill_value
        return x
    return _filled(_like(a, dtype, order, shape), fill_value)


def get_array_module(*args: Any) -> Any:
    """This module if any argument is a device array, else NumPy."""
    if any([isinstance(a, ndarray) for a in args]):
        from gpugrad.cudasim import cupy

        return cupy
    return np
