"""Medians, quantiles, modes, and sums and means that leave NaN out."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions.arguments import as_, cast, dim_of, dims_of, return_type
from gpugrad.functions.reduction import sum as summed
from gpugrad.ops.reduction import kept_shape

_median, _nanmedian, _mode = (return_type(name, "values", "indices")
                              for name in ("median", "nanmedian", "mode"))


def _check_dim(x: Tensor, dim: int, name: str) -> None:
    """The dim must be there, and have elements."""
    d = dim_of(dim, x._a.ndim)
    if x._a.ndim and not x._a.shape[d]:
        raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")


def _selecting(x: Tensor, op: str, dim: int, keepdim: bool, kind: Any) -> Any:
    """kind(values, indices) of an op that selects one element along dim, which has some."""
    d = dim_of(dim, x._a.ndim)
    if not x._a.ndim:
        return kind((T.clone(x), wrap(x._be.xp.zeros((), np.int64), x._be)))
    return kind(getattr(T, op)(x, dim=d, keepdim=bool(keepdim)))


def _middle(x: Tensor, dim: Any, keepdim: bool, name: str, kind: Any) -> Any:
    if dim is not None:
        _check_dim(x, dim, "median")
    if x._a.dtype.kind in "cb":
        raise NotImplementedError(f"\"{'median_cpu' if dim is None else 'median_out'}\" not "
                                  f"implemented for '{type_name(x._a.dtype)}': convert to another "
                                  "dtype")
    op = name if x._a.dtype.kind in dtypes.FLOATING else "median"
    if dim is None:
        return getattr(T, op + "_all")(x)
    return _selecting(x, op, dim, keepdim, kind)


def median(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The lower of the middle elements of all; (values, indices) along a dim. NaN if there is one.
    """
    return _middle(input, dim, keepdim, "median", _median)


def nanmedian(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """median() of what isn't NaN."""
    return _middle(input, dim, keepdim, "nanmedian", _nanmedian)


def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """(the commonest elements along dim, the smallest of several, an index of each)."""
    _check_dim(input, dim, "mode")
    if input._a.dtype.kind == "c":
        raise NotImplementedError(f"\"mode_cpu\" not implemented for '{type_name(input._a.dtype)}'"
                                  ": complex numbers have no order")
    return _selecting(input, "mode", dim, keepdim, _mode)


# Sums and means ----------------------------------------------------------------------------------


def nansum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over dim of what isn't NaN."""
    kind, dims = input._a.dtype.kind, dims_of(dim, input._a.ndim)
    if kind == "c":
        raise RuntimeError("nansum on CPU does not support complex inputs: take the real and "
                           "imaginary parts")
    if kind in "iub":
        return summed(input, dim, keepdim, dtype=dtype)
    if dtype is not None and not dtypes.as_dtype(dtype).is_floating_point:
        return summed(T.drop_where(input, T.isnan(input)), dim, keepdim, dtype=dtype)
    return T.nansum(as_(input, dtype), dim=dims, keepdim=bool(keepdim))


def nanmean(input: Tensor, dim: Any = None, keepdim: bool = False, *,
            dtype: Any = None) -> Tensor:
    """The mean over dim of what isn't NaN; NaN where nothing is left."""
    if input._a.dtype.kind not in dtypes.INEXACT:
        raise RuntimeError("nanmean(): expected input to have floating point or complex dtype but "
                           f"got {type_name(input._a.dtype)}")
    if dtype is not None and not dtypes.as_dtype(dtype).is_floating_point:
        raise RuntimeError("nanmean(): could not infer output dtype. Optional dtype must be either "
                           f"a floating point or complex dtype. Got: {dtype}")
    total = nansum(input, dim, keepdim, dtype=dtype)
    count = summed(T.logical_not(T.isnan(input)), dim, keepdim)
    return T.div(total, cast(count, total._a.dtype))


# Quantiles ---------------------------------------------------------------------------------------

WAYS = ("linear", "lower", "higher", "midpoint", "nearest")


def _asked(name: str, x: Tensor, q: Any, interpolation: str) -> Tensor:
    """q as a tensor; raises if it, the input or the way between elements is not allowed."""
    if isinstance(q, Tensor):
        wanted = q
    elif isinstance(q, int | float | np.floating | np.integer):
        if not 0 <= q <= 1:
            raise RuntimeError(f"{name}() q must be in the range [0, 1] but got {q:g}")
        wanted = wrap(x._be.xp.full((), q, x._a.dtype), x._be)
    else:
        raise TypeError(f"{name}() received an invalid combination of arguments - q must be a "
                        f"float or a Tensor, not {type(q).__name__}")
    if interpolation not in WAYS:
        raise RuntimeError(f"{name}() interpolation must be one of linear, lower, higher, midpoint "
                           f"or nearest, but got {interpolation}")
    if not x._a.size:
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    if wanted._a.ndim > 1:
        raise RuntimeError(f"{name}() q must be a scalar or 1D tensor")
    if x._a.dtype not in dtypes.WHOLE:
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype, not "
                           f"{x.dtype}")
    if wanted._a.dtype != x._a.dtype:
        raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor, {x.dtype} "
                           f"and not {wanted.dtype}")
    if wanted._be is not x._be:
        raise RuntimeError(f"{name}() q tensor must be on the same device as the input tensor")
    if isinstance(q, Tensor) and x.is_cpu and not ((q._a >= 0) & (q._a <= 1)).all():
        raise RuntimeError(f"{name}() q values must be in the range [0, 1]")
    return wanted


def _ranks(x: Tensor, q: Any, skip: bool) -> Any:
    """Where in the sorted last dim the quantiles lie: one more dim, of q, at the end.

    A row with a NaN has its last place for all of them, unless NaN is to be skipped: there it is.
    """
    xp, n, nans = x._be.xp, x._a.shape[-1], x._be.xp.isnan(x._a)
    if skip:
        count = (~nans).sum(-1, keepdims=True)
        return q * xp.maximum(count - 1, 0).astype(q.dtype)
    last = x._be.number[n - 1, q.dtype]
    return xp.where(nans.any(-1, keepdims=True), last, q * last)


def _between(x: Tensor, ranks: Any, interpolation: str) -> Tensor:
    """The elements of sorted rows at ranks that may lie between two."""
    xp, be = x._be.xp, x._be
    rounding = {"higher": xp.ceil, "nearest": xp.rint}.get(interpolation, xp.floor)

    def at(places: Any) -> Tensor:
        return T.gather(x, wrap(places.astype(np.int64), be), dim=x._a.ndim - 1)
    below = at(rounding(ranks))
    if interpolation not in ("linear", "midpoint"):
        return below
    weights = xp.full(ranks.shape, 0.5, ranks.dtype) if interpolation == "midpoint" else \
        ranks - xp.floor(ranks)
    return T.lerp(below, at(xp.ceil(ranks)), wrap(weights, be))


def _quantile(name: str, x: Tensor, q: Any, dim: Any, keepdim: bool, interpolation: str) -> Tensor:
    wanted = _asked(name, x, q, interpolation)
    d = 0 if dim is None else dim_of(dim, x._a.ndim)
    ndim = x._a.ndim
    out_shape = kept_shape(x._a.shape, None if dim is None else (d,)) if keepdim else \
        () if dim is None or not ndim else (*x._a.shape[:d], *x._a.shape[d + 1:])
    rows = T.reshape(x, (-1,)) if dim is None or not ndim else x
    if dim is not None and ndim > 1 and d != ndim - 1:
        order = tuple([i for i in range(ndim) if i != d] + [d])
        rows = T.permute(rows, dims=order)
    rows = T.sort(rows, dim=rows._a.ndim - 1)[0]
    flat_q = wanted._a.reshape(-1)
    out = _between(rows, _ranks(rows, flat_q, name == "nanquantile"), interpolation)
    out = T.permute(out, dims=(out._a.ndim - 1, *range(out._a.ndim - 1)))
    return T.reshape(out, (*wanted._a.shape, *out_shape))


def quantile(input: Tensor, q: Any, dim: Any = None, keepdim: bool = False, *,
             interpolation: str = "linear") -> Tensor:
    """The q-th quantiles along dim, or of all; several q's are a new first dim."""
    return _quantile("quantile", input, q, dim, keepdim, interpolation)


def nanquantile(input: Tensor, q: Any, dim: Any = None, keepdim: bool = False, *,
                interpolation: str = "linear") -> Tensor:
    """quantile() of what isn't NaN."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation)
