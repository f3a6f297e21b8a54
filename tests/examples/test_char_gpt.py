"""The GPT's program: it learns, writes, resumes to the bit, stops at Ctrl-C, refuses."""
from __future__ import annotations

import math
import re
import signal
import sys

import pytest
from example_runs import EXAMPLES, PNG, After, assert_resumes, assert_same

import gpugrad as torch

SMALL = ("--layers", 1, "--width", 32, "--context", 32, "--steps", 40, "--every", 20)


@pytest.fixture(scope="module")
def whole_run(run_example, tmp_path_factory):
    """A small run, as a user starts it: its folder and what it printed."""
    pytest.importorskip("matplotlib", reason="the example draws with matplotlib")
    out = tmp_path_factory.mktemp("whole")
    return out, run_example("char_gpt.py", "--smoke", *SMALL, "--out", out)


@pytest.fixture
def gpt(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import char_gpt

    return char_gpt


@pytest.fixture
def tiny(gpt, monkeypatch):
    """tiny(device, ...) makes a run of a few steps on a text of two lines."""
    from text_data import Text

    monkeypatch.setattr(gpt, "SAMPLE", 4)

    def make(device="cpu", **changes):
        settings = {**gpt.DEFAULTS, **gpt.SMOKE, "layers": 1, "width": 8, "context": 8, "steps": 6,
                    "every": 3, "batch_size": 3, "dropout": 0.1, **changes}
        text = Text("two lines", "the cat sat on the mat\n\nand the dog sat on the log\n\n" * 20)
        return gpt.Run(settings, text, torch.device(device))

    return make


def test_a_run_learns_writes_and_leaves_a_picture(whole_run):
    out, run = whole_run
    assert run.returncode == 0, run.stderr
    assert re.match(r"Python's language reference: 90,000 characters to learn from, 10,000 held "
                    r"out, \d+ different ones\nGPT with [\d,]+ parameters on cpu\n", run.stdout)
    lines = run.stderr.splitlines()
    found = [re.fullmatch(rf"step {20 * i + 20}/40  loss (\d\.\d{{4}})  [\d,]+ characters/s  "
                          r"held out (\d\.\d{4})", line) for i, line in enumerate(lines)]
    assert len(found) == 2 and all(found), lines
    assert float(found[1][2]) < float(found[0][2]) < 4.4        # nats; 4.6 without a model
    bits = re.search(r"\nheld out: (\d\.\d{3}) bits a character\n\Z", run.stdout)
    assert float(bits[1]) == pytest.approx(float(found[1][2]) / math.log(2), abs=0.002)
    assert sorted(p.name for p in out.iterdir()) == ["char_gpt.png", "checkpoint.pt"]
    assert (out / "char_gpt.png").read_bytes()[:8] == PNG
    assert (out / "char_gpt.png").stat().st_size > 60_000

    state = torch.load(out / "checkpoint.pt")
    assert [entry["step"] for entry in state["history"]] == [20, 40]
    for entry in state["history"]:
        assert len(entry["sample"]) == 240 and set(entry["sample"]) <= set(state["symbols"])
        for line in entry["sample"].strip("\n").splitlines():
            assert f"    {line}\n" in run.stdout


@pytest.mark.parametrize("batches", [0, 1])
def test_a_run_stopped_after_any_step_goes_on_exactly(gpt, tiny, tmp_path, batches):
    assert_resumes(gpt, tiny, gpt.Run.train_some, 2, batches, tmp_path / "checkpoint.pt")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_leaves_a_checkpoint_that_goes_on_bit_for_bit(whole_run, start_example, run_example,
                                                             tmp_path):
    process = start_example("char_gpt.py", "--smoke", *SMALL, "--out", tmp_path)
    try:
        assert process.stderr.readline().startswith("step 20/40")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in err, err
    assert re.search(r"stopped; go on with\n +python .*char_gpt\.py --resume .*checkpoint\.pt\n",
                     out), out
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]

    run = run_example("char_gpt.py", "--resume", tmp_path / "checkpoint.pt")
    assert run.returncode == 0, run.stderr
    assert_same(torch.load(whole_run[0] / "checkpoint.pt"), torch.load(tmp_path / "checkpoint.pt"))


def test_the_same_on_every_device(gpt, tiny, device):
    found = []
    for where in "cpu", device:
        run = tiny(where, dropout=0.0, steps=2, every=1)
        for _ in range(2):
            run.train_some(After(100))
        found.append([(entry["train"], entry["test"]) for entry in run.history])
    assert found[1] == [pytest.approx(pair, rel=1e-4) for pair in found[0]]


def test_what_it_looks_at_adds_up_and_leads_to_what_it_says(tiny):
    run = tiny(layers=2, heads=2)
    weights = run.attention("the cat")
    assert weights.shape == (2, 2, 7, 7)
    assert weights.sum(-1) == pytest.approx(1, abs=1e-5)
    assert not weights[..., 0, 1:].any()
    block, x = run.net.blocks[0].eval(), torch.randn(1, 5, 8)
    values = block.attention.queries_keys_values(x)[2]
    by_hand = (block.attention.weights(x) @ values).transpose(1, 2).reshape(1, 5, 8)
    assert torch.allclose(block.attention(x), block.attention.output(by_hand), atol=1e-6)


def test_what_surprises_it_is_measured_for_each_letter(tiny):
    run = tiny()
    text, nats = run.read(40)
    assert len(text) == len(nats) == 40
    held_out = run.symbols.decode(run.test.tolist())
    start = held_out.index(text)
    assert held_out[start - 2:start] == "\n\n"
    with torch.no_grad():           # one from the first window, one with half a window before it
        for i, first in (5, start - 1), (21, start + 15):
            x = run.test[first:start + i][None]
            chances = run.net(x)[0, -1].log_softmax(-1)
            assert nats[i] == pytest.approx(-chances[run.test[start + i]].item(), abs=1e-5)


def test_the_learning_rate_rises_and_falls(gpt):
    rates = [gpt.rate(step, 100) for step in range(101)]
    assert rates[0] == 0.2 and rates[4] == rates[5] == 1 and rates[100] == pytest.approx(0.1)
    assert rates[5:] == sorted(rates[5:], reverse=True)


def test_the_shortest_text_there_may_be(gpt, tmp_path, monkeypatch):
    """No end of line, and one letter in the text held out that isn't anywhere else."""
    pytest.importorskip("matplotlib", reason="the example draws with matplotlib")
    monkeypatch.setattr(gpt, "SAMPLE", 4)
    path = tmp_path / "short.txt"
    path.write_text("$abc" * 159 + "xabc")
    options = ["--context", "16", "--width", "8", "--heads", "1", "--layers", "1"]
    assert gpt.main(["--text", str(path), *options, "--steps", "2", "--every", "1", "--out",
                     str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "char_gpt.png").read_bytes()[:8] == PNG


def test_what_it_refuses(gpt, whole_run, tmp_path):
    checkpoint = str(whole_run[0] / "checkpoint.pt")
    short, latin, other = (tmp_path / name for name in ("short.txt", "latin.txt", "other.txt"))
    short.write_text("too short")
    latin.write_bytes(b"caf\xe9" * 2000)
    other.write_text("another text " * 1000)
    before = sorted(tmp_path.iterdir())
    for options, words in (
            (["--text", str(short)], r"short\.txt is too short: 9 characters, .* needs 5,120"),
            (["--text", str(latin)], r"latin\.txt can't be read as UTF-8"),
            (["--text", str(tmp_path / "none.txt")], r"none\.txt can't be read"),
            (["--resume", checkpoint, "--text", str(other)], "not the one that the run"),
            (["--resume", checkpoint, "--width", "64"], "--width 64 doesn't go with --resume"),
            (["--resume", str(other)], "damaged or not a checkpoint"),
            (["--width", "30"], "--width 30 can't be divided among 4 heads")):
        with pytest.raises(SystemExit, match=words):
            gpt.main([*options, "--out", str(tmp_path / "out")])
    assert sorted(tmp_path.iterdir()) == before
