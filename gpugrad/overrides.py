"""torch.overrides: the questions of functions that let other types take over.

Functions of gpugrad itself don't ask ``__torch_function__``; functions of a program that ask by
has_torch_function and handle_torch_function do.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from gpugrad._tensor import Tensor


def _overrides(x: Any) -> bool:
    """Has x's type a __torch_function__ of its own?"""
    kind = type(x)
    return kind is not Tensor and hasattr(kind, "__torch_function__")


def has_torch_function(relevant_args: Iterable[Any]) -> bool:
    """Has any of the arguments a type with __torch_function__?"""
    return any([_overrides(x) for x in relevant_args])


def has_torch_function_unary(obj: Any) -> bool:
    """Has its type a __torch_function__?"""
    return _overrides(obj)


def has_torch_function_variadic(*args: Any) -> bool:
    """Has any of the arguments a type with __torch_function__?"""
    return has_torch_function(args)


def handle_torch_function(public_api: Callable[..., Any], relevant_args: Iterable[Any], *args: Any,
                          **kwargs: Any) -> Any:
    """Ask the arguments' types, subclasses before their bases, to do the call; TypeError if none
    does.
    """
    asked: list[Any] = []
    types: list[type] = []
    for x in relevant_args:
        if not _overrides(x) or type(x) in types:
            continue
        at = next((i for i, other in enumerate(asked) if issubclass(type(x), type(other))),
                  len(asked))
        asked.insert(at, x)
        types.append(type(x))
    for x in asked:
        result = type(x).__torch_function__(public_api, tuple(types), args, kwargs)
        if result is not NotImplemented:
            return result
    name = f"{public_api.__module__}.{public_api.__name__}"
    raise TypeError(f"no implementation found for '{name}' on types that implement "
                    f"__torch_function__: {[type(x) for x in asked]}")


def wrap_torch_function(dispatcher: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator: the arguments that dispatcher returns for a call may take it over."""
    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(fn)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            relevant = dispatcher(*args, **kwargs)
            if has_torch_function(relevant):
                return handle_torch_function(wrapped, relevant, *args, **kwargs)
            return fn(*args, **kwargs)
        return wrapped
    return decorate


def is_tensor_like(inp: Any) -> bool:
    """Is it a Tensor, or of a type with __torch_function__?"""
    return isinstance(inp, Tensor) or hasattr(inp, "__torch_function__")


def is_tensor_method_or_property(func: Any) -> bool:
    """Is it a method or property of Tensor?"""
    name = getattr(func, "__name__", None)
    return name == "__get__" or getattr(Tensor, name or "", None) is func


class TorchFunctionMode:
    """Would see every call in a ``with`` block; functions here tell nobody of their calls."""

    def __enter__(self) -> Any:
        raise NotImplementedError("TorchFunctionMode is not supported: functions don't announce "
                                  "their calls; use forward hooks of modules")

    def __exit__(self, *exc: object) -> None:
        pass


def get_ignored_functions() -> set[Any]:
    """None: set()."""
    return set()


def get_overridable_functions() -> dict[Any, list[Any]]:
    """None: {}."""
    return {}


def get_testing_overrides() -> dict[Any, Any]:
    """None: {}."""
    return {}
