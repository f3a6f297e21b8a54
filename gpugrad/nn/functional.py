"""nn.functional: layers as functions, with PyTorch's arguments, checked and handed to the ops."""
from __future__ import annotations

import functools
import inspect
import math
import warnings
from typing import Any

from gpugrad._tensor import Tensor, bump
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.autograd.rules import tensors as T
from gpugrad.creation import empty_like
from gpugrad.dtypes import FLOATING, HALF, finfo, float32, float64, type_name, wide
from gpugrad.functions import indexing
from gpugrad.functions import softmax as _softmax
from gpugrad.functions.activation import celu as celu
from gpugrad.functions.activation import celu_ as celu_
from gpugrad.functions.activation import elu as elu
from gpugrad.functions.activation import elu_ as elu_
from gpugrad.functions.activation import gelu as gelu
from gpugrad.functions.activation import glu as glu
from gpugrad.functions.activation import hardshrink as hardshrink
from gpugrad.functions.activation import hardsigmoid as hardsigmoid
from gpugrad.functions.activation import hardswish as hardswish
from gpugrad.functions.activation import hardtanh as hardtanh
from gpugrad.functions.activation import hardtanh_ as hardtanh_
from gpugrad.functions.activation import leaky_relu as leaky_relu
from gpugrad.functions.activation import leaky_relu_ as leaky_relu_
from gpugrad.functions.activation import logsigmoid as logsigmoid
from gpugrad.functions.activation import mish as mish
from gpugrad.functions.activation import prelu as prelu
from gpugrad.functions.activation import relu as relu
from gpugrad.functions.activation import relu6 as relu6
from gpugrad.functions.activation import relu_ as relu_
from gpugrad.functions.activation import selu as selu
from gpugrad.functions.activation import selu_ as selu_
from gpugrad.functions.activation import sigmoid as sigmoid
from gpugrad.functions.activation import silu as silu
from gpugrad.functions.activation import softplus as softplus
from gpugrad.functions.activation import softshrink as softshrink
from gpugrad.functions.activation import softsign as softsign
from gpugrad.functions.activation import tanh as tanh
from gpugrad.functions.activation import tanhshrink as tanhshrink
from gpugrad.functions.activation import threshold as threshold
from gpugrad.functions.activation import threshold_ as threshold_
from gpugrad.functions.attention import scaled_dot_product_attention as scaled_dot_product_attention
from gpugrad.functions.bags import embedding_bag as embedding_bag
from gpugrad.functions.class_losses import cross_entropy as cross_entropy
from gpugrad.functions.class_losses import ctc_loss as ctc_loss
from gpugrad.functions.class_losses import linear_cross_entropy as linear_cross_entropy
from gpugrad.functions.class_losses import multi_margin_loss as multi_margin_loss
from gpugrad.functions.class_losses import multilabel_margin_loss as multilabel_margin_loss
from gpugrad.functions.class_losses import (
    multilabel_soft_margin_loss as multilabel_soft_margin_loss,
)
from gpugrad.functions.class_losses import nll_loss as nll_loss
from gpugrad.functions.convolution import conv1d as conv1d
from gpugrad.functions.convolution import conv2d as conv2d
from gpugrad.functions.convolution import conv3d as conv3d
from gpugrad.functions.convolution import conv_tbc as conv_tbc
from gpugrad.functions.convolution import conv_transpose1d as conv_transpose1d
from gpugrad.functions.convolution import conv_transpose2d as conv_transpose2d
from gpugrad.functions.convolution import conv_transpose3d as conv_transpose3d
from gpugrad.functions.embedding_losses import cosine_embedding_loss as cosine_embedding_loss
from gpugrad.functions.embedding_losses import hinge_embedding_loss as hinge_embedding_loss
from gpugrad.functions.embedding_losses import margin_ranking_loss as margin_ranking_loss
from gpugrad.functions.embedding_losses import triplet_margin_loss as triplet_margin_loss
from gpugrad.functions.embedding_losses import (
    triplet_margin_with_distance_loss as triplet_margin_with_distance_loss,
)
from gpugrad.functions.fractional import fractional_max_pool2d as fractional_max_pool2d
from gpugrad.functions.fractional import (
    fractional_max_pool2d_with_indices as fractional_max_pool2d_with_indices,
)
from gpugrad.functions.fractional import fractional_max_pool3d as fractional_max_pool3d
from gpugrad.functions.fractional import (
    fractional_max_pool3d_with_indices as fractional_max_pool3d_with_indices,
)
from gpugrad.functions.grid import affine_grid as affine_grid
from gpugrad.functions.grid import grid_sample as grid_sample
from gpugrad.functions.images import channel_shuffle as channel_shuffle
from gpugrad.functions.images import fold as fold
from gpugrad.functions.images import native_channel_shuffle as native_channel_shuffle
from gpugrad.functions.images import pixel_shuffle as pixel_shuffle
from gpugrad.functions.images import pixel_unshuffle as pixel_unshuffle
from gpugrad.functions.images import unfold as unfold
from gpugrad.functions.losses import binary_cross_entropy as binary_cross_entropy
from gpugrad.functions.losses import (
    binary_cross_entropy_with_logits as binary_cross_entropy_with_logits,
)
from gpugrad.functions.losses import gaussian_nll_loss as gaussian_nll_loss
from gpugrad.functions.losses import huber_loss as huber_loss
from gpugrad.functions.losses import kl_div as kl_div
from gpugrad.functions.losses import l1_loss as l1_loss
from gpugrad.functions.losses import mse_loss as mse_loss
from gpugrad.functions.losses import poisson_nll_loss as poisson_nll_loss
from gpugrad.functions.losses import smooth_l1_loss as smooth_l1_loss
from gpugrad.functions.losses import soft_margin_loss as soft_margin_loss
from gpugrad.functions.matmul import linear as linear
from gpugrad.functions.multihead import (
    multi_head_attention_forward as multi_head_attention_forward,
)
from gpugrad.functions.noise import gumbel_softmax as gumbel_softmax
from gpugrad.functions.noise import rrelu as rrelu
from gpugrad.functions.noise import rrelu_ as rrelu_
from gpugrad.functions.padding import pad as pad
from gpugrad.functions.pairs import bilinear as bilinear
from gpugrad.functions.pairs import cosine_similarity as cosine_similarity
from gpugrad.functions.pairs import normalize as normalize
from gpugrad.functions.pairs import one_hot as one_hot
from gpugrad.functions.pairs import pairwise_distance as pairwise_distance
from gpugrad.functions.pairs import pdist as pdist
from gpugrad.functions.pooling import adaptive_avg_pool1d as adaptive_avg_pool1d
from gpugrad.functions.pooling import adaptive_avg_pool2d as adaptive_avg_pool2d
from gpugrad.functions.pooling import adaptive_avg_pool3d as adaptive_avg_pool3d
from gpugrad.functions.pooling import adaptive_max_pool1d as adaptive_max_pool1d
from gpugrad.functions.pooling import (
    adaptive_max_pool1d_with_indices as adaptive_max_pool1d_with_indices,
)
from gpugrad.functions.pooling import adaptive_max_pool2d as adaptive_max_pool2d
from gpugrad.functions.pooling import (
    adaptive_max_pool2d_with_indices as adaptive_max_pool2d_with_indices,
)
from gpugrad.functions.pooling import adaptive_max_pool3d as adaptive_max_pool3d
from gpugrad.functions.pooling import (
    adaptive_max_pool3d_with_indices as adaptive_max_pool3d_with_indices,
)
from gpugrad.functions.pooling import avg_pool1d as avg_pool1d
from gpugrad.functions.pooling import avg_pool2d as avg_pool2d
from gpugrad.functions.pooling import avg_pool3d as avg_pool3d
from gpugrad.functions.pooling import lp_pool1d as lp_pool1d
from gpugrad.functions.pooling import lp_pool2d as lp_pool2d
from gpugrad.functions.pooling import lp_pool3d as lp_pool3d
from gpugrad.functions.pooling import max_pool1d as max_pool1d
from gpugrad.functions.pooling import max_pool1d_with_indices as max_pool1d_with_indices
from gpugrad.functions.pooling import max_pool2d as max_pool2d
from gpugrad.functions.pooling import max_pool2d_with_indices as max_pool2d_with_indices
from gpugrad.functions.pooling import max_pool3d as max_pool3d
from gpugrad.functions.pooling import max_pool3d_with_indices as max_pool3d_with_indices
from gpugrad.functions.pooling import max_unpool1d as max_unpool1d
from gpugrad.functions.pooling import max_unpool2d as max_unpool2d
from gpugrad.functions.pooling import max_unpool3d as max_unpool3d
from gpugrad.functions.resize import interpolate as interpolate
from gpugrad.functions.resize import upsample as upsample
from gpugrad.functions.resize import upsample_bilinear as upsample_bilinear
from gpugrad.functions.resize import upsample_nearest as upsample_nearest
from gpugrad.functions.softmax import floating
from gpugrad.ops.dropout import dropout as ops_dropout

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


# Dropout -----------------------------------------------------------------------------------------

# Of SELU, negated: what alpha dropout sets the dropped elements to.
_ALPHA = 1.7580993408473766


def _check_p(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, elements are 0 with probability p, and the others are scaled by 1 / (1 - p)."""
    _check_p(p)
    if training and p and input._a.dtype.kind in "bui":
        raise RuntimeError("result type Float can't be cast to the desired output type "
                           f"{type_name(input._a.dtype)}: dropout takes a floating-point input")
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
    if training and running_mean is not None and input._be.index:
        out = _moving_batch_norm(input, running_mean, running_var, weight, bias, momentum, eps)
        if out is not None:
            return out
    out, mean, invstd = T.batch_norm(input, weight, bias, None if training else running_mean,
                                     None if training else running_var, training=training, eps=eps)
    if training and running_mean is not None and running_var is not None:
        _move_statistics(input, running_mean, running_var, mean, invstd, momentum, eps)
    return out


def _moving_batch_norm(x: Tensor, mean: Tensor, var: Any, weight: Tensor | None,
                       bias: Tensor | None, momentum: float, eps: float, *more: Tensor) -> Any:
    """batch_norm in training by a kernel that moves the running statistics, too, and adds 1 to a
    counter in ``more``; None if there isn't one."""
    if more:
        _check_batch_norm(floating(x, None, "batch_norm"), mean, var, weight, bias, True)
    be, moving, dtype = x._be, (mean, var, *more), mean._a.dtype
    if not be.takes(x._a.dtype) or not x._a.size or any([t._be is not be for t in moving]) or \
            dtype not in (x._a.dtype, wide(x._a.dtype)) or dtype != var._a.dtype or \
            not mean._a.flags.c_contiguous or not var._a.flags.c_contiguous:
        return None
    for t in moving:
        bump(t)
    return T.batch_norm(x, weight, bias, training=True, eps=eps, share=momentum,
                        out=tuple([t._a for t in moving]))[0]


@no_grad()
def _move_statistics(x: Tensor, running_mean: Tensor, running_var: Tensor, mean: Tensor,
                     invstd: Tensor, momentum: float, eps: float) -> None:
    n = x.numel() // max(x.shape[1], 1)
    if n == 0:
        return
    new_mean, new_var = T.moved_statistics(running_mean, running_var, mean, invstd, share=momentum,
                                           m=n, eps=eps)
    running_mean.copy_(new_mean)
    running_var.copy_(new_var)


def _check_batch_norm(x: Tensor, running_mean: Any, running_var: Any, weight: Any, bias: Any,
                      training: bool) -> None:
    shape = x.shape
    channels = shape[1] if len(shape) > 1 else 0
    if training and math.prod((*shape[:1], *shape[2:])) == 1:
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
    n = _check_last_dims(input, normalized_shape, ", ", weight=weight, bias=bias)
    for t in (weight, bias):
        if t is not None and t._a.dtype != input._a.dtype and \
                not (t._a.dtype == float32.np and input._a.dtype in HALF):
            raise RuntimeError("mixed dtype (CPU): all inputs must share same datatype."
                               if input._a.dtype.kind not in FLOATING else "mixed dtype (CPU): "
                               "expect parameter to have scalar type of "
                               f"{type_name(input._a.dtype)}")
    return T.layer_norm(floating(input, None, "layer_norm"), weight, bias, ndim=n, eps=eps)[0]


def rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None,
             eps: float | None = None) -> Tensor:
    """The last dims, of normalized_shape, over the root of their mean square, times weight.

    eps is added to the mean square (arXiv:1910.07467); None stands for finfo's eps of the dtype
    that is computed in, which is float32 for the dtypes of 16 bits.
    """
    if input.ndim < len(normalized_shape):
        raise ValueError(f"Input tensor must have at least {len(normalized_shape)} dimensions, but "
                         f"got {input.ndim}")
    n = _check_last_dims(input, normalized_shape, "", weight=weight)
    x = floating(input, None, "rms_norm")
    eps = finfo(float64 if x.dtype is float64 else float32).eps if eps is None else eps
    return T.rms_norm(x, weight, ndim=n, eps=eps)[0]


def _check_last_dims(x: Tensor, normalized_shape: Any, comma: str, **parameters: Any) -> int:
    """How many dims are normalised; ``comma`` is what PyTorch's message has after the star."""
    wanted = list(normalized_shape)
    n = len(wanted)
    if n == 0:
        raise RuntimeError("Expected normalized_shape to be at least 1-dimensional, i.e., "
                           "containing at least one element, but got normalized_shape = []")
    for name, t in parameters.items():
        if t is not None and list(t.shape) != wanted:
            raise RuntimeError(f"Expected {name} to be of same shape as normalized_shape, but got "
                               f"{name} of shape {list(t.shape)} and normalized_shape = {wanted}")
    if list(x.shape[-n:]) != wanted:
        tail = comma + ", ".join(map(str, wanted))
        raise RuntimeError(f"Given normalized_shape={wanted}, expected input with shape [*{tail}], "
                           f"but got input of size{list(x.shape)}")
    return n


def group_norm(input: Tensor, num_groups: int, weight: Tensor | None = None,
               bias: Tensor | None = None, eps: float = 1e-05) -> Tensor:
    """The channels (dim 1) of each sample in num_groups groups, each to mean 0 and variance 1.

    Then every channel times its weight, plus its bias (arXiv:1803.08494).
    """
    if input.ndim < 2:
        raise RuntimeError("Expected at least 2 dimensions for input tensor but received "
                           f"{input.ndim}")
    (n, channels), rest = input.shape[:2], list(input.shape[2:])
    sizes = [n * channels // num_groups, num_groups, *rest]
    if sizes[0] * math.prod(rest) == 1:
        raise ValueError("Expected more than 1 value per channel when training, got input size "
                         f"{sizes}")
    if channels % num_groups:
        raise RuntimeError("Expected number of channels in input to be divisible by num_groups, "
                           f"but got input of shape {list(input.shape)} and num_groups="
                           f"{num_groups}")
    for name, t in (("weight", weight), ("bias", bias)):
        if t is not None and tuple(t.shape) != (channels,):
            raise RuntimeError(f"Expected {name} to be a vector of size equal to the number of "
                               f"channels in input, but got {name} of shape {list(t.shape)} and "
                               f"input of shape {list(input.shape)}")
        if t is not None and t.dtype is not input.dtype and input.dtype.itemsize > 2:
            raise RuntimeError("mixed dtype (CPU): expect parameter to have scalar type of "
                               f"{type_name(input._a.dtype)}")
    x = floating(input, None, "group_norm")
    return T.group_norm(x, weight, bias, groups=num_groups, eps=eps)[0]


def instance_norm(input: Tensor, running_mean: Tensor | None = None,
                  running_var: Tensor | None = None, weight: Tensor | None = None,
                  bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1,
                  eps: float = 1e-05) -> Tensor:
    """Every channel (dim 1) of each sample to mean 0 and variance 1 (arXiv:1607.08022).

    Then times weight plus bias. With use_input_stats by its own statistics, whose averages over the
    batch move running_mean and running_var by the share ``momentum``; otherwise by these.
    """
    shape = tuple(input.shape)
    if use_input_stats and math.prod(shape[2:]) == 1:
        raise ValueError("Expected more than 1 spatial element when training, got input size "
                         f"{input.shape}")
    if not use_input_stats and (running_mean is None or running_var is None):
        raise RuntimeError("Expected running_mean and running_var to be defined when "
                           "use_input_stats is false")
    n, running = shape[0], (running_mean, running_var)
    mean, var, weight, bias = (t if t is None else t.repeat(n) for t in (*running, weight, bias))
    out = batch_norm(input.contiguous().view(1, n * shape[1], *shape[2:]), mean, var, weight, bias,
                     use_input_stats, momentum, eps)
    if use_input_stats and n:
        with no_grad():
            for t, moved in zip(running, (mean, var)):
                if t is not None and moved is not None:
                    t.copy_(moved.view(n, -1).mean(0))
    return out.view(shape)


def local_response_norm(input: Tensor, size: int, alpha: float = 0.0001, beta: float = 0.75,
                        k: float = 1.0) -> Tensor:
    """x / (k + alpha * the mean square of ``size`` neighbouring channels) ** beta."""
    if input.ndim < 3:
        raise ValueError("Expected 3D or higher dimensionality                          input (got "
                         f"{input.ndim} dimensions)")
    if input.numel() == 0:
        return input
    rows = (input * input).reshape(input.shape[0], 1, input.shape[1], -1)
    rows = pad(rows, (0, 0, size // 2, (size - 1) // 2))
    mean = avg_pool2d(rows, (size, 1), stride=1).reshape(input.shape)
    return input / (mean * alpha + k).pow(beta)


# Embedding ---------------------------------------------------------------------------------------


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None,
              max_norm: float | None = None, norm_type: float = 2.0,
              scale_grad_by_freq: bool = False, sparse: bool = False) -> Tensor:
    """weight[input]: (...) of indices to (..., features). The row padding_idx gets no gradient.

    max_norm: rows that are looked up and longer are scaled to this norm first, in place.
    scale_grad_by_freq: gradients are divided by how often their index occurs in input.
    """
    n = weight.size(0)
    if padding_idx is None:
        padding_idx = -1
    elif not -n <= padding_idx < n:
        raise AssertionError("Padding_idx must be within num_embeddings")
    else:
        padding_idx %= n
    if max_norm is not None:
        indexing.embedding_renorm_(weight, input, max_norm, norm_type)
    return indexing.embedding(weight, input, padding_idx, scale_grad_by_freq, sparse)


# Something that is no tensor ---------------------------------------------------------------------

def _tensors_only(fn: Any) -> Any:
    """fn, raising a TypeError for an argument that should have been a Tensor."""
    @functools.wraps(fn)
    def checked(*args: Any, **kw: Any) -> Any:
        try:
            return fn(*args, **kw)
        except AttributeError as e:
            wrong = e.obj
            given = [*zip(inspect.signature(fn).parameters, args), *kw.items()]
            found = [(i, k) for i, (k, v) in enumerate(given, 1) if v is wrong]
            if not found or isinstance(wrong, Tensor):
                raise
            i, name = found[0]
            raise TypeError(f"{fn.__name__}(): argument '{name}' (position {i}) must be Tensor, "
                            f"not {type(wrong).__name__}") from None
    return checked


for _name in """adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
        adaptive_max_pool2d adaptive_max_pool3d affine_grid avg_pool1d avg_pool2d avg_pool3d
        bilinear channel_shuffle conv1d conv2d conv3d conv_transpose1d conv_transpose2d
        conv_transpose3d cosine_similarity embedding embedding_bag fold grid_sample interpolate
        lp_pool1d lp_pool2d lp_pool3d max_pool1d max_pool2d max_pool3d max_unpool1d max_unpool2d
        max_unpool3d normalize one_hot pad pairwise_distance pixel_shuffle pixel_unshuffle
        scaled_dot_product_attention unfold""".split():
    globals()[_name] = _tensors_only(globals()[_name])
