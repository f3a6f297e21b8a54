"""Every module of torch.nn against PyTorch's, by one table: what it is, does and refuses."""
from __future__ import annotations

import copy
import inspect
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpugrad
from gpugrad import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from module_table import LINES, Line, backward, call, leaves

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")

# Modules with more to their calls, or nothing to call: they have tests of their own.
ELSEWHERE = set("""Module Container ModuleList ModuleDict ParameterList ParameterDict Parameter
Buffer DataParallel CTCLoss MaxUnpool1d MaxUnpool2d MaxUnpool3d
FractionalMaxPool2d FractionalMaxPool3d UninitializedParameter
UninitializedBuffer LinearCrossEntropyOptions RNNBase RNNCellBase""".split())
# What other dtypes, nothing, and bad input do to these is for their own tests to say.
FAMILIES = ("RNN", "LSTM", "GRU", "Transformer", "MultiheadAttention")

every = pytest.mark.parametrize("line", LINES, ids=[line.code for line in LINES])


def near(ours: Any, theirs: Any, what: str, rtol: float = 1e-5, atol: float = 1e-5) -> None:
    assert (ours is None) == (theirs is None), what
    if theirs is None:
        return
    assert str(ours.dtype) == str(theirs.dtype), what
    assert tuple(ours.shape) == tuple(theirs.shape), what
    a, b = (t.detach().double().numpy() for t in (ours, theirs))
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol * max(1, np.abs(b).max(initial=0)),
                               err_msg=what)


def test_every_module_has_a_line() -> None:
    theirs = {n for n in dir(torch.nn) if isinstance(getattr(torch.nn, n), type)}
    wanted = {n for n in theirs if not n.startswith("Lazy")} - ELSEWHERE
    assert wanted == {line.name for line in LINES}
    assert all(hasattr(nn, n) for n in wanted | ELSEWHERE)


# What it is --------------------------------------------------------------------------------------

PLAIN = (bool, int, float, str, tuple, list, type(None))


@every
def test_text_parameters_and_attributes(line: Line) -> None:
    ours, theirs = line.make(gpugrad), line.make(torch)
    assert repr(ours) == repr(theirs)
    for names in ("named_parameters", "named_buffers", "named_modules"):
        assert [n for n, _ in getattr(ours, names)()] == [n for n, _ in getattr(theirs, names)()]
    a, b = ours.state_dict(), theirs.state_dict()
    assert list(a) == list(b)
    assert [dict(v) for v in a._metadata.values()] == [dict(v) for v in b._metadata.values()]
    for key in b:
        assert str(a[key].dtype) == str(b[key].dtype)
        if line.name.startswith("Embedding"):            # the logarithms of normal numbers
            near(a[key], b[key], key, 1e-6, 1e-6)
        else:
            np.testing.assert_array_equal(a[key].numpy(), b[key].numpy(), err_msg=key, strict=True)
    for p, q in zip(ours.parameters(), theirs.parameters()):
        assert p.requires_grad == q.requires_grad
    public = {k: v for k, v in vars(theirs).items() if k[0] != "_"}
    assert {k for k in vars(ours) if k[0] != "_"} == set(public)
    for k, v in public.items():
        if isinstance(v, PLAIN):
            assert getattr(ours, k) == v and type(getattr(ours, k)) is type(v), k
    assert [c.__name__ for c in type(ours).__mro__ if c.__name__ in dir(torch.nn)] == \
        [c.__name__ for c in type(theirs).__mro__ if c.__name__ in dir(torch.nn)]
    assert getattr(ours, "__constants__", None) == getattr(theirs, "__constants__", None)


@every
def test_parameters_go_both_ways(line: Line) -> None:
    ours, theirs = line.make(gpugrad), line.make(torch)
    if not theirs.state_dict():
        pytest.skip("it has no state")
    for lib, source, target in ((torch, ours, theirs), (gpugrad, theirs, ours)):
        state = {}
        for k, v in source.state_dict().items():
            state[k] = lib.tensor((v + 1).numpy())
        missing, unexpected = target.load_state_dict(state)
        assert not missing and not unexpected
        for k, v in target.state_dict().items():
            np.testing.assert_array_equal(v.numpy(), state[k].numpy())
    assert repr(copy.deepcopy(ours)) == repr(theirs)


@every
def test_where_and_of_what_dtype(line: Line) -> None:
    cls = getattr(torch.nn, line.name)
    if "dtype" not in inspect.signature(cls.__init__).parameters:
        pytest.skip("it takes no dtype")
    for lib in (torch, gpugrad):
        code = line.code.replace("()", "(init=0.25)") if line.name == "PReLU" else line.code
        code = code[:-1] + ", dtype=torch.float64, device='cpu')"
        m = eval(f"nn.{code}", {"nn": lib.nn, "torch": lib})
        assert {str(p.dtype) for p in m.parameters()} <= {"torch.float64"}
        assert {str(b.dtype) for b in m.buffers()} <= {"torch.float64", "torch.int64"}


# What it does ------------------------------------------------------------------------------------

@every
def test_results_and_gradients(line: Line) -> None:
    """In training twice, for running statistics, and in evaluation."""
    if "values" in line.known:
        pytest.skip("said above the table")
    ours, theirs = line.make(gpugrad), line.make(torch)
    for mode in (True, True, False):
        found = []
        for lib, m in ((gpugrad, ours), (torch, theirs)):
            m.train(mode)
            m.zero_grad()
            inputs = leaves(lib, line.arrays())
            results = call(m, inputs)
            backward(lib, results)
            found.append((results, [t.grad for t in inputs], [p.grad for p in m.parameters()],
                          list(m.buffers())))
        for what, a, b in zip(("result", "gradient of an input", "gradient of a parameter",
                               "buffer"), *found):
            assert len(a) == len(b)
            for x, y in zip(a, b):
                near(x, y, f"{what}, training={mode}")


NOT_OF_16_BITS = set("""AdaptiveLogSoftmaxWithLoss MultiMarginLoss MultiLabelMarginLoss""".split())


@every
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_dtypes(line: Line, dtype: str) -> None:
    """The dtypes of 16 bits against PyTorch's float64, to which rounding is the difference."""
    if line.name.startswith(FAMILIES):
        pytest.skip("its family has tests of its own")
    if dtype != "float64" and line.name in NOT_OF_16_BITS:
        pytest.skip("PyTorch's CPU has none")
    if "Dropout" in line.name or line.name == "RReLU":
        pytest.skip("the random numbers depend on the dtype")
    if "values" in line.known:
        pytest.skip("said above the table")
    state = {k: v.numpy() for k, v in line.make(torch).state_dict().items()}
    arrays, found = line.arrays(), []
    for lib, kind in ((gpugrad, dtype), (torch, dtype), (torch, "float64")):
        m = line.make(lib)
        m.load_state_dict({k: lib.tensor(v) for k, v in state.items()})
        m = m.to(getattr(lib, dtype)).to(getattr(lib, kind))
        inputs = leaves(lib, arrays, getattr(lib, dtype))
        inputs = [t.detach().to(getattr(lib, kind)).requires_grad_() if t.is_floating_point()
                  else t for t in inputs]
        try:
            results = call(m, inputs)
            total = sum([t.double().sum() for t in results if t.requires_grad])
            if not isinstance(total, int):
                total.backward()
        except (RuntimeError, NotImplementedError) as e:
            found.append(e)
            continue
        found.append((results, [t.grad for t in inputs], [p.grad for p in m.parameters()],
                      list(m.buffers())))
    ours, theirs, exact = found
    if isinstance(theirs, Exception):
        pytest.skip(f"PyTorch: {theirs}")
    assert not isinstance(ours, Exception), ours
    tight = {"float64": 1e-6 if "loose" in line.known else 1e-9, "float16": 0.02,
             "bfloat16": 0.15}[dtype]
    for a, b, c in zip(ours, theirs, exact):
        for x, y, z in zip(a, b, c):
            assert (x is None) == (y is None)
            if y is not None:
                assert str(x.dtype) == str(y.dtype)
                near(x.to(gpugrad.float64), z.to(torch.float64), dtype, tight, tight)


def outcome(lib: Any, line: Line, tensors: Any) -> Any:
    """The shapes and dtypes of the results and gradients, or the exception's type."""
    try:
        m = line.make(lib)
        inputs = tensors(lib)
        results = call(m, inputs)
        backward(lib, results)
    except Exception as e:
        return type(e).__name__, str(e)
    return [(tuple(t.shape), str(t.dtype)) for t in results] + \
        [t.grad is not None and tuple(t.grad.shape) for t in inputs]


@every
def test_an_empty_batch(line: Line) -> None:
    """A result of the same shape, or an exception of the same type."""
    if line.name.startswith(FAMILIES):
        pytest.skip("its family has tests of its own")
    theirs, ours = [outcome(lib, line, lambda lib: leaves(lib, line.arrays(batch=0)))
                    for lib in (torch, gpugrad)]
    if "empty" in line.known:
        assert ours != theirs
    elif isinstance(theirs, tuple):
        assert ours[0] == theirs[0], (ours, theirs)
    else:
        assert ours == theirs


# What it refuses ---------------------------------------------------------------------------------

WRONG = {
    "no dims": lambda lib, arrays: leaves(lib, [a.reshape(-1)[0] for a in arrays]),
    "two dims more": lambda lib, arrays: leaves(lib, [a[None, None] for a in arrays]),
    "one channel more": lambda lib, arrays: leaves(
        lib, [np.concatenate([a, a[:, :1]], 1) if a.ndim > 1 else a for a in arrays[:1]]
        + arrays[1:]),
    "integers": lambda lib, arrays: leaves(lib, [a.astype(np.int64) for a in arrays]),
    "complex": lambda lib, arrays: [lib.tensor(arrays[0].astype(np.complex64)),
                                    *leaves(lib, arrays[1:])],
    "one more": lambda lib, arrays: leaves(lib, [*arrays, arrays[0], arrays[0]]),
}
# Where ours takes more than PyTorch's CPU: integers that are only moved or compared, dropout of
# complex numbers, and numbers that promote; or raises another type, being asked first or by name.
ACCEPTED = {
    **dict.fromkeys(["Fold", "Unfold", "MaxPool1d", "HingeEmbeddingLoss"], "integers"),
    **dict.fromkeys(["AvgPool2d", "LPPool2d", "Unflatten"], "no dims"),
    "Unfold": "integers, no dims", "Dropout": "integers, complex", "EmbeddingBag":
    "complex, one more", "CrossMapLRN2d": "integers, complex",
    "SoftMarginLoss": "complex",
    **dict.fromkeys(["Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "RMSNorm",
                     "FeatureAlphaDropout", "LocalResponseNorm"], "complex")}


@every
@pytest.mark.parametrize("wrong", WRONG)
def test_bad_input(line: Line, wrong: str) -> None:
    if line.name.startswith(FAMILIES):
        pytest.skip("its family has tests of its own")
    theirs, ours = [outcome(lib, line, lambda lib: WRONG[wrong](lib, line.arrays()))
                    for lib in (torch, gpugrad)]
    if wrong in ACCEPTED.get(line.name, ""):
        assert not isinstance(ours, tuple) or ours[0] not in ("AttributeError", "UFuncTypeError")
    elif isinstance(theirs, tuple):
        assert isinstance(ours, tuple), (ours, theirs)
        assert ours[0] == theirs[0], (ours, theirs)
    else:
        assert ours == theirs


BAD_ARGUMENTS = """
Linear(5)
Bilinear(0, 3, 2)
Conv2d(3, 4, 3, groups=2)
Conv2d(4, 3, 3, groups=2)
Conv2d(3, 4, 3, groups=0)
Conv2d(3, 4, 3, padding="some")
Conv2d(3, 4, 3, stride=2, padding="same")
Conv2d(3, 4, 3, padding_mode="some")
ConvTranspose2d(3, 4, 3, padding_mode="reflect")
GroupNorm(3, 4)
Dropout(1.5)
AlphaDropout(-0.1)
Embedding(3, 2, padding_idx=3)
Embedding(3, 2, padding_idx=-4)
EmbeddingBag(3, 2, padding_idx=5)
Unflatten(1, "ab")
Unflatten(1, (2.0, 3))
Threshold(1)
MultiMarginLoss(p=3)
MultiMarginLoss(weight=torch.ones(2, 2))
TripletMarginLoss(margin=0)
TripletMarginWithDistanceLoss(margin=-1)
TripletMarginWithDistanceLoss(torch.dist)
GaussianNLLLoss(True)
LinearCrossEntropyLoss(3, 4, weight=torch.ones(3))
LinearCrossEntropyLoss(3, 4, label_smoothing=2.0)
AdaptiveLogSoftmaxWithLoss(8, 5, [6])
Sequential(1)
PixelShuffle()
CrossEntropyLoss(foo=1)
LayerNorm()
ReLU(1, 2)
"""


@pytest.mark.parametrize("code", BAD_ARGUMENTS.strip().splitlines())
def test_bad_arguments(code: str) -> None:
    found = []
    for lib in (torch, gpugrad):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(Exception) as error:
                eval(f"nn.{code}", {"nn": lib.nn, "torch": lib})
        found.append((error.type, str(error.value)))
    assert found[0][0] is found[1][0], found
    if found[0][0] is not TypeError and "{" not in found[0][1]:      # sets have no order
        assert found[1][1].startswith(found[0][1].rstrip(".")), found


# Those with more to their calls ------------------------------------------------------------------

@pytest.mark.parametrize("n", [1, 2, 3])
def test_unpooling(n: int) -> None:
    a, found = np.random.default_rng(0).standard_normal((2, 3, *(6, 4, 5)[:n])), []
    for lib in (torch, gpugrad):
        x = lib.tensor(a, requires_grad=True)
        pool = getattr(lib.nn, f"MaxPool{n}d")(2, return_indices=True)
        back = getattr(lib.nn, f"MaxUnpool{n}d")(2)
        y, index = pool(x)
        z = back(y, index, output_size=x.shape)
        (z * z).sum().backward()
        found.append((repr(back), z.detach().numpy(), x.grad.numpy()))
    assert found[0][0] == found[1][0]
    for theirs, ours in zip(found[0][1:], found[1][1:]):
        np.testing.assert_allclose(ours, theirs)


def test_bags_with_offsets_and_weights() -> None:
    index, offsets = [1, 2, 4, 5, 4, 3], [0, 2, 2]
    for mode in ("sum", "mean", "max"):
        found = []
        for lib in (torch, gpugrad):
            lib.manual_seed(0)
            m = lib.nn.EmbeddingBag(7, 3, mode=mode, include_last_offset=False)
            weights = lib.tensor([0.5, 1, 2, 3, 4, 5.0], requires_grad=True) \
                if mode == "sum" else None
            y = m(lib.tensor(index), lib.tensor(offsets), per_sample_weights=weights)
            (y * y).sum().backward()
            found.append([y.detach().numpy(), m.weight.grad.numpy(),
                          None if weights is None else weights.grad.numpy()])
        for theirs, ours in zip(*found):
            if theirs is not None:
                np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_sync_batch_norm_in_place_of_batch_norm() -> None:
    found = []
    for lib in (torch, gpugrad):
        lib.manual_seed(0)
        net = lib.nn.Sequential(lib.nn.Conv2d(2, 3, 2), lib.nn.BatchNorm2d(3, eps=1e-3),
                                lib.nn.Sequential(lib.nn.BatchNorm2d(3, affine=False))).eval()
        found.append(lib.nn.SyncBatchNorm.convert_sync_batchnorm(net))
    assert repr(found[0]) == repr(found[1])
    assert list(found[0].state_dict()) == list(found[1].state_dict())
    assert [m.training for m in found[0].modules()] == [m.training for m in found[1].modules()]


def test_containers_by_keyword() -> None:
    texts = []
    for lib in (torch, gpugrad):
        with pytest.warns(FutureWarning) as caught:
            texts.append((repr(lib.nn.Container(a=lib.nn.Linear(2, 3), b=lib.nn.ReLU())),
                          str(caught[0].message)))
    assert texts[0] == texts[1]
