// Rows and reductions over the threads of a row, for kernels that kernels.py launches with `rows`.
//
// The threads of a row are neighbours in x: 32, one warp, with several rows (y) in a block; or a
// power of two from 64 to 512, the block. All of them get a reduction's result, which is made in
// one fixed order: the same bits every time, and in every thread. All threads of a row must take
// part; calls may follow each other at once. Such kernels are declared with
// __launch_bounds__(512, ROW_BLOCKS) between void and the name, to have registers for two blocks of
// that many threads on a multiprocessor; double may have those of one.
#ifndef GPUGRAD_REDUCE_CUH
#define GPUGRAD_REDUCE_CUH

#include "common.cuh"

#ifdef FLOAT64
#define ROW_BLOCKS 1
#else
#define ROW_BLOCKS 2
#endif

// This row's threads' share of rows 0 .. rows - 1. Any grid will do.
#define EACH_ROW(row, rows)                                                                    \
    for (Index row = (Index) blockIdx.x * blockDim.y + threadIdx.y; row < (Index) (rows);      \
         row += (Index) gridDim.x * blockDim.y)

// This thread's share of a row's elements 0 .. length - 1: neighbours take neighbours.
#define EACH_OF_ROW(i, length)                                                                 \
    for (Index i = threadIdx.x; i < (Index) (length); i += blockDim.x)

// How many elements a thread reads before it uses the first: with one of 16 bits on its way from
// each thread memory would mostly be idle.
constexpr int AHEAD = sizeof(T) == 2 && sizeof(Index) == 4 ? 8 : 4;

// The value of the lane whose number differs in the bits of `lanes`.
template <class V> __device__ __forceinline__ V partner(V v, int lanes) {
    return __shfl_xor_sync(0xffffffffu, v, lanes);
}

// Two values, or a value and where it was found, reduced together.
template <class A, class B> struct Two {
    A a;
    B b;
};

template <class A, class B> __device__ __forceinline__ Two<A, B> partner(Two<A, B> v, int lanes) {
    return {partner(v.a, lanes), partner(v.b, lanes)};
}

// Over the 32 threads of a warp. Partners both compute f(the lower lane's, the upper lane's).
template <class V, class F> __device__ __forceinline__ V warp_reduce(V v, F f) {
    for (int lanes = 16; lanes; lanes >>= 1) {
        V w = partner(v, lanes);
        bool upper = threadIdx.x & lanes;
        v = f(upper ? w : v, upper ? v : w);
    }
    return v;
}

// Over the threads of a row. `nothing` is what changes no result: 0 for a sum.
template <class V, class F> __device__ __forceinline__ V block_reduce(V v, V nothing, F f) {
    __shared__ V parts[32];
    v = warp_reduce(v, f);
    if (blockDim.x == 32) return v;
    int lane = threadIdx.x & 31, warps = blockDim.x >> 5;
    if (lane == 0) parts[threadIdx.x >> 5] = v;
    __syncthreads();
    v = warp_reduce(lane < warps ? parts[lane] : nothing, f);
    __syncthreads();                            // before anyone writes parts again
    return v;
}

struct Sum {
    template <class V> __device__ __forceinline__ V operator()(V v, V w) const { return v + w; }
    template <class A, class B>
    __device__ __forceinline__ Two<A, B> operator()(Two<A, B> v, Two<A, B> w) const {
        return {v.a + w.a, v.b + w.b};
    }
};

// A NaN is greater than all numbers.
struct Max {
    template <class V> __device__ __forceinline__ V operator()(V v, V w) const {
        return v > w || v != v ? v : w;
    }
};

template <class V> __device__ __forceinline__ V block_sum(V v) {
    return block_reduce(v, V(), Sum());
}
__device__ __forceinline__ Acc block_max(Acc v) { return block_reduce(v, -INFINITE, Max()); }

#endif
