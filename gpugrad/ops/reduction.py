"""Sums, means, extremes and other reductions. Ops take dims as a tuple of non-negative numbers."""
from __future__ import annotations

import builtins
import math

import numpy as np

from gpugrad.autograd.op import composite, op
from gpugrad.autograd.rules import g_dtype
from gpugrad.backend.kernels import acc
from gpugrad.dtypes import HALF, WHOLE
from gpugrad.layouts import in_order
from gpugrad.ops.channels import channel_moments, channel_sum, launch, layout, plan

LARGE = 1 << 14         # elements of sums for which it is worth to look for a kernel


def count(shape, dim):
    """How many elements are reduced to one; dim is None (all) or a tuple."""
    n = 1
    for i in range(len(shape)) if dim is None else dim:
        n *= shape[i]
    return n


def kept_shape(shape, dim):
    """The shape with the reduced dims as 1; dim is None (all) or a tuple."""
    return tuple([1 if dim is None or i in dim else n for i, n in enumerate(shape)])


def reduced_shape(shape, dim, keepdim):
    """The shape of what a reduction leaves; dim is None (all) or a tuple."""
    if keepdim:
        return kept_shape(shape, dim)
    return () if dim is None else tuple([n for i, n in enumerate(shape) if i not in dim])


def wide_sum(be, x, dim, keepdim):
    """Sum with 16 bits accumulated in float32, integers in int64."""
    dtype = x.dtype
    if dtype in WHOLE:
        if x.size > LARGE and (out := be.total(x, dim)) is not None:
            return out.reshape(reduced_shape(x.shape, dim, keepdim))
        return be.xp.add.reduce(x, dim, None, None, keepdim)
    if dtype.kind in "bui":
        return be.xp.add.reduce(x, dim, np.int64, None, keepdim)
    if dtype in HALF:
        return be.xp.add.reduce(x, dim, np.float32, None, keepdim).astype(dtype)
    return be.xp.add.reduce(x, dim, None, None, keepdim)


def summed(be, x, dim, keepdim, scale=1.0):
    """scale times the sum over dim by our kernels, deterministic and fast for any shape."""
    if not x.flags.c_contiguous and (order := in_order(x)):
        kept = [] if dim is None else [d for d in order if d not in dim]
        if kept != sorted(kept):
            return NotImplemented
        places = None if dim is None else tuple([order.index(d) for d in dim])
        out = summed(be, x.transpose(order), places, False, scale)
        return out if out is NotImplemented else out.reshape(reduced_shape(x.shape, dim, keepdim))
    at = layout(x.shape, dim)
    if at is None or not x.size or not be.kernels.take(x.dtype) or not x.flags.c_contiguous:
        return NotImplemented
    return channel_sum(be, x, *at, scale).reshape(reduced_shape(x.shape, dim, keepdim))


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
    def cuda(be, x, *, dim=None, keepdim=False):
        return summed(be, x, dim, keepdim)
    def grad_x(o, g, x_shape, dim, keepdim):
        return o.unsum(g, x_shape, dim, keepdim)


@op("SumBackward0")
class sum_all:
    def forward(be, x):
        return wide_sum(be, x, None, False)
    def cuda(be, x):
        return summed(be, x, None, False)
    def grad_x(o, g, x_shape):
        return o.expand(g, shape=x_shape)


@op("MeanBackward1")
class mean:
    """Over a tuple of dims."""
    def forward(be, x, *, dim=None, keepdim=False):
        if x.dtype in HALF:
            return be.in_float32(mean, x, dim=dim, keepdim=keepdim)
        return wide_sum(be, x, dim, keepdim) / be.number[count(x.shape, dim), x.dtype]
    def cuda(be, x, *, dim=None, keepdim=False):
        return summed(be, x, dim, keepdim, 1 / builtins.max(count(x.shape, dim), 1))
    def grad_x(o, g, x_shape, dim, keepdim):
        return o.unsum(o.divide_by(g, number=count(x_shape, dim)), x_shape, dim, keepdim)


@op("MeanBackward0")
class mean_all:
    def forward(be, x):
        if x.dtype in HALF:
            return be.in_float32(mean_all, x)
        return wide_sum(be, x, None, False) / be.number[x.size, x.dtype]
    def cuda(be, x):
        return summed(be, x, None, False, 1 / builtins.max(x.size, 1))
    def grad_x(o, g, x_shape):
        return o.expand(o.divide_by(g, number=count(x_shape, None)), shape=x_shape)


def over(degrees):
    """1 / degrees of freedom, where 1 / 0 is infinity."""
    return 1 / degrees if degrees else math.inf


def spread(be, x, dim, correction, keepdim):
    """(variance, mean), portably."""
    xp = be.xp
    wide = x.astype(np.float32) if x.dtype in HALF else x
    n = count(x.shape, dim)
    mean = xp.add.reduce(wide, dim, None, None, True) / be.number[n, wide.dtype]
    away = wide - mean
    square = xp.square(away.real) + xp.square(away.imag) if x.dtype.kind == "c" else xp.square(away)
    total = xp.add.reduce(square, dim, None, None, keepdim)
    degrees = xp.asarray(builtins.max(n - correction, 0), total.dtype)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = total / degrees
    mean = mean.reshape(reduced_shape(x.shape, dim, keepdim))
    return total.astype(x.real.dtype, copy=False), mean.astype(x.dtype, copy=False)


def spread_by_kernel(be, x, dim, correction, keepdim, root=False):
    """(variance, or std if ``root``, mean), or NotImplemented."""
    at = layout(x.shape, dim)
    if at is None or not x.size or not be.kernels.take(x.dtype):
        return NotImplemented
    at, dtype, shape = plan(*at), x.dtype, reduced_shape(x.shape, dim, keepdim)
    out = [be.empty(shape, dtype) for _ in range(2)]
    degrees = builtins.max(count(x.shape, dim) - correction, 0)
    launch(be, "reduction", "channel_variance", dtype, at,
           (*channel_moments(be, be._dense(x), at), *out, at.struct,
            acc(degrees, dtype), np.int32(root)), whole=True)
    return tuple(out)


@composite
def var_grad(o, g, x, shape, dim, correction, keepdim):
    centred = o.sub(x, o.mean(x, dim=dim, keepdim=True))
    degrees = count(shape, dim) - correction
    if degrees <= 0 and (dim is None or not shape):      # as PyTorch says: infinite, or NaN
        slope = o.scale(o.abs(centred), number=math.inf)
    else:
        slope = o.scale(centred, number=2 * over(degrees))
    return o.mul(o.unreduce(g, shape, dim, keepdim), slope)


@composite
def std_grad(o, g, x, result, shape, dim, correction, keepdim):
    centred = o.sub(x, o.mean(x, dim=dim, keepdim=True))
    share = o.drop_where(o.div(g, result), o.eq(result, 0))
    slope = o.scale(centred, number=over(count(shape, dim) - correction))
    return o.mul(o.unreduce(share, shape, dim, keepdim), slope)


@composite
def mean_grad(o, g, shape, dim, keepdim):
    return o.unsum(o.divide_by(g, number=count(shape, dim)), shape, dim, keepdim)


@op("VarBackward0")
class var:
    """Mean squared distance from the mean, over count - correction."""
    def forward(be, x, *, dim=None, correction=1, keepdim=False):
        return spread(be, x, dim, correction, keepdim)[0]
    def cuda(be, x, *, dim=None, correction=1, keepdim=False):
        out = spread_by_kernel(be, x, dim, correction, keepdim)
        return out if out is NotImplemented else out[0]
    def grad_x(o, g, x, x_shape, dim, correction, keepdim):
        return o.var_grad(g, x, x_shape, dim, correction, keepdim)


@op("StdBackward0")
class std:
    """The square root of var."""
    def forward(be, x, *, dim=None, correction=1, keepdim=False):
        return be.xp.sqrt(spread(be, x, dim, correction, keepdim)[0])
    def cuda(be, x, *, dim=None, correction=1, keepdim=False):
        out = spread_by_kernel(be, x, dim, correction, keepdim, root=True)
        return out if out is NotImplemented else out[0]
    def grad_x(o, g, x, result, x_shape, dim, correction, keepdim):
        return o.std_grad(g, x, result, x_shape, dim, correction, keepdim)


@op("VarMeanBackward0", outputs=2, diff=2, holomorphic=False)
class var_mean:
    """var and mean together."""
    def forward(be, x, *, dim=None, correction=1, keepdim=False):
        return spread(be, x, dim, correction, keepdim)
    def cuda(be, x, *, dim=None, correction=1, keepdim=False):
        return spread_by_kernel(be, x, dim, correction, keepdim)
    def grad_x(o, g0, g1, x, x_shape, dim, correction, keepdim):
        parts = [] if g0 is None else [o.var_grad(g0, x, x_shape, dim, correction, keepdim)]
        if g1 is not None:
            parts.append(o.mean_grad(g1, x_shape, dim, keepdim))
        return parts[0] if len(parts) == 1 else o.add(*parts)


@op("StdMeanBackward0", outputs=2, diff=2, holomorphic=False)
class std_mean:
    """std and mean together."""
    def forward(be, x, *, dim=None, correction=1, keepdim=False):
        v, mean = spread(be, x, dim, correction, keepdim)
        return be.xp.sqrt(v), mean
    def cuda(be, x, *, dim=None, correction=1, keepdim=False):
        return spread_by_kernel(be, x, dim, correction, keepdim, root=True)
    def grad_x(o, g0, g1, x, result0, x_shape, dim, correction, keepdim):
        parts = [] if g0 is None else [
            o.std_grad(g0, x, result0, x_shape, dim, correction, keepdim)]
        if g1 is not None:
            parts.append(o.mean_grad(g1, x_shape, dim, keepdim))
        return parts[0] if len(parts) == 1 else o.add(*parts)


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


@op("AminmaxBackward0", outputs=2, diff=2)
class aminmax:
    """Minima and maxima over a tuple of dims, the gradient shared by ties."""
    def forward(be, x, *, dim=None, keepdim=False):
        return (be.xp.minimum.reduce(x, dim, None, None, keepdim),
                be.xp.maximum.reduce(x, dim, None, None, keepdim))
    def grad_x(o, g0, g1, x, result0, result1, x_shape, dim, keepdim):
        shares = [o.share_among_ties(g, x, result, x_shape, dim, keepdim)
                  for g, result in ((g0, result0), (g1, result1)) if g is not None]
        return shares[0] if len(shares) == 1 else o.add(*shares)


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


LONG = 1 << 14          # elements of a line from which one block is too slow for the whole tensor


def places(be, x, dim, largest):
    """(values, indices) of the first extremes along dim, which stays as size 1."""
    if not be.kernels.take(x.dtype) or not x.size:
        return NotImplemented
    x, shape = be._dense(x), kept_shape(x.shape, (dim,))
    outer, inner = count(x.shape, range(dim)), count(x.shape, range(dim + 1, x.ndim))
    return lines_extreme(be, x, outer, x.shape[dim], inner, shape, largest)


def place(be, x, largest):
    """The index of the first extreme of the whole of x, 0-dim: long lines at first, then theirs."""
    if not be.kernels.take(x.dtype) or not x.size:
        return NotImplemented
    x, n = be._dense(x), x.size
    length = n if n < LONG else LONG // 8
    lines = -(-n // length)
    values, indices = lines_extreme(be, x, lines, length, 1, (lines,), largest)
    if lines == 1:
        return indices.reshape(())
    best = lines_extreme(be, values, 1, lines, 1, (1,), largest)[1]
    return (be.xp.take(indices, best) + best * length).reshape(())


def lines_extreme(be, x, outer, length, inner, shape, largest):
    """(values, indices) by our kernel, of the shape given; the last line may be shorter."""
    values, indices = be.empty(shape, x.dtype), be.empty(shape, np.int64)
    at = plan(1, outer * inner, length, 1) if inner == 1 else plan(length, outer * inner, 1, 1)
    launch(be, "reduction", "line_extreme", x.dtype, at,
           (x, values, indices, at.struct, np.int64(length), np.int64(inner), np.int64(x.size),
            acc(1 if largest else -1, x.dtype)))
    return values, indices


def without(out, dim, keepdim):
    """Results of size 1 in dim, with that dim or without."""
    return out if keepdim or out is NotImplemented else tuple([a.squeeze(dim) for a in out])


def only_places(be, x, dim, keepdim, largest):
    """argmax or argmin by our kernel, or NotImplemented."""
    if dim is None:
        out = place(be, x, largest)
        return out.reshape((1,) * x.ndim) if keepdim and out is not NotImplemented else out
    out = without(places(be, x, dim, largest), dim, keepdim)
    return out if out is NotImplemented else out[1]


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
    def cuda(be, x, *, dim, keepdim=False):
        return without(places(be, x, dim, True), dim, keepdim)
    def grad_x(o, g, result1, x_shape, dim, keepdim):
        return o.scatter_kept(g, result1, x_shape, dim, keepdim)


@op("MinBackward0", outputs=2)
class min:
    """Minima along one dim, and where they first occur."""
    def forward(be, x, *, dim, keepdim=False):
        return extreme(be, x, be.xp.argmin(x, dim), dim, keepdim)
    def cuda(be, x, *, dim, keepdim=False):
        return without(places(be, x, dim, False), dim, keepdim)
    def grad_x(o, g, result1, x_shape, dim, keepdim):
        return o.scatter_kept(g, result1, x_shape, dim, keepdim)


@op()
class argmax:
    """The index of the first maximum along dim; None: in the flattened tensor."""
    def forward(be, x, *, dim=None, keepdim=False):
        return be.xp.argmax(x, dim, keepdims=keepdim)
    def cuda(be, x, *, dim=None, keepdim=False):
        return only_places(be, x, dim, keepdim, True)


@op()
class argmin:
    """The index of the first minimum along dim; None: in the flattened tensor."""
    def forward(be, x, *, dim=None, keepdim=False):
        return be.xp.argmin(x, dim, keepdims=keepdim)
    def cuda(be, x, *, dim=None, keepdim=False):
        return only_places(be, x, dim, keepdim, False)


# Logic and norms ---------------------------------------------------------------------------------


def truth(be, x, dim, keepdim, wanted):
    """Whether any element is true (wanted 1), or all are (0), by our kernel, or NotImplemented."""
    at, shape = layout(x.shape, dim), reduced_shape(x.shape, dim, keepdim)
    if at is None or not x.size or not be.kernels.on:
        return NotImplemented
    x = be._dense(x if x.dtype == np.bool_ else x != 0).view(np.uint8)
    while True:                                  # then over the parts, until there is one
        n, c, size = at
        at = plan(n, c, size)
        y = be.empty((at.parts, c), np.uint8)
        launch(be, "reduction", "channel_any", np.dtype(np.float32), at,
               (x, y, at.struct, np.int32(wanted)))
        if at.parts == 1:
            return y.view(np.bool_).reshape(shape)
        x, at = y, (at.parts, c, 1)


@op()
class all:
    def forward(be, x, *, dim=None, keepdim=False):
        return be.xp.logical_and.reduce(x, dim, None, None, keepdim)
    def cuda(be, x, *, dim=None, keepdim=False):
        return truth(be, x, dim, keepdim, 0)


@op()
class any:
    def forward(be, x, *, dim=None, keepdim=False):
        return be.xp.logical_or.reduce(x, dim, None, None, keepdim)
    def cuda(be, x, *, dim=None, keepdim=False):
        return truth(be, x, dim, keepdim, 1)


@op("LogsumexpBackward0")
class logsumexp:
    """log(sum(exp(x))) over a tuple of dims, without overflow."""
    def forward(be, x, *, dim, keepdim=False):
        if x.dtype in HALF:
            return be.in_float32(logsumexp, x, dim=dim, keepdim=keepdim)
        xp = be.xp
        shape = kept_shape(x.shape, dim)
        top = xp.max(x, dim, keepdims=True) if x.size else xp.zeros(shape, x.dtype)
        top = xp.where(xp.isfinite(top), top, be.number[0, x.dtype])
        total = xp.add.reduce(xp.exp(x - top), dim, None, None, True)
        with np.errstate(divide="ignore"):
            out = xp.log(total) + top
        return out if keepdim else out.squeeze(dim)
    def cuda(be, x, *, dim, keepdim=False):
        at = layout(x.shape, dim)
        if at is None or at[0] > 1 or not x.size or not be.kernels.take(x.dtype):
            return NotImplemented
        out = be.empty(reduced_shape(x.shape, dim, keepdim), x.dtype)
        be.kernels.rows("reduction", "logsumexp", x.dtype, *at[1:], (be._dense(x), out))
        return out
    def grad_x(o, g, x, result, x_shape, dim, keepdim):
        share = o.exp(o.sub(x, o.unreduce(result, x_shape, dim, keepdim)))
        return o.mul(o.unreduce(g, x_shape, dim, keepdim), share)


@composite
def norm_grad(o, g, x, result, shape, p, dim, keepdim):
    """The gradient of vector_norm."""
    dtype = g_dtype(x)
    if dtype in HALF:                            # g / result may be too large for it
        g, x, result = (o.to(a, dtype=np.dtype(np.float32)) for a in (g, x, result))
        return o.to(o.norm_grad(g, x, result, shape, p, dim, keepdim), dtype=dtype)
    if p == 0:
        return o.zeros_like(x)
    if math.isinf(p):
        return o.mul(o.share_among_ties(g, o.abs(x), result, shape, dim, keepdim), o.sgn(x))
    if p == 1:
        return o.mul(o.unreduce(g, shape, dim, keepdim), o.sgn(x))
    zero = o.eq(result, 0)
    size = o.add(result, o.to(zero, dtype=g_dtype(result)))
    share = o.div(g, size if p == 2 else o.pow_number(size, exponent=p - 1))
    share = o.unreduce(o.drop_where(share, zero), shape, dim, keepdim)
    if p == 2:
        return o.mul(share, x)
    slope = o.mul(x, o.pow_number(o.abs(x), exponent=p - 2))
    return o.mul(share, slope if p >= 2 else o.drop_where(slope, o.eq(x, 0)))


@op("LinalgVectorNormBackward0")
class vector_norm:
    """sum(|x| ** p) ** (1 / p); for p = 0 the count of what isn't 0, for an infinite p the largest
    or smallest |x|. Where the norm is 0, or its slope infinite, the gradient is 0."""
    def forward(be, x, *, p=2, dim=None, keepdim=False):
        xp = be.xp
        size = xp.absolute(x.astype(np.float32) if x.dtype.itemsize == 2 else x)
        if math.isinf(p):
            reduce = xp.maximum.reduce if p > 0 else xp.minimum.reduce
            return reduce(size, dim, None, None, keepdim).astype(x.real.dtype)
        if p == 0:
            size = (size != 0).astype(size.dtype)
        elif p == 2:
            size = xp.square(size)
        elif p != 1:
            size = xp.power(size, be.number[p, size.dtype])
        total = xp.add.reduce(size, dim, None, None, keepdim)
        if p not in (0, 1):
            total = xp.sqrt(total) if p == 2 else xp.power(total, be.number[1 / p, total.dtype])
        return total.astype(x.real.dtype)
    def grad_x(o, g, x, result, x_shape, p, dim, keepdim):
        return o.norm_grad(g, x, result, x_shape, p, dim, keepdim)
