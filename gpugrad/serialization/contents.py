"""What a checkpoint may contain, and how each of it is made."""
from __future__ import annotations

import importlib
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Size, Tensor, wrap
from gpugrad.backend import cpu
from gpugrad.device import device as Device
from gpugrad.serialization.memory import STORAGE_NAMES, Storage, rebuild_without_data
from gpugrad.serialization.unpickler import Builder, Unpickler, globals_of

# Never to be offered as something to trust.
_BLOCKED = {"os", "posix", "nt", "sys", "subprocess", "shutil", "builtins", "importlib", "runpy",
            "socket", "pty", "ctypes"}
_TENSOR_COST = 100           # what a tensor counts against the length of the pickle, in elements


class _Typed:
    """A storage with the dtype that the file has for it; None for bytes."""

    def __init__(self, storage: Storage, dtype: dtypes.dtype | None) -> None:
        self.storage, self.dtype = storage, dtype


class _Kind:
    """A class that is only named: of tensors, or of storages with their dtype."""

    def __init__(self, cls: str, dtype: dtypes.dtype | None = None) -> None:
        self.cls, self.dtype = cls, dtype


class _NotPlaced(Exception):
    """Carries an error of ``map_location``, which is not the file's fault, past the unpickler."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Contents:
    """Reads the object of a checkpoint from its pickle.

    read(key, size, itemsize) gives the bytes of a storage, place(storage, name) puts memory where
    it belongs; ``swap``: the bytes of elements are in the
    other order than this machine's; ``trusted``: classes by name.
    """

    def __init__(self, pickled: bytes, read: Callable[[str, int, int], Any],
                 place: Callable[[Storage, str], Storage], swap: bool,
                 trusted: dict[str, Any]) -> None:
        self._pickled, self._read = pickled, read
        self._place, self._swap, self._trusted = place, swap, trusted
        self._storages: dict[str, Storage] = {}
        self._unpickler = Unpickler(pickled, self._find, self._storage, self._build,
                                    trusted.values())
        self._table = self._globals()

    def load(self) -> Any:
        try:
            return self._unpickler.load()
        except _NotPlaced as stopped:
            raise stopped.error from None

    def unsafe(self) -> list[str]:
        """The globals of the pickle that are not allowed."""
        found = []
        for module, name in globals_of(self._pickled):
            try:
                self._find(module, name)
            except UnpicklingError:
                found.append(_full_name(module, name))
        return sorted(set(found))

    # Globals -------------------------------------------------------------------------------------

    def _globals(self) -> dict[str, Any]:
        calls: dict[str, Callable[..., Any]] = {
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._tensor_v3,
            "torch._utils._rebuild_meta_tensor_no_storage": self._without_data,
            "torch._utils._rebuild_parameter": _parameter,
            "torch._utils._rebuild_parameter_with_state": _parameter,
            "torch._tensor._rebuild_from_type_v2": self._of_type,
            "torch.Size": lambda shape: Size(_ints(shape)),
            "torch.device": Device,
            "collections.OrderedDict": self._ordered,
            "collections.Counter": self._counter,
            "builtins.set": lambda items: set(self._hashed(items)),
            "builtins.frozenset": lambda items: frozenset(self._hashed(items)),
            "builtins.complex": lambda re, im: complex(_float(re), _float(im)),
            "builtins.bytearray": self._bytearray,
            "builtins.bytes": lambda: b"",
            "_codecs.encode": self._encode,
            "numpy.dtype": _numpy_dtype,
            "numpy._core.multiarray.scalar": self._numpy_scalar,
            "numpy._core.multiarray._reconstruct": _numpy_empty,
        }
        table: dict[str, Any] = {name: Builder(call) for name, call in calls.items()}
        for d in dtypes.ALL:
            table[f"torch.{d.name}"] = d
        for d, name in STORAGE_NAMES.items():
            table[f"torch.{name}"] = _Kind("storage", d)
        table["torch.storage.UntypedStorage"] = _Kind("storage")
        table["torch.Tensor"] = _Kind("tensor")
        table["torch.nn.parameter.Parameter"] = _Kind("parameter")
        table["numpy.ndarray"] = _Kind("ndarray")
        return table

    def _find(self, module: str, name: str) -> Any:
        full = _full_name(module, name)
        module = full.partition(".")[0]
        if full in self._table:
            return self._table[full]
        if full in self._trusted:
            return self._trusted[full]
        if module in _BLOCKED:
            raise UnpicklingError(f"Trying to load unsupported GLOBAL {full} whose module {module} "
                                  "is blocked.")
        if module == "torch":
            raise UnpicklingError(f"Unsupported global: GLOBAL {full} has no counterpart here: "
                                  "with PyTorch, save the state_dict() of a module, and dense "
                                  "tensors of the usual dtypes")
        raise UnpicklingError(
            f"Unsupported global: GLOBAL {full} was not an allowed global by default: a file can't "
            "make objects of any class, as that could run any code. If you trust this class, allow "
            f"it by `torch.serialization.add_safe_globals([{full}])`; of a module save the "
            "state_dict() instead")

    # Tensors -------------------------------------------------------------------------------------

    def _storage(self, pid: Any) -> _Typed:
        tag, kind, key, location, count = pid[:5]
        if tag not in ("storage", b"storage") or not isinstance(kind, _Kind) \
                or kind.cls != "storage" or not (type(key) is type(location) is str):
            raise ValueError(f"unknown persistent id {tag!r}")
        storage = self._storages.get(key)
        if storage is None:
            size = 1 if kind.dtype is None else kind.dtype.itemsize
            if type(count) is not int:
                raise TypeError("a storage without a size")
            data = self._read(key, count * size, size)
            if data.size != count * size:
                name = "Byte" if kind.dtype is None else kind.dtype._legacy
                raise RuntimeError(f"record size ({data.size} bytes) does not match expected size "
                                   f"({count} elements of {size} bytes) for dtype {name}")
            if self._swap and kind.dtype is not None:
                data.view(kind.dtype.np).byteswap(inplace=True)
            try:
                storage = self._storages[key] = self._place(Storage(data, cpu), location)
            except Exception as error:
                raise _NotPlaced(error) from None
        if len(pid) > 5 and pid[5] is not None:  # of the old format: a part of the storage
            size = 1 if kind.dtype is None else kind.dtype.itemsize
            _, start, n = pid[5]
            start, n = _ints((start, n))
            if (start + n) * size > storage.nbytes():
                raise ValueError("a part that is out of bounds for its storage")
            storage = Storage(storage.bytes[start * size:(start + n) * size], storage.be)
        return _Typed(storage, kind.dtype)

    def _tensor(self, held: _Typed, offset: int, shape: Any, strides: Any,
                requires_grad: bool = False, hooks: Any = None, metadata: Any = None) -> Tensor:
        if not isinstance(held, _Typed) or held.dtype is None:
            raise TypeError("a tensor without a storage")
        return self._make(held.storage, held.dtype, offset, shape, strides, requires_grad)

    def _tensor_v3(self, held: _Typed, offset: int, shape: Any, strides: Any, requires_grad: bool,
                   hooks: Any, dtype: dtypes.dtype, metadata: Any = None) -> Tensor:
        if not isinstance(held, _Typed) or not isinstance(dtype, dtypes.dtype):
            raise TypeError("a tensor without a storage and a dtype")
        if self._swap and held.dtype is None and dtype.itemsize > 1:
            raise NotImplementedError(f"tensors of dtype {dtype} from a machine of the other byte "
                                      "order are not supported: save them as torch.int64")
        return self._make(held.storage, dtype, offset, shape, strides, requires_grad)

    def _without_data(self, dtype: dtypes.dtype, shape: Any, strides: Any,
                      requires_grad: bool) -> Tensor:
        if not isinstance(dtype, dtypes.dtype):
            raise TypeError("a tensor without a dtype")
        self._unpickler.spend(_TENSOR_COST)
        return rebuild_without_data(Tensor, dtype, _ints(shape), _ints(strides),
                                    requires_grad is True, {})

    def _make(self, storage: Storage, dtype: dtypes.dtype, offset: int, shape: Any, strides: Any,
              requires_grad: bool) -> Tensor:
        self._unpickler.spend(_TENSOR_COST)
        shape, strides = _ints(shape), _ints(strides)
        offset, = _ints((offset,))
        if len(shape) != len(strides):
            raise ValueError(f"a tensor of shape {shape} with strides {strides}")
        if 0 in shape:                           # it may be said to begin anywhere
            offset = 0
        last = offset - 1 if 0 in shape else offset + sum((n - 1) * s
                                                          for n, s in zip(shape, strides))
        count, rest = divmod(storage.nbytes(), dtype.itemsize)
        if last >= count or rest:
            raise RuntimeError(f"a tensor of shape {list(shape)}, strides {list(strides)}, offset "
                               f"{offset} and dtype {dtype} is out of bounds for a storage of "
                               f"{storage.nbytes()} bytes")
        t = wrap(storage.view(dtype.np, offset, shape, strides), storage.be)
        return t.requires_grad_(requires_grad is True)

    def _of_type(self, make: Any, kind: Any, args: Any, state: Any) -> Tensor:
        trusts = self._unpickler.trusts
        call = make.call if isinstance(make, Builder) else make
        if (call is make and not trusts(make)) or type(args) is not tuple:
            raise TypeError("a tensor that is made in an unknown way")
        t = call(*args)
        if not isinstance(t, Tensor):
            raise TypeError("a tensor that is made in an unknown way")
        if isinstance(kind, type) and trusts(kind) and issubclass(kind, Tensor):
            t.__class__ = kind
        elif isinstance(kind, _Kind) and kind.cls == "parameter":
            t = _parameter(t, t.requires_grad, None)
        elif not isinstance(kind, _Kind) or kind.cls != "tensor":
            raise TypeError("a tensor of an unknown class")
        _set_attributes(t, state)
        return t

    # Containers and scalars ----------------------------------------------------------------------

    def _hashed(self, items: Any) -> Any:
        if type(items) not in (list, tuple, set, frozenset):
            raise TypeError(f"a set made of a {type(items).__name__}")
        self._unpickler.spend(len(items))
        return self._unpickler.checked_keys(items)

    def _ordered(self, pairs: Any = ()) -> Any:
        if type(pairs) not in (list, tuple):
            raise TypeError(f"an OrderedDict made of a {type(pairs).__name__}")
        self._unpickler.spend(len(pairs))
        pairs = [(k, v) for k, v in pairs]
        self._unpickler.checked_keys([k for k, _ in pairs])
        return OrderedDict(pairs)

    def _counter(self, counts: Any = None) -> Any:
        if counts is not None and type(counts) is not dict:
            raise TypeError(f"a Counter made of a {type(counts).__name__}")
        self._unpickler.spend(len(counts or ()))
        return Counter(counts)

    def _encode(self, text: str, encoding: str) -> bytes:
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            raise TypeError("bytes that are not in latin1")
        self._unpickler.spend(len(text))
        return text.encode("latin1")

    def _bytearray(self, data: Any = b"", encoding: Any = None) -> bytearray:
        if type(data) is str:
            data = self._encode(data, encoding)
        if type(data) is not bytes:              # of a number it would be that many zeros
            raise TypeError(f"a bytearray made of a {type(data).__name__}")
        self._unpickler.spend(len(data))
        return bytearray(data)

    def _numpy_scalar(self, dtype: Any, data: Any) -> Any:
        if not isinstance(dtype, np.dtype) or type(data) is not bytes or dtype.hasobject:
            raise TypeError("a NumPy scalar without a dtype and bytes")
        self._unpickler.spend(len(data))
        return np.frombuffer(data, dtype, 1)[0]

    def _build(self, obj: Any, state: Any) -> bool:
        """Give an object its state, if objects of its class may have one."""
        if type(obj) is OrderedDict:
            _set_attributes(obj, state)
        elif type(obj) is np.ndarray:
            version, shape, dtype, fortran, data = state
            if not isinstance(dtype, np.dtype) or dtype.hasobject or type(data) is not bytes:
                return False
            self._unpickler.spend(len(data))
            restore: Any = obj.__setstate__
            restore((version, _ints(shape), dtype, bool(fortran), data))
        elif isinstance(obj, np.dtype):
            if state != obj.__reduce__()[2]:     # native order: there is nothing to change
                return False
        elif type(obj) in self._trusted.values():
            _set_trusted_state(obj, state)
        else:
            return False
        return True


def _full_name(module: str, name: str) -> str:
    """A global's name today: pickles have Python 2's, and those before NumPy 2."""
    module, name = NAME_MAPPING.get((module, name), (module, name))
    module = IMPORT_MAPPING.get(module, module)
    return f"{'numpy._core.multiarray' if module == 'numpy.core.multiarray' else module}.{name}"


def _parameter(data: Any, requires_grad: bool, hooks: Any, state: Any = None) -> Tensor:
    if not isinstance(data, Tensor):
        raise TypeError("a parameter without a tensor")
    # By name, as nn lies above this module.
    p = importlib.import_module("gpugrad.nn.parameter").Parameter(data, requires_grad is True)
    _set_attributes(p, state)
    return p


def _set_attributes(obj: Any, state: Any) -> None:
    if state is None or state == {}:
        return
    if type(state) is not dict or not all(type(k) is str for k in state):
        raise TypeError("attributes that are not a dict")
    obj.__dict__.update(state)


def _set_trusted_state(obj: Any, state: Any) -> None:
    """As pickle does: by ``__setstate__``, or the attributes, or a pair of them and of slots."""
    if hasattr(obj, "__setstate__"):
        obj.__setstate__(state)
        return
    slots = None
    if type(state) is tuple and len(state) == 2:
        state, slots = state
    _set_attributes(obj, state)
    for name, value in (slots or {}).items():
        setattr(obj, name, value)


def _ints(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or len(values) > 64:
        raise TypeError(f"a {type(values).__name__} where sizes should be")
    if any(type(v) is not int or not 0 <= v < 1 << 62 for v in values):
        raise ValueError(f"sizes {tuple(values)!r}")
    return tuple(values)


def _float(x: Any) -> float:
    if type(x) is not float:
        raise TypeError(f"a {type(x).__name__} where a float should be")
    return x


def _numpy_dtype(spec: Any, align: Any = False, copy: Any = True) -> Any:
    if type(spec) is not str or not re.fullmatch(r"[biufcSU][1-9]\d{0,8}", spec):
        raise TypeError(f"the NumPy dtype {spec!r}")
    return np.dtype(spec)


def _numpy_empty(kind: Any, shape: Any, code: Any) -> Any:
    if not isinstance(kind, _Kind) or kind.cls != "ndarray" or shape != (0,):
        raise TypeError("a NumPy array of an unknown class")
    return np.empty(0, np.int8)
