"""Products of vectors and matrices."""
from __future__ import annotations

from gpugrad.autograd.op import op
from gpugrad.dtypes import type_name
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


@op("AddmmBackward0")
class addmm:
    """beta * c + alpha * (a @ b)"""
    def forward(be, c, a, b, *, beta=1, alpha=1):
        if a.dtype is not b.dtype or a.dtype is not c.dtype:
            check_mm(a, b)
            check_dtypes(c, a, "self and mat2")
        try:
            out = be.matmul(a, b)
        except ValueError:
            check_mm(a, b)
            raise
        if alpha != 1:
            out *= be.number[alpha, out.dtype]
        if beta != 0:                            # with beta 0, NaN and infinity in c are ignored
            try:
                out += c if beta == 1 else c * be.number[beta, out.dtype]
            except ValueError:
                check_expand(c.shape, out.shape)
                raise
        return out
    def grad_c(o, g, c_shape, beta):
        g = g if g.shape == c_shape else o.sum_to(g, c_shape)
        return g if beta == 1 else o.scale(g, number=beta)
    def grad_a(o, g, b, a_order, alpha):
        g = g if alpha == 1 else o.scale(g, number=alpha)
        return o.mm(g, o.t(b)) if a_order == "C" else o.t(o.mm(b, o.t(g)))
    def grad_b(o, g, a, b_order, alpha):
        g = g if alpha == 1 else o.scale(g, number=alpha)
        return o.mm(o.t(a), g) if b_order == "C" else o.t(o.mm(o.t(g), a))


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
    def grad_x(o, g, y):
        return o.mul(g, y)
    def grad_y(o, g, x):
        return o.mul(g, x)


@op("MvBackward0")
class mv:
    """(n, k) @ (k,)"""
    def forward(be, a, x):
        return be.xp.dot(a, x)
    def grad_a(o, g, x):
        return o.mul(o.unsqueeze(g, dim=1), x)
    def grad_x(o, g, a):
        return o.mv(o.t(a), g)
