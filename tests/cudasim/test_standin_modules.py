"""The stand-in's RawModule and RawKernel."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpugrad.cudasim import compiler, errors, state
from gpugrad.cudasim import cupy as cp

pytestmark = pytest.mark.skipif(not compiler.available(), reason="there is no g++")

CODE = r"""
__device__ float factor = 2;
struct Pair { float first, second; };

extern "C" __global__ void scale(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = factor * x[i];
}
extern "C" __global__ void fill(float* y, Pair pair, const float* shift) {
    y[threadIdx.x] = (threadIdx.x % 2 ? pair.second : pair.first) + (shift ? *shift : 0);
}
extern "C" __global__ void whole(float* y, int n) {
    extern __shared__ float s[];
    s[n - 1 - threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
}
template <typename T> __global__ void twice(T* y) { y[threadIdx.x] *= 2; }
"""


@pytest.fixture(scope="module")
def module() -> Any:
    return cp.RawModule(code=CODE)


def test_arguments_of_a_launch(module: Any) -> None:
    x = cp.arange(5, dtype="f4")
    y = cp.empty_like(x)
    state.reset()
    module.get_function("scale")((1,), (32,), (x, y, np.int32(5)))
    assert y.tolist() == [0, 2, 4, 6, 8]
    assert (state.counts.launches, state.counts.compilations) == (1, 1)
    pair = np.array((3, 7), [("first", "f4"), ("second", "f4")])
    fill = module.get_function("fill").kernel
    fill((1,), (4,), (y, pair, None))
    assert y.tolist() == [3, 7, 3, 7, 8]
    fill((1,), (2,), (y.data + 4, pair[()], x[2:]))         # from the second element on
    assert y.tolist() == [3, 5, 9, 7, 8]


def test_arguments_that_are_refused(module: Any) -> None:
    x = cp.zeros((4, 4), "f4")
    scale = module.get_function("scale")
    for args, error, text in (
            ((x, x, 2.5), errors.ArgumentError, "argument 2"),
            ((x, x), errors.ArgumentError, "2 arguments for 3"),
            ((x.astype("f8"), x, np.int32(1)), errors.ArgumentError, "float64"),
            ((x, x.T, np.int32(1)), ValueError, "reads arrays in C order"),
            ((np.zeros((4, 4), "f4"), x, np.int32(1)), TypeError,
             r"You are trying to pass a numpy.ndarray of shape \(4, 4\)"),
            ((x, "y", np.int32(1)), TypeError, "Unsupported type")):
        with pytest.raises(error, match=text):
            scale((1,), (4,), args)
    with pytest.raises(TypeError, match="must be tuples"):
        scale(1, (4,), (x, x, np.int32(1)))
    with pytest.raises(NotImplementedError, match="cooperative"):
        scale.kernel((1,), (4,), (x, x, np.int32(1)), enable_cooperative_groups=True)


def test_names_and_logs(module: Any) -> None:
    names = ("twice<float>", "twice<int>")
    with pytest.raises(ValueError, match="need to specify C\\+\\+ standard"):
        cp.RawModule(code=CODE, name_expressions=names)
    both = cp.RawModule(code=CODE, options=("-std=c++17",), name_expressions=names)
    for name, dtype in zip(names, ("f4", "i4")):
        x = cp.ones(3, dtype)
        both.get_function(name)((1,), (3,), (x,))
        assert x.tolist() == [2, 2, 2]
    with pytest.raises(cp.cuda.compiler.CompileException, match="no name expression 'none'"):
        module.get_function("none")
    with pytest.raises(cp.cuda.compiler.CompileException, match=r"kernel\.cu.*oops"):
        cp.RawModule(code='extern "C" __global__ void f() { oops; }').compile()
    with pytest.raises(TypeError, match="Exactly one of"):
        cp.RawModule()
    with pytest.raises(TypeError, match="expected tuple"):
        cp.RawModule(code=CODE, options=["-std=c++17"])


def test_a_kernel_alone() -> None:
    state.reset()
    k = cp.RawKernel(CODE, "scale", ("-std=c++17",))
    assert state.counts.compilations == 0                   # at the first use
    x = cp.ones(2, "f4")
    k((1,), (2,), (x, x, np.int32(2)))
    assert x.tolist() == [2, 2] and k.name == "scale" and state.counts.compilations == 1
    assert k.attributes["max_threads_per_block"] == 1024


def test_globals(module: Any) -> None:
    factor = cp.ndarray((), "f4", module.get_global("factor"))
    factor[...] = 5
    x = cp.ones(3, "f4")
    module.get_function("scale")((1,), (3,), (x, x, np.int32(3)))
    factor[...] = 2
    assert x.tolist() == [5, 5, 5]


def test_shared_memory_beyond_48_kib(module: Any) -> None:
    k, n = module.get_function("whole"), 15000
    y = cp.empty(64, "f4")
    with pytest.raises(errors.LaunchError, match="60000 bytes of shared memory"):
        k((1,), (64,), (y, np.int32(n)), shared_mem=4 * n)
    k.max_dynamic_shared_size_bytes = 60000
    k((1,), (64,), (y, np.int32(64)), shared_mem=4 * n)
    assert y.tolist() == list(range(63, -1, -1))


def test_faults_leave_the_device_usable(module: Any) -> None:
    x = cp.ones(4, "f4")
    with pytest.raises(errors.OutOfBoundsError) as e:
        module.get_function("scale")((1,), (8,), (x, x, np.int32(8)))
    assert e.value.kernel == "scale" and e.value.line == 7
    module.get_function("scale")((1,), (4,), (x, x, np.int32(4)))
    assert x.tolist()[1:] != [1, 1, 1]


def test_launches_are_captured(module: Any) -> None:
    x, y = cp.ones(3, "f4"), cp.zeros(3, "f4")
    scale = module.get_function("scale")
    with cp.cuda.Stream(non_blocking=True) as s:
        s.begin_capture()
        scale((1,), (3,), (x, y, np.int32(3)))
        y += 1
        graph = s.end_capture()
    assert y.tolist() == [0, 0, 0]
    x[...] = 4
    graph.launch()
    assert y.tolist() == [9, 9, 9]
