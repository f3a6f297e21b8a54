"""The backend on the real CuPy as far as it goes without a GPU: arrays over host memory."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpugrad.backend import cuda
from gpugrad.backend.cuda import CudaBackend, Guarded
from gpugrad.device import device


@pytest.fixture
def cupy(no_cuda: None) -> Any:
    """The real one, whatever else stands in for it."""
    return pytest.importorskip("cupy")


@pytest.fixture
def be(cupy: Any) -> CudaBackend:
    return CudaBackend(device("cuda:0"), cupy)


@pytest.fixture
def host() -> Any:
    return np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.fixture
def a(host: Any, cupy: Any) -> Any:
    """A CuPy array whose memory is that of a NumPy array: fit for looking at, not for work."""
    memory = cupy.cuda.UnownedMemory(host.ctypes.data, host.nbytes, host, device_id=0)
    return cupy.ndarray(host.shape, host.dtype, cupy.cuda.MemoryPointer(memory, 0))


def test_views_and_addresses(be: CudaBackend, a: Any, host: Any) -> None:
    assert isinstance(a, be.ndarray) and be.asarray(a) is a
    assert be.address(a[1, 1:]) == host[1, 1:].ctypes.data
    assert be.is_contiguous(a) and not be.is_contiguous(a.transpose(0, 2, 1))
    assert be.is_dense(a.T) and not be.is_dense(a.transpose(0, 2, 1)[:, :2])
    assert be.expand(a[0, 0, 0], (5, 6)).strides == (0, 0)
    assert be.diagonal(a, 0, 1, 2).strides == np.diagonal(host, 0, 1, 2).strides
    assert a.data.device_id == 0 and a[1].base is not None


def test_kernels_check_the_arrays(be: CudaBackend, a: Any) -> None:
    assert be.kernels.take(a.dtype) and not be.kernels.take(np.dtype("i4"))
    with pytest.raises(ValueError, match="reads arrays in C order"):
        be.launch("f", "k", (1,), (1,), (a, np.int64(3), a.T), a.dtype)
    with pytest.raises(TypeError, match=r"not float 1\.5"):
        be.launch("f", "k", (1,), (1,), (a, 1.5), a.dtype)


def test_structs_go_without_their_fields(be: CudaBackend, a: Any) -> None:
    seen = []
    be.kernels._functions["f", "k", a.dtype, False] = lambda grid, block, args: seen.append(args)
    struct = np.array((3, (4.5, 6)), [("i", "i4"), ("pair", [("x", "f8"), ("n", "i8")])])
    be.launch("f", "k", (1,), (1,), (a, struct, np.int64(3)), a.dtype)
    [(first, plain, number)] = seen
    assert first is a and number == 3 and plain.dtype == np.dtype("V20") and plain.shape == ()
    assert plain.tobytes() == struct.tobytes()


def test_a_failing_compilation_is_reported(be: CudaBackend, a: Any) -> None:
    if cuda.usable()[0]:
        pytest.skip("here it would not fail")
    with pytest.raises(RuntimeError, match=r"activation\.relu could not be compiled for cuda:0 "
                       r"with -std=c\+\+17 .*\n.*cudaError"):
        be.launch("activation", "relu", (1,), (256,), (a, a, np.int64(24)), a.dtype)


def test_guarded_names(a: Any, cupy: Any) -> None:
    class Runtime:
        def getDevice(self) -> int:
            return 0
    xp = Guarded(cupy, Runtime(), 0)
    assert xp.ndarray is cupy.ndarray and xp.float32 is cupy.float32 and xp.newaxis is None
    assert xp.reshape(a, (6, 4)).shape == (6, 4) and xp.lib.stride_tricks.as_strided
    assert xp.add.nin == 2
