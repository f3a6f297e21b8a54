"""torch.backends.mkl: NumPy chooses its BLAS; whether that is MKL is not known here."""
from __future__ import annotations

from typing import Any

VERBOSE_OFF, VERBOSE_ON = 0, 1


def is_available() -> bool:
    """False."""
    return False


class verbose:
    """A context without effect."""

    def __init__(self, enable: int) -> None:
        self.enable = enable

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        pass
