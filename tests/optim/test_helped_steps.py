"""Optimizers' steps by the compiled helper: the bits of NumPy's, and what is left to NumPy."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import optim, set_num_threads
from gpugrad.backend import compiled
from gpugrad.optim import helped

pytestmark = pytest.mark.skipif(compiled.library() is None, reason="no compiled helper")

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {"lr": 0.1}),
    "SGD, decay": ("SGD", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    "SGD, momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1}),
    "SGD, Nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "Adam": ("Adam", {"weight_decay": 0.1, "maximize": True}), "AdamW": ("AdamW", {}),
    "Adam, amsgrad": ("Adam", {"amsgrad": True}), "Adamax": ("Adamax", {}),
    "NAdam": ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "RAdam": ("RAdam", {"betas": (0.9, 0.8)}), "Adagrad": ("Adagrad", {"lr_decay": 0.1}),
    "Adadelta": ("Adadelta", {}), "RMSprop": ("RMSprop", {}),
    "RMSprop, momentum": ("RMSprop", {"momentum": 0.9}),
    "RMSprop, centered": ("RMSprop", {"centered": True}),
    "RMSprop, both": ("RMSprop", {"centered": True, "momentum": 0.9}),
    "Rprop": ("Rprop", {}), "Rprop, crossed": ("Rprop", {"step_sizes": (1, 0.5)}),
    "ASGD": ("ASGD", {"lambd": 0.1, "t0": 2, "weight_decay": 0.1}),
}
SHAPES = (7,), (3, 5), (), (0,), (1,), (40000,), (130, 300)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(rows, rows left) of each call of the helper."""
    calls = []
    real = helped.step_together

    def step_together(opt: Any, group: Any, values: Any, rows: Any) -> Any:
        left = real(opt, group, values, rows)
        calls.append((len(rows), len(left)))
        return left
    monkeypatch.setattr(helped, "step_together", step_together)
    return calls


def parameters(shapes: Any = SHAPES, dtype: Any = np.float32) -> list[Any]:
    draw = np.random.default_rng(0).standard_normal
    return [torch.nn.Parameter(torch.tensor(draw(s).astype(dtype))) for s in shapes]


def stepped(name: str, params: list[Any], steps: int = 4, special: bool = False) -> list[Any]:
    """All parameters and states after some steps, as arrays."""
    cls, options = CASES[name]
    opt = getattr(optim, cls)(params, **options)
    draw = np.random.default_rng(1).standard_normal
    for _ in range(steps):
        for p in params:
            g = np.asarray(draw(p.shape)).astype(p._a.real.dtype)
            if special and g.size > 3:
                g.reshape(-1)[:4] = np.nan, np.inf, -np.inf, 0
            p.grad = torch.tensor(g).to(p.dtype)
        opt.step()
    return [p.detach().numpy() for p in params] + [
        v.numpy() for p in params for v in opt.state[p].values() if torch.is_tensor(v)]


def by_numpy(monkeypatch: pytest.MonkeyPatch, *args: Any, **kw: Any) -> list[Any]:
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "_found", [None])
        return stepped(*args, **kw)


@pytest.mark.parametrize("special", [False, True], ids=["", "NaN"])
@pytest.mark.parametrize("name", CASES)
def test_every_bit_is_that_of_numpy(name: str, special: bool, counted: list[tuple[int, int]],
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    ours = stepped(name, parameters(), special=special)
    assert counted == [(len(SHAPES), 0)] * 4                # in one call for all of them
    theirs = by_numpy(monkeypatch, name, parameters(), special=special)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        np.testing.assert_array_equal(a, b)


def test_two_threads_give_what_one_gives() -> None:
    one = stepped("Adam", parameters())
    before = torch.get_num_threads()
    try:
        set_num_threads(2)
        two = stepped("Adam", parameters())
    finally:
        set_num_threads(before)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one, two))


def turned() -> Any:
    return torch.nn.Parameter(parameters([(6, 4)])[0].detach().t())


def with_gaps() -> Any:
    return torch.nn.Parameter(parameters([(6, 8)])[0].detach()[:, ::2])




@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.complex64])
def test_other_dtypes_are_left_to_numpy(dtype: Any, counted: list[tuple[int, int]],
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    def mixed() -> list[Any]:
        return [*parameters([(3, 4)], dtype), *parameters([(5,)])]
    ours, theirs = stepped("Adam", mixed()), by_numpy(monkeypatch, "Adam", mixed())
    assert counted == [(2, 1)] * 4 + [(2, 2)] * 4
    for a, b in zip(ours, theirs):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", [turned, with_gaps])
def test_memory_in_another_order_is_left_to_numpy(make: Any, counted: list[tuple[int, int]],
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = stepped("Adam", [make()]), by_numpy(monkeypatch, "Adam", [make()])
    assert counted[:4] == [(1, 1)] * 4
    for a, b in zip(ours, theirs):
        np.testing.assert_array_equal(a, b)


def test_columns_are_stepped_with_gradients_in_columns(counted: list[tuple[int, int]]) -> None:
    p, q = turned(), torch.nn.Parameter(turned().detach().contiguous())
    p.grad, q.grad = p.detach().clone(), q.detach().clone()
    assert p.grad.stride() == p.stride() != q.stride()
    optim.SGD([p], lr=0.1).step()
    optim.SGD([q], lr=0.1).step()
    assert counted == [(1, 0), (1, 0)]
    np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_flags_stay_as_they_are(counted: list[tuple[int, int]]) -> None:
    for kw in {"foreach": True}, {"fused": True}, {"capturable": True}:
        p, = parameters([(5,)])
        opt = optim.Adam([p], **kw)
        p.grad = torch.ones_like(p)
        opt.step()
        assert set(opt.state[p]) == {"step", "exp_avg", "exp_avg_sq"}
    assert counted == [(1, 0)] * 3
    q = parameters([(5,)])[0].clone()
    q.grad = torch.ones_like(q)
    optim.SGD([q], lr=0.1, differentiable=True).step()
    assert len(counted) == 3                                # recorded in the graph, by ops


def test_a_gradient_scaler_is_heard_before(counted: list[tuple[int, int]]) -> None:
    p, = parameters([(5,)])
    before = p.detach().clone()
    opt = optim.SGD([p], lr=1.0)
    p.grad = torch.full((5,), 8.0)
    opt.grad_scale, opt.found_inf = torch.tensor(4.0), torch.tensor(0.0)
    opt.step()
    np.testing.assert_array_equal(p.detach().numpy(), before.numpy() - 2)
    np.testing.assert_array_equal(p.grad.numpy(), np.full(5, 2, np.float32))
    opt.found_inf = torch.tensor(1.0)
    opt.step()
    np.testing.assert_array_equal(p.detach().numpy(), before.numpy() - 2)
    assert counted == [(1, 0)]


def test_versions_count_steps() -> None:
    p, = parameters([(5,)])
    p.grad = torch.ones_like(p)
    version = p._version
    optim.Adam([p]).step()
    assert p._version == version + 1


@pytest.mark.parametrize("options", [
    {}, {"lr": 0.3, "d": 2.0, "weight_decay": 0.1}, {"eps": (1e-3, 0.1), "maximize": True},
    {"beta2_decay": -0.3}])
def test_adafactor_is_numpys_to_rounding(options: dict[str, Any],
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    library = compiled.library()
    shapes = (*SHAPES, (1, 7), (2, 3, 50, 33), (40, 3000), (2000, 3))
    calls: list[Any] = []

    def run(found: Any, threads: int) -> list[Any]:
        monkeypatch.setattr(compiled, "_found", [found])
        library.set_threads(threads)
        library.set_few(0)
        params, draw = parameters(shapes), np.random.default_rng(1).standard_normal
        opt = optim.Adafactor(params, **options)
        for _ in range(3):
            for p in params:
                p.grad = torch.tensor(draw(p.shape).astype(np.float32))
            versions = [p._version for p in params]
            opt.step()
            assert all(p._version > v for p, v in zip(params, versions) if p.numel())
        return [a.detach().numpy() for p in params
                for a in (p, *[v for k, v in opt.state[p].items() if k != "step"])]

    class Counting:
        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return getattr(library, name)

    try:
        first = run(Counting(), 1)
        for a, b in zip(first, run(library, 3), strict=True):
            assert np.array_equal(a, b)
        for a, b in zip(first, run(None, 1), strict=True):
            np.testing.assert_allclose(a, b, 2e-5, 1e-5)
    finally:
        library.set_threads(torch.get_num_threads())
        library.set_few(1 << 20)
    assert calls.count("step_adafactor") == 3 * (len(shapes) - 1)    # one has no elements
