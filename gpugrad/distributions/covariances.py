"""What distributions given by a covariance share: its forms, and distances measured by it."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Size, Tensor
from gpugrad.creation import eye
from gpugrad.distributions.distribution import Distribution
from gpugrad.distributions.utils import lazy_property
from gpugrad.functions.linalg import cholesky, solve_triangular


def _batch_mv(matrix: Tensor, vector: Tensor) -> Tensor:
    """Products of matrices and vectors."""
    return matrix.matmul(vector.unsqueeze(-1)).squeeze(-1)


def _half_log_det(factor: Tensor) -> Tensor:
    """Half the logarithm of the determinant of factor @ factor.T, for triangular factors."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _batch_mahalanobis(factor: Tensor, x: Tensor) -> Tensor:
    """The squared length of the solutions of factor @ y = x.

    factor: (*b, n, n), lower triangular; x: (*s, *b, n), where b may broadcast.
    """
    samples, dims = x.dim() - 1 - (factor.dim() - 2), x.dim()
    # all samples of a place of the batch are columns of one system
    columns = x.permute([*range(samples, dims), *range(samples)])
    shape = columns.shape[dims - samples:]
    columns = columns.reshape(columns.shape[:dims - samples] + (-1,))
    square = solve_triangular(factor, columns, upper=False).pow(2).sum(-2)
    square = square.reshape(square.shape[:-1] + shape)
    batch = dims - 1 - samples
    return square.permute([*range(batch, batch + samples), *range(batch)])


def _precision_to_scale_tril(precision: Tensor) -> Tensor:
    """The Cholesky factor of the inverse of a matrix."""
    # the factor of the matrix turned around, turned back, is the inverse's inverse factor
    turned = cholesky(precision.flip((-2, -1))).flip((-2, -1)).mT
    one = eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    return solve_triangular(turned, one, upper=False)


class Covariance(Distribution):
    """Given by ``covariance_matrix``, its inverse ``precision_matrix`` or its factor
    ``scale_tril``; the others are computed when they are asked for."""

    _unbroadcasted_scale_tril: Tensor

    @property
    def _matrix_shape(self) -> Size:
        raise NotImplementedError

    @staticmethod
    def _given(error: type[Exception], covariance_matrix: Tensor | None,
               precision_matrix: Tensor | None, scale_tril: Tensor | None) -> tuple[str, Tensor]:
        """The name and the matrix of the one form that isn't None."""
        forms = {"covariance_matrix": covariance_matrix, "precision_matrix": precision_matrix,
                 "scale_tril": scale_tril}
        given = [(name, matrix) for name, matrix in forms.items() if matrix is not None]
        if len(given) != 1:
            raise error("Exactly one of covariance_matrix or precision_matrix or scale_tril may be "
                        "specified.")
        return given[0]

    def _factor(self, name: str, matrix: Tensor) -> None:
        """Compute the factor of what was given, once that has been validated."""
        if name == "covariance_matrix":
            matrix = cholesky(matrix)
        elif name == "precision_matrix":
            matrix = _precision_to_scale_tril(matrix)
        self._unbroadcasted_scale_tril = matrix

    @lazy_property
    def scale_tril(self) -> Any:
        return self._unbroadcasted_scale_tril.expand(self._matrix_shape)

    @lazy_property
    def covariance_matrix(self) -> Any:
        factor = self._unbroadcasted_scale_tril
        return factor.matmul(factor.mT).expand(self._matrix_shape)

    @lazy_property
    def precision_matrix(self) -> Any:
        return self._unbroadcasted_scale_tril.cholesky_inverse().expand(self._matrix_shape)
