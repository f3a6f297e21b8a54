// Lines along one dim, and reductions over the threads that share one, for kernels that kernels.py
// launches with `lines`.
//
// Arrays are (outer, length, inner) in C order; a line is the `length` elements that are `inner`
// apart. inner 1: the line is a row, shared by a warp or a block (reduce.cuh). Else a block has 32
// columns beside each other (x), whose lines up to 16 threads (y) share: neighbours in x read
// neighbours in memory.
#ifndef GPUGRAD_LINES_CUH
#define GPUGRAD_LINES_CUH

#include "reduce.cuh"

// Over the threads of a column: those with the same x, a power of two up to 32.
template <class V, class F> __device__ __forceinline__ V column_reduce(V v, F f) {
    __shared__ V parts[32][32];
    parts[threadIdx.y][threadIdx.x] = v;
    __syncthreads();
    for (int half = blockDim.y >> 1; half; half >>= 1) {
        if (threadIdx.y < half) {
            v = f(v, parts[threadIdx.y + half][threadIdx.x]);
            parts[threadIdx.y][threadIdx.x] = v;
        }
        __syncthreads();
    }
    v = parts[0][threadIdx.x];
    __syncthreads();                            // before anyone writes parts again
    return v;
}

// A line that the threads of a row share: its number among the lines, its elements' places, and
// which of them are this thread's.
struct Across {
    Index number, length;
    __device__ __forceinline__ Index at(Index i) const { return number * length + i; }
    __device__ __forceinline__ Index begin() const { return threadIdx.x; }
    __device__ __forceinline__ Index end() const { return length; }
    __device__ __forceinline__ int step() const { return blockDim.x; }
    __device__ __forceinline__ bool leader() const { return threadIdx.x == 0; }
    template <class V, class F>
    __device__ __forceinline__ V reduce(V v, V nothing, F f) const {
        return block_reduce(v, nothing, f);
    }
};

// A line that the threads of a column share. All threads of a block stay together; those beyond the
// last column have nothing to do in between.
struct Down {
    Index number, length, first, inner;
    bool inside;
    __device__ __forceinline__ Index at(Index i) const { return first + i * inner; }
    __device__ __forceinline__ Index begin() const { return threadIdx.y; }
    __device__ __forceinline__ Index end() const { return inside ? length : 0; }
    __device__ __forceinline__ int step() const { return blockDim.y; }
    __device__ __forceinline__ bool leader() const { return inside && threadIdx.y == 0; }
    template <class V, class F>
    __device__ __forceinline__ V reduce(V v, V, F f) const {
        return column_reduce(v, f);
    }
};

// Line 32 * tile + x of (outer, length, inner), where tiles don't reach over the end of an inner.
__device__ __forceinline__ Down down(Index tile, Index length, Index inner) {
    Index tiles = (inner + 31) / 32, outer = tile / tiles;
    Index column = (tile - outer * tiles) * 32 + threadIdx.x;
    return {outer * inner + column, length, outer * length * inner + column, inner, column < inner};
}

// This thread's elements of a line from i on, AHEAD of them; `outside` for those beyond the end,
// which is looked for only if not WHOLE.
template <bool WHOLE, class L>
__device__ __forceinline__ void read(T (&v)[AHEAD], const T* x, const L& line, Index i, T outside) {
#pragma unroll
    for (int k = 0; k < AHEAD; ++k) {
        Index j = i + k * line.step();
        v[k] = WHOLE || j < line.end() ? x[line.at(j)] : outside;
    }
}

// use(i, element i) for this thread's elements of a line, in their order.
template <class L, class F>
__device__ __forceinline__ void read_line(const T* x, const L& line, F use) {
    const int step = AHEAD * line.step();
    Index i = line.begin();
    T v[AHEAD];
    for (; i + step - line.step() < line.end(); i += step) {
        read<true>(v, x, line, i, T());
#pragma unroll
        for (int k = 0; k < AHEAD; ++k) use(i + k * line.step(), widen(v[k]));
    }
    for (; i < line.end(); i += line.step()) use(i, widen(x[line.at(i)]));
}

// Run a statement for each line of this block.
#define EACH_LINE(line, outer, length, inner, ...)                                             \
    if (inner == 1) {                                                                          \
        EACH_ROW(row, outer) {                                                                 \
            Across line = {row, (Index) length};                                               \
            __VA_ARGS__;                                                                       \
        }                                                                                      \
    } else {                                                                                   \
        const Index tiles = (Index) (outer) * (((Index) (inner) + 31) / 32);                   \
        for (Index tile = blockIdx.x; tile < tiles; tile += gridDim.x) {                       \
            Down line = down(tile, (Index) length, (Index) inner);                             \
            __VA_ARGS__;                                                                       \
        }                                                                                      \
    }

#endif
