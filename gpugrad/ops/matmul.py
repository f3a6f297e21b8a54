"""Products of vectors and matrices."""
from __future__ import annotations

import numpy as np

from gpugrad.autograd.op import op
from gpugrad.dtypes import HALF, type_name
from gpugrad.ops.bias import add_bias
from gpugrad.ops.linalg_tools import mT
from gpugrad.ops.shape import check_expand


def check_mm(a, b):
    if a.ndim != 2 or b.ndim != 2:
        raise RuntimeError(f"mat1 and mat2 must be matrices, got {a.ndim}-D and {b.ndim}-D")
    if a.shape[1] != b.shape[0]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({a.shape[0]}x{a.shape[1]} "
                           f"and {b.shape[0]}x{b.shape[1]})")
    check_dtypes(a, b, "mat1 and mat2")


def check_dtypes(a, b, what):
    if a.dtype != b.dtype:
        raise RuntimeError(f"{what} must have the same dtype, but got {type_name(a.dtype)} and "
                           f"{type_name(b.dtype)}: convert one of them, as in x.to(y.dtype)")


@op("MmBackward0")
class mm:
    """(n, k) @ (k, m). Each gradient comes out in the memory order of its input."""
    def forward(be, a, b):
        if a.dtype is not b.dtype:
            check_mm(a, b)
        try:
            return be.matmul(a, b)
        except ValueError:
            check_mm(a, b)
            raise
    def grad_a(o, g, b, a_order):
        return o.mm(g, o.t(b)) if a_order == "C" else o.t(o.mm(b, o.t(g)))
    def grad_b(o, g, a, b_order):
        return o.mm(o.t(a), g) if b_order == "C" else o.t(o.mm(o.t(g), a))


def combined(be, c, out, beta, alpha):
    """beta * c + alpha * out, in the memory of out."""
    if alpha != 1:
        out *= be.number[alpha, out.dtype]
    if beta != 0:                                # with beta 0, NaN and infinity in c are ignored
        try:
            out += c if beta == 1 else c * be.number[beta, out.dtype]
        except ValueError:
            check_expand(c.shape, out.shape)
            raise
    return out


def added(be, c, a, b, beta, alpha):
    """beta * c + alpha * (a @ b) by a GPU's cuBLAS alone, for c of the result's shape."""
    shape = (*a.shape[:-1], b.shape[-1])
    if c.shape != shape or not a.dtype == b.dtype == c.dtype or not be.gemm.takes(a.dtype) or \
            type(alpha) is complex or type(beta) is complex:
        return NotImplemented
    if beta == 0:                                # c isn't read
        return be.gemm(a, b, alpha=float(alpha))
    out = be.copy(c)
    return be.gemm(a, b, out, None, float(alpha), float(beta))


def times(o, g, number):
    return g if number == 1 else o.scale(g, number=number)


@op("AddmmBackward0", inplace=True)
class addmm:
    """beta * c + alpha * (a @ b)"""
    def forward(be, c, a, b, *, beta=1, alpha=1):
        dtype = a.dtype
        if dtype is not b.dtype or dtype is not c.dtype:
            check_mm(a, b)
            check_dtypes(c, a, "self and mat2")
        if dtype in HALF and be.widens_products:
            return be.in_float32(addmm, c, a, b, beta=beta, alpha=alpha)
        try:
            out = be.matmul(a, b)
        except ValueError:
            check_mm(a, b)
            raise
        if beta != 1 or alpha != 1:
            return combined(be, c, out, beta, alpha)
        try:
            out += c
        except ValueError:
            check_expand(c.shape, out.shape)
            raise
        return out
    def cuda(be, c, a, b, *, beta=1, alpha=1):
        if not a.ndim == b.ndim == 2 or a.shape[1] != b.shape[0] or \
                not a.dtype == b.dtype == c.dtype:
            return NotImplemented
        if c.shape != b.shape[1:] or beta != 1 or alpha != 1:
            return added(be, c, a, b, beta, alpha)
        out = be.epilogues("BIAS", a, b, be._dense(c))
        return add_bias(be, be.matmul(a, b), c) if out is NotImplemented else out
    def grad_c(o, g, c_shape, beta):
        g = g if g.shape == c_shape else o.sum_to(g, c_shape)
        return g if beta == 1 else o.scale(g, number=beta)
    def grad_a(o, g, b, a_order, alpha):
        g = g if alpha == 1 else o.scale(g, number=alpha)
        return o.mm(g, o.t(b)) if a_order == "C" else o.t(o.mm(b, o.t(g)))
    def grad_b(o, g, a, b_order, alpha):
        g = g if alpha == 1 else o.scale(g, number=alpha)
        return o.mm(o.t(a), g) if b_order == "C" else o.t(o.mm(o.t(g), a))
    def together(o, g, needs, c_shape, a, b_order, beta, alpha):
        if needs[0] and needs[2] and beta == alpha == 1 and c_shape == g.shape[1:]:
            gb, gc = o.product_and_sums(g, a, order=b_order)
            return gc, None, gb
        return None


@op(outputs=2)
class product_and_sums:
    """addmm's gradient for b, laid out in an order, and for c, the sums of g's columns.

    For the raw level alone: there are no gradients of it.
    """
    def forward(be, g, a, *, order):
        r = be.raw
        product = r.mm(r.t(a), g) if order == "C" else r.t(r.mm(r.t(g), a))
        return product, r.sum(g, dim=(0,))
    def cuda(be, g, a, *, order):
        if order == "C":
            return be.epilogues("BGRADA", a.T, g)
        found = be.epilogues("BGRADB", g.T, a)
        return found if found is NotImplemented else (found[0].T, found[1])


@op("BmmBackward0", fit=True)
class bmm:
    """(..., n, k) @ (..., k, m) with batch dims broadcast."""
    def forward(be, a, b):
        return be.matmul(a, b)
    def grad_a(o, g, b):
        return o.bmm(g, o.transpose(b, dim0=-2, dim1=-1))
    def grad_b(o, g, a):
        return o.bmm(o.transpose(a, dim0=-2, dim1=-1), g)


@op("DotBackward0")
class dot:
    """(n,) @ (n,)"""
    def forward(be, x, y):
        return be.xp.dot(x, y)
    def cuda(be, x, y):
        return be.matmul(x[None], y[:, None]).reshape(())
    def grad_x(o, g, y):
        return o.mul(g, y)
    def grad_y(o, g, x):
        return o.mul(g, x)


@op("MvBackward0")
class mv:
    """(n, k) @ (k,)"""
    def forward(be, a, x):
        return be.xp.dot(a, x)
    def cuda(be, a, x):
        return be.matmul(a, x[:, None]).reshape(len(a))
    def grad_a(o, g, x):
        return o.mul(o.unsqueeze(g, dim=1), x)
    def grad_x(o, g, a):
        return o.mv(o.t(a), g)


@op("VdotBackward0", holomorphic=False)
class vdot:
    """(n,) @ (n,) with the first one conjugated"""
    def forward(be, x, y):
        return be.xp.vdot(x, y)
    def grad_x(o, g, y):
        return o.mul(o.conj_physical(g), y)
    def grad_y(o, g, x):
        return o.mul(g, x)


# With a summand ----------------------------------------------------------------------------------


@op("AddmvBackward0", inplace=True)
class addmv:
    """beta * c + alpha * (a @ x)"""
    def forward(be, c, a, x, *, beta=1, alpha=1):
        if a.dtype in HALF:
            return be.in_float32(addmv, c, a, x, beta=beta, alpha=alpha)
        return combined(be, c, be.matmul(a, x[:, None])[:, 0], beta, alpha)
    def grad_c(o, g, c_shape, beta):
        return times(o, o.sum_to(g, c_shape), beta)
    def grad_a(o, g, x, alpha):
        return times(o, o.mul(o.unsqueeze(g, dim=1), x), alpha)
    def grad_x(o, g, a, alpha):
        return times(o, o.mv(o.t(a), g), alpha)


@op("AddrBackward0", inplace=True)
class addr:
    """beta * c + alpha * (the products of the elements of x with those of y)"""
    def forward(be, c, x, y, *, beta=1, alpha=1):
        if c.dtype in HALF:
            return be.in_float32(addr, c, x, y, beta=beta, alpha=alpha)
        return combined(be, c, x[:, None] * y, beta, alpha)
    def grad_c(o, g, c_shape, beta):
        return times(o, o.sum_to(g, c_shape), beta)
    def grad_x(o, g, y, alpha):
        return times(o, o.mv(g, y), alpha)
    def grad_y(o, g, x, alpha):
        return times(o, o.mv(o.t(g), x), alpha)


@op("BaddbmmBackward0", inplace=True)
class baddbmm:
    """beta * c + alpha * (a @ b), for a batch of matrices"""
    def forward(be, c, a, b, *, beta=1, alpha=1):
        if a.dtype in HALF:
            return be.in_float32(baddbmm, c, a, b, beta=beta, alpha=alpha)
        return combined(be, c, be.matmul(a, b), beta, alpha)
    def cuda(be, c, a, b, *, beta=1, alpha=1):
        return added(be, c, a, b, beta, alpha)
    def grad_c(o, g, c_shape, beta):
        return times(o, o.sum_to(g, c_shape), beta)
    def grad_a(o, g, b, alpha):
        return times(o, o.bmm(g, o.transpose(b, dim0=1, dim1=2)), alpha)
    def grad_b(o, g, a, alpha):
        return times(o, o.bmm(o.transpose(a, dim0=1, dim1=2), g), alpha)


@op("AddbmmBackward0", inplace=True)
class addbmm:
    """beta * c + alpha * (the sum of a @ b over a batch of matrices)"""
    def forward(be, c, a, b, *, beta=1, alpha=1):
        if a.dtype in HALF:
            return be.in_float32(addbmm, c, a, b, beta=beta, alpha=alpha)
        rows = a.transpose(1, 0, 2).reshape(a.shape[1], -1)
        return combined(be, c, be.matmul(rows, b.reshape(-1, b.shape[2])), beta, alpha)
    def grad_c(o, g, c_shape, beta):
        return times(o, o.sum_to(g, c_shape), beta)
    def grad_a(o, g, b, alpha):
        return times(o, o.bmm(o.unsqueeze(g, dim=0), o.transpose(b, dim0=1, dim1=2)), alpha)
    def grad_b(o, g, a, alpha):
        return times(o, o.bmm(o.transpose(a, dim0=1, dim1=2), o.unsqueeze(g, dim=0)), alpha)


# Others ------------------------------------------------------------------------------------------


@op("TraceBackward0")
class trace:
    """The sum of the diagonal."""
    def forward(be, x):
        return be.xp.trace(x, dtype=np.int64 if x.dtype.kind in "bui" else None)
    def grad_x(o, g, x_shape):
        d = o.expand(g, shape=(min(x_shape),))
        return o.diagonal_backward(d, shape=x_shape, offset=0, dim1=0, dim2=1)


@op("LinalgCrossBackward0", fit=True)
class cross:
    """The vectors at right angles to those in a dim of 3 of x and y, counted from the end."""
    def forward(be, x, y, *, dim):
        if x.dtype in HALF:
            return be.in_float32(cross, x, y, dim=dim)
        n = max(x.ndim, y.ndim)
        at = lambda a, i: a[(Ellipsis, i) + (slice(None),) * (-dim - 1)]       # noqa: E731
        rows = [at(x, i) * at(y, j) - at(x, j) * at(y, i) for i, j in ((1, 2), (2, 0), (0, 1))]
        return be.xp.stack(rows, n + dim)
    def grad_x(o, g, y, dim):
        return o.cross(y, g, dim=dim)
    def grad_y(o, g, x, dim):
        return o.cross(g, x, dim=dim)


MANY = 25       # rows from which on distances are made of a product of matrices


@op("CdistBackward0")
class cdist:
    """The p-norms of the differences of every row of x and every row of y, by batch.

    product: for p = 2, of |x|^2 + |y|^2 - 2 x.y, which is faster, and less exact for near rows.
    """
    def forward(be, x, y, *, p, product=False):
        xp = be.xp
        if x.dtype in HALF:
            return be.in_float32(cdist, x, y, p=p, product=product)
        if not x.shape[-1]:
            return xp.zeros((*x.shape[:-1], y.shape[-2]), x.dtype)
        if product:
            squares = (x * x).sum(-1)[..., None] + (y * y).sum(-1)[..., None, :]
            squares -= be.number[2, x.dtype] * be.matmul(x, y.swapaxes(-1, -2))
            return xp.sqrt(xp.maximum(squares, be.number[0, x.dtype]))
        return be.raw.vector_norm(x[..., :, None, :] - y[..., None, :, :], p=p, dim=(x.ndim,))
    def grads(o, g, needs, x, y, result, p):
        if p == 2:
            share = o.drop_where(o.div(g, result), o.eq(result, 0))
            return [near(o, share, x, y) if needs[0] else None,
                    near(o, mT(o, share), y, x) if needs[1] else None]
        n = len(x.shape)
        apart = o.sub(o.unsqueeze(x, dim=n - 1), o.unsqueeze(y, dim=n - 2))
        out = o.norm_grad(g, apart, result, apart.shape, p, (n,), False)
        return [o.sum(out, dim=(n - 1,)) if needs[0] else None,
                o.neg(o.sum(out, dim=(n - 2,))) if needs[1] else None]


def near(o, share, x, y):
    """The sum over j of share[i, j] (x[i] - y[j])."""
    n = len(share.shape)
    return o.sub(o.mul(x, o.sum(share, dim=(n - 1,), keepdim=True)), o.bmm(share, y))
