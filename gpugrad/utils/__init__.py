"""torch.utils: loading data."""
from __future__ import annotations

from gpugrad.utils import data as data
