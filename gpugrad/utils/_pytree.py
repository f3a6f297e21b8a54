"""torch.utils._pytree: functions over the leaves of tuples, lists and dicts in each other."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from gpugrad.func.trees import LEAF, Tree, flatten, unflatten

PyTree = Any
TreeSpec = Tree


def LeafSpec() -> Tree:
    """The structure of a leaf."""
    return LEAF


class NodeDef(NamedTuple):
    """How one type of container is taken apart: flatten_fn(x) gives its parts and its keys."""

    type: Any
    flatten_fn: Callable[[Any], Any]


SUPPORTED_NODES = {kind: NodeDef(kind, lambda x: (list(x), ())) for kind in (tuple, list)} | {
    kind: NodeDef(kind, lambda x: (list(x.values()), tuple(x))) for kind in (dict, OrderedDict)}
_get_node_type = type


def tree_flatten(tree: Any, is_leaf: Any = None) -> tuple[list[Any], Tree]:
    """(leaves, structure)."""
    if is_leaf is not None:
        raise NotImplementedError("tree_flatten(is_leaf=...) is not supported: leaves are what is "
                                  "no tuple, list or dict")
    return flatten(tree)


def tree_unflatten(leaves: Any, treespec: Tree) -> Any:
    """The containers again, with these leaves."""
    return unflatten(leaves, treespec)


def tree_leaves(tree: Any, is_leaf: Any = None) -> list[Any]:
    """The leaves."""
    return tree_flatten(tree, is_leaf)[0]


def tree_structure(tree: Any, is_leaf: Any = None) -> Tree:
    """The structure."""
    return tree_flatten(tree, is_leaf)[1]


def tree_map(func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: Any = None) -> Any:
    """The containers with func of each leaf, and of those at its place in the other trees."""
    leaves, spec = tree_flatten(tree, is_leaf)
    others = []
    for rest in rests:
        more, its = tree_flatten(rest)
        if its != spec:
            raise ValueError(f"the trees have different structures: {spec} and {its}")
        others.append(more)
    return unflatten([func(*values) for values in zip(leaves, *others)], spec)


def tree_map_(func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: Any = None) -> Any:
    """Call func with each leaf; returns the tree."""
    tree_map(func, tree, *rests, is_leaf=is_leaf)
    return tree


def tree_map_only(kind: Any, /, func: Any = None, tree: Any = None, is_leaf: Any = None) -> Any:
    """tree_map of the leaves that are of a type; without a tree a decorator of func."""
    if func is None:
        return lambda f: lambda x: f(x) if isinstance(x, kind) else x
    return tree_map(lambda x: func(x) if isinstance(x, kind) else x, tree, is_leaf=is_leaf)


def tree_all(pred: Callable[[Any], bool], tree: Any, is_leaf: Any = None) -> bool:
    """Does it hold for all leaves?"""
    return all(map(pred, tree_leaves(tree, is_leaf)))


def tree_any(pred: Callable[[Any], bool], tree: Any, is_leaf: Any = None) -> bool:
    """Does it hold for any leaf?"""
    return any(map(pred, tree_leaves(tree, is_leaf)))
