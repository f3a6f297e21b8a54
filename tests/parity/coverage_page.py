"""Writes docs/coverage.md: which of PyTorch's public names are here.

    python tests/parity/coverage_page.py
"""
from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"
NAMESPACES = ("torch", "torch.Tensor", "torch.nn.functional", "torch.nn", "torch.nn.init",
              "torch.nn.attention", "torch.nn.utils", "torch.nn.utils.parametrizations",
              "torch.nn.utils.parametrize", "torch.nn.utils.prune", "torch.nn.utils.rnn",
              "torch.nn.utils.stateless", "torch.linalg", "torch.fft", "torch.special",
              "torch.distributions", "torch.optim", "torch.optim.lr_scheduler",
              "torch.optim.swa_utils", "torch.autograd", "torch.autograd.functional",
              "torch.autograd.graph", "torch.func", "torch.cuda", "torch.amp", "torch.utils.data",
              "torch.utils.checkpoint", "torch.testing")


def namespace(package: str, name: str) -> Any:
    """torch.nn as that of torch or of gpugrad; None if it isn't there."""
    name = name.replace("torch", package, 1)
    try:
        return importlib.import_module(name)
    except ImportError:
        outer, _, last = name.rpartition(".")
        return getattr(importlib.import_module(outer), last, None) if outer else None


def public(space: Any) -> list[str]:
    """The functions and classes of a namespace of PyTorch's that have a documentation.

    What a module only imports isn't its own, but torch and torch.fft don't list all they gather.
    """
    listed = None if space.__name__ in ("torch", "torch.fft") else getattr(space, "__all__", None)
    names = []
    for name in dir(space):
        value = getattr(space, name, None)
        if name.startswith("_") or not callable(value) or isinstance(value, ModuleType):
            continue
        module = getattr(value, "__module__", None)
        if listed and name not in listed and module not in (None, space.__name__):
            continue
        if inspect.getdoc(value) and (module or "torch").partition(".")[0] == "torch":
            names.append(name)
    return sorted(names)


def page() -> str:
    """The text of docs/coverage.md."""
    import torch

    tables, lists = [], []
    for name in NAMESPACES:
        theirs, ours = namespace("torch", name), namespace("gpugrad", name)
        names = public(theirs)
        here = [n for n in names if ours is not None and hasattr(ours, n)]
        missing = [n for n in names if n not in here]
        tables.append(f"| `{name}` | {len(here)} | {len(names)} |")
        lists += [f"## {name}", ""]
        for title, group in (("Not here", missing), ("Here", here)):
            if group:
                lists += textwrap.wrap(f"{title}: " + ", ".join(f"`{n}`" for n in group) + ".", 110,
                                       break_long_words=False, break_on_hyphens=False) + [""]
    version = torch.__version__.partition("+")[0]
    return "\n".join([
        "# Which of PyTorch's names are here", "",
        f"The functions and classes with a documentation of PyTorch {version}, by "
        "`tests/parity/coverage_page.py`,", "which a test holds this page to. That a name is here "
        "says nothing about arguments that are refused:",
        "[differences.md](differences.md) does.", "",
        "| | here | in PyTorch |", "|---|---:|---:|", *tables, "", *lists]).rstrip() + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(PAGE.parents[1]))
    PAGE.write_text(page())
