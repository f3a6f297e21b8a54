"""The graph as it can be looked at: grad_fn, next_functions, names, saved values."""

from __future__ import annotations

import pytest

import gpugrad as torch


def leaf(*values):
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


def test_leaves_and_results():
    x, plain = leaf(), torch.ones(3)
    y = x * 2
    assert x.grad_fn is None and x.is_leaf and plain.is_leaf and plain.grad_fn is None
    assert not y.is_leaf and y.grad_fn is not None and y.requires_grad


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda x: x + x, "AddBackward0"),
        (lambda x: x - 1, "SubBackward0"),
        (lambda x: x * x, "MulBackward0"),
        (lambda x: x / 2, "DivBackward0"),
        (lambda x: x**2, "PowBackward0"),
        (lambda x: -x, "NegBackward0"),
        (lambda x: x.exp(), "ExpBackward0"),
        (lambda x: x.relu(), "ReluBackward0"),
        (lambda x: x.sum(), "SumBackward0"),
        (lambda x: x.sum(0), "SumBackward1"),
        (lambda x: x.mean(), "MeanBackward0"),
        (lambda x: x[0], "SelectBackward0"),
        (lambda x: x[1:], "SliceBackward0"),
        (lambda x: x.view(3, 1), "ViewBackward0"),
        (lambda x: x.clone(), "CloneBackward0"),
        (lambda x: x.unsqueeze(0).t(), "TBackward0"),
        (lambda x: x[[0, 1]], "IndexBackward0"),
        (lambda x: x @ x, "DotBackward0"),
        (lambda x: torch.cat([x, x]), "CatBackward0"),
        (lambda x: x.max(0)[0], "MaxBackward0"),
        (lambda x: x.double(), "ToCopyBackward0"),
        (lambda x: x.unbind()[1], "UnbindBackward0"),
    ],
)
def test_names(make, name):
    node = make(leaf()).grad_fn
    assert node.name() == name and type(node).__name__ == name
    assert repr(node).startswith(f"<{name} object at 0x")
    assert isinstance(node, torch.autograd.graph.Node)


def test_next_functions():
    x, plain = leaf(), torch.ones(3)
    y = x * 2 + plain
    (first, i), second = y.grad_fn.next_functions
    assert first.name() == "MulBackward0" and i == 0 and second == (None, 0)
    accumulator, j = first.next_functions[0]
    assert type(accumulator).__name__ == "AccumulateGrad" and j == 0
    assert accumulator.name() == "torch::autograd::AccumulateGrad"
    assert accumulator.variable is x and accumulator.next_functions == ()


def test_a_leaf_has_one_accumulator():
    x = leaf()
    a, b = x * 2, x * 3
    assert a.grad_fn.next_functions[0][0] is b.grad_fn.next_functions[0][0]


def test_results_of_one_node():
    x = torch.ones(3, 2, requires_grad=True)
    parts = x.unbind()
    assert len({id(p.grad_fn) for p in parts}) == 1 and [p.output_nr for p in parts] == [0, 1, 2]
    y = (parts[2] * 2).grad_fn.next_functions[0]
    assert y == (parts[2].grad_fn, 2)


@pytest.mark.parametrize(
    "parts",
    [
        lambda x: x.split(5),
        lambda x: x.chunk(1),
        lambda x: x.view(1, 3).unbind(),
        lambda x: list(x[:1]),
    ],
)
def test_the_only_one_of_several_results(parts):
    x = leaf()
    (part,) = parts(x)
    (part * part).sum().backward()
    assert x.grad.tolist() == [2 * v for v in part.reshape(-1).tolist()] + [0] * (3 - part.numel())


def test_saved_results():
    y = leaf().exp()
    assert (
        y.grad_fn._saved_result.tolist() == y.tolist()
        and y.grad_fn._saved_result.grad_fn is y.grad_fn
    )
    y.sum().backward()
    with pytest.raises(
        RuntimeError, match="directly access saved tensors after they have already been freed"
    ):
        _ = y.grad_fn._saved_result


def test_saved_results_that_were_written():
    y = leaf().exp()
    node = y.grad_fn
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        _ = node._saved_result


def test_metadata():
    node = leaf().exp().grad_fn
    node.metadata["who"] = "me"
    assert node.metadata == {"who": "me"} and leaf().exp().grad_fn.metadata == {}


def test_the_repr_of_a_tensor_names_its_node():
    x = leaf()
    assert repr(x) == "tensor([1., 2., 3.], requires_grad=True)"
    assert repr(x * 2) == "tensor([2., 4., 6.], grad_fn=<MulBackward0>)"
    assert repr(x[0]) == "tensor(1., grad_fn=<SelectBackward0>)"
    y = x * 1
    y[0] = 3.0
    assert repr(y) == "tensor([3., 2., 3.], grad_fn=<CopySlices>)"
    assert repr(x.detach()) == "tensor([1., 2., 3.])"


def test_views_and_detach():
    x = leaf() * 2
    y = x.detach()
    assert not y.requires_grad and y.is_leaf and y.data_ptr() == x.data_ptr()


def test_no_edge_where_no_gradient_goes():
    x = torch.tensor([3.0, 1.0, 2.0], requires_grad=True)
    values, where = x.max(0)
    assert values.requires_grad and not where.requires_grad and where.grad_fn is None
    for y in (x > 1, x == x, x.argmax(), torch.ones_like(x), x.detach()):
        assert not y.requires_grad
