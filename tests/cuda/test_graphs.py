"""CUDA graphs: capture, replay, memory, random numbers, training steps, and what must raise."""
from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.nn.functional as F
from gpugrad import backend
from gpugrad.backend import cuda as cuda_backend
from gpugrad.backend import kernels

pytestmark = pytest.mark.gpu


@pytest.fixture
def with_kernels() -> None:
    if not kernels.enabled():
        pytest.skip("GPUGRAD_KERNELS=0")


@pytest.fixture(autouse=True)
def not_capturing_afterwards() -> Any:
    yield
    be = backend.get("cuda:0")
    assert not be.capturing and be.kept is None
    assert not torch.cuda.is_current_stream_capturing()
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    x = torch.ones(2, device="cuda")
    assert (x + x).tolist() == [2, 2]


def captured(step: Callable[[], Any], warm_up: bool = True, **how: Any) -> tuple[Any, Any]:
    """(the graph of step, what it returned in the capture)."""
    if warm_up:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step()
        torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, **how):
        result = step()
    return graph, result


# Capture and replay ------------------------------------------------------------------------------

def test_replays_compute_with_what_lies_in_the_inputs() -> None:
    x = torch.zeros(3, 4, device="cuda")
    w = torch.arange(8.0, device="cuda").reshape(4, 2)
    graph, y = captured(lambda: torch.relu(x @ w - 5) * 2)
    for value in (1.0, -3.0, 0.25):
        x.fill_(value)
        graph.replay()
        assert (y == torch.relu(x @ w - 5) * 2).all()


def test_nothing_runs_before_the_first_replay() -> None:
    x = torch.zeros(4, device="cuda")
    x.add_(1)
    graph, _ = captured(lambda: x.add_(1), warm_up=False)
    assert x.tolist() == [1] * 4
    graph.replay()
    graph.replay()
    assert x.tolist() == [3] * 4


def test_products_of_all_kinds_are_captured() -> None:
    a, b = torch.randn(5, 3, 4, device="cuda"), torch.randn(4, 6, device="cuda")
    v = torch.randn(4, device="cuda")

    def step() -> Any:
        return a @ b, a @ a.transpose(-1, -2), a[0] @ v, torch.dot(v, v), a.half() @ b.half(), \
            a.double() @ b.double(), torch.addmm(a[0] @ b, a[1], b)

    graph, got = captured(step)
    a.normal_()
    graph.replay()
    for x, want in zip(got, step()):
        assert x.dtype == want.dtype and (x == want).all()


@pytest.mark.parametrize("n", [2, 9, 70])
def test_many_tensors_are_joined(n: int) -> None:
    xs = [torch.randn(2, 3, device="cuda") for _ in range(n)]
    graph, (cat, stack) = captured(lambda: (torch.cat(xs, 1), torch.stack(xs, -1)))
    xs[-1].fill_(7)
    graph.replay()
    assert torch.equal(cat, torch.cat(xs, 1)) and torch.equal(stack, torch.stack(xs, -1))


def test_numbers_before_a_replay_are_not_overwritten_by_it() -> None:
    x, rate = torch.randn(1000, device="cuda"), []
    be = x._be

    def step() -> Any:
        torch.relu(x) * 2                           # its memory is free again
        with be.outside_graph():
            rate.append(torch.empty(1000, device="cuda"))
        return x * rate[-1]

    graph, y = captured(step)
    rate[-1].fill_(3)
    graph.replay()
    assert torch.equal(y, x * 3)


def test_begin_and_end_by_hand() -> None:
    x = torch.ones(4, device="cuda")
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        x * 2
        assert not torch.cuda.is_current_stream_capturing()
        graph.capture_begin()
        assert torch.cuda.is_current_stream_capturing()
        y = x * 2
        graph.capture_end()
    torch.cuda.current_stream().wait_stream(side)
    x += 1
    graph.replay()
    assert y.tolist() == [4] * 4


def test_side_streams_can_fork_from_the_capture_and_join_it() -> None:
    x = torch.ones(4, device="cuda")
    side = torch.cuda.Stream()

    def step() -> Any:
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            y = x * 2
        z = x + 3
        torch.cuda.current_stream().wait_stream(side)
        return y + z

    graph, got = captured(step)
    x += 1
    graph.replay()
    assert got.tolist() == [9] * 4


def test_a_graph_can_be_replayed_on_any_stream() -> None:
    x = torch.ones(4, device="cuda")
    graph, y = captured(lambda: x * 3, stream=torch.cuda.Stream())
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        graph.replay()
    torch.cuda.current_stream().wait_stream(side)
    assert y.tolist() == [3] * 4


def test_pinned_memory_is_read_again_at_each_replay() -> None:
    host, out = torch.ones(4).pin_memory(), torch.empty(4, pin_memory=True)
    x = torch.zeros(4, device="cuda")

    def step() -> None:
        x.copy_(host, non_blocking=True)
        out.copy_(x * 2, non_blocking=True)

    graph, _ = captured(step)
    host.fill_(5)
    graph.replay()
    torch.cuda.synchronize()
    assert x.tolist() == [5] * 4 and out.tolist() == [10] * 4


# Memory ------------------------------------------------------------------------------------------

def test_the_graph_keeps_what_was_allocated_in_the_capture() -> None:
    x = torch.arange(1000.0, device="cuda")
    graph, y = captured(lambda: ((x + 1) * 2).exp().log())
    used = torch.cuda.memory_allocated()
    del y
    assert torch.cuda.memory_allocated() < used             # y's memory is free, for the graph
    gc.collect()
    torch.cuda.empty_cache()
    others = [torch.zeros(1000, device="cuda") for _ in range(20)]
    graph.replay()
    assert all((t == 0).all() for t in others)              # nobody was given the graph's memory


def test_memory_goes_with_the_graph() -> None:
    x = torch.ones(1 << 18, device="cuda")
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    graph, y = captured(lambda: x * 2)
    assert torch.cuda.memory_reserved() >= before + x.nbytes
    graph.reset()
    del graph, y
    gc.collect()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before


def test_graphs_can_share_a_pool() -> None:
    x = torch.ones(4, device="cuda")
    pool = torch.cuda.graph_pool_handle()
    first, y = captured(lambda: x + 1, pool=pool)
    second, z = captured(lambda: y * 2, pool=first.pool())
    assert first.pool() is second.pool() is pool
    x += 1
    first.replay()
    second.replay()
    assert z.tolist() == [6] * 4


def test_cached_numbers_are_kept_by_the_graph() -> None:
    """Ops use Python numbers as arrays from a cache that is emptied now and then."""
    x = torch.ones(4, device="cuda")
    graph, y = captured(lambda: x * 1.2345)
    backend.get("cuda:0").number.clear()
    gc.collect()
    graph.replay()                                          # the simulated device would complain
    assert y[0].item() == pytest.approx(1.2345)


# Random numbers ----------------------------------------------------------------------------------

@pytest.mark.usefixtures("with_kernels")
def test_replays_draw_the_numbers_that_eager_code_would() -> None:
    def step() -> Any:
        return torch.rand(5, device="cuda"), torch.randn(6, device="cuda"), \
            torch.randint(0, 100, (7,), device="cuda"), \
            F.dropout(torch.ones(33, device="cuda"), 0.5)

    graph, got = captured(step)
    torch.cuda.manual_seed(7)
    eager = [step() for _ in range(4)]
    after = torch.rand(3, device="cuda")
    torch.cuda.manual_seed(7)
    for i, want in enumerate(eager):
        if i == 2:
            mine = step()                                   # eager code in between goes on, too
        else:
            graph.replay()
            mine = got
        for x, y in zip(mine, want):
            assert (x == y).all(), i
    assert (torch.rand(3, device="cuda") == after).all()
    assert (eager[0][3] != eager[1][3]).any()


@pytest.mark.usefixtures("with_kernels")
def test_the_capture_itself_uses_no_numbers() -> None:
    torch.rand(4, device="cuda")
    before = torch.cuda.get_rng_state()
    captured(lambda: torch.rand(100, device="cuda"), warm_up=False)
    assert (torch.cuda.get_rng_state() == before).all()


@pytest.mark.usefixtures("with_kernels")
def test_a_new_seed_and_a_restored_state_hold_for_replays() -> None:
    graph, x = captured(lambda: torch.rand(4, device="cuda"))
    torch.cuda.manual_seed(3)
    graph.replay()
    first = x.tolist()
    state = torch.cuda.get_rng_state()
    graph.replay()
    second = x.tolist()
    torch.cuda.set_rng_state(state)
    graph.replay()
    assert x.tolist() == second != first
    torch.manual_seed(3)
    graph.replay()
    assert x.tolist() == first


@pytest.mark.usefixtures("with_kernels")
def test_two_graphs_take_turns_in_one_stream_of_numbers() -> None:
    one, x = captured(lambda: torch.rand(3, device="cuda"))
    two, y = captured(lambda: torch.rand(9, device="cuda"))
    torch.cuda.manual_seed(1)
    want = [torch.rand(n, device="cuda").tolist() for n in (3, 9, 9, 3)]
    torch.cuda.manual_seed(1)
    got = []
    for graph, out in ((one, x), (two, y), (two, y), (one, x)):
        graph.replay()
        got.append(out.tolist())
    assert got == want


@pytest.mark.usefixtures("with_kernels")
def test_generators_of_ones_own_have_to_be_registered() -> None:
    own = torch.Generator("cuda").manual_seed(5)
    want = [torch.rand(4, device="cuda", generator=own).tolist() for _ in range(2)]
    own.manual_seed(5)
    with pytest.raises(RuntimeError, match="register_generator_state"), \
            torch.cuda.graph(torch.cuda.CUDAGraph()):
        torch.rand(4, device="cuda", generator=own)
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(own)
    with torch.cuda.graph(graph):
        x = torch.rand(4, device="cuda", generator=own)
    own.manual_seed(5)
    for numbers in want:
        graph.replay()
        assert x.tolist() == numbers
    with pytest.raises(RuntimeError, match="not of 'cpu'"):
        torch.cuda.CUDAGraph().register_generator_state(torch.Generator())


@pytest.mark.usefixtures("with_kernels")
def test_seeding_during_a_capture_raises() -> None:
    for change in (lambda: torch.cuda.manual_seed(1), torch.cuda.get_rng_state):
        with pytest.raises(RuntimeError, match="is being captured into a graph"), \
                torch.cuda.graph(torch.cuda.CUDAGraph()):
            change()


# Training ----------------------------------------------------------------------------------------

class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.drop = nn.Dropout(0.25)
        self.fc1, self.fc2 = nn.Linear(4 * 9, 16), nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(F.relu(self.conv(x)), 2).flatten(1)
        return self.fc2(self.drop(F.relu(self.fc1(self.drop(x)))))


def batches(n: int) -> list[tuple[Any, Any]]:
    draw = np.random.default_rng(0)
    return [(torch.tensor(draw.standard_normal((6, 1, 8, 8)).astype("f4")).cuda(),
             torch.tensor(draw.integers(0, 5, 6)).cuda()) for _ in range(n)]


def trained(make: Any, use_graph: bool, steps: int = 5) -> tuple[list[float], list[Any]]:
    """(the losses, the parameters) after some steps; 2 warm-up steps come first in either way."""
    torch.manual_seed(0)
    net = Net().cuda()
    opt = make(net.parameters())
    data = batches(steps + 2)
    images, labels = torch.empty_like(data[0][0]), torch.empty_like(data[0][1])

    def step() -> Any:
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        opt.step()
        return loss

    def put(i: int) -> None:
        images.copy_(data[i][0])
        labels.copy_(data[i][1])

    losses = []
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for i in range(2):
            put(i)
            opt.zero_grad()
            losses.append(step().item())
    torch.cuda.current_stream().wait_stream(side)
    if use_graph:
        graph = torch.cuda.CUDAGraph()
        opt.zero_grad()
        with torch.cuda.graph(graph):
            loss = step()
    for i in range(2, steps + 2):
        put(i)
        if use_graph:
            graph.replay()
        else:
            opt.zero_grad()
            loss = step()
        losses.append(loss.item())
    return losses, [p.detach().cpu().numpy() for p in net.parameters()]


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, 0.05),
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, 1e-2, capturable=True),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-2, capturable=True),
}


@pytest.mark.usefixtures("with_kernels")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_captured_training_step_equals_the_eager_one(name: str) -> None:
    """Convolution, dropout, loss, backward and optimizer in one graph: the same bits."""
    want, wanted = trained(OPTIMIZERS[name], False)
    got, parameters = trained(OPTIMIZERS[name], True)
    assert got == want and want[-1] != want[-2]
    for p, q in zip(parameters, wanted):
        assert (p == q).all()


@pytest.mark.usefixtures("with_kernels")
def test_graphed_callables() -> None:
    torch.manual_seed(0)
    eager = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).cuda()
    graphed = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).cuda()
    graphed.load_state_dict(eager.state_dict())
    sample = torch.randn(5, 4, device="cuda", requires_grad=True)
    made = torch.cuda.make_graphed_callables(graphed, (sample,))
    assert made is graphed and all(p.grad is None for p in graphed.parameters())
    for _ in range(3):
        x = torch.randn(5, 4, device="cuda")
        results = []
        for net in (eager, graphed):
            leaf = x.clone().requires_grad_()
            net.zero_grad()
            out = net(leaf)
            (out.square().sum() * 3).backward()
            results.append([out.detach(), leaf.grad, *[p.grad for p in net.parameters()]])
        for a, b in zip(*results):
            assert (a == b).all()
    graphed.eval()                                          # another mode: not by the graph
    assert graphed(torch.ones(2, 4, device="cuda")).shape == (2, 3)


def test_several_graphed_callables_in_a_row() -> None:
    def square(x: Any) -> Any:
        return x * x

    def both(x: Any, y: Any) -> Any:
        return x + y, x * y

    a = torch.ones(3, device="cuda", requires_grad=True)
    b = torch.ones(3, device="cuda")
    f, g = torch.cuda.make_graphed_callables((square, both), ((a,), (a, b)))
    x = torch.tensor([1.0, 2.0, 3.0], device="cuda", requires_grad=True)
    total, product = g(f(x), b * 2)
    assert total.tolist() == [3, 6, 11] and product.tolist() == [2, 8, 18]
    (total + product).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [6, 12, 18]
    with pytest.raises(TypeError, match="only Tensors"):
        torch.cuda.make_graphed_callables(square, (3.0,))
    with pytest.raises(ValueError, match="sample_args for 1"):
        torch.cuda.make_graphed_callables((square, both), ((a,),))


# What must raise ---------------------------------------------------------------------------------

def test_a_replay_needs_a_capture() -> None:
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="replay without a preceding successful capture"):
        graph.replay()
    with pytest.raises(RuntimeError, match=r"pool\(\) without a preceding successful capture"):
        graph.pool()
    with pytest.raises(RuntimeError, match="without capture_begin"):
        graph.capture_end()
    graph, _ = captured(lambda: torch.zeros(1, device="cuda"))
    graph.reset()
    with pytest.raises(RuntimeError, match="replay without a preceding successful capture"):
        graph.replay()


def test_the_default_stream_is_not_captured() -> None:
    with pytest.raises(RuntimeError, match="must be captured on a non-default stream"):
        torch.cuda.CUDAGraph().capture_begin()


def test_one_capture_at_a_time_and_one_per_graph() -> None:
    graph, _ = captured(lambda: torch.zeros(1, device="cuda"))
    with pytest.raises(RuntimeError, match="already owns a captured graph"), \
            torch.cuda.graph(graph):
        pass
    with torch.cuda.stream(torch.cuda.Stream()):
        outer = torch.cuda.CUDAGraph()
        outer.capture_begin()
        with pytest.raises(RuntimeError, match="one at a time"):
            torch.cuda.CUDAGraph().capture_begin()
        with pytest.raises(RuntimeError, match="while the graph is captured"):
            outer.reset()
        with torch.cuda.stream(torch.cuda.Stream()), \
                pytest.raises(RuntimeError, match="same stream it began on"):
            outer.capture_end()
        outer.capture_end()


@pytest.mark.parametrize(("name", "read"), {
    "item": lambda x: x.sum().item(), "bool": lambda x: bool(x[0] > 0), "cpu": lambda x: x.cpu(),
    "print": repr, "tolist": lambda x: x.tolist(), "float": lambda x: float(x[0]),
}.items())
def test_reads_by_the_host_raise(name: str, read: Any) -> None:
    x = torch.ones(3, device="cuda")
    x.sum(), x > 0
    with pytest.raises(RuntimeError, match="is read by the host"), \
            torch.cuda.graph(torch.cuda.CUDAGraph()):
        read(x)


def test_copies_from_the_host_raise() -> None:
    x = torch.zeros(3, device="cuda")
    for copy in (lambda: torch.ones(3).cuda(), lambda: torch.tensor([1.0], device="cuda"),
                 lambda: x.copy_(torch.ones(3))):
        with pytest.raises(RuntimeError, match="copied from the host to cuda:0 while a graph"), \
                torch.cuda.graph(torch.cuda.CUDAGraph()):
            copy()
    with pytest.raises(RuntimeError, match="copied to new memory of the host while a graph"), \
            torch.cuda.graph(torch.cuda.CUDAGraph()):
        x.to("cpu", non_blocking=True)


def test_what_waits_for_the_device_raises() -> None:
    x = torch.ones(3, device="cuda")
    mask = x > 0
    for wait in (torch.cuda.synchronize, lambda: torch.cuda.current_stream().synchronize(),
                 lambda: x[mask], lambda: x.nonzero()):
        with pytest.raises(RuntimeError), torch.cuda.graph(torch.cuda.CUDAGraph()):
            wait()


def test_kernels_and_numbers_that_were_not_used_before() -> None:
    x = torch.ones(3, device="cuda")
    be = backend.get("cuda:0")
    be.number.pop((7.125, x._a.dtype), None)
    with pytest.raises(RuntimeError, match=r"number 7\.125 is used for the first time"), \
            torch.cuda.graph(torch.cuda.CUDAGraph()):
        x * 7.125
    if be.kernels.on:
        be.kernels._functions.clear()
        be.kernels._modules.clear()
        with pytest.raises(RuntimeError, match="first time while a step is recorded"), \
                torch.cuda.graph(torch.cuda.CUDAGraph()):
            torch.relu(x)


def test_products_that_can_not_be_captured() -> None:
    x = torch.ones(2, 2, dtype=torch.int64, device="cuda")
    with pytest.raises(RuntimeError, match="product of int64 and int64 can't be captured"), \
            torch.cuda.graph(torch.cuda.CUDAGraph()):
        x @ x


def test_after_an_error_the_graph_can_be_captured_again() -> None:
    x = torch.ones(3, device="cuda")
    x * 2
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(ZeroDivisionError), torch.cuda.graph(graph):
        y = x * 2
        1 / 0                                               # noqa: B018
    with pytest.raises(RuntimeError, match="without a preceding successful capture"):
        graph.replay()
    with torch.cuda.graph(graph):
        y = x * 2
    graph.replay()
    assert y.tolist() == [2] * 3


def test_arguments() -> None:
    with torch.cuda.stream(torch.cuda.Stream()):
        graph = torch.cuda.CUDAGraph()
        with pytest.raises(RuntimeError, match="Unknown capture error mode"):
            graph.capture_begin(capture_error_mode="strict")
        with pytest.raises(TypeError, match="pool must come from"):
            graph.capture_begin(pool=(0, 1))
        with pytest.raises(NotImplementedError, match="check_input_liveness"):
            graph.capture_begin(check_input_liveness=True)
    with pytest.raises(NotImplementedError, match="nvtx"):
        torch.cuda.graph(graph, enable_annotations=True)


def test_what_a_graph_tells_of_itself(tmp_path: Path) -> None:
    x = torch.ones(3, device="cuda")
    graph, _ = captured(lambda: x * 2)
    graph.enable_debug_mode()
    graph.debug_dump(str(tmp_path / "graph.dot"))
    assert (tmp_path / "graph.dot").read_text().startswith("digraph")
    assert graph.raw_cuda_graph() and graph.raw_cuda_graph_exec()
    graph.instantiate()
    with pytest.raises(RuntimeError, match="debug_dump without a preceding"):
        torch.cuda.CUDAGraph().debug_dump("nowhere")


def test_memory_that_the_program_let_go_of_is_noticed() -> None:
    if not cuda_backend.simulated():
        pytest.skip("only the simulated device notices")
    x = [torch.ones(3, device="cuda")]
    graph, _ = captured(lambda: x[0] * 2)
    x.clear()
    gc.collect()
    with pytest.raises(RuntimeError, match="memory that was freed"):
        graph.replay()
