"""Fractional max pooling: maxima of windows that begin at places drawn at random.

Benjamin Graham, "Fractional Max-Pooling", 2014. A plane draws one number for each of its dims; the
windows of a dim begin at steps of a fractional size, counted from that number.
"""
from __future__ import annotations

import math
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.creation import arange
from gpugrad.functions.indexing import gather
from gpugrad.functions.shape import cat
from gpugrad.functions.windows import by, check_floating, numbers
from gpugrad.sampling import rand


def fractional_max_pool2d(input: Tensor, kernel_size: Any, output_size: Any = None,
                          output_ratio: Any = None, return_indices: bool = False,
                          _random_samples: Tensor | None = None) -> Any:
    """The maxima of output_size windows of (n, c, h, w), which begin at random places.

    output_ratio: the output's size as a part of the input's, instead. _random_samples (n, c, 2),
    from 0 to 1: what is drawn otherwise. With return_indices also where each maximum was.
    """
    out = _pooled("fractional_max_pool2d", 2, input, kernel_size, output_size, output_ratio,
                  _random_samples)
    return out if return_indices else out[0]


def fractional_max_pool3d(input: Tensor, kernel_size: Any, output_size: Any = None,
                          output_ratio: Any = None, return_indices: bool = False,
                          _random_samples: Tensor | None = None) -> Any:
    """fractional_max_pool2d for (n, c, d, h, w), with _random_samples (n, c, 3)."""
    out = _pooled("fractional_max_pool3d", 3, input, kernel_size, output_size, output_ratio,
                  _random_samples)
    return out if return_indices else out[0]


def fractional_max_pool2d_with_indices(input: Tensor, kernel_size: Any, output_size: Any = None,
                                       output_ratio: Any = None, return_indices: bool = False,
                                       _random_samples: Tensor | None = None) -> Any:
    """fractional_max_pool2d with return_indices, whatever that says."""
    return fractional_max_pool2d(input, kernel_size, output_size, output_ratio, True,
                                 _random_samples)


def fractional_max_pool3d_with_indices(input: Tensor, kernel_size: Any, output_size: Any = None,
                                       output_ratio: Any = None, return_indices: bool = False,
                                       _random_samples: Tensor | None = None) -> Any:
    """fractional_max_pool3d with return_indices, whatever that says."""
    return fractional_max_pool3d(input, kernel_size, output_size, output_ratio, True,
                                 _random_samples)


def _pooled(name: str, n: int, x: Tensor, kernel: Any, output_size: Any, ratio: Any,
            samples: Tensor | None) -> tuple[Tensor, Tensor]:
    if output_size is None and ratio is None:
        raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"{name}(): Expected {n + 1}D or {n + 2}D tensor, but got: "
                           f"{list(x.shape)}")
    check_floating(name, x)
    if 0 in x.shape[-n - 1:]:
        raise RuntimeError(f"{name}(): Expected input to have non-zero size for non-batch "
                           f"dimensions, but got: {list(x.shape)}")
    kernel, have = numbers("kernel_size", kernel, n), tuple(x.shape[-n:])
    if output_size is None:
        ratios = ratio if isinstance(ratio, tuple | list) else (ratio,) * n
        size = tuple([int(s * r) for s, r in zip(have, ratios)])
    else:
        size = numbers("output_size", output_size, n)
    for i, k, o in zip(have, kernel, size):
        if o < 1 or o + k - 1 > i:
            raise RuntimeError(f"{name}(): windows of {by(kernel)} don't fit an input of "
                               f"{by(have)} {by(size)} times: each size of the output may be at "
                               "most that of the input - kernel + 1")
    planes = (1 if x.ndim == n + 1 else x.shape[0], x.shape[-n - 1])
    if samples is None:
        samples = rand(*planes, n, dtype=x.dtype, device=x.device)
    if tuple(samples.shape) != (*planes, n):
        raise RuntimeError(f"{name}(): Expect _random_samples of shape {[*planes, n]}, but got "
                           f"{list(samples.shape)}")
    if samples.dtype is not x.dtype:
        raise RuntimeError(f"{name}(): Expect _random_samples to have the same dtype as input, but "
                           f"got {samples.dtype} and {x.dtype}")
    places = _places(n, samples, have, kernel, size)
    flat = x.reshape(*planes, -1)
    best = gather(flat.detach(), 2, places.reshape(*planes, -1)).reshape(places.shape).argmax(-1)
    at = gather(places, 3, best.unsqueeze(-1)).squeeze(-1)
    shape = (*x.shape[:-n], *size)
    return gather(flat, 2, at).reshape(shape), at.reshape(shape)


def _places(n: int, samples: Tensor, have: Any, kernel: Any, size: Any) -> Tensor:
    """(n, c, windows, window's elements): each element's place in its plane."""
    # with two dims the first number is the width's, with three the depth's
    which = (1, 0) if n == 2 else (0, 1, 2)
    at: Any = 0
    for d in range(n):
        begins = _begins(samples.select(-1, which[d]), have[d], kernel[d], size[d])
        taps = begins.unsqueeze(-1) + arange(kernel[d], device=samples.device)
        lengths = [1] * (2 * n)
        lengths[d], lengths[n + d] = size[d], kernel[d]
        at = at * have[d] + taps.view(*samples.shape[:2], *lengths)
    return at.view(*samples.shape[:2], math.prod(size), math.prod(kernel))


def _begins(sample: Tensor, have: int, kernel: int, size: int) -> Tensor:
    """Where the windows of one dim begin: (n, c, size). The last one ends with the input."""
    last = sample.new_full((*sample.shape, 1), have - kernel).long()
    if size == 1:
        return last
    step, sample = (have - kernel) / (size - 1), sample.unsqueeze(-1)
    i = arange(size - 1, dtype=sample.dtype, device=sample.device)
    begins = ((i + sample) * step).long() - (sample * step).long()
    return cat((begins, last), -1)
