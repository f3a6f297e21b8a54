"""What distributions share that are given by probabilities or, instead, by logits."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Size, Tensor
from gpugrad.creation import arange
from gpugrad.distributions.distribution import Distribution
from gpugrad.distributions.utils import (
    broadcast_all,
    lazy_property,
    logits_to_probs,
    probs_to_logits,
)


def check_one(probs: Any, logits: Any) -> None:
    if (probs is None) == (logits is None):
        raise ValueError("Either `probs` or `logits` must be specified, but not both.")


class Chances(Distribution):
    """Given by ``probs`` or ``logits``; the other one is computed when it is asked for."""

    _binary = True                               # logits are log odds, not log probabilities
    _given: str                                  # the name of what was given
    _kept: tuple[str, ...] = ("_given",)

    def _take(self, probs: Any, logits: Any, *others: Any) -> list[Tensor]:
        """Keep probs or logits, broadcast together with others; returns those."""
        check_one(probs, logits)
        self._given = "logits" if probs is None else "probs"
        *rest, chances = broadcast_all(*others, logits if probs is None else probs)
        setattr(self, self._given, chances)
        return rest

    @lazy_property
    def logits(self) -> Any:
        return probs_to_logits(self.probs, self._binary)

    @lazy_property
    def probs(self) -> Any:
        return logits_to_probs(self.logits, self._binary)

    @property
    def _param(self) -> Tensor:
        return getattr(self, self._given)

    @property
    def param_shape(self) -> Size:
        return self._param.size()

    def _new(self, *args: Any, **kw: Any) -> Tensor:
        return self._param.new(*args, **kw)


class Trials(Chances):
    """Chances with a total_count of the same shape, in their dtype."""

    total_count: Tensor

    def _take_with_count(self, total_count: Any, probs: Any, logits: Any) -> None:
        count, = self._take(probs, logits, total_count)
        self.total_count = count.type_as(self._param)

    def _same_count(self, what: str) -> int:
        """The total_count, if it is the same everywhere."""
        count = int(self.total_count.max())
        if self.total_count.min() != count:
            raise NotImplementedError(f"Inhomogeneous total count not supported by `{what}`.")
        return count

    def _enumerate(self, count: int, expand: bool) -> Tensor:
        like = self._param
        return self._enumerated(arange(1 + count, dtype=like.dtype, device=like.device), expand)


class OverCategories(Distribution):
    """Made from a Categorical distribution, ``_categorical``."""

    _categorical: Any

    @property
    def _param(self) -> Tensor:
        return self._categorical._param

    @property
    def probs(self) -> Tensor:
        return self._categorical.probs

    @property
    def logits(self) -> Tensor:
        return self._categorical.logits

    @property
    def param_shape(self) -> Size:
        return self._categorical.param_shape

    def _new(self, *args: Any, **kw: Any) -> Tensor:
        return self._categorical._new(*args, **kw)
