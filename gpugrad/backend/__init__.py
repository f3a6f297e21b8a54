"""One object per device, and the only place where a device is looked up."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad._state import state
from gpugrad.backend.base import Backend as Backend
from gpugrad.backend.cpu import CPUBackend
from gpugrad.device import device

cpu = CPUBackend()
_made: dict[device, Backend] = {device("cpu"): cpu, device("cpu", 0): cpu}

# Of several GPUs those that have come into use: what is asked of one runs through its guard.
several: list[Backend] = []

# Called with every new backend; the op decorator appends itself, to give it its raw level.
on_new: list[Callable[[Backend], None]] = []


def get(d: Any = None) -> Backend:
    """The backend of a device, a string, an index, or the default device for None.

    Raises RuntimeError if the device can't be used, with the reason.
    """
    if d is None:
        d = state.device
        if d is None:
            return cpu
    if type(d) is not device:
        d = device(d)
    found = _made.get(d)
    if found is None:
        found = _make(d)
    return found


def _make(d: device) -> Backend:
    if d.type == "meta":
        from gpugrad.backend.meta import MetaBackend

        # There is one, whatever the index.
        _made[d] = register(device("meta"), MetaBackend()) if d.index is None else get("meta")
        return _made[d]
    if d.type == "cpu":
        raise RuntimeError(f"Invalid device: there is one CPU, 'cpu' or 'cpu:0', not '{d}'")
    from gpugrad.backend import cuda

    if d.index is None:       # the current one: not remembered, as it may change
        return get(device("cuda", cuda.current_device()))
    return register(d, cuda.make(d))


def register(d: device, be: Backend) -> Backend:
    """Make ``be`` the backend of ``d``."""
    _made[d] = be
    for tell in on_new:
        tell(be)
    return be


def made() -> list[Backend]:
    """Every backend that exists by now, each once."""
    return list(dict.fromkeys(_made.values()))
