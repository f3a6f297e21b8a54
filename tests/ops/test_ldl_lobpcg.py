"""L D L^H of matrices that need pivots, and a few eigenvalues by iteration, against NumPy."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as torch


def matrices(kind: str, shape: Any, rng: Any) -> Any:
    a = rng.standard_normal(shape)
    if kind != "symmetric":
        a = a + 1j * rng.standard_normal(shape)
    a = a + (np.conj(a) if kind == "Hermitian" else a).swapaxes(-1, -2)
    return a * (1 - np.eye(shape[-1]))           # no element of the diagonal can be a pivot


@pytest.mark.parametrize("kind", ["symmetric", "Hermitian", "complex symmetric"])
@pytest.mark.parametrize("shape", [(2, 2), (5, 5), (3, 4, 4), (2, 8, 8)])
def test_pivots_of_two_rows(kind: str, shape: Any, device: str) -> None:
    rng = np.random.default_rng(0)
    a, b = matrices(kind, shape, rng), rng.standard_normal((*shape[:-1], 2))
    hermitian = kind == "Hermitian"
    A, B = torch.from_numpy(a).to(device), torch.from_numpy(b.astype(a.dtype)).to(device)
    LD, pivots, info = torch.linalg.ldl_factor_ex(A, hermitian=hermitian, check_errors=True)
    assert pivots.dtype is torch.int32 and bool((pivots < 0).any()) and not bool(info.any())
    X = torch.linalg.ldl_solve(LD, pivots, B, hermitian=hermitian)
    np.testing.assert_allclose((A @ X).cpu().numpy(), b, atol=1e-9)


def test_as_lapack_gives_it() -> None:
    A = torch.tensor([[0.0, 2, 1], [2, 0, 4], [1, 4, 1]])
    LD, pivots = torch.linalg.ldl_factor(A)
    assert pivots.tolist() == [1, 2, 3] or pivots.tolist() == [-2, -2, 3]
    x = torch.linalg.ldl_solve(LD, pivots, torch.eye(3))
    torch.testing.assert_close(A @ x, torch.eye(3))


def test_singular_matrices_and_gradients() -> None:
    info = torch.linalg.ldl_factor_ex(torch.zeros(2, 3, 3)).info
    assert info.tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="pivot is exactly zero"):
        torch.linalg.ldl_factor(torch.zeros(2, 2))
    A = torch.eye(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="is not implemented"):
        torch.linalg.ldl_factor(A).LD.sum().backward()


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("generalized", [False, True])
def test_lobpcg(largest: bool, generalized: bool, device: str) -> None:
    rng = np.random.default_rng(1)
    a = rng.standard_normal((2, 12, 12))
    a = a + a.swapaxes(-1, -2)
    b = a @ a.swapaxes(-1, -2) / 12 + np.eye(12)
    A = torch.from_numpy(a).to(device)
    B = torch.from_numpy(b).to(device) if generalized else None
    torch.manual_seed(0)
    E, X = torch.lobpcg(A, 2, B, largest=largest, iK=torch.eye(12, dtype=A.dtype, device=device))
    want = np.sort(np.linalg.eigvals(np.linalg.solve(b, a) if generalized else a).real)
    want = want[:, ::-1][:, :2] if largest else want[:, :2]
    np.testing.assert_allclose(E.cpu().numpy(), want, rtol=1e-9, atol=1e-9)
    rest = A @ X - (X if B is None else B @ X) * E.unsqueeze(-2)
    assert float(rest.norm()) < 1e-5
    # the vectors are orthonormal
    inner = X.mT @ (X if B is None else B @ X)
    np.testing.assert_allclose(inner.cpu().numpy(), np.broadcast_to(np.eye(2), (2, 2, 2)),
                               atol=1e-9)


def test_lobpcg_of_difficult_matrices() -> None:
    torch.manual_seed(0)
    assert torch.lobpcg(torch.zeros(9, 9), 2)[0].tolist() == [0.0, 0.0]
    torch.testing.assert_close(torch.lobpcg(torch.eye(9), 3)[0], torch.ones(3))
    start = torch.eye(9)[:, :2]
    assert torch.lobpcg(torch.diag(torch.arange(9.0)), X=start, niter=0)[0].tolist() == [1.0, 0.0]


def test_gradients_of_lobpcg() -> None:
    A = torch.diag(torch.arange(7, dtype=torch.float64)).requires_grad_()
    B = torch.eye(7, dtype=torch.float64)
    for other in (None, B):
        E, _ = torch.lobpcg(A, 2, other)
        (g,) = torch.autograd.grad(E.sum(), A)
        torch.testing.assert_close(g, torch.diag(torch.tensor([0.0] * 5 + [1, 1])).double())


def test_arguments_of_lobpcg() -> None:
    A = torch.eye(6)
    for call, error in ((lambda: torch.lobpcg(A, 3), ValueError),
                        (lambda: torch.lobpcg(A, 2, n=1), ValueError),
                        (lambda: torch.lobpcg(torch.ones(2, 3), 1), AssertionError),
                        (lambda: torch.lobpcg(A.long(), 1), RuntimeError),
                        (lambda: torch.lobpcg(A, 1, tracker=print), NotImplementedError)):
        with pytest.raises(error):
            call()
