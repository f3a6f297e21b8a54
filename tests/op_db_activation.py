"""The records of later activations, backward ops, dropout and biases. See op_db.py."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad import backend
from gpugrad.backend.random import PhiloxGenerator
from op_db import Array, Case, Draw, case, erf, record, sigmoid

ROOT, CUBIC = math.sqrt(2 / math.pi), 0.044715


def alone(**kw: Any) -> Callable[[Draw], list[Case]]:
    """Samples of an activation. More elements than a thread of a kernel takes at a time."""
    return lambda d: [case(2 * d.real(*shape), **kw) for shape in ((3, 7), (), (0, 3))]


def pair(**kw: Any) -> Callable[[Draw], list[Case]]:
    """Samples of a backward op: the gradient, and where it is taken."""
    return lambda d: [case(d.real(*shape), 2 * d.real(*shape), **kw)
                      for shape in ((3, 7), (), (0, 3))]


def normal(x: Array) -> Array:
    return (1 + erf(x / math.sqrt(2))) / 2


def nearly_normal(x: Array) -> Array:
    return (1 + np.tanh(ROOT * (x + CUBIC * x ** 3))) / 2


def gelu_slope(x: Array, approximate: str) -> Array:
    if approximate == "none":
        return normal(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    c = nearly_normal(x)
    return c + x * 2 * c * (1 - c) * ROOT * (1 + 3 * CUBIC * x * x)


def mish_slope(x: Array) -> Array:
    t = np.tanh(np.log1p(np.exp(x)))
    return t + x * (1 - t * t) * sigmoid(x)


def glu(x: Array, dim: int) -> Array:
    a, b = np.split(x, 2, dim)
    return a * sigmoid(b)


def glu_backward(g: Array, x: Array, dim: int) -> Array:
    a, b = np.split(x, 2, dim)
    s = sigmoid(b)
    return np.concatenate([g * s, g * a * s * (1 - s)], dim)


record("silu_backward", lambda g, x: g * sigmoid(x) * (1 + x * (1 - sigmoid(x))), pair())
record("celu", lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(x / alpha)),
       lambda d: [case(d.real(3, 7)), case(d.real(5), alpha=1.5), case(d.real()),
                  case(d.real(0, 2))])
record("elu_backward", lambda g, x, scale, low, input_scale:
       np.where(x > 0, g * scale, g * low * np.exp(x * input_scale)),
       pair(scale=1.2, low=0.8, input_scale=0.7))
record("softplus_backward", lambda g, x, beta, threshold:
       np.where(x * beta > threshold, g, g * sigmoid(x * beta)), pair(beta=2.0, threshold=0.5))
record("log_sigmoid_backward", lambda g, x: g * sigmoid(-x), pair())
record("mish", lambda x: x * np.tanh(np.log1p(np.exp(x))), alone())
record("mish_backward", lambda g, x: g * mish_slope(x), pair())
record("gelu_backward", lambda g, x, approximate: g * gelu_slope(x, approximate),
       lambda d: [*pair(approximate="none")(d), *pair(approximate="tanh")(d)])
record("glu", glu, lambda d: [case(d.real(3, 4), dim=1), case(d.real(4, 3), dim=0),
                              case(d.real(2, 6, 3), dim=1), case(d.real(0, 4), dim=1),
                              case(d.real(3, 0), dim=1)])
record("glu_backward", glu_backward, lambda d: [
    case(d.real(3, 2), d.real(3, 4), dim=1), case(d.real(2, 3), d.real(4, 3), dim=0),
    case(d.real(2, 3, 3), d.real(2, 6, 3), dim=1), case(d.real(0, 2), d.real(0, 4), dim=1)])

record("leaky_relu_backward", lambda g, x, slope: np.where(x > 0, g, slope * g), pair(slope=0.1))
record("prelu_kernel", lambda x, weight: np.where(x > 0, x, weight * x), lambda d: [
    case(d.real(3, 4), d.real(3, 4)), case(d.real(2, 3, 2), d.real(3, 1)),
    case(d.real(3, 4), d.real(1)), case(d.real(), d.real()), case(d.real(0, 2), d.real(2))])
record("hardtanh_backward", lambda g, x, min_val, max_val:
       np.where((x <= min_val) | (x >= max_val), 0, g), pair(min_val=-0.7, max_val=1.3))
record("hardsigmoid", lambda x: np.clip(x + 3, 0, 6) / 6, alone())
record("hardsigmoid_backward", lambda g, x: np.where(np.abs(x) < 3, g / 6, 0), pair())
record("hardswish", lambda x: x * np.clip(x + 3, 0, 6) / 6, alone())
record("hardswish_backward", lambda g, x: g * np.select([x <= -3, x < 3], [0, x / 3 + 0.5], 1),
       pair())
record("hardshrink", lambda x, bound: np.where(np.abs(x) <= bound, 0, x), alone(bound=0.6))
record("softshrink", lambda x, bound: np.sign(x) * np.maximum(np.abs(x) - bound, 0),
       alone(bound=0.6))
record("shrink_backward", lambda g, x, bound: np.where(np.abs(x) <= bound, 0, g), pair(bound=0.6))


def drawn(x: Array, state: Array, *, offset: int, keep: float, scale: float) -> Any:
    generator = PhiloxGenerator(backend.get("cpu"), int(state[0]))
    generator.offset = int(state[1]) + offset
    mask = generator.bernoulli(keep, x.shape)
    return x * mask * scale, mask


STATE = np.array([0x123456789ABCDEF, 1 << 33], np.uint64)
record("fused_dropout", drawn, lambda d: [
    case(d.real(*shape), STATE, offset=7, keep=keep, scale=1.25)
    for shape in ((5, 7), (), (0, 3), (4,)) for keep in (0.5, 0.8)])


def bias_act(x: Array, bias: Array, dim: int = 1, activation: str = "none") -> Array:
    y = x + bias.reshape(-1, *[1] * (x.ndim - 1 - dim))
    return np.maximum(y, 0) if activation == "relu" else y


record("bias_act", bias_act, lambda d: [
    *[case(d.real(5, 3, 7), d.real(3), activation=a) for a in ("none", "relu")],
    case(d.real(4, 9), d.real(9)), case(d.real(3, 2, 5), d.real(5), dim=2, activation="relu"),
    case(d.real(0, 4), d.real(4)), case(d.real(2, 3, 4, 1), d.real(3), activation="relu")])


# Linear layers with their activation --------------------------------------------------------------

def linear_gelu(x: Array, w: Array, bias: Array, approximate: str = "none") -> Any:
    v = x @ w.T + bias
    return v * (nearly_normal if approximate == "tanh" else normal)(v), v


def act_bias_backward(g: Array, v: Array, activation: str) -> Any:
    gv = np.where(v > 0, g, 0) if activation == "relu" else \
        g * gelu_slope(v, "none" if activation == "gelu" else "tanh")
    return gv, gv.sum(0)


def layers(d: Draw, **kw: Any) -> list[Case]:
    return [case(d.real(n, k), d.real(m, k), d.real(m), **kw)
            for n, k, m in ((5, 3, 8), (1, 2, 3), (4, 1, 2), (0, 3, 2))]


record("linear_relu", lambda x, w, bias: np.maximum(x @ w.T + bias, 0), layers)
record("linear_gelu", linear_gelu,
       lambda d: [*layers(d), *layers(d, approximate="tanh")], tolerance=1e-2)
record("act_layer_backward", lambda g, v, x, activation: (
    (gv := act_bias_backward(g, v, activation))[0], gv[0].T @ x, gv[1]), lambda d: [
    case(d.real(n, m), d.real(n, m), d.real(n, k), activation=a)
    for n, m, k in ((5, 3, 2), (4, 8, 8), (0, 3, 2)) for a in ("relu", "gelu", "gelu_tanh")],
    tolerance=1e-2)
record("act_bias_backward", act_bias_backward, lambda d: [
    case(d.real(*shape), d.real(*shape), activation=a)
    for shape in ((5, 3), (1, 4), (0, 3)) for a in ("relu", "gelu", "gelu_tanh")], tolerance=1e-2)
