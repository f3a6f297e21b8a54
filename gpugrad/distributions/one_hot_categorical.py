"""The categorical distribution, with its values as one-hot vectors."""
from __future__ import annotations

from collections.abc import Sequence

from gpugrad._tensor import Size, Tensor
from gpugrad.creation import eye
from gpugrad.distributions import constraints
from gpugrad.distributions.categorical import Categorical
from gpugrad.distributions.chances import OverCategories
from gpugrad.distributions.distribution import SCALAR
from gpugrad.functions.pairs import one_hot

__all__ = ["OneHotCategorical", "OneHotCategoricalStraightThrough"]


class OneHotCategorical(OverCategories):
    """A 1 at one of n places, chosen as by Categorical."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.one_hot
    has_enumerate_support = True
    _batched = {"_categorical": 0}

    def __init__(self, probs: Tensor | None = None, logits: Tensor | None = None,
                 validate_args: bool | None = None) -> None:
        self._categorical = Categorical(probs, logits)
        super().__init__(self._categorical.batch_shape, self.param_shape[-1:],
                         validate_args=validate_args)

    def _one_hot(self, index: Tensor) -> Tensor:
        return one_hot(index, self.probs.shape[-1]).to(self.probs)

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        return self._one_hot(self.probs.argmax(dim=-1))

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Sequence[int] = SCALAR) -> Tensor:
        return self._one_hot(self._categorical.sample(Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(value)
        return self._categorical.log_prob(value.max(-1)[1])

    def entropy(self) -> Tensor:
        return self._categorical.entropy()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        n, like = self.event_shape[0], self._param
        values = eye(n, dtype=like.dtype, device=like.device)
        values = values.view((n,) + (1,) * len(self.batch_shape) + (n,))
        return values.expand((n,) + self.batch_shape + (n,)) if expand else values


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """Samples pass gradients straight on to the probabilities (Bengio et al., 2013)."""

    has_rsample = True
    _batched: dict[str, int] = {}

    def rsample(self, sample_shape: Sequence[int] = SCALAR) -> Tensor:
        return self.sample(sample_shape) + (self.probs - self.probs.detach())
