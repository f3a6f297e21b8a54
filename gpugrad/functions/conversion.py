"""A tensor on another device, or in another dtype."""
from __future__ import annotations

from typing import Any

from gpugrad import backend, dtypes
from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.autograd.transfer import to_backend
from gpugrad.device import device as Device
from gpugrad.functions import shape, views
from gpugrad.functions.arguments import cast
from gpugrad.layouts import preserve_format


def parse_to(*args: Any, device: Any = None, dtype: Any = None, non_blocking: bool = False,
             copy: bool = False,
             memory_format: Any = preserve_format) -> tuple[Any, Any, bool, bool, Any]:
    """The arguments of Tensor.to and Module.to: a device, a dtype, both, or a tensor with them."""
    rest = list(args)
    if rest and isinstance(rest[0], Tensor):
        other = rest.pop(0)
        device, dtype = other.device, other.dtype
    elif rest and (rest[0] is None or isinstance(rest[0], str | Device) or type(rest[0]) is int):
        device = rest.pop(0)
        if rest and (rest[0] is None or isinstance(rest[0], dtypes.dtype)):
            dtype = rest.pop(0)
    elif rest:
        dtype = rest.pop(0)
        if not isinstance(dtype, dtypes.dtype):
            raise TypeError("to() received an invalid combination of arguments - got "
                            f"({type(dtype).__name__}), but expected a device, a dtype or a tensor")
    if rest:
        non_blocking = rest.pop(0)
    if rest:
        copy = rest.pop(0)
    be = None if device is None else backend.get(device)
    return be, dtype, non_blocking, copy, memory_format


def to(self: Tensor, *args: Any, **kw: Any) -> Tensor:
    """This tensor on another device or in another dtype; itself if it is so already."""
    be, dtype, non_blocking, copy, memory_format = parse_to(*args, **kw)
    out = self
    if dtype is not None:
        out = cast(out, dtype.np)
    if be is not None:
        out = to_backend(out, be, non_blocking)
    if memory_format is not preserve_format:
        out = shape.formatted(out, memory_format)
    if out is self and copy:
        out = T.clone(out)
    if (copy or memory_format is not preserve_format) and out is not self \
            and type(out.grad_fn).__name__ == "CloneBackward0":
        views.rename(out.grad_fn, "ToCopyBackward0")
    return out


def cpu(self: Tensor, memory_format: Any = preserve_format) -> Tensor:
    return to_backend(self, backend.cpu)


def cuda(self: Tensor, device: Any = None, non_blocking: bool = False,
         memory_format: Any = preserve_format) -> Tensor:
    return to_backend(self, backend.get("cuda" if device is None else device), non_blocking)


def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The name of the tensor's type, or the tensor in another dtype."""
    if dtype is None:
        return f"{self._be.prefix}{dtypes.type_name(self._a.dtype)}Tensor"
    if isinstance(dtype, str):
        kind = dtype.rpartition(".")[2].removesuffix("Tensor")
        found = [d for d in dtypes.ALL if d._legacy == kind]
        if not found:
            raise ValueError(f"invalid type: '{dtype}'")
        return to(self, "cuda" if ".cuda." in dtype else "cpu", found[0])
    if hasattr(dtype, "convert"):                # torch.FloatTensor and its kin
        return dtype.convert(self)
    return to(self, dtype)


def type_as(self: Tensor, other: Tensor) -> Tensor:
    return to(self, other)


def converter(name: str) -> Any:
    """The method that gives a tensor in the dtype of this name."""
    dtype: dtypes.dtype = getattr(dtypes, name)

    def convert(self: Tensor, memory_format: Any = preserve_format) -> Tensor:
        return cast(self, dtype.np)
    convert.__doc__ = f"This tensor as {dtype}."
    return convert
