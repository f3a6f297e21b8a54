"""torch.jit.annotations: types for TorchScript's eyes, which are typing's."""
from __future__ import annotations

from typing import (  # noqa: UP035
    Any,
    Dict,
    List,
    Optional,
    Tuple,
    Union,
)

from gpugrad._jit_internal import BroadcastingList1 as BroadcastingList1
from gpugrad._jit_internal import BroadcastingList2 as BroadcastingList2
from gpugrad._jit_internal import BroadcastingList3 as BroadcastingList3

__all__ = ["Any", "Dict", "List", "Optional", "Tuple", "Union"]
