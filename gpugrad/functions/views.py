"""Views by strides, windows, copies with a view written over, views in place, and *_copy."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from gpugrad import dtypes
from gpugrad._state import state
from gpugrad._tensor import Tensor, bump, wrap
from gpugrad.autograd import inplace
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend.columns import strided
from gpugrad.functions import shape as shapes
from gpugrad.functions.arguments import cast, dim_of, dims_of, integers_of
from gpugrad.functions.complex import view_as_complex, view_as_real
from gpugrad.ops.views import extent

# Strides -----------------------------------------------------------------------------------------


def _geometry(name: str, x: Tensor, size: Any, stride: Any) -> tuple[Any, Any]:
    size = tuple(integers_of(size, name, "size"))
    stride = tuple(integers_of(stride, name, "stride", 2))
    if len(size) != len(stride):
        raise RuntimeError("mismatch in length of strides and shape")
    for n in size:
        if n < 0:
            raise RuntimeError(f"{name}: sizes must be non-negative, got {list(size)}")
    if min(stride, default=0) < 0:
        raise RuntimeError(f"{name}: Negative strides are not supported at the moment, got "
                           f"strides: {list(stride)}")
    return size, stride


def memory_root(x: Tensor) -> Any:
    """The memory that x is a view of, as one dim; None if there are gaps in it."""
    be, dtype = x._be, x._a.dtype
    root = be.root(x._a)
    order = sorted(range(root.ndim), key=lambda d: -root.strides[d])
    turned = root.transpose(order)
    if not be.is_contiguous(turned):
        return None
    flat = turned.reshape(-1)
    if flat.dtype == dtype:
        return flat
    return None if flat.nbytes % dtype.itemsize else flat.view(dtype)


def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """A view of any elements of the tensor's memory.

    stride, storage_offset: in elements, the offset counted from the start of the memory; by default
    it is the tensor's own.
    """
    size, stride = _geometry("as_strided", input, size, stride)
    here = input.storage_offset()
    offset = here if storage_offset is None else int(storage_offset)
    needed = offset + extent(size, stride)
    root = memory_root(input)
    have = here + extent(input._a.shape, input.stride()) if root is None else root.size
    if 0 in size:
        needed = 0
    if offset < 0 or needed > have:
        raise RuntimeError(
            f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and "
            f"itemsize {input.itemsize} requiring a storage size of {needed * input.itemsize} are "
            f"out of bounds for storage of size {have * input.itemsize}" if offset >= 0 else
            f"Tensor: invalid storage offset {offset}")
    base = input if input._view is None else input._view[0]
    start, own = offset - base.storage_offset(), base.stride()
    kw = {"size": size, "stride": stride, "start": start, "strides": own}
    if 0 <= start and (not needed or start + extent(size, stride)
                       <= extent(base._a.shape, own)):
        out = T.as_strided(base, **kw)
        if base is not input:                    # a view of the base, with the input's history
            out._view = *out._view[:2], out._view[2] or input._view[2]
            out._edge = None if input._edge is None else T.as_strided(
                input, **{**kw, "start": offset - here, "strides": input.stride()})._edge
        return out
    if input.requires_grad and state.recording:
        raise NotImplementedError("as_strided() beyond the elements of a tensor that requires grad "
                                  "is not supported: detach() it")
    if root is None:
        raise NotImplementedError("as_strided() beyond the elements of a view of memory with gaps "
                                  "is not supported: clone() it")
    width = input.itemsize
    return wrap(strided(input._be.xp, root[offset:], size, tuple([s * width for s in stride])),
                input._be, None, input._ver)


def as_strided_scatter(input: Tensor, src: Tensor, size: Any, stride: Any,
                       storage_offset: int | None = None) -> Tensor:
    """A copy of input with src where as_strided would read."""
    size, stride = _geometry("as_strided_scatter", input, size, stride)
    if src._a.shape != size:
        raise RuntimeError("expected src to have a size equal to the slice of self. src size = "
                           f"{list(src._a.shape)}, slice size = {list(size)}")
    start = 0 if storage_offset is None else storage_offset - input.storage_offset()
    return T.as_strided_scatter(input, cast(src, input._a.dtype), size=size, stride=stride,
                                start=start, strides=input.stride())


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of a dim, as a view: their number takes its place, their elements a new last dim."""
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    d = dim_of(dimension, input._a.ndim)
    n = input._a.shape[d] if input._a.ndim else 1
    if size > n:
        raise RuntimeError(f"maximum size for tensor at dimension {d} is {n} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    if not input._a.ndim:
        return as_strided(input, (size,), (1,))
    return T.unfold_dim(input, dim=d, size=size, step=step)


# Copies with one view written over ---------------------------------------------------------------


def _fitting(input: Tensor, src: Tensor, part: Tensor) -> Tensor:
    if src._a.shape != part._a.shape:
        raise RuntimeError("expected src to have a size equal to the slice of self. src size = "
                           f"{list(src._a.shape)}, slice size = {list(part._a.shape)}")
    return cast(src, input._a.dtype)


def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of input with src at one index of a dim."""
    src = _fitting(input, src, shapes.select(input.detach(), dim, index))
    d = dim_of(dim, input._a.ndim)
    return T.select_scatter(input, src, dim=d, index=index % input._a.shape[d])


def slice_scatter(input: Tensor, src: Tensor, dim: int = 0, start: int | None = None,
                  end: int | None = None, step: int = 1) -> Tensor:
    """A copy of input with src at start:end:step of a dim."""
    kw = _slice("slice_scatter", input, dim, start, end, step)
    src = _fitting(input, src, T.slice_(input.detach(), **kw))
    return T.slice_scatter(input, src, **kw)


def _slice(name: str, x: Tensor, dim: int, start: Any, end: Any, step: int) -> dict[str, int]:
    if not x._a.ndim:
        raise RuntimeError("slice() cannot be applied to a 0-dim tensor.")
    if step <= 0:
        raise RuntimeError("slice step must be positive")
    d = dim_of(dim, x._a.ndim)
    first, last, _ = slice(start, end).indices(x._a.shape[d])
    return {"dim": d, "start": first, "stop": max(first, last), "step": step}


def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0,
                     dim2: int = 1) -> Tensor:
    """A copy of input with src on a diagonal."""
    src = _fitting(input, src, shapes.diagonal(input.detach(), offset, dim1, dim2))
    n = input._a.ndim
    return T.diagonal_scatter(input, src, offset=offset, dim1=dim_of(dim1, n),
                              dim2=dim_of(dim2, n))


# Views in place: the tensor itself becomes a view of what it was ----------------------------------


@functools.cache
def _renamed(kind: Any, name: str) -> Any:
    return type(name, (kind,), {"__slots__": (), "__module__": kind.__module__})


def rename(node: Any, name: str) -> None:
    """Give a node that nobody has seen yet the name that PyTorch has for it."""
    kind: Any = type(node)
    node.__class__ = _renamed(kind, name)


# What PyTorch calls the nodes of views in place.
_IN_PLACE = {"t": "TBackward1", "transpose": "TransposeBackward1",
             "unsqueeze": "UnsqueezeBackward1", "squeeze_all": "SqueezeBackward3",
             "squeeze": "SqueezeBackward4", "as_strided": "AsStridedBackward1"}


def _become(x: Tensor, name: str, undo: tuple[str, dict[str, Any]] | None,
            **kw: Any) -> Tensor:
    """x in the shape of view op ``name``, in place; undo: the view that leads back."""
    spec, shape = getattr(T, name).spec, x._a.shape
    if x._edge is not None:
        inplace.check(x)
    # What was seen through x will be seen the way back.
    found = [ref() for ref in list.__getitem__(x._ver, slice(1, None))]
    views = [v for v in found if v is not None and v._view is not None and v._view[0] is x]
    if views and undo is None:
        raise NotImplementedError(f"{name}_() of a tensor that has views is not supported: use the "
                                  "form without _")
    new = getattr(T, name)(x, **kw)
    del x._ver[-1:]                              # the weak reference to ``new``
    bump(x)
    x._a = new._a
    if new._edge is not None:
        rename(new._edge[0], _IN_PLACE[name])
        inplace.set_edge(x, new._edge)
    if x._view is not None:
        base, chain, origin = x._view
        x._view = base, (chain, spec, kw, shape), origin
        return x
    if undo is not None:
        for v in views:
            first = None, getattr(T, undo[0]).spec, undo[1], x._a.shape
            v._view = x, _after(v._view[1], first), v._view[2]
    return x


def _after(chain: Any, first: Any) -> Any:
    """A chain of views with one more before them all."""
    parent, spec, kw, shape = chain
    return _after(parent, first) if parent else first, spec, kw, shape


def t_(x: Tensor) -> Tensor:
    if x._a.ndim > 2:
        raise RuntimeError(f"t_() expects a tensor with <= 2 dimensions, but self is {x._a.ndim}D")
    return _become(x, "t", ("t", {}))


def transpose_(x: Tensor, dim0: int, dim1: int) -> Tensor:
    n = x._a.ndim
    kw = {"dim0": dim_of(dim0, n), "dim1": dim_of(dim1, n)}
    return _become(x, "transpose", ("transpose", kw), **kw) if n else x


def squeeze_(x: Tensor, dim: Any = None) -> Tensor:
    shape = x._a.shape
    back = "view", {"shape": shape}
    if dim is None:
        return _become(x, "squeeze_all", back)
    dims = tuple([d for d in dims_of(dim, len(shape)) or () if shape[d] == 1])
    return _become(x, "squeeze", back, dim=dims)


def unsqueeze_(x: Tensor, dim: int) -> Tensor:
    d = dim_of(dim, x._a.ndim + 1)
    return _become(x, "unsqueeze", ("squeeze", {"dim": (d,)}), dim=d)


def as_strided_(x: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    out = as_strided(x, size, stride, storage_offset)
    if x._edge is None and out._view is None:
        bump(x)
        x._a = out._a
        return x
    del out                                      # else it would be a view of x
    size, stride = _geometry("as_strided_", x, size, stride)
    start = 0 if storage_offset is None else storage_offset - x.storage_offset()
    return _become(x, "as_strided", None, size=size, stride=stride, start=start,
                   strides=x.stride())


def swapaxes_(x: Tensor, axis0: int, axis1: int) -> Tensor:
    return transpose_(x, axis0, axis1)


def swapdims_(x: Tensor, dim0: int, dim1: int) -> Tensor:
    return transpose_(x, dim0, dim1)


# Other shapes ------------------------------------------------------------------------------------


def adjoint(input: Tensor) -> Tensor:
    """The conjugate of matrices, transposed. A number is conjugated."""
    if not input._a.ndim:
        return hermitian(input)
    if input._a.ndim < 2:
        raise RuntimeError("tensor.adjoint() is only supported on matrices or batches of "
                           f"matrices. Got {input._a.ndim}-D tensor.")
    return _conjugate(shapes.transpose(input, -2, -1))


def _conjugate(x: Tensor) -> Tensor:
    return T.conj_physical(x) if x._a.dtype.kind == "c" else x


def matrix_adjoint(input: Tensor) -> Tensor:
    """The mH property."""
    if input._a.ndim < 2:
        raise RuntimeError("tensor.mH is only supported on matrices or batches of matrices. Got "
                           f"{input._a.ndim}-D tensor.")
    return _conjugate(shapes.transpose(input, -2, -1))


def hermitian(input: Tensor) -> Tensor:
    """The H property: of a matrix, or a number."""
    n = input._a.ndim
    if n not in (0, 2):
        raise RuntimeError("tensor.H is only supported on matrices (2-D tensors). Got "
                           f"{n}-D tensor." + (" For batches of matrices, consider using "
                                               "tensor.mH" if n > 2 else ""))
    return _conjugate(shapes.transpose(input, 0, 1) if n else input)


def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """Summed to a size that expands to the tensor's; itself if it has the size."""
    want, have = shapes.sizes_of(size, "size"), input._a.shape
    extra = len(have) - len(want)
    if extra < 0 or any(n not in (1, m) for n, m in zip(want, have[extra:])):
        raise RuntimeError(f"size {{{list(want)}}} is not expandable to size {{{list(have)}}}.")
    if want == have:
        return input
    if not want:
        return T.sum_all(input)
    dims = [*range(extra), *[d + extra for d, n in enumerate(want) if n == 1 != have[d + extra]]]
    out = T.sum(input, dim=tuple(dims), keepdim=True)
    return out if not extra else shapes.view(out, want)


# Copies of views ---------------------------------------------------------------------------------


def _split_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> Any:
    return shapes.split_with_sizes(input, split_sizes, dim)


def _sliced(input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None,
            step: int = 1) -> Tensor:
    return T.slice_(input, **_slice("slice", input, dim, start, end, step))


def _narrowed(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    return shapes.narrow(input, dim, start, length)


def _viewed(input: Tensor, size: Any = None, *, dtype: dtypes.dtype | None = None) -> Tensor:
    given = size if dtype is None else dtype
    return shapes.view(input, given)


def _copy_of(name: str, view: Callable[..., Any]) -> Any:
    def copy(input: Tensor, *args: Any, **kw: Any) -> Any:
        out = view(input, *args, **kw)
        return tuple(map(_alone, out)) if isinstance(out, tuple) else _alone(out)

    def _alone(x: Tensor) -> Tensor:
        """x in memory of its own, as the result of the one node that made the view."""
        t = wrap(x._be.copy(x._a), x._be)
        if x._edge is not None:
            t._edge = x._edge
            kind = type(x._edge[0]).__name__
            if not kind.endswith("_copy"):
                rename(x._edge[0], "NarrowCopyBackward0" if name == "narrow_copy" else
                        kind + "_copy")
        return t
    copy.__name__ = copy.__qualname__ = name
    copy.__doc__ = f"What {name.removesuffix('_copy')} gives, in new memory."
    return copy


_VIEWS: dict[str, Callable[..., Any]] = {
    "alias": T.alias, "as_strided": as_strided, "diagonal": shapes.diagonal,
    "expand": shapes.expand, "narrow": _narrowed, "permute": shapes.permute,
    "select": shapes.select, "slice": _sliced, "split": shapes.split,
    "split_with_sizes": _split_sizes, "squeeze": shapes.squeeze, "t": shapes.t,
    "transpose": shapes.transpose, "unbind": shapes.unbind, "unfold": unfold,
    "unsqueeze": shapes.unsqueeze, "view": _viewed, "detach": Tensor.detach,
    "view_as_real": view_as_real, "view_as_complex": view_as_complex}


def copy_of(name: str) -> Any:
    """The function that gives what a view's function gives, in new memory."""
    return _copy_of(f"{name}_copy", _VIEWS[name])
