"""Moving a tensor between devices, with history: the one operation that has two backends."""
from __future__ import annotations

from typing import Any

from gpugrad._state import anomaly, state
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.node import Node, edge_of, next_key


class ToCopyBackward0(Node):
    """Brings the gradient back to where the tensor came from."""

    __slots__ = ("source",)
    source: Any
    saved: Any = ()
    guard: Any = ()

    def run(self, o: Any, g: Any, edges: Any) -> Any:
        if isinstance(g, Tensor):
            return (to_backend(g, self.source),)
        return (move(g, self.be, self.source),)

    def release(self) -> None:
        pass


def move(a: Any, source: Any, target: Any, non_blocking: bool = False) -> Any:
    """An array of one backend as a new array of another."""
    return target.from_device(a, source, non_blocking)


def to_backend(x: Tensor, target: Any, non_blocking: bool = False) -> Tensor:
    """x on the device of ``target``; x itself if it is there already.

    non_blocking: the host doesn't wait for copies from and to pinned memory.
    """
    source = x._be
    if source is target:
        return x
    edge = None
    if state.recording and x._edge is not None:
        node = ToCopyBackward0()
        node.be, node.source, node.edges = target, source, (edge_of(x),)
        node.fit, node.hooks, node.key = None, None, next_key()
        if anomaly[0] is not None:
            anomaly[0].made(node)
        edge = (node, 0)
    return wrap(move(x._a, source, target, non_blocking), target, edge)
