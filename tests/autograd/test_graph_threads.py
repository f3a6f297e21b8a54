"""Several threads that build and run graphs at once."""

from __future__ import annotations

import sys
import threading

import pytest

import gpugrad as torch

pytestmark = pytest.mark.usefixtures("on_each_device")


@pytest.fixture(autouse=True)
def switch_often():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def run_all(*functions):
    errors = []
    device = torch.get_default_device()             # of this thread

    def guarded(fn):
        try:
            with torch.device(device):
                fn()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(fn,)) for fn in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == [] and not any(thread.is_alive() for thread in threads)


def train(seed, found):
    """A small regression; its result depends on nothing but the seed."""
    w = torch.tensor([[0.1 * seed, 0.2], [0.3, 0.4]], requires_grad=True)
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    for _ in range(60):
        h = (x @ w).tanh() * 1
        h[0] = h[0] * 2
        loss = (h.view(-1) ** 2).sum() + h.t()[0].exp().sum()
        w.grad = None
        loss.backward()
        with torch.no_grad():
            w -= 0.01 * w.grad
    found[seed] = w.tolist()


def test_independent_graphs():
    alone, together = {}, {}
    for seed in range(4):
        train(seed, alone)
    run_all(*[lambda seed=seed: train(seed, together) for seed in range(4)])
    assert alone == together


def test_one_leaf_in_the_graphs_of_two_threads():
    x, n = torch.zeros(500_000, requires_grad=True), 100  # NumPy lets other threads run meanwhile
    accumulator = (y := x * 2).grad_fn.next_functions[0][0]
    g = torch.ones(500_000)._a

    def add():
        for _ in range(n):
            accumulator.add(g, owned=False, graph=False)

    run_all(add, add, add)
    assert bool((x.grad == 3 * n).all())
    y.sum().backward()
    assert bool((x.grad == 3 * n + 2).all())


def test_backward_through_one_graph_from_two_threads():
    x, n = torch.ones(3, requires_grad=True), 100
    y = (x * x).exp().sum()

    def run():
        for _ in range(n):
            y.backward(retain_graph=True)

    run_all(run, run)
    assert x.grad.tolist() == pytest.approx([2 * 2 * n * torch.ones(1).exp().item()] * 3, rel=1e-4)


def test_modes_of_one_thread_among_recording_threads():
    x = torch.ones(3, requires_grad=True)

    def plain():
        for _ in range(300):
            with torch.no_grad():
                assert not (x * 2).requires_grad

    def inference():
        for _ in range(300):
            with torch.inference_mode():
                y = x * 2
                assert y.is_inference() and not y.requires_grad

    def recording():
        for _ in range(300):
            y = x * 2
            assert y.requires_grad and not y.is_inference()

    run_all(plain, recording, inference, recording)
    assert (x * 2).requires_grad


def test_views_of_one_tensor_in_two_threads():
    base = torch.zeros(64)
    kept = []

    def view():
        for i in range(400):
            kept.append(base[i % 64])
            base[0]

    run_all(view, view)
    w = torch.ones(64, requires_grad=True)
    base.add_(w)
    assert all(v.requires_grad for v in kept)


def test_a_graph_from_another_thread():
    made = []
    x = torch.ones(3, requires_grad=True)
    run_all(lambda: made.append((x * 3).sum()))
    made[0].backward()
    assert x.grad.tolist() == [3, 3, 3]
