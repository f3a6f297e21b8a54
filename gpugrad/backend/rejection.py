"""PyTorch's gamma, Poisson and binomial numbers on the CPU: drawn by rejection, one by one.

How many uniform numbers an element takes depends on those it gets, and where the next one starts on
that. So these are loops, over numbers that are read ahead.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from gpugrad.dtypes import wide

_SQUEEZE = float(np.float32(0.0331))
_AHEAD = 1 << 16         # how many numbers are read ahead at most


class _Uniforms:
    """The next uniform numbers of a CPUGenerator, which ``close`` leaves after the last used."""

    def __init__(self, generator: Any, expected: int) -> None:
        self.generator = generator
        self.block = min(max(expected, 8), _AHEAD)
        self.start: Any = None                   # where the block began
        self.unread: Any = iter(())
        self.next = chain.from_iterable(self._blocks()).__next__

    def _blocks(self) -> Iterator[Iterator[float]]:
        g = self.generator
        while True:
            self.start = (g._bits or g._start()).state
            self.unread = iter(g._unit64(self.block).tolist())
            yield self.unread

    def close(self) -> None:
        unread = self.unread.__length_hint__()
        if unread:
            self.generator._bits.state = self.start
            self.generator._unit64(self.block - unread)

    def normal(self) -> float:
        """A normal number; they come in pairs, of which the generator keeps the second."""
        g = self.generator
        if g._spare is not None:
            spare, g._spare = g._spare, None
            return spare
        angle, radius = 2.0 * math.pi * self.next(), math.sqrt(-2.0 * math.log1p(-self.next()))
        g._spare = radius * math.sin(angle)
        return radius * math.cos(angle)


def _each(generator: Any, draw: Callable[..., float], expected: float, *parameters: Any) -> Any:
    """draw(uniforms, *parameters) for each element of parameters of one shape, in float64.

    expected: about how many uniform numbers an element takes.
    """
    shape, n = parameters[0].shape, parameters[0].size
    uniforms = _Uniforms(generator, int(n * expected))
    lists = [p.astype(np.float64).ravel().tolist() for p in parameters]
    out = np.array([draw(uniforms, *values) for values in zip(*lists)], np.float64)
    uniforms.close()
    return out.reshape(shape)


def gamma(generator: Any, shapes: Any) -> Any:
    """Gamma numbers of these shapes and scale 1, in float64 (Marsaglia and Tsang, 2000)."""
    # in PyTorch these are computed in the dtype of the shapes, with a third of float32
    shapes = shapes.astype(wide(shapes.dtype), copy=False)
    one, third = shapes.dtype.type(1), shapes.dtype.type(np.float32(1) / np.float32(3))
    raised = np.where(shapes < one, shapes + one, shapes)
    with np.errstate(divide="ignore"):
        return _each(generator, _gamma, 3.2, shapes, raised - third, one / shapes)


def _gamma(uniforms: _Uniforms, shape: float, d: float, power: float) -> float:
    scale = 1.0
    if shape < 1.0:
        if shape == 0.0:
            return 0.0
        scale = (1.0 - uniforms.next()) ** power
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        y = 0.0
        while y <= 0.0:
            x = uniforms.normal()
            y = 1.0 + c * x
        v, u, xx = y * y * y, 1.0 - uniforms.next(), x * x
        if u < 1.0 - _SQUEEZE * xx * xx or math.log(u) < 0.5 * xx + d * (1.0 - v + math.log(v)):
            return scale * d * v


def poisson(generator: Any, rates: Any) -> Any:
    """Poisson numbers of these rates, in float64 (Hörmann, 1993, from a rate of 10 on)."""
    mean = float(np.minimum(rates, 10).mean()) if rates.size else 0.0
    return _each(generator, _poisson, mean + 1.0, rates)


def _poisson(uniforms: _Uniforms, rate: float) -> float:
    if rate >= 10.0:
        return _large_poisson(uniforms, rate)
    count, product, end = 0, 1.0, math.exp(-rate)
    if rate == 0.0:
        return 0.0
    while True:
        product *= uniforms.next()
        if not product > end:
            return count
        count += 1


def _large_poisson(uniforms: _Uniforms, rate: float) -> float:
    log_rate = math.log(rate)
    b = 0.931 + 2.53 * math.sqrt(rate)
    a = -0.059 + 0.02483 * b
    inverse_alpha, limit = 1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2.0)
    while True:
        u, v = uniforms.next() - 0.5, uniforms.next()
        us = 0.5 - abs(u)
        if us == 0.0:
            continue
        k = math.floor((2.0 * a / us + b) * u + rate + 0.43)
        if us >= 0.07 and v <= limit:
            return k
        if k < 0 or (us < 0.013 and v > us):
            continue
        if v == 0.0:
            return k
        height = math.log(v) + math.log(inverse_alpha) - math.log(a / (us * us) + b)
        if height <= -rate + k * log_rate - math.lgamma(k + 1.0):
            return k


def binomial(generator: Any, counts: Any, probs: Any) -> Any:
    """The number of successes in these counts of trials, in float64 (Hörmann, 1993)."""
    return _each(generator, _binomial, 4.0, counts, probs)


def _binomial(uniforms: _Uniforms, count: float, prob: float) -> float:
    if math.isnan(count) or math.isnan(prob):
        return math.nan
    if count <= 0.0 or prob <= 0.0:
        return 0.0
    if prob >= 1.0:
        return count
    p = prob if prob <= 0.5 else 1.0 - prob
    k = (_many_trials if count * p >= 10.0 else _few_trials)(uniforms, count, p)
    return k if prob <= 0.5 else count - k


def _few_trials(uniforms: _Uniforms, count: float, prob: float) -> float:
    """Add up waiting times until they exceed the number of trials."""
    log_failure, total, successes = math.log1p(-prob), 0.0, 0
    while True:
        u = uniforms.next()
        total += math.ceil(math.log(u) / log_failure) if u else math.inf
        if total > count:
            return successes
        successes += 1


def _many_trials(uniforms: _Uniforms, count: float, prob: float) -> float:
    spread = math.sqrt(count * prob * (1.0 - prob))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * prob
    centre, limit = count * prob + 0.5, 0.92 - 4.2 / b
    odds, alpha = prob / (1.0 - prob), (2.83 + 5.1 / b) * spread
    m = math.floor((count + 1.0) * prob)
    while True:
        u, v = uniforms.next() - 0.5, uniforms.next()
        us = 0.5 - abs(u)
        if us == 0.0:
            continue
        k = math.floor((2.0 * a / us + b) * u + centre)
        if k < 0 or k > count:
            continue
        if us >= 0.07 and v <= limit:
            return k
        if v == 0.0:
            return k
        height = math.log(v * alpha / (a / (us * us) + b))
        bound = ((m + 0.5) * math.log((m + 1.0) / (odds * (count - m + 1.0)))
                 + (count + 1.0) * math.log((count - m + 1.0) / (count - k + 1.0))
                 + (k + 0.5) * math.log(odds * (count - k + 1.0) / (k + 1.0))
                 + _stirling_rest(m) + _stirling_rest(count - m)
                 - _stirling_rest(k) - _stirling_rest(count - k))
        if height <= bound:
            return k


def _stirling_rest(k: float) -> float:
    """log(k!) less Stirling's approximation of it at k + 1."""
    n = k + 1.0
    if k <= 9:
        return math.lgamma(n) - ((k + 0.5) * math.log(n) - n + 0.5 * math.log(2.0 * math.pi))
    square = n * n
    return (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / 1260.0 / square) / square) / n
