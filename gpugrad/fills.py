"""Tensors filled with random numbers in place, and what all random functions share.

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
from gpugrad._state import listening, state
from gpugrad._tensor import Tensor
from gpugrad.autograd import inplace
from gpugrad.autograd.node import Node, edge_of
from gpugrad.autograd.rules import fit_to, fits
from gpugrad.backend import Backend
from gpugrad.backend.random import largest_integer
from gpugrad.factory import (
    finish,
    integer,
    memory_order,
    placed,
)
from gpugrad.random import Generator

C_NAMES = {"bool": "bool", "uint8": "unsigned char", "int8": "signed char", "int16": "short int",
           "int32": "int", "int64": "long int", "float16": "c10::Half",
           "bfloat16": "c10::BFloat16", "float32": "float", "float64": "double"}


def stream_of(name: str, generator: Any, be: Backend) -> Any:
    """The backend's generator that a ``generator`` argument means."""
    if generator is None:
        return be.generator
    if not isinstance(generator, Generator):
        raise TypeError(f"{name}(): argument 'generator' must be torch.Generator, "
                        f"not {type(generator).__name__}")
    if be.device.type == "meta":                 # as in PyTorch, any generator will do
        return be.generator
    if generator.device.type != be.device.type:
        raise RuntimeError(f"Expected a '{be.device.type}' device type for generator but found "
                           f"'{generator.device.type}'")
    return generator._g


# Checks, as PyTorch makes them -------------------------------------------------------------------

def check_float(kernel: str, dtype: np.dtype[Any]) -> None:
    if dtype.kind == "c":
        raise NotImplementedError(f"random numbers of dtype {dtypes.OF[dtype]} are not supported: "
                                  f"make the real and the imaginary part")
    if dtype.kind not in dtypes.FLOATING:
        raise NotImplementedError(f'"{kernel}" not implemented for \'{dtypes.type_name(dtype)}\'')


def check_uniform(dtype: np.dtype[Any], low: float, high: float) -> None:
    check_float("check_uniform_bounds", dtype)
    limit = dtypes.largest(dtype)
    for what, value in (("from", low), ("to", high)):
        if not abs(value) <= limit:
            raise RuntimeError(f"{what} is out of bounds for {C_NAMES[dtype.name]}")
    if low > high:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low:g} "
                           f"> to={high:g}")
    if high - low > limit:
        raise RuntimeError(f"uniform_ expects to-from <= std::numeric_limits<"
                           f"{dtypes.type_name(dtype)}>::max(), but found to={high:g} and "
                           f"from={low:g} which result in to-from to exceed the limit")


def check_normal(dtype: np.dtype[Any], std: float) -> None:
    if not std >= 0.0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    check_float("normal_kernel_cpu", dtype)


def check_probability(p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")


def check_integers(dtype: np.dtype[Any], low: int, high: int) -> None:
    """Can the dtype hold the integers from low to high - 1?"""
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= "
                           f"to={high}")
    if dtype.kind == "c":
        raise RuntimeError("check_random_bounds handles only integral, floating-point and boolean "
                           "types")
    if dtype.kind in dtypes.FLOATING:
        smallest, largest = -dtypes.largest(dtype), dtypes.largest(dtype)
    elif dtype.kind == "b":
        smallest, largest = 0, 1
    else:
        smallest, largest = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    name = C_NAMES.get(dtype.name, dtype.name)
    for what, value in (("from", low), ("to - 1", high - 1)):
        if not smallest <= value <= largest:
            raise RuntimeError(f"{what} is out of bounds for {name}")
        if dtype.kind in dtypes.FLOATING and abs(value) > largest_integer(dtype):
            bits = largest_integer(dtype).bit_length() - 1
            warnings.warn(f"{what} is out of bounds [-(2^{bits}), 2^{bits}]: {name} holds no more "
                          f"than these integers exactly", stacklevel=5)


# History: PyTorch's nodes, with a gradient of zero ------------------------------------------------

class RandomBackward(Node):
    """Random numbers don't depend on what they were drawn from, or in place of."""

    __slots__ = ()

    def run(self, o: Any, g: Any, edges: Any) -> Any:
        zero = o.zeros_like(g)
        return tuple([None if e is None else fit_to(o, zero, want)
                      for e, want in zip(edges, self.fit or [None] * len(edges))])


def node_of(name: str, be: Backend, sources: list[Any], a: Any) -> Node:
    """The node of the random numbers ``a`` that took the place of, or came from, sources."""
    node = inplace.link(NODES[name](), be, tuple([edge_of(t) for t in sources]))
    node.fit = fits([t._a for t in sources], a)
    return node


NODES = {name: type(name, (RandomBackward,), {"__slots__": ()}) for name in (
    "UniformBackward0", "NormalBackward0", "NormalBackward1", "NormalBackward2", "NormalBackward3",
    "ExponentialBackward0", "BernoulliBackward0", "BernoulliBackward1", "BernoulliBackward2",
    "RandomBackward0", "RandomBackward1", "RandomBackward2", "CauchyBackward0",
    "LogNormalBackward0", "GeometricBackward0", "PoissonBackward0", "StandardGammaBackward0")}


def drawn(a: Any, be: Backend, name: str, *sources: Any) -> Tensor:
    """The tensor of an array of random numbers that were drawn with sources as parameters."""
    t = finish(a, be)
    if state.recording and any(s._edge is not None for s in sources):
        t._edge = (node_of(name, be, list(sources), t._a), 0)
    return t


def holds(be: Backend, condition: Any) -> bool:
    """Does the condition hold for every element? The host waits for the answer."""
    return be.holds(condition)


def check_probabilities(a: Any, be: Backend) -> None:
    if not holds(be, (a >= 0) & (a <= 1)):
        raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false: the "
                           "probabilities of bernoulli must be in [0, 1]")


# Filling a tensor in place -----------------------------------------------------------------------

def fill_in_order(a: Any, draw: Callable[[tuple[int, ...], bool], Any]) -> None:
    """Write the numbers of draw(shape, is a in C order) into an array, in its order in memory."""
    dense = a.flags.c_contiguous
    in_order = a if dense else a.transpose(memory_order(a))
    numbers = draw(in_order.shape, dense)
    in_order[...] = numbers
    if listening[0] is not None:
        listening[0].wrote(in_order, numbers)


def write(x: Tensor, node: str, draw: Callable[[tuple[int, ...], bool], Any],
           *sources: Tensor) -> Tensor:
    """fill_in_order() for a tensor: checked, counted, and recorded."""
    recorded = inplace.is_recorded(x, (x, *sources))
    if recorded:
        inplace.check(x)
    inplace.check_memory(x)
    fill_in_order(x._a, draw)
    inplace.bump(x)
    if recorded:
        inplace.rebase(x, node_of(node, x._be, [x, *sources], x._a))
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


@placed
def uniform_(self: Tensor, low: float = 0.0, /, to: float = 1.0, *,
             generator: Generator | None = None, **given: Any) -> Tensor:
    """Fill with uniform numbers in [from, to)."""
    low, to = _two("uniform_", given, low, to)
    d = self._a.dtype
    check_uniform(d, low, to)
    stream = stream_of("uniform_", generator, self._be)
    return write(self, "UniformBackward0",
                  lambda shape, dense: stream.uniform(shape, d, low, to))


@placed
def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *,
            generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers."""
    d, mean, std = self._a.dtype, float(mean), float(std)
    check_normal(d, std)
    stream = stream_of("normal_", generator, self._be)
    return write(self, "NormalBackward0",
                  lambda shape, dense: stream.normal(shape, d, mean, std, dense))


@placed
def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponential numbers of rate lambd, that is of mean 1 / lambd."""
    d = self._a.dtype
    if not lambd > 0.0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}")
    if d.kind not in dtypes.FLOATING:
        raise RuntimeError(f"Exponential distribution is a continuous probability distribution. "
                           f"dtype must be a floating point but you specified "
                           f"{dtypes.type_name(d)}")
    stream = stream_of("exponential_", generator, self._be)
    return write(self, "ExponentialBackward0",
                  lambda shape, dense: stream.exponential(shape, d, float(lambd)))


@placed
def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 with probability p, a number or a tensor that broadcasts to this one, else 0."""
    stream = stream_of("bernoulli_", generator, self._be)
    if not isinstance(p, Tensor):
        check_probability(p)
        return write(self, "BernoulliBackward2",
                      lambda shape, dense: stream.bernoulli(float(p), shape))
    probs = p._a
    check_probabilities(probs, self._be)
    try:
        probs = self._be.xp.broadcast_to(probs, self._a.shape)
    except ValueError:
        raise RuntimeError(f"The expanded size of the tensor must match the existing size at every "
                           f"non-singleton dimension. Target sizes: {list(self._a.shape)}. Tensor "
                           f"sizes: {list(probs.shape)}") from None
    order = memory_order(self._a)
    return write(self, "BernoulliBackward1", lambda shape, dense: stream.bernoulli_of(
        probs if dense else probs.transpose(order)), p)


@placed
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
    stream = stream_of("random_", generator, self._be)
    if low is None:
        return write(self, "RandomBackward2", lambda shape, dense: stream.random(shape, d))
    if high is None:
        high = largest_integer(d) + 1
        if low >= high:
            raise RuntimeError(f"random_ expects 'from' casted to dtype to be less than or equal "
                               f"to 'to_inc' casted to dtype, but got from={low} > "
                               f"to_inc={high - 1}")
    check_integers(d, low, high)
    return write(self, f"RandomBackward{0 if explicit else 1}",
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


@placed
def cauchy_(self: Tensor, median: float = 0.0, sigma: float = 1.0, *,
            generator: Generator | None = None) -> Tensor:
    """Fill with Cauchy numbers around a median."""
    d, stream = self._a.dtype, stream_of("cauchy_", generator, self._be)
    if not sigma > 0.0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma:g}")
    if d.kind not in dtypes.FLOATING:
        raise RuntimeError("Cauchy distribution is a continuous probability distribution. dtype "
                           "must be a floating point but you specified "
                           f"{C_NAMES.get(d.name, d.name)}")
    xp = self._be.xp

    def draw(shape: tuple[int, ...], dense: bool) -> Any:
        u = stream.uniform(shape, np.dtype(np.float64))
        return (median + sigma * xp.tan(math.pi * (u - 0.5))).astype(d)
    return write(self, "CauchyBackward0", draw)


@placed
def log_normal_(self: Tensor, mean: float = 1.0, std: float = 2.0, *,
                generator: Generator | None = None) -> Tensor:
    """Fill with numbers whose logarithms are normal with this mean and standard deviation."""
    d, stream = self._a.dtype, stream_of("log_normal_", generator, self._be)
    if not std > 0.0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std:g}")
    check_float("log_normal_cpu", d)
    xp = self._be.xp

    def draw(shape: tuple[int, ...], dense: bool) -> Any:
        # PyTorch draws these in pairs in every layout
        x = stream.normal(shape, np.dtype(np.float64), float(mean), float(std), False)
        return xp.exp(x).astype(d)
    return write(self, "LogNormalBackward0", draw)


@placed
def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with the number of trials up to the first success, each of which has probability p."""
    d, stream = self._a.dtype, stream_of("geometric_", generator, self._be)
    if not 0.0 < p < 1.0:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")
    if d.kind in "bc":
        raise NotImplementedError(f'"geometric_cpu" not implemented for \'{dtypes.type_name(d)}\'')
    xp, scale = self._be.xp, math.log1p(-p)

    def draw(shape: tuple[int, ...], dense: bool) -> Any:
        u = stream.uniform(shape, np.dtype(np.float64))
        return xp.ceil(xp.log(u) / scale).astype(d)
    return write(self, "GeometricBackward0", draw)
