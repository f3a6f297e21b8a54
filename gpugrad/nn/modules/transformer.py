"""The transformer of arXiv:1706.03762: encoder, decoder, their layers, and all of it."""
from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

from gpugrad._state import listening, off
from gpugrad._tensor import Tensor
from gpugrad.autograd.grad_mode import is_grad_enabled
from gpugrad.autograd.rules import tensors as T
from gpugrad.backends import mha
from gpugrad.creation import full
from gpugrad.functions.multihead import as_numbers
from gpugrad.nn import functional as F
from gpugrad.nn import init
from gpugrad.nn.modules.activation import GELU, ReLU
from gpugrad.nn.modules.attention import MultiheadAttention
from gpugrad.nn.modules.container import ModuleList
from gpugrad.nn.modules.dropout import Dropout
from gpugrad.nn.modules.linear import Linear
from gpugrad.nn.modules.module import Module
from gpugrad.nn.modules.normalization import LayerNorm

Activation = str | Callable[[Tensor], Tensor]


def _causal_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
    """(sz, sz): -inf above the diagonal, 0 elsewhere."""
    return full((sz, sz), -math.inf, dtype=dtype, device=device).triu(1)


def _is_causal(mask: Tensor | None, hint: bool | None, x: Tensor, batch_first: bool) -> bool:
    """The hint, or whether the mask is the causal one for the sequences x. Reads the mask."""
    if hint is not None or mask is None:
        return hint is True
    causal = _causal_mask(x.size(1 if batch_first and x.dim() == 3 else 0), mask.device, mask.dtype)
    return mask.shape == causal.shape and bool((mask == causal).all())


def _function(activation: Activation) -> Callable[[Tensor], Tensor]:
    """An activation by its name, or itself."""
    if not isinstance(activation, str):
        return activation
    if activation not in ("relu", "gelu"):
        raise RuntimeError(f"activation should be relu/gelu, not {activation}")
    return F.relu if activation == "relu" else F.gelu


def _plain(module: Any, kind: Any) -> bool:
    """Is it a module of this class, and nothing but its class's forward runs when it is called?"""
    return type(module) is kind and not module._hooked and "forward" not in module.__dict__


def _kind(f: Any) -> str:
    """What an activation is: relu, or gelu without its approximation; "" for others."""
    if f is F.relu or _plain(f, ReLU):
        return "relu"
    return "gelu" if f is F.gelu or (_plain(f, GELU) and f.approximate == "none") else ""


def _clones(module: Module, n: int) -> ModuleList:
    return ModuleList([copy.deepcopy(module) for _ in range(n)])


class _Layer(Module):
    """What layers of both kinds share: self-attention, two linear layers, norms and dropouts."""

    __constants__ = ["norm_first"]

    def _make(self, cross: bool, d_model: int, nhead: int, dim_feedforward: int, dropout: float,
              activation: Activation, layer_norm_eps: float, batch_first: bool, norm_first: bool,
              bias: bool, device: Any, dtype: Any) -> None:
        where = {"device": device, "dtype": dtype}
        names = ("self_attn", "multihead_attn")[:1 + cross]
        for name in names:
            setattr(self, name, MultiheadAttention(d_model, nhead, dropout=dropout, bias=bias,
                                                   batch_first=batch_first, **where))
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias, **where)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias, **where)
        self.norm_first = norm_first
        steps = range(1, len(names) + 2)
        for i in steps:
            setattr(self, f"norm{i}", LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **where))
        for i in steps:
            setattr(self, f"dropout{i}", Dropout(dropout))
        self.activation = _function(activation)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if not hasattr(self, "activation"):
            self.activation = F.relu

    def _sa_block(self, x: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None,
                  is_causal: bool = False) -> Tensor:
        """Self-attention."""
        return self.dropout1(self.self_attn(x, x, x, attn_mask=attn_mask, is_causal=is_causal,
                                            key_padding_mask=key_padding_mask,
                                            need_weights=False)[0])

    def _feed(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self._activated(x)))

    def _activated(self, x: Tensor) -> Tensor:
        """activation(linear1(x)): on a GPU as one op of the same bits, if nobody could tell."""
        first = self.linear1
        if off[0] or not x._be.takes(x._a.dtype) or listening[0] is not None:
            return self.activation(first(x))
        kind, w, b = _kind(self.activation), first.weight, first.bias
        if not kind or not _plain(first, Linear) or b is None or x.dim() < 2 or \
                x.size(-1) != w.size(1) or not x._be is w._be is b._be or \
                not x.dtype is w.dtype is b.dtype:
            return self.activation(first(x))
        rows = x.reshape(-1, w.size(1))
        out = T.linear_relu(rows, w, b) if kind == "relu" else T.linear_gelu(rows, w, b)[0]
        return T.view(out, shape=(*x._a.shape[:-1], w.size(0)))


class TransformerEncoderLayer(_Layer):
    """Self-attention and two linear layers, each added to what goes in and normalised.

    activation: "relu", "gelu" or a function. norm_first: normalise what goes in instead.
    """

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 activation: Activation = F.relu, layer_norm_eps: float = 1e-5,
                 batch_first: bool = False, norm_first: bool = False, bias: bool = True,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self._make(False, d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps,
                   batch_first, norm_first, bias, device, dtype)
        f = self.activation
        self.activation_relu_or_gelu = (1 if f is F.relu or isinstance(f, ReLU) else
                                        2 if f is F.gelu or isinstance(f, GELU) else 0)

    def forward(self, src: Tensor, src_mask: Tensor | None = None,
                src_key_padding_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """src is (s, n, d_model), (n, s, d_model) with batch_first, or (s, d_model); so is the
        result. For the masks see MultiheadAttention."""
        padding = as_numbers(src_key_padding_mask, "src_key_padding_mask", src, src_mask,
                             "src_mask")
        mask = as_numbers(src_mask, "src_mask", src)
        if self.norm_first:
            x = src + self._sa_block(self.norm1(src), mask, padding, is_causal)
            return x + self._ff_block(self.norm2(x))
        x = self.norm1(src + self._sa_block(src, mask, padding, is_causal))
        return self.norm2(x + self._ff_block(x))

    def _ff_block(self, x: Tensor) -> Tensor:
        """The linear layers."""
        return self.dropout2(self._feed(x))


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to the encoder's result, two linear layers, with norms as in
    TransformerEncoderLayer."""

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 activation: Activation = F.relu, layer_norm_eps: float = 1e-5,
                 batch_first: bool = False, norm_first: bool = False, bias: bool = True,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self._make(True, d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps,
                   batch_first, norm_first, bias, device, dtype)

    def forward(self, tgt: Tensor, memory: Tensor, tgt_mask: Tensor | None = None,
                memory_mask: Tensor | None = None, tgt_key_padding_mask: Tensor | None = None,
                memory_key_padding_mask: Tensor | None = None, tgt_is_causal: bool = False,
                memory_is_causal: bool = False) -> Tensor:
        """tgt is (t, n, d_model), memory (s, n, d_model), what the encoder made."""
        own = tgt_mask, tgt_key_padding_mask, tgt_is_causal
        other = memory, memory_mask, memory_key_padding_mask, memory_is_causal
        if self.norm_first:
            x = tgt + self._sa_block(self.norm1(tgt), *own)
            x = x + self._mha_block(self.norm2(x), *other)
            return x + self._ff_block(self.norm3(x))
        x = self.norm1(tgt + self._sa_block(tgt, *own))
        x = self.norm2(x + self._mha_block(x, *other))
        return self.norm3(x + self._ff_block(x))

    def _mha_block(self, x: Tensor, mem: Tensor, attn_mask: Tensor | None,
                   key_padding_mask: Tensor | None, is_causal: bool = False) -> Tensor:
        """Attention to mem."""
        return self.dropout2(self.multihead_attn(x, mem, mem, attn_mask=attn_mask,
                                                 key_padding_mask=key_padding_mask,
                                                 is_causal=is_causal, need_weights=False)[0])

    def _ff_block(self, x: Tensor) -> Tensor:
        """The linear layers."""
        return self.dropout3(self._feed(x))


class TransformerEncoder(Module):
    """num_layers copies of a layer, one after the other, and ``norm`` at the end.

    As in PyTorch the copies begin with equal parameters. enable_nested_tensor: where PyTorch would
    leave padding out of the computation (a layer of the standard form in eval mode, without
    gradients), rows of padding come out of the last layer as zeros; mask_check: only if all padding
    comes at the end.
    """

    __constants__ = ["norm"]

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None,
                 enable_nested_tensor: bool = True, mask_check: bool = True) -> None:
        super().__init__()
        self.layers = _clones(encoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm
        self.enable_nested_tensor = self.use_nested_tensor = enable_nested_tensor
        self.mask_check = mask_check
        why = _not_standard(encoder_layer)
        if enable_nested_tensor and why:
            warnings.warn("enable_nested_tensor is True, but self.use_nested_tensor is False "
                          f"because encoder_layer{why}", stacklevel=2)
            self.use_nested_tensor = False

    def forward(self, src: Tensor, mask: Tensor | None = None,
                src_key_padding_mask: Tensor | None = None,
                is_causal: bool | None = None) -> Tensor:
        """is_causal None: whether the mask is the causal one is seen by reading it."""
        padding = as_numbers(src_key_padding_mask, "src_key_padding_mask", src, mask, "mask")
        mask = as_numbers(mask, "mask", src)
        without_padding = self._leaves_padding_out(src, mask, padding)
        is_causal = _is_causal(mask, is_causal, src, self.layers[0].self_attn.batch_first)
        x = src
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=is_causal, src_key_padding_mask=padding)
        if without_padding and padding is not None:
            x = x.masked_fill((padding != 0).unsqueeze(-1), 0.0)
        return x if self.norm is None else self.norm(x)

    def _leaves_padding_out(self, src: Tensor, mask: Tensor | None,
                            padding: Tensor | None) -> bool:
        layer = self.layers[0]
        if (not mha.get_fastpath_enabled() or not self.use_nested_tensor or layer.training
                or src.dim() != 3 or padding is None or mask is not None):
            return False
        if is_grad_enabled() and any(t.requires_grad for t in (src, *layer.parameters())):
            return False
        hidden = padding != 0
        return not self.mask_check or not bool((hidden[:, :-1] & ~hidden[:, 1:]).any())


def _not_standard(layer: Any) -> str:
    """Why a layer isn't one that PyTorch has a fast way for; "" if it is."""
    if not isinstance(layer, TransformerEncoderLayer):
        return " was not TransformerEncoderLayer"
    attention = layer.self_attn
    for wrong, why in (
            (layer.norm_first, ".norm_first was True"),
            (not attention.batch_first, ".self_attn.batch_first was not True"
                                        "(use batch_first for better inference performance)"),
            (not attention._qkv_same_embed_dim, ".self_attn._qkv_same_embed_dim was not True"),
            (attention.in_proj_bias is None, ".self_attn was passed bias=False"),
            (not layer.activation_relu_or_gelu, ".activation_relu_or_gelu was not True"),
            (layer.norm1.eps != layer.norm2.eps,
             ".norm1.eps was not equal to encoder_layer.norm2.eps"),
            (attention.num_heads % 2 == 1, ".self_attn.num_heads is odd")):
        if wrong:
            return why
    return ""


class TransformerDecoder(Module):
    """num_layers copies of a layer, one after the other, and ``norm`` at the end."""

    __constants__ = ["norm"]

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = _clones(decoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm

    def forward(self, tgt: Tensor, memory: Tensor, tgt_mask: Tensor | None = None,
                memory_mask: Tensor | None = None, tgt_key_padding_mask: Tensor | None = None,
                memory_key_padding_mask: Tensor | None = None, tgt_is_causal: bool | None = None,
                memory_is_causal: bool = False) -> Tensor:
        """tgt_is_causal None: whether tgt_mask is the causal one is seen by reading it."""
        tgt_is_causal = _is_causal(tgt_mask, tgt_is_causal, tgt,
                                   self.layers[0].self_attn.batch_first)
        x = tgt
        for layer in self.layers:
            x = layer(x, memory, tgt_mask=tgt_mask, memory_mask=memory_mask,
                      tgt_key_padding_mask=tgt_key_padding_mask,
                      memory_key_padding_mask=memory_key_padding_mask,
                      tgt_is_causal=tgt_is_causal, memory_is_causal=memory_is_causal)
        return x if self.norm is None else self.norm(x)


class Transformer(Module):
    """An encoder and a decoder; custom_encoder and custom_decoder replace them."""

    def __init__(self, d_model: int = 512, nhead: int = 8, num_encoder_layers: int = 6,
                 num_decoder_layers: int = 6, dim_feedforward: int = 2048, dropout: float = 0.1,
                 activation: Activation = F.relu, custom_encoder: Any = None,
                 custom_decoder: Any = None, layer_norm_eps: float = 1e-5,
                 batch_first: bool = False, norm_first: bool = False, bias: bool = True,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        options = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps,
                   batch_first, norm_first, bias, device, dtype)

        def norm() -> LayerNorm:
            return LayerNorm(d_model, eps=layer_norm_eps, bias=bias, device=device, dtype=dtype)

        if custom_encoder is None:
            custom_encoder = TransformerEncoder(TransformerEncoderLayer(*options),
                                                num_encoder_layers, norm())
        self.encoder = custom_encoder
        if custom_decoder is None:
            custom_decoder = TransformerDecoder(TransformerDecoderLayer(*options),
                                                num_decoder_layers, norm())
        self.decoder = custom_decoder
        self._reset_parameters()
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def forward(self, src: Tensor, tgt: Tensor, src_mask: Tensor | None = None,
                tgt_mask: Tensor | None = None, memory_mask: Tensor | None = None,
                src_key_padding_mask: Tensor | None = None,
                tgt_key_padding_mask: Tensor | None = None,
                memory_key_padding_mask: Tensor | None = None, src_is_causal: bool | None = None,
                tgt_is_causal: bool | None = None, memory_is_causal: bool = False) -> Tensor:
        """src is (s, n, d_model), tgt (t, n, d_model), the result like tgt; n comes first with
        batch_first, and may be missing."""
        n = 0 if self.batch_first else 1
        if src.dim() == 3 and src.size(n) != tgt.size(n):
            raise RuntimeError("the batch number of src and tgt must be equal")
        if src.size(-1) != self.d_model or tgt.size(-1) != self.d_model:
            raise RuntimeError("the feature number of src and tgt must be equal to d_model")
        memory = self.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask,
                              is_causal=src_is_causal)
        return self.decoder(tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask,
                            tgt_key_padding_mask=tgt_key_padding_mask,
                            memory_key_padding_mask=memory_key_padding_mask,
                            tgt_is_causal=tgt_is_causal, memory_is_causal=memory_is_causal)

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """The mask that hides the keys after each query: (sz, sz), -inf above the diagonal."""
        return _causal_mask(sz, device, dtype)

    def _reset_parameters(self) -> None:
        """Draw all weights by xavier_uniform_."""
        for p in self.parameters():
            if p.dim() > 1:
                init.xavier_uniform_(p)
