"""Nodes of the backward graph, their hooks, and the texts of two famous errors."""
from __future__ import annotations

import itertools
import threading
import weakref
from sys import getrefcount
from typing import Any

from gpugrad import dtypes
from gpugrad._hooks import HookTable, RemovableHandle
from gpugrad._state import anomaly
from gpugrad._tensor import LEAF, Tensor, bump, check_memory, wrap

# Creation numbers run downward so that the engine's heap, smallest first, takes the youngest node
# first.
next_key = itertools.count(0, -1).__next__

FREED = ("Trying to backward through the graph a second time (or directly access saved tensors "
         "after they have already been freed). Saved intermediate values of the graph are freed "
         "when you call .backward() or autograd.grad(). Specify retain_graph=True if you need to "
         "backward through the graph a second time or if you need to access saved tensors after "
         "calling backward.")


def stale(array: Any, be: Any, edge: Any, now: int, then: int) -> RuntimeError:
    """The error for a saved value that was changed in place."""
    of = ""
    if edge is not None and type(edge[0]) is not AccumulateGrad:
        of = f", which is output {edge[1]} of {forward_name(edge[0].name())},"
    hint = ("enable anomaly detection to find the operation that failed to compute its gradient, "
            "with torch.autograd.set_detect_anomaly(True, check_nan=False).")
    if anomaly[0] is not None:
        hint = ("the backtrace further above shows the operation that failed to compute its "
                "gradient. The variable in question was changed in there or anywhere later. Good "
                "luck!")
    return RuntimeError(
        "one of the variables needed for gradient computation has been modified by an inplace "
        f"operation: [{be.prefix}{dtypes.type_name(array.dtype)}Tensor {list(array.shape)}]{of} is "
        f"at version {now}; expected version {then} instead. Hint: {hint}")


def forward_name(name: str) -> str:
    """What the step of a node is called: MulBackward0 is Mul's."""
    return name.partition("Backward")[0] or name


class Node:
    """One step of the backward graph.

    edges: for each differentiable input None, (node, output index) or a leaf_edge. saved: values in
    the order of the op's plan, None once freed. guard: version cell and version of each saved array
    in turn, and at the end the places of these arrays in the plan. fit: None, or for each edge None
    or the (shape, dtype) to bring the gradient to. be: the backend of the gradients that arrive
    here. key: the creation number, negative. result: while CopySlices runs a node, the node that
    stands for its results.
    """

    __slots__ = ("__weakref__", "be", "edges", "fit", "guard", "hooks", "key", "metadata_",
                 "result", "saved")
    n_out = 1
    several = False         # may n_out be more than 1?
    foreign = False         # does run() give arrays that somebody else may hold?
    holomorphic = False     # must complex gradients be conjugated around run()? See conjugate.py
    be: Any
    edges: tuple[Any, ...]
    fit: Any
    guard: Any
    hooks: Hooks | None
    key: int
    saved: Any

    def name(self) -> str:
        return type(self).__name__

    @property
    def next_functions(self) -> tuple[Any, ...]:
        return tuple((None, 0) if e is None else e[:2] for e in self.edges)

    @property
    def metadata(self) -> dict[str, Any]:
        if not hasattr(self, "metadata_"):
            self.metadata_: dict[str, Any] = {}
        return self.metadata_

    def run(self, o: Any, g: Any, edges: Any) -> Any:
        """The gradients of the inputs. ``o`` is the level: raw arrays, or Tensors."""
        raise NotImplementedError

    def release(self) -> None:
        # as in PyTorch, a node that saved nothing can run again
        if self.guard:
            self.saved = self.guard = None

    def register_hook(self, fn: Any) -> RemovableHandle:
        """fn(grad_inputs, grad_outputs) after the node ran; a tuple it returns replaces
        grad_inputs.
        """
        return hooks_of(self).post.register(fn)

    def register_prehook(self, fn: Any) -> RemovableHandle:
        """fn(grad_outputs) before the node runs; a tuple it returns replaces them."""
        return hooks_of(self).pre.register(fn)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object at {hex(id(self))}>"


_adding = threading.Lock()


class AccumulateGrad(Node):
    """Where the gradient of a leaf arrives."""

    __slots__ = ("leaf",)
    leaf: Any
    edges = ()
    fit = None
    saved: Any = ()
    guard: Any = ()

    @property
    def variable(self) -> Any:
        """The leaf; None if it is gone, which it can't be while a graph leads here."""
        return self.leaf()

    def name(self) -> str:
        return "torch::autograd::AccumulateGrad"

    def add(self, g: Any, owned: bool, graph: bool) -> None:
        """g is an array, or a Tensor when ``graph``; owned: nobody else holds the array."""
        x = self.leaf()
        with _adding:                           # other threads may have graphs with the same leaf
            have = getattr(x, "_grad", None)
            if graph:
                x._grad = g.clone() if have is None else have + g
            elif have is None:
                x._grad = wrap(g if owned and self.fits(g, x._a) else self.copied(g), self.be)
            else:
                check_memory(have)
                bump(have)
                sum_of = have._a
                self.be.xp.add(sum_of, g, sum_of)

    def fits(self, g: Any, a: Any) -> bool:
        """Does g lie in memory as the leaf's array a does?"""
        be = self.be
        return type(g) is be.ndarray and (g.strides == a.strides
                                          or (be.is_contiguous(g) and be.is_contiguous(a)))

    def copied(self, g: Any) -> Any:
        out = self.be.xp.empty_like(self.variable._a)
        out[...] = g
        return out


class Hooks:
    """What a node calls around its run; made with the first hook."""

    __slots__ = ("post", "pre", "retain", "tensor")

    def __init__(self) -> None:
        self.tensor: dict[int, HookTable] = {}           # by output index
        # output index: weak reference to the tensor
        self.retain: dict[int, Any] = {}
        self.pre, self.post = HookTable(), HookTable()


def hooks_of(node: Node) -> Hooks:
    if node.hooks is None:
        node.hooks = Hooks()
    return node.hooks


def references_of_unused() -> int:
    """What getrefcount says in leaf_edge of an accumulator that no graph leads to."""
    class Leaf:
        __slots__ = ("_acc",)
        _acc: Any

    x = Leaf()
    x._acc = object()
    acc = x._acc
    return getrefcount(acc)


UNUSED = references_of_unused()
turn = [0]              # counts backward passes


def leaf_edge(x: Any) -> tuple[Any, int, Any]:
    """The edge to a leaf's accumulator.

    The leaf holds the accumulator, which holds the leaf weakly, so there is no cycle; the edge
    holds both. The first use after a backward pass gives an accumulator that no graph leads to the
    next number, as if it were made just before its first user: then it runs right after the last of
    its users. Until the next pass (x._acc, 0, x) is the edge.
    """
    acc, x._turn = x._acc, turn[0]
    if acc is None:
        acc = x._acc = AccumulateGrad()
        acc.leaf = weakref.ref(x)
        acc.be = x._be
        acc.hooks = None
        acc.key = next_key()
        if anomaly[0] is not None:
            anomaly[0].made(acc)
    elif getrefcount(acc) == UNUSED:
        acc.hooks = None
        acc.key = next_key()
        if anomaly[0] is not None:
            anomaly[0].made(acc)
    return (acc, 0, x)


def edge_of(x: Any) -> Any:
    """Where x's gradient goes, None if nowhere; x may also be None or a number."""
    if not isinstance(x, Tensor):
        return None
    e = x._edge
    return leaf_edge(x) if e is LEAF else e


def register_tensor_hook(x: Tensor, hook: Any) -> RemovableHandle:
    """Tensor.register_hook: hook(grad) whenever x's gradient is computed; it may return a new one.
    """
    if x._edge is None:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if x._edge is not LEAF:
        return hooks_of(x._edge[0]).tensor.setdefault(x._edge[1], HookTable()).register(hook)
    if x._hooks is None:
        x._hooks = HookTable()
    return x._hooks.register(hook)


def register_post_accumulate_grad_hook(x: Tensor, hook: Any) -> RemovableHandle:
    """hook(x) each time after x.grad has been added to; x must be a leaf."""
    if x._edge is None:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if x._edge is not LEAF:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    if x._post is None:
        x._post = HookTable()
    return x._post.register(hook)


def retain_grad(x: Tensor) -> None:
    """Keep the gradient of a tensor that is no leaf in its .grad."""
    if x._edge is None:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    if x._edge is not LEAF:
        hooks_of(x._edge[0]).retain[x._edge[1]] = weakref.ref(x)


def retains_grad(x: Tensor) -> bool:
    """Is retain_grad() on, for a tensor that is no leaf?"""
    hooks = None if x.is_leaf else x._edge[0].hooks
    kept = None if hooks is None else hooks.retain.get(x._edge[1])
    return kept is not None and kept() is x
