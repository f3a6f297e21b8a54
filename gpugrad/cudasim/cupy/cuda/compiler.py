"""cupy.cuda.compiler: the error of a failed compilation."""
from __future__ import annotations

from typing import Any


class CompileException(Exception):
    """The compiler refused a kernel; the message is its log."""

    def __init__(self, msg: str, source: Any, name: str, options: Any,
                 backend: str = "nvrtc") -> None:
        super().__init__(msg)
        self.source, self.name, self.options, self.backend = source, name, options, backend

    def get_message(self) -> str:
        return str(self)
