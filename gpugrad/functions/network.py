"""Which functions of networks the torch namespace has, under which name."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.functions import (
    activation,
    convolution,
    grid,
    images,
    noise,
    padding,
    pairs,
    pooling,
)


def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """nn.functional.celu, which can't be in place here."""
    return activation.celu(input, alpha)


def selu(input: Tensor) -> Tensor:
    """nn.functional.selu, which can't be in place here."""
    return activation.selu(input)


def threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    """nn.functional.threshold, which can't be in place here."""
    return activation.threshold(input, threshold, value)


def rrelu(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3,
          training: bool = False) -> Tensor:
    """nn.functional.rrelu, which can't be in place here."""
    return noise.rrelu(input, lower, upper, training)


TORCH: dict[str, Any] = {
    name: getattr(module, name) for module, names in (
        (activation, "celu_ relu_ selu_ threshold_ hardshrink prelu"), (noise, "rrelu_"),
        (convolution, "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d "
                      "conv_tbc"),
        (grid, "affine_grid_generator grid_sampler"), (padding, "constant_pad_nd"),
        (images, "channel_shuffle native_channel_shuffle pixel_shuffle pixel_unshuffle"),
        (pairs, "bilinear cosine_similarity pairwise_distance pdist"),
        (pooling, "max_pool1d max_pool2d max_pool3d max_pool1d_with_indices avg_pool1d "
                  "adaptive_avg_pool1d"),
    ) for name in names.split()}
TORCH.update({f.__name__: f for f in (celu, selu, threshold, rrelu)})
TORCH["adaptive_max_pool1d"] = pooling.adaptive_max_pool1d_with_indices
METHODS: dict[str, Any] = {"prelu": activation.prelu, "hardshrink": activation.hardshrink}
