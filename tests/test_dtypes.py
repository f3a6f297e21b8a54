"""dtypes: their properties and the dtype of results."""
import copy
import pickle

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import dtypes


def test_properties():
    assert repr(torch.float32) == "torch.float32" and torch.float is torch.float32
    assert torch.double is torch.float64 and torch.half is torch.float16
    assert torch.long is torch.int64
    assert torch.float16.is_floating_point and not torch.int8.is_floating_point
    assert torch.complex64.is_complex and torch.complex64.to_real() is torch.float32
    assert torch.float64.to_complex() is torch.complex128
    assert torch.int8.is_signed and not torch.uint8.is_signed and not torch.bool.is_signed
    sizes = [d.itemsize for d in (torch.bool, torch.int16, torch.float32, torch.float64)]
    assert sizes == [1, 2, 4, 8]


def test_one_object_each():
    for d in dtypes.ALL:
        assert pickle.loads(pickle.dumps(d)) is d and copy.deepcopy(d) is d


def test_a_dtype_of_numpy_that_was_pickled():
    """It equals the one there was, but is another object."""
    foreign = pickle.loads(pickle.dumps(np.ones(2, np.float32)))
    x = torch.from_numpy(foreign)
    be = x._be
    assert be.number[7.0625, foreign.dtype].dtype is be.zero[foreign.dtype].dtype is x._a.dtype
    assert (torch.ones(2) * 7.0625).tolist() == (x * 7.0625).tolist() == [7.0625, 7.0625]


@pytest.mark.parametrize("a, b, result", [
    (torch.int8, torch.int64, torch.int64), (torch.uint8, torch.int8, torch.int16),
    (torch.bool, torch.uint8, torch.uint8), (torch.int64, torch.float16, torch.float16),
    (torch.float16, torch.float32, torch.float32), (torch.float32, torch.float64, torch.float64),
    (torch.float64, torch.complex64, torch.complex128), (torch.int32, torch.int16, torch.int32),
])
def test_promotion_of_tensors(a, b, result):
    x, y = torch.ones(2, dtype=a), torch.ones(2, dtype=b)
    assert (x + y).dtype is result and (y * x).dtype is result


@pytest.mark.parametrize("d, number, result", [
    (torch.int32, 2, torch.int32), (torch.int32, 2.0, torch.float32),
    (torch.float16, 2, torch.float16), (torch.float16, 2.0, torch.float16),
    (torch.bool, True, torch.bool), (torch.bool, 1, torch.int64),
    (torch.float64, 1j, torch.complex128), (torch.uint8, -1.5, torch.float32),
])
def test_promotion_with_numbers(d, number, result):
    assert (torch.ones(2, dtype=d) * number).dtype is result


def test_zero_dim_tensors_are_outranked():
    x = torch.ones(2, dtype=torch.float32)
    assert (x + torch.tensor(1.0, dtype=torch.float64)).dtype is torch.float32
    assert (torch.ones(2, dtype=torch.int32) + torch.tensor(1.0)).dtype is torch.float32
    assert (torch.ones(2, dtype=torch.int8) + torch.tensor(100)).dtype is torch.int8


def test_division_of_integers_is_floating():
    x = torch.tensor([1, 2])
    assert (x / 2).dtype is torch.float32 and (x / x).dtype is torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert (x / 2).dtype is torch.float64 and torch.tensor([0.5]).dtype is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_default_dtype_must_be_floating():
    with pytest.raises(TypeError, match="floating-point"):
        torch.set_default_dtype(torch.int64)
    with pytest.raises(TypeError, match="dtype must be"):
        torch.set_default_dtype("float32")


def test_limits():
    assert torch.finfo(torch.float32).eps == np.finfo(np.float32).eps
    assert torch.finfo().max == np.finfo(np.float32).max
    assert torch.iinfo(torch.int8).min == -128 and torch.iinfo(torch.uint8).max == 255
    with pytest.raises(TypeError, match="iinfo"):
        torch.finfo(torch.int32)
    with pytest.raises(TypeError, match="finfo"):
        torch.iinfo(torch.float32)
