"""cupy.cuda.runtime: the calls of CUDA's runtime that programs make directly."""
from __future__ import annotations

import ctypes
import os
from typing import Any

from gpugrad.cudasim import state
from gpugrad.cudasim.cupy._blocks import TOTAL, device_bytes
from gpugrad.cudasim.state import switches, thread

_NAMES = {1: "cudaErrorInvalidValue", 2: "cudaErrorMemoryAllocation",
          101: "cudaErrorInvalidDevice", 400: "cudaErrorInvalidResourceHandle",
          719: "cudaErrorLaunchFailure", 900: "cudaErrorStreamCaptureUnsupported",
          906: "cudaErrorStreamCaptureImplicit"}
_VERSION = 13000
CAPABILITY = 8, 0

streamDefault, streamNonBlocking = 0, 1
streamLegacy, streamPerThread = 1, 2
streamCaptureModeGlobal, streamCaptureModeThreadLocal, streamCaptureModeRelaxed = 0, 1, 2
memcpyHostToHost, memcpyHostToDevice, memcpyDeviceToHost, memcpyDeviceToDevice = 0, 1, 2, 3
memcpyDefault = 4
is_hip = False


class CUDARuntimeError(RuntimeError):
    """An error of CUDA's runtime."""

    def __init__(self, status: int, text: str = "") -> None:
        self.status = status
        super().__init__(f"{_NAMES.get(status, 'cudaErrorUnknown')}: {text or 'invalid'}")


def getDeviceCount() -> int:
    return switches.devices


def getDevice() -> int:
    return thread.device


def setDevice(device: int) -> None:
    if not 0 <= device < switches.devices:
        raise CUDARuntimeError(101, "invalid device ordinal")
    thread.device = int(device)


def deviceSynchronize() -> None:
    state.wait("Device.synchronize()", everything=True)


def streamSynchronize(stream: int) -> None:
    state.wait("Stream.synchronize()")


def driverGetVersion() -> int:
    return _VERSION


def runtimeGetVersion() -> int:
    return _VERSION


def memGetInfo() -> tuple[int, int]:
    return TOTAL - device_bytes(thread.device), TOTAL


def getDeviceProperties(device: int) -> dict[str, Any]:
    if not 0 <= device < switches.devices:
        raise CUDARuntimeError(101, "invalid device ordinal")
    return {
        "name": b"simulated CUDA device (gpugrad.cudasim)", "major": CAPABILITY[0],
        "minor": CAPABILITY[1], "totalGlobalMem": TOTAL, "multiProcessorCount": 8,
        "warpSize": 32, "maxThreadsPerBlock": 1024, "maxThreadsPerMultiProcessor": 2048,
        "regsPerBlock": 65536, "regsPerMultiprocessor": 65536, "sharedMemPerBlock": 48 << 10,
        "sharedMemPerMultiprocessor": 164 << 10, "sharedMemPerBlockOptin": 163 << 10,
        "l2CacheSize": 40 << 20, "clockRate": 1_000_000, "memoryClockRate": 1_000_000,
        "memoryBusWidth": 256, "maxGridSize": (2**31 - 1, 65535, 65535),
        "maxThreadsDim": (1024, 1024, 64), "pciBusID": device, "pciDeviceID": 0,
        "pciDomainID": 0, "concurrentKernels": 1, "canMapHostMemory": 1, "integrated": 0,
    }


def deviceGetAttribute(attrib: int, device: int) -> int:
    raise NotImplementedError("deviceGetAttribute: use Device.attributes or getDeviceProperties")


def deviceCanAccessPeer(device: int, peerDevice: int) -> int:
    return 0


def memcpy(dst: int, src: int, size: int, kind: int) -> None:
    raise NotImplementedError("runtime.memcpy: copy arrays, or use MemoryPointer.copy_from")


def memcpyAsync(dst: int, src: int, size: int, kind: int, stream: int) -> None:
    graph = state.capture_of(stream)
    if graph is None:
        raise NotImplementedError("runtime.memcpyAsync outside of a capture: copy arrays, or use "
                                  "MemoryPointer.copy_from_async")
    graph._add(lambda: ctypes.memmove(dst, src, size))


def profilerStart() -> None:
    pass


def profilerStop() -> None:
    pass


def devices_asked_for() -> int:
    """How many simulated devices GPUGRAD_CUDASIM_DEVICES asks for; 1 without it."""
    text = os.environ.get("GPUGRAD_CUDASIM_DEVICES", "1")
    if not text.isdigit() or not 1 <= int(text) <= 16:
        raise ValueError(f"GPUGRAD_CUDASIM_DEVICES must be a number from 1 to 16, not {text!r}")
    return int(text)
