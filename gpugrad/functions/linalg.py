"""torch.linalg: inverses, equations, factorisations, eigenvalues. Norms are in linalg_norms.py."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions.arguments import cast, common, dim_of, return_type
from gpugrad.ops.linalg_solve import INVERSION, SOLVER, lu_arrays, singular_error
from gpugrad.ops.linalg_tools import LinAlgError, fails, ones_like

PRECISE = "fdFD"        # the dtypes that LAPACK has

_eigh = return_type("linalg_eigh", "eigenvalues", "eigenvectors")
_eig = return_type("linalg_eig", "eigenvalues", "eigenvectors")
_svd = return_type("linalg_svd", "U", "S", "Vh")
_qr = return_type("linalg_qr", "Q", "R")
_slogdet = return_type("linalg_slogdet", "sign", "logabsdet")
_inv_ex = return_type("linalg_inv_ex", "inverse", "info")
_solve_ex = return_type("linalg_solve_ex", "result", "info")
_cholesky_ex = return_type("linalg_cholesky_ex", "L", "info")
_lstsq = return_type("linalg_lstsq", "solution", "residuals", "rank", "singular_values")


# Checks ------------------------------------------------------------------------------------------


def check_matrices(x: Tensor, name: str, square: bool = True, arg: str = "A",
                   kernel: str | None = None, ints: bool = False) -> None:
    """Floating or complex matrices; with ``kernel`` PyTorch's error is that of the kernel, for
    integers, too, with ``ints``.
    """
    if x._a.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor {arg} must have at least 2 dimensions.")
    if square and x._a.shape[-1] != x._a.shape[-2]:
        raise RuntimeError(f"{name}: {arg} must be batches of square matrices, but they are "
                           f"{x._a.shape[-2]} by {x._a.shape[-1]} matrices")
    check_precise(x, name, kernel, ints)


def check_precise(x: Tensor, name: str, kernel: str | None = None, ints: bool = False) -> None:
    dtype = x._a.dtype
    if dtype.char in PRECISE:
        return
    if dtype.kind not in dtypes.INEXACT and not (ints and kernel):
        raise RuntimeError(f"{name}: Expected a floating point or complex tensor as input. Got "
                           f"{type_name(dtype)}")
    if kernel:
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{type_name(dtype)}': use "
                                  "float32, as in x.float()")
    raise RuntimeError(f"{name}: Low precision dtypes not supported. Got {type_name(dtype)}")


def check_same_dtype(a: Tensor, b: Tensor, name: str) -> None:
    if a._a.dtype != b._a.dtype:
        raise RuntimeError(f"{name}: Expected A and B to have the same dtype, but found A of type "
                           f"{type_name(a._a.dtype)} and B of type {type_name(b._a.dtype)} instead")


def no_info(x: Tensor) -> Tensor:
    """Zeros for each matrix of a batch."""
    return wrap(x._be.xp.zeros(x._a.shape[:-2], np.int32), x._be)


# Inverses and equations --------------------------------------------------------------------------


def inv(A: Tensor) -> Tensor:
    """The inverses of square matrices."""
    check_matrices(A, "linalg.inv")
    return T.inv(A)


def inv_ex(A: Tensor, *, check_errors: bool = False) -> Any:
    """(inverse, info), without an error: info is not 0 where a matrix has no inverse."""
    check_matrices(A, "linalg.inv")
    be, a = A._be, A._a
    if be.index == 0 and not fails(be.xp.linalg.inv, a):
        return _inv_ex((T.inv(A), no_info(A)))
    if check_errors and be.index == 0:
        raise singular_error(be, a, "linalg.inv_ex", INVERSION)
    return _inv_ex((T.inv(A, check=False), wrap(lu_arrays(be, a)[3], be)))


def is_vector(A: Tensor, B: Tensor) -> bool:
    """Is B a batch of vectors, by PyTorch's rule?"""
    return B._a.ndim == 1 or (A._a.ndim - 1 == B._a.ndim and B._a.shape == A._a.shape[:-1])


def _system(A: Tensor, B: Tensor, left: bool, name: str = "linalg.solve") -> tuple[Any, Any, bool]:
    """A and B as T.solve takes them, and whether B was of vectors."""
    check_matrices(A, name)
    if not B._a.ndim:
        raise RuntimeError(f"{name}: The input tensor B must have at least 2 dimensions.")
    check_same_dtype(A, B, name)
    vector = is_vector(A, B)
    if vector and not left:
        raise RuntimeError(f"{name}: Vector broadcasting of the left hand side is not supported "
                           "for left=False. In this case linalg.solve is equivalent to "
                           "B / A.squeeze(-1)")
    b = T.unsqueeze(B, dim=B._a.ndim) if vector else B
    check_equation(A, b, left, name)
    return (A, b, vector) if left else (T.transpose(A, dim0=-2, dim1=-1),
                                        T.transpose(b, dim0=-2, dim1=-1), False)


def check_equation(A: Tensor, b: Tensor, left: bool, name: str) -> None:
    m, n = b._a.shape[-2:]
    if A._a.shape[-1] != (m if left else n):
        raise RuntimeError(f"{name}: Incompatible shapes of A and B for the equation "
                           f"{'AX = B' if left else 'XA = B'} ({A._a.shape[-2]}x{A._a.shape[-1]} "
                           f"and {m}x{n})")
    for i, (p, q) in enumerate(zip(A._a.shape[-3::-1], b._a.shape[-3::-1])):
        if p != q and 1 not in (p, q):
            raise RuntimeError(f"The batch dimensions of A and B don't broadcast: {name} got "
                               f"{list(A._a.shape)} and {list(b._a.shape)}, which differ {i + 3} "
                               "from the end")


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X of A X = B, or of X A = B without ``left``."""
    return solve_checked(A, B, left, True)


def solve_checked(A: Tensor, B: Tensor, left: bool, check: bool) -> Tensor:
    a, b, vector = _system(A, B, left)
    x = T.solve(a, b, check=check)
    if vector:
        return T.squeeze(x, dim=(x._a.ndim - 1,))
    return x if left else T.transpose(x, dim0=-2, dim1=-1)


def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Any:
    """(result, info), without an error: info is not 0 where A is singular."""
    a, _, _ = _system(A, B, left)
    be = A._be
    info = wrap(lu_arrays(be, a._a)[3], be)
    if check_errors and be.index == 0 and fails(be.xp.linalg.inv, a._a):
        raise singular_error(be, a._a, "torch.linalg.solve_ex", SOLVER)
    return _solve_ex((solve_checked(A, B, left, False), info))


def solve_triangular(A: Tensor, B: Tensor, *, upper: bool, left: bool = True,
                     unitriangular: bool = False) -> Tensor:
    """X of A X = B, or X A = B, for triangular A, of which the other half isn't read."""
    check_matrices(A, "linalg.solve_triangular")
    if B._a.ndim < 2:
        raise RuntimeError("linalg.solve_triangular: The input tensor B must have at least 2 "
                           "dimensions.")
    check_same_dtype(A, B, "linalg.solve_triangular")
    check_equation(A, B, left, "linalg.solve_triangular")
    if left:
        return T.solve_triangular(A, B, upper=upper, unit=unitriangular)
    t = T.solve_triangular(T.transpose(A, dim0=-2, dim1=-1), T.transpose(B, dim0=-2, dim1=-1),
                           upper=not upper, unit=unitriangular)
    return T.transpose(t, dim0=-2, dim1=-1)


def _tolerance(x: Tensor, atol: Any, rtol: Any) -> tuple[Any, Any]:
    """(atol, rtol) as arrays or numbers, with PyTorch's defaults."""
    def value(v: Any) -> Any:
        return v._a if isinstance(v, Tensor) else v
    eps = max(x._a.shape[-2:]) * float(np.finfo(x._a.real.dtype).eps)
    if rtol is None:
        rtol = eps if atol is None else 0.0
        if isinstance(atol, Tensor):
            rtol = x._be.xp.where(atol._a > 0, 0.0, eps)
        elif atol is not None and atol <= 0:
            rtol = eps
    return 0.0 if atol is None else value(atol), value(rtol)


def pinv(input: Tensor, *, atol: Any = None, rtol: Any = None, hermitian: bool = False,
         rcond: Any = None) -> Tensor:
    """The Moore-Penrose inverses; singular values up to max(atol, rtol * the largest) are 0."""
    if input._a.ndim < 2 or input._a.dtype.char not in PRECISE:
        raise RuntimeError(f"linalg.pinv({type_name(input._a.dtype)}{{{list(input._a.shape)}}}): "
                           "expected a tensor with 2 or more dimensions of float, double, cfloat "
                           "or cdouble types")
    if hermitian:
        check_matrices(input, "linalg.pinv")
    a, r = _tolerance(input, atol, rtol if rcond is None else rcond)
    if not input._a.size:
        shape = (*input._a.shape[:-2], input._a.shape[-1], input._a.shape[-2])
        return T.unsafe_view(input, shape=shape) * 1
    return T.pinv(input, atol=a, rtol=r, hermitian=hermitian)


_DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


def lstsq(A: Tensor, B: Tensor, rcond: Any = None, *, driver: str | None = None) -> Any:
    """(solution, residuals, rank, singular_values) of the least squares problem |A X - B|."""
    name = "torch.linalg.lstsq"
    check_precise(A, name)
    if A._a.ndim < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions.")
    if B._a.ndim < 1:
        raise RuntimeError(f"{name}: other must have at least 1 dimension.")
    if A._a.dtype != B._a.dtype:
        raise RuntimeError(f"{name}: Expected input and other to have the same dtype, but got "
                           f"input's dtype {type_name(A._a.dtype)} and other's dtype "
                           f"{type_name(B._a.dtype)}")
    if driver is not None and driver not in _DRIVERS:
        raise RuntimeError(f"{name}: parameter `driver` should be one of (gels, gelsy, gelsd, "
                           f"gelss), not {driver}")
    vector = A._a.ndim - 1 == B._a.ndim and B._a.shape == A._a.shape[:-1]
    b = T.unsqueeze(B, dim=B._a.ndim) if vector else B
    m, n = A._a.shape[-2:]
    if not 0 <= A._a.ndim - B._a.ndim <= 1:
        raise RuntimeError(f"{name}: input.dim() must be greater or equal to other.dim() and "
                           "(input.dim() - other.dim()) <= 1, but the shapes are "
                           f"{list(A._a.shape)} and {list(B._a.shape)}")
    if b._a.ndim == A._a.ndim - 1:
        raise RuntimeError(f"{name}: the batch dims of A {list(A._a.shape)} and B "
                           f"{list(B._a.shape)} don't agree: unsqueeze() B")
    if b._a.ndim < 2 or b._a.shape[-2] != m:
        raise RuntimeError(f"{name}: input.size(-2) should match "
                           f"other.size({'-1' if vector else '-2'}), but the shapes are "
                           f"{list(A._a.shape)} and {list(B._a.shape)}")
    driver = driver or ("gelsy" if A._be.index == 0 else "gels")
    eps = float(np.finfo(A._a.real.dtype).eps) * max(m, n) if rcond is None else rcond
    full = driver == "gels"
    x = T.bmm(T.pinv(A, atol=0.0, rtol=0.0 if full else eps), b) if A._a.size else \
        wrap(b._be.xp.zeros((*b._a.shape[:-2], n, b._a.shape[-1]), b._a.dtype), b._be)
    s = A._be.xp.linalg.svd(A._a, compute_uv=False)
    nothing = wrap(A._be.empty((0,), s.dtype), A._be)
    rank = wrap(A._be.empty((0,), np.int64), A._be)
    if not full:
        top = s.max(-1, keepdims=True) if s.shape[-1] else s
        rank = wrap((s > eps * top).sum(-1), A._be)
    residuals = nothing
    if m > n and driver != "gelsy" and (full or bool((rank == n).all())):
        apart = T.sub(T.bmm(A, x), b)
        residuals = T.sum(T.pow_number(T.abs(apart), exponent=2), dim=(b._a.ndim - 2,))
    x = T.squeeze(x, dim=(x._a.ndim - 1,)) if vector else x
    return _lstsq((x, residuals, rank, wrap(s, A._be) if driver in ("gelsd", "gelss") else nothing))


def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The inverse for tensordot(..., ind), of a tensor whose first ind dims and rest agree."""
    if ind <= 0:
        raise RuntimeError(f"Expected a strictly positive integer for 'ind', but got {ind}")
    first, rest = A._a.shape[:ind], A._a.shape[ind:]
    if math.prod(first) != math.prod(rest):
        raise RuntimeError("Expected self to satisfy the requirement prod(self.shape[ind:]) == "
                           f"prod(self.shape[:ind]), but got {math.prod(rest)} != "
                           f"{math.prod(first)}")
    out = inv_ex(A.reshape(math.prod(first), math.prod(rest)), check_errors=True)[0]
    return out.reshape(*rest, *first)


def tensorsolve(A: Tensor, B: Tensor, dims: Any = None) -> Tensor:
    """X of tensordot(A, X, X.ndim) = B; dims: those of A that go to its end first."""
    if dims is not None:
        last = [dim_of(d, A._a.ndim) for d in dims]
        A = A.permute([d for d in range(A._a.ndim) if d not in last] + last)
    n = B._a.ndim
    rows, rest = math.prod(A._a.shape[:n]), A._a.shape[n:]
    if math.prod(rest) != rows:
        raise RuntimeError("Expected self to satisfy the requirement prod(self.shape[other.ndim:]) "
                           f"== prod(self.shape[:other.ndim]), but got {math.prod(rest)} != {rows}")
    return solve(A.reshape(rows, rows), B.reshape(rows)).reshape(rest)


# Determinants ------------------------------------------------------------------------------------


def det(A: Tensor) -> Tensor:
    """The determinants of square matrices."""
    check_matrices(A, "linalg.det", kernel="lu_cpu")
    return T.det(A)


def slogdet(A: Tensor) -> Any:
    """(sign, logabsdet): det(A) = sign * exp(logabsdet)."""
    check_matrices(A, "linalg.slogdet")
    return _slogdet(T.slogdet(A))


# Factorisations ----------------------------------------------------------------------------------


def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """L with L L^H = A, or with ``upper`` its adjoint; A must be positive-definite."""
    return cholesky_named(A, upper, "linalg.cholesky")


def cholesky_named(A: Tensor, upper: bool, name: str) -> Tensor:
    check_matrices(A, name, kernel="cholesky_cpu")
    return T.cholesky(A, upper=upper, name=name)


def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> Any:
    """(L, info), without an error: info is the order of the first minor that isn't positive."""
    check_matrices(A, "linalg.cholesky", kernel="cholesky_cpu")
    try:
        return _cholesky_ex((cholesky_named(A, upper, "linalg.cholesky_ex"), no_info(A)))
    except LinAlgError:
        if check_errors:
            raise
    from gpugrad.ops.linalg_factors import minor_that_fails
    be, flat, info = A._be, A._a.reshape(-1, *A._a.shape[-2:]), []
    source = flat.conj().swapaxes(-1, -2) if upper else flat
    for x in source:
        failed = fails(be.xp.linalg.cholesky, x)
        info.append(minor_that_fails(be, x) if failed else 0)
    good = be.xp.stack([be.xp.full_like(x, np.nan) if i else be.xp.linalg.cholesky(x)
                        for x, i in zip(source, info)]).reshape(A._a.shape)
    out = wrap(good.conj().swapaxes(-1, -2) if upper else good, be)
    return _cholesky_ex((out, wrap(be.from_host(np.array(info, np.int32).reshape(
        A._a.shape[:-2])), be)))


_MODES = ("reduced", "complete", "r")


def qr(A: Tensor, mode: str = "reduced") -> Any:
    """(Q, R) with orthonormal columns in Q and R upper triangular; mode "r" leaves Q empty."""
    check_matrices(A, "linalg.qr", square=False, kernel="geqrf_cpu")
    if mode not in _MODES:
        raise RuntimeError(f"qr received unrecognized mode '{mode}' but expected one of 'reduced' "
                           "(default), 'r', or 'complete'")
    return _qr(T.qr(A, mode=mode))


def _check_uplo(UPLO: str) -> str:
    if not isinstance(UPLO, str) or UPLO.upper() not in ("L", "U"):
        raise RuntimeError("Expected UPLO argument to be 'L' or 'U', but got " + str(UPLO))
    return UPLO.upper()


def eigh(A: Tensor, UPLO: str = "L") -> Any:
    """(eigenvalues, eigenvectors) of Hermitian matrices; one triangle is read."""
    check_matrices(A, "linalg.eigh", kernel="linalg_eigh_cpu", ints=True)
    return _eigh(T.eigh(A, uplo=_check_uplo(UPLO)))


def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of Hermitian matrices, ascending."""
    check_matrices(A, "linalg.eigvalsh", kernel="linalg_eigh_cpu", ints=True)
    return T.eigh(A, uplo=_check_uplo(UPLO))[0]


def eig(A: Tensor) -> Any:
    """(eigenvalues, eigenvectors), complex, of square matrices."""
    check_eig(A, "linalg.eig")
    return _eig(T.eig(A))


def check_eig(A: Tensor, name: str) -> None:
    check_matrices(A, name, kernel="linalg_eig_out_cpu")
    if A._be.index == 0 and not np.isfinite(A._a).all():
        raise RuntimeError("torch.linalg.eig: input tensor should not contain infs or NaNs.")


def eigvals(A: Tensor) -> Tensor:
    """The eigenvalues of square matrices, complex."""
    check_eig(A, "linalg.eigvals")
    return T.eig(A)[0]


def svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    """(U, S, Vh): A = U diag(S) Vh, the singular values descending."""
    _check_svd(A, driver)
    return _svd(T.svd(A, full_matrices=full_matrices))


def _check_svd(A: Tensor, driver: str | None) -> None:
    check_matrices(A, "linalg.svd", square=False, kernel="linalg_svd_cpu")
    if driver is not None and A._be.index == 0:
        raise RuntimeError("torch.linalg.svd: keyword argument `driver=` is only supported on CUDA "
                           "inputs with cuSOLVER backend.")


def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """The singular values, descending."""
    _check_svd(A, driver)
    return T.svd(A, full_matrices=False)[1]


# Functions of matrices ---------------------------------------------------------------------------


def matrix_exp(A: Tensor) -> Tensor:
    """The exponentials of square matrices."""
    check_exp(A)
    if not A._a.size:
        return A * 1
    if A._a.dtype in dtypes.HALF:
        return cast(matrix_exp(cast(A, np.dtype("f4"))), A._a.dtype)
    return T.matrix_exp(A)


def check_exp(A: Tensor) -> None:
    name = "linalg.matrix_exp"
    if A._a.dtype.kind not in dtypes.INEXACT:
        raise RuntimeError(f"{name}: Expected a floating point or complex tensor as input. Got "
                           f"{type_name(A._a.dtype)}")
    if A._a.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor A must have at least 2 dimensions.")
    if A._a.shape[-1] != A._a.shape[-2]:
        raise RuntimeError(f"{name}: A must be batches of square matrices, but they are "
                           f"{A._a.shape[-2]} by {A._a.shape[-1]} matrices")


def identity_like(A: Tensor) -> Tensor:
    """Identity matrices in the shape of A."""
    xp = A._be.xp
    return wrap(xp.zeros(A._a.shape, A._a.dtype) + xp.eye(A._a.shape[-1], dtype=A._a.dtype), A._be)


def matrix_power(A: Tensor, n: int) -> Tensor:
    """The n-th powers of square matrices; of inverses for negative n."""
    if not isinstance(n, int):
        raise TypeError("linalg_matrix_power(): argument 'n' (position 2) must be int, not "
                        f"{type(n).__name__}")
    if A._a.ndim < 2 or A._a.shape[-1] != A._a.shape[-2]:
        check_matrices(A, "linalg.matrix_power")
    if n < 0:
        A, n = inv(A), -n
    if n == 0:
        return identity_like(A)
    out: Any = None
    square = A
    while n:
        if n & 1:
            out = square if out is None else T.bmm(out, square)
        n >>= 1
        square = T.bmm(square, square) if n else square
    return T.clone(out) if out is A else out


def matrix_rank(A: Tensor, *, atol: Any = None, rtol: Any = None, hermitian: bool = False,
                tol: Any = None) -> Tensor:
    """How many singular values are above max(atol, rtol * the largest)."""
    if A._a.ndim < 2:
        raise RuntimeError("torch.linalg.matrix_rank: The input tensor input must have at least 2 "
                           "dimensions.")
    if A._a.dtype.char not in PRECISE:
        raise RuntimeError("This function doesn't handle types other than float and double")
    if hermitian:
        check_matrices(A, "linalg.matrix_rank")
    be, xp = A._be, A._be.xp
    a, r = _tolerance(A, atol, rtol) if tol is None else (
        tol._a if isinstance(tol, Tensor) else tol, 0.0)
    if not A._a.size:
        return wrap(xp.zeros(A._a.shape[:-2], np.int64), be)
    s = xp.absolute(xp.linalg.eigvalsh(A._a)) if hermitian else \
        xp.linalg.svd(A._a, compute_uv=False)
    bound = xp.maximum(xp.asarray(a)[..., None], xp.asarray(r)[..., None]
                       * s.max(-1, keepdims=True))
    return wrap((s > bound).sum(-1), be)


# Vectors -----------------------------------------------------------------------------------------


def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The vectors at right angles to pairs of vectors of 3, along a dim."""
    if input._a.ndim != other._a.ndim:
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    n = input._a.ndim
    d = dim_of(dim, n)
    if not n or input._a.shape[d] != 3 or other._a.shape[d] != 3:
        sizes = [x._a.shape[d] if n else 0 for x in (input, other)]
        raise RuntimeError(f"linalg.cross: inputs dimension {dim} must have length 3. Got "
                           f"{sizes[0]} and {sizes[1]}")
    a, b = common(input, other)
    if a._a.dtype.kind == "b":
        raise NotImplementedError("\"cross\" not implemented for 'Bool': convert the input, as in "
                                  "x.int()")
    try:
        return T.cross(a, b, dim=d - n)
    except ValueError:
        from gpugrad.functions.arguments import broadcast_shape
        broadcast_shape(a, b)
        raise


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """The sums of conj(x) * y along a dim."""
    if x._a.dtype.kind not in dtypes.INEXACT:
        raise RuntimeError("linalg.vecdot: Expected a floating point or complex tensor as input. "
                           f"Got {type_name(x._a.dtype)}")
    if x._a.dtype != y._a.dtype:
        raise RuntimeError("linalg.vecdot: Expected x and y to have the same dtype, but found x of "
                           f"type {type_name(x._a.dtype)} and y of type {type_name(y._a.dtype)} "
                           "instead")
    p = (T.conj_physical(x) if x.is_complex() else x) * y
    return T.sum(p, dim=(dim_of(dim, p._a.ndim),)) if p._a.ndim else p


def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """The powers 0 to N - 1 of the elements, in a new last dim."""
    n = x._a.shape[-1] if N is None and x._a.ndim else 1 if N is None else N
    if n <= 1:
        raise RuntimeError("N must be greater than 1.")
    x = cast(x, np.dtype(np.int64)) if x._a.dtype.kind in "iub" else x
    columns = [ones_like(T, x)]
    for _ in range(n - 1):
        columns.append(T.mul(columns[-1], x))
    return T.stack(*columns, dim=x._a.ndim)


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """A view of the diagonals of matrices."""
    n = A._a.ndim
    return T.diagonal(A, offset=offset, dim1=dim_of(dim1, n), dim2=dim_of(dim2, n))
