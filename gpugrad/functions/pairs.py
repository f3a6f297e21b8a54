"""Pairs of vectors: distances, similarity, bilinear products; vectors of length 1, one-hot."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.out import into
from gpugrad.creation import arange, triu_indices
from gpugrad.functions.arguments import dim_of
from gpugrad.functions.shape import broadcast_tensors


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input1 @ weight[k] @ input2 + bias[k] for every output k.

    Shapes: (..., in1), (..., in2), weight (out, in1, in2), bias (out,); result (..., out).
    """
    out, in1, in2 = weight.shape
    if input1.shape[-1] != in1 or input2.shape[-1] != in2 or input1.shape[:-1] != input2.shape[:-1]:
        raise RuntimeError(f"bilinear(): inputs of size {list(input1.shape)} and "
                           f"{list(input2.shape)} don't fit a weight of size {list(weight.shape)}: "
                           f"expected [*, {in1}] and [*, {in2}] with the same leading dims")
    if bias is not None and bias.shape != (out,):
        raise RuntimeError("bilinear(): bias size does not match weight size: got "
                           f"{list(bias.shape)} but expected [{out}]")
    rows = input1.reshape(-1, in1) @ weight.permute(1, 0, 2).reshape(in1, out * in2)
    result = (rows.view(-1, out, in2) * input2.reshape(-1, 1, in2)).sum(-1, dtype=rows.dtype)
    result = result.view(*input1.shape[:-1], out)
    return result if bias is None else result + bias


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-08) -> Tensor:
    """The products of vectors along dim over those of their lengths, each at least eps."""
    if not (x1.is_floating_point() or x2.is_floating_point()) or \
            x1.is_complex() or x2.is_complex():
        raise RuntimeError(f"expected common dtype to be floating point, yet common dtype is "
                           f"{x1.dtype}")
    a, b = broadcast_tensors(x1, x2)
    if a.dtype is not b.dtype:
        a, b = a + b.new_zeros(()), b + a.new_zeros(())
    d = dim_of(dim, a.ndim)
    a, b = (x / x.norm(2, d, keepdim=True).clamp_min(eps) for x in (a, b))
    return (a * b).sum(d)


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-06,
                      keepdim: bool = False) -> Tensor:
    """The p-norm of x1 - x2 + eps over the last dim."""
    return (x1 - x2 + eps).norm(p, -1, keepdim)


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm distances of all pairs of rows i < j of (n, d), in order: (n * (n - 1) / 2,)."""
    if input.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.ndim}D")
    if not input.is_floating_point():
        raise RuntimeError("pdist only supports floating-point dtypes")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    n = input.shape[0]
    rows, columns = triu_indices(n, n, 1, device=input.device)
    return (input.index_select(0, rows) - input.index_select(0, columns)).norm(p, -1)


def normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12,
              out: Tensor | None = None) -> Tensor:
    """x over its p-norm along dim, or over eps where the norm is less."""
    unit = input / input.norm(p, dim, keepdim=True).clamp_min(eps).expand_as(input)
    return unit if out is None else into(out, unit, "normalize")


def one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """Classes (...) as (..., num_classes): 1 at the class, else 0; -1: the largest class + 1.

    On CUDA a given number of classes isn't checked, which would wait: of others no place is 1.
    """
    if input.dtype.name != "int64":
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if input.numel() == 0:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        return input.new_zeros((*input.shape, num_classes))
    if input.is_cpu or num_classes == -1:
        if input.min().item() < 0:
            raise RuntimeError("Class values must be non-negative.")
        largest = input.max().item()
        if num_classes == -1:
            num_classes = largest + 1
        elif largest >= num_classes:
            raise RuntimeError("Class values must be smaller than num_classes.")
    classes = arange(num_classes, device=input.device)
    return (input.unsqueeze(-1) == classes).to(input.dtype)
