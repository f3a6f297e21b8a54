// How the arrays of attention's kernels lie: rows of features or values, wherever these begin.
#ifndef GPUGRAD_ATTENTION_CUH
#define GPUGRAD_ATTENTION_CUH

#include "common.cuh"

// Distances in elements; those within rows are 1.
struct Strides {
    long long image, head, row;
};

// masked: 1 if `seen` says which keys a query sees, 2 if `added` is added to the scores. image,
// head, row, key: the distances of that mask's elements, 0 where it is broadcast. In backward out's
// are g's; the kernel that needs those of the result, too, has them in the place of an array that
// it doesn't write. Host: ops/attention_kernels.py.
struct Attention {
    int heads, group, length, keys, features, values, causal, masked;
    long long image, head, row, key;
    Strides q, k, v, out, gq, gk, gv;
};

// One image's head of an array.
template <class P>
__device__ __forceinline__ P* plane(P* x, const Strides& s, int image, int head) {
    return x + image * s.image + head * s.head;
}

#endif
