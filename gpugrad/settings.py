"""Settings of the whole process: threads, determinism, denormal numbers, repeated warnings."""
from __future__ import annotations

import os
import warnings
from types import ModuleType
from typing import Any

from gpugrad import backend
from gpugrad._tensor import Tensor
from gpugrad.backend import compiled, threads
from gpugrad.device import device as Device

# Threads -----------------------------------------------------------------------------------------


def _check_threads(name: str, n: Any) -> None:
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise RuntimeError(f"{name} expects an int, but got {type(n).__name__}")
    if n < 1:
        raise RuntimeError(f"{name} expects a positive integer")


def get_num_threads() -> int:
    """How many threads products of matrices and the compiled helper use on the CPU."""
    return threads.get()


def set_num_threads(num: int) -> None:
    """Let products of matrices and the compiled helper use so many threads on the CPU."""
    _check_threads("set_num_threads", num)
    compiled.set_threads(int(num))
    if not threads.set(int(num)):
        warnings.warn("set_num_threads() doesn't reach NumPy's BLAS, which isn't its OpenBLAS: "
                      "install threadpoolctl, or set OMP_NUM_THREADS before the program starts",
                      stacklevel=2)


_interop: int | None = None


def get_num_interop_threads() -> int:
    """What set_num_interop_threads() said. No operation here runs beside another on the CPU."""
    return os.cpu_count() or 1 if _interop is None else _interop


def set_num_interop_threads(num: int) -> None:
    """Only kept: no operation here runs beside another on the CPU. May be called once."""
    global _interop
    _check_threads("set_num_interop_threads", num)
    if _interop is not None:
        raise RuntimeError("Error: cannot set number of interop threads after parallel work has "
                           "started or set_num_interop_threads called")
    _interop = int(num)


# Determinism: everything here is deterministic anyway --------------------------------------------

_MODES = ("default", "warn", "error")
_mode = 0


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Only kept: the same program gives the same bits with either setting."""
    for name, value in (("mode", mode), ("warn_only", warn_only)):
        if not isinstance(value, bool):
            raise TypeError(f"_set_deterministic_algorithms(): argument '{name}' must be bool, not "
                            f"{type(value).__name__}")
    global _mode
    _mode = (1 if warn_only else 2) if mode else 0


def are_deterministic_algorithms_enabled() -> bool:
    """What use_deterministic_algorithms() said."""
    return _mode > 0


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether use_deterministic_algorithms() was to warn only."""
    return _mode == 1


def get_deterministic_debug_mode() -> int:
    """0 for "default", 1 for "warn", 2 for "error"."""
    return _mode


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """use_deterministic_algorithms() by the number or the name of a mode."""
    global _mode
    if not isinstance(debug_mode, int | str):
        raise TypeError(f"debug_mode must be str or int, but got {type(debug_mode)}")
    if isinstance(debug_mode, str):
        if debug_mode not in _MODES:
            raise RuntimeError("invalid value of debug_mode, expected one of `default`, `warn`, "
                               f"`error`, but got {debug_mode}")
        _mode = _MODES.index(debug_mode)
    elif not 0 <= debug_mode <= 2:
        raise RuntimeError("invalid value of debug_mode, expected 0, 1, or 2, but got "
                           f"{debug_mode}")
    else:
        _mode = int(debug_mode)


# Others ------------------------------------------------------------------------------------------

_warn_always = False


def set_flush_denormal(mode: bool) -> bool:
    """Could it be set? NumPy keeps denormal numbers, so they can't be flushed to zero."""
    if not isinstance(mode, bool):
        raise RuntimeError(f"flush_denormal expects a bool, but got {type(mode).__name__}")
    return not mode


def set_warn_always(b: bool) -> None:
    """Only kept: which warnings are repeated is Python's to say, by warnings.simplefilter()."""
    global _warn_always
    if not isinstance(b, bool):
        raise RuntimeError(f"setWarnOnlyOnce expects a bool, but got {type(b).__name__}")
    _warn_always = b


def is_warn_always_enabled() -> bool:
    """What set_warn_always() said."""
    return _warn_always


def is_inference(input: Tensor) -> bool:
    """Was the tensor made in inference mode?"""
    if not isinstance(input, Tensor):
        raise TypeError("is_inference(): argument 'input' (position 1) must be Tensor, not "
                        f"{type(input).__name__}")
    return input.is_inference()


def compiled_with_cxx11_abi() -> bool:
    """True: no other ABI plays a part."""
    return True


def thread_safe_generator() -> None:
    """The generator of a data loader's thread: None, as there are no such threads."""


def get_device_module(device: Device | str | None = None) -> ModuleType:
    """The module of a kind of device, torch.cuda or torch.cpu; by default of the best one here."""
    if device is not None and not isinstance(device, Device | str):
        raise RuntimeError(f"Invalid value of device '{device}', expect torch.device, str, or None")
    from gpugrad import cpu, cuda
    kind = Device(device).type if device is not None else \
        "cuda" if cuda.is_available() else backend.cpu.device.type
    if kind not in ("cuda", "cpu"):
        raise RuntimeError(f"Device '{kind}' does not have a corresponding module registered as "
                           f"'torch.{kind}'.")
    return cuda if kind == "cuda" else cpu


class AcceleratorError(RuntimeError):
    """An error of a device, which PyTorch raises. Here errors of CUDA are CuPy's."""
