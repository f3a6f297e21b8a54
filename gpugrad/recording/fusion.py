"""Rules that put one call in the place of several in a recorded step on CUDA: the same numbers, bit
for bit, from fewer launches and fewer walks over memory (gpugrad/ops/fused.py has the calls).

A rule looks for an op and for what is done with its result, and applies only if it can see that
nothing else is: every value that a later call, a gradient or a result of the step needs is still
made, calls that write stay in their order, and nothing is read after somebody has written it. What
the recorder knows of writes (``Value.written``, by elements) is what this rests on.
"""
from __future__ import annotations

import functools
import operator
from bisect import insort
from typing import Any

import numpy as np

from gpugrad.autograd.op import SPECS
from gpugrad.backend.base import Backend
from gpugrad.backend.random import PhiloxGenerator
from gpugrad.layouts import is_last
from gpugrad.ops import fused
from gpugrad.recording.arrays import bounds, home, put
from gpugrad.recording.recorder import Call, Recorder, Ref, SetGrad, refs


def fuse(recorder: Recorder, wanted: set[int]) -> int:
    """Rewrite recorder.calls in place, after two recordings have been compared and before a program
    is made of one. Returns how many calls are gone.

    wanted: the numbers of the values that the step returns.
    """
    before = len(recorder.calls)
    rules = Rules(recorder, wanted)
    for rule in (rules.batch_norm, rules.in_place, rules.batch_norm_backward, rules.dropout,
                 rules.norm, rules.norm_backward):
        for i, call in enumerate(list(rules.calls)):
            if type(call) is Call and rules.calls[i] is call:
                rule(i, call)
    rules.settle()
    return before - len(recorder.calls)


def is_pure(call: Call) -> bool:
    """Does a call write to nothing that it is given, unless that is its result, too?"""
    f = call.f.func if type(call.f) is functools.partial else call.f
    spec = SPECS.get(call.name)
    return type(f).__name__ == "ufunc" or (spec is not None and f in spec.impl) or call.name in (
        "reshape", "view") or f is operator.add or f in vars(fused).values()


def operands(call: Call) -> tuple[Any, ...]:
    """The arguments of a call without the backend, which implementations get first."""
    args: tuple[Any, ...] = call.args
    return args[1:] if args and isinstance(args[0], Backend) else args


class Rules:
    """The calls of a recording, who uses which value, and the rules, by the op that they begin at.
    """

    def __init__(self, recorder: Recorder, wanted: set[int]) -> None:
        self.values, self.recorder = recorder.values, recorder
        self.wanted = wanted
        self.calls: list[Any] = list(recorder.calls)     # None where one is gone
        self.uses: dict[int, list[int]] = {}             # of each value, the calls in their order
        for i, call in enumerate(self.calls):
            for n in self.read_by(call):
                insort(self.uses.setdefault(n, []), i)
        self.memory: dict[int, tuple[int, int]] = {}     # where values lie
        # Of (x, mean, 1 / std): the call of a batch norm with ReLU, what it makes, its bias, and
        # whether nothing was added
        self.normed: dict[tuple[int, ...], tuple[int, int, Any, bool]] = {}

    # What is known -------------------------------------------------------------------------------

    def read_by(self, call: Any) -> set[int]:
        if call is None:
            return set()
        return set(refs(call.value) if type(call) is SetGrad else refs(call.args) + refs(call.kw))

    def users(self, n: int) -> list[int]:
        return self.uses.get(n, [])

    def only(self, n: int, user: int) -> bool:
        """Is one call all that needs a value?"""
        return self.users(n) == [user] and n not in self.wanted

    def a(self, ref: Any) -> Any:
        return self.values[ref.number].a

    def shares(self, n: int, ref: Ref) -> bool:
        """May two values have memory in common?"""
        for k in (n, ref.number):
            if k not in self.memory:
                a = self.values[k].a
                self.memory[k] = bounds(a) if a is not None and a.size else (0, 0)
        (low, high), (start, end) = self.memory[n], self.memory[ref.number]
        return low < end and start < high

    def made_before(self, ref: Any, i: int) -> bool:
        call = self.values[ref.number].call
        return call is None or call < i

    def maker(self, ref: Any, name: str) -> int:
        """The number of the call of an op that made a value; -1 if it was another op."""
        i = self.values[ref.number].call
        call = None if i is None else self.calls[i]
        return i if type(call) is Call and call.name == name else -1

    def writes(self, call: Any) -> bool:
        """May a call write to what it is given?"""
        if type(call) is not Call:
            return False
        given = refs(call.args) + refs(call.kw)
        return call.whole or call.f is put or "out" in call.kw or any(
            [n in given for n in refs(call.out)]) or not is_pure(call)

    def steady(self, start: int, end: int, *found: Any) -> bool:
        """Are values, Refs or None, as they were while the calls between these two are made?"""
        changing = [r for r in found if type(r) is Ref and self.values[r.number].written]
        for call in self.calls[start + 1:end] if changing else ():
            if self.writes(call) and (call.whole or any(
                    [self.shares(n, r) for n in self.read_by(call) for r in changing])):
                return False
        return True

    def untouched(self, start: int, end: int, ref: Any, but: tuple[int, ...] = ()) -> bool:
        """Does no call between these two use the memory of a value, but for some? (Updates do what
        they do to what is from outside, and to gradients.)"""
        own = self.values[ref.number].call is not None
        for j in range(start + 1, end):
            call = self.calls[j]
            if j not in but and call is not None and (
                    (not own and getattr(call, "whole", False))
                    or any([self.shares(n, ref) for n in self.read_by(call)])):
                return False
        return True

    def alike(self, first: Any, *others: Any) -> bool:
        """Are they arrays of one shape, dtype and order in memory, in C order or channels_last,
        that kernels take?"""
        if any([type(r) is not Ref for r in (first, *others)]):
            return False
        a = self.a(first)
        return bool(home(a).takes(a.dtype) and a.size and (a.flags.c_contiguous or is_last(a))
                    and all([b.shape == a.shape and b.dtype == a.dtype and b.strides == a.strides
                             for b in map(self.a, others)]))

    def sum_of(self, i: int) -> tuple[Any, Any, Any] | None:
        """(a, b, their sum) if call i adds two arrays; the sum may be where one of them was."""
        call = self.calls[i] if i >= 0 else None
        if type(call) is not Call or call.name != "add" or call.kw.keys() - {"out"}:
            return None
        given = operands(call)
        if not 2 <= len(given) <= 3 or any([type(r) is not Ref for r in (*given, call.out)]):
            return None
        a, b, total = *given[:2], call.out
        return (a, b, total) if total in (a, b) or self.values[total.number].call == i else None

    # Rewriting -----------------------------------------------------------------------------------

    def set(self, i: int, call: Any) -> None:
        """Put another call, or None, in the place of one."""
        for n in self.read_by(self.calls[i]):
            self.uses[n].remove(i)
        self.calls[i] = call
        for n in self.read_by(call):
            insort(self.uses.setdefault(n, []), i)

    def put(self, i: int, f: Any, args: tuple[Any, ...], out: Any, /, **kw: Any) -> None:
        """One of fused.py's functions in the place of call i; the values of ``out`` are its own."""
        old = self.calls[i]
        first = self.a(args[0])
        be = home(first)
        fused.prepare(be, f.__name__, first)
        call = Call(f.__name__, functools.partial(f, be), args, kw)
        call.line, call.out = old.line, out
        self.set(i, call)
        given = refs(args)
        for n in refs(out):
            if n not in given:
                self.values[n].call = i

    def drop(self, *calls: int) -> None:
        for i in calls:
            self.set(i, None)

    def settle(self) -> None:
        """Give the recorder the calls that are left."""
        at: dict[int, int] = {}
        left: list[Any] = []
        for i, call in enumerate(self.calls):
            at[i] = len(left)                    # of one that is gone: the next one's
            if call is not None:
                left.append(call)
        for value in self.values:
            if value.call is not None:
                value.call = min(at[value.call], len(left) - 1)
        self.recorder.calls[:] = left

    # In place ------------------------------------------------------------------------------------

    def rewritten(self, n: int, z: int, i: int) -> int | None:
        """The call that does nothing but to copy z, made by call i, to value n, if n is used
        nowhere between: what x.relu_() is."""
        users = self.users(z)
        if len(users) != 1 or z in self.wanted:
            return None
        copy = self.calls[users[0]]
        if type(copy) is not Call or copy.f is not put or copy.args != (Ref(n), Ref(z)):
            return None
        if [j for j in self.users(n) if i < j < users[0]]:
            return None
        a, b = self.values[n].a, self.values[z].a
        return users[0] if (a.shape, a.dtype, a.strides) == (b.shape, b.dtype, b.strides) else None

    def in_place(self, i: int, call: Call) -> None:
        """x = f(x); x[...] = that: later calls take the result itself, if x is the step's own."""
        if call.f is not put or type(call.args[0]) is not Ref or type(call.args[1]) is not Ref:
            return
        x, z = (r.number for r in call.args)
        made, value = self.values[z].call, self.values[x]
        if made is None or value.call is None or value.leaf is not None or x in self.wanted \
                or self.rewritten(x, z, made) != i:
            return
        later = [j for j in self.users(x) if j > i]
        if any([type(self.calls[j]) is SetGrad for j in later]):
            return
        read = {n for c in self.calls[i + 1:] for n in self.read_by(c)} | self.wanted
        if any([n not in (x, z) and self.shares(n, Ref(x)) for n in read]):
            return                               # a view of x, which would miss the change
        self.drop(i)
        for j in later:
            old = self.calls[j]
            new = Call(old.name, old.f, _renamed(old.args, x, z), _renamed(old.kw, x, z))
            new.out, new.as_array, new.line = _renamed(old.out, x, z), old.as_array, old.line
            self.set(j, new)
        self.values[z].written = value.written

    # Batch norm ----------------------------------------------------------------------------------

    def batch_norm(self, i: int, call: Call) -> None:
        """batch_norm, add, relu. In training the running statistics are moved then."""
        if call.name != "batch_norm":
            return
        given: list[Any] = [*operands(call), None, None, None, None]
        x, weight, bias, *running = given[:5]
        y, mean, r = call.out
        found = self.normalised(i, x, y)
        if not found:
            return
        at, final, residual, gone = found
        moving = call.kw.get("out", ())
        if not self.steady(i, at, x, weight, bias, *running) or \
                not all([self.untouched(i, at, one) for one in moving]) or \
                any([j <= at for n in (mean, r) for j in self.users(n.number)]):
            return
        if call.kw.get("training", True):
            self.normed[x.number, mean.number, r.number] = (at, final.number, bias,
                                                            residual is None)
        self.put(at, fused.batch_norm_relu, (x, residual, weight, bias, *running),
                 (final, mean, r), **call.kw)
        self.drop(i, *gone)

    def normalised(self, i: int, x: Ref, y: Ref) -> Any:
        """(the call of relu, what it makes, what is added before, the other calls that go) where
        y, the result of a batch norm of x, is only used so; or None."""
        users = self.users(y.number)
        if not users or not self.alike(x, y):
            return None
        added, last, residual, gone = self.sum_of(users[0]), y, None, []
        if added:
            a, b, last = added
            residual = b if a == y else a
            if a == b or not self.alike(y, residual, last) or last == residual:
                return None
            if last != y and not self.only(y.number, users[0]):
                return None
            gone.append(users[0])
            users = users[1:] if last == y else self.users(last.number)
        relu = self.calls[users[0]] if users else None
        if type(relu) is not Call or relu.name != "relu" or type(relu.out) is not Ref:
            return None
        at, z = users[0], relu.out
        if not self.alike(y, z) or z == last or (gone and not self.steady(gone[0], at, residual)):
            return None
        copy = self.rewritten(last.number, z.number, at)
        if copy is None:
            return (at, z, residual, gone) if self.only(last.number, at) or (
                last == y and gone and users == [at] and y.number not in self.wanted) else None
        return at, last, residual, [*gone, copy]

    def batch_norm_backward(self, i: int, call: Call) -> None:
        """threshold_backward, of a sum perhaps, and batch_norm_backward."""
        if call.name != "batch_norm_backward":
            return
        t, x, weight, mean, r = operands(call)
        at = self.maker(t, "threshold_backward")
        if at < 0 or self.users(t.number)[0] != i or not self.alike(t, x):
            return
        through = self.calls[at]
        g, y = operands(through)
        if through.kw.get("threshold", 0) or not self.alike(t, g, y) or not self.steady(
                at, i, g, y):
            return
        training = call.kw["training"]
        known = self.normed.get((x.number, mean.number, r.number))
        plain, more, gone = self.only(t.number, i), None, [at]
        also = self.summed(g, at)
        a, b, _ = self.sum_of(also) or (None, None, None)
        if a is not None and self.alike(t, a, b) and self.steady(also, i, a, b):
            g, more = a, b
            gone.append(also)
        if plain and more is None and known and known[1] == y.number and known[3] and \
                self.steady(known[0], i, known[2], x, weight, mean, r):
            self.put(i, fused.batch_norm_relu_backward, (g, x, weight, known[2], mean, r),
                     call.out, training=training)
        else:
            self.put(i, fused.relu_batch_norm_backward, (g, more, y, x, weight, mean, r),
                     (t, *call.out), training=training)
        self.drop(*gone)

    def summed(self, g: Ref, user: int) -> int:
        """The call that made g of two gradients, if only one call takes it; else -1."""
        users = self.users(g.number)
        if g.number in self.wanted or users[-1] != user:
            return -1
        i = self.maker(g, "add") if len(users) == 1 else users[-2]      # anew, or in place
        added = self.sum_of(i)
        if not added or added[2] != g or added[0] == added[1]:
            return -1
        return i if len(users) == 1 or (self.calls[i].f is operator.iadd and added[0] == g
                                        and self.untouched(i, len(self.calls), g, (user,))) else -1

    # Dropout -------------------------------------------------------------------------------------

    def dropout(self, i: int, call: Call) -> None:
        """bernoulli, native_dropout, and perhaps add."""
        if call.name != "native_dropout" or type(operands(call)[1]) is not Ref:
            return
        x, mask = operands(call)
        at, y = self.maker(mask, "bernoulli"), call.out
        if at < 0 or self.users(mask.number)[0] != i or not self.alike(x, y) or \
                not self.a(x).flags.c_contiguous or self.a(mask).shape != self.a(x).shape or \
                any(self.calls[at + 1:i]):       # which might draw
            return
        source, total, more = self.calls[at].f.__self__, y, None
        if not isinstance(source, PhiloxGenerator) or len(self.calls[at].args) != 2:
            return
        users = self.users(y.number)
        added = self.sum_of(users[0]) if len(users) == 1 and y.number not in self.wanted else None
        if added and added[0] != added[1] and added[2] not in added[:2]:
            other = added[1] if added[0] == y else added[0]
            if self.alike(x, other, added[2]) and self.made_before(other, i) and \
                    self.steady(i, users[0], other):
                total, more = added[2], other
                self.drop(users[0])
        keep = self.calls[at].args[0]
        self.drop(at)
        self.put(i, fused.dropout, (x, more, source), (total, mask), keep=keep, **call.kw)

    # Layer norm and RMS norm ---------------------------------------------------------------------

    def norm(self, i: int, call: Call) -> None:
        """add, layer_norm or rms_norm."""
        if call.name not in ("layer_norm", "rms_norm"):
            return
        x, *parameters = operands(call)
        at = self.maker(x, "add")
        added = self.sum_of(at)
        if not added or added[2] in added[:2] or not self.alike(x, *added[:2]) or \
                not self.takes_rows(x, call) or not self.steady(at, i, x, *parameters) or \
                not all([p is None or self.made_before(p, at) for p in parameters]):
            return
        layer = call.name == "layer_norm"
        given = (*parameters, None, None)[:1 + layer]
        out, kw = call.out, call.kw if "eps" in call.kw or not layer else {**call.kw, "eps": 1e-5}
        self.put(at, fused.add_layer_norm if layer else fused.add_rms_norm,
                 (*added[:2], *given), (x, *out), **kw)
        self.drop(i)

    def takes_rows(self, x: Ref, call: Call) -> bool:
        a = self.a(x)
        return bool(a.flags.c_contiguous and np.prod(a.shape[a.ndim - call.kw["ndim"]:]) < 1 << 30)

    def norm_backward(self, i: int, call: Call) -> None:
        """layer_norm_backward or rms_norm_backward, add: what a residual's gradient is."""
        if call.name not in ("layer_norm_backward", "rms_norm_backward"):
            return
        g, x = operands(call)[:2]
        gx = call.out[0]
        users = self.users(gx.number) if type(gx) is Ref else []
        added = self.sum_of(users[0]) if len(users) == 1 and gx.number not in self.wanted else None
        if not added or added[1] != gx or added[0] == gx:
            return
        more, _, total = added
        inplace = total == more
        if not self.alike(x, g, gx, more, total) or not self.takes_rows(x, call) or \
                not self.made_before(more, i) or (
                    not self.untouched(i, users[0], more) if inplace
                    else not self.steady(i, users[0], more)):
            return
        f = fused.layer_norm_backward_add if call.name[0] == "l" else fused.rms_norm_backward_add
        self.drop(users[0])
        self.put(i, f, (more, *operands(call)), (total, *call.out[1:]), **call.kw, inplace=inplace)


def _renamed(x: Any, n: int, other: int) -> Any:
    """Arguments with one value in the place of another."""
    if type(x) is Ref:
        return Ref(other) if x.number == n else x
    if isinstance(x, tuple | list):
        return type(x)([_renamed(v, n, other) for v in x])
    if type(x) is dict:
        return {k: _renamed(v, n, other) for k, v in x.items()}
    return x
