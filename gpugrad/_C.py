"""torch._C: the few names of PyTorch's binary part that model files ask for."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.absent import classes
from gpugrad.random import Generator as Generator

_TensorMeta = type(Tensor)
globals().update(classes("torch", "PyTorchFileReader PyTorchFileWriter",
                         "take torch.load and torch.save"))
globals().update(classes("torch", "SymBool SymFloat SymInt", "sizes are numbers"))
_GLIBCXX_USE_CXX11_ABI = True


def _log_api_usage_once(event: str) -> None:
    """Nothing is logged."""


def _get_tracing_state() -> None:
    """None: nothing is being traced."""
    return None


def _jit_set_profiling_executor(on: bool) -> bool:
    """Without effect; returns False, what it was."""
    return False


def _jit_set_profiling_mode(on: bool) -> bool:
    """Without effect; returns False, what it was."""
    return False


def _jit_override_can_fuse_on_gpu(on: bool) -> None:
    """Without effect."""


def _jit_override_can_fuse_on_cpu(on: bool) -> None:
    """Without effect."""


def _jit_set_texpr_fuser_enabled(on: bool) -> None:
    """Without effect."""


def _jit_set_nvfuser_enabled(on: bool) -> bool:
    """Without effect; returns False, what it was."""
    return False


def _cuda_getDeviceCount() -> int:
    """How many CUDA devices there are."""
    from gpugrad import cuda

    return cuda.device_count()


class _nn:
    """torch._C._nn."""

    @staticmethod
    def _parse_to(*args: Any, **kwargs: Any) -> tuple[Any, Any, bool, Any]:
        """What the arguments of Module.to() mean: device, dtype, non_blocking, memory_format."""
        from gpugrad.functions.conversion import parse_to

        be, dtype, non_blocking, _, memory_format = parse_to(*args, **kwargs)
        return None if be is None else be.device, dtype, non_blocking, memory_format
