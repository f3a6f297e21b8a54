"""torch.compile and torch.compiler: there is no compiler; what is to be compiled runs as it is."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", "lite")
_STANCES = ("default", "eager_then_compile", "aot_eager_then_compile", "force_eager",
            "eager_on_recompile", "fail_on_recompile")


def compile(model: Any = None, *, fullgraph: bool = False, dynamic: bool | None = None,
            backend: Any = None, mode: str | None = None, options: dict[str, Any] | None = None,
            name: str | None = None, disable: bool = False, recompile_limit: int | None = None,
            isolate_recompiles: bool = False, shapes_spec: Any = None) -> Any:
    """The function or module itself; without one, a decorator that gives it back."""
    if mode is not None and options is not None:
        raise RuntimeError("Either mode or options can be specified, but both can't be specified "
                           "at the same time.")
    if mode is not None and mode not in _MODES:
        raise RuntimeError(f"Unrecognized mode={mode}, should be one of: {', '.join(_MODES)}")
    if model is None:
        return lambda fn: compile(fn)
    if not callable(model):
        raise RuntimeError(f"torch.compile takes a function or a module, not {type(model)}")
    return model


def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """fn itself; without one, a decorator that gives it back."""
    return _same if fn is None else fn


def _same(fn: Any) -> Any:
    return fn


def allow_in_graph(fn: Any) -> Any:
    """fn itself."""
    return list(fn) if isinstance(fn, list | tuple) else fn


def assume_constant_result(fn: Any) -> Any:
    """fn itself."""
    return fn


def nested_compile_region(fn: Any = None, options: Any = None) -> Any:
    """fn itself; without one, a decorator that gives it back."""
    return _same if fn is None else fn


def substitute_in_graph(original_fn: Any, *, can_constant_fold_through: bool = False,
                        skip_signature_check: bool = False,
                        is_embedded_type: bool = False) -> Callable[[Any], Any]:
    """A decorator that gives the function back."""
    return _same


def wrap_numpy(fn: Any) -> Any:
    raise NotImplementedError("torch.compiler.wrap_numpy is not supported: convert by "
                              "tensor.numpy() and torch.from_numpy()")


def is_compiling() -> bool:
    """False."""
    return False


def is_dynamo_compiling() -> bool:
    """False."""
    return False


def is_exporting() -> bool:
    """False."""
    return False


def reset() -> None:
    """Nothing to forget."""


def cudagraph_mark_step_begin() -> None:
    """Nothing to mark."""


def list_backends(exclude_tags: Any = ("debug", "experimental")) -> list[str]:
    """None: []."""
    return []


def set_enable_guard_collectives(enabled: bool) -> bool:
    """Without effect; returns False, what it was."""
    return False


@contextlib.contextmanager
def _stance() -> Iterator[None]:
    yield


def set_stance(stance: str = "default", *, skip_guard_eval_unsafe: bool = False,
               force_backend: Any = None) -> Any:
    """Without effect; also a context, and a decorator."""
    if stance not in _STANCES:
        raise RuntimeError(f"invalid torch.compile stance '{stance}': it is one of "
                           f"{', '.join(_STANCES)}")
    return _stance()
