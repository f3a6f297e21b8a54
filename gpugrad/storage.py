"""Storages: the memory that tensors are views of, as bytes or as elements."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.serialization.memory import Storage, memory_of


class UntypedStorage(Storage):
    """Memory on a device, as bytes. Tensors made from it share it."""

    @classmethod
    def of(cls, t: Tensor) -> UntypedStorage:
        held = memory_of(t)[0]
        return cls(held.bytes, held.be)

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def data_ptr(self) -> int:
        """The address of the first byte."""
        return int(self.be.address(self.bytes))

    def size(self) -> int:
        return int(self.bytes.size)

    def __len__(self) -> int:
        return int(self.bytes.size)

    def element_size(self) -> int:
        return 1

    def __getitem__(self, i: Any) -> Any:
        part = self.bytes[i]
        return UntypedStorage(part, self.be) if isinstance(i, slice) else int(part)

    def __setitem__(self, i: Any, value: Any) -> None:
        self.bytes[i] = value

    def __iter__(self) -> Iterator[int]:
        return iter(self.tolist())

    def tolist(self) -> list[int]:
        return list(self.be.to_host(self.bytes).tolist())

    def copy_(self, source: Storage, non_blocking: bool = False) -> UntypedStorage:
        self.bytes[...] = source.bytes if source.be is self.be else \
            self.be.from_device(source.bytes, source.be)
        return self

    def fill_(self, value: int) -> UntypedStorage:
        self.bytes[...] = value
        return self

    def clone(self) -> UntypedStorage:
        return UntypedStorage(self.be.copy(self.bytes), self.be)

    def is_shared(self) -> bool:
        return self.is_cuda

    def resize_(self, size: int) -> UntypedStorage:
        raise NotImplementedError("storages can't be resized: use Tensor.resize_()")

    def __repr__(self) -> str:
        body = "...\n" if self.device.type == "meta" else \
            "".join(f" {v}\n" for v in self.tolist())
        return (f"{body}[torch.storage.UntypedStorage(device={self.device}) of size "
                f"{len(self)}]")


class TypedStorage:
    """Memory on a device, as elements of one dtype."""

    def __init__(self, untyped: UntypedStorage, dtype: dtypes.dtype) -> None:
        self._untyped, self.dtype = untyped, dtype

    @property
    def bytes(self) -> Any:
        return self._untyped.bytes

    @property
    def be(self) -> Any:
        return self._untyped.be

    @property
    def device(self) -> Any:
        return self._untyped.device

    def _elements(self) -> np.ndarray[Any, Any]:
        return self.bytes.view(self.dtype.np)

    def untyped(self) -> UntypedStorage:
        return self._untyped

    def data_ptr(self) -> int:
        return self._untyped.data_ptr()

    def nbytes(self) -> int:
        return self._untyped.nbytes()

    def element_size(self) -> int:
        return self.dtype.np.itemsize

    def size(self) -> int:
        return len(self)

    def __len__(self) -> int:
        return self.nbytes() // self.element_size()

    def __getitem__(self, i: Any) -> Any:
        part = wrap(self._elements()[i], self.be)
        return part.tolist() if isinstance(i, slice) else part.item()

    def __setitem__(self, i: Any, value: Any) -> None:
        self._elements()[i] = value

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())

    def tolist(self) -> list[Any]:
        return list(self.be.to_host(self._elements()).tolist())

    def __repr__(self) -> str:
        body = "...\n" if self.device.type == "meta" else \
            "".join(f" {v}\n" for v in self.tolist())
        return (f"{body}[torch.storage.TypedStorage(dtype={self.dtype}, device={self.device}) of "
                f"size {len(self)}]")
