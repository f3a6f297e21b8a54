"""Group norm: the channels of each sample in groups, each group to mean 0 and variance 1."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.autograd.op import op
from gpugrad.backend.compiled import FLOAT, dense, for_floats
from gpugrad.backend.kernels import acc
from gpugrad.dtypes import wide
from gpugrad.ops.batch_norm import channel_products, fold, pair
from gpugrad.ops.channels import channel_moments, launch, plan
from gpugrad.ops.norm import (
    add_statistics,
    affine,
    cast,
    cast_back,
    needed,
    parameter,
    parts,
    second_order,
)


@op("NativeGroupNormBackward0", outputs=3, diff=3)
class group_norm:
    """x (n, c, ...) in groups of channels: (x - mean) / std * weight + bias; also mean and 1 / std.

    weight and bias are (c,), mean and 1 / std (n, groups).
    """
    def forward(be, x, weight=None, bias=None, *, groups, eps=1e-5):
        xp, dtype = be.xp, wide(x.dtype)
        rows = by_group(x, groups)
        n, _, share, size = rows.shape
        d = share * size
        out, (mean, r) = be.empty(rows.shape, dtype), be.empty((2, n, groups), dtype)
        weight, bias = (a if a is None else a.reshape(groups, share, 1).astype(dtype, copy=False)
                        for a in (weight, bias))
        for part in parts(be, n, groups * d * dtype.itemsize):
            row, y, centre = rows[part].astype(dtype, copy=False), out[part], mean[part]
            flat = row.reshape(len(row), groups, d)
            xp.divide(xp.einsum("ngd->ng", flat), be.number[d, dtype], out=centre)
            xp.subtract(row, centre[..., None, None], out=y)
            flat = y.reshape(len(row), groups, d)
            var = xp.einsum("ngd,ngd->ng", flat, flat) / be.number[d, dtype]
            var += be.number[eps, dtype]
            xp.divide(be.number[1, dtype], xp.sqrt(var), out=r[part])
            slope = r[part][..., None, None]
            y *= slope if weight is None else slope * weight
            if bias is not None:
                y += bias
        return out.reshape(x.shape).astype(x.dtype, copy=False), mean, r
    def cpu(be, x, weight=None, bias=None, *, groups, eps=1e-5):
        c = for_floats(x, weight, bias)
        if c is None:
            return NotImplemented
        out, (mean, r) = np.empty(x.shape, FLOAT), pair(be, (len(x), groups), FLOAT)
        c.norm_rows(dense(x), dense(weight), dense(bias), out, mean, r,
                    split_shape(x.shape, groups)[3], groups, eps)
        return out, mean, r
    def cuda(be, x, weight=None, bias=None, *, groups, eps=1e-5):
        if not be.kernels.take(x.dtype) or not x.size:
            return NotImplemented
        x, dtype = be._dense(x), x.dtype
        n, _, share, size = by_group(x, groups).shape
        out, (mean, r) = be.empty(x.shape, dtype), pair(be, (n, groups), wide(dtype))
        at = plan(1, n * groups, share * size)
        launch(be, "group_norm", "group_norm", dtype, at, (
            x, parameter(be, weight, dtype, mean), parameter(be, bias, dtype, mean),
            *channel_moments(be, x, at), out, mean, r, at.struct, acc(eps, dtype),
            affine(weight, bias), np.int32(groups), np.int32(size)))
        return out, mean, r
    def grads(o, g0, g1, g2, needs, x, weight, result1, result2, x_shape, x_dtype, groups):
        gx = gw = gb = None
        if g0 is not None:
            gx, gw, gb = o.group_norm_backward(g0, x, weight, result1, result2, groups=groups)
        if g1 is not None or g2 is not None:
            split = split_shape(x_shape, groups)
            g1, g2, mean, r = (a if a is None else o.reshape(a, (*split[:2], 1, 1))
                               for a in (g1, g2, result1, result2))
            x, gx = cast(o, x_dtype, *(a if a is None else o.reshape(a, split) for a in (x, gx)))
            gx = add_statistics(o, gx, g1, g2, x, mean, r, split[2] * split[3])
            gx, = cast_back(o, x_dtype, o.reshape(gx, x_shape))
        return needed(needs, gx, gw, gb)


@op("NativeGroupNormBackwardBackward0", outputs=3, diff=3)
class group_norm_backward:
    """The gradients of group_norm for x, weight and bias; r is 1 / std."""
    def forward(be, g, x, weight, mean, r, *, groups):
        xp, dtype = be.xp, wide(x.dtype)
        slopes, rows = by_group(g, groups), by_group(x, groups)
        n, _, share, size = rows.shape
        out, (gw, gb) = be.empty(rows.shape, dtype), xp.zeros((2, groups, share), dtype)
        factor = None if weight is None else weight.reshape(groups, share).astype(dtype, copy=False)
        m = be.number[share * size, dtype]
        for part in parts(be, n, groups * share * size * dtype.itemsize):
            slope, y = slopes[part].astype(dtype, copy=False), out[part]
            centre, std = mean[part][..., None, None], r[part][..., None]
            xp.subtract(rows[part], centre, out=y)
            # by image: the sums of g, and of g times what is normal
            whole, along = xp.einsum("ngcl->ngc", slope), xp.einsum("ngcl,ngcl->ngc", slope, y)
            along *= std
            gb += xp.add.reduce(whole, 0)
            gw += xp.add.reduce(along, 0)
            if factor is not None:
                whole, along = whole * factor, along * factor
            tilt, shift = (xp.add.reduce(a, 2, None, None, True) / m for a in (along, whole))
            y *= (-std * std * tilt)[..., None]
            y -= (std * shift)[..., None]
            scale = std if factor is None else std * factor
            y += slope * scale[..., None]
        own = x.dtype if weight is None else weight.dtype
        gw, gb = (a.reshape(-1).astype(own, copy=False) for a in (gw, gb))
        return out.reshape(x.shape).astype(x.dtype, copy=False), gw, gb
    def cpu(be, g, x, weight, mean, r, *, groups):
        c = for_floats(g, x, weight, mean, r)
        if c is None:
            return NotImplemented
        (n, channels), inner = x.shape[:2], split_shape(x.shape, groups)[3]
        out, sums = np.empty(x.shape, FLOAT), np.empty((2, channels), FLOAT)
        c.group_norm_backward(dense(g), dense(x), dense(weight), dense(mean), dense(r), out,
                              np.empty((n, 2, channels), FLOAT), sums, inner, groups)
        return out, sums[0], sums[1]
    def cuda(be, g, x, weight, mean, r, *, groups):
        if not be.kernels.take(x.dtype) or g.dtype != x.dtype or not x.size:
            return NotImplemented
        g, x, dtype = be._dense(g), be._dense(x), x.dtype
        mean, r, (n, c, size) = parameter(be, mean, dtype), parameter(be, r, dtype), fold(x).shape
        images, at = plan(1, n * c, size), plan(1, n * groups, c // groups * size)
        gx, (gw, gb) = be.empty(x.shape, dtype), pair(be, (c,), mean.dtype)
        sums = channel_products(be, g, x, mean, images, c // groups)
        launch(be, "group_norm", "group_norm_backward", dtype, at, (
            g, x, parameter(be, weight, dtype, mean), mean, r, *sums, gx, at.struct, affine(weight),
            np.int32(groups), np.int32(size), np.int32(images.parts)))
        over = plan(n * images.parts, c, 1, 1)
        launch(be, "group_norm", "group_norm_parameters", dtype, over, (
            *sums, r, gw, gb, over.struct, np.int32(groups), np.int32(n)))
        own = dtype if weight is None else weight.dtype
        return gx, gw.astype(own, copy=False), gb.astype(own, copy=False)
    def grads(o, g0, g1, g2, needs, g, x, weight, mean, r, x_shape, x_dtype, weight_dtype, groups):
        split = split_shape(x_shape, groups)
        line, row = (1, *split[1:3], 1), (*split[:2], 1, 1)
        u, v, t, g, x, w = cast(o, x_dtype, *(
            a if a is None else o.reshape(a, shape) for a, shape in (
                (g0, split), (g1, line), (g2, line), (g, split), (x, split), (weight, line))))
        t = t if t is None else o.expand(t, shape=split)
        mean, r = o.reshape(mean, row), o.reshape(r, row)
        out = second_order(o, u, v, t, g, x, w, mean, r, (2, 3), split[2] * split[3])
        gg, gx, gw, gm, gr = out
        gg, gx = cast_back(o, x_dtype, *(a if a is None else o.reshape(a, x_shape)
                                         for a in (gg, gx)))
        gw = gw if gw is None else o.reshape(o.sum_to(gw, line), (x_shape[1],))
        gw, = cast_back(o, weight_dtype, gw)
        gm, gr = (a if a is None else o.reshape(a, split[:2]) for a in (gm, gr))
        return needed(needs, gg, gx, gw, gm, gr)


def split_shape(shape: Any, groups: int) -> tuple[int, ...]:
    """(n, c, ...) as (n, groups, c / groups, size)."""
    size = 1
    for s in shape[2:]:
        size *= s
    return shape[0], groups, shape[1] // groups, size


def by_group(x: Any, groups: int) -> Any:
    return x.reshape(split_shape(x.shape, groups))
