"""From two recorded calls to one Python function: a line for each call on arrays. (For CUDA devices
see captured.py.)

The function takes the arguments of the step, looks whether all is as it was (else it returns MISS),
makes the calls, and gives gradients, versions and results to where they belong.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad._tensor import InferenceCell, Tensor, wrap
from gpugrad.recording.arrays import HOST, digest, home, is_array, share
from gpugrad.recording.guards import GONE, PLAIN
from gpugrad.recording.recorder import Call, Recorder, Ref, SetGrad, refs

MISS = object()                 # what a program returns if it isn't the one for a call
_LARGE = 1 << 14                # bytes above which an array is freed after its last use


# Do two recordings agree? ------------------------------------------------------------------------

def difference(a: Recorder, b: Recorder) -> str:
    """Why two recorded calls can't be one program; "" if they can."""
    for x, y in zip(a.calls, b.calls):
        if type(x) is not type(y) or (type(x) is Call and x.name != y.name):
            return f"other operations are called each time, first at {y.line}"
        if type(x) is SetGrad:
            if x.value != y.value:
                return f"a gradient is another value each time, at {y.line}"
            continue
        if x.f != y.f and not x.whole and getattr(x.f, "__qualname__", 0) != getattr(
                y.f, "__qualname__", 1):
            return f"other operations are called each time, first at {y.line}"
        found = _changed(x.args, y.args) or _changed(x.kw, y.kw)
        if found:
            return (f"{y.name} gets a Python value that changes from call to call, {found}, at "
                    f"{y.line}: pass it to the step as a tensor")
        if x.out != y.out:
            return f"other operations are called each time, first at {y.line}"
    if len(a.calls) != len(b.calls):
        longer = max(a.calls, b.calls, key=len)
        return ("other operations are called each time, first at "
                f"{longer[min(len(a.calls), len(b.calls))].line}")
    if a.outside != b.outside:
        return "other tensors are used each time"
    for i in b.outside:
        x, y = a.values[i], b.values[i]
        if x.a is not y.a and not (x.digest == y.digest and _is_constant(y, b)):
            return ("a tensor is made in a way that recordings don't follow (from elements in "
                    f"Python or NumPy, or in an earlier call), and used at {y.line}")
    return ""


def _is_constant(value: Any, recorder: Recorder) -> bool:
    """Is an array from outside the data that a new tensor is made from?"""
    number = recorder.numbers[id(value.a)]
    users = [c.name for c in recorder.calls if type(c) is Call and number in refs(c.args)]
    return bool(users) and all([name in ("from_host", "copy") for name in users])


def _changed(x: Any, y: Any) -> str:
    """What differs between the constants of two calls."""
    if type(x) is not type(y):
        return f"{x!r}, then {y!r}"
    if isinstance(x, tuple | list):
        if len(x) != len(y):
            return f"{x!r}, then {y!r}"
        return next((d for d in map(_changed, x, y) if d), "")
    if isinstance(x, dict):
        if x.keys() != y.keys():
            return f"{x!r}, then {y!r}"
        return next((d for d in map(_changed, x.values(), y.values()) if d), "")
    if is_array(x):
        same = x.dtype == y.dtype and x.shape == y.shape and digest(x) == digest(y)
        return "" if same else "an array" if x.ndim else f"{x.item()}, then {y.item()}"
    try:
        same = x is y or bool(x == y) or (x != x and y != y)
    except Exception:                    # of an __eq__ of the user's
        same = False
    return "" if same else f"{_short(x)}, then {_short(y)}"


def _short(x: Any) -> str:
    text = repr(x)
    return text if len(text) < 60 else f"a {type(x).__name__}"


# The program -------------------------------------------------------------------------------------

class Text:
    """Lines of a function, and the constants that they name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: list[Any] = []
        self._names: dict[int, str] = {}

    def constant(self, x: Any) -> str:
        """A name or a literal for a constant."""
        if x is None or type(x) in (bool, int, str):
            return repr(x)
        if type(x) is float and math.isfinite(x):
            return repr(x)
        if type(x) is tuple:
            return "(" + "".join([self.constant(v) + ", " for v in x]) + ")"
        return self.named(x)

    def call_it(self, x: Any, name: str) -> None:
        self._names[id(x)] = name

    def named(self, x: Any) -> str:
        """A name for an object, which it is itself."""
        name = self._names.get(id(x))
        if name is None:
            name = self._names[id(x)] = f"k{len(self.constants)}"
            self.constants.append(x)
        return name

    def __call__(self, text: str) -> None:
        self.lines.append("        " + text)

    def compiled(self, head: str) -> Any:
        names = ", ".join([f"k{i}" for i in range(len(self.constants))])
        source = "\n".join([f"def make({names}):", f"    def step({head}):", *self.lines,
                            "    return step"])
        scope: dict[str, Any] = {"__name__": __name__}
        exec(compile(source, "<gpugrad recorded step>", "exec"), scope)
        step = scope["make"](*self.constants)
        step.source = source
        return step


def build(recorder: Recorder, owners: list[Tensor], checks: list[Any], result: Any,
          arguments: list[Any]) -> Any:
    """The function of a recorded call; Unfit if what it returned can't be made again.

    owners: the tensors from outside whose arrays it uses. checks: templates of expressions that
    must hold, each with its constants. result: what the call returned; arguments: its flat
    arguments.
    """
    if all([isinstance(v.a, HOST) for v in recorder.values]):
        return Builder(recorder, owners, result, arguments).made(checks)
    from gpugrad.recording.captured import Captured
    from gpugrad.recording.fusion import fuse

    fuse(recorder, {recorder.numbers[id(t._a)] for t in tensors_in(result)
                    if id(t._a) in recorder.numbers})
    return Captured(recorder, owners, result, arguments).made(checks)


def tensors_in(x: Any) -> list[Tensor]:
    """The tensors in a result."""
    if isinstance(x, Tensor):
        return [x]
    if isinstance(x, dict):
        x = list(x.values())
    return [t for v in x for t in tensors_in(v)] if isinstance(x, tuple | list) else []


class Unfit(Exception):
    """What a step returned can't be made anew by a recording."""


class Builder:
    """Writes the text of one program."""

    def __init__(self, recorder: Recorder, owners: list[Tensor], result: Any,
                 arguments: list[Any]) -> None:
        self.r, self.owners, self.result, self.arguments = recorder, owners, result, arguments
        self.out = Text()
        self.results = tensors_in(result)
        self.again: list[Tensor] = []            # those that have a name
        self.wanted = {recorder.numbers.get(id(t._a)) for t in self.results}
        self.last = self.last_uses()
        self.fixed = self.fixed_values()

    def made(self, checks: list[Any]) -> Any:
        self.look(checks)
        for x, _ in self.r.grads.values():
            if id(x._a) in self.r.numbers:       # else this call has nothing to do with it
                self.look_at_gradient(x)
        self.run()
        self.bump_versions()
        self.out("return " + self.returned(self.result))
        return self.out.compiled(", ".join([f"a{i}" for i in range(len(self.arguments))]))

    def last_uses(self) -> dict[int, int]:
        """For each value the last call that uses it."""
        last: dict[int, int] = {}
        for i, call in enumerate(self.r.calls):
            for n in refs(call.value) if type(call) is SetGrad else \
                    refs(call.args) + refs(call.kw):
                last[n] = i
        return last

    def fixed_values(self) -> set[int]:
        """Values that are the same at each call, and that nobody else gets to write to."""
        r = self.r
        kept = [g._a for _, g in r.grads.values() if g is not None]
        kept += [t._a for t in self.results]
        return {n for n, v in enumerate(r.values)
                if v.made and not v.written and v.call is not None
                and (v.a.nbytes <= _LARGE or r.calls[v.call].name in ("from_host", "from_device"))
                and r.calls[v.call].name != "empty"
                and not any([share(v.a, a) for a in kept])}

    # Names ---------------------------------------------------------------------------------------

    def name(self, n: int) -> str:
        """The expression for a value."""
        value = self.r.values[n]
        if n < len(self.r.inputs):
            return f"x{n}"
        if n in self.fixed or (value.call is None and value.leaf is None):
            return self.out.constant(value.a)
        return f"v{n}"

    def tensor(self, x: Tensor) -> str:
        """The name of an argument, or of a tensor from outside."""
        at = next((i for i, a in enumerate(self.arguments) if a is x), None)
        return self.out.constant(x) if at is None else f"a{at}"

    def expression(self, tree: Any) -> str:
        """The text of an argument of a call."""
        if type(tree) is Ref:
            return self.name(tree.number)
        if isinstance(tree, tuple | list) and refs(tree):
            inner = "".join([self.expression(x) + ", " for x in tree])
            return f"({inner})" if isinstance(tree, tuple) else f"[{inner}]"
        if type(tree) is dict and refs(tree):
            return "{" + ", ".join([f"{k!r}: {self.expression(v)}" for k, v in tree.items()]) + "}"
        return self.out.constant(tree)

    # Is all as it was? ---------------------------------------------------------------------------

    def look(self, checks: list[Any]) -> None:
        """Return MISS unless it is."""
        constant, named = self.out.constant, self.out.named
        tests: list[str] = []
        number = 0
        for i, a in enumerate(self.arguments):
            if isinstance(a, Tensor):
                x = a._a
                tests.append(f"a{i}.__class__ is {constant(type(a))} and "
                             f"a{i}._be is {constant(a._be)} and "
                             f"a{i}._edge is {named(a._edge)} and "
                             f"(x{number} := a{i}._a).shape == {constant(x.shape)} and "
                             f"x{number}.dtype == {constant(x.dtype)} and "
                             f"x{number}.strides == {constant(x.strides)}")
                tests += [f"x{number} is not x{k}" for k in range(number)]
                number += 1
            elif type(a) in (bool, int, float, str):
                tests.append(f"a{i}.__class__ is {constant(type(a))} and a{i} == {constant(a)}")
            else:
                tests.append(f"a{i} is {named(a)}")
        for t in self.owners:
            tests.append(f"{constant(t)}._a is {constant(t._a)} and "
                         f"{constant(t)}._edge is {named(t._edge)}")
        for text, *constants in checks:
            tests.append(text.format(*[constant(x) if type(x) in PLAIN else named(x)
                                       for x in constants]))
        if tests:
            self.out("try:")
            self.miss_unless("\n                and ".join(tests), "    ")
            self.out(f"except {named(GONE)}: return {constant(MISS)}")

    def miss_unless(self, condition: str, indent: str = "") -> None:
        self.out(f"{indent}if not ({condition}): return {self.out.constant(MISS)}")

    def look_at_gradient(self, x: Tensor) -> None:
        """As look, for a leaf and the gradient that it has."""
        name, g = self.tensor(x), self.r.before[id(x)]
        self.miss_unless(f"not ({name}._hooks or {name}._post)")
        if g is None:
            self.miss_unless(f"getattr({name}, '_grad', None) is None")
            return
        self.out(f"g = getattr({name}, '_grad', None)")
        n = next((i for i, v in enumerate(self.r.values) if v.leaf is x), None)
        if n is None or n not in self.last:
            self.miss_unless("g is not None")
        else:
            constant = self.out.constant
            self.miss_unless(f"g is not None and g._edge is None and (v{n} := g._a).shape == "
                             f"{constant(g._a.shape)} and v{n}.strides == "
                             f"{constant(g._a.strides)}")

    # The calls -----------------------------------------------------------------------------------

    def run(self) -> None:
        """A line for each."""
        out, r = self.out, self.r
        ends: dict[int, list[int]] = {}
        for n, i in self.last.items():
            ends.setdefault(i, []).append(n)
        for i, call in enumerate(r.calls):
            if type(call) is SetGrad:
                out(f"{self.tensor(call.leaf)}._grad = {self.wrapped(call.value)}")
            elif type(call.out) is not Ref or call.out.number not in self.fixed:
                out(self.line(call, i))
            dead = [f"v{n}" for n in ends.get(i, ()) if self.name(n) == f"v{n}"
                    and n not in self.wanted and r.values[n].a.nbytes >= _LARGE]
            if dead:
                out(" = ".join([*dead, "None"]))

    def wrapped(self, value: Ref | None, *more: str) -> str:
        if value is None:
            return "None"
        be = home(self.r.values[value.number].a)
        arguments = [self.name(value.number), self.out.constant(be), *more]
        return f"{self.out.constant(wrap)}({', '.join(arguments)})"

    def line(self, call: Call, i: int) -> str:
        args = [self.expression(a) for a in call.args]
        args += [f"{k}={self.expression(v)}" for k, v in call.kw.items()]
        text = f"{self.out.constant(call.f)}({', '.join(args)})"
        if call.as_array:
            text = f"{self.out.constant(np.asarray)}({text})"
        if type(call.out) is Ref:
            target = self.target(call.out, i)
            return f"{target} = {text}" if target else text
        if isinstance(call.out, tuple) and refs(call.out):
            return ", ".join([self.target(o, i) or "_" for o in call.out]) + f", = {text}"
        return text

    def target(self, o: Any, i: int) -> str:
        """What a result is called, if it is new."""
        return f"v{o.number}" if type(o) is Ref and self.r.values[o.number].call == i else ""

    # What is left behind -------------------------------------------------------------------------

    def bump_versions(self) -> None:
        for key, (t, before) in self.r.versions.items():
            by = t._ver[0] - before - self.r.bumped.get(key, 0)
            if by:
                self.out(f"{self.tensor(t)}._ver[0] += {by}")

    def returned(self, x: Any) -> str:
        """The expression for what the step returns."""
        if isinstance(x, Tensor):
            return self.returned_tensor(x)
        if isinstance(x, dict) and type(x) is dict:
            return "{" + ", ".join([f"{self.out.constant(k)}: {self.returned(v)}"
                                    for k, v in x.items()]) + "}"
        if isinstance(x, tuple | list):
            inner = "".join([self.returned(v) + ", " for v in x])
            if type(x) is list:
                return f"[{inner}]"
            make = getattr(type(x), "_make", type(x))
            return f"({inner})" if type(x) is tuple else f"{self.out.constant(make)}(({inner}))"
        return self.out.constant(x)

    def returned_tensor(self, t: Tensor) -> str:
        out = self.out
        if any([t is a for a in [*self.arguments, *self.owners, *self.again]]):
            return self.tensor(t)
        for x, g in self.r.grads.values():
            if t is g:
                return f"{self.tensor(x)}._grad"
        number = self.r.numbers.get(id(t._a))
        if number is None:
            raise Unfit("the step returns a tensor that is made in a way that recordings don't "
                        "follow")
        if type(t) is not Tensor or (t._edge is not None and self.needed(t)):
            raise Unfit("the step returns a tensor whose graph is still there: call backward() "
                        "within the step, or return tensor.detach()")
        base = t if t._view is None else t._view[0]
        outside = next((a for a in [*self.arguments, *self.owners] if isinstance(a, Tensor)
                        and (a is base or a._ver is t._ver)), None)
        if outside is not None and t._view is not None:
            raise Unfit("the step returns a view of a tensor from outside: return a clone()")
        twin = next((a for a in self.again if a._ver is t._ver), outside)
        more = ["None", f"{self.tensor(twin)}._ver"] if twin is not None else \
            ["None", f"{out.constant(InferenceCell)}()"] if t.is_inference() else []
        name = f"r{len(self.again)}"
        out(f"{name} = {self.wrapped(Ref(number), *more)}")
        self.again.append(t)                     # a second time it is the same tensor
        out.call_it(t, name)
        return name

    def needed(self, t: Any) -> bool:
        """Does a backward from here have anything left to go through?"""
        if not self.r.swept or t.is_leaf:
            return True
        seen, stack = set(), [t._edge[0]]
        while stack:
            node = stack.pop()
            if node.guard:
                return True
            if node.guard is not None:
                for e in node.edges:
                    if e is not None and e[0].key not in seen:
                        seen.add(e[0].key)
                        stack.append(e[0])
        return False
