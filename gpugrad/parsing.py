"""Python numbers, nested sequences and NumPy arrays as one new array: what torch.tensor() reads."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor
from gpugrad.backend import Backend
from gpugrad.factory import fits


def check_array(a: Any) -> None:
    """Raise unless a tensor can have the dtype and the strides of a NumPy array."""
    if a.dtype not in dtypes.OF or a.dtype.kind == "V":      # as in PyTorch no bfloat16 either
        if a.dtype.kind != "V" and a.dtype.newbyteorder("=") in dtypes.OF:
            raise ValueError("given numpy array has byte order different from the native byte "
                             "order. Conversion between byte orders is currently not supported. "
                             "Use array.astype(array.dtype.newbyteorder('=')).")
        kind = a.dtype.type
        raise TypeError(f"can't convert np.ndarray of type {kind.__module__}.{kind.__name__}. The "
                        f"only supported types are: float64, float32, float16, complex64, "
                        f"complex128, int64, int32, int16, int8, uint64, uint32, uint16, uint8, "
                        f"and bool.")
    if min(a.strides, default=0) < 0:
        raise ValueError("At least one stride in the given numpy array is negative, and tensors "
                         "with negative strides are not currently supported. (You can probably "
                         "work around this by making a copy of your array  with array.copy().) ")


def is_device_array(data: Any, be: Backend) -> bool:
    """Is data an array of the device's own kind, such as CuPy's, other than NumPy's?"""
    if be.ndarray is np.ndarray or not isinstance(data, be.ndarray):
        return False
    dtypes.meet(data.dtype)
    return True


def array_of(data: Any, dtype: Any = None) -> np.ndarray[Any, Any]:
    """A new array of anything that torch.tensor() takes, but for tensors.

    Without a dtype it is inferred: from arrays and NumPy numbers as it is, floats are of the
    default dtype, ints int64; in a mixture the highest category wins.
    """
    if isinstance(data, np.ndarray | np.generic):
        a = np.asarray(data)
        check_array(a)
        with np.errstate(invalid="ignore", over="ignore"):
            return dtypes.adopt(np.array(a, a.dtype if dtype is None else dtype, order="C"))
    if dtype is None and type(data) in (float, bool):
        return np.array(data, dtypes.of_number(data))
    shape: list[int] = []
    first = data
    while _is_sequence(first):
        shape.append(len(first))
        if not shape[-1]:
            break
        first = first[0]
    if isinstance(first, str) and shape:
        raise ValueError("too many dimensions 'str'")
    flat: list[Any] = []
    _flatten(data, shape, 0, flat)
    flat = _numbers(flat)
    if dtype is None:
        dtype = _inferred(flat)
    return _filled(flat, dtype).reshape(shape) if flat else np.empty(shape, dtype)


def _is_sequence(x: Any) -> bool:
    if isinstance(x, list | tuple):
        return True
    if isinstance(x, str | bytes | dict | Tensor | np.generic):
        return False
    if isinstance(x, np.ndarray):
        return x.ndim > 0
    return hasattr(x, "__len__") and hasattr(x, "__getitem__")


def _flatten(data: Any, shape: list[int], dim: int, flat: list[Any]) -> None:
    """Append the elements of nested sequences to ``flat``; the shape is that of their firsts."""
    if dim == len(shape):
        flat.append(data)
        return
    if not _is_sequence(data):
        raise TypeError("not a sequence")
    if len(data) != shape[dim]:
        raise ValueError(f"expected sequence of length {shape[dim]} at dim {dim} (got {len(data)})")
    if dim + 1 < len(shape):
        for part in data:
            _flatten(part, shape, dim + 1, flat)
    else:
        flat.extend(data)


_PLAIN = frozenset((float, int, bool, complex))


def _numbers(flat: list[Any]) -> list[Any]:
    """The elements, each a Python or a NumPy number."""
    return flat if _PLAIN.issuperset(map(type, flat)) else [_number(x) for x in flat]


def _number(x: Any) -> Any:
    if isinstance(x, bool | int | float | complex | np.number | np.bool_):
        return x
    if isinstance(x, Tensor):
        if x._a.size != 1 and x._a.dtype.kind in "iub":
            raise TypeError("only integer tensors of a single element can be converted to an index")
        if x._a.size != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        return np.asarray(x._be.to_host(x._a)).reshape(())[()]
    if isinstance(x, np.ndarray) and x.ndim == 0:
        return x[()]
    if isinstance(x, str | bytes):
        raise TypeError(f"new(): invalid data type '{type(x).__name__}'")
    if isinstance(x, list | tuple):
        raise TypeError(f"'{type(x).__name__}' object cannot be interpreted as an integer")
    raise RuntimeError(f"Could not infer dtype of {type(x).__name__}")


def _inferred(flat: list[Any]) -> Any:
    """The dtype of a mixture of numbers."""
    kinds = [np.dtype(kind) if issubclass(kind, np.generic) else dtypes.of_number(kind())
             for kind in set(map(type, flat))]
    if not kinds:
        return dtypes.default_np()
    return dtypes.promote(*[np.empty(1, kind) for kind in kinds])


def _filled(flat: list[Any], dtype: Any) -> np.ndarray[Any, Any]:
    """The numbers as a 1-dim array; RuntimeError if one doesn't fit an integer dtype."""
    if dtype.kind in "iu":
        return _integers(flat, dtype)
    if dtype.kind == "b":
        return np.array([bool(x) for x in flat], np.bool_)
    if dtype.kind in dtypes.FLOATING and any(isinstance(x, complex) for x in flat):
        raise TypeError("must be real number, not complex")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(flat, dtype)             # too large a float becomes inf


def _integers(flat: list[Any], dtype: Any) -> np.ndarray[Any, Any]:
    if not all(isinstance(x, int | np.integer | np.bool_) for x in flat):
        flat = [int(x) if math.isfinite(x) and fits(x, dtype) else _too_large(dtype) for x in flat]
    else:
        flat = [int(x) for x in flat]
    if flat:
        low, high = min(flat), max(flat)
        if low < -(1 << 63) or high >= 1 << (64 if dtype.name == "uint64" else 63):
            raise ValueError("Overflow when unpacking long long")
        if not (fits(low, dtype) and fits(high, dtype)):
            _too_large(dtype)
        if low < 0 and dtype.kind == "u":
            flat = [x % (1 << 8 * dtype.itemsize) for x in flat]
    return np.array(flat, dtype)


def _too_large(dtype: Any) -> Any:
    raise RuntimeError(f"value cannot be converted to type {dtype.name} without overflow")


def by_dlpack(data: Any) -> bool:
    """Is it an array of another library that shares it so, as JAX does?"""
    return hasattr(data, "__dlpack__") and not isinstance(data, np.ndarray) \
        and not hasattr(data, "__cuda_array_interface__")


def shared_by_dlpack(data: Any) -> Tensor:
    """A tensor in its memory."""
    from gpugrad.functions.protocol import from_dlpack

    return from_dlpack(data)
