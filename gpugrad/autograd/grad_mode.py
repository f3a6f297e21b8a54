"""Switching the recording of graphs on and off: no_grad, enable_grad, set_grad_enabled,
inference_mode.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from gpugrad._state import state, switch


class _Mode:
    """Context manager and decorator, of functions and of generator functions."""

    def flags(self) -> tuple[bool, bool]:
        """(grad, inference) inside the block."""
        raise NotImplementedError

    def __enter__(self) -> None:
        self._before = switch(*self.flags())

    def __exit__(self, *exc: object) -> None:
        switch(*self._before)

    def again(self) -> _Mode:
        """A new one like this: each call of a decorated function enters its own."""
        return type(self)()

    def __call__(self, fn: Callable[..., Any]) -> Any:
        if isinstance(fn, type):
            raise TypeError(f"{type(self).__name__} decorates functions, not the class "
                            f"{fn.__name__}")
        # a generator function
        if getattr(getattr(fn, "__code__", None), "co_flags", 0) & 0x20:
            return self._wrap_generator(fn)

        @functools.wraps(fn)
        def wrapped(*args: Any, **kw: Any) -> Any:
            with self.again():
                return fn(*args, **kw)
        return wrapped

    def _wrap_generator(self, fn: Callable[..., Any]) -> Any:
        @functools.wraps(fn)
        def wrapped(*args: Any, **kw: Any) -> Any:
            generator = fn(*args, **kw)
            value: Any = None
            step: Any = generator.send
            # the mode holds inside the generator, not at its yields
            while True:
                try:
                    with self.again():
                        item = step(value)
                except StopIteration as end:
                    return end.value
                try:
                    value, step = (yield item), generator.send
                except GeneratorExit:
                    with self.again():
                        generator.close()
                    raise
                except BaseException as error:
                    value, step = error, generator.throw
        return wrapped


class no_grad(_Mode):
    """Nothing that happens inside is recorded."""

    def __new__(cls, fn: Any = None) -> Any:
        return super().__new__(cls) if fn is None else no_grad()(fn)

    def flags(self) -> tuple[bool, bool]:
        return False, state.inference


class enable_grad(_Mode):
    """Recording is on inside, also within no_grad."""

    def __new__(cls, fn: Any = None) -> Any:
        return super().__new__(cls) if fn is None else enable_grad()(fn)

    def flags(self) -> tuple[bool, bool]:
        return True, state.inference


class set_grad_enabled(_Mode):
    """Recording on or off: at once when called as a function, and restored when used with ``with``.
    """

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, bool):
            raise TypeError("set_grad_enabled(): argument 'enabled' (position 1) must be bool, not "
                            f"{type(mode).__name__}")
        self._mode = mode
        self._outer = switch(mode, state.inference)

    def flags(self) -> tuple[bool, bool]:
        return self._mode, state.inference

    def __enter__(self) -> None:
        switch(*self.flags())
        self._before = self._outer

    def again(self) -> _Mode:
        return set_grad_enabled(self._mode)

    def __call__(self, fn: Callable[..., Any]) -> Any:
        # as a decorator it changes nothing outside the function
        switch(*self._outer)
        return super().__call__(fn)


class inference_mode(_Mode):
    """As no_grad, and the tensors made inside can never take part in a graph."""

    def __new__(cls, mode: Any = True) -> Any:
        if callable(mode):
            return inference_mode()(mode)
        return super().__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        self._mode = mode

    def flags(self) -> tuple[bool, bool]:
        return (False, True) if self._mode else (True, False)

    def again(self) -> _Mode:
        return inference_mode(self._mode)


def is_grad_enabled() -> bool:
    """Is this thread recording?"""
    return state.grad


def is_inference_mode_enabled() -> bool:
    """Is this thread in inference mode?"""
    return state.inference
