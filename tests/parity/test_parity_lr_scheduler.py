"""Schedules of learning rates against PyTorch's: rates, state_dicts, errors, warnings."""
from __future__ import annotations

import inspect
import pickle
import warnings
from collections import Counter
from typing import Any

import pytest

import gpugrad

torch = pytest.importorskip("torch")

LIBRARIES = (gpugrad, torch)


class Falling:
    """A callable object, whose attributes a state_dict keeps."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, epoch: int) -> float:
        return self.rate ** epoch


# name: constructor arguments, or functions of the library and the optimizer that make them
SCHEDULES: list[tuple[str, dict[str, Any]]] = [
    ("LambdaLR", {"lr_lambda": lambda e: 0.9 ** e}),
    ("LambdaLR", {"lr_lambda": [lambda e: 0.9 ** e, Falling(0.8)]}),
    ("MultiplicativeLR", {"lr_lambda": lambda e: 0.95 + 0.01 * (e % 3)}),
    ("MultiplicativeLR", {"lr_lambda": [Falling(0.99), Falling(0.98)]}),
    ("StepLR", {"step_size": 3}),
    ("StepLR", {"step_size": 1, "gamma": 0.7}),
    ("MultiStepLR", {"milestones": [2, 5, 5, 9], "gamma": 0.5}),
    ("MultiStepLR", {"milestones": iter([4, 3])}),
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.25, "total_iters": 1}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.7, "total_iters": 12}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("PolynomialLR", {}),
    ("PolynomialLR", {"total_iters": 9, "power": 2.5}),
    ("CosineAnnealingLR", {"T_max": 5}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3}),
    ("CosineAnnealingWarmRestarts", {"T_0": 2, "T_mult": 2, "eta_min": 0.001}),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 4}),
    ("CyclicLR", {"base_lr": [0.1, 0.2], "max_lr": [1.0, 3.0], "step_size_up": 3,
                  "step_size_down": 5, "mode": "triangular2"}),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 4, "mode": "exp_range",
                  "gamma": 0.9, "cycle_momentum": False}),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 4, "scale_fn": Falling(0.5),
                  "scale_mode": "iterations"}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 30}),
    ("OneCycleLR", {"max_lr": [1.0, 2.0], "epochs": 3, "steps_per_epoch": 10, "pct_start": 0.4,
                    "anneal_strategy": "linear", "three_phase": True}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 30, "cycle_momentum": False}),
]
IDS = [f"{name}-{i}" for i, (name, _) in enumerate(SCHEDULES)]
ALGORITHMS = {"SGD": {"lr": 0.1, "momentum": 0.9}, "Adam": {"lr": 0.1}}


def optimizer(lib: Any, kind: str = "SGD", **options: Any) -> Any:
    groups = [{"params": [lib.nn.Parameter(lib.ones(2))]},
              {"params": [lib.nn.Parameter(lib.ones(3))], "lr": 0.5}]
    return getattr(lib.optim, kind)(groups, **{**ALGORITHMS[kind], **options})


def schedule(lib: Any, name: str, opt: Any, **args: Any) -> Any:
    args = {k: list(v) if k == "milestones" else v for k, v in args.items()}
    return getattr(lib.optim.lr_scheduler, name)(opt, **args)


MILESTONES = {i: list(args["milestones"]) for i, (_, args) in enumerate(SCHEDULES)
              if "milestones" in args}
for _i, _values in MILESTONES.items():
    SCHEDULES[_i][1]["milestones"] = _values


def groups(opt: Any) -> list[dict[str, Any]]:
    """The options that both libraries have, as numbers."""
    known = ("lr", "initial_lr", "momentum", "betas", "max_momentum", "base_momentum", "max_lr",
             "min_lr")
    return [{k: float(g[k]) if hasattr(g[k], "item") else g[k] for k in known if k in g}
            for g in opt.param_groups]


def plain(state: Any) -> Any:
    """A state_dict without the callable objects' own identity."""
    if isinstance(state, dict) and not isinstance(state, Counter):
        return {k: plain(v) for k, v in state.items()}
    if isinstance(state, list | tuple):
        return [plain(v) for v in state]
    return state.tolist() if hasattr(state, "tolist") else state


def follow(opts: Any, schedules: Any, steps: int) -> None:
    for _ in range(steps):
        for opt, s in zip(opts, schedules):
            opt.step()
            s.step()
        ours, theirs = schedules
        assert ours.get_last_lr() == theirs.get_last_lr()
        assert groups(opts[0]) == groups(opts[1])
        assert plain(ours.state_dict()) == plain(theirs.state_dict())


@pytest.mark.parametrize("kind", ALGORITHMS)
@pytest.mark.parametrize("name, args", SCHEDULES, ids=IDS)
def test_the_sequence_of_rates(name, args, kind):
    opts = [optimizer(lib, kind) for lib in LIBRARIES]
    schedules = [schedule(lib, name, opt, **args) for lib, opt in zip(LIBRARIES, opts)]
    assert plain(schedules[0].state_dict()) == plain(schedules[1].state_dict())
    follow(opts, schedules, 25)


@pytest.mark.parametrize("name, args", SCHEDULES, ids=IDS)
def test_states_of_pytorch_are_taken_over(name, args):
    opts = [optimizer(lib) for lib in LIBRARIES]
    ours, theirs = (schedule(lib, name, opt, **args) for lib, opt in zip(LIBRARIES, opts))
    for _ in range(4):
        opts[1].step()
        theirs.step()
    state = theirs.state_dict()
    before = plain(state)
    ours.load_state_dict(state)
    assert plain(state) == before
    for group, other in zip(opts[0].param_groups, opts[1].param_groups):
        group.update({k: v for k, v in other.items() if k != "params"})
    follow(opts, (ours, theirs), 10)


@pytest.mark.parametrize("name, args", SCHEDULES, ids=IDS)
def test_a_start_in_the_middle(name, args):
    opts = [optimizer(lib) for lib in LIBRARIES]
    for opt in opts:
        for group in opt.param_groups:
            group.update(initial_lr=group["lr"], max_lr=1.0, min_lr=0.01, max_momentum=0.9,
                         base_momentum=0.8)
    schedules = [schedule(lib, name, opt, last_epoch=3, **args)
                 for lib, opt in zip(LIBRARIES, opts)]
    follow(opts, schedules, 10)


@pytest.mark.parametrize("name, args", [s for s in SCHEDULES if s[0] != "OneCycleLR"
                                        and not (s[0] == "CyclicLR")],
                         ids=lambda v: v if isinstance(v, str) else "")
def test_rates_that_are_tensors(name, args):
    opts = [optimizer(lib, lr=lib.tensor(0.1, dtype=lib.float64)) for lib in LIBRARIES]
    held = opts[0].param_groups[0]["lr"]
    schedules = [schedule(lib, name, opt, **args) for lib, opt in zip(LIBRARIES, opts)]
    for _ in range(8):
        for opt, s in zip(opts, schedules):
            opt.step()
            s.step()
        rates = [[float(v) for v in s.get_last_lr()] for s in schedules]
        assert rates[0] == pytest.approx(rates[1], rel=1e-12)
    assert opts[0].param_groups[0]["lr"] is held
    assert schedules[0].get_last_lr()[0] is not held


@pytest.mark.parametrize("name, args", [s for s in SCHEDULES if s[0] not in (
    "CyclicLR", "OneCycleLR", "CosineAnnealingWarmRestarts")],
    ids=lambda v: v if isinstance(v, str) else "")
def test_steps_to_any_epoch(name, args):
    opts = [optimizer(lib) for lib in LIBRARIES]
    schedules = [schedule(lib, name, opt, **args) for lib, opt in zip(LIBRARIES, opts)]
    for epoch in (1, 4, 2, 9):
        for opt, s in zip(opts, schedules):
            opt.step()
            with pytest.warns(UserWarning, match=r"The epoch parameter in `scheduler\.step\(\)`"):
                s.step(epoch)
        assert schedules[0].get_last_lr() == pytest.approx(schedules[1].get_last_lr(), rel=1e-14)


@pytest.mark.parametrize("t_mult", [1, 2, 3])
def test_warm_restarts_between_epochs(t_mult):
    opts = [optimizer(lib) for lib in LIBRARIES]
    schedules = [schedule(lib, "CosineAnnealingWarmRestarts", opt, T_0=2, T_mult=t_mult)
                 for lib, opt in zip(LIBRARIES, opts)]
    for epoch in (0.5, 1.75, 2.0, 3.25, 9.5, 1.0, None, None):
        for s in schedules:
            s.step(epoch)
        assert plain(schedules[0].state_dict()) == plain(schedules[1].state_dict())


@pytest.mark.parametrize("args", [
    {}, {"mode": "max"}, {"patience": 1, "cooldown": 2},
    {"threshold_mode": "abs", "threshold": 0.2},
    {"mode": "max", "threshold_mode": "abs"}, {"min_lr": [0.01, 0.2], "factor": 0.5, "patience": 0},
    {"eps": 0.05, "patience": 0}], ids=str)
def test_plateaus(args):
    measures = [1.0, 0.9, 0.95, 0.9, 0.91, 0.9, 0.7, 0.8, 0.8, 0.8, 0.8, 0.9, 1.2, 1.0, 0.5, 0.6]
    opts = [optimizer(lib) for lib in LIBRARIES]
    schedules = [schedule(lib, "ReduceLROnPlateau", opt, **args)
                 for lib, opt in zip(LIBRARIES, opts)]
    for measure in measures * 2:
        for lib, s in zip(LIBRARIES, schedules):
            s.step(lib.tensor(measure, dtype=lib.float64))
        assert schedules[0].state_dict() == schedules[1].state_dict()
        assert groups(opts[0]) == groups(opts[1])
    again = schedule(gpugrad, "ReduceLROnPlateau", opts[0])
    again.load_state_dict(schedules[1].state_dict())
    assert again.state_dict() == schedules[1].state_dict()


def warm_up(lib: Any, opt: Any) -> Any:
    s = lib.optim.lr_scheduler
    return s.SequentialLR(opt, [s.LinearLR(opt, 0.1, total_iters=4), s.ExponentialLR(opt, 0.9),
                                s.CosineAnnealingLR(opt, 6)], [4, 9])


def chained(lib: Any, opt: Any) -> Any:
    s = lib.optim.lr_scheduler
    return s.ChainedScheduler([s.ConstantLR(opt, 0.1, 3), s.ExponentialLR(opt, 0.9),
                               s.CosineAnnealingLR(opt, 5)], optimizer=opt)


def nested(lib: Any, opt: Any) -> Any:
    s = lib.optim.lr_scheduler
    inner = s.SequentialLR(opt, [s.ConstantLR(opt, 0.5, 2), s.StepLR(opt, 2)], [3])
    return s.SequentialLR(opt, [inner, s.ExponentialLR(opt, 0.8)], [7])


@pytest.mark.parametrize("make", [warm_up, chained, nested])
def test_combinations(make):
    opts = [optimizer(lib) for lib in LIBRARIES]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if make is nested else "error")   # PyTorch warns there, too
        schedules = [make(lib, opt) for lib, opt in zip(LIBRARIES, opts)]
    assert plain(schedules[0].state_dict()) == plain(schedules[1].state_dict())
    follow(opts, schedules, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fresh = make(gpugrad, optimizer(gpugrad))
    fresh.load_state_dict(schedules[1].state_dict())
    assert plain(fresh.state_dict()) == plain(schedules[1].state_dict())


def messages(lib: Any, act: Any) -> list[tuple[type, str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        act(lib)
    return [(w.category, str(w.message)[:60]) for w in caught]


def too_early(lib: Any) -> None:
    s = schedule(lib, "StepLR", optimizer(lib), step_size=1)
    s.step()
    s.step()


def in_order(lib: Any) -> None:
    opt = optimizer(lib)
    s = schedule(lib, "StepLR", opt, step_size=1)
    opt.step()
    s.step()


def replaced(lib: Any) -> None:
    opt = optimizer(lib)
    s = schedule(lib, "StepLR", opt, step_size=1)
    opt.step = lambda: None
    opt.step()
    s.step()


def asked_outside(lib: Any) -> None:
    schedule(lib, "ExponentialLR", optimizer(lib), gamma=0.9).get_lr()


@pytest.mark.parametrize("act", [too_early, in_order, replaced, asked_outside])
def test_warnings(act):
    assert messages(gpugrad, act) == messages(torch, act)


WRONG = [
    ("StepLR", {"step_size": 1, "last_epoch": 3}),
    ("LambdaLR", {"lr_lambda": [lambda e: 1]}),
    ("MultiplicativeLR", {"lr_lambda": 3.0}),
    ("ConstantLR", {"factor": 1.5}), ("ConstantLR", {"factor": -1}),
    ("LinearLR", {"start_factor": 0}), ("LinearLR", {"start_factor": 2.0}),
    ("LinearLR", {"end_factor": 2.0}),
    ("CosineAnnealingWarmRestarts", {"T_0": 0}), ("CosineAnnealingWarmRestarts", {"T_0": 1.5}),
    ("CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 0}),
    ("CosineAnnealingWarmRestarts", {"T_0": 1, "eta_min": "0"}),
    ("CyclicLR", {"base_lr": [0.1], "max_lr": 1.0}),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": [1.0]}),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "mode": "square"}),
    ("OneCycleLR", {"max_lr": 1.0}), ("OneCycleLR", {"max_lr": 1.0, "total_steps": 0}),
    ("OneCycleLR", {"max_lr": 1.0, "epochs": 1.5, "steps_per_epoch": 2}),
    ("OneCycleLR", {"max_lr": 1.0, "epochs": 1, "steps_per_epoch": -2}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 9, "pct_start": 2.0}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 9, "anneal_strategy": "step"}),
    ("OneCycleLR", {"max_lr": [1.0], "total_steps": 9}),
    ("ReduceLROnPlateau", {"factor": 1.0}), ("ReduceLROnPlateau", {"min_lr": [0.1]}),
    ("ReduceLROnPlateau", {"mode": "mean"}), ("ReduceLROnPlateau", {"threshold_mode": "mean"}),
    ("SequentialLR", {"schedulers": [], "milestones": []}),
    ("SequentialLR", {"schedulers": ["StepLR"], "milestones": []}),
]


@pytest.mark.parametrize("name, args", WRONG, ids=[f"{n}-{i}" for i, (n, _) in enumerate(WRONG)])
def test_errors(name, args):
    found = []
    for lib in LIBRARIES:
        with pytest.raises(Exception) as e:
            schedule(lib, name, optimizer(lib), **args)
        found.append((e.type, str(e.value)[:60]))
    assert found[0] == found[1]


def test_what_cannot_be_combined():
    found = []
    for lib in LIBRARIES:
        s, opt = lib.optim.lr_scheduler, optimizer(lib)
        cases = [lambda s=s, opt=opt: s.SequentialLR(opt, [s.StepLR(opt, 1)], [3]),
                 lambda s=s, opt=opt: s.SequentialLR(opt, [s.ReduceLROnPlateau(opt)], []),
                 lambda s=s, opt=opt: s.ChainedScheduler([s.ReduceLROnPlateau(opt)]),
                 lambda s=s: s.ChainedScheduler([]),
                 lambda s=s, opt=opt, lib=lib: s.ChainedScheduler(
                     [s.StepLR(opt, 1), s.StepLR(optimizer(lib), 1)]),
                 lambda s=s, lib=lib, opt=opt: s.SequentialLR(
                     opt, [s.StepLR(optimizer(lib), 1)], []),
                 lambda s=s: s.StepLR("SGD", 1), lambda s=s: s.CyclicLR(3, 0.1, 1.0)]
        for case in cases:
            with pytest.raises(Exception) as e:
                case()
            found.append((e.type, str(e.value)[:60]))
    assert found[:len(found) // 2] == found[len(found) // 2:]


def test_one_cycle_ends():
    for lib in LIBRARIES:
        opt = optimizer(lib)
        s = schedule(lib, "OneCycleLR", opt, max_lr=1.0, total_steps=3)
        with pytest.raises(ValueError, match="Tried to step 4 times"):
            for _ in range(9):
                opt.step()
                s.step()


@pytest.mark.parametrize("name", torch.optim.lr_scheduler.__all__)
def test_signatures(name):
    ours, theirs = (inspect.signature(getattr(lib.optim.lr_scheduler, name)).parameters
                    for lib in LIBRARIES)
    assert [(p.name, p.default, p.kind) for p in ours.values()] == \
        [(p.name, p.default, p.kind) for p in theirs.values()]


def test_optimizers_with_schedules_can_be_pickled_and_copied():
    opt = optimizer(gpugrad)
    schedule(gpugrad, "StepLR", opt, step_size=2)
    again = pickle.loads(pickle.dumps(opt))
    assert groups(again) == groups(opt)
    again.step()


def test_groups_added_later():
    found = []
    for lib in LIBRARIES:
        opt = optimizer(lib)
        s = schedule(lib, "ReduceLROnPlateau", opt, min_lr=[0.1, 0.1], patience=0)
        opt.add_param_group({"params": [lib.nn.Parameter(lib.ones(1))]})
        with pytest.raises(RuntimeError) as e:
            for _ in range(3):
                s.step(1.0)
        found.append(str(e.value)[:100])
    assert found[0] == found[1]
