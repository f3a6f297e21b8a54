"""Kernels of the compiled helper for norms, softmax, losses, activations, attention and embeddings:
against the same op in float64 without the helper, with any number of threads."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

from gpugrad import get_num_threads
from gpugrad.autograd.op import SPECS
from gpugrad.autograd.rules import tensors
from gpugrad.backend import compiled, cpu

SHAPES = [(1, 1), (3, 5), (7, 31), (64, 32), (5, 33), (2, 3, 4), (33, 17, 5), (4, 70, 3, 7),
          (2, 3, 16, 16), (70, 65), (3, 5, 1, 1100)]


class Heard:
    """The library, writing down which kernels are called."""

    def __init__(self, library):
        self.library, self.names = library, []

    def __getattr__(self, name):
        self.names.append(name)
        return getattr(self.library, name)


@pytest.fixture
def heard(monkeypatch):
    library = compiled.library()
    if library is None:
        pytest.skip(f"no compiled helper: {compiled.why_not[0]}")
    heard = Heard(library)
    monkeypatch.setattr(compiled, "_found", [heard])
    yield heard
    library.set_threads(get_num_threads())


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def floats(rng, shape, scale=1.0):
    return np.asarray(rng.standard_normal(shape) * scale, np.float32)


def wide(a):
    return a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a


def listed(out):
    return list(out) if isinstance(out, tuple) else [out]


def check(heard, kernel, op, *arrays, tol=2e-6, **kw):
    """op of the arrays by the helper is what it is in float64, with one thread, two and three to
    the bit; also of arrays that aren't contiguous. Returns the results."""
    getattr(tensors, op)
    heard.names.clear()
    got = listed(getattr(cpu.raw, op)(*arrays, **kw))
    assert kernel in heard.names
    for g, w in zip(got, listed(SPECS[op].forward(cpu, *map(wide, arrays), **kw))):
        assert g.dtype == np.float32 and g.shape == w.shape
        scale = np.abs(w[np.isfinite(w)]).max(initial=0.1)
        np.testing.assert_allclose(g, w, rtol=20 * tol, atol=tol * scale)
    for threads in (2, 3):
        heard.library.set_threads(threads)
        heard.library.set_few(0)                # so that small work is shared, too
        again = listed(getattr(cpu.raw, op)(*arrays, **kw))
        heard.library.set_few(1 << 20)
        heard.library.set_threads(1)
        for g, a in zip(got, again):
            np.testing.assert_array_equal(g, a)
    apart = [strided(a) if isinstance(a, np.ndarray) else a for a in arrays]
    for g, a in zip(got, listed(getattr(cpu.raw, op)(*apart, **kw))):
        np.testing.assert_allclose(a, g, rtol=1e-4, atol=1e-5)
    return got


def strided(a):
    """The same values, every second element of memory in another order."""
    if not a.ndim:
        return a
    memory = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype, order="F")
    memory[..., ::2] = a
    return memory[..., ::2]


# Norms -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("affine", [0, 1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(heard, rng, shape, affine, training):
    if training and shape == (1, 1):
        return
    c = shape[1]
    x, g, (w, b, mean) = floats(rng, shape, 2), floats(rng, shape), floats(rng, (3, c))
    w, b = (w if affine else None), (b if affine == 2 else None)
    given = () if training else (mean, np.abs(floats(rng, c)))
    _, mean, r = check(heard, "batch_norm", "batch_norm", x + 1, w, b, *given, training=training)
    check(heard, "batch_norm_backward", "batch_norm_backward", g, x + 1, w, mean, r,
          training=training, tol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("affine", [0, 1, 2])
def test_layer_and_rms_norm(heard, rng, shape, affine):
    for ndim in (1, len(shape) - 1):
        inner = shape[len(shape) - ndim:]
        x, g = floats(rng, shape, 2), floats(rng, shape)
        w, b = floats(rng, inner) if affine else None, floats(rng, inner) if affine == 2 else None
        if x[0].size > 1:
            _, mean, r = check(heard, "norm_rows", "layer_norm", x, w, b, ndim=ndim, tol=1e-5)
            check(heard, "layer_norm_backward", "layer_norm_backward", g, x, w, mean, r, ndim=ndim,
                  tol=3e-5)
        _, r = check(heard, "norm_rows", "rms_norm", x, w, ndim=ndim, eps=1e-3)
        check(heard, "layer_norm_backward", "rms_norm_backward", g, x, w, r, ndim=ndim, tol=1e-5)


@pytest.mark.parametrize("shape, groups", [((3, 6), 2), ((2, 4, 5), 4), ((5, 8, 3, 11), 2),
                                           ((1, 6, 40), 1), ((3, 2, 33, 3), 2)])
@pytest.mark.parametrize("affine", [0, 1, 2])
def test_group_norm(heard, rng, shape, groups, affine):
    x, g, (w, b) = floats(rng, shape, 2), floats(rng, shape), floats(rng, (2, shape[1]))
    w, b = (w if affine else None), (b if affine == 2 else None)
    _, mean, r = check(heard, "norm_rows", "group_norm", x, w, b, groups=groups)
    check(heard, "group_norm_backward", "group_norm_backward", g, x, w, mean, r, groups=groups,
          tol=1e-5)


def test_statistics_far_from_zero(heard, rng):
    x = floats(rng, (64, 3, 10, 10)) + 1000
    _, mean, r = cpu.raw.batch_norm(x)
    np.testing.assert_allclose(mean, x.mean((0, 2, 3), dtype=float), rtol=1e-6)
    np.testing.assert_allclose(r, 1 / x.std((0, 2, 3), dtype=float), rtol=1e-4)
    y, _, r = cpu.raw.layer_norm(x, ndim=3)
    np.testing.assert_allclose(y[0], (x[0] - x[0].mean(dtype=float)) / x[0].std(dtype=float),
                               atol=1e-3)


# Lines -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [*SHAPES, (), (9,), (3, 2500), (2, 5, 1025)])
def test_softmax_along_every_dim(heard, rng, shape):
    x, g = floats(rng, shape, 5), floats(rng, shape)
    for dim in range(max(1, len(shape))):
        for name in ("softmax", "log_softmax"):
            y, = check(heard, name, name, x, dim=dim)
            check(heard, name + "_backward", name + "_backward", g, y, dim=dim)


def test_softmax_of_infinities_and_nan(heard):
    inf, nan = np.inf, np.nan
    x = np.array([[-inf, 1, 2], [-inf] * 3, [inf, 0, 1], [nan, 1, 2], [200, -200, 0]], np.float32)
    for a, dim in ((x, 1), (np.ascontiguousarray(x.T), 0)):
        for name in ("softmax", "log_softmax"):
            got = getattr(cpu.raw, name)(a, dim=dim)
            np.testing.assert_allclose(got, SPECS[name].forward(cpu, a, dim=dim), rtol=1e-6)
    assert cpu.raw.softmax(x, dim=1)[0, 0] == 0


@pytest.mark.parametrize("shape", [(5, 3), (70, 10), (3, 100), (2, 40000), (3, 5, 7),
                                   (2, 21, 9, 130)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy(heard, rng, shape, reduction):
    c = shape[1]
    x, target = floats(rng, shape, 4), rng.integers(0, c, (shape[0], *shape[2:]))
    for weight, ignored, smoothing in itertools.product(
            (None, np.abs(floats(rng, c))), (-100, int(target.flat[0])), (0.0, 0.1)):
        op = "cross_entropy_rows" if len(shape) == 2 else "cross_entropy_images"
        kw = {"reduction": reduction, "ignore_index": ignored, "label_smoothing": smoothing}
        plain = reduction == "mean" and weight is None and ignored < 0 and not smoothing
        kernel = "cross_entropy_mean" if plain else "cross_entropy"
        loss, log_sum, total, shift = check(heard, kernel, op, x, target, weight, **kw)
        if not np.isnan(loss).any():
            g = floats(rng, loss.shape) if reduction == "none" else np.asarray(np.float32(1.5))
            check(heard, "cross_entropy_backward", "cross_entropy_backward", g, x, target, weight,
                  log_sum, total, shift, tol=4e-6, **kw)
    for wrong in target + c, target - c:
        with pytest.raises(IndexError, match="out of bounds"):
            getattr(cpu.raw, op)(x, wrong, None, **kw)


def test_cross_entropy_of_classes_that_do_not_count(heard, rng):
    """Those equal to ignore_index are seen by the kernel of the plain mean, which then gives up."""
    x, target = floats(rng, (70, 10), 4), rng.integers(0, 10, 70)
    target[::3] = -100
    kw = {"reduction": "mean", "ignore_index": -100, "label_smoothing": 0.0}
    _, log_sum, total, shift = check(heard, "cross_entropy", "cross_entropy_rows", x, target,
                                     None, **kw)
    assert heard.names[:2] == ["cross_entropy_mean", "cross_entropy"] and total == 46
    g, = check(heard, "cross_entropy_backward", "cross_entropy_backward",
               np.asarray(np.float32(1.5)), x, target, None, log_sum, total, shift, tol=4e-6, **kw)
    assert not g[::3].any() and g[1::3].any()


# Activations -------------------------------------------------------------------------------------

@pytest.mark.parametrize("op, kw", [
    ("gelu", {"approximate": "none"}), ("gelu", {"approximate": "tanh"}), ("silu", {}),
    ("sigmoid", {})])
@pytest.mark.parametrize("n", [1, 5, 4099, 40001])
def test_activations(heard, rng, op, kw, n):
    x = np.concatenate([np.linspace(-12, 12, n), np.linspace(-100, 100, 2001)]).astype(np.float32)
    g = floats(rng, x.shape)
    kernel = {"sigmoid": "logistic"}.get(op, op) + \
        ("_tanh" if kw.get("approximate") == "tanh" else "")
    y, = check(heard, kernel, op, x, tol=1e-7 if n < 6 else 3e-8, **kw)
    if op == "sigmoid":
        check(heard, "sigmoid_backward", "sigmoid_backward", g, y)
    else:
        check(heard, kernel + "_backward", op + "_backward", g, x, **kw)


def test_activations_of_infinities_and_nan(heard):
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 3e38, -3e38, 1e-42] * 500, np.float32)
    nan = np.isnan(x)
    np.testing.assert_array_equal(cpu.raw.sigmoid(x)[~nan][:3], [1, 0, 0.5])
    for got in (cpu.raw.gelu(x), cpu.raw.gelu(x, approximate="tanh"), cpu.raw.silu(x)):
        # -inf * 0, as PyTorch has it
        np.testing.assert_array_equal(np.isnan(got), nan | np.isneginf(x))
        assert got[0] == np.inf and got[3] == 0 and got[5] == np.float32(3e38) and got[6] == 0
    g = np.ones_like(x)
    np.testing.assert_array_equal(cpu.raw.threshold_backward(g, x, threshold=0),
                                  np.where(x <= 0, 0, g))


def test_gradients_of_tanh_relu_and_dropout(heard, rng):
    g, y = floats(rng, (50, 77)), np.tanh(floats(rng, (50, 77)))
    check(heard, "tanh_backward", "tanh_backward", g, y)
    check(heard, "threshold_backward", "threshold_backward", g, y, threshold=0.25, tol=1e-30)
    check(heard, "dropout", "native_dropout", g, y > 0, scale=1.25)


# Attention ---------------------------------------------------------------------------------------

def masks(rng, n, h, length, s):
    yield None
    yield rng.random((length, s)) < 0.7
    yield np.where(rng.random((n, 1, length, s)) < 0.5, -np.inf, floats(rng, (n, 1, length, s)))
    yield floats(rng, (h, 1, s))


@pytest.mark.parametrize("shape", [
    (1, 1, 1, 1, 1, 1, 1), (2, 3, 3, 5, 7, 4, 6), (1, 4, 2, 70, 70, 16, 16),
    (2, 2, 1, 130, 9, 33, 20), (1, 2, 2, 65, 200, 8, 64), (1, 2, 2, 1, 77, 64, 64)])
@pytest.mark.parametrize("causal", [True, False])
def test_attention(heard, rng, shape, causal):
    n, h, shared, length, s, e, ev = shape
    q, k, v = (floats(rng, a) for a in ((n, h, length, e), (n, shared, s, e), (n, shared, s, ev)))
    for mask in masks(rng, n, h, length, s):
        if mask is not None and mask.dtype == np.float64:
            mask = mask.astype(np.float32)
        kw = {"causal": causal, "scale": e ** -0.5}
        out, lse = check(heard, "attention", "attention", q, k, v, mask, **kw)
        g = floats(rng, out.shape)
        check(heard, "attention_backward", "attention_backward", g, q, k, v, out, lse, mask,
              tol=1e-5, **kw)


def test_a_query_that_sees_nothing(heard, rng):
    q, k, v = floats(rng, (3, 1, 2, 6, 8))
    seen = np.ones((6, 6), bool)
    seen[2] = False
    out, lse = cpu.raw.attention(q, k, v, seen, causal=False, scale=1.0)
    assert (out[:, :, 2] == 0).all() and (lse[:, :, 2] == np.inf).all()
    found = cpu.raw.attention_backward(out, q, k, v, out, lse, seen, causal=False, scale=1.0)
    assert all(np.isfinite(a).all() for a in found) and (found[0][:, :, 2] == 0).all()


# Tables ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("d", [1, 5, 64, 300])
@pytest.mark.parametrize("padding", [-1, 2])
def test_embedding_gradient(heard, rng, d, padding):
    at = rng.integers(0, 9, (40, 3))
    check(heard, "embedding_backward", "embedding_dense_backward", floats(rng, (40, 3, d)), at,
          num_weights=9, padding_idx=padding)
    with pytest.raises(IndexError):
        cpu.raw.embedding_dense_backward(floats(rng, (1, d)), np.array([9]), num_weights=9)


def test_nothing_in_nothing_out(heard):
    empty, none = np.empty((0, 4), np.float32), np.empty(0, np.int64)
    assert cpu.raw.softmax(empty, dim=1).shape == empty.shape
    assert cpu.raw.layer_norm(empty, ndim=1)[0].shape == empty.shape
    assert cpu.raw.gelu(empty).shape == empty.shape
    assert cpu.raw.embedding_dense_backward(empty, none, num_weights=3).tolist() == [[0] * 4] * 3
    assert np.isnan(cpu.raw.cross_entropy_rows(empty, none, reduction="mean", ignore_index=-100,
                                               label_smoothing=0.0)[0])


# Recurrent layers --------------------------------------------------------------------------------

@pytest.mark.parametrize("sizes, reverse", [
    ((5, 5, 5), False), ((1,), False), ((9, 7, 7, 2), False), ((9, 7, 7, 2), True), ((4, 4), True),
    ((14, 13, 6, 6, 1), False), ((14, 13, 6, 6, 1), True)])     # enough for three threads
@pytest.mark.parametrize("width", [16, 80])
@pytest.mark.parametrize("started", [True, False])
def test_lstm(heard, rng, sizes, reverse, width, started):
    b, rows = sizes[0], sum(sizes)
    x, w_ih, bias = (floats(rng, a) for a in ((rows, 3), (4 * width, 3), 4 * width))
    w_hh = floats(rng, (4 * width, width), 0.3)
    h0, c0 = floats(rng, (2, b, width)) if started else (None, None)
    given, kw = (x, w_ih, w_hh, bias, None, h0, c0), {"sizes": sizes, "reverse": reverse}
    *out, gates, cells = check(heard, "lstm", "lstm_layer", *given, tol=3e-6, **kw)
    slopes = [floats(rng, a.shape) for a in out]
    for g in (slopes, [slopes[0], None, None], [None, slopes[1], slopes[2]]):
        check(heard, "lstm_backward", "lstm_layer_backward", *g, *given, gates, cells, tol=1e-5,
              **kw)


# Sums --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(20000,), (3, 40000), (700, 49), (130, 600), (2, 5, 3000),
                                   (40, 30, 4, 4), (1, 16385)])
def test_sums_of_first_and_last_dims(heard, rng, shape):
    x, n = floats(rng, shape) + 1, len(shape)
    check(heard, "row_sums", "sum_all", x)
    for k in range(1, n):
        last, first = tuple(range(k, n)), tuple(range(k))
        check(heard, "row_sums", "sum", x, dim=last)
        check(heard, "row_sums", "mean", x, dim=last, keepdim=True)
        check(heard, "column_sums", "sum", x, dim=first, keepdim=True)
    if n > 2:
        heard.names.clear()
        cpu.raw.sum(x, dim=(0, n - 1))
        assert not heard.names
