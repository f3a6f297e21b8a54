"""Is everything right on this GPU, and how fast is it? One command, one JSON, one Markdown table.

    python benchmarks/gpu_check.py [--json FILE] [--markdown FILE] [--only sweep,times,questions]
    python benchmarks/gpu_check.py --dry-run            # on the simulated device, no GPU needed

sweep: every op of the tests' records, forward and backward, in every dtype, against the CPU in
float64; and which kernels that launched. times: kernels and products by CUDA events, as shares of
the copy bandwidth that is measured in the same run. questions: what only a GPU can answer about
CuPy and CUDA. The exit status is 1 if a result is wrong or a kernel was never launched.
"""
from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
from pathlib import Path
from typing import Any

from measure import write

SECTIONS = ("sweep", "times", "questions")


def main() -> int:
    parser = argparse.ArgumentParser(description="Check and time gpugrad on a GPU.")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--only", default=",".join(SECTIONS), metavar="SECTIONS")
    parser.add_argument("--dry-run", action="store_true",
                        help="small sizes on the simulated device: tests this program, not a GPU")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    if options.dry_run:
        os.environ["GPUGRAD_CUDA"] = "sim"

    results: dict[str, Any] = {"machine": facts(options.dry_run)}
    print(results["machine"], flush=True)
    # Imported here: gpugrad reads GPUGRAD_CUDA when CUDA is first asked for.
    import gpu_questions
    import gpu_sweep
    import gpu_times

    runs = {"sweep": gpu_sweep.run, "times": gpu_times.run, "questions": gpu_questions.run}
    for section in SECTIONS:
        if section in wanted:
            start = time.perf_counter()
            results[section] = runs[section](options.dry_run)
            print(f"{section}: {time.perf_counter() - start:.0f} s", flush=True)
            write(options.json, results)            # what is known so far survives a crash
    text = markdown(results, {"sweep": gpu_sweep.table, "times": gpu_times.table,
                              "questions": gpu_questions.table})
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    wrong = results.get("sweep", {})
    return int(bool(wrong.get("failures") or wrong.get("never_launched")))


def facts(dry_run: bool) -> dict[str, Any]:
    """What the numbers depend on."""
    import numpy as np

    import gpugrad as torch

    if not torch.cuda.is_available():
        raise SystemExit(f"no CUDA device: {torch.cuda.unavailable_reason()}. Use --dry-run.")
    cupy = torch.backend.cuda.needed()
    properties = torch.cuda.get_device_properties()
    return {"device": properties.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "driver": cupy.cuda.runtime.driverGetVersion(),
            "cuda": cupy.cuda.runtime.runtimeGetVersion(), "cupy": cupy.__version__,
            "gpugrad": torch.__version__, "numpy": np.__version__,
            "python": sys.version.split()[0], "date": datetime.date.today().isoformat(),
            "command": "python benchmarks/gpu_check.py " + " ".join(sys.argv[1:]),
            "dry_run": dry_run}


def markdown(results: dict[str, Any], tables: dict[str, Any]) -> str:
    """The whole report."""
    m = results["machine"]
    head = [f"# {m['device']}, {m['date']}", "",
            f"CUDA {m['cuda']} (driver {m['driver']}), CuPy {m['cupy']}, gpugrad {m['gpugrad']}, "
            f"NumPy {m['numpy']}, Python {m['python']}; `{m['command']}`", ""]
    if m["dry_run"]:
        head += ["A dry run on the simulated device: its times mean nothing.", ""]
    for section in SECTIONS:
        if section in results:
            head += [f"## {section.capitalize()}", "", tables[section](results[section]), ""]
    return "\n".join(head)


if __name__ == "__main__":
    sys.exit(main())
