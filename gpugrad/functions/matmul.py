"""Matrix products with PyTorch's arguments."""
from __future__ import annotations

import math
from typing import Any

from gpugrad._state import off, state
from gpugrad._tensor import Tensor
from gpugrad.autograd import casting
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions.arguments import common, dim_of
from gpugrad.ops.shape import check_expand


def matmul(input: Tensor, other: Any) -> Tensor:
    """The @ operator: dot, matrix-vector, matrix or batched product, by the numbers of dims."""
    try:
        n, m = input._a.ndim, other._a.ndim
    except AttributeError:                       # one of them is no tensor
        return NotImplemented
    if n == m == 2:
        return T.mm(input, other)
    if off[0] and state.casting is not None:
        input, other = casting.lowered(input, other)
    if n == 0 or m == 0:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {n}D "
                           f"and {m}D")
    if n == m == 1:
        return dot(input, other)
    if n == 2 and m == 1:
        return mv(input, other)
    if n == 1:
        return T.squeeze(matmul(T.unsqueeze(input, dim=0), other), dim=(max(m - 2, 0),))
    if m <= 2:                                   # (..., k) @ (k, n): one product of matrices
        if m == 1:
            return T.squeeze(matmul(input, T.unsqueeze(other, dim=1)), dim=(n - 1,))
        rows = input.reshape(-1, input._a.shape[-1])
        return T.unsafe_view(T.mm(rows, other), shape=(*input._a.shape[:-1], other._a.shape[1]))
    check_batched(input, other)
    return T.bmm(input, other)


def not_matmul(x: Tensor, y: Any) -> Any:
    """something @ tensor: a tensor on the left would have answered."""
    return NotImplemented


def check_batched(a: Tensor, b: Tensor) -> None:
    if a._a.shape[-1] != b._a.shape[-2]:
        raise RuntimeError("Expected size for first two dimensions of batch2 tensor to be: "
                           f"[{', '.join(map(str, b._a.shape[:-2]))}, {a._a.shape[-1]}] but got: "
                           f"[{', '.join(map(str, b._a.shape[:-1]))}]: shapes {list(a._a.shape)} "
                           f"and {list(b._a.shape)} cannot be multiplied.")
    same_dtype(a, b)


def same_dtype(a: Tensor, b: Tensor) -> None:
    if a._a.dtype != b._a.dtype and state.casting is None:
        raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {a.dtype.name} != "
                           f"{b.dtype.name}: convert one of them, as in x.to(y.dtype)")


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices."""
    if input._a.ndim != 2:
        raise RuntimeError("self must be a matrix")
    if mat2._a.ndim != 2:
        raise RuntimeError("mat2 must be a matrix")
    return T.mm(input, mat2)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices: (b, n, k) and (b, k, m)."""
    if input._a.ndim != 3 or mat2._a.ndim != 3:
        raise RuntimeError("batch1 must be a 3D tensor" if input._a.ndim != 3 else
                           "batch2 must be a 3D tensor")
    if input._a.shape[0] != mat2._a.shape[0]:
        raise RuntimeError("Expected size for first two dimensions of batch2 tensor to be: "
                           f"[{input._a.shape[0]}, {input._a.shape[2]}] but got: "
                           f"[{mat2._a.shape[0]}, {mat2._a.shape[1]}].")
    check_batched(input, mat2)
    return T.bmm(input, mat2)


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """A matrix times a vector."""
    if input._a.ndim != 2 or vec._a.ndim != 1 or input._a.shape[1] != vec._a.shape[0]:
        raise RuntimeError(f"size mismatch, got input ({input._a.shape[0]}), mat "
                           f"({'x'.join(map(str, input._a.shape))}), vec ({vec._a.size})")
    same_dtype(input, vec)
    return T.mv(input, vec)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The sum of the products of two vectors."""
    check_vectors(input, tensor, "dot")
    return T.dot(input, tensor)


def check_factors(name: str, x: Tensor, **factors: Any) -> None:
    """beta and alpha must be whole numbers for integers."""
    if x._a.dtype.kind in "iub":
        for which, v in factors.items():
            if isinstance(v, float | complex):
                raise RuntimeError(f"For integral input tensors, argument {which} must not be a "
                                   f"floating point number, but {name}() got {v}")


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * (mat1 @ mat2)"""
    if beta == 1 and alpha == 1:
        return T.addmm(input, mat1, mat2)
    check_factors("addmm", input, beta=beta, alpha=alpha)
    return T.addmm(input, mat1, mat2, beta=beta, alpha=alpha)


def _check_addmv(input: Tensor, mat: Tensor, vec: Tensor, beta: Any, alpha: Any) -> None:
    if mat._a.ndim != 2 or vec._a.ndim != 1 or mat._a.shape[1] != vec._a.size:
        raise RuntimeError(f"size mismatch, got input ({input._a.size}), mat "
                           f"({'x'.join(map(str, mat._a.shape))}), vec ({vec._a.size})")
    _check_sum("addmv", input, mat, vec, (mat._a.shape[0],), beta, alpha)


def _check_sum(name: str, input: Tensor, a: Tensor, b: Tensor, shape: tuple[int, ...], beta: Any,
               alpha: Any) -> None:
    """The dtypes of a sum with a product, its factors, and whether input broadcasts to it."""
    for t, other in ((a, b), (input, a)):
        if t._a.dtype != other._a.dtype and state.casting is None:
            raise RuntimeError(f"{name}: self, {'mat' if name == 'addmv' else 'batch1'} and the "
                               "other operand must have the same dtype, but got "
                               f"{type_name(t._a.dtype)} and {type_name(other._a.dtype)}: convert "
                               "one of them, as in x.to(y.dtype)")
    check_factors(name, input, beta=beta, alpha=alpha)
    check_expand(input._a.shape, shape)


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * (mat @ vec)"""
    _check_addmv(input, mat, vec, beta, alpha)
    return T.addmv(input, mat, vec, beta=beta, alpha=alpha)


def _addr_operands(input: Tensor, vec1: Tensor, vec2: Tensor, beta: Any, alpha: Any) -> Any:
    for name, v in (("vec1", vec1), ("vec2", vec2)):
        if v._a.ndim != 1:
            raise RuntimeError(f"addr: Expected 1-D argument {name}, but got {v._a.ndim}-D")
    both = common(input, vec1, vec2)
    check_factors("addr", both[0], beta=beta, alpha=alpha)
    check_expand(input._a.shape, (vec1._a.size, vec2._a.size))
    return both


def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * outer(vec1, vec2)"""
    return T.addr(*_addr_operands(input, vec1, vec2, beta, alpha), beta=beta, alpha=alpha)


def _check_batches(name: str, input: Tensor, a: Tensor, b: Tensor, beta: Any, alpha: Any) -> None:
    for which, t in (("batch1", a), ("batch2", b)):
        if t._a.ndim != 3:
            raise RuntimeError(f"{which} must be a 3D tensor")
    if a._a.shape[0] != b._a.shape[0] or a._a.shape[2] != b._a.shape[1]:
        raise RuntimeError("Expected size for first two dimensions of batch2 tensor to be: "
                           f"[{a._a.shape[0]}, {a._a.shape[2]}] but got: "
                           f"[{b._a.shape[0]}, {b._a.shape[1]}].")
    shape = (a._a.shape[1], b._a.shape[2])
    _check_sum(name, input, a, b, (a._a.shape[0], *shape) if name == "baddbmm" else shape, beta,
               alpha)


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1,
            out_dtype: Any = None) -> Tensor:
    """beta * input + alpha * (batch1 @ batch2), for batches of matrices."""
    if out_dtype is not None:
        raise NotImplementedError("baddbmm(out_dtype=...) is not supported: convert the operands")
    _check_batches("baddbmm", input, batch1, batch2, beta, alpha)
    return T.baddbmm(input, batch1, batch2, beta=beta, alpha=alpha)


def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1,
           alpha: Any = 1) -> Tensor:
    """beta * input + alpha * (the sum of batch1 @ batch2 over the batch)"""
    _check_batches("addbmm", input, batch1, batch2, beta, alpha)
    return T.addbmm(input, batch1, batch2, beta=beta, alpha=alpha)


def addmm_(x: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    check_factors("addmm_", x, beta=beta, alpha=alpha)
    return T.addmm_(x, mat1, mat2, beta=beta, alpha=alpha)


def addmv_(x: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    _check_addmv(x, mat, vec, beta, alpha)
    return T.addmv_(x, mat, vec, beta=beta, alpha=alpha)


def addr_(x: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    first, *vectors = _addr_operands(x, vec1, vec2, beta, alpha)
    if first is not x:
        raise RuntimeError(f"result type {type_name(first._a.dtype)} can't be cast to the desired "
                           f"output type {type_name(x._a.dtype)}")
    return T.addr_(x, *vectors, beta=beta, alpha=alpha)


def baddbmm_(x: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1,
             alpha: Any = 1) -> Tensor:
    _check_batches("baddbmm", x, batch1, batch2, beta, alpha)
    return T.baddbmm_(x, batch1, batch2, beta=beta, alpha=alpha)


def addbmm_(x: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    _check_batches("addbmm", x, batch1, batch2, beta, alpha)
    return T.addbmm_(x, batch1, batch2, beta=beta, alpha=alpha)


def vdot(input: Tensor, other: Tensor) -> Tensor:
    """The sum of the products of two vectors, the first one conjugated."""
    if not (input.is_complex() and other.is_complex()):
        return dot(input, other)
    check_vectors(input, other, "vdot")
    return T.vdot(input, other)


def inner(input: Tensor, other: Tensor) -> Tensor:
    """The sums of products over the last dims of both; of a number and a tensor their product."""
    if not input._a.ndim or not other._a.ndim:
        return input * other
    if input._a.shape[-1] != other._a.shape[-1]:
        raise RuntimeError("inner() the last dimension must match on both input tensors but got "
                           f"shapes {list(input._a.shape)} and {list(other._a.shape)}")
    return tensordot(input, other, ([-1], [-1]))


def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Sums of products over some dims of a and b: how many last and first ones, or two lists."""
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(a._a.ndim, b._a.ndim):
            raise RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}")
        dims = (list(range(-dims, 0)), list(range(dims)))
    first, second = [[d] if isinstance(d, int) else list(d) for d in dims]
    if len(first) != len(second):
        raise RuntimeError("both dimension lists should have same length, but got "
                           f"{first} and {second}")
    same_dtype(a, b)
    for i, j in zip(first, second):
        n, m = a._a.shape[dim_of(i, a._a.ndim)], b._a.shape[dim_of(j, b._a.ndim)]
        if n != m and 1 not in (n, m):
            raise RuntimeError("contracted dimensions need to match, but first has size "
                               f"{n} in dim {i} and second has size {m} in dim {j}")
        if n != m:                               # as in PyTorch, a dim of 1 is broadcast
            a = a if n == 1 else T.sum(a, dim=(dim_of(i, a._a.ndim),), keepdim=True)
            b = b if m == 1 else T.sum(b, dim=(dim_of(j, b._a.ndim),), keepdim=True)
    left = [dim_of(d, a._a.ndim) for d in first]
    right = [dim_of(d, b._a.ndim) for d in second]
    rows = [d for d in range(a._a.ndim) if d not in left]
    columns = [d for d in range(b._a.ndim) if d not in right]
    shape = [a._a.shape[d] for d in rows] + [b._a.shape[d] for d in columns]
    k = math.prod([a._a.shape[d] for d in left])
    x = a.permute(rows + left).reshape(math.prod(shape[:len(rows)]), k)
    y = b.permute(right + columns).reshape(k, math.prod(shape[len(rows):]))
    return T.mm(x, y).reshape(shape)


def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: every element of input times all of other, as blocks."""
    n = max(input._a.ndim, other._a.ndim)
    a = (1,) * (n - input._a.ndim) + input._a.shape
    b = (1,) * (n - other._a.ndim) + other._a.shape
    x = input.reshape([v for s in a for v in (s, 1)])
    y = other.reshape([v for s in b for v in (1, s)])
    return (x * y).reshape([i * j for i, j in zip(a, b)])


def trace(input: Tensor) -> Tensor:
    """The sum of a matrix's diagonal."""
    if input._a.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {input._a.ndim}")
    return T.trace(input)


def check_vectors(a: Tensor, b: Tensor, name: str) -> None:
    """Two vectors of one length and one dtype."""
    if a._a.ndim != 1 or b._a.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {a._a.ndim}D and {b._a.ndim}D tensors")
    if a._a.size != b._a.size:
        raise RuntimeError(f"inconsistent tensor size, expected tensor [{a._a.size}] and src "
                           f"[{b._a.size}] to have the same number of elements, but got "
                           f"{a._a.size} and {b._a.size} elements respectively")
    if a._a.dtype != b._a.dtype and state.casting is None:
        raise RuntimeError(f"{name} : expected both vectors to have same dtype, but found "
                           f"{type_name(a._a.dtype)} and {type_name(b._a.dtype)}")


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """Every product of an element of one vector and one of the other."""
    if input._a.ndim != 1 or vec2._a.ndim != 1:
        name, x = ("self", input) if input._a.ndim != 1 else ("vec2", vec2)
        raise RuntimeError(f"outer: Expected 1-D argument {name}, but got {x._a.ndim}-D")
    return T.unsqueeze(input, dim=1) * vec2


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias: (..., in) with a weight (out, in) gives (..., out)."""
    if off[0] and state.casting is not None:     # here, so that the whole weight is converted once
        input, weight, bias = casting.lowered(input, weight, bias)
    w = T.t(weight) if weight._a.ndim == 2 else weight
    if input._a.ndim == 2 and weight._a.ndim == 2:
        return T.mm(input, w) if bias is None else T.addmm(bias, input, w)
    if weight._a.ndim == 1 or input._a.ndim < 2:
        out = matmul(input, w)
        return out if bias is None else out + bias
    rows = input.reshape(-1, input._a.shape[-1])
    out = T.mm(rows, w) if bias is None else T.addmm(bias, rows, w)
    return T.view(out, shape=(*input._a.shape[:-1], weight._a.shape[0]))
