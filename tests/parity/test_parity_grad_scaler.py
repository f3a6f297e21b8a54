"""GradScaler on the CPU beside PyTorch's: scales, states, skipped steps, gradients, errors."""
from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import gpugrad
import gpugrad.cuda
import gpugrad.optim

torch = pytest.importorskip("torch")

INF, NAN = float("inf"), float("nan")


def values(x: Any) -> Any:
    return x.detach().numpy().copy() if hasattr(x, "detach") else x


def trained(t: Any, cls: str, kw: dict[str, Any], scaling: dict[str, Any], bad: str,
            clip: bool) -> Any:
    """Everything to be seen after each step: parameters, gradients, state, scale."""
    r = np.random.RandomState(0)
    params = [t.nn.Parameter(t.tensor(r.randn(*shape).astype("f4"))) for shape in ((3, 4), (5, 2))]
    opt = getattr(t.optim, cls)(params, lr=0.05, **kw)
    s = t.amp.GradScaler("cpu", **scaling)
    seen: list[Any] = []
    for step, char in enumerate(bad):
        for p in params:
            p.grad = t.tensor(r.randn(*p.shape).astype("f4"))
        with t.no_grad():
            params[0].grad.mul_(s.scale(t.ones(())))
            params[1].grad.mul_(s.get_scale())
            if char != ".":
                params[step % 2].grad[0, 1] = {"i": INF, "n": NAN, "-": -INF}[char]
        if clip:
            s.unscale_(opt)
            seen.append(values(t.nn.utils.clip_grad_norm_(params, 1.0)))
        returned = s.step(opt)
        s.update()
        seen += [returned, s.get_scale(), s._get_growth_tracker(), s.state_dict()]
        for p in params:
            seen += [values(p), values(p.grad),
                     {k: values(v) for k, v in sorted(opt.state[p].items())}]
    return seen


def assert_alike(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        ours, theirs = list(ours.values()), list(theirs.values())
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            assert_alike(a, b)
    elif isinstance(theirs, np.ndarray):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    else:
        assert type(ours) is type(theirs) and ours == theirs


@pytest.mark.parametrize("clip", [False, True], ids=["", "clip"])
@pytest.mark.parametrize("scaling", [
    {}, {"init_scale": 100.0, "growth_factor": 1.7, "backoff_factor": 0.3, "growth_interval": 2},
    {"init_scale": 4.0, "growth_interval": 1}, {"enabled": False}],
    ids=["default", "uneven", "growing", "off"])
@pytest.mark.parametrize(("cls", "kw"), [
    ("SGD", {}), ("SGD", {"momentum": 0.9, "dampening": 0.5}), ("SGD", {"fused": True}),
    ("Adam", {}), ("Adam", {"fused": True}), ("AdamW", {"amsgrad": True}), ("Adamax", {}),
    ("NAdam", {}), ("RAdam", {}), ("Adagrad", {}), ("Adadelta", {}), ("RMSprop", {}),
    ("Rprop", {}), ("ASGD", {}), ("Adafactor", {})], ids=str)
def test_training(cls: str, kw: dict[str, Any], scaling: dict[str, Any], clip: bool) -> None:
    bad = "......" if scaling.get("enabled") is False else "i..n.-.."
    if bad != "......" and kw.get("fused"):
        bad = ".." + bad[1:]                 # with a state: PyTorch makes it uninitialized
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_alike(trained(gpugrad, cls, kw, scaling, bad, clip),
                     trained(torch, cls, kw, scaling, bad, clip))


class Plain:
    """Something with groups and a step that no library knows."""

    def __init__(self, params: list[Any]) -> None:
        self.param_groups = [{"params": params}]
        self.steps = 0

    def step(self, *args: Any, **kw: Any) -> Any:
        self.steps += 1
        return args, kw


def made(t: Any, grad: Any = (1.0,), dtype: str = "float32", **kw: Any) -> tuple[Any, Any, Any]:
    """(scaler with a scale, optimizer, parameter)"""
    p = t.nn.Parameter(t.zeros(1, dtype=getattr(t, dtype)))
    p.grad = None if grad is None else t.tensor(grad, dtype=getattr(t, dtype))
    s = t.amp.GradScaler("cpu", **kw)
    s.scale(t.ones(()))
    return s, t.optim.SGD([p], lr=0.1), p


def again(*calls: Any) -> Any:
    return [call() for call in calls][-1]


CASES = {
    "step without scale": lambda t: t.amp.GradScaler("cpu").step(made(t)[1]),
    "unscale without scale": lambda t: t.amp.GradScaler("cpu").unscale_(made(t)[1]),
    "update without scale": lambda t: t.amp.GradScaler("cpu").update(),
    "update without step": lambda t: made(t)[0].update(),
    "scale a number": lambda t: made(t)[0].scale(1.0),
    "scale None in a list": lambda t: made(t)[0].scale([t.ones(1), None]),
    "scale a list": lambda t: [x.tolist() for x in made(t)[0].scale([t.ones(1), t.ones(2)])],
    "scale nested": lambda t: str(made(t)[0].scale((t.ones(1), [t.ones(2)]))),
    "scale doubles": lambda t: str(made(t)[0].scale(t.ones(1, dtype=t.float64)).dtype),
    "scale halves": lambda t: str(made(t)[0].scale(t.ones(1, dtype=t.float16))),
    "scale integers": lambda t: str(made(t)[0].scale(t.ones(1, dtype=t.int64))),
    "no gradients": lambda t: (lambda s, o, p: s.step(o))(*made(t, None)),
    "no gradients, unscaled before": lambda t: (
        lambda s, o, p: again(lambda: s.unscale_(o), lambda: s.step(o)))(*made(t, None)),
    "half gradients": lambda t: (lambda s, o, p: s.step(o))(*made(t, dtype="float16")),
    "half gradients, unscale": lambda t: (lambda s, o, p: s.unscale_(o))(*made(t, dtype="float16")),
    "double gradients": lambda t: (
        lambda s, o, p: again(lambda: s.step(o), lambda: p.tolist()))(*made(t, dtype="float64")),
    "closure": lambda t: (lambda s, o, p: s.step(o, closure=print))(*made(t)),
    "step twice": lambda t: (lambda s, o, p: again(lambda: s.step(o), lambda: s.step(o)))(*made(t)),
    "unscale twice": lambda t: (
        lambda s, o, p: again(lambda: s.unscale_(o), lambda: s.unscale_(o)))(*made(t)),
    "unscale after step": lambda t: (
        lambda s, o, p: again(lambda: s.step(o), lambda: s.unscale_(o)))(*made(t)),
    "empty state": lambda t: made(t)[0].load_state_dict({}),
    "part of a state": lambda t: made(t)[0].load_state_dict({"scale": 1.0}),
    "growth factor": lambda t: t.amp.GradScaler("cpu", growth_factor=1.0),
    "backoff factor": lambda t: t.amp.GradScaler("cpu", backoff_factor=1.0),
    "factors when off": lambda t: t.amp.GradScaler("cpu", 1.0, 1.0, 1.0, enabled=False).get_scale(),
    "new scale": lambda t: (lambda s: again(lambda: s.update(7.0), s.get_scale))(made(t)[0]),
    "new scale as a tensor": lambda t: (
        lambda s: again(lambda: s.update(t.tensor(7.0)), s.get_scale))(made(t)[0]),
    "new scale of two": lambda t: made(t)[0].update(t.ones(2)),
    "new scale with a gradient": lambda t: made(t)[0].update(t.ones((), requires_grad=True)),
    "new scale elsewhere": lambda t: made(t)[0].update(t.ones((), device="meta")),
    "pickled in an iteration": lambda t: (
        lambda s, o, p: again(lambda: s.step(o), lambda: pickle.dumps(s)))(*made(t)),
    "pickled": lambda t: pickle.loads(pickle.dumps(made(t, init_scale=8.0)[0])).state_dict(),
    "pickled when off": lambda t: pickle.loads(pickle.dumps(
        t.amp.GradScaler("cpu", enabled=False))).state_dict(),
    "getters": lambda t: (lambda s: (s.get_growth_factor(), s.get_backoff_factor(), s.is_enabled(),
                                     s.get_growth_interval(), s.get_scale()))(made(t)[0]),
    "getters when off": lambda t: t.amp.GradScaler("cpu", enabled=False).get_growth_factor(),
    "a stranger": lambda t: (lambda s, o, p: s.step(Plain([p]), 1, x=2))(*made(t)),
    "a stranger, infinite": lambda t: (lambda s, o, p: s.step(Plain([p]), 1, x=2))(
        *made(t, (INF,))),
    "cuda": lambda t: t.amp.GradScaler().is_enabled(),
    "cuda, off": lambda t: t.amp.GradScaler(enabled=False).is_enabled(),
    "older name": lambda t: t.cuda.amp.GradScaler(enabled=False).state_dict(),
}


def outcome(t: Any, case: Any) -> Any:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result = case(t)
        except Exception as e:
            result = type(e).__name__, str(e)
    return result, [(w.category.__name__, str(w.message)) for w in seen
                    if w.category is not RuntimeWarning]        # NumPy's of infinities


@pytest.mark.parametrize("name", CASES)
def test_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name.startswith("cuda"):
        monkeypatch.setattr(gpugrad.cuda, "is_available", torch.cuda.is_available)
    ours, theirs = outcome(gpugrad, CASES[name]), outcome(torch, CASES[name])
    assert repr(ours).replace("gpugrad.", "torch.") == repr(theirs)


def test_states_go_both_ways() -> None:
    for one, other in ((torch, gpugrad), (gpugrad, torch)):
        s, opt, p = made(one, init_scale=8.0, growth_interval=4)
        for g in (1.0, 1.0, INF, 1.0):
            p.grad = one.tensor([g])
            s.step(opt)
            s.update()
        new = other.amp.GradScaler("cpu")
        new.load_state_dict(s.state_dict())
        assert new.state_dict() == s.state_dict() and new.get_scale() == 4
