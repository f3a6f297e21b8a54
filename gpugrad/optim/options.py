"""The options of an optimizer: what they may be, and what they mean in a step."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad._tensor import Tensor
from gpugrad.dtypes import type_name


def check_lr(lr: Any, nan: bool = False) -> None:
    """Raise ValueError unless ``lr`` is one number, at least 0; with ``nan``, NaN may pass."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    if lr < 0.0 if nan else not 0.0 <= lr:
        raise ValueError(f"Invalid learning rate: {lr}")


def check_positive(**values: Any) -> None:
    """Raise ValueError, in PyTorch's words, for a value that is below 0 or NaN."""
    for name, value in values.items():
        if not 0.0 <= value:
            raise ValueError(f"Invalid {'epsilon' if name == 'eps' else name} value: {value}")


def number(value: Any) -> Any:
    """An option as a Python number: a one-element Tensor is read."""
    return value.item() if isinstance(value, Tensor) else value


def check_hints(defaults: dict[str, Any]) -> None:
    if defaults.get("fused"):
        if defaults.get("differentiable"):
            raise RuntimeError("`fused` does not support `differentiable`")
        if defaults.get("foreach"):
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def check_fused(params: list[Tensor]) -> None:
    for p in params:
        if not p.is_floating_point():
            raise RuntimeError("`fused=True` requires all the params to be floating point Tensors "
                               f"of supported devices: ['cuda', 'cpu'] but {p.dtype} and "
                               f"{p.device.type}")


def of_parts(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of real and imaginary parts; of real numbers their own."""
    return np.dtype(dtype.char.lower()) if dtype.kind == "c" else dtype


def check_betas(betas: tuple[Any, Any]) -> None:
    """Raise ValueError unless both are at least 0 and below 1."""
    for i in (0, 1):
        if not 0.0 <= betas[i] < 1.0:
            raise ValueError(f"Invalid beta parameter at index {i}: {betas[i]}")


def decay_of(group: dict[str, Any]) -> tuple[float | None, float | None]:
    """Which share of p is added to g, and what decoupled decay multiplies p by."""
    decay = number(group.get("weight_decay", 0))
    if decay == 0:
        return None, None
    if group.get("decoupled_weight_decay"):
        return None, 1 - number(group["lr"]) * decay
    return decay, None


def split_names(group: dict[str, Any]) -> None:
    """Make ``group["params"]`` a list of tensors; their names go to ``group["param_names"]``."""
    params = group["params"]
    if isinstance(params, set):
        raise TypeError("optimizer parameters need to be organized in ordered collections, but the "
                        "ordering of tensors in sets will change between runs. Please use a list "
                        "instead.")
    items = [params] if isinstance(params, Tensor) else list(params)
    names = [x[0] for x in items if isinstance(x, tuple)]
    group["params"] = [x[1] if isinstance(x, tuple) else x for x in items]
    if names:
        if len(names) != len(items):
            raise ValueError("all optimizer params should be with/without names. Some param names "
                             "are missing")
        group["param_names"] = names


def typename(x: Any) -> str:
    """What PyTorch calls the type of something."""
    if isinstance(x, Tensor):
        return f"{x._be.prefix}{type_name(x._a.dtype)}Tensor"
    cls = type(x)
    module = "" if cls.__module__ == "builtins" else cls.__module__ + "."
    return module + cls.__qualname__
