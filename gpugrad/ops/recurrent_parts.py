"""What recurrent layers share: where rows are, products of all steps, gradients of the weights, a
layer in small ops for the second derivative. recurrent.py says how sequences lie in memory.
"""
from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np

from gpugrad import backend
from gpugrad._tensor import wrap
from gpugrad.autograd.engine import grad
from gpugrad.autograd.grad_mode import enable_grad
from gpugrad.autograd.op import composite
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import wide
from gpugrad.ops.bias import add_bias

LONG = 3        # from so many steps on, the weights are transposed in memory: twice as fast


# Where rows are ----------------------------------------------------------------------------------

@functools.lru_cache(64)
def steps(sizes: tuple[int, ...], reverse: bool) -> list[tuple[int, int]]:
    """(its first row, how many rows) of each step, in the order that the layer takes them."""
    found = list(zip(itertools.accumulate(sizes, initial=0), sizes))
    return found[::-1] if reverse else found


@functools.lru_cache(64)
def step_table(sizes: tuple[int, ...], reverse: bool) -> Any:
    """steps() as the compiled helper reads it."""
    return np.array(steps(sizes, reverse), np.int64)


@functools.lru_cache(64)
def sources(sizes: tuple[int, ...], reverse: bool) -> list[tuple[bool, int, int]]:
    """What `states_before` joins: (from x0?, start, stop), with neighbours made one."""
    parts: list[tuple[bool, int, int]] = []
    first = [a for a, _ in steps(sizes, False)]
    for t, n in enumerate(sizes):
        other = t + 1 if reverse else t - 1
        known = min(n, sizes[other]) if 0 <= other < len(sizes) else 0
        if known:
            parts.append((False, first[other], first[other] + known))
        if known < n:
            parts.append((True, known, n))
    joined = parts[:1] or [(False, 0, 0)]
    for part in parts[1:]:
        last = joined[-1]
        if part[0] == last[0] and part[1] == last[2]:
            joined[-1] = (*last[:2], part[2])
        else:
            joined.append(part)
    return joined


@composite
def states_before(o: Any, x: Any, x0: Any, sizes: Any, reverse: bool) -> Any:
    """For each row of x what the step before has for this sequence; x0's row for its first."""
    if x0 is None:
        x0 = o.new_zeros(x, shape=(max(sizes), *x.shape[1:]))
    parts = [o.slice_(x0 if first else x, dim=0, start=a, stop=b)
             for first, a, b in sources(sizes, reverse)]
    return o.cat(*parts, dim=0)


@composite
def hidden_weight_grad(o: Any, g: Any, out: Any, h0: Any, sizes: Any, reverse: bool) -> Any:
    """The gradient for w_hh: of g, one for each row's product of w_hh with the state before."""
    n, b = len(out), sizes[0]
    if h0 is not None or sizes[-1] != b or n == b:
        return o.mm(o.t(g), o.states_before(out, h0, sizes, reverse))
    # all steps but the first have the rows of another
    a = 0 if reverse else b
    return o.mm(o.t(o.slice_(g, dim=0, start=a, stop=a + n - b)),
                o.slice_(out, dim=0, start=b - a, stop=n - a))


# What all layers do ------------------------------------------------------------------------------

def products(be: Any, input: Any, w_ih: Any, *biases: Any) -> Any:
    """input @ w_ih.T and the biases, any of which may be None, in the dtype to calculate in."""
    out = be.matmul(input, w_ih.T, dtype=wide(input.dtype))
    given = [narrowed(b, out.dtype) for b in biases if b is not None]
    if given:
        out += given[0] if len(given) == 1 else given[0] + given[1]
    return out


def kernel_products(be: Any, input: Any, w_ih: Any, bias: Any) -> Any:
    """The same in the dtype of input, as kernels read it."""
    out = be._dense(be.matmul(input, w_ih.T))
    return out if bias is None else add_bias(be, out, bias)


def total(a: Any, b: Any) -> Any:
    """The sum of two biases, either of which may be missing."""
    return b if a is None else a if b is None else a + b


def transposed(be: Any, w: Any, sizes: Any) -> Any:
    """w.T in the dtype to calculate in, in the memory order that suits so many steps."""
    w = w.T.astype(wide(w.dtype), copy=False)
    return be.xp.ascontiguousarray(w) if len(sizes) >= LONG else w


def state(be: Any, x: Any, shape: Any, dtype: Any) -> Any:
    """New memory with a state, or with a gradient of one; zeros for None."""
    if x is None:
        return be.xp.zeros(shape, dtype)
    out = be.empty(shape, dtype)
    out[...] = x
    return out


def add_slope(dh: Any, g_out: Any, a: int, n: int) -> Any:
    """The gradient for the states of step a: what later steps have, and the one for its output."""
    part = dh[:n]
    if g_out is not None:
        part += g_out[a:a + n]
    return part


def slope_rows(be: Any, g_out: Any, dtype: Any, absent: Any) -> tuple[Any, Any]:
    """g_out as kernels read it, and whether there is one."""
    if g_out is None:
        return absent, np.int32(0)
    return be._dense(g_out.astype(dtype, copy=False)), np.int32(1)


def takes(be: Any, *arrays: Any) -> bool:
    """Are there kernels for these, of one dtype and with elements?"""
    dtype = arrays[0].dtype
    return be.takes(dtype) and all(a is None or (a.dtype == dtype and a.size) for a in arrays)


def narrowed(x: Any, dtype: Any) -> Any:
    """x in a dtype, itself if it has it."""
    return x.astype(dtype, copy=False)


def asked(be: Any, g: Any, x0: Any, dtype: Any) -> Any:
    """The gradient for a first state; zeros if there was none."""
    return be.xp.zeros(g.shape, dtype) if x0 is None else narrowed(g, dtype)


def layer_grads(o: Any, needs: Any, gx: Any, gy: Any, gh: Any, input: Any, w_ih: Any, out: Any,
                h0: Any, sizes: Any, reverse: bool) -> list[Any]:
    """The gradients for input, w_ih, w_hh, b_ih, b_hh, h0 that are needed.

    gx and gy are those for the products with w_ih and with w_hh.
    """
    found: list[Any] = [None] * 6
    if needs[0]:
        found[0] = o.mm(gx, w_ih)
    if needs[1]:
        found[1] = o.mm(o.t(gx), input)
    if needs[2]:
        found[2] = o.hidden_weight_grad(gy, out, h0, sizes, reverse)
    if needs[3]:
        found[3] = o.sum(gx, dim=(0,))
    if needs[4]:
        found[4] = o.clone(found[3]) if gx is gy and needs[3] else o.sum(gy, dim=(0,))
    if needs[5]:
        found[5] = gh
    return found


# The second derivative ---------------------------------------------------------------------------

def by_small_ops(o: Any, layer: Any, slopes: Any, inputs: Any, given: Any, needs: Any,
                 sizes: Any, reverse: bool, **constants: Any) -> list[Any]:
    """The gradients of a layer's backward op for ``slopes`` and ``inputs``.

    given: those of that op's results. ``layer`` is the forward of its inputs, as Tensors, in ops
    that have derivatives of all orders; it returns its results, and for each result of backward the
    tensors to differentiate by, or None.
    """
    graph = o is T
    be: Any = None if graph else next(be for be in backend.made() if be.raw is o)

    def tracked(v: Any) -> Any:
        if v is None:
            return None
        t = v if graph else wrap(v, be)
        return T.alias(t) if t.requires_grad else t.detach().requires_grad_()

    with enable_grad():
        slopes, inputs = [tracked(v) for v in slopes], [tracked(v) for v in inputs]
        results, groups = layer(*inputs, sizes=sizes, reverse=reverse, **constants)
        used = [(r, g) for r, g in zip(results, slopes) if g is not None]
        outs, weights = [], []
        for group, u in zip(groups, given):
            if group is None or u is None or not used:
                continue
            parts = grad([r for r, _ in used], group, [g for _, g in used], create_graph=True,
                         allow_unused=True)
            outs.append(T.cat(*[T.zeros_like(x) if g is None else g
                                for x, g in zip(group, parts)], dim=0))
            weights.append(u if graph else wrap(u, be))
        pairs = [(r, u) for r, u in zip(outs, weights) if r.requires_grad]
        wanted = [v for v, need in zip([*slopes, *inputs], needs) if need]
        found = iter(grad([r for r, _ in pairs], wanted, [u for _, u in pairs], create_graph=graph,
                          allow_unused=True) if pairs and wanted else [None] * len(wanted))
    gradients = [next(found) if need else None for need in needs[:len(slopes) + len(inputs)]]
    # copies: two inputs may have got the same array
    return [v if v is None or graph else be.copy(v._a) for v in gradients]


def step_rows(x: Any, a: int, n: int) -> Any:
    return T.slice_(x, dim=0, start=a, stop=a + n)


def columns(x: Any, count: int) -> list[Any]:
    """The count equal parts of x's columns."""
    n = x.shape[1] // count
    return [T.slice_(x, dim=1, start=k * n, stop=(k + 1) * n) for k in range(count)]


def advanced(x: Any, new: Any) -> Any:
    """A state whose first rows have new values."""
    n = len(new)
    return new if n == len(x) else T.cat(new, step_rows(x, n, len(x) - n), dim=0)


def linear(x: Any, w: Any, bias: Any) -> Any:
    y = T.mm(x, T.t(w))
    return y if bias is None else T.add(y, bias)


def zeros_for(h: Any, like: Any, sizes: Any, width: int) -> Any:
    return T.new_zeros(like, shape=(sizes[0], width)) if h is None else h


def in_order(outs: dict[int, Any]) -> list[Any]:
    return [outs[a] for a in sorted(outs)]
