"""Elements held within bounds, or chosen by a condition: clamp, where, masked_fill."""
from __future__ import annotations

from typing import Any

from gpugrad import dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions.arguments import broadcast_shape, cast, check_written, common, number_of
from gpugrad.functions.pointwise import BOOL, OPERANDS, check_result, operand, unsupported


def _bounds(x: Tensor, min: Any, max: Any) -> bool:
    """Are the bounds tensors? Two kinds of them, or none at all, are errors."""
    given = [b for b in (min, max) if b is not None]
    if not given:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    tensors = [isinstance(b, Tensor) for b in given]
    if tensors == [False, True] or tensors == [True, False]:
        raise TypeError("clamp(): min and max must both be numbers or both be tensors, not "
                        f"{type(min).__name__} and {type(max).__name__}")
    dtype = dtypes.promote(x._a, *map(operand, given))
    if dtype is BOOL and (len(given) == 2 or not tensors[0]):
        raise unsupported("clamp_cpu", x)
    if dtype.kind == "c":
        raise NotImplementedError("clamp is not supported for complex types")
    return tensors[0]


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """input held between min and max: two numbers or two tensors, either of which may be None."""
    if _bounds(input, min, max):
        given = [t for t in (input, min, max) if t is not None]
        broadcast_shape(*given)
        x, *rest = common(*given)
        low, high = (b if b is None else rest.pop(0) for b in (min, max))
        return T.clamp_between(x, low, high)
    x = cast(input, dtypes.promote(input._a, *[b for b in (min, max) if b is not None]))
    low, high = (b if b is None else number_of(b, x._a.dtype) for b in (min, max))
    return T.clamp(x, min=low, max=high)


def clamp_(x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    given = [b for b in (min, max) if b is not None]
    tensors = _bounds(x, min, max)
    check_result(x, dtypes.promote(x._a, *[operand(b) for b in given]))
    if tensors:
        check_written(x, *given)
        low, high = (b if b is None else cast(b, x._a.dtype) for b in (min, max))
        return T.clamp_between_(x, low, high)
    low, high = (b if b is None else number_of(b, x._a.dtype) for b in (min, max))
    return T.clamp_(x, min=low, max=high)


def _one_bound(name: str, x: Tensor, bound: Any) -> bool:
    """Is the only bound a tensor?"""
    if not isinstance(bound, OPERANDS):
        raise TypeError(f"{name}() received an invalid combination of arguments - got (Tensor, "
                        f"{type(bound).__name__}), but expected one of: a Tensor, a Number")
    if x._a.dtype is BOOL and isinstance(bound, bool):
        raise unsupported(f"{name}_scalar_cpu", x)
    return _bounds(x, bound, None)


def clamp_min(input: Tensor, min: Any) -> Tensor:
    """input, or min where that is greater."""
    if _one_bound("clamp_min", input, min):
        broadcast_shape(input, min)
        return T.clamp_min_tensor(*common(input, min))
    x = cast(input, dtypes.promote(input._a, min))
    return T.clamp_min(x, min=number_of(min, x._a.dtype))


def clamp_max(input: Tensor, max: Any) -> Tensor:
    """input, or max where that is less."""
    if _one_bound("clamp_max", input, max):
        broadcast_shape(input, max)
        return T.clamp_max_tensor(*common(input, max))
    x = cast(input, dtypes.promote(input._a, max))
    return T.clamp_max(x, max=number_of(max, x._a.dtype))


def _bound_in_place(name: str, x: Tensor, bound: Any) -> tuple[Any, bool]:
    """The bound in the dtype of x, and whether it is a tensor."""
    tensor = _one_bound(name, x, bound)
    check_result(x, dtypes.promote(x._a, operand(bound)))
    if tensor:
        check_written(x, bound)
        return cast(bound, x._a.dtype), True
    return number_of(bound, x._a.dtype), False


def clamp_min_(x: Tensor, min: Any) -> Tensor:
    low, tensor = _bound_in_place("clamp_min", x, min)
    return T.clamp_min_tensor_(x, low) if tensor else T.clamp_min_(x, min=low)


def clamp_max_(x: Tensor, max: Any) -> Tensor:
    high, tensor = _bound_in_place("clamp_max", x, max)
    return T.clamp_max_tensor_(x, high) if tensor else T.clamp_max_(x, max=high)


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """input where the condition holds, else other; of a condition alone nonzero(as_tuple=True)."""
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    if input is None or other is None:
        raise TypeError("where() received an invalid combination of arguments: it takes a "
                        "condition, or a condition, input and other")
    dtype = dtypes.promote(operand(input), operand(other))
    if condition._a.dtype.kind != "b":
        if condition._a.dtype != dtypes.uint8.np:
            raise RuntimeError("where expected condition to be a boolean tensor, but got a tensor "
                               f"with dtype {type_name(condition._a.dtype)}")
        condition = condition != 0
    x, y = (_as_tensor(v, dtype, condition) for v in (input, other))
    try:
        return T.where(condition, x, y)
    except ValueError:
        broadcast_shape(condition, x, y)
        raise


def _as_tensor(v: Any, dtype: Any, like: Tensor) -> Tensor:
    if not isinstance(v, Tensor):
        return wrap(like._be.number[v, dtype], like._be)
    if v._be is not like._be and v._a.ndim == 0:
        v = v.to(like.device)
    return cast(v, dtype)


def where_method(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """self where the condition holds, else other."""
    return where(condition, self, other)


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """value, a number or a tensor of one, where the mask holds, else input."""
    _check_mask(mask, value)
    broadcast_shape(mask, input)
    if isinstance(value, Tensor):
        return T.masked_fill_with(input, mask, _as_tensor(value, input._a.dtype, input))
    return T.masked_fill(input, mask, value=number_of(value, input._a.dtype))


def masked_fill_(x: Tensor, mask: Tensor, value: Any) -> Tensor:
    _check_mask(mask, value)
    check_written(x, mask)
    if isinstance(value, Tensor):
        return T.masked_fill_with_(x, mask, _as_tensor(value, x._a.dtype, x))
    return T.masked_fill_(x, mask, value=number_of(value, x._a.dtype))


def _check_mask(mask: Tensor, value: Any) -> None:
    if not isinstance(value, OPERANDS):
        raise TypeError("masked_fill() received an invalid combination of arguments: value must be "
                        f"a number or a tensor of one, not {type(value).__name__}")
    if mask._a.dtype.kind != "b":
        raise RuntimeError("masked_fill_ only supports boolean masks, but got mask with dtype "
                           f"{mask.dtype}")
    if isinstance(value, Tensor) and value._a.ndim:
        raise RuntimeError("masked_fill_ only supports a 0-dimensional value tensor, but got "
                           f"tensor with {value._a.ndim} dimension(s).")
