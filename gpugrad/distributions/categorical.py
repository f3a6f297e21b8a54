"""The categorical distribution: one of the numbers 0 to n - 1."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gpugrad import dtypes
from gpugrad._tensor import Size, Tensor
from gpugrad.creation import arange
from gpugrad.distributions import constraints
from gpugrad.distributions.chances import Chances, check_one
from gpugrad.distributions.distribution import SCALAR
from gpugrad.functions.shape import broadcast_tensors
from gpugrad.sampling import multinomial

__all__ = ["Categorical"]


class Categorical(Chances):
    """Category i in proportion to ``probs[..., i]``, or to exp(``logits[..., i]``)."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    has_enumerate_support = True
    _binary = False
    _batched = {"probs": 1, "logits": 1}
    _kept = ("_num_events",)

    def __init__(self, probs: Tensor | None = None, logits: Tensor | None = None,
                 validate_args: bool | None = None) -> None:
        check_one(probs, logits)
        self._given = "logits" if probs is None else "probs"
        given: Any = logits if probs is None else probs
        if given.dim() < 1:
            raise ValueError(f"`{self._given}` parameter must be at least one-dimensional.")
        if probs is None:
            self.logits = given - given.logsumexp(dim=-1, keepdim=True)
        else:
            self.probs = given / given.sum(-1, keepdim=True)
        self._num_events = given.shape[-1]
        super().__init__(self._param.shape[:-1], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, self._num_events - 1)

    @property
    def mean(self) -> Tensor:
        return self._everywhere(math.nan, self.probs)

    variance = mean

    @property
    def mode(self) -> Tensor:
        return self.probs.argmax(dim=-1)

    def sample(self, sample_shape: Sequence[int] = SCALAR) -> Tensor:
        rows = self.probs.reshape(-1, self._num_events)
        drawn = multinomial(rows, Size(sample_shape).numel(), True)
        return drawn.T.reshape(self._extended_shape(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(value)
        value, log_probs = broadcast_tensors(value.long().unsqueeze(-1), self.logits)
        return log_probs.gather(-1, value[..., :1]).squeeze(-1)

    def entropy(self) -> Tensor:
        logits = self.logits.clamp(min=dtypes.finfo(self.logits.dtype).min)      # 0 * -inf is 0
        return -(logits * self.probs).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = arange(self._num_events, dtype=dtypes.long, device=self._param.device)
        return self._enumerated(values, expand)
