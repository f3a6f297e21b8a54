"""A whole training step in a CUDA graph: scaled loss, backward, unscaling, clipping, optimizer, new
scale; between the replays a schedule changes the learning rate. Replays equal eager steps, to the
bit, also where a step is left out."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn as nn
from gpugrad import optim
from gpugrad.amp import GradScaler
from gpugrad.backend import kernels
from gpugrad.nn.utils import clip_grad_norm_, clip_grad_value_
from gpugrad.optim import lr_scheduler

pytestmark = pytest.mark.gpu

CAPTURABLE = {
    "Adam": (optim.Adam, {"weight_decay": 0.01}),
    "Adam-amsgrad": (optim.Adam, {"amsgrad": True, "maximize": True}),
    "AdamW-fused": (optim.AdamW, {"fused": True}),
    "NAdam": (optim.NAdam, {"decoupled_weight_decay": True}),
    "RAdam": (optim.RAdam, {"betas": (0.9, 0.99)}),
    "Adamax": (optim.Adamax, {}), "ASGD": (optim.ASGD, {"t0": 2.0, "lambd": 0.1}),
    "RMSprop": (optim.RMSprop, {"momentum": 0.5, "centered": True}),
    "Adadelta": (optim.Adadelta, {}), "Rprop": (optim.Rprop, {}),
}
# Those without the option: no step count, or one that ``fused`` keeps on the device.
OTHERS = {"SGD": (optim.SGD, {"momentum": 0.9, "nesterov": True}),
          "SGD-dampening": (optim.SGD, {"momentum": 0.9, "dampening": 0.3}),
          "Adagrad": (optim.Adagrad, {"fused": True, "lr_decay": 0.1})}
ALL = {**{k: (cls, {**kw, "capturable": True}) for k, (cls, kw) in CAPTURABLE.items()}, **OTHERS}

SCHEDULES = {
    "exponential": lambda opt: lr_scheduler.ExponentialLR(opt, 0.7),
    "warm-up, cosine": lambda opt: lr_scheduler.SequentialLR(opt, [
        lr_scheduler.LinearLR(opt, 0.2, total_iters=3),
        lr_scheduler.CosineAnnealingLR(opt, 6)], [3]),
    "one cycle": lambda opt: lr_scheduler.OneCycleLR(opt, 0.05, total_steps=12,
                                                     cycle_momentum=False),
}
STEPS, WARM, BAD = 9, 2, (4, 7)


@pytest.fixture(autouse=True)
def with_kernels() -> None:
    if not kernels.enabled():
        pytest.skip("GPUGRAD_KERNELS=0")


def trained(cls: Any, kw: dict[str, Any], schedule: Any, captured: bool, clip: str = "norm",
            accumulate: int = 1) -> dict[str, Any]:
    """What is left of some steps: losses, scales, learning rates, parameters, state."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).cuda()
    rate = torch.tensor(0.02, device="cuda")
    opt = cls(net.parameters(), lr=rate, **kw)
    scaler = GradScaler("cuda", init_scale=2.0 ** 10, growth_interval=3)
    rng = np.random.default_rng(0)
    data = rng.standard_normal((STEPS, 6, 5)).astype("f4")
    data[list(BAD), 0, 0] = np.inf
    batches = torch.tensor(data.tolist()).cuda()
    x, target = torch.zeros(6, 5, device="cuda"), torch.ones(6, 3, device="cuda")

    def step() -> Any:
        opt.zero_grad()
        for _ in range(accumulate):
            loss = ((net(x) * x.sum(1, keepdim=True) - target) ** 2).mean() / accumulate
            scaler.scale(loss).backward()
        if clip:
            scaler.unscale_(opt)
        if clip == "norm":
            clip_grad_norm_(net.parameters(), 0.5)
        elif clip == "value":
            clip_grad_value_(net.parameters(), 0.05)
        scaler.step(opt)
        scaler.update()
        return loss

    losses, scales, rates, graph = [], [], [], None
    plan = schedule(opt) if schedule else None
    side = torch.cuda.Stream()
    for i in range(STEPS):
        x.copy_(batches[i])
        if i < WARM:
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                loss = step()
            torch.cuda.current_stream().wait_stream(side)
        elif not captured:
            loss = step()
        else:
            if graph is None:
                opt.zero_grad()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    loss = step()
            graph.replay()
        if plan is not None:
            plan.step()
        losses.append(loss.item())
        scales.append((scaler.get_scale(), scaler._get_growth_tracker()))
        rates.append(rate.item())
    assert opt.param_groups[0]["lr"] is rate
    return {"losses": losses, "scales": scales, "rates": rates,
            "parameters": [p.tolist() for p in net.parameters()],
            "gradients": [p.grad.tolist() for p in net.parameters()],
            "state": [{k: v.tolist() for k, v in opt.state[p].items()} for p in net.parameters()]}


def assert_same(got: dict[str, Any], want: dict[str, Any]) -> None:
    for name, value in want.items():
        np.testing.assert_equal(got[name], value, name)


@pytest.mark.parametrize("name", ALL)
def test_replays_equal_eager_steps(name: str) -> None:
    cls, kw = ALL[name]
    want = trained(cls, kw, SCHEDULES["exponential"], False)
    assert_same(trained(cls, kw, SCHEDULES["exponential"], True), want)
    assert [s for s, _ in want["scales"]] == [1024, 1024, 2048, 2048, 1024, 1024, 1024, 512, 512]
    assert np.isfinite(want["parameters"][0]).all()
    if "step" in want["state"][0]:
        assert want["state"][0]["step"] == STEPS - len(BAD)


@pytest.mark.parametrize("schedule", ["warm-up, cosine", "one cycle"])
def test_other_schedules(schedule: str) -> None:
    cls, kw = ALL["Adam"]
    want = trained(cls, kw, SCHEDULES[schedule], False)
    assert_same(trained(cls, kw, SCHEDULES[schedule], True), want)
    assert len(set(want["rates"])) > 5


@pytest.mark.parametrize("clip", ["", "value"])
def test_other_clipping(clip: str) -> None:
    for name in ("RAdam", "AdamW-fused"):
        cls, kw = ALL[name]
        assert_same(trained(cls, kw, None, True, clip), trained(cls, kw, None, False, clip))


def test_gradients_accumulated_in_the_graph() -> None:
    cls, kw = ALL["NAdam"]
    assert_same(trained(cls, kw, None, True, accumulate=3),
                trained(cls, kw, None, False, accumulate=3))


def test_a_skipped_step_leaves_everything_but_the_scale() -> None:
    p = nn.Parameter(torch.ones(3, device="cuda"))
    x = torch.ones(3, device="cuda")
    opt = optim.Adam([p], lr=torch.tensor(0.1, device="cuda"), capturable=True)
    scaler = GradScaler("cuda", init_scale=4.0)

    def step() -> None:
        opt.zero_grad()
        scaler.scale((p * x).sum()).backward()
        scaler.step(opt)
        scaler.update()

    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    graph.replay()
    before = p.tolist(), {k: v.tolist() for k, v in opt.state[p].items()}
    x[0] = float("nan")
    graph.replay()
    assert (p.tolist(), {k: v.tolist() for k, v in opt.state[p].items()}) == before
    assert scaler.get_scale() == 2 and before[1]["step"] == 2
    x[0] = 1
    graph.replay()
    assert p.tolist() != before[0] and opt.state[p]["step"].item() == 3


@pytest.mark.parametrize(("cls", "kw"), [
    (optim.Adam, {}), (optim.Adam, {"fused": True}), (optim.Adagrad, {}), (optim.Adafactor, {}),
    (optim.NAdam, {}), (optim.ASGD, {})], ids=str)
def test_host_counted_steps_are_refused(cls: Any, kw: dict[str, Any]) -> None:
    p = nn.Parameter(torch.ones(3, device="cuda"))
    opt = cls([p], lr=0.1, **kw)
    p.grad = torch.ones(3, device="cuda")
    opt.step()
    with pytest.raises(RuntimeError, match=f"of {cls.__name__} but param_groups' capturable is "
                                           "False"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        opt.step()
    opt.step()


def test_parameters_without_a_kernel_are_refused_in_a_capture() -> None:
    whole = torch.ones(4, 3, device="cuda")
    p = nn.Parameter(whole[:, :2])                   # with gaps in its memory
    opt = optim.Adam([p], capturable=True)
    p.grad = torch.ones(4, 2, device="cuda")
    opt.step()
    with pytest.raises(NotImplementedError, match=r"Adam.step\(\): a parameter of shape \[4, 2"), \
            torch.cuda.graph(torch.cuda.CUDAGraph()):
        opt.step()
