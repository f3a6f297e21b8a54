"""Scaled dot-product attention."""
from __future__ import annotations

import math
from typing import Any

from gpugrad._state import off, state
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd import casting
from gpugrad.autograd.grad_mode import is_grad_enabled
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions.arguments import dim_of
from gpugrad.functions.types import broadcast_shapes
from gpugrad.ops.attention_kernels import can_drop
from gpugrad.ops.dropout import dropout

# Which of PyTorch's backends may be taken: torch.backends.cuda and torch.nn.attention set it. There
# is one text here, so it only decides what is refused.
enabled = dict.fromkeys(("flash", "mem_efficient", "math", "cudnn", "overrideable"), True)


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
    bias: Any = attn_mask
    if hasattr(bias, "_attend"):                 # a CausalBias of nn.attention.bias
        return bias._attend(query, key, value, dropout_p, is_causal, scale, enable_gqa)
    if off[0] and state.casting is not None:
        query, key, value = casting.lowered(query, key, value)
    _check(query, key, value, attn_mask)
    if not enabled["math"]:
        _check_backend(query, key, value, attn_mask, dropout_p)
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1])
    shared = enable_gqa and _shares_heads(query, key, value)
    if enable_gqa and not shared:
        key, value = _repeated(query, key), _repeated(query, value)
    whole = (query,) if shared else (query, key, value)
    lead = broadcast_shapes(*[tuple(t.shape[:-2]) for t in whole])
    if attn_mask is not None:
        lead = broadcast_shapes(lead, tuple(attn_mask.shape[:-2]))
    q, k, v = _four(query, lead), _four(key, lead, shared), _four(value, lead, shared)
    mask = None if attn_mask is None else _mask(attn_mask, lead, q, k)
    learned = mask is not None and mask.requires_grad and is_grad_enabled()
    if 0 < dropout_p < 1 and not learned and can_drop(
            q._be, q._a, k._a, v._a, None if mask is None else mask._a, scale):
        words, offset = q._be.generator.reserve(math.prod(q.shape[:3]) * k.shape[2])
        out = T.attention(q, k, v, mask, wrap(words, q._be), causal=is_causal, scale=scale,
                          offset=offset, keep=1 - dropout_p)[0]
    elif dropout_p != 0 or learned:
        out = _composite(q, _repeated(q, k), _repeated(q, v), mask, dropout_p, is_causal, scale)
    else:
        out = T.attention(q, k, v, mask, causal=is_causal, scale=scale)[0]
    return out if len(lead) == 2 else out.reshape(*lead, *out.shape[2:])


def _check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
    if not q.dtype is k.dtype is v.dtype:
        raise RuntimeError("Expected query, key, and value to have the same dtype, but got "
                           f"query.dtype: {_type(q)} key.dtype: {_type(k)} and value.dtype: "
                           f"{_type(v)} instead.")
    if min(q.ndim, k.ndim, v.ndim) < 2:
        raise RuntimeError("Expected query, key, and value to all be  at least 2 dimensional, but "
                           f"got query.dim: {q.ndim} key.dim: {k.ndim} and value.dim: {v.ndim} "
                           "instead.")
    if q.is_complex():
        raise NotImplementedError(f'"softmax_lastdim_kernel_impl" not implemented for '
                                  f"'{type_name(q._a.dtype)}': scaled_dot_product_attention takes "
                                  "real tensors")
    if not q.is_floating_point():
        raise RuntimeError(f"expected scalar type Float but found {type_name(q._a.dtype)}: "
                           "scaled_dot_product_attention takes floating-point tensors: convert "
                           "the inputs, as in x.float()")
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise RuntimeError("scaled_dot_product_attention: query (..., l, e), key (..., s, e) and "
                           f"value (..., s, ev) don't fit: got {list(q.shape)}, {list(k.shape)} "
                           f"and {list(v.shape)}")
    if mask is not None and mask.dtype is not q.dtype and mask.dtype.name not in ("bool",
                                                                                 "float32"):
        raise RuntimeError("Expected attn_mask dtype to be bool or float or to match query dtype, "
                           f"but got attn_mask.dtype: {_type(mask)} and  query.dtype: {_type(q)} "
                           "instead.")


_TYPES = {"float32": "float", "float64": "double", "float16": "c10::Half", "int32": "int",
          "bfloat16": "c10::BFloat16", "int64": "long"}


def _type(t: Tensor) -> str:
    """The dtype of t as PyTorch's messages here name it."""
    return _TYPES.get(t.dtype.name, t.dtype.name)


def _check_backend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float) -> None:
    """What PyTorch has no backend for, now that the one for everything is turned off."""
    fused = ("flash",) if q.is_cpu else ("flash", "mem_efficient", "cudnn")
    if not any(enabled[name] for name in fused):
        raise RuntimeError("No viable backend for scaled_dot_product_attention was found. This is "
                           "likely due to turning off both the math kernel and the fused kernels.")
    if not q.ndim == k.ndim == v.ndim == 4 or (
            q.is_cpu and (p > 0 or v.shape[-1] != q.shape[-1]
                          or (mask is not None and mask.requires_grad))):
        raise RuntimeError("No available kernel. Aborting execution.: the math backend is turned "
                           "off, and the fused ones take four dims, and on a CPU neither dropout, "
                           "nor a value of other size, nor a mask that requires grad")


def _shares_heads(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Can the heads of key and value serve several of query as they are?"""
    for t in (q, k, v):
        dim_of(-3, t.ndim)
    heads = q.shape[-3]
    for t in (k, v):
        if not t.shape[-3] or heads % t.shape[-3]:
            raise RuntimeError("Number of heads in key and value must divide the number of heads "
                               f"in query, but got {t.shape[-3]} and {heads}")
    return k.shape[-3] == v.shape[-3] and q.shape[:-3] == k.shape[:-3] == v.shape[:-3]


def _repeated(query: Tensor, t: Tensor) -> Tensor:
    """The heads of t, repeated until there are as many as query has."""
    heads, have = query.shape[-3], t.shape[-3]
    if heads == have:
        return t
    shape = (*t.shape[:-2], heads // have, *t.shape[-2:])
    return t.unsqueeze(-3).expand(*shape).reshape(*t.shape[:-3], heads, *t.shape[-2:])


def _four(t: Tensor, lead: tuple[int, ...], shared: bool = False) -> Tensor:
    """t broadcast to the leading dims, which become two: (b, h, rows, columns).

    shared: the heads, the last of them, stay as many as they are.
    """
    if shared:
        lead = (*lead[:-1], t.shape[-3])
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
    if not 0 <= p <= 1:
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {p}")
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
