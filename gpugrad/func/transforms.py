"""grad, vjp, jvp and their kin: functions made of functions."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from gpugrad._state import state
from gpugrad._tensor import Tensor
from gpugrad.func.levels import Level, gradients, ones_like, recording, zeros_like
from gpugrad.func.trees import Tree, flatten, tree_map, unflatten

Function = Callable[..., Any]


def wrapped(func: Any) -> Any:
    """functools.wraps, which objects such as modules and partials have less names for."""
    return functools.wraps(func, [n for n in functools.WRAPPER_ASSIGNMENTS if hasattr(func, n)],
                           ())


# Arguments by number -----------------------------------------------------------------------------


def numbers(argnums: Any, n: int) -> tuple[int, ...]:
    """Which positional arguments are meant, counted from the front."""
    if not isinstance(argnums, int | tuple) or \
            (isinstance(argnums, tuple) and not all([isinstance(i, int) for i in argnums])):
        raise RuntimeError(f"argnums must be int or Tuple[int, ...], got: {type(argnums)}")
    if argnums == ():
        raise RuntimeError("argnums must be non-empty")
    given = argnums if isinstance(argnums, tuple) else (argnums,)
    for i in given:
        if not -n <= i < n:
            raise RuntimeError(f"Got argnum={i}, but only {n} positional inputs")
    out = tuple([i % n for i in given])
    if len(set(out)) < len(out):
        raise RuntimeError(f"argnums elements must be unique, got {argnums}")
    return out


def chosen(args: tuple[Any, ...], argnums: Any) -> Any:
    """The argument meant, or a tuple of them."""
    places = numbers(argnums, len(args))
    return args[places[0]] if isinstance(argnums, int) else tuple([args[i] for i in places])


def replaced(args: tuple[Any, ...], argnums: Any, new: Any) -> tuple[Any, ...]:
    """The arguments with others for those meant."""
    out = list(args)
    values = (new,) if isinstance(argnums, int) else new
    for i, v in zip(numbers(argnums, len(args)), values):
        out[i] = v
    return tuple(out)


def with_aux(out: Any, has_aux: bool, name: str) -> tuple[Any, Any]:
    """(what is differentiated, what isn't)."""
    if not has_aux:
        return out, None
    if not (isinstance(out, tuple) and len(out) == 2):
        raise RuntimeError(f"{name}: output of function f should be a tuple: (output, aux) if "
                           "has_aux is True")
    for v in flatten(out[1])[0]:
        if not isinstance(v, Tensor):
            raise RuntimeError(f"Expected tensors, got unsupported type {type(v)}")
    return out


def only_tensors(out: Any, name: str) -> tuple[list[Tensor], Tree]:
    leaves, tree = flatten(out)
    for v in leaves:
        if not isinstance(v, Tensor):
            raise RuntimeError(f"{name}: expected f(*primals) to return only tensors, got "
                               f"unsupported type {type(v)}")
    return leaves, tree


# Gradients ---------------------------------------------------------------------------------------


def grad_and_value(func: Function, argnums: Any = 0, has_aux: bool = False) -> Function:
    """A function that returns (the gradient of func, its value); with has_aux (value, aux)."""
    name = "grad_and_value(f)(*args)"

    @wrapped(func)
    def differentiated(*args: Any, **kw: Any) -> Any:
        leaves, tree = flatten(chosen(args, argnums))
        level = Level(leaves)
        with recording():
            out = func(*replaced(args, argnums, unflatten(level.inputs, tree)), **kw)
            level.ran()
            y, aux = with_aux(out, has_aux, name)
            if not isinstance(y, Tensor):
                raise RuntimeError(f"{name}: Expected f(*args) to return a Tensor, got {type(y)}")
            if y.ndim:
                raise RuntimeError(f"{name}: Expected f(*args) to return a scalar Tensor, got "
                                   f"tensor with {y.ndim} dims. Maybe you wanted to use the vjp or "
                                   "jacrev APIs instead?")
            graph = level.recorded and level.reaches_others([y])
            keep = has_aux
            found = gradients([y], level.inputs, [ones_like(y)], graph, keep)
        found = [level.released(g) for g in found]
        value = level.released(y)
        slope = unflatten(found, tree)
        return (slope, (value, tree_map(level.released, aux))) if has_aux else (slope, value)
    return differentiated


def grad(func: Function, argnums: Any = 0, has_aux: bool = False) -> Function:
    """A function that returns the gradient of func, which returns one number.

    argnums: with respect to which arguments, a number or a tuple of them; they may be tuples, lists
    and dicts of tensors. has_aux: func returns (number, other tensors), and so does the new one.
    """
    both = grad_and_value(func, argnums, has_aux)

    @wrapped(func)
    def differentiated(*args: Any, **kw: Any) -> Any:
        slope, value = both(*args, **kw)
        return (slope, value[1]) if has_aux else slope
    return differentiated


# Products with Jacobians -------------------------------------------------------------------------


class Linear:
    """A function of some tensors run once, to be differentiated many times."""

    def __init__(self, func: Function, primals: Any, has_aux: bool, name: str) -> None:
        leaves, self.tree = flatten(primals)
        self.level = Level(leaves)
        with recording():
            out = func(*unflatten(self.level.inputs, self.tree))
            self.level.ran()
            y, aux = with_aux(out, has_aux, name)
            self.outputs, self.out_tree = only_tensors(y, name)
            self.graph = self.level.recorded and self.level.reaches_others(self.outputs)
        self.aux = tree_map(self.level.released, aux) if has_aux else None

    def value(self) -> Any:
        """What the function returned."""
        return unflatten([self.level.released(y) for y in self.outputs], self.out_tree)

    def needs_graph(self, vectors: Any) -> bool:
        return state.recording and (self.graph or any([v.requires_grad for v in vectors]))

    def released(self, found: Any, graph: bool) -> list[Tensor]:
        return [g if graph else g.detach() for g in found]

    def backward(self, starts: Any) -> list[Tensor]:
        """Gradients of the inputs for those of the outputs."""
        graph = self.needs_graph(starts)
        with recording():
            found = gradients(self.outputs, self.level.inputs, starts, graph, True)
        return self.released(found, graph)

    def forward(self, tangents: Any) -> list[Tensor]:
        """How the outputs change with the inputs: the gradient of what backward makes of a
        gradient, with respect to that."""
        graph = self.needs_graph(tangents)
        with recording():
            if not hasattr(self, "starts"):
                self.starts = [self.level.leaf(zeros_like(y)) for y in self.outputs]
                self.back = gradients(self.outputs, self.level.inputs, self.starts, True, True)
            found = gradients(self.back, self.starts, tangents, graph, True)
        return self.released(found, graph)


def vjp(func: Function, *primals: Any, has_aux: bool = False) -> Any:
    """(func(*primals), a function that multiplies a vector by the Jacobian), and aux if there is.

    The function takes what has the structure of the outputs, and returns a tuple as the primals.
    """
    name = "vjp(f, *primals)"
    line = Linear(func, primals, has_aux, name)

    def vjp_fn(cotangents: Any, retain_graph: bool = True, create_graph: Any = None) -> Any:
        starts, tree = flatten(cotangents)
        if tree != line.out_tree:
            raise RuntimeError("Expected pytree structure of cotangents to be the same as pytree "
                               f"structure of outputs to the function. cotangents: {tree}, primal "
                               f"output: {line.out_tree}")
        for i, (g, y) in enumerate(zip(starts, line.outputs)):
            if g.shape != y.shape:
                raise RuntimeError(f"Mismatch in shape: grad_output[{i}] has a shape of {g.shape} "
                                   f"and output[{i}] has a shape of {y.shape}.")
        return unflatten(line.backward(starts), line.tree)
    return (line.value(), vjp_fn, line.aux) if has_aux else (line.value(), vjp_fn)


def _tangents(primals: Any, tangents: Any, name: str) -> list[Tensor]:
    """The tangents' leaves, which must be as the primals'."""
    if not isinstance(primals, tuple):
        raise RuntimeError(f"{name}: Expected primals to be a tuple. E.g. it should be valid to "
                           "call f(*primals).")
    given, tree = flatten(primals)
    if not given:
        raise RuntimeError(f"{name}: Expected primals to contain at least one Tensor.")
    found, other = flatten(tangents)
    if tree != other:
        raise RuntimeError(f"{name}: Expected primals and tangents to have the same python "
                           "structure. For example, if primals is a tuple of 3 tensors, tangents "
                           f"also must be. Got primals with structure {tree} and tangents with "
                           f"structure {other}")
    for x, v in zip(given, found):
        if isinstance(x, Tensor) and x.shape != v.shape:
            raise RuntimeError("Trying to set a forward gradient that has a different size than "
                               "that of the original Tensor, this is not supported. Tensor is of "
                               f"size {list(x.shape)} while the given forward gradient is of size "
                               f"{list(v.shape)}.")
    return found


def jvp(func: Function, primals: Any, tangents: Any, *, strict: bool = False,
        has_aux: bool = False) -> Any:
    """(func(*primals), how it changes with the primals along the tangents), and aux if there is.

    Computed by going backward twice: func must be twice differentiable.
    """
    name = "jvp(f, primals, tangents)"
    given = _tangents(primals, tangents, name)
    line = Linear(func, primals, has_aux, name)
    change = unflatten(line.forward(given), line.out_tree)
    return (line.value(), change, line.aux) if has_aux else (line.value(), change)


def linearize(func: Function, *primals: Any) -> Any:
    """(func(*primals), a function of tangents: how func changes there, as jvp says)."""
    line = Linear(func, primals, False, "linearize(f, *primals)")

    def jvp_fn(*tangents: Any) -> Any:
        given = _tangents(primals, tangents, "linearize(f, *primals)")
        return unflatten(line.forward(given), line.out_tree)
    return line.value(), jvp_fn


def functionalize(func: Function, *, remove: str = "mutations") -> Function:
    raise NotImplementedError("functionalize is not supported: write the function without in-place "
                              "operations")
