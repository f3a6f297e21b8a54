"""What a model computes, as a list of ops: heard where the ops' entries call them on arrays.

A model runs several times, with other numbers, and other sizes of the dynamic axes. What differs
between the runs and isn't the result of an op that was heard can't be exported, and is noticed.
"""
from __future__ import annotations

import contextlib
import hashlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpugrad._tensor import Tensor
from gpugrad.autograd.listening import Listener, hearing
from gpugrad.autograd.rules import Spec
from gpugrad.backend import cpu
from gpugrad.jit import TracerWarning

_WATCHED = "item tolist numpy __bool__ __int__ __float__ __index__ __array__".split()


class Refused(NotImplementedError):
    """The model can't be exported."""

    def __init__(self, why: str) -> None:
        super().__init__(f"torch.onnx.export: {why}")


def digest(a: Any) -> bytes:
    """Stands for the elements of an array."""
    data: Any = np.ascontiguousarray(a).reshape(-1).view(np.uint8)
    return hashlib.blake2b(data, digest_size=16).digest()


class Value:
    """An array that is an input or came from a heard op; ``dynamic`` if it depends on an input."""

    def __init__(self, a: Any, call: Call | None, number: int) -> None:
        self.a, self.call, self.number = a, call, number
        self.digest, self.shape, self.dtype = digest(a), tuple(a.shape), a.dtype
        self.dynamic: bool = call is None or call.dynamic


class Call:
    """One op: its inputs (Values, other arrays, or None), its constants and results."""

    def __init__(self, name: str, spec: Spec | None, ins: list[Any], kw: dict[str, Any]) -> None:
        self.name, self.spec, self.ins, self.kw = name, spec, ins, kw
        self.outs: list[Value] = []
        self.dynamic: bool = any(isinstance(v, Value) and v.dynamic for v in ins)


def place(a: Any) -> Any:
    """What two arrays have in common that are one: they are all kept while a run lasts."""
    return a.__array_interface__["data"][0], a.shape, a.strides, a.dtype


class Run(Listener):
    """One run of the model: its calls in order."""

    def __init__(self, inputs: list[Any]) -> None:
        self.calls: list[Call] = []
        self.outputs: list[Any] = []             # Values, or constant arrays
        self.values: dict[Any, Value] = {}
        self.kept: list[Any] = []                # lest other memory get an address noted above
        self.inputs = [self.add(a, None, i) for i, a in enumerate(inputs)]
        self.thread = threading.get_ident()
        self.inside = False

    def add(self, a: Any, call: Call | None, number: int) -> Value:
        value = self.values[place(a)] = Value(a, call, number)
        return value

    def find(self, a: Any) -> Value | None:
        value = self.values.get(place(a)) if isinstance(a, np.ndarray) else None
        if value is not None and value.digest != digest(a):
            raise Refused("a tensor is written in place in a way that is not followed (an index "
                          "assignment, copy_(), fill_(), or one of two views): write the "
                          "operation without the in-place form, as by torch.where or torch.cat")
        return value

    def heard(self, name: str, spec: Spec | None, ins: Any, kw: dict[str, Any], result: Any,
              into: bool = False) -> Any:
        """Note a call; ``into``: the result lies in the first input."""
        found = [self.find(a) for a in ins] if not into else self.before
        many = isinstance(result, tuple | list)
        outs = [a if type(a) is np.ndarray else np.asarray(a)
                for a in (result if many else (result,))]
        call = Call(name, spec, [a if v is None else v for a, v in zip(ins, found)], dict(kw))
        self.calls.append(call)
        call.outs = [self.add(a, call, i) for i, a in enumerate(outs)]
        return type(result)(outs) if many else outs[0]

    # What entries tell, besides ------------------------------------------------------------------

    def converted(self, a: Any, result: Any) -> Any:
        """An operand got another dtype, as promotion wants it."""
        if threading.get_ident() == self.thread and isinstance(a, np.ndarray) \
                and self.find(a) is not None:
            self.heard("to", None, [a], {"dtype": result.dtype}, result)
        return result

    def wrote(self, a: Any, result: Any) -> None:
        """``result`` was written into ``a``."""
        if threading.get_ident() == self.thread:
            value = self.values.get(place(result))
            if value is not None:
                if a.dtype != result.dtype:
                    self.heard("to", None, [result], {"dtype": a.dtype}, a)
                else:
                    self.values[place(a)] = value
                    self.kept.append(a)

    def sized_by(self, a: Any) -> None:
        """The elements of ``a`` are about to decide how large a result is."""
        if self.dynamic(a):
            raise Refused("an index of booleans, or nonzero(), gives a tensor whose size depends "
                          "on elements: write it by torch.where() or masked_fill()")

    def dynamic(self, a: Any) -> bool:
        value = self.find(a) if threading.get_ident() == self.thread else None
        return value is not None and value.dynamic

    def watcher(self, name: str, real: Any) -> Any:
        """A method of Tensor that gives away numbers, which the graph then has as constants."""
        def call(t: Any, *args: Any, **kw: Any) -> Any:
            if self.dynamic(t._a):
                warnings.warn(
                    f"torch.onnx.export: Tensor.{name}() takes a number out of the trace: what "
                    "follows from it, as which branch is taken, is fixed in the exported graph",
                    TracerWarning, stacklevel=2)
            return real(t, *args, **kw)
        return call

    def listener(self, spec: Spec, real: Any, skip: int) -> Any:
        """``real`` and a note of its calls; ``skip``: how many arguments come before the arrays."""
        takes = 1000 if spec.variadic else len(spec.inputs)

        def call(*args: Any, **kw: Any) -> Any:
            if self.inside or threading.get_ident() != self.thread:
                return real(*args, **kw)
            ins = args[skip:skip + takes]
            out = kw.get("out", args[skip + takes] if len(args) > skip + takes else None)
            self.before = [self.find(a) for a in ins]
            self.inside = True                   # what it is made of is nothing of its own
            try:
                result = real(*args, **kw)
            finally:
                self.inside = False
            if out is not None:
                self.heard(spec.name, spec, ins, {}, out, into=True)
                return result
            return self.heard(spec.name, spec, ins, kw, result)
        return call

    @contextlib.contextmanager
    def listen(self) -> Iterator[None]:
        """Hear all ops of this thread on CPU tensors."""
        from gpugrad.ops import load

        with hearing(self, list(load().values()), self.listener):
            methods = [(name, getattr(Tensor, name)) for name in _WATCHED]
            try:
                for name, method in methods:
                    setattr(Tensor, name, self.watcher(name, method))
                yield
            finally:
                for name, method in methods:
                    setattr(Tensor, name, method)


def other_numbers(a: Any, shape: tuple[int, ...], rng: Any) -> Any:
    """Elements like those of ``a``, in another shape."""
    if not a.size:
        return np.zeros(shape, a.dtype)
    out = rng.choice(a.reshape(-1), shape)
    if a.dtype.kind == "f":
        out = out + rng.standard_normal(shape).astype(a.dtype) / 4
        if a.min() >= 0:                         # as variances or probabilities are
            out = np.abs(out) if a.max() > 1 else np.clip(out, 0, 1)
    return np.asarray(out, a.dtype)


def needed(outputs: list[Value]) -> list[Call]:
    """The calls that the outputs depend on, in order."""
    wanted: set[int] = set()
    stack = [v.call for v in outputs if v.call is not None]
    found = []
    while stack:
        call = stack.pop()
        if id(call) not in wanted:
            wanted.add(id(call))
            found.append(call)
            stack += [v.call for v in call.ins if isinstance(v, Value) and v.call is not None]
    return found


def trace(run_model: Any, inputs: list[Any]) -> tuple[Run, list[Any], Any]:
    """A run, the values (or constant arrays) of its outputs, and what the model returned."""
    run = Run(inputs)
    with run.listen():
        tensors, result = run_model(inputs)
    for t in tensors:
        if t._be is not cpu:
            raise Refused("a result is not on the CPU: move the model there")
    outputs = run.outputs = [run.find(t._a) or t._a for t in tensors]
    order = {id(c): i for i, c in enumerate(run.calls)}
    run.calls = sorted(needed([v for v in outputs if isinstance(v, Value)]),
                       key=lambda c: order[id(c)])
    return run, outputs, result
