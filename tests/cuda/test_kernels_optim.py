"""Optimizers, clipping and unscaling on a CUDA device: their kernels against the portable text."""
from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.nn.functional as F
from gpugrad import backend, optim
from gpugrad.backend import kernels, many
from gpugrad.nn.parameter import Parameter
from gpugrad.nn.utils import clip_grad_norm_, clip_grad_value_, get_total_norm

pytestmark = pytest.mark.gpu

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
UNTIL = {torch.float32: 1e-5, torch.float64: 1e-13, torch.float16: 2e-3, torch.bfloat16: 2e-2}
SHAPES = [(3, 5), (many.CHUNK + 1,), (), (0,), (2, 0), (7,), (many.CHUNK,), (1, 3, 1)]

CASES: list[tuple[Any, dict[str, Any]]] = [
    (optim.SGD, {"lr": 0.05}),
    (optim.SGD, {"lr": 0.05, "weight_decay": 0.1, "maximize": True}),
    (optim.SGD, {"lr": 0.05, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1}),
    (optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    (optim.Adam, {}),
    (optim.Adam, {"lr": 0.02, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    (optim.Adam, {"amsgrad": True, "maximize": True}),
    (optim.AdamW, {"lr": 0.02, "weight_decay": 0.3, "amsgrad": True}),
    (optim.RMSprop, {}),
    (optim.RMSprop, {"alpha": 0.8, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.7}),
    (optim.RMSprop, {"centered": True, "maximize": True}),
    (optim.RMSprop, {"centered": True, "momentum": 0.5}),
    (optim.Adamax, {}),
    (optim.Adamax, {"betas": (0.5, 0.9), "weight_decay": 0.1, "maximize": True}),
    (optim.NAdam, {}),
    (optim.NAdam, {"weight_decay": 0.1, "momentum_decay": 0.1, "maximize": True}),
    (optim.NAdam, {"weight_decay": 0.3, "decoupled_weight_decay": True, "betas": (0.5, 0.9)}),
    (optim.RAdam, {}),
    (optim.RAdam, {"betas": (0.5, 0.8), "weight_decay": 0.1, "maximize": True}),
    (optim.RAdam, {"betas": (0.5, 0.8), "weight_decay": 0.3, "decoupled_weight_decay": True}),
    (optim.Adagrad, {}),
    (optim.Adagrad, {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
    (optim.Adadelta, {}),
    (optim.Adadelta, {"rho": 0.5, "weight_decay": 0.1, "maximize": True, "lr": 0.5}),
    (optim.Rprop, {}),
    (optim.Rprop, {"etas": (0.4, 1.5), "step_sizes": (0.005, 0.02), "maximize": True}),
    (optim.ASGD, {}),
    (optim.ASGD, {"lambd": 0.3, "alpha": 0.5, "t0": 2, "weight_decay": 0.1, "maximize": True}),
]
IDS = [f"{cls.__name__}-{'-'.join(kw) or 'plain'}" for cls, kw in CASES]
COUNTING = [c for c in CASES if c[0] is not optim.SGD]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the kernels that are launched."""
    names: list[str] = []
    launch = kernels.Kernels.launch

    def note(self: Any, file: str, name: str, *rest: Any) -> None:
        names.append(name)
        launch(self, file, name, *rest)
    monkeypatch.setattr(kernels.Kernels, "launch", note)
    yield names


def numbers(*shape: int, seed: int) -> Any:
    return torch.from_numpy(np.array(np.random.default_rng(seed).standard_normal(shape)))


def parameters(device: str, dtype: Any = torch.float32, shapes: Any = SHAPES) -> list[Any]:
    return [Parameter(numbers(*s, seed=i).to(device, dtype)) for i, s in enumerate(shapes)]


def give_grads(params: list[Any], t: int, scale: float = 1.0) -> None:
    for i, p in enumerate(params):
        p.grad = (numbers(*p.shape, seed=1000 * t + i) * scale).to(p.device, p.dtype)


def trained(device: str, cls: Any, kw: Any, steps: int, dtype: Any = torch.float32,
            shapes: Any = SHAPES) -> tuple[list[Any], Any]:
    params = parameters(device, dtype, shapes)
    opt = cls(params, **kw)
    for t in range(1, steps + 1):
        give_grads(params, t)
        opt.step()
    return params, opt


def host(t: Any) -> Any:
    return t.detach().cpu().double().numpy()


def close(got: Any, want: Any, tolerance: float) -> None:
    for a, b in zip(got, want, strict=True):
        assert a.dtype is b.dtype
        np.testing.assert_allclose(host(a), host(b), rtol=tolerance, atol=tolerance)


# Steps -------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("cls", "kw"), CASES, ids=IDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_kernels_do_what_the_text_does(cls: Any, kw: Any, dtype: Any,
                                           launched: list[str]) -> None:
    want, theirs = trained("cpu", cls, kw, 4, dtype)
    got, ours = trained("cuda", cls, kw, 4, dtype)
    assert launched == [cls._kernel] * 4
    close(got, want, UNTIL[dtype])
    for p, q in zip(got, want):
        for name, value in theirs.state.get(q, {}).items():
            held = ours.state[p][name]
            assert held.is_cuda == (name not in ("step", *cls._scalars))
            close([held], [value], UNTIL[dtype])


@pytest.mark.parametrize(("cls", "kw"), CASES, ids=IDS)
def test_hundreds_of_steps_stay_together(cls: Any, kw: Any) -> None:
    want, _ = trained("cpu", cls, kw, 200, shapes=[(5, 3), ()])
    got, _ = trained("cuda", cls, kw, 200, shapes=[(5, 3), ()])
    close(got, want, 2e-4)


@pytest.mark.parametrize(("cls", "kw"), COUNTING, ids=lambda v: getattr(v, "__name__", ""))
def test_counting_on_the_device_gives_the_same(cls: Any, kw: Any, launched: list[str]) -> None:
    want, _ = trained("cpu", cls, kw, 5)
    hint = {"fused": True} if cls is optim.Adagrad else {"capturable": True}
    got, opt = trained("cuda", cls, {**kw, **hint}, 5)
    assert launched == [cls._kernel + "_numbers", cls._kernel] * 5
    close(got, want, 1e-5)
    for state in opt.state.values():
        step = state["step"]
        assert step.is_cuda and step.dtype is torch.float32 and step.item() == 5


@pytest.mark.parametrize("cls", [optim.SGD, optim.Adam, optim.RMSprop])
def test_a_learning_rate_on_the_device(cls: Any) -> None:
    kw = {"momentum": 0.9, "dampening": 0.3} if cls is optim.SGD else {}
    params = parameters("cuda")
    rate = torch.tensor(0.1, device="cuda")
    opt = cls(params, lr=rate, **kw)
    others = parameters("cpu")
    reference = cls(others, lr=0.1, **kw)
    for t in range(1, 5):
        if t == 3:
            rate.fill_(0.02)
            reference.param_groups[0]["lr"] = 0.02
        give_grads(params, t)
        give_grads(others, t)
        opt.step()
        reference.step()
    close(params, others, 1e-5)


def test_many_parameters_take_several_launches(launched: list[str]) -> None:
    shapes = [(i % 5,) for i in range(2 * many.MOST + 3)]
    want, _ = trained("cpu", optim.Adam, {}, 2, shapes=shapes)
    got, _ = trained("cuda", optim.Adam, {}, 2, shapes=shapes)
    assert launched == ["adam"] * 6
    close(got, want, 1e-6)


def test_dtypes_and_ages_are_kept_apart(launched: list[str]) -> None:
    def run(device: str) -> list[Any]:
        params = [*parameters(device), *parameters(device, torch.float16)]
        opt = optim.Adam(params)
        for t in (1, 2, 3):
            give_grads(params, t)
            if t == 2:
                params[0].grad = params[-1].grad = None
            opt.step()
        return params
    close(run("cuda"), run("cpu"), 1e-3)
    assert len(launched) == 2 + 2 + 4


def test_memory_in_other_orders(launched: list[str]) -> None:
    def run(device: str) -> list[Any]:
        base = numbers(6, 4, seed=1).to(device)
        params = [Parameter(base.clone().t()), Parameter(base.clone()), Parameter(base.clone()),
                  Parameter(numbers(6, 8, seed=2).to(device)[:, ::2])]
        opt = optim.Adam(params, weight_decay=0.1)
        for t in (1, 2):
            give_grads(params, t)
            params[0].grad = params[0].grad.clone()             # C order beside F order
            params[1].grad = params[1].grad.t().clone().t()
            wide = torch.zeros(6, 8, dtype=torch.float64, device=device)
            wide[:, ::2] = params[2].grad
            params[2].grad = wide[:, ::2]
            opt.step()
        return params
    close(run("cuda"), run("cpu"), 1e-12)
    assert launched == ["adam"] * 2               # the parameter with gaps goes the portable way


def test_without_kernels_the_text_runs(monkeypatch: pytest.MonkeyPatch,
                                       launched: list[str]) -> None:
    monkeypatch.setattr(backend.get("cuda").kernels, "on", False)
    want, _ = trained("cpu", optim.AdamW, {}, 3)
    for kw in ({}, {"capturable": True}):
        got, _ = trained("cuda", optim.AdamW, kw, 3)
        close(got, want, 1e-6)
    assert launched == []


def test_a_step_counts_as_a_change() -> None:
    p = parameters("cuda")[0]
    y = (p * p).sum()
    give_grads([p], 1)
    optim.Adam([p]).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_checkpoints_move_between_the_ways() -> None:
    want, _ = trained("cpu", optim.Adam, {}, 4)
    half, opt = trained("cpu", optim.Adam, {}, 2)
    for kw in ({}, {"capturable": True}, {"fused": True}):
        params = [Parameter(p.detach().cuda()) for p in half]
        other = optim.Adam(params, **kw)
        saved = copy.deepcopy(opt.state_dict())
        saved["param_groups"][0].update(kw)
        other.load_state_dict(saved)
        assert all(s["step"].is_cuda == bool(kw) for s in other.state.values())
        for t in (3, 4):
            give_grads(params, t)
            other.step()
        close(params, want, 1e-6)


def test_no_host_is_waited_for() -> None:
    if not torch.cuda.sim.is_simulated():
        pytest.skip("the simulated device counts")
    params = parameters("cuda")
    opt = optim.Adam(params, fused=True, lr=torch.tensor(1e-3, device="cuda"))
    give_grads(params, 1)
    opt.step()
    give_grads(params, 2)
    torch.cuda.sim.reset()
    clip_grad_norm_(params, 1.0)
    clip_grad_value_(params, 0.5)
    opt.step()
    stats = torch.cuda.sim.stats()
    assert stats.syncs == stats.h2d == stats.d2h == 0


# Captured steps ----------------------------------------------------------------------------------

def test_a_captured_step_counts_on_and_follows_the_learning_rate() -> None:
    params, others = parameters("cuda"), parameters("cpu")
    rate = torch.tensor(0.1, device="cuda")
    opt, reference = optim.Adam(params, lr=rate, capturable=True), optim.Adam(others, lr=0.1)

    def expect(t: int) -> None:
        give_grads(others, t)
        reference.step()

    give_grads(params, 1)
    opt.step()
    expect(1)
    give_grads(params, 2)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        opt.step()
    for t in (2, 3, 4):
        if t == 4:
            rate.fill_(0.01)
            reference.param_groups[0]["lr"] = 0.01
        for i, p in enumerate(params):
            assert p.grad is not None
            p.grad.copy_(numbers(*p.shape, seed=1000 * t + i))
        graph.replay()
        expect(t)
    close(params, others, 1e-5)
    assert opt.state[params[0]]["step"].item() == 4


class Net(nn.Module):
    """What there are kernels for in these files, in one network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.depthwise = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, groups=4)
        self.embedding, self.linear = nn.Embedding(7, 10, padding_idx=0), nn.Linear(46, 5)

    def forward(self, x: Any, i: Any) -> Any:
        h = F.adaptive_max_pool2d(F.relu(self.depthwise(self.conv(x))), 3).flatten(1)
        return self.linear(torch.cat([h, self.embedding(i)], 1))


def losses(device: str, captured: bool) -> list[float]:
    """Of six steps; the learning rate changes before the fifth."""
    torch.manual_seed(0)
    net, rate = Net().to(device), torch.tensor(0.01, device=device)
    opt = optim.AdamW(net.parameters(), lr=rate, capturable=True)
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((6, 1, 8, 8)).astype("f4"), rng.integers(0, 7, 6),
                rng.integers(0, 5, 6)) for _ in range(6)]
    x, i, y = inputs = [torch.from_numpy(a.copy()).to(device) for a in batches[0]]

    def step() -> Any:
        opt.zero_grad()
        loss = F.cross_entropy(net(x, i), y)
        loss.backward()
        clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        return loss

    out = [step().item()]
    graph = None
    if captured:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = step()
    for k, batch in enumerate(batches[1:], 1):
        for t, a in zip(inputs, batch):
            t.copy_(torch.from_numpy(a))
        if k == 4:
            rate.fill_(0.001)
        if graph is not None:
            graph.replay()
        else:
            loss = step()
        out.append(loss.item())
    return out


def test_a_whole_captured_step_trains_as_on_the_cpu() -> None:
    eager = losses("cuda", False)
    assert eager == pytest.approx(losses("cpu", False), rel=1e-4)
    assert losses("cuda", True) == pytest.approx(eager, rel=1e-6)


def test_counting_on_the_host_cannot_be_captured() -> None:
    params = parameters("cuda")
    opt = optim.Adam(params)
    give_grads(params, 1)
    opt.step()
    with pytest.raises(RuntimeError, match="an instance of Adam but param_groups' capturable is "
                       "False"):
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            opt.step()


# Gradient scalers --------------------------------------------------------------------------------

@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("cls", "kw"), [c for c in CASES if len(c[1]) < 2 or "amsgrad" in c[1]])
def test_a_scaler_divides_gradients_and_cancels_steps(cls: Any, kw: Any, device: str) -> None:
    want, _ = trained("cpu", cls, kw, 2)
    params = parameters(device)
    opt = cls(params, **kw)
    for t, inf in ((1, 0.0), (7, 1.0), (2, 0.0)):
        give_grads(params, t, scale=8.0)
        opt.grad_scale = torch.tensor([8.0], device=device)
        opt.found_inf = torch.tensor([inf], device=device)
        opt.step()
        del opt.grad_scale, opt.found_inf
    close(params, want, 1e-5)
    for p, q in zip(params, want):
        assert p.grad is not None and q.grad is not None
        close([p.grad], [q.grad], 1e-6)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_unscale(dtype: Any, device: str) -> None:
    tensors = [numbers(*s, seed=i).to(device, dtype) for i, s in enumerate(SHAPES)]
    tensors.append(numbers(4, 6, seed=9).to(device, dtype)[:, ::2])
    before = [t.clone() for t in tensors]
    found, factor = torch.zeros(1, device=device), torch.tensor([0.25], device=device)
    torch._amp_foreach_non_finite_check_and_unscale_(tensors, found, factor)
    assert found.item() == 0
    close(tensors, [b * 0.25 for b in before], 0)
    for bad in (math.inf, -math.inf, math.nan):
        for where in (0, 1, len(tensors) - 1):
            found.zero_()
            spoilt = [b.clone() for b in before]
            spoilt[where][(-1,) * spoilt[where].ndim] = bad
            version = spoilt[where]._version
            torch._amp_foreach_non_finite_check_and_unscale_(spoilt, found, factor)
            assert found.item() == 1 and spoilt[where]._version == version + 1
            torch._amp_foreach_non_finite_check_and_unscale_(before, found, factor)
            assert found.item() == 1                    # it stays
            before = [b * 4 for b in before]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_update_scale(device: str) -> None:
    scale = torch.tensor([4.0], device=device)
    tracker = torch.tensor([0], dtype=torch.int32, device=device)
    seen = []
    for inf in (0, 0, 0, 1, 0, 0):
        found = torch.tensor([float(inf)], device=device)
        assert torch._amp_update_scale_(scale, tracker, found, 2.0, 0.25, 2) is scale
        seen.append((scale.item(), tracker.item()))
    assert seen == [(4, 1), (8, 0), (8, 1), (2, 0), (2, 1), (4, 0)]
    scale.fill_(3e38)
    for _ in range(2):
        torch._amp_update_scale_(scale, tracker, torch.zeros(1, device=device), 2.0, 0.25, 2)
    assert scale.item() == pytest.approx(3e38) and tracker.item() == 0


def test_bad_scales() -> None:
    one, whole = torch.ones(1, device="cuda"), torch.ones(1, dtype=torch.int32, device="cuda")
    with pytest.raises(RuntimeError, match="found_inf must be a 1-element tensor"):
        torch._amp_update_scale_(one, whole, torch.ones(2, device="cuda"), 2.0, 0.5, 2)
    with pytest.raises(RuntimeError, match="growth_tracker must be an int tensor"):
        torch._amp_update_scale_(one, one, one, 2.0, 0.5, 2)
    with pytest.raises(RuntimeError, match="inv_scale must be a float tensor"):
        torch._amp_foreach_non_finite_check_and_unscale_([one], one, one.double())
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        torch._amp_foreach_non_finite_check_and_unscale_([torch.ones(1)], one, one)


# Clipping ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("p", [2, 1, 3.5, math.inf, 0, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_total_norm(p: float, dtype: Any) -> None:
    shapes = [s for s in SHAPES if 0 not in s] + [(i,) for i in range(1, 90)]
    tensors = [numbers(*s, seed=i).to(dtype) for i, s in enumerate(shapes)]
    got = get_total_norm([t.cuda() for t in tensors], p)
    assert got.is_cuda and got.shape == () and got.dtype is dtype
    every = np.concatenate([host(t).reshape(-1) for t in tensors])
    want = float(len(tensors)) if p == 0 else np.linalg.norm(every, p)
    assert got.item() == pytest.approx(want, rel=max(UNTIL[dtype], 1e-6))


def test_total_norm_of_several_dtypes_and_layouts(launched: list[str]) -> None:
    tensors = [numbers(5, 4, seed=1).cuda().t(), numbers(6, seed=2).float().cuda()[::2],
               numbers(7, seed=3).float().cuda(), numbers(2, seed=4).half().cuda()]
    got = get_total_norm(tensors)
    assert got.dtype is torch.float64
    want = math.sqrt(sum((host(t) ** 2).sum() for t in tensors))
    assert got.item() == pytest.approx(want, rel=1e-3)
    assert launched.count("norm_of_parts") >= 3


def test_total_norm_of_nothing_and_of_nan() -> None:
    assert get_total_norm([]).item() == 0
    empty = torch.ones(0, device="cuda")
    assert get_total_norm([empty, empty]).item() == 0
    for bad in (math.nan, math.inf):
        spoilt = torch.tensor([1.0, bad, 3.0], device="cuda")
        for p in (2, 1, math.inf):
            got = get_total_norm([torch.ones(5, device="cuda"), spoilt], p).item()
            assert math.isnan(got) if math.isnan(bad) else got == math.inf
        with pytest.raises(RuntimeError, match="is non-finite, so it cannot be clipped"):
            get_total_norm([spoilt], error_if_nonfinite=True)


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_clip_grad_norm(max_norm: float, dtype: Any, launched: list[str]) -> None:
    def run(device: str) -> Any:
        params = parameters(device, dtype)
        give_grads(params, 1, scale=0.1)
        params[2].grad = None
        version = params[0].grad._version
        norm = clip_grad_norm_(params, max_norm)
        assert params[0].grad._version == version + 1
        return norm, [p.grad for p in params if p.grad is not None]
    norm, grads = run("cuda")
    assert launched == ["norm_parts", "norm_of_parts", "clip_norm"]
    want_norm, want = run("cpu")
    close([norm], [want_norm], max(UNTIL[dtype], 1e-6))
    close(grads, want, UNTIL[dtype])


def test_clipping_by_nan_spoils_all() -> None:
    params = parameters("cuda")
    give_grads(params, 1)
    params[0].grad[0, 0] = math.nan
    assert math.isnan(clip_grad_norm_(params, 1.0).item())
    assert all(torch.isnan(p.grad).all() for p in params)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_clip_grad_value(dtype: Any, launched: list[str]) -> None:
    def run(device: str) -> list[Any]:
        params = parameters(device, dtype)
        give_grads(params, 1)
        params[0].grad[0, 0] = math.nan
        params[0].grad[0, 1] = math.inf
        clip_grad_value_(params, 0.3)
        return [p.grad for p in params]
    close(run("cuda"), run("cpu"), 0)
    assert launched.count("clip_value") == 1


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_gradients_are_zeroed_together(launched: list[str], dtype: str) -> None:
    model = torch.nn.ParameterList([torch.nn.Parameter(torch.ones(
        n % 7, 3, device="cuda", dtype=getattr(torch, dtype))) for n in range(201)])
    opt = optim.SGD(model, lr=0.1)
    apart = torch.ones(4, 4, device="cuda", dtype=getattr(torch, dtype))[:, ::2]
    for zero_grad in (opt.zero_grad, model.zero_grad):
        for p in model:
            p.grad = torch.full_like(p, 2.0)
        model[9].grad = None
        model[8].data = apart
        model[8].grad = torch.full((4, 4), 5.0, device="cuda", dtype=apart.dtype)[:, ::2]
        versions = [p.grad._version for p in model if p.grad is not None]
        launched.clear()
        zero_grad(set_to_none=False)
        assert launched.count("zero") == 1 and model[9].grad is None
        grads = [p.grad for p in model if p.grad is not None]
        assert not any(g.any() for g in grads)
        assert [g._version for g in grads] == [v + 1 for v in versions]
        zero_grad()
        assert all(p.grad is None for p in model)


# The struct --------------------------------------------------------------------------------------

def test_the_struct_fits_and_is_as_the_kernels_have_it() -> None:
    text = kernels.source("optimizer")          # with the headers it includes
    assert f"#define CHUNK {many.CHUNK}\n" in text
    assert f"typedef TensorsOf<5, {many.MOST}> Tensors;" in text
    assert f"typedef TensorsOf<1, {many.MOST_GRADIENTS}> Gradients;" in kernels.source("gradients")
    for struct, columns, most, rest in ((many.TENSORS, 5, many.MOST, 200),
                                        (many.GRADIENTS, 1, many.MOST_GRADIENTS, 32)):
        assert struct.itemsize == 8 * (columns + 1) * most + 4 * (most + 1) + 4
        assert struct.itemsize + rest <= 4096


@pytest.mark.parametrize("order", ["forward", "reversed", "5"])
def test_every_order_of_threads(order: str) -> None:
    if not torch.cuda.sim.is_simulated():
        pytest.skip("the simulated device has orders")
    from gpugrad.cudasim.kernel import settings
    with settings.using(order=order):
        want, _ = trained("cpu", optim.AdamW, {"amsgrad": True}, 2)
        got, _ = trained("cuda", optim.AdamW, {"amsgrad": True, "capturable": True}, 2)
        close(got, want, 1e-6)
        norm = get_total_norm([p.grad for p in got])
        close([norm], [get_total_norm([p.grad for p in want])], 1e-6)
