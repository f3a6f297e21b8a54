"""nn.functional's array side on each device: what PyTorch isn't needed for to know."""
from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import nn
from gpugrad._tensor import wrap
from gpugrad.autograd import gradcheck, gradgradcheck

pytestmark = pytest.mark.usefixtures("on_each_device")


def real(*shape: int, seed: int = 0, grad: bool = False) -> Any:
    a = np.random.default_rng(seed).standard_normal(shape)
    return torch.tensor(a, requires_grad=grad)


def host(t: Any) -> Any:
    return t._be.to_host(t.detach()._a)


def close(a: Any, b: Any, tolerance: float = 1e-10) -> None:
    np.testing.assert_allclose(host(a), host(b), rtol=tolerance, atol=tolerance)


# Convolution -------------------------------------------------------------------------------------

def test_conv3d_of_one_slice_is_conv2d() -> None:
    x, w, b = real(2, 3, 1, 5, 4), real(4, 3, 1, 3, 2, seed=1), real(4, seed=2)
    close(F.conv3d(x, w, b, padding=(0, 1, 1)).squeeze(2),
          F.conv2d(x.squeeze(2), w.squeeze(2), b, padding=1))


def test_conv3d_takes_the_depth_last_as_well() -> None:
    x, w = real(1, 2, 4, 5, 3), real(2, 2, 3, 2, 2, seed=1)
    turned = F.conv3d(x.permute(0, 1, 3, 4, 2), w.permute(0, 1, 3, 4, 2), stride=(2, 1, 1))
    close(F.conv3d(x, w, stride=(1, 2, 1)), turned.permute(0, 1, 4, 2, 3))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_transposed_convolution_is_the_gradient(n: int) -> None:
    conv = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    transpose = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[n - 1]
    x, w = real(2, 4, *[5] * n, grad=True), real(6, 2, *[2] * n, seed=1)
    y = conv(x, w, stride=2, padding=1, groups=2)
    g = real(*y.shape, seed=2)
    (wanted,) = torch.autograd.grad(y, x, g)
    close(transpose(g, w, stride=2, padding=1, output_padding=1, groups=2), wanted)


@pytest.mark.parametrize("layer", [
    nn.Conv1d(4, 6, 3, 2, 1, padding_mode="circular"), nn.Conv3d(4, 2, 2, padding="same"),
    nn.Conv3d(4, 2, 3, padding=1, padding_mode="replicate"),
    nn.Conv3d(4, 2, 3, padding=1, padding_mode="reflect"), nn.ConvTranspose1d(4, 2, 3, 2),
    nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2), nn.ConvTranspose3d(4, 2, 2, 2, bias=False)],
    ids=lambda m: type(m).__name__)
def test_layers_learn(layer: Any, device: str) -> None:
    layer = layer.to(device)
    n = len(layer.kernel_size)
    x = real(2, 4, *[4] * n).float().requires_grad_()
    layer(x).square().sum().backward()
    for p in (x, *layer.parameters()):
        assert p.grad is not None and p.grad.shape == p.shape and bool(p.grad.isfinite().all())


def test_output_size_of_a_transposed_layer() -> None:
    layer = nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1)
    x = real(1, 1, 4, 4).float()
    assert layer(x).shape == (1, 1, 7, 7)
    assert layer(x, output_size=(8, 7)).shape == (1, 1, 8, 7)
    assert layer(x, output_size=(1, 1, 8, 8)).shape == (1, 1, 8, 8)
    with pytest.raises(ValueError, match="valid sizes range from"):
        layer(x, output_size=(9, 7))
    with pytest.raises(ValueError, match="output_size must have 2 or 4 elements"):
        layer(x, output_size=(8,))
    with pytest.raises(ValueError, match='Only "zeros" padding mode is supported'):
        nn.ConvTranspose2d(1, 1, 3, padding_mode="reflect")


def test_output_padding_beyond_the_stride_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="pad the result"):
        F.conv_transpose2d(real(1, 1, 4, 4), real(1, 1, 2, 2), output_padding=1, dilation=2)


# Pooling -----------------------------------------------------------------------------------------

def test_nan_and_infinity_in_volumes() -> None:
    x = torch.zeros(1, 1, 2, 2, 4)
    x[0, 0, 1, 0, 1], x[0, 0, 0, 1, 2] = math.nan, -math.inf
    values, at = F.max_pool3d(x, 2, return_indices=True)
    assert math.isnan(values[0, 0, 0, 0, 0].item()) and values[0, 0, 0, 0, 1].item() == 0
    assert host(at).tolist() == [[[[[9, 2]]]]]


def test_unpooling_puts_maxima_back() -> None:
    for n, pool, unpool in ((1, nn.MaxPool1d, nn.MaxUnpool1d), (2, nn.MaxPool2d, nn.MaxUnpool2d),
                            (3, nn.MaxPool3d, nn.MaxUnpool3d)):
        x = real(2, 3, *[4] * n)
        values, at = pool(2, return_indices=True)(x)
        back = unpool(2)(values, at)
        assert back.shape == x.shape
        close(pool(2)(back.where(back != 0, torch.full_like(back, -math.inf))), values)
        assert int((back != 0).sum()) == values.numel()


@pytest.mark.parametrize("n", [2, 3])
def test_fractional_pooling_is_the_maxima_of_windows(n: int) -> None:
    pool = (F.fractional_max_pool2d, F.fractional_max_pool3d)[n - 2]
    x, samples = real(2, 3, *[6] * n), torch.tensor(np.random.default_rng(1).random((2, 3, n)))
    values, at = pool(x, 2, output_size=3, return_indices=True, _random_samples=samples)
    order = slice(None, None, -1 if n == 2 else 1)             # of two numbers the first is x's
    begins = [[[int((i + u) * 2) - int(u * 2) for i in range(2)] + [4] for u in numbers[order]]
              for numbers in host(samples).reshape(6, n)]
    planes = host(x).reshape(6, *[6] * n)
    want = np.array([[plane[tuple(slice(b, b + 2) for b in corner)].max()
                      for corner in itertools.product(*dims)]
                     for plane, dims in zip(planes, begins)])
    np.testing.assert_array_equal(host(values).reshape(6, -1), want)
    np.testing.assert_array_equal(
        np.take_along_axis(planes.reshape(6, -1), host(at).reshape(6, -1), 1), want)
    pooled = partial(pool, kernel_size=2, output_size=3)
    assert gradcheck(partial(pooled, _random_samples=samples), real(2, 3, *[6] * n, grad=True),
                     fast_mode=True)
    assert gradcheck(partial(pooled, _random_samples=samples[:1, :1]),
                     real(1, 1, *[5] * n, grad=True))


def test_fractional_pooling_draws() -> None:
    torch.manual_seed(0)
    x = real(1, 2, 9, 9)
    a, b = (nn.FractionalMaxPool2d(2, output_ratio=0.5)(x) for _ in range(2))
    assert a.shape == (1, 2, 4, 4) and not torch.equal(a, b)
    assert nn.FractionalMaxPool3d(2, 1)(real(2, 3, 3, 3)).shape == (2, 1, 1, 1)
    with pytest.raises(ValueError, match="requires specifying either"):
        nn.FractionalMaxPool2d(2)
    with pytest.raises(ValueError, match="only one of"):
        nn.FractionalMaxPool2d(2, 2, 0.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.FractionalMaxPool3d(2, output_ratio=1.5)
    with pytest.raises(RuntimeError, match="don't fit an input"):
        F.fractional_max_pool2d(x, 9, 2)


def test_embedding_bags_end_with_the_last_offset() -> None:
    table, ends = real(5, 2), torch.tensor([0, 2, 3])
    found = F.embedding_bag(torch.tensor([0, 1, 2, 3]), table, ends, mode="mean",
                            include_last_offset=True)
    close(found, torch.stack([(table[0] + table[1]) / 2, table[2]]))


def test_convolution_of_no_channels_is_the_bias() -> None:
    bias = real(4, grad=True)
    y = F.conv2d(real(2, 0, 5, 5), real(4, 0, 3, 3), bias)
    assert y.shape == (2, 4, 3, 3)
    y.sum().backward()
    assert bias.grad.tolist() == [18] * 4


@pytest.mark.parametrize("call", [
    lambda: F.conv2d([1.0], real(1, 1, 1, 1)), lambda: F.embedding([1], real(2, 2)),
    lambda: F.conv1d(real(1, 1, 3), real(1, 1, 1), 1.5), lambda: F.max_pool2d(None, 2),
    lambda: F.interpolate([1.0], 3), lambda: F.grid_sample(real(1, 1, 2, 2), [0.0])])
def test_something_that_is_no_tensor(call: Any) -> None:
    with pytest.raises(TypeError, match="must be Tensor, not"):
        call()


@pytest.mark.parametrize("call", [
    lambda x: F.avg_pool2d(x.int(), 2), lambda x: F.adaptive_avg_pool2d(x.long(), 2),
    lambda x: F.adaptive_max_pool2d(x.long(), 2), lambda x: F.max_pool2d(x.bool(), 2),
    lambda x: F.max_pool3d(x.bool(), 2), lambda x: F.avg_pool3d(x.int(), 2),
    lambda x: F.max_unpool2d(x.long(), x.long(), 2),
    lambda x: F.fractional_max_pool2d(x.long(), 2, 2)])
def test_dtypes_that_are_refused(call: Any) -> None:
    with pytest.raises(NotImplementedError, match="convert the input"):
        call(real(1, 2, 4, 4))


def test_lp_pooling_of_infinite_order_is_the_largest() -> None:
    x = real(1, 2, 4, 4)
    close(nn.LPPool2d(math.inf, 2)(x), F.max_pool2d(x.abs(), 2))


# Resizing ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("mode", ["linear", "bilinear", "trilinear", "bicubic"])
def test_resizing_to_the_same_size_changes_nothing(mode: str) -> None:
    n = {"linear": 1, "trilinear": 3}.get(mode, 2)
    x = real(2, 2, *[4, 3, 5][:n])
    for align in (False, True):
        close(F.interpolate(x, tuple(x.shape[2:]), mode=mode, align_corners=align), x)


def test_resizing_gives_new_memory() -> None:
    x = real(1, 1, 3, 3)
    y = F.interpolate(x, (3, 3))
    y.zero_()
    assert bool((x != 0).all())


def test_weights_of_resizing_add_up_to_one() -> None:
    x = torch.ones(1, 1, 7, 5, dtype=torch.float64)
    for mode in ("bilinear", "bicubic"):
        for antialias in (False, True):
            for size in ((3, 11), (1, 1), (20, 2)):
                y = F.interpolate(x, size, mode=mode, antialias=antialias)
                close(y, torch.ones_like(y))


def test_infinity_stays_where_it_has_a_part() -> None:
    x = torch.zeros(1, 1, 6, requires_grad=True)
    y = F.interpolate(x, 12, mode="linear")
    slope = torch.zeros(1, 1, 12)
    slope[0, 0, 0] = math.inf
    (g,) = torch.autograd.grad(y, x, slope)
    assert host(g.isfinite()).tolist() == [[[False, True, True, True, True, True]]]


def test_the_gradient_of_resizing_is_its_transpose() -> None:
    for kw in ({"scale_factor": 1.7}, {"size": (3, 9), "mode": "bicubic"},
               {"size": (3, 9), "mode": "bilinear", "antialias": True}):
        x = real(1, 2, 5, 4, grad=True)
        y = F.interpolate(x, **kw)
        g = real(*y.shape, seed=1)
        (gx,) = torch.autograd.grad(y, x, g)
        assert float((gx * x).sum()) == pytest.approx(float((y * g).sum()))


# Grids -------------------------------------------------------------------------------------------

def test_an_identity_grid_gives_the_image() -> None:
    theta = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]] * 2, dtype=torch.float64)
    x = real(2, 3, 4, 5)
    for align in (False, True):
        grid = F.affine_grid(theta, (2, 3, 4, 5), align)
        for mode in ("bilinear", "nearest", "bicubic"):
            close(F.grid_sample(x, grid, mode, align_corners=align), x)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_two_orders_of_derivatives_of_samples(padding: str) -> None:
    x, grid = real(1, 2, 3, 4, grad=True), (real(1, 2, 2, 2, seed=3) * 0.7).requires_grad_()
    for mode in ("bilinear", "bicubic"):
        for check in (gradcheck, gradgradcheck):
            assert check(partial(F.grid_sample, mode=mode, padding_mode=padding,
                                 align_corners=False), (x, grid), fast_mode=x.is_cuda)


def test_places_outside_and_nan() -> None:
    grid = torch.tensor([[[[5.0, 0], [math.nan, 0], [0, 0]]]])
    x = torch.full((1, 1, 3, 3), math.inf)
    y = host(F.grid_sample(x, grid, align_corners=True))
    assert y[0, 0, 0, 0] == 0 and y[0, 0, 0, 1] == 0
    assert host(F.grid_sample(x.fill_(2), grid, "nearest", "border",
                              align_corners=True))[0, 0, 0, 0] == 2


# Attention ---------------------------------------------------------------------------------------

def composite(q: Any, k: Any, v: Any, seen: Any) -> Any:
    s = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return s.masked_fill(~seen, -math.inf).softmax(-1) @ v


def test_attention_in_parts_is_attention_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (real(2, 3, n, 4, seed=i, grad=True) for i, n in enumerate((37, 41, 41)))
    seen = torch.ones(37, 41).tril().bool()
    wanted = composite(q, k, v, seen)
    g = real(*wanted.shape, seed=7)
    slopes = torch.autograd.grad(wanted, (q, k, v), g)
    for size in (1, 41 * 8 * 9, 1 << 20):                # a part is at least 16 queries
        monkeypatch.setattr(q._be, "column_bytes", size)
        for kw in ({"is_causal": True}, {"attn_mask": seen}):
            got = F.scaled_dot_product_attention(q, k, v, **kw)
            close(got, wanted)
            for a, b in zip(torch.autograd.grad(got, (q, k, v), g), slopes):
                close(a, b)


@pytest.mark.cpu_only
def test_attention_keeps_no_matrix_of_scores() -> None:
    import tracemalloc
    q = torch.zeros(1, 1, 2048, 8, requires_grad=True)
    F.scaled_dot_product_attention(q, q, q).sum().backward()         # scratch memory is made
    tracemalloc.start()
    F.scaled_dot_product_attention(q, q, q).sum().backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2048 * 2048 * 4 / 4


def test_queries_that_see_nothing_get_zeros() -> None:
    q, k = real(1, 1, 3, 2, grad=True), real(1, 1, 4, 2, seed=1, grad=True)
    seen = torch.ones(3, 4).bool()
    seen[1] = False
    for mask in (seen, torch.zeros(3, 4, dtype=torch.float64).masked_fill(~seen, -math.inf)):
        y = F.scaled_dot_product_attention(q, k, k, mask)
        gq, gk = torch.autograd.grad(y.square().sum(), (q, k), create_graph=True)
        assert host(y[0, 0, 1]).tolist() == [0, 0] and host(gq[0, 0, 1]).tolist() == [0, 0]
        (again,) = torch.autograd.grad(gk.square().sum() + gq.square().sum(), k)
        assert bool(again.isfinite().all())


def test_a_mask_that_is_learned() -> None:
    q, k, mask = real(1, 2, 3, 2), real(1, 2, 4, 2, seed=1), real(3, 4, seed=2, grad=True)
    assert gradcheck(lambda m: F.scaled_dot_product_attention(q, k, k, m), (mask,))


def test_attention_without_keys_or_queries() -> None:
    q, none = real(1, 2, 3, 2), real(1, 2, 0, 2)
    assert host(F.scaled_dot_product_attention(q, none, none)).tolist() == [[[[0, 0]] * 3] * 2]
    assert F.scaled_dot_product_attention(none, q, q).shape == (1, 2, 0, 2)


# Bags --------------------------------------------------------------------------------------------

def test_bags_are_reductions_of_embeddings() -> None:
    table, rows = real(6, 3, grad=True), torch.tensor([[1, 5, 0], [2, 2, 4]])
    for mode, reduce in (("sum", lambda e: e.sum(1)), ("mean", lambda e: e.mean(1)),
                         ("max", lambda e: e.amax(1))):
        close(F.embedding_bag(rows, table, mode=mode), reduce(F.embedding(rows, table)))
        bag = nn.EmbeddingBag.from_pretrained(table.detach(), mode=mode)
        close(bag(rows.reshape(-1), torch.tensor([0, 3])), F.embedding_bag(rows, table, mode=mode))


def test_empty_bags_and_left_out_rows_are_zeros() -> None:
    table = torch.full((4, 2), math.inf)
    table[1] = 3.0
    index, starts = torch.tensor([1, 0, 0]), torch.tensor([0, 0, 2])
    for mode, first in (("sum", 3), ("mean", 3), ("max", 3)):
        y = host(F.embedding_bag(index, table, starts, mode=mode, padding_idx=0))
        assert y.tolist() == [[0, 0], [first, first], [0, 0]]


def test_frequency_scales_the_gradient_of_bags() -> None:
    table = torch.ones(3, 1, requires_grad=True)
    F.embedding_bag(torch.tensor([[0, 0, 2]]), table, mode="sum",
                    scale_grad_by_freq=True).sum().backward()
    assert host(table.grad).tolist() == [[1], [0], [1]]


# The rest ----------------------------------------------------------------------------------------

def test_fold_adds_what_unfold_reads() -> None:
    x = real(2, 3, 5, 6)
    count = nn.Fold((5, 6), 3, padding=1)(nn.Unfold(3, padding=1)(torch.ones_like(x)))
    close(nn.Fold((5, 6), 3, padding=1)(nn.Unfold(3, padding=1)(x)) / count, x)


def test_shuffles_undo_each_other() -> None:
    x = real(2, 8, 3, 4)
    close(nn.PixelUnshuffle(2)(nn.PixelShuffle(2)(x)), x)
    close(nn.ChannelShuffle(4)(nn.ChannelShuffle(2)(x)), x)


def test_distances() -> None:
    x = real(4, 3, grad=True)
    rows = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    want = torch.stack([(x[i] - x[j]).norm() for i, j in rows])
    close(F.pdist(x), want)
    (g,) = torch.autograd.grad(F.pdist(x[:2] * 0).sum(), x)
    assert host(g).tolist() == np.zeros((4, 3)).tolist()
    close(nn.PairwiseDistance(eps=0)(x, x[0]), (x - x[0]).norm(dim=1))
    close(nn.CosineSimilarity()(x, x * 3), torch.ones(4, dtype=torch.float64))


def test_samples_of_a_relaxed_categorical_distribution() -> None:
    torch.manual_seed(0)
    logits = real(200, 3, grad=True)
    soft = F.gumbel_softmax(logits, 0.5)
    close(soft.sum(1), torch.ones(200, dtype=torch.float64))
    hard = F.gumbel_softmax(logits, 0.5, hard=True)
    assert set(host(hard.round()).reshape(-1).tolist()) == {0, 1}
    (hard * real(200, 3, seed=1)).sum().backward()
    assert bool((logits.grad != 0).any())


def test_random_slopes_lie_between_the_bounds() -> None:
    x = real(500).sub(0.5)
    y = nn.RReLU(0.1, 0.3)(x)
    slope = host(y / x)
    low = host(x) < 0
    assert (slope[~low] == 1).all()
    assert slope[low].min() >= 0.1 and slope[low].max() <= 0.3 and np.ptp(slope[low]) > 0.1
    close(nn.RReLU(0.1, 0.3).eval()(x), F.leaky_relu(x, 0.2))


def test_a_negative_size_after_padding() -> None:
    with pytest.raises(RuntimeError, match="resulted in a negative output size"):
        F.pad(real(2, 3), (-2, -2))
    assert F.pad(real(2, 3), (-2, -1)).shape == (2, 0)


@pytest.mark.parametrize("make", [
    lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"),
    lambda x: F.pad(x, (1, 1, 1, 1), "reflect"), lambda x: F.avg_pool3d(x.unsqueeze(2), (1, 2, 2)),
    lambda x: F.conv_transpose2d(x, x.new_ones(3, 2, 2, 2)), lambda x: F.unfold(x, 2),
    lambda x: F.scaled_dot_product_attention(x, x, x)])
def test_memory_layout_does_not_matter(make: Any) -> None:
    x = real(2, 4, 5, 3).permute(0, 3, 2, 1)
    close(make(x), make(wrap(x._be.copy(x._a), x._be)))
