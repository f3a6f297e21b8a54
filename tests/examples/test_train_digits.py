"""The digits digits: its output, exact resumption, Ctrl-C, files that are damaged or missing."""
from __future__ import annotations

import re
import signal
import sys

import numpy as np
import pytest
from example_runs import EXAMPLES, PNG, assert_resumes, assert_same

import gpugrad as torch

pytest.importorskip("sklearn", reason="the example's data are scikit-learn's")
pytest.importorskip("matplotlib", reason="the example draws with matplotlib")


@pytest.fixture(scope="module")
def whole_run(run_example, tmp_path_factory):
    """A smoke run of six epochs, as a user starts it: its folder and what it printed."""
    out = tmp_path_factory.mktemp("whole")
    return out, run_example("train_digits.py", "--smoke", "--epochs", 6, "--out", out)


@pytest.fixture
def digits(monkeypatch):
    """The program as a module."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import train_digits

    return train_digits


def failed(run):
    """The one message of a run that ended with an error; no traceback, nothing after it."""
    assert run.returncode == 1, run.stdout + run.stderr
    assert run.stderr.startswith("train_digits.py: ") and "Traceback" not in run.stderr, run.stderr
    assert "test accuracy" not in run.stdout
    return run.stderr


# Output ------------------------------------------------------------------------------------------

def test_a_run_learns_and_leaves_a_checkpoint_and_a_picture(whole_run):
    out, run = whole_run
    assert run.returncode == 0, run.stderr
    match = re.search(r"\ntest accuracy: (\d+\.\d) %\n\Z", run.stdout)
    assert match and float(match[1]) > 80, run.stdout
    assert "512 images to learn from, 128 held out" in run.stdout

    lines = run.stderr.splitlines()
    assert len(lines) == 6          # standard error is no terminal: plain lines, one an epoch
    for i, line in enumerate(lines):
        assert re.fullmatch(rf"epoch {i + 1}/6  loss \d\.\d{{4}}  accuracy +\d+\.\d %  "
                            r"[\d,]+ images/s  test +\d+\.\d %", line), line
    assert sorted(p.name for p in out.iterdir()) == ["checkpoint.pt", "digits.png"]
    assert (out / "digits.png").read_bytes()[:8] == PNG
    assert (out / "digits.png").stat().st_size > 30_000

    state = torch.load(out / "checkpoint.pt")
    assert (state["epoch"], state["step"], len(state["history"])) == (6, 0, 6)
    assert state["history"][-1]["loss"] < state["history"][0]["loss"] / 2


def test_mixed_precision_learns_as_well(digits, device, tmp_path, capsys):
    pytest.importorskip("ml_dtypes")
    assert digits.main(["--smoke", "--amp", "--device", device, "--epochs", "2", "--out",
                        str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert float(out.split("test accuracy: ")[1].split(" %")[0]) > 60
    state = torch.load(tmp_path / "checkpoint.pt", map_location="cpu")
    assert state["settings"]["amp"] and bool(state["scaler"]) == (device == "cuda")
    assert all(v.dtype is torch.float32 for v in state["model"].values())


def test_a_finished_run_can_be_resumed(whole_run, run_example, tmp_path):
    out, first = whole_run
    run = run_example("train_digits.py", "--resume", out / "checkpoint.pt", "--out", tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert run.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    assert [p.name for p in tmp_path.iterdir()] == ["digits.png"]


def test_bar_on_a_terminal(digits, monkeypatch):
    import io

    from progress import Bar

    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("progress._REDRAW_SECONDS", 0)
    stream = Terminal()
    bar = Bar("epoch 1/2", 4, stream=stream)
    for i in range(4):
        bar.advance(lambda i=i: f"loss {i}")
    bar.close("loss 3")
    *drawn, last = stream.getvalue().split("\r\x1b[2K")[1:]
    assert [re.sub("[━─]+", "*", line) for line in drawn] == [
        f"epoch 1/2 *  {i + 1}/4  loss {i}" for i in range(4)]
    assert [line.count("━") for line in drawn] == [6, 12, 18, 24]
    assert [line.count("─") for line in drawn] == [18, 12, 6, 0]
    assert last == "epoch 1/2  loss 3\n"

    monkeypatch.setenv("COLUMNS", "16")
    stream = Terminal()
    stream.encoding = "ascii"
    bar = Bar("epoch 1/2", 4, stream=stream)
    bar.advance(lambda: "loss 0")
    assert stream.getvalue() == "\r\x1b[2Kepoch 1/2  1/4 "      # cut to the terminal's width
    stream.getvalue().encode("ascii")


# Resuming ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("batches", [0, 2, 6])
def test_a_run_stopped_after_any_batch_goes_on_exactly(digits, tmp_path, batches, capsys):
    settings = {"dataset": "digits", "epochs": 2, "batch_size": 64, "lr": 0.002, "seed": 3,
                "amp": False, "smoke": True}
    data = digits.read_data(settings, tmp_path)
    assert_resumes(digits, lambda: digits.Run(settings, data, torch.device("cpu")),
                   digits.Run.train_epoch, 2, batches, tmp_path / "stopped.pt")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_leaves_a_checkpoint_that_goes_on_bit_for_bit(whole_run, start_example, run_example,
                                                             tmp_path):
    process = start_example("train_digits.py", "--smoke", "--epochs", 6, "--out", tmp_path)
    try:
        assert process.stderr.readline().startswith("epoch 1/6")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "test accuracy" not in out
    assert re.search(r"stopped; go on with\n +python .*train_digits\.py "
                     r"--resume .*checkpoint\.pt\n", out), out
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]

    run = run_example("train_digits.py", "--resume", tmp_path / "checkpoint.pt")
    assert run.returncode == 0, run.stderr
    whole_out, whole = whole_run
    assert run.stdout.splitlines()[-1] == whole.stdout.splitlines()[-1]
    assert_same(torch.load(whole_out / "checkpoint.pt"), torch.load(tmp_path / "checkpoint.pt"))


def test_a_resumed_run_keeps_its_seed(whole_run, run_example, tmp_path):
    run = run_example("train_digits.py", "--resume", whole_run[0] / "checkpoint.pt", "--seed", 5,
                      "--out", tmp_path / "out")
    assert "--seed 5 doesn't go with --resume" in failed(run)
    assert not (tmp_path / "out").exists()


# Checkpoints that can't be used ------------------------------------------------------------------

def damaged(tmp_path, good, kind):
    path = tmp_path / "bad.pt"
    content = good.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("these are not the weights you are looking for")
    elif kind == "cut short":
        path.write_bytes(content[:len(content) // 2])
    elif kind == "foreign":
        torch.save({"epoch": 1, "model": {}}, path)
    elif kind == "other net":
        state = torch.load(good)
        state["model"]["conv1.weight"] = torch.zeros(6, 1, 3, 3)
        torch.save(state, path)
    elif kind == "incomplete":
        state = torch.load(good)
        del state["start_rng"]
        torch.save(state, path)
    return path


@pytest.mark.parametrize("kind, words", [
    ("missing", "there is no checkpoint"), ("empty", "damaged or not a checkpoint"),
    ("text", "damaged or not a checkpoint"), ("cut short", "damaged or not a checkpoint"),
    ("foreign", "not a checkpoint of this program"), ("other net", "doesn't fit this program"),
    ("incomplete", "doesn't fit this program"),
])
def test_a_checkpoint_that_cannot_be_used(digits, whole_run, tmp_path, kind, words):
    path = damaged(tmp_path, whole_run[0] / "checkpoint.pt", kind)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit, match=words) as caught:
        digits.main(["--resume", str(path), "--out", str(tmp_path / "out")])
    assert str(path) in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before         # nothing half-written


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(digits, tmp_path, monkeypatch):
    settings = {"dataset": "digits", "epochs": 1, "batch_size": 64, "lr": 0.002, "seed": 0,
                "amp": False, "smoke": True}
    run = digits.Run(settings, digits.read_data(settings, tmp_path), torch.device("cpu"))
    path = tmp_path / "checkpoint.pt"
    digits.program.save_checkpoint(path, run.state())
    before = path.read_bytes()

    def full(state, file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(digits.torch, "save", full)
    with pytest.raises(SystemExit, match=r"can't be written.*No space left"):
        digits.program.save_checkpoint(path, run.state())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Options and packages ----------------------------------------------------------------------------

@pytest.mark.parametrize("options, words", [
    (["--epochs", "0"], "0 is not a number above 0"),
    (["--lr", "nan"], "nan is not a number above 0"),
    (["--batch-size", "1.5"], "invalid int value"),
    (["--dataset", "letters"], "invalid choice"),
])
def test_options_that_make_no_sense(digits, options, words, capsys):
    with pytest.raises(SystemExit) as caught:
        digits.main(options)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_a_device_that_is_not_there(digits, tmp_path):
    with pytest.raises(SystemExit, match=r"--device banana: .*banana"):
        digits.main(["--smoke", "--device", "banana", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="--device cuda:77: "):
        digits.main(["--smoke", "--device", "cuda:77", "--out", str(tmp_path / "out")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module, package", [("matplotlib", "matplotlib"),
                                             ("sklearn", "scikit-learn")])
def test_a_missing_package_is_named_first(digits, monkeypatch, tmp_path, module, package):
    monkeypatch.setitem(sys.modules, module, None)          # importing it now fails
    monkeypatch.delitem(sys.modules, "digits_picture", raising=False)
    with pytest.raises(SystemExit, match=package) as caught:
        digits.main(["--smoke", "--out", str(tmp_path / "out")])
    assert "pip install 'gpugrad[examples]'" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_picture_of_a_run_that_went_wrong(digits, tmp_path):
    """Losses that are nan, one epoch, and more mistakes than places: still a picture."""
    import digits_picture
    from digits_data import Digits

    images = np.random.default_rng(0).random((40, 1, 32, 32), np.float32)
    data = Digits("noise", images, np.zeros(40, np.int64), images, np.zeros(40, np.int64))
    history = [{"loss": float("nan"), "accuracy": 0.0, "test_loss": float("nan"),
                "test_accuracy": 0.0}]
    digits_picture.draw(tmp_path / "x.png", history, images[:6, :, :5, :5], data,
                        np.full((40, 10), np.nan))
    assert (tmp_path / "x.png").read_bytes()[:8] == PNG
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
