"""torch.futures."""
from __future__ import annotations

import threading

import pytest

import gpugrad as torch
from gpugrad import futures


def test_a_result_that_comes_later():
    f: futures.Future = torch.Future()
    doubled = f.then(lambda done: done.value() * 2)
    with pytest.raises(RuntimeError, match="no value yet"):
        f.value()
    threading.Timer(0.01, lambda: f.set_result(21)).start()
    assert doubled.wait() == 42 and f.done() and f.value() == 21


def test_errors_go_on_to_what_follows():
    f: futures.Future = futures.Future()
    after = f.then(lambda done: done.wait())
    f.set_exception(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        after.wait()


def test_several_at_once():
    fs: list[futures.Future] = [futures.Future() for _ in range(3)]
    together = futures.collect_all(fs)
    for i, f in enumerate(fs):
        assert not together.done()
        f.set_result(i)
    assert together.wait() == fs and futures.wait_all(fs) == [0, 1, 2]
    assert futures.collect_all([]).wait() == []
