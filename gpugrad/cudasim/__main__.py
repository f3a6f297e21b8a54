"""python -m gpugrad.cudasim: coverage of kernels, the cache of compiled ones, programs for CuPy."""
from __future__ import annotations

import argparse
import os
import runpy
import shutil
import sys

from gpugrad.cudasim import compiler, coverage, driver


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gpugrad.cudasim", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    lines = commands.add_parser("coverage", help="which lines of .cu files have run in mode "
                                                 "coverage, in all processes since --reset")
    lines.add_argument("files", nargs="*", help="sources that should be among them")
    lines.add_argument("--reset", action="store_true", help="forget all counts")
    lines.add_argument("--fail-under", type=float, default=0, metavar="PERCENT",
                       help="exit with 1 if fewer lines have run")
    cache = commands.add_parser("cache", help="where compiled kernels are kept")
    cache.add_argument("--clear", action="store_true", help="delete them")
    program = commands.add_parser("cupy", help="run a program with the CuPy that is installed, on "
                                               "the simulated device")
    program.add_argument("program")
    program.add_argument("arguments", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    if chosen.command == "cupy":
        driver.install()
        sys.argv, sys.path[0] = [chosen.program, *chosen.arguments], os.path.dirname(chosen.program)
        runpy.run_path(chosen.program, run_name="__main__")
        return 0
    if chosen.command == "cache":
        folder = compiler.cache_folder()
        print(folder)
        if chosen.clear:
            shutil.rmtree(folder)
        return 0
    if chosen.reset:
        coverage.reset()
        return 0
    text, percent = coverage.table(coverage.report(), chosen.files)
    print(text)
    if percent < chosen.fail_under:
        print(f"less than {chosen.fail_under:g} %", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
