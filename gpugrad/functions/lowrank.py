"""Approximate singular values of large matrices, from products with a few random vectors."""
from __future__ import annotations

from typing import Any

from gpugrad import dtypes
from gpugrad._tensor import Tensor
from gpugrad.functions import linalg
from gpugrad.functions.matmul import matmul


def _basis(A: Tensor, q: int, niter: int) -> Tensor:
    """Orthonormal columns that span nearly what A maps to (Halko, Martinsson and Tropp, 2009)."""
    from gpugrad.sampling import randn

    start = randn(A._a.shape[-1], q, dtype=A.dtype, device=A.device)
    Q = linalg.qr(matmul(A, start))[0]
    for _ in range(niter):
        Q = linalg.qr(matmul(A.mH, Q))[0]
        Q = linalg.qr(matmul(A, Q))[0]
    return Q


def svd_lowrank(A: Tensor, q: int | None = 6, niter: int | None = 2,
                M: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, V) with A - M nearly U diag(S) V^H: q singular values, by a random method.

    niter: how often the random vectors are improved.
    """
    A = A if M is None else A - M
    wide = A._a.shape[-2] < A._a.shape[-1]
    A = A.mH if wide else A
    Q = _basis(A, 6 if q is None else q, 2 if niter is None else niter)
    U, S, Vh = linalg.svd(matmul(Q.mH, A), full_matrices=False)
    U, V = matmul(Q, U), Vh.mH
    return (V, S, U) if wide else (U, S, V)


def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True,
                niter: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """svd_lowrank of A with its rows' mean taken away: V has the principal directions."""
    small = min(A._a.shape[-2:])
    q = min(6, small) if q is None else q
    if not 0 <= q <= small:
        raise ValueError(f"q(={q}) must be non-negative integer and not greater than min(m, n)="
                         f"{small}")
    if niter < 0:
        raise ValueError(f"niter(={niter}) must be non-negative integer")
    if A._a.dtype.kind not in dtypes.INEXACT:
        raise ValueError(f"Input tensor must be of a floating dtype, not {A.dtype}")
    mean: Any = A.mean(-2, keepdim=True) if center else None
    return svd_lowrank(A if mean is None else A - mean, q, niter)
