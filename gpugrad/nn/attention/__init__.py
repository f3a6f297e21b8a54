"""torch.nn.attention: which ways of scaled_dot_product_attention may be taken.

gpugrad has one text, with kernels of its own on CUDA, for all of PyTorch's backends. The choice is
kept and can be asked for, and what PyTorch refuses for want of a backend is refused.
"""
from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager

from gpugrad.functions.attention import enabled
from gpugrad.nn.attention import bias as bias

WARN_FOR_UNFUSED_KERNELS = False


class SDPBackend(enum.Enum):
    """PyTorch's ways of scaled_dot_product_attention."""

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4

    def __int__(self) -> int:
        return int(self.value)

    __index__ = __int__


NAMES = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION,
         "mem_efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH,
         "overrideable": SDPBackend.OVERRIDEABLE}


def _cur_sdpa_kernel_backends(with_priority: bool = False) -> list[SDPBackend]:
    """Those that are enabled."""
    return [backend for name, backend in NAMES.items() if enabled[name]]


@contextmanager
def sdpa_kernel(backends: list[SDPBackend] | SDPBackend,
                set_priority: bool = False) -> Iterator[dict[str, object]]:
    """Only these backends in the block. set_priority is accepted, without effect: there is one."""
    if not isinstance(backends, list | SDPBackend):
        raise AssertionError("Backend must be an instance of SDPBackend or a list of SDPBackend "
                             f"instances, got {type(backends).__name__}")
    chosen = backends if isinstance(backends, list) else [backends]
    before = dict(enabled)
    enabled.update({name: backend in chosen for name, backend in NAMES.items()})
    try:
        yield {}
    finally:
        enabled.update(before)
