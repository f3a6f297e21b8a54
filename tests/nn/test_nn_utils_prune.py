"""nn.utils.prune: masks over weights, one upon another."""
from __future__ import annotations

import pytest

import gpugrad as torch
from gpugrad import nn
from gpugrad.nn.utils import prune

pytestmark = pytest.mark.usefixtures("on_each_device")


def layer():
    made = nn.Linear(4, 4)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([(-1) ** i * (5 * i % 17 + 1.0) for i in range(16)])
                          .reshape(4, 4))
    return made


def conv():
    made = nn.Conv2d(2, 4, 1)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([3.0, -1, 2, 2, 0.5, 0.1, -4, 0]).reshape(4, 2, 1, 1))
    return made


def zeros(mask):
    return [i for i, v in enumerate(mask.flatten().tolist()) if v == 0]


def test_what_a_pruned_module_has():
    m = layer()
    weight, want = m.weight, m.weight.detach().clone()
    assert prune.l1_unstructured(m, "weight", 5) is m
    assert list(m.state_dict()) == ["bias", "weight_orig", "weight_mask"]
    assert [n for n, _ in m.named_parameters()] == ["bias", "weight_orig"]
    assert m.weight_orig is weight and type(m.weight) is torch.Tensor
    smallest = sorted(range(16), key=lambda i: abs(want.flatten()[i].item()))[:5]
    assert zeros(m.weight_mask) == sorted(smallest) == zeros(m.weight.detach())
    m(torch.ones(1, 4)).sum().backward()
    assert zeros(weight.grad) == sorted(smallest)
    with torch.no_grad():
        weight.add_(1)
    m(torch.ones(1, 4))
    assert torch.equal(m.weight, weight * m.weight_mask)
    assert prune.is_pruned(m) and prune.is_pruned(nn.Sequential(m))
    other = prune.identity(layer(), "weight")
    other.load_state_dict(m.state_dict())
    assert torch.equal(other(torch.ones(1, 4)), m(torch.ones(1, 4)))


def test_remove():
    m = layer()
    weight = m.weight
    prune.l1_unstructured(m, "weight", 0.5)
    pruned = m.weight.detach().clone()
    assert prune.remove(m, "weight") is m
    assert m.weight is weight and torch.equal(weight, pruned)
    assert list(m.state_dict()) == ["bias", "weight"] and not prune.is_pruned(m)
    with pytest.raises(ValueError, match=r"Parameter 'weight' of module Linear\(.* has to be "
                                         "pruned before pruning can be removed"):
        prune.remove(m, "weight")


@pytest.mark.parametrize("amount, n", [(3, 3), (0.3, 5), (0, 0), (0.0, 0), (1.0, 16), (16, 16)])
def test_amounts(amount, n):
    assert len(zeros(prune.l1_unstructured(layer(), "weight", amount).weight_mask)) == n
    assert len(zeros(prune.random_unstructured(layer(), "weight", amount).weight_mask)) == n


def test_structured():
    for n in (1, 2, float("inf")):
        assert zeros(prune.ln_structured(conv(), "weight", 1, n, dim=0).weight_mask) == [4, 5]
    m = prune.ln_structured(conv(), "weight", 0.5, 2, dim=1)
    assert zeros(m.weight_mask) == [1, 3, 5, 7]
    m = prune.random_structured(conv(), "weight", 3, dim=0)
    mask = m.weight_mask.reshape(4, 2)
    assert mask.sum().item() == 2 and mask[:, 0].tolist() == mask[:, 1].tolist()
    assert zeros(prune.random_structured(conv(), "weight", 0, -4).weight_mask) == []


def test_one_upon_another():
    m = conv()
    prune.l1_unstructured(m, "weight", 2)
    assert zeros(m.weight_mask) == [5, 7]
    prune.l1_unstructured(m, "weight", 2)                       # of those that are left
    assert zeros(m.weight_mask) == [1, 4, 5, 7]
    prune.ln_structured(m, "weight", 1, 2, dim=0)               # channel 2 has gone already
    assert zeros(m.weight_mask) == [1, 2, 3, 4, 5, 7]
    (hook,) = m._forward_pre_hooks.values()
    assert isinstance(hook, prune.PruningContainer) and len(hook) == 3
    assert isinstance(hook[2], prune.LnStructured) and list(hook) == [hook[0], hook[1], hook[2]]
    prune.custom_from_mask(m, "weight", torch.zeros(4, 2, 1, 1))
    assert zeros(m.weight_mask) == list(range(8))
    prune.l1_unstructured(m, "bias", 1)
    assert len(m._forward_pre_hooks) == 2


def test_scores():
    scores = torch.arange(16.0).reshape(4, 4)
    m = prune.l1_unstructured(layer(), "weight", 3, importance_scores=scores)
    assert zeros(m.weight_mask) == [0, 1, 2]
    with pytest.raises(AssertionError, match=r"importance_scores should have the same shape as "
                                             "parameter weight"):
        prune.l1_unstructured(layer(), "weight", 3, importance_scores=torch.ones(2))


def test_global():
    a, b = layer(), conv()
    prune.global_unstructured([(a, "weight"), (b, "weight")], prune.L1Unstructured, amount=6)
    assert zeros(a.weight_mask) == [0, 7]
    assert zeros(b.weight_mask) == [1, 4, 5, 7]
    prune.global_unstructured([(a, "weight"), (b, "weight")], prune.RandomUnstructured, amount=18)
    assert a.weight_mask.sum().item() + b.weight_mask.sum().item() == 0
    a, b = layer(), conv()
    prune.global_unstructured(((a, "weight"), (b, "weight")), prune.L1Unstructured, amount=2,
                              importance_scores={(b, "weight"): torch.zeros(4, 2, 1, 1)})
    assert zeros(a.weight_mask) == [] and len(zeros(b.weight_mask)) == 2
    for bad, error, text in (
            (3, TypeError, "parameters is not an Iterable"), ([], Exception, "non-empty list")):
        with pytest.raises(error, match=text):
            prune.global_unstructured(bad, prune.L1Unstructured, amount=1)
    with pytest.raises(TypeError, match='Only "unstructured" PRUNING_TYPE supported'):
        prune.global_unstructured([(a, "weight")], prune.LnStructured, amount=1, n=2)
    with pytest.raises(TypeError, match="importance_scores must be of type dict"):
        prune.global_unstructured([(a, "weight")], prune.L1Unstructured, [1], amount=1)


def test_a_method_of_ones_own():
    class EveryOther(prune.BasePruningMethod):
        PRUNING_TYPE = "unstructured"

        def compute_mask(self, t, default_mask):
            mask = default_mask.clone()
            mask.view(-1)[::2] = 0
            return mask

    m = layer()
    hook = EveryOther.apply(m, "bias")
    assert zeros(m.bias_mask) == [0, 2] and isinstance(hook, EveryOther)
    t = torch.tensor([1.0, -3, 2, 0])
    assert EveryOther().prune(t).tolist() == [0, -3, 0, 0]
    assert prune.L1Unstructured(2).prune(t).tolist() == [0, -3, 2, 0]
    mask = torch.tensor([1.0, 1, 0, 1])
    assert prune.L1Unstructured(2).prune(t, default_mask=mask).tolist() == [0, -3, 0, 0]

    class Broken(EveryOther):
        def compute_mask(self, t, default_mask):
            raise ZeroDivisionError

    m = layer()
    with pytest.raises(ZeroDivisionError):
        Broken.apply(m, "weight")
    assert [n for n, _ in m.named_parameters()] == ["bias", "weight"]


BAD = [
    (lambda: prune.random_unstructured(layer(), "weight", -1), ValueError,
     r"amount=-1 should either be a float in the range \[0, 1\] or a non-negative integer"),
    (lambda: prune.RandomStructured(1.5), ValueError, "amount=1.5 should either be a float"),
    (lambda: prune.L1Unstructured("x"), TypeError, "Invalid type for amount: x. Must be int or"),
    (lambda: prune.l1_unstructured(layer(), "weight", 100), ValueError,
     "amount=100 should be smaller than the number of parameters to prune=16"),
    (lambda: prune.ln_structured(layer(), "weight", 100, 2, 0), ValueError, "to prune=4"),
    (lambda: prune.ln_structured(layer(), "weight", 1, 2, 5), IndexError,
     r"Invalid index 5 for tensor of size torch.Size\(\[4, 4\]\)"),
    (lambda: prune.random_structured(layer(), "bias", 1, 0), ValueError,
     r"multidimensional tensors\. Found tensor of shape torch.Size\(\[4\]\) with 1 dims"),
    (lambda: prune.BasePruningMethod(), TypeError, "abstract"),
    (lambda: prune.l1_unstructured(layer(), "foo", 1), AttributeError, "foo"),
    (lambda: prune.custom_from_mask(layer(), "bias", torch.ones(3)), AssertionError, "shape"),
    (lambda: prune.PruningContainer().add_pruning_method(3), TypeError,
     "<class 'int'> is not a BasePruningMethod subclass"),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_input(case):
    fn, error, text = BAD[case]
    with pytest.raises(error, match=text):
        fn()


def test_containers_hold_one_name():
    container, other = prune.PruningContainer(), prune.L1Unstructured(2)
    container._tensor_name, other._tensor_name = "weight", "bias"
    with pytest.raises(ValueError, match=r"acting on the parameter named 'weight'.*Found 'bias'"):
        container.add_pruning_method(other)
    assert len(container) == 0
