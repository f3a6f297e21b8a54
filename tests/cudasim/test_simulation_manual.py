"""docs/testing-without-a-gpu.md: its examples do what it says."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpugrad.cudasim import compiler, errors, kernel

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/testing-without-a-gpu.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)

needs_compiler = pytest.mark.skipif(not compiler.available(), reason="there is no g++")


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith("GPUGRAD_CUDA")}
    kept.pop("GPUGRAD_REQUIRE_GPU", None)
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300,
                          cwd=folder, env={**kept, "PYTHONPATH": str(ROOT)})


@needs_compiler
@pytest.mark.parametrize("code", [b for b in BLOCKS if "simulate()" in b],
                         ids=lambda code: code.split("\n")[4])
def test_programs(code: str, tmp_path: Path) -> None:
    done = run(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr


@needs_compiler
def test_tests_with_the_fixture(tmp_path: Path) -> None:
    conftest, tests = [b for b in BLOCKS if "simulate()" not in b]
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_it.py").write_text(tests)
    done = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_all_exceptions_and_settings_are_named() -> None:
    named = set(re.findall(r"`(\w+Error)`", TEXT))
    assert named - {"NotImplementedError"} <= set(vars(errors))
    for variable in re.findall(r"`GPUGRAD_CUDASIM_(\w+)`", TEXT):
        sources = [p.read_text(encoding="utf-8") for p in (ROOT / "gpugrad").rglob("*.py")]
        assert any(f"GPUGRAD_CUDASIM_{variable}" in s for s in sources), variable
    assert kernel.settings.mode in TEXT
