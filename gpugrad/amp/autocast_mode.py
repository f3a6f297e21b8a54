"""torch.autocast: ops in the precision that suits them, and its switches."""
from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from gpugrad import dtypes
from gpugrad._state import state
from gpugrad._tensor import Tensor
from gpugrad.autograd import casting
from gpugrad.autograd.casting import Casting

# Also kinds of device that there are no tensors on: programs switch it off for whatever they know.
_DEFAULTS = {"cpu": dtypes.bfloat16, "cuda": dtypes.float16,
             **dict.fromkeys(("ipu", "mps", "mtia", "xpu"), dtypes.float16),
             **dict.fromkeys(("hpu", "maia", "xla"), dtypes.bfloat16)}
KINDS = tuple(_DEFAULTS)
_SUPPORTED = dtypes.bfloat16, dtypes.float16


def is_autocast_available(device_type: str) -> bool:
    """Can autocast be used with this kind of device?"""
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    return device_type in KINDS


def _kind(device_type: Any) -> str:
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if device_type not in KINDS:
        raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")
    return device_type


# The switches of this thread ----------------------------------------------------------------------


def _switch(kind: str) -> tuple[bool, dtypes.dtype]:
    """Whether autocast is on for a kind of device, and its dtype."""
    held: dict[str, Any] = state.autocast or {}
    found: tuple[bool, dtypes.dtype] = held.get(kind, (False, _DEFAULTS[kind]))
    return found


def _apply(switches: dict[str, tuple[bool, dtypes.dtype]], caching: bool) -> None:
    """Let the ops of this thread follow the switches."""
    state.autocast = {**switches, "caching": caching}
    on = {kind: dtype.np for kind, (enabled, dtype) in switches.items()
          if enabled}
    if not on:
        casting.put(None)
        return
    now = state.casting
    kept = None if now is None else now.cache
    casting.put(Casting(on, ({} if kept is None else kept) if caching else None))


def _switches() -> dict[str, tuple[bool, dtypes.dtype]]:
    return {kind: _switch(kind) for kind in KINDS}


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Is autocast on, in this thread, for this kind of device?"""
    return _switch(_kind(device_type))[0]


def set_autocast_enabled(device_type: Any, enabled: bool | None = None) -> None:
    """Switch autocast on or off; with one argument, for "cuda"."""
    if enabled is None:
        device_type, enabled = "cuda", device_type
    kind = _kind(device_type)
    _apply({**_switches(), kind: (bool(enabled), _switch(kind)[1])}, is_autocast_cache_enabled())


def get_autocast_dtype(device_type: str) -> dtypes.dtype:
    """The low precision of a kind of device."""
    return _switch(_kind(device_type))[1]


def set_autocast_dtype(device_type: str, dtype: dtypes.dtype) -> None:
    """Set the low precision of a kind of device."""
    kind = _kind(device_type)
    _apply({**_switches(), kind: (_switch(kind)[0], dtype)}, is_autocast_cache_enabled())


def is_autocast_cache_enabled() -> bool:
    """Are converted weights kept?"""
    held: dict[str, Any] = state.autocast or {}
    return bool(held.get("caching", True))


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Say whether converted weights are kept."""
    _apply(_switches(), enabled)


def clear_autocast_cache() -> None:
    """Forget the converted weights."""
    if state.casting is not None and state.casting.cache is not None:
        state.casting.cache.clear()


def get_autocast_gpu_dtype() -> dtypes.dtype:
    return get_autocast_dtype("cuda")


def set_autocast_gpu_dtype(dtype: dtypes.dtype) -> None:
    set_autocast_dtype("cuda", dtype)


def get_autocast_cpu_dtype() -> dtypes.dtype:
    return get_autocast_dtype("cpu")


def set_autocast_cpu_dtype(dtype: dtypes.dtype) -> None:
    set_autocast_dtype("cpu", dtype)


def is_autocast_cpu_enabled() -> bool:
    return is_autocast_enabled("cpu")


def set_autocast_cpu_enabled(enabled: bool) -> None:
    set_autocast_enabled("cpu", enabled)


# The context --------------------------------------------------------------------------------------


class autocast:
    """``with torch.autocast("cuda"):`` products in half precision, sums and losses in float32.

    device_type: "cuda" or "cpu". dtype: the low precision, float16 or bfloat16; by default float16
    for CUDA and bfloat16 for the CPU. enabled=False switches it off inside. cache_enabled: a weight
    is converted once until the outermost block ends. Also a decorator. Backward runs outside: each
    op's gradient has the dtype that the op had.

    Which op computes in what: gpugrad/autograd/casting.py.
    """

    def __init__(self, device_type: str, dtype: dtypes.dtype | None = None, enabled: bool = True,
                 cache_enabled: bool | None = None) -> None:
        self.device = _kind(device_type)
        self.fast_dtype = get_autocast_dtype(device_type) if dtype is None else dtype
        self._cache_enabled = is_autocast_cache_enabled() if cache_enabled is None \
            else cache_enabled
        self._enabled = enabled and self._is_supported()

    def _is_supported(self) -> bool:
        """Can it be switched on? Warns if not."""
        if self.device == "cuda":
            from gpugrad import cuda
            if not cuda.is_available():
                warnings.warn("CUDA is not available or torch_xla is imported. Disabling autocast.",
                              stacklevel=3)
                return False
        if self.fast_dtype not in _SUPPORTED:
            name = self.device.upper()
            warnings.warn(f"In {name} autocast, but the target dtype is not supported. Disabling "
                          f"autocast.\n{name} Autocast only supports dtypes of "
                          f"{', '.join(map(str, _SUPPORTED))} currently.", stacklevel=3)
            return False
        return True

    def __enter__(self) -> autocast:
        self._before = _switches(), is_autocast_cache_enabled(), state.casting
        self._outer = not any(enabled for enabled, _ in self._before[0].values())
        _apply({**self._before[0], self.device: (self._enabled, self.fast_dtype)},
               self._cache_enabled)
        return self

    def __exit__(self, *error: Any) -> None:
        switches, caching, before = self._before
        if self._outer:
            clear_autocast_cache()
        state.autocast = {**switches, "caching": caching}
        casting.put(before)

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def run(*args: Any, **kw: Any) -> Any:
            with autocast(self.device, self.fast_dtype, self._enabled, self._cache_enabled):
                return fn(*args, **kw)
        return run


def deprecated(kind: str, name: str) -> None:
    """Warn that torch.<kind>.amp.<name> is an older name."""
    warnings.warn(f"`torch.{kind}.amp.{name}(args...)` is deprecated. Please use "
                  f"`torch.amp.{name}('{kind}', args...)` instead.", FutureWarning, stacklevel=3)


# Functions with gradients of their own ------------------------------------------------------------


def _cast(value: Any, kind: str, dtype: dtypes.dtype) -> Any:
    """Floating tensors of a kind of device, however nested, in a dtype; float64 stays."""
    if isinstance(value, Tensor):
        wanted = value.is_floating_point() and value.device.type == kind \
            and value.dtype is not dtypes.float64
        return value.to(dtype) if wanted else value
    if isinstance(value, dict):
        return {_cast(k, kind, dtype): _cast(v, kind, dtype) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_cast(v, kind, dtype) for v in value])
    return value


def custom_fwd(fwd: Any = None, *, device_type: str,
               cast_inputs: dtypes.dtype | None = None) -> Any:
    """Decorates the forward of an autograd.Function: backward runs as autocast was in forward.

    cast_inputs: floating tensors are converted to it, and the forward runs without autocast, if it
    is on.
    """
    kind = _kind(device_type)
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        on = is_autocast_enabled(kind)
        args[0]._dtype = get_autocast_dtype(kind)
        if cast_inputs is None or not on:
            args[0]._fwd_used_autocast = on and cast_inputs is None
            return fwd(*args, **kwargs)
        args[0]._fwd_used_autocast = False
        with autocast(kind, enabled=False):
            return fwd(*_cast(args, kind, cast_inputs), **_cast(kwargs, kind, cast_inputs))
    return decorated


def custom_bwd(bwd: Any = None, *, device_type: str) -> Any:
    """Decorates the backward of an autograd.Function: it runs as autocast was in forward."""
    kind = _kind(device_type)
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        with autocast(kind, enabled=args[0]._fwd_used_autocast, dtype=args[0]._dtype):
            return bwd(*args, **kwargs)
    return decorated
