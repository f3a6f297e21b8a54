"""CuPy's ufuncs: NumPy's, with the methods and keywords that CuPy has."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.cudasim.cupy._calls import SCALARS, Array, change, fresh, run, unwrap
from gpugrad.cudasim.cupy._numbers import exactly, is_narrow
from gpugrad.cudasim.state import switches


def operand(x: Any) -> Any:
    """An operand of a ufunc as NumPy takes it. TypeError for what isn't an array or a scalar."""
    if isinstance(x, Array):
        return x._a
    if type(x) in SCALARS or isinstance(x, np.generic):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


class ufunc:
    """A universal function of device arrays and scalars."""

    def __init__(self, host: Any, name: str, methods: Any = ()) -> None:
        self._host, self._methods = host, frozenset(methods)
        self.name = f"cupy_{name}"
        self.__name__ = name
        self.nin, self.nout, self.nargs = host.nin, host.nout, host.nargs
        self.__doc__ = host.__doc__

    @property
    def types(self) -> list[str]:
        return [t for t in self._host.types if not set(t) & set("gGOmMSUV")]

    def __repr__(self) -> str:
        return f"<ufunc '{self.name}'>"

    def __call__(self, *args: Any, **kw: Any) -> Any:
        if not kw and not switches.careful and len(args) == self.nin:
            r = self._host(*[a._a if isinstance(a, Array) else operand(a) for a in args],
                           order="C")                   # CuPy's new arrays are in C order
            return fresh(r) if self.nout == 1 else tuple(map(fresh, r))
        return self._call(args, kw)

    def _call(self, args: Any, kw: dict[str, Any]) -> Any:
        out, where, dtype, casting = (kw.pop(n, None) for n in ("out", "_where", "dtype",
                                                                "casting"))
        if kw:
            raise TypeError(f"Wrong arguments {kw}")
        if not self.nin <= len(args) <= self.nargs:
            raise TypeError(f"Wrong number of arguments for {self.name!r}. It must be either "
                            f"{self.nin} or {self.nargs} (with outputs), but given {len(args)}.")
        args, outs = args[:self.nin], args[self.nin:]
        if out is not None:
            if outs:
                raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
            outs = out if isinstance(out, tuple) else (out,)
        for a in args:
            operand(a)
        for a in outs:
            if a is not None and not isinstance(a, Array):
                raise TypeError("Output arguments must be cupy.ndarray")
        named: dict[str, Any] = {}
        if dtype is not None:
            named["dtype"] = dtype
        if casting is not None:
            named["casting"] = casting
        if where is not None:
            named["where"] = where
        if any(a is not None for a in outs):
            named["out"] = tuple(outs)
            if len(outs) != self.nout:
                raise ValueError("The 'out' tuple must have exactly one entry per ufunc output")
            if None in [a if a is None else 1 for a in outs]:
                raise NotImplementedError(f"{self.name} with some outputs given and some not")
        elif where is not None:
            raise NotImplementedError(f"{self.name} with _where, but without out")
        else:
            named["order"] = "C"
        r = run(self._host, args, named)
        return r[0] if isinstance(r, tuple) and self.nout == 1 else r

    def _has(self, method: str) -> None:
        if method not in self._methods:
            raise NotImplementedError(f"`{self.name}.{method}` is not supported yet")

    def reduce(self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None,
               keepdims: bool = False) -> Any:
        self._has("reduce")
        return (array.sum if self.__name__ == "add" else array.prod)(axis, dtype, out, keepdims)

    def accumulate(self, array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        self._has("accumulate")
        return (array.cumsum if self.__name__ == "add" else array.cumprod)(axis, dtype, out)

    def reduceat(self, array: Any, indices: Any, axis: int = 0, dtype: Any = None,
                 out: Any = None) -> Any:
        self._has("reduceat")
        return run(self._host.reduceat, (array, indices, axis), {"dtype": dtype, "out": out}
                   if out is not None else {"dtype": dtype})

    def at(self, a: Any, indices: Any, b: Any = None) -> None:
        self._has("at")
        operands: list[Any] = []
        where = unwrap(indices, operands)
        if isinstance(b, Array):
            operands.append(b)
        value = operand(b)
        change(a, lambda target: self._host.at(target, where, value), operands)

    def outer(self, A: Any, B: Any, **kw: Any) -> Any:
        return self(A.reshape(A.shape + (1,) * B.ndim), B.reshape((1,) * A.ndim + B.shape), **kw)


class MatMul(ufunc):
    """matmul, which sums float16 and bfloat16 in float32."""

    def __call__(self, *args: Any, **kw: Any) -> Any:
        if any([isinstance(a, Array) and is_narrow(a._a.dtype) for a in args]):
            out = kw.pop("out", args[2] if len(args) > 2 else None)
            for a in args[:2]:
                operand(a)
            return run(exactly(np.matmul), args[:2], kw if out is None else {"out": out, **kw})
        return super().__call__(*args, **kw)
