"""Tuples, lists and dicts in each other, taken apart into their leaves and put together again."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tree:
    """The structure of nested containers: a type, the keys of a dict, and the parts. A leaf has no
    type."""

    kind: Any = None
    keys: tuple[Any, ...] = ()
    parts: tuple[Tree, ...] = ()

    def __repr__(self) -> str:
        if self.kind is None:
            return "*"
        inner = ", ".join(f"{k!r}: {p!r}" for k, p in zip(self.keys, self.parts)) if self.keys \
            else ", ".join(map(repr, self.parts))
        return f"TreeSpec({self.kind.__name__}, [{inner}])"


LEAF = Tree()


def flatten(tree: Any) -> tuple[list[Any], Tree]:
    """(the leaves, the structure around them)."""
    kind = type(tree)
    if isinstance(tree, tuple) or kind is list:
        keys, children = (), list(tree)
    elif kind in (dict, OrderedDict):
        keys, children = tuple(tree), list(tree.values())
    else:
        return [tree], LEAF
    leaves: list[Any] = []
    parts = []
    for child in children:
        found, part = flatten(child)
        leaves += found
        parts.append(part)
    return leaves, Tree(kind, keys, tuple(parts))


def unflatten(leaves: Any, tree: Tree) -> Any:
    """The containers again, with these leaves."""
    each = iter(leaves)

    def build(t: Tree) -> Any:
        if t.kind is None:
            return next(each)
        parts = [build(p) for p in t.parts]
        if t.keys or t.kind in (dict, OrderedDict):
            return t.kind(zip(t.keys, parts))
        return t.kind(*parts) if hasattr(t.kind, "_fields") else t.kind(parts)
    return build(tree)


def tree_map(fn: Callable[[Any], Any], tree: Any) -> Any:
    """The same containers with fn of each leaf."""
    leaves, structure = flatten(tree)
    return unflatten([fn(v) for v in leaves], structure)


def broadcast(prefix: Any, tree: Tree) -> list[Any] | None:
    """For each leaf of ``tree`` the leaf of ``prefix`` above it; None if they don't fit."""
    leaves, structure = flatten(prefix)
    each = iter(leaves)

    def spread(p: Tree, t: Tree) -> list[Any] | None:
        if p.kind is None:
            return [next(each)] * count(t)
        same = p.kind is t.kind and len(p.parts) == len(t.parts) and set(p.keys) == set(t.keys)
        if not same:
            return None
        out: list[Any] = []
        given = dict(zip(t.keys, t.parts))
        for key, part, other in zip(p.keys or (None,) * len(p.parts), p.parts, t.parts):
            found = spread(part, given[key] if p.keys else other)
            if found is None:
                return None
            out += found
        return out
    return spread(structure, tree)


def count(tree: Tree) -> int:
    """How many leaves."""
    return 1 if tree.kind is None else sum([count(p) for p in tree.parts])
