"""CUDA streams and events: PyTorch's names over CuPy's objects."""
from __future__ import annotations

import ctypes
from typing import Any

from gpugrad.backend.cuda import current_device, needed, set_device
from gpugrad.cuda.devices import index_of
from gpugrad.device import device as Device


class Stream:
    """A queue of work on a device; work on different streams may overlap.

    priority: lower numbers go first, see ``priority_range``. The stream does not wait for the
    default stream by itself. ``with stream:`` is the same as ``with torch.cuda.stream(stream):``.
    """

    _entered: list[StreamContext]

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        cupy = needed()
        self.device = Device("cuda", index_of(device))
        with cupy.cuda.Device(self.device.index):
            self.cupy = cupy.cuda.Stream(non_blocking=True, priority=priority)

    @staticmethod
    def priority_range() -> tuple[int, int]:
        """(the lowest priority, the highest one): the lowest is the greatest number."""
        return 0, -5

    @property
    def cuda_stream(self) -> int:
        """CUDA's own handle."""
        return int(self.cupy.ptr)

    @property
    def priority(self) -> int:
        """As CUDA took it."""
        return int(self.cupy.priority)

    @property
    def device_index(self) -> int:
        """The index of its device."""
        return self.device.index or 0

    @property
    def _as_parameter_(self) -> Any:
        return ctypes.c_void_p(self.cuda_stream)

    def __enter__(self) -> Stream:
        entered = self.__dict__.setdefault("_entered", [])
        entered.append(StreamContext(self))
        entered[-1].__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._entered.pop().__exit__(*exc)

    def synchronize(self) -> None:
        """Wait until all its work is done."""
        self.cupy.synchronize()

    def query(self) -> bool:
        """Whether all its work is done."""
        return bool(self.cupy.done)

    def record_event(self, event: Event | None = None) -> Event:
        """Mark this point of the stream; makes an event if none is given."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Work queued from now on starts after the event."""
        if event.cupy is not None:
            self.cupy.wait_event(event.cupy)

    def wait_stream(self, stream: Stream) -> None:
        """Work queued from now on starts after all that is queued on the other stream."""
        self.wait_event(stream.record_event())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and \
            (self.cuda_stream, self.device) == (other.cuda_stream, other.device)

    def __hash__(self) -> int:
        return hash((self.cuda_stream, self.device))

    def __repr__(self) -> str:
        return f"<torch.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.cuda_stream


def _of(cupy_stream: Any, index: int) -> Stream:
    s = Stream.__new__(Stream)
    s.cupy, s.device = cupy_stream, Device("cuda", index)
    return s


class ExternalStream(Stream):
    """A stream that another library made and keeps, by CUDA's handle."""

    def __init__(self, stream_ptr: int, device: Any = None) -> None:
        cupy = needed()
        self.device = Device("cuda", index_of(device))
        self.cupy = cupy.cuda.ExternalStream(int(stream_ptr), self.device.index)


class Event:
    """A point in a stream's work, to wait for or to measure time with.

    enable_timing: for elapsed_time. blocking: synchronize() sleeps instead of spinning.
    interprocess, external: not supported.
    """

    def __init__(self, enable_timing: bool = False, blocking: bool = False,
                 interprocess: bool = False, external: bool = False) -> None:
        needed()
        if interprocess or external:
            raise NotImplementedError("events for other processes, and external events of graphs, "
                                      "are not supported: use plain ones in one process")
        self._flags = {"block": blocking, "disable_timing": not enable_timing}
        self.cupy: Any = None       # made when it is recorded, on the stream's device
        self._index = 0

    @property
    def cuda_event(self) -> int:
        """CUDA's own handle; 0 before it is recorded."""
        return 0 if self.cupy is None else int(self.cupy.ptr)

    @property
    def device(self) -> Device | None:
        """The device of the stream that it was first recorded on; None before."""
        return None if self.cupy is None else Device("cuda", self._index)

    @property
    def _as_parameter_(self) -> Any:
        return ctypes.c_void_p(self.cuda_event)

    def record(self, stream: Stream | None = None) -> None:
        """Mark this point of the stream, by default the current one."""
        stream = current_stream() if stream is None else stream
        cupy = needed()
        with cupy.cuda.Device(stream.device.index):
            if self.cupy is None:
                self.cupy = cupy.cuda.Event(**self._flags)
                self._index = stream.device_index
            elif self._index != stream.device_index:
                raise RuntimeError(f"Event device {self._index} does not match recording stream's "
                                   f"device {stream.device_index}.")
            self.cupy.record(stream.cupy)

    def wait(self, stream: Stream | None = None) -> None:
        """Make the stream, by default the current one, wait for this event."""
        (current_stream() if stream is None else stream).wait_event(self)

    def query(self) -> bool:
        """Whether the work before it is done; True if it was never recorded."""
        return self.cupy is None or bool(self.cupy.done)

    def synchronize(self) -> None:
        """Wait until the work before it is done."""
        if self.cupy is not None:
            self.cupy.synchronize()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to a later one; both must have been reached."""
        if self._flags["disable_timing"] or end_event._flags["disable_timing"]:
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self.cupy is None or end_event.cupy is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        return float(needed().cuda.get_elapsed_time(self.cupy, end_event.cupy))

    def __repr__(self) -> str:
        return "<torch.cuda.Event uninitialized>" if self.cupy is None else \
            f"<torch.cuda.Event {self.cupy.ptr:#x}>"


class StreamContext:
    """``with torch.cuda.stream(s):`` work goes to s, on its device; None changes nothing."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream
        self._before: list[int] = []

    def __enter__(self) -> None:
        if self.stream is not None:
            self._before.append(current_device())
            set_device(self.stream.device.index or 0)
            self.stream.cupy.__enter__()

    def __exit__(self, *exc: object) -> None:
        if self.stream is not None:
            self.stream.cupy.__exit__(*exc)
            set_device(self._before.pop())


def stream(stream: Stream | None) -> StreamContext:
    """A context in which work goes to ``stream``."""
    return StreamContext(stream)


def set_stream(stream: Stream | None) -> None:
    """Make ``stream`` the current one of its device; better use ``with torch.cuda.stream(s):``."""
    if stream is not None:
        set_device(stream.device.index or 0)
        stream.cupy.use()


def current_stream(device: Any = None) -> Stream:
    """The stream that work on a device goes to."""
    cupy = needed()
    index = index_of(device)
    with cupy.cuda.Device(index):
        return _of(cupy.cuda.get_current_stream(), index)


def default_stream(device: Any = None) -> Stream:
    """The stream that a device starts with."""
    return _of(needed().cuda.Stream.null, index_of(device))
