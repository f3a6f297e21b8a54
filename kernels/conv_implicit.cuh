// Convolution on tensor cores: what conv_implicit.cu and conv_implicit_weight.cu have in common.
//
// Images are (n, rows, columns, channels) and kernels (channels out, rows, columns, channels in),
// read in chunks of 16 bytes, of which a pixel has a whole number. Columns are never written: a
// block takes a tile of BM x BN results, and where the summed dim goes on it copies the chunks it
// needs from where they are, 4 for each row of its operands, into a ring of shared memory, while it
// multiplies what has come before. A block has four warps, each a quarter of the tile: the larger
// that is, the fewer bytes of shared memory are read for a product.
#ifndef GPUGRAD_CONV_IMPLICIT_CUH
#define GPUGRAD_CONV_IMPLICIT_CUH

#include "mma.cuh"

#ifdef TENSOR_CORES

// Along one dim: source elements, results, taps of the kernel; and after how many taps one meets
// the same phase of the stride again.
struct Along {
    int source, results, taps, stride, padding, dilation, period;
};

// chunks: of a pixel of the source. channels: of a result. flags: see conv_implicit.cu.
struct Convolution {
    int images, chunks, channels, flags;
    Along rows, columns;
};

// Elements of a chunk, and what a block sums at once: 4 chunks, two products deep.
#define CHUNK ((int) (16 / sizeof(T)))
#define DEEP (4 * CHUNK)

template <int BM, int BN, int STAGES> struct Tile {
    static constexpr int WM = BM / 2, WN = BN == 128 ? 64 : 32, WARPS_N = BN / WN;
    static constexpr int MI = WM / 16, NI = WN / 8;         // products of a warp: rows, columns
    static constexpr int THREADS = 64 * WARPS_N, A = 4 * BM, B = 4 * BN;       // chunks of a stage
    static constexpr int LOADS_A = A / THREADS, LOADS_B = B / THREADS;
    static constexpr int BYTES = 16 * STAGES * (A + B);
    static_assert(BYTES <= 48 << 10, "more shared memory than a kernel may declare");
};

typedef float Fragment[4];

// As multiply takes it: float32 is rounded to TF32.
template <int N> __device__ __forceinline__ void round_fragment(unsigned (&r)[N]) {
#if !defined(FLOAT16) && !defined(BFLOAT16)
#pragma unroll
    for (int i = 0; i < N; ++i) r[i] = to_tf32(__uint_as_float(r[i]));
#endif
}

// v, as if nothing were known of it: what is calculated from it need not be kept from before.
__device__ __forceinline__ int anew(int v) {
#ifndef __GPUGRAD_CUDASIM__
    asm volatile("" : "+r"(v));
#endif
    return v;
}

// A ring of STAGES stages. load(stage) begins the copies of one step, multiply(stage) works on one.
template <int STAGES, class Load, class Multiply>
__device__ __forceinline__ void pipeline(int steps, Load load, Multiply multiply) {
    for (int s = 0; s < STAGES - 1; ++s) {
        if (s < steps) load(s);
        commit_copies();
    }
    for (int k = 0, stage = 0; k < steps; ++k) {
        wait_copies<STAGES - 2>();
        __syncthreads();                    // for all, and nobody reads the stage before this one
        if (k + STAGES - 1 < steps) load(stage ? stage - 1 : STAGES - 1);
        commit_copies();
        multiply(stage);
        if (++stage == STAGES) stage = 0;
    }
}

#endif
#endif
