"""autograd.Function and memory: inputs that are given back, views, inputs changed in place."""

from __future__ import annotations

import gc
import weakref

import pytest

import gpugrad as torch
from gpugrad.autograd import Function, grad, gradcheck, gradgradcheck

pytestmark = pytest.mark.usefixtures("on_each_device")


def leaf(*values):
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


def make(forward, backward):
    """A Function of these two."""
    body = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type("Made", (Function,), body)


# Inputs as outputs -------------------------------------------------------------------------------


def test_an_input_that_is_returned_is_another_tensor():
    fn = make(lambda ctx, a: a, lambda ctx, g: g * 10)
    x = leaf()
    y = fn.apply(x)
    assert (
        y is not x
        and y.grad_fn.name() == "MadeBackward"
        and x.is_leaf
        and y.data_ptr() == x.data_ptr()
    )
    y.sum().backward()
    assert x.grad.tolist() == [10, 10, 10]
    h = x * 2
    fn.apply(h).sum().backward()
    assert h.grad_fn.name() == "MulBackward0" and x.grad.tolist() == [30, 30, 30]
    plain = torch.ones(3)
    assert fn.apply(plain) is not plain


def test_an_input_without_gradient_that_is_returned():
    fn = make(lambda ctx, a, b: a, lambda ctx, g: (None, g * 10))
    x, w = torch.ones(3), leaf()
    y = fn.apply(x, w)
    assert y.requires_grad and not x.requires_grad
    y.sum().backward()
    assert w.grad.tolist() == [10, 10, 10]


def test_views_that_are_returned_are_not_written():
    for forward in (lambda ctx, a: a, lambda ctx, a: a[:2]):
        fn = make(forward, lambda ctx, g: g)
        y = fn.apply(leaf() * 1)
        assert y._is_view()
        with pytest.raises(
            RuntimeError,
            match=r"Output 0 of Made is a view and is being modified inplace. This view was "
            r"created inside a custom Function",
        ):
            y.add_(1)


def test_a_write_to_the_base_of_a_returned_view_is_noticed():
    fn = make(lambda ctx, a: a[:2], lambda ctx, g: torch.cat([g, torch.zeros(1)]))
    x = leaf()
    h = x * 1
    y = fn.apply(h)
    assert grad(y.sum(), x, retain_graph=True)[0].tolist() == [1, 1, 0]
    h.mul_(2)
    with pytest.raises(
        RuntimeError,
        match="Output 0 of Made is a view and its base or another view of its base has been "
        "modified inplace",
    ):
        grad(y.sum(), x)


def test_outputs_may_be_written():
    x = leaf()
    y = make(lambda ctx, a: a * a, lambda ctx, g: g * 2 * x.detach()).apply(x)
    y.mul_(2)
    y[0] = 0.0
    y.sum().backward()
    assert x.grad.tolist() == [0, 8, 12]


# mark_dirty --------------------------------------------------------------------------------------


def double_(ctx, a):
    a.mul_(2)
    ctx.mark_dirty(a)
    return a


Double = make(double_, lambda ctx, g: g * 2)


def test_a_dirty_input():
    x = leaf()
    h = x * 1
    before = h._version
    y = Double.apply(h)
    assert y is h and h.grad_fn.name() == "MadeBackward" and h._version > before
    y.sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


def test_a_dirty_input_that_was_saved_before():
    h = leaf() * 1
    z = h * h
    Double.apply(h)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_a_dirty_leaf_is_refused():
    with pytest.raises(
        RuntimeError, match=r"a leaf Variable that requires grad .* in an in-place operation"
    ):
        Double.apply(leaf())
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
        Double.apply(leaf()[:2])


def test_a_dirty_tensor_without_history():
    x, w = torch.ones(3), leaf()
    assert Double.apply(x) is x and not x.requires_grad

    def forward(ctx, a, b):
        a.mul_(b)
        ctx.mark_dirty(a)
        return a

    y = make(forward, lambda ctx, g: (None, g * 2)).apply(x, w)
    assert y is x and x.requires_grad
    assert grad(x.sum(), w)[0].tolist() == [2, 2, 2]


def test_a_dirty_view():
    x = leaf()
    h = x * 1
    v = h[:2]
    assert Double.apply(v) is v
    h.sum().backward()
    assert type(h.grad_fn).__name__ == "CopySlices" and x.grad.tolist() == [2, 2, 1]


def test_a_dirty_input_that_is_saved():
    def forward(ctx, a):
        a.exp_()
        ctx.mark_dirty(a)
        ctx.save_for_backward(a)
        return a

    fn = make(forward, lambda ctx, g: g * ctx.saved_tensors[0])
    x = torch.tensor([0.5, 1.5], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda a: fn.apply(a * 1), x) and gradgradcheck(lambda a: fn.apply(a * 1), x)


def test_one_of_several_outputs_is_dirty():
    def forward(ctx, a, b):
        b.mul_(2)
        ctx.mark_dirty(b)
        return a * 3, b

    fn = make(forward, lambda ctx, g, k: (g * 3, k * 2))
    x, w = leaf(), leaf()
    h = w * 1
    p, q = fn.apply(x, h)
    assert q is h
    (p.sum() + q.sum()).backward()
    assert x.grad.tolist() == [3, 3, 3] and w.grad.tolist() == [2, 2, 2]


def test_dirty_inputs_that_are_refused():
    fn = make(lambda ctx, a: (double_(ctx, a), a * 1)[1], lambda ctx, g: g)
    with pytest.raises(
        RuntimeError,
        match="Some elements marked as dirty during the forward method were not returned",
    ):
        fn.apply(leaf() * 1)
    fn = make(lambda ctx, a: (double_(ctx, a), a * 3), lambda ctx, g, k: g)
    with pytest.raises(
        RuntimeError,
        match="modifies inplace an input that is a view of another Tensor, your Function "
        "cannot return more than one Tensor",
    ):
        fn.apply((leaf() * 1)[:2])


def test_dirty_inputs_are_freed_without_the_collector():
    gc.collect()
    gc.disable()
    try:
        for make_output in (lambda x: Double.apply(x * 1), lambda x: Double.apply((x * 1)[:2])):
            x = leaf()
            y = make_output(x)
            result, memory = weakref.ref(y), weakref.ref(x)
            del y, x
            assert result() is None and memory() is None
    finally:
        gc.enable()
