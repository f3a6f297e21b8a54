"""Gradients over several backwards without copies, and optimizers that step inside backward, from
Tensor.register_post_accumulate_grad_hook."""
from __future__ import annotations

import copy

import pytest

import gpugrad as torch
from gpugrad import nn, optim
from gpugrad.optim import lr_scheduler

pytestmark = pytest.mark.usefixtures("on_each_device")

OPTIMIZERS = [(optim.SGD, {"momentum": 0.9}), (optim.Adam, {}), (optim.AdamW, {"fused": True}),
              (optim.RMSprop, {}), (optim.Adagrad, {}), (optim.Adafactor, {})]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))


def loss_of(net, x):
    return net(x).square().mean()


def step_in_backward(net, cls, **kw):
    """An optimizer for each parameter, stepped as soon as its gradient is there."""
    optimizers = {p: cls([p], **kw) for p in net.parameters()}

    def hook(p):
        optimizers[p].step()
        optimizers[p].zero_grad()

    return optimizers, [p.register_post_accumulate_grad_hook(hook) for p in net.parameters()]


@pytest.mark.parametrize(("cls", "kw"), OPTIMIZERS, ids=[cls.__name__ for cls, _ in OPTIMIZERS])
def test_steps_inside_backward_are_ordinary_steps(cls, kw):
    ours, reference = network(), network()
    optimizers, _ = step_in_backward(ours, cls, lr=0.05, **kw)
    plain = cls(reference.parameters(), lr=0.05, **kw)
    for i in range(4):
        x = torch.randn(8, 4)
        loss_of(ours, x).backward()
        assert all(p.grad is None for p in ours.parameters())
        plain.zero_grad()
        loss_of(reference, x).backward()
        plain.step()
        for p, q in zip(ours.parameters(), reference.parameters()):
            torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-6, atol=1e-7)
            counts = [o.state[w].get("step") for o, w in ((optimizers[p], p), (plain, q))]
            assert counts[0] is None or counts[0].item() == counts[1].item() == i + 1


def test_one_gradient_lives_at_a_time():
    net = network()
    alive = []
    optimizers, _ = step_in_backward(net, optim.SGD, lr=0.1)
    for p in net.parameters():
        p.register_post_accumulate_grad_hook(
            lambda p: alive.append(sum(q.grad is not None for q in net.parameters())))
    before = [p.clone() for p in net.parameters()]
    loss_of(net, torch.ones(3, 4)).backward()
    assert alive == [0] * 6 and len(optimizers) == 6
    assert all((p != old).any() for p, old in zip(net.parameters(), before))


def test_hooks_end_with_their_handles():
    net = network()
    _, handles = step_in_backward(net, optim.SGD, lr=0.1)
    for handle in handles:
        handle.remove()
    before = [p.clone() for p in net.parameters()]
    loss_of(net, torch.ones(3, 4)).backward()
    assert all((p == old).all() and p.grad is not None for p, old in zip(net.parameters(), before))


def test_schedules_of_optimizers_that_step_in_backward():
    ours, reference = network(), network()
    optimizers, _ = step_in_backward(ours, optim.SGD, lr=0.1)
    plain = optim.SGD(reference.parameters(), lr=0.1)
    plans = [lr_scheduler.StepLR(o, 1, 0.5) for o in [*optimizers.values(), plain]]
    x = torch.ones(3, 4)
    for _ in range(3):
        loss_of(ours, x).backward()
        plain.zero_grad()
        loss_of(reference, x).backward()
        plain.step()
        for plan in plans:
            plan.step()
    for p, q in zip(ours.parameters(), reference.parameters()):
        torch.testing.assert_close(p.detach(), q.detach())


def test_a_weight_used_twice_steps_once():
    w = nn.Parameter(torch.ones(2))
    steps = []
    opt = optim.SGD([w], lr=1.0)

    def hook(p):
        steps.append(p.grad.tolist())
        opt.step()

    w.register_post_accumulate_grad_hook(hook)
    (w * 2 + w * 3).sum().backward()
    assert steps == [[5, 5]] and w.tolist() == [-4, -4]


def test_accumulation_adds_in_place():
    net = network()
    x = torch.randn(8, 4)
    loss_of(net, x).backward()
    held = [p.grad for p in net.parameters()]
    places = [g.data_ptr() for g in held]
    whole = [g.clone() for g in held]
    for _ in range(3):
        loss_of(net, x).backward()
    for p, g, place, first in zip(net.parameters(), held, places, whole):
        assert p.grad is g and g.data_ptr() == place
        torch.testing.assert_close(g, first * 4)


def test_accumulated_parts_equal_the_whole_batch():
    ours, reference = network(), network()
    x = torch.randn(12, 4)
    for part in x.chunk(3):
        (loss_of(ours, part) / 3).backward()
    loss_of(reference, x).backward()
    for p, q in zip(ours.parameters(), reference.parameters()):
        torch.testing.assert_close(p.grad, q.grad)


def test_zeroed_gradients_keep_their_memory():
    net = network()
    opt = optim.Adam(net.parameters())
    x = torch.randn(8, 4)
    loss_of(net, x).backward()
    places = [p.grad.data_ptr() for p in net.parameters()]
    opt.zero_grad(set_to_none=False)
    again = copy.deepcopy(net)
    loss_of(net, x).backward()
    assert [p.grad.data_ptr() for p in net.parameters()] == places
    again.zero_grad()
    loss_of(again, x).backward()
    for p, q in zip(net.parameters(), again.parameters()):
        torch.testing.assert_close(p.grad, q.grad)


def test_accumulating_takes_no_more_memory(on_each_device, device):
    if device == "cpu":
        pytest.skip("CUDA's figures")
    net = nn.Linear(64, 64)
    x = torch.ones(4, 64)
    net(x).sum().backward()
    torch.cuda.synchronize()
    net(x).sum().backward()
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        net(x).sum().backward()
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == before
