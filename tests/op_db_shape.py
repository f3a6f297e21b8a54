"""The records of views by strides, rearrangements, and of writing by places. See op_db.py."""
from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from op_db import Array, Case, Draw, adjoint, bad, case, record

# Views -------------------------------------------------------------------------------------------


def memory(x: Array, strides: Any) -> Array:
    """x in a vector of these strides, in elements."""
    out = np.zeros(1 + sum((n - 1) * s for n, s in zip(x.shape, strides)))
    for at in np.ndindex(*x.shape):
        out[sum(i * s for i, s in zip(at, strides))] = x[at]
    return out


def by_strides(x: Array, size: Any, stride: Any, start: int, strides: Any) -> Array:
    flat, out = memory(x, strides), np.zeros(size)
    for at in np.ndindex(*size):
        out[at] = flat[start + sum(i * s for i, s in zip(at, stride))]
    return out


STRIDES: list[dict[str, Any]] = [
    {"size": (2, 2), "stride": (1, 3), "start": 1, "strides": (4, 1)},
    {"size": (3, 2), "stride": (1, 1), "start": 0, "strides": (4, 1)},
    {"size": (2,), "stride": (0,), "start": 5, "strides": (1, 3)},
    {"size": (0, 2), "stride": (1, 1), "start": 0, "strides": (4, 1)}]

record("as_strided", by_strides, lambda d: [
    *[case(d.real(3, 4), **kw) for kw in STRIDES],
    case(d.real(), size=(1, 1), stride=(1, 1), start=0, strides=())])
record("as_strided_backward", lambda g, shape, **kw:
       adjoint(lambda x: by_strides(x, **kw), shape, g), lambda d: [
    case(d.real(*kw["size"]), shape=(3, 4), **kw) for kw in STRIDES])


def write_strides(x: Array, src: Array, **kw: Any) -> Array:
    at = by_strides(np.arange(x.size, dtype=float).reshape(x.shape), **kw).astype(int)
    out = x.copy()
    out.reshape(-1)[at.reshape(-1)] = src.reshape(-1)
    return out


record("as_strided_scatter", write_strides, lambda d: [
    case(d.real(3, 4), d.real(*kw["size"]), **kw) for kw in (STRIDES[0], STRIDES[3])],
    bad(RuntimeError, "outside", np.ones((2, 2)), np.ones(9), size=(9,), stride=(1,), start=0,
        strides=(2, 1)))


def windows(x: Array, dim: int, size: int, step: int) -> Array:
    parts = [np.take(x, range(i, i + size), dim)
             for i in range(0, x.shape[dim] - size + 1, step)]
    return np.stack([np.moveaxis(p, dim, -1) for p in parts], dim)


WINDOWS = [{"dim": 0, "size": 2, "step": 1}, {"dim": 1, "size": 3, "step": 2},
           {"dim": 1, "size": 5, "step": 1}, {"dim": 0, "size": 1, "step": 3}]
record("unfold_dim", windows, lambda d: [case(d.real(4, 5), **kw) for kw in WINDOWS])
record("unfold_backward", lambda g, shape, **kw:
       adjoint(lambda x: windows(x, **kw), shape, g), lambda d: [
    case(d.real(*windows(np.zeros((4, 5)), **kw).shape), shape=(4, 5), **kw) for kw in WINDOWS])

# Copies with one view written over ---------------------------------------------------------------


def written(x: Array, src: Array, view: Any) -> Array:
    out = x.copy()
    view(out)[...] = src
    return out


record("select_scatter", lambda x, src, dim, index:
       written(x, src, lambda a: np.moveaxis(a, dim, 0)[index, ...]), lambda d: [
    case(d.real(3, 4), d.real(4), dim=0, index=1), case(d.real(3, 4), d.real(3), dim=1, index=3),
    case(d.real(3), d.real(), dim=0, index=0)])
record("slice_scatter", lambda x, src, dim, start, stop, step:
       written(x, src, lambda a: np.moveaxis(np.moveaxis(a, dim, 0)[start:stop:step], 0, dim)),
       lambda d: [
    case(d.real(3, 4), d.real(2, 4), dim=0, start=1, stop=3, step=1),
    case(d.real(3, 4), d.real(3, 2), dim=1, start=0, stop=4, step=2),
    case(d.real(3, 4), d.real(0, 4), dim=0, start=1, stop=1, step=1)])


def on_diagonal(x: Array, src: Array, offset: int, dim1: int, dim2: int) -> Array:
    out = x.copy()
    at = np.diagonal(np.arange(x.size).reshape(x.shape), offset, dim1, dim2)
    out.reshape(-1)[at.reshape(-1)] = src.reshape(-1)
    return out


record("diagonal_scatter", on_diagonal, lambda d: [
    case(d.real(3, 4), d.real(3), offset=1, dim1=0, dim2=1),
    case(d.real(2, 3, 4), d.real(3, 2), offset=-1, dim1=2, dim2=0)])


def embedded(x: Array, offset: int, dim1: int, dim2: int, n: int) -> Array:
    shape = list(x.shape[:-1])
    for dim in sorted((dim1, dim2)):
        shape.insert(dim, n)
    return on_diagonal(np.zeros(shape), x, offset, dim1, dim2)


record("diag_embed", embedded, lambda d: [
    case(d.real(3), offset=0, dim1=0, dim2=1, n=3), case(d.real(3), offset=-2, dim1=0, dim2=1, n=5),
    case(d.real(2, 3), offset=1, dim1=1, dim2=2, n=4),
    case(d.real(2, 3), offset=0, dim1=0, dim2=1, n=3),
    case(d.real(0), offset=0, dim1=0, dim2=1, n=0)])

# Rearrangements ----------------------------------------------------------------------------------

record("roll", lambda x, shifts, dims: np.roll(x, shifts, dims or None), lambda d: [
    case(d.real(3, 4), shifts=(1,), dims=(0,)), case(d.real(3, 4), shifts=(5, -1), dims=(0, 1)),
    case(d.real(3, 4), shifts=(2,), dims=()), case(d.real(), shifts=(1,), dims=()),
    case(d.real(0, 3), shifts=(1,), dims=(1,))])
record("rot90", lambda x, k, dims: np.rot90(x, k, dims), lambda d: [
    case(d.real(2, 3, 4), k=k, dims=dims)
    for k, dims in ((1, (0, 1)), (2, (1, 2)), (3, (2, 0)), (0, (0, 1)))])


def diagonal_blocks(*xs: Array) -> Array:
    out, i, j = np.zeros((sum(x.shape[0] for x in xs), sum(x.shape[1] for x in xs))), 0, 0
    for x in xs:
        out[i:i + x.shape[0], j:j + x.shape[1]] = x
        i, j = i + x.shape[0], j + x.shape[1]
    return out


record("block_diag", diagonal_blocks, lambda d: [
    case(d.real(2, 3), d.real(1, 2)), case(d.real(2, 2), d.real(0, 1), d.real(1, 1)),
    case(d.real(3, 2))])
record("clone_ordered", lambda x, order: x, lambda d: [
    case(d.real(2, 3, 2, 2), order=(0, 2, 3, 1)), case(d.real(2, 3), order=(1, 0)),
    case(d.real(2, 0, 2, 2), order=(0, 2, 3, 1))])
for name in ("split_with_sizes", "unsafe_split"):
    record(name, lambda x, sizes, dim=0: tuple(
           np.split(x, list(itertools.accumulate(sizes))[:-1], dim)), lambda d: [
        case(d.real(5, 2), sizes=(2, 2, 1)), case(d.real(2, 4), sizes=(1, 0, 3), dim=1)])

# Places in the flattened tensor ------------------------------------------------------------------


def put(x: Array, index: Array, source: Array, accumulate: bool = False) -> Array:
    out = x.copy()
    for i, v in zip(index.reshape(-1), source.reshape(-1)):
        out.reshape(-1)[i] = v + (out.reshape(-1)[i] if accumulate else 0)
    return out


record("take", lambda x, index: x.reshape(-1)[index], lambda d: [
    case(d.real(3, 4), d.index(12, 2, 5)), case(d.real(3, 4), d.index(12, 3) - 12),
    case(d.real(3), d.index(3)), case(d.real(3), d.index(3, 0))],
    bad(IndexError, "out of bounds", np.ones((2, 2)), np.array([4])))
record("put", put, lambda d: [
    case(d.real(3, 4), np.array([[7, 1], [0, -1]]), d.real(2, 2)),
    case(d.real(3, 4), np.array([7, 1, 7, 7]), d.real(4), accumulate=True),
    case(d.real(3), d.index(3, 0), d.real(0))])

# A vector of indices of one dim ------------------------------------------------------------------

SOME = np.array([2, 0])
def along(x: Array, index: Array, src: Any, dim: int) -> Array:
    out = x.copy()
    np.moveaxis(out, dim, 0)[index] = src if np.ndim(src) == 0 else np.moveaxis(src, dim, 0)
    return out


record("index_copy", along, lambda d: [
    case(d.real(3, 4), SOME, d.real(2, 4), dim=0), case(d.real(2, 3), SOME, d.real(2, 2), dim=1),
    case(d.real(3), d.index(3, 0), d.real(0), dim=0)])
record("index_fill", lambda x, index, dim, value: along(x, index, value, dim), lambda d: [
    case(d.real(3, 4), SOME, dim=0, value=2.5), case(d.real(2, 3), SOME - 3, dim=1, value=-1.0),
    case(d.real(3), d.index(3, 0), dim=0, value=1.0)])
record("index_fill_with", lambda x, index, value, dim: along(x, index, value, dim), lambda d: [
    case(d.real(3, 4), np.array([2, 0, 2]), d.real(), dim=0),
    case(d.real(3), d.index(3, 0), d.real(), dim=0)])

# Masks -------------------------------------------------------------------------------------------


def pour(x: Array, mask: Array, source: Array) -> Array:
    x, mask = (a.copy() for a in np.broadcast_arrays(x, mask))
    x[mask] = source.reshape(-1)[:mask.sum()]
    return x


record("masked_select", lambda x, mask: np.broadcast_arrays(x, mask)[0][
    np.broadcast_arrays(x, mask)[1]], lambda d: [
    case(d.real(3, 4), d.mask(3, 4)), case(d.real(3, 4), d.mask(3, 1)),
    case(d.real(4), d.mask(2, 1)), case(d.real(0, 2), d.mask(0, 2)), case(d.real(), d.mask())])
record("masked_scatter", pour, lambda d: [
    case(d.real(3, 4), d.mask(3, 4), d.real(3, 4)), case(d.real(3, 4), d.mask(3, 1), d.real(12)),
    case(d.real(4), d.mask(2, 1), d.real(9)), case(d.real(), d.mask(), d.real(2)),
    case(d.real(0, 2), d.mask(0, 2), d.real(3))])
record("masked_scatter_backward", lambda g, mask, shape: adjoint(
       lambda s: pour(np.zeros(g.shape), mask, s), shape, g), lambda d: [
    case(d.real(3, 4), d.mask(3, 4), shape=(4, 4)), case(d.real(3, 4), d.mask(4), shape=(12,))])

# Scatter -----------------------------------------------------------------------------------------

ALONG_0, ALONG_1 = np.array([[0, 2, 1, 1], [1, 0, 2, 0]]), np.array([[0, 3], [2, 1], [3, 0]])


def scatter(x: Array, index: Array, src: Any, dim: int) -> Array:
    out = x.copy()
    for at in np.ndindex(*index.shape):
        out[(*at[:dim], index[at], *at[dim + 1:])] = src[at] if np.ndim(src) else src
    return out


record("scatter_into", scatter, lambda d: [
    case(d.real(3, 4), ALONG_0, d.real(2, 4), dim=0),
    case(d.real(3, 4), ALONG_1, d.real(3, 2), dim=1),
    case(d.real(3, 4), ALONG_0[:, :2], d.real(2, 2), dim=0),
    case(d.real(3), d.index(3, 0), d.real(0), dim=0)])
record("scatter_value", lambda x, index, dim, value: scatter(x, index, value, dim), lambda d: [
    case(d.real(3, 4), d.index(3, 5, 4), dim=0, value=2.5),
    case(d.real(3, 4), ALONG_1, dim=1, value=-1.0)])

REDUCE = {"sum": sum, "prod": np.prod, "mean": np.mean, "amax": max, "amin": min}


def scatter_reduce(x: Array, index: Array, src: Array, dim: int, reduce: str,
                   include_self: bool) -> Array:
    found: dict[Any, list[Any]] = {}
    for at in np.ndindex(*index.shape):
        found.setdefault((*at[:dim], index[at], *at[dim + 1:]), []).append(src[at])
    out = x.copy()
    for at, values in found.items():
        out[at] = REDUCE[reduce]([x[at], *values] if include_self else values)
    return out


def reductions(d: Draw) -> list[Case]:
    out = []
    for reduce in REDUCE:
        for include_self in (True, False):
            kw: dict[str, Any] = {"reduce": reduce, "include_self": include_self}
            out += [case(d.real(3, 4), d.index(3, 5, 4), d.real(5, 4), dim=0, **kw),
                    case(d.real(3, 4), d.index(4, 2, 7), d.real(2, 7), dim=1, **kw)]
        out.append(case(d.real(3), d.index(3, 0), d.real(0), dim=0, reduce=reduce,
                        include_self=True))
    return out


record("scatter_reduce", scatter_reduce, reductions, tolerance=1e-2)
