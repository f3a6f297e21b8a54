"""The zip archive of a checkpoint: named records, stored without compression."""
from __future__ import annotations

import mmap
import struct
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

_ALIGNMENT = 64


def write_archive(file: Any, root: str, records: Iterable[tuple[str, Any]]) -> None:
    """Write records, pairs of name and bytes, in the folder ``root`` of a new archive."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in records:
            info = zipfile.ZipInfo(f"{root}/{name}")
            info.create_system, info.file_size = 0, len(data)
            assert archive.fp is not None
            # Records start at multiples of 64 bytes, for readers that map the file.
            start = archive.fp.tell() + 30 + len(info.filename) + 4
            start += 20 if len(data) * 1.05 > zipfile.ZIP64_LIMIT else 0
            padding = -start % _ALIGNMENT
            info.extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)
            with archive.open(info, "w") as record:
                record.write(data)


class Archive:
    """Reads the records of an archive.

    No size that the file claims is believed before it is checked against the file's own length, and
    all records together may not be longer than the file. RuntimeError for what doesn't fit.
    """

    def __init__(self, file: Any, name: Any, mapped: bool = False) -> None:
        self._file, self._name = file, name
        # Private memory: what is written to it stays out of the file.
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if mapped else None
        self._length = self._left = file.seek(0, 2)
        try:
            infos = zipfile.ZipFile(file).infolist()
        except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError,
                OverflowError, EOFError) as error:
            raise self._damaged("failed finding central directory", error) from error
        self._infos = {info.filename: info for info in infos}
        first = infos[0].filename if infos else ""
        self._root, slash, _ = first.partition("/")
        if not slash:
            raise RuntimeError(f"{name} is a zip archive but not a checkpoint: file in archive is "
                               f"not in a subdirectory: {first}")

    def __contains__(self, record: str) -> bool:
        return f"{self._root}/{record}" in self._infos

    def read(self, record: str, lazily: bool = False) -> Any:
        """The bytes of a record as a NumPy array of uint8, which is the caller's.

        ``lazily``, of a mapped file: the system reads them at their first use, and nobody compares
        the checksum.
        """
        info = self._infos.get(f"{self._root}/{record}")
        if info is None:
            raise self._damaged(f"failed locating file {record}: file not found")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise RuntimeError(f"{self._name}: record {record} is compressed or encrypted, which "
                               "no checkpoint is: zip it again without, as by zip -0")
        size = info.file_size
        head = self._bytes(info.header_offset, 30, record)
        # The fields between are known from the central directory.
        signature, name_length, extra_length = struct.unpack("<4s22xHH", head)
        if signature != b"PK\x03\x04" or info.compress_size != size or size > self._left:
            raise self._damaged(f"record {record} doesn't fit the file")
        self._left -= size
        start = info.header_offset + 30 + name_length + extra_length
        if lazily and self._map is not None and start % 16 == 0 and start + size <= self._length:
            return np.frombuffer(self._map, np.uint8, size, start)
        data = self._bytes(start, size, record)
        # PyTorch can be told to leave checksums out; they are 0 then.
        if info.CRC and zlib.crc32(data) != info.CRC:
            raise self._damaged(f"record {record} has a wrong checksum")
        return data

    def _bytes(self, start: int, size: int, record: str) -> Any:
        if not 0 <= start <= start + size <= self._length:
            raise self._damaged(f"record {record} lies outside the file")
        out: Any = np.empty(size, np.uint8)
        view = memoryview(out)
        self._file.seek(start)
        into = getattr(self._file, "readinto", None)
        while view:
            if into is not None:
                n = into(view)
            else:
                part = self._file.read(min(len(view), 1 << 20))
                n = len(part)
                view[:n] = part
            if not n:
                raise self._damaged(f"record {record} is cut off")
            view = view[n:]
        return out

    def _damaged(self, what: str, error: Any = None) -> RuntimeError:
        detail = f" ({error})" if error else ""
        return RuntimeError(f"PytorchStreamReader failed reading zip archive: {what}{detail}. "
                            f"{self._name} is cut off or damaged: the checkpoint was not saved or "
                            "copied completely, or was modified afterwards")
