"""Pinned memory, copies that don't wait, and memory that another stream uses."""
from __future__ import annotations

import gc
from collections import namedtuple
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import backend
from gpugrad.backend import cuda as cuda_backend
from gpugrad.pinned import pin_batch
from gpugrad.utils.data import DataLoader, TensorDataset

pytestmark = pytest.mark.gpu


@pytest.fixture
def waits() -> Any:
    """How often the host has waited for the device since the test began."""
    if not cuda_backend.simulated():
        pytest.skip("only the simulated device counts")
    torch.cuda.sim.reset()
    return lambda: torch.cuda.sim.stats().syncs


def test_pinning() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    y = x.t().pin_memory()
    assert y.is_pinned() and not x.is_pinned() and y.device.type == "cpu"
    assert y.is_contiguous() and y.tolist() == x.t().tolist()
    assert y.pin_memory() is y and y[1:].is_pinned() and not (y + 0).is_pinned()
    assert torch.ones(0, 3).pin_memory().shape == (0, 3)
    assert torch.tensor(2.0).pin_memory().is_pinned()
    assert x.requires_grad_().pin_memory().requires_grad is False
    with pytest.raises(RuntimeError, match=r"cannot pin 'torch\.cuda\.FloatTensor' only dense CPU"):
        torch.ones(2, device="cuda").pin_memory()
    assert not torch.ones(2, device="cuda").is_pinned()


@pytest.mark.parametrize("make", [
    lambda **k: torch.empty(2, 3, **k), lambda **k: torch.zeros(2, 3, **k),
    lambda **k: torch.ones(2, 3, **k), lambda **k: torch.full((2, 3), 4.0, **k),
    lambda **k: torch.tensor([[1, 2]], **k), lambda **k: torch.rand(2, 3, **k),
    lambda **k: torch.randn(2, 3, **k), lambda **k: torch.randint(5, (4,), **k),
    lambda **k: torch.randperm(5, **k), lambda **k: torch.arange(4, **k),
    lambda **k: torch.linspace(0, 1, 3, **k), lambda **k: torch.eye(3, **k),
    lambda **k: torch.zeros_like(torch.ones(3), **k), lambda **k: torch.ones(2).new_zeros(2, **k),
    lambda **k: torch.ones(2).new_tensor([1.0], **k),
    lambda **k: torch.empty_strided((2, 2), (2, 1), **k),
    lambda **k: torch.rand_like(torch.ones(3), **k),
])
def test_new_tensors_in_pinned_memory(make: Any) -> None:
    torch.manual_seed(0)
    x = make(pin_memory=True)
    torch.manual_seed(0)
    plain = make()
    assert x.is_pinned() and not plain.is_pinned()
    assert (x.shape, x.dtype) == (plain.shape, plain.dtype)
    with pytest.raises(RuntimeError, match="Only dense CPU tensors can be pinned"):
        make(pin_memory=True, device="cuda")


def test_copies_to_the_device(waits: Any) -> None:
    pageable, pinned = torch.arange(1000.0), torch.arange(1000.0).pin_memory()
    for copy in (lambda x: x.to("cuda", non_blocking=True), lambda x: x.cuda(non_blocking=True),
                 lambda x: torch.empty(1000, device="cuda").copy_(x, non_blocking=True),
                 lambda x: x.to("cuda", torch.float32, True)):
        for x in (pageable, pinned):
            got = copy(x)
            assert waits() == 0
            assert (got.cpu() == x).all()
            torch.cuda.sim.reset()
    pageable.cuda()
    assert waits() == 0                                     # CuPy has copied it to a buffer
    pinned.cuda()
    assert waits() == 1                                     # it may be overwritten from here on


def test_copies_to_the_host(waits: Any) -> None:
    x = torch.arange(12.0, device="cuda").reshape(3, 4)
    for source in (x, x.t(), x[:, 1], x[:0], x.sum()):
        y = source.to("cpu", non_blocking=True)
        assert y.is_pinned() and y.shape == source.shape
        torch.cuda.synchronize()
        assert (y == source.cpu()).all()
    torch.cuda.sim.reset()
    pinned = torch.empty(3, 4, pin_memory=True)
    version = pinned._version
    assert pinned.copy_(x, non_blocking=True) is pinned and waits() == 0
    assert pinned._version == version + 1
    torch.cuda.synchronize()
    assert (pinned == x.cpu()).all()


def test_copies_to_the_host_that_have_to_wait(waits: Any) -> None:
    x = torch.arange(6.0, device="cuda").reshape(2, 3)
    for target in (torch.empty(2, 3), torch.empty(2, 3, pin_memory=True).double(),
                   torch.empty(3, 2, pin_memory=True).t(), torch.empty(4, 2, 3).pin_memory()):
        target.copy_(x, non_blocking=True)
        assert waits() == 1
        assert (target == x.cpu().to(target.dtype)).all()
        torch.cuda.sim.reset()


def test_gradients_flow_through_copies_that_do_not_wait() -> None:
    x = torch.ones(3).pin_memory().requires_grad_()
    (x.cuda(non_blocking=True) * 2).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2, 2, 2] and not x.grad.is_cuda


def test_sources_live_until_the_copy_is_done() -> None:
    be = backend.get("cuda:0")
    done = [False]
    event = SimpleNamespace(record=lambda stream: None)

    class Event(SimpleNamespace):
        @property
        def done(self) -> bool:
            return done[0]

    held = be.copies._held
    held.clear()
    try:
        x = torch.ones(3, device="cuda").to("cpu", non_blocking=True)
        assert len(held) == 1 and held[0][1] is x._a
        held[0] = (Event(), held[0][1])
        be.copies.forget_finished()
        assert len(held) == 1                               # the copy is still under way
        done[0] = True
        torch.cuda.empty_cache()
        assert len(held) == 0
    finally:
        held.clear()
    assert event


def test_record_stream() -> None:
    be, side = backend.get("cuda:0"), torch.cuda.Stream()
    be.copies._held.clear()
    x = torch.ones(1000, device="cuda")
    x.record_stream(side)
    used = torch.cuda.memory_allocated()
    assert len(be.copies._held) == 0
    del x
    gc.collect()
    assert len(be.copies._held) == 1 and torch.cuda.memory_allocated() == used
    side.synchronize()
    torch.cuda.empty_cache()
    assert len(be.copies._held) == 0 and torch.cuda.memory_allocated() < used
    torch.ones(2).record_stream(side)                       # nothing to do on the CPU


def test_the_loader_pins_batches() -> None:
    data = TensorDataset(torch.arange(10.0), torch.arange(10))
    got = list(DataLoader(data, 4, pin_memory=True))
    assert [len(x) for x, _ in got] == [4, 4, 2]
    assert all(x.is_pinned() and y.is_pinned() for x, y in got)
    assert not next(iter(DataLoader(data, 4)))[0].is_pinned()
    rows = DataLoader([{"x": np.ones(2), "name": "a"}] * 3, 3, pin_memory=True)
    batch = next(iter(rows))
    assert batch["x"].is_pinned() and batch["name"] == ["a"] * 3


def test_containers_are_kept_as_they_are() -> None:
    Pair = namedtuple("Pair", "a b")

    class Named(dict[str, Any]):
        label = "mine"

    class Own:
        def pin_memory(self) -> str:
            return "pinned"

    x = torch.ones(2)
    got = pin_batch({"pair": Pair(x, 3), "list": [x, "text"], "tuple": (x, None), "own": Own()})
    assert type(got["pair"]) is Pair and got["pair"].a.is_pinned() and got["pair"].b == 3
    assert got["list"][0].is_pinned() and got["list"][1] == "text"
    assert got["tuple"][0].is_pinned() and got["tuple"][1] is None and got["own"] == "pinned"
    named = Named(x=x)
    assert type(pin_batch(named)) is Named and pin_batch(named)["x"].is_pinned()
    assert not named["x"].is_pinned() and pin_batch(range(2)) == [0, 1]
