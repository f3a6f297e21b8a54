"""What the tests of several example programs ask: the same to the bit, and stops at will."""
from __future__ import annotations

from pathlib import Path

import gpugrad as torch

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PNG = b"\x89PNG\r\n\x1a\n"


class After:
    """A stop that is asked for after so many batches."""

    def __init__(self, batches):
        self.batches = batches

    @property
    def asked(self):
        self.batches -= 1
        return self.batches < 0


def assert_same(a, b, where="checkpoint"):
    """Equal bit for bit, tensors and numbers, all the way down."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_same(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and a.shape == b.shape, where
        assert a.cpu().numpy().tobytes() == b.cpu().numpy().tobytes(), where
    else:
        assert a == b, where


def assert_resumes(program, make, train, parts, batches, path):
    """A run of so many parts, stopped after some batches of the first, goes on exactly.

    make() gives a run, train(run, stop) trains it for a part, and program has FORMAT.
    """
    from program import read_checkpoint, save_checkpoint

    whole = make()
    for _ in range(parts):
        train(whole, After(1000))
    expected = whole.state()

    stopped = make()
    train(stopped, After(batches))
    assert stopped.step == batches + 1 and not stopped.history
    save_checkpoint(path, stopped.state())

    torch.manual_seed(99)           # whatever happened in between
    resumed = make()
    resumed.load(path, read_checkpoint(path, program.FORMAT))
    for _ in range(parts):
        train(resumed, After(1000))
    assert_same(expected, resumed.state())
