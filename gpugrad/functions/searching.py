"""Distinct elements, histograms, and places in sorted sequences."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions.arguments import cast, dim_of, return_type

_histogram, _histogramdd = (return_type(name, "hist", "bin_edges")
                            for name in ("histogram", "histogramdd"))


def _not_implemented(name: str, x: Tensor, instead: str) -> NotImplementedError:
    return NotImplementedError(f"\"{name}\" not implemented for '{type_name(x._a.dtype)}': "
                               f"{instead}")


# Distinct elements -------------------------------------------------------------------------------


def _picked(parts: tuple[Tensor, ...], return_inverse: bool, return_counts: bool) -> Any:
    out = parts[:1] + parts[1:2] * bool(return_inverse) + parts[2:] * bool(return_counts)
    return out if len(out) > 1 else out[0]


def _checked_dim(name: str, x: Tensor, dim: int) -> int:
    if x._a.dtype.kind == "c":
        raise _not_implemented("unique", x, "complex numbers have no order")
    d = dim_of(dim, x._a.ndim)
    if not x._a.ndim:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    if not x._a.size and (x._a.shape[d] or x._a.shape.count(0) > 1):
        raise RuntimeError("There are 0 sized dimensions, and they aren't selected, so "
                           f"{name} cannot be applied")
    return d


def unique(input: Tensor, sorted: bool = True, return_inverse: bool = False,
           return_counts: bool = False, dim: int | None = None) -> Any:
    """The distinct elements, or parts along dim, always in order.

    return_inverse: also where each element is among them; return_counts: also how often they occur.
    """
    if dim is not None:
        d = _checked_dim("unique", input, dim)
        return _picked(T.unique_dim(input, dim=d), return_inverse, return_counts)
    if input._a.dtype.kind == "c":
        raise _not_implemented("unique", input, "complex numbers have no order")
    return _picked(T.unique(input), return_inverse, return_counts)


def unique_consecutive(input: Tensor, return_inverse: bool = False, return_counts: bool = False,
                       dim: int | None = None) -> Any:
    """One of each run of equal neighbours, of the flattened input or of the parts along dim."""
    if dim is None and input._a.dtype.kind == "c":
        raise _not_implemented("unique", input, "take torch.view_as_real, dim=0")
    d = None if dim is None else _checked_dim("unique_consecutive", input, dim)
    values, inverse, counts = T.unique_consecutive(input, dim=d)
    if d is None and not input._a.size:
        inverse = wrap(input._be.empty(input._a.shape, np.int64), input._be)
    return _picked((values, inverse, counts), return_inverse, return_counts)


# Places in sorted sequences ----------------------------------------------------------------------


def _right(right: bool, side: str | None) -> bool:
    if side not in (None, "left", "right"):
        raise RuntimeError("torch.searchsorted(): side can only be 'left' or 'right' but got "
                           f"{side}")
    if side == "left" and right:
        raise RuntimeError("torch.searchsorted(): side and right can't be set to opposites, got "
                           "side of left while right was True")
    return bool(right) or side == "right"


def _in_order(sequence: Tensor, sorter: Tensor | None) -> Tensor:
    if sorter is None:
        return sequence
    if sorter._a.shape != sequence._a.shape:
        raise RuntimeError("torch.searchsorted(): boundary and sorter must have the same size, but "
                           f"got boundary tensor {list(sequence._a.shape)}and got sorter tensor "
                           f"{list(sorter._a.shape)}")
    if sorter._a.dtype != np.int64:
        raise RuntimeError("torch.searchsorted(): sorter must be a tensor of long dtype but got "
                           f"dtype {type_name(sorter._a.dtype)}")
    n = sequence._a.shape[-1] if sequence._a.ndim else 1
    if sorter.is_cpu and sorter._a.size and (sorter._a.min() < 0 or sorter._a.max() >= n):
        raise RuntimeError("torch.searchsorted(): sorter index out of range")
    return T.gather(sequence, sorter, dim=sequence._a.ndim - 1)


def _search(sequence: Tensor, x: Any, right: bool, out_int32: bool) -> Tensor:
    if not isinstance(x, Tensor):
        x = wrap(sequence._be.xp.asarray(x, dtypes.of_number(x)), sequence._be)
    for t in (x, sequence):
        if t._a.dtype.kind == "c":
            raise _not_implemented("searchsorted_out_cpu", t, "complex numbers have no order")
    if x._a.dtype.kind == sequence._a.dtype.kind == "b":
        raise _not_implemented("searchsorted_out_cpu", x, "convert to integers")
    dtype = np.dtype(np.int32 if out_int32 else np.int64)
    return T.searchsorted(sequence.detach(), x.detach(), right=right, dtype=dtype)


def searchsorted(sorted_sequence: Tensor, input: Any, *, out_int32: bool = False,
                 right: bool = False, side: str | None = None,
                 sorter: Tensor | None = None) -> Tensor:
    """Where input, a tensor or a number, would have to be put in to keep the sequence in order.

    The sequence has one dim, or the input's dims but for the last. right (or side="right"): behind
    equal elements and not before. sorter: the indices that put the sequence in order.
    """
    if not isinstance(sorted_sequence, Tensor):
        raise TypeError("searchsorted() received an invalid combination of arguments - "
                        "sorted_sequence must be a Tensor, not "
                        f"{type(sorted_sequence).__name__}")
    shape = sorted_sequence._a.shape
    if not shape:
        raise RuntimeError("torch.searchsorted(): boundaries tensor should have positive "
                           "dimension, but got 0 dimension")
    is_scalar = not isinstance(input, Tensor) or not input._a.ndim
    behind = _right(right, side)
    if len(shape) > 1 and is_scalar:
        raise RuntimeError("torch.searchsorted(): input value can be a scalar only when boundaries "
                           f"tensor dimension is 1, but we got boundaries tensor dim({len(shape)}) "
                           "and input value's dim(0) numel(1)")
    if len(shape) > 1 and input._a.shape[:-1] != shape[:-1]:
        raise RuntimeError("torch.searchsorted(): boundaries tensor should be 1 dimension or the "
                           "first N-1 dimensions of boundaries tensor and input value tensor must "
                           f"match, but we got boundaries tensor {list(shape)} and input value "
                           f"tensor {list(input._a.shape)}")
    return _search(_in_order(sorted_sequence, sorter), input, behind, out_int32)


def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False,
              right: bool = False) -> Tensor:
    """The bucket of each element: the index of the first boundary that isn't below it.

    right: of the first boundary that is above it.
    """
    if boundaries._a.ndim != 1:
        raise RuntimeError("boundaries tensor must be 1 dimension, but got "
                           f"dim({boundaries._a.ndim})")
    return _search(boundaries, input, bool(right), out_int32)


# Counts ------------------------------------------------------------------------------------------


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each number from 0 on occurs in a vector, or the sums of their weights."""
    a = input._a
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    if a.dtype.kind not in "iu":
        raise _not_implemented("bincount_cpu", input, "convert to int64")
    if a.ndim != 1 or (a.dtype.kind == "i" and a.size and int(input._be.to_host(a.min())) < 0):
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if weights is not None and weights._a.shape != a.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input, "
                           f"{list(a.shape)} and not {list(weights._a.shape)}")
    if not a.size:
        return wrap(input._be.xp.zeros(minlength, np.int64), input._be)
    if weights is not None:
        if weights._a.dtype.kind == "c":
            raise _not_implemented("bincount", weights, "count the real and imaginary parts")
        weights = weights.detach()
        if weights._a.dtype != np.float32:
            weights = cast(weights, np.dtype(np.float64))
    return T.bincount(cast(input, np.dtype(np.int64)), weights, minlength=minlength)


def _number_of_bins(bins: Any, name: str) -> int:
    if isinstance(bins, bool) or not hasattr(bins, "__index__"):
        raise TypeError(f"{name}(): argument 'bins' (position 2) must be int, not "
                        f"{type(bins).__name__}")
    if bins <= 0:
        raise RuntimeError(f"torch.histogram(): bins must be > 0, but got {bins} for dimension 0")
    return int(bins)


def _outer_edges(x: Tensor) -> tuple[float, float]:
    """The smallest and largest element."""
    low, high = (float(x._be.to_host(a)) for a in (x._a.min(), x._a.max()))
    return low, high


def histc(input: Tensor, bins: int = 100, min: Any = 0, max: Any = 0) -> Tensor:
    """How many elements lie in each of ``bins`` equal bins from min to max.

    Where both are the same, from the smallest to the largest element. Others aren't counted.
    """
    bins = _number_of_bins(bins, "histc")
    if input._a.dtype.kind not in dtypes.FLOATING:
        raise _not_implemented("histogram_cpu", input, "convert to a floating dtype")
    low, high = float(min), float(max)
    if low == high and input._a.size:
        low, high = _outer_edges(input)
    if low == high:
        low, high = low - 1, high + 1
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RuntimeError(f"torch.histc: range of [{low:g}, {high:g}] is not finite")
    if low > high:
        raise RuntimeError("torch.histc: max must be larger than min")
    return T.histc(input, bins=bins, min=low, max=high)


def _edges(x: Tensor, column: Tensor, bins: Any, range: Any, d: int) -> Tensor:
    """The edges between bins of dim d, whose elements are ``column``, and the outermost ones."""
    if isinstance(bins, Tensor):
        if bins._a.ndim != 1:
            raise RuntimeError("torch.histogramdd: bins tensor should have one dimension, but got "
                               f"{bins._a.ndim} dimensions in the bins tensor for dimension {d}")
        if bins._a.shape[0] < 2:
            raise RuntimeError("torch.histogram(): bins must be > 0, but got "
                               f"{bins._a.shape[0] - 1} for dimension {d}")
        if bins._a.dtype != x._a.dtype:
            raise RuntimeError("torch.histogramdd: input tensor and bins tensors should have the "
                               f"same dtype, but got input with dtype {x.dtype} and bins for "
                               f"dimension {d} with dtype {bins.dtype}")
        return bins
    bins = _number_of_bins(bins, "histogram")
    if range is None:
        low, high = _outer_edges(column) if column._a.size else (0.0, 1.0)
    else:
        low, high = range
        if low > high:
            raise RuntimeError("torch.histogramdd: min should not exceed max, but got min "
                               f"{low:g} max {high:g} for dimension {d}")
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RuntimeError(f"torch.histogramdd: dimension {d}'s range [{low:g}, {high:g}] is not "
                           "finite")
    if low == high:
        low, high = low - 0.5, high + 0.5
    return wrap(x._be.xp.linspace(low, high, bins + 1).astype(x._a.dtype), x._be)


def _counted(x: Tensor, rows: Tensor, edges: list[Tensor], weight: Tensor | None, shape: Any,
             density: bool) -> Tensor:
    """The histogram of rows (n, d), whose weights must have a shape; as a density it is divided by
    its sum and the boxes' sizes."""
    if weight is not None:
        if weight._a.shape != shape:
            raise RuntimeError(
                "torch.histogramdd: if weight tensor is provided it should have the same shape as "
                "the input tensor excluding its innermost dimension, but got input with shape "
                f"{list(rows._a.shape)} and weight with shape {list(weight._a.shape)}")
        if weight._a.dtype != x._a.dtype:
            raise RuntimeError("torch.histogramdd: if weight tensor is provided, input tensor and "
                               f"weight tensor should have the same dtype, {x.dtype} and not "
                               f"{weight.dtype}")
        weight = T.reshape(weight, (-1,))
    hist = T.histogram(rows, weight, *edges)
    if density:
        hist = T.div(hist, T.sum_all(hist))
        for d, e in enumerate(edges):
            widths = T.sub(e[1:], e[:-1])
            hist = T.div(hist, T.reshape(widths, (-1,) + (1,) * (len(edges) - d - 1)))
    return hist


def _check_histogram(x: Tensor) -> None:
    if x._a.dtype not in dtypes.WHOLE:
        raise _not_implemented("histogramdd", x, "convert to float32 or float64")


def histogram(input: Tensor, bins: Any = 100, *, range: Any = None, weight: Tensor | None = None,
              density: bool = False) -> Any:
    """(how many elements lie between neighbouring edges, the edges).

    bins: how many, between the ends of range or the extremes, or the edges themselves. weight: the
    elements' weights instead of 1; density: divided by the total and the bins' widths.
    """
    _check_histogram(input)
    if isinstance(bins, Tensor) and range is not None:
        raise TypeError("histogram() received an invalid combination of arguments - range goes "
                        "with a number of bins")
    edges = _edges(input, input, bins, range, 0)
    rows = T.reshape(input, (-1, 1))
    return _histogram((_counted(input, rows, [edges], weight, input._a.shape, density), edges))


def histogramdd(input: Tensor, bins: Any, *, range: Any = None, weight: Tensor | None = None,
                density: bool = False) -> Any:
    """histogram() of points, the rows of the input's last dim: (counts, a tuple of edges).

    bins: how many in each dim, or one number for all, or the edges of each. range: low and high for
    each dim, one after the other.
    """
    _check_histogram(input)
    if input._a.ndim < 2:
        raise RuntimeError("torch.histogramdd: input tensor should have at least 2 dimensions, but "
                           f"got {input._a.ndim}")
    n = input._a.shape[-1]
    each = list(bins) if isinstance(bins, tuple | list) else [bins] * n
    if len(each) != n:
        raise RuntimeError("histogramdd: The size of bins must be equal to the innermost dimension "
                           f"of the input, {n} and not {len(each)}")
    if range is not None and len(range) != 2 * n:
        raise RuntimeError(f"torch.histogramdd: for a {n}-dimensional histogram range should have "
                           f"{2 * n} elements, but got {len(range)}")
    rows = T.reshape(input, (-1, n))
    edges = [_edges(input, T.select(rows, dim=1, index=d), b,
                    None if range is None else range[2 * d:2 * d + 2], d)
             for d, b in enumerate(each)]
    counts = _counted(input, rows, edges, weight, input._a.shape[:-1], density)
    return _histogramdd((counts, tuple(edges)))


# Refused -----------------------------------------------------------------------------------------


def hash_tensor(input: Tensor, dim: Any = (), *, keepdim: bool = False, mode: int = 0) -> Tensor:
    raise NotImplementedError("hash_tensor is not supported: take hash(x.numpy().tobytes())")


def segment_reduce(data: Tensor, reduce: str, **kw: Any) -> Tensor:
    raise NotImplementedError("segment_reduce is not supported: take scatter_reduce with the "
                              "number of each element's segment")
