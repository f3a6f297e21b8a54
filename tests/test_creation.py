"""Making tensors: from data, of one number, in a row, like another; memory, devices and errors."""
from __future__ import annotations

import math

import numpy as np
import pytest

import gpugrad as torch

A = np.arange(3.0)


@pytest.mark.parametrize("data, dtype", [
    (1, "int64"), (1.5, "float32"), (True, "bool"), (1j, "complex64"), ([], "float32"),
    ([1, 2], "int64"), ([1, 2.5], "float32"), ([True, 2], "int64"), ([True, 0.5], "float32"),
    ([1, 2j], "complex64"), ([[1.0], [2]], "float32"), (range(3), "int64"), ((1, 2), "int64"),
    (A, "float64"), (A.astype("f2"), "float16"), (np.float32(1), "float32"), (np.int8(1), "int8"),
    ([np.float64(1), 2], "float64"), ([np.int16(1)], "int16"), ([A, A], "float64"),
    ([np.float32(1), 2], "float32"), (np.bool_(True), "bool"),
])
def test_dtype_of_data(data, dtype):
    t = torch.tensor(data)
    assert t.dtype is getattr(torch, dtype) and t.is_leaf and not t.requires_grad
    assert t.shape == np.shape(data) and np.array_equal(t.numpy(), np.asarray(data))


def test_default_dtype_is_that_of_floats():
    torch.set_default_dtype(torch.float64)
    try:
        for t in (torch.tensor(1.5), torch.zeros(2), torch.rand(2), torch.arange(2.0),
                  torch.full((1,), 0.5), torch.tensor([])):
            assert t.dtype is torch.float64
        assert torch.tensor(1).dtype is torch.int64
        assert torch.tensor(1j).dtype is torch.complex128
    finally:
        torch.set_default_dtype(torch.float32)


def test_lists_of_tensors():
    assert torch.tensor([torch.tensor(1), torch.tensor(2.5)]).tolist() == [1, 2.5]
    assert torch.tensor([[torch.tensor(1), 2], [3, 4]]).dtype is torch.int64
    assert torch.tensor([1, torch.tensor(2, dtype=torch.int8)]).dtype is torch.int64


def test_tensor_copies_and_from_numpy_shares():
    a = np.arange(3.0)
    copied, shared, as_is, other = (torch.tensor(a), torch.from_numpy(a), torch.as_tensor(a),
                                    torch.as_tensor(a, dtype=torch.float32))
    a[0] = 7
    assert [t[0].item() for t in (copied, shared, as_is, other)] == [0, 7, 7, 0]
    shared[1] = 9
    assert a[1] == 9
    assert torch.from_numpy(np.array(2.0)).shape == ()
    with pytest.warns(UserWarning, match="recommended to use sourceTensor"):
        assert torch.tensor(shared).data_ptr() != shared.data_ptr()


def test_read_only_arrays():
    a = np.arange(3.0)
    a.flags.writeable = False
    with pytest.warns(UserWarning, match="not writable"):
        t = torch.from_numpy(a)
    with pytest.raises(ValueError, match="read-only"):
        t[0] = 1


def test_as_tensor_and_asarray_keep_tensors():
    x = torch.ones(2, requires_grad=True)
    assert torch.as_tensor(x) is x and torch.asarray(x) is x
    assert torch.as_tensor(x * 2, dtype=torch.float64).requires_grad
    assert torch.asarray(x, requires_grad=False).requires_grad is False
    assert torch.asarray(x, copy=True) is not x
    y = torch.asarray([1.0], requires_grad=True)
    assert y.is_leaf and y.requires_grad
    with pytest.raises(ValueError, match="can't alias arbitrary sequence"):
        torch.asarray([1], copy=False)
    with pytest.raises(ValueError, match="can't alias tensor with dtype 'Double'"):
        torch.asarray(A, dtype=torch.float32, copy=False)


def test_buffers():
    b = bytearray(b"\x01\x00\x02\x00\x03\x00")
    t = torch.frombuffer(b, dtype=torch.int16, count=2, offset=2)
    b[2] = 9
    assert t.tolist() == [9, 3]
    assert torch.asarray(b, dtype=torch.uint8).shape == (6,)


@pytest.mark.parametrize("make, value", [
    (torch.zeros, 0), (torch.ones, 1), (torch.empty, None)])
def test_shapes(make, value):
    for sizes in ((2, 3), ((2, 3),), ([2, 3],), (torch.Size([2, 3]),), (np.int64(2), 3),
                  (torch.tensor(2), 3)):
        t = make(*sizes)
        assert t.shape == (2, 3) and t.dtype is torch.float32 and t.is_contiguous()
        assert value is None or (t == value).all()
    assert make(size=(2, 0)).shape == (2, 0) and make(()).shape == ()
    assert make(2, dtype=torch.int16).dtype is torch.int16
    assert make(2, device="cpu", layout=torch.strided, requires_grad=True).requires_grad


def test_full():
    assert torch.full((2,), 3).dtype is torch.int64
    assert torch.full((2,), True).dtype is torch.bool
    assert torch.full([2, 1], 2.5).tolist() == [[2.5], [2.5]]
    assert torch.full((2,), 3.7, dtype=torch.int64).tolist() == [3, 3]
    assert torch.full((1,), -1, dtype=torch.uint8).tolist() == [255]
    assert torch.full((), torch.tensor(3)).item() == 3


def test_memory_order_of_like():
    x = torch.zeros(2, 3, 4).permute(2, 0, 1)
    assert torch.ones_like(x).stride() == (1, 12, 4)
    assert torch.ones_like(x, memory_format=torch.contiguous_format).stride() == (6, 3, 1)
    assert torch.zeros_like(torch.zeros(4, 6)[::2, ::2]).stride() == (3, 1)
    assert torch.empty_like(torch.zeros(2, 1, 3).expand(2, 4, 3)).stride() == (12, 3, 1)
    assert torch.empty(2, 3, 4, 5, memory_format=torch.channels_last).stride() == (60, 1, 15, 3)
    y = torch.full_like(x, 2.5, dtype=torch.int8, requires_grad=False)
    assert y.dtype is torch.int8 and y.shape == x.shape and y.max().item() == 2
    assert not torch.ones_like(torch.ones(2, requires_grad=True)).requires_grad


def test_empty_strided():
    t = torch.empty_strided((2, 3), (1, 2))
    assert t.shape == (2, 3) and t.stride() == (1, 2)
    t.zero_()
    assert torch.empty_strided((2, 2), (1, 10)).stride() == (1, 10)


@pytest.mark.parametrize("expression, values, dtype", [
    ("arange(5)", [0, 1, 2, 3, 4], "int64"),
    ("arange(1, 5, 2)", [1, 3], "int64"),
    ("arange(5, 1, -1)", [5, 4, 3, 2], "int64"),
    ("arange(end=3)", [0, 1, 2], "int64"),
    ("arange(5, 5)", [], "int64"),
    ("arange(0, 10, 2.)", [0, 2, 4, 6, 8], "float32"),
    ("arange(0.5, 4.5, 1.5, dtype=torch.int64)", [0, 1, 2, 3], "int64"),   # each bound is cut off
    ("arange(0, 2**53 + 2, 2**52)", [0, 2**52, 2**53], "int64"),
    ("linspace(0, 1, 5)", [0, 0.25, 0.5, 0.75, 1], "float32"),
    ("linspace(0, 1, 1)", [0], "float32"),
    ("linspace(3, 10, 5, dtype=torch.int64)", [3, 4, 6, 8, 10], "int64"),
    ("logspace(0, 2, 3)", [1, 10, 100], "float32"),
    ("logspace(0, 3, 4, base=2, dtype=torch.float64)", [1, 2, 4, 8], "float64"),
    ("eye(2, 3)", [[1, 0, 0], [0, 1, 0]], "float32"),
    ("eye(2, dtype=torch.bool)", [[True, False], [False, True]], "bool"),
    ("tril_indices(2, 3)", [[0, 1, 1], [0, 0, 1]], "int64"),
    ("triu_indices(2, 3, 1)", [[0, 0, 1], [1, 2, 2]], "int64"),
    ("scalar_tensor(3)", 3, "float32"),
])
def test_numbers_in_a_row(expression, values, dtype):
    t = eval("torch." + expression)
    assert t.tolist() == values and t.dtype is getattr(torch, dtype)


def test_linspace_ends_exactly_at_its_ends():
    for n in range(2, 60):
        t = torch.linspace(-1.3, 2.7, n)
        assert t[0].item() == np.float32(-1.3) and t[-1].item() == np.float32(2.7)


def test_new_methods():
    x = torch.zeros(1, dtype=torch.float64)
    for t in (x.new_tensor([1, 2]), x.new_zeros(2), x.new_ones((2,)), x.new_empty(2),
              x.new_full((2,), True), x.new_empty_strided((2,), (1,))):
        assert t.dtype is torch.float64 and t.shape == (2,)
    assert x.new_tensor(3, dtype=torch.int8, requires_grad=False).dtype is torch.int8
    assert x.new_zeros(2, requires_grad=True).requires_grad
    source = torch.ones(2)
    assert x.new_tensor(source).data_ptr() != source.data_ptr()


def test_made_in_inference_mode():
    with torch.inference_mode():
        assert torch.zeros(2).is_inference() and torch.rand(2).is_inference()
    assert not torch.zeros(2).is_inference()


def test_default_device_is_used():
    with torch.device("cpu"):
        assert torch.zeros(2).device == torch.device("cpu")
    with torch.device("cuda:63"), pytest.raises(RuntimeError, match="CUDA"):
        torch.zeros(2)
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.tensor([1.0], device="cuda:63")


@pytest.mark.parametrize("call, error, text", [
    (lambda: torch.tensor([[1, 2], [3]]), ValueError, r"length 2 at dim 1 \(got 1\)"),
    (lambda: torch.tensor([[1], 2]), TypeError, "not a sequence"),
    (lambda: torch.tensor([1, [2]]), TypeError, "'list' object cannot be interpreted"),
    (lambda: torch.tensor("a"), TypeError, "invalid data type 'str'"),
    (lambda: torch.tensor(["a"]), ValueError, "too many dimensions 'str'"),
    (lambda: torch.tensor([1, None]), RuntimeError, "Could not infer dtype of NoneType"),
    (lambda: torch.tensor({}), RuntimeError, "Could not infer dtype of dict"),
    (lambda: torch.tensor(np.array(["a"])), TypeError, r"np\.ndarray of type numpy\.str_"),
    (lambda: torch.tensor(2**63), ValueError, "Overflow when unpacking long long"),
    (lambda: torch.tensor(300, dtype=torch.uint8), RuntimeError, "type uint8 without overflow"),
    (lambda: torch.tensor(math.nan, dtype=torch.int64), RuntimeError, "without overflow"),
    (lambda: torch.tensor([1j], dtype=torch.float32), TypeError, "not complex"),
    (lambda: torch.tensor([1], requires_grad=True), RuntimeError, "Only Tensors of floating point"),
    (lambda: torch.tensor([1.0], dtype="f4"), TypeError, r"must be torch\.dtype, not str"),
    (lambda: torch.tensor([1.0], device="nowhere"), RuntimeError, "Expected one of cpu, cuda"),
    (lambda: torch.tensor(A[::-1]), ValueError, "negative"),
    (lambda: torch.from_numpy([1]), TypeError, r"expected np\.ndarray \(got list\)"),
    (lambda: torch.from_numpy(A.astype(">f8")), ValueError, "byte order"),
    (lambda: torch.zeros(), TypeError, "missing 1 required positional"),
    (lambda: torch.zeros(-1), RuntimeError, "zeros: Dimension size must be non-negative"),
    (lambda: torch.ones(2, -1), RuntimeError, r"negative dimension -1: \[2, -1\]"),
    (lambda: torch.zeros(2.0), TypeError, r"\(position 1\) must be tuple of ints, not float"),
    (lambda: torch.zeros(2, 3.0), TypeError, "at pos 2 with error .*but got float"),
    (lambda: torch.zeros((2,), 3), TypeError, "takes 1 positional argument but 2 were given"),
    (lambda: torch.zeros(2**62, 2**62), RuntimeError, "Storage size calculation overflowed"),
    (lambda: torch.zeros(2, layout=3), TypeError, "layout"),
    (lambda: torch.ones(2, dtype=torch.int32, requires_grad=True), RuntimeError, "floating point"),
    (lambda: torch.full(2, 3), TypeError, "must be tuple of ints, not int"),
    (lambda: torch.full((2,), "a"), TypeError, "must be Number, not str"),
    (lambda: torch.full((2,), 1e39), RuntimeError, "type float without overflow"),
    (lambda: torch.full((2,), 200, dtype=torch.int8), RuntimeError, "type int8_t without overflow"),
    (lambda: torch.zeros_like([1]), TypeError, "must be Tensor, not list"),
    (lambda: torch.ones_like(torch.ones(2), memory_format=3), TypeError, "memory_format"),
    (lambda: torch.arange(), TypeError, "invalid combination of arguments"),
    (lambda: torch.arange(5, 1), RuntimeError, "inconsistent with step sign"),
    (lambda: torch.arange(0, 1, 0), RuntimeError, "step must be nonzero"),
    (lambda: torch.arange(math.inf), RuntimeError, "unsupported range: 0 -> inf"),
    (lambda: torch.arange(3, dtype=torch.bool), NotImplementedError, "for 'Bool'"),
    (lambda: torch.linspace(0, 1, -1), RuntimeError, "must be non-negative"),
    (lambda: torch.eye(-1), RuntimeError, "n must be greater or equal to 0, got -1"),
    (lambda: torch.empty_strided((2,), (-1,)), RuntimeError, "overflowed"),
    (lambda: torch.zeros(1).new_zeros(-1), RuntimeError, "negative dimension -1"),
])
def test_bad_arguments(call, error, text):
    with pytest.raises(error, match=text):
        call()
