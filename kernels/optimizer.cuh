// Steps of optimizers, for all parameters of a group together: what all algorithms share.
//
// Column 0 has the parameters, 1 their gradients, 2 and on the state, all T; many.cuh says which
// block takes what. A thread per element, arithmetic in Acc, by the functions of optimizer_steps.cuh.
// The numbers of a step come by value; or, if the step count or the learning rate is known to the
// device alone, from memory, a struct for each tensor, which the kernel <name>_numbers has written
// just before.
#ifndef GPUGRAD_OPTIMIZER_CUH
#define GPUGRAD_OPTIMIZER_CUH

#include "many.cuh"

#define STEP __device__ __forceinline__ Acc
#define STATE const Tensors& t, int k, long long i
#define OF(N) const N&
#define OLD(j) widen(((const T*) t.at[2 + (j)][k])[i])
#define NEW(j, value) ((T*) t.at[2 + (j)][k])[i] = narrow(value)
#include "optimizer_steps.cuh"

// A gradient scaler's: gradients are divided by *scale and written back; nothing happens if
// *found_inf is 1. Null if there is none.
struct Scaler {
    const float *scale, *found_inf;
};

__device__ __forceinline__ bool skipped(const float* found_inf) {
    return found_inf && *found_inf == 1;
}

// p and g of element i, with what all algorithms do first.
struct Start {
    Acc p, g;
};

__device__ __forceinline__ Start start(const Tensors& t, int k, long long i, Acc decay, Acc shrink,
                                       int climb, Acc scale) {
    T* gradient = (T*) t.at[1][k] + i;
    Acc p = widen(((const T*) t.at[0][k])[i]) * shrink, g = widen(*gradient);
    if (scale != 1) {
        T unscaled = narrow(g / scale);
        *gradient = unscaled;
        g = widen(unscaled);
    }
    return {p, with_decay(p, g, decay, climb)};
}

__device__ __forceinline__ Acc scale_of(Scaler scaler) {
    return scaler.scale ? (Acc) *scaler.scale : (Acc) 1;
}

// What a step needs, by value; or at rows, one for each tensor, if rows isn't null.
template <class N> struct Numbers {
    N value;
    const N* rows;

    __device__ __forceinline__ N of(int k) const { return rows ? rows[k] : value; }
};

// The step of all elements: update(p, g, k, i, n) gives the new value of element i of tensor k, with n the
// numbers of this tensor.
template <class N, class F>
__device__ __forceinline__ void step_each(const Tensors& t, const Numbers<N>& numbers, Scaler scaler,
                                          int climb, F update) {
    if (skipped(scaler.found_inf)) return;
    Chunk chunk = chunk_of_block(t);
    N n = numbers.of(chunk.k);
    Acc scale = scale_of(scaler);
    EACH_OF_CHUNK(i, chunk) {
        Start s = start(t, chunk.k, i, n.decay, n.shrink, climb, scale);
        ((T*) t.at[0][chunk.k])[i] = narrow(update(s.p, s.g, chunk.k, i, n));
    }
}

// Numbers that the device works out ------------------------------------------------------------------

// The options of a group, for the kernels that work numbers out. lr_at, if it isn't null, is where the
// learning rate is. The Python classes say what beta1, beta2, momentum, extra and look are. rows: where
// the numbers go.
struct Options {
    double lr, weight_decay, beta1, beta2, eps, momentum, extra, look;
    const double* lr_at;
    const float* found_inf;
    void* rows;
    long long decoupled;
};

// In all of them a thread per tensor, and column 0 has the step counts, float, which go up by 1 unless
// the step is going to be skipped; further columns have the scalars of the state, float, too.

__device__ __forceinline__ double counted(const Tensors& t, int k, const float* found_inf) {
    float* step = (float*) t.at[0][k];
    if (!skipped(found_inf)) *step += 1;
    return *step;
}

__device__ __forceinline__ double rate_of(const Options& o) { return o.lr_at ? *o.lr_at : o.lr; }

// A scalar of tensor k's state, in column j; it changes unless the step is going to be skipped.
__device__ __forceinline__ double scalar(const Tensors& t, int j, int k) {
    return *(const float*) t.at[j][k];
}

__device__ __forceinline__ void advance(const Tensors& t, int j, int k, double value,
                                        const float* found_inf) {
    if (!skipped(found_inf)) *(float*) t.at[j][k] = (float) value;
}

#endif
