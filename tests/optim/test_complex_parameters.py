"""Complex parameters: an optimizer treats them as pairs of real numbers."""
from __future__ import annotations

import copy

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import nn, optim

pytestmark = pytest.mark.usefixtures("on_each_device")

CASES = [(optim.SGD, {"momentum": 0.9, "dampening": 0.1}), (optim.Adam, {"amsgrad": True}),
         (optim.AdamW, {"maximize": True}), (optim.Adamax, {}), (optim.NAdam, {}),
         (optim.RAdam, {}), (optim.Adagrad, {"initial_accumulator_value": 0.2}),
         (optim.Adadelta, {}), (optim.RMSprop, {"momentum": 0.5, "centered": True}),
         (optim.Rprop, {}), (optim.ASGD, {"weight_decay": 0.1}), (optim.Adam, {"capturable": True})]


def draw(r, *shape, dtype=torch.complex64):
    return torch.tensor((r.standard_normal(shape) + 1j * r.standard_normal(shape)).tolist(),
                        dtype=dtype)


@pytest.mark.parametrize(("cls", "kw"), CASES, ids=[c.__name__ + "-".join(kw) for c, kw in CASES])
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_steps_are_those_of_the_real_parts(cls, kw, dtype):
    r = np.random.default_rng(0)
    start = [draw(r, *shape, dtype=getattr(torch, dtype)) for shape in ((2, 3), (), (50, 100))]
    start.append(draw(r, 3, 4, dtype=getattr(torch, dtype)).t())
    params = [nn.Parameter(t.clone()) for t in start]
    reals = [nn.Parameter(torch.view_as_real(t).clone()) for t in start]
    opt, real = cls(params, lr=0.05, **kw), cls(reals, lr=0.05, **kw)
    for _ in range(4):
        for p, q in zip(params, reals):
            p.grad = draw(r, *p.shape, dtype=p.dtype)
            q.grad = torch.view_as_real(p.grad).clone()
        opt.step()
        real.step()
    for p, q in zip(params, reals):
        torch.testing.assert_close(torch.view_as_real(p.detach()), q.detach(), rtol=0, atol=0)
        for name, value in opt.state[p].items():
            want = real.state[q][name]
            if value.is_complex():
                assert value.dtype is p.dtype
                value = torch.view_as_real(value)
            torch.testing.assert_close(value.cpu(), want.cpu(), rtol=0, atol=0)


def test_checkpoints_of_complex_parameters():
    r = np.random.default_rng(0)
    p, q = (nn.Parameter(draw(r, 3)) for _ in range(2))
    opt, other = optim.Adam([p], lr=0.1), optim.Adam([q], lr=0.1)
    p.grad = draw(r, 3)
    opt.step()
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert other.state[q]["exp_avg"].dtype is torch.complex64
    with torch.no_grad():
        q.copy_(p)
    q.grad = p.grad.clone()
    opt.step()
    other.step()
    assert (p == q).all()


def test_training_turns_a_phase():
    p = nn.Parameter(torch.tensor([1 + 0j, 0 - 2j]))
    goal = torch.tensor([0.3 - 0.4j, 1j])
    opt = optim.Adam([p], lr=0.1)
    for _ in range(300):
        opt.zero_grad()
        (p - goal).abs().square().sum().backward()
        opt.step()
    assert (p - goal).abs().max().item() < 1e-3


def test_what_is_not_possible():
    p = nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))
    p.grad = torch.ones(2, 2, dtype=torch.complex64)
    with pytest.raises(RuntimeError, match="`fused=True` requires all the params to be floating"):
        optim.Adam([p], fused=True).step()
    for cls in (optim.Adafactor, optim.Muon):
        with pytest.raises(RuntimeError, match=f"{cls.__name__} does not support complex"):
            cls([p]).step()
    assert (p == 1).all()
