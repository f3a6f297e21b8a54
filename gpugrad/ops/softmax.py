"""softmax and log_softmax along one dim, and their backward ops."""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpugrad.autograd.op import composite, op
from gpugrad.backend.compiled import FLOAT, dense, for_floats
from gpugrad.dtypes import wide


@op("SoftmaxBackward0")
class softmax:
    """exp(x) over its sum along dim, without overflow."""
    def forward(be, x, *, dim):
        xp, out = be.xp, wide_empty(be, x)

        def work(part):
            line, y = part
            xp.subtract(line, line_max(be, line), out=y)     # a line of -inf becomes NaN
            xp.exp(y, out=y)
            y /= line_sum(be, y)

        with np.errstate(invalid="ignore"):
            be.share(work, lines(be, dim, x, out), out.size * be.element_cost)
        return out.astype(x.dtype, copy=False)
    def cpu(be, x, *, dim):
        return helped_lines("softmax", dim, x)
    def cuda(be, x, *, dim):
        return run_lines(be, "softmax", dim, x)
    def grad_x(o, g, result, dim):
        return o.softmax_backward(g, result, dim=dim)


@op("SoftmaxBackwardDataBackward0")
class softmax_backward:
    """y * (g - sum(g * y))"""
    def forward(be, g, y, *, dim):
        out = wide_empty(be, g)

        def work(part):
            slope, line, r = part
            be.xp.multiply(slope, line, out=r)
            be.xp.subtract(slope, line_sum(be, r), out=r)
            r *= line

        be.share(work, lines(be, dim, g, y, out), out.size * be.element_cost)
        return out.astype(g.dtype, copy=False)
    def cpu(be, g, y, *, dim):
        return helped_lines("softmax_backward", dim, g, y)
    def cuda(be, g, y, *, dim):
        return run_lines(be, "softmax_backward", dim, g, y)
    def grad_g(o, gg, y, dim):
        return o.softmax_backward(gg, y, dim=dim)
    def grad_y(o, gg, g, y, dim):
        own = o.mul(gg, o.sub(g, o.line_total(o.mul(g, y), dim)))
        return o.sub(own, o.mul(g, o.line_total(o.mul(gg, y), dim)))


@op("LogSoftmaxBackward0")
class log_softmax:
    """x - log(sum(exp(x))) along dim, without overflow."""
    def forward(be, x, *, dim):
        xp, out = be.xp, wide_empty(be, x)

        def work(part):
            line, y = part
            xp.subtract(line, line_max(be, line), out=y)
            y -= xp.log(line_sum(be, xp.exp(y)))

        with np.errstate(invalid="ignore"):
            be.share(work, lines(be, dim, x, out), out.size * be.element_cost)
        return out.astype(x.dtype, copy=False)
    def cpu(be, x, *, dim):
        return helped_lines("log_softmax", dim, x)
    def cuda(be, x, *, dim):
        return run_lines(be, "log_softmax", dim, x)
    def grad_x(o, g, result, dim):
        return o.log_softmax_backward(g, result, dim=dim)


@op("LogSoftmaxBackwardDataBackward0")
class log_softmax_backward:
    """g - exp(y) * sum(g)"""
    def forward(be, g, y, *, dim):
        out = wide_empty(be, g)

        def work(part):
            slope, line, r = part
            be.xp.exp(line, out=r)
            r *= line_sum(be, slope)
            be.xp.subtract(slope, r, out=r)

        be.share(work, lines(be, dim, g, y, out), out.size * be.element_cost)
        return out.astype(g.dtype, copy=False)
    def cpu(be, g, y, *, dim):
        return helped_lines("log_softmax_backward", dim, g, y)
    def cuda(be, g, y, *, dim):
        return run_lines(be, "log_softmax_backward", dim, g, y)
    def grad_g(o, gg, y, dim):
        return o.sub(gg, o.line_total(o.mul(gg, o.exp(y)), dim))
    def grad_y(o, gg, g, y, dim):
        return o.neg(o.mul(o.mul(gg, o.exp(y)), o.line_total(g, dim)))


@composite
def line_total(o, x, dim):
    """The sum along dim, kept as size 1; a 0-dim tensor is a line of one element."""
    return o.sum(x, dim=(dim,) if x.ndim else None, keepdim=True)


def run_lines(be: Any, name: str, dim: int, *arrays: Any) -> Any:
    """What a kernel of softmax.cu makes of arrays of one shape and dtype."""
    shape, dtype = arrays[0].shape, arrays[0].dtype
    if not be.takes(dtype) or any([a.dtype != dtype or a.shape != shape for a in arrays]):
        return NotImplemented
    out = be.empty(shape, dtype)
    be.kernels.lines("softmax", name, dtype, shape, dim, (*map(be._dense, arrays), out))
    return out


def helped_lines(name: str, dim: int, *arrays: Any) -> Any:
    """What a kernel of the compiled helper makes of float32 arrays of one shape."""
    c, shape = for_floats(*arrays), arrays[0].shape
    if c is None or arrays[-1].shape != shape:
        return NotImplemented
    out = np.empty(shape, FLOAT)
    getattr(c, name)(*map(dense, arrays), out, shape[dim] if shape else 1,
                     math.prod(shape[dim + 1:]))
    return out


def wide_empty(be: Any, x: Any) -> Any:
    """New memory in the shape of x; float32 for 16 bits, which are too coarse for sums."""
    return be.empty(x.shape, wide(x.dtype))


def lines(be: Any, dim: int, *arrays: Any) -> Iterator[list[Any]]:
    """The arrays part by part as (outer, line, inner), or (outer, line) for the last dim.

    The parts stay in the processor's cache. The last array is the result: its parts are views;
    those of the others are in its dtype.
    """
    out = arrays[-1]
    if not out.size:
        return
    shape = out.shape
    n, inner = (shape[dim], 1) if shape else (1, 1)
    for s in shape[dim + 1:]:
        inner *= s
    if out.ndim != 2 or dim != 1:
        arrays = tuple([a.reshape(-1, n, inner) if inner > 1 else a.reshape(-1, n) for a in arrays])
    step = max(1, be.column_bytes // 2 // (n * inner * out.itemsize))
    if step >= len(arrays[0]) and arrays[0].dtype == out.dtype:
        yield list(arrays)
        return
    for i in range(0, len(arrays[0]), step):
        yield [a[i:i + step].astype(out.dtype, copy=False) for a in arrays]


def line_max(be: Any, a: Any) -> Any:
    if a.ndim == 3:
        return a.max(1, keepdims=True)
    # NumPy finds where the maximum of a row is three times faster than what it is.
    return a[be.xp.arange(len(a)), a.argmax(1)][:, None]


def line_sum(be: Any, a: Any) -> Any:
    if a.ndim == 3:
        return a.sum(1, keepdims=True)
    return be.xp.einsum("ij->i", a)[:, None]     # three times faster than add.reduce
