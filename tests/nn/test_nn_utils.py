"""nn.utils: clipping of gradients, parameters as one vector."""
from __future__ import annotations

import math

import pytest

import gpugrad as torch
from gpugrad import nn
from gpugrad.nn import utils

pytestmark = pytest.mark.usefixtures("on_each_device")


def two(*grads):
    params = [nn.Parameter(torch.zeros(len(g))) for g in grads]
    for p, g in zip(params, grads):
        p.grad = torch.tensor(g)
    return params


def test_clip_grad_norm():
    params = [*two([3.0, 0.0], [4.0]), nn.Parameter(torch.zeros(1))]
    total = utils.clip_grad_norm_(params, 1.0)
    assert total.item() == 5 and total.shape == ()
    assert params[0].grad.tolist() == [pytest.approx(0.6, abs=1e-6), 0]
    assert params[1].grad.tolist() == [pytest.approx(0.8, abs=1e-6)]
    assert params[2].grad is None
    assert utils.clip_grad_norm_(iter(params), 10.0).item() == pytest.approx(1, abs=1e-5)
    assert params[1].grad.tolist() == [pytest.approx(0.8, abs=1e-5)]     # small enough


@pytest.mark.parametrize("p, "
                         "total", [(1, 7), (2.0, 5), (3, 91 ** (1 / 3)), (math.inf, 4), ("inf", 4)])
def test_norm_types(p, total):
    assert utils.clip_grad_norm_(two([3.0, 0.0], [-4.0]), 1.0, p).item() == pytest.approx(total)


def test_one_tensor_and_no_gradients():
    (p,) = two([3.0, 4.0])
    assert utils.clip_grad_norm_(p, 1.0).item() == 5
    assert utils.clip_grad_norm_([nn.Parameter(torch.zeros(1))], 1.0).item() == 0
    with pytest.warns(UserWarning, match="`parameters` is an empty generator"):
        utils.clip_grad_norm_((q for q in ()), 1.0)


def test_nonfinite():
    params = two([math.inf, 1.0])
    with pytest.raises(RuntimeError, match=r"The total norm of order 2\.0 for gradients from "
                                           "`parameters` is non-finite"):
        utils.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    assert params[0].grad.tolist() == [math.inf, 1]
    assert utils.clip_grad_norm_(params, 1.0).item() == math.inf
    assert params[0].grad[1].item() == 0


def test_total_norm_and_clipping_by_it():
    params = two([3.0], [4.0])
    total = utils.get_total_norm([p.grad for p in params])
    assert total.item() == 5 and utils.get_total_norm([]).item() == 0
    utils.clip_grads_with_norm_(params, 2.5, total)
    assert params[0].grad.tolist() == [pytest.approx(1.5, abs=1e-6)]
    with pytest.warns(FutureWarning, match="clip_grad_norm_"):
        utils.clip_grad_norm(params, 1.0)


def test_clip_grad_value():
    params = two([3.0, -0.1], [-4.0])
    utils.clip_grad_value_(params, 0.5)
    assert params[0].grad.tolist() == [0.5, pytest.approx(-0.1)]
    assert params[1].grad.tolist() == [-0.5]


def test_vectors():
    net = nn.Linear(3, 2)
    vec = utils.parameters_to_vector(net.parameters())
    assert vec.shape == (8,) and torch.equal(vec[:6].view(2, 3), net.weight)
    vec.sum().backward()
    assert net.weight.grad.sum().item() == 6
    new = torch.arange(8.0)
    weight = net.weight
    utils.vector_to_parameters(new, net.parameters())
    assert net.weight is weight and weight.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert net.bias.tolist() == [6, 7]
    new.fill_(9)
    assert net.bias.tolist() == [9, 9]           # they are views of the vector
    with pytest.raises(TypeError, match=r"expected torch\.Tensor, but got: list"):
        utils.vector_to_parameters([1.0], net.parameters())
