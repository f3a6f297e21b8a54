"""Optimizers against PyTorch: trajectories for all options, state dicts both ways, errors."""
from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import gpugrad  # noqa: E402
from gpugrad.nn.parameter import Parameter  # noqa: E402

SHAPES = [(7, 5), (11,), ()]


def product(**options):
    return [dict(zip(options, values)) for values in itertools.product(*options.values())]


CASES = [
    *[("SGD", {"lr": 0.02, **o}) for o in product(
        momentum=[0, 0.9], dampening=[0, 0.3], weight_decay=[0, 0.1], nesterov=[False, True],
        maximize=[False, True])
      if not (o["nesterov"] and (not o["momentum"] or o["dampening"]))],
    *[(name, o) for name in ("Adam", "AdamW") for o in product(
        betas=[(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)], weight_decay=[0, 0.1],
        amsgrad=[False, True], maximize=[False, True])],
    ("Adam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("Adam", {"eps": 0.1, "lr": 0.1}),
    *[("RMSprop", {"lr": 0.002, **o}) for o in product(
        momentum=[0, 0.9], centered=[False, True], weight_decay=[0, 0.1], maximize=[False, True])],
    ("RMSprop", {"alpha": 0.5, "eps": 0.1}),
    *[("Adamax", o) for o in product(betas=[(0.9, 0.999), (0.5, 0.9)], weight_decay=[0, 0.1],
                                     maximize=[False, True])],
    *[(name, o) for name in ("NAdam", "RAdam") for o in product(
        betas=[(0.9, 0.999), (0.5, 0.8)], weight_decay=[0, 0.1],
        decoupled_weight_decay=[False, True], maximize=[False, True])],
    ("NAdam", {"momentum_decay": 0.1, "lr": 0.01}),
    *[("Adagrad", o) for o in product(lr_decay=[0, 0.1], weight_decay=[0, 0.1],
                                      initial_accumulator_value=[0, 0.5], maximize=[False, True])],
    *[("Adadelta", o) for o in product(rho=[0.9, 0.5], weight_decay=[0, 0.1],
                                       maximize=[False, True])],
    *[("Rprop", o) for o in product(lr=[0.01, 0.1], etas=[(0.5, 1.2), (0.3, 2.0)],
                                    step_sizes=[(1e-6, 50), (0.01, 0.05)], maximize=[False, True])],
    *[("ASGD", o) for o in product(lambd=[1e-4, 0.1], alpha=[0.75, 0.5], t0=[1e6, 20],
                                   weight_decay=[0, 0.1], maximize=[False, True])],
]


def ours(values):
    return [Parameter(gpugrad.from_numpy(v.copy())) for v in values]


def theirs(values):
    return [torch.nn.Parameter(torch.from_numpy(v.copy())) for v in values]


def start(dtype=np.float64):
    rng = np.random.RandomState(0)
    return [np.asarray(rng.randn(*s), dtype) for s in SHAPES]


def steps(a, b, mine, other, count, seed=1):
    """Both take ``count`` steps on the same gradients, those of a noisy quadratic."""
    rng = np.random.RandomState(seed)
    for _ in range(count):
        for p, q in zip(a, b):
            g = np.asarray(rng.randn(*q.shape) * 0.5 + q.detach().numpy(), q.detach().numpy().dtype)
            p.grad, q.grad = gpugrad.from_numpy(g.copy()), torch.from_numpy(g.copy())
        mine.step()
        other.step()


def close(a, b, tol):
    for p, q in zip(a, b):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=tol, atol=tol)


def structure(state):
    """A state dict with tensors as (dtype, shape)."""
    if hasattr(state, "dtype"):
        return str(state.dtype), tuple(state.shape)
    if isinstance(state, dict):
        return {k: structure(v) for k, v in state.items()}
    return type(state)(structure(v) for v in state) if isinstance(state, (list, tuple)) else state


def order(state):
    return [list(state), *[list(g) for g in state["param_groups"]],
            *[list(s) for s in state["state"].values()]]


@pytest.mark.parametrize(("name", "kw"), CASES,
                         ids=[f"{n}-{'-'.join(map(str, k.values()))}" for n, k in CASES])
def test_trajectories(name, kw):
    a, b = ours(start()), theirs(start())
    mine, other = getattr(gpugrad.optim, name)(a, **kw), getattr(torch.optim, name)(b, **kw)
    steps(a, b, mine, other, 200)
    close(a, b, 1e-9)
    x, y = mine.state_dict(), other.state_dict()
    assert structure(x) == structure(y) and order(x) == order(y) and repr(mine) == repr(other)
    for i, s in y["state"].items():
        for key, value in s.items():
            np.testing.assert_allclose(x["state"][i][key].numpy(), value.numpy(), 1e-8, 1e-10)


@pytest.mark.parametrize(("name", "kw"), [
    ("SGD", {"lr": 0.02}), ("SGD", {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.01}),
    ("Adam", {}), ("AdamW", {"amsgrad": True}), ("RMSprop", {"lr": 0.002, "centered": True}),
    ("Adamax", {}), ("NAdam", {}), ("RAdam", {}), ("Adagrad", {}), ("Adadelta", {}),
    ("Rprop", {}), ("ASGD", {"lambd": 0.01, "t0": 50}),
])
def test_float32_stays_within_rounding(name, kw):
    a, b = ours(start(np.float32)), theirs(start(np.float32))
    mine, other = getattr(gpugrad.optim, name)(a, **kw), getattr(torch.optim, name)(b, **kw)
    steps(a, b, mine, other, 200)
    close(a, b, 2e-6)


def as_torch(state):
    """A state dict of ours as PyTorch's tensors, and back."""
    if isinstance(state, gpugrad.Tensor):
        return torch.from_numpy(state.numpy().copy())
    if isinstance(state, torch.Tensor):
        return gpugrad.from_numpy(state.numpy().copy())
    if isinstance(state, dict):
        return {k: as_torch(v) for k, v in state.items()}
    return type(state)(map(as_torch, state)) if isinstance(state, (list, tuple)) else state


@pytest.mark.parametrize(("name", "kw"), [
    ("SGD", {"lr": 0.02, "momentum": 0.9}), ("Adam", {"amsgrad": True}), ("AdamW", {}),
    ("RMSprop", {"lr": 0.002, "centered": True, "momentum": 0.9}),
    ("Adamax", {}), ("NAdam", {}), ("RAdam", {}), ("Adagrad", {"lr_decay": 0.1}), ("Adadelta", {}),
    ("Rprop", {}), ("ASGD", {"lambd": 0.1, "t0": 10}),
])
def test_state_is_exchanged_in_the_middle(name, kw):
    a, b = ours(start()), theirs(start())
    groups = lambda ps: [{"params": ps[:2]}, {"params": ps[2:], "lr": 0.01}]  # noqa: E731
    make = getattr(gpugrad.optim, name), getattr(torch.optim, name)
    mine, other = make[0](groups(a), **kw), make[1](groups(b), **kw)
    steps(a, b, mine, other, 20)
    mine2, other2 = make[0](groups(a), **kw), make[1](groups(b), **kw)
    mine2.load_state_dict(as_torch(other.state_dict()))
    other2.load_state_dict(as_torch(mine.state_dict()))
    steps(a, b, mine2, other2, 20, seed=2)
    close(a, b, 1e-7 if name == "ASGD" else 1e-9)        # its eta is rounded to float32 in between
    assert structure(mine2.state_dict()) == structure(other2.state_dict())


def test_float32_checkpoint_into_float64_parameters():
    saved = []
    for lib, make in ((gpugrad, ours), (torch, theirs)):
        p = make([np.ones(3, np.float32)])
        opt = lib.optim.Adam(p)
        p[0].grad = lib.ones(3)
        opt.step()
        q = make([np.ones(3)])
        other = lib.optim.Adam(q)
        other.load_state_dict(copy.deepcopy(opt.state_dict()))
        saved.append(structure(other.state_dict()))
    assert saved[0] == saved[1]


@pytest.mark.parametrize("call", [
    lambda t, o, p: o.SGD([], lr=0.1), lambda t, o, p: o.SGD(p), lambda t, o, p: o.SGD([p * 2]),
    lambda t, o, p: o.SGD([1]), lambda t, o, p: o.SGD([None]), lambda t, o, p: o.SGD([{"lr": 1}]),
    lambda t, o, p: o.SGD([{"params": {p}}]), lambda t, o, p: o.SGD([p, {"params": [p]}]),
    lambda t, o, p: o.SGD([("a", p), t.ones(1)]),
    lambda t, o, p: o.SGD([{"params": [("a", p)]}, {"params": [t.ones(1)]}]),
    lambda t, o, p: o.SGD([{"params": [p]}, {"params": [p]}]),
    lambda t, o, p: o.SGD([p]).add_param_group([p]),
    lambda t, o, p: o.SGD([p], lr=-0.5), lambda t, o, p: o.SGD([p], lr=t.tensor([1.0, 2.0])),
    lambda t, o, p: o.SGD([p], lr=t.tensor(-0.5)), lambda t, o, p: o.SGD([p], momentum=-1),
    lambda t, o, p: o.SGD([p], weight_decay=-1), lambda t, o, p: o.SGD([p], nesterov=True),
    lambda t, o, p: o.SGD([p], lr="a").step(), lambda t, o, p: o.SGD([p], fused=True, foreach=True),
    lambda t, o, p: o.SGD([p], fused=True, differentiable=True),
    lambda t, o, p: o.Adam([p], lr=float("nan")), lambda t, o, p: o.Adam([p], eps=-1),
    lambda t, o, p: o.Adam([p], betas=(1.0, 0.9)), lambda t, o, p: o.Adam([p], betas=(0.9, 1)),
    lambda t, o, p: o.Adam([p], betas=(0, 0)), lambda t, o, p: o.Adam([p], weight_decay=-1),
    lambda t, o, p: o.Adam([p], betas=(t.tensor(0.9), 0.99)),
    lambda t, o, p: o.Adam([p], betas=(t.tensor(0.9), t.tensor(0.99)), foreach=True),
    lambda t, o, p: o.Adam([p], lr=t.tensor(0.1), foreach=True),
    lambda t, o, p: o.AdamW([p], lr=-1), lambda t, o, p: o.RMSprop([p], alpha=-1),
    lambda t, o, p: o.RMSprop([p], eps=-1), lambda t, o, p: o.RMSprop([p], momentum=-1),
    lambda t, o, p: o.SGD([p]).load_state_dict({}),
    lambda t, o, p: o.SGD([p]).load_state_dict(
        o.SGD([{"params": [p]}, {"params": []}]).state_dict()),
    lambda t, o, p: o.SGD([p]).load_state_dict(o.SGD([p, t.ones(1)]).state_dict()),
], ids=range(37))
def test_errors(call):
    texts = []
    for t, make in ((gpugrad, ours), (torch, theirs)):
        with pytest.raises(Exception) as caught:
            call(t, t.optim, make([np.ones(2, np.float32)])[0])
        texts.append((caught.type, str(caught.value)))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("kw", [{}, {"lr": 0.5}, {"foreach": True}])
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_defaults_and_repr(name, kw):
    a, b = ours(start()), theirs(start())
    mine = getattr(gpugrad.optim, name)([{"params": a[:1]}, {"params": a[1:], "lr": 2}], **kw)
    other = getattr(torch.optim, name)([{"params": b[:1]}, {"params": b[1:], "lr": 2}], **kw)
    assert repr(mine) == repr(other) and mine.defaults == other.defaults
    assert list(mine.defaults) == list(other.defaults)
    assert mine.state_dict() == other.state_dict()
