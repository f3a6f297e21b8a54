"""The negative binomial distribution: successes before a number of failures."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.distributions import constraints
from gpugrad.distributions.chances import Trials
from gpugrad.distributions.distribution import SCALAR
from gpugrad.distributions.gamma import Gamma
from gpugrad.distributions.utils import lazy_property
from gpugrad.functions.activation import logsigmoid, sigmoid
from gpugrad.sampling import poisson

__all__ = ["NegativeBinomial"]


class NegativeBinomial(Trials):
    """Successes, each of probability ``probs``, before ``total_count`` failures."""

    arg_constraints = {"total_count": constraints.greater_than_eq(0),
                       "probs": constraints.half_open_interval(0.0, 1.0),
                       "logits": constraints.real}
    support = constraints.nonnegative_integer
    _batched = {"total_count": 0, "probs": 0, "logits": 0}

    def __init__(self, total_count: Any, probs: Any = None, logits: Any = None,
                 validate_args: bool | None = None) -> None:
        self._take_with_count(total_count, probs, logits)
        super().__init__(self._param.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.logits.exp()

    @property
    def mode(self) -> Tensor:
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0.0)

    @property
    def variance(self) -> Tensor:
        return self.mean / sigmoid(-self.logits)

    @lazy_property
    def _gamma(self) -> Any:
        """The rates whose Poisson numbers these are; a total_count of 0 is let through."""
        return Gamma(self.total_count, (-self.logits).exp(), validate_args=False)

    def sample(self, sample_shape: Sequence[int] = SCALAR) -> Tensor:
        with no_grad():
            return poisson(self._gamma.sample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(value)
        n, logits = self.total_count, self.logits
        power = n * logsigmoid(-logits) + value * logsigmoid(logits)
        norm = -(n + value).lgamma() + (1.0 + value).lgamma() + n.lgamma()
        return power - norm.masked_fill(n + value == 0.0, 0.0)       # lgamma(0) is infinite
