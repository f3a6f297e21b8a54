"""Sequences of several lengths: side by side and padded, (T, B, ...), or packed as rows.

Packed, the rows of a step lie together: of step t there are ``sizes[t]``, which never grow, since
the longest sequence is the first.
"""
from __future__ import annotations

import functools
import itertools

from gpugrad.autograd.op import op


@functools.lru_cache(64)
def blocks(sizes: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """(first step, end, rows of a step, first row) of each run of steps of one size."""
    found, t, a = [], 0, 0
    for n, run in itertools.groupby(sizes):
        length = sum(1 for _ in run)
        found.append((t, t + length, n, a))
        t, a = t + length, a + length * n
    return found


@op("PackPaddedSequenceBackward0")
class pack_padded:
    """(T, B, ...) to rows: the first sizes[t] of each step."""
    def forward(be, input, *, sizes):
        rest = input.shape[2:]
        out = be.empty((sum(sizes), *rest), input.dtype)
        for t, end, n, a in blocks(sizes):
            out[a:a + (end - t) * n].reshape(end - t, n, *rest)[...] = input[t:end, :n]
        return out
    def grad_input(o, g, input_shape, sizes):
        return o.pad_packed(g, sizes=sizes, length=input_shape[0])


@op("PadPackedSequenceBackward0")
class pad_packed:
    """pack_padded's rows to (length, B, ...), with a value where there are none."""
    def forward(be, data, *, sizes, length, value=0):
        rest = data.shape[1:]
        out = be.xp.full((length, sizes[0], *rest), value, data.dtype)
        for t, end, n, a in blocks(sizes):
            out[t:end, :n] = data[a:a + (end - t) * n].reshape(end - t, n, *rest)
        return out
    def grad_data(o, g, sizes):
        return o.pack_padded(g, sizes=sizes)


@op("PadSequenceBackward0")
class pad_sequences:
    """Sequences (length, ...) side by side, (T, B, ...), padded with a value at one end.

    (B, T, ...) if batch_first.
    """
    def forward(be, *xs, length, value=0, left=False, batch_first=False):
        lead = (len(xs), length) if batch_first else (length, len(xs))
        out = be.xp.full((*lead, *xs[0].shape[1:]), value, xs[0].dtype)
        for i, x in enumerate(xs):
            a = length - len(x) if left else 0
            rows = slice(a, a + len(x))
            out[(i, rows) if batch_first else (rows, i)] = x
        return out
    def grads(o, g, needs, xs_shape, length, left, batch_first):
        out = []
        for i, (need, shape) in enumerate(zip(needs, xs_shape)):
            a = length - shape[0] if left else 0
            part = o.select(g, dim=0 if batch_first else 1, index=i) if need else None
            out.append(o.slice_(part, dim=0, start=a, stop=a + shape[0]) if need else None)
        return out
