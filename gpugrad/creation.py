"""Tensors made from data, of one number, and of numbers in a row."""
from __future__ import annotations

import math
import os
import warnings
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._state import listening
from gpugrad._tensor import Tensor, wrap
from gpugrad.backend import Backend, cpu, get
from gpugrad.backend.random import scale_shift
from gpugrad.factory import (
    begin,
    check_options,
    dtype_of,
    empty_as,
    finish,
    finish_constant,
    integer,
    into_out,
    number,
    on_device,
    order_of,
    placed,
    scalar_of,
    shape_of,
    tensor_arg,
    tuple_of,
)
from gpugrad.parsing import (
    array_of,
    by_dlpack,
    check_array,
    is_device_array,
    shared_by_dlpack,
)

_NOT_GIVEN: Any = object()

# From data ---------------------------------------------------------------------------------------


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
           pin_memory: bool = False) -> Tensor:
    """A new leaf with a copy of data: numbers, nested sequences of them, arrays.

    Floats become the default dtype, ints int64; arrays and NumPy numbers keep their dtype.
    """
    d = dtype_of("tensor", dtype, None)
    if isinstance(data, Tensor):
        warnings.warn("To copy construct from a tensor, it is recommended to use "
                      "sourceTensor.detach().clone() or "
                      "sourceTensor.detach().clone().requires_grad_(True), rather than "
                      "torch.tensor(sourceTensor).", stacklevel=2)
        be = data._be if device is None else get(device)
        return copied(data, d, be, requires_grad, pin_memory)
    return copied(data, d, get(device), requires_grad, pin_memory)


def copied(data: Any, d: Any, be: Backend, requires_grad: bool = False,
            pin: bool = False) -> Tensor:
    """torch.tensor() without its warning: ``d`` an array dtype or None."""
    if isinstance(data, Tensor):
        a = be.copy(data._a) if data._be is be else be.from_device(data._a, data._be)
        return finish(a if d is None else be.guard(a.astype)(d, copy=False), be, requires_grad, pin)
    if is_device_array(data, be):
        return finish(be.copy(dtypes.adopt(data) if d is None else data.astype(d)), be,
                      requires_grad, pin)
    if by_dlpack(data):
        return copied(shared_by_dlpack(data), d, be, requires_grad, pin)
    return finish_constant(on_device(array_of(data, d), be), be, requires_grad, pin)


# NumPy's own dtypes that tensors have, by their characters.
PLAIN = {d.char: d for d in dtypes.OF if d.kind in "fciub"}


def from_numpy(ndarray: Any) -> Tensor:
    """A CPU tensor that shares the memory of a NumPy array."""
    if type(ndarray) is np.ndarray and PLAIN.get((d := ndarray.dtype).char) is d and \
            ndarray.flags.carray and 1 not in ndarray.shape:    # whose stride may be negative
        return wrap(ndarray, cpu)
    if not isinstance(ndarray, np.ndarray):
        kind = type(ndarray)
        where = "numpy." if kind.__module__ == "numpy" else ""
        raise TypeError(f"expected np.ndarray (got {where}{kind.__name__})")
    check_array(ndarray)
    ndarray = dtypes.adopt(ndarray)
    if not ndarray.flags.writeable:
        warnings.warn("The given NumPy array is not writable: writing to the tensor will raise an "
                      "error. Use torch.tensor(array) for a copy.", stacklevel=2)
    return wrap(ndarray, cpu)


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


def from_file(filename: Any, shared: bool = False, size: int = 0, *, dtype: Any = None,
              layout: Any = None, device: Any = None, pin_memory: bool = False) -> Tensor:
    """A CPU tensor of the first ``size`` elements of a file, mapped into memory.

    shared: writes go to the file, which is made or lengthened if need be; else they stay here.
    """
    be, d = begin("from_file", dtype, device, None, layout)
    if be is not cpu:
        raise RuntimeError(f"from_file() maps files for the CPU alone, not for {be.device}")
    path, needed = os.fspath(filename), size * d.itemsize
    if shared:
        with open(path, "ab") as f:
            if f.tell() < needed:
                f.truncate(needed)
    elif os.path.getsize(path) < needed:
        raise RuntimeError(f"unable to mmap {needed} bytes from file <{path}>: it has "
                           f"{os.path.getsize(path)}")
    if not size:
        return finish(np.empty(0, d), be, False, pin_memory)
    mapped = np.memmap(path, d, "r+" if shared else "c", shape=(size,))
    return finish(np.asarray(mapped), be, False, pin_memory)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of data, sharing its memory and keeping its history where that is possible."""
    d = dtype_of("as_tensor", dtype, None)
    if isinstance(data, Tensor):
        return _converted(data, d, device)
    if not isinstance(data, np.ndarray) and hasattr(data, "__cuda_array_interface__"):
        be = get(_cuda_device(data) if device is None else device)
        data = data if isinstance(data, be.ndarray) or not be.index else be.xp.asarray(data)
    else:
        be = get(device)
        if by_dlpack(data):
            x = shared_by_dlpack(data)
            return _converted(x, d, be.device if device is not None or x.is_cpu else None)
    if isinstance(data, np.ndarray):
        check_array(data)
        a = dtypes.adopt(data if d is None else data.astype(d, copy=False))
        return finish(a if be is cpu else be.from_host(a), be)
    if is_device_array(data, be):
        return finish(dtypes.adopt(data if d is None else data.astype(d, copy=False)), be)
    return copied(data, d, be)


def _cuda_device(data: Any) -> str:
    """Where the array of another library is; the current device, if it doesn't say."""
    index = getattr(getattr(data, "device", None), "id", None)
    return "cuda" if index is None else f"cuda:{index}"


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
            t = copied(obj, d, be)
    else:
        t = as_tensor(obj, dtype, device)
    if requires_grad:
        if t._a.dtype.kind not in dtypes.INEXACT:
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
    if out is not None:
        return into_out(zeros, out, *sizes, size=size, dtype=dtype, layout=layout, device=device)
    be, d = begin("zeros", dtype, device, out, layout)
    return finish(be.xp.zeros(shape_of("zeros", sizes, size), d), be, requires_grad, pin_memory)


def ones(*sizes: Any, size: Any = None, out: Any = None, dtype: Any = None, layout: Any = None,
         device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """Filled with 1."""
    if out is not None:
        return into_out(ones, out, *sizes, size=size, dtype=dtype, layout=layout, device=device)
    be, d = begin("ones", dtype, device, out, layout)
    return finish(be.xp.ones(shape_of("ones", sizes, size), d), be, requires_grad, pin_memory)


def empty(*sizes: Any, size: Any = None, out: Any = None, dtype: Any = None, layout: Any = None,
          device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
          memory_format: Any = None) -> Tensor:
    """Not initialised."""
    if out is not None:
        return into_out(empty, out, *sizes, size=size, dtype=dtype, layout=layout, device=device)
    be, d = begin("empty", dtype, device, out, layout)
    shape = shape_of("empty", sizes, size)
    if memory_format is None:
        return finish(be.empty(shape, d), be, requires_grad, pin_memory)
    order = order_of("empty", memory_format, len(shape))
    packed = be.empty(tuple([shape[i] for i in order]), d)
    return finish(packed.transpose(np.argsort(order).tolist()), be, requires_grad, pin_memory)


def full(size: Any, fill_value: Any, *, out: Any = None, dtype: Any = None, layout: Any = None,
         device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """Filled with fill_value, whose type gives the dtype if none is named."""
    if out is not None:
        return into_out(full, out, size, fill_value, dtype=dtype, layout=layout, device=device)
    be = begin("full", dtype, device, out, layout)[0]
    value = number("full", "fill_value", 2, fill_value)
    shape = tuple_of("full", size, 1)
    d = dtype_of("full", dtype, dtypes.of_number(value))
    return finish(be.xp.full(shape, scalar_of(value, d), d), be, requires_grad, pin_memory)


def scalar_tensor(s: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
                  pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """A 0-dim tensor of a number, of the default dtype if none is named."""
    be, d = begin("scalar_tensor", dtype, device, None, layout)
    value = scalar_of(number("scalar_tensor", "s", 1, s), d)
    return finish(be.xp.full((), value, d), be, requires_grad, pin_memory)


def _like(name: str, input: Any, value: Any, dtype: Any, layout: Any, device: Any,
          requires_grad: bool, memory_format: Any, pin: bool) -> Tensor:
    """A tensor like input, filled with a number unless that is None."""
    a = tensor_arg(name, input)._a
    if layout is not None:
        check_options(name, None, layout)
    be = input._be if device is None else get(device)
    x = empty_as(be, a, dtype_of(name, dtype, a.dtype), memory_format, name)
    if value is not None:
        x[...] = scalar_of(value, x.dtype)
        if listening[0] is not None:
            listening[0].wrote(x, scalar_of(value, x.dtype))
    return finish(x, be, requires_grad, pin)


@placed
def zeros_like(input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
               pin_memory: bool = False, requires_grad: bool = False,
               memory_format: Any = None) -> Tensor:
    """Filled with 0, with the shape, dtype and device of input."""
    return _like("zeros_like", input, 0, dtype, layout, device, requires_grad, memory_format,
                 pin_memory)


@placed
def ones_like(input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
              pin_memory: bool = False, requires_grad: bool = False,
              memory_format: Any = None) -> Tensor:
    """Filled with 1, with the shape, dtype and device of input."""
    return _like("ones_like", input, 1, dtype, layout, device, requires_grad, memory_format,
                 pin_memory)


@placed
def empty_like(input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
               pin_memory: bool = False, requires_grad: bool = False,
               memory_format: Any = None) -> Tensor:
    """Not initialised, with the shape, dtype and device of input."""
    return _like("empty_like", input, None, dtype, layout, device, requires_grad, memory_format,
                 pin_memory)


@placed
def full_like(input: Tensor, fill_value: Any, *, dtype: Any = None, layout: Any = None,
              device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
              memory_format: Any = None) -> Tensor:
    """Filled with fill_value, with the shape, dtype and device of input."""
    value = number("full_like", "fill_value", 2, fill_value)
    return _like("full_like", input, value, dtype, layout, device, requires_grad, memory_format,
                 pin_memory)


def empty_strided(size: Any, stride: Any, *, dtype: Any = None, layout: Any = None,
                  device: Any = None, requires_grad: bool = False,
                  pin_memory: bool = False) -> Tensor:
    """Not initialised, with the given steps, in elements, from one index to the next."""
    be, d = begin("empty_strided", dtype, device, None, layout)
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
    a = be.xp.lib.stride_tricks.as_strided(memory, shape, strides)
    return finish_constant(a, be, requires_grad, pin_memory)


def empty_permuted(size: Any, physical_layout: Any, *, dtype: Any = None, layout: Any = None,
                   device: Any = None, requires_grad: bool = False,
                   pin_memory: bool = False) -> Tensor:
    """Not initialised, with the dims in memory in the order of physical_layout, longest step first.
    """
    be, d = begin("empty_permuted", dtype, device, None, layout)
    shape, order = tuple_of("empty_permuted", size, 1), tuple(physical_layout)
    if len(shape) != len(order):
        raise RuntimeError("Number of dimensions in size does not match the length of the "
                           f"physical_layout; i.e. len(size) = {len(shape)} is not equal to "
                           f"len(physical_layout) = {len(order)}")
    for i, k in enumerate(order):
        if not 0 <= k < len(shape):
            raise RuntimeError("Dimension out of range (expected to be between 0 and "
                               f"{len(shape) - 1}, but got {k} at index {i}).  NB: negative dims "
                               "not currently supported")
    if len(set(order)) < len(order):
        raise RuntimeError("Duplicate dim not allowed")
    packed = be.empty(tuple([shape[k] for k in order]), d)
    return finish(packed.transpose(np.argsort(order).tolist()), be, requires_grad, pin_memory)


# Numbers in a row --------------------------------------------------------------------------------

@placed
def arange(start: Any = _NOT_GIVEN, end: Any = _NOT_GIVEN, step: Any = 1, *, out: Any = None,
           dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
           requires_grad: bool = False) -> Tensor:
    """start, start + step, ... up to but without end: ``arange(5)``, ``arange(1, 5)``.

    int64 if all three are integers, else the default dtype.
    """
    be = begin("arange", dtype, device, out, layout)[0]
    if start is _NOT_GIVEN and end is _NOT_GIVEN:
        raise TypeError("arange() received an invalid combination of arguments - got (): it takes "
                        "(end), (start, end) or (start, end, step)")
    if end is _NOT_GIVEN:
        start, end = 0, number("arange", "end", 1, start)
    start = number("arange", "start", 1, 0 if start is _NOT_GIVEN else start)
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
    if d.kind in dtypes.FLOATING:
        n = math.ceil((end - start) / step)
        x = scale_shift(be.xp.arange(n, dtype=np.float64), np.float64(step), np.float64(start))
        return finish_constant(x.astype(d, copy=False), be, requires_grad, pin_memory)
    first, by = int(scalar_of(start, dtypes.int64.np)), int(step)
    if d == np.int64:
        n = -((first - int(scalar_of(end, d))) // by) if by else 0
    else:
        n = math.ceil((end - start) / step)
    x = (be.xp.arange(n) * by + first).astype(d, copy=False)
    return finish_constant(x, be, requires_grad, pin_memory)


@placed
def range(start: Any = 0, end: Any = None, step: Any = 1, *, out: Any = None, dtype: Any = None,
          layout: Any = None, device: Any = None, pin_memory: bool = False,
          requires_grad: bool = False) -> Tensor:
    """start, start + step, ... up to and with end. Deprecated: arange() leaves end out."""
    warnings.warn("torch.range is deprecated and will be removed in a future release because its "
                  "behavior is inconsistent with Python's range builtin. Instead, use torch.arange,"
                  " which produces values in [start, end).", stacklevel=3)
    if end is None:
        raise TypeError('range() missing 1 required positional arguments: "end"')
    be, d = begin("range", dtype, device, out, layout)
    start, end = number("range", "start", 1, start), number("range", "end", 2, end)
    step = number("range", "step", 3, step)
    if d.kind in "bc":
        raise NotImplementedError(f'"range_cpu" not implemented for \'{dtypes.type_name(d)}\'')
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start:g} -> {end:g}")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    n = int((end - start) / step) + 1
    wide = np.float64 if d.kind in dtypes.FLOATING else np.int64
    x = wide(start) + be.xp.arange(n) * wide(step)
    return finish_constant(x.astype(d, copy=False), be, requires_grad, pin_memory)


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
    """Evenly spaced numbers, counted from the nearer end, in arithmetic of one inexact type."""
    if steps < 2:
        return be.xp.full((steps,), number(start))
    step = (number(end) - number(start)) / number(steps - 1)
    if isinstance(step, np.complexfloating):
        i = be.xp.arange(steps)
        return be.xp.where(i < steps // 2, number(start) + i * step,
                           number(end) - (steps - 1 - i) * step).astype(number)
    i = be.xp.arange(steps)
    left, right = i[:steps // 2].astype(number), (i[steps // 2:] - (steps - 1)).astype(number)
    return be.xp.concatenate([scale_shift(left, step, number(start)),
                              scale_shift(right, step, number(end))])


def _of_complex_ends(name: str, dtype: Any, d: Any) -> Any:
    """The array dtype of a row of complex numbers."""
    if dtype is None:
        return np.result_type(d, np.complex64)
    if d.kind != "c":
        raise RuntimeError(f"torch.{name}(): inferred dtype c10::complex<float> can't be safely "
                           f"cast to passed dtype {dtypes.type_name(d)}")
    return d


@placed
def linspace(start: Any, end: Any, steps: int, *, out: Any = None, dtype: Any = None,
             layout: Any = None, device: Any = None, pin_memory: bool = False,
             requires_grad: bool = False) -> Tensor:
    """``steps`` numbers from start to end, both included, evenly spaced."""
    be, d = begin("linspace", dtype, device, out, layout)
    start, end, steps = _ends("linspace", start, end, steps)
    if d.kind == "b":
        raise NotImplementedError("\"linspace_cpu\" not implemented for 'Bool'")
    if isinstance(start, complex) or isinstance(end, complex):
        d = _of_complex_ends("linspace", dtype, d)
    if d.kind in dtypes.INEXACT:
        x = _spaced(be, start, end, steps, d.type)
    else:
        x = _spaced(be, int(scalar_of(start, d)), int(scalar_of(end, d)), steps, np.float64)
    return finish_constant(x.astype(d, copy=False), be, requires_grad, pin_memory)


@placed
def logspace(start: Any, end: Any, steps: int, base: float = 10.0, *, out: Any = None,
             dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
             requires_grad: bool = False) -> Tensor:
    """``steps`` numbers from base ** start to base ** end, the exponents evenly spaced."""
    be, d = begin("logspace", dtype, device, out, layout)
    start, end, steps = _ends("logspace", start, end, steps)
    if isinstance(start, complex) or isinstance(end, complex):
        d = _of_complex_ends("logspace", dtype, d)
    if d.kind == "b":
        raise NotImplementedError('"logspace_cpu" not implemented for \'Bool\'')
    if isinstance(base, str) or not hasattr(base, "__float__"):
        raise TypeError(f"logspace(): argument 'base' must be float, not {type(base).__name__}")
    wide = np.complex128 if d.kind == "c" else np.float64
    first, last = (wide(scalar_of(v, d)) for v in (start, end))
    x = wide(base) ** _spaced(be, first, last, steps, wide)
    return finish_constant(x.astype(d, copy=False), be, requires_grad, pin_memory)


def eye(n: int, m: int | None = None, *, out: Any = None, dtype: Any = None, layout: Any = None,
        device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """1 on the diagonal of an (n, m) matrix, m = n by default, 0 elsewhere."""
    if out is not None:
        return into_out(eye, out, n, m, dtype=dtype, layout=layout, device=device)
    be, d = begin("eye", dtype, device, out, layout)
    n = integer("eye", "n", 1, n)
    m = n if m is None else integer("eye", "m", 2, m)
    for name, value in (("n", n), ("m", m)):
        if value < 0:
            raise RuntimeError(f"{name} must be greater or equal to 0, got {value}")
    return finish(be.xp.eye(n, m, dtype=d), be, requires_grad, pin_memory)


def _triangle(name: str, row: int, col: int, offset: int, dtype: Any, device: Any,
              layout: Any) -> Tensor:
    be = begin(name, dtype, device, None, layout)[0]
    d = dtype_of(name, dtype, dtypes.int64.np)
    for what, value in (("row", row), ("col", col)):
        if value < 0:
            raise RuntimeError(f"{what} must be non-negative, got{value}")
    if d.name not in ("int64", "int32"):
        raise NotImplementedError(f'"{name}" not implemented for \'{dtypes.type_name(d)}\'')
    i, j = np.indices((row, col))
    inside = j - i <= offset if name == "tril_indices" else j - i >= offset
    return finish_constant(on_device(np.stack([i[inside], j[inside]]).astype(d), be), be)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None,
                 layout: Any = None) -> Tensor:
    """Rows and columns, (2, n), of a matrix's elements on and below a diagonal, row by row."""
    return _triangle("tril_indices", row, col, offset, dtype, device, layout)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None,
                 layout: Any = None) -> Tensor:
    """Rows and columns, (2, n), of a matrix's elements on and above a diagonal, row by row."""
    return _triangle("triu_indices", row, col, offset, dtype, device, layout)
