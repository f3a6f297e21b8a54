"""Lewandowski, Kurowicka and Joe's distribution of correlation matrices, as Cholesky factors."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gpugrad._tensor import Size, Tensor
from gpugrad.creation import arange
from gpugrad.distributions import constraints
from gpugrad.distributions.beta import Beta
from gpugrad.distributions.distribution import SCALAR, Distribution
from gpugrad.distributions.utils import broadcast_all
from gpugrad.dtypes import finfo
from gpugrad.functions.shape import cat
from gpugrad.sampling import randn

__all__ = ["LKJCholesky"]


class LKJCholesky(Distribution):
    """Factors L of matrices M = L @ L.T with a density in proportion to det(M) ** (eta - 1).

    eta is ``concentration``: 1 makes all correlation matrices equally likely. (Generating random
    correlation matrices based on vines and extended onion method, 2009.)
    """

    arg_constraints = {"concentration": constraints.positive}
    support = constraints.corr_cholesky
    _batched = {"concentration": 0, "_beta": 1}
    _kept = ("dim",)

    def __init__(self, dim: int, concentration: Any = 1.0,
                 validate_args: bool | None = None) -> None:
        if dim < 2:
            raise ValueError("Expected dim to be an integer greater than or equal to 2. Found "
                             f"dim={dim}.")
        self.dim = dim
        self.concentration, = broadcast_all(concentration)
        # of each row, the part of its length that lies beside the diagonal; PyTorch's parameters,
        # where the paper has (row + 1) / 2 for the first: from three dims on the correlations of
        # samples are somewhat wider than log_prob says
        like = self.concentration
        row = arange(dim - 1, dtype=like.dtype, device=like.device)
        row = cat([row.new_zeros((1,)), row])
        self._beta = Beta(row + 0.5, (like + 0.5 * (dim - 2)).unsqueeze(-1) - 0.5 * row)
        super().__init__(like.shape, Size((dim, dim)), validate_args)

    def sample(self, sample_shape: Sequence[int] = SCALAR) -> Tensor:
        beside = self._beta.sample(sample_shape).unsqueeze(-1)
        direction = randn(self._extended_shape(sample_shape), dtype=beside.dtype,
                          device=beside.device).tril(-1)
        direction = direction / direction.norm(dim=-1, keepdim=True)
        direction[..., 0, :].fill_(0.0)          # nothing is beside the first diagonal element
        below = beside.sqrt() * direction
        rest = (1 - (below ** 2).sum(-1)).clamp(min=finfo(below.dtype).tiny)
        return below + rest.sqrt().diag_embed()

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(value)
        # the density of L: det(M) = prod L_ii ** 2, and dM/dL = prod L_ii ** (dim - i)
        diagonal = value.diagonal(dim1=-1, dim2=-2)[..., 1:]
        row = arange(2, self.dim + 1, device=self.concentration.device)
        power = 2 * (self.concentration - 1).unsqueeze(-1) + self.dim - row
        rows = self.dim - 1
        alpha = self.concentration + 0.5 * rows
        norm = (0.5 * rows * math.log(math.pi) + (alpha - 0.5).mvlgamma(rows)
                - alpha.lgamma() * rows)
        return (power * diagonal.log()).sum(-1) - norm
