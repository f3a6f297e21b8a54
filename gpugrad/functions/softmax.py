"""softmax and log_softmax over one dim."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.functions.arguments import dim_of


def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """exp(x) over its sum along dim; cast to dtype first if it is given."""
    x = floating(input, dtype, "softmax")
    return T.softmax(x, dim=dim_of(dim, x.ndim))


def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """log(softmax(x)), without overflow or loss of precision."""
    x = floating(input, dtype, "log_softmax")
    return T.log_softmax(x, dim=dim_of(dim, x.ndim))


def floating(x: Tensor, dtype: Any, name: str) -> Tensor:
    """x, cast if a dtype is given; NotImplementedError unless it is floating-point."""
    if dtype is not None:
        x = x.to(dtype)
    if not x.is_floating_point():
        raise NotImplementedError(f'"{name}" not implemented for {x.dtype}: make the input '
                                  "floating-point, as in x.float()")
    return x
