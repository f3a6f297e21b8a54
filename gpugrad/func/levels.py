"""What a transformation differentiates with respect to: tensors of its own, one level a call.

A tensor of an outer level, or of ordinary autograd, becomes a view of itself, so that the outer
one can go through; any other becomes a new leaf. A result keeps its history only if that leads to a
leaf of an outer level or of ordinary autograd.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpugrad._state import state, switch
from gpugrad._tensor import LEAF, Tensor, wrap
from gpugrad.autograd import engine
from gpugrad.autograd.node import AccumulateGrad
from gpugrad.autograd.rules import tensors as T


class Level:
    """The inputs of one differentiation, and which of them are leaves of its own.

    Those carry a mark, a list of one bool: is the function of their level still running?
    """

    def __init__(self, values: list[Any]) -> None:
        for v in values:
            if not isinstance(v, Tensor):
                raise ValueError(f"Thing passed to transform API must be Tensor, got {type(v)}")
        self.recorded = state.recording
        self.mark = [True]
        self.inputs = [T.alias(v) if self.recorded and v.requires_grad else self.leaf(detached(v))
                       for v in values]

    def leaf(self, v: Tensor) -> Tensor:
        """v, new, as a leaf of this level."""
        v.requires_grad_().__dict__["_mark"] = self.mark
        return v

    def ran(self) -> None:
        """The function has returned: from now on nobody differentiates by this level's leaves."""
        self.mark[0] = False

    def is_other(self, leaf: Tensor) -> bool:
        mark = leaf.__dict__.get("_mark")
        return mark is None or (mark[0] and mark is not self.mark)

    def reaches_others(self, outputs: Any) -> bool:
        """Does the history of an output lead to a leaf that another level or the user has?"""
        seen: set[int] = set()
        stack = []
        for y in outputs:
            if y._edge is LEAF:
                if self.is_other(y):
                    return True
            elif y._edge is not None:
                stack.append(y._edge[0])
        while stack:
            node = stack.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if type(node) is AccumulateGrad:
                if self.is_other(node.variable):
                    return True
            else:
                stack += [e[0] for e in node.edges if e is not None]
        return False

    def released(self, v: Tensor) -> Tensor:
        """A result as the caller gets it: without history unless it reaches beyond this level."""
        if v._edge is None or (self.recorded and self.reaches_others([v])):
            return v
        return v.detach()


@contextmanager
def recording() -> Iterator[None]:
    """A graph is recorded inside, also in inference mode."""
    was = switch(True, False)
    try:
        yield
    finally:
        switch(*was)


def detached(v: Tensor) -> Tensor:
    """v without history; one of inference mode with a version cell, which a graph needs."""
    return wrap(v._a, v._be, None, [0]) if v.is_inference() else v.detach()


def zeros_like(x: Tensor) -> Tensor:
    return wrap(x._be.xp.zeros(x._a.shape, x._a.dtype), x._be)


def ones_like(x: Tensor) -> Tensor:
    return wrap(x._be.xp.ones(x._a.shape, x._a.dtype), x._be)


def gradients(outputs: Any, inputs: Any, starts: Any, graph: bool, keep: bool) -> list[Tensor]:
    """The gradients of outputs for inputs, zeros where there is no way."""
    live = [(y, g) for y, g in zip(outputs, starts) if y is not None and y.requires_grad]
    found: Any = (None,) * len(inputs)
    if live:
        found = engine.grad([y for y, _ in live], list(inputs), [g for _, g in live],
                            retain_graph=keep or graph, create_graph=graph, allow_unused=True)
    return [zeros_like(x) if g is None else g for g, x in zip(found, inputs)]
