"""One eager call of a function, and a note of every call on arrays that it made.

What is heard: the implementations of ops, called by entries and by backward; the sums and the
accumulation of gradients; NumPy's or CuPy's functions called through the backend, and random draws;
and, as a whole, what is done to all gradients, and the updates of optimizers, schedules and
scalers. Arrays are known by identity. Whatever is
computed in another way shows as an array that nobody made, or by elements that changed behind the
recorder's back: then the call can't be recorded, and ``why`` says so.
"""
from __future__ import annotations

import contextlib
import functools
import gc
import operator
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpugrad._tensor import Tensor
from gpugrad.autograd import engine
from gpugrad.autograd.listening import Listener, hearing
from gpugrad.autograd.node import AccumulateGrad
from gpugrad.autograd.op import SPECS
from gpugrad.autograd.rules import RawLevel, Spec
from gpugrad.backend import cpu
from gpugrad.backend.cuda_random import CudaGenerator
from gpugrad.backend.random import CPUGenerator
from gpugrad.ops import gradients, load
from gpugrad.recording.arrays import (
    accumulate_copy,
    bounds,
    changes,
    devices,
    digest,
    duplicate,
    home,
    is_array,
    is_number,
    put,
    share,
    view_of,
)
from gpugrad.recording.stand_ins import Draws, Functions

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_NOT_USERS = (PACKAGE, contextlib.__file__)

# Ops with as many results as the elements say.
_SIZED = frozenset("masked_select unique unique_consecutive unique_dim".split())
# What the backend makes arrays by, and what reads them, outside of ops.
_MAKERS = ("asarray", "copy", "empty", "from_host", "expand", "matmul", "keep", "drop", "erf",
           "diagonal", "im2col", "col2im", "from_device")
_READERS = ("read", "holds", "to_host")
_DRAWS = frozenset("uniform normal random randint randperm bernoulli bernoulli_of exponential "
                   "multinomial words words64".split())
# What is done to all gradients together, outside of ops.
_TOGETHER = ("total_norm", "clip_norm", "clip_value", "zero")


def line() -> str:
    """Where the program is that uses gpugrad: "train.py:41"."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_USERS):
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}" if frame else "?"


class Ref:
    """A value's number, in the place of its array."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return type(other) is Ref and other.number == self.number

    def __hash__(self) -> int:
        return self.number


class Value:
    """An array. ``call``: which call made it; None for an argument, a gradient that was there
    before (``leaf``), or something from outside."""

    __slots__ = ("a", "call", "digest", "leaf", "line", "made", "written")

    def __init__(self, a: Any, call: int | None, leaf: Any, made: bool) -> None:
        self.a, self.call, self.leaf, self.made = a, call, leaf, made
        self.digest, self.written, self.line = digest(a), False, ""


class Call:
    """f(*args, **kw), with Refs for arrays. out: a Ref, or a tuple of them; as_array: its result
    may be a number, which is to be a 0-dim array. whole: an update, told by ``whole``."""

    __slots__ = ("args", "as_array", "f", "kw", "line", "name", "out", "whole")

    def __init__(self, name: str, f: Any, args: Any, kw: Any) -> None:
        self.name, self.f, self.args, self.kw, self.line = name, f, args, kw, line()
        self.out: Any = None
        self.as_array = self.whole = False


class SetGrad:
    """leaf.grad becomes a tensor of a value, or None."""

    __slots__ = ("leaf", "line", "value")

    def __init__(self, leaf: Tensor, value: Any) -> None:
        self.leaf, self.value, self.line = leaf, value, line()


class Recorder(Listener):
    """Records what this thread does in a ``with recorder.listen()`` block.

    inputs: the tensors that are arguments. leaves: other leaves that an earlier run gave gradients
    to; known: tensors from outside that it used; updated: what it updated as a whole.
    """

    def __init__(self, inputs: list[Tensor], leaves: list[Tensor], known: list[Tensor],
                 updated: list[Any]) -> None:
        self.why = ""
        self.values: list[Value] = []
        self.calls: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.modules: dict[int, Any] = {}
        self.thread, self.inside = threading.get_ident(), False
        self.drew = self.swept = False           # in this call: a random draw; a backward at all
        self.outside: list[int] = []
        self.young: list[Tensor] = []
        self.inputs = inputs
        for t in inputs:
            self.add(t._a, None)
        self.grads: dict[int, tuple[Tensor, Any]] = {}
        self.before: dict[int, Any] = {}
        for x in [*inputs, *leaves]:
            if x._edge is not None:
                self.know_leaf(x)
        self.versions = {id(t._ver): (t, t._ver[0]) for t in [*inputs, *known]}
        self.options = {id(x): (x, options(x)) for x in updated}
        self.bumped: dict[int, int] = {}         # by updates, which bump again when replayed

    # Values --------------------------------------------------------------------------------------

    def refuse(self, why: str) -> None:
        if not self.why:
            self.why = f"{why}, at {line()}"

    def add(self, a: Any, call: int | None, leaf: Any = None, made: bool = False) -> Ref:
        self.numbers[id(a)] = len(self.values)
        self.values.append(Value(a, call, leaf, made))
        return Ref(len(self.values) - 1)

    def find(self, a: Any) -> Value | None:
        number = self.numbers.get(id(a))
        return None if number is None else self.values[number]

    def ref(self, a: Any) -> Any:
        """The Ref of an array that is used; a number that nobody made is a constant."""
        number = self.numbers.get(id(a))
        if number is None:
            if is_number(a):
                return a
            return self.ref_of_unknown(a)
        value = self.values[number]
        if value.digest != digest(a):
            self.refuse("a tensor was written in a way that recordings don't follow: write it as "
                        "an operation on tensors")
        return Ref(number)

    def ref_of_unknown(self, a: Any) -> Ref:
        """An array from outside, or a view of one that is known."""
        if a.base is not None and a.size:
            low, high = bounds(a)
            for number, value in enumerate(self.values):
                b = value.a
                if b is a.base or (b is not None and b.base is a.base):
                    start, end = bounds(b)
                    order = tuple(sorted(range(b.ndim), key=lambda d: -b.strides[d]))
                    if start <= low and high <= end and b.transpose(order).flags.c_contiguous:
                        return self.view(a, number, order)
        found = self.add(a, None)
        self.outside.append(found.number)
        self.values[found.number].line = line()
        return found

    def view(self, a: Any, number: int, order: tuple[int, ...]) -> Ref:
        """a is a view, which nobody told of, of the memory of a value."""
        base = self.values[number].a
        be = home(a)
        offset = be.address(a) - be.address(base)
        call = Call("view", view_of, (self.ref(base), order, offset, a.shape, a.strides, a.dtype),
                    {})
        call.out = self.add(a, len(self.calls))
        self.calls.append(call)
        return call.out

    def tree(self, x: Any) -> Any:
        """Arguments with Refs in the place of arrays."""
        if is_array(x):
            return self.ref(x)
        if isinstance(x, Tensor):
            return self.ref(x._a)
        kind = type(x)
        if kind is tuple or kind is list:
            return kind([self.tree(v) for v in x])
        if kind is dict:
            return {k: self.tree(v) for k, v in x.items()}
        return x

    def results(self, x: Any, call: int, made: bool) -> Any:
        """Refs of what a call returned: new values, or those that it was given."""
        if is_array(x):
            number = self.numbers.get(id(x))
            return self.add(x, call, made=made) if number is None else Ref(number)
        if isinstance(x, tuple | list):
            return tuple([self.results(v, call, made) for v in x])
        return None

    def refresh(self, call: Call) -> None:
        """Note what a call wrote to: the arguments that changed, or that it is known to write to
        though these elements stayed the same, and all that shares their memory."""
        given = refs(call.args) + refs(call.kw)
        out = {*refs(call.kw.get("out")), *refs(call.out)}
        certain = {n for n in given if n in out} | set(refs(call.args[:1]) if call.f is put else ())
        self.rewritten([self.values[n] for n in given], [self.values[n].a for n in certain])

    def rewritten(self, values: list[Value], certain: Any = ()) -> None:
        """Those of the values that changed were written to, and so was what shares their memory."""
        changed = [v.a for v in values if changes(v.a) and digest(v.a) != v.digest]
        changed += certain
        for v in self.values if changed else ():
            if any([v.a is a or share(v.a, a) for a in changed]):
                v.digest, v.written = digest(v.a), True

    # Calls ---------------------------------------------------------------------------------------

    def idle(self) -> bool:
        """Is there nothing to hear: inside of a call that is heard, or on another thread?"""
        return self.inside or bool(self.why) or threading.get_ident() != self.thread

    @contextlib.contextmanager
    def within(self) -> Iterator[None]:
        """What a call is made of is nothing of its own."""
        self.inside = True
        for be, (real, _) in self.functions.items():
            be.xp = real
        try:
            yield
        finally:
            self.inside = False
            for be, (_, heard) in self.functions.items():
                be.xp = heard

    def hear(self, name: str, f: Any, args: Any, kw: dict[str, Any], as_array: bool = False,
             skip: int = 0) -> Any:
        """f(*args, **kw), recorded; skip: arguments that are constants."""
        call = Call(name, f, (*args[:skip], *self.tree(args[skip:])), self.tree(kw))
        self.drew = False
        with self.within():
            result = f(*args, **kw)
        if as_array and isinstance(result, np.generic):
            result, call.as_array = np.asarray(result), True
        of = refs(call.args) + refs(call.kw)
        made = not self.drew and (
            not of or (name in ("from_host", "from_device") and self.values[of[0]].made))
        call.out = self.results(result, len(self.calls), made)
        self.calls.append(call)
        self.refresh(call)
        return result

    def heard(self, spec: Spec, real: Any, skip: int) -> Any:
        """In the place of an implementation that entries call."""
        name, sized = spec.name, spec.name in _SIZED

        def call(*args: Any, **kw: Any) -> Any:
            if self.idle():
                return real(*args, **kw)
            if sized:
                self.refuse(f"{name}() gives a tensor whose size depends on elements")
                return real(*args, **kw)
            return self.hear(name, real, args, kw, True, skip)
        return call

    def raw_level(self, raw: Any) -> Any:
        """The ops on raw arrays, for backward: each recorded, but for those made of others."""
        level = RawLevel()

        def recorded(name: str, f: Any) -> Any:
            def call(*args: Any, **kw: Any) -> Any:
                return f(*args, **kw) if self.idle() else self.hear(name, f, args, kw)
            return call
        for name, f in vars(raw).items():
            if name in SPECS or name == "reshape":
                setattr(level, name, recorded(name, f))
            else:                                # a composite, made of ops: see autograd/op.py
                setattr(level, name, functools.partial(f.func, level))
        return level

    # What is told, or found out, besides ---------------------------------------------------------

    def converted(self, a: Any, result: Any) -> Any:
        if not self.idle() and is_array(a) and not isinstance(a, np.generic):
            call = Call("to", type(a).astype, (self.ref(a), result.dtype), {})
            call.out = self.add(result, len(self.calls))
            self.calls.append(call)
        return result

    def wrote(self, a: Any, result: Any) -> None:
        if not self.idle():
            value, was = self.find(a), None
            if value is not None:                # it has been written by now
                was, value.digest = value.digest, digest(a)
            call = Call("copy", put, (self.ref(a), self.tree(result)), {})
            if value is not None:
                value.digest = was
            self.calls.append(call)
            self.refresh(call)

    def created(self, a: Any) -> None:
        if not self.idle() and not isinstance(a, np.generic) and id(a) not in self.numbers:
            call = Call("tensor", duplicate, (duplicate(a),), {})
            call.out = self.add(a, len(self.calls), made=True)
            self.calls.append(call)

    def sized_by(self, a: Any) -> None:
        if not self.idle():
            self.refuse("an index of booleans, or nonzero(), gives a tensor whose size depends on "
                        "elements: use torch.where() or masked_fill()")

    def drawn(self) -> None:
        """What the last call made is random."""
        for number in refs(self.calls[-1].out):
            self.values[number].made = False

    def whole(self, method: Callable[..., Any], args: Any, kw: dict[str, Any]) -> Any:
        if self.idle():
            return method(*args, **kw)
        if any([isinstance(x, Tensor) for x in (*args, *kw.values())]):
            self.refuse(f"{method.__qualname__}() is given a tensor, which it reads")
        self.sync_grads()
        self.check_options()
        call = Call(method.__qualname__, method, args, kw)
        call.whole = True
        before = {key: t._ver[0] for key, (t, _) in self.versions.items()}
        with self.within():
            result = method(*args, **kw)
        for key, (t, _) in self.versions.items():
            self.bumped[key] = self.bumped.get(key, 0) + t._ver[0] - before[key]
        self.calls.append(call)
        for x in (args[0], *[x for x, _ in self.options.values()]):
            self.options[id(x)] = x, options(x)
        held = {id(g._a) for _, g in self.grads.values() if g is not None}
        self.rewritten([v for v in self.values if v.call is None or id(v.a) in held])
        return result

    def finish(self, result: Any) -> None:
        """The call returned this. Has anything been written behind the recorder's back?"""
        self.sync_grads()
        self.check_options()
        self.tree(result)
        for value in self.values:
            if not self.why and digest(value.a) != value.digest:
                self.refuse("a tensor was written in a way that recordings don't follow: write it "
                            "as an operation on tensors")

    def let_go(self) -> None:
        """Keep only what a comparison with another recording needs."""
        kept = set(self.outside)
        for i, value in enumerate(self.values):
            if i not in kept:
                value.a = None
        self.numbers = {}

    def check_options(self) -> None:
        """Has anything but an update set an option of an optimizer?"""
        for x, known in self.options.values():
            if options(x) != known:
                self.refuse("an option of an optimizer, such as its learning rate, is set in the "
                            "step, which a replay wouldn't do: set it outside, or use a schedule")

    # Gradients -----------------------------------------------------------------------------------

    def know_leaf(self, x: Tensor) -> None:
        if id(x) not in self.grads:
            g = getattr(x, "_grad", None)
            self.grads[id(x)], self.before[id(x)] = (x, g), g
            if g is not None:
                self.add(g._a, None, leaf=x)

    def sync_grads(self) -> None:
        """Note which leaves have got another gradient since the last time."""
        for key, (x, known) in self.grads.items():
            g = getattr(x, "_grad", None)
            if g is not known:
                self.calls.append(SetGrad(x, None if g is None else self.ref(g._a)))
                self.grads[key] = (x, g)

    def add_gradient(self, node: AccumulateGrad, g: Any, owned: bool, graph: bool) -> None:
        """In the place of AccumulateGrad.add."""
        if self.idle():
            return _add(node, g, owned, graph)
        x = node.variable
        have = getattr(x, "_grad", None)
        if graph:
            self.refuse("backward(create_graph=True) gives gradients that have a graph: use "
                        "torch.autograd.grad()")
            return _add(node, g, owned, graph)
        inside = self.find(x._a)
        if inside is not None and inside.call is not None:
            pass                                 # a leaf that the step has made, and forgets
        elif id(x) not in self.grads:            # the gradient that was there is from outside
            self.grads[id(x)], self.before[id(x)] = (x, have), have
        if have is not None:
            args = have._a, self.ref(g)
            call = Call("add", self.functions[node.be][0].add, (self.ref(have._a), args[1]),
                        {"out": self.ref(have._a)})
            with self.within():
                _add(node, g, owned, graph)
            self.calls.append(call)
            self.refresh(call)
            return None
        refs = self.ref(x._a), self.ref(g)
        with self.within():
            _add(node, g, owned, graph)
        if x._grad._a is not g:
            kept = owned and node.fits(g, x._a)  # a number, as an array
            call = Call("asarray", np.asarray, (refs[1],), {}) if kept else \
                Call("copy", accumulate_copy, refs, {})
            call.out = self.add(x._grad._a, len(self.calls))
            self.calls.append(call)
        return None

    def deliver(self, edge: Any, g: Any, owned: bool, graph: bool, heap: Any,
                pending: Any) -> None:
        """In the place of engine.deliver: a sum of gradients is a call."""
        node, i = edge[:2]
        slot = pending.get(node.key)
        had = None if slot is None else slot[1] if node.n_out == 1 else slot[1][i]
        if self.idle() or graph or had is None:
            return _deliver(edge, g, owned, graph, heap, pending)
        inplace = node.n_out == 1 and slot[2]
        f = operator.iadd if inplace else \
            self.functions[node.be][0].add if node.be.index else operator.add
        total = self.hear("add", f, (had, g), {})
        # None for g's: the real one has only to put the sum in its place
        if node.n_out == 1:
            slot[1], slot[2] = total, True
        else:
            slot[1][i] = total
        return None

    def sweep(self, *args: Any) -> None:
        """In the place of engine.run."""
        self.swept = self.swept or not self.idle()
        _run(*args)

    # Around a run --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def listen(self) -> Iterator[None]:
        """Hear all that this thread does. All ops are loaded, lest a level miss one later.

        ``young``, then: the tensors that are new. The garbage collector waits until the end.
        """
        with hearing(self, list(load().values()), self.heard, True), \
                contextlib.ExitStack() as stack:
            self.functions = {be: (be.xp, Functions(self, be.xp)) for be in (cpu, *devices())}
            for owner, name, other in self.replacements():
                stack.callback(_restore(owner, name))
                setattr(owner, name, other)
            if gc.isenabled():
                stack.callback(gc.enable)
                gc.disable()
            yield
            self.young = [t for t in gc.get_objects(generation=0) if isinstance(t, Tensor)]

    def replacements(self) -> Iterator[tuple[Any, str, Any]]:
        for be, (_, heard) in self.functions.items():
            yield be, "raw", self.raw_level(be.raw)
            yield be, "xp", heard
            yield be, "generator", Draws(self, be.generator, _DRAWS)
            for name in _MAKERS:
                if name != "from_device" or be is not cpu:
                    yield be, name, self.maker(name, getattr(be, name))
            for name in _READERS:
                yield be, name, self.reader(getattr(be, name))
            if be is not cpu:
                yield be, "scalar", self.quiet(be.scalar)
        for name in _TOGETHER:
            yield gradients, name, self.maker(name, getattr(gradients, name))
        for kind in (CPUGenerator, CudaGenerator):
            for name in ("manual_seed", "set_state"):
                yield kind, name, self.forbidden(getattr(kind, name), "the state of a random "
                                                 "generator is set")
        yield AccumulateGrad, "add", lambda node, *args: self.add_gradient(node, *args)
        yield engine, "deliver", self.deliver
        yield engine, "run", self.sweep
        modules = sys.modules.get("gpugrad.nn.modules.module")
        if modules is not None:
            call = modules.Module.__call__

            def called(module: Any, *args: Any, **kw: Any) -> Any:
                if not self.idle():
                    self.modules.setdefault(id(module), module)
                return call(module, *args, **kw)
            yield modules.Module, "__call__", called

    def maker(self, name: str, real: Any) -> Any:
        def call(*args: Any, **kw: Any) -> Any:
            if self.idle():
                return real(*args, **kw)
            result = self.hear(name, real, args, kw)
            if result is NotImplemented:         # nothing was done
                self.calls.pop()
            return result
        return call

    def quiet(self, real: Any) -> Any:
        """A call that makes a constant."""
        def call(*args: Any, **kw: Any) -> Any:
            if self.idle():
                return real(*args, **kw)
            with self.within():
                return real(*args, **kw)
        return call

    def reader(self, real: Any) -> Any:
        def call(a: Any, *args: Any, **kw: Any) -> Any:
            if not self.idle():
                value = self.find(a)
                if value is None or not value.made:
                    self.refuse("a value is read by the host (item(), print, if, numpy())")
            return real(a, *args, **kw)
        return call

    def forbidden(self, real: Any, why: str) -> Any:
        def call(*args: Any, **kw: Any) -> Any:
            if not self.idle():
                self.refuse(why)
            return real(*args, **kw)
        return call


_add = AccumulateGrad.add
_deliver, _run = engine.deliver, engine.run


def _restore(owner: Any, name: str) -> Callable[[], None]:
    """What puts an attribute back, or takes it away again."""
    if name not in vars(owner):
        return lambda: delattr(owner, name)
    was = vars(owner)[name]
    return lambda: setattr(owner, name, was)


def options(holder: Any) -> list[Any]:
    """The plain options of an optimizer's groups."""
    groups = getattr(holder, "param_groups", None) or getattr(holder, "optimizer", None)
    groups = getattr(groups, "param_groups", groups)
    if not isinstance(groups, list):
        return []
    return [[(k, v) for k, v in group.items() if isinstance(v, bool | int | float | str | tuple)]
            for group in groups]


def refs(tree: Any) -> list[int]:
    """The numbers of the values in arguments."""
    if type(tree) is Ref:
        return [tree.number]
    if isinstance(tree, tuple | list):
        return [n for x in tree for n in refs(x)]
    if type(tree) is dict:
        return [n for x in tree.values() for n in refs(x)]
    return []
