"""torch.fx: marks for symbolic tracing, which is not there; its classes are, for isinstance()."""
from __future__ import annotations

from typing import Any

from gpugrad.absent import classes, functions


def wrap(fn_or_name: Any) -> Any:
    """What it was given: a function, as a decorator, or the name of one."""
    if not callable(fn_or_name) and not isinstance(fn_or_name, str):
        raise RuntimeError("Unsupported type for global function! Must be either a callable or "
                           "string name")
    return fn_or_name


def has_side_effect(fn: Any) -> Any:
    """fn itself."""
    return fn


_WHY = "there is no symbolic tracing; use forward hooks to look into a model"

globals().update(classes("torch.fx", "Proxy Attribute:Proxy Node Graph GraphModule Tracer "
                         "Interpreter Transformer:Interpreter CodeGen", _WHY))
globals().update(functions("torch.fx", "symbolic_trace replace_pattern", _WHY))
