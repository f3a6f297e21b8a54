"""Graphs that cross devices: parts of them are on the CPU, parts on a CUDA device."""

from __future__ import annotations

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.autograd import grad

pytestmark = pytest.mark.gpu


def leaf(*values):
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


def there(x):
    return x.to("cuda:0")


def test_gradients_come_back():
    x = leaf()
    y = there(x)
    assert str(y.device) == "cuda:0" and y.grad_fn.name() == "ToCopyBackward0"
    (y * y).sum().backward()
    assert (
        x.grad.tolist() == [2, 4, 6]
        and x.grad.device.type == "cpu"
        and type(x.grad._a) is np.ndarray
    )


def test_there_and_back_again():
    x = leaf()
    (there(x) * 2).cpu().mul(x).sum().backward()
    assert x.grad.tolist() == [4, 8, 12]


def test_leaves_on_the_device():
    x = there(torch.ones(3)).requires_grad_()
    (x * 2).sum().backward()
    (x * 2).sum().backward()
    assert (
        x.grad.device == x.device
        and x.grad.tolist() == [4, 4, 4]
        and not isinstance(x.grad._a, np.ndarray)
    )


def test_second_derivatives_across_devices():
    x = leaf()
    (g,) = grad((there(x) ** 3).sum(), x, create_graph=True)
    assert g.device.type == "cpu" and grad(g.sum(), x)[0].tolist() == [6, 12, 18]


def test_moving_is_not_recorded_in_no_grad():
    x = leaf()
    with torch.no_grad():
        assert not there(x).requires_grad
    with torch.inference_mode():
        y = there(x)
    assert not y.requires_grad and y.is_inference()


def test_numbers_without_dims_from_the_cpu():
    x, s = leaf(), torch.tensor(2.0, requires_grad=True)
    (there(x) * s).sum().backward()
    assert x.grad.tolist() == [2, 2, 2] and s.grad.item() == 6 and s.grad.device.type == "cpu"
    y = there(leaf()) * 1
    y.mul_(s)
    assert str(y.device) == "cuda:0" and y.tolist() == [2, 4, 6]


def test_other_mixtures_are_refused():
    x = leaf()
    for mix in (
        lambda: there(x) + x,
        lambda: x * there(x),
        lambda: torch.cat([x, there(x)]),
        lambda: (there(x) * 1).add_(x),
    ):
        with pytest.raises(
            RuntimeError,
            match="Expected all tensors to be on the same device, but found at least two devices",
        ):
            mix()


def test_gradients_on_the_wrong_device_are_refused():
    x = leaf()
    with pytest.raises(RuntimeError, match="on the same device"):
        (x * 2).backward(there(torch.ones(3)))
    with pytest.raises(
        RuntimeError,
        match="attempting to assign a gradient with device 'cuda:0' to a tensor with device 'cpu'",
    ):
        x.grad = there(torch.ones(3))
    x.register_hook(there)
    with pytest.raises(
        RuntimeError,
        match=r"has changed the type of value .was torch.FloatTensor got torch.cuda.FloatTensor.",
    ):
        (x * 2).sum().backward()


def test_hooks_see_gradients_where_they_are():
    x, log = leaf(), []
    y = there(x)
    y.register_hook(lambda g: log.append(str(g.device)))
    y.grad_fn.register_hook(
        lambda inputs, outputs: log.append([str(g.device) for g in (*inputs, *outputs)])
    )
    x.register_hook(lambda g: log.append(str(g.device)))
    (y * 2).sum().backward()
    assert log == ["cuda:0", ["cpu", "cuda:0"], "cpu"]


def test_a_leaf_whose_data_moved():
    x = leaf()
    (x * 2).sum().backward()
    old = (x * 2).sum()  # its accumulator is on the CPU
    x.grad = None
    x.data = there(torch.ones(3))
    (x * 3).sum().backward()
    assert str(x.device) == str(x.grad.device) == "cuda:0" and x.grad.tolist() == [3, 3, 3]
    del old


def test_stale_values_name_the_device_s_type():
    x = there(leaf())
    y = x * 1
    z = (y * y).sum()
    y.add_(1)
    with pytest.raises(
        RuntimeError, match=r"\[torch.cuda.FloatTensor \[3\]\], which is output 0 of"
    ):
        z.backward()


def test_functions_on_the_device():
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            ctx.save_for_backward(a)
            return a * a

        @staticmethod
        def backward(ctx, g):
            (a,) = ctx.saved_tensors
            assert str(a.device) == str(g.device) == "cuda:0"
            return 2 * a * g

    x = leaf()
    Square.apply(there(x)).sum().backward()
    assert x.grad.tolist() == [2, 4, 6]


def test_views_and_writes_on_the_device():
    x = leaf()
    y = there(x) * 1
    y[:2].mul_(5)
    y[0] = 1.0
    y.sum().backward()
    assert x.grad.tolist() == [0, 5, 1]
