"""Tensors sorted into sets that kernels take together, and what is done to gradients that way."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gpugrad._tensor import Tensor, bump
from gpugrad.ops import gradients


def sets(tensors: list[Tensor]) -> Iterable[tuple[Any, bool, list[Tensor]]]:
    """(backend, whether their memory has no gaps, tensors) for each device, dtype and answer."""
    found: dict[Any, list[Tensor]] = {}
    for t in tensors:
        found.setdefault((t._be, t._a.dtype, t._be.is_dense(t._a)), []).append(t)
    return [(be, dense, some) for (be, _, dense), some in found.items()]


def bump_all(tensors: list[Tensor]) -> None:
    for t in tensors:
        bump(t)


def zero_(tensors: list[Tensor]) -> None:
    """Fill them with zeros: those of a GPU in a launch, or in a few. None may require gradients."""
    there = []
    for t in tensors:
        if t._be.index:
            there.append(t)
        else:
            t.zero_()
    for be, dense, some in sets(there):
        if dense and gradients.zero(be, [t._a for t in some]) is None:
            bump_all(some)
            continue
        for t in some:
            t.zero_()
