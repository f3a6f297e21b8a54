"""torch.__config__: what gpugrad runs on."""
from __future__ import annotations

import os
import platform
import sys

import numpy as np


def show() -> str:
    """Versions, and whether CUDA can be used, as text."""
    from gpugrad import cuda

    gpu = ", ".join(cuda.get_device_name(i) for i in range(cuda.device_count())) \
        if cuda.is_available() else f"not available: {cuda.unavailable_reason()}"
    return (f"gpugrad {sys.modules['gpugrad'].__version__} built with:\n"
            f"  - Python {platform.python_version()}\n  - NumPy {np.__version__}\n"
            f"  - CUDA {gpu}\n")


def parallel_info() -> str:
    """What is known of threads, as text."""
    return (f"CPUs: {os.cpu_count()}\n"
            f"OPENBLAS_NUM_THREADS: {os.environ.get('OPENBLAS_NUM_THREADS', '[not set]')}\n"
            f"OMP_NUM_THREADS: {os.environ.get('OMP_NUM_THREADS', '[not set]')}\n")
