"""Bad input of optimizers beside PyTorch's: options, parameters, groups, checkpoints; and complex
parameters, which are two real ones each."""
from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest

import gpugrad
import gpugrad.optim

torch = pytest.importorskip("torch")

NAN, INF = float("nan"), float("inf")
OPTIONS = {
    "SGD": ("lr", "momentum", "dampening", "weight_decay"),
    "Adam": ("lr", "eps", "weight_decay"), "AdamW": ("lr", "eps", "weight_decay"),
    "Adamax": ("lr", "eps", "weight_decay"),
    "NAdam": ("lr", "eps", "weight_decay", "momentum_decay"),
    "RAdam": ("lr", "eps", "weight_decay"),
    "Adagrad": ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"),
    "Adadelta": ("lr", "rho", "eps", "weight_decay"),
    "RMSprop": ("lr", "alpha", "eps", "weight_decay", "momentum"), "Rprop": ("lr",),
    "ASGD": ("lr", "lambd", "alpha", "t0", "weight_decay"),
    "LBFGS": ("lr", "max_iter", "max_eval", "tolerance_grad", "tolerance_change"),
    "Adafactor": ("lr", "beta2_decay", "d", "weight_decay"),
    "Muon": ("lr", "weight_decay", "momentum", "eps"),
}
BETAS = ("Adam", "AdamW", "Adamax", "NAdam", "RAdam")


def outcome(t: Any, case: Any) -> Any:
    """What a case returns or raises, and what it warns of."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result = case(t)
        except Exception as e:
            result = type(e).__name__, str(e)
    told = [(w.category.__name__, str(w.message).partition(" (Triggered")[0]) for w in seen
            if w.category is not RuntimeWarning]            # NumPy's of infinities
    return repr((result, told)).replace("gpugrad.", "torch.").replace("(dtype=torch.", "(dtype=")


def assert_same(case: Any) -> None:
    ours, theirs = outcome(gpugrad, case), outcome(torch, case)
    assert ours == theirs


def param(t: Any, *shape: int, **kw: Any) -> Any:
    return t.nn.Parameter(t.ones(*(shape or (2, 3)), **kw))


def stepped(t: Any, name: str, n: int = 1, p: Any = None, **kw: Any) -> Any:
    """The parameter after some steps with a gradient of ones."""
    p = param(t) if p is None else p
    opt = getattr(t.optim, name)([p], **kw)
    p.grad = t.ones_like(p)
    for _ in range(n):
        opt.step() if name != "LBFGS" else opt.step(lambda: p.sum().detach())
    return digits(p)


def digits(p: Any) -> list[str]:
    return [f"{0.0 if abs(x) < 1e-6 else x:.4g}" for x in p.detach().double().flatten().tolist()]


# Options ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", OPTIONS)
def test_numbers_out_of_range(name: str) -> None:
    for option in OPTIONS[name]:
        for value in (-1.0, NAN, INF, -INF, -0.0, 0, -1e-9, True):
            assert_same(lambda t, k=option, v=value: getattr(t.optim, name)(
                [param(t)], **{k: v}).defaults[k])


@pytest.mark.parametrize("name", OPTIONS)
def test_things_that_are_no_numbers(name: str) -> None:
    for option in OPTIONS[name]:
        if option in ("lr", "max_iter"):
            for value in ("x", None, [0.1], 1j):
                assert_same(lambda t, k=option, v=value: getattr(t.optim, name)(
                    [param(t)], **{k: v}).defaults[k])


@pytest.mark.parametrize("name", BETAS)
def test_betas(name: str) -> None:
    for betas in ((-0.1, 0.9), (1.0, 0.9), (0.9, 1.0), (0.9, -1), (NAN, 0.9), (0.9, NAN),
                  (INF, 0.9), (0, 0), (0.9,), 0.9, None, (0.5, 0.5, 0.5), ("a", "b"), [0.9, 1.5]):
        assert_same(lambda t, b=betas: getattr(t.optim, name)([param(t)], betas=b).defaults[
            "betas"])


@pytest.mark.parametrize("name", OPTIONS)
def test_learning_rates_that_are_tensors(name: str) -> None:
    for value in ([0.1, 0.2], [], [[0.1]], -0.1, NAN, 0.1):
        for kw in ({}, {"foreach": True}, {"fused": True}, {"capturable": True}):
            assert_same(lambda t, v=value, k=kw: float(getattr(t.optim, name)(
                [param(t)], lr=t.tensor(v), **k).defaults["lr"]))


@pytest.mark.parametrize("name", OPTIONS)
def test_learning_rates_that_are_nan_or_infinite(name: str) -> None:
    for value in (NAN, INF, 0.0):
        if name != "LBFGS":
            assert_same(lambda t, v=value: stepped(t, name, lr=v))
        if name not in ("Muon", "LBFGS"):                       # set later, nobody looks

            def later(t: Any, v: Any = value) -> Any:
                p = param(t)
                opt = getattr(t.optim, name)([p], lr=0.1)
                p.grad = t.ones_like(p)
                opt.step()
                opt.param_groups[0]["lr"] = v
                opt.step()
                return digits(p)

            assert_same(later)


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_are_not_there(name: str) -> None:
    for kw in ({"nonsense": 1}, {"fused": True, "foreach": True},
               {"fused": True, "differentiable": True}, {"amsgrad": True}, {"momentum": 0.5},
               {"nesterov": True}, {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
               {"etas": (0.5, 0.9)}, {"etas": (1.1, 1.2)}, {"step_sizes": (1, 0)},
               {"eps": (-1, 1e-3)}, {"eps": (None, -1e-3)}, {"beta2_decay": 0.1}, {"d": 0.5},
               {"adjust_lr_fn": "nonsense"}, {"ns_steps": 100}, {"ns_coefficients": (1.0, 2.0)},
               {"line_search_fn": "nonsense"}, {"momentum_decay": NAN}):
        if name == "Muon" and "eps" in kw:          # a number there
            continue
        assert_same(lambda t, k=kw: stepped(t, name, **k))


# Parameters and groups ----------------------------------------------------------------------------

PARAMETERS = {
    "nothing": lambda t: [], "nothing, an iterator": lambda t: iter([]),
    "a tensor": lambda t: param(t), "numbers": lambda t: [1.0], "strings": lambda t: "ab",
    "arrays": lambda t: [np.ones(2)], "a set": lambda t: [{"params": {param(t)}}],
    "a group without parameters": lambda t: [{"lr": 0.1}],
    "an empty group": lambda t: [{"params": []}],
    "two empty groups": lambda t: [{"params": []}, {"params": []}],
    "groups and tensors": lambda t: [{"params": [param(t)]}, param(t)],
    "tensors and groups": lambda t: [param(t), {"params": [param(t)]}],
    "a tensor in a group": lambda t: [{"params": param(t)}],
    "no leaf": lambda t: [param(t) * 2],
    "no leaf that keeps its gradient": lambda t: (lambda x: [x, x.retain_grad()][:1])(param(t) * 2),
    "without gradient": lambda t: [t.ones(2, 2)],
    "integers": lambda t: [t.ones(2, 2, dtype=t.int64)],
    "twice": lambda t: [param(t)] * 2,
    "in two groups": lambda t: (lambda p: [{"params": [p]}, {"params": [p]}])(param(t)),
    "twice in a group": lambda t: (lambda p: [{"params": [p, p]}])(param(t)),
    "None": lambda t: None, "a number": lambda t: 1, "None among them": lambda t: [param(t), None],
    "names": lambda t: [("a", param(t)), ("b", param(t))],
    "some names": lambda t: [("a", param(t)), param(t)],
    "some names, later": lambda t: [param(t), ("a", param(t))],
    "names in one group": lambda t: [{"params": [("a", param(t))]}, {"params": [param(t)]}],
    "names in the other": lambda t: [{"params": [param(t)]}, {"params": [("a", param(t))]}],
    "an unknown option": lambda t: [{"params": [param(t)], "unknown": 1}],
}


@pytest.mark.parametrize("name", OPTIONS)
def test_parameters(name: str) -> None:
    for case in PARAMETERS.values():
        assert_same(lambda t, case=case: [
            sorted(group) for group in getattr(t.optim, name)(case(t)).param_groups])


GROUPS = {
    "no dict": lambda t, p: [param(t)], "no leaf": lambda t, p: {"params": [param(t) * 2]},
    "there already": lambda t, p: {"params": [p]}, "a set": lambda t, p: {"params": {param(t)}},
    "no parameters": lambda t, p: {"lr": 1.0}, "numbers": lambda t, p: {"params": [1.0]},
    "names": lambda t, p: {"params": [("a", param(t))]},
    "twice": lambda t, p: {"params": [param(t)] * 2}, "empty": lambda t, p: {"params": []},
    "one": lambda t, p: {"params": param(t), "lr": 0.5},
    "three dims": lambda t, p: {"params": param(t, 1, 2, 3)},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_groups_that_come_later(name: str) -> None:
    for case in GROUPS.values():
        def added(t: Any, case: Any = case) -> Any:
            p = param(t)
            opt = getattr(t.optim, name)([p])
            opt.add_param_group(case(t, p))
            return [(len(g["params"]), g["lr"]) for g in opt.param_groups]

        assert_same(added)


@pytest.mark.parametrize("name", OPTIONS)
def test_non_leaves_and_gradients(name: str) -> None:
    def made_a_result(t: Any) -> Any:
        p = param(t)
        opt = getattr(t.optim, name)([p])
        p.grad = t.ones(3, 3)
        return opt

    def no_gradient(t: Any) -> Any:
        p = param(t)
        opt = getattr(t.optim, name)([p])
        return opt.step() if name != "LBFGS" else opt.step(lambda: t.zeros(())), p.tolist()

    def no_closure(t: Any) -> Any:
        return getattr(t.optim, name)([param(t)]).step(None)

    def no_function(t: Any) -> Any:
        return getattr(t.optim, name)([param(t)]).step(1)

    for case in (made_a_result, no_gradient, no_function):
        assert_same(case)
    if name != "LBFGS":
        assert_same(no_closure)


# Checkpoints --------------------------------------------------------------------------------------

def checkpoint(t: Any, name: str, sizes: Any = ((2, 3), (4, 3)), groups: int = 1) -> Any:
    """(optimizer with a state, its parameters)"""
    params = [param(t, *size) for size in sizes]
    each = len(params) // groups
    opt = getattr(t.optim, name)([{"params": params[i * each:(i + 1) * each]}
                                  for i in range(groups)])
    for p in params:
        p.grad = t.ones_like(p) / 2
    opt.step() if name != "LBFGS" else opt.step(lambda: params[0].sum().detach())
    return opt, params


MISMATCHES = {
    "more groups": lambda t, name, s: (checkpoint(t, name, ((2, 3), (4, 3)), 2)[0], s),
    "fewer parameters": lambda t, name, s: (checkpoint(t, name, ((2, 3),))[0], s),
    "no groups": lambda t, name, s: (checkpoint(t, name)[0], {**s, "param_groups": []}),
    "empty": lambda t, name, s: (checkpoint(t, name)[0], {}),
    "no state": lambda t, name, s: (checkpoint(t, name)[0], {"param_groups": s["param_groups"]}),
    "None": lambda t, name, s: (checkpoint(t, name)[0], None),
    "the state of strangers": lambda t, name, s: (checkpoint(t, name)[0], {
        **s, "state": {7: {"step": t.tensor(1.0)}}}),
    "groups without parameters": lambda t, name, s: (checkpoint(t, name)[0], {
        **s, "param_groups": [{"lr": 0.1}]}),
}


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "LBFGS"])
def test_state_dicts_that_do_not_fit(name: str) -> None:
    for case in MISMATCHES.values():
        def loaded(t: Any, case: Any = case) -> Any:
            opt, state = case(t, name, copy.deepcopy(checkpoint(t, name)[0].state_dict()))
            opt.load_state_dict(state)
            return len(opt.param_groups), sorted(map(str, opt.state_dict()["state"]))

        assert_same(loaded)


@pytest.mark.parametrize("name", [n for n in OPTIONS if n not in ("LBFGS", "Adafactor", "Muon")])
def test_states_of_other_shapes_raise_at_the_step(name: str) -> None:
    """As in PyTorch, where the text is that of the operation which stumbles first."""
    kw: dict[str, Any] = {"momentum": 0.9} if name == "SGD" else {}
    for t in (torch, gpugrad):
        p, q = param(t, 2, 3), param(t, 4, 5)
        opt, other = (getattr(t.optim, name)([x], **kw) for x in (p, q))
        for o, x in ((opt, p), (other, q)):
            x.grad = t.ones_like(x)
            o.step()
        opt.load_state_dict(other.state_dict())
        before = p.tolist()
        with pytest.raises(RuntimeError):
            opt.step()
        assert t is torch or p.tolist() == before


# Complex parameters -------------------------------------------------------------------------------

COMPLEX = [("SGD", {}), ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
           ("Adam", {}), ("Adam", {"amsgrad": True, "weight_decay": 0.1}),
           ("AdamW", {"maximize": True}), ("Adamax", {"weight_decay": 0.1}), ("NAdam", {}),
           ("RAdam", {}), ("Adagrad", {"initial_accumulator_value": 0.3}), ("Adadelta", {}),
           ("RMSprop", {"momentum": 0.5, "centered": True}), ("Rprop", {}),
           ("ASGD", {"weight_decay": 0.1, "t0": 2}), ("LBFGS", {}),
           ("LBFGS", {"line_search_fn": "strong_wolfe"})]


def complex_steps(t: Any, name: str, kw: dict[str, Any], dtype: str, device: str = "cpu",
                  differentiable: bool = False) -> list[Any]:
    """Parameters and states after six steps."""
    r = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        values = r.standard_normal(shape) + 1j * r.standard_normal(shape)
        return t.tensor(values.tolist(), dtype=getattr(t, dtype), device=device)

    params = [t.nn.Parameter(draw(*shape)) for shape in ((2, 3), (4,), ())]
    if name != "LBFGS":                                # PyTorch's wants them contiguous
        params.append(t.nn.Parameter(draw(3, 5).t()))
    params.append(t.nn.Parameter(draw(4).abs()))
    if differentiable:
        params = [p.detach().requires_grad_() * 1 for p in params]
        kw = {**kw, "differentiable": True}
    opt = getattr(t.optim, name)(params, lr=0.1, **kw)

    def closure() -> Any:
        opt.zero_grad()
        loss = sum((p.abs() ** 4).sum() + (p * (1 + 0.5j)).real.sum() for p in params)
        loss.backward()
        return loss

    for _ in range(3 if name == "LBFGS" else 6):
        if name == "LBFGS":
            opt.step(closure)
            continue
        for p in params:
            g = draw(*p.shape)
            p.grad = g if p.is_complex() else g.abs()
        opt.step()
    return [x.detach().cpu().numpy() for x in (
        *params, *[v for p in params for _, v in sorted(opt.state[p].items())
                   if hasattr(v, "detach")])]


def assert_close(ours: list[Any], theirs: list[Any], tolerance: float) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize(("name", "kw"), COMPLEX, ids=str)
def test_complex_parameters(name: str, kw: dict[str, Any], dtype: str, device: str) -> None:
    # NAdam keeps a product in float32; a line search goes on where rounding says.
    tolerance = 1e-4 if dtype == "complex64" else 1e-8
    ours, theirs = complex_steps(gpugrad, name, kw, dtype, device), \
        complex_steps(torch, name, kw, dtype)
    if "line_search_fn" in kw and dtype == "complex64":
        ours, theirs, tolerance = ours[:4], theirs[:4], 2e-3
    assert_close(ours, theirs, tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["Adam", "NAdam", "RAdam", "Adamax", "ASGD", "Rprop", "RMSprop"])
def test_complex_parameters_counted_on_the_device(name: str) -> None:
    assert_close(complex_steps(gpugrad, name, {"capturable": True}, "complex64", "cuda"),
                 complex_steps(torch, name, {}, "complex64"), 1e-4)


@pytest.mark.parametrize("name", ["SGD", "Adam", "Adamax", "Rprop"])
def test_differentiable_steps_of_complex_parameters(name: str) -> None:
    assert_close(complex_steps(gpugrad, name, {}, "complex128", differentiable=True),
                 complex_steps(torch, name, {}, "complex128", differentiable=True), 1e-5)


def test_complex_parameters_that_are_refused() -> None:
    for name in ("Adafactor", "Muon"):
        assert_same(lambda t, name=name: stepped(t, name, p=param(t, 2, 2, dtype=t.complex64)))
    for name in ("SGD", "Adam", "AdamW", "Adagrad"):
        for t in (torch, gpugrad):
            with pytest.raises(RuntimeError, match="`fused=True` requires all the params to be "
                                                   "floating point Tensors"):
                stepped(t, name, p=param(t, 2, 2, dtype=t.complex64), lr=0.1, fused=True)
