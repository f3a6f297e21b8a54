"""Residual networks: basic and bottleneck blocks, groups, dilation instead of stride."""
from functools import partial
from typing import Any, Callable, List, Optional, Sequence, Type, Union

import torch
import torch.nn as nn
from torch import Tensor
from torch.optim.lr_scheduler import LinearLR, MultiStepLR, SequentialLR

from .training import Training, images, labels, without_decay

__all__ = ["ResNet", "resnet_basic", "resnet_bottleneck"]

Norm = Callable[..., nn.Module]


def conv(c_in: int, c_out: int, size: int, stride: int = 1, groups: int = 1,
         dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel_size=size, stride=stride, dilation=dilation,
                     padding=dilation * (size - 1) // 2, groups=groups, bias=False)


class Shortcut(nn.Sequential):
    """What stands beside a block that changes the shape."""

    def __init__(self, c_in: int, c_out: int, stride: int, norm: Norm) -> None:
        super().__init__(conv(c_in, c_out, 1, stride), norm(c_out))


class BasicBlock(nn.Module):
    expansion: int = 1

    def __init__(self, c_in: int, width: int, stride: int = 1, shortcut: Optional[nn.Module] = None,
                 groups: int = 1, dilation: int = 1, norm: Optional[Norm] = None) -> None:
        super(BasicBlock, self).__init__()
        if groups > 1 or dilation > 1:
            raise ValueError("a basic block has no groups and is not dilated")
        norm = norm or nn.BatchNorm2d
        self.conv1, self.bn1 = conv(c_in, width, 3, stride), norm(width)
        self.act = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv(width, width, 3), norm(width)
        self.shortcut = shortcut

    @property
    def last_norm(self) -> nn.Module:
        return self.bn2

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.shortcut is None else self.shortcut(x)
        return self.act(y)


class Bottleneck(nn.Module):
    expansion: int = 4

    def __init__(self, c_in: int, width: int, stride: int = 1, shortcut: Optional[nn.Module] = None,
                 groups: int = 1, dilation: int = 1, norm: Optional[Norm] = None) -> None:
        super(Bottleneck, self).__init__()
        norm = norm or nn.BatchNorm2d
        inner = width * groups // max(1, groups // 2)
        self.reduce = nn.Sequential(conv(c_in, inner, 1), norm(inner), nn.ReLU(inplace=True))
        self.spread = nn.Sequential(conv(inner, inner, 3, stride, groups, dilation), norm(inner),
                                    nn.ReLU(inplace=True))
        self.expand = nn.Sequential(conv(inner, width * self.expansion, 1),
                                    norm(width * self.expansion))
        self.act, self.shortcut = nn.ReLU(inplace=True), shortcut

    @property
    def last_norm(self) -> nn.Module:
        return self.expand[-1]

    def forward(self, x: Tensor) -> Tensor:
        aside = x if self.shortcut is None else self.shortcut(x)
        return self.act(self.expand(self.spread(self.reduce(x))) + aside)


class ResNet(nn.Module):
    """dilated: for each stage but the first, dilation in place of its stride."""

    def __init__(self, block: Type[Union[BasicBlock, Bottleneck]], depths: List[int],
                 num_classes: int = 1000, width: int = 64, groups: int = 1,
                 dilated: Sequence[bool] = (False, False), quiet: bool = False,
                 norm: Optional[Norm] = None) -> None:
        super().__init__()
        torch._C._log_api_usage_once("zoo.resnet." + type(self).__name__)
        self.norm = norm if norm is not None else nn.BatchNorm2d
        self.channels, self.dilation, self.groups = width, 1, groups
        self.stem = nn.Sequential(nn.Conv2d(3, width, 7, 2, 3, bias=False), self.norm(width),
                                  nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, padding=1))
        for i, (depth, instead) in enumerate(zip(depths, (False, *dilated))):
            self.add_module(f"layer{i + 1}", self.stage(block, width << i, depth,
                                                        1 if i == 0 else 2, instead))
        self.stages = len(depths)
        self.pool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(self.channels, num_classes)
        self.reset_parameters(quiet)

    def stage(self, block: Any, width: int, depth: int, stride: int,
              instead: bool) -> nn.Sequential:
        before = self.dilation
        if instead:
            stride, self.dilation = 1, self.dilation * stride
        blocks: List[nn.Module] = []
        for i in range(depth):
            aside, s = None, stride if i == 0 else 1
            if s != 1 or self.channels != width * block.expansion:
                aside = Shortcut(self.channels, width * block.expansion, s, self.norm)
            blocks.append(block(self.channels, width, s, aside, self.groups,
                                before if i == 0 else self.dilation, self.norm))
            self.channels = width * block.expansion
        return nn.Sequential(*blocks)

    def reset_parameters(self, quiet: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
                nn.init.ones_(module.weight)
                nn.init.constant_(module.bias, 0)
            if quiet and isinstance(module, (BasicBlock, Bottleneck)):
                nn.init.zeros_(module.last_norm.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(torch.flatten(self.pool(x), start_dim=1))


def resnet_basic(device: str) -> Training:
    net = ResNet(BasicBlock, [1, 2, 1], 5, width=4, quiet=True).to(device)
    y = labels(device, 6)
    optimizer = torch.optim.SGD(without_decay(net, 1e-2), lr=0.05, momentum=0.9, nesterov=True)
    schedule = SequentialLR(optimizer, [LinearLR(optimizer, start_factor=0.5, total_iters=2),
                                        MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5)],
                            milestones=[2])
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    return Training(net, [images(device, 6, 32)], lambda out: criterion(out, y), optimizer,
                    schedule)


def resnet_bottleneck(device: str) -> Training:
    net = ResNet(Bottleneck, [1, 1, 1], 5, width=4, groups=2, dilated=[False, True],
                 norm=partial(nn.BatchNorm2d, eps=1e-4, momentum=0.01))
    net = net.to(device, memory_format=torch.channels_last)
    x = images(device, 4, 32).contiguous(memory_format=torch.channels_last)
    y = labels(device, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    criterion = nn.CrossEntropyLoss()
    return Training(net, [x], lambda out: criterion(out, y), optimizer)
