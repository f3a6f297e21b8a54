"""torch.backends.nnpack: not used; its setting is remembered without effect."""
from __future__ import annotations

from gpugrad.backends._remembered import bools, remember


def is_available() -> bool:
    """False."""
    return False


set_flags, flags = remember(__name__, bools, enabled=True)
