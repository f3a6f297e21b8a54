"""torch.profiler: the time of the parts of a program that ``record_function`` names.

See gpugrad/autograd/profiler.py for what is recorded.
"""
from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from gpugrad.autograd import profiler as _core
from gpugrad.autograd.profiler import record_function as record_function


class ProfilerActivity(Enum):
    """What a profiler watches."""

    CPU = 0
    XPU = 1
    MTIA = 2
    CUDA = 3
    HPU = 4
    PrivateUse1 = 5


class ProfilerAction(Enum):
    """What a profiler does in a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def supported_activities() -> set[ProfilerActivity]:
    """{ProfilerActivity.CPU}."""
    return {ProfilerActivity.CPU}


def schedule(*, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0,
             skip_first_wait: int = 0) -> Callable[[int], ProfilerAction]:
    """Which steps to record: after skip_first steps, in rounds of wait, warmup and active ones."""
    if active <= 0 or wait < 0 or warmup < 0 or repeat < 0 or skip_first < 0:
        raise AssertionError("Invalid profiler schedule arguments")

    def action(step: int) -> ProfilerAction:
        if step < 0:
            raise AssertionError(f"Step must be non-negative. Got {step}.")
        if step < skip_first:
            return ProfilerAction.NONE
        step -= skip_first
        if skip_first_wait:
            step += wait
        turns, at = divmod(step, wait + warmup + active)
        if (repeat and turns >= repeat) or at < wait:
            return ProfilerAction.NONE
        if at < wait + warmup:
            return ProfilerAction.WARMUP
        last = at == wait + warmup + active - 1
        return ProfilerAction.RECORD_AND_SAVE if last else ProfilerAction.RECORD
    return action


def tensorboard_trace_handler(dir_name: str, worker_name: str | None = None,
                              use_gzip: bool = False) -> Callable[[Any], None]:
    """For on_trace_ready: write each trace to a file in ``dir_name``."""
    def handler(prof: Any) -> None:
        os.makedirs(dir_name, exist_ok=True)
        worker = worker_name or f"{socket.gethostname()}_{os.getpid()}"
        name = f"{worker}.{time.time_ns()}.pt.trace.json" + (".gz" if use_gzip else "")
        prof.export_chrome_trace(os.path.join(dir_name, name))
    return handler


class profile(_core.Recorder):
    """Records the parts that record_function names, in the block or between start() and stop().

    schedule: which steps, counted by step(), to record; by default all. on_trace_ready: called with
    the profiler when a round of recording is over. The other arguments have no influence.
    """

    def __init__(self, *, activities: Iterable[Any] | None = None,
                 schedule: Callable[[int], ProfilerAction] | None = None,
                 on_trace_ready: Callable[..., Any] | None = None, record_shapes: bool = False,
                 profile_memory: bool = False, with_stack: bool = False, with_flops: bool = False,
                 with_modules: bool = False, experimental_config: Any = None,
                 execution_trace_observer: Any = None, acc_events: bool = False,
                 use_cuda: bool | None = None, **kwargs: Any) -> None:
        super().__init__()
        self.activities = set(activities) if activities else supported_activities()
        self.schedule = schedule
        self.on_trace_ready, self.acc_events = on_trace_ready, acc_events
        self.step_num = 0
        self._step: record_function | None = None

    def _action(self) -> ProfilerAction:
        if self.schedule is None:
            return ProfilerAction.RECORD
        return self.schedule(self.step_num)

    def _listen(self, on: bool) -> None:
        if on and self not in _core._listening and not self.acc_events:
            self._events = []
        super()._listen(on)

    def start(self) -> None:
        """Begin."""
        self._listen(self._action() in (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE))
        self._open_step()

    def stop(self) -> None:
        """End; what was recorded goes to on_trace_ready."""
        self._close_step()
        was_on = self in _core._listening
        self._listen(False)
        if was_on and self.on_trace_ready is not None:
            self.on_trace_ready(self)

    def step(self) -> None:
        """The next step begins."""
        before = self._action()
        self._close_step()
        self.step_num += 1
        if before is ProfilerAction.RECORD_AND_SAVE:
            self._listen(False)
            if self.on_trace_ready is not None:
                self.on_trace_ready(self)
        self._listen(self._action() in (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE))
        self._open_step()

    def _open_step(self) -> None:
        if self.schedule is not None and self in _core._listening:
            self._step = record_function(f"ProfilerStep#{self.step_num}").__enter__()

    def _close_step(self) -> None:
        if self._step is not None:
            self._step.__exit__()
            self._step = None

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def kineto_available() -> bool:
    """False: PyTorch's tracer isn't there."""
    return False
