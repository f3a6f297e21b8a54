"""The error function of float32 on the CPU, which is a fit."""
from __future__ import annotations

import math

import numpy as np
import pytest

from gpugrad.backend.error_function import CHUNK, FEW, erf

EVERYWHERE = np.concatenate([
    np.linspace(-6, 6, 40001), np.geomspace(1e-38, 1, 2000), [np.inf, -np.inf, 0.0, -0.0],
]).astype(np.float32)


def test_half_a_unit_in_the_last_place():
    want = np.array([math.erf(v) for v in EVERYWHERE.tolist()])
    unit = np.spacing(np.abs(want).astype(np.float32)).astype(np.float64)
    got = erf(EVERYWHERE)
    assert got.dtype == np.float32
    assert (np.abs(got - want) / unit).max() < 0.55
    assert np.abs(got).max() == 1.0
    np.testing.assert_array_equal(np.signbit(got), np.signbit(EVERYWHERE))
    assert np.isnan(erf(np.full(FEW + 1, np.nan, np.float32))).all()


@pytest.mark.parametrize("shape", [(), (0,), (FEW,), (FEW + 1,), (CHUNK + 3,), (3, 2 * CHUNK)])
def test_shapes_and_memory_orders(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    want = np.asarray(np.frompyfunc(math.erf, 1, 1)(x), np.float32)
    for a, b in ((x, want), (x.T, want.T), (x[..., ::2], want[..., ::2]) if shape else (x, want)):
        got = erf(a)
        assert got.shape == b.shape
        np.testing.assert_allclose(got, b, rtol=1.3e-7)


def test_float64_is_exact():
    x = np.random.default_rng(0).standard_normal(1000)
    np.testing.assert_array_equal(erf(x), [math.erf(v) for v in x])
