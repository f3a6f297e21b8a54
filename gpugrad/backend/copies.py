"""Copies between the host and a CUDA device, and pinned memory, from which they need no waiting."""
from __future__ import annotations

import collections
import math
import sys
import weakref
from typing import Any

import numpy as np


def is_pinned(a: Any, cupy: Any) -> bool:
    """Whether a NumPy array lies in pinned memory that CuPy has allocated."""
    while isinstance(a, np.ndarray):
        a = a.base
    return isinstance(getattr(a, "obj", a), cupy.cuda.PinnedMemoryPointer)


def pinned(shape: Any, dtype: Any, cupy: Any) -> Any:
    """A new NumPy array in pinned memory, not initialised."""
    dtype = np.dtype(dtype)
    n = math.prod(shape)
    memory = cupy.cuda.alloc_pinned_memory(max(1, n * dtype.itemsize))
    return np.frombuffer(memory, np.uint8, n * dtype.itemsize).view(dtype).reshape(shape)


class Copies:
    """The copies of one device, all on the current stream, and what must outlive them."""

    def __init__(self, be: Any) -> None:
        self.be = be
        # (event, memory): CuPy may hand the memory out again only after the event
        self._held: collections.deque[tuple[Any, Any]] = collections.deque()

    def to_device(self, a: Any, non_blocking: bool) -> Any:
        """A NumPy array as a new one on the device.

        The host waits only for pinned memory without ``non_blocking``, so that it may be written to
        again. Pageable memory has been copied to a buffer of CuPy's by then.
        """
        be = self.be
        fixed = is_pinned(a, be.cupy)
        if be.capturing:
            return self._captured(a, fixed)
        if fixed and not non_blocking:
            return be.xp.asarray(a, order="C", blocking=True)
        return be.xp.asarray(a, order="C")      # CuPy keeps pinned memory until the copy is done

    def _captured(self, a: Any, fixed: bool) -> Any:
        be = self.be
        if be.capturing_ops:                        # an op's constant
            return self.beside(a)
        if not fixed or not a.flags.c_contiguous:
            raise RuntimeError(
                f"an array of shape {list(np.shape(a))} is copied from the host to {be.name} while "
                f"a graph is captured, and would be read again at each replay: copy it before the "
                f"capture into a tensor that the step reads, or pin its memory")
        out = be.empty(a.shape, a.dtype)
        self._queue(out.data.ptr, a.ctypes.data, a.nbytes, "memcpyHostToDevice")
        be.kept.append(a)
        return out

    def beside(self, a: Any) -> Any:
        """A NumPy array as a new one on the device, written at once while a graph is captured,
        and never by its replays."""
        be = self.be
        with be.outside_graph(), be.cupy.cuda.Stream(non_blocking=True) as stream:
            out = be.cupy.asarray(a, order="C")
            stream.synchronize()
        be.kept.append(out)
        return out

    def _queue(self, to: int, source: int, nbytes: int, kind: str) -> None:
        """A copy in the graph that is captured: CuPy's own raise there."""
        cuda = self.be.cupy.cuda
        cuda.runtime.memcpyAsync(to, source, nbytes, getattr(cuda.runtime, kind),
                                 cuda.get_current_stream(self.be.id).ptr)

    def to_host(self, a: Any, out: Any = None) -> Any:
        """A device array copied to pinned memory without waiting, by default to new memory.

        Its contents are there when the current stream has come so far.
        """
        be = self.be
        if be.capturing and out is None:
            raise RuntimeError(f"a tensor of shape {list(a.shape)} on {be.name} is copied to new "
                               f"memory of the host while a graph is captured: copy it to a pinned "
                               f"tensor that was there before")
        if out is None:
            out = pinned(a.shape, a.dtype, be.cupy)
        if be.capturing and a.size:
            a = be.xp.ascontiguousarray(a)
            self._queue(out.ctypes.data, a.data.ptr, a.nbytes, "memcpyDeviceToHost")
            be.kept.append(out)
        elif a.size:
            stream = be.cupy.cuda.get_current_stream(be.id)
            a.get(stream=stream, out=out, blocking=False)
            self.hold(out, stream)
        return out

    def hold(self, memory: Any, stream: Any) -> None:
        """Keep ``memory`` alive until a stream of CuPy's has done what is queued on it by now."""
        cuda = self.be.cupy.cuda
        with cuda.Device(self.be.id):
            event = cuda.Event(disable_timing=True)
            event.record(stream)
        self.forget_finished()
        self._held.append((event, memory))

    def forget_finished(self) -> None:
        """Let go of what the copies that are done have needed."""
        held = self._held
        while held and held[0][0].done:
            held.popleft()

    def record_use(self, a: Any, stream: Any) -> None:
        """Let the memory of ``a``, once nobody has ``a``, wait for the work on another stream."""
        weakref.finalize(a, self._hold_at_end, a.data, stream).atexit = False

    def _hold_at_end(self, memory: Any, stream: Any) -> None:
        if not sys.is_finalizing():
            self.hold(memory, stream)
