"""Exported models run by onnxruntime and checked by onnx: layer by layer, whole models, opsets."""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import nn

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "models")]
import test_onnx_export as by_own_reader  # noqa: E402
from model_files import program  # noqa: E402
from onnx_reader import Model  # noqa: E402
from test_onnx_export import check, flat, r  # noqa: E402

from module_table import LINES  # noqa: E402

# The same cases, which a Model of onnxruntime now runs.
for _name in ("activations", "products", "norms", "pooling", "images", "recurrence", "attention",
              "recurrence_of_other_forms", "cells", "an_image_of_any_size", "functions"):
    globals()[f"test_{_name}"] = getattr(by_own_reader, f"test_{_name}")


class RuntimeModel(Model):
    """A model as onnx and onnxruntime read it."""

    def __init__(self, data):
        super().__init__(data)
        self.proto = onnx.load_from_string(data)
        onnx.checker.check_model(self.proto, full_check=True)
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def __call__(self, *args):
        names = [v.name for v in self.session.get_inputs()]
        return self.session.run(None, {n: np.ascontiguousarray(a) for n, a in zip(names, args)})


@pytest.fixture(autouse=True)
def by_onnxruntime(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(by_own_reader, "Model", RuntimeModel)


# Modules that have no form in ONNX for these arguments; docs/onnx.md names them.
REFUSED = {
    "AvgPool2d((3, 2), (2, 3), padding=1, count_include_pad=False, ceil_mode=True)": "last window",
    "LPPool1d(1.5, 2, stride=3, ceil_mode=True)": "last window",
    "AdaptiveMaxPool1d(4)": "a multiple", "AdaptiveMaxPool1d(2, return_indices=True)": "a multiple",
    "AdaptiveMaxPool2d((3, None))": "a multiple",
    "Embedding(7, 3, max_norm=1.0, norm_type=1.0)": "index_put",
    "EmbeddingBag(7, 3)": "embedding_bag",
    'EmbeddingBag(7, 3, mode="sum", padding_idx=1)': "embedding_bag",
    'EmbeddingBag(7, 3, mode="max")': "embedding_bag_max",
    "AdaptiveLogSoftmaxWithLoss(8, 12, [3, 7], div_value=2.0)": "index of booleans",
    "MultiMarginLoss(p=2, margin=0.5)": "multi_margin_loss",
    "MultiLabelMarginLoss()": "multilabel_margin_loss",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("line", LINES, ids=lambda line: line.code)
def test_modules(line):
    inputs = [torch.tensor(a) for a in line.arrays()]
    module = line.make(torch)
    if line.code in REFUSED:
        with pytest.raises(NotImplementedError, match=REFUSED[line.code]):
            check(module, *inputs)
    else:
        check(module, *inputs, tol=1e-4)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(6, 4), (2, 4, 3), (2, 4, 3, 2)], ids=str)
def test_losses_of_classes(shape, smoothing, reduction):
    target = torch.randint(0, 4, (shape[0], *shape[2:]))
    target.view(-1)[1] = 2
    for weight in (None, torch.rand(4) + 0.5):
        loss = nn.CrossEntropyLoss(weight, ignore_index=2, reduction=reduction,
                                   label_smoothing=smoothing)
        check(loss, r(*shape), target, dynamic=({0: "n"},) * 2, tol=1e-4)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_of_pairs(reduction):
    x, y = r(5, 3), torch.rand(5, 3)
    for loss in (nn.BCEWithLogitsLoss(torch.rand(3), reduction=reduction,
                                      pos_weight=torch.rand(3) + 0.5),
                 nn.HuberLoss(reduction, 0.3), nn.SmoothL1Loss(reduction=reduction, beta=2.0),
                 nn.MSELoss(reduction=reduction), nn.SoftMarginLoss(reduction=reduction)):
        check(loss, x, y, dynamic=({0: "n"},) * 2, tol=1e-4)
    check(nn.BCELoss(torch.rand(3), reduction=reduction), torch.rand(5, 3), y, tol=1e-4)


def test_the_table_of_what_is_refused_is_of_today():
    assert REFUSED.keys() <= {line.code for line in LINES}


class Words(nn.Module):
    """A language model: embeddings, an LSTM, tied weights."""

    def __init__(self):
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(11, 8), nn.LSTM(8, 8, 2)
        self.head = nn.Linear(8, 11)
        self.head.weight = self.embedding.weight

    def forward(self, words, state):
        y, state = self.rnn(self.embedding(words), state)
        return self.head(y), state


class Gpt(nn.Module):
    """A decoder with positions and a causal mask."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(11, 16), nn.Embedding(32, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, 0.0, F.gelu, batch_first=True,
                                           norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 11)

    def forward(self, words):
        n = words.shape[1]
        x = self.words(words) + self.places(torch.arange(n))
        mask = torch.full((n, n), float("-inf")).triu(1)
        return self.head(self.layers(x, mask=mask)).log_softmax(-1)


def test_language_models():
    words = torch.randint(0, 11, (5, 2))
    state = r(2, 2, 8), r(2, 2, 8)
    model = Words().eval()
    program = torch.onnx.export(model, (words, state), None,
                                dynamic_axes={"words": {0: "time", 1: "batch"},
                                              "state_0": {1: "batch"}, "state_1": {1: "batch"}})
    m = RuntimeModel(program.data)
    for t, n in ((5, 2), (9, 4), (1, 1)):
        given = torch.randint(0, 11, (t, n)), r(2, n, 8), r(2, n, 8)
        with torch.no_grad():
            want = flat(model(given[0], given[1:]))
        for a, e in zip(m(*[t.numpy() for t in given]), want, strict=True):
            np.testing.assert_allclose(a, e.numpy(), rtol=1e-4, atol=1e-5)
    check(Gpt(), torch.randint(0, 11, (2, 7)), dynamic=({0: "batch", 1: "time"},), tol=1e-4)


CLASSIFIERS = [("resnet", "resnet_basic"), ("resnet", "resnet_bottleneck"), ("vgg", "vgg_bn"),
               ("densenet", "densenet"), ("mobilenet", "mobilenet_v3"), ("convnext", "convnext"),
               ("swin", "swin"), ("vit", "vit"), ("points", "point_net"), ("speech", "wavenet"),
               ("style", "fast_style"), ("seq2seq", "convolutional_translator")]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file,name", CLASSIFIERS, ids=[name for _, name in CLASSIFIERS])
def test_model_files(file, name):
    """Networks of tests/models after a step of training, for any size of the batch."""
    training = program("gpugrad", file, name)("cpu")
    seen = []
    hook = training.net.register_forward_pre_hook(lambda net, args: seen.append(args))
    training.step()
    hook.remove()
    args = [t.detach() for t in seen[0]]
    check(training.net, *args, dynamic=({0: "batch"},) * len(args), tol=1e-3)


@pytest.mark.parametrize("opset", range(17, 22))
def test_every_opset(opset):
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8),
                          nn.Hardswish(), nn.MaxPool2d(2), nn.Upsample(scale_factor=2),
                          nn.GroupNorm(2, 8), nn.GELU(), nn.AdaptiveAvgPool2d((2, 3)),
                          nn.Flatten(), nn.LayerNorm(48), nn.Linear(48, 5), nn.LogSoftmax(1))
    m = check(model, r(2, 3, 8, 6), dynamic=({0: "batch"},), tol=1e-4, opset_version=opset)
    assert m.proto.opset_import[0].version == opset
    assert m.proto.producer_name == "gpugrad"
    head = m.proto.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in head] == ["batch", 3, 8, 6]
    names = {t.name for t in m.proto.graph.initializer}
    assert {"0.weight", "1.running_var", "10.weight"} <= names


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_dtypes(dtype):
    d = getattr(torch, dtype)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(1)).to(d)
    m = check(model, r(2, 4).to(d), dynamic=({0: "n"},), tol=1e-2 if dtype == "float16" else 1e-9)
    assert m.session.get_outputs()[0].type == {"float64": "tensor(double)",
                                               "float16": "tensor(float16)"}[dtype]


def test_a_file_on_disk(tmp_path):
    model = nn.Linear(3, 2)
    torch.onnx.export(model, (r(4, 3),), tmp_path / "model.onnx", input_names=["x"],
                      output_names=["y"], dynamic_axes={"x": [0]})
    session = ort.InferenceSession(str(tmp_path / "model.onnx"))
    x = r(7, 3)
    [y] = session.run(["y"], {"x": x.numpy()})
    np.testing.assert_allclose(y, model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
