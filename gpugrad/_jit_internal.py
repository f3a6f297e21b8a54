"""torch._jit_internal: names that some model files import from there; see torch.jit."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, List, Optional, Tuple, Union  # noqa: UP035

from gpugrad.jit import _overload as _overload
from gpugrad.jit import _overload_method as _overload_method
from gpugrad.jit import export as export
from gpugrad.jit import ignore as ignore
from gpugrad.jit import is_scripting as is_scripting
from gpugrad.jit import unused as unused

__all__ = ["Final", "List", "Optional", "Tuple", "Union"]
BroadcastingList1 = BroadcastingList2 = BroadcastingList3 = BroadcastingList4 = List  # noqa: UP006


def _copy_to_script_wrapper(fn: Callable[..., Any]) -> Callable[..., Any]:
    """fn itself."""
    return fn


def boolean_dispatch(arg_name: str, arg_index: int, default: bool, if_true: Callable[..., Any],
                     if_false: Callable[..., Any], module_name: str,
                     func_name: str) -> Callable[..., Any]:
    """A function that calls if_true or if_false, as one of its arguments says."""
    def fn(*args: Any, **kwargs: Any) -> Any:
        given = args[arg_index] if arg_index < len(args) else kwargs.get(arg_name, default)
        return (if_true if given else if_false)(*args, **kwargs)
    return fn
