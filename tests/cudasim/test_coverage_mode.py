"""Line coverage of .cu files: in a process, over several, and the command that reports it."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpugrad.cudasim import compiler, coverage

SOURCE = '''#line 1 "common.cuh"
__device__ int twice(int x) {
    if (x > 100)
        return 200;
    return 2 * x;
}
#line 1 "some.cu"
extern "C" __global__ void used(int* x, int n) {
    int i = threadIdx.x;
    if (i >= n)
        return;
#ifdef THRICE
    x[i] = 3 * x[i];
#else
    x[i] = twice(x[i]);
#endif
}

extern "C" __global__ void unused(int* x) {
    x[threadIdx.x] = 0;
}
'''
ROOT = Path(compiler.__file__).parents[2]


@pytest.fixture
def counted(sim, tmp_path, monkeypatch):
    monkeypatch.setenv("GPUGRAD_CUDASIM_CACHE", str(tmp_path))
    monkeypatch.setattr(compiler, "counting", [])
    with sim.settings.using("coverage"):
        yield tmp_path


def launch(sim, name, *args, options=()):
    function = compiler.Module(SOURCE, options, path="some.cu").function(name)
    function((1,), (4,), (sim.pointer(sim.array([1, 2, 3, 4], np.int32)), *args))


def test_lines_of_sources_and_headers(sim, counted):
    launch(sim, "used", np.int32(4))
    found = coverage.report()
    assert list(found) == ["common.cuh", "some.cu"]
    assert found["common.cuh"].missed == {3}
    assert found["some.cu"].missed == {4, 12, 13, 14}
    assert found["some.cu"].executed == {1, 2, 3, 8}
    launch(sim, "used", np.int32(3))
    launch(sim, "unused")
    assert coverage.report()["some.cu"].missed == set()
    launch(sim, "used", np.int32(4), options=["-DTHRICE"])      # a line that others don't have
    assert coverage.report()["some.cu"].executed == {1, 2, 3, 4, 6, 8, 12, 13, 14}
    coverage.reset()
    assert not any(lines.executed for lines in coverage.report().values())


SCRIPT = """
import sys
import numpy as np
sys.path.insert(0, {here!r})
import test_coverage_mode as t
from conftest import Simulator
from gpugrad.cudasim import kernel
kernel.settings.mode = "coverage"
t.launch(Simulator(), *eval(sys.argv[1]))
"""


def other_process(cache, *arguments):
    run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120,
                         env={**os.environ, "GPUGRAD_CUDASIM_CACHE": str(cache),
                              "PYTHONPATH": str(ROOT)})
    return run.returncode, run.stdout, run.stderr


def test_processes_add_their_counts(counted):
    script = SCRIPT.format(here=str(Path(__file__).parent))
    for arguments in ('("used", np.int32(2))', '("unused",)'):
        assert other_process(counted, "-c", script, arguments) == (0, "", "")
    assert coverage.report()["some.cu"].missed == set()
    code, out, err = other_process(counted, "-m", "gpugrad.cudasim", "coverage", "some.cu",
                                   "kernels/other.cu", "--fail-under", "95")
    assert code == 1 and err == "less than 95 %\n"
    assert out.splitlines() == [
        "common.cuh                   4 lines   75.0 %  not executed: 3",
        "other.cu                 never compiled",
        "some.cu                      8 lines  100.0 %",
        "all                         13 lines   84.6 %"]
    assert other_process(counted, "-m", "gpugrad.cudasim", "coverage", "--reset")[0] == 0
    assert coverage.report() == {}


def test_the_cache_command(counted):
    (counted / "old.so").write_text("")
    assert other_process(counted, "-m", "gpugrad.cudasim", "cache") == (0, f"{counted}\n", "")
    other_process(counted, "-m", "gpugrad.cudasim", "cache", "--clear")
    assert not counted.exists()


def test_ranges():
    assert coverage.ranges({1, 2, 3, 7, 9, 10}) == "1-3 7 9-10" and coverage.ranges([]) == ""
