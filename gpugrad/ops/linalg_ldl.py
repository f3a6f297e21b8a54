"""L D L^H of symmetric and Hermitian matrices that needn't be definite.

As in LAPACK (Bunch and Kaufman, 1977): D has blocks of one or two rows on its diagonal. The matrix
LD has D there, with what is below the diagonal of a block of two, and L below that, in which rows
are as they were when their column was made. pivots, from 1 on, say which row changed places with
this one; both rows of a block of two have the negative number of the row that the second changed
with.

Each step looks for a pivot that the ones before decide on: this is done by the host.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad.autograd.op import op

_GROWTH = (1 + math.sqrt(17)) / 8


def _size(v: Any) -> Any:
    """How LAPACK compares the sizes of complex numbers."""
    return abs(v.real) + abs(v.imag) if v.dtype.kind == "c" else abs(v)


def _factor(a: Any, hermitian: bool) -> tuple[Any, int]:
    """Turn the lower triangle of one matrix into LD; (its pivots, the number of a pivot of 0)."""
    n, k, zero = a.shape[0], 0, 0
    pivots = np.empty(n, np.int32)

    def conj(v: Any) -> Any:
        return v.conj() if hermitian else v

    if hermitian:
        np.fill_diagonal(a, a.diagonal().real)
    while k < n:
        step, at, skip, diagonal = 1, k, False, _size(a[k, k])
        below = _size(a[k + 1:, k])
        largest = below.max() if k + 1 < n else 0
        if max(diagonal, largest) == 0 or np.isnan(diagonal):
            zero, skip = zero or k + 1, True
        elif diagonal < _GROWTH * largest:
            i = k + 1 + int(below.argmax())
            row = _size(np.concatenate([a[i, k:i], a[i + 1:, i]])).max()
            if diagonal < _GROWTH * largest * (largest / row):
                at = i
                step = 1 if _size(a[i, i]) >= _GROWTH * row else 2
        last = k + step - 1
        if at != last:
            a[at + 1:, [last, at]] = a[at + 1:, [at, last]]
            between = a[last + 1:at, last].copy()
            a[last + 1:at, last] = conj(a[at, last + 1:at])
            a[at, last + 1:at] = conj(between)
            a[at, last] = conj(a[at, last])
            a[last, last], a[at, at] = a[at, at], a[last, last]
            if step == 2:
                a[last, k], a[at, k] = a[at, k], a[last, k]
        rest = a[k + step:, k + step:]
        if step == 1:
            pivots[k] = at + 1
            if not skip and k + 1 < n:
                column = a[k + 1:, k] / a[k, k]
                rest -= np.outer(column, conj(a[k + 1:, k]))
                a[k + 1:, k] = column
        else:
            pivots[k:k + 2] = -(at + 1)
            block = a[k:k + 2, k:k + 2].copy()
            block[0, 1] = conj(block[1, 0])
            columns = a[k + 2:, k:k + 2].copy()
            factors = columns @ np.linalg.inv(block)
            rest -= factors @ conj(columns).T
            a[k + 2:, k:k + 2] = factors
        if hermitian:
            np.fill_diagonal(rest, rest.diagonal().real)
        k += step
    return pivots, zero


def _solve(ld: Any, pivots: Any, b: Any, hermitian: bool) -> None:
    """Turn b into the solution for one matrix."""
    n, k = ld.shape[0], 0
    while k < n:
        step = 1 if pivots[k] > 0 else 2
        here, after = slice(k, k + step), slice(k + step, n)
        at, last = abs(int(pivots[k])) - 1, k + step - 1
        b[[last, at]] = b[[at, last]]
        b[after] -= ld[after, here] @ b[here]
        block = ld[here, here].copy()
        if step == 2:
            block[0, 1] = block[1, 0].conj() if hermitian else block[1, 0]
        b[here] = np.linalg.solve(block, b[here]) if step == 2 else b[here] / block
        k += step
    while k > 0:
        step = 1 if pivots[k - 1] > 0 else 2
        here, after = slice(k - step, k), slice(k, n)
        lower = ld[after, here]
        b[here] -= (lower.conj() if hermitian else lower).T @ b[after]
        at, last = abs(int(pivots[k - 1])) - 1, k - 1
        b[[last, at]] = b[[at, last]]
        k -= step


def _no_derivative(name: str) -> RuntimeError:
    return RuntimeError(f"derivative for aten::{name} is not implemented: detach() the arguments, "
                        "or take lu_factor() and lu_solve()")


@op("NotImplemented", outputs=3, diff=1)
class ldl_factor:
    """(LD, pivots, info) of the lower triangles; info is the number of the first pivot of 0."""
    def forward(be, A, *, hermitian):
        a = np.tril(be.to_host(A))
        pivots = np.empty(a.shape[:-1], np.int32)
        info = np.zeros(a.shape[:-2], np.int32)
        for i in np.ndindex(a.shape[:-2]):
            with np.errstate(all="ignore"):
                pivots[i], info[i] = _factor(a[i], hermitian and a.dtype.kind == "c")
        return be.from_host(np.tril(a)), be.from_host(pivots), be.from_host(info)
    def meta(be, A, *, hermitian):
        return (be.empty(A.shape, A.dtype), be.empty(A.shape[:-1], np.int32),
                be.empty(A.shape[:-2], np.int32))
    def grad_A(o, g):
        raise _no_derivative("linalg_ldl_factor_ex")


@op("NotImplemented")
class ldl_solve:
    """The solutions X of A X = B, from LD and pivots of A; batches broadcast."""
    def forward(be, LD, pivots, B, *, hermitian):
        ld, p, b = (be.to_host(v) for v in (LD, pivots, B))
        batch = np.broadcast_shapes(ld.shape[:-2], b.shape[:-2])
        ld = np.broadcast_to(ld, batch + ld.shape[-2:])
        p = np.broadcast_to(p, batch + p.shape[-1:])
        x = np.array(np.broadcast_to(b, batch + b.shape[-2:]))
        for i in np.ndindex(batch):
            with np.errstate(all="ignore"):
                _solve(ld[i], p[i], x[i], hermitian and x.dtype.kind == "c")
        return be.from_host(x)
    def meta(be, LD, pivots, B, *, hermitian):
        batch = np.broadcast_shapes(LD.shape[:-2], B.shape[:-2])
        return be.empty(batch + B.shape[-2:], B.dtype)
    def grad_LD(o, g):
        raise _no_derivative("linalg_ldl_solve")
    grad_pivots = None
    def grad_B(o, g):
        raise _no_derivative("linalg_ldl_solve")
