"""torch.utils.data._utils: names that programs take from there."""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gpugrad.utils.data._utils import collate as collate

if TYPE_CHECKING:
    from gpugrad.utils.data._utils import worker as worker
else:
    def __getattr__(name: str) -> Any:
        if name == "worker":
            return import_module("gpugrad.utils.data._utils.worker")
        raise AttributeError(f"module 'gpugrad.utils.data._utils' has no attribute '{name}'")
