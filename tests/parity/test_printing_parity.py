"""The texts of random tensors of every dtype, shape and magnitude, against PyTorch's."""
from __future__ import annotations

import numpy as np
import pytest

import gpugrad
from gpugrad import dtypes
from gpugrad._printing import tensor_text

torch = pytest.importorskip("torch")

DTYPES = "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 ? c8 c16".split()
OPTIONS = {"precision": [2, 0, 7], "threshold": [5, 50, 10000], "edgeitems": [1, 2, 5],
           "linewidth": [40, 120, 10], "profile": ["default", "short", "full"],
           "sci_mode": [True, False]}


@pytest.fixture(autouse=True)
def plain_options():
    yield
    for library in (torch, gpugrad):
        library.set_printoptions(profile="default")
        library.set_default_dtype(library.float32)


def floats(rng, shape):
    """Numbers of one of the many kinds that decide about the format."""
    kind = rng.integers(6)
    if kind == 0:
        x = rng.normal(size=shape)
    elif kind == 1:
        x = rng.normal(size=shape) * 10.0 ** rng.integers(-9, 12)
    elif kind == 2:
        x = 10.0 ** rng.uniform(-6, 9, size=shape)
    elif kind == 3:
        x = rng.integers(-5, 10 ** int(rng.integers(1, 10)), size=shape)
    elif kind == 4:
        x = np.zeros(shape)
    else:
        x = rng.random(size=shape) * 10.0 ** rng.integers(-5, 9)
    x = np.array(x, np.float64)
    if rng.random() < 0.3:
        special = np.array([np.nan, np.inf, -np.inf, -0.0, 1.0])
        x = np.where(rng.random(shape) < 0.4, special[rng.integers(5, size=shape)], x)
    return x


def random_array(rng):
    dtype = np.dtype(rng.choice(DTYPES))
    ndim = rng.choice([0, 1, 1, 1, 2, 2, 2, 3, 4])
    lengths = [0, 1, 2, 3, 5, 6, 7, 8, 13, 40, 200] if ndim < 3 else [0, 1, 2, 3, 7, 9]
    shape = tuple(int(n) for n in rng.choice(lengths, ndim))
    if ndim == 1 and rng.random() < 0.1:
        shape = (int(rng.choice([999, 1000, 1001, 1500])),)
    with np.errstate(all="ignore"):
        if dtype.kind == "f":
            return floats(rng, shape).astype(dtype)
        if dtype.kind == "c":
            return (floats(rng, shape) + 1j * floats(rng, shape)).astype(dtype)
    if dtype.kind == "b":
        return np.array(rng.random(shape) < 0.5)
    limits, most = np.iinfo(dtype), int(rng.choice([10, 1000, 10**6, 2**62]))
    low, high = max(limits.min, -most), min(limits.max, most)
    return np.array(rng.integers(low, high, size=shape, dtype=dtype, endpoint=True))


def both(name, *args, **kw):
    for library in (torch, gpugrad):
        getattr(library, name)(*args, **kw)


@pytest.mark.parametrize("seed", range(600))
def test_random_tensor(seed):
    rng = np.random.default_rng(seed)
    options = {}
    if seed % 2:
        options = {name: rng.choice(values).item() for name, values in OPTIONS.items()
                   if rng.random() < 0.4}
    both("set_printoptions", **options)
    for library in (torch, gpugrad):
        library.set_default_dtype(library.float64 if seed % 5 == 0 else library.float32)
    a = np.array(random_array(rng))
    t = torch.from_numpy(a.copy())
    if t.is_floating_point() and rng.random() < 0.4:
        t.requires_grad_()
        if rng.random() < 0.5:
            t = t * 1
    a = t.detach().numpy()
    node = t.grad_fn.name() if t.grad_fn else None
    assert tensor_text(a, dtypes.OF[a.dtype], None, node, t.requires_grad) == repr(t)


def test_options_are_pytorchs():
    assert gpugrad._printing.get_printoptions() == torch._tensor_str.get_printoptions()
