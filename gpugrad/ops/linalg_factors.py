"""Factorisations of matrices: Cholesky, QR, eigenvalues, singular values; and what follows of them.

The rules are PyTorch's, for real and complex matrices alike: gradients of matrices that must be
Hermitian are projected, or not, as they are there.
"""
from __future__ import annotations

import numpy as np

from gpugrad.autograd.conjugate import complex_gradients_ahead, is_complex
from gpugrad.autograd.op import op
from gpugrad.autograd.rules import g_dtype
from gpugrad.ops.linalg_tools import (
    LinAlgError,
    as_diagonal,
    check_phase,
    conj,
    cut,
    diagonal,
    differences,
    fails,
    first_failure,
    in_columns,
    in_rows,
    mH,
    off_diagonal,
    real_part,
    total,
)

# Cholesky ----------------------------------------------------------------------------------------


def cholesky_error(be, a, name):
    which, x = first_failure(be, a, lambda x: fails(be.xp.linalg.cholesky, x))
    order = minor_that_fails(be, x)
    return LinAlgError(f"{name}: {which}The factorization could not be completed because the input "
                       f"is not positive-definite (the leading minor of order {order} is not "
                       "positive-definite).")


def minor_that_fails(be, x):
    """The least order of a leading minor that has no Cholesky factor."""
    low, high = 0, x.shape[-1]
    while high - low > 1:
        middle = (low + high) // 2
        if fails(be.xp.linalg.cholesky, x[:middle, :middle]):
            high = middle
        else:
            low = middle
    return high


@op("LinalgCholeskyExBackward0", holomorphic=False)
class cholesky:
    """The triangular L with L L^H = a, or L^H with ``upper``; that triangle of a is read."""
    def forward(be, a, *, upper=False, name="linalg.cholesky"):
        if upper:
            a = a.swapaxes(-1, -2).conj()
        try:
            out = be.xp.linalg.cholesky(a)
        except np.linalg.LinAlgError:
            raise cholesky_error(be, a, name) from None
        return be.copy(out.swapaxes(-1, -2).conj()) if upper else out
    def grad_a(o, g, result, upper):
        if upper:
            g, result = mH(o, g), mH(o, result)
        inner = o.tril(o.bmm(mH(o, result), g), diagonal=0)
        inner = o.add(inner, mH(o, o.tril(inner, diagonal=-1)))
        left = o.solve_triangular(mH(o, result), inner, upper=True)
        right = mH(o, o.solve_triangular(mH(o, result), mH(o, left), upper=True))
        return o.scale(right, number=0.5)


# QR ----------------------------------------------------------------------------------------------


def symmetric(o, x):
    """x + x^H with the real diagonal of x, for upper triangular x."""
    d = as_diagonal(o, real_part(o, diagonal(o, x)))
    d = o.to(d, dtype=g_dtype(x)) if is_complex(x) else d
    strict = o.triu(x, diagonal=1)
    return o.add(o.add(strict, mH(o, strict)), d)


def qr_grad(o, gq, gr, q, r):
    """The gradient of a matrix with at least as many rows as columns."""
    inner = total(o, None if gr is None else o.bmm(gr, mH(o, r)),
                  None if gq is None else o.neg(o.bmm(mH(o, q), gq)))
    out = total(o, o.bmm(q, symmetric(o, o.triu(inner, diagonal=0))), gq)
    return mH(o, o.solve_triangular(r, mH(o, out), upper=True))


@op("LinalgQrBackward0", outputs=2, diff=2, holomorphic=False)
class qr:
    """(Q, R) with orthonormal columns in Q and R upper triangular."""
    def forward(be, a, *, mode="reduced"):
        if mode == "r":
            return be.xp.zeros((0,), a.dtype), be.xp.linalg.qr(a, "r")
        q, r = be.xp.linalg.qr(a, mode)
        return q, r
    def grad_a(o, g0, g1, a, result0, result1, mode):
        m, n = a.shape[-2:]
        if mode == "r":
            raise RuntimeError("The derivative of linalg.qr depends on Q, which is not computed "
                               "when mode='r'. Please use linalg.qr(A, mode='reduced') if you are "
                               "going to require gradients through QR.")
        if mode == "complete" and m > n:
            raise RuntimeError("The QR decomposition is not differentiable when mode='complete' "
                               "and nrows > ncols.")
        if m >= n:
            return qr_grad(o, g0, g1, result0, result1)
        last = len(a.shape) - 1                  # R = [R1 R2], where R2 = Q^H A2
        parts = lambda x: (o.slice_(x, dim=last, start=0, stop=m),             # noqa: E731
                           o.slice_(x, dim=last, start=m, stop=n))
        r1, _ = parts(result1)
        if g1 is None:
            left = qr_grad(o, g0, None, result0, r1)
            return o.cat(left, o.zeros_like(parts(a)[1]), dim=last)
        gr1, gr2 = parts(g1)
        gq = total(o, g0, o.bmm(parts(a)[1], mH(o, gr2)))
        return o.cat(qr_grad(o, gq, gr1, result0, r1), o.bmm(result0, gr2), dim=last)


@op("NotImplemented", outputs=2, diff=2)
class geqrf:
    """(R above the diagonal and reflections below it, their factors). As in PyTorch, backward
    through it is an error."""
    def forward(be, a):
        if not a.size:
            return be.copy(a), be.xp.zeros((*a.shape[:-2], min(a.shape[-2:])), a.dtype)
        both, tau = be.xp.linalg.qr(a, "raw")
        return be.copy(both.swapaxes(-1, -2)), tau
    def grad_a(o, g0, g1):
        raise RuntimeError("derivative for aten::geqrf is not implemented: use torch.linalg.qr")


# Eigenvalues -------------------------------------------------------------------------------------

CONVERGE = ("{which}The algorithm failed to converge because the input matrix is ill-conditioned "
            "or has too many repeated eigenvalues (error code: {code}).")


def converged(be, a, function, name, text=CONVERGE):
    """function(a), with PyTorch's error where it fails."""
    try:
        return function(a)
    except np.linalg.LinAlgError:
        which, _ = first_failure(be, a, lambda x: fails(function, x))
        raise LinAlgError(f"{name}: " + text.format(which=which, code=1)) from None


@op("LinalgEighBackward0", outputs=2, diff=2, holomorphic=False)
class eigh:
    """(eigenvalues ascending, eigenvectors) of Hermitian matrices; one triangle is read."""
    def forward(be, a, *, uplo="L"):
        values, vectors = converged(be, a, lambda x: be.xp.linalg.eigh(x, uplo), "linalg.eigh")
        return values, vectors
    def grad_a(o, g0, g1, result0, result1):
        v = result1
        if g1 is None:
            return o.bmm(o.mul(v, in_columns(o, g0)), mH(o, v))
        inner = o.bmm(mH(o, v), g1)
        check_phase(o, diagonal(o, inner), "linalg_eigh")
        inner = off_diagonal(o, o.div(inner, differences(o, result0)))
        if g0 is not None:
            inner = o.add(inner, as_diagonal(o, g0))
        out = o.bmm(v, o.bmm(inner, mH(o, v)))
        return o.scale(o.add(out, mH(o, out)), number=0.5)


def to_complex(be, a):
    complex_gradients_ahead()
    return a if a.dtype.kind == "c" else a.astype("c8" if a.dtype.itemsize == 4 else "c16")


@op("LinalgEigBackward0", outputs=2, diff=2, holomorphic=False)
class eig:
    """(eigenvalues, eigenvectors of length 1), complex."""
    def forward(be, a):
        if not a.size:
            return to_complex(be, be.empty(a.shape[:-1], a.dtype)), to_complex(be, be.copy(a))
        values, vectors = converged(be, a, be.xp.linalg.eig, "linalg.eig")
        return to_complex(be, values), to_complex(be, vectors)
    def meta(be, a):
        return to_complex(be, be.empty(a.shape[:-1], a.dtype)), to_complex(be, be.copy(a))
    def grad_a(o, g0, g1, a_dtype, result0, result1):
        vh = mH(o, result1)
        inner = None
        if g1 is not None:
            along = o.bmm(vh, g1)
            d = diagonal(o, along)
            check_phase(o, d, "linalg_eig")
            along = o.sub(along, o.mul(o.bmm(vh, result1), in_columns(o, o.real(d))))
            inner = off_diagonal(o, o.div(along, conj(o, differences(o, result0))))
        inner = total(o, inner, None if g0 is None else as_diagonal(o, g0))
        out = o.solve(vh, o.bmm(inner, vh), check=False)
        return out if a_dtype.kind == "c" else o.real(out)


# Singular values ---------------------------------------------------------------------------------

FINITE = ("{which}The algorithm failed to converge because the input matrix contained non-finite "
          "values.")


@op("LinalgSvdBackward0", outputs=3, diff=3, holomorphic=False)
class svd:
    """(U, S, V^H): a = U diag(S) V^H, the singular values descending."""
    def forward(be, a, *, full_matrices=True):
        return tuple(converged(be, a, lambda x: be.xp.linalg.svd(x, full_matrices), "linalg.svd",
                               FINITE))
    def grad_a(o, g0, g1, g2, a_shape, result0, result1, result2):
        m, n = a_shape[-2:]
        k = min(m, n)
        u, s, vh = cut(o, result0, m, k), result1, cut(o, result2, k, n)
        gu = None if g0 is None else cut(o, g0, m, k)
        gvh = None if g2 is None else cut(o, g2, k, n)
        if gu is None and gvh is None:
            return o.bmm(o.mul(u, in_columns(o, g1)), vh)
        left = None if gu is None else o.bmm(mH(o, u), gu)
        right = None if gvh is None else o.bmm(vh, mH(o, gvh))
        skew = [None if x is None else o.sub(x, mH(o, x)) for x in (left, right)]
        check_phase(o, diagonal(o, total(o, *skew)), "svd")
        apart = differences(o, o.mul(s, s))
        inner = total(
            o, None if gu is None else o.mul(o.div(skew[0], apart), in_columns(o, s)),
            None if gvh is None else o.mul(o.div(skew[1], apart), in_rows(o, s)))
        inner = off_diagonal(o, inner)
        if is_complex(u) and gu is not None and gvh is not None:
            inner = o.add(inner, as_diagonal(o, o.div(diagonal(o, skew[0]), o.scale(s, number=2))))
        if g1 is not None:
            inner = o.add(inner, as_diagonal(o, g1))
        out = o.bmm(u, inner)
        if m > k and gu is not None:
            out = o.add(out, o.div(o.sub(gu, o.bmm(u, left)), in_columns(o, s)))
        out = o.bmm(out, vh)
        if n > k and gvh is not None:
            rest = o.sub(gvh, o.bmm(mH(o, right), vh))
            out = o.add(out, o.bmm(o.div(u, in_columns(o, s)), rest))
        return out


@op("LinalgPinvBackward0", holomorphic=False)
class pinv:
    """The Moore-Penrose inverses; singular values up to max(atol, rtol * the largest) count as 0.

    atol, rtol: arrays that broadcast against the batch, or numbers. hermitian: use eigenvalues.
    """
    def forward(be, a, *, atol, rtol, hermitian=False):
        xp = be.xp
        if hermitian:
            s, u = xp.linalg.eigh(a)
            vh = u.conj().swapaxes(-1, -2)
        else:
            u, s, vh = converged(be, a, lambda x: xp.linalg.svd(x, False), "linalg.svd", FINITE)
        size = xp.absolute(s)
        bound = xp.maximum(xp.asarray(atol)[..., None],
                           xp.asarray(rtol)[..., None] * size.max(-1, keepdims=True))
        small = size <= bound.astype(s.dtype)
        over = xp.where(small, be.number[0, s.dtype], 1 / xp.where(small, 1, s).astype(s.dtype))
        return be.matmul(vh.conj().swapaxes(-1, -2) * over[..., None, :], u.conj().swapaxes(-1, -2))
    def grad_a(o, g, a, result):
        p, ph, gh = result, mH(o, result), mH(o, g)
        if a.shape[-2] <= a.shape[-1]:
            k = o.bmm(gh, p)
            kp = o.bmm(k, ph)
            out = o.sub(kp, mH(o, o.bmm(p, k)))
            out = o.sub(out, o.bmm(o.bmm(a, p), kp))
            return o.add(out, o.bmm(o.bmm(ph, p), o.sub(gh, o.bmm(k, a))))
        k = o.bmm(p, gh)
        pk = o.bmm(ph, k)
        out = o.sub(pk, mH(o, o.bmm(k, p)))
        out = o.add(out, o.bmm(o.bmm(o.sub(gh, o.bmm(a, k)), p), ph))
        return o.sub(out, o.bmm(o.bmm(pk, p), a))


# Exponentials ------------------------------------------------------------------------------------

# The coefficients of the Pade approximants of exp, and the 1-norm up to which they are exact to the
# dtype (Higham, The scaling and squaring method for the matrix exponential revisited, 2005).
PADE = {4: (3.925724783138660, (17297280, 8648640, 1995840, 277200, 25200, 1512, 56, 1)),
        8: (5.371920351148152, (64764752532480000, 32382376266240000, 7771770303897600,
                                1187353796428800, 129060195264000, 10559470521600, 670442572800,
                                33522128640, 1323241920, 40840800, 960960, 16380, 182, 1))}


def exponential(be, a):
    """exp of matrices, by scaling, a rational function and squaring."""
    xp = be.xp
    limit, c = PADE[a.real.dtype.itemsize]
    norm = xp.absolute(a).sum(-2).max(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        halvings = xp.ceil(xp.log2(norm / be.number[limit, norm.dtype]))
    halvings = xp.where(xp.isfinite(halvings), xp.maximum(halvings, 0), 0)
    x = a / xp.exp2(halvings).astype(norm.dtype)[..., None, None]
    square = be.matmul(x, x)
    power = xp.zeros_like(a) + xp.eye(a.shape[-1], dtype=a.dtype)
    odd, even = xp.zeros_like(a), xp.zeros_like(a)
    for i in range(0, len(c), 2):
        even += be.number[c[i] / c[0], a.dtype] * power
        odd += be.number[c[i + 1] / c[0], a.dtype] * power
        power = be.matmul(power, square)
    odd = be.matmul(x, odd)
    out = xp.linalg.solve(even - odd, even + odd)
    # how often depends on the values: the host has to read the largest number
    for i in range(int(be.to_host(halvings.max())) if halvings.size else 0):
        again = (halvings > i)[..., None, None]
        out = xp.where(again, be.matmul(out, out), out)
    return out


@op("LinalgMatrixExpBackward0")
class matrix_exp:
    """The exponentials of matrices."""
    def forward(be, a):
        return exponential(be, a)
    def meta(be, a):
        return be.copy(a)
    def grad_a(o, g, a):
        n, dims = a.shape[-1], len(a.shape)      # of [[a, g], [0, a]] it is a corner
        t = o.transpose(a, dim0=-2, dim1=-1)
        both = o.cat(o.cat(t, g, dim=dims - 1), o.cat(o.zeros_like(t), t, dim=dims - 1),
                     dim=dims - 2)
        out = o.slice_(o.matrix_exp(both), dim=dims - 2, start=0, stop=n)
        return o.slice_(out, dim=dims - 1, start=n, stop=2 * n)
