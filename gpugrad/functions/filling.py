"""Tensors filled with one number, in place."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.functions import indexing
from gpugrad.functions.arguments import number_of


def fill_(self: Tensor, value: Any) -> Tensor:
    """Every element set to a number."""
    if isinstance(value, Tensor):
        if value._a.ndim:
            raise RuntimeError("fill_ only supports 0-dimension value tensor but got tensor with "
                               f"{value._a.ndim} dimensions.")
        return indexing.copy_(self, value)
    return filled(self, number_of(value, self._a.dtype))


def filled(x: Tensor, value: Any) -> Tensor:
    """Every element set to a number, those that share a place (after expand) once."""
    if 0 in x._a.strides and not x._be.is_contiguous(x._a):
        part = x
        for d, (n, s) in enumerate(zip(x._a.shape, x._a.strides)):
            if s == 0 and n > 1:
                part = T.slice_(part, dim=d, start=0, stop=1)
        T.fill_(part, value=value)
        return x
    return T.fill_(x, value=value)


def zero_(self: Tensor) -> Tensor:
    """Every element set to 0."""
    return filled(self, 0)
