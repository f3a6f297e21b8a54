"""torch.onnx: models can't be exported; the questions that model files ask have answers."""
from __future__ import annotations

from enum import Enum
from typing import Any


class OperatorExportTypes(Enum):
    """How exported operators are written, in PyTorch."""

    ONNX = 0
    ONNX_ATEN = 1
    ONNX_ATEN_FALLBACK = 2
    RAW = 3
    ONNX_FALLTHROUGH = 4


class TrainingMode(Enum):
    """In which mode a model is exported, in PyTorch."""

    EVAL = 0
    PRESERVE = 1
    TRAINING = 2


def is_in_onnx_export() -> bool:
    """False."""
    return False


def export(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError("torch.onnx.export is not supported: save the state_dict, load it "
                              "into the same model in PyTorch, and export from there")


dynamo_export = export


def register_custom_op_symbolic(*args: Any, **kwargs: Any) -> None:
    """Without effect, as nothing is exported."""
