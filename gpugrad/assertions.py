"""torch._assert, and the checks of the torch._check family."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad._tensor import Tensor


def _assert(condition: Any, message: str) -> None:
    """AssertionError with the message unless the condition, a bool or a tensor of one, holds."""
    if not condition:
        raise AssertionError(message)


def _check_with(error_type: type[Exception], cond: Any, message: Callable[[], str] | None) -> None:
    """error_type with what message() returns unless cond, a bool, holds."""
    if not isinstance(cond, bool):
        raise TypeError(f"cond must be a bool, but got {type(cond)}")
    if cond:
        return
    if message is not None and not callable(message):
        raise TypeError("message must be a callable")
    raise error_type("Expected cond to be True, but got False. (Could this error message be "
                     "improved? If so, please report an enhancement request to PyTorch.)"
                     if message is None else str(message()))


def _check(cond: Any, message: Callable[[], str] | None = None) -> None:
    """RuntimeError unless cond holds."""
    _check_with(RuntimeError, cond, message)


def _check_index(cond: Any, message: Callable[[], str] | None = None) -> None:
    """IndexError unless cond holds."""
    _check_with(IndexError, cond, message)


def _check_value(cond: Any, message: Callable[[], str] | None = None) -> None:
    """ValueError unless cond holds."""
    _check_with(ValueError, cond, message)


def _check_type(cond: Any, message: Callable[[], str] | None = None) -> None:
    """TypeError unless cond holds."""
    _check_with(TypeError, cond, message)


def _check_not_implemented(cond: Any, message: Callable[[], str] | None = None) -> None:
    """NotImplementedError unless cond holds."""
    _check_with(NotImplementedError, cond, message)


def _check_is_size(i: Any, message: Callable[[], str] | None = None, *,
                   max: int | None = None) -> None:
    """RuntimeError unless i is a size: not negative, and max at most."""
    _check(i >= 0, message)
    if max is not None:
        _check(i <= max, message)


def _check_tensor_all(cond: Any, message: Callable[[], str] | None = None) -> None:
    """RuntimeError unless all elements of a tensor of bools are True."""
    if not isinstance(cond, Tensor) or cond._a.dtype.kind != "b":
        raise TypeError(f"cond must be a tensor of bools, but got {type(cond)}")
    _check(bool(cond.all()), message)
