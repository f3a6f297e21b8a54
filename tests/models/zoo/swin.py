"""Windows that shift: attention inside windows of an image, with biases by relative position."""
from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor, einsum

from .training import Training, images, labels


def window_partition(x: Tensor, size: int) -> Tensor:
    """(B, H, W, C) -> (B * number of windows, size, size, C)"""
    x = x.unflatten(2, (-1, size)).unflatten(1, (-1, size))
    return x.transpose(2, 3).contiguous().flatten(0, 2)


def window_reverse(windows: Tensor, size: int, H: int, W: int) -> Tensor:
    x = windows.view(-1, H // size, W // size, *windows.shape[1:])
    return x.transpose(2, 3).reshape(x.shape[0], H, W, -1)


class WindowAttention(nn.Module):
    """Scores are products, or cosines with a learned temperature and biases from a small MLP."""

    def __init__(self, dim: int, window: int, heads: int, cosine: bool) -> None:
        super().__init__()
        self.heads, self.cosine, self.scale = heads, cosine, (dim // heads) ** -0.5
        y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        places = torch.stack([y.flatten(), x.flatten()], dim=-1)
        apart = places[:, None] - places[None, :] + (window - 1)
        apart[..., 0] *= 2 * window - 1
        self.register_buffer("index", apart.sum(dim=-1))
        if cosine:
            self.temperature = nn.Parameter(torch.full((heads, 1, 1), 10.0).log())
            self.bias_mlp = nn.Sequential(nn.Linear(2, 16), nn.ReLU(inplace=True),
                                          nn.Linear(16, heads, bias=False))
            steps = torch.arange(1 - window, window, dtype=torch.float32)
            table = torch.cartesian_prod(steps, steps).mul_(8 / (window - 1))
            self.register_buffer("distances", table.sign() * table.abs().log1p() / 2.0,
                                 persistent=False)
        else:
            self.table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
            nn.init.trunc_normal_(self.table, std=.02)
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)

    def bias(self) -> Tensor:
        if self.cosine:
            table = 16 * torch.sigmoid(self.bias_mlp(self.distances))
        else:
            table = self.table
        return table[self.index].movedim(-1, 0).unsqueeze(0)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        B_, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B_, N, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.cosine:
            attn = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
            attn = attn * self.temperature.clamp(max=4.6).exp()
        else:
            attn = einsum("bhid,bhjd->bhij", q * self.scale, k)
        attn = attn + self.bias()
        if mask is not None:
            nW = mask.shape[0]
            attn = (attn.unflatten(0, (-1, nW)) + mask[None, :, None]).flatten(0, 1)
        attn = attn.softmax(dim=-1)
        x = einsum("b h i j, b h j d -> b i h d", attn, v).reshape(B_, N, C)
        return self.proj(x)


class SwinBlock(nn.Module):
    def __init__(self, dim: int, resolution: int, heads: int, window: int, shift: int,
                 cosine: bool) -> None:
        super().__init__()
        self.resolution, self.window, self.shift = resolution, window, shift
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window, heads, cosine)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        attn_mask = None
        if shift > 0:
            region = torch.zeros(resolution)
            region[-window:-shift], region[-shift:] = 1, 2
            regions = (3 * region[:, None] + region).view(1, resolution, resolution, 1)
            regions = window_partition(regions, window).flatten(1)
            apart = regions[:, None, :] != regions[:, :, None]
            attn_mask = torch.zeros(apart.shape).masked_fill_(apart, -100.0)
        self.register_buffer("attn_mask", attn_mask)

    def forward(self, x: Tensor) -> Tensor:
        B, L, C = x.shape
        H = W = self.resolution
        torch._assert(L == H * W, "as many tokens as places")
        shortcut, x = x, self.norm1(x).view(B, H, W, C)
        if self.shift > 0:
            x = torch.roll(x, shifts=(-self.shift, -self.shift), dims=(1, 2))
        x = window_partition(x, self.window).view(-1, self.window * self.window, C)
        x = self.attn(x, mask=self.attn_mask).view(-1, self.window, self.window, C)
        x = window_reverse(x, self.window, H, W)
        if self.shift > 0:
            x = torch.roll(x, shifts=(self.shift, self.shift), dims=(1, 2))
        x = shortcut + x.view(B, H * W, C)
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    def __init__(self, resolution: int, dim: int) -> None:
        super().__init__()
        self.resolution = resolution
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        B, _, C = x.shape
        x = x.view(B, self.resolution, self.resolution, C)
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        return self.reduction(self.norm(x.view(B, -1, 4 * C)))


class SwinTransformer(nn.Module):
    def __init__(self, dim: int = 8, cosine: bool = False, num_classes: int = 5) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, 4, 4)
        self.layers = nn.ModuleList([
            nn.Sequential(SwinBlock(dim, 8, 2, 4, 0, cosine), SwinBlock(dim, 8, 2, 4, 2, cosine)),
            PatchMerging(8, dim),
            nn.Sequential(SwinBlock(2 * dim, 4, 4, 4, 0, cosine))])
        self.norm, self.head = nn.LayerNorm(2 * dim), nn.Linear(2 * dim, num_classes)
        self.avgpool = nn.AdaptiveAvgPool1d(1)
        self.apply(self._init_weights)

    def _init_weights(self, m: nn.Module) -> None:
        if isinstance(m, nn.Linear):
            nn.init.trunc_normal_(m.weight, std=.1)
            if isinstance(m, nn.Linear) and m.bias is not None:
                nn.init.constant_(m.bias, 0)
        elif isinstance(m, nn.LayerNorm):
            nn.init.constant_(m.bias, 0)
            nn.init.constant_(m.weight, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        x = self.avgpool(self.norm(x).transpose(1, 2))
        return self.head(torch.flatten(x, 1))


def swin(device: str, cosine: bool = False) -> Training:
    net, y = SwinTransformer(cosine=cosine).to(device), labels(device, 3)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=12)
    return Training(net, [images(device, 3, 32)], lambda out: F.cross_entropy(out, y), optimizer,
                    schedule, clip=5.0)


def swin_cosine(device: str) -> Training:
    return swin(device, cosine=True)
