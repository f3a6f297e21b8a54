"""Launching the CUDA kernels that reduce everything but the channel: host side of channels.cuh."""
from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from gpugrad.backend.kernels import acc
from gpugrad.dtypes import wide
from gpugrad.layouts import as_images, as_pixels

# struct Channels of channels.cuh.
CHANNELS = np.dtype([(f, np.int64) for f in ("n", "c", "size", "part")]
                    + [(f, np.int32) for f in ("tile", "parts")])
THREADS = 256                       # of a block, as channels.cuh has it
TILE = 32                           # channels of a block where images are smaller than that
BLOCKS = 1024                       # wanted at least, if each has enough to do: they fill a GPU


class Plan(NamedTuple):
    """How kernels go over (n, c, size): the struct, tiles of channels, parts of each channel."""

    struct: Any
    tiles: int
    parts: int


@functools.lru_cache(1024)
def plan(n: int, c: int, size: int, parts: int | None = None) -> Plan:
    """How to reduce (n, c, size) to c; ``parts`` prescribes into how many parts a channel goes.

    The numbers depend on the shape alone, so the same sums are made in the same order everywhere.
    """
    tile = 1 if size >= TILE else TILE
    tiles, positions = -(-c // tile), n * size
    if parts is None:
        least = THREADS * 8 if tile == 1 else THREADS * 2      # positions that are worth a block
        most = BLOCKS if tile == 1 else BLOCKS // 4
        parts = max(1, min(BLOCKS // max(tiles, 1), positions // least, most))
    part = max(1, -(-positions // max(parts, 1)))
    if parts:
        parts = max(1, -(-positions // part))
    return Plan(np.array((n, c, size, part, tile, parts), CHANNELS), tiles, parts)


def launch(be: Any, file: str, name: str, dtype: Any, at: Plan, args: Any, whole: bool = False,
           ) -> None:
    """Run a kernel over tiles and parts; whole: over tiles, each with all the parts' results."""
    be.kernels.launch(file, name, (at.tiles, 1 if whole else max(at.parts, 1)), (THREADS,),
                      tuple(args), dtype)


def layout(shape: Any, dim: Any) -> tuple[int, int, int] | None:
    """(n, c, size) of an array of which the dims ``dim`` are reduced (None: all), or None.

    There is one if the dims that stay are neighbours. Dims of size 1 count as either.
    """
    first: list[int] = [1, 1, 1]
    at = 0
    for d, size in enumerate(shape):
        if size == 1:
            continue
        stays = dim is not None and d not in dim
        if stays != (at == 1):                  # on to the next of: reduced, staying, reduced
            at += 1
            if at == 3:
                return None
        first[at] *= size
    n, c, size = first
    return (1, 1, n) if c == 1 else (n, c, size)


def as_rows(be: Any, a: Any) -> Any:
    """(n, c, ...) as (n * ..., c): a view if it is channels_last."""
    return be._dense(as_pixels(a)).reshape(-1, a.shape[1])


def of_rows(a: Any, shape: Any) -> Any:
    """as_rows' inverse: images of ``shape`` that are channels_last."""
    return as_images(a.reshape(shape[0], *shape[2:], shape[1]))


def channel_sum(be: Any, x: Any, n: int, c: int, size: int, scale: float = 1.0) -> Any:
    """scale times the sums of the channels of x, an array of (n, c, size) elements: (c,)."""
    at, dtype = plan(n, c, size), x.dtype
    y, parts = be.empty((c,), dtype), be.empty((at.parts, c), wide(dtype))
    launch(be, "reduction", "channel_sum", dtype, at,
           (be._dense(x), parts, y, at.struct, acc(scale, dtype)))
    if at.parts > 1:
        launch(be, "reduction", "channel_sum_of_parts", dtype, at,
               (parts, y, at.struct, acc(scale, dtype)), whole=True)
    return y


def channel_moments(be: Any, x: Any, at: Plan) -> tuple[Any, Any]:
    """Mean and squared distances from it of each part of each channel of x: (parts, c) both."""
    shape, dtype = (at.parts, int(at.struct["c"])), wide(x.dtype)
    means, squares = be.empty(shape, dtype), be.empty(shape, dtype)
    launch(be, "reduction", "channel_moments", x.dtype, at, (x, means, squares, at.struct))
    return means, squares
