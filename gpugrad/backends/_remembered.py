"""Modules of torch.backends whose settings are remembered, and have no effect."""
from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any


class Remembering(ModuleType):
    """A module with a table ``_values`` of settings: assignments to them are remembered there."""

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("_values", {})
        if name in values:
            return values[name]
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        values = self.__dict__.get("_values", {})
        if name in values:
            self.__dict__["_check"](name, value)
            values[name] = value
        else:
            ModuleType.__setattr__(self, name, value)


def bools(name: str, value: Any) -> None:
    """Raise unless the value of a setting is a bool."""
    if not isinstance(value, bool):
        raise RuntimeError(f"{name} expects a bool, but got {type(value).__name__}")


def remember(module: str, check: Callable[[str, Any], None], **values: Any) -> tuple[Any, Any]:
    """Give a module these settings; returns its functions set_flags and flags."""
    here = sys.modules[module]
    here.__dict__.update(_values=values, _check=check)
    here.__class__ = Remembering

    def set_flags(*args: Any, **given: Any) -> tuple[Any, ...]:
        """Set what isn't None, by position or by name with _ before it; returns what was before."""
        before = tuple(values.values())
        new = dict(zip(values, args))
        for name, value in given.items():
            key = name.removeprefix("_")
            if key not in values:
                raise TypeError(f"set_flags() got an unexpected keyword argument '{name}'")
            new[key] = value
        for name, value in new.items():
            if value is not None:
                setattr(here, name, value)
        return before

    @contextlib.contextmanager
    def flags(*args: Any, **given: Any) -> Iterator[None]:
        """The settings inside the block."""
        before = dict(values)
        set_flags(*args, **given)
        try:
            yield
        finally:
            values.update(before)

    return set_flags, flags
