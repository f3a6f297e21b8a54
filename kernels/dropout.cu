// Dropout with a mask that is given, or that is drawn on the way: philox.cuh says how numbers belong
// to elements.
//
// All arrays have one shape in C order. A thread takes four neighbours, one counter of Philox, at a
// time. As in PyTorch a dropped element is x times 0: what is not finite becomes NaN.
#include "map.cuh"
#include "philox.cuh"
#include "rounded.cuh"

typedef Pack<T, 4> Four;
typedef Pack<bool, 4> Mask;

// y = x * mask * scale. Backward is the same, for the gradient.
extern "C" __global__ void native_dropout(In x, const bool* __restrict__ mask, Out y, long long n,
                                          Acc scale) {
    bool vectors = aligned<Four>(x) && aligned<Mask>(mask) && aligned<Four>(y);
    EACH_PACK(i, n, 4) {
        bool whole = vectors && i + 4 <= (Index) n;
        Four a = load<4>(x, i, n, whole);
        Mask kept = load<4>(mask, i, n, whole);
#pragma unroll
        for (int k = 0; k < 4; ++k) a.at[k] = narrow(widen(a.at[k]) * kept.at[k] * scale);
        store(y, i, n, whole, a);
    }
}

// A word below `bound`, which may be 2^32, keeps its element. ADD: to `more`, with the bits of an
// addition by itself.
template <bool ADD>
__device__ __forceinline__ void drop(const T* x, const T* more, T* y, bool* mask, long long n,
                                     Acc scale, const unsigned long long* state,
                                     unsigned long long offset, unsigned long long bound) {
    unsigned long long key = state[0], first = state[1] + offset;
    bool vectors = aligned<Four>(x) && aligned<Mask>(mask) && aligned<Four>(y)
        && (!ADD || aligned<Four>(more));
    EACH_PACK(i, n, 4) {
        bool whole = vectors && i + 4 <= (Index) n;
        Words words = philox4x32(key, first + i / 4);
        Four a = load<4>(x, i, n, whole), b = a;
        if (ADD) b = load<4>(more, i, n, whole);
        Mask kept;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            kept.at[k] = words.at[k] < bound;
            a.at[k] = narrow(widen(a.at[k]) * kept.at[k] * scale);
            if (ADD) a.at[k] = narrow(plus(widen(a.at[k]), widen(b.at[k])));
        }
        store(y, i, n, whole, a);
        store(mask, i, n, whole, kept);
    }
}

extern "C" __global__ void fused_dropout(In x, Out y, bool* __restrict__ mask, long long n,
                                         Acc scale, const unsigned long long* __restrict__ state,
                                         unsigned long long offset, unsigned long long bound) {
    drop<false>(x, nullptr, y, mask, n, scale, state, offset, bound);
}

extern "C" __global__ void dropout_add(In x, In more, Out y, bool* __restrict__ mask, long long n,
                                       Acc scale, const unsigned long long* __restrict__ state,
                                       unsigned long long offset, unsigned long long bound) {
    drop<true>(x, more, y, mask, n, scale, state, offset, bound);
}
