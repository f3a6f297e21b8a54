"""Hearing what ops do: each call of an op's implementation on arrays, where entries make it.

onnx/trace.py makes a graph of what it hears, recording/ a list of calls to make again. Other things
that happen to arrays, outside of ops, are told to ``_state.listening[0]``, a Listener.
"""
from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from gpugrad._state import listening
from gpugrad.autograd.rules import Spec

# One listener at a time: it changes what all threads call.
one_at_a_time = threading.RLock()


class Listener:
    """Who is told; a method that isn't overridden does nothing."""

    def converted(self, a: Any, result: Any) -> Any:
        """An operand got another dtype, as promotion wants it. Returns ``result``."""
        return result

    def wrote(self, a: Any, result: Any) -> None:
        """The elements of ``result`` were copied to ``a``."""

    def sized_by(self, a: Any) -> None:
        """The elements of ``a`` are about to decide how large a result is."""

    def created(self, a: Any) -> None:
        """An array has been made of Python's numbers, without a backend's help."""

    def whole(self, method: Callable[..., Any], args: Any, kw: dict[str, Any]) -> Any:
        """An update of the state that an object keeps is about to be made: make it."""
        return method(*args, **kw)


def update(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that updates what an object keeps, in ways which depend on what it keeps: a listener
    hears of it as a whole."""
    @functools.wraps(method)
    def call(*args: Any, **kw: Any) -> Any:
        who = listening[0]
        return method(*args, **kw) if who is None else who.whole(method, args, kw)
    return call


@contextlib.contextmanager
def hearing(listener: Listener, specs: list[Spec], heard: Callable[[Spec, Any, int], Any],
            everywhere: bool = False) -> Iterator[None]:
    """Put heard(spec, implementation, skip) in the place of each implementation for the CPU, or
    for CUDA devices, too; skip: how many arguments come before the arrays."""
    with one_at_a_time:
        before = listening[0]
        kept = [(s, list(s.impl), s.direct and list(s.direct)) for s in specs]
        try:
            for s, impl, direct in kept:
                for i in range(3 if everywhere else 1):
                    s.impl[i] = heard(s, impl[i], 1)
                    if direct and direct[i]:
                        s.direct[i] = heard(s, direct[i], 0)     # type: ignore[index]
            listening[0] = listener
            yield
        finally:
            listening[0] = before
            for s, impl, direct in kept:
                s.impl[:] = impl
                if direct:
                    s.direct[:] = direct         # type: ignore[index]
