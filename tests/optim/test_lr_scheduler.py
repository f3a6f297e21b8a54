"""Schedules of learning rates against their formulas, and on a device."""
from __future__ import annotations

import copy
import math
from typing import Any

import pytest

import gpugrad as torch
from gpugrad import nn, optim
from gpugrad.optim import lr_scheduler as schedules

BASE = 0.4


def rates(make: Any, steps: int) -> list[float]:
    """The rate of each epoch, the first included."""
    opt = optim.SGD([nn.Parameter(torch.ones(2))], lr=BASE, momentum=0.9)
    schedule = make(opt)
    out = schedule.get_last_lr()
    for _ in range(steps):
        opt.step()
        schedule.step()
        assert opt.param_groups[0]["lr"] == schedule.get_last_lr()[0]
        out = [*out, *schedule.get_last_lr()]
    return out


def half_wave(share: float, low: float = 0.0, high: float = BASE) -> float:
    return low + (high - low) * (1 + math.cos(math.pi * share)) / 2


@pytest.mark.parametrize("make, formula", [
    (lambda o: schedules.LambdaLR(o, lambda e: 1 / (e + 1)), lambda e: BASE / (e + 1)),
    (lambda o: schedules.MultiplicativeLR(o, lambda e: 0.5), lambda e: BASE * 0.5 ** e),
    (lambda o: schedules.StepLR(o, 3, 0.5), lambda e: BASE * 0.5 ** (e // 3)),
    (lambda o: schedules.MultiStepLR(o, [2, 7], 0.1),
     lambda e: BASE * 0.1 ** ((e >= 2) + (e >= 7))),
    (lambda o: schedules.ConstantLR(o, 0.25, 4), lambda e: BASE * (0.25 if e < 4 else 1)),
    (lambda o: schedules.LinearLR(o, 0.5, 1.0, 5), lambda e: BASE * (0.5 + min(e, 5) / 10)),
    (lambda o: schedules.ExponentialLR(o, 0.9), lambda e: BASE * 0.9 ** e),
    (lambda o: schedules.PolynomialLR(o, 6, 2.0), lambda e: BASE * (1 - min(e, 6) / 6) ** 2),
    (lambda o: schedules.CosineAnnealingLR(o, 8, 0.1), lambda e: half_wave(e / 8, 0.1)),
    (lambda o: schedules.CosineAnnealingWarmRestarts(o, 4), lambda e: half_wave(e % 4 / 4)),
    (lambda o: schedules.CyclicLR(o, 0.4, 1.0, 3),
     lambda e: 0.4 + 0.6 * (1 - abs(e % 6 / 3 - 1))),
    (lambda o: schedules.OneCycleLR(o, 1.0, 11, pct_start=0.3),
     lambda e: half_wave(1 - e / 2.3, 0.04, 1.0) if e <= 2.3
     else half_wave((e - 2.3) / 7.7, 0.04 / 1e4, 1.0)),
    (lambda o: schedules.SequentialLR(
        o, [schedules.ConstantLR(o, 0.1, 9), schedules.ExponentialLR(o, 0.5)], [3]),
     lambda e: BASE * 0.1 if e < 3 else BASE * 0.5 ** (e - 3)),
    (lambda o: schedules.ChainedScheduler(
        [schedules.ConstantLR(o, 0.5, 2), schedules.ExponentialLR(o, 0.9)]),
     lambda e: BASE * (0.5 if e < 2 else 1) * 0.9 ** e),
], ids=["lambda", "multiplicative", "step", "multistep", "constant", "linear", "exponential",
        "polynomial", "cosine", "restarts", "cyclic", "one cycle", "sequential", "chained"])
def test_formulas(make, formula):
    assert rates(make, 10) == pytest.approx([formula(e) for e in range(11)], rel=1e-9)


def test_momentum_goes_the_other_way():
    opt = optim.Adam([nn.Parameter(torch.ones(2))])
    schedule = schedules.OneCycleLR(opt, 1.0, total_steps=10, pct_start=0.5)
    found = []
    for _ in range(9):
        opt.step()
        schedule.step()
        found.append((opt.param_groups[0]["lr"], opt.param_groups[0]["betas"][0]))
    peak = max(found)
    assert peak[1] == min(beta for _, beta in found) == pytest.approx(0.85)
    assert opt.param_groups[0]["betas"][1] == 0.999


def test_a_plateau():
    opt = optim.SGD([nn.Parameter(torch.ones(2))], lr=1.0)
    schedule = schedules.ReduceLROnPlateau(opt, factor=0.5, patience=1)
    found = []
    for loss in (3.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0):
        schedule.step(torch.tensor(loss))
        found += schedule.get_last_lr()
    assert found == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_resuming_goes_on_as_if_nothing_had_happened():
    def run(opt: Any, schedule: Any, steps: int) -> list[Any]:
        out = []
        for _ in range(steps):
            opt.step()
            schedule.step()
            out += schedule.get_last_lr()
        return out

    def fresh() -> tuple[Any, Any]:
        opt = optim.SGD([nn.Parameter(torch.ones(2))], lr=BASE)
        return opt, schedules.CosineAnnealingLR(opt, 12)

    opt, schedule = fresh()
    run(opt, schedule, 4)
    states = copy.deepcopy((opt.state_dict(), schedule.state_dict()))
    rest = run(opt, schedule, 6)
    opt, schedule = fresh()
    opt.load_state_dict(states[0])
    schedule.load_state_dict(states[1])
    assert run(opt, schedule, 6) == rest


def test_a_rate_on_the_device_is_written_in_place(device):
    p = nn.Parameter(torch.ones(3, device=device))
    opt = optim.Adam([p], lr=torch.tensor(0.1, device=device), capturable=device == "cuda")
    schedule = schedules.ExponentialLR(opt, 0.5)
    rate = opt.param_groups[0]["lr"]
    for _ in range(3):
        opt.zero_grad()
        p.sum().backward()
        opt.step()
        schedule.step()
    assert opt.param_groups[0]["lr"] is rate
    assert rate.item() == pytest.approx(0.1 / 8)
    assert p.tolist() == pytest.approx([1 - 0.1 - 0.05 - 0.025] * 3, rel=1e-5)
