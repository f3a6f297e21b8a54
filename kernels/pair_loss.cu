// Losses of pairs of elements, and their gradients: Huber and smooth L1 (a parabola that goes on
// straight), soft margin, binary cross entropy of probabilities and of logits.
//
// All arrays have one shape in C order; map.cuh says which thread takes what; calculated in Acc. The
// reductions are other kernels'. A NaN stays one.
#include "map.cuh"

// gx = f(g, x, y), as the maps of map.cuh
template <class F>
__device__ __forceinline__ void map(const T* g, const T* x, const T* y, T* gx, long long n, F f) {
    bool vectors = aligned<Vector>(g) && aligned<Vector>(x) && aligned<Vector>(y) &&
                   aligned<Vector>(gx);
    EACH_PACK(i, n, PACK) {
        bool whole = vectors && i + PACK <= (Index) n;
        Vector a = load<PACK>(g, i, n, whole), b = load<PACK>(x, i, n, whole);
        Vector c = load<PACK>(y, i, n, whole);
#pragma unroll
        for (int k = 0; k < PACK; ++k)
            a.at[k] = narrow(f(widen(a.at[k]), widen(b.at[k]), widen(c.at[k])));
        store(gx, i, n, whole, a);
    }
}

__device__ __forceinline__ Acc logistic(Acc v) { return 1 / (1 + exp(-v)); }

// log(1 + exp(v)), where exp(v) may be too large
__device__ __forceinline__ Acc log1p_exp(Acc v) {
    return (v > 0 ? v : 0) + log1p(exp(-fabs(v)));
}

// At least low; unlike max, of a NaN a NaN.
__device__ __forceinline__ Acc at_least(Acc v, Acc low) { return v < low ? low : v; }

// factor (d d / 2 where d = |x - y| < bound, else bound (d - bound / 2))
extern "C" __global__ void bent(In x, In y, Out out, long long n, Acc bound, Acc factor) {
    map(x, y, out, n, [=](Acc x, Acc y) {
        Acc d = fabs(x - y), low = d > bound ? bound : d;
        return low * (d - low * (Acc) 0.5) * factor;
    });
}

extern "C" __global__ void bent_backward(In g, In x, In y, Out gx, long long n, Acc bound,
                                         Acc factor) {
    map(g, x, y, gx, n, [=](Acc g, Acc x, Acc y) {
        Acc d = at_least(x - y, -bound);
        return (d > bound ? bound : d) * (g * factor);
    });
}

// y is 1 or -1.
extern "C" __global__ void soft_margin(In x, In y, Out out, long long n) {
    map(x, y, out, n, [](Acc x, Acc y) { return log1p_exp(-x * y); });
}

extern "C" __global__ void soft_margin_backward(In g, In x, In y, Out gx, long long n) {
    map(g, x, y, gx, n, [](Acc g, Acc x, Acc y) { return -g * y * logistic(-x * y); });
}

// The logarithms of the probabilities x and 1 - x are at least -100; t is the target.
extern "C" __global__ void binary_cross_entropy(In x, In t, Out out, long long n) {
    map(x, t, out, n, [](Acc x, Acc t) {
        return (t - 1) * at_least(log1p(-x), -100) - t * at_least(log(x), -100);
    });
}

extern "C" __global__ void binary_cross_entropy_backward(In g, In x, In t, Out gx, long long n) {
    map(g, x, t, gx, n, [](Acc g, Acc x, Acc t) {
        return g * (x - t) / at_least((1 - x) * x, (Acc) 1e-12);
    });
}

extern "C" __global__ void binary_cross_entropy_with_logits(In x, In t, Out out, long long n) {
    map(x, t, out, n, [](Acc x, Acc t) { return (1 - t) * x + log1p_exp(-x); });
}

extern "C" __global__ void binary_cross_entropy_with_logits_backward(In g, In x, In t, Out gx,
                                                                     long long n) {
    map(g, x, t, gx, n, [](Acc g, Acc x, Acc t) { return g * (logistic(x) - t); });
}
