"""Distances between vectors, covariances, cross products, and rows brought to a norm."""
from __future__ import annotations

import warnings
from typing import Any

from gpugrad import dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions import linalg
from gpugrad.functions.arguments import cast, common, dim_of
from gpugrad.ops.matmul import MANY

_MODES = ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist",
          "donot_use_mm_for_euclid_dist")


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = _MODES[0]) -> Tensor:
    """The distances of every row of x1 and every row of x2, by batch."""
    for name, x in (("X1", x1), ("X2", x2)):
        if x._a.ndim < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, {name} got: "
                               f"{x._a.ndim}D")
    if x1._a.shape[-1] != x2._a.shape[-1]:
        raise RuntimeError("X1 and X2 must have the same number of columns. X1: "
                           f"{x1._a.shape[-1]} X2: {x2._a.shape[-1]}")
    for name, x in (("X1", x1), ("X2", x2)):
        if x._a.dtype.kind not in dtypes.FLOATING:
            raise RuntimeError(f"cdist only supports floating-point dtypes, {name} got: "
                               f"{type_name(x._a.dtype)}")
    if compute_mode not in _MODES:
        raise ValueError(f"{compute_mode} is not a valid value for compute_mode")
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    a, b = common(x1, x2)
    m, n = a._a.shape[-2], b._a.shape[-2]
    product = p == 2 and compute_mode != _MODES[2] and (
        compute_mode == _MODES[1] or m > MANY or n > MANY)
    batch = a._be.xp.broadcast_shapes(a._a.shape[:-2], b._a.shape[:-2])
    a, b = (x if x._a.shape[:-2] == batch else x.expand(*batch, *x._a.shape[-2:]) for x in (a, b))
    return T.cdist(a, b, p=p, product=product)


def dist(input: Tensor, other: Tensor, p: Any = 2) -> Tensor:
    """The p-norm of the difference of two tensors."""
    a = input - other
    if a._a.dtype.kind not in dtypes.INEXACT:
        raise RuntimeError("linalg.vector_norm: Expected a floating point or complex tensor as "
                           f"input. Got {type_name(a._a.dtype)}")
    return T.vector_norm(a, p=p)


def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The vectors at right angles to pairs of vectors of 3; along the first dim of 3 by default."""
    if dim is None:
        found = [d for d, n in enumerate(input._a.shape) if n == 3]
        if not found:
            raise RuntimeError("no dimension of size 3 in input")
        warnings.warn("Using torch.cross without specifying the dim arg is deprecated: pass dim, "
                      "or use torch.linalg.cross, whose default is the last one", stacklevel=3)
        dim = found[0]
    return linalg.cross(input, other, dim=dim)


# Covariances -------------------------------------------------------------------------------------


def _weights(w: Tensor, x: Tensor, name: str) -> None:
    if w._a.ndim > 1:
        raise RuntimeError(f"cov(): expected {name} to have one or fewer dimensions but got {name} "
                           f"with {w._a.ndim} dimensions")
    whole = name == "fweights"
    if (w._a.dtype.kind not in "iu") if whole else (w._a.dtype.kind not in dtypes.FLOATING):
        kind = "integral" if whole else "floating point"
        raise RuntimeError(f"cov(): expected {name} to have {kind} dtype but got {name} with "
                           f"{type_name(w._a.dtype)} dtype")
    if w._a.size != x._a.shape[1]:
        raise RuntimeError(f"cov(): expected {name} to have the same numel as there are "
                           f"observations in the input but got {w._a.size} != {x._a.shape[1]}")
    if w._be.index == 0 and w._a.size and w._a.min() < 0:
        raise RuntimeError(f"cov(): {name} cannot be negative")


def cov(input: Tensor, *, correction: int = 1, fweights: Tensor | None = None,
        aweights: Tensor | None = None) -> Tensor:
    """The covariances of the rows, whose columns are observations; with counts and weights."""
    if input._a.ndim > 2:
        raise RuntimeError("cov(): expected input to have two or fewer dimensions but got an input "
                           f"with {input._a.ndim} dimensions")
    if input._a.dtype.kind == "b":
        raise RuntimeError("cov(): bool dtype is not supported for input")
    x = input if input._a.ndim == 2 else input.reshape(1, -1)
    if x._a.dtype.kind in "iu":
        x = cast(x, dtypes.default_np())
    w: Any = None
    if fweights is not None:
        _weights(fweights, x, "fweights")
        w = fweights
    if aweights is not None:
        _weights(aweights, x, "aweights")
        w = aweights if w is None else w * aweights
    total: Any = x._a.shape[1] if w is None else w.sum()
    if w is None or aweights is None or correction == 0:
        free = total - correction
    else:
        free = total - correction * (w * aweights).sum() / total
    mean = (x if w is None else x * w).sum(1, keepdim=True) / total
    number = float(free.item()) if isinstance(free, Tensor) and free._be.index == 0 else free
    if not isinstance(number, Tensor) and number <= 0:
        warnings.warn("cov(): degrees of freedom is <= 0. Correction should be strictly less than "
                      "the number of observations.", stacklevel=3)
        free = 0
    apart = x - mean
    other = apart if w is None else apart * w
    out = T.mm(apart, cast(T.t(T.conj_physical(other) if other.is_complex() else other),
                           apart._a.dtype)) / free
    return T.squeeze(out, dim=tuple(d for d in (0, 1) if out._a.shape[d] == 1))


def corrcoef(input: Tensor) -> Tensor:
    """The correlations of the rows, whose columns are observations."""
    if input._a.ndim > 2:
        raise RuntimeError("corrcoef(): expected input to have two or fewer dimensions but got an "
                           f"input with {input._a.ndim} dimensions")
    c = cov(input)
    if not c._a.ndim:
        return c / c
    d = T.diagonal(c, offset=0, dim1=0, dim2=1)
    deviation = T.sqrt(T.real(d) if c.is_complex() else d)
    c = c / T.unsqueeze(deviation, dim=1) / deviation
    if c.is_complex():
        return T.complex(T.clamp(T.real(c), min=-1, max=1), T.clamp(T.imag(c), min=-1, max=1))
    return T.clamp(c, min=-1, max=1)


# Norms of parts ----------------------------------------------------------------------------------


def _renorm_factor(x: Tensor, p: Any, dim: int, maxnorm: Any) -> Tensor:
    if p <= 0:
        raise RuntimeError("renorm: non-positive-norm not supported")
    if maxnorm < 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    n = x._a.ndim
    if n < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {n} dimensions")
    if x._a.dtype.kind not in dtypes.INEXACT:
        raise RuntimeError("linalg.vector_norm: Expected a floating point or complex tensor as "
                           f"input. Got {type_name(x._a.dtype)}")
    d = dim_of(dim, n)
    norm = T.vector_norm(x, p=p, dim=tuple(i for i in range(n) if i != d), keepdim=True)
    over = wrap(norm._be.xp.asarray(norm._a > maxnorm), norm._be)
    share = maxnorm / (norm + 1e-7)
    one = T.shift(T.zeros_like(norm), number=1)
    return T.where(over, share, one)


def renorm(input: Tensor, p: Any, dim: int, maxnorm: Any) -> Tensor:
    """The parts along a dim whose p-norm is above maxnorm brought down to it."""
    return input * _renorm_factor(input, p, dim, maxnorm)


def renorm_(x: Tensor, p: Any, dim: int, maxnorm: Any) -> Tensor:
    # the norms are of what x was
    return T.mul_(x, _renorm_factor(x if x._edge is None else T.clone(x), p, dim, maxnorm))
