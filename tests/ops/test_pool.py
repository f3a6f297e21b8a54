"""Pooling against loops over windows, and its gradients."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.autograd import gradcheck, gradgradcheck
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend import cpu
from gpugrad.ops import pool

SIZES = [((2, 2), (2, 2), (0, 0), (1, 1)), ((3, 3), (2, 2), (1, 1), (1, 1)),
         ((2, 3), (1, 2), (1, 0), (1, 1)), ((1, 1), (1, 1), (0, 0), (1, 1)),
         ((3, 2), (3, 2), (0, 1), (1, 2)), ((2, 2), (3, 3), (0, 0), (2, 1))]
IMAGES = [(2, 3, 7, 8), (1, 1, 6, 6), (3, 2, 5, 9)]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def windows(shape, kernel, stride, padding, dilation, ceil_mode):
    """For every output (y, x): the rows and columns of its window that are inside the image."""
    sides = []
    for size, k, s, p, d in zip(shape[-2:], kernel, stride, padding, dilation):
        side, start = [], -p
        while start + d * (k - 1) < size + p or (
                ceil_mode and start < size and start - s + d * (k - 1) < size + p - 1):
            side.append([start + d * i for i in range(k) if 0 <= start + d * i < size])
            start += s
        sides.append(side)
    return sides


def constants(kernel, stride, padding, dilation, ceil_mode):
    return {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation,
            "ceil_mode": ceil_mode}


def naive_max(x, *args):
    rows, cols = windows(x.shape, *args)
    values = np.zeros((*x.shape[:2], len(rows), len(cols)), x.dtype)
    at = np.zeros(values.shape, np.int64)
    for n, c, y, z in np.ndindex(values.shape):
        best, where = None, None
        for i, j in itertools.product(rows[y], cols[z]):
            v = x[n, c, i, j]
            if best is None or v > best or np.isnan(v):
                best, where = v, i * x.shape[3] + j
        values[n, c, y, z], at[n, c, y, z] = best, where
    return values, at


@pytest.mark.parametrize("kind", ["normal", "ties", "nan", "minus infinity", "float16", "int64"])
def test_maxima_and_where_they_are(rng, kind):
    for shape, sizes, ceil_mode in itertools.product(IMAGES, SIZES, (False, True)):
        x = rng.standard_normal(shape).astype(np.float32)
        if kind == "ties":
            x = np.maximum(x, 0)
        elif kind == "nan":
            x[rng.random(shape) < 0.3] = np.nan
        elif kind == "minus infinity":
            x[rng.random(shape) < 0.8] = -np.inf
        elif kind != "normal":
            x = (4 * x).astype(kind)
        before = x.copy()
        values, at = naive_max(x, *sizes, ceil_mode)
        kw = constants(*sizes, ceil_mode)
        got, where = cpu.raw.max_pool2d_with_indices(x, **kw)
        np.testing.assert_array_equal(got, values)
        np.testing.assert_array_equal(where, at)
        assert got.dtype == x.dtype and where.dtype == np.int64
        got, hidden = cpu.raw.max_pool2d(x, **kw)
        np.testing.assert_array_equal(got, values)
        np.testing.assert_array_equal(pool.max_values(cpu, x, *sizes, ceil_mode), values)
        kw.pop("ceil_mode")
        np.testing.assert_array_equal(cpu.raw.max_pool2d_gather(x, hidden, **kw), values)
        np.testing.assert_array_equal(cpu.raw.plane_gather(x, at), values)
        np.testing.assert_array_equal(x, before)
        if kind in ("int64", "minus infinity"):
            continue
        g = rng.standard_normal(values.shape).astype(x.dtype)
        wanted = np.zeros((*shape[:2], shape[2] * shape[3]))
        for n, c, y, z in np.ndindex(g.shape):
            wanted[n, c, at[n, c, y, z]] += g[n, c, y, z]
        tolerance = 1e-5 if x.dtype == np.float32 else 5e-3
        for gx in (cpu.raw.max_pool2d_backward(g, hidden, x_shape=shape, **kw),
                   cpu.raw.plane_scatter(g, at, x_shape=shape)):
            assert gx.dtype == x.dtype
            np.testing.assert_allclose(gx.reshape(wanted.shape), wanted, atol=tolerance)


@pytest.mark.parametrize("count_include_pad,divisor", [(True, None), (False, None), (True, 3)])
def test_means(rng, count_include_pad, divisor):
    for shape, (kernel, stride, padding, _), ceil_mode in itertools.product(IMAGES, SIZES,
                                                                            (False, True)):
        x = rng.standard_normal(shape)
        rows, cols = windows(shape, kernel, stride, padding, (1, 1), ceil_mode)
        weights = np.zeros((len(rows), len(cols), *shape[2:]))
        for y, z in np.ndindex(weights.shape[:2]):
            n = divisor or len(rows[y]) * len(cols[z])
            if divisor is None and count_include_pad:
                n = 1
                for i, k, s, p, size in zip((y, z), kernel, stride, padding, shape[2:]):
                    n *= min(i * s - p + k, size + p) - (i * s - p)
            weights[y, z][np.ix_(rows[y], cols[z])] = 1 / n
        kw = {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode,
              "count_include_pad": count_include_pad, "divisor_override": divisor}
        wanted = np.einsum("nchw,yzhw->ncyz", x, weights)
        np.testing.assert_allclose(cpu.raw.avg_pool2d(x, **kw), wanted, atol=1e-12)
        g = rng.standard_normal(wanted.shape)
        np.testing.assert_allclose(cpu.raw.avg_pool2d_backward(g, x_shape=shape, **kw),
                                   np.einsum("ncyz,yzhw->nchw", g, weights), atol=1e-12)
        half = cpu.raw.avg_pool2d(x.astype(np.float16), **kw)
        assert half.dtype == np.float16
        np.testing.assert_allclose(half, wanted, atol=5e-3)


@pytest.mark.parametrize("size", [(1, 1), (2, 4), (3, 5), (8, 9), (7, 1)])
def test_adaptive_means(rng, size):
    for shape in IMAGES:
        x = rng.standard_normal(shape)
        weights = np.zeros((*size, *shape[2:]))
        for y, z in np.ndindex(*size):
            (top, bottom), (left, right) = ((i * s // o, -(-(i + 1) * s // o))
                                            for i, s, o in zip((y, z), shape[2:], size))
            weights[y, z, top:bottom, left:right] = 1 / ((bottom - top) * (right - left))
        out = cpu.raw.adaptive_avg_pool2d(x, output_size=size)
        np.testing.assert_allclose(out, np.einsum("nchw,yzhw->ncyz", x, weights), atol=1e-12)
        g = rng.standard_normal(out.shape)
        np.testing.assert_allclose(cpu.raw.adaptive_avg_pool2d_backward(g, x_shape=shape),
                                   np.einsum("ncyz,yzhw->nchw", g, weights), atol=1e-12)


def test_infinities_stay_in_their_windows():
    x = np.ones((1, 1, 4, 4), np.float32)
    x[0, 0, 0, 0] = np.inf
    out = cpu.raw.avg_pool2d(x, kernel=(2, 2), stride=(2, 2), padding=(0, 0))
    assert out[0, 0].tolist() == [[np.inf, 1], [1, 1]]
    _, at = cpu.raw.max_pool2d(x, **constants((2, 2), (2, 2), (0, 0), (1, 1), False))
    g = np.array([[[[np.inf, np.nan], [1, 2]]]], np.float32)
    gx = cpu.raw.max_pool2d_backward(g, at, x_shape=x.shape, kernel=(2, 2), stride=(2, 2),
                                     padding=(0, 0), dilation=(1, 1))
    assert gx[0, 0, 0, 0] == np.inf and np.isnan(gx).sum() == 1 and (gx == 0).sum() == 12


def test_parts_empty_batches_and_strided_input(rng, monkeypatch):
    kw = constants((3, 3), (2, 2), (1, 1), (1, 1), False)
    x = rng.standard_normal((6, 9, 8, 5)).transpose(0, 3, 1, 2)
    once = cpu.raw.max_pool2d(x, **kw)
    g = rng.standard_normal(once[0].shape)
    back = cpu.raw.max_pool2d_backward(g, once[1], x_shape=x.shape, kernel=(3, 3), stride=(2, 2),
                                       padding=(1, 1), dilation=(1, 1))
    mean = cpu.raw.avg_pool2d(x, kernel=(3, 3), stride=(2, 2), padding=(1, 1))
    monkeypatch.setattr(cpu, "column_bytes", 2 * 4 * 9 * 8 * 8)
    parts = cpu.raw.max_pool2d(np.ascontiguousarray(x), **kw)
    assert (once[0] == parts[0]).all() and (once[1] == parts[1]).all()
    again = cpu.raw.max_pool2d_backward(g, once[1], x_shape=x.shape, kernel=(3, 3), stride=(2, 2),
                                        padding=(1, 1), dilation=(1, 1))
    np.testing.assert_allclose(again, back, atol=1e-12)
    assert (cpu.raw.avg_pool2d(x, kernel=(3, 3), stride=(2, 2), padding=(1, 1)) == mean).all()
    empty = torch.zeros(0, 3, 4, 4, requires_grad=True)
    out = T.max_pool2d(empty, **constants((2, 2), (2, 2), (0, 0), (1, 1), False))[0]
    assert out.shape == (0, 3, 2, 2)
    out.sum().backward()
    assert empty.grad.shape == empty.shape


def test_without_recording_only_the_maxima_are_computed(rng):
    x = torch.from_numpy(rng.standard_normal((2, 3, 6, 6)))
    kw = constants((2, 2), (2, 2), (0, 0), (1, 1), False)
    recorded, at = T.max_pool2d(x, **kw)
    with torch.no_grad():
        values, nothing = T.max_pool2d(x, **kw)
        indices = T.max_pool2d_with_indices(x, **kw)[1]
    assert (values == recorded).all() and nothing.numel() == 0 and at.shape == indices.shape


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_gradients_of_both_orders(rng, sizes, ceil_mode):
    x = torch.from_numpy(rng.standard_normal((1, 2, 5, 6))).requires_grad_()
    kw = constants(*sizes, ceil_mode)
    kernel, stride, padding, _ = sizes
    for f in (lambda x: T.max_pool2d(x, **kw)[0], lambda x: T.max_pool2d_with_indices(x, **kw)[0],
              lambda x: T.avg_pool2d(x, kernel=kernel, stride=stride, padding=padding,
                                     ceil_mode=ceil_mode, count_include_pad=False)):
        assert gradcheck(f, (x,))
        assert gradgradcheck(lambda x, f=f: f(x) * x.sum(), (x,))


@pytest.mark.parametrize("size", [(1, 2), (5, 3), (2, 4)])
def test_adaptive_gradients_of_both_orders(rng, size):
    x = torch.from_numpy(rng.standard_normal((1, 2, 5, 6))).requires_grad_()
    assert gradcheck(lambda x: T.adaptive_avg_pool2d(x, output_size=size), (x,))
    assert gradgradcheck(lambda x: T.adaptive_avg_pool2d(x, output_size=size) * x.sum(), (x,))
