"""Convolution of few channels on CUDA, without columns: host side of conv_direct.cu."""
from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gpugrad.backend.kernels import WINDOWS, windows
from gpugrad.dtypes import wide
from gpugrad.layouts import as_images, as_pixels
from gpugrad.ops.channels import channel_sum

FILE = "conv_direct"
# struct Few of conv_direct.cu.
FEW = np.dtype([("win", WINDOWS), *[(f, np.int32) for f in ("c", "k", "groups", "tiles")],
                *[(f, np.int64) for f in ("xn", "xc", "xp", "yn", "yc", "yp")]])
TAPS, SLOPES = 256, 1024        # as there
THREADS = 128
BLOCKS = 512                    # wanted for the gradient of weights


def takes(be: Any, kind: str, case: Any) -> bool:
    """Are there kernels for it? They hold all weights of an output channel, or of a pixel."""
    c_out, c, kh, kw = case.w_shape
    room = {"forward": c * kh * kw <= TAPS, "grad_input": kh * kw <= SLOPES}.get(kind, True)
    return bool(room and be.takes(case.dtype) and c_out * c * kh * kw < 1 << 16)


def pays(kind: str, case: Any) -> bool:
    """Are the channels so few that a product of matrices would mostly wait for its columns?"""
    c_out, c, kh, kw = case.w_shape
    outs = c_out // case.groups
    if kind == "grad_weight":
        return bool(c * kh * kw * outs <= 4096)
    return bool((c <= 4 and outs <= 64) or c * outs <= 256)


def forward(be: Any, x: Any, w: Any, bias: Any, case: Any) -> Any:
    """convolution's result; bias may be None."""
    outs = case.w_shape[0] // case.groups
    tile = 8 if outs <= 8 else 16
    tiles = -(-outs // tile)
    y, n = new(be, case, case.y_shape), case.y_shape[0] * case.y_shape[2] * case.y_shape[3]
    w = be._dense(w)
    args = (laid(be, x, case), w, w if bias is None else be._dense(bias), y, np.int64(n),
            few(case, tiles), np.int32(bias is not None))
    be.kernels.launch(FILE, f"conv_direct{tile}", (-(-n // THREADS), case.groups * tiles),
                      (THREADS,), args, case.dtype)
    return as_images(y) if case.last else y


def grad_input(be: Any, g: Any, w: Any, case: Any) -> Any:
    """The gradient for x."""
    tiles = -(-case.w_shape[1] // 4)
    gx, n = new(be, case, case.x_shape), case.x_shape[0] * case.x_shape[2] * case.x_shape[3]
    be.kernels.launch(FILE, "conv_direct_grad_input", (-(-n // THREADS), case.groups * tiles),
                      (THREADS,), (laid(be, g, case), be._dense(w), gx, np.int64(n),
                                   few(case, tiles)), case.dtype)
    return as_images(gx) if case.last else gx


def grad_weight(be: Any, g: Any, x: Any, case: Any) -> Any:
    """The gradient for w: sums of parts of the windows, added up in order."""
    c_out, c, kh, kw = case.w_shape
    tiles, tap_tiles = -(-(c_out // case.groups) // 8), -(-c * kh * kw // 32)
    n, blocks = g.shape[0] * g.shape[2] * g.shape[3], case.groups * tiles * tap_tiles
    # Eight warps of a block take 32 windows at a time: at least four times, if there are as many.
    part = -(-max(-(-n // max(1, BLOCKS // blocks)), 1024) // 256) * 256
    parts = -(-n // part)
    sums = be.empty((parts, c_out * c * kh * kw), wide(case.dtype))
    be.kernels.launch(FILE, "conv_direct_grad_weight", (parts, blocks), (256,),
                      (laid(be, g, case), laid(be, x, case), sums, np.int64(n), np.int64(part),
                       few(case, tiles), np.int32(tap_tiles)), case.dtype)
    total = sums if parts == 1 else channel_sum(be, sums, parts, sums.shape[1], 1)
    return total.reshape(case.w_shape).astype(case.dtype, copy=False)


def new(be: Any, case: Any, shape: Any) -> Any:
    """Memory for images of ``shape``, (n, h, w, c) if channels come last."""
    n, c, h, w = shape
    return be.empty((n, h, w, c) if case.last else (n, c, h, w), case.dtype)


def laid(be: Any, a: Any, case: Any) -> Any:
    """Images as ``case`` has them in memory, in C order."""
    return be._dense(as_pixels(a) if case.last else a)


@functools.lru_cache(1024)
def few(case: Any, tiles: int) -> Any:
    """The struct that kernels take."""
    c_out, c, kh, kw = case.w_shape
    steps = [(h * w * ch, 1, ch) if case.last else (h * w * ch, h * w, 1)
             for _, ch, h, w in (case.x_shape, case.y_shape)]
    win = windows(case.x_shape[2:], case.y_shape[2:], (kh, kw), case.stride, case.padding,
                  case.dilation)
    return np.array((win, c, c_out // case.groups, case.groups, tiles, *steps[0], *steps[1]), FEW)
