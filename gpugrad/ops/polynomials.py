"""Orthogonal polynomials by their three-term recurrences. As in PyTorch they have no gradients."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad.autograd.op import op
from gpugrad.dtypes import type_name
from gpugrad.ops.series import in_double

Step = Callable[[Any, Any, Any, int], Any]


def evaluate(be: Any, name: str, x: Any, n: Any, first: Callable[[Any], Any], step: Step) -> Any:
    """The polynomials of the degrees n: first(x) of degree 1, then step(x, p, before, k) of k.

    Degrees lose their fraction; one below 0 gives 0. The host reads the largest, to know how far
    to go, and now and then whether anything finite is left.
    """
    if x.dtype.kind == "c":
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{type_name(x.dtype)}'")
    degree = be.xp.where(be.xp.isfinite(n), be.xp.trunc(n), -1)
    most = int(be.to_host(degree.max())) if degree.size else 0

    def recurrence(xp: Any, x: Any, degree: Any) -> Any:
        before, p = xp.ones(x.shape, x.dtype), first(x)
        zero = xp.zeros((), x.dtype)
        out = xp.where(degree == 0, before, xp.where(degree == 1, p, zero))
        for k in range(2, most + 1):
            before, p = p, step(x, p, before, k)
            out = xp.where(degree == k, p, out)
            if k % 256 == 0 and not be.to_host(xp.isfinite(p).any()):
                return xp.where(degree > k, p, out)
        return out
    recurrence.__name__ = name
    return in_double(be, recurrence, x, degree)


def doubling(x: Any, p: Any, before: Any, k: int) -> Any:
    """The step of all four kinds of Chebyshev polynomials."""
    return 2 * x * p - before


@op(promote="float")
class chebyshev_polynomial_t:
    """Of the first kind: cos(n t) at cos(t)."""
    binary = True
    def forward(be, x, n):
        return evaluate(be, "chebyshev_polynomial_t", x, n, lambda x: x, doubling)


@op(promote="float")
class chebyshev_polynomial_u:
    """Of the second kind: sin((n + 1) t) / sin(t) at cos(t)."""
    binary = True
    def forward(be, x, n):
        return evaluate(be, "chebyshev_polynomial_u", x, n, lambda x: 2 * x, doubling)


@op(promote="float")
class chebyshev_polynomial_v:
    """Of the third kind."""
    binary = True
    def forward(be, x, n):
        return evaluate(be, "chebyshev_polynomial_v", x, n, lambda x: 2 * x - 1, doubling)


@op(promote="float")
class chebyshev_polynomial_w:
    """Of the fourth kind."""
    binary = True
    def forward(be, x, n):
        return evaluate(be, "chebyshev_polynomial_w", x, n, lambda x: 2 * x + 1, doubling)


def shifted(first: Callable[[Any], Any]) -> tuple[Callable[[Any], Any], Step]:
    """The same polynomials of 2x - 1, on [0, 1]."""
    return lambda x: first(2 * x - 1), lambda x, p, before, k: doubling(2 * x - 1, p, before, k)


@op(promote="float")
class shifted_chebyshev_polynomial_t:
    """Of the first kind, at 2x - 1."""
    binary = True
    def forward(be, x, n):
        return evaluate(be, "shifted_chebyshev_polynomial_t", x, n, *shifted(lambda x: x))


@op(promote="float")
class shifted_chebyshev_polynomial_u:
    """Of the second kind, at 2x - 1."""
    binary = True
    def forward(be, x, n):
        return evaluate(be, "shifted_chebyshev_polynomial_u", x, n, *shifted(lambda x: 2 * x))


@op(promote="float")
class shifted_chebyshev_polynomial_v:
    """Of the third kind, at 2x - 1."""
    binary = True
    def forward(be, x, n):
        return evaluate(be, "shifted_chebyshev_polynomial_v", x, n, *shifted(lambda x: 2 * x - 1))


@op(promote="float")
class shifted_chebyshev_polynomial_w:
    """Of the fourth kind, at 2x - 1."""
    binary = True
    def forward(be, x, n):
        return evaluate(be, "shifted_chebyshev_polynomial_w", x, n, *shifted(lambda x: 2 * x + 1))


@op(promote="float")
class hermite_polynomial_h:
    """The physicists' Hermite polynomials."""
    binary = True
    def forward(be, x, n):
        return evaluate(be, "hermite_polynomial_h", x, n, lambda x: 2 * x,
                        lambda x, p, before, k: 2 * (x * p - (k - 1) * before))


@op(promote="float")
class hermite_polynomial_he:
    """The probabilists' Hermite polynomials."""
    binary = True
    def forward(be, x, n):
        return evaluate(be, "hermite_polynomial_he", x, n, lambda x: x,
                        lambda x, p, before, k: x * p - (k - 1) * before)


@op(promote="float")
class laguerre_polynomial_l:
    """Laguerre's polynomials."""
    binary = True
    def forward(be, x, n):
        return evaluate(be, "laguerre_polynomial_l", x, n, lambda x: 1 - x,
                        lambda x, p, before, k: ((2 * k - 1 - x) * p - (k - 1) * before) / k)


@op(promote="float")
class legendre_polynomial_p:
    """Legendre's polynomials."""
    binary = True
    def forward(be, x, n):
        return evaluate(be, "legendre_polynomial_p", x, n, lambda x: x,
                        lambda x, p, before, k: ((2 * k - 1) * x * p - (k - 1) * before) / k)
