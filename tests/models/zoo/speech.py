"""Sound: recognition with CTC, dilated causal convolutions with gates, separation by masks."""
from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils import remove_weight_norm, weight_norm

from .training import Training


class EachStep(nn.Module):
    """A module that knows no time, for (T, N, H)."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def __repr__(self):
        return type(self).__name__ + '<' + repr(self.module) + '>'


class Masked(nn.Module):
    """After each layer, what is beyond an example's length becomes 0."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x, lengths):
        for layer in self.layers:
            x = layer(x)
            beyond = torch.zeros(x.size(), dtype=torch.bool, device=x.device)
            for row, length in zip(beyond, lengths.tolist()):
                row.narrow(2, length, row.size(2) - length).fill_(True)
            x = x.masked_fill(beyond, 0)
        return x


class BothWays(nn.Module):
    """A recurrent layer whose directions are added up."""

    def __init__(self, inputs, hidden, norm=True):
        super().__init__()
        self.norm = EachStep(nn.BatchNorm1d(inputs)) if norm else None
        self.rnn = nn.GRU(input_size=inputs, hidden_size=hidden, bidirectional=True)

    def forward(self, x, lengths):
        if self.norm is not None:
            x = self.norm(x)
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu())
        x, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0])
        return x.view(*x.shape[:2], 2, -1).sum(dim=2)


class DeepSpeech(nn.Module):
    def __init__(self, freq=10, hidden=6, classes=5):
        super().__init__()
        self.conv = Masked(nn.Sequential(
            nn.Conv2d(1, 2, kernel_size=(5, 3), stride=(2, 1), padding=(2, 1)), nn.BatchNorm2d(2),
            nn.Hardtanh(0, 20, inplace=True)))
        self.rnns = nn.ModuleList([BothWays(2 * freq // 2, hidden, norm=False),
                                   BothWays(hidden, hidden)])
        self.fc = nn.Sequential(EachStep(nn.Sequential(
            nn.BatchNorm1d(hidden), nn.Linear(hidden, classes, bias=False))))

    def forward(self, x, lengths):
        lengths = lengths.cpu().int()
        x = self.conv(x, lengths).flatten(1, 2).permute(2, 0, 1).contiguous()
        for rnn in self.rnns:
            x = rnn(x, lengths)
        return F.log_softmax(self.fc(x), dim=-1), lengths


class OnPlateau(Training):
    """Schedules that look at the loss."""

    def step(self):
        schedulers, self.schedulers = self.schedulers, []
        loss = super().step()
        self.schedulers = schedulers
        for scheduler in schedulers:
            scheduler.step(loss)
        return loss


def deep_speech(device):
    net = DeepSpeech().to(device)
    x = torch.randn(3, 1, 10, 12).to(device)
    targets, target_lengths = torch.tensor([1, 2, 3, 4, 4, 1]), torch.tensor([3, 2, 1])
    lengths = torch.tensor([12, 9, 7], device=device)
    criterion = nn.CTCLoss(blank=0, reduction='sum', zero_infinity=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=2e-3, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    return OnPlateau(net, [x, lengths], lambda out: criterion(
        out[0], targets.to(device), out[1], target_lengths) / 3, optimizer, schedule,
        clip=400)


class Shorter(nn.Module):
    def __init__(self, by):
        super(Shorter, self).__init__()
        self.by = by

    def forward(self, x):
        return x[..., :-self.by].contiguous()


class WaveBlock(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.conv = weight_norm(nn.Conv1d(channels, 2 * channels, 2, padding=dilation,
                                          dilation=dilation))
        self.cut = Shorter(dilation)
        self.res_skip = weight_norm(nn.Conv1d(channels, 2 * channels, 1), name='weight')

    def forward(self, x):
        a, b = self.cut(self.conv(x)).chunk(2, dim=1)
        res, skip = torch.split(self.res_skip(torch.tanh(a) * torch.sigmoid(b)),
                                [x.size(1), x.size(1)], dim=1)
        return (x + res) * math.sqrt(0.5), skip


class WaveNet(nn.Module):
    def __init__(self, channels=4, levels=16, blocks=3):
        super().__init__()
        self.embed = nn.Embedding(levels, channels)
        self.blocks = nn.ModuleList(WaveBlock(channels, 2 ** i) for i in range(blocks))
        self.upsample = weight_norm(nn.ConvTranspose1d(3, channels, 8, stride=4, padding=2), dim=1)
        self.out = nn.Sequential(nn.LeakyReLU(0.1), nn.Conv1d(channels, levels, 1))

    def forward(self, codes, mel):
        x = self.embed(codes).transpose(1, 2) + self.upsample(mel)
        total = 0
        for block in self.blocks:
            x, skip = block(x)
            total = total + skip
        return self.out(total)

    def remove_weight_norm(self):
        remove_weight_norm(self.upsample)
        for block in self.blocks:
            for layer in (block.conv, block.res_skip):
                remove_weight_norm(layer)
        return self


def mu_law(x, mu=16):
    mu = mu - 1
    x_mu = torch.sign(x) * torch.log1p(mu * torch.abs(x)) / math.log1p(mu)
    return ((x_mu + 1) / 2 * mu + 0.5).long()


def wavenet(device):
    wave = torch.sin(torch.linspace(0, 20, 34)).unsqueeze(0).repeat(2, 1)
    wave[1] *= 0.3
    codes, net = mu_law(wave).to(device), WaveNet().to(device)
    mel = torch.randn(2, 3, 8).to(device)
    plain = WaveNet().to(device)
    plain.remove_weight_norm().load_state_dict(
        {k: v for k, v in plain.state_dict().items() if not k.endswith("_g")})
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    return Training(net, [codes[:, :32], mel], lambda out: F.cross_entropy(out, codes[:, 1:33]),
                    optimizer)


class Separator(nn.Module):
    """A learned basis, masks for two sources by a recurrent network, and back by overlap-add."""

    def __init__(self, basis=8, win=4, hidden=6):
        super().__init__()
        self.win = win
        self.encoder = nn.Conv1d(1, basis, win, stride=win // 2, bias=False)
        self.norm = nn.GroupNorm(1, basis, eps=1e-8)
        self.lstm = nn.LSTM(basis, hidden, batch_first=True, bidirectional=True)
        self.mask = nn.Conv1d(2 * hidden, 2 * basis, 1)
        self.decoder = nn.ConvTranspose1d(basis, 1, win, stride=win // 2, bias=False)

    def forward(self, x):
        w = F.relu(self.encoder(x.unsqueeze(1)))
        h, _ = self.lstm(self.norm(w).transpose(1, 2))
        masks = torch.sigmoid(self.mask(h.transpose(1, 2))).view(x.size(0), 2, -1, w.size(-1))
        masked = w.unsqueeze(1) * masks
        return self.decoder(masked.flatten(0, 1)).view(x.size(0), 2, -1)


def si_snr(estimate, target, eps=1e-8):
    target = target - target.mean(dim=-1, keepdim=True)
    estimate = estimate - estimate.mean(dim=-1, keepdim=True)
    dot = torch.sum(estimate * target, dim=-1, keepdim=True)
    projected = dot * target / (torch.sum(target ** 2, dim=-1, keepdim=True) + eps)
    noise = estimate - projected
    ratio = projected.pow(2).sum(-1) / (noise.pow(2).sum(-1) + eps)
    return 10 * torch.log10(ratio + eps)


def separation(device):
    net, t = Separator().to(device), torch.linspace(0, 6, 34)
    sources = torch.stack([torch.sin(5 * t), torch.sign(torch.sin(2 * t)) * 0.5]).to(device)
    sources = torch.stack([sources, sources.flip(1)])

    def criterion(out):
        orders = torch.stack([si_snr(out, sources).mean(-1), si_snr(out[:, [1, 0]],
                                                                    sources).mean(-1)])
        spectrum = torch.stft(out[:, 0], 8, window=torch.hann_window(8, device=out.device),
                              return_complex=True).abs().mean()
        return -orders.max(dim=0)[0].mean() + 0.01 * spectrum

    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    return Training(net, [sources.sum(1)], criterion, optimizer, clip=5)
