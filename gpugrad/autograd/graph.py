"""What torch.autograd.graph names: nodes and edges, and hooks on saved tensors and on gradients."""
from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gpugrad._hooks import RemovableHandle
from gpugrad._state import state
from gpugrad._tensor import Tensor, bump
from gpugrad.autograd.node import Node as Node
from gpugrad.autograd.node import edge_of, register_tensor_hook
from gpugrad.autograd.saved import disable_saved_tensors_hooks as disable_saved_tensors_hooks
from gpugrad.autograd.saved import saved_tensors_hooks as saved_tensors_hooks


class GradientEdge(NamedTuple):
    """A node and which of its outputs: where a gradient arrives."""

    node: Node
    output_nr: int


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The edge of a tensor that requires grad."""
    edge = edge_of(tensor)
    if edge is None:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does "
                           "not require gradients")
    return GradientEdge(*edge[:2])


def increment_version(tensor: Any) -> None:
    """Count a write to a tensor, or to each of several, that autograd has not seen."""
    for t in [tensor] if isinstance(tensor, Tensor) else tensor:
        bump(t)


class save_on_cpu(saved_tensors_hooks):
    """Inside the block, what operations keep for backward is kept in the CPU's memory.

    pin_memory: in pinned memory, so that the host does not wait for the copies.
    """

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        if device_type not in ("cuda", "cpu"):
            raise NotImplementedError(f"save_on_cpu(device_type={device_type!r}): there are the "
                                      "devices 'cuda' and 'cpu'")

        def pack(t: Tensor) -> Any:
            if not pin_memory or not t.is_cuda:
                return t.device, t.cpu()
            host: Any = t.new_empty(t.size(), device="cpu", pin_memory=True)
            host.copy_(t, non_blocking=True)
            return t.device, host

        def unpack(packed: Any) -> Tensor:
            device, t = packed
            out: Tensor = t.to(device, non_blocking=pin_memory)
            return out

        super().__init__(pack, unpack)


def register_multi_grad_hook(tensors: Sequence[Tensor], fn: Callable[..., Any], *,
                             mode: str = "all") -> RemovableHandle:
    """``fn`` once in each backward: with the gradients of all ``tensors`` as soon as they are
    there, None for those that get none (mode "all"), or with the first one (mode "any").
    """
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    hook = (_AllGradients if mode == "all" else _FirstGradient)(list(tensors), fn)
    return _Handles([register_tensor_hook(t, hook.of(i)) for i, t in enumerate(tensors)])


class _Handles(RemovableHandle):
    """One handle for several hooks."""

    def __init__(self, handles: list[RemovableHandle]) -> None:
        self.handles = handles

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


class _FirstGradient:
    """Calls ``fn`` with the first gradient of each backward."""

    def __init__(self, tensors: list[Tensor], fn: Callable[..., Any]) -> None:
        self.fn, self.turn, self.lock = fn, -1, threading.Lock()

    def of(self, i: int) -> Callable[[Tensor], None]:
        def hook(g: Tensor) -> None:
            with self.lock:
                first, self.turn = self.turn != state.sweep.turn, state.sweep.turn
            if first:
                self.fn(g)
        return hook


class _AllGradients:
    """Collects the gradients of one backward, and calls ``fn`` when the last has come."""

    def __init__(self, tensors: list[Tensor], fn: Callable[..., Any]) -> None:
        self.fn, self.turn, self.lock = fn, -1, threading.Lock()
        self.nodes = [get_gradient_edge(t).node for t in tensors]
        self.grads: list[Any] = []
        self.left = 0

    def of(self, i: int) -> Callable[[Tensor], None]:
        def hook(g: Tensor) -> None:
            with self.lock:
                if self.turn != state.sweep.turn:
                    coming = state.sweep.keys()
                    self.turn = state.sweep.turn
                    self.left = sum([node.key in coming for node in self.nodes])
                    self.grads = [None] * len(self.nodes)
                if self.grads[i] is None:
                    self.left -= 1
                self.grads[i] = g
                done = self.left == 0
            if done:
                grads, self.grads = self.grads, []
                self.fn(grads)
        return hook
