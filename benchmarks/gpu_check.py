"""A GPU: is everything right, how fast is it, beside PyTorch and JAX and what the machine can do?

    python benchmarks/gpu_check.py --suite NAMES [--framework NAMES] [--budget SECONDS] [--only ...]
    python benchmarks/gpu_check.py --report             # the page of what has been measured
    python benchmarks/gpu_check.py --dry-run            # all of it, small, without a GPU

Suites: questions (what only a GPU can answer about CuPy and CUDA), sweep (every op of the tests'
records, in every dtype, against the CPU in float64), ceilings, ops, steps. Rows are written to a
book as they come, those worth most first; a later run goes on where this one ends.
benchmarks/README.md says more. The exit status is 1 if something is wrong.
"""
from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gpu import report, rows
from gpu.book import KEY, Book
from gpu.libraries import COLUMNS, FRAMEWORKS
from gpu.workers import Late, Pool
from measure import ROOT

CHECKS = ("questions", "sweep")
ALL = (*CHECKS, *rows.SUITES)


def names(known: Iterable[str]) -> Any:
    """A list with commas, of known names."""
    def read(text: str) -> list[str]:
        found = text.split(",")
        if unknown := set(found) - set(known):
            raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}; "
                                             f"known are {', '.join(known)}")
        return found
    return read


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check and time gpugrad on a GPU.")
    option = parser.add_argument
    option("--suite", type=names(ALL), metavar="NAMES",
           help=f"{','.join(ALL)} (default with --dry-run: all)")
    option("--framework", type=names((*FRAMEWORKS, *COLUMNS)), metavar="NAMES",
           help=f"{','.join(FRAMEWORKS)} (default: all but ways), or single columns of theirs")
    option("--only", nargs="+", metavar="TEXT", help="rows whose name has it; with * and ?")
    option("--budget", type=float, metavar="SECONDS",
           help="after which no row begins (default: 480; with --dry-run 45)")
    option("--book", type=Path, metavar="FILE", help="where rows are written, and looked for "
                                                     "(default: benchmarks/results/gpu.jsonl)")
    option("--retry", action="store_true", help="measure rows again that failed")
    option("--report", action="store_true", help="write the page and the numbers")
    option("--out", type=Path, metavar="FOLDER", default=ROOT / "benchmarks/results",
           help="for the report (default: benchmarks/results)")
    option("--list", action="store_true", help="show the names of all rows")
    option("--dry-run", action="store_true",
           help="small sizes on the simulated device: tests this program, not a GPU")
    options = parser.parse_args()
    if not (options.suite or options.report or options.list or options.dry_run):
        parser.error("what shall be done? --suite, --report or --dry-run")
    if options.dry_run:
        options.suite = options.suite or list(ALL)
    options.budget = options.budget or (45.0 if options.dry_run else 480.0)
    options.book = options.book or (None if options.dry_run else
                                    ROOT / "benchmarks/results/gpu.jsonl")
    return options


def main() -> int:
    options = arguments()
    suites = options.suite or list(rows.SUITES)
    if options.list:
        for part in rows.select(suites, options.only, options.dry_run):
            print(f"{part.key}: {', '.join(COLUMNS[c] for c in part.row.columns)}")
        return 0
    deadline = time.perf_counter() + options.budget
    if options.dry_run:
        os.environ["GPUGRAD_CUDA"] = "sim"      # before gpugrad first looks for a device
    book = Book(options.book)
    wrong = 0
    if options.suite:
        timed = [s for s in options.suite if s in rows.SUITES]
        if timed:
            wrong += measured(options, timed, book, deadline)
        for check in CHECKS:
            if check in options.suite:
                wrong += checked(check, options, book)
    if options.report:
        write_report(options, book)
    return int(wrong > 0)


def command() -> str:
    return "python benchmarks/gpu_check.py " + shlex.join(sys.argv[1:])


# Rows ---------------------------------------------------------------------------------------------

def measured(options: argparse.Namespace, suites: list[str], book: Book, deadline: float) -> int:
    """Measure what isn't in the book yet; how many rows are wrong."""
    groups = options.framework or [name for name in FRAMEWORKS if name != "ways"]
    wanted = [c for name in groups for c in FRAMEWORKS.get(name, (name,))]
    chosen = rows.select(suites, options.only, options.dry_run)
    used = {c for part in chosen for c in part.row.columns}
    pool = Pool([c for c in COLUMNS if c in wanted and c in used], options.dry_run, deadline)
    wrong = 0
    try:
        head = begin(pool, options)
        book.begin(head)
        done = book.done(options.dry_run, head["device"], head["versions"], options.retry)
        for part in chosen:
            missing = [c for c in pool.columns if c in part.row.columns and pool.there(c)
                       and tuple({**part.names(), "column": c}[k] for k in KEY) not in done]
            if not missing:
                continue
            if time.perf_counter() > deadline:
                raise Late
            for line in pool.measure(part, missing):
                book.add({**line, "library": head["versions"][line["column"]]})
                now = list(book.latest(options.dry_run, head["device"]).values())
                print(report.terminal(book.lines[-1], report.ceilings(now), report.bases(now)),
                      flush=True)
                wrong += line["status"] in ("FAIL", "error")
    except Late:
        print(f"the time is over, before {part.key}; the same command goes on from there")
    finally:
        pool.close()
    return wrong


def begin(pool: Pool, options: argparse.Namespace) -> dict[str, Any]:
    """The machine and the versions."""
    facts = {c: pool.facts(c) for c in pool.columns}
    there = {c: f for c, f in facts.items() if "missing" not in f}
    missing = {c: f["missing"] for c, f in facts.items() if "missing" in f}
    for column, why in missing.items():
        print(f"{COLUMNS[column]}: missing: {why}")
    if not there:
        raise SystemExit("there is nothing to measure")
    details: dict[str, Any] = {}
    for f in there.values():
        details.update({k: v for k, v in f.items() if k not in ("library", "device")})
    head = {"device": next(iter(there.values()))["device"], "dry_run": options.dry_run,
            "date": datetime.date.today().isoformat(), "command": command(),
            "python": platform.python_version(), "details": details, "missing": missing,
            "versions": {c: f["library"] for c, f in there.items()}}
    print(", ".join(f"{COLUMNS[c]}: {v}" for c, v in head["versions"].items()))
    print(f"on {head['device']}", flush=True)
    return head


# Checks -------------------------------------------------------------------------------------------

def checked(name: str, options: argparse.Namespace, book: Book) -> int:
    """The sweep, or the questions; in this process. How much is wrong."""
    import gpugrad as torch

    if not torch.cuda.is_available():
        raise SystemExit(f"no CUDA device: {torch.cuda.unavailable_reason()}. Use --dry-run.")
    if torch.cuda.sim.is_simulated() and not options.dry_run:
        raise SystemExit("the CUDA device is simulated: use --dry-run")
    # Imported here: they are gpugrad's alone, and the rows' parent needs no device.
    from gpu import questions, sweep

    began = time.perf_counter()
    section: Any = {"questions": questions, "sweep": sweep}[name]
    found = section.run(options.dry_run)
    text = section.table(found)
    book.check({"check": name, "dry_run": options.dry_run, "command": command(),
                "device": torch.cuda.get_device_name(), "date": datetime.date.today().isoformat(),
                "text": text, "found": found})
    print(text)
    print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    return len(found.get("failures", ())) + len(found.get("never_launched", ()))


# The report ---------------------------------------------------------------------------------------

def write_report(options: argparse.Namespace, book: Book) -> None:
    """gpu-DATE.md and gpu-DATE.json, of the device that was measured last."""
    heads = [h for h in book.heads if h["dry_run"] == options.dry_run]
    checks = [c for c in book.checks if c["dry_run"] == options.dry_run]
    if not heads and not checks:
        raise SystemExit(f"{book.path or 'the book'} holds nothing to report")
    lines: list[Any] = []
    page = ""
    if heads:
        device = heads[-1]["device"]
        lines = list(book.latest(options.dry_run, device).values())
        runs = {line["of"] for line in lines}
        heads = [h for h in heads if h["run"] in runs] or heads[-1:]
        page = report.markdown(heads, lines)
    for check in {c["check"]: c for c in checks}.values():
        page += (f"\n## {check['check'].capitalize()}\n\n{check['device']}, {check['date']}, "
                 f"`{check['command']}`\n\n{check['text']}\n")
    date = (heads or checks)[-1]["date"]
    name = f"gpu-{date}" + "-dry-run" * options.dry_run
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{name}.md").write_text(page.lstrip(), encoding="utf-8")
    (options.out / f"{name}.json").write_text(json.dumps(
        {"runs": heads, "rows": lines, "checks": checks}, indent=1) + "\n", encoding="utf-8")
    print(f"{options.out / name}.md and .json")


if __name__ == "__main__":
    sys.exit(main())
