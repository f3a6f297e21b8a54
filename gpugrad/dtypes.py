"""The dtypes, their NumPy counterparts, and PyTorch's rules for the dtype of a result."""
from __future__ import annotations

import builtins
import functools
from typing import Any

import numpy as np

# The kinds of floating array dtypes: NumPy doesn't know bfloat16, and gives it the kind V, which no
# other dtype of tensors has.
FLOATING = "fV"
INEXACT = "fVc"                                  # floating or complex

# Promotion goes by category first: bool < integer < floating < complex.
_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2, "V": 2, "c": 3}


class dtype:
    """The type of a tensor's elements, one object for each. Compare with ``is`` or ``==``."""

    __slots__ = ("_legacy", "_np", "itemsize", "name")
    _np: np.dtype[Any] | None

    def __init__(self, name: str, legacy: str, array_dtype: str | None,
                 itemsize: builtins.int) -> None:
        self.name, self._legacy, self.itemsize = name, legacy, itemsize
        self._np = None if array_dtype is None else np.dtype(array_dtype)

    @property
    def np(self) -> np.dtype[Any]:
        """The dtype of the arrays underneath."""
        if self._np is None and self in NAMES_ALONE:
            raise NotImplementedError(f"tensors of dtype {self} are not supported: NumPy has no "
                                      "such arrays")
        return _find_bfloat16() if self._np is None else self._np

    @property
    def is_floating_point(self) -> builtins.bool:
        return "float" in self.name

    @property
    def is_complex(self) -> builtins.bool:
        return self.name.startswith("complex")

    @property
    def is_signed(self) -> builtins.bool:
        return self.name != "bool" and not self.name.startswith("uint")

    def to_real(self) -> dtype:
        return _BY_NAME[{"complex64": "float32", "complex128": "float64"}.get(self.name, self.name)]

    def to_complex(self) -> dtype:
        if not (self.is_floating_point or self.is_complex):
            raise RuntimeError(f"Unknown Complex ScalarType for {type_name(self.np)}: only "
                               "floating-point dtypes have one")
        return _BY_NAME[{"bfloat16": "complex64", "float32": "complex64",
                         "float64": "complex128"}.get(self.name, self.name)]

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _by_name, (self.name,)


def _by_name(name: str) -> dtype:
    return _BY_NAME[name]


float32 = float = dtype("float32", "Float", "f4", 4)
float64 = double = dtype("float64", "Double", "f8", 8)
float16 = half = dtype("float16", "Half", "f2", 2)
bfloat16 = dtype("bfloat16", "BFloat16", None, 2)
complex64 = cfloat = dtype("complex64", "ComplexFloat", "c8", 8)
complex128 = cdouble = dtype("complex128", "ComplexDouble", "c16", 16)
int8 = dtype("int8", "Char", "i1", 1)
int16 = short = dtype("int16", "Short", "i2", 2)
int32 = int = dtype("int32", "Int", "i4", 4)
int64 = long = dtype("int64", "Long", "i8", 8)
uint8 = dtype("uint8", "Byte", "u1", 1)
uint16 = dtype("uint16", "UInt16", "u2", 2)
uint32 = dtype("uint32", "UInt32", "u4", 4)
uint64 = dtype("uint64", "UInt64", "u8", 8)
bool = dtype("bool", "Bool", "?", 1)

ALL = (float32, float64, float16, bfloat16, complex64, complex128, int8, int16, int32, int64,
       uint8, uint16, uint32, uint64, bool)
# Programs compare with these, but no array has them.
complex32 = chalf = dtype("complex32", "ComplexHalf", None, 4)
float8_e4m3fn = dtype("float8_e4m3fn", "Float8_e4m3fn", None, 1)
float8_e4m3fnuz = dtype("float8_e4m3fnuz", "Float8_e4m3fnuz", None, 1)
float8_e5m2 = dtype("float8_e5m2", "Float8_e5m2", None, 1)
float8_e5m2fnuz = dtype("float8_e5m2fnuz", "Float8_e5m2fnuz", None, 1)
float8_e8m0fnu = dtype("float8_e8m0fnu", "Float8_e8m0fnu", None, 1)
NAMES_ALONE = (complex32, float8_e4m3fn, float8_e4m3fnuz, float8_e5m2, float8_e5m2fnuz,
               float8_e8m0fnu)
_BY_NAME = {d.name: d for d in (*ALL, *NAMES_ALONE)}
# From the dtype of an array to ours; a byte-swapped array has no entry.
OF = {d._np: d for d in ALL if d._np is not None}
# The dtypes of 16 bits, whose results are computed in float32 and rounded once.
HALF = {float16.np}
WHOLE = {float32.np, float64.np}                 # the other floating ones, and all of them
FLOATS = WHOLE | HALF
_WIDE = {float16.np: float32.np}
_OF_PYTHON_TYPE = {builtins.float: float64, builtins.int: int64, builtins.bool: bool,
                   builtins.complex: complex128}


def has_bfloat16() -> builtins.bool:
    """Is the package ml_dtypes, which has bfloat16, installed?"""
    from importlib.util import find_spec
    return find_spec("ml_dtypes") is not None


def _find_bfloat16() -> np.dtype[Any]:
    """The array dtype of bfloat16, which is that of the package ml_dtypes: imported here alone."""
    try:
        import ml_dtypes
    except ImportError as e:
        raise ImportError("tensors of dtype torch.bfloat16 need the package ml_dtypes: "
                          f"pip install ml_dtypes ({e})", name="ml_dtypes") from e
    found = bfloat16._np = np.dtype(ml_dtypes.bfloat16)
    OF[found] = bfloat16
    HALF.add(found)
    FLOATS.add(found)
    _WIDE[found] = float32.np
    return found


def meet(d: np.dtype[Any]) -> None:
    """Called with the dtype of a foreign array, which may be the first one of bfloat16."""
    if d.kind == "V" and d not in OF:
        _find_bfloat16()


def adopt(a: Any) -> Any:
    """A foreign array, with NumPy's one object for its dtype.

    Arrays that were pickled have another, which equals it; ops compare dtypes by identity.
    """
    meet(a.dtype)
    d = OF.get(a.dtype)
    return a if d is None or a.dtype is d._np else a.view(d._np)


def wide(d: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype to compute in: float32 for the dtypes of 16 bits, else d itself."""
    return _WIDE.get(d, d)


_default: list[Any] = [float32, np.dtype("f4")]


def get_default_dtype() -> dtype:
    """The dtype of floating-point tensors made from Python numbers."""
    return _default[0]


def set_default_dtype(d: dtype) -> None:
    """Make ``d``, a floating-point dtype, the one of tensors made from Python floats."""
    d = as_dtype(d)
    if not d.is_floating_point:
        raise TypeError("only floating-point types are supported as the default type")
    _default[:] = d, d.np


def default_np() -> np.dtype[Any]:
    """The default dtype, as arrays have it."""
    return _default[1]


def as_dtype(d: Any) -> dtype:
    """``d`` itself, or the dtype of a Python type such as ``float``."""
    if isinstance(d, dtype):
        return d
    try:
        return _OF_PYTHON_TYPE[d]
    except (KeyError, TypeError):
        raise TypeError(f"dtype must be a torch.dtype such as torch.float32 or a Python type, "
                        f"not {type(d).__name__} {d!r}") from None


def category(d: np.dtype[Any]) -> builtins.int:
    """0 for bool, 1 integer, 2 floating, 3 complex."""
    return _CATEGORY[d.kind]


def type_name(d: np.dtype[Any]) -> str:
    """PyTorch's older name, as its error messages have it: Float, Double, Long, ..."""
    ours = OF.get(d)
    return str(d) if ours is None else ours._legacy


def of_number(value: Any) -> np.dtype[Any]:
    """The dtype that a Python number has when a tensor is made of it."""
    if isinstance(value, builtins.bool | np.bool_):
        return bool.np
    if isinstance(value, builtins.int | np.integer):
        return int64.np
    if isinstance(value, builtins.complex) and not isinstance(value, builtins.float):
        return get_default_dtype().to_complex().np
    return default_np()


def _wider(a: np.dtype[Any] | None, b: np.dtype[Any]) -> np.dtype[Any]:
    if a is None or a == b:
        return b
    if category(a) == category(b) == 2 and "V" in (a.kind, b.kind):
        other = b if a.kind == "V" else a            # NumPy finds no common dtype with float16
        return wide(other)
    if a.kind == b.kind or (category(a) in (1, 3) and category(b) == category(a)):
        if {a.kind, b.kind} == {"u", "i"} and max(a.itemsize, b.itemsize) > 1 and \
                (a if a.kind == "u" else b).itemsize > 1:
            raise RuntimeError(f"Promotion for {OF[a].name} and {OF[b].name} is not supported")
        return np.promote_types(a, b)
    high, low = (a, b) if category(a) > category(b) else (b, a)
    if high.kind == "c" and low.kind == "f" and low.itemsize == 8:
        return complex128.np
    return high


def can_cast(from_: dtype, to: dtype) -> builtins.bool:
    """Whether PyTorch lets a result of one dtype be written into another.

    Complex stays complex, floating doesn't become an integer, an integer doesn't become a bool.
    """
    return not ((from_.is_complex and not to.is_complex)
                or (from_.is_floating_point and not (to.is_floating_point or to.is_complex))
                or (from_.name != "bool" and to.name == "bool"))


def promote(*operands: Any) -> np.dtype[Any]:
    """The common dtype of arrays and Python numbers.

    The highest category wins; inside it an array with dims outranks a 0-dim one, and that a number.
    """
    ranks: list[np.dtype[Any] | None] = [None, None, None]
    for v in operands:
        d = getattr(v, "dtype", None)
        if d is None:
            rank, d = 2, of_number(v)
        else:
            rank = 0 if v.ndim else 1
        ranks[rank] = _wider(ranks[rank], d)
    out: np.dtype[Any] | None = None
    for d in ranks:
        if d is not None and (out is None or category(d) > category(out)):
            if out is not None and d.kind == "c" and category(out) == 2:
                d = (complex128 if out == float64.np else complex64).np
            out = d
    assert out is not None
    return out


class finfo:
    """The limits of a floating-point dtype: bits, eps, max, min, tiny, resolution."""

    def __init__(self, type: dtype | None = None) -> None:
        d = get_default_dtype() if type is None else type
        if not (d.is_floating_point or d.is_complex):
            raise TypeError(f"torch.finfo() requires a floating point input type. "
                            f"Use torch.iinfo to handle '{d}'")
        self.dtype = d.to_real().name
        if d is bfloat16:                        # 8 bits of exponent, 7 of fraction
            self.bits, self.eps, self.resolution = 16, 2.0**-7, 0.01
            self.max, self.tiny = (2 - self.eps) * 2.0**127, 2.0**-126
        else:
            info = np.finfo(d.np)
            self.bits = info.bits
            self.eps, self.max, self.tiny, self.resolution = (
                builtins.float(v) for v in (info.eps, info.max, info.tiny, info.resolution))
        self.min, self.smallest_normal = -self.max, self.tiny

    def __eq__(self, other: object) -> builtins.bool:
        return isinstance(other, finfo) and self.dtype == other.dtype

    def __hash__(self) -> builtins.int:
        return hash(self.dtype)

    def __repr__(self) -> str:
        return (f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, "
                f"eps={self.eps:g}, smallest_normal={self.tiny:g}, tiny={self.tiny:g}, "
                f"dtype={self.dtype})")


@functools.cache
def largest(d: np.dtype[Any]) -> builtins.float:
    """The largest finite number of a floating or complex array dtype."""
    return finfo(OF[d]).max


class iinfo:
    """The limits of an integer dtype: bits, max, min."""

    def __init__(self, type: dtype) -> None:
        if type is bool:
            raise TypeError("torch.bool is not supported by torch.iinfo")
        if type.is_floating_point or type.is_complex:
            raise TypeError(f"torch.iinfo() requires an integer input type. "
                            f"Use torch.finfo to handle '{type}'")
        info = np.iinfo(type.np)
        self.bits, self.dtype = info.bits, type.name
        self.max, self.min = builtins.int(info.max), builtins.int(info.min)

    def __eq__(self, other: object) -> builtins.bool:
        return isinstance(other, iinfo) and self.dtype == other.dtype

    def __hash__(self) -> builtins.int:
        return hash(self.dtype)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"


INF, NAN, PI, E = builtins.float("inf"), builtins.float("nan"), 3.141592653589793, 2.718281828459045
