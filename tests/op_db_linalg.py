"""The records of products and of linear algebra, and of complex numbers' making. See op_db.py."""
from __future__ import annotations

from typing import Any

import numpy as np

from op_db import Array, Case, Draw, bad, case, record

# Ops on float32 and float64 alone: LAPACK has no half precision.
PRECISE = {"inv", "solve", "solve_triangular", "lu_factor", "det", "cofactors", "slogdet",
           "ldl_factor", "ldl_solve", "cholesky", "qr", "geqrf", "eigh", "eig", "svd", "pinv",
           "matrix_exp"}
# Those whose argument must be Hermitian: differences are taken of the symmetric part.
HERMITIAN = {"cholesky", "eigh"}


def mT(a: Array) -> Array:
    return np.swapaxes(a, -1, -2)


def symmetric(d: Draw, *shape: int) -> Array:
    a = d.real(*shape)
    return a + mT(a)


def definite(d: Draw, *shape: int) -> Array:
    a = d.real(*shape)
    return a @ mT(a) + np.eye(shape[-1])


def regular(d: Draw, *shape: int) -> Array:
    """Far from singular."""
    return d.real(*shape) + 3 * np.eye(shape[-1])


def squares(d: Draw) -> list[Case]:
    return [case(regular(d, 3, 3)), case(regular(d, 2, 3, 3)), case(d.real(0, 2, 2)),
            case(d.real(0, 0)), case(regular(d, 1, 1))]


# Complex numbers ---------------------------------------------------------------------------------

record("complex", lambda x, y: x + 1j * y, lambda d: [
    case(d.real(3, 4), d.real(3, 4)), case(d.real(3, 1), d.real(4)), case(d.real(), d.real()),
    case(d.real(0, 2), d.real(2))])
record("polar", lambda r, a: r * np.exp(1j * a), lambda d: [
    case(d.positive(3, 4), d.real(3, 4)), case(d.positive(), d.real(4)),
    case(d.positive(0, 2), d.real(2))])

# Products ----------------------------------------------------------------------------------------


def combined(product: Any) -> Any:
    return lambda c, a, b, beta=1, alpha=1: beta * c + alpha * product(a, b)


record("vdot", lambda x, y: np.vdot(x, y), lambda d: [
    case(d.real(4), d.real(4)), case(d.real(0), d.real(0)),
    case(d.real(3) + 1j * d.real(3), d.real(3) + 1j * d.real(3))])
record("addmv", combined(np.dot), lambda d: [
    case(d.real(2), d.real(2, 3), d.real(3)),
    case(d.real(), d.real(2, 3), d.real(3), beta=0.5, alpha=2),
    case(d.real(0), d.real(0, 3), d.real(3)),
    case(d.real(2), d.real(2, 0), d.real(0), beta=2)])
record("addr", combined(np.outer), lambda d: [
    case(d.real(2, 3), d.real(2), d.real(3)),
    case(d.real(3), d.real(2), d.real(3), beta=0.5, alpha=2),
    case(d.real(0, 3), d.real(0), d.real(3))])
record("baddbmm", combined(np.matmul), lambda d: [
    case(d.real(2, 3, 2), d.real(2, 3, 4), d.real(2, 4, 2)),
    case(d.real(2), d.real(2, 3, 4), d.real(2, 4, 2), beta=0.5, alpha=2),
    case(d.real(0, 3, 2), d.real(0, 3, 4), d.real(0, 4, 2))])
record("addbmm", combined(lambda a, b: np.matmul(a, b).sum(0)), lambda d: [
    case(d.real(3, 2), d.real(2, 3, 4), d.real(2, 4, 2)),
    case(d.real(2), d.real(2, 3, 4), d.real(2, 4, 2), beta=0.5, alpha=2),
    case(d.real(3, 2), d.real(0, 3, 4), d.real(0, 4, 2))])
record("trace", np.trace, lambda d: [case(d.real(3, 3)), case(d.real(2, 4)), case(d.real(0, 2))])
record("cross", lambda x, y, dim: np.cross(x, y, axis=dim), lambda d: [
    case(d.real(2, 3), d.real(2, 3), dim=-1), case(d.real(3, 4), d.real(3, 1), dim=-2),
    case(d.real(3), d.real(3), dim=-1), case(d.real(0, 3), d.real(0, 3), dim=-1)])


def cdist(x: Array, y: Array, p: float, product: bool = False) -> Array:
    apart = np.abs(x[..., :, None, :] - y[..., None, :, :])
    if p == 0:
        return (apart != 0).sum(-1).astype(float)
    return apart.max(-1) if np.isinf(p) else (apart ** p).sum(-1) ** (1 / p)


record("cdist", cdist, lambda d: [
    *[case(d.real(3, 4), d.real(2, 4), p=p) for p in (2, 1, 3, 1.5, 0, np.inf)],
    case(d.real(2, 3, 4), d.real(2, 2, 4), p=2, product=True),
    case(d.real(0, 4), d.real(2, 4), p=2)],
    tolerance=2e-2)

# Systems -----------------------------------------------------------------------------------------

record("add_identity", lambda x: x + np.eye(*x.shape[-2:]), lambda d: [
    case(d.real(3, 3)), case(d.real(2, 2, 4)), case(d.real(0, 0))])


def permute_rows(x: Array, order: Array, inverse: bool = False) -> Array:
    at = np.argsort(order, -1) if inverse else order
    return np.take_along_axis(x, np.broadcast_to(at[..., None], x.shape), -2)


record("permute_rows", permute_rows, lambda d: [
    case(d.real(3, 2), np.array([2, 0, 1])), case(d.real(3, 2), np.array([2, 0, 1]), inverse=True),
    case(d.real(2, 3, 4), np.array([[2, 0, 1], [0, 2, 1]]), inverse=True),
    case(d.real(0, 2), np.zeros(0, np.int64))])
SINGULAR = np.array([[1, 2], [2, 4]])
record("inv", lambda a, check=True: np.linalg.inv(a), squares,
       bad(RuntimeError, "linalg.inv: The diagonal element 2 is zero", SINGULAR * 1.0))
record("solve", lambda a, b, check=True: np.linalg.solve(a, b), lambda d: [
    case(regular(d, 3, 3), d.real(3, 2)), case(regular(d, 2, 3, 3), d.real(3, 2)),
    case(regular(d, 3, 3), d.real(2, 3, 1)), case(d.real(0, 2, 2), d.real(0, 2, 3)),
    case(regular(d, 2, 2), d.real(2, 0))],
    bad(RuntimeError, "The solver failed because the input matrix is singular", SINGULAR * 1.0,
        np.ones((2, 1))))


def solve_triangular(a: Array, b: Array, upper: bool, unit: bool = False) -> Array:
    t = np.triu(a) if upper else np.tril(a)
    if unit:
        t = t - t * np.eye(len(t)) + np.eye(len(t))
    return np.linalg.solve(t, b)


record("solve_triangular", solve_triangular, lambda d: [
    *[case(regular(d, 3, 3), d.real(3, 2), upper=upper, unit=unit)
      for upper in (True, False) for unit in (True, False)],
    case(regular(d, 2, 2), d.real(3, 2, 1), upper=True),
    case(d.real(0, 0), d.real(0, 2), upper=True)])


def lu_factor(a: Array, pivot: bool = True) -> Any:
    lu, (m, n) = a.reshape(-1, *a.shape[-2:]).copy(), a.shape[-2:]
    k = min(m, n)
    pivots = np.zeros((len(lu), k), np.int32)
    order = np.tile(np.arange(m), (len(lu), 1))
    for x, p, o in zip(lu, pivots, order):
        for j in range(k):
            i = j + int(np.argmax(np.abs(x[j:, j])))
            p[j] = i + 1
            x[[j, i]], o[[j, i]] = x[[i, j]], o[[i, j]]
            x[j + 1:, j] /= x[j, j]
            x[j + 1:, j + 1:] -= np.outer(x[j + 1:, j], x[j, j + 1:])
    front = a.shape[:-2]
    return (lu.reshape(a.shape), pivots.reshape(*front, k), order.reshape(*front, m),
            np.zeros(front, np.int32))


record("lu_factor", lu_factor, lambda d: [
    case(d.real(3, 3)), case(d.real(2, 3, 3)), case(d.real(4, 2)), case(d.real(2, 4)),
    case(d.real(0, 2, 2))])



def without_pivoting(a: Array) -> Any:
    """LD, for matrices whose diagonal is large enough."""
    ld = np.tril(a)
    for j in range(a.shape[-1]):
        column = ld[..., j + 1:, j].copy()
        ld[..., j + 1:, j] /= ld[..., j, j, None]
        ld[..., j + 1:, j + 1:] -= np.tril(ld[..., j + 1:, j, None] * column[..., None, :])
    return ld


def ldl_factor(a: Array, hermitian: bool) -> Any:
    rows = np.arange(1, a.shape[-1] + 1, dtype=np.int32)
    return (without_pivoting(a), np.broadcast_to(rows, a.shape[:-1]),
            np.zeros(a.shape[:-2], np.int32))


def ldl_solve(ld: Array, pivots: Array, b: Array, hermitian: bool) -> Array:
    lower = np.tril(ld, -1) + np.eye(ld.shape[-1])
    return np.linalg.solve(lower * ld.diagonal(0, -2, -1)[..., None, :] @ mT(lower), b)


def ones_before(*shape: int) -> Array:
    return np.broadcast_to(np.arange(1, shape[-1] + 1, dtype=np.int32), shape).copy()


record("ldl_factor", ldl_factor, lambda d: [
    case(definite(d, *shape), hermitian=False) for shape in ((3, 3), (2, 2, 2), (1, 1), (0, 0))])
record("ldl_solve", ldl_solve, lambda d: [
    case(without_pivoting(definite(d, 3, 3)), ones_before(3), d.real(3, 2), hermitian=False),
    case(without_pivoting(definite(d, 2, 2, 2)), ones_before(2, 2), d.real(2, 1), hermitian=True)])

# Determinants ------------------------------------------------------------------------------------

record("det", np.linalg.det, squares)
record("cofactors", lambda a: mT(np.linalg.inv(a)) * np.linalg.det(a)[..., None, None], lambda d: [
    case(regular(d, 3, 3)), case(regular(d, 2, 2, 2)), case(d.real(0, 2, 2))])
record("slogdet", lambda a: tuple(np.linalg.slogdet(a)), squares)

# Factorisations ----------------------------------------------------------------------------------

record("cholesky", lambda a, upper=False: mT(np.linalg.cholesky(a)) if upper else
       np.linalg.cholesky(a),
       lambda d: [case(definite(d, 3, 3)), case(definite(d, 2, 3, 3), upper=True),
                  case(d.real(0, 2, 2)), case(d.real(0, 0))],
       bad(RuntimeError, "the leading minor of order 2 is not positive-definite",
           np.array([[1.0, 2], [2, 3]])))
record("qr", lambda a, mode="reduced": tuple(np.linalg.qr(a, mode)), lambda d: [
    case(d.real(3, 3)), case(d.real(4, 2)), case(d.real(2, 4)), case(d.real(2, 3, 2)),
    case(d.real(2, 3), mode="complete"), case(d.real(0, 2))])


def geqrf(a: Array) -> Any:
    both, tau = np.linalg.qr(a, "raw")
    return mT(both), tau


record("geqrf", geqrf, lambda d: [case(d.real(3, 3)), case(d.real(2, 4, 2)), case(d.real(2, 4))])
record("eigh", lambda a, uplo="L": tuple(np.linalg.eigh(a, uplo)), lambda d: [
    case(symmetric(d, 3, 3)), case(symmetric(d, 2, 2, 2), uplo="U"), case(d.real(0, 2, 2))])


def eig(a: Array) -> Any:
    values, vectors = np.linalg.eig(a)
    return values.astype(complex), vectors.astype(complex)


record("eig", eig, lambda d: [case(symmetric(d, 3, 3)), case(d.real(2, 3, 3)),
                              case(d.real(0, 2, 2))])
record("svd", lambda a, full_matrices=True: tuple(np.linalg.svd(a, full_matrices)), lambda d: [
    case(d.real(3, 3)), case(d.real(4, 2), full_matrices=False),
    case(d.real(2, 4), full_matrices=False), case(d.real(2, 3, 2), full_matrices=False),
    case(d.real(0, 2, 2))])
record("pinv", lambda a, atol, rtol, hermitian=False: np.linalg.pinv(a), lambda d: [
    case(d.real(3, 3), atol=0.0, rtol=1e-10), case(d.real(4, 2), atol=0.0, rtol=1e-10),
    case(d.real(2, 4), atol=0.0, rtol=1e-10), case(d.real(2, 3, 2), atol=1e-9, rtol=0.0)])


def matrix_exp(a: Array) -> Array:
    out = term = np.zeros_like(a) + np.eye(a.shape[-1])
    for i in range(1, 60):
        term = term @ a / i
        out = out + term
    return out


record("matrix_exp", matrix_exp, lambda d: [
    case(d.real(3, 3)), case(np.stack([d.real(2, 2), 5 * d.real(2, 2)])), case(d.real(1, 1))])
