"""CUDA's runtime, by the names of cupy_backends.cuda.api.runtime: memory, devices, streams, graphs.

Work is done when it is queued; on a stream that is captured it becomes a node of the graph. With
GPUGRAD_CUDASIM_STREAMS=late, work on other streams than the default one is done when somebody waits
for it, and not before: who should have waited, and has not, finds memory as it was. With =early the
default stream is the one whose work comes as late as may be.
"""
from __future__ import annotations

import collections
import ctypes
import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from gpugrad.cudasim import memory
from gpugrad.cudasim.cupy._blocks import TOTAL
from gpugrad.cudasim.cupy.cuda import runtime as stand_in

_ODD = 0xff                 # in each byte of new memory: NaN in every floating dtype
_ALIGNMENT = 512
_MEMORY, _DEVICE, _STATE, _NOT_READY, _CAPTURED = 2, 101, 401, 600, 900
_MAJOR, _MINOR = stand_in.CAPABILITY
_LEAST_PRIORITY, _GREATEST_PRIORITY = 0, -5

_handles = itertools.count(0x6000_0000_0000, 0x100)


def new_handle() -> int:
    return next(_handles)


def error(status: int) -> Exception:
    """CuPy's exception for a status of the runtime."""
    from cupy_backends.cuda.api.runtime import CUDARuntimeError

    made: Exception = CUDARuntimeError(status)
    return made


# ---- memory -----------------------------------------------------------------------------------

_c = ctypes.CDLL(None)
_c.aligned_alloc.restype = ctypes.c_void_p
_c.aligned_alloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
_c.free.argtypes = [ctypes.c_void_p]
_blocks: dict[int, tuple[int, int]] = {}        # (bytes, device) by address
_used = [0] * 16                                # bytes, by device


def malloc(size: int) -> int:
    device = getDevice()
    if _used[device] + size > TOTAL:
        raise error(_MEMORY)
    address: int = _c.aligned_alloc(_ALIGNMENT, -(-size // _ALIGNMENT) * _ALIGNMENT or _ALIGNMENT)
    ctypes.memset(address, _ODD, size)
    _blocks[address] = size, device
    _used[device] += size
    memory.adopt(address, size, 4)
    return address


def free(address: int) -> None:
    if address:
        finish_all()                                # as cudaFree does
        size, device = _blocks.pop(address)
        _used[device] -= size
        memory.forget(address)
        _c.free(address)


def hostAlloc(size: int, flags: int) -> int:
    address: int = _c.aligned_alloc(_ALIGNMENT, -(-size // _ALIGNMENT) * _ALIGNMENT or _ALIGNMENT)
    return address


def freeHost(address: int) -> None:
    finish_all()
    _c.free(address)


def memGetInfo() -> tuple[int, int]:
    return TOTAL - _used[getDevice()], TOTAL


def pointerGetMemoryType(address: int) -> int:
    return 2 if memory.holds(address) else 0


def memcpy(dst: int, src: int, size: int, kind: int) -> None:
    not_captured()
    queue(0, lambda: ctypes.memmove(dst, src, size))
    finish(_streams[0])


def memcpyAsync(dst: int, src: int, size: int, kind: int, stream: int) -> None:
    queue(stream, lambda: ctypes.memmove(dst, src, size))


def memcpyPeerAsync(dst: int, to: int, src: int, source: int, size: int, stream: int) -> None:
    memcpyAsync(dst, src, size, 4, stream)


def memset(address: int, value: int, size: int) -> None:
    not_captured()
    queue(0, lambda: ctypes.memset(address, value, size))


def memsetAsync(address: int, value: int, size: int, stream: int) -> None:
    queue(stream, lambda: ctypes.memset(address, value, size))


# ---- devices ----------------------------------------------------------------------------------

_thread = threading.local()
_count = stand_in.devices_asked_for()
# By the numbers of cudaDeviceAttr; those that aren't here are 0.
_ATTRIBUTES = {1: 1024, 2: 1024, 3: 1024, 4: 64, 5: 2**31 - 1, 6: 65535, 7: 65535, 8: 48 << 10,
               10: 32, 12: 65536, 13: 1_000_000, 16: 8, 31: 1, 38: 40 << 20, 39: 2048, 41: 1,
               75: _MAJOR, 76: _MINOR, 81: 164 << 10, 82: 65536, 97: 163 << 10}


def getDeviceCount() -> int:
    return _count


def getDevice() -> int:
    return int(getattr(_thread, "device", 0))


def setDevice(device: int) -> None:
    if not 0 <= device < _count:
        raise error(_DEVICE)
    _thread.device = device


def deviceGetAttribute(attribute: int, device: int) -> int:
    return _ATTRIBUTES.get(attribute, 0)


def getDeviceProperties(device: int) -> dict[str, Any]:
    if not 0 <= device < _count:
        raise error(_DEVICE)
    return {**stand_in.getDeviceProperties(0), "pciBusID": device}


def deviceSynchronize() -> None:
    not_captured()
    finish_all()


def deviceCanAccessPeer(device: int, peer: int) -> int:
    return 0


def _deviceEnsurePeerAccess(peer: int) -> None:
    pass


def _ensure_context() -> None:
    pass


def driverGetVersion() -> int:
    return stand_in.driverGetVersion()


def runtimeGetVersion() -> int:
    return 12090


def profilerStart() -> None:
    pass


def profilerStop() -> None:
    pass


# ---- streams and events -----------------------------------------------------------------------

Work = Callable[[], Any]


class Stream:
    """capture: the nodes of the graph that what is queued becomes part of, or None. done: how many
    of the pieces of work that were queued are; pending: the others."""

    def __init__(self, flags: int = 0, priority: int = 0) -> None:
        self.flags = flags
        self.priority = max(_GREATEST_PRIORITY, min(_LEAST_PRIORITY, priority))
        self.capture: list[Work] | None = None
        self.pending: collections.deque[Work] = collections.deque()
        self.done = 0

    @property
    def queued(self) -> int:
        return self.done + len(self.pending)

    @property
    def waits_for_default(self) -> bool:
        return not self.flags & _NON_BLOCKING and self is not _default


class Event:
    """Recorded when its stream had so much work queued. capture: what the stream captured into
    then, or None."""

    def __init__(self) -> None:
        self.time = 0.0
        self.capture: list[Work] | None = None
        self.stream, self.queued = _default, 0


_NON_BLOCKING = 1
_default = Stream()
_streams = {0: _default, 1: _default, 2: Stream()}      # legacy is the default one; per thread
_events: dict[int, Event] = {}
_when = os.environ.get("GPUGRAD_CUDASIM_STREAMS", "")
if _when not in ("", "late", "early"):
    raise ValueError(f"GPUGRAD_CUDASIM_STREAMS must be late or early, not {_when!r}")


def queue(stream: int, work: Work) -> None:
    """Do some work, now or later, or make it a node of the graph that the stream captures."""
    s = _streams[stream]
    if s.capture is not None:
        s.capture.append(work)
        return
    if not _when:
        s.done += 1
        work()
        return
    if s is _default:
        for other in set(_streams.values()):
            if other.waits_for_default and other.pending:
                _wait(s, other, other.queued)
    elif s.waits_for_default and _default.pending:
        _wait(s, _default, _default.queued)
    s.pending.append(work)
    if (s is _default) is (_when == "late"):
        finish(s)


def _wait(s: Stream, other: Stream, queued: int) -> None:
    """Let what follows on a stream come after what another one has queued by now."""
    s.pending.append(lambda: finish(other, queued))


_one_at_a_time = threading.RLock()


def finish(s: Stream, queued: int | None = None) -> None:
    """Do a stream's work: all, or so many pieces of it as had been queued once."""
    with _one_at_a_time:
        while s.pending and (queued is None or s.done < queued):
            work = s.pending.popleft()
            s.done += 1
            work()


def finish_all() -> None:
    for s in list(_streams.values()):
        finish(s)


def capture_of(stream: int) -> list[Work] | None:
    """The nodes of the graph that a stream is captured into; None if it isn't."""
    return _streams[stream].capture


def not_captured() -> None:
    """Raise if a stream is captured, when nothing can be waited for."""
    if any([s.capture is not None for s in _streams.values()]):
        raise error(_CAPTURED)


def streamCreateWithFlags(flags: int) -> int:
    return streamCreateWithPriority(flags, 0)


def streamCreateWithPriority(flags: int, priority: int) -> int:
    handle = new_handle()
    _streams[handle] = Stream(flags, priority)
    return handle


def streamDestroy(stream: int) -> None:
    finish(_streams.pop(stream))


def streamSynchronize(stream: int) -> None:
    s = _streams[stream]
    if s.capture is not None:
        raise error(_CAPTURED)
    if s is _default and _when:
        queue(stream, lambda: None)                 # it waits for others
    finish(s)


def streamQuery(stream: int) -> int:
    s = _streams[stream]
    if s.capture is not None:
        raise error(_CAPTURED)
    if s.pending:
        finish(s, s.done + 1)                       # who asks again and again is answered once
        return _NOT_READY
    return 0


def streamGetFlags(stream: int) -> int:
    return _streams[stream].flags


def streamGetPriority(stream: int) -> int:
    return _streams[stream].priority


def streamWaitEvent(stream: int, event: int, flags: int = 0) -> None:
    e, s = _events[event], _streams[stream]
    if e.capture is None:
        if e.stream.done < e.queued and e.stream is not s:
            _wait(s, e.stream, e.queued)
            if (s is _default) is (_when == "late"):
                finish(s)
    elif any([other.capture is e.capture for other in _streams.values()]):
        s.capture = e.capture                       # the capture forks, or joins again


def launchHostFunc(stream: int, callback: Any, argument: Any) -> None:
    queue(stream, lambda: callback(argument))


def eventCreate() -> int:
    return eventCreateWithFlags(0)


def eventCreateWithFlags(flags: int) -> int:
    handle = new_handle()
    _events[handle] = Event()
    return handle


def eventDestroy(event: int) -> None:
    del _events[event]


def eventRecord(event: int, stream: int) -> None:
    e, s = _events[event], _streams[stream]
    if s is _default and _when and s.capture is None:
        queue(stream, lambda: None)                 # it comes after others' work
    e.time, e.capture, e.stream, e.queued = time.perf_counter(), s.capture, s, s.queued


def eventQuery(event: int) -> int:
    e = _events[event]
    if e.capture is not None:
        not_captured()
    if e.stream.done < e.queued:
        finish(e.stream, e.stream.done + 1)
        return _NOT_READY
    return 0


def eventSynchronize(event: int) -> None:
    e = _events[event]
    if e.capture is not None:
        not_captured()
    finish(e.stream, e.queued)


def eventElapsedTime(start: int, end: int) -> float:
    return 1e3 * (_events[end].time - _events[start].time)


# ---- graphs -----------------------------------------------------------------------------------

_graphs: dict[int, list[Work]] = {}


def streamBeginCapture(stream: int, mode: int = 0) -> None:
    if stream in (0, 1):
        raise error(_CAPTURED)
    if _streams[stream].capture is not None:
        raise error(_STATE)
    _streams[stream].capture = []


def streamIsCapturing(stream: int) -> int:
    return int(_streams[stream].capture is not None)


def streamEndCapture(stream: int) -> int:
    nodes = _streams[stream].capture
    if nodes is None:
        raise error(_STATE)
    for s in _streams.values():
        if s.capture is nodes:
            s.capture = None
    return _new_graph(nodes)


def _new_graph(nodes: list[Work]) -> int:
    handle = new_handle()
    _graphs[handle] = nodes
    return handle


def graphInstantiate(graph: int) -> int:
    return _new_graph(_graphs[graph])


def graphUpload(graph: int, stream: int) -> None:
    pass


def graphLaunch(graph: int, stream: int) -> None:
    nodes = _graphs[graph]
    queue(stream, lambda: [work() for work in nodes])


def graphDestroy(graph: int) -> None:
    del _graphs[graph]


def graphExecDestroy(graph: int) -> None:
    del _graphs[graph]


def graphDebugDotPrint(graph: int, path: str, flags: int) -> None:
    with open(path, "w") as file:
        file.write("digraph {" + "".join(f" n{i};" for i in range(len(_graphs[graph]))) + " }")
