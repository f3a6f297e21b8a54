"""The format of PyTorch before 1.6: pickles one after another, then the memory of each storage."""
from __future__ import annotations

import pickle
import pickletools
import struct
import sys
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np

from gpugrad.backend import cpu
from gpugrad.serialization.contents import Contents
from gpugrad.serialization.memory import Storage
from gpugrad.serialization.unpickler import Unpickler

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def is_legacy(head: bytes) -> bool:
    """Whether a file that begins so has this format: any protocol may have written the number."""
    return _MAGIC.to_bytes(10, "little") in head[:32] and head[:1] == b"\x80"


class _Nothing:
    """Refuses whatever a pickle of plain data doesn't have."""

    def __call__(self, *args: Any) -> Any:
        raise ValueError("an object where plain data should be")


def _pickle_end(data: bytes, start: int) -> int:
    """Where the pickle that begins at ``start`` ends."""
    stream = BytesIO(data)
    stream.seek(start)
    try:
        for _ in pickletools.genops(stream):
            pass
    except (ValueError, struct.error, OverflowError) as error:
        if "exhausted" in str(error) or "expected" in str(error) or stream.tell() >= len(data):
            raise EOFError(f"Ran out of input: the pickle is cut off ({error})") from error
        raise pickle.UnpicklingError(f"the pickle is damaged: {error}") from error
    return stream.tell()


class LegacyFile:
    """Reads a file of the old format: ``load()`` gives its object.

    The memory of a storage is made when the pickle names it, and read when all are known, as the
    file says only by their dtypes where each begins. Together they may not be longer than the file.
    """

    def __init__(self, file: Any, place: Callable[[Storage, str], Storage],
                 trusted: dict[str, Any]) -> None:
        data = file.read()
        plain, at = _Nothing(), 0
        parts = []
        for _ in range(5):
            end = _pickle_end(data, at)
            parts.append(data[at:end])
            at = end

        def value(i: int) -> Any:
            return Unpickler(parts[i], plain, plain, plain).load()
        if value(0) != _MAGIC:
            raise RuntimeError("Invalid magic number; corrupt file?")
        if value(1) != _PROTOCOL:
            raise RuntimeError(f"Invalid protocol version: {value(1)!r}")
        self._keys = value(4)
        if type(self._keys) is not list or any(type(k) is not str for k in self._keys):
            raise pickle.UnpicklingError("the pickle is damaged: the storages have no list of keys")
        self._known = set(self._keys)
        self._data, self._at, self._left = data, at, len(data) - at
        self._place = place
        self._made: dict[str, tuple[Any, Storage, int]] = {}
        self.contents = Contents(parts[3], self._memory, self._placed, False, trusted)

    def _memory(self, key: str, size: int, itemsize: int) -> Any:
        self._left -= size
        if not 0 <= size <= self._left + size or key not in self._known:
            raise RuntimeError(f"storage {key} of {size} bytes doesn't fit the file: it is cut off "
                               "or damaged")
        self._filling = np.empty(size, np.uint8), key, itemsize
        return self._filling[0]

    def _placed(self, storage: Storage, name: str) -> Storage:
        data, key, itemsize = self._filling
        placed = self._place(storage, name)
        self._made[key] = data, placed, itemsize
        return placed

    def load(self) -> Any:
        obj = self.contents.load()
        at = self._at
        for key in self._keys:
            if key not in self._made:
                raise RuntimeError(f"the file has a storage {key} that no tensor uses: it is "
                                   "damaged")
            data, placed, itemsize = self._made.pop(key)
            if at + 8 + data.size > len(self._data):
                raise RuntimeError(f"unexpected EOF: the file is cut off in storage {key}")
            count = struct.unpack_from("<q", self._data, at)[0]
            if count * itemsize != data.size:
                raise RuntimeError(f"storage has wrong byte size: expected {data.size} got "
                                   f"{count * itemsize}")
            at += 8
            data[:] = np.frombuffer(self._data, np.uint8, data.size, at)
            at += data.size
            if sys.byteorder == "big" and itemsize > 1:
                data.view(f"u{itemsize}").byteswap(inplace=True)
            if placed.be is not cpu and placed.device.type != "meta":
                placed.bytes[...] = placed.be.from_device(data, cpu)
            elif placed.be is cpu and placed.bytes is not data:
                placed.bytes[...] = data
        if self._made:
            raise RuntimeError(f"the storages {sorted(self._made)} are not in the file: it is "
                               "damaged")
        return obj


def write_legacy(obj: Any, file: Any, protocol: int) -> None:
    """Write an object in the old format."""
    from gpugrad.serialization.pickler import Pickler

    body = BytesIO()
    pickler = Pickler(body, protocol, legacy=True)
    pickler.dump(obj)
    sizes = {"short": 2, "int": 4, "long": 4}
    about = {"protocol_version": _PROTOCOL, "little_endian": sys.byteorder == "little",
             "type_sizes": sizes}
    for value in (_MAGIC, _PROTOCOL, about):
        file.write(pickle.dumps(value, protocol))
    file.write(body.getvalue())
    file.write(pickle.dumps([str(i) for i in range(len(pickler.storages))], protocol))
    for storage, itemsize in zip(pickler.storages, pickler.itemsizes, strict=True):
        data = storage.cpu().bytes
        file.write(struct.pack("<q", data.size // itemsize))
        if sys.byteorder == "big" and itemsize > 1:
            data = data.view(f"u{itemsize}").byteswap().view(np.uint8)
        file.write(memoryview(data))
