"""kl_divergence, and the registry of the pairs of families that it knows.

The formulas are in kl_pairs.py (one family) and kl_mixed.py (two).
"""
from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.distributions.distribution import Distribution

__all__ = ["kl_divergence", "register_kl"]

_KL_REGISTRY: dict[tuple[type, type], Callable[[Any, Any], Tensor]] = {}
_KL_MEMOIZE: dict[tuple[type, type], Any] = {}       # for subclasses too


def register_kl(type_p: type, type_q: type) -> Any:
    """A decorator for the function of (p, q) that computes KL(p || q) for two families.

    A pair of subclasses takes the function of its most specific pair of base classes.
    """
    for name, family in (("p", type_p), ("q", type_q)):
        if not (isinstance(family, type) and issubclass(family, Distribution)):
            raise TypeError(f"Expected type_{name} to be a Distribution subclass but got {family}")

    def decorate(fn: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
        _KL_REGISTRY[type_p, type_q] = fn
        _KL_MEMOIZE.clear()
        return fn
    return decorate


def _nearest(types: tuple[type, type], pairs: Sequence[tuple[type, type]],
             order: tuple[int, int]) -> tuple[type, type]:
    """The most specific of pairs of base classes, by the one of ``order`` first."""
    return min(pairs, key=lambda pair: [types[i].__mro__.index(pair[i]) for i in order])


def _dispatch_kl(type_p: type, type_q: type) -> Any:
    types = type_p, type_q
    pairs = [pair for pair in _KL_REGISTRY
             if issubclass(type_p, pair[0]) and issubclass(type_q, pair[1])]
    if not pairs:
        return NotImplemented
    left, right = _nearest(types, pairs, (0, 1)), _nearest(types, pairs, (1, 0))
    if _KL_REGISTRY[left] is not _KL_REGISTRY[right]:
        warnings.warn(f"Ambiguous kl_divergence({type_p.__name__}, {type_q.__name__}). Please "
                      f"register_kl({left[0].__name__}, {right[1].__name__})", RuntimeWarning,
                      stacklevel=3)
    return _KL_REGISTRY[left]


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """KL(p || q), the mean of log p(x) - log q(x) over x from p, of shape batch_shape."""
    types = type(p), type(q)
    if types not in _KL_MEMOIZE:
        _KL_MEMOIZE[types] = _dispatch_kl(*types)
    fn = _KL_MEMOIZE[types]
    if fn is NotImplemented:
        raise NotImplementedError(
            f"No KL(p || q) is implemented for p type {type(p).__name__} and q type "
            f"{type(q).__name__}")
    return fn(p, q)
