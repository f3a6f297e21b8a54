"""Control flow as functions. Here they are Python's own: nothing is traced."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad._tensor import Tensor


def cond(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any],
         operands: tuple[Any, ...] | list[Any] = ()) -> Any:
    """true_fn(*operands) if pred holds, else false_fn(*operands)."""
    if not isinstance(pred, bool | int | float | Tensor):
        raise RuntimeError(f"Expected pred to be bool or tensor, but got {pred}.")
    if isinstance(pred, Tensor) and pred.numel() != 1:
        raise RuntimeError(f"Expected pred to be bool or single-element tensor, but got {pred}.")
    if not (callable(true_fn) and callable(false_fn)):
        raise TypeError("cond(): expected both branches to be callable, but got "
                        f"{type(true_fn).__name__} and {type(false_fn).__name__}")
    if not isinstance(operands, tuple | list):
        raise RuntimeError("Expected operands to be a tuple or a list of what the branches take, "
                           f"but got {type(operands).__name__}")
    return (true_fn if pred else false_fn)(*operands)


def while_loop(cond_fn: Callable[..., Any], body_fn: Callable[..., Any],
               carried_inputs: tuple[Any, ...] | list[Any]) -> tuple[Any, ...]:
    """body_fn of what it gave before, as long as cond_fn of that holds; first of carried_inputs."""
    if not (callable(cond_fn) and callable(body_fn)):
        raise RuntimeError("Expect cond_fn and body_fn to be callable.")
    if not isinstance(carried_inputs, tuple | list):
        raise RuntimeError("Expect carried_inputs to be a tuple of possibly nested "
                           f"dict/list/tuple, but got {type(carried_inputs).__name__}")
    values = tuple(carried_inputs)
    while cond_fn(*values):
        new = body_fn(*values)
        new = tuple(new) if isinstance(new, tuple | list) else (new,)
        if len(new) != len(values):
            raise RuntimeError(f"body_fn should return as many values as it takes, {len(values)}, "
                               f"but gave {len(new)}")
        values = new
    return values
