// a + b rounded by itself: a compiler must not make one operation of it and of a product before.
#ifndef GPUGRAD_ROUNDED_CUH
#define GPUGRAD_ROUNDED_CUH

#include "common.cuh"

#ifdef FLOAT64
__device__ __forceinline__ Acc plus(Acc a, Acc b) { return __dadd_rn(a, b); }
#else
__device__ __forceinline__ Acc plus(Acc a, Acc b) { return __fadd_rn(a, b); }
#endif

#endif
