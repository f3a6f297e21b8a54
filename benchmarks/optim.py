"""A step of every optimizer over 10 million parameters in 60 tensors, gpugrad beside PyTorch.

    python benchmarks/optim.py [--threads 1] [--rounds 21] [--only Adam SGD] [--out FOLDER]

On the CPU, in one process: in every round each optimizer makes a step with gpugrad, with PyTorch's
default form and, where there is one, with its fused form, one after the other. Printed are medians
over the rounds, and PyTorch's over gpugrad's. Before that the libraries make some steps from the
same numbers, and the benchmark stops if their parameters differ. Then the launches of a step on
CUDA are counted, on the simulated device; that needs a C++ compiler.

--out: a folder for optim.json and optim.md.
"""
from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from measure import describe, installed, limit_threads, machine, summary, write

MATRICES: list[tuple[int, ...]] = [(640, 640)] * 24
VECTORS: list[tuple[int, ...]] = [(4708,)] * 36
CHECKED_STEPS, TOLERANCE = 3, 1e-4
# Muon rounds to bfloat16 in between, and LBFGS' first differences of gradients are small.
TOLERANCES = {"Muon": 0.01, "LBFGS": 1e-3}
MOST_SECONDS = 30           # for the rounds of one optimizer, of which 3 are made at least
FUSED = ("SGD", "Adam", "AdamW", "Adagrad")
# What is measured of each; LBFGS makes four iterations in a step.
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {"lr": 1e-3}), "SGD, momentum": ("SGD", {"lr": 1e-3, "momentum": 0.9}),
    "Adam": ("Adam", {}), "AdamW": ("AdamW", {}), "Adam, amsgrad": ("Adam", {"amsgrad": True}),
    "Adamax": ("Adamax", {}), "NAdam": ("NAdam", {}), "RAdam": ("RAdam", {}),
    "Adagrad": ("Adagrad", {}), "Adadelta": ("Adadelta", {}), "RMSprop": ("RMSprop", {}),
    "RMSprop, centered": ("RMSprop", {"centered": True, "momentum": 0.9}), "Rprop": ("Rprop", {}),
    "ASGD": ("ASGD", {}), "Adafactor": ("Adafactor", {}), "Muon": ("Muon", {}),
    "LBFGS": ("LBFGS", {"lr": 0.1, "max_iter": 4, "history_size": 4}),
}
# Without kernels of their own: the array operations of their steps are not counted.
UNCOUNTED = ("Adafactor", "Muon", "LBFGS")


class Variant:
    """Parameters of one library, and an optimizer of them."""

    def __init__(self, library: str, name: str, shapes: Sequence[tuple[int, ...]] | None = None,
                 **form: Any) -> None:
        import numpy as np

        torch = self.torch = importlib.import_module(library)
        cls, kw = OPTIMIZERS[name]
        draw = np.random.default_rng(0).standard_normal
        if shapes is None:
            shapes = MATRICES if cls == "Muon" else MATRICES + VECTORS      # Muon is for matrices
        self.params = [torch.nn.Parameter(torch.from_numpy(draw(shape, "f4") * np.float32(0.02)))
                       for shape in shapes]
        for p in self.params:
            p.grad = torch.from_numpy(draw(tuple(p.shape), "f4") * np.float32(0.01))
        self.optimizer = getattr(torch.optim, cls)(self.params, **kw, **form)
        self.step = self.step_with_closure if cls == "LBFGS" else self.optimizer.step

    def step_with_closure(self) -> Any:
        """The gradient of half the sum of squares; the loss isn't worked out."""
        def closure() -> Any:
            with self.torch.no_grad():
                for p in self.params:
                    p.grad.copy_(p)
            return self.torch.zeros(())

        return self.optimizer.step(closure)

    def seconds(self) -> float:
        began = time.perf_counter()
        self.step()
        return time.perf_counter() - began


def variants(name: str) -> dict[str, Variant]:
    made = {"gpugrad": Variant("gpugrad", name)}
    if installed("torch"):
        made["torch"] = Variant("torch", name)
        if OPTIMIZERS[name][0] in FUSED:
            made["torch fused"] = Variant("torch", name, fused=True)
    return made


def measure(name: str, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of a step by form."""
    forms = variants(name)
    for form in forms.values():
        for _ in range(CHECKED_STEPS):
            form.step()
    reference = forms["gpugrad"].params
    for label, form in forms.items():
        for i, (p, q) in enumerate(zip(reference, form.params)):
            error = abs(p.detach().numpy() - q.detach().numpy()).max()
            if not error <= TOLERANCES.get(name, TOLERANCE):
                raise SystemExit(f"{name}: parameter {i} differs by {error:.2g} between gpugrad "
                                 f"and {label}")
    times: dict[str, list[float]] = {label: [] for label in forms}
    began = time.perf_counter()
    for i in range(rounds):
        if i >= 3 and time.perf_counter() - began > MOST_SECONDS:
            break
        for label, form in forms.items():
            times[label].append(form.seconds())
    return {label: summary(values) for label, values in times.items()}


# Launches on CUDA ---------------------------------------------------------------------------------

def count_launches() -> Iterator[tuple[str, str, int]]:
    """(optimizer, how its parameters are grouped, launches of a step), on the simulated device."""
    import gpugrad as torch
    import gpugrad.cuda
    import gpugrad.optim

    layouts = {"one group": (1, ("float32",)), "two groups": (2, ("float32",)),
               "two dtypes": (1, ("float32", "float64")), "on the device": (1, ("float32",))}
    for name, (cls, kw) in OPTIMIZERS.items():
        if cls in UNCOUNTED:
            continue
        for layout, (groups, kinds) in layouts.items():
            params = [torch.nn.Parameter(torch.ones(3, dtype=getattr(torch, kinds[i % len(kinds)]),
                                                    device="cuda"))
                      for i in range(len(MATRICES + VECTORS))]
            for p in params:
                p.grad = torch.ones_like(p)
            rate = kw.get("lr", 1e-3)
            if layout == "on the device":
                rate = torch.tensor(rate, device="cuda")
            each = len(params) // groups
            optimizer = getattr(torch.optim, cls)(
                [{"params": params[i * each:(i + 1) * each]} for i in range(groups)],
                **{**kw, "lr": rate})
            optimizer.step()
            gpugrad.cuda.sim.reset()
            optimizer.step()
            yield name, layout, gpugrad.cuda.sim.stats().launches


def counted_elsewhere() -> dict[str, dict[str, int]] | str:
    """The launches, counted by a process with the simulated device; or why there are none."""
    run = subprocess.run([sys.executable, __file__, "--count-launches"], capture_output=True,
                         text=True, env={**os.environ, "GPUGRAD_CUDA": "sim"}, check=False)
    if run.returncode:
        return (run.stderr.strip().splitlines() or ["it ended without a word"])[-1]
    found: dict[str, dict[str, int]] = {}
    for line in run.stdout.splitlines():
        name, layout, count = line.split("\t")
        found.setdefault(name, {})[layout] = int(count)
    return found


# Reports ------------------------------------------------------------------------------------------

def ratio(row: dict[str, dict[str, float]], form: str) -> str:
    return f"{row[form]['median'] / row['gpugrad']['median']:.2f}x" if form in row else ""


def markdown(results: dict[str, Any]) -> str:
    """The tables of both parts."""
    lines = ["# A step of every optimizer", "", describe(results["machine"]), "",
             f"{results['parameters'] / 1e6:.1f} million float32 parameters in "
             f"{results['tensors']} tensors (Muon: the matrices among them). Milliseconds of a "
             "step: median, and half the distance between the quartiles. The ratios are "
             "PyTorch's time over gpugrad's.", "",
             "| | gpugrad | torch | torch fused | torch / gpugrad | fused / gpugrad |",
             "|---|---|---|---|---|---|"]
    for name, row in results["seconds"].items():
        cells = [f"{1e3 * row[f]['median']:.2f} ± {1e3 * row[f]['spread']:.2f}" if f in row else ""
                 for f in ("gpugrad", "torch", "torch fused")]
        lines.append(f"| {name} | " + " | ".join([*cells, ratio(row, "torch"),
                                                  ratio(row, "torch fused")]) + " |")
    lines += ["", "## Launches of a step on CUDA", ""]
    counts = results["launches"]
    if isinstance(counts, str):
        return "\n".join([*lines, f"Not counted: {counts}", ""])
    layouts = list(next(iter(counts.values())))
    lines += ["Counted on the simulated device; with the learning rate on the device a small "
              "kernel works out the numbers first.", "",
              "| | " + " | ".join(layouts) + " |", "|---" * (1 + len(layouts)) + "|"]
    lines += [f"| {name} | " + " | ".join(map(str, row.values())) + " |"
              for name, row in counts.items()]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description="Optimizer steps, gpugrad beside PyTorch.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(OPTIMIZERS))
    parser.add_argument("--out", type=Path, metavar="FOLDER")
    parser.add_argument("--count-launches", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count_launches:
        for found in count_launches():
            print(*found, sep="\t")
        return

    limit_threads(options.threads)
    if installed("torch"):
        importlib.import_module("torch").set_num_threads(options.threads)
    importlib.import_module("gpugrad.optim")
    facts = machine(options.threads)
    shapes = MATRICES + VECTORS
    count = sum([shape[0] * shape[-1] if len(shape) > 1 else shape[0] for shape in shapes])
    print(describe(facts))
    print(f"a step over {count / 1e6:.1f} million parameters in {len(shapes)} tensors\n")
    print(f"{'':18}" + "".join(f"{label + ' ms':>20}" for label in
                                ("gpugrad", "torch", "torch fused"))
          + f"{'torch / gpugrad':>18}{'fused / gpugrad':>18}")
    seconds = {}
    for name in options.only or OPTIMIZERS:
        seconds[name] = row = measure(name, options.rounds)
        cells = [f"{1e3 * row[f]['median']:.2f} +- {1e3 * row[f]['spread']:.2f}" if f in row else ""
                 for f in ("gpugrad", "torch", "torch fused")]
        print(f"{name:18}" + "".join(f"{cell:>20}" for cell in cells)
              + f"{ratio(row, 'torch'):>18}{ratio(row, 'torch fused'):>18}", flush=True)
    launches = counted_elsewhere()
    print("\nlaunches of a step on CUDA")
    if isinstance(launches, str):
        print("not counted:", launches)
    else:
        for name, counts in launches.items():
            print(f"{name:18}" + ", ".join(f"{layout}: {n}" for layout, n in counts.items()))
    results = {"machine": facts, "parameters": count, "tensors": len(shapes), "seconds": seconds,
               "launches": launches}
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write(options.out / "optim.json", results)
        (options.out / "optim.md").write_text(markdown(results))


if __name__ == "__main__":
    main()
