"""``python -m gpugrad``: every command as from a shell."""
from __future__ import annotations

import itertools
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
    for device, text in (("tpu", "tpu"), ("meta", "computes nothing"), ("cuda:99", "")):
        status, out, err = shell("selftest", "--device", device)
        assert status == 1 and out == "" and err.startswith("gpugrad: ") and text in err
        assert "Traceback" not in err


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


def test_selftest_goes_on_after_an_error(monkeypatch, capsys):
    from gpugrad.command import selftest
    from gpugrad.command.line import main
    monkeypatch.setattr(selftest, "_functions", lambda: iter([
        ("broken", lambda t: t[0] @ t[0], ((2, 3),)), ("good", lambda t: t[0] * 2, ((3, 3),))]))
    assert main(["selftest", "--device", "cpu"]) == 1
    out = capsys.readouterr().out
    assert "broken in float32 raised RuntimeError: mat1 and mat2" in out and "good" not in out


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


def test_inspect_reads_no_elements(tmp_path, capsys):
    """The file has a hundred megabytes of them."""
    import tracemalloc

    from gpugrad.command.line import main
    path = tmp_path / "large.pt"
    torch.save({"x": torch.zeros(25_000_000), "y": torch.ones(3)}, path)
    tracemalloc.start()
    try:
        assert main(["inspect", str(path)]) == 0
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert "25000000  100.0 MB" in capsys.readouterr().out
    old = tmp_path / "old.pt"
    torch.save({"x": torch.zeros(2, 3)}, old, _use_new_zipfile_serialization=False)
    assert main(["inspect", str(old)]) == 0 and "2x3" in capsys.readouterr().out


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
        assert "\n" not in err.rstrip("\n") and "can't be read: 'W" not in err
    twice = tmp_path / "twice.pt"
    torch.save({"a": {"b": torch.ones(1)}, "a.b": torch.ones(1)}, twice)
    status, _, err = shell("convert", twice, tmp_path / "x.npz")
    assert status == 1 and "two tensors that would be called 'a.b'" in err


def test_bfloat16_through_all_formats(tmp_path):
    pytest.importorskip("ml_dtypes")
    paths = [tmp_path / f"x{kind}" for kind in (".pt", ".npz", ".safetensors", ".pth")]
    torch.save({"w": torch.tensor([1.5, -2.0]).bfloat16(), "n": torch.tensor(3)}, paths[0])
    for a, b in itertools.pairwise(paths):
        assert shell("convert", a, b)[0] == 0
        entries = {e["name"]: e["dtype"] for e in json.loads(shell("inspect", "--json", b)[1])}
        assert entries == {"w": "bfloat16", "n": "int64"}
    assert torch.load(paths[-1])["w"].tolist() == [1.5, -2]


def test_a_disk_that_is_full_keeps_the_old_file(tmp_path, checkpoint):
    resource = pytest.importorskip("resource")
    for kind in (".pt", ".npz", ".safetensors"):
        target = tmp_path / f"old{kind}"
        target.write_bytes(b"old")
        code = ("import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
                "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
                "from gpugrad.command.line import main; sys.exit(main())")
        run = subprocess.run([sys.executable, "-c", code, "convert", "--force", checkpoint, target],
                             env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
                             text=True)
        assert run.returncode == 1 and "can't be written: [Errno 27]" in run.stderr, run.stderr
        assert target.read_bytes() == b"old" and resource
        assert {p.name for p in tmp_path.iterdir()} >= {target.name}
    assert not [p for p in tmp_path.iterdir() if p.suffix not in (".pt", ".npz", ".safetensors")]


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


CHILDREN = """
import subprocess, sys, torch
from torch.utils.data import DataLoader, Dataset

class Rows(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, i):
        return torch.ones(2) * i

if __name__ == "__main__":
    for context in ("spawn", "forkserver"):
        loader = DataLoader(Rows(), 2, num_workers=1, multiprocessing_context=context)
        print(context, sum(x.sum().item() for x in loader), flush=True)
    subprocess.run([sys.executable, "-c", "import torch, torchvision; print(torch.__name__)"])
"""


def test_programs_see_the_version_that_is_followed(tmp_path):
    (tmp_path / "program.py").write_text(
        "import torch, torchvision\n"
        "print(torch.__version__, torch.version.__version__, torchvision.__version__)\n"
        "assert tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 0)\n")
    status, out, err = shell("run", "--force", tmp_path / "program.py")
    own = f"+gpugrad.{torch.__version__}"
    assert status == 0 and out.split() == ["2.13.0" + own, "2.13.0" + own, "0.28.0" + own], err


# What ignite, captum, kornia, PyTorch Lightning and vector-quantize-pytorch import.
STAND_INS = """
from torch._subclasses.fake_tensor import is_fake, FakeTensor
from torch.distributed import nn as dist_nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Shard, Placement
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.nn.parallel.scatter_gather import scatter
from torch.utils.flop_counter import FlopCounterMode
import torch
x = torch.torch.ones(2)
print(is_fake(x), get_proxy_mode(), isinstance(x, DTensor), issubclass(Shard, Placement),
      FlopCounterMode(display=False).get_total_flops(), torch.distributed.nn is dist_nn)
for f in (dist_nn.all_reduce, ZeroRedundancyOptimizer, scatter, FlopCounterMode().__enter__):
    try:
        f()
    except NotImplementedError as e:
        print(str(e).partition(" is")[0])
import torch.distributed.nothing
"""


def test_modules_that_run_alone_serves(tmp_path):
    (tmp_path / "program.py").write_text(STAND_INS)
    status, out, err = shell("run", "--force", tmp_path / "program.py")
    assert status == 1 and "gpugrad has no gpugrad.distributed.nothing" in err, err
    assert out.splitlines() == [
        "False None False True 0 True", "torch.distributed.nn.all_reduce",
        "torch.distributed.optim.ZeroRedundancyOptimizer",
        "torch.nn.parallel.scatter_gather.scatter", "torch.utils.flop_counter"]


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
    (tmp_path / "children.py").write_text(CHILDREN)
    status, out, err = shell("run", "--force", tmp_path / "children.py")
    assert status == 0 and out.split() == ["spawn", "12.0", "forkserver", "12.0", "gpugrad"], err
    (tmp_path / "torch").mkdir()                 # something installed under PyTorch's name
    (tmp_path / "torch" / "__init__.py").write_text("")
    status, _, err = shell("run", tmp_path / "program.py", 0,
                           PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}")
    assert status == 1 and "say --force" in err
