"""summary(model, input_size): what a model consists of and costs, without running it.

A copy of the model whose tensors have no data is called on the meta device, and every operation is
heard there: so code in functions counts as modules do.
"""
from __future__ import annotations

import contextlib
import copy
import math
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gpugrad._printing import bytes_text as size
from gpugrad._tensor import Tensor
from gpugrad.autograd.grad_mode import enable_grad, no_grad
from gpugrad.creation import empty, empty_like
from gpugrad.device import device
from gpugrad.dtypes import get_default_dtype
from gpugrad.nn.modules.module import Module
from gpugrad.nn.parameter import Parameter, is_lazy
from gpugrad.utils._pytree import tree_leaves, tree_map, tree_map_only

META = 3                                         # the meta device's place in Spec.impl
_hearing = threading.RLock()                     # one summary at a time: all threads share the ops


# Multiply-adds of one call, from its operands and its result -------------------------------------

def _product(r: Any, a: Any, *rest: Any) -> int:
    return int(r.size * a.shape[-1])


def _added_product(r: Any, c: Any, a: Any, b: Any) -> int:
    return int(r.size * a.shape[-1])


def _convolution(r: Any, x: Any, w: Any, *bias: Any) -> int:
    return int(r.size * math.prod(w.shape[1:]))


def _conv_transpose(r: Any, x: Any, w: Any, *bias: Any) -> int:
    return int(x.size * math.prod(w.shape[1:]))


def _attention(r: Any, q: Any, k: Any, v: Any, *mask: Any) -> int:
    return int(math.prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1]))


def _recurrent(r: Any, x: Any, w_ih: Any, w_hh: Any, *rest: Any) -> int:
    return int(len(x) * (w_ih.size + w_hh.size))


COUNTS: dict[str, Any] = {
    **dict.fromkeys(["mm", "bmm", "mv", "dot", "vdot"], _product),
    **dict.fromkeys(["addmm", "addmv", "baddbmm"], _added_product),
    "addr": lambda r, c, x, y: int(r.size), "cdist": _product,
    "addbmm": lambda r, c, a, b: int(a.size * b.shape[-1]),
    **dict.fromkeys(["convolution", "convolution_nd"], _convolution),
    "conv_transpose": _conv_transpose, "attention": _attention,
    **dict.fromkeys(["lstm_layer", "gru_layer", "rnn_layer"], _recurrent),
    "linear_cross_entropy": lambda r, x, w, *rest: int(len(x) * w.size)}


# Results -----------------------------------------------------------------------------------------

@dataclass
class Layer:
    """A row of the table: a module, where it was called."""

    name: str                                    # as in its model, without that of the row above
    kind: str                                    # its class
    depth: int
    output_shape: Any = None                     # shapes, in the containers of the output
    params: int = 0                              # of the module and all below
    shared: bool = False                         # its parameters are counted in a row above
    mult_adds: int = 0                           # of all calls, and of all modules below
    kept_bytes: int = 0                          # what its calls keep until backward
    calls: int = 0
    layers: list[Layer] = field(default_factory=list)

    def rows(self) -> Iterator[Layer]:
        """This row and those below."""
        yield self
        for layer in self.layers:
            yield from layer.rows()


@dataclass
class Summary:
    """What ``summary`` found; as text, a table. Sizes are in bytes."""

    root: Layer
    depth: int | None
    total_params: int                            # shared ones once
    trainable_params: int
    total_mult_adds: int
    total_param_bytes: int
    total_buffer_bytes: int
    total_input_bytes: int
    forward_bytes: int                           # most results at a time, when no graph is recorded
    kept_bytes: int                              # results held for backward, and the output
    gradient_bytes: int                          # of the parameters

    @property
    def layers(self) -> list[Layer]:
        """All rows, from top to bottom, also those that ``depth`` hides."""
        return list(self.root.rows())

    def __str__(self) -> str:
        rows = [("Layer", "Output shape", "Parameters", "Multiply-adds", "Memory")]
        for layer in self.layers:
            if self.depth is None or layer.depth <= self.depth:
                name = f"{layer.name}: {layer.kind}" if layer.name else layer.kind
                rows.append(("  " * layer.depth + name + f" x{layer.calls}" * (layer.calls > 1),
                             _shape(layer.output_shape),
                             "(shared)" if layer.shared else f"{layer.params:,}",
                             f"{layer.mult_adds:,}", size(layer.kept_bytes)))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = ["  ".join([row[0].ljust(widths[0]), row[1].ljust(widths[1]),
                            *[cell.rjust(n) for cell, n in zip(row[2:], widths[2:])]])
                 for row in rows]
        rule = "-" * len(lines[0])
        frozen = self.total_params - self.trainable_params
        return "\n".join([
            lines[0], rule, *lines[1:], rule,
            f"Parameters: {self.total_params:,}, of which {self.trainable_params:,} are trained "
            f"and {frozen:,} are not",
            f"Multiply-adds: {self.total_mult_adds:,}",
            f"Memory of parameters: {size(self.total_param_bytes)}, of buffers: "
            f"{size(self.total_buffer_bytes)}, of the input: {size(self.total_input_bytes)}",
            f"Memory of results: forward alone at most {size(self.forward_bytes)}; kept for "
            f"backward {size(self.kept_bytes)}, and gradients {size(self.gradient_bytes)}"])

    __repr__ = __str__


def _shape(nested: Any) -> str:
    found = _tuples(nested)
    return "" if not found else str(list(found[0])) + f" +{len(found) - 1}" * (len(found) > 1)


def _tuples(nested: Any) -> list[Any]:
    return [s.shape for s in tree_leaves(nested) if isinstance(s, Shape)]


@dataclass(frozen=True)
class Shape:
    """The shape of a tensor in a module's output."""

    shape: tuple[int, ...]

    def __repr__(self) -> str:
        return str(list(self.shape))


# Hearing -----------------------------------------------------------------------------------------

def _memory(a: Any) -> Any:
    """Lives as long as an array's memory would."""
    return (a if a.base is None else a.base)._g


class Listener:
    """Counts what this thread's operations on the meta device multiply and keep in memory."""

    def __init__(self) -> None:
        self.mult_adds = self.bytes = self.most = 0
        self.thread, self.inside = threading.get_ident(), False
        self.own: dict[int, Any] = {}            # inputs, parameters, buffers: no results
        self.alive: dict[int, tuple[Any, int, tuple[Layer, ...]]] = {}
        self.within: tuple[Layer, ...] = ()      # the modules that are being called

    def owns(self, tensors: Any) -> None:
        self.own |= {id(ghost): ghost for ghost in map(_memory, [t._a for t in tensors])}

    def holds(self, a: Any) -> None:
        """A result: its memory counts once, for as long as it or a view of it lives."""
        ghost = _memory(a)
        key = id(ghost)
        if key not in self.own and key not in self.alive:
            size = math.prod(ghost.shape) * ghost.itemsize
            self.alive[key] = weakref.ref(ghost, lambda _: self.freed(key)), size, self.within
            self.bytes += size
            self.most = max(self.most, self.bytes)

    def freed(self, key: int) -> None:
        self.bytes -= self.alive.pop(key)[1]

    def of(self, name: str, real: Any, skip: int) -> Any:
        """``real``, heard."""
        count = COUNTS.get(name)

        def call(*args: Any, **kw: Any) -> Any:
            if self.inside or threading.get_ident() != self.thread:
                return real(*args, **kw)
            self.inside = True                   # what it is made of is nothing of its own
            try:
                result = real(*args, **kw)
            finally:
                self.inside = False
            results = result if isinstance(result, tuple | list) else (result,)
            if count is not None:
                self.mult_adds += count(results[0], *args[skip:])
            for a in results:
                if hasattr(a, "_g"):
                    self.holds(a)
            return result
        return call


@contextlib.contextmanager
def _heard() -> Iterator[Listener]:
    from gpugrad import backend
    from gpugrad.ops import load

    backend.get("meta")
    specs, listener = list(load().values()), Listener()
    with _hearing:
        kept = [(s, s.impl[META], s.direct and s.direct[META]) for s in specs]
        try:
            for s, real, direct in kept:
                s.impl[META] = listener.of(s.name, real, 1)
                if direct:
                    s.direct[META] = listener.of(s.name, direct, 0)     # type: ignore[index]
            yield listener
        finally:
            for s, real, direct in kept:
                s.impl[META] = real
                if direct:
                    s.direct[META] = direct      # type: ignore[index]


# The copy ----------------------------------------------------------------------------------------

def _tensors(model: Module) -> Iterator[Tensor]:
    """The tensors of a model: parameters, buffers, and those that are plain attributes."""
    for part in model.modules():
        for value in vars(part).values():
            yield from (t for t in tree_leaves(value) if isinstance(t, Tensor))


def without_data(model: Module) -> Module:
    """A copy of a model on the meta device; what is shared in the model is in the copy."""
    memo: dict[int, Any] = {}
    for t in _tensors(model):
        if is_lazy(t):
            memo[id(t)] = type(t)(t.requires_grad, "meta", t.dtype)
        else:
            twin: Any = empty_like(t.detach(), device="meta")
            if isinstance(t, Parameter):
                twin = Parameter(twin, t.requires_grad)
            memo[id(t)] = twin.requires_grad_(t.requires_grad)
    try:
        return copy.deepcopy(model, memo)
    except (TypeError, RuntimeError) as e:
        raise TypeError(f"summary: {type(model).__name__} can't be copied, which is how its own "
                        f"tensors stay as they are: {e}") from e


class Tree:
    """Makes rows of the calls of a copy's modules."""

    def __init__(self, model: Module, listener: Listener) -> None:
        self.listener, self.counted = listener, set[int]()
        self.names = {id(m): name for name, m in model.named_modules()}
        self.before: list[int] = []              # multiply-adds, for each module that is called
        self.rows: dict[tuple[int, int], Layer] = {}
        self.full: dict[int, str] = {}           # a row's name in the model
        for part in model.modules():
            part.register_forward_pre_hook(self.enter, prepend=True)
            part.register_forward_hook(self.leave)

    def enter(self, part: Module, args: Any) -> None:
        within = self.listener.within
        above = within[-1] if within else None
        layer = self.rows.get((id(above), id(part)))
        if layer is None:
            name = self.names.get(id(part), "")
            start = f"{self.full[id(above)]}." if above and self.full[id(above)] else ""
            layer = self.rows[id(above), id(part)] = Layer(
                name.removeprefix(start), type(part).__name__, len(within))
            self.full[id(layer)] = name
            if above:
                above.layers.append(layer)
        self.listener.within = (*within, layer)
        self.before.append(self.listener.mult_adds)

    def leave(self, part: Module, args: Any, output: Any) -> None:
        layer = self.listener.within[-1]
        self.listener.within = self.listener.within[:-1]
        layer.calls += 1
        layer.mult_adds += self.listener.mult_adds - self.before.pop()
        layer.output_shape = tree_map(
            lambda v: Shape(tuple(v.shape)) if isinstance(v, Tensor) else None, output)
        if layer.calls == 1:
            own = {id(p): p.numel() for p in part.parameters()}
            layer.params = sum(own.values())
            new = own.keys() - self.counted
            layer.shared = bool(own) and not new and all(
                below.shared for below in layer.layers if below.params)
            self.counted |= own.keys()


def _inputs(model: Module, input_size: Any, input_data: Any, dtypes: Any) -> Any:
    """Positional and keyword arguments, without data."""
    if (input_size is None) == (input_data is None):
        raise ValueError("summary: give either input_size, the shapes of the inputs, or "
                         "input_data, the inputs")
    if input_data is not None:
        if dtypes is not None:
            raise ValueError("summary: dtypes goes with input_size; input_data has its own")
        given = tree_map_only(Tensor, lambda t: empty_like(t.detach(), device="meta"), input_data)
        if isinstance(given, dict):
            return (), given
        return tuple(given) if isinstance(given, list | tuple) else (given,), {}
    one = all(isinstance(n, int) for n in input_size)
    sizes = [tuple(input_size)] if one else [tuple(s) for s in input_size]
    if bad := [s for s in sizes if not all(isinstance(n, int) and n >= 0 for n in s)]:
        raise ValueError(f"summary: input_size must be a shape with the batch, such as "
                         f"(1, 3, 224, 224), or a list of shapes, one an input; it has {bad[0]}")
    if dtypes is None:
        floating = [p.dtype for p in model.parameters() if not is_lazy(p)
                    and p.dtype.is_floating_point]
        dtypes = [floating[0] if floating else get_default_dtype()] * len(sizes)
    elif not isinstance(dtypes, list | tuple):
        dtypes = [dtypes] * len(sizes)
    if len(dtypes) != len(sizes):
        raise ValueError(f"summary: {len(dtypes)} dtypes for {len(sizes)} inputs")
    return tuple(empty(s, dtype=d, device="meta") for s, d in zip(sizes, dtypes)), {}


def summary(model: Module, input_size: Any = None, input_data: Any = None, *, dtypes: Any = None,
            depth: int | None = None, **kwargs: Any) -> Summary:
    """A table of a model's layers: output shapes, parameters, multiply-adds, memory.

    Nothing is computed: a copy of the model without data is called on the meta device. The model,
    its buffers, its mode and the random numbers stay as they are.

    Args:
        model: a Module, on any device, in training mode or not.
        input_size: the input's shape with its batch, or a list of shapes, one an input.
        input_data: in place of it, a tensor, the positional arguments in a list or a tuple, or the
            keyword arguments in a dict.
        dtypes: of the inputs: one, or a list. By default that of the first parameter.
        depth: how many levels of modules below the model are printed; all by default.
        kwargs: further arguments of the model's forward.

    Returns a ``Summary``, which prints as the table. Multiply-adds are those of products,
    convolutions, attention and recurrent layers, wherever they are called, for the whole batch; a
    bias isn't counted, nor is attention's mask. A row's memory is what its calls keep until
    backward, their output included; a model's memory of results counts those of operations, not
    what an operation needs while it runs. Parameters that several modules share count once.

    Raises NotImplementedError if the model looks at elements, which aren't there.
    """
    if not isinstance(model, Module):
        raise TypeError(f"summary: the model must be a Module, not {type(model).__name__}")
    args, keywords = _inputs(model, input_size, input_data, dtypes)
    keywords |= tree_map_only(Tensor, lambda t: empty_like(t.detach(), device="meta"), kwargs)

    given = [t for t in tree_leaves([args, keywords]) if isinstance(t, Tensor)]

    def run(model: Module, recorded: bool) -> tuple[Layer, Listener, int]:
        twin = without_data(model)
        with _heard() as listener, enable_grad() if recorded else no_grad():
            listener.owns([*given, *_tensors(twin)])
            tree = Tree(twin, listener)
            output = _called(twin, args, keywords)
            for _, size, within in list(listener.alive.values()):
                for layer in within:
                    layer.kept_bytes += size
            kept = listener.bytes
            del output
        return next(iter(tree.rows.values())), listener, kept

    model = without_data(model)
    if any(is_lazy(t) for t in _tensors(model)):
        with no_grad():                          # what has no shape yet gets one
            _called(model, args, keywords)
    alone = run(model, False)[1]
    root, _, kept = run(model, True)
    parameters = list(model.parameters())
    trained = [p for p in parameters if p.requires_grad]
    return Summary(
        root, depth, sum(p.numel() for p in parameters), sum(p.numel() for p in trained),
        alone.mult_adds, _bytes(parameters), _bytes(model.buffers()), _bytes(given), alone.most,
        kept, _bytes(trained))


def _called(model: Module, args: Any, keywords: Any) -> Any:
    try:
        with device("meta"):                     # for what it makes without naming a device
            return model(*args, **keywords)
    except (NotImplementedError, RuntimeError) as e:
        if "meta" not in str(e) and not isinstance(e, NotImplementedError):
            raise
        raise NotImplementedError("summary: the model can't be followed without data: it looks at "
                                  f"elements, or names a device itself ({e})") from e


def _bytes(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
