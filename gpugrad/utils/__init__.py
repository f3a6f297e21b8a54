"""torch.utils: loading data, checkpoints, memory shared with other libraries, TensorBoard."""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gpugrad.utils import data as data
from gpugrad.utils import dlpack as dlpack

# Imported when first used.
_LAZY = ("_pytree", "benchmark", "checkpoint", "cpp_extension", "hooks", "model_zoo",
         "npz", "safetensors", "summary", "tensorboard")

if TYPE_CHECKING:
    from gpugrad.utils import benchmark as benchmark
    from gpugrad.utils import checkpoint as checkpoint
    from gpugrad.utils import hooks as hooks
    from gpugrad.utils import model_zoo as model_zoo
    from gpugrad.utils import npz as npz
    from gpugrad.utils import safetensors as safetensors
else:
    def __getattr__(name: str) -> Any:
        if name in _LAZY:
            return import_module("gpugrad.utils." + name)
        raise AttributeError(f"module 'gpugrad.utils' has no attribute '{name}'")
