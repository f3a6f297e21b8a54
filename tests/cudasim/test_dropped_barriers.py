"""Each barrier of correct kernels is dropped in turn: check mode finds it, in every order."""
from __future__ import annotations

import re

import numpy as np
import pytest

from gpugrad.cudasim import errors

SOFTMAX = r'''
__device__ float all_of(float v, bool largest) {
    __shared__ float part[32];
    for (int d = 16; d; d /= 2) {
        float w = __shfl_xor_sync(0xffffffffu, v, d);
        v = largest ? fmaxf(v, w) : v + w;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    v = part[0];
    for (int w = 1; w < blockDim.x / 32; ++w) v = largest ? fmaxf(v, part[w]) : v + part[w];
    return v;
}
extern "C" __global__ void softmax(const float* x, float* y, int n) {
    extern __shared__ float row[];
    x += blockIdx.x * n, y += blockIdx.x * n;
    float most = -1e30f, sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) most = fmaxf(most, x[i]);
    most = all_of(most, true);
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += row[i] = expf(x[i] - most);
    sum = all_of(sum, false);
    for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = row[n - 1 - i] / sum;
}
'''
PRODUCT = r'''
#define TILE 8
extern "C" __global__ void product(const float* a, const float* b, float* c, int n) {
    __shared__ float s[TILE][TILE], t[TILE][TILE];
    int row = blockIdx.y * TILE + threadIdx.y, column = blockIdx.x * TILE + threadIdx.x;
    float sum = 0;
    for (int k = 0; k < n; k += TILE) {
        s[threadIdx.y][threadIdx.x] = a[row * n + k + threadIdx.x];
        t[threadIdx.y][threadIdx.x] = b[(k + threadIdx.y) * n + column];
        __syncthreads();
        for (int i = 0; i < TILE; ++i) sum += s[threadIdx.y][i] * t[i][threadIdx.x];
        __syncthreads();
    }
    c[row * n + column] = sum;
}
'''
SCAN = r'''
extern "C" __global__ void scan(const int* x, int* y) {
    __shared__ int s[64];
    int t = threadIdx.x;
    s[t] = x[t];
    for (int d = 1; d < 64; d *= 2) {
        __syncthreads();
        int v = t >= d ? s[t - d] : 0;
        __syncthreads();
        s[t] += v;
    }
    y[t] = s[t];
}
'''
BUTTERFLY = r'''
extern "C" __global__ void butterfly(const int* x, int* y) {
    __shared__ int s[32];
    int t = threadIdx.x;
    s[t] = x[t];
    for (int d = 1; d < 32; d *= 2) {
        __syncwarp();
        int v = s[t ^ d];
        __syncwarp();
        s[t] += v;
    }
    y[t] = s[t];
}
'''
rng = np.random.default_rng(0)


def softmax(sim, code):
    x = rng.standard_normal((2, 100)).astype(np.float32)
    y = sim.empty(x.shape, np.float32)
    sim.run(code, "softmax", 2, 64, sim.array(x), y, np.int32(100), shared=400)
    e = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(y, (e / e.sum(1, keepdims=True))[:, ::-1], rtol=1e-5)


def product(sim, code):
    a, b = rng.standard_normal((2, 24, 24)).astype(np.float32)
    c = sim.empty(a.shape, np.float32)
    sim.run(code, "product", (3, 3), (8, 8), sim.array(a), sim.array(b), c, np.int32(24))
    np.testing.assert_allclose(c, a @ b, rtol=1e-4, atol=1e-5)


def scan(sim, code):
    x = rng.integers(0, 9, 64).astype(np.int32)
    y = sim.empty(64, np.int32)
    sim.run(code, "scan", 1, 64, sim.array(x), y)
    np.testing.assert_array_equal(y, np.cumsum(x))


def butterfly(sim, code):
    x = rng.integers(0, 9, 32).astype(np.int32)
    y = sim.empty(32, np.int32)
    sim.run(code, "butterfly", 1, 32, sim.array(x), y)
    assert (y == x.sum()).all()


# softmax needs one more barrier: what thread i wrote to row another one reads at the end; the
# barrier before part is written stands for it.
KERNELS = [(softmax, SOFTMAX), (product, PRODUCT), (scan, SCAN), (butterfly, BUTTERFLY)]
BARRIER = re.compile(r"__sync(threads|warp)\(\);")
MUTANTS = [pytest.param(run, code[:m.start()] + code[m.end():], id=f"{run.__name__}-{n}")
           for run, code in KERNELS for n, m in enumerate(BARRIER.finditer(code))]


@pytest.mark.parametrize("run, code", KERNELS, ids=lambda v: getattr(v, "__name__", ""))
def test_the_kernels_are_right(sim, mode, order, run, code):
    run(sim, code)


@pytest.mark.parametrize("run, code", MUTANTS)
def test_a_dropped_barrier_is_found(sim, order, run, code):
    with sim.settings.using("check"), pytest.raises(errors.RaceError):
        run(sim, code)
