"""Random activations: rrelu, and samples of a relaxed categorical distribution."""
from __future__ import annotations

import warnings

from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.functions.arguments import dim_of
from gpugrad.functions.softmax import floating


def rrelu(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False,
          inplace: bool = False) -> Tensor:
    """x where x > 0, else x times a slope: between lower and upper at random, or their mean."""
    if not lower <= upper:
        raise RuntimeError(f"Lower bound should be less than or equal to the upper bound, but got "
                           f"lower={lower} and upper={upper}")
    if not training:
        return (T.leaky_relu_ if inplace else T.leaky_relu)(input, slope=(lower + upper) / 2)
    floating(input, None, "rrelu_with_noise_out_cpu")
    return (T.rrelu_with_noise_ if inplace else T.rrelu_with_noise)(input,
                                                                    _slopes(input, lower, upper))


def _slopes(input: Tensor, lower: float, upper: float) -> Tensor:
    be, x = input._be, input._a
    if not input.is_cpu:
        drawn = be.generator.uniform(x.shape, be.xp.dtype("float32"))
        slopes = (drawn * be.xp.float32(upper - lower) + be.xp.float32(lower)).astype(x.dtype)
        return wrap(be.xp.where(x <= be.number[0, x.dtype], slopes, be.number[1, x.dtype]), be)
    slopes, low = be.xp.ones(x.shape, x.dtype), x <= 0       # PyTorch draws for these alone
    drawn = be.generator.uniform((int(low.sum()),), be.xp.dtype("float64"))
    slopes[low] = drawn * (upper - lower) + lower
    return wrap(slopes, be)


def rrelu_(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3,
           training: bool = False) -> Tensor:
    """rrelu in place."""
    return rrelu(input, lower, upper, training, True)


def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10,
                   dim: int = -1) -> Tensor:
    """softmax((logits + Gumbel noise) / tau) along dim (arXiv:1611.00712).

    hard: one-hot in forward, with the gradient of the soft sample.
    """
    if eps != 1e-10:
        warnings.warn("`eps` parameter is deprecated and has no effect.", stacklevel=2)
    noise = -logits.new_empty(logits.shape).exponential_().log()
    dim = dim_of(dim, logits.ndim)
    soft = T.softmax((logits + noise) / tau, dim=dim)
    if not hard:
        return soft
    index = soft.detach().argmax(dim, keepdim=True)
    one = soft.new_zeros(soft.shape).scatter(dim, index, soft.new_ones(index.shape))
    return one - soft.detach() + soft
