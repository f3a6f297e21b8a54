"""torch.multiprocessing: the standard library's, and spawn. Tensors are copied to other processes.
"""
from __future__ import annotations

import multiprocessing
import signal
import sys
import traceback
from multiprocessing import *  # noqa: F403
from typing import Any

_SHARING = ("file_descriptor", "file_system")
_strategy = ["file_descriptor"]


class ProcessException(Exception):
    """A process of spawn has failed."""

    def __init__(self, msg: str, error_index: int, pid: int) -> None:
        super().__init__(msg)
        self.msg, self.error_index, self.pid = msg, error_index, pid

    def __reduce__(self) -> Any:
        return type(self), (self.msg, self.error_index, self.pid)


class ProcessRaisedException(ProcessException):
    """The function raised in a process; the message has its traceback."""


class ProcessExitedException(ProcessException):
    """A process ended by a signal or with an exit code."""

    def __init__(self, msg: str, error_index: int, error_pid: int, exit_code: int,
                 signal_name: str | None = None) -> None:
        super().__init__(msg, error_index, error_pid)
        self.exit_code, self.signal_name = exit_code, signal_name

    def __reduce__(self) -> Any:
        return type(self), (self.msg, self.error_index, self.pid, self.exit_code, self.signal_name)


def _run(fn: Any, i: int, args: Any, errors: Any) -> None:
    try:
        fn(i, *args)
    except KeyboardInterrupt:
        pass
    except BaseException:
        errors.put(traceback.format_exc())
        sys.exit(1)


class ProcessContext:
    """The processes that spawn started."""

    def __init__(self, processes: list[Any], errors: list[Any]) -> None:
        self.processes, self.error_queues = processes, errors
        self._running = dict(enumerate(processes))

    def pids(self) -> list[int]:
        """Their process ids."""
        return [int(p.pid) for p in self.processes]

    def join(self, timeout: float | None = None, grace_period: float | None = None) -> bool:
        """Wait until one or more have ended; True if all have. Raises if one failed, after ending
        the others."""
        if not self._running:
            return True
        from multiprocessing.connection import wait

        ready = wait([p.sentinel for p in self._running.values()], timeout=timeout)
        failed = None
        for i, p in list(self._running.items()):
            if p.sentinel in ready:
                p.join()
                del self._running[i]
                if p.exitcode != 0 and failed is None:
                    failed = i
        if failed is None:
            return not self._running
        for p in self._running.values():
            p.terminate()
        for p in self.processes:
            p.join()
        raise self._error(failed)

    def _error(self, i: int) -> ProcessException:
        p = self.processes[i]
        if not self.error_queues[i].empty():
            text = f"\n\n-- Process {i} terminated with the following error:\n"
            return ProcessRaisedException(text + self.error_queues[i].get(), i, p.pid)
        if p.exitcode < 0:
            name = signal.Signals(-p.exitcode).name
            return ProcessExitedException(f"process {i} terminated with signal {name}", i, p.pid,
                                          p.exitcode, name)
        return ProcessExitedException(f"process {i} terminated with exit code {p.exitcode}", i,
                                      p.pid, p.exitcode)


SpawnContext = ProcessContext


def start_processes(fn: Any, args: Any = (), nprocs: int = 1, join: bool = True,
                    daemon: bool = False, start_method: str = "spawn") -> ProcessContext | None:
    """Run ``fn(i, *args)`` in nprocs new processes, i from 0. join: wait for them, and raise if one
    fails; else a context to do so."""
    mp: Any = multiprocessing.get_context(start_method)
    processes, errors = [], []
    for i in range(nprocs):
        error = mp.SimpleQueue()
        p = mp.Process(target=_run, args=(fn, i, args, error), daemon=daemon)
        p.start()
        processes.append(p)
        errors.append(error)
    context = ProcessContext(processes, errors)
    if not join:
        return context
    while not context.join():
        pass
    return None


def spawn(fn: Any, args: Any = (), nprocs: int = 1, join: bool = True, daemon: bool = False,
          start_method: str = "spawn") -> ProcessContext | None:
    """start_processes by the method "spawn"."""
    if start_method != "spawn":
        raise ValueError(f"spawn() starts processes by 'spawn', not {start_method!r}: use "
                         "start_processes")
    return start_processes(fn, args, nprocs, join, daemon, start_method)


def get_all_sharing_strategies() -> set[str]:
    """The names that set_sharing_strategy takes."""
    return set(_SHARING)


def get_sharing_strategy() -> str:
    """What set_sharing_strategy was given."""
    return _strategy[0]


def set_sharing_strategy(new_strategy: str) -> None:
    """Remembered, without effect: tensors are copied."""
    if new_strategy not in _SHARING:
        raise AssertionError(f"invalid sharing strategy {new_strategy!r}: one of {_SHARING}")
    _strategy[0] = new_strategy
