"""What the op decorator reads from a class: its inputs, its constants, and a gradient rule per
input.

The parameter list of a rule ``grad_<input>(o, g, ...)`` says what is saved for it: inputs,
``result``/``result1``..., ``<input>_shape``/``_dtype``/``_order``, keyword constants. A name that
is none of these raises when the op is declared. Rules run at one of two levels ``o``: the ops on
raw arrays, or, under create_graph, the ops on Tensors.
"""
from __future__ import annotations

import functools
import os
from contextlib import suppress
from importlib import import_module
from typing import Any

from gpugrad._state import anomaly, off, state
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd import saved as saving
from gpugrad.autograd.node import FREED, AccumulateGrad, Node, edge_of, next_key, stale

_HERE = os.path.dirname(__file__)
IN, OUT, SHAPE, DTYPE, ORDER, CONST = range(6)
GPUS = 1, 2                     # indices of backends


class NOTHING:
    """Stands for a number or an absent input while recording: no edge, and it never changes."""

    _edge = None
    _ver = (0,)


class Waiting:
    """An op whose module is imported when its name is first read at some level.

    It stands in the class of the levels, and goes when the op is read and all of its module is
    there: then the name is a plain attribute. (A __getattr__ would slow every read.) Until then
    it stands before the attribute, so that a thread waits for a module that another one imports.
    """

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __get__(self, level: Any, cls: type) -> Any:
        if level is None:
            return self
        module = import_module(self.module)
        if self.name not in vars(level):
            raise AttributeError(f"{self.module} declares no op {self.name}: mend the table in "
                                 "gpugrad/ops/__init__.py")
        if not getattr(module.__spec__, "_initializing", False):
            Level.is_there(self.name)
        return vars(level)[self.name]

    def __set__(self, level: Any, value: Any) -> None:
        vars(level)[self.name] = value


class Level:
    """The names of all ops."""

    @classmethod
    def wait_for(cls, module: str, name: str) -> None:
        """Import ``module`` when op ``name`` is first read."""
        setattr(Level, name, Waiting(module, name))

    @classmethod
    def is_there(cls, name: str) -> None:
        """The op is declared, at every level."""
        with suppress(AttributeError):              # another thread said so
            delattr(Level, name)


class TensorLevel(Level):
    """The ops on Tensors, recorded as usual: what rules run on under create_graph."""


class RawLevel(Level):
    """The ops of one backend on its arrays."""


tensors: Any = TensorLevel()


class REQUIRED:
    """The default of a constant that has none."""


def parameters(fn: Any) -> tuple[list[str], list[str], str | None]:
    """The names of a function's positional and keyword-only parameters, and of its *args.

    A tenth of the time of inspect.signature, which hundreds of rules would pay at import.
    """
    code = fn.__code__
    names, n, k = code.co_varnames, code.co_argcount, code.co_kwonlyargcount
    return list(names[:n]), list(names[n:n + k]), names[n + k] if code.co_flags & 0x04 else None


def with_fallback(better: Any, forward: Any) -> Any:
    def run(be: Any, *args: Any, **kw: Any) -> Any:
        out = better(be, *args, **kw)
        return forward(be, *args, **kw) if out is NotImplemented else out
    return run


def guarded(forward: Any) -> Any:
    """forward with the backend's own device as the current one."""
    def run(be: Any, *args: Any, **kw: Any) -> Any:
        return be.guard(forward)(be, *args, **kw)
    return run


def without_data(spec: Spec, cuda: Any) -> Any:
    """What the meta device runs: ``meta`` if the op has it, else forward on arrays without data;
    where forward looks at elements, what a GPU runs, which mustn't."""
    texts = [f for f in ([spec.meta] if spec.meta else [spec.forward, cuda]) if f is not None]

    def run(be: Any, *args: Any, **kw: Any) -> Any:
        failed: Any = None
        for text in texts:
            try:
                if spec.promote and not spec.meta:
                    return be.pointwise(spec.forward, args, kw)
                out = text(be, *args, **kw)
                if out is not NotImplemented:
                    return out
            except (NotImplementedError, TypeError, AttributeError) as e:
                failed = failed or e
        raise NotImplementedError(f"{spec.name}() doesn't work on meta tensors, which have no "
                                  f"data: use tensors on the CPU ({failed})") from failed
    return run


def of_ufunc(name: str, nin: int) -> Any:
    """forward of an op that is one ufunc; entries call the ufunc itself, a Python frame less."""
    if nin == 1:
        return lambda be, x: getattr(be.xp, name)(x)
    return lambda be, x, y: getattr(be.xp, name)(x, y)


class Spec:
    """One op: what was read from its class, and the Node class made of it."""

    def __init__(self, cls: type, node_name: str, n_out: int | None, n_diff: int, promote: Any,
                 fit: bool, view: bool, holomorphic: bool = True) -> None:
        body = dict(vars(cls))
        self.name, self.n_out, self.n_diff = cls.__name__, n_out, n_diff
        self.promote, self.fit, self.view, self.holomorphic = promote, fit, view, holomorphic
        self.ufunc = body.get("ufunc")
        self.by_number = body.get("by_number")
        self.read_forward(body)
        self.diff: list[int] = []               # the numbers of the differentiable inputs
        self.plan: list[tuple[int, Any, str]] = []
        self.node: Any = None
        if node_name:
            self.read_rules(body)
            self.node = self.make_node(node_name)

    def read_forward(self, body: dict[str, Any]) -> None:
        if self.ufunc:
            nin = 1 if "grad_y" not in body and not body.get("binary") else 2
            self.forward = of_ufunc(self.ufunc, nin)
        else:
            self.forward = body["forward"]
        cuda = body.get("cuda")
        gpu = with_fallback(cuda, self.forward) if cuda else self.forward
        # By a backend's index: the CPU, a GPU, a GPU among several, and no data. Entries look it up
        # at each call: onnx/trace.py listens there.
        self.meta = body.get("meta")
        helped = body.get("cpu")
        on_cpu = with_fallback(helped, self.forward) if helped else self.forward
        self.impl = [on_cpu, gpu, guarded(gpu), without_data(self, cuda)]
        # The ufunc itself by index, filled in as backends are made.
        ufunc_only = self.ufunc and not cuda and not helped
        self.direct: list[Any] | None = [None] * 4 if ufunc_only else None
        positional, keywords, self.variadic = parameters(self.forward)
        self.inputs: list[str] = positional[1:]
        defaults = self.forward.__kwdefaults__ or {}
        self.consts: dict[str, Any] = {name: defaults.get(name, REQUIRED) for name in keywords}
        self.names = self.inputs + ([self.variadic] if self.variadic else [])

    def make_node(self, name: str) -> type:
        slots = ("n_out",) if self.n_out is None else ()
        saved = {"_saved_" + item[2]: saved_attribute(j) for j, item in enumerate(self.plan)}
        outs = {"several": True} if self.n_out is None else \
            {"n_out": self.n_diff, "several": self.n_diff > 1}
        return type(name, (Node,), {"__slots__": slots, "__module__": "gpugrad.autograd",
                                    "spec": self, "run": self.make_run(),
                                    "holomorphic": self.holomorphic, **outs, **saved})

    # Reading the rules ---------------------------------------------------------------------------

    def read_rules(self, body: dict[str, Any]) -> None:
        one = "gg" if "g" in self.names else "g"         # the op is itself a backward kernel
        first = ["gs"] if self.n_out is None else [one] if self.n_diff == 1 else \
            [f"g{i}" for i in range(self.n_diff)]
        self.rules: list[tuple[Any, tuple[int, ...]]] = []
        self.grads = body.get("grads")
        for i, name in enumerate(self.names):
            rule = body.get("grad_" + name, self.grads or KeyError)
            if rule is KeyError:
                raise TypeError(f"{self.name}: write grad_{name}, or grad_{name} = None if {name} "
                                "has no gradient")
            if rule is not None:
                self.diff.append(i)
                if not self.grads:
                    self.rules.append((rule, self.places(rule, first, f"grad_{name}")))
        if self.grads:
            self.grads_at = self.places(self.grads, [*first, "needs"], "grads")
        both = body.get("together")
        self.together = both, self.places(both, [one, "needs"], "together") if both else ()
        unknown = [k for k in body if k.startswith("grad_") and k[5:] not in self.names]
        if unknown:
            raise TypeError(f"{self.name}: {unknown[0]} names no input of forward")
        self.edge_at = {i: e for e, i in enumerate(self.diff)}       # input number -> edge number
        self.saver = functools.cache(self.make_saver)

    def places(self, rule: Any, first: list[str], where: str) -> tuple[int, ...]:
        """Where in the plan of saved values each parameter of a rule stands; extends the plan."""
        params = parameters(rule)[0]
        if params[:1 + len(first)] != ["o", *first]:
            raise TypeError(f"{self.name}.{where} must begin (o, {', '.join(first)}, ...)")
        out = []
        for p in params[1 + len(first):]:
            item = self.item(p, where)
            if item not in self.plan:
                self.plan.append(item)
            out.append(self.plan.index(item))
        return tuple(out)

    def item(self, p: str, where: str) -> tuple[int, Any, str]:
        if p in self.names:
            return IN, self.names.index(p), p
        if p in self.consts:
            return CONST, p, p
        number = p[6:]
        if p == "result" or (p[:6] == "result" and number.isdigit()
                             and int(number) < (self.n_out or 0)):
            return OUT, int(p[6:] or 0), p
        for suffix, kind in (("_shape", SHAPE), ("_dtype", DTYPE), ("_order", ORDER)):
            if p.endswith(suffix) and p[:-len(suffix)] in self.names:
                return kind, self.names.index(p[:-len(suffix)]), p
        raise TypeError(f"{self.name}.{where}: '{p}' is no input {self.names}, result, "
                        f"<input>_shape/_dtype/_order or constant {list(self.consts)}")

    def wanted(self, needs: tuple[bool, ...]) -> tuple[bool, ...]:
        """Which places of the plan the rules of the needed edges mention."""
        if self.grads or self.variadic:
            return (True,) * len(self.plan)
        keep = {j for (_, at), need in zip(self.rules, needs) if need for j in at}
        return tuple(j in keep for j in range(len(self.plan)))

    def saves_crosswise(self) -> bool:
        """Does each of two rules need the other input, and nothing else, as those of x * y do?"""
        return [item[:2] for item in self.plan] == [(IN, 1), (IN, 0)] and \
            not self.grads and [at for _, at in self.rules] == [(0,), (1,)]

    # Recording -----------------------------------------------------------------------------------

    def split(self, args: Any) -> list[Any]:
        """The flat argument list as one value per input name; a variadic input becomes a tuple."""
        n = len(self.inputs)
        args = list(args) + [None] * (n - len(args))
        return [*args[:n], tuple(args[n:])] if self.variadic else args

    def make_saver(self, mask: tuple[bool, ...]) -> Any:
        """save(node, tensors.., arrays.., results.., their version cells.., kw) for one set of
        edges.

        It is generated: its body is another pair of tuples for every op, and a loop over the plan
        costs 3 to 10 us a call instead.
        """
        n, keep = len(self.inputs), self.wanted(mask)
        values: list[str] = []
        cells: list[str] = []
        places: list[str] = []
        for j, (kind, i, _) in enumerate(self.plan):
            many = kind in (IN, SHAPE) and i == n
            if not keep[j]:
                values.append("None")
            elif kind == CONST:
                values.append(f"kw[{i!r}] if {i!r} in kw else consts[{i!r}]")
            elif kind == OUT:
                values.append(f"r{i}")
                cells.append(f"c{i}, c{i}[0]")
                places.append(f"{j}")
            elif kind == IN:
                values.append(f"a{i}")
                cells.append(f"*[v for t in t{i} for v in (t._ver, t._ver[0])]" if many
                             else f"(v := t{i}._ver), v[0]")
                places.append(f"*[{j}] * len(t{i})" if many else f"{j}")
            elif many:
                values.append(f"tuple([a.shape for a in a{i}])")
            elif kind == ORDER:
                values.append(f"'F' if len(s := a{i}.strides) > 1 and s[-2] < s[-1] else 'C'")
            else:
                values.append(f"None if a{i} is None else "
                              f"a{i}.{'shape' if kind == SHAPE else 'dtype'}")
        ins, outs = range(n + bool(self.variadic)), range(self.n_out or 0)
        names = [f"t{i}" for i in ins] + [f"a{i}" for i in ins] + \
            [f"r{i}" for i in outs] + [f"c{i}" for i in outs]
        if cells:
            cells.append(f"({''.join(p + ', ' for p in places)})")
        text = (f"def save(node, {', '.join(names)}, kw):\n"
                f"    node.saved = ({''.join(v + ', ' for v in values)})\n"
                f"    node.guard = ({''.join(c + ', ' for c in cells)})\n")
        scope = {"consts": self.consts}
        exec(text, scope)
        return scope["save"]

    def record(self, be: Any, ins: Any, arrays: Any, outs: Any, cells: Any, kw: dict[str, Any],
               written: bool = False) -> Node:
        """A new node, the general way. ``ins``: what was passed; ``arrays``: what forward got;
        ``written``: the first input is about to be changed in place."""
        n = len(self.inputs)
        ts = self.split([t if isinstance(t, Tensor) else NOTHING for t in ins])
        ts[:n] = [NOTHING if t is None else t for t in ts[:n]]
        values = self.split(arrays)
        edges: list[Any] = []
        for i in self.diff:
            edges += [edge_of(t) for t in ts[i]] if isinstance(ts[i], tuple) else [edge_of(ts[i])]
        node = self.node()
        node.be, node.hooks, node.edges, node.key = be, None, tuple(edges), next_key()
        if self.fit:
            node.fit = fits([tensor_of(ts[i], values[i]) for i in self.diff], outs[0])
        else:
            node.fit = None
        mask = tuple([e is not None for e in edges])
        if written and (IN, 0, self.inputs[0]) in self.plan:
            # as in PyTorch, x.mul_(y) keeps a copy of the old x
            ts[0], values[0] = NOTHING, be.copy(values[0])
        if self.n_out is None:
            outs = cells = ()
            node.n_out = kw["n_out"]
        self.saver(() if self.variadic else mask)(node, *ts, *values, *outs, *cells, kw)
        if off[0]:
            if anomaly[0] is not None:
                anomaly[0].made(node)
            if state.saving is not None and not written:
                self.pack(node, ts)
        return node

    def pack(self, node: Node, ts: Any) -> None:
        """Give what was saved to the hooks on saved tensors. ``ts``: what record was given; numbers
        among them are no tensors, and stay."""
        if not node.guard:
            return
        packed = list(node.saved)
        for j, (kind, i, _) in enumerate(self.plan):
            v = packed[j]
            if v is None or kind not in (IN, OUT) or (kind == IN and ts[i] is NOTHING):
                continue
            if isinstance(v, tuple):
                packed[j] = tuple([a if a is None else saving.pack(a, node.be, t)
                                   for a, t in zip(v, ts[i])])
            else:
                packed[j] = saving.pack(v, node.be, ts[i] if kind == IN else None)
        node.saved, node.guard = tuple(packed), saving.PACKED_GUARD

    def refresh_results(self, node: Node, ins: Any) -> None:
        """An in-place op has written: its saved results are at the new version."""
        guard = list(node.guard)
        for i, (cell, _, j) in enumerate(guarded_places(node)):
            if self.plan[j][0] == OUT:
                guard[2 * i + 1] = cell[0]
        node.guard = tuple(guard)
        if off[0] and state.saving is not None:
            self.pack(node, [t if isinstance(t, Tensor) else NOTHING for t in ins])

    # Backward ------------------------------------------------------------------------------------

    def unpack(self, node: Node) -> list[Any]:
        """The saved values as Tensors that continue the graph."""
        values = list(unchanged(node))
        cells = {j: cell for cell, _, j in guarded_places(node)}
        for j, (kind, i, _) in enumerate(self.plan):
            v = values[j]
            if v is None or kind not in (IN, OUT):
                continue
            if isinstance(v, tuple):
                values[j] = tuple(a if a is None else wrap(a, node.be) for a in v)
            elif kind == OUT:
                source = getattr(node, "result", None) or node
                values[j] = restore(v, node.be, (source, i) if i < self.n_diff else None,
                                    cells.get(j))
            else:
                at = self.edge_at.get(i)
                edge = None if at is None else node.edges[at]
                want = node.fit[at] if edge is not None and node.fit is not None else None
                cell = cells.get(j)              # none if it was packed
                values[j] = restore(v, node.be, edge, cell) if want is None or \
                    want[1] == v.dtype else restore_cast(v, node.be, edge, cell, want[1])
        return values

    def make_run(self) -> Any:
        """Node.run for this op, which puts the written one in its place at the first call."""
        def run(node: Any, o: Any, g: Any, edges: Any) -> Any:
            self.node.run = made = self.written_run()
            return made(node, o, g, edges)
        return run

    def written_run(self) -> Any:
        """Node.run with a line for each rule: loops over them would take twice as long.

        Of value j of the plan: v its name; of edge i: e itself, r its rule.
        """
        scope = {"spec": self, "tensors": tensors, "unchanged": unchanged, "GPUS": GPUS,
                 "grads": self.grads, "together": self.together[0],
                 **{f"r{i}": rule for i, (rule, _) in enumerate(self.rules)}}
        spread = self.n_out is not None and self.n_diff > 1
        g = "*g" if spread else "g"

        def arguments(first: str, at: tuple[int, ...]) -> str:
            return ", ".join([first, *[f"v{j}" for j in at]])

        n = len(self.diff)
        saved = ", ".join([f"v{j}" for j in range(len(self.plan))])
        lines = []
        if self.n_out is None:                  # with one result the engine has no list of them
            lines += ["if node.n_out == 1: g = [g]"]
        if self.plan:
            lines += [f"{saved}, = spec.unpack(node) if o is tensors else unchanged(node)"]
        if self.fit and not self.grads:
            lines += [f"if node.fit is not None: return spec.fitted(node, o, g, edges, [{saved}])"]
        if len(self.inputs) in self.diff:       # any number of edges
            needs = "[e is not None for e in edges]"
        elif self.grads or self.together[0] or n > 1:
            lines += [f"{', '.join([f'e{i}' for i in range(n)])}, = edges"]
            needs = f"[{', '.join([f'e{i} is not None' for i in range(n)])}]"
        if self.grads:
            lines += [f"return grads({arguments(f'o, {g}, {needs}', self.grads_at)})"]
        else:
            found = [f"r{i}({arguments(f'o, {g}', at)})" for i, (_, at) in enumerate(self.rules)]
            if n > 1:
                found = [f"None if e{i} is None else {text}" for i, text in enumerate(found)]
            if self.together[0] is not None:
                some = arguments(f"o, g, {needs}", self.together[1])
                each = [f"s{i} if s{i} is not None else {text}" for i, text in enumerate(found)]
                names = "".join([f"s{i}, " for i in range(n)])
                lines += ["if node.be.index in GPUS and o is not tensors:",
                          f"    {names}= together({some}) or (None,) * {n}",
                          f"    return {', '.join(each)},"]
            lines += [f"return {', '.join(found)},"]
        text = "\n".join(["def run(node, o, g, edges):", *["    " + line for line in lines]])
        # a file of the package, for those who look for the first frame outside of it
        exec(compile(text, os.path.join(_HERE, f"<run of {self.name}>"), "exec"), scope)
        return scope["run"]

    def fitted(self, node: Node, o: Any, g: Any, edges: Any, saved: list[Any]) -> list[Any]:
        """What run gives where operands were broadcast or cast."""
        if self.promote:
            saved = [o.to(v, dtype=g_dtype(g)) if kind == IN and v is not None
                     and g_dtype(v) != g_dtype(g) else v
                     for v, (kind, _, _) in zip(saved, self.plan)]
        return [None if e is None else fit_to(o, rule(o, g, *[saved[j] for j in at]), want)
                for e, (rule, at), want in zip(edges, self.rules, node.fit)]


def g_dtype(v: Any) -> Any:
    """The dtype of arrays underneath, for an array or a Tensor."""
    return v._a.dtype if isinstance(v, Tensor) else v.dtype


def tensor_of(t: Any, array: Any) -> Any:
    """What an edge's gradient must fit: the tensor that was passed, else what forward got."""
    return t._a if isinstance(t, Tensor) else array


def unchanged(node: Any) -> Any:
    """The saved values; raises if they are gone, or were changed in place."""
    guard = node.guard
    if guard:
        n = len(guard)
        if n == 3:                                       # one array or two, most often
            cell, version, _ = guard
            if cell[0] == version:
                return node.saved
        elif n == 5:
            cell, version, other, its, _ = guard
            if cell[0] == version and other[0] == its:
                return node.saved
        each = iter(guard)
        for cell, version in zip(each, each):
            if cell[0] != version:
                return packed_or_stale(node)
    elif guard is None:
        raise RuntimeError(FREED)
    return node.saved


def guarded_places(node: Any) -> list[tuple[Any, int, int]]:
    """(version cell, version, place in the plan) of each saved array."""
    guard = node.guard
    return [(guard[2 * i], guard[2 * i + 1], j) for i, j in enumerate(guard[-1])] if guard else []


def packed_or_stale(node: Any) -> Any:
    """The saved values of a node that has them packed; else raises, as one was changed in place."""
    if node.guard[0] is saving.PACKED_CELL:
        return [saving.unpacked(v, node.be) for v in node.saved]
    cell, version, j = next(item for item in guarded_places(node) if item[0][0] != item[1])
    spec, a = node.spec, node.saved[j]
    kind, i, _ = spec.plan[j]
    edge = (node, i) if kind == OUT else node.edges[spec.edge_at[i]] if i in spec.edge_at and \
        not isinstance(a, tuple) else None
    if isinstance(a, tuple):
        a = next(v for v in a if v is not None)
    raise stale(a, node.be, edge, cell[0], version)


def saved_attribute(j: int) -> property:
    def get(node: Any) -> Any:
        """What the rules saved under this name, as Tensors."""
        return node.spec.unpack(node)[j]
    return property(get)


def restore(a: Any, be: Any, edge: Any, cell: Any) -> Tensor:
    """A saved array as the Tensor it was: the leaf itself, or one with the same history and
    versions.
    """
    if edge is not None and type(edge[0]) is AccumulateGrad and edge[0].variable._a is a:
        return edge[0].variable
    # a copy has no cell of its own
    return wrap(a, be, edge, cell if type(cell) is list else None)


def restore_cast(a: Any, be: Any, edge: Any, cell: Any, dtype: Any) -> Any:
    """restore, for an array that was promoted: its history is the cast of a tensor of ``dtype``."""
    return tensors.to(restore(be.raw.to(a, dtype=dtype), be, edge, cell), dtype=a.dtype)


def fits(arrays: Any, out: Any) -> Any:
    """Per operand the (shape, dtype) of its gradient where broadcasting or casting changed it, or
    None.
    """
    want = [(a.shape, a.dtype) if hasattr(a, "shape") else None for a in arrays]
    return None if all(w == (out.shape, out.dtype) for w in want) else want


def fit_to(o: Any, g: Any, want: Any) -> Any:
    if g is None or want is None:
        return g
    if g.shape != want[0]:
        g = o.sum_to(g, want[0])
    return g if g_dtype(g) == want[1] else o.to(g, dtype=want[1])
