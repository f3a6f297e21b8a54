"""Two devices addressed by index: arithmetic, copies, streams, memory, random numbers, graphs."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gpugrad as torch
from gpugrad.backend import cuda
from gpugrad.cudasim import driver

pytestmark = pytest.mark.gpu
PROGRAM = Path(__file__).with_name("two_devices.py")


def test_a_program_on_two_devices() -> None:
    env, command = dict(os.environ), [sys.executable]
    if driver.is_installed():
        env["GPUGRAD_CUDASIM_DEVICES"] = "2"
        command += ["-m", "gpugrad.cudasim", "cupy"]
    elif cuda.simulated():
        env |= {"GPUGRAD_CUDA": "sim", "GPUGRAD_CUDASIM_DEVICES": "2"}
    elif torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    root = str(Path(torch.__file__).parents[1])
    env["PYTHONPATH"] = os.pathsep.join([root, env.get("PYTHONPATH", "")])
    done = subprocess.run([*command, str(PROGRAM)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "two devices: all well\n" and "Exception ignored" not in done.stderr
