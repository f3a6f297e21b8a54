"""nn.utils.parametrize: parameters that are computed from others."""
from __future__ import annotations

import copy
import pickle

import pytest

import gpugrad as torch
from gpugrad import nn
from gpugrad.nn.utils import parametrize as P

pytestmark = pytest.mark.usefixtures("on_each_device")


class Symmetric(nn.Module):
    calls = 0

    def forward(self, x):
        Symmetric.calls += 1
        return x.triu() + x.triu(1).mT


class Both(Symmetric):
    def right_inverse(self, x):
        return x.triu()


class Sum(nn.Module):
    def forward(self, x, y):
        return x + y

    def right_inverse(self, x):
        return x, torch.zeros_like(x)


def of(forward, right_inverse=None):
    """A parametrization of these functions."""
    body = {"forward": lambda self, x: forward(x)}
    if right_inverse is not None:
        body["right_inverse"] = lambda self, x: right_inverse(x)
    return type("Case", (nn.Module,), body)()


def square():
    return nn.Linear(3, 3)


def test_one():
    layer = square()
    weight = layer.weight
    assert P.register_parametrization(layer, "weight", Symmetric()) is layer
    assert repr(layer) == """ParametrizedLinear(
  in_features=3, out_features=3, bias=True
  (parametrizations): ModuleDict(
    (weight): ParametrizationList(
      (0): Symmetric()
    )
  )
)"""
    assert list(layer.state_dict()) == ["bias", "parametrizations.weight.original"]
    assert layer.parametrizations.weight.original is weight
    assert isinstance(layer, nn.Linear) and P.type_before_parametrizations(layer) is nn.Linear
    assert torch.equal(layer.weight, layer.weight.mT)
    layer(torch.ones(1, 3)).sum().backward()
    assert weight.grad is not None
    assert P.is_parametrized(layer) and P.is_parametrized(layer, "weight")
    assert not P.is_parametrized(layer, "bias") and not P.is_parametrized(square())
    with pytest.raises(RuntimeError, match="parametrization Symmetric does not implement "
                                           "right_inverse"):
        layer.weight = torch.eye(3)


def test_assigning():
    layer = P.register_parametrization(square(), "weight", Both())
    original = layer.parametrizations.weight.original
    new = torch.tensor([[1.0, 2, 3], [2, 4, 5], [3, 5, 6]])
    layer.weight = new
    assert torch.equal(layer.weight, new) and torch.equal(original, new.triu())
    assert layer.parametrizations.weight.original is original
    for value, text in ((torch.eye(3).double(), "has dtype torch.float64 while `original` has"),
                        (None, None)):
        if text:
            with pytest.raises(ValueError, match=text):
                layer.weight = value


def test_several_in_a_row():
    layer = P.register_parametrization(square(), "weight", Both())
    P.register_parametrization(layer, "weight", of(lambda x: 2 * x, lambda x: x / 2))
    assert len(layer.parametrizations.weight) == 2
    new = torch.tensor([[2.0, 2, 4], [2, 4, 6], [4, 6, 6]])
    layer.weight = new
    assert torch.equal(layer.weight, new)
    assert torch.equal(layer.parametrizations.weight.original, (new / 2).triu())


def test_several_originals():
    layer = P.register_parametrization(square(), "bias", Sum())
    assert list(layer.state_dict()) == ["weight", "parametrizations.bias.original0",
                                        "parametrizations.bias.original1"]
    assert all(isinstance(p, nn.Parameter) for p in layer.parametrizations.bias.parameters())
    layer.bias = torch.ones(3)
    assert layer.parametrizations.bias.original0.tolist() == [1, 1, 1]
    assert layer.parametrizations.bias.original1.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"Cannot leave unparametrized"):
        P.remove_parametrizations(layer, "bias", leave_parametrized=False)
    P.remove_parametrizations(layer, "bias")
    assert type(layer.bias) is nn.Parameter and layer.bias.tolist() == [1, 1, 1]


def test_buffers():
    module = nn.Module()
    module.register_buffer("b", torch.ones(2, 2))
    P.register_parametrization(module, "b", Both())
    assert list(dict(module.named_buffers())) == ["parametrizations.b.original"]
    P.remove_parametrizations(module, "b")
    assert list(dict(module.named_buffers())) == ["b"] and type(module) is nn.Module
    assert module.b.tolist() == [[1, 1], [1, 1]]


def test_removing():
    layer = P.register_parametrization(square(), "weight", Symmetric())
    P.register_parametrization(layer, "bias", of(lambda x: x + 1))
    weight, original = layer.weight.detach(), layer.parametrizations.weight.original
    values = original.detach().clone()
    P.remove_parametrizations(layer, "weight")
    assert layer.weight is original and torch.equal(layer.weight, weight)
    assert P.is_parametrized(layer) and type(layer) is not nn.Linear
    P.remove_parametrizations(layer, "bias", leave_parametrized=False)
    assert type(layer) is nn.Linear and not hasattr(layer, "parametrizations")
    assert [n for n, _ in layer.named_parameters()] == ["weight", "bias"]
    layer = P.register_parametrization(square(), "weight", Symmetric())
    layer.parametrizations.weight.original.data = values
    P.remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert torch.equal(layer.weight, values)
    with pytest.raises(ValueError, match="does not have a parametrization on weight"):
        P.remove_parametrizations(layer, "weight")


def test_cache():
    layer = P.register_parametrization(square(), "weight", Symmetric())
    Symmetric.calls = 0
    with P.cached():
        assert layer.weight is layer.weight
        with P.cached():
            assert layer.weight is layer.weight
        assert Symmetric.calls == 1
    assert layer.weight is not layer.weight and Symmetric.calls == 3
    assert not P._cache


CHECKS = [
    (of(lambda x: x[:1]), "may not change the shape of the tensor, unless `unsafe` flag is "
     r"enabled.\nunparametrized shape: torch.Size\(\[3, 3\]\)\nparametrized shape: torch.Size"),
    (of(lambda x: x.double()), "may not change the dtype of the tensor, unless `unsafe` flag"),
    (of(lambda x: 3), r"A parametrization must return a tensor. Got int\."),
    (of(lambda x: x, lambda x: x[:1]), "may not change the shape"),
    (of(lambda x: x, lambda x: 3), r"must return a Tensor or a Sequence of tensors \(list, "
     r"tuple\.\.\.\)\. Got int"),
    (of(lambda x: x, lambda x: x.double()), "When `right_inverse` outputs one tensor, it may not "
     "change the dtype"),
    (of(lambda x: x, lambda x: [x, 3]), "Got element 1 of the sequence with type int"),
]


@pytest.mark.parametrize("case", range(len(CHECKS)))
def test_checks(case):
    parametrization, text = CHECKS[case]
    layer = square()
    with pytest.raises(ValueError, match=text):
        P.register_parametrization(layer, "weight", parametrization)
    assert type(layer) is nn.Linear and [n for n, _ in layer.named_parameters()] == ["weight",
                                                                                    "bias"]


ONE_MORE = [(of(lambda x: 3), "must return a tensor. Got int"),
            (of(lambda x: x[:1]), "unless the `unsafe` flag"),
            (of(lambda x: x.double()), r"module.weight.dtype: torch.float32\n"),
            (of(lambda x: x, lambda x: 3), "right_inverse must return a tensor. Got: int"),
            (of(lambda x: x, lambda x: x[:1]), "must have the same shape as module.weight")]


@pytest.mark.parametrize("case", range(len(ONE_MORE)))
def test_checks_of_one_more(case):
    layer = P.register_parametrization(square(), "weight", Both())
    parametrization, text = ONE_MORE[case]
    with pytest.raises(ValueError, match=text):
        P.register_parametrization(layer, "weight", parametrization)
    assert len(layer.parametrizations.weight) == 1


def test_unsafe():
    layer = P.register_parametrization(square(), "weight", of(lambda x: x[:1]), unsafe=True)
    assert layer.weight.shape == (1, 3) and layer.parametrizations.weight.unsafe
    with pytest.raises(ValueError, match="does not have a parameter, a buffer, or a parametrized"):
        P.register_parametrization(layer, "foo", Symmetric())
    with pytest.raises(ValueError, match="requires one or more modules"):
        P.ParametrizationList([], torch.ones(1))


def test_copies():
    layer = P.register_parametrization(square(), "weight", Both())
    other = copy.deepcopy(layer)
    assert torch.equal(other.weight, layer.weight) and type(other) is type(layer)
    with torch.no_grad():
        other.parametrizations.weight.original.zero_()
    assert not torch.equal(other.weight, layer.weight)
    with pytest.raises(RuntimeError, match=r"only supported through state_dict\(\)"):
        pickle.dumps(layer)
    fresh = P.register_parametrization(square(), "weight", Both())
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh.weight, layer.weight)


def test_train_and_eval_and_devices():
    layer = square().eval()
    P.register_parametrization(layer, "weight", Both())
    assert not layer.parametrizations.weight[0].training
    layer.double()
    assert layer.weight.dtype is torch.float64


def test_transfer():
    one = P.register_parametrization(square(), "weight", Both())
    P.register_parametrization(one, "bias", Sum())
    other = P.transfer_parametrizations_and_params(one, square())
    assert torch.equal(one.weight, other.weight) and torch.equal(one.bias, other.bias)
    assert other.parametrizations.weight.original is one.parametrizations.weight.original
    part = P.transfer_parametrizations_and_params(one, square(), "weight")
    assert not P.is_parametrized(part, "bias")
    plain = square()
    assert P.transfer_parametrizations_and_params(square(), plain) is plain
