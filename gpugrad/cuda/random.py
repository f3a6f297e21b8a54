"""Seeds and states of the CUDA devices' random generators."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad._tensor import Tensor, wrap
from gpugrad.backend import cpu
from gpugrad.backend import cuda as _backend
from gpugrad.backend.random import fresh_seed
from gpugrad.cuda.devices import backend_of, device_count


def manual_seed(seed: int) -> None:
    """Seed the current device's generator; remembered if CUDA isn't in use yet."""
    _backend.seed(int(seed), _backend.current_device() if _backend.in_use() else 0)


def manual_seed_all(seed: int) -> None:
    """Seed the generators of all CUDA devices, now or when they come into use."""
    _backend.seed(int(seed))


def seed() -> None:
    """Seed the current device's generator from the operating system's entropy."""
    manual_seed(fresh_seed())


def seed_all() -> None:
    """Seed the generators of all CUDA devices from the operating system's entropy."""
    manual_seed_all(fresh_seed())


def initial_seed() -> int:
    """The seed of the current device's generator."""
    return int(backend_of().generator.initial_seed())


def get_rng_state(device: Any = "cuda") -> Tensor:
    """The state of a device's generator: a ByteTensor on the CPU."""
    return wrap(backend_of(device).generator.get_state(), cpu)


def set_rng_state(new_state: Tensor, device: Any = "cuda") -> None:
    """Go on from a state that ``get_rng_state`` returned."""
    backend_of(device).generator.set_state(np.ascontiguousarray(new_state.cpu()._a))


def get_rng_state_all() -> list[Tensor]:
    """The states of all devices' generators."""
    return [get_rng_state(i) for i in range(device_count())]


def set_rng_state_all(new_states: Any) -> None:
    """Set the states of all devices' generators."""
    for i, state in enumerate(new_states):
        set_rng_state(state, i)
