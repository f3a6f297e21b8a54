"""What each kernel may take of a multiprocessor: registers and shared memory by architecture.

``python tests/cuda/budgets.py`` measures all kernels with NVRTC from PyPI and writes the budgets
(budgets.json) and docs/kernels.md anew; ``--table`` writes the table alone, from the budgets.
"""
from __future__ import annotations

import functools
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import nvrtc as compiler

from gpugrad.backend import kernels

PATH = Path(__file__).with_name("budgets.json")
TABLE = Path(__file__).parents[2] / "docs" / "kernels.md"
GRANULE = 8         # registers of a thread are given out by so many: more up to it cost nothing
KINDS = ("registers", "shared")

Budgets = dict[str, Any]


@functools.cache
def read() -> Budgets:
    """{"nvrtc": version, "archs": [...], "kernels": {"file.kernel dtype": {kind: [by arch]}}}"""
    return dict(json.loads(PATH.read_text(encoding="utf-8")))


def excess(file: str, arch: int, dtype: str, used: compiler.Usage) -> list[str]:
    """What kernels of a file take beyond their budgets, in words."""
    budgets, found = read(), []
    at = budgets["archs"].index(arch)
    for name, u in used.items():
        key = f"{file}.{name} {dtype}"
        budget = budgets["kernels"].get(key)
        if budget is None:
            found.append(f"{key} has no budget")
            continue
        most = {"registers": -(-budget["registers"][at] // GRANULE) * GRANULE,
                "shared": budget["shared"][at]}
        found += [f"{key} sm_{arch}: {u[kind]} {kind}, more than {most[kind]}" for kind in KINDS
                  if u[kind] > most[kind]]
    return found


def measured(task: tuple[str, str]) -> dict[str, Any]:
    """The budgets of one file and dtype."""
    file, dtype = task
    nvrtc = compiler.find()
    assert nvrtc is not None, f"install {compiler.WHEELS}"
    out: dict[str, Any] = {}
    for arch in compiler.ARCHS:
        for name, used in compiler.compiled(nvrtc, file, arch, dtype).items():
            entry = out.setdefault(f"{file}.{name} {dtype}", {kind: [] for kind in KINDS})
            for kind in KINDS:
                entry[kind].append(used[kind])
    return out


def measure() -> Budgets:
    """The budgets of all kernels, as they are now."""
    nvrtc = compiler.find()
    assert nvrtc is not None, f"install {compiler.WHEELS}"
    tasks = [(file, dtype) for file in kernels.sources() for dtype in compiler.DTYPES]
    found: dict[str, Any] = {}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for part in pool.map(measured, tasks):
            found.update(part)
    order = {dtype: i for i, dtype in enumerate(compiler.DTYPES)}
    keys = sorted(found, key=lambda key: (key.split()[0], order[key.split()[1]]))
    return {"nvrtc": nvrtc.version, "archs": list(compiler.ARCHS),
            "kernels": {key: found[key] for key in keys}}


def as_json(budgets: Budgets) -> str:
    """A line for each kernel and dtype, so that changes can be read."""
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}"
                       for key, value in budgets["kernels"].items())
    return (f'{{"nvrtc": {json.dumps(budgets["nvrtc"])},\n "archs": {json.dumps(budgets["archs"])},'
            f'\n "kernels": {{\n{lines}\n}}}}\n')


def as_table(budgets: Budgets) -> str:
    """The table for the documentation: registers, and shared memory where there is any."""
    archs = budgets["archs"]
    lines = [
        "# What the CUDA kernels take", "",
        "Registers of a thread, and behind a + the bytes of shared memory of a block, of each "
        f"kernel as NVRTC {budgets['nvrtc']} compiles it. None spills a register. "
        "`python tests/cuda/budgets.py` writes this file; `tests/cuda/test_nvrtc.py` fails if a "
        f"kernel takes more than this, registers rounded up to a multiple of {GRANULE}.", "",
        "| File | Kernel | dtype | " + " | ".join(f"sm_{arch}" for arch in archs) + " |",
        "|---|---|---|" + "---|" * len(archs)]
    for key, value in budgets["kernels"].items():
        name, dtype = key.split()
        file, kernel = name.split(".")
        cells = [f"{r} + {s}" if s else f"{r}" for r, s in zip(value["registers"], value["shared"])]
        lines.append(f"| {file}.cu | {kernel} | {dtype} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    if "--table" not in sys.argv:
        PATH.write_text(as_json(measure()), encoding="utf-8")
    TABLE.write_text(as_table(read()), encoding="utf-8")


if __name__ == "__main__":
    main()
