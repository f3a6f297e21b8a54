"""ConvNeXt: depthwise 7x7, layer norm with channels first or last, layer scale."""
from __future__ import annotations

from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.init import trunc_normal_

from .training import Lamb, Training, images, labels, warmup_cosine, without_decay


def drop_path(x, p: float, training: bool):
    if not training or not p:
        return x
    kept = x.new_empty(x.shape[:1] + (1,) * (x.dim() - 1)).bernoulli_(1 - p)
    return x * kept.div_(1 - p)


class DropPath(nn.Module):
    def __init__(self, p: float = 0.):
        super(DropPath, self).__init__()
        self.p = p

    def forward(self, x):
        return drop_path(x, self.p, self.training)

    def extra_repr(self):
        return 'p=%.3f' % self.p


class LayerNorm(nn.Module):
    """Over the last dimension, or over the second one."""

    def __init__(self, dim, eps=1e-6, first=False):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.eps, self.first = eps, first

    def forward(self, x):
        if not self.first:
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        var, mean = torch.var_mean(x, dim=1, unbiased=False, keepdim=True)
        x = (x - mean) * torch.rsqrt(var + self.eps)
        return torch.addcmul(self.bias.view(-1, 1, 1), x, self.weight.view(-1, 1, 1))


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class GRN(nn.Module):
    """Responses by channel against their mean."""

    def __init__(self, dim):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(dim))
        self.shift = nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        length = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
        share = length / length.mean(-1, keepdim=True).add(1e-6)
        return x + self.shift + self.scale * x * share


class Block(nn.Module):
    def __init__(self, dim, drop=0., layer_scale=1e-6, grn=False):
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 7, padding='same', groups=dim)
        self.mlp = nn.Sequential(LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(),
                                 GRN(4 * dim) if grn else nn.Identity(), nn.Linear(4 * dim, dim))
        if layer_scale > 0:
            self.gamma = nn.Parameter(torch.full((dim,), layer_scale))
        else:
            self.register_parameter('gamma', None)
        self.drop_path = DropPath(drop) if drop > 0. else nn.Identity()

    def forward(self, x):
        y = self.mlp(self.depthwise(x).permute(0, 2, 3, 1))
        if self.gamma is not None:
            y = y * self.gamma
        return x + self.drop_path(y.permute(0, 3, 1, 2))


class ConvNeXt(nn.Module):
    def __init__(self, in_chans=3, num_classes=1000, depths=(1, 2), dims=(4, 8), drop_path_rate=0.,
                 layer_scale_init_value=1e-6, head_init_scale=1., use_grn=False):
        super().__init__()
        self.downsample_layers = nn.ModuleList()
        stem = nn.Sequential(nn.Conv2d(in_chans, dims[0], kernel_size=4, stride=4),
                             LayerNorm(dims[0], first=True))
        self.downsample_layers.append(stem)
        for i in range(len(dims) - 1):
            self.downsample_layers.append(nn.Sequential(
                LayerNorm2d(dims[i], eps=1e-6),
                nn.Conv2d(dims[i], dims[i + 1], kernel_size=2, stride=2)))
        self.stages = nn.ModuleList()
        dp_rates = [x.item() for x in torch.linspace(0, drop_path_rate, sum(depths))]
        cur = 0
        for i in range(len(dims)):
            self.stages.append(nn.Sequential(
                *[Block(dims[i], dp_rates[cur + j], layer_scale_init_value, use_grn)
                  for j in range(depths[i])]))
            cur += depths[i]
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)
        self.head = nn.Linear(dims[-1], num_classes)
        self.apply(partial(self._init_weights, std=.1))
        self.head.weight.data.mul_(head_init_scale)
        self.head.bias.data.mul_(head_init_scale)

    def _init_weights(self, m, std):
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            trunc_normal_(m.weight, std=std)
            nn.init.constant_(m.bias, 0)

    def forward_features(self, x):
        for down, stage in zip(self.downsample_layers, self.stages):
            x = stage(down(x))
        return self.norm(x.mean([-2, -1]))  # global average pooling, (N, C, H, W) -> (N, C)

    def forward(self, x):
        return self.head(self.forward_features(x))


def soft_labels(y, num_classes, smoothing=0.1):
    off = smoothing / num_classes
    y = y.long().view(-1, 1)
    full = torch.full((y.size(0), num_classes), off, device=y.device)
    return full.scatter_(1, y, 1. - smoothing + off)


def convnext(device):
    """Images and labels are mixed in pairs."""
    net = ConvNeXt(num_classes=5, drop_path_rate=0.3).to(device)
    x, y = images(device, 4, 32), soft_labels(labels(device, 4), 5)
    x = x * 0.7 + x.flip(0).mul_(0.3)
    y = y * 0.7 + y.flip(0) * 0.3
    optimizer = torch.optim.AdamW(without_decay(net, 0.05), lr=4e-3, eps=1e-8)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(2, 10))
    return Training(net, [x], lambda out: torch.sum(-y * F.log_softmax(out, dim=-1), -1).mean(),
                    optimizer, schedule)


def convnext_v2(device):
    net = ConvNeXt(num_classes=5, layer_scale_init_value=0, head_init_scale=0.5, use_grn=True)
    net, y = net.to(device), labels(device, 4)
    optimizer = Lamb(net.parameters(), lr=0.02, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5, eta_min=1e-3)
    return Training(net, [images(device, 4, 32)], lambda out: F.cross_entropy(out, y), optimizer,
                    schedule)
