"""Computes the Chebyshev coefficients in gpugrad/ops/{error,gamma,bessel,...}.py. Needs mpmath.

Prints each table as Python text. A function is interpolated at Chebyshev nodes in 50 digits, and
its series cut off where the rest is below half a unit in the last place of the smallest value, or
of ``scale`` where the function crosses 0.
"""
from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

from mpmath import mp, mpf

mp.dps = 50
sqrt, pi = mp.sqrt, mp.pi


def chebyshev(f: Callable[[Any], Any], low: Any, high: Any, nodes: int = 70,
              scale: Any = None) -> list[Any]:
    """The coefficients of f on [low, high]; never asks for a value at the ends."""
    low, high = mpf(low), mpf(high)
    angles = [pi * (k + mpf(1) / 2) / nodes for k in range(nodes)]
    values = [f((low + high) / 2 + (high - low) / 2 * mp.cos(t)) for t in angles]
    c = [2 * mp.fsum(v * mp.cos(j * t) for v, t in zip(values, angles)) / nodes
         for j in range(nodes)]
    c[0] /= 2
    rest, most = mpf(0), mpf(2) ** -55 * (min(map(abs, values)) if scale is None else scale)
    while len(c) > 1 and rest + abs(c[-1]) < most:
        rest += abs(c.pop())
    return c


def show(name: str, coefficients: list[Any]) -> None:
    body = ", ".join(repr(float(c)) for c in coefficients) + ","
    print(f"{name} = (\n" + textwrap.indent("\n".join(textwrap.wrap(body, 94)), "    ") + "\n)\n")


def error() -> None:
    show("ERF", chebyshev(lambda s: mp.erf(sqrt(s)) / sqrt(s), 0, 1))

    def scaled(t: Any) -> Any:
        x = 3 * (1 + t) / (1 - t)
        return (1 + 2 * x) * mp.exp(x * x) * mp.erfc(x)
    show("ERFCX", chebyshev(scaled, -1, 1, 100, 1))


def gamma() -> None:
    show("LGAMMA", chebyshev(lambda z: mp.loggamma(z) / ((z - 1) * (z - 2)), 1, mpf(5) / 2))
    root = mp.findroot(mp.digamma, 1.46)
    show("DIGAMMA", chebyshev(lambda z: mp.digamma(z) / (z - root), 1, 2))
    show("LGAMMA_STIRLING", [mp.bernoulli(2 * k) / (2 * k * (2 * k - 1)) for k in range(1, 10)])
    show("DIGAMMA_TAIL", [mp.bernoulli(2 * k) / (2 * k) for k in range(1, 10)])
    show("ZETA_TAIL", [mp.bernoulli(2 * k) / mp.factorial(2 * k) for k in range(1, 13)])


def temme(count: int = 30) -> None:
    """eta / mu as a series, from eta d(eta) = mu / (1 + mu) d(mu), term by term."""
    mu = [mpf(0), mpf(1)]
    for n in range(2, count + 6):
        known = mp.fsum(j * mu[n + 1 - j] * mu[j] for j in range(2, n))
        mu.append((mu[n - 1] - known) / (n + 1))
    f = [mpf(1)]
    for n in range(1, count + 1):
        f.append(-mp.fsum(mu[k + 1] * f[n - k] for k in range(1, n + 1)))
    show("TEMME", f[1:])


def modified_bessel() -> None:
    show("I0_NEAR", chebyshev(lambda x: mp.exp(-x) * mp.besseli(0, x), 0, 8, scale=mpf("0.14")))
    show("I1_NEAR", chebyshev(lambda x: mp.exp(-x) * mp.besseli(1, x) / x, 0, 8))
    for n in (0, 1):
        show(f"I{n}_FAR", chebyshev(
            lambda u, n=n: mp.exp(-8 / u) * mp.besseli(n, 8 / u) * sqrt(8 / u), 0, 1, 90))
        show(f"K{n}_FAR", chebyshev(
            lambda u, n=n: mp.exp(2 / u) * mp.besselk(n, 2 / u) * sqrt(2 / u), 0, 1, 90))

    def k_rest(n: int, s: Any) -> Any:
        x = sqrt(s)
        logarithm = mp.log(x / 2) * mp.besseli(n, x)
        return x * (mp.besselk(1, x) - logarithm) if n else mp.besselk(0, x) + logarithm
    for n in (0, 1):
        show(f"K{n}_NEAR", chebyshev(lambda s, n=n: k_rest(n, s), 0, 4, scale=mpf("0.5")))


def bessel() -> None:
    def y_rest(n: int, s: Any) -> Any:
        x = sqrt(s)
        rest = mp.bessely(n, x) - 2 / pi * mp.log(x / 2) * mp.besselj(n, x)
        return (rest + 2 / (pi * x)) / x if n else rest

    def hankel(n: int, u: Any) -> tuple[Any, Any]:
        x = 8 / sqrt(u)
        h = mp.hankel1(n, x) * sqrt(pi * x / 2) * mp.exp(-1j * (x - (2 * n + 1) * pi / 4))
        return h.real, h.imag * x
    for n in (0, 1):
        scale = mpf("0.1") if n else mpf("0.5")
        show(f"J{n}_NEAR", chebyshev(lambda s, n=n: mp.besselj(n, sqrt(s)) / sqrt(s) ** n, 0, 64,
                                     scale=scale))
        show(f"Y{n}_NEAR", chebyshev(lambda s, n=n: y_rest(n, s), 0, 64, scale=scale))
        show(f"P{n}", chebyshev(lambda u, n=n: hankel(n, u)[0], 0, 1, 60, mpf("0.5")))
        show(f"Q{n}", chebyshev(lambda u, n=n: hankel(n, u)[1], 0, 1, 60, mpf(1)))


def airy() -> None:
    show("AIRY_NEAR", chebyshev(mp.airyai, mpf("-3.5"), mpf("1.5"), scale=mpf("0.07")))
    most, least = (mpf(2) / 3 * x * sqrt(x) for x in (mpf("1.5"), mpf("3.5")))

    def above(u: Any) -> Any:
        z = most / u
        x = (z * 3 / 2) ** (mpf(2) / 3)
        return mp.airyai(x) * mp.exp(z) * 2 * sqrt(pi) * sqrt(sqrt(x))

    def below(u: Any) -> tuple[Any, Any]:
        z = least / sqrt(u)
        x, angle = (z * 3 / 2) ** (mpf(2) / 3), z + pi / 4
        size = sqrt(pi) * sqrt(sqrt(x))
        a, b = size * mp.airyai(-x), size * mp.airybi(-x)
        return a * mp.sin(angle) + b * mp.cos(angle), z * (b * mp.sin(angle) - a * mp.cos(angle))
    show("AIRY_FAR", chebyshev(above, 0, 1, 90))
    show("AIRY_P", chebyshev(lambda u: below(u)[0], 0, 1, 60, mpf("0.5")))
    show("AIRY_Q", chebyshev(lambda u: below(u)[1], 0, 1, 60, mpf("0.5")))


if __name__ == "__main__":
    for table in (error, gamma, temme, modified_bessel, bessel, airy):
        table()
