"""Work in NumPy's calls that threads share: the same numbers, and nothing left behind."""
from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import backend
from gpugrad.backend import compiled, threads

pytestmark = pytest.mark.skipif(threads.blas() is None, reason="NumPy's BLAS isn't its OpenBLAS")


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    compiled.library()
    monkeypatch.setattr(compiled, "_found", [None])          # NumPy alone
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    monkeypatch.undo()
    torch.set_num_threads(before)



def convolved(c_in: int, c_out: int, size: int, kernel: int, stride: int) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    x, w = (torch.tensor(draw.standard_normal(shape).astype(np.float32), requires_grad=True)
            for shape in ((16, c_in, size, size), (c_out, c_in, kernel, kernel)))
    y = torch.nn.functional.conv2d(x, w, torch.ones(c_out), stride=stride, padding=kernel // 2)
    y.backward(torch.ones_like(y) * y.detach())
    assert x.grad is not None and w.grad is not None
    return [a.numpy() for a in (y.detach(), x.grad, w.grad)]


@pytest.mark.parametrize("case", [(64, 64, 32, 3, 1), (64, 256, 28, 1, 1), (128, 128, 8, 3, 1),
                                  (64, 128, 32, 3, 2), (16, 96, 32, 3, 1)])
def test_convolutions_are_the_same(case: tuple[int, int, int, int, int], two_threads: None,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    shared = threads.shared

    def counted(work: object, items: list[object]) -> object:
        seen.append(len(items))
        return shared(work, items)  # type: ignore[arg-type]

    monkeypatch.setattr(threads, "shared", counted)
    found = convolved(*case)
    assert len(seen) == 3 and max(seen) > 1
    assert threads.get() == 2                    # BLAS has its threads again
    torch.set_num_threads(1)
    for a, b in zip(found, convolved(*case), strict=True):
        assert (a == b).all()


def test_results_come_in_order_from_several_threads(two_threads: None) -> None:
    both = threading.Barrier(2, timeout=60)

    def work(i: int) -> tuple[int, bool, int]:
        if i < 2:
            both.wait()                          # passes only if two work at the same time
        return i, threading.current_thread() is threading.main_thread(), threads.get()

    assert list(threads.shared(work, range(20))) == [(i, False, 1) for i in range(20)]


def test_errors_end_the_work(two_threads: None) -> None:
    done: list[int] = []

    def work(i: int) -> None:
        if i == 3:
            raise KeyError("three")
        done.append(i)

    with pytest.raises(KeyError, match="three"):
        list(threads.shared(work, range(1000)))
    there = len(done)
    assert threads.get() == 2 and there < 20
    assert list(threads.shared(lambda i: i, [1, 2])) == [1, 2]
    assert len(done) == there


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a child by fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_has_threads_of_its_own(two_threads: None) -> None:
    assert sum(threads.shared(lambda i: i, range(5))) == 10
    child = os.fork()
    if not child:
        os._exit(int(sum(threads.shared(lambda i: i, range(5))) != 10))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_little_work_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "shared", None)
    assert list(backend.cpu.results(abs, [-1, 2], 1000)) == [1, 2]
