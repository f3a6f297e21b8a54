"""Arguments that many functions have: dims, shapes, numbers, dtypes; and named results."""
from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor
from gpugrad.autograd.out import into
from gpugrad.autograd.rules import tensors as T


def dim_of(dim: Any, ndim: int) -> int:
    """A dim counted from the front; IndexError if there is none such."""
    if isinstance(dim, Tensor):
        dim = dim.__index__()
    if not isinstance(dim, int):
        dim = _integer(dim)
    n = max(ndim, 1)
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but "
                         f"got {dim})")
    return dim + ndim if dim < 0 and ndim else max(dim, 0)


def _integer(dim: Any) -> int:
    try:
        return dim.__index__()
    except AttributeError:
        raise TypeError(f"a dim must be an int, not {type(dim).__name__}") from None


def dims_of(dim: Any, ndim: int) -> tuple[int, ...] | None:
    """One dim or several as a tuple counted from the front; None for all, as () means too."""
    if dim is None:
        return None
    dims = tuple([dim_of(d, ndim) for d in (dim if isinstance(dim, Sequence) else (dim,))])
    if len(set(dims)) < len(dims):
        twice = next(d for d in dims if dims.count(d) > 1)
        raise RuntimeError(f"dim {twice} appears multiple times in the list of dims")
    return dims if dims and ndim else None


def sizes_of(sizes: tuple[Any, ...], name: str) -> tuple[int, ...]:
    """Sizes or dims given one by one, or as one sequence; ``name`` is the argument's."""
    if not sizes:
        raise TypeError(f'missing 1 required positional arguments: "{name}"')
    if len(sizes) == 1 and isinstance(sizes[0], Sequence) and not isinstance(sizes[0], str):
        sizes = tuple(sizes[0])
    try:
        return tuple([n if type(n) is int else n.__index__() for n in sizes])
    except AttributeError:
        raise TypeError(f"argument '{name}' must be tuple of ints, not {sizes!r}") from None


def public(fn: Any) -> Any:
    """fn as users call it: with ``out``; axis and keepdims may stand for dim and keepdim; an
    argument that should have been a Tensor is a TypeError that names it."""
    @functools.wraps(fn)
    def checked(*args: Any, **kw: Any) -> Any:
        if kw:
            if kw.get("out") is not None:
                target = kw.pop("out")
                return into(target, checked(*args, **kw), fn.__name__)
            kw.pop("out", None)
            if "axis" in kw:
                kw["dim"] = kw.pop("axis")
            if "keepdims" in kw:
                kw["keepdim"] = kw.pop("keepdims")
        try:
            out = fn(*args, **kw)
        except AttributeError as e:
            if e.name not in ("_a", "_be"):
                raise
            raise _not_a_tensor(fn, args, kw, e.obj) from None
        if out is NotImplemented:                # what an operator answers to a strange operand
            raise _not_a_tensor(fn, args, kw, args[-1] if isinstance(args[0], Tensor) else args[0])
        return out
    return checked


def _not_a_tensor(fn: Any, args: Any, kw: Any, wrong: Any) -> TypeError:
    names = ("input", "other") if hasattr(fn, "spec") else fn.__code__.co_varnames
    at = [f"'{names[i]}' (position {i + 1})" for i, v in enumerate(args) if v is wrong]
    at += [f"'{name}'" for name, v in kw.items() if v is wrong]
    return TypeError(f"{fn.__name__}(): argument {at[0] if at else ''} must be Tensor, not "
                     f"{type(wrong).__name__}")


_C_NAMES = {"float32": "float", "int32": "int"}


def number_of(value: Any, dtype: np.dtype[Any]) -> Any:
    """A Python number as one of the dtype: RuntimeError where it doesn't fit.

    As in PyTorch a negative number goes round in an unsigned dtype, and any number is a bool.
    """
    kind = dtype.kind
    if kind == "b":
        return bool(value)
    if isinstance(value, complex) and kind != "c":
        if value.imag == 0:
            return number_of(value.real, dtype)
    elif kind in "iu":
        top = np.iinfo(dtype).max
        if (-top if kind == "u" else -top - 1) <= value <= top:
            return int(value) & top if kind == "u" else int(value)
    elif kind == "c" or dtype.itemsize == 2 or not math.isfinite(value):
        return value
    elif abs(value) <= dtypes.largest(dtype):
        return value
    name = _C_NAMES.get(dtype.name, f"{dtype.name}_t")
    raise RuntimeError(f"value cannot be converted to type {name} without overflow: {value}")


def cast(x: Tensor, dtype: Any) -> Tensor:
    """x in a dtype of NumPy's, itself if it has it; without history if that is of integers."""
    if x._a.dtype == dtype:
        return x
    return T.to(x if dtype.kind in dtypes.INEXACT else x.detach(), dtype=dtype)


def as_(x: Tensor, dtype: Any) -> Tensor:
    """x as the dtype that a ``dtype=`` argument says; None leaves it."""
    return x if dtype is None else cast(x, dtypes.as_dtype(dtype).np)


def common(*tensors: Tensor) -> list[Tensor]:
    """All of them in the dtype that they promote to."""
    dtype = dtypes.promote(*[x._a for x in tensors])
    return [cast(x, dtype) for x in tensors]


def broadcast_shape(*tensors: Tensor) -> tuple[int, ...]:
    """The shape that they broadcast to."""
    out: tuple[int, ...] = ()
    for x in tensors:
        shape = x._a.shape
        n = max(len(out), len(shape))
        a, b = (1,) * (n - len(out)) + out, (1,) * (n - len(shape)) + shape
        for d in range(n - 1, -1, -1):
            if a[d] != b[d] and a[d] != 1 and b[d] != 1:
                raise RuntimeError(f"The size of tensor a ({a[d]}) must match the size of tensor b "
                                   f"({b[d]}) at non-singleton dimension {d}: the shapes are "
                                   + " and ".join(str(list(t._a.shape)) for t in tensors))
        out = tuple([j if i == 1 else i for i, j in zip(a, b)])
    return out


def check_written(x: Tensor, *others: Tensor) -> None:
    """RuntimeError unless what x and others broadcast to can be written into x."""
    shape = broadcast_shape(x, *others)
    if shape != x._a.shape:
        raise RuntimeError(f"output with shape {list(x._a.shape)} doesn't match the broadcast "
                           f"shape {list(shape)}")


class ReturnType(tuple[Any, ...]):
    """Several results with names: torch.return_types.max and its kin."""

    __slots__ = ()
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        body = ",\n".join(f"{name}={value!r}" for name, value in zip(self.names, self))
        return f"torch.return_types.{type(self).__name__}(\n{body})"


def return_type(name: str, *names: str) -> Any:
    """A ReturnType class with these fields."""
    fields: dict[str, Any] = {n: property(itemgetter(i)) for i, n in enumerate(names)}
    return type(name, (ReturnType,), {"__slots__": (), "names": names, **fields})
