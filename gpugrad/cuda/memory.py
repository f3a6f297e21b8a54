"""How much of a device's memory is in use, by gpugrad and by CuPy: they share CuPy's pool.

Allocated is what arrays take up, in CuPy's blocks of 512 bytes; reserved is what the pools hold of
the device, in use or free. The pools of CUDA graphs count, too. CuPy keeps no peaks:

- The peak of allocated bytes is watched from the first call that asks for it, or for it to be
  reset, and only for what the calling thread allocates: noting it costs each allocation about a
  microsecond, so nobody pays who doesn't ask. Until then the reserved bytes, which are never fewer,
  stand for it. After ``reset_peak_memory_stats()`` it is exact for that thread.
- The peak of reserved bytes is exact unless something else than ``empty_cache()`` has given memory
  back to the driver: CuPy does when it runs short.
"""
from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from gpugrad.backend.cuda import check_index, in_use, made, needed, usable
from gpugrad.backend.graph_pool import pools
from gpugrad.cuda.devices import get_device_properties, index_of


def _sum(device: Any, figure: str) -> int:
    """A figure of CuPy's pools on a device, summed over the pools."""
    if not in_use():
        return 0
    cupy = needed()
    index = index_of(device)
    check_index(index)
    with cupy.cuda.Device(index):
        ours = [cupy.get_default_memory_pool(), *[p.cupy for p in list(pools)]]
        return sum([int(getattr(pool, figure)()) for pool in ours])


def memory_allocated(device: Any = None) -> int:
    """Bytes that arrays on a device take up."""
    return _sum(device, "used_bytes")


def memory_reserved(device: Any = None) -> int:
    """Bytes that the pools hold on a device, in use or free."""
    return _sum(device, "total_bytes")


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """(free, total) bytes of a device, as the driver sees it."""
    free, total = needed().cuda.Device(index_of(device)).mem_info
    return int(free), int(total)


def empty_cache() -> None:
    """Give the memory that the pool holds but nobody uses back to the driver."""
    if in_use():
        cupy = needed()
        for be in made():
            _peaks_of(be.id).note()
            be.copies.forget_finished()
            with cupy.cuda.Device(be.id):
                cupy.get_default_memory_pool().free_all_blocks()


def ipc_collect() -> None:
    """Nothing: no memory is shared with other processes."""


def set_per_process_memory_fraction(fraction: float, device: Any = None) -> None:
    """Let CuPy's pool take no more than this part of a device's memory; 0 means no limit."""
    if not isinstance(fraction, float):
        raise TypeError("Invalid type for fraction argument, must be `float`")
    if not 0 <= fraction <= 1:
        raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")
    cupy = needed()
    with cupy.cuda.Device(index_of(device)):
        cupy.get_default_memory_pool().set_limit(fraction=fraction)


def get_per_process_memory_fraction(device: Any = None) -> float:
    """The part of a device's memory that CuPy's pool may take: 1.0 without a limit."""
    cupy = needed()
    with cupy.cuda.Device(index_of(device)):
        limit = cupy.get_default_memory_pool().get_limit()
    return limit / mem_get_info(device)[1] if limit else 1.0


class _NeverRaised(RuntimeError):
    """What stands for OutOfMemoryError where CUDA can't be used."""


def out_of_memory_error() -> type[Exception]:
    """torch.cuda.OutOfMemoryError: what CuPy raises, a MemoryError."""
    cupy = usable()[0]
    return _NeverRaised if cupy is None else cupy.cuda.memory.OutOfMemoryError


# Peaks -------------------------------------------------------------------------------------------

class Peaks:
    """The highest figures of one device since they were reset."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.allocated = self.reserved = 0

    def note(self) -> None:
        """Look at the figures as they are now."""
        self.reserved = max(self.reserved, memory_reserved(self.index))
        self.allocated = max(self.allocated, memory_allocated(self.index))

    def reset(self) -> None:
        self.allocated = self.reserved = 0
        self.note()


_peaks: dict[int, Peaks] = {}
_watched = threading.local()


def _peaks_of(index: int) -> Peaks:
    found = _peaks.get(index)
    if found is None:
        found = _peaks[index] = Peaks(index)
    return found


def _watch() -> None:
    """From now on note each allocation of this thread."""
    if getattr(_watched, "hook", None) is not None:
        return
    cupy = needed()

    class PeakHook(cupy.cuda.MemoryHook):       # type: ignore[name-defined]
        name = "gpugrad.cuda.max_memory_allocated"

        def malloc_postprocess(self, device_id: int, **_: Any) -> None:
            peaks = _peaks_of(device_id)
            used = memory_allocated(device_id) if pools else default_pool.used_bytes()
            if used > peaks.allocated:
                peaks.allocated = used

    default_pool = cupy.get_default_memory_pool()
    for be in made():                   # what was before is bounded by what the pools hold
        peaks = _peaks_of(be.id)
        peaks.note()
        peaks.allocated = peaks.reserved
    _watched.hook = PeakHook()
    _watched.hook.__enter__()           # never left: CuPy drops a thread's hooks with the thread


def _noted(device: Any) -> Peaks | None:
    if not in_use():
        return None
    index = index_of(device)
    check_index(index)
    _watch()
    peaks = _peaks_of(index)
    peaks.note()
    return peaks


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes that arrays took up at once, since the program began or the last reset.

    What this thread didn't watch, see above, is bounded by the bytes reserved.
    """
    peaks = _noted(device)
    return 0 if peaks is None else peaks.allocated


def max_memory_reserved(device: Any = None) -> int:
    """The most bytes that the pools held at once, since the program began or the last reset."""
    peaks = _noted(device)
    return 0 if peaks is None else peaks.reserved


def reset_peak_memory_stats(device: Any = None) -> None:
    """Let both peaks begin anew, with the figures of now."""
    peaks = _noted(device)
    if peaks is not None:
        peaks.reset()


def reset_max_memory_allocated(device: Any = None) -> None:
    """PyTorch's older name of reset_peak_memory_stats."""
    reset_peak_memory_stats(device)


# Reports -----------------------------------------------------------------------------------------

def memory_stats(device: Any = None) -> OrderedDict[str, Any]:
    """The figures under PyTorch's keys, such as "allocated_bytes.all.peak"; {} before CUDA is used.

    CuPy doesn't distinguish large and small pools and counts no events, so those keys are missing.
    """
    peaks = _noted(device)
    if peaks is None:
        return OrderedDict()
    now = {"allocated_bytes": memory_allocated(device), "reserved_bytes": memory_reserved(device)}
    now["active_bytes"] = now["allocated_bytes"]
    high = {"allocated_bytes": peaks.allocated, "reserved_bytes": peaks.reserved,
            "active_bytes": peaks.allocated}
    result: OrderedDict[str, Any] = OrderedDict()
    for name in sorted(now):
        result[f"{name}.all.current"] = now[name]
        result[f"{name}.all.peak"] = high[name]
    return result


def memory_stats_as_nested_dict(device: Any = None) -> dict[str, Any]:
    """memory_stats as dicts in dicts."""
    nested: dict[str, Any] = {}
    for key, value in memory_stats(device).items():
        *outer, last = key.split(".")
        at = nested
        for part in outer:
            at = at.setdefault(part, {})
        at[last] = value
    return nested


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """The figures as a table to print."""
    index = index_of(device) if in_use() else 0
    stats = memory_stats(device)
    width = 75
    lines = ["=" * width, f"{f'CUDA memory of device {index}':^{width}}", "-" * width]
    if in_use():
        lines.insert(2, f"{get_device_properties(index).name:^{width}}")
    lines += [f"| {'':<25} | {'Now':>20} | {'Peak':>20} |", "-" * width]
    for name, title in (("allocated_bytes", "Allocated"), ("reserved_bytes", "Reserved")):
        now, peak = (_readable(stats.get(f"{name}.all.{w}", 0)) for w in ("current", "peak"))
        lines.append(f"| {title:<25} | {now:>20} | {peak:>20} |")
    free = stats.get("reserved_bytes.all.current", 0) - stats.get("allocated_bytes.all.current", 0)
    lines += [f"| {'Reserved, but free':<25} | {_readable(free):>20} | {'':>20} |", "=" * width]
    return "\n".join(lines) + "\n"


def _readable(n: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n >= 10 * size:
            return f"{n // size} {unit}"
    return f"{n} B"
