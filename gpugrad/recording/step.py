"""graph_step: a function whose calls on arrays are recorded, and then made without all the rest."""
from __future__ import annotations

import contextlib
import functools
import sys
import threading
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from gpugrad._state import anomaly, listening, state
from gpugrad._tensor import LEAF, Tensor
from gpugrad.autograd.listening import one_at_a_time
from gpugrad.autograd.node import AccumulateGrad
from gpugrad.backend.cuda import made as devices
from gpugrad.recording import guards
from gpugrad.recording.effects import Effects
from gpugrad.recording.holders import Holders
from gpugrad.recording.program import MISS, Unfit, build, difference, tensors_in
from gpugrad.recording.recorder import PACKAGE, Call, Recorder

_AGAIN = 8                      # how often it is recorded anew without replays that repay it


class _Entry:
    """What is known of calls with arguments of one kind."""

    __slots__ = ("calls", "first", "leaves", "made", "programs", "why")

    def __init__(self) -> None:
        self.calls = self.made = 0
        self.leaves: list[Tensor] = []
        self.first: Any = None                   # the first of two recordings, and its result
        self.programs: list[Any] = []
        self.why = ""


class GraphStep:
    """What graph_step returns: see there.

    ``reason`` says why the last kind of call that couldn't be recorded runs eagerly; it is "" if
    there is none. ``replays`` counts the calls that were replayed.
    """

    def __init__(self, function: Callable[..., Any], cache_size: int = 8) -> None:
        functools.update_wrapper(self, function)
        self.function, self.cache_size = function, cache_size
        self.reason, self.replays = "", 0
        self._forgotten = 0                      # kinds of arguments that the cache had no room for
        self._lock = threading.RLock()           # one thread learns at a time
        self._entries: OrderedDict[Any, _Entry] = OrderedDict()
        self._programs: list[Any] = []           # (number of arguments, program), newest first

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<graph_step of {self.function!r}>"

    def __call__(self, *args: Any, **kw: Any) -> Any:
        if not kw and listening[0] is None:
            n = len(args)
            for count, program in self._programs:
                if count == n:
                    result = program(*args)
                    if result is not MISS:
                        self.replays += 1
                        return result
        return self._call(args, kw)

    def clear(self) -> None:
        """Forget all recordings."""
        self._entries.clear()
        self._programs.clear()

    # Calls that no program of plain arguments was found for --------------------------------------

    def _call(self, args: Any, kw: dict[str, Any]) -> Any:
        flat: list[Any] = []
        shape = _flatten((args, kw), flat)
        if listening[0] is not None or state.saving is not None or anomaly[0] is not None or \
                any([be.capturing for be in devices()]):
            return self.function(*args, **kw)
        key = shape, tuple([_kind(x) for x in flat]), guards.modes()
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
            if len(self._entries) > self.cache_size:
                self._forget(next(iter(self._entries)))
                self._forgotten += 1
                if self._forgotten == 4 * self.cache_size > self.replays:
                    self._warn("almost every call has arguments of another kind: other shapes, or "
                               "Python numbers, which can be passed as tensors")
        self._entries.move_to_end(key)
        if not entry.why:
            for program in entry.programs:
                result = program(*flat)
                if result is not MISS:
                    self.replays += 1
                    return result
            why = _unsuitable(flat) or next(
                (p.launch.why for p in entry.programs if hasattr(p, "launch") and p.launch.why), "")
            if why:
                self._refuse(entry, why)
        if entry.why:
            return self.function(*args, **kw)
        with self._lock:
            return self._learn(entry, args, kw, flat)

    def _forget(self, key: Any) -> None:
        self._drop(self._entries.pop(key))

    def _drop(self, entry: _Entry) -> None:
        """Let go of an entry's programs."""
        gone = {id(p) for p in entry.programs}
        self._programs = [item for item in self._programs if id(item[1]) not in gone]
        entry.programs = []

    def _refuse(self, entry: _Entry, why: str) -> None:
        entry.why, entry.first = why, None
        self._drop(entry)
        self._warn(why)

    def _warn(self, why: str) -> None:
        self.reason = why
        name = getattr(self.function, "__qualname__", repr(self.function))
        warnings.warn(f"graph_step: {name} runs eagerly: {why}",
                      stacklevel=_frames_to_user())

    def _learn(self, entry: _Entry, args: Any, kw: Any, flat: list[Any]) -> Any:
        """An eager call: the first to get things made that are made once, then two recordings."""
        entry.calls += 1
        inputs = [x for x in flat if isinstance(x, Tensor)]
        if entry.calls == 1:
            with _noting_leaves(entry.leaves):
                result = self.function(*args, **kw)
            given = {id(x) for x in inputs}
            entry.leaves = [x for x in entry.leaves if id(x) not in given]
            return result
        first = entry.first[0] if entry.first else None
        known = self._holders(first, args).tensors if first else []
        updated = list({id(c.args[0]): c.args[0] for c in first.calls
                        if type(c) is Call and c.whole}.values()) if first else []
        modules = list(first.modules.values()) if first else []
        effects = Effects(self._checks(modules, args))
        recorder = Recorder(inputs, entry.leaves, known, updated)
        with recorder.listen():
            result = self.function(*args, **kw)
            recorder.finish(result)
        why = recorder.why or _hooks(recorder) or effects.found(recorder, tensors_in(result))
        if why:
            self._refuse(entry, why)
        elif entry.first is None:
            entry.leaves += [x for x, _ in recorder.grads.values()
                             if not any(x is y for y in [*entry.leaves, *inputs])]
            recorder.let_go()
            entry.first = recorder, _plain(result)
        else:
            self._finish(entry, recorder, flat, result, args, kw)
        return result

    def _checks(self, modules: list[Any], args: Any) -> list[guards.Check]:
        """What the function and its modules read by name."""
        seen: set[Any] = set()
        checks = guards.of_modules(modules) + guards.of_function(self.function, PACKAGE, seen, args)
        for forward in {type(m).forward for m in modules}:
            checks += guards.of_function(forward, PACKAGE, seen)
        return checks

    def _holders(self, recorder: Recorder, args: Any) -> Holders:
        """Those of the tensors from outside that a recording uses."""
        modules = list(recorder.modules.values())
        functions = [self.function, *{type(m).forward for m in modules}]
        names = [v for f in functions for v in guards.values(f, PACKAGE)]
        return Holders([recorder.values[i].a for i in recorder.outside],
                       [*modules, *names, self.function, *args])

    def _finish(self, entry: _Entry, recorder: Recorder, flat: list[Any], result: Any,
                args: Any, kw: Any) -> None:
        """Two calls are recorded: make the program if they agree."""
        (first, plain), entry.first = entry.first, None
        why = difference(first, recorder)
        if not why and plain != _plain(result):
            why = "the step returns other Python values each time"
        if why:
            self._refuse(entry, why)
            return
        holders = self._holders(recorder, args)
        checks = [*guards.of_modes(), *self._checks(list(recorder.modules.values()), args),
                  *holders.checks]
        try:
            program = build(recorder, holders.tensors, _unique(checks), result, flat)
        except Unfit as error:
            self._refuse(entry, str(error))
            return
        entry.made += 1
        if entry.made > _AGAIN and self.replays < 10 * entry.made:
            self._refuse(entry, "what it depends on outside of the step changes again and again "
                                "(names, modules, tensors or gradients put in others' places)")
            return
        entry.programs.insert(0, program)
        entry.calls = 1                          # another recording can begin at once
        del entry.programs[4:]
        if _simple(args, kw):
            self._programs.insert(0, (len(flat), program))
            del self._programs[2 * self.cache_size:]


@contextlib.contextmanager
def _noting_leaves(found: list[Tensor]) -> Iterator[None]:
    """While it lasts, leaves that get a gradient are put into ``found``."""
    seen: set[int] = set()
    real: Any = AccumulateGrad.add
    thread = threading.get_ident()

    def add(node: Any, *args: Any) -> None:
        x = node.variable
        if id(x) not in seen and threading.get_ident() == thread:
            seen.add(id(x))
            found.append(x)
        real(node, *args)
    with one_at_a_time:
        AccumulateGrad.add = add  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            AccumulateGrad.add = real  # type: ignore[method-assign]


def _frames_to_user() -> int:
    """warnings' stacklevel of the line that called a step, as seen from the caller."""
    frame: Any = sys._getframe(1)
    n = 1
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, n = frame.f_back, n + 1
    return n


def _flatten(x: Any, flat: list[Any]) -> Any:
    """The leaves of nested arguments, and what is left of them."""
    kind = type(x)
    if kind is tuple or kind is list:
        return kind, tuple([_flatten(v, flat) for v in x])
    if kind is dict:
        return kind, tuple([(k, _flatten(v, flat)) for k, v in x.items()])
    flat.append(x)
    return None


def _simple(args: Any, kw: Any) -> bool:
    return not kw and not any([type(a) in (tuple, list, dict) for a in args])


def _kind(x: Any) -> Any:
    """What must be the same of an argument for the same recording."""
    if isinstance(x, Tensor):
        a = x._a
        edge = "" if x._edge is None else "leaf" if x._edge is LEAF else "graph"
        return type(x), x._be.name, a.shape, a.dtype, a.strides, edge
    return (type(x), x) if type(x) in guards.PLAIN else (type(x), id(x))


def _plain(x: Any) -> Any:
    """A result without its tensors, for comparison."""
    if isinstance(x, Tensor):
        return Tensor
    if isinstance(x, tuple | list):
        return type(x), [_plain(v) for v in x]
    if isinstance(x, dict):
        return type(x), [(k, _plain(v)) for k, v in x.items()]
    return x


def _unsuitable(flat: list[Any]) -> str:
    """Why such arguments can't be recorded."""
    tensors = [x for x in flat if isinstance(x, Tensor)]
    for x in tensors:
        if x._be.index > 2:
            return f"steps on {x.device.type} devices are not recorded"
        if x._edge is not None and x._edge is not LEAF:
            return "an argument has a graph that reaches out of the step: pass tensor.detach()"
    if len({id(x._a) for x in tensors}) < len(tensors):
        return "the same tensor is passed twice"
    return ""


def _hooks(recorder: Recorder) -> str:
    """Hooks are Python code of the user's, which a replay wouldn't run."""
    if recorder.modules:
        from gpugrad.nn.modules.hooks import has_hooks
    for m in recorder.modules.values():
        if m._hooked and has_hooks(m):
            return f"a {type(m).__name__} has hooks, which a recording would leave out"
    if any([x._hooks or x._post for x, _ in recorder.grads.values()]):
        return "a parameter has hooks, which a recording would leave out"
    return ""


def _unique(checks: list[Any]) -> list[Any]:
    found: dict[Any, Any] = {}
    for text, *constants in checks:
        found.setdefault((text, tuple(map(id, constants))), (text, *constants))
    return list(found.values())


def graph_step(function: Any = None, *, cache_size: int = 8) -> Any:
    """Record what a training or inference step does with arrays, and replay that from then on.

    A decorator, ``@graph_step`` or ``@graph_step(cache_size=...)``, or a call on a function or
    module. The first calls run eagerly; the second and third are recorded, and compared. Later
    calls with arguments of the same kind make the recorded calls and nothing else: forward,
    backward, clipping and optimizer without a Tensor, a node or a dispatch in between. On a CUDA
    device they are one CUDA graph with memory of its own, in which gradients of parameters stay.
    The numbers are those of an eager call, bit for bit.

    Tensors are arguments, or come from outside (parameters, buffers, optimizer states: they stay
    the user's). Random numbers go on; optimizers, schedules and scalers do their steps. Results are
    tensors without a graph. Python code runs only while recording, so what it computes or prints
    is not repeated; numbers that it finds in arguments, in names, in modules and their attributes
    are looked at before each replay, and another one makes another recording, as do other shapes
    and dtypes (``cache_size`` kinds of arguments are kept).

    What can't be recorded runs eagerly, with a warning that says why and names the line, also in
    ``.reason``: values read by the host (``item()``, ``if`` on a tensor), results whose size
    depends on elements, hooks of modules and parameters, tensors made from NumPy in the step.
    """
    if function is None:
        return functools.partial(graph_step, cache_size=cache_size)
    if not callable(function):
        raise TypeError(f"graph_step expects a function or a module, not {type(function).__name__}")
    if type(cache_size) is not int or cache_size < 1:
        raise ValueError(f"graph_step: cache_size must be a positive int, not {cache_size!r}")
    return GraphStep(function, cache_size)
