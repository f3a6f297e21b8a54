"""Linear algebra under its names in the torch namespace, which are older than torch.linalg."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions import linalg, linalg_lu
from gpugrad.functions.arguments import return_type
from gpugrad.functions.linalg import check_matrices, check_precise, identity_like
from gpugrad.ops.linalg_solve import halves
from gpugrad.ops.linalg_tools import mH

_svd = return_type("svd", "U", "S", "V")
_qr = return_type("qr", "Q", "R")
_slogdet = return_type("slogdet", "sign", "logabsdet")
_lu_unpack = return_type("lu_unpack", "P", "L", "U")
_triangular = return_type("triangular_solve", "solution", "cloned_coefficient")
_geqrf = return_type("geqrf", "a", "tau")


def det(input: Tensor) -> Tensor:
    """The determinants of square matrices."""
    return linalg.det(input)


def slogdet(input: Tensor) -> Any:
    """(sign, logabsdet): det(input) = sign * exp(logabsdet)."""
    return _slogdet(linalg.slogdet(input))


def logdet(input: Tensor) -> Tensor:
    """The logarithms of the determinants; NaN for a negative one."""
    sign, size = linalg.slogdet(input)
    if input.is_complex():
        return size + T.log(sign)
    bad = wrap(input._be.xp.asarray(sign._a == -1), input._be)
    return T.masked_fill(size, bad, value=float("nan"))


def inverse(input: Tensor) -> Tensor:
    """The inverses of square matrices."""
    return linalg.inv(input)


def pinverse(input: Tensor, rcond: Any = 1e-15) -> Tensor:
    """The Moore-Penrose inverses; singular values below rcond * the largest count as 0."""
    return linalg.pinv(input, rcond=rcond)


def matrix_exp(input: Tensor) -> Tensor:
    """The exponentials of square matrices."""
    return linalg.matrix_exp(input)


def matrix_power(input: Tensor, n: int) -> Tensor:
    """The n-th powers of square matrices."""
    return linalg.matrix_power(input, n)


# Cholesky ----------------------------------------------------------------------------------------


def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """L with L L^H = input; with ``upper`` its adjoint. torch.linalg.cholesky is newer."""
    return linalg.cholesky_named(input, upper, "cholesky")


def _lower(L: Tensor, upper: bool) -> Tensor:
    return mH(T, L) if upper else L


def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """X of A X = B, from the Cholesky factor of A."""
    for x, name in ((B, "b"), (L, "u")):
        if x._a.ndim < 2:
            raise RuntimeError(f"{name} should have at least 2 dimensions, but has {x._a.ndim} "
                               "dimensions instead")
    if L._a.shape[-1] != L._a.shape[-2]:
        raise RuntimeError("cholesky_solve: A must be batches of square matrices, but they are "
                           f"{L._a.shape[-2]} by {L._a.shape[-1]} matrices")
    if L._a.shape[-1] != B._a.shape[-2]:
        raise RuntimeError("Incompatible matrix sizes for cholesky_solve: each A matrix is "
                           f"{L._a.shape[-1]} by {L._a.shape[-1]} but each b matrix is "
                           f"{B._a.shape[-2]} by {B._a.shape[-1]}")
    check_precise(L, "cholesky_solve", "cholesky_solve_cpu")
    low = _lower(L, upper)
    y = T.solve_triangular(low, B, upper=False)
    return T.solve_triangular(mH(T, low), y, upper=True)


def cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    """The inverse of A, from its Cholesky factor."""
    check_matrices(L, "cholesky_inverse", kernel="cholesky_inverse_out_cpu")
    return cholesky_solve(identity_like(L), L, upper)


# Other factorisations ----------------------------------------------------------------------------


def qr(input: Tensor, some: bool = True) -> Any:
    """(Q, R); with Q square unless ``some``."""
    return _qr(linalg.qr(input, "reduced" if some else "complete"))


def svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> Any:
    """(U, S, V): input = U diag(S) V^H."""
    if input._a.ndim < 2:
        raise RuntimeError("linalg.svd: input should have at least 2 dimensions, but has "
                           f"{input._a.ndim} dimensions instead")
    if not compute_uv:
        m, n = input._a.shape[-2:]
        front, xp = input._a.shape[:-2], input._be.xp
        u, v = (wrap(xp.zeros((*front, k, k), input._a.dtype), input._be) for k in (m, n))
        return _svd((u, linalg.svdvals(input), v))
    u, s, vh = linalg.svd(input, full_matrices=not some)
    return _svd((u, s, mH(T, vh)))


def lu(A: Tensor, pivot: bool = True, get_infos: bool = False) -> Any:
    """(LU, pivots), and info with ``get_infos``. torch.linalg.lu_factor is newer."""
    both, pivots, info = linalg_lu.lu_factor_ex(A, pivot=pivot, check_errors=not get_infos)
    return (both, pivots, info) if get_infos else (both, pivots)


def lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """X of A X = b, from lu's results."""
    return linalg_lu.lu_solve(LU_data, LU_pivots, b)


def lu_unpack(LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True,
              unpack_pivots: bool = True) -> Any:
    """(P, L, U) of lu's results."""
    if unpack_pivots and LU_pivots._a.dtype != np.int32:
        raise RuntimeError("torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of "
                           f"torch.int32 dtype, not {LU_pivots.dtype}")
    be, m = LU_data._be, LU_data._a.shape[-2]
    nothing = wrap(be.empty((0,), LU_data._a.dtype), be)
    p = linalg_lu.permutation(linalg_lu.order_of_pivots(LU_pivots, m), LU_data._a.dtype) \
        if unpack_pivots else nothing
    lower, upper = halves(T, LU_data) if unpack_data else (nothing, nothing)
    return _lu_unpack((p, lower, upper))


def triangular_solve(b: Tensor, A: Tensor, upper: bool = True, transpose: bool = False,
                     unitriangular: bool = False) -> Any:
    """(X of A X = b for triangular A, A). torch.linalg.solve_triangular is newer."""
    for x, name in ((b, "b"), (A, "A")):
        if x._a.ndim < 2:
            raise RuntimeError(f"torch.triangular_solve: Expected {name} to have at least 2 "
                               f"dimensions, but it has {x._a.ndim} dimensions instead")
    a = T.transpose(A, dim0=-2, dim1=-1) if transpose else A
    if a._a.dtype != b._a.dtype:
        raise RuntimeError("triangular_solve: Expected b and A to have the same dtype, but found "
                           f"{type_name(b._a.dtype)} and {type_name(A._a.dtype)}")
    x = linalg.solve_triangular(a, b, upper=upper != transpose, unitriangular=unitriangular)
    return _triangular((x, T.clone(A)))


def geqrf(input: Tensor) -> Any:
    """(a, tau): R above the diagonal, and below it the reflections that make up Q."""
    check_matrices(input, "torch.geqrf", square=False, kernel="geqrf_cpu", arg="input")
    return _geqrf(T.geqrf(input))


def orgqr(input: Tensor, input2: Tensor) -> Tensor:
    """The first columns of Q, from the results of geqrf."""
    return linalg_lu.householder_product(input, input2)


def ormqr(input: Tensor, tau: Tensor, other: Tensor, left: bool = True,
          transpose: bool = False) -> Tensor:
    """Q other, or other Q, or with Q^H, where geqrf gave input and tau of all of Q."""
    n = other._a.shape[-2 if left else -1]
    if input._a.shape[-2] != n:
        raise RuntimeError("torch.ormqr: other.shape[-2] must be equal to input.shape[-2]" if left
                           else "torch.ormqr: other.shape[-1] must be equal to input.shape[-2]")
    if not left:                                 # other Q = (Q^H other^H)^H
        return mH(T, ormqr(input, tau, mH(T, other), True, not transpose))
    k = tau._a.shape[-1]
    order = range(k) if transpose else range(k - 1, -1, -1)
    return linalg_lu.reflected(input, tau, other, order, conjugate=transpose)
