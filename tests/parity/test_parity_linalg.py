"""Linear algebra against torch: values, dtypes, gradients of both orders, exception types."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from two_orders import agree, host  # skips this file where there is no torch

import gpugrad

torch = pytest.importorskip("torch")

R = np.random.default_rng(3)


def real(*shape: int) -> Any:
    return R.standard_normal(shape)


def c(*shape: int) -> Any:
    return real(*shape) + 1j * real(*shape)


def mH(a: Any) -> Any:
    return np.swapaxes(a.conj(), -1, -2)


S, B, C, CB = real(4, 4), real(2, 3, 3), c(3, 3), c(2, 3, 3)
SQUARES = {"matrix": S, "batch": B, "complex": C, "complex batch": CB, "float32": S.astype("f4"),
           "empty": np.zeros((0, 3, 3))}
MATRICES = {**SQUARES, "tall": real(5, 3), "wide": real(3, 5), "tall batch": real(2, 4, 3),
            "wide batch": real(2, 3, 4), "complex tall": c(4, 3), "complex wide": c(3, 4),
            "no rows": np.zeros((0, 3)), "no columns": np.zeros((3, 0))}
SINGULAR = np.array([[1.0, 2, 3], [2, 4, 6], [1, 0, 1]])

OF_SQUARE = """
t.linalg.inv(a)
t.linalg.det(a)
t.linalg.slogdet(a)
t.slogdet(a)[1]
t.det(a)
t.linalg.matrix_power(a,3)
t.linalg.matrix_power(a,0)
t.linalg.matrix_power(a,-2)
t.matrix_exp(a)
t.linalg.matrix_exp(a*3)
t.inverse(a)
t.linalg.inv_ex(a)
t.linalg.cond(a)
t.linalg.cond(a,-2)
t.linalg.cond(a,'nuc')
t.linalg.eigvals(a).abs().sum(-1)
t.linalg.lu_factor(a)
t.linalg.lu(a)
t.linalg.lu_factor_ex(a)
t.lu(a)
t.linalg.eig(a)[0].real.sum(-1)
t.linalg.vecdot(a,a)
t.linalg.solve(a,a)
t.linalg.solve(a,a,left=False)
t.linalg.solve_ex(a,a)
t.linalg.solve_triangular(a,a,upper=True)
t.linalg.solve_triangular(a,a,upper=False,unitriangular=True)
t.linalg.solve_triangular(a,a,upper=False,left=False)
t.linalg.matrix_rank(a)
t.linalg.tensorinv(a.reshape(*a.shape),ind=1) if a.ndim==2 else a
t.linalg.matrix_norm(a)
t.linalg.matrix_norm(a,'nuc')
t.linalg.matrix_norm(a,2)
t.linalg.matrix_norm(a,-2)
t.linalg.norm(a)
t.linalg.vector_norm(a,3,dim=-1)
t.lu_unpack(*t.linalg.lu_factor(a))
t.linalg.lu_solve(*t.linalg.lu_factor(a),a)
t.linalg.lu_solve(*t.linalg.lu_factor(a),a,left=False)
t.linalg.lu_solve(*t.linalg.lu_factor(a),a,adjoint=True)
t.linalg.pinv(a)
t.linalg.diagonal(a)
t.linalg.vander(a)
t.logdet(a@a.mH)
t.linalg.cholesky(a@a.mH+t.eye(a.shape[-1],dtype=a.dtype))
t.linalg.cross(a,a*2+1) if a.shape[-1]==3 else a
t.triangular_solve(a,a)
t.triangular_solve(a,a,upper=False,transpose=True)
"""

OF_HERMITIAN = """
t.linalg.eigvalsh(a)
t.linalg.eigh(a)[0]
t.linalg.eigh(a)[1].abs()
t.linalg.eigh(a,'U')[0]
(t.linalg.eigh(a)[1].abs()*t.linalg.eigh(a)[0].unsqueeze(-2)).sum()
t.linalg.pinv(a,hermitian=True)
t.linalg.matrix_rank(a,hermitian=True)
"""

OF_DEFINITE = """
t.linalg.cholesky(a)
t.linalg.cholesky(a,upper=True)
t.cholesky(a)
t.cholesky(a,upper=True)
t.linalg.cholesky_ex(a)
t.cholesky_inverse(t.linalg.cholesky(a))
t.cholesky_solve(a,t.linalg.cholesky(a))
t.cholesky_solve(a,t.linalg.cholesky(a,upper=True),upper=True)
"""

OF_ANY = """
t.linalg.svdvals(a)
t.linalg.svd(a)[1]
t.linalg.svd(a,full_matrices=False)[0].abs()
t.linalg.svd(a,full_matrices=False)[2].abs()
t.svd(a)[1]
t.svd(a,compute_uv=False)
t.linalg.pinv(a)
t.linalg.pinv(a,rtol=0.5)
t.linalg.pinv(a,atol=0.3)
t.pinverse(a)
t.linalg.qr(a)
t.linalg.qr(a,'r')
t.linalg.qr(a,'complete')
t.qr(a)
t.linalg.matrix_rank(a)
t.linalg.lu(a)
t.linalg.lu_factor(a)
(lambda u,s,v:(u*s.unsqueeze(-2)@v))(*t.linalg.svd(a,full_matrices=False))
t.geqrf(a.detach())
t.linalg.cond(a)
t.linalg.householder_product(*t.geqrf(a.detach()))
t.orgqr(*t.geqrf(a.detach()))
t.ormqr(*t.geqrf(a.detach()), a.detach())
t.ormqr(*t.geqrf(a.detach()), a.detach().mT, False, True)
t.linalg.lstsq(a,t.ones_like(a))[:3]
"""

SYSTEMS = """
t.linalg.solve(a,b)
t.linalg.solve(a,b,left=False)
t.linalg.solve_triangular(a,b,upper=True)
t.linalg.lstsq(a,b)[0]
t.linalg.tensorsolve(a,b)
t.linalg.solve_ex(a,b)
"""

PRODUCTS = """
t.addmm(g,x,m,alpha=2,beta=0.5)
t.addmm(g[0],x,m)
t.addmm(g[0,0],x,m,beta=0)
g.clone().addmm_(x,m,alpha=0.5)
t.addmv(x[:,0],x,v)
t.addmv(x[0,0],x,v,beta=2,alpha=3)
x[:,0].clone().addmv_(x,v)
t.addr(x,x[:,0],v)
t.addr(v,x[:,0],v,alpha=2,beta=0)
x.clone().addr_(x[:,0],v)
t.baddbmm(g,A,Bm,alpha=2)
t.baddbmm(g[0],A,Bm,beta=0)
t.baddbmm(g.expand(2,3,5),A,Bm).clone()
g.expand(2,3,5).clone().baddbmm_(A,Bm,beta=2)
t.addbmm(g,A,Bm,beta=0.5,alpha=2)
g.clone().addbmm_(A,Bm)
t.vdot(v,v)
t.inner(v,v)
t.inner(x,x)
t.inner(A,x)
t.inner(x,x[0,0])
t.outer(v,x[0])
t.ger(v,v)
t.tensordot(A,Bm,dims=([0,2],[0,1]))
t.tensordot(x,m,1)
t.tensordot(x,m,0)
t.tensordot(A,A,3)
t.kron(x,m)
t.kron(x,v)
t.kron(A,x)
t.trace(x)
t.trace(m)
t.dist(x,x*2)
t.cov(x)
t.cov(x,correction=0)
t.cov(v)
t.cov(x,fweights=t.tensor([1,2,3,4]))
t.cov(x,aweights=v.detach().abs())
t.cov(x,fweights=t.tensor([1,2,3,4]),aweights=v.detach().abs(),correction=2)
t.corrcoef(x)
t.corrcoef(v)
t.renorm(x,2,0,0.5)
t.renorm(A,1,1,0.5)
x.clone().renorm_(2,0,0.5)
t.chain_matmul(x,m,m.T,x.T)
t.linalg.multi_dot([v,m,m.T,v])
t.linalg.multi_dot([x,m])
t.cross(x[:,:],x*2+v)
t.linalg.cross(x.T,(x*2+v).T)
t.linalg.vecdot(x,v)
t.linalg.matmul(x,m)
t.linalg.vander(v)
t.linalg.vander(v,N=3)
x.addmm(x,m@m.T)
t.einsum('ij,jk',x,m)
t.einsum(x,[0,1],m,[1,2],[0,2])
t.einsum(x,[0,1],m,[1,2])
t.einsum(A,[...,0,1],m,[1,2],[...,0,2])
t.einsum('bij,bjk->bik',A,Bm)
t.einsum('bij,bjk->bik',[A,Bm])
t.einsum('...ij,jk',A,m)
t.einsum('ij->ji',x)
t.einsum('ij,ij->',x,x)
t.einsum('i,j,jk',x[:,0],v,m)
t.einsum('ij,jk',x)
t.einsum('ij,jk->il',x,m)
t.einsum('ij,kk',x,m)
t.einsum('ij.,jk',x,m)
t.einsum('ij',x,m)
t.einsum('i1',x)
t.einsum('ij->ii',x)
t.einsum()
t.einsum('ij')
t.einsum(' i j , j k -> i k ',x,m)
t.linalg.norm(x,2)
t.linalg.norm(x,'fro')
t.linalg.norm(A,2)
t.linalg.norm(A,dim=(1,2),ord=-2)
t.linalg.norm(A,3,dim=1)
t.linalg.norm(x,dim=0,keepdim=True)
t.linalg.vector_norm(x,0)
t.linalg.vector_norm(x,-1.5,dim=1)
t.linalg.vector_norm(x,dtype=t.float64)
t.linalg.matrix_norm(A,dim=(0,2),ord=2,keepdim=True)
t.linalg.norm(x,3)
"""

OF_INTEGERS = """
t.addmm(g,x,m,alpha=2,beta=3)
t.addr(x,x[:,0],x[0])
t.addr(x,x[:,0],x[0],alpha=1.5)
t.addmv(x[:,0],x,x[0])
t.inner(x,x)
t.kron(x,m)
t.trace(x)
t.tensordot(x,m,1)
t.einsum('ij,jk',x,m)
t.cov(x)
t.cdist(x,x)
t.vdot(x[0],x[0])
t.cross(x.T[:3],x.T[:3]*2)
t.linalg.vander(x)
t.corrcoef(x)
t.dist(x,x)
t.renorm(x,2,0,1)
t.linalg.multi_dot([x,m])
t.outer(x[0],m[0])
t.ger(x[0],x[0]*1.5)
"""

OF_COMPLEX = """
t.addmm(g,x,m,alpha=2j,beta=3)
t.addmv(x[:,0],x,v,alpha=2j)
t.addr(x,x[:,0],v,beta=1j)
t.baddbmm(g,x[None],m[None])
t.addbmm(g,x[None],m[None])
t.vdot(v,v*2j)
t.inner(x,x)
t.tensordot(x,m,1)
t.kron(x,m)
t.trace(x)
t.cov(x)
t.corrcoef(x)
t.cross(x[:3],x[:3]*2j+v)
t.linalg.vecdot(x,v)
t.einsum('ij,jk',x,m)
t.dist(x,x*2)
t.renorm(x,2,0,0.5)
t.linalg.vander(v)
t.linalg.norm(x)
t.linalg.norm(x,'nuc')
t.linalg.norm(x,2)
t.linalg.norm(x,1)
t.linalg.vector_norm(x,3)
t.cumprod(x,1)
t.linalg.multi_dot([x,m])
g.clone().addmm_(x,m)
"""

FAILURES = """
t.linalg.inv(a)
t.linalg.inv_ex(a)[1]
t.linalg.inv_ex(a,check_errors=True)
t.linalg.solve(a,b)
t.linalg.solve_ex(a,b)[1]
t.linalg.cholesky(-a)
t.linalg.cholesky_ex(-a)[1]
t.linalg.lu_factor(a)
t.linalg.lu_factor_ex(a.detach())
t.linalg.matrix_rank(a)
t.linalg.pinv(a.detach())
t.linalg.cond(a.detach(),1)
t.linalg.tensorinv(a,ind=1)
"""


def cases(text: str) -> Any:
    return pytest.mark.parametrize("code", text.strip().splitlines())


def named(arrays: dict[str, Any]) -> Any:
    return pytest.mark.parametrize("a", arrays.values(), ids=arrays)


@cases(OF_SQUARE)
@named(SQUARES)
def test_square(code: str, a: Any) -> None:
    agree(code, a=a)


@cases(OF_HERMITIAN)
@named({k: a for k, a in SQUARES.items() if a.size})
def test_hermitian(code: str, a: Any) -> None:
    agree(code, a=a + mH(a))


@cases(OF_DEFINITE)
@named({k: a for k, a in SQUARES.items() if a.size})
def test_definite(code: str, a: Any) -> None:
    agree(code, a=a @ mH(a) + np.eye(a.shape[-1], dtype=a.dtype))


@cases(OF_ANY)
@named(MATRICES)
def test_any_matrix(code: str, a: Any) -> None:
    agree(code, a=a)


@cases(SYSTEMS)
@pytest.mark.parametrize("a, b", [
    (S, real(4)), (B, real(2, 3)), (B, real(3)), (B, real(3, 2)), (B, real(5, 2, 3, 2)),
    (C, c(3, 2)), (S, real(2, 4, 3))], ids=range(7))
def test_systems(code: str, a: Any, b: Any) -> None:
    agree(code, a=a, b=b)


def test_tensors_as_matrices() -> None:
    agree("t.linalg.tensorsolve(a, b)", a=real(2, 3, 6), b=real(2, 3))
    agree("t.linalg.tensorsolve(a, b, dims=(0, 2))", a=np.eye(24).reshape(6, 4, 2, 3, 4),
          b=real(6, 4))
    agree("t.linalg.tensorinv(a, ind=2)", a=real(4, 6, 8, 3))
    agree("t.linalg.tensorinv(a, ind=1)", a=real(24, 8, 3))
    agree("t.linalg.tensorinv(a, ind=0)", a=real(3, 3))


@cases(FAILURES)
@pytest.mark.parametrize("a, b", [(SINGULAR, real(3)),
                                  (np.stack([np.eye(3), SINGULAR]), np.ones((2, 3, 1)))],
                         ids=["one", "batch"])
def test_singular_matrices(code: str, a: Any, b: Any) -> None:
    agree(code, a=a, b=b)


@pytest.mark.parametrize("code", ["t.linalg.inv(a)", "t.linalg.solve(a, a)",
                                  "t.linalg.cholesky(-a)", "t.cholesky(-a)",
                                  "t.linalg.inv_ex(a, check_errors=True)",
                                  "t.linalg.svd(a * t.tensor(float('nan')))"])
@pytest.mark.parametrize("a", [SINGULAR, np.stack([np.eye(3), SINGULAR])], ids=["one", "batch"])
def test_texts_of_failures(code: str, a: Any) -> None:
    texts = []
    for lib in (torch, gpugrad):
        with pytest.raises(lib.linalg.LinAlgError) as error:
            eval(code, {"t": lib, "a": lib.tensor(a)})
        texts.append(str(error.value))
    assert texts[0].replace("(Batch element 0): ", "") == texts[1].replace(
        "(Batch element 0): ", "") if "svd" in code else texts[0] == texts[1]


def test_large_matrices() -> None:
    a = real(150, 150)
    agree("t.linalg.lu(a)", a=a)
    agree("t.linalg.solve_triangular(a.tril() + 20 * t.eye(150, dtype=a.dtype), a, upper=False)",
          a=a)
    agree("t.linalg.matrix_exp(a / 5)", a=a)
    agree("t.cdist(a, a[:30] + 1).sum()[None].detach()", a=a)


@cases(PRODUCTS)
def test_products(code: str) -> None:
    r = np.random.default_rng(7)
    f = r.standard_normal
    agree(code, x=f((3, 4)), m=f((4, 5)), v=f(4), g=f((3, 5)), A=f((2, 3, 4)), Bm=f((2, 4, 5)))


@cases(OF_INTEGERS)
def test_integers(code: str) -> None:
    agree(code, x=np.arange(12).reshape(3, 4), m=np.arange(20).reshape(4, 5),
          g=np.arange(15).reshape(3, 5))


@cases(OF_COMPLEX)
def test_complex(code: str) -> None:
    r = np.random.default_rng(8)

    def z(*shape: int) -> Any:
        return r.standard_normal(shape) + 1j * r.standard_normal(shape)
    agree(code, x=z(3, 4), m=z(4, 5), v=z(4), g=z(3, 5))


@pytest.mark.parametrize("rest", ["", ", p=1", ", p=3", ", p=0", ", p=1.5", ", p=inf",
                                  ", compute_mode='use_mm_for_euclid_dist'"])
def test_distances(rest: str) -> None:
    """Of the first order: torch has no more."""
    x, y = real(2, 3, 4), real(2, 5, 4)
    y[:, 0] = x[:, 0]
    found = []
    for lib in (torch, gpugrad):
        a, b = lib.tensor(x, requires_grad=True), lib.tensor(y, requires_grad=True)
        d = eval(f"t.cdist(a, b{rest})", {"t": lib, "a": a, "b": b, "inf": np.inf})
        found.append([host(d), *map(host, lib.autograd.grad((d * d).sum() + d.sum(), (a, b)))])
    for p, q in zip(*found):
        np.testing.assert_allclose(q, p, 1e-6, 1e-6)


HALF = """
t.addmm(x, x, x)
t.addmv(x[0], x, x[0])
t.baddbmm(x[None], x[None], x[None])
t.addr(x, x[0], x[1])
t.einsum('ij,jk->ik', x, x)
t.kron(x, x)
t.trace(x)
t.linalg.norm(x)
t.linalg.inv(x)
t.linalg.svd(x)
t.linalg.det(x)
t.linalg.cholesky(x)
t.linalg.eigh(x)
"""


@cases(HALF)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(code: str, dtype: str) -> None:
    results = []
    for lib in (torch, gpugrad):
        x = lib.tensor(np.random.default_rng(0).random((3, 3))).to(getattr(lib, dtype))
        try:
            out = eval(code, {"t": lib, "x": x})
            results.append((out.dtype == x.dtype, host(out.double())))
        except (RuntimeError, NotImplementedError) as error:
            results.append((type(error).__name__, np.zeros(())))
    assert results[0][0] == results[1][0]
    np.testing.assert_allclose(results[1][1], results[0][1], 2e-2, 2e-2)


@pytest.mark.parametrize("code", [
    "t.linalg.eigh(x)", "t.linalg.svd(x)", "t.svd(x)", "t.linalg.qr(x)", "t.qr(x)",
    "t.linalg.slogdet(x)", "t.slogdet(x)", "t.linalg.lu(x)", "t.linalg.inv_ex(x)",
    "t.linalg.lstsq(x, x)", "t.lu_unpack(*t.linalg.lu_factor(x))", "t.triangular_solve(x, x)",
    "t.linalg.cholesky_ex(x)", "t.linalg.lu_factor_ex(x)", "t.linalg.solve_ex(x, x)"])
@pytest.mark.filterwarnings("ignore")
def test_named_results(code: str) -> None:
    names = []
    for lib in (torch, gpugrad):
        out = eval(code, {"t": lib, "x": lib.eye(2)})
        names.append(repr(out).replace(" ", "").replace("-0.", "0."))
        for name in names[-1].split("(", 1)[1].split("="):
            field = name.rpartition("\n")[2].rpartition(",")[2]
            assert not field.isidentifier() or hasattr(out, field) or field in ("dtype", "int32")
    assert names[0].split("(")[0] == names[1].split("(")[0]
    assert [line.split("=")[0] for line in names[0].splitlines()] == \
        [line.split("=")[0] for line in names[1].splitlines()]


@pytest.mark.parametrize("code", [
    "t.addmm(x, x, y, out=o)", "t.linalg.inv(x, out=o)", "t.linalg.eigh(x, out=(v, o))",
    "t.einsum('ij,jk', x, x)", "t.kron(x, x, out=o)", "t.linalg.det(x, out=v)",
    "t.linalg.solve(x, y, out=o)", "t.fft.fft(x, out=z)", "t.linalg.norm(x, out=v)",
    "t.outer(x[0], x[1], out=o)", "t.linalg.multi_dot([x, x], out=o)"])
@pytest.mark.filterwarnings("ignore")
def test_out(code: str) -> None:
    values = []
    for lib in (torch, gpugrad):
        x = lib.tensor(np.eye(3) + 0.1)
        scope = {"t": lib, "x": x, "y": x * 2, "o": lib.zeros(3, 3, dtype=x.dtype),
                 "v": lib.empty(0, dtype=x.dtype), "z": lib.empty(0, dtype=lib.complex128)}
        eval(code, scope)
        values.append([np.abs(host(scope[k])) for k in "ovz" if scope[k].numel()])
    for a, b in zip(*values):
        np.testing.assert_allclose(b, a, 1e-9, 1e-9)


@pytest.mark.parametrize("code", [
    "t.svd_lowrank(a, 2)", "t.svd_lowrank(a.mT, q=3, niter=1)", "t.pca_lowrank(a)",
    "t.pca_lowrank(a, 2, center=False)", "t.pca_lowrank(a, 9)", "t.pca_lowrank(a, niter=-1)",
    "t.svd_lowrank(a, 2, M=a * 0.5)"])
def test_low_rank(code: str) -> None:
    """The same random vectors, from the same seed."""
    a, results = np.random.default_rng(2).standard_normal((7, 5)), []
    for lib in (torch, gpugrad):
        lib.manual_seed(3)
        try:
            results.append([host(x) for x in eval(code, {"t": lib, "a": lib.tensor(a)})])
        except Exception as error:
            results.append([type(error).__name__])
    for p, q in zip(*results, strict=True):
        if isinstance(p, str) or isinstance(q, str):
            assert p == q
        else:
            np.testing.assert_allclose(np.abs(q), np.abs(p), 1e-6, 1e-8)     # signs are arbitrary
