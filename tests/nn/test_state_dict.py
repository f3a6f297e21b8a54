"""state_dict and load_state_dict: keys, errors, hooks, extra state, versions."""
from __future__ import annotations

from collections import OrderedDict

import pytest

import gpugrad as torch
from gpugrad import nn


class Net(nn.Module):
    def __init__(self, n=2):
        super().__init__()
        self.fc = nn.Linear(n, 3)
        self.norm = nn.BatchNorm1d(3)
        self.alone = nn.Parameter(torch.zeros(()))
        self.register_buffer("gone", torch.zeros(1), persistent=False)


KEYS = ["alone", "fc.weight", "fc.bias", "norm.weight", "norm.bias", "norm.running_mean",
        "norm.running_var", "norm.num_batches_tracked"]


def test_keys_and_values():
    net = Net()
    state = net.state_dict()
    assert type(state) is OrderedDict and list(state) == KEYS
    assert not state["fc.weight"].requires_grad
    net.fc.weight.data.fill_(7)
    assert state["fc.weight"].sum().item() == 42       # not a copy
    assert net.state_dict(keep_vars=True)["fc.weight"] is net.fc.weight
    assert list(net.state_dict(prefix="net.")) == ["net." + k for k in KEYS]
    into = OrderedDict(a=1)
    assert net.fc.state_dict(destination=into) is into and list(into) == ["a", "weight", "bias"]
    assert state._metadata == {"": {"version": 1}, "fc": {"version": 1}, "norm": {"version": 2}}


def test_positional_arguments_are_deprecated():
    with pytest.warns(FutureWarning, match="Positional args are being deprecated"):
        state = Net().fc.state_dict(OrderedDict(), "x.", True)
    assert list(state) == ["x.weight", "x.bias"]
    assert state["x.weight"].requires_grad


def test_round_trip():
    a, b = Net(), Net()
    a.norm(a.fc(torch.randn(5, 2)))
    result = b.load_state_dict(a.state_dict())
    assert repr(result) == str(result) == "<All keys matched successfully>"
    assert result.missing_keys == [] and result == ([], [])
    for x, y in zip(a.state_dict().values(), b.state_dict().values()):
        assert torch.equal(x, y)
    assert b.fc.weight is not a.fc.weight and b.norm.num_batches_tracked.item() == 1


def test_every_mismatch_is_named():
    state = Net(3).state_dict()
    del state["alone"], state["norm.bias"]
    state["norm.more"] = torch.zeros(1)
    state["fc.deep.er"] = torch.zeros(1)
    state["other"] = torch.zeros(1)
    state["norm.weight"] = [1, 2, 3]
    with pytest.raises(RuntimeError) as caught:
        Net().load_state_dict(state)
    assert str(caught.value) == (
        "Error(s) in loading state_dict for Net:\n"
        '\tMissing key(s) in state_dict: "alone", "norm.bias". \n'
        '\tUnexpected key(s) in state_dict: "other", "fc.deep.er", "norm.more". \n'
        "\tsize mismatch for fc.weight: copying a param with shape torch.Size([3, 3]) from "
        "checkpoint, the shape in current model is torch.Size([3, 2]).\n"
        '\tWhile copying the parameter named "norm.weight", expected torch.Tensor or Tensor-like '
        "object from checkpoint but received <class 'list'>")


def test_not_strict():
    net = Net()
    result = net.load_state_dict({"alone": torch.tensor(3.0), "x": torch.ones(1)}, strict=False)
    assert net.alone.item() == 3
    assert result.missing_keys == KEYS[1:-1] and result.unexpected_keys == ["x"]
    assert repr(result).startswith("_IncompatibleKeys(missing_keys=['fc.weight'")
    with pytest.raises(RuntimeError, match="size mismatch for alone"):
        net.load_state_dict({"alone": torch.ones(2)}, strict=False)
    with pytest.raises(TypeError) as caught:
        net.load_state_dict([1])
    assert str(caught.value) == "Expected state_dict to be dict-like, got <class 'list'>."


def test_number_saved_as_a_vector_of_one():
    net = Net()
    net.load_state_dict({"alone": torch.ones(1)}, strict=False)
    assert net.alone.item() == 1 and net.alone.shape == ()


def test_values_are_cast():
    net = Net()
    weight = net.fc.weight
    net.fc.load_state_dict({"weight": torch.ones(3, 2, dtype=torch.float64), "bias": torch.ones(3)})
    assert net.fc.weight is weight and weight.dtype is torch.float32 and weight.sum().item() == 6


def test_assign():
    net = Net()
    net.fc.bias.requires_grad_(False)
    state = Net().double().state_dict()
    net.load_state_dict(state, assign=True)
    assert net.fc.weight.dtype is torch.float64 and type(net.fc.weight) is nn.Parameter
    assert net.fc.weight.requires_grad and not net.fc.bias.requires_grad
    assert net.norm.running_mean is state["norm.running_mean"]
    p = nn.Parameter(torch.ones(3, 2))
    net.fc.load_state_dict({"weight": p, "bias": torch.ones(3)}, assign=True)
    assert net.fc.weight is p


def test_batch_norm_of_version_1():
    state = nn.BatchNorm1d(3).state_dict()
    del state["num_batches_tracked"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"num_batches_tracked"'):
        nn.BatchNorm1d(3).load_state_dict(state)
    state._metadata[""]["version"] = 1
    assert not nn.BatchNorm1d(3).load_state_dict(state).missing_keys
    assert not nn.BatchNorm1d(3).load_state_dict(dict(state)).missing_keys


class Extra(nn.Module):
    def __init__(self, value=0):
        super().__init__()
        self.value = value

    def get_extra_state(self):
        return {"value": self.value}

    def set_extra_state(self, state):
        self.value = state["value"]


def test_extra_state():
    net = nn.Sequential(Extra(5))
    assert net.state_dict() == {"0._extra_state": {"value": 5}}
    other = nn.Sequential(Extra())
    other.load_state_dict(net.state_dict())
    assert other[0].value == 5
    with pytest.raises(RuntimeError, match=r'Missing key.*"0\._extra_state"'):
        other.load_state_dict({})
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"_extra_state"'):
        nn.ReLU().load_state_dict({"_extra_state": 1})
    with pytest.raises(RuntimeError, match="should never be called"):
        nn.ReLU().get_extra_state()


def test_state_dict_hooks():
    net, seen = Net(), []
    net.register_state_dict_pre_hook(lambda m, prefix, keep: seen.append((m, prefix, keep)))
    net.fc.register_state_dict_post_hook(
        lambda m, state, prefix, meta: state.__delitem__(prefix + "bias"))
    assert "fc.bias" not in net.state_dict() and seen == [(net, "", False)]
    net.fc.register_state_dict_post_hook(lambda m, state, prefix, meta: state)
    with pytest.raises(RuntimeError, match="state_dict post-hook must return None"):
        net.state_dict()
    other = nn.Linear(1, 1)
    other._register_state_dict_hook(lambda m, state, prefix, meta: {"only": 1})
    assert other.state_dict() == {"only": 1}


def test_load_hooks():
    net, seen = Net(), []
    state = net.state_dict()
    state["fc.w"] = state.pop("fc.weight")

    def rename(module, state, prefix, *rest):
        seen.append(module)
        state[prefix + "weight"] = state.pop(prefix + "w")

    handle = net.fc.register_load_state_dict_pre_hook(rename)
    net.fc._register_load_state_dict_pre_hook(lambda state, prefix, *rest: seen.append(prefix))
    net.load_state_dict(state)
    assert seen == [net.fc, "fc."]
    handle.remove()
    with pytest.raises(RuntimeError, match=r"fc\.w"):
        net.load_state_dict(state)


def test_load_post_hook():
    net, seen = Net(), []
    net.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.clear())
    net.fc.register_load_state_dict_post_hook(lambda m, keys: seen.append(list(keys.missing_keys)))
    assert net.load_state_dict({"alone": torch.tensor(1.0)}).missing_keys == []
    assert seen == [["fc.weight", "fc.bias"]]
    net.register_load_state_dict_post_hook(lambda m, keys: keys)
    with pytest.raises(AssertionError, match="not expected to return new values"):
        net.load_state_dict({})
