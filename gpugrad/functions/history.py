"""Tensor.backward."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd import engine


def backward(self: Tensor, gradient: Tensor | None = None, retain_graph: bool | None = None,
             create_graph: bool = False, inputs: Any = None) -> None:
    """Add the gradients of this tensor to the .grad of the leaves it was computed from."""
    engine.backward(self, gradient, retain_graph, create_graph, inputs=inputs)
