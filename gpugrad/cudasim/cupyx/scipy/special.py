"""A stand-in for cupyx.scipy.special: functions out of Python's math, an element at a time."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.cudasim.cupy._ufuncs import ufunc


class _ByElement:
    """A host function of floating arrays out of one of Python's floats."""

    nout, types = 1, ["f->f", "d->d"]

    def __init__(self, f: Callable[..., float], nin: int = 1) -> None:
        self._f, self.nin, self.nargs = np.frompyfunc(f, nin, 1), nin, nin + 1

    def __call__(self, *args: Any, out: Any = None, **kw: Any) -> Any:
        dtype = np.result_type(*args)
        if dtype != np.float32:
            dtype = np.dtype(np.float32 if dtype.name == "bfloat16" else np.float64)
        r = np.asarray(self._f(*[np.asarray(a, np.float64) for a in args])).astype(dtype)
        if out is None:
            return r
        (out[0] if isinstance(out, tuple) else out)[...] = r
        return out


def _gammaln(x: float) -> float:
    if math.isnan(x) or x == -math.inf:
        return x if math.isnan(x) else math.inf
    return math.inf if x <= 0 and x == math.floor(x) else math.lgamma(x)


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _xlogy(x: float, y: float) -> float:
    if math.isnan(y):
        return y
    if x == 0:
        return 0.0
    return math.nan if y < 0 else x * (math.log(y) if y else -math.inf)


erf = ufunc(_ByElement(math.erf), "erf")
erfc = ufunc(_ByElement(math.erfc), "erfc")
gammaln = ufunc(_ByElement(_gammaln), "gammaln")
expit = ufunc(_ByElement(_expit), "expit")
xlogy = ufunc(_ByElement(_xlogy, 2), "xlogy")
