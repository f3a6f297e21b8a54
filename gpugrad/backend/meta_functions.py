"""NumPy's functions of arrays without data: the shape and dtype of what they would return.

The dtype, and the errors that depend on dtypes, come from NumPy itself: each function is tried on
arrays of no more than one element.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.backend.meta import (
    MetaArray,
    as_meta,
    like,
    new,
    ordered,
)

_ones: dict[Any, Any] = {}


def one(dtype: Any) -> Any:
    """An array of no dims, with the number 1."""
    a = _ones.get(dtype)
    if a is None:
        a = _ones[dtype] = np.ones((), dtype)
    return a


def small(a: Any, ndim: int | None = None) -> Any:
    """An array of ones of a's dtype and number of dims, none longer than 1."""
    return np.ones([min(n, 1) for n in a.shape] if ndim is None else [1] * ndim, a.dtype)


def is_array(v: Any) -> bool:
    return isinstance(v, MetaArray | np.ndarray)


def tried(v: Any) -> Any:
    """What stands in for an operand when a dtype is looked for: numbers are weak, as in NumPy."""
    return one(v.dtype) if isinstance(v, MetaArray | np.ndarray | np.generic) else v


# Elementwise -------------------------------------------------------------------------------------


def of_ufunc(ufunc: Any, method: str, *inputs: Any, **kw: Any) -> Any:
    """The result of a ufunc, or of its reduce, accumulate, at and reduceat."""
    if method == "reduce":
        return reduced(ufunc.reduce, *inputs, **kw)
    if method == "accumulate":
        return accumulated(ufunc.accumulate, *inputs, **kw)
    if method == "at":
        return None
    if method != "__call__":
        raise NotImplementedError(f"numpy.{ufunc.__name__}.{method} is not known for arrays "
                                  "without data")
    if ufunc is np.matmul:
        return matmul(*inputs, **kw)
    out = kw.pop("out", None)
    kw.pop("where", None)
    with np.errstate(all="ignore"):
        results = ufunc(*[tried(v) for v in inputs], **kw)
    several = isinstance(results, tuple)
    arrays = [as_meta(v) for v in inputs if is_array(v)]
    shape = np.broadcast_shapes(*[a.shape for a in arrays])
    made_here = [ordered(shape, r.dtype, arrays) for r in (results if several else (results,))]
    if out is not None:
        given = out if isinstance(out, tuple) else (out,)
        made_here = [r if o is None else written(o, r) for o, r in zip(given, made_here)]
    return tuple(made_here) if several else made_here[0]


def written(out: Any, result: MetaArray) -> Any:
    """``out`` once a ufunc has written a result into it."""
    if np.broadcast_shapes(out.shape, result.shape) != out.shape:
        raise ValueError(f"non-broadcastable output operand with shape {out.shape} doesn't match "
                         f"the broadcast shape {result.shape}")
    if not np.can_cast(result.dtype, out.dtype, "same_kind"):
        raise TypeError(f"Cannot cast ufunc output from {result.dtype!r} to {out.dtype!r} with "
                        "casting rule 'same_kind'")
    return out


def where(condition: Any, x: Any, y: Any) -> MetaArray:
    given = [as_meta(v) for v in (condition, x, y) if is_array(v)]
    shape = np.broadcast_shapes(*[a.shape for a in given])
    return ordered(shape, np.where(True, tried(x), tried(y)).dtype, given)


def clip(a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, **kw: Any) -> MetaArray:
    given = [as_meta(v) for v in (a, a_min, a_max) if is_array(v)]
    shape = np.broadcast_shapes(*[v.shape for v in given])
    r = ordered(shape, np.clip(tried(a), tried(a_min), tried(a_max), **kw).dtype, given)
    return r if out is None else written(out, r)


def isclose(a: Any, b: Any, *args: Any, **kw: Any) -> MetaArray:
    return of_ufunc(np.equal, "__call__", a, b)


def same(name: Any) -> Any:
    """A function whose result has the shape of its first argument."""
    def function(a: Any, *args: Any, **kw: Any) -> MetaArray:
        return like(as_meta(a), name(small(a)).dtype)
    return function


# Along dims --------------------------------------------------------------------------------------


def _dims(axis: Any, ndim: int) -> list[int]:
    if axis is None:
        return list(range(ndim))
    given = axis if isinstance(axis, tuple) else (axis,)
    for d in given:
        if not -ndim <= d < ndim:
            raise np.exceptions.AxisError(d, ndim)
    return [d % ndim for d in given]


def without(shape: tuple[int, ...], axis: Any, keepdims: bool) -> tuple[int, ...]:
    gone = _dims(axis, len(shape))
    return tuple([1 if d in gone else n for d, n in enumerate(shape) if keepdims or d not in gone])


def reduced(reduce: Any, a: Any, axis: Any = 0, dtype: Any = None, out: Any = None,
            keepdims: bool = False, **kw: Any) -> MetaArray:
    """The result of a reduction: tried on arrays of one element, or none."""
    a = as_meta(a)
    extra = {} if dtype is None else {"dtype": dtype}
    with np.errstate(all="ignore"):
        d = reduce(small(a), axis=axis, **extra, **{k: v for k, v in kw.items()
                                                    if k in ("initial", "ddof")}).dtype
    r = new(without(a.shape, axis, keepdims), d)
    return r if out is None else written(out, r)


def reduction(function: Any) -> Any:
    def run(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False,
            **kw: Any) -> MetaArray:
        return reduced(function, a, axis, dtype, out, keepdims is True, **kw)
    return run


def short_reduction(function: Any) -> Any:
    """A reduction that takes no dtype."""
    def run(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False,
            **kw: Any) -> MetaArray:
        return reduced(function, a, axis, None, out, keepdims is True, **kw)
    return run


def accumulated(function: Any, a: Any, axis: Any = 0, dtype: Any = None, out: Any = None
                ) -> MetaArray:
    a = as_meta(a)
    shape = (a.size,) if axis is None else a.shape
    if axis is not None:
        _dims(axis, a.ndim)
    d = function(np.ones(1, a.dtype), **({} if dtype is None else {"dtype": dtype})).dtype
    r = new(shape, d)
    return r if out is None else written(out, r)


def cumulated(function: Any) -> Any:
    def run(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> MetaArray:
        return accumulated(function, a, axis, dtype, out)
    return run


def ordering(dtype: Any) -> Any:
    """sort and its kin: the shape of the argument, or one dim for axis=None."""
    def run(a: Any, *args: Any, axis: Any = -1, **kw: Any) -> MetaArray:
        a = as_meta(a)
        return new((a.size,) if axis is None else a.shape, dtype or a.dtype)
    return run


def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> MetaArray:
    return new(np.shape(v) if not is_array(v) else v.shape, np.int64)


def bincount(x: Any, weights: Any = None, minlength: int = 0) -> MetaArray:
    """Ops give the number of bins, which none of their elements reaches."""
    if not minlength and as_meta(x).size:
        raise NotImplementedError("the length of the result depends on data")
    return new((minlength,), np.int64 if weights is None else np.float64)


def repeat(a: Any, repeats: Any, axis: Any = None) -> MetaArray:
    a = as_meta(a)
    if isinstance(repeats, MetaArray):
        raise NotImplementedError("the length of the result depends on data")
    a = a.reshape(-1) if axis is None else a
    d = 0 if axis is None else axis % a.ndim
    times = np.broadcast_to(repeats, a.shape[d])
    n = int(times.sum())
    return new((*a.shape[:d], n, *a.shape[d + 1:]), a.dtype)


def tile(a: Any, reps: Any) -> MetaArray:
    a = as_meta(a)
    reps = tuple(reps) if isinstance(reps, list | tuple) else (reps,)
    n = max(a.ndim, len(reps))
    shape, reps = (1,) * (n - a.ndim) + a.shape, (1,) * (n - len(reps)) + reps
    return new([s * r for s, r in zip(shape, reps)], a.dtype)


def roll(a: Any, shift: Any, axis: Any = None) -> MetaArray:
    return new(a.shape, a.dtype)


def flip(a: Any, axis: Any = None) -> MetaArray:
    turned = _dims(axis, a.ndim)
    return a[tuple([slice(None, None, -1) if d in turned else slice(None) for d in range(a.ndim)])]


# Joining -----------------------------------------------------------------------------------------


def concatenate(arrays: Any, axis: Any = 0, out: Any = None, dtype: Any = None) -> MetaArray:
    parts = [as_meta(a) for a in arrays]
    if axis is None:
        parts, axis = [a.reshape(-1) for a in parts], 0
    first, d = parts[0], _dims(axis, parts[0].ndim)[0]
    for a in parts:
        if a.ndim != first.ndim or any([i != d and n != m for i, (n, m) in
                                        enumerate(zip(a.shape, first.shape))]):
            raise ValueError("all the input array dimensions except for the concatenation axis "
                             f"must match exactly: {first.shape} and {a.shape}")
    shape = (*first.shape[:d], sum([a.shape[d] for a in parts]), *first.shape[d + 1:])
    r = new(shape, dtype or np.concatenate([np.ones(1, a.dtype) for a in parts]).dtype)
    return r if out is None else written(out, r)


def stack(arrays: Any, axis: int = 0, out: Any = None) -> MetaArray:
    parts = [as_meta(a) for a in arrays]
    n = parts[0].ndim + 1
    at = (slice(None),) * (axis % n) + (None,)
    return concatenate([a[at] for a in parts], axis % n, out)


def split(a: Any, sections: Any, axis: int = 0) -> list[MetaArray]:
    n = a.shape[axis]
    if hasattr(sections, "__index__"):
        if n % sections:
            raise ValueError("array split does not result in an equal division")
        ends = list(range(n // sections, n, n // sections)) if n else [0] * (sections - 1)
    else:
        ends = [int(i) for i in sections]
    before = (slice(None),) * (axis % a.ndim)
    keys = [(*before, slice(i, j)) for i, j in zip([0, *ends], [*ends, n])]
    return [a[key] for key in keys]


# Products ----------------------------------------------------------------------------------------


def matmul(a: Any, b: Any, out: Any = None, **kw: Any) -> MetaArray:
    a, b = as_meta(a), as_meta(b)
    if not a.ndim or not b.ndim:
        raise ValueError("matmul: Input operand does not have enough dimensions")
    x, y = a.shape if a.ndim > 1 else (1, *a.shape), b.shape if b.ndim > 1 else (*b.shape, 1)
    if x[-1] != y[-2]:
        raise ValueError(f"matmul: Input operand 1 has a mismatch in its core dimension 0, with "
                         f"gufunc signature (n?,k),(k,m?)->(n?,m?) (size {y[-2]} is different "
                         f"from {x[-1]})")
    core = (() if a.ndim == 1 else x[-2:-1]) + (() if b.ndim == 1 else y[-1:])
    shape = (*np.broadcast_shapes(x[:-2], y[:-2]), *core)
    r = new(shape, np.result_type(a.dtype, b.dtype))
    return r if out is None else written(out, r)


def dot(a: Any, b: Any, out: Any = None) -> Any:
    a, b = as_meta(a), as_meta(b)
    if a.ndim <= 2 and b.ndim <= 2 and a.ndim and b.ndim:
        return matmul(a, b, out)
    raise NotImplementedError("numpy.dot of tensors without data is known for one and two dims")


def vdot(a: Any, b: Any) -> MetaArray:
    return matmul(as_meta(a).reshape(-1), as_meta(b).reshape(-1))


def einsum(subscripts: str, *operands: Any, out: Any = None, **kw: Any) -> MetaArray:
    """Sums of products, with "->" or without."""
    arrays = [as_meta(a) for a in operands]
    left, arrow, right = subscripts.replace(" ", "").replace("...", "@").partition("->")
    terms = left.split(",")
    lengths: dict[str, int] = {}
    batch: tuple[int, ...] = ()
    for term, a in zip(terms, arrays, strict=True):
        named = len(term) - ("@" in term)
        at = 0
        for label in term:
            if label == "@":
                some = a.ndim - named
                batch = np.broadcast_shapes(batch, a.shape[at:at + some])
                at += some
            else:
                n = a.shape[at]
                if lengths.get(label, 1) not in (1, n) and n != 1:
                    raise ValueError(f"operands could not be broadcast together: einsum label "
                                     f"'{label}' has lengths {lengths[label]} and {n}")
                lengths[label] = max(n, lengths.get(label, 1)) if n != 0 else 0
                at += 1
    if not arrow:
        once = sorted([x for x in lengths if left.count(x) == 1])
        right = "@" * ("@" in left) + "".join(once)
    shape: list[int] = []
    for label in right:
        shape += batch if label == "@" else [lengths[label]]
    r = new(shape, np.result_type(*[a.dtype for a in arrays]))
    return r if out is None else written(out, r)


def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> MetaArray:
    return np.sum(a.diagonal(offset, axis1, axis2), -1, dtype)


# Indexing ----------------------------------------------------------------------------------------


def _index(k: Any) -> Any:
    """A part of a key: basic as it is, else an array."""
    if k is None or k is Ellipsis or isinstance(k, slice):
        return k
    if isinstance(k, int | np.integer) and not isinstance(k, bool | np.bool_):
        return int(k)
    return k if is_array(k) else np.asarray(k)


def taken(a: MetaArray, key: Any) -> MetaArray:
    """a[key]: a view for basic keys, else a new array."""
    keys = [_index(k) for k in (key if isinstance(key, tuple) else (key,))]
    if not any([is_array(k) for k in keys]):
        if Ellipsis not in keys:
            keys.append(Ellipsis)              # else NumPy would read the element of a full index
        return a._view(a._g[tuple(keys)])
    parts: list[Any] = []
    for k in keys:
        if is_array(k) and k.dtype.kind == "b":
            if isinstance(k, MetaArray):
                raise NotImplementedError("the shape of the result depends on data: use "
                                          "torch.where() or a product with the mask in place of "
                                          "an index that is a mask")
            parts += np.nonzero(k) if k.ndim else [np.zeros(int(k), np.int64)]
            a = a if k.ndim else a[None]
        else:
            parts.append(k)
    used = len([k for k in parts if k is not None and k is not Ellipsis])
    if used > a.ndim:
        raise IndexError(f"too many indices for array: array is {a.ndim}-dimensional, but {used} "
                         "were indexed")
    rest = [slice(None)] * (a.ndim - used)
    at = next((i for i, k in enumerate(parts) if k is Ellipsis), None)
    if at is None:
        parts += rest
    else:
        parts[at:at + 1] = rest
    return _advanced(a, parts)


def _advanced(a: MetaArray, parts: list[Any]) -> MetaArray:
    """a indexed with arrays and numbers among views: the dims of the arrays come where the first of
    them stands, or in front if something stands between them."""
    chosen = [i for i, k in enumerate(parts) if is_array(k) or isinstance(k, int)]
    index_shape = np.broadcast_shapes(*[parts[i].shape for i in chosen if is_array(parts[i])])
    views = a._g[tuple([slice(0, 1) if i in chosen else k for i, k in enumerate(parts)])]
    together = chosen == list(range(chosen[0], chosen[-1] + 1))
    others = [n for i, n in enumerate(views.shape) if i not in chosen]
    front = chosen[0] if together else 0
    return new((*others[:front], *index_shape, *others[front:]), a.dtype)


def check_write(shape: tuple[int, ...], value: Any, dtype: Any) -> None:
    """Raise if a value doesn't broadcast to what it is written to."""
    have = value.shape if is_array(value) else np.shape(value)
    while len(have) > len(shape) and have[0] == 1:
        have = have[1:]
    if len(have) > len(shape) or any([n not in (1, m) for n, m in zip(have[::-1], shape[::-1])]):
        raise ValueError(f"could not broadcast input array from shape {have} into shape {shape}")


def take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> MetaArray:
    a = as_meta(a)
    a = a.reshape(-1) if axis is None else a
    d = _dims(0 if axis is None else axis, a.ndim)[0]
    r = new((*a.shape[:d], *as_meta(indices).shape, *a.shape[d + 1:]), a.dtype)
    return r if out is None else written(out, r)


def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> MetaArray:
    arr = as_meta(arr)
    if axis is None:
        return new(indices.shape, arr.dtype)
    d = _dims(axis, arr.ndim)[0]
    shape = list(np.broadcast_shapes((*arr.shape[:d], 1, *arr.shape[d + 1:]),
                                     (*indices.shape[:d], 1, *indices.shape[d + 1:])))
    shape[d] = indices.shape[d]
    return new(shape, arr.dtype)


def nothing(*args: Any, **kw: Any) -> None:
    """A write: it changes nothing."""


# Views, and what is like another array -----------------------------------------------------------


def like_of(a: Any, *args: Any, dtype: Any = None, shape: Any = None, order: str = "K",
            **kw: Any) -> MetaArray:
    a = as_meta(a)
    d = a.dtype if dtype is None else np.dtype(dtype)
    return new(shape, d) if shape is not None else like(a, d)


def full_like(a: Any, fill_value: Any, dtype: Any = None, **kw: Any) -> MetaArray:
    return like_of(a, dtype=dtype, **kw)


def broadcast_to(a: Any, shape: Any, subok: bool = False) -> MetaArray:
    a = as_meta(a)
    return a._view(np.broadcast_to(a._g, shape), False)


def broadcast_arrays(*args: Any, subok: bool = False) -> list[MetaArray]:
    arrays = [as_meta(a) for a in args]
    shape = np.broadcast_shapes(*[a.shape for a in arrays])
    return [broadcast_to(a, shape) for a in arrays]


def view_by(function: Any) -> Any:
    """A function of NumPy that returns a view and reads nothing."""
    def run(a: Any, *args: Any, **kw: Any) -> MetaArray:
        return a._view(function(a._g, *args, **kw))
    return run


def triangle(a: Any, k: int = 0) -> MetaArray:
    return new(a.shape if a.ndim > 1 else (*a.shape, *a.shape), a.dtype)


# Linear algebra and transforms -------------------------------------------------------------------


def _float(function: Any, *arrays: Any) -> Any:
    """What a function of numpy.linalg makes of matrices of one element of these dtypes."""
    return function(*[np.ones((1, 1), a.dtype) for a in arrays])


def square(a: Any) -> None:
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")


def inv(a: Any) -> MetaArray:
    square(a)
    return new(a.shape, _float(np.linalg.inv, a).dtype)


def cholesky(a: Any, **kw: Any) -> MetaArray:
    square(a)
    return new(a.shape, _float(np.linalg.cholesky, a).dtype)


def solve(a: Any, b: Any) -> MetaArray:
    square(a)
    vector = b.ndim == 1
    batch = np.broadcast_shapes(a.shape[:-2], () if vector else b.shape[:-2])
    return new((*batch, *(b.shape if vector else b.shape[-2:])),
               _float(np.linalg.solve, a, b).dtype)


def det(a: Any) -> MetaArray:
    square(a)
    return new(a.shape[:-2], _float(np.linalg.det, a).dtype)


def slogdet(a: Any) -> Any:
    square(a)
    r = _float(np.linalg.slogdet, a)
    return type(r)(new(a.shape[:-2], r[0].dtype), new(a.shape[:-2], r[1].dtype))


def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, **kw: Any) -> Any:
    *batch, m, n = a.shape
    k = min(m, n)
    r = _float(np.linalg.svd, a)
    s = new((*batch, k), r[1].dtype)
    if not compute_uv:
        return s
    return type(r)(new((*batch, m, m if full_matrices else k), r[0].dtype), s,
                   new((*batch, n if full_matrices else k, n), r[2].dtype))


def qr(a: Any, mode: str = "reduced") -> Any:
    *batch, m, n = a.shape
    k, d = min(m, n), _float(np.linalg.qr, a)[0].dtype
    if mode == "r":
        return new((*batch, k, n), d)
    if mode == "raw":
        return new((*batch, n, m), d), new((*batch, k), d)
    q, r = ((m, m), (m, n)) if mode == "complete" else ((m, k), (k, n))
    return type(_float(np.linalg.qr, a))(new((*batch, *q), d), new((*batch, *r), d))


def eigh(a: Any, UPLO: str = "L") -> Any:
    square(a)
    r = _float(np.linalg.eigh, a)
    return type(r)(new(a.shape[:-1], r[0].dtype), new(a.shape, r[1].dtype))


def eigvalsh(a: Any, UPLO: str = "L") -> MetaArray:
    square(a)
    return new(a.shape[:-1], _float(np.linalg.eigvalsh, a).dtype)


def transform(function: Any) -> Any:
    """numpy.fft's functions of one dim, or of several."""
    def run(a: Any, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None,
            s: Any = None, axes: Any = None) -> MetaArray:
        d = function(np.ones(2, a.dtype)).dtype
        shape = list(a.shape)
        name = function.__name__
        if name.endswith("n"):
            lengths, dims = (n if s is None else s), axes if axes is not None else \
                (None if axis == -1 else axis)
            dims = list(range(a.ndim)) if dims is None else list(dims)
            for i, dim in enumerate(dims):
                shape[dim] = shape[dim] if lengths is None else lengths[i]
        else:
            length = (2 * (shape[axis] - 1) if name == "irfft" else shape[axis]) if n is None else n
            shape[axis] = length // 2 + 1 if name == "rfft" else length
        r = new(shape, d)
        return r if out is None else written(out, r)
    return run


FUNCTIONS: dict[Any, Any] = {
    np.where: where, np.clip: clip, np.isclose: isclose,
    **{f: same(f) for f in (np.real_if_close, np.angle, np.nan_to_num, np.round, np.around, np.sinc,
                            np.i0, np.isposinf, np.isneginf)},
    **{f: reduction(f) for f in (np.sum, np.prod, np.mean)},
    **{f: short_reduction(f) for f in (np.max, np.min, np.amax, np.amin, np.any, np.all, np.argmax,
                                       np.argmin, np.median, np.ptp, np.count_nonzero, np.nansum,
                                       np.nanmax, np.nanmin)},
    np.std: reduction(np.std), np.var: reduction(np.var),
    np.cumsum: cumulated(np.cumsum), np.cumprod: cumulated(np.cumprod),
    np.sort: ordering(None), np.partition: ordering(None), np.argsort: ordering(np.int64),
    np.argpartition: ordering(np.int64), np.searchsorted: searchsorted,
    np.repeat: repeat, np.tile: tile, np.roll: roll, np.flip: flip,
    np.concatenate: concatenate, np.stack: stack, np.split: split,
    np.bincount: bincount, np.dot: dot, np.vdot: vdot, np.einsum: einsum, np.trace: trace,
    np.take: take, np.take_along_axis: take_along_axis, np.put_along_axis: nothing,
    np.copyto: nothing, np.isin: lambda a, *args, **kw: new(a.shape, np.bool_),
    np.zeros_like: like_of, np.ones_like: like_of, np.empty_like: like_of, np.full_like: full_like,
    np.broadcast_to: broadcast_to, np.broadcast_arrays: broadcast_arrays,
    np.moveaxis: view_by(np.moveaxis), np.swapaxes: view_by(np.swapaxes),
    np.transpose: view_by(np.transpose), np.rollaxis: view_by(np.rollaxis),
    np.expand_dims: view_by(np.expand_dims), np.squeeze: view_by(np.squeeze),
    np.diagonal: lambda a, *args, **kw: a.diagonal(*args, **kw),
    np.reshape: lambda a, shape, **kw: a.reshape(shape),
    np.ravel: lambda a, **kw: a.reshape(-1),
    np.triu: triangle, np.tril: triangle,
    np.real: lambda a: a.real, np.imag: lambda a: a.imag,
    np.iscomplexobj: lambda a: a.dtype.kind == "c", np.shape: lambda a: a.shape,
    np.ndim: lambda a: a.ndim, np.size: lambda a: a.size,
    np.result_type: lambda *a: np.result_type(*[v.dtype if is_array(v) else v for v in a]),
    np.can_cast: lambda a, to, casting="safe": np.can_cast(a.dtype, to, casting),
    np.copy: lambda a, order="K", subok=False: a.copy(order),
    np.linalg.inv: inv, np.linalg.cholesky: cholesky, np.linalg.solve: solve, np.linalg.det: det,
    np.linalg.slogdet: slogdet, np.linalg.svd: svd, np.linalg.qr: qr, np.linalg.eigh: eigh,
    np.linalg.eigvalsh: eigvalsh,
    **{f: transform(f) for f in (np.fft.fft, np.fft.ifft, np.fft.rfft, np.fft.irfft, np.fft.fftn,
                                 np.fft.ifftn)},
}
