"""What tests marked ``gpu`` run on: tests/conftest.py, in processes of their own."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpugrad.backend import cuda

ROOT = Path(__file__).resolve().parents[2]
TESTS = "tests/cuda/test_dispatch.py::test_to_and_back", "tests/nn/test_nn_utils.py"


def outcome(**environment: str) -> tuple[int, str]:
    kept = {n: v for n, v in os.environ.items()
            if n not in ("GPUGRAD_CUDA", "GPUGRAD_REQUIRE_GPU", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rsf", "-o", "addopts=",
         "--strict-markers", *TESTS], capture_output=True, text=True, timeout=300, cwd=ROOT,
        env={**kept, "PYTHONPATH": str(ROOT), **environment})
    return done.returncode, done.stdout + done.stderr


def count(what: str, text: str) -> int:
    found = re.search(rf"(\d+) {what}", text.splitlines()[-1])
    return int(found[1]) if found else 0


@pytest.fixture
def no_gpu() -> None:
    if not cuda.simulated():
        pytest.skip("there is a real GPU, or no C++ compiler")


@pytest.mark.usefixtures("no_gpu")
def test_the_simulated_device_in_check_mode() -> None:
    code, text = outcome()
    assert code == 0 and "cuda: simulated, check mode" in text
    assert not count("skipped", text)
    assert count("passed", text) > 10


@pytest.mark.usefixtures("no_gpu")
def test_skipped_without_a_compiler() -> None:
    code, text = outcome(CXX="/nowhere/g++")
    assert code == 0 and "tests on it are skipped" in text and "install g++" in text
    assert count("skipped", text) > 5 and count("passed", text) > 5


@pytest.mark.usefixtures("no_gpu")
def test_a_demanded_gpu_is_not_simulated() -> None:
    code, text = outcome(GPUGRAD_REQUIRE_GPU="1")
    assert code == 1 and not count("skipped", text)
    assert "GPUGRAD_REQUIRE_GPU=1, but there is no CUDA device" in text
    assert count("errors", text) > 5 and count("passed", text) > 5
    code, text = outcome(GPUGRAD_REQUIRE_GPU="1", GPUGRAD_CUDA="sim")
    assert code == 4 and "asks for a real GPU, and GPUGRAD_CUDA=sim for a simulated one" in text
