"""What the host does for a step on CUDA, without a GPU: Python, gpugrad and CuPy, up to the launch.

    python benchmarks/host.py [--rounds 9] [--only lenet] [--json FILE] [--markdown FILE]

A GPU waits while Python gets the next kernel ready, if that takes longer than the last kernel ran:
with small networks it always does. This measures that time with the CuPy that is installed, on a
simulated driver (docs/testing-without-a-gpu.md), whose launches do nothing while the clock runs;
cuBLAS is a library of functions that return at once. So a GPU's driver comes on top: some
microseconds for every launch of an eager step, once for a graph. Medians over the rounds, of the
fastest calls in each.

It needs CuPy (pip install cupy-cuda12x) and g++.
"""
from __future__ import annotations

import argparse
import ctypes
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import describe, limit_threads, machine, summary, write

Step = Callable[[], Any]
_CUBLAS = "".join(f"int {name}() {{ return 0; }}\n" for name in (
    "cublasDestroy_v2", "cublasSetStream_v2", "cublasSetWorkspace_v2", "cublasSetMathMode",
    "cublasGemmEx", "cublasGemmStridedBatchedEx")) + """
int cublasCreate_v2(void** handle) { *handle = (void*) 1; return 0; }
int cublasGetVersion_v2(void* handle, int* version) { *version = 120900; return 0; }
"""


def prepare() -> Any:
    """gpugrad on CuPy itself, whose products cost what a call of cuBLAS costs."""
    from gpugrad.cudasim import driver

    driver.install()
    from gpugrad.backend import cublas, cublaslt
    from gpugrad.cudasim.compiler import run_compiler

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "cublas.cpp"
        source.write_text(f'extern "C" {{\n{_CUBLAS}}}\n')
        run_compiler(["-O1", "-shared", "-fPIC", str(source), "-o", f"{folder}/cublas.so"])
        library = ctypes.CDLL(f"{folder}/cublas.so")
    cublas.load = lambda cupy: cublas.Library(library)
    cublaslt.load = lambda cupy: None
    import gpugrad

    return gpugrad


def operations(torch: Any) -> dict[str, tuple[Step | None, Step]]:
    """By name: what CuPy's user calls, if there is such a thing, and gpugrad's."""
    import cupy
    import numpy as np

    a, b = (cupy.ones((64, 64), np.float32) for _ in range(2))
    x, y = (torch.ones(64, 64, device="cuda") for _ in range(2))
    w = torch.ones(64, 64, device="cuda", requires_grad=True)
    F = torch.nn.functional
    return {"add": (lambda: a + b, lambda: x + y), "add, grad": (None, lambda: w + y),
            "multiply by 2": (lambda: a * 2, lambda: x * 2),
            "maximum, relu": (lambda: cupy.maximum(a, 0), lambda: torch.relu(x)),
            "sum": (lambda: a.sum(), lambda: x.sum()), "matmul": (None, lambda: x @ y),
            "gelu": (None, lambda: F.gelu(x)), "softmax": (None, lambda: torch.softmax(x, -1))}


def steps(torch: Any) -> dict[str, Step]:
    """Training steps."""
    from cpu_suite.networks import lenet

    nn, F = torch.nn, torch.nn.functional

    def classifier(net: Any, shape: tuple[int, ...], make: Any) -> Step:
        net.to("cuda")
        x, y = torch.randn(*shape, device="cuda"), torch.randint(10, shape[:1], device="cuda")
        opt = make(net.parameters())

        def step() -> Any:
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            return loss
        return step

    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    pooled = nn.Sequential(layer, nn.Flatten(), nn.Linear(16 * 64, 10))
    return {
        "MLP 64-64-10, SGD": classifier(
            nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), (16, 64),
            lambda p: torch.optim.SGD(p, 0.01)),
        "LeNet, SGD with momentum": classifier(
            lenet(torch), (64, 1, 32, 32), lambda p: torch.optim.SGD(p, 0.01, momentum=0.9)),
        "transformer layer, AdamW": classifier(
            pooled, (4, 16, 64), lambda p: torch.optim.AdamW(p, 1e-3))}


def timed(step: Step, rounds: int, calls: int) -> dict[str, float]:
    """Microseconds a call."""
    from gpugrad.cudasim import driver

    for _ in range(6):                              # compiles; a recorded step is captured
        step()
    times = []
    with driver.leaving_out_launches():
        step()
        gc.collect()
        gc.disable()
        for _ in range(rounds):
            fastest = float("inf")
            for _ in range(4):
                start = time.perf_counter()
                for _ in range(calls):
                    step()
                fastest = min(fastest, time.perf_counter() - start)
            times.append(fastest / calls * 1e6)
        gc.enable()
    return summary(times)


def launches(step: Step) -> int:
    """How many kernels a step launches."""
    from gpugrad.cudasim.driver import modules

    before = modules.launches[0]
    step()
    return modules.launches[0] - before


def text(result: dict[str, Any]) -> str:
    def shown(value: Any) -> str:
        return "" if value is None else f"{value['median']:.1f} us ±{value['spread']:.1f}"

    lines = ["# The host's time for steps on CUDA", "", result["about"], "",
             f"`{result['command']}`", "",
             "Microseconds of Python, gpugrad and CuPy, launches left out: no GPU was there.", "",
             "| | CuPy | gpugrad | recorded step | launches |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {shown(row.get('cupy'))} | {shown(row['gpugrad'])} | "
              f"{shown(row.get('recorded'))} | {row['launches']} |"
              for name, row in result["rows"].items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="part of the rows' names")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    limit_threads(1)
    torch = prepare()
    rows: dict[str, Any] = {}
    for name, (theirs, ours) in operations(torch).items():
        if options.only.lower() in name.lower():
            rows[name] = {"gpugrad": timed(ours, options.rounds, 200), "launches": launches(ours)}
            if theirs is not None:
                rows[name]["cupy"] = timed(theirs, options.rounds, 200)
            print(name, rows[name], flush=True)
    for name, step in steps(torch).items():
        if options.only.lower() in name.lower():
            count, eager = launches(step), timed(step, options.rounds, 20)
            rows[name] = {"gpugrad": eager, "launches": count,
                          "recorded": timed(torch.graph_step(step), options.rounds, 100)}
            print(name, rows[name], flush=True)
    import cupy

    result = {"about": f"{describe(machine(1))}; CuPy {cupy.__version__}.", "rows": rows,
              "command": " ".join(["python benchmarks/host.py", *sys.argv[1:]])}
    if options.json:
        write(options.json, result)
    if options.markdown:
        options.markdown.write_text(text(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
