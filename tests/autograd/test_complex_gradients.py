"""Gradients of complex tensors: their convention, in-place histories, gradcheck."""
from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.autograd import gradcheck, gradgradcheck
from gpugrad.autograd._gradcheck import GradcheckError


def leaf(*shape: int, seed: int = 0) -> Any:
    r = np.random.default_rng(seed)
    return torch.tensor(r.standard_normal(shape) + 1j * r.standard_normal(shape),
                        requires_grad=True)


def test_the_gradient_points_uphill() -> None:
    """Of a real loss it is dL/d(real) + i dL/d(imag)."""
    z = torch.tensor([3 + 4j], dtype=torch.complex128, requires_grad=True)
    (z.abs() ** 2).sum().backward()
    assert z.grad is not None
    np.testing.assert_allclose(z.grad.numpy(), [6 + 8j])


def test_a_holomorphic_function_gives_the_conjugate_derivative() -> None:
    z = torch.tensor([1 + 2j], dtype=torch.complex128, requires_grad=True)
    g, = torch.autograd.grad(z ** 3, z, torch.tensor([1j], dtype=torch.complex128))
    np.testing.assert_allclose(g.numpy(), 1j * np.conj(3 * (1 + 2j) ** 2))


def test_a_real_operand_gets_the_real_part() -> None:
    x, z = torch.tensor([2.0], dtype=torch.float64, requires_grad=True), leaf(1)
    g, h = torch.autograd.grad(x * z, (x, z), torch.tensor([1 + 1j], dtype=torch.complex128))
    assert g.dtype is torch.float64 and h.dtype is torch.complex128
    np.testing.assert_allclose(g.numpy(), ((1 + 1j) * np.conj(z.detach().numpy())).real)


FUNCTIONS = {
    "product": lambda z, w: z * w, "quotient": lambda z, w: z / w, "power": lambda z, w: z ** w,
    "matmul": lambda z, w: z @ w.mH, "abs": lambda z, w: (z - w).abs(),
    "angle": lambda z, w: z.angle() * w, "parts": lambda z, w: z.real * w + 1j * w.imag,
    "direction": lambda z, w: torch.sgn(z) * w.conj(),
    "pairs": lambda z, w: torch.view_as_complex(torch.view_as_real(z) * 2) * w,
    "polar": lambda z, w: torch.polar(z.abs(), w.real), "functions": lambda z, w:
    torch.exp(z) * torch.sin(w) + torch.log(z) + torch.tanh(w) + torch.sqrt(z),
    "reductions": lambda z, w: (z.sum(0), w.mean(), (z * w).prod(1), z.var(0)),
    "norms": lambda z, w: (torch.linalg.norm(z), torch.linalg.vector_norm(w, 3)),
    "transforms": lambda z, w: torch.fft.fft(z) * torch.fft.ifft2(w),
    "inverse": lambda z, w: torch.linalg.inv(z @ z.mH + 3 * torch.eye(2)) @ w,
    "determinants": lambda z, w: (torch.linalg.det(z @ w.mH), torch.linalg.slogdet(z @ z.mH)[1]),
    "cholesky": lambda z, w: torch.linalg.cholesky(z @ z.mH + torch.eye(2)),
    "singular values": lambda z, w: torch.linalg.svdvals(z),
    "eigenvalues": lambda z, w: torch.linalg.eigvalsh(z @ z.mH + w @ w.mH),
    "exponential": lambda z, w: torch.linalg.matrix_exp(z @ w.mH),
}


@pytest.mark.parametrize("f", FUNCTIONS.values(), ids=FUNCTIONS)
def test_both_orders(f: Any) -> None:
    assert gradcheck(f, (leaf(2, 3), leaf(2, 3, seed=1)))
    assert gradgradcheck(f, (leaf(2, 3), leaf(2, 3, seed=1)), atol=1e-4)


def test_gradcheck_sees_a_wrong_conjugate() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Any) -> Any:
            ctx.save_for_backward(z)
            return z * z

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            z, = ctx.saved_tensors
            return g * 2 * z                     # 2 * z.conj() would be right
    with pytest.raises(GradcheckError):
        gradcheck(Wrong.apply, leaf(2))
    assert not gradcheck(Wrong.apply, leaf(2), raise_exception=False, fast_mode=True)


@pytest.mark.parametrize("write", [
    lambda y, x: y.real.mul_(x), lambda y, x: y.imag.copy_(x), lambda y, x: y[0].mul_(1j),
    lambda y, x: torch.view_as_real(y)[..., 0].mul_(x), lambda y, x: y.conj_physical_()])
def test_writing_to_parts(write: Any) -> None:
    def f(z: Any, x: Any) -> Any:
        y = z * 1
        part = y.imag
        write(y, x)
        return y * z, part
    x = torch.tensor(np.random.default_rng(3).standard_normal((2, 3)), requires_grad=True)
    assert gradcheck(f, (leaf(2, 3), x))


def test_a_gradient_of_another_kind_is_an_error() -> None:
    z = leaf(2)
    with pytest.raises(RuntimeError, match="required to have the same dtype"):
        z.backward(torch.ones(2))
    with pytest.raises(RuntimeError, match="only for real scalar outputs"):
        z.sum().backward()


def test_programs_of_real_numbers_have_nothing_conjugated() -> None:
    """The switch is off until the first complex numbers with gradients, and then on."""
    code = ("import gpugrad as t; from gpugrad._state import complex_gradients as c\n"
            "x = t.ones(3, requires_grad=True); (x * x).sum().backward(); t.zeros(2) * 1\n"
            "before = c[0]; t.fft.rfft(x); print(before, c[0])")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]
