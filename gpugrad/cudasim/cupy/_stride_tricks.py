"""cupy.lib.stride_tricks: views with other strides, which can be written to."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.cudasim.cupy._calls import view


def as_strided(x: Any, shape: Any = None, strides: Any = None) -> Any:
    """A view with any shape and strides; nothing checks that it stays inside the memory.

    As CuPy's it has no base.
    """
    a = x._a
    made = view(np.lib.stride_tricks.as_strided(
        a, a.shape if shape is None else shape, a.strides if strides is None else strides), x)
    made._base = None
    return made


def sliding_window_view(x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False,
                        writeable: bool = False) -> Any:
    """All windows of a shape, as further dims of a view."""
    return view(np.lib.stride_tricks.sliding_window_view(x._a, window_shape, axis), x)
