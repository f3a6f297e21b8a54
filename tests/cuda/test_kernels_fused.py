"""Kernels that do the work of several ops give the bits of these, one after the other."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from against_portable import DTYPES, UNTIL, array, note_launches, order

from gpugrad import backend, dtypes
from gpugrad.ops import fused, load

assert note_launches and order                   # fixtures
pytestmark = pytest.mark.gpu
SPECS = load()

# (n, c, ...): 32 channels to a block and one; several parts of either; tiles that are not full
IMAGES = [(4, 3, 5), (3, 33, 2), (2, 2, 6, 8), (1, 1, 4500), (1100, 2), (2, 3, 33)]
# (rows, length): one warp to a row and a block, one element, rows beyond what threads keep, and
# more rows than teams
ROWS = [(3, 4), (5, 1), (2, 1000), (1, 5000), (520, 9)]


class Made:
    """Arrays on the device, rounded to a dtype; statistics and parameters in that of sums."""

    def __init__(self, dtype: str) -> None:
        self.be: Any = backend.get("cuda")
        self.dtype = dtype
        self.rng = np.random.default_rng(0)

    def __call__(self, *shape: int, last: bool = False) -> Any:
        a = self.rng.standard_normal(shape) * 2 + 0.5
        a.flat[:: 7] = 0.0                       # what ReLU's sides meet at
        a = self.be.from_host(array(a, self.dtype))
        return self.be.xp.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) \
            if last else a

    def wide(self, *shape: int) -> Any:
        found = dtypes.wide(getattr(dtypes, self.dtype).np)
        return self.be.from_host(self.rng.uniform(0.5, 2, shape).astype(found))


@pytest.fixture(params=DTYPES)
def made(request: pytest.FixtureRequest) -> Made:
    return Made(request.param)


def same(be: Any, got: Any, want: Any) -> None:
    """Are the arrays the same, bit for bit, and laid out alike?"""
    assert len(got) == len(want)
    for i, (a, b) in enumerate(zip(got, want)):
        assert a.dtype == b.dtype and a.shape == b.shape, i
        assert a.strides == b.strides, i
        assert be.to_host(a).tobytes() == be.to_host(b).tobytes(), i


def check_batch_norm(made: Made, shape: Any, last: bool = False) -> None:
    be, raw, c = made.be, made.be.raw, shape[1]
    x, more, g = (made(*shape, last=last) for _ in range(3))
    w, b, running = made.wide(c), made.wide(c), (made.wide(c), made.wide(c))
    own = made(c), made(c)                       # running statistics in the dtype of x
    for weight, bias in ((w, b), (None, None), (w, None), (None, b)):
        y, mean, r = raw.batch_norm(x, weight, bias, training=True, eps=0.1)
        total = be.xp.add(y, more)
        for old in (running, own):
            into, other = ([*map(be.xp.copy, old), be.xp.full((), 8, np.int64)] for _ in range(2))
            kw = {"eps": 0.1, "share": 0.3}
            same(be, raw.batch_norm(x, weight, bias, training=True, out=tuple(into), **kw),
                 (y, mean, r))
            same(be, fused.batch_norm_relu(be, x, more, weight, bias, out=other, **kw),
                 (raw.relu(total), mean, r))
            same(be, other, into)
            check_moved(made, old, into, mean, r, x.size // c)
        for residual, v in ((None, y), (more, total)):
            out = raw.relu(v)
            same(be, fused.batch_norm_relu(be, x, residual, weight, bias, eps=0.1), (out, mean, r))
            kw = {"training": False, "eps": 0.1}
            given, *used = raw.batch_norm(x, weight, bias, *running, **kw)
            given = raw.relu(given if residual is None else be.xp.add(given, residual))
            same(be, fused.batch_norm_relu(be, x, residual, weight, bias, *running, **kw),
                 (given, *used))
            for training in (True, False):
                for other in (None, more):
                    t = raw.threshold_backward(g if other is None else be.xp.add(g, other), out)
                    slopes = raw.batch_norm_backward(t, x, weight, mean, r, training=training)
                    same(be, fused.relu_batch_norm_backward(be, g, other, out, x, weight, mean, r,
                                                            training=training), (t, *slopes))
                    if other is None and residual is None:
                        same(be, fused.batch_norm_relu_backward(
                            be, g, x, weight, bias, mean, r, training=training), slopes)


def check_moved(made: Made, old: Any, new: Any, mean: Any, r: Any, m: int) -> None:
    """Are running statistics moved as the portable text moves them, and is a batch counted?"""
    be = made.be
    assert be.to_host(new[2]) == 9
    given = [be.to_host(a).astype(np.float64) for a in (*old, mean, r)]
    want = SPECS["moved_statistics"].forward(backend.cpu, *given, share=0.3, m=m, eps=0.1)
    for a, b in zip(new, want):
        np.testing.assert_allclose(be.to_host(a).astype(np.float64), b, rtol=UNTIL[made.dtype],
                                   atol=UNTIL[made.dtype])


@pytest.mark.parametrize("shape", IMAGES, ids=str)
def test_batch_norm_and_relu(made: Made, shape: Any) -> None:
    check_batch_norm(made, shape)


def test_batch_norm_of_channels_last() -> None:
    check_batch_norm(Made("float32"), (2, 3, 4, 5), last=True)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("n, d", ROWS)
def test_layer_norm_and_addition(made: Made, n: int, d: int, inplace: bool) -> None:
    be, raw = made.be, made.be.raw
    x, more, g = made(n, d), made(n, d), made(n, d)
    w, b = made.wide(d), made.wide(d)
    total = be.xp.add(x, more)
    for weight, bias in ((w, b), (None, None)):
        out = raw.layer_norm(total, weight, bias, ndim=1, eps=0.1)
        same(be, fused.add_layer_norm(be, x, more, weight, bias, ndim=1, eps=0.1), (total, *out))
        gx, gw, gb = raw.layer_norm_backward(g, total, weight, *out[1:], ndim=1)
        into = more.copy()
        got = fused.layer_norm_backward_add(be, into, g, total, weight, *out[1:], ndim=1,
                                            inplace=inplace)
        same(be, got, (be.xp.add(more, gx), gw, gb))
        assert (got[0] is into) is inplace
        out = raw.rms_norm(total, weight, ndim=1, eps=0.1)
        same(be, fused.add_rms_norm(be, x, more, weight, ndim=1, eps=0.1), (total, *out))
        gx, gw = raw.rms_norm_backward(g, total, weight, out[1], ndim=1)
        same(be, fused.rms_norm_backward_add(be, more.copy(), g, total, weight, out[1], ndim=1,
                                             inplace=inplace), (be.xp.add(more, gx), gw))


@pytest.mark.parametrize("n", [1, 7, 1030])
def test_dropout_and_addition(made: Made, n: int) -> None:
    be = made.be
    x, more = made(n), made(n)
    source, other = be.new_generator(3), be.new_generator(3)
    for _ in range(2):                           # the second draw goes on where the first one ended
        mask = source.bernoulli(0.7, (n,))
        y = be.raw.native_dropout(x, mask, scale=1 / 0.7)
        same(be, fused.dropout(be, x, more, other, keep=0.7, scale=1 / 0.7),
             (be.xp.add(y, more), mask))
        mask = source.bernoulli(0.7, (n,))
        y = be.raw.native_dropout(x, mask, scale=1 / 0.7)
        same(be, fused.dropout(be, x, None, other, keep=0.7, scale=1 / 0.7), (y, mask))


def test_every_order_of_threads(order: Any) -> None:
    check_batch_norm(Made("float32"), (2, 2, 6, 8))
    test_layer_norm_and_addition(Made("float32"), 3, 40, True)
