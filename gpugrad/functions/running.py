"""Running sums, products and extremes, differences and integrals along a dim."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions import pointwise
from gpugrad.functions.arguments import cast, common, dim_of, dims_of, return_type
from gpugrad.functions.pointwise import Number
from gpugrad.functions.shape import cat

_cummax, _cummin = (return_type(name, "values", "indices") for name in ("cummax", "cummin"))


# Running results ---------------------------------------------------------------------------------


def _check_numbers(x: Tensor, name: str) -> None:
    if x._a.dtype.kind == "b":
        raise NotImplementedError(f"\"{name}_out_cpu\" not implemented for 'Bool': take integers")


def _run(name: str, x: Tensor, dim: int, dtype: Any) -> Tensor:
    """cumsum or cumprod; integers become int64 unless a dtype is given."""
    d = dim_of(dim, x._a.ndim)
    if dtype is None and x._a.dtype.kind in "iub":
        dtype = dtypes.int64
    if dtype is not None:
        wanted = dtypes.as_dtype(dtype).np
        x = cast(x, wanted)
        _check_numbers(x, name)
    if not x._a.ndim:
        return T.clone(x)
    out = getattr(T, name)(x, dim=d)
    return out if dtype is None else cast(out, wanted)


def _run_in_place(name: str, x: Tensor, dim: int, dtype: Any) -> Tensor:
    d = dim_of(dim, x._a.ndim)
    if dtype is not None and dtypes.as_dtype(dtype) != x.dtype:
        raise RuntimeError("Bad in-place call: input tensor dtype "
                           f"{type_name(x._a.dtype)} and output tensor dtype "
                           f"{type_name(dtypes.as_dtype(dtype).np)} should match")
    _check_numbers(x, name[:-1])
    return getattr(T, name)(x, dim=d) if x._a.ndim else x


def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Running sums along dim."""
    return _run("cumsum", input, dim, dtype)


def cumsum_(x: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    return _run_in_place("cumsum_", x, dim, dtype)


def cumprod(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Running products along dim."""
    return _run("cumprod", input, dim, dtype)


def cumprod_(x: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    return _run_in_place("cumprod_", x, dim, dtype)


def _running_extreme(x: Tensor, dim: int, name: str, kind: Any) -> Any:
    d = dim_of(dim, x._a.ndim)
    if x._a.dtype.kind == "c":
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for "
                                  f"'{type_name(x._a.dtype)}': complex numbers have no order")
    if not x._a.ndim:
        return kind((T.clone(x), wrap(x._be.xp.zeros((), np.int64), x._be)))
    return kind(getattr(T, name)(x, dim=d))


def cummax(input: Tensor, dim: int) -> Any:
    """(running maxima along dim, where they were found)."""
    return _running_extreme(input, dim, "cummax", _cummax)


def cummin(input: Tensor, dim: int) -> Any:
    """(running minima along dim, where they were found)."""
    return _running_extreme(input, dim, "cummin", _cummin)


def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """The logarithm of running sums of exp(input) along dim, without overflow."""
    d = dim_of(dim, input._a.ndim)
    if input._a.dtype.kind in "iub":
        raise NotImplementedError("\"logcumsumexp_out_cpu\" not implemented for "
                                  f"'{type_name(input._a.dtype)}': convert to a floating dtype")
    return T.logcumsumexp(input, dim=d) if input._a.ndim else T.clone(input)


# Differences -------------------------------------------------------------------------------------


def _part(x: Tensor, dim: int, start: int, stop: int) -> Tensor:
    """start:stop of a dim; numbers below 0 count from the end."""
    n = x._a.shape[dim]
    start, stop = (max(i + n, 0) if i < 0 else min(i, n) for i in (start, stop))
    return T.slice_(x, dim=dim, start=start, stop=max(start, stop))


def _steps(x: Tensor, dim: int) -> Tensor:
    """Each element minus the one before; of bools, whether they differ."""
    late, early = _part(x, dim, 1, x._a.shape[dim]), _part(x, dim, 0, -1)
    return T.logical_xor(late, early) if x._a.dtype.kind == "b" else T.sub(late, early)


def diff(input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None,
         append: Tensor | None = None) -> Tensor:
    """The n-th differences of neighbours along dim, of the input with others before and after it.
    """
    if not input._a.ndim:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    d = dim_of(dim, input._a.ndim)
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    parts = [p for p in (prepend, input, append) if p is not None]
    for part in parts:
        if part._a.ndim != input._a.ndim:
            raise RuntimeError("diff expects prepend or append to be the same dimension as input, "
                               f"but got {part._a.ndim} and {input._a.ndim} dims")
        for i, (p, s) in enumerate(zip(part._a.shape, input._a.shape)):
            if p != s and i != d:
                raise RuntimeError(
                    "diff expects the shape of tensor to prepend or append to match that of input "
                    f"except along the differencing dimension; input.size({i}) = {s}, but got "
                    f"tensor.size({i}) = {p}")
    if n == 0:
        return T.clone(input)
    x = cat(parts, d) if len(parts) > 1 else input
    for _ in range(min(n, x._a.shape[d])):
        x = _steps(x, d)
    return x


# Gradients of sampled functions ------------------------------------------------------------------


def _coordinates(name: str, spacing: Any, dims: tuple[int, ...], input: Tensor,
                 dim: Any) -> list[Any]:
    """For each dim the distance between samples, or a tensor of their places."""
    if isinstance(spacing, Number) or spacing is None:
        return [1 if spacing is None else spacing] * len(dims)
    if isinstance(spacing, Tensor) or not isinstance(spacing, Sequence) or isinstance(spacing, str):
        raise TypeError("gradient() received an invalid combination of arguments - spacing must "
                        "be a number, or a list of numbers or of tensors, not "
                        f"{type(spacing).__name__}")
    if len(spacing) != len(dims):
        given = f"'self.dim() = {len(dims)}', since dim argument was not given" if dim is None \
            else f"the dim argument, {len(dims)}"
        raise RuntimeError("torch.gradient expected spacing to be unspecified, a scalar, or a list "
                           f"of length equal to {given}, but got a list of length {len(spacing)}")
    for s, d in zip(spacing, dims):
        if isinstance(s, Tensor) and s._a.shape != (input._a.shape[d],):
            raise RuntimeError("torch.gradient expected each element of spacing to have a place "
                               f"for each sample, {input._a.shape[d]} in dim {d}, but got the "
                               f"shape {list(s._a.shape)}")
    return list(spacing)


def _along(v: Tensor, ndim: int, dim: int) -> Tensor:
    """A vector as a tensor that broadcasts along a dim."""
    return T.reshape(v, (1,) * dim + (-1,) + (1,) * (ndim - dim - 1))


def _even_gradient(x: Tensor, d: int, h: float, edge_order: int) -> Tensor:
    n = x._a.shape[d]
    inner = pointwise.div(T.sub(_part(x, d, 2, n), _part(x, d, 0, -2)), 2 * h)
    if edge_order == 1:
        first = pointwise.div(T.sub(_part(x, d, 1, 2), _part(x, d, 0, 1)), h)
        last = pointwise.div(T.sub(_part(x, d, -1, n), _part(x, d, -2, -1)), h)
    else:
        a, b, c = (_part(x, d, i, i + 1) for i in range(3))
        first = pointwise.div(b * 2 - a * 1.5 - c * 0.5, h)
        a, b, c = (_part(x, d, n - i, n - i + 1) for i in (1, 2, 3))
        last = pointwise.div(a * 1.5 - b * 2 + c * 0.5, h)
    return cat([first, inner, last], d)


def _uneven_gradient(x: Tensor, d: int, at: Tensor, edge_order: int) -> Tensor:
    """By the parabola through three neighbours; at the edges by a line, or a parabola too."""
    n, ndim = x._a.shape[d], x._a.ndim
    step = _steps(cast(at, np.result_type(at._a.dtype, x._a.dtype)) if at._a.dtype.kind in "iub"
                  else at, 0)
    h = _along(step, ndim, d)
    before, after = _part(h, d, 0, -1), _part(h, d, 1, n - 1)
    slopes = T.div(_steps(x, d), h)
    left, right = _part(slopes, d, 0, -1), _part(slopes, d, 1, n - 1)
    both = T.add(before, after)
    inner = T.div(T.add(T.mul(left, after), T.mul(right, before)), both)
    first, last = _part(slopes, d, 0, 1), _part(slopes, d, -1, n)
    if edge_order == 2:
        bend = T.div(T.sub(right, left), both)
        first = T.sub(first, T.mul(_part(bend, d, 0, 1), _part(h, d, 0, 1)))
        last = T.add(last, T.mul(_part(bend, d, -1, n), _part(h, d, -1, n)))
    return cat([first, inner, last], d)


def gradient(input: Tensor, *, spacing: Any = None, dim: Any = None,
             edge_order: int = 1) -> tuple[Tensor, ...]:
    """The derivatives of a sampled function along dims, of the second order of exactness.

    spacing: the distance between samples, one for each dim, or tensors of their places.
    """
    if input._a.dtype == np.uint8:
        raise RuntimeError("torch.gradient does not support uint8 input: convert it to int64 or a "
                           "floating dtype")
    dims = dims_of(dim, input._a.ndim)
    if not input._a.ndim and dim is not None:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    dims = tuple(range(input._a.ndim)) if dims is None else dims
    given = _coordinates("gradient", spacing, dims, input, dim)
    if edge_order not in (1, 2):
        raise RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2.")
    if any([input._a.shape[d] <= edge_order for d in dims]):
        raise RuntimeError("torch.gradient expected each dimension size to be at least "
                           "edge_order+1")
    if input._a.dtype.kind == "b" and dims:
        raise RuntimeError("Subtraction, the `-` operator, with two bool tensors is not supported. "
                           "Use the `^` or `logical_xor()` operator instead.")
    return tuple([_uneven_gradient(input, d, s, edge_order) if isinstance(s, Tensor)
                  else _even_gradient(input, d, s, edge_order) for s, d in zip(given, dims)])


# Integrals ---------------------------------------------------------------------------------------


def _check_samples(name: str, y: Tensor, x: Tensor | None, dx: Any) -> None:
    if x is not None and dx is not None:
        raise TypeError(f"{name}() received an invalid combination of arguments - got both x and "
                        "dx: give one of them")
    if not (dx is None or type(dx) in (int, float) or isinstance(dx, np.number)):
        raise (RuntimeError if isinstance(dx, bool | complex) else TypeError)(
            f"{name}: Currently, we only support dx as a real number.")
    for which, v in (("y", y), ("x", x)):
        if v is not None and v._a.dtype.kind == "b":
            raise RuntimeError(f"{name}: received a bool input for `{which}`, but bool is not "
                               "supported")


def _widths(name: str, x: Tensor, y: Tensor, d: int) -> Tensor:
    """The distances between the places x of samples along d."""
    n = y._a.shape[d]
    if x._a.ndim == 1:
        if x._a.shape[0] != n:
            raise RuntimeError(f"{name}: There must be one `x` value for each sample point, "
                               f"{n} and not {x._a.shape[0]}")
        return _along(_steps(x, 0), y._a.ndim, d)
    own = d - y._a.ndim + x._a.ndim
    if own < 0 or x._a.shape[own] not in (1, n):
        raise RuntimeError(f"{name}: There must be one `x` value for each sample point, but "
                           f"the shapes are {list(x._a.shape)} and {list(y._a.shape)}")
    return _steps(x, own)


def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """The integral of samples along dim by trapezoids; x: where they were taken; dx: how far apart.
    """
    d, n = _dim_of_samples("trapezoid", y, dim)
    if not n:
        return y.new_zeros(y._a.shape[:d] + y._a.shape[d + 1:])
    _check_samples("trapezoid", y, x, dx)
    if x is None:
        ends = T.add(T.select(y, dim=d, index=0), T.select(y, dim=d, index=n - 1))
        total = T.sub(T.sum(y, dim=(d,)), T.mul(ends, 0.5))
        return pointwise.mul(total, 1 if dx is None else dx)
    return T.div(T.sum(T.mul(*common(_widths("trapezoid", x, y, d), _heights(y, d))), dim=(d,)), 2)


def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None,
                         dim: int = -1) -> Tensor:
    """The integrals by trapezoids up to each sample but the first."""
    d, _ = _dim_of_samples("cumulative_trapezoid", y, dim)
    _check_samples("cumulative_trapezoid", y, x, dx)
    if x is None:
        return cumsum(pointwise.mul(_heights(y, d), (1 if dx is None else dx) / 2), d)
    areas = T.mul(*common(_widths("cumulative_trapezoid", x, y, d), _heights(y, d)))
    return T.div(cumsum(areas, d), 2)


def _heights(y: Tensor, d: int) -> Tensor:
    """Twice the middle heights between neighbouring samples along d."""
    return T.add(_part(y, d, 0, -1), _part(y, d, 1, y._a.shape[d]))


def _dim_of_samples(name: str, y: Tensor, dim: int) -> tuple[int, int]:
    """(the dim counted from the front, how many samples it has)."""
    d = dim_of(dim, y._a.ndim)
    if not y._a.ndim:
        raise IndexError(f"{name}: Dimension specified as {dim} but tensor has no dimensions")
    return d, y._a.shape[d]


def trapz(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """trapezoid()."""
    return trapezoid(y, x, dx=dx, dim=dim)
