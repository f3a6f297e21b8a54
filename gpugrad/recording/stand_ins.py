"""What stands in the place of a backend's functions and generator while a step is recorded."""
from __future__ import annotations

from typing import Any

import numpy as np


class Functions:
    """NumPy's or CuPy's functions, as the backend has them, heard; also those of linalg and such,
    and the methods of a ufunc."""

    def __init__(self, recorder: Any, real: Any) -> None:
        self._recorder, self._real = recorder, real

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        heard = callable(found) and not isinstance(found, type)
        return Functions(self._recorder, found) if heard or type(found) is type(np) else found

    def __call__(self, *args: Any, **kw: Any) -> Any:
        recorder, f = self._recorder, self._real
        if recorder.idle():
            return f(*args, **kw)
        name = getattr(f, "__name__", "")
        module = getattr(f, "__module__", None) or ""
        if ".linalg" in module and not module.endswith(("._product", "._einsum")):   # CuPy's places
            recorder.refuse(f"linalg.{name}() decides by elements what to do")
        return recorder.hear(name, f, args, kw)


class Draws:
    """A generator, heard. draws: the names of its methods that draw."""

    def __init__(self, recorder: Any, real: Any, draws: frozenset[str]) -> None:
        self._recorder, self._real, self._draws = recorder, real, draws

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if name not in self._draws and name != "reserve":
            return real
        recorder = self._recorder

        def call(*args: Any, **kw: Any) -> Any:
            recorder.drew = True
            if recorder.idle() or name == "reserve":
                return real(*args, **kw)
            result = recorder.hear(name, real, args, kw)
            recorder.drawn()
            return result
        return call
