"""Simulated device memory: NumPy arrays that the runtime knows of, and pointers for kernels."""
from __future__ import annotations

import weakref
from typing import Any

import numpy as np

ALIGNMENT = 256             # of every allocation, as cudaMalloc's
_MARGIN = 256               # bytes on both sides that no kernel should touch


class Pointer:
    """An address in device memory and the dtype of what lies there, as a kernel's argument."""

    __slots__ = ("address", "dtype")

    def __init__(self, address: int, dtype: Any) -> None:
        self.address = address
        self.dtype = dtype

    def __repr__(self) -> str:
        return f"Pointer({self.address:#x}, {self.dtype})"


_blocks: dict[int, tuple[int, int]] = {}        # (bytes, itemsize) by address
_owners: dict[int, _Owner] = {}                 # of what ``allocate`` gave, by address
_runtime: Any = None                            # the C library, once a kernel has needed it


class _Owner(weakref.ref):
    """Watches the array that owns an allocation."""

    __slots__ = ("address",)
    address: int


def allocate(nbytes: int, itemsize: int = 4) -> np.ndarray:
    """nbytes of device memory, as uint8, filled with 0xff: NaN in every floating dtype, -1 in int.

    itemsize: of the elements that will lie there; races are looked for in pieces of up to 4 bytes.
    The memory is released with the last array that shares it.
    """
    whole = np.empty(nbytes + 2 * _MARGIN + ALIGNMENT, np.uint8)
    whole.fill(255)
    base = whole.__array_interface__["data"][0]
    start = -(base + _MARGIN) % ALIGNMENT + _MARGIN
    if nbytes:
        owner = _Owner(whole, _release)
        owner.address = base + start
        _owners[owner.address] = owner
        adopt(owner.address, nbytes, itemsize)
    return whole[start:start + nbytes]


def _release(owner: Any) -> None:
    if _owners is not None:                     # at the interpreter's end, globals may be gone
        _owners.pop(owner.address, None)
        forget(owner.address)


def adopt(address: int, nbytes: int, itemsize: int) -> None:
    """Take memory that somebody else owns for device memory, until ``forget``.

    Memory of a graph's pool may be known already: kernels of the graph still use all of it.
    """
    if address in _blocks:
        nbytes = max(nbytes, _blocks[address][0])
        forget(address)
    _blocks[address] = nbytes, itemsize
    if _runtime is not None:
        _runtime.cs_add_memory(address, nbytes, itemsize)


def forget(address: int) -> None:
    """``adopt`` no longer holds: the memory is about to be freed."""
    if _blocks is not None and _blocks.pop(address, None) is not None and _runtime is not None:
        _runtime.cs_remove_memory(address)


def attach(runtime: Any) -> None:
    """Tell the runtime of all memory, from now on too."""
    global _runtime
    for address, (nbytes, itemsize) in list(_blocks.items()):
        runtime.cs_add_memory(address, nbytes, itemsize)
    _runtime = runtime


def holds(address: int) -> bool:
    """Whether an address lies in device memory."""
    return any([start <= address < start + nbytes
                for start, (nbytes, _) in list(_blocks.items())])
