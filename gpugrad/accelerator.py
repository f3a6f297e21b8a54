"""torch.accelerator: the CUDA device, by a name that programs for several kinds of device use."""
from __future__ import annotations

from typing import Any

from gpugrad import cuda
from gpugrad.device import device as Device


def is_available() -> bool:
    """Is there a CUDA device that can be used?"""
    return cuda.is_available()


def current_accelerator(check_available: bool = False) -> Device | None:
    """device("cuda"), or None if there is no CUDA device; check_available makes no difference."""
    return Device("cuda") if is_available() else None


def device_count() -> int:
    """How many there are; 0 without CUDA."""
    return cuda.device_count() if is_available() else 0


def current_device_index() -> int:
    """The index of the current device."""
    _check()
    return cuda.current_device()


current_device_idx = current_device_index


def set_device_index(device: Any, /) -> None:
    """Make a device the current one; a negative index changes nothing."""
    _check()
    index = _index(device)
    if index >= 0:
        cuda.set_device(index)


set_device_idx = set_device_index


class device_index:
    """A context in which a device is the current one; None changes nothing."""

    def __init__(self, device: int | None, /) -> None:
        self.idx = device
        self.prev_idx = -1

    def __enter__(self) -> None:
        if self.idx is not None:
            self.prev_idx = current_device_index()
            set_device_index(self.idx)

    def __exit__(self, *exc: object) -> None:
        if self.idx is not None:
            set_device_index(self.prev_idx)


def current_stream(device: Any = None, /) -> Any:
    """The stream that work on a device, by default the current one, goes to."""
    _check()
    return cuda.current_stream(_given(device))


def set_stream(stream: Any) -> None:
    """Make a stream the current one of its device."""
    _check()
    cuda.set_stream(stream)


def synchronize(device: Any = None, /) -> None:
    """Wait until all work on a device, by default the current one, is done."""
    _check()
    cuda.synchronize(_given(device))


def get_device_capability(device: Any = None, /) -> dict[str, Any]:
    """What a device can compute with: {"supported_dtypes": set of dtypes}."""
    from gpugrad import dtypes

    _check()
    return {"supported_dtypes": set(dtypes.ALL)}


def empty_cache() -> None:
    """Give memory that is not in use back to the driver."""
    if is_available():
        cuda.empty_cache()


def empty_host_cache() -> None:
    """Without effect: pinned memory is not kept."""


def memory_allocated(device_index: Any = None, /) -> int:
    """Bytes in use by tensors."""
    _check()
    return cuda.memory_allocated(_given(device_index))


def max_memory_allocated(device_index: Any = None, /) -> int:
    """The most bytes in use by tensors so far."""
    _check()
    return cuda.max_memory_allocated(_given(device_index))


def memory_reserved(device_index: Any = None, /) -> int:
    """Bytes taken from the driver."""
    _check()
    return cuda.memory_reserved(_given(device_index))


def max_memory_reserved(device_index: Any = None, /) -> int:
    """The most bytes taken from the driver so far."""
    _check()
    return cuda.max_memory_reserved(_given(device_index))


def memory_stats(device_index: Any = None, /) -> Any:
    """All that is known of the memory, by name."""
    _check()
    return cuda.memory_stats(_given(device_index))


def get_memory_info(device_index: Any = None, /) -> tuple[int, int]:
    """(free, total) bytes of the device."""
    _check()
    return cuda.mem_get_info(_given(device_index))


def reset_peak_memory_stats(device_index: Any = None, /) -> None:
    """Count the greatest amounts from now on."""
    _check()
    cuda.reset_peak_memory_stats(_given(device_index))


def _check() -> None:
    if not is_available():
        raise RuntimeError("Cannot access accelerator device when none is available: "
                           f"{cuda.unavailable_reason()}")


def _index(d: Any) -> int:
    if isinstance(d, int):
        return d
    wanted = Device(d)
    if wanted.type != "cuda":
        raise ValueError(f"{wanted.type} doesn't match the current accelerator cuda.")
    return cuda.current_device() if wanted.index is None else wanted.index


def _given(d: Any) -> Any:
    return None if d is None else _index(d)
