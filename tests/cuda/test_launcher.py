"""The launcher: what is compiled, with which arguments kernels run, and what errors say."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpugrad.backend import cuda, kernels
from gpugrad.backend.cuda import CudaBackend, CudaGenerator
from gpugrad.backend.random import PhiloxGenerator
from gpugrad.device import device
from gpugrad.ops import pool

pytestmark = pytest.mark.gpu

F4, F8, F2 = (np.dtype(d) for d in ("f4", "f8", "f2"))


def device_array(a: Any) -> Any:
    return cuda.needed().asarray(a)


class Noting:
    """CuPy, whose RawModule notes what it is asked for. runs: whether kernels run, too."""

    def __init__(self) -> None:
        self.compiled: list[tuple[str, tuple[str, ...]]] = []
        self.launched: list[tuple[str, Any, Any, tuple[Any, ...]]] = []
        self.fault: Exception | None = None
        self.runs = True

    def RawModule(self, *, code: str, options: tuple[str, ...]) -> Any:
        module = cuda.needed().RawModule(code=code, options=options)

        def function(name: str) -> Any:
            if self.fault:
                raise self.fault
            kernel = module.get_function(name).kernel

            def launch(*args: Any) -> None:
                self.launched.append((name, *args))
                if self.runs:
                    kernel(*args)
            return SimpleNamespace(kernel=launch)
        self.compiled.append((code, options))
        return SimpleNamespace(get_function=function)

    def __getattr__(self, name: str) -> Any:
        return getattr(cuda.needed(), name)


@pytest.fixture
def be(monkeypatch: pytest.MonkeyPatch) -> CudaBackend:
    monkeypatch.setattr(cuda, "_made", {})
    return CudaBackend(device("cuda:0"), Noting())


def test_compiles_once_per_file_and_dtype_at_first_use(be: CudaBackend) -> None:
    x = device_array(np.ones((2, 3), F4))
    assert be.cupy.compiled == []
    for _ in range(3):
        assert be.map("activation", "relu", x).tolist() == x.tolist()
    be.map("activation", "threshold_backward", x, x, numbers=(0.0,))
    assert [options for _, options in be.cupy.compiled] == [("-std=c++17",)]
    be.map("activation", "relu", x.astype(F8))
    be.map("activation", "relu", x.astype(F2))
    assert [flags[1:] for _, flags in be.cupy.compiled] == [(), ("-DFLOAT64",), ("-DFLOAT16",)]
    names = [name for name, *_ in be.cupy.launched]
    assert names == ["relu"] * 3 + ["threshold_backward"] + ["relu"] * 2


def test_arguments_and_grid(be: CudaBackend) -> None:
    x = device_array(np.ones(5000, F4))
    y = be.map("activation", "leaky_relu", x, numbers=(0.1,))
    [(_, grid, block, args)] = be.cupy.launched
    assert (grid, block) == ((5,), (256,))                  # a thread takes 16 bytes at a time
    assert args[0] is x and args[1] is y
    assert type(args[2]) is np.int64 and args[2] == 5000
    assert type(args[3]) is np.float32 and args[3] == np.float32(0.1)
    be.map("activation", "leaky_relu", x.astype(F8), numbers=(0.1,))
    be.map("activation", "leaky_relu", x.astype(F2), numbers=(0.1,))
    assert [grid for _, grid, *_ in be.cupy.launched[1:]] == [(10,), (3,)]
    assert [type(args[3]) for *_, args in be.cupy.launched[1:]] == [np.float64, np.float32]


def test_rows_have_a_warp_or_a_block(be: CudaBackend) -> None:
    be.cupy.runs = False                                    # the arguments aren't relu's
    def launched(rows: int, length: int) -> Any:
        be.kernels.rows("activation", "relu", F4, rows, length, (), np.int32(5))
        _, grid, block, args = be.cupy.launched[-1]
        assert [(type(a), int(a)) for a in args] == [(np.int64, rows), (np.int64, length),
                                                     (np.int32, 5)]
        return grid, block
    assert launched(20, 10) == launched(17, 128) == ((3,), (32, 8))
    assert launched(20, 129) == ((20,), (64, 1))
    assert launched(7, 1000) == ((7,), (256, 1))
    assert launched(7, 1 << 20) == ((7,), (512, 1))
    assert launched(1 << 20, 300) == ((kernels.MAX_BLOCKS,), (128, 1))
    before = len(be.cupy.launched)
    be.kernels.rows("activation", "relu", F4, 0, 10, ())
    assert len(be.cupy.launched) == before


def test_the_grid_is_bounded_and_huge_arrays_have_64_bit_indices(
        be: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.NARROW + kernels.THREADS * kernels.MAX_BLOCKS < 1 << 31
    monkeypatch.setattr(kernels, "MAX_BLOCKS", 12)
    monkeypatch.setattr(kernels, "NARROW", 9999)
    be.map("activation", "relu", device_array(np.ones(9999, F4)))
    be.map("activation", "relu", device_array(np.ones(10000, F4)))
    assert [grid for _, grid, *_ in be.cupy.launched] == [(3,), (3,)]
    assert [flags[1:] for _, flags in be.cupy.compiled] == [(), ("-DWIDE",)]


def test_nothing_is_launched_for_empty_arrays(be: CudaBackend) -> None:
    assert be.map("activation", "relu", device_array(np.ones((0, 3), F4))).shape == (0, 3)
    assert be.im2col(device_array(np.ones((0, 3, 5, 5), F4)), (3, 3), (1, 1), (0, 0),
                     (1, 1)).shape == (0, 27, 9)
    assert be.cupy.launched == be.cupy.compiled == []


def test_arrays_with_gaps_are_copied_first(be: CudaBackend) -> None:
    x = device_array(np.arange(12, dtype=F4).reshape(2, 6))[:, ::2]
    assert be.map("activation", "relu", x).tolist() == x.tolist()
    args = be.cupy.launched[0][3]
    assert args[0].flags.c_contiguous and (args[0] == x).all()


def test_arrays_in_another_order_are_taken_in_theirs(be: CudaBackend) -> None:
    x = device_array(np.arange(6, dtype=F4).reshape(2, 3)).T
    y = be.map("activation", "relu", x)
    assert y.tolist() == x.tolist() and y.strides == x.strides
    assert be.cupy.launched[0][3][0].data.ptr == x.data.ptr


def test_no_kernel_means_not_implemented(be: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    x, i = device_array(np.ones((1, 1, 4, 4), F4)), device_array(np.ones((1, 1, 4, 4), np.int64))
    assert be.map("activation", "relu", i) is NotImplemented
    assert be.map("activation", "threshold_backward", x, x[0]) is NotImplemented
    assert be.map("activation", "threshold_backward", x, x.astype(F8)) is NotImplemented
    two, one, zero = (2, 2), (1, 1), (0, 0)
    pools = [lambda x: pool.maxima(be, "max_pool2d", x, kernels.windows(two, two, two, two)),
             lambda x: pool.pooled(be, "adaptive_avg_pool2d", (x,), (1, 1, 1, 1),
                                   kernels.windows((4, 4), one))]
    assert not be.takes(i.dtype) and be.takes(x.dtype)
    assert all(f(i) is NotImplemented for f in pools)
    assert be.cupy.launched == []

    monkeypatch.setenv("GPUGRAD_KERNELS", "0")
    off = CudaBackend(device("cuda:0"), be.cupy)
    assert off.map("activation", "relu", x) is NotImplemented
    assert all(f(x) is not NotImplemented for f in pools)               # of the first backend
    be.kernels.on = False
    assert all(f(x) is NotImplemented for f in pools)
    cols = off.im2col(x, two, two, zero, one)                           # the portable text
    assert cols.shape == (1, 4, 4) and (off.col2im(cols, x.shape, two, two, zero, one) == x).all()


def launch(be: CudaBackend, *args: Any) -> None:
    be.launch("activation", "relu", (1,), (256,), args, F4)


def test_errors_say_what_was_launched(be: CudaBackend) -> None:
    x = device_array(np.ones((2, 3), F4))
    with pytest.raises(TypeError, match=r"activation\.relu takes .* not int 6"):
        launch(be, x, x, 6)
    with pytest.raises(ValueError, match=r"activation\.relu reads arrays in C order.*\(3, 2\)"):
        launch(be, x.T, x, np.int64(6))

    launch(be, x, x, np.int64(6))
    def refuse(*args: Any) -> None:
        raise RuntimeError("CUDA_ERROR_INVALID_VALUE")
    [key] = be.kernels._functions
    be.kernels._functions[key] = refuse
    with pytest.raises(RuntimeError, match=r"activation\.relu could not be launched on cuda:0 with "
                       r"grid \(1,\), block \(256,\) and \(float32 array \[2, 3\], .*int64 6\): "
                       r"CUDA_ERROR_INVALID_VALUE"):
        launch(be, x, x, np.int64(6))


def test_errors_of_the_compiler_come_with_its_log(be: CudaBackend) -> None:
    be.cupy.fault = RuntimeError("activation.cu(7): error: expected a ';'")
    with pytest.raises(RuntimeError, match=r"(?s)activation\.relu could not be compiled for cuda:0 "
                       r"with -std=c\+\+17.*activation\.cu\(7\): error"):
        be.map("activation", "relu", device_array(np.ones(3, F4)))
    with pytest.raises(RuntimeError, match=r"there is no CUDA kernel file .*nonsense\.cu"):
        be.map("nonsense", "relu", device_array(np.ones(3, F4)))


def test_while_recording_nothing_is_compiled_and_nothing_read(be: CudaBackend) -> None:
    x = device_array(np.ones(3, F4))
    be.map("activation", "relu", x)
    be.capturing = True
    be.map("activation", "relu", x)                         # compiled already
    with pytest.raises(RuntimeError, match="run the step once before recording"):
        be.map("activation", "relu", x.astype(F8))
    with pytest.raises(RuntimeError, match=r"shape \[3\] on cuda:0 is read by the host"):
        be.to_host(x)
    with pytest.raises(RuntimeError, match=r"number 2\.5 is used for the first time"):
        be.scalar(2.5, F4)


def test_numbers_out_of_range_raise(be: CudaBackend) -> None:
    assert be.scalar(3, np.dtype("u1")).dtype == np.uint8
    with pytest.raises(OverflowError):
        be.scalar(300, np.dtype("u1"))


def test_ufuncs_have_the_reductions_that_cupys_lack(be: CudaBackend) -> None:
    h = np.array([[1.0, 5.0], [3.0, 2.0]])
    x = device_array(h)
    assert (be.xp.maximum(x, 2.5).get() == np.maximum(h, 2.5)).all() and be.xp.maximum.nin == 2
    for name in ("maximum", "minimum"):
        ours, numpys = getattr(be.xp, name).reduce, getattr(np, name).reduce
        for how in ((), (None,), ((1,), None, None, True)):
            assert ours(x, *how).tolist() == numpys(h, *how).tolist()
    assert be.xp.logical_and.reduce(x > 1, 1).tolist() == [False, True]
    assert be.xp.logical_or.reduce(x > 3, 1).tolist() == [True, False]
    assert be.xp.asarray is be.cupy.asarray and be.xp.ndarray is be.cupy.ndarray
    with pytest.raises(AttributeError, match="nonsense"):
        be.xp.nonsense          # noqa: B018


def test_seeds_are_kept_for_devices_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_made", {})
    monkeypatch.setattr(cuda, "_seeds", {None: 1})
    cuda.seed(5)
    cuda.seed(-1, 1)
    first, second = (CudaBackend(device(f"cuda:{i}"), Noting()) for i in range(2))
    assert first.generator.initial_seed() == 5
    assert second.generator.initial_seed() == 2**64 - 1
    second.generator.offset = 9
    cuda.seed(7)
    assert first.generator.initial_seed() == second.generator.initial_seed() == 7
    assert second.generator.offset == 0
    with pytest.raises(ValueError):
        cuda.seed(2**64)


def test_the_generator_moves_on_as_the_portable_one(be: CudaBackend) -> None:
    portable = PhiloxGenerator(SimpleNamespace(xp=np), 3)
    ours = CudaGenerator(be, 3)
    for n in (1, 4, 5, 1030):
        ours.words(n)
        name, grid, block, (words, count, state, offset) = be.cupy.launched[-1]
        assert (name, block, count, offset) == ("philox", (256,), n, portable.offset)
        assert grid[0] * block[0] * 4 >= n and words.dtype == np.uint32
        assert type(count) is np.int64 and type(offset) is np.uint64
        assert state.dtype == np.uint64 and state.shape == (2,)
        portable.words(n)
        assert ours.offset == portable.offset
