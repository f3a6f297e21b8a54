"""vmap: a function run for each index of a dim, and the results stacked.

It is a loop, so it is as fast as one. What PyTorch's refuses because it computes all at once works:
conditions on values, .item(). What writes into a tensor from outside does so once an index.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad import backend
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.func.transforms import wrapped
from gpugrad.func.trees import Tree, broadcast, flatten, unflatten

Function = Callable[..., Any]


def _name(func: Any) -> str:
    return getattr(func, "__name__", repr(func))


# Arguments ---------------------------------------------------------------------------------------


def _in_dims(in_dims: Any, args: tuple[Any, ...], called: str) -> list[Any]:
    """For each leaf of the arguments its mapped dim, or None."""
    leaves, tree = flatten(args)
    if not args or not leaves:
        raise ValueError(f"{called}(<inputs>): got no inputs. Maybe you forgot to add inputs, or "
                         "you are trying to vmap over a function with no inputs. The latter is "
                         "unsupported.")
    where = f"vmap{called[4:]}, in_dims={in_dims}, ...)(<inputs>)".replace("), in", ", in")
    if isinstance(in_dims, bool) or not isinstance(in_dims, int | tuple):
        raise ValueError(f"{where}: expected `in_dims` to be int or a (potentially nested) tuple "
                         f"matching the structure of inputs, got: {type(in_dims)}.")
    dims = broadcast(in_dims, tree)
    if dims is None:
        raise ValueError(f"{where}: in_dims is not compatible with the structure of `inputs`. "
                         f"in_dims has structure {flatten(in_dims)[1]} but inputs has structure "
                         f"{tree}.")
    for x, d in zip(leaves, dims):
        if d is not None and type(d) is not int:
            raise ValueError(f"{where}: Got in_dim={d} for an input but in_dim must be either an "
                             "integer dimension or None.")
        if d is None:
            continue
        if not isinstance(x, Tensor):
            raise ValueError(f"{where}: Got in_dim={d} for an input but the input is of type "
                             f"{type(x)}. We cannot vmap over non-Tensor arguments, please use "
                             "None as the respective in_dim")
        if not -x.ndim <= d < x.ndim:
            raise ValueError(f"{where}: Got in_dim={d} for some input, but that input is a Tensor "
                             f"of dimensionality {x.ndim} so expected in_dim to satisfy -{x.ndim} "
                             f"<= in_dim < {x.ndim}.")
    return [d if d is None else d % x.ndim for d, x in zip(dims, leaves)]


def _batch_size(leaves: list[Any], dims: list[Any]) -> int:
    sizes = [x.shape[d] for x, d in zip(leaves, dims) if d is not None]
    if not sizes:
        raise ValueError("vmap: at least one input must have a dim to map over, but all in_dims "
                         "are None")
    if len(set(sizes)) > 1:
        raise ValueError("vmap: Expected all tensors to have the same size in the mapped "
                         f"dimension, got sizes {sizes} for the mapped dimension")
    return sizes[0]


def _at(x: Any, dim: Any, i: int) -> Any:
    """x at an index of its mapped dim; zeros of the same shape where that dim is empty."""
    if dim is None:
        return x
    if not x.shape[dim]:
        shape = tuple(n for d, n in enumerate(x.shape) if d != dim)
        return wrap(x._be.xp.zeros(shape, x._a.dtype), x._be)
    return T.select(x, dim=dim, index=i)


# Random numbers ----------------------------------------------------------------------------------


def _random_states() -> list[Any]:
    return [be.generator.get_state() for be in backend.made()]


class _Randomness:
    """Whether the function may draw random numbers, and whether each index gets the same ones."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.before = _random_states() if mode != "different" else []

    def next(self, i: int) -> None:
        if self.mode == "same" and i:
            for be, state in zip(backend.made(), self.before):
                be.generator.set_state(state)

    def check(self) -> None:
        if self.mode != "error":
            return
        after = _random_states()
        if any([(a != b).any() for a, b in zip(self.before, after)]):
            raise RuntimeError("vmap: called random operation while in randomness error mode. "
                               "Please either use the 'same' or 'different' randomness flags on "
                               "vmap or perform the randomness operation out of vmap")


# Results -----------------------------------------------------------------------------------------


def _out_dims(out_dims: Any, tree: Tree, func: Function) -> list[Any]:
    start = f"vmap({_name(func)}, ..., out_dims={out_dims})"
    if any([isinstance(d, bool) or not (d is None or isinstance(d, int))
            for d in flatten(out_dims)[0]]):
        raise ValueError(f"{start}: `out_dims` must be an int, None or a python collection of "
                         "ints representing where in the outputs the vmapped dimension should "
                         "appear.")
    if tree.kind is None and isinstance(out_dims, tuple) and len(out_dims) == 1:
        out_dims = out_dims[0]
    dims = broadcast(out_dims, tree)
    if dims is None:
        raise ValueError(f"{start}(<inputs>): out_dims is not compatible with the structure of "
                         f"`outputs`. out_dims has structure {flatten(out_dims)[1]} but outputs "
                         f"has structure {tree}.")
    return dims


def _collected(parts: list[Any], dim: Any, n: int, func: Function) -> Any:
    """The results for all indices as one; of n = 0 the one result tells the shape."""
    first = parts[0]
    if dim is None:
        if any([p is not first for p in parts]):
            raise ValueError(f"vmap({_name(func)}, ...): `{_name(func)}` can not return a "
                             "BatchedTensor when out_dim is None")
        return first
    for p in parts:
        if not isinstance(p, Tensor):
            raise ValueError(f"vmap({_name(func)}, ...): `{_name(func)}` must only return "
                             f"Tensors, got type {type(p)}. Did you mean to set out_dims= to None "
                             "for output?")
        if p.shape != first.shape:
            raise RuntimeError("vmap: the results for different indices have different shapes, "
                               f"{list(first.shape)} and {list(p.shape)}")
    ndim = first.ndim + 1
    if not -ndim <= dim < ndim:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-ndim}, "
                         f"{ndim - 1}], but got {dim})")
    out = T.stack(*parts, dim=dim % ndim)
    return out if n else T.slice_(out, dim=dim % ndim, start=0, stop=0)


def vmap(func: Function, in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *,
         chunk_size: int | None = None) -> Function:
    """A function that runs func for each index of a dim of its arguments, and stacks the results.

    in_dims: which dim, for all arguments or for each, None for those that are the same every time,
    as keyword arguments are. out_dims: where the dim is in the results, None for a result that is
    the same object every time. randomness: "error", "different" or "same" random numbers for each
    index.
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError("Only allowed values for randomness are 'error', 'different', or "
                           f"'same'. Got {randomness}")
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")

    @wrapped(func)
    def mapped(*args: Any, **kw: Any) -> Any:
        dims = _in_dims(in_dims, args, f"vmap({_name(func)})")
        leaves, tree = flatten(args)
        n = _batch_size(leaves, dims)
        random = _Randomness(randomness)
        results = []
        for i in range(max(n, 1)):
            random.next(i)
            given = unflatten([_at(x, d, i) for x, d in zip(leaves, dims)], tree)
            results.append(flatten(func(*given, **kw)))
            if not i:
                random.check()
        random.check()
        structure = results[0][1]
        if any([other != structure for _, other in results]):
            raise RuntimeError("vmap: the results for different indices have different structures")
        where = _out_dims(out_dims, structure, func)
        columns = zip(*[found for found, _ in results])
        return unflatten([_collected(list(c), d, n, func) for c, d in zip(columns, where)],
                         structure)
    return mapped
