"""get_worker_info: what a DataLoader's worker knows of itself."""
from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpugrad.utils.data.worker import WorkerInfo

# Of a worker process; of a worker thread it is thread.info.
process: list[WorkerInfo | None] = [None]
thread = threading.local()


def get_worker_info() -> WorkerInfo | None:
    """In a worker of a DataLoader: its id, num_workers, seed and dataset. Elsewhere None."""
    return getattr(thread, "info", None) or process[0]
