"""CuPy's functions, made what the operations expect: results in their operands' order of memory,
reductions of ufuncs, views that have a base."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from gpugrad.layouts import memory_order


def as_strided(a: Any, shape: Any, strides: Any) -> Any:
    """A view of a's memory, from its first element on: strides in bytes.

    CuPy's own has no base, as if nobody else had its memory.
    """
    view = a.view()
    view._set_shape_and_strides(tuple(shape), tuple(strides), True, True)
    return view


class Module:
    """CuPy's module, whose ufuncs have all the reductions that NumPy's have and CuPy's lack."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self.lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=as_strided))
        for ufunc, reduction in (("maximum", "max"), ("minimum", "min"), ("logical_and", "all"),
                                 ("logical_or", "any")):
            setattr(self, ufunc, Reducing(getattr(self, ufunc), getattr(cupy, reduction)))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cupy, name)
        if isinstance(found, self._cupy.ufunc) and found.nout == 1 and name != "matmul":
            found = InOrder(found, self._cupy.ndarray, found.nin)
        elif name == "where":
            found = InOrder(found, self._cupy.ndarray, 3)
        setattr(self, name, found)                  # next time it is there
        return found


def order_of(arrays: Any) -> list[int] | None:
    """The dims in the order in memory that a result of these arrays is to have; None: C order.

    As in PyTorch that is the order of the first of them that has one: no broadcast dims.
    """
    for a in arrays:
        if a.flags.c_contiguous:
            return None
        if all([s or n == 1 for s, n in zip(a.strides, a.shape)]):
            order = memory_order(a)
            return order if order != sorted(order) else None
    return None


class InOrder:
    """A ufunc whose new results lie in memory as its largest operand: CuPy's are in C order."""

    def __init__(self, ufunc: Any, ndarray: Any, nin: int) -> None:
        self._ufunc, self._ndarray, self._nin = ufunc, ndarray, nin

    def __call__(self, *args: Any, **kw: Any) -> Any:
        if not kw and len(args) == self._nin:
            for a in args:
                if isinstance(a, self._ndarray) and not a.flags.c_contiguous:
                    return self._in_order(args)
        return self._ufunc(*args, **kw)

    def _in_order(self, args: Any) -> Any:
        arrays = [a for a in args if isinstance(a, self._ndarray)]
        ndim, size = max([a.ndim for a in arrays]), max([a.size for a in arrays])
        order = order_of([a for a in arrays if a.ndim == ndim and a.size == size])
        if order is None:
            return self._ufunc(*args)
        y = self._ufunc(*[a[(None,) * (ndim - a.ndim)].transpose(order)
                          if getattr(a, "ndim", 0) else a for a in args])
        return y.transpose(np.argsort(order).tolist())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ufunc, name)


class Reducing:
    """A ufunc with ``reduce``."""

    def __init__(self, ufunc: Any, reduction: Any) -> None:
        self._ufunc, self._reduction = ufunc, reduction

    def __call__(self, *args: Any, **kw: Any) -> Any:
        return self._ufunc(*args, **kw)

    def reduce(self, x: Any, axis: Any = 0, dtype: None = None, out: Any = None,
               keepdims: bool = False) -> Any:
        return self._reduction(x, axis, out, keepdims)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ufunc, name)
