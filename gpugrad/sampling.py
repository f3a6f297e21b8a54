"""Tensors of random numbers: rand, randn, randint and their kin, and draws from distributions.

``generator`` is always a torch.Generator of the tensor's device, or None for the device's default
one. On the CPU the numbers are PyTorch's.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend import Backend, get
from gpugrad.backend.random import largest_integer
from gpugrad.factory import (
    begin,
    check_options,
    dtype_of,
    empty_as,
    finish,
    integer,
    placed,
    shape_of,
    tensor_arg,
    tuple_of,
)
from gpugrad.fills import (
    check_float,
    check_integers,
    check_normal,
    check_probabilities,
    check_probability,
    check_uniform,
    drawn,
    fill_in_order,
    holds,
    stream_of,
)
from gpugrad.random import Generator

# New tensors -------------------------------------------------------------------------------------

@placed
def rand(*sizes: Any, size: Any = None, generator: Generator | None = None, out: Any = None,
         dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
         requires_grad: bool = False) -> Tensor:
    """Uniform in [0, 1)."""
    be, d = begin("rand", dtype, device, out, layout)
    shape = shape_of("rand", sizes, size)
    check_uniform(d, 0.0, 1.0)
    x = stream_of("rand", generator, be).uniform(shape, d)
    return finish(x, be, requires_grad, pin_memory)


@placed
def randn(*sizes: Any, size: Any = None, generator: Generator | None = None, out: Any = None,
          dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
          requires_grad: bool = False) -> Tensor:
    """Normal with mean 0 and standard deviation 1."""
    be, d = begin("randn", dtype, device, out, layout)
    shape = shape_of("randn", sizes, size)
    check_normal(d, 1.0)
    x = stream_of("randn", generator, be).normal(shape, d)
    return finish(x, be, requires_grad, pin_memory)


@placed
def randint(low: Any = 0, high: Any = None, size: Any = None, *, generator: Generator | None = None,
            out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
            pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """Integers in [low, high), int64 by default: ``randint(10, (2,))``, ``randint(3, 5, (4,))``."""
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    be = begin("randint", dtype, device, out, layout)[0]
    d = dtype_of("randint", dtype, dtypes.int64.np)
    low, high = integer("randint", "low", 1, low), integer("randint", "high", 2 if low else 1, high)
    shape = tuple_of("randint", size, 3 if low else 2)
    check_integers(d, low, high)
    stream = stream_of("randint", generator, be)
    return finish(stream.randint(low, high, shape, d), be, requires_grad, pin_memory)


@placed
def randperm(n: int, *, generator: Generator | None = None, out: Any = None, dtype: Any = None,
             layout: Any = None, device: Any = None, pin_memory: bool = False,
             requires_grad: bool = False) -> Tensor:
    """The integers from 0 to n - 1 in random order, int64 by default."""
    be = begin("randperm", dtype, device, out, layout)[0]
    d = dtype_of("randperm", dtype, dtypes.int64.np)
    n = integer("randperm", "n", 1, n)
    if n < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    if d.kind in "bc" or d.name in ("uint16", "uint32", "uint64"):
        raise NotImplementedError(f'"randperm" not implemented for \'{dtypes.type_name(d)}\'')
    if n > largest_integer(d) + 1:
        raise RuntimeError(f"n cannot be greater than {largest_integer(d) + 1} for "
                           f"{dtypes.type_name(d)} type.")
    x = stream_of("randperm", generator, be).randperm(n, d)
    return finish(x, be, requires_grad, pin_memory)


def _like(name: str, input: Any, draw: Callable[[Any, Any], Any], dtype: Any, layout: Any,
          device: Any, requires_grad: bool, memory_format: Any, pin: bool) -> Tensor:
    """A tensor like input, with the numbers of draw(x, backend) put in its order in memory."""
    check_options(name, None, layout)
    a = tensor_arg(name, input)._a
    be = input._be if device is None else get(device)
    x = empty_as(be, a, dtype_of(name, dtype, a.dtype), memory_format, name)
    draw(x, be)
    return finish(x, be, requires_grad, pin)


@placed
def rand_like(input: Tensor, *, generator: Generator | None = None, dtype: Any = None,
              layout: Any = None, device: Any = None, pin_memory: bool = False,
              requires_grad: bool = False, memory_format: Any = None) -> Tensor:
    """Uniform in [0, 1), with the shape, dtype and device of input."""
    def draw(x: Any, be: Backend) -> None:
        check_uniform(x.dtype, 0.0, 1.0)
        stream = stream_of("rand_like", generator, be)
        fill_in_order(x, lambda shape, dense: stream.uniform(shape, x.dtype))
    return _like("rand_like", input, draw, dtype, layout, device, requires_grad, memory_format,
                 pin_memory)


@placed
def randn_like(input: Tensor, *, generator: Generator | None = None, dtype: Any = None,
               layout: Any = None, device: Any = None, pin_memory: bool = False,
               requires_grad: bool = False, memory_format: Any = None) -> Tensor:
    """Normal with mean 0 and standard deviation 1, with the shape, dtype and device of input."""
    def draw(x: Any, be: Backend) -> None:
        check_normal(x.dtype, 1.0)
        stream = stream_of("randn_like", generator, be)
        fill_in_order(x, lambda shape, dense: stream.normal(shape, x.dtype, blocked=dense))
    return _like("randn_like", input, draw, dtype, layout, device, requires_grad, memory_format,
                 pin_memory)


@placed
def randint_like(input: Tensor, low: Any = 0, high: Any = None, *,
                 generator: Generator | None = None, dtype: Any = None, layout: Any = None,
                 device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
                 memory_format: Any = None) -> Tensor:
    """Integers in [low, high), with the shape, dtype and device of input."""
    if high is None:
        low, high = 0, low
    low, high = integer("randint_like", "low", 2, low), integer("randint_like", "high", 3, high)

    def draw(x: Any, be: Backend) -> None:
        check_integers(x.dtype, low, high)
        stream = stream_of("randint_like", generator, be)
        fill_in_order(x, lambda shape, dense: stream.randint(low, high, shape, x.dtype))
    return _like("randint_like", input, draw, dtype, layout, device, requires_grad, memory_format,
                 pin_memory)


@placed
def normal(mean: Any, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None,
           out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
           pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """Normal with a mean and a standard deviation for each element, or with one pair for a size.

    Tensors broadcast; the result has the dtype of mean if that is a tensor, else of std. Their
    gradients are zero: to learn them use mean + std * torch.randn(...).
    """
    given = [t for t in (mean, std) if isinstance(t, Tensor)]
    if not given:
        if size is None:
            raise TypeError(f"normal() received an invalid combination of arguments - got "
                            f"({type(mean).__name__}, {type(std).__name__}): without a tensor "
                            f"among them it needs a size, as in torch.normal(0., 1., (2, 3))")
        be, d = begin("normal", dtype, device, out, layout)
        shape = tuple_of("normal", size, 3)
        check_normal(d, std)
        stream = stream_of("normal", generator, be)
        x = stream.normal(shape, d, float(mean), float(std))
        return finish(x, be, requires_grad, pin_memory)
    if size is not None or dtype is not None or device is not None or requires_grad:
        raise TypeError("normal() received an invalid combination of arguments: size, dtype, "
                        "device and requires_grad are for mean and std that are numbers")
    be, d = given[0]._be, given[0]._a.dtype
    if isinstance(std, Tensor):
        if not holds(std._be, std._a >= 0):
            raise RuntimeError("normal expects all elements of std >= 0.0")
        check_normal(d, 1.0)
    else:
        check_normal(d, std)
    if len(given) == 2 and given[0]._be is not given[1]._be:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two "
                           f"devices, {mean.device} and {std.device}! (when checking the arguments "
                           f"of normal)")
    shape = _broadcast(*[t._a.shape for t in given])
    x = stream_of("normal", generator, be).normal(shape, d)
    for operate, t in ((be.xp.multiply, std), (be.xp.add, mean)):
        a = t._a.astype(d, copy=False) if isinstance(t, Tensor) else be.scalar(t, d)
        operate(x, a, out=x)
    node = 3 if len(given) == 2 else 1 if given[0] is mean else 2
    return drawn(x, be, f"NormalBackward{node}", *given)


def _broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        a, b = shapes
        n = max(len(a), len(b))
        d = next(d for d in range(-1, -n - 1, -1) if a[d] != b[d] and 1 not in (a[d], b[d]))
        raise RuntimeError(f"The size of tensor a ({a[d]}) must match the size of tensor b "
                           f"({b[d]}) at non-singleton dimension {d + n}") from None


@placed
def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None,
              out: Any = None) -> Tensor:
    """1 with the probability that each element of input holds (or with p), else 0; input's dtype.

    The gradient of input is zero.
    """
    a, be = tensor_arg("bernoulli", input)._a, input._be
    stream = stream_of("bernoulli", generator, be)
    if p is not None:
        check_probability(p)
        x = empty_as(be, a, a.dtype)
        fill_in_order(x, lambda shape, dense: stream.bernoulli(p, shape))
        return finish(x, be)
    if a.dtype.kind not in dtypes.FLOATING:
        raise NotImplementedError(f'"bernoulli_tensor_cpu_p_" not implemented for '
                                  f"'{dtypes.type_name(a.dtype)}'")
    check_probabilities(a, be)
    return drawn(stream.bernoulli_of(a).astype(a.dtype), be, "BernoulliBackward0", input)


@placed
def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *,
                generator: Generator | None = None, out: Any = None) -> Tensor:
    """Indices drawn in proportion to the weights in each row of input.

    input: (n,) or (rows, n), floating, not negative, with a sum above 0; it need not be 1. Returns
    int64, (num_samples,) or (rows, num_samples).
    """
    a, be = tensor_arg("multinomial", input)._a, input._be
    num_samples = integer("multinomial", "num_samples", 2, num_samples)
    if a.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if a.dtype.kind not in dtypes.FLOATING:
        raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: "
                           f"{dtypes.type_name(a.dtype)}")
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > a.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without "
                           "replacement")
    if a.size == 0:
        return finish(be.empty(a.shape[:-1] + (num_samples,), np.int64), be)
    if not holds(be, (a >= 0) & (a < math.inf)):
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0"
                           if not replacement or num_samples == 1 else
                           "invalid multinomial distribution (encountering probability entry < 0, "
                           "inf or nan)")
    if not holds(be, a.sum(-1) > 0):
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    stream = stream_of("multinomial", generator, be)
    return finish(stream.multinomial(a, num_samples, replacement), be)


# Numbers that are drawn by rejection -------------------------------------------------------------


def _rejection(name: str, generator: Any, be: Backend) -> Any:
    """What draws them: called with the name of a distribution and arrays of its parameters."""
    stream = stream_of(name, generator, be)
    if be.index:
        return lambda distribution, *arrays: _rejection_kernel(be, stream, distribution, *arrays)
    from gpugrad.backend import rejection
    return lambda distribution, *arrays: getattr(rejection, distribution)(stream, *arrays)


def _rejection_kernel(be: Any, stream: Any, name: str, *arrays: Any) -> Any:
    """Numbers of these parameters, arrays of one shape, from a kernel with a counter of Philox for
    each element."""
    dtype, n = arrays[0].dtype, arrays[0].size
    if be.device.type == "meta":
        return be.empty(arrays[0].shape, dtype)
    if not be.kernels.take(dtype):
        raise NotImplementedError(f"{name} numbers on CUDA need gpugrad's kernels, which "
                                  "GPUGRAD_KERNELS=0 turns off: draw them on the CPU")
    out = be.empty(arrays[0].shape, dtype)
    if n:
        state, offset = stream.reserve(4 * n)
        be.kernels.each("rejection", name, dtype, n, (*[be._dense(a) for a in arrays], out), state,
                        offset)
    return out


def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson numbers, each with its rate; the gradient is zero."""
    a, be = tensor_arg("poisson", input)._a, input._be
    check_float("poisson_cpu", a.dtype)
    draw = _rejection("poisson", generator, be)
    if be.index == 0 and not holds(be, a >= 0):          # on CUDA such a number is NaN
        raise RuntimeError("invalid Poisson rate, expected rate to be non-negative")
    return drawn(draw("poisson", a).astype(a.dtype), be, "PoissonBackward0", input)


def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """The number of successes in count trials, both broadcast."""
    n, p, be = tensor_arg("binomial", count)._a, tensor_arg("binomial", prob)._a, count._be
    for a in (n, p):
        if a.dtype.kind not in dtypes.FLOATING:
            raise ValueError("binomial only supports floating-point dtypes for count, got: "
                             f"{dtypes.type_name(a.dtype)}")
    if n.dtype != p.dtype:
        raise RuntimeError(f"Found dtype {dtypes.type_name(p.dtype)} but expected "
                           f"{dtypes.type_name(n.dtype)}")
    draw = _rejection("binomial", generator, be)
    shape = _broadcast(n.shape, p.shape)
    x = draw("binomial", be.xp.broadcast_to(n, shape), be.xp.broadcast_to(p, shape))
    return finish(x.astype(n.dtype), be)


def rand_gamma(input: Tensor, generator: Generator | None = None) -> Tensor:
    """torch._standard_gamma: gamma numbers of these shapes and scale 1, with a gradient."""
    a, be = tensor_arg("_standard_gamma", input)._a, input._be
    check_float("gamma_cpu", a.dtype)
    x = _rejection("_standard_gamma", generator, be)("gamma", a)
    # what rounds to 0 is moved away from it, where the gradient would be infinite
    x = be.xp.maximum(x, dtypes.finfo(dtypes.OF[a.dtype]).tiny).astype(a.dtype)
    return T.standard_gamma(input, finish(x, be))


def sample_dirichlet(input: Tensor, generator: Generator | None = None) -> Tensor:
    """torch._sample_dirichlet: shares of 1 along the last dim; backward is an error."""
    a, be = tensor_arg("_sample_dirichlet", input)._a, input._be
    check_float("dirichlet", a.dtype)
    wide = np.dtype(np.float64)                  # small parameters underflow in float32
    x = _rejection("_sample_dirichlet", generator, be)("gamma", a.astype(wide))
    x = be.xp.maximum(x, dtypes.finfo(dtypes.float64).tiny)
    x = (x / x.sum(-1, keepdims=True)).astype(a.dtype)
    limits = dtypes.finfo(dtypes.OF[a.dtype])
    return T.sampled_dirichlet(input, finish(x.clip(limits.tiny, 1 - limits.eps / 2), be))


def standard_gamma_grad(self: Tensor, output: Tensor) -> Tensor:
    """torch._standard_gamma_grad: the derivative of gamma numbers to their shapes."""
    check_float("_standard_gamma_grad_cpu", tensor_arg("_standard_gamma_grad", self)._a.dtype)
    return T.standard_gamma_grad(self, output)


def dirichlet_grad(x: Tensor, alpha: Tensor, total: Tensor) -> Tensor:
    """torch._dirichlet_grad: of a part x of Dirichlet numbers to its parameter, over 1 - x."""
    shape = _broadcast(x.shape, _broadcast(alpha.shape, total.shape))
    return T.dirichlet_grad(*[t.expand(shape) for t in (x, alpha, total)])
