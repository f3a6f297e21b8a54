"""Deep networks of 3x3 convolutions (arXiv:1409.1556), with and without batch norm."""
from __future__ import annotations

from functools import partial
from typing import Any

from gpugrad import Tensor, flatten, nn
from gpugrad.vision.models.weights import network

# How many convolutions there are before each of five poolings, and of how many channels.
_DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDTHS = 64, 128, 256, 512, 512


class VGG(nn.Module):
    """Pictures (n, 3, h, w) to scores (n, num_classes): features, then three linear layers."""

    def __init__(self, features: nn.Module, num_classes: int = 1000, init_weights: bool = True,
                 dropout: float = 0.5) -> None:
        super().__init__()
        self.features, self.avgpool = features, nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(True), nn.Dropout(p=dropout),
            nn.Linear(4096, 4096), nn.ReLU(True), nn.Dropout(p=dropout),
            nn.Linear(4096, num_classes))
        for m in self.modules() if init_weights else ():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, nn.BatchNorm2d):
                nn.init.constant_(m.weight, 1)
            elif isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, 0, 0.01)
            else:
                continue
            if m.bias is not None:
                nn.init.constant_(m.bias, 0)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) to (n, num_classes)."""
        return self.classifier(flatten(self.avgpool(self.features(x)), 1))


def _features(depth: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    before = 3
    for n, width in zip(_DEPTHS[depth], _WIDTHS):
        for _ in range(n):
            layers.append(nn.Conv2d(before, width, 3, padding=1))
            layers += [nn.BatchNorm2d(width)] * batch_norm
            layers.append(nn.ReLU(inplace=True))
            before = width
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def _vgg(depth: int, batch_norm: bool, **kwargs: Any) -> VGG:
    return VGG(_features(depth, batch_norm), **kwargs)


def _both(depth: int, plain: str, normed: str) -> Any:
    return [network(f"vgg{depth}{suffix}", partial(_vgg, depth, bool(suffix)),
                    f"VGG{depth}{suffix.upper()}_Weights", f"vgg{depth}{suffix}-{file}")
            for suffix, file in (("", plain), ("_bn", normed))]


(vgg11, VGG11_Weights), (vgg11_bn, VGG11_BN_Weights) = _both(11, "8a719046", "6002323d")
(vgg13, VGG13_Weights), (vgg13_bn, VGG13_BN_Weights) = _both(13, "19584684", "abd245e5")
(vgg16, VGG16_Weights), (vgg16_bn, VGG16_BN_Weights) = _both(16, "397923af", "6c64b313")
(vgg19, VGG19_Weights), (vgg19_bn, VGG19_BN_Weights) = _both(19, "dcbb9e9d", "c79401a0")
__all__ = ["VGG", *[name for name in dir() if name.startswith(("vgg", "VGG1"))]]
