"""graph_step with CUDA graphs: what the host still does, memory, streams, and what falls back.

tests/recording/test_graph_step.py has what holds on all devices.
"""
from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import nn, optim
from gpugrad.amp import GradScaler
from gpugrad.backend import cuda, graph_pool, kernels
from gpugrad.nn.utils import clip_grad_norm_
from gpugrad.optim import lr_scheduler
from gpugrad.recording import arrays

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not kernels.enabled(), reason="needs kernels")]

STEPS = 8


def bits(x: Any) -> Any:
    """Something to compare, bit for bit."""
    if isinstance(x, torch.Tensor):
        return x.dtype, tuple(x.shape), x.detach().cpu().numpy().tobytes()
    if isinstance(x, dict):
        return {k: bits(v) for k, v in x.items()}
    return [bits(v) for v in x] if isinstance(x, list | tuple) else x


class Run:
    """A small network, what trains it, and a step on batches."""

    def __init__(self, make: Callable[[Any], Any], plan: Any = None, scaled: bool = False,
                 clip: bool = True) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.GELU(), nn.Dropout(0.2),
                                 nn.Linear(8, 3)).cuda()
        self.opt = make(self.net.parameters())
        self.plan = plan(self.opt) if plan else None
        self.scaler = GradScaler("cuda", init_scale=2.0 ** 10, growth_interval=3,
                                 enabled=scaled)
        self.clip = clip

    def step(self, x: Any, y: Any) -> Any:
        self.opt.zero_grad()
        loss = F.cross_entropy(self.net(x), y) * x.sum()
        self.scaler.scale(loss).backward()
        if self.clip:
            self.scaler.unscale_(self.opt)
            clip_grad_norm_(self.net.parameters(), 0.5)
        self.scaler.step(self.opt)
        self.scaler.update()
        if self.plan:
            self.plan.step()
        return loss

    def everything(self) -> Any:
        state = self.opt.state_dict()
        return bits([dict(self.net.state_dict()), [p.grad for p in self.net.parameters()],
                     state["state"], [g["lr"] for g in state["param_groups"]],
                     self.scaler.state_dict(), torch.cuda.get_rng_state(),
                     [p._version for p in self.net.parameters()]])


def batches(bad: Any = (), n: int = STEPS) -> list[Any]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 6, 5)).astype("f4")
    x[list(bad), 0, 0] = np.inf
    return [(torch.tensor(a).cuda(), torch.tensor(rng.integers(3, size=6)).cuda()) for a in x]


def compared(make: Callable[[], Run], data: Any, between: Any = None,
             replays: int | None = STEPS - 3) -> Any:
    """Eager steps and recorded ones, with between(run, i) before each: all must be the same."""
    found = []
    for recorded in (False, True):
        run = make()
        step = torch.graph_step(run.step) if recorded else run.step
        rows = []
        for i, batch in enumerate(data):
            if between:
                between(run, i)
            rows.append((bits(step(*batch)), run.everything()))
        found.append(rows)
    for i, (eager, replayed) in enumerate(zip(*found)):
        assert eager == replayed, f"step {i} differs"
    assert step.reason == ""
    assert replays is None or step.replays == replays
    return step


def graphs_of(step: Any) -> list[Any]:
    """The graphs of the newest program."""
    entry = list(step._entries.values())[-1]
    return [p.graph for p in entry.programs[0].launch.graphs.parts if p.graph is not None]


# Updates -----------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3),
    "Adam": lambda p: optim.Adam(p, lr=0.02, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p, lr=0.02, capturable=True),
    "AdamW-fused": lambda p: optim.AdamW(p, lr=0.02, fused=True),
    "NAdam": lambda p: optim.NAdam(p, lr=0.02),
    "ASGD": lambda p: optim.ASGD(p, lr=0.02, t0=2.0),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.02, centered=True),
    "lr on the device": lambda p: optim.Adam(p, lr=torch.tensor(0.02, device="cuda"),
                                             capturable=True),
    "groups": lambda p: optim.SGD([{"params": [q], "lr": 0.1 / (i + 1)}
                                   for i, q in enumerate(p)], momentum=0.5),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rates_take_effect(name: str) -> None:
    def between(run: Run, i: int) -> None:
        if i == 5:
            for group in run.opt.param_groups:
                if name == "lr on the device":
                    group["lr"].mul_(0.5)
                else:
                    group["lr"] *= 0.5
    step = compared(lambda: Run(OPTIMIZERS[name]), batches(), between)
    assert len(graphs_of(step)) == 1


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW-fused"])
@pytest.mark.parametrize("clip", [True, False])
def test_scaled_steps(name: str, clip: bool) -> None:
    step = compared(lambda: Run(OPTIMIZERS[name], scaled=True, clip=clip), batches((4, 6)))
    assert len(graphs_of(step)) == 1


@pytest.mark.parametrize("plan", [
    lambda o: lr_scheduler.ExponentialLR(o, 0.7),
    lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=20)])
def test_schedules_in_the_step(plan: Any) -> None:
    step = compared(lambda: Run(OPTIMIZERS["SGD"], plan), batches())
    assert len(graphs_of(step)) == 1


def test_a_schedule_of_a_rate_on_the_device() -> None:
    compared(lambda: Run(OPTIMIZERS["lr on the device"],
                         lambda o: lr_scheduler.ExponentialLR(o, 0.7)), batches())


def test_an_optimizer_of_the_user_is_stepped_by_the_host() -> None:
    class Mine(optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 0.1})
            self.steps = 0

        def step(self, closure: Any = None) -> None:
            self.steps += 1
            with torch.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p.sub_(p.grad, alpha=group["lr"] / self.steps)

    step = compared(lambda: Run(Mine, clip=False), batches())
    assert len(graphs_of(step)) == 1
    compared(lambda: Run(Mine, scaled=True), batches((5,)))


def test_two_optimizers_and_work_between() -> None:
    class Two(Run):
        def step(self, x: Any, y: Any) -> Any:
            loss = super().step(x, y)
            with torch.no_grad():
                return loss, self.net(x)
    step = compared(lambda: Two(OPTIMIZERS["Adam"], lambda o: lr_scheduler.StepLR(o, 2)), batches())
    assert len(graphs_of(step)) == 2


@pytest.mark.parametrize("change", [
    lambda r: r.opt.load_state_dict(r.opt.state_dict()),
    lambda r: r.opt.state.clear(),
    lambda r: r.opt.param_groups[0].update(momentum=0.5, weight_decay=0.1),
    lambda r: r.opt.param_groups[0].update(momentum=0.0),
    lambda r: r.opt.param_groups[0].update(maximize=True),
    lambda r: [s["momentum_buffer"].zero_() for s in r.opt.state.values()],
    lambda r: [s.update(momentum_buffer=s["momentum_buffer"].clone())
               for s in r.opt.state.values()],
    lambda r: r.opt.state.pop(r.opt.param_groups[0]["params"].pop()),
    lambda r: r.opt.add_param_group({"params": [nn.Parameter(torch.ones(2, device="cuda"))]}),
    lambda r: r.net[0].weight.requires_grad_(False)])
def test_changes_of_an_optimizer_are_seen(change: Any) -> None:
    step = compared(lambda: Run(OPTIMIZERS["SGD"]), batches(n=10),
                    lambda run, i: change(run) if i == 5 else None, None)
    assert step.replays >= 2


@pytest.mark.parametrize("change", [
    lambda r: r.scaler.set_backoff_factor(0.25), lambda r: r.scaler.update(64.0),
    lambda r: r.scaler.load_state_dict({**r.scaler.state_dict(), "scale": 8.0}),
    lambda r: [s.update(step=s["step"] + 3) for s in r.opt.state.values()]])
def test_changes_of_a_scaler_are_seen(change: Any) -> None:
    compared(lambda: Run(OPTIMIZERS["Adam"], scaled=True), batches((7,), 10),
             lambda run, i: change(run) if i == 5 else None, None)


def test_the_update_of_a_scaler_may_come_later() -> None:
    class Later(Run):
        def step(self, x: Any, y: Any) -> Any:
            self.opt.zero_grad()
            loss = F.cross_entropy(self.net(x), y) * x.sum()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.opt)
            return loss
    compared(lambda: Later(OPTIMIZERS["SGD"], scaled=True), batches((5,)),
             lambda run, i: run.scaler.update() if i else None)


# Gradients ---------------------------------------------------------------------------------------

def test_gradients_of_several_batches_are_added_up() -> None:
    class Adds(Run):
        def step(self, x: Any, y: Any) -> Any:
            loss = F.cross_entropy(self.net(x), y)
            loss.backward()
            return loss

    def between(run: Run, i: int) -> None:
        if i % 3 == 0:
            if i:
                run.opt.step()
            run.opt.zero_grad()
    step = compared(lambda: Adds(OPTIMIZERS["SGD"]), batches(n=24), between, None)
    assert step.replays >= 15


def test_gradients_of_arguments_are_the_callers() -> None:
    w = torch.arange(3.0, device="cuda")
    step = torch.graph_step(lambda x: (x * x * w).sum().backward())
    given = []
    for i in range(6):
        x = torch.full((3,), float(i), device="cuda", requires_grad=True)
        step(x)
        given.append(x)
    assert step.replays == 3
    for i, x in enumerate(given):
        assert x.grad.tolist() == [0, 2 * i, 4 * i]


# Memory ------------------------------------------------------------------------------------------

def test_results_stay_as_they_are() -> None:
    step = torch.graph_step(lambda x: (x * 2, (x + 1).t(), (x * 3)[:, 1], x.sum().expand(3)))
    xs = [torch.full((2, 3), float(i), device="cuda") for i in range(7)]
    got = [step(x) for x in xs]
    assert step.replays == 4 and step.reason == ""
    for x, found in zip(xs, got):
        want = step.function(x)
        assert bits(found) == bits(want)
        assert [t.stride() for t in found] == [t.stride() for t in want]


def test_results_that_share_memory_do_so_again() -> None:
    def f(x: Any) -> Any:
        h = x * 2
        return h, h.t(), h[1]
    step = torch.graph_step(f)
    for i in range(5):
        a, b, c = step(torch.full((2, 3), float(i), device="cuda"))
    a[1] = 7
    assert step.replays == 2 and b[:, 1].tolist() == c.tolist() == [7, 7, 7]


def test_arguments_where_they_are_and_elsewhere() -> None:
    step = torch.graph_step(lambda x, total: total.add_(x))
    x, total, plain = torch.zeros(3, device="cuda"), torch.zeros(3, device="cuda"), 0.0
    for i in range(20):
        if i in (9, 14):
            x, total = x.clone(), total.clone()         # what was there before stays as it is
            kept = x.tolist(), total.tolist()
            old = x, total
            x, total = x.clone(), total.clone()
        x.fill_(float(i))
        plain += i
        assert step(x, total) is total
        assert total.tolist() == [plain] * 3
        if i > 9:
            assert (old[0].tolist(), old[1].tolist()) == kept
    assert step.replays == 17


def test_arguments_that_share_memory_with_what_is_written() -> None:
    total = torch.zeros(6, device="cuda")

    def f(x: Any) -> Any:
        total.add_(1)
        return x * 2
    step = torch.graph_step(f)
    for _ in range(5):
        assert step(torch.ones(3, device="cuda")).tolist() == [2, 2, 2]
    assert step.replays == 2
    with pytest.warns(UserWarning, match="shares memory with a tensor that the step writes to"):
        for i in range(5):
            assert step(total[1:4]).tolist() == [2.0 * (i + 6)] * 3
    swap = torch.graph_step(lambda a, b: (a.add_(b), b.add_(1))[0].sum())
    for _ in range(5):
        swap(torch.ones(2, device="cuda"), torch.ones(2, device="cuda"))
    with pytest.warns(UserWarning, match="shares memory"):
        for _ in range(5):
            x = torch.zeros(3, device="cuda")
            swap(x[:2], x[1:])
            assert x.tolist() == [0, 1, 1]
    w = nn.Parameter(torch.ones(2, device="cuda"))
    opt = optim.SGD([w], lr=0.5)

    def train(p: Any) -> Any:
        opt.zero_grad()
        p.sum().backward()
        opt.step()
        return p.detach() * 2
    step = torch.graph_step(train)
    with pytest.warns(UserWarning, match="shares memory"):
        for i in range(5):
            assert step(w).tolist() == [1 - i] * 2


def test_what_is_written_with_the_same_numbers() -> None:
    def f(x: Any, into: Any) -> Any:
        h = torch.zeros(3, device="cuda")
        h.add_(x)
        into.copy_(x)
        return h
    step = torch.graph_step(f)
    for i in range(6):
        x, into = torch.full((3,), max(0.0, i - 2.0), device="cuda"), torch.zeros(3, device="cuda")
        assert step(x, into).tolist() == into.tolist() == x.tolist()
    assert step.replays == 3


def test_two_steps_of_an_optimizer_in_one() -> None:
    class Twice(Run):
        def step(self, x: Any, y: Any) -> Any:
            super().step(x, y)
            return super().step(x * 2, y)
    step = compared(lambda: Twice(OPTIMIZERS["Adam"], clip=False), batches())
    assert len(graphs_of(step)) == 1


@pytest.mark.parametrize("view", [
    lambda x: x[:, ::2], lambda x: x.t(), lambda x: x.flip(0), lambda x: x[0].expand(3, 4),
    lambda x: x[1:, 1]])
def test_arguments_laid_out_otherwise(view: Any) -> None:
    step = torch.graph_step(lambda x: (x * 2, x.sum(0), torch.relu(x - 1)))
    for i in range(6):
        x = view(torch.arange(12.0, device="cuda").reshape(3, 4) * i)
        assert bits(step(x)) == bits(step.function(x))
    assert step.replays == 3


def test_a_replay_waits_for_nothing_and_allocates_its_results_only() -> None:
    run = Run(OPTIMIZERS["Adam"], scaled=True)
    step = torch.graph_step(run.step)
    data = batches(n=12)
    for batch in data[:9]:
        loss = step(*batch)
    before = torch.cuda.memory_allocated()
    made: list[int] = []
    cupy = cuda.needed()

    class Notes(cupy.cuda.memory_hook.MemoryHook):      # type: ignore[name-defined, misc]
        name = "notes"

        def malloc_postprocess(self, **kw: Any) -> None:
            made.append(kw["size"])

    if cuda.simulated():
        torch.cuda.sim.reset()
    with Notes():
        for batch in data[9:]:
            loss = step(*batch)
    assert step.replays == 9
    assert torch.cuda.memory_allocated() == before and made == [loss.element_size()] * 3
    if cuda.simulated():
        stats = torch.cuda.sim.stats()
        assert (stats.syncs, stats.h2d, stats.d2h, stats.compilations) == (0, 0, 0, 0)


def test_the_memory_of_graphs_is_freed_at_once() -> None:
    gc.collect()
    before = len(graph_pool.pools)
    run = Run(OPTIMIZERS["Adam"], scaled=True)
    step = torch.graph_step(run.step, cache_size=2)
    gc.disable()
    try:
        for n in (6, 5, 4, 3):
            for x, y in batches(n=5):
                step(x[:n], y[:n])
        assert step.replays == 8 and len(graph_pool.pools) == before + 2
        step.clear()
        assert len(graph_pool.pools) == before
    finally:
        gc.enable()


def test_activations_are_let_go_in_the_capture() -> None:
    net = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(6)]).cuda()

    def train(x: Any) -> None:
        for p in net.parameters():
            p.grad = None
        net(x).square().mean().backward()

    x = torch.randn(128, 64, device="cuda")
    train(x)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    train(x)
    eager = torch.cuda.max_memory_allocated() - before
    step = torch.graph_step(train)
    for _ in range(4):
        step(x)
    assert step.replays == 1
    graph, = graphs_of(step)
    gradients = sum(p.numel() * 4 for p in net.parameters())
    assert graph.pool().cupy.total_bytes() < 1.1 * (eager + gradients) + (1 << 16)


def test_large_arrays_are_looked_at_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "LARGE", 16)
    rng = np.random.default_rng(0)
    for dtype, n in (("f4", 1000), ("f2", 6), ("u1", 12), ("f8", 700)):
        x = torch.tensor(rng.integers(1, 100, n).astype(dtype)).cuda()
        was = arrays.digest(x._a)
        assert was == arrays.digest(x.clone()._a)
        for i in (0, n // 2, n - 1):
            y = x.clone()
            y[i] += 1
            assert arrays.digest(y._a) != was
        assert arrays.digest(x.flip(0)._a) != was
    square = torch.arange(64.0, device="cuda").reshape(8, 8)
    part = square[1:, 1:7]
    was = arrays.digest(part._a)
    square[0] = 5
    assert arrays.digest(part._a) == was
    square[3, 3] = 5
    assert arrays.digest(part._a) != was
    compared(lambda: Run(OPTIMIZERS["SGD"]), batches(n=5), replays=2)


# Streams, devices, random numbers ----------------------------------------------------------------

def test_steps_on_other_streams() -> None:
    step = torch.graph_step(lambda x: (x * 2).cumsum(0))
    for i in range(10):
        side = torch.cuda.Stream() if i % 2 else torch.cuda.default_stream()
        x = torch.full((4,), float(i), device="cuda")
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            y = step(x)
        torch.cuda.current_stream().wait_stream(side)
        assert y.tolist() == [2.0 * i * k for k in (1, 2, 3, 4)]
    assert step.replays == 7


def test_threads_train_networks_of_their_own() -> None:
    def trained(recorded: list[bool], together: bool) -> Any:
        torch.manual_seed(0)
        nets = [nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)).cuda() for _ in recorded]
        nets[0](torch.ones(2, 4, device="cuda"))
        wrong = []

        def work(net: Any, graph: bool) -> None:
            opt = optim.Adam(net.parameters())

            def train(x: Any) -> Any:
                opt.zero_grad()
                loss = net(x).square().sum()
                loss.backward()
                opt.step()
                return loss
            step = torch.graph_step(train) if graph else train
            try:
                for i in range(15):
                    step(torch.full((2, 4), 0.1 * i, device="cuda")).item()
            except Exception as error:
                wrong.append(error)
        threads = [threading.Thread(target=work, args=a) for a in zip(nets, recorded)]
        for t in threads:
            t.start()
            if not together:
                t.join()
        for t in threads:
            t.join()
        assert not wrong
        return bits([list(net.parameters()) for net in nets])
    assert trained([True, False, True], True) == trained([False] * 3, False)


@pytest.mark.usefixtures("two_devices")
def test_a_step_on_another_device_than_the_current_one() -> None:
    results = []
    for recorded in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)).to("cuda:1")
        opt = optim.Adam(net.parameters())

        def train(x: Any, net: Any = net, opt: Any = opt) -> Any:
            opt.zero_grad()
            loss = net(x).square().sum()
            loss.backward()
            opt.step()
            return loss
        step = torch.graph_step(train) if recorded else train
        results.append([bits([step(torch.full((2, 3), float(i), device="cuda:1")),
                              list(net.parameters())]) for i in range(6)])
    assert results[0] == results[1]
    assert step.replays == 3 and torch.cuda.current_device() == 0
    mixed = torch.graph_step(lambda x, y: (x + 1, y + 1))
    with pytest.warns(UserWarning, match="tensors of cuda:0 and cuda:1 are used in one step"):
        for _ in range(4):
            mixed(torch.ones(2, device="cuda:0"), torch.ones(2, device="cuda:1"))


def test_a_seed_holds_for_the_next_replay() -> None:
    step = torch.graph_step(lambda x: F.dropout(x, 0.5) + torch.rand(40, device="cuda"))
    x = torch.ones(40, device="cuda")
    for i in range(10):
        torch.manual_seed(i // 2)
        if i % 2:
            want = step.function(x), torch.randn(3, device="cuda")
        else:
            got = step(x), torch.randn(3, device="cuda")
        if i % 2:
            assert bits(got) == bits(want)
    assert step.replays == 2


# What falls back ---------------------------------------------------------------------------------

@pytest.mark.parametrize(("f", "match"), [
    (lambda x: x * x.max().item(), r"read by the host .* at test_graph_step_cuda.py:\d+"),
    (lambda x: x * x.cpu().sum().item(), r"read by the host .* at test_graph_step_cuda.py:\d+"),
    (lambda x: torch.linalg.svd(x.reshape(2, 2))[1], r"test_graph_step_cuda.py:\d+"),
    (lambda x: x * CPU, "a tensor on the CPU is used beside CUDA ones, at test_graph_step_cuda"),
    (lambda x: torch.bincount(x.long().abs()), r"test_graph_step_cuda.py:\d+")])
def test_what_falls_back(f: Any, match: str) -> None:
    step = torch.graph_step(f)
    with pytest.warns(UserWarning, match=match) as caught:
        for i in range(6):
            x = torch.arange(4.0, device="cuda") * (i + 1)
            assert bits(step(x)) == bits(f(x))
    assert len(caught) == 1 and step.replays == 0 and step.reason


CPU = torch.tensor(3.0)


def test_a_capture_that_fails_changes_nothing() -> None:
    class Breaks(Run):
        def step(self, x: Any, y: Any) -> Any:
            loss = super().step(x, y)
            return loss, torch.bincount(y)
    found = []
    for recorded in (False, True):
        run = Breaks(OPTIMIZERS["NAdam"], scaled=True)
        step = torch.graph_step(run.step) if recorded else run.step
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append([(bits(step(*batch)), run.everything()) for batch in batches((5,))])
    assert found[0] == found[1]
    assert step.replays == 0 and "test_graph_step_cuda.py" in step.reason


def test_a_step_within_a_capture_runs_eagerly() -> None:
    step = torch.graph_step(lambda x: x * 2 + 1)
    x = torch.ones(3, device="cuda")
    for _ in range(4):
        step(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = step(x)
    x.fill_(5)
    graph.replay()
    assert y.tolist() == [11, 11, 11]
