"""A step with ``differentiable=True``: what an algorithm's ``_update`` does, recorded in the graph.

``_update`` is one text for arrays, which it changes in place. Here it runs on ``Traced`` values
that look the same: an in-place operation makes a new Tensor and puts it into the old one's place.
At the end parameters and state are written, once, as in-place operations of the graph.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.grad_mode import enable_grad
from gpugrad.autograd.rules import tensors as T
from gpugrad.functions import choices, mathematics


def of(value: Any) -> Any:
    """The Tensor of a Traced; anything else is itself."""
    return value.tensor if isinstance(value, Traced) else value


class Traced:
    """A value with the operators of an array, those in place included, and a history."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def put(self, tensor: Tensor) -> Traced:
        self.tensor = tensor
        return self

    def __add__(self, other: Any) -> Traced:
        return Traced(self.tensor + of(other))

    def __radd__(self, other: Any) -> Traced:
        return Traced(other + self.tensor)

    def __sub__(self, other: Any) -> Traced:
        return Traced(self.tensor - of(other))

    def __rsub__(self, other: Any) -> Traced:
        return Traced(other - self.tensor)

    def __mul__(self, other: Any) -> Traced:
        return Traced(self.tensor * of(other))

    def __rmul__(self, other: Any) -> Traced:
        return Traced(other * self.tensor)

    def __truediv__(self, other: Any) -> Traced:
        return Traced(self.tensor / of(other))

    def __rtruediv__(self, other: Any) -> Traced:
        return Traced(other / self.tensor)

    def __neg__(self) -> Traced:
        return Traced(-self.tensor)

    def __iadd__(self, other: Any) -> Traced:
        return self.put(self.tensor + of(other))

    def __isub__(self, other: Any) -> Traced:
        return self.put(self.tensor - of(other))

    def __imul__(self, other: Any) -> Traced:
        return self.put(self.tensor * of(other))

    def __itruediv__(self, other: Any) -> Traced:
        return self.put(self.tensor / of(other))

    def __gt__(self, other: Any) -> Traced:
        return Traced(self.tensor > of(other))

    def __lt__(self, other: Any) -> Traced:
        return Traced(self.tensor < of(other))


def _function(fn: Callable[..., Tensor]) -> Any:
    def call(*args: Any, out: Any = None) -> Traced:
        result = fn(*map(of, args))
        return Traced(result) if out is None else out.put(result)
    return staticmethod(call)


def _extreme(fn: Callable[..., Tensor]) -> Any:
    def call(x: Tensor, y: Any) -> Tensor:
        return fn(x, y if isinstance(y, Tensor) else T.new_zeros(x, shape=()) + y)
    return _function(call)


class Functions:
    """The functions of arrays that ``_update`` uses, of Traced values."""

    add = _function(lambda x, y: x + y)
    subtract = _function(lambda x, y: x - y)
    multiply = _function(lambda x, y: x * y)
    divide = _function(lambda x, y: x / y)
    negative = _function(lambda x: -x)
    sqrt = _function(lambda x: T.sqrt(x))
    abs = _function(lambda x: T.abs(x))
    sign = _function(lambda x: T.sign(x))
    maximum = _extreme(mathematics.maximum)
    minimum = _extreme(mathematics.minimum)
    where = _function(choices.where)

    @staticmethod
    def copyto(target: Traced, source: Traced) -> None:
        target.put(source.tensor)


def step(opt: Any, group: dict[str, Any], params: list[Tensor]) -> None:
    """Step parameters so that gradients flow back through the step."""
    lr = group["lr"]
    if isinstance(lr, Tensor) and lr.requires_grad:
        group = {**group, "lr": Traced(lr)}
    names = opt._state_names(group)
    with enable_grad():
        for p in params:
            t, _ = opt._state_of(p, group, names)
            scalars = opt._advance(p, group, t)
            _step_one(opt, group, p, [opt.state[p][name] for name in names],
                      opt._values(group, t, *scalars))


def _step_one(opt: Any, group: dict[str, Any], p: Tensor, held: list[Tensor], n: Any) -> None:
    decay, shrink, *n = n
    real = T.view_as_real if p.is_complex() else _itself
    back = T.view_as_complex if p.is_complex() else _itself
    values, state = Traced(real(p.clone())), [Traced(real(x.clone())) for x in held]
    g: Any = real(p.grad)
    traced = Traced(-g if group["maximize"] else g)
    if shrink is not None:
        values *= shrink
    if decay is not None:
        traced = traced + values * decay
    opt._update(Functions, values, traced, state, Traced(g), n)
    p.copy_(back(values.tensor))
    for x, new in zip(held, state):
        x.copy_(back(new.tensor))


def _itself(x: Any) -> Any:
    return x
