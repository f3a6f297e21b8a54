"""The stand-in's arrays behave as CuPy's do where those differ from NumPy's."""
from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gpugrad.cudasim import cupy as cp
from gpugrad.cudasim import cupyx, state
from gpugrad.cudasim.cupyx.scipy import special


@pytest.fixture(autouse=True)
def counts() -> Iterator[Any]:
    state.reset()
    yield state.counts


@pytest.fixture
def h() -> Any:
    return np.arange(6, dtype="f4").reshape(2, 3)


@pytest.fixture
def x(h: Any) -> Any:
    return cp.asarray(h)


# Opaque ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("look", [
    np.asarray, np.array, lambda x: np.zeros((2, 3)).__setitem__(..., x), memoryview,
    lambda x: np.testing.assert_allclose(x, x), lambda x: np.frombuffer(x, "f4"),
    lambda x: np.ones((2, 3)).__iadd__(x), lambda x: range(x[0, 0]),
])
def test_numpy_cannot_look_inside(x: Any, look: Any) -> None:
    with pytest.raises(TypeError):
        look(x)
    assert not isinstance(x, np.ndarray)


def test_the_text_of_the_refusal(x: Any) -> None:
    with pytest.raises(TypeError, match=r"Implicit conversion to a NumPy array is not allowed\. "
                       r"Please use `\.get\(\)` to construct a NumPy array explicitly\."):
        np.asarray(x)


@pytest.mark.parametrize("f", [
    lambda x, h: x + h, lambda x, h: h + x, lambda x, h: cp.add(x, h), lambda x, h: x @ h.T,
    lambda x, h: cp.concatenate([x, h]), lambda x, h: np.concatenate([x, h]),
    lambda x, h: cp.where(x > 0, x, h), lambda x, h: cp.maximum(h, x), lambda x, h: x == h,
    lambda x, h: operator.iadd(x, h), lambda x, h: cp.add(x, x, out=h),
    lambda x, h: cp.add([1, 2, 3], x), lambda x, h: np.add(x, x, out=h),
    lambda x, h: cp.einsum("ij,ij->i", x, h), lambda x, h: cp.dot(x, h.T),
    lambda x, h: x.take(h[0].astype(int)),
])
def test_host_arrays_do_not_mix(x: Any, h: Any, f: Any) -> None:
    with pytest.raises(TypeError, match=r"Unsupported type|Output arguments must be cupy\.ndarray|"
                                        r"no implementation found"):
        f(x, h)


def test_host_arrays_are_not_assigned(x: Any, h: Any) -> None:
    for key in (..., slice(None), 0, (slice(None), 1)):
        with pytest.raises(ValueError, match=r"non-scalar numpy\.ndarray cannot be used for fill"):
            x[key] = h
    x[0] = np.float64(3)
    x[1, 2] = np.array(4)
    assert x.tolist() == [[3, 3, 3], [3, 4, 4]]


# What NumPy's functions return -------------------------------------------------------------------

def test_results_are_always_device_arrays(x: Any) -> None:
    for r in (x.sum(), x[0, 0], cp.max(x), x.mean(), cp.allclose(x, x), cp.array_equal(x, x),
              np.exp(x), np.float32(2) * x, x.sum() + 1, np.add(x, x), np.concatenate([x, x]),
              x > 0, cp.any(x), x.argmax(), cp.linalg.norm(x), np.linalg.norm(x)):
        assert type(r) is cp.ndarray
    assert x.sum().shape == () and cp.allclose(x, x).dtype == bool


def test_an_element_is_a_view(x: Any) -> None:
    element = x[1, 2]
    element += 10
    assert x[1, 2].item() == 15
    x.diagonal()[...] = 0
    assert x[0, 0].item() == x[1, 1].item() == 0


def test_dtypes(x: Any) -> None:
    assert (x * 2).dtype == (x * 2.5).dtype == (x + True).dtype == np.float32
    assert (x * np.float64(2)).dtype == np.float64
    assert cp.arange(3).sum().dtype == np.int64 and (cp.arange(3) / 2).dtype == np.float64
    half = cp.full((3000,), 1.0, np.float16)
    assert half.sum().item() == 3000 and half.sum().dtype == np.float16
    assert (half @ half).item() == 3000 and cp.einsum("i,i->", half, half).item() == 3000
    assert cp.add.reduce(half).item() == 3000
    for dtype in (object, "U3", "M8[s]", np.longdouble):
        with pytest.raises(TypeError, match="Unsupported dtype"):
            cp.empty(2, dtype)
    with pytest.raises(ValueError, match="Unsupported dtype object"):
        cp.array([object()])


def test_memory_that_was_not_written(x: Any) -> None:
    for dtype in ("f2", "f4", "f8", "c8"):
        assert np.isnan(cp.empty((3, 2), dtype).get()).all()
        assert np.isnan(cp.empty_like(x.T, dtype).get()).all()
    assert (cp.empty(4, "i8").get() < -1 << 50).all() and (cp.empty(4, "u1").get() == 0xfb).all()
    assert np.isnan(cp.ndarray((2,), "f4").get()).all()


def test_new_memory_is_aligned_as_cudas() -> None:
    for n in (1, 3, 1000):
        assert cp.empty(n, "u1").data.ptr % 256 == 0 and cp.cuda.alloc(n).ptr % 256 == 0


def test_views_share_memory(x: Any) -> None:
    for v in (x.T, x.reshape(3, 2), x[:, 1:], x.ravel(), cp.broadcast_to(x, (4, 2, 3)), x.view(),
              cp.moveaxis(x, 0, 1), cp.flip(x), x[None], cp.split(x, 3, 1)[1], x.squeeze(),
              cp.expand_dims(x, 0), x.view("c8").real if x.shape[1] % 2 == 0 else x.T):
        assert v._block is x._block and v.base is x
    strided = cp.lib.stride_tricks.as_strided(x, (3,), (8,))
    assert strided._block is x._block and strided.base is None and x.real is x
    for c in (x.copy(), x.flatten(), x.T.ravel(), x[[0, 1]], x + 0, x.T.reshape(6)):
        assert c._block is not x._block
    assert x.astype("f4", copy=False) is x and cp.asarray(x) is x


# Names and parameters ----------------------------------------------------------------------------

def test_only_what_cupy_has(x: Any) -> None:
    for name in ("vecdot", "geomspace", "nonsense"):
        with pytest.raises(AttributeError, match=name):
            getattr(cp, name)
    with pytest.raises(AttributeError, match=r"NumPy has one, CuPy has none"):
        cp.vecdot       # noqa: B018
    for call in (lambda: cp.sum(x, where=x > 0), lambda: x.sum(where=x > 0),
                 lambda: x.max(initial=0), lambda: cp.zeros(2, like=x), lambda: x.sum(0, None, None,
                                                                                   False, 1)):
        with pytest.raises(TypeError, match=r"unexpected keyword|positional arguments"):
            call()
    with pytest.raises(TypeError, match="Wrong arguments"):
        cp.add(x, x, where=x > 0)
    with pytest.raises(TypeError, match="casting is not supported"):
        x.astype("i4", casting="unsafe")


def test_methods_of_ufuncs(x: Any) -> None:
    assert cp.add.reduce(x, 1).tolist() == [3, 12]
    assert cp.multiply.reduce(x, 0).tolist() == [0, 4, 10]
    assert cp.add.accumulate(x, 1).tolist() == [[0, 1, 3], [3, 7, 12]]
    cp.add.at(x, (cp.array([0, 0]), cp.array([1, 1])), 5)
    assert x[0, 1].item() == 11
    with pytest.raises(NotImplementedError, match=r"`cupy_maximum\.reduce` is not supported yet"):
        cp.maximum.reduce(x)
    with pytest.raises(NotImplementedError, match=r"`cupy_multiply\.at`"):
        cp.multiply.at(x, 0, 1)
    assert cp.add.nin == 2 and cp.add.nout == 1 and "ff->f" in cp.add.types


def test_arguments_by_position_are_cupys(x: Any) -> None:
    assert cp.argmax(x, 1, None, None, True).tolist() == [[2], [2]]
    assert cp.clip(x, 1, 4).tolist() == [[1, 1, 2], [3, 4, 4]]
    assert cp.sum(x, 0, "f8").dtype == np.float64
    out = cp.empty(3, "f4")
    assert cp.sum(x, 0, out=out) is out and out.tolist() == [3, 5, 7]
    assert cp.add(x, 1, x) is x and x[0, 0].item() == 1


def test_what_the_stand_in_lacks_is_named() -> None:
    with pytest.raises(NotImplementedError, match="RawModule"):
        cp.ElementwiseKernel("T x", "T y", "y = x", "k")
    for name in ("testing", "typing"):
        with pytest.raises(NotImplementedError, match=f"cupy.{name} is in CuPy, but not in its"):
            getattr(cp, name)


def test_random_numbers() -> None:
    cp.random.seed(3)
    a = cp.random.rand(2, 3)
    cp.random.seed(3)
    assert (cp.random.random((2, 3)) == a).all() and a.dtype == np.float64
    assert cp.random.randn(4, dtype="f4").dtype == np.float32
    assert sorted(cp.random.permutation(5).tolist()) == [0, 1, 2, 3, 4]
    r = cp.random.default_rng(0)
    assert 0 <= int(r.integers(3)) < 3 and r.random(5, "f4").dtype == np.float32


# Host reads and copies ---------------------------------------------------------------------------

READS = [float, int, bool, lambda x: x.item(), lambda x: x.get(), lambda x: x.tolist(), repr, str,
         cp.asnumpy, lambda x: f"{x:.1f}", complex]


@pytest.mark.parametrize("read", READS)
def test_reads_are_counted(read: Any, counts: Any) -> None:
    x = cp.ones(())
    read(x)
    assert (counts.syncs, counts.d2h) == (1, 1)
    state.reset()
    with cupyx.allow_synchronize(False), pytest.raises(cupyx.DeviceSynchronized,
                                                       match=r"test_standin_arrays\.py:\d+"):
        read(x)


@pytest.mark.parametrize("f", [
    lambda x: x[x > 2], lambda x: x.nonzero(), lambda x: cp.unique(x), lambda x: cp.argwhere(x),
    lambda x: cp.where(x > 1), lambda x: cp.flatnonzero(x),
])
def test_results_of_unknown_size_wait(x: Any, f: Any, counts: Any) -> None:
    state.reset()
    f(x)
    assert counts.syncs == 1 and counts.d2h == counts.h2d == 0


def test_work_on_the_device_is_not_counted(x: Any, counts: Any) -> None:
    state.reset()
    y = x * 2
    y[0, 1:] = x[1, :2]
    cp.where(x > 1, x, y).sum().reshape(1)
    cp.zeros(3), cp.full(3, 2.5), cp.arange(4), cp.eye(2)
    x.fill(3)
    assert counts == state.Stats()


def test_host_data_is_counted(h: Any, counts: Any) -> None:
    x = cp.asarray(h)
    cp.array([1, 2, 3])
    x.set(h)
    x[[0, 1]]
    assert counts.h2d == 4
    for wrong, error in ((h.T, ValueError), (h.astype("f8"), TypeError), ([1], TypeError)):
        with pytest.raises(error):
            x.set(wrong)
    with pytest.raises(RuntimeError, match="non-contiguous"):
        x[:, ::2].set(h[:, ::2])
    assert (x.get(order="F") == h).all() and x.get(out=np.empty_like(h)).base is None


def test_setting_and_indexing(x: Any) -> None:
    y = x.copy()
    y[cp.array([1, 0])] = x
    assert (y == x[::-1]).all()
    y[x > 2] = -1
    assert y.tolist() == [[3, 4, 5], [-1, -1, -1]]
    assert x[cp.array(1)].tolist() == [3, 4, 5] and x[1:, cp.array([0, 0])].tolist() == [[3, 3]]
    assert x[np.int64(1), -1].item() == 5 and x[..., None].shape == (2, 3, 1)
    cp.put_along_axis(y, cp.array([[1], [2]]), cp.array([[9.0], [8.0]]), 1)
    assert y.tolist() == [[3, 9, 5], [-1, -1, 8]]
    assert len(x) == 2 and [r.tolist() for r in x] == x.tolist()


def test_special_functions() -> None:
    x = cp.array([-1.0, 0.0, 0.5], "f4")
    assert special.erf(x).dtype == np.float32
    assert special.erf(x).get() == pytest.approx([-0.8427008, 0, 0.5204999])
    assert special.expit(x).get() == pytest.approx(1 / (1 + np.exp([1, 0, -0.5])))
    assert special.gammaln(cp.array([5.0])).item() == pytest.approx(np.log(24))
    assert cupyx.rsqrt(cp.array([4.0])).item() == 0.5
