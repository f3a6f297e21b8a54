"""CuPy's functions: NumPy's of the same name, with the parameters that CuPy's have."""
from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.cudasim import state
from gpugrad.cudasim.cupy._array import product
from gpugrad.cudasim.cupy._calls import Array, change, run, unwrap
from gpugrad.cudasim.cupy._numbers import is_narrow, result_dtype
from gpugrad.cudasim.cupy._record import MODULES, UFUNCS, Parameters
from gpugrad.cudasim.cupy._ufuncs import MatMul, ufunc

# The host has to know how many elements there are.
_WAITS = frozenset(["nonzero", "flatnonzero", "argwhere", "unique", "unique_all", "unique_counts",
                    "unique_inverse", "unique_values", "compress", "extract", "trim_zeros",
                    "union1d", "intersect1d", "setdiff1d", "setxor1d", "place",
                    "bincount", "histogram", "unravel_index"])
_SORTS = frozenset(["sort", "argsort", "lexsort", "partition", "argpartition", "median",
                    "nanmedian", "isin"])
_AT_ONCE = 8                    # arrays that CuPy joins without a table of them in device memory
# Reductions and scans: the array's own methods, which sum float16 in float32.
_METHODS = {name: name for name in ("sum", "prod", "mean", "var", "std", "cumsum", "cumprod",
                                    "max", "min", "all", "any")} | {"amax": "max", "amin": "min"}
# On metadata, types and numbers alone: they take and return what NumPy's do.
_PLAIN = frozenset(["result_type", "promote_types", "can_cast", "finfo", "iinfo", "dtype",
                    "issubdtype", "isdtype", "broadcast_shapes", "isscalar", "min_scalar_type",
                    "common_type", "set_printoptions", "get_printoptions", "printoptions",
                    "ndindex", "iterable", "mintypecode", "typename", "base_repr", "binary_repr"])
_REFUSED = {
    "ElementwiseKernel": "write it as CUDA C++ for RawModule",
    "ReductionKernel": "write it as CUDA C++ for RawModule", "fuse": "call the operations",
    "vectorize": "write it as CUDA C++ for RawModule",
    "apply_along_axis": "call the operations with an axis",
    "save": "numpy.save(file, a.get())", "savez": "numpy.savez with a.get()",
}


def make(module: str, host: Any, name: str) -> Any:
    """The stand-in for ``<module>.<name>`` out of NumPy's ``host``. AttributeError if none."""
    recorded = MODULES[module]
    if name not in recorded:
        hint = f" (NumPy has one, CuPy {'' if module == 'cupy' else module + ' '}has none)" \
            if hasattr(host, name) else ""
        raise AttributeError(f"module '{module}' has no attribute {name!r}{hint}")
    if name in _REFUSED and module == "cupy":
        return _refuse(name, _REFUSED[name])
    found = getattr(host, name, None)
    if found is None or isinstance(found, types.ModuleType):
        raise NotImplementedError(f"{module}.{name} is in CuPy, but not in its stand-in for the "
                                  f"simulated device")
    if isinstance(found, np.ufunc) and name in UFUNCS:
        return (MatMul if name == "matmul" else ufunc)(found, name, UFUNCS[name])
    if not callable(found) or isinstance(found, type) or name in _PLAIN:
        return found
    return _function(name, found, recorded[name])


def _refuse(name: str, instead: str) -> Callable[..., Any]:
    def call(*args: Any, **kw: Any) -> Any:
        raise NotImplementedError(f"cupy.{name} is not in the stand-in for the simulated device: "
                                  f"{instead}")
    return call


def _function(name: str, host: Callable[..., Any], recorded: Any) -> Callable[..., Any]:
    parameters = None if recorded is None or any(
        p[0] == "*" and p[1:2] not in ("", "*") for p in recorded) else Parameters(name, recorded)
    method = _METHODS.get(name)

    def call(*args: Any, **kw: Any) -> Any:
        if parameters is not None and (kw or len(args) > 1):
            first = parameters.positional[:1]
            bound = parameters.bind(args, kw)
            out = bound.pop("out", None)        # by name: run() has to see it
            args = tuple([bound.pop(n) for n in first if n in bound])
            # Leave out what wasn't given, and name only what can't be given by position.
            rest, kw = _split(host, parameters, bound)
            args += rest
            if out is not None:
                kw["out"] = out
        if name in _WAITS:
            state.wait(f"{name}()")
        elif name in _SORTS:
            state.sorted_on_device(f"{name}()")
        if method is not None and args and isinstance(args[0], Array):
            return getattr(args[0], method)(*args[1:], **kw)
        return run(host, args, kw)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = host.__doc__
    return call


def _split(host: Any, parameters: Parameters, bound: dict[str, Any]) -> Any:
    """The arguments after the first: by position as far as none is missing and names agree."""
    order = _host_order(host)
    rest: list[Any] = []
    for place, n in enumerate(parameters.positional[1:], 1):
        if n not in bound or order[place:place + 1] not in ([n], [f"/{n}"]):
            if not (n in bound and order[place:place + 1] and order[place][:1] == "/"):
                break
        rest.append(bound.pop(n))
    # None is the default of what CuPy has and NumPy hasn't.
    return tuple(rest), {n: v for n, v in bound.items()
                         if v is not None or (n in order and n != "out")}


_orders: dict[Any, list[str]] = {}


def _host_order(host: Any) -> list[str]:
    """Names of a NumPy function's parameters, with "/" before those by position only."""
    found = _orders.get(host)
    if found is None:
        import inspect

        try:
            found = [("/" if p.kind is p.POSITIONAL_ONLY else "") + p.name
                     for p in inspect.signature(host).parameters.values()]
        except (TypeError, ValueError):
            found = ["/"] * 9               # compiled, and silent about it: everything by position
        _orders[host] = found
    return found


# Functions of their own --------------------------------------------------------------------------

def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    """x where the condition holds, else y; without them, the positions where it holds."""
    if x is None and y is None:
        return condition.nonzero()
    if x is None or y is None:
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    return run(_where, (condition, x, y), {})


def _where(*args: Any) -> Any:
    r = np.asarray(np.where(*args), order="C")          # as all new arrays of CuPy's ufuncs
    return r.astype(result_dtype("where", r.dtype), copy=False)


def tril(m: Any, k: int = 0) -> Any:
    return run(lambda a: np.tril(a, k).astype(result_dtype("tril", a.dtype), copy=False), (m,), {})


def triu(m: Any, k: int = 0) -> Any:
    return run(lambda a: np.triu(a, k).astype(result_dtype("triu", a.dtype), copy=False), (m,), {})


def concatenate(tup: Any, axis: Any = 0, out: Any = None, *, dtype: Any = None,
                casting: str = "same_kind") -> Any:
    if len(tup) > _AT_ONCE:
        state.copied("h2d", f"concatenate() of {len(tup)} arrays")
    how: dict[str, Any] = {"axis": axis, "casting": casting}
    if out is not None:
        how["out"] = out
    if dtype is not None:
        how["dtype"] = dtype
    return run(np.concatenate, (tup,), how)


def dot(a: Any, b: Any, out: Any = None) -> Any:
    return product(np.dot, a, b, out)


def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    return product(lambda x, y: np.tensordot(x, y, axes), a, b)


def einsum(*operands: Any, **kw: Any) -> Any:
    """einsum; sums of float16 are made in float32."""
    subscripts, *arrays = operands
    for n in kw:
        if n not in ("dtype", "optimize"):
            raise TypeError(f"Did not understand the following kwargs: {[n]}")
    narrow = [a for a in arrays if isinstance(a, Array) and is_narrow(a._a.dtype)]

    def f(*host: Any) -> Any:
        r = np.einsum(subscripts, *[h.astype(np.float32) if is_narrow(h.dtype) else h
                                    for h in host], **kw)
        r = np.array(r) if not isinstance(r, np.ndarray) or r.base is not None else r
        return r.astype(np.result_type(*host)) if narrow else r
    return run(f, tuple(arrays), {})


def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = None) -> None:
    operands: list[Any] = []
    value = unwrap(src, operands)
    mask = unwrap(where, operands)
    named = {"casting": casting, **({} if where is None else {"where": mask})}
    change(dst, lambda a: np.copyto(a, value, **named), operands)


def put_along_axis(arr: Any, indices: Any, values: Any, axis: Any) -> None:
    operands: list[Any] = []
    i, v = unwrap(indices, operands), unwrap(values, operands)
    change(arr, lambda a: np.put_along_axis(a, i, v, axis), operands)


def putmask(a: Any, mask: Any, values: Any) -> None:
    operands: list[Any] = []
    m, v = unwrap(mask, operands), unwrap(values, operands)
    state.wait("putmask()")
    change(a, lambda target: np.putmask(target, m, v), operands)


def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    operands: list[Any] = []
    v = unwrap(val, operands)
    change(a, lambda target: np.fill_diagonal(target, v, wrap), operands)


def _whole(name: str) -> Callable[..., Any]:
    """array_equal and the like: their results stay on the device."""
    host = getattr(np, name)

    def call(*args: Any, **kw: Any) -> Any:
        return run(lambda *a, **k: np.array(host(*a, **k)), args, kw)
    return call


allclose, array_equal, array_equiv = map(_whole, ("allclose", "array_equal", "array_equiv"))


def broadcast_to(array: Any, shape: Any) -> Any:
    """A view of another shape; one without repetitions can be written to."""
    def f(a: Any) -> Any:
        r = np.broadcast_to(a, shape)
        if not r.size or not any([s == 0 and n > 1 for s, n in zip(r.strides, r.shape)]):
            r.flags.writeable = True
        return r
    return run(f, (array,), {})


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return a.diagonal(offset, axis1, axis2)


def shape(a: Any) -> Any:
    return a.shape if isinstance(a, Array) else np.shape(a)     # type: ignore[attr-defined]


def ndim(a: Any) -> int:
    return a._a.ndim if isinstance(a, Array) else np.ndim(a)


def size(a: Any, axis: Any = None) -> int:
    return int(np.size(a._a if isinstance(a, Array) else a, axis))


def may_share_memory(a: Any, b: Any, max_work: Any = None) -> bool:
    return a._block is b._block and bool(np.may_share_memory(a._a, b._a))


def shares_memory(a: Any, b: Any, max_work: Any = None) -> bool:
    return a._block is b._block and bool(np.shares_memory(a._a, b._a))


def result_type(*arrays_and_dtypes: Any) -> Any:
    return np.result_type(*[x._a if isinstance(x, Array) else x for x in arrays_and_dtypes])


def can_cast(from_: Any, to: Any, casting: Any = "safe") -> bool:
    return np.can_cast(from_.dtype if isinstance(from_, Array)  # type: ignore[attr-defined]
                       else from_, to, casting)
