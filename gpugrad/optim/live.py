"""Optimizers' steps in a captured graph, whose numbers the host writes before each launch.

Learning rates, momenta and step counts stay the host's: it works out the numbers of a step as for
a launch by value, so that they have the same bits, and puts them where captured kernels read them.
"""
from __future__ import annotations

import operator
from itertools import chain
from typing import Any

import numpy as np

from gpugrad._tensor import Tensor
from gpugrad.backend import many
from gpugrad.optim import optimizer
from gpugrad.optim.fused import _taken, acc_of, counts_on_device, live, step_values
from gpugrad.optim.optimizer import Optimizer
from gpugrad.optim.options import number, of_parts

# struct Row of kernels/numbers.cu, for which the dtype plays no part.
ROW, _F32 = np.dtype([("at", np.uint32, 32)]), np.dtype(np.float32)
_array = operator.attrgetter("_a")


def capturable(opt: Any, be: Any) -> bool:
    """Can a graph hold a whole step, as far as it goes now? The state must have been made."""
    return (isinstance(opt, Optimizer) and _is_own(opt)
            and all([not group.get("differentiable") and _fits(opt, group, p, be)
                     for group in opt.param_groups for p in group["params"]
                     if p._be is not be or getattr(p, "_grad", None) is not None]))


def _is_own(opt: Any) -> bool:
    """Is it gpugrad's own step, with nothing around it?"""
    return (type(opt).step is Optimizer.step and "step" not in vars(opt)
            and opt.grad_scale is None and opt.found_inf is None
            and not (opt._step_pre or opt._step_post or optimizer._global_pre
                     or optimizer._global_post))


def _fits(opt: Any, group: dict[str, Any], p: Any, be: Any) -> bool:
    names, held = opt._state_names(group), opt.state.get(p, {})
    counts = ("step", *opt._scalars) if opt._counts_steps else ()
    return (p._be is be and _taken(opt, p, names)
            and all([name in held for name in (*names, *counts)]))


def put(be: Any, to: Any, row: bytes, n: int) -> None:
    """Write a row of up to 128 bytes to n places behind each other, on the current stream."""
    words = len(row) // 4
    struct = np.zeros((), ROW)
    struct["at"][:words] = np.frombuffer(row, np.uint32)
    be.launch("numbers", "repeat_row", (-(-n // 64),), (64,),
              (to, struct, np.int32(words), np.int32(n)), _F32)


class Steps:
    """Captures steps: ``with steps:`` around them. Then ``ready`` says whether all is as it was,
    and ``advance`` does what a step does for the host, and writes the next numbers."""

    def __init__(self) -> None:
        self.parts: list[Part] = []

    def __enter__(self) -> None:
        live[0] = self

    def __exit__(self, *exc: object) -> None:
        live[0] = None

    def ready(self) -> bool:
        return all([part.ready() for part in self.parts])

    def advance(self) -> None:
        for part in self.parts:
            part.advance()

    # What fused.step_together asks ---------------------------------------------------------------

    def begin(self, opt: Any, group: dict[str, Any], be: Any) -> None:
        """What follows is asked for a group's parameters on one device."""
        self.parts.append(Part(opt, group, be))

    def state(self, p: Any, names: Any, device: bool) -> tuple[float, tuple[float, ...], list[Any]]:
        """The number of the last step, its scalars, and the arrays of a parameter's state."""
        return self.parts[-1].state(p, names, device)

    def rate(self) -> Any:
        """Where the learning rate will be."""
        part = self.parts[-1]
        with part.be.outside_graph():
            part.rate_at = part.be.empty((2,), np.uint32)
        return part.rate_at

    def numbers(self, dtype: Any, t: float, scalars: Any) -> Any:
        """Where the numbers of parameters with one dtype, step number and scalars will be."""
        part = self.parts[-1]
        return part.sets[dtype, t, scalars].made(part.be, dtype)


class Set:
    """Parameters that are stepped with the same numbers."""

    def __init__(self) -> None:
        self.params: list[Any] = []
        self.counts: list[Any] = []             # their step counts, on the host
        self.row = b""
        self.at: Any = None

    def made(self, be: Any, dtype: Any) -> Any:
        self.acc, self.n = acc_of(dtype), min(many.MOST, len(self.params))
        with be.outside_graph():
            self.at = be.empty((self.n * 32,), np.uint32)
        return self.at

    def scalars(self, opt: Any) -> list[Any]:
        return [opt.state[p][name]._a for p in self.params for name in opt._scalars]

    def even(self, opt: Any) -> bool:
        """Have all made as many steps?"""
        k = len(opt._scalars)
        values = [a.item() for a in self.scalars(opt)]
        return len({count._a.item() for count in self.counts}) < 2 and \
            values == values[:k] * (len(values) // k if k else 0)

    def advance(self, opt: Any, group: dict[str, Any], be: Any, steady: float) -> None:
        t, scalars = steady, ()  # type: tuple[float, tuple[float, ...]]
        if self.counts:
            t = self.counts[0].item() + 1
            for count in self.counts:
                count._a[...] = t
                count._ver[0] += 1
        for p in self.params if opt._scalars else ():
            scalars = opt._advance(p, group, t)
        row = np.array(step_values(opt, group, (t, *scalars)), self.acc).tobytes()
        if row != self.row:
            put(be, self.at, row, self.n)
            self.row = row


class Part:
    """The step of one group of parameters on one device."""

    def __init__(self, opt: Any, group: dict[str, Any], be: Any) -> None:
        self.opt, self.group, self.be = opt, group, be
        self.device = False                     # are the steps counted there?
        self.params: list[Any] = []
        self.held: list[Any] = []               # their states
        self.sets: dict[Any, Set] = {}
        self.rate_at: Any = None
        self.rate = b""
        self.steady = 2.0 if opt._state_names(group) else 1.0
        self.groups = [(g, g["params"], [id(p) for p in g["params"]]) for g in opt.param_groups]
        self.form = self.formed()

    def formed(self) -> Any:
        """What the captured launches have taken for granted of the options."""
        opt, group = self.opt, self.group
        options: Any = None
        if self.device:
            options = opt._device_options(group, self.steady)
            if self.rate_at is not None:
                options["lr"] = 0
        lr = group["lr"]
        return (opt._state_names(group), opt._flags(group), bool(group["maximize"]),
                counts_on_device(group), options,
                (id(lr), id(lr._a)) if isinstance(lr, Tensor) and lr._be.index else None)

    def state(self, p: Any, names: Any, device: bool) -> tuple[float, tuple[float, ...], list[Any]]:
        opt, held = self.opt, self.opt.state.get(p, {})
        self.params.append(p)
        self.held.append(held)
        self.device = device
        counts = ("step", *opt._scalars) if opt._counts_steps else ()
        if any([bool(held[name]._be.index) != device for name in counts]):
            raise RuntimeError(f"{type(opt).__name__} counts its steps on another device than it "
                               "needs them on")
        t, scalars = self.steady, ()  # type: tuple[float, tuple[float, ...]]
        if opt._counts_steps and not device:
            t = held["step"].item()
            scalars = tuple([held[name].item() for name in opt._scalars])
        if not device:
            one = self.sets.setdefault((of_parts(p._a.dtype), t, scalars), Set())
            one.params.append(p)
            if opt._counts_steps:
                one.counts.append(held["step"])
        return (0.0 if device and opt._counts_steps else t), scalars, [held[n]._a for n in names]

    def settled(self) -> None:
        """The capture is complete: from now on the state must be where it is."""
        self.form = self.formed()
        self.table = self.opt.state
        self.dicts = list(map(id, self.table.values()))
        tensors = [t for held in self.held for t in held.values()]
        self.tensors = [*[t for t in tensors if isinstance(t, Tensor)], *self.params]
        self.ids = list(map(id, tensors))
        self.arrays = list(map(_array, self.tensors))

    def ready(self) -> bool:
        opt = self.opt
        return (_is_own(opt) and opt.state is self.table
                and list(map(id, self.table.values())) == self.dicts
                and list(map(id, chain.from_iterable(map(dict.values, self.held)))) == self.ids
                and all(map(operator.is_, map(_array, self.tensors), self.arrays))
                and len(opt.param_groups) == len(self.groups)
                and all([a is g and a["params"] is params and list(map(id, params)) == ids
                         for a, (g, params, ids) in zip(opt.param_groups, self.groups)])
                and self.formed() == self.form
                and all([s.even(opt) for s in self.sets.values()]))

    def advance(self) -> None:
        opt, group = self.opt, self.group
        opt._stepped = True
        for p in self.params:
            p._ver[0] += 1
        for one in self.sets.values():
            one.advance(opt, group, self.be, self.steady)
        if self.device and opt._counts_steps:
            for held in self.held:
                held["step"]._ver[0] += 1
        if self.rate_at is not None:
            row = np.float64(number(group["lr"])).tobytes()
            if row != self.rate:
                put(self.be, self.rate_at, row, 1)
                self.rate = row
