"""Functions of nn.functional that have another form in the torch namespace."""
from __future__ import annotations

from gpugrad._tensor import Tensor
from gpugrad.functions import activation, noise


def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """nn.functional.celu, which can't be in place here."""
    return activation.celu(input, alpha)


def selu(input: Tensor) -> Tensor:
    """nn.functional.selu, which can't be in place here."""
    return activation.selu(input)


def threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    """nn.functional.threshold, which can't be in place here."""
    return activation.threshold(input, threshold, value)


def rrelu(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3,
          training: bool = False) -> Tensor:
    """nn.functional.rrelu, which can't be in place here."""
    return noise.rrelu(input, lower, upper, training)
