"""Dropout."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.op import op
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend.compiled import dense, for_floats
from gpugrad.backend.kernels import acc
from gpugrad.backend.random import PhiloxGenerator, below, philox_words
from gpugrad.layouts import as_images, as_pixels, in_order, is_last, memory_order


@op("MulBackward0")
class native_dropout:
    """x times scale where the mask is True, else 0."""
    def forward(be, x, mask, *, scale):
        out = be.xp.multiply(x, mask)
        out *= be.number[scale, x.dtype]
        return out
    def cpu(be, x, mask, *, scale):
        c = for_floats(x)
        if c is None or mask.dtype != bool or mask.shape != x.shape:
            return NotImplemented
        if not x.flags.c_contiguous and (order := in_order(x)):
            return turned(be, x, mask, scale, order)
        out = be.empty(x.shape, x.dtype)
        c.dropout(dense(x), np.ascontiguousarray(mask), out, scale)
        return out
    def cuda(be, x, mask, *, scale):
        if not be.takes(x.dtype) or mask.dtype != bool or mask.shape != x.shape:
            return NotImplemented
        if order := in_order(x):
            return turned(be, x, mask, scale, order)
        y = be.empty(x.shape, x.dtype)
        be.kernels.each("dropout", "native_dropout", x.dtype, x.size,
                        (be._dense(x), be._dense(mask), y), acc(scale, x.dtype),
                        at_once=4)
        return y
    grad_mask = None
    def grad_x(o, g, mask, scale):
        return o.native_dropout(g, mask, scale=scale)


def turned(be: Any, x: Any, mask: Any, scale: float, order: Any) -> Any:
    """native_dropout of x, whose dims lie in memory in another order."""
    y = be.raw.native_dropout(x.transpose(order), mask.transpose(order), scale=scale)
    return y.transpose(np.argsort(order).tolist())


@op("NativeDropoutBackward0", outputs=2, diff=1)
class fused_dropout:
    """native_dropout with a mask that is True with probability ``keep``; and the mask.

    The mask is drawn as PhiloxGenerator.bernoulli draws it: state and offset are from its reserve.
    """
    def forward(be, x, state, *, offset, keep, scale):
        key, counter = (int(v) for v in be.to_host(state))
        words = philox_words(be.xp, key, (counter + int(offset)) % (1 << 64), x.size)
        mask = words.astype(np.uint64) < np.uint64(below(keep))
        # channels_last: element by element as they lie in memory
        mask = as_images(mask.reshape(as_pixels(x).shape)) if is_last(x) else mask.reshape(x.shape)
        return native_dropout.spec.forward(be, x, mask, scale=scale), mask
    def meta(be, x, state, *, offset, keep, scale):
        return be.empty(x.shape, x.dtype), be.empty(x.shape, np.bool_)
    def cuda(be, x, state, *, offset, keep, scale):
        if not be.takes(x.dtype):
            return NotImplemented
        if is_last(x):
            drawn = fused_dropout.spec.impl[be.index](be, be._dense(as_pixels(x)), state,
                                                      offset=offset, keep=keep, scale=scale)
            return tuple(map(as_images, drawn))
        y, mask = be.empty(x.shape, x.dtype), be.empty(x.shape, np.dtype(bool))
        be.kernels.each("dropout", "fused_dropout", x.dtype, x.size, (be._dense(x), y, mask),
                        acc(scale, x.dtype), be._dense(state), np.uint64(offset),
                        np.uint64(below(keep)), at_once=4)
        return y, mask
    grad_state = None
    def grad_x(o, g, result1, scale):
        return o.native_dropout(g, result1, scale=scale)


def dropout(x: Tensor, p: float, training: bool, generator: Any = None) -> Tensor:
    """x with elements set to 0 with probability p and the others scaled by 1 / (1 - p).

    x itself if not training or p is 0. generator: of x's device, its default one if None.
    """
    if not training or p == 0 or not x._a.size:
        return x
    be, dtype = x._be, x._a.dtype.type
    if p == 1:
        return T.native_dropout(x, wrap(be.xp.zeros(x._a.shape, bool), be), scale=1.0)
    source, scale = be.generator if generator is None else generator, float(dtype(1) / dtype(1 - p))
    # An op can draw element i's number by itself, if i counts as below.
    if isinstance(source, PhiloxGenerator) and (x._a.flags.c_contiguous or is_last(x._a)):
        state, offset = source.reserve(math.prod(x._a.shape))
        return T.fused_dropout(x, wrap(state, be), offset=offset, keep=1 - p, scale=scale)[0]
    return T.native_dropout(x, wrap(drawn_as(source, 1 - p, x._a), be), scale=scale)


def drawn_as(source: Any, keep: float, a: Any) -> Any:
    """A mask for ``a`` that is True with probability ``keep``, drawn in the order of its memory."""
    if a.flags.c_contiguous:
        return source.bernoulli(keep, a.shape)
    order = memory_order(a)
    mask = source.bernoulli(keep, tuple([a.shape[d] for d in order]))
    return mask.transpose(np.argsort(order).tolist())
