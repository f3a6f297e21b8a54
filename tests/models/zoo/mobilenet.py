"""Networks for phones: 1x1 convolutions widen and narrow, between them each channel is on its own.

A network is a tuple of Cell, in the order in which an image goes through them.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .training import Training, images, labels


@dataclass(frozen=True)
class Cell:
    """What is different from one bottleneck to the next."""

    out: int
    widening: int = 3
    size: int = 3
    step: int = 1
    gated: bool = False
    curve: type[nn.Module] = nn.ReLU6


class Filtered(nn.Module):
    """Convolution, statistics of the batch, curve; apart says that channels are not mixed."""

    def __init__(self, before: int, after: int, size: int, step: int = 1, apart: bool = False,
                 curve: type[nn.Module] | None = None, **statistics: float) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(before, after, size, stride=step, padding=size // 2, bias=False,
                               groups=before if apart else 1)
        self.level = nn.BatchNorm2d(after, **statistics)
        self.bend = nn.Identity() if curve is None else curve(inplace=True)
        nn.init.kaiming_normal_(self.weigh.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        return self.bend(self.level(self.weigh(image)))


class Gate(nn.Module):
    """A factor from 0 to 1 for each channel, found from the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        few = max(4, channels // 4)
        self.decide = nn.Sequential(nn.Linear(channels, few), nn.ReLU(inplace=True),
                                    nn.Linear(few, channels), nn.Hardsigmoid(inplace=True))

    def forward(self, image: Tensor) -> Tensor:
        return image * self.decide(image.mean((-2, -1)))[..., None, None]


class Bottleneck(nn.Module):
    def __init__(self, before: int, cell: Cell, **statistics: float) -> None:
        super().__init__()
        wide = before * cell.widening
        self.keeps_shape = (before, 1) == (cell.out, cell.step)
        self.way = nn.ModuleDict()
        if wide > before:
            self.way["widen"] = Filtered(before, wide, 1, curve=cell.curve, **statistics)
        self.way["look"] = Filtered(wide, wide, cell.size, cell.step, True, cell.curve,
                                    **statistics)
        if cell.gated:
            self.way["gate"] = Gate(wide)
        self.way["narrow"] = Filtered(wide, cell.out, 1, **statistics)

    def forward(self, image: Tensor) -> Tensor:
        found = image
        for part in self.way.values():
            found = part(found)
        return torch.add(found, image) if self.keeps_shape else found


class PhoneNet(nn.Module):
    """The mean of what the last cell found in an image, and an answer from it."""

    def __init__(self, cells: tuple[Cell, ...], answer: nn.Module, curve: type[nn.Module],
                 **statistics: float) -> None:
        super().__init__()
        widths = [4, *(cell.out for cell in cells)]
        self.entry = Filtered(3, widths[0], 3, 2, curve=curve, **statistics)
        self.cells = nn.ModuleList(Bottleneck(before, cell, **statistics)
                                   for before, cell in zip(widths, cells))
        self.pool = nn.AdaptiveAvgPool2d((1, None))
        self.answer = answer

    def forward(self, image: Tensor) -> Tensor:
        found = self.entry(image)
        for cell in self.cells:
            found = cell(found)
        return self.answer(self.pool(found).squeeze(2).mean(-1))


def mobilenet_v2(device: str) -> Training:
    """The same curve everywhere, linear where it is narrow."""
    last = nn.Linear(8, 5)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    cells = Cell(4, widening=1), Cell(6, step=2), Cell(6), Cell(8)
    net = PhoneNet(cells, nn.Sequential(nn.Dropout(0.2), last), nn.ReLU6).to(device)
    y = labels(device, 4)
    optimizer = torch.optim.RMSprop(net.parameters(), lr=0.01, alpha=0.9, eps=0.1, momentum=0.9,
                                    weight_decay=4e-5)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98)
    return Training(net, [images(device)], lambda out: F.cross_entropy(out, y), optimizer, schedule)


def mobilenet_v3(device: str) -> Training:
    """Gates, larger kernels, hard curves, statistics that change slowly, classes of any weight."""
    cells = (Cell(4, widening=1, gated=True, curve=nn.ReLU),
             Cell(8, size=5, step=2, gated=True, curve=nn.Hardswish),
             Cell(8, curve=nn.Hardswish))
    answer = nn.Sequential(nn.Linear(8, 16), nn.Hardswish(inplace=True),
                           nn.Dropout(0.2, inplace=True), nn.Linear(16, 5))
    net = PhoneNet(cells, answer, nn.Hardswish, eps=1e-3, momentum=0.01).to(device)
    y, weight = labels(device, 4), torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0], device=device)
    return Training(net, [images(device)], lambda out: F.cross_entropy(out, y, weight=weight),
                    torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9))
