"""Scaled dot-product attention."""
from __future__ import annotations

import math
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.grad_mode import is_grad_enabled
from gpugrad.autograd.rules import tensors as T
from gpugrad.functions.types import broadcast_shapes
from gpugrad.ops.dropout import dropout


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor,
                                 attn_mask: Tensor | None = None, dropout_p: float = 0.0,
                                 is_causal: bool = False, scale: float | None = None,
                                 enable_gqa: bool = False) -> Tensor:
    """softmax(query @ key.T * scale + attn_mask) @ value, without making the scores all at once.

    query is (..., l, e), key (..., s, e), value (..., s, ev). attn_mask broadcasts with (..., l,
    s): bools say which keys a query sees, numbers are added. is_causal: query i sees the keys
    0 ... i. scale: 1 / sqrt(e) by default. dropout_p: of the weights, always. enable_gqa: each head
    of key and value, dim -3, serves several of query.
    """
    _check(query, key, value, attn_mask)
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1])
    if enable_gqa:
        key, value = _repeated(query, key), _repeated(query, value)
    lead = broadcast_shapes(*[tuple(t.shape[:-2]) for t in (query, key, value)])
    if attn_mask is not None:
        lead = broadcast_shapes(lead, tuple(attn_mask.shape[:-2]))
    q, k, v = (_four(t, lead) for t in (query, key, value))
    mask = None if attn_mask is None else _mask(attn_mask, lead, q, k)
    if dropout_p > 0 or (mask is not None and mask.requires_grad and is_grad_enabled()):
        out = _composite(q, k, v, mask, dropout_p, is_causal, scale)
    else:
        out = T.attention(q, k, v, mask, causal=is_causal, scale=scale)
    return out if len(lead) == 2 else out.reshape(*lead, *out.shape[2:])


def _check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
    if not q.dtype is k.dtype is v.dtype:
        raise RuntimeError("Expected query, key, and value to have the same dtype, but got "
                           f"query.dtype: {q.dtype} key.dtype: {k.dtype} and value.dtype: "
                           f"{v.dtype} instead.")
    if min(q.ndim, k.ndim, v.ndim) < 2:
        raise RuntimeError("Expected query, key, and value to all be  at least 2 dimensional, but "
                           f"got query.dim: {q.ndim} key.dim: {k.ndim} and value.dim: {v.ndim} "
                           "instead.")
    if not q.is_floating_point():
        raise RuntimeError(f"scaled_dot_product_attention: expected floating-point tensors, but "
                           f"got {q.dtype}")
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise RuntimeError("scaled_dot_product_attention: query (..., l, e), key (..., s, e) and "
                           f"value (..., s, ev) don't fit: got {list(q.shape)}, {list(k.shape)} "
                           f"and {list(v.shape)}")
    if mask is not None and mask.dtype is not q.dtype and mask.dtype.name not in ("bool",
                                                                                 "float32"):
        raise RuntimeError("Expected attn_mask dtype to be bool or float or to match query dtype, "
                           f"but got attn_mask.dtype: {mask.dtype} and  query.dtype: {q.dtype} "
                           "instead.")


def _repeated(query: Tensor, t: Tensor) -> Tensor:
    """The heads of t, repeated until there are as many as query has."""
    heads, have = query.shape[-3], t.shape[-3]
    if heads % have:
        raise RuntimeError("Number of heads in key and value must divide the number of heads in "
                           f"query, but got {have} and {heads}")
    if heads == have:
        return t
    shape = (*t.shape[:-2], heads // have, *t.shape[-2:])
    return t.unsqueeze(-3).expand(*shape).reshape(*t.shape[:-3], heads, *t.shape[-2:])


def _four(t: Tensor, lead: tuple[int, ...]) -> Tensor:
    """t broadcast to the leading dims, which become two: (b, h, rows, columns)."""
    if tuple(t.shape[:-2]) != lead:
        t = t.expand(*lead, *t.shape[-2:])
    if len(lead) == 2:
        return t
    h = lead[-1] if lead else 1
    return t.reshape(math.prod(lead[:-1]), h, *t.shape[-2:])


def _mask(mask: Tensor, lead: tuple[int, ...], q: Tensor, k: Tensor) -> Tensor:
    if mask.dtype is not q.dtype and mask.dtype.name != "bool":
        mask = mask.to(q.dtype)
    scores = (*q.shape[:3], k.shape[2])
    if len(lead) > 2:                            # two dims can't say how three are broadcast
        mask = mask.expand(*lead, *scores[2:]).reshape(scores)
    broadcast_shapes(tuple(mask.shape), scores)
    while mask.ndim < 4:
        mask = mask.unsqueeze(0)
    return mask


def _composite(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float, causal: bool,
               scale: float) -> Tensor:
    """With dropout, or a mask to be learned: by ops of their own."""
    s = T.bmm(q, k.transpose(-2, -1)) * scale
    hidden: Any = None
    if mask is not None:
        s = s.masked_fill(~mask, -math.inf) if mask.dtype.name == "bool" else s + mask
    if causal:
        hidden = ~q.new_ones((q.shape[2], k.shape[2])).tril().bool()
        s = s.masked_fill(hidden, -math.inf)
    none = (s.detach() == -math.inf).all(-1, keepdim=True)
    weights = s.masked_fill(none, 0).softmax(-1).masked_fill(none, 0)
    return T.bmm(dropout(weights, p, True), v)
