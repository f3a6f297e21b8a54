"""How products and convolutions of floats are made: set at the top of scripts, read at each."""
from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

LEVELS = ("highest", "high", "medium")


class Matmul:
    """The settings behind torch.backends.cuda.matmul, for all devices."""

    float32 = "highest"       # "highest": IEEE float32; "high", "medium": TF32, 10 bits of mantissa
    chosen = False            # whether anybody has said so
    half_reduction = True     # whether cuBLAS may sum partial products of float16 in float16
    bfloat16_reduction = True

    @property
    def tf32(self) -> bool:
        """Whether products of float32 may round their operands to TF32."""
        own = here.tf32
        return self.float32 != "highest" if own is None else own


class Here(threading.local):
    """What holds for the products of this thread while it is inside of ``products_of``."""

    tf32: bool | None = None


class Convolution:
    """The settings behind torch.backends.cudnn; vars() of it are what that module has."""

    def __init__(self) -> None:
        self.enabled, self.benchmark, self.deterministic = True, False, False
        self.allow_tf32 = True            # whether convolutions of float32 may use TF32
        self.benchmark_limit: int | None = None


matmul, convolution, here = Matmul(), Convolution(), Here()


def products_of(tf32: bool, f: Callable[..., Any], *args: Any) -> Any:
    """f(*args), whose products may use TF32 if tf32 says so, whatever holds elsewhere."""
    before, here.tf32 = here.tf32, tf32
    try:
        return f(*args)
    finally:
        here.tf32 = before


def set_float32_matmul_precision(precision: str) -> None:
    """"highest": products of float32 are exact to float32; "high" or "medium": CUDA may use TF32.

    TF32 rounds the operands to 10 bits of mantissa and is several times faster from compute
    capability 8.0 on.
    """
    if not isinstance(precision, str):
        raise RuntimeError(f"set_float32_matmul_precision expects a str, but got "
                           f"{type(precision).__name__}")
    if precision not in LEVELS:
        warnings.warn(f"{precision} is not one of 'highest', 'high', or 'medium'; the current"
                      f"setFloat32MatmulPrecision call has no effect.", stacklevel=2)
        return
    matmul.float32, matmul.chosen = precision, True


def get_float32_matmul_precision() -> str:
    """"highest", "high" or "medium": see set_float32_matmul_precision."""
    return matmul.float32


def allow_tf32(on: Any) -> None:
    """Let products of float32 use TF32, or not."""
    if not isinstance(on, bool):
        raise RuntimeError(f"set_allow_tf32_cublas expects a bool, but got {type(on).__name__}")
    matmul.float32, matmul.chosen = "high" if on else "highest", True
