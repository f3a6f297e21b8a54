"""torch._dynamo: what scripts set or ask of the compiler that is not here."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from gpugrad.compiler import allow_in_graph as allow_in_graph
from gpugrad.compiler import assume_constant_result as assume_constant_result
from gpugrad.compiler import compile as _compile
from gpugrad.compiler import disable as disable
from gpugrad.compiler import is_compiling as is_compiling
from gpugrad.compiler import list_backends as list_backends
from gpugrad.compiler import reset as reset
from gpugrad.compiler import set_stance as set_stance

# Takes any setting; none has an effect.
config = SimpleNamespace(suppress_errors=False, verbose=False, cache_size_limit=8,
                         recompile_limit=8, accumulated_cache_size_limit=256,
                         capture_scalar_outputs=False, optimize_ddp=True,
                         capture_dynamic_output_shape_ops=False, automatic_dynamic_shapes=True,
                         allow_unspec_int_on_nn_module=False, assume_static_by_default=True)


class OptimizedModule:
    """What compiling a module gives in PyTorch; here nothing is one."""


def optimize(*args: Any, **kwargs: Any) -> Any:
    """A decorator that gives the function or module back."""
    return lambda fn: _compile(fn)


def graph_break(msg: str = "") -> None:
    """Nothing to break."""


def mark_dynamic(t: Any, index: Any, **kwargs: Any) -> None:
    """Without effect."""


def maybe_mark_dynamic(t: Any, index: Any) -> None:
    """Without effect."""


def mark_static(t: Any, index: Any = None) -> None:
    """Without effect."""


def mark_static_address(t: Any, guard: bool = True) -> None:
    """Without effect."""


def is_dynamo_supported() -> bool:
    """False."""
    return False


def is_inductor_supported() -> bool:
    """False."""
    return False


def explain(f: Any, *args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError("torch._dynamo.explain is not supported: there is no compiler")


def export(f: Any, *args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError("torch._dynamo.export is not supported: there is no compiler")
