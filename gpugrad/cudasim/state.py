"""What the simulated devices count, and each thread's current device, stream and allocator."""
from __future__ import annotations

import os
import sys
import threading
from dataclasses import asdict, dataclass
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclass
class Stats:
    """How often the host waited for a device, copied, launched and compiled."""

    syncs: int = 0          # the host waits for a device: synchronize(), .item(), a[mask], ...
    h2d: int = 0            # copies from host memory to a device
    d2h: int = 0            # copies from a device to host memory
    d2d: int = 0            # copies between two devices
    launches: int = 0       # of kernels of RawModules, and of graphs
    compilations: int = 0   # kernels looked up in a RawModule for the first time


counts = Stats()


def reset() -> None:
    """Count from 0 again."""
    for name in asdict(counts):
        setattr(counts, name, 0)


class _Thread(threading.local):
    def __init__(self) -> None:
        self.device = 0
        self.streams: dict[int, list[Any]] = {}     # of each device: the last one is the current
        self.allocator: Any = None                  # inside using_allocator
        self.may_synchronize = True                 # cupyx.allow_synchronize
        self.hooks: dict[str, Any] = {}             # MemoryHooks that are entered


thread = _Thread()


class Switches:
    """What makes array operations take their slower, careful way."""

    careful = False         # any of the following holds
    captures = 0            # how many streams are capturing
    devices = 1             # how many devices there are
    allocator: Any = None   # set_allocator's, if it isn't the default pool's
    allocators = 0          # how many using_allocator blocks are entered
    hooks = 0               # how many MemoryHooks are entered

    def update(self) -> None:
        """Call it after a change."""
        self.careful = bool(self.captures or self.devices > 1 or self.allocator is not None
                            or self.allocators or self.hooks)


switches = Switches()


def place() -> str:
    """Where, outside gpugrad, the running call comes from: "file.py:12"; "" if nowhere."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(ROOT) and not name.startswith("<"):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def recording() -> Any:
    """The graph that this thread's current stream is capturing into, or None."""
    if not switches.captures:
        return None
    stack = thread.streams.get(thread.device)
    return stack[-1]._graph if stack else None


def capture_of(stream: int) -> Any:
    """The graph that a stream of this thread's device, given by its handle, is capturing into."""
    graph = recording()
    stack = thread.streams.get(thread.device)
    return graph if stack and stack[-1].ptr == stream else None


def wait(what: str, stream: Any = None, everything: bool = False) -> None:
    """Count that the host waits; raise if it must not now.

    what: the operation, for the message. everything: it waits for all streams.
    """
    counts.syncs += 1
    if switches.captures:
        _refuse_in_capture(what, stream, everything)
    if not thread.may_synchronize:
        from gpugrad.cudasim.cupyx import DeviceSynchronized

        raise DeviceSynchronized(f"{what} waits for the device, at {place()}")


def copied(kind: str, what: str, stream: Any = None) -> None:
    """Count a copy between host and device; raise while it would be captured, as CuPy does."""
    setattr(counts, kind, getattr(counts, kind) + 1)
    if switches.captures:
        _refuse_in_capture(what, stream, False)


def sorted_on_device(what: str) -> None:
    """Raise while a stream is captured: Thrust allocates memory, and waits."""
    if switches.captures:
        _refuse_in_capture(what, None, False)


def _refuse_in_capture(what: str, stream: Any, everything: bool) -> None:
    if everything or (stream._graph if stream is not None else recording()) is not None:
        from gpugrad.cudasim.cupy.cuda.runtime import CUDARuntimeError

        raise CUDARuntimeError(
            900, f"{what} while a stream is captured, at {place()}: a graph can't hold what the "
                 f"host has to wait for or to copy; do it before the capture or after the replay")
