"""README.md: its two commands are one line each, and its program runs and prints what it says."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.S | re.M)


def test_two_commands_of_one_line():
    commands = blocks("sh")
    assert len(commands) == 2 and all(command.count("\n") == 1 for command in commands)
    train, test = commands
    assert train.endswith(" && .venv/bin/python examples/train_digits.py\n")
    assert test.endswith(" && .venv/bin/python -m pytest\n")
    for command in commands:            # each works on its own, on a bare machine
        assert command.startswith("test -x .venv/bin/pip || python3 -m venv .venv && ")
        # && all the way: the first failure ends it, and is its exit status
        assert ";" not in command and "|| true" not in command


def test_the_program_prints_what_it_says():
    [code] = blocks("python")
    paths = [path for path in (os.environ.get("PYTHONPATH"), str(ROOT)) if path]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100,
                         env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    assert run.returncode == 0, run.stderr
    promised = re.findall(r"^print\(.*\) +# (.*)$", code, re.M)
    assert len(promised) == 2
    for line, said in zip(run.stdout.splitlines(), promised, strict=True):
        pattern = re.escape(said).replace(re.escape("0x..."), "0x[0-9a-fA-F]+")
        assert re.fullmatch(pattern, line), f"README says {said}, but it prints {line}"


def test_what_it_points_to_exists():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    assert targets
    assert not [target for target in targets if not (ROOT / target).exists()]
