"""Tensors of random numbers: rand, randn, randint and their kin, and in-place fills.

``generator`` is always a torch.Generator of the tensor's device, or None for the device's default
one. On the CPU the numbers are PyTorch's.
"""
from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._state import state
from gpugrad._tensor import Tensor
from gpugrad.autograd import inplace
from gpugrad.autograd.node import Node, edge_of
from gpugrad.autograd.rules import fit_to, fits
from gpugrad.backend import Backend, get
from gpugrad.backend.random import largest_integer
from gpugrad.factory import (
    begin,
    check_options,
    dtype_of,
    empty_as,
    finish,
    integer,
    memory_order,
    shape_of,
    tensor_arg,
    tuple_of,
)
from gpugrad.random import Generator

_RANDOM_NAMES = {"bool": "bool", "uint8": "unsigned char", "int8": "signed char",
                 "int16": "short int", "int32": "int", "int64": "long int",
                 "float16": "c10::Half", "float32": "float", "float64": "double"}


def _stream(name: str, generator: Any, be: Backend) -> Any:
    """The backend's generator that a ``generator`` argument means."""
    if generator is None:
        return be.generator
    if not isinstance(generator, Generator):
        raise TypeError(f"{name}(): argument 'generator' must be torch.Generator, "
                        f"not {type(generator).__name__}")
    if generator.device.type != be.device.type:
        raise RuntimeError(f"Expected a '{be.device.type}' device type for generator but found "
                           f"'{generator.device.type}'")
    return generator._g


# Checks, as PyTorch makes them -------------------------------------------------------------------

def _check_float(kernel: str, dtype: np.dtype[Any]) -> None:
    if dtype.kind == "c":
        raise NotImplementedError(f"random numbers of dtype {dtypes.OF[dtype]} are not supported: "
                                  f"make the real and the imaginary part")
    if dtype.kind != "f":
        raise NotImplementedError(f'"{kernel}" not implemented for \'{dtypes.type_name(dtype)}\'')


def _check_uniform(dtype: np.dtype[Any], low: float, high: float) -> None:
    _check_float("check_uniform_bounds", dtype)
    limit = float(np.finfo(dtype).max)
    for what, value in (("from", low), ("to", high)):
        if not abs(value) <= limit:
            raise RuntimeError(f"{what} is out of bounds for {_RANDOM_NAMES[dtype.name]}")
    if low > high:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low:g} "
                           f"> to={high:g}")
    if high - low > limit:
        raise RuntimeError(f"uniform_ expects to-from <= std::numeric_limits<"
                           f"{dtypes.type_name(dtype)}>::max(), but found to={high:g} and "
                           f"from={low:g} which result in to-from to exceed the limit")


def _check_normal(dtype: np.dtype[Any], std: float) -> None:
    if not std >= 0.0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    _check_float("normal_kernel_cpu", dtype)


def _check_probability(p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")


def _check_integers(dtype: np.dtype[Any], low: int, high: int) -> None:
    """Can the dtype hold the integers from low to high - 1?"""
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= "
                           f"to={high}")
    if dtype.kind == "c":
        raise RuntimeError("check_random_bounds handles only integral, floating-point and boolean "
                           "types")
    if dtype.kind == "f":
        smallest, largest = -float(np.finfo(dtype).max), float(np.finfo(dtype).max)
    elif dtype.kind == "b":
        smallest, largest = 0, 1
    else:
        smallest, largest = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    name = _RANDOM_NAMES.get(dtype.name, dtype.name)
    for what, value in (("from", low), ("to - 1", high - 1)):
        if not smallest <= value <= largest:
            raise RuntimeError(f"{what} is out of bounds for {name}")
        if dtype.kind == "f" and abs(value) > largest_integer(dtype):
            bits = largest_integer(dtype).bit_length() - 1
            warnings.warn(f"{what} is out of bounds [-(2^{bits}), 2^{bits}]: {name} holds no more "
                          f"than these integers exactly", stacklevel=4)


# History: PyTorch's nodes, with a gradient of zero ------------------------------------------------

class _RandomBackward(Node):
    """Random numbers don't depend on what they were drawn from, or in place of."""

    __slots__ = ()

    def run(self, o: Any, g: Any, edges: Any) -> Any:
        zero = o.zeros_like(g)
        return tuple([None if e is None else fit_to(o, zero, want)
                      for e, want in zip(edges, self.fit or [None] * len(edges))])


def _node(name: str, be: Backend, sources: list[Any], a: Any) -> Node:
    """The node of the random numbers ``a`` that took the place of, or came from, sources."""
    node = inplace.link(_NODES[name](), be, tuple([edge_of(t) for t in sources]))
    node.fit = fits([t._a for t in sources], a)
    return node


_NODES = {name: type(name, (_RandomBackward,), {"__slots__": ()}) for name in (
    "UniformBackward0", "NormalBackward0", "NormalBackward1", "NormalBackward2", "NormalBackward3",
    "ExponentialBackward0", "BernoulliBackward0", "BernoulliBackward1", "BernoulliBackward2",
    "RandomBackward0", "RandomBackward1", "RandomBackward2")}


def _drawn(a: Any, be: Backend, name: str, *sources: Any) -> Tensor:
    """The tensor of an array of random numbers that were drawn with sources as parameters."""
    t = finish(a, be)
    if state.recording and any(s._edge is not None for s in sources):
        t._edge = (_node(name, be, list(sources), t._a), 0)
    return t


# New tensors -------------------------------------------------------------------------------------

def rand(*sizes: Any, size: Any = None, generator: Generator | None = None, out: Any = None,
         dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
         requires_grad: bool = False) -> Tensor:
    """Uniform in [0, 1)."""
    be, d = begin("rand", dtype, device, out, layout, pin_memory)
    shape = shape_of("rand", sizes, size)
    _check_uniform(d, 0.0, 1.0)
    return finish(_stream("rand", generator, be).uniform(shape, d), be, requires_grad)


def randn(*sizes: Any, size: Any = None, generator: Generator | None = None, out: Any = None,
          dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
          requires_grad: bool = False) -> Tensor:
    """Normal with mean 0 and standard deviation 1."""
    be, d = begin("randn", dtype, device, out, layout, pin_memory)
    shape = shape_of("randn", sizes, size)
    _check_normal(d, 1.0)
    return finish(_stream("randn", generator, be).normal(shape, d), be, requires_grad)


def randint(low: Any = 0, high: Any = None, size: Any = None, *, generator: Generator | None = None,
            out: Any = None, dtype: Any = None, layout: Any = None, device: Any = None,
            pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """Integers in [low, high), int64 by default: ``randint(10, (2,))``, ``randint(3, 5, (4,))``."""
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    be = begin("randint", dtype, device, out, layout, pin_memory)[0]
    d = dtype_of("randint", dtype, dtypes.int64.np)
    low, high = integer("randint", "low", 1, low), integer("randint", "high", 2 if low else 1, high)
    shape = tuple_of("randint", size, 3 if low else 2)
    _check_integers(d, low, high)
    stream = _stream("randint", generator, be)
    return finish(stream.randint(low, high, shape, d), be, requires_grad)


def randperm(n: int, *, generator: Generator | None = None, out: Any = None, dtype: Any = None,
             layout: Any = None, device: Any = None, pin_memory: bool = False,
             requires_grad: bool = False) -> Tensor:
    """The integers from 0 to n - 1 in random order, int64 by default."""
    be = begin("randperm", dtype, device, out, layout, pin_memory)[0]
    d = dtype_of("randperm", dtype, dtypes.int64.np)
    n = integer("randperm", "n", 1, n)
    if n < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    if d.kind in "bc" or d.name in ("uint16", "uint32", "uint64"):
        raise NotImplementedError(f'"randperm" not implemented for \'{dtypes.type_name(d)}\'')
    if n > largest_integer(d) + 1:
        raise RuntimeError(f"n cannot be greater than {largest_integer(d) + 1} for "
                           f"{dtypes.type_name(d)} type.")
    return finish(_stream("randperm", generator, be).randperm(n, d), be, requires_grad)


def _like(name: str, input: Any, draw: Callable[[Any, Any], Any], dtype: Any, layout: Any,
          device: Any, requires_grad: bool, memory_format: Any) -> Tensor:
    """A tensor like input, with the numbers of draw(x, backend) put in its order in memory."""
    check_options(name, None, layout)
    a = tensor_arg(name, input)._a
    be = input._be if device is None else get(device)
    x = empty_as(be, a, dtype_of(name, dtype, a.dtype), memory_format, name)
    draw(x, be)
    return finish(x, be, requires_grad)


def rand_like(input: Tensor, *, generator: Generator | None = None, dtype: Any = None,
              layout: Any = None, device: Any = None, pin_memory: bool = False,
              requires_grad: bool = False, memory_format: Any = None) -> Tensor:
    """Uniform in [0, 1), with the shape, dtype and device of input."""
    def draw(x: Any, be: Backend) -> None:
        _check_uniform(x.dtype, 0.0, 1.0)
        stream = _stream("rand_like", generator, be)
        _fill(x, lambda shape, dense: stream.uniform(shape, x.dtype))
    return _like("rand_like", input, draw, dtype, layout, device, requires_grad, memory_format)


def randn_like(input: Tensor, *, generator: Generator | None = None, dtype: Any = None,
               layout: Any = None, device: Any = None, pin_memory: bool = False,
               requires_grad: bool = False, memory_format: Any = None) -> Tensor:
    """Normal with mean 0 and standard deviation 1, with the shape, dtype and device of input."""
    def draw(x: Any, be: Backend) -> None:
        _check_normal(x.dtype, 1.0)
        stream = _stream("randn_like", generator, be)
        _fill(x, lambda shape, dense: stream.normal(shape, x.dtype, blocked=dense))
    return _like("randn_like", input, draw, dtype, layout, device, requires_grad, memory_format)


def randint_like(input: Tensor, low: Any = 0, high: Any = None, *,
                 generator: Generator | None = None, dtype: Any = None, layout: Any = None,
                 device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
                 memory_format: Any = None) -> Tensor:
    """Integers in [low, high), with the shape, dtype and device of input."""
    if high is None:
        low, high = 0, low
    low, high = integer("randint_like", "low", 2, low), integer("randint_like", "high", 3, high)

    def draw(x: Any, be: Backend) -> None:
        _check_integers(x.dtype, low, high)
        stream = _stream("randint_like", generator, be)
        _fill(x, lambda shape, dense: stream.randint(low, high, shape, x.dtype))
    return _like("randint_like", input, draw, dtype, layout, device, requires_grad, memory_format)


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
        be, d = begin("normal", dtype, device, out, layout, pin_memory)
        shape = tuple_of("normal", size, 3)
        _check_normal(d, std)
        stream = _stream("normal", generator, be)
        return finish(stream.normal(shape, d, float(mean), float(std)), be, requires_grad)
    if size is not None or dtype is not None or device is not None or requires_grad:
        raise TypeError("normal() received an invalid combination of arguments: size, dtype, "
                        "device and requires_grad are for mean and std that are numbers")
    check_options("normal", out)
    be, d = given[0]._be, given[0]._a.dtype
    if isinstance(std, Tensor):
        if not _all(std._be, std._a >= 0):
            raise RuntimeError("normal expects all elements of std >= 0.0")
        _check_normal(d, 1.0)
    else:
        _check_normal(d, std)
    if len(given) == 2 and given[0]._be is not given[1]._be:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two "
                           f"devices, {mean.device} and {std.device}! (when checking the arguments "
                           f"of normal)")
    shape = _broadcast(*[t._a.shape for t in given])
    x = _stream("normal", generator, be).normal(shape, d)
    for operate, t in ((be.xp.multiply, std), (be.xp.add, mean)):
        a = t._a.astype(d, copy=False) if isinstance(t, Tensor) else be.scalar(t, d)
        operate(x, a, out=x)
    node = 3 if len(given) == 2 else 1 if given[0] is mean else 2
    return _drawn(x, be, f"NormalBackward{node}", *given)


def _broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        a, b = shapes
        n = max(len(a), len(b))
        d = next(d for d in range(-1, -n - 1, -1) if a[d] != b[d] and 1 not in (a[d], b[d]))
        raise RuntimeError(f"The size of tensor a ({a[d]}) must match the size of tensor b "
                           f"({b[d]}) at non-singleton dimension {d + n}") from None


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None,
              out: Any = None) -> Tensor:
    """1 with the probability that each element of input holds (or with p), else 0; input's dtype.

    The gradient of input is zero.
    """
    check_options("bernoulli", out)
    a, be = tensor_arg("bernoulli", input)._a, input._be
    stream = _stream("bernoulli", generator, be)
    if p is not None:
        _check_probability(p)
        x = empty_as(be, a, a.dtype)
        _fill(x, lambda shape, dense: stream.bernoulli(p, shape))
        return finish(x, be)
    if a.dtype.kind != "f":
        raise NotImplementedError(f'"bernoulli_tensor_cpu_p_" not implemented for '
                                  f"'{dtypes.type_name(a.dtype)}'")
    _check_probabilities(a, be)
    return _drawn(stream.bernoulli_of(a).astype(a.dtype), be, "BernoulliBackward0", input)


def _all(be: Backend, condition: Any) -> bool:
    """Does the condition hold for every element? The host waits for the answer."""
    return bool(be.to_host(condition.all()))


def _check_probabilities(a: Any, be: Backend) -> None:
    if not _all(be, (a >= 0) & (a <= 1)):
        raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false: the "
                           "probabilities of bernoulli must be in [0, 1]")


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *,
                generator: Generator | None = None, out: Any = None) -> Tensor:
    """Indices drawn in proportion to the weights in each row of input.

    input: (n,) or (rows, n), floating, not negative, with a sum above 0; it need not be 1. Returns
    int64, (num_samples,) or (rows, num_samples).
    """
    check_options("multinomial", out)
    a, be = tensor_arg("multinomial", input)._a, input._be
    num_samples = integer("multinomial", "num_samples", 2, num_samples)
    if a.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if a.dtype.kind != "f":
        raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: "
                           f"{dtypes.type_name(a.dtype)}")
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > a.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without "
                           "replacement")
    if a.size == 0:
        return finish(be.empty(a.shape[:-1] + (num_samples,), np.int64), be)
    if not _all(be, (a >= 0) & (a < math.inf)):
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0"
                           if not replacement or num_samples == 1 else
                           "invalid multinomial distribution (encountering probability entry < 0, "
                           "inf or nan)")
    if not _all(be, a.sum(-1) > 0):
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    stream = _stream("multinomial", generator, be)
    return finish(stream.multinomial(a, num_samples, replacement), be)


# Filling a tensor in place -----------------------------------------------------------------------

def _fill(a: Any, draw: Callable[[tuple[int, ...], bool], Any]) -> None:
    """Write the numbers of draw(shape, is a in C order) into an array, in its order in memory."""
    if a.flags.c_contiguous:
        a[...] = draw(a.shape, True)
    else:
        in_order = a.transpose(memory_order(a))
        in_order[...] = draw(in_order.shape, False)


def _write(x: Tensor, node: str, draw: Callable[[tuple[int, ...], bool], Any],
           *sources: Tensor) -> Tensor:
    """_fill() for a tensor: checked, counted, and recorded."""
    recorded = inplace.is_recorded(x, (x, *sources))
    if recorded:
        inplace.check(x)
    inplace.check_memory(x)
    _fill(x._a, draw)
    inplace.bump(x)
    if recorded:
        inplace.rebase(x, _node(node, x._be, [x, *sources], x._a))
    return x


def _two(name: str, given: dict[str, Any], *values: Any) -> list[Any]:
    """The values of `from` and `to`: `from` can't be the name of a Python parameter."""
    if "from" in given:
        values = (given.pop("from"), *values[1:])
    if given:
        raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(given))}'")
    for argument, value in zip(("from", "to"), values):
        if isinstance(value, bool) or not hasattr(value, "__float__"):
            raise TypeError(f"{name}(): argument '{argument}' must be float, "
                            f"not {type(value).__name__}")
    return [float(v) for v in values]


def uniform_(self: Tensor, low: float = 0.0, /, to: float = 1.0, *,
             generator: Generator | None = None, **given: Any) -> Tensor:
    """Fill with uniform numbers in [from, to)."""
    low, to = _two("uniform_", given, low, to)
    d = self._a.dtype
    _check_uniform(d, low, to)
    stream = _stream("uniform_", generator, self._be)
    return _write(self, "UniformBackward0",
                  lambda shape, dense: stream.uniform(shape, d, low, to))


def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *,
            generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers."""
    d, mean, std = self._a.dtype, float(mean), float(std)
    _check_normal(d, std)
    stream = _stream("normal_", generator, self._be)
    return _write(self, "NormalBackward0",
                  lambda shape, dense: stream.normal(shape, d, mean, std, dense))


def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponential numbers of rate lambd, that is of mean 1 / lambd."""
    d = self._a.dtype
    if not lambd > 0.0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}")
    if d.kind != "f":
        raise RuntimeError(f"Exponential distribution is a continuous probability distribution. "
                           f"dtype must be a floating point but you specified "
                           f"{dtypes.type_name(d)}")
    stream = _stream("exponential_", generator, self._be)
    return _write(self, "ExponentialBackward0",
                  lambda shape, dense: stream.exponential(shape, d, float(lambd)))


def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 with probability p, a number or a tensor that broadcasts to this one, else 0."""
    stream = _stream("bernoulli_", generator, self._be)
    if not isinstance(p, Tensor):
        _check_probability(p)
        return _write(self, "BernoulliBackward2",
                      lambda shape, dense: stream.bernoulli(float(p), shape))
    probs = p._a
    _check_probabilities(probs, self._be)
    try:
        probs = self._be.xp.broadcast_to(probs, self._a.shape)
    except ValueError:
        raise RuntimeError(f"The expanded size of the tensor must match the existing size at every "
                           f"non-singleton dimension. Target sizes: {list(self._a.shape)}. Tensor "
                           f"sizes: {list(probs.shape)}") from None
    order = memory_order(self._a)
    return _write(self, "BernoulliBackward1", lambda shape, dense: stream.bernoulli_of(
        probs if dense else probs.transpose(order)), p)


def random_(self: Tensor, *bounds: Any, generator: Generator | None = None, **given: Any) -> Tensor:
    """Fill with integers: ``random_(to)`` in [0, to), ``random_(from, to)`` in [from, to).

    Without bounds, or with to=None, up to the largest integer such that the dtype holds it and all
    below exactly.
    """
    explicit = len(bounds) == 2 or "from" in given
    low, high = _bounds(bounds, given)
    d = self._a.dtype
    if d.kind == "c" or d.name in ("uint16", "uint32", "uint64"):
        raise NotImplementedError(f'"random_kernel_cpu" not implemented for '
                                  f"'{dtypes.type_name(d)}'")
    stream = _stream("random_", generator, self._be)
    if low is None:
        return _write(self, "RandomBackward2", lambda shape, dense: stream.random(shape, d))
    if high is None:
        high = largest_integer(d) + 1
        if low >= high:
            raise RuntimeError(f"random_ expects 'from' casted to dtype to be less than or equal "
                               f"to 'to_inc' casted to dtype, but got from={low} > "
                               f"to_inc={high - 1}")
    _check_integers(d, low, high)
    return _write(self, f"RandomBackward{0 if explicit else 1}",
                  lambda shape, dense: stream.randint(low, high, shape, d))


def _bounds(bounds: tuple[Any, ...], given: dict[str, Any]) -> tuple[int | None, int | None]:
    """(None, None) for random_(), (low, None) for random_(low, None), else both."""
    if len(bounds) > 2 or set(given) - {"from", "to"}:
        raise TypeError("random_() received an invalid combination of arguments: it takes (), "
                        "(to) or (from, to), and generator=")
    if len(bounds) == 1 and "to" not in given and "from" not in given:
        bounds = (0, *bounds)
    values = dict(zip(("from", "to"), bounds)) | given
    if not values:
        return None, None
    high = values.get("to")
    return (integer("random_", "from", 1, values.get("from", 0)),
            None if high is None else integer("random_", "to", 2, high))
