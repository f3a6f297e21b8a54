"""``run``: a program written for PyTorch, with torch's name served by gpugrad."""
from __future__ import annotations

import os
import runpy
import sys
import tempfile
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from gpugrad.command.line import fail
from gpugrad.command.stand_ins import StandIns

SERVED = {"torch": "gpugrad", "torchvision": "gpugrad.vision"}
# What they follow, and so what programs that ask for a version get.
VERSIONS = {"gpugrad": "2.13.0", "gpugrad.version": "2.13.0", "gpugrad.vision": "0.28.0"}


class Alias(MetaPathFinder, Loader):
    """Finds ``torch`` and all under it as gpugrad's modules: the same objects under two names.

    So it does with ``torchvision``, which couldn't be imported if torch is not PyTorch.
    """

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        ours = fullname.partition(".")[0] in SERVED
        return ModuleSpec(fullname, self, is_package=True) if ours else None

    def create_module(self, spec: ModuleSpec) -> Any:
        top, dot, rest = spec.name.partition(".")
        ours = SERVED[top] + dot + rest
        try:
            module: Any = import_module(ours)
        except ModuleNotFoundError as e:
            if e.name != ours:
                raise
            raise ModuleNotFoundError(f"No module named {spec.name!r}: gpugrad has no {ours}",
                                      name=spec.name) from None
        self.spec = module.__spec__
        if ours in VERSIONS:
            said = module.__version__
            own = said.partition("+gpugrad.")[2] or said
            module.__version__ = f"{VERSIONS[ours]}+gpugrad.{own}"
        if ours == "gpugrad":
            module.torch = module                # programs find it there by an accident
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec              # the import system has put the alias's in


def serve() -> None:
    """From now on ``import torch`` gives gpugrad, and ``import torchvision`` gpugrad.vision."""
    sys.meta_path.insert(0, Alias())
    sys.meta_path.append(StandIns())


# A module torch for processes that the program starts: DataLoader's with "spawn", or subprocesses.
_CHILD = """import sys
from gpugrad.command.script import serve
del sys.modules[__name__]
serve()
__import__(__name__)
"""
_FOLDER = "gpugrad-serves-"


def _serve_children(folder: str) -> None:
    for name in SERVED:
        Path(folder, f"{name}.py").write_text(_CHILD)
    root = str(Path(__file__).parents[2])
    before = [os.environ[name] for name in ("PYTHONPATH",) if os.environ.get(name)]
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, *before, root])
    sys.path.insert(1, folder)                   # spawned processes get this list


def _has_pytorch() -> bool:
    found = PathFinder.find_spec("torch")
    return found is not None and _FOLDER not in (found.origin or "")


def run(options: Any) -> int:
    """Run the program as Python would; its exit status is the command's."""
    if not options.force and _has_pytorch():
        return fail("PyTorch is installed here, and the program may be meant for it: say --force "
                    "to run it with gpugrad")
    if not options.module and not Path(options.script).is_file():
        return fail(f"there is no file {options.script}")
    serve()
    sys.argv = [options.script, *options.arguments]
    folder = "" if options.module else str(Path(options.script).resolve().parent)
    sys.path.insert(0, folder)
    with tempfile.TemporaryDirectory(prefix=_FOLDER) as served:
        _serve_children(served)
        if options.module:
            runpy.run_module(options.script, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(options.script, run_name="__main__")
    return 0
