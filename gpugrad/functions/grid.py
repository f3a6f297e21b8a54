"""Images and volumes read at the places of a grid; grids of affine maps."""
from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.autograd.rules import tensors as T
from gpugrad.creation import arange
from gpugrad.dtypes import int64
from gpugrad.functions.windows import not_implemented

_ALIGN = ("Default grid_sample and affine_grid behavior has changed to align_corners=False since "
          "1.3.0. Please specify align_corners=True if the old behavior is desired. See the "
          "documentation of grid_sample for details.")


def grid_sample(input: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros",
                align_corners: bool | None = None) -> Tensor:
    """input (n, c, h, w) at places (x, y) of grid (n, oh, ow, 2): (n, c, oh, ow).

    -1 and 1 are the input's edges, or the centres of its corner elements with align_corners. For
    volumes input is (n, c, d, h, w) and grid (n, od, oh, ow, 3) with (x, y, z). padding_mode says
    what is outside: "zeros", "border" (the nearest element) or "reflection".
    """
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError("nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' "
                         f"or 'bicubic', but got: '{mode}'")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError("nn.functional.grid_sample(): expected padding_mode to be 'zeros', "
                         f"'border', or 'reflection', but got: '{padding_mode}'")
    if align_corners is None:
        warnings.warn(_ALIGN, stacklevel=2)
        align_corners = False
    _check(input, grid, mode)
    n, c, *sizes = input.shape
    taps = _cubic_taps if mode == "bicubic" else _taps
    at, weight = taps(grid, sizes, mode, padding_mode, align_corners)
    return T.sample(input.reshape(n, c, math.prod(sizes)), at, weight)


def _check(x: Tensor, grid: Tensor, mode: str) -> None:
    name = "grid_sampler(): expected"
    if x.ndim not in (4, 5) or grid.ndim != x.ndim:
        raise RuntimeError(f"{name} 4D or 5D input and grid with same number of dimensions, but "
                           f"got input with sizes {list(x.shape)} and grid with sizes "
                           f"{list(grid.shape)}")
    if x.shape[0] != grid.shape[0]:
        raise RuntimeError(f"{name} grid and input to have same batch size, but got input with "
                           f"sizes {list(x.shape)} and grid with sizes {list(grid.shape)}")
    if grid.shape[-1] != x.ndim - 2:
        raise RuntimeError(f"{name} grid to have size {x.ndim - 2} in last dimension, but got "
                           f"grid with sizes {list(grid.shape)}")
    for d in range(2, x.ndim):
        if x.shape[d] == 0:
            raise RuntimeError(f"{name} input to have non-empty spatial dimensions, but input has "
                               f"sizes {list(x.shape)} with dimension {d} being empty")
    if mode == "bicubic" and x.ndim == 5:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    if x.dtype is grid.dtype and not x.is_floating_point():
        raise not_implemented("grid_sampler", x)
    if x.dtype is not grid.dtype:
        raise RuntimeError(f"grid_sampler(): expected input and grid to have the same "
                           f"floating-point dtype, but got {x.dtype} and {grid.dtype}")


# Places and weights ------------------------------------------------------------------------------


def _taps(grid: Tensor, sizes: list[int], mode: str, padding: str, align: bool) -> Any:
    """(places, weights), each (n, taps, *grid's): two neighbours along each dim, or the nearest."""
    each = []                                    # of each dim: [(index, inside, weight), ...]
    for d, size in enumerate(sizes):
        place = _padded(_place(grid, len(sizes) - 1 - d, size, align), size, padding, align)
        if mode == "nearest":
            index = place.detach().round()
            each.append([(*_index(index, size), T.fill(place, value=1.0))])
            continue
        low = place.detach().floor()
        share = place - low
        each.append([(*_index(low, size), 1 - share), (*_index(low + 1, size), share)])
    return _combined(each, sizes)


def _cubic_taps(grid: Tensor, sizes: list[int], mode: str, padding: str, align: bool) -> Any:
    """_taps for four neighbours along each dim."""
    each = []
    for d, size in enumerate(sizes):
        place = _place(grid, len(sizes) - 1 - d, size, align)
        low = place.detach().floor()
        share = place - low
        near = [_cubic_near(share), _cubic_near(1 - share)]
        weights = [_cubic_far(share + 1), *near, _cubic_far(2 - share)]
        with no_grad():
            spots = [_padded(low + k, size, padding, align) for k in range(-1, 3)]
        each.append([(*_index(s.round(), size), w) for s, w in zip(spots, weights)])
    return _combined(each, sizes)


def _cubic_near(d: Tensor) -> Tensor:
    """Keys's kernel, a = -0.75, at distance d up to 1."""
    return ((1.25 * d - 2.25) * d) * d + 1


def _cubic_far(d: Tensor) -> Tensor:
    """At a distance from 1 to 2."""
    return ((-0.75 * d + 3.75) * d - 6) * d + 3


def _combined(each: Any, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Every choice of a neighbour along each dim: its place, and the product of the weights."""
    places, weights = [], []
    for choice in itertools.product(*each):
        index, inside, weight = choice[0]
        for (i, there, w), size in zip(choice[1:], sizes[1:]):
            index, inside, weight = index * size + i, inside & there, weight * w
        places.append(index.masked_fill(~inside, -1))
        weights.append(weight)
    return T.stack(*places, dim=1), T.stack(*weights, dim=1)


def _index(place: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A whole number as an index that exists, and whether it did."""
    inside = (place >= 0) & (place <= size - 1)
    return place.masked_fill(~inside, 0).to(int64), inside


def _place(grid: Tensor, coordinate: int, size: int, align: bool) -> Tensor:
    """A coordinate from -1 to 1 as a place from 0 to size - 1, or -0.5 to size - 0.5."""
    x = grid.select(-1, coordinate)
    return (x + 1) * ((size - 1) / 2) if align else ((x + 1) * size - 1) * 0.5


def _padded(place: Tensor, size: int, padding: str, align: bool) -> Tensor:
    """A place outside moved inside, as padding says."""
    if padding == "zeros":
        return place
    if padding == "reflection":
        place = _reflected(place, *((0, 2 * (size - 1)) if align else (-1, 2 * size - 1)))
    inside = (place > 0) & (place < size - 1)                # at an edge the gradient is 0
    return T.where(inside, place, place.detach().clamp(0, size - 1))


def _reflected(place: Tensor, twice_low: int, twice_high: int) -> Tensor:
    """Mirrored at both ends until it lies between them."""
    if twice_low == twice_high:
        return place * 0
    low, span = twice_low / 2, (twice_high - twice_low) / 2
    distance = (place - low).abs()
    extra = distance.fmod(span)
    odd = (distance.detach() / span).floor().fmod(2) == 1
    return T.where(odd, span - extra, extra) + low


# Affine ------------------------------------------------------------------------------------------


def affine_grid(theta: Tensor, size: Any, align_corners: bool | None = None) -> Tensor:
    """For grid_sample the grid of affine maps theta (n, 2, 3), for an output of ``size`` (n, c, h,
    w): (n, h, w, 2). For volumes theta is (n, 3, 4) and the grid (n, d, h, w, 3).
    """
    if align_corners is None:
        warnings.warn(_ALIGN, stacklevel=2)
        align_corners = False
    if not theta.is_floating_point():
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    n = len(size) - 2
    if n not in (2, 3):
        raise NotImplementedError("affine_grid only supports 4D and 5D sizes, for 2D and 3D affine "
                                  f"transforms, respectively. Got size {size}.")
    if theta.ndim != 3 or tuple(theta.shape[1:]) != (n, n + 1):
        raise ValueError(f"Expected a batch of {n}D affine matrices of shape Nx{n}x{n + 1} for "
                         f"size {size}. Got {theta.shape}.")
    if align_corners and min(size[2:]) == 1:
        warnings.warn("Since version 1.3.0, affine_grid behavior has changed for unit-size grids "
                      "when align_corners=True. This is not an intended use case of affine_grid. "
                      "See the documentation of affine_grid for details.", stacklevel=2)
    elif min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {size}")
    base = _base(theta, tuple(size[2:]), align_corners)
    return (base @ theta.transpose(1, 2)).view(size[0], *size[2:], n)


def _base(theta: Tensor, sizes: tuple[int, ...], align: bool) -> Tensor:
    """The coordinates (x, y, ..., 1) of all elements: (elements, dims + 1)."""
    n = len(sizes)
    out = theta.new_ones((*sizes, n + 1))
    for d, size in enumerate(sizes):
        i = arange(size, device=theta.device, dtype=theta.dtype)
        line = i * (2 / (size - 1)) - 1 if align and size > 1 else \
            i * 0 if align else (i * 2 + 1) * (1 / size) - 1
        out[..., n - 1 - d] = line.view(-1, *[1] * (n - 1 - d))
    return out.view(math.prod(sizes), n + 1)


def affine_grid_generator(theta: Tensor, size: Any, align_corners: bool) -> Tensor:
    """affine_grid, under its name in the torch namespace."""
    return affine_grid(theta, size, align_corners)


def grid_sampler(input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int,
                 align_corners: bool) -> Tensor:
    """grid_sample with numbers for the modes: torch.grid_sampler."""
    return grid_sample(input, grid, ("bilinear", "nearest", "bicubic")[interpolation_mode],
                       ("zeros", "border", "reflection")[padding_mode], align_corners)
