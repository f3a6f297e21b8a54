"""Memory shared with other libraries: DLPack, __cuda_array_interface__, __array_interface__."""
from __future__ import annotations

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.utils.dlpack import from_dlpack, to_dlpack


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
