"""U-Nets for segmentation: with transposed convolutions, or interpolation and attention gates."""
from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from .training import Training, images, labels


class DoubleConv(nn.Module):
    """(convolution => [BN] => ReLU) * 2"""

    def __init__(self, in_channels, out_channels, mid_channels=None, norm="batch"):
        super().__init__()
        if not mid_channels:
            mid_channels = out_channels

        def normed(channels):
            return {"batch": nn.BatchNorm2d(channels),
                    "instance": nn.InstanceNorm2d(channels, affine=True),
                    "group": nn.GroupNorm(2, channels)}[norm]

        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, mid_channels, kernel_size=3, padding=1, bias=False),
            normed(mid_channels), nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, out_channels, kernel_size=3, padding=1, bias=False,
                      padding_mode="reflect"),
            normed(out_channels), nn.LeakyReLU(0.1, inplace=True))

    def forward(self, x):
        return self.double_conv(x)


class AttentionGate(nn.Module):
    def __init__(self, skip, gate):
        super().__init__()
        self.W_x, self.W_g = nn.Conv2d(skip, gate, 1), nn.Conv2d(gate, gate, 1)
        self.psi = nn.Conv2d(gate, 1, 1)

    def forward(self, x, g):
        return x * torch.sigmoid(self.psi(torch.relu_(self.W_x(x) + self.W_g(g))))


class Up(nn.Module):
    def __init__(self, in_channels, out_channels, bilinear=True, norm="batch"):
        super().__init__()
        if bilinear:
            self.up = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear",
                                                align_corners=True),
                                    nn.Conv2d(in_channels, in_channels // 2, 1))
            self.gate = AttentionGate(in_channels // 2, in_channels // 2)
        else:
            self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
            self.gate = None
        self.conv = DoubleConv(in_channels, out_channels, norm=norm)

    def forward(self, x1, x2):
        x1 = self.up(x1)
        diffY = x2.size()[2] - x1.size()[2]
        diffX = x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [diffX // 2, diffX - diffX // 2, diffY // 2, diffY - diffY // 2])
        if self.gate is not None:
            x2 = self.gate(x2, x1)
        return self.conv(torch.cat([x2, x1], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes, bilinear=False, norm="batch", width=4):
        super().__init__()
        self.inc = DoubleConv(n_channels, width, norm=norm)
        self.down = nn.ModuleList([
            nn.Sequential(nn.MaxPool2d(2), DoubleConv(width * 2 ** i, width * 2 ** (i + 1),
                                                      norm=norm)) for i in range(2)])
        self.up1 = Up(width * 4, width * 2, bilinear, norm)
        self.up2 = Up(width * 2, width, bilinear, norm)
        self.outc = nn.Conv2d(width, n_classes, kernel_size=1)
        self.auxiliary = nn.Conv2d(width * 2, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down[0](x1)
        x3 = self.down[1](x2)
        y = self.up1(x3, x2)
        result = {"out": self.outc(self.up2(y, x1))}
        result["aux"] = F.interpolate(self.auxiliary(y), size=x.shape[-2:], mode="bilinear",
                                      align_corners=False)
        return result


def dice_coeff(input, target, epsilon: float = 1e-6):
    sum_dim = (-1, -2)
    inter = 2 * (input * target).sum(dim=sum_dim)
    sets_sum = input.sum(dim=sum_dim) + target.sum(dim=sum_dim)
    sets_sum = torch.where(sets_sum == 0, inter, sets_sum)
    return ((inter + epsilon) / (sets_sum + epsilon)).mean()


def unet(device):
    net, target = UNet(3, 3).to(device), labels(device, 2, 14, 13, top=3)
    target[0, :2] = 255

    def criterion(out):
        loss = F.cross_entropy(out["out"], target, ignore_index=255)
        loss = loss + 0.4 * F.cross_entropy(out["aux"], target, ignore_index=255)
        one_hot = F.one_hot(target.clamp(max=2), 3).permute(0, 3, 1, 2).float()
        return loss + 1 - dice_coeff(F.softmax(out["out"], dim=1).flatten(0, 1),
                                     one_hot.flatten(0, 1))

    optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-3, weight_decay=1e-8, momentum=0.9,
                                    foreach=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2)
    return Training(net, [images(device, 2, 14)[..., :13]], criterion, optimizer, schedule,
                    clip=1.0)


def unet_interpolating(device, norm="instance"):
    net = UNet(3, 1, bilinear=True, norm=norm).to(device)
    target = labels(device, 2, 1, 12, 12, top=2).float()
    weight = torch.tensor([3.0], device=device)

    def criterion(out):
        probability = torch.sigmoid(out["out"])
        loss = F.binary_cross_entropy_with_logits(out["out"], target, pos_weight=weight)
        return loss + (1 - dice_coeff(probability.squeeze(1), target.squeeze(1)))

    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    return Training(net, [images(device, 2, 12)], criterion, optimizer)


def unet_group_norm(device):
    return unet_interpolating(device, "group")
