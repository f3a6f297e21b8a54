"""Embedding: rows of a table by their indices, with a gradient that is a table too."""
from __future__ import annotations

import numpy as np

from gpugrad.autograd.op import op
from gpugrad.autograd.rules import g_dtype
from gpugrad.backend.compiled import dense, for_floats
from gpugrad.dtypes import HALF
from gpugrad.ops import places

LONG = 256          # elements of a row from which on rows are added one by one


@op("EmbeddingBackward0")
class embedding:
    """Indices (...) to rows of weight (n, d): (..., d). The row padding_idx gets no gradient."""
    def forward(be, weight, indices, *, padding_idx=-1, scale_grad_by_freq=False):
        return be.xp.take(weight, indices, 0)
    def cuda(be, weight, indices, *, padding_idx=-1, scale_grad_by_freq=False):
        if not be.takes(weight.dtype):
            return NotImplemented
        n, d = weight.shape
        out = be.empty((*indices.shape, d), weight.dtype)
        places.select(be, weight, indices, out, n, d)
        return out
    grad_indices = None
    def grad_weight(o, g, indices, weight_shape, padding_idx, scale_grad_by_freq):
        return o.embedding_dense_backward(g, indices, num_weights=weight_shape[0],
                                          padding_idx=padding_idx,
                                          scale_grad_by_freq=scale_grad_by_freq)


@op("EmbeddingDenseBackwardBackward0")
class embedding_dense_backward:
    """Sums of g's rows that belong to one index: (num_weights, d), zeros in the row padding_idx.

    With scale_grad_by_freq their means.
    """
    def forward(be, g, indices, *, num_weights, padding_idx=-1, scale_grad_by_freq=False):
        if g.dtype in HALF:
            return be.in_float32(embedding_dense_backward, g, indices, num_weights=num_weights,
                                 padding_idx=padding_idx, scale_grad_by_freq=scale_grad_by_freq)
        if scale_grad_by_freq:
            g = g / be.raw.frequency(indices).astype(g.dtype)[..., None]
        out, rows = be.xp.zeros((num_weights, g.shape[-1]), g.dtype), g.reshape(-1, g.shape[-1])
        be.xp.add.at(out, indices.reshape(-1), rows)
        if padding_idx >= 0:
            out[padding_idx] = 0
        return out
    def cpu(be, g, indices, *, num_weights, padding_idx=-1, scale_grad_by_freq=False):
        d, at = g.shape[-1], np.ascontiguousarray(indices, np.int64)
        # as unsigned numbers negative indices are huge
        if scale_grad_by_freq or g.dtype in HALF or not g.size or \
                at.view(np.uint64).max() >= num_weights:
            return NotImplemented
        out, c = np.zeros((num_weights, d), g.dtype), for_floats(g)
        if c is not None:
            c.embedding_backward(dense(g), at, out)
        elif d < LONG:                           # of single elements add.at is four times as fast
            at = at.reshape(-1, 1) * d + np.arange(d)
            np.add.at(out.reshape(-1), at.reshape(-1), g.reshape(-1))
        else:
            for row, i in zip(g.reshape(-1, d), at.reshape(-1).tolist()):
                out[i] += row
        if padding_idx >= 0:
            out[padding_idx] = 0
        return out
    def cuda(be, g, indices, *, num_weights, padding_idx=-1, scale_grad_by_freq=False):
        if not be.takes(g.dtype):
            return NotImplemented
        d, at = g.shape[-1], indices.reshape(-1)
        scans = places.scans(at.size, num_weights, d)
        if scale_grad_by_freq and not scans:
            g = g / be.raw.frequency(indices).astype(g.dtype)[..., None]
        g = g.reshape(at.size, d)
        if scans:
            return places.scanned(be, g, at, num_weights, padding_idx, scale_grad_by_freq)
        out = be.empty((num_weights, d), g.dtype)
        places.add(be, out, g, at, num_weights, d, padding_idx, True)
        return out
    grad_indices = None
    def grad_g(o, gg, indices, padding_idx, scale_grad_by_freq):
        rows = o.embedding(gg, indices)
        if scale_grad_by_freq:
            count = o.to(o.frequency(indices), dtype=g_dtype(gg))
            rows = o.div(rows, o.unsqueeze(count, dim=indices.ndim))
        if padding_idx >= 0:
            rows = o.drop_where(rows, o.unsqueeze(o.eq(indices, padding_idx), dim=indices.ndim))
        return rows


@op()
class frequency:
    """How often each index occurs in all."""
    def forward(be, indices):
        flat = indices.reshape(-1)
        found = be.xp.sort(flat)
        count = be.xp.searchsorted(found, flat, "right") - be.xp.searchsorted(found, flat, "left")
        return count.reshape(indices.shape)
