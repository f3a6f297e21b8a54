"""nn.functional: layers as functions, with PyTorch's arguments, checked and handed to the ops."""
from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.function import Function
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.autograd.rules import tensors as T
from gpugrad.creation import arange, empty_like, full
from gpugrad.dtypes import type_name
from gpugrad.functions import softmax as _softmax
from gpugrad.functions.arguments import dim_of
from gpugrad.functions.matmul import linear as linear
from gpugrad.functions.pointwise import where
from gpugrad.functions.shape import broadcast_tensors, cat
from gpugrad.functions.softmax import floating
from gpugrad.nn._windows import check_conv, numbers, pool_arguments, same_padding
from gpugrad.ops.dropout import dropout as ops_dropout

# Activations -------------------------------------------------------------------------------------


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0)"""
    return T.relu_(input) if inplace else T.relu(input)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)"""
    return hardtanh(input, 0.0, 6.0, inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope * x."""
    return (T.leaky_relu_ if inplace else T.leaky_relu)(input, slope=negative_slope)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """leaky_relu with a slope to be learned: one, or one for each channel, which is dim 1."""
    if weight.ndim > 1:
        raise RuntimeError("prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = "
                           f"{weight.ndim}")
    if weight.numel() != 1:
        channels = input.shape[1] if input.ndim > 1 else 1
        if weight.numel() != channels:
            raise RuntimeError("Mismatch of parameter numbers and input channel size. Found "
                               f"parameter numbers = {weight.numel()} and channel size = "
                               f"{channels}.")
        weight = weight.view(-1, *[1] * (input.ndim - 2))
    return where(input > 0, input, weight * input)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x) - 1)."""
    return (T.elu_ if inplace else T.elu)(input, alpha=alpha)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x / alpha) - 1)."""
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return (T.elu_ if inplace else T.elu)(input, alpha=alpha, input_scale=1 / alpha)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """elu with the alpha and scale that keep mean 0 and variance 1 (arXiv:1706.02515)."""
    return (T.elu_ if inplace else T.elu)(input, alpha=1.6732632423543772848170429916717,
                                          scale=1.0507009873554804934193349852946)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function at x; approximate "tanh" is faster."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    return T.gelu(input, approximate=approximate)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x * sigmoid(x)"""
    return T.silu_(input) if inplace else T.silu(input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * tanh(softplus(x))"""
    if inplace:
        return input.copy_(mish(input.clone()))
    return input * T.tanh(T.softplus(input))


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))"""
    return T.sigmoid(input)


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return T.tanh(input)


def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold."""
    return T.softplus(input, beta=beta, threshold=threshold)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x))"""
    return T.log_sigmoid(input)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0,
             inplace: bool = False) -> Tensor:
    """x held between two numbers."""
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    return (T.hardtanh_ if inplace else T.hardtanh)(input, min_val=min_val, max_val=max_val)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """relu6(x + 3) / 6"""
    if inplace:
        return input.copy_(hardsigmoid(input.clone()))
    return relu6(input + 3) / 6


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * relu6(x + 3) / 6"""
    if inplace:
        return input.copy_(hardswish(input.clone()))
    return input * relu6(input + 3) / 6


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
    return T.masked_fill(input, (input >= -lambd) & (input <= lambd), value=0)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by lambd, and 0 where it would pass it."""
    if lambd < 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    return input - T.clamp(input, min=-lambd, max=lambd)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half along dim times the sigmoid of the second."""
    dim = dim_of(dim, input.ndim)
    if input.ndim == 0:
        raise RuntimeError("glu does not support 0-dimensional tensors")
    if input.shape[dim] % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim} is size "
                           f"{input.shape[dim]}")
    a, b = input.chunk(2, dim)
    return a * T.sigmoid(b)


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


# Softmax -----------------------------------------------------------------------------------------


def _softmax_dim(name: str, ndim: int, stacklevel: int) -> int:
    warnings.warn(f"Implicit dimension choice for {name} has been deprecated. Change the call to "
                  "include dim=X as an argument.", stacklevel=stacklevel)
    return 0 if ndim in (0, 1, 3) else 1


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3,
            dtype: Any = None) -> Tensor:
    """exp(x) over its sum along dim; cast to dtype first if it is given."""
    if dim is None:
        dim = _softmax_dim("softmax", input.ndim, _stacklevel)
    return _softmax.softmax(input, dim, dtype)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3,
            dtype: Any = None) -> Tensor:
    """softmax of -x."""
    if dim is None:
        dim = _softmax_dim("softmin", input.ndim, _stacklevel)
    return _softmax.softmax(-floating(input, dtype, "softmin"), dim)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3,
                dtype: Any = None) -> Tensor:
    """log(softmax(x)), without overflow or loss of precision."""
    if dim is None:
        dim = _softmax_dim("log_softmax", input.ndim, _stacklevel)
    return _softmax.log_softmax(input, dim, dtype)


# Linear and convolution --------------------------------------------------------------------------


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input1 @ weight[k] @ input2 + bias[k] for every output k.

    Shapes: (..., in1), (..., in2), weight (out, in1, in2), bias (out,); result (..., out).
    """
    out, in1, in2 = weight.shape
    if input1.shape[-1] != in1 or input2.shape[-1] != in2 or input1.shape[:-1] != input2.shape[:-1]:
        raise RuntimeError(f"bilinear(): inputs of size {list(input1.shape)} and "
                           f"{list(input2.shape)} don't fit a weight of size {list(weight.shape)}: "
                           f"expected [*, {in1}] and [*, {in2}] with the same leading dims")
    if bias is not None and bias.shape != (out,):
        raise RuntimeError("bilinear(): bias size does not match weight size: got "
                           f"{list(bias.shape)} but expected [{out}]")
    rows = input1.reshape(-1, in1) @ weight.permute(1, 0, 2).reshape(in1, out * in2)
    result = (rows.view(-1, out, in2) * input2.reshape(-1, 1, in2)).sum(-1)
    result = result.view(*input1.shape[:-1], out)
    return result if bias is None else result + bias



def conv1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
           padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Tensor:
    """Cross-correlation of (n, c, l) with (out, c / groups, k); padding as in conv2d."""
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
           padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Tensor:
    """Cross-correlation of (n, c, h, w) with (out, c / groups, kh, kw), plus a bias (out,).

    padding may be "same", which keeps the size for stride 1, or "valid", which is none.
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def _conv(name: str, n: int, x: Tensor, w: Tensor, bias: Any, stride: Any, padding: Any,
          dilation: Any, groups: int) -> Tensor:
    if w._a.ndim != n + 2:
        raise RuntimeError(f"Expected {n + 2}D weight for {name}, but got weight of size: "
                           f"{list(w.shape)}")
    if x._a.ndim != n + 2:
        if x._a.ndim != n + 1:
            raise RuntimeError(f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to "
                               f"{name}, but got input of size: {list(x.shape)}")
        one = x.unsqueeze(0)
        return _conv(name, n, one, w, bias, stride, padding, dilation, groups).squeeze(0)
    stride, dilation = numbers("stride", stride, n), numbers("dilation", dilation, n)
    if isinstance(padding, str):
        x, padding = _padding_by_name(padding, x, w.shape[2:], stride, dilation)
    else:
        padding = numbers("padding", padding, n)
    check_conv(n, x, w, bias, stride, padding, dilation, groups)
    if n == 2:
        return T.convolution(x, w, bias, stride=stride, padding=padding, dilation=dilation,
                             groups=groups)
    out = T.convolution(x.unsqueeze(2), w.unsqueeze(2), bias, stride=(1, *stride),
                        padding=(0, *padding), dilation=(1, *dilation), groups=groups)
    return out.squeeze(2)


def _padding_by_name(padding: str, x: Tensor, kernel: Any, stride: Any, dilation: Any) -> Any:
    """The input, padded already if its two sides differ, and the padding left to do."""
    if padding == "valid":
        return x, (0,) * len(kernel)
    if padding != "same":
        raise RuntimeError(f"Invalid padding string: '{padding}'")
    if max(stride) != 1:
        raise RuntimeError("padding='same' is not supported for strided convolutions")
    sides = same_padding(kernel, dilation)
    uneven = [p for before, after in reversed(sides) for p in (0, after - before)]
    return (pad(x, uneven) if any(uneven) else x), tuple([before for before, _ in sides])


# Pooling -----------------------------------------------------------------------------------------


def max_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """The maximum of every window of (n, c, l); with return_indices also where it was."""
    args = pool_arguments("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _flat_pool(_max_pool, input, args, ceil_mode, return_indices)


def max_pool2d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """The maximum of every window of (n, c, h, w); stride is kernel_size if it is None.

    With return_indices also where each maximum was, counted within its h x w plane.
    """
    args = pool_arguments("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _batched(_max_pool, input, 4, *args, ceil_mode, return_indices)


def max_pool1d_with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
                            dilation: Any = 1, ceil_mode: bool = False,
                            return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """max_pool1d with return_indices, whatever that says."""
    return max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
                            dilation: Any = 1, ceil_mode: bool = False,
                            return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """max_pool2d with return_indices, whatever that says."""
    return max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def _max_pool(x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
              return_indices: bool) -> Any:
    entry = T.max_pool2d_with_indices if return_indices else T.max_pool2d
    out = entry(x, kernel=kernel, stride=stride, padding=padding, dilation=dilation,
                ceil_mode=ceil_mode)
    return out if return_indices else out[0]


def avg_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               ceil_mode: bool = False, count_include_pad: bool = True) -> Tensor:
    """The mean of every window of (n, c, l)."""
    args = pool_arguments("avg_pool1d", 1, input, kernel_size, stride, padding, 1, ceil_mode)
    return _flat_pool(_avg_pool, input, args, ceil_mode, count_include_pad, None)


def avg_pool2d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               ceil_mode: bool = False, count_include_pad: bool = True,
               divisor_override: int | None = None) -> Tensor:
    """The mean of every window of (n, c, h, w); stride is kernel_size if it is None.

    count_include_pad: padded zeros count; divisor_override: divide by this instead of the count.
    """
    if divisor_override == 0:
        raise RuntimeError("divisor must be not zero")
    args = pool_arguments("avg_pool2d", 2, input, kernel_size, stride, padding, 1, ceil_mode)
    return _batched(_avg_pool, input, 4, *args, ceil_mode, count_include_pad, divisor_override)


def _avg_pool(x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
              count_include_pad: bool, divisor_override: int | None) -> Tensor:
    return T.avg_pool2d(x, kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode,
                        count_include_pad=count_include_pad, divisor_override=divisor_override)


def _batched(fn: Callable[..., Any], x: Tensor, ndim: int, *args: Any) -> Any:
    """fn(x, *args), with a batch of one around a sample that has no batch dim."""
    if x.ndim == ndim:
        return fn(x, *args)
    out = fn(x.unsqueeze(0), *args)
    return tuple([t.squeeze(0) for t in out]) if isinstance(out, tuple) else out.squeeze(0)


def _flat_pool(fn: Callable[..., Any], x: Tensor, args: Any, *more: Any) -> Any:
    """Pooling of sequences as pooling of images of one row."""
    kernel, stride, padding, dilation = args
    out = _batched(fn, x.unsqueeze(-2), 4, (1, *kernel), (1, *stride), (0, *padding),
                   (1, *dilation), *more)
    return tuple([t.squeeze(-2) for t in out]) if isinstance(out, tuple) else out.squeeze(-2)


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """The means of output_size windows that cover (n, c, l)."""
    (size,) = _adaptive_size("adaptive_avg_pool1d", 1, input, output_size)
    return _batched(_adaptive_avg_pool, input.unsqueeze(-2), 4, (1, size)).squeeze(-2)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The means of windows that cover (n, c, h, w); output_size is one number or two, or None."""
    if output_size in (1, (1, 1), [1, 1]):
        return input.mean((-2, -1), keepdim=True)
    size = _adaptive_size("adaptive_avg_pool2d", 2, input, output_size)
    return _batched(_adaptive_avg_pool, input, 4, size)


def _adaptive_avg_pool(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return T.adaptive_avg_pool2d(x, output_size=size)


def _adaptive_size(op: str, n: int, x: Tensor, size: Any) -> tuple[int, ...]:
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"{op}(): Expected {n + 1}D or {n + 2}D tensor, but got {list(x.shape)}")
    wanted = (size,) * n if size is None or isinstance(size, int) else tuple(size)
    if len(wanted) != n:
        raise RuntimeError(f"{op}: output_size must be {n}")
    sizes: tuple[int, ...] = tuple([have if want is None else want
                                    for want, have in zip(wanted, x.shape[-n:])])
    if min(sizes) < 0:
        raise RuntimeError(f"{op}: elements of output_size must be greater than or equal to 0 but "
                           f"received {{{', '.join(map(str, sizes))}}}")
    return sizes


# Dropout -----------------------------------------------------------------------------------------

# Of SELU, negated: what alpha dropout sets the dropped elements to.
_ALPHA = 1.7580993408473766


def _check_p(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, elements are 0 with probability p, and the others are scaled by 1 / (1 - p)."""
    _check_p(p)
    if inplace:
        return _drop(input, input.shape, p, training, True)
    return ops_dropout(input, p, training)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True,
              inplace: bool = False) -> Tensor:
    """Dropout of whole channels of (n, c, l) or (c, l)."""
    _check_p(p)
    if input.ndim not in (2, 3):
        raise RuntimeError(f"dropout1d: Expected 2D or 3D input, but received a {input.ndim}D "
                           "input. Note that dropout1d exists to provide channel-wise dropout on "
                           "inputs with 1 spatial dimension, a channel dimension, and an optional "
                           "batch dimension (i.e. 2D or 3D inputs).")
    noise = (1, input.shape[0], 1) if input.ndim == 2 else (*input.shape[:2], 1)
    out = _drop(input if input.ndim == 3 else input.unsqueeze(0), noise, p, training, inplace)
    return out if input.ndim == 3 else input if inplace else out.squeeze(0)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True,
              inplace: bool = False) -> Tensor:
    """Dropout of whole channels of (n, c, h, w)."""
    _check_p(p)
    if input.ndim not in (3, 4):
        _warn_dims("dropout2d", input.ndim, 2, "3D or 4D")
    if input.ndim == 3:
        warnings.warn("dropout2d: Received a 3D input to dropout2d and assuming that channel-wise "
                      "1D dropout behavior is desired - input is interpreted as shape (N, C, L), "
                      "where C is the channel dim. This behavior will change in a future release "
                      "to interpret the input as one without a batch dimension, i.e. shape (C, H, "
                      "W). To maintain the 1D channel-wise dropout behavior, please switch to "
                      "using dropout1d instead.",
                      stacklevel=2)
    return _drop(input, _channels(input), p, training, inplace)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True,
              inplace: bool = False) -> Tensor:
    """Dropout of whole channels of (n, c, d, h, w) or (c, d, h, w)."""
    _check_p(p)
    if input.ndim not in (4, 5):
        _warn_dims("dropout3d", input.ndim, 3, "4D or 5D")
    if input.ndim != 4:
        return _drop(input, _channels(input), p, training, inplace)
    out = _drop(input.unsqueeze(0), (1, input.shape[0], 1, 1, 1), p, training, inplace)
    return input if inplace else out.squeeze(0)


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False,
                  inplace: bool = False) -> Tensor:
    """Dropout for SELU networks: mean and variance stay as they are (arXiv:1706.02515)."""
    _check_p(p)
    return _alpha_drop(input, input.shape, p, training, inplace)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False,
                          inplace: bool = False) -> Tensor:
    """alpha_dropout of whole channels of (n, c, ...)."""
    _check_p(p)
    return _alpha_drop(input, _channels(input), p, training, inplace)


def _channels(x: Tensor) -> tuple[int, ...]:
    if x.ndim < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    return (*x.shape[:2], *[1] * (x.ndim - 2))


def _warn_dims(name: str, ndim: int, spatial: int, right: str) -> None:
    warnings.warn(f"{name}: Received a {ndim}-D input to {name}, which is deprecated and will "
                  "result in an error in a future release. To retain the behavior and silence "
                  f"this warning, please use dropout instead. Note that {name} exists to provide "
                  f"channel-wise dropout on inputs with {spatial} spatial dimensions, a channel "
                  f"dimension, and an optional batch dimension (i.e. {right} "
                  "inputs).", stacklevel=3)


def _noise(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Memory for noise; in the order of x's own, in which PyTorch draws it."""
    return empty_like(x) if x.shape == shape else x.new_empty(shape)


def _drop(x: Tensor, shape: tuple[int, ...], p: float, training: bool, inplace: bool) -> Tensor:
    """x times noise of ``shape``: 0 with probability p, else 1 / (1 - p)."""
    if not training or p == 0 or x.numel() == 0:
        return x
    noise = _noise(x, shape)
    noise = noise.zero_() if p == 1 else noise.bernoulli_(1 - p).div_(1 - p)
    return x.mul_(noise) if inplace else x * noise


def _alpha_drop(x: Tensor, shape: tuple[int, ...], p: float, training: bool,
                inplace: bool) -> Tensor:
    if not training or p == 0 or x.numel() == 0:
        return x
    if p == 1:
        return _drop(x, shape, p, training, inplace)
    a = 1 / math.sqrt((_ALPHA * _ALPHA * p + 1) * (1 - p))
    noise = _noise(x, shape).bernoulli_(1 - p)
    b = (noise - 1).mul_(_ALPHA * a).add_(_ALPHA * a * p)
    noise.mul_(a)
    return x.mul_(noise).add_(b) if inplace else x * noise + b


# Normalisation -----------------------------------------------------------------------------------


def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
               weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
               momentum: float = 0.1, eps: float = 1e-05) -> Tensor:
    """Every channel (dim 1) to mean 0 and variance 1, times weight plus bias (arXiv:1502.03167).

    In training by the statistics of the batch, which also move running_mean and running_var by the
    share ``momentum``; otherwise by these.
    """
    _check_batch_norm(floating(input, None, "batch_norm"), running_mean, running_var, weight, bias,
                      training)
    out, mean, invstd = T.batch_norm(input, weight, bias, None if training else running_mean,
                                     None if training else running_var, training=training, eps=eps)
    if training and running_mean is not None and running_var is not None:
        _move_statistics(input, running_mean, running_var, mean, invstd, momentum, eps)
    return out


@no_grad()
def _move_statistics(x: Tensor, running_mean: Tensor, running_var: Tensor, mean: Tensor,
                     invstd: Tensor, momentum: float, eps: float) -> None:
    n = x.numel() // max(x.shape[1], 1)
    if n == 0:
        return
    var = (invstd ** -2 - eps) * (n / max(n - 1, 1))        # without bias
    running_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
    running_var.mul_(1 - momentum).add_(var, alpha=momentum)


def _check_batch_norm(x: Tensor, running_mean: Any, running_var: Any, weight: Any, bias: Any,
                      training: bool) -> None:
    shape = x.shape
    channels = shape[1] if len(shape) > 1 else 0
    if training and x.numel() == channels:
        raise ValueError("Expected more than 1 value per channel when training, got input size "
                         f"{shape}")
    if training and (running_mean is None) != (running_var is None):
        raise ValueError("running_mean and running_var must either both be None or neither be None")
    for name, t in (("running_mean", running_mean), ("running_var", running_var)):
        if t is None and not training:
            raise RuntimeError(f"{name} must be defined in evaluation mode")
    for name, t in (("running_mean", running_mean), ("running_var", running_var),
                    ("weight", weight), ("bias", bias)):
        if t is not None and t.numel() != channels:
            raise RuntimeError(f"{name} should contain {channels} elements not {t.numel()}")
        if t is not None and t.dtype is not x.dtype and x.dtype.itemsize > 2:
            raise RuntimeError(f"batch_norm: all inputs must share same datatype, but the input is "
                               f"{x.dtype} and {name} {t.dtype}")


def layer_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None,
               bias: Tensor | None = None, eps: float = 1e-05) -> Tensor:
    """The last dims, of normalized_shape, to mean 0 and variance 1, then times weight plus bias."""
    wanted = list(normalized_shape)
    n = len(wanted)
    if n == 0:
        raise RuntimeError("Expected normalized_shape to be at least 1-dimensional, i.e., "
                           "containing at least one element, but got normalized_shape = []")
    for name, t in (("weight", weight), ("bias", bias)):
        if t is not None and list(t.shape) != wanted:
            raise RuntimeError(f"Expected {name} to be of same shape as normalized_shape, but got "
                               f"{name} of shape {list(t.shape)} and normalized_shape = {wanted}")
    if list(input.shape[-n:]) != wanted:
        tail = "".join(f", {size}" for size in wanted)
        raise RuntimeError(f"Given normalized_shape={wanted}, expected input with shape [*{tail}], "
                           f"but got input of size{list(input.shape)}")
    return T.layer_norm(floating(input, None, "layer_norm"), weight, bias, ndim=n, eps=eps)[0]


def normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12,
              out: Tensor | None = None) -> Tensor:
    """x over its p-norm along dim, or over eps where the norm is less."""
    if out is not None:
        raise NotImplementedError("normalize(out=) is not supported: assign the result")
    return input / input.norm(p, dim, keepdim=True).clamp_min(eps).expand_as(input)


# Losses ------------------------------------------------------------------------------------------


def _reduction(reduction: str, size_average: Any = None, reduce: Any = None) -> str:
    """The reduction, also from the two arguments of old; raises ValueError if it isn't one."""
    if size_average is not None or reduce is not None:
        average = size_average is None or size_average
        reduction = "none" if reduce is not None and not reduce else "mean" if average else "sum"
        warnings.warn("size_average and reduce args will be deprecated, please use "
                      f"reduction='{reduction}' instead.", stacklevel=3)
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


def _same_sizes(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both broadcast to one shape, with a warning if they weren't of one."""
    if input.shape == target.shape:
        return input, target
    warnings.warn(f"Using a target size ({target.size()}) that is different to the input size "
                  f"({input.size()}). This will likely lead to incorrect results due to "
                  "broadcasting. Please ensure they have the same size.", stacklevel=3)
    a, b = broadcast_tensors(input, target)
    return a, b


def _weighted(loss: Tensor, weight: Tensor, reduction: str, mean_over: str) -> Tensor:
    """The mean of weighted losses is over the sum of the weights, or over their number."""
    if weight.size() != loss.size():
        raise ValueError("Weights and input must have the same size.")
    loss = loss * weight
    if reduction == "mean" and mean_over == "weights":
        return loss.sum() / weight.sum()
    return _reduced(loss, reduction)


def mse_loss(input: Tensor, target: Tensor, size_average: bool | None = None,
             reduce: bool | None = None, reduction: str = "mean",
             weight: Tensor | None = None) -> Tensor:
    """(input - target) squared."""
    reduction = _reduction(reduction, size_average, reduce)
    input, target = _same_sizes(input, target)
    if weight is not None:
        return _weighted(T.mse_loss(input, target, reduction="none"), weight, reduction, "weights")
    return T.mse_loss(input, target, reduction=reduction)


def l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None,
            reduce: bool | None = None, reduction: str = "mean",
            weight: Tensor | None = None) -> Tensor:
    """|input - target|"""
    reduction = _reduction(reduction, size_average, reduce)
    input, target = _same_sizes(input, target)
    loss = (input - target).abs()
    return _reduced(loss, reduction) if weight is None else \
        _weighted(loss, weight, reduction, "weights")


def smooth_l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None,
                   reduce: bool | None = None, reduction: str = "mean",
                   beta: float = 1.0) -> Tensor:
    """d * d / (2 * beta) where d = |input - target| < beta, else d - beta / 2."""
    reduction = _reduction(reduction, size_average, reduce)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    input, target = _same_sizes(input, target)
    d = (input - target).abs()
    if beta == 0:
        return _reduced(d, reduction)
    return _reduced(where(d < beta, d * d * (0.5 / beta), d - 0.5 * beta), reduction)


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0,
               weight: Tensor | None = None) -> Tensor:
    """d * d / 2 where d = |input - target| < delta, else delta * (d - delta / 2)."""
    reduction = _reduction(reduction)
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    input, target = _same_sizes(input, target)
    d = (input - target).abs()
    loss = where(d < delta, d * d * 0.5, (d - 0.5 * delta) * delta)
    return _reduced(loss, reduction) if weight is None else \
        _weighted(loss, weight, reduction, "elements")


def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None,
             size_average: bool | None = None, ignore_index: int = -100, reduce: bool | None = None,
             reduction: str = "mean") -> Tensor:
    """-input[target]: log-probabilities (n, c, ...) or (c,), target classes (n, ...) or ().

    weight: one for each class; the mean is over the weights of the targets.
    """
    reduction = _reduction(reduction, size_average, reduce)
    if input.ndim == 0:
        raise ValueError("Expected 1 or more dimensions (got 0)")
    if input.ndim == 1:
        return _one_sample(nll_loss, input, target, weight, ignore_index, reduction)
    _check_classes("nll_loss", input, target, weight)
    return T.nll_loss(input, target, weight, reduction=reduction, ignore_index=ignore_index)[0]


def _one_sample(loss_of: Callable[..., Tensor], input: Tensor, target: Tensor,
                weight: Tensor | None, ignore_index: int, reduction: str, **more: Any) -> Tensor:
    """The loss of scores (c,), which come without a batch dim, and of a target () or (1,)."""
    if target.ndim > 1:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if target.numel() != 1:
        raise ValueError(f"Expected input batch_size (1) to match target batch_size "
                         f"({target.numel()}).")
    loss = loss_of(input.unsqueeze(0), target.reshape(1), weight, ignore_index=ignore_index,
                   reduction=reduction, **more)
    return loss.squeeze(0) if reduction == "none" and target.ndim == 0 else loss


def _check_classes(name: str, input: Tensor, target: Tensor, weight: Tensor | None) -> None:
    """Raise unless scores (n, c, ...), classes (n, ...) and a weight (c,) fit together."""
    x, t = input._a.shape, target._a.shape
    if not t or x[0] != t[0]:
        raise ValueError(f"Expected input batch_size ({x[0]}) to match target batch_size "
                         f"({t[0] if t else 0}).")
    if len(x) == 2 and len(t) != 1:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if (x[0], *x[2:]) != t:
        raise RuntimeError(f"{name}: Expected target size {[x[0], *x[2:]]}, got {list(t)}")
    if target.dtype.name not in ("int64", "uint8"):
        raise RuntimeError("expected target dtype to be Long or Byte, but got "
                           f"{type_name(target.dtype.np)}: convert it by target.long()")
    if weight is not None and weight.shape != (x[1],):
        raise RuntimeError(f"weight tensor should be defined either for all {x[1]} classes or no "
                           f"classes but got weight tensor of shape: {list(weight.shape)}")
    if weight is not None and weight.dtype is not input.dtype:
        raise RuntimeError(f"{name}: expected weight of dtype {input.dtype} but found "
                           f"{weight.dtype}")


def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None,
                  size_average: bool | None = None, ignore_index: int = -100,
                  reduce: bool | None = None, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Tensor:
    """-log(softmax(input))[target]: input is scores (n, c, ...) or (c,).

    target is classes (n, ...) or (), or probabilities in the shape of input. label_smoothing: the
    share of the target that is spread evenly over the classes.
    """
    reduction = _reduction(reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if input._a.shape == target._a.shape:
        return _cross_entropy_of_probabilities(input, target, weight, ignore_index, reduction,
                                               label_smoothing)
    if input.ndim == 1:
        return _one_sample(cross_entropy, input, target, weight, ignore_index, reduction,
                           label_smoothing=label_smoothing)
    _check_classes("cross_entropy", input, target, weight)
    return T.cross_entropy(floating(input, None, "cross_entropy"), target, weight,
                           reduction=reduction, ignore_index=ignore_index,
                           label_smoothing=label_smoothing)[0]


def _cross_entropy_of_probabilities(input: Tensor, target: Tensor, weight: Tensor | None,
                                    ignore_index: int, reduction: str, smoothing: float) -> Tensor:
    if not target.is_floating_point():
        raise RuntimeError("Expected floating point type for target with class probabilities, got "
                           f"{type_name(target.dtype.np)}")
    if ignore_index >= 0:
        raise RuntimeError("ignore_index is not supported for floating point target")
    dim = 0 if input.ndim == 1 else 1
    c = input.shape[dim]
    if weight is not None and weight.shape != (c,):
        raise RuntimeError(f"cross_entropy: weight tensor should be defined either for all {c} "
                           "classes or no classes but got weight tensor of shape: "
                           f"{list(weight.shape)}")
    if smoothing > 0:
        target = target * (1 - smoothing) + smoothing / c
    product = log_softmax(input, dim) * target
    if weight is not None:
        product = product * weight.view(-1, *[1] * (input.ndim - dim - 1))
    if reduction == "none":
        return -product.sum(dim)
    total = -product.sum()
    return total / max(input.numel() // c, 1) if reduction == "mean" else total


class BinaryCrossEntropy(Function):
    """The loss of each element, with gradients that stay finite where a probability is 0 or 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor) -> Tensor:
        ctx.save_for_backward(x, t)
        return (t - 1) * (-x).log1p().clamp(min=-100) - t * x.log().clamp(min=-100)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, t = ctx.saved_tensors
        for_x = for_t = None
        if ctx.needs_input_grad[0]:
            for_x = g * (x - t) / ((1 - x) * x).clamp(min=1e-12)
        if ctx.needs_input_grad[1]:
            for_t = g * ((-x).log1p() - x.log())
        return for_x, for_t


def _check_probabilities(x: Tensor, name: str) -> None:
    if not ((x >= 0) & (x <= 1)).all():
        raise RuntimeError(f"all elements of {name} should be between 0 and 1")


def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None,
                         size_average: bool | None = None, reduce: bool | None = None,
                         reduction: str = "mean") -> Tensor:
    """-(t * log(p) + (1 - t) * log(1 - p)) for probabilities p; the logs are at least -100."""
    reduction = _reduction(reduction, size_average, reduce)
    if target.size() != input.size():
        raise ValueError(f"Using a target size ({target.size()}) that is different to the input "
                         f"size ({input.size()}) is deprecated. Please ensure they have the same "
                         "size.")
    if target.dtype is not input.dtype:
        raise RuntimeError(f"binary_cross_entropy: Found target dtype {target.dtype} but expected "
                           f"{input.dtype}")
    if weight is not None:
        weight = weight.expand(input.size())
    if input.is_cpu:                    # elsewhere the check would wait for the device
        _check_probabilities(input, "input")
        _check_probabilities(target, "target")
    loss = BinaryCrossEntropy.apply(input, target)
    return _reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None,
                                     size_average: bool | None = None, reduce: bool | None = None,
                                     reduction: str = "mean",
                                     pos_weight: Tensor | None = None) -> Tensor:
    """binary_cross_entropy of sigmoid(input) without overflow; pos_weight: factors where t is 1."""
    reduction = _reduction(reduction, size_average, reduce)
    if target.size() != input.size():
        raise ValueError(f"Target size ({target.size()}) must be the same as input size "
                         f"({input.size()})")
    log_p = T.log_sigmoid(input)
    if pos_weight is not None:
        log_p = log_p * ((pos_weight - 1) * target + 1)
    loss = (1 - target) * input - log_p
    if weight is not None:
        loss = loss * weight
    return _reduced(loss, reduction)


def kl_div(input: Tensor, target: Tensor, size_average: bool | None = None,
           reduce: bool | None = None, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target * (log(target) - input): input is log-probabilities; so is target with log_target.

    reduction "batchmean", the sum over the batch size, is the one of the definition.
    """
    by_batch = reduction == "batchmean"
    if size_average is None and reduce is None and reduction == "mean":
        warnings.warn("reduction: 'mean' divides the total loss by both the batch size and the "
                      "support size.'batchmean' divides only by the batch size, and aligns with "
                      "the KL div math definition.'mean' will be changed to behave the same as "
                      "'batchmean' in the next major release.", stacklevel=2)
    reduction = _reduction("sum" if by_batch else reduction, size_average, reduce)
    if log_target:
        loss = target.exp() * (target - input)
    else:
        loss = T.masked_fill(target * target.log(), target == 0, value=0) - target * input
    loss = _reduced(loss, reduction)
    return loss / input.size(0) if by_batch and input.ndim else loss


# Embedding ---------------------------------------------------------------------------------------


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Classes (...) as (..., num_classes): 1 at the class, else 0; -1: the largest class + 1."""
    if tensor.dtype.name != "int64":
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if tensor.numel() == 0:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        return tensor.new_zeros((*tensor.shape, num_classes))
    if tensor.min().item() < 0:
        raise RuntimeError("Class values must be non-negative.")
    largest = tensor.max().item()
    if num_classes == -1:
        num_classes = largest + 1
    elif largest >= num_classes:
        raise RuntimeError("Class values must be smaller than num_classes.")
    classes = arange(num_classes, device=tensor.device)
    return (tensor.unsqueeze(-1) == classes).to(tensor.dtype)


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None,
              max_norm: float | None = None, norm_type: float = 2.0,
              scale_grad_by_freq: bool = False, sparse: bool = False) -> Tensor:
    """weight[input]: (...) of indices to (..., features). The row padding_idx gets no gradient."""
    if max_norm is not None or scale_grad_by_freq or sparse:
        what = ("max_norm" if max_norm is not None else
                "scale_grad_by_freq" if scale_grad_by_freq else "sparse")
        raise NotImplementedError(f"embedding({what}=) is not supported yet: leave it out"
                                  + (", or renormalise the rows of weight yourself"
                                     if max_norm is not None else ""))
    if input.dtype.name not in ("int64", "int32"):
        raise RuntimeError("Expected tensor for argument #1 'indices' to have one of the "
                           f"following scalar types: Long, Int; but got {input.type()} instead "
                           "(while checking arguments for embedding)")
    if weight.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    if padding_idx is None:
        return weight[input]
    n = weight.size(0)
    if not -n <= padding_idx < n:
        raise AssertionError("Padding_idx must be within num_embeddings")
    rows = weight[input]
    is_padding = (input == padding_idx % n).unsqueeze(-1)
    return where(is_padding, rows.detach(), rows)


# Padding -----------------------------------------------------------------------------------------


def pad(input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """Numbers before and after the last dim, the dim before it, and so on; negative ones cut away.

    mode "constant" fills with ``value`` (0), "reflect" mirrors at the edge, "replicate" repeats the
    edge, "circular" goes on at the other side.
    """
    sizes = _pad_sizes(pad)
    ndim = input.ndim
    if len(sizes) > 2 * ndim:
        raise RuntimeError("Padding length should be less than or equal to two times the input "
                           f"dimension but got padding length {len(sizes)} and input of dimension "
                           f"{ndim}")
    sides = [(ndim - 1 - i, sizes[2 * i], sizes[2 * i + 1]) for i in range(len(sizes) // 2)]
    if mode == "constant":
        return _pad_constant(input, sides, 0.0 if value is None else value)
    if mode not in _PADDERS:
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if value is not None and value != 0:
        raise RuntimeError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if not 1 <= len(sides) <= 3 or ndim - len(sides) not in (1, 2):
        raise NotImplementedError(f"Padding size {len(sizes)} is not supported for {ndim}D input "
                                  "tensor.")
    x = _cut(input, sides)
    for dim, before, after in reversed(sides):
        before, after = max(before, 0), max(after, 0)
        if before or after:
            x = _PADDERS[mode](x, dim, before, after)
    return x


def _pad_sizes(pad: Any) -> list[int]:
    for i, n in enumerate(pad):
        if not hasattr(n, "__index__"):
            raise TypeError("pad(): argument 'pad' (position 2) must be tuple of ints, but found "
                            f"element of type {type(n).__name__} at pos {i}")
    if len(pad) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    return [n.__index__() for n in pad]


def _cut(x: Tensor, sides: list[tuple[int, int, int]]) -> Tensor:
    """Take away what negative padding says."""
    for dim, before, after in sides:
        cut, keep = max(-before, 0), x.shape[dim] - max(-before, 0) - max(-after, 0)
        if keep < 0:
            raise RuntimeError(f"pad: the negative padding ({before}, {after}) takes more than "
                               f"dimension {dim} of input {list(x.shape)} has")
        if keep != x.shape[dim]:
            x = x.narrow(dim, cut, keep)
    return x


def _pad_constant(input: Tensor, sides: list[tuple[int, int, int]], value: float) -> Tensor:
    x = _cut(input, sides)
    before = [0] * x.ndim
    shape = list(x.shape)
    for dim, b, a in sides:
        before[dim] = max(b, 0)
        shape[dim] += max(b, 0) + max(a, 0)
    if shape == list(x.shape):
        return x.clone() if x is input else x
    out = full(tuple(shape), value, dtype=x.dtype, device=x.device)
    out[tuple([slice(b, b + n) for b, n in zip(before, x.shape)])] = x
    return out


def _pad_reflect(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    n = x.shape[dim]
    if before >= n or after >= n:
        raise RuntimeError("Padding size should be less than the corresponding input dimension, "
                           f"but got: padding ({before}, {after}) at dimension {dim} of input "
                           f"{list(x.shape)}")
    return _joined(x.narrow(dim, 1, before).flip(dim), x,
                   x.narrow(dim, n - 1 - after, after).flip(dim), dim)


def _pad_replicate(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    n = x.shape[dim]
    if n == 0:
        raise RuntimeError(f"pad: dimension {dim} of input {list(x.shape)} has no edge to "
                           "replicate")

    def repeated(edge: Tensor, times: int) -> Tensor:
        return edge.expand(*[times if d == dim else -1 for d in range(x.ndim)])

    return _joined(repeated(x.narrow(dim, 0, 1), before), x,
                   repeated(x.narrow(dim, n - 1, 1), after), dim)


def _pad_circular(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    n = x.shape[dim]
    if before > n or after > n:
        raise RuntimeError("Padding value causes wrapping around more than once.")
    return _joined(x.narrow(dim, n - before, before), x, x.narrow(dim, 0, after), dim)


def _joined(before: Tensor, x: Tensor, after: Tensor, dim: int) -> Tensor:
    return cat([t for t in (before, x, after) if t.shape[dim]], dim)


_PADDERS: dict[str, Callable[[Tensor, int, int, int], Tensor]] = {
    "reflect": _pad_reflect, "replicate": _pad_replicate, "circular": _pad_circular}
