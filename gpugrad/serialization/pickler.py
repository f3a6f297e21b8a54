"""Pickles as PyTorch writes them, with PyTorch's names for tensors, dtypes and devices."""
from __future__ import annotations

import functools
import pickle
from collections import OrderedDict
from typing import Any, ClassVar

from gpugrad._tensor import Size, Tensor
from gpugrad.device import device as Device
from gpugrad.dtypes import dtype as DType
from gpugrad.serialization.memory import STORAGE_NAMES, Storage, memory_of, warn_of_hooks


class _Named:
    """A global of PyTorch, which need not be installed."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> None:                  # pickle asks whether what it names is callable
        raise NotImplementedError


@functools.lru_cache(None)
def _named(module: str, name: str) -> _Named:
    return _Named(module, name)


class _Reference:
    """A storage where a tensor uses it: the pickle gets a persistent id in its place."""

    def __init__(self, *fields: Any) -> None:
        self.fields = ("storage", *fields)


class Pickler(pickle._Pickler):
    """Pickles an object; the memory of its tensors goes to ``storages``, in order of their keys."""

    dispatch: ClassVar[Any] = dict(pickle._Pickler.dispatch)

    def __init__(self, file: Any, protocol: int = 2, legacy: bool = False) -> None:
        super().__init__(file, protocol=protocol)
        self.storages: list[Storage] = []
        self.itemsizes: list[int] = []
        # In the format before the zip archives a storage may be a part of another.
        self._tail = (None,) if legacy else ()
        self._keys: dict[Any, tuple[str, DType]] = {}

    def persistent_id(self, obj: Any) -> Any:
        return obj.fields if type(obj) is _Reference else None

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Tensor):
            return self._tensor(obj)
        if isinstance(obj, Size):
            return _named("torch", "Size"), (tuple(obj),)
        if isinstance(obj, Device):
            where = (obj.type,) if obj.index is None else (obj.type, obj.index)
            return _named("torch", "device"), where
        return NotImplemented

    def _save_named(self, obj: _Named) -> None:
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())  # type: ignore[attr-defined]
        self.memoize(obj)  # type: ignore[attr-defined]

    def _save_dtype(self, obj: DType) -> None:
        self.save(_named("torch", obj.name))  # type: ignore[attr-defined]

    dispatch[_Named] = _save_named
    dispatch[DType] = _save_dtype

    def _tensor(self, t: Tensor) -> tuple[Any, ...]:
        warn_of_hooks(t)
        is_parameter = any(c.__module__ == "gpugrad.nn.parameter" and c.__name__ == "Parameter"
                           for c in type(t).__mro__)
        make, args = self._plain(t, t.requires_grad and not is_parameter)
        state = t.__dict__
        if is_parameter:
            # As PyTorch has it, a parameter is made of a tensor that is pickled on its own.
            data = _Made(make, args)
            call = "_rebuild_parameter" + ("_with_state" if state else "")
            rest = (state,) if state else ()
            return _named("torch._utils", call), (data, t.requires_grad, OrderedDict(), *rest)
        if state or not type(t).__module__.startswith("gpugrad."):
            ours = type(t).__module__.startswith("gpugrad.")
            kind = _named("torch", "Tensor") if ours else type(t)
            return _named("torch._tensor", "_rebuild_from_type_v2"), (make, kind, args, state)
        return make, args

    def _plain(self, t: Tensor, requires_grad: bool) -> tuple[Any, tuple[Any, ...]]:
        if t.is_meta:
            return (_named("torch._utils", "_rebuild_meta_tensor_no_storage"),
                    (t.dtype, tuple(t._a.shape), t.stride(), requires_grad))
        storage, offset, strides = memory_of(t)
        dtype, size = t.dtype, t._a.dtype.itemsize
        kind = STORAGE_NAMES.get(dtype)
        if kind is None and self._tail:
            raise NotImplementedError(f"save(): the format before PyTorch 1.6 has no {dtype}: "
                                      "leave _use_new_zipfile_serialization out")
        count = storage.nbytes() if kind is None else storage.nbytes() // size
        reference = _Reference(
            _named("torch.storage", "UntypedStorage") if kind is None else _named("torch", kind),
            self._key(storage, dtype), storage.be.name, count, *self._tail)
        shape = tuple(t._a.shape)
        args: tuple[Any, ...] = (reference, offset, shape, strides, requires_grad, OrderedDict())
        if kind is None:
            return _named("torch._utils", "_rebuild_tensor_v3"), (*args, dtype)
        return _named("torch._utils", "_rebuild_tensor_v2"), args

    def _key(self, storage: Storage, dtype: DType) -> str:
        """The key of a storage, a new one unless an earlier tensor lies in the same memory."""
        size = storage.nbytes()
        place = (storage.be.name, storage.be.address(storage.bytes), size)
        if size and place in self._keys:
            key, other = self._keys[place]
            if other is not dtype:
                raise RuntimeError("Cannot save multiple tensors or storages that view the same "
                                   "data as different types")
            return key
        key = str(len(self.storages))
        self.storages.append(storage)
        self.itemsizes.append(1 if dtype not in STORAGE_NAMES else dtype.itemsize)
        self._keys[place] = key, dtype
        return key


class _Made:
    """The result of a call: pickled as that call."""

    def __init__(self, make: Any, args: tuple[Any, ...]) -> None:
        self._call = make, args

    def __reduce__(self) -> Any:
        return self._call
