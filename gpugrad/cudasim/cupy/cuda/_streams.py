"""Streams, events and graphs. Work is done when it is queued, so nothing is ever outstanding."""
from __future__ import annotations

import itertools
import time
import weakref
from collections.abc import Callable
from typing import Any

from gpugrad.cudasim import state
from gpugrad.cudasim.cupy._blocks import default
from gpugrad.cudasim.cupy.cuda import runtime
from gpugrad.cudasim.state import recording, switches, thread

_handles = itertools.count(0x51000000, 0x100)


class _Held:
    """Memory that kernels of graphs use, known to the checker until the last of them has gone."""

    def __init__(self, block: Any) -> None:
        self.array, self.address, self._forget = block.array, block.address, block.forget

    def __call__(self, block: Any) -> None:
        """The block is gone, the memory is not."""

    def __del__(self) -> None:
        self._forget(self)


class Graph:
    """What a captured stream was asked to do. ``launch`` does it, each time anew."""

    def __init__(self) -> None:
        self._nodes: list[Callable[[], Any]] = []
        self._own: set[int] = set()             # ids of the memory in _kept
        self._kept: list[Any] = []
        self._outside: dict[int, Any] = {}      # weak references to the other blocks it uses
        self.graph, self.graphExec = next(_handles), next(_handles)

    def _add(self, node: Callable[[], Any], operands: Any = (), made: Any = ()) -> None:
        """Note one piece of work, the arrays that it uses, and those that it makes."""
        self._nodes.append(node)
        for x in made:
            self._keep(x._block)
        for x in operands:
            self._use(x._block)

    def _use(self, block: Any) -> None:
        """Note that the work uses a block."""
        if block.arena is not default.get(block.device) and block.arena is not None:
            self._keep(block)
        elif id(block.array) not in self._own and id(block) not in self._outside:
            self._outside[id(block)] = weakref.ref(block)

    def _keep(self, block: Any) -> None:
        """Memory of the capture's own, or of a pool for captures, stays whoever frees arrays."""
        if block.forget is not None and not isinstance(block.forget, _Held):
            block.forget = _Held(block)
        for kept in (block.array, block.forget):
            if kept is not None and id(kept) not in self._own:
                self._own.add(id(kept))
                self._kept.append(kept)

    def launch(self, stream: Any = None) -> None:
        """Do the work."""
        for block in self._outside.values():
            if block() is None:
                raise RuntimeError(
                    "the graph uses memory that was freed since it was captured: keep the arrays "
                    "that a capture reads and writes as long as its graph")
        state.counts.launches += 1
        outer = stream._graph if stream is not None else recording()
        if outer is not None:
            outer._nodes.extend(self._nodes)
            outer._outside.update(self._outside)
            outer._kept.append(self)
            return
        for node in self._nodes:
            node()

    def upload(self, stream: Any = None) -> None:
        pass

    def debug_dot_str(self, flags: int = 0) -> str:
        return "digraph {" + "".join(f" n{i};" for i in range(len(self._nodes))) + " }"


class _BaseStream:
    """A stream: of one device, or the default one of all."""

    def __init__(self, ptr: int, device_id: int) -> None:
        self.ptr, self.device_id = ptr, device_id
        self._graph: Graph | None = None        # what it is capturing into
        self._flags = 0
        self._priority = 0

    # Current -------------------------------------------------------------------------------------

    def _check_device(self) -> int:
        if self.device_id not in (-1, thread.device):
            raise RuntimeError(f"This stream was not created on the current device "
                               f"{thread.device}, but on device {self.device_id}")
        return thread.device

    def use(self) -> Any:
        _stack(self._check_device())[-1] = self
        return self

    def __enter__(self) -> Any:
        _stack(self._check_device()).append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        stack = _stack(thread.device)
        if stack[-1] is not self and self in stack:
            del stack[len(stack) - 1 - stack[::-1].index(self):]
        else:
            stack.pop()
        if not stack:
            stack.append(Stream.null)

    # Work ----------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        if self._graph is not None:
            raise runtime.CUDARuntimeError(900, "Stream.done of a stream that is captured")
        return True

    def synchronize(self) -> None:
        state.wait("Stream.synchronize()", self)

    def record(self, event: Any = None) -> Any:
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Any) -> None:
        if event._graph is not None and self._graph is not event._graph:
            if self._graph is not None:
                raise runtime.CUDARuntimeError(
                    900, "an event of one capture is waited for in another one")
            self._graph = event._graph          # the capture forks
            event._graph._forked.append(self)

    def add_callback(self, callback: Any, arg: Any) -> None:
        if self._graph is not None:
            raise runtime.CUDARuntimeError(900, "add_callback while the stream is captured")
        callback(self, 0, arg)

    def launch_host_func(self, callback: Any, arg: Any) -> None:
        if self._graph is not None:
            self._graph._add(lambda: callback(arg))
        else:
            callback(arg)

    # Capture -------------------------------------------------------------------------------------

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr in (0, runtime.streamLegacy):
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self._graph is not None:
            raise runtime.CUDARuntimeError(900, "the stream is being captured already")
        self._graph = Graph()
        self._graph._forked = []                # type: ignore[attr-defined]
        switches.captures += 1
        switches.update()

    def end_capture(self) -> Graph:
        graph = self._graph
        if graph is None:
            raise runtime.CUDARuntimeError(400, "end_capture without begin_capture")
        for stream in (self, *graph._forked):   # type: ignore[attr-defined]
            stream._graph = None
        switches.captures -= 1
        switches.update()
        return graph

    def is_capturing(self) -> bool:
        return self._graph is not None

    # What it is ----------------------------------------------------------------------------------

    @property
    def is_non_blocking(self) -> bool:
        return bool(self._flags & runtime.streamNonBlocking)

    @property
    def priority(self) -> int:
        return self._priority

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.ptr

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BaseStream) and self.ptr == other.ptr

    def __hash__(self) -> int:
        return self.ptr

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ptr} (device {self.device_id})>"


class Stream(_BaseStream):
    """A stream of the current device, or the default stream."""

    null: Any = None
    ptds: Any = None

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False,
                 priority: int | None = None) -> None:
        if null or ptds:
            super().__init__(0 if null else runtime.streamPerThread, -1)
            return
        super().__init__(next(_handles), thread.device)
        self._flags = runtime.streamNonBlocking if non_blocking else runtime.streamDefault
        self._priority = max(-5, min(0, priority or 0))

    @classmethod
    def from_external(cls, obj: Any) -> ExternalStream:
        return ExternalStream(obj.__cuda_stream__()[1])


class ExternalStream(_BaseStream):
    """A stream that was made elsewhere, by its handle."""

    def __init__(self, ptr: int, device_id: int = -1) -> None:
        super().__init__(ptr, device_id)


Stream.null = Stream(null=True)
Stream.ptds = Stream(ptds=True)


def _stack(device: int) -> list[Any]:
    found = thread.streams.get(device)
    if found is None:
        found = thread.streams[device] = [Stream.null]
    return found


def get_current_stream(device_id: int = -1) -> Any:
    """The stream that this thread's work goes to."""
    return _stack(thread.device if device_id < 0 else device_id)[-1]


class Event:
    """A point in a stream's work."""

    def __init__(self, block: bool = False, disable_timing: bool = False,
                 interprocess: bool = False) -> None:
        self.ptr = next(_handles)
        self._timing = not disable_timing
        self._time: float | None = None
        self._graph: Any = None

    def record(self, stream: Any = None) -> None:
        stream = get_current_stream() if stream is None else stream
        self._graph = stream._graph
        self._time = time.perf_counter()

    @property
    def done(self) -> bool:
        self._refuse("Event.done")
        return True

    def synchronize(self) -> None:
        self._refuse("Event.synchronize()")
        state.wait("Event.synchronize()")

    def _refuse(self, what: str) -> None:
        if self._graph is not None and self._graph is recording():
            raise runtime.CUDARuntimeError(900, f"{what} of an event recorded in a capture")


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds between two events, at least a microsecond as far as they are in order."""
    for e in (start_event, end_event):
        if not e._timing or e._time is None:
            raise runtime.CUDARuntimeError(400, "the event was not recorded, or has no timing")
    return 1e3 * (end_event._time - start_event._time)          # type: ignore[operator]
