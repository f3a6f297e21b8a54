"""Which tensors from outside a step uses, and where they are held.

They are looked for where a program has them: under the names in its code, in its modules, in lists,
dicts and attributes. What isn't found so is asked of the garbage collector, which takes longer.
"""
from __future__ import annotations

import gc
import types
from collections.abc import Iterator
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.recording.guards import Check

_DEPTH = 40
_MOST = 20_000                  # containers that are looked through
_LARGE = 1000                   # lists and dicts with more items are passed over
_CLOSED = (Tensor, types.ModuleType, types.FunctionType, type)


def referrers(*objects: Any) -> list[Any]:
    """gc.get_referrers, which passes over what gc.freeze() has set aside."""
    frozen = gc.get_freeze_count()
    if frozen:
        gc.unfreeze()
    found = gc.get_referrers(*objects)
    if frozen:
        gc.freeze()
    return found


class Holders:
    """``tensors``: those that have one of the arrays. ``checks``: where each of them is held."""

    def __init__(self, arrays: list[Any], roots: list[Any]) -> None:
        self.tensors: list[Tensor] = []
        self.checks: list[Check] = []
        self._wanted = {id(a) for a in arrays}
        self._leads: dict[int, bool] = {}       # by container: does it hold any of them?
        self._seen: list[Any] = []              # the containers, lest another gets their numbers
        if arrays:
            self._leads_to(roots, _DEPTH)
            self.checks = [c for c in self.checks if c[-2] is not roots and c[1] is not roots]
            known = {id(t._a) for t in self.tensors}
            self._ask([a for a in arrays if id(a) not in known])

    def _take(self, t: Tensor) -> bool:
        if id(t._a) not in self._wanted:
            return False
        if not any([t is x for x in self.tensors]):
            self.tensors.append(t)
        return True

    def _leads_to(self, holder: Any, depth: int) -> bool:
        """Look through a container."""
        found = self._leads.get(id(holder))
        if found is None:
            self._seen.append(holder)
            self._leads[id(holder)] = False      # while it is looked through
            found = False
            for check, value in _entries(holder) if depth and len(self._seen) < _MOST else ():
                if self._take(value) if isinstance(value, Tensor) else \
                        self._leads_to(value, depth - 1):
                    found = True
                    if check:
                        self.checks.append(check)
            self._leads[id(holder)] = found
        return found

    def _ask(self, arrays: list[Any]) -> None:
        """The rest: tensors that nothing above has led to."""
        for t in referrers(*arrays) if arrays else ():
            if isinstance(t, Tensor) and self._take(t):
                for holder in referrers(t):
                    if holder is not self.tensors:
                        for check, value in _entries(holder):
                            if check and value is t:
                                self.checks.append(check)


def _entries(x: Any) -> Iterator[tuple[Check, Any]]:
    """What a container holds, each with a check that it still does; () where it can't change."""
    if isinstance(x, types.CellType):
        yield ("{}.cell_contents is {}", x, x.cell_contents), x.cell_contents
    elif type(x) is tuple or isinstance(x, list):
        if len(x) <= _LARGE:
            for i, v in enumerate(x):
                yield () if type(x) is tuple else ("{}[{}] is {}", x, i, v), v
    elif isinstance(x, dict | types.MappingProxyType):
        if len(x) <= _LARGE:
            for k, v in list(x.items()):
                if isinstance(k, str | int):
                    yield ("{}[{}] is {}", x, k, v), v
    elif isinstance(x, types.MethodType):
        yield (), x.__self__
    elif isinstance(getattr(x, "__dict__", None), dict) and not isinstance(x, _CLOSED):
        own = "_parameters" not in vars(x) and type(x).__module__.startswith("gpugrad")
        if not own:                              # optimizers and such have tables of their own
            yield (), vars(x)
            yield (), vars(type(x))
