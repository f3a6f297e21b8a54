"""The command line's arguments, and which function each command is."""
from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import Any

DESCRIPTION = """PyTorch's API on NumPy and CuPy, from the shell.

exit status: 0 if all went well; 1 if a check failed or a file can't be used; 2 for wrong
arguments"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m gpugrad", description=DESCRIPTION,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, place: str, text: str, more: str = "") -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text,
                                  description=f"{text[0].upper()}{text[1:]}. {more}")
        sub.set_defaults(place=place)
        return sub

    env = command("env", "environment:show", "versions, devices, and why CUDA is or isn't usable",
                  "Put the output of --json into a bug report.")
    env.add_argument("--json", action="store_true", help="for programs")

    test = command("selftest", "selftest:run",
                   "check that the devices of this machine compute right",
                   "Operations, networks and optimizers run on every device in every precision, "
                   "and are compared with float64 on the CPU.")
    test.add_argument("--device", help="only this one, such as cpu or cuda:1")

    warm = command("warmup", "warmup:run", "compile all CUDA kernels into the cache on disk",
                   "Else each is compiled at its first use.")
    warm.add_argument("--device", default="cuda", help="for this one's generation (default: cuda)")
    warm.add_argument("--dtypes", default="float32,float64,float16,bfloat16", metavar="LIST",
                      help="precisions, separated by commas (default: all four)")

    look = command("inspect", "files:inspect",
                   "list the tensors of a checkpoint without loading them",
                   "FILE is a .pt or .pth file of PyTorch's, .safetensors, or .npz.")
    look.add_argument("file", metavar="FILE")
    look.add_argument("--json", action="store_true", help="for programs")

    convert = command("convert", "files:convert",
                      "write the tensors of a checkpoint to another format",
                      "The endings say the formats: .pt, .pth, .safetensors, .npz.")
    convert.add_argument("source", metavar="FROM")
    convert.add_argument("target", metavar="TO")
    convert.add_argument("--force", action="store_true", help="write over an existing file")

    run = command("run", "script:run", "run a program written for PyTorch",
                  "Its `import torch` gives gpugrad. Where PyTorch is installed, only with "
                  "--force.")
    run.add_argument("--force", action="store_true", help="also where PyTorch is installed")
    run.add_argument("-m", dest="module", action="store_true", help="SCRIPT is a module's name")
    run.add_argument("script", metavar="SCRIPT")
    run.add_argument("arguments", metavar="ARGS", nargs=argparse.REMAINDER,
                     help="what the program gets as its own arguments")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    options = parser().parse_args(arguments)
    module, _, name = options.place.partition(":")
    act: Any = getattr(import_module(f"gpugrad.command.{module}"), name)
    try:
        status: int = act(options)
    except BrokenPipeError:                      # the reader has seen enough, as in ``| head``
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def fail(message: str) -> int:
    """Say on standard error why a command can't do its work; returns the exit status."""
    print(f"gpugrad: {message}", file=sys.stderr)
    return 1
