"""What the benchmarks share: where gpugrad is, thread limits, medians, the machine, JSON files."""
from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


if not installed("gpugrad"):            # then it is this checkout's, in processes started here too
    sys.path.append(str(ROOT))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"),
                                                             str(ROOT)]))


def limit_threads(threads: int) -> None:
    """Let BLAS and OpenMP use so many threads. Call it before NumPy or torch is imported."""
    for library in "OPENBLAS", "MKL", "OMP", "VECLIB_MAXIMUM", "NUMEXPR":
        os.environ[f"{library}_NUM_THREADS"] = str(threads)


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, and the spread: half the distance between the quartiles."""
    if len(values) < 2:
        return {"median": values[0], "spread": 0.0}
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "spread": (high - low) / 2}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Median, and the values that a tenth is below and above."""
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return {"median": statistics.median(values), "p10": tenths[0], "p90": tenths[-1]}


def version(package: str) -> str:
    """Of an installed package, or of this checkout's gpugrad."""
    return str(importlib.import_module("gpugrad").__version__ if package == "gpugrad"
               else importlib.metadata.version(package))


def machine(threads: int | Sequence[int]) -> dict[str, Any]:
    """What the numbers depend on."""
    packages = {package: version(package) for package in ("gpugrad", "numpy", "torch")
                if package == "gpugrad" or installed(package)}
    return {"cpu": _cpu(), "cores": os.cpu_count(), "threads": threads,
            "python": platform.python_version(), **packages}


def load() -> float:
    """How many processes wanted to run in the last minute; 0 where the system doesn't tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def describe(facts: dict[str, Any]) -> str:
    """One line for the head of a table."""
    packages = ", ".join(f"{name} {facts[name]}" for name in ("gpugrad", "numpy", "torch")
                         if name in facts)
    counts = facts["threads"] if isinstance(facts["threads"], list) else [facts["threads"]]
    threads = f"{' and '.join(map(str, counts))} thread{'s' * (counts != [1])}"
    return (f"{facts['cpu']}, {facts['cores']} cores, {threads}; "
            f"Python {facts['python']}, {packages}")


def write(path: Path | None, results: dict[str, Any]) -> None:
    """Write the results as JSON if a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n")


def read(path: Path) -> dict[str, Any]:
    """What ``write`` wrote."""
    return json.loads(path.read_text())
