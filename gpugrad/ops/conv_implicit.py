"""Convolution on tensor cores without columns: host side of kernels/conv_implicit*.cu.

Float32 (as TF32), float16 and bfloat16, on devices of compute capability 8.0 and newer. The kernels
read images and weights with the channels last, in chunks of 16 bytes: what is channels_last is read
where it lies, other memory is laid out anew, a copy of x, of g and of the weights; results are
written in either order. All sums are in float32 and in one order, so results repeat.

x is (n, c, h, w), w is (c_out, c, kh, kw), g and the result of convolution are (n, c_out, oh, ow);
stride, padding and dilation are pairs (rows, columns). Results are channels_last if an argument is.
"""
from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from gpugrad.backend.columns import out_hw
from gpugrad.backend.kernels import MAX_BLOCKS, NARROW, THREADS
from gpugrad.backend.precision import convolution
from gpugrad.dtypes import HALF
from gpugrad.layouts import as_images, as_pixels, is_last

FILE, WEIGHT, LAYOUT = "conv_implicit", "conv_implicit_weight", "conv_implicit_layout"
CAPABILITY = 80                     # of the oldest device that has all instructions
CHUNK = 16                          # bytes that are copied at once
DEEP = 4                            # chunks that a block sums at once
# Rows and columns of results that a block of 128 threads has: the first that gives FILL blocks,
# about one for each multiprocessor of a large GPU, else the last. And what a split sum should give.
BLOCK = (128,)
TILES = (128, 128), (128, 64), (64, 64)
WEIGHT_TILES = (128, 128), (64, 64)
FILL, SPLIT = 132, 264
LEAST_STEPS = 8                     # of a slice of a split sum
SHARE = 8                           # threads that add up many slices together
FEWEST = 3, 8                       # channels of x and of the result: fewer would be mostly zeros

# flags of conv_implicit.cu; its struct Convolution, of which Along is twice the end.
WITH_BIAS, WITH_RELU, PLANAR, BACK = 1, 2, 4, 8
_ALONG = "source results taps stride padding dilation period".split()
CONVOLUTION = np.dtype([(f, np.int32) for f in ("images", "chunks", "channels", "flags", *[
    f"{way}_{f}" for way in ("rows", "columns") for f in _ALONG])])
STEP = np.dtype([(f, np.int32) for f in ("images", "rows", "columns")])
SWAP = np.dtype([(f, np.int64) for f in (       # struct Swap of conv_implicit_layout.cu
    "outer", "rows", "columns", "padded", "x_outer", "x_row", "y_outer", "y_column")])


class Plan(NamedTuple):
    """A launch: kernel, grid, struct Convolution."""

    name: str
    grid: tuple[int, int]
    struct: Any


def takes(be: Any, dtype: Any, x_shape: Any, w_shape: Any, stride: Any, padding: Any, dilation: Any,
          groups: int, tf32: bool | None = None) -> bool:
    """Are there kernels for such a convolution?

    tf32: whether float32 may be rounded to TF32, by default as torch.backends.cudnn says.
    """
    if tf32 is None:
        tf32 = convolution.allow_tf32
    if groups != 1 or len(x_shape) != 4 or not be.kernels.on or not (
            dtype in HALF or (tf32 and dtype == np.float32)):
        return False
    (n, c, h, w), c_out = x_shape, w_shape[0]
    if c < FEWEST[0] or c_out < FEWEST[1]:
        return False
    oh, ow = out_hw(tuple(x_shape), tuple(w_shape[2:]), tuple(stride), tuple(padding),
                    tuple(dilation))
    size = dtype.itemsize           # kernels count pixels and chunks in 31 bits
    most = n * max(oh * ow * whole(c_out, size), h * w * whole(c, size))
    return bool(0 < n and 0 < oh and 0 < ow and most < NARROW
                and be.gemm.capability() >= CAPABILITY)


def forward(be: Any, x: Any, w: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
            groups: int, relu: bool = False) -> Any:
    """convolution's result, with relu its positive part; bias may be None."""
    shape = (len(x), len(w), *out_hw(x.shape, w.shape[2:], stride, padding, dilation))
    chunks = whole(x.shape[1], x.itemsize)
    flags = WITH_BIAS * (bias is not None) + WITH_RELU * relu
    y, flags, result = empty(be, shape, x.dtype, is_last(x) or is_last(w), flags)
    plan = planned(chunks, shape, w.shape[2:], x.shape[2:], stride, padding, dilation, flags)
    of = by_pixels(be, x, chunks)
    at = by_pixels(be, w, chunks)
    be.kernels.launch(FILE, plan.name, plan.grid, BLOCK, (
        of, at, at if bias is None else be._dense(bias), y, plan.struct), x.dtype)
    return result


def grad_input(be: Any, g: Any, w: Any, x_shape: Any, stride: Any, padding: Any, dilation: Any,
               groups: int) -> Any:
    """The gradient of convolution for x."""
    chunks = whole(w.shape[0], g.itemsize)
    y, flags, result = empty(be, tuple(x_shape), g.dtype, is_last(g) or is_last(w), BACK)
    plan = planned(chunks, tuple(x_shape), w.shape[2:], g.shape[2:], stride, padding, dilation,
                   flags)
    at = turned(be, w, chunks)
    be.kernels.launch(FILE, plan.name, plan.grid, BLOCK, (
        by_pixels(be, g, chunks), at, at, y, plan.struct), g.dtype)
    return result


def grad_weight(be: Any, g: Any, x: Any, w_shape: Any, stride: Any, padding: Any, dilation: Any,
                groups: int) -> Any:
    """The gradient of convolution for w."""
    c_out, c, kh, kw = w_shape
    dtype, last = x.dtype, is_last(x) or is_last(g)
    chunks, g_chunks = whole(c, x.itemsize), whole(c_out, x.itemsize)
    plan, slices, size, step = split(chunks, g.shape, (kh, kw), x.shape[2:], stride, padding,
                                     dilation, CHUNK // x.itemsize)
    padded = chunks * CHUNK // x.itemsize
    parts = be.empty((slices, c_out, kh * kw, padded), np.float32)
    be.kernels.launch(WEIGHT, plan.name, plan.grid, BLOCK, (
        by_pixels(be, g, g_chunks), by_pixels(be, x, chunks), parts, plan.struct, np.int32(size),
        np.int32(g_chunks), step), dtype)
    out = be.empty((c_out, kh, kw, c) if last else (c_out, c, kh, kw), dtype)
    share = SHARE if slices >= 2 * SHARE else 1
    count = c_out * kh * kw * padded
    be.kernels.launch(WEIGHT, "conv_implicit_weight_sum", (
        min(-(-count * share // THREADS), MAX_BLOCKS),), (THREADS // share, share), (
        parts, out, np.int64(count), *map(np.int32, (slices, kh * kw, padded, c, last))), dtype)
    return as_images(out) if last else out


# Plans -------------------------------------------------------------------------------------------

def whole(channels: int, itemsize: int) -> int:
    """How many chunks hold so many channels."""
    return -(-channels * itemsize // CHUNK)


def tile_of(tiles: Any, rows: int, columns: int, fill: int) -> tuple[int, int, int]:
    """(rows, columns, blocks): the first of ``tiles`` not half empty that makes ``fill`` blocks."""
    for high, wide in tiles:
        blocks = -(-rows // high) * -(-columns // wide)
        if columns > wide // 2 and rows > high // 2 and blocks >= fill:
            break
    return high, wide, blocks


def struct_of(n: int, chunks: int, channels: int, flags: int, source: Any, results: Any, taps: Any,
              stride: Any, padding: Any, dilation: Any) -> Any:
    along = [(*a, a[3] // math.gcd(a[3], a[5])) for a in zip(
        source, results, taps, stride, padding, dilation)]
    return np.array((n, chunks, channels, flags, *along[0], *along[1]), CONVOLUTION)


@functools.lru_cache(1024)
def planned(chunks: int, shape: Any, taps: Any, source: Any, stride: Any, padding: Any,
            dilation: Any, flags: int) -> Plan:
    """How to compute results of ``shape`` (n, channels, rows, columns) from ``source``."""
    n, channels, *results = shape
    phases, pixels = 1, n
    for size, step in zip(results, stride if flags & BACK else (1, 1)):
        phases, pixels = phases * step, pixels * -(-size // step)
    high, wide, blocks = tile_of(TILES, pixels, channels, -(-FILL // phases))
    struct = struct_of(n, chunks, channels, flags, source, results, taps, stride, padding, dilation)
    return Plan(f"{FILE}_{high}x{wide}", (blocks, phases), struct)


@functools.lru_cache(1024)
def split(chunks: int, shape: Any, taps: Any, source: Any, stride: Any, padding: Any, dilation: Any,
          per_chunk: int) -> tuple[Plan, int, int, Any]:
    """How to sum over the pixels of a gradient of ``shape``.

    (plan, slices, pixels of a slice, struct Step)
    """
    n, channels, *results = shape
    high, wide, blocks = tile_of(WEIGHT_TILES, channels, math.prod(taps) * chunks * per_chunk, 1)
    deep = DEEP * per_chunk
    steps = -(-n * math.prod(results) // deep)
    each = -(-steps // max(1, min(steps // LEAST_STEPS, SPLIT // blocks)))
    slices = -(-steps // each)
    struct = struct_of(n, chunks, channels, 0, source, results, taps, stride, padding, dilation)
    plan = Plan(f"{WEIGHT}_{high}x{wide}", (blocks, slices), struct)
    rows, columns = divmod(deep, results[1])
    images, rows = divmod(rows, results[0])
    step = np.array((images, rows * stride[0], columns * stride[1]), STEP)
    return plan, slices, each * deep, step


# Memory ------------------------------------------------------------------------------------------

def empty(be: Any, shape: Any, dtype: Any, last: bool, flags: int) -> tuple[Any, int, Any]:
    """New images of ``shape``: (the array in C order, flags for its order, the images)."""
    if not last:
        y = be.empty(shape, dtype)
        return y, flags | PLANAR, y
    n, c, h, w = shape
    y = be.empty((n, h, w, c), dtype)
    return y, flags, as_images(y)


def by_pixels(be: Any, a: Any, chunks: int) -> Any:
    """Images (n, c, h, w) as (n, h, w, padded), padded to whole chunks, from a whole address on."""
    n, c, h, w = a.shape
    padded = chunks * CHUNK // a.itemsize
    rows = as_pixels(a)
    if rows.flags.c_contiguous or is_last(a):
        rows = be._dense(rows)
        if padded == c and not be.address(rows) % CHUNK:
            return rows
        out = be.empty((n, h, w, padded), a.dtype)
        be.kernels.each(LAYOUT, "pad_channels", a.dtype, out.size, (rows, out), np.int32(c),
                        np.int32(padded))
        return out
    out = be.empty((n, h, w, padded), a.dtype)
    swap(be, be._dense(a), out, n, c, h * w, padded, c * h * w, h * w, h * w * padded, padded)
    return out


def turned(be: Any, w: Any, chunks: int) -> Any:
    """Weights (c_out, c, kh, kw) as (c, kh, kw, padded), c_out padded to whole chunks."""
    c_out, c, kh, kw = w.shape
    padded, taps = chunks * CHUNK // w.itemsize, kh * kw
    out, rows = be.empty((c, kh, kw, padded), w.dtype), as_pixels(w)
    if rows.flags.c_contiguous:
        swap(be, rows, out, taps, c_out, c, padded, c, taps * c, padded, taps * padded)
    else:
        swap(be, be._dense(w), out, 1, c_out, c * taps, padded, 0, c * taps, 0, padded)
    return out


def swap(be: Any, x: Any, y: Any, *sizes: int) -> None:
    """Launch swap_dims; ``sizes`` are the numbers of its struct."""
    outer, _, columns, padded, *_ = sizes
    tiles = outer * -(-columns // 32) * -(-padded // 32)
    be.kernels.launch(LAYOUT, "swap_dims", (min(tiles, MAX_BLOCKS),), (32, THREADS // 32), (
        x, y, np.array(sizes, SWAP)), x.dtype)
