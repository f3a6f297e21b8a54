"""The weights of convolutions laid out in another memory format, throughout a model."""
from __future__ import annotations

from typing import Any

from gpugrad.nn.modules.conv import Conv2d, Conv3d, ConvTranspose2d, ConvTranspose3d
from gpugrad.nn.modules.module import Module


def convert_conv2d_weight_memory_format(module: Module, memory_format: Any) -> Module:
    """Lay out the weights of all Conv2d and ConvTranspose2d in ``memory_format``."""
    return _convert(module, memory_format, Conv2d | ConvTranspose2d)


def convert_conv3d_weight_memory_format(module: Module, memory_format: Any) -> Module:
    """Lay out the weights of all Conv3d and ConvTranspose3d in ``memory_format``."""
    return _convert(module, memory_format, Conv3d | ConvTranspose3d)


def _convert(module: Module, memory_format: Any, kinds: Any) -> Module:
    for layer in module.modules():
        if isinstance(layer, kinds):
            layer.weight.data = layer.weight.detach().clone(memory_format=memory_format)
    return module
