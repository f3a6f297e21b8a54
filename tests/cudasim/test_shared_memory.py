"""Static and dynamic shared memory: in functions, templates and files, new in every block."""
from __future__ import annotations

import numpy as np
import pytest

from gpugrad.cudasim import errors

SOURCE = r'''
#define K extern "C" __global__ void
extern __shared__ float of_file[];
__shared__ float table[32];
K reverse_static(const float* x, float* y) {
    __shared__ float s[32], t[32];
    int i = threadIdx.x;
    s[i] = x[i], t[31 - i] = x[i] * 2;
    __syncthreads();
    y[i] = s[31 - i] + t[i];
}
K reverse_dynamic(const float* x, float* y) {
    extern __shared__ float s[];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = s[31 - threadIdx.x];
}
K reverse_of_file(const float* x, float* y) {
    of_file[threadIdx.x] = x[threadIdx.x];
    float4* four = (float4*) of_file;
    __syncthreads();
    y[threadIdx.x] = of_file[31 - threadIdx.x];
    if (threadIdx.x == 0) y[0] = four[7].w;
}
K reverse_table(const float* x, float* y) {
    table[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = table[31 - threadIdx.x];
}
K parts_of_dynamic(const float* x, float* y, int n) {
    extern __shared__ __align__(16) unsigned char raw[];
    double* d = (double*) raw;
    int* count = reinterpret_cast<int*>(d + n);
    d[threadIdx.x] = x[threadIdx.x];
    count[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = (float) d[n - 1 - threadIdx.x] + count[threadIdx.x];
}
K two_dimensions(const float* x, float* y) {
    __shared__ float tile[4][8 + 1];
    extern __shared__ float other[][8];
    int r = threadIdx.x / 8, c = threadIdx.x % 8;
    tile[r][c] = x[threadIdx.x];
    other[r][c] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = tile[3 - r][7 - c] + other[3 - r][7 - c];
}
template <class T, int N> struct Pair { T a[N]; int n; };
template <class T> __device__ T swapped(T v) {
    __shared__ Pair<T, 32> s;
    static __shared__ __align__(16) volatile T w[32];
    s.a[threadIdx.x] = v;
    w[threadIdx.x] = v;
    __syncthreads();
    T r = s.a[threadIdx.x ^ 1] + w[threadIdx.x ^ 1];
    __syncthreads();
    return r;
}
K in_templates(const float* x, float* y) {
    y[threadIdx.x] = swapped(x[threadIdx.x]) + (float) swapped((int) x[threadIdx.x]);
}
#define ROOM(name, n) __shared__ float name[n]
K by_macro(const float* x, float* y) {
    ROOM(s, 32);
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = s[31 - threadIdx.x];
}
K in_union(const float* x, float* y) {
    __shared__ union { float f[32]; int i[32]; } u;
    u.f[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = __int_as_float(u.i[31 - threadIdx.x]);
}
K unwritten(float* y) {
    __shared__ float s[32];
    extern __shared__ double d[];
    if (threadIdx.x % 2 == 0) s[threadIdx.x] = threadIdx.x, d[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[blockIdx.x * 64 + threadIdx.x] = s[threadIdx.x];
    y[blockIdx.x * 64 + 32 + threadIdx.x] = (float) d[threadIdx.x];
}
K large(float* y) {
    __shared__ float s[10000];
    s[threadIdx.x] = y[threadIdx.x];
    y[threadIdx.x] = s[threadIdx.x];
}
'''
X = np.arange(1, 33, dtype=np.float32)


@pytest.mark.parametrize("name, shared, expected", [
    ("reverse_static", 0, 3 * X[::-1]), ("reverse_dynamic", 128, X[::-1]),
    ("reverse_of_file", 128, X[::-1]), ("reverse_table", 0, X[::-1]),
    ("two_dimensions", 128, 2 * X[::-1]), ("by_macro", 0, X[::-1]), ("in_union", 0, X[::-1]),
    ("in_templates", 0, 4 * X[np.arange(32) ^ 1])])
def test_what_one_thread_writes_another_reads(sim, mode, order, name, shared, expected):
    y = sim.empty(32, np.float32)
    sim.run(SOURCE, name, 1, 32, sim.array(X), y, shared=shared)
    np.testing.assert_array_equal(y, expected)


def test_dynamic_memory_in_parts(sim, mode):
    y = sim.empty(32, np.float32)
    sim.run(SOURCE, "parts_of_dynamic", 1, 32, sim.array(X), y, np.int32(32), shared=32 * 12)
    np.testing.assert_array_equal(y, X[::-1] + np.arange(32))


def test_unwritten_memory_is_nan_in_every_block(sim, mode, order):
    y = sim.empty((3, 2, 32), np.float32)
    sim.run(SOURCE, "unwritten", 3, 32, y, shared=256)
    even = np.arange(32) % 2 == 0
    assert np.isnan(y[:, :, ~even]).all()
    assert (y[:, :, even] == np.arange(32)[even]).all()


def test_device_memory_begins_as_nan(sim, plainly):
    assert np.isnan(sim.empty(5, np.float32)).all() and np.isnan(sim.empty(5, np.float64)).all()
    assert np.isnan(sim.empty(5, np.float16)).all() and (sim.empty(5, np.int64) == -1).all()


def test_too_much_shared_memory(sim, mode):
    y = sim.array(X)
    sim.run(SOURCE, "large", 1, 32, y, shared=9000)
    with pytest.raises(errors.LaunchError, match="uses 50000 bytes, a block has 49152"):
        sim.run(SOURCE, "large", 1, 32, y, shared=10000)
    with pytest.raises(errors.LaunchError, match="50000 bytes of shared memory; a block has 49152"):
        sim.run(SOURCE, "reverse_dynamic", 1, 32, y, sim.array(X), shared=50000)
    function = sim.module(SOURCE).function("reverse_dynamic")
    function.max_dynamic_shared_size_bytes = 100000
    x = sim.array(X)
    args = sim.pointer(x), sim.pointer(y)
    function((1,), (32,), args, 100000)
    np.testing.assert_array_equal(y, X[::-1])
    with pytest.raises(errors.LaunchError, match="100001 bytes"):
        function((1,), (32,), args, 100001)
