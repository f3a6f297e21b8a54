"""All that in-place operations need to know about history: leaves, views, rebasing."""
from __future__ import annotations

from typing import Any

from gpugrad import dtypes
from gpugrad._state import anomaly, listening, off, state
from gpugrad._tensor import LEAF, Tensor, bump, check_memory
from gpugrad.autograd import conjugate
from gpugrad.autograd.entry import (
    NUMBERS,
    as_operand,
    broadcast_error,
    different_devices,
    refusal,
)
from gpugrad.autograd.node import Node, edge_of, forward_name, hooks_of, next_key
from gpugrad.autograd.rules import Spec, tensors
from gpugrad.autograd.transfer import to_backend

# What is wrong with writing a view that came about in an unusual way: how it is called, and why.
_MODE = ("Given that this use case is ambiguous and error-prone, it is forbidden. You can clarify "
         "your code by moving both the view and the inplace either both inside the {mode} block "
         "(if you don't want the inplace to be tracked) or both outside (if you want the inplace "
         "to be tracked).")
_FORBIDDEN = {
    "no_grad": ("A view was created in no_grad mode and {what} modified inplace with grad mode "
                "enabled. "
                + _MODE.format(mode="no_grad")),
    "inference": ("A view was created in inference mode and {what} modified inplace in normal "
                  "mode. "
                  + _MODE.format(mode="inference_mode")),
    "several": ("Output {index} of {name} is a view and {what} modified inplace. This view is the "
                "output of a function that returns multiple views. Such functions do not allow "
                "the output views to be modified inplace. You should replace the inplace "
                "operation by an out-of-place one."),
    "function": ("Output {index} of {name} is a view and {what} modified inplace. This view was "
                 "created inside a custom Function (or because an input was returned as-is) and "
                 "the autograd logic to handle view+inplace would override the custom backward "
                 "associated with the custom Function, leading to incorrect gradients. This "
                 "behavior is forbidden. You can fix this by cloning the output of the custom "
                 "Function."),
}


def forbidden(x: Tensor, what: str) -> str:
    """Why a view with an origin must not be written, or must not be used after its base was."""
    origin: Any = x._view[2]
    if isinstance(origin, str):
        place = (0, "") if x.is_leaf else (x._edge[1], x._edge[0].name())
    else:
        origin, place = "several", origin
    return _FORBIDDEN[origin].format(what=what, index=place[0], name=forward_name(place[1]))


def replay(o: Any, x: Any, chain: Any) -> Any:
    """The view again, of another base, at either level."""
    parent, spec, kw, _ = chain
    if parent is not None:
        x = replay(o, x, parent)
    return getattr(o, spec.name)(x, **kw)


class CopySlices(Node):
    """The history of a base one of whose views was written: the view's part goes through ``fn``.

    at: which of the edges of ``fn`` is the written view's; here it is the base's.
    """

    __slots__ = ("at", "chain", "fn")
    foreign = True
    at: int
    chain: Any
    fn: Any

    def name(self) -> str:
        return "torch::autograd::CopySlices"

    def run(self, o: Any, g: Any, edges: Any) -> Any:
        at, part, fn = self.at, replay(o, g, self.chain), self.fn
        if o is tensors:                        # a saved result of fn is now a view of the base
            fn.result = link(AsStridedBackward0(), self.be, ((self, 0),))
            fn.result.chain = self.chain
        try:
            out = list(conjugate.run(fn, o, part,
                                     (*edges[:at], fn.edges[at], *edges[at + 1:])))
        finally:
            fn.result = None                    # fn holding it for longer would be a cycle
        if edges[at] is not None:
            inner = o.zeros_like(part) if out[at] is None else out[at]
            out[at] = o.view_scatter(g, inner, chain=self.chain)
        return out

    def release(self) -> None:
        self.fn.release()


class AsStridedBackward0(Node):
    """The new history of a view after its base was written: the view's own rules, last first."""

    __slots__ = ("chain",)
    chain: Any

    def run(self, o: Any, g: Any, edges: Any) -> Any:
        chain = self.chain
        while chain is not None:
            chain, spec, kw, shape = chain
            known = {**spec.consts, **kw, spec.inputs[0] + "_shape": shape}
            g = spec.rules[0][0](o, g, *[known[spec.plan[j][2]] for j in spec.rules[0][1]])
        return (g,)


class Forbidden(Node):
    """The history of a Function's view after its base was written: the Function's gradient is lost.
    """

    __slots__ = ("text",)
    text: str

    def run(self, o: Any, g: Any, edges: Any) -> Any:
        raise RuntimeError(self.text)


def check(x: Tensor) -> None:
    """Raise if x must not be written while a graph is recorded."""
    if not state.recording:
        return
    base, _, origin = x._view or (x, None, None)
    if origin is not None:
        raise RuntimeError(forbidden(x, "is being"))
    if base.is_leaf and (base._edge is LEAF or x._edge is not None):
        what = "a leaf Variable" if base is x else "a view of a leaf Variable"
        raise RuntimeError(what + " that requires grad is being used in an in-place operation.")


def link(node: Any, be: Any, edges: Any) -> Any:
    node.be, node.edges, node.fit, node.hooks = be, edges, None, None
    node.saved, node.guard, node.key = (), (), next_key()
    if anomaly[0] is not None:
        anomaly[0].made(node)
    return node


def rebase(x: Any, node: Node, index: int = 0, at: int = 0) -> None:
    """x was written by ``node``: give x, its base and every other view of it their new histories.

    index: which output of node x is; at: which of its edges is x's.
    """
    if x._view is None:
        base = x
        set_edge(x, (node, index))
    else:
        base = x._view[0]
        edges = (*node.edges[:at], edge_of(base), *node.edges[at + 1:])
        copy = link(CopySlices(), node.be, edges)
        copy.at, copy.chain, copy.fn = at, x._view[1], node
        set_edge(base, (copy, 0))
    for ref in x._ver[1:]:
        v = ref()
        if v is not None and v._view is not None and v._view[0] is base:
            set_edge(v, (renewed(v, base), 0))


def renewed(v: Any, base: Any) -> Node:
    """The history of a view after its base got a new one."""
    if v._view[2] == "function":
        node = link(Forbidden(), base._be, (base._edge,))
        node.text = forbidden(v, "its base or another view of its base has been")
    else:
        node = link(AsStridedBackward0(), base._be, (base._edge,))
        node.chain = v._view[1]
    return node


def set_edge(x: Any, edge: Any) -> None:
    """Give x a new history. Its hooks stay with the old one, but a gradient that it retains
    follows.
    """
    if not x.is_leaf and x._edge[0].hooks is not None:
        kept = x._edge[0].hooks.retain.pop(x._edge[1], None)
        if kept is not None:
            hooks_of(edge[0]).retain[edge[1]] = kept
    x._edge = edge


def is_recorded(x: Any, ins: Any) -> bool:
    """Does writing x with these inputs have a gradient?"""
    return state.recording and (any([isinstance(t, Tensor) and t._edge is not None for t in ins])
                           or (x._view is not None and x._view[0]._edge is not None))


def easy_operand(x: Any, y: Any, spec: Spec) -> Any:
    """What a ufunc needs of y to write x, if no history, conversion or broadcasting is involved;
    else None.
    """
    xa, be = x._a, x._be
    if xa.dtype.kind not in dtypes.FLOATING:
        return None
    recording = not off[0] or state.recording
    if recording and (x._edge is not None
                      or (x._view is not None and x._view[0]._edge is not None)):
        return None
    if type(y) is int or (type(y) is float and y != 0):
        return None if spec.by_number and xa.dtype in dtypes.HALF else be.number[y, xa.dtype]
    if not isinstance(y, Tensor) or y._be is not be or (recording and y._edge is not None):
        return None
    ya = y._a
    return ya if ya.dtype is xa.dtype and (ya.shape == xa.shape or not ya.ndim) else None


def make_inplace(spec: Spec) -> Any:
    """<name>_: the op's forward, written into its first input."""
    name, direct, takes = spec.name + "_", spec.direct, len(spec.inputs)

    def entry(x: Any, *others: Any, **kw: Any) -> Any:
        be, xa = x._be, x._a
        if direct is not None and len(others) == 1:
            y = others[0]
            ya = easy_operand(x, y, spec)
            if ya is not None:
                check_memory(x)
                bump(x)
                try:
                    direct[be.index](xa, ya, xa)
                except TypeError as error:
                    raise refusal(spec.name, xa, ya, error) from None
                return x
            if spec.by_number and xa.dtype in dtypes.HALF and type(y) in (int, float):
                return getattr(tensors, spec.by_number + "_")(x, number=y)
        ins = [x, *others]
        if (kw and not spec.consts) or (len(ins) > takes and not spec.variadic):
            raise TypeError(f"{name}() takes {takes - 1} arguments but got {len(others)} and the "
                            f"keywords {list(kw)}")
        for i, t in enumerate(others, 1):
            if isinstance(t, Tensor):
                if t._be is not be:
                    if t._a.ndim or t._be.index:
                        different_devices(ins, name)
                    ins[i] = to_backend(t, be)
            elif t is not None and not isinstance(t, NUMBERS):
                return NotImplemented
        live = is_recorded(x, ins)
        if live:
            check(x)
        check_memory(x)
        arrays = [t._a if isinstance(t, Tensor) else t for t in ins]
        dtype = result_dtype(spec, arrays, xa) if spec.promote else None
        if dtype is not None:
            arrays = [as_operand(be, a, None if hasattr(a, "dtype") else dtype) for a in arrays]
        node = None
        if live and spec.node:
            node = spec.record(be, ins, arrays, (xa,), (x._ver,), kw, written=True)
        if dtype is not None:
            arrays = [as_operand(be, a, dtype) for a in arrays]
            check_shapes(be, arrays, xa)
        # np.negative is wrong for some strides of ``out`` (NumPy 2.4): one operand, no holes.
        if direct is not None and all([a.dtype == xa.dtype for a in arrays]) and \
                (len(arrays) > 1 or be.is_contiguous(xa)):
            bump(x)
            try:
                direct[be.index](*arrays, out=xa)
            except TypeError as error:
                raise refusal(spec.name, xa, arrays[-1], error) from None
        else:
            try:
                result = spec.impl[be.index](be, *arrays, **kw)
            except TypeError as error:
                raise refusal(spec.name, xa, xa, error) from None
            if result.shape != xa.shape:
                raise misfit(xa, result.shape)
            bump(x)
            if be.index == 2:                   # one of several devices: it must be the current one
                be.guard(xa.__setitem__)(..., result)
            else:
                xa[...] = result
                if listening[0] is not None:
                    listening[0].wrote(xa, result)
        if node is not None:
            spec.refresh_results(node, ins)
            rebase(x, node)
        return x
    entry.__name__ = name
    return entry


def result_dtype(spec: Spec, arrays: Any, xa: Any) -> Any:
    dtype = dtypes.promote(*arrays)
    if spec.promote == "float" and dtype.kind in "iub":
        dtype = dtypes.default_np()
    if dtypes.category(dtype) > dtypes.category(xa.dtype):
        raise RuntimeError(f"result type {dtypes.type_name(dtype)} can't be cast to the desired "
                           f"output type {dtypes.type_name(xa.dtype)}")
    return dtype


def check_shapes(be: Any, arrays: Any, xa: Any) -> None:
    """The broadcast shape of the operands must be that of the tensor that is written."""
    if all([a.shape == xa.shape or a.ndim == 0 for a in arrays[1:]]):
        return
    try:
        shape = be.xp.broadcast_shapes(*[a.shape for a in arrays])
    except ValueError:
        raise broadcast_error(arrays[0], arrays[1]) or AssertionError from None
    if shape != xa.shape:
        raise misfit(xa, shape)


def misfit(xa: Any, shape: Any) -> RuntimeError:
    return RuntimeError(f"output with shape {list(xa.shape)} doesn't match the broadcast shape "
                        f"{list(shape)}")
