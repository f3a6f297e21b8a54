"""Inverses, determinants, and systems of linear equations."""
from __future__ import annotations

import math

import numpy as np

from gpugrad.autograd.conjugate import is_complex
from gpugrad.autograd.op import op
from gpugrad.autograd.rules import g_dtype
from gpugrad.ops.linalg_tools import (
    LinAlgError,
    array_of,
    as_diagonal,
    broadcast_batches,
    conj,
    constant,
    diagonal,
    fails,
    first_failure,
    in_columns,
    in_rows,
    mH,
    mT,
)

# Triangles, of raw arrays ------------------------------------------------------------------------

SPLIT = 64      # triangles of more rows are split in two, for products of matrices


def solve_upper(be, a, b):
    """x of a x = b for upper triangular a, whose part below the diagonal isn't read."""
    xp, n = be.xp, a.shape[-1]
    if n > SPLIT:
        h = n // 2
        low = solve_upper(be, a[..., h:, h:], b[..., h:, :])
        rest = b[..., :h, :] - be.matmul(a[..., :h, h:], low)
        return xp.concatenate([solve_upper(be, a[..., :h, :h], rest), low], -2)
    try:
        # no rows change places in the factorisation of a triangle: this is substitution alone
        return xp.linalg.solve(*broadcast_batches(be, xp.triu(a), b))
    except np.linalg.LinAlgError:                # as in PyTorch, 0 on the diagonal gives infinities
        return substituted(be, a, b)


def substituted(be, a, b):
    """solve_upper, a row at a time."""
    a, b = broadcast_batches(be, a, b)
    out = be.copy(b)
    with np.errstate(divide="ignore", invalid="ignore"):
        for i in range(a.shape[-1] - 1, -1, -1):
            out[..., i, :] /= a[..., i, i, None]
            out[..., :i, :] -= a[..., :i, i, None] * out[..., None, i, :]
    return out


def triangular(be, a, b, upper, unit=False):
    """x of a x = b for triangular a; unit: with 1 on the diagonal, whatever stands there."""
    if unit:
        a = be.xp.where(be.xp.eye(a.shape[-1], dtype=bool), be.number[1, a.dtype], a)
    if not b.size:
        return be.xp.zeros(be.xp.broadcast_shapes(a.shape[:-2], b.shape[:-2]) + b.shape[-2:],
                           b.dtype)
    if upper:
        return solve_upper(be, a, b)
    return solve_upper(be, a[..., ::-1, ::-1], b[..., ::-1, :])[..., ::-1, :]


@op("LinalgSolveTriangularBackward0", fit=True)
class solve_triangular:
    """x of a x = b for triangular a."""
    def forward(be, a, b, *, upper, unit=False):
        return be.copy(triangular(be, a, b, upper, unit))
    def grad_a(o, g, a, result, upper, unit):
        gb = o.solve_triangular(mT(o, a), g, upper=not upper, unit=unit)
        ga = o.neg(o.bmm(gb, mT(o, result)))
        return o.triu(ga, diagonal=int(unit)) if upper else o.tril(ga, diagonal=-int(unit))
    def grad_b(o, g, a, upper, unit):
        return o.solve_triangular(mT(o, a), g, upper=not upper, unit=unit)


# LU, of raw arrays -------------------------------------------------------------------------------

PANEL = 32      # how many columns are eliminated before the rest is, by one product


def lu_arrays(be, a, pivot=True):
    """LU with partial pivoting: (L and U in one matrix, pivots, permutation, first zero pivot).

    Of batches: neither NumPy nor CuPy has it. The permutation gives, for each row of L U, the row
    of a. Pivots and the number of the first zero one count from 1.
    """
    xp, (m, n) = be.xp, a.shape[-2:]
    count, k = math.prod(a.shape[:-2]), min(m, n)
    lu = be.copy(a).reshape(count, m, n)
    pivots = xp.zeros((count, k), np.int32)
    order = xp.zeros((count, m), np.int64) + xp.arange(m)
    batch = xp.arange(count)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for start in range(0, k if count else 0, PANEL):
            stop = min(start + PANEL, k)
            for j in range(start, stop):
                pivots[:, j] = j + 1
                if pivot:
                    column = lu[:, j:, j]
                    size = xp.absolute(column.real) + xp.absolute(column.imag)
                    row = xp.argmax(size, 1) + j
                    pivots[:, j] = row + 1
                    swap(lu, batch, j, row)
                    swap(order, batch, j, row)
                d = lu[:, j, j, None]
                lu[:, j + 1:, j] /= xp.where(d == 0, be.number[1, d.dtype], d)
                lu[:, j + 1:, j + 1:stop] -= lu[:, j + 1:, j, None] * lu[:, j, None, j + 1:stop]
            if stop < n:
                right = lu[:, start:stop, stop:]
                right[...] = triangular(be, lu[:, start:stop, start:stop], right, False, True)
                lu[:, stop:, stop:] -= be.matmul(lu[:, stop:, start:stop], right)
    zero = lu[:, :k, :k].diagonal(0, 1, 2) == 0
    info = xp.where(zero.any(1), xp.argmax(zero, 1) + 1, 0) if k else xp.zeros(count)
    front = a.shape[:-2]
    return (lu.reshape(a.shape), pivots.reshape(*front, k), order.reshape(*front, m),
            info.astype(np.int32).reshape(front))


def swap(a, batch, i, row):
    """Row i of each array of a batch with another one."""
    kept = a[:, i].copy()
    a[:, i] = a[batch, row]
    a[batch, row] = kept


def halves(o, lu):
    """(L, U) of the two in one matrix; L has 1 on the diagonal."""
    m, n = lu.shape[-2:]
    k, dims = min(m, n), len(lu.shape)
    lower = o.tril(lu, diagonal=-1)
    lower = o.slice_(lower, dim=dims - 1, start=0, stop=k) if n > k else lower
    upper = o.triu(lu, diagonal=0)
    upper = o.slice_(upper, dim=dims - 2, start=0, stop=k) if m > k else upper
    return o.add_identity(lower), upper


@op("AddBackward0")
class add_identity:
    """x with 1 added on the diagonals."""
    def forward(be, x):
        return x + be.xp.eye(x.shape[-2], x.shape[-1], dtype=x.dtype)
    def grad_x(o, g):
        return g


@op("IndexBackward0")
class permute_rows:
    """The rows of matrices in another order, for each matrix of a batch; or the inverse of that."""
    def forward(be, x, order, *, inverse=False):
        at = be.xp.argsort(order, -1) if inverse else order
        batch = be.xp.broadcast_shapes(x.shape[:-2], at.shape[:-1])
        x = be.xp.broadcast_to(x, batch + x.shape[-2:])
        at = be.xp.broadcast_to(at, batch + at.shape[-1:])
        return be.xp.take_along_axis(x, be.xp.broadcast_to(at[..., None], x.shape), -2)
    grad_order = None
    def grad_x(o, g, order, inverse, x_shape):
        return o.sum_to(o.permute_rows(g, order, inverse=not inverse), x_shape)


@op("LinalgLuFactorExBackward0", outputs=4)
class lu_factor:
    """(LU, pivots, permutation, info), see lu_arrays."""
    def forward(be, a, *, pivot=True):
        return lu_arrays(be, a, pivot)
    def grad_a(o, g, result0, result2):
        m, n = g.shape[-2:]
        k, dims = min(m, n), len(g.shape)
        rows = lambda x, i, j: o.slice_(x, dim=dims - 2, start=i, stop=j)      # noqa: E731
        columns = lambda x, i, j: o.slice_(x, dim=dims - 1, start=i, stop=j)   # noqa: E731
        lu = columns(rows(result0, 0, k), 0, k)
        square = columns(rows(g, 0, k), 0, k)
        lower, upper = o.tril(lu, diagonal=-1), o.triu(lu, diagonal=0)
        gl, gu, rest = o.tril(square, diagonal=-1), o.triu(square, diagonal=0), None
        if m > k:                                # the rows below: L2 = A2 / U
            below = mT(o, o.solve_triangular(upper, mT(o, rows(g, k, m)), upper=True))
            # U is on the left of the transposed: x U^T = g, for which U x^T = g^T
            gu = o.sub(gu, o.bmm(mT(o, rows(result0, k, m)), below))
            rest = below
        if n > k:                                # the columns to the right: U2 = L \ A2
            rest = o.solve_triangular(mT(o, lower), columns(g, k, n), upper=True, unit=True)
            gl = o.sub(gl, o.bmm(rest, mT(o, columns(result0, k, n))))
        inner = o.add(
            o.tril(o.add(o.bmm(mT(o, lower), gl), o.tril(gl, diagonal=-1)), diagonal=-1),
            o.triu(o.bmm(gu, mT(o, upper)), diagonal=0))
        inner = o.solve_triangular(mT(o, lower), inner, upper=True, unit=True)
        out = mT(o, o.solve_triangular(upper, mT(o, inner), upper=True))
        if rest is not None:
            out = o.cat(out, rest, dim=dims - 2 if m > k else dims - 1)
        return o.permute_rows(out, result2, inverse=True)


# Systems -----------------------------------------------------------------------------------------


def singular_error(be, a, op_name, rest):
    """The error for a batch in which a matrix is singular, naming it."""
    which, matrix = first_failure(be, a, lambda x: fails(be.xp.linalg.inv, x))
    at = int(be.to_host(lu_arrays(be, matrix)[3]))
    return LinAlgError(f"{op_name}: {which}" + rest.format(at=at))


INVERSION = ("The diagonal element {at} is zero, the inversion could not be completed because the "
             "input matrix is singular.")
SOLVER = "The solver failed because the input matrix is singular."


def one_by_one(be, a, function, shape):
    """function of each matrix of a batch, NaN where it fails."""
    out = be.xp.full((math.prod(a.shape[:-2]), *shape), np.nan, a.dtype)
    flat = a.reshape(-1, *a.shape[-2:])
    for i in range(len(flat)):
        try:
            out[i] = function(flat[i], i)
        except np.linalg.LinAlgError:
            pass
    return out.reshape(*a.shape[:-2], *shape)


@op("LinalgInvExBackward0")
class inv:
    """The inverses; without ``check`` NaN where there is none."""
    def forward(be, a, *, check=True):
        try:
            return be.xp.linalg.inv(a)
        except np.linalg.LinAlgError:
            if check:
                raise singular_error(be, a, "linalg.inv", INVERSION) from None
        return one_by_one(be, a, lambda x, i: be.xp.linalg.inv(x), a.shape[-2:])
    def grad_a(o, g, result):
        t = mT(o, result)
        return o.neg(o.bmm(t, o.bmm(g, t)))


@op("LinalgSolveExBackward0", fit=True)
class solve:
    """x of a x = b, for matrices b; without ``check`` NaN where a is singular."""
    def forward(be, a, b, *, check=True):
        a, b = broadcast_batches(be, a, b)
        try:
            return be.xp.linalg.solve(a, b)
        except np.linalg.LinAlgError:
            if check:
                raise singular_error(be, a, "torch.linalg.solve", SOLVER) from None
        flat = b.reshape(-1, *b.shape[-2:])
        return one_by_one(be, a, lambda x, i: be.xp.linalg.solve(x, flat[i]), b.shape[-2:])
    def grad_a(o, g, a, result):
        return o.neg(o.bmm(o.solve(mT(o, a), g, check=False), mT(o, result)))
    def grad_b(o, g, a):
        return o.solve(mT(o, a), g, check=False)


# Determinants ------------------------------------------------------------------------------------


def cofactors_by_svd(be, a):
    """The cofactors of any matrices, be they singular."""
    xp = be.xp
    u, s, vh = xp.linalg.svd(a)
    sign = xp.linalg.det(u) * xp.linalg.det(vh)
    others = be.raw.prod_of_others(s) if s.shape[-1] > 1 else xp.ones_like(s)
    out = be.matmul(u.conj() * others[..., None, :], vh.conj())
    return (out * sign[..., None, None]).astype(a.dtype, copy=False)


def is_near_singular(a, inverse):
    """Would differences of products of inverses lose half of the digits, or be NaN?

    Looked at on the CPU alone: a GPU would have to wait.
    """
    if not isinstance(a, np.ndarray) or not a.size:
        return False
    size = np.abs(a).max((-2, -1)) * np.abs(inverse).max((-2, -1))
    return not bool((size < np.finfo(a.dtype).eps ** -0.5).all())


def second_of_singular(o, g, a):
    """The gradient of cofactors, by singular values s: without any inverse.

    With q[i, j] the product of all s but s[i] and s[j], a change m of diag(s) changes its cofactors
    by -q[i, j] m[j, i] off the diagonal, and by the sum of q[i, j] m[j, j] on it.
    """
    u, s, vh = o.svd(a)
    n, dims = s.shape[-1], len(s.shape)
    i = np.arange(n)
    other = ((i != i[:, None])[:, None] & (i != i[:, None])[None]).astype(g_dtype(s))
    apart = 1 - np.eye(n, dtype=g_dtype(s))
    factors = o.add(o.mul(o.unsqueeze(in_columns(o, s), dim=dims - 1), constant(s, other)),
                    constant(s, 1 - other))
    q = o.mul(o.prod(factors, dim=dims + 1), constant(s, apart))
    inner = o.bmm(o.bmm(mH(o, u), g), mH(o, vh))
    d = o.squeeze(o.bmm(o.to(q, dtype=g_dtype(inner)), in_rows(o, diagonal(o, inner))), dim=(dims,))
    inner = o.sub(as_diagonal(o, d), mT(o, o.mul(inner, q)))
    sign = o.mul(o.det(u), o.det(vh))
    out = o.bmm(o.bmm(conj(o, u), inner), conj(o, vh))
    return o.mul(out, o.unsqueeze(o.unsqueeze(sign, dim=dims - 1), dim=dims))


@op("LinalgDetBackward0")
class cofactors:
    """The derivatives of the determinants; of an invertible matrix det(a) inv(a).T."""
    def forward(be, a):
        try:
            t = be.xp.linalg.inv(a).swapaxes(-1, -2)
        except np.linalg.LinAlgError:
            return cofactors_by_svd(be, a)
        return t * be.xp.linalg.det(a)[..., None, None]
    def cuda(be, a):                              # there inv doesn't say that a matrix is singular
        return cofactors_by_svd(be, a)
    def grad_a(o, g, a, result):
        t = mT(o, o.inv(a, check=False))
        if is_near_singular(array_of(a), array_of(t)):
            return second_of_singular(o, g, a)
        n = len(a.shape)
        size = o.sum(o.mul(g, result), dim=(n - 2, n - 1), keepdim=True)
        return o.sub(o.mul(size, t), o.bmm(o.bmm(t, mT(o, g)), result))


@op("LinalgDetBackward0")
class det:
    """The determinants."""
    def forward(be, a):
        return be.xp.linalg.det(a)
    def grad_a(o, g, a):
        n = len(g.shape)
        return o.mul(o.unsqueeze(o.unsqueeze(g, dim=n), dim=n + 1), o.cofactors(a))


@op("LinalgSlogdetBackward0", outputs=2, diff=2, holomorphic=False)
class slogdet:
    """(sign, logarithm of the size) of the determinants."""
    def forward(be, a):
        sign, size = be.xp.linalg.slogdet(a)
        return sign, size
    def grad_a(o, g0, g1, a, result0):
        slope = g1
        if is_complex(result0) and g0 is not None:
            turn = o.imag(o.mul(g0, conj(o, result0)))
            slope = o.complex(o.zeros_like(turn) if g1 is None else g1, turn)
        if slope is None:
            return o.zeros_like(a)
        n = len(slope.shape)
        slope = o.unsqueeze(o.unsqueeze(slope, dim=n), dim=n + 1)
        return o.mul(mH(o, o.inv(a, check=False)), slope)
