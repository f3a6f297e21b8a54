"""torch.utils.benchmark: Timer, which measures a statement."""
from __future__ import annotations

from gpugrad.utils.benchmark.timer import Measurement as Measurement
from gpugrad.utils.benchmark.timer import Timer as Timer
from gpugrad.utils.benchmark.timer import timer as timer
