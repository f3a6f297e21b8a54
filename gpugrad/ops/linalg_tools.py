"""What the operations of linear algebra share: transposes, diagonals, and how failures are told.

Matrices are the last two dims. The rules use these functions at both levels.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.conjugate import is_complex


class LinAlgError(RuntimeError):
    """Raised by torch.linalg for a matrix for which there is no result."""


# At both levels ----------------------------------------------------------------------------------


def mT(o: Any, x: Any) -> Any:
    """The matrices transposed."""
    return o.transpose(x, dim0=-2, dim1=-1)


def mH(o: Any, x: Any) -> Any:
    """The matrices transposed and conjugated."""
    return o.conj_physical(mT(o, x)) if is_complex(x) else mT(o, x)


def conj(o: Any, x: Any) -> Any:
    return o.conj_physical(x) if is_complex(x) else x


def real_part(o: Any, x: Any) -> Any:
    return o.real(x) if is_complex(x) else x


def diagonal(o: Any, x: Any) -> Any:
    """The main diagonals."""
    n = len(x.shape)
    return o.diagonal(x, offset=0, dim1=n - 2, dim2=n - 1)


def as_diagonal(o: Any, d: Any) -> Any:
    """Matrices with the last dim on their diagonals."""
    n = len(d.shape)
    return o.diag_embed(d, offset=0, dim1=n - 1, dim2=n, n=d.shape[-1])


def in_columns(o: Any, d: Any) -> Any:
    """Numbers for the columns of matrices, to be multiplied with them."""
    return o.unsqueeze(d, dim=len(d.shape) - 1)


def in_rows(o: Any, d: Any) -> Any:
    """Numbers for the rows of matrices."""
    return o.unsqueeze(d, dim=len(d.shape))


def off_diagonal(o: Any, x: Any) -> Any:
    """The matrices with 0 on the diagonal."""
    return o.add(o.triu(x, diagonal=1), o.tril(x, diagonal=-1))


def ones_like(o: Any, x: Any) -> Any:
    return o.shift(o.zeros_like(x), number=1)


def differences(o: Any, d: Any) -> Any:
    """Of a vector d the matrix d[j] - d[i], with 1 on the diagonal."""
    apart = o.sub(in_columns(o, d), in_rows(o, d))
    return o.add(apart, as_diagonal(o, ones_like(o, d)))


def cut(o: Any, x: Any, rows: int, columns: int) -> Any:
    """The first rows and columns of matrices."""
    n = len(x.shape)
    x = x if x.shape[-2] == rows else o.slice_(x, dim=n - 2, start=0, stop=rows)
    return x if x.shape[-1] == columns else o.slice_(x, dim=n - 1, start=0, stop=columns)


def total(o: Any, *terms: Any) -> Any:
    """The sum of those terms that there are."""
    some = [t for t in terms if t is not None]
    out = some[0]
    for t in some[1:]:
        out = o.add(out, t)
    return out


def array_of(x: Any) -> Any:
    """The array of a Tensor, or an array."""
    return x._a if isinstance(x, Tensor) else x


def constant(like: Any, a: Any) -> Any:
    """An array of the CPU at the level of ``like``."""
    return wrap(a) if isinstance(like, Tensor) else a


def check_phase(o: Any, d: Any, what: str) -> None:
    """Raise if a gradient depends on the phase of complex vectors, which is arbitrary.

    d: what must be real, by place. Looked at on the CPU alone: a GPU would have to wait.
    """
    a = array_of(d)
    if not isinstance(a, np.ndarray | np.generic) or a.dtype.kind != "c":
        return
    if a.size and np.abs(a.imag).max() > 1e-2 * max(1.0, float(np.abs(a).max())):
        raise RuntimeError(f"{what}_backward: The {what_vectors(what)} in the complex case are "
                           "specified up to multiplication by e^{i phi}. The specified loss "
                           "function depends on this quantity, so it is ill-defined.")


def what_vectors(what: str) -> str:
    return "singular vectors" if what == "svd" else "eigenvectors"


# Failures, of raw arrays -------------------------------------------------------------------------


def broadcast_batches(be: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """Two arrays of matrices with the same batch dims, which CuPy's functions ask for."""
    if a.shape[:-2] == b.shape[:-2]:
        return a, b
    batch = be.xp.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return (be.xp.broadcast_to(a, batch + a.shape[-2:]),
            be.xp.broadcast_to(b, batch + b.shape[-2:]))


def first_failure(be: Any, a: Any, fails: Any) -> tuple[str, Any]:
    """Which matrix of a batch an error is about: (the words for it, the matrix)."""
    n = a.ndim
    flat = a.reshape(-1, *a.shape[-2:])
    for i in range(len(flat)):
        if fails(flat[i]):
            return (f"(Batch element {i}): " if n > 2 else ""), flat[i]
    return "", flat[0]


def fails(function: Any, *args: Any) -> bool:
    """Does it raise NumPy's LinAlgError?"""
    try:
        function(*args)
    except np.linalg.LinAlgError:
        return True
    return False
