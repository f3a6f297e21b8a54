"""Norms of vectors and matrices, and condition numbers."""
from __future__ import annotations

import math
from typing import Any

from gpugrad import dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions.arguments import as_, dim_of, dims_of
from gpugrad.functions.linalg import check_matrices, inv_ex
from gpugrad.functions.types import promote_types
from gpugrad.ops.reduction import count


def check_inexact(x: Tensor, name: str) -> None:
    if x._a.dtype.kind not in dtypes.INEXACT:
        raise RuntimeError(f"{name}: Expected a floating point or complex tensor as input. Got "
                           f"{type_name(x._a.dtype)}")


def _as(x: Tensor, dtype: Any, name: str) -> Tensor:
    check_inexact(x, name)
    if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
        raise RuntimeError(f"{name}: dtype should be floating point or complex. Got {dtype}")
    if dtype is not None and dtype.is_complex != x.is_complex():
        raise RuntimeError(f"{name}: dtype should be {'complex' if x.is_complex() else 'real'} for "
                           f"{'complex' if x.is_complex() else 'real'} inputs, but got {dtype}")
    if dtype is not None and promote_types(x.dtype, dtype) is not dtype:
        raise RuntimeError(f"{name}: the dtype of the input ({type_name(x._a.dtype)}) should be "
                           "convertible without narrowing to the specified dtype "
                           f"({type_name(dtype.np)})")
    return as_(x, dtype)


def vector_norm(x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, *,
                dtype: Any = None) -> Tensor:
    """sum(|x| ** ord) ** (1 / ord) over all elements or some dims; the largest |x| for inf."""
    x = _as(x, dtype, "linalg.vector_norm")
    dims = dims_of(dim, x._a.ndim)
    if (ord < 0 or math.isinf(ord)) and count(x._a.shape, dims) == 0:
        which = "inf" if math.isinf(ord) and ord > 0 else ord
        raise RuntimeError(f"linalg.vector_norm cannot compute the {which} norm on an empty tensor "
                           "because the operation does not have an identity")
    return T.vector_norm(x, p=ord, dim=dims, keepdim=keepdim)


def matrix_norm(A: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *,
                dtype: Any = None) -> Tensor:
    """The norm of matrices: "fro", "nuc", or the operator norms 1, -1, 2, -2, inf, -inf."""
    name = "linalg.matrix_norm"
    if A._a.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor A must have at least 2 dimensions.")
    A = _as(A, dtype, name)
    if not isinstance(dim, tuple | list) or len(dim) != 2:
        raise RuntimeError(f"{name}: dim must be a 2-tuple. Got {dim}")
    i, j = (dim_of(d, A._a.ndim) for d in dim)
    if i == j:
        raise RuntimeError(f"{name}: dims must be different. Got ({dim[0]}, {dim[1]})")
    if isinstance(ord, str):
        if ord == "fro":
            return T.vector_norm(A, p=2, dim=tuple(sorted((i, j))), keepdim=keepdim)
        if ord != "nuc":
            raise RuntimeError(f"{name}: Order {ord} not supported.")
    elif abs(ord) not in (1, 2, math.inf):
        raise RuntimeError(f"{name}: Order {ord} not supported.")
    extreme = T.amax if ord == "nuc" or ord > 0 else T.amin
    if ord == "nuc" or abs(ord) == 2:
        s = singular_values(A, i, j)
        last = s._a.ndim - 1
        if not s._a.shape[last] and ord == -2:
            raise IndexError("amin(): Expected reduction dim -1 to have non-zero size.")
        if not s._a.shape[last] and ord == 2:
            ord = "nuc"                          # of no values, a sum is 0 and a maximum an error
        out = T.sum(s, dim=(last,)) if ord == "nuc" else extreme(s, dim=(last,))
        return restored(out, i, j) if keepdim else out
    summed, kept = (i, j) if abs(ord) == 1 else (j, i)
    sums = T.vector_norm(A, p=1, dim=(summed,), keepdim=True)
    if not A._a.shape[kept] and ord > 0:
        extreme = T.sum
    return extreme(sums, dim=(kept,), keepdim=True) if keepdim else \
        T.squeeze(extreme(sums, dim=(kept,), keepdim=True), dim=tuple(sorted((i, j))))


def singular_values(A: Tensor, i: int, j: int) -> Tensor:
    rest = [d for d in range(A._a.ndim) if d not in (i, j)]
    x = A if [*rest, i, j] == list(range(A._a.ndim)) else A.permute([*rest, i, j])
    check_matrices(x, "linalg.svd", square=False, kernel="linalg_svd_cpu")
    return T.svd(x, full_matrices=False)[1]


def restored(x: Tensor, i: int, j: int) -> Tensor:
    """x with the dims i and j as 1 again."""
    for d in sorted((i, j)):
        x = T.unsqueeze(x, dim=d)
    return x


def norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *,
         dtype: Any = None) -> Tensor:
    """The norm of a vector, of a matrix where there are two dims, or of all elements."""
    dims = None if dim is None else [dim] if isinstance(dim, int) else list(dim)
    if ord is None and (dims is None or len(dims) in (1, 2)):
        return vector_norm(A, 2, None if dims is None else tuple(dims), keepdim, dtype=dtype)
    if dims is None:
        if A._a.ndim not in (1, 2):
            raise RuntimeError("linalg.norm: If dim is not specified but ord is, the input must be "
                               f"1D or 2D. Got {A._a.ndim}D.")
        dims = list(range(A._a.ndim))
    if len(dims) not in (1, 2):
        raise RuntimeError("linalg.norm: If dim is specified, it must be of length 1 or 2. Got "
                           f"{dims}")
    if len(dims) == 2:
        return matrix_norm(A, ord, tuple(dims), keepdim, dtype=dtype)
    if isinstance(ord, str):
        raise RuntimeError(f"linalg.norm: dim={dims} is one dim, for which ord must be a number, "
                           f"not {ord!r}")
    return vector_norm(A, ord, tuple(dims), keepdim, dtype=dtype)


_ORDERS = ("fro", "nuc")


def cond(A: Tensor, p: Any = None) -> Tensor:
    """The norm of A times that of its inverse; for p None, 2 and -2 by singular values."""
    if A._a.ndim < 2:
        raise RuntimeError("linalg.cond: The input tensor must have at least 2 dimensions.")
    if isinstance(p, str) and p not in _ORDERS:
        raise RuntimeError(f"linalg.cond got an invalid norm type: {p}")
    if p is None or (not isinstance(p, str) and abs(p) == 2):
        s = singular_values(A, A._a.ndim - 2, A._a.ndim - 1)
        last = s._a.ndim - 1
        if not s._a.shape[-1]:
            return wrap(A._be.xp.zeros(s._a.shape[:-1], s._a.dtype), A._be)
        first, final = (T.select(s, dim=last, index=k) for k in (0, s._a.shape[-1] - 1))
        return final / first if p == -2 else first / final
    if not isinstance(p, str) and abs(p) not in (1, math.inf):
        raise RuntimeError(f"linalg.cond got an invalid norm type: {p}")
    check_matrices(A, "linalg.cond")
    if not A._a.size:
        return wrap(A._be.xp.zeros(A._a.shape[:-2], A._a.real.dtype), A._be)
    inverse, info = inv_ex(A)
    out = matrix_norm(A, p) * matrix_norm(T.drop_where(inverse, info.reshape(
        *info._a.shape, 1, 1) != 0), p)
    return T.masked_fill(out, info != 0, value=math.inf)
