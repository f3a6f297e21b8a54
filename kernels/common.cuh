// What kernels share: the types of elements, sums and indices, the loop over elements, windows.
//
// A .cu file is compiled once per dtype: with -DFLOAT16, -DBFLOAT16 or -DFLOAT64, or with none of
// them for float32; and with -DWIDE for arrays of about 2^31 elements and more. Kernels are
// extern "C", one per op and named as the op.
#ifndef GPUGRAD_COMMON_CUH
#define GPUGRAD_COMMON_CUH

// T is what arrays hold. Acc is what is calculated in. float and double need no header.
#if defined(FLOAT16)
#include <cuda_fp16.h>
typedef __half T;
typedef float Acc;
__device__ __forceinline__ Acc widen(T v) { return __half2float(v); }
__device__ __forceinline__ T narrow(Acc v) { return __float2half_rn(v); }
#elif defined(BFLOAT16)
#include <cuda_bf16.h>
typedef __nv_bfloat16 T;
typedef float Acc;
__device__ __forceinline__ Acc widen(T v) { return __bfloat162float(v); }
__device__ __forceinline__ T narrow(Acc v) { return __float2bfloat16_rn(v); }
#else
#if defined(FLOAT64)
typedef double T;
#else
typedef float T;
#endif
typedef T Acc;
__device__ __forceinline__ Acc widen(T v) { return v; }
__device__ __forceinline__ T narrow(Acc v) { return v; }
#endif

// Arrays of kernels.
typedef const T* __restrict__ In;
typedef T* __restrict__ Out;

// Index counts elements of arrays; 32 bits divide several times faster than 64.
#ifdef WIDE
typedef long long Index;
#else
typedef int Index;
#endif

// This thread's share of 0 .. n - 1: neighbouring threads take neighbours. Any grid will do.
#define EACH(i, n)                                                                             \
    for (Index i = (Index) blockIdx.x * blockDim.x + threadIdx.x; i < (Index) (n);             \
         i += (Index) gridDim.x * blockDim.x)

// NaN, infinity and the least finite number: NVRTC has no macros for them.
#define NOT_A_NUMBER ((Acc) __int_as_float(0x7fc00000))
#define INFINITE ((Acc) __int_as_float(0x7f800000))
#ifdef FLOAT64
#define LOWEST (-1.7976931348623157e308)
#else
#define LOWEST (-3.402823466e38f)
#endif

// Element i of planes of h x w.
struct Place {
    Index plane;
    int row, column;
};

__device__ __forceinline__ Place place(Index i, int h, int w) {
    Index rows = i / w, plane = rows / h;
    return {plane, (int) (rows - plane * h), (int) (i - rows * w)};
}

// Element i of planes of h x w, with inner = 1: its channel is 0. Or of images of h x w pixels of
// `inner` channels.
struct Spot {
    Index plane;
    int row, column, channel;
};

__device__ __forceinline__ Spot spot(Index i, int h, int w, int inner) {
    Index pixel = inner == 1 ? i : i / inner;
    Place at = place(pixel, h, w);
    return {at.plane, at.row, at.column, (int) (i - pixel * inner)};
}

// How windows lie on planes of h x w: oh x ow of them, of kh x kw elements that are dh and dw
// apart, sh and sw from one to the next; the first begins at (-ph, -pw). kernels.py packs it.
struct Windows {
    int h, w, oh, ow, kh, kw, sh, sw, ph, pw, dh, dw;
};

// begin .. end - 1
struct Range {
    int begin, end;
};

// Which of `count` windows along a dimension reach over p, a position counted from the padding.
__device__ __forceinline__ Range covering(int p, int kernel, int stride, int dilation, int count) {
    int reach = (kernel - 1) * dilation + 1;
    return {p < reach ? 0 : (p - reach) / stride + 1, min(p / stride + 1, count)};
}

#endif
