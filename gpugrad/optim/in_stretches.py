"""A step by NumPy's calls: ``_update`` on one stretch of a parameter after the other, each so short
that it stays in the cache."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.dtypes import FLOATING, float32
from gpugrad.optim.options import of_parts


def step(update: Any, be: Any, climb: bool, values: tuple[float | None, ...],
         rows: list[list[Any]]) -> None:
    """Steps with the same numbers; a row: a parameter, its gradient and its state."""
    numbers: dict[Any, list[Any]] = {}
    for arrays in rows:
        a = arrays[0]
        n = numbers.get(a.dtype.char)
        if n is None:
            dtype = _work_dtype(a.dtype)
            n = numbers[a.dtype.char] = [None if v is None else be.number[v, dtype]
                                         for v in values]
        if a.dtype.kind == "c":
            arrays = [be.raw.view_as_real(x) for x in arrays]
            a = arrays[0]
        if not a.ndim:                       # NumPy turns 0-dim results into numbers
            arrays = [x.reshape(1) for x in arrays]
        chunk = be.chunk
        if a.size <= chunk:
            _run(update, be, arrays, climb, n)
        else:
            arrays = _flattened(be, arrays)
            length = len(arrays[0])
            some = max(1, chunk * length // a.size)

            def work(i: int, arrays: list[Any] = arrays, some: int = some, n: Any = n) -> None:
                _run(update, be, [x[i:i + some] for x in arrays], climb, n)

            be.share(work, range(0, length, some), a.size * be.element_cost)


def _run(update: Any, be: Any, arrays: list[Any], climb: bool, n: list[Any]) -> None:
    """The update of a stretch: of the parameter, its gradient and its state."""
    p, g, *state = work = arrays
    dtype = p.dtype
    if dtype.itemsize == 2:
        dtype = _work_dtype(dtype)
        p, g, *state = work = [a.astype(dtype) for a in arrays]
    xp, (decay, shrink, *n) = be.xp, n
    # For a small array new memory, which the allocator has at hand, is the faster scratch.
    small = p.size <= 4096
    u = xp.empty_like(p) if small else be.workspace("optim u", p.shape, dtype)
    if shrink is not None:
        p *= shrink
    if decay is not None or climb:
        out = xp.empty_like(p) if small else be.workspace("optim g", p.shape, dtype)
        if decay is None:
            g = xp.negative(g, out=out)
        else:
            xp.multiply(p, decay, out=out)
            g = (xp.subtract if climb else xp.add)(out, g, out=out)
    update(xp, p, g, state, u, n)
    if work is not arrays:
        arrays[0][...] = p
        for a, held in zip(arrays[2:], state):
            a[...] = held


def _work_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the arithmetic: float16 is updated in float32, complex numbers as two real ones.
    """
    if dtype.kind == "c":
        return of_parts(dtype)
    if dtype.kind not in FLOATING:
        raise NotImplementedError("optimizers update floating-point and complex parameters, not "
                                  f"{dtype.name}")
    return float32.np if dtype.itemsize == 2 else dtype


def _flattened(be: Any, arrays: list[Any]) -> list[Any]:
    """Arrays of one shape as 1-D views, if all are dense in the same order; else as they are."""
    strides = arrays[0].strides
    order = sorted(range(len(strides)), key=lambda i: -strides[i])
    turned = [a.transpose(order) for a in arrays]
    return [a.reshape(-1) for a in turned] if all(map(be.is_contiguous, turned)) else arrays
