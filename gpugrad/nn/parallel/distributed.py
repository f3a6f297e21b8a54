"""DistributedDataParallel: there to be imported and asked for; it can't be made."""
from __future__ import annotations

from typing import Any

from gpugrad.nn.modules.module import Module


class DistributedDataParallel(Module):
    """One process of several that train a model together, in PyTorch."""

    def __init__(self, module: Module, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("DistributedDataParallel is not supported: gpugrad trains in one "
                                  "process. Use the module itself when "
                                  "torch.distributed.is_available() is False")
