"""The CPU: NumPy, as the base class has it, and PyTorch's CPU random streams."""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from gpugrad.backend.base import Backend
from gpugrad.backend.random import CPUGenerator
from gpugrad.device import device

# As in PyTorch, log(0) and 0 / 0 are silent; NumPy's own users keep their warnings.
warnings.filterwarnings("ignore", ".* encountered in ", RuntimeWarning, r"gpugrad\b")

# The integers as wide as a floating dtype.
_BITS: dict[Any, Any] = {np.dtype(f"f{n}"): np.dtype(f"i{n}") for n in (2, 4, 8)}


class CPUBackend(Backend):
    """NumPy arrays in the machine's own memory."""

    def __init__(self) -> None:
        super().__init__(device("cpu"))
        # Freed at once: it teaches glibc to serve large arrays from the heap and to keep what is
        # freed, up to 64 MB. Else each training step asks the kernel anew, a fault every 4 KB.
        np.empty((32 << 20) - 65536, np.uint8)
        self.generator = CPUGenerator()

    def keep(self, x: Any, mask: Any) -> Any:
        if x.dtype not in _BITS or mask.dtype.char != "?":
            return super().keep(x, mask)
        return and_bits(x, np.negative(mask.view(np.int8), dtype=_BITS[x.dtype]))

    def drop(self, x: Any, mask: Any) -> Any:
        if x.dtype not in _BITS or mask.dtype.char != "?":
            return super().drop(x, mask)
        return and_bits(x, np.subtract(mask.view(np.int8), 1, dtype=_BITS[x.dtype]))


def and_bits(x: Any, bits: Any) -> Any:
    """The bits of x and'ed with all ones or all zeros, broadcast.

    NumPy's where takes ten times as long with a mask that is hard to predict, and a product would
    make NaN of infinity times 0.
    """
    shape = x.shape if x.shape == bits.shape else np.broadcast_shapes(x.shape, bits.shape)
    out = np.empty(shape, x.dtype)
    np.bitwise_and(x.view(bits.dtype), bits, out=out.view(bits.dtype))
    return out
