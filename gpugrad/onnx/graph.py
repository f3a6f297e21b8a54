"""From the runs of a model to ONNX's graph: names, constants, and sizes that vary."""
from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from gpugrad.onnx import protobuf
from gpugrad.onnx.trace import Call, Refused, Run, Value, digest, place

Size = tuple[int, ...]           # one dim's size in each run


class Site:
    """One call as all runs saw it."""

    def __init__(self, graph: Graph, calls: list[Call]) -> None:
        self.graph, self.calls = graph, calls
        self.name = calls[0].name

    def __getitem__(self, constant: str) -> Any:
        """A constant of the op, which must be the same in all runs."""
        values = self.each(constant)
        if any(v != values[0] for v in values):
            raise Refused(f"{self.name}({constant}={values[0]!r}) depends on the size of a dynamic "
                          "axis in a way that can't be written: make that axis fixed")
        return values[0]

    def each(self, constant: str) -> list[Any]:
        spec = self.calls[0].spec
        return [c.kw[constant] if constant in c.kw or spec is None else spec.consts[constant]
                for c in self.calls]

    def __len__(self) -> int:
        return len(self.calls[0].ins)

    def has(self, i: int) -> bool:
        return i < len(self) and self.calls[0].ins[i] is not None

    def array(self, i: int) -> Any:
        """Input i if it is the same in all runs, else None."""
        seen = [c.ins[i] for c in self.calls] if self.has(i) else [None]
        return None if seen[0] is None or moves(seen) else array_of(seen[0])

    def dims(self, i: int = 0) -> list[Size]:
        return sizes_of([c.ins[i] for c in self.calls])

    def shape(self, i: int = 0) -> tuple[int, ...]:
        return tuple(self.calls[0].ins[i].shape)

    def ndim(self, i: int = 0) -> int:
        return len(self.calls[0].ins[i].shape)

    def dtype(self, i: int = 0) -> Any:
        return self.calls[0].ins[i].dtype

    def out_dims(self, k: int = 0) -> list[Size]:
        return sizes_of([c.outs[k] for c in self.calls])

    def out_dtype(self, k: int = 0) -> Any:
        return self.calls[0].outs[k].dtype

    def x(self, i: int = 0) -> str:
        """The name of input i in the graph, "" if it is absent."""
        if not self.has(i):
            return ""
        return self.graph.name_of([c.ins[i] for c in self.calls], self)

    def xs(self) -> list[str]:
        return [self.x(i) for i in range(len(self))]


def sizes_of(arrays: list[Any]) -> list[Size]:
    if len({len(a.shape) for a in arrays}) > 1:
        raise Refused("the number of dims depends on the size of a dynamic axis")
    return list(zip(*[a.shape for a in arrays], strict=True))


def array_of(v: Any) -> Any:
    return v.a if isinstance(v, Value) else v


def moves(seen: list[Any]) -> bool:
    """Does a value depend on the inputs, or differ between runs?"""
    if any(isinstance(v, Value) and v.dynamic for v in seen):
        return True
    first = array_of(seen[0])
    others = [array_of(v) for v in seen[1:]]
    return any(b is not first and (b.shape != first.shape or b.dtype != first.dtype or
                                   digest(b) != digest(first)) for b in others)


def fixed(size: Size) -> bool:
    return len(set(size)) == 1


class Graph:
    """The graph under construction.

    labels: (input, axis, sizes in the runs, its name) of every dynamic axis; parameters: names by
    place and the arrays. reserved: names that no node may take.
    """

    def __init__(self, runs: list[Run], input_names: list[str],
                 labels: list[tuple[str, int, Size, str]],
                 parameters: dict[Any, tuple[str, Any]], opset: int,
                 reserved: set[str]) -> None:
        self.runs, self.labels, self.opset, self.reserved = runs, labels, opset, reserved
        self.parameters = parameters
        self.nodes: list[bytes] = []
        self.initializers: dict[str, bytes] = {}
        self.constants: dict[Any, str] = {}
        self.names: dict[tuple[int, int], str] = {(-1, i): n for i, n in enumerate(input_names)}
        self.at = [{id(c): i for i, c in enumerate(run.calls)} for run in runs]
        self.known: list[tuple[str, list[Size]]] = [
            (n, sizes_of([r.inputs[i] for r in runs])) for i, n in enumerate(input_names)]
        self.count = 0
        self.held: list[Any] = []
        self.kinds: set[str] = set()

    # Nodes ---------------------------------------------------------------------------------------

    def many(self, op: str, inputs: list[str], n: int, **attributes: Any) -> list[str]:
        """The names of the n results of a new node."""
        self.kinds.add(op)
        while True:
            self.count += 1
            stem = f"{op.lower()}_{self.count}"
            outs = [stem] if n == 1 else [f"{stem}_{k}" for k in range(n)]
            if not self.reserved.intersection(outs):
                break
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        self.nodes.append(protobuf.node(op, inputs, outs, stem, attributes))
        return outs

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.many(kind, list(inputs), 1, **attributes)[0]

    def const(self, a: Any, dtype: Any = None) -> str:
        """The name of a constant: a parameter's own, where it is one."""
        if not isinstance(a, np.ndarray) or dtype is not None:
            a = np.asarray(a, dtype)
            key: Any = a.tobytes(), a.shape, a.dtype
        else:
            if place(a) in self.parameters:
                name = self.parameters[place(a)][0]
                if name not in self.initializers:
                    self.initializers[name] = protobuf.tensor(name, a)
                return name
            key = (a.tobytes(), a.shape, a.dtype) if a.size < 64 else place(a)
            self.held.append(a)
        if key not in self.constants:
            name = f"constant_{len(self.constants)}"
            while name in self.reserved:
                name += "_"
            self.constants[key] = name
            self.initializers[name] = protobuf.tensor(name, a)
        return self.constants[key]

    def is_parameter(self, a: Any) -> bool:
        return place(a) in self.parameters

    def ints(self, *values: int) -> str:
        return self.const(list(values), np.int64)

    # Values --------------------------------------------------------------------------------------

    def key(self, run: int, value: Value) -> tuple[int, int]:
        return (-1 if value.call is None else self.at[run][id(value.call)]), value.number

    def name_of(self, seen: list[Any], site: Site | None = None) -> str:
        """What a value, or a constant, is called; ``seen``: it in each run."""
        first = seen[0]
        if any(isinstance(v, Value) != isinstance(first, Value) for v in seen):
            raise self.unstable()
        if not isinstance(first, Value) or not moves(seen):
            return self.constant([array_of(v) for v in seen], site)
        keys = {self.key(i, v) for i, v in enumerate(seen)}
        if len(keys) > 1:
            raise self.unstable()
        key = keys.pop()
        if key not in self.names:
            call = first.call.name if first.call else "input"
            raise Refused(f"result number {first.number} of {call} has no counterpart in ONNX")
        return self.names[key]

    def unstable(self) -> Refused:
        return Refused("the model takes another path for other inputs: a number that is computed "
                       "from tensors (item(), a condition, a loop) decides about it")

    def constant(self, seen: list[Any], site: Site | None) -> str:
        a = seen[0]
        if not moves(seen):
            return self.const(a)
        if all(b.ndim == 0 for b in seen) and all(float(b).is_integer() for b in seen):
            size = self.size(tuple([int(b) for b in seen]), site)
            return self.cast(self.op("Reshape", size, self.ints()), a.dtype)
        dims = sizes_of(seen)
        flat = a.reshape(-1)
        if all((b == flat[0]).all() for b in seen if b.size) and a.size:
            return self.op("ConstantOfShape", self.sizes(dims, site), value=flat[:1])
        if a.ndim == 1 and all((b == np.arange(len(b))).all() for b in seen):
            stop = self.op("Reshape", self.size(dims[0], site), self.ints())
            return self.cast(self.op("Range", self.const(0, np.int64), stop,
                                     self.const(1, np.int64)), a.dtype)
        raise Refused("a tensor that is not the result of a traced operation differs between runs "
                      f"with other inputs (shape {list(a.shape)}, {a.dtype}): it is computed "
                      "outside of tensors (item(), tolist(), numpy(), random numbers), or depends "
                      "on the size of a dynamic axis")

    def cast(self, x: str, dtype: Any) -> str:
        return self.op("Cast", x, to=protobuf.data_type(dtype))

    # Sizes ---------------------------------------------------------------------------------------

    def size(self, size: Size, site: Site | None) -> str:
        """A size as a tensor of one integer; computed, if it varies."""
        if fixed(size):
            return self.ints(size[0])
        near = [] if site is None else [
            (site.x(i), site.dims(i)) for i in range(len(site))
            if isinstance(v := site.calls[0].ins[i], Value) and self.key(0, v) in self.names]
        for name, dims in near + self.known:
            if size in dims:
                return self.dim(name, dims.index(size))
        for name, dims in near:
            for i in range(len(dims)):
                for j in range(i + 2, len(dims) + 1):
                    if size == tuple(math.prod(d) for d in zip(*dims[i:j])):
                        part = self.op("Slice", self.op("Shape", name), *map(
                        self.ints, (i, j, 0, 1)))
                        return self.op("ReduceProd", part, keepdims=1)
        for name, axis, sizes, _ in self.labels:
            slope = Fraction(size[1] - size[0], sizes[1] - sizes[0]) if sizes[1] != sizes[0] else 0
            rest = size[0] - slope * sizes[0]
            if slope > 0 and all(slope * d + rest == s for s, d in zip(size, sizes)) and (
                    slope.denominator == 1 or not rest) and rest.denominator == 1:
                x = self.dim(name, axis)
                if slope.numerator != 1:
                    x = self.op("Mul", x, self.ints(slope.numerator))
                if slope.denominator != 1:
                    x = self.op("Div", x, self.ints(slope.denominator))
                return self.op("Add", x, self.ints(int(rest))) if rest else x
        raise Refused(f"a size ({', '.join(map(str, size))} for dynamic axes of different sizes) "
                      "can't be computed from those of the inputs: make the axis fixed")

    def dim(self, name: str, axis: int) -> str:
        return self.op("Gather", self.op("Shape", name), self.ints(axis), axis=0)

    def sizes(self, dims: list[Size], site: Site | None, infer: bool = False) -> str:
        """Sizes as a tensor of integers; with ``infer`` one that varies may be left to Reshape."""
        moving = [d for d in dims if not fixed(d)]
        if not moving or (infer and len(moving) == 1 and all(d[0] for d in dims)):
            return self.ints(*[d[0] if fixed(d) else -1 for d in dims])
        parts = [self.size(d, site) for d in dims]
        return self.op("Concat", *parts, axis=0)

    def wants(self, value: Value) -> bool:
        """Is a result of the first run read by another call, or an output?"""
        run = self.runs[0]
        return any(v is value for v in run.outputs) or any(
            v is value for call in run.calls for v in call.ins)

    # The whole -----------------------------------------------------------------------------------

    def translate(self, table: dict[str, Any]) -> None:
        """All calls, by the functions of ``table``, which take (graph, site)."""
        calls = [run.calls for run in self.runs]
        if len({tuple([c.name for c in run]) for run in calls}) > 1:
            raise self.unstable()
        missing = sorted({c.name for c in calls[0] if c.dynamic} - table.keys())
        if missing:
            raise Refused(f"no ONNX operator is known for {', '.join(missing)}: see docs/onnx.md "
                          "for what can be exported")
        for i, same in enumerate(zip(*calls, strict=True)):
            site = Site(self, list(same))
            if not any(moves([c.outs[k] for c in same]) for k in range(len(same[0].outs))):
                continue                         # constants are written as such
            if any(v.dtype.kind == "c" for v in same[0].outs):
                raise Refused("complex numbers can't be exported")
            if site.name not in table:
                continue                         # refused where it is used
            out = table[site.name](self, site)
            names = [out] if isinstance(out, str) else out
            for k, name in enumerate(names):
                self.names[i, k] = name
                if k < len(same[0].outs):
                    self.known.append((name, site.out_dims(k)))
                    protobuf.data_type(site.out_dtype(k))

    def shown(self, dims: list[Size], name: str) -> list[int | str]:
        """Dims for a graph's input or output: sizes, and names of those that vary."""
        labels = {sizes: label for _, _, sizes, label in self.labels}
        return [d[0] if fixed(d) else labels.get(d, f"{name}_dim_{i}") for i, d in enumerate(dims)]

    def bytes(self, name: str, inputs: list[str], outputs: list[tuple[str, list[Any]]]) -> bytes:
        """The GraphProto; outputs: names, and what each was in the runs."""
        infos = []
        for out, seen in outputs:
            self.nodes.append(protobuf.node("Identity", [self.name_of(seen)], [out], out, {}))
            infos.append(protobuf.value_info(out, seen[0].dtype, self.shown(sizes_of(seen), out)))
        heads = [protobuf.value_info(n, r.dtype, self.shown(sizes_of(
            [run.inputs[i] for run in self.runs]), n))
            for i, (n, r) in enumerate(zip(inputs, self.runs[0].inputs, strict=True))]
        return protobuf.graph(name, self.nodes, list(self.initializers.values()), heads, infos)
