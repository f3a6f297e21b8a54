"""Matrix products with PyTorch's arguments."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions.arguments import no_out


def matmul(input: Tensor, other: Any, *, out: Any = None) -> Tensor:
    """The @ operator: dot, matrix-vector, matrix or batched product, by the numbers of dims."""
    if out is not None:
        no_out("matmul", out)
    if not isinstance(other, Tensor):
        return NotImplemented
    n, m = input._a.ndim, other._a.ndim
    if n == m == 2:
        return T.mm(input, other)
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


def check_batched(a: Tensor, b: Tensor) -> None:
    if a._a.shape[-1] != b._a.shape[-2]:
        raise RuntimeError("Expected size for first two dimensions of batch2 tensor to be: "
                           f"[{', '.join(map(str, b._a.shape[:-2]))}, {a._a.shape[-1]}] but got: "
                           f"[{', '.join(map(str, b._a.shape[:-1]))}]: shapes {list(a._a.shape)} "
                           f"and {list(b._a.shape)} cannot be multiplied.")
    same_dtype(a, b)


def same_dtype(a: Tensor, b: Tensor) -> None:
    if a._a.dtype != b._a.dtype:
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
    if input._a.ndim != 1 or tensor._a.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {input._a.ndim}D and {tensor._a.ndim}D "
                           "tensors")
    if input._a.size != tensor._a.size:
        raise RuntimeError(f"inconsistent tensor size, expected tensor [{input._a.size}] and src "
                           f"[{tensor._a.size}] to have the same number of elements, but got "
                           f"{input._a.size} and {tensor._a.size} elements respectively")
    if input._a.dtype != tensor._a.dtype:
        raise RuntimeError("dot : expected both vectors to have same dtype, but found "
                           f"{type_name(input._a.dtype)} and {type_name(tensor._a.dtype)}")
    return T.dot(input, tensor)


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * (mat1 @ mat2)"""
    if beta == 1 and alpha == 1:
        return T.addmm(input, mat1, mat2)
    return T.addmm(input, mat1, mat2, beta=beta, alpha=alpha)


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """Every product of an element of one vector and one of the other."""
    if input._a.ndim != 1 or vec2._a.ndim != 1:
        name, x = ("self", input) if input._a.ndim != 1 else ("vec2", vec2)
        raise RuntimeError(f"outer: Expected 1-D argument {name}, but got {x._a.ndim}-D")
    return T.unsqueeze(input, dim=1) * vec2


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias: (..., in) with a weight (out, in) gives (..., out)."""
    w = T.t(weight) if weight._a.ndim == 2 else weight
    if input._a.ndim == 2 and weight._a.ndim == 2:
        return T.mm(input, w) if bias is None else T.addmm(bias, input, w)
    if weight._a.ndim == 1 or input._a.ndim < 2:
        out = matmul(input, w)
        return out if bias is None else out + bias
    rows = input.reshape(-1, input._a.shape[-1])
    out = T.mm(rows, w) if bias is None else T.addmm(bias, rows, w)
    return T.view(out, shape=(*input._a.shape[:-1], weight._a.shape[0]))
