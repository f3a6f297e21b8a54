"""Device: one of the simulated devices, and the current one inside ``with``."""
from __future__ import annotations

from typing import Any

from gpugrad.cudasim import state
from gpugrad.cudasim.cupy._blocks import TOTAL, device_bytes
from gpugrad.cudasim.cupy.cuda import runtime
from gpugrad.cudasim.state import thread


class Device:
    """A simulated device; by default the current one."""

    __slots__ = ("_before", "id")

    def __init__(self, device: Any = None) -> None:
        self.id = thread.device if device is None else int(getattr(device, "id", device))
        self._before: list[int] = []

    def use(self) -> Device:
        runtime.setDevice(self.id)
        return self

    def __enter__(self) -> Device:
        self._before.append(thread.device)
        return self.use()

    def __exit__(self, *exc: object) -> None:
        thread.device = self._before.pop()

    def synchronize(self) -> None:
        state.wait("Device.synchronize()", everything=True)

    @property
    def compute_capability(self) -> str:
        return f"{runtime.CAPABILITY[0]}{runtime.CAPABILITY[1]}"

    @property
    def mem_info(self) -> tuple[int, int]:
        return TOTAL - device_bytes(self.id), TOTAL

    @property
    def pci_bus_id(self) -> str:
        return f"0000:{self.id:02X}:00.0"

    @property
    def attributes(self) -> dict[str, int]:
        p = runtime.getDeviceProperties(self.id)
        return {
            "MaxThreadsPerBlock": p["maxThreadsPerBlock"], "WarpSize": p["warpSize"],
            "MultiProcessorCount": p["multiProcessorCount"],
            "MaxSharedMemoryPerBlock": p["sharedMemPerBlock"],
            "MaxSharedMemoryPerBlockOptin": p["sharedMemPerBlockOptin"],
            "MaxSharedMemoryPerMultiprocessor": p["sharedMemPerMultiprocessor"],
            "MaxRegistersPerBlock": p["regsPerBlock"],
            "MaxThreadsPerMultiProcessor": p["maxThreadsPerMultiProcessor"],
            "L2CacheSize": p["l2CacheSize"], "ClockRate": p["clockRate"],
            "MemoryClockRate": p["memoryClockRate"],
            "GlobalMemoryBusWidth": p["memoryBusWidth"],
            "MaxGridDimX": p["maxGridSize"][0], "MaxGridDimY": p["maxGridSize"][1],
            "MaxGridDimZ": p["maxGridSize"][2], "MaxBlockDimX": p["maxThreadsDim"][0],
            "MaxBlockDimY": p["maxThreadsDim"][1], "MaxBlockDimZ": p["maxThreadsDim"][2],
            "ComputeCapabilityMajor": p["major"], "ComputeCapabilityMinor": p["minor"],
            "ConcurrentKernels": 1, "UnifiedAddressing": 1, "CooperativeLaunch": 0,
        }

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"


def get_device_id() -> int:
    """The index of this thread's current device."""
    return thread.device
