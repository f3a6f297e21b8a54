"""A linear layer with its activation; the way back is one pass over the gradient between them."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.autograd.op import op
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend.kernels import acc
from gpugrad.dtypes import wide
from gpugrad.ops.channels import launch, plan

KINDS = ("relu", "gelu", "gelu_tanh")               # as in kernels/bias.cu


@op("LinearReluBackward0")
class linear_relu:
    """max(x @ w.T + bias, 0) for x (n, k), w (m, k) and bias (m,): the bits of both its parts."""
    def forward(be, x, w, bias):
        return be.raw.relu(be.raw.addmm(bias, x, w.T))
    def grads(o, g, needs, x, w, result):
        return slopes(o, g, needs, x, w, result, "relu")


@op("LinearGeluBackward0", outputs=2)
class linear_gelu:
    """gelu(v) for v = x @ w.T + bias, x (n, k), w (m, k) and bias (m,); also v.

    Exact, it has the bits of both its parts. By tanh it is one call of cuBLASLt if that works,
    which takes gelu of v before it is rounded to 16 bits.
    """
    def forward(be, x, w, bias, *, approximate="none"):
        v = be.raw.addmm(bias, x, w.T)
        return be.raw.gelu(v, approximate=approximate), v
    def cuda(be, x, w, bias, *, approximate="none"):
        if approximate == "none" or not x.ndim == w.ndim == 2 or bias.shape != w.shape[:1] or \
                not x.dtype == w.dtype == bias.dtype:
            return NotImplemented
        v = be.empty((len(x), len(w)), x.dtype)
        y = be.epilogues("GELU_AUX_BIAS", x, w.T, be._dense(bias), v)
        return y if y is NotImplemented else (y, v)
    def grads(o, g, needs, x, w, bias, result1, approximate):
        v = o.addmm(bias, x, o.t(w)) if o is T else result1     # the result has no gradient
        return slopes(o, g, needs, x, w, v, "gelu" if approximate == "none" else "gelu_tanh")


@op(outputs=2)
class act_bias_backward:
    """g, (n, m), times an activation's slope at v, and the sums of its columns.

    relu's v may be its result. For the raw level alone: there are no gradients of it.
    """
    def forward(be, g, v, *, activation):
        gv = behind(be.raw, g, v, activation)
        return gv, be.raw.sum(gv, dim=(0,))
    def cuda(be, g, v, *, activation):
        if not be.takes(g.dtype) or v.dtype != g.dtype or not g.size:
            return NotImplemented
        n, m = g.shape
        at, dtype = plan(n, m, 1), g.dtype
        gv, sums = be.empty((n, m), dtype), be.empty((m,), dtype)
        parts = be.empty((at.parts, m), wide(dtype))
        launch(be, "bias", "act_bias_backward", dtype, at, (
            be._dense(g), be._dense(v), gv, parts, sums, at.struct,
            np.int32(KINDS.index(activation))))
        if at.parts > 1:
            launch(be, "reduction", "channel_sum_of_parts", dtype, at,
                   (parts, sums, at.struct, acc(1, dtype)), whole=True)
        return gv, sums


@op(outputs=3)
class act_layer_backward:
    """act_bias_backward's gv, gv.T @ x for x (n, k), and the sums: the bits of all the parts.

    With the sums beside the product, where cuBLASLt has them, they needn't come with gv.
    """
    def forward(be, g, v, x, *, activation):
        gv, sums = be.raw.act_bias_backward(g, v, activation=activation)
        return gv, be.raw.mm(gv.T, x), sums
    def cuda(be, g, v, x, *, activation):
        if not be.epilogues.expects("BGRADB", x.dtype):
            return NotImplemented
        gv = behind(be.raw, g, v, activation)
        product, sums = be.raw.product_and_sums(gv, x, order="F")
        return gv, product.T, sums


def behind(o: Any, g: Any, v: Any, activation: str) -> Any:
    """g times the slope of an activation at v."""
    if activation == "relu":
        return o.threshold_backward(g, v)
    return o.gelu_backward(g, v, approximate="none" if activation == "gelu" else "tanh")


def slopes(o: Any, g: Any, needs: Any, x: Any, w: Any, v: Any, activation: str) -> Any:
    """The gradients of a linear layer with an activation, for x, w and bias."""
    gw = None
    if o is T or not needs[2]:                      # recorded: of parts that have gradients
        gv = behind(o, g, v, activation)
        sums = o.sum(gv, dim=(0,)) if needs[2] else None
        gw = o.mm(o.t(gv), x) if needs[1] else None
    elif needs[1]:
        gv, gw, sums = o.act_layer_backward(g, v, x, activation=activation)
    else:
        gv, sums = o.act_bias_backward(g, v, activation=activation)
    return [o.mm(gv, w) if needs[0] else None, gw, sums]
