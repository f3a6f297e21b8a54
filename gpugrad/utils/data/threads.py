"""Worker threads of a DataLoader: where reading waits for files or releases the GIL, they do."""
from __future__ import annotations

import queue
import threading
from typing import Any

from gpugrad.utils.data import worker, worker_info
from gpugrad.utils.data.failure import Failure
from gpugrad.utils.data.worker import Job, WorkerInfo


class Result:
    """What a thread hands over."""

    __slots__ = ("_content", "kind", "task")

    def __init__(self, kind: str, task: int, content: Any) -> None:
        self.kind, self.task, self._content = kind, task, content

    def open(self) -> Any:
        """The content."""
        return self._content


class Threads:
    """The workers of a pass, by number. They share the dataset, and nothing is copied."""

    kind = "thread"

    def __init__(self, context: Any, job: Job) -> None:
        self._tasks: list[queue.SimpleQueue[Any]] = []
        self._results: queue.SimpleQueue[tuple[int, Result]] = queue.SimpleQueue()
        self._closed = threading.Event()
        for i in range(job.workers):
            tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
            self._tasks.append(tasks)
            threading.Thread(target=_main, args=(job, i, tasks, self._results, self._closed),
                             name=f"DataLoader worker {i}", daemon=True).start()

    @property
    def pids(self) -> list[int]:
        """Threads have none."""
        return []

    def send(self, i: int, number: int, index: Any) -> None:
        """Give worker i a task."""
        self._tasks[i].put((number, index))

    def receive(self, timeout: float | None) -> tuple[int, Result] | None:
        """(worker, result) of any worker; None after ``timeout`` seconds."""
        try:
            return self._results.get(timeout=timeout)
        except queue.Empty:
            return None

    def dismiss(self, i: int) -> None:
        """Worker i may end: it gets no more tasks."""
        self._tasks[i].put(None)

    def close(self) -> None:
        """End all of them; one that is reading a sample ends after that batch."""
        self._closed.set()
        for tasks in self._tasks:
            tasks.put(None)


def _main(job: Job, number: int, tasks: Any, results: Any, closed: threading.Event) -> None:
    """What a worker thread runs."""
    seed = job.base_seed + number
    worker_info.thread.info = WorkerInfo(number, job.workers, seed, job.dataset,
                                     worker.generators(job.base_seed, number), "thread")

    def take() -> Any:
        task = tasks.get()
        return None if closed.is_set() else task

    def give(kind: str, task: int, content: Any) -> None:
        results.put((number, Result(kind, task, content)))
    try:
        worker.work(job, number, f"in DataLoader worker thread {number}", take, give)
    except BaseException as e:      # SystemExit, as of a process that ends
        give("failure", -1, Failure(e, f"in DataLoader worker thread {number}"))
