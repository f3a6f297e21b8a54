"""Functions that PyTorch has taken away, and answers with what to call instead."""
from __future__ import annotations

from typing import Any

_INSTEAD = {
    "eig": "torch.linalg.eig, which returns complex tensors",
    "lstsq": "torch.linalg.lstsq, which takes the arguments the other way round",
    "solve": "torch.linalg.solve, which takes the arguments the other way round and returns no LU "
             "factorization",
    "symeig": "torch.linalg.eigh, which reads the lower triangle by default",
    "matrix_rank": "torch.linalg.matrix_rank"}


def removed(name: str) -> Any:
    """The function of this name: it only raises."""
    def refuse(*args: Any, **kw: Any) -> Any:
        raise RuntimeError("This function was deprecated since version 1.9 and is now removed. Use "
                           f"{_INSTEAD[name]}.")
    refuse.__name__ = refuse.__qualname__ = name
    refuse.__doc__ = f"Removed: {_INSTEAD[name]}."
    return refuse
