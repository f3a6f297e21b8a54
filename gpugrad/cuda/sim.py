"""The simulated CUDA device: switching it on, and what it counts. CUDA without a GPU."""
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpugrad.backend import cuda as _backend

if TYPE_CHECKING:
    from gpugrad.cudasim.state import Stats as Stats


class simulate:
    """Make ``cuda`` a simulated device, as GPUGRAD_CUDA=sim in the environment does.

    Calling it is enough; ``with simulate():`` ends it with the block. RuntimeError if a real
    device is in use already, if the package gpugrad-cudasim isn't installed, or if the machine has
    no C++ compiler.
    """

    def __init__(self) -> None:
        self._began = not _backend.simulated()
        _backend.simulate(True)

    def __enter__(self) -> simulate:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._began:
            _backend.simulate(False)


def is_simulated() -> bool:
    """Whether CUDA devices are simulated ones."""
    return _backend.simulated()


def stats() -> Stats:
    """How often the host waited for a device, copied, launched and compiled since ``reset``."""
    return replace(_state().counts)


def reset() -> None:
    """Count from 0 again."""
    _state().reset()


def _state() -> Any:
    """The simulation's books; RuntimeError without its package."""
    try:
        from gpugrad.cudasim import state
    except ModuleNotFoundError:
        raise RuntimeError(_backend._lacking()) from None
    return state


def __getattr__(name: str) -> Any:
    if name == "Stats":
        return _state().Stats
    raise AttributeError(f"module 'gpugrad.cuda.sim' has no attribute '{name}'")
