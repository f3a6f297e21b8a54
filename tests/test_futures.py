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


def test_an_error_among_several():
    fs: list[futures.Future] = [futures.Future() for _ in range(2)]
    together = futures.collect_all(fs)
    fs[1].set_exception(ValueError("no"))
    fs[0].set_result(1)
    for wait in (together.wait, fs[1].value, lambda: futures.wait_all(fs)):
        with pytest.raises(ValueError, match="no"):
            wait()


def test_from_many_threads():
    for _ in range(20):
        fs: list[futures.Future] = [futures.Future() for _ in range(16)]
        together = futures.collect_all(fs)
        threads = [threading.Thread(target=f.set_result, args=(i,)) for i, f in enumerate(fs)]
        for t in threads:
            t.start()
        assert together.result(timeout=10) == fs


def test_a_result_comes_once():
    f: futures.Future = futures.Future()
    with pytest.raises(AssertionError, match="not an Exception"):
        f.set_exception(3)  # type: ignore[arg-type]
    f.set_result(1)
    for again in (lambda: f.set_result(2), lambda: f.set_exception(ValueError())):
        with pytest.raises(RuntimeError, match="is complete"):
            again()
