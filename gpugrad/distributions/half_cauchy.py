"""The half-Cauchy distribution: the size of Cauchy numbers."""
from __future__ import annotations

import math

from gpugrad._tensor import Tensor
from gpugrad.distributions.cauchy import Cauchy
from gpugrad.distributions.half import Half

__all__ = ["HalfCauchy"]


class HalfCauchy(Half):
    """|x| for x of Cauchy(0, scale). Its mean is infinite."""

    _whole = Cauchy
    _batched: dict[str, int] = {}

    @property
    def mean(self) -> Tensor:
        return self._everywhere(math.inf, self.scale)

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance
