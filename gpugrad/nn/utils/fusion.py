"""A convolution or linear layer and the batch norm behind it as one layer, for inference."""
from __future__ import annotations

import copy
import functools
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.nn.parameter import Parameter


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A copy of ``conv`` that does what conv and then bn do in eval mode; ``transpose``: it is a
    transposed convolution.
    """
    return _fused(conv, bn, functools.partial(fuse_conv_bn_weights, transpose=transpose))


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """A copy of ``linear`` that does what linear and then bn do in eval mode."""
    if bn.num_features not in (linear.out_features, 1):
        raise AssertionError("To fuse, linear.out_features == bn.num_features or bn.num_features "
                             f"== 1, got linear.out_features={linear.out_features} and "
                             f"bn.num_features={bn.num_features}")
    return _fused(linear, bn, fuse_linear_bn_weights)


def _fused(layer: Any, bn: Any, fuse: Any) -> Any:
    if layer.training or bn.training:
        raise AssertionError("Fusion only for eval!")
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError("bn.running_mean and bn.running_var must not be None: without "
                             "running statistics there is nothing to fuse")
    fused = copy.deepcopy(layer)
    fused.weight, fused.bias = fuse(fused.weight, fused.bias, bn.running_mean, bn.running_var,
                                    bn.eps, bn.weight, bn.bias)
    return fused


def fuse_conv_bn_weights(conv_w: Tensor, conv_b: Tensor | None, bn_rm: Tensor, bn_rv: Tensor,
                         bn_eps: float, bn_w: Tensor | None, bn_b: Tensor | None,
                         transpose: bool = False) -> tuple[Parameter, Parameter]:
    """Weight and bias of the one layer, from those of the convolution and the batch norm."""
    rest = [1] * (conv_w.ndim - 2)
    return _fuse(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b,
                 [1, -1, *rest] if transpose else [-1, 1, *rest])


def fuse_linear_bn_weights(linear_w: Tensor, linear_b: Tensor | None, bn_rm: Tensor,
                           bn_rv: Tensor, bn_eps: float, bn_w: Tensor | None,
                           bn_b: Tensor | None) -> tuple[Parameter, Parameter]:
    """Weight and bias of the one layer, from those of the linear layer and the batch norm."""
    return _fuse(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, [-1, 1])


def _fuse(w: Tensor, b: Tensor | None, mean: Tensor, var: Tensor, eps: float, gain: Tensor | None,
          shift: Tensor | None, shape: list[int]) -> tuple[Parameter, Parameter]:
    """w scaled by gain / std along the dim of -1 in ``shape``, and the bias that goes with it."""
    scale = (var + eps).rsqrt()
    if gain is not None:
        scale = gain * scale
    bias = -mean * scale if b is None else (b - mean) * scale
    if shift is not None:
        bias = bias + shift
    grads = w.requires_grad, b is not None and b.requires_grad
    return (Parameter((w * scale.reshape(shape)).to(w.dtype).detach(), grads[0]),
            Parameter(bias.to(w.dtype if b is None else b.dtype).detach(), grads[1]))
