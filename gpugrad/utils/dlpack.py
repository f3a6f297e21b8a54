"""torch.utils.dlpack: memory shared with other libraries."""
from __future__ import annotations

from gpugrad.functions.protocol import from_dlpack as from_dlpack
from gpugrad.functions.protocol import to_dlpack as to_dlpack
