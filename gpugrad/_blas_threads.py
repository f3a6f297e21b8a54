"""What has to be said before NumPy is imported: for how long its BLAS's threads look for work.

OpenBLAS's threads do so for 2 ** 26 ticks of the clock after each product, some 25 ms, and keep
CPUs busy that other threads could use. 2 ** 20 are enough for one product after the other. Where
NumPy has been imported before, or somebody has said something else, it stays at that.
"""
from __future__ import annotations

import os
import sys

_NAME, _SHORT = "OPENBLAS_THREAD_TIMEOUT", 20

if "numpy" not in sys.modules:
    os.environ.setdefault(_NAME, str(_SHORT))
said = os.environ.get(_NAME, "")
QUIET = said.isdigit() and int(said) <= _SHORT + 2      # do they soon sleep?
