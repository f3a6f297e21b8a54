"""torch._foreach_*: an operation for each tensor of a list, as programs that average weights call.

Operands are a number for all, a number or a tensor for each, or a 0-dim tensor for all. The plain
forms return a tuple; those that end in _ change the list's tensors and return it.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gpugrad._tensor import Tensor

_OF_ONE = frozenset(
    "abs acos asin atan ceil clone cos cosh erf erfc exp expm1 floor frac lgamma log log10 log1p "
    "log2 neg reciprocal round rsqrt sigmoid sign sin sinh sqrt tan tanh trunc zero".split())
_OF_TWO = frozenset("add sub mul div pow clamp_min clamp_max maximum minimum mm copy".split())
_OF_THREE = frozenset(["addcdiv", "addcmul"])
_ONLY_PLAIN = frozenset(["clone", "mm"])
_ONLY_IN_PLACE = frozenset(["zero", "copy"])
# What PyTorch calls the second operand when it is given by name.
_OPERAND = frozenset("other scalar scalars exponent src mat2".split())
# Tensor has methods for two tensors of these names: for a number it is that of another name.
_WITH_NUMBER = {"maximum": "clamp_min", "minimum": "clamp_max"}


def function(name: str) -> Callable[..., Any] | None:
    """The function torch.<name>, or None."""
    word = name.removeprefix("_foreach_")
    found: Callable[..., Any]
    if word in ("norm", "powsum", "max"):
        found = {"norm": _norm, "powsum": _powsum, "max": _max}[word]
    else:
        op, in_place = word.removesuffix("_"), word.endswith("_")
        if op in (_ONLY_IN_PLACE if not in_place else _ONLY_PLAIN):
            return None
        make = _of_one if op in _OF_ONE else _of_two if op in _OF_TWO else \
            _of_three if op in _OF_THREE else _lerp if op == "lerp" else None
        if make is None:
            return None
        found = make(name, word, in_place)
    found.__name__ = found.__qualname__ = name
    return found


def _list(name: str, tensors: Any, position: int = 0) -> Sequence[Tensor]:
    if not isinstance(tensors, list | tuple):
        raise TypeError(f"{name}(): argument {position} must be a tuple of Tensors, not "
                        f"{type(tensors).__name__}: for one tensor use its own method")
    for i, t in enumerate(tensors):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}(): expected Tensor as element {i} in argument {position}, but "
                            f"got {type(t).__name__}")
    if not tensors:
        raise RuntimeError(f"{name}(): Tensor list must have at least one tensor.")
    return tensors


def _for_each(name: str, tensors: Sequence[Tensor], other: Any) -> Sequence[Any]:
    """An operand for each of the tensors."""
    if isinstance(other, Tensor):
        if other.dim() != 0:
            raise RuntimeError(f"{name}(): scalar tensor expected to be 0 dim but it has "
                               f"{other.dim()} dimensions and {other.numel()} elements.")
        return [other] * len(tensors)
    if not isinstance(other, list | tuple):
        return [other] * len(tensors)
    if len(other) != len(tensors):
        if other and not isinstance(other[0], Tensor):
            raise RuntimeError(f"{name}(): Tensor list must have same number of elements as scalar "
                               f"list, got {len(tensors)} and {len(other)}.")
        raise RuntimeError(f"{name}(): Tensor lists must have the same number of tensors, got "
                           f"{len(tensors)} and {len(other)}")
    return other


def _of_one(name: str, method: str, in_place: bool) -> Callable[..., Any]:
    def foreach(self: Any) -> Any:
        found = tuple([getattr(t, method)() for t in _list(name, self)])
        return self if in_place else found
    return foreach


def _of_two(name: str, method: str, in_place: bool) -> Callable[..., Any]:
    with_number = _WITH_NUMBER.get(method.removesuffix("_"))

    def one(t: Tensor, other: Any, *args: Any, **options: Any) -> Any:
        if with_number is not None and not isinstance(other, Tensor):
            return getattr(t, with_number + "_" * in_place)(other)
        if with_number is not None and in_place:         # Tensor has no maximum_
            return t.copy_(getattr(t, method[:-1])(other))
        return getattr(t, method)(other, *args, **options)

    def foreach(self: Any, *args: Any, **options: Any) -> Any:
        for word in _OPERAND & options.keys():
            args = options.pop(word), *args
        if not args:
            raise TypeError(f"{name}() needs an operand beside the list: a number, or a list")
        if len(args) > 1 and method.rstrip("_") in ("add", "sub"):   # no older order here
            raise TypeError(f"{name}() takes 2 positional arguments but {len(args) + 1} were given")
        if isinstance(self, int | float) and method == "pow":
            return tuple([self ** t for t in _list(name, args[0], 1)])
        tensors = _list(name, self)
        found = tuple([one(t, other, *args[1:], **options)
                       for t, other in zip(tensors, _for_each(name, tensors, args[0]))])
        return self if in_place else found
    return foreach


def _lerp(name: str, method: str, in_place: bool) -> Callable[..., Any]:
    def foreach(self: Any, tensors1: Any, weight: Any = None, *, weights: Any = None) -> Any:
        tensors = _list(name, self)
        found = tuple([getattr(t, method)(u, w) for t, u, w in zip(
            tensors, _for_each(name, tensors, _list(name, tensors1, 1)),
            _for_each(name, tensors, weight if weights is None else weights))])
        return self if in_place else found
    return foreach


def _of_three(name: str, method: str, in_place: bool) -> Callable[..., Any]:
    def foreach(self: Any, tensor1: Any, tensor2: Any, scalars: Any = 1, *,
                value: Any = None) -> Any:
        tensors = _list(name, self)
        scalars = scalars if value is None else value
        if isinstance(scalars, Tensor) and scalars.dim() == 1:
            scalars = scalars.tolist()
        found = tuple([getattr(t, method)(u, v, value=w) for t, u, v, w in zip(
            tensors, _for_each(name, tensors, _list(name, tensor1, 1)),
            _for_each(name, tensors, _list(name, tensor2, 2)), _for_each(name, tensors, scalars))])
        return self if in_place else found
    return foreach


def _norm(self: Any, ord: float = 2, dtype: Any = None) -> tuple[Tensor, ...]:
    from gpugrad.functions.linalg_norms import vector_norm
    return tuple([vector_norm(t, ord, dtype=dtype) for t in _list("_foreach_norm", self)])


def _powsum(self: Any, ord: float = 2, dtype: Any = None) -> tuple[Tensor, ...]:
    return tuple([t.abs().pow(ord).sum(dtype=dtype) for t in _list("_foreach_powsum", self)])


def _max(self: Any) -> tuple[Tensor, ...]:
    return tuple([t.max() for t in _list("_foreach_max", self)])
