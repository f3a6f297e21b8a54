"""ONNX's operators for the ops of layers: activations, norms, convolutions, pooling, recurrence."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad.onnx.graph import Graph, Site, fixed
from gpugrad.onnx.ops import TABLE as TABLE
from gpugrad.onnx.ops import like, reduce, to
from gpugrad.onnx.trace import Refused

# Activations --------------------------------------------------------------------------------------


@to("softmax", "log_softmax")
def _softmax(g: Graph, s: Site) -> str:
    return g.op("Softmax" if s.name == "softmax" else "LogSoftmax", s.x(), axis=s["dim"])


@to("silu", "mish", "log_sigmoid", "softplus")
def _smooth(g: Graph, s: Site) -> str:
    x = s.x()
    if s.name == "silu":
        return g.op("Mul", x, g.op("Sigmoid", x))
    if s.name == "mish":
        return g.op("Mul", x, g.op("Tanh", g.op("Softplus", x)))
    if s.name == "log_sigmoid":
        return g.op("Neg", g.op("Softplus", g.op("Neg", x)))
    beta, z = s["beta"], x
    if beta != 1:
        z = g.op("Mul", x, like(g, s, beta))
    y = g.op("Softplus", z)
    if beta != 1:
        y = g.op("Div", y, like(g, s, beta))
    if s["threshold"] >= 20:                     # above it the two agree
        return y
    return g.op("Where", g.op("Greater", z, like(g, s, s["threshold"])), x, y)


@to("gelu")
def _gelu(g: Graph, s: Site) -> str:
    x = s.x()
    if s["approximate"] == "none":
        inner = g.op("Erf", g.op("Mul", x, like(g, s, math.sqrt(0.5))))
    else:
        cube = g.op("Mul", g.op("Mul", x, g.op("Mul", x, x)), like(g, s, 0.044715))
        inner = g.op("Tanh", g.op("Mul", g.op("Add", x, cube), like(g, s, math.sqrt(2 / math.pi))))
    half = g.op("Mul", x, like(g, s, 0.5))
    return g.op("Mul", half, g.op("Add", inner, like(g, s, 1)))


@to("glu")
def _glu(g: Graph, s: Site) -> str:
    dim, x = s["dim"], s.x()
    n = s.dims()[dim]
    if not fixed(n):
        raise Refused("glu() of a dynamic axis")
    a, b = g.many("Split", [x, g.ints(n[0] // 2, n[0] // 2)], 2, axis=dim)
    return g.op("Mul", a, g.op("Sigmoid", b))


@to("elu", "celu")
def _elu(g: Graph, s: Site) -> str:
    x = s.x()
    slope = s["alpha"]
    scale, rate = (1, 1 / slope) if s.name == "celu" else (s["scale"], s["input_scale"])
    if scale > 0 and rate == 1:
        y = g.op("Elu", x, alpha=float(slope))
        return y if scale == 1 else g.op("Mul", y, like(g, s, scale))
    low = g.op("Sub", g.op("Exp", g.op("Mul", x, like(g, s, rate))), like(g, s, 1))
    return g.op("Where", g.op("Greater", x, like(g, s, 0)), g.op("Mul", x, like(g, s, scale)),
                g.op("Mul", low, like(g, s, slope * scale)))


@to("leaky_relu", "hardtanh", "hardsigmoid", "hardswish", "hardshrink", "softshrink", "threshold",
    "prelu_kernel")
def _pieces(g: Graph, s: Site) -> str:
    x, name = s.x(), s.name
    if name == "leaky_relu":
        return g.op("LeakyRelu", x, alpha=float(s["slope"]))
    if name == "prelu_kernel":
        return g.op("PRelu", x, s.x(1))
    if name == "hardtanh":
        return g.op("Clip", x, like(g, s, s["min_val"]), like(g, s, s["max_val"]))
    if name in ("hardsigmoid", "hardswish"):
        y = g.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)
        return y if name == "hardsigmoid" else g.op("Mul", x, y)
    if name == "threshold":
        return g.op("Where", g.op("Greater", x, like(g, s, s["threshold"])), x,
                    like(g, s, s["value"]))
    bound = float(s["bound"])
    return g.op("Shrink", x, lambd=bound, bias=bound if name == "softshrink" else 0.0)


# Norms --------------------------------------------------------------------------------------------

def column(g: Graph, s: Site, i: int, ndim: int) -> str:
    """Input i, one number for each channel, as it stands beside (n, c, ...)."""
    a = s.array(i)
    shape = (-1, *[1] * (ndim - 2))
    return g.op("Reshape", s.x(i), g.ints(*shape)) if a is None else g.const(a.reshape(shape))


def affine(g: Graph, s: Site, y: str, shaped: Any) -> str:
    """y times weight, plus bias; both may be absent. shaped(i): input i beside y."""
    for i, kind in ((1, "Mul"), (2, "Add")):
        if s.has(i):
            y = g.op(kind, y, shaped(i))
    return y


def standard(g: Graph, s: Site, x: str, dims: list[int], centre: bool = True) -> str:
    """(x - mean) / sqrt(variance + eps) over the dims; without ``centre`` a mean of 0."""
    d = g.op("Sub", x, reduce(g, "ReduceMean", x, dims, True)) if centre else x
    var = reduce(g, "ReduceMean", g.op("Mul", d, d), dims, True)
    return g.op("Div", d, g.op("Sqrt", g.op("Add", var, like(g, s, s["eps"]))))


@to("batch_norm")
def _batch_norm(g: Graph, s: Site) -> str:
    if s["training"]:
        y = standard(g, s, s.x(), [0, *range(2, s.ndim())])
        return affine(g, s, y, lambda i: column(g, s, i, s.ndim()))
    ones = [s.x(i) if s.has(i) else g.const(np.full(s.shape(3), number, s.dtype(3)))
            for i, number in ((1, 1), (2, 0))]
    return g.op("BatchNormalization", s.x(), *ones, s.x(3), s.x(4), epsilon=float(s["eps"]))


@to("layer_norm")
def _layer_norm(g: Graph, s: Site) -> str:
    n = s["ndim"]
    last = s.dims()[s.ndim() - n:]
    if s.dtype() == np.float64 or not all(map(fixed, last)):
        return affine(g, s, standard(g, s, s.x(), list(range(s.ndim() - n, s.ndim()))), s.x)
    weight = s.x(1) or g.const(np.ones([d[0] for d in last], s.dtype()))
    return g.op("LayerNormalization", s.x(), weight, s.x(2), axis=-n, epsilon=float(s["eps"]))


@to("rms_norm")
def _rms_norm(g: Graph, s: Site) -> str:
    dims = list(range(s.ndim() - s["ndim"], s.ndim()))
    return affine(g, s, standard(g, s, s.x(), dims, centre=False), s.x)


@to("group_norm")
def _group_norm(g: Graph, s: Site) -> str:
    x = s.x()
    rows = g.op("Reshape", x, g.ints(0, s["groups"], -1))
    y = g.op("Reshape", standard(g, s, rows, [2]), g.op("Shape", x))
    return affine(g, s, y, lambda i: column(g, s, i, s.ndim()))


@to("bias_act")
def _bias_act(g: Graph, s: Site) -> str:
    y = g.op("Add", s.x(), column(g, s, 1, s.ndim() - s["dim"] + 1))
    return g.op("Relu", y) if s["activation"] == "relu" else y


# Convolutions and pooling -------------------------------------------------------------------------

def window(s: Site) -> dict[str, Any]:
    padding = list(s["padding"])
    return {"strides": list(s["stride"]), "pads": padding * 2}


@to("convolution", "convolution_nd", "conv_transpose")
def _convolution(g: Graph, s: Site) -> str:
    kernel = list(s.shape(1)[2:])
    how = {**window(s), "dilations": list(s["dilation"]), "group": s["groups"],
           "kernel_shape": kernel}
    if s.name != "conv_transpose":
        return g.op("Conv", *s.xs(), **how)
    extra = [[out - ((n - 1) * st - 2 * p + d * (k - 1) + 1) for n, out, st, p, d, k in zip(
        c.ins[0].shape[2:], c.outs[0].shape[2:], s["stride"], s["padding"], s["dilation"], kernel)]
        for c in s.calls]
    if any(e != extra[0] for e in extra):
        raise Refused("conv_transpose() to a size that doesn't follow from its input's")
    return g.op("ConvTranspose", *s.xs(), output_padding=extra[0], **how)


def ceiling(s: Site, kernel: Any, dilation: Any) -> dict[str, Any]:
    """ceil_mode, where ONNX and PyTorch count the same windows."""
    if s["ceil_mode"]:
        for c in s.calls:
            sizes = zip(c.ins[0].shape[2:], c.outs[0].shape[2:], kernel, s["stride"], s["padding"],
                        dilation, strict=True)
            if any(-(-(n + 2 * p - d * (k - 1) - 1) // st) + 1 != out
                   for n, out, k, st, p, d in sizes):
                raise Refused("a pooling of ceil_mode=True whose last window begins in the padding")
    return {"ceil_mode": int(s["ceil_mode"]), "kernel_shape": list(kernel)}


@to("max_pool2d", "max_pool2d_with_indices", "max_pool3d_with_indices")
def _max_pool(g: Graph, s: Site) -> str:
    kernel, dilation = s["kernel"], s["dilation"]
    return maxima(g, s, **window(s), dilations=list(dilation), **ceiling(s, kernel, dilation))


def maxima(g: Graph, s: Site, **how: Any) -> Any:
    """MaxPool, and where the maxima are: ONNX counts through all images, PyTorch in each plane."""
    outs, plane = s.calls[0].outs, s.dims()[2:]
    if len(outs) == 1 or not g.wants(outs[1]):
        return [g.op("MaxPool", s.x(), **how)]
    if not all(map(fixed, plane)):
        raise Refused("the places of the maxima of a pooling of images of dynamic size")
    y, at = g.many("MaxPool", [s.x()], 2, **how)
    return [y, g.op("Mod", at, g.const(math.prod(n[0] for n in plane), np.int64))]


@to("avg_pool2d", "avg_pool3d")
def _avg_pool(g: Graph, s: Site) -> str:
    kernel, divisor = s["kernel"], s["divisor_override"]
    padded = divisor is not None or s["count_include_pad"]
    if s["ceil_mode"] and (padded or divisor is not None):
        for size, out, k, st, p in zip(s.dims()[2:], s.out_dims()[2:], kernel, s["stride"],
                                       s["padding"]):
            if any((o - 1) * st + k > n + 2 * p for n, o in zip(size, out)):
                raise Refused("avg_pool of ceil_mode=True whose last window lies partly outside: "
                              "use ceil_mode=False, or count_include_pad=False")
    y = g.op("AveragePool", s.x(), **window(s), **ceiling(s, kernel, [1] * len(kernel)),
             count_include_pad=int(padded))
    return y if divisor is None else g.op("Mul", y, like(g, s, math.prod(kernel) / divisor))


@to("adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive(g: Graph, s: Site) -> Any:
    mean = "avg" in s.name
    out = tuple(s["output_size"])
    if all(n == 1 for n in out) and (mean or not g.wants(s.calls[0].outs[1])):
        return g.op("GlobalAveragePool" if mean else "GlobalMaxPool", s.x())
    sizes = s.dims()[2:]
    if not all(fixed(n) and n[0] % o == 0 for n, o in zip(sizes, out, strict=True)):
        if mean and len(out) == 2 and all(map(fixed, sizes)):
            rows, columns = (shares(n[0], o, s.dtype()) for n, o in zip(sizes, out))
            return g.op("MatMul", g.op("MatMul", g.const(rows), s.x()), g.const(columns.T.copy()))
        raise Refused(f"{s.name} to {out}: the image's size must be fixed and a multiple of it")
    kernel = [n[0] // o for n, o in zip(sizes, out)]
    how = {"kernel_shape": kernel, "strides": kernel}
    return g.op("AveragePool", s.x(), **how) if mean else maxima(g, s, **how)


def shares(n: int, out: int, dtype: Any) -> Any:
    """(out, n): which share each of n numbers has in each mean of adaptive pooling."""
    a = np.zeros((out, n), dtype)
    for i in range(out):
        start, stop = i * n // out, -(-(i + 1) * n // out)
        a[i, start:stop] = 1 / (stop - start)
    return a


@to("im2col")
def _im2col(g: Graph, s: Site) -> str:
    """A convolution whose kernels take one pixel each."""
    c, k = s.dims()[1], math.prod(s["kernel"])
    if not fixed(c):
        raise Refused("unfold() of a dynamic number of channels")
    one = np.eye(k, dtype=s.dtype()).reshape(k, 1, *s["kernel"])
    y = g.op("Conv", s.x(), g.const(np.tile(one, (c[0], 1, 1, 1))), **window(s), group=c[0],
             dilations=list(s["dilation"]), kernel_shape=list(s["kernel"]))
    return g.op("Reshape", y, g.ints(0, c[0] * k, -1))


@to("col2im")
def _col2im(g: Graph, s: Site) -> str:
    if g.opset < 18:
        raise Refused("fold(): use opset_version=18")
    return g.op("Col2Im", s.x(), g.sizes(s.out_dims()[2:], s), g.ints(*s["kernel"]), **window(s),
                dilations=list(s["dilation"]))


@to("resample")
def _resample(g: Graph, s: Site) -> str:
    lines, x = s.each("lines"), s.x()
    first = lines[0][0]
    if any((n.mode, n.align_corners, n.antialias, n.transposed) !=
           (first.mode, first.align_corners, False, False) for line in lines for n in line):
        raise Refused("interpolate(antialias=True) has no counterpart in ONNX")
    modes: dict[str, dict[str, Any]] = {
        "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
                    "nearest_mode": "floor"},
        "nearest-exact": {"mode": "nearest", "coordinate_transformation_mode": "half_pixel",
                          "nearest_mode": "round_prefer_ceil"},
        "linear": {"mode": "linear"}, "cubic": {"mode": "cubic", "cubic_coeff_a": -0.75},
    }
    how = modes[first.mode]
    if first.mode in ("linear", "cubic"):
        how["coordinate_transformation_mode"] = "align_corners" if first.align_corners \
            else "half_pixel"
    before = s.ndim() - len(lines[0])
    if all(n.scale is not None for n in lines[0]) and not first.align_corners:
        scales = [1.0] * before + [1 / n.scale for n in lines[0]]
        if all(math.floor(size * k) == out for c in s.calls for size, out, k in zip(
                c.ins[0].shape, c.outs[0].shape, scales)):
            return g.op("Resize", x, "", g.const(scales, np.float32), **how)
    return g.op("Resize", x, "", "", g.sizes(s.out_dims(), s), **how)


# Attention ----------------------------------------------------------------------------------------

@to("attention")
def _attention(g: Graph, s: Site) -> str:
    if s.dims(0)[1] != s.dims(1)[1]:
        raise Refused("attention with fewer heads for keys than for queries: repeat them by "
                      "repeat_interleave")
    q, k, v = s.x(0), s.x(1), s.x(2)
    q = g.op("Mul", q, like(g, s, s["scale"]))
    scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2]))
    seen = s.x(3) if s.has(3) and s.dtype(3).kind == "b" else ""
    if s.has(3) and not seen:
        scores = g.op("Add", scores, s.x(3))
    if s["causal"]:
        rows, columns = s.dims(0)[2], s.dims(1)[2]
        if fixed(rows) and fixed(columns):
            later = g.const(np.tri(rows[0], columns[0], dtype=bool))
        else:
            zero, one = g.const(0, np.int64), g.const(1, np.int64)
            i, j = [g.op("Range", zero, g.op("Reshape", g.size(n, s), g.ints()), one)
                    for n in (rows, columns)]
            later = g.op("LessOrEqual", j, g.op("Unsqueeze", i, g.ints(1)))
        seen = g.op("And", seen, later) if seen else later
    if seen:
        scores = g.op("Where", seen, scores, like(g, s, -math.inf))
    p = g.op("Softmax", scores, axis=-1)
    if seen:                                     # a query that sees no key gives zeros
        p = g.op("Where", seen, p, like(g, s, 0))
    return g.op("MatMul", p, v)


# Recurrence ---------------------------------------------------------------------------------------

_ORDER = {"lstm_layer": (0, 3, 1, 2), "gru_layer": (1, 0, 2), "rnn_layer": (0,)}


@to("lstm_layer", "gru_layer", "rnn_layer")
def _recurrent(g: Graph, s: Site) -> list[str]:
    weights = [s.array(i) for i in (1, 2)]
    biases = [s.array(i) for i in (3, 4) if s.has(i)]
    if any(w is None for w in weights + biases):
        raise Refused(f"{s.name} with weights that are computed from the inputs")
    sizes = s.each("sizes")
    if any(len(set(n)) > 1 for n in sizes):
        raise Refused("packed sequences of different lengths: pad them")
    width, order = weights[1].shape[1], _ORDER[s.name]
    steps, batch = tuple([len(n) for n in sizes]), tuple([n[0] for n in sizes])

    def gates(a: Any) -> Any:
        parts = a.reshape(len(order), width, *a.shape[1:])
        return np.concatenate([parts[i] for i in order])[None]
    bias = ""
    if biases:
        bias = g.const(np.concatenate([gates(b) for b in biases], 1))
    x = g.op("Reshape", s.x(), g.sizes([steps, batch, s.dims()[1]], s, infer=True))
    states = [g.op("Unsqueeze", s.x(i), g.ints(0)) if s.has(i) else "" for i in (5, 6)]
    how: dict[str, Any] = {"hidden_size": width,
                           "direction": "reverse" if s["reverse"] else "forward"}
    if s.name == "gru_layer":
        how["linear_before_reset"] = 1
    elif s.name == "rnn_layer":
        how["activations"] = ["Relu" if s["relu"] else "Tanh"]
    kind, n = {"lstm_layer": ("LSTM", 3), "gru_layer": ("GRU", 2), "rnn_layer": ("RNN", 2)}[s.name]
    out = g.many(kind, [x, *[g.const(gates(w)) for w in weights], bias, "", *states], n, **how)
    rows = g.op("Reshape", out[0], g.ints(-1, width))
    return [rows, *[g.op("Squeeze", h, g.ints(0)) for h in out[1:]]]
