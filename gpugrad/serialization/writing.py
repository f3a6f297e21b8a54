"""save: write a checkpoint as PyTorch does; the old file stays until the new one is whole."""
from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


def save(obj: Any, f: Any, pickle_module: Any = None, pickle_protocol: int = 2,
         _use_new_zipfile_serialization: bool = True,
         _disable_byteorder_record: bool = False) -> None:
    """Write an object to a path or an open file, for ``load`` or PyTorch's ``torch.load``.

    Tensors that share memory share it again when they are loaded. A path is written atomically: the
    old file stays until the new one is complete and on the disk. An open file is written to
    directly. Of objects other than tensors, containers, numbers and strings the class's name and
    the state are saved; loading them takes ``add_safe_globals``, so save a module's
    ``state_dict()``, not the module. Without ``_use_new_zipfile_serialization`` the format is that
    of PyTorch before 1.6.
    """
    if not isinstance(pickle_protocol, int) or not 2 <= pickle_protocol <= 5:
        raise ValueError(f"save(): pickle_protocol must be from 2 to 5, not {pickle_protocol!r}")
    if getattr(pickle_module, "__name__", "pickle") != "pickle":
        raise NotImplementedError("save(pickle_module=...) is not supported: leave it out")
    if not _use_new_zipfile_serialization:
        from gpugrad.serialization.legacy import write_legacy

        def write(file: Any, root: str) -> None:
            write_legacy(obj, file, pickle_protocol)
    else:
        def write(file: Any, root: str) -> None:
            _write(obj, file, root, not _disable_byteorder_record, pickle_protocol)
    if isinstance(f, str | os.PathLike):
        path = os.fsdecode(f)
        with replacement(path) as file:
            write(file, _archive_name(path))
    elif hasattr(f, "write"):
        write(f, "archive")
    else:
        raise AttributeError("expected 'f' to be string, path, or a file-like object with a "
                             "'write' attribute")


def _write(obj: Any, file: Any, root: str, byteorder: bool, protocol: int) -> None:
    import io

    from gpugrad.serialization.archive import write_archive
    from gpugrad.serialization.pickler import Pickler

    pickled = io.BytesIO()
    pickler = Pickler(pickled, protocol)
    pickler.dump(obj)

    def records() -> Iterator[tuple[str, Any]]:
        yield "data.pkl", pickled.getbuffer()
        if byteorder:
            yield "byteorder", sys.byteorder.encode()
        for key, storage in enumerate(pickler.storages):
            yield f"data/{key}", memoryview(storage.cpu().bytes)
        yield "version", b"3\n"
    write_archive(file, root, records())


def _archive_name(path: str) -> str:
    """The folder inside the archive: the file's name without its ending, where that is plain."""
    name = os.path.splitext(os.path.basename(path))[0]
    return name if name.isascii() and name.strip(". ") else "archive"


@contextlib.contextmanager
def replacement(path: str) -> Iterator[Any]:
    """A new file that takes the place of ``path`` when the block ends, unless it raises."""
    path = os.path.realpath(path)                # a link stays one
    folder, name = os.path.split(path)
    if not os.path.isdir(folder):
        raise RuntimeError(f"Parent directory {folder} does not exist.")
    if os.path.isdir(path):
        raise RuntimeError(f"save(): can't write to {path}: Is a directory")
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as file:           # a pipe or a device can't be replaced
            yield file
        return
    temporary = os.path.join(folder, f".{name[:40]}.{os.urandom(6).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            if os.path.exists(path):
                os.chmod(temporary, os.stat(path).st_mode & 0o7777)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    with contextlib.suppress(OSError):           # the new name, too, where folders can be synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
