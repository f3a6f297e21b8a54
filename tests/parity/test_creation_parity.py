"""Tensors made by both libraries from the same arguments: values, dtypes, steps, errors."""
from __future__ import annotations

import warnings

import numpy as np
import pytest

import gpugrad

torch = pytest.importorskip("torch")

GOOD = """
tensor([1, 2.5])|tensor([True, 2])|tensor([True, False])|tensor([1, 2 + 3j])|tensor(1)|tensor(1.5)
tensor(True)|tensor([])|tensor([[]])|tensor([[], []])|tensor(())|tensor([[[]]])|tensor(a)
tensor(np.float32(3))|tensor(np.int16(3))|tensor(np.bool_(True))|tensor([np.float32(3)])
tensor([np.float64(3), 1])|tensor([np.int8(3)])|tensor([a, a])|tensor([a.astype('f4'), a])
tensor([t.tensor(1), t.tensor(2.)])|tensor([t.tensor([1]), t.tensor([2])])|tensor(range(3))
tensor([1., t.tensor(2, dtype=t.float64)])|tensor([1, t.tensor(2, dtype=t.int8)])|tensor((1, 2))
tensor([(1, 2), [3, 4]])|tensor(2**63 - 1)|tensor(-2**63)|tensor(-1, dtype=t.uint8)
tensor([1.5], dtype=t.int64)|tensor(1e300)|tensor([1e300])|tensor([1.], requires_grad=True)
tensor([1], dtype=t.float32, requires_grad=True)|tensor([1.], dtype=float)|tensor([1.], dtype=int)
tensor(np.zeros(2, 'f2'))|tensor(np.zeros(2, 'u4'))|tensor(a[::2])|tensor(1e10, dtype=t.float16)
tensor([1, 2.5], dtype=t.bool)|tensor([-255], dtype=t.uint8)|tensor([-1], dtype=t.uint16)
tensor([2**63], dtype=t.uint64)|tensor(2**64 - 1, dtype=t.uint64)|tensor([2**70], dtype=t.float32)
tensor([2**53 + 1], dtype=t.float64)|tensor(np.array([300]), dtype=t.uint8)
tensor(np.array([1.5, -2.7]), dtype=t.int32)|tensor([float('nan')], dtype=t.bool)
tensor([np.float64(1.5)], dtype=t.float32)|tensor(np.float64(1.5), dtype=t.int64)
tensor([1.5, 2], dtype=t.complex64)|tensor([t.ones(1, 1)])|tensor([[t.tensor(1), 2], [3, 4]])
tensor([np.array([1, 2]), [3, 4]])|tensor([range(2), range(2)])|tensor([2**63 - 1, 1.])
tensor(t.tensor([1.]))|tensor(t.tensor(300), dtype=t.uint8)|tensor([0.1] * 3, dtype=t.float64)
from_numpy(a[::2])|from_numpy(np.array(1.))|from_numpy(np.ones((2, 3)).T)
as_tensor(a)|as_tensor(a, dtype=t.float32)|as_tensor([1, 2])|as_tensor(t.tensor(1))
as_tensor(x, dtype=t.float64)|as_tensor(t.tensor(1., requires_grad=True))|as_tensor(np.float32(2))
asarray([1, 2])|asarray(a, copy=True)|asarray(a, requires_grad=True)|asarray(3)
asarray(1.5, dtype=int)|asarray([1, 2], dtype=t.float32, requires_grad=True)
asarray(t.ones(2, requires_grad=True))
asarray(b'abcd', dtype=t.uint8)|frombuffer(b'abcdefgh', dtype=t.int16, count=2, offset=2)
zeros(2, 3)|zeros((2, 3))|zeros([2, 3])|zeros(())|zeros([])|zeros(t.tensor(2))|zeros(np.int64(2))
zeros(size=(2,))|zeros(2, requires_grad=True)|zeros(2, dtype=int)|zeros(2, layout=t.strided)
zeros(t.tensor(2), 3)|zeros(t.Size([2]))|ones(2, dtype=t.bool)|ones(2, 0, 3)|zeros(2, device='cpu')
full((2,), 3)|full((2,), 3.)|full((2,), True)|full((2,), 1j)|full((2,), t.tensor(3))|full((), 3)
full((2,), t.tensor(3.5))|full((2,), 3, dtype=t.float16)|full((2,), 3.7, dtype=t.int64)
full((2,), np.float32(3))|full([2, 2], float('nan'))|full(size=(1,), fill_value=2)
full((2,), 1.5, dtype=t.bool)|full((2,), -1, dtype=t.uint8)|full((2,), 1e300, dtype=t.float64)
full((2,), float('inf'))|full((2,), 1 + 0j, dtype=t.float32)|full((2,), -255, dtype=t.uint8)
full((2,), 2**64 - 1, dtype=t.uint64)|full((2,), 1.5, dtype=t.complex64)
zeros_like(t.ones(2, dtype=t.int8))|zeros_like(t.ones(2), dtype=t.int64)
zeros_like(t.ones(2, requires_grad=True))|zeros_like(t.ones(2), requires_grad=True)
ones_like(t.ones(2, 3).t())|ones_like(t.ones(2, 3).t(), memory_format=t.contiguous_format)
ones_like(t.ones(2, 1, 3).expand(2, 4, 3))|ones_like(t.ones(4, 6)[::2, ::2])
ones_like(t.ones(2, 3, 4).permute(2, 0, 1))
ones_like(t.ones(3).expand(4, 3))|ones_like(t.ones(4, 1).expand(4, 3))
ones_like(t.ones(2, 3, 4, 5), memory_format=t.channels_last)
full_like(t.ones(2, dtype=t.int64), 2.5)|full_like(t.ones(2), True)
arange(5)|arange(1, 5)|arange(1, 5, 2)|arange(5.)|arange(0, 1, .3)|arange(5, 1, -1)|arange(5, 5)
arange(5, dtype=t.float16)|arange(2.5, dtype=t.int64)|arange(0.5, 4, 1, dtype=t.int64)
arange(0.5, 4.5, 1.5, dtype=t.int64)|arange(0.5, 4.5, 1.5, dtype=t.int32)|arange(t.tensor(3))
arange(t.tensor(3.))|arange(end=3)|arange(start=1, end=3)|arange(3., requires_grad=True)
arange(300, dtype=t.uint8)|arange(np.int64(3))|arange(np.float32(3))|arange(True)
arange(0, 10, 2.)|arange(0, 2**53 + 2, 2**52)|arange(-3, 3)|arange(10, -10, -3)
linspace(0, 1, 5)|linspace(0, 1, 1)|linspace(0, 1, 0)|linspace(3, 10, steps=5, dtype=t.int64)
linspace(0, 1, 5, dtype=t.float64)|linspace(-10, 10, steps=6, dtype=t.int32)
linspace(t.tensor(0), 1, 3)|linspace(0, 10, 7, dtype=t.float16)|linspace(1, 1, 3)
linspace(0, 255, 4, dtype=t.uint8)|linspace(start=0, end=1, steps=2)|linspace(-1.3, 2.7, 23)
logspace(0, 2, 3)|logspace(0, 2, 3, base=2)|logspace(0, 2, 1)|logspace(0, 2, 0)
logspace(0, 3, 4, dtype=t.int64)|logspace(0, 2, 3, 2.5)
eye(2)|eye(2, 3)|eye(3, 2, dtype=t.int64)|eye(0)|eye(2, dtype=t.bool)|eye(n=2, m=1)
tril_indices(2, 3)|triu_indices(2, 3, 1)|tril_indices(3, 3, -1, dtype=t.int32)|tril_indices(0, 0)
triu_indices(3, 2, -5)|tril_indices(4, 3, 1)|scalar_tensor(3)|scalar_tensor(3, dtype=t.int64)
scalar_tensor(True)|empty_strided((2, 3), (1, 2)).zero_()|empty_strided((2, 2), (1, 10)).zero_()
empty(2, 3, 4, 5, memory_format=t.channels_last).zero_()|empty(0, 2)|empty_like(x).zero_()
x.new_tensor([1, 2])|x.new_tensor([1, 2], dtype=t.int64)|x.new_tensor(3, requires_grad=True)
x.long().new_tensor([1.5])|x.new_tensor(np.zeros(2))|x.new_tensor(t.ones(2, dtype=t.int64))
x.long().new_zeros(2, 3)|x.new_zeros((2,))|x.new_zeros([])|x.new_ones(2, dtype=t.int8)
x.new_full((2,), 3)|x.new_full((2,), 3, dtype=t.int64)|x.new_empty(0, 2)|x.new_full((2,), True)
x.new_zeros(2, requires_grad=True)|x.long().new_full((2,), 2.5)
x.new_empty_strided((2, 3), (1, 2)).zero_()
"""

# Errors: of the same type, and with the same first words.
BAD = """
tensor([[1, 2], [3]])|tensor([[1], [2, 3]])|tensor([1, [2]])|tensor([[1], 2])|tensor([[1, 2], 3])
tensor([[[1, 2], [3]], [[1, 2], [3, 4]]])|tensor('a')|tensor(['a'])|tensor(None)|tensor([None])
tensor([1, None])|tensor({})|tensor({1, 2})|tensor(object())|tensor([object()])|tensor([{}])
tensor(x for x in [1])|tensor(np.array(['a']))|tensor(np.array([None]))|tensor(b'ab')|tensor(2**63)
tensor([2**64])|tensor(300, dtype=t.uint8)|tensor(1e10, dtype=t.int32)|tensor([1, 2, 'a'])
tensor(float('nan'), dtype=t.int64)|tensor([1], requires_grad=True)
tensor([True], requires_grad=True)
tensor([1.], device='foo')|tensor([1.], dtype='float32')|tensor([1.], dtype=np.float32)|tensor(1, 2)
tensor([1.], foo=1)|tensor(np.zeros(2, '>f4'))|tensor(a[::-1])|tensor([1 + 2j], dtype=t.float32)
tensor([300], dtype=t.uint8)|tensor([-300], dtype=t.uint8)|tensor([2**40], dtype=t.int32)
tensor([t.ones(2)])|tensor([t.tensor([1, 2])])|tensor([1e20], dtype=t.int64)
tensor(np.zeros(1, np.longdouble))|from_numpy(a[::-1])|from_numpy([1])|from_numpy(np.float32(1))
from_numpy(np.array(['a']))|from_numpy(np.zeros(2, '>f4'))|from_numpy(np.zeros(2, 'M8[s]'))
as_tensor('a')|as_tensor(a[::-1])|asarray([1, 2], copy=False)
asarray(a, dtype=t.float32, copy=False)|asarray([1], requires_grad=True)|asarray(None)|asarray('a')
asarray(bytearray(b'ab'))
frombuffer(b'abc', dtype=t.int16)|frombuffer(b'ab', dtype=t.int16, offset=2)
zeros()|zeros(-1)|zeros(2, -3)|zeros(2.0)|zeros(2, 3.0)|zeros((2,), 3)|zeros(t.tensor([2, 3]))
zeros(t.tensor(2.))|zeros(True)|zeros(None)|zeros('a')|zeros(2, dtype=t.int64, requires_grad=True)
zeros(2, dtype='f')|zeros(2, device='foo')|zeros(2, memory_format=1)|zeros([2, [3]])|zeros((2, 3.5))
zeros(range(3))|zeros(2**62, 2**62)|zeros((2., 3))|zeros(2., 3)|zeros(3, 'a')|zeros(3, None)
zeros([True])|zeros(2, size=(2,))|zeros(np.array([2, 3]))|empty()|ones()|ones(-1)|empty((2, -1))
empty(2, memory_format=t.preserve_format)|full(2, 3)|full((2,), t.tensor([3., 4]))|full((-2,), 1)
full((2,), 300, dtype=t.uint8)|full((2,), 1e10, dtype=t.float16)|full((2,), 2**40, dtype=t.int32)
full((2,), 'a')|full((2,), None)|full((2,), 1, requires_grad=True)|full((2,), 1e300)
full((2,), 2**63)|full((2,), float('inf'), dtype=t.int64)|full((2,), float('nan'), dtype=t.int32)
full((2,), 1 + 1j, dtype=t.float32)|full((2,), 200, dtype=t.int8)|full((2,), 2**15, dtype=t.int16)
zeros_like([1])|full_like(t.ones(2, dtype=t.uint8), 300)|zeros_like(x, memory_format=3)
full_like(x, 2, memory_format=t.channels_last)|full_like(x, 'a')
arange(1, 5, -1)|arange(5, 1)|arange(0, 1, 0)|arange(float('nan'))|arange(float('inf'))
arange(3, requires_grad=True)|arange(2, dtype=t.bool)|arange('a')|arange(1e20, dtype=t.int64)
arange()|linspace(0, 1, -1)|linspace(0, 1, 3, dtype=t.bool)|linspace(t.ones(2), 1, 3)
logspace(0, 2, -1)|eye(-1)|eye(2, -1)|eye(2.)|tril_indices(-1, 2)
tril_indices(2, 2, dtype=t.float32)|empty_strided((2, 3), (3,))|empty_strided((2,), (-1,))
x.new_zeros()|x.new_zeros(-1)|x.new_empty(-1)|x.new_full((-1,), 2)|x.new_zeros(2.)
"""


def cases(text):
    lines = [line.split("|") for line in text.strip().split("\n")]
    return [expression for line in lines for expression in line]


def evaluate(library, expression):
    place = "" if expression.startswith("x.") else "t."
    names = {"t": library, "np": np, "a": np.arange(3.0), "x": library.ones(2, 3)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return eval(place + expression, names)


@pytest.mark.parametrize("expression", cases(GOOD))
def test_same_tensor(expression):
    want, got = evaluate(torch, expression), evaluate(gpugrad, expression)
    assert repr(got) == repr(want)
    assert str(got.dtype) == str(want.dtype) and got.requires_grad == want.requires_grad
    if want.numel() and "tensor(" not in expression:
        assert got.stride() == want.stride()
    assert np.array_equal(got.detach().numpy(), want.detach().numpy(), equal_nan=True)


@pytest.mark.parametrize("expression", cases(BAD))
def test_same_error(expression):
    with pytest.raises(Exception) as want:
        evaluate(torch, expression)
    with pytest.raises(want.type) as got:
        evaluate(gpugrad, expression)
    a, b = (str(e.value).split("\n")[0].replace("arguments:", "argument:").replace('"', "'")[:40]
            for e in (want, got))
    assert a == b


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int16", "int64"])
def test_sequences(dtype):
    rng = np.random.default_rng(0)
    for _ in range(60):
        start, end = (abs(v) * 10 for v in rng.uniform(-10, 10, 2).tolist())
        steps, step = int(rng.integers(1, 80)), float(rng.uniform(1, 3))
        both = [(t.linspace(start, end, steps, dtype=getattr(t, dtype)).numpy(),
                 t.arange(start, start + 20, step, dtype=getattr(t, dtype)).numpy())
                for t in (torch, gpugrad)]
        assert np.array_equal(both[0][0], both[1][0])
        assert both[0][1].shape == both[1][1].shape
        eps = np.finfo(dtype).eps if dtype.startswith("float") else 0
        np.testing.assert_allclose(both[1][1].astype("f8"), both[0][1].astype("f8"), rtol=eps)
        if dtype.startswith("float"):
            a, b = (t.logspace(start / 100, end / 100, steps, dtype=getattr(t, dtype)).numpy()
                    for t in (torch, gpugrad))
            np.testing.assert_allclose(b.astype("f8"), a.astype("f8"), rtol=2 * eps)
