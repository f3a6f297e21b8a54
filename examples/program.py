"""What the programs of this folder do alike: options, devices, checkpoints, results, Ctrl-C."""
from __future__ import annotations

import argparse
import importlib
import math
import os
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import gpugrad as torch


class DataError(Exception):
    """Data are missing, damaged, or can't be fetched. The message says what to do."""


def fail(message: str) -> NoReturn:
    """End the program with a message and exit status 1."""
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


def positive(kind: type) -> Any:
    """A type for argparse: numbers above 0."""
    def convert(text: str) -> Any:
        number = kind(text)
        if not 0 < number < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
        return number
    convert.__name__ = kind.__name__
    return convert


def share(text: str) -> float:
    """A type for argparse: from 0 up to, but not including, 1."""
    number = float(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to just below 1")
    return number


def parser(description: str, out: str, length: str = "epochs") -> argparse.ArgumentParser:
    """The options that all programs have. Those that aren't given are None.

    ``out`` is the default of --out, and ``length`` what a run is measured in: epochs or steps.
    """
    made = argparse.ArgumentParser(description=description)
    option = made.add_argument
    option("--device", default="auto", help="auto (the default), cpu, cuda or cuda:N")
    option(f"--{length}", type=positive(int), metavar="N", help="how long to train")
    option("--seed", type=int, help="default: 1")
    option("--resume", type=Path, metavar="CHECKPOINT", help="go on with an earlier run")
    option("--out", type=Path, metavar="DIR",
           help=f"where the checkpoint and the pictures go (default: {out}, or the folder of the "
                "checkpoint that is resumed)")
    option("--smoke", action="store_true",
           help="the whole program in a few seconds, with results in a temporary folder")
    return made


def settings_for(options: argparse.Namespace, defaults: dict[str, Any],
                 state: dict[str, Any] | None, may_change: tuple[str, ...]) -> dict[str, Any]:
    """What decides the course of a run: given options, else the checkpoint's, else defaults."""
    settings = {**defaults, **({} if state is None else state["settings"])}
    for name in settings:
        given = getattr(options, name, None)
        if given is None or given is False or given == settings[name]:
            continue
        if state is not None and name not in may_change:
            fail(f"--{name.replace('_', '-')} {given} doesn't go with --resume: that run has "
                 f"{settings[name]}, and a run keeps it to its end")
        settings[name] = given
    return settings


def usable_device(name: str) -> Any:
    """The torch.device of that name; the program ends if it can't be used."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(1, device=name).device
    except RuntimeError as problem:
        fail(f"--device {name}: {problem}")


def needed(module: str, package: str) -> Any:
    """Import a module that gpugrad itself doesn't need."""
    try:
        return importlib.import_module(module)
    except ImportError as problem:
        fail(f"this program needs {package} ({problem}); install it with\n"
             f"  pip install 'gpugrad[examples]'")


def result_folder(options: argparse.Namespace, default: str) -> Path:
    """--out, made if need be; the program ends if it can't be."""
    if options.out is None and options.resume is None and options.smoke:
        return Path(tempfile.mkdtemp(prefix="gpugrad-"))
    out = options.out or (options.resume.parent if options.resume else Path(default))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        fail(f"{out} can't be a folder for the results: {problem}")
    return out


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint. Whatever goes wrong, an older one of that name stays whole."""
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as problem:
        fail(f"the checkpoint {path} can't be written: {problem}")
    finally:
        part.unlink(missing_ok=True)


def read_checkpoint(path: Path, kind: str) -> dict[str, Any]:
    """The checkpoint of this kind at ``path``; the program ends if it can't be read."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        fail(f"there is no checkpoint {path}")
    except Exception as problem:      # a damaged file can make the reader raise anything
        fail(f"{path} is damaged or not a checkpoint: {problem}")
    if not isinstance(state, dict) or state.get("format") != kind:
        fail(f"{path} is not a checkpoint of this program (a run of it leaves checkpoint.pt)")
    return state


def random_state(device: Any) -> list[Any]:
    """Where the generators stand that draw on the CPU and, for a GPU, on it."""
    on_cpu = torch.get_rng_state()
    return [on_cpu, torch.cuda.get_rng_state(device)] if device.type == "cuda" else [on_cpu]


def set_random_state(states: list[Any], device: Any) -> None:
    """Go back to an earlier ``random_state``; one of another kind of device gives what it can."""
    torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)


def resume_command(checkpoint: Path, options: argparse.Namespace, *more: str) -> str:
    """What to type to go on with a run that was stopped; ``more`` options are repeated if given."""
    command = ["python", sys.argv[0], "--resume", str(checkpoint)]
    if options.device != "auto":
        command += ["--device", options.device]
    for name in more:
        given = getattr(options, name)
        if given is not None:
            command += [f"--{name.replace('_', '-')}", str(given)]
    return shlex.join(command)


class Stop:
    """Within this context the first Ctrl-C only asks for a stop; a second one interrupts."""

    asked = False

    def __enter__(self) -> Stop:
        self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.signal(signal.SIGINT, self.before)

    def _ask(self, *args: object) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self.before)
