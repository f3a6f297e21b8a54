"""torch.backends.mkldnn: oneDNN is not used; its settings are remembered without effect."""
from __future__ import annotations

from gpugrad.backends._remembered import bools, remember
from gpugrad.backends.mkl import verbose as verbose

VERBOSE_OFF, VERBOSE_ON, VERBOSE_ON_CREATION = 0, 1, 2


def is_available() -> bool:
    """False."""
    return False


def is_acl_available() -> bool:
    """False."""
    return False


set_flags, flags = remember(__name__, bools, enabled=True, deterministic=False, allow_tf32=True)
