"""nn.parallel: DataParallel on the one device that gpugrad uses; the rest says what is missing."""
from __future__ import annotations

from gpugrad.nn.parallel.data_parallel import DataParallel as DataParallel
from gpugrad.nn.parallel.data_parallel import data_parallel as data_parallel
from gpugrad.nn.parallel.distributed import DistributedDataParallel as DistributedDataParallel
