"""torch.utils.data._utils.worker: what a worker knows of itself."""
from __future__ import annotations

from gpugrad.utils.data.worker import WorkerInfo as WorkerInfo
from gpugrad.utils.data.worker_info import get_worker_info as get_worker_info
