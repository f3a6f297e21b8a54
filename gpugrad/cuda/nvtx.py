"""torch.cuda.nvtx: names for parts of a program, shown by NVIDIA's profilers."""
from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from gpugrad.backend.cuda import usable


class _Open(threading.local):
    depth = 0                   # of ranges that this thread has pushed


_open = _Open()


def _nvtx() -> Any:
    cupy, reason = usable()
    if cupy is None:
        raise RuntimeError(f"NVTX functions not installed. Are you sure you have a CUDA build? "
                           f"({reason})")
    return cupy.cuda.nvtx


def range_push(msg: str) -> int:
    """Begin a range inside of those that are open; returns how many there are around it."""
    _nvtx().RangePush(msg)
    _open.depth += 1
    return _open.depth - 1


def range_pop() -> int:
    """End the innermost range; returns how many are around it, or -2 if none was open."""
    nvtx = _nvtx()
    if not _open.depth:
        return -2
    nvtx.RangePop()
    _open.depth -= 1
    return _open.depth


def range_start(msg: str) -> int:
    """Begin a range that may overlap others and end in another thread; returns its number."""
    return int(_nvtx().RangeStart(msg, None))


def range_end(range_id: int) -> None:
    """End a range of range_start."""
    _nvtx().RangeEnd(range_id)


def mark(msg: str) -> None:
    """Mark a moment."""
    _nvtx().Mark(msg)


@contextlib.contextmanager
def range(msg: str, *args: Any, **kwargs: Any) -> Iterator[None]:
    """``with range("epoch {}", n):`` or ``@range("step")``: a range around a block or function.

    The other arguments are put into ``msg`` by str.format.
    """
    range_push(msg.format(*args, **kwargs))
    try:
        yield
    finally:
        range_pop()
