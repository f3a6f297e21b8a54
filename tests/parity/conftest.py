"""PyTorch computes in one thread here.

On few cores its threads and those of NumPy's BLAS wait for one another, which makes a step on small
tensors up to fifty times as slow.
"""
from __future__ import annotations

import importlib.util

if importlib.util.find_spec("torch") is not None:
    import torch

    torch.set_num_threads(1)
