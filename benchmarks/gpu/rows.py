"""Rows of the suites: what a row computes, at which precisions, and how much work that is.

A row is declared by a function that makes its case for a library. Each of its precisions and memory
formats is measured by itself; together with a column that is a line of the book.
"""
from __future__ import annotations

import fnmatch
import functools
import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gpu.libraries import GRAPHS, Library

SUITES = ("ceilings", "ops", "steps")
CONTIGUOUS, CHANNELS_LAST = "contiguous", "channels_last"
EAGER = ("gpugrad", "torch")
FLOATS, HALVES = ("tf32", "float32"), ("bfloat16", "float16")

Work = list[tuple[float, float, int]]           # FLOP, bytes, how often
Count = Callable[[list[Any]], tuple[float, float]]  # inputs to elements moved, FLOP


@dataclass
class Case:
    """What a row is in one library."""

    calls: Sequence[Callable[[], Any]]          # take turns, each with inputs of its own
    results: Callable[[], Sequence[Any]]        # tensors, or numbers of losses, that must agree
    work: Work = field(default_factory=list)    # what can't be avoided
    per: int = 1                                # a call does so many times what the row is called
    note: Callable[[], str] = str               # why it isn't what its column says; "" if it is
    keep: Any = None                            # what a graph reads


@dataclass(frozen=True)
class Row:
    """``make(library, dry)`` gives the case; ``tolerance``: how much more than usual it may err."""

    suite: str
    family: str
    name: str
    make: Callable[[Library, bool], Case]
    columns: tuple[str, ...] = EAGER
    precisions: tuple[str, ...] = ("float32",)
    layouts: tuple[str, ...] = (CONTIGUOUS,)
    tolerance: float = 1.0
    worth: int = 5                              # 9 is measured first
    dry: int = 1                                # at so many precisions and formats in a dry run


class Part(NamedTuple):
    """A row at one precision and in one memory format."""

    row: Row
    precision: str
    layout: str

    @property
    def key(self) -> str:
        name = f"{self.row.suite}/{self.row.family}/{self.row.name}, {self.precision}"
        return name + f", {self.layout}" * (self.layout != CONTIGUOUS)

    def names(self) -> dict[str, str]:
        """For a line of the book."""
        return {"suite": self.row.suite, "family": self.row.family, "name": self.row.name,
                "precision": self.precision, "layout": self.layout}


ROWS: dict[tuple[str, str, str], Row] = {}


def row(suite: str, family: str, name: str, **kw: Any) -> Callable[[Any], Any]:
    """Declare a row by the function that makes its case."""
    def declare(make: Callable[[Library, bool], Case]) -> Callable[[Library, bool], Case]:
        if (suite, family, name) in ROWS:
            raise ValueError(f"the row {suite}/{family}/{name} is there already")
        ROWS[suite, family, name] = Row(suite, family, name, make, **kw)
        return make
    return declare


@functools.cache
def parts(dry_run: bool = False) -> dict[str, Part]:
    """All there is to measure, suite by suite, what is worth most first; a dry run mixes suites."""
    for name in "ceilings", "convolutions", "layers", "steps":
        importlib.import_module(f"gpu.{name}")
    found: list[tuple[Any, Part]] = []
    for number, r in enumerate(ROWS.values()):
        ranks = sorted((i + j, i, j) for i in range(len(r.precisions))
                       for j in range(len(r.layouts)))
        for later, i, j in ranks[:r.dry] if dry_run else ranks:
            rank = 0 if dry_run else SUITES.index(r.suite), later - r.worth, number
            found.append((rank, Part(r, r.precisions[i], r.layouts[j])))
    return {part.key: part for _, part in sorted(found, key=lambda f: f[0])}


def select(suites: Iterable[str], patterns: Iterable[str] | None, dry_run: bool) -> list[Part]:
    """The parts of some suites whose key has one of the patterns: words, or with * and ?."""
    chosen = [p for p in parts(dry_run).values() if p.row.suite in suites]
    if patterns is None:
        return chosen
    found: set[str] = set()
    for pattern in patterns:
        hits = {p.key for p in chosen if pattern in p.key or fnmatch.fnmatchcase(p.key, pattern)}
        if not hits:
            raise SystemExit(f"--only: there is no row {pattern!r}; --list shows all of them")
        found |= hits
    return [p for p in chosen if p.key in found]


# Cases of the usual kind --------------------------------------------------------------------------

def size_of(lib: Library) -> int:
    """Bytes of an element."""
    return 2 if lib.precision in ("float16", "bfloat16", "amp") else 4


def function(lib: Library, f: Callable[..., Any], inputs: Callable[[], list[Any]],
             grads: Sequence[int] | None = None, count: Count | None = None) -> Case:
    """f(*inputs()), or with ``grads`` its gradients for those inputs."""
    made = [inputs()]
    elements, flop = count(made[0]) if count else (0.0, 0.0)
    nbytes = elements * size_of(lib)
    made += [inputs() for _ in range(lib.sets(nbytes) - 1)]
    work: Work = [(flop, nbytes, 1)]
    if grads is None:
        calls = [lambda args=args: without_grad(lib, f, args) for args in made]
        return graphed(lib, Case(calls, lambda: [calls[0]()], work))
    outs = []
    for args in made:
        leaves = [args[i].requires_grad_() for i in grads]
        with lib.any_way():
            out = f(*args)
        outs.append((out, leaves, lib.normal(*out.shape)))
    calls = [lambda o=o: lib.torch.autograd.grad(o[0], o[1], o[2], retain_graph=True) for o in outs]
    return graphed(lib, Case(calls, lambda: list(calls[0]()), work))


def without_grad(lib: Library, f: Callable[..., Any], args: Sequence[Any]) -> Any:
    with lib.torch.no_grad():
        return f(*args)


def graphed(lib: Library, case: Case) -> Case:
    """In columns of graphs: the calls as one graph, which has no gaps between kernels.

    The current stream must be one that can be captured.
    """
    if lib.column not in GRAPHS or lib.device != "cuda":
        return case
    stream = lib.torch.cuda.current_stream()
    for call in case.calls:
        call()
    replay, kept = lib.captured(stream, lambda: [call() for call in case.calls])

    def results() -> list[Any]:
        replay()
        first = kept[0]
        return list(first) if isinstance(first, tuple | list) else [first]
    return Case([replay], results, case.work, len(case.calls), keep=case)


def rows_of_both(family: str, name: str, make: Callable[[Library, bool], tuple[Any, Any]],
                 ahead: Count, back: Count | None, wanted: Sequence[int] = (0,), **kw: Any) -> None:
    """A row for forward and one for backward.

    make: (library, dry) to (function, what makes its inputs); wanted: the inputs with gradients.
    """
    row("ops", family, f"{name} forward" if back else name, **kw)(
        lambda lib, dry: function(lib, *make(lib, dry), None, ahead))
    if back:
        row("ops", family, f"{name} backward", **kw)(
            lambda lib, dry: function(lib, *make(lib, dry), wanted, back))


def both(passes_ahead: float, passes_back: float) -> tuple[Count, Count]:
    """Counts for what goes over its first input so many times."""
    return (lambda inputs: (passes_ahead * inputs[0].numel(), 0.0),
            lambda inputs: (passes_back * inputs[0].numel(), 0.0))
