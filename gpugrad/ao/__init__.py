"""torch.ao: of it there is ao.quantization."""
from __future__ import annotations

from gpugrad.ao import quantization as quantization
