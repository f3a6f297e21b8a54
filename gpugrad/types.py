"""torch.types: names for annotations."""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from gpugrad._tensor import Size, Tensor
from gpugrad.device import device as _device
from gpugrad.dtypes import dtype as _dtype  # noqa: F401
from gpugrad.layouts import layout as _layout  # noqa: F401
from gpugrad.storage import UntypedStorage as Storage

__all__ = ["Device", "FileLike", "Number", "Storage"]

_int, _float, _bool, _complex = int, float, bool, complex
_symint = IntLikeType = int
FloatLikeType, BoolLikeType = float, bool
_size = Size | list[int] | tuple[int, ...]
_dispatchkey = str
Number = PySymType = int | float | bool
_Number = (int, float, bool)
Device = _device | str | int | None
FileLike = str | os.PathLike[str] | Any
_TensorOrTensors = Tensor | Sequence[Tensor]
_TensorOrTensorsOrGradEdge = Tensor | Sequence[Tensor] | Any
