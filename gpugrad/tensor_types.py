"""torch.FloatTensor, torch.LongTensor and their kin: the types of older programs."""
from __future__ import annotations

from typing import Any

from gpugrad import dtypes
from gpugrad._tensor import Tensor
from gpugrad.backend import get
from gpugrad.creation import empty


class TensorType:
    """Tensors of one dtype and kind of device: makes them, and tells them in isinstance()."""

    def __init__(self, dtype: dtypes.dtype, device: str = "cpu") -> None:
        self.dtype, self._device = dtype, device
        prefix = "torch.cuda." if device == "cuda" else "torch."
        self.__name__ = f"{dtype._legacy}Tensor"
        self._name = prefix + self.__name__

    def __call__(self, *args: Any) -> Tensor:
        """A tensor of data, or one of the given sizes that isn't initialised."""
        out: Tensor = empty(0, dtype=self.dtype, device=self._device).new(*args)
        return out

    def __instancecheck__(self, x: Any) -> bool:
        return isinstance(x, Tensor) and x.dtype is self.dtype and \
            x._be.device.type == self._device

    @property
    def is_cuda(self) -> bool:
        return self._device == "cuda"

    def __repr__(self) -> str:
        return f"<class '{self._name}'>"

    def convert(self, x: Tensor) -> Tensor:
        """x as this type."""
        be = x._be if x._be.device.type == self._device else get(self._device)
        out: Tensor = x.to(be.device, self.dtype)
        return out


def types(device: str) -> dict[str, TensorType]:
    """All the types of a kind of device, by their names."""
    return {f"{d._legacy}Tensor": TensorType(d, device) for d in dtypes.ALL
            if d.name not in ("uint16", "uint32", "uint64") and not d.is_complex}


CPU_TYPES, CUDA_TYPES = types("cpu"), types("cuda")
