// What is done to the gradients of a whole network together: norm, clipping, unscaling.
//
// many.cuh says which block takes what; the only column has the gradients, T. Sums are made in Acc, in a
// fixed order: first over a block's chunk, then over all blocks.
#include "many.cuh"
#include "reduce.cuh"

typedef TensorsOf<1, 200> Gradients;

// The kinds of norms, for p = 2, 1, infinity and others above 0.
enum { EUCLIDEAN, ABSOLUTE, LARGEST, POWER };

// One value for each block: sums of |x|^p, or the largest |x|. first: the place of block 0 in parts.
extern "C" __global__ void __launch_bounds__(1024) norm_parts(Gradients t, Acc* __restrict__ parts,
                                                              long long first, int kind, Acc p) {
    Chunk chunk = chunk_of_block(t);
    const T* x = (const T*) t.at[0][chunk.k];
    Acc sum = 0;
    EACH_OF_CHUNK(i, chunk) {
        Acc v = widen(x[i]), size = v < 0 ? -v : v;
        if (kind == EUCLIDEAN) sum += v * v;
        else if (kind == ABSOLUTE) sum += size;
        else if (kind == LARGEST) sum = Max()(sum, size);
        else sum += pow(size, p);
    }
    sum = kind == LARGEST ? block_max(sum) : block_sum(sum);
    if (threadIdx.x == 0) parts[first + blockIdx.x] = sum;
}

// One block: the norm, from norm_parts' n parts.
extern "C" __global__ void __launch_bounds__(1024) norm_of_parts(const Acc* __restrict__ parts,
                                                                 T* __restrict__ norm, long long n,
                                                                 int kind, Acc p) {
    Acc sum = 0;
    EACH_OF_ROW(i, n) sum = kind == LARGEST ? Max()(sum, parts[i]) : sum + parts[i];
    sum = kind == LARGEST ? block_max(sum) : block_sum(sum);
    if (threadIdx.x == 0)
        *norm = narrow(kind == EUCLIDEAN ? sqrt(sum) : kind == POWER ? pow(sum, 1 / p) : sum);
}

// All times limit / (total + 1e-6), where that is below 1 or NaN.
extern "C" __global__ void clip_norm(Gradients t, const T* __restrict__ total, Acc limit) {
    Acc factor = limit / (widen(*total) + (Acc) 1e-6);
    if (factor >= 1) return;
    Chunk chunk = chunk_of_block(t);
    T* x = (T*) t.at[0][chunk.k];
    EACH_OF_CHUNK(i, chunk) x[i] = narrow(widen(x[i]) * factor);
}

// All held between low and high; a NaN stays one.
extern "C" __global__ void clip_value(Gradients t, Acc low, Acc high) {
    Chunk chunk = chunk_of_block(t);
    T* x = (T*) t.at[0][chunk.k];
    EACH_OF_CHUNK(i, chunk) {
        Acc v = widen(x[i]);
        if (v < low) x[i] = narrow(low);
        else if (v > high) x[i] = narrow(high);
    }
}

// All times *factor; *found_inf becomes 1 if one was infinite or NaN, and else stays what it is.
extern "C" __global__ void unscale(Gradients t, float* __restrict__ found_inf,
                                   const float* __restrict__ factor) {
    Chunk chunk = chunk_of_block(t);
    T* x = (T*) t.at[0][chunk.k];
    Acc by = *factor;
    bool found = false;
    EACH_OF_CHUNK(i, chunk) {
        Acc v = widen(x[i]);
        found = found || v - v != 0;            // what isn't 0 is NaN: v is not finite
        x[i] = narrow(by == 1 ? v : v * by);
    }
    if (__syncthreads_or(found) && threadIdx.x == 0) atomicExch(found_inf, 1.0f);
}

// One thread: the scale of a gradient scaler after a step. It shrinks if a gradient was not finite,
// and grows after `interval` steps in a row without that, unless it would become infinite. The dtype
// plays no part.
extern "C" __global__ void update_scale(float* __restrict__ scale, int* __restrict__ tracker,
                                        const float* __restrict__ found_inf, double growth,
                                        double backoff, int interval) {
    if (*found_inf != 0) {
        *scale = (float) (*scale * backoff);
        *tracker = 0;
        return;
    }
    int successes = *tracker + 1;
    if (successes == interval) {
        float grown = (float) (*scale * growth);
        if (grown - grown == 0) *scale = grown;
        successes = 0;
    }
    *tracker = successes;
}

extern "C" __global__ void zero(Gradients t) {
    Chunk chunk = chunk_of_block(t);
    T* x = (T*) t.at[0][chunk.k];
    EACH_OF_CHUNK(i, chunk) x[i] = narrow(0);
}
