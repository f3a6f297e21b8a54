"""The suite of benchmarks/cpu.py: a small run, what it writes, and how it reads."""
from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture
def suite(monkeypatch):
    """The modules of the suite."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from cpu_suite import report, rows, workers
    return rows, workers, report


def run(*arguments, expect=0):
    """What the command prints; it finds the checkout by itself."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([sys.executable, str(ROOT / "benchmarks/cpu.py"), *map(str, arguments)],
                          capture_output=True, text=True, timeout=100, env=environment,
                          encoding="utf-8")
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


# A run --------------------------------------------------------------------------------------------

def test_a_small_run(tmp_path):
    numbers, page = tmp_path / "cpu.json", tmp_path / "cpu.md"
    options = ["--quick", "--rounds", "2", "--json", numbers, "--markdown", page, "--only"]
    said = run(*options, "overhead/add*", "lenet/batch 1", "start/installation*")
    assert "LeNet, a training step" in said and "add, grad" in said

    results = json.loads(numbers.read_text())
    assert results["quick"] and results["machine"]["threads"] == [1]
    assert [row["name"] for row in results["rows"]] == [
        "add", "add, grad", "batch 1", "installation with what it needs"]
    add, lenet = results["rows"][0], results["rows"][2]
    assert add["added"] > 0 and add["unit"] == "s" and add["rounds"] == 2
    assert set(add["values"]) == {"gpugrad", "bare"} | ({"torch"} if TORCH else set())
    assert {"gpugrad", "numpy"} <= set(lenet["values"])
    assert lenet["aims"] == {"gpugrad": 2.0} and ("gpugrad" in lenet["ratios"]) == TORCH
    for row in results["rows"]:
        assert "errors" not in row
        assert all(v["median"] > 0 and v["spread"] >= 0 for v in row["values"].values())
    text = page.read_text(encoding="utf-8")
    assert "| batch 1 | 1 |" in text and "no numbers to keep" in text

    run("--resume", *options, "overhead/add*", "function/cross entropy, 64x10")
    again = json.loads(numbers.read_text())["rows"]
    assert again[:4] == results["rows"] and again[4]["name"] == "cross entropy, 64x10"
    results["machine"]["numpy"] = "1.0"
    numbers.write_text(json.dumps(results))
    assert "is of numpy 1.0" in run("--resume", *options, "overhead/add", expect=1)


def test_names_of_rows():
    said = run("--list").split("\n")
    for name in ("overhead/matmul", "lenet/batch 256", "resnet/batch 32", "memory/LeNet, batch 64"):
        assert name in said
    assert run("--list", "--only", "gpt").count("\n") == 1
    assert "there is no row 'convolution'" in run("--only", "convolution", expect=1)


# Agreement ----------------------------------------------------------------------------------------

def test_results_are_compared(suite):
    import numpy as np

    _, workers, _ = suite
    x = np.arange(200_000, dtype=np.float32).reshape(1000, 200)
    digests = [workers.digest(a, np) for a in (x, x + 0.5, x[:, :100], x * np.float32(1.00001))]
    same, shifted, cut, close = ([d] for d in digests)
    assert workers.difference(same, same, 1e-4, "torch") == ""
    assert workers.difference(close, same, 1e-4, "torch") == ""
    assert workers.difference(close, same, 0.0, "torch") != ""
    assert "differs from torch's by" in workers.difference(shifted, same, 1e-6, "torch")
    assert "(1000, 100)" in workers.difference(cut, same, 1e-4, "torch")
    assert "2 results" in workers.difference(same * 2, same, 1e-4, "torch")
    wrong = workers.digest(np.where(x == 65, np.nan, x), np)
    assert "by nan" in workers.difference([wrong], same, 1e-4, "torch")


def test_a_column_that_fails_leaves_the_others(suite):
    rows, workers, report = suite

    def measure(column, threads, size):
        if column == "gpugrad":
            raise RuntimeError("out of order")
        return [2.0]

    row = rows.Row("start", "x", None, ("gpugrad", "numpy"), fresh=measure)
    found = workers.Pool(1, 2, 0.01, 1.0, quick=False).measure(row)
    assert found["errors"] == {"gpugrad": "out of order"}
    assert found["values"] == {"numpy": {"median": 2.0, "spread": 0.0}}
    assert "gpugrad: out of order" in report.line(found, ["gpugrad", "numpy"])
    assert "1 failed:" in list(report.ending([found]))


# What is written ----------------------------------------------------------------------------------

def made_up(suite, threads=1, seconds=2.0, **times):
    rows, workers, _ = suite
    row = rows.Row("resnet", "batch 32", None, rows.STEPS,
                   {"gpugrad": (1.5, 1.0), "recorded": 3.0, rows.SECOND_CORE: 1.0})
    times = {"torch": [3.0, 4.0, 3.0], "gpugrad": [seconds] * 3, **times}
    return workers.result(row, threads, False, times, {}, [])


def test_quantities(suite):
    amount = suite[2].amount
    assert [amount(x, "s") for x in (3.2e-7, 1.234e-5, 0.0999996, 0.25, 12.3)] == [
        "320 ns", "12.3 µs", "100 ms", "250 ms", "12.3 s"]
    assert [amount(x, "B") for x in (512, 74.6e6, 1.25e9)] == ["0.512 kB", "74.6 MB", "1.25 GB"]


def test_a_row(suite):
    report = suite[2]
    found = made_up(suite)
    assert found["values"]["torch"] == {"median": 3.0, "spread": 0.25}
    assert found["ratios"]["gpugrad"]["median"] == 1.5
    assert report.aims(found) == "1.5 met, recorded step 3 not measured"
    assert "0.75 NOT met" not in report.aims(made_up(suite, threads=2, seconds=4.0))
    assert report.aims(made_up(suite, threads=2, seconds=4.0)).startswith("1 NOT met")
    head = report.head("resnet", 1, ["torch", "gpugrad"])
    line = report.line(found, ["torch", "gpugrad"])
    assert len(head.split("\n")[-1]) - len("  aim") == line.index("  1.5 met")


def test_aims_are_for_the_full_size(suite):
    rows, workers, _ = suite
    for size, aims in (((32, 2), {}), ((32, 32), {"gpugrad": 2.0})):
        row = rows.Row("resnet", "x", None, aims={"gpugrad": 2.0}, size=size)
        found = workers.result(row, 1, True, {"torch": [1.0], "gpugrad": [1.0]}, {}, [])
        assert found["aims"] == aims


def test_the_page_and_the_end(suite):
    report = suite[2]
    found = [made_up(suite), made_up(suite, threads=2, seconds=3.0, recorded=[1.0, 1.0, 0.5])]
    results = {"machine": {"cpu": "C", "cores": 2, "threads": [1, 2], "python": "3.12.0",
                           "helper": "there is no compiler"},
               "command": "python benchmarks/cpu.py", "quick": False, "rows": found}
    page = report.markdown(results)
    assert "Other programs" not in page
    results["machine"]["load"] = 2.1
    page = report.markdown(results)
    assert "**Other programs were running (load 2.1)" in page
    assert "compiled helper: there is no compiler." in page
    assert "| batch 32 | 1 | 3.00 s ±8% | 2.00 s |  | 1.50 ± 0.12 |  | 1.5 met" in page
    assert "| resnet/batch 32 | 1.00 | 0.67 |" in page
    assert list(report.ending(found)) == [
        "3 of 5 aims are met.",
        "  resnet/batch 32, 1 thread: recorded step not measured, aim 3",
        "  resnet/batch 32: two threads over one 0.67, aim 1"]
