"""The multivariate normal distribution whose covariance is of low rank, plus a diagonal."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gpugrad._tensor import Size, Tensor
from gpugrad.creation import eye
from gpugrad.distributions import constraints
from gpugrad.distributions.covariances import _batch_mahalanobis, _batch_mv, _half_log_det
from gpugrad.distributions.distribution import SCALAR, Distribution
from gpugrad.distributions.utils import _standard_normal, lazy_property
from gpugrad.functions.linalg import cholesky, solve_triangular
from gpugrad.functions.shape import broadcast_tensors

__all__ = ["LowRankMultivariateNormal"]


def _plus_identity(matrix: Tensor) -> Tensor:
    return matrix + eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


def _batch_capacitance_tril(factor: Tensor, diagonal: Tensor) -> Tensor:
    """The Cholesky factor of 1 + F' D^-1 F, the small matrix of the inverse of F F' + D."""
    return cholesky(_plus_identity((factor.mT / diagonal.unsqueeze(-2)).matmul(factor)))


def _batch_lowrank_logdet(factor: Tensor, diagonal: Tensor, capacitance_tril: Tensor) -> Tensor:
    """log det(F F' + D), by the determinant lemma."""
    return 2 * _half_log_det(capacitance_tril) + diagonal.log().sum(-1)


def _batch_lowrank_mahalanobis(factor: Tensor, diagonal: Tensor, x: Tensor,
                               capacitance_tril: Tensor) -> Tensor:
    """x' (F F' + D)^-1 x, by Woodbury's identity."""
    projected = _batch_mv(factor.mT / diagonal.unsqueeze(-2), x)
    return (x.pow(2) / diagonal).sum(-1) - _batch_mahalanobis(capacitance_tril, projected)


class LowRankMultivariateNormal(Distribution):
    """With the covariance cov_factor @ cov_factor.T + diag(cov_diag)."""

    arg_constraints = {"loc": constraints.real_vector,
                       "cov_factor": constraints.independent(constraints.real, 2),
                       "cov_diag": constraints.independent(constraints.positive, 1)}
    support = constraints.real_vector
    has_rsample = True
    _batched = {"loc": 1, "cov_factor": 2, "cov_diag": 1}
    _kept = ("_unbroadcasted_cov_factor", "_unbroadcasted_cov_diag", "_capacitance_tril")

    def __init__(self, loc: Tensor, cov_factor: Tensor, cov_diag: Tensor,
                 validate_args: bool | None = None) -> None:
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        event_shape = loc.shape[-1:]
        if cov_factor.dim() < 2:
            raise ValueError("cov_factor must be at least two-dimensional, with optional leading "
                             "batch dimensions")
        if cov_factor.shape[-2:-1] != event_shape:
            raise ValueError("cov_factor must be a batch of matrices with shape "
                             f"{event_shape[0]} x m")
        if cov_diag.shape[-1:] != event_shape:
            raise ValueError(f"cov_diag must be a batch of vectors with shape {event_shape}")
        try:
            columns = broadcast_tensors(loc.unsqueeze(-1), cov_factor, cov_diag.unsqueeze(-1))
        except RuntimeError as e:
            raise ValueError(f"Incompatible batch shapes: loc {loc.shape}, cov_factor "
                             f"{cov_factor.shape}, cov_diag {cov_diag.shape}") from e
        self.loc, self.cov_factor, self.cov_diag = (
            columns[0][..., 0], columns[1], columns[2][..., 0])
        self._unbroadcasted_cov_factor, self._unbroadcasted_cov_diag = cov_factor, cov_diag
        self._capacitance_tril = _batch_capacitance_tril(cov_factor, cov_diag)
        super().__init__(self.loc.shape[:-1], event_shape, validate_args=validate_args)

    @property
    def _low_rank(self) -> tuple[Tensor, Tensor]:
        return self._unbroadcasted_cov_factor, self._unbroadcasted_cov_diag

    @property
    def _matrix_shape(self) -> Size:
        return self._batch_shape + self._event_shape + self._event_shape

    @property
    def mean(self) -> Tensor:
        return self.loc

    mode = mean

    @lazy_property
    def variance(self) -> Any:
        factor, diagonal = self._low_rank
        return (factor.pow(2).sum(-1) + diagonal).expand(self._batch_shape + self._event_shape)

    @lazy_property
    def scale_tril(self) -> Any:
        # D^(1/2) cholesky(1 + W W') with W = D^(-1/2) F, whose eigenvalues are 1 at least
        factor, diagonal = self._low_rank
        root = diagonal.sqrt().unsqueeze(-1)
        scaled = factor / root
        inner = cholesky(_plus_identity(scaled.matmul(scaled.mT)))
        return (root * inner).expand(self._matrix_shape)

    @lazy_property
    def covariance_matrix(self) -> Any:
        factor, diagonal = self._low_rank
        return (factor.matmul(factor.mT) + diagonal.diag_embed()).expand(self._matrix_shape)

    @lazy_property
    def precision_matrix(self) -> Any:
        factor, diagonal = self._low_rank
        a = solve_triangular(self._capacitance_tril, factor.mT / diagonal.unsqueeze(-2),
                                     upper=False)
        inverse = diagonal.reciprocal().diag_embed() - a.mT.matmul(a)
        return inverse.expand(self._matrix_shape)

    def rsample(self, sample_shape: Sequence[int] = SCALAR) -> Tensor:
        factor, diagonal = self._low_rank
        shape, like = self._extended_shape(sample_shape), self.loc
        of_factor = _standard_normal(shape[:-1] + self.cov_factor.shape[-1:], like.dtype,
                                     like.device)
        of_diagonal = _standard_normal(shape, like.dtype, like.device)
        return self.loc + _batch_mv(factor, of_factor) + diagonal.sqrt() * of_diagonal

    def _log_det(self) -> Tensor:
        return _batch_lowrank_logdet(*self._low_rank, self._capacitance_tril)

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(value)
        distance = _batch_lowrank_mahalanobis(*self._low_rank, value - self.loc,
                                              self._capacitance_tril)
        n = self._event_shape[0]
        return -0.5 * (n * math.log(2 * math.pi) + self._log_det() + distance)

    def entropy(self) -> Tensor:
        entropy = 0.5 * (self._event_shape[0] * (1.0 + math.log(2 * math.pi)) + self._log_det())
        return entropy.expand(self._batch_shape) if self._batch_shape else entropy
