"""What the benchmarks share: thread limits, medians and spreads, the machine, the JSON file."""
from __future__ import annotations

import importlib.util
import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def limit_threads(threads: int) -> None:
    """Let BLAS and OpenMP use so many threads. Call it before NumPy or torch is imported."""
    for library in "OPENBLAS", "MKL", "OMP", "VECLIB_MAXIMUM", "NUMEXPR":
        os.environ[f"{library}_NUM_THREADS"] = str(threads)


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def summary(times: Sequence[float]) -> dict[str, float]:
    """Median, and the spread: half the distance between the quartiles."""
    low, median, high = statistics.quantiles(times, n=4)
    return {"median": median, "spread": (high - low) / 2}


def machine(threads: int) -> dict[str, Any]:
    """What the numbers depend on."""
    packages = {}
    for package in "gpugrad", "numpy", "torch":
        if installed(package):
            packages[package] = importlib.import_module(package).__version__
    return {"cpu": _cpu(), "cores": os.cpu_count(), "threads": threads,
            "python": platform.python_version(), **packages}


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
    threads = f"{facts['threads']} thread{'s' * (facts['threads'] > 1)}"
    return (f"{facts['cpu']}, {facts['cores']} cores, {threads}; "
            f"Python {facts['python']}, {packages}")


def write(path: Path | None, results: dict[str, Any]) -> None:
    """Write the results as JSON if a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n")
