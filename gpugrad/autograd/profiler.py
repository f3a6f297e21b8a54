"""torch.autograd.profiler: named parts of a program, their times, and tables of them.

Operations themselves don't record anything: name the parts that matter. On CUDA a part's time is
what the host took to launch its work, unless the part ends with torch.cuda.synchronize(); under
NVIDIA's profilers its name is shown.
"""
from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from gpugrad.absent import classes

globals().update(classes("torch.autograd.profiler", "emit_itt emit_nvtx",
                         "mark ranges by cuda.nvtx.range()"))
_listening: list[Recorder] = []         # those that are recording


class record_function:
    """A named part of a program: a context, or a decorator."""

    def __init__(self, name: str, args: str | None = None) -> None:
        self.name, self.args = name, args

    def __enter__(self) -> record_function:
        self._open = [p._begin(self.name) for p in _listening]
        self._nvtx = _nvtx()
        if self._nvtx is not None:
            self._nvtx.RangePush(self.name)
        self._start = time.perf_counter_ns()
        return self

    def __exit__(self, *exc: object) -> None:
        end = time.perf_counter_ns()
        if self._nvtx is not None:
            self._nvtx.RangePop()
        for event in self._open:
            event.finish(self._start, end)

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def wrapped(*args: Any, **kw: Any) -> Any:
            with record_function(self.name, self.args):
                return fn(*args, **kw)
        return wrapped


def _nvtx() -> Any:
    """NVTX, once CUDA is in use."""
    from gpugrad.backend import cuda

    return cuda.usable()[0].cuda.nvtx if cuda.in_use() else None


class FunctionEvent:
    """One run of a named part; times in microseconds."""

    def __init__(self, name: str, parent: FunctionEvent | None) -> None:
        self.name = self.key = name
        self.parent, self.thread = parent, threading.get_ident()
        self.start_ns = self.end_ns = 0
        self.inner_ns = 0

    def finish(self, start: int, end: int) -> None:
        self.start_ns, self.end_ns = start, end
        _stack().remove(self)
        if self.parent is not None:
            self.parent.inner_ns += end - start

    @property
    def cpu_time_total(self) -> float:
        return (self.end_ns - self.start_ns) / 1000

    @property
    def self_cpu_time_total(self) -> float:
        return (self.end_ns - self.start_ns - self.inner_ns) / 1000

    def __repr__(self) -> str:
        return f"<FunctionEvent name={self.name} cpu_time={self.cpu_time_total:.3f}us>"


_stacks = threading.local()


def _stack() -> list[FunctionEvent]:
    if not hasattr(_stacks, "open"):
        _stacks.open = []
    open_: list[FunctionEvent] = _stacks.open
    return open_


class FunctionEventAvg:
    """All runs of one part together; times in microseconds."""

    def __init__(self, key: str) -> None:
        self.key, self.count = key, 0
        self.cpu_time_total = self.self_cpu_time_total = 0.0

    def add(self, event: FunctionEvent) -> None:
        self.count += 1
        self.cpu_time_total += event.cpu_time_total
        self.self_cpu_time_total += event.self_cpu_time_total

    @property
    def cpu_time(self) -> float:
        """The mean of one run."""
        return self.cpu_time_total / self.count


class EventList(list[Any]):
    """Events, or averages, with a table of them."""

    def key_averages(self, *args: Any, **kwargs: Any) -> EventList:
        """One entry for each name."""
        found: dict[str, FunctionEventAvg] = {}
        for event in self:
            found.setdefault(event.key, FunctionEventAvg(event.key)).add(event)
        return EventList(found.values())

    def total_average(self) -> FunctionEventAvg:
        """All events as one."""
        total = FunctionEventAvg("Total")
        for event in self:
            total.add(event)
        return total

    def table(self, sort_by: str | None = None, row_limit: int = 100, **kwargs: Any) -> str:
        """The averages as text. sort_by: "cpu_time_total", "self_cpu_time_total", "cpu_time" or
        "count"; names for CUDA's times sort by the first."""
        rows = list(self)
        if sort_by is not None:
            by = sort_by if hasattr(FunctionEventAvg("x"), sort_by) or sort_by == "cpu_time" \
                else "cpu_time_total"
            rows.sort(key=lambda e: getattr(e, by), reverse=True)
        rows = rows[:row_limit] if row_limit >= 0 else rows
        width = max([len(r.key) for r in rows] + [4])
        whole = sum([r.self_cpu_time_total for r in self])
        head = f"{'Name':>{width}}  {'Self CPU %':>10}  {'Self CPU':>12}  {'CPU total':>12}  " \
               f"{'CPU time avg':>12}  {'# of Calls':>10}"
        rule = "  ".join("-" * n for n in (width, 10, 12, 12, 12, 10))
        lines = [f"{r.key:>{width}}  {100 * r.self_cpu_time_total / (whole or 1):>9.2f}%  "
                 f"{_time(r.self_cpu_time_total):>12}  {_time(r.cpu_time_total):>12}  "
                 f"{_time(r.cpu_time):>12}  {r.count:>10}" for r in rows]
        return "\n".join([rule, head, rule, *lines, rule,
                          f"Self CPU time total: {_time(whole)}", ""])


def _time(us: float) -> str:
    return f"{us / 1e6:.3f}s" if us >= 1e6 else f"{us / 1e3:.3f}ms" if us >= 1e3 else f"{us:.3f}us"


class Recorder:
    """Keeps the events of the time in which it listens."""

    def __init__(self) -> None:
        self._events: list[FunctionEvent] = []

    def _begin(self, name: str) -> FunctionEvent:
        stack = _stack()
        event = FunctionEvent(name, stack[-1] if stack else None)
        stack.append(event)
        self._events.append(event)
        return event

    def _listen(self, on: bool) -> None:
        if on and self not in _listening:
            _listening.append(self)
        elif not on and self in _listening:
            _listening.remove(self)

    def events(self) -> EventList:
        """Every run of a part that has ended."""
        return EventList([e for e in self._events if e.end_ns])

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0,
                     **kwargs: Any) -> EventList:
        """One entry for each part."""
        return self.events().key_averages()

    def export_chrome_trace(self, path: str) -> None:
        """Write the events as a trace for chrome://tracing; gzipped if the path ends in .gz."""
        trace = {"traceEvents": [
            {"ph": "X", "cat": "user_annotation", "name": e.name, "pid": os.getpid(),
             "tid": e.thread, "ts": e.start_ns / 1000, "dur": e.cpu_time_total}
            for e in self.events()]}
        if path.endswith(".gz"):
            import gzip

            with gzip.open(path, "wt") as f:
                json.dump(trace, f)
        else:
            with open(path, "w", encoding="utf-8") as f:
                json.dump(trace, f)


class profile(Recorder):
    """Records the parts that record_function names, in the block; torch.profiler.profile can more.

    enabled: False does nothing. The other arguments have no influence.
    """

    def __init__(self, enabled: bool = True, **kwargs: Any) -> None:
        super().__init__()
        self.enabled = enabled

    def __enter__(self) -> profile:
        self._listen(self.enabled)
        return self

    def __exit__(self, *exc: object) -> None:
        self._listen(False)

    def table(self, **kwargs: Any) -> str:
        """All events as text."""
        return self.events().key_averages().table(**kwargs)

    def total_average(self) -> FunctionEventAvg:
        """All events as one."""
        return self.events().total_average()
