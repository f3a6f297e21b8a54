"""How much of a device's memory is in use, by gpugrad and by CuPy: they share CuPy's pool."""
from __future__ import annotations

from typing import Any

from gpugrad.backend.cuda import in_use, needed
from gpugrad.cuda.devices import index_of


def _pool(device: Any, figure: str) -> int:
    if not in_use():
        return 0
    cupy = needed()
    with cupy.cuda.Device(index_of(device)):
        return int(getattr(cupy.get_default_memory_pool(), figure)())


def memory_allocated(device: Any = None) -> int:
    """Bytes that arrays on a device take up."""
    return _pool(device, "used_bytes")


def memory_reserved(device: Any = None) -> int:
    """Bytes that the pool holds on a device, in use or free."""
    return _pool(device, "total_bytes")


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """(free, total) bytes of a device, as the driver sees it."""
    free, total = needed().cuda.Device(index_of(device)).mem_info
    return int(free), int(total)


def empty_cache() -> None:
    """Give the memory that the pool holds but nobody uses back to the driver."""
    if in_use():
        needed().get_default_memory_pool().free_all_blocks()
