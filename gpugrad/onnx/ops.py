"""ONNX's operators for the ops: elementwise, shapes, indexing, reductions, products."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.onnx.graph import Graph, Site, fixed
from gpugrad.onnx.trace import Refused

Translator = Callable[[Graph, Site], Any]
TABLE: dict[str, Translator] = {}
END = (1 << 63) - 1


def to(*names: str) -> Callable[[Translator], Translator]:
    """The function translates these ops."""
    def keep(fn: Translator) -> Translator:
        for name in names:
            TABLE[name] = fn
        return fn
    return keep


def same(kind: str) -> Translator:
    """The operator of the same inputs."""
    return lambda g, s: g.op(kind, *s.xs())


def like(g: Graph, s: Site, number: Any, i: int = 0) -> str:
    """A number as a constant of input i's dtype."""
    return g.const(np.asarray(number, s.dtype(i)))


def split_pairs(text: str) -> list[list[str]]:
    return [pair.split(":") for pair in text.split()]


for _op, _kind in split_pairs(
        "sigmoid:Sigmoid relu:Relu tanh:Tanh exp:Exp log:Log sqrt:Sqrt neg:Neg abs:Abs sign:Sign "
        "floor:Floor ceil:Ceil round:Round erf:Erf sin:Sin cos:Cos tan:Tan asin:Asin acos:Acos "
        "atan:Atan sinh:Sinh cosh:Cosh asinh:Asinh acosh:Acosh atanh:Atanh reciprocal:Reciprocal "
        "isnan:IsNaN isinf:IsInf add:Add sub:Sub mul:Mul div:Div maximum:Max minimum:Min eq:Equal "
        "lt:Less le:LessOrEqual gt:Greater ge:GreaterOrEqual mm:MatMul bmm:MatMul mv:MatMul "
        "dot:MatMul where:Where clone:Identity alias:Identity clone_in_order:Identity "
        "clone_ordered:Identity pow:Pow"):
    TABLE[_op] = same(_kind)


def number_op(kind: str, constant: str, first: bool = False) -> Translator:
    def translate(g: Graph, s: Site) -> str:
        ins = [s.x(), like(g, s, s[constant])]
        return g.op(kind, *(ins[::-1] if first else ins))
    return translate


for _op, _kind, _name in (("scale", "Mul", "number"), ("divide_by", "Div", "number"),
                          ("shift", "Add", "number"), ("pow_number", "Pow", "exponent"),
                          ("clamp_min", "Max", "min"), ("clamp_max", "Min", "max")):
    TABLE[_op] = number_op(_kind, _name)
TABLE["rsub"] = number_op("Sub", "number", True)
TABLE["rpow_number"] = number_op("Pow", "base", True)


def logic(kind: str, bitwise: str = "") -> Translator:
    def translate(g: Graph, s: Site) -> str:
        if bitwise and s.dtype().kind != "b":
            if g.opset < 18:
                raise Refused(f"{s.name} of integers: use opset_version=18")
            return g.op(bitwise, *s.xs())
        return g.op(kind, *[x if s.dtype(i).kind == "b" else g.cast(x, np.bool_)
                            for i, x in enumerate(s.xs())])
    return translate


for _op, _kind in split_pairs("and:And or:Or xor:Xor not:Not"):
    TABLE["logical_" + _op] = logic(_kind)
    TABLE["bitwise_" + _op] = logic(_kind, "Bitwise" + _kind)


def stacked(*names: str) -> Translator:
    """Operators of one input, one on top of the other."""
    def translate(g: Graph, s: Site) -> str:
        x = s.x()
        for name in names:
            x = g.op(name, x)
        return x
    return translate


TABLE["rsqrt"] = stacked("Sqrt", "Reciprocal")


@to("ne")
def _ne(g: Graph, s: Site) -> str:
    return g.op("Not", g.op("Equal", *s.xs()))


@to("log2", "log10", "log1p", "expm1", "exp2", "isfinite", "trunc", "erfc", "frac")
def _by_others(g: Graph, s: Site) -> str:
    x, one = s.x(), like(g, s, 1)
    if s.name in ("log2", "log10"):
        return g.op("Div", g.op("Log", x), like(g, s, math.log(int(s.name[3:]))))
    if s.name == "log1p":
        return g.op("Log", g.op("Add", x, one))
    if s.name == "expm1":
        return g.op("Sub", g.op("Exp", x), one)
    if s.name == "exp2":
        return g.op("Pow", like(g, s, 2), x)
    if s.name == "erfc":
        return g.op("Sub", one, g.op("Erf", x))
    if s.name == "isfinite":
        return g.op("Not", g.op("Or", g.op("IsNaN", x), g.op("IsInf", x)))
    whole = truncated(g, x)
    return g.op("Sub", x, whole) if s.name == "frac" else whole


def truncated(g: Graph, x: str) -> str:
    return g.op("Mul", g.op("Sign", x), g.op("Floor", g.op("Abs", x)))


@to("remainder", "fmod", "floor_divide", "div_floor", "div_trunc")
def _whole_division(g: Graph, s: Site) -> str:
    x, y = s.xs()
    whole = s.dtype().kind in "iu"
    if s.name == "fmod":
        return g.op("Mod", x, y, fmod=1)
    if s.name == "div_trunc":
        return g.op("Div", x, y) if whole else truncated(g, g.op("Div", x, y))
    if whole:
        rest = g.op("Mod", x, y)
        return rest if s.name == "remainder" else g.op("Div", g.op("Sub", x, rest), y)
    quotient = g.op("Floor", g.op("Div", x, y))
    return g.op("Sub", x, g.op("Mul", quotient, y)) if s.name == "remainder" else quotient


@to("clamp")
def _clamp(g: Graph, s: Site) -> str:
    return g.op("Clip", s.x(), *["" if s[k] is None else like(g, s, s[k]) for k in ("min", "max")])


@to("clamp_between", "clamp_min_tensor", "clamp_max_tensor")
def _clamp_by_tensors(g: Graph, s: Site) -> str:
    xs = s.xs()
    low, high = ([*xs[1:], ""])[:2] if s.name != "clamp_max_tensor" else ("", xs[1])
    x = g.op("Max", xs[0], low) if low else xs[0]
    return g.op("Min", x, high) if high else x


@to("keep_where", "drop_where", "masked_fill", "masked_fill_with")
def _masked(g: Graph, s: Site) -> str:
    x, mask, *rest = s.xs()
    if s.name == "keep_where":
        return g.op("Where", mask, x, like(g, s, 0))
    fill = rest[0] if rest else like(g, s, s["value"] if s.name == "masked_fill" else 0)
    return g.op("Where", mask, fill, x)


@to("addcmul", "addcdiv")
def _addc(g: Graph, s: Site) -> str:
    x, a, b = s.xs()
    y = g.op("Mul" if s.name == "addcmul" else "Div", a, b)
    return g.op("Add", x, y if s["value"] == 1 else g.op("Mul", y, like(g, s, s["value"])))


@to("lerp", "lerp_number")
def _lerp(g: Graph, s: Site) -> str:
    x, end = s.xs()[:2]
    weight = s.x(2) if s.name == "lerp" else like(g, s, s["weight"])
    return g.op("Add", x, g.op("Mul", weight, g.op("Sub", end, x)))


@to("zeros_like", "fill")
def _filled(g: Graph, s: Site) -> str:
    value = np.asarray([s["value"] if s.name == "fill" else 0], s.dtype())
    return g.op("ConstantOfShape", g.op("Shape", s.x()), value=value)


@to("new_zeros")
def _new_zeros(g: Graph, s: Site) -> str:
    return g.op("ConstantOfShape", g.sizes(s.out_dims(), s), value=np.zeros(1, s.dtype()))


@to("to")
def _to(g: Graph, s: Site) -> str:
    return g.cast(s.x(), s.out_dtype())


# Shapes -------------------------------------------------------------------------------------------

@to("view", "unsafe_view", "reshape")
def _view(g: Graph, s: Site) -> str:
    return g.op("Reshape", s.x(), g.sizes(s.out_dims(), s, infer=True))


@to("expand")
def _expand(g: Graph, s: Site) -> str:
    ins, outs = s.dims(), s.out_dims()
    new = len(outs) - len(ins)
    kept = [i >= new and ins[i - new] == d for i, d in enumerate(outs)]
    if all(kept):
        return s.x()
    return g.op("Expand", s.x(), g.sizes([(1,) * len(d) if keep else d
                                          for d, keep in zip(outs, kept)], s))


@to("permute", "transpose", "t")
def _permute(g: Graph, s: Site) -> str:
    n = s.ndim()
    if s.name == "permute":
        dims = [d % n for d in s["dims"]]
    else:
        dims = list(range(n))
        i, j = (0, n - 1) if s.name == "t" else (s["dim0"] % n, s["dim1"] % n)
        dims[i], dims[j] = dims[j], dims[i]
    return g.op("Transpose", s.x(), perm=dims) if n > 1 else s.x()


@to("unsqueeze")
def _unsqueeze(g: Graph, s: Site) -> str:
    return g.op("Unsqueeze", s.x(), g.ints(s["dim"]))


@to("squeeze", "squeeze_all")
def _squeeze(g: Graph, s: Site) -> str:
    dims = s["dim"] if s.name == "squeeze" else \
        [i for i, d in enumerate(s.dims()) if fixed(d) and d[0] == 1]
    dims = [dims] if isinstance(dims, int) else list(dims)
    return g.op("Squeeze", s.x(), g.ints(*dims)) if dims else s.x()


def place_in(g: Graph, s: Site, values: list[int], size: tuple[int, ...]) -> str:
    """A place in a dim, as a tensor of one: from its beginning, or from its end if that is what all
    runs have, or computed from the sizes."""
    back = {v - n for v, n in zip(values, size, strict=True)}
    if len(back) == 1 and len(set(values)) > 1 and (end := back.pop()) <= 0:
        return g.ints(end or END)
    return g.size(tuple(values), s)


@to("select")
def _select(g: Graph, s: Site) -> str:
    dim, values = s["dim"], s.each("index")
    index = g.const(values[0], np.int64) if len(set(values)) == 1 else \
        g.op("Reshape", place_in(g, s, values, s.dims()[dim]), g.ints())
    return g.op("Gather", s.x(), index, axis=dim)


@to("slice_")
def _slice(g: Graph, s: Site) -> str:
    size = s.dims()[s["dim"]]
    starts, stops = s.each("start"), s.each("stop")
    stop = g.ints(END) if all(v == n for v, n in zip(stops, size)) else \
        place_in(g, s, stops, size)
    return g.op("Slice", s.x(), place_in(g, s, starts, size), stop, g.ints(s["dim"]),
                g.ints(s["step"]))


def sliced(g: Graph, x: str, start: int, stop: int, dim: int) -> str:
    return g.op("Slice", x, *map(g.ints, (start, stop, dim, 1)))


@to("unbind", "split", "split_with_sizes", "unsafe_split")
def _parts(g: Graph, s: Site) -> list[str]:
    dim, x = s["dim"], s.x()
    if len({len(c.outs) for c in s.calls}) > 1:
        raise Refused(f"{s.name}() gives as many parts as a dynamic axis is long")
    count = len(s.calls[0].outs)
    if s.name == "unbind":
        return [g.op("Gather", x, g.const(i, np.int64), axis=dim) for i in range(count)]
    if count == 1:
        return [x]
    lengths = g.sizes([s.out_dims(k)[dim] for k in range(count)], s)
    return g.many("Split", [x, lengths], count, axis=dim)


@to("cat", "stack")
def _join(g: Graph, s: Site) -> str:
    xs = s.xs()
    if s.name == "stack":
        xs = [g.op("Unsqueeze", x, g.ints(s["dim"])) for x in xs]
    return g.op("Concat", *xs, axis=s["dim"])


@to("repeat")
def _repeat(g: Graph, s: Site) -> str:
    x, times = s.x(), list(zip(*s.each("times"), strict=True))
    if len(times) > s.ndim():
        new = len(times) - s.ndim()
        x = g.op("Unsqueeze", x, g.ints(*range(new)))
    return g.op("Tile", x, g.sizes(times, s))


@to("flip")
def _flip(g: Graph, s: Site) -> str:
    dims = [d % s.ndim() for d in ([s["dims"]] if isinstance(s["dims"], int) else s["dims"])]
    n = len(dims)
    return g.op("Slice", s.x(), g.ints(*[-1] * n), g.ints(*[-END - 1] * n), g.ints(*dims),
                g.ints(*[-1] * n)) if n else s.x()


@to("roll")
def _roll(g: Graph, s: Site) -> str:
    x = s.x()
    for shift, dim in zip(s["shifts"], s["dims"], strict=True):
        n = s.dims()[dim]
        if not fixed(n):
            raise Refused("roll() along a dynamic axis")
        if n[0] and shift % n[0]:
            at = -(shift % n[0])
            x = g.op("Concat", sliced(g, x, at, END, dim), sliced(g, x, 0, at, dim), axis=dim)
    return x


@to("triu", "tril")
def _tri(g: Graph, s: Site) -> str:
    return g.op("Trilu", s.x(), g.const(s["diagonal"], np.int64), upper=int(s.name == "triu"))


@to("constant_pad_nd")
def _pad(g: Graph, s: Site) -> str:
    sides = s["sides"]
    return g.op("Pad", s.x(), g.ints(*[b for b, _ in sides], *[a for _, a in sides]),
                like(g, s, s["value"]))


@to("pixel_shuffle")
def _pixel_shuffle(g: Graph, s: Site) -> str:
    return g.op("DepthToSpace", s.x(), blocksize=s["factor"], mode="CRD")


@to("pixel_unshuffle")
def _pixel_unshuffle(g: Graph, s: Site) -> str:
    f, dims = s["factor"], s.dims()
    one = (f,) * len(dims[0])
    h, w = [tuple([n // f for n in d]) for d in dims[-2:]]
    lead = dims[:-2]
    y = g.op("Reshape", s.x(), g.sizes([*lead, h, one, w, one], s, infer=True))
    n = len(lead)
    y = g.op("Transpose", y, perm=[*range(n), n + 1, n + 3, n, n + 2])
    return g.op("Reshape", y, g.sizes(s.out_dims(), s, infer=True))


# Indexing -----------------------------------------------------------------------------------------

@to("embedding")
def _embedding(g: Graph, s: Site) -> str:
    return g.op("Gather", s.x(0), s.x(1), axis=0)


@to("index_select")
def _index_select(g: Graph, s: Site) -> str:
    return g.op("Gather", s.x(0), s.x(1), axis=s["dim"])


@to("gather")
def _gather(g: Graph, s: Site) -> str:
    return g.op("GatherElements", s.x(0), s.x(1), axis=s["dim"])


@to("take")
def _take(g: Graph, s: Site) -> str:
    return g.op("Gather", g.op("Reshape", s.x(0), g.ints(-1)), s.x(1), axis=0)


@to("scatter_into")
def _scatter(g: Graph, s: Site) -> str:
    return g.op("ScatterElements", s.x(0), s.x(1), s.x(2), axis=s["dim"])


@to("scatter_value")
def _scatter_value(g: Graph, s: Site) -> str:
    src = g.op("Expand", like(g, s, s["value"]), g.op("Shape", s.x(1)))
    return g.op("ScatterElements", s.x(0), s.x(1), src, axis=s["dim"])


@to("scatter_add")
def _scatter_add(g: Graph, s: Site) -> str:
    return g.op("ScatterElements", s.x(0), s.x(1), s.x(2), axis=s["dim"], reduction="add")


@to("index")
def _index(g: Graph, s: Site) -> str:
    places = [i for i in range(1, len(s)) if s.has(i)]
    if any(s.dtype(i).kind == "b" for i in places):
        raise Refused("an index of booleans gives a tensor whose size depends on its elements")
    if len(places) == 1:
        return g.op("Gather", s.x(0), s.x(places[0]), axis=places[0] - 1)
    if places != list(range(1, len(places) + 1)):
        raise Refused("several index tensors that are not for the first dims")
    shape = g.sizes(s.out_dims()[:len(s.out_dims()) - (s.ndim() - len(places))], s)
    columns = [g.op("Unsqueeze", g.op("Expand", g.cast(s.x(i), np.int64), shape), g.ints(-1))
               for i in places]
    return g.op("GatherND", s.x(0), g.op("Concat", *columns, axis=-1))


@to("topk", "sort", "sort_stable", "argsort")
def _topk(g: Graph, s: Site) -> Any:
    if s.name == "topk":
        k, largest = g.ints(s["k"]), s["largest"]
    else:
        k, largest = g.size(s.dims()[s["dim"]], s), s["descending"]
    out = g.many("TopK", [s.x(), k], 2, axis=s["dim"], largest=int(largest), sorted=1)
    return out[1] if s.name == "argsort" else out


@to("cumsum")
def _cumsum(g: Graph, s: Site) -> str:
    x = s.x() if s.dtype() == s.out_dtype() else g.cast(s.x(), s.out_dtype())
    return g.op("CumSum", x, g.const(s["dim"], np.int64), reverse=int(s["backwards"]))


# Reductions ---------------------------------------------------------------------------------------

def reduce(g: Graph, kind: str, x: str, dim: Any, keepdim: Any) -> str:
    """A reduction over a dim, several, or all (None). Before opset 18 most have them as attribute.
    """
    dims = None if dim is None else [dim] if isinstance(dim, int) else list(dim)
    if dims is None or kind == "ReduceSum" or g.opset >= 18:
        return g.op(kind, x, *([] if dims is None else [g.ints(*dims)]), keepdims=int(keepdim))
    return g.op(kind, x, axes=dims, keepdims=int(keepdim))


_REDUCED = dict(split_pairs(
    "sum:ReduceSum sum_all:ReduceSum mean:ReduceMean mean_all:ReduceMean prod:ReduceProd "
    "prod_all:ReduceProd amax:ReduceMax amin:ReduceMin max_all:ReduceMax min_all:ReduceMin "
    "max:ReduceMax min:ReduceMin logsumexp:ReduceLogSumExp all:ReduceMin any:ReduceMax"))


@to(*_REDUCED)
def _reduction(g: Graph, s: Site) -> Any:
    dim, keep = (None, False) if s.name.endswith("_all") else (s["dim"], s["keepdim"])
    x, logical = s.x(), s.name in ("all", "any")
    if logical:
        x = g.cast(g.cast(x, np.bool_), np.int32)
    elif s.dtype() != s.out_dtype():
        x = g.cast(x, s.out_dtype())
    out = reduce(g, _REDUCED[s.name], x, dim, keep)
    if s.name in ("max", "min"):
        return [out, g.op("ArgMax" if s.name == "max" else "ArgMin", x, axis=dim,
                          keepdims=int(keep))]
    return g.cast(out, np.bool_) if logical else out


@to("argmax", "argmin")
def _arg(g: Graph, s: Site) -> str:
    kind, dim = "ArgMax" if s.name == "argmax" else "ArgMin", s["dim"]
    if dim is None:
        flat = g.op("Reshape", s.x(), g.ints(-1))
        return g.op(kind, flat, axis=0, keepdims=0)
    return g.op(kind, s.x(), axis=dim, keepdims=int(s["keepdim"]))


@to("var", "std", "var_mean", "std_mean")
def _var(g: Graph, s: Site) -> Any:
    dim, keep, x = s["dim"], s["keepdim"], s.x()
    dims = list(range(s.ndim())) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    sizes = [s.dims()[d] for d in dims]
    mean = reduce(g, "ReduceMean", x, dims, True)
    d = g.op("Sub", x, mean)
    var = reduce(g, "ReduceMean", g.op("Mul", d, d), dims, keep)
    if s["correction"]:
        if not all(map(fixed, sizes)):
            raise Refused(f"{s.name}() over a dynamic axis: use correction=0")
        n = math.prod([n[0] for n in sizes])
        var = g.op("Mul", var, like(g, s, n / max(0, n - s["correction"])
                                    if n != s["correction"] else math.inf))
    out = g.op("Sqrt", var) if s.name.startswith("std") else var
    if not s.name.endswith("mean"):
        return out
    return [out, mean if keep else g.op("Squeeze", mean, g.ints(*dims))]


@to("vector_norm")
def _norm(g: Graph, s: Site) -> str:
    p, x = s["p"], s.x()
    if p in (1, 2):
        return reduce(g, f"ReduceL{int(p)}", x, s["dim"], s["keepdim"])
    size = g.op("Abs", x)
    if math.isinf(p):
        return reduce(g, "ReduceMax" if p > 0 else "ReduceMin", size, s["dim"], s["keepdim"])
    if p == 0:
        raise Refused("a norm of p=0")
    total = reduce(g, "ReduceSum", g.op("Pow", size, like(g, s, p)), s["dim"], s["keepdim"])
    return g.op("Pow", total, like(g, s, 1 / p))


# Products -----------------------------------------------------------------------------------------

def scaled(g: Graph, s: Site, x: str, number: Any) -> str:
    return x if number == 1 else g.op("Mul", x, like(g, s, number))


@to("addmm", "baddbmm", "addmv")
def _add_product(g: Graph, s: Site) -> str:
    alpha, beta = s["alpha"], s["beta"]
    if s.name == "addmm" and s.dtype().kind == "f":
        b = s.array(2)
        turned = b is not None and g.is_parameter(b.T)
        return g.op("Gemm", s.x(1), g.const(b.T) if turned else s.x(2), s.x(0),
                    alpha=float(alpha), beta=float(beta), transB=int(turned))
    product = scaled(g, s, g.op("MatMul", s.x(1), s.x(2)), alpha)
    return g.op("Add", scaled(g, s, s.x(0), beta), product)
