"""Windows of images as columns and back; pixels and channels rearranged."""
from __future__ import annotations

import math
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend.columns import out_size
from gpugrad.functions.windows import numbers
from gpugrad.layouts import is_last


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0,
           stride: Any = 1) -> Tensor:
    """(n, c, h, w) to columns (n, c * kh * kw, windows): every window's elements."""
    kernel, stride, padding, dilation = _arguments(kernel_size, stride, padding, dilation)
    if input.ndim == 3:
        return unfold(input.unsqueeze(0), kernel, dilation, padding, stride).squeeze(0)
    if input.ndim != 4 or 0 in input.shape[1:]:
        raise RuntimeError("Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and "
                           f"other non-zero dimensions for input, but got: {list(input.shape)}")
    count = _count(input.shape[2:], kernel, stride, padding, dilation)
    if min(count) < 1:
        raise RuntimeError(f"Given input with spatial size {tuple(input.shape[2:])}, kernel_size="
                           f"{kernel}, dilation={dilation}, padding={padding}, calculated shape of "
                           f"the array of sliding blocks as {count}, but its components must be at "
                           "least one.")
    return T.im2col(input, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


def fold(input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0,
         stride: Any = 1) -> Tensor:
    """unfold's transpose: columns added up where they were read, in images of output_size."""
    size = numbers("output_size", output_size, 2)
    kernel, stride, padding, dilation = _arguments(kernel_size, stride, padding, dilation)
    if input.ndim == 2:
        return fold(input.unsqueeze(0), size, kernel, dilation, padding, stride).squeeze(0)
    if input.ndim != 3 or 0 in input.shape[1:]:
        raise RuntimeError("Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch "
                           f"size and non-zero dimensions for input, but got: {list(input.shape)}")
    n, rows, columns = input.shape
    if rows % math.prod(kernel):
        raise RuntimeError("Expected size of input's dimension 1 to be divisible by the product of "
                           f"kernel_size, but got input.size(1)={rows} and kernel_size={kernel}.")
    count = _count(size, kernel, stride, padding, dilation)
    if min(count) < 1 or math.prod(count) != columns:
        raise RuntimeError(f"Given output_size={size}, kernel_size={kernel}, dilation={dilation}, "
                           f"padding={padding}, stride={stride}, expected size of input's "
                           "dimension 2 to match the calculated number of sliding blocks "
                           f"{count[0]} * {count[1]} = {math.prod(count)}, but got input.size(2)="
                           f"{columns}.")
    return T.col2im(input, shape=(n, rows // math.prod(kernel), *size), kernel=kernel,
                    stride=stride, padding=padding, dilation=dilation)


def _arguments(kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    found = [numbers(name, v, 2) for name, v in (("kernel_size", kernel), ("stride", stride),
                                                 ("padding", padding), ("dilation", dilation))]
    for name, v, least in zip(("kernel size", "stride", "padding", "dilation"), found,
                              (1, 1, 0, 1)):
        if min(v) < least:
            text = "greater than zero" if least else "non-negative"
            raise RuntimeError(f"{name} should be {text}, but got {v}")
    return found


def _count(size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    return tuple([out_size(*each) for each in zip(size, kernel, stride, padding, dilation)])


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., c * r * r, h, w) to (..., c, h * r, w * r): channels become pixels."""
    _check_pixels("pixel_shuffle", "upscale_factor", input, upscale_factor)
    if input.shape[-3] % upscale_factor ** 2:
        raise RuntimeError("pixel_shuffle expects its input's 'channel' dimension to be divisible "
                           f"by the square of upscale_factor, but input.size(-3)="
                           f"{input.shape[-3]} is not divisible by {upscale_factor ** 2}")
    return T.pixel_shuffle(input, factor=upscale_factor)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(..., c, h * r, w * r) to (..., c * r * r, h, w): pixels become channels."""
    _check_pixels("pixel_unshuffle", "downscale_factor", input, downscale_factor)
    for name, d in (("height", -2), ("width", -1)):
        if input.shape[d] % downscale_factor:
            raise RuntimeError(f"pixel_unshuffle expects {name} to be divisible by "
                               f"downscale_factor, but input.size({d})={input.shape[d]} is not "
                               f"divisible by {downscale_factor}")
    return T.pixel_unshuffle(input, factor=downscale_factor)


def _check_pixels(op: str, name: str, x: Tensor, factor: int) -> None:
    if x.ndim < 3:
        raise RuntimeError(f"{op} expects input to have at least 3 dimensions, but got input with "
                           f"{x.ndim} dimension(s)")
    if factor <= 0:
        raise RuntimeError(f"{op} expects a positive {name}, but got {factor}")


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channels (dim 1) in groups: the first of each, then the second of each, and so on."""
    if input.ndim < 3:
        raise RuntimeError("channel_shuffle expects input with > 2 dims, but got input with sizes "
                           f"{list(input.shape)}")
    if groups <= 0:
        raise RuntimeError("Number of groups to divide channels in must be positive. Value of "
                           f"groups:{groups}")
    n, c, *rest = input.shape
    if c % groups:
        raise RuntimeError(f"Number of channels must be divisible by groups. Got {c} channels and "
                           f"{groups} groups.")
    if len(rest) == 2 and is_last(input._a):
        pixels = input.movedim(1, -1).reshape(n, *rest, groups, c // groups)
        return pixels.transpose(-1, -2).reshape(n, *rest, c).movedim(-1, 1)
    parts = input.reshape(n, groups, c // groups, *rest).transpose(1, 2)
    return parts.reshape(n, c, *rest)


native_channel_shuffle = channel_shuffle
