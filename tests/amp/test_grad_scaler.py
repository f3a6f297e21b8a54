"""GradScaler: what is scaled and when, steps that are left out, no wait for the device, errors."""
from __future__ import annotations

import copy
import gc
import pickle
import warnings

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import nn, optim
from gpugrad.amp import GradScaler
from gpugrad.backend import kernels

INF, NAN = float("inf"), float("nan")

ALL = [(optim.SGD, {}), (optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
       (optim.SGD, {"momentum": 0.9, "nesterov": True}), (optim.Adam, {}),
       (optim.Adam, {"amsgrad": True, "weight_decay": 0.1}), (optim.AdamW, {"maximize": True}),
       (optim.Adamax, {}), (optim.NAdam, {}), (optim.RAdam, {}), (optim.Adagrad, {"lr_decay": 0.1}),
       (optim.Adadelta, {}), (optim.RMSprop, {"momentum": 0.5, "centered": True}),
       (optim.Rprop, {}), (optim.ASGD, {"t0": 2, "lambd": 0.1})]
IDS = [cls.__name__ + "-".join(["", *kw]) for cls, kw in ALL]
BY_HOST = [(optim.Adafactor, {}), (optim.Muon, {}), (optim.Adam, {"differentiable": True})]


def parameters(device, seed=0):
    r = np.random.RandomState(seed)
    return [nn.Parameter(torch.tensor(r.randn(*shape).tolist(), device=device))
            for shape in ((3, 4), (2, 5))]


def give(params, step, factor=1.0, bad=None):
    """Gradients that depend on the step, times the factor; ``bad`` in the last one."""
    for i, p in enumerate(params):
        g = np.random.RandomState(10 * step + i).randn(*p.shape).astype("f4") * np.float32(factor)
        if bad is not None and p is params[-1]:
            g[0, 1] = bad
        p.grad = torch.tensor(g.tolist(), device=p.device)


def scaler_of(device, **kw):
    """A scaler that has its scale already."""
    s = GradScaler(device, **kw)
    s.scale(torch.ones((), device=device))
    return s


def close(xs, ys):
    for x, y in zip(xs, ys):
        torch.testing.assert_close(x.detach(), y.detach(), rtol=2e-6, atol=1e-7)


# Losses -------------------------------------------------------------------------------------------

def test_losses_are_multiplied(device):
    s = GradScaler(device, init_scale=8.0)
    assert s.get_scale() == 8 and s._scale is None
    x = torch.tensor([1.0, 2.0], device=device, requires_grad=True)
    y = s.scale(x * 3)
    assert y.tolist() == [24, 48] and s._scale.dtype is torch.float32
    assert s._growth_tracker.dtype is torch.int32 and s._scale.device == x.device
    y.sum().backward()
    assert x.grad.tolist() == [24, 24]


def test_losses_in_containers(device):
    s = GradScaler(device, init_scale=4.0)
    a, b = torch.ones(1, device=device), torch.ones(2, device=device, dtype=torch.float64)
    out = s.scale([a, (b, a)])
    assert type(out) is list and type(out[1]) is tuple
    assert out[0].tolist() == [4] and out[1][0].tolist() == [4, 4]
    assert out[1][0].dtype is torch.float64
    lazy = s.scale(t for t in (a, b))
    assert [t.tolist() for t in lazy] == [[4], [4, 4]]
    for bad in (1.0, None, [a, 2.0]):
        with pytest.raises(ValueError, match="outputs must be a Tensor or an iterable of Tensors"):
            s.scale(bad)


def test_half_losses_stay_half(device):
    s = GradScaler(device, init_scale=2.0)
    assert s.scale(torch.ones(2, dtype=torch.float16, device=device)).dtype is torch.float16


# Steps --------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("cls", "kw"), ALL, ids=IDS)
def test_steps_with_infinities_are_as_if_they_had_not_been(cls, kw, device):
    ours, reference = parameters(device), parameters(device)
    opt, plain = cls(ours, lr=0.05, **kw), cls(reference, lr=0.05, **kw)
    s = scaler_of(device, init_scale=1024.0, growth_interval=2)
    bad_steps = {0: INF, 3: NAN, 4: -INF}
    for step in range(8):
        give(ours, step, s.get_scale(), bad_steps.get(step))
        before = [p.clone() for p in ours]
        s.step(opt)
        if step in bad_steps:
            assert all((p == old).all() for p, old in zip(ours, before))
        else:
            give(reference, step)
            plain.step()
        s.update()
    close(ours, reference)
    for p, q in zip(ours, reference):
        assert opt.state[p].keys() == plain.state[q].keys()
        for name, value in plain.state[q].items():
            torch.testing.assert_close(opt.state[p][name].cpu(), value.cpu(), rtol=2e-6, atol=1e-7)
    assert opt.grad_scale is None and opt.found_inf is None


@pytest.mark.parametrize(("cls", "kw"), BY_HOST, ids=["Adafactor", "Muon", "differentiable"])
def test_optimizers_that_the_host_calls_or_not(cls, kw, device):
    ours, reference = parameters(device), parameters(device)
    if kw:
        ours, reference = ([p.detach().clone().requires_grad_() * 1 for p in ps]
                           for ps in (ours, reference))
    opt, plain = cls(ours, lr=0.05, **kw), cls(reference, lr=0.05, **kw)
    s = scaler_of(device, init_scale=256.0)
    for step in range(4):
        give(ours, step, s.get_scale(), INF if step in (0, 2) else None)
        s.step(opt)
        s.update()
        if step not in (0, 2):
            give(reference, step)
            plain.step()
    close(ours, reference)
    assert s.get_scale() == 64


def test_an_optimizer_of_a_user(device):
    class Plain(optim.Optimizer):
        calls = 0

        def __init__(self, params):
            super().__init__(params, {"lr": 0.5})

        @torch.no_grad()
        def step(self, closure=None):
            self.calls += 1
            for group in self.param_groups:
                for p in group["params"]:
                    p -= group["lr"] * p.grad
            return "stepped"

    p = nn.Parameter(torch.zeros(2, device=device))
    opt, s = Plain([p]), scaler_of(device, init_scale=4.0)
    p.grad = torch.tensor([4.0, 8.0], device=device)
    assert s.step(opt) == "stepped" and p.tolist() == [-0.5, -1]
    assert p.grad.tolist() == [1, 2]
    s.update()
    p.grad = torch.tensor([4.0, NAN], device=device)
    assert s.step(opt) is None and opt.calls == 1 and p.tolist() == [-0.5, -1]
    s.update()
    assert s.get_scale() == 2


def test_an_optimizer_of_a_user_that_looks_at_the_flag_itself(device):
    class Looking(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.5})
            self._step_supports_amp_scaling = True

        def step(self, closure=None):
            seen.append((self.grad_scale.item(), self.found_inf.item()))

    p = nn.Parameter(torch.zeros(1, device=device))
    opt, s, seen = Looking([p]), scaler_of(device, init_scale=4.0), []
    for g in (1.0, INF):
        p.grad = torch.tensor([g], device=device)
        s.step(opt)
        s.update()
    assert seen == [(4, 0), (4, 1)] and p.grad.tolist() == [INF]
    assert opt.grad_scale is None and s.get_scale() == 2


def test_gradients_are_unscaled_also_when_the_step_is_left_out(device):
    p, q = (nn.Parameter(torch.zeros(2, device=device)) for _ in range(2))
    opt, s = optim.SGD([p, q], lr=1.0), scaler_of(device, init_scale=4.0)
    p.grad, q.grad = (torch.tensor(g, device=device) for g in ([4.0, 8.0], [INF, 4.0]))
    s.step(opt)
    assert p.grad.tolist() == [1, 2] and q.grad.tolist() == [INF, 1]
    assert p.tolist() == q.tolist() == [0, 0]


def test_fused_optimizers_unscale_in_their_step(device):
    p = nn.Parameter(torch.zeros(2, device=device, dtype=torch.float16))
    opt, s = optim.SGD([p], lr=1.0, fused=True), scaler_of(device, init_scale=4.0)
    p.grad = torch.tensor([4.0, 8.0], device=device, dtype=torch.float16)
    s.step(opt)
    assert p.tolist() == [-1, -2] and p.grad.tolist() == [1, 2]
    s.update()
    p.grad = torch.tensor([4.0, INF], device=device, dtype=torch.float16)
    s.step(opt)
    assert p.tolist() == [-1, -2]


def test_half_gradients_are_refused_as_in_pytorch(device):
    p = nn.Parameter(torch.zeros(2, device=device, dtype=torch.float16))
    p.grad = torch.ones_like(p)
    opt, s = optim.Adam([p]), scaler_of(device)
    for call in (s.unscale_, s.step):
        with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
            call(opt)
    assert p.grad.tolist() == [1, 1]


def test_what_step_returns_and_passes_on(device):
    class Telling(optim.SGD):
        def step(self, *args, **kw):
            return args, kw

    p = nn.Parameter(torch.zeros(1, device=device))
    opt, s = Telling([p], lr=1.0), scaler_of(device)
    p.grad = torch.ones(1, device=device)
    assert s.step(opt, 1, extra=2) == ((1,), {"extra": 2})


@pytest.mark.gpu
@pytest.mark.parametrize("kw", [{}, {"fused": True}, {"capturable": True}],
                         ids=["plain", "fused", "capturable"])
@pytest.mark.parametrize("clip", [False, True])
def test_an_iteration_waits_for_nothing(kw, clip):
    if not torch.cuda.sim.is_simulated() or not kernels.enabled():
        pytest.skip("it counts what the simulated device does")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).cuda()
    opt = optim.Adam(net.parameters(), lr=0.01, **kw)
    s = GradScaler("cuda", growth_interval=2)
    x, y = torch.randn(16, 4, device="cuda"), torch.randn(16, 2, device="cuda")

    def iteration():
        opt.zero_grad()
        s.scale(((net(x) - y) ** 2).mean()).backward()
        if clip:
            s.unscale_(opt)
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        s.step(opt)
        s.update()

    for _ in range(2):
        iteration()
    torch.cuda.sim.reset()
    for _ in range(3):
        iteration()
    counted = torch.cuda.sim.stats()
    assert counted.syncs == counted.d2h == counted.h2d == 0
    assert s.get_scale() == 2.0 ** 18


# The scale ----------------------------------------------------------------------------------------

def test_growth_and_backoff(device):
    p = nn.Parameter(torch.zeros(1, device=device))
    opt = optim.SGD([p], lr=0.0)
    s = scaler_of(device, init_scale=16.0, growth_factor=4.0, backoff_factor=0.25,
                  growth_interval=3)
    seen = []
    for bad in "...x..x......":
        p.grad = torch.tensor([INF if bad == "x" else 1.0], device=device)
        s.step(opt)
        s.update()
        seen.append((s.get_scale(), s._get_growth_tracker()))
    assert seen == [(16, 1), (16, 2), (64, 0), (16, 0), (16, 1), (16, 2), (4, 0), (4, 1), (4, 2),
                    (16, 0), (16, 1), (16, 2), (64, 0)]


def test_factors_and_interval_can_be_changed(device):
    p = nn.Parameter(torch.zeros(1, device=device))
    opt, s = optim.SGD([p], lr=0.0), scaler_of(device, init_scale=16.0)
    assert (s.get_growth_factor(), s.get_backoff_factor(), s.get_growth_interval()) == \
        (2.0, 0.5, 2000)
    s.set_growth_factor(3.0)
    s.set_backoff_factor(0.125)
    s.set_growth_interval(1)
    for g, scale in ((1.0, 48), (NAN, 6)):
        p.grad = torch.tensor([g], device=device)
        s.step(opt)
        s.update()
        assert s.get_scale() == scale


def test_a_scale_of_ones_own(device):
    s = scaler_of(device)
    s.update(32.0)
    assert s.get_scale() == 32
    mine = torch.tensor(64.0, device=device)
    s.update(mine)
    mine.fill_(1)
    assert s.get_scale() == 64
    for bad in (torch.ones(2, device=device), torch.ones((), device=device, requires_grad=True),
                torch.ones((), device="meta")):
        with pytest.raises(AssertionError, match="new_scale should be a float or a 1-element"):
            s.update(bad)
    assert s.get_scale() == 64


def test_several_optimizers_share_the_scale(device):
    (p,), (q,) = parameters(device)[:1], parameters(device, 1)[:1]
    one, two = optim.Adam([p], lr=0.1), optim.SGD([q], lr=0.1)
    s = scaler_of(device, init_scale=8.0)
    give([p], 0, 8.0, bad=INF)
    give([q], 1, 8.0)
    before, moved = p.clone(), q.clone()
    s.step(one)
    s.step(two)
    s.update()
    assert (p == before).all() and (q != moved).all()           # one left out, one not
    assert s.get_scale() == 4
    give([p], 2, 4.0)
    give([q], 3, 4.0)
    s.step(one)
    s.step(two)
    s.update()
    assert (p != before).all() and s.get_scale() == 4 and s._get_growth_tracker() == 1


def test_clipping_between(device):
    ours, reference = parameters(device), parameters(device)
    opt, plain = optim.AdamW(ours, lr=0.1), optim.AdamW(reference, lr=0.1)
    s = scaler_of(device, init_scale=2.0 ** 12)
    for step in range(4):
        bad = INF if step == 1 else None
        give(ours, step, s.get_scale(), bad)
        s.unscale_(opt)
        norm = nn.utils.clip_grad_norm_(ours, 0.5)
        s.step(opt)
        s.update()
        if bad is None:
            give(reference, step)
            torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(reference, 0.5))
            plain.step()
        else:
            assert not norm.isfinite()
    close(ours, reference)


def test_accumulated_gradients(device):
    torch.manual_seed(0)
    net, x = nn.Linear(3, 2, device=device), torch.randn(8, 3, device=device)
    other = copy.deepcopy(net)
    opt, plain = (optim.SGD(n.parameters(), lr=0.1) for n in (net, other))
    s = scaler_of(device, init_scale=2.0 ** 10)
    for part in x.chunk(4):
        s.scale(net(part).square().sum()).backward()
    s.step(opt)
    s.update()
    other(x).square().sum().backward()
    plain.step()
    close(net.parameters(), other.parameters())


@pytest.mark.gpu
def test_parameters_on_two_devices():
    params = [nn.Parameter(torch.zeros(2, device=d)) for d in ("cpu", "cuda")]
    opt, s = optim.SGD(params, lr=1.0), scaler_of("cuda", init_scale=2.0)
    for p in params:
        p.grad = torch.full((2,), 2.0, device=p.device)
    s.step(opt)
    s.update()
    assert [p.tolist() for p in params] == [[-1, -1], [-1, -1]]
    params[0].grad = torch.tensor([INF, 0])
    s.step(opt)
    s.update()
    assert [p.tolist() for p in params] == [[-1, -1], [-1, -1]] and s.get_scale() == 1


# State --------------------------------------------------------------------------------------------

def test_state_dict_and_pickle(device):
    p = nn.Parameter(torch.zeros(1, device=device))
    opt, s = optim.SGD([p], lr=0.0), scaler_of(device, init_scale=16.0, growth_interval=5)
    for _ in range(3):
        p.grad = torch.ones(1, device=device)
        s.step(opt)
        s.update()
    state = s.state_dict()
    assert state == {"scale": 16.0, "growth_factor": 2.0, "backoff_factor": 0.5,
                     "growth_interval": 5, "_growth_tracker": 3}
    for other in (GradScaler(device), scaler_of(device)):
        other.load_state_dict(state)
        assert other.state_dict() == state
    again = pickle.loads(pickle.dumps(s))
    assert again.state_dict() == state and again._scale is None
    again.scale(torch.ones((), device=device))
    for _ in range(2):
        p.grad = torch.ones(1, device=device)
        again.step(opt)
        again.update()
    assert again.get_scale() == 32
    p.grad = torch.ones(1, device=device)
    s.step(opt)
    with pytest.raises(AssertionError, match="may only be pickled at the beginning"):
        pickle.dumps(s)


def test_an_optimizer_that_is_gone_leaves_nothing_behind(device):
    s, p = scaler_of(device), nn.Parameter(torch.zeros(1, device=device))
    for _ in range(3):
        opt = optim.SGD([p], lr=0.1)
        p.grad = torch.ones(1, device=device)
        s.step(opt)
        s.update()
        del opt
        gc.collect()
    assert not s._per_optimizer_states


# Errors, and when it is off -----------------------------------------------------------------------

def test_the_order_of_calls(device):
    p = nn.Parameter(torch.zeros(1, device=device))
    opt, s = optim.SGD([p], lr=0.1), GradScaler(device)
    for call, name in ((lambda: s.step(opt), "step"), (lambda: s.unscale_(opt), "unscale_"),
                       (s.update, "update")):
        with pytest.raises(AssertionError, match=f"Attempted {name} but _scale is None"):
            call()
    s.scale(torch.ones((), device=device))
    with pytest.raises(AssertionError, match="No inf checks were recorded prior to update"):
        s.update()
    with pytest.raises(AssertionError, match="No inf checks were recorded for this optimizer"):
        s.step(opt)
    s = scaler_of(device)
    p.grad = torch.ones(1, device=device)
    with pytest.raises(RuntimeError, match="Closure use is not currently supported"):
        s.step(opt, closure=lambda: None)
    s.unscale_(opt)
    with pytest.raises(RuntimeError, match="has already been called on this optimizer"):
        s.unscale_(opt)
    s.step(opt)
    with pytest.raises(RuntimeError, match="already been called since the last update"):
        s.step(opt)
    with pytest.raises(RuntimeError, match="being called after step"):
        s.unscale_(opt)
    s.update()
    s.unscale_(opt)


def test_bad_arguments(device):
    with pytest.raises(AssertionError, match=r"growth factor must be > 1\.0"):
        GradScaler(device, growth_factor=1.0)
    with pytest.raises(AssertionError, match=r"backoff factor must be < 1\.0"):
        GradScaler(device, backoff_factor=1.0)
    with pytest.raises(RuntimeError, match="source state dict is empty"):
        GradScaler(device).load_state_dict({})


def test_switched_off_it_does_nothing(device):
    s = GradScaler(device, growth_factor=0.5, enabled=False)
    p = nn.Parameter(torch.zeros(1, device=device))
    opt = optim.SGD([p], lr=1.0)
    x = torch.ones(1, device=device)
    assert s.scale(x) is x and s.get_scale() == 1.0 and not s.is_enabled()
    p.grad = torch.ones(1, device=device)
    s.unscale_(opt)
    assert s.step(opt, lambda: 7) == 7 and p.tolist() == [-1]
    s.update()
    assert s.state_dict() == {} and s._get_growth_tracker() == 0
    s.load_state_dict({})
    assert not pickle.loads(pickle.dumps(s)).is_enabled()


def test_without_cuda_it_switches_itself_off(no_cuda, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.warns(UserWarning, match="is enabled, but CUDA is not available"):
        assert not GradScaler().is_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not GradScaler(enabled=False).is_enabled() and GradScaler("cpu").is_enabled()


@pytest.mark.gpu
def test_the_older_name():
    with pytest.warns(FutureWarning, match=r"`torch.cuda.amp.GradScaler\(args...\)` is deprecated. "
                                           r"Please use `torch.amp.GradScaler\('cuda', args...\)`"):
        s = torch.cuda.amp.GradScaler(init_scale=4.0)
    assert isinstance(s, GradScaler) and s.get_scale() == 4 and s._device == "cuda"
    assert torch.GradScaler is GradScaler
