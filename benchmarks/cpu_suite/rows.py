"""Rows of the suite: what a row measures, in which columns, and what it is to reach.

A row is declared by a function that makes its case for a library: what is timed, and what must
agree between the libraries before. The files of this folder declare them, a theme or more each.
"""
from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

# torch; gpugrad as it is; its recorded step; without the compiled helper; a call of NumPy alone.
COLUMNS = {"torch": "torch", "gpugrad": "gpugrad", "recorded": "recorded step",
           "numpy": "pure NumPy", "bare": "bare NumPy"}
OPS, EAGER, STEPS = ("torch", "gpugrad", "bare"), ("torch", "gpugrad", "numpy"), (
    "torch", "gpugrad", "recorded", "numpy")
SECOND_CORE = "two threads"             # the aim of a step: faster with two threads than with one


class Library:
    """One column's library, and the numbers that all of them compute with."""

    def __init__(self, column: str) -> None:
        self.column, self.name = column, "torch" if column == "torch" else "gpugrad"
        self.torch = importlib.import_module(self.name)     # before NumPy: docs/cpu.md says why
        import numpy as np

        self.np = np
        self.restart()

    def restart(self) -> None:
        """The same random numbers again."""
        self.steps: list[Any] = []              # recorded ones
        self.random = self.np.random.default_rng(0)
        self.torch.manual_seed(0)

    def record(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function as this column runs it."""
        if self.column != "recorded":
            return function
        self.steps.append(self.torch.graph_step(function))
        return self.steps[-1]

    def normal(self, *shape: int, grad: bool = False) -> Any:
        array = self.random.standard_normal(shape, self.np.float32)
        return self.torch.tensor(array, requires_grad=grad)

    def integers(self, below: int, *shape: int) -> Any:
        return self.torch.tensor(self.random.integers(0, below, shape))


@dataclass
class Case:
    """What a row is in one library."""

    call: Callable[[], Any] | str               # is timed: a function, or a statement ...
    results: Callable[[], Sequence[Any]]        # tensors or numbers that must agree
    names: dict[str, Any] = field(default_factory=dict)     # ... of these names


@dataclass(frozen=True)
class Row:
    """``size``: how much of it, and how little with --quick; mostly the images of a batch."""

    theme: str
    name: str
    make: Callable[[Library, int], Case]
    columns: tuple[str, ...] = EAGER
    aims: dict[str, float | tuple[float, float]] = field(default_factory=dict)
    tolerance: float = 1e-4                     # of the largest element
    size: tuple[int, int] = (0, 0)
    unit: str = "s"
    fresh: Callable[[str, int, int], Sequence[float]] | None = None     # in processes of its own
    once: bool = False                          # threads make no difference

    @property
    def key(self) -> str:
        return f"{self.theme}/{self.name}"

    def title(self, quick: bool) -> str:
        """The name, with what --quick made of it."""
        return f"{self.name} [{self.size[1]}]" if quick and len(set(self.size)) > 1 else self.name

    def aim(self, column: str, threads: int) -> float | None:
        """What the ratio in a column is to reach."""
        aim = self.aims.get(column)
        return aim[min(threads, 2) - 1] if isinstance(aim, tuple) else aim


ROWS: dict[str, Row] = {}
THEMES = {
    "overhead": "Overhead: float32 tensors of 8x8",
    "lenet": "LeNet, a training step with SGD, images of 32x32",
    "conv": "Convolution",
    "pool": "Pooling, forward and backward",
    "norm": "Normalization, forward and backward",
    "function": "Functions and losses, forward and backward",
    "attention": "Attention, embedding, LSTM, forward and backward",
    "optim": "Optimizers, a step",
    "data": "Loading data",
    "resnet": "ResNet-18 for CIFAR, a training step with SGD",
    "gpt": "GPT, a training step with AdamW",
    "start": "Start and size",
    "memory": "Peak memory of training, a fresh process",
}


def row(theme: str, name: str, **kw: Any) -> Callable[[Any], Any]:
    """Declare a row by the function that makes its case."""
    def declare(make: Callable[[Library, int], Case]) -> Callable[[Library, int], Case]:
        made = Row(theme, name, make, **kw)
        if made.key in ROWS:
            raise ValueError(f"the row {made.key} is there already")
        ROWS[made.key] = made
        return make
    return declare


def load() -> dict[str, Row]:
    """All rows, theme by theme."""
    for name in "networks", "overhead", "layers", "training", "fresh":
        importlib.import_module(f"cpu_suite.{name}")
    ROWS.update({key: ROWS.pop(key) for theme in THEMES
                 for key in [k for k in ROWS if ROWS[k].theme == theme]})
    return ROWS


def select(patterns: Iterable[str] | None) -> list[Row]:
    """The rows that are named: "lenet", "lenet/batch 1", or with * and ?."""
    rows = list(load().values())
    if patterns is None:
        return rows
    found: set[str] = set()
    for pattern in patterns:
        hits = {r.key for r in rows if pattern == r.theme or fnmatch.fnmatchcase(r.key, pattern)}
        if not hits:
            raise SystemExit(f"--only: there is no row {pattern!r}; --list shows all of them")
        found |= hits
    return [r for r in rows if r.key in found]


# Cases of the usual kinds -------------------------------------------------------------------------

def function(lib: Library, f: Callable[..., Any], inputs: Sequence[Any], backward: bool) -> Case:
    """f(*inputs), and its backward from a gradient of normal numbers."""
    leaves = [x for x in inputs if x.requires_grad]
    out = f(*inputs)
    g = lib.normal(*out.shape)

    def call() -> Any:
        for x in leaves:
            x.grad = None
        out = f(*inputs)
        if backward:
            out.backward(g)
        return out

    return Case(call, lambda: [call(), *[x.grad for x in leaves if x.grad is not None]])


def training(lib: Library, net: Any, optimizer: Any, batch: Sequence[Any],
             loss: Callable[..., Any] | None = None, clip: float = 0.0, checked: int = 5) -> Case:
    """A training step on one batch; the losses of the first steps must agree.

    A recorded step is replayed from the fourth on.
    """
    torch = lib.torch
    loss = loss or torch.nn.functional.cross_entropy

    @lib.record
    def step(*batch: Any) -> Any:
        optimizer.zero_grad()
        value = loss(net(*batch[:-1]), batch[-1])
        value.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
        return value

    return Case(lambda: step(*batch), lambda: [step(*batch).item() for _ in range(checked)])
