"""A step of many parameters on one GPU: a launch of the algorithm's kernel for dozens at a time.

The kernel of an algorithm does what its ``_update`` says, in one pass over memory. It gets the
numbers of the step by value. But where a captured graph must stay right when it is replayed
(``capturable``, or a learning rate that is a Tensor on the device), where a gradient scaler may
cancel the step, and with ``fused``, the step count is on the device, and a small kernel works the
numbers out there: nothing is read by the host.

A step that ``graph_step`` captures is told to ``live[0]`` (optim/live.py): its numbers are in
memory, and the host writes them there before each launch of the graph.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad._tensor import Tensor, bump
from gpugrad.autograd.transfer import to_backend
from gpugrad.backend import many
from gpugrad.optim.options import of_parts

# Structs of kernels/optimizer.cuh; an address of 0 stands for none.
SCALER = np.dtype([("scale", np.uint64), ("found_inf", np.uint64)])
OPTIONS = np.dtype([(f, np.float64) for f in "lr weight_decay beta1 beta2 eps momentum extra "
                    "look".split()] + [("lr_at", np.uint64), ("found_inf", np.uint64),
                                       ("rows", np.uint64), ("decoupled", np.int64)])

live: list[Any] = [None]        # who captures the step for launches with other numbers, if somebody


def counts_on_device(group: dict[str, Any]) -> bool:
    """Does ``state["step"]`` live beside the parameter? As in PyTorch."""
    return bool(group.get("capturable") or group.get("fused"))


def refuse_capture(opt: Any, be: Any) -> None:
    """Raise in a capture: the host counts the steps."""
    if be.capturing:
        raise RuntimeError("Attempting CUDA graph capture of step() for an instance of "
                           f"{type(opt).__name__} but param_groups' capturable is False.")


def step_together(opt: Any, group: dict[str, Any], be: Any, params: list[Tensor]) -> list[Tensor]:
    """Step those parameters, all with gradients, that the kernels take; return the others."""
    names, lr = opt._state_names(group), group["lr"]
    who = live[0] if be.capturing else None         # another thread's is none of our business
    if who is not None:
        who.begin(opt, group, be)
    elif opt._counts_steps and not group.get("capturable", group.get("fused")):
        refuse_capture(opt, be)
    lr_at = None
    if isinstance(lr, Tensor) and lr._be.index:
        lr_at = to_backend(lr, be)._a.astype(np.float64, copy=False)
    scaler = [None if t is None else to_backend(t, be)._a.astype(np.float32, copy=False)
              for t in (opt.grad_scale, opt.found_inf)]
    device = counts_on_device(group) or lr_at is not None or scaler[1] is not None
    if who is not None and device and lr_at is None:
        lr_at = who.rate()
    sets: dict[Any, list[list[Any]]] = {}
    others, copies = [], []
    for p in params:
        if not _taken(opt, p, names):
            others.append(p)
            continue
        if who is None:
            t, arrays = opt._state_of(p, group, names, device)
            scalars = () if device else opt._advance(p, group, t)
        else:
            t, scalars, arrays = who.state(p, names, device)
        a, g = p._a, p.grad._a                      # type: ignore[union-attr]
        if not _alike(g, a):
            ordered = be.xp.empty_like(a)
            ordered[...] = g
            copies.append((g, ordered))
            g = ordered
        count = [opt.state[p][name]._a for name in ("step", *opt._scalars)] \
            if device and opt._counts_steps else []
        if a.dtype.kind == "c":
            a, g, *arrays = [be.raw.view_as_real(x) for x in (a, g, *arrays)]
        sets.setdefault((a.dtype, t, scalars), []).append([a, g, *arrays, *count])
        if who is None:
            bump(p)
    if others and be.capturing and (device or who is not None):
        raise NotImplementedError(
            f"{type(opt).__name__}.step(): a parameter of shape {list(others[0].shape)} is stepped "
            "without a kernel, and the host would count its steps: it can't be captured into a "
            "graph. Make its memory contiguous and of one of the kernels' dtypes, or step outside "
            "the graph")
    for (dtype, t, scalars), rows in sets.items():
        columns = list(zip(*rows))
        given = None if who is None or device else who.numbers(dtype, t, scalars)
        for i in range(0, len(rows), many.MOST):
            part = [column[i:i + many.MOST] for column in columns]
            _launch(opt, group, be, dtype, (t, *scalars), part, lr_at, scaler, device, given)
    if scaler[0] is not None:                       # the gradients have been divided by it
        for g, ordered in copies:
            g[...] = ordered
    return others


def _taken(opt: Any, p: Tensor, names: tuple[str, ...]) -> bool:
    """Can the kernels update p? Its state must lie in memory as p does."""
    a, held, g = p._a, opt.state.get(p, {}), getattr(p, "_grad", None)
    dtype, shape, strides = a.dtype, a.shape, a.strides
    if g is None or g._a.dtype != dtype or not p._be.takes(of_parts(dtype)) or \
            not p._be.is_dense(a):
        return False
    for name in names:
        if name in held:
            x = held[name]._a
            if (x.strides != strides or x.shape != shape or x.dtype != dtype) and not _alike(x, a):
                return False
    return True


def _alike(a: Any, p: Any) -> bool:
    return a.dtype == p.dtype and a.shape == p.shape and (
        a.strides == p.strides or (a.flags.c_contiguous and p.flags.c_contiguous))


def _launch(opt: Any, group: dict[str, Any], be: Any, dtype: Any, count: tuple[float, ...],
            columns: list[Any], lr_at: Any, scaler: list[Any], device: bool,
            rows: Any = None) -> None:
    """The launches for up to many.MOST parameters of one dtype, step number and scalars.

    rows: where the numbers are, if the host is to change them.
    """
    def address(a: Any) -> int:
        return 0 if a is None else be.address(a)

    acc = acc_of(dtype)
    neutral = 0.0, 1.0, *opt._neutral               # what stands for a number that is None
    values = neutral
    if device:
        n = 1 + len(opt._scalars) if opt._counts_steps else 0
        counts, columns = columns[-n:] if n else columns[:1], columns[:len(columns) - n]
        rows = be.empty((len(counts[0]), len(neutral)), acc)
        options = np.zeros((), OPTIONS)
        given = {**opt._device_options(group, count[0]), "lr_at": address(lr_at),
                 "rows": address(rows), "found_inf": address(scaler[1])}
        for name, value in given.items():
            options[name] = value
        be.launch(opt._file, opt._kernel + "_numbers", (1,), (128,),
                  (many.pack(be, counts)[0], options), dtype)
    elif rows is None:
        values = step_values(opt, group, count)
    numbers = np.array((values, address(rows)), np.dtype(
        [("value", acc, len(neutral)), ("rows", np.uint64)], align=True))
    tensors, blocks = many.pack(be, columns)
    flags = group["maximize"], *opt._flags(group)
    be.launch(opt._file, opt._kernel, (blocks,), (many.THREADS,),
              (tensors, numbers, np.array(tuple(map(address, scaler)), SCALER),
               *map(np.int32, flags)), dtype)


def acc_of(dtype: Any) -> Any:
    """The dtype of the arithmetic."""
    return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)


def step_values(opt: Any, group: dict[str, Any], count: tuple[float, ...]) -> tuple[float, ...]:
    """The numbers of a step as kernels take them. count: the step's, and the scalars before it."""
    neutral = 0.0, 1.0, *opt._neutral
    return tuple([absent if v is None else v
                  for v, absent in zip(opt._values(group, *count), neutral)])
