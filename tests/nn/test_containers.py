"""Sequential, lists and dicts of modules and of parameters."""
from __future__ import annotations

from collections import OrderedDict

import pytest

import gpugrad as torch
from gpugrad import nn


def names(container):
    return [type(m).__name__ for m in container]


def test_sequential():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    x = torch.ones(4, 2)
    assert torch.equal(net(x), net[2](net[1](net[0](x))))
    assert len(net) == 3 and net[-1] is net[2] and names(net[1:]) == ["ReLU", "Linear"]
    named = nn.Sequential(OrderedDict(a=nn.ReLU(), b=nn.Tanh()))
    assert named.a is named[0] and repr(named[:1]) == "Sequential(\n  (a): ReLU()\n)"
    assert list(nn.Sequential()) == [] and repr(nn.Sequential()) == "Sequential()"
    assert nn.Sequential()(3) == 3


def test_sequential_editing():
    net = nn.Sequential(nn.ReLU())
    assert net.append(nn.Tanh()) is net
    assert net.insert(1, nn.Sigmoid()) is net and names(net) == ["ReLU", "Sigmoid", "Tanh"]
    net.insert(-1, nn.ELU())
    assert names(net) == ["ReLU", "Sigmoid", "ELU", "Tanh"] and list(net._modules) == list("0123")
    net[0] = nn.GELU()
    del net[1]
    assert names(net) == ["GELU", "ELU", "Tanh"] and list(net._modules) == ["0", "1", "2"]
    del net[::2]
    assert names(net) == ["ELU"]
    net.extend([nn.ReLU(), nn.Tanh()])
    assert names([net.pop(0)]) == ["ELU"] and names(net) == ["ReLU", "Tanh"]
    assert names(net + nn.Sequential(nn.ELU())) == ["ReLU", "Tanh", "ELU"]
    assert names(net * 2) == names(2 * net) == ["ReLU", "Tanh"] * 2
    net += nn.Sequential(nn.ELU())
    net *= 2
    assert names(net) == ["ReLU", "Tanh", "ELU"] * 2


@pytest.mark.parametrize("call, kind, text", [
    (lambda s: s[5], IndexError, "index 5 is out of range"),
    (lambda s: s.__delitem__(-3), IndexError, "index -3 is out of range"),
    (lambda s: s.insert(7, nn.ReLU()), IndexError, "Index out of range: 7"),
    (lambda s: s + [nn.ReLU()], ValueError,
     "add operator supports only objects of Sequential class, but <class 'list'> is given."),
    (lambda s: s * 0, ValueError, "Non-positive multiplication factor 0"),
    (lambda s: s * 1.5, TypeError, "unsupported operand type(s) for *"),
    (lambda s: s.append(3), TypeError, "int is not a Module subclass"),
    (lambda s: s.insert(0, 3), AssertionError, "module should be of type"),
    (lambda s: nn.Sequential(3), TypeError, "int is not a Module subclass"),
])
def test_sequential_errors(call, kind, text):
    with pytest.raises(kind) as caught:
        call(nn.Sequential(nn.ReLU(), nn.Tanh()))
    assert str(caught.value).startswith(text)


def test_module_list():
    layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    assert len(list(layers.parameters())) == 6 and len(layers) == 3
    assert layers[-1] is layers[2] and type(layers[:2]) is nn.ModuleList and len(layers[:2]) == 2
    layers.append(nn.ReLU())
    layers.insert(0, nn.Tanh())
    assert names(layers) == ["Tanh", "Linear", "Linear", "Linear", "ReLU"]
    assert repr(layers) == """\
ModuleList(
  (0): Tanh()
  (1-3): 3 x Linear(in_features=2, out_features=2, bias=True)
  (4): ReLU()
)"""
    del layers[1:3]
    layers[0] = nn.ELU()
    assert names(layers) == ["ELU", "Linear", "ReLU"] and list(layers._modules) == ["0", "1", "2"]
    assert names([layers.pop(-1)]) == ["ReLU"]
    layers += [nn.SiLU()]
    assert names(layers + [nn.ReLU()]) == ["ELU", "Linear", "SiLU", "ReLU"]
    assert repr(nn.ModuleList()) == "ModuleList()"
    assert layers[1] in layers


def test_module_list_folds_nested_texts():
    nested = nn.ModuleList([nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU())])
    assert repr(nested) == """\
ModuleList(
  (0-1): 2 x Sequential(
    (0): ReLU()
  )
)"""


def test_module_list_errors():
    layers = nn.ModuleList([nn.ReLU()])
    with pytest.raises(IndexError, match="index 1 is out of range"):
        layers[1]
    with pytest.raises(TypeError, match="should be called with an iterable, but got int"):
        layers.extend(3)
    with pytest.raises(NotImplementedError, match='missing the required "forward"'):
        layers(1)
    with pytest.raises(TypeError):
        layers[0] = 3


def test_module_dict():
    choice = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Tanh()})
    choice["c"] = nn.ELU()
    assert list(choice) == list(choice.keys()) == ["a", "b", "c"] and "a" in choice
    assert len(choice) == 3 and names(choice.values()) == ["ReLU", "Tanh", "ELU"]
    assert names([choice.pop("b")]) == ["Tanh"]
    choice.update([("d", nn.GELU())])
    choice.update(nn.ModuleDict({"e": nn.SiLU()}))
    assert [k for k, _ in choice.items()] == ["a", "c", "d", "e"]
    del choice["a"]
    assert repr(choice).startswith("ModuleDict(\n  (c): ELU(alpha=1.0)\n  (d)")
    choice.clear()
    assert len(choice) == 0
    with pytest.raises(KeyError):
        choice["a"]


@pytest.mark.parametrize("given, kind, text", [
    (3, TypeError, "should be called with an iterable of key/value pairs, but got int"),
    ([3], TypeError, "update sequence element #0 should be Iterable; isint"),
    ([("a", 1, 2)], ValueError, "update sequence element #0 has length 3; 2 is required"),
    ({"a": 3}, TypeError, "int is not a Module subclass"),
])
def test_module_dict_errors(given, kind, text):
    with pytest.raises(kind) as caught:
        nn.ModuleDict(given)
    assert text in str(caught.value)


def test_parameter_list():
    params = nn.ParameterList([torch.ones(2, 3), nn.Parameter(torch.ones(1)), "text"])
    assert len(params) == 3 and len(list(params.parameters())) == 2
    assert isinstance(params[0], nn.Parameter) and params[-1] == "text"
    assert repr(params) == """\
ParameterList(
    (0): Parameter containing: [torch.float32 of size 2x3]
    (1): Parameter containing: [torch.float32 of size 1]
    (2): Object of type: str
)"""
    assert list(params.state_dict()) == ["0", "1"]
    params.append(torch.zeros(1)).extend([torch.zeros(2)])
    params += [3]
    assert len(params) == 6 and len(params[1:4]) == 3 and type(params[1:4]) is nn.ParameterList
    params[0] = torch.zeros(2, 3)
    assert params[0].sum() == 0 and len(list(params)) == 6
    with pytest.raises(TypeError, match="should be called with an iterable, but got Tensor"):
        params.extend(torch.ones(2))
    with pytest.raises(RuntimeError, match="ParameterList should not be called"):
        params(1)
    with pytest.raises(IndexError, match="index 6 is out of range"):
        params[6]


def test_parameter_dict():
    params = nn.ParameterDict({"b": torch.ones(2), "a": nn.Parameter(torch.ones(1, 2))})
    assert list(params) == ["a", "b"] and isinstance(params["b"], nn.Parameter)    # sorted
    assert list(nn.ParameterDict(OrderedDict(b=torch.ones(1), a=torch.ones(1)))) == ["b", "a"]
    params["c"] = 3
    assert repr(params) == """\
ParameterDict(
    (a): Parameter containing: [torch.FloatTensor of size 1x2]
    (b): Parameter containing: [torch.FloatTensor of size 2]
    (c): Object of type: int
)"""
    assert [n for n, _ in params.named_parameters()] == ["a", "b"]
    assert params.get("x") is None and params.get("x", 3) == 3 and "a" in params
    assert params.pop("c") == 3 and len(params) == 2
    assert params.setdefault("d", torch.zeros(1)).shape == (1,)
    assert list(reversed(params)) == ["d", "b", "a"]
    key, value = params.popitem()
    assert key == "d" and value.shape == (1,)
    twin = params.copy()
    assert twin["a"] is params["a"] and twin is not params
    assert list(params | {"z": torch.ones(1)}) == ["a", "b", "z"]
    params |= {"y": torch.ones(1)}
    assert [k for k, _ in params.items()] == list(params.keys()) == ["a", "b", "y"]
    assert len(list(params.values())) == 3 and list(params.fromkeys(["q"], 1)) == ["q"]
    del params["a"]
    params.clear()
    assert len(params) == 0 and not list(params.parameters())


def test_parameter_dict_errors():
    with pytest.raises(TypeError, match="not a string"):
        nn.ParameterDict()[3] = torch.ones(1)
    with pytest.raises(TypeError, match="key/value pairs, but got int"):
        nn.ParameterDict(3)
    with pytest.raises(RuntimeError, match="ParameterDict should not be called"):
        nn.ParameterDict()(1)
