"""torch.fft against torch: values, dtypes, gradients of both orders, errors."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from two_orders import agree  # skips this file where there is no torch

R = np.random.default_rng(0)
REAL, COMPLEX = R.standard_normal((3, 4)), R.standard_normal((3, 4)) + 1j
CUBE = R.standard_normal((2, 3, 5))
CUBES = (CUBE, CUBE + 1j * R.standard_normal((2, 3, 5)))
FAMILY = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("n", [None, 1, 2, 3, 5, 7, -1, 0])
@pytest.mark.parametrize("a", [REAL, COMPLEX], ids=["real", "complex"])
def test_one_dim(name: str, n: Any, a: Any) -> None:
    for dim in (-1, 0):
        for norm in (None, "ortho", "forward", "backward"):
            agree(f"t.fft.{name}(a, {n}, {dim}, {norm!r})", a=a)


@pytest.mark.parametrize("name", FAMILY)
def test_several_dims(name: str) -> None:
    for a in (REAL, COMPLEX):
        for rest in ("2(a)", "2(a, (2, 6), norm='ortho')", "2(a, dim=(1, 0))", "n(a)"):
            agree(f"t.fft.{name}{rest}", a=a)
    for a in CUBES:
        for rest in ("(a)", "(a, (2, 4))", "(a, dim=(0, 2))", "(a, (3, -1), (2, 0), 'forward')",
                     "(a, (3,), (2, 0))", "(a, (3, 3, 3, 3))", "(a, dim=(0, 0))", "(a, dim=())",
                     "(a, norm='foo')"):
            agree(f"t.fft.{name}n{rest}", a=a)


@pytest.mark.parametrize("name", FAMILY)
def test_dtypes_and_odd_shapes(name: str) -> None:
    for a in (REAL.astype("f4"), REAL.astype("f2"), COMPLEX.astype("c8"), np.arange(6),
              np.array([True, False]), np.array(1.5), np.zeros((3, 0))):
        agree(f"t.fft.{name}(a)", a=a)
        agree(f"t.fft.{name}n(a)", a=a)
    agree(f"t.fft.{name}(a, dim=5)", a=REAL)


@pytest.mark.parametrize("code", [
    "t.fft.fftshift(a)", "t.fft.ifftshift(a, 0)", "t.fft.fftshift(a, (0, 1))",
    "t.fft.ifftshift(a)", "t.fft.fftfreq(5, 0.5)", "t.fft.fftfreq(4)",
    "t.fft.rfftfreq(5, d=2)", "t.fft.rfftfreq(1, dtype=t.float64)",
    "t.fft.fft(input=a, n=3, dim=0, norm='ortho')", "t.fft.irfft(t.fft.rfft(a), n=4)"])
def test_others(code: str) -> None:
    for a in (REAL, COMPLEX, CUBE):
        if not (a.dtype.kind == "c" and "rfft(" in code):
            agree(code, a=a)


SIGNAL, PAIR = R.standard_normal(50), R.standard_normal((2, 50))
WINDOW = R.random(8) + 0.5


@pytest.mark.parametrize("code", [
    "t.stft(a, 8, return_complex=True)", "t.stft(a, 8, 3, return_complex=True)",
    "t.stft(a, 8, 3, 6, w[:6], return_complex=True)",
    "t.stft(a, 8, 2, window=w, center=False, return_complex=True)",
    "t.stft(a, 8, 2, window=w, pad_mode='constant', normalized=True, return_complex=True)",
    "t.stft(a, 8, 2, window=w, onesided=False, return_complex=True)",
    "t.stft(a, 8, 2, window=w, return_complex=False)", "a.stft(7, 3, return_complex=True)",
    "t.stft(a * 1j, 8, 2, window=w)", "t.stft(a, 8)", "t.stft(a, 200, return_complex=True)",
    "t.stft(a, 8, 2, window=w[:3], return_complex=True)",
    "t.stft(a, 8, 0, return_complex=True)",
    "t.istft(t.stft(a, 8, 2, window=w, return_complex=True), 8, 2, window=w)",
    "t.istft(t.stft(a, 8, 2, window=w, return_complex=True), 8, 2, window=w, length=40)",
    "t.istft(t.stft(a, 8, 2, window=w, return_complex=True), 8, 2, window=w, length=60)",
    "t.istft(t.stft(a, 8, 2, 6, w[:6], return_complex=True), 8, 2, 6, w[:6])",
    "t.istft(t.stft(a, 8, 3, return_complex=True, normalized=True), 8, 3, normalized=True)",
    "t.istft(t.stft(a * 1j, 8, 2), 8, 2, return_complex=True)",
    "t.istft(t.stft(a, 8, 2, window=w, return_complex=True), 9, 2)", "t.istft(a, 8)"])
@pytest.mark.parametrize("a", [SIGNAL, PAIR], ids=["one", "two"])
def test_short_time(code: str, a: Any) -> None:
    agree(code, a=a, w=WINDOW)
