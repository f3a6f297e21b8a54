"""The half-normal distribution: the size of normal numbers."""
from __future__ import annotations

import math

from gpugrad._tensor import Tensor
from gpugrad.distributions.half import Half
from gpugrad.distributions.normal import Normal

__all__ = ["HalfNormal"]


class HalfNormal(Half):
    """|x| for x of Normal(0, scale)."""

    _whole = Normal
    _batched: dict[str, int] = {}

    @property
    def mean(self) -> Tensor:
        return self.scale * math.sqrt(2 / math.pi)

    @property
    def variance(self) -> Tensor:
        return self.scale.pow(2) * (1 - 2 / math.pi)
