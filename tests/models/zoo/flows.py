"""Normalising flows: couplings, invertible 1x1 convolutions by LU, autoregressive masks."""
from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import distributions

from .training import Training, images


class ActNorm(nn.Module):
    """Scales and shifts channels so that the first batch has mean 0 and deviation 1."""

    def __init__(self, in_channel):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1, in_channel, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, in_channel, 1, 1))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))

    def initialize(self, input):
        with torch.no_grad():
            std, mean = torch.std_mean(input, dim=(0, 2, 3), keepdim=True)
            self.loc.data.copy_(mean.neg())
            self.scale.data.copy_((std + 1e-6).reciprocal())

    def forward(self, input):
        _, _, height, width = input.shape
        if self.initialized.item() == 0:
            self.initialize(input)
            self.initialized.fill_(1)
        logdet = height * width * torch.sum(torch.log(torch.abs(self.scale)))
        return self.scale * (input + self.loc), logdet


class Mix(nn.Module):
    """A 1x1 convolution by a matrix that is kept as P L (U + diag(s)), and starts as a rotation."""

    def __init__(self, channels):
        super().__init__()
        q, r = torch.linalg.qr(torch.randn(channels, channels))
        P, L, U = torch.linalg.lu(q * r.diagonal().sign())
        s = U.diagonal()
        for name, value in (("P", P), ("sign", s.sign()), ("one", torch.eye(channels)),
                            ("below", torch.ones_like(U).tril(-1))):
            self.register_buffer(name, value)
        self.lower, self.upper = nn.Parameter(L), nn.Parameter(torch.triu(U, diagonal=1))
        self.log_s = nn.Parameter(s.abs().log())

    @property
    def weight(self):
        upper = self.upper * self.below.T + torch.diag(self.sign * self.log_s.exp())
        return self.P @ torch.addcmul(self.one, self.lower, self.below) @ upper

    def forward(self, x):
        y = F.conv2d(x, self.weight[..., None, None])
        return y, x[0, 0].numel() * self.log_s.sum()

    def reverse(self, y):
        return F.conv2d(y, torch.linalg.inv(self.weight)[..., None, None])


class ZeroConv2d(nn.Module):
    def __init__(self, in_channel, out_channel):
        super().__init__()
        self.conv = nn.Conv2d(in_channel, out_channel, 3, padding=0)
        self.conv.weight.data.zero_()
        self.conv.bias.data.zero_()
        self.scale = nn.Parameter(torch.zeros(1, out_channel, 1, 1))

    def forward(self, input):
        out = self.conv(F.pad(input, [1, 1, 1, 1], value=1))
        return out * torch.exp(self.scale * 3)


class AffineCoupling(nn.Module):
    def __init__(self, in_channel, filter_size=6):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(in_channel // 2, filter_size, 3, padding=1),
                                 nn.ReLU(inplace=True), nn.Conv2d(filter_size, filter_size, 1),
                                 nn.ReLU(inplace=True), ZeroConv2d(filter_size, in_channel))
        self.net[0].weight.data.normal_(0, 0.05)
        self.net[0].bias.data.zero_()

    def forward(self, input):
        in_a, in_b = input.chunk(2, 1)
        log_s, t = self.net(in_a).chunk(2, 1)
        s = torch.sigmoid(log_s + 2)
        logdet = torch.sum(torch.log(s).view(input.shape[0], -1), 1)
        return torch.cat([in_a, (in_b + t) * s], 1), logdet


def squeeze(x, factor=2):
    """Squares of pixels become channels."""
    x = x.unflatten(3, (-1, factor)).unflatten(2, (-1, factor))
    return x.permute(0, 1, 3, 5, 2, 4).flatten(1, 3).contiguous()


class Glow(nn.Module):
    def __init__(self, in_channel=1, n_flow=2):
        super().__init__()
        self.flows = nn.ModuleList(
            nn.ModuleList([ActNorm(4 * in_channel), Mix(4 * in_channel),
                           AffineCoupling(4 * in_channel)]) for _ in range(n_flow))
        self.register_buffer("zero", torch.zeros(1), persistent=False)
        self.register_buffer("one", torch.ones(1), persistent=False)

    @property
    def base(self):
        return distributions.Normal(self.zero, self.one)

    def forward(self, x):
        z, total = squeeze(x), 0
        for flow in self.flows:
            for layer in flow:
                z, logdet = layer(z)
                total = total + logdet
        return z, self.base.log_prob(z).flatten(1).sum(1) + total


def glow(device):
    net, x = Glow().to(device), images(device, 4, 8, 1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-3)
    return Training(net, [x], lambda out: -out[1].mean() / (math.log(2.) * 64), optimizer)


class MaskedLinear(nn.Linear):
    def __init__(self, in_features, out_features, mask):
        super().__init__(in_features, out_features)
        self.register_buffer("mask", torch.from_numpy(mask.astype(np.uint8)))

    def forward(self, input):
        return F.linear(input, self.mask * self.weight, self.bias)


class MADE(nn.Module):
    """Each variable depends on those before it; the order is reversed from layer to layer."""

    def __init__(self, dim, hidden, seed):
        super().__init__()
        rng = np.random.RandomState(seed)
        order, middle = np.arange(dim), rng.randint(0, dim - 1, size=hidden)
        masks = [order[:, None] <= middle[None, :], middle[:, None] < order[None, :]]
        masks[1] = np.concatenate([masks[1]] * 2, axis=1)
        self.net = nn.Sequential(MaskedLinear(dim, hidden, masks[0].T), nn.Tanh(),
                                 MaskedLinear(hidden, 2 * dim, np.ascontiguousarray(masks[1].T)))

    def forward(self, x):
        m, loga = self.net(x).chunk(2, dim=1)
        return (x - m) * torch.exp(-loga), -loga.sum(dim=1, keepdim=True)


class MAF(nn.Module):
    def __init__(self, dim=4, layers=2):
        super().__init__()
        self.layers = nn.ModuleList([MADE(dim, 8, i) for i in range(layers)])
        self.register_buffer("mean", torch.zeros(dim))
        self.log_std = nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        total = torch.zeros(x.size(0), 1).to(x)
        for layer in self.layers:
            x, logdet = layer(x)
            x, total = torch.flip(x, dims=[1]), total + logdet
        p = distributions.MultivariateNormal(self.mean, torch.diag_embed(self.log_std.exp()))
        return x, p.log_prob(x).unsqueeze(1) + total


def autoregressive_flow(device):
    net, x = MAF().to(device), torch.randn(6, 4).to(device)
    optimizer = torch.optim.Rprop(net.parameters(), lr=1e-3)
    return Training(net, [x], lambda out: -out[1].mean(), optimizer)


class RealNVP(nn.Module):
    """Couplings with alternating masks; s and t are networks given by functions."""

    def __init__(self, nets, nett, masks):
        super(RealNVP, self).__init__()
        self.mask = nn.Parameter(masks, requires_grad=False)
        self.t = torch.nn.ModuleList([nett() for _ in range(len(masks))])
        self.s = torch.nn.ModuleList([nets() for _ in range(len(masks))])

    def f(self, x):
        log_det_J, z = x.new_zeros(x.shape[0]), x
        for i in reversed(range(len(self.t))):
            z_ = self.mask[i] * z
            s = self.s[i](z_) * (1 - self.mask[i])
            t = self.t[i](z_) * (1 - self.mask[i])
            z = (1 - self.mask[i]) * (z - t) * torch.exp(-s) + z_
            log_det_J -= s.sum(dim=1)
        return z, log_det_J

    def forward(self, x):
        z, logp = self.f(x)
        prior = distributions.TransformedDistribution(
            distributions.Normal(torch.zeros_like(z), torch.ones_like(z)),
            [distributions.AffineTransform(0.1, 2.0)])
        return prior.log_prob(z).sum(-1) + logp


def real_nvp(device):
    def net():
        return nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(), nn.Linear(8, 2), nn.Tanh())

    masks = torch.from_numpy(np.array([[0, 1], [1, 0]] * 2).astype(np.float32))
    model = RealNVP(net, net, masks).to(device)
    x = torch.randn(7, 2).to(device)
    trainable = [p for p in model.parameters() if p.requires_grad is True]
    optimizer = torch.optim.Adam(trainable, lr=1e-3)
    return Training(model, [x], lambda out: -out.mean(), optimizer)
