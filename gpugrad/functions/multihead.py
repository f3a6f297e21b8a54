"""Multi-head attention from projections to projections, as nn.MultiheadAttention uses it."""
from __future__ import annotations

import math
import warnings

from gpugrad._tensor import Tensor
from gpugrad.creation import zeros
from gpugrad.functions.attention import scaled_dot_product_attention
from gpugrad.functions.matmul import linear
from gpugrad.functions.padding import pad
from gpugrad.functions.shape import cat
from gpugrad.ops.dropout import dropout


def multi_head_attention_forward(
        query: Tensor, key: Tensor, value: Tensor, embed_dim_to_check: int, num_heads: int,
        in_proj_weight: Tensor | None, in_proj_bias: Tensor | None, bias_k: Tensor | None,
        bias_v: Tensor | None, add_zero_attn: bool, dropout_p: float, out_proj_weight: Tensor,
        out_proj_bias: Tensor | None, training: bool = True,
        key_padding_mask: Tensor | None = None, need_weights: bool = True,
        attn_mask: Tensor | None = None, use_separate_proj_weight: bool = False,
        q_proj_weight: Tensor | None = None, k_proj_weight: Tensor | None = None,
        v_proj_weight: Tensor | None = None, static_k: Tensor | None = None,
        static_v: Tensor | None = None, average_attn_weights: bool = True,
        is_causal: bool = False) -> tuple[Tensor, Tensor | None]:
    """Attention of num_heads heads: (result, weights), the weights None without need_weights.

    query is (l, n, e) or (l, e), key and value (s, n, ...) or (s, ...); the result is like query,
    the weights (n, l, s), or (n, num_heads, l, s) unless average_attn_weights. In the masks True
    hides a key; numbers are added to the scores. key_padding_mask is (n, s), attn_mask (l, s) or
    (n * num_heads, l, s). is_causal is a hint that attn_mask hides the keys after each query.
    static_k and static_v, (n * num_heads, s, e / num_heads), replace what key and value give.
    """
    is_batched = check_dims(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not is_batched:
        query, key, value = _batches_of_one(query, key, value)
        if key_padding_mask is not None:
            key_padding_mask = key_padding_mask.unsqueeze(0)
    tgt_len, bsz, embed_dim = query.shape
    src_len = key.shape[0]
    key_padding_mask = as_numbers(key_padding_mask, "key_padding_mask", query, attn_mask,
                                  "attn_mask")
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint. You may use the "
                           "Transformer module method `generate_square_subsequent_mask` to create "
                           "this mask.")
    if is_causal and key_padding_mask is None and not need_weights:
        attn_mask = None                         # scaled_dot_product_attention makes it itself
    else:
        attn_mask = as_numbers(attn_mask, "attn_mask", query)
        is_causal = is_causal and key_padding_mask is None
    head_dim = _check_sizes(query, key, value, embed_dim_to_check, num_heads,
                            use_separate_proj_weight)
    if use_separate_proj_weight:
        q, k, v = _projected(query, key, value, q_proj_weight, k_proj_weight, v_proj_weight,
                             in_proj_bias)
    elif in_proj_weight is None:
        raise AssertionError("use_separate_proj_weight is False but in_proj_weight is None")
    else:
        q, k, v = _projected_at_once(query, key, value, in_proj_weight, in_proj_bias)
    attn_mask = _checked_mask(attn_mask, tgt_len, src_len, bsz * num_heads)
    if bias_k is not None and bias_v is not None:
        if static_k is not None:
            raise AssertionError("bias cannot be added to static key.")
        if static_v is not None:
            raise AssertionError("bias cannot be added to static value.")
        k, v = cat([k, bias_k.repeat(1, bsz, 1)]), cat([v, bias_v.repeat(1, bsz, 1)])
        attn_mask, key_padding_mask = _one_key_more(attn_mask), _one_key_more(key_padding_mask)
    elif bias_k is not None:
        raise AssertionError("bias_k is set but bias_v is None")
    elif bias_v is not None:
        raise AssertionError("bias_v is set but bias_k is None")
    heads = bsz * num_heads
    q = _by_head(q, heads, head_dim)
    k = _by_head(k, heads, head_dim) if static_k is None else _static(static_k, "k", heads,
                                                                     head_dim)
    v = _by_head(v, heads, head_dim) if static_v is None else _static(static_v, "v", heads,
                                                                     head_dim)
    if add_zero_attn:
        none = zeros((heads, 1, head_dim), dtype=k.dtype, device=k.device)
        k, v = cat([k, none], 1), cat([v, none], 1)
        attn_mask, key_padding_mask = _one_key_more(attn_mask), _one_key_more(key_padding_mask)
    mask = _merged(attn_mask, key_padding_mask, bsz, num_heads, k.size(1))
    dropout_p = dropout_p if training else 0.0
    if need_weights:
        out, weights = _with_weights(q, k, v, mask, bsz, dropout_p, is_causal)
        out = out.transpose(0, 1).reshape(tgt_len * bsz, embed_dim)
    else:
        weights = None
        q, k, v = (t.view(bsz, num_heads, t.shape[1], head_dim) for t in (q, k, v))
        out = scaled_dot_product_attention(q, k, v, mask, dropout_p, is_causal)
        out = out.permute(2, 0, 1, 3).reshape(bsz * tgt_len, embed_dim)
    out = linear(out, out_proj_weight, out_proj_bias)
    out = out.view(tgt_len, bsz, out.size(1))
    if weights is not None and average_attn_weights:
        weights = weights.mean(1)
    if is_batched:
        return out, weights
    return out.squeeze(1), weights if weights is None else weights.squeeze(0)


# Arguments ---------------------------------------------------------------------------------------


def check_dims(query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None,
               attn_mask: Tensor | None, num_heads: int) -> bool:
    """Whether the inputs are batched; AssertionError if their dims don't go together."""
    n = query.dim()
    if n not in (2, 3):
        raise AssertionError("query should be unbatched 2D or batched 3D tensor but received "
                             f"{n}-D query tensor")
    for_query = f"For {'batched' if n == 3 else 'unbatched'} ({n}-D) `query`, expected"
    if key.dim() != n or value.dim() != n:
        raise AssertionError(f"{for_query} `key` and `value` to be {n}-D but found {key.dim()}-D "
                             f"and {value.dim()}-D tensors respectively")
    if key_padding_mask is not None and key_padding_mask.dim() != n - 1:
        raise AssertionError(f"{for_query} `key_padding_mask` to be `None` or {n - 1}-D but found "
                             f"{key_padding_mask.dim()}-D tensor instead")
    if attn_mask is not None:
        if attn_mask.dim() not in (2, 3):
            raise AssertionError(f"{for_query} `attn_mask` to be `None`, 2-D or 3-D but found "
                                 f"{attn_mask.dim()}-D tensor instead")
        expected = (num_heads, query.shape[0], key.shape[0])
        if n == 2 and attn_mask.dim() == 3 and tuple(attn_mask.shape) != expected:
            raise AssertionError(f"Expected `attn_mask` shape to be {expected} but got "
                                 f"{attn_mask.shape}")
    return n == 3


def as_numbers(mask: Tensor | None, name: str, query: Tensor, other: Tensor | None = None,
               other_name: str = "") -> Tensor | None:
    """A mask as numbers to add: -inf for True. other: a mask whose dtype should be the same."""
    if mask is None:
        return None
    if not mask.is_floating_point():
        if mask.dtype.name != "bool":
            raise AssertionError(f"only bool and floating types of {name} are supported")
        numbers = zeros(mask.shape, dtype=query.dtype, device=mask.device)
    if other is not None:
        if not isinstance(other, Tensor):
            raise RuntimeError("input to _none_or_dtype() must be None or torch.Tensor")
        if other.dtype is not mask.dtype:
            warnings.warn(f"Support for mismatched {name} and {other_name} is deprecated. Use same "
                          "type for both instead.", stacklevel=3)
    return mask if mask.is_floating_point() else numbers.masked_fill_(mask, -math.inf)


def _batches_of_one(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """With a batch dim; tensors that were the same one still are."""
    q = query.unsqueeze(1)
    k = q if key is query else key.unsqueeze(1)
    v = k if value is key else q if value is query else value.unsqueeze(1)
    return q, k, v


def _check_sizes(query: Tensor, key: Tensor, value: Tensor, expected: int, num_heads: int,
                 separate: bool) -> int:
    """The features of a head."""
    embed_dim = query.shape[2]
    if embed_dim != expected:
        raise AssertionError(f"was expecting embedding dimension of {expected}, but got "
                             f"{embed_dim}")
    if embed_dim % num_heads:
        raise AssertionError(f"embed_dim {embed_dim} not divisible by num_heads {num_heads}")
    if separate and key.shape[:2] != value.shape[:2]:
        raise AssertionError(f"key's sequence and batch dims {key.shape[:2]} do not match value's "
                             f"{value.shape[:2]}")
    if not separate and key.shape != value.shape:
        raise AssertionError(f"key shape {key.shape} does not match value shape {value.shape}")
    return embed_dim // num_heads


def _checked_mask(mask: Tensor | None, length: int, keys: int, heads: int) -> Tensor | None:
    """A mask of the right size, with three dims."""
    if mask is None:
        return None
    expected: tuple[int, ...] = (length, keys) if mask.dim() == 2 else (heads, length, keys)
    if tuple(mask.shape) != expected:
        raise RuntimeError(f"The shape of the {mask.dim()}D attn_mask is {mask.shape}, but should "
                           f"be {expected}.")
    return mask.unsqueeze(0) if mask.dim() == 2 else mask


def _static(t: Tensor, name: str, heads: int, head_dim: int) -> Tensor:
    for dim, expected in ((0, heads), (2, head_dim)):
        if t.size(dim) != expected:
            raise AssertionError(f"expecting static_{name}.size({dim}) of {expected}, but got "
                                 f"{t.size(dim)}")
    return t


# Steps -------------------------------------------------------------------------------------------


def _projected(query: Tensor, key: Tensor, value: Tensor, wq: Tensor | None, wk: Tensor | None,
               wv: Tensor | None, bias: Tensor | None) -> tuple[Tensor, ...]:
    """By a weight each; the bias is that of all three."""
    for name, w in (("q", wq), ("k", wk), ("v", wv)):
        if w is None:
            raise AssertionError(f"use_separate_proj_weight is True but {name}_proj_weight is None")
    assert wq is not None and wk is not None and wv is not None
    e = query.size(-1)
    for name, w, t in (("query", wq, query), ("key", wk, key), ("value", wv, value)):
        if tuple(w.shape) != (e, t.size(-1)):
            raise AssertionError(f"expecting {name} weights shape of {(e, t.size(-1))}, but got "
                                 f"{w.shape}")
    bq, bk, bv = (None, None, None) if bias is None else bias.chunk(3)
    for name, b in (("query", bq), ("key", bk), ("value", bv)):
        if b is not None and tuple(b.shape) != (e,):
            raise AssertionError(f"expecting {name} bias shape of {(e,)}, but got {b.shape}")
    return linear(query, wq, bq), linear(key, wk, bk), linear(value, wv, bv)


def _projected_at_once(query: Tensor, key: Tensor, value: Tensor, weight: Tensor,
                       bias: Tensor | None) -> tuple[Tensor, ...]:
    """By one weight (3 e, e): in one product where the inputs are one tensor."""
    e = query.size(-1)
    if key is value and query is key:
        return _parts(linear(query, weight, bias), 3)
    if key is value:
        wq, wkv = weight.split([e, 2 * e])
        bq, bkv = (None, None) if bias is None else bias.split([e, 2 * e])
        return linear(query, wq, bq), *_parts(linear(key, wkv, bkv), 2)
    wq, wk, wv = weight.chunk(3)
    bq, bk, bv = (None, None, None) if bias is None else bias.chunk(3)
    return linear(query, wq, bq), linear(key, wk, bk), linear(value, wv, bv)


def _parts(t: Tensor, n: int) -> tuple[Tensor, ...]:
    """(l, b, n * e) as n tensors (l, b, e), each in C order."""
    t = t.unflatten(-1, (n, t.size(-1) // n)).unsqueeze(0).transpose(0, -2).squeeze(-2).contiguous()
    return tuple([t[i] for i in range(n)])


def _by_head(t: Tensor, heads: int, head_dim: int) -> Tensor:
    """(l, b, e) as (b * heads, l, e / heads)."""
    return t.view(t.shape[0], heads, head_dim).transpose(0, 1)


def _one_key_more(mask: Tensor | None) -> Tensor | None:
    """A mask for one key more, which all see."""
    return mask if mask is None else pad(mask, (0, 1))


def _merged(mask: Tensor | None, padding: Tensor | None, bsz: int, num_heads: int,
            src_len: int) -> Tensor | None:
    """Both masks as one that broadcasts with (bsz, num_heads, l, src_len)."""
    if padding is not None:
        for dim, expected in ((0, bsz), (1, src_len)):
            if padding.shape[dim] != expected:
                raise AssertionError(f"Expected key_padded_mask.shape[{dim}] to be {expected}, but "
                                     f"got {padding.shape[dim]}")
        padding = padding.view(bsz, 1, 1, src_len)
    if mask is None:
        return padding
    mask = mask.unsqueeze(0) if mask.size(0) == 1 else mask.view(bsz, num_heads, -1, src_len)
    return mask if padding is None else mask + padding


def _with_weights(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bsz: int, p: float,
                  is_causal: bool) -> tuple[Tensor, Tensor]:
    """The result (b * heads, l, e / heads) and the weights (b, heads, l, s), dropped ones too."""
    if is_causal and mask is None:
        raise AssertionError("FIXME: is_causal not implemented for need_weights")
    heads, length, e = q.shape
    s = (q * math.sqrt(1.0 / e)) @ k.transpose(-2, -1)
    s = s.view(bsz, heads // bsz, length, k.size(1))
    weights = (s if mask is None else mask + s).softmax(-1)
    if p > 0:
        weights = dropout(weights, p, True)
    return weights.view(heads, length, k.size(1)) @ v, weights
