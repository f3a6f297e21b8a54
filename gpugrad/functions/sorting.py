"""Sorting and selection with PyTorch's arguments."""
from __future__ import annotations

from typing import Any

from gpugrad import dtypes
from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.functions.arguments import dim_of, return_type

_sort, _topk, _kthvalue = (return_type(name, "values", "indices")
                           for name in ("sort", "topk", "kthvalue"))


def _comparable(x: Tensor, name: str) -> None:
    if x._a.dtype.kind == "c":
        raise RuntimeError(f" {name} does not support complex dtypes on {x.device.type.upper()}")


def sort(input: Tensor, dim: int = -1, descending: bool = False, *,
         stable: bool | None = False) -> Any:
    """(values sorted along dim, their indices). Always stable; a NaN is greater than all numbers.

    ``stable`` counts for the name in the graph alone, which is PyTorch's.
    """
    _comparable(input, "Sort")
    made = T.sort if stable is False else T.sort_stable
    return _sort(made(input, dim=dim_of(dim, input._a.ndim), descending=bool(descending)))


def argsort(input: Tensor, dim: int = -1, descending: bool = False, *,
            stable: bool = False) -> Tensor:
    """The indices that sort the input along dim."""
    _comparable(input, "Sort")
    return T.argsort(input, dim=dim_of(dim, input._a.ndim), descending=bool(descending))


def msort(input: Tensor) -> Tensor:
    """The input sorted along its first dim."""
    values: Tensor = sort(input, 0)[0]
    return values


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """(the k largest or smallest elements along dim, their indices), always in order."""
    _comparable(input, "topk")
    if input._a.dtype == dtypes.bool.np:
        raise RuntimeError(f"topk does not support bool dtypes on {input.device.type.upper()}")
    shape, d = input._a.shape, dim_of(-1 if dim is None else dim, input._a.ndim)
    if not 0 <= k <= (shape[d] if shape else 1):
        raise RuntimeError("selected index k out of range")
    return _topk(T.topk(input, k=int(k), dim=d, largest=bool(largest)))


def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """(the k-th smallest elements along dim, their indices); k counts from 1."""
    if input._a.dtype.kind in "bc":
        raise NotImplementedError("\"kthvalue_cpu\" not implemented for "
                                  f"'{dtypes.type_name(input._a.dtype)}'")
    shape, d = input._a.shape, dim_of(-1 if dim is None else dim, input._a.ndim)
    if shape and not shape[d]:
        raise IndexError(f"kthvalue(): Expected reduction dim {d} to have non-zero size.")
    if not 1 <= k <= (shape[d] if shape else 1):
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {d}")
    return _kthvalue(T.kthvalue(input, k=int(k), dim=d, keepdim=bool(keepdim)))
