"""Hooks on what a graph keeps for backward: the stack of a thread, and values kept in packed form.

While a thread has such hooks it counts in ``_state.off``, so that its operations take the general
ways, which look here; those of a program without hooks pay nothing.
"""
from __future__ import annotations

from typing import Any

from gpugrad._state import count_off, in_backward, state, switch
from gpugrad._tensor import Tensor, wrap

# The guard of a node whose values are packed: a version cell that never has the version wanted, so
# that the check which every backward makes anyway leads to them.
PACKED_CELL = (1,)
PACKED_GUARD = (PACKED_CELL, 0, ())


class Packed:
    """What a pack hook made of a saved tensor, and the hook that makes a tensor of it again."""

    __slots__ = ("unpack_hook", "value")

    def __init__(self, t: Tensor, hooks: tuple[Any, Any]) -> None:
        pack, self.unpack_hook = hooks
        version = t._ver[0]
        was = switch(False, state.inference)
        try:
            self.value = pack(t)
        finally:
            switch(*was)
        if t._ver[0] != version:
            raise RuntimeError("A saved tensor pack hook is modifying its input in place. Tensors "
                               "provided as input to pack hook can not be modified by in-place "
                               "operations as this can lead to unexpected side-effects: work on a "
                               "clone() in the hook")

    def unpacked(self, be: Any) -> Any:
        """The array again, which must be one of ``be``."""
        t = in_backward(self.unpack_hook, self.value)
        if not isinstance(t, Tensor):
            raise TypeError("Output of saved tensor unpack_hook expected to be a Tensor but got "
                            f"result of type {type(t).__name__}")
        if t._be is not be:
            raise RuntimeError(f"Output of saved tensor unpack_hook is on {t.device}, but the "
                               f"gradient that needs it is on {be.name}")
        return t._a


def pack(a: Any, be: Any, t: Any = None) -> Packed:
    """An array as the hooks of this thread want it; ``t``: the Tensor that it is of, if known."""
    return Packed(t if t is not None and t._a is a else wrap(a, be), state.saving)


def unpacked(value: Any, be: Any) -> Any:
    """A saved value, unpacked if it is packed."""
    if type(value) is Packed:
        return value.unpacked(be)
    if type(value) is tuple and any([type(v) is Packed for v in value]):
        return tuple([unpacked(v, be) for v in value])
    return value


class saved_tensors_hooks:
    """Inside the ``with`` block ``pack_hook(tensor)`` gets each tensor that an operation keeps for
    its backward, and what it returns is kept instead; ``unpack_hook`` of that gives the tensor when
    backward needs it. The innermost block counts.

    An operation's own result comes detached: a hook that keeps it makes no reference cycle.
    """

    def __init__(self, pack_hook: Any, unpack_hook: Any) -> None:
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook

    def __enter__(self) -> None:
        if state.saving_disabled is not None:
            raise RuntimeError(state.saving_disabled)
        self._before = [*getattr(self, "_before", ()), state.saving]
        count_off(1)
        state.saving = (self.pack_hook, self.unpack_hook)

    def __exit__(self, *exc: object) -> None:
        state.saving = self._before.pop()
        count_off(-1)


class disable_saved_tensors_hooks:
    """Inside, as a context or of a decorated function, saved_tensors_hooks raises error_message."""

    def __init__(self, error_message: str) -> None:
        self.error_message = error_message

    def __enter__(self) -> None:
        if state.saving is not None:
            raise RuntimeError(self.error_message)
        self._before, state.saving_disabled = state.saving_disabled, self.error_message

    def __exit__(self, *exc: object) -> None:
        state.saving_disabled = self._before

    def __call__(self, fn: Any) -> Any:
        import functools

        @functools.wraps(fn)
        def wrapped(*args: Any, **kw: Any) -> Any:
            with disable_saved_tensors_hooks(self.error_message):
                return fn(*args, **kw)
        return wrapped
