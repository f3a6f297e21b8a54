// Activations and their backwards, element by element.
//
// All arrays have one shape in C order, the result comes last; a thread per element, comparisons in
// Acc.
#include "common.cuh"

// max(x, 0); a NaN stays one.
extern "C" __global__ void relu(const T* __restrict__ x, T* __restrict__ y, long long n) {
    EACH(i, n) {
        T v = x[i];
        y[i] = widen(v) < 0 ? narrow(0) : v;
    }
}

// The gradient g, but 0 where y, relu's result or argument, is 0 or less.
extern "C" __global__ void threshold_backward(const T* __restrict__ g, const T* __restrict__ y,
                                              T* __restrict__ gx, long long n) {
    EACH(i, n) gx[i] = widen(y[i]) <= 0 ? narrow(0) : g[i];
}
