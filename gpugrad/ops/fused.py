"""What recorded steps on CUDA call in the place of several ops: the same bits in fewer launches.

Plain functions on the arrays of a backend that has kernels, not ops: recording/fusion.py puts them
into programs, where gradients are calls like others. Each one's result is that of the ops it names,
one after the other, with every intermediate rounded as it would be stored.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.backend.kernels import NARROW, acc
from gpugrad.backend.random import below
from gpugrad.dtypes import wide
from gpugrad.layouts import is_last
from gpugrad.ops.batch_norm import fold, move, pair
from gpugrad.ops.channels import Plan, as_rows, channel_moments, launch, of_rows, plan
from gpugrad.ops.norm import affine, by_teams, parameter, rows_of

# The kernels, by file, that no op's call has compiled by the time when a graph is captured.
KERNELS = {
    "batch_norm_statistics": ("batch_norm", "batch_norm_statistics"),
    "batch_norm_relu": ("batch_norm", "batch_norm_relu"),
    "batch_norm_relu_backward": ("batch_norm", "batch_norm_relu_sums", "batch_norm_relu_backward"),
    "relu_batch_norm_backward": ("batch_norm", "relu_batch_norm_sums"),
    "add_layer_norm": ("layer_norm", "add_layer_norm"),
    "add_rms_norm": ("layer_norm", "add_rms_norm"),
    "dropout": ("dropout", "fused_dropout", "dropout_add"),
}


def prepare(be: Any, name: str, a: Any) -> None:
    """Compile the kernels of one of the functions here for arrays like ``a``."""
    file, *kernels = KERNELS.get(name, ("",))
    for kernel in kernels:
        be.kernels.prepare(file, kernel, a.dtype, a.size > NARROW)


# Batch norm --------------------------------------------------------------------------------------
#
# x is (n, c, ...), in C order or channels_last; arrays of its shape are laid out like it.

def laid(be: Any, x: Any, *others: Any) -> tuple[Plan, list[Any]]:
    """How kernels go over x, and the arrays as they read them; None stays None."""
    if is_last(x):
        arrays = [a if a is None else as_rows(be, a) for a in (x, *others)]
    else:
        arrays = [a if a is None else be._dense(a) for a in (x, *others)]
    return plan(*fold(arrays[0]).shape), arrays


def back(a: Any, x: Any) -> Any:
    """A kernel's result in the shape and order of x."""
    return of_rows(a, x.shape) if is_last(x) else a


def batch_norm_statistics(be: Any, x: Any, running_mean: Any = None, running_var: Any = None,
                          batches: Any = None, *, eps: float, share: float = 0.0,
                          m: int = 1) -> tuple[Any, Any]:
    """(mean, 1 / std) of batch_norm in training; moved_statistics into the running ones, if there
    are any, and 1 added to a counter of batches."""
    at, (x,) = laid(be, x)
    dtype, used = wide(x.dtype), pair(be, (int(at.struct["c"]),), wide(x.dtype))
    parts = channel_moments(be, x, at)
    moving = running_mean is not None and running_mean.dtype == dtype and \
        running_var.dtype == dtype
    running = (running_mean, running_var) if moving else used
    launch(be, "batch_norm", "batch_norm_statistics", x.dtype, at, (
        *parts, *used, *running, be.empty((), np.int64) if batches is None else batches,
        at.struct, acc(eps, x.dtype), np.int32(moving + 2 * (batches is not None)),
        acc(share, x.dtype), acc(m / max(m - 1, 1), x.dtype)), whole=True)
    if running_mean is not None and not moving:
        running = running_mean, running_var
        move(be, *running, *used, running, share=share, m=m, eps=eps)
    return used


def batch_norm_relu(be: Any, x: Any, residual: Any, weight: Any, bias: Any, mean: Any,
                    spread: Any, *, eps: float | None = None, relu: bool = True) -> Any:
    """relu(batch_norm + residual), or without ReLU; spread: 1 / std, or with eps the variance."""
    at, (a, more) = laid(be, x, residual)
    mean, spread = parameter(be, mean, a.dtype), parameter(be, spread, a.dtype)
    y = be.empty(a.shape, a.dtype)
    bits = int(affine(weight, bias)) + 4 * (more is not None) + 8 * (eps is not None) + \
        16 * (not relu)
    launch(be, "batch_norm", "batch_norm_relu", a.dtype, at, (
        a, a if more is None else more, parameter(be, weight, a.dtype, mean),
        parameter(be, bias, a.dtype, mean), mean, spread, y, at.struct, acc(eps or 0.0, a.dtype),
        np.int32(bits)))
    return back(y, x)


def batch_norm_relu_backward(be: Any, g: Any, x: Any, weight: Any, bias: Any, mean: Any,
                             invstd: Any, *, training: bool) -> tuple[Any, Any, Any]:
    """threshold_backward, then batch_norm_backward, of relu(batch_norm), whose result it makes
    again from x."""
    at, (a, g) = laid(be, x, g)
    mean, invstd, w, b = [parameter(be, v, a.dtype, mean) for v in (mean, invstd, weight, bias)]
    sums = pair(be, (at.parts, int(at.struct["c"])), mean.dtype)
    launch(be, "batch_norm", "batch_norm_relu_sums", a.dtype, at, (
        g, a, w, b, mean, invstd, *sums, at.struct, affine(weight, bias)))
    gx, (gw, gb) = be.empty(a.shape, a.dtype), pair(be, mean.shape, mean.dtype)
    launch(be, "batch_norm", "batch_norm_relu_backward", a.dtype, at, (
        g, a, w, b, mean, invstd, *sums, gx, gw, gb, at.struct, np.int32(training),
        affine(weight, bias)))
    own = x.dtype if weight is None else weight.dtype
    return back(gx, x), gw.astype(own, copy=False), gb.astype(own, copy=False)


def relu_batch_norm_backward(be: Any, g: Any, more: Any, y: Any, x: Any, weight: Any, mean: Any,
                             invstd: Any, *, training: bool) -> tuple[Any, Any, Any, Any]:
    """add of g and ``more``, threshold_backward at y, batch_norm_backward: what came through y's
    ReLU, which others need, too, then the gradients for x, weight and bias."""
    at, (a, g, more, y) = laid(be, x, g, more, y)
    mean, invstd = parameter(be, mean, a.dtype), parameter(be, invstd, a.dtype)
    t, sums = be.empty(a.shape, a.dtype), pair(be, (at.parts, int(at.struct["c"])), mean.dtype)
    launch(be, "batch_norm", "relu_batch_norm_sums", a.dtype, at, (
        g, g if more is None else more, y, a, mean, t, *sums, at.struct,
        np.int32(more is not None)))
    gx, (gw, gb) = be.empty(a.shape, a.dtype), pair(be, mean.shape, mean.dtype)
    launch(be, "batch_norm", "batch_norm_backward", a.dtype, at, (
        t, a, parameter(be, weight, a.dtype, mean), mean, invstd, *sums, gx, gw, gb, at.struct,
        np.int32(training), affine(weight)))
    own = x.dtype if weight is None else weight.dtype
    return (back(t, x), back(gx, x), gw.astype(own, copy=False), gb.astype(own, copy=False))


# Layer norm and RMS norm, over the last ``ndim`` dims --------------------------------------------

def add_layer_norm(be: Any, x: Any, more: Any, weight: Any, bias: Any, *, ndim: int,
                   eps: float) -> tuple[Any, Any, Any, Any]:
    """x + more, and layer_norm of that: the sum, the norm, mean and 1 / std."""
    dtype, shape = wide(x.dtype), x.shape[:x.ndim - ndim] + (1,) * ndim
    total, out, mean, r = [be.empty(s, d) for s, d in ((x.shape, x.dtype), (x.shape, x.dtype),
                                                       (shape, dtype), (shape, dtype))]
    be.kernels.rows("layer_norm", "add_layer_norm", x.dtype, *rows_of(x, ndim), (
        be._dense(x), be._dense(more), parameter(be, weight, x.dtype, mean),
        parameter(be, bias, x.dtype, mean), total, out, mean, r), acc(eps, x.dtype),
        affine(weight, bias))
    return total, out, mean, r


def add_rms_norm(be: Any, x: Any, more: Any, weight: Any, *, ndim: int,
                 eps: float) -> tuple[Any, Any, Any]:
    """x + more, and rms_norm of that: the sum, the norm and r."""
    r = be.empty(x.shape[:x.ndim - ndim] + (1,) * ndim, wide(x.dtype))
    total, out = pair(be, x.shape, x.dtype)
    be.kernels.rows("layer_norm", "add_rms_norm", x.dtype, *rows_of(x, ndim), (
        be._dense(x), be._dense(more), parameter(be, weight, x.dtype, r), total, out, r),
        acc(eps, x.dtype), affine(weight))
    return total, out, r


def layer_norm_backward_add(be: Any, more: Any, g: Any, x: Any, weight: Any, mean: Any, r: Any, *,
                            ndim: int, inplace: bool) -> tuple[Any, Any, Any]:
    """layer_norm_backward, whose gradient for x is added to ``more``, another one."""
    gx, (gw, gb) = by_teams(be, "layer_norm_backward", g, x, weight, (mean, r), ndim, 2, more,
                            inplace)
    return gx, gw, gb


def rms_norm_backward_add(be: Any, more: Any, g: Any, x: Any, weight: Any, r: Any, *, ndim: int,
                          inplace: bool) -> tuple[Any, Any]:
    """rms_norm_backward, whose gradient for x is added to ``more``, another one."""
    gx, (gw,) = by_teams(be, "rms_norm_backward", g, x, weight, (r,), ndim, 1, more, inplace)
    return gx, gw


# Dropout -----------------------------------------------------------------------------------------

def dropout(be: Any, x: Any, more: Any, source: Any, *, keep: float,
            scale: float) -> tuple[Any, Any]:
    """native_dropout of x by source.bernoulli(keep), plus ``more`` if it isn't None; and the mask.
    """
    state, offset = source.reserve(x.size)
    y, mask = be.empty(x.shape, x.dtype), be.empty(x.shape, np.dtype(bool))
    name, arrays = ("fused_dropout", (x,)) if more is None else ("dropout_add", (x, more))
    be.kernels.each("dropout", name, x.dtype, x.size, (*map(be._dense, arrays), y, mask),
                    acc(scale, x.dtype), be._dense(state), offset, np.uint64(below(keep)),
                    at_once=4)
    return y, mask
