"""Which CUDA devices there are, which one is current, and what they can do."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpugrad import backend, dtypes
from gpugrad.backend import cuda as _backend
from gpugrad.device import device as Device


def is_available() -> bool:
    """Whether CUDA can be used. Never raises; ``unavailable_reason()`` says why not."""
    return _backend.usable()[0] is not None


def unavailable_reason() -> str:
    """Why CUDA can't be used and what to do about it; "" if it can."""
    return _backend.usable()[1]


def is_initialized() -> bool:
    """Whether a CUDA device is in use."""
    return _backend.in_use()


def init() -> None:
    """Look for CUDA now instead of at its first use. RuntimeError if it can't be used."""
    _backend.needed()


def device_count() -> int:
    """How many CUDA devices there are; 0 if CUDA can't be used."""
    return _backend.device_count()


def current_device() -> int:
    """The index of this thread's current device."""
    return _backend.current_device()


def index_of(d: Any, needs_index: bool = False) -> int:
    """The index that a device, string, number or None (the current device) stands for."""
    if isinstance(d, int):
        return d
    if isinstance(d, device):
        return d.idx
    if isinstance(d, str):
        d = Device(d)
    if isinstance(d, Device):
        if d.type != "cuda":
            raise ValueError(f"Expected a cuda device, but got: {d}")
        if d.index is not None:
            return d.index
    elif d is not None:
        raise TypeError(f"expected a device, a string such as 'cuda:0' or an index, not "
                        f"{type(d).__name__}")
    if needs_index:
        raise ValueError(f"Expected a torch.device with a specified index or an integer, "
                         f"but got:{d}")
    return current_device()


def set_device(device: Any) -> None:
    """Make a device this thread's current one; a negative index changes nothing."""
    index = index_of(device, needs_index=True)
    if index >= 0:
        _backend.set_device(index)


class device:
    """``with torch.cuda.device(1):`` makes it the current one; a negative index changes nothing."""

    def __init__(self, device: Any) -> None:
        self.idx = index_of(device)
        self.prev_idx = -1

    def __enter__(self) -> None:
        if self.idx >= 0:
            self.prev_idx = current_device()
            _backend.set_device(self.idx)

    def __exit__(self, *exc: object) -> None:
        if self.idx >= 0:
            _backend.set_device(self.prev_idx)


class device_of(device):
    """The device of a tensor as the current one inside; a tensor on the CPU changes nothing."""

    def __init__(self, obj: Any) -> None:
        super().__init__(obj.get_device() if obj.is_cuda else -1)


# PyTorch's name of a property, and CUDA's.
_PROPERTIES = {
    "total_memory": "totalGlobalMem", "multi_processor_count": "multiProcessorCount",
    "warp_size": "warpSize", "max_threads_per_block": "maxThreadsPerBlock",
    "max_threads_per_multi_processor": "maxThreadsPerMultiProcessor",
    "regs_per_multiprocessor": "regsPerMultiprocessor",
    "shared_memory_per_block": "sharedMemPerBlock",
    "shared_memory_per_block_optin": "sharedMemPerBlockOptin",
    "shared_memory_per_multiprocessor": "sharedMemPerMultiprocessor",
    "L2_cache_size": "l2CacheSize", "clock_rate": "clockRate",
    "memory_clock_rate": "memoryClockRate", "memory_bus_width": "memoryBusWidth",
    "is_integrated": "integrated", "is_multi_gpu_board": "isMultiGpuBoard",
    "pci_bus_id": "pciBusID", "pci_device_id": "pciDeviceID", "pci_domain_id": "pciDomainID",
}


@dataclass(frozen=True)
class DeviceProperties:
    """What a device is: sizes in bytes, rates in kHz. What CUDA doesn't say is 0."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    warp_size: int
    max_threads_per_block: int
    max_threads_per_multi_processor: int
    regs_per_multiprocessor: int
    shared_memory_per_block: int
    shared_memory_per_block_optin: int
    shared_memory_per_multiprocessor: int
    L2_cache_size: int
    clock_rate: int
    memory_clock_rate: int
    memory_bus_width: int
    is_integrated: int
    is_multi_gpu_board: int
    pci_bus_id: int
    pci_device_id: int
    pci_domain_id: int

    def __repr__(self) -> str:
        return (f"_CudaDeviceProperties(name='{self.name}', major={self.major}, "
                f"minor={self.minor}, total_memory={self.total_memory >> 20}MB, "
                f"multi_processor_count={self.multi_processor_count}, "
                f"L2_cache_size={self.L2_cache_size >> 20}MB)")


def get_device_properties(device: Any = None) -> DeviceProperties:
    """Name, compute capability, memory and sizes of a device."""
    index = index_of(device)
    cupy = _backend.needed()
    _backend.check_index(index)
    p = cupy.cuda.runtime.getDeviceProperties(index)
    name = p["name"]
    return DeviceProperties(
        name.decode() if isinstance(name, bytes) else str(name), p["major"], p["minor"],
        **{ours: int(p.get(cudas, 0)) for ours, cudas in _PROPERTIES.items()})


def get_device_name(device: Any = None) -> str:
    """The name of a device, such as 'NVIDIA H200'."""
    return get_device_properties(device).name


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """(major, minor) of a device's compute capability."""
    p = get_device_properties(device)
    return p.major, p.minor


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether tensors of dtype bfloat16 can be used: on 8.0 and later, or slower on any device.

    They need the package ml_dtypes, too.
    """
    try:
        dtypes.bfloat16.np  # noqa: B018 (it looks for the package)
    except ImportError:
        return False
    return bool(_backend.device_count()) and (including_emulation
                                              or get_device_capability() >= (8, 0))


def synchronize(device: Any = None) -> None:
    """Wait until a device has done all its work."""
    cupy = _backend.needed()
    cupy.cuda.Device(index_of(device)).synchronize()


def can_device_access_peer(device: Any, peer_device: Any) -> bool:
    """Whether a device can read and write another one's memory; RuntimeError if one isn't there."""
    here, there = index_of(device, needs_index=True), index_of(peer_device, needs_index=True)
    for index in (here, there):
        _backend.check_index(index)
    return bool(_backend.needed().cuda.runtime.deviceCanAccessPeer(here, there))


def get_arch_list() -> list[str]:
    """[]: kernels are compiled where they run, for the device that is there."""
    return []


def backend_of(device: Any = None) -> Any:
    """The backend of a CUDA device, by default of the current one."""
    _backend.needed()
    return backend.get(Device("cuda", index_of(device)))
