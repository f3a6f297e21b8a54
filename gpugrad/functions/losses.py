"""Losses of pairs: regression, binary cross entropy, divergences. reduction: mean, sum or none."""
from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path
from typing import Any

from gpugrad import dtypes
from gpugrad._tensor import Tensor
from gpugrad.autograd import casting
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions.arguments import broadcast_shape, cast, common
from gpugrad.functions.shape import broadcast_tensors

# What losses share -------------------------------------------------------------------------------


_PACKAGE = str(Path(__file__).parents[1])


def _warn(text: str) -> None:
    """A warning at the line that called the package: autocast may stand between."""
    frame: Any = sys._getframe(1)
    level = 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def reduction_of(reduction: str, size_average: Any = None, reduce: Any = None) -> str:
    """The reduction, also from the two arguments of old; raises ValueError if it isn't one."""
    if size_average is not None or reduce is not None:
        average = size_average is None or size_average
        reduction = "none" if reduce is not None and not reduce else "mean" if average else "sum"
        _warn("size_average and reduce args will be deprecated, please use "
              f"reduction='{reduction}' instead.")
    elif reduction == "elementwise_mean":
        _warn("reduction='elementwise_mean' is deprecated. Please use reduction='mean' instead.")
        return "mean"
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def reduced(loss: Tensor, reduction: str) -> Tensor:
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


def constant(x: Tensor | None, op: str, name: str) -> None:
    """RuntimeError if an argument that has no gradient requires one."""
    if x is not None and x.requires_grad:
        raise RuntimeError(f"The function '{op}' is not differentiable with respect to argument "
                           f"'{name}'. This input cannot have requires_grad True.")


def check_floating(x: Tensor, name: str) -> None:
    if x._a.dtype.kind not in dtypes.FLOATING:
        raise NotImplementedError(f"\"{name}\" not implemented for '{type_name(x._a.dtype)}': make "
                                  "the input floating-point, as in x.float()")


def same_sizes(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both broadcast to one shape, with a warning if they weren't of one."""
    if input._a.shape == target._a.shape:
        return input, target
    _warn(f"Using a target size ({target.size()}) that is different to the input size "
          f"({input.size()}). This will likely lead to incorrect results due to broadcasting. "
          "Please ensure they have the same size.")
    a, b = broadcast_tensors(input, target)
    return a, b


def _weighted(loss: Tensor, weight: Tensor, reduction: str, mean_over: str) -> Tensor:
    """The mean of weighted losses is over the sum of the weights, or over their number."""
    if weight.size() != loss.size():
        raise ValueError("Weights and input must have the same size.")
    loss = loss * weight
    if reduction == "mean" and mean_over == "weights":
        return loss.sum() / weight.sum()
    return reduced(loss, reduction)


# Regression --------------------------------------------------------------------------------------


def mse_loss(input: Tensor, target: Tensor, size_average: bool | None = None,
             reduce: bool | None = None, reduction: str = "mean",
             weight: Tensor | None = None) -> Tensor:
    """(input - target) squared."""
    reduction = reduction_of(reduction, size_average, reduce)
    input, target = same_sizes(input, target)
    if dtypes.promote(input._a, target._a).kind not in dtypes.FLOATING:
        check_floating(input, "mse_loss")
    if weight is not None:
        return _weighted(T.mse_loss(input, target, reduction="none"), weight, reduction, "weights")
    return T.mse_loss(input, target, reduction=reduction)


@casting.function
def l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None,
            reduce: bool | None = None, reduction: str = "mean",
            weight: Tensor | None = None) -> Tensor:
    """|input - target|"""
    reduction = reduction_of(reduction, size_average, reduce)
    input, target = same_sizes(input, target)
    loss = (input - target).abs()
    return reduced(loss, reduction) if weight is None else \
        _weighted(loss, weight, reduction, "weights")


def smooth_l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None,
                   reduce: bool | None = None, reduction: str = "mean",
                   beta: float = 1.0) -> Tensor:
    """d * d / (2 * beta) where d = |input - target| < beta, else d - beta / 2."""
    reduction = reduction_of(reduction, size_average, reduce)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    input, target = same_sizes(input, target)
    if beta == 0:
        return reduced((input - target).abs(), reduction)
    input, target = common(input, target)
    check_floating(input, "smooth_l1_loss")
    return T.smooth_l1_loss(input, target, reduction=reduction, beta=beta)


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0,
               weight: Tensor | None = None) -> Tensor:
    """d * d / 2 where d = |input - target| < delta, else delta * (d - delta / 2)."""
    reduction = reduction_of(reduction)
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    input, target = same_sizes(input, target)
    check_floating(input, "huber_loss")
    target = cast(target, input._a.dtype)
    if weight is None:
        return T.huber_loss(input, target, reduction=reduction, delta=delta)
    return _weighted(T.huber_loss(input, target, reduction="none", delta=delta), weight, reduction,
                     "elements")


@casting.function
def poisson_nll_loss(input: Tensor, target: Tensor, log_input: bool = True, full: bool = False,
                     size_average: bool | None = None, eps: float = 1e-8,
                     reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """rate - target * log(rate), where input is log(rate), or the rate itself (+ eps in the log).

    full: with Stirling's approximation of log(target!) where target is above 1.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        loss = loss + cast(stirling.masked_fill(target <= 1, 0), loss._a.dtype)
    return reduced(loss, reduction)


def gaussian_nll_loss(input: Tensor, target: Tensor, var: Any, full: bool = False,
                      eps: float = 1e-6, reduction: str = "mean") -> Tensor:
    """(log(var) + (input - target) ** 2 / var) / 2: input is the mean; var is at least eps.

    var: a float, or a tensor of input's shape, or with its last dim missing, or one dim of size 1.
    full: with the constant log(2 * pi) / 2. A negative var is an error on the CPU; elsewhere the
    host would have to wait for it, and it counts as eps.
    """
    if isinstance(var, float):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = T.fill(input.detach(), value=var)
    elif not isinstance(var, Tensor):
        raise TypeError("gaussian_nll_loss(): argument 'var' must be Tensor or float, not "
                        f"{type(var).__name__}")
    elif var.is_cpu and bool((var < 0).any()):
        raise ValueError("var has negative entry/entries")
    shape, of_var = input._a.shape, var._a.shape
    if of_var != shape:
        if shape[:-1] == of_var:
            var = var.unsqueeze(-1)
        elif len(shape) != len(of_var) or sum(j for i, j in zip(shape, of_var) if i != j) != 1:
            raise ValueError(f"var is of incorrect size: {list(of_var)} for an input of size "
                             f"{list(shape)}")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not valid")
    var = var.clone()
    with no_grad():
        var.clamp_(min=eps)
    loss = 0.5 * (var.log() + (input - target) ** 2 / var)
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


# Probabilities -----------------------------------------------------------------------------------


def _check_probabilities(x: Tensor, name: str) -> None:
    if not ((x >= 0) & (x <= 1)).all():
        raise RuntimeError(f"all elements of {name} should be between 0 and 1")


def _spread(weight: Tensor, x: Tensor, name: str) -> Tensor:
    """A weight in x's dtype, which must broadcast to x's shape."""
    shape, of_x = broadcast_shape(x, weight), x._a.shape
    if shape != of_x:
        raise RuntimeError(f"output with shape {list(of_x)} doesn't match the broadcast shape "
                           f"{list(shape)}: {name} must broadcast to the input")
    return cast(weight, x._a.dtype)


def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None,
                         size_average: bool | None = None, reduce: bool | None = None,
                         reduction: str = "mean") -> Tensor:
    """-(t * log(p) + (1 - t) * log(1 - p)) for probabilities p; the logs are at least -100.

    A number outside 0 .. 1 is an error on the CPU; elsewhere the host would have to wait for it.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    if target._a.shape != input._a.shape:
        raise ValueError(f"Using a target size ({target.size()}) that is different to the input "
                         f"size ({input.size()}) is deprecated. Please ensure they have the same "
                         "size.")
    if target._a.dtype != input._a.dtype:
        raise RuntimeError(f"Found dtype {type_name(target._a.dtype)} but expected "
                           f"{type_name(input._a.dtype)}: binary_cross_entropy takes a target of "
                           "the input's dtype")
    check_floating(input, "binary_cross_entropy")
    constant(weight, "binary_cross_entropy", "weight")
    if weight is not None:
        try:
            weight = _spread(weight, input, "weight")
        except RuntimeError as e:
            raise RuntimeError(f"Attempting to broadcast a dimension of length: {e}") from None
    if input.is_cpu:
        _check_probabilities(input, "input")
        _check_probabilities(target, "target")
    return T.binary_cross_entropy(input, target, weight, reduction=reduction)


def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None,
                                     size_average: bool | None = None, reduce: bool | None = None,
                                     reduction: str = "mean",
                                     pos_weight: Tensor | None = None) -> Tensor:
    """binary_cross_entropy of sigmoid(input) without overflow; pos_weight: factors where t is 1."""
    reduction = reduction_of(reduction, size_average, reduce)
    if target._a.shape != input._a.shape:
        raise ValueError(f"Target size ({target.size()}) must be the same as input size "
                         f"({input.size()})")
    name = "binary_cross_entropy_with_logits"
    check_floating(input, name)
    kind = target._a.dtype.kind
    if kind == "b":
        raise RuntimeError("Subtraction, the `-` operator, with a bool tensor is not supported: "
                           f"{name} takes a floating-point target, as target.float()")
    if kind in "iu":
        raise RuntimeError(f"result type {type_name(input._a.dtype)} can't be cast to the desired "
                           f"output type {type_name(target._a.dtype)}: {name} takes a "
                           "floating-point target, as target.float()")
    constant(weight, name, "weight")
    constant(pos_weight, name, "pos_weight")
    dtype = target._a.dtype if target._a.dtype.itemsize != input._a.dtype.itemsize \
        and input._a.dtype.itemsize == 4 else dtypes.promote(input._a, target._a)
    input, target = cast(input, dtype), cast(target, dtype)
    if weight is not None:
        weight = _spread(weight, input, "weight")
    if pos_weight is not None:
        pos_weight = _spread(pos_weight, input, "pos_weight")
    return T.binary_cross_entropy_with_logits(input, target, weight, pos_weight,
                                              reduction=reduction)


def soft_margin_loss(input: Tensor, target: Tensor, size_average: bool | None = None,
                     reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-target * input)) for targets of 1 and -1."""
    reduction = reduction_of(reduction, size_average, reduce)
    constant(target, "soft_margin_loss", "target")
    if input._a.dtype.kind not in dtypes.FLOATING:
        raise RuntimeError("result type Float can't be cast to the desired output type "
                           f"{type_name(input._a.dtype)}: soft_margin_loss takes a floating-point "
                           "input, as input.float()")
    broadcast_shape(input, target)
    if input._a.shape != target._a.shape:
        input, target = broadcast_tensors(input, target)
    return T.soft_margin_loss(input, cast(target, input._a.dtype), reduction=reduction)


@casting.function
def kl_div(input: Tensor, target: Tensor, size_average: bool | None = None,
           reduce: bool | None = None, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target * (log(target) - input): input is log-probabilities; so is target with log_target.

    reduction "batchmean", the sum over the batch size, is the one of the definition.
    """
    by_batch = reduction == "batchmean" and size_average is None and reduce is None
    if size_average is None and reduce is None and reduction == "mean":
        _warn("reduction: 'mean' divides the total loss by both the batch size and the support "
              "size.'batchmean' divides only by the batch size, and aligns with the KL div math "
              "definition.'mean' will be changed to behave the same as 'batchmean' in the next "
              "major release.")
    reduction = reduction_of("sum" if by_batch else reduction, size_average, reduce)
    for x in (input, target):
        kind = x._a.dtype.kind
        if kind not in dtypes.FLOATING:
            what = "Complex" if kind == "c" else "Integral"
            raise RuntimeError(f"kl_div: {what} inputs not supported.")
    if log_target:
        loss = target.exp() * (target - input)
    else:
        loss = T.xlogy(target, target) - target * input
    loss = reduced(loss, reduction)
    return loss / input.size(0) if by_batch and input.ndim else loss
