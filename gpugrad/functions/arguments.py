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
from gpugrad.autograd import casting
from gpugrad.autograd.out import into
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name


def dim_of(dim: Any, ndim: int) -> int:
    """A dim counted from the front; IndexError if there is none such."""
    if isinstance(dim, Tensor):
        dim = dim.__index__()
    if type(dim) is not int:
        dim = _integer(dim)
    n = max(ndim, 1)
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but "
                         f"got {dim})")
    return dim + ndim if dim < 0 and ndim else max(dim, 0)


def _integer(dim: Any) -> int:
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise TypeError(f"a dim must be an int, not {type(dim).__name__}")
    return dim.__index__()


def integer_of(value: Any, name: str, argument: str, position: int = 1) -> int:
    """An argument that must be an integer, or a tensor of one; ``name`` is the function's."""
    if type(value) is int:
        return value
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}(): argument '{argument}' (position {position}) must be int, not "
                        f"{type(value).__name__}")
    return int(value.__index__())


def integers_of(values: Any, name: str, argument: str, position: int = 1) -> list[int]:
    """An argument that must be a sequence of integers."""
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
        raise TypeError(f"{name}(): argument '{argument}' (position {position}) must be tuple of "
                        f"ints, not {type(values).__name__}")
    for i, n in enumerate(values):
        if type(n) is not int and not hasattr(n, "__index__"):
            raise TypeError(f"{name}(): argument '{argument}' (position {position}) must be tuple "
                            f"of ints, but found element of type {type(n).__name__} at pos {i}")
    return [int(n) for n in values]


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
    first = sizes[0]
    if len(sizes) == 1 and type(first) is not int and (
            type(first) is tuple or (isinstance(first, Sequence) and not isinstance(first, str))):
        sizes = tuple(first)
    try:
        return tuple([n if type(n) is int else n.__index__() for n in sizes])
    except AttributeError:
        raise TypeError(f"argument '{name}' must be tuple of ints, not {sizes!r}") from None


def public(fn: Any, method: bool = False) -> Any:
    """fn as users call it: with ``out``; axis and keepdims may stand for dim and keepdim; an
    argument of a wrong type is a TypeError that names it."""
    run, flags = casting.function(fn), _flags(fn)
    first_flag = min(flags.values(), default=1 << 30)

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
        if flags and (kw or len(args) > first_flag):
            _check_flags(fn, flags, args, kw, method)
        try:
            out = run(*args, **kw)
        except Exception as e:
            wrong = _explained(fn, args, kw, e, method)
            if wrong is None:
                raise
            raise wrong from None
        if out is NotImplemented:                # what an operator answers to a strange operand
            wrong = args[-1] if isinstance(args[0], Tensor) else args[0]
            raise _wrong_type(fn, args, kw, wrong, "Tensor", method)
        return out
    return checked


def _flags(fn: Any) -> dict[str, int]:
    """The arguments declared as bool, and the number of each."""
    kinds = getattr(fn, "__annotations__", {})
    if "bool" not in kinds.values():
        return {}
    names = fn.__code__.co_varnames
    return {name: names.index(name) for name, kind in kinds.items()
            if kind == "bool" and name != "return"}


def _check_flags(fn: Any, flags: dict[str, int], args: Any, kw: Any, method: bool) -> None:
    for name, i in flags.items():
        value = kw[name] if name in kw else args[i] if i < len(args) else True
        if type(value) is not bool:
            raise _wrong_type(fn, args, kw, value, "bool", method)


def _wrong_type(fn: Any, args: Any, kw: Any, wrong: Any, kind: str, method: bool) -> TypeError:
    names = ("input", "other") if hasattr(fn, "spec") else fn.__code__.co_varnames
    at = [f"'{names[i - (not method)]}' (position {i})"
          for i, v in enumerate(args, not method) if v is wrong]
    at += [f"'{name}'" for name, v in kw.items() if v is wrong]
    return TypeError(f"{fn.__name__}(): argument {at[0] if at else ''} must be {kind}, not "
                     f"{type(wrong).__name__}")


def _is_whole(v: Any) -> bool:
    return hasattr(v, "__index__") and not isinstance(v, bool | np.bool_)


def _is_dim(v: Any) -> bool:
    return v is None or _is_whole(v) or (isinstance(v, tuple | list) and all(map(_is_whole, v)))


def _is_number(v: Any) -> bool:
    return isinstance(v, bool | int | float | complex | np.generic | Tensor)


# What arguments declared so, or called so, must be.
_KINDS: dict[str, tuple[Any, str]] = {
    "Tensor": (_is_number, "Tensor"), "int": (_is_whole, "int"),
    "int | None": (lambda v: v is None or _is_whole(v), "int"),
    "bool | None": (lambda v: v is None or isinstance(v, bool), "bool"),
    "str": (lambda v: isinstance(v, str), "str"), "float": (_is_number, "float"),
    "Number": (_is_number, "Number")}
_NAMED: dict[str, tuple[Any, str]] = {
    "dim": (_is_dim, "tuple of ints"),
    "dtype": (lambda v: v is None or isinstance(v, dtypes.dtype), "torch.dtype")}


def _explained(fn: Any, args: Any, kw: Any, error: Exception, method: bool) -> Exception | None:
    """A better error for one that fn raised, or None: if an argument is of a wrong type PyTorch
    says that before all else, and NumPy's errors aren't ours."""
    if isinstance(error, AttributeError):
        if error.name in ("_a", "_be") or any(v is error.obj for v in (*args, *kw.values())
                                              if not isinstance(v, Tensor)):
            return _wrong_type(fn, args, kw, error.obj, "Tensor", method)
        return None
    if not hasattr(fn, "spec"):
        kinds = fn.__annotations__
        for name, value in (*zip(fn.__code__.co_varnames, args), *kw.items()):
            if name == "dim" and isinstance(value, bool) and "unbiased" in kinds:
                continue                         # the older signature var(unbiased)
            test, kind = _KINDS.get(kinds.get(name, "")) or _NAMED.get(name) or (None, "")
            if test is not None and not test(value):
                return _wrong_type(fn, args, kw, value, kind, method)
    return plain_error(fn.__name__, error, [*args, *kw.values()])


def plain_error(name: str, error: Exception, operands: Any) -> Exception | None:
    """PyTorch's error in the place of one of NumPy's or Python's arithmetic; None for others."""
    text = str(error)
    if isinstance(error, TypeError) and text.startswith("ufunc '"):
        ts = [x for x in operands if isinstance(x, Tensor)]
        dtype = dtypes.promote(*[x._a for x in ts])
        return NotImplementedError(f"\"{name.rstrip('_')}_cpu\" not implemented for "
                                   f"'{type_name(dtype)}'")
    if isinstance(error, ValueError) and text.startswith("operands could not be broadcast"):
        return RuntimeError(f"{name}(): the shapes "
                            + ", ".join(str(list(x._a.shape)) for x in operands
                                        if isinstance(x, Tensor)) + " don't broadcast")
    if isinstance(error, OverflowError) or (isinstance(error, ValueError | TypeError) and (
            text.startswith("cannot convert float ") or text.endswith("not 'complex'"))):
        return RuntimeError(f"{name}(): value cannot be converted to the dtype without overflow: "
                            f"{text}")
    return None


_C_NAMES = {"float32": "float", "int32": "int"}


def plain_number(value: Any, name: str = "argument") -> Any:
    """A number that may be a 0-dim tensor without a gradient, as a Python number."""
    if not isinstance(value, Tensor):
        return value
    if value.ndim or value.requires_grad:
        raise TypeError(f"{name} must be Number, not Tensor")
    return value.item()


def number_of(value: Any, dtype: np.dtype[Any]) -> Any:
    """A Python number as one of the dtype: RuntimeError where it doesn't fit.

    As in PyTorch a negative number goes round in an unsigned dtype, and any number is a bool. A
    0-dim tensor is read.
    """
    if isinstance(value, Tensor):
        value = plain_number(value)
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
