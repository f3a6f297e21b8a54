"""CuPy's functions, made what the operations expect: results in their operands' order of memory and
dtype, reductions of ufuncs, views that have a base."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from gpugrad.layouts import memory_order

_AT_ONCE = 8        # arrays that CuPy joins without a table of them, which it copies from the host


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
        self._where = InOrder(cupy.where, cupy.ndarray, 3)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cupy, name)
        if isinstance(found, self._cupy.ufunc) and found.nout == 1 and name != "matmul":
            found = InOrder(found, self._cupy.ndarray, found.nin)
        setattr(self, name, found)                  # next time it is there
        return found

    # Of bfloat16 CuPy's where, tril and triu are float32.

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        out = self._where(condition, x, y)
        dtype = getattr(x, "dtype", out.dtype)
        return out if out.dtype == dtype or getattr(y, "dtype", dtype) != dtype else \
            out.astype(dtype)

    def tril(self, m: Any, k: int = 0) -> Any:
        return self._cupy.tril(m, k).astype(m.dtype, copy=False)

    def triu(self, m: Any, k: int = 0) -> Any:
        return self._cupy.triu(m, k).astype(m.dtype, copy=False)

    def concatenate(self, arrays: Any, axis: int = 0, out: Any = None) -> Any:
        join, n = self._cupy.concatenate, len(arrays)
        if n > _AT_ONCE and self._cupy.cuda.get_current_stream().is_capturing():
            arrays = [join(arrays[i:i + _AT_ONCE], axis) for i in range(0, n, _AT_ONCE)]
            return self.concatenate(arrays, axis, out)
        return join(arrays, axis, out)

    def stack(self, arrays: Any, axis: int = 0, out: Any = None) -> Any:
        return self.concatenate([self._cupy.expand_dims(a, axis) for a in arrays], axis, out)

    # CuPy's partitions count on the threads of a warp running in step, which they needn't.

    def argpartition(self, a: Any, kth: Any, axis: int = -1) -> Any:
        return self._cupy.argsort(a, axis)

    def partition(self, a: Any, kth: Any, axis: int = -1) -> Any:
        return self._cupy.sort(a, axis)


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
