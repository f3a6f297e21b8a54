"""What ops take from ``xp`` must be in CuPy too: read from the source, without a GPU."""
from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import gpugrad

PACKAGE = Path(gpugrad.__file__).parent
# What CuPy's ufuncs have of the methods of NumPy's, and what backend.cuda.Module adds.
METHODS = {
    "reduce": {"add", "multiply", "maximum", "minimum", "logical_and", "logical_or"},
    "accumulate": {"add", "multiply"},
    "reduceat": {"add"},
    "at": {"add", "subtract", "maximum", "minimum"},
}


class Use(NamedTuple):
    """A name after ``xp.``, its call if it is one, and whether its op has another text for CUDA."""

    place: str
    names: tuple[str, ...]
    call: ast.Call | None
    numpy_only: bool

    def __str__(self) -> str:
        return f"{self.place}: xp.{'.'.join(self.names)}"


def names_after_xp(node: ast.AST) -> tuple[str, ...]:
    """("add", "reduce") for xp.add.reduce and be.xp.add.reduce; () for anything else."""
    if not isinstance(node, ast.Attribute):
        return ()
    owner = node.value
    if "xp" in (getattr(owner, "id", ""), getattr(owner, "attr", "")):
        return (node.attr,)
    before = names_after_xp(owner)
    return (*before, node.attr) if before else ()


def uses(file: str, node: ast.AST, numpy_only: bool = False) -> Iterator[Use]:
    call = node if isinstance(node, ast.Call) else None
    found = call.func if call else node
    names = names_after_xp(found)
    parts = list(ast.iter_child_nodes(node))
    if names:
        assert isinstance(found, ast.Attribute)
        yield Use(f"{file}:{found.lineno}", names, call, numpy_only)
        parts = [*call.args, *call.keywords] if call else []
    if isinstance(node, ast.ClassDef):
        numpy_only = any(isinstance(p, ast.FunctionDef) and p.name == "cuda" for p in node.body)
    for part in parts:
        yield from uses(file, part, numpy_only)


USES = [use for path in sorted(PACKAGE.rglob("*.py"))
        for use in uses(str(path.relative_to(PACKAGE.parent)),
                        ast.parse(path.read_text(encoding="utf-8")))]


def test_the_search_finds_something() -> None:
    found = {use.names for use in USES}
    assert ("empty",) in found and ("add", "reduce") in found and len(found) > 30
    assert any(use.call and use.call.keywords for use in USES)
    tree = ast.parse("def f(xp):\n  return xp.stack([xp.exp(be.xp.pi)], axis=xp.lib.x)")
    assert [use.names for use in uses("f", tree)] == [("stack",), ("exp",), ("pi",), ("lib", "x")]


def test_ufuncs_are_asked_only_for_what_cupys_have() -> None:
    wrong = [f"{use} is not in CuPy: take another name, or give the op a text for CUDA"
             for use in USES if len(use.names) == 2 and not use.numpy_only
             and use.names[0] not in METHODS.get(use.names[1], {use.names[0]})]
    assert not wrong, "\n".join(wrong)


def in_cupy(names: tuple[str, ...]) -> Any:
    found: Any = pytest.importorskip("cupy")
    for name in names:
        found = getattr(found, name)
    return found


def test_cupy_has_all_names() -> None:
    missing = []
    for use in USES:
        try:
            in_cupy(use.names)
        except AttributeError as e:
            missing.append(f"{use}: {e}")
    assert not missing, "\n".join(missing)


def test_cupys_functions_take_the_arguments() -> None:
    wrong = []
    for use in USES:
        try:
            parameters = inspect.signature(in_cupy(use.names)).parameters
        except (ValueError, TypeError):                 # ufuncs and other compiled things
            continue
        if use.call is None or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        keywords = {k.arg for k in use.call.keywords if k.arg}
        positional = [p for p in parameters.values() if p.kind is not p.KEYWORD_ONLY]
        too_many = len(use.call.args) > len(positional) and not any(
            p.kind is p.VAR_POSITIONAL for p in positional)
        if keywords - set(parameters) or too_many:
            wrong.append(f"{use}{inspect.signature(in_cupy(use.names))} is called with "
                         f"{len(use.call.args)} arguments and {sorted(keywords)}")
    assert not wrong, "\n".join(wrong)
