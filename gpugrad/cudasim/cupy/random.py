"""cupy.random: NumPy's numbers, made on the device. The streams are not CuPy's."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.cudasim.cupy._calls import fresh

_host = np.random.Generator(np.random.Philox(0))


class Generator:
    """A generator of random arrays."""

    def __init__(self, bit_generator: Any) -> None:
        self._host = bit_generator

    def random(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        return _given(out, self._host.random(size, np.dtype(dtype)))

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        return _given(out, self._host.standard_normal(size, np.dtype(dtype)))

    def integers(self, low: Any, high: Any = None, size: Any = None, dtype: Any = np.int64,
                 endpoint: bool = False) -> Any:
        return fresh(self._host.integers(low, high, size, dtype, endpoint))

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None,
                dtype: Any = np.float64) -> Any:
        return fresh(np.asarray(self._host.uniform(low, high, size)).astype(dtype))


def _given(out: Any, a: Any) -> Any:
    if out is None:
        return fresh(a)
    out._a[...] = a
    return out


def default_rng(seed: Any = None) -> Generator:
    return Generator(np.random.Generator(np.random.Philox(seed)))


def seed(seed: Any = None) -> None:
    global _host
    _host = np.random.Generator(np.random.Philox(seed))


def _new(a: Any, dtype: Any) -> Any:
    return fresh(np.asarray(a).astype(np.float64 if dtype is None else dtype))


def random_sample(size: Any = None, dtype: Any = float) -> Any:
    return _new(_host.random(size), dtype)


random = random_sample


def rand(*size: int, **kwarg: Any) -> Any:
    return _new(_host.random(size), kwarg.get("dtype"))


def randn(*size: int, **kwarg: Any) -> Any:
    return _new(_host.standard_normal(size), kwarg.get("dtype"))


def standard_normal(size: Any = None, dtype: Any = float) -> Any:
    return _new(_host.standard_normal(size), dtype)


def normal(loc: Any = 0.0, scale: Any = 1.0, size: Any = None, dtype: Any = float) -> Any:
    return _new(_host.normal(loc, scale, size), dtype)


def uniform(low: Any = 0.0, high: Any = 1.0, size: Any = None, dtype: Any = float) -> Any:
    return _new(_host.uniform(low, high, size), dtype)


def randint(low: Any, high: Any = None, size: Any = None, dtype: Any = np.int_) -> Any:
    return _new(_host.integers(low, high, size), dtype)


def permutation(a: Any) -> Any:
    order = fresh(_host.permutation(a if isinstance(a, int) else len(a)))
    return order if isinstance(a, int) else a[order]
