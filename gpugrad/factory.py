"""What the functions that make tensors share: sizes, dtypes, numbers, memory order, the result."""
from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad import dtypes, layouts
from gpugrad._state import listening, state
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.out import into
from gpugrad.backend import Backend, cpu, get, several
from gpugrad.layouts import memory_order as memory_order

# As PyTorch's messages name the types of numbers.
_C_NAMES = {"uint8": "uint8_t", "uint16": "uint16_t", "uint32": "uint32_t", "uint64": "uint64_t",
            "int8": "int8_t", "int16": "int16_t", "int32": "int", "int64": "int64_t",
            "float16": "c10::Half", "bfloat16": "c10::BFloat16", "float32": "float",
            "float64": "double", "complex64": "c10::complex<float>",
            "complex128": "c10::complex<double>"}


# Arguments ---------------------------------------------------------------------------------------

def shape_of(name: str, sizes: tuple[Any, ...], size: Any = None) -> tuple[int, ...]:
    """The shape from sizes given one by one, as one sequence, or by the keyword ``size``."""
    if size is not None:
        if sizes:
            raise TypeError(f"{name}() got multiple values for argument 'size'")
        sizes = (size,)
    elif not sizes:
        raise TypeError(f'{name}() missing 1 required positional arguments: "size"')
    several = isinstance(sizes[0], tuple | list)
    if several and len(sizes) > 1:
        raise TypeError(f"{name}() takes 1 positional argument but {len(sizes)} were given")
    shape = tuple(sizes[0]) if several else sizes
    if not all(type(n) is int for n in shape):
        shape = tuple([_size(name, shape, i, several) for i in range(len(shape))])
    for n in shape:
        if n < 0:
            raise RuntimeError("zeros: Dimension size must be non-negative." if name == "zeros" else
                               f"Trying to create tensor with negative dimension {n}: "
                               f"{list(shape)}")
    if math.prod(shape) >= 1 << 60:
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(shape)}")
    return shape


def _size(name: str, shape: tuple[Any, ...], i: int, several: bool) -> int:
    n = shape[i]
    try:
        if isinstance(n, bool) and i == 0:
            raise TypeError
        return operator.index(n)
    except TypeError:
        what = "numpy.ndarray" if isinstance(n, np.ndarray) else type(n).__name__
    if i:
        raise TypeError(f"{name}(): argument 'size' failed to unpack the object at pos {i + 1} "
                        f'with error "type must be tuple of ints,but got {what}"')
    if several:
        raise TypeError(f"{name}(): argument 'size' (position 1) must be tuple of ints, but found "
                        f"element of type {what} at pos 0")
    if len(shape) > 1:
        raise TypeError(f"{name}() takes 1 positional argument but {len(shape)} were given")
    raise TypeError(f"{name}(): argument 'size' (position 1) must be tuple of ints, not {what}")


def tuple_of(name: str, size: Any, position: int) -> tuple[int, ...]:
    """The shape from a size that has to be a sequence."""
    if not isinstance(size, tuple | list):
        raise TypeError(f"{name}(): argument 'size' (position {position}) must be tuple of ints, "
                        f"not {type(size).__name__}")
    return shape_of(name, (size,))


def integer(name: str, argument: str, position: int, value: Any) -> int:
    """An int argument: Python's, NumPy's, or a tensor with one integer."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}(): argument '{argument}' (position {position}) must be int, "
                        f"not {type(value).__name__}")
    return operator.index(value)


def number(name: str, argument: str, position: int, value: Any) -> Any:
    """A Python number from a Python or NumPy number or a 0-dim tensor."""
    if isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biufc":
        return value.item()
    if isinstance(value, Tensor) and value._a.ndim == 0:
        return value.item()
    raise TypeError(f"{name}(): argument '{argument}' (position {position}) must be Number, "
                    f"not {type(value).__name__}")


def tensor_arg(name: str, value: Any) -> Tensor:
    """The ``input`` of a function that takes a tensor first."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, "
                        f"not {type(value).__name__}")
    return value


def dtype_of(name: str, dtype: Any, default: Any) -> Any:
    """The array dtype of a ``dtype`` argument, or the default for None."""
    if dtype is None:
        return default
    try:
        return dtypes.as_dtype(dtype).np
    except TypeError:
        raise TypeError(f"{name}(): argument 'dtype' must be torch.dtype, "
                        f"not {type(dtype).__name__}") from None


def check_options(name: str, out: Any = None, layout: Any = None) -> None:
    """Raise for the options that aren't there."""
    if out is not None:
        raise NotImplementedError(f"{name}(out=) is not supported: assign the result, as in "
                                  f"out.copy_(torch.{name}(...))")
    if layout is not None and not isinstance(layout, layouts.layout):
        raise TypeError(f"{name}(): argument 'layout' must be torch.layout, not "
                        f"{type(layout).__name__}")
    if layout is not None and layout is not layouts.strided:
        raise NotImplementedError(f"{name}(layout={layout}) is not supported: tensors are strided")


def begin(name: str, dtype: Any, device: Any, out: Any, layout: Any) -> tuple[Backend, Any]:
    """The backend and array dtype that a function's keyword arguments ask for."""
    if out is not None or layout is not None:
        check_options(name, out, layout)
    return get(device), dtypes.default_np() if dtype is None else dtype_of(name, dtype, None)


def placed(make: Callable[..., Any]) -> Callable[..., Any]:
    """For functions that compute with arrays themselves: run with their device as the current one,
    which makes a difference only where there are several GPUs; and with ``out``.
    """
    @functools.wraps(make)
    def run(*args: Any, **kw: Any) -> Any:
        if kw.get("out") is not None:
            return into_out(run, kw.pop("out"), *args, **kw)
        device = kw.get("device")
        if device is not None or state.device is not None:
            get(device)                             # it may be the first of several
        if not several:
            return make(*args, **kw)
        given = [x for x in (*args, *kw.values()) if isinstance(x, Tensor)]
        be = given[0]._be if device is None and given else get(device)
        return be.guard(make)(*args, **kw)
    return run


def into_out(make: Callable[..., Any], out: Any, *args: Any, **kw: Any) -> Any:
    """make(*args, **kw) written into ``out``, whose dtype and device are the defaults."""
    name = make.__name__
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")
    from_tensors = name in ("bernoulli", "multinomial") or (name == "normal" and any(
        isinstance(v, Tensor) for v in (*args[:2], *kw.values())))
    if not from_tensors:
        kw = {"dtype": out.dtype, "device": out.device} | {k: v for k, v in kw.items()
                                                          if v is not None}
        if dtype_of(name, kw["dtype"], None) != out._a.dtype:
            given = dtypes.type_name(dtypes.as_dtype(kw["dtype"]).np)
            raise RuntimeError(f"dtype {given} does not match dtype of out parameter "
                               f"({dtypes.type_name(out._a.dtype)})")
    return into(out, make(*args, **kw), name)


# Results -----------------------------------------------------------------------------------------

def finish(a: Any, be: Backend, requires_grad: bool = False, pin: bool = False) -> Tensor:
    """The tensor of a new array; pin: in pinned memory."""
    if pin:
        a = _pinned(a, be)
    t = wrap(a, be)
    if requires_grad:
        if requires_grad is not True:
            raise TypeError("argument 'requires_grad' must be bool, not "
                            f"{type(requires_grad).__name__}")
        if t._a.dtype.kind not in dtypes.INEXACT:
            raise RuntimeError("Only Tensors of floating point and complex dtype can require "
                               "gradients")
        t.requires_grad = True
    return t


def finish_constant(a: Any, be: Backend, requires_grad: bool = False, pin: bool = False) -> Tensor:
    """finish, for an array that numbers of Python's alone have made."""
    if listening[0] is not None:
        listening[0].created(a)
    return finish(a, be, requires_grad, pin)


def _pinned(a: Any, be: Backend) -> Any:
    from gpugrad.pinned import pinned_copy

    if be is not cpu:
        raise RuntimeError("Only dense CPU tensors can be pinned")
    return pinned_copy(a)


def on_device(a: Any, be: Backend) -> Any:
    """A new NumPy array on the device: on the CPU it is there already."""
    return a if be is cpu else be.from_host(a)


# Numbers -----------------------------------------------------------------------------------------

def fits(value: Any, dtype: np.dtype[Any]) -> bool:
    """Can the dtype hold this number, rounded? Unsigned dtypes take negative numbers modulo."""
    if isinstance(value, complex):
        return dtype.kind == "c" or (value.imag == 0 and fits(value.real, dtype))
    if dtype.kind in "b":
        return True
    if dtype.kind in dtypes.INEXACT:
        return not math.isfinite(value) or abs(value) <= dtypes.largest(dtype)
    if not math.isfinite(value):
        return False
    limits = np.iinfo(dtype)
    low = -int(limits.max) if dtype.kind == "u" else int(limits.min)
    return low <= int(value) <= int(limits.max)


def scalar_of(value: Any, dtype: np.dtype[Any]) -> Any:
    """A Python number as a NumPy scalar of the dtype; RuntimeError if it doesn't fit."""
    if not fits(value, dtype):
        raise RuntimeError(f"value cannot be converted to type {_C_NAMES[dtype.name]} without "
                           f"overflow")
    if dtype.kind not in "iu":
        return dtype.type(value.real if isinstance(value, complex) and dtype.kind != "c" else value)
    n = int(value.real)
    return dtype.type(n % (int(np.iinfo(dtype).max) + 1) if n < 0 and dtype.kind == "u" else n)


# Memory order ------------------------------------------------------------------------------------

def empty_as(be: Backend, a: Any, dtype: Any, memory_format: Any = None, name: str = "") -> Any:
    """A new array with the shape of ``a``, and by default with its order of elements in memory."""
    if memory_format is None or memory_format is layouts.preserve_format:
        if a.flags.c_contiguous:
            return be.empty(a.shape, dtype)
        order = memory_order(a)
    else:
        order = order_of(name, memory_format, a.ndim)
    packed = be.empty(tuple([a.shape[d] for d in order]), dtype)
    return packed.transpose(np.argsort(order).tolist())


def order_of(name: str, memory_format: Any, ndim: int) -> list[int]:
    """The order of dims in memory that a memory format asks for."""
    if memory_format is None or memory_format is layouts.contiguous_format:
        return list(range(ndim))
    if memory_format in layouts.ORDERS:
        order = layouts.ORDERS[memory_format]
        if ndim != len(order):
            raise RuntimeError(f"required rank {len(order)} tensor to use {memory_format.name} "
                               "format")
        return list(order)
    if memory_format is layouts.preserve_format:
        raise RuntimeError("unsupported memory format Preserve")
    raise TypeError(f"{name}(): argument 'memory_format' must be torch.memory_format, "
                    f"not {type(memory_format).__name__}")
