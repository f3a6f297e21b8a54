"""Simulated device memory: blocks, and the arenas of memory pools that account for them."""
from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.cudasim.state import switches, thread

TOTAL = 16 << 30            # bytes of a simulated device
ODD = np.int64(-0x0404040404040405)      # 0xfb in each byte, in memory that was never written
UNIT = 512                  # CuPy's pools hand out multiples of this


class Arena:
    """What a pool has on one device: bytes in use, bytes kept for later, and a limit (0: none).

    rooms: memory that was freed, which a pool other than the default one hands out again, as CuPy's
    do: replays of a graph write to what was free at times, too. The default pool's is always new.
    """

    __slots__ = ("__weakref__", "device", "free", "limit", "rooms", "used")

    def __init__(self, device: int) -> None:
        self.device, self.used, self.free, self.limit = device, 0, 0, 0
        self.rooms: list[Any] = []

    def room(self, nbytes: int) -> Any:
        """The smallest of them that has nbytes, or None."""
        fitting = [i for i, room in enumerate(self.rooms) if room.nbytes >= nbytes]
        if not fitting:
            return None
        return self.rooms.pop(min(fitting, key=lambda i: (self.rooms[i].nbytes, -i)))

    def grow(self, n: int) -> None:
        """Get n bytes from the device in all, giving back what is kept if they don't fit."""
        limit = self.limit or TOTAL
        more = n - self.free
        if self.used + n > limit or device_bytes(self.device) + more > TOTAL:
            for arena in arenas:
                if arena.device == self.device:
                    arena.free = 0
            more = n
            self.rooms.clear()
            if self.used + n > limit or device_bytes(self.device) + n > TOTAL:
                from gpugrad.cudasim.cupy.cuda.memory import OutOfMemoryError

                raise OutOfMemoryError(n, self.used, self.limit)
        self.free += more


arenas: weakref.WeakSet[Arena] = weakref.WeakSet()


def arena(device: int) -> Arena:
    """A new arena."""
    made = Arena(device)
    arenas.add(made)
    return made


def device_bytes(device: int) -> int:
    """Bytes that all pools together hold of a device."""
    return sum([a.used + a.free for a in arenas if a.device == device])


default: dict[int, Arena] = {0: arena(0)}       # the default pool's, by device
_first = default[0]


class Block:
    """One allocation. It is alive as long as an array or a pointer refers to it.

    array: all of it, as an array of host memory; root: the NumPy array that owns that.
    """

    __slots__ = ("__weakref__", "arena", "array", "device", "forget", "keep", "root", "size")

    def __init__(self, array: Any, device: int, owner: Arena | None) -> None:
        self.array, self.device = array, device
        self.root = array if array.base is None else root_of(array)
        self.forget: Callable[[Block], None] | None = None      # once the checker knows it
        self.arena: Arena | None = None         # nothing to give back if grow raises
        self.keep: Any = None
        self.size = n = -(-array.nbytes // UNIT) * UNIT
        if owner is not None:
            if owner.free < n:
                owner.grow(n)
            owner.free -= n
            owner.used += n
            self.arena = owner

    def __del__(self) -> None:
        owner = self.arena
        if owner is not None:
            owner.used -= self.size
            owner.free += self.size
            if owner is not default.get(self.device) and self.root.dtype == np.uint8:
                owner.rooms.append(self.root)
            if switches.hooks:
                _tell_hooks("free", self, mem_ptr=self.address, pmem_id=id(self))
        if self.forget is not None:
            self.forget(self)

    @property
    def address(self) -> int:
        return int(self.array.__array_interface__["data"][0])


def root_of(a: Any) -> Any:
    """The NumPy array that owns the memory of ``a``."""
    while True:
        base = a.base
        if base is None:
            return a
        if not isinstance(base, np.ndarray):
            base = getattr(base, "base", None)      # as_strided puts an object between
            if not isinstance(base, np.ndarray):
                return a
        a = base


def new_block(a: Any) -> Block:
    """The block for a NumPy array that was just made, from the current allocator's pool."""
    if not switches.careful:
        return Block(a, 0, _first)
    block = _block_of_pool(a)
    if thread.hooks and block.arena is not None:
        _tell_hooks("malloc", block, size=a.nbytes, mem_ptr=block.address, pmem_id=id(block))
    return block


def _tell_hooks(event: str, block: Block, **more: Any) -> None:
    """Call the methods of this thread's MemoryHooks for "malloc" or "free"."""
    for hook in list(thread.hooks.values()):
        for when in ("preprocess", "postprocess"):
            getattr(hook, f"{event}_{when}")(device_id=block.device, mem_size=block.size, **more)


def _block_of_pool(a: Any) -> Block:
    device = thread.device
    allocator = thread.allocator or switches.allocator
    if allocator is None:
        owner = default.get(device)
        if owner is None:
            owner = default[device] = arena(device)
        return Block(a, device, owner)
    pool = getattr(allocator, "__self__", None)
    own = getattr(pool, "_arena", None)
    if own is not None:                             # a pool's malloc
        return Block(a, device, own(device))
    block = Block(a, device, None)               # another function: it only counts
    block.keep = allocator(a.nbytes)
    return block


def fill_with_garbage(a: Any) -> None:
    """What uninitialised memory holds: NaN where the dtype has it, else an odd number."""
    if a.dtype.kind == "b":
        a[...] = True
    elif a.dtype.kind in "iu":
        a.fill(ODD.astype(a.dtype))
    else:
        a.fill(np.nan)


_LARGE = 1 << 30


def _check_room(n: int) -> None:
    """Raise before the host is asked for memory that the device doesn't have."""
    owner = default.get(thread.device)
    if owner is not None:
        kept, used = owner.free, owner.used
        owner.grow(n)
        owner.free, owner.used = kept, used


def _kept_room(nbytes: int) -> Any:
    """Memory that the pool in use has kept; None if it has none, or is the default pool."""
    if not switches.careful:
        return None
    pool = getattr(thread.allocator or switches.allocator, "__self__", None)
    own = getattr(pool, "_arena", None)
    if own is None or own(thread.device) is default.get(thread.device):
        return None
    return own(thread.device).room(nbytes)


def empty(shape: Any, dtype: Any, order: str = "C") -> Any:
    """New memory as a NumPy array, aligned as CUDA's and filled with garbage."""
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    n = math.prod(shape) * dtype.itemsize
    if n < 0:
        raise ValueError("Negative dimensions are not allowed")
    if n >= _LARGE:
        _check_room(n)
    room = _kept_room(n + UNIT)
    if room is None:
        room = np.empty(n + UNIT, np.uint8)
    offset = -room.__array_interface__["data"][0] % UNIT
    a: Any = np.ndarray(shape, dtype, room, offset, order="F" if order == "F" else "C")
    fill_with_garbage(a)
    return a
