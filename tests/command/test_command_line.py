"""``python -m gpugrad``: every command as from a shell."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import nn

ROOT = Path(__file__).resolve().parents[2]


def shell(*arguments: Any, cwd: Path | None = None, **variables: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a command."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **variables}
    environment.pop("GPUGRAD_CUDA" if "GPUGRAD_CUDA" not in variables else "", None)
    run = subprocess.run([sys.executable, "-m", "gpugrad", *map(str, arguments)], cwd=cwd,
                         capture_output=True, text=True, timeout=300, env=environment)
    return run.returncode, run.stdout, run.stderr


def test_help_and_wrong_arguments():
    status, out, _ = shell("--help")
    assert status == 0 and all(name in out for name in (
        "env", "selftest", "warmup", "inspect", "convert", "run"))
    for name in ("env", "selftest", "warmup", "inspect", "convert", "run"):
        status, out, _ = shell(name, "--help")
        assert status == 0 and out.startswith(f"usage: python -m gpugrad {name}")
    for wrong in ((), ("fly",), ("inspect",), ("env", "--xml")):
        status, out, err = shell(*wrong)
        assert status == 2 and out == "" and "usage:" in err


def test_env():
    status, out, err = shell("env")
    assert status == 0 and err == ""
    assert torch.__version__ in out and np.__version__ in out
    status, out, _ = shell("env", "--json")
    facts = json.loads(out)
    assert status == 0 and facts["numpy"] == np.__version__
    assert facts["cuda"]["usable"] or facts["cuda"]["why_not"]


def test_env_of_a_simulated_device():
    if not torch.cuda.is_available() or not torch.cuda.sim.is_simulated():
        pytest.skip("needs g++")
    _, out, _ = shell("env", "--json", GPUGRAD_CUDA="sim")
    cuda = json.loads(out)["cuda"]
    assert cuda["usable"] and cuda["simulated"]
    assert cuda["devices"][0]["device"] == "cuda:0"


def test_selftest_of_the_cpu():
    status, out, _ = shell("selftest", "--device", "cpu")
    assert status == 0 and "checks passed" in out
    assert shell("selftest", "--device", "tpu")[0] == 1


@pytest.mark.gpu
def test_selftest_finds_a_broken_kernel(monkeypatch, capsys):
    """A sum that leaves out the last row must not pass."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    from gpugrad.command import selftest
    from gpugrad.command.line import main
    monkeypatch.setattr(selftest, "_functions", lambda: iter([
        ("good", lambda t: t[0] * 2, ((3, 3),)),
        ("bad", lambda t: t[0] * (2 if t[0].is_cuda else 3), ((3, 3),))]))
    assert main(["selftest", "--device", "cuda"]) == 1
    out = capsys.readouterr().out
    assert "bad in float32 is off by" in out and "good" not in out


def test_warmup():
    if not torch.cuda.is_available() or not torch.cuda.sim.is_simulated():
        pytest.skip("needs g++")
    status, out, _ = shell("warmup", "--dtypes", "float32", GPUGRAD_CUDA="sim")
    assert status == 0 and "kernels of" in out
    status, _, err = shell("warmup", "--dtypes", "float8", GPUGRAD_CUDA="sim")
    assert status == 1 and "no such precision: float8" in err
    assert shell("warmup", "--device", "cpu", GPUGRAD_CUDA="sim")[0] == 1


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    opt = torch.optim.Adam(net.parameters())
    net(torch.randn(4, 3)).sum().backward()
    opt.step()
    path = tmp_path / "run.pt"
    torch.save({"model": net.state_dict(), "optimizer": opt.state_dict(), "epoch": 3}, path)
    return path


def test_inspect(checkpoint):
    status, out, _ = shell("inspect", checkpoint)
    assert status == 0
    assert "model.0.weight" in out and "2x3" in out and "optimizer.state.0.exp_avg" in out
    status, out, _ = shell("inspect", "--json", checkpoint)
    entries = {e["name"]: e for e in json.loads(out)}
    assert status == 0
    assert entries["model.0.weight"] == {"name": "model.0.weight", "dtype": "float32",
                                         "shape": [2, 3], "bytes": 24}
    assert entries["model.1.num_batches_tracked"]["dtype"] == "int64"


@pytest.mark.parametrize("kind", [".npz", ".safetensors", ".pth"])
def test_convert_there_and_back(checkpoint, tmp_path, kind):
    target, back = tmp_path / f"other{kind}", tmp_path / "back.pt"
    status, out, err = shell("convert", checkpoint, target)
    assert status == 0, err
    assert "tensors written to" in out
    listed = json.loads(shell("inspect", "--json", target)[1])
    assert {e["name"] for e in listed} == {
        e["name"] for e in json.loads(shell("inspect", "--json", checkpoint)[1])}
    assert shell("convert", target, back)[0] == 0
    want, got = torch.load(checkpoint), torch.load(back)
    for name, value in want["model"].items():
        assert torch.equal(got[f"model.{name}"], value)
        assert got[f"model.{name}"].dtype is value.dtype
    status, _, err = shell("convert", checkpoint, target)
    assert status == 1 and "exists: say --force" in err
    assert shell("convert", "--force", checkpoint, target)[0] == 0


def test_files_that_cannot_be_used(tmp_path, checkpoint):
    broken = tmp_path / "broken.pt"
    broken.write_bytes(checkpoint.read_bytes()[:300])
    for arguments, reason in (
            (("inspect", tmp_path / "none.pt"), "there is no file"),
            (("inspect", broken), "can't be read"),
            (("inspect", __file__), "the ending must be one of"),
            (("convert", checkpoint, tmp_path / "x.txt"), "the ending must be one of"),
            (("convert", broken, tmp_path / "x.npz"), "can't be read"),
            (("convert", checkpoint, tmp_path / "no" / "x.pt"), "can't be written")):
        status, out, err = shell(*arguments)
        assert status == 1 and out == "", arguments
        assert reason in err and err.startswith("gpugrad: ") and "Traceback" not in err, err
    low = tmp_path / "low.pt"
    pytest.importorskip("ml_dtypes")
    torch.save({"w": torch.ones(2, dtype=torch.bfloat16)}, low)
    status, _, err = shell("convert", low, tmp_path / "low.npz")
    assert status == 1 and "no bfloat16" in err


PROGRAM = """
import sys
import torch, torch.nn as nn, torch.nn.functional as F
from torch.utils.data import DataLoader
import gpugrad
assert gpugrad is torch and nn is gpugrad.nn and gpugrad.__spec__.name == "gpugrad"
import helper
try:
    import torch.nothing
except ModuleNotFoundError as e:
    print(e.name)
print(sys.argv[1:], helper.NAME, nn.Linear(2, 1), __name__)
sys.exit(int(sys.argv[-1]))
"""


def test_run(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "helper.py").write_text("import torch\nNAME = torch.ones(2).sum().item()\n")
    status, out, err = shell("run", "--force", tmp_path / "program.py", "-x", "--help", 5)
    assert status == 5, err
    assert out.splitlines() == [
        "torch.nothing",
        "['-x', '--help', '5'] 2.0 Linear(in_features=2, out_features=1, bias=True) __main__"]
    assert shell("run", "--force", "-m", "program", 0, cwd=tmp_path)[0] == 0
    status, _, err = shell("run", "--force", tmp_path / "none.py")
    assert status == 1 and "there is no file" in err
    (tmp_path / "torch").mkdir()                 # something installed under PyTorch's name
    (tmp_path / "torch" / "__init__.py").write_text("")
    status, _, err = shell("run", tmp_path / "program.py", 0,
                           PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}")
    assert status == 1 and "say --force" in err
