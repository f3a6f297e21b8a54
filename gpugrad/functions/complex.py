"""Complex tensors: made from real ones, and taken apart."""
from __future__ import annotations

from typing import Any

from gpugrad import dtypes
from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name


def _both(name: str, x: Any, y: Any) -> None:
    for i, v in enumerate((x, y)):
        if not isinstance(v, Tensor):
            raise TypeError(f"{name}(): argument {i + 1} must be Tensor, not {type(v).__name__}")
    if all(t._a.dtype == dtypes.float16.np for t in (x, y)):
        refusal: Any = NotImplementedError if name == "polar" else TypeError
        raise refusal("complex32 tensors are not supported: convert to float32")
    if not all(t._a.dtype in dtypes.WHOLE for t in (x, y)):
        raise RuntimeError("Expected both inputs to be Half, Float or Double tensors but got "
                           f"{type_name(x._a.dtype)} and {type_name(y._a.dtype)}: {name}() takes "
                           "float32 and float64")
    if x._a.dtype != y._a.dtype:
        raise RuntimeError(f"Expected object of scalar type {type_name(x._a.dtype)} but got scalar "
                           f"type {type_name(y._a.dtype)} for second argument")


def complex(real: Tensor, imag: Tensor) -> Tensor:
    """real + i imag, for two tensors of float32 or float64."""
    _both("complex", real, imag)
    return T.complex(real, imag)


def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """abs (cos(angle) + i sin(angle)), for two tensors of float32 or float64."""
    _both("polar", abs, angle)
    return T.polar(abs, angle)


def real(input: Tensor) -> Tensor:
    """A view of the real parts; of a real tensor itself."""
    return T.real(input) if input.is_complex() else input


def imag(input: Tensor) -> Tensor:
    """A view of the imaginary parts."""
    if not input.is_complex():
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return T.imag(input)


def _set_part(self: Tensor, part: Tensor, value: Any) -> None:
    from gpugrad.functions.indexing import copy_
    copy_(part, value if isinstance(value, Tensor) else part.new_tensor(value))


# Tensor.real and Tensor.imag: views, that can be assigned to.
real_attribute = property(real, lambda self, value: _set_part(self, real(self), value))
imag_attribute = property(imag, lambda self, value: _set_part(self, imag(self), value))


def view_as_real(input: Tensor) -> Tensor:
    """A view of complex numbers as pairs of real ones, in a new last dim."""
    if not input.is_complex():
        raise RuntimeError("view_as_real is only supported for complex tensors")
    return T.view_as_real(input)


def view_as_complex(input: Tensor) -> Tensor:
    """A view of pairs of real numbers, in the last dim, as complex ones."""
    a = input._a
    if a.dtype not in dtypes.WHOLE:
        raise RuntimeError("view_as_complex is only supported for half, float and double tensors, "
                           f"but got a tensor of scalar type: {type_name(a.dtype)}")
    if not a.ndim:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if a.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    if a.strides[-1] != a.dtype.itemsize:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    if any(s % (2 * a.dtype.itemsize) for s in a.strides[:-1]):
        raise RuntimeError("Tensor must have a stride divisible by 2 for all but last dimension")
    return T.view_as_complex(input)


def conj(input: Tensor) -> Tensor:
    """The complex conjugates, in new memory; of a real tensor itself."""
    return T.conj_physical(input) if input.is_complex() else input


def conj_physical(input: Tensor) -> Tensor:
    """The complex conjugates, in new memory; of a real tensor itself."""
    return T.conj_physical(input) if input.is_complex() else input


def conj_physical_(x: Tensor) -> Tensor:
    return T.conj_physical_(x) if x.is_complex() else x


def resolve(input: Tensor) -> Tensor:
    """Itself: tensors here are never lazily conjugated or negated."""
    return input


def is_conj(input: Tensor) -> bool:
    """False: conjugates are computed at once."""
    return False


def is_neg(input: Tensor) -> bool:
    """False: negatives are computed at once."""
    return False


def angle(input: Tensor) -> Tensor:
    """The angle of complex numbers; of real ones 0 or pi."""
    return T.angle(input)
