"""cupy.cuda.nvrtc: the compiler's version. Kernels are compiled by the machine's C++ compiler."""
from __future__ import annotations


class NVRTCError(RuntimeError):
    """An error of the compiler."""


def getVersion() -> tuple[int, int]:
    """Which NVRTC's language the simulation follows."""
    return 13, 0
