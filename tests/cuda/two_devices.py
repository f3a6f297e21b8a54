"""What test_two_devices.py runs in a process of its own: a program on two devices."""
from __future__ import annotations

import gc
from typing import Any

import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.nn.functional as F


def new_tensors_and_arithmetic() -> None:
    for make in (lambda d: torch.arange(6.0, device=d), lambda d: torch.linspace(0, 1, 5, device=d),
                 lambda d: torch.rand(5, device=d), lambda d: torch.randn(5, device=d),
                 lambda d: torch.randint(9, (5,), device=d), lambda d: torch.randperm(7, device=d),
                 lambda d: torch.full((3,), 2.5, device=d), lambda d: torch.eye(3, device=d),
                 lambda d: torch.tensor([1.0, 2.0], device=d),
                 lambda d: torch.ones_like(torch.zeros(3, device=d)),
                 lambda d: torch.zeros(4, device=d).uniform_(), lambda d: torch.logspace(
                     0, 1, 3, device=d)):
        torch.manual_seed(1)
        first = make("cuda:0")
        torch.manual_seed(1)
        second = make("cuda:1")
        assert str(second.device) == "cuda:1" and second.tolist() == first.tolist()
        assert (second * 2 + second).tolist() == (first * 2 + first).tolist()
    assert torch.cuda.current_device() == 0
    x = torch.arange(6.0, device="cuda:1").reshape(2, 3)
    assert (x @ x.t()).tolist() == [[5, 14], [14, 50]]
    try:
        x + x.to("cuda:0")
    except RuntimeError as e:
        assert "at least two devices" in str(e)
    else:
        raise AssertionError


def peer_copies() -> None:
    x = torch.arange(6.0, device="cuda:1").reshape(2, 3).requires_grad_()
    for there in ("cuda:0", "cuda:1", "cpu", "cuda:1"):
        y = x.t().to(there, non_blocking=True)
        torch.cuda.synchronize(1)
        assert str(y.device) == there and y.tolist() == x.t().tolist()
    (x.to("cuda:0") * 3).sum().backward()
    assert x.grad is not None and str(x.grad.device) == "cuda:1"
    assert x.grad.tolist() == [[3] * 3] * 2
    pinned = torch.arange(4.0).pin_memory()
    assert pinned.to("cuda:1", non_blocking=True).tolist() == [0, 1, 2, 3]
    assert torch.cuda.can_device_access_peer(0, 1) in (True, False)


def streams() -> None:
    s = torch.cuda.Stream("cuda:1")
    assert s.device_index == 1
    with torch.cuda.stream(s):
        assert torch.cuda.current_device() == 1 and torch.cuda.current_stream() == s
        x = torch.ones(3, device="cuda")
        assert str(x.device) == "cuda:1"
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        y = x @ torch.ones(3, 3, device="cuda:1")
        end.record()
    assert torch.cuda.current_device() == 0
    end.synchronize()
    assert start.elapsed_time(end) >= 0 and start.device == torch.device("cuda:1")
    try:
        end.record(torch.cuda.current_stream())
    except RuntimeError as e:
        assert "does not match recording stream's device 0" in str(e)
    else:
        raise AssertionError
    assert y.tolist() == [3, 3, 3]
    x.record_stream(torch.cuda.Stream("cuda:1"))
    del x
    gc.collect()


def memory() -> None:
    before = [torch.cuda.memory_allocated(i) for i in range(2)]
    torch.cuda.reset_peak_memory_stats(1)
    x = torch.empty(1 << 20, device="cuda:1")
    assert [torch.cuda.memory_allocated(i) for i in range(2)] == [before[0], before[1] + x.nbytes]
    peak = torch.cuda.max_memory_allocated(1)
    del x
    assert torch.cuda.max_memory_allocated("cuda:1") == peak >= before[1] + (4 << 20)
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved(1) < 4 << 20


def random_states() -> None:
    torch.cuda.manual_seed_all(3)
    assert torch.rand(4, device="cuda:0").tolist() == torch.rand(4, device="cuda:1").tolist()
    states = torch.cuda.get_rng_state_all()
    want = [torch.rand(4, device=f"cuda:{i}").tolist() for i in range(2)]
    torch.cuda.set_rng_state_all(states)
    assert [torch.rand(4, device=f"cuda:{i}").tolist() for i in range(2)] == want
    with torch.cuda.device(1):
        torch.cuda.manual_seed(5)
        assert torch.cuda.initial_seed() == 5
    assert torch.cuda.initial_seed() == 3


def graphs() -> None:
    x = torch.randn(6, 3, device="cuda:1")

    def trained(use_graph: bool) -> Any:
        torch.manual_seed(0)
        net = nn.Linear(3, 4).to("cuda:1")
        opt = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)

        def step() -> Any:
            loss = F.dropout(net(x), 0.5).square().mean()
            loss.backward()
            opt.step()
            return loss

        losses = []
        with torch.cuda.device(1), torch.cuda.stream(torch.cuda.Stream()):
            losses.append(step().item())
            opt.zero_grad()
        graph = torch.cuda.CUDAGraph()
        if use_graph:
            with torch.cuda.device(1), torch.cuda.graph(graph):
                loss = step()
        for _ in range(3):                          # device 0 is the current one
            if use_graph:
                graph.replay()
            else:
                loss = step()
                opt.zero_grad()
            losses.append(loss.item())
        return losses

    assert trained(True) == trained(False)
    assert torch.cuda.current_device() == 0


def main() -> None:
    assert torch.cuda.device_count() >= 2
    for part in (new_tensors_and_arithmetic, peer_copies, streams, memory, random_states, graphs):
        part()
    print("two devices: all well")


if __name__ == "__main__":
    main()
