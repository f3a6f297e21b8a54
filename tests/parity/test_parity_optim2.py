"""The optimizers that look at more than one element at a time: LBFGS, Adafactor, Muon."""
from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import gpugrad

torch = pytest.importorskip("torch")
pytest.importorskip("ml_dtypes")

LIBRARIES = (gpugrad, torch)


def parameters(lib: Any, shapes: Any, seed: int = 0, dtype: Any = np.float64) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [lib.nn.Parameter(lib.from_numpy(np.array(rng.standard_normal(s), dtype)))
            for s in shapes]


def same(got: Any, want: Any, tolerance: float) -> None:
    for p, q in zip(got, want, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), tolerance, tolerance)


def comparable(value: Any) -> Any:
    """A state without the libraries' own types."""
    if hasattr(value, "detach"):
        return value.detach().double().numpy().tolist()
    if isinstance(value, dict):
        return {k: comparable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [comparable(v) for v in value]
    return value


def assert_close(a: Any, b: Any, where: str = "", tolerance: float = 1e-6) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for k in a:
            assert_close(a[k], b[k], f"{where}.{k}", tolerance)
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            assert_close(x, y, f"{where}[{i}]", tolerance)
    elif isinstance(a, str) or a is None:
        assert a == b, where
    else:
        assert a == pytest.approx(b, rel=tolerance, abs=tolerance / 1000), where


def rosenbrock(lib: Any, params: Any) -> Any:
    x = lib.cat([p.reshape(-1) for p in params])
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def quadratic(lib: Any, params: Any) -> Any:
    return sum((p ** 2 * (i + 1)).sum() for i, p in enumerate(params)) + params[0].sum()


def well(lib: Any, params: Any) -> Any:
    return sum(lib.cos(p * 3).sum() + (p ** 2).sum() / 5 for p in params)


@pytest.mark.parametrize("loss", [rosenbrock, quadratic, well])
@pytest.mark.parametrize("options", [
    {}, {"lr": 0.1}, {"line_search_fn": "strong_wolfe"}, {"max_iter": 3, "history_size": 2},
    {"line_search_fn": "strong_wolfe", "history_size": 3, "max_iter": 7},
    {"line_search_fn": "strong_wolfe", "max_eval": 4, "lr": 0.5},
    {"tolerance_grad": 0.5, "tolerance_change": 0.01, "lr": 0.05}], ids=str)
def test_lbfgs(options, loss):
    if loss is rosenbrock and options in ({}, {"max_iter": 3, "history_size": 2}):
        pytest.skip("it runs away to infinity without a line search")
    runs = []
    for lib in LIBRARIES:
        params = parameters(lib, [(3,), (2, 2), ()])
        opt = lib.optim.LBFGS(params, **options)
        calls = [0]

        def closure(lib=lib, params=params, opt=opt, calls=calls):
            calls[0] += 1
            opt.zero_grad()
            value = loss(lib, params)
            value.backward()
            return value
        losses = [float(opt.step(closure)) for _ in range(5)]
        runs.append((params, losses, calls[0], comparable(opt.state_dict())))
    (a, x, n, s), (b, y, m, r) = runs
    assert n == m
    same(a, b, 1e-7)
    assert x == pytest.approx(y, rel=1e-7)
    assert_close(s, r)


ADAFACTOR = [dict(zip(("lr", "weight_decay", "maximize", "d", "beta2_decay"), v))
             for v in itertools.product([0.01, 0.3], [0.0, 0.1], [False, True], [1.0, 1.5],
                                        [-0.8, -0.5])]


@pytest.mark.parametrize("options", [*ADAFACTOR, {"eps": (1e-6, 0.1)}], ids=lambda o: "-".join(
    map(str, o.values())))
def test_adafactor(options):
    runs = []
    for lib in LIBRARIES:
        params = parameters(lib, [(4, 3), (5,), (2, 3, 4), ()])
        opt = lib.optim.Adafactor(params, **options)
        rng = np.random.default_rng(1)
        for _ in range(40):
            for p in params:
                p.grad = lib.from_numpy(np.asarray(rng.standard_normal(p.shape)))
            opt.step()
        runs.append((params, opt.state_dict()))
    same(runs[0][0], runs[1][0], 1e-10)
    assert_close(comparable(runs[0][1]["state"]), comparable(runs[1][1]["state"]))
    assert runs[0][1]["param_groups"] == runs[1][1]["param_groups"]


@pytest.mark.parametrize("options", [
    {}, {"nesterov": False}, {"lr": 0.1, "weight_decay": 0.0}, {"adjust_lr_fn": "match_rms_adamw"},
    {"adjust_lr_fn": "original", "momentum": 0.5, "ns_steps": 3}], ids=str)
def test_muon(options):
    runs = []
    for lib in LIBRARIES:
        params = parameters(lib, [(8, 5), (4, 9), (6, 6)], dtype=np.float32)
        opt = lib.optim.Muon(params, **options)
        rng = np.random.default_rng(1)
        for _ in range(10):
            for p in params:
                p.grad = lib.from_numpy(rng.standard_normal(p.shape).astype(np.float32))
            opt.step()
        runs.append((params, opt.state_dict()))
    lr = options.get("lr", 1e-3)
    same(runs[0][0], runs[1][0], lr * 0.1)               # bfloat16 inside: two orders of summation
    assert_close(comparable(runs[0][1]["state"]), comparable(runs[1][1]["state"]), tolerance=1e-4)
    assert runs[0][1]["param_groups"] == runs[1][1]["param_groups"]


WRONG = [
    ("LBFGS", {"lr": -1}), ("Adafactor", {"lr": -1}), ("Adafactor", {"beta2_decay": 1.0}),
    ("Adafactor", {"eps": (-1.0, 1.0)}), ("Adafactor", {"eps": (None, -1.0)}),
    ("Adafactor", {"d": 0.5}), ("Adafactor", {"weight_decay": -1.0}), ("Muon", {"lr": -1}),
    ("Muon", {"momentum": -1}), ("Muon", {"weight_decay": -1}), ("Muon", {"adjust_lr_fn": "x"}),
    ("Adamax", {"lr": -1}), ("Adamax", {"betas": (1.0, 0.5)}), ("Adamax", {"eps": -1}),
    ("Adamax", {"weight_decay": -1}), ("NAdam", {"lr": -1}), ("NAdam", {"betas": (0.5, 1.5)}),
    ("NAdam", {"momentum_decay": -1}), ("RAdam", {"lr": float("nan")}), ("RAdam", {"eps": -1.0}),
    ("Adagrad", {"lr": -1}), ("Adagrad", {"lr_decay": -1}), ("Adagrad", {"eps": -1}),
    ("Adagrad", {"initial_accumulator_value": -1}), ("Adagrad", {"fused": True, "foreach": True}),
    ("Adadelta", {"rho": 1.5}), ("Adadelta", {"lr": -1}), ("Adadelta", {"eps": -1}),
    ("Rprop", {"lr": -1}), ("Rprop", {"etas": (1.5, 2.0)}), ("Rprop", {"etas": (0.5, 1.0)}),
    ("ASGD", {"lr": -1}), ("ASGD", {"weight_decay": -1}),
    ("SGD", {"fused": True, "differentiable": True}), ("Adam", {"lr": float("nan")}),
]


@pytest.mark.parametrize("name, options", WRONG,
                         ids=[f"{n}-{'-'.join(o)}-{i}" for i, (n, o) in enumerate(WRONG)])
def test_errors(name, options):
    found = []
    for lib in LIBRARIES:
        with pytest.raises(Exception) as e:
            getattr(lib.optim, name)([lib.nn.Parameter(lib.ones(2, 2))], **options)
        found.append((e.type, str(e.value)))
    assert found[0] == found[1]


def test_what_only_some_take():
    for make in (lambda lib: lib.optim.Muon([lib.nn.Parameter(lib.ones(3))]),
                 lambda lib: lib.optim.LBFGS([{"params": [lib.nn.Parameter(lib.ones(3))]},
                                              {"params": [lib.nn.Parameter(lib.ones(3))]}])):
        found = []
        for lib in LIBRARIES:
            with pytest.raises(ValueError) as e:
                make(lib)
            found.append(str(e.value))
        assert found[0] == found[1]


def test_lbfgs_goes_on_from_pytorchs_state():
    params = [parameters(lib, [(4,)]) for lib in LIBRARIES]
    opts = [lib.optim.LBFGS(p, max_iter=4, line_search_fn="strong_wolfe")
            for lib, p in zip(LIBRARIES, params)]

    def closure(i):
        def run():
            opts[i].zero_grad()
            value = rosenbrock(LIBRARIES[i], params[i])
            value.backward()
            return value
        return run

    def translated(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return gpugrad.from_numpy(value.numpy().copy())
        if isinstance(value, dict):
            return {k: translated(v) for k, v in value.items()}
        return [translated(v) for v in value] if isinstance(value, list) else value

    opts[1].step(closure(1))
    with gpugrad.no_grad():
        params[0][0].copy_(gpugrad.from_numpy(params[1][0].detach().numpy().copy()))
    opts[0].load_state_dict(translated(opts[1].state_dict()))
    for i in (0, 1):
        opts[i].step(closure(i))
    same(params[0], params[1], 1e-8)
