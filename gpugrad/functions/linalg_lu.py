"""torch.linalg: LU, L D L^H and products of reflections."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions.arguments import return_type
from gpugrad.functions.linalg import (
    check_equation,
    check_matrices,
    check_precise,
    check_same_dtype,
)
from gpugrad.ops.linalg_solve import halves
from gpugrad.ops.linalg_tools import mH

_lu = return_type("linalg_lu", "P", "L", "U")
_lu_factor = return_type("linalg_lu_factor", "LU", "pivots")
_lu_factor_ex = return_type("linalg_lu_factor_ex", "LU", "pivots", "info")
_ldl_factor = return_type("linalg_ldl_factor", "LD", "pivots")
_ldl_factor_ex = return_type("linalg_ldl_factor_ex", "LD", "pivots", "info")


def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """(LU, pivots, info): L and U in one matrix; info is the number of the first zero pivot."""
    lu, pivots, info = factored(A, pivot, "torch.lu_factor")
    if check_errors and bool((info != 0).any()):
        _zero_pivot(info)
    return _lu_factor_ex((lu, pivots, info))


def factored(A: Tensor, pivot: bool, name: str) -> tuple[Tensor, Tensor, Tensor]:
    if A._a.ndim < 2:
        raise RuntimeError(f"{name}: Expected tensor with 2 or more dimensions. Got size: "
                           f"{list(A._a.shape)} instead")
    check_precise(A, name, "lu_cpu", ints=True)
    if not pivot and A._be.index == 0:
        raise RuntimeError(f"{name.replace('torch.', 'linalg.')}: LU without pivoting is not "
                           "implemented on the CPU")
    lu, pivots, _, info = T.lu_factor(A, pivot=pivot)
    return lu, pivots, info


def _zero_pivot(info: Tensor) -> None:
    at = [int(v) for v in info.reshape(-1).tolist()]
    i = next(k for k, v in enumerate(at) if v)
    which = f"(Batch element {i}): " if info._a.ndim else ""
    raise RuntimeError(f"torch.linalg.lu_factor: {which}U[{at[i]},{at[i]}] is zero and using it on "
                       "lu_solve would result in a division by zero. If you still want to perform "
                       "the factorization, consider calling linalg.lu(A, pivot) or "
                       "linalg.lu_factor_ex(A, pivot)")


def lu_factor(A: Tensor, *, pivot: bool = True) -> Any:
    """(LU, pivots): L, with 1 on its diagonal, and U in one matrix; rows that changed places."""
    lu, pivots, info = factored(A, pivot, "torch.lu_factor")
    if A._be.index == 0 and info._a.any():
        _zero_pivot(info)
    return _lu_factor((lu, pivots))


def lu(A: Tensor, *, pivot: bool = True) -> Any:
    """(P, L, U): A = P L U."""
    if A._a.ndim < 2:
        raise RuntimeError("linalg.lu: Expected tensor with 2 or more dimensions. Got size: "
                           f"{list(A._a.shape)} instead")
    check_precise(A, "linalg.lu", "lu_cpu", ints=True)
    if not pivot and A._be.index == 0:
        raise RuntimeError("linalg.lu: LU without pivoting is not implemented on the CPU")
    both, _, order, _ = T.lu_factor(A, pivot=pivot)
    lower, upper = halves(T, both)
    p = permutation(order, A._a.dtype) if pivot else wrap(A._be.empty((0,), A._a.dtype), A._be)
    return _lu((p, lower, upper))


def permutation(order: Tensor, dtype: Any) -> Tensor:
    """Matrices P with (P x)[order] = x."""
    be, n = order._be, order._a.shape[-1]
    at = be.xp.arange(n)
    return wrap((order._a[..., None, :] == at[:, None]).astype(dtype), be)


def order_of_pivots(pivots: Tensor, m: int) -> Tensor:
    """The permutation of m rows that swaps make, one after the other."""
    be, front = pivots._be, pivots._a.shape[:-1]
    p = pivots._a.reshape(-1, pivots._a.shape[-1]).astype(np.int64) - 1
    order = be.xp.zeros((len(p), m), np.int64) + be.xp.arange(m)
    batch = be.xp.arange(len(p))
    for j in range(p.shape[1]):
        kept = order[:, j].copy()
        order[:, j] = order[batch, p[:, j]]
        order[batch, p[:, j]] = kept
    return wrap(order.reshape(*front, m), be)


def lu_solve(LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True,
             adjoint: bool = False) -> Tensor:
    """X of A X = B (or X A = B; with ``adjoint`` of A^H) for the A that lu_factor was given."""
    if pivots._a.dtype != np.int32:
        raise RuntimeError("linalg.lu_solve: pivots should be a Tensor of scalar type torch.int32, "
                           f"not {pivots.dtype}")
    check_matrices(LU, "torch.linalg.lu_solve", arg="LU")
    check_same_dtype(LU, B, "linalg.lu_solve")
    check_equation(LU, B, left, "linalg.lu_solve")
    if not left:                                 # X A = B is A^H X^H = B^H
        return mH(T, lu_solve(LU, pivots, mH(T, B), adjoint=not adjoint))
    order = order_of_pivots(pivots, LU._a.shape[-1])
    if not adjoint:
        y = T.solve_triangular(LU, T.permute_rows(B, order), upper=False, unit=True)
        return T.solve_triangular(LU, y, upper=True)
    h = mH(T, LU)
    y = T.solve_triangular(h, T.solve_triangular(h, B, upper=False), upper=True, unit=True)
    return T.permute_rows(y, order, inverse=True)


def _ldl(A: Tensor, hermitian: bool) -> tuple[Tensor, Tensor, Tensor]:
    check_matrices(A, "torch.linalg.ldl_factor_ex", kernel="ldl_factor_kernel_cpu")
    LD, pivots, info = T.ldl_factor(A, hermitian=hermitian)
    return LD, pivots, info


def _check_ldl(info: Tensor) -> None:
    if bool((info != 0).any()):
        raise RuntimeError("torch.linalg.ldl_factor: a pivot is exactly zero, so the matrix is "
                           "singular: ldl_factor_ex() gives what there is")


def ldl_factor(A: Tensor, *, hermitian: bool = False) -> Any:
    """(LD, pivots): L D L^T, or with ``hermitian`` L D L^H, from the lower triangle of A, in the
    form of LAPACK: see ops/linalg_ldl.py."""
    LD, pivots, info = _ldl(A, hermitian)
    _check_ldl(info)
    return _ldl_factor((LD, pivots))


def ldl_factor_ex(A: Tensor, *, hermitian: bool = False, check_errors: bool = False) -> Any:
    """(LD, pivots, info): info is the number of the first pivot that is zero."""
    LD, pivots, info = _ldl(A, hermitian)
    if check_errors:
        _check_ldl(info)
    return _ldl_factor_ex((LD, pivots, info))


def ldl_solve(LD: Tensor, pivots: Tensor, B: Tensor, *, hermitian: bool = False) -> Tensor:
    """X with A X = B, from ldl_factor's LD and pivots of A."""
    name = "torch.linalg.ldl_solve"
    check_matrices(LD, name, arg="LD")
    if B._a.ndim < 2:
        raise IndexError(f"{name}: B must have at least 2 dimensions, but has {B._a.ndim}")
    if B._a.shape[-2] != LD._a.shape[-1]:
        raise RuntimeError(f"Incompatible matrix sizes for {name}: each A matrix is "
                           f"{LD._a.shape[-2]} by {LD._a.shape[-1]} but each b matrix is "
                           f"{B._a.shape[-2]} by {B._a.shape[-1]}")
    if LD._a.dtype != B._a.dtype:
        raise RuntimeError(f"Expected b and A to have the same dtype, but found b of type "
                           f"{type_name(B._a.dtype)} and A of type {type_name(LD._a.dtype)} "
                           "instead.")
    if pivots._a.dtype.kind not in "iu":
        raise RuntimeError(f"{name}: Expected pivots to be integers. Got "
                           f"{type_name(pivots._a.dtype)}")
    if pivots._a.shape != LD._a.shape[:-1]:
        raise RuntimeError(f"{name}: Expected LD.shape[:-1] and pivots.shape to be the same, but "
                           f"got pivots with shape {list(pivots._a.shape)} instead")
    check_equation(LD, B, True, name)
    return T.ldl_solve(LD, pivots, B, hermitian=hermitian)


def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first columns of the product of reflections I - tau v v^H that geqrf gives."""
    name = "torch.linalg.householder_product"
    if A._a.ndim < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions.")
    m, n = A._a.shape[-2:]
    k = tau._a.shape[-1]
    if m < n:
        raise RuntimeError(f"{name}: input.shape[-2] must be greater than or equal to "
                           "input.shape[-1]")
    if n < k:
        raise RuntimeError(f"{name}: input.shape[-1] must be greater than or equal to "
                           "tau.shape[-1]")
    if A._a.dtype != tau._a.dtype:
        raise RuntimeError(f"{name}: tau dtype {type_name(tau._a.dtype)} does not match input "
                           f"dtype {type_name(A._a.dtype)}")
    check_precise(A, name, "orgqr_cpu")
    start = wrap(A._be.xp.zeros(A._a.shape, A._a.dtype) + A._be.xp.eye(m, n, dtype=A._a.dtype),
                 A._be)
    return reflected(A, tau, start, range(k - 1, -1, -1))


def reflected(A: Tensor, tau: Tensor, x: Tensor, numbers: Any, conjugate: bool = False) -> Tensor:
    """x after some of the reflections of A and tau."""
    m, last = A._a.shape[-2], A._a.ndim - 1
    unit = wrap(A._be.xp.eye(m, dtype=A._a.dtype), A._be)
    for i in numbers:
        v = T.select(A, dim=last, index=i) * (wrap(A._be.xp.arange(m) > i, A._be)) + \
            T.select(unit, dim=1, index=i)
        t = T.select(tau, dim=tau._a.ndim - 1, index=i)
        t = T.conj_physical(t) if conjugate and t.is_complex() else t
        v = T.unsqueeze(v, dim=v._a.ndim)
        step = T.bmm(v, T.bmm(mH(T, v), x))
        x = x - T.unsqueeze(T.unsqueeze(t, dim=t._a.ndim), dim=t._a.ndim + 1) * step
    return x
