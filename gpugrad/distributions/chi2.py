"""The chi-squared distribution: the sum of df squares of standard normal numbers."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.distributions import constraints
from gpugrad.distributions.gamma import Gamma

__all__ = ["Chi2"]


class Chi2(Gamma):
    """With ``df`` degrees of freedom: Gamma(df / 2, 1 / 2)."""

    arg_constraints = {"df": constraints.positive}
    _batched: dict[str, int] = {}

    def __init__(self, df: Any, validate_args: bool | None = None) -> None:
        super().__init__(0.5 * df, 0.5, validate_args=validate_args)

    @property
    def df(self) -> Tensor:
        return self.concentration * 2
