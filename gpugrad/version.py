"""torch.version: gpugrad's own version, and which CUDA it was built with."""
from __future__ import annotations

import sys

__version__: str = sys.modules["gpugrad"].__version__
# Nothing is built: kernels are compiled by the CUDA that CuPy brings, at their first use.
cuda: str | None = None
hip: str | None = None
rocm: str | None = None
xpu: str | None = None
debug = False
git_version = "unknown"
