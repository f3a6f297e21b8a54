"""Networks for pictures, by torchvision's names: its ResNets and VGGs, with their state_dicts."""
from __future__ import annotations

from typing import Any

from gpugrad.vision.models import resnet as resnet
from gpugrad.vision.models import vgg as vgg
from gpugrad.vision.models.resnet import *  # noqa: F403
from gpugrad.vision.models.vgg import *  # noqa: F403
from gpugrad.vision.models.weights import Weights as WeightsEnum
from gpugrad.vision.models.weights import makers


def list_models() -> list[str]:
    """The names of the networks that there are."""
    return sorted(makers)


def get_model(name: str, **config: Any) -> Any:
    """A network by its name, made with these arguments."""
    if name.lower() not in makers:
        raise ValueError(f"Unknown model {name}")
    return makers[name.lower()](**config)


def get_weight(name: str) -> WeightsEnum:
    """Weights by their name, such as "ResNet50_Weights.DEFAULT"."""
    kind, _, member = name.partition(".")
    found = globals().get(kind)
    if not (isinstance(found, type) and issubclass(found, WeightsEnum)) or \
            member not in found.__members__:
        raise ValueError(f"Unable to find weights {name}")
    return found[member]
