"""torch.random: generators of random numbers, their seeds and their states."""
from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from gpugrad import backend
from gpugrad._tensor import Tensor, wrap
from gpugrad.device import device as Device


class Generator:
    """A stream of random numbers on one device: ``torch.Generator().manual_seed(0)``.

    On the CPU a seed yields PyTorch's own numbers, and states can be exchanged with PyTorch.
    """

    __slots__ = ("__weakref__", "_g", "device")

    def __init__(self, device: Any = "cpu") -> None:
        be = backend.get(device)
        self.device: Device = be.device
        self._g = be.generator.fresh()

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of ``seed``, in [-2**63, 2**64 - 1]. Returns the generator."""
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}")
        self._g.manual_seed(int(seed))
        return self

    def seed(self) -> int:
        """Seed from the operating system's entropy; returns the seed."""
        return self._g.seed()

    def initial_seed(self) -> int:
        """The seed that the stream was started with."""
        return self._g.initial_seed()

    def get_state(self) -> Tensor:
        """The state, a uint8 tensor on the CPU."""
        return wrap(self._g.get_state())

    def set_state(self, new_state: Tensor) -> None:
        """Go on from a state of get_state()."""
        self._g.set_state(_bytes(new_state))

    def clone_state(self) -> Generator:
        """A generator of its own that goes on from here."""
        return _of(self._g.clone_state(), self.device)

    def get_offset(self) -> int:
        """How far a CUDA generator has come in its stream, in words."""
        if not hasattr(self._g, "offset"):
            raise RuntimeError("CPU Generator does not use offset")
        return self._g.offset * 4

    def set_offset(self, offset: int) -> None:
        """Move a CUDA generator to a place in its stream, a multiple of 4 words."""
        if not hasattr(self._g, "offset"):
            raise RuntimeError("CPU Generator does not use offset")
        if offset % 4 or offset < 0:
            raise RuntimeError(f"offset must be a multiple of 4, got {offset}")
        self._g.offset = offset // 4

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.device, self._g.get_state())


def _of(g: Any, d: Device) -> Generator:
    made = object.__new__(Generator)
    made.device, made._g = d, g
    return made


def _restore(d: Device, state: np.ndarray[Any, Any]) -> Generator:
    made = Generator(d)
    made._g.set_state(state)
    return made


def _bytes(state: Any) -> np.ndarray[Any, Any]:
    if not isinstance(state, Tensor):
        raise TypeError(f"expected a torch.ByteTensor, but got {type(state).__name__}")
    if state._a.dtype != np.uint8 or not state.is_cpu:
        raise TypeError("RNG state must be a torch.ByteTensor")
    return state._a


default_generator = _of(backend.cpu.generator, backend.cpu.device)


def manual_seed(seed: Any) -> Generator:
    """Seed the default generators of all devices; returns the CPU's.

    CUDA devices that are first used later start from this seed, too.
    """
    seed = int(seed)
    default_generator.manual_seed(seed)
    _seed_cuda(seed)
    return default_generator


def seed() -> int:
    """Seed the default generators of all devices from the system's entropy; returns the seed."""
    value = default_generator.seed()
    _seed_cuda(value)
    return value


def _seed_cuda(value: int) -> None:
    from gpugrad.backend import cuda

    cuda.seed(value)


def initial_seed() -> int:
    """The seed of the CPU's default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The state of the CPU's default generator, a uint8 tensor."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Set the state of the CPU's default generator."""
    default_generator.set_state(new_state)


@contextlib.contextmanager
def fork_rng(devices: Iterable[Any] | None = None, enabled: bool = True,
             device_type: str = "cuda") -> Iterator[None]:
    """Leave the default generators as they were when the block ends.

    Args:
        devices: CUDA devices to include besides the CPU; by default all that are in use.
        enabled: with False the block runs as if it stood alone.
    """
    if not enabled:
        yield
        return
    if devices is None:
        chosen = backend.made()
    else:
        chosen = [backend.cpu] + [backend.get(d if isinstance(d, Device) else Device(d))
                                  for d in devices]
    states = [(be.generator, be.generator.get_state()) for be in chosen]
    try:
        yield
    finally:
        for g, state in states:
            g.set_state(state)
