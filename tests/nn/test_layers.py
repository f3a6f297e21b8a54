"""Layers: values by hand or by NumPy, texts, and the parameters that a seed gives."""
from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import nn

pytestmark = pytest.mark.usefixtures("on_each_device")


def arr(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def close(t, want, tol=1e-5):
    np.testing.assert_allclose(t.detach().cpu().numpy(), want, rtol=tol, atol=tol)


REPRS = [
    (lambda: nn.Linear(4, 2), "Linear(in_features=4, out_features=2, bias=True)"),
    (lambda: nn.Linear(4, 2, bias=False), "Linear(in_features=4, out_features=2, bias=False)"),
    (lambda: nn.Bilinear(2, 3, 4),
     "Bilinear(in1_features=2, in2_features=3, out_features=4, bias=True)"),
    (lambda: nn.Identity(3), "Identity()"),
    (lambda: nn.Flatten(), "Flatten(start_dim=1, end_dim=-1)"),
    (lambda: nn.Unflatten(1, (2, 3)), "Unflatten(dim=1, unflattened_size=(2, 3))"),
    (lambda: nn.Conv1d(1, 6, 5), "Conv1d(1, 6, kernel_size=(5,), stride=(1,))"),
    (lambda: nn.Conv2d(1, 6, 5, padding=2, stride=(2, 1)),
     "Conv2d(1, 6, kernel_size=(5, 5), stride=(2, 1), padding=(2, 2))"),
    (lambda: nn.Conv2d(4, 6, (3, 2), dilation=2, groups=2, bias=False, padding_mode="circular"),
     "Conv2d(4, 6, kernel_size=(3, 2), stride=(1, 1), dilation=(2, 2), groups=2, bias=False, "
     "padding_mode=circular)"),
    (lambda: nn.Conv2d(4, 6, 3, padding="same"),
     "Conv2d(4, 6, kernel_size=(3, 3), stride=(1, 1), padding=same)"),
    (lambda: nn.MaxPool1d(2),
     "MaxPool1d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"),
    (lambda: nn.MaxPool2d((3, 2), stride=1, padding=1, ceil_mode=True),
     "MaxPool2d(kernel_size=(3, 2), stride=1, padding=1, dilation=1, ceil_mode=True)"),
    (lambda: nn.AvgPool1d(2), "AvgPool1d(kernel_size=(2,), stride=(2,), padding=(0,))"),
    (lambda: nn.AvgPool2d(3, 2, padding=1), "AvgPool2d(kernel_size=3, stride=2, padding=1)"),
    (lambda: nn.AdaptiveAvgPool1d(3), "AdaptiveAvgPool1d(output_size=3)"),
    (lambda: nn.AdaptiveAvgPool2d((None, 3)), "AdaptiveAvgPool2d(output_size=(None, 3))"),
    (lambda: nn.ReLU(inplace=True), "ReLU(inplace=True)"),
    (lambda: nn.LeakyReLU(0.2, inplace=True), "LeakyReLU(negative_slope=0.2, inplace=True)"),
    (lambda: nn.PReLU(3), "PReLU(num_parameters=3)"),
    (lambda: nn.ELU(0.5), "ELU(alpha=0.5)"),
    (lambda: nn.GELU("tanh"), "GELU(approximate='tanh')"),
    (lambda: nn.Hardtanh(-2, 2), "Hardtanh(min_val=-2, max_val=2)"),
    (lambda: nn.Threshold(0.1, 20), "Threshold(threshold=0.1, value=20)"),
    (lambda: nn.Softplus(), "Softplus(beta=1.0, threshold=20.0)"),
    (lambda: nn.Hardshrink(), "Hardshrink(0.5)"),
    (lambda: nn.Softmax(dim=1), "Softmax(dim=1)"),
    (lambda: nn.GLU(), "GLU(dim=-1)"),
    (lambda: nn.Dropout(0.3), "Dropout(p=0.3, inplace=False)"),
    (lambda: nn.Dropout2d(inplace=True), "Dropout2d(p=0.5, inplace=True)"),
    (lambda: nn.BatchNorm1d(5),
     "BatchNorm1d(5, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)"),
    (lambda: nn.BatchNorm2d(5, eps=1e-3, momentum=None, affine=False),
     "BatchNorm2d(5, eps=0.001, momentum=None, affine=False, bias=False, "
     "track_running_stats=True)"),
    (lambda: nn.LayerNorm((3, 4)),
     "LayerNorm((3, 4), eps=1e-05, elementwise_affine=True, bias=True)"),
    (lambda: nn.Embedding(5, 3, padding_idx=0), "Embedding(5, 3, padding_idx=0)"),
    (lambda: nn.CrossEntropyLoss(), "CrossEntropyLoss()"),
    (lambda: nn.MSELoss(reduction="sum"), "MSELoss()"),
    (lambda: nn.ZeroPad2d((1, 2, 0, 1)), "ZeroPad2d((1, 2, 0, 1))"),
    (lambda: nn.ConstantPad1d(1, 2.5), "ConstantPad1d(padding=(1, 1), value=2.5)"),
    (lambda: nn.ReflectionPad2d(2), "ReflectionPad2d((2, 2, 2, 2))"),
]


@pytest.mark.parametrize("make, text", REPRS, ids=[r[1].split("(")[0] for r in REPRS])
def test_repr(make, text):
    assert repr(make()) == text


@pytest.mark.cpu_only
def test_numbers_of_a_seed():
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    close(layer.weight, [[-0.00432252, 0.30971584, -0.47518533],
                         [-0.42489460, -0.22236897, 0.15482073]], 1e-7)
    close(layer.bias, [-0.01143914, 0.45777494], 1e-7)
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 2, 2)
    close(layer.weight.flatten(), [-0.00374341, 0.26822180, -0.41152257, -0.36796951,
                                   -0.19257718, 0.13407868, -0.00990659, 0.39644474], 1e-7)
    close(layer.bias, [-0.04437202, 0.13230628], 1e-7)
    torch.manual_seed(0)
    assert nn.Dropout(0.5)(torch.ones(10)).tolist() == [0, 0, 2, 0, 0, 0, 2, 2, 0, 2]


# Linear ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5)])
def test_linear(shape):
    layer, x = nn.Linear(5, 3), torch.tensor(arr(*shape))
    w, b = layer.weight.detach().cpu().numpy(), layer.bias.detach().cpu().numpy()
    y = layer(x)
    close(y, x.cpu().numpy() @ w.T + b)
    y.sum().backward()
    close(layer.bias.grad, np.full(3, y.numel() / 3))
    close(layer.weight.grad, np.tile(x.cpu().numpy().reshape(-1, 5).sum(0), (3, 1)))


def test_linear_options():
    assert nn.Linear(2, 3, bias=False).bias is None
    assert nn.Linear(2, 3, dtype=torch.float64).weight.dtype is torch.float64
    assert nn.Linear(2, 3, device="cpu").weight.shape == (3, 2)
    with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
        assert nn.Linear(0, 2)(torch.ones(3, 0)).shape == (3, 2)


def test_bilinear():
    layer = nn.Bilinear(2, 3, 4)
    x, y = arr(5, 2), arr(5, 3, seed=1)
    want = np.einsum("ni,kij,nj->nk", x, layer.weight.detach().cpu().numpy(), y)
    close(layer(torch.tensor(x), torch.tensor(y)), want + layer.bias.detach().cpu().numpy())


def test_shapes():
    x = torch.ones(2, 3, 4)
    assert nn.Flatten()(x).shape == (2, 12) and nn.Flatten(0, 1)(x).shape == (6, 4)
    assert nn.Unflatten(2, (2, -1))(x).shape == (2, 3, 2, 2)
    assert nn.Identity(1, a=2)(x) is x
    with pytest.raises(NotImplementedError, match="pass its number"):
        nn.Unflatten("c", (2, 3))


# Convolution -------------------------------------------------------------------------------------


def correlate(x, w, bias, stride, padding, dilation, groups, mode="constant"):
    """Convolution of images by its definition, in float64."""
    (n, _, _, _), (out, cg, kh, kw) = x.shape, w.shape
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *padding), mode)
    oh = (x.shape[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (x.shape[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((n, out, oh, ow))
    for k, i, j in itertools.product(range(out), range(oh), range(ow)):
        rows = i * stride[0] + np.arange(kh) * dilation[0]
        cols = j * stride[1] + np.arange(kw) * dilation[1]
        first = k // (out // groups) * cg
        window = x[:, first:first + cg][:, :, rows][..., cols]
        y[:, k, i, j] = np.einsum("ncij,cij->n", window, w[k])
    return y if bias is None else y + bias[:, None, None]


@pytest.mark.parametrize("kw, sides, numpy_mode", [
    ({}, ((0, 0), (0, 0)), "constant"),
    ({"stride": 2, "padding": (1, 0)}, ((1, 1), (0, 0)), "constant"),
    ({"dilation": (2, 1), "groups": 2}, ((0, 0), (0, 0)), "constant"),
    ({"padding": "valid", "bias": False}, ((0, 0), (0, 0)), "constant"),
    ({"padding": "same"}, ((1, 1), (0, 1)), "constant"),
    ({"padding": 1, "padding_mode": "reflect"}, ((1, 1), (1, 1)), "reflect"),
    ({"padding": 1, "padding_mode": "replicate", "stride": 2}, ((1, 1), (1, 1)), "edge"),
    ({"padding": "same", "padding_mode": "circular"}, ((1, 1), (0, 1)), "wrap"),
])
def test_conv2d(kw, sides, numpy_mode):
    layer = nn.Conv2d(4, 6, (3, 2), **kw)
    x = arr(2, 4, 7, 6)
    bias = None if layer.bias is None else layer.bias.detach().cpu().numpy()
    want = correlate(x, layer.weight.detach().cpu().numpy(), bias, layer.stride, sides,
                     layer.dilation, layer.groups, numpy_mode)
    close(layer(torch.tensor(x)), want, 1e-4)
    close(layer(torch.tensor(x[0])), want[0], 1e-4)


def test_conv1d():
    layer = nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2)
    x = arr(2, 4, 9)
    weight, bias = (p.detach().cpu().numpy() for p in (layer.weight, layer.bias))
    want = correlate(x[:, :, None], weight[:, :, None],
                     bias, (1, 2), ((0, 0), (1, 1)), (1, 2), 2)[:, :, 0]
    close(layer(torch.tensor(x)), want, 1e-4)


def test_conv_of_an_empty_batch():
    assert nn.Conv2d(3, 4, 3)(torch.ones(0, 3, 8, 8)).shape == (0, 4, 6, 6)


# Pooling -----------------------------------------------------------------------------------------


def test_max_pool():
    x = torch.tensor([[1.0, 5, 2], [4, 3, 0], [7, 1, 9]])[None, None]
    assert nn.MaxPool2d(2)(x).tolist() == [[[[5]]]]
    assert nn.MaxPool2d(2, stride=1)(x).tolist() == [[[[5, 5], [7, 9]]]]
    assert nn.MaxPool2d(2, ceil_mode=True)(x).tolist() == [[[[5, 2], [7, 9]]]]
    assert nn.MaxPool2d(3, 2, padding=1)(x).tolist() == [[[[5, 5], [7, 9]]]]
    values, indices = nn.MaxPool2d(2, stride=1, return_indices=True)(x)
    assert indices.tolist() == [[[[1, 1], [6, 8]]]] and values.shape == (1, 1, 2, 2)
    assert nn.MaxPool2d(2)(x[0]).shape == (1, 1, 1)
    assert nn.MaxPool1d(2)(x[0, 0]).tolist() == [[5], [4], [7]]


def test_max_pool_gradient_goes_to_the_first_maximum():
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    nn.MaxPool2d(2)(x).sum().backward()
    assert x.grad.tolist() == [[[[1, 0], [0, 0]]]]


def test_avg_pool():
    x = torch.arange(9.0).view(1, 1, 3, 3)
    assert nn.AvgPool2d(2)(x).tolist() == [[[[2]]]]
    assert nn.AvgPool2d(3, 2, padding=1)(x)[0, 0, 0, 0].item() == pytest.approx(8 / 9)
    kept = nn.AvgPool2d(3, 2, padding=1, count_include_pad=False)(x)
    assert kept[0, 0].tolist() == [[2, 3], [5, 6]]
    assert nn.AvgPool2d(2, divisor_override=2)(x).tolist() == [[[[4]]]]
    assert nn.AvgPool1d(2)(x[0]).tolist() == [[[0.5], [3.5], [6.5]]]


def test_adaptive_avg_pool():
    x = torch.arange(12.0).view(1, 3, 4)
    assert nn.AdaptiveAvgPool2d(1)(x).tolist() == [[[5.5]]]
    assert nn.AdaptiveAvgPool2d((None, 2))(x).tolist() == [[[0.5, 2.5], [4.5, 6.5], [8.5, 10.5]]]
    assert nn.AdaptiveAvgPool2d((2, 3))(x).tolist() == [[[2.5, 3.5, 4.5], [6.5, 7.5, 8.5]]]
    assert nn.AdaptiveAvgPool1d(2)(x).tolist() == [[[0.5, 2.5], [4.5, 6.5], [8.5, 10.5]]]


# Activations -------------------------------------------------------------------------------------

def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


erf = np.vectorize(math.erf)
LAMBDA, ALPHA = 1.0507009873554805, 1.6732632423543772

ACTIVATIONS = [
    (nn.ReLU(), lambda x: np.maximum(x, 0)),
    (nn.ReLU6(), lambda x: np.clip(x, 0, 6)),
    (nn.LeakyReLU(0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
    (nn.PReLU(), lambda x: np.where(x > 0, x, 0.25 * x)),
    (nn.ELU(2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x))),
    (nn.CELU(2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x / 2))),
    (nn.SELU(), lambda x: LAMBDA * np.where(x > 0, x, ALPHA * np.expm1(x))),
    (nn.GELU(), lambda x: x * (1 + erf(x / math.sqrt(2))) / 2),
    (nn.GELU("tanh"),
     lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))),
    (nn.SiLU(), lambda x: x * sigmoid(x)),
    (nn.Mish(), lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    (nn.Hardsigmoid(), lambda x: np.clip(x + 3, 0, 6) / 6),
    (nn.Hardswish(), lambda x: x * np.clip(x + 3, 0, 6) / 6),
    (nn.Hardtanh(-0.5, 2), lambda x: np.clip(x, -0.5, 2)),
    (nn.Hardshrink(), lambda x: np.where(abs(x) > 0.5, x, 0)),
    (nn.Softshrink(), lambda x: np.sign(x) * np.maximum(abs(x) - 0.5, 0)),
    (nn.Tanhshrink(), lambda x: x - np.tanh(x)),
    (nn.Threshold(1.0, -7.0), lambda x: np.where(x > 1, x, -7)),
    (nn.Sigmoid(), sigmoid),
    (nn.Tanh(), np.tanh),
    (nn.LogSigmoid(), lambda x: np.log(sigmoid(x))),
    (nn.Softsign(), lambda x: x / (1 + abs(x))),
    (nn.Softplus(2.0, 3.0), lambda x: np.where(2 * x > 3, x, np.log1p(np.exp(2 * x)) / 2)),
    (nn.GLU(), lambda x: x[..., :2] * sigmoid(x[..., 2:])),
    (nn.Softmax(dim=0), lambda x: softmax(x, 0)),
    (nn.Softmin(dim=1), lambda x: softmax(-x, 1)),
    (nn.LogSoftmax(dim=-1), lambda x: np.log(softmax(x, -1))),
    (nn.Softmax2d(), lambda x: softmax(x, -3)),
]


@pytest.mark.parametrize("layer, want", ACTIVATIONS, ids=[repr(a[0]) for a in ACTIVATIONS])
def test_activation(layer, want):
    x = arr(2, 3, 4) * 4
    layer = copy.deepcopy(layer).to(torch.get_default_device())
    close(layer(torch.tensor(x)), want(x.astype(np.float64)))


def test_inplace_writes_to_the_input():
    x = torch.tensor([-1.0, 2.0])
    assert nn.ReLU(inplace=True)(x) is x and x.tolist() == [0, 2]
    leaf = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        nn.ReLU(inplace=True)(leaf)


# Dropout -----------------------------------------------------------------------------------------


def test_dropout():
    torch.manual_seed(1)
    x = torch.ones(10000, requires_grad=True)
    layer = nn.Dropout(0.2)
    y = layer(x)
    assert set(y.tolist()) == {0.0, 1.25} and abs(y.mean().item() - 1) < 0.02
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())       # the same mask
    assert layer.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x and nn.Dropout(1.0)(x).sum().item() == 0


def test_dropout_inplace():
    x = torch.ones(100)
    assert nn.Dropout(0.5, inplace=True)(x) is x and set(x.tolist()) == {0, 2}


@pytest.mark.parametrize("layer, shape", [
    (nn.Dropout1d(), (8, 9, 3)), (nn.Dropout2d(), (8, 9, 2, 3)), (nn.Dropout3d(), (8, 9, 2, 2, 3)),
    (nn.Dropout1d(), (50, 3)), (nn.Dropout3d(), (50, 2, 2, 3)),
    (nn.FeatureAlphaDropout(), (8, 9, 3))])
def test_channel_dropout(layer, shape):
    channels = shape[:2] if len(shape) != {nn.Dropout1d: 2, nn.Dropout3d: 4}.get(type(layer)) else \
        shape[:1]
    y = layer(torch.ones(shape)).cpu().numpy().reshape(*channels, -1)
    assert (y == y[..., :1]).all() and len(np.unique(y)) == 2


def test_alpha_dropout_keeps_mean_and_variance():
    torch.manual_seed(0)
    y = nn.AlphaDropout(0.3)(torch.randn(200000))
    assert abs(y.mean().item()) < 0.02 and abs(y.std().item() - 1) < 0.02


@pytest.mark.parametrize("cls", [nn.Dropout, nn.Dropout2d, nn.AlphaDropout])
def test_dropout_probability(cls):
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got "
                                         "2"):
        cls(2)


# Normalisation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cls, shape", [(nn.BatchNorm1d, (6, 3)), (nn.BatchNorm1d, (6, 3, 4)),
                                        (nn.BatchNorm2d, (6, 3, 4, 2))])
def test_batch_norm(cls, shape):
    layer, x = cls(3), arr(*shape) * 3 + 1
    dims = tuple(d for d in range(len(shape)) if d != 1)
    mean, var = x.mean(dims, keepdims=True), x.var(dims, keepdims=True)
    close(layer(torch.tensor(x)), (x - mean) / np.sqrt(var + 1e-5), 1e-4)
    n = x.size // 3
    close(layer.running_mean, 0.1 * mean.ravel())
    close(layer.running_var, 0.9 + 0.1 * var.ravel() * n / (n - 1), 1e-4)
    assert layer.num_batches_tracked.item() == 1
    layer.eval()
    with torch.no_grad():
        layer.weight.fill_(2)
        layer.bias.fill_(1)
    line = (1, 3) + (1,) * (len(shape) - 2)
    m, v = (t.cpu().numpy().reshape(line) for t in (layer.running_mean, layer.running_var))
    close(layer(torch.tensor(x)), (x - m) / np.sqrt(v + 1e-5) * 2 + 1, 1e-4)
    assert layer.num_batches_tracked.item() == 1


def test_batch_norm_momentum_none_averages_all_batches():
    layer, batches = nn.BatchNorm1d(2, momentum=None), [arr(5, 2, seed=i) for i in range(3)]
    for x in batches:
        layer(torch.tensor(x))
    close(layer.running_mean, np.mean([x.mean(0) for x in batches], 0))
    close(layer.running_var, np.mean([x.var(0, ddof=1) for x in batches], 0))


def test_batch_norm_options():
    layer = nn.BatchNorm2d(3, affine=False, track_running_stats=False)
    assert not list(layer.parameters()) and not layer.state_dict()
    x = torch.tensor(arr(2, 3, 4, 4))
    assert torch.equal(layer(x), layer.eval()(x))         # always by the batch
    assert nn.BatchNorm1d(3, bias=False).bias is None
    layer = nn.BatchNorm1d(3)
    layer(torch.tensor(arr(4, 3)))
    layer.reset_running_stats()
    assert layer.running_mean.tolist() == [0] * 3 and layer.num_batches_tracked.item() == 0
    layer.train().requires_grad_(False)
    assert layer(torch.tensor(arr(4, 3))).grad_fn is None


@pytest.mark.parametrize("cls, shape, text", [
    (nn.BatchNorm1d, (2, 3, 4, 5), "expected 2D or 3D input (got 4D input)"),
    (nn.BatchNorm2d, (2, 3), "expected 4D input (got 2D input)"),
    (nn.BatchNorm1d, (1, 3), "Expected more than 1 value per channel when training, got input size "
                             "torch.Size([1, 3])"),
])
def test_batch_norm_errors(cls, shape, text):
    with pytest.raises(ValueError) as caught:
        cls(3)(torch.ones(shape))
    assert str(caught.value) == text


def test_layer_norm():
    x = arr(2, 3, 4)
    layer = nn.LayerNorm((3, 4))
    mean, var = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    close(layer(torch.tensor(x)), (x - mean) / np.sqrt(var + 1e-5))
    assert layer.weight.shape == (3, 4) and nn.LayerNorm(4, elementwise_affine=False).weight is None


# Embedding ---------------------------------------------------------------------------------------


def test_embedding():
    layer = nn.Embedding(5, 2, padding_idx=1)
    assert layer.weight[1].tolist() == [0, 0]
    index = torch.tensor([[1, 2], [2, 4]])
    y = layer(index)
    assert torch.equal(y[1, 0], layer.weight[2]) and y.shape == (2, 2, 2)
    y.sum().backward()
    assert layer.weight.grad.tolist() == [[0, 0], [0, 0], [2, 2], [0, 0], [1, 1]]
    frozen = nn.Embedding.from_pretrained(torch.ones(3, 2))
    assert not frozen.weight.requires_grad and frozen(torch.tensor(0)).tolist() == [1, 1]
    with pytest.raises(NotImplementedError, match="sparse"):
        nn.Embedding(5, 2, sparse=True)(index)


# Padding -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer, mode", [
    (nn.ReflectionPad2d, "reflect"), (nn.ReplicationPad2d, "edge"), (nn.CircularPad2d, "wrap"),
    (nn.ZeroPad2d, "constant")])
def test_padding(layer, mode):
    x = arr(2, 3, 5, 6)
    want = np.pad(x, ((0, 0), (0, 0), (3, 0), (1, 2)), mode)
    close(layer((1, 2, 3, 0))(torch.tensor(x)), want, 0)


def test_constant_padding():
    x = torch.ones(1, 1, 2)
    assert nn.ConstantPad1d((1, 2), 5.0)(x).tolist() == [[[5, 1, 1, 5, 5]]]
    assert nn.ConstantPad1d(-1, 5.0)(x).shape == (1, 1, 0)


# Losses ------------------------------------------------------------------------------------------


def test_regression_losses():
    x, y = torch.tensor([0.0, 1.0, 5.0]), torch.tensor([0.0, 0.5, 2.0])
    assert nn.MSELoss()(x, y).item() == pytest.approx(9.25 / 3)
    assert nn.MSELoss(reduction="sum")(x, y).item() == 9.25
    assert nn.MSELoss(reduction="none")(x, y).tolist() == [0, 0.25, 9]
    assert nn.L1Loss()(x, y).item() == pytest.approx(3.5 / 3)
    assert nn.SmoothL1Loss(reduction="none")(x, y).tolist() == [0, 0.125, 2.5]
    assert nn.SmoothL1Loss(reduction="none", beta=0.25)(x, y).tolist() == [0, 0.375, 2.875]
    assert nn.HuberLoss(reduction="none", delta=2.0)(x, y).tolist() == [0, 0.125, 4]


def test_classification_losses():
    x, t = arr(4, 3), np.array([0, 2, 1, 2])
    log_p = np.log(softmax(x, 1))
    each = -log_p[np.arange(4), t]
    scores, target = torch.tensor(x), torch.tensor(t)
    close(nn.CrossEntropyLoss()(scores, target), each.mean())
    close(nn.CrossEntropyLoss(reduction="none")(scores, target), each)
    close(nn.CrossEntropyLoss(ignore_index=2)(scores, target), each[[0, 2]].mean())
    w = np.array([1, 2, 3], np.float32)
    close(nn.CrossEntropyLoss(torch.tensor(w))(scores, target), (each * w[t]).sum() / w[t].sum())
    smooth = 0.9 * each - 0.1 * log_p.mean(1)
    close(nn.CrossEntropyLoss(label_smoothing=0.1)(scores, target), smooth.mean())
    p = softmax(arr(4, 3, seed=1), 1)
    close(nn.CrossEntropyLoss()(scores, torch.tensor(p)), -(p * log_p).sum(1).mean())
    close(nn.NLLLoss()(torch.tensor(log_p), target), each.mean())
    assert math.isnan(nn.CrossEntropyLoss(ignore_index=0)(scores, torch.zeros(4).long()).item())


def test_binary_losses():
    p, t = np.array([0.2, 0.9, 0.5]), np.array([0.0, 1.0, 0.5])
    want = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    p, t = torch.tensor(p), torch.tensor(t)
    close(nn.BCELoss(reduction="none")(p, t), want)
    close(nn.BCEWithLogitsLoss()((p / (1 - p)).log(), t), want.mean())
    weighted = nn.BCELoss(weight=torch.tensor([1.0, 2.0, 3.0]).double(), reduction="sum")
    close(weighted(p, t), (want * [1, 2, 3]).sum())
    huge = nn.BCEWithLogitsLoss(reduction="none")(torch.tensor([1000.0, -1000.0]), torch.zeros(2))
    assert huge.tolist() == [1000, 0]
    assert nn.BCELoss()(torch.tensor([0.0]), torch.tensor([1.0])).item() == 100
    if p.is_cpu:                # a GPU doesn't look: the host would have to wait for it
        with pytest.raises(RuntimeError, match="all elements of input should be between 0 and 1"):
            nn.BCELoss()(p * 3, t)


def test_kl_div():
    q, p = softmax(arr(4, 3), 1), softmax(arr(4, 3, seed=1), 1)
    want = (p * np.log(p / q)).sum()
    log_q, target = torch.tensor(q).log(), torch.tensor(p)
    close(nn.KLDivLoss(reduction="batchmean")(log_q, target), want / 4)
    close(nn.KLDivLoss(reduction="sum", log_target=True)(log_q, target.log()), want)
    assert nn.KLDivLoss(reduction="sum")(log_q, torch.zeros(4, 3)).item() == 0


# Training ----------------------------------------------------------------------------------------


def test_a_network_learns():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
                        nn.Flatten(), nn.Dropout(0.1), nn.Linear(36, 2))
    x = torch.randn(32, 1, 8, 8)
    target = (x.mean((1, 2, 3)) > 0).long()
    losses = []
    for _ in range(40):
        net.zero_grad()
        loss = nn.CrossEntropyLoss()(net(x), target)
        loss.backward()
        with torch.no_grad():
            for p in net.parameters():
                p.sub_(0.1 * p.grad)
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3
