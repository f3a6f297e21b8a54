"""The instructions of kernels/mma.cuh, as simulated, against NumPy and the PTX ISA's layouts.

What a lane holds is written out here as the ISA's section on matrix fragments has it: for lane l,
g = l >> 2 is its group and t = l % 4 its place in it.
"""
from __future__ import annotations

import numpy as np
import pytest

from gpugrad import dtypes
from gpugrad.backend import kernel_files, kernels
from gpugrad.cudasim import errors

SOURCE = r'''
#include "mma.cuh"
#define K extern "C" __global__ void
#if defined(FLOAT16) || defined(BFLOAT16)
#define MULTIPLY mma_16816
K packed(const float* x, unsigned* y) { y[threadIdx.x] = pack(x[threadIdx.x], -x[threadIdx.x]); }
#else
#define MULTIPLY mma_1688
#endif
// Registers come from memory and go there: x[lane][i].
K product(const unsigned* a, const unsigned* b, float* d) {
    int lane = threadIdx.x % 32, first = threadIdx.x / 32 * 32;
    unsigned x[4], y[2];
    float z[4];
    for (int i = 0; i < 4; ++i) x[i] = a[(first + lane) * 4 + i], z[i] = d[(first + lane) * 4 + i];
    for (int i = 0; i < 2; ++i) y[i] = b[(first + lane) * 2 + i];
    MULTIPLY(z, x, y);
    for (int i = 0; i < 4; ++i) d[(first + lane) * 4 + i] = z[i];
}
// Rows of 16 bytes, of which lane l takes the one named in `rows`.
K load(const uint4* x, const int* rows, unsigned* plain, unsigned* transposed) {
    __shared__ uint4 s[64];
    int t = threadIdx.x;
    s[t] = x[t];
    s[t + 32] = x[t + 32];
    __syncwarp();
    unsigned r[4];
    load_matrix4(r, s + rows[t]);
    for (int i = 0; i < 4; ++i) plain[t * 4 + i] = r[i];
    load_matrix4_transposed(r, s + rows[t]);
    for (int i = 0; i < 4; ++i) transposed[t * 4 + i] = r[i];
}
K rounded(const float* x, unsigned* y) { y[threadIdx.x] = to_tf32(x[threadIdx.x]); }

// Three groups, of copies of 4, 8 and 16 bytes; what is there once only one is under way.
K groups(const float* x, float* y, int n) {
    __shared__ uint4 shared[28];
    float* s = (float*) shared;
    int t = threadIdx.x;
    copy4(s + t, x + t, t < n);
    commit_copies();
    copy8(s + 16 + 2 * t, x + 16 + 2 * t, t < n);
    commit_copies();
    copy16(s + 48 + 4 * t, x + 48 + 4 * t, t < n);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    for (int i = t; i < 112; i += blockDim.x) y[i] = s[i];
    __syncthreads();
    wait_copies<0>();
    __syncthreads();
    for (int i = t; i < 112; i += blockDim.x) y[112 + i] = s[i];
}
// Faults, chosen by `what`.
K faulty(const float* x, float* y, int what) {
    __shared__ uint4 shared[32];
    float* s = (float*) shared;
    int t = threadIdx.x, other = (t + 1) % blockDim.x;
    if (what == 0) copy16(s + 4 * t, x + 4 * t + 4, true);                   // past x's end
    if (what == 1) copy16(s + 4 * t + 4, x + 4 * t, true);                   // past s's end
    if (what == 2) copy16(s + 4 * t, x + 1, true);                           // not aligned
    if (what == 3) copy8(s + 2 * t + 1, x, true);
    if (what >= 4) s[t] = 0;
    if (what >= 4) __syncthreads();
    if (what == 4) y[t] = s[other];                // others' copies may begin: somebody still reads
    if (what >= 4) copy4(s + t, x + t, true);
    commit_copies();
    if (what == 5) y[t] = s[t];                    // before it waits: not yet there
    wait_copies<0>();
    if (what == 6) y[t] = s[other];                // after it waits, but not the other one
    __syncthreads();
    if (what == 7) y[t] = s[other];                // nothing wrong
}
K part_of_a_warp(float* y, int what) {
    float d[4] = {};
    unsigned a[4] = {}, b[2] = {};
    if (what == 0 && threadIdx.x == 7) return;
    if (what == 1 && threadIdx.x >= 16) {
        __shared__ uint4 s[32];
        load_matrix4(a, s + threadIdx.x);
    } else {
        MULTIPLY(d, a, b);
    }
    y[threadIdx.x] = d[0];
}
'''
LANE = np.arange(32)
G, TH = LANE >> 2, LANE % 4


def options(dtype):
    return *kernels.options(dtype), f"-I{kernel_files.place()}"


def as_dtype(x, dtype):
    """x rounded to a type of tensor cores: (its bits as unsigned integers, its value)."""
    if dtype == "float32":
        bits = ((x.astype(np.float32).view(np.uint32).astype(np.uint64) + 0x1000)
                & 0xffffe000).astype(np.uint32)
        return bits, bits.view(np.float32).astype(np.float64)
    x = x.astype(np.float32).astype(np.float16 if dtype == "float16" else dtypes.bfloat16.np)
    return x.view(np.uint16).astype(np.uint32), x.astype(np.float64)


def pairs(bits, dtype):
    """Words of neighbouring 16-bit numbers along the last axis; of 32 bits the numbers."""
    return bits if dtype == "float32" else bits[..., ::2] | bits[..., 1::2] << 16


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_products_of_fragments(sim, mode, dtype):
    rng, k, warps = np.random.default_rng(3), 8 if dtype == "float32" else 16, 2
    (a, x), (b, y) = [as_dtype(rng.normal(size=(warps, n, k)), dtype) for n in (16, 8)]
    d = rng.normal(size=(warps, 16, 8)).astype(np.float32)
    a, b = pairs(a, dtype), pairs(b, dtype)         # b by columns
    ra = np.stack([a[:, G, TH], a[:, G + 8, TH], a[:, G, TH + 4], a[:, G + 8, TH + 4]], -1)
    rb = np.stack([b[:, G, TH], b[:, G, TH + 4]], -1)
    rows, columns = np.stack([G, G, G + 8, G + 8], -1), np.stack([2 * TH, 2 * TH + 1] * 2, -1)
    rd = sim.array(d[:, rows, columns])
    sim.run(SOURCE, "product", 1, 32 * warps, sim.array(ra), sim.array(rb), rd,
            options=options(dtype))
    want = (x @ y.swapaxes(1, 2) + d)[:, rows, columns]
    np.testing.assert_allclose(rd, want, rtol=1e-6, atol=1e-6)


def test_low_bits_of_tf32_operands_are_not_looked_at(sim, mode):
    a, b = np.full((32, 4), 1.5, np.float32), np.full((32, 2), 0.5, np.float32)
    results = []
    for low in 0, 0x1fff:
        d = sim.array(np.zeros((32, 4)), np.float32)
        sim.run(SOURCE, "product", 1, 32, sim.array(a.view(np.uint32) | low),
                sim.array(b.view(np.uint32) | low), d, options=options("float32"))
        results.append(d.copy())
    assert (results[0] == 6).all() and (results[1] == 6).all()


def test_matrices_are_loaded_as_fragments(sim, mode):
    x = np.arange(512, dtype=np.uint16).reshape(64, 8)
    rows = np.random.default_rng(4).permutation(64)[:32].astype(np.int32)
    plain, transposed = sim.empty((32, 4), np.uint32), sim.empty((32, 4), np.uint32)
    sim.run(SOURCE, "load", 1, 32, sim.array(x.view(np.uint32)), sim.array(rows), plain, transposed,
            options=options("float16"))
    for j in range(4):
        m = x[rows[8 * j:8 * j + 8]].astype(np.uint32)
        for found, of in (plain, m), (transposed, m.T):
            np.testing.assert_array_equal(found[:, j], of[G, 2 * TH] | of[G, 2 * TH + 1] << 16)


def test_rounding_to_tf32(sim, mode):
    unit = 2.0 ** -10
    cases = {1: 1, 1 + unit: 1 + unit, 1 + unit / 2: 1 + unit, 1 + 0.49 * unit: 1,
             -1 - unit / 2: -1 - unit, 1 + 1.5 * unit: 1 + 2 * unit, 0: 0, np.inf: np.inf,
             -np.inf: -np.inf, 3.4028235e38: np.inf}
    x = np.resize(np.array(list(cases), np.float32), 32)
    y = sim.empty(32, np.uint32)
    sim.run(SOURCE, "rounded", 1, 32, sim.array(x), y, options=options("float32"))
    np.testing.assert_array_equal(y.view(np.float32), np.resize(list(cases.values()), 32))
    x[:] = np.nan
    sim.run(SOURCE, "rounded", 1, 32, sim.array(x), y, options=options("float32"))
    assert np.isnan(y.view(np.float32)).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_pairs_have_the_first_number_in_the_low_bits(sim, mode, dtype):
    x = np.random.default_rng(5).normal(size=32).astype(np.float32)
    y = sim.empty(32, np.uint32)
    sim.run(SOURCE, "packed", 1, 32, sim.array(x), y, options=options(dtype))
    np.testing.assert_array_equal(y, as_dtype(x, dtype)[0] | as_dtype(-x, dtype)[0] << 16)


def test_copies_are_there_when_their_group_was_waited_for(sim, mode, order):
    x, n = np.arange(112, dtype=np.float32) + 1, 11      # of 16 threads; the others write zeros
    y = sim.empty((2, 112), np.float32)
    sim.run(SOURCE, "groups", 1, 16, sim.array(x[:48 + 4 * n]), y, np.int32(n),
            options=options("float32"))
    x[n:16], x[16 + 2 * n:48], x[48 + 4 * n:] = 0, 0, 0
    np.testing.assert_array_equal(y[1], x)
    np.testing.assert_array_equal(y[0, :48], x[:48])
    assert np.isnan(y[0, 48:]).all()


def faulty(sim, what):
    y = sim.empty(32, np.float32)
    sim.run(SOURCE, "faulty", 1, 32, sim.array(np.arange(128, dtype=np.float32)), y,
            np.int32(what), options=options("float32"))
    return y


@pytest.mark.parametrize("what, error, text", [
    (0, errors.OutOfBoundsError, "read of 16 bytes"),
    (1, errors.OutOfBoundsError, "write of 16 bytes"),
    (2, errors.MisalignedError, "misaligned read of 16"),
    (3, errors.MisalignedError, "misaligned write of 8"),
    (4, errors.RaceError, "shared memory"), (6, errors.RaceError, "shared memory")])
def test_faults_of_copies_are_found(sim, checking, what, error, text):
    with pytest.raises(error, match=text) as caught:
        faulty(sim, what)
    assert "kernel.cu:" in str(caught.value)


def test_a_copy_that_is_not_waited_for_is_not_there(sim, mode):
    assert np.isnan(faulty(sim, 5)).all()
    np.testing.assert_array_equal(faulty(sim, 7), (np.arange(32) + 1) % 32)


@pytest.mark.parametrize("what, text", [(0, "lane 7 has returned"), (1, "come to another one")])
def test_whole_warps_are_needed(sim, mode, what, text):
    with pytest.raises(errors.BarrierError, match=text):
        sim.run(SOURCE, "part_of_a_warp", 1, 32, sim.empty(32, np.float32), np.int32(what),
                options=options("float32"))
