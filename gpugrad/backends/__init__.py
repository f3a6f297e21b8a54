"""torch.backends: what scripts ask about, and set, at their top."""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gpugrad.backends import cuda as cuda
from gpugrad.backends import cudnn as cudnn

# Libraries and devices of PyTorch's that gpugrad does without, but for cpu; imported when first
# asked about.
_LAZY = ("cpu", "mha", "mkl", "mkldnn", "mps", "nnpack", "openmp", "opt_einsum", "quantized")

if TYPE_CHECKING:
    from gpugrad.backends import mps as mps
else:
    def __getattr__(name: str) -> Any:
        if name in _LAZY:
            return import_module("gpugrad.backends." + name)
        raise AttributeError(f"module 'gpugrad.backends' has no attribute '{name}'")
