"""Copies with zeros where a mask says so: few and many elements, all kinds of numbers."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpugrad.backend import cpu
from gpugrad.backend.base import MANY

SHAPES = [(), (1,), (0,), (8, 8), (MANY,), (MANY + 1,), (70, 90)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.complex64])
@pytest.mark.parametrize("shape", SHAPES)
def test_zeros_stand_where_the_mask_says(shape: Any, dtype: Any) -> None:
    draw = np.random.default_rng(0)
    x = np.asarray(draw.standard_normal(shape) * 9).astype(dtype)
    if dtype is np.float32 and x.size > 3:
        x.reshape(-1)[:4] = np.nan, np.inf, -np.inf, -0.0
    mask = np.asarray(draw.random(shape) < 0.5)
    zero = np.zeros((), dtype)
    before = x.copy()
    for got, want in ((cpu.drop(x, mask), np.where(mask, zero, x)),
                      (cpu.keep(x, mask), np.where(mask, x, zero))):
        assert got.dtype == x.dtype and got.shape == x.shape
        np.testing.assert_array_equal(got, want)
        assert not np.may_share_memory(got, x)
    np.testing.assert_array_equal(x, before)


def test_masks_and_values_are_broadcast() -> None:
    x, mask = np.ones((3, 1), np.float32), np.array([True, False])
    np.testing.assert_array_equal(cpu.drop(x, mask), [[0, 1]] * 3)
    spread = np.broadcast_to(np.float32(2), (2, 2))         # gradients of sums are so
    np.testing.assert_array_equal(cpu.drop(spread, np.eye(2, dtype=bool)), [[0, 2], [2, 0]])
