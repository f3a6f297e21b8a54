"""The CPU: NumPy, as the base class has it, and PyTorch's CPU random streams."""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from gpugrad._blas_threads import QUIET
from gpugrad.backend.base import MANY, Backend
from gpugrad.backend.random import CPUGenerator
from gpugrad.device import device
from gpugrad.dtypes import FLOATING

# As in PyTorch, log(0) and 0 / 0 are silent; NumPy's own users keep their warnings.
warnings.filterwarnings("ignore", ".* encountered in ", RuntimeWarning, r"gpugrad\b")

# So many multiplications are done faster by BLAS, unless it has several threads that would go on
# looking for work after each product, in the way of those of the helper.
LARGE = 1 << 27
# The integers as wide as a floating dtype, by its size.
_BITS: dict[int, Any] = {n: np.dtype(f"i{n}") for n in (2, 4, 8)}


class CPUBackend(Backend):
    """NumPy arrays in the machine's own memory."""

    worth_sharing = 1 << 25

    def __init__(self) -> None:
        super().__init__(device("cpu"))
        # Freed at once: it teaches glibc to serve large arrays from the heap, until freed_memory.py
        # says more. Else each step asks the kernel anew, a fault every 4 KB.
        np.empty((32 << 20) - 65536, np.uint8)
        self.generator = CPUGenerator()
        self.asarray = np.asarray  # type: ignore[method-assign]    # a Python frame less

    def writable(self, a: Any) -> Any:
        if not a.flags.writeable:
            try:
                a.flags.writeable = True
            except ValueError:                   # the memory itself is read-only
                pass
        return a

    def copy(self, a: Any) -> Any:
        return a.copy() if type(a) is np.ndarray else super().copy(a)

    def helped(self, name: str, *arrays: Any, numbers: Any = ()) -> Any:
        from gpugrad.backend.compiled import each

        return each(name, *arrays, numbers=numbers)

    def product(self, a: Any, b: Any, out: Any) -> Any:
        from gpugrad.backend import threads
        from gpugrad.backend.compiled import FLOAT, for_floats

        size = a.size * b.shape[1]
        if a.shape[1] != b.shape[0] or min(len(a), len(b), b.shape[1]) < 8:
            return None
        c = for_floats(a, b) if out is None else None
        if c is None or ((c.alone or QUIET) and size >= LARGE):
            return threads.alone(np.dot, a, b, out) if QUIET and size < self.worth_sharing else None
        out = np.empty((len(a), b.shape[1]), FLOAT)
        c.product(a, b, out)
        return out

    def products(self, a: Any, b: Any, out: Any) -> Any:
        from gpugrad.backend import threads

        if QUIET and a.size * b.shape[-1] < self.worth_sharing:
            return threads.alone(np.matmul, a, b, out)
        return np.matmul(a, b, out=out)

    def total(self, x: Any, dim: Any) -> Any:
        from gpugrad.backend.compiled import total

        return total(x, dim)

    def keep(self, x: Any, mask: Any) -> Any:
        if x.dtype.kind not in FLOATING or mask.dtype.char != "?":
            return super().keep(x, mask)
        return self._and(x, mask, np.negative)

    def drop(self, x: Any, mask: Any) -> Any:
        if x.dtype.kind not in FLOATING or mask.dtype.char != "?":
            return super().drop(x, mask)
        if x.size <= MANY and x.ndim and x.shape == mask.shape:   # then calls cost more than work
            out = x.copy("K")
            np.putmask(out, mask, self.zero[x.dtype])
            return out
        return self._and(x, mask, _less_one)

    def _and(self, x: Any, mask: Any, bits: Any) -> Any:
        """The bits of x and'ed with those, all ones or all zeros, which ``bits`` makes of the mask.

        NumPy's where takes ten times as long with a mask that is hard to predict, and a product
        would make NaN of infinity times 0.
        """
        integer, alike = _BITS[x.dtype.itemsize], x.shape == mask.shape
        out = np.empty_like(x) if alike else \
            np.empty(np.broadcast_shapes(x.shape, mask.shape), x.dtype)
        a, b, c = arrays = x.view(integer), mask.view(np.int8), out.view(integer)
        n = self.chunk
        if not alike or x.size <= n or not x.flags.c_contiguous or not mask.flags.c_contiguous:
            np.bitwise_and(a, bits(b, dtype=integer), out=c)
            return out
        flat = [v.reshape(-1) for v in arrays]

        def work(i: int) -> None:
            a, b, c = [v[i:i + n] for v in flat]
            np.bitwise_and(a, bits(b, dtype=integer), out=c)

        self.share(work, range(0, x.size, n), x.size * self.element_cost)
        return out


def _less_one(a: Any, dtype: Any) -> Any:
    return np.subtract(a, 1, dtype=dtype)
