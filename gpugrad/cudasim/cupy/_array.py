"""The device array: opaque to NumPy, with the methods that CuPy's has."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpugrad.cudasim import state
from gpugrad.cudasim.cupy import _calls
from gpugrad.cudasim.cupy._blocks import empty
from gpugrad.cudasim.cupy._calls import (
    SCALARS,
    Array,
    change,
    check_dtype,
    fresh,
    run,
    unwrap,
    view,
)
from gpugrad.cudasim.cupy._numbers import exactly, is_narrow, result_dtype
from gpugrad.cudasim.cupy._record import CLASSES, Parameters
from gpugrad.cudasim.cupy._ufuncs import operand
from gpugrad.cudasim.cupy.cuda._pinned import is_pinned
from gpugrad.cudasim.state import recording, switches

_PLAIN_KEYS = frozenset([int, slice, type(None), type(...)])


class Flags:
    """How an array's memory is laid out."""

    __slots__ = ("c_contiguous", "f_contiguous", "owndata")

    def __init__(self, c: bool, f: bool, own: bool) -> None:
        self.c_contiguous, self.f_contiguous, self.owndata = c, f, own

    @property
    def forc(self) -> bool:
        return self.c_contiguous or self.f_contiguous

    @property
    def fnc(self) -> bool:
        return self.f_contiguous and not self.c_contiguous

    def __getitem__(self, name: str) -> bool:
        return bool(getattr(self, {"C": "c_contiguous", "F": "f_contiguous",
                                   "O": "owndata"}.get(name[:1], name)))

    def __repr__(self) -> str:
        return (f"  C_CONTIGUOUS : {self.c_contiguous}\n  F_CONTIGUOUS : {self.f_contiguous}\n"
                f"  OWNDATA : {self.owndata}")


class ndarray(Array):
    """An array in simulated device memory. NumPy can't see into it; ``get()`` copies it out."""

    __slots__ = ()
    __array_priority__ = 100
    __hash__ = None                                             # type: ignore[assignment]
    __module__ = "cupy"

    def __init__(self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None,
                 order: str = "C") -> None:
        dtype = check_dtype(dtype)
        if memptr is None:
            if strides is not None:
                raise NotImplementedError("ndarray() with strides, but without memptr: use "
                                          "cupy.lib.stride_tricks.as_strided")
            made = fresh(empty(shape, dtype, order))
            self._a, self._base, self._block = made._a, None, made._block
            return
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        block = memptr.mem._block
        if strides is None and order == "F":
            strides = np.empty(shape, dtype, "F").strides
        room = block.array.ravel("K").view(np.uint8)    # all of it, in whichever order it lies
        self._a = np.ndarray(shape, dtype, room, memptr._offset, strides)
        self._base, self._block = None, block

    # What it is ----------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self._a.shape

    @shape.setter
    def shape(self, value: Any) -> None:
        self._a = self._a.view()
        self._a.shape = value

    def _set_shape_and_strides(self, shape: Any, strides: Any, update_c_contiguity: bool,
                               update_f_contiguity: bool) -> None:
        self._a = np.lib.stride_tricks.as_strided(self._a, shape, strides)

    @property
    def dtype(self) -> Any:
        return self._a.dtype

    @property
    def ndim(self) -> int:
        return self._a.ndim

    @property
    def size(self) -> int:
        return self._a.size

    @property
    def nbytes(self) -> int:
        return self._a.nbytes

    @property
    def itemsize(self) -> int:
        return self._a.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        return self._a.strides

    @property
    def flags(self) -> Flags:
        flags = self._a.flags
        return Flags(flags.c_contiguous, flags.f_contiguous, self._base is None)

    @property
    def T(self) -> Any:
        return view(self._a.T, self)

    @property
    def mT(self) -> Any:
        return view(self._a.mT, self)

    @property
    def real(self) -> Any:
        return view(self._a.real, self) if self._a.dtype.kind == "c" else self

    @property
    def imag(self) -> Any:
        return run(lambda a: a.imag, (self,), {})

    @property
    def base(self) -> Any:
        return self._base

    @property
    def data(self) -> Any:
        from gpugrad.cudasim.cupy._modules import adopt
        from gpugrad.cudasim.cupy.cuda.memory import BlockMemory, MemoryPointer

        adopt(self)             # a struct may carry the address to a kernel
        block = self._block
        graph = recording()
        if graph is not None:
            graph._use(block)
        at = self._a.__array_interface__["data"][0]
        return MemoryPointer(BlockMemory(block), at - block.address)

    @property
    def device(self) -> Any:
        from gpugrad.cudasim.cupy.cuda._devices import Device

        return Device(self._block.device)

    @property
    def flat(self) -> Any:
        raise NotImplementedError("ndarray.flat: use ravel()")

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "version": 3, "stream": 1,
                "data": (self._a.__array_interface__["data"][0], False),
                "strides": None if self._a.flags.c_contiguous else self.strides}

    def __len__(self) -> int:
        if not self._a.ndim:
            raise TypeError("len() of unsized object")
        return len(self._a)

    def __iter__(self) -> Iterator[Any]:
        if not self._a.ndim:
            raise TypeError("iteration over a 0-d array")
        return iter([self[i] for i in range(len(self._a))])

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()

    def __reduce__(self) -> Any:
        from gpugrad.cudasim.cupy import array

        return array, (self.get(),)

    # NumPy may not look inside -------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` "
                        "to construct a NumPy array explicitly.")

    def __array_ufunc__(self, host: Any, method: str, *inputs: Any, **kw: Any) -> Any:
        from gpugrad.cudasim import cupy

        f = cupy.ufuncs.get(host.__name__)
        if f is None:
            return NotImplemented
        if "out" in kw:
            if len(kw["out"]) != 1:
                raise ValueError("The 'out' parameter must have exactly one array value")
            kw["out"] = kw["out"][0]
            if not isinstance(kw["out"], Array):
                raise TypeError("Output arguments must be cupy.ndarray")
        if any(type(x) not in SCALARS and not isinstance(x, (Array, np.ndarray)) for x in inputs):
            return NotImplemented
        return (f if method == "__call__" else getattr(f, method))(*inputs, **kw)

    def __array_function__(self, host: Any, types: Any, args: Any, kw: Any) -> Any:
        from gpugrad.cudasim import cupy

        owner: Any = cupy
        for part in host.__module__.split(".")[1:]:
            owner = getattr(owner, part, None)
        f = getattr(owner, host.__name__, None)
        return NotImplemented if f is None else f(*args, **kw)

    # The host reads and writes -------------------------------------------------------------------

    def get(self, stream: Any = None, order: str = "C", out: Any = None,
            blocking: bool = True) -> Any:
        if out is not None:
            if not isinstance(out, np.ndarray):
                raise TypeError("Only numpy.ndarray can be obtained fromcupy.ndarray")
            if out.dtype != self.dtype:
                raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
            if out.shape != self.shape:
                raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, actual shape: "
                                 f"{out.shape}")
            if not blocking and is_pinned(out):
                state.copied("d2h", ".get()", stream)
                out[...] = self._a
                return out
        if blocking:
            state.wait(".get()", stream)
        state.copied("d2h", ".get()", stream)
        if out is None:
            return self._a.copy(order if order != "A" or not self._a.flags.fnc else "F")
        out[...] = self._a
        return out

    def set(self, arr: Any, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self._a.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        state.copied("h2d", ".set()", stream)
        self._a[...] = arr

    def _read(self, what: str) -> Any:
        state.wait(what)
        state.counts.d2h += 1
        return self._a

    def item(self) -> Any:
        if self._a.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self._read(".item()").item()

    def tolist(self) -> Any:
        return self._read(".tolist()").tolist()

    def tobytes(self, order: str = "C") -> bytes:
        return bytes(self._read(".tobytes()").tobytes(order))

    def __float__(self) -> float:
        return float(self._read("float()").item())

    def __int__(self) -> int:
        return int(self._read("int()").item())

    def __complex__(self) -> complex:
        return complex(self._read("complex()").item())

    def __bool__(self) -> bool:
        return bool(self._read("bool()"))

    def __format__(self, spec: str) -> str:
        return format(self._read("format()").item() if not self._a.ndim else self.get(), spec)

    def __repr__(self) -> str:
        return repr(self._read("repr()"))

    def __str__(self) -> str:
        return str(self._read("str()"))

    # Indexing ------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        a = self._a
        for k in key if type(key) is tuple else (key,):
            if type(k) not in _PLAIN_KEYS:
                return self._picked(key)
        r = a[key]
        if type(r) is not np.ndarray:                           # one element: a view, as in CuPy
            r = a[(*key, ...) if type(key) is tuple else (key, ...)]
        if not r.flags.writeable and not any([s == 0 and n > 1 for s, n in zip(r.strides,
                                                                               r.shape)]):
            r.flags.writeable = True                            # a part without repetitions
        return view(r, self)

    def _picked(self, key: Any) -> Any:
        operands: list[Any] = []
        key, simple = _plain_key(key, operands, reading=True)
        if simple:
            return self[key]
        return run(lambda a, *_: np.array(a[key], order="C"), (self, *operands), {})

    def __setitem__(self, key: Any, value: Any) -> None:
        operands: list[Any] = []
        key, _ = _plain_key(key, operands, reading=False)
        if isinstance(value, Array):
            operands.append(value)
            value = value._a
        elif not isinstance(value, (int, float, complex, np.generic)):
            value = np.asarray(value, self.dtype)
            if value.shape:
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            value = value[()]
        parts = key if isinstance(key, tuple) else (key,)
        if any([isinstance(k, np.ndarray) and k.dtype.kind == "b" for k in parts]):
            state.wait("a[mask] = ...")             # CuPy looks where it is True

        def write(a: Any) -> None:
            a[key] = value

        change(self, write, operands)

    # Methods that write --------------------------------------------------------------------------

    def fill(self, value: Any) -> None:
        if isinstance(value, Array) and value.shape:            # type: ignore[attr-defined]
            raise ValueError("non-scalar cupy.ndarray cannot be used for fill")
        self[...] = value

    def sort(self, axis: int = -1, kind: Any = None) -> None:
        state.sorted_on_device(".sort()")
        change(self, lambda a: a.sort(axis), ())

    def partition(self, kth: Any, axis: int = -1) -> None:
        state.sorted_on_device(".partition()")
        change(self, lambda a: a.partition(kth, axis), ())

    def put(self, indices: Any, values: Any, mode: Any = "wrap") -> None:
        operands: list[Any] = []
        i = unwrap(indices, operands)
        v = unwrap(values, operands)
        change(self, lambda a: np.put(a, i, v, mode), operands)

    def scatter_add(self, slices: Any, value: Any) -> None:
        self._scatter(np.add, slices, value)

    def scatter_max(self, slices: Any, value: Any) -> None:
        self._scatter(np.maximum, slices, value)

    def scatter_min(self, slices: Any, value: Any) -> None:
        self._scatter(np.minimum, slices, value)

    def _scatter(self, f: Any, key: Any, value: Any) -> None:
        operands: list[Any] = []
        key, _ = _plain_key(key, operands, reading=False)
        if isinstance(value, Array):
            operands.append(value)
        value = operand(value)
        change(self, lambda a: f.at(a, key, value), operands)

    # Shapes --------------------------------------------------------------------------------------

    def reshape(self, *shape: Any, order: str = "C", copy: Any = None) -> Any:
        shape = shape[0] if len(shape) == 1 else shape
        if not switches.careful:
            r = self._a.reshape(shape, order=order)
            return view(r, self) if np.may_share_memory(r, self._a) else fresh(r)
        return run(lambda a: a.reshape(shape, order=order), (self,), {})

    def transpose(self, *axes: Any) -> Any:
        return view(self._a.transpose(*axes), self)

    def swapaxes(self, axis1: int, axis2: int) -> Any:
        return view(self._a.swapaxes(axis1, axis2), self)

    def squeeze(self, axis: Any = None) -> Any:
        return view(self._a.squeeze(axis), self)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
        r = self._a.diagonal(offset, axis1, axis2)
        r.flags.writeable = True                                # as CuPy's are
        return view(r, self)

    def view(self, dtype: Any = None, type: Any = None) -> Any:
        return view(self._a.view() if dtype is None else self._a.view(check_dtype(dtype)),
                    self)

    def copy(self, order: str = "C") -> Any:
        return run(lambda a: a.copy(order), (self,), {})

    def astype(self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None,
               copy: bool = True) -> Any:
        if casting is not None:
            raise TypeError("casting is not supported yet")
        if subok is not None:
            raise TypeError("subok is not supported yet")
        dtype = check_dtype(dtype)
        if not copy and dtype == self.dtype:
            return self
        return run(lambda a: a.astype(dtype, order), (self,), {})

    def reduced_view(self, dtype: Any = None) -> Any:
        raise NotImplementedError("ndarray.reduced_view")

    # Others --------------------------------------------------------------------------------------

    def dot(self, b: Any, out: Any = None) -> Any:
        return product(np.dot, self, b, out)

    def nonzero(self) -> Any:
        state.wait("nonzero()")
        return run(lambda a: a.nonzero(), (self,), {})

    def compress(self, condition: Any, axis: Any = None, out: Any = None) -> Any:
        state.wait("compress()")
        return run(lambda a, c: a.compress(c, axis), (self, condition), {})

    def __divmod__(self, other: Any) -> Any:
        operand(other)
        return run(np.divmod, (self, other), {})

    def __matmul__(self, other: Any) -> Any:
        return product(np.matmul, self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return product(np.matmul, other, self)


_calls.register(ndarray)


def product(f: Any, a: Any, b: Any, out: Any = None) -> Any:
    """A matrix product; float16 and bfloat16 are summed in float32."""
    narrow = any([isinstance(x, Array) and is_narrow(x._a.dtype) for x in (a, b)])
    for x in (a, b):
        operand(x)
    return run(exactly(f) if narrow else f, (a, b), {} if out is None else {"out": out})


def _plain_key(key: Any, operands: list[Any], reading: bool) -> tuple[Any, bool]:
    """A key as NumPy takes it, and whether it is of integers and slices alone.

    Lists and host arrays are copied to the device first, as CuPy does.
    """
    parts, simple = [], True
    for k in key if type(key) is tuple else (key,):
        if isinstance(k, Array):
            simple = False
            operands.append(k)
            if reading and k._a.dtype.kind == "b":
                state.wait("reading by a mask of bools")
            k = k._a
        elif isinstance(k, (list, np.ndarray)):
            simple = False
            state.copied("h2d", "indexing by a list or a host array")
            k = np.asarray(k, None if len(k) else np.int64) if isinstance(k, list) else k
        elif isinstance(k, np.bool_ | bool):
            simple = False
        elif isinstance(k, np.integer):
            k = int(k)
        parts.append(k)
    return (tuple(parts) if type(key) is tuple else parts[0]), simple


# Operators ---------------------------------------------------------------------------------------

def _operators(name: str, host: Any, swapped: bool, in_place: bool) -> None:
    def forward(self: Any, other: Any) -> Any:
        if switches.careful or not (isinstance(other, Array) or type(other) in SCALARS):
            return _slowly(host, self, other, self, other)
        return fresh(host(self._a, other._a if isinstance(other, Array) else other, order="C"))

    def backward(self: Any, other: Any) -> Any:
        if switches.careful or not (isinstance(other, Array) or type(other) in SCALARS):
            return _slowly(host, self, other, other, self)
        return fresh(host(other._a if isinstance(other, Array) else other, self._a, order="C"))

    def onto(self: Any, other: Any) -> Any:
        if not _may(other):
            return NotImplemented
        value = operand(other)
        change(self, lambda a: host(a, value, out=a), (other,) if isinstance(other, Array) else ())
        return self

    setattr(ndarray, f"__{name}__", forward)
    if swapped:
        setattr(ndarray, f"__r{name}__", backward)
    if in_place:
        setattr(ndarray, f"__i{name}__", onto)


def _may(other: Any) -> bool:
    """Whether an operand is CuPy's business: arrays, also host arrays, which it then refuses."""
    return isinstance(other, (Array, np.generic, np.ndarray)) or type(other) in SCALARS


def _slowly(host: Any, self: Any, other: Any, first: Any, second: Any) -> Any:
    if not _may(other):
        return NotImplemented
    operand(other)
    return run(host, (first, second), {"order": "C"})


_host: Any
for _name, _host in {"add": np.add, "sub": np.subtract, "mul": np.multiply,
                     "truediv": np.true_divide, "floordiv": np.floor_divide,
                     "mod": np.remainder, "pow": np.power, "and": np.bitwise_and,
                     "or": np.bitwise_or, "xor": np.bitwise_xor, "lshift": np.left_shift,
                     "rshift": np.right_shift}.items():
    _operators(_name, _host, swapped=True, in_place=True)
for _name, _host in {"lt": np.less, "le": np.less_equal, "gt": np.greater,
                     "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal}.items():
    _operators(_name, _host, swapped=False, in_place=False)


def _unary(name: str, host: Any) -> None:
    setattr(ndarray, f"__{name}__", lambda self: run(host, (self,), {}))


for _name, _host in {"neg": np.negative, "pos": np.positive, "abs": np.absolute,
                     "invert": np.invert}.items():
    _unary(_name, _host)
# Methods that NumPy's arrays have just so --------------------------------------------------------

def _narrowly(name: str) -> Callable[..., Any]:
    """sum, prod...: of float16 and bfloat16 in float32."""
    def f(a: Any, dtype: Any = None, out: Any = None, **kw: Any) -> Any:
        result = a.dtype if dtype is None else np.dtype(dtype)
        if result.name == "bfloat16" and name in ("cumsum", "cumprod"):
            from gpugrad.cudasim.cupy.cuda.compiler import CompileException

            raise CompileException(f"{name} of bfloat16: CuPy's kernel for it doesn't compile", "",
                                   "kernel.cu", ())
        if not (is_narrow(a.dtype) and is_narrow(result)):
            named = {"dtype": dtype} if dtype is not None else {}
            return getattr(a, name)(out=out, **named, **kw)
        r = np.asarray(getattr(a.astype(np.float32), name)(**kw)).astype(result_dtype(name, result))
        if out is None:
            return r
        out[...] = r
        return out
    return f


def _method(name: str, f: Callable[..., Any]) -> None:
    recorded = CLASSES["cupy.ndarray"][name]
    assert recorded is not None
    parameters = Parameters(name, recorded)

    def method(self: Any, *args: Any, **kw: Any) -> Any:
        bound = parameters.bind(args, kw) if args else kw
        for n in kw:
            if n not in parameters.names:
                raise TypeError(f"{name}() got an unexpected keyword argument {n!r}")
        return run(f, (self,), {n: v for n, v in bound.items() if v is not None})

    method.__name__ = name
    setattr(ndarray, name, method)


def _of_numpy(name: str) -> Callable[..., Any]:
    def f(a: Any, **kw: Any) -> Any:
        if name in ("argsort", "argpartition"):
            state.sorted_on_device(f".{name}()")
        r = getattr(a, name)(**kw)
        return r.astype(result_dtype(name, r.dtype), copy=False)
    return f


for _name in ("sum", "prod", "mean", "var", "std", "cumsum", "cumprod"):
    _method(_name, _narrowly(_name))
for _name in ("all", "any", "max", "min", "argmax", "argmin", "argsort", "argpartition", "clip",
              "conj", "conjugate", "flatten", "ravel", "repeat", "round", "searchsorted", "take",
              "trace", "byteswap", "choose"):
    _method(_name, _of_numpy(_name))
_method("ptp", np.ptp)
