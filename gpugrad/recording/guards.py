"""What a recorded step takes for granted, as checks: (template of an expression, its constants...).

Numbers that Python code reads, from names and from modules; which modules, parameters and buffers
are where; which name holds which tensor. Where a check fails the step is recorded anew.
"""
from __future__ import annotations

import dis
import types
from typing import Any

from gpugrad import dtypes
from gpugrad._state import anomaly, off, state
from gpugrad._tensor import Tensor

Check = tuple[Any, ...]

# What is compared by value.
PLAIN = (bool, int, float, str, type(None))
# What a check raises where something it names is no longer there.
GONE = AttributeError, IndexError, KeyError
_TABLES = ("_modules", "_parameters", "_buffers")


def modes() -> Any:
    """What of this thread's state ops look at."""
    autocast = None if state.casting is None else id(state.casting)
    watched = state.saving is not None or anomaly[0] is not None
    return state.grad, state.inference, autocast, watched


def of_modes() -> list[Check]:
    now = modes()
    # Nobody has switched anything, or it is as it was; see _state.off.
    quick = "not {}[0] or " if now == (True, False, None, False) else "{}[0] and "
    return [(f"({quick}{{}}() == {{}})", off, modes, now),
            ("{}() is {}", dtypes.default_np, dtypes.default_np()),
            ("{}.device is {}", state, state.device)]


def equal(text: str, holder: Any, value: Any) -> Check:
    """A plain value as it was; any other object the same one."""
    if type(value) in PLAIN:
        return (text + " == {}", holder, value)
    return (text + " is {}", holder, value)


# Modules -----------------------------------------------------------------------------------------

def of_modules(modules: list[Any]) -> list[Check]:
    """Their numbers and flags, and what they consist of."""
    if modules:
        from gpugrad.nn.modules.hooks import has_hooks
    found: list[Check] = []
    for m in modules:
        mine = vars(m)
        for k, v in mine.items():
            if type(v) in PLAIN:
                found.append(equal("{}[" + repr(k) + "]", mine, v))
        found.append(("({}._hooked is False or not {}({}))", m, has_hooks, m))
        for table in _TABLES:
            held = mine[table]
            found.append(("{} is {} and len({}) == {}",) + (_Item(mine, table), held, held,
                                                            len(held)))
            found += [equal("{}[" + repr(k) + "]", held, v) for k, v in held.items()]
    return [_flat(c) for c in found]


class _Item:
    """Stands for an entry of a dict in a check."""

    def __init__(self, holder: Any, key: str) -> None:
        self.holder, self.key = holder, key


def _flat(check: Check) -> Check:
    """The same check without _Items."""
    if len(check) > 1 and isinstance(check[1], _Item):
        item = check[1]
        return (check[0].replace("{}", "{}[" + repr(item.key) + "]", 1), item.holder,
                *check[2:])
    return check


# Names -------------------------------------------------------------------------------------------

def of_function(f: Any, package: str, seen: set[Any], arguments: Any = ()) -> list[Check]:
    """What a function's code finds under names: its closure's, globals, plain attributes of them,
    and of its arguments; and so for the functions that it calls by name, outside of gpugrad."""
    while hasattr(f, "func") or hasattr(f, "__func__") or hasattr(f, "__wrapped__"):
        arguments = (*([f.__self__] if hasattr(f, "__func__") else []), *arguments)
        f = getattr(f, "func", None) or getattr(f, "__func__", None) or f.__wrapped__
    if not isinstance(f, types.FunctionType) or f.__code__ in seen or \
            f.__code__.co_filename.startswith(package):
        return []
    seen.add(f.__code__)
    found: list[Check] = []
    names = f.__code__.co_varnames[:f.__code__.co_argcount]
    bases: dict[tuple[str, str], Any] = {("LOAD_FAST", k): v for k, v in zip(names, arguments)}
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or ()):
        try:
            bases["LOAD_DEREF", name] = value = cell.cell_contents
        except ValueError:
            continue
        found += _of_value("{}.cell_contents", cell, value, package, seen)
    space = f.__globals__
    for code in _codes(f.__code__):
        for name in code.co_names:
            if name in space and ("LOAD_GLOBAL", name) not in bases:
                bases["LOAD_GLOBAL", name] = value = space[name]
                found += _of_value("{}[" + repr(name) + "]", space, value, package, seen)
        found += _attributes(code, bases)
    return found


def _codes(code: Any) -> list[Any]:
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return [code, *[d for c in inner for d in _codes(c)]]


def values(f: Any, package: str) -> list[Any]:
    """What the names in a function's code stand for; gpugrad's own functions have no interest."""
    while hasattr(f, "func") or hasattr(f, "__func__") or hasattr(f, "__wrapped__"):
        f = getattr(f, "func", None) or getattr(f, "__func__", None) or f.__wrapped__
    code = getattr(f, "__code__", None)
    if code is None or code.co_filename.startswith(package):
        return []
    cells = [c for c in f.__closure__ or () if c != types.CellType()]
    space = f.__globals__
    return [*cells, *[space[n] for c in _codes(code) for n in c.co_names if n in space]]


def _of_value(text: str, holder: Any, value: Any, package: str, seen: set[Any]) -> list[Check]:
    if isinstance(value, types.FunctionType):
        return of_function(value, package, seen)
    if isinstance(value, types.ModuleType | type | types.BuiltinFunctionType):
        return []
    return [equal(text, holder, value)]


def _attributes(code: Any, bases: dict[tuple[str, str], Any]) -> list[Check]:
    """Plain values that are read as attributes, ``config.rate``."""
    found: list[Check] = []
    base: Any = None
    path = ""
    for step in dis.get_instructions(code):
        if (step.opname, step.argval) in bases:
            base, path = bases[step.opname, step.argval], ""
            if isinstance(base, types.ModuleType | Tensor):
                base = None
            start = base
        elif base is not None and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            name = step.argval
            here = getattr(base, "__dict__", {})
            if not isinstance(here, dict) or name not in here:
                base = None
                continue
            base, path = here[name], f"{path}.{name}"
            if type(base) in PLAIN:
                found.append(equal("{}" + path, start, base))
        elif step.opname not in ("CACHE", "NOP", "PRECALL"):
            base = None
    return found
