"""The relaxed categorical distribution: shares that are nearly one-hot, and differentiable."""
from __future__ import annotations

from collections.abc import Sequence

from gpugrad._tensor import Tensor
from gpugrad.creation import full_like
from gpugrad.distributions import constraints
from gpugrad.distributions.categorical import Categorical
from gpugrad.distributions.chances import OverCategories
from gpugrad.distributions.distribution import SCALAR
from gpugrad.distributions.transformed_distribution import TransformedDistribution
from gpugrad.distributions.transforms import ExpTransform
from gpugrad.distributions.utils import broadcast_all, clamp_probs
from gpugrad.sampling import rand

__all__ = ["ExpRelaxedCategorical", "RelaxedOneHotCategorical"]


class ExpRelaxedCategorical(OverCategories):
    """The logarithms of RelaxedOneHotCategorical: Gumbel noise on the logits, normalized."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.real_vector
    has_rsample = True
    _batched = {"_categorical": 0}
    _kept = ("temperature",)

    def __init__(self, temperature: Tensor, probs: Tensor | None = None,
                 logits: Tensor | None = None, validate_args: bool | None = None) -> None:
        self._categorical = Categorical(probs, logits)
        self.temperature = temperature
        super().__init__(self._categorical.batch_shape, self.param_shape[-1:],
                         validate_args=validate_args)

    def rsample(self, sample_shape: Sequence[int] = SCALAR) -> Tensor:
        like = self.logits
        u = clamp_probs(rand(self._extended_shape(sample_shape), dtype=like.dtype,
                             device=like.device))
        scores = (self.logits - (-u.log()).log()) / self.temperature
        return scores - scores.logsumexp(dim=-1, keepdim=True)

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(value)
        n = self._categorical._num_events
        logits, value = broadcast_all(self.logits, value)
        norm = (full_like(self.temperature, float(n)).lgamma()
                + self.temperature.log() * (n - 1))
        score = logits - value * self.temperature
        return (score - score.logsumexp(dim=-1, keepdim=True)).sum(-1) + norm


class RelaxedOneHotCategorical(TransformedDistribution):
    """The lower the ``temperature``, the nearer to one-hot (Jang, Gu and Poole, 2017)."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.simplex
    has_rsample = True
    _batched: dict[str, int] = {}

    def __init__(self, temperature: Tensor, probs: Tensor | None = None,
                 logits: Tensor | None = None, validate_args: bool | None = None) -> None:
        base = ExpRelaxedCategorical(temperature, probs, logits, validate_args=validate_args)
        super().__init__(base, ExpTransform(), validate_args=validate_args)

    @property
    def temperature(self) -> Tensor:
        return self.base_dist.temperature

    @property
    def logits(self) -> Tensor:
        return self.base_dist.logits

    @property
    def probs(self) -> Tensor:
        return self.base_dist.probs
