"""DenseNet: each layer sees all before it; to save memory they are computed again backwards."""
import re
from collections import OrderedDict
from typing import Any, List, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.utils.checkpoint as cp
from torch import Tensor

from .training import Training, images, labels


class _DenseLayer(nn.Module):
    def __init__(self, c_in: int, growth: int, widening: int, p: float, frugal: bool) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, widening * growth, kernel_size=1, bias=False)
        self.norm2 = nn.BatchNorm2d(widening * growth)
        self.conv2 = nn.Conv2d(widening * growth, growth, kernel_size=3, padding=1, bias=False)
        self.act, self.p, self.frugal = nn.ReLU(inplace=True), float(p), frugal

    def narrowed(self, *maps: Tensor) -> Tensor:
        return self.conv1(self.act(self.norm1(torch.cat(maps, dim=1))))

    @torch.jit.unused
    def narrowed_again(self, maps: List[Tensor]) -> Tensor:
        return cp.checkpoint(self.narrowed, *maps, use_reentrant=False)

    @torch.jit._overload_method
    def forward(self, input: List[Tensor]) -> Tensor:
        pass

    @torch.jit._overload_method
    def forward(self, input: Tensor) -> Tensor:
        pass

    def forward(self, input: Any) -> Tensor:
        maps = [input] if isinstance(input, Tensor) else list(input)
        if self.frugal and any(m.requires_grad for m in maps) and not torch.jit.is_scripting():
            y = self.narrowed_again(maps)
        else:
            y = self.narrowed(*maps)
        y = self.conv2(self.act(self.norm2(y)))
        return F.dropout(y, p=self.p, training=self.training) if self.p > 0 else y


class _DenseBlock(nn.ModuleDict):
    _version = 2

    def __init__(self, depth: int, c_in: int, growth: int, *args: Any) -> None:
        super().__init__()
        for i in range(depth):
            self.add_module("denselayer%d" % (i + 1), _DenseLayer(c_in + i * growth, growth, *args))

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for _, layer in self.items():
            maps.append(layer(maps))
        return torch.cat(maps, 1)


class _Transition(nn.Sequential):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm, self.act = nn.BatchNorm2d(c_in), nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.pool = nn.AvgPool2d(2, 2)


class DenseNet(nn.Module):
    def __init__(self, growth: int, depths: Tuple[int, ...], width: int, widening: int = 4,
                 p: float = 0, num_classes: int = 1000, frugal: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(OrderedDict(
            conv0=nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False),
            norm0=nn.BatchNorm2d(width), relu0=nn.ReLU(inplace=True),
            pool0=nn.MaxPool2d(kernel_size=3, stride=2, padding=1)))
        for i, depth in enumerate(depths, 1):
            self.features.add_module(f"denseblock{i}", _DenseBlock(depth, width, growth, widening,
                                                                   p, frugal))
            width += depth * growth
            if i < len(depths):
                self.features.add_module(f"transition{i}", _Transition(width, width // 2))
                width //= 2
        self.features.add_module("norm", nn.BatchNorm2d(width))
        self.classifier = nn.Linear(width, num_classes)
        for name, p in self.named_parameters():
            if p.dim() == 4:
                nn.init.kaiming_normal_(p)
            elif name == "classifier.bias":
                nn.init.constant_(p, 0)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.features(x), inplace=True)
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


def load_older_names(model: nn.Module, state_dict: "OrderedDict[str, Tensor]") -> None:
    """Older files call "denselayer1.norm.1.weight" what is "denselayer1.norm1.weight" here."""
    dotted = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")
    for key in list(state_dict):
        state_dict[dotted.sub(r"\1\2.", key)] = state_dict.pop(key)
    model.load_state_dict(state_dict)


def densenet(device: str, memory_efficient: bool = False) -> Training:
    net = DenseNet(2, (2, 2), 4, widening=2, p=0.1, num_classes=5, frugal=memory_efficient)
    older = OrderedDict((re.sub(r"(denselayer\d\.\w{4})(\d)", r"\1.\2", k), v.clone())
                        for k, v in net.state_dict().items())
    load_older_names(net, older)
    net, y = net.to(device), labels(device, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    return Training(net, [images(device, 4, 32)], lambda out: F.cross_entropy(out, y), optimizer)


def densenet_memory_efficient(device: str) -> Training:
    return densenet(device, memory_efficient=True)
