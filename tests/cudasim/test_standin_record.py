"""api.json is what the installed CuPy has, and the stand-in offers nothing beyond it."""
from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpugrad.cudasim.cupy import _record

ROOT = Path(__file__).resolve().parents[2]
OURS = "gpugrad.cudasim."


def test_the_record_is_the_installed_cupys() -> None:
    if importlib.util.find_spec("cupy") is None and "cupy" not in sys.modules:
        pytest.skip("CuPy is not installed")
    code = ("import json, sys; from gpugrad.cudasim import recorder\n"
            "try: import cupy\nexcept ImportError: sys.exit(3)\n"
            "print(cupy.__version__); print(recorder.text(recorder.record()), end='')")
    environment = {n: v for n, v in os.environ.items() if n != "GPUGRAD_CUDA"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100,
                         env={**environment, "PYTHONPATH": str(ROOT)})
    if run.returncode == 3:
        pytest.skip("CuPy is not installed")
    assert run.returncode == 0, run.stderr
    version, _, made = run.stdout.partition("\n")
    if version != _record.RECORD["version"]:
        pytest.skip(f"CuPy {version} is installed, and {_record.RECORD['version']} recorded: "
                    f"python -m gpugrad.cudasim.recorder, and look at what changed")
    kept = (ROOT / "gpugrad/cudasim/api.json").read_text(encoding="utf-8")
    assert json.loads(made) == json.loads(kept) and made == kept


def public(owner: Any) -> set[str]:
    """Names of a module's own, or of a class."""
    def own(name: str, v: Any) -> bool:
        place = v.__name__ if inspect.ismodule(v) else getattr(v, "__module__", OURS)
        return not name.startswith("_") and (inspect.isclass(owner) or place.startswith(OURS[:-1]))
    return {n for n, v in vars(owner).items() if own(n, v)} - {"annotations"}


@pytest.mark.parametrize("name", [m for m in _record.MODULES if m not in (
    "cupy.linalg", "cupy.fft", "cupy.cuda.memory", "cupy.cuda.runtime")])
def test_modules_have_no_other_names(name: str) -> None:
    module = importlib.import_module(OURS + name)
    found = {n for n in public(module)
             if getattr(getattr(module, n), "__module__", OURS + name).startswith(OURS + name)}
    found -= {"ufuncs", *(n for n in found if f"{name}.{n}" in _record.CLASSES)}
    assert found <= set(_record.MODULES[name])


def class_of(path: str) -> Any:
    owner, _, name = path.rpartition(".")
    if owner == "cupy._core.flags":
        owner = "cupy._array"
    return getattr(importlib.import_module(OURS + owner), name, None)


@pytest.mark.parametrize("path", [c for c in _record.CLASSES if class_of(c)])
def test_classes_have_no_other_members(path: str) -> None:
    recorded = _record.CLASSES[path]
    added = {"cupy.ndarray": set(), "cupy.RawModule": {"module"}}.get(path, set())
    for kind in class_of(path).__mro__:
        if kind.__module__.startswith(OURS):
            assert public(kind) - added <= set(recorded), kind


@pytest.mark.parametrize("path", [c for c in _record.CLASSES if class_of(c)])
def test_methods_take_no_other_arguments(path: str) -> None:
    for name, recorded in _record.CLASSES[path].items():
        method = getattr(class_of(path), name, None)
        if recorded is None or not inspect.isfunction(method):
            continue
        ours = [p for p in inspect.signature(method).parameters.values() if p.name != "self"]
        if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in ours):
            continue                            # bound by the record itself
        known = [p.lstrip("*") for p in recorded]
        assert [p.name for p in ours] == [n for n in known if n][:len(ours)], f"{path}.{name}"


def test_functions_take_no_other_arguments() -> None:
    for name in ("cupy", "cupyx", "cupy.cuda.nvtx"):
        module = importlib.import_module(OURS + name)
        for n, recorded in _record.MODULES[name].items():
            f = vars(module).get(n)
            if recorded is None or not inspect.isfunction(f) or f.__name__ == "call":
                continue
            ours = list(inspect.signature(f).parameters.values())
            if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in ours):
                continue
            assert {p.name for p in ours} <= {r.lstrip("*") for r in recorded}, f"{name}.{n}"
