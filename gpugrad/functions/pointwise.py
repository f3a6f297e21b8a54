"""Elementwise functions with more arguments than an op has."""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.entry import NUMBERS
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions.arguments import (
    cast,
    check_written,
    common,
    number_of,
    plain_number,
)

Number = int | float | bool | complex
OPERANDS = (Tensor, np.ndarray, *NUMBERS)
BOOL = np.dtype(bool)


def operand(x: Any) -> Any:
    return x._a if isinstance(x, Tensor) else x


def _checked(entry: Any, x: Any, y: Any, name: str) -> Tensor:
    """entry(x, y), where an operand that is neither a Tensor nor a number is an error."""
    for i, (arg, v) in enumerate((("input", x), ("other", y)), 0 if name.endswith("_") else 1):
        if not isinstance(v, OPERANDS):
            raise TypeError(f"{name}(): argument '{arg}' (position {i}) must be Tensor, not "
                            f"{type(v).__name__}")
    return entry(x, y)


def unsupported(name: str, x: Any) -> NotImplementedError:
    return NotImplementedError(f"\"{name}\" not implemented for '{type_name(x._a.dtype)}'")


def in_place(name: str) -> Any:
    """The method <name>_ of an op of two operands."""
    entry = getattr(T, name + "_")

    def method(self: Tensor, other: Any) -> Tensor:
        return _checked(entry, self, other, name + "_")
    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"{name}() written into this tensor."
    return method


# PyTorch's older order of arguments, x.add_(alpha, other), still works: the number goes first.
_OLDER = {"add": "alpha, Tensor other", "sub": "alpha, Tensor other",
          "addcmul": "value, Tensor tensor1, Tensor tensor2",
          "addcdiv": "value, Tensor tensor1, Tensor tensor2"}
_warned: list[str] = []


def _number_first(name: str, *args: Any) -> Any:
    """The arguments of a call in the older order. Warns once."""
    order, in_place = _OLDER[name.rstrip("_")], name.endswith("_")
    n = order.count(",") + 1
    if len(args) != n or not isinstance(args[0], Number) or isinstance(args[0], bool) \
            or not all([isinstance(t, OPERANDS) for t in args[1:]]):
        n -= in_place                            # a method doesn't count self
        raise TypeError(f"{name}() takes {n} positional argument{'s' * (n > 1)} but "
                        f"{len(args) + 1 - in_place} were given")
    if not _warned:
        _warned.append(name)
        warnings.warn(f"This overload of {name} is deprecated:\n\t{name}(Number {order})\nConsider "
                      "passing the number by its name.", UserWarning, stacklevel=3)
    return args


# Sums --------------------------------------------------------------------------------------------


def _scaled(x: Any, y: Any, alpha: Number) -> Any:
    """alpha * y, for a sum with x."""
    if (type(alpha) is int and alpha == 1) or not isinstance(y, OPERANDS) \
            or not isinstance(x, OPERANDS):
        return y
    alpha = plain_number(alpha, "argument 'alpha'")
    dtype = dtypes.promote(operand(x), operand(y))
    if isinstance(alpha, bool) and dtype.kind != "b":
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if isinstance(alpha, float) and dtype.kind in "iub":
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating "
                           "point number.")
    if isinstance(alpha, complex) and dtype.kind != "c":
        raise RuntimeError("For non-complex input tensors, argument alpha must not be a complex "
                           "number.")
    if not isinstance(y, Tensor):
        number: Any = y
        return number * alpha
    return T.scale(cast(y, dtype), number=number_of(alpha, dtype))


def add(input: Tensor, other: Any, *older: Any, alpha: Number = 1) -> Tensor:
    """input + alpha * other"""
    if older:
        alpha, other = _number_first("add", other, *older)
    return _checked(T.add, input, _scaled(input, other, alpha), "add")


def add_(x: Tensor, other: Any, *older: Any, alpha: Number = 1) -> Tensor:
    if older:
        alpha, other = _number_first("add_", other, *older)
    return _checked(T.add_, x, _scaled(x, other, alpha), "add_")


def _is_bool(x: Any) -> bool:
    return x is True or x is False or (isinstance(x, Tensor) and x._a.dtype is BOOL)


def _no_bools(x: Any, y: Any) -> None:
    if _is_bool(x) and _is_bool(y):
        raise RuntimeError("Subtraction, the `-` operator, with two bool tensors is not supported. "
                           "Use the `^` or `logical_xor()` operator instead.")
    if _is_bool(x) or _is_bool(y):
        raise RuntimeError("Subtraction, the `-` operator, with a bool tensor is not supported. If "
                           "you are trying to invert a mask, use the `~` or `logical_not()` "
                           "operator instead.")


def minus(x: Tensor, y: Any) -> Any:
    """The - operator."""
    if x._a.dtype is BOOL or _is_bool(y):
        _no_bools(x, y)
    return T.sub(x, y)


def sub(input: Tensor, other: Any, *older: Any, alpha: Number = 1) -> Tensor:
    """input - alpha * other"""
    if older:
        alpha, other = _number_first("sub", other, *older)
    _no_bools(input, other)
    return _checked(T.sub, input, _scaled(input, other, alpha), "sub")


def sub_(x: Tensor, other: Any, *older: Any, alpha: Number = 1) -> Tensor:
    if older:
        alpha, other = _number_first("sub_", other, *older)
    _no_bools(x, other)
    return _checked(T.sub_, x, _scaled(x, other, alpha), "sub_")


def rsub(input: Tensor, other: Any, *, alpha: Number = 1) -> Any:
    """other - alpha * input"""
    if isinstance(other, Tensor):
        return sub(other, input, alpha=alpha)
    if not isinstance(other, Number):
        return NotImplemented
    _no_bools(input, other)
    input = _scaled(input, input, alpha)
    return T.rsub(cast(input, dtypes.promote(input._a, other)), number=other)


def absolute(input: Tensor) -> Tensor:
    """|input|"""
    if input._a.dtype is BOOL:
        raise unsupported("abs_cpu", input)
    return T.abs(input)


def abs_(x: Tensor) -> Tensor:
    if x._a.dtype.kind == "c":
        raise RuntimeError("In-place abs is not supported for complex tensors.")
    if x._a.dtype is BOOL:
        raise unsupported("abs_cpu", x)
    return T.abs_(x)


def neg(input: Tensor) -> Tensor:
    """-input"""
    if input._a.dtype is BOOL:
        raise RuntimeError(_NEGATION)
    return T.neg(input)


def neg_(x: Tensor) -> Tensor:
    if x._a.dtype is BOOL:
        raise RuntimeError(_NEGATION)
    return T.neg_(x)


_NEGATION = ("Negation, the `-` operator, on a bool tensor is not supported. If you are trying to "
             "invert a mask, use the `~` or `logical_not()` operator instead.")


def positive(input: Tensor) -> Tensor:
    """+input: itself."""
    if input._a.dtype is BOOL:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


# Products and quotients --------------------------------------------------------------------------


def mul(input: Tensor, other: Any) -> Tensor:
    """input * other"""
    return _checked(T.mul, input, other, "mul")


def _quotient(rounding_mode: str | None, x: Any, y: Any) -> str:
    """The name of the op that divides with this rounding."""
    if rounding_mode is None:
        return "div"
    if rounding_mode not in ("floor", "trunc"):
        raise RuntimeError("div expected rounding_mode to be one of None, 'trunc', or 'floor' but "
                           f"found '{rounding_mode}'")
    _check_divisor("div_" + rounding_mode, x, y)
    return "div_" + rounding_mode


def div(input: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """input / other; rounding_mode "floor" or "trunc" rounds, and keeps integer dtypes."""
    return _checked(getattr(T, _quotient(rounding_mode, input, other)), input, other, "div")


def div_(x: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    return _checked(getattr(T, _quotient(rounding_mode, x, other) + "_"), x, other, "div_")


def true_divide(input: Tensor, other: Any) -> Tensor:
    """input / other"""
    return div(input, other)


def true_divide_(x: Tensor, other: Any) -> Tensor:
    return div_(x, other)


def rdiv(x: Tensor, y: Any) -> Any:
    """number / tensor"""
    return T.mul(T.reciprocal(x), y)


def _check_divisor(name: str, x: Any, y: Any) -> None:
    """An integer divided by zero raises; on CUDA zeros in a tensor aren't looked for."""
    if _is_bool(x) and _is_bool(y):
        kernel = name.rstrip("_").replace("floor_divide", "div_floor")
        raise NotImplementedError(f"\"{kernel}_cpu\" not implemented for 'Bool': convert to "
                                  "integers")
    if isinstance(y, Tensor):
        zero = y._be.index == 0 and y._a.dtype.kind in "iub" and not y._a.all()
    else:
        zero = isinstance(y, Number) and y == 0
    if isinstance(x, Tensor) and not x._a.size:
        return
    if zero and dtypes.promote(operand(x), operand(y)).kind in "iub":
        raise RuntimeError("ZeroDivisionError")


def _dividing(name: str) -> tuple[Any, Any]:
    """A function for an op that refuses to divide integers by zero, and its method in place."""
    def make(name: str, entry: Any) -> Any:
        def divide(input: Any, other: Any) -> Tensor:
            if name == "fmod" and not isinstance(input, Tensor):
                raise TypeError("fmod(): argument 'input' (position 1) must be Tensor, not "
                                f"{type(input).__name__}")
            _check_divisor(name, input, other)
            return _checked(entry, input, other, name)
        divide.__name__ = divide.__qualname__ = name
        divide.__doc__ = entry.__doc__
        return divide
    return make(name, getattr(T, name)), make(name + "_", getattr(T, name + "_"))


floor_divide, floor_divide_ = _dividing("floor_divide")
remainder, remainder_ = _dividing("remainder")
fmod, fmod_ = _dividing("fmod")


def _products(x: Tensor, *factors: Tensor) -> list[Tensor]:
    out = common(x, *factors)
    if out[0]._a.dtype is BOOL:
        raise unsupported("addcmul_cpu_out", x)
    return out


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *older: Tensor,
            value: Number = 1) -> Tensor:
    """input + value * tensor1 * tensor2"""
    if older:
        value, tensor1, tensor2 = _number_first("addcmul", tensor1, tensor2, *older)
    x, *factors = _products(input, tensor1, tensor2)
    return T.addcmul(x, *factors, value=number_of(value, x._a.dtype))


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *older: Tensor,
            value: Number = 1) -> Tensor:
    """input + value * tensor1 / tensor2"""
    if older:
        value, tensor1, tensor2 = _number_first("addcdiv", tensor1, tensor2, *older)
    x, *parts = _fractions(input, tensor1, tensor2)
    return T.addcdiv(x, *parts, value=number_of(value, x._a.dtype))


def _fractions(*tensors: Tensor) -> list[Tensor]:
    out = common(*tensors)
    if out[0]._a.dtype.kind in "iub":
        raise RuntimeError("Integer division with addcdiv is no longer supported: use input + "
                           "value * torch.trunc(tensor1 / tensor2), or convert to a floating point "
                           "dtype")
    return out


def addcmul_(x: Tensor, tensor1: Tensor, tensor2: Tensor, *older: Tensor,
             value: Number = 1) -> Tensor:
    if older:
        value, tensor1, tensor2 = _number_first("addcmul_", tensor1, tensor2, *older)
    check_written(x, tensor1, tensor2)
    wide, *factors = _products(x, tensor1, tensor2)
    check_result(x, wide._a.dtype)
    a, b = (cast(t, x._a.dtype) for t in factors)
    return T.addcmul_(x, a, b, value=number_of(value, x._a.dtype))


def addcdiv_(x: Tensor, tensor1: Tensor, tensor2: Tensor, *older: Tensor,
             value: Number = 1) -> Tensor:
    if older:
        value, tensor1, tensor2 = _number_first("addcdiv_", tensor1, tensor2, *older)
    check_written(x, tensor1, tensor2)
    wide, *parts = _fractions(x, tensor1, tensor2)
    check_result(x, wide._a.dtype)
    a, b = (cast(t, x._a.dtype) for t in parts)
    return T.addcdiv_(x, a, b, value=number_of(value, x._a.dtype))


def _lerp(entries: tuple[Any, Any], x: Tensor, end: Tensor, weight: Any) -> Tensor:
    if end._a.dtype != x._a.dtype or (isinstance(weight, Tensor) and weight._a.dtype != x._a.dtype):
        name, t = ("end", end) if end._a.dtype != x._a.dtype else ("weight", weight)
        raise RuntimeError(f"expected dtype {type_name(x._a.dtype).lower()} for `{name}` but got "
                           f"dtype {type_name(t._a.dtype).lower()}")
    if x._a.dtype.kind not in dtypes.INEXACT:
        raise unsupported("lerp_kernel_scalar", x)
    by_tensor, by_number = entries
    if isinstance(weight, Tensor):
        return by_tensor(x, end, weight)
    return by_number(x, end, weight=weight)


def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """input + weight * (end - input), for a number or a tensor as weight"""
    return _lerp((T.lerp, T.lerp_number), input, end, weight)


def lerp_(x: Tensor, end: Tensor, weight: Any) -> Tensor:
    check_written(x, *[t for t in (end, weight) if isinstance(t, Tensor)])
    return _lerp((T.lerp_, T.lerp_number_), x, end, weight)


# Powers and rounding -----------------------------------------------------------------------------


def pow(input: Any, exponent: Any) -> Tensor:
    """input to the power of exponent; either may be a number."""
    r = power(input, exponent) if isinstance(input, Tensor) else rpow(exponent, input)
    if r is NotImplemented:
        raise TypeError(f"pow(): argument 'exponent' (position 2) must be Tensor or Number, not "
                        f"{type(exponent).__name__}")
    return r


def _power_dtype(x: Tensor, y: Any) -> np.dtype[Any]:
    dtype = dtypes.promote(x._a, y)
    if dtype.kind in "iub" and y < 0:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    return dtype


def power(x: Tensor, y: Any) -> Any:
    """The ** operator."""
    if isinstance(y, Tensor):
        if x._a.dtype is BOOL and y._a.dtype is BOOL:
            raise NotImplementedError("\"pow\" not implemented for 'Bool': convert to integers")
        return T.pow(x, y)
    if not isinstance(y, Number):
        return NotImplemented
    if y is True or y is False:
        if x._a.dtype is BOOL:
            return T.logical_or(x, not y)
        y = int(y)
    return T.pow_number(cast(x, _power_dtype(x, y)), exponent=y)


def rpow(x: Tensor, y: Any) -> Any:
    """number ** tensor"""
    if not isinstance(y, Number):
        return NotImplemented
    return T.rpow_number(cast(x, dtypes.promote(x._a, y)), base=y)


def pow_(x: Tensor, exponent: Any) -> Tensor:
    """x **= exponent"""
    if isinstance(exponent, Tensor):
        if x._a.dtype is BOOL and exponent._a.dtype is BOOL:
            check_written(x, exponent)
            raise unsupported("pow", x)
        return T.pow_(x, exponent)
    if not isinstance(exponent, Number):
        raise TypeError(f"pow_(): argument 'exponent' (position 1) must be Tensor or Number, not "
                        f"{type(exponent).__name__}")
    check_result(x, _power_dtype(x, exponent))
    return T.pow_number_(x, exponent=number_of(exponent, x._a.dtype))


def check_result(x: Tensor, dtype: np.dtype[Any]) -> None:
    if dtypes.category(dtype) > dtypes.category(x._a.dtype):
        raise RuntimeError(f"result type {type_name(dtype)} can't be cast to the desired output "
                           f"type {type_name(x._a.dtype)}")


def square(input: Tensor) -> Tensor:
    """input * input"""
    return power(input, 2)


def square_(x: Tensor) -> Tensor:
    return pow_(x, 2)


def _round(entries: tuple[Any, Any], x: Tensor, decimals: int) -> Tensor:
    whole, to_decimals = entries
    if decimals == 0:
        return whole(x)
    if x._a.dtype.kind not in dtypes.FLOATING:
        raise unsupported("round_cpu", x)
    return to_decimals(x, decimals=decimals)


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """To the nearest number with so many decimals, halves to even; negative ones round to tens."""
    return _round((T.round, T.round_decimals), input, decimals)


def round_(x: Tensor, *, decimals: int = 0) -> Tensor:
    return _round((T.round_, T.round_decimals_), x, decimals)


# Bits and comparisons ----------------------------------------------------------------------------


def bitwise_not(input: Tensor) -> Tensor:
    """The bits of integers inverted; of bools, logical_not."""
    if input._a.dtype.kind not in "iub":
        raise unsupported("bitwise_not_cpu", input)
    return T.bitwise_not(input)


def rfloor_divide(x: Tensor, y: Any) -> Tensor:
    """number // tensor"""
    return floor_divide(y, x)


def rremainder(x: Tensor, y: Any) -> Tensor:
    """number % tensor"""
    return remainder(y, x)


def left_shift_of(x: Tensor, y: Any) -> Any:
    """number << tensor"""
    return T.bitwise_left_shift(y, x)


def right_shift_of(x: Tensor, y: Any) -> Any:
    """number >> tensor"""
    return T.bitwise_right_shift(y, x)


def invert(input: Tensor) -> Tensor:
    """The ~ operator."""
    if input._a.dtype.kind not in "iub":
        raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type "
                        "tensors")
    return T.bitwise_not(input)


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08,
            equal_nan: bool = False) -> Tensor:
    """|input - other| <= atol + rtol * |other|, element by element."""
    if input._a.dtype != other._a.dtype:
        raise RuntimeError(f"{type_name(input._a.dtype)} did not match "
                           f"{type_name(other._a.dtype)}")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not value >= 0:
            raise RuntimeError(f"{name} must be greater than or equal to zero, but got {value}")
    return wrap(input._be.xp.isclose(input._a, other._a, rtol, atol, equal_nan), input._be)


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08,
             equal_nan: bool = False) -> bool:
    """Are all elements close?"""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


def equal(input: Tensor, other: Tensor) -> bool:
    """The same shape and the same elements?"""
    return input._a.shape == other._a.shape and bool(T.eq(input, other).all())
