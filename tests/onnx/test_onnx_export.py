"""torch.onnx.export: files read back and run by a reader of their own, layer by layer."""
from __future__ import annotations

import io
import struct
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import nn
from gpugrad.onnx import protobuf

sys.path.insert(0, str(Path(__file__).parent))
from onnx_reader import Model, fields, tensor


def grown(x, axes):
    """The tensor with two more elements along each axis."""
    a = x.numpy()
    for axis in axes:
        a = np.concatenate([a, np.take(a, [0, 0], axis)], axis)
    return torch.tensor(a)


def flat(out):
    if isinstance(out, (tuple, list)):
        return [t for o in out for t in flat(o)]
    return [out]


def exported(model, args, dynamic=None, **kw):
    names = [f"x{i}" for i in range(len(args))]
    axes = None if dynamic is None else dict(zip(names, dynamic))
    program = torch.onnx.export(model, args, None, input_names=names, dynamic_axes=axes, **kw)
    return Model(program.data)


def check(model, *args, dynamic=None, tol=2e-5, **kw):
    """The exported graph gives what the model gives: of args, and of larger dynamic axes."""
    if isinstance(model, nn.Module):
        model.eval()
    m = exported(model, args, dynamic, **kw)
    cases = [args]
    if dynamic:
        cases.append(tuple([grown(x, axes) for x, axes in zip(args, dynamic)]))
    for case in cases:
        with torch.no_grad():
            expected = flat(model(*case))
        for e, a in zip(expected, m(*[t.numpy() for t in case]), strict=True):
            assert tuple(e.shape) == a.shape
            np.testing.assert_allclose(a, e.numpy(), rtol=tol, atol=tol)
    return m


N = ({0: "n"},)
NT = ({0: "n", 1: "t"},)
r = torch.randn


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("layer", [
    nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(0.2), nn.PReLU(), nn.PReLU(4), nn.ELU(),
    nn.SELU(), nn.CELU(1.5), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Softplus(),
    nn.Softplus(2.0), nn.Tanh(), nn.Sigmoid(), nn.LogSigmoid(), nn.Hardtanh(), nn.Hardswish(),
    nn.Hardsigmoid(), nn.Hardshrink(), nn.Softshrink(), nn.Softsign(), nn.Tanhshrink(),
    nn.Threshold(0.1, 2.0), nn.GLU(1), nn.RReLU(), nn.Softmin(1), nn.LogSoftmax(1), nn.Softmax2d(),
    nn.Dropout(), nn.AlphaDropout(), nn.Identity()], ids=lambda m: str(m)[:30])
def test_activations(layer):
    check(layer, r(2, 4, 3, 5), dynamic=N)


@pytest.mark.parametrize(("layer", "shape", "axes"), [
    (nn.Linear(3, 4), (2, 3), N), (nn.Linear(3, 4, bias=False), (2, 3), N),
    (nn.Linear(3, 4), (2, 5, 3), NT), (nn.Linear(3, 4), (3,), None),
    (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 9), N),
    (nn.Conv2d(3, 6, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2)), (2, 3, 8, 9),
     ({0: "n", 2: "h", 3: "w"},)),
    (nn.Conv2d(3, 6, 3, padding="same"), (2, 3, 8, 9), N),
    (nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"), (2, 3, 8, 9), N),
    (nn.Conv2d(3, 6, 3, padding=1, padding_mode="circular"), (2, 3, 8, 9), N),
    (nn.Conv2d(3, 6, 3), (3, 8, 9), None), (nn.Conv2d(4, 4, 3, groups=4), (2, 4, 6, 6), N),
    (nn.Conv3d(2, 3, 2), (2, 2, 4, 4, 4), N),
    (nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1), (2, 4, 5), N),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (2, 4, 5, 4), ({0: "n", 2: "h"},)),
    (nn.ConvTranspose3d(2, 2, 2), (1, 2, 3, 3, 3), N),
], ids=lambda v: str(v)[:30])
def test_products(layer, shape, axes):
    check(layer, r(*shape), dynamic=axes, tol=1e-4)


def with_statistics(layer):
    layer.running_mean.uniform_(-1, 1)
    layer.running_var.uniform_(0.5, 2)
    return layer


@pytest.mark.parametrize(("layer", "shape"), [
    (with_statistics(nn.BatchNorm1d(3)), (4, 3)), (with_statistics(nn.BatchNorm1d(3)), (4, 3, 5)),
    (with_statistics(nn.BatchNorm2d(3, affine=False)), (2, 3, 4, 4)),
    (nn.BatchNorm2d(3, track_running_stats=False), (2, 3, 4, 4)),
    (with_statistics(nn.BatchNorm3d(3)), (2, 3, 2, 2, 2)), (nn.InstanceNorm2d(3), (2, 3, 4, 4)),
    (nn.InstanceNorm1d(3, affine=True), (2, 3, 4)), (nn.LayerNorm(4), (2, 3, 4)),
    (nn.LayerNorm((3, 4), elementwise_affine=False), (2, 3, 4)),
    (nn.LayerNorm(4, bias=False), (2, 4)), (nn.GroupNorm(2, 4), (2, 4, 3, 3)),
    (nn.GroupNorm(2, 4, affine=False), (2, 4, 3)), (nn.RMSNorm(4), (2, 4)),
    (nn.LocalResponseNorm(2), (2, 4, 3, 3))], ids=lambda v: str(v)[:30])
@pytest.mark.parametrize("opset", [17, 18])
def test_norms(layer, shape, opset):
    check(layer, r(*shape), dynamic=N, opset_version=opset, tol=1e-4)


@pytest.mark.parametrize(("layer", "shape"), [
    (nn.MaxPool1d(2), (2, 3, 8)), (nn.MaxPool2d(3, 2, 1), (2, 3, 8, 8)),
    (nn.MaxPool2d(2, ceil_mode=True), (2, 3, 7, 7)), (nn.MaxPool3d(2), (2, 3, 4, 4, 4)),
    (nn.MaxPool2d(2, dilation=2), (2, 3, 7, 7)), (nn.AvgPool1d(2), (2, 3, 8)),
    (nn.AvgPool2d(3, 2, 1), (2, 3, 8, 8)),
    (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 3, 8, 8)),
    (nn.AvgPool2d(2, divisor_override=3), (2, 3, 8, 8)), (nn.AvgPool3d(2), (2, 3, 4, 4, 4)),
    (nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False), (2, 3, 8, 8)),
    (nn.AdaptiveAvgPool2d(1), (2, 3, 5, 6)), (nn.AdaptiveAvgPool1d(1), (2, 3, 5)),
    (nn.AdaptiveAvgPool2d((2, 3)), (2, 3, 4, 6)), (nn.AdaptiveMaxPool2d(1), (2, 3, 5, 6)),
    (nn.AdaptiveAvgPool3d(1), (2, 3, 5, 6, 2)), (nn.LPPool2d(2, 2), (2, 3, 4, 4))],
    ids=lambda v: str(v)[:30])
def test_pooling(layer, shape):
    check(layer, r(*shape), dynamic=N)


@pytest.mark.parametrize("layer", [
    nn.Upsample(scale_factor=2), nn.Upsample(size=(7, 5)),
    nn.Upsample(scale_factor=2, mode="bilinear"), nn.Upsample(size=(5, 6), mode="bilinear"),
    nn.Upsample(scale_factor=1.5, mode="bilinear", align_corners=True),
    nn.Upsample(scale_factor=2, mode="bicubic"),
    nn.Upsample(scale_factor=1.7, mode="nearest-exact"),
    nn.PixelShuffle(2), nn.PixelUnshuffle(2), nn.ZeroPad2d(1),
    nn.ConstantPad2d((1, 2, -1, 0), 3.0), nn.ReflectionPad2d(1), nn.ReplicationPad2d((1, 2, 0, 1)),
    nn.CircularPad2d(1), nn.Flatten(), nn.Unflatten(1, (2, 2)), nn.ChannelShuffle(2)],
    ids=lambda v: str(v)[:40])
def test_images(layer):
    check(layer, r(2, 4, 4, 4), dynamic=N, tol=1e-4)


def test_an_image_of_any_size():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(True),
                          nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear"),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    m = check(model, r(2, 3, 8, 6), dynamic=({0: "batch", 2: "height", 3: "width"},), tol=1e-4)
    assert m.inputs[0].shape == ["batch", 3, "height", "width"]
    assert m.outputs[0].shape == ["batch", 5]
    assert {"0.weight", "0.bias", "1.running_mean", "7.weight", "7.bias"} <= m.constants.keys()
    assert m.kinds() >= {"Conv", "BatchNormalization", "Relu", "MaxPool", "Resize", "Gemm"}


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrence(kind):
    check(kind(3, 5, num_layers=2, bidirectional=True), r(4, 2, 3), dynamic=({1: "n"},))
    check(kind(3, 5, batch_first=True), r(2, 4, 3), dynamic=NT)
    check(kind(3, 5, bias=False), r(4, 3))
    state = r(1, 2, 5)
    layer = kind(3, 5)
    check((lambda x, h: layer(x, (h, h))) if kind is nn.LSTM else layer, r(4, 2, 3), state,
          dynamic=({0: "t", 1: "n"}, {1: "n"}))


@pytest.mark.parametrize("layer", [nn.RNN(3, 5, nonlinearity="relu"), nn.LSTM(3, 5, proj_size=2)],
                         ids=str)
def test_recurrence_of_other_forms(layer):
    check(layer, r(4, 2, 3))


@pytest.mark.parametrize("cell", [nn.LSTMCell(3, 5), nn.GRUCell(3, 5), nn.RNNCell(3, 5)], ids=str)
def test_cells(cell):
    check(cell, r(2, 3), dynamic=N)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_attention():
    x = r(2, 5, 8)
    check(nn.MultiheadAttention(8, 2, batch_first=True), x, x, x, dynamic=NT * 3)
    check(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), x, dynamic=NT)
    check(nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, norm_first=True,
                                                           activation="gelu"), 2), x,
          dynamic=({1: "n"},))
    check(nn.TransformerDecoderLayer(8, 2, 16), r(5, 2, 8), r(4, 2, 8),
          dynamic=({0: "t", 1: "n"}, {0: "s", 1: "n"}))
    attention = F.scaled_dot_product_attention
    q, k = r(2, 2, 5, 4), r(2, 2, 7, 4)
    check(lambda q: attention(q, q, q, is_causal=True), q, dynamic=({0: "n", 2: "t"},))
    check(lambda q: attention(q, q, q, is_causal=True), q)
    check(lambda q, k, m: attention(q, k, k, m), q, k, r(5, 7), dynamic=N * 2 + ({},))
    seen = torch.rand(2, 1, 5, 7) > 0.3
    seen[0, 0, 0] = False                        # a query that sees nothing
    check(lambda q, k, m: attention(q, k, k, m > 0), q, k, seen.float(), dynamic=({0: "n"},) * 3)


def test_embeddings():
    ids = torch.tensor([[1, 2], [3, 4]])
    check(nn.Embedding(10, 4), ids, dynamic=NT)

    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.places = nn.Embedding(10, 4), nn.Embedding(9, 4)

        def forward(self, ids):
            return self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
    check(Text(), ids, dynamic=NT)


class Language(nn.Module):
    """A small language model, with a mask and places for 16 tokens at most."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(11, 8), nn.Parameter(torch.randn(1, 16, 8))
        self.qkv, self.out, self.norm = nn.Linear(8, 24), nn.Linear(8, 8), nn.LayerNorm(8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.tokens.weight
        self.register_buffer("mask", torch.tril(torch.ones(16, 16)).view(1, 1, 16, 16))

    def forward(self, ids):
        b, t = ids.shape
        x = self.tokens(ids) + self.places[:, :t]
        q, k, v = [y.view(b, t, 2, 4).transpose(1, 2) for y in self.qkv(self.norm(x)).split(8, 2)]
        scores = (q @ k.transpose(-2, -1)) * 0.5
        scores = scores.masked_fill(self.mask[:, :, :t, :t] == 0, float("-inf")).softmax(-1)
        x = x + self.out((scores @ v).transpose(1, 2).contiguous().view(b, t, 8))
        return self.head(x), x[:, -1, :], x.argmax(-1)


@pytest.mark.parametrize("length", [5, 14])
def test_a_language_model(length):
    m = check(Language(), torch.randint(0, 11, (2, length)), dynamic=NT, tol=1e-4)
    assert m.inputs[0].shape == ["n", "t"] and m.outputs[0].shape == ["n", "t", 11]


def test_a_residual_network():
    class Block(nn.Module):
        def __init__(self, i, o, stride):
            super().__init__()
            self.a = nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o),
                                   nn.ReLU(True), nn.Conv2d(o, o, 3, 1, 1), nn.BatchNorm2d(o))
            self.b = nn.Conv2d(i, o, 1, stride)

        def forward(self, x):
            y = self.a(x)
            y += self.b(x)
            return F.relu(y, inplace=True)
    check(nn.Sequential(Block(3, 4, 1), Block(4, 6, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(1),
                        nn.Linear(6, 3)), r(2, 3, 8, 8), dynamic=({0: "n", 2: "h", 3: "w"},),
          tol=1e-4)


FUNCTIONS = {
    "arithmetic": lambda x: (x + 1) * 2 - x / 3 + x ** 2 - 2 / (x.abs() + 1) + 3 ** x - (1 - x),
    "conditions": lambda x: torch.where((x > 0) & (x < 1) | (x == 2) ^ ~(x != x), x, -x),
    "filled": lambda x: x.masked_fill(x > 0, -1.0) + torch.zeros_like(x) + torch.full_like(x, 2),
    "promotion": lambda x: (x > 0).sum(1) + x.sum(1) + torch.arange(3)[0],
    "integers": lambda x: (x * 4).long() // 3 + (x * 4).int() % 3 + ((x > 0).int() & 3),
    "shapes": lambda x: x.reshape(x.shape[0], -1).unsqueeze(1).expand(-1, 3, -1).permute(2, 0, 1),
    "merged": lambda x: x.unsqueeze(1).repeat(2, 3, 1).flatten(0, 1).transpose(0, 1),
    "slices": lambda x: torch.cat([x[:, :2], x[:, 2:], x[:, -1:], x[:, ::2], x[:, 1:-1]], 1),
    "rows": lambda x: x[-1] + x[0] + x[1:-1].sum(0) + x[:, 0].sum(),
    "parts": lambda x: sum(x.chunk(2, 1)).sum() + torch.stack(x.unbind(1)[:2], 1),
    "split": lambda x: torch.cat(x.split([1, 3], 1)[::-1], 1).squeeze(0),
    "gather": lambda x: x.gather(1, (x > 0).long()) + x[:, torch.tensor([0, 2, 1, 1])],
    "scatter": lambda x: x.scatter(1, (x > 0).long(), x * 2) + x.scatter_add(
        1, (x > 9).long(), x),
    "places": lambda x: x[torch.tensor([0, 1]), torch.tensor([2, 1])],
    "reductions": lambda x: (x.mean(1) + x.var(1) + x.std(1, unbiased=False) + x.amax(1)
                             + x.max(1)[0] + x.logsumexp(1) + x.prod(1) + x.norm(dim=1)
                             + x.argmax(1) + x.min() + x.sum() + x.norm(1, 1)
                             + x.norm(float("inf"), 1) + x.argmin() + torch.var_mean(x, 1)[1]),
    "logic": lambda x: (x > 0).all(1) | (x > 1).any(1) & torch.isfinite(x).all(1),
    "clamp": lambda x: x.clamp(-0.5, 0.5) + x.clamp(min=0) + x.clamp(max=torch.tensor(0.3)),
    "functions": lambda x: (x.sin() + x.cos() + x.atan() + x.tanh() + x.exp()
                            + torch.log(x.abs() + 1) + x.abs().sqrt() + torch.rsqrt(x.abs() + 1)
                            + x.erf() + x.floor() + x.round() + x.sign() + x.abs().log1p()
                            + x.expm1() + x.trunc() + x.frac() + x.erfc() + x.exp2()
                            + (x.abs() + 1).log2() + (x.abs() + 1).log10() + x.sigmoid()),
    "products": lambda x: x @ x.t() + torch.einsum("ij,kj->ik", x, x) + torch.mm(x, x.t()),
    "batched": lambda x: torch.baddbmm(x.unsqueeze(0), x.unsqueeze(0) * 2, torch.eye(
        4).unsqueeze(0), beta=0.5, alpha=2) + torch.addmm(x, x, torch.eye(4), alpha=0.5),
    "the number of rows": lambda x: x.sum(0) / x.shape[0],
    "order": lambda x: x.flip(1) + x.roll(1, 1) + torch.tril(x) + x.flip((0, 1)),
    "sorted": lambda x: x.topk(2, 1)[0].sum(1) + x.sort(1)[0][:, 0] + x.cumsum(1)[:, -1],
    "a mask of the size": lambda x: x.masked_fill(torch.ones(len(x), 4).triu(1).bool(), 0.0),
    "zeros of the size": lambda x: torch.cat([x, torch.zeros(x.shape[0], 2)], 1),
    "numbers of the size": lambda x: x + torch.arange(x.shape[0]).unsqueeze(1) * 2,
    "in place": lambda x: (x * 1).add_(1).relu_().mul_(x).clamp_(0, 2).sub_(1, alpha=2),
    "modulo": lambda x: x % 0.7 + x // 0.3 + torch.fmod(x, 0.5) + torch.div(
        x, 0.3, rounding_mode="trunc"),
    "normalized": lambda x: F.normalize(x) + F.layer_norm(x, (4,)) + F.cosine_similarity(
        x, x * x).unsqueeze(1),
    "others": lambda x: torch.lerp(x, x * 2, 0.3) + torch.addcmul(x, x, x, value=0.5) + \
        torch.addcdiv(x, x, x.abs() + 1),
    "dtypes": lambda x: x.half().float() + x.double().float() + x.int(),
    "one hot": lambda x: F.one_hot((x > 0).long(), 2),
    "the same twice": lambda x: (x, x + 1, x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore::gpugrad.jit.TracerWarning")      # one_hot checks its input
def test_functions(name):
    f = FUNCTIONS[name]
    check(f, r(3, 4), dynamic=N)


def by_item(x):
    return x * x.sum().item()


def by_branch(x):
    return x + 1 if x.sum() > 0 else x.exp()


def by_assignment(x):
    y = x.clone()
    y[:, 0] = 1.0
    return y


def by_view(x):
    y = x * 1
    row = y[0]
    y.add_(1)
    return row + y


@pytest.mark.parametrize(("f", "match"), [
    (by_item, "not the result of a traced operation"), (by_branch, "takes another path"),
    (lambda x: torch.tensor(x.numpy() * 2), "not the result of a traced operation"),
    (by_assignment, "written in place"), (by_view, "written in place"),
    (lambda x: x[x > 0], "index of booleans"), (lambda x: (x > 0).nonzero(), "index of booleans"),
    (lambda x: x.unique(), "no ONNX operator is known for"),
    (F.dropout, "no ONNX operator is known for native_dropout"),
    (lambda x: torch.fft.rfft(x), "fft_r2c"), (lambda x: x + torch.rand(4), "random numbers"),
    (lambda x: torch.complex(x, x).abs(), "complex"),
    (lambda x: F.adaptive_max_pool2d(x[None, None], 3), "must be fixed and a multiple"),
    (lambda x: F.embedding_bag(torch.tensor([[0, 1]]), x), "embedding_bag"),
    (lambda x: len(x), "must return tensors"),
], ids=range(15))
@pytest.mark.filterwarnings("ignore::gpugrad.jit.TracerWarning")
def test_what_can_not_be_exported(f, match):
    with pytest.raises(NotImplementedError, match=match):
        exported(f, (r(4, 4),), dynamic=N)


def test_a_number_taken_out_warns():
    with pytest.warns(torch.jit.TracerWarning, match="__bool__"):
        exported(lambda x: x + 1 if x.abs().sum() >= 0 else x, (r(2),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bool(torch.ones(1)) and torch.ones(1).item() == 1       # as before the export


def test_axes_that_stay_fixed():
    m = exported(lambda x: x.reshape(2, 12), (r(2, 3, 4),))
    assert m.inputs[0].shape == [2, 3, 4] and m.outputs[0].shape == [2, 12]
    with pytest.raises(NotImplementedError, match="other sizes of the dynamic axes"):
        exported(lambda x: x.reshape(2, 12), (r(2, 3, 4),), dynamic=N)
    with pytest.raises(ValueError, match="no axis 3"):
        exported(lambda x: x, (r(2, 3),), dynamic=({3: "n"},))


def test_dynamic_shapes():
    program = torch.onnx.export(lambda x, y: x + y, (r(2, 3), r(2, 3)), input_names=["a", "b"],
                                output_names=["sum"], dynamic_shapes=({0: "n"}, {0: "n", 1: None}))
    m = Model(program.data)
    assert [v.shape for v in m.inputs] == [["n", 3], ["n", 3]]
    assert m.outputs[0].name == "sum" and m.outputs[0].shape == ["n", 3]
    program = torch.onnx.export(lambda x: x * 2, r(2), dynamic_axes={"x": [0]})
    assert Model(program.data).outputs[0].shape == ["x_dim_0"]


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(3))

    def forward(self, pair, options, scale=1.0, *, extra=None):
        out = (pair[0] + pair[1]) * self.w * options["k"] * scale
        return {"out": out if extra is None else out + extra, "twice": [out * 2]}


def test_arguments_in_containers():
    model = Nested().train()
    args = ((r(2, 3), r(2, 3)), {"k": r(3)}, 2.0)
    program = torch.onnx.export(model, args, kwargs={"extra": r(3)}, output_names=["out"])
    m = Model(program.data)
    assert [v.name for v in m.inputs] == ["pair_0", "pair_1", "options_k", "extra"]
    assert [v.name for v in m.outputs] == ["out", "output_1"]
    assert model.training and m.constants["w"].tolist() == [1, 1, 1]
    got = m(*[t.numpy() for t in (*args[0], args[1]["k"], torch.ones(3))])
    np.testing.assert_allclose(got[0], model(*args, extra=torch.ones(3))["out"].detach().numpy(),
                               rtol=1e-6)


def test_training_mode():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.onnx.export(model, r(4, 2))
    assert model.training and model[1].training
    assert all((v == before[k]).all() for k, v in model.state_dict().items())
    m = Model(torch.onnx.export(model, r(4, 2), training=torch.onnx.TrainingMode.TRAINING).data)
    assert "BatchNormalization" not in m.kinds()


def test_files(tmp_path):
    model = nn.Linear(2, 3)
    program = torch.onnx.export(model, (r(1, 2),), tmp_path / "x.onnx", verbose=True,
                                do_constant_folding=True, dynamo=False)
    assert (tmp_path / "x.onnx").read_bytes() == program.data
    torch.onnx.export(model, (r(1, 2),), f := io.BytesIO())
    assert f.getvalue() == program.data and "Gemm" in repr(program)
    m = Model(program.data)
    assert (m.ir, m.opset, m.producer) == (8, 18, "gpugrad")
    assert Model(torch.onnx.export(model, (r(1, 2),), opset_version=21).data).ir == 10
    assert not torch.onnx.is_in_onnx_export()


@pytest.mark.parametrize(("kw", "error", "match"), [
    ({"opset_version": 9}, ValueError, "from 17 to 21"), ({"foo": 1}, TypeError, "'foo'"),
    ({"export_params": False}, NotImplementedError, "export_params"),
    ({"input_names": ["a", "b"]}, ValueError, "2 input_names for 1 inputs"),
    ({"output_names": ["a", "b"]}, ValueError, "2 output_names for 1 outputs"),
    ({"input_names": ["a"], "output_names": ["a"]}, ValueError, "each its own"),
])
def test_bad_arguments(kw, error, match):
    with pytest.raises(error, match=match):
        torch.onnx.export(nn.Linear(2, 3), (r(1, 2),), **kw)


@pytest.mark.gpu
def test_other_devices():
    with pytest.raises(NotImplementedError, match="must be on the CPU"):
        torch.onnx.export(nn.Linear(2, 3).cuda(), (r(1, 2).cuda(),))


def test_names_do_not_collide():
    model = nn.Linear(2, 3)
    m = check(model, r(1, 2))
    program = torch.onnx.export(model, r(1, 2), input_names=["weight"], output_names=["gemm_1"])
    assert {"weight_", "bias"} <= Model(program.data).constants.keys()
    assert "weight" in m.constants
    a = np.ones((1, 2), np.float32)
    np.testing.assert_allclose(Model(program.data)(a)[0], model(torch.tensor(a)).detach().numpy(),
                               rtol=1e-6)


def test_other_threads_are_not_heard():
    stop, done = threading.Event(), []

    def work():
        while not stop.is_set():
            done.append((torch.ones(3) * 2 + 1).sum().item())
    thread = threading.Thread(target=work)
    thread.start()
    try:
        m = exported(lambda x: (x * 2 + 1).relu(), (r(3),))
    finally:
        stop.set()
        thread.join()
    assert m.kinds() == {"Mul", "Add", "Relu", "Identity"} and set(done) == {9.0}


def test_after_an_error_nothing_listens():
    from gpugrad._state import listening
    from gpugrad.ops import load

    before = {name: s.impl[0] for name, s in load().items()}
    with pytest.raises(ZeroDivisionError):
        torch.onnx.export(lambda x: 1 / 0, r(2))
    assert listening == [None]
    assert all(s.impl[0] is before[name] for name, s in load().items())


def test_protobuf_by_hand():
    assert protobuf.varint(300) == b"\xac\x02" and protobuf.varint(-1) == b"\xff" * 9 + b"\x01"
    assert protobuf.message((1, 150), (2, "testing")) == b"\x08\x96\x01\x12\x07testing"
    assert protobuf.message((3, 1.5)) == b"\x1d" + struct.pack("<f", 1.5)
    assert protobuf.message((1, [1, 2]), (2, None)) == b"\x08\x01\x08\x02"
    assert fields(protobuf.message((1, -5), (16, b"ab"))) == {1: [-5], 16: [b"ab"]}
    for a in (np.array(2.5), np.arange(6).reshape(2, 3), np.array([True]), np.ones(2, np.float16),
              np.asfortranarray(np.eye(2, 3)), np.zeros((0, 2), np.int8)):
        back = tensor(protobuf.tensor("x", a))
        assert back.dtype == a.dtype and back.shape == a.shape and (back == a).all()
    with pytest.raises(NotImplementedError, match="complex64"):
        protobuf.data_type(np.complex64)


def test_by_onnxruntime(tmp_path):
    """The same graphs by the official tools, where they are installed."""
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(),
                          nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 3 * 3, 5), nn.LayerNorm(5))
    cases = [(model, r(2, 3, 6, 6), {0: "n"}), (nn.LSTM(3, 5, bidirectional=True), r(4, 2, 3),
                                                {1: "n"}),
             (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), r(2, 5, 8),
              {0: "n", 1: "t"})]
    cases += [(f, r(3, 4), {0: "n"}) for f in FUNCTIONS.values()]
    for module, x, axes in cases:
        if isinstance(module, nn.Module):
            module.eval()
        path = tmp_path / "x.onnx"
        torch.onnx.export(module, x, path, input_names=["x"], dynamic_axes={"x": axes})
        onnx.checker.check_model(str(path), full_check=True)
        session = runtime.InferenceSession(str(path))
        for case in (x, grown(x, axes)):
            with torch.no_grad():
                expected = flat(module(case))
            for e, a in zip(expected, session.run(None, {"x": case.numpy()}), strict=True):
                np.testing.assert_allclose(a, e.numpy(), rtol=1e-4, atol=1e-4)
