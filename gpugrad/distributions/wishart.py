"""The Wishart distribution, of covariance matrices."""
from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from gpugrad._tensor import Size, Tensor
from gpugrad.creation import arange, tensor, tril_indices
from gpugrad.distributions import constraints
from gpugrad.distributions.chi2 import Chi2
from gpugrad.distributions.covariances import Covariance, _half_log_det
from gpugrad.distributions.distribution import SCALAR
from gpugrad.distributions.exp_family import ExponentialFamily
from gpugrad.distributions.utils import Number
from gpugrad.dtypes import finfo
from gpugrad.functions.linalg import slogdet
from gpugrad.functions.types import broadcast_shapes
from gpugrad.sampling import randn

__all__ = ["Wishart"]

LOG_2 = math.log(2)


class Wishart(Covariance, ExponentialFamily):
    """The sum of x x' for ``df`` vectors x of a normal distribution with mean 0 and a covariance.

    ``df`` need not be a whole number, but is more than the size of x less 1.
    """

    support = constraints.positive_definite
    has_rsample = True
    _mean_carrier_measure = 0
    _batched = {"df": 0, "covariance_matrix": 2, "scale_tril": 2, "precision_matrix": 2,
                "_unbroadcasted_scale_tril": 2, "_dist_chi2": 1}

    def __init__(self, df: Any, covariance_matrix: Tensor | None = None,
                 precision_matrix: Tensor | None = None, scale_tril: Tensor | None = None,
                 validate_args: bool | None = None) -> None:
        name, matrix = self._given(AssertionError, covariance_matrix, precision_matrix,
                                   scale_tril)
        if matrix.dim() < 2:
            raise ValueError("scale_tril must be at least two-dimensional, with optional leading "
                             "batch dimensions")
        if isinstance(df, Number):
            batch_shape = Size(matrix.shape[:-2])
            self.df = tensor(df, dtype=matrix.dtype, device=matrix.device)
        else:
            batch_shape = broadcast_shapes(matrix.shape[:-2], df.shape)
            self.df = df.expand(batch_shape)
        event_shape = matrix.shape[-2:]
        n = event_shape[-1]
        if (self.df <= n - 1).any():
            raise ValueError(f"Value of df={df} expected to be greater than ndim - 1 = {n - 1}.")
        setattr(self, name, matrix.expand(batch_shape + (-1, -1)))
        if (self.df < n).any():
            warnings.warn("Low df values detected. Singular samples are highly likely to occur for "
                          "ndim - 1 < df < ndim.", stacklevel=2)
        super().__init__(batch_shape, event_shape, validate_args=validate_args)
        self._factor(name, matrix)
        row = arange(n, dtype=matrix.dtype, device=matrix.device)
        self._dist_chi2 = Chi2(self.df.unsqueeze(-1) - row.expand(batch_shape + (-1,)))

    @property
    def arg_constraints(self) -> Any:
        return {"covariance_matrix": constraints.positive_definite,
                "precision_matrix": constraints.positive_definite,
                "scale_tril": constraints.lower_cholesky,
                "df": constraints.greater_than(self.event_shape[-1] - 1)}

    @property
    def _matrix_shape(self) -> Size:
        return self._batch_shape + self._event_shape

    @property
    def _df_of_matrices(self) -> Tensor:
        return self.df.expand(self._batch_shape).view(self._batch_shape + (1, 1))

    @property
    def mean(self) -> Tensor:
        return self._df_of_matrices * self.covariance_matrix

    @property
    def mode(self) -> Tensor:
        """NaN where df is too small for one."""
        factor = self._df_of_matrices - self._event_shape[-1] - 1
        return factor.masked_fill(factor <= 0, math.nan) * self.covariance_matrix

    @property
    def variance(self) -> Tensor:
        v = self.covariance_matrix
        diagonal = v.diagonal(dim1=-2, dim2=-1)
        return self._df_of_matrices * (
            v.pow(2) + diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2))

    def _bartlett_sampling(self, sample_shape: Any) -> Tensor:
        """Draws by Bartlett's decomposition: chi numbers on a diagonal, normal ones below."""
        n = self._event_shape[-1]
        chi = self._dist_chi2.rsample(sample_shape).sqrt()
        noise = chi.clamp(min=finfo(chi.dtype).eps).diag_embed(dim1=-2, dim2=-1)
        i, j = tril_indices(n, n, offset=-1)
        noise[..., i, j] = randn(Size(sample_shape) + self._batch_shape + (n * (n - 1) // 2,),
                                 dtype=noise.dtype, device=noise.device)
        factor = self._unbroadcasted_scale_tril @ noise
        return factor @ factor.mT

    def _any_of_batch(self, found: Tensor) -> Tensor:
        """Is it so anywhere in the batch? One answer for each sample."""
        dims = len(self._batch_shape)
        return found.reshape(found.shape[:found.dim() - dims] + (-1,)).any(-1) if dims else found

    def rsample(self, sample_shape: Sequence[int] = SCALAR,
                max_try_correction: int | None = None) -> Tensor:
        """Draws; singular ones are drawn again, ``max_try_correction`` (10) times at most.

        As in PyTorch 2.13, the draws that are replaced at first are those that are not singular:
        the numbers are thus the same.
        """
        sample = self._bartlett_sampling(Size(sample_shape))
        again = self._any_of_batch(self.support.check(sample))
        if again.any():
            warnings.warn("Singular sample detected.", stacklevel=2)
            for _ in range(10 if max_try_correction is None else max_try_correction):
                new = self._bartlett_sampling(again[again].shape)
                sample[again] = new
                again[again.clone()] = self._any_of_batch(~self.support.check(new))
                if not again.any():
                    break
        return sample

    def log_prob(self, value: Tensor) -> Tensor:
        self._check(value)
        nu, n, factor = self.df, self._event_shape[-1], self._unbroadcasted_scale_tril
        trace = value.cholesky_solve(factor).diagonal(dim1=-2, dim2=-1).sum(-1)
        return (-nu * (n * LOG_2 / 2 + _half_log_det(factor)) - (nu / 2).mvlgamma(n)
                + (nu - n - 1) / 2 * slogdet(value).logabsdet - trace / 2)

    def entropy(self) -> Tensor:
        nu, n = self.df, self._event_shape[-1]
        half = nu / 2
        if not (half > (n - 1) / 2).all():
            raise AssertionError("Wrong domain for multivariate digamma function.")
        steps = arange(n, dtype=nu.dtype, device=nu.device) / 2
        digamma = (half.unsqueeze(-1) - steps).digamma().sum(-1)
        return ((n + 1) * (n * LOG_2 / 2 + _half_log_det(self._unbroadcasted_scale_tril))
                + half.mvlgamma(n) - (nu - n - 1) / 2 * digamma + nu * n / 2)

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return -self.precision_matrix / 2, (self.df - self._event_shape[-1] - 1) / 2

    def _log_normalizer(self, *natural_params: Tensor) -> Tensor:
        x, y = natural_params
        n = self._event_shape[-1]
        half = y + (n + 1) / 2
        return half * (-slogdet(-2 * x).logabsdet + LOG_2 * n) + half.mvlgamma(n)
