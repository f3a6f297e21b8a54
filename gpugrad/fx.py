"""torch.fx: marks for symbolic tracing, which is not there; its classes are, for isinstance()."""
from __future__ import annotations

from typing import Any


def wrap(fn_or_name: Any) -> Any:
    """What it was given: a function, as a decorator, or the name of one."""
    if not callable(fn_or_name) and not isinstance(fn_or_name, str):
        raise RuntimeError("Unsupported type for global function! Must be either a callable or "
                           "string name")
    return fn_or_name


def has_side_effect(fn: Any) -> Any:
    """fn itself."""
    return fn


class _Absent:
    """A class of torch.fx: nothing is one of it, and none can be made."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(f"torch.fx.{type(self).__name__} is not supported: there is no "
                                  "symbolic tracing; use forward hooks to look into a model")


class Proxy(_Absent):
    """Stands for a value while tracing, in PyTorch."""


class Attribute(Proxy):
    """Stands for an attribute while tracing, in PyTorch."""


class Node(_Absent):
    """One step of a traced program, in PyTorch."""


class Graph(_Absent):
    """A traced program, in PyTorch."""


class GraphModule(_Absent):
    """A module that runs a traced program, in PyTorch."""


class Tracer(_Absent):
    """Makes a graph of a module, in PyTorch."""


class Interpreter(_Absent):
    """Runs a graph step by step, in PyTorch."""


class Transformer(Interpreter):
    """Rewrites a graph, in PyTorch."""


class CodeGen(_Absent):
    """Writes a graph as Python, in PyTorch."""


def symbolic_trace(root: Any, concrete_args: Any = None) -> Any:
    raise NotImplementedError("torch.fx.symbolic_trace is not supported: there is no symbolic "
                              "tracing; use forward hooks to look into a model")


def replace_pattern(gm: Any, pattern: Any, replacement: Any) -> Any:
    raise NotImplementedError("torch.fx.replace_pattern is not supported: there are no graphs")
