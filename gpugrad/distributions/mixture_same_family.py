"""Mixtures of distributions of one family."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpugrad._tensor import Size, Tensor
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.distributions import constraints
from gpugrad.distributions.categorical import Categorical
from gpugrad.distributions.distribution import SCALAR, Distribution
from gpugrad.distributions.utils import Number

__all__ = ["MixtureSameFamily"]


class MixtureSameFamily(Distribution):
    """A component chosen by ``mixture_distribution``, and a draw from that.

    The components are the last batch dim of ``component_distribution``.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = False
    _batched = {"_mixture_distribution": 0, "_component_distribution": 1}
    _kept = ("_num_component", "_event_ndims")

    def __init__(self, mixture_distribution: Categorical, component_distribution: Distribution,
                 validate_args: bool | None = None) -> None:
        if not isinstance(mixture_distribution, Categorical):
            raise ValueError(" The Mixture distribution needs to be an  instance of "
                             "torch.distributions.Categorical")
        if not isinstance(component_distribution, Distribution):
            raise ValueError("The Component distribution needs to be an instance of "
                             "torch.distributions.Distribution")
        self._mixture_distribution = mixture_distribution
        self._component_distribution = component_distribution
        batch, inner = mixture_distribution.batch_shape, component_distribution.batch_shape
        if any(1 not in (m, c) and m != c for m, c in zip(reversed(batch), reversed(inner[:-1]))):
            raise ValueError(f"`mixture_distribution.batch_shape` ({batch}) is not compatible with "
                             f"`component_distribution.batch_shape`({inner[:-1]})")
        self._num_component = mixture_distribution.logits.shape[-1]
        if self._num_component != inner[-1]:
            raise ValueError(f"`mixture_distribution component` ({self._num_component}) does not "
                             f"equal `component_distribution.batch_shape[-1]` ({inner[-1]})")
        event_shape = component_distribution.event_shape
        self._event_ndims = len(event_shape)
        super().__init__(inner[:-1], event_shape, validate_args=validate_args)

    @constraints.dependent_property
    def support(self) -> Any:
        return constraints.MixtureSameFamilyConstraint(self._component_distribution.support)

    @property
    def mixture_distribution(self) -> Categorical:
        return self._mixture_distribution

    @property
    def component_distribution(self) -> Distribution:
        return self._component_distribution

    def _pad(self, x: Tensor) -> Tensor:
        """x with a dim for the components."""
        return x.unsqueeze(-1 - self._event_ndims)

    def _weighted(self, x: Tensor) -> Tensor:
        """The mean of x, (..., components, *event), over the components."""
        probs = self._mixture_distribution.probs
        own = len(self._mixture_distribution.batch_shape)
        between = 0 if own == 1 else len(self._batch_shape) - own
        probs = probs.reshape(probs.shape[:-1] + (1,) * between + probs.shape[-1:]
                              + (1,) * self._event_ndims)
        return (probs * x).sum(-1 - self._event_ndims)

    @property
    def mean(self) -> Tensor:
        return self._weighted(self._component_distribution.mean)

    @property
    def variance(self) -> Tensor:
        """The mean of the variances, and the variance of the means."""
        within = self._weighted(self._component_distribution.variance)
        away = self._component_distribution.mean - self._pad(self.mean)
        return within + self._weighted(away.pow(2.0))

    def cdf(self, value: Tensor) -> Tensor:
        if not isinstance(value, Number):
            value = self._pad(value)
        return (self._component_distribution.cdf(value)
                * self._mixture_distribution.probs).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(value)
        log_probs = self._component_distribution.log_prob(self._pad(value))
        return (log_probs + self._mixture_distribution.logits.log_softmax(-1)).logsumexp(-1)

    def sample(self, sample_shape: Sequence[int] = SCALAR) -> Tensor:
        with no_grad():
            dim = len(sample_shape) + len(self.batch_shape)
            chosen = self._mixture_distribution.sample(sample_shape)
            drawn = self._component_distribution.sample(sample_shape)
            index = chosen.reshape(chosen.shape + (1,) * (self._event_ndims + 1))
            index = index.expand(chosen.shape + (1,) + Size(self.event_shape))
            return drawn.gather(dim, index).squeeze(dim)

    def __repr__(self) -> str:
        return (f"MixtureSameFamily(\n  {self._mixture_distribution},\n  "
                f"{self._component_distribution})")
