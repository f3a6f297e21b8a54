"""Where in a model an error came from: a note on the exception, which keeps its type and text.

Each module that an exception leaves adds the name that it knows the last one by: as long as no
error comes nothing is done, and nothing is kept.
"""
from __future__ import annotations

import sys
from typing import Any

from gpugrad import dtypes
from gpugrad._tensor import Tensor


class ModuleNote(Exception):
    """What Python 3.10, whose exceptions have no notes, prints before the error itself."""


class _Note(str):
    """A note, with the outermost module that the path in it starts from."""

    root: Any
    path: str
    inner: str
    given: str


def tell_where(error: Exception, module: Any, args: tuple[Any, ...]) -> None:
    """The error is about to leave a module that was called with ``args``."""
    try:
        before = _found(error)
        if before is None:
            _write(error, None, _note(module, "", type(module).__name__, _described(args)))
            return
        name = next((n for n, m in module.named_modules() if m is before.root), None)
        if name:
            path = f"{name}.{before.path}" if before.path else name
            _write(error, before, _note(module, path, before.inner, before.given))
    except Exception:                 # half-built modules: the error itself is what counts
        pass


def _note(root: Any, path: str, inner: str, given: str) -> _Note:
    where = f"module {path} ({inner}) of {type(root).__name__}" if path else f"module {inner}"
    note = _Note(f"in {where}{given}")
    note.root, note.path, note.inner, note.given = root, path, inner, given
    return note


def _described(args: tuple[Any, ...]) -> str:
    """The shapes of the tensors that the module got."""
    tensors = [f"{dtypes.OF[a._a.dtype].name} {list(a._a.shape)}" for a in args
               if isinstance(a, Tensor)]
    return f", called with {', '.join(tensors)}" if tensors else ""


if sys.version_info >= (3, 11):
    def _found(error: Exception) -> _Note | None:
        for note in getattr(error, "__notes__", ()):
            if type(note) is _Note:
                return note
        return None

    def _write(error: Exception, before: _Note | None, note: _Note) -> None:
        if before is None:
            error.add_note(note)
        else:
            notes = error.__notes__
            notes[notes.index(before)] = note
else:
    def _chain(error: Any) -> list[Any]:
        """The exceptions that are printed with an error, the first one of all last."""
        chain = [error]
        while True:
            e = chain[-1]
            e = e.__cause__ or (None if e.__suppress_context__ else e.__context__)
            if e is None or e in chain:
                return chain
            chain.append(e)

    def _found(error: Exception) -> _Note | None:
        last = _chain(error)[-1]
        return last.args[0] if type(last) is ModuleNote else None

    def _write(error: Exception, before: _Note | None, note: _Note) -> None:
        last = _chain(error)[-1]
        if before is None:
            last.__cause__ = ModuleNote(note)
        else:
            last.args = (note,)
