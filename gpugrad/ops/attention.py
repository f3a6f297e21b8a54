"""Scaled dot-product attention without its matrix of scores, whose parts are made and forgotten.

q is (b, h, l, e), k (b, h, s, e), v (b, h, s, ev), the result (b, h, l, ev). mask broadcasts with
(b, h, l, s): bools say which keys a query may see, numbers are added to the scores. With ``causal``
query i sees the keys 0 ... i. A query that sees nothing gets zeros.

A part is some queries of one head, or some heads, or images, with all their keys, so softmax needs
no second pass, and backward makes the same parts again.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpugrad.autograd.op import composite, op
from gpugrad.dtypes import wide


@op("ScaledDotProductFlashAttentionForCpuBackward0")
class attention:
    """softmax(scale * q @ k.T, masked) @ v"""
    def forward(be, q, k, v, mask=None, *, causal, scale):
        out = be.empty((*q.shape[:3], v.shape[3]), q.dtype)
        for b, heads, rows, keys in parts(be, q, k, causal):
            p = weights(be, q[b, heads, rows], k[b, heads, keys],
                        part_of(be, mask, q, k, b, heads, rows, keys), rows, causal, scale)
            out[b, heads, rows] = be.matmul(p.astype(q.dtype, copy=False), v[b, heads, keys])
        return out
    grad_mask = None
    def grads(o, g, needs, q, k, v, mask, causal, scale):
        found = o.attention_backward(g, q, k, v, mask, causal=causal, scale=scale)
        return [x if need else None for x, need in zip(found, needs)]


@op("ScaledDotProductFlashAttentionForCpuBackwardBackward0", outputs=3, diff=3)
class attention_backward:
    """The gradients of attention for q, k and v."""
    def forward(be, g, q, k, v, mask=None, *, causal, scale):
        xp, sums = be.xp, wide(q.dtype)
        gq = be.empty(q.shape, q.dtype)
        gk, gv = xp.zeros(k.shape, sums), xp.zeros(v.shape, sums)
        for b, heads, rows, keys in parts(be, q, k, causal):
            some, others, values = q[b, heads, rows], k[b, heads, keys], v[b, heads, keys]
            slopes = g[b, heads, rows]
            p = weights(be, some, others, part_of(be, mask, q, k, b, heads, rows, keys), rows,
                        causal, scale)
            part = gv[b, heads, keys]
            part += be.matmul(turned(p).astype(q.dtype, copy=False), slopes)
            d = be.matmul(slopes, turned(values), dtype=sums if sums != q.dtype else None)
            d -= (p * d).sum(-1, keepdims=True)
            d *= p
            d *= be.number[scale, sums]
            d = d.astype(q.dtype, copy=False)
            gq[b, heads, rows] = be.matmul(d, others)
            part = gk[b, heads, keys]
            part += be.matmul(turned(d), some)
        return gq, gk.astype(k.dtype, copy=False), gv.astype(v.dtype, copy=False)
    grad_mask = None
    def grads(o, g0, g1, g2, needs, g, q, k, v, mask, causal, scale):
        p = o.attention_weights(q, k, mask, causal=causal, scale=scale)
        vt, dead = turn(o, v), o.zeros_like
        a, b, c = (dead(x) if gg is None else gg for gg, x in ((g0, q), (g1, k), (g2, v)))
        dp = o.bmm(g, vt)
        ds = o.softmax_backward(dp, p, dim=3)
        t = o.scale(o.add(o.bmm(a, turn(o, k)), o.bmm(q, turn(o, b))), number=scale)
        w = o.softmax_backward(t, p, dim=3)                  # what dp gets
        total_t, total_d = (o.sum(o.mul(p, x), dim=(3,), keepdim=True) for x in (t, dp))
        at_p = o.sub(o.sub(o.mul(t, dp), o.mul(dp, total_t)), o.mul(t, total_d))
        at_p = o.add(at_p, o.bmm(g, turn(o, c)))
        at_s = o.scale(o.softmax_backward(at_p, p, dim=3), number=scale)
        ds = o.scale(ds, number=scale)
        return [o.add(o.bmm(w, v), o.bmm(p, c)),
                o.add(o.bmm(at_s, k), o.bmm(ds, b)),
                o.add(o.bmm(turn(o, at_s), q), o.bmm(turn(o, ds), a)),
                o.bmm(turn(o, w), g)]


@composite
def attention_weights(o, q, k, mask, causal, scale):
    """The whole matrix of weights, (b, h, l, s)."""
    s = o.scale(o.bmm(q, turn(o, k)), number=scale)
    if causal:
        mask = o.tril(o.ge(o.zeros_like(o.slice_(s, dim=0, start=0, stop=1)), 0), diagonal=0)
    if mask is None:
        return o.softmax(s, dim=3)
    if dtype_of(mask).kind == "b":
        seen = mask
    else:
        s, seen = o.add(s, mask), o.gt(mask, -float("inf"))
    hidden = o.logical_not(seen)
    # where a query sees nothing, softmax of finite numbers is finite, and then dropped
    return o.drop_where(o.softmax(o.where(seen, s, o.shift(o.zeros_like(s), number=-1e4)), dim=3),
                        hidden)


def dtype_of(a: Any) -> Any:
    return a._a.dtype if hasattr(a, "_a") else a.dtype


def turn(o: Any, x: Any) -> Any:
    return o.transpose(x, dim0=-2, dim1=-1)


def turned(a: Any) -> Any:
    return a.swapaxes(-1, -2)


def parts(be: Any, q: Any, k: Any, causal: bool) -> Iterator[tuple[slice, slice, slice, slice]]:
    """(images, heads, queries, keys) such that the scores of a part stay within bounds."""
    (n, h, length, _), s = q.shape, k.shape[2]
    room = max(1, 2 * be.column_bytes // max(1, s * wide(q.dtype).itemsize))
    rows = max(1, min(length, max(room, 16)))
    heads = max(1, min(h, room // rows)) if rows == length else 1
    images = max(1, room // (rows * h)) if heads == h else 1
    for b in range(0, n, images):
        for i in range(0, h, heads):
            for j in range(0, length, rows):
                stop = min(length, j + rows)
                yield slice(b, min(n, b + images)), slice(i, min(h, i + heads)), \
                    slice(j, stop), slice(0, min(s, stop) if causal else s)


def part_of(be: Any, mask: Any, q: Any, k: Any, b: slice, heads: slice, rows: slice,
            keys: slice) -> Any:
    if mask is None:
        return None
    return be.xp.broadcast_to(mask, (*q.shape[:3], k.shape[2]))[b, heads, rows, keys]


def weights(be: Any, q: Any, k: Any, mask: Any, rows: slice, causal: bool, scale: float) -> Any:
    """What each key counts for each query of a part, in float32 for 16 bits."""
    xp, sums = be.xp, wide(q.dtype)
    if sums == q.dtype:
        s = be.workspace("scores", (*q.shape[:3], k.shape[2]), sums)
        be.matmul(q, turned(k), s)
    else:
        s = be.matmul(q, turned(k), dtype=sums)
    s *= be.number[scale, sums]
    lowest = be.number[-float("inf"), sums]
    if mask is not None and mask.dtype.kind == "b":
        s = xp.where(mask, s, lowest)
    elif mask is not None:
        s += mask
    if causal:                                   # only keys from rows.start on can be hidden
        part = s[..., rows.start:]
        late = xp.arange(rows.start, k.shape[2]) > xp.arange(rows.start, rows.stop)[:, None]
        part[...] = xp.where(late, lowest, part)
    if not s.shape[-1]:
        return s
    top = s.max(-1, keepdims=True)
    if mask is not None:
        top = xp.where(top == lowest, be.number[0, sums], top)
    s -= top
    xp.exp(s, out=s)
    total = s.sum(-1, keepdims=True)
    if mask is not None:
        total = xp.where(total == be.number[0, sums], be.number[1, sums], total)
    s /= total
    return s
