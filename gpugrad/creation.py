"""Tensors made from data, of one number, and of numbers in a row."""
from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor
from gpugrad.backend import Backend, cpu, get
from gpugrad.backend.random import scale_shift
from gpugrad.factory import (
    begin,
    check_options,
    dtype_of,
    empty_as,
    finish,
    integer,
    number,
    on_device,
    order_of,
    scalar_of,
    shape_of,
    tensor_arg,
    tuple_of,
)
from gpugrad.parsing import array_of, check_array, is_device_array

# From data ---------------------------------------------------------------------------------------


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
           pin_memory: bool = False) -> Tensor:
    """A new leaf with a copy of data: numbers, nested sequences of them, arrays.

    Floats become the default dtype, ints int64; arrays and NumPy numbers keep their dtype.
    """
    check_options("tensor", pin_memory=pin_memory)
    d = dtype_of("tensor", dtype, None)
    if isinstance(data, Tensor):
        warnings.warn("To copy construct from a tensor, it is recommended to use "
                      "sourceTensor.detach().clone() or "
                      "sourceTensor.detach().clone().requires_grad_(True), rather than "
                      "torch.tensor(sourceTensor).", stacklevel=2)
        be = data._be if device is None else get(device)
        return _copied(data, d, be, requires_grad)
    return _copied(data, d, get(device), requires_grad)


def _copied(data: Any, d: Any, be: Backend, requires_grad: bool = False) -> Tensor:
    """torch.tensor() without its warning: ``d`` an array dtype or None."""
    if isinstance(data, Tensor):
        a = be.copy(data._a) if data._be is be else be.from_device(data._a, data._be)
        return finish(a if d is None else a.astype(d, copy=False), be, requires_grad)
    if is_device_array(data, be):
        return finish(be.copy(data if d is None else data.astype(d)), be, requires_grad)
    return finish(on_device(array_of(data, d), be), be, requires_grad)


def from_numpy(ndarray: Any) -> Tensor:
    """A CPU tensor that shares the memory of a NumPy array."""
    if not isinstance(ndarray, np.ndarray):
        kind = type(ndarray)
        where = "numpy." if kind.__module__ == "numpy" else ""
        raise TypeError(f"expected np.ndarray (got {where}{kind.__name__})")
    check_array(ndarray)
    if not ndarray.flags.writeable:
        warnings.warn("The given NumPy array is not writable: writing to the tensor will raise an "
                      "error. Use torch.tensor(array) for a copy.", stacklevel=2)
    return finish(ndarray, cpu)


def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0,
               requires_grad: bool = False) -> Tensor:
    """A 1-dim CPU tensor that shares the memory of bytes, a bytearray or another buffer.

    count: how many elements, -1 for all; offset: how many bytes to skip.
    """
    d = dtype_of("frombuffer", dtype, None)
    size = memoryview(buffer).nbytes
    if size - offset < 1:
        raise ValueError(f"offset ({offset} bytes) must be non-negative and no greater than buffer "
                         f"length ({size} bytes) minus 1")
    if count < 0 and (size - offset) % d.itemsize:
        raise ValueError(f"buffer length ({size - offset} bytes) after offset ({offset} bytes) "
                         f"must be a multiple of element size ({d.itemsize})")
    if count == 0 or offset + count * d.itemsize > size:
        raise ValueError(f"requested buffer length ({count} * {d.itemsize} bytes) after offset "
                         f"({offset} bytes) must not be greater than actual buffer length ({size} "
                         f"bytes), nor 0")
    return finish(np.frombuffer(buffer, d, count, offset), cpu, requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of data, sharing its memory and keeping its history where that is possible."""
    d = dtype_of("as_tensor", dtype, None)
    if isinstance(data, Tensor):
        return _converted(data, d, device)
    be = get(device)
    if isinstance(data, np.ndarray):
        check_array(data)
        a = data if d is None else data.astype(d, copy=False)
        return finish(a if be is cpu else be.from_host(a), be)
    if is_device_array(data, be):
        return finish(data if d is None else data.astype(d, copy=False), be)
    return _copied(data, d, be)


def _converted(x: Tensor, d: Any, device: Any) -> Tensor:
    """x of another dtype and on another device, x itself if there is nothing to do."""
    if d is not None and d != x._a.dtype:
        x = x.to(dtypes.OF[d])
    if device is not None and get(device) is not x._be:
        x = x.to(device)
    return x


def asarray(obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None,
            requires_grad: bool | None = None) -> Tensor:
    """A tensor of obj: a copy with copy=True, its memory or ValueError with copy=False.

    requires_grad: None for that of obj if it is a tensor, else False.
    """
    d = dtype_of("asarray", dtype, None)
    if isinstance(obj, bytes | bytearray | memoryview):
        obj, d, dtype = frombuffer(obj, dtype=dtype or dtypes.get_default_dtype()), None, None
    if copy is False:
        _check_alias(obj, d, device)
    if copy:
        be = obj._be if isinstance(obj, Tensor) and device is None else get(device)
        if isinstance(obj, Tensor) and requires_grad is not False:
            t = _converted(obj.clone(), d, device)
        else:
            t = _copied(obj, d, be)
    else:
        t = as_tensor(obj, dtype, device)
    if requires_grad:
        if t._a.dtype.kind not in "fc":
            raise RuntimeError("Only Tensors of floating point and complex dtype can require "
                               "gradients")
        t.requires_grad_()
    elif requires_grad is False and t.requires_grad:
        t = t.detach()
    return t


def _check_alias(obj: Any, d: Any, device: Any) -> None:
    """Raise unless a tensor can share obj's memory."""
    a = obj._a if isinstance(obj, Tensor) else obj
    if not hasattr(a, "dtype") or not hasattr(a, "strides"):
        raise ValueError("can't alias arbitrary sequence into a tensor.")
    if d is not None and a.dtype != d:
        raise ValueError(f"can't alias tensor with dtype '{dtypes.type_name(a.dtype)}' into dtype "
                         f"'{dtypes.type_name(d)}'.")
    be = obj._be if isinstance(obj, Tensor) else cpu
    if device is not None and get(device) is not be and not is_device_array(a, get(device)):
        raise ValueError(f"can't alias tensor from device '{be.device}' to '{get(device).device}'.")


# Of one number -----------------------------------------------------------------------------------

def zeros(*sizes: Any, size: Any = None, out: Any = None, dtype: Any = None, layout: Any = None,
          device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """Filled with 0."""
    be, d = begin("zeros", dtype, device, out, layout, pin_memory)
    return finish(be.xp.zeros(shape_of("zeros", sizes, size), d), be, requires_grad)


def ones(*sizes: Any, size: Any = None, out: Any = None, dtype: Any = None, layout: Any = None,
         device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """Filled with 1."""
    be, d = begin("ones", dtype, device, out, layout, pin_memory)
    return finish(be.xp.ones(shape_of("ones", sizes, size), d), be, requires_grad)


def empty(*sizes: Any, size: Any = None, out: Any = None, dtype: Any = None, layout: Any = None,
          device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
          memory_format: Any = None) -> Tensor:
    """Not initialised."""
    be, d = begin("empty", dtype, device, out, layout, pin_memory)
    shape = shape_of("empty", sizes, size)
    if memory_format is None:
        return finish(be.empty(shape, d), be, requires_grad)
    order = order_of("empty", memory_format, len(shape))
    packed = be.empty(tuple([shape[i] for i in order]), d)
    return finish(packed.transpose(np.argsort(order).tolist()), be, requires_grad)


def full(size: Any, fill_value: Any, *, out: Any = None, dtype: Any = None, layout: Any = None,
         device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """Filled with fill_value, whose type gives the dtype if none is named."""
    be = begin("full", dtype, device, out, layout, pin_memory)[0]
    value = number("full", "fill_value", 2, fill_value)
    shape = tuple_of("full", size, 1)
    d = dtype_of("full", dtype, dtypes.of_number(value))
    return finish(be.xp.full(shape, scalar_of(value, d), d), be, requires_grad)


def scalar_tensor(s: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
                  pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """A 0-dim tensor of a number, of the default dtype if none is named."""
    be, d = begin("scalar_tensor", dtype, device, None, layout, pin_memory)
    value = scalar_of(number("scalar_tensor", "s", 1, s), d)
    return finish(be.xp.full((), value, d), be, requires_grad)


def _like(name: str, input: Any, value: Any, dtype: Any, layout: Any, device: Any,
          requires_grad: bool, memory_format: Any) -> Tensor:
    """A tensor like input, filled with a number unless that is None."""
    a = tensor_arg(name, input)._a
    if layout is not None:
        check_options(name, None, layout)
    be = input._be if device is None else get(device)
    x = empty_as(be, a, dtype_of(name, dtype, a.dtype), memory_format, name)
    if value is not None:
        x[...] = scalar_of(value, x.dtype)
    return finish(x, be, requires_grad)


def zeros_like(input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
               pin_memory: bool = False, requires_grad: bool = False,
               memory_format: Any = None) -> Tensor:
    """Filled with 0, with the shape, dtype and device of input."""
    return _like("zeros_like", input, 0, dtype, layout, device, requires_grad, memory_format)


def ones_like(input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
              pin_memory: bool = False, requires_grad: bool = False,
              memory_format: Any = None) -> Tensor:
    """Filled with 1, with the shape, dtype and device of input."""
    return _like("ones_like", input, 1, dtype, layout, device, requires_grad, memory_format)


def empty_like(input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
               pin_memory: bool = False, requires_grad: bool = False,
               memory_format: Any = None) -> Tensor:
    """Not initialised, with the shape, dtype and device of input."""
    return _like("empty_like", input, None, dtype, layout, device, requires_grad, memory_format)


def full_like(input: Tensor, fill_value: Any, *, dtype: Any = None, layout: Any = None,
              device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
              memory_format: Any = None) -> Tensor:
    """Filled with fill_value, with the shape, dtype and device of input."""
    value = number("full_like", "fill_value", 2, fill_value)
    return _like("full_like", input, value, dtype, layout, device, requires_grad, memory_format)


def empty_strided(size: Any, stride: Any, *, dtype: Any = None, layout: Any = None,
                  device: Any = None, requires_grad: bool = False,
                  pin_memory: bool = False) -> Tensor:
    """Not initialised, with the given steps, in elements, from one index to the next."""
    be, d = begin("empty_strided", dtype, device, None, layout, pin_memory)
    shape, steps = tuple_of("empty_strided", size, 1), tuple(stride)
    if len(shape) != len(steps):
        raise RuntimeError(f"dimensionality of sizes ({len(shape)}) must match dimensionality of "
                           f"strides ({len(steps)})")
    if any(s < 0 for s in steps):
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(shape)} and "
                           f"strides={list(steps)}")
    needed = 1 + sum([(n - 1) * s for n, s in zip(shape, steps)]) if math.prod(shape) else 0
    memory = be.empty((needed,), d)
    strides = tuple([s * d.itemsize for s in steps])
    return finish(be.xp.lib.stride_tricks.as_strided(memory, shape, strides), be, requires_grad)


# Numbers in a row --------------------------------------------------------------------------------

def arange(start: Any = None, end: Any = None, step: Any = 1, *, out: Any = None, dtype: Any = None,
           layout: Any = None, device: Any = None, pin_memory: bool = False,
           requires_grad: bool = False) -> Tensor:
    """start, start + step, ... up to but without end: ``arange(5)``, ``arange(1, 5)``.

    int64 if all three are integers, else the default dtype.
    """
    be = begin("arange", dtype, device, out, layout, pin_memory)[0]
    if start is None and end is None:
        raise TypeError("arange() received an invalid combination of arguments - got (): it takes "
                        "(end), (start, end) or (start, end, step)")
    if end is None:
        start, end = 0, number("arange", "end", 1, start)
    start = number("arange", "start", 1, 0 if start is None else start)
    end, step = number("arange", "end", 2, end), number("arange", "step", 3, step)
    whole = all(isinstance(v, int) for v in (start, end, step))
    d = dtype_of("arange", dtype, dtypes.int64.np if whole else dtypes.default_np())
    if d.kind in "bc":
        raise NotImplementedError(f'"arange_cpu" not implemented for \'{dtypes.type_name(d)}\'')
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start:g} -> {end:g}")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    if d.kind == "f":
        n = math.ceil((end - start) / step)
        x = scale_shift(be.xp.arange(n, dtype=np.float64), np.float64(step), np.float64(start))
        return finish(x.astype(d, copy=False), be, requires_grad)
    first, by = int(scalar_of(start, dtypes.int64.np)), int(step)
    if d == np.int64:
        n = -((first - int(scalar_of(end, d))) // by) if by else 0
    else:
        n = math.ceil((end - start) / step)
    return finish((be.xp.arange(n) * by + first).astype(d, copy=False), be, requires_grad)


def _ends(name: str, start: Any, end: Any, steps: Any) -> tuple[Any, Any, int]:
    for what, value in (("start", start), ("end", end)):
        if isinstance(value, Tensor) and value._a.ndim:
            raise RuntimeError(f"{name} only supports 0-dimensional start and end tensors, but got "
                               f"{what} with {value._a.ndim} dimension(s).")
    if isinstance(steps, bool) or not hasattr(steps, "__index__"):
        raise TypeError(f"{name}(): argument 'steps' must be int, not {type(steps).__name__}")
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    return number(name, "start", 1, start), number(name, "end", 2, end), int(steps)


def _spaced(be: Backend, start: Any, end: Any, steps: int, number: Any) -> Any:
    """Evenly spaced numbers, counted from the nearer end, in arithmetic of one floating type."""
    if steps < 2:
        return be.xp.full((steps,), number(start))
    step = (number(end) - number(start)) / number(steps - 1)
    i = be.xp.arange(steps)
    left, right = i[:steps // 2].astype(number), (i[steps // 2:] - (steps - 1)).astype(number)
    return be.xp.concatenate([scale_shift(left, step, number(start)),
                              scale_shift(right, step, number(end))])


def linspace(start: Any, end: Any, steps: int, *, out: Any = None, dtype: Any = None,
             layout: Any = None, device: Any = None, pin_memory: bool = False,
             requires_grad: bool = False) -> Tensor:
    """``steps`` numbers from start to end, both included, evenly spaced."""
    be, d = begin("linspace", dtype, device, out, layout, pin_memory)
    start, end, steps = _ends("linspace", start, end, steps)
    if d.kind == "b":
        raise NotImplementedError("\"linspace_cpu\" not implemented for 'Bool'")
    if d.kind == "c" or isinstance(start, complex) or isinstance(end, complex):
        raise NotImplementedError("linspace() of complex numbers is not supported: make the real "
                                  "and the imaginary part")
    if d.kind == "f":
        x = _spaced(be, start, end, steps, d.type)
    else:
        x = _spaced(be, int(scalar_of(start, d)), int(scalar_of(end, d)), steps, np.float64)
    return finish(x.astype(d, copy=False), be, requires_grad)


def logspace(start: Any, end: Any, steps: int, base: float = 10.0, *, out: Any = None,
             dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
             requires_grad: bool = False) -> Tensor:
    """``steps`` numbers from base ** start to base ** end, the exponents evenly spaced."""
    be, d = begin("logspace", dtype, device, out, layout, pin_memory)
    start, end, steps = _ends("logspace", start, end, steps)
    if d.kind in "bc":
        raise NotImplementedError(f'"logspace_cpu" not implemented for \'{dtypes.type_name(d)}\'')
    start, end = float(scalar_of(start, d)), float(scalar_of(end, d))
    x = np.float64(base) ** _spaced(be, start, end, steps, np.float64)
    return finish(x.astype(d, copy=False), be, requires_grad)


def eye(n: int, m: int | None = None, *, out: Any = None, dtype: Any = None, layout: Any = None,
        device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """1 on the diagonal of an (n, m) matrix, m = n by default, 0 elsewhere."""
    be, d = begin("eye", dtype, device, out, layout, pin_memory)
    n = integer("eye", "n", 1, n)
    m = n if m is None else integer("eye", "m", 2, m)
    for name, value in (("n", n), ("m", m)):
        if value < 0:
            raise RuntimeError(f"{name} must be greater or equal to 0, got {value}")
    return finish(be.xp.eye(n, m, dtype=d), be, requires_grad)


def _triangle(name: str, row: int, col: int, offset: int, dtype: Any, device: Any,
              layout: Any) -> Tensor:
    be = begin(name, dtype, device, None, layout, False)[0]
    d = dtype_of(name, dtype, dtypes.int64.np)
    for what, value in (("row", row), ("col", col)):
        if value < 0:
            raise RuntimeError(f"{what} must be non-negative, got{value}")
    if d.name not in ("int64", "int32"):
        raise NotImplementedError(f'"{name}" not implemented for \'{dtypes.type_name(d)}\'')
    i, j = np.indices((row, col))
    inside = j - i <= offset if name == "tril_indices" else j - i >= offset
    return finish(on_device(np.stack([i[inside], j[inside]]).astype(d), be), be)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None,
                 layout: Any = None) -> Tensor:
    """Rows and columns, (2, n), of a matrix's elements on and below a diagonal, row by row."""
    return _triangle("tril_indices", row, col, offset, dtype, device, layout)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None,
                 layout: Any = None) -> Tensor:
    """Rows and columns, (2, n), of a matrix's elements on and above a diagonal, row by row."""
    return _triangle("triu_indices", row, col, offset, dtype, device, layout)


# Methods: new tensors with the dtype and device of another, unless others are named ---------------

def new_tensor(self: Tensor, data: Any, *, dtype: Any = None, device: Any = None,
               requires_grad: bool = False, layout: Any = None, pin_memory: bool = False) -> Tensor:
    """torch.tensor(data), with this tensor's dtype and device."""
    check_options("new_tensor", None, layout, pin_memory)
    be = self._be if device is None else get(device)
    return _copied(data, dtype_of("new_tensor", dtype, self._a.dtype), be, requires_grad)


def _new(name: str, self: Tensor, shape: tuple[int, ...], value: Any, dtype: Any, device: Any,
         requires_grad: bool, layout: Any, pin_memory: bool) -> Tensor:
    if layout is not None or pin_memory:
        check_options(name, None, layout, pin_memory)
    be = self._be if device is None else get(device)
    d = dtype_of(name, dtype, self._a.dtype)
    a = be.empty(shape, d) if value is None else be.xp.full(shape, scalar_of(value, d), d)
    return finish(a, be, requires_grad)


def new_zeros(self: Tensor, *sizes: Any, size: Any = None, dtype: Any = None, device: Any = None,
              requires_grad: bool = False, layout: Any = None, pin_memory: bool = False) -> Tensor:
    """Filled with 0, with this tensor's dtype and device."""
    return _new("new_zeros", self, shape_of("new_zeros", sizes, size), 0, dtype, device,
                requires_grad, layout, pin_memory)


def new_ones(self: Tensor, *sizes: Any, size: Any = None, dtype: Any = None, device: Any = None,
             requires_grad: bool = False, layout: Any = None, pin_memory: bool = False) -> Tensor:
    """Filled with 1, with this tensor's dtype and device."""
    return _new("new_ones", self, shape_of("new_ones", sizes, size), 1, dtype, device,
                requires_grad, layout, pin_memory)


def new_empty(self: Tensor, *sizes: Any, size: Any = None, dtype: Any = None, device: Any = None,
              requires_grad: bool = False, layout: Any = None, pin_memory: bool = False) -> Tensor:
    """Not initialised, with this tensor's dtype and device."""
    return _new("new_empty", self, shape_of("new_empty", sizes, size), None, dtype, device,
                requires_grad, layout, pin_memory)


def new_full(self: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None,
             requires_grad: bool = False, layout: Any = None, pin_memory: bool = False) -> Tensor:
    """Filled with fill_value, with this tensor's dtype and device."""
    return _new("new_full", self, tuple_of("new_full", size, 1),
                number("new_full", "fill_value", 2, fill_value), dtype, device, requires_grad,
                layout, pin_memory)


def new_empty_strided(self: Tensor, size: Any, stride: Any, *, dtype: Any = None,
                      device: Any = None, requires_grad: bool = False, layout: Any = None,
                      pin_memory: bool = False) -> Tensor:
    """Not initialised, with the given steps and this tensor's dtype and device."""
    return empty_strided(size, stride, dtype=self.dtype if dtype is None else dtype,
                         device=self.device if device is None else device, layout=layout,
                         requires_grad=requires_grad, pin_memory=pin_memory)
