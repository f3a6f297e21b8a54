"""Indices for the kernels of indexing.cu: which places of an array they name, and sums by place."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad.backend.kernels import THREADS

FILE = "indexing"
PART, TILE = 32, 128                    # as in indexing.cu
DIMS = 8                                # of struct Along
ORDERED = 1 << 15                       # up to so many places have their order from row_order
SCANNED = 1 << 16, 1 << 26              # most blocks of sum_rows, and indices that they look at
BLOCKS = 1024                           # that write zeros, at most

# Structs of indexing.cu.
ALONG = np.dtype([("ndim", np.int64), ("dim", np.int64), ("n", np.int64), ("size", np.int64, DIMS),
                  ("stride", np.int64, DIMS)])
ROWS = np.dtype([(f, np.int64) for f in "m size inner columns skip".split()])


def as_index(be: Any, a: Any) -> Any:
    """Integers as kernels read them: int64, in C order."""
    return be.xp.ascontiguousarray(a.astype(np.int64, copy=False))


def along(index_shape: Any, shape: Any, dim: int) -> Any:
    """struct Along for an index of one shape on an array of another; None for too many dims.

    Neighbouring dims that the array has no gaps between are joined.
    """
    dims: list[list[int]] = []                           # size of the index, stride, is it dim
    stride = math.prod(shape)
    for d, (size, n) in enumerate(zip(index_shape, shape)):
        stride //= max(n, 1)
        if dims and d != dim and not dims[-1][2] and dims[-1][1] == stride * size:
            dims[-1][0], dims[-1][1] = dims[-1][0] * size, stride
        else:
            dims.append([size, stride, d == dim])
    if len(dims) > DIMS:
        return None
    s = np.zeros((), ALONG)
    s["ndim"], s["n"] = len(dims), shape[dim]
    s["dim"] = [is_dim for *_, is_dim in dims].index(True)
    s["size"][:len(dims)], s["stride"][:len(dims)] = zip(*[d[:2] for d in dims])
    return s


def element_places(be: Any, index: Any, shape: Any, dim: int) -> Any:
    """The flat places that an index for gather and scatter names, or None for too many dims."""
    how = along(index.shape, shape, dim)
    if how is None:
        return None
    out = be.empty((index.size,), np.int64)
    be.kernels.each(FILE, "places", np.dtype(np.float32), index.size, (as_index(be, index), out),
                    how, np.int64(math.prod(shape)))
    return out


def arranged(x: Any, indices: Any) -> tuple[Any, int, Any, Any]:
    """For x[indices]: (x, the first indexed dim, its arrays, how x's dims were permuted or None).

    The indexed dims come to lie side by side: in front, if they weren't, as NumPy has the result.
    """
    at = [d for d, i in enumerate(indices) if i is not None]
    arrays = [indices[d] for d in at]
    if at[-1] - at[0] + 1 == len(at):
        return x, at[0], arrays, None
    order = at + [d for d in range(x.ndim) if d not in at]
    return x.transpose(order), 0, arrays, order


def row_places(be: Any, arrays: Any, sizes: Any) -> tuple[Any, Any]:
    """(the places that indices of neighbouring dims name together, flat; the indices' shape).

    The product of the sizes stands for outside.
    """
    shape = np.broadcast_shapes(*[a.shape for a in arrays])
    n, total, stride = math.prod(shape), math.prod(sizes), math.prod(sizes)
    out = be.empty((n,), np.int64)
    for k, (a, size) in enumerate(zip(arrays, sizes)):
        stride //= max(size, 1)
        a = as_index(be, a if a.shape == shape else be.xp.broadcast_to(a, shape))
        be.kernels.each(FILE, "flat_index", np.dtype(np.float32), n, (a, out), np.int64(size),
                        np.int64(stride), np.int64(total), np.int32(k == 0))
    return out, shape


def select(be: Any, x: Any, index: Any, out: Any, size: int, inner: int) -> None:
    """``out`` (outer, m, inner) becomes the rows of x (outer, size, inner) at index (m,)."""
    pack = 16 // x.itemsize
    be.kernels.each(FILE, "index_select", x.dtype, out.size,
                    (be._dense(x), as_index(be, index), out), np.int64(size),
                    np.int64(index.size), np.int64(inner), at_once=pack if inner % pack == 0 else 1)


def put(be: Any, x: Any, values: Any, places: Any, size: int, inner: int) -> None:
    """Rows of x (outer, size, inner) become those of values (outer, m, inner): the last."""
    if places.size >= 1 << 31:
        raise NotImplementedError("index_put with 2^31 indices and more is not supported on CUDA: "
                                  "write the values a part at a time")
    last = be.xp.full((size,), -1, np.int32)
    how = np.int64(places.size), np.int64(size)
    be.kernels.each(FILE, "last_of", np.dtype(np.float32), places.size, (places, last), how[1])
    be.kernels.each(FILE, "index_put", x.dtype, values.size, (be._dense(values), places, last, x),
                    how[1], how[0], np.int64(inner))


def add(be: Any, x: Any, g: Any, places: Any, size: int, inner: int, skip: int = -1,
        fresh: bool = False) -> None:
    """Add rows of g (outer, m, inner) to those of x (outer, size, inner) at places (m,), in order.

    A place of ``size`` or ``skip`` is left out. fresh: x has no elements yet, and places are an
    index, which may count from the end.
    """
    m, dtype, ordered = places.size, x.dtype, 0 < places.size <= ORDERED
    if fresh and not (ordered and x.size):
        x.fill(0)
        places, _ = row_places(be, [places], (size,))
    if not g.size or not x.size:
        return
    columns, parts = g.size // m, -(-m // PART)
    if ordered:
        found, order = be.empty((m,), np.int64), be.empty((m,), np.int64)
        zeros = x.size if fresh else 0
        blocks = max(-(-m // 32), min(zeros * x.itemsize >> 14, BLOCKS))
        be.kernels.launch(FILE, "row_order", (blocks,), (THREADS,), (
            as_index(be, places), found, order, x, np.int64(zeros), np.int64(m), np.int64(size)),
            dtype)
        places = found
    else:
        order = as_index(be, be.xp.argsort(places, kind="stable"))
    acc = np.float64 if dtype.itemsize == 8 else np.float32
    first, last = be.empty((parts, columns), acc), be.empty((parts, columns), acc)
    rows = np.array((m, size, inner, columns, skip), ROWS)
    be.kernels.each(FILE, "add_rows", dtype, parts * columns,
                    (be._dense(g), places, order, x, first, last), rows)
    if parts > 1:
        be.kernels.each(FILE, "add_runs", dtype, parts * columns, (places, order, x, first, last),
                        rows)


def scans(m: int, size: int, inner: int) -> bool:
    """Are sums of m rows by their index made by looking through it for each of ``size`` rows?"""
    blocks = size * -(-inner // TILE)
    return blocks <= SCANNED[0] and blocks * m <= SCANNED[1]


def scanned(be: Any, g: Any, index: Any, size: int, skip: int, mean: bool) -> Any:
    """(size, inner): sums or means of the rows of g (m, inner) whose index names a row; not of
    ``skip``."""
    m, inner = g.shape
    x, warps = be.empty((size, inner), g.dtype), min(max(m // 64, 1), 32)
    be.kernels.launch(FILE, "sum_rows", (size * -(-inner // TILE),), (32, warps), (
        be._dense(g), as_index(be, index), x, *map(np.int64, (m, size, inner, skip)),
        np.int32(mean)), g.dtype)
    return x
