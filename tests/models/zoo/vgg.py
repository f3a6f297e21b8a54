"""VGG: a network from a list of widths, with and without batch normalisation."""
from typing import Dict, List, Union, cast

import torch
import torch.nn as nn
import torch.nn.functional as F

from .training import Training, images, labels

Plan = List[Union[str, int]]
plans: Dict[str, Plan] = {"A": [4, "M", 8, "M", 8, 12, "M"], "B": [4, 4, "M", 8, 8, "M"]}


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
            elif isinstance(m, nn.BatchNorm2d):
                m.weight.data.fill_(1)
            elif isinstance(m, nn.Linear):
                m.weight.data.normal_(0, 0.1)
            if getattr(m, "bias", None) is not None:
                m.bias.data.zero_()


def make_layers(plan: Plan, norm: bool = False) -> nn.Sequential:
    """A convolution of each width, and where the plan says "M" half the size."""
    made, last = nn.Sequential(), 3
    for i, width in enumerate(plan):
        if width == "M":
            made.add_module(f"pool{i}", nn.MaxPool2d(2))
            continue
        made.append(nn.Conv2d(last, cast(int, width), 3, padding=1))
        if norm:
            made.append(nn.BatchNorm2d(width))
        made.append(nn.ReLU(inplace=True))
        last = width
    made.out_channels = last
    return made


def vgg(device: str) -> Training:
    net = VGG(make_layers(plans["A"]), num_classes=5).to(device)
    y = labels(device, 4)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1)
    return Training(net, [images(device)], lambda out: F.cross_entropy(out, y), optimizer, schedule)


def vgg_bn(device: str) -> Training:
    """The features are frozen but for their norms, and the head learns faster."""
    net = VGG(make_layers(plans["B"], norm=True), num_classes=5, dropout=0.2).to(device)
    for m in net.features:
        if isinstance(m, nn.Conv2d):
            m.requires_grad_(False)
    features = [p for p in net.features.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam([{"params": features},
                                  {"params": net.classifier.parameters(), "lr": 1e-2}], lr=1e-3)
    y = labels(device, 4)
    return Training(net, [images(device)],
                    lambda out: F.nll_loss(F.log_softmax(out, dim=1), y), optimizer)
