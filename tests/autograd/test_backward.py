"""backward() and grad(): what they accept, what they return, and what they refuse."""

from __future__ import annotations

import pytest

import gpugrad as torch
from gpugrad.autograd import backward, grad

pytestmark = [pytest.mark.filterwarnings("ignore:Using backward.. with create_graph"),
              pytest.mark.usefixtures("on_each_device")]


def leaf(*values):
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


# backward ----------------------------------------------------------------------------------------


def test_backward_fills_the_gradients_of_leaves():
    x, w = leaf(), leaf(4.0, 5.0, 6.0)
    (x * w).sum().backward()
    assert x.grad.tolist() == [4, 5, 6] and w.grad.tolist() == [1, 2, 3]
    assert not x.grad.requires_grad and x.grad.is_leaf


def test_backward_from_a_leaf():
    x = torch.tensor(3.0, requires_grad=True)
    x.backward()
    assert x.grad.item() == 1


def test_a_single_element_of_any_shape_needs_no_gradient():
    x = torch.tensor([[2.0]], requires_grad=True)
    (x * 3).backward()
    assert x.grad.tolist() == [[3]]


def test_backward_of_many_elements_needs_a_gradient():
    x = leaf()
    with pytest.raises(
        RuntimeError, match="grad can be implicitly created only for scalar outputs"
    ):
        (x * 2).backward()
    (x * 2).backward(torch.tensor([1.0, 0.0, -1.0]))
    assert x.grad.tolist() == [2, 0, -2]


@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_a_gradient_of_another_dtype_is_converted(dtype):
    x = leaf()
    (x * 2).backward(torch.tensor([1, 2, 3], dtype=getattr(torch, dtype)))
    assert x.grad.tolist() == [2, 4, 6] and x.grad.dtype is torch.float32


def test_a_gradient_of_another_shape_is_refused():
    x = leaf()
    with pytest.raises(
        RuntimeError,
        match=r"Mismatch in shape: grad_output\[0\] has a shape of "
        r"torch.Size\(\[2\]\) and output\[0\] has a shape of torch.Size\(\[3\]\)",
    ):
        (x * 2).backward(torch.ones(2))


def test_a_gradient_must_be_a_tensor():
    with pytest.raises(TypeError, match="gradients can be either Tensors or None, but got int"):
        (leaf() * 2).backward([1, 2, 3])


def test_backward_without_history_is_refused():
    with pytest.raises(
        RuntimeError, match="element 0 of tensors does not require grad and does not have a grad_fn"
    ):
        torch.ones(3).sum().backward()
    with pytest.raises(RuntimeError, match="element 1 of tensors does not require grad"):
        backward([leaf().sum(), torch.ones(1)])


@pytest.mark.parametrize("op", ["exp", "sigmoid", "sqrt"])
def test_a_second_backward_is_refused(op):
    x = leaf()
    y = getattr(x, op)().sum()
    y.backward()
    with pytest.raises(RuntimeError) as error:
        y.backward()
    assert str(error.value).startswith(
        "Trying to backward through the graph a second time (or directly access saved tensors "
        "after they have already been freed). Saved intermediate values of the graph are freed "
        "when you call .backward() or autograd.grad(). Specify retain_graph=True"
    )


def test_a_graph_that_saved_nothing_can_run_again():
    x = leaf()
    y = (x + 1).sum()
    y.backward()
    y.backward()
    assert x.grad.tolist() == [2, 2, 2]


def test_retain_graph():
    x = leaf()
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [6, 12, 18]
    with pytest.raises(RuntimeError, match="a second time"):
        y.backward()


def test_create_graph_retains_unless_told_otherwise():
    x = leaf()
    y = (x * x).sum()
    y.backward(create_graph=True)
    y.backward(create_graph=True, retain_graph=False)
    with pytest.raises(RuntimeError, match="a second time"):
        y.backward()


def test_freeing_one_graph_frees_what_it_shares_with_another():
    x = leaf()
    shared = x.exp()
    shared.sum().backward()
    with pytest.raises(RuntimeError, match="a second time"):
        (shared * 2).sum().backward()


def test_several_roots():
    x = leaf()
    backward([x.sum(), (x * 2).sum()])
    assert x.grad.tolist() == [3, 3, 3]
    x.grad = None
    backward((x * 2, (x * 3).sum()), (torch.tensor([1.0, 0.0, 1.0]), None))
    assert x.grad.tolist() == [5, 3, 5]


def test_the_same_root_twice():
    x = leaf()
    y = (x * x).sum()
    backward([y, y])
    assert x.grad.tolist() == [4, 8, 12]


def test_roots_and_gradients_must_be_equally_many():
    x = leaf()
    with pytest.raises(RuntimeError, match="got 2 tensors and 1 gradients"):
        backward([x.sum(), (x * 2).sum()], [torch.tensor(1.0)])


def test_one_root_below_another():
    x = leaf()
    h = x * 2
    y = (h * h).sum()
    backward([y, h], [None, torch.ones(3)])
    assert x.grad.tolist() == [8 * v + 2 for v in (1, 2, 3)]


# backward(inputs=) -------------------------------------------------------------------------------


def test_inputs_alone_accumulate():
    x, w = leaf(), leaf()
    (x * w).sum().backward(inputs=[x])
    assert x.grad.tolist() == [1, 2, 3] and w.grad is None
    (x * w).sum().backward(inputs=w)
    assert x.grad.tolist() == [1, 2, 3] and w.grad.tolist() == [1, 2, 3]


def test_inputs_that_are_no_leaves_retain_their_gradient():
    x = leaf()
    h = x * 2
    (h * h).sum().backward(inputs=[h])
    assert h.grad.tolist() == [4, 8, 12] and x.grad is None and h.retains_grad


def test_a_leaf_and_what_was_made_of_it_as_inputs():
    x = leaf()
    h = x * 2
    (h * h).sum().backward(inputs=[h, x])
    assert h.grad.tolist() == [4, 8, 12] and x.grad.tolist() == [8, 16, 24]


def test_inputs_given_twice_accumulate_once():
    x = leaf()
    (x * x).sum().backward(inputs=[x, x])
    assert x.grad.tolist() == [2, 4, 6]


def test_an_unused_input_gets_no_gradient():
    x, w = leaf(), leaf()
    x.sum().backward(inputs=[w])
    assert x.grad is None and w.grad is None


def test_inputs_accumulate_into_the_same_gradient_and_fire_hooks():
    x, seen = leaf(), []
    x.register_hook(lambda g: g * 2)
    x.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.tolist()))
    x.sum().backward(inputs=[x])
    held = x.grad
    x.sum().backward(inputs=[x])
    assert x.grad is held and seen == [[2, 2, 2], [4, 4, 4]]


def test_inputs_that_are_refused():
    x = leaf()
    with pytest.raises(RuntimeError, match=r"`inputs` argument to `backward\(\)` cannot be empty"):
        x.sum().backward(inputs=[])
    with pytest.raises(
        RuntimeError, match="can't retain_grad on Tensor that has requires_grad=False"
    ):
        x.sum().backward(inputs=[torch.ones(3)])


# grad --------------------------------------------------------------------------------------------


def test_grad_returns_a_tuple_and_touches_no_gradient():
    x, w = leaf(), leaf(4.0, 5.0, 6.0)
    found = grad((x * w).sum(), [x, w])
    assert type(found) is tuple and [g.tolist() for g in found] == [[4, 5, 6], [1, 2, 3]]
    assert x.grad is None and w.grad is None


def test_grad_of_an_input_that_is_no_leaf():
    x = leaf()
    h = x * 2
    to_h, to_x = grad((h * h).sum(), (h, x))
    assert to_h.tolist() == [4, 8, 12] and to_x.tolist() == [8, 16, 24]


def test_grad_of_an_output_to_itself():
    y = leaf(2.0) * 2
    assert grad(y, y)[0].tolist() == [1]
    x = leaf(2.0)
    assert grad(x, x)[0].tolist() == [1]


def test_grad_of_one_input_twice():
    x = leaf()
    a, b = grad((x * x).sum(), [x, x])
    assert a.tolist() == b.tolist() == [2, 4, 6]


def test_grad_outputs():
    x = leaf()
    v = torch.tensor([1.0, 0.0, 2.0])
    assert grad(x * x, x, v)[0].tolist() == [2, 0, 12]
    assert grad([x * 1, (x * x).sum()], x, [v, None])[0].tolist() == [3, 4, 8]
    assert grad([x * 1, x * x], x, [torch.ones(3), v])[0].tolist() == [3, 1, 13]


def test_grad_outputs_that_do_not_fit():
    x = leaf()
    with pytest.raises(RuntimeError, match="Mismatch in shape"):
        grad(x * 1, x, torch.ones(2))
    with pytest.raises(RuntimeError, match="got 2 tensors and 1 gradients"):
        grad([x.sum(), x.sum()], x, [torch.tensor(1.0)])
    with pytest.raises(RuntimeError, match="only for scalar outputs"):
        grad(x * 1, x)


def test_unused_inputs():
    x, w = leaf(), leaf()
    with pytest.raises(RuntimeError) as error:
        grad(x.sum(), [x, w])
    assert str(error.value).startswith(
        "The differentiated Tensor at index 1 appears to not have been used in the "
        "graph. Set allow_unused=True if this is the desired behavior."
    )
    a, b = grad(x.sum(), [x, w], allow_unused=True)
    assert a.tolist() == [1, 1, 1] and b is None


def test_materialize_grads():
    x, w = leaf(), torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    _, b = grad(x.sum(), [x, w], materialize_grads=True)
    assert b.tolist() == [[0, 0], [0, 0]] and b.dtype is torch.float64 and not b.requires_grad
    _, b = grad(x.sum(), [x, w], materialize_grads=True, create_graph=True)
    assert b.requires_grad
    with pytest.raises(
        ValueError,
        match="Expected allow_unused to be True or not passed when materialize_grads=True",
    ):
        grad(x.sum(), [x, w], materialize_grads=True, allow_unused=False)


def test_inputs_of_grad_that_are_refused():
    x = leaf()
    with pytest.raises(
        RuntimeError, match="One of the differentiated Tensors does not require grad"
    ):
        grad(x.sum(), torch.ones(3))
    with pytest.raises(
        RuntimeError, match="One of the differentiated Tensors does not require grad"
    ):
        grad(x.sum(), torch.ones(3), allow_unused=True)
    with pytest.raises(RuntimeError, match=r"`inputs` argument to `grad\(\)` cannot be empty"):
        grad(x.sum(), [])
    with pytest.raises(
        RuntimeError, match="all inputs have to be Tensors or GradientEdges, but got float"
    ):
        grad(x.sum(), [3.0])
    with pytest.raises(TypeError):
        grad(3.0, x)


def test_grad_frees_only_what_it_ran_through():
    x, w = leaf(), leaf()
    a = x * x
    b = a * w
    y = b.exp().sum()
    grad(y, b)
    with pytest.raises(RuntimeError, match="a second time"):
        y.backward()
    b.sum().backward()  # the part below b is whole
    assert w.grad.tolist() == [1, 4, 9]


def test_grad_runs_nothing_that_leads_nowhere():
    ran = []

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            return a * 1

        @staticmethod
        def backward(ctx, g):
            ran.append(1)
            return g

    x, w = leaf(), leaf()
    y = (Watched.apply(x) * w).sum()
    grad(y, w, retain_graph=True)
    assert ran == []
    grad(y, x)
    assert ran == [1]


def test_gradients_that_are_no_batch():
    x = leaf()
    assert grad(x * 2, x, torch.ones(3), is_grads_batched=False)[0].tolist() == [2, 2, 2]


# create_graph ------------------------------------------------------------------------------------


def test_derivatives_of_every_order():
    x = leaf()
    y, found = (x**4).sum(), []
    for _ in range(5):
        (y,) = grad(y.sum(), x, create_graph=True)
        found.append(y.tolist())
        if not y.requires_grad:
            break
    assert found[:4] == [[4, 32, 108], [12, 48, 108], [24, 48, 72], [24, 24, 24]]


def test_second_derivatives_through_grad_outputs():
    x, v = leaf(), leaf(1.0, 1.0, 2.0)
    (g,) = grad(x * x, x, v, create_graph=True)
    assert g.tolist() == [2, 4, 12]
    to_x, to_v = grad(g.sum(), [x, v])
    assert to_x.tolist() == [2, 2, 4] and to_v.tolist() == [2, 4, 6]


def test_a_gradient_carries_no_history_without_create_graph():
    x, v = leaf(), leaf()
    (g,) = grad(x * x, x, v)
    assert not g.requires_grad


def test_backward_with_create_graph():
    x = leaf()
    (x**3).sum().backward(create_graph=True)
    first = x.grad
    assert first.tolist() == [3, 12, 27] and first.requires_grad
    x.grad = None
    first.sum().backward()
    assert x.grad.tolist() == [6, 12, 18]


def test_backward_with_create_graph_warns():
    x = leaf()
    with pytest.warns(
        UserWarning, match="will create a reference cycle between the parameter and its gradient"
    ):
        (x * x).sum().backward(create_graph=True)
    x.grad = None


def test_accumulation_under_create_graph_is_out_of_place():
    x = leaf()
    (x * x).sum().backward()
    plain = x.grad
    (x * x).sum().backward(create_graph=True)
    assert x.grad is not plain and plain.tolist() == [2, 4, 6] and x.grad.tolist() == [4, 8, 12]
    assert x.grad.requires_grad


def test_accumulation_without_create_graph_is_in_place():
    x = leaf()
    (x * x).sum().backward(create_graph=True)
    held = x.grad
    (x * x).sum().backward()
    assert x.grad is held and held.tolist() == [4, 8, 12]


def test_a_constant_gradient_does_not_require_grad():
    x = leaf()
    (g,) = grad((x * 2).sum(), x, create_graph=True)
    assert g.tolist() == [2, 2, 2] and not g.requires_grad


def test_grad_works_where_recording_is_off():
    x = leaf()
    y = (x * x).sum()
    with torch.no_grad():
        (g,) = grad(y, x, create_graph=True)
        assert not torch.is_grad_enabled()
    assert g.requires_grad and grad(g.sum(), x)[0].tolist() == [2, 2, 2]


def test_a_gradient_penalty():
    x, w = leaf(), leaf(2.0, 2.0, 2.0)
    (g,) = grad((x * w).sigmoid().sum(), x, create_graph=True)
    penalty = ((g * g).sum() - 1) ** 2
    penalty.backward()
    assert x.grad is not None and w.grad is not None
    h = 1e-3
    with torch.no_grad():
        values = []
        for step in (h, -h):
            s = (x * (w + torch.tensor([step, 0.0, 0.0]))).sigmoid()
            slope = (w + torch.tensor([step, 0.0, 0.0])) * s * (1 - s)
            values.append((((slope * slope).sum() - 1) ** 2).item())
    assert w.grad[0].item() == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-2)


# GradientEdge ------------------------------------------------------------------------------------


def test_gradient_edges_stand_for_tensors():
    x = leaf()
    y = x * 2
    edge = torch.autograd.graph.get_gradient_edge(y)
    assert edge.node is y.grad_fn and edge.output_nr == 0
    z = (y * y).sum()
    assert grad(z, edge, retain_graph=True)[0].tolist() == [4, 8, 12]
    at_leaf = torch.autograd.graph.get_gradient_edge(x)
    assert grad(z, [edge, at_leaf], retain_graph=True)[1].tolist() == [8, 16, 24]
    backward(edge, torch.tensor([1.0, 0.0, 0.0]))
    assert x.grad.tolist() == [2, 0, 0]
    with pytest.raises(RuntimeError, match="not possible to get"):
        torch.autograd.graph.get_gradient_edge(torch.ones(2))


def test_an_unused_gradient_edge_cannot_be_materialized():
    x, w = leaf(), leaf()
    edge = torch.autograd.graph.get_gradient_edge(w * 2)
    assert grad(x.sum(), edge, allow_unused=True) == (None,)
    with pytest.raises(
        RuntimeError,
        match="materialize_grads cannot be used when the given input is a GradientEdge",
    ):
        grad(x.sum(), edge, materialize_grads=True)
