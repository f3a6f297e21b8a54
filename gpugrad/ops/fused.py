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
from gpugrad.ops.batch_norm import laid, normalise, pair, slopes
from gpugrad.ops.channels import launch, of_rows
from gpugrad.ops.norm import affine, by_teams, parameter, rows_of

# The kernels, by file, that no op's call has compiled by the time when a graph is captured.
KERNELS = {
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
def batch_norm_relu(be: Any, x: Any, residual: Any, weight: Any, bias: Any, mean: Any = None,
                    var: Any = None, *, training: bool = True, eps: float = 1e-5,
                    share: float = 0.0, out: Any = ()) -> tuple[Any, Any, Any]:
    """batch_norm, whose first result a residual may be added to and goes through ReLU."""
    return normalise(be, "batch_norm_relu", x, (residual,), weight, bias, mean, var, training, eps,
                     share, out)


def batch_norm_relu_backward(be: Any, g: Any, x: Any, weight: Any, bias: Any, mean: Any,
                             invstd: Any, *, training: bool) -> tuple[Any, Any, Any]:
    """threshold_backward, then batch_norm_backward, of relu(batch_norm), whose result it makes
    again from x."""
    last, at, (a, g) = laid(be, x, g)
    mean, invstd, w, b = [parameter(be, v, a.dtype, mean) for v in (mean, invstd, weight, bias)]
    sums = pair(be, (at.parts, int(at.struct["c"])), mean.dtype)
    launch(be, "batch_norm", "batch_norm_relu_sums", a.dtype, at, (
        g, a, w, b, mean, invstd, *sums, at.struct, affine(weight, bias)))
    return slopes(be, "batch_norm_relu_backward", last, at, x, weight,
                  (g, a, w, b, mean, invstd, *sums), training, affine(weight, bias))


def relu_batch_norm_backward(be: Any, g: Any, more: Any, y: Any, x: Any, weight: Any, mean: Any,
                             invstd: Any, *, training: bool) -> tuple[Any, Any, Any, Any]:
    """add of g and ``more``, threshold_backward at y, batch_norm_backward: what came through y's
    ReLU, which others need, too, then the gradients for x, weight and bias."""
    last, at, (a, g, more, y) = laid(be, x, g, more, y)
    mean, invstd = parameter(be, mean, a.dtype), parameter(be, invstd, a.dtype)
    t, sums = be.empty(a.shape, a.dtype), pair(be, (at.parts, int(at.struct["c"])), mean.dtype)
    launch(be, "batch_norm", "relu_batch_norm_sums", a.dtype, at, (
        g, g if more is None else more, y, a, mean, t, *sums, at.struct,
        np.int32(more is not None)))
    given = t, a, parameter(be, weight, a.dtype, mean), mean, invstd, *sums
    return of_rows(t, x.shape) if last else t, *slopes(
        be, "batch_norm_backward", last, at, x, weight, given, training, affine(weight))


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
