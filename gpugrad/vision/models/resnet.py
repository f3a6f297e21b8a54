"""Residual networks (arXiv:1512.03385), with the stride in a bottleneck's 3x3 convolution; ResNeXt
(arXiv:1611.05431) and wide ones (arXiv:1605.07146)."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gpugrad import Tensor, flatten, nn
from gpugrad.vision.models.weights import network

Norm = Callable[..., nn.Module]


def conv3x3(c_in: int, c_out: int, stride: int = 1, groups: int = 1,
            dilation: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias, padded to keep the size."""
    return nn.Conv2d(c_in, c_out, 3, stride, dilation, dilation, groups, bias=False)


def conv1x1(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias."""
    return nn.Conv2d(c_in, c_out, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside the shortcut: inplanes channels to planes."""

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int = 1,
                 downsample: nn.Module | None = None, groups: int = 1, base_width: int = 64,
                 dilation: int = 1, norm_layer: Norm | None = None) -> None:
        super().__init__()
        if groups != 1 or base_width != 64:
            raise ValueError("BasicBlock only supports groups=1 and base_width=64")
        if dilation > 1:
            raise NotImplementedError("Dilation > 1 not supported in BasicBlock")
        norm = norm_layer or nn.BatchNorm2d
        self.conv1, self.bn1 = conv3x3(inplanes, planes, stride), norm(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv3x3(planes, planes), norm(planes)
        self.downsample, self.stride = downsample, stride

    def forward(self, x: Tensor) -> Tensor:
        """(n, inplanes, h, w) to (n, planes, h / stride, w / stride)."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1, beside the shortcut: to 4 * planes channels."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1,
                 downsample: nn.Module | None = None, groups: int = 1, base_width: int = 64,
                 dilation: int = 1, norm_layer: Norm | None = None) -> None:
        super().__init__()
        norm = norm_layer or nn.BatchNorm2d
        width, out = int(planes * (base_width / 64)) * groups, planes * self.expansion
        self.conv1, self.bn1 = conv1x1(inplanes, width), norm(width)
        self.conv2, self.bn2 = conv3x3(width, width, stride, groups, dilation), norm(width)
        self.conv3, self.bn3 = conv1x1(width, out), norm(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample, self.stride = downsample, stride

    def forward(self, x: Tensor) -> Tensor:
        """(n, inplanes, h, w) to (n, 4 * planes, h / stride, w / stride)."""
        y = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet(nn.Module):
    """Pictures (n, 3, h, w) to scores (n, num_classes), by four groups of so many ``layers``."""

    def __init__(self, block: type[BasicBlock | Bottleneck], layers: Sequence[int],
                 num_classes: int = 1000, zero_init_residual: bool = False, groups: int = 1,
                 width_per_group: int = 64,
                 replace_stride_with_dilation: Sequence[bool] | None = None,
                 norm_layer: Norm | None = None) -> None:
        super().__init__()
        dilated = [False, *(replace_stride_with_dilation or [False] * 3)]
        if len(dilated) != 4:
            raise ValueError("replace_stride_with_dilation should be None or a 3-element tuple, "
                             f"got {replace_stride_with_dilation}")
        self._norm_layer = norm_layer or nn.BatchNorm2d
        self.inplanes, self.dilation, self.groups, self.base_width = 64, 1, groups, width_per_group
        self.conv1 = nn.Conv2d(3, self.inplanes, 7, 2, 3, bias=False)
        self.bn1, self.relu = self._norm_layer(self.inplanes), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for i, (n, dilate) in enumerate(zip(layers, dilated)):
            setattr(self, f"layer{i + 1}", self._make_layer(block, 64 << i, n, 1 if i == 0 else 2,
                                                            dilate))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512 * block.expansion, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)):
                nn.init.constant_(m.weight, 1)
                nn.init.constant_(m.bias, 0)
        for m in self.modules() if zero_init_residual else ():
            if isinstance(m, (BasicBlock, Bottleneck)):
                last: Any = m.bn3 if isinstance(m, Bottleneck) else m.bn2
                if last.weight is not None:
                    nn.init.constant_(last.weight, 0)

    def _make_layer(self, block: type[BasicBlock | Bottleneck], planes: int, blocks: int,
                    stride: int = 1, dilate: bool = False) -> nn.Sequential:
        norm, first, out = self._norm_layer, self.dilation, planes * block.expansion
        if dilate:
            self.dilation *= stride
            stride = 1
        shortcut = None
        if stride != 1 or self.inplanes != out:
            shortcut = nn.Sequential(conv1x1(self.inplanes, out, stride), norm(out))
        made = [block(self.inplanes, planes, stride, shortcut, self.groups, self.base_width, first,
                      norm)]
        self.inplanes = out
        made += [block(out, planes, 1, None, self.groups, self.base_width, self.dilation, norm)
                 for _ in range(1, blocks)]
        return nn.Sequential(*made)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) to (n, num_classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(flatten(self.avgpool(x), 1))


_basic, _deep = partial(ResNet, BasicBlock), partial(ResNet, Bottleneck)
_50, _101 = (3, 4, 6, 3), (3, 4, 23, 3)
resnet18, ResNet18_Weights = network(
    "resnet18", partial(_basic, (2, 2, 2, 2)), "ResNet18_Weights", "resnet18-f37072fd")
resnet34, ResNet34_Weights = network(
    "resnet34", partial(_basic, _50), "ResNet34_Weights", "resnet34-b627a593")
resnet50, ResNet50_Weights = network(
    "resnet50", partial(_deep, _50), "ResNet50_Weights", "resnet50-0676ba61", "resnet50-11ad3fa6")
resnet101, ResNet101_Weights = network(
    "resnet101", partial(_deep, _101), "ResNet101_Weights", "resnet101-63fe2227",
    "resnet101-cd907fc2")
resnet152, ResNet152_Weights = network(
    "resnet152", partial(_deep, (3, 8, 36, 3)), "ResNet152_Weights", "resnet152-394f9c45",
    "resnet152-f82ba261")
resnext50_32x4d, ResNeXt50_32X4D_Weights = network(
    "resnext50_32x4d", partial(_deep, _50, groups=32, width_per_group=4),
    "ResNeXt50_32X4D_Weights", "resnext50_32x4d-7cdf4587", "resnext50_32x4d-1a0047aa")
resnext101_32x8d, ResNeXt101_32X8D_Weights = network(
    "resnext101_32x8d", partial(_deep, _101, groups=32, width_per_group=8),
    "ResNeXt101_32X8D_Weights", "resnext101_32x8d-8ba56ff5", "resnext101_32x8d-110c445d")
wide_resnet50_2, Wide_ResNet50_2_Weights = network(
    "wide_resnet50_2", partial(_deep, _50, width_per_group=128), "Wide_ResNet50_2_Weights",
    "wide_resnet50_2-95faca4d", "wide_resnet50_2-9ba9bcbe")
wide_resnet101_2, Wide_ResNet101_2_Weights = network(
    "wide_resnet101_2", partial(_deep, _101, width_per_group=128), "Wide_ResNet101_2_Weights",
    "wide_resnet101_2-32ee1156", "wide_resnet101_2-d733dc28")
__all__ = ["ResNet", *[name for name in dir() if name.startswith(("resne", "wide"))
                       or name.endswith("_Weights")]]
