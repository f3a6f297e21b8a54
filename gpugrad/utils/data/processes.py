"""The worker processes of a DataLoader: a pipe to each, and what happens when one of them ends.

A worker has one thread more, which takes its tasks from the pipe at once: so the main process never
waits for a worker in order to send it something, and a worker knows at once when the main process
is gone, however it went.
"""
from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import pickle
import queue
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpugrad.utils.data import collate, worker, worker_info
from gpugrad.utils.data.shared_memory import Message, Receiver, Sender
from gpugrad.utils.data.worker import Job, WorkerInfo

PATIENCE = 2.0          # seconds for workers to end by themselves, then as many after SIGTERM
INTERRUPTS = 8          # how often a worker that should end is interrupted in that time
LOOK = 1.0              # seconds between looks whether the workers, or the parent, are alive

# The main process's ends of all pipes. A forked worker closes them: else it would keep the other
# workers from noticing that the main process has gone.
_channels: weakref.WeakSet[Any] = weakref.WeakSet()


# In the worker ------------------------------------------------------------------------------------

class _Stop(BaseException):
    """Nobody waits for the worker's results any more."""


class _Tasks:
    """The tasks that have come through the pipe."""

    def __init__(self, channel: Any) -> None:
        self._channel, self._parent = channel, os.getppid()
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.ended = self.left = False          # told to end; ending
        signal.signal(signal.SIGINT, self._interrupt)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> Any:
        """(number, index, returned segments), or None when there will be no more."""
        return None if self.ended else self._queue.get()

    def _interrupt(self, number: int, frame: Any) -> None:
        # Ctrl-C reaches all processes of a terminal: the main one decides what comes of it.
        if self.ended and not self.left:
            raise _Stop

    def _read(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                while not self._channel.poll(LOOK):
                    if not self._parent_lives():
                        raise EOFError
                self._queue.put(self._channel.recv())
        self.ended = True
        self._queue.put(None)
        # An interrupt ends the dataset's sleeping and reading. One that comes in a destructor is
        # lost: so there are several.
        for _ in range(INTERRUPTS):
            if hasattr(signal, "pthread_kill"):
                with contextlib.suppress(OSError):
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(2 * PATIENCE / INTERRUPTS)
        os._exit(1)                                 # the dataset doesn't let itself be stopped

    def _parent_lives(self) -> bool:
        parent = multiprocessing.parent_process()
        return os.getppid() == self._parent and (parent is None or parent.is_alive())


def _main(channel: Any, job: Job, number: int, others: list[Any] | None) -> None:
    """What a worker process runs. others: the parent's pipes, where it was forked."""
    tasks: Any = None
    try:
        for other in others or ():
            with contextlib.suppress(OSError):
                other.close()
        # A handler that the main process has set would run here, too, when we are told to end.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        tasks, sender = _Tasks(channel), Sender(channel)
        if others is not None:
            _refuse_cuda()
        _one_thread()
        seed = worker.seed_process(job.base_seed, number)
        worker_info.process[0] = WorkerInfo(number, job.workers, seed, job.dataset)
        collate.shared[0] = sender.empty
        where = f"in DataLoader worker process {number}"

        def take() -> Any:
            task = tasks.next()
            if task is None:
                return None
            sender.returned(task[2])
            return task[:2]
        worker.work(job, number, where, take, sender.send)
    except (_Stop, BrokenPipeError, ConnectionResetError):
        pass
    finally:
        if tasks is not None:
            tasks.left = True


def _refuse_cuda() -> None:
    """A forked process can't use the CUDA devices of its parent: let it say so."""
    from gpugrad.backend import cuda, forked

    if cuda.usable.cache_info().currsize and cuda.usable()[0] is not None:
        forked.refuse()


def _prepare() -> None:
    """Import and look up what each forked worker would have to, and finds done already."""
    from gpugrad.backend import forked, threads

    threads.blas()
    np.random.get_state()
    assert forked


def _one_thread() -> None:
    """Products of matrices on one thread: there are as many workers as one wants threads."""
    from gpugrad.backend import compiled, threads

    blas = threads.blas()
    if blas is not None:
        blas[1](1)                              # threads.set would first look at all libraries
    else:
        threads.set(1)
    compiled.set_threads(1)


# In the main process ------------------------------------------------------------------------------

@contextlib.contextmanager
def _later(method: str) -> Iterator[None]:
    """Let Ctrl-C wait while a worker starts, which inherits that until it can deal with it."""
    if method == "forkserver" or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Dead(RuntimeError):
    """Worker processes have ended before their work was done."""

    def __init__(self, text: str, workers: list[int]) -> None:
        super().__init__(text)
        self.workers = workers


class Processes:
    """The workers of a pass, by number."""

    kind = "process"

    def __init__(self, context: Any, job: Job) -> None:
        self._owner = os.getpid()
        self._workers: list[Any] = []
        self._channels: list[Any] = []
        self._receivers: dict[Any, tuple[int, Receiver]] = {}
        self._held: dict[Any, Any] = {}
        self._closed = False
        context = multiprocessing if context is None else context
        if context.get_start_method() == "fork":
            _prepare()
        try:
            for i in range(job.workers):
                self._start(context, job, i)
        except BaseException:
            self.close()
            raise

    def _start(self, context: Any, job: Job, i: int) -> None:
        ours, theirs = context.Pipe()
        self._channels.append(ours)
        _channels.add(ours)
        method = context.get_start_method()
        others = list(_channels) if method == "fork" else None
        process = context.Process(target=_main, args=(theirs, job, i, others), daemon=True,
                                  name=f"DataLoader worker {i}")
        try:
            with _later(method):
                process.start()
        except (TypeError, AttributeError, pickle.PicklingError) as e:
            raise _unpicklable(e, job, context) from e
        finally:
            theirs.close()
        self._workers.append(process)
        self._receivers[ours] = i, Receiver(ours, process.pid, self._held)

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [w.pid for w in self._workers]

    def send(self, i: int, number: int, index: Any) -> None:
        """Give worker i a task. That it has died shows when its result is waited for."""
        channel = self._channels[i]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            channel.send((number, index, self._receivers[channel][1].returned()))

    def receive(self, timeout: float | None) -> tuple[int, Message] | None:
        """(worker, message) of any worker; None after ``timeout`` seconds.

        Errors: Dead, as soon as a worker has ended that was not dismissed.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LOOK if end is None else min(LOOK, max(0.0, end - time.monotonic()))
            for channel in multiprocessing.connection.wait(list(self._receivers), left):
                i, receiver = self._receivers[channel]
                try:
                    return i, receiver.receive()
                except (EOFError, ConnectionResetError, BrokenPipeError):
                    raise self._dead([i]) from None
            gone = [i for i, r in self._receivers.values()
                    if not self._workers[i].is_alive() and not self._channels[i].poll(0)]
            if gone:
                raise self._dead(gone)
            if end is not None and time.monotonic() >= end:
                return None

    def _dead(self, numbers: list[int]) -> Dead:
        told = []
        for i in numbers:
            process = self._workers[i]
            process.join(PATIENCE)
            told.append(f"worker {i}, pid {process.pid}, {_ending(process.exitcode)}")
        pids = ", ".join(str(self._workers[i].pid) for i in numbers)
        return Dead(f"DataLoader worker (pid(s) {pids}) exited unexpectedly: {'; '.join(told)}",
                    numbers)

    def dismiss(self, i: int) -> None:
        """Worker i may end: it gets no more tasks."""
        channel = self._channels[i]
        if self._receivers.pop(channel, None) is not None:
            channel.close()

    def close(self) -> None:
        """End all of them: they stop what they are doing, and who doesn't is killed."""
        if self._closed:
            return
        self._closed = True
        for channel in self._channels:
            channel.close()
        self._receivers.clear()
        if os.getpid() != self._owner:          # a copy, in a process that has been forked since
            return
        for end in (lambda p: None, lambda p: p.terminate(), lambda p: p.kill()):
            for process in self._workers:
                end(process)
            limit = time.monotonic() + PATIENCE
            for process in self._workers:
                process.join(max(0.0, limit - time.monotonic()))
            if all(process.exitcode is not None for process in self._workers):
                break


def _ending(code: int | None) -> str:
    if code is None:
        return "closed its pipe"
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (as by the system where memory runs out)" if name == "SIGKILL" else ""
    return f"exit code {code}: killed by {name}{hint}"


def _unpicklable(error: Exception, job: Job, context: Any) -> Exception:
    """What can't be sent to a worker that isn't forked, and what to do."""
    method = context.get_start_method()
    for name, value in [("dataset", job.dataset), ("collate_fn", job.collate),
                        ("worker_init_fn", job.init)]:
        try:
            pickle.dumps(value)
        except Exception as e:
            what = f"its {name} ({type(value).__name__}) can't be pickled: {e}"
            break
    else:
        return error
    way = ("multiprocessing_context='fork', 'thread'" if sys.platform == "linux"
           else "multiprocessing_context='thread'")
    text = (f"DataLoader(num_workers={job.workers}) starts its workers by {method!r}, and {what}. "
            f"Define classes and functions at the top of a module, or use {way} or num_workers=0")
    try:
        return type(error)(text)
    except Exception:
        return pickle.PicklingError(text)
