"""@op: one class is one op. It becomes a Node subclass, an entry on Tensors and a function on
arrays.
"""
from __future__ import annotations

import functools
from typing import Any

from gpugrad import backend
from gpugrad.autograd.direct_entry import direct
from gpugrad.autograd.entry import binary, nary, unary
from gpugrad.autograd.inplace import make_inplace
from gpugrad.autograd.rules import RawLevel, Spec, tensors

SPECS: dict[str, Spec] = {}
_composites: list[Any] = []


def op(node: str = "", *, outputs: int | None = 1, diff: int | None = None,
       promote: bool | str = False, fit: bool = False, view: bool = False,
       inplace: bool = False, holomorphic: bool = True) -> Any:
    """Declare an op by a class; see docs/design.md for what its body may say.

    node: its name in PyTorch's graph, "" if nothing is differentiable. outputs: how many results,
    None for a varying number; the first ``diff`` of them are differentiable (default: one, or all
    of a varying number). promote: PyTorch's type promotion and broadcasting, "float" if integers
    become the default floating dtype; fit: broadcasting alone. view: forward returns a view of its
    first input. inplace: make ``<name>_`` too. holomorphic: of complex numbers it has a complex
    derivative, and the rules say g * f'(z); without one the rules give the gradient as PyTorch
    defines it, dL/d(real z) + i dL/d(imag z).
    """
    def build(cls: type) -> Any:
        spec = Spec(cls, node, outputs, 1 if diff is None else diff, promote, fit or bool(promote),
                    view, holomorphic)
        if spec.name in SPECS:
            raise TypeError(f"there are two ops named {spec.name}")
        SPECS[spec.name] = spec
        simple = outputs == 1 and not spec.variadic and not (spec.node and spec.grads)
        make = unary if simple and len(spec.inputs) == 1 else \
            binary if simple and len(spec.inputs) == 2 and not spec.consts else nary
        for be in backend.made():
            attach(be, spec)
        entry = make(spec)
        if make is nary and outputs is not None and not spec.variadic:
            entry = direct(spec, entry)
        entry.spec, entry.__name__, entry.__doc__ = spec, spec.name, cls.__doc__
        entry.__qualname__, entry.__module__ = spec.name, cls.__module__
        setattr(tensors, spec.name, entry)
        if inplace:
            setattr(tensors, spec.name + "_", make_inplace(spec))
        return entry
    return build


def composite(fn: Any) -> Any:
    """A function of a level and its values, fn(o, ...): written once, there at both levels.

    Returns the function on Tensors.
    """
    _composites.append(fn)
    on_tensors = functools.partial(fn, tensors)
    setattr(tensors, fn.__name__, on_tensors)
    for be in backend.made():
        setattr(be.raw, fn.__name__, functools.partial(fn, be.raw))
    return on_tensors


def attach(be: Any, spec: Spec) -> None:
    """Give a backend's raw level one op."""
    if spec.direct is not None and spec.ufunc:
        ufunc = getattr(be.xp, spec.ufunc)
        spec.direct[be.index] = ufunc
        setattr(be.raw, spec.name, ufunc)
    else:
        setattr(be.raw, spec.name, functools.partial(spec.impl[be.index], be))


def _equip(be: Any) -> None:
    """Give a new backend its raw level."""
    be.raw = RawLevel()
    for spec in SPECS.values():
        attach(be, spec)
    for fn in _composites:
        setattr(be.raw, fn.__name__, functools.partial(fn, be.raw))


backend.on_new.append(_equip)
for _be in backend.made():
    _equip(_be)
