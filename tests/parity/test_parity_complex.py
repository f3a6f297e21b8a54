"""Gradients of complex tensors, of both orders, against torch; and what is refused."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from two_orders import agree, host  # skips this file where there is no torch

import gpugrad

torch = pytest.importorskip("torch")

EXPRESSIONS = """
z+w
z-w
z*w
z/w
z*x
x*z
x/z
z/x
z*2j
x*2j
x+1j
2j/x
z**2
z**3
z**0.5
z**w
x.abs()**w
2**z
(2+1j)**x
z**(1+2j)
z.abs()
z.angle()
t.sgn(z)
z.real
z.imag
z.conj()
t.view_as_real(z)
t.view_as_complex(t.view_as_real(z)*2)
t.complex(x,x*x)
t.polar(x.abs(),x)
t.complex(x,x[0])
x.to(t.complex128)
z.to(t.complex64)
z*v
z@m
m@m
z@z.mH
t.mv(m,v)
t.dot(v,v)
t.matmul(m,v)
t.bmm(z[None],m[None])
t.exp(z)
t.log(z)
t.log2(z)
t.log10(z)
t.log1p(z)
t.sqrt(z)
t.rsqrt(z)
t.sin(z)
t.cos(z)
t.tan(z)
t.sinh(z)
t.cosh(z)
t.tanh(z)
t.asin(z)
t.acos(z)
t.atan(z)
t.asinh(z)
t.acosh(z)
t.atanh(z)
t.sigmoid(z)
t.expm1(z)
t.exp2(z)
t.reciprocal(z)
t.square(z)
t.neg(z)
t.positive(z)
t.sinc(z)
z.sum()
z.sum(0)
z.mean(1)
z.prod()
z.prod(1)
z.cumsum(1)
z.cumprod(1)
z.var(0)
z.std()
t.var_mean(z,1)
t.std_mean(z,1)
z.norm()
z.norm(1)
z.norm(3,dim=1)
z.norm(float('inf'))
t.logsumexp(z,1)
t.where(x>0,z,w)
t.where(x>0,z,0)
t.addcmul(z,z,w,value=2)
t.addcmul(z,z,w,value=2j)
t.addcdiv(z,z,w,value=2)
t.lerp(z,w,0.3)
t.lerp(z,w,w)
t.masked_fill(z,x>0,1)
z[1]
z[x>0]
z[:,[0,0,1]]
z.T
z.reshape(4,3)
z.t().contiguous()
t.cat([z,w])
t.cat([z,x])
t.stack([z,w])
z.gather(1,t.tensor([[0,0]]))
z.index_select(0,t.tensor([0,0]))
z.expand(2,3,4)
t.diag(m)
t.tril(m)
z.flip(0)
z.roll(1,0)
z.unbind(0)
z.chunk(2,1)
z.index_add(0,t.tensor([0,0]),w[:2])
z.clone().index_put_((t.tensor([0,0]),),w[:2],accumulate=True)
z.clone().mul_(w)
z.clone().add_(x)
t.addmm(z,z,m)
t.addmm(z,z,m,alpha=2j,beta=3)
t.outer(v,v)
t.masked_select(z,x>0)
t.nn.functional.linear(z,m)
(z*z.conj()).real
(z.abs()**2).sum()
t.take(z,t.tensor([0,0,5]))
t.float_power(z,2)
t.xlogy(x.abs(),x.abs())
t.nn.functional.softmax(z.abs(),1)
t.as_strided(z,(2,2),(1,2))
z.unfold(1,2,1)
t.isclose(z,w)
t.eq(z,w)
t.kron(z[:2,:2],w[:2,:2])
t.trace(m)
t.polar(z.abs(), z.angle())
t.nn.functional.tanhshrink(z)
t.count_nonzero(z)
t.view_as_real(z)[...,0]
t.nn.functional.mse_loss(z.abs(),w.abs())
t.repeat_interleave(z,2,0)
t.diff(z)
t.cov(z)
z.abs().log()
x.clone().mul_(2).to(t.complex128)*z
"""

# Histories of views: the result stands in the last line of each.
IN_PLACE = {
    "real": "y.real.mul_(x)", "imag": "y.imag.mul_(x)", "copied": "y.imag.copy_(x)",
    "row": "y[0].mul_(w[1])", "pairs": "t.view_as_real(y)[..., 0].mul_(x)",
    "conjugate": "y.conj_physical_()", "direction": "y.sgn_()", "product": "y.mul_(w)",
    "real and all": "y.real.mul_(x); y.mul_(w)", "set": "y.real = x"}


def numbers() -> dict[str, Any]:
    r = np.random.default_rng(0)

    def c(*shape: int) -> Any:
        return r.standard_normal(shape) + 1j * r.standard_normal(shape)
    return {"z": c(3, 4), "w": c(3, 4), "x": r.standard_normal((3, 4)), "v": c(4), "m": c(4, 4)}


@pytest.mark.parametrize("code", EXPRESSIONS.strip().splitlines())
def test_both_orders(code: str) -> None:
    agree(code, **numbers())


def written(lib: Any, code: str, arrays: dict[str, Any]) -> list[Any]:
    leaves = {k: lib.tensor(a).requires_grad_() for k, a in arrays.items()}
    scope = {"t": lib, "y": leaves["z"].clone(), **leaves}
    view = scope["y"].imag
    exec(code, scope)
    outs = [scope["y"] * leaves["w"], view]
    slopes = [lib.tensor(np.full((3, 4), 1 + 2j)), lib.tensor(np.full((3, 4), 0.5))]
    found = lib.autograd.grad(outs, list(leaves.values()), slopes, allow_unused=True)
    return [host(v) for v in (*outs, *found)]


@pytest.mark.parametrize("code", IN_PLACE.values(), ids=IN_PLACE)
def test_in_place(code: str) -> None:
    for a, b in zip(written(torch, code, numbers()), written(gpugrad, code, numbers())):
        if a is None or b is None:
            assert not np.any(a if b is None else b)
        else:
            np.testing.assert_allclose(b, a, 1e-9, 1e-9)


def test_backward_accumulates_and_hooks_see_the_gradient() -> None:
    seen: list[Any] = []

    def look(g: Any) -> Any:
        seen.append(host(g))
        return g * 2j
    for lib in (torch, gpugrad):
        z = lib.tensor(np.array([1 + 2j, 3 - 1j]), requires_grad=True)
        y = z * z
        y.retain_grad()
        y.register_hook(look)
        for _ in range(2):
            (y.abs() ** 2).sum().backward(retain_graph=True)
        seen += [host(z.grad), host(y.grad)]
    half = len(seen) // 2
    for a, b in zip(seen[:half], seen[half:], strict=True):
        np.testing.assert_allclose(b, a, 1e-9)


@pytest.mark.parametrize("code", [
    "z.sum().backward()", "z.backward(t.ones(3, 4))", "x.backward(t.ones(3, 4) * 1j)",
    "t.autograd.grad(z.abs().sum(), z, t.tensor(1j))"])
def test_errors(code: str) -> None:
    raised = []
    for lib in (torch, gpugrad):
        a = numbers()
        scope = {"t": lib, "z": lib.tensor(a["z"], requires_grad=True),
                 "x": lib.tensor(a["x"].astype("f4"), requires_grad=True)}
        with pytest.raises(RuntimeError) as error:
            exec(code, scope)
        raised.append(str(error.value))
    assert raised[0][:30] == raised[1][:30]


def test_gradcheck_of_a_function_of_both_kinds() -> None:
    def f(lib: Any) -> Any:
        return lambda z, x: (lib.exp(z) * x, (z * z.conj()).real.sqrt(), lib.fft.fft(x * 1j))
    for lib in (torch, gpugrad):
        r = np.random.default_rng(1)
        z = lib.tensor(r.standard_normal(3) + 1j * r.standard_normal(3), requires_grad=True)
        x = lib.tensor(r.standard_normal(3), requires_grad=True)
        assert lib.autograd.gradcheck(f(lib), (z, x))
        assert lib.autograd.gradcheck(f(lib), (z, x), fast_mode=True)
        assert lib.autograd.gradgradcheck(f(lib), (z, x))
