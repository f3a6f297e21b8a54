"""The von Mises distribution, of angles."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gpugrad import dtypes
from gpugrad._tensor import Tensor
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.autograd.rules import tensors as T
from gpugrad.creation import zeros
from gpugrad.distributions import constraints
from gpugrad.distributions.distribution import SCALAR, Distribution
from gpugrad.distributions.utils import broadcast_all, lazy_property
from gpugrad.functions.choices import where
from gpugrad.sampling import rand

__all__ = ["VonMises"]


class VonMises(Distribution):
    """Angles in [-pi, pi) with a density in proportion to exp(concentration * cos(x - loc)).

    Drawn by rejection in float64 (Best and Fisher, 1979).
    """

    arg_constraints = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real
    has_rsample = False
    _batched = {"loc": 0, "concentration": 0}

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.concentration = broadcast_all(loc, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(value)
        k = self.concentration
        return k * (value - self.loc).cos() - math.log(2 * math.pi) - (T.i0e(k).log() + k)

    @lazy_property
    def _proposal_r(self) -> Any:
        """The parameter of the wrapped Cauchy distribution that proposals are drawn from."""
        k = self.concentration.double()
        tau = 1 + (1 + 4 * k ** 2).sqrt()
        rho = (tau - (2 * tau).sqrt()) / (2 * k)
        return where(k < 1e-5, 1 / k + k, (1 + rho ** 2) / (2 * rho))

    def sample(self, sample_shape: Sequence[int] = SCALAR) -> Tensor:
        with no_grad():
            return self._sample(self._extended_shape(sample_shape)).to(self.loc.dtype)

    def _sample(self, shape: Any) -> Tensor:
        loc, k, r = self.loc.double(), self.concentration.double(), self._proposal_r
        x = zeros(shape, dtype=dtypes.double, device=loc.device)
        done = zeros(shape, dtype=dtypes.bool, device=loc.device)
        while not done.all():
            u1, u2, u3 = rand((3,) + shape, dtype=x.dtype, device=x.device).unbind()
            z = (math.pi * u1).cos()
            f = (1 + r * z) / (r + z)
            c = k * (r - f)
            accepted = (c * (2 - c) - u2 > 0) | ((c / u2).log() + 1 - c >= 0)
            x = where(accepted, (u3 - 0.5).sign() * f.acos(), x)
            done = done | accepted
        return (x + math.pi + loc) % (2 * math.pi) - math.pi

    @property
    def mean(self) -> Tensor:
        """The circular mean."""
        return self.loc

    mode = mean

    @lazy_property
    def variance(self) -> Any:
        """The circular variance."""
        return 1 - T.i1e(self.concentration) / T.i0e(self.concentration)
