"""Running sums, products, extremes and logarithms of sums along a dim."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad.autograd.op import composite, op
from gpugrad.dtypes import HALF, wide
from gpugrad.ops.exponential import complex_logaddexp

# A row of more elements than this is cut into chunks, if there are few rows.
CHUNK = 1 << 14
FEW = 512
TOTALS, FROM_TOTALS, FROM_ZERO = 0, 1, 2         # modes of the kernel cumsum_rows


@op("CumsumBackward0", inplace=True)
class cumsum:
    """Running sums along dim, from its end if ``backwards``."""
    def forward(be, x, *, dim, backwards=False):
        if x.dtype in HALF:
            return be.in_float32(cumsum, x, dim=dim, backwards=backwards)
        dtype = np.int64 if x.dtype.kind in "bui" else None
        if not backwards:
            return be.xp.cumsum(x, dim, dtype)
        turn = (slice(None),) * dim + (slice(None, None, -1),)
        return be.xp.ascontiguousarray(be.xp.cumsum(x[turn], dim, dtype)[turn])
    def cuda(be, x, *, dim, backwards=False):
        if not be.kernels.take(x.dtype) or not x.size or not x.ndim:
            return NotImplemented
        length, inner = x.shape[dim], 1
        for n in x.shape[dim + 1:]:
            inner *= n
        lines = x.size // length
        if inner == 1 or (lines < FEW and length > FEW):
            y = rows(be, be._dense(be.xp.moveaxis(x, dim, -1)), lines, length, backwards)
            return be._dense(be.xp.moveaxis(y, -1, dim))
        y = be.empty(x.shape, x.dtype)
        be.kernels.each("scan", "cumsum_columns", x.dtype, lines, (be._dense(x), y),
                        np.int64(length), np.int64(inner), np.int32(backwards))
        return y
    def grad_x(o, g, dim, backwards):
        return o.cumsum(g, dim=dim, backwards=not backwards)


def rows(be: Any, x: Any, lines: int, length: int, backwards: bool) -> Any:
    """Running sums of lines beside each other; a few long ones in chunks, which start from the
    running sums of the chunks' totals."""
    chunks = 1 if lines >= FEW else -(-length // CHUNK)
    y, totals = be.empty(x.shape, x.dtype), be.empty((lines, chunks), wide(x.dtype))

    def run(mode: int, sums: Any) -> None:
        be.kernels.rows("scan", "cumsum_rows", x.dtype, lines * chunks, -(-length // chunks),
                        (x, sums, y), np.int64(length), np.int32(chunks), np.int32(mode),
                        np.int32(backwards))

    if chunks == 1:
        run(FROM_ZERO, totals)
    else:
        run(TOTALS, totals)
        run(FROM_TOTALS, rows(be, totals, lines, chunks, False))
    return y


# Other running results ---------------------------------------------------------------------------


def slices(x: Any, dim: int) -> Any:
    """A view (before, dim, behind) of an array in C order."""
    return x.reshape(math.prod(x.shape[:dim]), x.shape[dim], math.prod(x.shape[dim + 1:]))


def by_slices(x: Any, dim: int) -> bool:
    """Do NumPy's operations on one slice after the other take less time than accumulate()?"""
    return math.prod(x.shape[dim + 1:]) >= 64


def accumulate(ufunc: Any, x: Any, dim: int) -> Any:
    """ufunc.accumulate on the CPU."""
    if not by_slices(x, dim):
        return ufunc.accumulate(x, dim)
    x = np.ascontiguousarray(x)
    y = np.empty_like(x)
    a, b = slices(x, dim), slices(y, dim)
    b[:, :1] = a[:, :1]
    for i in range(1, a.shape[1]):
        ufunc(b[:, i - 1], a[:, i], out=b[:, i])
    return y


def places(x: Any, best: Any, dim: int) -> Any:
    """record_places() on the CPU: each record's index is repeated up to the next one."""
    found = x == best
    if x.dtype.kind in "fV" and np.isnan(np.take(best, -1, dim)).any():
        found |= np.isnan(x)
    out = np.empty(x.shape, np.int64)
    if by_slices(x, dim):
        new, at = slices(found, dim), slices(out, dim)
        at[:, 0] = 0
        for i in range(1, new.shape[1]):
            at[:, i] = at[:, i - 1]
            np.copyto(at[:, i], i, where=new[:, i])
        return out
    rows = np.moveaxis(found, dim, -1)
    records = np.flatnonzero(rows)
    counts = np.diff(records, append=found.size)
    np.moveaxis(out, dim, -1)[...] = np.repeat(records % x.shape[dim], counts).reshape(rows.shape)
    return out


def running(be: Any, x: Any, dim: int, combine: Any) -> Any:
    """Running results of an associative function of two arrays along dim, for devices whose ufuncs
    don't accumulate: as many steps as the length has bits."""
    y, front, step = be.copy(x), (slice(None),) * dim, 1
    while step < x.shape[dim]:
        late, early = (*front, slice(step, None)), (*front, slice(None, -step))
        y[late] = combine(y[early], y[late])
        step *= 2
    return y


@composite
def later(o: Any, x: Any, dim: int, step: int) -> Any:
    """x moved ``step`` places towards the start of dim, with zeros at the end."""
    n = x.shape[dim]
    return o.cat(o.slice_(x, dim=dim, start=step, stop=n),
                 o.zeros_like(o.slice_(x, dim=dim, start=0, stop=step)), dim=dim)


@composite
def sums_with_factors(o: Any, b: Any, a: Any, dim: int) -> Any:
    """r with r[k] = b[k] + a[k] * r[k + 1] along dim, from its end, where r is 0.

    Each step of the loop doubles how many terms an element has; a becomes the product of so many.
    """
    step, n = 1, b.shape[dim]
    while step < n:
        b = o.add(b, o.mul(a, o.later(b, dim, step)))
        step *= 2
        if step < n:
            a = o.mul(a, o.later(a, dim, step // 2))
    return b


@op("CumprodBackward0", inplace=True)
class cumprod:
    """Running products along dim."""
    def forward(be, x, *, dim):
        if x.dtype in HALF:
            return be.in_float32(cumprod, x, dim=dim)
        return accumulate(np.multiply, x.astype(np.int64) if x.dtype.kind in "bui" else x, dim)
    def cuda(be, x, *, dim):
        if x.dtype in HALF:
            return NotImplemented
        return be.xp.cumprod(x, dim, np.int64 if x.dtype.kind in "bui" else None)
    def grad_x(o, g, x, dim):
        # what stands before an element times what follows from it: no division, so zeros are right
        n = x.shape[dim]
        if n == 0:
            return o.zeros_like(x)
        first = o.slice_(x, dim=dim, start=0, stop=1)
        one = o.shift(o.zeros_like(first), number=1)
        before = o.cumprod(o.cat(one, o.slice_(x, dim=dim, start=0, stop=n - 1), dim=dim), dim=dim)
        return o.mul(before, o.sums_with_factors(g, o.later(x, dim, 1), dim))


def record_places(be: Any, x: Any, best: Any, dim: int, running_max: Any) -> Any:
    """The index of the last element up to each place that is the best so far, or NaN."""
    found = (x == best) | be.xp.isnan(x) if x.dtype.kind in "fV" else x == best
    shape = (1,) * dim + (-1,) + (1,) * (x.ndim - dim - 1)
    at = be.xp.arange(x.shape[dim]).reshape(shape)
    return running_max(be.xp.where(found, at, be.number[0, at.dtype]))


def extremes_by_steps(be: Any, x: Any, dim: int, extreme: Any) -> tuple[Any, Any]:
    """(running extremes, where they were found) on devices whose ufuncs don't accumulate."""
    best = running(be, x, dim, extreme)
    return best, record_places(be, x, best, dim, lambda a: running(be, a, dim, be.xp.maximum))


@composite
def scatter_running(o: Any, g: Any, index: Any, shape: Any, dim: int) -> Any:
    """Gradients added up where the running extremes were found."""
    return o.scatter_add(o.new_zeros(g, shape=shape), index, g, dim=dim)


@op("CummaxBackward0", outputs=2)
class cummax:
    """Running maxima along dim, and where they were found: the last of equal ones, or a NaN."""
    def forward(be, x, *, dim):
        if type(x) is not np.ndarray:
            return extremes_by_steps(be, x, dim, be.xp.maximum)
        best = accumulate(np.maximum, np.ascontiguousarray(x), dim)
        return best, places(x, best, dim) if x.size else np.empty(x.shape, np.int64)
    def cuda(be, x, *, dim):
        return extremes_by_steps(be, x, dim, be.xp.maximum)
    def grad_x(o, g, result1, x_shape, dim):
        return o.scatter_running(g, result1, x_shape, dim)


@op("CumminBackward0", outputs=2)
class cummin:
    """Running minima along dim, and where they were found: the last of equal ones, or a NaN."""
    def forward(be, x, *, dim):
        if type(x) is not np.ndarray:
            return extremes_by_steps(be, x, dim, be.xp.minimum)
        best = accumulate(np.minimum, np.ascontiguousarray(x), dim)
        return best, places(x, best, dim) if x.size else np.empty(x.shape, np.int64)
    def cuda(be, x, *, dim):
        return extremes_by_steps(be, x, dim, be.xp.minimum)
    def grad_x(o, g, result1, x_shape, dim):
        return o.scatter_running(g, result1, x_shape, dim)


@op("LogcumsumexpBackward0")
class logcumsumexp:
    """log(cumsum(exp(x))) along dim, without overflow."""
    def forward(be, x, *, dim):
        if x.dtype in HALF:
            return be.in_float32(logcumsumexp, x, dim=dim)
        if x.dtype.kind == "c":
            return running(be, x, dim, lambda a, b: complex_logaddexp(be, a, b))
        return be.xp.logaddexp.accumulate(x, dim)
    def cuda(be, x, *, dim):
        if x.dtype in HALF:
            return running(be, x.astype(np.float32), dim, be.xp.logaddexp).astype(x.dtype)
        if x.dtype.kind == "c":
            return NotImplemented                # forward's text, which suits every device
        return running(be, x, dim, be.xp.logaddexp)
    def grad_x(o, g, x, result, x_shape, dim):
        # factors of exp(result[k] - result[k + 1]) are at most 1: nothing overflows
        n = x_shape[dim]
        if n == 0:
            return o.zeros_like(x)
        last = o.slice_(result, dim=dim, start=n - 1, stop=n)
        after = o.cat(o.slice_(result, dim=dim, start=1, stop=n), last, dim=dim)
        empty = o.eq(result, -math.inf)              # so far nothing was added
        factors = o.drop_where(o.exp(o.sub(result, after)), empty)
        share = o.drop_where(o.exp(o.sub(x, result)), empty)
        return o.mul(share, o.sums_with_factors(g, factors, dim))
