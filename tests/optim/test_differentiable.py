"""Steps with differentiable=True: they are recorded, and give what others give."""
from __future__ import annotations

from typing import Any

import pytest

import gpugrad as torch
from gpugrad import optim

CASES: list[tuple[Any, dict[str, Any]]] = [
    (optim.SGD, {"lr": 0.1}), (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1}),
    (optim.Adam, {"weight_decay": 0.1}), (optim.Adam, {"amsgrad": True, "maximize": True}),
    (optim.AdamW, {}), (optim.RMSprop, {"centered": True, "momentum": 0.5}), (optim.RMSprop, {}),
    (optim.Adamax, {}), (optim.NAdam, {}), (optim.RAdam, {"betas": (0.5, 0.8)}),
    (optim.Adagrad, {"lr_decay": 0.1}), (optim.Adadelta, {}), (optim.Rprop, {}),
    (optim.ASGD, {"lambd": 0.1, "t0": 1}),
]
IDS = [f"{cls.__name__}-{'-'.join(kw) or 'plain'}" for cls, kw in CASES]


def loss(p: Any) -> Any:
    return ((p - torch.tensor([1.0, -2.0, 0.5], dtype=p.dtype, device=p.device)) ** 4).sum()


@torch.enable_grad()                          # gradcheck calls it without recording, too
def train(start: Any, cls: Any, kw: Any, steps: int = 4) -> Any:
    """The parameter after some steps that begin at ``start``, as a function of it."""
    p = start.clone().requires_grad_() if not start.requires_grad else start.clone()
    opt = cls([p], **kw, differentiable=True)
    for _ in range(steps):
        now = p.clone()                      # its graph saves these values, and p is written
        p.grad, = torch.autograd.grad(loss(now), now, create_graph=True)
        opt.step()
    return p


@pytest.mark.parametrize(("cls", "kw"), CASES, ids=IDS)
def test_the_step_is_the_same(cls, kw, device):
    start = torch.tensor([0.3, 0.2, -0.7], dtype=torch.float64, device=device, requires_grad=True)
    got = train(start, cls, kw)
    p = start.detach().clone().requires_grad_()
    opt = cls([p], **kw)
    for _ in range(4):
        opt.zero_grad()
        loss(p).backward()
        opt.step()
    assert torch.allclose(got.detach(), p.detach(), rtol=1e-7, atol=1e-9)
    assert got.grad_fn is not None and got.requires_grad


@pytest.mark.parametrize(("cls", "kw"), [c for c in CASES if c[0] is not optim.Rprop],
                         ids=[i for i in IDS if "Rprop" not in i])
def test_gradients_flow_through_the_steps(cls, kw):
    start = torch.tensor([0.3, 0.2, -0.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: train(s, cls, kw, 3), start, eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("cls", [optim.SGD, optim.Adam, optim.RMSprop, optim.Adamax, optim.Adagrad,
                                 optim.Adadelta, optim.NAdam, optim.RAdam])
def test_the_learning_rate_has_a_gradient(cls):
    start = torch.tensor([0.3, 0.2, -0.7], dtype=torch.float64)

    def end(lr: Any) -> Any:
        return loss(train(start.clone().requires_grad_(), cls, {"lr": lr}, 3))

    lr = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(end, lr, eps=1e-6, atol=1e-5)


def test_a_leaf_cannot_be_stepped_so():
    p = torch.ones(2, requires_grad=True)
    opt = optim.SGD([p], lr=0.1, differentiable=True)
    p.sum().backward()
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        opt.step()
