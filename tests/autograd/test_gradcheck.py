"""gradcheck and gradgradcheck: they pass what is right and catch what is wrong."""

from __future__ import annotations

import pytest

import gpugrad as torch
from gpugrad.autograd import Function, gradcheck, gradgradcheck

pytestmark = pytest.mark.usefixtures("on_each_device")


def exact(*values):
    return torch.tensor(values or (0.5, 1.5, 2.5), dtype=torch.float64, requires_grad=True)


def function(forward, backward):
    return type(
        "Made", (Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    ).apply


def square(ctx, a):
    ctx.save_for_backward(a)
    return a * a


right = function(square, lambda ctx, g: 2 * g * ctx.saved_tensors[0])
wrong = function(square, lambda ctx, g: 3 * g * ctx.saved_tensors[0])
wrong_second = function(square, lambda ctx, g: 2 * g * ctx.saved_tensors[0].detach())


@pytest.mark.parametrize(
    "fn, inputs",
    [
        (lambda a: a * a, (exact(),)),
        (right, (exact(),)),
        (lambda a, b: a @ b, (exact(), exact(1.0, 2.0, 3.0))),
        (lambda a: (a.sum(), a * 2), (exact(),)),
        (lambda a: a.max(0), (exact(),)),
        (lambda a, k, b: a * k * b, (exact(), 2.0, torch.ones(3, dtype=torch.float64))),
        (lambda a: (a * 1).mul_(a), (exact(),)),
        (lambda a: a * 2, (torch.ones(0, dtype=torch.float64, requires_grad=True),)),
        (lambda a: a, (torch.tensor(0.5, dtype=torch.float64, requires_grad=True),)),
    ],
)
def test_right_gradients_pass(fn, inputs):
    assert gradcheck(fn, inputs) is True
    assert gradcheck(fn, inputs, fast_mode=True) is True


def test_a_single_tensor_as_input():
    assert gradcheck(lambda a: a.exp(), exact()) and gradgradcheck(lambda a: a.exp(), exact())


@pytest.mark.parametrize("fast_mode", [False, True])
@pytest.mark.cpu_only
def test_a_wrong_gradient_is_caught(fast_mode):
    assert gradcheck(wrong, exact(), raise_exception=False, fast_mode=fast_mode) is False
    with pytest.raises(RuntimeError):
        gradcheck(wrong, exact(), fast_mode=fast_mode)


def test_the_error_says_where():
    with pytest.raises(
        RuntimeError, match="Jacobian mismatch for output 0 with respect to input 0"
    ):
        gradcheck(wrong, exact())
    with pytest.raises(
        RuntimeError, match="Jacobian mismatch for output 1 with respect to input 0"
    ):
        gradcheck(lambda a: (a * 2, wrong(a)), exact())


def test_a_wrong_gradient_of_one_input_is_caught():
    fn = function(
        lambda ctx, a, b: (ctx.save_for_backward(a, b), a * b)[1],
        lambda ctx, g: (g * ctx.saved_tensors[1], g),
    )
    assert gradcheck(lambda a: fn(a, torch.ones(3, dtype=torch.float64)), exact())
    assert not gradcheck(fn, (exact(), exact(1.0, 2.0, 3.0)), raise_exception=False)


def test_a_missing_gradient_is_caught():
    assert not gradcheck(lambda a: a.detach() * 2 + a * 0, exact(), raise_exception=False)
    assert not gradcheck(lambda a: a.detach() * 2, exact(), raise_exception=False)
    assert gradcheck(lambda a: torch.ones(3, dtype=torch.float64), exact())


def test_a_wrong_second_derivative_is_caught():
    assert gradcheck(wrong_second, exact())
    assert gradgradcheck(wrong_second, exact(), raise_exception=False) is False
    assert gradgradcheck(right, exact()) is True


def test_second_derivatives_of_linear_functions():
    assert gradgradcheck(lambda a: a * 2, exact())


def test_grad_outputs_of_gradgradcheck():
    assert gradgradcheck(lambda a: a**3, (exact(),), (exact(1.0, 1.0, 1.0),))


def test_a_backward_that_changes_is_caught():
    runs = []

    def backward(ctx, g):
        runs.append(1)
        return g * (2 + 1e-7 * len(runs))

    fn = function(lambda ctx, a: a * 2, backward)
    with pytest.raises(RuntimeError):
        gradcheck(fn, exact(), check_undefined_grad=False)


def test_missing_output_gradients_are_checked():
    def forward(ctx, a):
        ctx.set_materialize_grads(False)
        return a * 2, a * 3

    def backward(ctx, g, k):
        return (1 if g is None else g) * 2 + (1 if k is None else k) * 3

    fn = function(forward, backward)
    assert not gradcheck(fn, exact(), raise_exception=False)


def test_dtypes_of_gradients_are_checked_when_asked():
    def backward(ctx, g):
        return (g * 2).to(torch.float64)

    assert gradcheck(function(lambda ctx, a: a * 2, backward), exact(), check_grad_dtypes=True)


def test_inputs_are_as_before():
    x = exact()
    gradcheck(lambda a: a * a, x)
    gradgradcheck(lambda a: a * a, x)
    assert x.tolist() == [0.5, 1.5, 2.5] and x.grad is None


def test_inputs_that_are_refused():
    with pytest.raises(
        ValueError, match="gradcheck expects at least one input tensor to require gradient"
    ):
        gradcheck(lambda a: a * 2, torch.ones(3, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="The 0th input has a dimension with stride 0"):
        gradcheck(lambda a: a * 2, torch.ones(1, dtype=torch.float64).expand(3).requires_grad_())


def test_single_precision_gets_a_warning():
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    with pytest.warns(
        UserWarning, match="Input #0 requires gradient and is not a double precision"
    ):
        assert gradcheck(lambda a: a * 2, x, eps=1e-2, atol=1e-2)
    with pytest.warns(UserWarning, match="not a double precision"):
        assert not gradcheck(wrong, x, eps=1e-2, atol=1e-2, raise_exception=False)


@pytest.mark.parametrize("fast_mode", [False, True])
@pytest.mark.cpu_only
def test_outputs_without_gradient_before_those_with_one(fast_mode):
    def fn(a):
        return a.detach() * 5, torch.tensor([1, 2]), a * 2

    assert gradcheck(fn, exact(), fast_mode=fast_mode)
    assert not gradcheck(
        lambda a: (a.detach(), wrong(a)), exact(), fast_mode=fast_mode, raise_exception=False
    )
