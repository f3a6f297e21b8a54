"""Memory shared with other libraries: DLPack, __cuda_array_interface__, __array_interface__."""
from __future__ import annotations

import pickle

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.utils.dlpack import from_dlpack, to_dlpack


def test_from_numpy_looks_at_dtype_and_strides():
    pickled = pickle.loads(pickle.dumps(np.ones((2, 3), np.float32)))
    assert pickled.dtype is not np.dtype(np.float32)        # which ops tell from their own
    assert torch.from_numpy(pickled).numpy().dtype is np.dtype(np.float32)
    for a in np.ones(1)[::-1], np.ones((2, 3))[:, ::-1]:
        with pytest.raises(ValueError, match="stride"):
            torch.from_numpy(a)
    with pytest.raises(ValueError, match="byte order"):
        torch.from_numpy(np.ones(3, ">f4"))
    fixed = np.ones((2, 3))
    fixed.flags.writeable = False
    with pytest.warns(UserWarning, match="not writable"):
        torch.from_numpy(fixed)


def test_numpy_both_ways():
    x = torch.arange(6.0).reshape(2, 3)
    for t in (x, x.t(), x[:, 1:], torch.tensor(2.0), torch.zeros(0, 3), torch.ones(2).bool(),
              torch.ones(2, dtype=torch.complex64), torch.ones(2).half()):
        a = np.from_dlpack(t)
        assert a.shape == tuple(t.shape) and a.tolist() == t.tolist()
        back = from_dlpack(a)
        assert back.dtype is t.dtype and back.tolist() == t.tolist()
        if t.numel():
            assert a.ctypes.data == t.data_ptr() == back.data_ptr()
    from_dlpack(np.asarray(x))[0, 0] = 7
    assert x[0, 0] == 7 and np.asarray(x).ctypes.data == x.data_ptr()


@pytest.mark.skipif(tuple(map(int, np.__version__.split(".")[:2])) < (2, 1), reason="no versions")
def test_versions():
    x = torch.ones(3)
    assert "dltensor_versioned" in repr(x.__dlpack__(max_version=(1, 0)))
    assert "dltensor_versioned" not in repr(x.__dlpack__())
    np.from_dlpack(x)[0] = 5                     # the version says that it may be written
    assert x[0] == 5


def test_capsules():
    x = torch.arange(3)
    back = from_dlpack(to_dlpack(x))
    back[0] = 9
    assert x[0] == 9
    with pytest.raises(RuntimeError, match="invalid capsule"):
        from_dlpack(3)


def test_copies_and_devices():
    x = torch.arange(3.0)
    assert np.from_dlpack(x, copy=True).ctypes.data != x.data_ptr()
    assert from_dlpack(x.numpy(), copy=True).data_ptr() != x.data_ptr()
    x.__dlpack__(dl_device=(1, 0))
    with pytest.raises(BufferError, match=r"dl_device=\(2, 0\)"):
        x.__dlpack__(dl_device=(2, 0))
    with pytest.raises(AssertionError, match="stream should be None"):
        x.__dlpack__(stream=1)
    with pytest.raises(BufferError, match="require gradient"):
        torch.ones(1, requires_grad=True).__dlpack__()
    with pytest.raises(BufferError, match="meta"):
        torch.ones(1, device="meta").__dlpack__()


class Foreign:
    """An array of another library that has bfloat16."""

    def __init__(self, t):
        self.t, self.dtype = t, "bfloat16"

    def __dlpack__(self, **kw):
        return self.t.__dlpack__(**kw)

    def __dlpack_device__(self):
        return self.t.__dlpack_device__()


def test_bfloat16():
    pytest.importorskip("ml_dtypes")
    x = torch.tensor([1.0, -2.5, 3e38]).bfloat16()
    for t in (x, x[::2]):
        for source in (Foreign(t), t.__dlpack__()):
            back = from_dlpack(source)
            assert back.dtype is torch.bfloat16 and back.tolist() == t.tolist()
            assert back.data_ptr() == t.data_ptr() and back.stride() == t.stride()
    with pytest.raises((BufferError, RuntimeError, TypeError)):
        np.from_dlpack(x)                        # NumPy can't name the dtype, and says so


@pytest.mark.gpu
def test_cuda_array_interface(monkeypatch):
    x = torch.arange(6.0, device="cuda").reshape(2, 3)
    held = x.__cuda_array_interface__
    assert held["shape"] == (2, 3) and held["typestr"] == "<f4" and held["version"] >= 2
    assert held["data"] == (x.data_ptr(), False)
    array = x._a
    for kw in ({}, {"device": "cuda"}):
        t = torch.as_tensor(array, **kw)
        assert t.device == x.device and t.data_ptr() == x.data_ptr()

    class Other:
        __cuda_array_interface__ = held
    seen = []

    def asarray(obj):
        seen.append(obj)
        return array
    other = Other()
    monkeypatch.setattr(x._be.xp, "asarray", asarray)       # CuPy's takes the interface
    t = torch.as_tensor(other)
    assert t.device == x.device and t.data_ptr() == x.data_ptr() and seen == [other]
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="requires grad"):
        assert x.clone().requires_grad_().__cuda_array_interface__
    with pytest.raises(AttributeError, match="non-CUDA tensor"):
        assert torch.ones(1).__cuda_array_interface__
    assert x.__dlpack_device__() == (2, 0)


def test_jax_both_ways():
    jax = pytest.importorskip("jax")
    jnp, x = jax.numpy, torch.arange(64.0).reshape(8, 8)
    names = "float32 float16 bfloat16 int32 int16 int8 uint32 uint16 uint8 bool complex64".split()
    for name in names:
        t = x.to(getattr(torch, name))
        for view in (t, t.t(), t[2, 3], t[:0]):
            a = jnp.from_dlpack(view)            # a copy, unless the memory begins as JAX wants it
            assert str(a.dtype) == name and a.shape == tuple(view.shape)
            assert np.asarray(a).tolist() == view.tolist()
        a = jnp.asarray(np.arange(6).reshape(2, 3), name)
        for back in (from_dlpack(a), torch.as_tensor(a), torch.asarray(a)):
            assert back.dtype is t.dtype and back.data_ptr() == a.unsafe_buffer_pointer()
            assert back.tolist() == np.asarray(a).tolist()
            with pytest.raises(ValueError, match="read-only"):
                back[0, 0] = 1                   # JAX's arrays never change
        copy = torch.tensor(a)
        copy[0, 0] = 1
        assert copy.dtype is t.dtype and a[0, 0] == 0
    assert torch.as_tensor(jnp.ones(3), dtype=torch.int64).dtype is torch.int64


class OfDlpack:
    """An array that can be had by DLPack and no other way."""

    def __init__(self, a):
        self.a = a
        self.__dlpack_device__ = a.__dlpack_device__

    def __dlpack__(self, **kw):
        return self.a.__dlpack__(**kw)


def test_arrays_of_other_libraries_as_tensors():
    a = np.arange(6.0).reshape(2, 3)
    for make in (torch.as_tensor, torch.asarray):
        t = make(OfDlpack(a))
        assert t.data_ptr() == a.ctypes.data and t.tolist() == a.tolist()
        assert make(OfDlpack(a), dtype=torch.float32).dtype is torch.float32
    t = torch.tensor(OfDlpack(a), requires_grad=True)
    assert t.data_ptr() != a.ctypes.data and t.is_leaf and t.dtype is torch.float64
    assert torch.as_tensor(OfDlpack(a), device="meta").is_meta
