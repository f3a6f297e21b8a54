"""``run``: a program written for PyTorch, with torch's name served by gpugrad."""
from __future__ import annotations

import runpy
import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from gpugrad.command.line import fail


class Alias(MetaPathFinder, Loader):
    """Finds ``torch`` and all under it as gpugrad's modules: the same objects under two names."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        ours = fullname.partition(".")[0] == "torch"
        return ModuleSpec(fullname, self, is_package=True) if ours else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        ours = "gpugrad" + spec.name[len("torch"):]
        try:
            module = import_module(ours)
        except ModuleNotFoundError as e:
            if e.name != ours:
                raise
            raise ModuleNotFoundError(f"No module named {spec.name!r}: gpugrad has no {ours}",
                                      name=spec.name) from None
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec              # the import system has put the alias's in


def serve() -> None:
    """From now on ``import torch`` gives gpugrad."""
    sys.meta_path.insert(0, Alias())


def run(options: Any) -> int:
    """Run the program as Python would; its exit status is the command's."""
    if not options.force and PathFinder.find_spec("torch") is not None:
        return fail("PyTorch is installed here, and the program may be meant for it: say --force "
                    "to run it with gpugrad")
    if not options.module and not Path(options.script).is_file():
        return fail(f"there is no file {options.script}")
    serve()
    sys.argv = [options.script, *options.arguments]
    if options.module:
        sys.path.insert(0, "")
        runpy.run_module(options.script, run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(options.script).resolve().parent))
        runpy.run_path(options.script, run_name="__main__")
    return 0
