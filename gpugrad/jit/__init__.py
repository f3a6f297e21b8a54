"""torch.jit: there is no TorchScript. script, trace and the marks for them give back what they get.

So a model file that uses them runs, as Python. What would need TorchScript itself, such as loading
a saved program, raises NotImplementedError.
"""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from gpugrad.nn.modules.module import Module

__all__ = [
    "Attribute", "CompilationUnit", "Error", "Final", "Future", "RecursiveScriptModule",
    "ScriptFunction", "ScriptModule", "ScriptWarning", "TracerWarning", "TracingCheckError",
    "annotate", "export", "fork", "freeze", "fuser", "ignore", "interface", "is_scripting",
    "is_tracing", "isinstance", "load", "optimize_for_inference", "optimized_execution",
    "run_frozen_optimizations", "save", "script", "script_if_tracing", "script_method",
    "set_fusion_strategy", "strict_fusion", "trace", "trace_module", "unused", "wait",
]
_F = TypeVar("_F")
_isinstance = isinstance


class Error(Exception):
    """What TorchScript programs raise; nothing here does."""


class ScriptWarning(Warning):
    """A warning of scripting; never given."""


class TracerWarning(Warning):
    """A warning of tracing; never given."""

    @staticmethod
    def ignore_lib_warnings() -> None:
        """Nothing to ignore."""


class TracingCheckError(Exception):
    """A trace that differs from the program; never raised."""


class ScriptModule(Module):
    """A module with script_method methods, which are ordinary methods here."""


class RecursiveScriptModule(ScriptModule):
    """What scripting a module gives in PyTorch; here nothing is one."""


class ScriptFunction:
    """What scripting a function gives in PyTorch; here nothing is one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise _absent("ScriptFunction")


class CompilationUnit:
    """TorchScript source; there is no compiler for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise _absent("CompilationUnit")


class Attribute:
    """A value with the type that TorchScript should give it."""

    def __init__(self, value: Any, type: Any) -> None:
        self.value, self.type = value, type


class Future:
    """The result of fork, which has been computed already."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def wait(self) -> Any:
        """The result."""
        return self._result

    def value(self) -> Any:
        """The result."""
        return self._result

    def done(self) -> bool:
        """True."""
        return True


def _absent(what: str) -> NotImplementedError:
    return NotImplementedError(f"torch.jit.{what} is not supported: there is no TorchScript. Build "
                               "the model from its Python code, and keep it as a state_dict")


def script(obj: Any, optimize: None = None, _frames_up: int = 0, _rcb: Any = None,
           example_inputs: Any = None) -> Any:
    """obj itself: a function, a class or a module, which runs as Python."""
    return obj


def trace(func: Any, example_inputs: Any = None, optimize: None = None, check_trace: bool = True,
          check_inputs: Any = None, check_tolerance: float = 1e-5, strict: bool = True,
          _force_outplace: bool = False, _module_class: Any = None,
          _compilation_unit: Any = None, example_kwarg_inputs: Any = None,
          _store_inputs: bool = True) -> Any:
    """func itself, a function or a module, which has not been run."""
    return func


def trace_module(mod: Any, inputs: Any, optimize: None = None, check_trace: bool = True,
                 check_inputs: Any = None, check_tolerance: float = 1e-5, strict: bool = True,
                 **kwargs: Any) -> Any:
    """mod itself."""
    return mod


def script_if_tracing(fn: _F) -> _F:
    """fn itself."""
    return fn


def script_method(fn: _F) -> _F:
    """fn itself."""
    return fn


def export(fn: _F) -> _F:
    """fn itself."""
    return fn


def unused(fn: _F) -> _F:
    """fn itself."""
    return fn


def ignore(drop: Any = False, **kwargs: Any) -> Any:
    """A decorator that gives the function back; also without parentheses."""
    if callable(drop):
        return drop
    return lambda fn: fn


def interface(obj: _F) -> _F:
    """obj itself."""
    return obj


def _overload(fn: _F) -> _F:
    """The last definition of the name counts, as in Python."""
    return fn


def _overload_method(fn: _F) -> _F:
    """The last definition of the name counts, as in Python."""
    return fn


_script_if_tracing = script_if_tracing


def is_scripting() -> bool:
    """False: everything runs as Python."""
    return False


def is_tracing() -> bool:
    """False."""
    return False


def annotate(the_type: Any, the_value: Any) -> Any:
    """the_value."""
    return the_value


def isinstance(obj: Any, target_type: Any) -> bool:
    """Is obj of a type, also one such as List[int], whose items are looked at?"""
    from typing import Union, get_args, get_origin

    if _isinstance(target_type, tuple):
        return any([isinstance(obj, t) for t in target_type])
    origin, args = get_origin(target_type), get_args(target_type)
    if origin is None:
        return (target_type is None and obj is None) or \
            (_isinstance(target_type, type) and _isinstance(obj, target_type))
    if origin is Union or getattr(origin, "__name__", "") == "UnionType":
        return any([obj is None if t is type(None) else isinstance(obj, t) for t in args])
    if not _isinstance(obj, origin):
        return False
    if origin is dict:
        return all([isinstance(k, args[0]) and isinstance(v, args[1]) for k, v in obj.items()])
    if origin is tuple and not (len(args) == 2 and args[1] is Ellipsis):
        return len(obj) == len(args) and all([isinstance(v, t) for v, t in zip(obj, args)])
    return all([isinstance(v, args[0]) for v in obj])


def _unwrap_optional(x: Any) -> Any:
    """x, which must not be None."""
    if x is None:
        raise AssertionError("Unwrapping null optional")
    return x


def fork(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Future:
    """The result of the call, which is made at once."""
    return Future(func(*args, **kwargs))


def wait(future: Future) -> Any:
    """The result of fork."""
    return future.wait()


def freeze(mod: Any, preserved_attrs: list[str] | None = None,
           optimize_numerics: bool = True) -> Any:
    """mod itself, which must be in eval mode."""
    if mod.training:
        raise RuntimeError("Freezing module in training mode is not yet supported: call .eval() "
                           "first")
    return mod


def optimize_for_inference(mod: Any, other_methods: list[str] | None = None) -> Any:
    """mod itself."""
    return mod


def run_frozen_optimizations(mod: Any, optimize_numerics: bool = True,
                             preserved_methods: list[str] | None = None) -> None:
    """Nothing to do."""


def set_fusion_strategy(strategy: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Nothing is fused; returns the strategy."""
    return strategy


@contextlib.contextmanager
def optimized_execution(should_optimize: bool) -> Iterator[None]:
    """Without effect."""
    yield


@contextlib.contextmanager
def fuser(name: str) -> Iterator[None]:
    """Without effect."""
    yield


class strict_fusion(contextlib.nullcontext[None]):
    """Without effect."""


def enable_onednn_fusion(enabled: bool) -> None:
    """Without effect."""


def onednn_fusion_enabled() -> bool:
    """False."""
    return False


def save(m: Any, f: Any, _extra_files: Any = None) -> None:
    raise _absent("save")


def load(f: Any, map_location: Any = None, _extra_files: Any = None,
         _restore_shapes: bool = False) -> Any:
    raise _absent("load")

