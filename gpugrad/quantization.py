"""torch.quantization: stubs that pass values on, as PyTorch's do at first; the rest raises."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.absent import functions
from gpugrad.nn.modules.module import Module


class QuantStub(Module):
    """Passes its input on; in PyTorch the place where values will be quantised."""

    def __init__(self, qconfig: Any = None) -> None:
        super().__init__()
        if qconfig:
            self.qconfig = qconfig

    def forward(self, x: Tensor) -> Tensor:
        return x


class DeQuantStub(QuantStub):
    """Passes its input on; in PyTorch the place where values will be dequantised."""


globals().update(functions(
    "torch.quantization",
    "convert default_eval_fn fuse_modules fuse_modules_qat get_default_qat_qconfig "
    "get_default_qconfig prepare prepare_qat propagate_qconfig_ quantize quantize_dynamic "
    "quantize_qat swap_module",
    "there are no quantised tensors; use float16 or bfloat16"))
