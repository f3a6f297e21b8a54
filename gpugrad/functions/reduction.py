"""Reductions with PyTorch's arguments."""
from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.functions.arguments import as_, cast, dim_of, dims_of, return_type
from gpugrad.functions.types import promote_types
from gpugrad.ops.reduction import count

_max, _min = return_type("max", "values", "indices"), return_type("min", "values", "indices")
_aminmax = return_type("aminmax", "min", "max")


def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over dim: an int, a tuple, or None for all. Integers are summed as int64."""
    if dtype is not None:
        input = as_(input, dtype)
        if input._a.dtype.kind in "iub":
            return cast(sum(input, dim, keepdim), dtypes.as_dtype(dtype).np)
    dims = None if dim is None else dims_of(dim, input._a.ndim)
    if dims is None and not keepdim:
        return T.sum_all(input)
    return T.sum(input, dim=dims, keepdim=keepdim)


def _check_floating(x: Tensor, name: str) -> None:
    if x._a.dtype.kind not in dtypes.INEXACT:
        raise RuntimeError(f"{name}(): could not infer output dtype. Input dtype must be either a "
                           f"floating point or complex dtype. Got: {dtypes.type_name(x._a.dtype)}")


def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over dim: an int, a tuple, or None for all."""
    if dtype is not None:
        input = as_(input, dtype)
    _check_floating(input, "mean")
    dims = dims_of(dim, input._a.ndim)
    if dims is None and not keepdim:
        return T.mean_all(input)
    return T.mean(input, dim=dims, keepdim=keepdim)


def _correction(dim: Any, unbiased: Any, correction: Any) -> tuple[Any, float]:
    if isinstance(dim, bool):                    # the older signature var(unbiased)
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    return dim, correction


def var(input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: Any = None) -> Tensor:
    """The variance over dim, divided by count - correction (default 1)."""
    dim, correction = _correction(dim, unbiased, correction)
    _check_std(input)
    return T.var(input, dim=dims_of(dim, input._a.ndim), correction=correction, keepdim=keepdim)


def std(input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: Any = None) -> Tensor:
    """The square root of var()."""
    dim, correction = _correction(dim, unbiased, correction)
    _check_std(input)
    return T.std(input, dim=dims_of(dim, input._a.ndim), correction=correction, keepdim=keepdim)


def _check_std(x: Tensor) -> None:
    if x._a.dtype.kind not in dtypes.INEXACT:
        raise RuntimeError("std and var only support floating point and complex dtypes, got "
                           f"{dtypes.type_name(x._a.dtype)}")


def var_mean(input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: Any = None) -> Any:
    """(var(), mean()) over dim."""
    dim, correction = _correction(dim, unbiased, correction)
    _check_std(input)
    return T.var_mean(input, dim=dims_of(dim, input._a.ndim), correction=correction,
                      keepdim=keepdim)


def std_mean(input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: Any = None) -> Any:
    """(std(), mean()) over dim."""
    dim, correction = _correction(dim, unbiased, correction)
    _check_std(input)
    return T.std_mean(input, dim=dims_of(dim, input._a.ndim), correction=correction,
                      keepdim=keepdim)


def prod(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The product over one dim, or all."""
    input = as_(input, dtype)
    if dtype is not None and input._a.dtype.kind in "iub":
        return cast(prod(input, dim, keepdim), dtypes.as_dtype(dtype).np)
    d = None if dim is None else dim_of(dim, input._a.ndim)
    if d is None or not input._a.ndim:
        return T.prod_all(input)
    return T.prod(input, dim=d, keepdim=keepdim)


def _check_nonempty(x: Tensor, name: str, dims: tuple[int, ...] | None,
                    all_error: Any = RuntimeError) -> None:
    """An empty set has no largest element: raise, for all dims (None) or the first such one."""
    if x._a.size:
        return
    if dims is None:
        raise all_error(f"{name}(): Expected reduction dim to be specified for input.numel() == 0. "
                        "Specify the reduction dim with the 'dim' argument.")
    for d in dims:
        if x._a.shape[d] == 0:
            raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")


def _not_implemented(x: Tensor, name: str) -> NotImplementedError:
    return NotImplementedError(f"\"{name}\" not implemented for '{dtypes.type_name(x._a.dtype)}': "
                               "complex numbers have no order")


def _extreme(x: Tensor, dim: Any, keepdim: bool, name: str, kind: Any) -> Any:
    if isinstance(dim, Tensor):
        return getattr(T, name + "imum")(x, dim)
    if dim is None:
        _check_nonempty(x, name, None)
        if x._a.dtype.kind == "c":
            raise _not_implemented(x, name + "_all")
        return getattr(T, name + "_all")(x)
    d = dim_of(dim, x._a.ndim)
    _check_nonempty(x, name, (d,))
    if x._a.dtype.kind == "c":
        raise RuntimeError(f"{name}(): does not support complex input")
    if x._a.ndim == 0:
        return kind((x.clone(), wrap(x._be.xp.zeros((), np.int64), x._be)))
    return kind(getattr(T, name)(x, dim=d, keepdim=keepdim))


def max(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The maximum of all; (values, indices) along a dim; or, given a tensor, elementwise maxima."""
    return _extreme(input, dim if other is None else other, keepdim, "max", _max)


def min(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The minimum of all; (values, indices) along a dim; or, given a tensor, elementwise minima."""
    return _extreme(input, dim if other is None else other, keepdim, "min", _min)


def amax(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Maxima over one dim or several; ties share the gradient."""
    dims = dims_of(dim, input._a.ndim)
    _check_nonempty(input, "amax", dims)
    if input._a.dtype.kind == "c":
        raise _not_implemented(input, "max_values_cpu")
    return T.amax(input, dim=dims, keepdim=keepdim)


def amin(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Minima over one dim or several; ties share the gradient."""
    dims = dims_of(dim, input._a.ndim)
    _check_nonempty(input, "amin", dims)
    if input._a.dtype.kind == "c":
        raise _not_implemented(input, "min_values_cpu")
    return T.amin(input, dim=dims, keepdim=keepdim)


def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """(minima, maxima) along a dim, or of all."""
    d = None if dim is None else dim_of(dim, input._a.ndim)
    if not input._a.size:
        if d is None:
            raise RuntimeError("aminmax(): cannot compute aminmax over an empty dimension as the "
                               "operation has no identity.")
        if not input._a.shape[d]:
            raise IndexError(f"aminmax: Expected reduction dim {d} to have non-zero size.")
    if input._a.dtype.kind == "c":
        raise _not_implemented(input, "aminmax_cpu")
    dims = None if d is None or not input._a.ndim else (d,)
    return _aminmax(T.aminmax(input, dim=dims, keepdim=keepdim))


def _index_of_extreme(x: Tensor, dim: Any, keepdim: bool, name: str) -> Tensor:
    if x._a.dtype.kind in "bc":
        raise RuntimeError(f"{name}(): does not support "
                           f"{'bool' if x._a.dtype.kind == 'b' else 'complex'} input")
    d = None if dim is None else dim_of(dim, x._a.ndim)
    _check_nonempty(x, name, None if d is None else (d,), IndexError)
    return getattr(T, name)(x, dim=d if x._a.ndim else None, keepdim=keepdim)


def argmax(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The index of the first maximum, along dim or in the flattened tensor."""
    return _index_of_extreme(input, dim, keepdim, "argmax")


def argmin(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The index of the first minimum, along dim or in the flattened tensor."""
    return _index_of_extreme(input, dim, keepdim, "argmin")


def _logical(x: Tensor, dim: Any, keepdim: bool, name: str) -> Tensor:
    """all or any; over no dims, which an empty list says here, each element by itself."""
    ndim = x._a.ndim
    if isinstance(dim, Sequence) and not dim and ndim:
        r = T.ne(x, 0)
    else:
        r = getattr(T, name)(x, dim=dims_of(dim, ndim), keepdim=keepdim)
    return T.to(r, dtype=x._a.dtype) if x._a.dtype == dtypes.uint8.np else r


def all(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Are all elements true?"""
    return _logical(input, dim, keepdim, "all")


def any(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Is any element true?"""
    return _logical(input, dim, keepdim, "any")


def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """log(sum(exp(input))) over dim, without overflow."""
    if input._a.dtype.kind in "iub":
        input = cast(input, dtypes.default_np())
    if dim is None:
        raise TypeError("logsumexp(): argument 'dim' must be tuple of ints, not NoneType")
    dims = dims_of(dim, input._a.ndim)
    dims = tuple(range(input._a.ndim)) if dims is None else dims
    return T.logsumexp(input, dim=dims, keepdim=keepdim)


def norm(input: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False,
         dtype: Any = None) -> Tensor:
    """The p-norm of the elements over dim: p is a number, inf, -inf, 0 or "fro" (2)."""
    if input._a.dtype.kind not in dtypes.INEXACT:
        raise RuntimeError("linalg.vector_norm: Expected a floating point or complex tensor as "
                           f"input. Got {dtypes.type_name(input._a.dtype)}")
    if p == "nuc":
        from gpugrad.functions.linalg_norms import matrix_norm
        dims = tuple(range(input._a.ndim)) if dim is None else dim
        return matrix_norm(input, "nuc", dims, keepdim, dtype=dtype)
    if dtype is not None and not (dtypes.as_dtype(dtype).is_floating_point
                                  or dtypes.as_dtype(dtype).is_complex):
        raise RuntimeError("linalg.vector_norm: dtype should be floating point or complex, but "
                           f"got {dtypes.type_name(dtypes.as_dtype(dtype).np)}")
    if dtype is not None and not input.is_complex() and dtypes.as_dtype(dtype).is_complex:
        raise RuntimeError("linalg.vector_norm: dtype should be real for real inputs, but got "
                           f"{dtypes.type_name(dtypes.as_dtype(dtype).np)}")
    if dtype is not None and input.is_complex() and not dtypes.as_dtype(dtype).is_complex:
        raise RuntimeError("linalg.vector_norm: dtype should be complex for complex inputs, but "
                           f"got {dtypes.type_name(dtypes.as_dtype(dtype).np)}")
    if dtype is not None and promote_types(input.dtype, dtype) is not dtype:
        raise RuntimeError("linalg.vector_norm: the dtype of the input "
                           f"({dtypes.type_name(input._a.dtype)}) should be convertible without "
                           "narrowing to the specified dtype "
                           f"({dtypes.type_name(dtypes.as_dtype(dtype).np)})")
    x, dims = as_(input, dtype), dims_of(dim, input._a.ndim)
    if isinstance(p, str) and p != "fro":
        raise RuntimeError(f"linalg.matrix_norm: Order {p} not supported.")
    p = 2 if p == "fro" or p is None else p
    if (math.isinf(p) or p < 0) and count(x._a.shape, dims) == 0:
        raise RuntimeError(f"linalg.vector_norm cannot compute the {p:g} norm on an empty tensor "
                           "because the operation does not have an identity")
    return T.vector_norm(x, p=p, dim=dims, keepdim=keepdim)


def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements are not zero."""
    return sum(input != 0, dim)


def numel(input: Tensor) -> int:
    """How many elements."""
    return builtins.int(input._a.size)
