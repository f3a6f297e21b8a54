"""The suites of benchmarks/gpu_check.py: a dry run, its book, and what a report says."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def gpu(monkeypatch):
    """A module of the suites, by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import importlib
    return lambda name: importlib.import_module(name if name == "processes" else f"gpu.{name}")


def run(*arguments, expect=0):
    """What the command prints."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([sys.executable, str(ROOT / "benchmarks/gpu_check.py"),
                           *map(str, arguments)], capture_output=True, text=True, timeout=200,
                          env=environment, encoding="utf-8")
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_names_of_rows():
    said = run("--list")
    for name in ("ops/conv/R50 l1 3x3 64-64 forward, tf32, channels_last",
                 "steps/GPT-2 124M/GPT-2 124M, batch 8 of 1024 words, amp: gpugrad, gpugrad, "
                 "graph, torch", "ceilings/copy/copy of 1 GiB, float32"):
        assert name in said
    assert "there is no row 'nothing'" in run("--list", "--only", "nothing", expect=1)
    assert "there is no cupy" in run("--suite", "steps", "--framework", "cupy", expect=2)
    assert "what shall be done?" in run(expect=2)


# A dry run ----------------------------------------------------------------------------------------

@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None,
                    reason="the simulated device needs a C++ compiler")
def test_a_dry_run(tmp_path):
    book = tmp_path / "book.jsonl"
    options = ["--dry-run", "--suite", "ceilings,ops,steps", "--framework", "gpugrad,torch-graph",
               "--book", book, "--only", "layer norm 8192x768", "MLP", "copy of"]
    said = run(*options, "--report", "--out", tmp_path)
    assert "torch, graph: missing: " in said

    head, *lines = map(json.loads, book.read_text().splitlines())
    assert head["dry_run"] and "simulated" in head["device"] and "torch-graph" in head["missing"]
    assert {(r["name"], r["column"]) for r in lines} == {
        ("copy of 1 GiB", "gpugrad"), ("layer norm 8192x768 forward", "gpugrad"),
        ("layer norm 8192x768 backward", "gpugrad"),
        ("MLP 1024-4096-4096-1024-10, batch 1024", "gpugrad"),
        ("MLP 1024-4096-4096-1024-10, batch 1024", "gpugrad-graph")}
    for line in lines:
        assert line["status"] == "ok", line
        assert line["dry_run"] and line["peak"] > 0 and line["error"] < 2e-3
        assert not {"ms", "host_us", "samples"} & set(line)     # no time may pass for a measurement
    assert {r["compared_with"].split()[0] for r in lines} <= {"torch", "gpugrad"}

    page = next(tmp_path.glob("gpu-*-dry-run.md")).read_text()
    assert page.startswith("# A dry run") and "It has no times" in page
    assert page.count("| dry run |") == len(lines)
    assert " ms" not in page and " µs |" not in page and "GB/s" not in page
    assert json.loads(next(tmp_path.glob("gpu-*-dry-run.json")).read_text())["rows"] == lines

    with open(book, "a") as file:                       # as if it had been cut off here
        file.write('{"of": 0, "suite": "st')
    before = len(book.read_text().splitlines())
    run(*options)
    assert len(book.read_text().splitlines()) == before + 1         # a head, and nothing to do
    assert "holds nothing to report" in run("--report", "--book", book, expect=1)


# Agreement, processes -----------------------------------------------------------------------------

def part(gpu, suite="ops", precision="float32", tolerance=1.0):
    rows = gpu("rows")
    return rows.Part(rows.Row(suite, "f", "x", None, tolerance=tolerance), precision, "contiguous")


def test_results_are_compared(gpu):
    compare = gpu("workers").compare
    values = np.linspace(-1, 1, 1001)

    def digest(a, shape=(1001,)):
        return shape, a, float(np.abs(a).mean())

    want = [digest(values)]
    assert compare(part(gpu), want, want) == (0.0, "")
    assert "is off by" in compare(part(gpu), [digest(values + 1e-3)], want)[1]
    assert not compare(part(gpu, precision="tf32"), [digest(values * 1.001)], want)[1]
    assert not compare(part(gpu, tolerance=100.0), [digest(values + 1e-3)], want)[1]
    assert "has shape (7,)" in compare(part(gpu), [digest(values, (7,))], want)[1]
    assert "2 results" in compare(part(gpu), want * 2, want)[1]
    assert compare(part(gpu), [digest(np.full(1001, np.nan))], want)[1]
    # What lies between the samples shows in the mean.
    assert compare(part(gpu), [((1001,), values, 0.6)], want)[1]

    losses = [2.0, 1.9, 1.8, 1.7]
    steps = part(gpu, "steps")
    assert compare(steps, losses, losses) == (0.0, "")
    assert "loss 1 is 2.002" in compare(steps, [2.002, *losses[1:]], losses)[1]
    assert not compare(steps, [*losses[:3], 1.702], losses)[1]      # later ones may differ more
    assert compare(steps, [2.0] * 4, losses)[1]                     # an optimizer that does nothing


class Scripted:
    """Stands for the pool's processes: what they were asked, and fixed answers."""

    def __init__(self, workers):
        self.asked = []
        self.pool = workers.Pool(["torch", "gpugrad"], False, time.perf_counter() + 60)
        self.pool.known = {c: {"library": f"{c} 1"} for c in ("reference", "torch", "gpugrad")}
        self.pool.ask, self.workers = self.ask, workers
        self.results = {"reference": [2.0], "torch": [2.0], "gpugrad": [2.0]}

    def ask(self, column, what, argument=None):
        self.asked.append((column, what))
        if what == "make":
            if isinstance(self.results[column], str):
                raise self.workers.Failed(self.results[column])
            return {"results": self.results[column], "work": [], "note": "", "seconds": 1.0}
        return {"warm": 3, "time": [0.5] * 6, "rest": {"peak": 8, "host_us": 4.0}}.get(what)


def test_columns_take_turns(gpu):
    scripted = Scripted(gpu("workers"))
    lines = scripted.pool.measure(part(gpu, "steps"), ["torch", "gpugrad"])
    assert [c for c, what in scripted.asked if what == "time"] == [
        "torch", "gpugrad", "gpugrad", "torch"] * 2
    assert all(li["status"] == "ok" and li["samples"] == 24 and li["ms"]["median"] == 0.5
               and li["compared_with"] == "reference 1, float64" for li in lines)


def test_a_wrong_column_has_no_time(gpu):
    scripted = Scripted(gpu("workers"))
    scripted.results["torch"] = "OutOfMemoryError: CUDA out of memory"
    scripted.results["gpugrad"] = [2.1]
    torch, gpugrad = scripted.pool.measure(part(gpu, "steps"), ["torch", "gpugrad"])
    assert gpugrad["status"] == "FAIL" and "loss 1 is 2.1, and not 2" in gpugrad["why"]
    assert torch["status"] == "error" and "out of memory" in torch["why"]
    assert "ms" not in gpugrad and "ms" not in torch
    # what had no memory beside the others is tried again alone
    assert [c for c, what in scripted.asked if what == "make"] == [
        "reference", "torch", "gpugrad", "torch"]


def sleeper():
    return type("Sleeper", (), {"sleep": staticmethod(time.sleep), "sign": staticmethod(np.sign)})()


def test_a_process_that_is_too_slow_is_ended(gpu):
    processes = gpu("processes")
    worker = processes.Worker(sleeper)
    assert worker.ask("sign", -3.0, seconds=60) == -1
    with pytest.raises(processes.Failed, match="TypeError"):
        worker.ask("sleep", "long", seconds=60)
    with pytest.raises(processes.Slow, match="longer than"):
        worker.ask("sleep", 100, seconds=0.2)
    assert not worker.process.is_alive()


# What is counted and reported ---------------------------------------------------------------------

def test_work_of_steps(gpu):
    """TFLOP and millions of parameters, as others count them for these networks."""
    counts = gpu("counts")
    for step, tflop, parameters in (
            (counts.resnet50(64), 1.555, 25.6), (counts.resnet18(128), 0.426, 11.2),
            (counts.gpt(8, 1024, 12, 768, 50304), 6.61, 124.4),
            (counts.mlp(1024, (1024, 4096, 4096, 1024, 10)), 0.146, 25.2)):
        work = step.work(4, counts.ADAM)
        assert sum(f * n for f, _, n in work) / 1e12 == pytest.approx(tflop, rel=0.02)
        assert step.parameters / 1e6 == pytest.approx(parameters, rel=0.02)
        assert work[-1] == (0.0, 28.0 * step.parameters, 1)


def line(column, ms=None, status="ok", **more):
    found = {"of": 0, "suite": "steps", "family": "ResNet-50", "name": "ResNet-50, batch 64",
             "precision": "tf32", "layout": "contiguous", "column": column, "status": status,
             "error": 1e-5, "work": [(2e12, 1e9, 1), (0.0, 3e9, 2)], **more}
    return found if ms is None else {**found, "ms": {"median": ms, "p10": ms, "p90": 1.1 * ms}}


def test_ratios_floors_and_aims(gpu):
    report = gpu("report")
    lines = [
        line("torch", 1.0, suite="ceilings", family="copy", precision="float32",
             work=[(0, 4e9, 1)]),
        line("gpugrad", 1.0, suite="ceilings", family="matmul", work=[(4e11, 1e6, 1)]),
        line("torch", 20.0), line("torch", 15.0, layout="channels_last"), line("gpugrad", 30.0),
        line("gpugrad-graph", 10.0, layout="channels_last"),
        line("torch-graph", status="FAIL", why="loss 1 is 3, and not 2")]
    best, base = report.ceilings(lines), report.bases(lines)
    assert best == {"copy": 4e12, "tf32": 4e14}
    # 2e12 FLOP at 4e14, and twice 3e9 bytes at 4e12
    assert report.floor(lines[4], best) == pytest.approx(5.0 + 1.5)
    assert report.floor(lines[4], {"copy": 4e12}) is None
    assert report.ratio(lines[4], base) == 0.5          # over its better memory format
    assert report.ratio(lines[5], base) == 1.5
    assert report.ratio(lines[6], base) is None
    assert list(report.verdicts(lines)) == [
        "1 of 1 aims are met.", "  ResNet-50, batch 64, tf32: 1.50, aim 1 met"]

    head = {"run": 0, "device": "a GPU", "date": "2000-01-01", "dry_run": False, "command": "c",
            "versions": {"torch": "torch 2", "gpugrad": "gpugrad 1"}, "details": {"cuda": 13},
            "missing": {"jax": "jax is not installed"}}
    page = report.markdown([head], lines)
    assert "# a GPU, 2000-01-01" in page and "JAX (jax is not installed)" in page
    assert "| ResNet-50, batch 64, tf32 | torch, graph | FAIL |  |" in page
    assert "loss 1 is 3, and not 2" in page
    assert "| ResNet-50, batch 64, tf32, channels last | gpugrad, graph | 10.0 ms (10.0 ms to " \
        "11.0 ms) | 1.50 | 6.50 ms | 65% | 200.0 TFLOP/s |" in page
    assert "| ResNet-50 | tf32 | 0.50 of 1 | 1.50 of 1 |" in page


def test_the_book_keeps_what_is_new(gpu, tmp_path):
    book = gpu("book").Book(tmp_path / "a/book.jsonl")
    for device, dry in ("A", False), ("B", False), ("A", True):
        book.begin({"device": device, "dry_run": dry})
        book.add({k: v for k, v in line("torch", 2.0).items() if k != "of"} | {"library": "t 1"})
    book = gpu("book").Book(book.path)
    assert len(book.heads) == len(book.lines) == 3
    (key, found), = book.latest(False, "A").items()
    assert found["of"] == 0 and key[-1] == "torch"
    assert book.done(False, "A", {"torch": "t 1"}, retry=False) == {key}
    assert book.done(False, "A", {"torch": "t 2"}, retry=False) == set()
    book.begin({"device": "A", "dry_run": False})
    book.add({k: v for k, v in line("torch", status="FAIL").items() if k != "of"}
             | {"library": "t 1"})
    assert book.done(False, "A", {"torch": "t 1"}, retry=False) == {key}
    assert book.done(False, "A", {"torch": "t 1"}, retry=True) == set()
