"""One record per op: samples, what NumPy makes of them, bad inputs. test_generic.py drives them.

Samples are float64 arrays (integers and bools where an op takes indices and masks), drawn from a
seeded generator; the tests cast them to other dtypes. A reference gets the same arguments as the
op's forward, without the backend.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """One call: positional arrays (None for a missing one) and the op's constants."""

    args: tuple[Any, ...]
    kw: dict[str, Any]


@dataclass(frozen=True)
class Bad:
    """A call that must raise: the exception and a part of its text."""

    error: type[Exception]
    text: str
    args: tuple[Any, ...]
    kw: dict[str, Any]


@dataclass(frozen=True)
class Record:
    """An op's name, reference, samples and bad inputs.

    smooth: derivatives of the second order exist and are finite at the samples. tolerance: for
    float16, relative to the largest magnitude.
    """

    name: str
    reference: Callable[..., Any]
    draw: Callable[[Draw], list[Case]]
    bad: tuple[Bad, ...] = ()
    smooth: bool = True
    tolerance: float = 4e-3

    def samples(self) -> list[Case]:
        return self.draw(Draw())


class Draw:
    """Arrays of one seeded stream."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def real(self, *shape: int) -> Array:
        return np.array(self.rng.standard_normal(shape))

    def positive(self, *shape: int) -> Array:
        return np.array(self.rng.uniform(0.5, 2, shape))

    def small(self, *shape: int) -> Array:
        return np.array(self.rng.uniform(-0.8, 0.8, shape))

    def mask(self, *shape: int) -> Array:
        return np.array(self.rng.random(shape) < 0.5)

    def index(self, n: int, *shape: int) -> Array:
        return np.array(self.rng.integers(0, n, shape))


def case(*args: Any, **kw: Any) -> Case:
    return Case(args, kw)


def bad(error: type[Exception], text: str, *args: Any, **kw: Any) -> Bad:
    return Bad(error, text, args, kw)


RECORDS: dict[str, Record] = {}

# There are no complex numbers of 32 bits, and the functions around these ops take no 16 bits, as in
# PyTorch (all but matrix_exp, which goes by other ops).
NOT_OF_16_BITS = frozenset("""view_as_complex complex polar fft_r2c logaddexp_complex cholesky
cofactors det eig eigh geqrf inv ldl_factor ldl_solve lu_factor matrix_exp pinv qr slogdet solve
solve_triangular svd""".split())


def record(name: str, reference: Callable[..., Any], draw: Callable[[Draw], list[Case]], *bad: Bad,
           smooth: bool = True, tolerance: float = 4e-3) -> None:
    assert name not in RECORDS
    RECORDS[name] = Record(name, reference, draw, bad, smooth, tolerance)


def adjoint(f: Callable[[Array], Array], shape: Any, g: Array) -> Array:
    """The transpose of a linear function, applied to g."""
    out = np.zeros(shape)
    for i in np.ndindex(*shape):
        unit = np.zeros(shape)
        unit[i] = 1
        out[i] = (f(unit) * g).sum()
    return out


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


erf = np.vectorize(math.erf, [float])
A, B = np.ones((2, 3)), np.ones((3, 4))

# One operand -------------------------------------------------------------------------------------


def unary(kind: str, **kw: Any) -> Callable[[Draw], list[Case]]:
    return lambda d: [case(getattr(d, kind)(*shape), **kw) for shape in ((3, 4), (), (0, 3))]


for name, reference, kind in (
        ("neg", np.negative, "real"), ("abs", np.abs, "real"), ("sign", np.sign, "real"),
        ("floor", np.floor, "real"), ("ceil", np.ceil, "real"), ("trunc", np.trunc, "real"),
        ("round", np.round, "real"), ("exp", np.exp, "real"), ("expm1", np.expm1, "real"),
        ("log", np.log, "positive"), ("log1p", np.log1p, "positive"), ("log2", np.log2, "positive"),
        ("log10", np.log10, "positive"), ("sin", np.sin, "real"), ("cos", np.cos, "real"),
        ("tanh", np.tanh, "real"), ("erf", erf, "real"), ("sqrt", np.sqrt, "positive"),
        ("rsqrt", lambda x: x ** -0.5, "positive"), ("reciprocal", lambda x: 1 / x, "positive"),
        ("clone", np.copy, "real"), ("clone_in_order", np.copy, "real"), ("alias", np.copy, "real"),
        ("zeros_like", np.zeros_like, "real"), ("sigmoid", sigmoid, "real"),
        ("relu", lambda x: np.maximum(x, 0), "real"), ("silu", lambda x: x * sigmoid(x), "real"),
        ("log_sigmoid", lambda x: np.log(sigmoid(x)), "real"),
        ("isnan", np.isnan, "real"), ("isinf", np.isinf, "real"), ("isfinite", np.isfinite, "real"),
        ("logical_not", np.logical_not, "mask"), ("bitwise_not", np.invert, "mask")):
    record(name, reference, unary(kind))

record("new_zeros", lambda x, shape: np.zeros(shape), unary("real", shape=(2, 5)))
record("to", lambda x, dtype: x.astype(dtype), lambda d: [
    case(d.real(3, 4), dtype=np.dtype("f8")), case(d.mask(3, 4), dtype=np.dtype("f8")),
    case(d.real(3, 4), dtype=np.dtype("f4")), case(d.real(0, 2), dtype=np.dtype("f2"))])
record("fill", lambda x, value: np.full(x.shape, float(value)), unary("real", value=2.5))
record("scale", lambda x, number: x * number, unary("real", number=-1.5))
record("divide_by", lambda x, number: x / number, unary("real", number=4))
record("shift", lambda x, number: x + number, unary("real", number=0.5))
record("rsub", lambda x, number: number - x, unary("real", number=2))
record("pow_number", lambda x, exponent: x ** float(exponent), lambda d: [
    *[case(d.positive(2, 3), exponent=e) for e in (2, 3, 0.5, -0.5, -1, -2, 2.5, 0, 1)],
    case(d.positive(), exponent=-3), case(d.positive(0, 2), exponent=4),
    case(-d.positive(4), exponent=3)])
record("rpow_number", lambda x, base: float(base) ** x, lambda d: [
    case(d.real(3, 4), base=2), case(d.real(), base=0.5), case(d.real(0, 2), base=3),
    case(d.positive(3), base=0)])
record("clamp", lambda x, min=None, max=None: np.clip(x, min, max), lambda d: [
    case(d.real(3, 4), min=-0.5, max=0.5), case(d.real(4), min=0.1), case(d.real(), max=0.2),
    case(d.real(0, 3), min=0, max=1), case(d.real(4), min=0.5, max=-0.5)])
record("clamp_min", lambda x, min: np.maximum(x, min), unary("real", min=0.1))
record("clamp_max", lambda x, max: np.minimum(x, max), unary("real", max=0.1))
record("leaky_relu", lambda x, slope: np.where(x > 0, x, slope * x), unary("real", slope=0.1))
record("elu", lambda x, alpha=1.0, scale=1.0, input_scale=1.0:
       scale * np.where(x > 0, x, alpha * np.expm1(input_scale * x)),
       lambda d: [case(d.real(3, 4)), case(d.real(4), alpha=1.5, scale=1.2, input_scale=0.7),
                  case(d.real()), case(d.real(0, 2))])
record("softplus", lambda x, beta=1.0, threshold=20.0:
       np.where(beta * x > threshold, x, np.log1p(np.exp(beta * x)) / beta),
       lambda d: [case(d.real(3, 4)), case(d.real(4), beta=2.0, threshold=0.5), case(d.real()),
                  case(d.real(0, 2))])
record("hardtanh", lambda x, min_val=-1.0, max_val=1.0: np.clip(x, min_val, max_val), lambda d: [
    case(d.real(3, 4)), case(d.real(4), min_val=0.2, max_val=0.7), case(d.real()), case(d.real(0))])
record("threshold", lambda x, threshold, value: np.where(x > threshold, x, value),
       unary("real", threshold=0.1, value=-2.0))
record("gelu", lambda x, approximate="none": x * (
    (1 + erf(x / math.sqrt(2))) / 2 if approximate == "none" else
    (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))) / 2),
    lambda d: [case(d.real(3, 4)), case(d.real(3, 4), approximate="tanh"), case(d.real()),
               case(d.real(0, 2))])

# Two operands and more ---------------------------------------------------------------------------

BROADCAST = (((3, 4), (3, 4)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2, 2)), ((2, 2), ()),
             ((0, 3), (3,)), ((), ()))
MISFIT = bad(RuntimeError, "The size of tensor a (3) must match the size of tensor b (4) at "
             "non-singleton dimension 1", np.ones((2, 3), int), np.ones((2, 4), int))


def binary(left: str, right: str = "") -> Callable[[Draw], list[Case]]:
    return lambda d: [case(getattr(d, left)(*a), getattr(d, right or left)(*b))
                      for a, b in BROADCAST]


for name, reference, left, right in (
        ("add", np.add, "real", "real"), ("sub", np.subtract, "real", "real"),
        ("mul", np.multiply, "real", "real"), ("div", np.divide, "real", "positive"),
        ("div_floor", np.floor_divide, "real", "positive"),
        ("div_trunc", lambda x, y: np.trunc(x / y), "real", "positive"),
        ("remainder", np.mod, "real", "positive"), ("fmod", np.fmod, "real", "positive"),
        ("pow", np.power, "positive", "real"),
        ("maximum", np.maximum, "real", "real"), ("minimum", np.minimum, "real", "real"),
        ("eq", np.equal, "mask", "mask"), ("ne", np.not_equal, "mask", "mask"),
        ("lt", np.less, "real", "real"), ("le", np.less_equal, "real", "real"),
        ("gt", np.greater, "real", "real"), ("ge", np.greater_equal, "real", "real"),
        ("logical_and", np.logical_and, "mask", "mask"),
        ("logical_or", np.logical_or, "mask", "mask"),
        ("logical_xor", np.logical_xor, "mask", "mask"),
        ("bitwise_and", np.bitwise_and, "mask", "mask"),
        ("bitwise_or", np.bitwise_or, "mask", "mask"),
        ("bitwise_xor", np.bitwise_xor, "mask", "mask")):
    record(name, reference, binary(left, right), MISFIT)

for name, reference in (("bitwise_left_shift", np.left_shift),
                        ("bitwise_right_shift", np.right_shift)):
    record(name, reference, lambda d: [case(d.index(9, 3, 4), d.index(3, 4)),
                                       case(d.index(9), d.index(3, 2)),
                                       case(d.index(9, 0), d.index(3))])

# PyTorch records it and refuses to differentiate: the gradient is an error of its own
record("floor_divide", np.floor_divide, lambda d: [
    case(d.index(9, 3, 4) + 1, d.index(3, 4) + 1), case(d.index(9, 0), d.index(3) + 1)], MISFIT)

record("tanh_backward", lambda g, y: g * (1 - y * y), lambda d: [case(d.real(3, 4), d.small(3, 4))])
record("sigmoid_backward", lambda g, y: g * y * (1 - y),
       lambda d: [case(d.real(3, 4), d.small(3, 4) ** 2)])
record("threshold_backward", lambda g, y, threshold=0: np.where(y > threshold, g, 0),
       lambda d: [case(d.real(3, 4), d.real(3, 4)), case(d.real(5), d.real(5), threshold=0.5)])
record("copy", lambda x, y: np.broadcast_to(y, x.shape), lambda d: [
    case(d.real(2, 3), d.real(2, 3)), case(d.real(2, 3), d.real(3)), case(d.real(2, 3), d.real()),
    case(d.real(0, 2), d.real(2))])
record("where", np.where, lambda d: [
    case(d.mask(3, 4), d.real(3, 4), d.real(3, 4)), case(d.mask(3, 1), d.real(4), d.real()),
    case(d.mask(), d.real(2), d.real(2)), case(d.mask(0, 2), d.real(2), d.real(2))])
record("keep_where", lambda x, mask: np.where(mask, x, 0), lambda d: [
    case(d.real(3, 4), d.mask(3, 4)), case(d.real(3, 4), d.mask(4)), case(d.real(4), d.mask(2, 1)),
    case(d.real(), d.mask())])
record("drop_where", lambda x, mask: np.where(mask, 0, x), lambda d: [
    case(d.real(3, 4), d.mask(3, 4)), case(d.real(3, 1), d.mask(4)), case(d.real(0), d.mask(0))])
record("masked_fill", lambda x, mask, value: np.where(mask, value, x), lambda d: [
    case(d.real(3, 4), d.mask(3, 4), value=-2.0), case(d.real(3, 4), d.mask(4), value=1),
    case(d.real(), d.mask(), value=0.5)])
record("masked_fill_with", lambda x, mask, value: np.where(mask, value, x), lambda d: [
    case(d.real(3, 4), d.mask(3, 4), d.real()), case(d.real(3, 4), d.mask(4), d.real())])
record("clamp_between", lambda x, low=None, high=None: np.clip(x, low, high), lambda d: [
    case(d.real(3, 4), d.real(3, 4), d.real(3, 4)), case(d.real(3, 4), d.real(4), None),
    case(d.real(3, 4), None, d.real()), case(d.real(4), d.real(3, 1), d.positive(4) + 1)])
for name, bounded in (("clamp_min_tensor", np.maximum), ("clamp_max_tensor", np.minimum)):
    record(name, bounded, lambda d: [
        case(d.real(3, 4), d.real(3, 4)), case(d.real(3, 4), d.real()), case(d.real(0), d.real(0)),
        case(d.real(4), d.real(3, 1))])
record("addcmul", lambda x, a, b, value=1: x + value * a * b, lambda d: [
    case(d.real(3, 4), d.real(3, 4), d.real(3, 4)),
    case(d.real(3, 4), d.real(4), d.real(3, 1), value=0.5),
    case(d.real(), d.real(), d.real(2))])
record("addcdiv", lambda x, a, b, value=1: x + value * a / b, lambda d: [
    case(d.real(3, 4), d.real(3, 4), d.positive(3, 4)),
    case(d.real(3, 4), d.real(4), d.positive(3, 1), value=-2)])
record("lerp", lambda x, end, weight: x + weight * (end - x), lambda d: [
    case(d.real(3, 4), d.real(3, 4), d.real(3, 4)), case(d.real(3, 4), d.real(4), d.real())])
record("lerp_number", lambda x, end, weight: x + weight * (end - x), lambda d: [
    case(d.real(3, 4), d.real(3, 4), weight=0.3), case(d.real(3, 4), d.real(4), weight=1.5)])

# Products ----------------------------------------------------------------------------------------

record("mm", np.matmul,
       lambda d: [case(d.real(2, 3), d.real(3, 4)), case(d.real(0, 3), d.real(3, 2)),
                                   case(d.real(2, 0), d.real(0, 2))],
       bad(RuntimeError, "shapes cannot be multiplied (2x3 and 2x3)", A, A))
record("addmm", lambda c, a, b, beta=1, alpha=1: beta * c + alpha * (a @ b), lambda d: [
    case(d.real(2, 4), d.real(2, 3), d.real(3, 4)), case(d.real(4), d.real(2, 3), d.real(3, 4)),
    case(d.real(2, 1), d.real(2, 3), d.real(3, 4), beta=0.5, alpha=2),
    case(d.real(), d.real(2, 3), d.real(3, 2), beta=0)],
    bad(RuntimeError, "shapes cannot be multiplied (2x3 and 2x3)", A, A, A),
    bad(RuntimeError, "The expanded size of the tensor (4) must match the existing size "
                      "(3)", A, A, B))
record("product_and_sums", lambda g, a, order: (a.T @ g, g.sum(0)), lambda d: [
    case(d.real(*g), d.real(*a), order=order) for order in "CF"
    for g, a in (((5, 3), (5, 4)), ((2, 8), (2, 3)), ((0, 3), (0, 2)))])
record("bmm", np.matmul, lambda d: [
    case(d.real(2, 2, 3), d.real(2, 3, 2)), case(d.real(2, 1, 2, 3), d.real(2, 3, 2)),
    case(d.real(0, 2, 3), d.real(0, 3, 2))])
record("dot", np.dot, lambda d: [case(d.real(4), d.real(4)), case(d.real(0), d.real(0))])
record("mv", np.dot, lambda d: [case(d.real(2, 3), d.real(3)), case(d.real(0, 3), d.real(3))])

# Reductions --------------------------------------------------------------------------------------

DIMS = ({}, {"dim": (0,)}, {"dim": (1,), "keepdim": True}, {"dim": (0, 2)},
        {"dim": (0, 1, 2), "keepdim": True})


def numpy_dims(f: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    return lambda x, dim=None, keepdim=False, **kw: f(x, axis=dim, keepdims=keepdim, **fixed, **kw)


def over_dims(kind: str = "real", empty: bool = True) -> Callable[[Draw], list[Case]]:
    return lambda d: [case(getattr(d, kind)(2, 3, 2), **kw) for kw in DIMS] + [
        case(getattr(d, kind)())] + [case(getattr(d, kind)(0, 3), dim=(0,))] * empty


def everything(kind: str = "real", empty: bool = True) -> Callable[[Draw], list[Case]]:
    return lambda d: [case(getattr(d, kind)(*s)) for s in ((2, 3), (), *[(0, 2)] * empty)]


record("sum", numpy_dims(np.sum), over_dims())
record("sum_all", np.sum, everything())
record("mean", numpy_dims(np.mean), over_dims())
record("mean_all", np.mean, everything())
for name, f in (("var", np.var), ("std", np.std)):
    record(name, lambda x, dim=None, correction=1, keepdim=False, f=f:
           f(x, axis=dim, ddof=correction, keepdims=keepdim),
           lambda d: [case(d.real(2, 3, 2), **kw) for kw in DIMS] + [
               case(d.real(4, 2), dim=(0,), correction=0), case(d.real(4), correction=2)])
for name, f in (("var_mean", np.var), ("std_mean", np.std)):
    record(name, lambda x, dim=None, correction=1, keepdim=False, f=f:
           (f(x, axis=dim, ddof=correction, keepdims=keepdim),
            np.mean(x, axis=dim, keepdims=keepdim)),
           lambda d: [case(d.real(2, 3, 2), **kw) for kw in DIMS] + [
               case(d.real(40, 2), dim=(0,), correction=0)])
record("amax", numpy_dims(np.max), over_dims(empty=False), smooth=False)
record("amin", numpy_dims(np.min), over_dims(empty=False), smooth=False)
record("max_all", np.max, everything(empty=False), smooth=False)
record("min_all", np.min, everything(empty=False), smooth=False)
record("all", numpy_dims(np.all), over_dims("mask"))
record("any", numpy_dims(np.any), over_dims("mask"))
record("prod", numpy_dims(np.prod), lambda d: [
    case(d.real(2, 3), dim=0), case(d.real(2, 5), dim=1, keepdim=True), case(d.real(0, 2), dim=0),
    case(np.array([[1.0, 0, 3, 2], [0, 2, 0, 1]]), dim=1), case(d.real(3, 1), dim=1)])
record("prod_all", np.prod, lambda d: [case(d.real(2, 3)), case(d.real()), case(d.real(0, 2)),
                                       case(np.array([2.0, 0, 3]))])
for name, f, g in (("max", np.max, np.argmax), ("min", np.min, np.argmin)):
    record(name, lambda x, dim, keepdim=False, f=f, g=g:
           (f(x, axis=dim, keepdims=keepdim), g(x, axis=dim, keepdims=keepdim)),
           lambda d: [case(d.real(2, 3), dim=0), case(d.real(2, 3), dim=1, keepdim=True),
                      case(d.real(2, 0), dim=0)])
    record("arg" + name, numpy_dims(g), lambda d: [
        case(d.real(2, 3)), case(d.real(2, 3), dim=1), case(d.real(2, 3), dim=0, keepdim=True),
        case(d.real())])
record("logsumexp", lambda x, dim, keepdim=False:
       np.log(np.sum(np.exp(x), axis=dim, keepdims=keepdim)), lambda d: [
    case(d.real(2, 3), dim=(0,)), case(d.real(2, 3), dim=(0, 1), keepdim=True),
    case(d.real(2, 0), dim=(0,)), case(d.real(), dim=())])


def norm(x: Array, p: float = 2, dim: Any = None, keepdim: bool = False) -> Any:
    size = np.abs(x)
    if math.isinf(p):
        return (np.max if p > 0 else np.min)(size, axis=dim, keepdims=keepdim)
    if p == 0:
        return np.sum(size != 0, axis=dim, keepdims=keepdim).astype(x.dtype)
    return np.sum(size ** p, axis=dim, keepdims=keepdim) ** (1 / p)


record("vector_norm", norm, lambda d: [
    *[case(d.real(2, 3), p=p) for p in (2, 1, 3, 1.5, 0.5, 0, math.inf, -math.inf)],
    case(d.real(2, 3), dim=(1,)), case(d.real(2, 3, 2), p=3, dim=(0, 2), keepdim=True),
    case(d.real()), case(d.real(0, 2))], tolerance=2e-2)

# Shapes ------------------------------------------------------------------------------------------

record("expand", lambda x, shape: np.broadcast_to(x, shape), lambda d: [
    case(d.real(3, 1), shape=(2, 3, 4)), case(d.real(), shape=(2, 2)),
    case(d.real(1, 2), shape=(0, 2))])
for name in ("view", "unsafe_view"):
    record(name, lambda x, shape: x.reshape(shape), lambda d: [
        case(d.real(3, 4), shape=(2, 6)), case(d.real(2, 2), shape=(4,)),
        case(d.real(), shape=(1, 1)),
        case(d.real(0, 2), shape=(3, 0))])
record("permute", lambda x, dims: x.transpose(dims), lambda d: [
    case(d.real(2, 3, 4), dims=(2, 0, 1)), case(d.real(), dims=()),
    case(d.real(0, 2), dims=(1, 0))])
record("transpose", lambda x, dim0, dim1: x.swapaxes(dim0, dim1), lambda d: [
    case(d.real(2, 3, 4), dim0=0, dim1=2), case(d.real(2, 3, 4), dim0=-1, dim1=-2)])
record("t", np.transpose, lambda d: [case(d.real(2, 3)), case(d.real(0, 3))])
record("unsqueeze", lambda x, dim: np.expand_dims(x, dim), lambda d: [
    case(d.real(2, 3), dim=1), case(d.real(), dim=0), case(d.real(0, 2), dim=2)])
record("squeeze", lambda x, dim: x.squeeze(dim), lambda d: [
    case(d.real(2, 1, 3, 1), dim=(1,)), case(d.real(2, 1, 3, 1), dim=(1, 3)),
    case(d.real(2), dim=())])
record("squeeze_all", np.squeeze, lambda d: [case(d.real(2, 1, 3, 1)), case(d.real(1, 1)),
                                             case(d.real()), case(d.real(0, 1))])
record("select", lambda x, dim, index: np.take(x, index, dim), lambda d: [
    case(d.real(2, 3), dim=0, index=1), case(d.real(2, 3, 2), dim=1, index=2),
    case(d.real(3), dim=0, index=0)])
record("select_backward", lambda g, shape, dim, index:
       adjoint(lambda x: np.take(x, index, dim), shape, g), lambda d: [
           case(d.real(3), shape=(2, 3), dim=0, index=1),
           case(d.real(), shape=(3,), dim=0, index=2)])


def part(x: Array, dim: int, start: int, stop: int, step: int = 1) -> Array:
    return np.take(x, range(start, stop, step), dim)


record("slice_", part, lambda d: [
    case(d.real(5, 2), dim=0, start=1, stop=4), case(d.real(2, 5), dim=1, start=0, stop=5, step=2),
    case(d.real(3), dim=0, start=2, stop=2)])
record("slice_backward", lambda g, shape, **kw: adjoint(lambda x: part(x, **kw), shape, g),
       lambda d: [
    case(d.real(3, 2), shape=(5, 2), dim=0, start=1, stop=4, step=1),
    case(d.real(2, 3), shape=(2, 5), dim=1, start=0, stop=5, step=2)])
record("diagonal", np.diagonal, lambda d: [
    Case((d.real(3, 4),), {}), case(d.real(3, 4), offset=1),
    case(d.real(2, 3, 4), offset=-1, dim1=2, dim2=1)])
RECORDS["diagonal"] = Record("diagonal", lambda x, offset=0, dim1=0,
                             dim2=1: np.diagonal(x, offset, dim1, dim2),
                             RECORDS["diagonal"].draw)
record("diagonal_backward", lambda g, shape, offset, dim1, dim2:
       adjoint(lambda x: np.diagonal(x, offset, dim1, dim2), shape, g), lambda d: [
           case(d.real(3), shape=(3, 4), offset=1, dim1=0, dim2=1),
           case(d.real(3, 2), shape=(2, 3, 4), offset=-2, dim1=2, dim2=0)])
record("pad_to", lambda g, shape: np.pad(g, [(0, n - m) for n, m in zip(shape, g.shape)]),
       lambda d: [
    case(d.real(2, 3), shape=(3, 5)), case(d.real(2, 3), shape=(2, 3))])
record("unbind", lambda x, dim=0: tuple(np.moveaxis(x, dim, 0)), lambda d: [
    case(d.real(2, 3)), case(d.real(2, 3), dim=1)])
record("split", lambda x, sizes,
       dim=0: tuple(np.split(x, list(itertools.accumulate(sizes))[:-1], dim)),
       lambda d: [case(d.real(5, 2), sizes=(2, 2, 1)), case(d.real(2, 4), sizes=(1, 0, 3), dim=1)])
record("stack", lambda *xs, dim=0: np.stack(xs, dim), lambda d: [
    case(d.real(2, 3), d.real(2, 3)), case(d.real(2), d.real(2), d.real(2), dim=1), case(d.real())])
record("cat", lambda *xs, dim=0: np.concatenate(xs, dim), lambda d: [
    case(d.real(2, 3), d.real(1, 3)), case(d.real(2, 1), d.real(2, 0), d.real(2, 2), dim=1),
    case(d.real(3))])
record("repeat", lambda x, times: np.tile(x, times), lambda d: [
    case(d.real(2, 3), times=(2, 1)), case(d.real(2), times=(2, 3)), case(d.real(), times=(2,)),
    case(d.real(2), times=(0,))])
record("flip", lambda x, dims: np.flip(x, dims), lambda d: [
    case(d.real(3, 4), dims=(0,)), case(d.real(3, 4), dims=(0, 1)), case(d.real(), dims=())])
for name, f in (("triu", np.triu), ("tril", np.tril)):
    record(name, lambda x, diagonal=0, f=f: f(x, diagonal), lambda d: [
        case(d.real(3, 4)), case(d.real(2, 3, 3), diagonal=1), case(d.real(3, 3), diagonal=-1)])

# Indexing ----------------------------------------------------------------------------------------


def indices(parts: Any) -> tuple[Any, ...]:
    return tuple(slice(None) if i is None else i for i in parts)


def put(x: Array, values: Array, *parts: Any, accumulate: bool = False) -> Array:
    out = x.copy()
    if accumulate:
        np.add.at(out, indices(parts), values)
    else:
        out[indices(parts)] = values
    return out


def add_along(x: Array, index: Array, src: Array, dim: int) -> Array:
    out = x.copy()
    for at in np.ndindex(*index.shape):
        out[(*at[:dim], index[at], *at[dim + 1:])] += src[at]
    return out


def gather(x: Array, index: Array, dim: int) -> Array:
    out = np.zeros(index.shape)
    for at in np.ndindex(*index.shape):
        out[at] = x[(*at[:dim], index[at], *at[dim + 1:])]
    return out


record("index", lambda x, *parts: x[indices(parts)], lambda d: [
    case(d.real(3, 4), d.index(3, 5)), case(d.real(3, 4), None, d.index(4, 2, 2)),
    case(d.real(3, 4, 2), d.index(3, 2), None, d.index(2, 2)), case(d.real(3), d.index(3, 0))],
    bad(IndexError, "out of bounds", A, np.array([2])))
record("index_put", put, lambda d: [
    case(d.real(3, 4), d.real(2, 4), np.array([0, 2])),
    case(d.real(3, 4), d.real(), None, np.array([1, 3])),
    case(d.real(3, 4), d.real(1, 1, 4), np.array([0, 1])),
    case(d.real(3, 4), d.real(4), np.array([0, 0, 1]), accumulate=True),
    case(d.real(3), d.real(0), d.index(3, 0))])
record("index_select", lambda x, index, dim: np.take(x, index, dim), lambda d: [
    case(d.real(3, 4), d.index(3, 5), dim=0), case(d.real(3, 4), d.index(4, 3), dim=1),
    case(d.real(3), d.index(3, 0), dim=0)])
record("gather", gather, lambda d: [
    case(d.real(3, 4), d.index(3, 2, 4), dim=0), case(d.real(3, 4), d.index(4, 3, 2), dim=1),
    case(d.real(3, 4), d.index(3, 5, 2), dim=0), case(d.real(3), d.index(3, 0), dim=0)])
record("scatter", lambda g, index, shape, dim: add_along(np.zeros(shape), index, g, dim),
       lambda d: [
    case(d.real(1, 4), d.index(3, 1, 4), shape=(3, 4), dim=0),
    case(d.real(2, 2), np.array([[0, 2], [3, 1]]), shape=(2, 4), dim=1)])
record("scatter_add", add_along, lambda d: [
    case(d.real(3, 4), d.index(3, 2, 4), d.real(2, 4), dim=0),
    case(d.real(3, 4), d.index(4, 2, 5), d.real(3, 5), dim=1)])


record("index_add", lambda x, index, src, dim: put(x, src, *[None] * dim, index, accumulate=True),
       lambda d: [
    case(d.real(3, 4), d.index(3, 5), d.real(5, 4), dim=0),
    case(d.real(2, 3, 2), d.index(3, 40), d.real(2, 40, 2), dim=1),
    case(d.real(3), d.index(3, 0), d.real(0), dim=0)])


def embedding_backward(g: Array, at: Array, num_weights: int, padding_idx: int = -1,
                       scale_grad_by_freq: bool = False) -> Array:
    out, rows = np.zeros((num_weights, g.shape[-1])), g.reshape(-1, g.shape[-1])
    for i, row in zip(at.reshape(-1), rows):
        if i != padding_idx:
            out[i] += row / ((at == i).sum() if scale_grad_by_freq else 1)
    return out


record("embedding", lambda weight, at, **_: weight[at], lambda d: [
    case(d.real(5, 3), d.index(5, 2, 4)), case(d.real(5, 3), d.index(3, 9), padding_idx=3),
    case(d.real(3, 2), d.index(3)), case(d.real(3, 2), d.index(3, 0, 2))])
record("embedding_dense_backward", embedding_backward, lambda d: [
    case(d.real(2, 4, 3), d.index(5, 2, 4), num_weights=5),
    case(d.real(70, 3), d.index(3, 70), num_weights=4, padding_idx=1),
    case(d.real(9, 3), d.index(4, 9), num_weights=4, padding_idx=0, scale_grad_by_freq=True),
    case(d.real(3), d.index(4), num_weights=4), case(d.real(0, 3), d.index(4, 0), num_weights=4)],
    tolerance=1e-2)
record("frequency", lambda at: (at.reshape(-1, 1) == at.reshape(1, -1)).sum(1).reshape(at.shape),
       lambda d: [case(d.index(4, 3, 5)), case(d.index(4)), case(d.index(4, 0))])


def view_chain() -> Any:
    from gpugrad.autograd.op import SPECS
    whole = (None, SPECS["slice_"], {"dim": 0, "start": 1, "stop": 3, "step": 1}, (3, 4))
    return (whole, SPECS["select"], {"dim": 1, "index": 2}, (2, 4))


def written(base: Array, src: Array, chain: Any) -> Array:
    out = base.copy()
    out[1:3, 2] = src
    return out


record("view_scatter", written, lambda d: [case(d.real(3, 4), d.real(2), chain=view_chain())])
