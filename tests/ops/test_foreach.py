"""torch._foreach_*: lists of tensors."""
from __future__ import annotations

import pytest

import gpugrad as torch


def lists(device: str, n: int = 2):
    return [[torch.arange(1.0, 3 + i, device=device) + k for i in range(2)] for k in range(n)]


def test_plain_forms_leave_the_list_alone(device):
    x, = lists(device, 1)
    found = torch._foreach_sqrt(x)
    assert isinstance(found, tuple) and len(found) == 2
    assert [t.tolist() for t in x] == [[1, 2], [1, 2, 3]]
    torch.testing.assert_close(found[1], x[1].sqrt())


def test_in_place_forms_return_the_list(device):
    x, y = lists(device)
    assert torch._foreach_add_(x, y, alpha=2) is x
    assert [t.tolist() for t in x] == [[5, 8], [5, 8, 11]]
    torch._foreach_copy_(x, y)
    torch._foreach_zero_(y)
    assert x[0].tolist() == [2, 3] and y[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("other", [2.0, [2.0, 3.0], "tensor", "list"])
@pytest.mark.parametrize("op", ["add", "sub", "mul", "div"])
def test_operands(op, other, device):
    x, y = lists(device)
    each = {"tensor": [torch.tensor(2.0, device=device)] * 2, "list": y}.get(
        other if isinstance(other, str) else "", other if isinstance(other, list) else [2.0] * 2)
    given = {"tensor": each[0], "list": each}.get(other, other) if isinstance(other, str) else other
    expected = [getattr(t, op)(o).tolist() for t, o in zip(x, each)]
    assert [t.tolist() for t in getattr(torch, f"_foreach_{op}")(x, given)] == expected
    getattr(torch, f"_foreach_{op}_")(x, given)
    assert [t.tolist() for t in x] == expected


def test_maximum_takes_numbers_too():
    x, y = lists("cpu")
    assert torch._foreach_maximum(x, [2.0, 9.0])[1].tolist() == [9, 9, 9]
    assert torch._foreach_minimum(x, y)[0].tolist() == [1, 2]
    torch._foreach_clamp_min_(x, 2.0)
    torch._foreach_maximum_(x, y)
    assert x[0].tolist() == [2, 3]


def test_three_lists_and_lerp():
    x, y, z = lists("cpu", 3)
    assert torch._foreach_addcmul(x, y, z, value=2)[0].tolist() == [13, 26]
    assert torch._foreach_addcdiv(x, y, z, [1.5, 0.0])[1].tolist() == x[1].tolist()
    by_tensor = torch._foreach_addcmul(x, y, z, torch.tensor([2.0, 0.0]))
    assert [t.tolist() for t in by_tensor] == [[13, 26], x[1].tolist()]
    assert torch._foreach_lerp(x, z, 0.5)[0].tolist() == y[0].tolist()
    torch._foreach_lerp_(x, y, [1.0, 0.0])
    assert [t.tolist() for t in x] == [y[0].tolist(), [1, 2, 3]]


def test_norms_and_powers():
    x, = lists("cpu", 1)
    assert torch._foreach_norm(x, 1)[1].item() == 6
    assert torch._foreach_norm(x, dtype=torch.float64)[0].dtype is torch.float64
    assert torch._foreach_powsum(x, 2)[0].item() == 5
    assert torch._foreach_max(x)[1].item() == 3
    assert torch._foreach_pow(2.0, x)[0].tolist() == [2, 4]
    assert torch._foreach_pow(x, [2, 1])[0].tolist() == [1, 4]
    assert torch._foreach_clone(x)[0] is not x[0]


def test_gradients_flow_and_weights_are_averaged():
    net, average = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    torch._foreach_norm(list(net.parameters()))[0].backward()
    torch.testing.assert_close(net.weight.grad, (net.weight / net.weight.norm()).detach())
    with torch.no_grad():
        expected = average.weight * 0.9 + net.weight * 0.1
        torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 0.1)
    torch.testing.assert_close(average.weight.detach(), expected)


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda x: torch._foreach_add(x, [torch.ones(2)]), RuntimeError,
     "Tensor lists must have the same number of tensors, got 2 and 1"),
    (lambda x: torch._foreach_mul(x, [1.0, 2.0, 3.0]), RuntimeError,
     "Tensor list must have same number of elements as scalar list"),
    (lambda x: torch._foreach_mul(x, torch.ones(3)), RuntimeError,
     "scalar tensor expected to be 0 dim but it has 1 dimensions and 3 elements"),
    (lambda x: torch._foreach_exp([]), RuntimeError, "must have at least one tensor"),
    (lambda x: torch._foreach_add(torch.ones(2), 1), TypeError, "must be a tuple of Tensors"),
    (lambda x: torch._foreach_add([1.0], 1), TypeError, "expected Tensor as element 0"),
    (lambda x: torch._foreach_add(x), TypeError, "needs an operand"),
    (lambda x: torch._foreach_add(x, 1, 2), TypeError, None),
    (lambda x: torch._foreach_foo(x), AttributeError, "_foreach_foo"),
    (lambda x: torch._foreach_clone_(x), AttributeError, "_foreach_clone_")])
def test_bad_calls(call, error, text):
    with pytest.raises(error, match=text):
        call(lists("cpu", 1)[0])
