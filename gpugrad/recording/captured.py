"""A recorded step on a CUDA device: the program, run once while it is captured, as a CUDA graph.

The calls are those of the CPU's program. They are run once, as a generator, between the beginning
and the end of a capture; from then on a call of the step looks whether all is as it was, copies its
arguments to where the graph reads them, lets the host do its part of the updates, launches the
graph, and copies results out. Updates that a graph can't hold (optimizers of users, schedules) are
called by the host, between one graph and the next.
"""
from __future__ import annotations

import bisect
import contextlib
import itertools
import operator
import threading
import traceback
import weakref
from typing import Any

import numpy as np

from gpugrad._tensor import wrap
from gpugrad.amp.grad_scaler import GradScaler, OptState, _fresh
from gpugrad.autograd.listening import one_at_a_time
from gpugrad.backend.cuda import on_device
from gpugrad.optim import live
from gpugrad.recording.arrays import alike, bounds, copied, home, share
from gpugrad.recording.program import MISS, Builder, Text, Unfit
from gpugrad.recording.recorder import Call, Ref, SetGrad, refs

_hooks, _post, _gradient = map(operator.attrgetter, ("_hooks", "_post", "_grad"))
_NONES = itertools.repeat(None)
_MOVES = 4              # how often a graph is captured again because arrays have moved


class Captured(Builder):
    """Writes two texts: the calls, to be captured, and the program around the graphs."""

    def made(self, checks: list[Any]) -> Any:
        r = self.r
        self.be = self.device()
        self.inside = self.held_by_graphs()
        self.read_gradients()
        slots = [n for n in range(len(r.inputs)) if n in self.last] + \
            [n for n, v in enumerate(r.values) if v.leaf is not None and n in self.last]
        given = [id(x) for x in r.inputs]
        leaves = {id(x): x for x, _ in r.grads.values() if id(x) not in given}
        # Gradients of arguments are results: the next call has other arguments.
        loose = [c.value.number for c in r.calls if type(c) is SetGrad and id(c.leaf) in given
                 and c.value is not None]
        self.copies = list(dict.fromkeys(
            [n for n in [*(self.results_copied()), *loose] if self.name(n) == f"v{n}"
             and r.values[n].leaf is None]))
        body = self.body(slots, leaves)
        host = [(c.f, c.args, c.kw) for c in [r.calls[i] for i in self.apart]]
        launch = Launch(self.be, body, self.lines, [r.values[n] for n in slots],
                        list(zip(self.filled, [*host, None])), list(leaves.values()),
                        self.written_outside())
        if not launch.apart([r.values[n].a for n in slots]):
            raise Unfit("an argument shares memory with a tensor that the step writes to")
        self.look([*checks, *self.absent, *self.look_at_gradients()])
        for x in self.others:
            self.look_at_gradient(x)
        names = [self.name(n) for n in slots]
        self.out(f"made = {self.out.constant(launch)}({', '.join(names)})")
        self.out(f"if made is {self.out.constant(MISS)}: return made")
        if self.copies:
            self.out("".join([f"v{n}, " for n in self.copies]) + "= made")
        for call in r.calls:
            if type(call) is SetGrad and id(call.leaf) in given:
                self.out(f"{self.tensor(call.leaf)}._grad = {self.wrapped(call.value)}")
        self.bump_versions()
        self.out("return " + self.returned(self.result))
        step = self.out.compiled(", ".join([f"a{i}" for i in range(len(self.arguments))]))
        step.launch = launch
        return step

    def device(self) -> Any:
        """The one that all is on; Unfit if there are others."""
        r, found = self.r, None
        for n, v in enumerate(r.values):
            if n in self.fixed and not self.used_as_is(n):
                continue
            be = home(v.a)
            if not be.index:
                if n in self.last or v.call is not None:
                    i: Any = self.last.get(n, v.call)
                    raise Unfit("a tensor on the CPU is used beside CUDA ones, at "
                                f"{r.calls[i].line}: "
                                "move it to the device before the step")
                continue
            if found not in (None, be):
                raise Unfit(f"tensors of {found.name} and {be.name} are used in one step")
            found = be
        return found

    def used_as_is(self, n: int) -> bool:
        """Does a call that is made again read a constant?"""
        return any([n in refs(c.args) + refs(c.kw) for c in self.r.calls if type(c) is Call
                    and not self.is_folded(c)])

    def is_folded(self, call: Any) -> bool:
        """Is what a call makes a constant?"""
        return type(call.out) is Ref and call.out.number in self.fixed

    # Updates -------------------------------------------------------------------------------------

    def held_by_graphs(self) -> set[int]:
        """Which updates are captured; the host makes the others."""
        calls = self.r.calls
        whole = [i for i, c in enumerate(calls) if type(c) is Call and c.whole]
        fit: dict[int, bool] = {}
        for i in whole:
            who, name = calls[i].args[0], calls[i].f.__name__
            if type(who) is GradScaler:
                others = calls[i].args[1:]
                good = not calls[i].kw and (
                    not others if name == "update" else len(others) == 1
                    and live.capturable(others[0], self.be)
                    and others[0]._step_supports_amp_scaling)
            else:
                good = name == "step" and len(calls[i].args) == 1 and not calls[i].kw and \
                    live.capturable(who, self.be)
            fit[id(who)] = fit.get(id(who), True) and good
        return {i for i in whole if fit[id(calls[i].args[0])]}

    def read_gradients(self) -> None:
        """Gradients that captured updates read are arguments of the graph, unless the step makes
        them."""
        r = self.r
        set_here = {id(c.leaf) for c in r.calls if type(c) is SetGrad}
        self.absent = []
        for i in sorted(self.inside):
            who = r.calls[i].args[-1]
            for p in [p for g in getattr(who, "param_groups", ()) for p in g["params"]]:
                if id(p) in set_here:
                    continue
                n = next((n for n, v in enumerate(r.values) if v.leaf is p), None)
                if n is not None:
                    self.last[n] = max(i, self.last.get(n, 0))
                elif getattr(p, "_grad", None) is None:
                    self.absent.append(("getattr({}, '_grad', None) is None", p))
                else:
                    raise Unfit("an optimizer in the step takes gradients that were made outside "
                                "of it")

    def look_at_gradients(self) -> list[Any]:
        """As look_at_gradient, for all leaves; checks of those that have a gradient, together."""
        r, given = self.r, {id(a) for a in self.arguments}
        used = {id(v.leaf) for n, v in enumerate(r.values) if v.leaf is not None and n in self.last}
        mine = [x for x, _ in r.grads.values() if id(x._a) in r.numbers]
        there = tuple([x for x in mine if r.before[id(x)] is not None
                       and id(x) not in given and id(x) not in used])
        known = set(map(id, there))
        self.others = [x for x in mine if id(x) not in known]
        return [("not any(map({}, {}))", _hooks, there), ("not any(map({}, {}))", _post, there),
                ("all(map({}, map({}, {}), {}))", operator.is_not, _gradient, there, _NONES)]

    def written_outside(self) -> list[Any]:
        """The arrays from outside, but for gradients, that the graphs write to."""
        r = self.r
        found = {id(r.values[n].a): r.values[n].a for n in r.outside if r.values[n].written}
        for i in self.inside:
            for group in getattr(r.calls[i].args[-1], "param_groups", ()):
                found |= {id(p._a): p._a for p in group["params"]}
        return list(found.values())

    # The calls -----------------------------------------------------------------------------------

    def results_copied(self) -> list[int]:
        """The values that are returned."""
        r = self.r
        gradients = [g for _, g in r.grads.values() if g is not None]
        found = []
        for t in self.results:
            n = r.numbers.get(id(t._a))
            if n is None or any([t is g for g in gradients]):
                continue
            if any([share(t._a, g._a) for g in gradients]):
                raise Unfit("the step returns a view of a gradient: return a clone()")
            found.append(n)
        return found

    def body(self, slots: list[int], leaves: dict[int, Any]) -> Any:
        """The calls as a generator, which stops where the host has something to do between them."""
        outer, self.out = self.out, Text()
        self.wanted = {*self.wanted, *self.copies}
        self.apart: list[int] = []               # what the host calls
        self.filled = [False]                    # has a graph before, between or after it any work?
        self.lines: dict[int, str] = {}
        r, out = self.r, self.out
        ends: dict[int, list[int]] = {}
        for n, i in self.last.items():
            ends.setdefault(i, []).append(n)
        for i, call in enumerate(r.calls):
            self.lines[len(out.lines)] = call.line
            if type(call) is SetGrad:
                if id(call.leaf) in leaves:
                    out(f"{out.constant(call.leaf)}._grad = {self.wrapped(call.value)}")
            elif call.whole and i not in self.inside:
                self.apart.append(i)
                self.filled.append(False)
                out("yield")
                continue
            elif call.whole:
                if type(call.args[0]) is GradScaler:
                    out(f"scaler({out.constant(call.args[0])})")
                out(self.line(call, i))
            elif not self.is_folded(call):
                out(self.line(call, i))
                ends.setdefault(i, []).extend([n for n in refs(call.out) if n not in self.last
                                               and r.values[n].call == i])
            self.filled[-1] = True
            dead = [f"v{n}" for n in ends.get(i, ()) if self.name(n) == f"v{n}"
                    and n not in self.wanted and r.values[n].leaf is None]
            if dead:
                out(" = ".join([*dead, "None"]))
        out("if 0: yield")
        out("return [" + ", ".join([f"v{n}" for n in self.copies]) + "]")
        names = [self.name(n) for n in slots]
        made = out.compiled(", ".join(["scaler", *names]))
        self.out = outer
        return made


class Launch:
    """The graphs of a program, with the memory that they read and write; called with the arrays of
    its arguments, and of gradients that were there before. Returns copies of the results, or MISS.

    ``why``: why nothing could be captured.
    """

    def __init__(self, be: Any, body: Any, lines: dict[int, str], slots: list[Any],
                 plan: list[Any], leaves: list[Any], written: list[Any]) -> None:
        self.be, self.body, self.lines, self.plan, self.leaves = be, body, lines, plan, leaves
        self.slots = [(v.leaf, v.written or v.leaf is not None) for v in slots]
        self.seen: list[Any] = [weakref.ref(v.a) for v in slots]
        self.repeated = [1] * len(slots)
        self.why, self.moves = "", 0
        self.starts, self.ends = joined([bounds(a) for a in written if a.size])
        self.lock = threading.RLock()
        self.graphs: Graphs | None = None

    def __call__(self, *arrays: Any) -> Any:
        with self.lock:
            if self.why or self.be.capturing:
                return MISS
            be = self.be
            return on_device(be.cupy.cuda.runtime, be.id, self.run, (arrays,), {})

    def run(self, arrays: Any) -> Any:
        if self.graphs is None or not self.in_place(arrays):
            if not self.apart(arrays):
                return MISS
            self.graphs = None
            try:
                self.graphs = self.captured(arrays)
            except Exception as error:
                self.why = f"{self.at(error)}{error}"
                return MISS
        return self.graphs.run(arrays, self.apart)

    def apart(self, arrays: Any) -> bool:
        """Does none of the arrays share memory with what the graphs write to?"""
        for a, (_, written) in zip(arrays, self.slots):
            if a.size:
                low = a.data.ptr
                high = low + a.nbytes
                if not a.flags.forc:
                    low, high = bounds(a)
                at = bisect.bisect_left(self.starts, high) - 1
                if at >= 0 and self.ends[at] > low:
                    return False
            if written and any([share(a, b) for b in arrays if b is not a]):
                return False
        return True

    def in_place(self, arrays: Any) -> bool:
        """Are the arrays where the graphs take them from? Else it may pay to capture anew."""
        graphs, moved = self.graphs, False
        for i, (a, static) in enumerate(zip(arrays, graphs.static)):    # type: ignore[union-attr]
            if a is static:
                continue
            if graphs.theirs[i]:                                        # type: ignore[union-attr]
                self.repeated[i], moved = -1000, True
            elif self.seen[i]() is a:
                self.repeated[i] += 1
                moved = moved or (self.repeated[i] > 2 and self.moves < _MOVES)
            else:
                self.repeated[i], self.seen[i] = min(self.repeated[i], 0), weakref.ref(a)
        self.moves += moved
        return not moved

    def captured(self, arrays: Any) -> Graphs:
        theirs = [ref() is a and n > 0 for ref, n, a in zip(self.seen, self.repeated, arrays)]
        static = [a if own else alike(a) for a, own in zip(arrays, theirs)]
        with one_at_a_time:                     # who records replaces the backend's functions, too
            return Graphs(self, static, theirs)

    def at(self, error: BaseException) -> str:
        """The line of the program whose call has failed."""
        for frame, number in traceback.walk_tb(error.__traceback__):
            if frame.f_code is self.body.__code__:
                line = self.lines[max([n for n in self.lines if n <= number - 3], default=0)]
                return f"{line}: "
        return ""


def joined(ranges: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """The starts and the ends of ranges of memory, without overlaps, in order."""
    starts: list[int] = []
    ends: list[int] = []
    for low, high in sorted(ranges):
        if ends and low < ends[-1]:
            ends[-1] = max(ends[-1], high)
        else:
            starts.append(low)
            ends.append(high)
    return starts, ends


class Graphs:
    """Captured graphs, and what the host does around them."""

    def __init__(self, launch: Launch, static: list[Any], theirs: list[bool]) -> None:
        from gpugrad.cuda.graphs import CUDAGraph, graph

        # No way back to ``launch``: without a cycle memory is freed as soon as nobody needs it.
        self.be, self.static, self.theirs = launch.be, static, theirs
        self.written = [leaf_written[1] for leaf_written in launch.slots]
        self.last_stream: Any = None
        self.parts: list[Part] = []
        leaves = launch.leaves
        before = [getattr(x, "_grad", None) for x in leaves]
        scalers: dict[int, Any] = {}
        steps: list[live.Steps] = []
        xp = self.be.xp
        try:
            self.be.capturing_ops, self.be.xp = True, Beside(self.be)
            for (leaf, _), a in zip(launch.slots, static):
                if leaf is not None and leaf._grad is not None and leaf._grad._a is not a:
                    leaf._grad = wrap(a, self.be)
            program = launch.body(lambda s: self.watch(s, scalers), *static)
            held, pool = [getattr(x, "_grad", None) for x in leaves], None
            results: list[Any] = []
            for filled, after in launch.plan:
                captured: Any = CUDAGraph() if filled else None
                steps.append(live.Steps())
                with graph(captured, pool) if filled else contextlib.nullcontext(), steps[-1]:
                    try:
                        next(program)
                    except StopIteration as end:
                        results = end.value
                pool = captured.pool() if filled else pool
                now = [getattr(x, "_grad", None) for x in leaves]
                grads = [(x, g) for x, g, was in zip(leaves, now, held) if g is not was]
                held = now
                self.parts.append(Part(captured, steps[-1], grads, after))
            self.results = results
            self.scalers = [s.settled() for s in scalers.values()]
            for one in steps:
                for part in one.parts:
                    part.settled()
        finally:
            self.be.capturing_ops, self.be.xp = False, xp
            for x, g in zip(leaves, before):
                x._grad = g
            for s in scalers.values():
                s.restore()

    def watch(self, scaler: Any, known: dict[int, Any]) -> None:
        if id(scaler) not in known and scaler._enabled:
            known[id(scaler)] = Scaler(scaler)

    def run(self, arrays: Any, apart: Any) -> Any:
        for part in self.parts:
            if not part.steps.ready():
                return MISS
        for s in self.scalers:
            if not s.ready():
                return MISS
        cuda = self.be.cupy.cuda
        stream = cuda.get_current_stream(self.be.id)
        if self.last_stream is not None and self.last_stream != stream:
            stream.wait_event(self.last_stream.record(cuda.Event(disable_timing=True)))
        self.last_stream = stream
        moved = [(a, b, w) for a, b, w in zip(arrays, self.static, self.written) if a is not b]
        if moved and not apart(arrays):
            return MISS
        for a, b, _ in moved:
            if a.flags.forc:                     # both lie alike: the program has looked
                b.data.copy_from_device_async(a.data, a.nbytes)
            else:
                b[...] = a
        for part in self.parts:
            if part.graph is not None:
                part.steps.advance()
                part.graph.replay()
            for x, g in part.grads:
                x._grad = g
            for a, b, written in moved:
                if written:
                    a[...] = b
            if part.after:
                f, args, kw = part.after
                f(*args, **kw)
        for s in self.scalers:
            s.after()
        return copied(self.results)


class Beside:
    """CuPy's functions while a step is captured. What they make of the host's data is made at once,
    beside the capture: in it, the data would be read again at each replay."""

    def __init__(self, be: Any) -> None:
        self._be, self._real = be, be.xp

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def asarray(self, a: Any, dtype: Any = None, **kw: Any) -> Any:
        return self._made(self._real.asarray, a, dtype, kw)

    def array(self, a: Any, dtype: Any = None, **kw: Any) -> Any:
        return self._made(self._real.array, a, dtype, kw)

    def _made(self, make: Any, a: Any, dtype: Any, kw: dict[str, Any]) -> Any:
        be = self._be
        if not be.capturing or isinstance(a, be.ndarray) or (isinstance(a, list | tuple) and any(
                [isinstance(v, be.ndarray) for v in a])):
            return make(a, dtype, **kw)
        return be.copies.to_device(np.asarray(a, dtype), False)


class Part:
    """One graph; what the host does before and after it."""

    def __init__(self, graph: Any, steps: Any, grads: list[Any], after: Any) -> None:
        self.graph, self.steps, self.grads, self.after = graph, steps, grads, after


class Scaler:
    """The host's side of a gradient scaler whose methods are captured."""

    def __init__(self, scaler: Any) -> None:
        self.scaler, self.before = scaler, scaler._per_optimizer_states
        if any([s["stage"] is not OptState.READY for s in self.before.values()]):
            raise RuntimeError("a GradScaler is in the middle of an iteration when the step begins")
        scaler._per_optimizer_states = type(self.before)(_fresh)
        self.known = self.now()

    def now(self) -> Any:
        s = self.scaler
        return (s._growth_factor, s._backoff_factor, s._growth_interval, s._enabled, id(s._scale),
                id(s._scale._a), id(s._growth_tracker), id(s._growth_tracker._a))

    def settled(self) -> Scaler:
        self.states = self.scaler._per_optimizer_states
        self.kept = self.scaler._scale, self.scaler._growth_tracker, self.scaler._scale._a
        return self

    def restore(self) -> None:
        self.scaler._per_optimizer_states = self.before

    def ready(self) -> bool:
        states = self.scaler._per_optimizer_states
        return self.now() == self.known and not any([s["stage"] is not OptState.READY
                                                     for s in states.values()])

    def after(self) -> None:
        fresh = type(self.states)(_fresh)
        for key, state in self.states.items():
            fresh[key] = dict(state)
        self.scaler._per_optimizer_states = fresh
