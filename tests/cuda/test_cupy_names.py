"""What ops take from ``xp`` must be in CuPy too: the source is held against CuPy's record."""
from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import gpugrad
from gpugrad.cudasim.cupy import _record

PACKAGE = Path(gpugrad.__file__).parent
FUNCTIONS = _record.MODULES["cupy"]
# What backend.cuda.Module adds to the methods of CuPy's ufuncs.
ADDED = {(name, "reduce") for name in ("maximum", "minimum", "logical_and", "logical_or")}


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
             and use.names[0] in _record.UFUNCS and use.names not in ADDED
             and use.names[1] not in _record.UFUNCS[use.names[0]]]
    assert not wrong, "\n".join(wrong)


def test_cupy_has_all_names() -> None:
    missing = [str(use) for use in USES if use.names[0] not in FUNCTIONS]
    missing += [str(use) for use in USES if use.names[0] in ("linalg", "fft", "random")
                and use.names[1] not in _record.MODULES[f"cupy.{use.names[0]}"]]
    assert not missing, "\n".join(missing)


def test_cupys_functions_take_the_arguments() -> None:
    wrong = []
    for use in USES:
        recorded = FUNCTIONS.get(use.names[0])
        if recorded is None or use.call is None or len(use.names) > 1:
            continue                                    # ufuncs and other compiled things
        parameters = _record.Parameters(use.names[0], recorded)
        keywords = {k.arg for k in use.call.keywords if k.arg}
        too_many = len(use.call.args) > len(parameters.positional) and not parameters.rest
        if (keywords - parameters.names and not parameters.free) or too_many:
            wrong.append(f"{use}({', '.join(recorded)}) is called with {len(use.call.args)} "
                         f"arguments and {sorted(keywords)}")
    assert not wrong, "\n".join(wrong)
