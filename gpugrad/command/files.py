"""``inspect`` and ``convert``: checkpoints of PyTorch's, safetensors, and NumPy's .npz."""
from __future__ import annotations

import json
import math
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import gpugrad
from gpugrad._printing import bytes_text as size
from gpugrad._tensor import Tensor
from gpugrad.command.line import fail

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
FORMATS = (*PICKLED, ".safetensors", ".npz")


class Entry(NamedTuple):
    """A tensor in a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


class Unusable(Exception):
    """Why a file can't be used."""


def _format(path: Path) -> str:
    if path.suffix not in FORMATS:
        raise Unusable(f"{path}: the ending must be one of {', '.join(FORMATS)}")
    return ".pt" if path.suffix in PICKLED else path.suffix


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All tensors in nested dicts and sequences, by the path that leads to them."""
    if isinstance(value, Tensor):
        yield name or "tensor", value
    elif isinstance(value, dict):
        for k, v in value.items():
            yield from _tensors(v, f"{name}.{k}" if name else str(k))
    elif isinstance(value, list | tuple):
        for i, v in enumerate(value):
            yield from _tensors(v, f"{name}.{i}" if name else str(i))


# Listing ------------------------------------------------------------------------------------------


def _listed(path: Path) -> list[Entry]:
    kind = _format(path)
    if kind == ".npz":
        return list(_listed_npz(path))
    if kind == ".safetensors":
        from gpugrad.utils import safetensors
        with safetensors.safe_open(path) as file:
            parts = {name: file.get_slice(name) for name in file.offset_keys()}
            return [_entry(name, safetensors.DTYPES[part.get_dtype()], part.get_shape())
                    for name, part in parts.items()]
    if zipfile.is_zipfile(path):                 # else it is of before PyTorch 1.6
        held = gpugrad.load(path, map_location="cpu", weights_only=True, mmap=True)
    else:
        held = gpugrad.load(path, map_location="meta", weights_only=True)
    return [_entry(name, t.dtype, t.shape) for name, t in _tensors(held)]


def _entry(name: str, dtype: Any, shape: Any) -> Entry:
    return Entry(name, dtype.name, tuple(shape), math.prod(shape) * dtype.itemsize)


def _listed_npz(path: Path) -> Iterator[Entry]:
    """The arrays' headers alone are read."""
    with zipfile.ZipFile(path) as archive:
        for item in archive.infolist():
            with archive.open(item) as file:
                version = np.lib.format.read_magic(file)
                read = {(1, 0): np.lib.format.read_array_header_1_0,
                        (2, 0): np.lib.format.read_array_header_2_0}.get(version)
                if read is None:
                    raise Unusable(f"{path}: {item.filename} has NumPy's format {version}, which "
                                   "is not for numbers")
                shape, _, dtype = read(file)
            name, bits, _ = item.filename.removesuffix(".npy").partition("::bfloat16")
            yield _entry(name, gpugrad.bfloat16 if bits else dtype, shape)


def inspect(options: Any) -> int:
    """Print names, shapes, dtypes and sizes of a file's tensors."""
    path = Path(options.file)
    try:
        entries = _checked(path, _listed)
    except Unusable as e:
        return fail(str(e))
    if options.json:
        json.dump([{**e._asdict(), "shape": list(e.shape)} for e in entries], sys.stdout, indent=2)
        print()
        return 0
    rows = [(e.name, e.dtype, "x".join(map(str, e.shape)) or "()", size(e.bytes)) for e in entries]
    widths = [max([len(row[i]) for row in rows], default=0) for i in range(4)]
    for name, dtype, shape, much in rows:
        print(f"{name:<{widths[0]}}  {dtype:<{widths[1]}}  {shape:>{widths[2]}}  "
              f"{much:>{widths[3]}}")
    count = sum(math.prod(e.shape) for e in entries)
    print(f"{len(entries)} tensors, {count:,} elements, {size(sum(e.bytes for e in entries))}; "
          f"the file has {size(path.stat().st_size)}")
    return 0


def _checked(path: Path, read: Any) -> Any:
    """What a reader returns; Unusable, with a reason, for whatever it raises."""
    if not path.is_file():
        raise Unusable(f"there is no file {path}")
    try:
        return read(path)
    except Unusable:
        raise
    except Exception as e:
        why = str(e).splitlines()[0] if str(e) else repr(e)
        raise Unusable(f"{path} can't be read: {why}") from e


# Converting ---------------------------------------------------------------------------------------


def _flat(path: Path) -> dict[str, Tensor]:
    """A file's tensors by name."""
    kind = _format(path)
    if kind == ".npz":
        from gpugrad.utils.npz import load_npz
        return load_npz(path)
    if kind == ".safetensors":
        from gpugrad.utils import safetensors
        loaded: dict[str, Tensor] = safetensors.load_file(path)
        return loaded
    found: dict[str, Tensor] = {}
    for name, t in _tensors(gpugrad.load(path, map_location="cpu", weights_only=True)):
        if name in found:
            raise Unusable(f"{path} has two tensors that would be called {name!r}: convert parts "
                           "of it in a program")
        found[name] = t
    return found


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    kind = _format(path)
    if kind == ".safetensors":
        from gpugrad.utils import safetensors
        safetensors.save_file({k: t.contiguous() for k, t in tensors.items()}, path)
    elif kind == ".npz":
        from gpugrad.utils.npz import save_npz
        save_npz(tensors, path)
    else:
        gpugrad.save(tensors, path)


def convert(options: Any) -> int:
    """Write the tensors of one file to another, in the format that its ending says."""
    source, target = Path(options.source), Path(options.target)
    try:
        _format(target)
        if target.exists() and not options.force:
            raise Unusable(f"{target} exists: say --force to write over it")
        tensors = _checked(source, _flat)
        _write(tensors, target)
    except Unusable as e:
        return fail(str(e))
    except (OSError, RuntimeError) as e:
        return fail(f"{target} can't be written: {e}")
    print(f"{len(tensors)} tensors written to {target}, {size(target.stat().st_size)}")
    return 0
