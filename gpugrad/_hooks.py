"""The handle that registering a hook returns."""
from __future__ import annotations

import itertools
import weakref
from typing import Any


class RemovableHandle:
    """What ``register_*hook`` returns: ``remove()``, or leaving its ``with`` block, ends the hook.

    The table of hooks is held weakly: a handle keeps nothing alive.
    """

    _next_id = itertools.count()

    def __init__(self, table: Any, *, extra_dict: Any = None) -> None:
        self.id = next(self._next_id)
        while self.id in table:                  # hooks of a module that was unpickled
            self.id = next(self._next_id)
        self._tables = [weakref.ref(t) for t in (table, *_listed(extra_dict))]

    def remove(self) -> None:
        for ref in self._tables:
            table = ref()
            if table is not None:
                table.pop(self.id, None)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy belongs to the copies of the tables."""
        return _restored, ([ref() for ref in self._tables], self.id)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class HookTable(dict[int, Any]):
    """Hooks by handle id, in the order of registration; weak references to it are possible."""

    __slots__ = ("__weakref__",)

    def register(self, hook: Any) -> RemovableHandle:
        handle = RemovableHandle(self)
        self[handle.id] = hook
        return handle


def _restored(tables: list[Any], i: int) -> RemovableHandle:
    handle = object.__new__(RemovableHandle)
    handle.id, handle._tables = i, [weakref.ref(t) for t in tables if t is not None]
    return handle


def _listed(x: Any) -> list[Any]:
    return [] if x is None else list(x) if isinstance(x, list | tuple) else [x]
