"""Tensors by name as NumPy's .npz: what ``numpy.load`` reads, and ``numpy.savez`` writes."""
from __future__ import annotations

import io
import math
import os
import zipfile
import zlib
from typing import Any

import numpy as np

from gpugrad import backend, dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.serialization.writing import replacement

# NumPy's files have no bfloat16: its bits are kept, under a name that says so.
_BITS = "::bfloat16"


def save_npz(tensors: dict[str, Tensor], filename: Any, compressed: bool = False) -> None:
    """Write tensors by name, as a ``state_dict()`` has them; the old file stays until the new one
    is whole. bfloat16 is written as the uint16 of its bits, with ``::bfloat16`` after the name."""
    for name, t in tensors.items():
        if not isinstance(name, str) or not isinstance(t, Tensor):
            raise TypeError(f"save_npz: {name!r} is a {type(t).__name__}: only tensors with names "
                            "can be saved")
    how = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with replacement(os.fsdecode(filename)) as file, zipfile.ZipFile(file, "w", how) as archive:
        for name, t in tensors.items():
            a = t._be.to_host(t._a)
            if t.dtype is dtypes.bfloat16:
                a, name = a.view(np.uint16), name + _BITS
            with archive.open(name + ".npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(a), allow_pickle=False)


def load_npz(filename: Any, device: Any = "cpu") -> dict[str, Tensor]:
    """The tensors of a .npz file by name. ValueError for a file that is none, or is damaged."""
    be = backend.get(device)
    out = {}
    try:
        with zipfile.ZipFile(filename) as archive:
            for info in archive.infolist():
                a = _member(archive, info)
                name = info.filename.removesuffix(".npy")
                if name.endswith(_BITS):
                    name, a = name.removesuffix(_BITS), a.view(dtypes.bfloat16.np)
                out[name] = wrap(be.from_host(a), be)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OverflowError) as error:
        raise ValueError(f"load_npz: {filename} is not a .npz file, or is damaged: "
                         f"{error}") from error
    return out


def _member(archive: zipfile.ZipFile, info: Any) -> Any:
    with archive.open(info) as member:
        # No size is believed: memory grows with what is there.
        data = member.read()
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else \
        np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject or dtype.newbyteorder("=") not in dtypes.OF:
        raise ValueError(f"load_npz: {info.filename} has the dtype {dtype}, which tensors don't "
                         "have")
    if math.prod(shape) * dtype.itemsize != len(data) - stream.tell() or min(shape, default=0) < 0:
        raise ValueError(f"load_npz: {info.filename} of shape {shape} doesn't fit its size")
    a = np.frombuffer(data, dtype, math.prod(shape), stream.tell())
    a = a.reshape(shape, order="F" if fortran else "C")
    return dtypes.adopt(np.array(a, dtype.newbyteorder("=")))
