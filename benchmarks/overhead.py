"""What gpugrad adds to one NumPy call on 8x8 float32, without and with gradients, and to an import.

    python benchmarks/overhead.py [--threads 1] [--rounds 31] [--json FILE]

With gradients: once with operands that are results of other operations ("grad"), and once with
leaves ("leaf") that no other graph uses. Every variant runs in every round, so that a busy moment
hits all of them; printed are medians.
"""
from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import timeit
from pathlib import Path
from typing import Any

from measure import describe, installed, limit_threads, machine, summary, write

LOOPS = 2000

# What is timed: the barest NumPy call, and the same as a user writes it for tensors.
OPS = {
    "add": ("add(a, b)", "a + b"),
    "mul": ("multiply(a, b)", "a * b"),
    "exp": ("exp(a)", "torch.exp(a)"),
    "relu": ("maximum(a, zero)", "torch.relu(a)"),
    "matmul": ("dot(a, b)", "a @ b"),
    "sum": ("reduce(a, None)", "a.sum()"),
}
CHAIN = "\n".join(["x = (a * b + a).relu()"] + ["x = (x * b + a).relu()"] * 2 +
                  ["x.sum().backward()"])


def main() -> None:
    parser = argparse.ArgumentParser(description="The overhead of one op, and of an import.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()

    limit_threads(options.threads)
    facts = machine(options.threads)
    print(describe(facts))
    ops = measure_ops(options.rounds, options.threads)
    print_ops(ops)
    imports = measure_imports(options.rounds)
    print_imports(imports)
    write(options.json, {"machine": facts, "ns": ops, "import_seconds": imports})


def measure_ops(rounds: int, threads: int) -> dict[str, dict[str, dict[str, float]]]:
    """Nanoseconds of a call: op to variant to median and spread."""
    spaces = namespaces(threads)
    timers: dict[tuple[str, str], timeit.Timer] = {}
    for op, (bare, tensor) in OPS.items():
        for variant, space in spaces.items():
            timers[op, variant] = timeit.Timer(bare if variant == "numpy" else tensor,
                                               globals=space)
    for library in "gpugrad", "torch":
        if f"{library} leaf" in spaces:
            timers["chain of 10", f"{library} grad"] = timeit.Timer(
                CHAIN, globals=spaces[f"{library} leaf"])

    times: dict[tuple[str, str], list[float]] = {key: [] for key in timers}
    for timer in timers.values():
        timer.timeit(LOOPS)                        # warms up
    for _ in range(rounds):
        for key, timer in timers.items():
            loops = LOOPS // 20 if key[0] == "chain of 10" else LOOPS
            times[key].append(1e9 * timer.timeit(loops) / loops)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for (op, variant), values in times.items():
        results.setdefault(op, {})[variant] = summary(values)
    return results


def namespaces(threads: int) -> dict[str, dict[str, Any]]:
    """The names that the timed statements use, for each variant."""
    import numpy as np

    a, b = np.random.default_rng(0).random((2, 8, 8), np.float32)
    spaces = {"numpy": {"a": a, "b": b, "zero": np.asarray(0, np.float32), "add": np.add,
                        "multiply": np.multiply, "exp": np.exp, "maximum": np.maximum,
                        "dot": np.dot, "reduce": np.add.reduce}}
    for library in "gpugrad", "torch":
        if installed(library):
            torch = importlib.import_module(library)
            if library == "torch":
                torch.set_num_threads(threads)
            spaces[library] = {"torch": torch, "a": torch.tensor(a), "b": torch.tensor(b)}
            x, y, p, q = (torch.tensor(array, requires_grad=True) for array in (a, b, a, b))
            spaces[f"{library} leaf"] = {"torch": torch, "a": x, "b": y}
            spaces[f"{library} grad"] = {"torch": torch, "a": p * 1, "b": q * 1}
    return spaces


def print_ops(results: dict[str, dict[str, dict[str, float]]]) -> None:
    """The table; "added" is what gpugrad adds, in NumPy calls."""
    variants = ["", " grad", " leaf"]
    torch = "torch" in results["add"]
    print(f"\n{'':12}{'NumPy':>8}{'gpugrad':>10}{'grad':>8}{'leaf':>8}{'added':>9}{'grad':>8}"
          f"{'leaf':>8}" + (f"{'torch':>9}{'grad':>8}{'leaf':>8}" if torch else ""))
    for op, row in results.items():
        ns = {variant: value["median"] for variant, value in row.items()}
        bare = ns.get("numpy")
        cells = [f"{bare:8,.0f}" if bare else " " * 8, "  "]
        cells += [number(ns, f"gpugrad{variant}") for variant in variants]
        cells += [" ", *(f"{(ns[f'gpugrad{variant}'] - bare) / bare:7.2f}x" if bare else " " * 8
                         for variant in variants)]
        if torch:
            cells += [" ", *(number(ns, f"torch{variant}") for variant in variants)]
        print(f"{op:12}" + "".join(cells))
    print("ns a call. Aim for what is added: at most 1.67x without gradients and 3.33x with them\n"
          "(1 and 2 us where NumPy takes 0.6). The chain is 9 ops, a sum and backward.")


def number(ns: dict[str, float], variant: str) -> str:
    return f"{ns[variant]:8,.0f}" if variant in ns else " " * 8


def measure_imports(rounds: int) -> dict[str, dict[str, float]]:
    """Seconds that an import takes in a fresh process; gpugrad's includes NumPy's."""
    libraries = [name for name in ("numpy", "gpugrad", "torch") if installed(name)]
    times: dict[str, list[float]] = {name: [] for name in libraries}
    with tempfile.TemporaryDirectory() as cache:
        # Compiled modules are kept, as they are after an installation, but not in a checkout.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for i in range(min(rounds, 15) + 1):
            for name in libraries:
                code = (f"import time; t = time.perf_counter(); import {name}; "
                        f"print(time.perf_counter() - t)")
                out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                                     check=True, env=environment).stdout
                if i:                              # the first one fills the caches
                    times[name].append(float(out))
    return {name: summary(values) for name, values in times.items()}


def print_imports(results: dict[str, dict[str, float]]) -> None:
    numpy = results["numpy"]["median"]
    print("\nimport in a fresh process: " + ", ".join(
        f"{name} {1e3 * value['median']:,.0f} ms ({value['median'] / numpy:.2f}x)"
        for name, value in results.items()) + ". Aim: gpugrad at most 1.5x NumPy.")


if __name__ == "__main__":
    main()
