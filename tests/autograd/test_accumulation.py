"""Gradients in .grad: one object added to in place, memory shared with nobody."""

from __future__ import annotations

import weakref

import pytest

import gpugrad as torch

pytestmark = pytest.mark.usefixtures("on_each_device")


def leaf(*values):
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


def test_the_same_object_is_added_to():
    x = leaf()
    x.sum().backward()
    held, address = x.grad, x.grad.data_ptr()
    version = held._version
    (x * 2).sum().backward()
    assert x.grad is held and held.data_ptr() == address and held.tolist() == [3, 3, 3]
    assert held._version == version + 1


def test_a_new_object_after_none():
    x = leaf()
    x.sum().backward()
    held = x.grad
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad is not held and held.tolist() == [1, 1, 1] and x.grad.tolist() == [2, 2, 2]


def test_zeroed_gradients_start_again():
    x = leaf()
    x.sum().backward()
    x.grad.zero_()
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


def test_a_gradient_that_was_assigned_is_added_to():
    x, g = leaf(), torch.ones(3)
    x.grad = g
    (x * 2).sum().backward()
    assert x.grad is g and g.tolist() == [3, 3, 3]


def test_an_expanded_gradient_is_not_added_to():
    x = leaf()
    x.grad = torch.ones(1).expand(3)
    with pytest.raises(
        RuntimeError,
        match="more than one element of the written-to tensor refers to a single memory",
    ):
        (x * 2).sum().backward()


# No memory in common -----------------------------------------------------------------------------


def shared(*tensors):
    places = [t.data_ptr() for t in tensors]
    return len(set(places)) < len(places)


def test_two_leaves_of_a_sum():
    x, y = leaf(), leaf()
    (x + y).backward(torch.ones(3))
    assert not shared(x.grad, y.grad)
    x.grad.zero_()
    assert y.grad.tolist() == [1, 1, 1]


def test_a_leaf_and_the_gradient_that_was_passed_in():
    x, y, seed = leaf(), leaf(), torch.ones(3)
    (x + y).backward(seed)
    (leaf_alone := leaf()).view(3, 1).view(3).backward(seed)
    assert not shared(x.grad, y.grad, seed, leaf_alone.grad)


def test_views_of_one_gradient():
    a, b = torch.ones(4, requires_grad=True), torch.ones(2, 2, requires_grad=True)
    (a.view(2, 2) + b).sum().backward()
    assert not shared(a.grad, b.grad)
    a.grad.zero_()
    assert b.grad.tolist() == [[1, 1], [1, 1]]


def test_parts_of_one_gradient():
    a, b = leaf(), leaf()
    torch.cat([a, b]).backward(torch.arange(6.0))
    a.grad.zero_()
    assert b.grad.tolist() == [3, 4, 5]
    c = leaf()
    torch.stack([c, c]).backward(torch.ones(2, 3))
    assert c.grad.tolist() == [2, 2, 2]


def test_retained_gradients():
    x = leaf()
    h = x + 0.0
    k = h + 0.0
    h.retain_grad()
    k.retain_grad()
    k.backward(torch.ones(3))
    assert not shared(h.grad, k.grad, x.grad)
    h.grad.mul_(7)
    assert k.grad.tolist() == [1, 1, 1] and x.grad.tolist() == [1, 1, 1]


def test_what_a_hook_kept_does_not_change():
    x, kept = leaf(), []
    h = x + 0.0
    h.register_hook(kept.append)
    x.register_hook(kept.append)
    h.backward(torch.ones(3), retain_graph=True)
    h.backward(torch.ones(3))
    assert [g.tolist() for g in kept] == [[1, 1, 1]] * 4 and x.grad.tolist() == [2, 2, 2]


def test_what_a_hook_kept_of_a_view_does_not_change():
    x, kept = torch.ones(2, 3, requires_grad=True), []
    h = x.view(6)  # its gradient goes on to x as it is
    h.register_hook(kept.append)
    (h * 3).sum().backward(retain_graph=True)
    x.grad.zero_()
    assert kept[0].tolist() == [3] * 6


def test_what_a_node_hook_kept_does_not_change():
    x, kept = leaf(), []
    y = x * x  # both gradients end in x
    y.grad_fn.register_hook(lambda inputs, outputs: kept.extend(inputs))
    y.sum().backward()
    assert [g.tolist() for g in kept] == [[1, 2, 3], [1, 2, 3]] and x.grad.tolist() == [2, 4, 6]


def test_what_a_hook_replaced_is_not_taken_over():
    x, constant = leaf(), torch.ones(3)
    x.register_hook(lambda g: constant)
    x.sum().backward()
    x.sum().backward()
    assert constant.tolist() == [1, 1, 1] and x.grad.tolist() == [2, 2, 2]


def test_what_a_function_returned_is_not_taken_over():
    constant = torch.ones(3)

    class Fixed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            return a + b

        @staticmethod
        def backward(ctx, g):
            return constant, constant

    x, y = leaf(), leaf()
    h = x * 1
    (Fixed.apply(x, y) + Fixed.apply(h, h) + h).sum().backward()
    Fixed.apply(x, y).sum().backward()
    assert constant.tolist() == [1, 1, 1] and not shared(constant, x.grad, y.grad)
    assert x.grad.tolist() == [5, 5, 5] and y.grad.tolist() == [2, 2, 2]


def test_captured_gradients_do_not_change():
    x = leaf()
    h = x * 1
    y = (h + h * 2).sum()
    to_h, to_x = torch.autograd.grad(y, [h, x])
    to_x.add_(1)
    assert to_h.tolist() == [3, 3, 3]


# Sums --------------------------------------------------------------------------------------------


def test_many_uses_of_one_tensor():
    x = leaf()
    y = x * x
    (y * y + y + y.exp() * 0 + y).sum().backward()
    assert x.grad.tolist() == [4 * v**3 + 4 * v for v in (1, 2, 3)]


def test_scalars_without_dims():
    s = torch.tensor(2.0, requires_grad=True)
    (s * s + s + s).backward()
    (s * s).backward()
    assert s.grad.item() == 10 and s.grad.shape == ()


def test_broadcast_operands_get_sums():
    x, w, s = torch.ones(2, 3, requires_grad=True), leaf(), torch.tensor(2.0, requires_grad=True)
    (x * w * s).sum().backward()
    assert (
        x.grad.tolist() == [[2, 4, 6], [2, 4, 6]]
        and w.grad.tolist() == [4, 4, 4]
        and s.grad.item() == 12
    )


def test_gradients_have_their_leaf_s_dtype():
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    w, h = leaf(), torch.ones(3, dtype=torch.float16, requires_grad=True)
    (x * w * h).sum().backward()
    assert [t.grad.dtype for t in (x, w, h)] == [torch.float64, torch.float32, torch.float16]
    assert x.grad.tolist() == [1, 2, 3] and w.grad.tolist() == [1, 1, 1]


def test_gradients_lie_in_memory_as_their_leaf():
    plain = torch.ones(2, 3, requires_grad=True)
    (plain.t() * torch.arange(6.0).reshape(3, 2)).sum().backward()
    assert plain.grad.is_contiguous() and plain.grad.tolist() == [[0, 2, 4], [1, 3, 5]]
    turned = torch.ones(2, 3).t().requires_grad_()
    (turned * torch.arange(6.0).reshape(3, 2)).sum().backward()
    assert turned.grad.stride() == turned.stride() == (1, 3)
    assert turned.grad.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_empty_tensors():
    x = torch.zeros(0, 3, requires_grad=True)
    (x * 2).sum().backward()
    assert x.grad.shape == (0, 3)


def test_a_leaf_that_stopped_requiring_a_gradient_gets_none():
    x = leaf()
    y = (x * 2).sum()
    x.requires_grad_(False)
    y.backward()
    assert x.grad is None


def test_turning_requires_grad_off_and_on_keeps_the_leaf():
    x = leaf()
    x.register_hook(lambda g: g * 10)
    y = (x * 2).sum()
    x.requires_grad_(False).requires_grad_(True)
    y.backward()
    (x * 3).sum().backward()
    assert x.grad.tolist() == [50, 50, 50]


def test_two_graphs_of_a_leaf_over_a_backward_pass():
    """The leaf's gradient is summed once although a pass went by between its two uses."""
    x = torch.ones(2, requires_grad=True)
    seen = []
    x.register_hook(lambda g: seen.append(g.tolist()))
    before = x * 2
    (x * 3).sum().backward()
    after = x * 5
    (before + after).sum().backward()
    assert seen == [[3, 3], [7, 7]] and x.grad.tolist() == [10, 10]


def test_a_leaf_is_ready_before_older_nodes_run():
    """As soon as all its users have run, also when it was used in an earlier pass."""
    order = []
    a, b = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    a.register_hook(lambda g: order.append("a"))
    b.register_hook(lambda g: order.append("b"))
    for _ in range(3):
        hidden = a * 2
        hidden.register_hook(lambda g: order.append("hidden"))
        (hidden * b).backward()
    assert order == ["b", "hidden", "a"] * 3


def test_a_graph_keeps_its_leaf_and_a_leaf_no_graph():
    x = torch.ones(2, requires_grad=True)
    there, y = weakref.ref(x), (x * 2).sum()
    node = weakref.ref(y.grad_fn)
    accumulator = y.grad_fn.next_functions[0][0].next_functions[0][0]
    assert accumulator.variable is x
    del x
    y.backward()
    assert there() is not None and there().grad.tolist() == [2, 2]
    del y
    assert there() is None and node() is None and accumulator.variable is None
