"""The text of a tensor, against recorded texts of PyTorch."""
from __future__ import annotations

import numpy as np
import pytest

import gpugrad as torch
from gpugrad._printing import get_printoptions, tensor_text

nan, inf = float("nan"), float("inf")

RECORDED = [
    ("torch.tensor(3)", "tensor(3)"),
    ("torch.tensor(3.5)", "tensor(3.5000)"),
    ("torch.tensor(True)", "tensor(True)"),
    ("torch.tensor([])", "tensor([])"),
    ("torch.zeros(0, 3)", "tensor([], size=(0, 3))"),
    ("torch.zeros(2, 0, dtype=torch.int64)", "tensor([], size=(2, 0), dtype=torch.int64)"),
    ("torch.tensor([True, False])", "tensor([ True, False])"),
    ("torch.tensor([1., 2.])", "tensor([1., 2.])"),
    ("torch.tensor([1.5, nan, inf, -inf])", "tensor([1.5000,    nan,    inf,   -inf])"),
    ("torch.tensor([1., inf])", "tensor([1., inf])"),
    ("torch.tensor([nan])", "tensor([nan])"),
    ("torch.tensor([0., -0.])", "tensor([0., -0.])"),
    ("torch.tensor([1e10, 1.])", "tensor([1.0000e+10, 1.0000e+00])"),
    ("torch.tensor([1e-5, 1.])", "tensor([1.0000e-05, 1.0000e+00])"),
    ("torch.tensor([1000., 1.])", "tensor([1000.,    1.])"),
    ("torch.tensor([1001., 1.])", "tensor([1.0010e+03, 1.0000e+00])"),
    ("torch.tensor([1e8])", "tensor([100000000.])"),
    ("torch.tensor([1.1e8])", "tensor([1.1000e+08])"),
    ("torch.tensor([1e-4, 0.05])", "tensor([1.0000e-04, 5.0000e-02])"),
    ("torch.tensor([9e-5, 0.05])", "tensor([9.0000e-05, 5.0000e-02])"),
    ("torch.tensor(1e-7)", "tensor(1.0000e-07)"),
    ("torch.tensor([-1.5, 10.25])", "tensor([-1.5000, 10.2500])"),
    ("torch.tensor([1, -20, 300])", "tensor([  1, -20, 300])"),
    ("torch.tensor([[1, 2], [3, 4]], dtype=torch.int8)", (
        "tensor([[1, 2],\n"
        "        [3, 4]], dtype=torch.int8)")),
    ("torch.tensor([1.5], dtype=torch.float16)", "tensor([1.5000], dtype=torch.float16)"),
    ("torch.tensor([[1.5, -2.], [0.25, 100.]], dtype=torch.float64)", (
        "tensor([[  1.5000,  -2.0000],\n"
        "        [  0.2500, 100.0000]], dtype=torch.float64)")),
    ("torch.zeros(2, 2, 2)", (
        "tensor([[[0., 0.],\n"
        "         [0., 0.]],\n"
        "\n"
        "        [[0., 0.],\n"
        "         [0., 0.]]])")),
    ("torch.zeros(1001)", "tensor([0., 0., 0.,  ..., 0., 0., 0.])"),
    ("torch.arange(2000).view(2, 1000)", (
        "tensor([[   0,    1,    2,  ...,  997,  998,  999],\n"
        "        [1000, 1001, 1002,  ..., 1997, 1998, 1999]])")),
    ("torch.arange(24).view(1, 2, 3, 4)", (
        "tensor([[[[ 0,  1,  2,  3],\n"
        "          [ 4,  5,  6,  7],\n"
        "          [ 8,  9, 10, 11]],\n"
        "\n"
        "         [[12, 13, 14, 15],\n"
        "          [16, 17, 18, 19],\n"
        "          [20, 21, 22, 23]]]])")),
    ("torch.arange(40)", (
        "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,\n"
        "        18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35,\n"
        "        36, 37, 38, 39])")),
    ("torch.linspace(0, 1, 15, dtype=torch.float64)", (
        "tensor([0.0000, 0.0714, 0.1429, 0.2143, 0.2857, 0.3571, 0.4286, 0.5000, 0.5714,\n"
        "        0.6429, 0.7143, 0.7857, 0.8571, 0.9286, 1.0000], dtype=torch.float64)")),
    ("torch.tensor([1.5], requires_grad=True)", "tensor([1.5000], requires_grad=True)"),
    ("torch.tensor([1.5], requires_grad=True) * 2", "tensor([3.], grad_fn=<MulBackward0>)"),
    ("torch.zeros(20, requires_grad=True, dtype=torch.float64) + 1", (
        "tensor([1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1., 1.,\n"
        "        1., 1.], dtype=torch.float64, grad_fn=<AddBackward0>)")),
    ("torch.tensor([1 + 2j, 3.5 - 1e-3j])", "tensor([1.0000+2.0000e+00j, 3.5000-1.0000e-03j])"),
    ("torch.tensor(1 + 2j)", "tensor(1.+2.j)"),
    ("torch.tensor([-1j, 2.25 + 1j], dtype=torch.complex128)",
     "tensor([-0.0000-1.j, 2.2500+1.j], dtype=torch.complex128)"),
    ("torch.arange(12000).view(20, 20, 30)[:, :2]", (
        "tensor([[[    0,     1,     2,  ...,    27,    28,    29],\n"
        "         [   30,    31,    32,  ...,    57,    58,    59]],\n"
        "\n"
        "        [[  600,   601,   602,  ...,   627,   628,   629],\n"
        "         [  630,   631,   632,  ...,   657,   658,   659]],\n"
        "\n"
        "        [[ 1200,  1201,  1202,  ...,  1227,  1228,  1229],\n"
        "         [ 1230,  1231,  1232,  ...,  1257,  1258,  1259]],\n"
        "\n"
        "        ...,\n"
        "\n"
        "        [[10200, 10201, 10202,  ..., 10227, 10228, 10229],\n"
        "         [10230, 10231, 10232,  ..., 10257, 10258, 10259]],\n"
        "\n"
        "        [[10800, 10801, 10802,  ..., 10827, 10828, 10829],\n"
        "         [10830, 10831, 10832,  ..., 10857, 10858, 10859]],\n"
        "\n"
        "        [[11400, 11401, 11402,  ..., 11427, 11428, 11429],\n"
        "         [11430, 11431, 11432,  ..., 11457, 11458, 11459]]])")),
]


@pytest.mark.parametrize("expression, text", RECORDED, ids=[e for e, _ in RECORDED])
def test_recorded_texts(expression, text):
    assert repr(eval(expression)) == text


@pytest.fixture
def options():
    yield torch.set_printoptions
    torch.set_printoptions(profile="default")


X = np.array([21.3, 4.25, 0.5])
SUFFIX = ", dtype=torch.float64)"


@pytest.mark.parametrize("given, text", [
    ({"precision": 2}, "tensor([21.30,  4.25,  0.50]"),
    ({"precision": 0}, "tensor([21,  4,  0]"),
    ({"sci_mode": True}, "tensor([2.1300e+01, 4.2500e+00, 5.0000e-01]"),
    ({"precision": 1, "sci_mode": True}, "tensor([2.1e+01, 4.2e+00, 5.0e-01]"),
    ({"linewidth": 25}, "tensor([21.3000,  4.2500,\n         0.5000]"),
    ({"threshold": 2, "edgeitems": 1}, "tensor([21.3000,  ...,  0.5000]"),
    ({"profile": "short", "threshold": 2, "edgeitems": 1}, "tensor([21.30,  ...,  0.50]"),
])
def test_options(options, given, text):
    options(**given)
    got = tensor_text(X, torch.float64)
    assert got.replace(",\n       dtype", ", dtype") == text + SUFFIX


def test_sci_mode_off_keeps_small_numbers(options):
    options(sci_mode=False)
    assert repr(torch.tensor([1e-9, 1e12])) == "tensor([           0.0000, 999999995904.0000])"
    options(precision=2)                     # sci_mode is set back whenever it isn't named
    assert repr(torch.tensor([1e-9, 1.0])) == "tensor([1.00e-09, 1.00e+00])"


def test_profiles_and_get_printoptions(options):
    default = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80,
               "sci_mode": None}
    assert get_printoptions() == default
    options(profile="short")
    assert get_printoptions() == {**default, "precision": 2, "edgeitems": 2}
    options(profile="full", linewidth=100)
    assert get_printoptions() == {**default, "threshold": inf, "linewidth": 100}
    assert "..." not in repr(torch.zeros(1500))
    options(profile="default")
    assert get_printoptions() == default


def test_suffixes_and_prefix():
    a = np.zeros(2, np.float32)
    assert tensor_text(a, torch.float32, "cuda:1") == "tensor([0., 0.], device='cuda:1')"
    assert tensor_text(a, torch.float32, None, "Foo", True) == "tensor([0., 0.], grad_fn=<Foo>)"
    assert tensor_text(a, torch.float32, prefix="Sub(") == "Sub([0., 0.])"
    assert tensor_text(np.zeros((2, 2), "f4"), torch.float32, prefix="Sub(") == (
        "Sub([[0., 0.],\n     [0., 0.]])")
    assert tensor_text(a[:0], torch.int64, "cuda:0") == (
        "tensor([], device='cuda:0', dtype=torch.int64)")


@pytest.mark.parametrize("length", range(9, 15))
def test_a_suffix_goes_to_a_new_line_where_pytorch_breaks(length):
    text = tensor_text(np.zeros(12, "f4"), torch.float32, None, "F" * length)
    assert ("\n" in text) == (length > 11)


def test_default_dtype_needs_no_suffix():
    torch.set_default_dtype(torch.float64)
    try:
        assert repr(torch.tensor([1.5])) == "tensor([1.5000])"
        assert repr(torch.zeros(1, dtype=torch.float32)) == "tensor([0.], dtype=torch.float32)"
        assert repr(torch.tensor([], dtype=torch.float32)) == "tensor([], dtype=torch.float32)"
    finally:
        torch.set_default_dtype(torch.float32)


def test_parameter():
    p = torch.nn.Parameter(torch.tensor([1.5]))
    assert repr(p) == "Parameter containing:\ntensor([1.5000], requires_grad=True)"
