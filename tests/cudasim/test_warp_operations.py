"""Shuffles, votes, matches and reductions of warps, and barriers that count, against NumPy."""
from __future__ import annotations

import numpy as np
import pytest

SOURCE = r'''
#define ALL 0xffffffffu
#define K extern "C" __global__
K void shuffles(const int* x, int* y, int n) {
    int t = threadIdx.x, v = x[t], r = 0;
    y[r++ * n + t] = __shfl_sync(ALL, v, 5);
    y[r++ * n + t] = __shfl_sync(ALL, v, t + 1, 8);
    y[r++ * n + t] = __shfl_sync(ALL, v, 37);
    y[r++ * n + t] = __shfl_down_sync(ALL, v, 3);
    y[r++ * n + t] = __shfl_down_sync(ALL, v, 3, 16);
    y[r++ * n + t] = __shfl_up_sync(ALL, v, 2);
    y[r++ * n + t] = __shfl_up_sync(ALL, v, 2, 8);
    y[r++ * n + t] = __shfl_xor_sync(ALL, v, 1);
    y[r++ * n + t] = __shfl_xor_sync(ALL, v, 4, 8);
    y[r++ * n + t] = __shfl_xor_sync(ALL, v, 16, 8);
    y[r++ * n + t] = __shfl_down_sync(ALL, v, 40);
}
K void halves(const int* x, int* y) {
    int t = threadIdx.x;
    if (t % 32 < 16) y[t] = __shfl_xor_sync(0xffffu, x[t], 8);
    else y[t] = __shfl_xor_sync(0xffff0000u, x[t], 8) + 1000;
}
K void votes(const int* x, unsigned* y, int n) {
    int t = threadIdx.x, v = x[t], all;
    y[t] = __ballot_sync(ALL, v & 1);
    y[n + t] = __any_sync(ALL, v == 40) + 2 * __any_sync(ALL, v == 1000);
    y[2 * n + t] = __all_sync(ALL, v >= 0) + 2 * __all_sync(ALL, v > 5);
    y[3 * n + t] = __match_any_sync(ALL, v % 3);
    y[4 * n + t] = __match_all_sync(ALL, v, &all) + all;
    y[5 * n + t] = __match_all_sync(ALL, v - v, &all) - all;
    y[6 * n + t] = __match_any_sync(ALL, (double) (v % 5));
}
K void reductions(const int* x, int* y, int n) {
    int t = threadIdx.x, v = x[t];
    y[t] = __reduce_add_sync(ALL, v);
    y[n + t] = __reduce_min_sync(ALL, v);
    y[2 * n + t] = __reduce_max_sync(ALL, v);
    y[3 * n + t] = (int) __reduce_min_sync(ALL, (unsigned) v);
    y[4 * n + t] = (int) __reduce_max_sync(ALL, (unsigned) v);
    y[5 * n + t] = (int) __reduce_and_sync(ALL, (unsigned) v | 1u);
    y[6 * n + t] = (int) __reduce_or_sync(ALL, (unsigned) v);
    y[7 * n + t] = (int) __reduce_xor_sync(ALL, (unsigned) v);
}
K void barriers(const int* x, int* y, int n) {
    int t = threadIdx.x, v = x[t];
    y[t] = __syncthreads_count(v & 1);
    y[n + t] = __syncthreads_or(v == 3) + 2 * __syncthreads_or(v == 1000);
    y[2 * n + t] = __syncthreads_and(v < 1000) + 2 * __syncthreads_and(v < 50);
}
K void active(const int* x, unsigned* y) {
    int t = threadIdx.x;
    if (x[t] & 1) y[t] = __activemask();
    else if (x[t] & 2) y[t] = __activemask();
    else y[t] = 0;
}
template <class T> __global__ void types(const T* x, T* y) {
    y[threadIdx.x] = __shfl_xor_sync(ALL, x[threadIdx.x], 3);
}
// A partial last warp reduces as many lanes as it has.
K void partial(const float* x, float* y, int n) {
    float v = x[threadIdx.x];
    for (int d = 16; d; d /= 2) {
        float other = __shfl_down_sync(ALL, v, d);
        if (threadIdx.x % 32 + d < min(32, n - (int) threadIdx.x / 32 * 32)) v += other;
    }
    if (threadIdx.x % 32 == 0) y[threadIdx.x / 32] = v;
}
// Lanes that have returned are not waited for; what they would give is a NaN.
K void returned(const float* x, float* y) {
    int t = threadIdx.x;
    if (t >= 20) return;
    y[t] = __shfl_down_sync(ALL, x[t], 4);
}
'''
N = 96
X = np.random.default_rng(1).integers(0, 100, N).astype(np.int32)
T = np.arange(N)
LANE, WARP = T % 32, T // 32 * 32


def per_warp(f, of=X):
    return np.concatenate([np.full(32, f(of[w:w + 32])) for w in range(0, N, 32)])


def bits(flags):
    return np.uint32(sum([1 << i for i, flag in enumerate(flags) if flag]))


def test_shuffles(sim, mode, order):
    y = sim.empty((11, N), np.int32)
    sim.run(SOURCE, "shuffles", 1, N, sim.array(X), y, np.int32(N))
    expected = [
        X[WARP + 5], X[WARP + LANE // 8 * 8 + (T + 1) % 8], X[WARP + 5],
        X[np.where(LANE + 3 < 32, T + 3, T)], X[np.where(LANE % 16 + 3 < 16, T + 3, T)],
        X[np.where(LANE >= 2, T - 2, T)], X[np.where(LANE % 8 >= 2, T - 2, T)], X[T ^ 1], X[T ^ 4],
        # Into an earlier group, but not into a later one.
        X[np.where(LANE >= 16, T ^ 16, T)], X]
    np.testing.assert_array_equal(y, expected)


def test_shuffles_of_part_of_a_warp(sim, mode, order):
    y = sim.empty(N, np.int32)
    sim.run(SOURCE, "halves", 1, N, sim.array(X), y)
    np.testing.assert_array_equal(y, X[T ^ 8] + np.where(LANE < 16, 0, 1000))


def test_votes_and_matches(sim, mode, order):
    x = X.copy()
    x[32:64] = 7
    y = sim.empty((7, N), np.uint32)
    sim.run(SOURCE, "votes", 1, N, sim.array(x), y, np.int32(N))
    full = np.uint32(0xffffffff)
    same = per_warp(lambda v: (v == v[0]).all(), x)
    expected = [
        per_warp(lambda v: bits(v & 1), x), per_warp(lambda v: (v == 40).any(), x),
        1 + 2 * per_warp(lambda v: (v > 5).all(), x),
        [bits(x[w:w + 32] % 3 == v % 3) for w, v in zip(WARP, x)],
        np.where(same, 0, 0), np.full(N, full - 1),
        [bits(x[w:w + 32] % 5 == v % 5) for w, v in zip(WARP, x)]]
    assert same[32:64].all() and not same[:32].any()
    np.testing.assert_array_equal(y, np.array(expected, np.uint32))     # ~0 + 1 is 0


def test_reductions(sim, mode, order):
    x = (X - 50).astype(np.int32)
    y = sim.empty((8, N), np.int32)
    sim.run(SOURCE, "reductions", 1, N, sim.array(x), y, np.int32(N))
    unsigned = x.view(np.uint32)
    expected = [per_warp(np.sum, x), per_warp(np.min, x), per_warp(np.max, x)] + [
        per_warp(f, unsigned).astype(np.uint32).view(np.int32) for f in (
            np.min, np.max, lambda v: np.bitwise_and.reduce(v | 1), np.bitwise_or.reduce,
            np.bitwise_xor.reduce)]
    np.testing.assert_array_equal(y, expected)


def test_barriers_that_count(sim, mode, order):
    y = sim.empty((3, N), np.int32)
    sim.run(SOURCE, "barriers", 1, N, sim.array(X), y, np.int32(N))
    assert (y[0] == (X & 1).sum()).all()
    assert (y[1] == (X == 3).any()).all()
    assert (y[2] == 1).all()


def test_active_lanes_are_those_at_the_same_place(sim, mode, order):
    y = sim.empty(N, np.uint32)
    sim.run(SOURCE, "active", 1, N, sim.array(X), y)
    odd, twos = X & 1 == 1, X & 3 == 2
    expected = [bits(odd[w:w + 32]) if odd[w + i] else bits(twos[w:w + 32]) if twos[w + i] else 0
                for w, i in zip(WARP, LANE)]
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("name, dtype", [
    ("float", np.float32), ("double", np.float64), ("long long", np.int64),
    ("unsigned", np.uint32), ("short", np.int16), ("unsigned char", np.uint8)])
def test_shuffles_of_all_types(sim, mode, name, dtype):
    x = np.random.default_rng(2).normal(0, 50, 32).astype(np.int64).astype(dtype) // 1
    y = sim.empty(32, dtype)
    sim.run(SOURCE, f"types<{name}>", 1, 32, sim.array(x), y,
            names=[f"types<{t}>" for t in ("float", "double", "long long", "unsigned", "short",
                                           "unsigned char")])
    np.testing.assert_array_equal(y, x[np.arange(32) ^ 3])


def test_a_partial_last_warp(sim, mode, order):
    x = np.arange(45, dtype=np.float32)
    y = sim.empty(2, np.float32)
    sim.run(SOURCE, "partial", 1, 45, sim.array(x), y, np.int32(45))
    assert y.tolist() == [x[:32].sum(), x[32:].sum()]


def test_lanes_that_have_returned(sim, mode, order):
    x = np.arange(32, dtype=np.float32)
    y = sim.array(x)
    sim.run(SOURCE, "returned", 1, 32, sim.array(x), y)
    np.testing.assert_array_equal(y[:16], x[4:20])
    assert np.isnan(y[16:20]).all()
