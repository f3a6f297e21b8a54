"""torch.utils: loading data, and sharing memory with other libraries."""
from __future__ import annotations

from gpugrad.utils import data as data
from gpugrad.utils import dlpack as dlpack
