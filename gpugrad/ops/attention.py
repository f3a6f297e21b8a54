"""Scaled dot-product attention without its matrix of scores, whose parts are made and forgotten.

q is (b, h, l, e), k (b, h', s, e), v (b, h', s, ev), the result (b, h, l, ev): h' divides h, and
h / h' neighbouring heads of q share one of k and v. mask broadcasts with (b, h, l, s): bools say
which keys a query may see, numbers are added to the scores. With ``causal`` query i sees the keys
0 ... i. A query that sees nothing gets zeros. With a ``state`` of a generator that counts, weights
are dropped: as fused_dropout would the whole matrix (b, h, l, s).

Beside the result there is lse (b, h, l), the logarithm of the sum of each query's exponentials, in
float32 for 16 bits; infinite for a query that sees nothing. With it backward makes the weights
again in one step: exp(score - lse). A part is some queries of one head, or some heads, or images,
with all their keys; the GPU has kernels that go by tiles (ops/attention_kernels.py).
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpugrad.autograd.op import composite, op
from gpugrad.backend.compiled import ABSENT, FLOAT, dense, for_floats
from gpugrad.dtypes import wide
from gpugrad.ops.attention_kernels import laid_out, once_only, plan_for, scale_of
from gpugrad.ops.norm import cast, cast_back, needed, parameter, total
from gpugrad.ops.softmax import line_max, line_sum


@op("ScaledDotProductFlashAttentionForCpuBackward0", outputs=2, diff=2)
class attention:
    """softmax(scale * q @ k.T, masked) @ v, and lse"""
    def forward(be, q, k, v, mask=None, state=None, *, causal, scale, offset=0, keep=1.0):
        sums = wide(q.dtype)
        out, lse = laid_out(be, (*q.shape[:3], v.shape[3]), q.dtype, q), be.empty(q.shape[:3], sums)
        hidden = Hidden(be, mask, q, k, causal, sums)
        qs, outs, logs = (by_group(a, k) for a in (q, out, lse))
        ks, vs = (by_group(a, k) for a in (k, v))
        kept = kept_of(be, q, k, state, offset, keep)

        def work(part):
            some = scaled(be, part.rows(qs), scale)
            keys, values = (factor(be, part.keys(a), q.dtype) for a in (ks, vs))
            s = products(be, "scores", some, turned(keys), sums)
            hidden.hide(s, part)
            top, sum_ = soften(be, s, hidden.all)
            if kept is not None:
                s *= part.rows(kept)[..., part.key]
            y = wide_product(be, factor(be, s, q.dtype), values, sums)
            y /= sum_
            part.rows(outs)[...] = y
            part.rows(logs)[...] = (top + be.xp.log(sum_))[..., 0]

        be.share(work, parts(be, q, k, causal), lse.size * k.shape[2] * be.element_cost)
        return out, lse
    def meta(be, q, k, v, mask=None, state=None, *, causal, scale, offset=0, keep=1.0):
        return (laid_out(be, (*q.shape[:3], v.shape[3]), q.dtype, q),
                be.empty(q.shape[:3], wide(q.dtype)))
    def cpu(be, q, k, v, mask=None, state=None, *, causal, scale, offset=0, keep=1.0):
        c = helper(q, k, v, mask) if state is None else None
        if c is None:
            return NotImplemented
        out, lse = laid_out(be, (*q.shape[:3], v.shape[3]), FLOAT, q), np.empty(q.shape[:3], FLOAT)
        c.attention(q, k, v, *whole_mask(mask, q, k), out, lse, scale, causal, kind_of(mask))
        return out, lse
    def cuda(be, q, k, v, mask=None, state=None, *, causal, scale, offset=0, keep=1.0):
        plan = plan_for(be, q, k, v, mask, causal, scale, dropping(state, offset, keep))
        return NotImplemented if plan is None else plan.forward(q, k, v)
    grad_mask = grad_state = None
    def grads(o, g0, g1, needs, q, k, v, mask, state, result0, result1, q_dtype, causal, scale,
              offset, keep):
        found = [None] * 3
        if g0 is not None:
            found = o.attention_backward(g0, q, k, v, result0, result1, mask, state, causal=causal,
                                         scale=scale, offset=offset, keep=keep)
        if g1 is not None:                       # of second order alone
            q, k, *found = cast(o, q_dtype, q, k, *found)
            p = o.attention_weights(q, k, mask, result1, causal, scale)
            w = o.scale(o.mul(p, o.unsqueeze(g1, dim=3)), number=scale)
            found[0] = total(o, found[0], o.bmm(w, o.shared_heads(k, q)))
            found[1] = total(o, found[1], o.heads_sum(o.bmm(turn(o, w), q), k))
            found = cast_back(o, q_dtype, *found)
        return needed(needs, *found)


@op("ScaledDotProductFlashAttentionForCpuBackwardBackward0", outputs=3, diff=3)
class attention_backward:
    """The gradients of attention's result for q, k and v; out and lse are what it gave."""
    def forward(be, g, q, k, v, out, lse, mask=None, state=None, *, causal, scale, offset=0,
                keep=1.0):
        xp, sums = be.xp, wide(q.dtype)
        gq = laid_out(be, q.shape, q.dtype, q)
        gk, gv = (laid_out(be, a.shape, sums, a) for a in (k, v))
        gk[...] = gv[...] = 0
        hidden = Hidden(be, mask, q, k, causal, sums)
        qs, gs, outs, logs, gqs = (by_group(a, k) for a in (q, g, out, lse, gq))
        ks, vs, gks, gvs = (by_group(a, k) for a in (k, v, gk, gv))
        kept = kept_of(be, q, k, state, offset, keep)

        def work(part):
            some, slopes = scaled(be, part.rows(qs), scale), factor(be, part.rows(gs), q.dtype)
            keys, values = (factor(be, part.keys(a), q.dtype) for a in (ks, vs))
            p = products(be, "scores", some, turned(keys), sums)
            hidden.hide(p, part)
            p -= part.rows(logs)[..., None]
            xp.exp(p, out=p)
            d = products(be, "slopes", slopes, turned(values), sums)
            if kept is not None:
                d *= part.rows(kept)[..., part.key]
            d -= (slopes.astype(sums, copy=False) * part.rows(outs)).sum(-1, keepdims=True)
            d *= p
            if kept is not None:
                p *= part.rows(kept)[..., part.key]
            p, d = factor(be, p, q.dtype), factor(be, d, q.dtype)
            y = wide_product(be, d, keys, sums)
            y *= be.number[scale, sums]
            part.rows(gqs)[...] = y
            return (part, wide_product(be, turned(d), some, sums),
                    wide_product(be, turned(p), slopes, sums))

        def add(found):
            part, keys, values = found
            add_heads(part.keys(gks), keys)
            add_heads(part.keys(gvs), values)

        be.share(work, parts(be, q, k, causal), lse.size * k.shape[2] * be.element_cost, add)
        return gq, gk.astype(k.dtype, copy=False), gv.astype(v.dtype, copy=False)
    def meta(be, g, q, k, v, out, lse, mask=None, state=None, *, causal, scale, offset=0,
             keep=1.0):
        return tuple([laid_out(be, a.shape, a.dtype, a) for a in (q, k, v)])
    def cpu(be, g, q, k, v, out, lse, mask=None, state=None, *, causal, scale, offset=0, keep=1.0):
        c = helper(q, k, v, mask, g, out, lse) if state is None else None
        if c is None:
            return NotImplemented
        found = tuple([laid_out(be, a.shape, FLOAT, a) for a in (q, k, v)])
        c.attention_backward(g, q, k, v, out, dense(lse), *whole_mask(mask, q, k), *found, scale,
                             causal, kind_of(mask))
        return found
    def cuda(be, g, q, k, v, out, lse, mask=None, state=None, *, causal, scale, offset=0,
             keep=1.0):
        plan = plan_for(be, q, k, v, mask, causal, scale, dropping(state, offset, keep))
        if plan is None or g.dtype != q.dtype:
            return NotImplemented
        return plan.backward(g, q, k, v, out, parameter(be, lse, q.dtype))
    grad_mask = grad_state = None
    def grads(o, g0, g1, g2, needs, g, q, k, v, out, lse, mask, state, q_dtype, causal, scale,
              offset, keep):
        a, b, c, g, q, k, v, out = cast(o, q_dtype, g0, g1, g2, g, q, k, v, out)
        a, b, c = (o.zeros_like(x) if u is None else u for u, x in ((a, q), (b, k), (c, v)))
        keys, values, b, c = (o.shared_heads(x, q) for x in (k, v, b, c))
        p = o.attention_weights(q, k, mask, lse, causal, scale)
        def dropped(x):                          # of weights, or of their gradients
            return x if state is None else o.fused_dropout(
                x, state, offset=offset, keep=keep, scale=scale_of(q_dtype, keep))[0]
        slope = o.sub(dropped(o.bmm(g, turn(o, values))),
                      o.sum(o.mul(g, out), dim=(3,), keepdim=True))
        ds = o.scale(o.mul(p, slope), number=scale)
        t = o.scale(o.add(o.bmm(a, turn(o, keys)), o.bmm(q, turn(o, b))), number=scale)
        at_dp = o.mul(t, p)
        at_delta = o.neg(o.sum(at_dp, dim=(3,), keepdim=True))
        at_s = o.mul(o.add(o.mul(t, slope), dropped(o.bmm(g, turn(o, c)))), p)
        at_lse = o.neg(o.sum(at_s, dim=(3,), keepdim=False))
        at_s = o.scale(at_s, number=scale)
        at_dp, p = dropped(at_dp), dropped(p)
        found = [o.add(o.add(o.bmm(at_dp, values), o.bmm(p, c)), o.mul(at_delta, out)),
                 o.add(o.bmm(at_s, keys), o.bmm(ds, b)),
                 o.heads_sum(o.add(o.bmm(turn(o, at_s), q), o.bmm(turn(o, ds), a)), k),
                 o.heads_sum(o.bmm(turn(o, at_dp), g), v), o.mul(at_delta, g)]
        return needed(needs, *cast_back(o, q_dtype, *found), at_lse)


@composite
def attention_weights(o, q, k, mask, lse, causal, scale):
    """The whole matrix of weights, (b, h, l, s)."""
    s = o.scale(o.bmm(q, turn(o, o.shared_heads(k, q))), number=scale)
    none = o.shift(o.zeros_like(s), number=-float("inf"))
    if causal:
        s = o.where(o.tril(o.ge(o.zeros_like(s), 0), diagonal=0), s, none)
    if mask is not None:
        s = o.where(mask, s, none) if dtype_of(mask).kind == "b" else \
            o.add(s, mask if dtype_of(mask) == dtype_of(s) else o.to(mask, dtype=dtype_of(s)))
    return o.exp(o.sub(s, o.unsqueeze(lse, dim=3)))


@composite
def shared_heads(o, x, q):
    """x (b, h', s, e) with each head as often as heads of q (b, h, l, e) share it."""
    (n, h), (_, shared, s, e) = q.shape[:2], x.shape
    if h == shared:
        return x
    wide = o.expand(o.unsqueeze(x, dim=2), shape=(n, shared, h // shared, s, e))
    return o.reshape(wide, (n, h, s, e))


@composite
def heads_sum(o, x, k):
    """The sum of x (b, h, s, e) over the heads that share one of k (b, h', s, e)."""
    (n, h, s, e), shared = x.shape, k.shape[1]
    if h == shared:
        return x
    return o.sum(o.reshape(x, (n, shared, h // shared, s, e)), dim=(2,), keepdim=False)


def dropping(state: Any, offset: Any, keep: float) -> Any:
    """What plan_for takes."""
    return None if state is None else (state, offset, keep)


def kept_of(be: Any, q: Any, k: Any, state: Any, offset: Any, keep: float) -> Any:
    """What weights are multiplied by in dropout, in by_group's form; None without dropout."""
    if state is None:
        return None
    shape, dtype = (*q.shape[:3], k.shape[2]), wide(q.dtype)
    ones = be.xp.ones(shape, dtype)
    kept = be.raw.fused_dropout(ones, state, offset=offset, keep=keep,
                                scale=scale_of(q.dtype, keep))[0]
    return by_group(kept, k)


def dtype_of(a: Any) -> Any:
    return a._a.dtype if hasattr(a, "_a") else a.dtype


def turn(o: Any, x: Any) -> Any:
    return o.transpose(x, dim0=-2, dim1=-1)


def turned(a: Any) -> Any:
    return a.swapaxes(-1, -2)


# The compiled helper -----------------------------------------------------------------------------

def helper(q: Any, k: Any, v: Any, mask: Any, *others: Any) -> Any:
    """The compiled helper if it takes these: float32, no array empty. Of very long sequences it
    would keep too much memory."""
    if not (k.size and v.size and k.shape[2] <= 8192) or not (
            mask is None or mask.dtype in (FLOAT, bool)):
        return None
    return for_floats(q, k, v, *others)


def whole_mask(mask: Any, q: Any, k: Any) -> tuple[Any]:
    """The mask with the four dims of the scores."""
    if mask is None:
        return ABSENT,
    return np.broadcast_to(mask, (*q.shape[:3], k.shape[2])),


def kind_of(mask: Any) -> int:
    return 0 if mask is None else 1 if mask.dtype == bool else 2


# Parts -------------------------------------------------------------------------------------------

def by_group(a: Any, k: Any) -> Any:
    """a (b, h, ...) as (b, h', h / h', ...): k's heads, and those of q that share one."""
    n, h = a.shape[:2]
    shared = k.shape[1]
    return a[:, :, None] if h == shared else a.reshape(n, shared, h // shared, *a.shape[2:])


class Part:
    """Some images, heads of k, queries and keys."""

    __slots__ = ("heads", "images", "key", "query")

    def __init__(self, images: slice, heads: slice, query: slice, key: slice) -> None:
        self.images, self.heads, self.query, self.key = images, heads, query, key

    def rows(self, a: Any) -> Any:
        """Of an array by queries, in by_group's form."""
        return a[self.images, self.heads, :, self.query]

    def keys(self, a: Any) -> Any:
        """Of an array by keys."""
        return a[self.images, self.heads, :, self.key]


def parts(be: Any, q: Any, k: Any, causal: bool) -> Iterator[Part]:
    """Parts whose scores stay within bounds, on a CPU in its cache.

    A causal part leaves out the keys that none of its queries sees, so it shouldn't have too many.
    """
    (n, h, length, _), (_, shared, s, _) = q.shape, k.shape
    group = h // max(1, shared)
    room = max(1, be.column_bytes // max(1, s * group * wide(q.dtype).itemsize))
    rows = max(1, min(length, max(room, 16), max(room // 4, 128) if causal else length))
    heads = max(1, min(shared, room // rows)) if rows == length else 1
    images = max(1, room // (rows * shared)) if heads == shared else 1
    for b in range(0, n, images):
        for i in range(0, shared, heads):
            for j in range(0, length, rows):
                stop = min(length, j + rows)
                yield Part(slice(b, min(n, b + images)), slice(i, min(shared, i + heads)),
                           slice(j, stop), slice(0, min(s, stop) if causal else s))


class Hidden:
    """Which keys a query doesn't see, as numbers: scores are held below them or added to them."""

    def __init__(self, be: Any, mask: Any, q: Any, k: Any, causal: bool, dtype: Any) -> None:
        self.be, self.causal, self.dtype = be, causal, dtype
        self.all = mask is not None              # may a query see nothing?
        self.limit = self.added = None
        if mask is not None:
            shape, once = (*q.shape[:3], k.shape[2]), once_only(mask)
            bools = mask.dtype.kind == "b"
            numbers = self.limits(once) if bools else once.astype(dtype, copy=False)
            numbers = by_group(be.xp.broadcast_to(numbers, shape), k)
            self.limit, self.added = (numbers, None) if bools else (None, numbers)

    def limits(self, seen: Any) -> Any:
        return self.be.xp.where(seen, self.be.number[float("inf"), self.dtype],
                                self.be.number[-float("inf"), self.dtype])

    def hide(self, s: Any, part: Part) -> None:
        """-inf for the scores of a part that are hidden, in place."""
        xp = self.be.xp
        if self.limit is not None:
            xp.minimum(s, part.rows(self.limit)[..., part.key], out=s)
        elif self.added is not None:
            s += part.rows(self.added)[..., part.key]
        if self.causal:                          # only keys from query.start on can be hidden
            rows = part.query
            late = s[..., rows.start:]
            seen = xp.arange(rows.start, part.key.stop) <= xp.arange(rows.start,
                                                                     rows.stop)[:, None]
            xp.minimum(late, self.limits(seen), out=late)


def scaled(be: Any, q: Any, scale: float) -> Any:
    """scale * q as a factor, with which products need no scaling."""
    dtype = wide(q.dtype)
    return factor(be, q.astype(dtype, copy=False) * be.number[scale, dtype], q.dtype)


def products(be: Any, key: str, a: Any, b: Any, dtype: Any) -> Any:
    """a @ b in dtype, in scratch memory."""
    if a.dtype == dtype == b.dtype:
        shape = (*a.shape[:-1], b.shape[-1])
        return be.matmul(a, b, be.workspace(key, shape, dtype))
    return wide_product(be, a, b, dtype)


def wide_product(be: Any, a: Any, b: Any, dtype: Any) -> Any:
    """a @ b in dtype."""
    return be.matmul(a, b, dtype=None if a.dtype == dtype else dtype)


def factor(be: Any, a: Any, dtype: Any) -> Any:
    """a as products take it: of 16 bits where a device multiplies those, else in float32."""
    return a.astype(wide(dtype) if be.widens_products else dtype, copy=False)


def soften(be: Any, s: Any, all_hidden: bool) -> tuple[Any, Any]:
    """exp(s - top) in place of s; returns top and the sums, of size 1 in the last dim.

    all_hidden: there may be lines of -inf, which become zeros with the sum 1 and top inf.
    """
    xp, shape = be.xp, (*s.shape[:-1], 1)
    if not s.size:                               # without keys nothing is seen either
        return xp.full(shape, float("inf"), s.dtype), xp.ones(shape, s.dtype)
    lines = s.reshape(-1, s.shape[-1])
    top = line_max(be, lines)
    if all_hidden:
        top = xp.where(top == be.number[-float("inf"), s.dtype],
                       be.number[float("inf"), s.dtype], top)
    lines -= top
    xp.exp(lines, out=lines)
    total = line_sum(be, lines)
    if all_hidden:
        total = xp.where(total == be.number[0, s.dtype], be.number[1, s.dtype], total)
    return top.reshape(shape), total.reshape(shape)


def add_heads(to: Any, found: Any) -> None:
    """Adds what each head of q gives to the head of k and v that it shares."""
    to += found if found.shape[2] == 1 else found.sum(2, keepdims=True)
