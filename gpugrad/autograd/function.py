"""autograd.Function: operations with a gradient written by the user. The node itself is ``ctx``."""
from __future__ import annotations

import functools
from typing import Any

from gpugrad._state import anomaly, state, switch
from gpugrad._tensor import Tensor, bump, wrap
from gpugrad.autograd import saved as saving
from gpugrad.autograd.grad_mode import enable_grad, no_grad
from gpugrad.autograd.inplace import check, rebase
from gpugrad.autograd.node import FREED, Node, edge_of, next_key, stale
from gpugrad.autograd.rules import fit_to, restore, tensors
from gpugrad.dtypes import INEXACT


class FunctionCtx(Node):
    """What forward and backward get as ``ctx``."""

    __slots__ = ("__dict__", "n_out")
    foreign = several = True
    function: Any = None                         # the user's class; set on the subclass made for it
    is_tensor: list[bool]                        # of the arguments
    in_meta: list[Any]                           # (shape, dtype) of the tensors among them
    out_meta: list[Any]                          # and of the outputs, None for what is no tensor

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors for ``ctx.saved_tensors`` in backward; inputs and outputs may be among them.
        """
        for i, t in enumerate(tensors):
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(f"save_for_backward can only save variables, but argument {i} is "
                                f"of type {type(t).__name__}: keep other things as attributes of "
                                "ctx")
        self.to_save = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        raise NotImplementedError("forward-mode differentiation is not supported")

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        self.no_gradient = outputs

    def mark_dirty(self, *inputs: Tensor) -> None:
        """Say which inputs forward changed in place; they must be returned."""
        self.dirty = inputs

    def set_materialize_grads(self, value: bool) -> None:
        """Give backward zeros (default) or None for outputs without a gradient."""
        self.materialize = value

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        if self.saved is None:
            raise RuntimeError(FREED)
        out: list[Any] = []
        for (cell, version, be), (a, edge, k) in zip(self.guard, self.saved):
            if a is None:
                out.append(None)
                continue
            edge = (self, k) if k is not None else edge
            if type(a) is saving.Packed:
                a = a.unpacked(be)
            if cell[0] != version:
                raise stale(a, be, edge, cell[0], version)
            out.append(restore(a, be, edge, cell))
        return tuple(out)

    def release(self) -> None:
        self.saved = None
        self.guard = ()

    def run(self, o: Any, g: Any, edges: Any) -> Any:
        gs = list(g) if self.n_out != 1 else [g]
        graph = o is tensors
        if not graph:
            gs = [v if v is None else wrap(v, self.be) for v in gs]
        if self.materialize:
            gs = [wrap(self.be.xp.zeros(*meta), self.be) if v is None and meta is not None else v
                  for v, meta in zip(gs, self.out_meta)]
        was = switch(graph, state.inference)
        try:
            out = self.function.backward(self, *gs)
        finally:
            switch(*was)
        return self.gradients(o, out, edges)

    def gradients(self, o: Any, out: Any, edges: Any) -> list[Any]:
        """What backward returned, checked, for the tensor inputs alone."""
        out = out if isinstance(out, tuple) else (out,)
        n = len(self.is_tensor)
        if len(out) < n or any([v is not None for v in out[n:]]):
            raise RuntimeError(f"function {self.name()} returned an incorrect number of gradients "
                               f"(expected {n}, got {len(out)})")
        for i, (v, is_tensor) in enumerate(zip(out, self.is_tensor), 1):
            if v is not None and not is_tensor:
                raise RuntimeError(f"function {self.name()} returned a gradient different than "
                                   f"None at position {i}, but the corresponding forward input was "
                                   "not a Variable")
            if v is not None and not isinstance(v, Tensor):
                raise RuntimeError(f"expected Variable or None (got {type(v).__name__}) as "
                                   f"gradient {i} of {self.name()}")
        grads: list[Any] = []
        given = [v for v, is_tensor in zip(out, self.is_tensor) if is_tensor]
        for i, (v, edge, meta) in enumerate(zip(given, edges, self.in_meta)):
            if v is None or edge is None:
                grads.append(None)
                continue
            if v._a.shape != meta[0] and not _reduces_to(v._a.shape, meta[0]):
                raise RuntimeError(f"Function {self.name()} returned an invalid gradient at index "
                                   f"{i} - got {list(v._a.shape)} but expected shape compatible "
                                   f"with {list(meta[0])}")
            grads.append(fit_to(o, v if o is tensors else v._a, meta))
        return grads


def _reduces_to(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Can a gradient of shape ``given`` be summed to ``wanted``?"""
    tail = given[len(given) - len(wanted):]
    return len(given) >= len(wanted) and all(w in (1, s) for s, w in zip(tail, wanted))


class _FunctionMeta(type):
    """Gives every Function its node class, named <Name>Backward as in PyTorch."""

    node: type[FunctionCtx]

    def __init__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> None:
        super().__init__(name, bases, body)
        if "vjp" in body:                        # another name of backward
            cls.backward = body["vjp"]
        cls.node = type(name + "Backward", (FunctionCtx,),
                        {"__slots__": (), "__module__": cls.__module__, "function": cls})


class Function(metaclass=_FunctionMeta):
    """Base of operations with a gradient of their own.

    Write static methods ``forward(ctx, *args)`` and ``backward(ctx, *grad_outputs)``, or
    ``forward(*args)``, ``setup_context(ctx, inputs, output)`` and ``backward``; call with
    ``apply``:

        class Exp(Function):
            @staticmethod
            def forward(ctx, x):
                y = x.exp()
                ctx.save_for_backward(y)
                return y

            @staticmethod
            def backward(ctx, grad):
                (y,) = ctx.saved_tensors
                return grad * y

        y = Exp.apply(x)
    """

    setup_context: Any = None

    def __init__(self, *args: Any, **kw: Any) -> None:
        raise RuntimeError(f"{type(self).__name__} should not be instantiated. Methods on autograd "
                           "functions are all static, so you should invoke them on the class "
                           f"itself: {type(self).__name__}.apply(...).")

    @staticmethod
    def forward(*args: Any, **kw: Any) -> Any:
        raise NotImplementedError("You must implement the forward function for custom "
                                  "autograd.Function.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise NotImplementedError("You must implement either the backward or vjp method for your "
                                  "custom autograd.Function to use it with backward mode AD.")

    @classmethod
    def apply(cls, *args: Any, **kw: Any) -> Any:
        """Run forward, and record it as one step of the graph."""
        if kw or (cls.setup_context is not None and getattr(cls.forward, "__defaults__", None)):
            args = _positional(cls, args, kw)
        ins = [a for a in args if isinstance(a, Tensor)]
        record = state.recording and any([t._edge is not None for t in ins])
        ctx: Any = cls.node()
        ctx.edges = tuple(edge_of(t) if record else None for t in ins)
        # after its leaves' accumulators
        ctx.fit, ctx.hooks, ctx.key = None, None, next_key()
        if record and anomaly[0] is not None:
            anomaly[0].made(ctx)
        ctx.to_save = ctx.no_gradient = ctx.dirty = ()
        ctx.materialize, ctx.is_tensor = True, [isinstance(a, Tensor) for a in args]
        ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a._edge is not None for a in args)
        with no_grad():
            if cls.setup_context is not None:
                result = cls.forward(*args)
                cls.setup_context(ctx, args, result)
            else:
                result = cls.forward(ctx, *args)
            # What forward gives back as it came is another tensor, a view of what it was.
            outs = [tensors.alias(t) if _is_one_of(t, ins) and not _is_one_of(t, ctx.dirty) else t
                    for t in (result if isinstance(result, tuple) else (result,))]
        ctx.be = next((t._be for t in [*outs, *ins] if isinstance(t, Tensor)), None)
        _check_dirty(ctx, outs, record)
        if record:
            _record(ctx, ins, outs)
        ctx.to_save = ctx.no_gradient = ctx.dirty = ()
        return tuple(outs) if isinstance(result, tuple) else outs[0]


def _positional(cls: Any, args: tuple[Any, ...], kw: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments in the order of forward's parameters, with defaults."""
    import inspect

    first = () if cls.setup_context is not None else (None,)          # ctx
    bound = inspect.signature(cls.forward).bind(*first, *args, **kw)
    bound.apply_defaults()
    if bound.kwargs:
        raise TypeError(f"{cls.__name__}.apply(): forward must not have keyword-only parameters")
    return bound.args[len(first):]


def _is_one_of(t: Any, some: Any) -> bool:
    return any([t is s for s in some])


def _check_dirty(ctx: Any, outs: list[Any], record: bool) -> None:
    """The inputs that forward changed: may they be, and are they given back?"""
    for t in ctx.dirty:
        if not _is_one_of(t, outs):
            raise RuntimeError("Some elements marked as dirty during the forward method were not "
                               "returned as output. The inputs that are modified inplace must all "
                               "be outputs of the Function.")
        bump(t)
        if record:
            check(t)
            if t._view is not None and len(outs) > 1:
                raise RuntimeError("If your Function modifies inplace an input that is a view of "
                                   "another Tensor, your Function cannot return more than one "
                                   "Tensor. Make sure that the input is not a view (by .clone(), "
                                   "for example), or split the Function in two.")


def _record(ctx: Any, ins: list[Tensor], outs: list[Any]) -> None:
    """Link the outputs to the node, and keep what forward asked to save: arrays, never our own
    outputs, which would be a cycle."""
    role = {id(t): k for k, t in enumerate(outs)}
    saved: list[Any] = []
    for t in ctx.to_save:
        if t is None:
            saved.append((None, None, None))
            continue
        k = role.get(id(t)) if not _is_one_of(t, ins) or _is_one_of(t, ctx.dirty) else None
        a = t._a if state.saving is None else \
            saving.pack(t._a, t._be, t if k is None else t.detach())
        saved.append((a, None if k is not None else edge_of(t), k))
    ctx.saved = tuple(saved)
    ctx.guard = tuple(((0,), 0, t if t is None else t._be)
                      if t is None or type(a) is saving.Packed else
                      (t._ver, t._ver[0], t._be) for t, (a, *_) in zip(ctx.to_save, saved))
    ctx.n_out = len(outs)
    ctx.in_meta = [(t._a.shape, t._a.dtype) for t in ins]
    ctx.out_meta = [(t._a.shape, t._a.dtype) if isinstance(t, Tensor) else None for t in outs]
    for k, t in enumerate(outs):
        if not isinstance(t, Tensor):
            continue
        at = next((i for i, x in enumerate(ins) if x is t), None)
        if at is not None:                                            # changed in place
            rebase(t, ctx, k, at)
            continue
        # another tensor's, by a closure
        if t._edge is not None:
            t = outs[k] = wrap(t._a, t._be, None, t._ver)
        if t._view is not None:
            t._view = (*t._view[:2], "function")
        if t._a.dtype.kind in INEXACT and not _is_one_of(t, ctx.no_gradient):
            t._edge = (ctx, k)


class _NotTwice(Function):
    """Passes gradients on; going back through it says that they can't be differentiated."""

    @staticmethod
    def forward(ctx: Any, *gradients: Tensor) -> Any:
        return tuple(wrap(g._a, g._be) for g in gradients)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError("trying to differentiate twice a function that was marked with "
                           "@once_differentiable")


def once_differentiable(fn: Any) -> Any:
    """Mark a Function's backward that can't itself be differentiated; doing so raises."""
    @functools.wraps(fn)
    def wrapped(ctx: Any, *gradients: Any) -> Any:
        with no_grad():
            out = fn(ctx, *gradients)
        if not any([g is not None and g.requires_grad for g in gradients]):
            return out
        many = out if isinstance(out, tuple) else (out,)
        live = [g.detach().requires_grad_() for g in many if g is not None]
        with enable_grad():
            marked = iter(_NotTwice.apply(*live))
        many = tuple(g if g is None else next(marked) for g in many)
        return many if isinstance(out, tuple) else many[0]
    return wrapped
