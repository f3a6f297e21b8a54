"""torch.backends.openmp: gpugrad itself has no threads on the CPU; NumPy's BLAS may."""
from __future__ import annotations


def is_available() -> bool:
    """False."""
    return False
