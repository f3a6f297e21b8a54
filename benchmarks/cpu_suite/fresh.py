"""What only a fresh process shows: time to import, peak memory; and what an installation takes."""
from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cpu_suite.rows import Case, Library, row
from measure import ROOT

BOTH = ("torch", "gpugrad")
_compiled: list[tempfile.TemporaryDirectory[str]] = []      # where modules of a checkout are kept

SECONDS = """
import time
began = time.perf_counter()
import {library}
{then}
print(time.perf_counter() - began)
"""
FIRST_STEP = """
from cpu_suite import networks, rows
networks.lenet_step(rows.Library("{library}"), 16).results()
"""
# The peak since this program began: getrusage's may be that of the process that started it.
MEMORY = """
import sys
from cpu_suite import networks, rows
lib = rows.Library("{library}")
lib.torch.set_num_threads({threads})
case = networks.{step}(lib, {batch})
for _ in range({steps}):
    case.call()
try:
    with open("/proc/self/status") as file:
        print(next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM")))
except OSError:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak if sys.platform == "darwin" else 1024 * peak)
"""


def python(code: str, threads: int, modules: str | None = None) -> float:
    """The number that a fresh Python prints; ``modules``: where it keeps compiled modules."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [
        str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH")]))}
    for name in "OPENBLAS", "MKL", "OMP":
        environment[f"{name}_NUM_THREADS"] = str(threads)
    if modules:
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = modules
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                         env=environment, check=False)
    if run.returncode:
        raise RuntimeError((run.stderr.strip().splitlines() or ["it ended without a word"])[-1])
    return float((run.stdout.split() or ["nan"])[-1])


def import_seconds(library: str, then: str = "") -> float:
    """Compiled modules are kept, as they are after an installation; torch's lie beside it."""
    modules = None
    if library == "gpugrad":
        if not _compiled:
            _compiled.append(tempfile.TemporaryDirectory())
            python("import gpugrad.nn, gpugrad.optim\n" + FIRST_STEP.format(library=library), 1,
                   _compiled[0].name)
        modules = _compiled[0].name
    return python(SECONDS.format(library=library, then=then.format(library=library)), 1, modules)


def peak(library: str, threads: int, step: str, batch: int, steps: int) -> float:
    """Bytes."""
    return python(MEMORY.format(library=library, threads=threads, step=step, batch=batch,
                                steps=steps), threads)


# What an installation takes -----------------------------------------------------------------------

def installed_bytes(package: str, seen: set[str] | None = None) -> int:
    """The files of a distribution, and of what it can't do without."""
    seen = set() if seen is None else seen
    if package in seen:
        return 0
    seen.add(package)
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        if package != "gpugrad":            # not for this system
            return 0
        return checkout_bytes() + installed_bytes("numpy", seen)
    files = [Path(str(f.locate())) for f in found.files or []]
    total = sum([f.stat().st_size for f in files if f.is_file()])
    if package == "gpugrad" and not any(f.name == "_tensor.py" for f in files):
        total += checkout_bytes()           # installed as a link to here
    for line in found.requires or []:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0].lower()
        if ";" not in line or needed(line):
            total += installed_bytes(name, seen)
    return total


def needed(requirement: str) -> bool:
    """Does its marker hold here? Without the package that can tell, no."""
    if importlib.util.find_spec("packaging") is None:
        return False
    from packaging.requirements import Requirement

    marker = Requirement(requirement).marker
    return marker is None or marker.evaluate({"extra": ""})


def checkout_bytes() -> int:
    """What an installation would have of this checkout, with comments, so a little less."""
    files = [*(ROOT / "gpugrad").rglob("*.py"), *(ROOT / "kernels").rglob("*.*")]
    return sum([f.stat().st_size for f in files if "cudasim" not in f.parts])


# Rows ---------------------------------------------------------------------------------------------

def nothing(lib: Library, size: int) -> Case:
    raise NotImplementedError("measured in processes of its own")


def imports(library: str, threads: int, size: int) -> Sequence[float]:
    return [import_seconds(library)]


def first_step(library: str, threads: int, size: int) -> Sequence[float]:
    return [import_seconds(library, FIRST_STEP)]


def install(library: str, threads: int, size: int) -> Sequence[float]:
    return [float(installed_bytes(library))]


row("start", "import", columns=BOTH, fresh=imports, aims={"gpugrad": 10.0}, once=True)(nothing)
row("start", "import, LeNet, its first steps", columns=BOTH, fresh=first_step, once=True)(nothing)
row("start", "installation with what it needs", columns=BOTH, fresh=install, unit="B",
    aims={"gpugrad": 10.0}, once=True)(nothing)
for name, step, size, aim in (
        ("LeNet, batch 64", "lenet_step", (64, 8), 4.0),
        ("ResNet-18 for CIFAR, batch 32", "resnet_step", (32, 2), 1.0)):
    row("memory", name, columns=BOTH, unit="B", aims={"gpugrad": aim}, size=size,
        fresh=lambda library, threads, size, step=step: [peak(library, threads, step, size, 3)]
        )(nothing)
