"""The autoencoder's program: its output, exact resumption, and what it refuses."""
from __future__ import annotations

import re

import pytest

import gpugrad as torch

pytest.importorskip("sklearn", reason="the example's data are scikit-learn's")
pytest.importorskip("matplotlib", reason="the example draws with matplotlib")

PNG = b"\x89PNG\r\n\x1a\n"
FEW = ("--latent", 4, "--batch-size", 128)


@pytest.fixture(scope="module")
def whole_run(run_example, tmp_path_factory):
    """A smoke run of three epochs, as a user starts it: its folder and what it printed."""
    out = tmp_path_factory.mktemp("whole")
    return out, run_example("vae.py", "--smoke", *FEW, "--out", out)


def test_a_run_learns_and_leaves_a_checkpoint_and_a_picture(whole_run):
    out, run = whole_run
    assert run.returncode == 0, run.stderr
    match = re.search(r"\ntest bound: (-\d+\.\d\d) nats an image\n\Z", run.stdout)
    lines = run.stderr.splitlines()
    assert len(lines) == 3 and lines[0].startswith("epoch 1/3  bound -")
    first = float(re.search(r"bound (-[\d.]+)", lines[0])[1])
    assert match and first + 10 < float(match[1]) < -90, (run.stdout, lines)
    assert sorted(p.name for p in out.iterdir()) == ["checkpoint.pt", "vae.png"]
    assert (out / "vae.png").read_bytes()[:8] == PNG
    assert (out / "vae.png").stat().st_size > 20_000


def test_a_resumed_run_ends_as_one_that_was_not_stopped(whole_run, run_example, tmp_path):
    run = run_example("vae.py", "--smoke", *FEW, "--epochs", 1, "--out", tmp_path)
    assert run.returncode == 0, run.stderr
    run = run_example("vae.py", "--resume", tmp_path / "checkpoint.pt", "--epochs", 3)
    assert run.returncode == 0, run.stderr
    a, b = (torch.load(folder / "checkpoint.pt") for folder in (whole_run[0], tmp_path))
    assert a["history"] == b["history"] and len(a["history"]) == 3
    for name, weight in a["model"].items():
        assert torch.equal(weight, b["model"][name])
    assert torch.equal(a["rng"], b["rng"])


def test_what_it_refuses(whole_run, run_example, tmp_path):
    checkpoint = whole_run[0] / "checkpoint.pt"
    (tmp_path / "damaged.pt").write_bytes(checkpoint.read_bytes()[:500])
    for options, text in (
            (("--resume", checkpoint, "--latent", 7), "--latent 7 doesn't go with --resume"),
            (("--resume", tmp_path / "damaged.pt"), "damaged or not a checkpoint"),
            (("--resume", tmp_path / "none.pt"), "there is no checkpoint"),
            (("--device", "tpu"), "--device tpu")):
        run = run_example("vae.py", *options)
        assert run.returncode == 1 and run.stderr.startswith("vae.py: ") and text in run.stderr
        assert "Traceback" not in run.stderr
