"""Optimizers: formulas against NumPy in float64, groups, state, hooks, errors, memory."""
from __future__ import annotations

import copy
import math
import pickle
import tracemalloc
import warnings

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import backend, optim
from gpugrad._tensor import wrap
from gpugrad.backend import Backend
from gpugrad.nn.parameter import Parameter
from gpugrad.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
    required,
)

pytestmark = pytest.mark.usefixtures("on_each_device")

ALL = [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adamax, optim.NAdam, optim.RAdam,
       optim.Adagrad, optim.Adadelta, optim.Rprop, optim.ASGD]
FUSED = (optim.SGD, optim.Adam, optim.AdamW, optim.Adagrad)


def param(*shape, seed=0, dtype=np.float32):
    values = np.asarray(np.random.RandomState(seed).randn(*shape), dtype)
    return Parameter(torch.from_numpy(values))


def give_grads(params, step, scale=1.0):
    """A gradient that depends on the step only; returns them as float64 arrays."""
    out = []
    for i, p in enumerate(params):
        g = np.random.RandomState(100 * step + i).randn(*p.shape) * scale
        g = np.asarray(g).astype(p._a.dtype)
        p.grad = torch.from_numpy(g.copy())
        out.append(g.astype(np.float64))
    return out


# The formulas, written out plainly ----------------------------------------------------------------

def sgd(p, g, s, t, lr=0.1, momentum=0, dampening=0, weight_decay=0, nesterov=False, sign=1):
    g = sign * g + weight_decay * p
    if momentum:
        s["v"] = g if t == 1 else momentum * s["v"] + (1 - dampening) * g
        g = g + momentum * s["v"] if nesterov else s["v"]
    return p - lr * g


def adam(p, g, s, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, sign=1,
         decoupled_weight_decay=False):
    g = sign * g
    if decoupled_weight_decay:
        p = p * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g * g
    s["top"] = np.maximum(s.get("top", 0), s["v"])
    v = s["top"] if amsgrad else s["v"]
    m_hat, v_hat = s["m"] / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return p - lr * m_hat / (np.sqrt(v_hat) + eps)


def adamw(p, g, s, t, weight_decay=1e-2, **kw):
    return adam(p, g, s, t, weight_decay=weight_decay, decoupled_weight_decay=True, **kw)


def rmsprop(p, g, s, t, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False,
            sign=1):
    g = sign * g + weight_decay * p
    s["s"] = alpha * s.get("s", 0) + (1 - alpha) * g * g
    s["mean"] = alpha * s.get("mean", 0) + (1 - alpha) * g
    u = g / (np.sqrt(s["s"] - (s["mean"] ** 2 if centered else 0)) + eps)
    if momentum:
        u = s["buf"] = momentum * s.get("buf", 0) + u
    return p - lr * u


def adamax(p, g, s, t, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, sign=1):
    g = sign * g + weight_decay * p
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["top"] = np.maximum(betas[1] * s.get("top", 0), np.abs(g) + eps)
    return p - lr / (1 - betas[0] ** t) * s["m"] / s["top"]


def nadam(p, g, s, t, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, momentum_decay=4e-3,
          decoupled_weight_decay=False, sign=1):
    g = sign * g + (0 if decoupled_weight_decay else weight_decay * p)
    p = p * (1 - lr * weight_decay) if decoupled_weight_decay else p
    share, following = (betas[0] * (1 - 0.5 * 0.96 ** (k * momentum_decay)) for k in (t, t + 1))
    s["product"] = float(np.float32(s.get("product", 1) * share))      # which the state keeps so
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g * g
    scale = np.sqrt(s["v"] / (1 - betas[1] ** t)) + eps
    ahead = (1 - share) * g / (1 - s["product"])
    return p - lr * (ahead + following * s["m"] / (1 - s["product"] * following)) / scale


def radam(p, g, s, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0,
          decoupled_weight_decay=False, sign=1):
    g = sign * g + (0 if decoupled_weight_decay else weight_decay * p)
    p = p * (1 - lr * weight_decay) if decoupled_weight_decay else p
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g * g
    m, power = s["m"] / (1 - betas[0] ** t), betas[1] ** t
    top = 2 / (1 - betas[1]) - 1
    known = top - 2 * t * power / (1 - power)
    if known <= 5:
        return p - lr * m
    r = np.sqrt((known - 4) * (known - 2) * top / ((top - 4) * (top - 2) * known))
    return p - lr * m * r * np.sqrt(1 - power) / (np.sqrt(s["v"]) + eps)


def adagrad(p, g, s, t, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10,
            sign=1):
    g = sign * g + weight_decay * p
    s["sum"] = s.get("sum", initial_accumulator_value) + g * g
    return p - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s["sum"]) + eps)


def adadelta(p, g, s, t, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0, sign=1):
    g = sign * g + weight_decay * p
    s["g2"] = rho * s.get("g2", 0) + (1 - rho) * g * g
    d = np.sqrt(s.get("d2", 0) + eps) / np.sqrt(s["g2"] + eps) * g
    s["d2"] = rho * s.get("d2", 0) + (1 - rho) * d * d
    return p - lr * d


def rprop(p, g, s, t, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50), sign=1):
    g = sign * g
    both = g * s.get("last", 0 * g)
    factor = np.where(both > 0, etas[1], np.where(both < 0, etas[0], 1))
    s["size"] = np.clip(s.get("size", lr) * factor, *step_sizes)
    s["last"] = np.where(both < 0, 0, g)
    return p - np.sign(s["last"]) * s["size"]


def asgd(p, g, s, t, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0, sign=1):
    g = sign * g + weight_decay * p
    eta = s.get("eta", float(np.float32(lr)))
    s["eta"] = float(np.float32(lr / (1 + lambd * lr * t) ** alpha))
    return p - eta * lambd * p - eta * g


CASES = [
    (optim.SGD, sgd, {"lr": 0.05}),
    (optim.SGD, sgd, {"lr": 0.05, "weight_decay": 0.1}),
    (optim.SGD, sgd, {"lr": 0.05, "momentum": 0.9}),
    (optim.SGD, sgd, {"lr": 0.05, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1}),
    (optim.SGD, sgd, {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (optim.SGD, sgd, {"lr": 0.01, "momentum": 0.5, "maximize": True, "weight_decay": 0.1}),
    (optim.SGD, sgd, {"lr": 0.01, "maximize": True}),
    (optim.Adam, adam, {}),
    (optim.Adam, adam, {"lr": 0.02, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    (optim.Adam, adam, {"amsgrad": True, "betas": (0.0, 0.9)}),
    (optim.Adam, adam, {"maximize": True, "weight_decay": 0.1}),
    (optim.Adam, adam, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    (optim.AdamW, adamw, {}),
    (optim.AdamW, adamw, {"lr": 0.02, "weight_decay": 0.3, "amsgrad": True, "maximize": True}),
    (optim.RMSprop, rmsprop, {}),
    (optim.RMSprop, rmsprop, {"alpha": 0.8, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.7}),
    (optim.RMSprop, rmsprop, {"centered": True, "maximize": True}),
    (optim.RMSprop, rmsprop, {"centered": True, "momentum": 0.5, "weight_decay": 0.1}),
    (optim.Adamax, adamax, {}),
    (optim.Adamax, adamax, {"betas": (0.5, 0.9), "weight_decay": 0.1, "maximize": True}),
    (optim.NAdam, nadam, {}),
    (optim.NAdam, nadam, {"weight_decay": 0.1, "momentum_decay": 0.1}),
    (optim.NAdam, nadam, {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    (optim.RAdam, radam, {}),
    (optim.RAdam, radam, {"betas": (0.5, 0.8), "weight_decay": 0.1, "maximize": True}),
    (optim.RAdam, radam, {"betas": (0.5, 0.8), "weight_decay": 0.3,
                          "decoupled_weight_decay": True}),
    (optim.Adagrad, adagrad, {}),
    (optim.Adagrad, adagrad, {"lr_decay": 0.1, "weight_decay": 0.1, "maximize": True,
                              "initial_accumulator_value": 0.5}),
    (optim.Adadelta, adadelta, {}),
    (optim.Adadelta, adadelta, {"rho": 0.5, "weight_decay": 0.1, "maximize": True, "lr": 0.5}),
    (optim.Rprop, rprop, {}),
    (optim.Rprop, rprop, {"etas": (0.4, 1.5), "step_sizes": (0.005, 0.02), "maximize": True}),
    (optim.ASGD, asgd, {}),
    (optim.ASGD, asgd, {"lambd": 0.3, "alpha": 0.5, "weight_decay": 0.1, "maximize": True}),
]
IDS = [f"{c[0].__name__}-{'-'.join(c[2]) or 'plain'}" for c in CASES]


@pytest.mark.parametrize(("cls", "formula", "kw"), CASES, ids=IDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_formula(cls, formula, kw, dtype):
    params = [param(3, 4, dtype=dtype), param(5, seed=1, dtype=dtype), param(seed=2, dtype=dtype)]
    expected = [p.detach().numpy().astype(np.float64) for p in params]
    states: list[dict] = [{} for _ in params]
    opt = cls(params, **kw)
    kw = dict(kw)
    sign = -1 if kw.pop("maximize", False) else 1
    for t in range(1, 21):
        grads = give_grads(params, t)
        opt.step()
        expected = [formula(e, g, s, t, sign=sign, **kw)
                    for e, g, s in zip(expected, grads, states)]
    tol = 2e-6 if dtype == np.float32 else 1e-12
    for p, e in zip(params, expected):
        assert p._a.dtype == dtype
        np.testing.assert_allclose(p.detach().numpy(), e, rtol=tol, atol=tol)
    for p in params:
        for name, value in opt.state.get(p, {}).items():
            scalar = name in ("step", *cls._scalars)
            assert value._a.dtype == (np.float32 if scalar else dtype), name


@pytest.mark.parametrize(("cls", "formula", "kw"), CASES, ids=IDS)
def test_large_parameters_are_updated_in_stretches(cls, formula, kw):
    """Longer than one stretch, with a ragged end, and in other memory orders."""
    big = np.random.RandomState(0).randn(301, 257).astype(np.float32)
    params = [Parameter(torch.from_numpy(big.copy())),
              Parameter(torch.from_numpy(big.copy().T)),
              Parameter(torch.from_numpy(np.repeat(big, 2, 1)[:, ::2]))]
    opt = cls(params, **kw)
    kw = dict(kw)
    sign = -1 if kw.pop("maximize", False) else 1
    expected, states = [p.detach().numpy().astype(np.float64) for p in params], [{}, {}, {}]
    for t in (1, 2, 3):
        grads = give_grads(params, t)
        opt.step()
        expected = [formula(e, g, s, t, sign=sign, **kw)
                    for e, g, s in zip(expected, grads, states)]
    for p, e in zip(params, expected):
        np.testing.assert_allclose(p.detach().numpy(), e, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("cls", ALL)
def test_float16_is_updated_in_float32(cls):
    p = param(64, dtype=np.float16)
    before = p.detach().numpy().astype(np.float32)
    opt = cls([p], lr=0.01)
    p.grad = torch.from_numpy(np.full(64, 1e-4, np.float16))
    opt.step()
    # Squared in float16 this gradient is 0, and those that divide by its size divide by 0.
    after = p.detach().numpy()
    assert after.dtype == np.float16 and np.isfinite(after).all()
    if cls not in (optim.SGD, optim.ASGD, optim.RAdam, optim.Adadelta):
        assert (after.astype(np.float32) < before - 0.005).all()


@pytest.mark.parametrize("cls", ALL)
def test_memory_stays_in_place(cls):
    """The arrays are the same ones, and no temporary is as long as the parameter."""
    p = param(2_000_000)
    opt = cls([p], **({"momentum": 0.9} if cls is optim.SGD else {}))
    give_grads([p], 1)
    opt.step()
    arrays = {id(p._a)} | {id(v._a) for v in opt.state[p].values()}
    opt.step()
    tracemalloc.start()
    opt.step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert arrays == {id(p._a)} | {id(v._a) for v in opt.state[p].values()}


@pytest.mark.parametrize("cls", ALL)
def test_step_counts_as_a_change_of_the_parameter(cls):
    p = param(3)
    y = (p * p).sum()
    give_grads([p], 1)
    version = p._version
    cls([p]).step()
    assert p._version == version + 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


@pytest.mark.parametrize("cls", ALL)
def test_parameters_without_gradient_are_left_alone(cls):
    p, q = param(3), param(3, seed=1)
    opt = cls([p, q], **({"momentum": 0.9} if cls is optim.SGD else {}))
    give_grads([p], 1)
    before, ptr = q.detach().clone(), q.data_ptr()
    opt.step()
    assert torch.equal(before, q.detach()) and q.data_ptr() == ptr
    assert set(opt.state) == ({p, q} if cls is optim.Adagrad else {p})


@pytest.mark.parametrize("cls", ALL)
def test_a_device_says_how_much_it_takes_at_a_time(cls, monkeypatch):
    """All of a parameter at once, as on a GPU, gives what stretches of it give."""
    where = torch.device("cuda", 42)
    be = Backend(where)
    be.chunk = 1 << 60
    monkeypatch.setitem(backend._made, where, be)
    p = param(300, 300)
    q = Parameter(wrap(p._a.copy(), be))
    decay = {} if cls is optim.Rprop else {"weight_decay": 0.1}
    a, b = cls([p], **decay), cls([q], **decay)
    for t in (1, 2):
        g, = give_grads([p], t)
        q.grad = wrap(g.astype(np.float32), be)
        a.step()
        b.step()
    np.testing.assert_array_equal(p._a, q._a)
    assert q.device == where
    saved = copy.deepcopy(a.state_dict())
    b.load_state_dict(saved)
    for name, value in b.state.get(q, {}).items():
        on_host = name in ("step", *cls._scalars)
        assert value.device == (torch.device("cpu") if on_host else where)


def test_sgd_without_momentum_keeps_no_state():
    p = param(3)
    opt = optim.SGD([p])
    give_grads([p], 1)
    opt.step()
    assert opt.state_dict()["state"] == {} and not opt.state


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.cpu_only
def test_infinite_gradients_raise_no_warnings(cls):
    p = param(3)
    opt = cls([p], **({} if cls is optim.Rprop else {"weight_decay": 0.1}))
    p.grad = torch.tensor([float("inf"), float("nan"), 3e38])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opt.step()
        opt.step()
    assert not torch.isfinite(p.detach()[int(cls is optim.Rprop):2]).any()   # Rprop takes signs


# Groups -------------------------------------------------------------------------------------------

def test_groups_have_options_of_their_own():
    p, q = param(2), param(2, seed=1)
    opt = optim.SGD([{"params": [p]}, {"params": q, "lr": 0.5, "note": "mine"}], lr=0.1)
    give_grads([p, q], 1)
    p0, q0 = p.detach().clone(), q.detach().clone()
    opt.step()
    assert torch.allclose(p.detach(), p0 - 0.1 * p.grad)
    assert torch.allclose(q.detach(), q0 - 0.5 * q.grad)
    assert opt.param_groups[1]["note"] == "mine" and opt.param_groups[1]["momentum"] == 0
    r = param(2)
    opt.add_param_group({"params": [r], "momentum": 0.9})
    assert len(opt.param_groups) == 3 and opt.param_groups[2]["lr"] == 0.1


@pytest.mark.cpu_only
def test_a_changed_learning_rate_takes_effect():
    p = param(2)
    opt = optim.SGD([p], lr=1.0)
    opt.param_groups[0]["lr"] = 0.25
    p.grad, before = torch.ones(2), p.detach().clone()
    opt.step()
    assert torch.allclose(p.detach(), before - 0.25)


@pytest.mark.parametrize("cls", ALL)
def test_learning_rate_as_a_tensor(cls):
    p, q = param(4), param(4)
    a, b = cls([p], lr=torch.tensor(0.25)), cls([q], lr=0.25)
    for t in (1, 2):
        give_grads([p], t)
        give_grads([q], t)
        a.step()
        b.step()
    assert torch.equal(p.detach(), q.detach())


def test_named_parameters():
    p, q = param(2), param(2)
    opt = optim.SGD([("weight", p), ("bias", q)])
    assert opt.param_groups[0]["param_names"] == ["weight", "bias"]
    assert opt.param_groups[0]["params"][1] is q
    with pytest.raises(ValueError, match=r"with/without names\. Some param names are missing"):
        optim.SGD([("weight", p), q])
    with pytest.raises(ValueError, match="cannot add param group without names"):
        opt.add_param_group({"params": [param(1)]})


@pytest.mark.cpu_only
def test_zero_grad():
    p = param(2)
    opt = optim.SGD([p])
    p.grad = g = torch.ones(2)
    opt.zero_grad(set_to_none=False)
    assert p.grad is g and not g.any()
    opt.zero_grad()
    assert p.grad is None
    (p * p).sum().backward(create_graph=True)
    opt.zero_grad(set_to_none=False)
    assert p.grad.grad_fn is None and not p.grad.requires_grad and not p.grad.any()


def test_repr():
    opt = optim.RMSprop([{"params": [param(1)]}, {"params": [param(1)], "lr": 2}])
    text = repr(opt)
    assert text.startswith("RMSprop (\nParameter Group 0\n    alpha: 0.99\n    capturable: False\n")
    assert "\n\nParameter Group 1\n" in text and "    lr: 2\n" in text and text.endswith("\n)")


# Errors -------------------------------------------------------------------------------------------

def bad(error, match, make):
    with pytest.raises(error, match=match):
        make()


def test_bad_parameters():
    p = param(2)
    bad(ValueError, "optimizer got an empty parameter list", lambda: optim.SGD([]))
    bad(TypeError, r"iterable of Tensors or dicts, but got torch\.FloatTensor",
        lambda: optim.SGD(p))
    bad(ValueError, "can't optimize a non-leaf Tensor", lambda: optim.SGD([p * 2]))
    bad(TypeError, "one of the params is int", lambda: optim.SGD([3]))
    bad(TypeError, "one of the params is dict", lambda: optim.SGD([p, {"params": [p]}]))
    bad(TypeError, "ordered collections", lambda: optim.SGD([{"params": {p}}]))
    bad(TypeError, "param_group must be a dict", lambda: optim.SGD([p]).add_param_group([p]))
    bad(ValueError, "appear in more than one parameter group",
        lambda: optim.SGD([{"params": [p]}, {"params": [p]}]))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optim.SGD([p, p])
    bad(ValueError, "didn't specify a value of required optimization parameter lr",
        lambda: Optimizer([p], {"lr": required}))


@pytest.mark.parametrize(("cls", "kw", "match"), [
    (optim.SGD, {"lr": -1}, "Invalid learning rate: -1"),
    (optim.SGD, {"lr": torch.tensor([1.0, 2.0])}, "Tensor lr must be 1-element"),
    (optim.SGD, {"momentum": -1}, "Invalid momentum value: -1"),
    (optim.SGD, {"weight_decay": -1}, "Invalid weight_decay value: -1"),
    (optim.SGD, {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
    (optim.Adam, {"lr": math.nan}, "Invalid learning rate: nan"),
    (optim.Adam, {"eps": -1}, "Invalid epsilon value: -1"),
    (optim.Adam, {"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
    (optim.Adam, {"betas": (0.9, 1.0)}, "Invalid beta parameter at index 1: 1.0"),
    (optim.Adam, {"betas": (0, 0)}, "betas must be either both floats or both Tensors"),
    (optim.Adam, {"weight_decay": -1}, "Invalid weight_decay value: -1"),
    (optim.Adam, {"lr": torch.tensor(0.1), "foreach": True}, "lr as a Tensor is not supported"),
    (optim.AdamW, {"lr": -1}, "Invalid learning rate: -1"),
    (optim.RMSprop, {"alpha": -1}, "Invalid alpha value: -1"),
    (optim.RMSprop, {"momentum": -1}, "Invalid momentum value: -1"),
    (optim.RMSprop, {"lr": math.nan}, "Invalid learning rate: nan"),
])
def test_bad_options(cls, kw, match):
    bad(ValueError, match, lambda: cls([param(1)], **kw))


@pytest.mark.parametrize("cls", ALL)
def test_hints(cls):
    fused = {"fused": True} if cls in FUSED else {}
    for kw in ({"foreach": True}, {"foreach": False}, fused):
        p = param(2)
        give_grads([p], 1)
        opt = cls([p], **kw)
        opt.step()
        assert all(opt.defaults[k] == v for k, v in kw.items())
    if fused:
        bad(RuntimeError, "`fused` does not support `differentiable`",
            lambda: cls([param(1)], fused=True, differentiable=True))
        bad(RuntimeError, "`fused` and `foreach` cannot be `True` together",
            lambda: cls([param(1)], fused=True, foreach=True))


def test_an_optimizer_must_have_a_step():
    opt = Optimizer([param(1)], {})
    bad(NotImplementedError, "doesn't define step", opt.step)


def test_state_of_another_model_is_named():
    p, q = param(3), param(5)
    a, b = optim.Adam([p]), optim.Adam([q])
    give_grads([p, q], 1)
    a.step()
    b.load_state_dict(a.state_dict())
    bad(RuntimeError, r"'exp_avg' has shape \[3\], its parameter \[5\]", b.step)


# Closures and hooks -------------------------------------------------------------------------------

def test_closure_runs_with_recording_on():
    p = param(3)
    opt = optim.SGD([p], lr=0.1)

    def closure():
        opt.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss
    before = float((p * p).sum())
    with torch.no_grad():
        loss = opt.step(closure)
    assert float(loss) == pytest.approx(before)
    assert float((p * p).sum()) < before
    assert opt.step() is None


class Mine(Optimizer):
    """An optimizer as users write them."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad, alpha=-group["lr"])
        return "done"


@pytest.mark.parametrize("cls", [Mine, *ALL])
def test_step_hooks(cls):
    p, seen = param(2), []
    opt = cls([p])
    give_grads([p], 1)
    first = opt.register_step_pre_hook(lambda o, args, kw: seen.append(("pre", o is opt, args, kw)))
    opt.register_step_post_hook(lambda o, args, kw: seen.append(("post", o is opt, args, kw)))
    outer = register_optimizer_step_pre_hook(lambda *a: seen.append(("global pre",)))
    last = register_optimizer_step_post_hook(lambda *a: seen.append(("global post",)))
    opt.step(closure=None)
    outer.remove()
    last.remove()
    assert [s[0] for s in seen] == ["global pre", "pre", "post", "global post"]
    assert seen[1] == ("pre", True, (opt,), {"closure": None})
    first.remove()
    opt.step()
    assert [s[0] for s in seen][4:] == ["post"]


def test_a_pre_hook_may_change_the_arguments():
    p = param(2)
    opt = optim.SGD([p])
    give_grads([p], 1)
    opt.register_step_pre_hook(lambda o, args, kw: ((*args, lambda: "from the hook"), kw))
    assert opt.step() == "from the hook"
    opt.register_step_pre_hook(lambda o, args, kw: 5)
    bad(RuntimeError, "must return None or a tuple of \\(new_args, new_kwargs\\), but got 5",
        opt.step)
    assert not opt._in_step


def test_hooks_run_once_through_super():
    class Twice(optim.SGD):
        def step(self, closure=None):
            return super().step(closure)
    p, seen = param(1), []
    opt = Twice([p])
    give_grads([p], 1)
    opt.register_step_post_hook(lambda *a: seen.append(1))
    opt.step()
    assert seen == [1]


def test_state_dict_hooks():
    p, seen = param(2), []
    opt = optim.SGD([p], lr=0.1)
    opt.register_state_dict_pre_hook(lambda o: seen.append("a"))
    opt.register_state_dict_pre_hook(lambda o: seen.append("b"), prepend=True)
    opt.register_state_dict_post_hook(lambda o, sd: {**sd, "extra": 1})
    saved = opt.state_dict()
    assert seen == ["b", "a"] and saved["extra"] == 1

    def halve(o, sd):
        sd = copy.deepcopy(sd)
        sd["param_groups"][0]["lr"] /= 2
        return sd
    opt.register_load_state_dict_pre_hook(halve)
    opt.register_load_state_dict_post_hook(lambda o: seen.append(o.param_groups[0]["lr"]))
    opt.load_state_dict(saved)
    assert seen[-1] == 0.05 and saved["param_groups"][0]["lr"] == 0.1


# State --------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("cls", "formula", "kw"), CASES, ids=IDS)
def test_resuming_is_bit_for_bit(cls, formula, kw):
    def make():
        params = [param(3, 4), param(5, seed=1)]
        return params, cls([{"params": params[:1]}, {"params": params[1:], "lr": 0.004}], **kw)
    params, opt = make()
    for t in range(1, 9):
        give_grads(params, t)
        opt.step()
        if t == 4:
            saved = copy.deepcopy(opt.state_dict())
            values = [p.detach().clone() for p in params]
    others, opt2 = make()
    for p, v in zip(others, values):
        p.data = v
    opt2.load_state_dict(saved)
    for t in range(5, 9):
        give_grads(others, t)
        opt2.step()
    for p, q in zip(params, others):
        assert torch.equal(p.detach(), q.detach())


def test_state_dict_names_parameters_by_position():
    p, q = param(2), param(3)
    opt = optim.Adam([{"params": [p], "lr": 1.0}, {"params": [q]}])
    give_grads([q], 1)
    opt.step()
    saved = opt.state_dict()
    assert list(saved) == ["state", "param_groups"] and list(saved["state"]) == [1]
    assert [g["params"] for g in saved["param_groups"]] == [[0], [1]]
    step = saved["state"][1]["step"]
    assert step.shape == () and step.dtype is torch.float32 and step.item() == 1
    assert list(saved["state"][1]) == ["step", "exp_avg", "exp_avg_sq"]


def test_loaded_state_takes_the_parameters_dtype():
    p, q = param(3), param(3, dtype=np.float64)
    a, b = optim.Adam([p]), optim.Adam([q])
    give_grads([p, q], 1)
    a.step()
    b.load_state_dict(a.state_dict())
    assert b.state[q]["exp_avg"].dtype is torch.float64
    assert b.state[q]["step"].dtype is torch.float32
    b.step()


def test_old_checkpoints_are_completed():
    p = param(3)
    opt = optim.AdamW([p])
    give_grads([p], 1)
    opt.step()
    saved = copy.deepcopy(opt.state_dict())
    saved["state"][0]["step"] = 1                # once a number
    for name in ("amsgrad", "maximize", "foreach", "fused", "decoupled_weight_decay"):
        del saved["param_groups"][0][name]
    opt.load_state_dict(saved)
    assert opt.param_groups[0]["decoupled_weight_decay"] is True
    opt.step()
    assert opt.state[p]["step"].item() == 2


def test_loading_the_wrong_groups():
    p, q = param(1), param(1)
    one, two = optim.SGD([p, q]), optim.SGD([{"params": [p]}, {"params": [q]}])
    bad(ValueError, "different number of parameter groups",
        lambda: two.load_state_dict(one.state_dict()))
    bad(ValueError, "doesn't match the size", lambda: optim.SGD([p]).load_state_dict(
        one.state_dict()))


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("again", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies(cls, again):
    p = param(3)
    opt = cls([p], lr=0.1)
    opt.register_step_pre_hook(print)
    give_grads([p], 1)
    opt.step()
    other = again(opt)
    q = other.param_groups[0]["params"][0]
    assert q is not p and torch.equal(p.detach(), q.detach())
    give_grads([p], 2)
    give_grads([q], 2)
    other.step()
    assert not torch.equal(p.detach(), q.detach())
    assert repr(other) == repr(opt)
    assert set(other.state) <= {q}
