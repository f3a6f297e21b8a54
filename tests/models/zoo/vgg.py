"""VGG: a network from a list of widths, with and without batch normalisation."""
# ruff: noqa: UP
from typing import Dict, List, Union, cast

import torch
import torch.nn as nn
import torch.nn.functional as F

from .training import Training, images, labels

cfgs: Dict[str, List[Union[str, int]]] = {"A": [4, "M", 8, "M", 8, 12, "M"],
                                          "B": [4, 4, "M", 8, 8, "M"]}


class VGG(nn.Module):
    def __init__(self, features: nn.Module, num_classes: int = 1000, init_weights: bool = True,
                 dropout: float = 0.5) -> None:
        super(VGG, self).__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d((3, 3))
        self.classifier = nn.Sequential(
            nn.Linear(features.out_channels * 3 * 3, 32), nn.ReLU(True), nn.Dropout(p=dropout),
            nn.Linear(32, 32), nn.ReLU(True), nn.Dropout(p=dropout), nn.Linear(32, num_classes))
        if init_weights:
            self._initialize_weights()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        x = self.avgpool(x)
        x = x.view(x.size(0), -1)
        return self.classifier(x)

    def _initialize_weights(self) -> None:
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                if m.bias is not None:
                    nn.init.constant_(m.bias, 0)
            elif isinstance(m, nn.BatchNorm2d):
                m.weight.data.fill_(1)
                m.bias.data.zero_()
            elif isinstance(m, nn.Linear):
                m.weight.data.normal_(0, 0.1)
                m.bias.data.zero_()


def make_layers(cfg: List[Union[str, int]], batch_norm: bool = False) -> nn.Sequential:
    layers: List[nn.Module] = []
    in_channels = 3
    for v in cfg:
        if v == "M":
            layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
        else:
            v = cast(int, v)
            conv2d = nn.Conv2d(in_channels, v, kernel_size=3, padding=1)
            if batch_norm:
                layers += [conv2d, nn.BatchNorm2d(v), nn.ReLU(inplace=True)]
            else:
                layers += [conv2d, nn.ReLU(inplace=True)]
            in_channels = v
    features = nn.Sequential(*layers)
    features.out_channels = in_channels
    return features


def vgg(device: str) -> Training:
    net = VGG(make_layers(cfgs["A"]), num_classes=5).to(device)
    y = labels(device, 4)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1)
    return Training(net, [images(device)], lambda out: F.cross_entropy(out, y), optimizer, schedule)


def vgg_bn(device: str) -> Training:
    """The features are frozen but for their norms, and the head learns faster."""
    net = VGG(make_layers(cfgs["B"], batch_norm=True), num_classes=5, dropout=0.2).to(device)
    for m in net.features:
        if isinstance(m, nn.Conv2d):
            m.requires_grad_(False)
    features = [p for p in net.features.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam([{"params": features},
                                  {"params": net.classifier.parameters(), "lr": 1e-2}], lr=1e-3)
    y = labels(device, 4)
    return Training(net, [images(device)],
                    lambda out: F.nll_loss(F.log_softmax(out, dim=1), y), optimizer)
