"""Sums, means, extremes and other reductions. Ops take dims as a tuple of non-negative numbers."""
from __future__ import annotations

import builtins
import math

import numpy as np

from gpugrad.autograd.op import composite, op
from gpugrad.autograd.rules import g_dtype


def count(shape, dim):
    """How many elements are reduced to one; dim is None (all) or a tuple."""
    n = 1
    for i in range(len(shape)) if dim is None else dim:
        n *= shape[i]
    return n


def kept_shape(shape, dim):
    """The shape with the reduced dims as 1; dim is None (all) or a tuple."""
    return tuple([1 if dim is None or i in dim else n for i, n in enumerate(shape)])


def wide_sum(be, x, dim, keepdim):
    """Sum with float16 accumulated in float32, integers in int64."""
    kind, dtype = x.dtype.kind, None
    if kind in "bui":
        dtype = np.int64
    elif x.dtype.itemsize == 2:
        return be.xp.add.reduce(x, dim, np.float32, None, keepdim).astype(x.dtype)
    return be.xp.add.reduce(x, dim, dtype, None, keepdim)


@composite
def unsum(o, g, shape, dim, keepdim):
    """Put reduced dims back as size 1, and expand."""
    if dim is not None and not keepdim:
        g = o.reshape(g, kept_shape(shape, dim))
    return o.expand(g, shape=shape)


@composite
def unreduce(o, r, shape, dim, keepdim):
    """Put reduced dims back as size 1."""
    return r if keepdim and dim is not None else o.reshape(r, kept_shape(shape, dim))


@op("SumBackward1")
class sum:
    """Over a tuple of dims."""
    def forward(be, x, *, dim=None, keepdim=False):
        return wide_sum(be, x, dim, keepdim)
    def grad_x(o, g, x_shape, dim, keepdim):
        return o.unsum(g, x_shape, dim, keepdim)


@op("SumBackward0")
class sum_all:
    def forward(be, x):
        return wide_sum(be, x, None, False)
    def grad_x(o, g, x_shape):
        return o.expand(g, shape=x_shape)


@op("MeanBackward1")
class mean:
    """Over a tuple of dims."""
    def forward(be, x, *, dim=None, keepdim=False):
        return wide_sum(be, x, dim, keepdim) / be.number[count(x.shape, dim), x.dtype]
    def grad_x(o, g, x_shape, dim, keepdim):
        return o.unsum(o.divide_by(g, number=count(x_shape, dim)), x_shape, dim, keepdim)


@op("MeanBackward0")
class mean_all:
    def forward(be, x):
        return wide_sum(be, x, None, False) / be.number[x.size, x.dtype]
    def grad_x(o, g, x_shape):
        return o.expand(o.divide_by(g, number=count(x_shape, None)), shape=x_shape)


def over(degrees):
    """1 / degrees of freedom, where 1 / 0 is infinity."""
    return 1 / degrees if degrees else math.inf


@op("VarBackward0")
class var:
    """Mean squared distance from the mean, over count - correction."""
    def forward(be, x, *, dim=None, correction=1, keepdim=False):
        xp = be.xp
        wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
        n = be.number[count(x.shape, dim), wide.dtype]
        centred = wide - xp.add.reduce(wide, dim, None, None, True) / n
        total = xp.add.reduce(xp.square(centred), dim, None, None, keepdim)
        degrees = be.xp.asarray(builtins.max(count(x.shape, dim) - correction, 0), wide.dtype)
        with np.errstate(divide="ignore", invalid="ignore"):
            return (total / degrees).astype(x.dtype)
    def grad_x(o, g, x, x_shape, dim, correction, keepdim):
        n = count(x_shape, dim)
        centred = o.sub(x, o.mean(x, dim=dim, keepdim=True))
        slope = o.scale(centred, number=2 * over(n - correction))
        return o.mul(o.unreduce(g, x_shape, dim, keepdim), slope)


@op("StdBackward0")
class std:
    """The square root of var."""
    def forward(be, x, *, dim=None, correction=1, keepdim=False):
        return be.xp.sqrt(var.spec.forward(be, x, dim=dim, correction=correction, keepdim=keepdim))
    def grad_x(o, g, x, result, x_shape, dim, correction, keepdim):
        n = count(x_shape, dim)
        centred = o.sub(x, o.mean(x, dim=dim, keepdim=True))
        share = o.drop_where(o.div(g, result), o.eq(result, 0))
        slope = o.scale(centred, number=over(n - correction))
        return o.mul(o.unreduce(share, x_shape, dim, keepdim), slope)


def product(be, x, dim, keepdim):
    wide = {"b": np.int64, "u": np.int64, "i": np.int64}.get(x.dtype.kind)
    if x.dtype.itemsize == 2 and wide is None:
        return be.xp.multiply.reduce(x, dim, np.float32, None, keepdim).astype(x.dtype)
    return be.xp.multiply.reduce(x, dim, wide, None, keepdim)


@op("ProdBackward1")
class prod:
    """The product over one dim."""
    def forward(be, x, *, dim, keepdim=False):
        return product(be, x, dim, keepdim)
    def grad_x(o, g, x, x_shape, dim, keepdim):
        others = o.transpose(o.prod_of_others(o.transpose(x, dim0=dim, dim1=-1)), dim0=dim, dim1=-1)
        return o.mul(o.unreduce(g, x_shape, (dim,), keepdim), others)


@op("ProdBackward0")
class prod_all:
    def forward(be, x):
        return product(be, x, None, False)
    def grad_x(o, g, x, x_shape):
        others = o.prod_of_others(o.reshape(x, (count(x_shape, None),)))
        return o.mul(g, o.reshape(others, x_shape))


@composite
def prod_of_others(o, x):
    """For each element the product of all others of its row: right where elements are 0.

    Up a binary tree of products and down again: work in proportion to the elements.
    """
    n, last = x.shape[-1], len(x.shape) - 1
    if n < 2:
        return o.shift(o.zeros_like(x), number=1)
    left = o.slice_(x, dim=last, start=0, stop=n, step=2)
    right = o.slice_(x, dim=last, start=1, stop=n, step=2)
    if n % 2:
        one = o.slice_(left, dim=last, start=0, stop=1)
        right = o.cat(right, o.shift(o.zeros_like(one), number=1), dim=last)
    above = o.prod_of_others(o.mul(left, right))
    both = o.stack(o.mul(above, right), o.mul(above, left), dim=last + 1)
    return o.slice_(o.reshape(both, (*x.shape[:-1], n + n % 2)), dim=last, start=0, stop=n)


# Extremes ----------------------------------------------------------------------------------------


@composite
def share_among_ties(o, g, x, result, shape, dim, keepdim):
    """The gradient of an extreme value, in equal parts to all that have it, or are NaN."""
    won = o.logical_or(o.eq(x, o.unreduce(result, shape, dim, keepdim)), o.isnan(x))
    ties = o.sum(o.to(won, dtype=g_dtype(g)), dim=dim, keepdim=True)
    share = o.div(o.unreduce(g, shape, dim, keepdim), o.reshape(ties, kept_shape(shape, dim)))
    return o.keep_where(o.expand(share, shape=shape), won)


@op("AmaxBackward0")
class amax:
    """Maxima over a tuple of dims, the gradient shared by ties."""
    def forward(be, x, *, dim=None, keepdim=False):
        return be.xp.maximum.reduce(x, dim, None, None, keepdim)
    def grad_x(o, g, x, result, x_shape, dim, keepdim):
        return o.share_among_ties(g, x, result, x_shape, dim, keepdim)


@op("AminBackward0")
class amin:
    """Minima over a tuple of dims, the gradient shared by ties."""
    def forward(be, x, *, dim=None, keepdim=False):
        return be.xp.minimum.reduce(x, dim, None, None, keepdim)
    def grad_x(o, g, x, result, x_shape, dim, keepdim):
        return o.share_among_ties(g, x, result, x_shape, dim, keepdim)


@op("MaxBackward1")
class max_all:
    def forward(be, x):
        return be.xp.maximum.reduce(x, None)
    def grad_x(o, g, x, result, x_shape):
        return o.share_among_ties(g, x, result, x_shape, None, False)


@op("MinBackward1")
class min_all:
    def forward(be, x):
        return be.xp.minimum.reduce(x, None)
    def grad_x(o, g, x, result, x_shape):
        return o.share_among_ties(g, x, result, x_shape, None, False)


def extreme(be, x, index, dim, keepdim):
    index = be.xp.expand_dims(index, dim)
    value = be.xp.take_along_axis(x, index, dim)
    return (value, index) if keepdim else (value.squeeze(dim), index.squeeze(dim))


@composite
def scatter_kept(o, g, index, shape, dim, keepdim):
    if not keepdim:
        g, index = (o.reshape(a, kept_shape(shape, (dim,))) for a in (g, index))
    return o.scatter(g, index, shape=shape, dim=dim)


@op("MaxBackward0", outputs=2)
class max:
    """Maxima along one dim, and where they first occur."""
    def forward(be, x, *, dim, keepdim=False):
        return extreme(be, x, be.xp.argmax(x, dim), dim, keepdim)
    def grad_x(o, g, result1, x_shape, dim, keepdim):
        return o.scatter_kept(g, result1, x_shape, dim, keepdim)


@op("MinBackward0", outputs=2)
class min:
    """Minima along one dim, and where they first occur."""
    def forward(be, x, *, dim, keepdim=False):
        return extreme(be, x, be.xp.argmin(x, dim), dim, keepdim)
    def grad_x(o, g, result1, x_shape, dim, keepdim):
        return o.scatter_kept(g, result1, x_shape, dim, keepdim)


@op()
class argmax:
    """The index of the first maximum along dim; None: in the flattened tensor."""
    def forward(be, x, *, dim=None, keepdim=False):
        return be.xp.argmax(x, dim, keepdims=keepdim)


@op()
class argmin:
    """The index of the first minimum along dim; None: in the flattened tensor."""
    def forward(be, x, *, dim=None, keepdim=False):
        return be.xp.argmin(x, dim, keepdims=keepdim)


# Logic, running sums, norms ----------------------------------------------------------------------


@op()
class all:
    def forward(be, x, *, dim=None, keepdim=False):
        return be.xp.logical_and.reduce(x, dim, None, None, keepdim)


@op()
class any:
    def forward(be, x, *, dim=None, keepdim=False):
        return be.xp.logical_or.reduce(x, dim, None, None, keepdim)


@op("LogsumexpBackward0")
class logsumexp:
    """log(sum(exp(x))) over a tuple of dims, without overflow."""
    def forward(be, x, *, dim, keepdim=False):
        xp = be.xp
        shape = kept_shape(x.shape, dim)
        top = xp.max(x, dim, keepdims=True) if x.size else xp.zeros(shape, x.dtype)
        top = xp.where(xp.isfinite(top), top, be.number[0, x.dtype])
        total = xp.add.reduce(xp.exp(x - top), dim, None, None, True)
        with np.errstate(divide="ignore"):
            out = xp.log(total) + top
        return out if keepdim else out.squeeze(dim)
    def grad_x(o, g, x, result, x_shape, dim, keepdim):
        share = o.exp(o.sub(x, o.unreduce(result, x_shape, dim, keepdim)))
        return o.mul(o.unreduce(g, x_shape, dim, keepdim), share)


@op("CumsumBackward0")
class cumsum:
    def forward(be, x, *, dim):
        return be.xp.cumsum(x, dim, np.int64 if x.dtype.kind in "bui" else None)
    def grad_x(o, g, dim):
        return o.flip(o.cumsum(o.flip(g, dims=(dim,)), dim=dim), dims=(dim,))


@op("LinalgVectorNormBackward0")
class vector_norm:
    """sum(|x| ** p) ** (1 / p); for p = 0 the count of what isn't 0, for an infinite p the largest
    or smallest |x|. Where the norm is 0, or its slope infinite, the gradient is 0."""
    def forward(be, x, *, p=2, dim=None, keepdim=False):
        xp = be.xp
        size = xp.absolute(x.astype(np.float32) if x.dtype.itemsize == 2 else x)
        if math.isinf(p):
            reduce = xp.maximum.reduce if p > 0 else xp.minimum.reduce
            return reduce(size, dim, None, None, keepdim).astype(x.dtype)
        if p == 0:
            size = (size != 0).astype(size.dtype)
        elif p == 2:
            size = xp.square(size)
        elif p != 1:
            size = xp.power(size, be.number[p, size.dtype])
        total = xp.add.reduce(size, dim, None, None, keepdim)
        if p not in (0, 1):
            total = xp.sqrt(total) if p == 2 else xp.power(total, be.number[1 / p, total.dtype])
        return total.astype(x.dtype)
    def grad_x(o, g, x, result, x_shape, p, dim, keepdim):
        if p == 0:
            return o.zeros_like(x)
        if math.isinf(p):
            return o.mul(o.share_among_ties(g, o.abs(x), result, x_shape, dim, keepdim), o.sign(x))
        if p == 1:
            return o.mul(o.unreduce(g, x_shape, dim, keepdim), o.sign(x))
        share = o.div(g, result if p == 2 else o.pow_number(result, exponent=p - 1))
        share = o.unreduce(o.drop_where(share, o.eq(result, 0)), x_shape, dim, keepdim)
        if p == 2:
            return o.mul(share, x)
        slope = o.mul(x, o.pow_number(o.abs(x), exponent=p - 2))
        return o.mul(share, slope if p >= 2 else o.drop_where(slope, o.eq(x, 0)))
