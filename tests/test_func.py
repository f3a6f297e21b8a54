"""torch.func and autograd.functional: functions whose derivatives are known."""
from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

import gpugrad as torch
from gpugrad._tensor import Tensor
from gpugrad.autograd import functional
from gpugrad.func import (
    functional_call,
    grad,
    grad_and_value,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    stack_module_state,
    vjp,
    vmap,
)
from gpugrad.func.trees import broadcast, flatten, unflatten


def close(x: Any, y: Any) -> None:
    assert torch.allclose(x, torch.as_tensor(y, dtype=x.dtype)), f"{x} and {y}"


X, V = torch.tensor([1.0, 2.0, -3.0]), torch.tensor([0.5, -1.0, 2.0])


def cube(x: Tensor) -> Tensor:
    return (x ** 3).sum()


def test_gradients_of_gradients() -> None:
    f = torch.sin
    want = [torch.cos, lambda x: -torch.sin(x), lambda x: -torch.cos(x)]
    x: Any = torch.tensor(0.7)
    for derivative in want:
        f = grad(f)
        close(f(x), derivative(x))
        assert not f(x).requires_grad


def test_a_level_is_not_mixed_up_with_another() -> None:
    # d/dx (x * d/dy (x + y)) = 1, where mixing up x and y would give 2
    close(grad(lambda x: x * grad(lambda y: x + y)(torch.tensor(1.0)))(torch.tensor(3.0)), 1)
    close(grad(lambda x: grad(lambda y: x ** 2 * y ** 3)(x))(torch.tensor(2.0)), 96)


def test_the_graph_outside_goes_on_and_no_other() -> None:
    leaf = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    g = grad(lambda x: (x ** 2 * leaf).sum())(X)
    g.sum().backward()
    assert leaf.grad is not None
    close(leaf.grad, 2 * X)
    assert not grad(cube)(X).requires_grad and X.grad is None and not X.requires_grad
    product = vjp(lambda x: x ** 3, X)[1]
    assert not grad(lambda v: product(v)[0].sum())(V).requires_grad
    with torch.no_grad():
        assert not grad(cube)(leaf).requires_grad


def test_in_inference_mode_gradients_are_right_too() -> None:
    with torch.inference_mode():
        close(grad(cube)(X), 3 * X ** 2)
        close(grad(cube)(X * 2), 12 * X ** 2)
        close(jvp(cube, (X,), (V,))[1], (3 * X ** 2 * V).sum())


def test_products_and_matrices_agree() -> None:
    def f(x: Tensor) -> Tensor:
        return torch.stack([x.prod(), (x * x).sum(), x[0].exp()])
    J = jacrev(f)(X)
    close(jacfwd(f)(X), J)
    close(vjp(f, X)[1](V)[0], V @ J)
    close(jvp(f, (X,), (V,))[1], J @ V)
    close(linearize(f, X)[1](V), J @ V)
    close(functional.jacobian(f, X), J)
    close(functional.jvp(f, X, V)[1], J @ V)
    close(functional.vjp(f, X, V)[1], V @ J)
    close(vmap(lambda v: vjp(f, X)[1](v)[0])(torch.eye(3)), J)


def test_second_derivatives() -> None:
    close(hessian(cube)(X), torch.diag(6 * X))
    close(jacfwd(jacrev(cube))(X), torch.diag(6 * X))
    close(functional.hessian(cube, X), torch.diag(6 * X))
    close(functional.hvp(cube, X, V)[1], 6 * X * V)
    close(functional.vhp(cube, X, V)[1], 6 * X * V)


def test_structures() -> None:
    tree = {"w": X, "b": [V, (X, V)]}
    g, (value, aux) = grad_and_value(
        lambda p: ((p["w"] * p["b"][0]).sum(), {"w": p["w"]}), has_aux=True)(tree)
    close(g["w"], V)
    close(g["b"][1][0], 0 * X)
    close(value, (X * V).sum())
    assert not aux["w"].requires_grad
    leaves, structure = flatten(tree)
    assert flatten(unflatten(leaves, structure))[1] == structure and len(leaves) == 4
    assert broadcast({"w": 0, "b": None}, structure) == [0, None, None, None]
    assert broadcast([0, 1], structure) is None


def test_gradients_for_each_sample() -> None:
    w, xs = torch.randn(4), torch.randn(5, 4)

    def loss(w: Tensor, x: Tensor) -> Tensor:
        return (w * x).sum() ** 2
    close(vmap(grad(loss), in_dims=(None, 0))(w, xs), 2 * (xs @ w)[:, None] * xs)
    close(grad(lambda w: vmap(loss, (None, 0))(w, xs).sum())(w),
          (2 * (xs @ w)[:, None] * xs).sum(0))


def test_vmap_of_dims_and_random_numbers() -> None:
    a = torch.arange(6).reshape(2, 3)
    assert vmap(lambda x: x * 2, in_dims=1, out_dims=1)(a).tolist() == (a * 2).tolist()
    assert vmap(vmap(lambda x, y: x + y, (None, 0)), (0, None))(a[0], a[1]).shape == (3, 3)
    assert vmap(lambda x: x.sum())(torch.empty(0, 3)).shape == (0,)
    with pytest.raises(RuntimeError, match="random operation while in randomness error mode"):
        vmap(lambda x: torch.rand(()))(a)
    same = vmap(lambda x: torch.rand(()), randomness="same")(a)
    assert same[0] == same[1]
    other = vmap(lambda x: torch.rand(()), randomness="different")(a)
    assert other[0] != other[1]
    assert torch.vmap is vmap


def test_a_module_with_other_parameters() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    new = {"0.weight": torch.ones(2, 3), "0.bias": torch.tensor([0.0, 5.0])}
    close(functional_call(net, new, X), [0.0, 5.0])
    g = grad(lambda p: functional_call(net, p, (X,)).sum())(new)
    close(g["0.bias"], [0.0, 1.0])
    for k, v in net.state_dict().items():
        assert (v == before[k]).all()
    nets = [torch.nn.Linear(3, 2) for _ in range(4)]
    params, buffers = stack_module_state(nets)
    out = vmap(lambda p: functional_call(nets[0], p, X))(params)
    close(out, torch.stack([m(X) for m in nets]))
    assert buffers == {}


def test_an_error_inside_puts_the_parameters_back() -> None:
    net = torch.nn.Linear(3, 2)
    weight = net.weight
    with pytest.raises(RuntimeError):
        functional_call(net, {"weight": torch.ones(7, 7)}, X)
    assert net.weight is weight


def test_strict_mode_wants_everything_to_depend_on_the_inputs() -> None:
    with pytest.raises(RuntimeError, match="independent of input 1"):
        functional.jacobian(lambda x, y: x * 2, (X, V), strict=True)
    assert functional.jacobian(lambda x, y: x * 2, (X, V))[1].abs().sum() == 0


def test_create_graph() -> None:
    x = X.clone().requires_grad_()
    assert functional.hessian(cube, x, create_graph=True).sum().requires_grad
    assert not functional.hessian(cube, x).requires_grad
    (g,) = torch.autograd.grad(functional.jacobian(lambda x: x ** 3, x, create_graph=True).sum(), x)
    close(g, 6 * X)


def test_gradients_of_a_batch_of_vectors() -> None:
    x = X.clone().requires_grad_()
    (rows,) = torch.autograd.grad(x ** 2, x, torch.eye(3), is_grads_batched=True)
    close(rows, torch.diag(2 * X))
    with pytest.raises(RuntimeError, match="is_grads_batched"):
        torch.autograd.grad(x ** 2, x, is_grads_batched=True)


def test_forward_mode_is_refused() -> None:
    with pytest.raises(NotImplementedError, match=r"torch\.func\.jvp"):
        torch.autograd.forward_ad.make_dual(X, V)


def test_what_a_level_made_is_freed_without_the_garbage_collector() -> None:
    made = []

    def f(x: Tensor) -> Tensor:
        y = x ** 2
        made.append(weakref.ref(y))
        return y.sum()
    gc.collect()
    gc.disable()
    try:
        grad(f)(X)
        jacrev(f)(X)
        jvp(f, (X,), (V,))
        hessian(f)(X)
        functional.hessian(f, X)
        assert [r() for r in made] == [None] * len(made)
    finally:
        gc.enable()
