"""torch.backends: what scripts ask about, and set, at their top."""
from __future__ import annotations

from gpugrad.backends import cuda as cuda
from gpugrad.backends import cudnn as cudnn


class Absent:
    """A library or kind of device of PyTorch's that gpugrad does without."""

    def __init__(self, name: str) -> None:
        self._name = name

    def is_available(self) -> bool:
        """False."""
        return False

    def is_built(self) -> bool:
        """False."""
        return False

    def __repr__(self) -> str:
        return f"<gpugrad.backends.{self._name}: not available>"


mkl, mkldnn, mps, openmp = (Absent(n) for n in ("mkl", "mkldnn", "mps", "openmp"))
