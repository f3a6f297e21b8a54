"""torch.func and torch.autograd.functional, against torch.

A case is a line of code, run with both libraries. In it are the names of torch.func, AF for
torch.autograd.functional, t for the library, and some tensors. Compared are structure, values, what
requires grad, and errors: the exception's type, and how its text begins.
"""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import gpugrad
import gpugrad.func
import gpugrad.nn

torch = pytest.importorskip("torch")

NAMES = ("grad grad_and_value vjp jvp jacrev jacfwd hessian functional_call linearize "
         "stack_module_state vmap functionalize")

TRANSFORMS = """
grad(lambda x: x.sum())(x)
grad(lambda x: (x.sin() * x).sum())(x)
grad(lambda x: x * 2)(x)
grad(lambda x: 3)(x)
grad(lambda x: (x.sum(),))(x)
grad(lambda x: x.sum(), argnums=3)(x)
grad(lambda x: x.sum(), argnums=(0, 0))(x)
grad(lambda x: x.sum(), argnums='a')(x)
grad(lambda x, y: (x * y * y).sum(), argnums=1)(x, y)
grad(lambda x, y: (x * y * y).sum(), argnums=(1, 0))(x, y)
grad(lambda x, y: (x * y * y).sum(), argnums=-1)(x, y)
grad(lambda x, p=1: (x ** p).sum())(x, p=3)
grad(lambda x: x.sum(), has_aux=True)(x)
grad(lambda x: (x.sum(), 1), has_aux=True)(x)
grad(lambda x: (x.sum(), x), has_aux=True)(x)
grad(lambda x: (x.sum(), {'a': x * 2}), has_aux=True)(x)
grad(lambda x: s)(x)
grad(lambda x: x)(s)
grad(lambda d: (d['a'] * d['b']).sum() * 2)({'a': x, 'b': y})
grad(lambda d: (d[0] * d[1][0]).sum())([x, (y, x)])
grad(lambda x: x.sum())(i)
grad(lambda x: x.sum())(3.)
grad(lambda x: x.long().sum())(x)
grad_and_value(lambda x: (x ** 2).sum())(x)
grad_and_value(lambda x: ((x ** 2).sum(), x), has_aux=True)(x)
grad(grad(lambda x: x ** 4))(s)
grad(grad(grad(lambda x: x.sin())))(s)
grad(lambda x: x * grad(lambda y: x * y)(s))(s)
grad(lambda x: grad(lambda y: x ** 2 * y ** 3)(x))(s)
grad(lambda x: grad(lambda y: x * 1)(x))(s)
grad(lambda x: (x * leaf).sum())(x)
grad(lambda x: (x * leaf ** 2).sum())(leaf)
t.autograd.grad(grad(lambda x: (x ** 2 * leaf).sum())(x).sum(), leaf)
grad(lambda x: (x ** 2).sum())(leaf)
grad(lambda x: (t.no_grad()(lambda: x * 2)() * x).sum())(x)
t.no_grad()(lambda: grad(lambda x: (x ** 2).sum())(leaf))()
vjp(lambda x: x * 2, x)[0]
vjp(lambda x: x * 2, x)[1](x)
vjp(lambda x: (x * 2, x), x)[1]((x, x))
vjp(lambda x: (x * 2, x), x)[1](x, x)
vjp(lambda x: (x * 2, x), x)[1](x)
vjp(lambda x: x * 2, x)[1](t.ones(3))
vjp(lambda x, y: x * y, x, y)[1](x)
vjp(lambda x: {'a': x}, x)[1]({'a': x})
vjp(lambda x: 1, x)
vjp(lambda x: (x, 1), x, has_aux=True)
vjp(lambda x: (x * 3, y), x, has_aux=True)[2]
[f(y) for f in [vjp(lambda x: x.exp(), x)[1]] for _ in (1, 2)]
grad(lambda v: vjp(lambda x: x ** 3, x)[1](v)[0].sum())(y)
grad(lambda x: vjp(lambda z: z ** 3, x)[1](y)[0].sum())(x)
jvp(lambda x: x * 2, x, x)
jvp(lambda x: x.sin(), (x,), (y,))
jvp(lambda x: x * 2, (x,), x)
jvp(lambda x: x * 2, (x,), (t.ones(3),))
jvp(lambda x: x * 2, (x,), (x, x))
jvp(lambda x: 1, (x,), (x,))
jvp(lambda x: (x ** 2, x), (x,), (y,), has_aux=True)
jvp(lambda x, y: (x * y, x), (x, y), (y, x))
jvp(lambda x: s, (x,), (x,))
jvp(lambda x: x.floor(), (x,), (x,))
jvp(lambda x: jvp(lambda z: z ** 3, (x,), (y,))[1], (x,), (y,))
jvp(grad(lambda x: (x ** 3).sum()), (x,), (y,))
grad(lambda x: jvp(lambda z: z ** 3, (x,), (y,))[1].sum())(x)
linearize(lambda x: x.sin() * y, x)[0]
linearize(lambda x: x.sin() * y, x)[1](y)
jacrev(lambda x: x ** 2)(x)
jacrev(lambda x: (x ** 2, x.sum()))(x)
jacrev(lambda x, y: x * y, argnums=(0, 1))(x, y)
jacrev(lambda x, y: {'a': x * y}, argnums=1)(x, y)
jacrev(lambda d: d['a'] * d['b'])({'a': x, 'b': y})
jacrev(lambda x: A @ x)(x)
jacrev(lambda x: 3)(x)
jacrev(lambda x: x, chunk_size=0)(x)
jacrev(lambda x: (x * 2, x), has_aux=True)(x)
jacrev(lambda x: x.sum())(A)
jacrev(lambda x: x[:0])(x)
jacrev(lambda x: (x * 2)[None])(A)
jacfwd(lambda x: A @ x)(x)
jacfwd(lambda x: (x ** 2, x.sum()))(x)
jacfwd(lambda x, y: x * y, argnums=(0, 1))(x, y)
jacfwd(lambda x: (x * 2, x), has_aux=True)(x)
jacfwd(lambda x: (x ** 2).sum(0))(A)
jacfwd(jacrev(lambda x: (x ** 3).sum()))(x)
jacrev(jacfwd(lambda x: x ** 3))(x)
jacfwd(jacfwd(lambda x: x ** 3))(x)
hessian(lambda x: (x ** 3).sum())(x)
hessian(lambda x, y: (x ** 2 * y).sum(), argnums=(0, 1))(x, y)
hessian(lambda x: (A @ x).sigmoid().prod())(x)
"""

MAPPED = """
vmap(lambda x: x * 2)(x)
vmap(lambda x: x * 2)()
vmap(lambda x: x * 2, in_dims=2.)(x)
vmap(lambda x: x * 2, in_dims=(0, 0))(x)
vmap(lambda x: x * 2, in_dims=3)(x)
vmap(lambda x: x * 2, in_dims=None)(x)
vmap(lambda x: x * 2)(3.)
vmap(lambda x, y: x + y)(x, t.ones(3))
vmap(lambda x: 3)(x)
vmap(lambda x: (x, x), out_dims=(0,))(x)
vmap(lambda x: (x, x), out_dims=(0, None))(x)
vmap(lambda x: (x, x * 2))(A)
vmap(lambda x: {'a': x, 'b': [x * 2]})(A)
vmap(lambda x: (x, x * 2), out_dims=(0, 1))(A)
vmap(lambda x: (x, s), out_dims=(1, None))(A)
vmap(lambda x: s, out_dims=None)(x)
vmap(lambda x: s)(x)
vmap(lambda x: x, out_dims=3)(x)
vmap(lambda x: x, out_dims='a')(x)
vmap(lambda x: x + t.randn(()))(x)
vmap(lambda x: x + t.randn(()) * 0, randomness='different')(x)
vmap(lambda x: x + t.randn(()) * 0, randomness='same')(x)
vmap(lambda x: x * 0 + t.rand(()), randomness='same')(x).diff()
vmap(lambda x: x, randomness='z')(x)
vmap(lambda x: x, chunk_size=0)(x)
vmap(lambda x: x * 2, chunk_size=1)(A)
vmap(lambda x: x * 2)(t.empty(0, 3))
vmap(lambda x: x.sum())(t.empty(0, 3))
vmap(lambda d: d['a'] + d['b'], in_dims=({'a': 0, 'b': None},))({'a': x, 'b': s})
vmap(lambda x: x, in_dims=0, out_dims=1)(A)
vmap(lambda x: x, in_dims=-1, out_dims=-1)(A)
vmap(lambda x, y: x * y, in_dims=(0, None))(A, y)
vmap(lambda x, y: x * y, in_dims=(1, 0))(A, y)
vmap(lambda x, k: x[k], in_dims=(0, None))(A, 1)
vmap(lambda x, y=None: x + y)(x, y=x)
vmap(vmap(lambda x: x.sin()))(A)
vmap(vmap(lambda a, b: a * b, (0, None)), (None, 0))(x, y)
vmap(t.dot)(A, A)
vmap(grad(lambda w, v: (w * v).sum().sin()), in_dims=(None, 0))(x, A)
vmap(grad_and_value(lambda v: (v ** 2).sum()))(A)
grad(lambda w: vmap(lambda v: (v * w).sum().sin())(A).sum())(x)
grad(lambda w: vmap(grad(lambda v: (v * w).sum().sin()))(A).sum())(x)
vmap(jacrev(lambda v: v ** 2))(A)
vmap(hessian(lambda v: (v ** 3).sum()))(A)
jacrev(vmap(lambda v: v.sum() * v))(A)
vmap(lambda v: vjp(lambda z: z * x, v)[1](v)[0])(A)
vmap(vjp(lambda z: z * x, x)[1])(A)
vmap(lambda x: x * leaf.sum())(x)
t.vmap(lambda x: x + 1)(x)
functional_call(lin, {'weight': t.ones(1, 2)}, x)
functional_call(lin, {'weight': t.ones(1, 2), 'bias': t.zeros(1)}, (x,), strict=True)
functional_call(lin, {'weight2': t.ones(1, 2), 'weight': x[None], 'bias': s[None]}, x)
functional_call(lin, {'weight': t.ones(1, 2)}, x, strict=True)
functional_call(lin, ({'weight': t.ones(1, 2)}, {'weight': x}), x)
functional_call(lin, ({'weight': t.ones(1, 2)}, {'bias': t.ones(1)}), kwargs={'input': x})
grad(lambda w: functional_call(lin, {'weight': w, 'bias': t.ones(1)}, x).sum())(A[:1])
vmap(lambda w, v: functional_call(lin, {'weight': w[None], 'bias': t.ones(1)}, v))(A, A)
[sorted(d) for d in stack_module_state([lin, lin])]
stack_module_state([lin, lin])[0]['weight'].shape
stack_module_state([])
stack_module_state([lin, t.nn.ReLU()])
t.autograd.grad((leaf * 2).exp(), leaf, t.eye(2), is_grads_batched=True)
t.autograd.grad((leaf * A).sum(1), [leaf], [t.ones(3, 2)], is_grads_batched=True)
"""

FUNCTIONAL = """
AF.jacobian(lambda x: x ** 2, x)
AF.jacobian(lambda x: (x ** 2, x.sum()), x)
AF.jacobian(lambda x: (x ** 2, x.sum()), (x,))
AF.jacobian(lambda x, y: (x * y, y.sum()), (x, y))
AF.jacobian(lambda x, y: x * y, (x, y), vectorize=True)
AF.jacobian(lambda x: x ** 2, x, vectorize=True, strategy='forward-mode')
AF.jacobian(lambda x: A @ x, x, create_graph=True)
AF.jacobian(lambda x: A @ x ** 2, leaf, create_graph=True)
AF.jacobian(lambda x: x ** 2, leaf)
AF.jacobian(lambda x: x.sum(0), A)
AF.jacobian(lambda x: s, x)
AF.jacobian(lambda x: s, x, strict=True)
AF.jacobian(lambda x, y: x, (x, x), strict=True)
AF.jacobian(lambda x: x * 2, x, strict=True, create_graph=True)
AF.jacobian(lambda x: x * 2, x, strict=True, vectorize=True)
AF.jacobian(lambda x: x * 2, x, strategy='forward-mode')
AF.jacobian(lambda x: x * 2, x, strategy='z')
AF.jacobian(lambda x: 3, x)
AF.jacobian(lambda x: x, 3)
AF.jacobian(lambda x: x, (x, 3))
AF.jacobian(lambda x: (x, 3), x)
AF.hessian(lambda x: (x ** 3).sum(), x)
AF.hessian(lambda x: x ** 3, x)
AF.hessian(lambda x: (x, x), x)
AF.hessian(lambda x: x.sum(), x)
AF.hessian(lambda x: x.sum(), x, strict=True)
AF.hessian(lambda x: (x ** 2).sum(), x, strict=True, create_graph=True)
AF.hessian(lambda x: (x ** 3).sum(), x, create_graph=True)
AF.hessian(lambda x, y: (x * y ** 2).sum(), (x, y))
AF.hessian(lambda x: (x ** 3).sum(), x, vectorize=True)
AF.hessian(lambda x: (A @ x).exp().sum(), leaf, create_graph=True)
AF.vjp(lambda x: x ** 2, x, x)
AF.vjp(lambda x: x ** 2, x)
AF.vjp(lambda x: (x ** 2).sum(), x)
AF.vjp(lambda x: x ** 2, x, (x, x))
AF.vjp(lambda x: x ** 2, x, t.ones(3))
AF.vjp(lambda x: x ** 2, x, y, create_graph=True)
AF.vjp(lambda x: x ** 2, leaf, y, create_graph=True)
AF.vjp(lambda x: (x, x), x, (x,))
AF.vjp(lambda x: (x, x), x, (x, t.ones(3)))
AF.vjp(lambda x, y: x * y, (x, y), x)
AF.vjp(lambda x, y: x * 2, (x, y), x)
AF.vjp(lambda x, y: x * 2, (x, y), x, strict=True)
AF.vjp(lambda x: s, x, s, strict=True)
AF.jvp(lambda x: x ** 2, x, x)
AF.jvp(lambda x: x ** 2, x)
AF.jvp(lambda x: x ** 2, s)
AF.jvp(lambda x, y: (x * y, x), (x, y), (y, x))
AF.jvp(lambda x: s, x, x)
AF.jvp(lambda x: s, x, x, strict=True)
AF.jvp(lambda x: x * 2, x, x, strict=True)
AF.jvp(lambda x: x ** 3, leaf, y, create_graph=True)
AF.hvp(lambda x: (x ** 3).sum(), x, x)
AF.vhp(lambda x: (x ** 3).sum(), x, x)
AF.hvp(lambda x, y: (x ** 2 * y).sum(), (x, y), (y, x))
AF.vhp(lambda x, y: (x ** 2 * y).sum(), (x, y), (y, x))
AF.hvp(lambda x: x, x, x)
AF.vhp(lambda x: (x.sum(), x), x, x)
AF.hvp(lambda x: x.sum(), x, x, strict=True)
AF.hvp(lambda x: x.sum(), x, x)
AF.vhp(lambda x: x.sum(), x, x)
AF.vhp(lambda x: x.sum(), x, x, strict=True)
AF.vhp(lambda x: (x ** 2).sum(), x)
AF.hvp(lambda x: (x ** 2).sum(), x, x, strict=True)
AF.vhp(lambda x: (x ** 3).sum(), leaf, y, create_graph=True)
AF.hvp(lambda x: (x ** 3).sum(), leaf, y, create_graph=True)
"""


def scope(lib: Any) -> dict[str, Any]:
    """What a line of code sees."""
    lib.manual_seed(0)
    lin = lib.nn.Linear(2, 1)
    with lib.no_grad():
        lin.weight.copy_(lib.tensor([[0.5, -1.0]]))
        lin.bias.copy_(lib.tensor([0.25]))
    return {**{name: getattr(lib.func, name) for name in NAMES.split()}, "t": lib,
            "AF": lib.autograd.functional, "x": lib.tensor([1.0, 2.0]),
            "y": lib.tensor([-0.5, 3.0]), "s": lib.tensor(2.0), "i": lib.tensor([1, 2]),
            "A": lib.tensor([[1.0, 2.0], [-1.0, 0.5]]),
            "leaf": lib.tensor([0.5, -2.0], requires_grad=True), "lin": lin}


def told(v: Any) -> Any:
    """A result as plain data."""
    if hasattr(v, "detach"):
        return ("tensor", tuple(v.shape), str(v.dtype), v.requires_grad,
                np.round(v.detach().numpy(), 4).tolist())
    if isinstance(v, tuple | list):
        return [type(v).__name__, *map(told, v)]
    return {k: told(u) for k, u in v.items()} if isinstance(v, dict) else repr(v)


def outcome(lib: Any, code: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return told(eval(code, scope(lib)))
        except Exception as e:
            return "error", type(e).__name__, str(e).split("\n")[0][:30]


def cases(text: str) -> list[str]:
    return text.strip().splitlines()


@pytest.mark.parametrize("code", cases(TRANSFORMS) + cases(MAPPED) + cases(FUNCTIONAL))
def test_the_same_as_torch(code: str) -> None:
    assert outcome(gpugrad, code) == outcome(torch, code)
