"""Puts the stand-in in CuPy's place, and takes it away again."""
from __future__ import annotations

import importlib
import sys
from typing import Any

from gpugrad.cudasim import state
from gpugrad.cudasim.state import switches

_REPLACED = ("cupy", "cupyx")
_before: dict[str, Any] = {}
_on = False


def is_on() -> bool:
    """Whether ``import cupy`` gives the stand-in."""
    return _on


def start() -> Any:
    """Let ``import cupy`` give the stand-in, whatever is installed. Returns it."""
    global _on
    cupy = importlib.import_module("gpugrad.cudasim.cupy")
    if _on:
        return cupy
    from gpugrad.cudasim.cupy.cuda import runtime

    importlib.import_module("gpugrad.cudasim.cupyx.scipy")
    for name in [n for n in sys.modules if n.split(".")[0] in _REPLACED]:
        _before[name] = sys.modules.pop(name)
    ours = "gpugrad.cudasim."
    for name, module in list(sys.modules.items()):
        short = name.removeprefix(ours)
        if short != name and short.split(".")[0] in _REPLACED:
            sys.modules[short] = module
    for part in ("linalg", "fft", "lib"):
        sys.modules[f"cupy.{part}"] = getattr(cupy, part)
    switches.devices = runtime.devices_asked_for()
    switches.update()
    _on = True
    return cupy


def stop() -> None:
    """Let ``import cupy`` give what it gave before ``start``."""
    global _on
    if not _on:
        return
    for name in [n for n in sys.modules if n.split(".")[0] in _REPLACED]:
        del sys.modules[name]
    sys.modules.update(_before)
    _before.clear()
    state.thread.device = 0
    _on = False


def missing() -> str:
    """What the simulation lacks on this machine, and what to install; "" if nothing."""
    from gpugrad.cudasim import compiler
    from gpugrad.cudasim.errors import NoCompilerError

    try:
        compiler.command()
    except NoCompilerError as e:
        return str(e)
    return ""
