"""cupy.cuda.memory: pools, allocators, and pointers to device memory."""
from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpugrad.cudasim import state
from gpugrad.cudasim.cupy import _blocks
from gpugrad.cudasim.cupy._blocks import TOTAL, Arena, Block, arena, empty, new_block
from gpugrad.cudasim.state import recording, switches, thread


class OutOfMemoryError(MemoryError):
    """The device's memory, or a pool's limit, is not enough."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        text = f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes"
        super().__init__(text + (f", limit set to: {limit:,} bytes)." if limit else ")."))


class BlockMemory:
    """A block as CuPy's Memory objects are: ptr, size, device."""

    __slots__ = ("_block",)

    def __init__(self, block: Block) -> None:
        self._block = block

    @property
    def ptr(self) -> int:
        return self._block.address

    @property
    def size(self) -> int:
        return int(self._block.size)

    @property
    def device_id(self) -> int:
        return self._block.device

    @property
    def device(self) -> Any:
        from gpugrad.cudasim.cupy.cuda._devices import Device

        return Device(self._block.device)


class Memory(BlockMemory):
    """New memory of the current device, outside of all pools."""

    __slots__ = ()

    def __init__(self, size: int) -> None:
        a = empty((size,), np.uint8)
        super().__init__(Block(a, thread.device, None))


class UnownedMemory(BlockMemory):
    """Memory at an address that somebody else owns."""

    __slots__ = ()

    def __init__(self, ptr: int, size: int, owner: Any, device_id: int = -1) -> None:
        buffer = (ctypes.c_ubyte * size).from_address(ptr)
        a = np.frombuffer(memoryview(buffer), np.uint8)
        block = Block(a, thread.device if device_id < 0 else device_id, None)
        block.keep = owner
        super().__init__(block)


class MemoryPointer:
    """A place in device memory."""

    __slots__ = ("_offset", "mem")

    def __init__(self, mem: Any, offset: int) -> None:
        self.mem, self._offset = mem, offset

    @property
    def ptr(self) -> int:
        return int(self.mem.ptr + self._offset)

    @property
    def device_id(self) -> int:
        return int(self.mem.device_id)

    @property
    def device(self) -> Any:
        return self.mem.device

    def __int__(self) -> int:
        return self.ptr

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self._offset + offset)

    def __sub__(self, offset: int) -> MemoryPointer:
        return self + -offset

    def _bytes(self, size: int) -> Any:
        room: Any = self.mem._block.array
        flat = room.ravel("K").view(np.uint8)
        if not 0 <= self._offset <= self._offset + size <= flat.size:
            raise ValueError(f"{size} bytes at offset {self._offset} are not inside a block of "
                             f"{flat.size} bytes")
        return flat[self._offset:self._offset + size]

    def memset_async(self, value: int, size: int, stream: Any = None) -> None:
        target = self._bytes(size)
        _now_or_captured(stream, lambda: target.fill(value & 255))

    def memset(self, value: int, size: int) -> None:
        self.memset_async(value, size)

    def copy_from_device_async(self, src: MemoryPointer, size: int, stream: Any = None) -> None:
        target, source = self._bytes(size), src._bytes(size)
        if src.device_id != self.device_id:
            state.counts.d2d += 1
        _now_or_captured(stream, lambda: np.copyto(target, source))

    def copy_from_device(self, src: MemoryPointer, size: int) -> None:
        self.copy_from_device_async(src, size)

    def copy_from_host_async(self, mem: Any, size: int, stream: Any = None) -> None:
        state.copied("h2d", "copy_from_host_async()")
        self._bytes(size)[...] = _host(mem, size)

    def copy_from_host(self, mem: Any, size: int) -> None:
        state.wait("copy_from_host()")
        self.copy_from_host_async(mem, size)

    def copy_to_host_async(self, mem: Any, size: int, stream: Any = None) -> None:
        state.copied("d2h", "copy_to_host_async()")
        _host(mem, size)[...] = self._bytes(size)

    def copy_to_host(self, mem: Any, size: int) -> None:
        state.wait("copy_to_host()")
        self.copy_to_host_async(mem, size)

    def copy_from_async(self, mem: Any, size: int, stream: Any = None) -> None:
        if isinstance(mem, MemoryPointer):
            self.copy_from_device_async(mem, size, stream)
        else:
            self.copy_from_host_async(mem, size, stream)

    def copy_from(self, mem: Any, size: int) -> None:
        self.copy_from_async(mem, size)


def _host(mem: Any, size: int) -> Any:
    address: Any = mem.value if isinstance(mem, ctypes.c_void_p) else mem
    return np.frombuffer(memoryview((ctypes.c_ubyte * size).from_address(address)), np.uint8)


def _now_or_captured(stream: Any, f: Callable[[], Any]) -> None:
    graph = recording() if stream is None else stream._graph
    if graph is None:
        f()
    else:
        graph._add(f)


class MemoryPool:
    """A pool: what it accounts for, by device. All arrays have memory of their own anyway."""

    def __init__(self, allocator: Any = None) -> None:
        self._arenas: dict[int, Arena] = {}

    def _arena(self, device: int) -> Arena:
        found = self._arenas.get(device)
        if found is None:
            found = self._arenas[device] = arena(device)
        return found

    @property
    def _here(self) -> Arena:
        return self._arena(thread.device)

    def malloc(self, size: int) -> MemoryPointer:
        a = empty((size,), np.uint8)
        return MemoryPointer(BlockMemory(Block(a, thread.device, self._here)), 0)

    def used_bytes(self) -> int:
        return self._here.used

    def free_bytes(self) -> int:
        return self._here.free

    def total_bytes(self) -> int:
        return self._here.used + self._here.free

    def n_free_blocks(self) -> int:
        return int(self._here.free > 0)

    def free_all_blocks(self, stream: Any = None) -> None:
        if switches.captures and recording() is not None:
            raise RuntimeError("memory can't be given back while a stream is captured")
        self._here.free = 0

    def free_all_free(self) -> None:
        self.free_all_blocks()

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        if (size is None) == (fraction is None):
            raise ValueError("Only one of size or fraction can be specified")
        if fraction is not None:
            if not 0 <= fraction <= 1:
                raise ValueError("memory limit fraction out of range: " + str(fraction))
            size = int(fraction * TOTAL)
        self._here.limit = int(size or 0)

    def get_limit(self) -> int:
        return self._here.limit


class _DefaultPool(MemoryPool):
    """The pool that arrays come from where no other allocator is set."""

    def __init__(self) -> None:
        self._arenas = _blocks.default


default_pool = _DefaultPool()


def get_allocator() -> Any:
    """The function that arrays' memory comes from."""
    return thread.allocator or switches.allocator or default_pool.malloc


def _not_default(allocator: Any) -> Any:
    return None if getattr(allocator, "__self__", None) is default_pool else allocator


def set_allocator(allocator: Any = None) -> None:
    """Take the memory of arrays from another function, in all threads."""
    if thread.allocator is not None:
        raise ValueError("Can't change the global allocator inside `using_allocator` context "
                         "manager.")
    switches.allocator = _not_default(allocator)
    switches.update()


@contextlib.contextmanager
def using_allocator(allocator: Any = None) -> Iterator[None]:
    """Take the memory of arrays from another function, in this thread."""
    before = thread.allocator
    thread.allocator = default_pool.malloc if allocator is None else allocator
    switches.allocators += 1
    switches.update()
    try:
        yield
    finally:
        thread.allocator = before
        switches.allocators -= 1
        switches.update()


def alloc(size: int) -> MemoryPointer:
    """Memory from the current allocator."""
    a = empty((size,), np.uint8)
    return MemoryPointer(BlockMemory(new_block(a)), 0)
