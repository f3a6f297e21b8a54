"""A stand-in for a shared library: it takes the arguments as C would, and notes them."""
from __future__ import annotations

import ctypes
from typing import Any

from gpugrad.backend.bindings import Int


def as_c(kind: Any) -> Any:
    return ctypes.c_int if kind is Int else kind


class Function:
    """A function of the library, as ctypes has them."""

    argtypes: Any = None
    restype: Any = None

    def __init__(self, library: Noted, name: str) -> None:
        self.library, self.name = library, name

    def __call__(self, *args: Any) -> int:
        assert len(args) == len(self.argtypes)
        self.library.seen[self.name] = [as_c(t)(a).value if isinstance(a, int) else a
                                        for t, a in zip(self.argtypes, args)]
        self.library.called(self.name, args)
        return self.library.status


class Noted:
    """The library: ``seen`` has each function's last arguments, ``status`` is what all return."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}
        self.functions: dict[str, Function] = {}
        self.status = 0

    def called(self, name: str, args: Any) -> None:
        """What a function does besides."""

    def __getattr__(self, name: str) -> Function:
        return self.functions.setdefault(name, Function(self, name))
