"""Mathematical functions of two tensors or with options: what arguments and dtypes they take."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.entry import as_operand
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions.arguments import cast, check_written, return_type
from gpugrad.functions.pointwise import Number

FLOAT64, COMPLEX128 = np.dtype(np.float64), np.dtype(np.complex128)

# Two operands ------------------------------------------------------------------------------------


def _must_be_tensors(name: str, **operands: Any) -> None:
    for i, (arg, v) in enumerate(operands.items()):
        if not isinstance(v, Tensor):
            raise TypeError(f"{name}(): argument '{arg}' (position {i + 1}) must be Tensor, not "
                            f"{type(v).__name__}")


def check_one_tensor(name: str, x: Any, y: Any) -> None:
    """TypeError unless one is a tensor and the other a tensor or a number."""
    if not ((isinstance(x, Tensor) and isinstance(y, Tensor | Number))
            or (isinstance(x, Number) and isinstance(y, Tensor))):
        raise TypeError(f"{name}() received an invalid combination of arguments - got "
                        f"({type(x).__name__}, {type(y).__name__}), but expected two tensors, or "
                        "a tensor and a number")


def _refuse(name: str, kinds: str, *tensors: Tensor) -> None:
    """NotImplementedError if the common dtype is not of one of these kinds."""
    dtype = dtypes.promote(*[t._a for t in tensors])
    if dtype.kind not in kinds:
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{type_name(dtype)}': "
                                  + ("convert to integers" if kinds == "iu" else
                                     "convert to a floating dtype" if dtype.kind != "c" else
                                     "it takes real numbers"))


def of_tensors(name: str, kinds: str, shown: str = "") -> tuple[Any, Any]:
    """A function of two tensors of dtypes of these kinds, and its method in place."""
    entry: Any = getattr(T, name)
    written: Any = getattr(T, name + "_")
    shown = shown or name

    def function(input: Tensor, other: Tensor) -> Tensor:
        _must_be_tensors(shown, input=input, other=other)
        _refuse(shown, kinds, input, other)
        return entry(input, other)

    def method(self: Tensor, other: Tensor) -> Tensor:
        _must_be_tensors(shown + "_", other=other)
        _refuse(shown, kinds, self, other)
        return written(self, other)
    for fn, called in ((function, shown), (method, shown + "_")):
        fn.__name__ = fn.__qualname__ = called
        fn.__doc__ = entry.__doc__
    return function, method


REAL, FLOATING = "biufV", "fV"
atan2, atan2_ = of_tensors("atan2", REAL)
_real_logaddexp = of_tensors("logaddexp", FLOATING)
_complex_logaddexp = of_tensors("logaddexp_complex", FLOATING + "c", "logaddexp")


def _logaddexp(number: int, x: Any, y: Any) -> Tensor:
    pair = _real_logaddexp
    if any(isinstance(t, Tensor) and t._a.dtype.kind == "c" for t in (x, y)):
        pair = _complex_logaddexp
    out: Tensor = pair[number](x, y)
    return out


def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """log(exp(x) + exp(y)) without overflow on the way."""
    return _logaddexp(0, input, other)


def logaddexp_(x: Tensor, other: Tensor) -> Tensor:
    return _logaddexp(1, x, other)


logaddexp2, logaddexp2_ = of_tensors("logaddexp2", FLOATING)
hypot, hypot_ = of_tensors("hypot", FLOATING)
nextafter, nextafter_ = of_tensors("nextafter", FLOATING)
gcd, gcd_ = of_tensors("gcd", "iu")
lcm, lcm_ = of_tensors("lcm", "iu")
ldexp, ldexp_ = of_tensors("ldexp", REAL + "c")


def of_two(name: str) -> Any:
    """The function of an op of two tensors that takes no numbers."""
    entry: Any = getattr(T, name)

    def function(input: Tensor, other: Tensor) -> Tensor:
        if not (isinstance(input, Tensor) and isinstance(other, Tensor)):
            _must_be_tensors(name, input=input, other=other)
        return entry(input, other)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = entry.__doc__
    return function


maximum, minimum = of_two("maximum"), of_two("minimum")
logical_and, logical_or, logical_xor = (
    of_two("logical_and"), of_two("logical_or"), of_two("logical_xor"))


def logical_in_place(name: str) -> Any:
    """The method <name>_ of an op of two tensors that takes no numbers."""
    entry: Any = getattr(T, name)

    def method(self: Tensor, other: Tensor) -> Tensor:
        _must_be_tensors(name + "_", other=other)
        result = entry(self, other)
        check_written(self, result)
        return T.copy_(self, result)
    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"{name}() written into this tensor."
    return method


def _extreme(name: str, x: Any, y: Any) -> Tensor:
    _must_be_tensors(name, input=x, other=y)
    if x.is_complex() or y.is_complex():
        raise RuntimeError(f"{name} not implemented for complex tensors.")
    return getattr(T, name)(x, y)


def fmax(input: Tensor, other: Tensor) -> Tensor:
    """The larger of two, and the number where the other is NaN."""
    return _extreme("fmax", input, other)


def fmin(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two, and the number where the other is NaN."""
    return _extreme("fmin", input, other)


def xlogy(input: Any, other: Any) -> Tensor:
    """input * log(other), but 0 where input is 0, unless other is NaN."""
    check_one_tensor("xlogy", input, other)
    return T.xlogy(input, other)


def xlogy_(x: Tensor, other: Any) -> Tensor:
    check_one_tensor("xlogy_", x, other)
    return T.xlogy_(x, other)


def copysign(input: Tensor, other: Any) -> Tensor:
    """The magnitude of input with the sign of other, a tensor or a number."""
    _must_be_tensors("copysign", input=input)
    check_one_tensor("copysign", input, other)
    _refuse("copysign", REAL, input, *[t for t in (other,) if isinstance(t, Tensor)])
    return T.copysign(input, other)


def copysign_(x: Tensor, other: Any) -> Tensor:
    check_one_tensor("copysign_", x, other)
    return T.copysign_(x, other)


def _check_heaviside(input: Any, values: Any) -> None:
    _must_be_tensors("heaviside", input=input, values=values)
    if input.is_complex() or values.is_complex():
        raise RuntimeError("heaviside is not yet implemented for complex tensors.")
    if input._a.dtype != values._a.dtype:
        raise RuntimeError("heaviside is not yet implemented for tensors with different dtypes: "
                           f"{input.dtype} and {values.dtype}")


def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 where input < 0, 1 where it is > 0, values where it is 0."""
    _check_heaviside(input, values)
    return T.heaviside(input, values)


def heaviside_(x: Tensor, values: Tensor) -> Tensor:
    _check_heaviside(x, values)
    check_written(x, values)
    return T.heaviside_(x, values)


def _double(v: Any) -> np.dtype[Any]:
    """The dtype in which float_power computes."""
    kind = v._a.dtype.kind if isinstance(v, Tensor) else "c" if isinstance(v, complex) else ""
    return COMPLEX128 if kind == "c" else FLOAT64


def float_power(input: Any, exponent: Any) -> Tensor:
    """input to the power of exponent in float64, or complex128; either may be a number."""
    check_one_tensor("float_power", input, exponent)
    dtype = np.promote_types(_double(input), _double(exponent))
    x, y = (cast(v, dtype) if isinstance(v, Tensor) else v for v in (input, exponent))
    if not isinstance(x, Tensor):
        return T.rpow_number(y, base=x)
    return T.pow(x, y) if isinstance(y, Tensor) else T.pow_number(x, exponent=y)


def float_power_(x: Tensor, exponent: Any) -> Tensor:
    check_one_tensor("float_power_", x, exponent)
    dtype = np.promote_types(_double(x), _double(exponent))
    if x._a.dtype != dtype:
        raise RuntimeError(f"the base given to float_power_ has dtype {type_name(x._a.dtype)} but "
                           f"the operation's result requires dtype {type_name(dtype)}")
    if isinstance(exponent, Tensor):
        return T.pow_(x, cast(exponent, dtype))
    return T.pow_number_(x, exponent=exponent)


igamma, igamma_ = of_tensors("igamma", FLOATING)
igammac, igammac_ = of_tensors("igammac", FLOATING)


def _order(n: Any) -> int:
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"polygamma(): argument 'n' (position 1) must be int, not "
                        f"{type(n).__name__}")
    if n < 0:
        raise RuntimeError(f"polygamma(n, x) does not support negative n: {n}")
    return int(n)


def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of the digamma function."""
    return T.polygamma(_as_float(input), n=_order(n))


def polygamma_method(self: Tensor, n: int) -> Tensor:
    """The n-th derivative of the digamma function."""
    return polygamma(n, self)


def polygamma_(x: Tensor, n: int) -> Tensor:
    _check_float_result(x)
    return T.polygamma_(x, n=_order(n))


def mvlgamma(input: Tensor, p: int) -> Tensor:
    """The logarithm of the gamma function in p dims: a constant and a sum of lgamma."""
    if p < 1:
        raise RuntimeError(f"p has to be greater than or equal to 1, not {p}")
    if input._a.dtype.kind == "b":
        raise RuntimeError("The input tensor may not be a boolean tensor.")
    x = _as_float(input)
    out = T.lgamma(x)
    for j in range(1, p):
        out = T.add(out, T.lgamma(T.shift(x, number=-0.5 * j)))
    return T.shift(out, number=0.25 * p * (p - 1) * math.log(math.pi))


def mvlgamma_(x: Tensor, p: int) -> Tensor:
    _check_float_result(x)
    return T.copy_(x, mvlgamma(T.clone(x), p))      # which backward needs as it was


# Comparisons written into their first operand ----------------------------------------------------


def comparison_in_place(name: str) -> Any:
    """The method <name>_: what the comparison says as 0 and 1, with gradient 0."""
    entry = getattr(T, name)

    def method(self: Tensor, other: Any) -> Tensor:
        result = entry(self, other)
        if result is NotImplemented:
            raise TypeError(f"{name}_(): argument 'other' (position 1) must be Tensor or Number, "
                            f"not {type(other).__name__}")
        check_written(self, result)
        return T.copy_(self, result)
    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"{name}() written into this tensor."
    return method


# One operand, with options -----------------------------------------------------------------------


def _check_float_result(x: Tensor) -> None:
    """Of integers the result is floating, which can't be written into them."""
    if x._a.dtype.kind in "iub":
        raise RuntimeError(f"result type {type_name(dtypes.default_np())} can't be cast to the "
                           f"desired output type {type_name(x._a.dtype)}")


def _as_float(x: Tensor) -> Tensor:
    return cast(x, dtypes.default_np()) if x._a.dtype.kind in "iub" else x


def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """log(input / (1 - input)); input is first held between eps and 1 - eps, if eps is given."""
    return T.logit(_as_float(input), eps=eps)


def logit_(x: Tensor, eps: float | None = None) -> Tensor:
    _check_float_result(x)
    return T.logit_(x, eps=eps)


def _check_floats(name: str, **given: Any) -> None:
    for argument, value in given.items():
        if value is not None and not isinstance(value, int | float | np.generic):
            raise TypeError(f"{name}(): argument '{argument}' must be float, not "
                            f"{type(value).__name__}")


def nan_to_num(input: Tensor, nan: float | None = None, posinf: float | None = None,
               neginf: float | None = None) -> Tensor:
    """Numbers in place of NaN and of the infinities: by default 0 and the dtype's largest."""
    _check_floats("nan_to_num", nan=nan, posinf=posinf, neginf=neginf)
    return T.nan_to_num(input, nan=nan, posinf=posinf, neginf=neginf)


def nan_to_num_(x: Tensor, nan: float | None = None, posinf: float | None = None,
                neginf: float | None = None) -> Tensor:
    _check_floats("nan_to_num_", nan=nan, posinf=posinf, neginf=neginf)
    return T.nan_to_num_(x, nan=nan, posinf=posinf, neginf=neginf)


Frexp = return_type("frexp", "mantissa", "exponent")


def frexp(input: Tensor) -> Any:
    """(mantissa, exponent): input is mantissa * 2 ** exponent, and |mantissa| in [0.5, 1)."""
    if input._a.dtype.kind not in dtypes.FLOATING:
        raise RuntimeError("torch.frexp() only supports floating-point dtypes, not "
                           f"{input.dtype}")
    return Frexp(T.frexp(input))


# Questions ---------------------------------------------------------------------------------------


def _infinite(name: str, x: Tensor, value: float) -> Tensor:
    kind = x._a.dtype.kind
    if kind == "c":
        raise RuntimeError(f"{name} does not support complex inputs.")
    be = x._be
    if kind in "iub":
        return wrap(be.xp.zeros(x._a.shape, bool), be)
    return wrap(be.asarray(x._a == be.number[value, x._a.dtype]), be)


def isposinf(input: Tensor) -> Tensor:
    """Which elements are +inf?"""
    return _infinite("isposinf", input, np.inf)


def isneginf(input: Tensor) -> Tensor:
    """Which elements are -inf?"""
    return _infinite("isneginf", input, -np.inf)


def isreal(input: Tensor) -> Tensor:
    """Which elements have the imaginary part 0?"""
    be, a = input._be, input._a
    if a.dtype.kind != "c":
        return wrap(be.xp.ones(a.shape, bool), be)
    return wrap(be.asarray(a.imag == 0), be)


def isin(elements: Any, test_elements: Any = None, *, test_element: Any = None,
         assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Which elements are among test_elements? Either may be a number; invert: which are not?"""
    test_elements = test_element if test_elements is None else test_elements
    check_one_tensor("isin", elements, test_elements)
    be = (elements if isinstance(elements, Tensor) else test_elements)._be
    for v in (elements, test_elements):
        dtype = v._a.dtype if isinstance(v, Tensor) else dtypes.of_number(v)
        if dtype.kind in "cb":
            raise RuntimeError(f"Unsupported input type encountered for isin(): {type_name(dtype)}")
    raw = [v._a if isinstance(v, Tensor) else v for v in (elements, test_elements)]
    dtype = dtypes.promote(*raw)
    x, y = (v.astype(dtype, copy=False) if hasattr(v, "dtype") else as_operand(be, v, dtype)
            for v in raw)
    if dtype in dtypes.HALF:
        x, y = x.astype(np.float32), y.astype(np.float32)
    return wrap(be.asarray(be.xp.isin(x, y, assume_unique=assume_unique, invert=invert)), be)
