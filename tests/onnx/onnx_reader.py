"""Reads ONNX files from the description of protobuf's wire format, and runs their graphs in NumPy.

Written apart from the exporter, after ONNX's description of each operator.
"""
from __future__ import annotations

import itertools
import math
import struct
from types import SimpleNamespace

import numpy as np

NUMPY = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
         9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64"}


def fields(data):
    """{number: [values]}: integers, 4 bytes of a float, or bytes."""
    found, at = {}, 0

    def varint():
        nonlocal at
        n = shift = 0
        while True:
            byte = data[at]
            at += 1
            n |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return n
    while at < len(data):
        tag = varint()
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value = varint()
            value -= (value >> 63) << 64
        elif wire == 5:
            value, at = struct.unpack_from("<f", data, at)[0], at + 4
        else:
            assert wire == 2, wire
            n = varint()
            value, at = data[at:at + n], at + n
            assert len(value) == n
        found.setdefault(number, []).append(value)
    return found


def text(f, number):
    return [v.decode() for v in f.get(number, [])]


def tensor(data):
    f = fields(data)
    dtype = np.dtype(NUMPY[f[2][0]])
    return np.frombuffer(f[9][0], dtype.newbyteorder("<")).reshape(f.get(1, [])).astype(dtype)


def attribute(data):
    f = fields(data)
    kind = f[20][0]
    value = {1: lambda: f[2][0], 2: lambda: f[3][0], 3: lambda: f[4][0].decode(),
             4: lambda: tensor(f[5][0]), 6: lambda: f.get(7, []), 7: lambda: f.get(8, []),
             8: lambda: text(f, 9)}[kind]()
    return f[1][0].decode(), value


def value_info(data):
    f = fields(data)
    kind = fields(fields(f[2][0])[1][0])
    dims = [fields(d) for d in fields(kind[2][0]).get(1, [])] if 2 in kind else []
    return SimpleNamespace(name=f[1][0].decode(), dtype=NUMPY[kind[1][0]],
                           shape=[d[1][0] if 1 in d else d[2][0].decode() for d in dims])


class Model:
    def __init__(self, data):
        top = fields(data)
        self.ir, self.producer = top[1][0], top[2][0].decode()
        self.opset = fields(top[8][0])[2][0]
        graph = fields(top[7][0])
        self.inputs = [value_info(v) for v in graph.get(11, [])]
        self.outputs = [value_info(v) for v in graph.get(12, [])]
        self.constants = {fields(t)[8][0].decode(): tensor(t) for t in graph.get(5, [])}
        self.nodes = []
        defined = {*self.constants, *[v.name for v in self.inputs], ""}
        for data in graph.get(1, []):
            f = fields(data)
            node = SimpleNamespace(ins=text(f, 1), outs=text(f, 2), op=f[4][0].decode(),
                                   how=dict(attribute(a) for a in f.get(5, [])))
            assert set(node.ins) <= defined, node        # in order, and no name twice
            assert not set(node.outs) & defined, node
            defined |= set(node.outs)
            self.nodes.append(node)
        assert {v.name for v in self.outputs} <= defined

    def kinds(self):
        return {n.op for n in self.nodes}

    def __call__(self, *arrays):
        values = {**self.constants, "": None}
        for info, a in zip(self.inputs, arrays, strict=True):
            assert a.dtype == info.dtype and len(a.shape) == len(info.shape), info
            assert all(isinstance(m, str) or n == m for n, m in zip(a.shape, info.shape)), info
            values[info.name] = a
        for node in self.nodes:
            with np.errstate(all="ignore"):
                out = OPS[node.op](self, *[values[n] for n in node.ins], **node.how)
            out = out if isinstance(out, tuple) else (out,)
            values.update(zip(node.outs, map(np.asarray, out)))
        results = []
        for info in self.outputs:
            a = values[info.name]
            assert a.dtype == info.dtype, (info, a.dtype)
            assert len(a.shape) == len(info.shape), (info, a.shape)
            assert all(isinstance(m, str) or n == m for n, m in zip(a.shape, info.shape)), info
            results.append(a)
        return results


# Operators ----------------------------------------------------------------------------------------

OPS = {}


def op(fn):
    OPS[fn.__name__] = fn
    return fn


def keep(f):
    """A function of arrays, all of one dtype, as an operator."""
    def run(m, *xs):
        assert len({x.dtype for x in xs}) == 1, [x.dtype for x in xs]
        return f(*xs)
    return run


def typed(f):
    return keep(lambda *xs: np.asarray(f(*xs), xs[0].dtype))


erf = np.vectorize(math.erf, otypes=[float])
for name, f in {
        "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Pow": np.power, "Neg": np.negative,
        "Abs": np.abs, "Sign": np.sign, "Floor": np.floor, "Ceil": np.ceil, "Round": np.rint,
        "Exp": np.exp, "Log": np.log, "Sqrt": np.sqrt, "Sin": np.sin, "Cos": np.cos, "Tan": np.tan,
        "Asin": np.arcsin, "Acos": np.arccos, "Atan": np.arctan, "Sinh": np.sinh, "Cosh": np.cosh,
        "Asinh": np.arcsinh, "Acosh": np.arccosh, "Atanh": np.arctanh, "Tanh": np.tanh,
        "Erf": lambda x: erf(x) if x.size else x, "Reciprocal": lambda x: 1 / x,
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)), "Relu": lambda x: np.maximum(x, 0),
        "Softplus": lambda x: np.logaddexp(x, 0), "Max": np.maximum, "Min": np.minimum,
        "PRelu": lambda x, w: np.where(x < 0, x * w, x), "MatMul": np.matmul,
        "Div": lambda x, y: x / y if x.dtype.kind == "f" else np.trunc(x / y)}.items():
    OPS[name] = typed(f)
for name, f in {"Equal": np.equal, "Less": np.less, "LessOrEqual": np.less_equal,
                "Greater": np.greater, "GreaterOrEqual": np.greater_equal, "And": np.logical_and,
                "Or": np.logical_or, "Xor": np.logical_xor, "Not": np.logical_not,
                "IsNaN": np.isnan, "IsInf": np.isinf, "BitwiseAnd": np.bitwise_and,
                "BitwiseOr": np.bitwise_or, "BitwiseXor": np.bitwise_xor,
                "BitwiseNot": np.invert}.items():
    OPS[name] = keep(f)
del name, f


@op
def Identity(m, x):
    return x


@op
def Cast(m, x, to):
    return x.astype(NUMPY[to])


@op
def Mod(m, x, y, fmod=0):
    return np.fmod(x, y) if fmod else np.mod(x, y)


@op
def Where(m, c, x, y):
    assert c.dtype == bool and x.dtype == y.dtype
    return np.where(c, x, y)


@op
def Clip(m, x, low=None, high=None):
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


@op
def LeakyRelu(m, x, alpha=0.01):
    return np.where(x < 0, x * np.float32(alpha), x).astype(x.dtype)


@op
def Elu(m, x, alpha=1.0):
    return np.where(x < 0, alpha * np.expm1(x), x).astype(x.dtype)


@op
def Celu(m, x, alpha=1.0):
    return (np.maximum(0, x) + np.minimum(0, alpha * np.expm1(x / alpha))).astype(x.dtype)


@op
def HardSigmoid(m, x, alpha=0.2, beta=0.5):
    return np.clip(x * alpha + beta, 0, 1).astype(x.dtype)


@op
def Shrink(m, x, lambd=0.5, bias=0.0):
    return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)).astype(x.dtype)


@op
def Softmax(m, x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@op
def LogSoftmax(m, x, axis=-1):
    return np.log(Softmax(m, x, axis))


@op
def Shape(m, x):
    return np.array(x.shape, np.int64)


@op
def Reshape(m, x, shape):
    return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape)])


@op
def Expand(m, x, shape):
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape)))


@op
def Transpose(m, x, perm):
    return x.transpose(perm)


@op
def Unsqueeze(m, x, axes):
    return np.expand_dims(x, tuple(axes))


@op
def Squeeze(m, x, axes):
    return x.squeeze(tuple(axes))


@op
def Concat(m, *xs, axis):
    assert len({x.dtype for x in xs}) == 1
    return np.concatenate(xs, axis)


@op
def Split(m, x, split, axis=0):
    assert split.sum() == x.shape[axis]
    return tuple(np.split(x, np.cumsum(split)[:-1], axis))


@op
def Slice(m, x, starts, ends, axes, steps):
    at = [slice(None)] * x.ndim
    for a, b, axis, step in zip(*[v.tolist() for v in (starts, ends, axes, steps)]):
        at[axis] = slice(a, None if b < -x.shape[axis] else b, step)
    return x[tuple(at)]


@op
def Gather(m, x, index, axis=0):
    return np.take(x, index, axis)


@op
def GatherElements(m, x, index, axis=0):
    return np.take_along_axis(x, index, axis)


@op
def GatherND(m, x, index):
    return x[tuple(np.moveaxis(index, -1, 0))]


@op
def ScatterElements(m, x, index, src, axis=0, reduction="none"):
    out = x.copy()
    for at in np.ndindex(index.shape):
        to = (*at[:axis], index[at], *at[axis + 1:])
        out[to] = src[at] if reduction == "none" else out[to] + src[at]
    return out


@op
def Tile(m, x, times):
    assert len(times) == x.ndim
    return np.tile(x, times)


@op
def Trilu(m, x, k=0, upper=1):
    return (np.triu if upper else np.tril)(x, int(k))


@op
def Pad(m, x, pads, value):
    n = x.ndim
    for i, (b, a) in enumerate(zip(pads[:n], pads[n:])):
        x = x[(slice(None),) * i + (slice(max(0, -b), x.shape[i] - max(0, -a)),)]
        sides = [(0, 0)] * n
        sides[i] = max(0, b), max(0, a)
        x = np.pad(x, sides, constant_values=value)
    return x


@op
def DepthToSpace(m, x, blocksize, mode):
    assert mode == "CRD"
    n, c, h, w = x.shape
    b = blocksize
    return x.reshape(n, c // b ** 2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(
        n, c // b ** 2, h * b, w * b)


@op
def ConstantOfShape(m, shape, value):
    return np.full(shape, value[0], value.dtype)


@op
def Range(m, start, stop, step):
    assert start.ndim == stop.ndim == 0
    return np.arange(start, stop, step, start.dtype)


@op
def CumSum(m, x, axis, reverse=0):
    x = np.flip(x, int(axis)) if reverse else x
    out = np.cumsum(x, int(axis), dtype=x.dtype)
    return np.flip(out, int(axis)) if reverse else out


@op
def TopK(m, x, k, axis=-1, largest=1, sorted=1):
    order = np.argsort(-x if largest else x, axis, kind="stable")
    at = np.take(order, range(int(k[0])), axis)
    return np.take_along_axis(x, at, axis), at.astype(np.int64)


def reducing(f):
    def run(m, x, axes_input=None, axes=None, keepdims=1):
        assert (axes is None) or m.opset < 18
        axes = axes if axes_input is None else axes_input.tolist()
        return np.asarray(f(x, None if axes is None else tuple(axes), bool(keepdims)), x.dtype)
    return run


for name, f in {
        "Sum": lambda x, a, k: x.sum(a, keepdims=k), "Mean": lambda x, a, k: x.mean(a, keepdims=k),
        "Prod": lambda x, a, k: x.prod(a, keepdims=k), "Max": lambda x, a, k: x.max(a, keepdims=k),
        "Min": lambda x, a, k: x.min(a, keepdims=k),
        "LogSumExp": lambda x, a, k: np.log(np.exp(x).sum(a, keepdims=k)),
        "L1": lambda x, a, k: np.abs(x).sum(a, keepdims=k),
        "L2": lambda x, a, k: np.sqrt((x * x).sum(a, keepdims=k))}.items():
    OPS["Reduce" + name] = reducing(f)


@op
def ArgMax(m, x, axis=0, keepdims=1):
    return np.argmax(x, axis, keepdims=bool(keepdims))


@op
def ArgMin(m, x, axis=0, keepdims=1):
    return np.argmin(x, axis, keepdims=bool(keepdims))


@op
def Gemm(m, a, b, c, alpha=1.0, beta=1.0, transB=0):
    return (alpha * (a @ (b.T if transB else b)) + beta * c).astype(a.dtype)


def channels(v, x):
    return v.reshape(-1, *[1] * (x.ndim - 2))


@op
def BatchNormalization(m, x, scale, bias, mean, var, epsilon=1e-5):
    mean, var, scale, bias = (channels(v, x) for v in (mean, var, scale, bias))
    return ((x - mean) / np.sqrt(var + epsilon) * scale + bias).astype(x.dtype)


@op
def LayerNormalization(m, x, scale, bias=None, axis=-1, epsilon=1e-5):
    axes = tuple(range(axis % x.ndim, x.ndim))
    d = x - x.mean(axes, keepdims=True)
    y = d / np.sqrt((d * d).mean(axes, keepdims=True) + epsilon) * scale
    return (y if bias is None else y + bias).astype(x.dtype)


def windows(x, kernel, strides, pads, dilations, fill, out):
    """(n, c, *out, *kernel) of a padded image; what lies beyond the padding is ``fill``, too."""
    n = len(kernel)
    reach = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(out, strides, dilations, kernel)]
    sides = [(b, max(a, r - size - b)) for b, a, r, size in zip(pads[:n], pads[n:], reach,
                                                                x.shape[2:])]
    x = np.pad(x, [(0, 0), (0, 0), *sides], constant_values=fill)
    y = np.empty((*x.shape[:2], *out, *kernel), x.dtype)
    for at in itertools.product(*map(range, kernel)):
        part = x[(..., *[slice(i * d, i * d + (o - 1) * s + 1, s) for i, d, o, s in zip(
            at, dilations, out, strides)])]
        y[(..., *at)] = part
    return y


def lengths(x, kernel, strides, pads, dilations, ceil_mode=0):
    n = len(kernel)
    free = [size + b + a - d * (k - 1) - 1 for size, b, a, d, k in zip(
        x.shape[2:], pads[:n], pads[n:], dilations, kernel)]
    return [(-(-f // s) if ceil_mode else f // s) + 1 for f, s in zip(free, strides)]


@op
def Conv(m, x, w, bias=None, *, strides, pads, dilations, group, kernel_shape):
    assert list(w.shape[2:]) == kernel_shape
    out = lengths(x, kernel_shape, strides, pads, dilations)
    cols = windows(x, kernel_shape, strides, pads, dilations, 0, out)
    n = len(out)
    ys = [np.tensordot(c, k, ([1, *range(2 + n, 2 + 2 * n)], list(range(1, 2 + n))))
          for c, k in zip(np.split(cols, group, 1), np.split(w, group, 0))]
    y = np.moveaxis(np.concatenate(ys, -1), -1, 1)
    return y if bias is None else y + channels(bias, y)


@op
def ConvTranspose(m, x, w, bias=None, *, strides, pads, dilations, group, kernel_shape,
                  output_padding):
    n = len(kernel_shape)
    full = [(size - 1) * s + d * (k - 1) + 1 + o for size, s, d, k, o in zip(
        x.shape[2:], strides, dilations, kernel_shape, output_padding)]
    y = np.zeros((len(x), w.shape[1] * group, *full), x.dtype)
    for g, (xs, ws) in enumerate(zip(np.split(x, group, 1), np.split(w, group, 0))):
        c = slice(g * w.shape[1], (g + 1) * w.shape[1])
        for at in itertools.product(*map(range, kernel_shape)):
            part = np.moveaxis(np.tensordot(xs, ws[(..., *at)], (1, 0)), -1, 1)
            y[(slice(None), c, *[slice(i * d, i * d + (size - 1) * s + 1, s) for i, d, size, s in
                                 zip(at, dilations, x.shape[2:], strides)])] += part
    y = y[(..., *[slice(b, size - a) for b, a, size in zip(pads[:n], pads[n:], full)])]
    return y if bias is None else y + channels(bias, y)


@op
def MaxPool(m, x, *, kernel_shape, strides, pads=None, dilations=None, ceil_mode=0):
    n = len(kernel_shape)
    pads, dilations = pads or [0] * 2 * n, dilations or [1] * n
    out = lengths(x, kernel_shape, strides, pads, dilations, ceil_mode)
    return windows(x, kernel_shape, strides, pads, dilations, -np.inf, out).max(
        tuple(range(2 + n, 2 + 2 * n)))


@op
def AveragePool(m, x, *, kernel_shape, strides, pads=None, ceil_mode=0, count_include_pad=0):
    n = len(kernel_shape)
    pads, ones = pads or [0] * 2 * n, [1] * n
    out, axes = lengths(x, kernel_shape, strides, pads, ones, ceil_mode), tuple(
        range(2 + n, 2 + 2 * n))
    total = windows(x, kernel_shape, strides, pads, ones, 0, out).sum(axes)
    if count_include_pad:
        return total / math.prod(kernel_shape)
    return total / windows(np.ones_like(x), kernel_shape, strides, pads, ones, 0, out).sum(axes)


@op
def GlobalAveragePool(m, x):
    return x.mean(tuple(range(2, x.ndim)), keepdims=True)


@op
def GlobalMaxPool(m, x):
    return x.max(tuple(range(2, x.ndim)), keepdims=True)


@op
def Resize(m, x, roi=None, scales=None, sizes=None, *, mode, coordinate_transformation_mode,
           nearest_mode="round_prefer_floor", cubic_coeff_a=-0.75):
    if sizes is None:
        outs = [math.floor(n * s) for n, s in zip(x.shape, scales)]
    else:
        outs, scales = sizes.tolist(), [o / n for o, n in zip(sizes, x.shape)]
    for dim, (size, out, scale) in enumerate(zip(x.shape, outs, scales)):
        if size == out and scale == 1:
            continue
        i = np.arange(out)
        at = {"asymmetric": i / scale, "half_pixel": (i + 0.5) / scale - 0.5,
              "align_corners": i * ((size - 1) / max(1, out - 1)) * (out > 1)}[
                  coordinate_transformation_mode]
        if mode == "nearest":
            near = np.floor(at) if nearest_mode == "floor" else np.floor(at + 0.5)
            x = np.take(x, np.clip(near, 0, size - 1).astype(int), dim)
            continue
        low, a, y = np.floor(at).astype(int), cubic_coeff_a, 0
        t = at - low
        for k in ((0, 1) if mode == "linear" else (-1, 0, 1, 2)):
            d = np.abs(t - k)
            w = 1 - d if mode == "linear" else np.where(
                d <= 1, (a + 2) * d ** 3 - (a + 3) * d ** 2 + 1,
                a * d ** 3 - 5 * a * d ** 2 + 8 * a * d - 4 * a)
            part = np.take(x, np.clip(low + k, 0, size - 1), dim)
            y = y + part * w.reshape(-1, *[1] * (x.ndim - dim - 1))
        x = y.astype(x.dtype)
    return x


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def recurrent(step, x, w, r, bias, states, direction, hidden_size):
    """One direction of ONNX's recurrent operators: (steps, 1, batch, hidden) and last states."""
    x = x[::-1] if direction == "reverse" else x
    n = len(w[0])
    wb, rb = (np.zeros(n), np.zeros(n)) if bias is None else np.split(bias[0], 2)
    states = [np.zeros((x.shape[1], hidden_size)) if s is None else s[0] for s in states]
    out = []
    for one in x:
        states = step(one @ w[0].T + wb, states, r[0], rb)
        out.append(states[0])
    y = np.stack(out)[:, None]
    y = y[::-1] if direction == "reverse" else y
    return tuple(v.astype(x.dtype) for v in (y, *[s[None] for s in states]))


@op
def LSTM(m, x, w, r, b=None, lens=None, h=None, c=None, *, hidden_size, direction):
    def step(z, states, r, rb):
        h, c = states
        i, o, f, g = np.split(z + h @ r.T + rb, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return [sigmoid(o) * np.tanh(c), c]
    return recurrent(step, x, w, r, b, [h, c], direction, hidden_size)


@op
def GRU(m, x, w, r, b=None, lens=None, h=None, *, hidden_size, direction, linear_before_reset):
    assert linear_before_reset == 1

    def step(a, states, r, rb):
        h, = states
        az, ar, an = np.split(a, 3, -1)
        hz, hr, hn = np.split(h @ r.T + rb, 3, -1)
        z, n = sigmoid(az + hz), np.tanh(an + sigmoid(ar + hr) * hn)
        return [(1 - z) * n + z * h]
    return recurrent(step, x, w, r, b, [h], direction, hidden_size)


@op
def RNN(m, x, w, r, b=None, lens=None, h=None, *, hidden_size, direction, activations):
    f = {"Tanh": np.tanh, "Relu": lambda v: np.maximum(v, 0)}[activations[0]]

    def step(a, states, r, rb):
        return [f(a + states[0] @ r.T + rb)]
    return recurrent(step, x, w, r, b, [h], direction, hidden_size)
