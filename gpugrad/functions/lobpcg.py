"""torch.lobpcg: a few extreme eigenvalues of a large symmetric matrix, without factoring it."""
from __future__ import annotations

from typing import Any

from gpugrad import dtypes
from gpugrad._tensor import Tensor
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.functions import linalg


def lobpcg(A: Tensor, k: int | None = None, B: Tensor | None = None, X: Tensor | None = None,
           n: int | None = None, iK: Tensor | None = None, niter: int | None = None,
           tol: float | None = None, largest: bool | None = None, method: str | None = None,
           tracker: Any = None, ortho_iparams: Any = None, ortho_fparams: Any = None,
           ortho_bparams: Any = None) -> tuple[Tensor, Tensor]:
    """(the k extreme eigenvalues E, the vectors X) of A x = E B x, for symmetric (..., m, m).

    B: positive definite, by default the identity. X: where to begin, (..., m, n), by default random
    numbers; n: how many vectors are followed, k by default. iK: about the inverse of A. It ends
    after niter steps, or when the residues are below tol. Both methods, "basic" and "ortho", are
    one here, which keeps its vectors orthonormal.
    """
    for name, given in (("tracker", tracker), ("ortho_iparams", ortho_iparams),
                        ("ortho_fparams", ortho_fparams), ("ortho_bparams", ortho_bparams)):
        if given is not None:
            raise NotImplementedError(f"lobpcg({name}=) is not supported: leave it out, or take "
                                      "torch.linalg.eigh for all eigenvalues")
    if A._a.ndim < 2 or A._a.shape[-1] != A._a.shape[-2]:
        raise AssertionError(f"A must be square, got shape {A.shape}")
    if A._a.dtype not in dtypes.WHOLE:
        raise RuntimeError("lobpcg: A must be of float32 or float64, but got "
                           f"{dtypes.type_name(A._a.dtype)}")
    m = A._a.shape[-1]
    k = (1 if X is None else X._a.shape[-1]) if k is None else k
    n = (k if n is None else n) if X is None else X._a.shape[-1]
    if m < 3 * n:
        raise ValueError(f"LOBPCG algorithm is not applicable when the number of A rows (={m}) is "
                         "smaller than 3 x the number of requested eigenpairs "
                         f"(={n})")
    if not 1 <= k <= n:
        raise ValueError(f"lobpcg: k must be between 1 and the number of vectors, {n}, but is {k}")
    if A.requires_grad or (B is not None and B.requires_grad):
        return _by_factoring(A, B, k, largest is not False)
    from gpugrad.sampling import randn
    with no_grad():
        if X is None:
            X = randn((*A._a.shape[:-2], m, n), dtype=A.dtype, device=A.device)
        found = _iterate(A, B, X, iK, 1000 if niter is None else niter,
                         dtypes.finfo(A.dtype).eps ** 0.5 if tol is None else tol,
                         largest is not False)
    return found[0][..., :k], found[1][..., :k]


def _by_factoring(A: Tensor, B: Tensor | None, k: int, largest: bool) -> tuple[Tensor, Tensor]:
    """The same by eigh, which has gradients of every order."""
    lower = None
    if B is not None:
        lower = linalg.cholesky(B)
        half = linalg.solve_triangular(lower, A, upper=False)
        A = linalg.solve_triangular(lower, half.mT, upper=False)
    E, X = linalg.eigh(A)
    E, X = (E.flip(-1), X.flip(-1)) if largest else (E, X)
    E, X = E[..., :k], X[..., :k]
    return E, X if lower is None else linalg.solve_triangular(lower.mT, X, upper=True)


def _times(M: Tensor | None, X: Tensor) -> Tensor:
    return X if M is None else M @ X


def _basis(B: Tensor | None, S: Tensor) -> Tensor:
    """B-orthonormal vectors that span those of S; directions that S has twice become 0."""
    S = S / S.norm(dim=-2, keepdim=True).clamp_min(dtypes.finfo(S.dtype).tiny)
    for _ in range(2):                           # once leaves rounding errors
        values, vectors = linalg.eigh(S.mT @ _times(B, S))
        least = values[..., -1:] * dtypes.finfo(S.dtype).eps * S._a.shape[-1]
        scale = (values > least) / values.clamp_min(least).sqrt()
        S = S @ (vectors * scale.unsqueeze(-2))
    return S


def _iterate(A: Tensor, B: Tensor | None, X: Tensor, iK: Tensor | None, niter: int, tol: float,
             largest: bool) -> tuple[Tensor, Tensor]:
    """Knyazev's iteration (2001): the best vectors in the span of X, its residues and its last
    steps."""
    n = X._a.shape[-1]
    E, X = _best(A, B, _basis(B, X), n, largest)
    step = None
    size = A.abs().sum(-1).amax(-1)[..., None]             # at least the largest eigenvalue's
    for _ in range(niter):
        residue = A @ X - _times(B, X) * E.unsqueeze(-2)
        if bool((residue.norm(dim=-2) <= tol * size * X.norm(dim=-2)).all()):
            break
        new = [X, *[_without(X, B, w) for w in (residue, *([] if iK is None else [iK @ residue]))],
               *([] if step is None else [step])]
        before = X
        E, X = _best(A, B, _basis(B, _side_by_side(new)), n, largest)
        step = _without(before, B, X)
    return E, X


def _without(X: Tensor, B: Tensor | None, S: Tensor) -> Tensor:
    """S less its part along the vectors X."""
    for _ in range(2):                           # once leaves rounding errors
        S = S - X @ (X.mT @ _times(B, S))
    return S


def _side_by_side(parts: list[Tensor]) -> Tensor:
    from gpugrad.functions.shape import cat
    return cat(parts, -1)


def _best(A: Tensor, B: Tensor | None, S: Tensor, n: int,
          largest: bool) -> tuple[Tensor, Tensor]:
    """The n extreme eigenvalues that A has on the span of S, and their vectors."""
    # a direction that is 0 must not count: it is given a value beyond the other end
    inside = (S * _times(B, S)).sum(-2) > 0.5
    bound = A.abs().sum(-1).amax(-1)[..., None] * (-2 if largest else 2)
    projected = S.mT @ (A @ S)
    if B is not None:
        bound = projected.abs().sum(-1).amax(-1)[..., None] * (-2 if largest else 2)
    E, V = linalg.eigh(projected + (bound * ~inside).diag_embed())
    if largest:
        E, V = E.flip(-1), V.flip(-1)
    return E[..., :n], S @ V[..., :n]
