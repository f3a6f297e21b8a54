"""Transformers as their users write them, for any module that is called torch.

``programs(torch)`` gives by name a function of the device, which returns (network, step): step()
returns the loss of a batch. The numbers come from NumPy and the seed, so they are the same for all.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np


def programs(torch: Any) -> dict[str, Any]:
    nn, F = torch.nn, torch.nn.functional

    def tokens(device: str, *shape: int, top: int = 11) -> Any:
        return torch.tensor(np.random.default_rng(0).integers(1, top, shape), device=device)

    def predict(net: Any, ids: Any) -> Any:
        logits = net(ids[:, :-1])
        return F.cross_entropy(logits.reshape(-1, logits.size(-1)), ids[:, 1:].reshape(-1))

    # GPT -----------------------------------------------------------------------------------------

    class CausalSelfAttention(nn.Module):
        def __init__(self, dim: int, heads: int, fused: bool) -> None:
            super().__init__()
            self.c_attn, self.c_proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
            self.drop, self.heads, self.fused = nn.Dropout(0.1), heads, fused
            self.register_buffer("mask", torch.tril(torch.ones(16, 16)).view(1, 1, 16, 16),
                                 persistent=False)

        def forward(self, x: Any) -> Any:
            B, L, C = x.size()
            q, k, v = self.c_attn(x).split(C, dim=2)
            q, k, v = (t.view(B, L, self.heads, C // self.heads).transpose(1, 2)
                       for t in (q, k, v))
            if self.fused:
                y = F.scaled_dot_product_attention(q, k, v, attn_mask=None, is_causal=True,
                                                   dropout_p=0.1 if self.training else 0)
            else:
                att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
                att = att.masked_fill(self.mask[:, :, :L, :L] == 0, float("-inf"))
                y = self.drop(F.softmax(att, dim=-1)) @ v
            return self.drop(self.c_proj(y.transpose(1, 2).contiguous().view(B, L, C)))

    class Block(nn.Module):
        def __init__(self, dim: int, heads: int, fused: bool) -> None:
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.attn = CausalSelfAttention(dim, heads, fused)
            self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"),
                                     nn.Linear(4 * dim, dim), nn.Dropout(0.1))

        def forward(self, x: Any) -> Any:
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp(self.ln_2(x))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = nn.ModuleDict({
                "wte": nn.Embedding(11, 12), "wpe": nn.Embedding(16, 12),
                "h": nn.ModuleList([Block(12, 3, fused) for fused in (True, False)]),
                "ln_f": nn.LayerNorm(12, bias=False)})
            self.lm_head = nn.Linear(12, 11, bias=False)
            self.transformer.wte.weight = self.lm_head.weight
            self.apply(self._init_weights)
            for name, p in self.named_parameters():
                if name.endswith("c_proj.weight"):
                    torch.nn.init.normal_(p, mean=0.0, std=0.1 / math.sqrt(2 * 2))

        def _init_weights(self, module: Any) -> None:
            if isinstance(module, nn.Linear | nn.Embedding):
                torch.nn.init.normal_(module.weight, mean=0.0, std=0.1)
                if getattr(module, "bias", None) is not None:
                    torch.nn.init.zeros_(module.bias)

        def forward(self, idx: Any) -> Any:
            pos = torch.arange(0, idx.size(1), dtype=torch.long, device=idx.device)
            x = self.transformer.wte(idx) + self.transformer.wpe(pos)
            for block in self.transformer.h:
                x = block(x)
            return self.lm_head(self.transformer.ln_f(x))

    def gpt(device: str) -> Any:
        net, ids = GPT().to(device), tokens(device, 3, 9)
        return net, lambda: predict(net, ids)

    # Llama ---------------------------------------------------------------------------------------

    class RMSNorm(nn.Module):
        def __init__(self, dim: int, eps: float = 1e-6) -> None:
            super().__init__()
            self.eps, self.weight = eps, nn.Parameter(torch.ones(dim))

        def forward(self, x: Any) -> Any:
            y = x.float()
            y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
            return y.type_as(x) * self.weight

    def frequencies_as_complex(dim: int, end: int, theta: float = 10000.0) -> Any:
        freqs = 1.0 / (theta ** (torch.arange(0, dim, 2)[: (dim // 2)].float() / dim))
        freqs = torch.outer(torch.arange(end), freqs).float()
        return torch.polar(torch.ones_like(freqs), freqs)

    def rotated_as_complex(x: Any, freqs: Any) -> Any:
        x_ = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(x_ * freqs[None, :, None, :]).flatten(3).type_as(x)

    def rotate_half(x: Any) -> Any:
        x1, x2 = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2:]
        return torch.cat((-x2, x1), dim=-1)

    class LlamaAttention(nn.Module):
        def __init__(self, dim: int, heads: int, kv_heads: int, in_halves: bool) -> None:
            super().__init__()
            self.heads, self.kv_heads, self.size = heads, kv_heads, dim // heads
            self.in_halves = in_halves
            self.wq = nn.Linear(dim, heads * self.size, bias=False)
            self.wk = nn.Linear(dim, kv_heads * self.size, bias=False)
            self.wv = nn.Linear(dim, kv_heads * self.size, bias=False)
            self.wo = nn.Linear(heads * self.size, dim, bias=False)
            self.register_buffer("freqs", frequencies_as_complex(self.size, 32), persistent=False)
            self.cache: Any = None

        def turned(self, x: Any, start: int) -> Any:
            freqs = self.freqs[start:start + x.size(1)]
            if not self.in_halves:
                return rotated_as_complex(x, freqs)
            angles = torch.cat((freqs.angle(), freqs.angle()), dim=-1)[None, :, None]
            return (x * angles.cos() + rotate_half(x) * angles.sin()).type_as(x)

        def forward(self, x: Any, start: int = 0) -> Any:
            bsz, length, _ = x.shape
            q = self.wq(x).view(bsz, length, self.heads, self.size)
            k = self.wk(x).view(bsz, length, self.kv_heads, self.size)
            v = self.wv(x).view(bsz, length, self.kv_heads, self.size)
            q, k = self.turned(q, start), self.turned(k, start)
            if self.cache is not None:
                keys, values = self.cache
                keys[:bsz, start:start + length] = k
                values[:bsz, start:start + length] = v
                k, v = keys[:bsz, :start + length], values[:bsz, :start + length]
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
            if self.in_halves:
                n = self.heads // self.kv_heads
                k, v = (torch.repeat_interleave(t, n, dim=1) for t in (k, v))
                y = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
            else:
                y = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1, enable_gqa=True)
            return self.wo(y.transpose(1, 2).contiguous().view(bsz, length, -1))

    class FeedForward(nn.Module):
        def __init__(self, dim: int, hidden: int) -> None:
            super().__init__()
            self.w1, self.w3 = (nn.Linear(dim, hidden, bias=False) for _ in range(2))
            self.w2 = nn.Linear(hidden, dim, bias=False)

        def forward(self, x: Any) -> Any:
            return self.w2(F.silu(self.w1(x)) * self.w3(x))

    class Llama(nn.Module):
        def __init__(self, feed_forward: Any = FeedForward) -> None:
            super().__init__()
            self.tok_embeddings = nn.Embedding(11, 16)
            self.attention = nn.ModuleList([LlamaAttention(16, 4, 2, i) for i in (False, True)])
            self.feed_forward = nn.ModuleList([feed_forward(16, 24) for _ in range(2)])
            self.norms = nn.ModuleList([RMSNorm(16), nn.RMSNorm(16), RMSNorm(16), nn.RMSNorm(16)])
            self.norm, self.output = nn.RMSNorm(16, eps=1e-5), nn.Linear(16, 11, bias=False)

        def forward(self, ids: Any, start: int = 0) -> Any:
            h = self.tok_embeddings(ids)
            for i, (attention, feed) in enumerate(zip(self.attention, self.feed_forward)):
                h = h + attention(self.norms[2 * i](h), start)
                h = h + feed(self.norms[2 * i + 1](h))
            return self.output(self.norm(h)).float()

    def llama(device: str) -> Any:
        net, ids = Llama().to(device), tokens(device, 2, 8)
        return net, lambda: predict(net, ids)

    # A mixture of experts ------------------------------------------------------------------------

    class Experts(nn.Module):
        def __init__(self, dim: int, hidden: int, count: int = 4, used: int = 2) -> None:
            super().__init__()
            self.gate, self.count, self.used = nn.Linear(dim, count, bias=False), count, used
            self.experts = nn.ModuleList([FeedForward(dim, hidden) for _ in range(count)])
            self.balance: Any = 0.0

        def forward(self, hidden: Any) -> Any:
            shape = hidden.shape
            hidden = hidden.view(-1, shape[-1])
            probs = F.softmax(self.gate(hidden), dim=1, dtype=torch.float)
            weights, chosen = torch.topk(probs, self.used, dim=-1)
            weights = (weights / weights.sum(dim=-1, keepdim=True)).to(hidden.dtype)
            out = torch.zeros_like(hidden)
            mask = F.one_hot(chosen, num_classes=self.count).permute(2, 1, 0)
            for i, expert in enumerate(self.experts):
                place, token = torch.where(mask[i])
                if token.shape[0] == 0:
                    continue
                part = expert(hidden[None, token].reshape(-1, shape[-1]))
                out.index_add_(0, token, part * weights[token, place, None])
            share = mask.sum(1).float().mean(1)
            self.balance = self.count * (share * probs.mean(0)).sum()
            return out.view(shape)

    def mixture_of_experts(device: str) -> Any:
        net, ids = Llama(Experts).to(device), tokens(device, 2, 8)
        return net, lambda: predict(net, ids) + 0.01 * sum(f.balance for f in net.feed_forward)

    # A vision transformer ------------------------------------------------------------------------

    class ViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 12, kernel_size=4, stride=4)
            self.class_token = nn.Parameter(torch.zeros(1, 1, 12))
            self.pos_embed = nn.Parameter(torch.empty(1, 5, 12).normal_(std=0.02))
            layer = nn.TransformerEncoderLayer(12, 3, 24, dropout=0.1, activation="gelu",
                                               batch_first=True, norm_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(12),
                                                 enable_nested_tensor=False)
            self.head = nn.Linear(12, 5)
            nn.init.trunc_normal_(self.class_token, std=0.02)

        def forward(self, x: Any) -> Any:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)
            return self.head(self.encoder(x + self.pos_embed)[:, 0])

    def vision(device: str) -> Any:
        x = np.random.default_rng(1).standard_normal((4, 3, 8, 8)).astype(np.float32)
        net, x, y = ViT().to(device), torch.tensor(x, device=device), tokens(device, 4, top=5)
        return net, lambda: F.cross_entropy(net(x), y, label_smoothing=0.1)

    # From one sequence to another ----------------------------------------------------------------

    class Translator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source, self.target = nn.Embedding(11, 8, padding_idx=0), nn.Embedding(11, 8)
            position, steps = torch.arange(16).unsqueeze(1), torch.arange(0, 8, 2)
            pe = torch.zeros(16, 8)
            angles = position * torch.exp(steps * (-math.log(10000.0) / 8))
            pe[:, 0::2], pe[:, 1::2] = torch.sin(angles), torch.cos(angles)
            self.register_buffer("pe", pe)
            self.transformer = nn.Transformer(8, 2, 1, 1, 16, 0.1, batch_first=True)
            self.out = nn.Linear(8, 11)

        def forward(self, src: Any, tgt: Any) -> Any:
            mask = nn.Transformer.generate_square_subsequent_mask(tgt.size(1), device=tgt.device)
            padding = (src == 0).float().masked_fill(src == 0, float("-inf"))
            y = self.transformer(self.source(src) * math.sqrt(8) + self.pe[:src.size(1)],
                                 self.target(tgt) * math.sqrt(8) + self.pe[:tgt.size(1)],
                                 tgt_mask=mask, src_key_padding_mask=padding,
                                 memory_key_padding_mask=padding, tgt_is_causal=True)
            return self.out(y)

    def translation(device: str) -> Any:
        src, tgt = tokens(device, 3, 6), tokens(device, 3, 5)
        src[1, 4:] = 0
        tgt[2, 3:] = 0
        net = Translator().to(device)
        return net, lambda: F.cross_entropy(net(src, tgt[:, :-1]).transpose(1, 2), tgt[:, 1:],
                                            ignore_index=0)

    # Linear biases instead of positions ----------------------------------------------------------

    class ALiBi(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.emb, self.out = nn.Embedding(11, 8), nn.Linear(8, 11)
            self.attn = nn.MultiheadAttention(8, 4, batch_first=True)
            slopes = 2.0 ** (-8.0 * torch.arange(1, 5) / 4)
            distance = torch.arange(16)[None, :] - torch.arange(16)[:, None]
            bias = slopes[:, None, None] * distance.clamp(max=0)
            self.register_buffer("bias", bias.masked_fill(distance > 0, -torch.inf))

        def forward(self, ids: Any) -> Any:
            x, n = self.emb(ids), ids.size(1)
            bias = self.bias[:, :n, :n].repeat(ids.size(0), 1, 1)
            y, _ = self.attn(x, x, x, attn_mask=bias, need_weights=False)
            return self.out(x + y)

    def linear_biases(device: str) -> Any:
        net, ids = ALiBi().to(device), tokens(device, 2, 7)
        return net, lambda: predict(net, ids)

    return {f.__name__: f for f in (gpt, llama, mixture_of_experts, vision, translation,
                                    linear_biases)}


NAMES = ("gpt", "llama", "mixture_of_experts", "vision", "translation", "linear_biases")


def train(torch: Any, name: str, device: str, steps: int) -> tuple[Any, list[float]]:
    """The network after some steps, and the losses on the way."""
    torch.manual_seed(1)
    net, loss_of = programs(torch)[name](device)
    opt = torch.optim.AdamW(net.parameters(), lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    losses = []
    for _ in range(steps):
        opt.zero_grad(set_to_none=True)
        loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        losses.append(loss.item())
    return net, losses
