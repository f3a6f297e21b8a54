"""summary(model, input_size): shapes, parameters, multiply-adds and memory, against numbers by
hand."""
from __future__ import annotations

import pytest

import gpugrad as torch
from gpugrad import nn
from gpugrad.nn import functional as F
from gpugrad.utils.summary import summary


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


def row(found, name):
    return next(layer for layer in found.layers if layer.name == name)


def state_of(model):
    return {k: (v, v.clone(), v._version) for k, v in [*model.named_parameters(),
                                                       *model.named_buffers()]}


def test_lenet():
    found = torch.summary(LeNet(), (2, 1, 28, 28))
    assert found.total_params == found.trainable_params == 61_706
    # conv1: 6 x 28 x 28 results of 25 products; conv2: 16 x 10 x 10 of 150
    assert found.total_mult_adds == 2 * (117_600 + 240_000 + 48_000 + 10_080 + 840)
    conv2 = row(found, "conv2")
    assert (conv2.kind, conv2.depth, conv2.params, conv2.mult_adds) == ("Conv2d", 1, 2416, 480_000)
    assert str(conv2.output_shape) == "[2, 16, 10, 10]" and conv2.calls == 1
    assert [layer.name for layer in found.layers] == ["", "conv1", "conv2", "fc1", "fc2", "fc3"]
    assert found.total_param_bytes == found.gradient_bytes == 4 * 61_706
    assert (found.total_input_bytes, found.total_buffer_bytes) == (4 * 2 * 784, 0)
    # Each relu's result, each pooling's result and int64 places of its maxima, the model's output.
    kept = 2 * (4 * (4704 + 1600 + 120 + 84 + 10) + (4 + 8) * (1176 + 400))
    assert found.kept_bytes == found.root.kept_bytes == kept
    assert found.forward_bytes == 2 * 4 * (4704 + 4704)     # conv1's result and its relu's


def test_text():
    text = str(summary(LeNet(), (1, 1, 28, 28)))
    lines = text.splitlines()
    assert lines[0].split() == ["Layer", "Output", "shape", "Parameters", "Multiply-adds", "Memory"]
    assert len({len(line) for line in lines[:9]}) == 1
    assert lines[3].split() == ["conv1:", "Conv2d", "[1,", "6,", "28,", "28]", "156", "117,600",
                                "0", "B"]
    assert "Parameters: 61,706, of which 61,706 are trained and 0 are not" in text
    assert "Multiply-adds: 416,520" in text and repr(summary(LeNet(), (1, 1, 28, 28))) == text
    short = str(summary(LeNet(), (1, 1, 28, 28), depth=0))
    assert "conv1" not in short and "LeNet" in short and "416,520" in short


class Block(nn.Module):
    def __init__(self, c_in, c, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.conv2 = nn.Conv2d(c, c, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or c_in != c:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c, 1, stride, bias=False),
                                            nn.BatchNorm2d(c))

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def resnet18():
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(True),
              nn.MaxPool2d(3, 2, 1)]
    for c_in, c, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
        layers.append(nn.Sequential(Block(c_in, c, stride), Block(c, c, 1)))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def test_resnet18_and_that_the_model_stays_as_it_is():
    torch.manual_seed(0)
    model = resnet18()
    model[5].eval()
    for p in model[0].parameters():
        p.requires_grad_(False)
    before, modes = state_of(model), [m.training for m in model.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    random = torch.get_rng_state()
    found = summary(model, (1, 3, 224, 224))
    assert found.total_params == 11_689_512
    assert found.trainable_params == 11_689_512 - 64 * 3 * 49
    # Of the paper's 1.8 billion; by hand: stem, four stages, classifier.
    stem, stages = 112 * 112 * 64 * 147, 0
    for n, c_in, c in ((56, 64, 64), (28, 64, 128), (14, 128, 256), (7, 256, 512)):
        stages += n * n * c * (9 * c_in + 3 * 9 * c + (c_in if c_in != c else 0))
    assert found.total_mult_adds == stem + stages + 512_000 == 1_814_073_344
    assert str(row(found, "7").output_shape) == "[1, 512, 7, 7]"
    assert row(found, "downsample").mult_adds == 28 * 28 * 64 * 128
    assert row(found, "relu").calls == 2 and " x2 " in str(found)
    assert [m.training for m in model.modules()] == modes
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
    for name, t in [*model.named_parameters(), *model.named_buffers()]:
        same, value, version = before[name]
        assert t is same and t._version == version and t.device.type == "cpu"
        assert bool((t == value).all()), name
    assert bool((torch.get_rng_state() == random).all())


def test_transformer():
    n, length, d, h, hidden = 2, 7, 32, 4, 64
    layer = nn.TransformerEncoderLayer(d, h, hidden, batch_first=True)
    found = summary(nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), (n, length, d))
    attention = n * length * (4 * d * d + 2 * length * d)
    assert found.total_mult_adds == 3 * (attention + n * length * 2 * d * hidden)
    assert row(found, "self_attn").mult_adds == attention
    assert found.total_params == 3 * (4 * d * (d + 1) + 2 * d * hidden + hidden + d + 4 * d)


def test_recurrent_layers():
    steps, n, given, hidden = 5, 3, 10, 20
    for cls, gates in ((nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)):
        found = summary(cls(given, hidden, 2, bidirectional=True), (steps, n, given))
        want = steps * n * 2 * gates * hidden * (given + hidden + 2 * hidden + hidden)
        assert found.total_mult_adds == want
    assert str(summary(nn.LSTM(given, hidden), (steps, n, given)).root.output_shape) \
        == "([5, 3, 20], ([1, 3, 20], [1, 3, 20]))"


@pytest.mark.parametrize("model,size,want", [
    (nn.Conv1d(4, 6, 3, groups=2), (2, 4, 10), 2 * 8 * 6 * 2 * 3),
    (nn.Conv3d(2, 3, 2), (1, 2, 4, 4, 4), 27 * 3 * 2 * 8),
    (nn.ConvTranspose2d(3, 5, 4, 2), (1, 3, 6, 6), 36 * 3 * 5 * 16),
    (nn.Bilinear(3, 4, 5), [(7, 3), (7, 4)], None),
    (nn.Linear(3, 4, bias=False), (2, 5, 3), 2 * 5 * 3 * 4),
    (nn.LSTMCell(3, 4), (2, 3), 2 * 16 * 7),
    (nn.MultiheadAttention(8, 2), [(5, 2, 8)] * 3, 2 * 5 * (4 * 64 + 2 * 5 * 8)),
], ids=lambda v: type(v).__name__)
def test_layers(model, size, want):
    found = summary(model, size)
    assert found.total_mult_adds == want or want is None
    assert found.total_params == sum(p.numel() for p in model.parameters())


def test_what_functions_compute_counts():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 3))
            self.table = torch.randn(4, 4)           # no buffer
            self.parts = [torch.randn(4)]

        def forward(self, x, y, scale=1.0):
            x = torch.einsum("bi,oi->bo", x, self.w) @ self.table + self.parts[0]
            x = F.conv1d(x[:, None], self.w[:1, None]).flatten(1) * scale
            return torch.bmm(x[:, None], x[..., None]) + y.sum() + torch.zeros(1)

    found = summary(Functional(), [(5, 3), (2,)], dtypes=[torch.float32, torch.int64], scale=2.0)
    assert found.total_mult_adds == 5 * (12 + 16 + 2 * 3 + 2)
    assert found.total_input_bytes == 4 * 15 + 8 * 2


def test_inputs():
    embedding = nn.Embedding(10, 4)
    assert str(summary(embedding, (2, 3), dtypes=torch.int64).root.output_shape) == "[2, 3, 4]"
    words = torch.ones(2, 3, dtype=torch.int64)
    for data in (words, [words], (words,), {"input": words}):
        assert str(summary(embedding, input_data=data).root.output_shape) == "[2, 3, 4]"
    half = summary(nn.Linear(3, 4).double(), (2, 3))
    assert half.total_input_bytes == 48 and half.total_param_bytes == 128


def test_shared_modules_and_parameters():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = nn.Linear(6, 6), nn.Linear(6, 6)
            self.decoder.weight = self.encoder.weight
            self.again = self.encoder
            self.inner = nn.Sequential(self.encoder)

        def forward(self, x):
            return self.inner(self.decoder(self.again(self.encoder(x))))

    found = summary(Shared(), (2, 6))
    assert found.total_params == 36 + 12 and found.total_mult_adds == 4 * 2 * 36
    assert [(r.name, r.calls, r.shared) for r in found.layers] == [
        ("", 1, False), ("encoder", 2, False), ("decoder", 1, False), ("inner", 1, True),
        ("encoder", 1, True)]
    assert "(shared)" in str(found)


def test_modules_without_shapes_yet():
    model = nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d())
    found = summary(model, (3, 9))
    assert found.total_params == 50 + 10 and found.total_mult_adds == 3 * 45
    assert isinstance(model[0], nn.LazyLinear) and model[0].has_uninitialized_params()
    assert found.kept_bytes == 4 * (15 + 15 + 10)     # both results, the batch's mean and deviation


def test_large_models_need_no_memory():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(100_000, 100_000), nn.ReLU())
    found = summary(model, (1000, 100_000))
    assert found.total_params == 10**10 + 10**5 and found.total_mult_adds == 10**13
    assert "40.00 GB" in str(found)


def test_gradients_that_need_nothing_keep_nothing():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).requires_grad_(False)
    found = summary(model, (3, 4))
    assert found.gradient_bytes == 0 == found.trainable_params
    assert found.kept_bytes == 4 * 3 * 2              # its output alone


class Looks(nn.Module):
    def forward(self, x):
        return x * x.sum().item()


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Places(nn.Module):
    def forward(self, x):
        return x + torch.ones(3, device="cpu")


class Locked(nn.Module):
    def __init__(self):
        super().__init__()
        import threading
        self.lock = threading.Lock()


@pytest.mark.parametrize("call,error,text", [
    (lambda: summary(F.relu, (1, 3)), TypeError, "must be a Module, not function"),
    (lambda: summary(nn.ReLU()), ValueError, "give either input_size"),
    (lambda: summary(nn.ReLU(), (1,), torch.ones(1)), ValueError, "give either input_size"),
    (lambda: summary(nn.ReLU(), [(1, -3)]), ValueError, r"a shape with the batch.*\(1, -3\)"),
    (lambda: summary(nn.ReLU(), (1, 3), dtypes=[torch.half] * 2), ValueError,
     "2 dtypes for 1 inputs"),
    (lambda: summary(nn.ReLU(), input_data=torch.ones(1), dtypes=torch.half), ValueError,
     "goes with input_size"),
    (lambda: summary(nn.Linear(3, 2), (1, 4)), RuntimeError, "1x4 and 3x2"),
    (lambda: summary(Looks(), (3,)), NotImplementedError, "followed without data.*item"),
    (lambda: summary(Branches(), (3,)), NotImplementedError, "followed without data"),
    (lambda: summary(Places(), (3,)), NotImplementedError, "names a device itself.*meta and cpu"),
    (lambda: summary(Locked(), (3,)), TypeError, "Locked can't be copied.*lock"),
])
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()
    # the operations are heard no more
    x = torch.ones(2, 2, device="meta")
    assert (x @ x).shape == (2, 2)
    assert summary(nn.Linear(2, 3), (1, 2)).total_mult_adds == 6
