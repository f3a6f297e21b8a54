"""What a forked process may do with its parent's CUDA devices: nothing, and it says so."""
from __future__ import annotations

from typing import Any, NoReturn

from gpugrad import backend
from gpugrad.backend import cuda

_TEXT = ("Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you "
         "must use the 'spawn' start method")


class _Refused:
    """The class of a device's backend from now on: whatever is asked of it raises."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("index", "name", "device", "__class__", "__dict__"):
            return object.__getattribute__(self, name)
        _raise()


def _raise() -> NoReturn:
    raise RuntimeError(_TEXT)


def refuse() -> None:
    """In a process just forked: from now on every use of a CUDA device raises RuntimeError."""
    for be in cuda.made():
        be.__class__ = type("_Refused", (_Refused,), {"index": 1})
    cuda._made.clear()
    for d in [d for d in backend._made if d.type == "cuda"]:
        del backend._made[d]
    cuda.forked[0] = _TEXT
