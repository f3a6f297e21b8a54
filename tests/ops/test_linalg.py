"""Linear algebra and Fourier transforms where the records don't reach; without PyTorch."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.autograd import gradcheck, gradgradcheck

R = np.random.default_rng(0)


def leaf(*shape: int) -> Any:
    return torch.tensor(R.standard_normal(shape), requires_grad=True)


@pytest.mark.parametrize("f", [
    lambda a: torch.linalg.eig(a)[0].abs(), lambda a: torch.linalg.eigvals(a).real.sum(),
    lambda a: torch.linalg.eig(a)[1].abs(), lambda a: torch.linalg.pinv(a + a.mT, hermitian=True),
    lambda a: torch.linalg.lu(a), lambda a: torch.linalg.matrix_power(a, -2),
    lambda a: torch.linalg.lstsq(a, torch.ones(3, 2, dtype=a.dtype))[0],
    lambda a: torch.corrcoef(a),
    lambda a: torch.renorm(a, 2, 0, 1.0), lambda a: torch.linalg.cond(a, 1)])
def test_gradients_of_functions(f: Any) -> None:
    a = leaf(3, 3)
    assert gradcheck(f, a)
    assert gradgradcheck(f, a, atol=1e-4)


def test_determinant_of_a_singular_matrix() -> None:
    a = torch.tensor([[1.0, 2, 3], [2, 4, 6], [1, 0, 1]], dtype=torch.float64, requires_grad=True)
    assert gradcheck(torch.det, a)
    assert gradgradcheck(torch.det, a)
    z = torch.tensor(R.standard_normal((2, 3, 3)) + 1j * R.standard_normal((2, 3, 3)))
    z[1, 2] = z[1, 0] * 2
    assert gradcheck(torch.det, z.requires_grad_())
    assert gradgradcheck(torch.det, z)
    zeros = torch.zeros(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(torch.det, zeros)


def test_gradients_that_depend_on_the_phase_are_an_error() -> None:
    a = torch.tensor(R.standard_normal((3, 3)) + 1j * R.standard_normal((3, 3)))
    h = (a + a.mH).requires_grad_()
    with pytest.raises(RuntimeError, match="ill-defined"):
        torch.linalg.eigh(h)[1].imag.sum().backward()


EQUATIONS = [
    ("ij,jk", (2, 3), (3, 4)), ("ij,jk->ki", (2, 3), (3, 4)), ("ii", (3, 3)), ("ii->i", (3, 3)),
    ("ij->", (2, 3)), ("i,j", (2,), (3,)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("...ij,...jk->...ik", (7, 2, 3, 4), (2, 4, 5)), ("ijk,jil,kl->", (2, 3, 4), (3, 2, 5), (4, 5)),
    ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)), ("ij,ij->ij", (2, 3), (2, 3)),
    ("ij,ij->i", (2, 3), (2, 3)), ("i...->...", (2, 3, 4)), ("...", (2, 3)),
    ("ab,bc,cd,de,ef->af", (2, 3), (3, 4), (4, 5), (5, 6), (6, 7)), ("a,a,a->a", (3,), (3,), (3,)),
    ("aab,b->a", (3, 3, 2), (2,)), ("b...a->a...b", (2, 5, 3)), (",ij", (), (2, 3)),
    ("ab,cd,ef,gh,ai,bj,ck->degh", *[(2, 2)] * 7), ("ij,kj->", (0, 3), (2, 3)),
    ("ij,jk", (2, 0), (0, 3)), ("abij,abjk->abik", (2, 1, 3, 4), (1, 2, 4, 5))]


@pytest.mark.parametrize("equation, shapes", [(e, s) for e, *s in EQUATIONS],
                         ids=[e for e, *_ in EQUATIONS])
def test_einsum(equation: str, shapes: Any) -> None:
    arrays = [R.standard_normal(s) for s in shapes]
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    want = np.einsum(equation, *arrays)
    np.testing.assert_allclose(torch.einsum(equation, *leaves).detach().numpy(), want, atol=1e-12)
    if want.size < 40 and all(0 < a.size < 40 for a in arrays):
        assert gradcheck(lambda *xs: torch.einsum(equation, *xs), leaves)


def test_einsum_takes_the_cheapest_order(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpugrad.functions import einsum
    done = []
    product = einsum.matmul
    monkeypatch.setattr(einsum, "matmul", lambda a, b: done.append(
        a.shape[-2] * a.shape[-1] * b.shape[-1]) or product(a, b))
    a, b, c = torch.ones(100, 2), torch.ones(2, 100), torch.ones(100, 3)
    torch.einsum("ij,jk,kl->il", a, b, c)
    assert sum(done) == 2 * 100 * 3 + 100 * 2 * 3        # the last two first


def test_chains_are_multiplied_in_the_cheapest_order() -> None:
    from gpugrad.functions.einsum import cheapest
    assert cheapest([10, 100, 5, 50])[0, 2] == 1
    x = [torch.tensor(R.standard_normal(s)) for s in ((2, 9), (9, 3), (3, 7), (7, 1))]
    want = np.linalg.multi_dot([t.numpy() for t in x])
    np.testing.assert_allclose(torch.chain_matmul(*x).numpy(), want)
    np.testing.assert_allclose(torch.linalg.multi_dot(x).numpy(), want)


def test_ill_conditioned_triangles_are_solved_by_substitution() -> None:
    """No pivoting: each solution of a graded triangle is exact to its own size."""
    t = np.tril(R.standard_normal((100, 100))) * 10.0 ** -np.arange(100)[:, None] / 10
    t += np.diag(10.0 ** -np.arange(100))
    x = torch.linalg.solve_triangular(torch.tensor(t), torch.tensor(t @ np.ones((100, 1))),
                                      upper=False)
    np.testing.assert_allclose(x.numpy(), 1, 1e-3)
    zero = torch.linalg.solve_triangular(torch.tensor([[0.0, 1], [0, 2]]), torch.ones(2, 1),
                                         upper=True)
    assert zero.tolist() == [[np.inf], [0.5]]


def test_what_is_refused_says_what_to_do() -> None:
    with pytest.raises(NotImplementedError, match=r"ldl_factor.*'BFloat16'.*use float32"):
        torch.linalg.ldl_factor(torch.eye(2).bfloat16())
    with pytest.raises(RuntimeError, match="geqrf is not implemented"):
        torch.geqrf(leaf(3, 3))[0].sum().backward()


def test_reflections_make_q() -> None:
    a = torch.tensor(R.standard_normal((2, 5, 3)))
    factors = torch.geqrf(a)
    q = torch.linalg.qr(a)[0]
    np.testing.assert_allclose(torch.orgqr(*factors).numpy(), q.numpy(), atol=1e-12)
    full = torch.linalg.qr(a, "complete")[0]
    other = torch.tensor(R.standard_normal((2, 5, 2)))
    for transpose in (False, True):
        want = (full.mT if transpose else full) @ other
        got = torch.ormqr(*factors, other, True, transpose)
        np.testing.assert_allclose(got.numpy(), want.numpy(), atol=1e-12)
        want = other.mT @ (full.mT if transpose else full)
        got = torch.ormqr(*factors, other.mT, False, transpose)
        np.testing.assert_allclose(got.numpy(), want.numpy(), atol=1e-12)


@pytest.mark.parametrize("f", [
    lambda x: torch.fft.fft(x), lambda x: torch.fft.rfft(x, 7), lambda x: torch.fft.rfftn(x),
    lambda x: torch.fft.irfft(x + 1j * x.flip(0), n=5), lambda x: torch.fft.hfft(x * 1j),
    lambda x: torch.fft.ihfft2(x), lambda x: torch.fft.fftshift(x)])
def test_transforms_to_the_second_order(f: Any) -> None:
    x = leaf(3, 4)
    assert gradcheck(f, x)
    assert gradgradcheck(lambda v: f(v * v), x, atol=1e-4)


def test_float32_stays_single() -> None:
    x = torch.ones(8, dtype=torch.float32)
    assert torch.fft.fft(x).dtype is torch.fft.rfft(x).dtype is torch.complex64
    assert torch.fft.irfft(torch.fft.rfft(x)).dtype is torch.float32
    assert torch.linalg.eigvals(torch.eye(2)).dtype is torch.complex64
