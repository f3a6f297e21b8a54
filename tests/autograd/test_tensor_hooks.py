"""Hooks on tensors and on nodes, post-accumulate hooks, retain_grad."""

from __future__ import annotations

import pytest

import gpugrad as torch
from gpugrad.autograd import grad

pytestmark = [pytest.mark.filterwarnings("ignore:Using backward.. with create_graph"),
              pytest.mark.usefixtures("on_each_device")]


def leaf(*values):
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


# Tensor hooks ------------------------------------------------------------------------------------


def test_hooks_fire_in_the_order_of_registration():
    x, log = leaf(), []
    h = x * 2
    for name in ("first", "second"):
        h.register_hook(lambda g, name=name: log.append((name, g.tolist())))
        x.register_hook(lambda g, name=name: log.append(("x " + name, g.tolist())))
    h.sum().backward()
    assert log == [
        ("first", [1, 1, 1]),
        ("second", [1, 1, 1]),
        ("x first", [2, 2, 2]),
        ("x second", [2, 2, 2]),
    ]


def test_a_hook_replaces_the_gradient_for_those_after_it():
    x = leaf()
    x.register_hook(lambda g: g * 2)
    x.register_hook(lambda g: g + 1)
    x.sum().backward()
    assert x.grad.tolist() == [3, 3, 3]


def test_a_hook_on_a_tensor_between():
    x = leaf()
    h = x * 2
    h.register_hook(lambda g: g * 10)
    h.sum().backward()
    assert x.grad.tolist() == [20, 20, 20]


def test_a_leaf_hook_fires_once_with_the_whole_gradient():
    x, seen = leaf(), []
    x.register_hook(lambda g: seen.append(g.tolist()))
    (x * 2 + x * 3).sum().backward()
    assert seen == [[5, 5, 5]]


def test_a_hook_may_write_the_gradient_in_place():
    x = leaf()
    h = x * 2

    def triple(g):
        g.mul_(3)

    h.register_hook(triple)
    (h * h).sum().backward()
    assert x.grad.tolist() == [24, 48, 72]


def test_hooks_are_removed_by_their_handle():
    x = leaf()
    handle = x.register_hook(lambda g: g * 2)
    handle.remove()
    handle.remove()
    with x.register_hook(lambda g: g * 10):
        x.sum().backward()
    x.sum().backward()
    assert x.grad.tolist() == [11, 11, 11]


def test_a_hook_may_remove_itself_or_add_others():
    x, seen = leaf(), []

    def once(g):
        seen.append("once")
        handle.remove()
        x.register_hook(lambda g: seen.append("later"))

    handle = x.register_hook(once)
    x.sum().backward()
    assert seen == ["once"]
    x.sum().backward()
    assert seen == ["once", "later"]


def test_hooks_need_a_gradient():
    with pytest.raises(
        RuntimeError, match="cannot register a hook on a tensor that doesn't require gradient"
    ):
        torch.ones(3).register_hook(print)


@pytest.mark.parametrize(
    "returned, error, text",
    [
        (3, TypeError, "expected Variable, but hook returned 'int'"),
        ("shape", RuntimeError, "hook 'bad' has changed the size of value"),
        (
            "dtype",
            RuntimeError,
            "hook 'bad' has changed the type of value "
            r"\(was torch.FloatTensor got torch.DoubleTensor\)",
        ),
    ],
)
@pytest.mark.cpu_only
def test_what_a_hook_returns_is_checked(returned, error, text):
    def bad(g):
        return {"shape": torch.ones(2), "dtype": g.double()}.get(returned, returned)

    x = leaf()
    x.register_hook(bad)
    with pytest.raises(error, match=text):
        x.sum().backward()


def test_an_error_in_a_hook_passes_through():
    def fail(g):
        raise KeyError("mine")

    x = leaf()
    x.register_hook(fail)
    with pytest.raises(KeyError, match="mine"):
        x.sum().backward()


def test_hooks_under_create_graph_are_differentiated():
    x, seen = leaf(), []

    def double(g):
        seen.append((g.requires_grad, torch.is_grad_enabled()))
        return g * x

    x.register_hook(double)
    (g,) = grad((x**3).sum(), x, create_graph=True)
    assert g.tolist() == [3, 24, 81] and grad(g.sum(), x, create_graph=True)[0] is not None
    (x**2).sum().backward()
    assert seen[0] == (True, True) and seen[-1] == (False, False)


def test_the_gradient_asked_for_is_after_the_hooks_of_its_tensor():
    x = leaf()
    h = x * 2
    x.register_hook(lambda g: g * 10)
    h.register_hook(lambda g: g * 100)
    assert grad((h * h).sum(), x)[0].tolist() == [8000, 16000, 24000]
    h = x * 2
    h.register_hook(lambda g: g * 100)
    assert grad((h * h).sum(), h)[0].tolist() == [400, 800, 1200]


def test_the_gradient_of_a_tensor_on_the_way_is_before_its_hooks():
    x = leaf()
    h = x * 2
    h.register_hook(lambda g: g * 100)
    to_h, to_x = grad((h * h).sum(), [h, x])
    assert to_h.tolist() == [4, 8, 12] and to_x.tolist() == [800, 1600, 2400]


def test_a_backward_inside_a_hook():
    x, w = leaf(), leaf()

    def inner(g):
        with torch.enable_grad():
            (w * 2).sum().backward()

    x.register_hook(inner)
    x.sum().backward()
    assert w.grad.tolist() == [2, 2, 2] and x.grad.tolist() == [1, 1, 1]


def test_hooks_stay_with_the_history_they_were_put_on():
    x = leaf()
    h = x * 1
    h.register_hook(lambda g: g * 10)  # the gradient before the write
    h.mul_(2)
    h.register_hook(lambda g: g + 1)  # and after it
    h.sum().backward()
    assert x.grad.tolist() == [40, 40, 40]
    x.grad, h = None, x * 1
    h.register_hook(lambda g: g * 10)
    h[0] = 5.0
    h.sum().backward()
    assert x.grad.tolist() == [0, 10, 10]


def test_hooks_on_one_of_several_results():
    x = torch.ones(2, 3, requires_grad=True)
    a, b = x.unbind()
    a.register_hook(lambda g: g * 5)
    (a + b * 2).sum().backward()
    assert x.grad.tolist() == [[5, 5, 5], [2, 2, 2]]


# Post-accumulate hooks ---------------------------------------------------------------------------


def test_post_accumulate_hooks_fire_after_the_sum():
    x, seen = leaf(), []
    x.register_post_accumulate_grad_hook(lambda p: seen.append((p is x, p.grad.tolist())))
    (x * 2 + x).sum().backward()
    x.sum().backward()
    assert seen == [(True, [3, 3, 3]), (True, [4, 4, 4])]


def test_post_accumulate_hooks_fire_during_backward():
    x, w, log = leaf(), leaf(), []
    x.register_post_accumulate_grad_hook(lambda p: log.append("x"))
    w.register_post_accumulate_grad_hook(lambda p: log.append("w"))
    h = x * 2
    h.register_hook(lambda g: log.append("h"))
    (h * w).sum().backward()
    assert log == ["w", "h", "x"]


def test_a_post_accumulate_hook_may_step_and_clear():
    x = leaf()

    def step(p):
        with torch.no_grad():
            p -= p.grad * 0.5
        p.grad = None

    x.register_post_accumulate_grad_hook(step)
    (x * 2).sum().backward()
    assert x.tolist() == [0, 1, 2] and x.grad is None


def test_post_accumulate_hooks_are_for_leaves():
    with pytest.raises(
        RuntimeError, match="post accumulate grad hooks cannot be registered on non-leaf tensors"
    ):
        (leaf() * 2).register_post_accumulate_grad_hook(print)
    with pytest.raises(
        RuntimeError, match="cannot register a hook on a tensor that doesn't require gradient"
    ):
        torch.ones(2).register_post_accumulate_grad_hook(print)


def test_post_accumulate_hooks_return_nothing():
    x = leaf()
    x.register_post_accumulate_grad_hook(lambda p: p.grad)
    with pytest.raises(RuntimeError, match="Tensor post accumulate grad hooks should return None"):
        x.sum().backward()


def test_post_accumulate_hooks_stay_silent_in_grad():
    x, seen = leaf(), []
    x.register_post_accumulate_grad_hook(lambda p: seen.append(1))
    grad(x.sum(), x)
    assert seen == []
    handle = x.register_post_accumulate_grad_hook(lambda p: seen.append(2))
    handle.remove()
    x.sum().backward()
    assert seen == [1]


# Node hooks --------------------------------------------------------------------------------------


def test_node_hooks_see_both_sides():
    x, w, seen = leaf(), leaf(4.0, 5.0, 6.0), []
    y = x * w
    y.grad_fn.register_hook(
        lambda inputs, outputs: seen.append(
            ([g.tolist() for g in inputs], [g.tolist() for g in outputs])
        )
    )
    y.sum().backward()
    assert seen == [([[4, 5, 6], [1, 2, 3]], [[1, 1, 1]])]


def test_node_hooks_replace_gradients():
    x, w = leaf(), leaf()
    y = x * w
    y.grad_fn.register_prehook(lambda outputs: (outputs[0] * 10,))
    y.grad_fn.register_hook(lambda inputs, outputs: (inputs[0] * 2, None))
    y.sum().backward()
    assert x.grad.tolist() == [20, 40, 60] and w.grad is None


@pytest.mark.parametrize(
    "hook, error, text",
    [
        (lambda i, o: i[0], TypeError, "expected tuple, but hook returned 'Tensor'"),
        (
            lambda i, o: (i[0],),
            RuntimeError,
            r"hook '<lambda>' has returned an incorrect number of values "
            r"\(got 1, but expected 2\)",
        ),
        (lambda i, o: (i[0][:1], i[1]), RuntimeError, "has changed the size of value"),
    ],
)
def test_what_node_hooks_return_is_checked(hook, error, text):
    y = leaf() * leaf()
    y.grad_fn.register_hook(hook)
    with pytest.raises(error, match=text):
        y.sum().backward()


def test_what_node_prehooks_return_is_checked():
    y = leaf().exp()
    y.grad_fn.register_prehook(lambda o: o[0])
    with pytest.raises(TypeError, match="expected tuple, but hook returned 'Tensor'"):
        y.sum().backward()
    y = leaf().exp()
    y.grad_fn.register_prehook(lambda o: (o[0], o[0]))
    with pytest.raises(RuntimeError, match=r"incorrect number of values \(got 2, but expected 1\)"):
        y.sum().backward()


def test_the_order_of_all_hooks():
    x, log = leaf(), []
    y = x.exp()
    y.grad_fn.register_hook(lambda i, o: log.append("node"))
    y.grad_fn.register_prehook(lambda o: log.append("prehook"))
    y.register_hook(lambda g: log.append("tensor"))
    accumulator = y.grad_fn.next_functions[0][0]
    accumulator.register_hook(lambda i, o: log.append(("leaf node", len(i), len(o))))
    accumulator.register_prehook(lambda o: log.append("leaf prehook"))
    x.register_post_accumulate_grad_hook(lambda p: log.append("leaf accumulated"))
    x.register_hook(lambda g: log.append("leaf tensor"))
    y.sum().backward()
    assert log == [
        "tensor",
        "prehook",
        "node",
        "leaf tensor",
        "leaf prehook",
        "leaf accumulated",
        ("leaf node", 0, 1),
    ]


def test_node_hooks_are_removed():
    x, log = leaf(), []
    y = x.exp()
    handles = [
        y.grad_fn.register_hook(lambda i, o: log.append(1)),
        y.grad_fn.register_prehook(lambda o: log.append(2)),
    ]
    for handle in handles:
        handle.remove()
    y.sum().backward()
    assert log == []


def test_hooks_of_an_accumulator_stay_silent_in_grad():
    x, log = leaf(), []
    y = x * 2
    accumulator = y.grad_fn.next_functions[0][0]
    accumulator.register_prehook(lambda o: log.append("pre"))
    accumulator.register_hook(lambda i, o: log.append("post"))
    assert grad(y.sum(), x)[0].tolist() == [2, 2, 2] and log == []


# retain_grad -------------------------------------------------------------------------------------


def test_retain_grad():
    x = leaf()
    h = x * 2
    assert not h.retains_grad
    h.retain_grad()
    h.retain_grad()
    (h * h).sum().backward()
    assert h.grad.tolist() == [4, 8, 12] and h.retains_grad and not x.retains_grad
    assert not h.grad.requires_grad


def test_retained_gradients_accumulate():
    x = leaf()
    h = x * 2
    h.retain_grad()
    h.sum().backward(retain_graph=True)
    h.sum().backward()
    assert h.grad.tolist() == [2, 2, 2]


def test_retain_grad_of_a_leaf_changes_nothing():
    x = leaf()
    x.retain_grad()
    x.sum().backward()
    assert x.grad.tolist() == [1, 1, 1] and not x.retains_grad
    with pytest.raises(
        RuntimeError, match="can't retain_grad on Tensor that has requires_grad=False"
    ):
        torch.ones(3).retain_grad()


def test_retained_gradients_are_after_the_hooks():
    x = leaf()
    h = x * 2
    h.retain_grad()
    h.register_hook(lambda g: g * 10)
    h.sum().backward()
    assert h.grad.tolist() == [10, 10, 10] and x.grad.tolist() == [20, 20, 20]


def test_retain_grad_follows_in_place_writes():
    x = leaf()
    h = x * 1
    h.retain_grad()
    h.mul_(2)
    h.mul_(5)
    h.sum().backward()
    assert h.grad.tolist() == [1, 1, 1] and x.grad.tolist() == [10, 10, 10] and h.retains_grad


def test_retain_grad_of_a_base_whose_view_is_written():
    x = leaf()
    h = x * 1
    h.retain_grad()
    h[:2].mul_(2)
    (h * 3).sum().backward()
    assert h.grad.tolist() == [3, 3, 3] and x.grad.tolist() == [6, 6, 3]


@pytest.mark.parametrize("write", ["view", "base"])
def test_retain_grad_of_a_view(write):
    x = leaf()
    h = x * 1
    v = h[:2]
    v.retain_grad()
    (v if write == "view" else h).mul_(2)
    (v * 3).sum().backward()
    assert v.grad.tolist() == [3, 3] and x.grad.tolist() == [6, 6, 0]


def test_retain_grad_in_grad_and_under_create_graph():
    x = leaf()
    h = x * x
    h.retain_grad()
    grad((h * h).sum(), x, retain_graph=True)
    assert h.grad.tolist() == [2, 8, 18]
    h.grad = None
    (h * h).sum().backward(create_graph=True)
    assert h.grad.requires_grad and h.grad.tolist() == [2, 8, 18]
