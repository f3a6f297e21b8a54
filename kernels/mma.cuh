// Tensor cores: products of small matrices by a warp, what loads their operands, and copies from
// global to shared memory that run while others are multiplied.
//
// TENSOR_CORES is defined where a device has them all (compute capability 8.0 and newer), and the
// file's dtype is no double; a kernel's body is under #ifdef TENSOR_CORES, and the host starts it
// nowhere else. The simulated device has the same instructions as functions of its own.
//
// Which lane holds what (PTX ISA, "Matrix Fragments"), with g = lane / 4 and t = lane % 4:
//   d  16 x 8    d[0], d[1]: row g, columns 2t and 2t + 1; d[2], d[3]: row g + 8
//   a  16 x 16   pairs of 16 bits, or for TF32 (16 x 8) single numbers of 32 bits: a[0] row g,
//                pair (number) t; a[1] row g + 8; a[2], a[3]: as these, pair t + 4
//   b  16 x 8    column g, pair (number) t of it in b[0], t + 4 in b[1]
// A pair's first number is in the low bits.
#ifndef GPUGRAD_MMA_CUH
#define GPUGRAD_MMA_CUH

#include "common.cuh"

#if __CUDA_ARCH__ >= 800 && !defined(FLOAT64)
#define TENSOR_CORES

#ifdef __GPUGRAD_CUDASIM__
#define to_tf32 cs_to_tf32
#else
// An address as the instructions below take it.
__device__ __forceinline__ unsigned shared_address(const void* p) {
    return (unsigned) __cvta_generic_to_shared(p);
}

// The bits of x rounded to TF32, to 10 bits of mantissa; ties away from 0.
__device__ __forceinline__ unsigned to_tf32(float x) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}
#endif

// d += a b, TF32 (see to_tf32), 16 x 8 by 8 x 8.
__device__ __forceinline__ void mma_1688(float (&d)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2]) {
#ifdef __GPUGRAD_CUDASIM__
    cs_mma<cs_tf32>(d, a, b);
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

#if defined(FLOAT16) || defined(BFLOAT16)
#ifdef FLOAT16
#define MMA_TYPE "f16"
#else
#define MMA_TYPE "bf16"
#endif
// d += a b of T, 16 x 16 by 16 x 8, in float.
__device__ __forceinline__ void mma_16816(float (&d)[4], const unsigned (&a)[4],
                                          const unsigned (&b)[2]) {
#ifdef __GPUGRAD_CUDASIM__
    cs_mma<T>(d, a, b);
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32." MMA_TYPE "." MMA_TYPE ".f32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Two numbers as T in one word, the first in the low bits: a pair of a fragment.
__device__ __forceinline__ unsigned pack(float low, float high) {
#ifdef FLOAT16
    __half2 pair = __floats2half2_rn(low, high);
#else
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
#endif
    return *reinterpret_cast<unsigned*>(&pair);
}
#endif

// d += a b, by the instruction for T.
__device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2]) {
#if defined(FLOAT16) || defined(BFLOAT16)
    mma_16816(d, a, b);
#else
    mma_1688(d, a, b);
#endif
}

// Four matrices of 8 rows of 16 bytes in shared memory. Lane i gives the address of row i % 8 of
// matrix i / 8, a multiple of 16. Of matrix j it gets in r[j] the 4 bytes at 4 * (lane % 4) of row
// lane / 4; transposed: the numbers of 16 bits at column lane / 4 of rows 2 * (lane % 4) and the
// next. So fragments are loaded as they are multiplied: rows of a, columns of b.
__device__ __forceinline__ void load_matrix4(unsigned (&r)[4], const void* row) {
#ifdef __GPUGRAD_CUDASIM__
    cs_load_matrices<false>(r, row);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)) : "memory");
#endif
}

__device__ __forceinline__ void load_matrix4_transposed(unsigned (&r)[4], const void* row) {
#ifdef __GPUGRAD_CUDASIM__
    cs_load_matrices<true>(r, row);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)) : "memory");
#endif
}

// Begin to copy 16, 8 or 4 bytes, both addresses multiples of that, or to write zeros if not valid:
// `from` is then not read. They are there for this thread after wait_copies, for others after the
// barrier that follows it.
#ifdef __GPUGRAD_CUDASIM__
#define COPY(bytes, cache)                                                                     \
    __device__ __forceinline__ void copy##bytes(void* to, const void* from, bool valid) {      \
        cs_begin_copy(to, from, bytes, valid);                                                 \
    }
#else
#define COPY(bytes, cache)                                                                     \
    __device__ __forceinline__ void copy##bytes(void* to, const void* from, bool valid) {      \
        asm volatile("cp.async." cache ".shared.global [%0], [%1], %2, %3;"                    \
                     :: "r"(shared_address(to)), "l"(__cvta_generic_to_global(from)),          \
                        "n"(bytes), "r"(valid ? bytes : 0) : "memory");                        \
    }
#endif
COPY(16, "cg")
COPY(8, "ca")
COPY(4, "ca")
#undef COPY

// What was begun since the last call is one group, if only an empty one.
__device__ __forceinline__ void commit_copies() {
#ifdef __GPUGRAD_CUDASIM__
    cs_commit_copies();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Wait for this thread's groups but the N last ones.
template <int N> __device__ __forceinline__ void wait_copies() {
#ifdef __GPUGRAD_CUDASIM__
    cs_wait_for_copies(N);
#else
    asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
#endif
}

#endif
#endif
