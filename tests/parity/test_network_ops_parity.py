"""Convolution, pooling, losses, norms and dropout against PyTorch: values and both orders."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import gpugrad  # noqa: E402
from gpugrad.autograd.rules import tensors as T  # noqa: E402
from gpugrad.backend import cpu  # noqa: E402
from gpugrad.ops.dropout import dropout  # noqa: E402

F = torch.nn.functional
aten = torch.ops.aten


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def both_orders(ours, theirs, *arrays, tol=1e-8):
    """Values, gradients, and gradients of gradients, in float64, along random directions."""
    rng = np.random.default_rng(1)
    draws: dict[tuple[int, ...], np.ndarray] = {}
    results = []
    for library, f in ((gpugrad, ours), (torch, theirs)):
        def direction(t, order, library=library):
            key = (order, *t.shape)
            if key not in draws:
                draws[key] = rng.standard_normal(tuple(t.shape))
            return library.from_numpy(draws[key].copy())

        leaves = [library.from_numpy(a.copy()).requires_grad_() for a in arrays]
        out = f(*leaves)
        first = library.autograd.grad((out * direction(out, 1)).sum(), leaves, create_graph=True)
        total = sum((g * direction(g, 2)).sum() for g in first)
        second = library.autograd.grad(total, leaves, allow_unused=True) \
            if total.requires_grad else [None] * len(leaves)
        second = [0 * x.detach() if g is None else g for x, g in zip(leaves, second)]
        results.append([t.detach().numpy() for t in (out, *first, *second)])
    for mine, wanted in zip(*results):
        assert mine.shape == wanted.shape
        np.testing.assert_allclose(mine, wanted, rtol=tol, atol=tol)


# Convolution -------------------------------------------------------------------------------------

@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (3, 3)])
def test_convolution(rng, kernel, groups):
    for stride, padding, dilation in itertools.product([(1, 1), (2, 1), (2, 3)], [(0, 0), (1, 2)],
                                                       [(1, 1), (2, 1)]):
        x, w = rng.standard_normal((2, 4, 7, 8)), rng.standard_normal((6, 4 // groups, *kernel))
        kw = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        both_orders(lambda *a, kw=kw: T.convolution(*a, **kw),
                    lambda *a, kw=kw: F.conv2d(*a, **kw), x, w, rng.standard_normal(6))


@pytest.mark.parametrize("c,c_out,size,kernel,padding", [
    (1, 6, 32, 3, 0), (6, 16, 15, 3, 0), (6, 16, 14, 5, 0), (64, 64, 16, 3, 1), (3, 64, 16, 3, 1),
    (128, 128, 8, 3, 1), (128, 256, 4, 3, 1), (64, 32, 9, 1, 0)])
def test_convolution_in_float32_at_the_sizes_of_networks(rng, c, c_out, size, kernel, padding):
    arrays = [rng.standard_normal(s).astype(np.float32) for s in (
        (5, c, size, size), (c_out, c, kernel, kernel), (c_out,))]
    kw = {"stride": (1, 1), "padding": (padding, padding), "dilation": (1, 1), "groups": 1}
    results = []
    for library, f in ((gpugrad, T.convolution), (torch, F.conv2d)):
        leaves = [library.from_numpy(a.copy()).requires_grad_() for a in arrays]
        out = f(*leaves, **kw)
        results.append([out, *library.autograd.grad((out * out).sum(), leaves)])
    for mine, wanted in zip(*results):
        wanted = wanted.detach().numpy()
        np.testing.assert_allclose(mine.detach().numpy(), wanted, rtol=1e-4,
                                   atol=1e-4 * np.abs(wanted).max())


# Pooling -----------------------------------------------------------------------------------------

POOLS = [(k, s, p, d, ceil) for k, s, p, d, ceil in itertools.product(
    [(2, 2), (2, 3), (3, 3)], [(1, 1), (2, 2), (3, 2)], [(0, 0), (1, 1)], [(1, 1), (2, 1)],
    [False, True])]


@pytest.mark.parametrize("kind", ["normal", "ties", "nan", "minus infinity"])
def test_max_pool_finds_the_same_maxima(rng, kind):
    for shape, (kernel, stride, padding, dilation, ceil) in itertools.product(
            [(2, 3, 7, 9), (1, 1, 8, 8)], POOLS):
        x = rng.standard_normal(shape).astype(np.float32)
        if kind == "ties":
            x = np.maximum(x, 0)
        elif kind == "nan":
            x[rng.random(shape) < 0.3] = np.nan
        elif kind == "minus infinity":
            x[rng.random(shape) < 0.8] = -np.inf
        theirs = torch.from_numpy(x)
        values, at = F.max_pool2d(theirs, kernel, stride, padding, dilation, ceil, True)
        mine, where = cpu.raw.max_pool2d_with_indices(
            x, kernel=kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil)
        np.testing.assert_array_equal(mine, values.numpy())
        np.testing.assert_array_equal(where, at.numpy())


def test_pooling_gradients(rng):
    for kernel, stride, padding, dilation, ceil in POOLS[::3]:
        x = np.maximum(rng.standard_normal((2, 2, 7, 9)), 0)            # zeros tie
        kw = {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil}
        both_orders(lambda x, kw=kw, d=dilation: T.max_pool2d(x, dilation=d, **kw)[0] ** 2,
                    lambda x, d=dilation, a=(kernel, stride, padding), ceil=ceil:
                    F.max_pool2d(x, *a, d, ceil) ** 2, x)
        if dilation == (1, 1):
            for counts, divisor in ((True, None), (False, None), (True, 5)):
                both_orders(
                    lambda x, kw=kw, c=counts, d=divisor: T.avg_pool2d(
                        x, count_include_pad=c, divisor_override=d, **kw) ** 2,
                    lambda x, a=(kernel, stride, padding, ceil, counts, divisor):
                    F.avg_pool2d(x, *a) ** 2, x)


@pytest.mark.parametrize("size", [(2, 3), (7, 9), (3, 5), (8, 10), (1, 2)])
def test_adaptive_pooling(rng, size):
    both_orders(lambda x: T.adaptive_avg_pool2d(x, output_size=size) ** 2,
                lambda x: F.adaptive_avg_pool2d(x, size) ** 2, rng.standard_normal((2, 3, 7, 9)))


# Softmax and losses ------------------------------------------------------------------------------

@pytest.mark.parametrize("dim", [0, 1, 2])
def test_softmax(rng, dim):
    x = rng.standard_normal((3, 4, 5)) * 3
    both_orders(lambda x: T.softmax(x, dim=dim), lambda x: F.softmax(x, dim), x)
    both_orders(lambda x: T.log_softmax(x, dim=dim), lambda x: F.log_softmax(x, dim), x)
    x[0, 0] = -np.inf
    for mine, theirs in ((cpu.raw.softmax, F.softmax), (cpu.raw.log_softmax, F.log_softmax)):
        np.testing.assert_allclose(mine(x, dim=dim), theirs(torch.from_numpy(x), dim).numpy())


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shape", [(6, 5), (2, 5, 3), (2, 5, 2, 3), (2, 5, 2, 1, 3)])
def test_cross_entropy(rng, reduction, shape):
    x, target = rng.standard_normal(shape), rng.integers(0, 5, (shape[0], *shape[2:]))
    weights = None, rng.random(5)
    for weight, ignore, smoothing in itertools.product(weights, (-100, 2), (0.0, 0.3)):
        kw = {"reduction": reduction, "ignore_index": ignore}
        args = [[a if a is None else library.from_numpy(a) for a in (target, weight)]
                for library in (gpugrad, torch)]
        both_orders(
            lambda x, args=args, kw=kw, s=smoothing:
            T.cross_entropy(x, *args[0], label_smoothing=s, **kw)[0],
            lambda x, args=args, kw=kw, s=smoothing:
            F.cross_entropy(x, *args[1], label_smoothing=s, **kw), x)
        both_orders(lambda x, args=args, kw=kw: T.nll_loss(x, *args[0], **kw)[0],
                    lambda x, args=args, kw=kw: F.nll_loss(x, *args[1], **kw), x)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4), (2, 3, 2, 2)])
def test_graph_of_cross_entropy(rng, shape):
    """The nodes that a user sees from the loss down to the scores have PyTorch's names."""
    def names(node):
        out = []
        while node is not None and "Accumulate" not in node.name():
            out.append(node.name())
            node = node.next_functions[0][0]
        return out

    x, target = rng.standard_normal(shape), rng.integers(0, 3, (shape[0], *shape[2:]))
    mine = T.cross_entropy(gpugrad.from_numpy(x).requires_grad_(), gpugrad.from_numpy(target))[0]
    theirs = F.cross_entropy(torch.from_numpy(x).requires_grad_(), torch.from_numpy(target))
    assert names(mine.grad_fn) == names(theirs.grad_fn)


def test_target_out_of_range(rng):
    x = rng.standard_normal((3, 10))
    for wrong in (10, -1):
        with pytest.raises(IndexError) as theirs:
            F.nll_loss(torch.from_numpy(x), torch.tensor([1, wrong, 2]))
        with pytest.raises(IndexError) as mine:
            T.nll_loss(gpugrad.from_numpy(x), gpugrad.tensor([1, wrong, 2]))
        assert str(mine.value) == str(theirs.value)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_mse_loss(rng, reduction):
    both_orders(lambda x, y: T.mse_loss(x, y, reduction=reduction),
                lambda x, y: F.mse_loss(x, y, reduction=reduction), *rng.standard_normal((2, 3, 4)))


# Norms and dropout -------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (3, 3, 2, 4)])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(rng, shape, training):
    x, (w, b), (mean, var) = rng.standard_normal(shape), rng.standard_normal((2, 3)), \
        rng.random((2, 3)) + 0.5
    stats = [[None if training else library.from_numpy(a.copy()) for a in (mean, var)]
             for library in (gpugrad, torch)]
    both_orders(lambda *a: T.batch_norm(*a, *stats[0], training=training, eps=1e-3)[0],
                lambda x, w, b: F.batch_norm(x, *stats[1], w, b, training, 0.1, 1e-3), x, w, b)
    both_orders(lambda x: T.batch_norm(x, None, None, *stats[0], training=training)[0],
                lambda x: F.batch_norm(x, *stats[1], None, None, training), x)


@pytest.mark.parametrize("ndim", [1, 2])
def test_layer_norm(rng, ndim):
    shape = (2, 3, 4)
    w, b = rng.standard_normal((2, *shape[-ndim:]))
    x = rng.standard_normal(shape)
    both_orders(lambda *a: T.layer_norm(*a, ndim=ndim)[0],
                lambda x, w, b: F.layer_norm(x, shape[-ndim:], w, b), x, w, b)


@pytest.mark.parametrize("ndim", [1, 2])
def test_rms_norm(rng, ndim):
    x = rng.standard_normal((2, 3, 4))
    both_orders(lambda *a: T.rms_norm(*a, ndim=ndim, eps=0.1)[0],
                lambda x, w: F.rms_norm(x, x.shape[-ndim:], w, 0.1), x,
                rng.standard_normal(x.shape[-ndim:]))
    both_orders(lambda x: T.rms_norm(x, None, ndim=ndim, eps=0.1)[0],
                lambda x: F.rms_norm(x, x.shape[-ndim:], None, 0.1), x)


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5), (2, 4, 2, 3)])
@pytest.mark.parametrize("groups", [1, 2])
def test_group_norm(rng, shape, groups):
    x, (w, b) = rng.standard_normal(shape), rng.standard_normal((2, 4))
    both_orders(lambda *a: T.group_norm(*a, groups=groups)[0],
                lambda x, w, b: F.group_norm(x, groups, w, b), x, w, b)
    both_orders(lambda x: T.group_norm(x, None, None, groups=groups)[0],
                lambda x: F.group_norm(x, groups), x)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
def test_dropout_draws_the_same_mask(rng, p, dtype):
    x = rng.standard_normal((33, 7)).astype(dtype)
    for seed in (0, 1):
        gpugrad.manual_seed(seed)
        torch.manual_seed(seed)
        mine = gpugrad.from_numpy(x.copy()).requires_grad_()
        theirs = torch.from_numpy(x.copy()).requires_grad_()
        for _ in range(2):
            a, b = dropout(mine, p, True), F.dropout(theirs, p, True)
            np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
        (a * a).sum().backward()
        (b * b).sum().backward()
        np.testing.assert_allclose(mine.grad.numpy(), theirs.grad.numpy(), rtol=1e-3)
        assert a.grad_fn is None if b.grad_fn is None else a.grad_fn.name() == b.grad_fn.name()
