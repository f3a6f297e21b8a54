"""Entries: what calling an op on Tensors does. One closure for each arity; every name in them is a
local or a cell, and a slot is set at a time, because that is what an op on small tensors costs."""
from __future__ import annotations

import math
import threading
import weakref
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._state import anomaly, complex_gradients, listening, off, state
from gpugrad._tensor import LEAF, InferenceCell, Tensor, _new, wrap
from gpugrad.autograd import casting
from gpugrad.autograd.node import leaf_edge, next_key, turn
from gpugrad.autograd.out import into
from gpugrad.autograd.rules import NOTHING, Spec, fits, tensors
from gpugrad.autograd.transfer import to_backend

NO_CONSTANTS: dict[str, Any] = {}
FLOAT = np.dtype(np.float32).num      # bools and integers have smaller numbers; half's is greater
INT64 = np.dtype(np.int64)
NUMBERS = (int, float, complex, np.generic)
BOTH = (0, 1)                         # the places of two saved arrays


def set_view(t: Any, x: Any, spec: Spec, kw: dict[str, Any]) -> None:
    """t is a view of x: they share the version cell, which also lists the views of a base weakly.
    """
    cell = x._ver
    base, parent, origin = x._view or (x, None, None)
    if off[0] and not state.recording and origin is None:
        origin = "inference" if state.inference else "no_grad"
    t._view = (base, (parent, spec, kw, x._a.shape), origin)
    t._ver = cell
    cell.append(weakref.ref(t))
    n = len(cell)
    if n >= 64 and n & (n - 1) == 0:
        prune(cell)


_pruning = threading.Lock()


def prune(cell: list[Any]) -> None:
    """Take the dead views off a version cell; other threads may be adding to it."""
    with _pruning:
        n = len(cell)
        alive = [r for r in list.__getitem__(cell, slice(1, n)) if r() is not None]
        list.__setitem__(cell, slice(1, n), alive)


def different_devices(ins: Any, name: str) -> None:
    names = list(dict.fromkeys(t._be.name for t in ins if isinstance(t, Tensor)))
    raise RuntimeError(
        "Expected all tensors to be on the same device, but found at least two devices, "
        + " and ".join(names[:2]) + f"! (when checking the arguments of {name}: move them with "
        f".to({names[0]!r}))")


def nary(spec: Spec) -> Any:
    """The entry of an op with any number of inputs or results, and constants."""
    if spec.variadic or spec.n_out is None:
        return variadic(spec)
    impl, name, n_out, n_diff = spec.impl, spec.name, spec.n_out, spec.n_diff
    Node_, fit, diff, n = spec.node, spec.fit, spec.diff, len(spec.inputs)
    savers: dict[Any, Any] = {}
    listed = name in casting.LISTED

    def entry(*ins: Any, **kw: Any) -> Any:
        if listed and off[0] and state.casting is not None:
            return casting.call(name, entry, ins, kw)
        arrays: list[Any] = []
        ts: list[Any] = []
        be: Any = None
        live = False
        for t in ins:
            if t is None:
                arrays.append(None)
                ts.append(NOTHING)
                continue
            try:
                arrays.append(t._a)
                if t._be is not be:
                    if be is not None:
                        different_devices(ins, name)
                    be = t._be
            except AttributeError:
                raise not_a_tensor(name, t) from None
            ts.append(t)
            if t._edge is not None:
                live = True
        results = impl[be.index](be, *arrays, **kw)
        outs = (wrap(results, be),) if n_out == 1 else tuple([wrap(a, be) for a in results])
        if off[0]:
            live = live and state.recording
            if live and Node_ is not None and (state.saving is not None or anomaly[0] is not None):
                if is_live(spec, ins):
                    node = spec.record(be, ins, arrays, [t._a for t in outs],
                                       [t._ver for t in outs], kw)
                    for k in range(n_diff):
                        outs[k]._edge = (node, k)
                return outs[0] if n_out == 1 else outs
        if live and Node_ is not None:
            for _ in range(n - len(ts)):                     # inputs that were left out
                ts.append(NOTHING)
                arrays.append(None)
            edges: list[Any] = []
            for i in diff:
                x = ts[i]
                e = x._edge
                if e is LEAF:
                    e = (x._acc, 0, x) if x._turn == turn[0] else leaf_edge(x)
                edges.append(e)
            mask = tuple([e is not None for e in edges])
            if True in mask:
                node = Node_()
                node.be = be
                node.hooks = None
                node.edges = tuple(edges)
                node.key = next_key()
                node.fit = fits([arrays[i] for i in diff], outs[0]._a) if fit else None
                save = savers.get(mask)
                if save is None:
                    save = savers[mask] = spec.make_saver(mask)
                if n_out == 1:
                    t = outs[0]
                    save(node, *ts, *arrays, t._a, t._ver, kw)
                    t._edge = (node, 0)
                    return t
                save(node, *ts, *arrays, *[t._a for t in outs], *[t._ver for t in outs], kw)
                for k in range(n_diff):
                    outs[k]._edge = (node, k)
        return outs[0] if n_out == 1 else outs
    return entry


def variadic(spec: Spec) -> Any:
    """The entry of an op with *args, or a varying number of results."""
    impl, name, many = spec.impl, spec.name, spec.n_out != 1
    listed = name in casting.LISTED

    def entry(*ins: Any, **kw: Any) -> Any:
        if listed and off[0] and state.casting is not None:
            return casting.call(name, entry, ins, kw)
        be: Any = None
        for t in ins:
            if t is not None and not isinstance(t, Tensor):
                raise not_a_tensor(name, t)
            if t is not None and t._be is not be:
                if be is not None:
                    different_devices(ins, name)
                be = t._be
        arrays = [None if t is None else t._a for t in ins]
        results = impl[be.index](be, *arrays, **kw)
        outs = [wrap(a, be) for a in results] if many else [wrap(results, be)]
        if spec.node is not None and state.recording and is_live(spec, ins):
            given = {**kw, "n_out": len(outs)} if spec.n_out is None else kw
            node: Any = spec.record(be, ins, arrays, [t._a for t in outs], [t._ver for t in outs],
                                    given)
            for k, t in enumerate(outs):
                if spec.n_out is None or k < spec.n_diff:
                    t._edge = (node, k)
        return tuple(outs) if many else outs[0]
    return entry


def is_live(spec: Spec, ins: Any) -> bool:
    """Does any differentiable input require grad?"""
    flat = spec.split(ins)
    return any([t._edge is not None for i in spec.diff
                for t in (flat[i] if isinstance(flat[i], tuple) else (flat[i],))
                if isinstance(t, Tensor)])


def to_default_float(a: Any) -> Any:
    """An integer array as one of the default floating dtype, for functions such as exp."""
    y = a.astype(dtypes.default_np())
    return y if listening[0] is None else listening[0].converted(a, y)


def unary(spec: Spec) -> Any:
    """The entry of an op with one input and one result."""
    impl, Node_, view, direct, name = spec.impl, spec.node, spec.view, spec.direct, spec.name
    nothing = not (Node_ and spec.plan)
    to_float = spec.promote == "float"
    listed = name in casting.LISTED

    def save(*args: Any) -> None:
        """The first call puts the real one in its place: generating it at import would take long.
        """
        nonlocal save
        save = spec.make_saver((True,))
        save(*args)

    def record(x: Any, xa: Any, t: Any, kw: dict[str, Any]) -> Any:
        be = t._be
        e = x._edge
        if off[0]:
            if state.inference and not view:
                t._ver = InferenceCell()
            if not state.recording:
                t._edge = None
                return t
            if state.saving is not None or anomaly[0] is not None:
                t._edge = (spec.record(be, (x,), (xa,), (t._a,), (t._ver,), kw), 0)
                return t
        if e is LEAF:
            e = leaf_edge(x)
        node = Node_()
        node.be = be
        node.fit = node.hooks = None
        node.edges = (e,)
        node.key = next_key()
        if nothing:
            node.saved = node.guard = ()
        else:
            save(node, x, xa, t._a, t._ver, kw)
        t._edge = (node, 0)
        return t

    if spec.consts:
        def entry(input: Any, **kw: Any) -> Any:
            if listed and off[0] and state.casting is not None:
                return casting.call(name, entry, (input,), kw)
            x = input
            try:
                be, xa = x._be, x._a
            except AttributeError:
                raise not_a_tensor(name, x) from None
            a = impl[be.index](be, xa, **kw)
            t: Any = _new()
            t._a = a if type(a) is be.ndarray else be.asarray(a)
            t._be = be
            if view:
                set_view(t, x, spec, kw)
            else:
                t._view = None
                t._ver = [0]
            if x._edge is None or Node_ is None:
                t._edge = None
                if off[0] and state.inference and not view:
                    t._ver = InferenceCell()
                return t
            return record(x, xa, t, kw)
        return entry

    def plain_entry(input: Any, out: Any = None) -> Any:
        if out is not None:
            return into(out, plain_entry(input), name)
        if listed and off[0] and state.casting is not None:
            return casting.call(name, plain_entry, (input,), NO_CONSTANTS)
        try:
            be, xa = input._be, input._a
        except AttributeError:
            raise not_a_tensor(name, input) from None
        if to_float and xa.dtype.num < FLOAT:
            xa = to_default_float(xa)
        try:
            a = impl[be.index](be, xa) if direct is None else direct[be.index](xa)
        except TypeError as error:
            raise refusal(name, xa, xa, error) from None
        t: Any = _new()
        t._a = a if type(a) is be.ndarray else be.asarray(a)
        t._be = be
        if view:
            set_view(t, input, spec, NO_CONSTANTS)
        else:
            t._view = None
            t._ver = [0]
        e = input._edge
        if off[0] or Node_ is None:
            if e is None or Node_ is None:
                t._edge = None
                if off[0] and state.inference and not view:
                    t._ver = InferenceCell()
                return t
            return record(input, xa, t, NO_CONSTANTS)
        if e is None:
            t._edge = None
            return t
        if e is LEAF:
            e = (input._acc, 0, input) if input._turn == turn[0] else leaf_edge(input)
        node = Node_()
        node.be = be
        node.fit = node.hooks = None
        node.edges = (e,)
        node.key = next_key()
        if nothing:
            node.saved = node.guard = ()
        else:
            save(node, input, xa, a, t._ver, NO_CONSTANTS)
        t._edge = (node, 0)
        return t
    return plain_entry


def binary(spec: Spec) -> Any:
    """The entry of an op with two inputs, one result and no constants.

    Returns NotImplemented for an operand that is neither a Tensor nor a number, as operators must.
    """
    impl, Node_, direct, promote, fit = spec.impl, spec.node, spec.direct, spec.promote, spec.fit
    nothing = not (Node_ and spec.plan)
    differentiable = Node_ and spec.diff == [0, 1]
    to_float = promote == "float"
    # Those that may be used as they are with a Python float other than 0, and with an int.
    plain = dtypes.WHOLE if spec.by_number else dtypes.FLOATS
    whole = plain if to_float else plain | {INT64}
    listed = spec.name in casting.LISTED

    save_x: Any
    save_y: Any

    def save_both(*args: Any) -> None:
        nonlocal save_both, save_x, save_y
        save_both, save_x, save_y = (
            spec.make_saver(mask) for mask in ((True, True), (True, False), (False, True)))
        edges = args[0].edges
        (save_both if None not in edges else save_x if edges[1] is None else save_y)(*args)
    save_x = save_y = save_both

    def record(x: Any, y: Any, xa: Any, ya: Any, t: Any) -> Any:
        """The general end of an entry: t is the result."""
        if off[0]:
            if state.inference:
                t._ver = InferenceCell()
            if not state.recording:
                return t
        if Node_ is not None and any([getattr((x, y)[i], "_edge", None) is not None
                                      for i in spec.diff]):
            node = spec.record(t._be, (x, y), (xa, ya), (t._a,), (t._ver,), NO_CONSTANTS)
            t._edge = (node, 0)
        return t

    def mixed(x: Any, y: Any) -> Any:
        """Numbers, two devices, two dtypes."""
        pair = operands(x, y, spec.name)
        if pair is NotImplemented:
            return NotImplemented
        be, x, y, xa, ya = pair
        dtype = None
        if promote:
            dtype = dtypes.promote(xa, ya)
            if to_float and dtype.kind in "iub":
                dtype = dtypes.default_np()
            if spec.by_number and dtype in dtypes.HALF and not hasattr(ya, "dtype") \
                    and xa.dtype == dtype:
                return getattr(tensors, spec.by_number)(x, number=ya)
            if dtype.kind == "c":
                complex_gradients[0] = True
        elif not (hasattr(xa, "dtype") and hasattr(ya, "dtype")):
            return NotImplemented
        xa, ya = as_operand(be, xa, dtype), as_operand(be, ya, dtype)
        try:
            a = impl[be.index](be, xa, ya) if direct is None else direct[be.index](xa, ya)
        except (ValueError, TypeError) as error:
            raise refusal(spec.name, xa, ya, error) from None
        return record(x, y, xa, ya, wrap(a, be))

    def entry(input: Any, other: Any, out: Any = None) -> Any:
        if out is not None:
            return into(out, entry(input, other), spec.name)
        if listed and off[0] and state.casting is not None:
            return casting.call(spec.name, entry, (input, other), NO_CONSTANTS)
        try:
            be, xa = input._be, input._a
            kind = type(other)
            if kind is not Tensor and promote and (xa.dtype in whole if kind is int else (
                    kind is float and other and xa.dtype in plain)):
                ya = be.number[other, xa.dtype]
                other = NOTHING
            elif other._be is be:
                ya = other._a
            else:
                return mixed(input, other)
        except (AttributeError, OverflowError):
            return mixed(input, other)
        if promote and (xa.dtype is not ya.dtype or (to_float and xa.dtype.num < FLOAT)):
            return mixed(input, other)
        try:
            a = impl[be.index](be, xa, ya) if direct is None else direct[be.index](xa, ya)
        except (ValueError, TypeError) as error:
            raise refusal(spec.name, xa, ya, error) from None
        t: Any = _new()
        t._a = a if type(a) is be.ndarray else be.asarray(a)
        t._be = be
        t._view = t._edge = None
        t._ver = [0]
        if off[0] or not differentiable:
            return record(input, other, xa, ya, t)
        e, f = input._edge, other._edge
        if e is None and f is None:
            return t
        if e is LEAF:
            e = (input._acc, 0, input) if input._turn == turn[0] else leaf_edge(input)
        if f is LEAF:
            f = (other._acc, 0, other) if other._turn == turn[0] else leaf_edge(other)
        node = Node_()
        node.be = be
        node.fit = node.hooks = None
        node.edges = (e, f)
        node.key = next_key()
        if fit and other is not NOTHING and xa.shape != ya.shape:
            node.fit = fits((xa, ya), a)
        if nothing:
            node.saved = node.guard = ()
        else:
            (save_both if e is not None and f is not None else save_x if f is None else save_y)(
                node, input, other, xa, ya, a, t._ver, NO_CONSTANTS)
        t._edge = (node, 0)
        return t
    if promote is not True or direct is None or not (fit and differentiable):
        return entry
    crosswise = spec.saves_crosswise()

    def arithmetic(input: Any, other: Any, out: Any = None) -> Any:
        """entry for the ufuncs that take any two operands: without the questions that they answer
        alike. It saves a tenth of the time of a product."""
        if out is not None:
            return into(out, arithmetic(input, other), spec.name)
        try:
            be, xa = input._be, input._a
            kind = type(other)
            if kind is not Tensor and (xa.dtype in whole if kind is int else (
                    kind is float and other and xa.dtype in plain)):
                ya = be.number[other, xa.dtype]
                other = NOTHING
            elif other._be is be:
                ya = other._a
            else:
                return mixed(input, other)
        except (AttributeError, OverflowError):
            return mixed(input, other)
        if xa.dtype is not ya.dtype:
            return mixed(input, other)
        try:
            a = direct[be.index](xa, ya)
        except (ValueError, TypeError) as error:
            raise refusal(spec.name, xa, ya, error) from None
        t: Any = _new()
        t._a = a if type(a) is be.ndarray else be.asarray(a)
        t._be = be
        t._view = t._edge = None
        t._ver = [0]
        if off[0]:
            return record(input, other, xa, ya, t)
        e, f = input._edge, other._edge
        if e is None and f is None:
            return t
        if e is LEAF:
            e = (input._acc, 0, input) if input._turn == turn[0] else leaf_edge(input)
        if f is LEAF:
            f = (other._acc, 0, other) if other._turn == turn[0] else leaf_edge(other)
        node = Node_()
        node.be = be
        node.fit = node.hooks = None
        node.edges = (e, f)
        node.key = next_key()
        if xa.shape != ya.shape and other is not NOTHING:
            node.fit = fits((xa, ya), a)
        if nothing:
            node.saved = node.guard = ()
        elif crosswise and e is not None and f is not None:      # a product: without a call
            c, d = other._ver, input._ver
            node.saved = (ya, xa)
            node.guard = (c, c[0], d, d[0], BOTH)
        else:
            (save_both if e is not None and f is not None else save_x if f is None else save_y)(
                node, input, other, xa, ya, a, t._ver, NO_CONSTANTS)
        t._edge = (node, 0)
        return t
    return arithmetic


def operands(x: Any, y: Any, name: str) -> Any:
    """(backend, x, y, what forward gets of each) for Tensors and numbers in any mixture."""
    xt, yt = isinstance(x, Tensor), isinstance(y, Tensor)
    if xt and yt:
        if x._be is not y._be:                   # a 0-dim CPU tensor goes along with any device
            if y._be.index == 0 and y._a.ndim == 0:
                y = to_backend(y, x._be)
            elif x._be.index == 0 and x._a.ndim == 0:
                x = to_backend(x, y._be)
            else:
                different_devices((x, y), name)
        return x._be, x, y, x._a, y._a
    one, other = (x, y) if xt else (y, x)
    if not isinstance(one, Tensor):
        raise not_a_tensor(name, x)
    if isinstance(other, np.ndarray) and one._be.index == 0:
        other = wrap(dtypes.adopt(other))
        x, y = (one, other) if xt else (other, one)
        return one._be, x, y, x._a, y._a
    if not isinstance(other, NUMBERS):
        return NotImplemented
    if isinstance(other, np.generic):
        other = other.item()
    return (one._be, one, other, one._a, other) if xt else (one._be, other, one, other, one._a)


def as_operand(be: Any, v: Any, dtype: Any) -> Any:
    """A number or an array as an array of the dtype; without a dtype as it is."""
    if not hasattr(v, "dtype"):
        if v == 0 and type(v) is float and math.copysign(1, v) < 0:
            return be.scalar(v, dtype)
        try:
            return be.number[v, dtype]
        except OverflowError:
            if dtype.kind in "iu" and -1 << 63 <= v < 1 << 63:     # as in PyTorch, it wraps round
                return be.scalar(int(np.int64(v).astype(dtype)), dtype)
            raise RuntimeError(f"value cannot be converted to type {dtypes.OF[dtype].name} without "
                               f"overflow") from None
    if dtype is None or v.dtype == dtype:
        return v
    y = be.guard(v.astype)(dtype) if be.index == 2 else v.astype(dtype)
    return y if listening[0] is None else listening[0].converted(v, y)


def not_a_tensor(name: str, x: Any) -> TypeError:
    return TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not "
                     f"{type(x).__name__}")


def refusal(name: str, xa: Any, ya: Any, error: Exception) -> Exception:
    """PyTorch's error for one of NumPy's: the shapes don't broadcast, or a dtype isn't taken."""
    if isinstance(error, TypeError):
        if not str(error).startswith("ufunc '"):
            return error
        return NotImplementedError(f"\"{name}_cpu\" not implemented for "
                                   f"'{dtypes.type_name(dtypes.promote(xa, ya))}'")
    return broadcast_error(xa, ya) or error


def broadcast_error(xa: Any, ya: Any) -> Exception | None:
    """PyTorch's error for shapes that don't broadcast, with both shapes; None if they do."""
    a, b = xa.shape, ya.shape
    n = max(len(a), len(b))
    for d in range(n - 1, -1, -1):
        i, j = d - n + len(a), d - n + len(b)
        if i >= 0 and j >= 0 and a[i] != b[j] and a[i] != 1 and b[j] != 1:
            return RuntimeError(
                f"The size of tensor a ({a[i]}) must match the size of tensor b ({b[j]}) at "
                f"non-singleton dimension {d}: the shapes are {list(a)} and {list(b)}")
    return None
