"""load: read a checkpoint that PyTorch or ``save`` wrote, running nothing of what is in it."""
from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from gpugrad import backend
from gpugrad.device import device as Device
from gpugrad.serialization.memory import Storage

_NEWEST_VERSION = 10

# Classes that the user trusts, by the name that pickles have for them.
trusted: dict[str, Any] = {}


def load(f: Any, map_location: Any = None, pickle_module: Any = None, *,
         weights_only: bool | None = None, mmap: bool | None = None,
         **pickle_load_args: Any) -> Any:
    """Read what ``save``, or PyTorch's ``torch.save``, wrote to a path or an open binary file.

    Nothing in a file can run code, whatever ``weights_only`` says. It may hold tensors, parameters,
    Python's containers and scalars, NumPy arrays, and the classes named to ``add_safe_globals``.

    Args:
        map_location: where tensors go, by default the device that they were saved from. A device or
            its name; a dict from saved to wanted names; or a function of (storage, saved name) that
            returns the storage, ``storage.cpu()`` or ``storage.cuda(i)``, or None for the default.
        mmap: map the file at this path, and read the memory of a tensor at its first use. What is
            written to the tensor stays out of the file.

    Errors: pickle.UnpicklingError for a file that isn't a checkpoint or holds something that isn't
    allowed; RuntimeError or EOFError for a damaged one.
    """
    if pickle_module is not None:
        raise NotImplementedError("load(pickle_module=...) is not supported: leave it out")
    pickle_load_args.pop("encoding", None)
    if pickle_load_args:
        name = next(iter(pickle_load_args))
        raise TypeError(f"load() got an unexpected keyword argument '{name}'")
    if isinstance(f, str | os.PathLike):
        with open(f, "rb") as file:
            return _read(file, os.fspath(f), map_location, bool(mmap))
    if mmap:
        raise ValueError("f must be a file path in order to use the mmap argument")
    for name in ("seek", "read", "tell"):
        if not hasattr(f, name):
            raise AttributeError(f"'{type(f).__name__}' object has no attribute '{name}'. You can "
                                 "only torch.load from a file that is seekable. Please pre-load "
                                 "the data into a buffer like io.BytesIO and try to load from it "
                                 "instead.")
    return _read(f, getattr(f, "name", "the file"), map_location, False)


def get_unsafe_globals_in_checkpoint(f: Any) -> list[str]:
    """The names in a checkpoint that ``load`` refuses, for ``add_safe_globals`` to be given those
    that you trust. Nothing of the file is made."""
    if isinstance(f, str | os.PathLike):
        with open(f, "rb") as file:
            return _contents(file, os.fspath(f), None, False)[0].unsafe()
    return _contents(f, getattr(f, "name", "the file"), None, False)[0].unsafe()


def _read(file: Any, name: Any, map_location: Any, mapped: bool) -> Any:
    from pickle import UnpicklingError

    try:
        return _contents(file, name, map_location, mapped)[1].load()
    except UnpicklingError as error:
        if str(error).startswith("Weights only"):
            raise
        raise UnpicklingError(f"Weights only load failed: {name}: {error}") from error


def _contents(file: Any, name: Any, map_location: Any, mapped: bool) -> tuple[Any, Any]:
    """The contents of a file, and what loads them."""
    from gpugrad.serialization.archive import Archive
    from gpugrad.serialization.contents import Contents

    if _is_legacy(file, name):
        from gpugrad.serialization.legacy import LegacyFile

        if mapped:
            raise RuntimeError("mmap can only be used with files saved with "
                               "`torch.save(_use_new_zipfile_serialization=True)`, please torch."
                               f"save {name} with this option in order to use mmap.")
        old = LegacyFile(file, _placing(map_location), trusted)
        return old.contents, old
    archive = Archive(file, name, mapped)
    if "constants.pkl" in archive:
        raise NotImplementedError(f"load(): {name} is a TorchScript archive: save the model's "
                                  "state_dict() by PyTorch, and load that")
    if "version" not in archive:
        raise RuntimeError(f'{name} is not a checkpoint: Expected hasRecord("version") to be true, '
                           "but got false.")
    version = archive.read("version").tobytes().strip()
    if not version.isdigit() or len(version) > 4 or int(version) > _NEWEST_VERSION:
        raise RuntimeError(f"{name}: Attempted to read a PyTorch file with version "
                           f"{version.decode('ascii', 'replace')}, but the maximum supported "
                           f"version for reading is {_NEWEST_VERSION}.")
    order = archive.read("byteorder").tobytes() if "byteorder" in archive else b"little"
    if order not in (b"little", b"big"):
        raise ValueError(f"Unknown endianness type: {order.decode('ascii', 'replace')}")
    contents = Contents(archive.read("data.pkl").tobytes(),
                        lambda key, size, itemsize: archive.read(f"data/{key}", lazily=True),
                        _placing(map_location), order.decode() != sys.byteorder, trusted)
    return contents, contents


def _is_legacy(file: Any, name: Any) -> bool:
    """Whether a file is of the format before 1.6; an error if it is no checkpoint at all."""
    from pickle import UnpicklingError

    start = file.tell()
    head = file.read(512)
    file.seek(start)
    if isinstance(head, str):
        raise TypeError(f"load(): {name} is open in text mode: open it with mode 'rb'")
    if not head:
        raise EOFError(f"Ran out of input: {name} is empty")
    if head[:1] == b"\x80":
        from gpugrad.serialization.legacy import is_legacy

        if is_legacy(head):
            return True
    if head[257:262] == b"ustar":
        raise RuntimeError(f"Cannot use ``weights_only=True`` with files saved in the legacy .tar "
                           f"format, and {name} is one: load it by PyTorch and save it again")
    if str(name).endswith(".safetensors") or (head[8:9] == b"{" and head[3:8] == bytes(5)):
        raise UnpicklingError(f"Weights only load failed: {name} is a safetensors file: read it by "
                              "gpugrad.utils.safetensors.load_file")
    if head[:4] != b"PK\x03\x04":
        raise UnpicklingError(f"Weights only load failed: {name} is not a checkpoint: it begins "
                              f"with {head[:8]!r}, not as a zip archive does")
    return False


# Where storages go --------------------------------------------------------------------------------

def _placing(map_location: Any) -> Callable[[Storage, str], Storage]:
    """``map_location`` as a function from a storage on the CPU and its name to where it goes."""
    if map_location is None:
        return _place
    if isinstance(map_location, dict):
        return lambda storage, name: _place(storage, map_location.get(name, name))
    if isinstance(map_location, str | Device):
        return lambda storage, name: _place(storage, str(map_location))
    if not callable(map_location):
        raise TypeError(f"'{type(map_location).__name__}' object is not callable: map_location "
                        "must be a device, its name, a dict, a function or None")

    def call(storage: Storage, name: str) -> Storage:
        out = map_location(storage, name)
        if out is None:
            return _place(storage, name)
        if not isinstance(out, Storage):
            raise TypeError("map_location must return the storage that it was given, or its .cpu() "
                            f"or .cuda(i), not a {type(out).__name__}")
        return out
    return call


def _place(storage: Storage, name: Any) -> Storage:
    name = str(name)
    if name == "cpu":
        return storage
    if name.partition(":")[0] not in ("cuda", "meta", "cpu"):
        raise RuntimeError("don't know how to restore data location of "
                           f"torch.storage.UntypedStorage (tagged with {name})")
    try:
        backend.get(name)
    except RuntimeError as error:
        if isinstance(error, NotImplementedError) or not name.startswith("cuda"):
            raise
        raise RuntimeError(
            f"Attempting to deserialize object on a CUDA device but '{name}' can't be used: "
            f"{error}. If you are running on a CPU-only machine, please use torch.load with "
            "map_location=torch.device('cpu') to map your storages to the CPU.") from error
    return storage.to(name)


# Trusted classes ----------------------------------------------------------------------------------

def add_safe_globals(safe_globals: list[Any]) -> None:
    """Let ``load`` make objects of these classes: their code then runs on data from files.

    A pair of a class and a name stands for the class as that name in files.
    """
    for item in safe_globals:
        if isinstance(item, tuple):
            cls, name = item
            trusted[name] = cls
        else:
            trusted[f"{item.__module__}.{item.__qualname__}"] = item


def get_safe_globals() -> list[Any]:
    """What ``add_safe_globals`` was given."""
    return list(trusted.values())


def clear_safe_globals() -> None:
    """Trust no class any more."""
    trusted.clear()


@contextlib.contextmanager
def safe_globals(safe_globals: list[Any]) -> Iterator[None]:
    """``add_safe_globals`` for the length of a block."""
    before = dict(trusted)
    add_safe_globals(safe_globals)
    try:
        yield
    finally:
        trusted.clear()
        trusted.update(before)
