"""Which lines of .cu files have run, by gcov: in this process and all others with the same cache.

Modules compiled in mode "coverage" count their lines and add the counts to files in the cache's
folder "coverage" when the process ends, or here. A line counts as executed if it was in any of the
variants (dtypes, options) that a file was compiled in.
"""
from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpugrad.cudasim import compiler


@dataclass
class Lines:
    """The lines of a file that have code, by number."""

    executed: set[int] = field(default_factory=set)
    missed: set[int] = field(default_factory=set)

    @property
    def percent(self) -> float:
        n = len(self.executed) + len(self.missed)
        return 100 * len(self.executed) / n if n else 100.0


def _folder() -> Path:
    return compiler.cache_folder() / "coverage"


def reset() -> None:
    """Forget all counts, those of this process too."""
    write()
    for path in _folder().glob("*/*.gcda"):
        path.unlink(missing_ok=True)


def write() -> None:
    """Add this process's counts to the files, from where it counts from 0 again."""
    for binary in compiler.counting:
        binary.library.cs_write_coverage.restype = None
        binary.library.cs_write_coverage()


def report() -> dict[str, Lines]:
    """For each source and header of what has run since ``reset``, by its name: its lines."""
    write()
    found: dict[str, Lines] = {}
    for counts in sorted(_folder().glob("*/*.gcda")):
        for file in _gcov(counts)["files"]:
            if not str(file["file"]).endswith((".cu", ".cuh")):
                continue
            lines = found.setdefault(file["file"], Lines())
            for line in file["lines"]:
                (lines.executed if line["count"] else lines.missed).add(line["line_number"])
    for lines in found.values():
        lines.missed -= lines.executed
    return dict(sorted(found.items()))


def _gcov(counts: Path) -> Any:
    """What gcov says of one module."""
    run = subprocess.run([_program(), "--json-format", "--stdout", counts.name], cwd=counts.parent,
                         capture_output=True, text=True)
    if run.returncode or not run.stdout:
        raise RuntimeError(f"gcov can't read {counts}: {run.stderr.strip()}")
    return json.loads(run.stdout)


def _program() -> str:
    """The gcov that belongs to the compiler."""
    path = Path(compiler.command()[0])
    beside = path.with_name(path.name.replace("g++", "gcov"))
    found = str(beside) if beside.name != path.name and beside.exists() else shutil.which("gcov")
    if not found:
        raise RuntimeError(f"mode coverage needs gcov, which comes with GCC, beside {path}")
    return found


def ranges(numbers: Iterable[int]) -> str:
    """{1, 2, 3, 7} as "1-3 7"."""
    parts: list[list[int]] = []
    for n in sorted(numbers):
        if parts and n == parts[-1][1] + 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return " ".join([f"{a}-{b}" if a != b else str(a) for a, b in parts])


def table(found: dict[str, Lines], expected: Iterable[str] = ()) -> tuple[str, float]:
    """The report as text, and the percentage of all lines.

    expected: names of sources; those that aren't in the report count as 0 of 1 lines.
    """
    rows, executed, total = [], 0, 0
    for name in sorted({*found, *(Path(e).name for e in expected)}):
        lines = found.get(name)
        if lines is None:
            rows.append(f"{name:24} never compiled")
            total += 1
            continue
        n = len(lines.executed) + len(lines.missed)
        executed, total = executed + len(lines.executed), total + n
        missed = f"  not executed: {ranges(lines.missed)}" if lines.missed else ""
        rows.append(f"{name:24} {n:5} lines {lines.percent:6.1f} %{missed}")
    percent = 100 * executed / total if total else 100.0
    return "\n".join([*rows, f"{'all':24} {total:5} lines {percent:6.1f} %"]), percent
