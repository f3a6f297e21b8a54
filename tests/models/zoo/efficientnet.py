"""EfficientNet: scaled inverted residuals with SiLU, squeeze-excite and stochastic depth."""
from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.fx
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .training import ModelEma, Training, images, labels


def stochastic_depth(x: Tensor, p: float, mode: str, training: bool = True) -> Tensor:
    """A residual branch, or whole examples of it (mode "row"), is zeroed at random."""
    if not 0.0 <= p <= 1.0 or mode not in ("batch", "row"):
        raise ValueError(f"stochastic depth with p={p}, mode={mode!r}")
    if p == 0.0 or not training:
        return x
    rows = x.shape[0] if mode == "row" else 1
    kept = torch.empty([rows] + [1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
    kept = kept.bernoulli_(1.0 - p)
    return x * (kept.div_(1.0 - p) if p < 1.0 else kept)


torch.fx.wrap("stochastic_depth")


class StochasticDepth(nn.Module):
    def __init__(self, p: float, mode: str) -> None:
        super().__init__()
        self.p = p
        self.mode = mode

    def forward(self, input: Tensor) -> Tensor:
        return stochastic_depth(input, self.p, self.mode, self.training)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(p={self.p}, mode={self.mode})"


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        s = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.expand(self.act(self.reduce(s))))


@dataclass
class MBConvConfig:
    expand_ratio: float
    kernel: int
    stride: int
    input_channels: int
    out_channels: int
    num_layers: int


class MBConv(nn.Module):
    def __init__(self, cnf: MBConvConfig, drop: float) -> None:
        super().__init__()
        self.use_res_connect = cnf.stride == 1 and cnf.input_channels == cnf.out_channels
        hidden = int(cnf.input_channels * cnf.expand_ratio)
        layers: list[nn.Module] = []
        if hidden != cnf.input_channels:
            layers += [nn.Conv2d(cnf.input_channels, hidden, 1, bias=False),
                       nn.BatchNorm2d(hidden), nn.SiLU(inplace=True)]
        layers += [nn.Conv2d(hidden, hidden, cnf.kernel, cnf.stride, cnf.kernel // 2,
                             groups=hidden, bias=False),
                   nn.BatchNorm2d(hidden), nn.SiLU(inplace=True),
                   SqueezeExcite(hidden, max(1, cnf.input_channels // 4)),
                   nn.Conv2d(hidden, cnf.out_channels, 1, bias=False),
                   nn.BatchNorm2d(cnf.out_channels)]
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(drop, "row")

    def forward(self, input: Tensor) -> Tensor:
        result = self.block(input)
        if self.use_res_connect:
            result = self.stochastic_depth(result)
            result += input
        return result


class EfficientNet(nn.Module):
    def __init__(self, settings: Sequence[MBConvConfig], num_classes: int, drop: float) -> None:
        super().__init__()
        first = settings[0].input_channels
        layers: list[nn.Module] = [nn.Sequential(
            nn.Conv2d(3, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.SiLU(True))]
        total, block_id = sum(cnf.num_layers for cnf in settings), 0
        for cnf in settings:
            stage: list[nn.Module] = []
            for _ in range(cnf.num_layers):
                block_cnf = copy.copy(cnf)
                if stage:
                    block_cnf.input_channels = block_cnf.out_channels
                    block_cnf.stride = 1
                stage.append(MBConv(block_cnf, drop * float(block_id) / total))
                block_id += 1
            layers.append(nn.Sequential(*stage))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        last = settings[-1].out_channels
        self.classifier = nn.Sequential(nn.Dropout(p=0.2, inplace=True),
                                        nn.Linear(last, num_classes))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out")
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
            elif isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)):
                nn.init.ones_(m.weight)
                nn.init.zeros_(m.bias)
            elif isinstance(m, nn.Linear):
                init_range = 1.0 / math.sqrt(m.out_features)
                nn.init.uniform_(m.weight, -init_range, init_range)
                nn.init.zeros_(m.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def decayed(averaged: Tensor, current: Tensor, num_averaged: int) -> Tensor:
    decay = min(0.9, (1 + num_averaged) / (10 + num_averaged))
    return decay * averaged + (1 - decay) * current


class Averaged(Training):
    """The averages are part of what is saved, as a submodule of net."""

    def outputs(self):
        averages = (self.net.swa, self.net.ema.module)
        return [self.net.model(*self.inputs), *(one(*self.inputs) for one in averages)]

    def loss(self) -> Tensor:
        return self.criterion(self.net.model(*self.inputs))

    def after_step(self) -> None:
        self.net.swa.update_parameters(self.net.model)
        self.net.ema.update(self.net.model)


def efficientnet(device: str) -> Training:
    settings = [MBConvConfig(1, 3, 1, 4, 4, 1), MBConvConfig(4, 3, 2, 4, 8, 2)]
    model, y = EfficientNet(settings, 5, 0.4).to(device), labels(device, 4)
    averages = {"swa": AveragedModel(model, avg_fn=decayed, use_buffers=True),
                "ema": ModelEma(model, 0.5)}
    net = nn.Module()
    net.model = model
    for name, module in averages.items():
        net.add_module(name, module)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01, alpha=0.9, eps=1e-3, momentum=0.9)
    return Averaged(net, [images(device)], lambda out: nn.functional.cross_entropy(out, y),
                    optimizer)
