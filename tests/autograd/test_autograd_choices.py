"""Where gpugrad differs from PyTorch on purpose. Each test names what PyTorch does."""

from __future__ import annotations

import pytest

import gpugrad as torch
from gpugrad.autograd import Function, grad


def leaf(*values):
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


@pytest.mark.parametrize(
    "view", [lambda x: x[0], lambda x: x.view(3, 1), lambda x: x.unbind()[0], lambda x: x.t()]
)
def test_views_made_in_no_grad_do_not_require_grad(view):
    """PyTorch's do, as leaves of their own, if their base does."""
    with torch.no_grad():
        assert not view(leaf()).requires_grad


def test_views_made_in_no_grad_follow_writes_to_their_base():
    """PyTorch refuses to look at them once the base was written."""
    x = leaf()
    h = x * 1
    with torch.no_grad():
        view = h[:2]
    h.mul_(2)
    assert grad(view.sum(), x)[0].tolist() == [2, 2, 0]


def test_several_views_at_once_follow_writes_to_their_base():
    """PyTorch refuses to look at them once the base was written."""
    x = torch.arange(6.0).reshape(2, 3).requires_grad_()
    h = x * 1
    a, _ = h.unbind()
    h.mul_(2)
    assert a.tolist() == [0, 2, 4] and grad(a.sum(), x)[0].tolist() == [[2, 2, 2], [0, 0, 0]]


def test_writes_between_overlapping_views():
    """PyTorch refuses; NumPy and CuPy copy first."""
    x = leaf()
    y = x * 2
    y[1:] = y[:-1]
    y.sum().backward()
    assert y.tolist() == [2, 2, 4] and x.grad.tolist() == [4, 2, 0]


def test_a_dirty_view_at_any_place_among_the_inputs():
    """PyTorch takes the first input for the dirty one: its gradients are wrong here."""

    class Scale(Function):
        @staticmethod
        def forward(ctx, k, a):
            ctx.save_for_backward(k, a.clone())
            a.mul_(k)
            ctx.mark_dirty(a)
            return a

        @staticmethod
        def backward(ctx, g):
            k, a = ctx.saved_tensors
            return (g * a).sum(), g * k

    x, k = leaf(), torch.tensor(3.0, requires_grad=True)
    h = x * 1
    Scale.apply(k, h[:2])
    h.sum().backward()
    assert x.grad.tolist() == [3, 3, 1] and k.grad.item() == 3


def test_a_dirty_view_without_a_gradient():
    """PyTorch drops the gradient of the rest of the base, too."""

    class Stop(Function):
        @staticmethod
        def forward(ctx, a):
            ctx.mark_dirty(a)
            return a.mul_(2)

        @staticmethod
        def backward(ctx, g):
            return None

    x = leaf()
    h = x * 1
    Stop.apply(h[:2])
    h.sum().backward()
    assert x.grad.tolist() == [0, 0, 1]


def test_hooks_are_not_called_without_a_gradient():
    """PyTorch calls them with None."""
    x, seen = torch.ones(2, 3, requires_grad=True), []
    a, b = x.unbind()
    b.register_hook(seen.append)
    a.sum().backward()
    assert seen == []


def test_data_that_was_replaced_after_it_was_saved():
    """PyTorch computes with the new data."""
    x = leaf()
    y = (x * x).sum()
    x.data = torch.ones(3) * 7
    y.backward()
    assert x.grad.tolist() == [2, 4, 6]


def test_a_refused_write_to_an_inference_tensor_changes_nothing():
    """PyTorch writes before it raises."""
    with torch.inference_mode():
        y = torch.ones(3)
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor"):
        y.add_(1)
    assert y.tolist() == [1, 1, 1]


def test_modes_do_not_decorate_classes():
    """PyTorch warns that it will stop doing so."""
    with pytest.raises(TypeError, match="decorates functions, not the class Model"):

        @torch.no_grad()
        class Model:
            pass


def test_requires_grad_may_be_confirmed():
    """PyTorch raises for the attribute, not for requires_grad_()."""
    y = leaf() * 2
    y.requires_grad = True
    assert y.requires_grad


def test_a_gradient_edge_to_start_from_needs_its_gradient():
    """PyTorch knows the shape."""
    edge = torch.autograd.graph.get_gradient_edge(leaf().sum())
    with pytest.raises(NotImplementedError, match="pass its gradient"):
        torch.autograd.backward(edge)


def test_what_is_not_there_says_so():
    x = leaf()
    with pytest.raises(NotImplementedError, match="batches of gradients are a loop"):
        torch.autograd.gradcheck(lambda a: a * 2, x, check_batched_grad=True)
    with pytest.raises(NotImplementedError, match="forward-mode differentiation"):

        class Forward(Function):
            @staticmethod
            def forward(ctx, a):
                ctx.save_for_forward(a)
                return a

        Forward.apply(x)


def test_values_are_saved_under_our_names_for_inputs():
    """PyTorch says _saved_self and _saved_other."""
    x, w = leaf(), leaf()
    node = (x * w).grad_fn
    assert node._saved_x is x and node._saved_y is w
