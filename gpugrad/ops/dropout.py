"""Dropout."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.op import op
from gpugrad.autograd.rules import tensors as T


@op("MulBackward0")
class native_dropout:
    """x times scale where the mask is True, else 0."""
    def forward(be, x, mask, *, scale):
        out = be.xp.multiply(x, mask)
        out *= be.number[scale, x.dtype]
        return out
    grad_mask = None
    def grad_x(o, g, mask, scale):
        return o.native_dropout(g, mask, scale=scale)


def dropout(x: Tensor, p: float, training: bool, generator: Any = None) -> Tensor:
    """x with elements set to 0 with probability p and the others scaled by 1 / (1 - p).

    x itself if not training or p is 0. generator: of x's device, its default one if None.
    """
    if not training or p == 0 or not x._a.size:
        return x
    be, dtype = x._be, x._a.dtype.type
    if p == 1:
        return T.native_dropout(x, wrap(be.xp.zeros(x._a.shape, bool), be), scale=1.0)
    mask = (be.generator if generator is None else generator).bernoulli(1 - p, x._a.shape)
    return T.native_dropout(x, wrap(mask, be), scale=float(dtype(1) / dtype(1 - p)))
