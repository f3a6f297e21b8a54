"""safetensors files: named tensors without code, read whole, by name, or by slice.

A file is 8 bytes with the header's length, the header in JSON, and the tensors' memory. Nothing of
the header is believed before it fits the file. The names are those of the library ``safetensors``
(and of its module ``torch``). Where it is installed, tensors of a file are read by it, but for the
dtypes that it has no NumPy arrays for; nothing else needs it.
"""
from __future__ import annotations

import json
import math
import mmap
import os
from importlib import import_module
from typing import Any

import numpy as np

from gpugrad import backend, dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.serialization.memory import memory_of
from gpugrad.serialization.writing import replacement

# The names that dtypes have in files.
DTYPES = {
    "F64": dtypes.float64, "F32": dtypes.float32, "F16": dtypes.float16, "BF16": dtypes.bfloat16,
    "I64": dtypes.int64, "I32": dtypes.int32, "I16": dtypes.int16, "I8": dtypes.int8,
    "U64": dtypes.uint64, "U32": dtypes.uint32, "U16": dtypes.uint16, "U8": dtypes.uint8,
    "BOOL": dtypes.bool, "C64": dtypes.complex64}
_NAMES = {d: name for name, d in DTYPES.items()}
_LONGEST_HEADER = 100_000_000


class SafetensorError(Exception):
    """A file that is not what it should be."""


def _host(t: Tensor) -> Any:
    """The elements on the CPU, in order."""
    return np.ascontiguousarray(t._be.to_host(t._a)).reshape(-1).view(np.uint8)


def _parts(tensors: dict[str, Tensor], metadata: dict[str, str] | None) -> tuple[bytes, list[Any]]:
    """The beginning of a file, and the tensors in the order of their memory."""
    if not isinstance(tensors, dict):
        raise ValueError(f"Expected a dict of [str, torch.Tensor] but received {type(tensors)}")
    seen: dict[Any, str] = {}
    for name, t in tensors.items():
        if not isinstance(name, str) or not isinstance(t, Tensor):
            raise ValueError(f"Key `{name}` is invalid, expected torch.Tensor but received "
                             f"{type(t)}")
        if name == "__metadata__":
            raise ValueError("safetensors: a tensor can't be named __metadata__")
        if t.dtype not in _NAMES:
            raise NotImplementedError(f"safetensors: the format has no {t.dtype} ({name}): convert "
                                      "it, a complex tensor by torch.view_as_real")
        if not t.is_contiguous():
            raise ValueError(f"You are trying to save a non contiguous tensor: `{name}` which is "
                             "not allowed. It either means you are trying to save tensors which "
                             "are reference of each other in which case it's recommended to save "
                             "only the full tensors, and reslice at load time, or simply call "
                             "`.contiguous()` on your tensor to pack it before saving.")
        storage = memory_of(t)[0]
        key = storage.be.name, storage.be.address(storage.bytes)
        if t.numel() and key in seen:
            raise RuntimeError(f"safetensors: the tensors {seen[key]} and {name} share memory, "
                               "which the format can't keep: save one of them, or a clone(); "
                               "save_model() does it for modules")
        seen[key] = name
    if metadata is not None and not all(type(s) is str for pair in metadata.items() for s in pair):
        raise ValueError("safetensors: metadata must be a dict of text to text")
    order = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    at = 0
    for name, t in order:
        size = t.numel() * t.dtype.itemsize
        header[name] = {"dtype": _NAMES[t.dtype], "shape": list(t.shape),
                        "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)              # so that the memory is aligned
    return len(text).to_bytes(8, "little") + text, [t for _, t in order]


def save(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """The bytes of a file with these tensors."""
    head, order = _parts(tensors, metadata)
    return b"".join([head, *[_host(t).tobytes() for t in order]])


def save_file(tensors: dict[str, Tensor], filename: Any,
              metadata: dict[str, str] | None = None) -> None:
    """Write a file with these tensors; the old one stays until the new one is whole."""
    head, order = _parts(tensors, metadata)
    with replacement(os.fsdecode(filename)) as file:
        file.write(head)
        for t in order:
            file.write(memoryview(_host(t)))


class _Entry:
    def __init__(self, dtype: str, shape: tuple[int, ...], start: int, stop: int) -> None:
        self.dtype, self.shape, self.start, self.stop = dtype, shape, start, stop


def _pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) < len(items):
        raise SafetensorError("Error while deserializing header: a name occurs twice")
    return found


def _count(n: Any) -> bool:
    return type(n) is int and 0 <= n < 1 << 62


def _header(data: Any) -> tuple[dict[str, _Entry], dict[str, str] | None, int]:
    """The entries, the metadata, and where the memory begins."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8:
        raise SafetensorError("Error while deserializing header: header too small")
    if length > _LONGEST_HEADER:
        raise SafetensorError(f"Error while deserializing header: header too large ({length} "
                              "bytes): is it a safetensors file?")
    if 8 + length > len(data):
        raise SafetensorError(f"Error while deserializing header: invalid header length {length}: "
                              "the file is cut off")
    try:
        header = json.loads(bytes(data[8:8 + length]).decode(), object_pairs_hook=_pairs)
    except (ValueError, RecursionError) as error:
        raise SafetensorError(f"Error while deserializing header: {error}") from error
    if not isinstance(header, dict):
        raise SafetensorError("Error while deserializing header: invalid JSON in header: not a "
                              "table")
    metadata = header.pop("__metadata__", None)
    if metadata is not None and not (isinstance(metadata, dict) and all(
            type(v) is str for v in metadata.values())):
        raise SafetensorError("Error while deserializing header: the metadata are not text")
    entries = {}
    for name, info in header.items():
        if not isinstance(info, dict) or not {"dtype", "shape", "data_offsets"} <= info.keys():
            raise SafetensorError(f"Error while deserializing header: {name} lacks dtype, shape or "
                                  "data_offsets")
        kind, shape, offsets = info["dtype"], info["shape"], info["data_offsets"]
        if not isinstance(kind, str) or not isinstance(shape, list) or len(shape) > 64 \
                or not isinstance(offsets, list) or len(offsets) != 2 \
                or not all(map(_count, shape + offsets)):
            raise SafetensorError(f"Error while deserializing header: {name} has a wrong dtype, "
                                  "shape or data_offsets")
        entries[name] = _Entry(kind, tuple(shape), *offsets)
    at = 0
    for name, e in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if e.start != at or e.stop < e.start:
            raise SafetensorError(f"Error while deserializing header: invalid offset for tensor "
                                  f"`{name}`: it overlaps with another, or leaves a hole")
        if e.dtype in DTYPES:
            size = math.prod(e.shape) * DTYPES[e.dtype].itemsize
            if size != e.stop - e.start:
                raise SafetensorError(f"Error while deserializing header: tensor `{name}` of shape "
                                      f"{list(e.shape)} and dtype {e.dtype} takes {size} bytes, "
                                      f"not {e.stop - e.start}")
        at = e.stop
    if 8 + length + at != len(data):
        raise SafetensorError("Error while deserializing header: incomplete metadata, file not "
                              f"fully covered: {at} bytes of tensors in a file that has "
                              f"{len(data) - 8 - length}")
    return entries, metadata, 8 + length


class _Slice:
    """A tensor of a file of which only what an index asks for is read."""

    def __init__(self, a: Any, kind: str, be: Any) -> None:
        self._a, self._kind, self._be = a, kind, be

    def get_shape(self) -> list[int]:
        return list(self._a.shape)

    def get_dtype(self) -> str:
        """The dtype's name in the file: F32, BF16..."""
        return self._kind

    def __getitem__(self, index: Any) -> Tensor:
        for i in index if isinstance(index, tuple) else (index,):
            if not (i is Ellipsis or i is None or isinstance(i, slice | int)):
                raise TypeError(f"safetensors: a slice takes ints and slices, not {i!r}: read the "
                                "tensor by get_tensor()")
        # (ascontiguousarray makes one dim of none.)
        return wrap(self._be.from_host(np.array(self._a[index], order="C")), self._be)


class safe_open:
    """A file whose tensors are read when they are asked for.

    Args:
        framework: as the library has it: "pt" (or "torch", "gpugrad"); all give Tensors.
        device: where tensors go.
    """

    def __init__(self, filename: Any, framework: str = "pt", device: Any = "cpu") -> None:
        if framework not in ("pt", "torch", "pytorch", "gpugrad"):
            raise SafetensorError(f"framework {framework!r} is invalid: use 'pt'; NumPy arrays are "
                                  "tensors' .numpy()")
        self._be = backend.get("cuda" if device == "cuda" else
                               f"cuda:{device}" if isinstance(device, int) else device)
        with open(filename, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        self._data = data
        self._entries, self._metadata, self._base = _header(data)
        self._library = _by_library(filename)

    def __enter__(self) -> safe_open:
        return self

    def __exit__(self, *exc: Any) -> None:
        """The file is let go of with the last slice of it."""

    def keys(self) -> list[str]:
        """The tensors' names."""
        return sorted(self._entries)

    def offset_keys(self) -> list[str]:
        """The tensors' names in the order of their memory."""
        return sorted(self._entries, key=lambda name: self._entries[name].start)

    def metadata(self) -> dict[str, str] | None:
        return self._metadata

    def get_slice(self, name: str) -> _Slice:
        if name not in self._entries:
            raise SafetensorError(f"File does not contain tensor {name}")
        e = self._entries[name]
        return _Slice(_array(self._data, self._base, name, e), e.dtype, self._be)

    def get_tensor(self, name: str) -> Tensor:
        e = self._entries.get(name)
        if self._library is not None and e is not None and e.dtype in DTYPES and e.dtype != "BF16":
            return wrap(self._be.from_host(self._library.get_tensor(name)), self._be)
        return self.get_slice(name)[...]

    def get_tensors(self) -> dict[str, Tensor]:
        return {name: self.get_tensor(name) for name in self.offset_keys()}


def _by_library(filename: Any) -> Any:
    """The file as the library has opened it; None without the library."""
    try:
        library = import_module("safetensors")
    except ImportError:
        return None
    return library.safe_open(os.fsdecode(filename), framework="numpy")


def _array(data: Any, base: int, name: str, e: _Entry) -> Any:
    if e.dtype not in DTYPES:
        raise NotImplementedError(f"safetensors: {name} is of dtype {e.dtype}, which tensors don't "
                                  "have here: convert it with PyTorch to F16, BF16 or F32")
    dtype = DTYPES[e.dtype]
    n = math.prod(e.shape)
    raw = np.frombuffer(data, np.uint8, n * dtype.itemsize, base + e.start) if n else \
        np.empty(0, np.uint8)
    if (base + e.start) % dtype.itemsize:
        raw = raw.copy()                         # a header that isn't padded
    return raw.view(dtype.np).reshape(e.shape)


def load_file(filename: Any, device: Any = "cpu") -> dict[str, Tensor]:
    """All tensors of a file."""
    return safe_open(filename, device=device).get_tensors()


def load(data: bytes) -> dict[str, Tensor]:
    """All tensors of a file's bytes."""
    entries, _, base = _header(data)
    return {name: _Slice(_array(data, base, name, e), e.dtype, backend.cpu)[...]
            for name, e in sorted(entries.items(), key=lambda item: item[1].start)}


def save_model(model: Any, filename: Any, metadata: dict[str, str] | None = None,
               force_contiguous: bool = True) -> None:
    """Write a module's state_dict; of several names of one tensor the first, the others named in
    the metadata."""
    kept: dict[str, Tensor] = {}
    first: dict[Any, str] = {}
    notes = dict(metadata or {})
    for name, t in model.state_dict().items():
        key = t._be.name, t._be.address(t._a), t._a.shape, t._a.strides
        if t.numel() and key in first:
            notes[name] = first[key]
            continue
        first[key] = name
        kept[name] = t.contiguous() if force_contiguous else t
    save_file(kept, filename, notes or None)


def load_model(model: Any, filename: Any, strict: bool = True,
               device: Any = "cpu") -> tuple[list[str], list[str]]:
    """Load what ``save_model`` wrote into a module; the names that are missing and unexpected."""
    file = safe_open(filename, device=device)
    state = file.get_tensors()
    for name, other in (file.metadata() or {}).items():
        if other in state and name not in state and name in model.state_dict():
            state[name] = state[other]
    missing, unexpected = model.load_state_dict(state, strict=strict)
    return list(missing), list(unexpected)
