"""A step of many parameters on the CPU by the compiled helper: one call, one pass over memory.

kernels/optimizer_steps.cuh has the arithmetic, the same text as on CUDA and in the same order as
``_update``'s; without fused multiplications and additions, so that even the bits are those of
NumPy.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.backend import compiled


def step_together(opt: Any, group: dict[str, Any], values: tuple[float | None, ...],
                  rows: list[list[Any]]) -> list[list[Any]]:
    """Step all rows that the kernel takes; return the others.

    A row: a parameter, its gradient and its state, arrays of one shape. ``values``: what
    ``_values`` says of the step.
    """
    library = compiled.library() if opt._kernel else None
    if library is None:
        return rows
    neutral = 0.0, 1.0, *opt._neutral               # what stands for a number that is None
    numbers = np.array([absent if v is None else v for v, absent in zip(values, neutral)],
                       np.float32)
    left = np.empty(len(rows), np.int64)
    getattr(library, "step_" + opt._kernel)(rows, numbers, left, group["maximize"],
                                            *opt._flags(group))
    return [row for row, alone in zip(rows, left.tolist()) if alone]
