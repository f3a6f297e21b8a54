"""torch.testing: assert_close with its messages, and make_tensor."""
from __future__ import annotations

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.testing import assert_allclose, assert_close, make_tensor

NAN, INF = float("nan"), float("inf")


def test_close(device):
    t = torch.tensor([1.0, 2.0], device=device)
    assert_close(t, t + 1e-6)
    assert_close(t.clone().requires_grad_(), t)
    assert_close(t, t.double(), check_dtype=False)
    assert_close([t, (1, {"a": None})], [t.clone(), (1, {"a": None})])
    assert_close(1.0, 1.0 + 1e-9)
    assert_close(np.float32(1), np.float32(1))
    assert_close(np.array([1.0]), np.array([1.0]))
    assert_close(t * NAN, t * NAN, equal_nan=True)
    assert_close(NAN, NAN, equal_nan=True)
    assert_close(t * INF, t * INF)
    assert_close(torch.nn.Parameter(t), t)
    assert_close(torch.empty(0), torch.empty(0))
    assert_close(t, t.flip(0), rtol=0.0, atol=1.0)
    assert_close(t.half(), t.half() * 1.0005)


@pytest.mark.gpu
def test_devices():
    t = torch.ones(2)
    with pytest.raises(AssertionError, match="'device' do not match: cuda:0 != cpu"):
        assert_close(t.cuda(), t)
    assert_close(t.cuda(), t, check_device=False)


MESSAGES = [
    (lambda t: (t([1.0, 2, 3]), t([1.0, 2, 4])), {}, AssertionError,
     "Tensor-likes are not close!\n\nMismatched elements: 1 / 3 (33.3%)\n"
     "Greatest absolute difference: 1.0 at index (2,) (up to 1e-05 allowed)\n"
     "Greatest relative difference: 0.25 at index (2,) (up to 1.3e-06 allowed)"),
    (lambda t: (t(1.0), t(2.0)), {}, AssertionError,
     "Scalars are not close!\n\nExpected 2.0 but got 1.0.\n"
     "Absolute difference: 1.0 (up to 1e-05 allowed)\n"
     "Relative difference: 0.5 (up to 1.3e-06 allowed)"),
    (lambda t: (t([[1, 2], [3, 4]]), t([[1, 2], [3, 5]])), {}, AssertionError,
     "Tensor-likes are not equal!\n\nMismatched elements: 1 / 4 (25.0%)\n"
     "Greatest absolute difference: 1 at index (1, 1)\n"
     "Greatest relative difference: 0.20000000298023224 at index (1, 1)"),
    (lambda t: (t([2 ** 62]), t([2 ** 62 + 1])), {}, AssertionError,
     "Tensor-likes are not equal!\n\nMismatched elements: 1 / 1 (100.0%)\n"
     "Greatest absolute difference: 1 at index (0,)\n"
     "Greatest relative difference: 2.168404344971009e-19 at index (0,)"),
    (lambda t: (t([1.0, NAN]), t([1.0, 2.0])), {}, AssertionError,
     "Tensor-likes are not close!\n\nMismatched elements: 1 / 2 (50.0%)\n"
     "Greatest absolute difference: nan at index (1,) (up to 1e-05 allowed)\n"
     "Greatest relative difference: nan at index (1,) (up to 1.3e-06 allowed)"),
    (lambda t: (t([1.0, 2]), t([1.0, 2, 3])), {}, AssertionError,
     "The values for attribute 'shape' do not match: torch.Size([2]) != torch.Size([3])."),
    (lambda t: (t([1]), t([1.0])), {}, AssertionError,
     "The values for attribute 'dtype' do not match: torch.int64 != torch.float32."),
    (lambda t: (t([[1.0, 2]]).t(), t([[1.0], [2.0]])), {"check_stride": True}, AssertionError,
     "The values for attribute 'stride()' do not match: (1, 2) != (1, 1)."),
    (lambda t: (1, 2), {}, AssertionError, "Scalars are not equal!\n\nExpected 2 but got 1.\n"
     "Absolute difference: 1\nRelative difference: 0.5"),
    (lambda t: (1, 1.0), {}, AssertionError,
     "The (d)types do not match: <class 'int'> != <class 'float'>."),
    (lambda t: (True, False), {}, AssertionError, "Booleans mismatch: True is not False"),
    (lambda t: (None, 1.0), {}, AssertionError, "None mismatch: None is not 1.0"),
    (lambda t: ([1], [1, 2]), {}, AssertionError, "The length of the sequences mismatch: 1 != 2"),
    (lambda t: ({"a": 1}, {"b": 1}), {}, AssertionError,
     "The keys of the mappings do not match:\nMissing keys in the actual mapping: ['b']\n"
     "Additional keys in the actual mapping: ['a']"),
    (lambda t: ((1, [1, {"x": 3}]), (1, [1, {"x": 4}])), {}, AssertionError,
     "Scalars are not equal!\n\nExpected 4 but got 3.\nAbsolute difference: 1\n"
     "Relative difference: 0.25\n\nThe failure occurred for item [1][1]['x']"),
    (lambda t: (1, 2), {"msg": "why"}, AssertionError, "why"),
    (lambda t: (True, False), {"msg": lambda m: "> " + m}, AssertionError,
     "> Booleans mismatch: True is not False"),
    (lambda t: ("a", "a"), {}, TypeError, "No comparison pair was able to handle inputs of type "
     "<class 'str'> and <class 'str'>."),
    (lambda t: (0.0, 1.0), {"rtol": 0.1}, ValueError,
     "Both 'rtol' and 'atol' must be either specified or omitted, but got no atol."),
]


@pytest.mark.parametrize("case", range(len(MESSAGES)))
def test_messages(case):
    make, options, error, text = MESSAGES[case]
    with pytest.raises(error) as caught:
        assert_close(*make(torch.tensor), **options)
    assert str(caught.value) == text


def test_what_goes_together():
    t = torch.ones(1)
    for other in (np.ones(1, np.float32), [1.0], 1.0):
        with pytest.raises(TypeError, match="No comparison pair"):
            assert_close(t, other)
    with pytest.raises(TypeError, match="No comparison pair"):
        assert_close(torch.nn.Parameter(t), t, allow_subclasses=False)
    assert_allclose(t, [1.0])
    with pytest.raises(AssertionError):
        assert_allclose(t, [1.1])


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool", "complex64"])
def test_make_tensor(dtype, device):
    dtype = getattr(torch, dtype)
    t = make_tensor(20, 3, dtype=dtype, device=device)
    assert t.shape == (20, 3) and t.dtype is dtype and t.device.type == device
    gaps = make_tensor((4, 3), dtype=dtype, device=device, noncontiguous=True)
    assert gaps.stride() == (6, 2) and gaps.shape == (4, 3)
    if not dtype.is_complex and dtype is not torch.bool:
        v = t.double()
        assert v.min().item() >= (0 if dtype is torch.uint8 else -9) and v.max().item() <= 9
        assert v.max().item() > 2
        some = make_tensor(100, dtype=dtype, device=device, low=0, high=2, exclude_zero=True)
        assert (some != 0).all() and some.double().max().item() <= 2


def test_make_tensor_errors():
    with pytest.raises(ValueError, match="`requires_grad=True` is not supported for boolean"):
        make_tensor(1, dtype=torch.int64, device="cpu", requires_grad=True)
    with pytest.raises(ValueError, match="mutually exclusive"):
        make_tensor(1, dtype=torch.float32, device="cpu", noncontiguous=True,
                    memory_format=torch.contiguous_format)
    with pytest.raises(ValueError, match="`low` must be less than `high`"):
        make_tensor(1, dtype=torch.float32, device="cpu", low=2, high=1)
    assert make_tensor(2, dtype=torch.float32, device="cpu", requires_grad=True).requires_grad
