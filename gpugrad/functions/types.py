"""What there is to ask about dtypes and shapes: promotion, casts, names of types."""
from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Size, Tensor
from gpugrad.functions.pointwise import Number


def _dtypes(name: str, **given: Any) -> None:
    for i, (arg, d) in enumerate(given.items()):
        if not isinstance(d, dtypes.dtype):
            raise TypeError(f"{name}(): argument '{arg}' (position {i + 1}) must be torch.dtype, "
                            f"not {type(d).__name__}")


def can_cast(from_: Any, to: Any) -> bool:
    """May a result of one dtype be written into a tensor of another?"""
    _dtypes("can_cast", from_=from_, to=to)
    return dtypes.can_cast(from_, to)


def promote_types(type1: Any, type2: Any) -> dtypes.dtype:
    """The dtype of a result of operands with dims of two dtypes."""
    _dtypes("promote_types", type1=type1, type2=type2)
    a, b = (np.empty(1, d.np) for d in (type1, type2))
    return dtypes.OF[dtypes.promote(a, b)]


def result_type(tensor1: Any, tensor2: Any) -> dtypes.dtype:
    """The dtype of a result of two operands, tensors or numbers."""
    for v in (tensor1, tensor2):
        if not isinstance(v, Tensor | Number):
            raise TypeError("result_type() received an invalid combination of arguments - got "
                            f"({type(tensor1).__name__}, {type(tensor2).__name__}), but expected "
                            "tensors or numbers")
    return dtypes.OF[dtypes.promote(*[v._a if isinstance(v, Tensor) else v
                                      for v in (tensor1, tensor2)])]


def _asks(name: str, input: Any) -> Tensor:
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not "
                        f"{type(input).__name__}")
    return input


def is_floating_point(input: Any) -> bool:
    """Is the dtype a floating one?"""
    return _asks("is_floating_point", input).dtype.is_floating_point


def is_complex(input: Any) -> bool:
    """Is the dtype a complex one?"""
    return _asks("is_complex", input).dtype.is_complex


def is_nonzero(input: Any) -> bool:
    """Is the one element of a tensor other than 0?"""
    return bool(_asks("is_nonzero", input))


def is_same_size(input: Any, other: Any) -> bool:
    """Have two tensors the same shape?"""
    return _asks("is_same_size", input)._a.shape == _asks("is_same_size", other)._a.shape


def set_default_tensor_type(t: Any, /) -> None:
    """The deprecated form of set_default_dtype, with a name such as "torch.DoubleTensor"."""
    warnings.warn("torch.set_default_tensor_type() is deprecated: use torch.set_default_dtype() "
                  "and torch.set_default_device()", DeprecationWarning, stacklevel=2)
    if not isinstance(t, str):
        raise TypeError("invalid type object: only the names of floating-point types, such as "
                        f"'torch.DoubleTensor', are supported as the default type, not {t!r}")
    kind = t.rpartition(".")[2].removesuffix("Tensor")
    found = [d for d in dtypes.ALL if d._legacy == kind]
    if not found or not t.endswith("Tensor"):
        raise TypeError(f"invalid type object: {t!r}")
    if not found[0].is_floating_point:
        raise TypeError("only floating-point types are supported as the default type")
    from gpugrad.device import set_default_device
    set_default_device("cuda" if ".cuda." in t else "cpu")
    dtypes.set_default_dtype(found[0])


def typename(obj: Any, /) -> str:
    """The name of an object's type: of a tensor that of its legacy type."""
    if isinstance(obj, Tensor):
        return str(obj.type())
    named = obj if hasattr(obj, "__qualname__") else type(obj)
    module = getattr(named, "__module__", None) or ""
    return named.__qualname__ if module in ("", "builtins") else \
        f"{module}.{named.__qualname__}"


def broadcast_shapes(*shapes: Any) -> Size:
    """The shape to which these shapes, or sizes, broadcast."""
    out: list[int] = []
    for at, given in enumerate(shapes):
        shape = (given,) if isinstance(given, int) else given
        if not isinstance(shape, Sequence) or isinstance(shape, str) or \
                not all(isinstance(n, int) for n in shape):
            raise TypeError("broadcast_shapes(): expected ints or sequences of ints, but got "
                            f"{given!r}")
        out = [1] * (len(shape) - len(out)) + out
        for i, n in enumerate(reversed(shape), 1):
            if n < 0:
                raise ValueError("Attempting to broadcast a dimension with negative length!")
            if n not in (1, out[-i]):
                if out[-i] != 1:
                    raise RuntimeError(
                        f"Attempting to broadcast a dimension of length {n} at -{i}! Mismatching "
                        f"argument at index {at} had {tuple(shape)}; but expected shape should be "
                        f"broadcastable to {out}")
                out[-i] = n
    return Size(out)
