"""The kernels of losses of pairs and of alignments (CTC) against the portable text."""
from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from against_portable import DTYPES, agree, note_launches, order, run

assert note_launches and order                   # fixtures
pytestmark = pytest.mark.gpu

SHAPES = [(5,), (3, 300), (), (2, 1030)]
REDUCTIONS = ("none", "mean", "sum")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def real(rng: Any, *shape: int) -> Any:
    return np.array(3 * rng.standard_normal(shape))


def probability(rng: Any, *shape: int) -> Any:
    return np.array(rng.uniform(0.05, 0.95, shape))


def sign(rng: Any, *shape: int) -> Any:
    return np.where(rng.random(shape) < 0.5, -1.0, 1.0)


LOSSES = [("huber_loss", real, real, {"delta": 1.5}), ("smooth_l1_loss", real, real, {"beta": 0.7}),
          ("soft_margin_loss", real, sign, {}),
          ("binary_cross_entropy", probability, probability, {}),
          ("binary_cross_entropy_with_logits", real, probability, {})]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, first, second, kw", LOSSES)
def test_losses_of_pairs(rng: Any, name: str, first: Any, second: Any, kw: Any,
                         dtype: str) -> None:
    for shape in SHAPES:
        x, y = first(rng, *shape), second(rng, *shape)
        for reduction in REDUCTIONS:
            agree(name, x, y, dtype=dtype, reduction=reduction, **kw)
        for g in (real(rng, *shape), real(rng)):
            agree(f"{name}_backward", g, x, y, dtype=dtype, **kw)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_number_stays_none(dtype: str) -> None:
    nan, inf = math.nan, math.inf
    x, y = np.array([nan, 1.0, inf, -inf, 1.0]), np.array([1.0, nan, 1.0, 1.0, inf])
    for name, kw in (("huber_loss", {"delta": 1.0}), ("soft_margin_loss", {})):
        agree(name, x, y, dtype=dtype, reduction="none", **kw)
        agree(f"{name}_backward", np.ones(5), x, y, dtype=dtype, **kw)
    p, t = np.array([nan, 0.5, 0.0, 1.0, 0.0]), np.array([1.0, nan, 1.0, 0.0, 0.0])
    agree("binary_cross_entropy", p, t, dtype=dtype, reduction="none")
    agree("binary_cross_entropy_with_logits", x, t, dtype=dtype, reduction="none")
    agree("binary_cross_entropy_with_logits_backward", np.ones(5), x, t, dtype=dtype)


# Alignments --------------------------------------------------------------------------------------

def sequences(rng: Any, t: int, n: int, c: int, s: int) -> tuple[Any, ...]:
    """Log-probabilities, targets of few kinds, and lengths, of which some are 0."""
    x = real(rng, t, n, c)
    x -= np.log(np.exp(x).sum(2, keepdims=True))
    inputs = rng.integers(min(2 * s, t), t + 1, n)
    lengths = rng.integers(0, s + 1, n)
    inputs[0], lengths[0] = t, s
    if n > 2:
        inputs[1], lengths[2] = 0, 0
    return x, rng.integers(0, min(c, 5), (n, s)), inputs, lengths


SIZES = [(4, 3, 5, 2), (9, 4, 3, 4), (12, 2, 70, 1), (40, 2, 6, 19), (80, 1, 4, 40), (3, 1, 2, 0)]
CTC_UNTIL = {"float16": 2e-2, "bfloat16": 1e-1}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_ctc(rng: Any, size: Any, dtype: str) -> None:
    arrays = sequences(rng, *size)
    for blank in (0, size[2] - 1):
        kw: dict[str, Any] = {"blank": blank, "zero_infinity": False}
        until = CTC_UNTIL.get(dtype)
        _, alpha = agree("ctc_loss", *arrays, dtype=dtype, until=until, **kw)
        for zero in (False, True):
            kw["zero_infinity"] = zero
            if dtype in CTC_UNTIL:               # log_alpha rounded to 16 bits says nothing
                run("ctc_loss_backward", (real(rng, size[1]), *arrays, alpha), dtype, **kw)
            else:
                agree("ctc_loss_backward", real(rng, size[1]), *arrays, alpha.astype(float),
                      dtype=dtype, until=1e-3 if dtype == "float32" else None, **kw)


def test_ctc_in_any_order_of_threads(rng: Any, order: Any) -> None:
    arrays = sequences(rng, 20, 3, 40, 9)
    kw = {"blank": 0, "zero_infinity": True}
    _, alpha = agree("ctc_loss", *arrays, dtype="float64", **kw)
    agree("ctc_loss_backward", real(rng, 3), *arrays, alpha, dtype="float64", **kw)


def test_wrong_labels_and_lengths_are_nan(rng: Any) -> None:
    x, targets, inputs, lengths = sequences(rng, 6, 5, 4, 3)
    targets[:], inputs[:], lengths[:] = 1, 6, 3
    targets[0, 2], targets[1, 0], inputs[2], lengths[3] = 4, -1, 7, 4
    kw = {"blank": 0, "zero_infinity": True}
    loss, alpha = run("ctc_loss", (x, targets, inputs, lengths), "float64", **kw)
    assert np.isnan(loss).tolist() == [True] * 4 + [False]
    gx, = run("ctc_loss_backward", (np.ones(5), x, targets, inputs, lengths, alpha), "float64",
              **kw)
    assert np.isnan(gx).all((0, 2)).tolist() == [True] * 4 + [False]
