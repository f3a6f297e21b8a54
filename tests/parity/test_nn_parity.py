"""torch.nn against PyTorch: signatures, texts, parameters of a seed, outputs and gradients."""
from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest

import gpugrad
import gpugrad.nn.functional as F
from gpugrad import nn

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")


def arr(*shape, seed=0, low=-1.0, high=1.0):
    """Random float32 numbers."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def twice(data, grad=True):
    """The same array as a leaf of both libraries."""
    ours, theirs = gpugrad.tensor(data), torch.tensor(data)
    if grad and data.dtype.kind == "f":
        ours.requires_grad_()
        theirs.requires_grad_()
    return ours, theirs


def same(ours, theirs, what="", rtol=1e-5, atol=1e-6):
    a, b = ours.detach().numpy(), theirs.detach().numpy()
    assert a.shape == b.shape, what
    assert a.dtype == b.dtype, what
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=what)


def backward_both(ours, theirs):
    """Backward from both results with the same random gradient."""
    if not theirs.requires_grad:
        assert not ours.requires_grad
        return
    g = arr(*theirs.shape, seed=9) if theirs.ndim else np.float32(0.7) * np.ones((), np.float32)
    ours.backward(gpugrad.tensor(g))
    theirs.backward(torch.tensor(g))


# Modules: (class, arguments, keywords, shapes of the inputs)
MODULES = [
    ("Linear", (5, 3), {}, [(4, 5)]),
    ("Linear", (5, 3), {"bias": False}, [(2, 4, 5)]),
    ("Linear", (5, 3), {}, [(2, 3, 4, 5)]),
    ("Linear", (5, 3), {}, [(5,)]),
    ("Bilinear", (3, 4, 2), {}, [(5, 3), (5, 4)]),
    ("Bilinear", (3, 4, 2), {"bias": False}, [(2, 5, 3), (2, 5, 4)]),
    ("Identity", (1, 2), {"x": 3}, [(2, 3)]),
    ("Flatten", (), {}, [(2, 3, 4)]),
    ("Flatten", (0, 1), {}, [(2, 3, 4)]),
    ("Unflatten", (1, (2, 3)), {}, [(2, 6, 4)]),
    ("Conv2d", (3, 6, 3), {}, [(2, 3, 8, 7)]),
    ("Conv2d", (3, 6, 3), {}, [(3, 8, 7)]),
    ("Conv2d", (4, 6, (3, 2)), {"stride": (2, 1), "padding": (1, 2), "groups": 2, "bias": False},
     [(2, 4, 8, 7)]),
    ("Conv2d", (3, 4, 3), {"padding": "same", "dilation": 2}, [(2, 3, 8, 7)]),
    ("Conv2d", (3, 4, 4), {"padding": "same"}, [(2, 3, 8, 7)]),
    ("Conv2d", (3, 4, 4), {"padding": "valid", "stride": 2}, [(2, 3, 8, 7)]),
    ("Conv2d", (3, 4, 3), {"padding": (1, 2), "padding_mode": "reflect"}, [(2, 3, 8, 7)]),
    ("Conv2d", (3, 4, 3), {"padding": 2, "padding_mode": "replicate"}, [(2, 3, 8, 7)]),
    ("Conv2d", (3, 4, 3), {"padding": 1, "padding_mode": "circular"}, [(2, 3, 8, 7)]),
    ("Conv2d", (3, 4, 4), {"padding": "same", "padding_mode": "circular"}, [(2, 3, 8, 7)]),
    ("Conv1d", (3, 4, 3), {"stride": 2, "padding": 1}, [(2, 3, 9)]),
    ("Conv1d", (4, 4, 2), {"groups": 2, "padding": "same"}, [(2, 4, 9)]),
    ("Conv1d", (4, 4, 3), {"dilation": 2, "padding": 1, "padding_mode": "reflect"}, [(4, 9)]),
    ("MaxPool2d", (2,), {}, [(2, 3, 8, 7)]),
    ("MaxPool2d", ((3, 2),), {"stride": 1, "padding": 1, "dilation": (1, 2), "ceil_mode": True},
     [(2, 3, 8, 7)]),
    ("MaxPool2d", (3, 2), {"ceil_mode": True}, [(3, 8, 8)]),
    ("MaxPool1d", (3, 2), {"padding": 1}, [(2, 3, 9)]),
    ("MaxPool1d", (2,), {}, [(3, 9)]),
    ("AvgPool2d", (3, 2), {"padding": 1}, [(2, 3, 8, 7)]),
    ("AvgPool2d", ((3, 2), (2, 3)), {"padding": 1, "count_include_pad": False, "ceil_mode": True},
     [(2, 3, 8, 7)]),
    ("AvgPool2d", (2,), {"divisor_override": 3}, [(3, 8, 7)]),
    ("AvgPool1d", (3, 2), {"padding": 1, "ceil_mode": True}, [(2, 3, 9)]),
    ("AvgPool1d", (2,), {"count_include_pad": False}, [(3, 9)]),
    ("AdaptiveAvgPool2d", (1,), {}, [(2, 3, 8, 7)]),
    ("AdaptiveAvgPool2d", ((3, None),), {}, [(2, 3, 8, 7)]),
    ("AdaptiveAvgPool2d", ((5, 3),), {}, [(3, 8, 7)]),
    ("AdaptiveAvgPool1d", (4,), {}, [(2, 3, 9)]),
    ("ReLU", (), {}, [(3, 4)]),
    ("ReLU6", (), {}, [(3, 4)]),
    ("LeakyReLU", (), {}, [(3, 4)]),
    ("LeakyReLU", (0.3,), {}, [(3, 4)]),
    ("PReLU", (), {}, [(3, 4)]),
    ("PReLU", (4,), {"init": 0.1}, [(3, 4, 5)]),
    ("ELU", (), {}, [(3, 4)]),
    ("ELU", (0.7,), {}, [(3, 4)]),
    ("CELU", (0.7,), {}, [(3, 4)]),
    ("SELU", (), {}, [(3, 4)]),
    ("GELU", (), {}, [(3, 4)]),
    ("GELU", ("tanh",), {}, [(3, 4)]),
    ("SiLU", (), {}, [(3, 4)]),
    ("Mish", (), {}, [(3, 4)]),
    ("Hardsigmoid", (), {}, [(3, 4)]),
    ("Hardswish", (), {}, [(3, 4)]),
    ("Hardtanh", (), {}, [(3, 4)]),
    ("Hardtanh", (-0.2, 0.5), {}, [(3, 4)]),
    ("Hardshrink", (0.3,), {}, [(3, 4)]),
    ("Softshrink", (0.3,), {}, [(3, 4)]),
    ("Tanhshrink", (), {}, [(3, 4)]),
    ("Threshold", (0.1, 20.0), {}, [(3, 4)]),
    ("Sigmoid", (), {}, [(3, 4)]),
    ("Tanh", (), {}, [(3, 4)]),
    ("LogSigmoid", (), {}, [(3, 4)]),
    ("Softsign", (), {}, [(3, 4)]),
    ("Softplus", (), {}, [(3, 4)]),
    ("Softplus", (3.0, 1.0), {}, [(3, 4)]),
    ("GLU", (), {}, [(3, 4)]),
    ("GLU", (0,), {}, [(4, 3)]),
    ("Softmax", (1,), {}, [(3, 4)]),
    ("Softmax", (), {}, [(3, 4)]),
    ("Softmin", (-1,), {}, [(3, 4)]),
    ("LogSoftmax", (0,), {}, [(3, 4, 2)]),
    ("Softmax2d", (), {}, [(2, 3, 4, 5)]),
    ("Dropout", (), {}, [(4, 50)]),
    ("Dropout", (0.2,), {}, [(7,)]),
    ("Dropout", (1.0,), {}, [(7,)]),
    ("Dropout1d", (0.4,), {}, [(4, 5, 3)]),
    ("Dropout1d", (0.4,), {}, [(5, 3)]),
    ("Dropout2d", (0.4,), {}, [(4, 5, 3, 2)]),
    ("Dropout3d", (0.4,), {}, [(4, 5, 3, 2, 2)]),
    ("Dropout3d", (0.4,), {}, [(5, 3, 2, 2)]),
    ("AlphaDropout", (0.4,), {}, [(4, 5)]),
    ("FeatureAlphaDropout", (0.4,), {}, [(4, 5, 3)]),
    ("BatchNorm1d", (4,), {}, [(5, 4)]),
    ("BatchNorm1d", (4,), {"bias": False}, [(5, 4, 3)]),
    ("BatchNorm2d", (4,), {}, [(3, 4, 5, 2)]),
    ("BatchNorm2d", (4,), {"momentum": None, "eps": 1e-3}, [(3, 4, 5, 2)]),
    ("BatchNorm2d", (4,), {"affine": False}, [(3, 4, 5, 2)]),
    ("BatchNorm2d", (4,), {"track_running_stats": False}, [(3, 4, 5, 2)]),
    ("LayerNorm", (4,), {}, [(3, 4)]),
    ("LayerNorm", ((3, 4),), {"bias": False}, [(2, 3, 4)]),
    ("LayerNorm", ([4],), {"elementwise_affine": False, "eps": 1e-2}, [(3, 4)]),
    ("BatchNorm3d", (4,), {}, [(3, 4, 2, 2, 2)]),
    ("RMSNorm", (4,), {}, [(3, 4)]),
    ("RMSNorm", ((3, 4), 1e-2), {"elementwise_affine": False}, [(2, 3, 4)]),
    ("GroupNorm", (2, 4), {}, [(3, 4, 5)]),
    ("GroupNorm", (4, 4, 1e-2), {"bias": False}, [(3, 4, 2, 2)]),
    ("GroupNorm", (1, 4), {"affine": False}, [(3, 4)]),
    ("InstanceNorm1d", (4,), {}, [(3, 4, 5)]),
    ("InstanceNorm1d", (4,), {"affine": True, "track_running_stats": True}, [(3, 4, 5)]),
    ("InstanceNorm2d", (4,), {"affine": True, "bias": False, "eps": 1e-2}, [(4, 3, 2)]),
    ("InstanceNorm2d", (4,), {"track_running_stats": True, "momentum": None}, [(2, 4, 3, 2)]),
    ("InstanceNorm3d", (4,), {"affine": True}, [(2, 4, 3, 2, 2)]),
    *[(f"{mode}Pad{n}d", (pad,), {}, [(2, 3, *(5, 6, 4)[:n])])
      for mode in ("Zero", "Reflection", "Replication", "Circular")
      for n, pad in ((1, 2), (2, (1, 2, 0, 3)), (3, 1))],
    *[(f"ConstantPad{n}d", (1, 3.5), {}, [(2, 3, *(5, 6, 4)[:n])]) for n in (1, 2, 3)],
    ("ZeroPad2d", ((-1, 2, 1, -2),), {}, [(2, 3, 5, 6)]),
    ("ReflectionPad2d", ((-1, 2, 1, -2),), {}, [(2, 3, 5, 6)]),
]


@pytest.mark.parametrize("name, args, kw, shapes", MODULES,
                         ids=[f"{m[0]}-{i}" for i, m in enumerate(MODULES)])
def test_module(name, args, kw, shapes):
    gpugrad.manual_seed(3)
    torch.manual_seed(3)
    ours, theirs = getattr(nn, name)(*args, **kw), getattr(torch.nn, name)(*args, **kw)
    assert repr(ours) == repr(theirs)
    check_state(ours, theirs, exact=True)
    for mode in (True, True, False):
        ours.train(mode)
        theirs.train(mode)
        inputs = [twice(arr(*shape, seed=i, low=-4, high=4)) for i, shape in enumerate(shapes)]
        a, b = ours(*[x for x, _ in inputs]), theirs(*[x for _, x in inputs])
        same(a, b, "output")
        ours.zero_grad()
        theirs.zero_grad()
        backward_both(a, b)
        for x, y in inputs:
            if y.grad is not None:
                same(x.grad, y.grad, "gradient of the input")
        for (key, p), q in zip(ours.named_parameters(), theirs.parameters()):
            same(p.grad, q.grad, f"gradient of {key}", atol=2e-5)
    check_state(ours, theirs)


def check_state(ours, theirs, exact=False):
    a, b = ours.state_dict(), theirs.state_dict()
    assert list(a) == list(b)
    assert [dict(v) for v in a._metadata.values()] == [dict(v) for v in b._metadata.values()]
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in ours.named_buffers()] == [n for n, _ in theirs.named_buffers()]
    for key in a:
        if exact:
            np.testing.assert_array_equal(a[key].numpy(), b[key].numpy(), err_msg=key)
        else:
            same(a[key], b[key], key)


@pytest.mark.parametrize("name, kw", [("Embedding", {}), ("Embedding", {"padding_idx": -2})])
def test_embedding(name, kw):
    gpugrad.manual_seed(3)
    torch.manual_seed(3)
    ours, theirs = nn.Embedding(7, 3, **kw), torch.nn.Embedding(7, 3, **kw)
    assert repr(ours) == repr(theirs)
    check_state(ours, theirs)
    index = np.array([[1, 5, 2], [5, 0, 6]])
    a, b = ours(gpugrad.tensor(index)), theirs(torch.tensor(index))
    same(a, b)
    backward_both(a, b)
    same(ours.weight.grad, theirs.weight.grad)


def test_max_pool_indices():
    x = arr(2, 3, 7, 8)
    for kw in ({"kernel_size": 2}, {"kernel_size": 3, "stride": 1, "padding": 1}):
        got = nn.MaxPool2d(return_indices=True, **kw)(gpugrad.tensor(x))
        want = torch.nn.MaxPool2d(return_indices=True, **kw)(torch.tensor(x))
        same(got[0], want[0])
        np.testing.assert_array_equal(got[1].numpy(), want[1].numpy())
        assert str(got[1].dtype) == "torch.int64"
    got = F.max_pool1d(gpugrad.tensor(x[0]), 3, return_indices=True)
    want = torch.nn.functional.max_pool1d(torch.tensor(x[0]), 3, return_indices=True)
    np.testing.assert_array_equal(got[1].numpy(), want[1].numpy())


# The graphs that have to look as in PyTorch, down to the leaves.
GRAPHS = [
    ("Linear", (5, 3), {}, (4, 5)), ("Linear", (5, 3), {}, (2, 4, 5)),
    ("Linear", (5, 3), {"bias": False}, (4, 5)), ("Conv2d", (3, 4, 3), {}, (2, 3, 8, 7)),
    ("Conv2d", (3, 4, 3), {"bias": False, "stride": 2, "padding": 1}, (3, 8, 7)),
    ("MaxPool2d", (2,), {}, (2, 3, 8, 7)), ("AvgPool2d", (2,), {}, (2, 3, 8, 7)),
    ("AdaptiveAvgPool2d", (1,), {}, (2, 3, 8, 7)), ("AdaptiveAvgPool2d", (2,), {}, (2, 3, 8, 7)),
    *[(name, (), {}, (3, 4)) for name in (
        "ReLU", "ReLU6", "LeakyReLU", "ELU", "SELU", "GELU", "SiLU", "Hardtanh", "Sigmoid", "Tanh",
        "LogSigmoid", "Softplus", "Softsign", "Softmax", "LogSoftmax", "Softmin", "Flatten",
        "Tanhshrink")],
    ("BatchNorm1d", (4,), {}, (3, 4)), ("BatchNorm2d", (4,), {}, (3, 4, 2, 2)),
    ("GroupNorm", (2, 4), {}, (3, 4, 2)), ("InstanceNorm1d", (4,), {}, (3, 4, 2)),
    ("LayerNorm", (4,), {}, (3, 4)), ("Dropout2d", (), {}, (3, 4, 2, 2)),
]


def walk(node):
    """The names of a graph as nested tuples."""
    if node is None:
        return None
    return node.name().split("::")[-1], *[walk(n) for n, _ in node.next_functions]


@pytest.mark.parametrize("name, args, kw, shape", GRAPHS,
                         ids=[f"{m[0]}-{i}" for i, m in enumerate(GRAPHS)])
def test_graph(name, args, kw, shape):
    x, y = twice(arr(*shape))
    ours, theirs = getattr(nn, name)(*args, **kw)(x), getattr(torch.nn, name)(*args, **kw)(y)
    assert walk(ours.grad_fn) == walk(theirs.grad_fn)


@pytest.mark.parametrize("name, t", [("MSELoss", arr(6, 4)), ("L1Loss", arr(6, 4)),
                                     ("NLLLoss", np.arange(6) % 4),
                                     ("CrossEntropyLoss", np.arange(6) % 4)])
def test_graph_of_loss(name, t):
    (x, y), (s, u) = twice(arr(6, 4)), twice(t, grad=False)
    ours, theirs = getattr(nn, name)()(x, s), getattr(torch.nn, name)()(y, u)
    assert walk(ours.grad_fn) == walk(theirs.grad_fn)


INPLACE = ["ReLU", "ReLU6", "LeakyReLU", "ELU", "CELU", "SELU", "SiLU", "Mish", "Hardsigmoid",
           "Hardswish", "Hardtanh", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d"]


@pytest.mark.parametrize("name", INPLACE)
def test_inplace(name):
    gpugrad.manual_seed(3)
    torch.manual_seed(3)
    ours, theirs = getattr(nn, name)(inplace=True), getattr(torch.nn, name)(inplace=True)
    assert repr(ours) == repr(theirs)
    shape = (4, 5, *[2] * {"Dropout1d": 1, "Dropout2d": 2, "Dropout3d": 3}.get(name, 0))
    x, y = twice(arr(*shape, low=-4, high=4))
    a, b = x * 1, y * 1
    c, d = ours(a), theirs(b)
    assert c is a
    same(c, d)
    backward_both(c, d)
    same(x.grad, y.grad)


# Losses: (class, keywords, input, target, extra tensors by keyword)
def classes(*shape, n=4):
    return np.random.default_rng(5).integers(0, n, shape)


SCORES, PROBABILITIES = arr(6, 4, low=-3, high=3), arr(6, 4, seed=2, low=0.01, high=0.99)
IMAGE = arr(2, 4, 3, 5, low=-3, high=3)
TARGETS = classes(6)
WITH_IGNORED = np.where(np.arange(6) % 3 == 0, 2, TARGETS)
WEIGHT = arr(4, seed=3, low=0.2, high=2)

LOSSES = [
    *[(name, {"reduction": r, **kw}, SCORES, arr(6, 4, seed=1), {})
      for name, kw in (("MSELoss", {}), ("L1Loss", {}), ("SmoothL1Loss", {}),
                       ("SmoothL1Loss", {"beta": 0.3}), ("SmoothL1Loss", {"beta": 0.0}),
                       ("HuberLoss", {}), ("HuberLoss", {"delta": 0.6}))
      for r in ("mean", "sum", "none")],
    *[(name, {"reduction": r, **kw}, x, t, {"weight": w})
      for name in ("NLLLoss", "CrossEntropyLoss")
      for r in ("mean", "sum", "none")
      for kw in ({}, {"ignore_index": 2})
      for x, t in ((SCORES, TARGETS), (IMAGE, classes(2, 3, 5)), (IMAGE[0, :, 0], classes(5)[0:]),
                   (SCORES[0], TARGETS[0]))
      for w in (None, WEIGHT)
      if x.ndim != 2 or len(x) == len(np.atleast_1d(t))],
    *[("CrossEntropyLoss", {"reduction": r, "label_smoothing": s, **kw}, x, t, {"weight": w})
      for r in ("mean", "sum", "none")
      for s, kw in ((0.1, {}), (0.1, {"ignore_index": 2}), (1.0, {}))
      for x, t in ((SCORES, TARGETS), (IMAGE, classes(2, 3, 5)))
      for w in (None, WEIGHT)],
    *[("CrossEntropyLoss", {"reduction": r, "label_smoothing": s}, x, t, {"weight": w})
      for r in ("mean", "sum", "none")
      for s in (0.0, 0.2)
      for x, t in ((SCORES, PROBABILITIES), (SCORES[0], PROBABILITIES[0]),
                   (IMAGE, arr(*IMAGE.shape, seed=4, low=0, high=1)))
      for w in (None, WEIGHT)],
    *[("BCELoss", {"reduction": r}, PROBABILITIES, arr(6, 4, seed=1, low=0, high=1), {"weight": w})
      for r in ("mean", "sum", "none") for w in (None, WEIGHT)],
    *[("BCEWithLogitsLoss", {"reduction": r}, SCORES * 30, arr(6, 4, seed=1, low=0, high=1), extra)
      for r in ("mean", "sum", "none")
      for extra in ({}, {"weight": WEIGHT}, {"pos_weight": WEIGHT},
                    {"weight": PROBABILITIES, "pos_weight": WEIGHT})],
    *[("KLDivLoss", {"reduction": r, "log_target": log}, SCORES, t, {})
      for r in ("mean", "sum", "none", "batchmean")
      for log, t in ((True, arr(6, 4, seed=1)), (False, np.maximum(arr(6, 4, seed=1), 0)))],
]


@pytest.mark.parametrize("name, kw, x, t, extra", LOSSES,
                         ids=[f"{m[0]}-{i}" for i, m in enumerate(LOSSES)])
def test_loss(name, kw, x, t, extra):
    extra = {k: v for k, v in extra.items() if v is not None}
    ours = getattr(nn, name)(**kw, **{k: gpugrad.tensor(v) for k, v in extra.items()})
    theirs = getattr(torch.nn, name)(**kw, **{k: torch.tensor(v) for k, v in extra.items()})
    assert repr(ours) == repr(theirs)
    check_state(ours, theirs)
    if name == "NLLLoss":
        x = x - np.log(np.exp(x).sum(min(1, x.ndim - 1), keepdims=True))
    (a, b), (s, u) = twice(x), twice(np.asarray(t))
    got, want = ours(a, s), theirs(b, u)
    same(got, want, "loss", atol=1e-5)
    backward_both(got, want)
    same(a.grad, b.grad, "gradient of the input", atol=1e-5)
    if u.grad is not None:
        same(s.grad, u.grad, "gradient of the target", rtol=2e-5, atol=1e-4)


def test_bce_at_the_ends():
    x, t = np.array([0, 1, 0, 1, 1e-6], np.float32), np.array([0, 1, 1, 0, 1], np.float32)
    a, b = twice(x)
    got = F.binary_cross_entropy(a, gpugrad.tensor(t), reduction="none")
    want = torch.nn.functional.binary_cross_entropy(b, torch.tensor(t), reduction="none")
    same(got, want)
    backward_both(got, want)
    same(a.grad, b.grad)


FUNCTIONS = [
    ("mse_loss", [arr(3, 4), arr(3, 4, seed=1)], {"weight": arr(3, 4, seed=2, low=0)}),
    ("mse_loss", [arr(3, 4), arr(4, seed=1)], {}),
    ("l1_loss", [arr(3, 4), arr(3, 4, seed=1)], {"weight": arr(3, 4, seed=2, low=0)}),
    ("l1_loss", [arr(3, 4), arr(1, 4, seed=1)], {"reduction": "sum"}),
    ("huber_loss", [arr(3, 4), arr(3, 4, seed=1)], {"weight": arr(3, 4, seed=2, low=0)}),
    ("smooth_l1_loss", [arr(3, 4), arr(1, 4, seed=1)], {"size_average": False}),
    ("normalize", [arr(3, 4)], {}),
    ("normalize", [arr(3, 4)], {"p": 1.0, "dim": 0}),
    ("normalize", [arr(3, 4)], {"p": 3.0, "dim": -1}),
    ("normalize", [np.zeros((3, 4), np.float32)], {}),
    ("softmax", [np.arange(6).reshape(2, 3)], {"dim": 1, "dtype": "float64"}),
    ("log_softmax", [np.arange(6).reshape(2, 3)], {"dim": 0, "dtype": "float32"}),
    ("softmin", [arr(2, 3, 4)], {}),
    ("one_hot", [np.array([[1, 0], [3, 2]])], {}),
    ("one_hot", [np.array(2)], {"num_classes": 5}),
    ("one_hot", [np.zeros((0, 3), np.int64)], {"num_classes": 2}),
    ("pad", [arr(2, 3, 4), (1, 2)], {}),
    ("pad", [arr(2, 3, 4), (1, -2, 3, 0, 1, 1)], {"value": 2.5}),
    ("pad", [arr(2, 3, 4), (0, 0)], {}),
    ("pad", [arr(2, 3, 4), ()], {}),
    ("pad", [arr(3, 4), (1, 2)], {"mode": "replicate"}),
    ("pad", [arr(2, 3, 4), (4, 4)], {"mode": "circular"}),
    ("pad", [arr(2, 3, 4, 5), (4, 0, 0, 3)], {"mode": "reflect"}),
    ("pad", [np.arange(12).reshape(3, 4), (1, 1)], {"value": 7}),
    ("embedding", [np.array([[1, 2], [2, 0]]), arr(4, 3)], {"padding_idx": 2}),
    ("layer_norm", [arr(2, 3, 4), (4,), arr(4, seed=1), arr(4, seed=2)], {}),
    ("batch_norm", [arr(5, 4), None, None], {"training": True}),
    ("rms_norm", [arr(2, 3, 4), (3, 4), arr(3, 4, seed=1)], {"eps": 0.1}),
    ("rms_norm", [arr(2, 3) * 0, [3]], {}),
    ("group_norm", [arr(2, 6, 3), 3, arr(6, seed=1), arr(6, seed=2)], {}),
    ("group_norm", [arr(0, 4, 3), 2], {}),
    ("group_norm", [arr(3, 4, 0), 2], {}),
    ("instance_norm", [arr(2, 3, 4), None, None, arr(3, seed=1), arr(3, seed=2)], {}),
    ("instance_norm", [arr(0, 3, 4)], {}),
    ("bilinear", [arr(5, 3), arr(5, 4, seed=1), arr(2, 3, 4, seed=2), arr(2, seed=3)], {}),
    ("prelu", [arr(5), arr(1, seed=1)], {}),
    ("adaptive_avg_pool2d", [arr(3, 5, 6), (2, 4)], {}),
    ("avg_pool2d", [arr(3, 5, 6), 2], {"stride": ()}),
    ("conv1d", [arr(3, 9), arr(4, 3, 2, seed=1), arr(4, seed=2)], {"padding": "same"}),
    ("linear", [arr(3, 4).T, arr(2, 3, seed=1)], {}),
]


@pytest.mark.parametrize("name, args, kw", FUNCTIONS,
                         ids=[f"{m[0]}-{i}" for i, m in enumerate(FUNCTIONS)])
def test_function(name, args, kw):
    pairs = [twice(v) if isinstance(v, np.ndarray) else (v, v) for v in args]
    named = {k: twice(v) if isinstance(v, np.ndarray) else (v, v) for k, v in kw.items()}
    if "dtype" in kw:
        named["dtype"] = getattr(gpugrad, kw["dtype"]), getattr(torch, kw["dtype"])
    got = getattr(F, name)(*[p[0] for p in pairs], **{k: v[0] for k, v in named.items()})
    want = getattr(torch.nn.functional, name)(*[p[1] for p in pairs],
                                              **{k: v[1] for k, v in named.items()})
    same(got, want)
    backward_both(got, want)
    for a, b in [*pairs, *named.values()]:
        if getattr(b, "grad", None) is not None:
            same(a.grad, b.grad)


# Signatures --------------------------------------------------------------------------------------

LAYERS = sorted(n for n, c in vars(nn).items() if inspect.isclass(c) and n[0] != "_")
ANY_ARGUMENTS = {"Sigmoid", "Tanh", "LogSigmoid", "Softsign", "Tanhshrink", "Softmax2d"}


def parameters(fn):
    return [(p.name, getattr(p.default, "__name__", p.default), p.kind)     # functions by name
            for p in inspect.signature(fn).parameters.values()]


@pytest.mark.parametrize("name", [n for n in LAYERS if not n.startswith("Uninit")])
def test_constructor_signature(name):
    if name in ("Parameter", "Buffer"):
        assert parameters(getattr(nn, name)) == parameters(getattr(torch.nn, name))
    elif name not in ANY_ARGUMENTS:
        assert parameters(getattr(nn, name).__init__) == \
            parameters(getattr(torch.nn, name).__init__)
    ours = getattr(getattr(nn, name), "__constants__", None)
    theirs = getattr(getattr(torch.nn, name), "__constants__", None)
    assert ours == theirs


def public(module):
    return sorted(n for n, f in vars(module).items() if inspect.isfunction(f) and n[0] != "_"
                  and f.__module__ == module.__name__)


@pytest.mark.parametrize("name", public(F))
def test_function_signature(name):
    ours = parameters(getattr(F, name))
    theirs = getattr(torch.nn.functional, name)
    pools = {p: p + "_with_indices" for p in ("max_pool1d", "max_pool2d", "adaptive_max_pool1d",
                                              "adaptive_max_pool2d")}
    theirs = getattr(torch.nn.functional, pools.get(name, name))
    try:
        assert ours == parameters(theirs)
    except ValueError:          # written in C++: the docstring has it
        text = theirs.__doc__.split("(", 1)[1].split(") ->")[0].replace("\n", " ")
        given = [part.split("=") for part in text.replace("*,", "").split(",")]
        assert [p[0] for p in ours] == [part[0].strip() for part in given]
        for (key, default, _), part in zip(ours, given):
            if len(part) > 1:
                assert default == eval(part[1]), key


@pytest.mark.parametrize("name", public(nn.init))
def test_init_signature(name):
    assert parameters(getattr(nn.init, name)) == parameters(getattr(torch.nn.init, name))


METHODS = sorted(n for n, f in inspect.getmembers(nn.Module, inspect.isfunction)
                 if not n.startswith("_"))
BOUND_ELSEWHERE = {"to", "state_dict", "forward", "load_state_dict"}


@pytest.mark.parametrize("name", [n for n in METHODS if n not in BOUND_ELSEWHERE])
def test_method_signature(name):
    assert parameters(getattr(nn.Module, name)) == parameters(getattr(torch.nn.Module, name))


def test_nothing_of_module_is_missing():
    theirs = {n for n in dir(torch.nn.Module) if not n.startswith("_")}
    later = {"compile", "ipu", "xpu", "mtia", "T_destination"}
    assert theirs - later <= set(dir(nn.Module))


# Initialisers ------------------------------------------------------------------------------------

INITS = [
    ("uniform_", (4, 5), (), {}), ("uniform_", (3,), (-2.0, 3.0), {}),
    ("normal_", (4, 5), (), {}), ("normal_", (3,), (1.0, 2.0), {}),
    ("trunc_normal_", (40, 5), (), {}), ("trunc_normal_", (30, 5), (0.0, 0.02, -0.04, 0.04), {}),
    ("trunc_normal_", (30, 5), (0.0, 1.0, 2.0, 3.0), {}),
    ("trunc_normal_", (300, 5), (), {"mean": 1.0, "std": 3.0, "a": 1.0, "b": 1.5}),
    ("constant_", (4, 5), (0.3,), {}), ("ones_", (4,), (), {}), ("zeros_", (4,), (), {}),
    ("eye_", (4, 5), (), {}), ("dirac_", (6, 4, 3), (), {}), ("dirac_", (6, 2, 3, 4), (3,), {}),
    ("xavier_uniform_", (4, 5), (), {}), ("xavier_uniform_", (4, 5, 3), (2.0,), {}),
    ("xavier_normal_", (4, 5), (), {}), ("kaiming_uniform_", (4, 5), (), {}),
    ("kaiming_uniform_", (4, 5, 3, 3), (), {"mode": "fan_out", "nonlinearity": "relu"}),
    ("kaiming_normal_", (4, 5), (0.2,), {}),
    ("kaiming_normal_", (4, 5, 2), (), {"mode": "fan_out"}),
    ("orthogonal_", (4, 5), (), {}), ("orthogonal_", (5, 4), (1.5,), {}),
    ("orthogonal_", (5, 2, 2), (), {}), ("sparse_", (7, 5), (0.3,), {"std": 0.5}),
]


@pytest.mark.parametrize("name, shape, args, kw", INITS,
                         ids=[f"{m[0]}-{i}" for i, m in enumerate(INITS)])
def test_init(name, shape, args, kw):
    results = []
    for lib in (gpugrad, torch):
        lib.manual_seed(11)
        w = lib.empty(shape)
        w.requires_grad_()
        assert getattr(lib.nn.init, name)(w, *args, **kw) is w
        assert w.requires_grad and w.is_leaf
        after = lib.rand(1).item()                # the stream is where PyTorch's is
        results.append((w, after))
    same(results[0][0], results[1][0], atol=1e-6)
    assert results[0][1] == results[1][1]


@pytest.mark.parametrize("name", ["uniform_", "normal_", "xavier_normal_", "kaiming_uniform_",
                                  "orthogonal_", "trunc_normal_"])
def test_init_with_generator(name):
    results = []
    for lib in (gpugrad, torch):
        generator = lib.Generator().manual_seed(5)
        results.append(getattr(lib.nn.init, name)(lib.empty(4, 5), generator=generator))
    same(*results)


@pytest.mark.parametrize("args", [("linear",), ("conv2d",), ("sigmoid",), ("tanh",), ("relu",),
                                  ("leaky_relu",), ("leaky_relu", 0.3), ("selu",)])
def test_gain(args):
    assert nn.init.calculate_gain(*args) == torch.nn.init.calculate_gain(*args)


# Errors ------------------------------------------------------------------------------------------

def f(name, *args, **kw):
    return lambda lib: getattr(lib.nn.functional, name)(
        *[v(lib) if callable(v) else v for v in args], **{
            k: v(lib) if callable(v) else v for k, v in kw.items()})


def t(*shape, dtype="float32"):
    return lambda lib: lib.ones(shape, dtype=getattr(lib, dtype))


def m(name, *args, **kw):
    return lambda lib: getattr(lib.nn, name)(*args, **kw)


def call(name, *args, shape, **kw):
    return lambda lib: getattr(lib.nn, name)(*args, **kw)(lib.ones(shape))


X, W = t(1, 3, 32, 32), t(6, 3, 3, 3)
SAME_ERRORS = [
    f("linear", t(1, 5), t(3, 4), t(3)),
    f("linear", t(2, 3, 5), t(3, 4)),
    f("conv2d", X, t(6, 1, 3, 3)),
    f("conv2d", t(2, 2), W),
    f("conv2d", X, W, stride=0),
    f("conv2d", X, W, padding=-1),
    f("conv2d", X, W, dilation=0),
    f("conv2d", X, t(1, 1, 3, 3), groups=3),
    f("conv2d", X, t(4, 1, 3, 3), groups=3),
    f("conv2d", X, W, groups=0),
    f("conv2d", X, W, t(5)),
    f("conv2d", X, W, t(6, 1)),
    f("conv2d", t(1, 3, 2, 2), W),
    f("conv2d", t(1, 3, 2, 2), t(4, 3, 5, 5), padding=1, dilation=2),
    f("conv2d", X, W, stride=(1, 1, 1)),
    f("conv2d", X, W, padding=(1, 1, 1)),
    f("conv2d", X, W, stride=2, padding="same"),
    f("conv2d", X, W, padding="foo"),
    f("conv1d", t(1, 2, 8), t(6, 3, 4)),
    f("conv1d", t(1, 3, 2), t(6, 3, 4)),
    f("conv1d", t(3), t(6, 3, 4)),
    f("max_pool2d", X, 2, 0),
    f("max_pool2d", X, 2, 2, 2),
    f("max_pool2d", t(1, 3, 1, 1), 2),
    f("max_pool2d", X, (2, 2, 2)),
    f("max_pool2d", X, 2, 2, -1),
    f("max_pool2d", X, 2, (1, 1, 1)),
    f("max_pool2d", X, 2, 1, (1, 1, 1)),
    f("max_pool2d", t(2, 0, 4, 4), 2),
    f("max_pool2d", t(1, 2, 0, 4), 2),
    f("avg_pool2d", X, 2, 2, 2),
    f("avg_pool2d", X, 2, divisor_override=0),
    f("avg_pool2d", t(1, 3, 1, 1), 2),
    f("adaptive_avg_pool2d", t(2, 2), 2),
    f("adaptive_avg_pool2d", X, (2, 2, 2)),
    f("adaptive_avg_pool2d", X, (-2, 2)),
    f("dropout", X, -1),
    f("dropout", X, 1.5),
    f("dropout1d", t(2)),
    f("dropout2d", t(2)),
    f("batch_norm", t(1, 3), t(3), t(3), training=True),
    f("batch_norm", t(2, 3), None, None),
    f("batch_norm", t(2, 3), t(3), None),
    f("batch_norm", t(2, 3), t(3), None, training=True),
    f("batch_norm", t(2, 4), t(3), t(3)),
    f("batch_norm", t(2, 3), t(3), t(3), t(4)),
    f("batch_norm", t(2, 3), t(3), t(3), t(3), t(4)),
    f("layer_norm", t(4, 3), (4,)),
    f("layer_norm", t(4, 3), (3,), t(4)),
    f("layer_norm", t(4, 3), (3,), t(3), t(2)),
    f("layer_norm", t(4, 3), ()),
    f("layer_norm", t(4, 3), (2, 4)),
    f("rms_norm", t(4, 3), (4,)),
    f("rms_norm", t(4, 3), (2, 4)),
    f("rms_norm", t(4, 3), (3,), t(4)),
    f("rms_norm", t(4, 3), ()),
    f("group_norm", t(2, 4, 3), 3),
    f("group_norm", t(2, 4, 3), 2, t(3)),
    f("group_norm", t(2, 4, 3), 2, t(4, dtype="float64")),
    f("group_norm", t(4), 2),
    f("group_norm", t(1, 4), 4),
    f("group_norm", t(1, 4, 1), 4),
    f("group_norm", t(2, 4, 3), 0),
    f("instance_norm", t(2, 3, 1)),
    f("instance_norm", t(2, 3)),
    f("instance_norm", t(2, 3, 4), use_input_stats=False),
    f("instance_norm", t(2, 3, 4), t(3), None),
    f("instance_norm", t(2, 3, 4), t(2), t(2)),
    f("instance_norm", t(2, 3, 4), weight=t(2)),
    f("nll_loss", t(4, 3), t(3, dtype="int64")),
    f("nll_loss", t(4, 3), t(4, dtype="int64"), t(4)),
    f("nll_loss", t(4, 3), t(4, dtype="int64"), reduction="foo"),
    f("nll_loss", t(), t(dtype="int64")),
    f("cross_entropy", t(4, 3), t(3, dtype="int64")),
    f("cross_entropy", t(4, 3), t(2, 2, dtype="int64")),
    f("cross_entropy", t(4, 3), t(4, 3, dtype="int64")),
    f("cross_entropy", t(4, 3), t(4, 2)),
    f("cross_entropy", t(4, 3), t(4, 3), ignore_index=1),
    f("cross_entropy", t(4, 3), t(4, 3), t(4)),
    f("cross_entropy", t(4, 3), t(4, dtype="int64"), label_smoothing=2.5),
    f("cross_entropy", t(4, 3), lambda lib: lib.tensor([0, 1, 2, 3])),
    f("cross_entropy", t(4, 3), lambda lib: lib.tensor([0, 1, 2, -1])),
    f("nll_loss", t(4, 3), lambda lib: lib.tensor([0, 1, 2, 5])),
    f("mse_loss", t(4, 3), t(4, 3), reduction="foo"),
    f("mse_loss", t(4, 3), t(4, 3), weight=t(3)),
    f("l1_loss", t(4, 3), t(4, 3), weight=t(3)),
    f("smooth_l1_loss", t(4, 3), t(4, 3), beta=-1),
    f("huber_loss", t(4, 3), t(4, 3), delta=0),
    f("binary_cross_entropy", t(4, 3), t(4, 1)),
    f("binary_cross_entropy", lambda lib: lib.ones(4) * 2, t(4)),
    f("binary_cross_entropy_with_logits", t(4, 3), t(4, 1)),
    f("kl_div", t(4, 3), t(4, 3), reduction="foo"),
    f("pad", X, (1,)),
    f("pad", X, (1,) * 10),
    f("pad", X, (1, 1), "foo"),
    f("pad", X, (1, 1), "reflect"),
    f("pad", t(3), (1, 1), "reflect"),
    f("pad", X, (1, 1, 1, 1), "reflect", value=1.0),
    f("pad", t(2, 3, 4), (5, 1), "circular"),
    f("one_hot", t(3)),
    f("one_hot", lambda lib: lib.tensor([-1])),
    f("one_hot", lambda lib: lib.tensor([3]), 2),
    f("one_hot", t(0, dtype="int64")),
    f("embedding", t(3), t(5, 2)),
    f("embedding", t(3, dtype="int64"), t(5)),
    f("embedding", t(3, dtype="int64"), t(5, 2), padding_idx=7),
    f("glu", t(2, 3)),
    f("prelu", t(2, 3), t(2)),
    f("gelu", t(2), approximate="foo"),
    f("hardtanh", t(2), 1.0, -1.0),
    f("celu", t(2), 0),
    f("softmax", t(2, 3), 2),
    m("Conv2d", 3, 4, 3, groups=2),
    m("Conv2d", 4, 3, 3, groups=2),
    m("Conv2d", 4, 3, 3, groups=0),
    m("Conv2d", 4, 3, 3, stride=2, padding="same"),
    m("Hardtanh", 1, -1),
    m("Dropout", 2),
    m("Bilinear", 0, 1, 1),
    m("Unflatten", 1, 2),
    m("Unflatten", 1, (2.0,)),
    m("Embedding", 3, 4, padding_idx=5),
    m("Linear", 3, 4, foo=1),
    m("Module", 1),
    m("Module", foo=1),
    call("BatchNorm2d", 3, shape=(2, 3)),
    call("BatchNorm1d", 3, shape=(2, 3, 4, 5)),
    call("BatchNorm1d", 3, shape=(1, 3)),
    call("BatchNorm3d", 3, shape=(1, 3, 2, 2)),
    m("GroupNorm", 3, 4),
    call("GroupNorm", 2, 4, shape=(2, 3, 4)),
    call("InstanceNorm1d", 3, shape=(2, 3, 4, 5)),
    call("InstanceNorm2d", 3, shape=(2, 3)),
    call("InstanceNorm3d", 3, shape=(3, 4, 4)),
    call("InstanceNorm1d", 3, affine=True, shape=(5, 4)),
    call("Softmax2d", shape=(2, 3)),
    call("CircularPad1d", 1, shape=(2,)),
    call("Module", shape=(2,)),
    lambda lib: lib.nn.init.eye_(lib.ones(3)),
    lambda lib: lib.nn.init.dirac_(lib.ones(3)),
    lambda lib: lib.nn.init.dirac_(lib.ones(3, 3, 3), 2),
    lambda lib: lib.nn.init.xavier_uniform_(lib.ones(3)),
    lambda lib: lib.nn.init.kaiming_normal_(lib.ones(3, 3), mode="foo"),
    lambda lib: lib.nn.init.calculate_gain("foo"),
    lambda lib: lib.nn.init.calculate_gain("leaky_relu", True),
    lambda lib: lib.nn.init.orthogonal_(lib.ones(3)),
    lambda lib: lib.nn.init.sparse_(lib.ones(3), 0.1),
]


def outcome(fn, lib):
    with pytest.raises(Exception) as caught:
        fn(lib)
    return caught.value


@pytest.mark.parametrize("fn", SAME_ERRORS, ids=range(len(SAME_ERRORS)))
def test_error_type_and_text(fn):
    ours, theirs = outcome(fn, gpugrad), outcome(fn, torch)
    assert type(ours) is type(theirs)
    text = str(theirs).split("\n")[0].replace("Argument #4: ", "").replace("Argument #6: ", "")
    assert text.rstrip(".") in str(ours).replace("gpugrad.", "torch.")


SAME_TYPE_ERRORS = [
    f("nll_loss", t(4, 3), t(4)),
    f("nll_loss", t(4, 3), t(4, dtype="int32")),
    f("nll_loss", t(2, 3, 4), t(2, 5, dtype="int64")),
    f("cross_entropy", t(2, 3, 4, 4), t(2, 4, 3, dtype="int64")),
    f("cross_entropy", t(4, 3), t(4, dtype="int64"), t(3, dtype="float64")),
    f("cross_entropy", t(4, 3, dtype="int64"), t(4, dtype="int64")),
    f("softmax", t(4, dtype="int64"), 0),
    f("batch_norm", t(4, 3, dtype="int64"), t(3), t(3)),
    f("group_norm", t(2, 4, 3, dtype="int64"), 2),
    f("group_norm", t(2, 4, 3), 2, t(4), t(3)),
    f("rms_norm", t(2, 4, dtype="int64"), (4,)),
    f("conv2d", X, t(6, 3, 3)),
    f("conv2d", X, t(6, 3, 3, 3, dtype="float64")),
    f("conv2d", X, W, t(6, dtype="float64")),
    f("pad", X, (-20, -20)),
    f("pad", X, (1.5, 1)),
    f("binary_cross_entropy", t(4), t(4, dtype="float64")),
    f("embedding", lambda lib: lib.tensor([5]), t(5, 2)),
    f("bilinear", t(5, 3), t(5, 4), t(2, 3, 5)),
    f("mse_loss", t(4, 3), t(5, 2)),
    m("ReLU", foo=1),
    m("Conv2d", 4, 3, 3, padding="foo"),
    m("Conv2d", 4, 3, 3, padding_mode="foo"),
    lambda lib: lib.nn.Parameter([1.0]),
    lambda lib: lib.nn.Parameter(lib.arange(3)),
]


@pytest.mark.parametrize("fn", SAME_TYPE_ERRORS, ids=range(len(SAME_TYPE_ERRORS)))
def test_error_type(fn):
    assert type(outcome(fn, gpugrad)) is type(outcome(fn, torch))


# Texts of warnings -------------------------------------------------------------------------------

WARNINGS = [
    f("softmax", t(2, 3)),
    f("log_softmax", t(2, 3, 4)),
    f("mse_loss", t(4, 3), t(4, 1)),
    f("l1_loss", t(4, 3), t(4, 3), size_average=False),
    f("l1_loss", t(4, 3), t(4, 3), reduce=False),
    f("kl_div", t(4, 3), t(4, 3)),
    f("dropout2d", t(2, 3)),
    f("dropout2d", t(2, 3, 4)),
    f("dropout3d", t(2, 3, 4)),
    call("InstanceNorm1d", 3, shape=(5, 4)),
    m("MSELoss", size_average=False),
    m("Hardtanh", min_value=-2.0),
    lambda lib: lib.nn.init.uniform(lib.ones(2)),
    lambda lib: lib.nn.init.kaiming_uniform_(lib.ones(0, 2)),
    lambda lib: lib.nn.init.trunc_normal_(lib.ones(2), 5.0),
    lambda lib: lib.nn.utils.clip_grad_norm_(iter(()), 1.0),
    lambda lib: lib.nn.utils.clip_grad_norm_((p for p in ()), 1.0),
    lambda lib: lib.nn.Linear(2, 2).state_dict({}),
]


@pytest.mark.parametrize("fn", WARNINGS, ids=range(len(WARNINGS)))
def test_warning(fn):
    seen = []
    for lib in (gpugrad, torch):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fn(lib)
        seen.append([(w.category, str(w.message)) for w in caught])
        if lib is gpugrad:
            assert all(w.filename == __file__ for w in caught)
    assert seen[0] == seen[1]
