"""The continuous Bernoulli distribution, on [0, 1] (Loaiza-Ganem and Cunningham, 2019)."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.creation import full_like, ones_like, zeros_like
from gpugrad.distributions import constraints
from gpugrad.distributions.chances import Chances
from gpugrad.distributions.distribution import SCALAR
from gpugrad.distributions.exp_family import ExponentialFamily
from gpugrad.distributions.utils import (
    _binary_cross_entropy,
    broadcast_all,
    clamp_probs,
    lazy_property,
    logits_to_probs,
)
from gpugrad.functions.choices import where
from gpugrad.sampling import rand

__all__ = ["ContinuousBernoulli"]


class ContinuousBernoulli(Chances, ExponentialFamily):
    """Density in proportion to p ** x * (1 - p) ** (1 - x).

    Between ``lims``, around a p of 1/2 where the formulas divide 0 by 0, Taylor series stand in.
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True
    _mean_carrier_measure = 0
    _batched = {"probs": 0, "logits": 0}
    _kept = ("_lims",)

    def __init__(self, probs: Any = None, logits: Any = None,
                 lims: tuple[float, float] = (0.499, 0.501),
                 validate_args: bool | None = None) -> None:
        self._take(probs, logits)
        if probs is not None:
            # before they are clamped, which makes all of them valid
            if validate_args is not None and not constraints.unit_interval.check(self.probs).all():
                raise ValueError("The parameter probs has invalid values")
            self.probs = clamp_probs(self.probs)
        self._lims = lims
        super().__init__(self._param.shape, validate_args=validate_args)

    @lazy_property
    def probs(self) -> Any:
        return clamp_probs(logits_to_probs(self.logits, True))

    # Near 1/2 and elsewhere ----------------------------------------------------------------------

    def _outside_unstable_region(self) -> Tensor:
        return (self.probs <= self._lims[0]) | (self.probs > self._lims[1])

    def _cut_probs(self) -> Tensor:
        """probs, with a number that does no harm near 1/2."""
        return self._or_series(self.probs, full_like(self.probs, self._lims[0]))

    def _or_series(self, formula: Tensor, series: Tensor) -> Tensor:
        return where(self._outside_unstable_region(), formula, series)

    def _cont_bern_log_norm(self) -> Tensor:
        """The logarithm of what the density is multiplied by."""
        p = self._cut_probs()
        low = where(p <= 0.5, p, zeros_like(p))
        high = where(p >= 0.5, p, ones_like(p))
        log_norm = ((-p).log1p() - p.log()).abs().log() - where(
            p <= 0.5, (-2.0 * low).log1p(), (2.0 * high - 1.0).log())
        x = (self.probs - 0.5).pow(2)
        return self._or_series(log_norm, math.log(2.0) + (4.0 / 3.0 + 104.0 / 45.0 * x) * x)

    @property
    def mean(self) -> Tensor:
        p = self._cut_probs()
        x = self.probs - 0.5
        return self._or_series(p / (2.0 * p - 1.0) + 1.0 / ((-p).log1p() - p.log()),
                               0.5 + (1.0 / 3.0 + 16.0 / 45.0 * x.pow(2)) * x)

    @property
    def variance(self) -> Tensor:
        p = self._cut_probs()
        x = (self.probs - 0.5).pow(2)
        formula = (p * (p - 1.0) / (1.0 - 2.0 * p).pow(2)
                   + 1.0 / ((-p).log1p() - p.log()).pow(2))
        return self._or_series(formula, 1.0 / 12.0 - (1.0 / 15.0 - 128.0 / 945.0 * x) * x)

    # Samples and densities -----------------------------------------------------------------------

    def sample(self, sample_shape: Sequence[int] = SCALAR) -> Tensor:
        with no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Sequence[int] = SCALAR) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return self.icdf(rand(shape, dtype=self.probs.dtype, device=self.probs.device))

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(value)
        logits, value = broadcast_all(self.logits, value)
        return -_binary_cross_entropy(logits, value) + self._cont_bern_log_norm()

    def cdf(self, value: Tensor) -> Tensor:
        self._check(value)
        p = self._cut_probs()
        formula = (p.pow(value) * (1.0 - p).pow(1.0 - value) + p - 1.0) / (2.0 * p - 1.0)
        inside = self._or_series(formula, value)
        above = where(value >= 1.0, ones_like(value), inside)
        return where(value <= 0.0, zeros_like(value), above)

    def icdf(self, value: Tensor) -> Tensor:
        p = self._cut_probs()
        log_q = (-p).log1p()
        formula = ((-p + value * (2.0 * p - 1.0)).log1p() - log_q) / (p.log() - log_q)
        return self._or_series(formula, value)

    def entropy(self) -> Tensor:
        log_p, log_q = self.probs.log(), (-self.probs).log1p()
        return self.mean * (log_q - log_p) - self._cont_bern_log_norm() - log_q

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return self.logits,

    def _log_normalizer(self, *natural_params: Tensor) -> Tensor:
        x, = natural_params
        low, high = self._lims[0] - 0.5, self._lims[1] - 0.5
        outside = (x <= low) | (x > high)
        cut = where(outside, x, full_like(x, low))
        series = 0.5 * x + x.pow(2) / 24.0 - x.pow(4) / 2880.0
        return where(outside, cut.expm1().abs().log() - cut.abs().log(), series)
