"""Activation functions of one tensor, and prelu."""
from __future__ import annotations

from gpugrad._state import state
from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import FLOATING, type_name
from gpugrad.functions.arguments import dim_of


def _floating(x: Tensor, name: str, kinds: str = FLOATING) -> Tensor:
    """x; NotImplementedError unless it is of one of these kinds of dtypes."""
    if x._a.dtype.kind not in kinds:
        raise NotImplementedError(f"\"{name}\" not implemented for '{type_name(x._a.dtype)}': make "
                                  "the input floating-point, as in x.float()")
    return x


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0)"""
    return T.relu_(input) if inplace else T.relu(input)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)"""
    return hardtanh(input, 0.0, 6.0, inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope * x."""
    _floating(input, "leaky_relu_cpu")
    return (T.leaky_relu_ if inplace else T.leaky_relu)(input, slope=negative_slope)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """leaky_relu with a slope to be learned: one, or one for each channel, which is dim 1."""
    if weight.ndim > 1:
        raise RuntimeError("prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = "
                           f"{weight.ndim}")
    if input.dtype is not weight.dtype and state.casting is None:
        raise RuntimeError("prelu: Type promoting not supported. Got "
                           f"{type_name(input._a.dtype)} and {type_name(weight._a.dtype)}")
    if weight.numel() != 1:
        channels = input.shape[1] if input.ndim > 1 else 1
        if weight.numel() != channels:
            raise RuntimeError("Mismatch of parameter numbers and input channel size. Found "
                               f"parameter numbers = {weight.numel()} and channel size = "
                               f"{channels}.")
        weight = weight.view(-1, *[1] * (input.ndim - 2))
    elif input.ndim == 0:
        weight = weight.reshape(())
    return T.prelu_kernel(input, weight)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x) - 1)."""
    return (T.elu_ if inplace else T.elu)(input, alpha=alpha)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x / alpha) - 1)."""
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return (T.celu_ if inplace else T.celu)(input, alpha=alpha)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """elu with the alpha and scale that keep mean 0 and variance 1 (arXiv:1706.02515)."""
    return (T.elu_ if inplace else T.elu)(input, alpha=1.6732632423543772848170429916717,
                                          scale=1.0507009873554804934193349852946)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function at x; approximate "tanh" is faster."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    return T.gelu(_floating(input, "GeluKernelImpl"), approximate=approximate)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x * sigmoid(x)"""
    _floating(input, "silu_cpu", FLOATING + "c")
    return T.silu_(input) if inplace else T.silu(input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * tanh(softplus(x))"""
    _floating(input, "mish_cpu")
    return T.mish_(input) if inplace else T.mish(input)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))"""
    return T.sigmoid(input)


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return T.tanh(input)


def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold."""
    return T.softplus(_floating(input, "softplus_cpu"), beta=beta, threshold=threshold)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x))"""
    return T.log_sigmoid(_floating(input, "log_sigmoid_cpu"))


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0,
             inplace: bool = False) -> Tensor:
    """x held between two numbers."""
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    if input._a.dtype.kind == "c":
        raise NotImplementedError("clamp is not supported for complex types")
    return (T.hardtanh_ if inplace else T.hardtanh)(input, min_val=min_val, max_val=max_val)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """relu6(x + 3) / 6"""
    _floating(input, "hardsigmoid_cpu")
    return T.hardsigmoid_(input) if inplace else T.hardsigmoid(input)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * relu6(x + 3) / 6"""
    _floating(input, "hardswish_cpu")
    return T.hardswish_(input) if inplace else T.hardswish(input)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else value."""
    return (T.threshold_ if inplace else T.threshold)(input, threshold=threshold, value=value)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)"""
    return input / (input.abs() + 1)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)"""
    return input - T.tanh(input)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 where |x| <= lambd, else x."""
    return T.hardshrink(input, bound=lambd)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by lambd, and 0 where it would pass it."""
    if lambd < 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    return T.softshrink(_floating(input, "softshrink_check"), bound=lambd)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half along dim times the sigmoid of the second."""
    dim = dim_of(dim, input.ndim)
    if input.ndim == 0:
        raise RuntimeError("glu does not support 0-dimensional tensors")
    if input.shape[dim] % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim} is size "
                           f"{input.shape[dim]}")
    return T.glu(_floating(input, "glu_cpu"), dim=dim)


def relu_(input: Tensor) -> Tensor:
    """relu in place."""
    return T.relu_(input)


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """leaky_relu in place."""
    return leaky_relu(input, negative_slope, inplace=True)


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """elu in place."""
    return elu(input, alpha, inplace=True)


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """celu in place."""
    return celu(input, alpha, inplace=True)


def selu_(input: Tensor) -> Tensor:
    """selu in place."""
    return selu(input, inplace=True)


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """hardtanh in place."""
    return hardtanh(input, min_val, max_val, inplace=True)


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    """threshold in place."""
    return T.threshold_(input, threshold=threshold, value=value)
