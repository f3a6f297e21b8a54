"""torch.optim.swa_utils against PyTorch's."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad

torch = pytest.importorskip("torch")

LIBRARIES = (gpugrad, torch)


def swa(lib: Any) -> Any:
    return lib.optim.swa_utils


def model(lib: Any) -> Any:
    lib.manual_seed(0)
    return lib.nn.Sequential(lib.nn.Linear(3, 4), lib.nn.BatchNorm1d(4), lib.nn.Linear(4, 2))


def same(a: Any, b: Any, tolerance: float = 1e-6) -> None:
    for (k, x), (j, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert k == j
        np.testing.assert_allclose(x.numpy(), y.numpy(), tolerance, tolerance)


WAYS = {
    "default": lambda lib: {}, "buffers": lambda lib: {"use_buffers": True},
    "swa": lambda lib: {"avg_fn": swa(lib).get_swa_avg_fn()},
    "swa multi": lambda lib: {"multi_avg_fn": swa(lib).get_swa_multi_avg_fn()},
    "ema": lambda lib: {"avg_fn": swa(lib).get_ema_avg_fn(0.7)},
    "ema multi": lambda lib: {"multi_avg_fn": swa(lib).get_ema_multi_avg_fn(0.7)},
    "ema multi buffers": lambda lib: {"multi_avg_fn": swa(lib).get_ema_multi_avg_fn(0.7),
                                      "use_buffers": True},
    "own": lambda lib: {"avg_fn": lambda mean, new, n: (mean + new) / (n + 2)},
}


@pytest.mark.parametrize("way", WAYS)
def test_averages(way):
    averages = []
    for lib in LIBRARIES:
        net = model(lib)
        average = swa(lib).AveragedModel(net, **WAYS[way](lib))
        opt = lib.optim.SGD(net.parameters(), lr=0.01)
        x = lib.from_numpy(np.random.default_rng(1).standard_normal((9, 3)).astype(np.float32))
        for _ in range(4):
            opt.zero_grad()
            (net(x) ** 2).sum().backward()
            opt.step()
            average.update_parameters(net)
        averages.append(average)
        assert tuple(average(x).shape) == (9, 2)
    same(*averages, 1e-5)


@pytest.mark.parametrize("as_tuples", [False, True])
def test_update_bn(as_tuples):
    nets = []
    for lib in LIBRARIES:
        net = model(lib).eval()
        rng = np.random.default_rng(0)
        batches = [lib.from_numpy(rng.standard_normal((6, 3)).astype(np.float32))
                   for _ in range(3)]
        swa(lib).update_bn([(b, 0) for b in batches] if as_tuples else batches, net)
        assert not net.training and net[1].momentum == 0.1
        nets.append(net)
    same(*nets)


@pytest.mark.parametrize("args", [
    {"swa_lr": 0.05}, {"swa_lr": [0.05, 0.5], "anneal_epochs": 4},
    {"swa_lr": 0.3, "anneal_strategy": "linear", "anneal_epochs": 3},
    {"swa_lr": 0.3, "anneal_epochs": 0}], ids=str)
def test_swalr(args):
    runs = []
    for lib in LIBRARIES:
        opt = lib.optim.SGD([{"params": [lib.nn.Parameter(lib.ones(1))]},
                             {"params": [lib.nn.Parameter(lib.ones(1))], "lr": 1.0}], lr=0.1)
        schedule = swa(lib).SWALR(opt, **args)
        found = [schedule.get_last_lr()]
        for _ in range(12):
            opt.step()
            schedule.step()
            found.append(schedule.get_last_lr())
        runs.append((found, schedule.state_dict()))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("act", [
    lambda lib, opt: swa(lib).SWALR(opt, 0.1, anneal_strategy="step"),
    lambda lib, opt: swa(lib).SWALR(opt, 0.1, anneal_epochs=-1),
    lambda lib, opt: swa(lib).SWALR(opt, [0.1, 0.2]),
    lambda lib, opt: swa(lib).get_ema_avg_fn(1.5),
    lambda lib, opt: swa(lib).get_ema_multi_avg_fn(-1),
    lambda lib, opt: swa(lib).AveragedModel(model(lib), avg_fn=1, multi_avg_fn=2)])
def test_errors(act):
    found = []
    for lib in LIBRARIES:
        with pytest.raises(Exception) as e:
            act(lib, lib.optim.SGD([lib.nn.Parameter(lib.ones(1))], lr=0.1))
        found.append((e.type, str(e.value)))
    assert found[0] == found[1]
