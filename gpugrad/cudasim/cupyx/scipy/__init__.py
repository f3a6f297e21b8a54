"""A stand-in for cupyx.scipy."""
from __future__ import annotations

from gpugrad.cudasim.cupyx.scipy import special as special
