"""gpugrad.cpu: the CPU under the names that other devices have, as torch.cpu."""
from __future__ import annotations

from typing import Any


def is_available() -> bool:
    """True: there is always a CPU."""
    return True


def is_initialized() -> bool:
    """True."""
    return True


def device_count() -> int:
    """1."""
    return 1


def current_device() -> str:
    """The name of the CPU."""
    return "cpu"


def set_device(device: Any) -> None:
    """Nothing: there is one CPU."""


def synchronize(device: Any = None) -> None:
    """Nothing: every operation has finished when it returns."""


def __getattr__(name: str) -> Any:
    if name == "amp":
        from importlib import import_module
        return import_module("gpugrad.cpu.amp")
    raise AttributeError(f"module 'gpugrad.cpu' has no attribute '{name}'")
