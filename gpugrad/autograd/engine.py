"""backward() and grad(): the youngest node first, on arrays, or on Tensors under create_graph."""
from __future__ import annotations

import warnings
from heapq import heappop, heappush
from typing import Any

from gpugrad._state import anomaly, complex_gradients, in_backward, listening, state, switch
from gpugrad._tensor import LEAF, Tensor, wrap
from gpugrad.autograd import conjugate
from gpugrad.autograd.graph import GradientEdge
from gpugrad.autograd.node import AccumulateGrad, Node, edge_of, leaf_edge, retain_grad, turn
from gpugrad.autograd.rules import g_dtype, tensors
from gpugrad.dtypes import FLOATING


def run(roots: Any, graph: bool, keep: bool, execute: Any, captures: Any) -> None:
    """The sweep. roots: (edge, gradient) pairs. execute: the keys of the nodes to run, None for
    all. captures: {key: {output index: gradient or None}}, filled in. Gradients are arrays, or
    Tensors if ``graph``.

    A slot of ``pending`` is [node, gradient or list of them, owned]: an owned gradient is memory
    that only the engine holds, so that the next one can be added in place.
    """
    turn[0] += 1
    heap: list[int] = []
    pending: dict[int, list[Any]] = {}
    # where sums are listened to, deliver() adds all of them
    get: Any = pending.get if listening[0] is None else lambda key: (None, None, False)
    pop: Any = pending.pop
    around: Any = conjugate.run if complex_gradients[0] else None   # instead of a node's own run
    watch = anomaly[0]
    if watch is not None:
        pop, around = watch.popping(pop), watch.run
    for edge, g in roots:
        deliver(edge, g, False, graph, heap, pending)
    while heap:
        node, g, owned = pop(heappop(heap))
        edges = node.edges
        if execute is not None:
            asked = captures.get(node.key)
            # as in PyTorch: what also runs is noted before its hooks
            if asked is not None:
                g = g if node.key in execute else tensor_hooks(node, g, graph)
                owned = False
                for i in asked:
                    asked[i] = g if node.n_out == 1 else g[i]
            if node.key not in execute:
                continue
            # Rules that lead nowhere asked for do not run.
            edges = [e if e and (e[0].key in execute or e[1] in captures.get(e[0].key, ()))
                     else None for e in edges]
        if not edges:
            accumulate(node, g, owned, graph)
            continue
        if node.hooks is not None:
            g, owned = pre_hooks(node, tensor_hooks(node, g, graph), graph), False
        if around is None:
            out = node.run(tensors if graph else node.be.raw, g, edges)
        else:
            out = around(node, tensors if graph else node.be.raw, g, edges)
        if not keep:
            node.release()
        posted = node.hooks is not None and node.hooks.post
        if graph or posted or node.foreign:
            if posted:
                out = post_hooks(node, out, g, graph)
                if watch is not None:
                    watch.check(node, out, edges)
            for e, r in zip(edges, out):
                if e is not None and r is not None:
                    deliver(e, r, False, graph, heap, pending)
            out = r = None
            continue
        for e, r in zip(edges, out):
            if e is None or r is None:
                continue
            if r is g:
                new = owned and len(edges) == 1
            elif r.base is None:
                new = True
            else:
                new = is_new(r, g, owned and len(edges) == 1, node.be)
            target = e[0]
            if target.several:
                deliver(e, r, new, graph, heap, pending)
                continue
            key = target.key
            slot = get(key)
            if slot is None:
                pending[key] = [target, r, new]
                heappush(heap, key)
            elif slot[2]:
                slot[1] += r
            else:
                deliver(e, r, new, graph, heap, pending)
        out = r = None


def is_new(r: Any, g: Any, alone: bool, be: Any) -> bool:
    """Does nobody but the engine hold the memory of r, a view that a rule returned for g?

    A rule returns new memory, or a view of new memory, or a view of g; the last is the engine's if
    g was, and went one way only.
    """
    base = r.base
    if type(base) is not be.ndarray or type(g) is list or not be.is_dense(r):
        return False
    return alone or (base is not g and base is not g.base)


def deliver(edge: Any, g: Any, owned: bool, graph: bool, heap: list[int], pending: Any) -> None:
    """Add one gradient to what waits for the node at the end of an edge."""
    node = edge[0]
    slot = pending.get(node.key)
    if slot is None:
        heappush(heap, node.key)
        if node.n_out == 1:
            pending[node.key] = [node, g, owned]
            return
        slot = pending[node.key] = [node, [None] * node.n_out, False]
    if node.n_out > 1:
        had = slot[1][edge[1]]
        slot[1][edge[1]] = g if had is None else had + g
    elif slot[2] and not graph:
        slot[1] += g                            # 0-dim results of NumPy are scalars: a new one
    else:
        # CuPy's operators don't keep the order of elements in memory, a backend's do.
        slot[1] = slot[1] + g if graph or not node.be.index else node.be.xp.add(slot[1], g)
        slot[2] = not graph


def accumulate(node: AccumulateGrad, g: Any, owned: bool, graph: bool) -> None:
    """A leaf's turn."""
    x = node.leaf()
    if node.hooks is None and not x._hooks and not x._post:
        if g is not None and x._edge is not None:
            node.add(g, owned, graph)
        return
    g = pre_hooks(node, tensor_hooks(node, g, graph), graph)
    if g is None or x._edge is None:            # its requires_grad was switched off meanwhile
        return
    node.add(g, False, graph)
    if x._post:
        for hook in list(x._post.values()):
            if in_backward(hook, x) is not None:
                raise RuntimeError("Tensor post accumulate grad hooks should return None.")
    if node.hooks is not None:
        post_hooks(node, (), g, graph)


# Hooks -------------------------------------------------------------------------------------------

def as_tensors(node: Any, g: Any, graph: bool) -> list[Any]:
    """The gradients of a node's outputs, for hooks."""
    gs = [g] if node.n_out == 1 else g
    return [v if v is None or graph else wrap(v, node.be) for v in gs]


def as_values(node: Any, gs: Any, graph: bool) -> Any:
    """The way back."""
    gs = [v if v is None or graph else v._a for v in gs]
    return gs[0] if node.n_out == 1 else gs


def tensor_hooks(node: Any, g: Any, graph: bool) -> Any:
    """The hooks of the tensors that the node made, or of its leaf; then their retained gradients.
    """
    tables: dict[int, Any] = {}
    retain: dict[int, Any] = {}
    if type(node) is AccumulateGrad:
        tables = {0: node.variable._hooks or {}}
    elif node.hooks is not None:
        tables, retain = node.hooks.tensor, node.hooks.retain
    gs = as_tensors(node, g, graph)
    for i, table in list(tables.items()):
        for hook in list(table.values()):
            new = None if gs[i] is None else in_backward(hook, gs[i])
            gs[i] = gs[i] if new is None else checked(new, gs[i], hook)
    for i, ref in list(retain.items()):
        kept = ref()
        if kept is not None and gs[i] is not None:
            kept._grad = in_backward(retained, getattr(kept, "_grad", None), gs[i])
    return as_values(node, gs, graph)


def retained(have: Tensor | None, g: Tensor) -> Tensor:
    return g.clone() if have is None else have + g


def pre_hooks(node: Any, g: Any, graph: bool) -> Any:
    """The node's hooks on the gradients that it is about to run with."""
    gs = tuple(as_tensors(node, g, graph))
    for hook in list(node.hooks.pre.values()) if node.hooks is not None else ():
        gs = replaced(in_backward(hook, gs), gs, hook)
    return as_values(node, gs, graph)


def post_hooks(node: Any, out: Any, g: Any, graph: bool) -> Any:
    """The node's hooks on what it gave for its inputs."""
    ins = tuple([v if v is None or graph else wrap(v, e[0].be if e else node.be)
                 for e, v in zip(node.edges, out)])
    outs = tuple(as_tensors(node, g, graph))
    for hook in list(node.hooks.post.values()):
        ins = replaced(in_backward(hook, ins, outs), ins, hook)
    return [v if v is None or graph else v._a for v in ins]


def replaced(new: Any, old: tuple[Any, ...], hook: Any) -> tuple[Any, ...]:
    """The gradients after a node's hook that got ``old`` and returned ``new``."""
    if new is None:
        return old
    if not isinstance(new, tuple):
        raise TypeError(f"expected tuple, but hook returned '{type(new).__name__}'")
    if len(new) != len(old):
        raise RuntimeError(f"hook '{name_of(hook)}' has returned an incorrect number of values "
                           f"(got {len(new)}, but expected {len(old)})")
    return tuple([n if n is None else checked(n, o, hook) for n, o in zip(new, old)])


def checked(new: Any, old: Tensor | None, hook: Any) -> Tensor:
    """A gradient from a hook, to go in the place of ``old``."""
    if not isinstance(new, Tensor):
        raise TypeError(f"expected Variable, but hook returned '{type(new).__name__}'")
    if old is None:
        raise RuntimeError("can't replace a None gradient with a non-None value")
    if new._a.dtype != old._a.dtype or new._be is not old._be:
        raise RuntimeError(f"hook '{name_of(hook)}' has changed the type of value (was "
                           f"{old.type()} got {new.type()})")
    if new._a.shape != old._a.shape:
        raise RuntimeError(f"hook '{name_of(hook)}' has changed the size of value: from "
                           f"{list(old._a.shape)} to {list(new._a.shape)}")
    return new


def name_of(hook: Any) -> str:
    return getattr(hook, "__name__", type(hook).__name__)


# The public functions ----------------------------------------------------------------------------

def reaching(roots: Any, wanted: Any) -> set[int]:
    """The keys of the nodes from which a wanted key can be reached: edges lead from young to old.
    """
    seen: dict[int, Any] = {}
    stack = [e[0] for e, _ in roots]
    while stack:
        node = stack.pop()
        if node.key not in seen:
            seen[node.key] = node
            stack += [e[0] for e in node.edges if e is not None]
    found: set[int] = set()
    for key in sorted(seen, reverse=True):
        if any([e is not None and (e[0].key in found or e[0].key in wanted)
                for e in seen[key].edges]):
            found.add(key)
    return found


def start(outputs: Any, gradients: Any, graph: bool) -> list[Any]:
    """The (edge, gradient) pairs to begin with, checked."""
    roots = [root(t, g, graph, i) for i, (t, g) in enumerate(zip(outputs, gradients))]
    if len(gradients) != len(outputs):
        raise RuntimeError(f"got {len(outputs)} tensors and {len(gradients)} gradients")
    return roots


def root(t: Any, g: Any, graph: bool, i: int = 0) -> Any:
    """The (edge, gradient) pair of the output number i and of what was given for it."""
    if g is None:
        return root_of_scalar(t, graph, i)
    if not isinstance(g, Tensor):
        raise TypeError("gradients can be either Tensors or None, but got " + type(g).__name__)
    if isinstance(t, GradientEdge):
        return tuple(t), g if graph else g._a
    edge = edge_to_start_from(t, i)
    if g._a.shape != t._a.shape:
        raise RuntimeError(f"Mismatch in shape: grad_output[{i}] has a shape of {g.shape} and "
                           f"output[{i}] has a shape of {t.shape}.")
    if g._be is not t._be:
        raise RuntimeError(f"grad_output[{i}] is on {g.device} and output[{i}] on {t.device}: "
                           "they must be on the same device")
    if g_dtype(g) != g_dtype(t):
        if "c" in (g_dtype(g).kind, g_dtype(t).kind):
            raise RuntimeError("For complex Tensors, both grad_output and output are required to "
                               f"have the same dtype. Mismatch in dtype: grad_output[{i}] has a "
                               f"dtype of {g.dtype} and output[{i}] has a dtype of {t.dtype}.")
        g = g.to(t.dtype)
    return edge, g if graph else g._a


def root_of_scalar(t: Any, graph: bool, i: int) -> Any:
    """The pair of an output without a gradient: 1."""
    if isinstance(t, GradientEdge):
        raise NotImplementedError("a GradientEdge to start from has no shape: pass its gradient, "
                                  "too")
    edge, a, be = edge_to_start_from(t, i), t._a, t._be
    if a.size != 1:
        raise RuntimeError("grad can be implicitly created only for scalar outputs, not for one "
                           f"of shape {list(a.shape)}: reduce it, as in x.sum().backward(), or "
                           "pass a gradient of that shape")
    if a.dtype.kind not in FLOATING:
        raise RuntimeError("grad can be implicitly created only for real scalar outputs but got "
                           f"{t.dtype}")
    one = one_like(a, be)
    return edge, wrap(one, be) if graph else one


def edge_to_start_from(t: Any, i: int) -> Any:
    """Where the gradient of output number i goes."""
    if not isinstance(t, Tensor):
        raise TypeError("expected Tensors or GradientEdges to start from, but got "
                        f"{type(t).__name__}")
    if t._edge is None:
        raise RuntimeError(f"element {i} of tensors does not require grad and does not have a "
                           "grad_fn")
    return leaf_edge(t) if t._edge is LEAF else t._edge


def one_like(a: Any, be: Any) -> Any:
    """New memory of one element, which is 1, in the shape of a."""
    if a.ndim:
        return be.xp.ones(a.shape, a.dtype)
    return be.copy(be.number[1, a.dtype])       # a third of the time of ones


class Sweep:
    """The backward that a thread is in the middle of, for hooks that ask about it.

    graph: is it itself recorded? only: the keys of the nodes that run if certain inputs were asked
    for, else None. node: the one that is running, which only anomaly detection notes.
    """

    __slots__ = ("captures", "graph", "node", "only", "roots", "turn")

    def __init__(self, roots: Any, graph: bool, only: Any, captures: Any) -> None:
        self.roots, self.graph, self.only, self.captures = roots, graph, only, captures
        self.turn = turn[0] + 1
        self.node: Any = None

    def keys(self) -> set[int]:
        """The keys of all the nodes that a gradient comes to."""
        if self.only is not None:
            return {*self.only, *self.captures}
        seen: set[int] = set()
        stack = [e[0] for e, _ in self.roots]
        while stack:
            node = stack.pop()
            if node.key not in seen:
                seen.add(node.key)
                stack += [e[0] for e in node.edges if e is not None]
        return seen


def execute(roots: Any, graph: bool, keep: bool, only: Any = None, captures: Any = None) -> None:
    own = state.__dict__                        # this thread's
    outer = own.get("sweep")
    own["sweep"] = Sweep(roots, graph, only, captures)
    # Rules on arrays record nothing. What a user wrote runs by in_backward().
    was = switch(True, own["inference"]) if graph else None
    try:
        run(roots, graph, keep, only, captures)
    except Exception:
        if anomaly[0] is not None:
            anomaly[0].failed()
        raise
    finally:
        own["sweep"] = outer
        if was is not None:
            switch(*was)


def _listed(x: Any) -> list[Any]:
    return list(x) if type(x) is not Tensor and isinstance(x, tuple | list) and \
        not isinstance(x, GradientEdge) else [x]


def _places(inputs: list[Any], function: str) -> list[tuple[Node, int]]:
    """The edges that lead to inputs, which are Tensors or GradientEdges."""
    if not inputs:
        raise RuntimeError(f"`inputs` argument to `{function}()` cannot be empty.")
    for x in inputs:
        if not isinstance(x, Tensor | GradientEdge):
            raise RuntimeError("all inputs have to be Tensors or GradientEdges, but got "
                               f"{type(x).__name__}")
        if isinstance(x, Tensor) and x._edge is None:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    return [(x.node, x.output_nr) if isinstance(x, GradientEdge) else edge_of(x)[:2]
            for x in inputs]


def backward(tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None,
             create_graph: bool = False, grad_variables: Any = None, inputs: Any = None) -> None:
    """Add the gradients of ``tensors`` to the ``.grad`` of the leaves they were computed from.

    grad_tensors: a gradient for each of them; None will do for a scalar. retain_graph: keep what
    was saved, for another backward (default: create_graph). create_graph: make the gradients
    themselves differentiable. inputs: accumulate into these alone; those that are no leaves retain
    their gradient.
    """
    given = grad_tensors if grad_tensors is not None else grad_variables
    keep = create_graph if retain_graph is None else retain_graph
    if create_graph:
        warnings.warn("Using backward() with create_graph=True will create a reference cycle "
                      "between the parameter and its gradient: use autograd.grad() instead, or "
                      "set .grad to None "
                      "afterwards, or the memory of the graph is not freed", stacklevel=3)
    if given is None and type(tensors) is Tensor:
        roots = [root_of_scalar(tensors, create_graph, 0)]
    else:
        outputs = _listed(tensors)
        roots = start(outputs, [None] * len(outputs) if given is None else _listed(given),
                      create_graph)
    if inputs is None:
        execute(roots, create_graph, keep)
        return
    wanted = _listed(inputs)
    for x in wanted:
        if isinstance(x, Tensor):
            retain_grad(x)
    places = _places(wanted, "backward")
    keys = {node.key for node, _ in places}
    execute(roots, create_graph, keep, reaching(roots, keys) | keys, {})


def grads_of_batch(outputs: Any, inputs: Any, batch: list[Any], *, retain_graph: bool | None,
                   create_graph: bool, **kw: Any) -> tuple[Tensor | None, ...]:
    """grad() for each index of the first dim of the gradients to start from, stacked."""
    sizes: set[Any] = {g._a.shape[0] if g is not None and g._a.ndim else None for g in batch}
    if len(sizes) != 1 or None in sizes or 0 in sizes:
        raise RuntimeError("grad(is_grads_batched=True): grad_outputs must be tensors with one "
                           "and the same size, not 0, of their first dim")
    n: int = sizes.pop()
    keep = create_graph if retain_graph is None else retain_graph
    found = [grad(outputs, inputs, [tensors.select(g, dim=0, index=i) for g in batch],
                  retain_graph=keep or i < n - 1, create_graph=create_graph, **kw)
             for i in range(n)]
    return tuple([None if column[0] is None else tensors.stack(*column) for column in zip(*found)])


def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None,
         create_graph: bool = False, only_inputs: bool = True, allow_unused: bool | None = None,
         is_grads_batched: bool = False,
         materialize_grads: bool = False) -> tuple[Tensor | None, ...]:
    """The gradients of ``outputs`` with respect to ``inputs``, as a tuple; no ``.grad`` is touched.

    allow_unused: give None for an input that was not used, instead of raising. materialize_grads:
    give zeros there. is_grads_batched: the gradients to start from have one more dim, in front, and
    so have the results; it is a loop.
    """
    if is_grads_batched:
        return grads_of_batch(outputs, inputs, _listed(grad_outputs), retain_graph=retain_graph,
                              create_graph=create_graph, allow_unused=allow_unused,
                              materialize_grads=materialize_grads)
    outs, ins = _listed(outputs), _listed(inputs)
    gradients = [None] * len(outs) if grad_outputs is None else _listed(grad_outputs)
    keep = create_graph if retain_graph is None else retain_graph
    if materialize_grads and allow_unused is False:
        raise ValueError("Expected allow_unused to be True or not passed when "
                         "materialize_grads=True, but got: allow_unused=False.")
    roots = start(outs, gradients, create_graph)
    places = _places(ins, "grad")
    captures: dict[int, dict[int, Any]] = {}
    for node, k in places:
        captures.setdefault(node.key, {})[k] = None
    execute(roots, create_graph, keep, reaching(roots, captures), captures)
    found = []
    for i, (x, (node, k)) in enumerate(zip(ins, places)):
        g = captures[node.key][k]
        if g is not None and not create_graph:
            g = wrap(g, node.be)
        elif g is None and materialize_grads:
            if isinstance(x, GradientEdge):
                raise RuntimeError("materialize_grads cannot be used when the given input is a "
                                   "GradientEdge")
            g = wrap(x._be.xp.zeros(x._a.shape, x._a.dtype), x._be).requires_grad_(create_graph)
        elif g is None and not allow_unused:
            raise RuntimeError(f"The differentiated Tensor at index {i} appears to not have been "
                               "used in the graph. Set allow_unused=True if this is the desired "
                               "behavior.")
        found.append(g)
    return tuple(found)
