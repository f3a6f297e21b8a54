"""What torch.autograd.graph names: the node type, for isinstance checks and walking graphs."""
from __future__ import annotations

from typing import NamedTuple

from gpugrad._tensor import Tensor
from gpugrad.autograd.node import Node as Node
from gpugrad.autograd.node import edge_of


class GradientEdge(NamedTuple):
    """A node and which of its outputs: where a gradient arrives."""

    node: Node
    output_nr: int


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The edge of a tensor that requires grad."""
    edge = edge_of(tensor)
    if edge is None:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does "
                           "not require gradients")
    return GradientEdge(*edge[:2])
