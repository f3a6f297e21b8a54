"""Window functions of signal processing, as vectors: Bartlett, Blackman, Hann, Hamming, Kaiser.

periodic: the window of a periodic signal, the first n of the symmetric one of n + 1 elements.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor
from gpugrad.factory import begin, dtype_of, finish_constant, integer, on_device


def _window(name: str, n: Any, periodic: bool, of: Callable[[Any, int], Any], dtype: Any,
            layout: Any, device: Any, pin_memory: bool, requires_grad: bool) -> Tensor:
    """The window whose element i of m is of(i, m - 1), computed in float64 and rounded once."""
    n = integer(name, "window_length", 1, n)
    be = begin(name, None, device, None, layout)[0]
    d = dtype_of(name, dtype, dtypes.default_np())
    if d.kind not in dtypes.FLOATING:
        raise RuntimeError(f"{name} expects floating point dtypes, got: {dtypes.OF[d]}")
    if n < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={n}")
    if n < 2:
        a = np.ones(n)
    else:
        a = np.asarray(of(np.arange(n, dtype=np.float64), n if periodic else n - 1))
    return finish_constant(on_device(a.astype(d), be), be, requires_grad, pin_memory)


def bartlett_window(window_length: int, periodic: bool = True, *, dtype: Any = None,
                    layout: Any = None, device: Any = None, pin_memory: bool = False,
                    requires_grad: bool = False) -> Tensor:
    """A triangle from 0 up to 1 and down to 0."""
    return _window("bartlett_window", window_length, periodic,
                   lambda i, last: 1 - np.abs(2 * i / last - 1), dtype, layout, device, pin_memory,
                   requires_grad)


def _cosines(*weights: float) -> Callable[[Any, int], Any]:
    """w0 - w1 cos(t) + w2 cos(2 t) ... with t = 2 pi i / last."""
    def of(i: Any, last: int) -> Any:
        t = 2 * math.pi * i / last
        return sum(w * (-1) ** k * np.cos(k * t) for k, w in enumerate(weights))
    return of


def blackman_window(window_length: int, periodic: bool = True, *, dtype: Any = None,
                    layout: Any = None, device: Any = None, pin_memory: bool = False,
                    requires_grad: bool = False) -> Tensor:
    """0.42 - 0.5 cos(t) + 0.08 cos(2 t)"""
    return _window("blackman_window", window_length, periodic, _cosines(0.42, 0.5, 0.08), dtype,
                   layout, device, pin_memory, requires_grad)


def hann_window(window_length: int, periodic: bool = True, *, dtype: Any = None,
                layout: Any = None, device: Any = None, pin_memory: bool = False,
                requires_grad: bool = False) -> Tensor:
    """(1 - cos(t)) / 2"""
    return _window("hann_window", window_length, periodic, _cosines(0.5, 0.5), dtype, layout,
                   device, pin_memory, requires_grad)


def hamming_window(window_length: int, periodic: bool = True, alpha: float = 0.54,
                   beta: float = 0.46, *, dtype: Any = None, layout: Any = None,
                   device: Any = None, pin_memory: bool = False,
                   requires_grad: bool = False) -> Tensor:
    """alpha - beta cos(t)"""
    return _window("hamming_window", window_length, periodic, _cosines(alpha, beta), dtype, layout,
                   device, pin_memory, requires_grad)


def kaiser_window(window_length: int, periodic: bool = True, beta: float = 12.0, *,
                  dtype: Any = None, layout: Any = None, device: Any = None,
                  pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """I0(beta sqrt(1 - x ** 2)) / I0(beta), with x from -1 to 1 and I0 of Bessel."""
    def of(i: Any, last: int) -> Any:
        x = 2 * i / last - 1
        return np.i0(beta * np.sqrt(np.maximum(1 - x * x, 0))) / np.i0(beta)
    return _window("kaiser_window", window_length, periodic, of, dtype, layout, device, pin_memory,
                   requires_grad)
