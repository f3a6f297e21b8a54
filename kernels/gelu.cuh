// The normal distribution function and its approximation, and the slopes of gelu that go with them.
#ifndef GPUGRAD_GELU_CUH
#define GPUGRAD_GELU_CUH

#include "common.cuh"

__device__ __forceinline__ Acc normal_cdf(Acc v) {
    return (1 + erf(v * (Acc) 0.70710678118654752)) / 2;
}

constexpr double CUBIC = 0.044715, ROOT = 0.79788456080286536;      // sqrt(2 / pi)

// The approximation (arXiv:1606.08415).
__device__ __forceinline__ Acc nearly_cdf(Acc v) {
    return (1 + tanh((Acc) ROOT * (v + (Acc) CUBIC * v * v * v))) / 2;
}

__device__ __forceinline__ Acc gelu_slope(Acc v) {
    Acc density = exp(v * v / -2) * (Acc) 0.39894228040143268;      // 1 / sqrt(2 pi)
    return normal_cdf(v) + v * density;
}

__device__ __forceinline__ Acc gelu_tanh_slope(Acc v) {
    Acc c = nearly_cdf(v);
    Acc density = 2 * c * (1 - c) * (Acc) ROOT * (1 + (Acc) (3 * CUBIC) * v * v);
    return c + v * density;
}

#endif
