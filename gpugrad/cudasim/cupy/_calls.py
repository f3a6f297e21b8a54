"""Running NumPy's functions on device arrays: unwrap, call, wrap, and record while capturing."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.cudasim.cupy._blocks import fill_with_garbage, new_block, root_of
from gpugrad.cudasim.state import recording, switches, thread

BITS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64", "complex64", "complex128")
_BUILT_IN = frozenset([np.dtype(b) for b in BITS])
SCALARS = frozenset([int, float, bool, complex, *[np.dtype(b).type for b in BITS]])


class Array:
    """What device arrays consist of.

    _a: the host memory that nobody else sees, as an array. _block: the allocation. _base: the array
    that this one is a view of, or None.
    """

    __slots__ = ("__weakref__", "_a", "_base", "_block")
    _a: Any
    _base: Any
    _block: Any


_kind: Any = Array          # the class of device arrays, a subclass that registers itself here


def register(cls: Any) -> None:
    global _kind
    _kind = cls


def check_dtype(dtype: Any) -> Any:
    """The NumPy dtype. TypeError for what CuPy has no arrays of."""
    dtype = np.dtype(dtype)
    if dtype not in _BUILT_IN and dtype.name != "bfloat16" and not dtype.fields:
        raise TypeError(f"Unsupported dtype {dtype}")
    return dtype


def fresh(a: Any) -> Any:
    """A device array of the memory of ``a``, a NumPy array or scalar that nobody else has."""
    if type(a) is not np.ndarray:
        a = np.array(a)
    x = _kind.__new__(_kind)
    x._a = a
    x._base = None
    x._block = new_block(a)
    return x


def view(a: Any, of: Any) -> Any:
    """The device array of ``a``, a view of the memory of another one."""
    x = _kind.__new__(_kind)
    x._a = a
    x._base = of if of._base is None else of._base
    x._block = of._block
    return x


def wrap(r: Any, operands: Any) -> Any:
    """What a function of NumPy returned, as CuPy returns it."""
    if type(r) is np.ndarray:
        root = r if r.base is None else root_of(r)
        for x in operands:
            if x._block.root is root:
                return x if x._a is r else view(r, x)
        if r.dtype not in _BUILT_IN:
            check_dtype(r.dtype)
        x = _kind.__new__(_kind)
        x._a = r
        x._base = None
        x._block = new_block(root)
        return x
    if isinstance(r, np.generic):
        return fresh(r)
    if isinstance(r, (tuple, list)):
        return type(r)([wrap(v, operands) for v in r]) if type(r) in (tuple, list) else \
            tuple([wrap(v, operands) for v in r])       # NumPy's named tuples
    return r


def unwrap(x: Any, operands: list[Any]) -> Any:
    """An argument as NumPy takes it; device arrays are noted. TypeError for host arrays."""
    if isinstance(x, Array):
        operands.append(x)
        return x._a
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {np.ndarray}")
    if type(x) is tuple:
        return tuple([unwrap(v, operands) for v in x])
    if type(x) is list:
        return [unwrap(v, operands) for v in x]
    return x


def check_devices(operands: Any) -> None:
    """ValueError if an array isn't on the current device: no device reaches another's memory."""
    for x in operands:
        if x._block.device != thread.device:
            raise ValueError(
                f"The device where the array resides ({x._block.device}) is different from the "
                f"current device ({thread.device}). Peer access is unavailable between these "
                f"devices.")


def run(f: Callable[..., Any], args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """f of NumPy, called with device arrays; ``out`` may be among the keywords."""
    operands: list[Any] = []
    plain = tuple([unwrap(v, operands) for v in args])
    out = kw.get("out") if kw else None
    named = {n: unwrap(v, operands) for n, v in kw.items()} if kw else kw
    if not switches.careful:
        r = f(*plain, **named)
        return wrap(r, operands) if out is None else out
    graph = recording()
    if graph is not None:
        check_devices(operands)
        return _captured(graph, f, plain, named, operands, out)
    r = wrap(f(*plain, **named), operands)
    if out is not None or not _is_view(r, operands):
        check_devices(operands)
    return r if out is None else out


def _is_view(r: Any, operands: Any) -> bool:
    """Whether nothing was computed: views can be made of any device's arrays."""
    first = r[0] if isinstance(r, (tuple, list)) and r else r
    return isinstance(first, Array) and any([first._block is x._block for x in operands])


def _captured(graph: Any, f: Any, plain: Any, named: Any, operands: Any, out: Any) -> Any:
    """run while a stream is captured: nothing is computed before the replay.

    The function is called once all the same, for shapes, dtypes and errors.
    """
    if out is not None:
        tried = {**named, "out": _copied(named["out"])}
        _tried(lambda: f(*plain, **tried), operands)
        graph._add(lambda: f(*plain, **named), operands)
        return out
    r = _tried(lambda: f(*plain, **named), operands)
    result = wrap(r, operands)
    new = [x for x in (result if isinstance(result, (tuple, list)) else [result])
           if isinstance(x, Array) and all(x._block is not o._block for o in operands)]
    if new:
        targets = [x._a for x in new]
        for a in targets:
            fill_with_garbage(a)

        def again() -> None:
            got = f(*plain, **named)
            several = got if isinstance(got, (tuple, list)) else [got]
            for a, v in zip(targets, several):
                a[...] = v

        graph._add(again, operands, new)
    return result


def _tried(f: Callable[[], Any], operands: Any) -> Any:
    """f(), with zeros for indices if those that only the replay computes are out of range."""
    try:
        return f()
    except IndexError:
        indices = [x._a for x in operands if x._a.dtype.kind in "iu"]
        before = [a.copy() for a in indices]
        for a in indices:
            a[...] = 0
        try:
            return f()
        finally:
            for a, values in zip(indices, before):
                a[...] = values


def _copied(out: Any) -> Any:
    return tuple([a if a is None else a.copy() for a in out]) if isinstance(out, tuple) else \
        out.copy()


def change(target: Any, f: Callable[[Any], Any], operands: Any) -> None:
    """Let f write into the NumPy array of ``target``; while capturing, at the replay."""
    if switches.careful:
        check_devices((target, *operands))
        graph = recording()
        if graph is not None:
            _tried(lambda: f(target._a.copy()), operands)
            graph._add(lambda: f(target._a), (target, *operands))
            return
    f(target._a)
