"""MobileNets 2 and 3: inverted residuals, squeeze and excitation, hard activations."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .training import Training, images, labels


def _make_divisible(v: float, divisor: int, min_value: int | None = None) -> int:
    if min_value is None:
        min_value = divisor
    new_v = max(min_value, int(v + divisor / 2) // divisor * divisor)
    return new_v + divisor if new_v < 0.9 * v else new_v


class ConvNormActivation(nn.Sequential):
    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1,
                 groups: int = 1, norm_layer: Callable[..., nn.Module] | None = nn.BatchNorm2d,
                 activation_layer: Callable[..., nn.Module] | None = nn.ReLU) -> None:
        padding = (kernel_size - 1) // 2
        layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, kernel_size, stride,
                                             padding, groups=groups, bias=norm_layer is None)]
        if norm_layer is not None:
            layers.append(norm_layer(out_channels))
        if activation_layer is not None:
            layers.append(activation_layer(inplace=True))
        super().__init__(*layers)
        self.out_channels = out_channels


class SqueezeExcitation(nn.Module):
    def __init__(self, input_channels: int, squeeze_channels: int,
                 activation: Callable[..., nn.Module] = nn.ReLU,
                 scale_activation: Callable[..., nn.Module] = nn.Hardsigmoid) -> None:
        super().__init__()
        self.avgpool = torch.nn.AdaptiveAvgPool2d(1)
        self.fc1 = torch.nn.Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = torch.nn.Conv2d(squeeze_channels, input_channels, 1)
        self.activation, self.scale_activation = activation(), scale_activation()

    def _scale(self, input: Tensor) -> Tensor:
        scale = self.activation(self.fc1(self.avgpool(input)))
        return self.scale_activation(self.fc2(scale))

    def forward(self, input: Tensor) -> Tensor:
        return self._scale(input) * input


class InvertedResidual(nn.Module):
    def __init__(self, inp: int, oup: int, stride: int, expand_ratio: float, kernel: int = 3,
                 use_se: bool = False, activation: Callable[..., nn.Module] = nn.ReLU6,
                 norm_layer: Callable[..., nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        if stride not in [1, 2]:
            raise ValueError(f"stride should be 1 or 2 instead of {stride}")
        hidden_dim = int(round(inp * expand_ratio))
        self.use_res_connect = stride == 1 and inp == oup
        layers: list[nn.Module] = []
        if expand_ratio != 1:
            layers.append(ConvNormActivation(inp, hidden_dim, 1, norm_layer=norm_layer,
                                             activation_layer=activation))
        layers.append(ConvNormActivation(hidden_dim, hidden_dim, kernel, stride, hidden_dim,
                                         norm_layer, activation))
        if use_se:
            layers.append(SqueezeExcitation(hidden_dim, _make_divisible(hidden_dim // 4, 4)))
        layers.extend([nn.Conv2d(hidden_dim, oup, 1, 1, 0, bias=False), norm_layer(oup)])
        self.conv = nn.Sequential(*layers)
        self._is_cn = stride > 1

    def forward(self, x: Tensor) -> Tensor:
        if self.use_res_connect:
            return x + self.conv(x)
        return self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, setting: Sequence[Sequence[int]], num_classes: int, dropout: float) -> None:
        super().__init__()
        features: list[nn.Module] = [ConvNormActivation(3, 4, stride=2,
                                                        activation_layer=nn.ReLU6)]
        channels = 4
        for t, c, n, s in setting:
            for i in range(n):
                features.append(InvertedResidual(channels, c, s if i == 0 else 1, t))
                channels = c
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(p=dropout), nn.Linear(channels, num_classes))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out")
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
            elif isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)):
                nn.init.ones_(m.weight)
                nn.init.zeros_(m.bias)
            elif isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, 0, 0.01)
                nn.init.zeros_(m.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = nn.functional.adaptive_avg_pool2d(x, (1, 1))
        x = torch.flatten(x, 1)
        return self.classifier(x)


class MobileNetV3(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        norm_layer = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
        self.stem = ConvNormActivation(3, 4, stride=2, norm_layer=norm_layer,
                                       activation_layer=nn.Hardswish)
        self.blocks = nn.Sequential(
            InvertedResidual(4, 4, 1, 1, 3, True, nn.ReLU, norm_layer),
            InvertedResidual(4, 8, 2, 3, 5, True, nn.Hardswish, norm_layer),
            InvertedResidual(8, 8, 1, 3, 3, False, nn.Hardswish, norm_layer))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(8, 16), nn.Hardswish(inplace=True),
                                        nn.Dropout(p=0.2, inplace=True),
                                        nn.Linear(16, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.blocks(self.stem(x)))
        return self.classifier(torch.flatten(x, 1))


def mobilenet_v2(device: str) -> Training:
    net = MobileNetV2([[1, 4, 1, 1], [3, 6, 2, 2], [3, 8, 1, 1]], 5, 0.2).to(device)
    y = labels(device, 4)
    optimizer = torch.optim.RMSprop(net.parameters(), lr=0.01, alpha=0.9, eps=0.1, momentum=0.9,
                                    weight_decay=4e-5)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98)
    return Training(net, [images(device)], lambda out: F.cross_entropy(out, y), optimizer, schedule)


def mobilenet_v3(device: str) -> Training:
    net, y = MobileNetV3(5).to(device), labels(device, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    weight = torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0], device=device)
    return Training(net, [images(device)],
                    lambda out: F.cross_entropy(out, y, weight=weight), optimizer)
