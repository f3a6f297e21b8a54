// Elementwise maps: y = f(x) or f(x, w) for arrays of one shape in C order, f in Acc.
//
// A thread takes PACK neighbours, 16 bytes of each array, at a time: in one access where the arrays
// begin at multiples of 16 bytes, else and at the end one by one.
#ifndef GPUGRAD_MAP_CUH
#define GPUGRAD_MAP_CUH

#include "common.cuh"

constexpr int PACK = 16 / sizeof(T);

// N neighbours that are read and written at once, 16 bytes at a time if they are more.
template <class E, int N> struct alignas(N * sizeof(E) < 16 ? N * sizeof(E) : 16) Pack {
    E at[N];
};

// This thread's packs of elements i .. i + size - 1 of 0 .. n - 1. Any grid will do.
#define EACH_PACK(i, n, size)                                                                  \
    for (Index i = ((Index) blockIdx.x * blockDim.x + threadIdx.x) * (size); i < (Index) (n);  \
         i += (Index) gridDim.x * blockDim.x * (size))

template <class P> __device__ __forceinline__ bool aligned(const void* p) {
    return ((unsigned long long) p & (alignof(P) - 1)) == 0;
}

// whole: the pack can be read at once; otherwise only its elements before n are.
template <int N, class E>
__device__ __forceinline__ Pack<E, N> load(const E* x, Index i, Index n, bool whole) {
    if (whole) return *(const Pack<E, N>*) (x + i);
    Pack<E, N> p;
#pragma unroll
    for (int k = 0; k < N; ++k) p.at[k] = x[i + k < n ? i + k : i];
    return p;
}

template <class E, int N>
__device__ __forceinline__ void store(E* y, Index i, Index n, bool whole, Pack<E, N> p) {
    if (whole) {
        *(Pack<E, N>*) (y + i) = p;
        return;
    }
#pragma unroll
    for (int k = 0; k < N; ++k)
        if (i + k < n) y[i + k] = p.at[k];
}

typedef Pack<T, PACK> Vector;

template <class F>
__device__ __forceinline__ void map(const T* x, T* y, long long n, F f) {
    bool vectors = aligned<Vector>(x) && aligned<Vector>(y);
    EACH_PACK(i, n, PACK) {
        bool whole = vectors && i + PACK <= (Index) n;
        Vector a = load<PACK>(x, i, n, whole);
#pragma unroll
        for (int k = 0; k < PACK; ++k) a.at[k] = narrow(f(widen(a.at[k])));
        store(y, i, n, whole, a);
    }
}

template <class F>
__device__ __forceinline__ void map(const T* x, const T* w, T* y, long long n, F f) {
    bool vectors = aligned<Vector>(x) && aligned<Vector>(w) && aligned<Vector>(y);
    EACH_PACK(i, n, PACK) {
        bool whole = vectors && i + PACK <= (Index) n;
        Vector a = load<PACK>(x, i, n, whole), b = load<PACK>(w, i, n, whole);
#pragma unroll
        for (int k = 0; k < PACK; ++k) a.at[k] = narrow(f(widen(a.at[k]), widen(b.at[k])));
        store(y, i, n, whole, a);
    }
}

#endif
