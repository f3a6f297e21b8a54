"""The LSTM's program: it learns, resumes to the bit; words and their spaces; what it refuses."""
from __future__ import annotations

import re

import pytest
from example_runs import EXAMPLES, PNG, After, assert_resumes

import gpugrad as torch

TEXT = "The cat sat on the mat.\n\nAnd the dog (a big one) sat\non the log.\n\n" * 12


@pytest.fixture
def words(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import lstm_words

    return lstm_words


@pytest.fixture
def tiny(words, monkeypatch):
    """tiny(device, ...) makes a run of a few chunks an epoch on a short text."""
    from text_data import Text

    monkeypatch.setattr(words, "SAMPLE", 4)

    def make(device="cpu", **changes):
        settings = {**words.DEFAULTS, "width": 6, "length": 15, "batch_size": 4, "epochs": 2,
                    **changes}
        return words.Run(settings, Text("short", TEXT), torch.device(device))

    return make


def test_a_run_learns_and_leaves_a_checkpoint_and_a_picture(run_example, tmp_path):
    pytest.importorskip("matplotlib", reason="the example draws with matplotlib")
    run = run_example("lstm_words.py", "--smoke", "--width", 32, "--epochs", 2, "--out", tmp_path)
    assert run.returncode == 0, run.stderr
    lines = run.stderr.splitlines()
    found = [re.fullmatch(rf"epoch {i + 1}/2  perplexity +(\d+\.\d)  [\d,]+ words/s  "
                          r"held out +(\d+\.\d)", line) for i, line in enumerate(lines)]
    assert len(found) == 2 and all(found), lines
    assert float(found[1][1]) < float(found[0][1]) and float(found[1][2]) < float(found[0][2]) < 250
    assert run.stdout.endswith(f"held out: perplexity {found[1][2]}\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "lstm_words.png"]
    assert (tmp_path / "lstm_words.png").read_bytes()[:8] == PNG
    assert (tmp_path / "lstm_words.png").stat().st_size > 60_000
    state = torch.load(tmp_path / "checkpoint.pt")
    assert (state["epoch"], state["step"], state["memory"]) == (2, 0, None)
    assert len(state["history"]) == 2 and "<unk>" not in state["history"][1]["sample"]


@pytest.mark.parametrize("batches", [0, 2])
def test_a_run_stopped_after_any_chunk_goes_on_exactly(words, tiny, tmp_path, batches, device):
    assert tiny().chunks == 4           # and each draws what drops out, on a GPU there
    assert_resumes(words, lambda: tiny(device), words.Run.train_epoch, 2, batches,
                   tmp_path / "checkpoint.pt")


def test_the_same_on_every_device(tiny, device):
    found = []
    for where in "cpu", device:
        run = tiny(where, dropout=0.0, layers=1)
        run.train_epoch(After(100))
        found.append((run.history[0]["train"], run.history[0]["test"]))
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_perplexity_is_that_of_every_word_in_its_place(tiny):
    run = tiny()
    with torch.no_grad():           # all columns at once, and not 100 words at a time
        run.net.eval()
        output, _ = run.net(run.test[:-1])
        expected = torch.nn.functional.cross_entropy(output.flatten(0, 1), run.test[1:].flatten())
    assert run.test_loss() == pytest.approx(expected.item(), rel=1e-5)
    shown, nats = run.read(5)
    chances = output[:5, 0].log_softmax(-1)
    for i, (word, value) in enumerate(zip(shown, nats)):
        assert value == pytest.approx(-chances[i, run.words.number[word]].item(), rel=1e-5)


def test_neighbours_have_the_largest_cosines(tiny):
    run = tiny(least=1)
    run.words.symbols[3:5] = ["longish", "others"]
    with torch.no_grad():
        run.net.words.weight[5] = run.net.words.weight[3] * 2
    found = run.neighbours(2, 2)
    assert list(found) == ["longish", "others"]
    [(word, cosine), (_, less)] = found["longish"]
    assert word == run.words.symbols[5] and cosine == pytest.approx(1) and less < cosine


def test_words_and_the_spaces_between_them(words):
    from text_data import Words, split

    text = 'A "b" (c_1) says: don\'t, 3.11 == x...\nnext line\n\nnew'
    found = split(text)
    assert found == ["a", '"', "b", '"', "(", "c_1", ")", "says", ":", "don't", ",", "3.11", "==",
                     "x", "...", "next", "line", "<eol>", "new", "<eol>"]
    table = Words.of(text, 1)
    assert table.symbols[0] == "<unk>" and len(table) == 1 + len(set(found))
    assert table.decode(table.encode(text)) == (
        'a "b" (c_1) says: don\'t, 3.11 == x... next line\nnew\n')
    few = Words.of("to be or not to be", 2)
    assert few.symbols == ["<unk>", "be", "to", "<eol>"]
    assert few.encode("to be or").tolist() == [2, 1, 0, 3]


def test_a_text_of_one_line_and_one_common_word(words, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="the example draws with matplotlib")
    monkeypatch.setattr(words, "SAMPLE", 4)
    path = tmp_path / "short.txt"
    path.write_text(" ".join(f"common {chr(97 + i % 26)}{i}" for i in range(250)))
    assert words.main(["--text", str(path), "--width", "4", "--epochs", "1", "--out",
                       str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "lstm_words.png").read_bytes()[:8] == PNG


def test_what_it_refuses(words, tiny, tmp_path):
    from program import save_checkpoint

    checkpoint, short, other = (str(tmp_path / name) for name in ("c.pt", "short.txt", "other.txt"))
    save_checkpoint(tmp_path / "c.pt", tiny().state())
    (tmp_path / "short.txt").write_text("word " * 20)
    (tmp_path / "other.txt").write_text("another text. " * 2000)
    before = sorted(tmp_path.iterdir())
    for options, message in (
            (["--text", short], r"short\.txt is too short: 100 characters, .* needs 2,000"),
            (["--text", other, "--batch-size", "3000"], "too short for columns of two words"),
            (["--resume", checkpoint, "--text", other], "not the one that the run"),
            (["--resume", checkpoint, "--layers", "3"], "--layers 3 doesn't go with --resume"),
            (["--resume", short], "damaged or not a checkpoint")):
        with pytest.raises(SystemExit, match=message):
            words.main([*options, "--out", str(tmp_path / "out")])
    assert sorted(tmp_path.iterdir()) == before
