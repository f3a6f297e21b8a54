"""torch.serialization: checkpoints in PyTorch's file format, and copies of tensors."""
from __future__ import annotations

from gpugrad.serialization.memory import deepcopy_tensor as deepcopy_tensor
from gpugrad.serialization.memory import rebuild_tensor as rebuild_tensor
from gpugrad.serialization.memory import reduce_tensor as reduce_tensor
from gpugrad.serialization.reading import add_safe_globals as add_safe_globals
from gpugrad.serialization.reading import clear_safe_globals as clear_safe_globals
from gpugrad.serialization.reading import get_safe_globals as get_safe_globals
from gpugrad.serialization.reading import (
    get_unsafe_globals_in_checkpoint as get_unsafe_globals_in_checkpoint,
)
from gpugrad.serialization.reading import load as load
from gpugrad.serialization.reading import safe_globals as safe_globals
from gpugrad.serialization.writing import save as save
