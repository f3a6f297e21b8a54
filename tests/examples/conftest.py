"""Running the programs of examples/ as a user would."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def start_example():
    """start_example("name.py", *options) starts it with this Python; returns the process."""
    paths = [path for path in (os.environ.get("PYTHONPATH"), str(ROOT)) if path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}

    def start(name, *options, cwd=ROOT):
        command = [sys.executable, str(ROOT / "examples" / name), *map(str, options)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd,
                                env=environment, text=True, encoding="utf-8")

    return start


@pytest.fixture(scope="session")
def run_example(start_example):
    """run_example("name.py", *options) runs it to its end."""
    def run(name, *options, **more):
        process = start_example(name, *options, **more)
        try:
            out, err = process.communicate(timeout=200)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run
