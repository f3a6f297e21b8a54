"""gpugrad.special and the gamma, error and Bessel functions against torch."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from side_by_side import check, lines  # skips this file where there is no torch

import gpugrad
from gpugrad import special

torch = pytest.importorskip("torch")

NAN, INF = float("nan"), float("inf")
EDGES = [0.0, -0.0, 1.0, -1.0, 2.0, NAN, INF, -INF]

# Where the functions are compared: (from, to).
REAL = {"airy_ai": (-15, 15), "bessel_j0": (-40, 40), "bessel_j1": (-40, 40), "bessel_y0": (0, 40),
        "bessel_y1": (0.1, 40), "digamma": (0.01, 40), "entr": (0, 3), "erf": (-6, 6),
        "erfc": (-6, 6), "erfcx": (-5, 30), "erfinv": (-1, 1), "exp2": (-5, 5), "expit": (-9, 9),
        "expm1": (-2, 2), "gammaln": (0.01, 60), "i0": (-12, 12), "i0e": (-60, 60),
        "i1": (-12, 12), "i1e": (-60, 60), "log1p": (-0.9, 4), "log_ndtr": (-30, 6),
        "logit": (0.01, 0.99), "modified_bessel_i0": (-12, 12), "modified_bessel_i1": (-12, 12),
        "modified_bessel_k0": (0.01, 20), "modified_bessel_k1": (0.01, 20), "ndtr": (-6, 6),
        "ndtri": (0.001, 0.999), "psi": (0.01, 9), "scaled_modified_bessel_k0": (0.01, 20),
        "scaled_modified_bessel_k1": (0.01, 20), "sinc": (-3, 3), "spherical_bessel_j0": (-20, 20)}
# torch's own errors are larger here; tests/ops/test_special.py compares with exact values.
COARSE = {"airy_ai": 1e-4, "bessel_j0": 1e-5, "bessel_j1": 1e-5, "bessel_y0": 1e-5,
          "bessel_y1": 1e-4}
# Where torch has NaN instead of the limit at infinity.
NO_LIMIT = ("airy_ai", "bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1", "i0", "i1", "i1e",
            "modified_bessel_i0", "modified_bessel_i1")


def both(name: str, *values: Any) -> tuple[Any, Any]:
    """What torch.special and gpugrad.special give, as NumPy's arrays of float64."""
    out = []
    for lib, home in ((torch, torch.special), (gpugrad, special)):
        args = [lib.tensor(v.tolist(), dtype=lib.float64) if isinstance(v, np.ndarray) else v
                for v in values]
        out.append(getattr(home, name)(*args).numpy())
    return out[0], out[1]


@pytest.mark.parametrize("name", sorted(REAL))
def test_values(name: str) -> None:
    x = np.linspace(*REAL[name], 401)
    want, got = both(name, x)
    until = COARSE.get(name, 1e-12)
    np.testing.assert_allclose(got, want, rtol=until, atol=until / 10)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", sorted(REAL))
def test_values_at_the_edges(name: str) -> None:
    x = np.array([v for v in EDGES if name not in NO_LIMIT or abs(v) != INF])
    want, got = both(name, x)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", "bool uint8 int64 float16 bfloat16 float32 complex64".split())
@pytest.mark.parametrize("name", sorted(REAL))
def test_dtypes(name: str, dtype: str) -> None:
    found = []
    for lib, home in ((torch, torch.special), (gpugrad, special)):
        x = lib.tensor([1, 0, 1] if dtype == "bool" else [0.25, 0.5, 0.75]).to(getattr(lib, dtype))
        try:
            found.append(getattr(home, name)(x))
        except NotImplementedError as e:
            found.append(type(e))
    want, got = found
    if isinstance(want, type):               # half precision is there more often than in torch
        assert dtype in ("float16", "bfloat16") or got is want
        return
    assert str(got.dtype) == str(want.dtype)
    wide = "complex128" if dtype == "complex64" and got.is_complex() else "float64"
    until = {"float16": 2e-3, "bfloat16": 1.6e-2}.get(dtype, 2e-6)
    np.testing.assert_allclose(got.to(getattr(gpugrad, wide)).numpy(),
                               want.to(getattr(torch, wide)).numpy(), rtol=until, atol=until)


POLYNOMIALS = [n for n in special.__all__ if "polynomial" in n]


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials(name: str) -> None:
    x = np.linspace(-1.5, 1.5, 31)
    for n in (0, 1, 2, 3, 5, 9, 2.7):
        want, got = both(name, x, n)
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-11)
    degrees = np.arange(31) % 7
    for args in ((x, degrees.astype(float)), (0.3, degrees.astype(float))):
        want, got = both(name, *args)
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)
    for n in (-1, -3):
        assert not both(name, x, n)[1].any()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 6])
def test_polygamma(n: int) -> None:
    want, got = both("polygamma", n, np.linspace(0.05, 25, 100))
    np.testing.assert_allclose(got, want, rtol=1e-8 if n == 1 else 1e-11)


def test_polygamma_of_negative_numbers() -> None:
    x = -np.array([0.3, 0.5, 1.2, 2.75, 6.1])
    for n in (1, 3, 5):          # torch's of an even order leaves them to its zeta
        want, got = both("polygamma", n, x)
        np.testing.assert_allclose(got, want, rtol=1e-9)


@pytest.mark.parametrize("name", ["gammainc", "gammaincc"])
@pytest.mark.parametrize("a", [1e-3, 0.5, 1, 4.5, 11.9, 12.1, 30, 150, 4000])
def test_incomplete_gamma(name: str, a: float) -> None:
    x = np.concatenate([a * np.linspace(0.05, 3, 60), [1e-5, 0.4, 1.4, 1.6]])
    want, got = both(name, np.full(64, float(a)), x)
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-250)


@pytest.mark.parametrize("name", ["gammainc", "gammaincc"])
def test_incomplete_gamma_at_the_edges(name: str) -> None:
    a, x = np.array([[0, 0], [0, 1], [1, 0], [-1, 1], [INF, 1], [1, INF], [1, NAN], [2, -1]]).T
    want, got = both(name, a, x)
    np.testing.assert_array_equal(got, want)


def test_zeta() -> None:
    s, q = (v.ravel() for v in np.meshgrid(np.linspace(1.1, 20, 12), np.linspace(0.1, 30, 12)))
    want, got = both("zeta", s, q)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    want, got = both("zeta", np.array([1, 0.5, 2, 3, 2.5, 4]),
                     np.array([1, 1, -1, -1.5, -1.5, -7.3]))
    np.testing.assert_allclose(got, want, rtol=1e-11)
    want, got = both("zeta", 2, np.array([0.5, 3]))
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_multigammaln() -> None:
    for p in (1, 2, 5):
        want, got = both("multigammaln", np.linspace(2.5, 9, 20), p)
        np.testing.assert_allclose(got, want, rtol=1e-12)


# Gradients ---------------------------------------------------------------------------------------

SMOOTH: dict[str, tuple[float, float]] = {
    n: REAL[n] for n in ("digamma entr erf erfc erfcx erfinv exp2 expit expm1 gammaln i0 i0e i1 "
                         "i1e log1p log_ndtr logit ndtr ndtri psi sinc").split()}


def gradients(lib: Any, fn: Callable[..., Any], *arrays: Any) -> list[Any]:
    xs = [lib.tensor(a.tolist(), dtype=lib.float64, requires_grad=True) for a in arrays]
    out = fn(*xs)
    first = lib.autograd.grad(out.sum(), xs, create_graph=True)
    second = lib.autograd.grad(sum(g.sum() for g in first), xs)
    return [np.array(g.detach().tolist()) for g in (*first, *second)]


@pytest.mark.parametrize("name", sorted(SMOOTH))
def test_gradients_of_two_orders(name: str) -> None:
    low, high = SMOOTH[name]
    x = low + (high - low) * np.array([0.03, 0.2, 0.45, 0.8, 0.97])
    want = gradients(torch, getattr(torch.special, name), x)
    got = gradients(gpugrad, getattr(special, name), x)
    for w, g in zip(want, got):
        np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["xlogy", "xlog1py"])
def test_gradients_of_products_with_logarithms(name: str) -> None:
    x, y = np.array([0.5, -1, 2]), np.array([0.7, 2, 0.1])
    want = gradients(torch, getattr(torch.special, name), x, y)
    got = gradients(gpugrad, getattr(special, name), x, y)
    for w, g in zip(want, got):
        np.testing.assert_allclose(g, w, rtol=1e-10)


def test_gradients_at_zero() -> None:
    for name in ("i0", "i1", "i0e", "i1e", "entr", "xlogy", "xlog1py", "sinc"):
        found = []
        for lib, home in ((torch, torch.special), (gpugrad, special)):
            x = lib.zeros(1, dtype=lib.float64, requires_grad=True)
            y = [] if name[0] != "x" else [lib.ones(1, dtype=lib.float64)]
            found.append(lib.autograd.grad(getattr(home, name)(x, *y).sum(), x)[0].item())
        assert found[0] == pytest.approx(found[1], abs=1e-15), name


def test_what_has_no_gradient() -> None:
    x = gpugrad.tensor([0.5, 2.0], requires_grad=True)
    a = gpugrad.tensor([2.0, 3.0])
    for fn in (lambda: gpugrad.igamma(x, a), lambda: gpugrad.igammac(x, a),
               lambda: special.zeta(x + 1, a)):
        with pytest.raises(NotImplementedError, match="derivative"):
            fn().sum().backward()
    for name in ("bessel_j0", "airy_ai", "modified_bessel_i0"):
        assert not getattr(special, name)(x).requires_grad
    y = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    z = gpugrad.tensor([0.5, 2.0], dtype=gpugrad.float64, requires_grad=True)
    want, = torch.autograd.grad(torch.igamma(torch.tensor([2.0, 3.0]).double(), y).sum(), y)
    got, = gpugrad.autograd.grad(gpugrad.igamma(a.double(), z).sum(), z)
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-12)


CALLS = """
# text: gpugrad names the kind of operands that it takes
# grad_fn: composed of other functions, or one node for tensors and numbers
t.special.expit(x)
t.special.erf(i)
t.special.erfinv(x / 4)
t.special.round(x, decimals=1)
t.special.softmax(x, 0)
t.special.softmax(i, 0, dtype=t.float32)
t.special.log_softmax(x, dim=1)
t.special.logsumexp(x, 0)
t.special.logsumexp(x, (0, 1), keepdim=True)
t.special.logit(p, 0.1)
t.special.psi(p)
t.special.gammaln(p)
t.special.xlog1py(x, p)
t.special.xlog1py(2, p)  #! grad_fn
t.special.xlog1py(x, 2)  #! grad_fn
t.special.xlog1py(2, 3)  #! text
t.special.zeta(2, 2)  #! text
t.special.zeta(2.5, p)  #! grad_fn
t.special.ndtr(x)  #! grad_fn
t.special.chebyshev_polynomial_t(x, 2)
t.special.chebyshev_polynomial_t(2, j)
t.special.chebyshev_polynomial_t(2, 3)  #! text
t.special.laguerre_polynomial_l(i, 2)
t.special.legendre_polynomial_p(x, col.detach())
t.special.bessel_j0(i)
t.special.erfc(x.T)
t.special.erfc(e)
t.special.erfc(s)
t.special.ndtri(p.detach() / 9, out=y.detach())
t.special.polygamma(1, p)
t.special.polygamma(-1, p)
t.special.polygamma(1.5, p)  #! text
t.special.multigammaln(p + 1, 2)  #! grad_fn
t.mvlgamma(i + 6, 2)
t.mvlgamma(p, 0)
t.polygamma(2, j)
p.polygamma(1)
p.digamma()
p.lgamma()
x.erfc()
x.i0()
p.clone().lgamma_()
p.clone().digamma_()
x.clone().erfc_()
(x / 4).erfinv_()
x.clone().i0_()
p.clone().polygamma_(1)  #! grad_fn
(p + 1).mvlgamma_(2)  #! grad_fn
i.lgamma_()
i.mvlgamma_(2)  #! text
i.polygamma_(1)
t.igamma(p.detach(), v.detach() ** 2)
t.igammac(p.detach(), v.detach() ** 2)
t.igamma(i, j)
t.igamma(p, 2)
p.detach().clone().igamma_(v.detach() ** 2)
p.detach().clone().igammac_(v.detach() ** 2)
"""


@pytest.mark.parametrize("code, known", lines(CALLS))
def test_calls(code: str, known: list[str]) -> None:
    check(code, known)


def test_every_name_of_torch_special_is_there() -> None:
    names = set(torch.special.__all__)
    assert names <= set(special.__all__), names - set(special.__all__)
