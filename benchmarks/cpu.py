"""gpugrad beside PyTorch on the CPU: operations, layers, optimizers, training steps, memory.

    python benchmarks/cpu.py [--threads 1,2] [--only THEME|THEME/ROW ...] [--quick] [--rounds 15]
                             [--json FILE] [--markdown FILE] [--resume]

Each column - torch, gpugrad, its recorded step, gpugrad without its compiled helper - has a process
of its own with the same number of threads. They take turns: one computes while the others wait.
Before a row is timed, its results (outputs and gradients, losses, parameters) must agree.
benchmarks/README.md says more.
"""
from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import measure
from cpu_suite import report, rows, workers


def numbers(text: str) -> list[int]:
    found = [int(part) for part in text.split(",")]
    if not found or min(found) < 1:
        raise ValueError
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="gpugrad beside PyTorch on the CPU.")
    parser.add_argument("--threads", type=numbers, metavar="N[,N...]",
                        help="numbers of threads to measure with (default: 1,2; with --quick 1)")
    parser.add_argument("--only", nargs="+", metavar="NAME",
                        help="themes, or rows as --list shows them; with * and ?")
    parser.add_argument("--rounds", type=int, help="turns of each column in a row (default: 15)")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: a check")
    parser.add_argument("--json", type=Path, metavar="FILE", help="numbers, written row by row")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="a page of tables")
    parser.add_argument("--resume", action="store_true", help="keep the rows that --json has")
    parser.add_argument("--list", action="store_true", help="show the names of all rows")
    options = parser.parse_args()
    if options.resume and not options.json:
        parser.error("--resume needs --json FILE, which has the rows to keep")
    options.threads = options.threads or ([1] if options.quick else [1, 2])
    return options


def begin(options: argparse.Namespace) -> dict[str, Any]:
    """The results so far: the machine, and with --resume the rows of before."""
    facts = {**measure.machine(options.threads), "load": measure.load()}
    command = "python benchmarks/cpu.py " + shlex.join(sys.argv[1:])
    results = {"command": command.strip(), "machine": facts, "quick": options.quick, "rows": []}
    if options.resume and options.json.exists():
        before = measure.read(options.json)
        for name in ("cpu", "python", "gpugrad", "numpy", "torch"):
            if before["machine"].get(name) != facts.get(name):
                raise SystemExit(f"--resume: {options.json} is of {name} "
                                 f"{before['machine'].get(name)}, and here is {facts.get(name)}")
        if before["quick"] != options.quick:
            raise SystemExit(f"--resume: {options.json} was made with{'out' * options.quick} "
                             "--quick")
        facts["threads"] = sorted({*before["machine"]["threads"], *options.threads})
        results["rows"] = before["rows"]
    return results


def main() -> int:
    options = arguments()
    measure.limit_threads(1)                # of this process, which computes nothing
    chosen = rows.select(options.only)
    if options.list:
        print(*[row.key for row in chosen], sep="\n")
        return 0
    results = begin(options)
    began = time.perf_counter()
    print(measure.describe(results["machine"]))
    if said := report.busy(results["machine"]):
        print(said)
    for number, threads in enumerate(options.threads):
        pool = workers.Pool(threads, options.rounds or (3 if options.quick else 15),
                            turn=0.003 if options.quick else 0.02,
                            limit=0.2 if options.quick else 3.0, quick=options.quick)
        try:
            results["machine"].update(helper=pool.facts()["helper"])
            run(pool, [r for r in chosen if number == 0 or not r.once], results, options)
        finally:
            pool.close()
    print("", *report.ending(results["rows"]), sep="\n")
    print(f"\n{time.perf_counter() - began:,.0f} seconds")
    if options.markdown:
        options.markdown.write_text(report.markdown(results), encoding="utf-8")
    return int(any("errors" in row for row in results["rows"]))


def run(pool: workers.Pool, chosen: list[rows.Row], results: dict[str, Any],
        options: argparse.Namespace) -> None:
    """Measure the rows that aren't there yet, and print them as they come."""
    there = {(r["theme"], r["name"], r["threads"]): r for r in results["rows"]}
    theme, expected = "", []
    for row in chosen:
        if row.theme != theme:
            theme, wanted = row.theme, {c for r in chosen if r.theme == row.theme
                                        for c in pool.columns(r)}
            expected = [c for c in report.COLUMNS if c in wanted]
            print(report.head(theme, pool.threads, expected))
        found = there.get((theme, row.title(options.quick), pool.threads))
        if found is None or "errors" in found:
            results["rows"] = [r for r in results["rows"] if r is not found]
            found = pool.measure(row)
            results["rows"].append(found)
            measure.write(options.json, results)
        print(report.line(found, expected), flush=True)


if __name__ == "__main__":
    sys.exit(main())
