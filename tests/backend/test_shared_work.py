"""Work in NumPy's calls that threads share: the same numbers, and nothing left behind."""
from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

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
    seen = counted(monkeypatch)
    found = convolved(*case)
    assert len(seen) >= 3 and max(seen) > 1
    assert threads.get() == 2                    # BLAS has its threads again
    torch.set_num_threads(1)
    for a, b in zip(found, convolved(*case), strict=True):
        assert (a == b).all()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items each call of share() will have."""
    seen: list[int] = []
    share = threads.share

    def wrapped(work: Any, items: Any, take: Any = None) -> None:
        seen.append(len(items))
        share(work, items, take)

    monkeypatch.setattr(threads, "share", wrapped)
    return seen


F = torch.nn.functional
SHARED: dict[str, tuple[Callable[..., torch.Tensor], tuple[tuple[int, ...], ...]]] = {
    "batch_norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
                   ((16, 32, 40, 40), (32,), (32,))),
    "batch_norm, evaluated": (lambda x, w: F.batch_norm(x, w.detach(), w.detach() ** 2, w),
                              ((16, 32, 40, 40), (32,))),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (300,), w, b), ((2000, 300), (300,), (300,))),
    "rms_norm": (lambda x, w: F.rms_norm(x, (300,), w), ((2000, 300), (300,))),
    "gelu": (F.gelu, ((2000, 300),)),
    "gelu, tanh": (lambda x: F.gelu(x, approximate="tanh"), ((2000, 300),)),
    "relu": (F.relu, ((2000, 300),)),
    "softmax": (lambda x: x.softmax(1), ((2000, 300),)),
    "log_softmax": (lambda x: x.log_softmax(1), ((2, 300, 1000),)),
    "cross_entropy": (lambda x: F.cross_entropy(x, torch.arange(2000) % 300), ((2000, 300),)),
    "attention": (F.scaled_dot_product_attention, ((2, 6, 300, 16),) * 3),
    "shared heads": (lambda q, k, v: F.scaled_dot_product_attention(
        q, k, v, is_causal=True, enable_gqa=True), ((2, 6, 300, 16),) + ((2, 2, 300, 16),) * 2)}


@pytest.mark.parametrize("name", SHARED)
def test_other_ops_are_the_same(name: str, two_threads: None,
                                monkeypatch: pytest.MonkeyPatch) -> None:
    function, shapes = SHARED[name]

    def run() -> list[np.ndarray]:
        draw = np.random.default_rng(1)
        xs = [torch.tensor(draw.standard_normal(s).astype(np.float32), requires_grad=True)
              for s in shapes]
        y = function(*xs)
        y.backward(torch.tensor(draw.standard_normal(y.shape).astype(np.float32)))
        return [y.detach().numpy(), *[x.grad.numpy() for x in xs]]

    seen = counted(monkeypatch)
    found = run()
    assert seen and max(seen) > 1
    torch.set_num_threads(1)
    for a, b in zip(found, run(), strict=True):
        assert (a == b).all()


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_optimizers_are_the_same(optimizer: Any, two_threads: None,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> np.ndarray:
        draw = np.random.default_rng(2)
        w = torch.nn.Parameter(torch.tensor(draw.standard_normal((900, 500)).astype(np.float32)))
        stepper = optimizer([w], lr=0.1, weight_decay=0.01)
        for _ in range(3):
            w.grad = w.detach() * 0.5
            stepper.step()
        return w.detach().numpy()

    seen = counted(monkeypatch)
    found = run()
    assert seen and max(seen) > 1
    torch.set_num_threads(1)
    assert (found == run()).all()


def test_results_are_taken_in_order(two_threads: None) -> None:
    both, taken = threading.Barrier(2, timeout=60), []

    def work(i: int) -> tuple[int, int]:
        if i < 2:
            both.wait()                          # passes only if two work at the same time
        if i == 2:
            time.sleep(0.05)                     # the others are done before
        return i, threads.get()

    threads.share(work, range(20), taken.append)
    assert taken == [(i, 1) for i in range(20)] and threads.get() == 2


def test_what_is_shared_shares_nothing_again(two_threads: None) -> None:
    def work(i: int) -> None:
        here = threading.get_ident()
        threads.share(lambda j: found.append(threading.get_ident() == here), [0, 1])

    found: list[bool] = []
    threads.share(work, [0, 1, 2])
    assert found == [True] * 6 and threads.get() == 2


@pytest.mark.parametrize("place", ["work", "take"])
def test_errors_end_the_work(place: str, two_threads: None) -> None:
    done: list[int] = []

    def work(i: int) -> int:
        if i == 3 and place == "work":
            raise KeyError("three")
        return i

    def take(i: int) -> None:
        if i == 3:
            raise KeyError("three")
        done.append(i)

    with pytest.raises(KeyError, match="three"):
        threads.share(work, range(1000), take)
    assert threads.get() == 2 and done == list(range(3))
    threads.share(work, [1, 2], done.append)
    assert done == [0, 1, 2, 1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a child by fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_has_threads_of_its_own(two_threads: None) -> None:
    def total() -> int:
        taken: list[int] = []
        threads.share(lambda i: i, range(5), taken.append)
        return sum(taken)

    assert total() == 10
    child = os.fork()
    if not child:
        os._exit(int(total() != 10))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_little_work_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "share", None)
    taken: list[int] = []
    backend.cpu.share(abs, [-1, 2], 1000, taken.append)
    assert taken == [1, 2]


@pytest.mark.parametrize(("before", "said", "quiet"), [
    ("", None, True), ("import numpy", None, False), ("", "26", False),
    ("import numpy", "20", True)])
def test_blas_is_told_to_be_quiet_before_numpy_is_there(before: str, said: str | None,
                                                        quiet: bool) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_THREAD_TIMEOUT"}
    if said is not None:
        environment["OPENBLAS_THREAD_TIMEOUT"] = said
    code = before + """
import os, gpugrad
from gpugrad._blas_threads import QUIET
print(QUIET, os.environ.get("OPENBLAS_THREAD_TIMEOUT"))"""
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True,
                           text=True, check=True).stdout.split()
    assert found == [str(quiet), said or ("None" if before else "20")]


@pytest.mark.parametrize("shape", [(300, 200, 100), (4, 60, 50, 40)])
@pytest.mark.parametrize("given", [False, True])
def test_products_of_middling_size_wake_no_threads(shape: tuple[int, ...], given: bool,
                                                   two_threads: None,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(multiply: Any, a: Any, b: Any, out: Any) -> Any:
        def here(*args: Any, **kw: Any) -> Any:
            seen.append(threads.get())
            return multiply(*args, **kw)
        return alone(here, a, b, out)

    alone, be = threads.alone, backend.cpu
    monkeypatch.setattr(threads, "alone", counted)
    monkeypatch.setitem(type(be).product.__globals__, "QUIET", True)
    *batch, m, k, n = shape
    a, b = np.ones((*batch, m, k), np.float32), np.ones((*batch, k, n), np.float32)
    out = np.empty((*batch, m, n), np.float32) if given else None
    found = be.matmul(a, b, out)
    assert (found == k).all() and (found is out or not given)
    assert seen == [1] and threads.get() == 2
    monkeypatch.setitem(type(be).product.__globals__, "QUIET", False)
    assert (be.matmul(a, b) == k).all() and seen == [1]
