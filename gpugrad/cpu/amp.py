"""torch.cpu.amp: the older names of torch.amp, for the CPU."""
from __future__ import annotations

from typing import Any

from gpugrad import amp, dtypes
from gpugrad.amp import autocast_mode


class autocast(autocast_mode.autocast):
    """``torch.amp.autocast("cpu", ...)``."""

    def __init__(self, enabled: bool = True, dtype: dtypes.dtype = dtypes.bfloat16,
                 cache_enabled: bool = True) -> None:
        autocast_mode.deprecated("cpu", "autocast")
        super().__init__("cpu", dtype, enabled, cache_enabled)


class GradScaler(amp.GradScaler):
    """``torch.amp.GradScaler("cpu", ...)``."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        autocast_mode.deprecated("cpu", "GradScaler")
        super().__init__("cpu", *args, **kw)
