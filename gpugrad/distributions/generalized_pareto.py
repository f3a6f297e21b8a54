"""The generalized Pareto distribution: what lies beyond a threshold."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.creation import ones_like, zeros_like
from gpugrad.distributions import constraints
from gpugrad.distributions.distribution import SCALAR, Distribution
from gpugrad.distributions.utils import broadcast_all
from gpugrad.functions.choices import where
from gpugrad.functions.pointwise import isclose
from gpugrad.sampling import rand

__all__ = ["GeneralizedPareto"]


class GeneralizedPareto(Distribution):
    """From ``loc`` on; the larger ``concentration``, the heavier the tail; 0 is exponential."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive,
                       "concentration": constraints.real}
    has_rsample = True
    _batched = {"loc": 0, "scale": 0, "concentration": 0}

    def __init__(self, loc: Any, scale: Any, concentration: Any,
                 validate_args: bool | None = None) -> None:
        self.loc, self.scale, self.concentration = broadcast_all(loc, scale, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        end = where(self.concentration < 0, self.loc - self.scale / self.concentration, math.inf)
        return constraints.interval(self.loc, end)

    def rsample(self, sample_shape: Sequence[int] = SCALAR) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return self.icdf(rand(shape, dtype=self.loc.dtype, device=self.loc.device))

    def _zero_or(self) -> tuple[Tensor, Tensor]:
        """Where concentration is 0, and concentration with a harmless number there."""
        zero = isclose(self.concentration, zeros_like(self.concentration))
        return zero, where(zero, ones_like(self.concentration), self.concentration)

    def _z(self, x: Tensor) -> Tensor:
        return (x - self.loc) / self.scale

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(value)
        z, (zero, k) = self._z(value), self._zero_or()
        power = 1 / k + ones_like(z)
        fall = where(power == 0, power, power * (k * z).log1p())
        return -self.scale.log() - where(zero, z, fall)

    def log_survival_function(self, value: Tensor) -> Tensor:
        """log(1 - cdf)"""
        self._check(value)
        z, (zero, k) = self._z(value), self._zero_or()
        return where(zero, -z, -(k * z).log1p() / k)

    def log_cdf(self, value: Tensor) -> Tensor:
        return (-self.log_survival_function(value).exp()).log1p()

    def cdf(self, value: Tensor) -> Tensor:
        return self.log_cdf(value).exp()

    def icdf(self, value: Tensor) -> Tensor:
        zero, k = self._zero_or()
        log_rest = (-value).log1p()
        return where(zero, self.loc - self.scale * log_rest,
                     self.loc + self.scale / k * (-k * log_rest).expm1())

    @property
    def mean(self) -> Tensor:
        there = self.concentration < 1
        k = where(there, self.concentration, 0.5)
        return where(there, self.loc + self.scale / (1 - k), math.nan)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        there = self.concentration < 0.5
        k = where(there, self.concentration, 0.25)
        return where(there, self.scale ** 2 / ((1 - k) ** 2 * (1 - 2 * k)), math.nan)

    def entropy(self) -> Tensor:
        return (self.scale.log() + self.concentration + 1).expand(self._batch_shape)
