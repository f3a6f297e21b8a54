"""ExponentialFamily: entropy from the log normalizer and its gradient."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd import grad
from gpugrad.distributions.distribution import Distribution

__all__ = ["ExponentialFamily"]


class ExponentialFamily(Distribution):
    """Distributions with the density exp(t(x) . theta - F(theta) + k(x)).

    theta are the natural parameters, F the log normalizer, k the carrier measure.
    """

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def _log_normalizer(self, *natural_params: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def _mean_carrier_measure(self) -> Any:
        """The expectation of k."""
        raise NotImplementedError

    def _normalizer_and_slopes(self) -> tuple[list[Tensor], Tensor, Any]:
        """The natural parameters as leaves, the log normalizer there, and its gradients."""
        params = [p.detach().requires_grad_() for p in self._natural_params]
        value = self._log_normalizer(*params)
        return params, value, grad(value.sum(), params, create_graph=True)

    def entropy(self) -> Tensor:
        """F(theta) - theta . grad F(theta) - E[k]."""
        params, value, slopes = self._normalizer_and_slopes()
        result = value - self._mean_carrier_measure
        for p, slope in zip(params, slopes):
            result = result - (p * slope).reshape(self._batch_shape + (-1,)).sum(-1)
        return result
